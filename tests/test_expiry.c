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
#include <unistd.h>

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
		  !kvs__wheel_has_work(&kv->expiry.wheel);
	kvs__expiry_unlock(kv);
	return settled;
}

/*
 * Until nothing is left to do at this time, by the store's thread or by the test. The first drain reads what was sent, so
 * that all that is due is on the wheel; the last one frees what the store's thread took off it, however late that was.
 */
static void settle(struct kvs *kv)
{
	check_ok(kvs_drain(kv));
	while (!is_settled(kv)) {
		uint64_t budget = UINT64_MAX;

		(void)kvs__expiry_pass(kv, kvs__clock_now(&kv->clock), &budget);
		sched_yield();
	}
	check_ok(kvs_drain(kv));
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
		/* As util_child_done(), but nobody looks for leaks: what the parent's threads had is one. */
		(void)execl("/bin/sh", "sh", "-c", "exit 42", (char *)NULL);
		util_child_done();
	}
	kvs_fork_parent();
	check_child(pid);
	check_u64(store_len(kv), 1000);
	hand_set(&hand, 200);
	wait_for_len(kv, 500);
	check_ok(kvs_free(kv));
}

/* ---- what the user is told ---- */

#define TOLD 4000u

struct told {
	_Atomic uint32_t times[TOLD]; /* by the number in the value */
	_Atomic uint32_t cause[TOLD];
	_Atomic uint64_t count;
};

static void on_removed(const struct kvs_item *item, enum kvs_removal cause, void *ctx)
{
	struct told *t = ctx;
	uint32_t n;

	check_u64(item->value.len % 5000, sizeof(n));
	memcpy(&n, item->value.data, sizeof(n));
	check(n < TOLD);
	t->times[n]++;
	t->cause[n] = cause;
	t->count++;
}

static void set_numbered(struct kvs *kv, uint64_t key, uint32_t n, int64_t ttl_ms)
{
	unsigned char value[5000 + sizeof(n)] = { 0 };
	char room[KEY_ROOM];

	memcpy(value, &n, sizeof(n));
	check_ok(kvs_set_ex(kv, make_key(room, key),
			    kvs_bytes(value, n % 50 ? sizeof(n) : 5000 + sizeof(n)),
			    kvs_after(ttl_ms), NULL));
}

static struct kvs *open_told(struct told *t)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	memset(t, 0, sizeof(*t));
	hand_init(&hand);
	counting_init(&mem, true);
	o.clock = &hand.clock;
	o.allocator = &mem.hooks;
	o.removed_fn = on_removed;
	o.removed_ctx = t;
	check_ok(kvs_open(&o, &kv));
	return kv;
}

static void check_told(const struct told *t, uint32_t from, uint32_t to, enum kvs_removal cause)
{
	for (uint32_t n = from; n < to; n++) {
		check_u64(t->times[n], 1);
		check_u64(t->cause[n], cause);
	}
}

/* Timed and untimed entries, with a snapshot under way or not: each is told of once, with its cause. */
static void test_each_removal_is_told_once_with_its_cause(void **state)
{
	static struct told t;

	(void)state;
	for (int with_snapshot = 0; with_snapshot < 2; with_snapshot++) {
		struct kvs_snapshot *s = NULL;
		struct kvs *kv = open_told(&t);
		char room[KEY_ROOM];

		for (uint32_t n = 0; n < 1000; n++)
			set_numbered(kv, n, n, n % 2 ? 100 : 0);
		if (with_snapshot)
			check_ok(kvs_snapshot_begin(kv, NULL, &s));
		for (uint32_t n = 0; n < 200; n++)
			set_numbered(kv, n, 1000 + n, n % 3 ? 1000 : 0);
		for (uint32_t n = 200; n < 400; n++)
			check_ok(kvs_delete(kv, make_key(room, n), NULL));
		hand_set(&hand, 100); /* odd ones from 401 on */
		for (uint32_t n = 401; n < 500;
		     n += 2) /* some of them are written before the wheel comes */
			set_numbered(kv, n, 1000 + n, 0);
		if (with_snapshot)
			check_ok(kvs_snapshot_end(s, NULL));
		settle(kv);
		check_told(&t, 0, 200, KVS_REMOVED_REPLACED);
		check_told(&t, 200, 400, KVS_REMOVED_DELETED);
		for (uint32_t n = 400; n < 1000; n++)
			check_u64(t.times[n], n % 2);
		for (uint32_t n = 401; n < 1000; n += 2)
			check_told(&t, n, n + 1, KVS_REMOVED_EXPIRED);
		check_u64(t.count, 400 + 300);
		check_ok(kvs_clear(kv));
		check_told(&t, 1000, 1200, KVS_REMOVED_CLEARED);
		check_u64(t.count, 1000 + 200 + 50);
		set_numbered(kv, 1, 2000, 1000);
		set_numbered(kv, 2, 2001, 0);
		check_ok(kvs_expire(kv, make_key(room, 2), 500,
				    NULL)); /* the value lives on in another entry */
		check_ok(kvs_close(kv));
		check_u64(t.times[2001], 2);
		check_u64(t.times[2000], 1);
		check_u64(t.cause[2000], KVS_REMOVED_CLOSED);
		check_u64(t.count, 1000 + 200 + 50 + 3);
		close_timed(kv);
	}
}

