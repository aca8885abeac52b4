/* SPDX-License-Identifier: MIT */
/* test_options.c - which options can be opened, which one is blamed, and structs of other sizes. */
#include "configs.h"

#include <string.h>

/* ---- Who is blamed ---------------------------------------------------------------------- */

static void check_blames(const struct kvs_options *opts, int want, const char *option)
{
	const char *blamed = "nobody";
	struct kvs *kv = NULL;

	check_status(kvs_options_check(opts, &blamed), want);
	check(blamed != NULL && strcmp(blamed, option) == 0);
	check_status(kvs_options_check(opts, NULL), want);
	check_status(kvs_open(opts, &kv), want);
	check(kv == NULL);
}

static void check_fine(const struct kvs_options *opts)
{
	const char *blamed = NULL;
	struct kvs *kv = NULL;

	check_status(kvs_options_check(opts, &blamed), KVS_OK);
	check_status(kvs_options_check(opts, NULL), KVS_OK);
	check_ok(kvs_open(opts, &kv));
	set_pattern(kv, 1, 100, 1);
	check_pattern(kv, 1, 100, 1);
	close_store(kv);
}

static int first_shard(const void *key, size_t len, int shards, void *ctx)
{
	(void)key;
	(void)len;
	(void)shards;
	(void)ctx;
	return 0;
}

static void test_defaults_are_fine(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	check_fine(&opts);
	check_fine(NULL);
}

static void test_shards(void **state)
{
	static const int32_t good[] = { 0, 1, 2, 3, 17, KVS_SHARDS_MAX };
	static const int32_t bad[] = { -1, INT32_MIN, KVS_SHARDS_MAX + 1, INT32_MAX };
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		opts.shards = good[i];
		check_fine(&opts);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		opts.shards = bad[i];
		check_blames(&opts, KVS_ERR_INVALID_NUM_SHARDS, "shards");
	}
}

static void test_unknown_flags_must_be_zero(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	for (unsigned int bit = 0; bit < 32; bit++) {
		opts.flags = 1u << bit;
		if (opts.flags == KVS_OPEN_NO_THREADS)
			check_fine(&opts);
		else
			check_blames(&opts, KVS_ERR_INVALID_ARGUMENT, "flags");
	}
	opts.flags = 0;
	opts.expiry_tick_ms = KVS_EXPIRY_TICK_MS_MAX + 1;
	check_blames(&opts, KVS_ERR_INVALID_ARGUMENT, "expiry_tick_ms");
}

static void test_hash_kinds(void **state)
{
	static const int32_t bad[] = { -1, 4, INT32_MIN, INT32_MAX };
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	opts.hash_fn = weak_hash;
	for (opts.hash = 0; opts.hash < 4; opts.hash++)
		check_fine(&opts);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		opts.hash = bad[i];
		check_blames(&opts, KVS_ERR_INVALID_ARGUMENT, "hash");
	}
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = NULL;
	check_blames(&opts, KVS_ERR_NIL_HASH_FUNC, "hash_fn");
}

static void test_route_kinds(void **state)
{
	static const int32_t bad[] = { -1, 2, INT32_MIN, INT32_MAX };
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	opts.route = KVS_ROUTE_USER;
	opts.shard_fn = first_shard;
	check_fine(&opts);
	opts.shard_fn = NULL;
	check_blames(&opts, KVS_ERR_NIL_HASH_FUNC, "shard_fn");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		opts.route = bad[i];
		check_blames(&opts, KVS_ERR_INVALID_ARGUMENT, "route");
	}
}

static void test_allocator_needs_alloc_and_free(void **state)
{
	static struct counting mem;
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_allocator hooks;

	(void)state;
	counting_init(&mem, false);
	hooks = mem.hooks;
	opts.allocator = &hooks;
	check_fine(&opts);
	hooks.alloc = NULL;
	check_blames(&opts, KVS_ERR_INVALID_ARGUMENT, "allocator");
	hooks = mem.hooks;
	hooks.free = NULL;
	check_blames(&opts, KVS_ERR_INVALID_ARGUMENT, "allocator");
	check_u64(atomic_load(&mem.live_blocks), 0);
}

