/* SPDX-License-Identifier: MIT */
/*
 * test_memory.c - memory is bounded, counted and given back: limits, stalls, stores without threads.
 *
 * Most of it runs in a store without threads, where nothing happens but what the test calls for, under a
 * clock of the test's own.
 */
#include "util.h"

#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "configs.h"
#include "host.h"
#include "maintain.h"
#include "store.h"

#define BATCH ((uint64_t)KVS__BATCH_ROOM)

/* ---- a store without threads, and its clock ---- */

static _Atomic uint64_t fake_ms;
static _Atomic uint64_t fake_looks; /* of stores' threads */

static int64_t fake_clock(void *ctx)
{
	(void)ctx;
	if (kvs__maintainer_is_here())
		atomic_fetch_add(&fake_looks, 1);
	return (int64_t)atomic_load(&fake_ms);
}

static struct kvs *open_with(const struct kvs_options *opts)
{
	static const struct kvs_clock clock = { fake_clock, fake_clock, NULL };
	struct kvs_options timed = *opts;
	struct kvs *kv = NULL;

	atomic_store(&fake_ms, 1000);
	timed.clock = &clock;
	check_ok(kvs_open(&timed, &kv));
	return kv;
}

static struct kvs_options no_threads(void)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	opts.flags = KVS_OPEN_NO_THREADS;
	opts.shards = 4;
	return opts;
}

static struct kvs *open_no_threads(void)
{
	struct kvs_options opts = no_threads();

	return open_with(&opts);
}

/* Returns when it wants to be called again; REST: not before a write. */
#define REST UINT64_MAX

static uint64_t run(struct kvs *kv, uint64_t budget, uint32_t flags)
{
	int next = -2;

	check_ok(kvs_run(kv, budget, flags, &next));
	check(next >= -1 && next <= KVS__TICK_MS);
	return next < 0 ? REST : (uint64_t)next;
}

/* As a program's loop: time goes on by what kvs_run asked for. Returns the number of calls. */
static unsigned run_to_rest(struct kvs *kv)
{
	unsigned calls = 0;
	uint64_t next;

	while ((next = run(kv, 0, 0)) != REST) {
		atomic_fetch_add(&fake_ms, next);
		calls++;
	}
	return calls;
}

static void fill(struct kvs *kv, uint64_t count, size_t len, uint64_t tag)
{
	for (uint64_t i = 0; i < count; i++)
		set_pattern(kv, i, len, tag);
}

/* ---- counting ---- */

static void test_live_bytes_are_blocks(void **state)
{
	struct kvs *kv = open_default();
	uint64_t sum = 0;

	(void)state;
	for (uint64_t i = 0; i < 3000; i++) {
		size_t len = i % 1500;
		size_t size = KVS__HEADER + 11 + len;

		set_pattern(kv, i, len, 1);
		sum += kv->pool.arena ? kvs__arena_block_size(size) : size;
	}
	check_u64(store_stats(kv).bytes_live, sum);
	if (kv->pool.arena)
		check(store_stats(kv).bytes_mapped >= sum);
	fill(kv, 3000, 7, 2);
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_live,
		  3000 * (kv->pool.arena ? kvs__arena_block_size(KVS__HEADER + 18)
					 : KVS__HEADER + 18));
	check_u64(store_stats(kv).bytes_deferred, 0);
	close_store(kv);
}

/* A value in a block of its own, which kvs_expire, kvs_touch and kvs_persist hand on instead of copying it. */
#define LARGE ((uint64_t)4 << 20)

static void check_large(struct kvs *kv, uint64_t live)
{
	struct kvs_stats st = store_stats(kv);

	check_u64(st.bytes_live, live);
	check(st.bytes_deferred < 100000);
	check_ok(kvs_drain(kv));
	st = store_stats(kv);
	check_u64(st.bytes_live, live);
	check_u64(st.bytes_deferred, 0);
	check_u64(st.bytes_pinned, 0);
	check_pattern(kv, 0, LARGE, 7);
}

/* The blocks that come back are of entries that were renewed: what they say of themselves is not the new one's. */
static void test_equal_contents_count_the_same_in_used_blocks(void **state)
{
	uint64_t live[4] = { 0 };
	struct kvs *kv = open_default();
	char room[KEY_ROOM];

	(void)state;
	for (unsigned round = 0; round < ARRAY_LEN(live); round++) {
		fill(kv, 1000, 4200, round);
		live[round] = store_stats(kv).bytes_live;
		for (uint64_t i = 0; i < 1000; i++)
			check_ok(kvs_expire(kv, make_key(room, i), 3600000, NULL));
		check_ok(kvs_drain(kv));
	}
	util_note("live bytes %llu, then %llu", (unsigned long long)live[0],
		  (unsigned long long)live[3]);
	for (unsigned round = 1; round < ARRAY_LEN(live); round++)
		check_u64(live[round], live[0]);
	fill(kv, 1000, 8, 0);
	for (uint64_t i = 0; i < 1000; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	check_u64(store_stats(kv).bytes_live, 0);
	close_store(kv);
}

static void test_a_value_handed_on_counts_once(void **state)
{
	struct kvs_options opts = no_threads();
	uint64_t live, timed;
	struct kvs_pin pin;
	struct kvs_value v;
	struct kvs *kv;

	(void)state;
	opts.deferred_hard = 1 << 20;
	opts.max_memory = LARGE + (1 << 20);
	kv = open_with(&opts);
	set_pattern(kv, 0, LARGE, 7);
	live = store_stats(kv).bytes_live;
	check(live >= LARGE);
	for (unsigned n = 0; n < 10; n++) {
		check_ok(kvs_expire(kv, kvs_str("key-0000000"), 1000 + n, NULL));
		timed = store_stats(kv).bytes_live;
		check(timed > live && timed < live + 200);
		check_large(kv, timed);
		check_ok(kvs_touch(kv, kvs_str("key-0000000"), 100000 + n, NULL));
		check_large(kv, timed);
		check_ok(kvs_persist(kv, kvs_str("key-0000000"), NULL));
		check_large(kv, live);
	}
	/* before the grace period is over too: nothing but headers is deferred, and no limit is near */
	check_ok(kvs_touch(kv, kvs_str("key-0000000"), 1, NULL));
	for (unsigned n = 0; n < 10; n++)
		check_ok(kvs_expire(kv, kvs_str("key-0000000"), 1000 + n, NULL));
	(void)run(kv, 0, KVS_RUN_DONT_WAIT);
	check_u64(store_stats(kv).bytes_live, timed);
	check(store_stats(kv).bytes_deferred > 0);
	check_ok(kvs_persist(kv, kvs_str("key-0000000"), NULL));
	check_large(kv, live);
	/* a pin holds the old entry's header; the block is the present one's */
	check_ok(kvs_pin(kv, kvs_str("key-0000000"), &v, &pin));
	check_ok(kvs_expire(kv, kvs_str("key-0000000"), 1000, NULL));
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_live, timed);
	check(store_stats(kv).bytes_pinned > 0 && store_stats(kv).bytes_pinned < 200);
	kvs_unpin(kv, &pin);
	check_u64(store_stats(kv).bytes_pinned, 0);
	/* and it leaves once, with the last that shows it */
	check_ok(kvs_delete(kv, kvs_str("key-0000000"), NULL));
	check_u64(store_stats(kv).bytes_live, 0);
	check_u64(store_stats(kv).bytes_deferred, timed);
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
	set_pattern(kv, 0, LARGE, 7);
	check_ok(kvs_expire(kv, kvs_str("key-0000000"), 1000, NULL));
	check_ok(kvs_clear(kv));
	check_u64(store_stats(kv).bytes_live, 0);
	set_pattern(kv, 0, LARGE, 7); /* max_memory has not lost count */
	check_large(kv, live);
	close_store(kv);
}

