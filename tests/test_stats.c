/* SPDX-License-Identifier: MIT */
/* test_stats.c - the counts are exact at rest, and kvs_stats fills only what the caller has. */
#include "configs.h"

#include <sched.h>
#include <string.h>

/* Builds for sanitizers and valgrind take each entry from malloc. */
#ifdef KVS_PLAIN_ALLOC
#define PLAIN_ALLOC true
#else
#define PLAIN_ALLOC false
#endif

static char room[KEY_ROOM];

static void counts_operations(struct fixture *f)
{
	struct kvs_slice a = kvs_str("a"), b = kvs_str("b"), v = kvs_str("v");
	struct kvs_value value;
	struct kvs_stats s;
	uint64_t version;

	check_ok(kvs_set(f->kv, a, v, &version)); /* insert */
	check_ok(kvs_set(f->kv, a, v, &version)); /* overwrite */
	check_ok(kvs_add(f->kv, b, v, NULL));     /* insert */
	check_status(kvs_add(f->kv, b, v, NULL), KVS_ERR_DUPLICATE);
	check_ok(kvs_replace(f->kv, a, v, &version));                    /* overwrite */
	check_ok(kvs_compare_and_set(f->kv, a, v, version, NULL));       /* overwrite */
	check_ok(kvs_get_and_set(f->kv, kvs_str("c"), v, &value, NULL)); /* insert */
	check_ok(kvs_get_and_set(f->kv, kvs_str("c"), v, &value, NULL)); /* overwrite */
	kvs_value_free(f->kv, &value);
	check_ok(kvs_delete(f->kv, b, NULL)); /* delete */
	check_status(kvs_delete(f->kv, b, NULL), KVS_ERR_NOT_FOUND);
	check_ok(kvs_get_and_delete(f->kv, kvs_str("c"), &value)); /* delete */
	kvs_value_free(f->kv, &value);
	s = store_stats(f->kv);
	check_u64(s.inserts, 3);
	check_u64(s.overwrites, 4);
	check_u64(s.deletes, 2);
	check_u64(s.keys, 1);
}

static void test_writes_are_counted_by_kind(void **state)
{
	(void)state;
	each_config(counts_operations);
}

static void counts_reads(struct fixture *f)
{
	struct kvs_value value;
	struct kvs_stats before, after;

	set_pattern(f->kv, 1, 10, 1);
	before = store_stats(f->kv);
	for (int i = 0; i < 7; i++)
		check_pattern(f->kv, 1, 10, 1); /* a borrow */
	check_ok(kvs_exists(f->kv, make_key(room, 1)));
	check_ok(kvs_get_alloc(f->kv, make_key(room, 1), &value));
	kvs_value_free(f->kv, &value);
	check_ok(kvs_get(f->kv, make_key(room, 1), room, 16, NULL));
	check(!key_present(f->kv, 2));
	check_status(kvs_get(f->kv, make_key(room, 2), NULL, 0, NULL), KVS_ERR_NOT_FOUND);
	after = store_stats(f->kv);
	check_u64(after.hits - before.hits, 10);
	check_u64(after.misses - before.misses, 2);
}

static void test_hits_and_misses_are_counted(void **state)
{
	(void)state;
	each_config(counts_reads);
}

static void read_some(size_t index, void *arg)
{
	char mine[KEY_ROOM];

	for (int i = 0; i < 500; i++) {
		check_ok(kvs_exists(arg, make_key(mine, 1)));
		check_status(kvs_exists(arg, make_key(mine, 2)), KVS_ERR_NOT_FOUND);
		set_pattern(arg, 1000 + index * 1000 + (uint64_t)i, 4, 1);
	}
}

static void counts_of_threads(struct fixture *f)
{
	struct kvs_stats s;

	set_pattern(f->kv, 1, 10, 1);
	run_threads(4, read_some, f->kv);
	run_threads(4, read_some, f->kv); /* the same keys from new threads: overwrites */
	s = store_stats(f->kv);
	check_u64(s.hits, 4000);
	check_u64(s.misses, 4000);
	check_u64(s.inserts, 2001);
	check_u64(s.overwrites, 2000);
	check_u64(s.keys, 2001);
}

static void test_counts_of_threads_that_ended_stay(void **state)
{
	(void)state;
	each_config(counts_of_threads);
}

static void bytes(struct fixture *f)
{
	struct kvs_stats empty = store_stats(f->kv), full, drained;

	for (uint64_t i = 0; i < 1000; i++)
		set_pattern(f->kv, i, 200, i);
	full = store_stats(f->kv);
	check(full.bytes_live >= 1000 * (200 + 11));
	check(full.bytes_live <= 1000 * (200 + 11 + 128)); /* header, rounding */
	check_u64(empty.bytes_live, 0);
	check(full.bytes_index > 0);
	check((full.bytes_mapped == 0) == (f->config.allocator || PLAIN_ALLOC));
	for (uint64_t i = 0; i < 1000; i++)
		check_ok(kvs_delete(f->kv, make_key(room, i), NULL));
	check_u64(store_stats(f->kv).bytes_live, 0);
	check_ok(kvs_drain(f->kv));
	drained = store_stats(f->kv);
	check_u64(drained.bytes_deferred, 0);
	check_u64(drained.keys, 0);
}

static void test_bytes_of_entries(void **state)
{
	(void)state;
	each_config(bytes);
}

/* A section holds back what was removed after its begin: it is counted, not freed. */
static void deferred_in_section(struct fixture *f)
{
	set_pattern(f->kv, 1, 5000, 1);
	check_ok(kvs_drain(f->kv));
	check_u64(store_stats(f->kv).bytes_deferred, 0);
	kvs_read_begin(f->kv);
	check_ok(kvs_delete(f->kv, make_key(room, 1), NULL));
	check(store_stats(f->kv).bytes_deferred >= 5000);
	kvs_read_end(f->kv);
	check_ok(kvs_drain(f->kv));
	check_u64(store_stats(f->kv).bytes_deferred, 0);
}

