/* SPDX-License-Identifier: MIT */
/*
 * test_snapshot.c - the calls of a snapshot: begin, parts, next, end; what they refuse, what they
 * keep and what they give back. That a cut is one instant is shown by test_cut.c and test_cut_graph.c.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "configs.h"

#define KEYS_MAX 20000u
#define TAG_OLD 1000000u /* tags of values: number of the key, plus this */
#define TAG_NEW 2000000u

static struct kvs_snapshot *begin(struct kvs *kv)
{
	struct kvs_snapshot *s = NULL;

	check_ok(kvs_snapshot_begin(kv, NULL, &s));
	return s;
}

static struct kvs_snapshot *begin_limited(struct kvs *kv, uint64_t max_memory)
{
	struct kvs_snapshot_options opts = KVS_SNAPSHOT_OPTIONS_INIT;
	struct kvs_snapshot *s = NULL;

	opts.max_memory = max_memory;
	check_ok(kvs_snapshot_begin(kv, &opts, &s));
	return s;
}

static struct kvs_snapshot_part *part_of(struct kvs_snapshot *s)
{
	struct kvs_snapshot_part *p = NULL;

	check_ok(kvs_snapshot_part_begin(s, &p));
	return p;
}

static void end(struct kvs_snapshot *s, uint64_t want_count)
{
	uint64_t count = UINT64_MAX;

	check_ok(kvs_snapshot_end(s, &count));
	check_u64(count, want_count);
}

/* How often each key was returned. */
struct tally {
	_Atomic unsigned char times[KEYS_MAX];
};

static size_t size_of(uint64_t number)
{
	return value_sizes[number % ARRAY_LEN(value_sizes)] + number % 3;
}

static void fill(struct kvs *kv, uint64_t first, uint64_t count, uint64_t tag)
{
	for (uint64_t i = first; i < first + count; i++)
		set_pattern(kv, i, size_of(i), tag + i);
}

static void remove_keys(struct kvs *kv, uint64_t first, uint64_t count)
{
	char room[KEY_ROOM];

	for (uint64_t i = first; i < first + count; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
}

static void renew_number(struct kvs *kv, uint64_t number, int64_t ttl_ms)
{
	char room[KEY_ROOM];

	check_ok(kvs_expire(kv, make_key(room, number), ttl_ms, NULL));
}

static void check_item(const struct kvs_item *item, struct tally *tally, uint64_t keys,
		       uint64_t tag)
{
	uint64_t number = key_number(item->key);

	check(number < keys);
	check_u64(item->value.len, size_of(number));
	check(item->value.data != NULL && item->value.version != 0);
	check(pattern_matches(item->value.data, item->value.len, tag + number));
	check(item->value.expires_at_ms == 0);
	check_u64(atomic_fetch_add(&tally->times[number], 1), 0);
}

/* Go through a part to its end; how many entries it returned. */
static uint64_t walk(struct kvs_snapshot_part *p, struct tally *tally, uint64_t keys, uint64_t tag)
{
	struct kvs_item item;
	uint64_t n = 0;
	int err;

	while ((err = kvs_snapshot_next(p, &item)) == KVS_OK) {
		check_item(&item, tally, keys, tag);
		n++;
	}
	check_status(err, KVS_ERR_NOT_FOUND);
	check_status(kvs_snapshot_next(p, &item), KVS_ERR_NOT_FOUND);
	return n;
}

/* The whole of a snapshot by one part, and its end: keys below @keys, all of them. */
static void walk_all(struct kvs_snapshot *s, uint64_t keys, uint64_t tag)
{
	struct tally *tally = calloc(1, sizeof(*tally));
	struct kvs_snapshot_part *p = part_of(s);

	check(tally != NULL);
	check_u64(walk(p, tally, keys, tag), keys);
	kvs_snapshot_part_end(p);
	end(s, keys);
	free(tally);
}

/* ---- What is returned ------------------------------------------------------------------- */

static void returns_each_key_once(struct fixture *f)
{
	uint64_t keys = util_scaled(200, 1000, 5000);

	walk_all(begin(f->kv), 0, 0);
	fill(f->kv, 0, keys, TAG_OLD);
	walk_all(begin(f->kv), keys, TAG_OLD);
	walk_all(begin(f->kv), keys, TAG_OLD);
	fill(f->kv, 0, keys, TAG_NEW);
	walk_all(begin(f->kv), keys, TAG_NEW);
	remove_keys(f->kv, 0, keys);
	walk_all(begin(f->kv), 0, 0);
}

static void test_each_key_is_returned_once(void **state)
{
	(void)state;
	each_config(returns_each_key_once);
}

static void test_versions_are_those_of_the_cut(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_snapshot_part *p;
	uint64_t version[100], later;
	struct kvs_snapshot *s;
	struct kvs_item item;
	char room[KEY_ROOM];
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < 100; i++)
		check_ok(kvs_set(kv, make_key(room, i), kvs_str("old"), &version[i]));
	s = begin(kv);
	for (size_t i = 0; i < 100; i += 2)
		check_ok(kvs_set(kv, make_key(room, i), kvs_str("new"), &later));
	p = part_of(s);
	for (; kvs_snapshot_next(p, &item) == KVS_OK; n++)
		check_u64(item.value.version, version[key_number(item.key)]);
	check_u64(n, 100);
	kvs_snapshot_part_end(p);
	end(s, 100);
	close_store(kv);
}

