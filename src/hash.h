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
	uint64_t k0, k1;        /* SipHash: the two halves of key, as numbers */
	int kind;               /* enum kvs_hash */
	unsigned char key[16];  /* zero where the kind takes none */
	uint64_t seed;          /* XXH3: drawn from key */
	kvs_hash_fn fn;         /* KVS_HASH_USER */
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

/* The last @len % 8 of @len bytes at @p as a number: no loop, and nothing read out of bounds. */
static inline uint64_t kvs__load_tail(const unsigned char *p, size_t len)
{
	if (len >= 8) /* two shifts: by 64 in all where nothing is left */
		return (kvs__load_le64(p + len - 8) >> 8) >> (8 * (7 - len % 8));
	if (len >= 4)
		return kvs__load_le32(p) | kvs__load_le32(p + len - 4) << (8 * (len - 4));
	if (len == 0)
		return 0;
	return p[0] | (uint64_t)p[len / 2] << (8 * (len / 2)) | (uint64_t)p[len - 1] << (8 * (len - 1));
}

static inline uint64_t kvs__rotl64(uint64_t x, unsigned int by)
{
	return x << by | x >> (64 - by);
}

static inline void kvs__sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = kvs__rotl64(v[1], 13) ^ v[0];
	v[3] = kvs__rotl64(v[3], 16) ^ v[2];
	v[0] = kvs__rotl64(v[0], 32) + v[3];
	v[2] += v[1];
	v[3] = kvs__rotl64(v[3], 21) ^ v[0];
	v[1] = kvs__rotl64(v[1], 17) ^ v[2];
	v[2] = kvs__rotl64(v[2], 32);
}

static inline void kvs__sip_absorb(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	kvs__sip_round(v);
	v[0] ^= word;
}

/* The body of kvs__siphash13(), for callers that want it in line. */
static inline uint64_t kvs__siphash13_inline(const void *data, size_t len, uint64_t k0, uint64_t k1)
{
	uint64_t v[4] = { k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
			  k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573) };
	const unsigned char *p = data;

	for (size_t at = 0; at + 8 <= len; at += 8)
		kvs__sip_absorb(v, kvs__load_le64(p + at));
	kvs__sip_absorb(v, kvs__load_tail(p, len) | (uint64_t)len << 56);
	v[2] ^= 0xff;
	kvs__sip_round(v);
	kvs__sip_round(v);
	kvs__sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* kvs__hash_key - The hash of a key of the store that @h belongs to. */
static inline uint64_t kvs__hash_key(const struct kvs__hasher *h, const void *data, size_t len)
{
	if (__builtin_expect(h->kind == KVS_HASH_SIPHASH13, 1))
		return kvs__siphash13_inline(data, len, h->k0, h->k1);
	return kvs__hash_key_slow(h, data, len);
}

#endif /* KVS_HASH_H */
