/* SPDX-License-Identifier: MIT */
/*
 * test_ttl.c - keys with deadlines, under a clock that the test moves: every call that takes or tells a deadline,
 * and every call that must not see a key past it.
 */
#include "configs.h"
#include "hand.h"

#include <poll.h>
#include <string.h>
#include <time.h>

#include "store.h"

#define START HAND_BOOT
#define WALL HAND_WALL
#define HOUR INT64_C(3600000)
#define YEAR INT64_C(31556952000)

static struct hand hand;

static void at(int64_t since)
{
	hand_set(&hand, since);
}

static void each_config_timed(void (*body)(struct kvs *kv))
{
	static const int32_t shards[] = { 1, 0 };

	for (size_t i = 0; i < 2 * ARRAY_LEN(shards); i++) {
		struct kvs_options o = KVS_OPTIONS_INIT;
		struct counting mem;
		struct kvs *kv;

		hand_init(&hand);
		counting_init(&mem, true);
		o.shards = shards[i / 2];
		o.clock = &hand.clock;
		o.allocator = i % 2 ? &mem.hooks : NULL;
		check_ok(kvs_open(&o, &kv));
		body(kv);
		check_ok(kvs_free(kv));
		check_u64(mem.live_bytes, 0);
	}
}

#define K(s) kvs_str(s)

static int get(struct kvs *kv, const char *key, struct kvs_value *v)
{
	char buf[64];

	return kvs_get(kv, kvs_str(key), buf, sizeof(buf), v);
}

static int64_t ttl_of(struct kvs *kv, const char *key)
{
	int64_t ttl = -1;

	check_ok(kvs_ttl(kv, kvs_str(key), &ttl));
	return ttl;
}

/* ---- setting a deadline ---- */

static void check_ttl(struct kvs *kv, const char *key, int64_t ttl)
{
	struct kvs_value v;

	check_u64((uint64_t)ttl_of(kv, key), (uint64_t)ttl);
	check_ok(get(kv, key, &v));
	check_u64((uint64_t)v.expires_at_ms, (uint64_t)(ttl ? hand.wall + ttl : 0));
}

static void set_forms(struct kvs *kv)
{
	uint64_t version = 0;

	check_ok(kvs_set_ex(kv, K("a"), K("1"), kvs_after(100), &version));
	check(version != 0);
	check_ttl(kv, "a", 100);
	check_ok(kvs_set_ex(kv, K("a"), K("2"), kvs_at(WALL + 250), NULL));
	check_ttl(kv, "a", 250);
	check_ok(kvs_set_ex(kv, K("a"), K("2"), kvs_after(0), NULL));
	check_ttl(kv, "a", 0);
	check_ok(kvs_set_ex(kv, K("a"), K("2"), kvs_at(0), NULL));
	check_ttl(kv, "a", 0);
	check_status(kvs_add_ex(kv, K("a"), K("3"), kvs_after(10), NULL), KVS_ERR_DUPLICATE);
	check_ttl(kv, "a", 0);
	check_ok(kvs_add_ex(kv, K("b"), K("3"), kvs_after(10), NULL));
	check_ttl(kv, "b", 10);
	check_ok(kvs_replace_ex(kv, K("b"), K("4"), kvs_after(20), &version));
	check_ttl(kv, "b", 20);
	check_status(kvs_replace_ex(kv, K("c"), K("4"), kvs_after(20), NULL), KVS_ERR_NOT_FOUND);
	check_status(
		kvs_compare_and_set_ex(kv, K("b"), K("5"), version + 1000, kvs_after(30), NULL),
		KVS_ERR_VERSION_MISMATCH);
	check_ttl(kv, "b", 20);
	check_ok(kvs_compare_and_set_ex(kv, K("b"), K("5"), version, kvs_after(30), NULL));
	check_ttl(kv, "b", 30);
	/* the calls without a deadline take it away */
	check_ok(kvs_set(kv, K("b"), K("6"), NULL));
	check_ttl(kv, "b", 0);
	/* what is past expires at once */
	check_ok(kvs_set_ex(kv, K("b"), K("6"), kvs_at(WALL), NULL));
	check_status(get(kv, "b", NULL), KVS_ERR_NOT_FOUND);
	check_ok(kvs_set_ex(kv, K("b"), K("6"), kvs_at(1), NULL));
	check_status(get(kv, "b", NULL), KVS_ERR_NOT_FOUND);
}

