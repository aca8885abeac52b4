/* SPDX-License-Identifier: MIT */
/*
 * test_stress_replace.c - a key that is only ever replaced is always found, whole, and never
 * older than it was seen before.
 *
 * Writers overwrite a few keys in every way there is, the table grows and shrinks, and readers
 * look for the keys in every way there is.
 */
#include "configs.h"

#include <string.h>

#include "stress.h"

#define KEYS 24u
#define LEN 48u

enum { READS, CHANGES, OVERWRITES, HALVED };

struct stress {
	struct kvs *kv;
	struct goals goals;
};

static void overwrite_one(struct kvs *kv, struct rng *r, struct kvs_slice key)
{
	unsigned char value[LEN];
	struct kvs_value old;
	uint64_t tag = rng_next(r);

	memcpy(value, &tag, sizeof(tag));
	pattern_fill(value + 8, LEN - 8, tag);
	switch (rng_below(r, 4)) {
	case 0:
		check_ok(kvs_set(kv, key, kvs_bytes(value, LEN), NULL));
		break;
	case 1:
		check_ok(kvs_replace(kv, key, kvs_bytes(value, LEN), NULL));
		break;
	case 2:
		check_ok(kvs_get_and_set(kv, key, kvs_bytes(value, LEN), &old, NULL));
		check_u64(old.len, LEN);
		kvs_value_free(kv, &old);
		break;
	default:
		check_ok(kvs_get(kv, key, value, LEN, &old));
		tag = (uint64_t)kvs_compare_and_set(kv, key, kvs_bytes(value, LEN), old.version,
						    NULL);
		check((int)tag == KVS_OK || (int)tag == KVS_ERR_VERSION_MISMATCH);
		break;
	}
}

static void write_keys(struct stress *s, struct rng *r)
{
	char room[KEY_ROOM];

	while (!goals_met(&s->goals)) {
		for (unsigned i = 0; i < 64; i++)
			overwrite_one(s->kv, r, make_key(room, rng_below(r, KEYS)));
		goal_add(&s->goals, OVERWRITES, 64);
	}
}

static void check_value(const struct kvs_value *v)
{
	uint64_t tag;

	check_u64(v->len, LEN);
	memcpy(&tag, v->data, sizeof(tag));
	check(pattern_matches((const char *)v->data + 8, LEN - 8, tag));
}

static uint64_t read_one(struct kvs *kv, struct rng *r, struct kvs_slice key)
{
	unsigned char buf[LEN];
	struct kvs_value v = { NULL, 0, 0, 0 };

	switch (rng_below(r, 4)) {
	case 0:
		check_ok(kvs_get(kv, key, buf, sizeof(buf), &v));
		check_value(&v);
		break;
	case 1:
		check_ok(kvs_get_alloc(kv, key, &v));
		check_value(&v);
		kvs_value_free(kv, &v);
		break;
	case 2:
		kvs_read_begin(kv);
		check_ok(kvs_borrow(kv, key, &v));
		check_value(&v);
		kvs_read_end(kv);
		break;
	default:
		check_ok(kvs_exists(kv, key));
		check_status(kvs_add(kv, key, key, &v.version), KVS_ERR_DUPLICATE);
		break;
	}
	return v.version;
}

static void read_keys(struct stress *s, struct rng *r)
{
	uint64_t seen[KEYS] = { 0 };
	char room[KEY_ROOM];

	while (!goals_met(&s->goals)) {
		uint64_t changes = 0;

		for (unsigned i = 0; i < 64; i++) {
			uint64_t k = rng_below(r, KEYS);
			uint64_t version = read_one(s->kv, r, make_key(room, k));

			check(version == 0 || version >= seen[k]);
			changes += version > seen[k];
			seen[k] = version > seen[k] ? version : seen[k];
		}
		goal_add(&s->goals, READS, 64);
		goal_add(&s->goals, CHANGES, changes);
	}
}

static void member(size_t index, void *arg)
{
	struct stress *s = arg;
	struct tide tide = { .kv = s->kv, .fillers = 300 };
	struct rng r;

	rng_init(&r, index);
	if (index < 2) {
		write_keys(s, &r);
	} else if (index < 4) {
		read_keys(s, &r);
	} else {
		tide_begin(&tide);
		while (!goals_met(&s->goals))
			goal_add(&s->goals, HALVED, tide_cycle(&tide));
		tide_end(&tide);
	}
}

static void test_replaced_keys_are_always_found(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct stress s = {
		.goals = { {
			[READS] = { .name = "reads",
				    .floor = util_scaled(2000, 400000, 100000000) },
			[CHANGES] = { .name = "reads that saw a new version",
				      .floor = util_scaled(500, 100000, 20000000) },
			[OVERWRITES] = { .name = "overwrites",
					 .floor = util_scaled(2000, 400000, 100000000) },
			[HALVED] = { .name = "halvings", .floor = util_scaled(3, 60, 20000) },
		} }
	};

	(void)state;
	opts.shards = 1;
	check_ok(kvs_open(&opts, &s.kv));
	for (uint64_t k = 0; k < KEYS; k++) {
		unsigned char value[LEN] = { 0 };
		char room[KEY_ROOM];

		pattern_fill(value + 8, LEN - 8, 0);
		check_ok(kvs_add(s.kv, make_key(room, k), kvs_bytes(value, LEN), NULL));
	}
	run_threads(5, member, &s);
	check_u64(store_len(s.kv), KEYS);
	goals_report(&s.goals);
	close_store(s.kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replaced_keys_are_always_found),
	};

	return util_main("stress_replace", tests, ARRAY_LEN(tests));
}
