/* SPDX-License-Identifier: MIT */
/*
 * test_file.c - save, load and reading files, when nothing goes wrong but the caller: what comes back, into
 * which stores, how the file is made, who is refused.
 */
#include "configs.h"
#include "files.h"
#include "hand.h"
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "format.h"
#include "memfs.h"
#include "store.h"

static struct kvs *store_with(int32_t shards, int32_t hash)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	o.shards = shards;
	o.hash = hash;
	check_ok(kvs_open(&o, &kv));
	return kv;
}

/* ---- There and back --------------------------------------------------------------------- */

/* Lengths around every border: of inline values, of blocks, of what a thread writes at once. */
static const size_t lengths[] = {
	0,
	1,
	100,
	4096,
	4097,
	65536,
	131072 - 16 - 11 - 1,
	131072 - 16 - 11,
	131072 - 16 - 11 + 1,
	131072,
	262144 - 27,
	262144 - 26,
	1048576,
	8 * 131072 - 27,
	8 * 131072 - 26,
	3000000,
};

static void set_lengths(struct kvs *kv)
{
	static unsigned char key[KVS_KEY_MAX];

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
		set_pattern(kv, i, lengths[i], i);
	pattern_fill(key, sizeof(key), 5);
	check_ok(kvs_set(kv, kvs_bytes(NULL, 0), kvs_str("of the empty key"), NULL));
	check_ok(kvs_set(kv, kvs_bytes(key, sizeof(key)), kvs_str("of the longest key"), NULL));
	check_ok(kvs_set(kv, kvs_bytes(key, sizeof(key) - 1), kvs_bytes(NULL, 0), NULL));
}

struct pair {
	struct kvs *a, *b;
	uint64_t same;
};

static int same_in_b(const struct kvs_item *item, void *arg)
{
	struct pair *p = arg;
	struct kvs_value v;

	check_ok(kvs_get_alloc(p->b, item->key, &v));
	check_u64(v.len, item->value.len);
	check_bytes(v.data, item->value.data, v.len);
	check_u64(v.version, item->value.version);
	check(v.expires_at_ms == item->value.expires_at_ms);
	kvs_value_free(p->b, &v);
	p->same++;
	return 0;
}

/* Same keys, values and versions. */
static void check_same(struct kvs *a, struct kvs *b)
{
	struct pair p = { a, b, 0 };

	check_ok(kvs_foreach(a, same_in_b, &p));
	check_u64(p.same, store_len(a));
	check_u64(store_len(b), p.same);
}

static void test_lengths_come_back(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	set_lengths(kv);
	for (uint32_t threads = 1; threads <= 4; threads++) {
		struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
		struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
		struct kvs *other = store_with((int32_t)threads, KVS_HASH_XXH3);

		so.threads = threads;
		lo.threads = 5 - threads;
		check_ok(kvs_save(kv, in_dir("lengths.kvs"), &so));
		check_ok(kvs_load(other, in_dir("lengths.kvs"), &lo));
		check_same(kv, other);
		check_ok(kvs_free(other));
	}
	check_u64(dir_count(test_dir), 1);
	check_ok(kvs_free(kv));
}

static void test_a_huge_value_comes_back(void **state)
{
	size_t len = util_scaled(5, 5, 512) << 20;
	struct kvs *kv = small_store();
	struct kvs *other = open_default();

	(void)state;
	set_pattern(kv, 1, len, 1);
	set_pattern(kv, 2, 10, 2);
	check_ok(kvs_save(kv, in_dir("huge.kvs"), NULL));
	check_ok(kvs_load(other, in_dir("huge.kvs"), NULL));
	check_pattern(other, 1, len, 1);
	check_same(kv, other);
	util_note("value of %zu MiB", len >> 20);
	check_ok(kvs_free(kv));
	check_ok(kvs_free(other));
}

static void test_an_empty_store_comes_back(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_save(kv, in_dir("empty.kvs"), NULL));
	set_pattern(kv, 1, 10, 1);
	check_ok(kvs_load(kv, in_dir("empty.kvs"), NULL));
	check_u64(store_len(kv), 0);
	check_ok(kvs_free(kv));
}

static int shard_by_length(const void *key, size_t len, int shards, void *ctx)
{
	(void)ctx;
	return len ? (int)((((const unsigned char *)key)[len - 1] + len) % (size_t)shards) : 0;
}

static int shard_always_last(const void *key, size_t len, int shards, void *ctx)
{
	(void)key;
	(void)len;
	(void)ctx;
	return shards - 1;
}

static int shard_outside(const void *key, size_t len, int shards, void *ctx)
{
	(void)ctx;
	return len && ((const unsigned char *)key)[len - 1] == '7' ? shards : 0;
}

static struct kvs *store_routed(int32_t shards, kvs_shard_fn fn)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	o.shards = shards;
	o.route = KVS_ROUTE_USER;
	o.shard_fn = fn;
	check_ok(kvs_open(&o, &kv));
	return kv;
}

static uint64_t constant_hash(const void *key, size_t len, void *ctx)
{
	(void)ctx;
	return len ? ((const unsigned char *)key)[len - 1] % 16 : 0;
}

/* From 10 shards and FNV-1a to any others; the directory is made for the average shard and must grow for others. */
static void test_any_store_takes_it(void **state)
{
	const struct contents c = { util_scaled(2000, 20000, 200000), 3, 60 };
	struct kvs *kv = store_with(10, KVS_HASH_FNV1A);
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *into[8];
	struct kvs_stats stats;

	(void)state;
	contents_set(kv, &c);
	check_ok(kvs_save(kv, in_dir("any.kvs"), NULL));
	into[0] = store_with(1, KVS_HASH_SIPHASH13);
	into[1] = store_with(256, KVS_HASH_XXH3);
	into[2] = store_with(10, KVS_HASH_FNV1A);
	into[3] = store_with(4096, KVS_HASH_SIPHASH13);
	into[4] = store_routed(7, shard_by_length);
	into[5] = store_routed(100, shard_always_last);
	o.hash = KVS_HASH_USER;
	o.hash_fn = weak_hash;
	check_ok(kvs_open(&o, &into[6]));
	o.initial_capacity = 1000000;
	check_ok(kvs_open(&o, &into[7]));
	for (size_t i = 0; i < ARRAY_LEN(into); i++) {
		struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;

		lo.threads = 1 + (uint32_t)i % 3;
		check_ok(kvs_load(into[i], in_dir("any.kvs"), &lo));
		check_same(kv, into[i]);
		check_contents(into[i], &c);
		/* it goes on working: what the load built is a table like any other */
		for (uint64_t k = 0; k < c.count; k += 3) {
			char room[KEY_ROOM];

			check_ok(kvs_delete(into[i], make_key(room, k), NULL));
		}
		check_u64(store_len(into[i]), c.count - (c.count + 2) / 3);
		contents_set(into[i], &c);
		check_contents(into[i], &c);
		stats = store_stats(into[i]);
		if (i == 5)
			check(stats.growths > 0);
		check_ok(kvs_free(into[i]));
	}
	check_ok(kvs_free(kv));
}

static void test_equal_hashes_are_told_apart(void **state)
{
	const struct contents c = { util_scaled(100, 1000, 4000), 3, 60 };
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;
	struct kvs *other = open_default();

	(void)state;
	o.hash = KVS_HASH_USER;
	o.hash_fn = constant_hash;
	check_ok(kvs_open(&o, &kv));
	contents_set(other, &c);
	check_ok(kvs_save(other, in_dir("equal.kvs"), NULL));
	check_ok(kvs_load(kv, in_dir("equal.kvs"), NULL));
	check_same(other, kv);
	check_ok(kvs_free(kv));
	check_ok(kvs_free(other));
}

static void test_a_bad_route_changes_nothing(void **state)
{
	const struct contents c = { 100, 3, 60 };
	struct kvs *kv = open_default();
	struct kvs *other = store_routed(4, shard_outside);

	(void)state;
	contents_set(kv, &c);
	check_ok(kvs_save(kv, in_dir("route.kvs"), NULL));
	check_ok(kvs_set(other, kvs_str("k"), kvs_str("stays"), NULL));
	check_status(kvs_load(other, in_dir("route.kvs"), NULL), KVS_ERR_INVALID_SHARD_INDEX);
	check_u64(store_len(other), 1);
	check_ok(kvs_exists(other, kvs_str("k")));
	check_ok(kvs_free(kv));
	check_ok(kvs_free(other));
}

