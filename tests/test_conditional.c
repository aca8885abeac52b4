/* SPDX-License-Identifier: MIT */
/* test_conditional.c - add, replace, compare-and-set, get-and-set, get-and-delete; also racing. */
#include "configs.h"

#include <string.h>

static char room[KEY_ROOM];

static void check_value(struct kvs *kv, const char *key, const char *want, uint64_t version)
{
	struct kvs_value got;
	char buf[64];

	check_ok(kvs_get(kv, kvs_str(key), buf, sizeof(buf), &got));
	check(got.len == strlen(want) && memcmp(buf, want, got.len) == 0);
	check_u64(got.version, version);
}

static void add(struct fixture *f)
{
	uint64_t first = 0, second = 0;

	check_ok(kvs_add(f->kv, kvs_str("k"), kvs_str("one"), &first));
	check_status(kvs_add(f->kv, kvs_str("k"), kvs_str("two"), &second), KVS_ERR_DUPLICATE);
	check_u64(second, first);
	check_status(kvs_add(f->kv, kvs_str("k"), kvs_str("two"), NULL), KVS_ERR_DUPLICATE);
	check_value(f->kv, "k", "one", first);
	check_ok(kvs_delete(f->kv, kvs_str("k"), NULL));
	check_ok(kvs_add(f->kv, kvs_str("k"), kvs_str("three"), &second));
	check(second > first);
	check_value(f->kv, "k", "three", second);
	check_u64(store_len(f->kv), 1);
}

static void test_add_sets_only_an_absent_key(void **state)
{
	(void)state;
	each_config(add);
}

static void replace(struct fixture *f)
{
	uint64_t version = 99;

	check_status(kvs_replace(f->kv, kvs_str("k"), kvs_str("one"), &version), KVS_ERR_NOT_FOUND);
	check_u64(version, 99);
	check_u64(store_len(f->kv), 0);
	check_ok(kvs_set(f->kv, kvs_str("k"), kvs_str("one"), NULL));
	check_ok(kvs_replace(f->kv, kvs_str("k"), kvs_str("two"), &version));
	check_value(f->kv, "k", "two", version);
	check_ok(kvs_delete(f->kv, kvs_str("k"), NULL));
	check_status(kvs_replace(f->kv, kvs_str("k"), kvs_str("x"), NULL), KVS_ERR_NOT_FOUND);
	check_u64(store_len(f->kv), 0);
}

static void test_replace_sets_only_a_present_key(void **state)
{
	(void)state;
	each_config(replace);
}

static void compare_and_set(struct fixture *f)
{
	struct kvs_slice key = kvs_str("k"), value = kvs_str("two");
	uint64_t version = 0, next = 77;

	check_status(kvs_compare_and_set(f->kv, key, value, 1, &next), KVS_ERR_NOT_FOUND);
	check_status(kvs_compare_and_set(f->kv, key, value, 0, &next), KVS_ERR_NOT_FOUND);
	check_u64(next, 77);
	check_ok(kvs_set(f->kv, key, kvs_str("one"), &version));
	check_ok(kvs_compare_and_set(f->kv, key, value, version, &next));
	check_value(f->kv, "k", "two", next);
	check_status(kvs_compare_and_set(f->kv, key, kvs_str("three"), version, &version),
		     KVS_ERR_VERSION_MISMATCH);
	check_u64(version, next); /* told which one it has */
	check_value(f->kv, "k", "two", next);
}

static void test_compare_and_set_needs_the_version(void **state)
{
	(void)state;
	each_config(compare_and_set);
}

/* The version of an earlier life of the key does not match, though the value is the same. */
static void aba(struct fixture *f)
{
	struct kvs_slice key = kvs_str("k"), value = kvs_str("same");
	uint64_t version;

	check_ok(kvs_set(f->kv, key, value, &version));
	check_ok(kvs_delete(f->kv, key, NULL));
	check_ok(kvs_drain(f->kv)); /* the memory may be the same again */
	check_ok(kvs_set(f->kv, key, value, NULL));
	check_status(kvs_compare_and_set(f->kv, key, value, version, NULL),
		     KVS_ERR_VERSION_MISMATCH);
}

static void test_compare_and_set_knows_an_earlier_life(void **state)
{
	(void)state;
	each_config(aba);
}

