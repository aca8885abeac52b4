/* SPDX-License-Identifier: MIT */
/*
 * test_stress_collide.c - keys of one hash share one run of the list: replacing, deleting and
 * inserting next to each other neither hides a key nor shows one twice.
 *
 * All keys hash alike. Some are replaced all the time, as hot as it gets, and are always found;
 * others come and go between them. The whole run is one page of a scan, which a smaller page must
 * refuse.
 */
#include "configs.h"

#include <string.h>

#include "stress.h"

#define STABLE 6u
#define CHURN 6u
#define KEYS (STABLE + CHURN)

enum { REPLACED, CHURNED, READS, CHANGES, SCANS };

struct stress {
	struct kvs *kv;
	struct goals goals;
};

static uint64_t one_hash(const void *key, size_t len, void *ctx)
{
	(void)key;
	(void)len;
	(void)ctx;
	return UINT64_C(0x123456789abcdef);
}

/* Key and tag, so that a value of another key is noticed. */
static struct kvs_slice value_make(unsigned char buf[24], uint64_t k, uint64_t tag)
{
	memcpy(buf, &k, 8);
	memcpy(buf + 8, &tag, 8);
	pattern_fill(buf + 16, 8, k ^ tag);
	return kvs_bytes(buf, 24);
}

static void check_value(const void *data, size_t len, uint64_t k)
{
	unsigned char want[24];
	uint64_t tag;

	check_u64(len, 24);
	memcpy(&tag, (const char *)data + 8, 8);
	(void)value_make(want, k, tag);
	check_bytes(data, want, 24);
}

static void write_keys(struct stress *s, struct rng *r)
{
	unsigned char buf[24];
	char room[KEY_ROOM];

	while (!goals_met(&s->goals)) {
		uint64_t k = rng_below(r, KEYS);
		struct kvs_slice key = make_key(room, k);
		struct kvs_slice val = value_make(buf, k, rng_next(r));

		if (k < STABLE) {
			check_ok(kvs_set(s->kv, key, val, NULL));
			goal_add(&s->goals, REPLACED, 1);
		} else {
			if (kvs_add(s->kv, key, val, NULL) == KVS_ERR_DUPLICATE)
				(void)kvs_delete(s->kv, key, NULL);
			goal_add(&s->goals, CHURNED, 1);
		}
	}
}

static void scan_run(struct stress *s)
{
	struct kvs_item items[KEYS];
	unsigned seen[KEYS] = { 0 };
	uint64_t cursor = 0;
	size_t count, needed;

	kvs_read_begin(s->kv);
	check_status(kvs_scan(s->kv, &cursor, items, STABLE - 1, &needed),
		     KVS_ERR_BUFFER_TOO_SMALL);
	check(cursor == 0 && needed >= STABLE && needed <= KEYS);
	check_ok(kvs_scan(s->kv, &cursor, items, KEYS, &count));
	check_u64(cursor, 0);
	for (size_t i = 0; i < count; i++) {
		uint64_t k = key_number(items[i].key);

		check(k < KEYS && seen[k] == 0);
		seen[k]++;
		check_value(items[i].value.data, items[i].value.len, k);
	}
	kvs_read_end(s->kv);
	for (uint64_t k = 0; k < STABLE; k++)
		check_u64(seen[k], 1);
}

static void read_keys(struct stress *s, struct rng *r)
{
	uint64_t version[STABLE] = { 0 };
	char room[KEY_ROOM];

	while (!goals_met(&s->goals)) {
		for (unsigned i = 0; i < 32; i++) {
			uint64_t k = rng_below(r, KEYS);
			struct kvs_value v;
			unsigned char buf[24];
			int err = kvs_get(s->kv, make_key(room, k), buf, sizeof(buf), &v);

			if (err == KVS_ERR_NOT_FOUND && k >= STABLE)
				continue;
			check_ok(err);
			check_value(v.data, v.len, k);
			if (k >= STABLE)
				continue;
			check(v.version >= version[k]);
			goal_add(&s->goals, CHANGES, v.version > version[k]);
			version[k] = v.version;
		}
		goal_add(&s->goals, READS, 32);
		scan_run(s);
		goal_add(&s->goals, SCANS, 1);
	}
}

static void member(size_t index, void *arg)
{
	struct rng r;

	rng_init(&r, index);
	if (index < 2)
		write_keys(arg, &r);
	else
		read_keys(arg, &r);
}

static void test_keys_of_one_hash(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct stress *s = calloc(1, sizeof(*s));

	(void)state;
	check(s != NULL);
	s->goals = (struct goals){ {
		[REPLACED] = { .name = "replaced", .floor = util_scaled(2000, 400000, 100000000) },
		[CHURNED] = { .name = "inserted and deleted",
			      .floor = util_scaled(2000, 400000, 100000000) },
		[READS] = { .name = "reads", .floor = util_scaled(2000, 400000, 100000000) },
		[CHANGES] = { .name = "reads that saw a new version",
			      .floor = util_scaled(200, 40000, 10000000) },
		[SCANS] = { .name = "scans", .floor = util_scaled(100, 10000, 3000000) },
	} };
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = one_hash;
	check_ok(kvs_open(&opts, &s->kv));
	for (uint64_t k = 0; k < STABLE; k++) {
		unsigned char buf[24];
		char room[KEY_ROOM];

		check_ok(kvs_add(s->kv, make_key(room, k), value_make(buf, k, 0), NULL));
	}
	run_threads(4, member, s);
	goals_report(&s->goals);
	close_store(s->kv);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_of_one_hash),
	};

	return util_main("stress_collide", tests, ARRAY_LEN(tests));
}