static void test_deferred_bytes_are_visible(void **state)
{
	(void)state;
	each_config(deferred_in_section);
}

static void freed_by_drain(struct fixture *f)
{
	uint64_t blocks;

	if (!f->config.allocator)
		return;
	for (uint64_t i = 0; i < 100; i++)
		set_pattern(f->kv, i, 100, i);
	check_ok(kvs_drain(f->kv));
	blocks = atomic_load(&f->mem.live_blocks);
	for (uint64_t i = 0; i < 100; i++) /* one call per entry, and drain gives it back */
		check_ok(kvs_delete(f->kv, make_key(room, i), NULL));
	check_ok(kvs_drain(f->kv));
	check(atomic_load(&f->mem.live_blocks) <= blocks - 95); /* less a batch or two */
}

static void test_drain_gives_deleted_entries_back(void **state)
{
	(void)state;
	each_config(freed_by_drain);
}

static void test_growth_and_shrink_are_counted(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	const uint64_t count = 50000;
	struct kvs_stats grown, shrunk;
	struct kvs *kv = NULL;

	(void)state;
	opts.shards = 1;
	check_ok(kvs_open(&opts, &kv));
	check_u64(store_stats(kv).growths, 0);
	for (uint64_t i = 0; i < count; i++)
		set_pattern(kv, i, 1, i);
	do { /* maintenance links what inserts have not */
		sched_yield();
		grown = store_stats(kv);
	} while (grown.buckets_linked < grown.buckets);
	check(grown.growths > 0 && grown.shrinks == 0 && grown.growths_failed == 0);
	check(grown.buckets >= count / 2);
	for (uint64_t i = 10; i < count; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	do { /* maintenance shrinks, step by step; calls that wait would keep it off */
		sched_yield();
		shrunk = store_stats(kv);
	} while (shrunk.buckets > grown.buckets / 16);
	check(shrunk.shrinks > 0);
	for (uint64_t i = 0; i < 10; i++)
		check_pattern(kv, i, 1, i);
	close_store(kv);
}

static void test_chain_lengths(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_stats s;

	(void)state;
	for (uint64_t i = 0; i < 20000; i++)
		set_pattern(kv, i, 1, i);
	do {
		sched_yield();
		s = store_stats(kv);
	} while (s.buckets_linked < s.buckets);
	check(s.chain_p50 <= s.chain_p99 && s.chain_p99 <= s.chain_max);
	check(s.chain_max > 0 && s.chain_p50 <= 4 && s.chain_p99 <= 12);
	check(s.chain_mean_milli > 100 && s.chain_mean_milli <= 2200); /* doubling at load 2 */
	check(s.chain_mean_milli >= 20000 * 950 / s.buckets); /* a sample, but a large one */
	check(s.chain_mean_milli <= 20000 * 1050 / s.buckets);
	close_store(kv);
}

/* ---- Sizes of the struct ---------------------------------------------------------------- */

static void test_only_what_the_caller_has_is_written(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_stats whole;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		set_pattern(kv, i, 10, i);
	whole = store_stats(kv);
	for (size_t size = sizeof(size_t); size <= sizeof(whole); size += 8) {
		struct kvs_stats part;

		memset(&part, 0xab, sizeof(part));
		part.size = size;
		check_ok(kvs_stats(kv, &part));
		for (size_t i = size; i < sizeof(part); i++)
			check(((unsigned char *)&part)[i] == 0xab);
		check(size < offsetof(struct kvs_stats, bytes_live) || part.keys == whole.keys);
		check(size < offsetof(struct kvs_stats, overwrites) || part.inserts == 100);
	}
	close_store(kv);
}

static void test_a_size_too_small_to_hold_itself(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	for (size_t size = 0; size < sizeof(size_t); size++) {
		struct kvs_stats stats = { .size = size };

		check_status(kvs_stats(kv, &stats), KVS_ERR_INVALID_ARGUMENT);
		check_u64(stats.keys, 0);
	}
	close_store(kv);
}

static void test_a_longer_struct_of_a_later_caller(void **state)
{
	struct {
		struct kvs_stats known;
		uint64_t more[4];
	} stats = { { .size = sizeof(stats) }, { 1, 2, 3, 4 } };
	struct kvs *kv = open_default();

	(void)state;
	set_pattern(kv, 1, 10, 1);
	check_ok(kvs_stats(kv, &stats.known));
	check_u64(stats.known.keys, 1);
	check_u64(stats.known.size, sizeof(stats));
	for (size_t i = 0; i < ARRAY_LEN(stats.more); i++)
		check_u64(stats.more[i], 0); /* what this library does not count */
	close_store(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writes_are_counted_by_kind),
		cmocka_unit_test(test_hits_and_misses_are_counted),
		cmocka_unit_test(test_counts_of_threads_that_ended_stay),
		cmocka_unit_test(test_bytes_of_entries),
		cmocka_unit_test(test_deferred_bytes_are_visible),
		cmocka_unit_test(test_drain_gives_deleted_entries_back),
		cmocka_unit_test(test_growth_and_shrink_are_counted),
		cmocka_unit_test(test_chain_lengths),
		cmocka_unit_test(test_only_what_the_caller_has_is_written),
		cmocka_unit_test(test_a_size_too_small_to_hold_itself),
		cmocka_unit_test(test_a_longer_struct_of_a_later_caller),
	};

	return util_main("stats", tests, ARRAY_LEN(tests));
}
