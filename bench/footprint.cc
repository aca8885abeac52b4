/* SPDX-License-Identifier: MIT */
/*
 * footprint.cc - resident memory of a store: empty, small, and with millions of entries.
 *
 * Resident memory after loading and draining, minus before opening, minus the bytes of keys and
 * values, is what the store costs; beside it what its own counters say. Every line is a new
 * process. Usage: footprint [KEYS]
 *
 * The first store of a process also makes pages of the C library and of ours resident, which processes share. How many
 * depends on what ran before: a forked child has to fault in all of the C library's again. So that line is
 * measured in a program of its own (footprint empty), and says what of it is memory that was allocated.
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
	double anonymous; /* of these, allocated */
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
	double before, allocated;

	if (warmed)
		warm();
	before = (double)resident_bytes();
	allocated = (double)anonymous_bytes();
	before = (double)resident_bytes();
	if (kvs_open(nullptr, &kv) != KVS_OK || (s.keys && !fill(kv, s)))
		return;
	ret->grown = (double)resident_bytes() - before;
	ret->anonymous = (double)anonymous_bytes() - allocated;
	stats.size = sizeof(stats);
	if (kvs_stats(kv, &stats) != KVS_OK)
		return;
	ret->payload = (double)s.keys * (s.key_len + s.value_len);
	ret->accounted = (double)(stats.bytes_live + stats.bytes_index + stats.bytes_deferred);
	ret->mapped = (double)(stats.bytes_mapped + stats.bytes_index);
	ret->ok = true;
}

void show(const char *title, const shape &s, const outcome &o)
{
	double keys = s.keys ? (double)s.keys : 1;

	printf("%-28s resident %9.0f KiB (allocated %9.0f), by our counters %9.0f KiB (mapped %9.0f KiB)",
	       title, o.grown / 1024, o.anonymous / 1024, o.accounted / 1024, o.mapped / 1024);
	if (s.keys)
		printf("\n%-28s overhead %.2f B an entry, by our counters %.2f B; counters / resident "
		       "%+.1f %% in all",
		       "", (o.grown - o.payload) / keys, (o.accounted - o.payload) / keys,
		       (o.accounted / o.grown - 1) * 100);
	printf("\n");
	fflush(stdout);
}

void print(const char *title, const shape &s)
{
	outcome o;

	if (!in_child([&](outcome *ret) { measure(s, true, ret); }, &o) || !o.ok) {
		fprintf(stderr, "footprint: the child failed\n");
		exit(1);
	}
	show(title, s, o);
}

/* The same program anew: its child would not do, see above. */
void print_first()
{
	int status = 1;
	pid_t pid = fork();

	if (pid == 0) {
		execl("/proc/self/exe", "footprint", "empty", nullptr);
		_exit(1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "footprint: the child failed\n");
		exit(1);
	}
}

} // namespace

int main(int argc, char **argv)
{
	uint64_t keys;

	if (argc > 1 && strcmp(argv[1], "empty") == 0) {
		outcome o = {};

		measure({ 0, 12, 100 }, false, &o);
		show("empty, first of the process", { 0, 12, 100 }, o);
		return !o.ok;
	}
	keys = argc > 1 ? number_of("KEYS", argv[1]) : 10000000;
	print_first();
	print("empty, a later one", { 0, 12, 100 });
	print("10,000 keys, 12 + 100 B", { 10000, 12, 100 });
	print("all keys, 12 + 100 B", { keys, 12, 100 });
	print("all keys, 12 + 8 B", { keys, 12, 8 });
	return 0;
}
