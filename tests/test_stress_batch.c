/* SPDX-License-Identifier: MIT */
/*
 * test_stress_batch.c - a batch get misses no key that stays, while batch sets replace them, batches of
 * other keys come and go, and the table grows and shrinks.
 *
 * Keys below STABLE are only ever replaced. Others come and go in batches of their writer's own, so that it knows
 * which of them are there; the readers ask for both kinds together, and for keys that never are.
 */
#include "configs.h"

#include <string.h>

#include "stress.h"

#define STABLE 200u
#define OTHERS 64u /* of each writer */
#define WRITERS 2u
#define NEVER 5000u
#define ITEMS 80u
#define LEN 24u

enum { READS, FOUND, CHANGES, SETS, DELETES, HALVED };

struct stress {
	struct kvs *kv;
	struct goals goals;
};

static void value_fill(unsigned char value[LEN], uint64_t tag)
{
	memcpy(value, &tag, sizeof(tag));
	pattern_fill(value + 8, LEN - 8, tag);
}

static void check_value(const struct kvs_value *v)
{
	uint64_t tag;

	check_u64(v->len, LEN);
	memcpy(&tag, v->data, sizeof(tag));
	check(pattern_matches((const char *)v->data + 8, LEN - 8, tag));
}

static void set_stable(struct stress *s, struct rng *r)
{
	static const size_t sizes[] = { 1, 3, 32, 40 };
	size_t n = sizes[rng_below(r, ARRAY_LEN(sizes))];
	unsigned char value[40][LEN];
	struct kvs_set_item items[40];
	char room[40][KEY_ROOM];

	for (size_t i = 0; i < n; i++) {
		value_fill(value[i], rng_next(r));
		items[i] = (struct kvs_set_item){ .key = make_key(room[i], rng_below(r, STABLE)),
						  .val = kvs_bytes(value[i], LEN) };
	}
	check_ok(kvs_batch_set(s->kv, items, n, NULL));
	goal_add(&s->goals, SETS, n);
}

/* All of this writer's other keys: set, then found, then deleted, then gone. */
static void come_and_go(struct stress *s, struct rng *r, uint64_t first)
{
	struct kvs_delete_item delete[OTHERS];
	struct kvs_set_item set[OTHERS];
	struct kvs_get_item get[OTHERS];
	char room[OTHERS][KEY_ROOM];
	struct kvs_batch_counts counts;
	unsigned char value[LEN];

	value_fill(value, rng_next(r));
	for (size_t i = 0; i < OTHERS; i++) {
		get[i].key = delete[i].key = make_key(room[i], first + i);
		set[i] = (struct kvs_set_item){ .key = get[i].key, .val = kvs_bytes(value, LEN) };
	}
	check_ok(kvs_batch_set(s->kv, set, OTHERS, NULL));
	kvs_read_begin(s->kv);
	check_ok(kvs_batch_borrow(s->kv, get, OTHERS, &counts));
	check_u64(counts.ok, OTHERS);
	for (size_t i = 0; i < OTHERS; i++)
		check(get[i].value.version == set[i].version &&
		      memcmp(get[i].value.data, value, LEN) == 0);
	kvs_read_end(s->kv);
	check_ok(kvs_batch_delete(s->kv, delete, OTHERS, &counts));
	check_u64(counts.ok, OTHERS);
	for (size_t i = 0; i < OTHERS; i++)
		check_u64(delete[i].version, set[i].version);
	check_ok(kvs_batch_get(s->kv, get, OTHERS, NULL, 0, &counts));
	check_u64(counts.not_found, OTHERS);
	goal_add(&s->goals, DELETES, OTHERS);
}

static void write_keys(struct stress *s, struct rng *r, size_t index)
{
	while (!goals_met(&s->goals)) {
		for (unsigned i = 0; i < 8; i++)
			set_stable(s, r);
		come_and_go(s, r, STABLE + index * OTHERS);
	}
}

/* Half of what is asked for stays, a quarter comes and goes, a quarter never is. */
static uint64_t choose(struct rng *r)
{
	switch (rng_below(r, 4)) {
	case 0:
		return NEVER + rng_below(r, 1000);
	case 1:
		return STABLE + rng_below(r, WRITERS * OTHERS);
	default:
		return rng_below(r, STABLE);
	}
}

