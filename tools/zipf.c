/* SPDX-License-Identifier: MIT */
/* zipf.c - Gray's generator of Zipf ranks. See zipf.h. */
#include "posix.h"

#include <math.h>

#include "zipf.h"

#define EXACT_TERMS 10000u

/*
 * The sum of 1 / i^theta for i = 1 to count: the first terms one by one, the rest by Euler and
 * Maclaurin, whose next term is below 1e-10 of the sum. So it costs the same for any count.
 */
static double zeta(uint64_t count, double theta)
{
	uint64_t exact = count < EXACT_TERMS ? count : EXACT_TERMS;
	double from = (double)exact, to = (double)count;
	double sum = 0.0;
	uint64_t i;

	for (i = 1; i <= exact; i++)
		sum += pow((double)i, -theta);
	if (exact == count)
		return sum;
	sum += (pow(to, 1.0 - theta) - pow(from, 1.0 - theta)) / (1.0 - theta);
	return sum + (pow(to, -theta) - pow(from, -theta)) / 2.0;
}

void zipf_init(struct zipf *z, uint64_t count, double theta)
{
	double zeta_two = 1.0 + pow(0.5, theta);

	z->count = (double)count;
	z->zeta = zeta(count, theta);
	z->alpha = 1.0 / (1.0 - theta);
	z->eta = count > 2 ? (1.0 - pow(2.0 / z->count, 1.0 - theta)) / (1.0 - zeta_two / z->zeta)
			   : 0.0;
	z->second = zeta_two;
}

uint64_t zipf_next(const struct zipf *z, struct random *r)
{
	double u = random_unit(r), scaled = u * z->zeta, rank;

	if (scaled < 1.0 || z->count < 2.0)
		return 0;
	if (scaled < z->second || z->count < 3.0)
		return 1;
	rank = z->count * pow(z->eta * u - z->eta + 1.0, z->alpha);
	return rank < z->count ? (uint64_t)rank : (uint64_t)z->count - 1;
}
