/* SPDX-License-Identifier: MIT */
/*
 * test_iterate.c - foreach and the scan cursor: each key that stays comes exactly once, whatever
 * else happens between pages; a page ends at the end of a run of equal order keys.
 * (kvs_keys is in test_basic.c; here it serves as one more walk.)
 */
#include "configs.h"

#include <string.h>

#define STABLE 1000 /* keys [0, STABLE) that stay; others come and go */

static char room[KEY_ROOM];

/* How often each key came. */
struct tally {
	unsigned char seen[STABLE];
	uint64_t others;
};

static void tally_item(struct tally *t, const struct kvs_item *item)
{
	uint64_t number = key_number(item->key);

	check(item->value.version != 0 && item->value.expires_at_ms == 0);
	if (number < STABLE) {
		check(t->seen[number] < 255);
		t->seen[number]++;
	} else {
		t->others++;
	}
}

static void check_each_once(const struct tally *t)
{
	for (size_t i = 0; i < STABLE; i++)
		if (t->seen[i] != 1)
			util_fail(__FILE__, __LINE__, "key %zu came %u times", i, t->seen[i]);
}

static void fill(struct kvs *kv, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		set_pattern(kv, i, i % 60, i);
}

static void drop(struct kvs *kv, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
}

/* ---- Foreach ---------------------------------------------------------------------------- */

static int tally_step(const struct kvs_item *item, void *arg)
{
	uint64_t number = key_number(item->key);

	check_u64(item->value.len, number % 60);
	check(pattern_matches(item->value.data, item->value.len, number));
	tally_item(arg, item);
	return 0;
}

static void foreach_all(struct fixture *f)
{
	struct tally t = { 0 };

	check_ok(kvs_foreach(f->kv, tally_step, &t)); /* nothing there */
	check_u64(t.others, 0);
	fill(f->kv, 0, STABLE);
	check_ok(kvs_foreach(f->kv, tally_step, &t));
	check_each_once(&t);
	check_u64(t.others, 0);
}

static void test_foreach_gives_every_entry_once(void **state)
{
	(void)state;
	each_config(foreach_all);
}

static int stop_at_third(const struct kvs_item *item, void *arg)
{
	int *left = arg;

	(void)item;
	return --*left == 0 ? 4711 : 0;
}

static void foreach_stops(struct fixture *f)
{
	int left = 3;

	fill(f->kv, 0, 100);
	check(kvs_foreach(f->kv, stop_at_third, &left) == 4711);
	check(left == 0);
}

static void test_foreach_ends_when_told(void **state)
{
	(void)state;
	each_config(foreach_stops);
}

struct visitor {
	struct kvs *kv;
	struct tally tally;
};

/* In the walk: read, overwrite this key, delete an unstable one, insert one more. */
static int visit_and_write(const struct kvs_item *item, void *arg)
{
	struct visitor *v = arg;
	uint64_t number = key_number(item->key);
	char mine[KEY_ROOM];

	tally_item(&v->tally, item);
	if (number >= STABLE) {
		(void)kvs_delete(v->kv, make_key(mine, number), NULL);
		return 0;
	}
	check(key_present(v->kv, number));
	set_pattern(v->kv, number, 10, number);
	if (v->tally.others < 2 * STABLE)
		set_pattern(v->kv, STABLE + number, 10, number);
	check(pattern_matches(item->value.data, item->value.len, number)); /* still borrowed */
	check_status(kvs_clear(v->kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_drain(v->kv), KVS_ERR_IN_READ_SECTION);
	return 0;
}

static void foreach_writes(struct fixture *f)
{
	struct visitor v = { .kv = f->kv };

	fill(f->kv, 0, STABLE);
	check_ok(kvs_foreach(f->kv, visit_and_write, &v));
	check_each_once(&v.tally);
}

static void test_foreach_callback_may_call_the_store(void **state)
{
	(void)state;
	each_config(foreach_writes);
}

/* ---- Scan ------------------------------------------------------------------------------- */

#define PAGE_MAX 1500

static struct kvs_item page[PAGE_MAX];

/* One page of at most @cap into @t, in a section of its own; returns the entries it had. */
static size_t scan_page(struct kvs *kv, uint64_t *cursor, size_t cap, struct tally *t)
{
	size_t count = SIZE_MAX;

	kvs_read_begin(kv);
	check_ok(kvs_scan(kv, cursor, page, cap, &count));
	check(count <= cap);
	check(count > 0 || *cursor == 0);
	for (size_t i = 0; i < count; i++)
		tally_item(t, &page[i]);
	kvs_read_end(kv);
	return count;
}

static void scan_all(struct kvs *kv, size_t cap, struct tally *t)
{
	uint64_t cursor = 0;

	do
		scan_page(kv, &cursor, cap, t);
	while (cursor != 0);
}

static void scan_pages(struct fixture *f)
{
	static const size_t caps[] = { 1, 2, 7, 64, STABLE, PAGE_MAX };

	fill(f->kv, 0, STABLE);
	for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
		struct tally t = { 0 };

		scan_all(f->kv, caps[i], &t);
		check_each_once(&t);
		check_u64(t.others, 0);
	}
}