/* The old contents, which are as large, are not held against the new ones; directories are part of both. */
static void test_contents_beyond_the_limit_change_nothing(void **state)
{
	const struct contents c = { util_scaled(2000, 10000, 40000), 3, 200 };
	struct kvs *kv = open_default();
	struct kvs_options o = KVS_OPTIONS_INIT;
	uint64_t needs, entries;
	struct kvs *other;

	(void)state;
	o.shards = 4;
	contents_set(kv, &c);
	check_ok(kvs_save(kv, in_dir("limit.kvs"), NULL));
	check_ok(kvs_free(kv));
	check_ok(kvs_open(&o, &kv));
	check_ok(kvs_load(kv, in_dir("limit.kvs"), NULL));
	entries = store_stats(kv).bytes_live;
	needs = entries + store_stats(kv).bytes_index;
	check(needs > entries + c.count * 4);
	check_ok(kvs_free(kv));

	o.max_memory = entries + 1;
	check_ok(kvs_open(&o, &other));
	check_ok(kvs_set(other, kvs_str("k"), kvs_str("stays"), NULL));
	check_status(kvs_load(other, in_dir("limit.kvs"), NULL), KVS_ERR_MEMORY_LIMIT);
	check_u64(store_len(other), 1);
	check_ok(kvs_exists(other, kvs_str("k")));
	check_ok(kvs_free(other));

	o.max_memory = needs + 4096;
	check_ok(kvs_open(&o, &other));
	for (unsigned i = 0; i < 3; i++)
		check_ok(kvs_load(other, in_dir("limit.kvs"), NULL));
	check_contents(other, &c);
	check_ok(kvs_free(other));
}

static void test_a_user_allocator_gets_all_back(void **state)
{
	const struct contents c = { 3000, 4, 6000 };
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct counting mem;
	struct kvs *kv;

	(void)state;
	counting_init(&mem, true);
	o.allocator = &mem.hooks;
	check_ok(kvs_open(&o, &kv));
	contents_set(kv, &c);
	for (unsigned i = 0; i < 3; i++) {
		check_ok(kvs_save(kv, in_dir("mem.kvs"), NULL));
		check_ok(kvs_load(kv, in_dir("mem.kvs"), NULL));
		check_contents(kv, &c);
		check(store_stats(kv).bytes_live > 3000 * 2000);
		check(store_stats(kv).bytes_live < 3000 * 7000);
	}
	check_ok(kvs_clear(kv));
	check_u64(store_stats(kv).bytes_live, 0);
	check_ok(kvs_free(kv));
	check_u64(atomic_load(&mem.live_bytes), 0);
}

/* Enough for two threads on either side by default. */
static void test_two_threads_by_default(void **state)
{
	const struct contents c = { util_scaled(20000, 150000, 1000000), 9, 250 };
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs *kv = open_default();
	struct kvs *other = open_default();

	(void)state;
	contents_set(kv, &c);
	check_ok(kvs_save(kv, in_dir("two.kvs"), &so));
	check_ok(kvs_load(other, in_dir("two.kvs"), &lo));
	check_same(kv, other);
	check_ok(kvs_free(kv));
	check_ok(kvs_free(other));
}

/* ---- Versions --------------------------------------------------------------------------- */

static uint64_t version_of(struct kvs *kv, uint64_t number)
{
	char room[KEY_ROOM];
	struct kvs_value v;
	uint64_t version;

	check_ok(kvs_get_alloc(kv, make_key(room, number), &v));
	version = v.version;
	kvs_value_free(kv, &v);
	return version;
}

static void test_versions_go_on_above(void **state)
{
	static const int32_t shards[] = { 1, 3, 16, 300 };
	struct kvs *kv = store_with(7, KVS_HASH_SIPHASH13);
	uint64_t highest = 0;

	(void)state;
	for (unsigned round = 0; round < 50; round++)
		for (uint64_t i = 0; i < 100; i++)
			set_pattern(kv, i, 10, round);
	for (uint64_t i = 0; i < 100; i++)
		highest = version_of(kv, i) > highest ? version_of(kv, i) : highest;
	check_ok(kvs_save(kv, in_dir("versions.kvs"), NULL));
	for (size_t s = 0; s < ARRAY_LEN(shards); s++) {
		struct kvs *other = store_with(shards[s], KVS_HASH_SIPHASH13);
		uint64_t seen[400];

		set_pattern(other, 1000, 1, 1);
		check_ok(kvs_load(other, in_dir("versions.kvs"), NULL));
		check_same(kv, other);
		for (uint64_t i = 0; i < 400; i++) {
			set_pattern(other, i, 10, 99);
			seen[i] = version_of(other, i);
			check(seen[i] > highest);
			for (uint64_t j = 0; j < i; j++)
				check(seen[j] != seen[i]);
		}
		/* loading an old file does not take the counters back */
		check_ok(kvs_load(other, in_dir("versions.kvs"), NULL));
		set_pattern(other, 399, 10, 99);
		check(version_of(other, 399) > seen[399]);
		check_ok(kvs_free(other));
	}
	check_ok(kvs_free(kv));
}

static void test_new_versions(void **state)
{
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	const struct contents c = { 100, 1, 20 };
	struct kvs *kv = small_store();
	uint64_t last = 0;

	(void)state;
	contents_set(kv, &c);
	check_ok(kvs_save(kv, in_dir("new.kvs"), NULL));
	lo.flags = KVS_LOAD_NEW_VERSIONS;
	check_ok(kvs_set(kv, kvs_str("x"), kvs_str("y"), &last));
	check_ok(kvs_load(kv, in_dir("new.kvs"), &lo));
	check_contents(kv, &c);
	for (uint64_t i = 0; i < 100; i++)
		check(version_of(kv, i) > last);
	check_ok(kvs_free(kv));
}

#define KEPT_MAX ((UINT64_C(1) << 55) - 1)
#define VERSION_MAX ((UINT64_C(1) << 56) - 1)

/* A file in which the first entry has @version; its key's number. */
static uint64_t file_with_version(uint64_t version)
{
	const struct contents c = { 20, 1, 20 };
	unsigned char *bytes;
	struct kvs_file *file;
	struct kvs_item item;
	uint64_t number;
	size_t len;

	contents_save(in_dir("edge"), &c);
	check_ok(kvs_file_open(in_dir("edge"), NULL, &file));
	check_ok(kvs_file_next(file, &item));
	number = key_number(item.key);
	kvs_file_close(file);
	bytes = file_read(in_dir("edge"), &len);
	memcpy(bytes + KVS__FILE_HEADER + KVS__BLOCK_HEADER + 8, &version, sizeof(version));
	bytes_seal(bytes, len);
	file_write(in_dir("edge"), bytes, len);
	free(bytes);
	return number;
}

/* Write, save and load into the same store and a new one: versions go up, and the file is taken each time. */
static void check_goes_on(struct kvs *kv, uint64_t number)
{
	uint64_t last = version_of(kv, number);

	for (unsigned round = 0; round < 4; round++) {
		struct kvs *other = store_with(round % 2 ? 16 : 1, KVS_HASH_SIPHASH13);

		set_pattern(kv, number, 10, round);
		check(version_of(kv, number) > last);
		last = version_of(kv, number);
		check_ok(kvs_save(kv, in_dir("edge"), NULL));
		check_ok(kvs_load(other, in_dir("edge"), NULL));
		check_u64(store_len(other), store_len(kv));
		check_pattern(other, number, 10, round);
		check(version_of(other, number) == last || last > KEPT_MAX);
		check_ok(kvs_load(kv, in_dir("edge"), NULL));
		check(version_of(kv, number) >= last);
		last = version_of(kv, number);
		for (uint64_t i = 0; i < store_len(kv); i++)
			check(i == number || version_of(kv, i) != last);
		check_ok(kvs_free(other));
	}
}

