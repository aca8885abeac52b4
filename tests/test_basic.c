/* SPDX-License-Identifier: MIT */
/* test_basic.c - set, get in three forms, delete, exists, len, keys, clear; and a model of them. */
#include "configs.h"

#include <string.h>

#define LARGEST 70000 /* bytes, of value_sizes[] */

static unsigned char value_bytes[LARGEST], got_bytes[LARGEST + 8];
static char room[KEY_ROOM];

static struct kvs_slice make_value(size_t len, uint64_t tag)
{
	pattern_fill(value_bytes, len, tag);
	return kvs_bytes(value_bytes, len);
}

/* ---- Get, in three forms ---------------------------------------------------------------- */

static void get_copies(struct fixture *f)
{
	for (size_t i = 0; i < ARRAY_LEN(value_sizes); i++) {
		struct kvs_slice key = make_key(room, i), value = make_value(value_sizes[i], i);
		struct kvs_value got = { 0 };

		check_ok(kvs_set(f->kv, key, value, NULL));
		memset(got_bytes, 0xee, sizeof(got_bytes));
		check_ok(kvs_get(f->kv, key, got_bytes, sizeof(got_bytes), &got));
		check(got.data == got_bytes);
		check_u64(got.len, value.len);
		check(got.version != 0 && got.expires_at_ms == 0);
		check_bytes(got_bytes, value.data, value.len);
		check(got_bytes[value.len] == 0xee); /* nothing was written behind it */
		check_ok(kvs_get(f->kv, key, got_bytes, value.len, NULL)); /* exact room, no ret */
	}
}

static void test_get_copies_into_the_callers_buffer(void **state)
{
	(void)state;
	each_config(get_copies);
}

static void get_too_small(struct fixture *f)
{
	for (size_t i = 1; i < ARRAY_LEN(value_sizes); i++) {
		struct kvs_slice key = make_key(room, i), value = make_value(value_sizes[i], i);
		struct kvs_value got = { .data = room };
		uint64_t version;

		check_ok(kvs_set(f->kv, key, value, &version));
		memset(got_bytes, 0xee, sizeof(got_bytes));
		check_status(kvs_get(f->kv, key, got_bytes, value.len - 1, &got),
			     KVS_ERR_BUFFER_TOO_SMALL);
		check(got.data == NULL && got_bytes[0] == 0xee);
		check_u64(got.len, value.len);
		check_u64(got.version, version);
		check_status(kvs_get(f->kv, key, NULL, 0, NULL), KVS_ERR_BUFFER_TOO_SMALL);
	}
}

static void test_get_reports_the_needed_size(void **state)
{
	(void)state;
	each_config(get_too_small);
}

static void get_empty_value(struct fixture *f)
{
	struct kvs_value got = { .len = 5 };

	check_ok(kvs_set(f->kv, kvs_str("k"), kvs_bytes(NULL, 0), NULL));
	check_ok(kvs_get(f->kv, kvs_str("k"), NULL, 0, &got));
	check_u64(got.len, 0);
	check(got.version != 0);
	check_ok(kvs_get_alloc(f->kv, kvs_str("k"), &got));
	check_u64(got.len, 0);
	kvs_value_free(f->kv, &got);
}

static void test_empty_value_needs_no_buffer(void **state)
{
	(void)state;
	each_config(get_empty_value);
}

static void get_allocates(struct fixture *f)
{
	for (size_t i = 0; i < ARRAY_LEN(value_sizes); i++) {
		struct kvs_slice key = make_key(room, i);
		struct kvs_value got = { 0 };
		uint64_t version;

		check_ok(kvs_set(f->kv, key, make_value(value_sizes[i], i), &version));
		check_ok(kvs_get_alloc(f->kv, key, &got));
		check_ok(kvs_delete(f->kv, key, NULL)); /* the copy is ours */
		check_ok(kvs_drain(f->kv));
		check_u64(got.len, value_sizes[i]);
		check_u64(got.version, version);
		check(pattern_matches(got.data, got.len, i));
		kvs_value_free(f->kv, &got);
		check(got.data == NULL && got.len == 0);
		kvs_value_free(f->kv, &got); /* empty now: nothing happens */
	}
}

