/* SPDX-License-Identifier: MIT */
/*
 * test_collide.c - keys and values at the edges: equal hashes, equal order keys, keys that differ
 * only at their end, empty and binary ones, the largest value; and shard functions that are poor.
 */
#include "configs.h"

#include <sched.h>
#include <string.h>

static char room[KEY_ROOM];

static struct kvs *open_with(const struct kvs_options *opts)
{
	struct kvs *kv = NULL;

	check_ok(kvs_open(opts, &kv));
	return kv;
}

static struct kvs *open_hashed(kvs_hash_fn fn, void *ctx, int32_t shards)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	opts.shards = shards;
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = fn;
	opts.hash_ctx = ctx;
	return open_with(&opts);
}

/* ---- Equal hashes ----------------------------------------------------------------------- */

static uint64_t constant_hash(const void *key, size_t len, void *ctx)
{
	const uint64_t *value = ctx;

	(void)key;
	(void)len;
	return *value;
}

/* Set, overwrite, delete half, and look at all of @count keys. */
static void use_keys(struct kvs *kv, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		set_pattern(kv, i, 8, i);
	check_u64(store_len(kv), count);
	for (uint64_t i = 0; i < count; i += 10)
		set_pattern(kv, i, 300, i + 1);
	check_u64(store_len(kv), count);
	for (uint64_t i = 5; i < count; i += 10)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	for (uint64_t i = 0; i < count; i++) {
		if (i % 10 == 5)
			check(!key_present(kv, i));
		else
			check_pattern(kv, i, i % 10 ? 8 : 300, i % 10 ? i : i + 1);
	}
	check(!key_present(kv, count));
	check_u64(store_len(kv), count - (count + 4) / 10);
}

static int count_item(const struct kvs_item *item, void *arg)
{
	uint64_t *count = arg;

	(void)key_number(item->key);
	++*count;
	return 0;
}

/* One run holds all: a page of that size takes it whole, a smaller one says how large it is. */
static void scan_one_run(struct kvs *kv, size_t count)
{
	struct kvs_item *page = calloc(count, sizeof(*page));
	uint64_t cursor = 0, walked = 0;
	size_t got = 0;

	check(page != NULL);
	kvs_read_begin(kv);
	check_status(kvs_scan(kv, &cursor, page, count - 1, &got), KVS_ERR_BUFFER_TOO_SMALL);
	check_u64(got, count);
	check_ok(kvs_scan(kv, &cursor, page, count, &got));
	kvs_read_end(kv);
	check_u64(got, count);
	check_u64(cursor, 0);
	check_ok(kvs_foreach(kv, count_item, &walked));
	check_u64(walked, count);
	free(page);
}

static void test_ten_thousand_keys_with_equal_hash(void **state)
{
	static uint64_t hashes[] = { 0, UINT64_C(0x0123456789abcdef), UINT64_MAX };
	uint64_t count = util_scaled(500, 10000, 10000);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
		struct kvs *kv = open_hashed(constant_hash, &hashes[i], i == 0 ? 0 : 1);

		use_keys(kv, count);
		scan_one_run(kv, store_len(kv));
		close_store(kv);
	}
}

static void use_same_keys(size_t index, void *arg)
{
	char mine[KEY_ROOM];
	struct rng r;

	rng_init(&r, 300 + index);
	for (size_t i = 0; i < util_scaled(300, 5000, 100000); i++) {
		uint64_t number = rng_below(&r, 40);

		if (rng_below(&r, 3) > 0)
			set_pattern(arg, number, 8, number);
		else
			(void)kvs_delete(arg, make_key(mine, number), NULL);
	}
}

static void test_threads_on_keys_with_equal_hash(void **state)
{
	static uint64_t hash = 5;
	struct kvs *kv = open_hashed(constant_hash, &hash, 1);
	uint64_t present = 0, walked = 0;

	(void)state;
	run_threads(4, use_same_keys, kv);
	for (uint64_t i = 0; i < 40; i++)
		if (key_present(kv, i)) {
			check_pattern(kv, i, 8, i);
			present++;
		}
	check_u64(store_len(kv), present);
	check_ok(kvs_foreach(kv, count_item, &walked));
	check_u64(walked, present);
	close_store(kv);
}