/* Whatever versions a store takes from a file, it can go on from there, and what it then saves can be loaded. */
static void test_versions_at_the_edge(void **state)
{
	static const uint64_t good[] = { 1000000,      KEPT_MAX - 20,   KEPT_MAX - 1, KEPT_MAX,
					 KEPT_MAX + 1, VERSION_MAX - 1, VERSION_MAX };
	static const uint64_t bad[] = { 0, VERSION_MAX + 1, UINT64_MAX };
	struct kvs *kv;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		uint64_t number = file_with_version(good[i]);

		kv = store_with(i % 2 ? 3 : 1, KVS_HASH_SIPHASH13);
		check_ok(kvs_load(kv, in_dir("edge"), NULL));
		if (good[i] <= KEPT_MAX)
			check_u64(version_of(kv, number), good[i]);
		else
			check(version_of(kv, number) > KEPT_MAX &&
			      version_of(kv, number) < KEPT_MAX + 100);
		check_goes_on(kv, number);
		check_ok(kvs_free(kv));
	}
	kv = small_store();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		(void)file_with_version(bad[i]);
		check_status(kvs_load(kv, in_dir("edge"), NULL), KVS_ERR_CORRUPTED_SNAPSHOT);
	}
	check_ok(kvs_free(kv));
}

/* ---- Expiry ----------------------------------------------------------------------------- */

/* Clocks that stand where they are put: of deadlines, and on the wall. */
struct clocks {
	_Atomic int64_t boot, wall;
};

static int64_t clock_boot(void *ctx)
{
	return atomic_load(&((struct clocks *)ctx)->boot);
}

static int64_t clock_wall(void *ctx)
{
	return atomic_load(&((struct clocks *)ctx)->wall);
}

static struct kvs *store_with_clocks(struct clocks *c)
{
	struct kvs_clock clock = { clock_boot, clock_wall, c };
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	o.shards = 4;
	o.clock = &clock;
	check_ok(kvs_open(&o, &kv));
	return kv;
}

#define WALL INT64_C(1700000000000)
#define TIMED_LONG 200000u /* bytes: spans blocks */

static void set_timed(struct kvs *kv, uint64_t number, int64_t ttl_ms)
{
	static unsigned char value[TIMED_LONG];
	size_t len = number % 10 == 9 ? TIMED_LONG : number % 60;
	char room[KEY_ROOM];

	pattern_fill(value, len, number);
	check_ok(kvs_set_ex(kv, make_key(room, number), kvs_bytes(value, len), kvs_after(ttl_ms),
			    NULL));
}

/* Every second key ends 1,000 ms after the save by the wall; whoever loads runs by another clock of deadlines. */
static void test_expiry_is_by_the_wall(void **state)
{
	static const int64_t later[] = { 0, 999, 1000, 1001, 100000 };
	struct clocks saver = { 5000, WALL };
	struct kvs *kv = store_with_clocks(&saver);
	char room[KEY_ROOM];

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		set_timed(kv, i, i % 2 ? 1000 : 0);
	check_ok(kvs_save(kv, in_dir("timed"), NULL));
	for (size_t t = 0; t < ARRAY_LEN(later); t++) {
		struct clocks loader = { 77, WALL + later[t] };
		struct kvs *other = store_with_clocks(&loader);
		bool alive = later[t] < 1000;

		check_ok(kvs_load(other, in_dir("timed"), NULL));
		check_u64(store_len(other), alive ? 100 : 50);
		for (uint64_t i = 0; i < 100; i++) {
			struct kvs_value v;

			check_status(kvs_get_alloc(other, make_key(room, i), &v),
				     i % 2 && !alive ? KVS_ERR_NOT_FOUND : KVS_OK);
			if (i % 2 && !alive)
				continue;
			check(v.expires_at_ms == (i % 2 ? WALL + 1000 : 0));
			check(pattern_matches(v.data, v.len, i));
			kvs_value_free(other, &v);
		}
		/* and they go when their time has come */
		atomic_store(&loader.boot, 77 + 1000 - later[t]);
		for (uint64_t i = 0; i < 100; i++)
			check_status(kvs_exists(other, make_key(room, i)),
				     i % 2 ? KVS_ERR_NOT_FOUND : KVS_OK);
		check_ok(kvs_free(other));
	}
	check_ok(kvs_free(kv));
}

/* What must be shown of ten million, at scale long. */
static void test_half_has_expired_before_the_load(void **state)
{
	uint64_t count = util_scaled(2000, 100000, 10000000);
	struct clocks clocks = { 5000, WALL };
	struct kvs *kv = store_with_clocks(&clocks);
	char room[KEY_ROOM];
	uint64_t found = 0;

	(void)state;
	for (uint64_t i = 0; i < count; i++)
		check_ok(kvs_set_ex(kv, make_key(room, i), kvs_str("v"),
				    kvs_after(i % 2 ? 60000 : 120000), NULL));
	check_ok(kvs_save(kv, in_dir("half"), NULL));
	check_ok(kvs_clear(kv));
	atomic_store(&clocks.boot, 5000 + 60000);
	atomic_store(&clocks.wall, WALL + 60000);
	check_ok(kvs_load(kv, in_dir("half"), NULL));
	check_u64(store_len(kv), count / 2);
	for (uint64_t i = 0; i < count; i++)
		found += kvs_exists(kv, make_key(room, i)) == KVS_OK;
	check_u64(found, count / 2);
	util_note("%llu keys with a time to live, half of them expired", (unsigned long long)count);
	check_ok(kvs_free(kv));
}

#define HOUR INT64_C(3600000)
#define ALIKE 2000u     /* keys that end together */
#define ALIKE_LEN 2000u /* bytes of their values: several pieces of a file */
#define ALIKE_TTL INT64_C(1000000000)

static void set_alike(struct kvs *kv, uint64_t number)
{
	char room[KEY_ROOM], value[ALIKE_LEN];

	memset(value, 'v', sizeof(value));
	check_ok(kvs_set_ex(kv, make_key(room, number), kvs_bytes(value, sizeof(value)),
			    kvs_after(ALIKE_TTL), NULL));
}

struct wall_set {
	struct kvs *kv;
	struct clocks *clocks;
	unsigned calls, sets;
};

/* Somebody sets the wall clock by an hour, and the store notices. */
static void set_the_wall(struct wall_set *w)
{
	int64_t wall = atomic_fetch_add(&w->clocks->wall, HOUR) + HOUR;

	check_ok(kvs_set_ex(w->kv, kvs_str("notices"), kvs_str(""), kvs_at(wall + 1), NULL));
	w->sets++;
}

static int set_the_wall_once(uint64_t done, uint64_t total, void *arg)
{
	struct wall_set *w = arg;

	if (++w->calls == 2 && done < total)
		set_the_wall(w);
	return 0;
}

/* The wall is set in the middle of a walk: what was overwritten meanwhile comes from the queue, the rest from the table. */
static void walk_while_the_wall_is_set(struct wall_set *w, int64_t expires_at_ms)
{
	struct kvs_snapshot *snapshot;
	struct kvs_snapshot_part *part;
	struct kvs_item item;
	uint64_t n = 0;

	check_ok(kvs_snapshot_begin(w->kv, NULL, &snapshot));
	check_ok(kvs_snapshot_part_begin(snapshot, &part));
	while (kvs_snapshot_next(part, &item) == KVS_OK) {
		check(item.value.expires_at_ms == expires_at_ms);
		if (n++ == ALIKE / 4) {
			set_the_wall(w);
			for (uint64_t i = 0; i < ALIKE; i += 2)
				set_alike(w->kv, i);
		}
	}
	kvs_snapshot_part_end(part);
	check_ok(kvs_snapshot_end(snapshot, NULL));
	check_u64(n, ALIKE);
}

static void check_file_expires(int64_t saved_at_ms, int64_t expires_at_ms)
{
	struct kvs_file_info info = { .size = sizeof(info) };
	struct kvs_file *file;
	struct kvs_item item;

	check_ok(kvs_file_open(in_dir("alike"), NULL, &file));
	check_ok(kvs_file_info(file, &info));
	check_u64(info.entries, ALIKE);
	check(info.saved_at_ms == saved_at_ms);
	while (kvs_file_next(file, &item) == KVS_OK)
		check(item.value.expires_at_ms == expires_at_ms);
	kvs_file_close(file);
}

