/* SPDX-License-Identifier: MIT */
/*
 * test_expiry.c - keys leave the store when their time is up, without anybody asking for them; what was overwritten
 * or deleted before that is given back soon; and the old timer of a key never touches what came after.
 */
#include "configs.h"
#include "hand.h"

#include <sched.h>
#include <string.h>
#include <sys/types.h>

#include "expiry.h"
#include "maintain.h"

#define HOUR INT64_C(3600000)
#define YEAR INT64_C(31556952000)

static struct hand hand;
static struct counting mem;

static struct kvs *open_timed(bool counted)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	hand_init(&hand);
	counting_init(&mem, true);
	o.clock = &hand.clock;
	o.allocator = counted ? &mem.hooks : NULL;
	check_ok(kvs_open(&o, &kv));
	return kv;
}

static void close_timed(struct kvs *kv)
{
	check_ok(kvs_free(kv));
	check_u64(mem.live_bytes, 0);
}

static void set_timed(struct kvs *kv, uint64_t number, int64_t ttl_ms)
{
	char room[KEY_ROOM];

	check_ok(kvs_set_ex(kv, make_key(room, number), kvs_str("value"), kvs_after(ttl_ms), NULL));
}

static bool is_settled(struct kvs *kv)
{
	uint64_t now = (uint64_t)kvs__clock_now(&kv->clock);
	bool settled;

	kvs__expiry_lock(kv);
	settled = kv->expiry.wheel.now >= now / KVS__TICK_MS &&
		  !kvs__wheel_has_due(&kv->expiry.wheel);
	kvs__expiry_unlock(kv);
	return settled;
}

/* Until nothing is left to do at this time, by the store's thread or by the test. */
static void settle(struct kvs *kv)
{
	do {
		uint64_t budget = UINT64_MAX;

		(void)kvs__expiry_pass(kv, kvs__clock_now(&kv->clock), &budget);
		check_ok(kvs_drain(kv));
	} while (!is_settled(kv));
}

/* The store's thread removes them; nobody else looks. */
static void wait_for_len(struct kvs *kv, uint64_t len)
{
	while (store_len(kv) != len)
		sched_yield();
}

static void test_keys_leave_without_being_asked_for(void **state)
{
	size_t n = util_scaled(500, 5000, 50000);
	struct kvs *kv = open_timed(true);

	(void)state;
	for (size_t i = 0; i < n; i++)
		set_timed(kv, i, 1 + (int64_t)i % 1000);
	check_ok(kvs_set(kv, kvs_str("stays"), kvs_str("v"), NULL));
	hand_set(&hand, 500);
	settle(kv);
	/* all that were due a tick ago are gone, and none before its time */
	for (size_t i = 0; i < n; i++)
		check(key_present(kv, i) == (1 + i % 1000 > 500));
	check(store_len(kv) <= n / 2 + 1 + n / 1000 * KVS__TICK_MS);
	hand_set(&hand, 1000 + KVS__TICK_MS);
	wait_for_len(kv, 1);
	settle(kv);
	check_u64(store_stats(kv).expirations, n);
	check_u64(store_stats(kv).timers, 0);
	check_u64(store_stats(kv).bytes_deferred, 0);
	close_timed(kv);
}

/* A jump of a year takes all at once; a clock that stands or a wall clock that moves takes none. */
static void test_only_the_boot_clock_counts(void **state)
{
	struct kvs *kv = open_timed(true);

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		set_timed(kv, i, HOUR);
	hand.wall = HAND_WALL + YEAR;
	settle(kv);
	hand.wall = HAND_WALL - YEAR;
	settle(kv);
	check_u64(store_len(kv), 100);
	check_u64(store_stats(kv).timers, 100);
	hand.boot = HAND_BOOT + YEAR; /* suspended */
	wait_for_len(kv, 0);
	close_timed(kv);
}

