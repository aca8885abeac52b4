/* SPDX-License-Identifier: MIT */
/*
 * test_stress_clear.c - clear empties all shards at one instant: a reader sees the old contents
 * or the new, never a mixture.
 *
 * One thread sets key A to n, then key B, which lies in another shard, to n, then clears. So
 * whoever finds B = n and then A absent knows that the clear came in between, and that B = n is
 * gone for good. Other threads write other keys of all shards meanwhile.
 */
#include "configs.h"

#include <sched.h>
#include <string.h>

#include "stress.h"

enum { READS, CLEARS_MET, CLEARS, NOISE };

#define KEY_A 0u
#define KEY_B 1u
#define NOISE_FIRST 100u

struct stress {
	struct kvs *kv;
	struct goals goals;
};

static int route(const void *key, size_t len, int shards, void *ctx)
{
	(void)ctx;
	return (int)(key_number(kvs_bytes(key, len)) % (uint64_t)shards);
}

static void write_noise(struct stress *s, struct rng *r)
{
	char room[KEY_ROOM];

	while (!goals_met(&s->goals)) {
		struct kvs_slice key = make_key(room, NOISE_FIRST + rng_below(r, 1000));

		check_ok(kvs_set(s->kv, key, key, NULL));
		goal_add(&s->goals, NOISE, 1);
	}
}

/* The number under key @k; 0: absent. */
static uint64_t read_number(struct kvs *kv, uint64_t k)
{
	char room[KEY_ROOM];
	struct kvs_value v;
	uint64_t n = 0;
	int err = kvs_get(kv, make_key(room, k), &n, sizeof(n), &v);

	if (err == KVS_ERR_NOT_FOUND)
		return 0;
	check_ok(err);
	check_u64(v.len, sizeof(n));
	return n;
}

static void read_pairs(struct stress *s)
{
	while (!goals_met(&s->goals)) {
		uint64_t b = read_number(s->kv, KEY_B);
		uint64_t a = read_number(s->kv, KEY_A);
		uint64_t again;

		goal_add(&s->goals, READS, 1);
		if (b == 0)
			continue;
		check(a == 0 || a >= b);
		again = read_number(s->kv, KEY_B);
		check(again == 0 || again >= b);
		if (a != b) {
			check(again != b);
			goal_add(&s->goals, CLEARS_MET, 1);
		}
	}
}

static void clear(struct stress *s)
{
	char room[KEY_ROOM];

	for (uint64_t n = 1; !goals_met(&s->goals); n++) {
		struct kvs_slice val = kvs_bytes(&n, sizeof(n));

		check_ok(kvs_set(s->kv, make_key(room, KEY_A), val, NULL));
		check_ok(kvs_set(s->kv, make_key(room, KEY_B), val, NULL));
		while (n % 2 && !key_present(s->kv, NOISE_FIRST))
			sched_yield(); /* until another thread came to its turn */
		check_ok(kvs_clear(s->kv));
		goal_add(&s->goals, CLEARS, 1);
	}
}

static void member(size_t index, void *arg)
{
	struct rng r;

	rng_init(&r, index);
	if (index == 0)
		clear(arg);
	else if (index < 3)
		read_pairs(arg);
	else
		write_noise(arg, &r);
}

static void test_clear_is_one_instant(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct stress *s = calloc(1, sizeof(*s));

	(void)state;
	check(s != NULL);
	s->goals = (struct goals){ {
		[NOISE] = { .name = "writes of other keys",
			    .floor = util_scaled(1000, 100000, 10000000) },
		[READS] = { .name = "pairs read", .floor = util_scaled(1000, 100000, 10000000) },
		[CLEARS_MET] = { .name = "pairs between whose two reads the clear came",
				 .floor = util_scaled(1, 20, 2000) },
		[CLEARS] = { .name = "clears", .floor = util_scaled(10, 200, 20000) },
	} };
	opts.shards = 4;
	opts.route = KVS_ROUTE_USER;
	opts.shard_fn = route;
	check_ok(kvs_open(&opts, &s->kv));
	run_threads(4, member, s);
	goals_report(&s->goals);
	close_store(s->kv);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clear_is_one_instant),
	};

	return util_main("stress_clear", tests, ARRAY_LEN(tests));
}