/* A snapshot, a file and a load each know one wall clock, whoever sets it in their middle. */
static void test_expiries_are_by_one_clock(void **state)
{
	struct clocks clocks = { 5000, WALL };
	struct wall_set w = { store_with_clocks(&clocks), &clocks, 0, 0 };
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs_value v;
	char room[KEY_ROOM];

	(void)state;
	for (uint64_t i = 0; i < ALIKE; i++)
		set_alike(w.kv, i);
	walk_while_the_wall_is_set(&w, WALL + ALIKE_TTL);
	check_ok(kvs_delete(w.kv, kvs_str("notices"), NULL));
	so.threads = 1;
	so.progress = set_the_wall_once;
	so.progress_arg = &w;
	check_ok(kvs_save(w.kv, in_dir("alike"), &so));
	check_u64(w.sets, 2);
	check_file_expires(WALL + HOUR, WALL + HOUR + ALIKE_TTL);
	lo.threads = 1;
	lo.progress = set_the_wall_once;
	lo.progress_arg = &w;
	w.calls = 0;
	check_ok(kvs_load(w.kv, in_dir("alike"), &lo));
	check_u64(w.sets, 3);
	kvs_read_begin(w.kv);
	for (uint64_t i = 0; i < ALIKE;
	     i++) { /* the load began by a clock of two hours more; it is three now */
		check_ok(kvs_borrow(w.kv, make_key(room, i), &v));
		check(v.expires_at_ms == WALL + 2 * HOUR + ALIKE_TTL);
	}
	kvs_read_end(w.kv);
	check_ok(kvs_free(w.kv));
}

/* ---- How the file is made --------------------------------------------------------------- */

static unsigned mode_of(const char *name)
{
	struct stat st;

	check(lstat(in_dir(name), &st) == 0);
	return st.st_mode & 07777;
}

static void test_modes(void **state)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs *kv = small_store();
	mode_t old = umask(0);

	(void)state;
	check_ok(kvs_save(kv, in_dir("mode"), NULL));
	check_u64(mode_of("mode"), 0600);
	for (mode_t mask = 0; mask <= 0777; mask += 0111) { /* 0400 and 0200 are taken, too */
		umask(mask);
		check_ok(kvs_save(kv, in_dir("mode"), NULL));
		check_u64(mode_of("mode"), 0600);
	}
	umask(077);
	so.mode = 0644;
	check_ok(kvs_save(kv, in_dir("mode"), &so));
	check_u64(mode_of("mode"), 0644);
	umask(old);
	so.mode = 04755;
	check_status(kvs_save(kv, in_dir("mode"), &so), KVS_ERR_INVALID_ARGUMENT);
	check_u64(dir_count(test_dir), 1);
	check_ok(kvs_free(kv));
}

static void test_links_are_not_followed(void **state)
{
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	char target[PATH_ROOM];
	struct stat st;
	struct kvs *kv = small_store();
	size_t len;
	unsigned char *bytes;

	(void)state;
	dir_path(target, test_dir, "target");
	file_write(target, "mine", 4);
	check(symlink(target, in_dir("link")) == 0);
	lo.error = &error;
	check_status(kvs_load(kv, in_dir("link"), &lo), KVS_ERR_IO);
	check_u64((uint64_t)error.system_error, ELOOP);
	check_ok(kvs_save(kv, in_dir("link"), NULL));
	check(lstat(in_dir("link"), &st) == 0 && S_ISREG(st.st_mode));
	bytes = file_read(target, &len);
	check(len == 4 && memcmp(bytes, "mine", 4) == 0);
	free(bytes);
	check_ok(kvs_load(kv, in_dir("link"), NULL));
	check_ok(kvs_free(kv));
}

static void test_only_regular_files_are_read(void **state)
{
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs *kv = small_store();

	(void)state;
	lo.error = &error;
	check_status(kvs_load(kv, test_dir, &lo), KVS_ERR_IO);
	check_u64((uint64_t)error.system_error, EISDIR);
	check(mkfifo(in_dir("pipe"), 0600) == 0);
	check_status(kvs_load(kv, in_dir("pipe"), &lo), KVS_ERR_IO);
	check_status(kvs_load(kv, in_dir("none"), &lo), KVS_ERR_IO);
	check_u64((uint64_t)error.system_error, ENOENT);
	check(error.code == KVS_ERR_IO && error.cause != NULL);
	check_ok(kvs_free(kv));
}

static void test_the_previous_file_is_kept(void **state)
{
	const struct contents c[3] = { { 10, 1, 20 }, { 20, 2, 20 }, { 30, 3, 20 } };
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs *kv = small_store();

	(void)state;
	so.flags = KVS_SAVE_KEEP_PREVIOUS;
	for (unsigned i = 0; i < 3; i++) {
		check_ok(kvs_clear(kv));
		contents_set(kv, &c[i]);
		check_ok(kvs_save(kv, in_dir("k"), &so));
		check_u64(dir_count(test_dir), i ? 2 : 1);
		if (i == 0)
			continue;
		check_ok(kvs_load(kv, in_dir("k.prev"), NULL));
		check_contents(kv, &c[i - 1]);
		check_ok(kvs_load(kv, in_dir("k"), NULL));
		check_contents(kv, &c[i]);
	}
	check_ok(kvs_free(kv));
}

/* Renames and links that fail, or in whose middle another saver comes along. */
static struct {
	struct kvs__io io;
	const char *rename_to; /* that name fails with error */
	bool links_fail;       /* with error */
	int error;
	struct kvs *other; /* saves too, once at each of these; NULL: nobody */
	bool before_link, after_link, before_rename;
	unsigned others; /* how often it has */
} met;

static void other_saves(bool *when)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;

	if (!*when)
		return;
	*when = false; /* before the save, whose calls come here too */
	so.flags = KVS_SAVE_KEEP_PREVIOUS;
	check_ok(kvs_save(met.other, in_dir("k"), &so));
	met.others++;
}

static int met_linkat(int dir, const char *from, const char *to)
{
	int err;

	if (met.links_fail) {
		errno = met.error;
		return -1;
	}
	other_saves(&met.before_link);
	err = kvs__io_system.linkat(dir, from, to);
	if (err == 0)
		other_saves(&met.after_link);
	return err;
}

static int met_renameat(int dir, const char *from, const char *to)
{
	if (met.rename_to != NULL && strcmp(met.rename_to, to) == 0) {
		errno = met.error;
		return -1;
	}
	if (strcmp(to, "k") == 0)
		other_saves(&met.before_rename);
	return kvs__io_system.renameat(dir, from, to);
}

static void met_use(void)
{
	memset(&met, 0, sizeof(met));
	met.io = kvs__io_system;
	met.io.linkat = met_linkat;
	met.io.renameat = met_renameat;
	kvs__io = &met.io;
}

static void met_leave(void)
{
	kvs__io = &kvs__io_system;
}

/* Save @c to k and keep what was there. */
static int save_keeping(struct kvs *kv, const struct contents *c)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;

	so.flags = KVS_SAVE_KEEP_PREVIOUS;
	check_ok(kvs_clear(kv));
	contents_set(kv, c);
	return kvs_save(kv, in_dir("k"), &so);
}

static void check_file(struct kvs *kv, const char *name, const struct contents *c)
{
	check_ok(kvs_load(kv, in_dir(name), NULL));
	check_contents(kv, c);
}

static const struct contents generation[] = { { 10, 1, 20 }, { 20, 2, 20 }, { 30, 3, 20 } };

