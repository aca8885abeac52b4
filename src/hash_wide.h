/* SPDX-License-Identifier: MIT */
/*
 * hash_wide.h - SipHash-1-3 in vector registers, for processors with AVX-512VL.
 *
 * The two halves of a SipRound do the same to (v0, v1) as to (v2, v3), but for the distances of the
 * rotations, and then meet crosswise. So a = (v0, v2) and b = (v1, v3) are two registers, half a round is an
 * addition, a rotation by two distances (one instruction of AVX-512VL; three without, which gains
 * nothing), an exclusive or, and a shuffle that swaps the lanes of a and turns one by 32 on the way:
 *
 *	a += b;  b = rotl(b, 13 | 16) ^ a;  a = (v2, rotl(v0, 32))
 *	a += b;  b = rotl(b, 17 | 21) ^ a;  a = (v0, rotl(v2, 32))
 *
 * 8 instructions a round in place of 14. It is for callers that are compiled for that processor as a whole
 * (KVS_WIDE): mixed with instructions of the older encoding it is slower than the plain form.
 */
#ifndef KVS_HASH_WIDE_H
#define KVS_HASH_WIDE_H

#include <immintrin.h>
#include <stdbool.h>

#include "hash.h"

#define KVS_WIDE __attribute__((target("avx512f,avx512vl,bmi2")))

/* kvs__wide_supported - May this processor run what is compiled as KVS_WIDE? */
static inline bool kvs__wide_supported(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("bmi2");
}

struct kvs__sip_wide {
	__m128i a; /* v0, v2 */
	__m128i b; /* v1, v3 */
};

#define KVS__WIDE_HALF(s, by)                                                                      \
	do {                                                                                       \
		(s).a = _mm_add_epi64((s).a, (s).b);                                               \
		(s).b = _mm_rolv_epi64((s).b, by);                                                 \
		(s).b = _mm_xor_si128((s).b, (s).a);                                               \
		(s).a = _mm_shuffle_epi32((s).a, 0x1e);                                            \
	} while (0)

static inline __attribute__((always_inline)) KVS_WIDE void kvs__wide_round(struct kvs__sip_wide *s)
{
	KVS__WIDE_HALF(*s, _mm_set_epi64x(16, 13));
	KVS__WIDE_HALF(*s, _mm_set_epi64x(21, 17));
}

/* @word in the low half. */
static inline __attribute__((always_inline)) KVS_WIDE void kvs__wide_absorb(struct kvs__sip_wide *s,
									    __m128i word)
{
	s->b = _mm_xor_si128(s->b, _mm_slli_si128(word, 8));
	kvs__wide_round(s);
	s->a = _mm_xor_si128(s->a, word);
}

/* kvs__siphash13_wide - kvs__siphash13_inline(), the same values. */
static inline __attribute__((always_inline)) KVS_WIDE uint64_t
kvs__siphash13_wide(const void *data, size_t len, const uint64_t sip[4])
{
	struct kvs__sip_wide s = { _mm_loadu_si128((const __m128i *)(const void *)sip),
				   _mm_loadu_si128((const __m128i *)(const void *)(sip + 2)) };
	const unsigned char *p = data;
	const unsigned char *end = p + len;

	if (__builtin_expect(len >= 8, 1))
		do {
			kvs__wide_absorb(&s, _mm_loadl_epi64((const __m128i *)(const void *)p));
			p += 8;
		} while (p + 8 <= end);
	kvs__wide_absorb(&s, _mm_cvtsi64_si128((long long)kvs__sip_last(end, len)));
	s.a = _mm_xor_si128(s.a, _mm_set_epi64x(0xff, 0));
	kvs__wide_round(&s);
	kvs__wide_round(&s);
	kvs__wide_round(&s);
	s.a = _mm_xor_si128(s.a, s.b);
	s.a = _mm_xor_si128(s.a, _mm_unpackhi_epi64(s.a, s.a));
	return (uint64_t)_mm_cvtsi128_si64(s.a);
}

/*
 * Four keys in the lanes of four registers of 256 bits: the plain round, 14 instructions for all four. Their
 * lengths may differ by what is left behind the last whole word: that is shifted into place lane by lane.
 */