/* What was overwritten or deleted long before its deadline does not wait for it. */
static void removed_early(bool by_delete)
{
	size_t n = util_scaled(2000, 20000, 200000);
	struct kvs *kv = open_timed(true);
	uint64_t filled, room;

	for (uint64_t i = 0; i < 100; i++)
		set_timed(kv, i, 24 * HOUR);
	settle(kv);
	filled = store_stats(kv).bytes_live;
	room = mem.live_bytes;
	for (uint64_t i = 0; i < n; i++) {
		char key[KEY_ROOM];

		if (by_delete)
			check_ok(kvs_delete(kv, make_key(key, i % 100), NULL));
		set_timed(kv, i % 100, 24 * HOUR + (int64_t)i);
	}
	settle(kv);
	check_u64(store_stats(kv).bytes_live, filled);
	check_u64(store_stats(kv).bytes_deferred, 0);
	check_u64(store_stats(kv).timers, 100);
	check_u64(store_stats(kv).expirations, 0);
	check(mem.live_bytes < room + 65536); /* batches come and go */
	close_timed(kv);
}

static void test_an_overwritten_timed_entry_is_given_back(void **state)
{
	(void)state;
	removed_early(false);
}

static void test_a_deleted_timed_entry_is_given_back(void **state)
{
	(void)state;
	removed_early(true);
}

/* ---- the old timer and the new key ---- */

static void renew(struct kvs *kv, unsigned how, struct kvs_slice key)
{
	switch (how) {
	case 0:
		check_ok(kvs_set_ex(kv, key, kvs_str("new"), kvs_after(1000), NULL));
		break;
	case 1:
		check_ok(kvs_expire(kv, key, 1000, NULL));
		break;
	case 2:
		check_ok(kvs_touch(kv, key, 1000, NULL));
		break;
	case 3:
		check_ok(kvs_persist(kv, key, NULL));
		break;
	case 4:
		check_ok(kvs_set(kv, key, kvs_str("new"), NULL));
		break;
	case 5:
		check_ok(kvs_delete(kv, key, NULL));
		check_ok(kvs_add_ex(kv, key, kvs_str("new"), kvs_after(1000), NULL));
		break;
	default:
		check_ok(kvs_expire_at(kv, key, hand.wall + 1000, NULL));
		break;
	}
}

static void test_a_renewed_key_outlives_its_old_timer(void **state)
{
	(void)state;
	for (int early = 0; early < 2; early++)
		for (unsigned how = 0; how < 7; how++) {
			struct kvs *kv = open_timed(true);

			set_timed(kv, 1, 100);
			if (!early) /* else both messages about it wait together */
				settle(kv);
			hand_set(&hand, 50);
			renew(kv, how, make_key((char[KEY_ROOM]){ 0 }, 1));
			hand_set(&hand, 200);
			settle(kv);
			check(key_present(kv, 1));
			check_u64(store_len(kv), 1);
			hand_set(&hand, 1050 + KVS__TICK_MS);
			settle(kv);
			check(key_present(kv, 1) == (how == 3 || how == 4));
			check_u64(store_len(kv), how == 3 || how == 4);
			close_timed(kv);
		}
}

static void test_an_expired_key_written_anew_outlives_its_old_timer(void **state)
{
	struct kvs *kv = open_timed(true);

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		set_timed(kv, i, 100);
	hand_set(&hand, 100);
	for (uint64_t i = 0; i < 1000; i++) /* the store's thread removes others meanwhile */
		set_timed(kv, i, 100);
	settle(kv);
	check_u64(store_len(kv), 1000);
	check_u64(store_stats(kv).expirations, 1000);
	close_timed(kv);
}

/* The two messages about an entry may come in either order, together or apart. */
static void test_messages_in_either_order(void **state)
{
	(void)state;
	for (int retired_first = 0; retired_first < 2; retired_first++)
		for (int together = 0; together < 2; together++) {
			struct kvs *kv = open_timed(true);
			struct kvs__slot *slot = kvs__slot_get(&kv->home);
			struct kvs__entry *e;
			uint64_t bytes;

			check_ok(kvs_drain(kv));
			bytes = mem.live_bytes;
			e = kvs__entry_make_timed(&kv->pool, &slot->heap, 1, kvs_str("k"),
						  kvs_str("v"), HAND_BOOT + 100);
			check(e != NULL);
			store_relaxed(&e->next, KVS__ENTRY_DELETED); /* as its remover left it */
			if (retired_first)
				kvs__expiry_retired(kv, slot, e);
			else
				kvs__expiry_added(slot, e);
			if (!together)
				settle(kv);
			check(mem.live_bytes > bytes);
			if (retired_first)
				kvs__expiry_added(slot, e);
			else
				kvs__expiry_retired(kv, slot, e);
			settle(kv);
			check_u64(mem.live_bytes, bytes);
			check_u64(store_stats(kv).timers, 0);
			close_timed(kv);
		}
}

