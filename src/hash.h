/* SPDX-License-Identifier: MIT */
/*
 * hash.h - from a key's bytes to the 64 bits that the table and the routing use.
 *
 * Why SipHash-1-3 with a random key is the default: entries whose 64-bit hash is equal stay in
 * one run of a split-ordered list for ever, growth cannot part them. Whoever can make keys collide
 * makes every operation on them linear. A seed does not prevent that: for seeded XXH3 a fixed pair
 * of 32-byte keys collides for about 1 seed in 1,434 (xxHash issue 1127), for wyhash and its kin
 * there are pairs that collide for every seed. SipHash is a keyed function made for exactly this
 * use; with 1 compression and 3 finalization rounds it has no known shortcut as long as the
 * output itself is never shown, which is what Rust, Ruby and Python rely on too. It costs 2 to 5 ns
 * more than XXH3 for keys up to 16 bytes: less than a tenth of one cache miss.
 *
 * XXH3 and FNV-1a are there for keys that no adversary chooses. They, and a user's hash, go through
 * kvs__mix64(): it is a bijection, so it neither makes nor hides a collision, and it spreads
 * what the user's bits hold over all 64 (the tables and the routing use different ones).
 *
 * Sources: Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012, for the
 * algorithm; draft-eastlake-fnv for FNV-1a; Stafford's variant 13 of the MurmurHash3 finalizer
 * (used by splitmix64: Steele, Lea, Flood, OOPSLA 2014) for the mixer; libxxhash's header for XXH3.
 * The values are the same on either byte order.
 */
#ifndef KVS_HASH_H
#define KVS_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kvs.h"

/* How one store hashes. Immutable after kvs__hasher_init(). */
struct kvs__hasher {
	uint64_t sip[4];       /* SipHash's state before the first byte, from key: v0, v2, v1, v3 */
	int kind;              /* enum kvs_hash */
	unsigned char key[16]; /* zero where the kind takes none */
	uint64_t seed;         /* XXH3: drawn from key */
	kvs_hash_fn fn;        /* KVS_HASH_USER */
	void *ctx;
};

/*
 * kvs__hasher_init - Set @h up as checked options say; a needed key that is not given is random.
 *
 * @opts        of full size, already accepted by kvs_options_check().
 * Returns      0, KVS_ERR_IO if the system has no random bytes to give.
 */
int kvs__hasher_init(struct kvs__hasher *h, const struct kvs_options *opts);

/* kvs__siphash13 - SipHash-1-3 of @data with a 128-bit key. */
uint64_t kvs__siphash13(const void *data, size_t len, const unsigned char key[16]);

/* kvs__xxh3 - The 64-bit XXH3 of @data, as libxxhash's XXH3_64bits_withSeed(). */
uint64_t kvs__xxh3(const void *data, size_t len, uint64_t seed);

/* kvs__fnv1a - The 64-bit FNV-1a of @data. */
uint64_t kvs__fnv1a(const void *data, size_t len);

/* The kinds other than SipHash; only kvs__hash_key() calls it. */
uint64_t kvs__hash_key_slow(const struct kvs__hasher *h, const void *data, size_t len);

/* kvs__mix64 - A bijection on 64 bits that lets each input bit change each output bit. */
static inline uint64_t kvs__mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static inline uint64_t kvs__load_le64(const unsigned char *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof(w));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	w = __builtin_bswap64(w);
#endif
	return w;
}

static inline uint64_t kvs__load_le32(const unsigned char *p)
{
	uint32_t w;

	memcpy(&w, p, sizeof(w));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	w = __builtin_bswap32(w);
#endif
	return w;
}

/* Up to 7 bytes at @p as a number: no loop, and nothing read out of bounds. */
static inline uint64_t kvs__load_tail(const unsigned char *p, size_t len)
{
	if (len >= 4)
		return kvs__load_le32(p) | kvs__load_le32(p + len - 4) << (8 * (len - 4));
	if (len == 0)
		return 0;
	return p[0] | (uint64_t)p[len / 2] << (8 * (len / 2)) |
	       (uint64_t)p[len - 1] << (8 * (len - 1));
}

