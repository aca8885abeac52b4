// SPDX-License-Identifier: MIT
//
// walk.cc - what a snapshot costs: walk [KEYS [VALUE_BYTES]]
//
//   walk     entries a second of one walker beside a reader at full speed: by its own processor time, and by the clock
//   writer   overwrites a second with and without a snapshot open, in turns; get's 99.9th percentile beside it
//   memory   what a writer that overwrites each key once makes the snapshot keep, against the bytes overwritten
//
// One line a figure: name value unit.

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "kvs.h"

namespace
{

constexpr int kPairs = 5;
constexpr double kSliceSeconds = 0.25;

double Now(clockid_t clock)
{
	timespec t;

	clock_gettime(clock, &t);
	return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

void Must(int err)
{
	if (err == KVS_OK)
		return;
	fprintf(stderr, "walk: %s\n", kvs_strerror(err));
	exit(1);
}

struct Random {
	uint64_t state;

	uint64_t Below(uint64_t n)
	{
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		return state % n;
	}
};

class Bench
{
public:
	Bench(uint64_t keys, size_t value_bytes) : keys_(keys), value_(value_bytes, 'v')
	{
		kvs_options opts = KVS_OPTIONS_INIT;

		opts.initial_capacity = keys;
		Must(kvs_open(&opts, &kv_));
		for (uint64_t i = 0; i < keys; i++)
			Set(i);
		Must(kvs_drain(kv_));
	}
	~Bench()
	{
		Must(kvs_free(kv_));
	}
	Bench(const Bench &) = delete;
	Bench &operator=(const Bench &) = delete;

	void Walk();
	void Writer();
	void Memory();

private:
	void Set(uint64_t key)
	{
		Must(kvs_set(kv_, Key(key), kvs_bytes(value_.data(), value_.size()), nullptr));
	}
	static kvs_slice Key(const uint64_t &key)
	{
		return kvs_bytes(&key, sizeof(key));
	}
	kvs_snapshot *Begin(uint64_t max_memory);
	uint64_t Pass(kvs_snapshot *s);
	double WriterRate(double *p999_ns);
	void Read(std::atomic<bool> *stop, std::vector<uint32_t> *times);

	kvs *kv_ = nullptr;
	uint64_t keys_;
	std::vector<char> value_;
};

kvs_snapshot *Bench::Begin(uint64_t max_memory)
{
	kvs_snapshot_options opts = KVS_SNAPSHOT_OPTIONS_INIT;
	kvs_snapshot *s = nullptr;

	opts.max_memory = max_memory;
	Must(kvs_snapshot_begin(kv_, &opts, &s));
	return s;
}

uint64_t Bench::Pass(kvs_snapshot *s)
{
	kvs_snapshot_part *part = nullptr;
	kvs_item item;
	uint64_t n = 0;
	int err;

	Must(kvs_snapshot_part_begin(s, &part));
	while ((err = kvs_snapshot_next(part, &item)) == KVS_OK)
		n++;
	kvs_snapshot_part_end(part);
	if (err != KVS_ERR_NOT_FOUND)
		Must(err);
	return n;
}

// Gets at full speed; with @times each 16th is timed.
void Bench::Read(std::atomic<bool> *stop, std::vector<uint32_t> *times)
{
	std::vector<char> out(value_.size() + 1);
	Random random = { 88172645463325252u };

	for (uint64_t n = 0; !*stop; n++) {
		uint64_t key = random.Below(keys_);
		bool timed = times && n % 16 == 0;
		double from = timed ? Now(CLOCK_MONOTONIC) : 0;

		Must(kvs_get(kv_, Key(key), out.data(), out.size(), nullptr));
		if (timed)
			times->push_back(
				static_cast<uint32_t>((Now(CLOCK_MONOTONIC) - from) * 1e9));
	}
}

void Bench::Walk()
{
	std::atomic<bool> stop{ false };
	std::thread reader(&Bench::Read, this, &stop, nullptr);

	for (int i = 0; i < 3; i++) {
		kvs_snapshot *s = Begin(0);
		double cpu = Now(CLOCK_THREAD_CPUTIME_ID), wall = Now(CLOCK_MONOTONIC);
		uint64_t n = Pass(s);

		cpu = Now(CLOCK_THREAD_CPUTIME_ID) - cpu;
		wall = Now(CLOCK_MONOTONIC) - wall;
		Must(kvs_snapshot_end(s, nullptr));
		printf("walk %.3f M/s of processor time, %.3f M/s by the clock, %llu entries\n",
		       static_cast<double>(n) / cpu * 1e-6, static_cast<double>(n) / wall * 1e-6,
		       static_cast<unsigned long long>(n));
	}
	stop = true;
	reader.join();
}

// One slice of random overwrites on this thread, by processor time, with a reader beside.
double Bench::WriterRate(double *p999_ns)
{
	std::atomic<bool> stop{ false };
	std::vector<uint32_t> times;
	std::thread reader(&Bench::Read, this, &stop, &times);
	Random random = { 2463534242u };
	double from = Now(CLOCK_THREAD_CPUTIME_ID), now = from;
	uint64_t n = 0;

	for (; now - from < kSliceSeconds; now = Now(CLOCK_THREAD_CPUTIME_ID))
		for (int i = 0; i < 256; i++, n++)
			Set(random.Below(keys_));
	stop = true;
	reader.join();
	std::sort(times.begin(), times.end());
	*p999_ns = times.empty() ? 0 : times[times.size() - 1 - times.size() / 1000];
	return static_cast<double>(n) / (now - from);
}

void Bench::Writer()
{
	std::vector<double> rates, tails;

	for (int i = 0; i < kPairs; i++) {
		double without_tail, with_tail, without, with;

		without = WriterRate(&without_tail);
		kvs_snapshot *s = Begin(uint64_t{ 8 } << 30);
		std::thread walker([this, s] { Pass(s); });
		with = WriterRate(&with_tail);
		walker.join();
		Must(kvs_snapshot_end(s, nullptr));
		Must(kvs_drain(kv_));
		rates.push_back(with / without);
		tails.push_back(with_tail / without_tail);
	}
	std::sort(rates.begin(), rates.end());
	std::sort(tails.begin(), tails.end());
	printf("writer %.3f of the rate without a snapshot (%.3f to %.3f in %d pairs)\n",
	       rates[kPairs / 2], rates.front(), rates.back(), kPairs);
	printf("get_p999 %.3f of that without a snapshot (%.3f to %.3f)\n", tails[kPairs / 2],
	       tails.front(), tails.back());
}

void Bench::Memory()
{
	struct kvs_stats stats, after;
	kvs_snapshot *s;

	stats.size = after.size = sizeof(stats);
	Must(kvs_stats(kv_, &stats));
	s = Begin(uint64_t{ 8 } << 30);
	for (uint64_t i = 0; i < keys_; i++)
		Set(i);
	Must(kvs_drain(kv_));
	Must(kvs_stats(kv_, &after));
	printf("memory %.3f bytes kept, %.3f bytes mapped, for each byte overwritten\n",
	       static_cast<double>(after.snapshot_bytes) / static_cast<double>(stats.bytes_live),
	       static_cast<double>(after.bytes_mapped - stats.bytes_mapped) /
		       static_cast<double>(stats.bytes_live));
	Must(kvs_snapshot_end(s, nullptr));
	Must(kvs_drain(kv_));
	Must(kvs_stats(kv_, &after));
	printf("memory_after %.3f of the bytes mapped before\n",
	       static_cast<double>(after.bytes_mapped) / static_cast<double>(stats.bytes_mapped));
}

} // namespace

int main(int argc, char **argv)
{
	uint64_t keys = argc > 1 ? strtoull(argv[1], nullptr, 10) : 10000000;
	size_t value_bytes = argc > 2 ? strtoull(argv[2], nullptr, 10) : 12;
	Bench bench(keys, value_bytes);

	printf("keys %llu, value %zu bytes\n", static_cast<unsigned long long>(keys), value_bytes);
	setvbuf(stdout, nullptr, _IOLBF, 0);
	bench.Walk();
	bench.Writer();
	bench.Memory();
	return 0;
}