/* Everything is overwritten, then removed, then written again, while the walk is under way. */
static void keeps_what_is_removed(struct fixture *f)
{
	uint64_t keys = util_scaled(100, 400, 2000), n = 0;
	struct tally *tally = calloc(1, sizeof(*tally));
	struct kvs_snapshot_part *p;
	struct kvs_snapshot *s;
	struct kvs_item item;

	check(tally != NULL);
	fill(f->kv, 0, keys, TAG_OLD);
	s = begin(f->kv);
	p = part_of(s);
	for (int err = kvs_snapshot_next(p, &item); err == KVS_OK;
	     err = kvs_snapshot_next(p, &item)) {
		if (n == 10)
			fill(f->kv, 0, keys / 2, TAG_NEW);
		if (n == keys / 2) {
			remove_keys(f->kv, 0, keys);
			fill(f->kv, 0, keys / 3, TAG_NEW);
		}
		if (n % 64 == 10 || n == keys / 2)
			check_ok(kvs_drain(f->kv));
		check_item(&item, tally, keys,
			   TAG_OLD); /* still the same: valid until the next call */
		n++;
	}
	check_u64(n, keys);
	check_u64(store_len(f->kv), keys / 3);
	kvs_snapshot_part_end(p);
	end(s, keys);
	for (uint64_t i = 0; i < keys / 3; i++)
		check_pattern(f->kv, i, size_of(i), TAG_NEW + i);
	free(tally);
}

static void test_what_is_removed_meanwhile_is_kept(void **state)
{
	(void)state;
	each_config(keeps_what_is_removed);
}

static void test_keys_that_came_later_are_not_in(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_snapshot *s;

	(void)state;
	fill(kv, 0, 100, TAG_OLD);
	s = begin(kv);
	fill(kv, 100, 400, TAG_NEW);
	remove_keys(kv, 200, 100);
	fill(kv, 200, 100, TAG_NEW);
	check_u64(store_len(kv), 500);
	walk_all(s, 100, TAG_OLD);
	fill(kv, 0, 100, TAG_NEW);
	walk_all(begin(kv), 500, TAG_NEW);
	close_store(kv);
}

static uint64_t one_hash(const void *key, size_t len, void *ctx)
{
	(void)key;
	(void)len;
	(void)ctx;
	return 42;
}

/* More of them than fit into a section, some removed on the way. */
static void test_keys_of_equal_hash(void **state)
{
	uint64_t keys = util_scaled(500, 3000, 10000), n = 0;
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct tally *tally = calloc(1, sizeof(*tally));
	struct kvs_snapshot_part *p;
	struct kvs_snapshot *s;
	struct kvs_item item;
	struct kvs *kv = NULL;
	char room[KEY_ROOM];

	(void)state;
	check(tally != NULL);
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = one_hash;
	check_ok(kvs_open(&opts, &kv));
	for (uint64_t i = 0; i < keys; i++)
		check_ok(kvs_set(kv, make_key(room, i), kvs_bytes(&i, sizeof(i)), NULL));
	s = begin(kv);
	p = part_of(s);
	while (kvs_snapshot_next(p, &item) == KVS_OK) {
		uint64_t number = key_number(item.key);

		check(number < keys && tally->times[number]++ == 0);
		check_bytes(item.value.data, &number, sizeof(number));
		if (n++ % 16 == 0) {
			check_ok(kvs_delete(kv, make_key(room, number), NULL));
			check_ok(kvs_set(kv, make_key(room, (number + keys / 2) % keys),
					 kvs_str("x"), NULL));
			check_ok(kvs_set(kv, make_key(room, keys + n), kvs_str("y"), NULL));
		}
	}
	check_u64(n, keys);
	kvs_snapshot_part_end(p);
	end(s, keys);
	close_store(kv);
	free(tally);
}

