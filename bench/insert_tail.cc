/* SPDX-License-Identifier: MIT */
/*
 * insert_tail.cc - the slowest of many inserts, one by one, into a store that begins empty and small.
 *
 * A virtual machine stops now and then whatever it runs. So an idle loop that only reads the clock
 * runs before and after, for as long as the inserts took, and its greatest gap is what the machine
 * itself did; what counts is how much the worst insert exceeds that. Inserts are timed from
 * stamp to stamp, so that nothing falls between two of them. Every run is a new process; the
 * length of the first idle loop is that of the run before, and run 0 is there only for it.
 */
#include <stdio.h>
#include <string.h>

#include "adapter.h"
#include "histogram.h"
#include "keys.h"
#include "process.h"

using namespace bench;

namespace
{

struct outcome {
	double seconds;
	double idle_us;  /* worst gap, before or after */
	double worst_us; /* inserts */
	double p9999_us;
	double p99_us;
	double p50_us;
	uint64_t worst_at; /* the number of that insert */
};

struct task {
	const contender *kind;
	shape s;
	double idle_seconds;
};

/* The greatest gap, in ticks, of a loop that lasts so long. */
uint64_t idle(double seconds, double rate)
{
	uint64_t worst = 0;
	uint64_t last = ticks();
	uint64_t end = last + (uint64_t)(seconds * 1e6 * rate);

	while (last < end) {
		uint64_t now = ticks();

		worst = std::max(worst, now - last);
		last = now;
	}
	return worst;
}

/* Every gap between two inserts, in ticks; false: no memory. */
bool insert_all(store &st, const shape &s, std::vector<uint32_t> *gaps)
{
	pair_maker pair(s);
	shuffle order(s.keys);
	uint64_t last = ticks();

	for (uint64_t i = 0; i < s.keys; i++) {
		uint64_t now;

		pair.set(order.at(i));
		if (!st.set(pair.key_bytes(), pair.value_bytes()))
			return false;
		now = ticks();
		(*gaps)[i] = (uint32_t)std::min<uint64_t>(now - last, UINT32_MAX);
		last = now;
	}
	return true;
}

double percentile_us(std::vector<uint32_t> &gaps, double q, double rate)
{
	size_t at = (size_t)(q * (double)(gaps.size() - 1));

	std::nth_element(gaps.begin(), gaps.begin() + (ptrdiff_t)at, gaps.end());
	return gaps[at] / rate;
}

/* In a new process. Threads of the store start before this one is pinned. */
void run(const task &t, outcome *ret)
{
	std::vector<int> cpus = processors();
	std::unique_ptr<store> st = t.kind->open(0);
	std::vector<uint32_t> gaps(t.s.keys, 1);
	double rate = ticks_per_ns() * 1e3;
	uint64_t worst_idle;
	double begin;

	pin(cpus.back());
	worst_idle = idle(t.idle_seconds, rate);
	st->enter();
	begin = now_seconds();
	if (!insert_all(*st, t.s, &gaps))
		_exit(1);
	ret->seconds = now_seconds() - begin;
	st->leave();
	worst_idle = std::max(worst_idle, idle(ret->seconds, rate));
	ret->idle_us = (double)worst_idle / rate;
	ret->worst_at = (uint64_t)(std::max_element(gaps.begin(), gaps.end()) - gaps.begin());
	ret->worst_us = gaps[ret->worst_at] / rate;
	ret->p9999_us = percentile_us(gaps, 0.9999, rate);
	ret->p99_us = percentile_us(gaps, 0.99, rate);
	ret->p50_us = percentile_us(gaps, 0.5, rate);
}

outcome run_once(const task &t)
{
	outcome o;

	if (!in_child([&](outcome *ret) { run(t, ret); }, &o)) {
		fprintf(stderr, "insert-tail: the child failed\n");
		exit(1);
	}
	return o;
}

} // namespace

int main(int argc, char **argv)
{
	const contender *kind = find_contender(argc > 1 ? argv[1] : "kvs");
	uint64_t keys = argc > 2 ? number_of("KEYS", argv[2]) : 10000000;
	uint64_t runs = argc > 3 ? number_of("RUNS", argv[3]) : 5;
	std::vector<double> excess;
	std::vector<double> p9999;
	outcome o;

	if (!kind || argc > 4) {
		fprintf(stderr, "Usage: insert-tail [CONTENDER [KEYS [RUNS]]]\n");
		return 2;
	}
	o = run_once({ kind, { keys, 12, 100 }, 0.1 });
	printf("%s, %llu inserts, 12 + 100 B, from empty; microseconds\n", kind->name.c_str(),
	       (unsigned long long)keys);
	for (uint64_t i = 0; i < runs; i++) {
		o = run_once({ kind, { keys, 12, 100 }, o.seconds });
		printf("run %llu: %.1f s, p50 %.2f, p99 %.2f, p99.99 %.1f, worst %.0f (insert %llu), "
		       "idle loop's worst %.0f, worst - idle %.0f\n",
		       (unsigned long long)i + 1, o.seconds, o.p50_us, o.p99_us, o.p9999_us,
		       o.worst_us, (unsigned long long)o.worst_at, o.idle_us,
		       o.worst_us - o.idle_us);
		fflush(stdout);
		excess.push_back(o.worst_us - o.idle_us);
		p9999.push_back(o.p9999_us);
	}
	printf("median of %llu: worst - idle %.2f ms, p99.99 %.1f us\n", (unsigned long long)runs,
	       quantile(excess, 0.5) / 1e3, quantile(p9999, 0.5));
	return 0;
}