static inline uint64_t kvs__rotl64(uint64_t x, unsigned int by)
{
	return x << by | x >> (64 - by);
}

/* One SipRound on four variables: kept in registers, which an array in a loop is not. */
#define KVS__SIP_ROUND(v0, v1, v2, v3)                                                             \
	do {                                                                                       \
		v0 += v1;                                                                          \
		v2 += v3;                                                                          \
		v1 = kvs__rotl64(v1, 13) ^ v0;                                                     \
		v3 = kvs__rotl64(v3, 16) ^ v2;                                                     \
		v0 = kvs__rotl64(v0, 32) + v3;                                                     \
		v2 += v1;                                                                          \
		v3 = kvs__rotl64(v3, 21) ^ v0;                                                     \
		v1 = kvs__rotl64(v1, 17) ^ v2;                                                     \
		v2 = kvs__rotl64(v2, 32);                                                          \
	} while (0)

/* The state that a key begins with, in the order that hash_wide.h loads it in. */
static inline void kvs__sip_start(uint64_t sip[4], const unsigned char key[16])
{
	uint64_t k0 = kvs__load_le64(key);
	uint64_t k1 = kvs__load_le64(key + 8);

	sip[0] = k0 ^ UINT64_C(0x736f6d6570736575);
	sip[1] = k0 ^ UINT64_C(0x6c7967656e657261);
	sip[2] = k1 ^ UINT64_C(0x646f72616e646f6d);
	sip[3] = k1 ^ UINT64_C(0x7465646279746573);
}

/* SipHash's last word: the 0 to 7 bytes before @end that are left of @len, and the length. */
static inline __attribute__((always_inline)) uint64_t kvs__sip_last(const unsigned char *end,
								    size_t len)
{
	uint64_t rest;

	if (__builtin_expect(len >= 8, 1))
		rest = (kvs__load_le64(end - 8) >> 8) >>
		       (8 * (7 - len % 8)); /* by 64 in all if none is left */
	else
		rest = kvs__load_tail(end - len, len);
	return rest | (uint64_t)len << 56;
}

/* The body of kvs__siphash13(), for callers that want it in line. */
static inline __attribute__((always_inline)) uint64_t kvs__siphash13_inline(const void *data,
									    size_t len,
									    const uint64_t sip[4])
{
	uint64_t v0 = sip[0], v1 = sip[2], v2 = sip[1], v3 = sip[3];
	const unsigned char *p = data;
	const unsigned char *end = p + len;
	uint64_t word;

	if (__builtin_expect(len >= 8, 1)) {
		do {
			word = kvs__load_le64(p);
			v3 ^= word;
			KVS__SIP_ROUND(v0, v1, v2, v3);
			v0 ^= word;
			p += 8;
		} while (p + 8 <= end);
	}
	word = kvs__sip_last(end, len);
	v3 ^= word;
	KVS__SIP_ROUND(v0, v1, v2, v3);
	v0 ^= word;
	v2 ^= 0xff;
	KVS__SIP_ROUND(v0, v1, v2, v3);
	KVS__SIP_ROUND(v0, v1, v2, v3);
	KVS__SIP_ROUND(v0, v1, v2, v3);
	return v0 ^ v1 ^ v2 ^ v3;
}

/* kvs__hash_key - The hash of a key of the store that @h belongs to. */
static inline uint64_t kvs__hash_key(const struct kvs__hasher *h, const void *data, size_t len)
{
	if (__builtin_expect(h->kind == KVS_HASH_SIPHASH13, 1))
		return kvs__siphash13_inline(data, len, h->sip);
	return kvs__hash_key_slow(h, data, len);
}

#endif /* KVS_HASH_H */