/* The table grows and shrinks between sections of the walk. */
static void resizes_during_the_walk(struct fixture *f)
{
	uint64_t keys = 1500, wave = util_scaled(5000, 20000, 100000), n = 0, growths;
	struct tally *tally = calloc(1, sizeof(*tally));
	struct kvs_snapshot *s;
	struct kvs_snapshot_part *p;
	struct kvs_item item;
	char room[KEY_ROOM];

	check(tally != NULL);
	for (uint64_t i = 0; i < keys; i++)
		set_pattern(f->kv, i, size_of(i) % 128, i);
	growths = store_stats(f->kv).growths;
	s = begin(f->kv);
	p = part_of(s);
	while (kvs_snapshot_next(p, &item) == KVS_OK) {
		uint64_t number = key_number(item.key);

		check(number < keys && tally->times[number]++ == 0);
		check(pattern_matches(item.value.data, item.value.len, number));
		if (n++ % 500 == 0)
			for (uint64_t i = 0; i < wave; i++)
				check_ok(kvs_set(f->kv, make_key(room, keys + i), kvs_str("wave"),
						 NULL));
		else if (n % 500 == 250)
			remove_keys(f->kv, keys, wave);
	}
	check_u64(n, keys);
	kvs_snapshot_part_end(p);
	if (f->config.initial_capacity == 0)
		check(store_stats(f->kv).growths > growths);
	end(s, keys);
	free(tally);
}

static void test_table_grows_and_shrinks_during_the_walk(void **state)
{
	(void)state;
	each_config(resizes_during_the_walk);
}

/* ---- Parts ------------------------------------------------------------------------------ */

struct parts {
	struct kvs *kv;
	struct kvs_snapshot *s;
	struct tally tally;
	uint64_t keys;
	_Atomic uint64_t returned;
	_Atomic unsigned walking;
};

static void walk_part_or_write(size_t index, void *arg)
{
	struct parts *t = arg;
	struct kvs_snapshot_part *p;

	if (index == 0) {
		for (uint64_t i = 0; atomic_load(&t->walking) > 0; i++)
			set_pattern(t->kv, i % t->keys, 10, 7);
		return;
	}
	p = part_of(t->s);
	atomic_fetch_add(&t->returned, walk(p, &t->tally, t->keys, TAG_OLD));
	kvs_snapshot_part_end(p);
	atomic_fetch_sub(&t->walking, 1);
}

static void test_parts_on_several_threads(void **state)
{
	size_t rounds = util_scaled(2, 10, 100);
	struct parts *t = calloc(1, sizeof(*t));

	(void)state;
	check(t != NULL);
	t->keys = util_scaled(500, 5000, KEYS_MAX);
	t->kv = open_default();
	for (size_t i = 0; i < rounds; i++) {
		memset(&t->tally, 0, sizeof(t->tally));
		fill(t->kv, 0, t->keys, TAG_OLD);
		t->s = begin(t->kv);
		atomic_store(&t->returned, 0);
		atomic_store(&t->walking, 3);
		run_threads(4, walk_part_or_write, t);
		check_u64(atomic_load(&t->returned), t->keys);
		end(t->s, t->keys);
	}
	close_store(t->kv);
	free(t);
}

static void test_parts_take_turns(void **state)
{
	struct kvs *kv = open_default();
	struct tally *tally = calloc(1, sizeof(*tally));
	struct kvs_snapshot_part *a, *b;
	struct kvs_item item;
	struct kvs_snapshot *s;
	uint64_t n = 0;

	(void)state;
	check(tally != NULL);
	fill(kv, 0, 300, TAG_OLD);
	s = begin(kv);
	a = part_of(s);
	b = part_of(s);
	check_status(kvs_snapshot_end(s, NULL), KVS_ERR_BUSY);
	for (; n < 50; n++) {
		check_ok(kvs_snapshot_next(n % 2 ? a : b, &item));
		check_item(&item, tally, 300, TAG_OLD);
	}
	fill(kv, 0, 300, TAG_NEW);
	n += walk(a, tally, 300, TAG_OLD);
	kvs_snapshot_part_end(a);
	check_status(kvs_snapshot_end(s, NULL), KVS_ERR_BUSY);
	n += walk(b, tally, 300, TAG_OLD);
	kvs_snapshot_part_end(b);
	check_u64(n, 300);
	end(s, 300);
	close_store(kv);
	free(tally);
}

