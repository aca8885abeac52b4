/* SPDX-License-Identifier: MIT */
/* timer.h - the monotonic clock in nanoseconds. */
#ifndef TOOLS_TIMER_H
#define TOOLS_TIMER_H

#include <stdint.h>
#include <time.h>

#define TIMER_SECOND 1000000000u /* ns */

static inline uint64_t timer_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * TIMER_SECOND + (uint64_t)t.tv_nsec;
}

/* timer_cpu - Processor time of the whole process so far. */
static inline uint64_t timer_cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * TIMER_SECOND + (uint64_t)t.tv_nsec;
}

static inline struct timespec timer_spec(uint64_t ns)
{
	struct timespec t;

	t.tv_sec = (time_t)(ns / TIMER_SECOND);
	t.tv_nsec = (long)(ns % TIMER_SECOND);
	return t;
}

static inline double timer_seconds(uint64_t ns)
{
	return (double)ns / (double)TIMER_SECOND;
}

/* timer_cost - What one timing adds to a duration, in ns: the median of many empty ones. */
uint64_t timer_cost(void);

#endif /* TOOLS_TIMER_H */