static void get_and_set(struct fixture *f)
{
	struct kvs_slice key = make_key(room, 1);
	struct kvs_value old = { .data = room, .len = 3, .version = 5 };
	uint64_t version = 0, before;

	check_ok(kvs_get_and_set(f->kv, key, kvs_str("first"), &old, &version));
	check(old.data == NULL && old.len == 0 && old.version == 0);
	kvs_value_free(f->kv, &old);
	for (size_t i = 0; i < ARRAY_LEN(value_sizes); i++) {
		set_pattern(f->kv, 1, value_sizes[i], i);
		check_ok(kvs_set(f->kv, key, kvs_str("x"), &before));
		check_ok(kvs_get_and_set(f->kv, key, kvs_str("y"), &old, NULL));
		check(old.len == 1 && memcmp(old.data, "x", 1) == 0 && old.version == before);
		kvs_value_free(f->kv, &old);
		set_pattern(f->kv, 1, value_sizes[i], i);
		check_ok(kvs_get_and_set(f->kv, key, kvs_str("z"), &old, &version));
		check(old.len == value_sizes[i] && pattern_matches(old.data, old.len, i));
		check(old.version != 0 && version > old.version);
		kvs_value_free(f->kv, &old);
	}
}

static void test_get_and_set_returns_what_it_replaced(void **state)
{
	(void)state;
	each_config(get_and_set);
}

static void get_and_delete(struct fixture *f)
{
	struct kvs_slice key = make_key(room, 1);
	struct kvs_value old;

	for (size_t i = 0; i < ARRAY_LEN(value_sizes); i++) {
		set_pattern(f->kv, 1, value_sizes[i], i);
		check_ok(kvs_get_and_delete(f->kv, key, &old));
		check(old.len == value_sizes[i] && pattern_matches(old.data, old.len, i));
		check(old.version != 0);
		kvs_value_free(f->kv, &old);
		check(!key_present(f->kv, 1));
		check_status(kvs_get_and_delete(f->kv, key, &old), KVS_ERR_NOT_FOUND);
	}
}

static void test_get_and_delete_returns_what_it_removed(void **state)
{
	(void)state;
	each_config(get_and_delete);
}

/* ---- Racing ----------------------------------------------------------------------------- */

#define THREADS 4

struct race {
	struct kvs *kv;
	size_t rounds;
	_Atomic uint64_t wins;
	unsigned char *handed; /* get-and-set: how often each token came out */
};

static void add_all(size_t index, void *arg)
{
	struct race *race = arg;
	char mine[KEY_ROOM];

	for (size_t i = 0; i < race->rounds; i++) {
		int err = kvs_add(race->kv, make_key(mine, i), kvs_bytes(&index, sizeof(index)),
				  NULL);

		if (err == KVS_OK)
			atomic_fetch_add(&race->wins, 1);
		else
			check_status(err, KVS_ERR_DUPLICATE);
	}
}

static void delete_all(size_t index, void *arg)
{
	struct race *race = arg;
	char mine[KEY_ROOM];
	struct kvs_value old;
	int err;

	for (size_t i = 0; i < race->rounds; i++) {
		if (index % 2 == 0) {
			err = kvs_delete(race->kv, make_key(mine, i), NULL);
		} else {
			err = kvs_get_and_delete(race->kv, make_key(mine, i), &old);
			if (err == KVS_OK)
				kvs_value_free(race->kv, &old);
		}
		if (err == KVS_OK)
			atomic_fetch_add(&race->wins, 1);
		else
			check_status(err, KVS_ERR_NOT_FOUND);
	}
}

static void one_winner(struct fixture *f)
{
	struct race race = { .kv = f->kv, .rounds = util_scaled(200, 2000, 50000) };

	run_threads(THREADS, add_all, &race);
	check_u64(atomic_load(&race.wins), race.rounds);
	check_u64(store_len(f->kv), race.rounds);
	atomic_store(&race.wins, 0);
	run_threads(THREADS, delete_all, &race);
	check_u64(atomic_load(&race.wins), race.rounds);
	check_u64(store_len(f->kv), 0);
}

static void test_one_of_racing_adds_and_deletes_wins(void **state)
{
	(void)state;
	each_config(one_winner);
}

/* One more in the counter under @key, by compare-and-set. */
static void increment(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_value got;
	uint64_t number;
	int err;

	do {
		check_ok(kvs_get(kv, key, &number, sizeof(number), &got));
		number++;
		err = kvs_compare_and_set(kv, key, kvs_bytes(&number, sizeof(number)), got.version,
					  NULL);
	} while (err == KVS_ERR_VERSION_MISMATCH);
	check_ok(err);
}