/* ---- What is refused -------------------------------------------------------------------- */

static void refuses_while_open(struct fixture *f)
{
	struct kvs_snapshot *s, *other = NULL;

	fill(f->kv, 0, 50, TAG_OLD);
	s = begin(f->kv);
	check_status(kvs_snapshot_begin(f->kv, NULL, &other), KVS_ERR_BUSY);
	check(other == NULL);
	check_status(kvs_clear(f->kv), KVS_ERR_BUSY);
	check_status(kvs_close(f->kv), KVS_ERR_BUSY);
	check_status(kvs_free(f->kv), KVS_ERR_BUSY);
	check_ok(kvs_drain(f->kv));
	remove_keys(f->kv, 0, 20);
	check_u64(store_len(f->kv), 30);
	walk_all(s, 50, TAG_OLD);
	check_ok(kvs_clear(f->kv));
	walk_all(begin(f->kv), 0, 0);
	check_ok(kvs_close(f->kv));
	check_status(kvs_snapshot_begin(f->kv, NULL, &other), KVS_ERR_STORE_CLOSED);
}

static void test_what_is_refused_while_one_is_open(void **state)
{
	(void)state;
	each_config(refuses_while_open);
}

static void test_waiting_calls_inside_a_section(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_snapshot *s, *other = NULL;
	struct kvs_snapshot_part *p;
	struct kvs_item item;

	(void)state;
	fill(kv, 0, 10, TAG_OLD);
	kvs_read_begin(kv);
	check_status(kvs_snapshot_begin(kv, NULL, &other), KVS_ERR_IN_READ_SECTION);
	kvs_read_end(kv);
	s = begin(kv);
	kvs_read_begin(kv);
	p = part_of(s);
	check_status(kvs_snapshot_next(p, &item), KVS_ERR_IN_READ_SECTION);
	kvs_snapshot_part_end(p);
	check_status(kvs_snapshot_end(s, NULL), KVS_ERR_IN_READ_SECTION);
	kvs_read_end(kv);
	walk_all(s, 10, TAG_OLD);
	close_store(kv);
}

