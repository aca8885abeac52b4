/* SPDX-License-Identifier: MIT */
/*
 * footprint.cc - resident memory of a store: empty, small, and with millions of entries.
 *
 * Resident memory after loading and draining, minus before opening, minus the bytes of keys and
 * values, is what the store costs; beside it what its own counters say. Every line is a new
 * process. Usage: footprint [KEYS]
 */
#include <stdio.h>

#include "keys.h"
#include "kvs.h"
#include "process.h"

using namespace bench;

namespace
{

struct outcome {
	bool ok;
	double grown;     /* resident bytes */
	double payload;   /* bytes of keys and values */
	double accounted; /* entries and directories, by the counters */
	double mapped;    /* taken from the system, likewise */
};

bool fill(struct kvs *kv, const shape &s)
{
	pair_maker pair(s);

	for (uint64_t i = 0; i < s.keys; i++) {
		bytes key;
		bytes value;

		pair.set(i);
		key = pair.key_bytes();
		value = pair.value_bytes();
		if (kvs_set(kv, kvs_bytes(key.data, key.len), kvs_bytes(value.data, value.len),
			    nullptr) != KVS_OK)
			return false;
	}
	return kvs_drain(kv) == KVS_OK;
}

/* What any first call of these costs is not the store's: once before the measurement. */
void warm()
{
	struct kvs *kv;

	if (kvs_open(nullptr, &kv) == KVS_OK)
		kvs_free(kv);
	(void)resident_bytes();
}

void measure(const shape &s, bool warmed, outcome *ret)
{
	struct kvs_stats stats = {};
	struct kvs *kv;
	double before;

	if (warmed)
		warm();
	before = (double)resident_bytes();
	before = (double)resident_bytes();
	if (kvs_open(nullptr, &kv) != KVS_OK || (s.keys && !fill(kv, s)))
		return;
	ret->grown = (double)resident_bytes() - before;
	stats.size = sizeof(stats);
	if (kvs_stats(kv, &stats) != KVS_OK)
		return;
	ret->payload = (double)s.keys * (s.key_len + s.value_len);
	ret->accounted = (double)(stats.bytes_live + stats.bytes_index + stats.bytes_deferred);
	ret->mapped = (double)(stats.bytes_mapped + stats.bytes_index);
	ret->ok = true;
}

void print(const char *title, const shape &s, bool warmed)
{
	double keys = s.keys ? (double)s.keys : 1;
	outcome o;

	if (!in_child([&](outcome *ret) { measure(s, warmed, ret); }, &o) || !o.ok) {
		fprintf(stderr, "footprint: the child failed\n");
		exit(1);
	}
	printf("%-28s resident %9.0f KiB, by our counters %9.0f KiB (mapped %9.0f KiB)", title,
	       o.grown / 1024, o.accounted / 1024, o.mapped / 1024);
	if (s.keys)
		printf("\n%-28s overhead %.2f B an entry, by our counters %.2f B; counters / resident "
		       "%+.1f %% in all",
		       "", (o.grown - o.payload) / keys, (o.accounted - o.payload) / keys,
		       (o.accounted / o.grown - 1) * 100);
	printf("\n");
	fflush(stdout);
}

} // namespace

int main(int argc, char **argv)
{
	uint64_t keys = argc > 1 ? number_of("KEYS", argv[1]) : 10000000;

	print("empty, first of the process", { 0, 12, 100 }, false);
	print("empty, a later one", { 0, 12, 100 }, true);
	print("10,000 keys, 12 + 100 B", { 10000, 12, 100 }, true);
	print("all keys, 12 + 100 B", { keys, 12, 100 }, true);
	print("all keys, 12 + 8 B", { keys, 12, 8 }, true);
	return 0;
}
