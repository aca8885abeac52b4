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

#endif
