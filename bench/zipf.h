/* SPDX-License-Identifier: MIT */
/*
 * zipf.h - numbers below a limit, the smaller the more often, in a few nanoseconds.
 *
 * Rank r, from 1 on, has the weight r^-theta. A formula for the inverse takes a pow() a number, half as long as a
 * get; a table of all ranks would be one more table in memory to miss. So ranks form classes: the first 128 alone, the others
 * with neighbours up to 1/16 beyond. A class is chosen exactly by weight (Walker's alias method), a rank within it
 * evenly; that is at most 3 % off the weight of the rank. The tables take 5 KiB.
 */
#ifndef BENCH_ZIPF_H
#define BENCH_ZIPF_H

#include <math.h>
#include <stdint.h>

#include <vector>

#include "keys.h"

namespace bench
{

class zipf
{
public:
	zipf(uint64_t limit, double theta)
	{
		std::vector<double> weights;

		for (uint64_t first = 1; first <= limit;) {
			uint64_t count = first <= 128 ? 1 : first / 16;

			count = std::min(count, limit - first + 1);
			classes.push_back({ (uint32_t)(first - 1), (uint32_t)count, 0, 0 });
			weights.push_back(weight(first, count, theta));
			first += count;
		}
		make_aliases(weights);
	}
	/* From 0 on. */
	uint64_t next(random_numbers &random) const
	{
		unsigned __int128 product = (unsigned __int128)random.next() * classes.size();
		size_t at = (size_t)(product >> 64);
		const ranks *c = &classes[at];

		if ((uint32_t)((uint64_t)product >> 32) >= c->threshold)
			c = &classes[c->alias];
		return c->count == 1 ? c->first : c->first + random.below(c->count);
	}

private:
	struct ranks {
		uint32_t first;
		uint32_t count;
		uint32_t threshold; /* of 2^32: this class, else */
		uint32_t alias;     /* that one */
	};
	static double weight(uint64_t first, uint64_t count, double theta)
	{
		double from = (double)first - 0.5, to = from + (double)count;

		if (count == 1)
			return pow((double)first, -theta);
		return (pow(to, 1 - theta) - pow(from, 1 - theta)) / (1 - theta);
	}
	/* Each class gives what it has above the mean to one that has less. */
	void make_aliases(std::vector<double> &weights)
	{
		std::vector<uint32_t> small, large;
		double sum = 0;

		for (double w : weights)
			sum += w;
		for (uint32_t i = 0; i < weights.size(); i++) {
			weights[i] *= (double)weights.size() / sum;
			(weights[i] < 1 ? small : large).push_back(i);
		}
		while (!small.empty() && !large.empty()) {
			uint32_t s = small.back(), l = large.back();

			small.pop_back();
			classes[s].threshold = (uint32_t)(weights[s] * 0x1p32);
			classes[s].alias = l;
			weights[l] -= 1 - weights[s];
			if (weights[l] < 1) {
				large.pop_back();
				small.push_back(l);
			}
		}
		for (const auto &rest : { small, large })
			for (uint32_t i : rest) {
				classes[i].threshold = UINT32_MAX;
				classes[i].alias = i;
			}
	}
	std::vector<ranks> classes;
};

} // namespace bench

#endif // BENCH_ZIPF_H