/* Room for 2^62 keys: refused, or no memory for it; never a crash, never a smaller store. */
static void test_impossible_capacity(void **state)
{
	static const uint64_t sizes[] = { UINT64_C(1) << 62, UINT64_MAX };
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;
	int err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		opts.initial_capacity = sizes[i];
		err = kvs_open(&opts, &kv);
		check(err == KVS_ERR_NO_MEMORY || err == KVS_ERR_INVALID_ARGUMENT);
		check(kv == NULL);
	}
}

/* ---- Sizes ------------------------------------------------------------------------------ */

/* An options struct as a later version may have it. */
struct longer_options {
	struct kvs_options known;
	unsigned char unknown[24];
};

static void test_a_longer_struct_with_a_zero_tail_works(void **state)
{
	struct longer_options opts = { KVS_OPTIONS_INIT, { 0 } };

	(void)state;
	opts.known.size = sizeof(opts);
	opts.known.shards = 3;
	check_fine(&opts.known);
	opts.known.size = sizeof(struct kvs_options) + 1;
	check_fine(&opts.known);
}

static void test_a_longer_struct_with_something_in_its_tail(void **state)
{
	struct longer_options opts = { KVS_OPTIONS_INIT, { 0 } };

	(void)state;
	opts.known.size = sizeof(opts);
	for (size_t i = 0; i < sizeof(opts.unknown); i++) {
		opts.unknown[i] = 1;
		check_blames(&opts.known, KVS_ERR_INVALID_ARGUMENT, "size");
		opts.unknown[i] = 0;
	}
	check_fine(&opts.known);
}

/* What lies behind the size that the caller knows is not looked at, and default. */
static void test_a_shorter_struct_works(void **state)
{
	static const size_t sizes[] = {
		offsetof(struct kvs_options, initial_capacity),
		offsetof(struct kvs_options, hash),
		offsetof(struct kvs_options, hash_fn),
		offsetof(struct kvs_options, shard_fn),
		offsetof(struct kvs_options, hash_key),
		offsetof(struct kvs_options, allocator),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		unsigned char *bytes = malloc(sizes[i]); /* not one byte more */
		struct kvs_options opts;

		check(bytes != NULL);
		memset(&opts, 0, sizeof(opts));
		opts.size = sizes[i];
		opts.shards = 5;
		memcpy(bytes, &opts, sizes[i]);
		check_fine((const struct kvs_options *)(const void *)bytes);
		free(bytes);
	}
}

static void test_garbage_behind_a_shorter_struct_is_ignored(void **state)
{
	struct kvs_options opts;

	(void)state;
	memset(&opts, 0xff, sizeof(opts));
	opts.size = offsetof(struct kvs_options, hash);
	opts.shards = 0;
	opts.flags = 0;
	opts.initial_capacity = 0;
	check_fine(&opts);
}

static void test_a_size_that_cannot_be(void **state)
{
	static const size_t sizes[] = { 0, 1, sizeof(size_t) - 1 };
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		opts.size = sizes[i];
		check_blames(&opts, KVS_ERR_INVALID_ARGUMENT, "size");
	}
}

/* ---- What open takes -------------------------------------------------------------------- */

static void test_open_copies_all_it_needs(void **state)
{
	static struct counting mem;
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_allocator hooks;
	unsigned char key[16] = { 1, 2, 3 };
	struct kvs *kv = NULL;

	(void)state;
	counting_init(&mem, true);
	hooks = mem.hooks;
	opts.allocator = &hooks;
	opts.hash_key = key;
	check_ok(kvs_open(&opts, &kv));
	set_pattern(kv, 1, 100, 1);
	memset(&opts, 0xff, sizeof(opts));
	memset(&hooks, 0xff, sizeof(hooks));
	memset(key, 0xff, sizeof(key));
	check_pattern(kv, 1, 100, 1);
	set_pattern(kv, 2, 100, 2);
	close_store(kv);
	check_u64(atomic_load(&mem.live_blocks), 0);
}

