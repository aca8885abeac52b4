/* SPDX-License-Identifier: MIT */
/*
 * bench_get.cc - micro benchmarks: operation/contender/keys/threads:N, keys of 12 bytes, values of 100.
 *
 * Small and quick: what fits into the caches and what just does not. For figures that compare
 * stores fairly see peers.cc; here one store after the other has the machine.
 */
#include <benchmark/benchmark.h>

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "adapter.h"
#include "keys.h"

using namespace bench;

namespace
{

const struct {
	const char *name;
	workload work;
} operations[] = {
	{ "get-hit", workload::get_hit },
	{ "get-miss", workload::get_miss },
	{ "set-half", workload::mixed_50 },
};

/* Stores are filled when the first thread needs them, and kept: benchmarks of one share it. */
store &filled(const contender *kind, uint64_t keys)
{
	static std::map<std::pair<const contender *, uint64_t>, std::unique_ptr<store>> all;
	static std::mutex lock;
	std::lock_guard<std::mutex> guard(lock);
	std::unique_ptr<store> &st = all[{ kind, keys }];

	if (!st) {
		st = kind->open(keys);
		load(*st, { keys, 12, 100 }, true);
		st->drain();
	}
	return *st;
}

void run(benchmark::State &state, const contender *kind, workload work, uint64_t keys)
{
	const shape s = { keys, 12, 100 };
	store &st = filled(kind, keys);
	std::unique_ptr<client> c = st.make_client({ s, work, (uint64_t)state.thread_index() + 1 });
	tally t;

	while (state.KeepRunningBatch(block_size))
		c->step(&t);
	if (t.wrong)
		state.SkipWithError((kind->name + " gave wrong answers").c_str());
	state.SetItemsProcessed((int64_t)state.iterations());
}

void add(const contender *kind, const char *name, workload work, uint64_t keys)
{
	const std::string full = std::string(name) + "/" + kind->name + "/" + std::to_string(keys);

	benchmark::RegisterBenchmark(full.c_str(),
				     [=](benchmark::State &state) { run(state, kind, work, keys); })
		->Threads(1)
		->Threads(2)
		->UseRealTime();
}

} // namespace

int main(int argc, char **argv)
{
	benchmark::Initialize(&argc, argv);
	if (benchmark::ReportUnrecognizedArguments(argc, argv))
		return 1;
	for (uint64_t keys : { 10000, 1000000 })
		for (const auto &op : operations)
			for (const contender *kind : contenders())
				add(kind, op.name, op.work, keys);
	benchmark::RunSpecifiedBenchmarks();
	benchmark::Shutdown();
	return 0;
}