/* Whatever fails while a file is replaced, the one before and the one before that are there. */
static void test_a_save_that_fails_takes_no_previous_file_away(void **state)
{
	struct kvs *kv = small_store();

	(void)state;
	check_ok(save_keeping(kv, &generation[0]));
	check_ok(save_keeping(kv, &generation[1]));
	/* a file system without hard links; NAME.prev cannot be replaced */
	for (unsigned i = 0; i < 2; i++) {
		met_use();
		met.error = EPERM;
		met.links_fail = i == 0;
		met.rename_to = "k.prev";
		check_status(save_keeping(kv, &generation[2]), KVS_ERR_IO);
		met_leave();
		check_file(kv, "k", &generation[1]);
		check_file(kv, "k.prev", &generation[0]);
		check_u64(dir_count(test_dir), 2);
	}
	/* k itself cannot be replaced: its file has both names, and the next save comes through */
	met_use();
	met.error = EIO;
	met.rename_to = "k";
	check_status(save_keeping(kv, &generation[2]), KVS_ERR_IO);
	met_leave();
	check_file(kv, "k", &generation[1]);
	check_file(kv, "k.prev", &generation[1]);
	check_u64(dir_count(test_dir), 2);
	check_ok(save_keeping(kv, &generation[2]));
	check_file(kv, "k", &generation[2]);
	check_file(kv, "k.prev", &generation[1]);
	check_u64(dir_count(test_dir), 2);
	check_ok(kvs_free(kv));
}

/* Without k there is nothing to keep: k.prev, the only copy, stays while k comes to be and after. */
static void test_the_last_copy_stays(void **state)
{
	struct kvs *kv = small_store();

	(void)state;
	check_ok(save_keeping(kv, &generation[0]));
	check_ok(save_keeping(kv, &generation[1]));
	check(unlink(in_dir("k")) == 0);
	met_use();
	met.error = EIO;
	met.rename_to = "k";
	check_status(save_keeping(kv, &generation[2]), KVS_ERR_IO);
	met_leave();
	check_u64(dir_count(test_dir), 1);
	check_file(kv, "k.prev", &generation[0]);
	check_ok(save_keeping(kv, &generation[2]));
	check_file(kv, "k.prev", &generation[0]);
	check_file(kv, "k", &generation[2]);
	check_u64(dir_count(test_dir), 2);
	check_ok(kvs_free(kv));
}

/* Another saver of the same name, from beginning to end between two steps of the first: neither fails for it. */
static void test_two_savers_of_one_name(void **state)
{
	struct kvs *kv = small_store();
	struct kvs *other = small_store();

	(void)state;
	contents_set(other, &generation[2]);
	for (unsigned i = 0; i < 8; i++) {
		unsigned expected = (i & 1) + (i >> 1 & 1) + (i >> 2 & 1);

		check_ok(save_keeping(kv, &generation[0]));
		met_use();
		met.other = other;
		met.before_link = i & 1;
		met.after_link = i >> 1 & 1;
		met.before_rename = i >> 2 & 1;
		check_ok(save_keeping(kv, &generation[1]));
		met_leave();
		check_u64(met.others, expected);
		check_file(kv, "k", &generation[1]);
		check_file(kv, "k.prev", &generation[i & 3 ? 2 : 0]);
		check_u64(dir_count(test_dir), 2);
	}
	check_ok(kvs_free(kv));
	check_ok(kvs_free(other));
}

/* What a dead saver left goes; what a living one has, or looks alike, stays. */
static void test_what_was_left_is_swept(void **state)
{
	static const char *const others[] = {
		".k.0123456789abcdef.tm",   ".k.0123456789abcdeg.tmp", ".k.0123456789abcde.tmp",
		"k.0123456789abcdef.tmp",   ".l.0123456789abcdef.tmp", ".k.0123456789ABCDEF.tmp",
		".k.0123456789abcdef.tmp2",
	};
	struct kvs *kv = small_store();
	int held;

	(void)state;
	file_write(in_dir(".k.0123456789abcdef.tmp"), "left", 4);
	file_write(in_dir(".k.ffffffffffffffff.tmp"), "left", 4);
	file_write(in_dir(".k.00000000000000aa.tmp"), "in use", 6);
	check(symlink("/etc/passwd", in_dir(".k.00000000000000bb.tmp")) == 0);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		file_write(in_dir(others[i]), "", 0);
	held = open(in_dir(".k.00000000000000aa.tmp"), O_RDONLY | O_CLOEXEC);
	check(held >= 0 && flock(held, LOCK_EX) == 0);
	check_ok(kvs_save(kv, in_dir("k"), NULL));
	check(access(in_dir(".k.0123456789abcdef.tmp"), F_OK) != 0);
	check(access(in_dir(".k.ffffffffffffffff.tmp"), F_OK) != 0);
	check(access(in_dir(".k.00000000000000aa.tmp"), F_OK) == 0);
	check_u64(dir_count(test_dir), ARRAY_LEN(others) + 3);
	close(held);
	check_ok(kvs_save(kv, in_dir("k"), NULL));
	check_u64(dir_count(test_dir), ARRAY_LEN(others) + 2);
	check_ok(kvs_free(kv));
}

static char temps[64][PATH_ROOM];
static size_t temp_count;

/* While a save runs its temporary file can be seen, with mode 0600. */
static int note_temp(uint64_t done, uint64_t total, void *arg)
{
	(void)arg;
	if (done == total) {
		char room[PATH_ROOM];
		struct stat st;

		check(dir_find_temp(test_dir, temps[temp_count]));
		check(lstat(dir_path(room, test_dir, temps[temp_count]), &st) == 0);
		check_u64(st.st_mode & 07777, 0600);
		temp_count++;
	}
	return 0;
}

static void test_temporary_names_differ(void **state)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs *kv = small_store();
	unsigned digits[16] = { 0 };

	(void)state;
	so.progress = note_temp;
	temp_count = 0;
	for (size_t i = 0; i < ARRAY_LEN(temps); i++)
		check_ok(kvs_save(kv, in_dir("k"), &so));
	check_u64(temp_count, ARRAY_LEN(temps));
	for (size_t i = 0; i < temp_count; i++) {
		check_u64(strlen(temps[i]), strlen(".k.0123456789abcdef.tmp"));
		for (size_t j = 0; j < i; j++)
			check(strcmp(temps[i], temps[j]) != 0);
		for (size_t d = 3; d < 19; d++)
			digits[strchr("0123456789abcdef", temps[i][d]) - "0123456789abcdef"]++;
	}
	/* 1,024 random digits: each comes; fewer than 20 of one has odds below 1 in 10^8 */
	for (size_t d = 0; d < 16; d++)
		check(digits[d] > 0);
	check_ok(kvs_free(kv));
}

static void test_names(void **state)
{
	static const char *const bad[] = { "", "/", ".", "..", "some/", "/tmp/." };
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct kvs *kv = small_store();
	char name[300];
	char here[PATH_ROOM];

	(void)state;
	so.error = &error;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		check_status(kvs_save(kv, bad[i], &so), KVS_ERR_INVALID_ARGUMENT);
	memset(name, 'n', sizeof(name));
	name[233] = '\0';
	check_ok(kvs_save(kv, in_dir(name), &so));
	name[233] = 'n';
	name[234] = '\0';
	check_status(kvs_save(kv, in_dir(name), &so), KVS_ERR_IO);
	check_u64((uint64_t)error.system_error, ENAMETOOLONG);
	check_status(kvs_save(kv, in_dir("no/such/directory"), &so), KVS_ERR_IO);
	check_u64((uint64_t)error.system_error, ENOENT);
	/* a name without a directory */
	check(getcwd(here, sizeof(here)) != NULL && chdir(test_dir) == 0);
	check_ok(kvs_save(kv, "bare", NULL));
	check_ok(kvs_load(kv, "bare", NULL));
	check(chdir(here) == 0);
	check_ok(kvs_free(kv));
}

/* ---- Progress --------------------------------------------------------------------------- */

struct steps {
	uint64_t calls, last_done, last_total, end_at;
};

static int step(uint64_t done, uint64_t total, void *arg)
{
	struct steps *s = arg;

	check(done >= s->last_done && done <= total);
	s->last_done = done;
	s->last_total = total;
	return ++s->calls == s->end_at ? 77 : 0;
}