static void test_get_alloc_gives_a_copy(void **state)
{
	(void)state;
	each_config(get_allocates);
}

static void borrow_outlives_the_key(struct fixture *f)
{
	for (size_t i = 0; i < ARRAY_LEN(value_sizes); i++) {
		size_t len = value_sizes[i];
		struct kvs_slice key = make_key(room, i);
		struct kvs_value first, second;

		check_ok(kvs_set(f->kv, key, make_value(len, 1), NULL));
		kvs_read_begin(f->kv);
		check_ok(kvs_borrow(f->kv, key, &first));
		check_ok(kvs_set(f->kv, key, make_value(len, 2), NULL));
		check_ok(kvs_borrow(f->kv, key, &second));
		check_ok(kvs_delete(f->kv, key, NULL));
		check(first.len == len && pattern_matches(first.data, len, 1));
		check(second.len == len && pattern_matches(second.data, len, 2));
		check(second.version > first.version);
		kvs_read_end(f->kv);
	}
}

static void test_borrowed_value_lives_as_long_as_the_section(void **state)
{
	(void)state;
	each_config(borrow_outlives_the_key);
}

static void test_read_sections_nest(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_value got;

	(void)state;
	set_pattern(kv, 1, 100, 1);
	kvs_read_begin(kv);
	kvs_read_begin(kv);
	check_ok(kvs_borrow(kv, make_key(room, 1), &got));
	kvs_read_end(kv);
	check_ok(kvs_delete(kv, make_key(room, 1), NULL));
	check(pattern_matches(got.data, got.len, 1)); /* the outer section still holds it */
	check_status(kvs_drain(kv), KVS_ERR_IN_READ_SECTION);
	kvs_read_end(kv);
	check_ok(kvs_drain(kv));
	close_store(kv);
}

/* ---- Absent keys ------------------------------------------------------------------------ */

static void absent(struct fixture *f)
{
	struct kvs_slice key = kvs_str("absent");
	struct kvs_value got = { .data = room, .len = 17, .version = 23, .expires_at_ms = 5 };
	uint64_t version = 42;

	check_status(kvs_get(f->kv, key, got_bytes, 10, &got), KVS_ERR_NOT_FOUND);
	check_status(kvs_get_alloc(f->kv, key, &got), KVS_ERR_NOT_FOUND);
	check_status(kvs_get_and_delete(f->kv, key, &got), KVS_ERR_NOT_FOUND);
	check_status(kvs_exists(f->kv, key), KVS_ERR_NOT_FOUND);
	check_status(kvs_delete(f->kv, key, &version), KVS_ERR_NOT_FOUND);
	check_status(kvs_delete(f->kv, key, NULL), KVS_ERR_NOT_FOUND);
	kvs_read_begin(f->kv);
	check_status(kvs_borrow(f->kv, key, &got), KVS_ERR_NOT_FOUND);
	kvs_read_end(f->kv);
	check(got.data == room && got.len == 17 && got.version == 23 && got.expires_at_ms == 5);
	check_u64(version, 42); /* written only on success */
	check_u64(store_len(f->kv), 0);
}

static void test_absent_key_is_not_found(void **state)
{
	(void)state;
	each_config(absent);
}

/* ---- Set, delete, exists, len ----------------------------------------------------------- */

static void overwrite(struct fixture *f)
{
	const size_t sizes = ARRAY_LEN(value_sizes);

	for (size_t from = 0; from < sizes; from++)
		for (size_t to = 0; to < sizes; to++) {
			set_pattern(f->kv, 1, value_sizes[from], from);
			check_pattern(f->kv, 1, value_sizes[from], from);
			set_pattern(f->kv, 1, value_sizes[to], to + 100);
			check_pattern(f->kv, 1, value_sizes[to], to + 100);
			check_u64(store_len(f->kv), 1);
		}
}

