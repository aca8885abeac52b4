/* SPDX-License-Identifier: MIT */
/* histogram.h - many durations in little memory: 64 classes for every doubling, so 1.6 % wide at most. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "process.h"

namespace bench
{

/* ticks - A clock for durations. It may be read before what stands above it has come to its end. */
inline uint64_t ticks()
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

/* ticks_after - The same, read when all loads before it have their values. */
inline uint64_t ticks_after()
{
#if defined(__x86_64__)
	unsigned processor;

	return __rdtscp(&processor);
#else
	return ticks();
#endif
}

inline double ticks_per_ns()
{
	double begin = now_seconds();
	uint64_t first = ticks();

	while (now_seconds() - begin < 0.05)
		;
	return (double)(ticks() - first) / ((now_seconds() - begin) * 1e9);
}

class histogram
{
public:
	void add(uint64_t value)
	{
		counts[class_of(value)]++;
		greatest = std::max(greatest, value);
	}
	void add(const histogram &other)
	{
		for (size_t i = 0; i < counts.size(); i++)
			counts[i] += other.counts[i];
		greatest = std::max(greatest, other.greatest);
	}
	uint64_t max() const
	{
		return greatest;
	}
	/* The middle of the class that holds it. */
	double quantile(double q) const
	{
		uint64_t total = 0, seen = 0, wanted;

		for (uint64_t c : counts)
			total += c;
		wanted = (uint64_t)(q * (double)total);
		for (size_t i = 0; i < counts.size(); i++)
			if ((seen += counts[i]) > wanted)
				return std::min(middle_of(i), (double)greatest);
		return (double)greatest;
	}

private:
	static constexpr unsigned sub_bits = 6;
	/* Below 2^(sub_bits + 1) a class is one value. */
	static size_t class_of(uint64_t value)
	{
		unsigned shift;

		if (value < (uint64_t)2 << sub_bits)
			return value;
		shift = 63 - (unsigned)__builtin_clzll(value) - sub_bits;
		return ((size_t)shift << sub_bits) + (value >> shift);
	}
	static double middle_of(size_t number)
	{
		size_t shift = number < (size_t)2 << sub_bits ? 0 : (number >> sub_bits) - 1;
		uint64_t first = (uint64_t)(number - (shift << sub_bits)) << shift;

		return (double)first + (double)((uint64_t)1 << shift) / 2;
	}
	std::vector<uint64_t> counts = std::vector<uint64_t>((64 - sub_bits + 1) << sub_bits);
	uint64_t greatest = 0;
};

} // namespace bench

#endif // BENCH_HISTOGRAM_H