static void test_scan_gives_every_entry_once_for_any_page(void **state)
{
	(void)state;
	each_config(scan_pages);
}

static void scan_empty(struct fixture *f)
{
	uint64_t cursor = 0;
	struct tally t = { 0 };

	check_u64(scan_page(f->kv, &cursor, 1, &t), 0);
	check_u64(cursor, 0);
	fill(f->kv, 5, 6);
	check_u64(scan_page(f->kv, &cursor, 10, &t), 1);
	check_u64(cursor, 0);
	check_u64(t.seen[5], 1);
}

static void test_scan_of_empty_and_single(void **state)
{
	(void)state;
	each_config(scan_empty);
}

static void scan_items(struct fixture *f)
{
	uint64_t cursor = 0;
	size_t count = 0;

	fill(f->kv, 0, 500);
	kvs_read_begin(f->kv);
	check_ok(kvs_scan(f->kv, &cursor, page, PAGE_MAX, &count));
	check_u64(count, 500);
	drop(f->kv, 0, 500); /* what was borrowed stays */
	for (size_t i = 0; i < count; i++) {
		uint64_t number = key_number(page[i].key);

		check_u64(page[i].value.len, number % 60);
		check(pattern_matches(page[i].value.data, page[i].value.len, number));
	}
	kvs_read_end(f->kv);
}

static void test_scan_items_are_borrowed(void **state)
{
	(void)state;
	each_config(scan_items);
}

/* ---- What happens between pages --------------------------------------------------------- */

typedef void (*between_fn)(struct kvs *kv, uint64_t page_number);

static void grow_between(struct kvs *kv, uint64_t n)
{
	fill(kv, STABLE + n * 200, STABLE + (n + 1) * 200);
}

static void overwrite_between(struct kvs *kv, uint64_t n)
{
	for (uint64_t i = 0; i < STABLE; i++)
		if (i % 7 == n % 7)
			set_pattern(kv, i, 30, n);
}

static void reinsert_between(struct kvs *kv, uint64_t n)
{
	fill(kv, STABLE + n * 100, STABLE + (n + 1) * 100);
	if (n > 0)
		drop(kv, STABLE + (n - 1) * 100, STABLE + n * 100);
}

/* The other keys, there at the start, go step by step: the directory may shrink. */
#define SHRINK_EXTRA 8000

static void shrink_between(struct kvs *kv, uint64_t n)
{
	uint64_t from = STABLE + n * 200;

	if (from >= STABLE + SHRINK_EXTRA)
		return;
	drop(kv, from, from + 200);
	if (n % 8 == 0)
		check_ok(kvs_drain(kv));
}

static void scan_with(struct kvs *kv, between_fn between)
{
	uint64_t cursor = 0, n = 0;
	struct tally t = { 0 };

	do {
		scan_page(kv, &cursor, 50, &t);
		between(kv, n < 60 ? n++ : 60); /* not for ever */
	} while (cursor != 0);
	check_each_once(&t);
}

/* From page 60 on nothing more comes in, so that the walk ends. */
static void grow_some(struct kvs *kv, uint64_t n)
{
	if (n < 60)
		grow_between(kv, n);
}

static void reinsert_some(struct kvs *kv, uint64_t n)
{
	if (n < 60)
		reinsert_between(kv, n);
}

static void growing(struct fixture *f)
{
	fill(f->kv, 0, STABLE);
	scan_with(f->kv, grow_some);
}