static void test_every_write_takes_a_ttl_or_a_time(void **state)
{
	(void)state;
	each_config_timed(set_forms);
}

static void renewals(struct kvs *kv)
{
	uint64_t v1, v2, v3;

	check_status(kvs_expire(kv, K("a"), 10, NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_touch(kv, K("a"), 10, NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_persist(kv, K("a"), NULL), KVS_ERR_NOT_FOUND);
	check_ok(kvs_set(kv, K("a"), K("1"), &v1));
	check_ok(kvs_touch(kv, K("a"), 10, &v2)); /* lives for ever: longer than that */
	check_u64(v2, v1);
	check_ttl(kv, "a", 0);
	check_ok(kvs_expire(kv, K("a"), 1000, &v2));
	check(v2 > v1);
	check_ttl(kv, "a", 1000);
	check_ok(kvs_touch(kv, K("a"), 1000, &v3)); /* not longer */
	check_u64(v3, v2);
	at(1);
	check_ok(kvs_touch(kv, K("a"), 1000, &v3));
	check(v3 > v2);
	check_ttl(kv, "a", 1000);
	check_ok(kvs_touch(kv, K("a"), 500, NULL));
	check_ttl(kv, "a", 1000);
	check_ok(kvs_expire(kv, K("a"), 500, NULL)); /* shorter is fine here */
	check_ttl(kv, "a", 500);
	check_ok(kvs_expire_at(kv, K("a"), WALL + 301, NULL));
	check_ttl(kv, "a", 300);
	check_ok(kvs_touch(kv, K("a"), 0, NULL));
	check_ttl(kv, "a", 0);
	check_ok(kvs_expire(kv, K("a"), 500, NULL));
	check_ok(kvs_persist(kv, K("a"), &v1));
	check(v1 > v3);
	check_ttl(kv, "a", 0);
	at(10000);
	check_ok(get(kv, "a", NULL));
	check_ok(kvs_expire_at(kv, K("a"), WALL, NULL));
	check_status(get(kv, "a", NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_persist(kv, K("a"), NULL), KVS_ERR_NOT_FOUND);
}

static void test_expire_persist_and_touch(void **state)
{
	(void)state;
	each_config_timed(renewals);
}

/* A renewed entry shares a large value: it stays the same through overwrites, drains and snapshots. */
static void shares(struct kvs *kv)
{
	for (size_t i = 0; i < ARRAY_LEN(value_sizes); i++) {
		size_t len = value_sizes[i];
		char room[KEY_ROOM];
		struct kvs_slice key = make_key(room, i);

		set_pattern(kv, i, len, 7);
		for (int n = 0; n < 5; n++) {
			check_ok(kvs_expire(kv, key, 1000 + n, NULL));
			check_ok(kvs_drain(kv));
			check_pattern(kv, i, len, 7);
			check_ok(kvs_touch(kv, key, 5000 + n, NULL));
			check_ok(kvs_persist(kv, key, NULL));
			check_pattern(kv, i, len, 7);
		}
		check_ok(kvs_delete(kv, key, NULL));
		check_ok(kvs_drain(kv));
	}
}

static void test_a_renewed_key_keeps_its_value(void **state)
{
	(void)state;
	each_config_timed(shares);
}

/* ---- what is refused ---- */

static void refusals(struct kvs *kv)
{
	struct kvs_expiry unknown = { 7, 1 };
	int64_t far = INT64_MAX - START;
	struct kvs_value v;

	check_ok(kvs_set(kv, K("a"), K("1"), NULL));
	for (int i = 0; i < 2; i++) {
		struct kvs_expiry e = i ? kvs_at(-1) : kvs_after(-1);

		check_status(kvs_set_ex(kv, K("a"), K("2"), e, NULL), KVS_ERR_INVALID_TTL);
		check_status(kvs_add_ex(kv, K("b"), K("2"), e, NULL), KVS_ERR_INVALID_TTL);
		check_status(kvs_replace_ex(kv, K("a"), K("2"), e, NULL), KVS_ERR_INVALID_TTL);
		check_status(kvs_compare_and_set_ex(kv, K("a"), K("2"), 1, e, NULL),
			     KVS_ERR_INVALID_TTL);
	}
	check_status(kvs_expire(kv, K("a"), INT64_MIN, NULL), KVS_ERR_INVALID_TTL);
	check_status(kvs_touch(kv, K("a"), -1, NULL), KVS_ERR_INVALID_TTL);
	check_status(kvs_expire_at(kv, K("a"), -1, NULL), KVS_ERR_INVALID_TTL);
	check_status(kvs_set_ex(kv, K("a"), K("2"), unknown, NULL), KVS_ERR_INVALID_ARGUMENT);
	unknown.ms = 0;
	check_status(kvs_set_ex(kv, K("a"), K("2"), unknown, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_add_ex(kv, K("b"), K("2"), unknown, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_set_ex(kv, K("a"), K("2"), kvs_after(far + 1), NULL), KVS_ERR_INVALID_TTL);
	check_status(kvs_set_ex(kv, K("a"), K("2"), kvs_after(INT64_MAX), NULL),
		     KVS_ERR_INVALID_TTL);
	check_status(kvs_ttl(kv, K("a"), NULL), KVS_ERR_INVALID_ARGUMENT);
	check_ttl(kv, "a", 0);
	check_status(get(kv, "b", NULL), KVS_ERR_NOT_FOUND);
	/* the farthest that can be */
	check_ok(kvs_set_ex(kv, K("a"), K("2"), kvs_after(far), NULL));
	check_u64((uint64_t)ttl_of(kv, "a"), (uint64_t)far);
	check_ok(get(kv, "a", &v));
	check(v.expires_at_ms == INT64_MAX); /* the wall clock's range ends before the store's */
	check_ok(kvs_set_ex(kv, K("a"), K("2"), kvs_at(INT64_MAX), NULL));
	check_ok(get(kv, "a", NULL));
}

static void test_invalid_ttls_change_nothing(void **state)
{
	(void)state;
	each_config_timed(refusals);
}

/* ---- past the deadline ---- */

static int count_items(const struct kvs_item *item, void *arg)
{
	size_t *n = arg;

	(void)item;
	++*n;
	return 0;
}

static size_t scan_count(struct kvs *kv)
{
	struct kvs_item items[32];
	uint64_t cursor = 0;
	size_t all = 0;
	size_t n;

	kvs_read_begin(kv);
	do {
		check_ok(kvs_scan(kv, &cursor, items, ARRAY_LEN(items), &n));
		all += n;
	} while (cursor);
	kvs_read_end(kv);
	return all;
}

static size_t snapshot_count(struct kvs *kv)
{
	struct kvs_snapshot *s;
	struct kvs_snapshot_part *p;
	struct kvs_item item;
	uint64_t count;
	int err;

	check_ok(kvs_snapshot_begin(kv, NULL, &s));
	check_ok(kvs_snapshot_part_begin(s, &p));
	while ((err = kvs_snapshot_next(p, &item)) == KVS_OK)
		;
	check_status(err, KVS_ERR_NOT_FOUND);
	kvs_snapshot_part_end(p);
	check_ok(kvs_snapshot_end(s, &count));
	return count;
}

static void check_walks(struct kvs *kv, size_t n)
{
	struct kvs_slice *keys;
	size_t seen = 0;

	check_ok(kvs_foreach(kv, count_items, &seen));
	check_u64(seen, n);
	check_ok(kvs_keys(kv, &keys, &seen));
	check_u64(seen, n);
	kvs_keys_free(kv, keys);
	check_u64(scan_count(kv), n);
	check_u64(snapshot_count(kv), n);
}

static void check_present(struct kvs *kv, bool present)
{
	int want = present ? KVS_OK : KVS_ERR_NOT_FOUND;
	struct kvs_get_item item = { .key = K("a") };
	struct kvs_value v;
	int64_t ttl;
	char buf[8];

	check_status(get(kv, "a", &v), want);
	check_status(kvs_get_alloc(kv, K("a"), &v), want);
	if (present)
		kvs_value_free(kv, &v);
	check_status(kvs_exists(kv, K("a")), want);
	check_status(kvs_ttl(kv, K("a"), &ttl), want);
	kvs_read_begin(kv);
	check_status(kvs_borrow(kv, K("a"), &v), want);
	check_ok(kvs_batch_borrow(kv, &item, 1, NULL));
	check_status(item.status, want);
	kvs_read_end(kv);
	check_ok(kvs_batch_get(kv, &item, 1, buf, sizeof(buf), NULL));
	check_status(item.status, want);
	check_ok(kvs_batch_get_alloc(kv, &item, 1, NULL));
	check_status(item.status, want);
	if (present)
		kvs_value_free(kv, &item.value);
	check_walks(kv, 1 + present);
}

/* The last millisecond before the deadline, and the first after. */
static void at_the_deadline(struct kvs *kv)
{
	uint64_t version;
	struct kvs_value old;

	check_ok(kvs_set(kv, K("stays"), K("s"), NULL));
	check_ok(kvs_set_ex(kv, K("a"), K("1"), kvs_after(100), &version));
	at(99);
	check_present(kv, true);
	check_u64((uint64_t)ttl_of(kv, "a"), 1);
	at(100);
	check_present(kv, false);
	check_status(kvs_replace(kv, K("a"), K("2"), NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_compare_and_set(kv, K("a"), K("2"), version, NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_delete(kv, K("a"), NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_get_and_delete(kv, K("a"), &old), KVS_ERR_NOT_FOUND);
	check_status(kvs_expire(kv, K("a"), 100, NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_persist(kv, K("a"), NULL), KVS_ERR_NOT_FOUND);
	check_status(kvs_touch(kv, K("a"), 100, NULL), KVS_ERR_NOT_FOUND);
	check_present(kv, false);
}

static void test_a_key_is_there_until_its_deadline_and_not_from_it_on(void **state)
{
	(void)state;
	each_config_timed(at_the_deadline);
}

static void writes_over_the_dead(struct kvs *kv)
{
	struct kvs_value old;
	uint64_t v1, v2;

	check_ok(kvs_set_ex(kv, K("a"), K("1"), kvs_after(10), &v1));
	at(10);
	check_ok(kvs_add(kv, K("a"), K("2"), &v2));
	check(v2 > v1);
	check_ttl(kv, "a", 0);
	check_ok(kvs_expire(kv, K("a"), 10, NULL));
	at(20);
	check_ok(kvs_get_and_set(kv, K("a"), K("3"), &old, NULL));
	check(old.version == 0 && old.data == NULL);
	check_ok(kvs_expire(kv, K("a"), 10, NULL));
	at(30);
	check_ok(kvs_add_ex(kv, K("a"), K("4"), kvs_after(10), NULL));
	check_status(kvs_add_ex(kv, K("a"), K("4"), kvs_after(10), NULL), KVS_ERR_DUPLICATE);
	at(40);
	check_ok(kvs_set_ex(kv, K("a"), K("5"), kvs_after(10), NULL));
	check_ttl(kv, "a", 10);
	check_u64(store_len(kv), 1);
	check_walks(kv, 1);
	check_ok(kvs_delete(kv, K("a"), NULL));
	check_u64(store_len(kv), 0);
}

static void test_an_expired_key_can_be_written_anew(void **state)
{
	(void)state;
	each_config_timed(writes_over_the_dead);
}

/* ---- clocks ---- */

static void wall_moves(struct kvs *kv)
{
	check_ok(kvs_set_ex(kv, K("ttl"), K("1"), kvs_after(1000), NULL));
	check_ok(kvs_set_ex(kv, K("at"), K("1"), kvs_at(WALL + 1000), NULL));
	for (int back = 0; back < 2; back++) {
		hand.wall = back ? WALL - YEAR : WALL + YEAR;
		hand.boot = START + 500 + back;
		check_ok(get(kv, "ttl", NULL)); /* nothing is lost early */
		check_ok(get(kv, "at", NULL));
		check_walks(kv, 2);
		check_u64((uint64_t)ttl_of(kv, "ttl"), (uint64_t)(500 - back));
	}
	/* what is set by wall time from now on goes by the wall clock as it is now */
	check_ok(kvs_set_ex(kv, K("new"), K("1"), kvs_at(hand.wall + 100), NULL));
	check_u64((uint64_t)ttl_of(kv, "new"), 100);
	hand.boot = START + 1000;
	check_status(get(kv, "ttl", NULL), KVS_ERR_NOT_FOUND); /* nothing is kept */
	check_status(get(kv, "at", NULL), KVS_ERR_NOT_FOUND);
	check_status(get(kv, "new", NULL), KVS_ERR_NOT_FOUND);
	check_walks(kv, 0);
}

static void test_the_wall_clock_may_jump_by_a_year_both_ways(void **state)
{
	(void)state;
	each_config_timed(wall_moves);
}

static void suspends(struct kvs *kv)
{
	check_ok(kvs_set_ex(kv, K("day"), K("1"), kvs_after(24 * 3600 * 1000), NULL));
	check_ok(kvs_set_ex(kv, K("hour"), K("1"), kvs_after(3600 * 1000), NULL));
	at(2 * 3600 * 1000); /* both clocks went on while the machine slept */
	check_ok(get(kv, "day", NULL));
	check_status(get(kv, "hour", NULL), KVS_ERR_NOT_FOUND);
	check_walks(kv, 1);
	at(YEAR);
	check_walks(kv, 0);
}

/* A wall time beyond the end of the store's clock is taken as that end, however far the wall clock lags behind it. */
static void wall_lags(struct kvs *kv)
{
	hand.wall = 5;
	check_ok(kvs_set_ex(kv, K("far"), K("1"), kvs_at(INT64_MAX), NULL));
	check_u64((uint64_t)ttl_of(kv, "far"), (uint64_t)(INT64_MAX - hand.boot));
	check_ok(kvs_expire_at(kv, K("far"), 6, NULL));
	check_u64((uint64_t)ttl_of(kv, "far"), 1);
}

static void test_a_time_beyond_the_clock_is_its_end(void **state)
{
	(void)state;
	each_config_timed(wall_lags);
}

static void test_a_suspend_counts(void **state)
{
	(void)state;
	each_config_timed(suspends);
}

/* A store on the system's clock: a deadline reads the same each time, and is where it was asked to be. */
static void test_the_system_clock(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_value v, w;
	struct timespec t;
	int64_t ttl, wall;

	(void)state;
	(void)clock_gettime(CLOCK_REALTIME, &t);
	wall = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
	check_ok(kvs_set_ex(kv, K("a"), K("1"), kvs_at(wall + 3600000), NULL));
	check_ok(get(kv, "a", &v));
	check(v.expires_at_ms >= wall + 3600000 - 2 && v.expires_at_ms <= wall + 3600000 + 2);
	check_ok(get(kv, "a", &w));
	check(v.expires_at_ms == w.expires_at_ms);
	check_ok(kvs_ttl(kv, K("a"), &ttl));
	check(ttl > 0 && ttl <= 3600002);
	check_ok(kvs_set_ex(kv, K("b"), K("1"), kvs_after(3600000), NULL));
	check_ok(kvs_ttl(kv, K("b"), &ttl));
	check(ttl > 0 && ttl <= 3600001);
	close_store(kv);
}

/* ---- what is known of the clock without reading it ---- */

static int64_t boot_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A deadline that is "not yet" was later than the clock before the question, however near and however often asked. */
static void test_the_bound_is_never_behind_the_clock(void **state)
{
	size_t rounds = util_scaled(200000, 2000000, 20000000), sure = 0, far = 0;
	struct kvs *kv = NULL;
	struct rng r;

	(void)state;
	rng_init(&r, 7);
	check_ok(kvs_open(NULL, &kv));
	for (size_t i = 0; i < rounds; i++) {
		int64_t before = boot_now();
		int64_t deadline = before + (int64_t)rng_below(&r, 12) - 2;

		if (kvs__clock_is_before(&kv->clock, deadline)) {
			check(deadline > before);
			sure++;
		}
		far += kvs__clock_is_before(&kv->clock, before + HOUR);
		if (i % 64 == 0)
			check(kvs__clock_now(&kv->clock) >= before);
	}
	util_note("of %zu near deadlines %zu were certain, of as many far ones %zu%s", rounds, sure,
		  far, kv->clock.rseq ? "" : ": the clock is always read here");
	check(kv->clock.rseq ? far >= rounds / 4 : far + sure == 0);
	check_ok(kvs_free(kv));
}

/*
 * Whoever has slept knows nothing: the machine may have been suspended meanwhile. As it would be then: the reading that
 * the thread has lies an hour back.
 */
static void test_no_bound_outlives_a_sleep(void **state)
{
	struct kvs *kv = NULL;

	(void)state;
	check_ok(kvs_open(NULL, &kv));
	for (unsigned i = 0; i < 50; i++) {
		int64_t now = kvs__clock_now(&kv->clock);

		kvs__reading.ms = now - HOUR;
		check(poll(NULL, 0, 1) == 0);
		check(!kvs__clock_is_before(&kv->clock, now));
	}
	check_ok(kvs_free(kv));
}

static void test_a_clock_needs_both_functions(void **state)
{
	struct kvs_clock half = { hand_boot, NULL, NULL };
	struct kvs_options o = KVS_OPTIONS_INIT;
	const char *which = NULL;

	(void)state;
	o.clock = &half;
	check_status(kvs_options_check(&o, &which), KVS_ERR_INVALID_ARGUMENT);
	check(which && strcmp(which, "clock") == 0);
}

/* A clock that never stands still lets no cut be made: an answer, not a loop. */
static int64_t restless(void *ctx)
{
	struct hand *h = ctx;

	return ++h->boot;
}

static void test_a_clock_that_never_stands_still_lets_no_snapshot_begin(void **state)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs_snapshot *s;
	struct kvs *kv;

	(void)state;
	hand_init(&hand);
	hand.clock.boot_ms = restless;
	o.clock = &hand.clock;
	check_ok(kvs_open(&o, &kv));
	check_ok(kvs_set(kv, K("a"), K("1"), NULL));
	check_status(kvs_snapshot_begin(kv, NULL, &s), KVS_ERR_BUSY);
	check_ok(kvs_set(kv, K("a"), K("2"), NULL));
	check_ok(kvs_delete(kv, K("a"), NULL));
	check_ok(kvs_free(kv));
}

/* ---- batches and updates ---- */

static void batch_items(struct kvs *kv)
{
	struct kvs_set_item set[] = {
		{ .key = K("after"), .val = K("1"), .expiry = kvs_after(100) },
		{ .key = K("none"), .val = K("2") },
		{ .key = K("at"), .val = K("3"), .expiry = kvs_at(WALL + 50) },
		{ .key = K("wrong"), .val = K("4"), .expiry = kvs_after(-1) },
		{ .key = K("kind"), .val = K("5"), .expiry = { 7, 1 } },
		{ .key = K("kind"), .val = K("5"), .expiry = { 7, 0 } },
	};
	struct kvs_get_item get[] = { { .key = K("after") },
				      { .key = K("none") },
				      { .key = K("at") } };
	struct kvs_batch_counts counts;
	char buf[16];

	check_status(kvs_batch_set(kv, set, 6, &counts), KVS_ERR_INVALID_TTL);
	check(counts.ok == 3 && counts.failed == 3);
	check_status(set[3].status, KVS_ERR_INVALID_TTL);
	check_status(set[4].status, KVS_ERR_INVALID_ARGUMENT);
	check_status(set[5].status, KVS_ERR_INVALID_ARGUMENT);
	check_ttl(kv, "after", 100);
	check_ttl(kv, "none", 0);
	check_ttl(kv, "at", 50);
	at(50);
	check_ok(kvs_batch_get(kv, get, 3, buf, sizeof(buf), &counts));
	check(counts.ok == 2 && counts.not_found == 1);
	check_status(get[2].status, KVS_ERR_NOT_FOUND);
	check_u64((uint64_t)get[0].value.expires_at_ms, (uint64_t)(WALL + 100));
	at(100);
	check_ok(kvs_batch_get(kv, get, 3, buf, sizeof(buf), &counts));
	check(counts.ok == 1 && counts.not_found == 2);
}

static void test_items_of_a_batch_have_deadlines_of_their_own(void **state)
{
	(void)state;
	each_config_timed(batch_items);
}

static int keep(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg)
{
	(void)ret_new;
	*(bool *)arg = old != NULL;
	return KVS_UPDATE_KEEP;
}

static int set_to_x(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg)
{
	*(bool *)arg = old != NULL;
	*ret_new = K("x");
	return KVS_UPDATE_SET;
}

static void updates_keep(struct kvs *kv)
{
	bool was_there = false;
	uint64_t version = 7;
	int64_t n = 0;
	size_t len = 0;

	check_ok(kvs_set_ex(kv, K("n"), K("5"), kvs_after(100), NULL));
	check_ok(kvs_set_ex(kv, K("a"), K("ab"), kvs_after(100), NULL));
	check_ok(kvs_set_ex(kv, K("u"), K("old"), kvs_after(100), NULL));
	at(99);
	check_ok(kvs_increment(kv, K("n"), 1, &n, NULL));
	check_ok(kvs_append(kv, K("a"), K("c"), &len, NULL));
	check_ok(kvs_update(kv, K("u"), set_to_x, &was_there, NULL));
	check(n == 6 && len == 3 && was_there);
	check_ttl(kv, "n", 1);
	check_ttl(kv, "a", 1);
	check_ttl(kv, "u", 1);
	at(100); /* what has expired is absent: it counts as 0, as empty, as nothing */
	check_ok(kvs_update(kv, K("u"), keep, &was_there, &version));
	check(!was_there && version == 0);
	check_ok(kvs_increment(kv, K("n"), 1, &n, NULL));
	check_ok(kvs_append(kv, K("a"), K("c"), &len, NULL));
	check_ok(kvs_update(kv, K("u"), set_to_x, &was_there, NULL));
	check(n == 1 && len == 1 && !was_there);
	check_ttl(kv, "n", 0);
	check_ttl(kv, "a", 0);
	check_ttl(kv, "u", 0);
}

static void test_updates_keep_the_deadline(void **state)
{
	(void)state;
	each_config_timed(updates_keep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_write_takes_a_ttl_or_a_time),
		cmocka_unit_test(test_expire_persist_and_touch),
		cmocka_unit_test(test_a_renewed_key_keeps_its_value),
		cmocka_unit_test(test_invalid_ttls_change_nothing),
		cmocka_unit_test(test_a_key_is_there_until_its_deadline_and_not_from_it_on),
		cmocka_unit_test(test_an_expired_key_can_be_written_anew),
		cmocka_unit_test(test_the_wall_clock_may_jump_by_a_year_both_ways),
		cmocka_unit_test(test_a_time_beyond_the_clock_is_its_end),
		cmocka_unit_test(test_a_suspend_counts),
		cmocka_unit_test(test_the_system_clock),
		cmocka_unit_test(test_the_bound_is_never_behind_the_clock),
		cmocka_unit_test(test_no_bound_outlives_a_sleep),
		cmocka_unit_test(test_a_clock_needs_both_functions),
		cmocka_unit_test(test_a_clock_that_never_stands_still_lets_no_snapshot_begin),
		cmocka_unit_test(test_items_of_a_batch_have_deadlines_of_their_own),
		cmocka_unit_test(test_updates_keep_the_deadline),
	};

	return util_main("ttl", tests, ARRAY_LEN(tests));
}