static void test_set_overwrites_with_any_size(void **state)
{
	(void)state;
	each_config(overwrite);
}

static void come_and_go(struct fixture *f)
{
	const uint64_t count = 500;

	for (uint64_t i = 0; i < count; i++) {
		check(!key_present(f->kv, i));
		set_pattern(f->kv, i, 20, i);
		check(key_present(f->kv, i));
		check_u64(store_len(f->kv), i + 1);
	}
	for (uint64_t i = 0; i < count; i++) {
		check_pattern(f->kv, i, 20, i);
		check_ok(kvs_delete(f->kv, make_key(room, i), NULL));
		check(!key_present(f->kv, i));
		check_status(kvs_delete(f->kv, make_key(room, i), NULL), KVS_ERR_NOT_FOUND);
		check_u64(store_len(f->kv), count - i - 1);
	}
}

static void test_keys_come_and_go(void **state)
{
	(void)state;
	each_config(come_and_go);
}

static void copies_in(struct fixture *f)
{
	char key[] = "a key", value[] = "a value";
	struct kvs_value got;

	check_ok(kvs_set(f->kv, kvs_str(key), kvs_str(value), NULL));
	memset(key, 'x', sizeof(key) - 1);
	memset(value, 'y', sizeof(value) - 1);
	check_ok(kvs_get(f->kv, kvs_str("a key"), got_bytes, sizeof(got_bytes), &got));
	check(got.len == 7 && memcmp(got_bytes, "a value", 7) == 0);
}

static void test_set_copies_key_and_value(void **state)
{
	(void)state;
	each_config(copies_in);
}

/* Keys of all lengths to 300 at all alignments, each a prefix of the next. */
static void prefixes(struct fixture *f)
{
	char text[300 + 8];
	uint64_t number;

	memset(text, 'p', sizeof(text));
	for (uint64_t len = 0; len <= 300; len++)
		check_ok(kvs_set(f->kv, kvs_bytes(text, len), kvs_bytes(&len, sizeof(len)), NULL));
	check_u64(store_len(f->kv), 301);
	for (uint64_t len = 0; len <= 300; len++) {
		check_ok(kvs_get(f->kv, kvs_bytes(text + len % 8, len), &number, sizeof(number),
				 NULL));
		check_u64(number, len);
	}
}

static void test_keys_that_are_prefixes_of_each_other(void **state)
{
	(void)state;
	each_config(prefixes);
}

/* ---- Keys and clear --------------------------------------------------------------------- */

/* Check that @kv has exactly the keys [0, @count). */
static void check_key_list(struct kvs *kv, size_t count)
{
	unsigned char *seen = calloc(count + 1, 1);
	struct kvs_slice *keys = NULL;
	size_t listed = SIZE_MAX;

	check(seen != NULL);
	check_ok(kvs_keys(kv, &keys, &listed));
	check_u64(listed, count);
	check(count > 0 || keys == NULL);
	for (size_t i = 0; i < listed; i++) {
		uint64_t number = key_number(keys[i]);

		check(number < count && !seen[number]);
		seen[number] = 1;
	}
	kvs_keys_free(kv, keys);
	free(seen);
}

static void list_keys(struct fixture *f)
{
	check_key_list(f->kv, 0);
	for (uint64_t i = 0; i < 300; i++)
		set_pattern(f->kv, i, 5, i);
	check_key_list(f->kv, 300);
	check_ok(kvs_delete(f->kv, make_key(room, 299), NULL));
	check_key_list(f->kv, 299);
	kvs_keys_free(f->kv, NULL);
}

static void test_keys_lists_every_key_once(void **state)
{
	(void)state;
	each_config(list_keys);
}

static void keys_outlive(struct fixture *f)
{
	struct kvs_slice *keys;
	size_t count;

	set_pattern(f->kv, 7, 5, 7);
	check_ok(kvs_keys(f->kv, &keys, &count));
	check_ok(kvs_clear(f->kv));
	check_ok(kvs_close(f->kv));
	check(count == 1 && key_number(keys[0]) == 7);
	kvs_keys_free(f->kv, keys); /* works on a closed store */
}