static void test_scan_while_growing_between_pages(void **state)
{
	(void)state;
	each_config(growing);
}

static void overwriting(struct fixture *f)
{
	fill(f->kv, 0, STABLE);
	scan_with(f->kv, overwrite_between);
}

static void test_scan_while_overwriting_between_pages(void **state)
{
	(void)state;
	each_config(overwriting);
}

static void reinserting(struct fixture *f)
{
	fill(f->kv, 0, STABLE);
	scan_with(f->kv, reinsert_some);
}

static void test_scan_while_others_come_and_go(void **state)
{
	(void)state;
	each_config(reinserting);
}

static void shrinking(struct fixture *f)
{
	fill(f->kv, 0, STABLE + SHRINK_EXTRA);
	scan_with(f->kv, shrink_between);
}

static void test_scan_while_shrinking_between_pages(void **state)
{
	(void)state;
	each_config(shrinking);
}

/* ---- Walks against threads -------------------------------------------------------------- */

struct disturber {
	struct kvs *kv;
	_Atomic bool stop;
};

static void disturb(size_t index, void *arg)
{
	struct disturber *d = arg;
	char mine[KEY_ROOM];
	struct rng r;

	rng_init(&r, 900 + index);
	while (!atomic_load(&d->stop)) {
		uint64_t number = rng_below(&r, 20 * STABLE);

		if (number < STABLE || rng_below(&r, 2) == 0)
			set_pattern(d->kv, number, 20, number);
		else
			(void)kvs_delete(d->kv, make_key(mine, number), NULL);
	}
}

static int tally_any(const struct kvs_item *item, void *arg)
{
	tally_item(arg, item);
	return 0;
}

static void walk_by_keys(struct kvs *kv, struct tally *t)
{
	struct kvs_slice *keys;
	size_t count;

	check_ok(kvs_keys(kv, &keys, &count));
	for (size_t i = 0; i < count; i++) {
		struct kvs_item item = { keys[i], { .version = 1 } };

		tally_item(t, &item);
	}
	kvs_keys_free(kv, keys);
}

static void walk_disturbed(struct fixture *f)
{
	struct disturber d = { .kv = f->kv };
	struct crew crew;

	fill(f->kv, 0, STABLE);
	crew_start(&crew, 2, disturb, &d);
	for (size_t i = 0; i < util_scaled(2, 5, 200); i++) {
		struct tally by_scan = { 0 }, by_foreach = { 0 }, by_keys = { 0 };

		scan_all(f->kv, 100, &by_scan);
		check_each_once(&by_scan);
		check_ok(kvs_foreach(f->kv, tally_any, &by_foreach));
		check_each_once(&by_foreach);
		walk_by_keys(f->kv, &by_keys);
		check_each_once(&by_keys);
	}
	atomic_store(&d.stop, true);
	crew_join(&crew);
}

static void test_walks_while_threads_write(void **state)
{
	(void)state;
	each_config(walk_disturbed);
}

struct relay {
	struct kvs *kv;
	uint64_t cursor;
	struct tally tally;
};

static void one_page(size_t index, void *arg)
{
	struct relay *relay = arg;

	(void)index;
	scan_page(relay->kv, &relay->cursor, 100, &relay->tally);
}

static void relay(struct fixture *f)
{
	struct relay relay = { .kv = f->kv };

	fill(f->kv, 0, STABLE);
	do
		run_threads(1, one_page, &relay);
	while (relay.cursor != 0);
	check_each_once(&relay.tally);
}

static void test_cursor_holds_from_any_thread(void **state)
{
	(void)state;
	each_config(relay);
}

/* ---- Runs of equal order keys ----------------------------------------------------------- */

#define RUN 5

/* Equal for each RUN neighbours. */
static uint64_t hash_by_run(const void *key, size_t len, void *ctx)
{
	(void)ctx;
	return key_number(kvs_bytes(key, len)) / RUN;
}

static struct kvs *open_runs(int32_t shards)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;

	opts.shards = shards;
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = hash_by_run;
	check_ok(kvs_open(&opts, &kv));
	fill(kv, 0, STABLE);
	return kv;
}

