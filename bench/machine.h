/* SPDX-License-Identifier: MIT */
/* machine.h - what the machine is, and how fast it loads from memory at best. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdint.h>

#include <string>
#include <vector>

namespace bench
{

/* One line: processor, cores, memory, kernel, what huge pages are on request. */
std::string machine_description();

/* An area of cache lines on pages of one size, each line naming the next of one cycle through all of them. */
class load_area
{
public:
	load_area(uint64_t bytes, bool huge);
	~load_area();
	load_area(const load_area &) = delete;
	load_area &operator=(const load_area &) = delete;

	/* Loads a second of a thread that begins at that part of the cycle: each load's address is the value of
	 * the one before. */
	double dependent(double seconds, unsigned part, unsigned parts) const;
	/* ... loads whose addresses are known beforehand. */
	double independent(double seconds, uint64_t seed) const;

private:
	uint64_t *line(uint64_t number) const;
	uint64_t lines;
	uint64_t mapped;
	void *base;
};

} // namespace bench

#endif // BENCH_MACHINE_H
