/* SPDX-License-Identifier: MIT */
/* test_version.c - versions: never 0, 56 bits, never repeated, growing along a key. */
#include "configs.h"

#include <string.h>

#define VERSION_LIMIT (UINT64_C(1) << 56)

static char room[KEY_ROOM];

static uint64_t set_version(struct kvs *kv, uint64_t number)
{
	uint64_t version = 0;

	check_ok(kvs_set(kv, make_key(room, number), kvs_str("value"), &version));
	check(version > 0 && version < VERSION_LIMIT);
	return version;
}

static void reads_agree(struct fixture *f)
{
	struct kvs_slice key = make_key(room, 1);
	uint64_t version = set_version(f->kv, 1), removed = 0;
	struct kvs_value got;
	char buf[16];

	check_ok(kvs_get(f->kv, key, buf, sizeof(buf), &got));
	check_u64(got.version, version);
	check_ok(kvs_get_alloc(f->kv, key, &got));
	check_u64(got.version, version);
	kvs_value_free(f->kv, &got);
	kvs_read_begin(f->kv);
	check_ok(kvs_borrow(f->kv, key, &got));
	check_u64(got.version, version);
	kvs_read_end(f->kv);
	check_ok(kvs_delete(f->kv, key, &removed));
	check_u64(removed, version);
}

static void test_every_read_returns_the_version_of_the_write(void **state)
{
	(void)state;
	each_config(reads_agree);
}

static uint64_t last_version;

static void expect_greater(uint64_t version)
{
	check(version > last_version && version < VERSION_LIMIT);
	last_version = version;
}

static void every_write(struct kvs *kv)
{
	struct kvs_slice key = make_key(room, 1), value = kvs_str("v");
	struct kvs_value old;
	uint64_t version;

	check_ok(kvs_set(kv, key, value, &version));
	expect_greater(version);
	check_ok(kvs_replace(kv, key, value, &version));
	expect_greater(version);
	check_ok(kvs_compare_and_set(kv, key, value, version, &version));
	expect_greater(version);
	check_ok(kvs_get_and_set(kv, key, value, &old, &version));
	check_u64(old.version, last_version);
	kvs_value_free(kv, &old);
	expect_greater(version);
	check_ok(kvs_get_and_delete(kv, key, &old));
	check_u64(old.version, last_version);
	kvs_value_free(kv, &old);
	check_ok(kvs_add(kv, key, value, &version));
	expect_greater(version);
}

static void grow_along_a_key(struct fixture *f)
{
	last_version = 0;
	for (int i = 0; i < 50; i++)
		every_write(f->kv);
	check_ok(kvs_clear(f->kv));
	every_write(f->kv); /* versions go on growing over a clear */
}

static void test_each_write_of_a_key_has_a_greater_version(void **state)
{
	(void)state;
	each_config(grow_along_a_key);
}

static void failed_write_keeps(struct fixture *f)
{
	struct kvs_slice key = make_key(room, 1);
	uint64_t version = set_version(f->kv, 1), seen = 0;

	check_status(kvs_add(f->kv, key, kvs_str("x"), &seen), KVS_ERR_DUPLICATE);
	check_u64(seen, version);
	check_status(kvs_compare_and_set(f->kv, key, kvs_str("x"), version + 1, &seen),
		     KVS_ERR_VERSION_MISMATCH);
	check_u64(seen, version);
	check_ok(kvs_compare_and_set(f->kv, key, kvs_str("x"), version, NULL));
}

static void test_a_write_that_fails_keeps_the_version(void **state)
{
	(void)state;
	each_config(failed_write_keeps);
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void check_all_different(uint64_t *versions, size_t count)
{
	qsort(versions, count, sizeof(*versions), compare_u64);
	for (size_t i = 1; i < count; i++)
		check(versions[i - 1] < versions[i]);
}

static void never_repeated(struct fixture *f)
{
	enum { COUNT = 3000 };
	uint64_t *versions = calloc(COUNT, sizeof(*versions));

	check(versions != NULL);
	for (size_t i = 0; i < COUNT; i++) {
		versions[i] = set_version(f->kv, i % 700);
		if (i % 3 == 0)
			check_ok(kvs_delete(f->kv, make_key(room, i % 700), NULL));
		if (i == COUNT / 2)
			check_ok(kvs_clear(f->kv));
	}
	check_all_different(versions, COUNT);
	free(versions);
}

static void test_no_version_is_repeated_in_a_store(void **state)
{
	(void)state;
	each_config(never_repeated);
}

/* ---- Threads ---------------------------------------------------------------------------- */

#define WRITERS 4
#define SHARED_KEYS 8

struct race {
	struct kvs *kv;
	size_t writes; /* by each thread */
	uint64_t *versions;
};

/* Each thread's own writes of a key come out in order; now and then the key is deleted. */
static void write_shared_keys(size_t index, void *arg)
{
	struct race *race = arg;
	uint64_t last[SHARED_KEYS] = { 0 };
	char mine[KEY_ROOM];

	for (size_t i = 0; i < race->writes; i++) {
		size_t k = (i + index) % SHARED_KEYS;
		uint64_t version = 0;

		check_ok(kvs_set(race->kv, make_key(mine, k), kvs_bytes(&i, sizeof(i)), &version));
		check(version > last[k]);
		last[k] = version;
		race->versions[index * race->writes + i] = version;
		if (i % 16 == 0)
			(void)kvs_delete(race->kv, make_key(mine, k), NULL);
	}
}

static void race_writers(struct fixture *f)
{
	struct race race = { f->kv, util_scaled(500, 5000, 100000), NULL };

	race.versions = calloc(WRITERS * race.writes, sizeof(uint64_t));
	check(race.versions != NULL);
	run_threads(WRITERS, write_shared_keys, &race);
	check_all_different(race.versions, WRITERS * race.writes);
	free(race.versions);
}

static void test_versions_of_racing_writers(void **state)
{
	(void)state;
	each_config(race_writers);
}

/* A reader sees the versions of a key that is only overwritten grow. */
static void read_or_write(size_t index, void *arg)
{
	struct race *race = arg;
	uint64_t last = 0;
	struct kvs_value got;
	char buf[16];

	for (size_t i = 0; i < race->writes; i++) {
		if (index % 2 == 0) {
			check_ok(kvs_set(race->kv, kvs_str("k"), kvs_str("v"), NULL));
			continue;
		}
		check_ok(kvs_get(race->kv, kvs_str("k"), buf, sizeof(buf), &got));
		check(got.version >= last);
		last = got.version;
	}
}

static void race_readers(struct fixture *f)
{
	struct race race = { f->kv, util_scaled(500, 10000, 200000), NULL };

	check_ok(kvs_set(f->kv, kvs_str("k"), kvs_str("v"), NULL));
	run_threads(4, read_or_write, &race);
}

static void test_readers_see_versions_grow(void **state)
{
	(void)state;
	each_config(race_readers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_read_returns_the_version_of_the_write),
		cmocka_unit_test(test_each_write_of_a_key_has_a_greater_version),
		cmocka_unit_test(test_a_write_that_fails_keeps_the_version),
		cmocka_unit_test(test_no_version_is_repeated_in_a_store),
		cmocka_unit_test(test_versions_of_racing_writers),
		cmocka_unit_test(test_readers_see_versions_grow),
	};

	return util_main("version", tests, ARRAY_LEN(tests));
}