static void test_key_list_outlives_the_keys(void **state)
{
	(void)state;
	each_config(keys_outlive);
}

static void clear_and_reuse(struct fixture *f)
{
	check_ok(kvs_clear(f->kv)); /* empty already */
	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 400; i++)
			set_pattern(f->kv, i, 50, i);
		check_u64(store_len(f->kv), 400);
		check_ok(kvs_clear(f->kv));
		check_u64(store_len(f->kv), 0);
		check_key_list(f->kv, 0);
		check(!key_present(f->kv, 17));
		check_u64(store_stats(f->kv).bytes_live, 0);
	}
}

static void test_clear_empties_and_the_store_goes_on(void **state)
{
	(void)state;
	each_config(clear_and_reuse);
}

/* ---- Against a model -------------------------------------------------------------------- */

#define MODEL_KEYS 300

struct model {
	struct kvs *kv;
	struct rng rng;
	uint64_t tag[MODEL_KEYS]; /* of the value; 0: absent */
	size_t len[MODEL_KEYS];
	uint64_t version[MODEL_KEYS];
	uint64_t next_tag;
	uint64_t count;
};

static struct kvs_slice model_value(struct model *m, size_t *ret_len)
{
	*ret_len = rng_below(&m->rng, 20) == 0 ? value_sizes[rng_below(&m->rng, 5)]
					       : rng_below(&m->rng, 64);
	m->next_tag++;
	return make_value(*ret_len, m->next_tag);
}

static void model_put(struct model *m, size_t at, size_t len, uint64_t version)
{
	check(version > m->version[at]); /* also over deletes: one thread writes */
	m->count += m->tag[at] == 0;
	m->tag[at] = m->next_tag;
	m->len[at] = len;
	m->version[at] = version;
}

static void model_drop(struct model *m, size_t at)
{
	m->count -= m->tag[at] != 0;
	m->tag[at] = 0;
}

/* Check what a call returned of key @at, before the call. */
static void model_check(struct model *m, size_t at, const struct kvs_value *got)
{
	check_u64(got->len, m->len[at]);
	check_u64(got->version, m->version[at]);
	check(pattern_matches(got->data, got->len, m->tag[at]));
}

static void model_set(struct model *m, size_t at)
{
	size_t len;
	struct kvs_slice value = model_value(m, &len);
	uint64_t version = 0;

	check_ok(kvs_set(m->kv, make_key(room, at), value, &version));
	model_put(m, at, len, version);
}

static void model_add(struct model *m, size_t at)
{
	size_t len;
	struct kvs_slice value = model_value(m, &len);
	uint64_t version = 0;
	bool present = m->tag[at] != 0;

	check_status(kvs_add(m->kv, make_key(room, at), value, &version),
		     present ? KVS_ERR_DUPLICATE : KVS_OK);
	if (present)
		check_u64(version, m->version[at]);
	else
		model_put(m, at, len, version);
}