/* ---- the store as a whole ---- */

static void test_close_gives_back_pending_timers(void **state)
{
	size_t n = util_scaled(2000, 100000, 1000000);

	(void)state;
	for (int settled = 0; settled < 2; settled++) {
		struct kvs *kv = open_timed(true);

		for (size_t i = 0; i < n; i++)
			set_timed(kv, i, HOUR + (int64_t)i);
		for (size_t i = 0; i < n; i += 3)
			set_timed(kv, i, 2 * HOUR);
		if (settled) {
			settle(kv);
			check_u64(store_stats(kv).timers, n);
		}
		close_timed(kv);
	}
}

static void test_clear_takes_the_timers_with_it(void **state)
{
	size_t n = util_scaled(1000, 20000, 200000);
	struct kvs *kv = open_timed(true);

	(void)state;
	for (int round = 0; round < 4; round++) {
		for (size_t i = 0; i < n; i++)
			set_timed(kv, i, 1000 + (int64_t)i);
		if (round % 2)
			settle(kv);
		check_ok(kvs_clear(kv));
		check_u64(store_len(kv), 0);
		settle(kv);
		check_u64(store_stats(kv).timers, 0);
		check_u64(store_stats(kv).bytes_live, 0);
	}
	/* the timers of what was cleared are nobody's */
	for (size_t i = 0; i < n; i++)
		set_timed(kv, i, HOUR);
	hand_set(&hand, 1000 + (int64_t)n + KVS__TICK_MS);
	settle(kv);
	check_u64(store_len(kv), n);
	close_timed(kv);
}

static void test_a_snapshot_leaves_out_what_had_expired_and_keeps_what_had_not(void **state)
{
	struct kvs *kv = open_timed(true);
	struct kvs_snapshot *s;
	struct kvs_snapshot_part *p;
	struct kvs_item item;
	unsigned char seen[300] = { 0 };
	int err;

	(void)state;
	for (uint64_t i = 0; i < 300; i++)
		set_timed(kv, i, i < 100 ? 100 : i < 200 ? 200 : 0);
	hand_set(&hand, 100);
	check_ok(kvs_snapshot_begin(kv, NULL, &s));
	hand_set(&hand,
		 300); /* 100 to 199 expire behind the cut: removed, and owed to the snapshot */
	settle(kv);
	check_u64(store_len(kv), 100);
	check(store_stats(kv).handed_over >= 100);
	check_ok(kvs_snapshot_part_begin(s, &p));
	while ((err = kvs_snapshot_next(p, &item)) == KVS_OK) {
		uint64_t i = key_number(item.key);

		check(i >= 100 && i < 300 && !seen[i]++);
		check(item.value.expires_at_ms == (i < 200 ? HAND_WALL + 200 : 0));
	}
	check_status(err, KVS_ERR_NOT_FOUND);
	kvs_snapshot_part_end(p);
	check_ok(kvs_snapshot_end(s, NULL));
	for (unsigned i = 100; i < 300; i++)
		check(seen[i]);
	settle(kv);
	check_u64(store_stats(kv).bytes_deferred, 0);
	close_timed(kv);
}

static void test_the_lag_is_told(void **state)
{
	struct kvs *kv = open_timed(true);
	struct kvs_stats stats;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		set_timed(kv, i, 100);
	check_u64(store_stats(kv).expiry_lag_max_ms, 0);
	kvs__expiry_lock(kv); /* nobody turns the wheel */
	hand_set(&hand, 137);
	kvs__expiry_unlock(kv);
	wait_for_len(kv, 0);
	stats = store_stats(kv);
	check_u64(stats.expiry_lag_p50_ms, 37);
	check_u64(stats.expiry_lag_p99_ms, 37);
	check_u64(stats.expiry_lag_max_ms, 37);
	close_timed(kv);
}

