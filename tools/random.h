/* SPDX-License-Identifier: MIT */
/* random.h - a small, fast, seeded generator (SplitMix64). Not for secrets. */
#ifndef TOOLS_RANDOM_H
#define TOOLS_RANDOM_H

#include <stdint.h>

#define RANDOM_GOLDEN 0x9e3779b97f4a7c15u

__extension__ typedef unsigned __int128 random_wide;

struct random {
	uint64_t state;
};

/* random_mix - Scramble 64 bits; different inputs give different outputs. */
static inline uint64_t random_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* random_seed - Generator number @stream of the family @seed. */
static inline void random_seed(struct random *r, uint64_t seed, uint64_t stream)
{
	r->state = random_mix(seed + RANDOM_GOLDEN) ^ random_mix(~stream);
}

static inline uint64_t random_next(struct random *r)
{
	r->state += RANDOM_GOLDEN;
	return random_mix(r->state);
}

/* random_below - A number in [0, @limit); the bias is below limit / 2^64. */
static inline uint64_t random_below(struct random *r, uint64_t limit)
{
	return (uint64_t)(((random_wide)random_next(r) * limit) >> 64);
}

/* random_unit - A number in [0, 1). */
static inline double random_unit(struct random *r)
{
	return (double)(random_next(r) >> 11) * 0x1p-53;
}

#endif /* TOOLS_RANDOM_H */