static void increment_all(size_t index, void *arg)
{
	struct race *race = arg;

	(void)index;
	for (size_t i = 0; i < race->rounds; i++)
		increment(race->kv, kvs_str("counter"));
}

static void counter(struct fixture *f)
{
	struct race race = { .kv = f->kv, .rounds = util_scaled(200, 3000, 50000) };
	uint64_t number = 0;

	check_ok(kvs_set(f->kv, kvs_str("counter"), kvs_bytes(&number, sizeof(number)), NULL));
	run_threads(THREADS, increment_all, &race);
	check_ok(kvs_get(f->kv, kvs_str("counter"), &number, sizeof(number), NULL));
	check_u64(number, THREADS * race.rounds);
}

static void test_compare_and_set_loses_no_increment(void **state)
{
	(void)state;
	each_config(counter);
}

/* Swap tokens in; note which came out. Every token comes out once, or is in at the end. */
static void swap_tokens(size_t index, void *arg)
{
	struct race *race = arg;
	struct kvs_value old;
	size_t token;

	for (size_t i = 0; i < race->rounds; i++) {
		token = index * race->rounds + i;
		check_ok(kvs_get_and_set(race->kv, kvs_str("slot"),
					 kvs_bytes(&token, sizeof(token)), &old, NULL));
		if (old.version == 0)
			continue;
		check_u64(old.len, sizeof(token));
		memcpy(&token, old.data, sizeof(token));
		race->handed[token]++; /* nobody else has this token */
		kvs_value_free(race->kv, &old);
	}
}

static void swap(struct fixture *f)
{
	struct race race = { .kv = f->kv, .rounds = util_scaled(200, 3000, 50000) };
	size_t tokens = THREADS * race.rounds, last = 0;

	race.handed = calloc(tokens, 1);
	check(race.handed != NULL);
	run_threads(THREADS, swap_tokens, &race);
	check_ok(kvs_get(f->kv, kvs_str("slot"), &last, sizeof(last), NULL));
	for (size_t i = 0; i < tokens; i++)
		check_u64(race.handed[i], i != last);
	free(race.handed);
}

static void test_get_and_set_hands_each_value_out_once(void **state)
{
	(void)state;
	each_config(swap);
}

/* Adders, replacers and deleters on few keys: the successes must add up. */
static void churn(size_t index, void *arg)
{
	struct race *race = arg;
	char mine[KEY_ROOM];
	struct rng r;

	rng_init(&r, 500 + index);
	for (size_t i = 0; i < race->rounds; i++) {
		struct kvs_slice key = make_key(mine, rng_below(&r, 16));
		struct kvs_slice value = kvs_bytes(&i, sizeof(i));
		uint64_t action = rng_below(&r, 3);

		if (action == 0 && kvs_add(race->kv, key, value, NULL) == KVS_OK)
			atomic_fetch_add(&race->wins, 1);
		if (action == 1 && kvs_delete(race->kv, key, NULL) == KVS_OK)
			atomic_fetch_sub(&race->wins, 1);
		if (action == 2)
			(void)kvs_replace(race->kv, key, value, NULL);
	}
}

static void churn_adds_up(struct fixture *f)
{
	struct race race = { .kv = f->kv, .rounds = util_scaled(500, 10000, 500000) };
	uint64_t present = 0;

	run_threads(THREADS, churn, &race);
	for (uint64_t i = 0; i < 16; i++)
		present += key_present(f->kv, i);
	check_u64(present, atomic_load(&race.wins));
	check_u64(store_len(f->kv), present);
}

static void test_successes_of_racing_calls_add_up(void **state)
{
	(void)state;
	each_config(churn_adds_up);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_sets_only_an_absent_key),
		cmocka_unit_test(test_replace_sets_only_a_present_key),
		cmocka_unit_test(test_compare_and_set_needs_the_version),
		cmocka_unit_test(test_compare_and_set_knows_an_earlier_life),
		cmocka_unit_test(test_get_and_set_returns_what_it_replaced),
		cmocka_unit_test(test_get_and_delete_returns_what_it_removed),
		cmocka_unit_test(test_one_of_racing_adds_and_deletes_wins),
		cmocka_unit_test(test_compare_and_set_loses_no_increment),
		cmocka_unit_test(test_get_and_set_hands_each_value_out_once),
		cmocka_unit_test(test_successes_of_racing_calls_add_up),
	};

	return util_main("conditional", tests, ARRAY_LEN(tests));
}