/* ---- Equal order keys, equal prefixes of them ------------------------------------------- */

/* The inverses of the steps of the library's mixer, so that a test can choose the mixed bits. */
static uint64_t unshift(uint64_t x, unsigned int by)
{
	uint64_t y = x;

	for (unsigned int done = by; done < 64; done += by)
		y = x ^ y >> by;
	return y;
}

static uint64_t unmix(uint64_t x)
{
	x = unshift(x, 31) * UINT64_C(0x319642b2d24d8ec3); /* inverse of 0x94d049bb133111eb */
	x = unshift(x, 27) * UINT64_C(0x96de1b173f119089); /* inverse of 0xbf58476d1ce4e5b9 */
	return unshift(x, 30);
}

/* Mixed hashes that differ in 16 bits from bit *ctx on. */
static uint64_t hash_in_16_bits(const void *key, size_t len, void *ctx)
{
	const unsigned int *shift = ctx;
	uint64_t number = key_number(kvs_bytes(key, len));

	return unmix(UINT64_C(0x5555555555555555) ^ (number & 0xffff) << *shift);
}

static void test_hashes_that_differ_in_few_bits(void **state)
{
	static unsigned int shifts[] = { 0, 8, 16, 24, 32, 40, 48 };
	uint64_t count = util_scaled(300, 3000, 60000);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shifts); i++)
		for (int32_t shards = 1; shards <= 16; shards *= 16) {
			struct kvs *kv = open_hashed(hash_in_16_bits, &shifts[i], shards);
			uint64_t walked = 0;

			use_keys(kv, count);
			check_ok(kvs_foreach(kv, count_item, &walked));
			check_u64(walked, store_len(kv));
			close_store(kv);
		}
}

/* ---- Keys that differ late, and odd bytes ----------------------------------------------- */

#define LATE (60 * 1024) /* bytes that all the keys share */

static void differ_late(struct fixture *f)
{
	unsigned char *key = calloc(1, KVS_KEY_MAX);
	char buf[8];

	check(key != NULL);
	for (unsigned int i = 0; i < 200; i++) {
		key[LATE + i * 7] = 1;
		check_ok(kvs_set(f->kv, kvs_bytes(key, KVS_KEY_MAX), kvs_bytes(&i, sizeof(i)),
				 NULL));
		key[LATE + i * 7] = 0;
	}
	check_u64(store_len(f->kv), 200);
	for (unsigned int i = 0; i < 200; i++) {
		key[LATE + i * 7] = 1;
		check_ok(kvs_get(f->kv, kvs_bytes(key, KVS_KEY_MAX), buf, sizeof(buf), NULL));
		check(memcmp(buf, &i, sizeof(i)) == 0);
		key[LATE + i * 7] = 0;
	}
	check_status(kvs_exists(f->kv, kvs_bytes(key, KVS_KEY_MAX)), KVS_ERR_NOT_FOUND);
	free(key);
}

static void test_keys_that_differ_only_after_60_kib(void **state)
{
	(void)state;
	each_config(differ_late);
}

static void test_long_keys_with_equal_hash(void **state)
{
	static uint64_t hash = 9;
	struct fixture f = { .kv = open_hashed(constant_hash, &hash, 4) };

	(void)state;
	differ_late(&f);
	close_store(f.kv);
}

static void check_holds(struct kvs *kv, struct kvs_slice key, struct kvs_slice value)
{
	struct kvs_value got;
	char buf[64];

	check_ok(kvs_get(kv, key, buf, sizeof(buf), &got));
	check_u64(got.len, value.len);
	check_bytes(buf, value.data, value.len);
}