/* The order of a walk is the order of the hashes, so it shows whether two stores hash alike. */
static void list_order(const unsigned char *hash_key, int32_t hash, uint64_t *ret_order, size_t n)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;
	struct kvs_slice *keys;
	size_t count;

	opts.shards = 1;
	opts.hash = hash;
	opts.hash_key = hash_key;
	check_ok(kvs_open(&opts, &kv));
	for (uint64_t i = 0; i < n; i++)
		set_pattern(kv, i, 1, i);
	check_ok(kvs_keys(kv, &keys, &count));
	check_u64(count, n);
	for (size_t i = 0; i < n; i++)
		ret_order[i] = key_number(keys[i]);
	kvs_keys_free(kv, keys);
	close_store(kv);
}

static void check_hash_key(int32_t hash)
{
	static const unsigned char key_a[16] = { 1 }, key_b[16] = { [15] = 1 };
	uint64_t a[200], again[200], b[200], random_1[200], random_2[200];

	list_order(key_a, hash, a, ARRAY_LEN(a));
	list_order(key_a, hash, again, ARRAY_LEN(again));
	list_order(key_b, hash, b, ARRAY_LEN(b));
	list_order(NULL, hash, random_1, ARRAY_LEN(random_1));
	list_order(NULL, hash, random_2, ARRAY_LEN(random_2));
	check(memcmp(a, again, sizeof(a)) == 0);
	check(memcmp(a, b, sizeof(a)) != 0);
	check(memcmp(random_1, random_2, sizeof(a)) != 0);
	check(memcmp(random_1, a, sizeof(a)) != 0);
}

static void test_hash_key_is_used_and_else_random(void **state)
{
	(void)state;
	check_hash_key(KVS_HASH_SIPHASH13);
	check_hash_key(KVS_HASH_XXH3);
}

struct counted_call {
	_Atomic uint64_t calls;
};

static uint64_t counting_hash(const void *key, size_t len, void *ctx)
{
	struct counted_call *c = ctx;

	atomic_fetch_add(&c->calls, 1);
	return weak_hash(key, len, NULL);
}

static int counting_route(const void *key, size_t len, int shards, void *ctx)
{
	struct counted_call *c = ctx;

	check(shards == 7);
	atomic_fetch_add(&c->calls, 1);
	return (int)(weak_hash(key, len, NULL) % 7);
}

static void test_user_functions_get_their_context(void **state)
{
	static struct counted_call hash, route;
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	opts.shards = 7;
	opts.hash = KVS_HASH_USER;
	opts.route = KVS_ROUTE_USER;
	opts.hash_fn = counting_hash;
	opts.hash_ctx = &hash;
	opts.shard_fn = counting_route;
	opts.shard_ctx = &route;
	check_fine(&opts);
	check(atomic_load(&hash.calls) >= 2 && atomic_load(&route.calls) >= 2);
}

static void test_initial_capacity_saves_growth(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;

	(void)state;
	opts.initial_capacity = 100000;
	check_ok(kvs_open(&opts, &kv));
	for (uint64_t i = 0; i < 20000; i++)
		set_pattern(kv, i, 1, i);
	check_u64(store_stats(kv).growths, 0);
	close_store(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_are_fine),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_unknown_flags_must_be_zero),
		cmocka_unit_test(test_hash_kinds),
		cmocka_unit_test(test_route_kinds),
		cmocka_unit_test(test_allocator_needs_alloc_and_free),
		cmocka_unit_test(test_impossible_capacity),
		cmocka_unit_test(test_a_longer_struct_with_a_zero_tail_works),
		cmocka_unit_test(test_a_longer_struct_with_something_in_its_tail),
		cmocka_unit_test(test_a_shorter_struct_works),
		cmocka_unit_test(test_garbage_behind_a_shorter_struct_is_ignored),
		cmocka_unit_test(test_a_size_that_cannot_be),
		cmocka_unit_test(test_open_copies_all_it_needs),
		cmocka_unit_test(test_hash_key_is_used_and_else_random),
		cmocka_unit_test(test_user_functions_get_their_context),
		cmocka_unit_test(test_initial_capacity_saves_growth),
	};

	return util_main("options", tests, ARRAY_LEN(tests));
}
