/* SPDX-License-Identifier: MIT */
/*
 * permutation.h - a seeded one-to-one scrambling of the numbers 0 to @last, without a table.
 *
 * Multiplications by odd numbers and shifted exclusive-ors are each one-to-one on w bits. If the
 * range is not a power of two we walk the cycle until we are back in it: fewer than 2 steps on
 * average.
 */
#ifndef TOOLS_PERMUTATION_H
#define TOOLS_PERMUTATION_H

#include <stdint.h>

#include "random.h"

struct permutation {
	uint64_t last;
	uint64_t mask; /* 2^w - 1, the least that is >= last */
	uint64_t offset;
	unsigned shift; /* half of w, at least 1 */
};

static inline void permutation_init(struct permutation *p, uint64_t last, uint64_t seed)
{
	unsigned width = last ? 64 - (unsigned)__builtin_clzll(last) : 0;

	p->last = last;
	p->mask = width ? UINT64_MAX >> (64 - width) : 0;
	p->offset = random_mix(seed ^ 0x7065726du);
	p->shift = width > 1 ? (width + 1) / 2 : 1;
}

static inline uint64_t permutation_step(const struct permutation *p, uint64_t x)
{
	x = (x + p->offset) & p->mask;
	x = (x * 0xbf58476d1ce4e5b9u) & p->mask;
	x ^= x >> p->shift;
	x = (x * 0x94d049bb133111ebu) & p->mask;
	x ^= x >> p->shift;
	x = (x * RANDOM_GOLDEN) & p->mask;
	return x ^ (x >> p->shift);
}

/* permutation_at - Where @x, at most last, goes. */
static inline uint64_t permutation_at(const struct permutation *p, uint64_t x)
{
	do
		x = permutation_step(p, x);
	while (x > p->last);
	return x;
}

#endif /* TOOLS_PERMUTATION_H */
