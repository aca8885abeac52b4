/* SPDX-License-Identifier: MIT */
/* process.h - clocks, processors, resident memory, and work done in a child process. */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

namespace bench
{

inline double now_seconds()
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* processors - Those that this process may use. Ask before any thread is pinned. */
inline std::vector<int> processors()
{
	std::vector<int> all;
	cpu_set_t set;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &set))
				all.push_back(i);
	return all;
}

/* pin - Keep the calling thread on one processor. Threads that it starts later inherit that. */
inline void pin(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

/* rollup_bytes - A line of /proc/self/smaps_rollup. */
inline uint64_t rollup_bytes(const char *name)
{
	size_t len = strlen(name);
	unsigned long long kib = 0;
	char line[256];
	FILE *f = fopen("/proc/self/smaps_rollup", "r");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, len) == 0) {
			kib = strtoull(line + len, nullptr, 10);
			break;
		}
	if (f)
		fclose(f);
	return kib * 1024;
}

/* resident_bytes - VmRSS, counted page by page by the kernel rather than from its per-thread caches. */
inline uint64_t resident_bytes()
{
	return rollup_bytes("Rss:");
}

/* anonymous_bytes - Of these, memory that was allocated: not the text of programs and libraries. */
inline uint64_t anonymous_bytes()
{
	return rollup_bytes("Anonymous:");
}

/*
 * in_child - Run @fn(@ret) in a new process and bring back what it wrote there; T is plain data.
 *
 * false: the child did not come to its end. Call it while this process has one thread.
 */
template <class T, class F> bool in_child(F fn, T *ret)
{
	int ends[2];
	int status = 0;
	bool ok;
	pid_t pid;

	fflush(nullptr);
	if (pipe(ends) != 0)
		return false;
	pid = fork();
	if (pid == 0) {
		T result = {};

		close(ends[0]);
		fn(&result);
		_exit(write(ends[1], &result, sizeof(result)) == (ssize_t)sizeof(result) ? 0 : 1);
	}
	close(ends[1]);
	ok = pid > 0 && read(ends[0], ret, sizeof(*ret)) == (ssize_t)sizeof(*ret);
	close(ends[0]);
	return pid > 0 && waitpid(pid, &status, 0) == pid && ok && status == 0;
}

/* quantile - Of values in any order; 0.5 is the median. */
inline double quantile(std::vector<double> v, double q)
{
	size_t at;

	if (v.empty())
		return 0;
	at = std::min(v.size() - 1, (size_t)(q * (double)(v.size() - 1) + 0.5));
	std::nth_element(v.begin(), v.begin() + (ptrdiff_t)at, v.end());
	return v[at];
}

/* number_of - The number that an option gives, with K or M after it if it likes; else the program ends. */
inline uint64_t number_of(const char *option, const char *text)
{
	char *end;
	double x = strtod(text, &end);

	if (*end == 'K' || *end == 'k')
		x *= 1e3, end++;
	else if (*end == 'M' || *end == 'm')
		x *= 1e6, end++;
	if (end == text || *end || !(x >= 1) || x > 1e12) {
		fprintf(stderr, "%s: not a number above 0: %s\n", option, text);
		exit(2);
	}
	return (uint64_t)x;
}

} // namespace bench

#endif // BENCH_PROCESS_H