/* ---- the soft limit ---- */

static void test_writers_help_above_the_soft_limit(void **state)
{
	struct kvs_options opts = no_threads();
	struct kvs *kv;
	uint64_t before;

	(void)state;
	opts.deferred_soft = 1;
	kv = open_with(&opts);
	fill(kv, 20 * BATCH, 8, 1);
	fill(kv, 20 * BATCH, 8, 2); /* 20 batches, none of them ripe */
	check_u64(store_stats(kv).helped, 0);
	before = store_stats(kv).bytes_deferred;
	check_u64(run(kv, 1, 0), 0); /* a grace period for all, and one batch freed */
	check(store_stats(kv).bytes_deferred < before && store_stats(kv).bytes_deferred > 0);
	fill(kv, 5 * BATCH, 8, 3); /* 5 more handed over, two freed for each */
	check_u64(store_stats(kv).helped, 10);
	(void)run_to_rest(kv);
	check_u64(store_stats(kv).bytes_deferred, 0);
	check_pattern(kv, 4 * BATCH, 8, 3);
	check_pattern(kv, 6 * BATCH, 8, 2);
	close_store(kv);
}

static void overwrite_some(size_t index, void *arg)
{
	(void)index;
	for (uint64_t round = 0; round < util_scaled(5, 40, 400); round++)
		fill(arg, 10 * BATCH, 40, round);
}

/* Everything becomes ripe first, is freed by whoever comes, and nothing is forgotten. */
static void test_all_free_together_above_the_soft_limit(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv;

	(void)state;
	opts.deferred_soft = 1;
	check_ok(kvs_open(&opts, &kv));
	run_threads(3, overwrite_some, kv);
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
	util_note("writers freed %llu batches", (unsigned long long)store_stats(kv).helped);
	/* and without drain, by the thread alone */
	fill(kv, 10 * BATCH, 40, 1);
	while (store_stats(kv).bytes_deferred)
		sched_yield();
	close_store(kv);
}

/* ---- the hard limit ---- */

#define HARD ((uint64_t)1 << 20)
#define SLACK (KVS__BATCH_BYTES + 2048) /* one thread's batch and one entry */

/* Overwrite key 0 until that is refused; returns the version that it has. */
static uint64_t overwrite_to_the_limit(struct kvs *kv)
{
	unsigned char value[1000];
	uint64_t version = 0;
	uint64_t n = 0;
	int err;

	pattern_fill(value, sizeof(value), 7);
	do {
		err = kvs_set(kv, kvs_str("key-0000000"), kvs_bytes(value, sizeof(value)),
			      &version);
		n++;
		check(n < 10000);
	} while (!err);
	check_status(err, KVS_ERR_MEMORY_LIMIT);
	check(store_stats(kv).bytes_deferred >= HARD);
	check(store_stats(kv).bytes_deferred <= HARD + SLACK);
	return version;
}

