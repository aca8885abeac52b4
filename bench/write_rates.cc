/* SPDX-License-Identifier: MIT */
/*
 * write_rates.cc - how fast a store is written to: overwrites, deletes with their re-inserts, half and half.
 *
 * It uses nothing but what every version of the library has, so that two versions can be run in turns
 * (LD_LIBRARY_PATH) and their rates set side by side. One line a run: million operations a second, and in
 * parentheses a second of the writers' processor time, which is steadier where others use the machine too.
 * Usage: write_rates KEYS [SECONDS [THREADS]]
 */
#include <atomic>
#include <thread>

#include "keys.h"
#include "kvs.h"
#include "process.h"

using namespace bench;

namespace
{

enum kind { SET, DELETE_SET, HALF };

struct run {
	struct kvs *kv;
	shape s;
	std::atomic<bool> stop{ false };
	std::atomic<uint64_t> done{ 0 };
	std::atomic<uint64_t> cpu_ns{ 0 }; /* of all writers */
};

bool set(struct kvs *kv, pair_maker &pair, uint64_t number)
{
	bytes key, value;

	pair.set(number);
	key = pair.key_bytes();
	value = pair.value_bytes();
	return kvs_set(kv, kvs_bytes(key.data, key.len), kvs_bytes(value.data, value.len),
		       nullptr) == KVS_OK;
}

bool del(struct kvs *kv, pair_maker &pair, uint64_t number)
{
	bytes key;

	pair.set(number);
	key = pair.key_bytes();
	return kvs_delete(kv, kvs_bytes(key.data, key.len), nullptr) == KVS_OK;
}

bool get(struct kvs *kv, pair_maker &pair, uint64_t number, char *buf, size_t cap)
{
	bytes key;

	pair.set(number);
	key = pair.key_bytes();
	return kvs_get(kv, kvs_bytes(key.data, key.len), buf, cap, nullptr) == KVS_OK;
}

uint64_t cpu_ns()
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Each thread deletes and sets again keys of its own, so that every operation finds what it expects. */
void work(run *r, kind what, unsigned index, unsigned threads)
{
	pair_maker pair(r->s);
	random_numbers random(index + 1);
	uint64_t share = r->s.keys / threads;
	uint64_t first = share * index;
	char buf[4096];
	uint64_t begin = cpu_ns();
	uint64_t n = 0;
	bool ok = true;

	while (!r->stop.load(std::memory_order_relaxed) && ok) {
		for (unsigned i = 0; i < 256 && ok; i += 2) {
			uint64_t a = first + random.below(share);
			uint64_t b = first + random.below(share);

			if (what == SET)
				ok = set(r->kv, pair, a) && set(r->kv, pair, b);
			else if (what == DELETE_SET)
				ok = del(r->kv, pair, a) && set(r->kv, pair, a);
			else
				ok = get(r->kv, pair, a, buf, sizeof(buf)) && set(r->kv, pair, b);
		}
		n += 256;
	}
	if (!ok) {
		fprintf(stderr, "write_rates: an operation failed\n");
		exit(1);
	}
	r->done += n;
	r->cpu_ns += cpu_ns() - begin;
}

void rate(const char *name, run *r, kind what, unsigned threads, double seconds)
{
	std::vector<std::thread> all;
	double begin = now_seconds();

	r->stop = false;
	r->done = 0;
	r->cpu_ns = 0;
	for (unsigned i = 0; i < threads; i++)
		all.emplace_back(work, r, what, i, threads);
	while (now_seconds() < begin + seconds)
		usleep(10000);
	r->stop = true;
	for (std::thread &t : all)
		t.join();
	printf("  %s %.3f (%.3f)", name, (double)r->done / (now_seconds() - begin) * 1e-6,
	       (double)r->done * threads / (double)r->cpu_ns * 1e3);
	fflush(stdout);
}

} // namespace

int main(int argc, char **argv)
{
	uint64_t keys = argc > 1 ? number_of("KEYS", argv[1]) : 1000000;
	double seconds = argc > 2 ? atof(argv[2]) : 3;
	unsigned threads = argc > 3 ? (unsigned)number_of("THREADS", argv[3]) : 2;
	static run r;
	double begin = now_seconds();

	r.s = { keys, 12, 100 };
	if (kvs_open(nullptr, &r.kv) != KVS_OK)
		return 1;
	{
		pair_maker pair(r.s);
		shuffle order(keys);

		for (uint64_t i = 0; i < keys; i++)
			if (!set(r.kv, pair, order.at(i)))
				return 1;
	}
	printf("%llu keys, %u threads: load %.3f", (unsigned long long)keys, threads,
	       (double)keys / (now_seconds() - begin) * 1e-6);
	fflush(stdout);
	rate("set", &r, SET, threads, seconds);
	rate("delete+set", &r, DELETE_SET, threads, seconds);
	rate("half", &r, HALF, threads, seconds);
	printf("\n");
	return kvs_free(r.kv);
}
