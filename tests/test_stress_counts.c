/* SPDX-License-Identifier: MIT */
/*
 * test_stress_counts.c - nothing is lost and nothing is counted twice: what was inserted, less
 * what was deleted, is there, is counted, and is walked; and what was replaced or deleted is
 * freed.
 */
#include "configs.h"

#include "stress.h"

#define KEYS 400u
#define THREADS 4u

enum { INSERTS, DELETES, OVERWRITES, HALVED };

struct stress {
	struct kvs *kv;
	struct counting mem;
	struct goals goals;
	_Atomic uint64_t balance[KEYS]; /* inserts less deletes of each key: 0 or 1 at rest */
};

/* What one call did: counts by its answer alone. */
static void one(struct stress *s, struct rng *r, uint64_t done[3])
{
	char room[KEY_ROOM];
	uint64_t k = rng_below(r, KEYS);
	struct kvs_slice key = make_key(room, k);
	struct kvs_value old = { NULL, 0, 0, 0 };
	int err;

	switch (rng_below(r, 6)) {
	case 0:
		err = kvs_add(s->kv, key, key, NULL);
		check(err == KVS_OK || err == KVS_ERR_DUPLICATE);
		done[INSERTS] += !err;
		atomic_fetch_add(&s->balance[k], !err);
		break;
	case 1:
	case 2:
		check_ok(kvs_get_and_set(s->kv, key, key, &old, NULL));
		done[old.version ? OVERWRITES : INSERTS]++;
		atomic_fetch_add(&s->balance[k], old.version == 0);
		break;
	case 3:
		err = kvs_replace(s->kv, key, key, NULL);
		check(err == KVS_OK || err == KVS_ERR_NOT_FOUND);
		done[OVERWRITES] += !err;
		break;
	default:
		err = rng_below(r, 2) ? kvs_delete(s->kv, key, NULL)
				      : kvs_get_and_delete(s->kv, key, &old);
		check(err == KVS_OK || err == KVS_ERR_NOT_FOUND);
		done[DELETES] += !err;
		atomic_fetch_sub(&s->balance[k], !err);
		break;
	}
	kvs_value_free(s->kv, &old);
}

static void member(size_t index, void *arg)
{
	struct stress *s = arg;
	struct tide tide = { .kv = s->kv, .fillers = 2 * KEYS };
	struct rng r;

	rng_init(&r, index);
	if (index == THREADS) {
		tide_begin(&tide);
		while (!goals_met(&s->goals))
			goal_add(&s->goals, HALVED, tide_cycle(&tide));
		tide_end(&tide);
		return;
	}
	while (!goals_met(&s->goals)) {
		uint64_t done[3] = { 0 };

		for (unsigned i = 0; i < 64; i++)
			one(s, &r, done);
		for (size_t i = 0; i < 3; i++)
			goal_add(&s->goals, i, done[i]);
	}
}

static int count_item(const struct kvs_item *item, void *arg)
{
	uint64_t *seen = arg;
	uint64_t k = key_number(item->key);

	check(k < KEYS);
	seen[k]++;
	return 0;
}

static void check_at_rest(struct stress *s)
{
	uint64_t seen[KEYS] = { 0 }, present = 0;
	struct kvs_stats stats;

	check_ok(kvs_foreach(s->kv, count_item, seen));
	for (uint64_t k = 0; k < KEYS; k++) {
		check_u64(seen[k], atomic_load(&s->balance[k]));
		check(key_present(s->kv, k) == (seen[k] == 1));
		present += seen[k];
	}
	check_u64(store_len(s->kv), present);
	check_u64(atomic_load(&s->goals.goal[INSERTS].count) -
			  atomic_load(&s->goals.goal[DELETES].count),
		  present);
	stats = store_stats(s->kv);
	check_u64(stats.keys, present);
	check_u64(stats.inserts - stats.deletes, present); /* fillers too are balanced */
	check_u64(stats.overwrites, atomic_load(&s->goals.goal[OVERWRITES].count));
	check_ok(kvs_drain(s->kv));
	check_u64(store_stats(s->kv).bytes_deferred, 0);
	util_note("keys at rest %llu of %u, growths %llu, shrinks %llu",
		  (unsigned long long)present, KEYS, (unsigned long long)stats.growths,
		  (unsigned long long)stats.shrinks);
}

static void test_counts_agree_at_rest(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct stress *s = calloc(1, sizeof(*s));
	uint64_t floor = util_scaled(500, 150000, 50000000);

	(void)state;
	check(s != NULL);
	s->goals.goal[INSERTS].name = "inserts";
	s->goals.goal[DELETES].name = "deletes";
	s->goals.goal[OVERWRITES].name = "overwrites";
	for (size_t i = INSERTS; i <= OVERWRITES; i++)
		s->goals.goal[i].floor = floor;
	s->goals.goal[HALVED].name = "halvings";
	s->goals.goal[HALVED].floor = util_scaled(3, 60, 20000);
	counting_init(&s->mem, true);
	opts.shards = 1;
	opts.allocator = &s->mem.hooks;
	check_ok(kvs_open(&opts, &s->kv));
	run_threads(THREADS + 1, member, s);
	check_at_rest(s);
	goals_report(&s->goals);
	close_store(s->kv);
	check_u64(atomic_load(&s->mem.live_blocks), 0);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts_agree_at_rest),
	};

	return util_main("stress_counts", tests, ARRAY_LEN(tests));
}
