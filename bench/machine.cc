/* SPDX-License-Identifier: MIT */
/* machine.cc - see machine.h. */
#include "machine.h"

#include <sys/mman.h>
#include <sys/utsname.h>

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "keys.h"
#include "process.h"

namespace bench
{

namespace
{

constexpr uint64_t line_bytes = 64;
constexpr uint64_t huge_bytes = (uint64_t)2 << 20;
constexpr unsigned chunk = 1024; /* loads between two looks at the clock */

/* What stands behind "NAME :" in a file of such lines. */
std::string field_of(const char *file, const std::string &name)
{
	std::ifstream in(file);
	std::string line;

	while (std::getline(in, line))
		if (line.compare(0, name.size(), name) == 0) {
			size_t at = line.find_first_not_of(" \t:", name.size());

			return at == std::string::npos ? "" : line.substr(at);
		}
	return "";
}

/* The word in brackets. */
std::string chosen(const char *file)
{
	std::ifstream in(file);
	std::string line;
	size_t from, to;

	std::getline(in, line);
	from = line.find('[');
	to = line.find(']');
	return from == std::string::npos || to == std::string::npos
		       ? "unknown"
		       : line.substr(from + 1, to - from - 1);
}

/* Nobody may optimise the loads away. */
void use(uint64_t value)
{
	__asm__ volatile("" : : "r"(value));
}

template <class F> double rate_of(double seconds, F run_chunk)
{
	double begin = now_seconds(), took;
	uint64_t chunks = 0;

	do {
		run_chunk();
		chunks++;
		took = now_seconds() - begin;
	} while (took < seconds);
	return (double)(chunks * chunk) / took;
}

} // namespace

std::string machine_description()
{
	std::ostringstream text;
	struct utsname u = {};

	uname(&u);
	text << field_of("/proc/cpuinfo", "model name") << ", family "
	     << field_of("/proc/cpuinfo", "cpu family") << " model "
	     << field_of("/proc/cpuinfo", "model\t") << ", " << processors().size()
	     << " processors, last cache " << field_of("/proc/cpuinfo", "cache size") << ", "
	     << strtoull(field_of("/proc/meminfo", "MemTotal").c_str(), nullptr, 10) / (1 << 20)
	     << " GiB, " << u.sysname << " " << u.release << ", transparent huge pages: "
	     << chosen("/sys/kernel/mm/transparent_hugepage/enabled");
	return text.str();
}

load_area::load_area(uint64_t bytes, bool huge)
    : lines(std::max<uint64_t>(bytes / line_bytes, 16)),
      mapped((lines * line_bytes / huge_bytes + 2) * huge_bytes)
{
	shuffle order(lines);
	uint64_t first, at;

	base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		throw std::bad_alloc();
	madvise(base, mapped, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	first = at = order.at(0);
	for (uint64_t i = 1; i < lines; i++) {
		uint64_t next = order.at(i);

		*line(at) = next;
		at = next;
	}
	*line(at) = first;
}

load_area::~load_area()
{
	munmap(base, mapped);
}

uint64_t *load_area::line(uint64_t number) const
{
	uint64_t from = ((uint64_t)base + huge_bytes - 1) / huge_bytes * huge_bytes;

	return reinterpret_cast<uint64_t *>(from + number * line_bytes);
}

double load_area::dependent(double seconds, unsigned part, unsigned parts) const
{
	uint64_t at = shuffle(lines).at(lines * part / parts);

	return rate_of(seconds, [&] {
		for (unsigned i = 0; i < chunk; i++)
			at = *line(at);
		use(at);
	});
}

double load_area::independent(double seconds, uint64_t seed) const
{
	random_numbers random(seed);
	uint64_t sum = 0;

	return rate_of(seconds, [&] {
		for (unsigned i = 0; i < chunk; i++)
			sum += *line(random.below(lines));
		use(sum);
	});
}

} // namespace bench