static void test_progress(void **state)
{
	const struct contents c = { util_scaled(20000, 40000, 40000), 5, 200 };
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct steps s = { 0, 0, 0, 0 };
	struct kvs *kv = small_store();

	(void)state;
	contents_set(kv, &c);
	so.progress = step;
	so.progress_arg = &s;
	check_ok(kvs_save(kv, in_dir("p"), &so));
	check(s.calls >= 3 && s.last_done == c.count && s.last_total == c.count);
	s = (struct steps){ 0, 0, 0, 0 };
	lo.progress = step;
	lo.progress_arg = &s;
	check_ok(kvs_load(kv, in_dir("p"), &lo));
	check(s.calls >= 3 && s.last_done == c.count && s.last_total == c.count);
	check_ok(kvs_free(kv));
}

static void test_progress_ends_the_call(void **state)
{
	const struct contents c = { 40000, 5, 100 };
	const struct contents old = { 10, 6, 100 };
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs *kv = small_store();
	struct kvs *other = small_store();
	uint64_t at, ended = 0;

	(void)state;
	contents_set(kv, &c);
	contents_set(other, &old);
	check_ok(kvs_save(other, in_dir("p"), NULL));
	for (at = 1;; at++) {
		struct steps s = { 0, 0, 0, at };
		int err;

		so.progress = step;
		so.progress_arg = &s;
		err = kvs_save(kv, in_dir("p"), &so);
		if (err == KVS_OK)
			break;
		check_u64((uint64_t)err, 77);
		check_u64(dir_count(test_dir), 1);
		check_ok(kvs_load(other, in_dir("p"), NULL));
		check_contents(other, &old);
		ended++;
	}
	for (at = 1;; at++) {
		struct steps s = { 0, 0, 0, at };
		int err;

		lo.progress = step;
		lo.progress_arg = &s;
		err = kvs_load(other, in_dir("p"), &lo);
		if (err == KVS_OK)
			break;
		check_u64((uint64_t)err, 77);
		check_contents(other, &old);
		ended++;
	}
	check_contents(other, &c);
	util_note("%llu calls ended by their callback", (unsigned long long)ended);
	check(ended >= 6);
	check_ok(kvs_free(kv));
	check_ok(kvs_free(other));
}

/* ---- Who is refused --------------------------------------------------------------------- */

static void test_a_snapshot_keeps_both_out(void **state)
{
	struct kvs *kv = small_store();
	struct kvs_snapshot *s;

	(void)state;
	check_ok(kvs_save(kv, in_dir("b"), NULL));
	check_ok(kvs_snapshot_begin(kv, NULL, &s));
	check_status(kvs_save(kv, in_dir("b"), NULL), KVS_ERR_BUSY);
	check_status(kvs_load(kv, in_dir("b"), NULL), KVS_ERR_BUSY);
	check_ok(kvs_snapshot_end(s, NULL));
	check_ok(kvs_load(kv, in_dir("b"), NULL));
	check_u64(dir_count(test_dir), 1);
	check_ok(kvs_free(kv));
}

static int from_inside(uint64_t done, uint64_t total, void *arg)
{
	struct kvs *kv = arg;
	struct kvs_snapshot *s;

	(void)done;
	(void)total;
	check_status(kvs_snapshot_begin(kv, NULL, &s), KVS_ERR_BUSY);
	check_status(kvs_save(kv, in_dir("other"), NULL), KVS_ERR_BUSY);
	check_status(kvs_load(kv, in_dir("b"), NULL), KVS_ERR_BUSY);
	check_ok(kvs_clear(kv)); /* of the old contents; those of the file come after */
	check_ok(kvs_drain(kv));
	set_pattern(kv, 12345, 10, 1);
	return 0;
}

static void test_a_load_keeps_snapshots_out(void **state)
{
	const struct contents c = { 100, 5, 100 };
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs *kv = small_store();
	struct kvs_snapshot *s;

	(void)state;
	contents_set(kv, &c);
	check_ok(kvs_save(kv, in_dir("b"), NULL));
	lo.progress = from_inside;
	lo.progress_arg = kv;
	check_ok(kvs_load(kv, in_dir("b"), &lo));
	check_contents(kv, &c);
	check_ok(kvs_snapshot_begin(kv, NULL, &s));
	check_ok(kvs_snapshot_end(s, NULL));
	check_status(kvs_load(kv, in_dir("none"), NULL), KVS_ERR_IO);
	check_ok(kvs_snapshot_begin(kv, NULL, &s)); /* a load that failed keeps nobody out either */
	check_ok(kvs_snapshot_end(s, NULL));
	check_ok(kvs_free(kv));
}

static int close_inside(uint64_t done, uint64_t total, void *arg)
{
	int err = done == total ? kvs_close(arg) : KVS_OK;

	check(err == KVS_OK || err == KVS_ERR_STORE_CLOSED); /* the end is told twice */
	return 0;
}

static void test_a_store_closed_meanwhile(void **state)
{
	const struct contents c = { 100, 5, 100 };
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs *kv = small_store();

	(void)state;
	contents_set(kv, &c);
	check_ok(kvs_save(kv, in_dir("c"), NULL));
	lo.progress = close_inside;
	lo.progress_arg = kv;
	check_status(kvs_load(kv, in_dir("c"), &lo), KVS_ERR_STORE_CLOSED);
	check_ok(kvs_free(kv));
}

/* ---- A fork in the middle of a load, or of a save ---- */

#ifndef KVS_TSAN /* which can start no thread in a child */

struct forking {
	struct kvs *kv;
	struct hand hand;
	pid_t child; /* 0: not yet */
};

/* Let all deadlines pass. Nothing is left to be done then before the next write. */
static void come_to_rest(struct forking *f)
{
	int next_ms = 0;

	hand_set(&f->hand, 3600000);
	for (unsigned i = 0; i < 20 && next_ms >= 0; i++)
		check_ok(kvs_run(f->kv, 0, 0, &next_ms));
	check(next_ms == -1);
	check_u64(store_len(f->kv), 0);
}

static int fork_inside(uint64_t done, uint64_t total, void *arg)
{
	struct forking *f = arg;

	if (f->child || done < total)
		return 0;
	check_ok(kvs_fork_before());
	f->child = util_fork();
	if (f->child == 0) {
		check_ok(kvs_fork_child());
		come_to_rest(f);
		check_ok(kvs_save(f->kv, in_dir("g"), NULL)); /* no load is under way here */
		check_ok(kvs_load(f->kv, in_dir("g"), NULL));
		check_ok(kvs_free(f->kv));
		util_child_done();
	}
	kvs_fork_parent();
	return 0;
}

static int fork_and_free(uint64_t done, uint64_t total, void *arg)
{
	struct forking *f = arg;

	if (f->child || done < total)
		return 0;
	check_ok(kvs_fork_before());
	f->child = util_fork();
	if (f->child == 0) {
		check_ok(kvs_fork_child());
		check_u64(store_len(f->kv), 10);
		check_ok(kvs_free(f->kv));
		util_child_done();
	}
	kvs_fork_parent();
	return 0;
}

/* Directories of the load's, so large that they share huge pages, are lost to the child; its store can be freed. */
static void test_a_child_frees_a_store_with_lost_directories(void **state)
{
	struct contents few = { .count = 10, .tag = 1, .len_max = 10 };
	struct contents many = { .count = 20000, .tag = 2, .len_max = 10 };
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct forking f = { .child = 0 };

	(void)state;
	contents_save(in_dir("f"), &many);
	f.kv = small_store();
	contents_set(f.kv, &few);
	lo.progress = fork_and_free;
	lo.progress_arg = &f;
	check_ok(kvs_load(f.kv, in_dir("f"), &lo));
	check_child(f.child);
	check_contents(f.kv, &many);
	check(store_stats(f.kv).bytes_index > 64 << 10);
	check_ok(kvs_free(f.kv));
}