struct race_told {
	struct kvs *kv;
	_Atomic uint32_t next;
};

static void told_racer(size_t index, void *arg)
{
	struct race_told *r = arg;
	struct rng rng;
	uint32_t n;

	rng_init(&rng, 30 + index);
	while ((n = r->next++) < TOLD) {
		char room[KEY_ROOM];

		set_numbered(r->kv, rng_below(&rng, 20), n, (int64_t)rng_below(&rng, 10));
		if (rng_below(&rng, 3) == 0)
			(void)kvs_delete(r->kv, make_key(room, rng_below(&rng, 20)), NULL);
		if (rng_below(&rng, 3) == 0)
			hand.boot++;
	}
}

static void test_racing_removals_are_told_once_each(void **state)
{
	static struct told t;
	struct race_told race = { .kv = open_told(&t), .next = 0 };
	uint64_t causes[6] = { 0 };

	(void)state;
	run_threads(4, told_racer, &race);
	check_ok(kvs_close(race.kv));
	for (uint32_t n = 0; n < TOLD; n++) {
		check_u64(t.times[n], 1);
		causes[t.cause[n]]++;
	}
	util_note("expired %llu deleted %llu replaced %llu closed %llu",
		  (unsigned long long)causes[KVS_REMOVED_EXPIRED],
		  (unsigned long long)causes[KVS_REMOVED_DELETED],
		  (unsigned long long)causes[KVS_REMOVED_REPLACED],
		  (unsigned long long)causes[KVS_REMOVED_CLOSED]);
	check(causes[KVS_REMOVED_EXPIRED] > 10 && causes[KVS_REMOVED_DELETED] > 10 &&
	      causes[KVS_REMOVED_REPLACED] > 10);
	close_timed(race.kv);
}

/* ---- without threads ---- */

static struct kvs *open_alone(uint32_t tick_ms)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	hand_init(&hand);
	counting_init(&mem, true);
	o.clock = &hand.clock;
	o.allocator = &mem.hooks;
	o.flags = KVS_OPEN_NO_THREADS;
	o.expiry_tick_ms = tick_ms;
	check_ok(kvs_open(&o, &kv));
	return kv;
}

static void test_kvs_run_turns_the_wheel(void **state)
{
	struct kvs *kv = open_alone(1);
	int next;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		set_timed(kv, i, 1 + (int64_t)i);
	for (int64_t now = 0; now <= 1000; now += 100) {
		hand_set(&hand, now);
		check_u64(store_len(kv), now ? (uint64_t)(1000 - now + 100) : 1000);
		do
			check_ok(kvs_run(kv, 0, 0, &next));
		while (next == 0);
		check_u64(store_len(kv),
			  (uint64_t)(1000 - now)); /* a tick of a millisecond: none is late */
		check(next == 1 || now == 1000);
	}
	close_timed(kv);
}

/* Nobody runs the store: a writer whose messages wait in too great a number does pieces of the work itself. */
static void test_writers_help_when_their_messages_wait(void **state)
{
	struct kvs *kv = open_alone(0);
	struct kvs__slot *slot;
	uint64_t most = 0;

	(void)state;
	for (uint64_t i = 0; i < 60000; i++) {
		uint64_t wait;

		set_timed(kv, i % 100, HOUR);
		slot = kvs__slot_get(&kv->home);
		wait = load_relaxed(&slot->sent) - load_relaxed(&slot->seen);
		most = wait > most ? wait : most;
	}
	util_note("%llu messages waited at most", (unsigned long long)most);
	check(most > 4000 && most < 4096 + 64);
	hand_set(&hand, 2 * HOUR);
	for (uint64_t i = 0; i < 60000; i++) /* timers that are due are in the pieces too */
		set_timed(kv, 1000 + i % 100, HOUR);
	check_u64(store_len(kv), 100);
	close_timed(kv);
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
		cmocka_unit_test(test_each_removal_is_told_once_with_its_cause),
		cmocka_unit_test(test_racing_removals_are_told_once_each),
		cmocka_unit_test(test_kvs_run_turns_the_wheel),
		cmocka_unit_test(test_writers_help_when_their_messages_wait),
		cmocka_unit_test(test_racing_writers_and_timers_lose_nothing),
	};

	return util_main("expiry", tests, ARRAY_LEN(tests));
}