static void refused_at_the_hard_limit(struct kvs *kv)
{
	uint64_t version = overwrite_to_the_limit(kv);
	struct kvs_value v = { NULL, 0, 0, 0 };
	uint64_t len = store_len(kv);
	uint64_t limited = store_stats(kv).limited;
	char room[KEY_ROOM];

	check(limited > 0);
	check_status(kvs_delete(kv, kvs_str("key-0000000"), NULL), KVS_ERR_MEMORY_LIMIT);
	check_status(kvs_replace(kv, kvs_str("key-0000000"), kvs_str("x"), NULL),
		     KVS_ERR_MEMORY_LIMIT);
	check_status(kvs_compare_and_set(kv, kvs_str("key-0000000"), kvs_str("x"), version, NULL),
		     KVS_ERR_MEMORY_LIMIT);
	check_status(kvs_get_and_set(kv, kvs_str("key-0000000"), kvs_str("x"), &v, NULL),
		     KVS_ERR_MEMORY_LIMIT);
	check_status(kvs_get_and_delete(kv, kvs_str("key-0000000"), &v), KVS_ERR_MEMORY_LIMIT);
	check_u64(store_stats(kv).limited, limited + 5);
	/* nothing was changed, reads go on, and so do writes that remove nothing */
	check_pattern(kv, 0, 1000, 7);
	check_status(kvs_delete(kv, kvs_str("none"), NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_add(kv, kvs_str("key-0000000"), kvs_str("x"), NULL), KVS_ERR_DUPLICATE);
	check_ok(kvs_set(kv, make_key(room, len), kvs_str("new"), NULL));
	check_u64(store_len(kv), len + 1);
}

static void test_hard_limit_without_threads(void **state)
{
	struct kvs_options opts = no_threads();
	struct kvs *kv;

	(void)state;
	opts.deferred_hard = HARD;
	kv = open_with(&opts);
	for (unsigned round = 0; round < 3; round++) {
		refused_at_the_hard_limit(kv);
		(void)run(kv, 0, 0);
		check_u64(store_stats(kv).bytes_deferred, 0);
	}
	/* what is ripe makes room for writes, without another call */
	(void)overwrite_to_the_limit(kv);
	check_u64(run(kv, 1, 0), 0);
	check(store_stats(kv).bytes_deferred > HARD / 2);
	fill(kv, 1, 1000, 8);
	check_pattern(kv, 0, 1000, 8);
	close_store(kv);
}

static void test_hard_limit_under_a_section(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_value v;
	struct kvs *kv;

	(void)state;
	opts.deferred_hard = HARD;
	check_ok(kvs_open(&opts, &kv));
	fill(kv, 1, 1000, 6);
	for (unsigned round = 0; round < util_scaled(2, 5, 50); round++) {
		/* or else what was removed before the section may be freed within */
		check_ok(kvs_drain(kv));
		kvs_read_begin(kv);
		check_ok(kvs_borrow(kv, kvs_str("key-0000000"), &v));
		refused_at_the_hard_limit(kv);
		check(pattern_matches(v.data, 1000, round ? 9 : 6)); /* still there */
		kvs_read_end(kv);
		check_ok(kvs_drain(kv));
		check_u64(store_stats(kv).bytes_deferred, 0);
		fill(kv, 1, 1000, 9);
	}
	close_store(kv);
}

/* Keys with a deadline are retired by way of the wheel, and count from then on. */
static void test_hard_limit_of_timed_keys(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	unsigned char value[1000];
	struct kvs *kv;
	uint64_t n = 0;
	int err;

	(void)state;
	opts.deferred_hard = HARD;
	check_ok(kvs_open(&opts, &kv));
	pattern_fill(value, sizeof(value), 7);
	kvs_read_begin(kv);
	while ((err = kvs_set_ex(kv, kvs_str("key"), kvs_bytes(value, sizeof(value)),
				 kvs_after(3600 * 1000), NULL)) == KVS_OK)
		n++;
	check_status(err, KVS_ERR_MEMORY_LIMIT);
	util_note("refused after %llu overwrites", (unsigned long long)n);
	check(n * 1000 >= HARD / 2);
	check(store_stats(kv).bytes_deferred >= HARD);
	check_ok(kvs_exists(kv, kvs_str("key")));
	kvs_read_end(kv);
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
	check_ok(kvs_set(kv, kvs_str("key"), kvs_str("value"), NULL));
	close_store(kv);
}

/* ---- max_memory ---- */

static uint64_t held(struct kvs *kv)
{
	struct kvs_stats s = store_stats(kv);

	return s.bytes_live + s.bytes_index;
}

static uint64_t insert_to_the_limit(struct kvs *kv, uint64_t from)
{
	char room[KEY_ROOM];
	int err;

	while ((err = kvs_set(kv, make_key(room, from), kvs_bytes(room, 20), NULL)) == KVS_OK)
		from++;
	check_status(err, KVS_ERR_MEMORY_LIMIT);
	return from;
}

static void at_max_memory(uint64_t max, uint32_t flags)
{
	static const char longer[200];
	struct kvs_options opts = KVS_OPTIONS_INIT;
	uint64_t count, version;
	char room[KEY_ROOM];
	struct kvs *kv;

	opts.max_memory = max;
	opts.flags = flags;
	opts.shards = 2;
	kv = open_with(&opts);
	count = insert_to_the_limit(kv, 0);
	check(held(kv) <= max &&
	      held(kv) + 200 > max); /* one thread: nothing is kept back from itself */
	check_u64(store_len(kv), count);
	check_status(kvs_add(kv, kvs_str("other"), kvs_str("value"), NULL), KVS_ERR_MEMORY_LIMIT);
	/* a larger value in a key's place is refused, and nothing is lost */
	check_status(kvs_set(kv, make_key(room, 0), kvs_bytes(longer, 200), NULL),
		     KVS_ERR_MEMORY_LIMIT);
	check_status(kvs_replace(kv, make_key(room, 0), kvs_bytes(longer, 200), NULL),
		     KVS_ERR_MEMORY_LIMIT);
	for (uint64_t i = 0; i < count; i++)
		check(key_present(kv, i));
	/* as large, or smaller: any number of times */
	for (unsigned n = 0; n < 2000; n++)
		check_ok(kvs_set(kv, make_key(room, n % count), kvs_bytes(longer, 20), &version));
	check_ok(kvs_set(kv, make_key(room, 1), kvs_str(""), NULL));
	for (uint64_t i = 0; i < count / 2; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	check(insert_to_the_limit(kv, count) >= count + count / 2 - 2);
	check(held(kv) <= max);
	check_ok(kvs_clear(kv));
	check(insert_to_the_limit(kv, 0) > count / 2);
	check(held(kv) <= max);
	close_store(kv);
}

static void test_max_memory(void **state)
{
	(void)state;
	at_max_memory(64 << 10, KVS_OPEN_NO_THREADS);
	at_max_memory(1 << 20, KVS_OPEN_NO_THREADS);
	at_max_memory(1 << 20, 0);
}

/* More than any memory is no limit. */
static void test_max_memory_beyond_what_is_counted(void **state)
{
	static const uint64_t limit[] = { INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(limit); i++) {
		struct kvs_options opts = no_threads();
		struct kvs *kv;

		opts.max_memory = limit[i];
		kv = open_with(&opts);
		fill(kv, 5000, 100, 1); /* directories grow too */
		check(store_stats(kv).growths > 0);
		fill(kv, 100, 5000, 2);
		check_u64(store_stats(kv).limited, 0);
		check_pattern(kv, 4999, 100, 1);
		close_store(kv);
	}
}

struct shared_limit {
	struct kvs *kv;
	_Atomic uint64_t inserted;
};

static void insert_own_keys(size_t index, void *arg)
{
	struct shared_limit *s = arg;
	uint64_t first = (index + 1) * 100000000;

	atomic_fetch_add(&s->inserted, insert_to_the_limit(s->kv, first) - first);
}

static void test_max_memory_of_many_threads(void **state)
{
	enum { THREADS = 4 };
	const uint64_t max = 4 << 20;
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct shared_limit s = { .kv = NULL };

	(void)state;
	opts.max_memory = max;
	s.kv = open_with(&opts);
	run_threads(THREADS, insert_own_keys, &s);
	check_u64(store_len(s.kv), atomic_load(&s.inserted));
	util_note("held %llu of %llu bytes", (unsigned long long)held(s.kv),
		  (unsigned long long)max);
	/* each may keep back a quantum; a directory may double in several threads' eyes at once */
	check(held(s.kv) <= max + THREADS * (max / 256 + 128));
	check(held(s.kv) >= max - THREADS * (max / 256 + 128));
	close_store(s.kv);
}

/* ---- max_memory beside a snapshot ---- */

#define BESIDE_KEYS 7000u
#define BESIDE_MAX ((uint64_t)1 << 20)

/* What becomes of the snapshot in a round. */
enum ending { WALKED, NOT_WALKED, GIVEN_UP, OUT_OF_MEMORY, ENDINGS };

/* Every key anew, with as much as it had; every third has a deadline. */
static void overwrite_all(struct kvs *kv)
{
	char room[KEY_ROOM];

	for (uint64_t i = 0; i < BESIDE_KEYS; i++) {
		struct kvs_expiry e = kvs_after(i % 3 ? 0 : 3600 * 1000);

		check_ok(kvs_set_ex(kv, make_key(room, i), kvs_bytes(room, 20), e, NULL));
	}
}

static void remove_from(struct kvs *kv, uint64_t first, uint64_t end)
{
	char room[KEY_ROOM];

	for (uint64_t i = first; i < end; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
}

/* New keys fit up to the limit, neither more nor less: what was overwritten is in no sum any more, and in none twice. */
static void check_the_limit(struct kvs *kv)
{
	uint64_t live = store_stats(kv).bytes_live;
	uint64_t end = insert_to_the_limit(kv, BESIDE_KEYS);

	check(end > BESIDE_KEYS + 100);
	check(held(kv) <= BESIDE_MAX && held(kv) + 200 > BESIDE_MAX);
	remove_from(kv, BESIDE_KEYS, end);
	check_u64(store_stats(kv).bytes_live, live);
}

static void end_snapshot(struct kvs_snapshot *s, enum ending how, struct counting *mem)
{
	struct kvs_snapshot_part *p;
	struct kvs_item item;

	if (how == WALKED || how == GIVEN_UP) {
		check_ok(kvs_snapshot_part_begin(s, &p));
		for (uint64_t n = 0; n < (how == WALKED ? BESIDE_KEYS : 10); n++)
			check_ok(kvs_snapshot_next(p, &item));
		if (how == WALKED)
			check_status(kvs_snapshot_next(p, &item), KVS_ERR_NOT_FOUND);
		kvs_snapshot_part_end(p);
	}
	if (how == OUT_OF_MEMORY)
		counting_fail(mem, 0, true);
	check_ok(kvs_snapshot_end(s, NULL));
	counting_fail_never(mem);
}

static void beside_a_snapshot(struct kvs *kv, enum ending how, struct counting *mem)
{
	uint64_t live = store_stats(kv).bytes_live;
	uint64_t failures = atomic_load(&mem->failures);
	uint64_t handed = store_stats(kv).handed_over;
	struct kvs_snapshot *s;

	check_ok(kvs_snapshot_begin(kv, NULL, &s));
	overwrite_all(kv);
	check_u64(store_stats(kv).handed_over, handed + BESIDE_KEYS);
	check_u64(store_stats(kv).bytes_live, live);
	check(store_stats(kv).snapshot_bytes > live);
	check_the_limit(kv);
	end_snapshot(s, how, mem);
	check((atomic_load(&mem->failures) > failures) == (how == OUT_OF_MEMORY));
	check_u64(store_stats(kv).snapshot_bytes, 0);
	check_u64(store_stats(kv).bytes_live, live);
	check_the_limit(kv);
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
}

/* Without threads, so that no shrink takes place: the directory stays as large as it is. */
static void max_memory_beside_snapshots(bool allocator)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct counting mem;
	struct kvs *kv;

	counting_init(&mem, true);
	opts.max_memory = BESIDE_MAX;
	opts.flags = KVS_OPEN_NO_THREADS;
	opts.shards = 1;
	if (allocator)
		opts.allocator = &mem.hooks;
	kv = open_with(&opts);
	overwrite_all(kv);
	check(held(kv) > BESIDE_MAX / 2); /* twice that does not fit */
	for (unsigned n = 0; n < 2 * ENDINGS; n++) {
		enum ending how = (enum ending)(n % ENDINGS);

		if (how != OUT_OF_MEMORY || allocator)
			beside_a_snapshot(kv, how, &mem);
	}
	util_note("%llu entries kept for %llu snapshots",
		  (unsigned long long)store_stats(kv).handed_over,
		  (unsigned long long)store_stats(kv).snapshots);
	close_store(kv);
}

static void test_max_memory_beside_a_snapshot(void **state)
{
	(void)state;
	max_memory_beside_snapshots(false);
	max_memory_beside_snapshots(true);
}

/* ---- stalls ---- */

struct stalls {
	struct kvs *kv;
	_Atomic unsigned calls;
	_Atomic uint64_t age_ms;
	_Atomic uint64_t deferred;
	_Atomic int close_answered;
};

static void on_stall(struct kvs *kv, uint64_t age_ms, uint64_t deferred, void *ctx)
{
	struct stalls *s = ctx;

	check(kv == s->kv);
	atomic_store(&s->age_ms, age_ms);
	atomic_store(&s->deferred, deferred);
	atomic_store(&s->close_answered, kv->maintainer.runs ? kvs_close(kv) : 0);
	check_u64(store_len(kv), 1);
	atomic_fetch_add(&s->calls, 1);
}

/* Until the store's thread has made a round from its beginning to its end, as its looks at the clock tell: fewer than 8 a round. */
static void await_a_round(void)
{
	uint64_t looks = atomic_load(&fake_looks);

	while (atomic_load(&fake_looks) < looks + 16)
		sched_yield();
}

static void test_stall_is_reported_once_a_period(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct stalls s = { .kv = NULL };

	(void)state;
	opts.stall_fn = on_stall;
	opts.stall_ctx = &s;
	opts.stall_ms = 1000;
	s.kv = open_with(&opts);
	for (unsigned stall = 0; stall < 3; stall++) {
		static const struct {
			uint64_t at;
			unsigned calls;
		} step[] = { { 0, 0 },    { 999, 0 },  { 1000, 1 }, { 1001, 1 },
			     { 1999, 1 }, { 2000, 2 }, { 5500, 3 }, { 5999, 3 } };
		uint64_t start;
		unsigned before = atomic_load(&s.calls);

		fill(s.kv, 1, 100, 1);
		kvs_read_begin(s.kv);
		fill(s.kv, 1, 100, 2);
		while (kvs__reclaim_age(&s.kv->reclaim, UINT64_MAX) == 0)
			sched_yield();
		start = atomic_load(&fake_ms);
		for (size_t i = 0; i < ARRAY_LEN(step); i++) {
			atomic_store(&fake_ms, start + step[i].at);
			await_a_round();
			check_u64(atomic_load(&s.calls) - before, step[i].calls);
			check_u64(store_stats(s.kv).deferred_age_ms, step[i].at);
		}
		check_u64(atomic_load(&s.age_ms), 5500);
		check(atomic_load(&s.deferred) > 0);
		kvs_read_end(s.kv);
		check_ok(kvs_drain(s.kv));
		check_u64(store_stats(s.kv).deferred_age_ms, 0);
		check_u64(store_stats(s.kv).stalls, atomic_load(&s.calls));
		check_u64(atomic_load(&s.calls) - before, 3);
		atomic_fetch_add(&fake_ms, 100000);
		check_ok(kvs_set(s.kv, kvs_str("key-0000000"), kvs_str("v"), NULL));
		check_ok(kvs_drain(s.kv)); /* nothing waits: no stall, whatever the time */
		check_u64(store_stats(s.kv).deferred_age_ms, 0);
		check_u64(atomic_load(&s.calls) - before, 3);
	}
	close_store(s.kv);
}

/* Without threads a grace period is waited for inside kvs_run only; between its calls no section holds anything back. */
static void test_no_stall_where_nobody_waits(void **state)
{
	struct kvs_options opts = no_threads();
	struct stalls s = { .kv = NULL };

	(void)state;
	opts.stall_fn = on_stall;
	opts.stall_ctx = &s;
	s.kv = open_with(&opts);
	fill(s.kv, 2, 100, 1);
	check_ok(kvs_delete(s.kv, kvs_str("key-0000001"), NULL));
	for (unsigned n = 0; n < 3; n++) {
		check_u64(run(s.kv, 0, KVS_RUN_DONT_WAIT), KVS__TICK_MS);
		check(store_stats(s.kv).bytes_deferred > 0); /* and nothing was freed */
		check_u64(store_stats(s.kv).deferred_age_ms, 0);
		atomic_fetch_add(&fake_ms, KVS_STALL_MS_DEFAULT + 1000);
	}
	check_u64(store_stats(s.kv).deferred_age_ms, 0);
	(void)run(s.kv, 0, 0);
	check_u64(store_stats(s.kv).bytes_deferred, 0);
	check_u64(store_stats(s.kv).stalls, 0);
	check_u64(atomic_load(&s.calls), 0);
	close_store(s.kv);
}

struct held_section {
	struct kvs *kv;
	sem_t open;
};

/* Holds a section open until somebody waits for it; by the clock for 25 seconds. */
static void *hold_section(void *arg)
{
	struct held_section *h = arg;

	kvs_read_begin(h->kv);
	check(sem_post(&h->open) == 0);
	while (kvs__reclaim_age(&h->kv->reclaim, UINT64_MAX) == 0)
		sched_yield();
	check_u64(store_stats(h->kv).deferred_age_ms, 0);
	atomic_fetch_add(&fake_ms, 25000);
	check_u64(store_stats(h->kv).deferred_age_ms, 25000);
	kvs_read_end(h->kv);
	return NULL;
}

static void test_stall_is_seen_by_who_waits(void **state)
{
	struct kvs_options opts = no_threads();
	struct stalls s = { .kv = NULL };
	struct held_section h;
	pthread_t holder;

	(void)state;
	opts.stall_fn = on_stall;
	opts.stall_ctx = &s;
	s.kv = h.kv = open_with(&opts);
	check(sem_init(&h.open, 0, 0) == 0);
	fill(s.kv, 1, 100, 1);
	for (unsigned n = 1; n <= 3; n++) {
		check(pthread_create(&holder, NULL, hold_section, &h) == 0);
		while (sem_wait(&h.open) != 0)
			;
		fill(s.kv, 1, 100, 2);
		(void)run(s.kv, 0, 0);
		check(pthread_join(holder, NULL) == 0);
		check_u64(atomic_load(&s.calls), n);
		check_u64(atomic_load(&s.age_ms), 25000);
		check_u64(store_stats(s.kv).deferred_age_ms, 0);
		(void)run_to_rest(s.kv);
		check_u64(atomic_load(&s.calls), n);
	}
	check_u64(store_stats(s.kv).stalls, 3);
	check(sem_destroy(&h.open) == 0);
	close_store(s.kv);
}

static void test_stall_is_seen_by_the_thread(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct stalls s = { .kv = NULL };
	uint64_t age, start;

	(void)state;
	opts.stall_fn = on_stall;
	opts.stall_ctx = &s;
	opts.stall_ms = 500;
	s.kv = open_with(&opts);
	fill(s.kv, 1, 100, 1);
	kvs_read_begin(s.kv);
	fill(s.kv, 1, 100, 2);
	while (kvs__reclaim_age(&s.kv->reclaim, UINT64_MAX) == 0)
		sched_yield(); /* time stands until the thread has seen it, however late */
	while ((age = store_stats(s.kv).deferred_age_ms) < 400) {
		check_u64(atomic_load(&s.calls), 0);
		atomic_fetch_add(&fake_ms, 1);
		sched_yield();
	}
	start = atomic_load(&fake_ms) - age;
	for (unsigned n = 1; n <= 3; n++) {
		atomic_store(&fake_ms, start + (uint64_t)n * 500);
		while (atomic_load(&s.calls) < n)
			sched_yield();
	}
	check(atomic_load(&s.deferred) > 0);
	check(atomic_load(&s.close_answered) == KVS_ERR_BUSY);
	kvs_read_end(s.kv);
	check_ok(kvs_drain(s.kv));
	check_u64(store_stats(s.kv).deferred_age_ms, 0);
	check_u64(atomic_load(&s.calls), 3);
	close_store(s.kv);
}

/* ---- kvs_run ---- */

static void test_open_starts_no_thread(void **state)
{
	size_t before = count_threads();
	struct kvs *kv = open_no_threads();
	struct kvs_snapshot *snapshot;

	(void)state;
	check_u64(count_threads(), before);
	fill(kv, 1000, 8, 1);
	fill(kv, 1000, 8, 2);
	check_ok(kvs_snapshot_begin(kv, NULL, &snapshot));
	fill(kv, 1000, 8, 3);
	check_ok(kvs_snapshot_end(snapshot, NULL));
	(void)run_to_rest(kv);
	check_ok(kvs_drain(kv));
	check_ok(kvs_clear(kv));
	check_u64(count_threads(), before);
	fill(kv, 1000, 8, 1);
	close_store(kv);
	check_u64(count_threads(), before);
}

static void test_run_frees_and_says_when(void **state)
{
	struct kvs *kv = open_no_threads();
	uint64_t deferred;

	(void)state;
	check_u64(run(kv, 0, 0), REST);
	fill(kv, 1, 8, 1);
	check_u64(run(kv, 0, 0), REST);
	fill(kv, 1, 8, 2);
	deferred = store_stats(kv).bytes_deferred;
	check(deferred > 0);
	check_u64(run(kv, 0, KVS_RUN_DONT_WAIT), KVS__TICK_MS); /* never waits, so frees nothing */
	check_u64(store_stats(kv).bytes_deferred, deferred);
	check_u64(run(kv, 0, 0), REST);
	check_u64(store_stats(kv).bytes_deferred, 0);
	/* a budget of one frees one batch a call */
	fill(kv, 10 * BATCH, 8, 1);
	(void)run_to_rest(kv);
	fill(kv, 10 * BATCH, 8, 2);
	deferred = store_stats(kv).bytes_deferred;
	for (uint64_t n = 1; n < 10; n++) {
		check_u64(run(kv, 1, n == 1 ? 0 : KVS_RUN_DONT_WAIT), 0);
		check_u64(store_stats(kv).bytes_deferred, deferred / 10 * (10 - n));
	}
	(void)run_to_rest(kv);
	check_u64(store_stats(kv).bytes_deferred, 0);
	close_store(kv);
}

static void test_run_is_refused(void **state)
{
	struct kvs *kv = open_no_threads();
	int next = 77;

	(void)state;
	check_status(kvs_run(NULL, 0, 0, &next), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_run(kv, 0, 2, &next), KVS_ERR_INVALID_ARGUMENT);
	kvs_read_begin(kv);
	check_status(kvs_run(kv, 0, 0, &next), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_run(kv, 0, KVS_RUN_DONT_WAIT, &next), KVS_ERR_IN_READ_SECTION);
	kvs_read_end(kv);
	check_ok(kvs_close(kv));
	check_status(kvs_run(kv, 0, 0, &next), KVS_ERR_STORE_CLOSED);
	check(next == 77);
	check_ok(kvs_free(kv));
}

struct borrower {
	struct kvs *kv;
	_Atomic int stage; /* 1: it has borrowed, 2: it may go */
	_Atomic bool ran;  /* the call that does not wait is over, the one that does comes */
	_Atomic bool done;
};

static void borrow_for_a_while(struct borrower *b)
{
	struct kvs_value v;

	kvs_read_begin(b->kv);
	check_ok(kvs_borrow(b->kv, kvs_str("key-0000000"), &v));
	atomic_store(&b->stage, 1);
	while (atomic_load(&b->stage) != 2) {
		check(pattern_matches(v.data, 100, 1));
		sched_yield();
	}
	check(pattern_matches(v.data, 100, 1));
	kvs_read_end(b->kv);
}

/* One borrows, one drives the store and waits for the other, one looks on. */
static void in_three_roles(size_t index, void *arg)
{
	struct borrower *b = arg;
	int err;

	if (index == 0) {
		borrow_for_a_while(b);
		return;
	}
	while (atomic_load(&b->stage) == 0)
		sched_yield();
	if (index == 1) {
		fill(b->kv, 1, 100, 2); /* what is borrowed is removed */
		check_u64(run(b->kv, 0, KVS_RUN_DONT_WAIT), KVS__TICK_MS);
		atomic_store(&b->ran, true);
		while ((err = kvs_run(b->kv, 0, 0, NULL)) == KVS_ERR_BUSY)
			sched_yield(); /* the one that looks on was in a call of its own */
		check_ok(err);
		check(atomic_load(&b->stage) == 2);
		atomic_store(&b->done, true);
		return;
	}
	while (!atomic_load(&b->ran))
		sched_yield();
	while ((err = kvs_run(b->kv, 0, KVS_RUN_DONT_WAIT, NULL)) == KVS_OK)
		sched_yield(); /* until the other one is at it */
	check_status(err, KVS_ERR_BUSY);
	check_u64(store_stats(b->kv).deferred_age_ms, 0); /* the clock stands */
	check(store_stats(b->kv).bytes_deferred > 0);
	atomic_store(&b->stage, 2);
}

static void test_run_waits_for_sections_and_keeps_others_out(void **state)
{
	(void)state;
	for (unsigned round = 0; round < util_scaled(3, 20, 200); round++) {
		struct counting mem;
		struct kvs_options opts = no_threads();
		struct borrower b = { .kv = NULL };

		counting_init(&mem, true); /* poisons what is freed */
		opts.allocator = &mem.hooks;
		b.kv = open_with(&opts);
		fill(b.kv, 1, 100, 1);
		run_threads(3, in_three_roles, &b);
		check(atomic_load(&b.done));
		check_u64(store_stats(b.kv).bytes_deferred, 0);
		close_store(b.kv);
		check_u64(atomic_load(&mem.live_blocks), 0);
	}
}

/* Growth is completed, shrink made, all through kvs_run with so small a budget. */
static void grow_and_shrink(uint64_t budget)
{
	struct kvs *kv = open_no_threads();
	const uint64_t count = util_scaled(2000, 20000, 100000);
	struct kvs_stats s;
	char room[KEY_ROOM];
	unsigned calls = 0;

	fill(kv, count, 8, 1);
	while (run(kv, budget, 0) == 0)
		calls++;
	s = store_stats(kv);
	check_u64(s.buckets_linked, s.buckets);
	check(s.growths > 0 && s.buckets >= count / 2);
	for (uint64_t i = 0; i < count; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	for (uint64_t next; (next = run(kv, budget, 0)) != REST; calls++) {
		check(calls < 1000000);
		atomic_fetch_add(&fake_ms, next);
	}
	s = store_stats(kv);
	util_note("budget %llu: %u calls, %llu halvings", (unsigned long long)budget, calls,
		  (unsigned long long)s.shrinks);
	check(s.shrinks >= 4 * 3 && s.buckets == 4 * 64); /* back to the smallest */
	check_u64(s.bytes_deferred, 0);
	check_u64(s.bytes_index, 4 * 64 * sizeof(kvs__head));
	fill(kv, count, 8, 2);
	check_u64(store_len(kv), count);
	close_store(kv);
}

static void test_run_grows_and_shrinks(void **state)
{
	(void)state;
	grow_and_shrink(1);
	grow_and_shrink(1000);
	grow_and_shrink(0);
}

/* Steps of a shrink that need a grace period are not made without one. */
static void test_shrink_waits_for_its_grace_periods(void **state)
{
	const uint64_t count = 2000;
	struct kvs *kv = open_no_threads();
	char room[KEY_ROOM];

	(void)state;
	fill(kv, count, 8, 1);
	(void)run_to_rest(kv);
	for (uint64_t i = 0; i < count; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	for (unsigned i = 0; i < 10; i++)
		check_u64(run(kv, 0, KVS_RUN_DONT_WAIT), KVS__TICK_MS);
	check(kv->maintainer.shrink == KVS__SHRINK_GP_1);
	check_u64(store_stats(kv).shrinks, 0);
	check_u64(run(kv, 0, 0), KVS__TICK_MS);
	check(kv->maintainer.shrink == KVS__SHRINK_GP_2);
	check(store_stats(kv).shrinks > 0);
	for (unsigned i = 0; i < 10; i++)
		check_u64(run(kv, 0, KVS_RUN_DONT_WAIT), KVS__TICK_MS);
	check(kv->maintainer.shrink == KVS__SHRINK_GP_2);
	/* the root goes meanwhile, and its segments with it */
	check_ok(kvs_clear(kv));
	check(kv->maintainer.shrink == KVS__SHRINK_NONE);
	check_u64(kv->pages.bytes, store_stats(kv).bytes_index);
	fill(kv, count, 8, 2);
	(void)run_to_rest(kv);
	check_u64(store_len(kv), count);
	close_store(kv);
}

/* Overwrites that nothing but kvs_run cleans up after: what is held does not depend on how long it goes on. */
static void test_overwrites_are_bounded(void **state)
{
	const uint64_t count = 2000;
	struct kvs *kv = open_no_threads();
	uint64_t mapped;

	(void)state;
	fill(kv, count, 100, 0);
	fill(kv, count, 100, 0);
	(void)run(kv, 0, 0);
	mapped = store_stats(kv).bytes_mapped;
	for (uint64_t round = 1; round <= util_scaled(20, 200, 2000); round++) {
		fill(kv, count, 100, round);
		atomic_fetch_add(&fake_ms, 10);
		check(store_stats(kv).bytes_deferred >= count * 100);
		(void)run(kv, 0, 0);
		check_u64(store_stats(kv).bytes_deferred, 0);
		check(store_stats(kv).bytes_mapped <= mapped);
	}
	close_store(kv);
}

/* ---- giving back ---- */

static uint64_t resident(struct kvs *kv)
{
	return kvs__arena_mapped(kv->pool.arena) - kvs__arena_given(kv->pool.arena);
}

static void delete_random(struct kvs *kv, uint64_t count, uint64_t keep_one_in)
{
	struct rng rng;
	char room[KEY_ROOM];

	rng_init(&rng, 1);
	for (uint64_t i = 0; i < count; i++)
		if (rng_below(&rng, keep_one_in))
			check_ok(kvs_delete(kv, make_key(room, i), NULL));
}

static void test_random_deletes_give_pages_back(void **state)
{
	const uint64_t count = util_scaled(100000, 300000, 1000000);
	struct kvs *kv = open_no_threads();
	uint64_t full, few;

	(void)state;
	fill(kv, count, 100, 1);
	full = store_stats(kv).bytes_mapped;
	delete_random(kv, count, 100);
	(void)run(kv, 0, 0);
	if (kv->pool.arena) {
		few = resident(kv); /* not at once: it may be wanted again soon */
		atomic_fetch_add(&fake_ms, 150);
		(void)run(kv, 0, 0);
		check(resident(kv) + ((uint64_t)1 << 20) > few / 2);
	}
	(void)run_to_rest(kv);
	if (kv->pool.arena) {
		few = resident(kv);
		util_note("%llu of %llu bytes stay", (unsigned long long)few,
			  (unsigned long long)full);
		check(few < full * 4 / 10);
		check(kvs__arena_check(kv->pool.arena) == NULL);
	}
	fill(kv, count, 100, 2);
	check(store_stats(kv).bytes_mapped <= full + full / 20);
	for (uint64_t i = 0; i < count; i++)
		check_pattern(kv, i, 100, 2);
	close_store(kv);
}

static void test_the_thread_gives_back_too(void **state)
{
	const uint64_t count = util_scaled(100000, 200000, 1000000);
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv;
	uint64_t full;

	(void)state;
	check_ok(kvs_open(&opts, &kv));
	fill(kv, count, 100, 1);
	full = store_stats(kv).bytes_mapped;
	delete_random(kv, count, 100);
	while (kv->pool.arena && resident(kv) >= full * 4 / 10)
		sched_yield();
	while (store_stats(kv).bytes_deferred || store_stats(kv).buckets > count / 2)
		sched_yield();
	close_store(kv);
}

/* ---- the end ---- */

/* There are filters to be made when it has been calm for long enough. */
static bool waits_for_calm(struct kvs *kv)
{
	const struct kvs__root *root = load_seq_cst(&kv->root);
	uint64_t filled = 0;

	for (uint64_t i = 0; i < root->shards; i++)
		filled += load_relaxed(&root->table[i].filled);
	return kv->maintainer.filters.done.full != filled;
}

/* A store is closed after so many steps of what happens to it. Returns false when it was at rest before. */
static bool close_after(unsigned steps, uint32_t flags)
{
	const uint64_t count = 1500;
	struct counting mem;
	struct kvs_options opts = no_threads();
	struct kvs *kv;
	bool rest = false;
	char room[KEY_ROOM];

	counting_init(&mem, steps % 2);
	opts.flags = flags;
	opts.deferred_soft = 1;
	opts.allocator = &mem.hooks;
	kv = open_with(&opts);
	fill(kv, count, 20, 1);
	for (uint64_t i = 0; i < count; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	while (steps-- && !rest) {
		rest = run(kv, 300, 0) == REST;
		atomic_fetch_add(&fake_ms, 10);
	}
	if (flags & KVS_OPEN_NO_THREADS)
		check(rest || kv->maintainer.shrink != KVS__SHRINK_NONE ||
		      store_stats(kv).bytes_deferred || store_stats(kv).buckets > 4 * 64 ||
		      waits_for_calm(kv));
	close_store(kv);
	check_u64(atomic_load(&mem.live_blocks), 0);
	check_u64(atomic_load(&mem.live_bytes), 0);
	return !rest;
}

static void test_close_at_any_moment(void **state)
{
	unsigned steps = 0;

	(void)state;
	while (close_after(steps, KVS_OPEN_NO_THREADS))
		steps++;
	util_note("closed at %u moments", steps);
	check(steps > 10);
}

static void in_a_child(struct kvs *kv, size_t before)
{
	check_ok(kvs_fork_child());
	check_u64(count_threads(), before);
	fill(kv, 1000, 8, 5);
	(void)run_to_rest(kv);
	check_u64(store_stats(kv).bytes_deferred, 0);
	check_pattern(kv, 999, 8, 5);
	close_store(kv);
	util_child_done();
}

static void test_fork_without_threads(void **state)
{
	struct kvs *kv = open_no_threads();
	size_t before;
	pid_t pid;

	(void)state;
	fill(kv, 1000, 8, 1);
	fill(kv, 1000, 8, 2);
	(void)run(kv, 1, 0); /* some are ripe, some parked */
	fill(kv, 1000, 8, 3);
	check_ok(kvs_fork_before());
	pid = util_fork();
	before = count_threads();
	if (pid == 0)
		in_a_child(kv, before);
	kvs_fork_parent();
	check_child(pid);
	(void)run_to_rest(kv);
	check_u64(store_stats(kv).bytes_deferred, 0);
	check_pattern(kv, 999, 8, 3);
	close_store(kv);
}

/* Beside the store's own threads kvs_run does the same work and waits for nothing. */
static void test_run_beside_threads(void **state)
{
	struct kvs *kv = open_default();
	int err;

	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		fill(kv, 1000, 8, round);
		err = kvs_run(kv, 0, 0, NULL);
		check(err == KVS_OK || err == KVS_ERR_BUSY);
	}
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
	close_store(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live_bytes_are_blocks),
		cmocka_unit_test(test_a_value_handed_on_counts_once),
		cmocka_unit_test(test_equal_contents_count_the_same_in_used_blocks),
		cmocka_unit_test(test_writers_help_above_the_soft_limit),
		cmocka_unit_test(test_all_free_together_above_the_soft_limit),
		cmocka_unit_test(test_hard_limit_without_threads),
		cmocka_unit_test(test_hard_limit_under_a_section),
		cmocka_unit_test(test_hard_limit_of_timed_keys),
		cmocka_unit_test(test_max_memory),
		cmocka_unit_test(test_max_memory_beyond_what_is_counted),
		cmocka_unit_test(test_max_memory_of_many_threads),
		cmocka_unit_test(test_max_memory_beside_a_snapshot),
		cmocka_unit_test(test_stall_is_reported_once_a_period),
		cmocka_unit_test(test_no_stall_where_nobody_waits),
		cmocka_unit_test(test_stall_is_seen_by_who_waits),
		cmocka_unit_test(test_stall_is_seen_by_the_thread),
		cmocka_unit_test(test_open_starts_no_thread),
		cmocka_unit_test(test_run_frees_and_says_when),
		cmocka_unit_test(test_run_is_refused),
		cmocka_unit_test(test_run_waits_for_sections_and_keeps_others_out),
		cmocka_unit_test(test_run_grows_and_shrinks),
		cmocka_unit_test(test_shrink_waits_for_its_grace_periods),
		cmocka_unit_test(test_overwrites_are_bounded),
		cmocka_unit_test(test_random_deletes_give_pages_back),
		cmocka_unit_test(test_the_thread_gives_back_too),
		cmocka_unit_test(test_close_at_any_moment),
		cmocka_unit_test(test_fork_without_threads),
		cmocka_unit_test(test_run_beside_threads),
	};

	return util_main("memory", tests, ARRAY_LEN(tests));
}