/* What the load has built by then is nobody's in the child; its timers come due there nevertheless. */
static void test_a_load_that_a_fork_leaves_behind(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct forking f = { .child = 0 };
	char room[KEY_ROOM];

	(void)state;
	hand_init(&f.hand);
	opts.flags = KVS_OPEN_NO_THREADS;
	opts.clock = &f.hand.clock;
	check_ok(kvs_open(&opts, &f.kv));
	for (uint64_t i = 0; i < 1000; i++)
		check_ok(kvs_set_ex(f.kv, make_key(room, i), kvs_str("timed"), kvs_after(60000),
				    NULL));
	check_ok(kvs_save(f.kv, in_dir("f"), NULL));
	check_ok(kvs_clear(f.kv));
	lo.progress = fork_inside;
	lo.progress_arg = &f;
	check_ok(kvs_load(f.kv, in_dir("f"), &lo));
	check_child(f.child);
	check_u64(store_len(f.kv), 1000);
	come_to_rest(&f);
	check_ok(kvs_free(f.kv));
}

#define LARGE_KEYS 40u
#define LARGE ((size_t)140000) /* bytes: more than a block */

struct saving {
	bool at_the_end; /* fork at the last call, or at the first before it */
	bool forked;
	pid_t child;
	size_t fewer; /* descriptors that whatever watches the program closes in a child of its own accord */
};

/* Both go on. The parent waits, so that whatever the child does to the file comes before the file is finished. */
static int fork_and_go_on(uint64_t done, uint64_t total, void *arg)
{
	struct saving *s = arg;
	size_t descriptors;

	if (s->forked || (done == total) != s->at_the_end)
		return 0;
	s->forked = true;
	check_ok(kvs_fork_before());
	descriptors = count_descriptors();
	s->child = util_fork();
	if (s->child == 0) {
		s->fewer = descriptors - count_descriptors();
		check_ok(kvs_fork_child());
		return 0;
	}
	kvs_fork_parent();
	check_child(s->child);
	return 0;
}

/* The save was the parent's; the child's own work. */
static void child_saves_itself(struct kvs *kv, int err, const struct kvs_file_error *error,
			       size_t descriptors)
{
	check_status(err, KVS_ERR_BUSY);
	check_status(error->code, KVS_ERR_BUSY);
	check_u64(count_descriptors(), descriptors);
	check_ok(kvs_save(kv, in_dir("childs"), NULL));
	check_ok(kvs_load(kv, in_dir("childs"), NULL));
	check_u64(store_len(kv), LARGE_KEYS);
	check_ok(kvs_free(kv));
	util_child_done();
}

static void save_and_fork(uint32_t threads, bool at_the_end)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_file_error error = { 0 };
	struct saving s = { .at_the_end = at_the_end };
	struct kvs *kv = store_with(0, 0);
	size_t descriptors = count_descriptors();
	unsigned tries = 0;
	int err;

	for (uint64_t i = 0; i < LARGE_KEYS; i++)
		set_pattern(kv, i, LARGE, i);
	so.threads = threads;
	so.progress = fork_and_go_on;
	so.progress_arg = &s;
	so.error = &error;
	while (!s.forked && tries++ < 1000) { /* the other thread may have been quicker with all */
		err = kvs_save(kv, in_dir("f"), &so);
		if (s.forked && s.child == 0)
			child_saves_itself(kv, err, &error, descriptors - s.fewer);
		check_ok(err);
	}
	check(s.forked);
	check_u64(count_descriptors(), descriptors);
	check_ok(kvs_clear(kv));
	check_ok(kvs_load(kv, in_dir("f"), NULL));
	check_u64(store_len(kv), LARGE_KEYS);
	for (uint64_t i = 0; i < LARGE_KEYS; i++)
		check_pattern(kv, i, LARGE, i);
	check_ok(kvs_free(kv));
}

/* The file, its name and its lock are the parent's: a child that comes back from the progress function leaves them alone. */
static void test_a_save_whose_child_comes_back(void **state)
{
	(void)state;
	save_and_fork(1, false);
	save_and_fork(1, true);
	save_and_fork(2, false);
	save_and_fork(2, true);
}

#endif

/* A store of objects whose decoding stops once, as a slow disk would stop a load, until the store was closed. */
struct slow {
	struct kvs_type type;
	unsigned stop_at; /* decodes, counted down; 0: no more */
	sem_t stopped, go_on;
};

static void *slow_clone(const void *object, size_t len, void *ctx)
{
	void *copy = malloc(len);

	(void)ctx;
	check(copy != NULL);
	return memcpy(copy, object, len);
}

static void slow_destroy(void *object, size_t len, void *ctx)
{
	(void)len;
	(void)ctx;
	free(object);
}

static size_t slow_encode(const void *object, size_t len, void *buf, size_t cap, void *ctx)
{
	(void)ctx;
	if (len <= cap)
		memcpy(buf, object, len);
	return len;
}

static int slow_decode(const void *bytes, size_t n, void **ret_object, size_t *ret_len, void *ctx)
{
	struct slow *s = ctx;

	if (s->stop_at && --s->stop_at == 0) {
		sem_post(&s->stopped);
		sem_wait(&s->go_on);
	}
	*ret_object = slow_clone(bytes, n, NULL);
	*ret_len = n;
	return 0;
}

struct slow_load {
	struct kvs *kv;
	int err;
};

static void *load_slowly(void *arg)
{
	struct slow_load *l = arg;
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;

	lo.threads = 1;
	l->err = kvs_load(l->kv, in_dir("s"), &lo);
	return NULL;
}

#define SLOW_KEYS 40u /* fewer than a load puts in at once */

/* What a load has made of keys with deadlines when the store is closed is for no wheel any more. */
static void test_a_store_of_deadlines_closed_meanwhile(void **state)
{
	struct slow s = { .stop_at = 0 };
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct slow_load l = { .err = 0 };
	pthread_t loader;
	char room[KEY_ROOM];

	(void)state;
	s.type = (struct kvs_type){ slow_clone, slow_destroy, slow_encode, slow_decode, &s };
	sem_init(&s.stopped, 0, 0);
	sem_init(&s.go_on, 0, 0);
	o.type = &s.type;
	o.shards = 1;
	check_ok(kvs_open(&o, &l.kv));
	for (uint64_t i = 0; i < SLOW_KEYS; i++)
		check_ok(kvs_set_ex(l.kv, make_key(room, i), kvs_str("object"), kvs_after(3600000),
				    NULL));
	check_ok(kvs_save(l.kv, in_dir("s"), NULL));
	check_ok(kvs_drain(l.kv)); /* all are on the wheel */
	check_u64(store_stats(l.kv).timers, SLOW_KEYS);
	s.stop_at = SLOW_KEYS / 2;
	check(pthread_create(&loader, NULL, load_slowly, &l) == 0);
	sem_wait(&s.stopped);
	check_ok(kvs_close(l.kv));
	sem_post(&s.go_on);
	check(pthread_join(loader, NULL) == 0);
	check_status(l.err, KVS_ERR_STORE_CLOSED);
	check_ok(kvs_free(l.kv));
	sem_destroy(&s.stopped);
	sem_destroy(&s.go_on);
}