static void odd_bytes(struct fixture *f)
{
	const struct kvs_slice keys[] = {
		kvs_bytes(NULL, 0),        kvs_bytes("\0", 1),       kvs_bytes("\0\0", 2),
		kvs_bytes("a\0b", 3),      kvs_bytes("a\0c", 3),     kvs_bytes("a", 1),
		kvs_bytes("a\0", 2),       kvs_bytes("\xff", 1),     kvs_bytes("\xff\xff", 2),
		kvs_bytes("a\nb\tc\\", 6), kvs_bytes("12345678", 8), kvs_bytes("12345678\0", 9),
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) { /* each key has the next one as its value */
		check_status(kvs_exists(f->kv, keys[i]), KVS_ERR_NOT_FOUND);
		check_ok(kvs_set(f->kv, keys[i], keys[(i + 1) % ARRAY_LEN(keys)], NULL));
	}
	check_u64(store_len(f->kv), ARRAY_LEN(keys));
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		check_holds(f->kv, keys[i], keys[(i + 1) % ARRAY_LEN(keys)]);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		check_ok(kvs_delete(f->kv, keys[i], NULL));
		check_status(kvs_exists(f->kv, keys[i]), KVS_ERR_NOT_FOUND);
	}
}

static void test_empty_and_binary_keys_and_values(void **state)
{
	(void)state;
	each_config(odd_bytes);
}

static void empty_key(struct fixture *f)
{
	struct kvs_slice empty = kvs_bytes("", 0);
	struct kvs_value old;
	struct kvs_slice *keys;
	size_t count;
	uint64_t version;

	check_ok(kvs_add(f->kv, empty, empty, &version));
	check_status(kvs_add(f->kv, empty, empty, NULL), KVS_ERR_DUPLICATE);
	check_ok(kvs_compare_and_set(f->kv, empty, kvs_str("v"), version, &version));
	check_ok(kvs_replace(f->kv, empty, empty, &version));
	check_ok(kvs_keys(f->kv, &keys, &count));
	check(count == 1 && keys[0].len == 0);
	kvs_keys_free(f->kv, keys);
	check_ok(kvs_get_and_set(f->kv, empty, kvs_str("w"), &old, NULL));
	check(old.len == 0 && old.version == version); /* the version tells it from absence */
	kvs_value_free(f->kv, &old);
	check_holds(f->kv, empty, kvs_str("w"));
	check_ok(kvs_get_and_delete(f->kv, empty, &old));
	kvs_value_free(f->kv, &old);
	check_u64(store_len(f->kv), 0);
}

static void test_the_empty_key_is_a_key(void **state)
{
	(void)state;
	each_config(empty_key);
}

/* ---- The largest value ------------------------------------------------------------------ */

static void check_large_value(struct kvs *kv, size_t len)
{
	unsigned char *bytes = malloc(len);
	struct kvs_value got;
	uint64_t version;

	check(bytes != NULL);
	pattern_fill(bytes, len, 1);
	check_ok(kvs_set(kv, kvs_str("large"), kvs_bytes(bytes, len), &version));
	memset(bytes, 0, len);
	check_ok(kvs_get(kv, kvs_str("large"), bytes, len, &got));
	check(got.len == len && got.version == version);
	check(pattern_matches(bytes, len, 1));
	check_status(kvs_get(kv, kvs_str("large"), bytes, len - 1, &got), KVS_ERR_BUFFER_TOO_SMALL);
	check_u64(got.len, len);
	free(bytes);
	check_pattern(kv, 7, 100, 7); /* a small neighbour */
	check(store_stats(kv).bytes_live >= len);
	check_ok(kvs_delete(kv, kvs_str("large"), NULL));
	check_ok(kvs_drain(kv));
	check(store_stats(kv).bytes_live < len);
	check_u64(store_stats(kv).bytes_deferred, 0);
}

static void test_value_of_512_mib(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	set_pattern(kv, 7, 100, 7);
	check_large_value(kv, util_scaled(16, 512, 512) << 20);
	check_large_value(kv, util_scaled((1 << 20) + 1, (1 << 20) + 1, KVS_VALUE_MAX));
	close_store(kv);
}

static void test_value_of_512_mib_with_a_users_allocator(void **state)
{
	static struct counting mem;
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv;

	(void)state;
	counting_init(&mem, true);
	opts.allocator = &mem.hooks;
	kv = open_with(&opts);
	set_pattern(kv, 7, 100, 7);
	check_large_value(kv, util_scaled(16, 512, 512) << 20);
	close_store(kv);
	check_u64(atomic_load(&mem.live_blocks), 0);
}

/* ---- Poor shard functions --------------------------------------------------------------- */