static void test_arguments(void **state)
{
	struct kvs_snapshot_options opts = KVS_SNAPSHOT_OPTIONS_INIT;
	struct kvs *kv = open_default();
	struct kvs_snapshot *s = NULL;
	struct kvs_snapshot_part *p = NULL;
	struct kvs_item item;

	(void)state;
	check_status(kvs_snapshot_begin(NULL, NULL, &s), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_snapshot_begin(kv, NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
	opts.size = 1;
	check_status(kvs_snapshot_begin(kv, &opts, &s), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_snapshot_part_begin(NULL, &p), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_snapshot_next(NULL, &item), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_snapshot_end(NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
	kvs_snapshot_part_end(NULL);
	s = begin(kv);
	check_status(kvs_snapshot_part_begin(s, NULL), KVS_ERR_INVALID_ARGUMENT);
	p = part_of(s);
	check_status(kvs_snapshot_next(p, NULL), KVS_ERR_INVALID_ARGUMENT);
	kvs_snapshot_part_end(p);
	check_ok(kvs_snapshot_end(s, NULL));
	close_store(kv);
}

/* ---- What is given back ----------------------------------------------------------------- */

/* The fixture checks at its end that every byte is back. */
static void abandons(struct fixture *f)
{
	struct kvs_snapshot_part *p, *q;
	struct kvs_snapshot *s;
	struct kvs_item item;

	fill(f->kv, 0, 300, TAG_OLD);
	end(begin(f->kv), 0);
	s = begin(f->kv);
	remove_keys(f->kv, 0, 300);
	end(s, 0); /* with a full queue */
	fill(f->kv, 0, 300, TAG_OLD);
	s = begin(f->kv);
	p = part_of(s);
	q = part_of(s);
	check_ok(kvs_snapshot_next(p, &item)); /* with entries copied and held */
	fill(f->kv, 0, 300, TAG_NEW);
	check_ok(kvs_snapshot_next(q, &item)); /* with entries from the queue */
	kvs_snapshot_part_end(q);
	kvs_snapshot_part_end(p);
	end(s, 2);
	walk_all(begin(f->kv), 300, TAG_NEW);
	check_ok(kvs_drain(f->kv));
	check_u64(store_stats(f->kv).bytes_deferred, 0);
}

static void test_an_abandoned_snapshot_gives_all_back(void **state)
{
	(void)state;
	each_config(abandons);
}

/* What a part took from the queue and gave back no longer counts against the limit. */
static void test_an_ended_part_frees_its_room(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_snapshot_part *p;
	struct kvs_snapshot *s;
	struct kvs_item item;
	char room[KEY_ROOM];

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		check_ok(kvs_set(kv, make_key(room, i), kvs_str("0123456789"), NULL));
	s = begin_limited(kv, 50 * 88); /* an entry takes 56 bytes, its place in the queue 32 */
	for (uint64_t i = 0; i < 100; i += 40) {
		remove_keys(kv, i, i + 40 <= 100 ? 40 : 20);
		p = part_of(s);
		check_ok(kvs_snapshot_next(p, &item));
		kvs_snapshot_part_end(p);
	}
	check_ok(kvs_snapshot_end(s, NULL));
	close_store(kv);
}

static void exceeds_the_limit(struct fixture *f)
{
	struct kvs_snapshot_part *p;
	struct kvs_snapshot *s;
	struct kvs_item item;

	fill(f->kv, 0, 200, TAG_OLD);
	s = begin_limited(f->kv, 20000);
	p = part_of(s);
	check_ok(kvs_snapshot_next(p, &item));
	fill(f->kv, 0, 200, TAG_NEW); /* writers do not notice */
	check_status(kvs_snapshot_next(p, &item), KVS_ERR_MEMORY_LIMIT);
	remove_keys(f->kv, 0, 100);
	check_status(kvs_snapshot_next(p, &item), KVS_ERR_MEMORY_LIMIT);
	check_status(kvs_snapshot_begin(f->kv, NULL, &s), KVS_ERR_BUSY);
	kvs_snapshot_part_end(p);
	check_status(kvs_snapshot_end(s, NULL), KVS_ERR_MEMORY_LIMIT);
	fill(f->kv, 0, 100, TAG_NEW);
	walk_all(begin(f->kv), 200, TAG_NEW);
	s = begin_limited(f->kv, 20000);
	remove_keys(f->kv, 0, 200);
	check_status(kvs_snapshot_end(s, NULL), KVS_ERR_MEMORY_LIMIT); /* without a walk */
	walk_all(begin(f->kv), 0, 0);
}

static void test_memory_limit(void **state)
{
	(void)state;
	each_config(exceeds_the_limit);
}

/* What was touched while a snapshot is open counts as kept for it, value and all, once however often it is touched. */
static void counts_blocks_once(struct fixture *f)
{
	const uint64_t values = UINT64_C(200) * 8000;
	struct kvs_snapshot_part *p;
	struct kvs_snapshot *s;
	struct kvs_item item;
	uint64_t live;
	uint64_t n = 0;

	for (uint64_t i = 0; i < 200; i++)
		set_pattern(f->kv, i, 8000, i);
	s = begin_limited(f->kv, values + values / 8);
	for (uint64_t i = 0; i < 200; i++)
		renew_number(f->kv, i, 3600000);
	live = store_stats(f->kv).bytes_live;
	for (unsigned round = 1; round < 3; round++)
		for (uint64_t i = 0; i < 200; i++)
			renew_number(f->kv, i, 3600000 + round);
	check_u64(store_stats(f->kv).handed_over, 200);
	check_u64(store_stats(f->kv).bytes_live, live);
	check(store_stats(f->kv).snapshot_bytes > values);
	p = part_of(s);
	for (; kvs_snapshot_next(p, &item) == KVS_OK; n++)
		check(item.value.len == 8000 &&
		      pattern_matches(item.value.data, 8000, key_number(item.key)));
	check_u64(n, 200);
	kvs_snapshot_part_end(p);
	end(s, 200);
	check_u64(store_stats(f->kv).snapshot_bytes, 0);

	/* the limit holds for values that are touched, and overwritten then */
	s = begin_limited(f->kv, values / 4);
	p = part_of(s);
	for (uint64_t i = 0; i < 60; i++) {
		renew_number(f->kv, i, 7200000);
		remove_keys(f->kv, i, 1);
	}
	check_status(kvs_snapshot_next(p, &item), KVS_ERR_MEMORY_LIMIT);
	kvs_snapshot_part_end(p);
	check_status(kvs_snapshot_end(s, NULL), KVS_ERR_MEMORY_LIMIT);
	check_u64(store_stats(f->kv).snapshot_bytes, 0);
	remove_keys(f->kv, 60, 140);
	check_ok(kvs_drain(f->kv));
	check_u64(store_stats(f->kv).bytes_live, 0);
}

static void test_a_touched_value_is_kept_once(void **state)
{
	(void)state;
	each_config(counts_blocks_once);
}

/* What waits in the queue is never more than the limit, in the user's own count. */
static void test_memory_limit_holds(void **state)
{
	struct config config = { .shards = 4, .allocator = true };
	struct fixture *f = malloc(sizeof(*f));
	uint64_t before, most, limit = 100000;
	struct kvs_snapshot *s;

	(void)state;
	check(f != NULL);
	fixture_open(f, &config);
	for (uint64_t i = 0; i < 5000; i++)
		set_pattern(f->kv, i, 100, i);
	check_ok(kvs_drain(f->kv));
	before = atomic_load(&f->mem.live_bytes);
	s = begin_limited(f->kv, limit);
	for (uint64_t i = 0; i < 5000; i++)
		set_pattern(f->kv, i, 100, i);
	check_ok(kvs_drain(f->kv));
	most = atomic_load(&f->mem.live_bytes) - before;
	util_note("kept %llu bytes under a limit of %llu", (unsigned long long)most,
		  (unsigned long long)limit);
	check(most <= limit + limit / 4); /* the queue's own nodes come on top */
	check_status(kvs_snapshot_end(s, NULL), KVS_ERR_MEMORY_LIMIT);
	check_ok(kvs_drain(f->kv));
	check(atomic_load(&f->mem.live_bytes) <= before + 4096);
	fixture_close(f);
	free(f);
}

#define HELD_KEYS 128u /* as many as one section returns */
#define HELD_VALUE ((size_t)256 << 10)

/*
 * A part that is paused after its first entry holds on to some large values, not to all that it could return. The keys are
 * a single run, so that all are in one piece of the walk; @walked: of these the part returns so many before.
 */
static void pause_with_large_values(uint64_t walked)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	static unsigned char value[HELD_VALUE];
	struct kvs_snapshot_part *p;
	uint64_t empty, most;
	struct kvs_snapshot *s;
	struct kvs_item item;
	struct counting mem;
	struct kvs *kv = NULL;
	char room[KEY_ROOM];

	counting_init(&mem, false);
	opts.allocator = &mem.hooks;
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = one_hash;
	check_ok(kvs_open(&opts, &kv));
	empty = atomic_load(&mem.live_bytes);
	for (uint64_t i = 0; i < HELD_KEYS; i++)
		check_ok(kvs_set(kv, make_key(room, i), kvs_bytes(value, sizeof(value)), NULL));
	s = begin(kv);
	p = part_of(s);
	for (uint64_t n = 0; n <= walked; n++)
		check_ok(kvs_snapshot_next(p, &item));
	for (uint64_t i = 0; i < HELD_KEYS; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	check_ok(kvs_drain(kv));
	most = atomic_load(&mem.live_bytes) - empty - store_stats(kv).snapshot_bytes;
	util_note("after %llu of %u values of 256 KiB, %llu KiB are held, and kept %llu KiB",
		  (unsigned long long)walked + 1, HELD_KEYS, (unsigned long long)most >> 10,
		  (unsigned long long)store_stats(kv).snapshot_bytes >> 10);
	check(most >= HELD_VALUE); /* the one that was returned last */
	check(most <= ((uint64_t)4 << 20) + HELD_VALUE + ((uint64_t)512 << 10));
	while (kvs_snapshot_next(p, &item) == KVS_OK)
		check(item.value.len == sizeof(value) && walked++ < HELD_KEYS);
	check_u64(walked, HELD_KEYS - 1);
	kvs_snapshot_part_end(p);
	end(s, HELD_KEYS);
	close_store(kv);
	check_u64(atomic_load(&mem.live_bytes), 0);
}

static void test_a_paused_part_holds_few_large_values(void **state)
{
	(void)state;
	pause_with_large_values(0);
	pause_with_large_values(40);
}

/* Every allocation of a snapshot and of the writes beside it fails once. */
static bool survives_failure(struct fixture *f, int64_t fail_in)
{
	struct kvs_snapshot_part *p = NULL;
	struct kvs_snapshot *s = NULL;
	struct kvs_item item;
	char room[KEY_ROOM];
	uint64_t fresh = 0;
	bool failed;
	int err;

	fill(f->kv, 0, 20, TAG_OLD);
	counting_fail(&f->mem, fail_in, false);
	err = kvs_snapshot_begin(f->kv, NULL, &s);
	if (!err) {
		for (uint64_t i = 0; i < 20; i++)
			fresh += kvs_set(f->kv, make_key(room, i), kvs_str("new"), NULL) == KVS_OK;
		err = kvs_snapshot_part_begin(s, &p);
		while (!err)
			err = kvs_snapshot_next(p, &item);
		failed = err != KVS_ERR_NOT_FOUND;
		if (failed)
			check_status(err, KVS_ERR_NO_MEMORY);
		kvs_snapshot_part_end(p);
		err = kvs_snapshot_end(s, NULL);
		check(!err || (failed && err == KVS_ERR_NO_MEMORY));
		check(fresh >= 19);
	} else {
		check_status(err, KVS_ERR_NO_MEMORY);
	}
	failed = atomic_load(&f->mem.fail_in) < 0;
	counting_fail_never(&f->mem);
	return failed;
}

static void test_every_allocation_fails_once(void **state)
{
	struct config config = { .shards = 1, .allocator = true };
	struct fixture *f = malloc(sizeof(*f));
	int64_t n = 0;

	(void)state;
	check(f != NULL);
	fixture_open(f, &config);
	while (n < 500 && survives_failure(f, n))
		n++;
	util_note("%lld allocations, each has failed once", (long long)n);
	check(n > 20 && n < 500);
	check_u64(atomic_load(&f->mem.failures), (uint64_t)n);
	fixture_close(f);
	free(f);
}

/* ---- One after another ------------------------------------------------------------------ */

static void test_snapshot_after_snapshot(void **state)
{
	size_t rounds = util_scaled(10, 200, 2000);
	struct kvs *kv = open_default();
	struct rng r;

	(void)state;
	rng_init(&r, 3);
	for (size_t i = 0; i < rounds; i++) {
		uint64_t keys = rng_below(&r, 100);
		struct kvs_snapshot *s;

		fill(kv, 0, keys, i * KEYS_MAX);
		s = begin(kv);
		if (rng_below(&r, 2))
			fill(kv, 0, keys / 2, TAG_NEW);
		if (rng_below(&r, 2))
			check_ok(kvs_drain(kv));
		walk_all(s, keys, i * KEYS_MAX);
		remove_keys(kv, 0, keys);
	}
	close_store(kv);
}

/* ---- What is told of it ----------------------------------------------------------------- */

#define PROGRESS_KEYS 1500u
#define PROGRESS_SHARDS 4u

static void remove_short(struct kvs *kv, uint64_t first, uint64_t count)
{
	uint64_t before = store_stats(kv).snapshot_bytes;
	uint64_t handed = store_stats(kv).handed_over;
	struct kvs_stats s;

	remove_keys(kv, first, count);
	s = store_stats(kv);
	check_u64(s.handed_over, handed + count);
	/* an entry of 32 bytes, the key's 11 and the value's 10, and its place in the queue */
	check(s.snapshot_bytes >= before + count * (53 + 16));
	check(s.snapshot_bytes <= before + count * (53 + 16 + 32));
}

/* How many different numbers of finished units were seen before all were. */
static unsigned walk_and_watch(struct kvs *kv, struct kvs_snapshot_part *p)
{
	struct kvs_stats s, last = store_stats(kv);
	struct kvs_item item;
	unsigned seen = 0;

	for (uint64_t n = 0; kvs_snapshot_next(p, &item) == KVS_OK; last = s) {
		n++;
		s = store_stats(kv);
		check(s.snapshot_units_done >= last.snapshot_units_done);
		check(s.snapshot_units_done <= s.snapshot_units);
		check(s.snapshot_bytes <= last.snapshot_bytes);
		check(s.snapshot_returned <= n && s.snapshot_returned + 63 >= n);
		check_u64(s.snapshot_open, 1);
		seen += s.snapshot_units_done > last.snapshot_units_done;
	}
	return seen;
}

static void check_progress(struct kvs *kv, uint64_t done, uint64_t returned, uint64_t open)
{
	struct kvs_stats s = store_stats(kv);

	check_u64(s.snapshot_units_done, done);
	check_u64(s.snapshot_returned, returned);
	check_u64(s.snapshot_bytes, 0);
	check_u64(s.snapshot_open, open);
}

static void test_progress_is_told(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_snapshot_part *p;
	struct kvs_snapshot *s;
	struct kvs *kv = NULL;
	unsigned seen;
	uint64_t units;

	(void)state;
	opts.shards = PROGRESS_SHARDS;
	check_ok(kvs_open(&opts, &kv));
	for (uint64_t i = 0; i < PROGRESS_KEYS; i++)
		set_pattern(kv, i, 10, i);
	check_progress(kv, 0, 0, 0);
	check_u64(store_stats(kv).snapshots, 0);
	s = begin(kv);
	check_progress(kv, 0, 0, 1);
	units = store_stats(kv).snapshot_units;
	check(units >= 16 * PROGRESS_SHARDS && units % PROGRESS_SHARDS == 0);
	remove_short(kv, 0, 500);
	p = part_of(s);
	seen = walk_and_watch(kv, p);
	util_note("%u steps of progress seen in %llu units", seen, (unsigned long long)units);
	check(seen >= units / 2);
	check_progress(kv, units, PROGRESS_KEYS, 1);
	kvs_snapshot_part_end(p);
	end(s, PROGRESS_KEYS);
	check_progress(kv, units, PROGRESS_KEYS, 0);
	check_u64(store_stats(kv).snapshots, 1);
	close_store(kv);
}

/* Of a snapshot that was given up: what its parts have returned, each in full; and the next one begins anew. */
static void test_progress_of_an_abandoned_snapshot(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_snapshot_part *p[2];
	struct kvs_snapshot *s;
	struct kvs_item item;

	(void)state;
	for (uint64_t i = 0; i < PROGRESS_KEYS; i++)
		set_pattern(kv, i, 10, i);
	s = begin(kv);
	remove_short(kv, 0, 100);
	for (unsigned i = 0; i < 2; i++) {
		p[i] = part_of(s);
		for (unsigned n = 0; n < 10 + i; n++)
			check_ok(kvs_snapshot_next(p[i], &item));
	}
	remove_keys(kv, 100, 100); /* some of which a part has taken */
	kvs_snapshot_part_end(p[0]);
	kvs_snapshot_part_end(p[1]);
	check_u64(store_stats(kv).snapshot_returned, 21);
	end(s, 21);
	check(store_stats(kv).snapshot_units_done < store_stats(kv).snapshot_units);
	check_progress(kv, store_stats(kv).snapshot_units_done, 21, 0);
	s = begin_limited(kv, 2000);
	check_progress(kv, 0, 0, 1);
	remove_keys(kv, 200, 200); /* more than it may keep: it fails, and keeps what it has */
	check(store_stats(kv).snapshot_bytes <= 2000 && store_stats(kv).snapshot_bytes > 1000);
	check_status(kvs_snapshot_end(s, NULL), KVS_ERR_MEMORY_LIMIT);
	check_progress(kv, 0, 0, 0);
	check_u64(store_stats(kv).snapshots, 2);
	close_store(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_key_is_returned_once),
		cmocka_unit_test(test_versions_are_those_of_the_cut),
		cmocka_unit_test(test_what_is_removed_meanwhile_is_kept),
		cmocka_unit_test(test_keys_that_came_later_are_not_in),
		cmocka_unit_test(test_keys_of_equal_hash),
		cmocka_unit_test(test_table_grows_and_shrinks_during_the_walk),
		cmocka_unit_test(test_parts_on_several_threads),
		cmocka_unit_test(test_parts_take_turns),
		cmocka_unit_test(test_what_is_refused_while_one_is_open),
		cmocka_unit_test(test_waiting_calls_inside_a_section),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_an_abandoned_snapshot_gives_all_back),
		cmocka_unit_test(test_an_ended_part_frees_its_room),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_a_touched_value_is_kept_once),
		cmocka_unit_test(test_memory_limit_holds),
		cmocka_unit_test(test_a_paused_part_holds_few_large_values),
		cmocka_unit_test(test_every_allocation_fails_once),
		cmocka_unit_test(test_snapshot_after_snapshot),
		cmocka_unit_test(test_progress_is_told),
		cmocka_unit_test(test_progress_of_an_abandoned_snapshot),
	};

	return util_main("snapshot", tests, ARRAY_LEN(tests));
}