/* A page too small for the run says how large it is, keeps the cursor, and goes on with room. */
static void scan_runs(struct kvs *kv, size_t cap, struct tally *t)
{
	uint64_t cursor = 0, before;
	size_t count = 0;

	do {
		before = cursor;
		kvs_read_begin(kv);
		check_status(kvs_scan(kv, &cursor, page, cap, &count), KVS_ERR_BUFFER_TOO_SMALL);
		kvs_read_end(kv);
		check_u64(cursor, before);
		check_u64(count, RUN);
		check_u64(scan_page(kv, &cursor, count, t), RUN);
	} while (cursor != 0);
}

static void check_runs(int32_t shards)
{
	for (size_t cap = 1; cap < RUN; cap++) {
		struct kvs *kv = open_runs(shards);
		struct tally t = { 0 };

		scan_runs(kv, cap, &t);
		check_each_once(&t);
		close_store(kv);
	}
}

static void test_page_too_small_for_a_run_of_equal_hashes(void **state)
{
	(void)state;
	check_runs(1);
	check_runs(4);
}

static void test_page_ends_at_the_end_of_a_run(void **state)
{
	(void)state;
	for (size_t cap = RUN; cap < 4 * RUN; cap++) {
		struct kvs *kv = open_runs(0);
		struct tally t = { 0 };
		uint64_t cursor = 0;

		do
			check_u64(scan_page(kv, &cursor, cap, &t) % RUN, 0);
		while (cursor != 0);
		check_each_once(&t);
		close_store(kv);
	}
}

/* ---- Bad arguments ---------------------------------------------------------------------- */

static void test_walks_refuse_bad_arguments(void **state)
{
	struct kvs *kv = open_default();
	uint64_t cursor = 0;
	size_t count = 5;
	int err;

	(void)state;
	fill(kv, 0, 10);
	check_status(kvs_foreach(kv, NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_scan(kv, &cursor, page, 10, &count), KVS_ERR_NO_READ_SECTION);
	check(cursor == 0 && count == 5);
	kvs_read_begin(kv);
	check_status(kvs_scan(kv, NULL, page, 10, &count), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_scan(kv, &cursor, NULL, 10, &count), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_scan(kv, &cursor, page, 10, NULL), KVS_ERR_INVALID_ARGUMENT);
	err = kvs_scan(kv, &cursor, page, 0, &count); /* the header allows either answer */
	check(err == KVS_ERR_INVALID_ARGUMENT || err == KVS_ERR_BUFFER_TOO_SMALL);
	kvs_read_end(kv);
	close_store(kv);
}

/* A cursor nobody gave out: an error or some page, never a crash. */
static void test_scan_with_a_foreign_cursor(void **state)
{
	struct kvs *kv = open_default();
	struct rng r;

	(void)state;
	rng_init(&r, 77);
	fill(kv, 0, 100);
	for (int i = 0; i < 10000; i++) {
		uint64_t cursor = rng_next(&r) >> rng_below(&r, 64);
		size_t count = 0;
		int err;

		kvs_read_begin(kv);
		err = kvs_scan(kv, &cursor, page, PAGE_MAX, &count);
		kvs_read_end(kv);
		check(err == KVS_OK || err == KVS_ERR_INVALID_ARGUMENT);
		check(count <= 100);
	}
	close_store(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_foreach_gives_every_entry_once),
		cmocka_unit_test(test_foreach_ends_when_told),
		cmocka_unit_test(test_foreach_callback_may_call_the_store),
		cmocka_unit_test(test_scan_gives_every_entry_once_for_any_page),
		cmocka_unit_test(test_scan_of_empty_and_single),
		cmocka_unit_test(test_scan_items_are_borrowed),
		cmocka_unit_test(test_scan_while_growing_between_pages),
		cmocka_unit_test(test_scan_while_overwriting_between_pages),
		cmocka_unit_test(test_scan_while_others_come_and_go),
		cmocka_unit_test(test_scan_while_shrinking_between_pages),
		cmocka_unit_test(test_walks_while_threads_write),
		cmocka_unit_test(test_cursor_holds_from_any_thread),
		cmocka_unit_test(test_page_too_small_for_a_run_of_equal_hashes),
		cmocka_unit_test(test_page_ends_at_the_end_of_a_run),
		cmocka_unit_test(test_walks_refuse_bad_arguments),
		cmocka_unit_test(test_scan_with_a_foreign_cursor),
	};

	return util_main("iterate", tests, ARRAY_LEN(tests));
}