static void model_replace(struct model *m, size_t at)
{
	size_t len;
	struct kvs_slice value = model_value(m, &len);
	uint64_t version = 0;
	bool present = m->tag[at] != 0;

	check_status(kvs_replace(m->kv, make_key(room, at), value, &version),
		     present ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (present)
		model_put(m, at, len, version);
}

static void model_compare_and_set(struct model *m, size_t at)
{
	size_t len;
	struct kvs_slice value = model_value(m, &len);
	uint64_t version = 0, wrong = rng_below(&m->rng, 2);
	bool present = m->tag[at] != 0;
	int want = !present ? KVS_ERR_NOT_FOUND : wrong ? KVS_ERR_VERSION_MISMATCH : KVS_OK;

	check_status(kvs_compare_and_set(m->kv, make_key(room, at), value, m->version[at] + wrong,
					 &version),
		     want);
	if (want == KVS_ERR_VERSION_MISMATCH)
		check_u64(version, m->version[at]);
	if (want == KVS_OK)
		model_put(m, at, len, version);
}

static void model_get_and_set(struct model *m, size_t at)
{
	size_t len;
	struct kvs_slice value = model_value(m, &len);
	struct kvs_value old;
	uint64_t version = 0;

	check_ok(kvs_get_and_set(m->kv, make_key(room, at), value, &old, &version));
	if (m->tag[at] != 0)
		model_check(m, at, &old);
	else
		check(old.data == NULL && old.len == 0 && old.version == 0);
	kvs_value_free(m->kv, &old);
	model_put(m, at, len, version);
}

static void model_delete(struct model *m, size_t at)
{
	uint64_t version = 0;
	bool present = m->tag[at] != 0;

	check_status(kvs_delete(m->kv, make_key(room, at), &version),
		     present ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (present)
		check_u64(version, m->version[at]);
	model_drop(m, at);
}

static void model_get_and_delete(struct model *m, size_t at)
{
	struct kvs_value old;
	bool present = m->tag[at] != 0;

	check_status(kvs_get_and_delete(m->kv, make_key(room, at), &old),
		     present ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (!present)
		return;
	model_check(m, at, &old);
	kvs_value_free(m->kv, &old);
	model_drop(m, at);
}

static void model_get(struct model *m, size_t at)
{
	struct kvs_value got;
	bool present = m->tag[at] != 0;

	check_status(kvs_get(m->kv, make_key(room, at), got_bytes, sizeof(got_bytes), &got),
		     present ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (present)
		model_check(m, at, &got);
}

static void model_clear(struct model *m)
{
	check_ok(kvs_clear(m->kv));
	for (size_t at = 0; at < MODEL_KEYS; at++)
		model_drop(m, at);
}

static void model_step(struct model *m)
{
	static void (*const steps[])(struct model *, size_t) = {
		model_set,         model_add,    model_replace,        model_compare_and_set,
		model_get_and_set, model_delete, model_get_and_delete, model_get,
	};

	steps[rng_below(&m->rng, ARRAY_LEN(steps))](m, rng_below(&m->rng, MODEL_KEYS));
	check_u64(store_len(m->kv), m->count);
}

static void run_model(struct fixture *f)
{
	static struct model m;
	size_t steps = util_scaled(2000, 10000, 200000);

	memset(&m, 0, sizeof(m));
	m.kv = f->kv;
	rng_init(&m.rng, 100 + (uint64_t)f->config.shards * 8 + (uint64_t)f->config.hash);
	for (size_t i = 0; i < steps; i++) {
		model_step(&m);
		if (i % (steps / 4) == steps / 5)
			model_clear(&m);
	}
	for (size_t at = 0; at < MODEL_KEYS; at++)
		model_get(&m, at);
}

static void test_random_calls_match_a_model(void **state)
{
	(void)state;
	each_config(run_model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get_copies_into_the_callers_buffer),
		cmocka_unit_test(test_get_reports_the_needed_size),
		cmocka_unit_test(test_empty_value_needs_no_buffer),
		cmocka_unit_test(test_get_alloc_gives_a_copy),
		cmocka_unit_test(test_borrowed_value_lives_as_long_as_the_section),
		cmocka_unit_test(test_read_sections_nest),
		cmocka_unit_test(test_absent_key_is_not_found),
		cmocka_unit_test(test_set_overwrites_with_any_size),
		cmocka_unit_test(test_keys_come_and_go),
		cmocka_unit_test(test_set_copies_key_and_value),
		cmocka_unit_test(test_keys_that_are_prefixes_of_each_other),
		cmocka_unit_test(test_keys_lists_every_key_once),
		cmocka_unit_test(test_key_list_outlives_the_keys),
		cmocka_unit_test(test_clear_empties_and_the_store_goes_on),
		cmocka_unit_test(test_random_calls_match_a_model),
	};

	return util_main("basic", tests, ARRAY_LEN(tests));
}