static void test_timers_go_on_in_a_forks_child(void **state)
{
	struct kvs *kv = open_timed(false);
	pid_t pid;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		set_timed(kv, i, i % 2 ? 100 : HOUR);
	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0) {
#if !defined(KVS_TSAN)
		check_ok(kvs_fork_child());
		hand_set(&hand, 200);
		wait_for_len(kv, 500);
		hand_set(&hand, 2 * HOUR);
		wait_for_len(kv, 0);
#endif
		util_child_done();
	}
	kvs_fork_parent();
	check_child(pid);
	check_u64(store_len(kv), 1000);
	hand_set(&hand, 200);
	wait_for_len(kv, 500);
	check_ok(kvs_free(kv));
}

/* ---- threads ---- */

struct race {
	struct kvs *kv;
	size_t rounds;
};

static void racer(size_t index, void *arg)
{
	struct race *r = arg;
	struct rng rng;

	rng_init(&rng, 10 + index);
	for (size_t i = 0; i < r->rounds; i++) {
		char room[KEY_ROOM];
		struct kvs_slice key = make_key(room, rng_below(&rng, 50));

		switch (rng_below(&rng, 8)) {
		case 0:
			(void)kvs_delete(r->kv, key, NULL);
			break;
		case 1:
			(void)kvs_touch(r->kv, key, 1 + (int64_t)rng_below(&rng, 40), NULL);
			break;
		case 2:
			(void)kvs_expire(r->kv, key, (int64_t)rng_below(&rng, 40), NULL);
			break;
		case 3:
			hand.boot += (int64_t)rng_below(&rng, 3);
			break;
		case 4:
			(void)kvs_exists(r->kv, key);
			break;
		default:
			check_ok(kvs_set_ex(r->kv, key, kvs_str("v"),
					    kvs_after((int64_t)rng_below(&rng, 30)), NULL));
			break;
		}
	}
}

/* Everything at once on few keys: in the end what is counted is there, and all the rest is given back. */
static void test_racing_writers_and_timers_lose_nothing(void **state)
{
	struct kvs *kv = open_timed(true);
	struct race race = { kv, util_scaled(3000, 60000, 3000000) };
	struct kvs_stats stats;

	(void)state;
	run_threads(4, racer, &race);
	stats = store_stats(kv);
	util_note("expirations %llu, by writes %llu, overwrites %llu, deletes %llu",
		  (unsigned long long)stats.expirations,
		  (unsigned long long)stats.expirations_by_write,
		  (unsigned long long)stats.overwrites, (unsigned long long)stats.deletes);
	check(stats.expirations > race.rounds / 100 && stats.deletes > race.rounds / 100);
	hand.boot += 1000;
	settle(kv);
	stats = store_stats(kv);
	check_u64(stats.inserts - stats.deletes - stats.expirations, stats.keys);
	check_u64(stats.timers, 0);
	check_u64(stats.bytes_deferred, 0);
	check_ok(kvs_clear(kv));
	check_u64(store_stats(kv).bytes_live, 0);
	close_timed(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_leave_without_being_asked_for),
		cmocka_unit_test(test_only_the_boot_clock_counts),
		cmocka_unit_test(test_an_overwritten_timed_entry_is_given_back),
		cmocka_unit_test(test_a_deleted_timed_entry_is_given_back),
		cmocka_unit_test(test_a_renewed_key_outlives_its_old_timer),
		cmocka_unit_test(test_an_expired_key_written_anew_outlives_its_old_timer),
		cmocka_unit_test(test_messages_in_either_order),
		cmocka_unit_test(test_close_gives_back_pending_timers),
		cmocka_unit_test(test_clear_takes_the_timers_with_it),
		cmocka_unit_test(
			test_a_snapshot_leaves_out_what_had_expired_and_keeps_what_had_not),
		cmocka_unit_test(test_the_lag_is_told),
		cmocka_unit_test(test_timers_go_on_in_a_forks_child),
		cmocka_unit_test(test_racing_writers_and_timers_lose_nothing),
	};

	return util_main("expiry", tests, ARRAY_LEN(tests));
}