static void check_item(struct stress *s, struct kvs_get_item *item, uint64_t number, uint64_t *seen)
{
	if (number >= NEVER)
		check_status(item->status, KVS_ERR_NOT_FOUND);
	else if (number < STABLE)
		check_ok(item->status);
	else
		check(item->status == KVS_OK || item->status == KVS_ERR_NOT_FOUND);
	if (item->status)
		return;
	check_value(&item->value);
	if (number >= STABLE)
		return;
	check(item->value.version >= seen[number]);
	goal_add(&s->goals, CHANGES, item->value.version > seen[number]);
	seen[number] = item->value.version;
	goal_add(&s->goals, FOUND, 1);
}

static void read_batch(struct stress *s, struct rng *r, uint64_t *seen)
{
	size_t n = 1 + rng_below(r, ITEMS);
	struct kvs_get_item items[ITEMS];
	unsigned char buf[ITEMS * LEN];
	char room[ITEMS][KEY_ROOM];
	uint64_t number[ITEMS];
	uint64_t form = rng_below(r, 3);

	for (size_t i = 0; i < n; i++) {
		number[i] = choose(r);
		for (size_t j = 0; j < i; j++) /* equal keys are read in no order: see seen */
			if (number[j] == number[i])
				number[i] = NEVER + i;
		items[i].key = make_key(room[i], number[i]);
	}
	kvs_read_begin(s->kv);
	if (form == 0)
		check_ok(kvs_batch_get(s->kv, items, n, buf, sizeof(buf), NULL));
	else if (form == 1)
		check_ok(kvs_batch_get_alloc(s->kv, items, n, NULL));
	else
		check_ok(kvs_batch_borrow(s->kv, items, n, NULL));
	for (size_t i = 0; i < n; i++) {
		check_item(s, &items[i], number[i], seen);
		if (form == 1 && !items[i].status)
			kvs_value_free(s->kv, &items[i].value);
	}
	kvs_read_end(s->kv);
	goal_add(&s->goals, READS, n);
}

static void member(size_t index, void *arg)
{
	struct stress *s = arg;
	struct tide tide = { .kv = s->kv, .fillers = 300 };
	uint64_t seen[STABLE] = { 0 };
	struct rng r;

	rng_init(&r, index);
	if (index < WRITERS) {
		write_keys(s, &r, index);
	} else if (index < WRITERS + 2) {
		while (!goals_met(&s->goals))
			read_batch(s, &r, seen);
	} else {
		tide_begin(&tide);
		while (!goals_met(&s->goals))
			goal_add(&s->goals, HALVED, tide_cycle(&tide));
		tide_end(&tide);
	}
}

static void test_batch_gets_find_every_key_that_stays(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct stress s = {
		.goals = { {
			[READS] = { .name = "items read",
				    .floor = util_scaled(4000, 800000, 200000000) },
			[FOUND] = { .name = "keys that stay, found",
				    .floor = util_scaled(2000, 300000, 80000000) },
			[CHANGES] = { .name = "of these, with a new version",
				      .floor = util_scaled(500, 50000, 10000000) },
			[SETS] = { .name = "items that replaced one",
				   .floor = util_scaled(2000, 300000, 80000000) },
			[DELETES] = { .name = "items that came and went",
				      .floor = util_scaled(500, 50000, 10000000) },
			[HALVED] = { .name = "halvings", .floor = util_scaled(3, 30, 20000) },
		} }
	};
	char room[KEY_ROOM];

	(void)state;
	opts.shards = 1;
	check_ok(kvs_open(&opts, &s.kv));
	for (uint64_t k = 0; k < STABLE; k++) {
		unsigned char value[LEN];

		value_fill(value, k);
		check_ok(kvs_add(s.kv, make_key(room, k), kvs_bytes(value, LEN), NULL));
	}
	run_threads(WRITERS + 3, member, &s);
	check_u64(store_len(s.kv), STABLE);
	goals_report(&s.goals);
	close_store(s.kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batch_gets_find_every_key_that_stays),
	};

	return util_main("stress_batch", tests, ARRAY_LEN(tests));
}
