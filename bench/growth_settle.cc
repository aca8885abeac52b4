/* SPDX-License-Identifier: MIT */
/*
 * growth_settle.cc - how soon a table that has just grown sixteenfold is as good as a fresh one.
 *
 * Linked against a counting build (--enable-counting) of the static library: the measure is nodes
 * walked per get, not time. A store of default options gets 1/16 of its keys, rests, gets the others
 * at full speed, and from then on is only read, in slices of 100 ms. Beside it a store that was
 * opened with room for all keys and loaded with the same. Passes if the first is within 10 % of the
 * second from some slice within the first second on. Usage: growth-settle [KEYS...]
 */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "keys.h"
#include "kvs.h"
#include "process.h"

/* As in src/counting.h. */
extern "C" {
struct kvs__work {
	uint64_t steps;
};
extern __thread struct kvs__work kvs__work;
}

using namespace bench;

namespace
{

constexpr double slice_seconds = 0.1;
constexpr int slices = 15;
constexpr int slices_allowed = 10;
constexpr double tolerance = 0.1;

[[noreturn]] void fail(const char *text)
{
	fprintf(stderr, "growth-settle: %s\n", text);
	exit(1);
}

struct kvs *open_store(uint64_t capacity)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	o.initial_capacity = capacity;
	if (kvs_open(&o, &kv) != KVS_OK)
		fail("cannot open");
	return kv;
}

void fill(struct kvs *kv, uint64_t from, uint64_t to)
{
	pair_maker pair({ to, 12, 8 });

	for (uint64_t i = from; i < to; i++) {
		bytes key;
		bytes value;

		pair.set(i);
		key = pair.key_bytes();
		value = pair.value_bytes();
		if (kvs_set(kv, kvs_bytes(key.data, key.len), kvs_bytes(value.data, value.len),
			    nullptr) != KVS_OK)
			fail("cannot set");
	}
}

/* Nodes walked per get, over a slice of time. */
double slice(struct kvs *kv, uint64_t keys, random_numbers &random)
{
	double end = now_seconds() + slice_seconds;
	pair_maker pair({ keys, 12, 8 });
	uint64_t gets = 0;

	kvs__work.steps = 0;
	do
		for (int i = 0; i < 64; i++, gets++) {
			char buf[8];

			pair.set(random.below(keys));
			if (kvs_get(kv, kvs_bytes(pair.key_bytes().data, 12), buf, sizeof(buf),
				    nullptr) != KVS_OK)
				fail("a key is missing");
		}
	while (now_seconds() < end);
	return (double)kvs__work.steps / (double)gets;
}

struct kvs_stats stats_of(struct kvs *kv)
{
	struct kvs_stats s = {};

	s.size = sizeof(s);
	if (kvs_stats(kv, &s) != KVS_OK)
		fail("no statistics");
	return s;
}

double fresh_steps(uint64_t keys, uint64_t *ret_buckets)
{
	struct kvs *kv = open_store(keys);
	random_numbers random(1);
	double steps = 0;

	fill(kv, 0, keys);
	/* As long as heads are being linked it is not what it will be. */
	while (stats_of(kv).buckets_linked < stats_of(kv).buckets)
		usleep(10000);
	for (int i = 0; i < 5; i++)
		steps += slice(kv, keys, random) / 5;
	*ret_buckets = stats_of(kv).buckets;
	kvs_free(kv);
	return steps;
}

bool settles(uint64_t keys)
{
	uint64_t buckets;
	double fresh = fresh_steps(keys, &buckets);
	struct kvs *kv = open_store(0);
	random_numbers random(2);
	int settled_at = slices; /* the first slice from which on all are good */

	fill(kv, 0, keys / 16);
	usleep(500000);
	fill(kv, keys / 16, keys);
	printf("%llu -> %llu keys; fresh: %.3f nodes a get, %llu buckets; grown, each 100 ms:\n ",
	       (unsigned long long)keys / 16, (unsigned long long)keys, fresh,
	       (unsigned long long)buckets);
	for (int i = 0; i < slices; i++) {
		double steps = slice(kv, keys, random);
		bool good = fabs(steps / fresh - 1) <= tolerance;

		settled_at = !good ? slices : settled_at < i ? settled_at : i;
		printf(" %.3f", steps);
	}
	printf("\n  %llu buckets, %llu linked; %s\n", (unsigned long long)stats_of(kv).buckets,
	       (unsigned long long)stats_of(kv).buckets_linked,
	       settled_at < slices_allowed ? "within 10 % in time" : "NOT within 10 % in time");
	fflush(stdout);
	kvs_free(kv);
	return settled_at < slices_allowed;
}

} // namespace

int main(int argc, char **argv)
{
	bool ok = true;

	if (argc < 2) {
		ok = settles(1 << 20);
		ok &= settles(10000000);
	}
	for (int i = 1; i < argc; i++)
		ok &= settles(number_of("KEYS", argv[i]));
	return ok ? 0 : 1;
}
