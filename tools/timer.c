/* SPDX-License-Identifier: MIT */
/* timer.c - what reading the clock costs. */
#include "posix.h"

#include <stdlib.h>

#include "timer.h"

#define SAMPLES 4001

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t timer_cost(void)
{
	uint64_t sample[SAMPLES];
	size_t i;

	for (i = 0; i < SAMPLES; i++) {
		uint64_t start = timer_now();

		sample[i] = timer_now() - start;
	}
	qsort(sample, SAMPLES, sizeof(sample[0]), compare);
	return sample[SAMPLES / 2];
}
