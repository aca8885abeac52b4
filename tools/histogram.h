/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - counts of durations in log-linear buckets, after HdrHistogram.
 *
 * Values below 256 ns have a bucket each; every octave above has 128, so a percentile is at most
 * 1/128 above the true one. Values of 2^40 ns (18 minutes) and more share the last bucket; the
 * maximum is kept exactly. One histogram belongs to one thread; add them up with
 * histogram_merge() and take percentiles from the sum.
 */
#ifndef TOOLS_HISTOGRAM_H
#define TOOLS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_VALUE_BITS 40
#define HISTOGRAM_BUCKETS ((HISTOGRAM_VALUE_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t count;
	uint64_t sum;
	uint64_t max;
	uint64_t min; /* meaningful only if count > 0 */
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

/* histogram_reset - Make it empty, and touch all its memory. */
void histogram_reset(struct histogram *h);

void histogram_add(struct histogram *h, uint64_t value);

/* histogram_merge - Add all counts of @from to @into. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/*
 * histogram_percentile - The least bucket end that @percent of all values do not exceed.
 *
 * Never above the maximum; 0 if there are no values.
 */
uint64_t histogram_percentile(const struct histogram *h, double percent);

/* histogram_mean - 0 if there are no values. */
double histogram_mean(const struct histogram *h);

#endif /* TOOLS_HISTOGRAM_H */