#define KVS__WIDE_ROUND4(v0, v1, v2, v3)                                                           \
	do {                                                                                       \
		v0 = _mm256_add_epi64(v0, v1);                                                     \
		v2 = _mm256_add_epi64(v2, v3);                                                     \
		v1 = _mm256_xor_si256(_mm256_rol_epi64(v1, 13), v0);                               \
		v3 = _mm256_xor_si256(_mm256_rol_epi64(v3, 16), v2);                               \
		v0 = _mm256_add_epi64(_mm256_rol_epi64(v0, 32), v3);                               \
		v2 = _mm256_add_epi64(v2, v1);                                                     \
		v3 = _mm256_xor_si256(_mm256_rol_epi64(v3, 21), v0);                               \
		v1 = _mm256_xor_si256(_mm256_rol_epi64(v1, 17), v2);                               \
		v2 = _mm256_rol_epi64(v2, 32);                                                     \
	} while (0)

/* The four words at p[i] + at, by scalar loads: a key's pieces may have been stored a moment ago. */
static inline __attribute__((always_inline)) KVS_WIDE __m256i
kvs__wide_load4(const unsigned char *p0, const unsigned char *p1, const unsigned char *p2,
		const unsigned char *p3, size_t at)
{
	return _mm256_set_epi64x(
		(long long)kvs__load_le64(p3 + at), (long long)kvs__load_le64(p2 + at),
		(long long)kvs__load_le64(p1 + at), (long long)kvs__load_le64(p0 + at));
}

/* kvs__siphash13_wide4_may - Are the keys of 8 bytes or more, with as many whole words each? */
static inline bool kvs__siphash13_wide4_may(const struct kvs_slice *a, const struct kvs_slice *b,
					    const struct kvs_slice *c, const struct kvs_slice *d)
{
	size_t words = a->len / 8;

	return words && ((words ^ b->len / 8) | (words ^ c->len / 8) | (words ^ d->len / 8)) == 0;
}

/* kvs__siphash13_wide4 - kvs__siphash13_inline() of four keys for which that holds, the same values. */
static inline __attribute__((always_inline)) KVS_WIDE void kvs__siphash13_wide4(
	const struct kvs_slice *a, const struct kvs_slice *b, const struct kvs_slice *c,
	const struct kvs_slice *d, const uint64_t sip[4], uint64_t ret[4])
{
	const unsigned char *p0 = a->data, *p1 = b->data, *p2 = c->data, *p3 = d->data;
	__m256i len = _mm256_set_epi64x((long long)d->len, (long long)c->len, (long long)b->len,
					(long long)a->len);
	__m256i bits = _mm256_slli_epi64(_mm256_and_si256(len, _mm256_set1_epi64x(7)), 3);
	__m256i v0 = _mm256_set1_epi64x((long long)sip[0]);
	__m256i v2 = _mm256_set1_epi64x((long long)sip[1]);
	__m256i v1 = _mm256_set1_epi64x((long long)sip[2]);
	__m256i v3 = _mm256_set1_epi64x((long long)sip[3]);
	size_t whole = a->len & ~(size_t)7;
	__m256i word;
	size_t at;

	for (at = 0; at < whole; at += 8) {
		word = kvs__wide_load4(p0, p1, p2, p3, at);
		v3 = _mm256_xor_si256(v3, word);
		KVS__WIDE_ROUND4(v0, v1, v2, v3);
		v0 = _mm256_xor_si256(v0, word);
	}
	/* the last word, see kvs__sip_last(): a shift by 64 leaves 0 */
	word = kvs__wide_load4(p0 + a->len - 8, p1 + b->len - 8, p2 + c->len - 8, p3 + d->len - 8,
			       0);
	word = _mm256_srlv_epi64(word, _mm256_sub_epi64(_mm256_set1_epi64x(64), bits));
	word = _mm256_or_si256(word, _mm256_slli_epi64(len, 56));
	v3 = _mm256_xor_si256(v3, word);
	KVS__WIDE_ROUND4(v0, v1, v2, v3);
	v0 = _mm256_xor_si256(v0, word);
	v2 = _mm256_xor_si256(v2, _mm256_set1_epi64x(0xff));
	KVS__WIDE_ROUND4(v0, v1, v2, v3);
	KVS__WIDE_ROUND4(v0, v1, v2, v3);
	KVS__WIDE_ROUND4(v0, v1, v2, v3);
	v0 = _mm256_xor_si256(_mm256_xor_si256(v0, v1), _mm256_xor_si256(v2, v3));
	_mm256_storeu_si256((__m256i *)(void *)ret, v0);
}

#endif