static int sum_of_bytes(const void *key, size_t len, int shards, void *ctx)
{
	const unsigned char *p = key;
	unsigned int sum = 0;

	(void)ctx;
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	check(shards == 10);
	return (int)(sum % 10);
}

static int always_zero(const void *key, size_t len, int shards, void *ctx)
{
	(void)key;
	(void)len;
	(void)shards;
	(void)ctx;
	return 0;
}

struct chains {
	double mean; /* nodes of a chain */
	double p50;
	double p99;
};

/* Load @count keys, let growth finish, and look at the chains. The hash key is fixed: no luck. */
static struct chains measure_chains(kvs_shard_fn shard_fn, uint64_t count, unsigned char which)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	unsigned char hash_key[16] = { which, 1, 2, 3 };
	struct kvs_stats stats;
	struct kvs *kv;

	opts.shards = 10;
	opts.route = shard_fn ? KVS_ROUTE_USER : KVS_ROUTE_HASH;
	opts.shard_fn = shard_fn;
	opts.hash_key = hash_key;
	kv = open_with(&opts);
	for (uint64_t i = 0; i < count; i++)
		check_ok(kvs_set(kv, make_key(room, i), kvs_bytes(&i, sizeof(i)), NULL));
	do {
		sched_yield(); /* maintenance links what inserts have not */
		stats = store_stats(kv);
	} while (stats.buckets_linked < stats.buckets);
	check_u64(stats.keys, count);
	close_store(kv);
	return (struct chains){ (double)stats.chain_mean_milli / 1000, (double)stats.chain_p50,
				(double)stats.chain_p99 };
}

/* The mean over some hash keys. */
static struct chains mean_chains(kvs_shard_fn shard_fn, uint64_t count)
{
	size_t runs = util_scaled(1, 1, 5);
	struct chains sum = { 0, 0, 0 };

	for (size_t i = 0; i < runs; i++) {
		struct chains one = measure_chains(shard_fn, count, (unsigned char)i);

		sum.mean += one.mean / (double)runs;
		sum.p50 += one.p50 / (double)runs;
		sum.p99 += one.p99 / (double)runs;
	}
	util_note("%s: chain mean %.3f, p50 %.2f, p99 %.2f",
		  shard_fn ? "user's routing" : "default", sum.mean, sum.p50, sum.p99);
	return sum;
}

static bool within_5_percent(double a, double b)
{
	return a <= b * 1.05 && a >= b * 0.95;
}

static void test_sum_of_bytes_routing_keeps_chains(void **state)
{
	uint64_t count = util_scaled(15000, 1000000, 1000000);
	struct chains usual = mean_chains(NULL, count);
	struct chains poor = mean_chains(sum_of_bytes, count);

	(void)state;
	check(within_5_percent(poor.mean, usual.mean));
	check(within_5_percent(poor.p50, usual.p50));
	check(within_5_percent(poor.p99, usual.p99));
}

/* All keys in one shard of ten: its directory is larger, its chains are not longer. */
static void test_routing_to_one_shard_keeps_chains_short(void **state)
{
	uint64_t count = util_scaled(15000, 200000, 1000000);
	struct chains usual = mean_chains(NULL, count);
	struct chains poor = mean_chains(always_zero, count);

	(void)state;
	check(poor.p99 <= usual.p99 * 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ten_thousand_keys_with_equal_hash),
		cmocka_unit_test(test_threads_on_keys_with_equal_hash),
		cmocka_unit_test(test_hashes_that_differ_in_few_bits),
		cmocka_unit_test(test_keys_that_differ_only_after_60_kib),
		cmocka_unit_test(test_long_keys_with_equal_hash),
		cmocka_unit_test(test_empty_and_binary_keys_and_values),
		cmocka_unit_test(test_the_empty_key_is_a_key),
		cmocka_unit_test(test_value_of_512_mib),
		cmocka_unit_test(test_value_of_512_mib_with_a_users_allocator),
		cmocka_unit_test(test_sum_of_bytes_routing_keeps_chains),
		cmocka_unit_test(test_routing_to_one_shard_keeps_chains_short),
	};

	return util_main("collide", tests, ARRAY_LEN(tests));
}