static void test_arguments(void **state)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs_file_info info = { 0 };
	struct kvs *kv = small_store();
	struct kvs_file *file;
	struct kvs_item item;

	(void)state;
	check_status(kvs_save(NULL, in_dir("a"), NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_save(kv, NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_load(NULL, in_dir("a"), NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_load(kv, NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
	so.flags = 4;
	check_status(kvs_save(kv, in_dir("a"), &so), KVS_ERR_INVALID_ARGUMENT);
	so.flags = 0;
	so.threads = KVS_FILE_THREADS_MAX + 1;
	check_status(kvs_save(kv, in_dir("a"), &so), KVS_ERR_INVALID_ARGUMENT);
	so.threads = 0;
	so.unused = 1;
	check_status(kvs_save(kv, in_dir("a"), &so), KVS_ERR_INVALID_ARGUMENT);
	so.unused = 0;
	so.size = 1;
	check_status(kvs_save(kv, in_dir("a"), &so), KVS_ERR_INVALID_ARGUMENT);
	lo.flags = 2;
	check_status(kvs_load(kv, in_dir("a"), &lo), KVS_ERR_INVALID_ARGUMENT);
	lo.flags = 0;
	lo.threads = KVS_FILE_THREADS_MAX + 1;
	check_status(kvs_load(kv, in_dir("a"), &lo), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_file_open(NULL, NULL, &file), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_file_open(in_dir("a"), NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_file_info(NULL, &info), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_file_next(NULL, &item), KVS_ERR_INVALID_ARGUMENT);
	check_u64(dir_count(test_dir), 0);
	kvs_read_begin(kv);
	check_status(kvs_save(kv, in_dir("a"), NULL), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_load(kv, in_dir("a"), NULL), KVS_ERR_IN_READ_SECTION);
	kvs_read_end(kv);
	check_u64(dir_count(test_dir), 0);
	check_ok(kvs_close(kv));
	check_status(kvs_save(kv, in_dir("a"), NULL), KVS_ERR_STORE_CLOSED);
	check_status(kvs_load(kv, in_dir("a"), NULL), KVS_ERR_STORE_CLOSED);
	check_ok(kvs_free(kv));
}

/* ---- Helpers ---------------------------------------------------------------------------- */

static __thread bool has_memory; /* this thread, in a store of those_with_memory */
static _Atomic unsigned refused;

static void *alloc_for_some(void *ctx, size_t size)
{
	(void)ctx;
	if (has_memory)
		return aligned_alloc(16, (size + 15) / 16 * 16);
	atomic_fetch_add(&refused, 1);
	return NULL;
}

static void free_for_all(void *ctx, void *ptr, size_t size)
{
	(void)ctx;
	(void)size;
	free(ptr);
}

/* Helpers that get no memory, not even to attach, leave the load to the caller. */
static void test_a_load_needs_only_its_caller(void **state)
{
	static const struct kvs_allocator those_with_memory = { alloc_for_some, NULL, free_for_all,
								NULL };
	struct contents c = { .count = 2000, .tag = 3, .len_max = 200 };
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs *kv = NULL;

	(void)state;
	contents_save(in_dir("f"), &c);
	opts.flags = KVS_OPEN_NO_THREADS;
	opts.allocator = &those_with_memory;
	has_memory = true;
	check_ok(kvs_open(&opts, &kv));
	lo.threads = 4;
	atomic_store(&refused, 0);
	check_ok(kvs_load(kv, in_dir("f"), &lo));
	check_u64(atomic_load(&refused), 3);
	check_contents(kv, &c);
	has_memory = false;
	lo.threads = 1;
	check_status(kvs_load(kv, in_dir("f"), &lo), KVS_ERR_NO_MEMORY);
	has_memory = true;
	check_contents(kv, &c);
	check_ok(kvs_free(kv));
}

/* ---- Reading without a store ------------------------------------------------------------ */

static void test_a_file_read_entry_by_entry(void **state)
{
	struct kvs_file_info info = { .size = sizeof(info) };
	struct kvs_file_info again = { .size = sizeof(again) };
	struct {
		struct kvs_file_info known;
		uint64_t more[2];
	} later = { { .size = sizeof(later) }, { 1, 2 } };
	struct kvs *kv = open_default();
	struct kvs_file *file;
	struct kvs_item item;
	uint64_t n = 0;
	struct stat st;
	int err;

	(void)state;
	set_lengths(kv);
	check_ok(kvs_save(kv, in_dir("f"), NULL));
	check_ok(kvs_file_open(in_dir("f"), NULL, &file));
	check_ok(kvs_file_info(file, &info));
	check(stat(in_dir("f"), &st) == 0);
	check_u64(info.file_bytes, (uint64_t)st.st_size);
	check_u64(info.entries, store_len(kv));
	check_u64(info.format, 1);
	check_ok(kvs_file_info(file, &later.known));
	check_u64(later.known.size, sizeof(later));
	check_u64(later.known.entries, info.entries);
	check(later.more[0] == 0 && later.more[1] == 0);
	check(info.blocks > 8 && info.saved_at_ms > 1500000000000);
	while ((err = kvs_file_next(file, &item)) == KVS_OK) {
		struct kvs_value v;

		check_ok(kvs_get_alloc(kv, item.key, &v));
		check_u64(v.len, item.value.len);
		check_u64(v.version, item.value.version);
		check_bytes(v.data, item.value.data, v.len);
		kvs_value_free(kv, &v);
		n++;
	}
	check_status(err, KVS_ERR_NOT_FOUND);
	check_status(kvs_file_next(file, &item), KVS_ERR_NOT_FOUND);
	check_u64(n, info.entries);
	kvs_file_close(file);
	kvs_file_close(NULL);
	/* an id is never used again */
	check_ok(kvs_save(kv, in_dir("f"), NULL));
	check_ok(kvs_file_open(in_dir("f"), NULL, &file));
	check_ok(kvs_file_info(file, &again));
	check(memcmp(info.id, again.id, sizeof(info.id)) != 0);
	again.size = sizeof(again.size) + 1;
	check_ok(kvs_file_info(file, &again));
	again.size = 1;
	check_status(kvs_file_info(file, &again), KVS_ERR_INVALID_ARGUMENT);
	kvs_file_close(file);
	check_ok(kvs_free(kv));
}

static void test_a_file_that_is_none(void **state)
{
	struct kvs_file_error error = { 0, 0, 99, NULL };
	struct kvs_file *file;

	(void)state;
	file_write(
		in_dir("none"),
		"nothing of ours, though longer than sixty-four bytes, which a header has at least",
		81);
	check_status(kvs_file_open(in_dir("none"), &error, &file), KVS_ERR_CORRUPTED_SNAPSHOT);
	check_u64(error.offset, 0);
	check(error.code == KVS_ERR_CORRUPTED_SNAPSHOT && error.system_error == 0 &&
	      error.cause != NULL);
	check_status(kvs_file_open(in_dir("absent"), &error, &file), KVS_ERR_IO);
	check_u64((uint64_t)error.system_error, ENOENT);
	file_write(in_dir("none"), "", 0);
	check_status(kvs_file_open(in_dir("none"), NULL, &file), KVS_ERR_CORRUPTED_SNAPSHOT);
}

/* ---- main ------------------------------------------------------------------------------- */

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths_come_back),
		cmocka_unit_test(test_a_huge_value_comes_back),
		cmocka_unit_test(test_an_empty_store_comes_back),
		cmocka_unit_test(test_any_store_takes_it),
		cmocka_unit_test(test_equal_hashes_are_told_apart),
		cmocka_unit_test(test_a_bad_route_changes_nothing),
		cmocka_unit_test(test_contents_beyond_the_limit_change_nothing),
		cmocka_unit_test(test_a_user_allocator_gets_all_back),
		cmocka_unit_test(test_two_threads_by_default),
		cmocka_unit_test(test_versions_go_on_above),
		cmocka_unit_test(test_new_versions),
		cmocka_unit_test(test_versions_at_the_edge),
		cmocka_unit_test(test_expiry_is_by_the_wall),
		cmocka_unit_test(test_half_has_expired_before_the_load),
		cmocka_unit_test(test_expiries_are_by_one_clock),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_links_are_not_followed),
		cmocka_unit_test(test_only_regular_files_are_read),
		cmocka_unit_test(test_the_previous_file_is_kept),
		cmocka_unit_test(test_a_save_that_fails_takes_no_previous_file_away),
		cmocka_unit_test(test_the_last_copy_stays),
		cmocka_unit_test(test_two_savers_of_one_name),
		cmocka_unit_test(test_what_was_left_is_swept),
		cmocka_unit_test(test_temporary_names_differ),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_progress_ends_the_call),
		cmocka_unit_test(test_a_snapshot_keeps_both_out),
		cmocka_unit_test(test_a_load_keeps_snapshots_out),
		cmocka_unit_test(test_a_store_closed_meanwhile),
#ifndef KVS_TSAN
		cmocka_unit_test(test_a_load_that_a_fork_leaves_behind),
		cmocka_unit_test(test_a_save_whose_child_comes_back),
		cmocka_unit_test(test_a_child_frees_a_store_with_lost_directories),
#endif
		cmocka_unit_test(test_a_store_of_deadlines_closed_meanwhile),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_a_load_needs_only_its_caller),
		cmocka_unit_test(test_a_file_read_entry_by_entry),
		cmocka_unit_test(test_a_file_that_is_none),
	};

	return dir_main("test_file", tests, ARRAY_LEN(tests));
}
