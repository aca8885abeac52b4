/* SPDX-License-Identifier: MIT */
/*
 * zipf.h - ranks with Zipf's distribution: rank r comes up in proportion to 1 / (r + 1)^theta.
 *
 * The method is that of Gray et al., "Quickly generating billion-record synthetic databases"
 * (SIGMOD 1994), which YCSB uses too: exact for the first two ranks, an inverted integral for
 * the others.
 */
#ifndef TOOLS_ZIPF_H
#define TOOLS_ZIPF_H

#include <stdint.h>

#include "random.h"

struct zipf {
	double count;
	double zeta; /* sum of 1 / i^theta for i = 1 to count */
	double alpha;
	double eta;
	double second; /* 1 + 2^-theta: below it lie the first two ranks */
};

/* zipf_init - For ranks 0 to @count - 1; 0 < @theta < 1. */
void zipf_init(struct zipf *z, uint64_t count, double theta);

/* zipf_next - Draw a rank. */
uint64_t zipf_next(const struct zipf *z, struct random *r);

#endif /* TOOLS_ZIPF_H */
