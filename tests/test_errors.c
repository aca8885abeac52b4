/* SPDX-License-Identifier: MIT */
/*
 * test_errors.c - every error code by name: who answers it, and that nothing was changed.
 *
 * MEMORY_LIMIT belongs to limits, and UNKNOWN to codes from elsewhere: no function of this version
 * returns them, so their tests check only value, name and sentence.
 */
#include "configs.h"
#include "files.h"
#include "memfs.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Every call that can fail, as int (store, key) -------------------------------------- */

static int call_get(struct kvs *kv, struct kvs_slice key)
{
	char buf[64];

	return kvs_get(kv, key, buf, sizeof(buf), NULL);
}

static int call_get_alloc(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_value value;
	int err = kvs_get_alloc(kv, key, &value);

	if (err == KVS_OK)
		kvs_value_free(kv, &value);
	return err;
}

static int call_borrow(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_value value;
	int err;

	kvs_read_begin(kv);
	err = kvs_borrow(kv, key, &value);
	kvs_read_end(kv);
	return err;
}

static int call_exists(struct kvs *kv, struct kvs_slice key)
{
	return kvs_exists(kv, key);
}

static int call_set(struct kvs *kv, struct kvs_slice key)
{
	return kvs_set(kv, key, kvs_str("changed"), NULL);
}

static int call_add(struct kvs *kv, struct kvs_slice key)
{
	return kvs_add(kv, key, kvs_str("changed"), NULL);
}

static int call_replace(struct kvs *kv, struct kvs_slice key)
{
	return kvs_replace(kv, key, kvs_str("changed"), NULL);
}

static int call_compare_and_set(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_value value = { .version = 1 };

	(void)kvs_get(kv, key, NULL, 0, &value);
	return kvs_compare_and_set(kv, key, kvs_str("changed"), value.version, NULL);
}

static int call_get_and_set(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_value old;
	int err = kvs_get_and_set(kv, key, kvs_str("changed"), &old, NULL);

	if (err == KVS_OK)
		kvs_value_free(kv, &old);
	return err;
}

static int call_get_and_delete(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_value old;
	int err = kvs_get_and_delete(kv, key, &old);

	if (err == KVS_OK)
		kvs_value_free(kv, &old);
	return err;
}

static int call_delete(struct kvs *kv, struct kvs_slice key)
{
	return kvs_delete(kv, key, NULL);
}

static int call_set_ex(struct kvs *kv, struct kvs_slice key)
{
	return kvs_set_ex(kv, key, kvs_str("changed"), kvs_after(3600000), NULL);
}

static int call_add_ex(struct kvs *kv, struct kvs_slice key)
{
	return kvs_add_ex(kv, key, kvs_str("changed"), kvs_after(3600000), NULL);
}

static int call_replace_ex(struct kvs *kv, struct kvs_slice key)
{
	return kvs_replace_ex(kv, key, kvs_str("changed"), kvs_after(3600000), NULL);
}

static int call_compare_and_set_ex(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_value value = { .version = 1 };

	(void)kvs_get(kv, key, NULL, 0, &value);
	return kvs_compare_and_set_ex(kv, key, kvs_str("changed"), value.version,
				      kvs_after(3600000), NULL);
}

static int call_expire(struct kvs *kv, struct kvs_slice key)
{
	return kvs_expire(kv, key, 3600000, NULL);
}

static int call_expire_at(struct kvs *kv, struct kvs_slice key)
{
	return kvs_expire_at(kv, key, INT64_MAX, NULL);
}

static int call_persist(struct kvs *kv, struct kvs_slice key)
{
	return kvs_persist(kv, key, NULL);
}

static int call_touch(struct kvs *kv, struct kvs_slice key)
{
	return kvs_touch(kv, key, 3600000, NULL);
}

static int call_ttl(struct kvs *kv, struct kvs_slice key)
{
	int64_t ttl;

	return kvs_ttl(kv, key, &ttl);
}

struct call {
	const char *name;
	int (*call)(struct kvs *kv, struct kvs_slice key);
};

static const struct call keyed_calls[] = {
	{ "kvs_get", call_get },
	{ "kvs_get_alloc", call_get_alloc },
	{ "kvs_borrow", call_borrow },
	{ "kvs_exists", call_exists },
	{ "kvs_set", call_set },
	{ "kvs_add", call_add },
	{ "kvs_replace", call_replace },
	{ "kvs_compare_and_set", call_compare_and_set },
	{ "kvs_get_and_set", call_get_and_set },
	{ "kvs_get_and_delete", call_get_and_delete },
	{ "kvs_delete", call_delete },
	{ "kvs_set_ex", call_set_ex },
	{ "kvs_add_ex", call_add_ex },
	{ "kvs_replace_ex", call_replace_ex },
	{ "kvs_compare_and_set_ex", call_compare_and_set_ex },
	{ "kvs_expire", call_expire },
	{ "kvs_expire_at", call_expire_at },
	{ "kvs_persist", call_persist },
	{ "kvs_touch", call_touch },
	{ "kvs_ttl", call_ttl },
};

static int call_borrow_outside(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_value value;

	return kvs_borrow(kv, key, &value);
}

static int call_len(struct kvs *kv, struct kvs_slice key)
{
	uint64_t len;

	(void)key;
	return kvs_len(kv, &len);
}

static int call_clear(struct kvs *kv, struct kvs_slice key)
{
	(void)key;
	return kvs_clear(kv);
}

static int call_save(struct kvs *kv, struct kvs_slice key)
{
	(void)key;
	return kvs_save(kv, "/no/such/directory/f", NULL);
}

static int call_load(struct kvs *kv, struct kvs_slice key)
{
	(void)key;
	return kvs_load(kv, "/no/such/directory/f", NULL);
}

static int call_scan_outside(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_item item;
	uint64_t cursor = 0;
	size_t count;

	(void)key;
	return kvs_scan(kv, &cursor, &item, 1, &count);
}

static int call_scan(struct kvs *kv, struct kvs_slice key)
{
	int err;

	kvs_read_begin(kv);
	err = call_scan_outside(kv, key);
	kvs_read_end(kv);
	return err;
}

static int ignore_item(const struct kvs_item *item, void *arg)
{
	(void)item;
	(void)arg;
	return 0;
}

static int call_foreach(struct kvs *kv, struct kvs_slice key)
{
	(void)key;
	return kvs_foreach(kv, ignore_item, NULL);
}

static int call_keys(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_slice *keys;
	size_t count;
	int err = kvs_keys(kv, &keys, &count);

	(void)key;
	if (err == KVS_OK)
		kvs_keys_free(kv, keys);
	return err;
}

static int call_drain(struct kvs *kv, struct kvs_slice key)
{
	(void)key;
	return kvs_drain(kv);
}

static int call_thread_attach(struct kvs *kv, struct kvs_slice key)
{
	(void)key;
	return kvs_thread_attach(kv);
}

static int call_stats(struct kvs *kv, struct kvs_slice key)
{
	struct kvs_stats stats = { .size = sizeof(stats) };

	(void)key;
	return kvs_stats(kv, &stats);
}

static int call_close(struct kvs *kv, struct kvs_slice key)
{
	(void)key;
	return kvs_close(kv);
}

static const struct call other_calls[] = {
	{ "kvs_borrow outside a section", call_borrow_outside },
	{ "kvs_len", call_len },
	{ "kvs_clear", call_clear },
	{ "kvs_save", call_save },
	{ "kvs_load", call_load },
	{ "kvs_scan", call_scan },
	{ "kvs_scan outside a section", call_scan_outside },
	{ "kvs_foreach", call_foreach },
	{ "kvs_keys", call_keys },
	{ "kvs_drain", call_drain },
	{ "kvs_thread_attach", call_thread_attach },
	{ "kvs_stats", call_stats },
	{ "kvs_close", call_close },
};

static void check_all_answer(const struct call *calls, size_t count, struct kvs *kv,
			     struct kvs_slice key, int want)
{
	for (size_t i = 0; i < count; i++) {
		util_context(calls[i].name);
		check_status(calls[i].call(kv, key), want);
	}
	util_context(NULL);
}

/* ---- Helpers ---------------------------------------------------------------------------- */

static void check_text(int code, int value, const char *name, const char *sentence)
{
	check(code == value);
	check(strcmp(kvs_errname(code), name) == 0);
	check(strcmp(kvs_strerror(code), sentence) == 0);
}

static void check_unchanged(struct kvs *kv, const char *key, const char *want)
{
	struct kvs_value got;
	char buf[64];

	check_ok(kvs_get(kv, kvs_str(key), buf, sizeof(buf), &got));
	check(got.len == strlen(want) && memcmp(buf, want, got.len) == 0);
}

static struct kvs *open_with(const struct kvs_options *opts)
{
	struct kvs *kv = NULL;

	check_ok(kvs_open(opts, &kv));
	return kv;
}

/* ---- The map ---------------------------------------------------------------------------- */

static void test_every_code_has_a_name_and_a_sentence(void **state)
{
	int expected = -1; /* values are pinned: one after the other */

	(void)state;
#define CHECK_CODE(name, value, text)                                                              \
	check((value) == expected--);                                                              \
	check_text(KVS_ERR_##name, (value), #name, (text));
	KVS_ERROR_MAP(CHECK_CODE)
#undef CHECK_CODE
	check_u64((uint64_t)-expected, 26);
	check_text(KVS_OK, 0, "OK", "no error");
}

static void test_codes_we_do_not_know(void **state)
{
	static const int codes[] = { 1, 4711, -26, -1000, INT_MAX, INT_MIN };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		check(strcmp(kvs_errname(codes[i]), "UNKNOWN") == 0);
		check(strcmp(kvs_strerror(codes[i]), "unknown error") == 0);
	}
}

/* ---- Codes that nothing returns yet: name and sentence only ----------------------------- */

static void test_error_UNKNOWN(void **state)
{
	(void)state;
	check_text(KVS_ERR_UNKNOWN, -1, "UNKNOWN", "unknown error");
}

static void refuse_ttls(struct fixture *f)
{
	static const int64_t bad[] = { -1, INT64_MIN,
				       INT64_MAX }; /* the last ends beyond the clock */
	struct kvs_slice key = kvs_str("k"), other = kvs_str("other"), value = kvs_str("changed");
	struct kvs_value old;
	char buf[8];
	int64_t ttl;

	check_ok(kvs_set(f->kv, key, kvs_str("v"), NULL));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		check_status(kvs_set_ex(f->kv, key, value, kvs_after(bad[i]), NULL),
			     KVS_ERR_INVALID_TTL);
		check_status(kvs_add_ex(f->kv, other, value, kvs_after(bad[i]), NULL),
			     KVS_ERR_INVALID_TTL);
		check_status(kvs_replace_ex(f->kv, key, value, kvs_after(bad[i]), NULL),
			     KVS_ERR_INVALID_TTL);
		check_status(kvs_compare_and_set_ex(f->kv, key, value, 1, kvs_after(bad[i]), NULL),
			     KVS_ERR_INVALID_TTL);
		check_status(kvs_expire(f->kv, key, bad[i], NULL), KVS_ERR_INVALID_TTL);
		check_status(kvs_touch(f->kv, key, bad[i], NULL), KVS_ERR_INVALID_TTL);
	}
	check_status(kvs_set_ex(f->kv, key, value, kvs_at(-1), NULL), KVS_ERR_INVALID_TTL);
	check_status(kvs_expire_at(f->kv, key, -1, NULL), KVS_ERR_INVALID_TTL);
	check_ok(kvs_get(f->kv, key, buf, sizeof(buf), &old));
	check(old.len == 1 && buf[0] == 'v' && old.expires_at_ms == 0);
	check_ok(kvs_ttl(f->kv, key, &ttl));
	check(ttl == 0);
	check_u64(store_len(f->kv), 1);
}

static void test_error_INVALID_TTL(void **state)
{
	(void)state;
	check_text(KVS_ERR_INVALID_TTL, -8, "INVALID_TTL",
		   "the time to live is negative or out of range");
	each_config(refuse_ttls);
}

static void test_error_MEMORY_LIMIT(void **state)
{
	(void)state;
	check_text(KVS_ERR_MEMORY_LIMIT, -21, "MEMORY_LIMIT",
		   "the memory limit is reached; nothing was changed");
}

/* ---- Codes about keys and values -------------------------------------------------------- */

static void test_error_NOT_FOUND(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(keyed_calls); i++) {
		int (*call)(struct kvs *, struct kvs_slice) = keyed_calls[i].call;
		bool makes = call == call_set || call == call_add || call == call_get_and_set ||
			     call == call_set_ex || call == call_add_ex;

		util_context(keyed_calls[i].name);
		check_status(call(kv, kvs_str("absent")), makes ? KVS_OK : KVS_ERR_NOT_FOUND);
		(void)kvs_delete(kv, kvs_str("absent"), NULL);
	}
	util_context(NULL);
	close_store(kv);
}

static void test_error_DUPLICATE(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("kept"), NULL));
	check_status(kvs_add(kv, kvs_str("k"), kvs_str("other"), NULL), KVS_ERR_DUPLICATE);
	check_unchanged(kv, "k", "kept");
	close_store(kv);
}

static void test_error_VERSION_MISMATCH(void **state)
{
	struct kvs *kv = open_default();
	uint64_t version;

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("kept"), &version));
	for (uint64_t wrong = 0; wrong < 3; wrong++)
		check_status(kvs_compare_and_set(kv, kvs_str("k"), kvs_str("x"),
						 version + (wrong == 0 ? 1 : wrong << 56), NULL),
			     KVS_ERR_VERSION_MISMATCH);
	check_unchanged(kv, "k", "kept");
	close_store(kv);
}

static void test_error_BUFFER_TOO_SMALL(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_value got = { .len = 0 };
	char buf[3];

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("four"), NULL));
	check_status(kvs_get(kv, kvs_str("k"), buf, 3, &got), KVS_ERR_BUFFER_TOO_SMALL);
	check(got.data == NULL);
	check_u64(got.len, 4);
	close_store(kv); /* kvs_scan's is in test_iterate.c */
}

static unsigned char long_key[KVS_KEY_MAX + 1];

static void test_error_KEY_TOO_LARGE(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_all_answer(keyed_calls, ARRAY_LEN(keyed_calls), kv,
			 kvs_bytes(long_key, KVS_KEY_MAX + 1), KVS_ERR_KEY_TOO_LARGE);
	check_all_answer(keyed_calls, ARRAY_LEN(keyed_calls), kv, kvs_bytes(long_key, SIZE_MAX),
			 KVS_ERR_KEY_TOO_LARGE);
	check_u64(store_len(kv), 0);
	check_ok(kvs_set(kv, kvs_bytes(long_key, KVS_KEY_MAX), kvs_str("v"), NULL)); /* fits */
	check_ok(kvs_exists(kv, kvs_bytes(long_key, KVS_KEY_MAX)));
	close_store(kv);
}

static void check_value_too_large(struct kvs *kv, struct kvs_slice key, size_t len)
{
	struct kvs_slice value = kvs_bytes(long_key, len); /* must not be read */
	struct kvs_value got, old;
	uint64_t version = 99;

	check_ok(kvs_get(kv, key, long_key, 4, &got));
	check_status(kvs_set(kv, key, value, &version), KVS_ERR_VALUE_TOO_LARGE);
	check_status(kvs_add(kv, kvs_str("new"), value, &version), KVS_ERR_VALUE_TOO_LARGE);
	check_status(kvs_replace(kv, key, value, &version), KVS_ERR_VALUE_TOO_LARGE);
	check_status(kvs_compare_and_set(kv, key, value, got.version, &version),
		     KVS_ERR_VALUE_TOO_LARGE);
	check_status(kvs_get_and_set(kv, key, value, &old, &version), KVS_ERR_VALUE_TOO_LARGE);
	check_u64(version, 99);
}

static void test_error_VALUE_TOO_LARGE(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("kept"), NULL));
	check_value_too_large(kv, kvs_str("k"), (size_t)KVS_VALUE_MAX + 1);
	check_value_too_large(kv, kvs_str("k"), SIZE_MAX);
	check_unchanged(kv, "k", "kept");
	check_u64(store_len(kv), 1);
	close_store(kv);
}

/* ---- Codes about options and user functions --------------------------------------------- */

static void check_open_answers(const struct kvs_options *opts, int want)
{
	struct kvs *kv = NULL;

	check_status(kvs_options_check(opts, NULL), want);
	check_status(kvs_open(opts, &kv), want);
	check(kv == NULL);
}

static void test_error_INVALID_NUM_SHARDS(void **state)
{
	static const int32_t bad[] = { -1, INT32_MIN, KVS_SHARDS_MAX + 1, INT32_MAX };
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		opts.shards = bad[i];
		check_open_answers(&opts, KVS_ERR_INVALID_NUM_SHARDS);
	}
}

static void test_error_NIL_HASH_FUNC(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	opts.hash = KVS_HASH_USER;
	check_open_answers(&opts, KVS_ERR_NIL_HASH_FUNC);
	opts.hash = KVS_HASH_SIPHASH13;
	opts.route = KVS_ROUTE_USER;
	check_open_answers(&opts, KVS_ERR_NIL_HASH_FUNC);
}

/* The shard that @ctx says, for keys other than "good". */
static int route_as_told(const void *key, size_t len, int shards, void *ctx)
{
	const int *index = ctx;

	check(shards == 4);
	return len == 4 && memcmp(key, "good", 4) == 0 ? 3 : *index;
}

static void test_error_INVALID_SHARD_INDEX(void **state)
{
	static const int bad[] = { -1, 4, INT_MIN, INT_MAX };
	struct kvs_options opts = KVS_OPTIONS_INIT;
	int index = 0;
	struct kvs *kv;

	(void)state;
	opts.shards = 4;
	opts.route = KVS_ROUTE_USER;
	opts.shard_fn = route_as_told;
	opts.shard_ctx = &index;
	kv = open_with(&opts);
	check_ok(kvs_set(kv, kvs_str("good"), kvs_str("kept"), NULL));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		index = bad[i];
		check_all_answer(keyed_calls, ARRAY_LEN(keyed_calls), kv, kvs_str("bad"),
				 KVS_ERR_INVALID_SHARD_INDEX);
	}
	check_unchanged(kv, "good", "kept");
	check_u64(store_len(kv), 1);
	close_store(kv);
}

/* What the C library's getrandom(2), which this program replaces, is to do. */
static struct {
	bool counts;
	size_t interrupts; /* so many calls answer EINTR first */
	bool fails;        /* then all calls fail */
	bool drips;        /* or give one byte each */
} entropy;
static size_t entropy_calls;

ssize_t getrandom(void *to, size_t len, unsigned int flags)
{
	if (entropy.counts)
		entropy_calls++;
	if (entropy.interrupts > 0) {
		entropy.interrupts--;
		errno = EINTR;
		return -1;
	}
	if (entropy.fails) {
		errno = ENOSYS;
		return -1;
	}
	return (ssize_t)syscall(SYS_getrandom, to, entropy.drips && len > 1 ? 1 : len, flags);
}

/* A file of a store with one key, changed by @change, as kvs_load and kvs_file_open see it. */
static void check_file(void (*change)(unsigned char *bytes, size_t len), int want)
{
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct kvs *kv = open_default();
	struct kvs_file *file = NULL;
	unsigned char *copy;
	size_t len;

	memfs_use();
	check_ok(kvs_set(kv, kvs_str("key"), kvs_str("value"), NULL));
	check_ok(kvs_save(kv, MEMFS_DIR "/f", NULL));
	check_ok(kvs_set(kv, kvs_str("key"), kvs_str("newer"), NULL));
	copy = malloc(KVS_KEY_MAX);
	check(copy != NULL);
	check(memfs_get("f", &len) != NULL && len < KVS_KEY_MAX);
	memcpy(copy, memfs_get("f", &len), len);
	change(copy, len);
	check_status(bytes_load(kv, copy, len, &error), want);
	check(error.code == want && error.cause != NULL);
	check_u64(store_len(kv), 1);
	check_status(kvs_file_open(MEMFS_DIR "/damaged.kvs", NULL, &file), want);
	check(file == NULL);
	check_ok(kvs_load(kv, MEMFS_DIR "/f", NULL)); /* as it was saved it loads */
	free(copy);
	memfs_leave();
	close_store(kv);
}

static void damage(unsigned char *bytes, size_t len)
{
	bytes[len - 20] ^= 1;
}

static void test_error_CORRUPTED_SNAPSHOT(void **state)
{
	(void)state;
	check_text(KVS_ERR_CORRUPTED_SNAPSHOT, -6, "CORRUPTED_SNAPSHOT", "the snapshot is damaged");
	check_file(damage, KVS_ERR_CORRUPTED_SNAPSHOT);
}

static void make_newer(unsigned char *bytes, size_t len)
{
	bytes[4] = 2; /* the format's version */
	bytes_seal(bytes, len);
}

static void need_feature(unsigned char *bytes, size_t len)
{
	bytes[12] = 1;
	bytes_seal(bytes, len);
}

static void test_error_UNSUPPORTED_VERSION(void **state)
{
	(void)state;
	check_text(KVS_ERR_UNSUPPORTED_VERSION, -7, "UNSUPPORTED_VERSION",
		   "the snapshot was written by a newer version");
	check_file(make_newer, KVS_ERR_UNSUPPORTED_VERSION);
	check_file(need_feature, KVS_ERR_UNSUPPORTED_VERSION);
}

static void check_io_of_files(void)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct kvs *kv = open_default();

	so.error = &error;
	check_status(kvs_save(kv, "/no/such/directory/f", &so), KVS_ERR_IO);
	check(error.code == KVS_ERR_IO && error.system_error == ENOENT && error.cause != NULL);
	check_status(kvs_load(kv, "/no/such/directory/f", NULL), KVS_ERR_IO);
	close_store(kv);
}

static void test_error_IO(void **state)
{
	static const unsigned char hash_key[16] = { 1 };
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;

	(void)state;
	check_io_of_files();
	entropy.fails = true;
	for (opts.hash = KVS_HASH_SIPHASH13; opts.hash <= KVS_HASH_XXH3; opts.hash++) {
		check_status(kvs_open(&opts, &kv), KVS_ERR_IO);
		check(kv == NULL);
	}
	opts.hash = KVS_HASH_FNV1A; /* needs no random key */
	close_store(open_with(&opts));
	opts.hash = KVS_HASH_SIPHASH13;
	opts.hash_key = hash_key;
	close_store(open_with(&opts));
	entropy.fails = false;
	close_store(open_default());
}

static void test_random_key_in_spite_of_signals_and_drips(void **state)
{
	(void)state;
	entropy.counts = true;
	entropy.interrupts = 3;
	entropy.drips = true;
	close_store(open_default());
	entropy.counts = false;
	entropy.drips = false;
	check_u64(entropy.interrupts, 0);
	check_u64(entropy_calls, 3 + 16);
}

static void test_error_INVALID_ARGUMENT(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_stats stats = { .size = 0 };
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	check_status(kvs_foreach(kv, NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_stats(kv, &stats), KVS_ERR_INVALID_ARGUMENT);
	opts.flags = 2;
	check_open_answers(&opts, KVS_ERR_INVALID_ARGUMENT);
	close_store(kv); /* more of options in test_options.c, of kvs_scan in test_iterate.c */
}

/* ---- Codes about read sections ---------------------------------------------------------- */

static void test_error_IN_READ_SECTION(void **state)
{
	struct kvs *kv = open_default(), *other = NULL;

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("kept"), NULL));
	kvs_read_begin(kv);
	check_status(kvs_open(NULL, &other), KVS_ERR_IN_READ_SECTION);
	check(other == NULL);
	check_status(kvs_clear(kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_drain(kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_close(kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_free(kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_fork_before(), KVS_ERR_IN_READ_SECTION);
	check_unchanged(kv, "k", "kept");
	kvs_read_end(kv);
	check_unchanged(kv, "k", "kept");
	check_ok(kvs_drain(kv));
	close_store(kv);
}

/* A section belongs to the thread, whichever store it was begun with. */
static void test_error_IN_READ_SECTION_of_another_store(void **state)
{
	struct kvs *a = open_default(), *b = open_default();

	(void)state;
	kvs_read_begin(a);
	check_status(kvs_clear(b), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_drain(b), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_close(b), KVS_ERR_IN_READ_SECTION);
	kvs_read_end(a);
	close_store(a);
	close_store(b);
}

static void test_error_NO_READ_SECTION(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("v"), NULL));
	check_status(call_borrow_outside(kv, kvs_str("k")), KVS_ERR_NO_READ_SECTION);
	check_status(call_scan_outside(kv, kvs_str("k")), KVS_ERR_NO_READ_SECTION);
	kvs_read_begin(kv);
	kvs_read_end(kv);
	check_status(call_borrow_outside(kv, kvs_str("k")), KVS_ERR_NO_READ_SECTION);
	check_ok(call_borrow(kv, kvs_str("k")));
	close_store(kv);
}

/* ---- NO_MEMORY -------------------------------------------------------------------------- */

struct poor {
	struct counting mem;
	struct kvs *kv;
};

/* A store of 100 keys that can be run out of memory. */
static struct poor *open_poor(void)
{
	struct poor *p = malloc(sizeof(*p)); /* not the stack: it outlives a test that fails */
	struct kvs_options opts = KVS_OPTIONS_INIT;

	check(p != NULL);
	counting_init(&p->mem, true);
	opts.allocator = &p->mem.hooks;
	p->kv = open_with(&opts);
	check_ok(kvs_set(p->kv, kvs_str("k"), kvs_str("kept"), NULL));
	for (uint64_t i = 1; i < 100; i++)
		set_pattern(p->kv, i, 100, i);
	return p;
}

static void close_poor(struct poor *p)
{
	counting_fail_never(&p->mem);
	close_store(p->kv);
	check_u64(atomic_load(&p->mem.live_blocks), 0);
	free(p);
}

static void test_error_NO_MEMORY(void **state)
{
	struct poor *p = open_poor();

	(void)state;
	counting_fail(&p->mem, 0, true);
	check_status(call_get_alloc(p->kv, kvs_str("k")), KVS_ERR_NO_MEMORY);
	check_status(call_set(p->kv, kvs_str("k")), KVS_ERR_NO_MEMORY);
	check_status(call_set(p->kv, kvs_str("new")), KVS_ERR_NO_MEMORY);
	check_status(call_add(p->kv, kvs_str("new")), KVS_ERR_NO_MEMORY);
	check_status(call_replace(p->kv, kvs_str("k")), KVS_ERR_NO_MEMORY);
	check_status(call_compare_and_set(p->kv, kvs_str("k")), KVS_ERR_NO_MEMORY);
	check_status(call_get_and_set(p->kv, kvs_str("k")), KVS_ERR_NO_MEMORY);
	check_status(call_get_and_delete(p->kv, kvs_str("k")), KVS_ERR_NO_MEMORY);
	check_status(call_keys(p->kv, kvs_str("k")), KVS_ERR_NO_MEMORY);
	check_status(kvs_clear(p->kv), KVS_ERR_NO_MEMORY);
	check_unchanged(p->kv, "k", "kept");
	check_u64(store_len(p->kv), 100);
	counting_fail_never(&p->mem);
	check_ok(call_set(p->kv, kvs_str("k")));
	check_ok(kvs_clear(p->kv));
	close_poor(p);
}

/* Reads, deletes and waiting need no memory, or answer NO_MEMORY and change nothing. */
static void test_error_NO_MEMORY_leaves_reads_working(void **state)
{
	struct poor *p = open_poor();
	int err;

	(void)state;
	counting_fail(&p->mem, 0, true);
	check_ok(call_get(p->kv, kvs_str("k")));
	check_ok(call_borrow(p->kv, kvs_str("k")));
	check_ok(call_exists(p->kv, kvs_str("k")));
	check_ok(call_scan(p->kv, kvs_str("k")));
	check_ok(call_foreach(p->kv, kvs_str("k")));
	err = call_delete(p->kv, kvs_str("k"));
	check_status(call_exists(p->kv, kvs_str("k")), err == KVS_OK ? KVS_ERR_NOT_FOUND : KVS_OK);
	check(err == KVS_OK || err == KVS_ERR_NO_MEMORY);
	check_u64(store_len(p->kv), err == KVS_OK ? 99 : 100);
	close_poor(p);
}

/* Whether "k" has what @call leaves behind when it succeeds. */
static bool has_effect(struct kvs *kv, int (*call)(struct kvs *, struct kvs_slice))
{
	char buf[16];
	struct kvs_value got;
	int err = kvs_get(kv, kvs_str("k"), buf, sizeof(buf), &got);

	if (call == call_delete || call == call_get_and_delete)
		return err == KVS_ERR_NOT_FOUND;
	check_ok(err);
	return got.len == 7 && memcmp(buf, "changed", 7) == 0;
}

/* Allocation @fail_in of @call fails, alone: the call works, or answers so and did nothing. */
static bool survive_one(struct poor *p, int (*call)(struct kvs *, struct kvs_slice), bool changes,
			int64_t fail_in)
{
	uint64_t failures = atomic_load(&p->mem.failures);
	int err;

	check_ok(kvs_set(p->kv, kvs_str("k"), kvs_str("kept"), NULL));
	counting_fail(&p->mem, fail_in, false);
	err = call(p->kv, kvs_str("k"));
	counting_fail_never(&p->mem);
	check(err == KVS_OK || err == KVS_ERR_NO_MEMORY);
	check(has_effect(p->kv, call) == (changes && err == KVS_OK));
	return atomic_load(&p->mem.failures) == failures;
}

static void test_error_NO_MEMORY_at_each_allocation_of_a_call(void **state)
{
	static const struct {
		int (*call)(struct kvs *kv, struct kvs_slice key);
		bool changes;
	} cases[] = {
		{ call_set, true },
		{ call_replace, true },
		{ call_compare_and_set, true },
		{ call_get_and_set, true },
		{ call_get_and_delete, true },
		{ call_delete, true },
		{ call_get_alloc, false },
		{ call_keys, false },
	};
	struct poor *p = open_poor();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t fail_in = 0;

		while (!survive_one(p, cases[i].call, cases[i].changes, fail_in))
			check(++fail_in < 1000);
	}
	close_poor(p);
}

static void test_error_NO_MEMORY_at_each_allocation_of_clear(void **state)
{
	struct poor *p = open_poor();
	uint64_t failures;
	int64_t fail_in = 0;
	int err;

	(void)state;
	do {
		set_pattern(p->kv, 1, 100, 1);
		failures = atomic_load(&p->mem.failures);
		counting_fail(&p->mem, fail_in++, false);
		err = kvs_clear(p->kv);
		counting_fail_never(&p->mem);
		check(err == KVS_OK || err == KVS_ERR_NO_MEMORY);
		check(key_present(p->kv, 1) == (err != KVS_OK));
	} while (atomic_load(&p->mem.failures) != failures && fail_in < 10000);
	check_ok(err);
	close_poor(p);
}

/* A directory that cannot grow only makes the chains longer. */
static void test_growth_without_memory_is_no_error(void **state)
{
	struct kvs *kv;
	struct poor *p = open_poor();
	uint64_t done = 0;
	char room[KEY_ROOM];

	(void)state;
	kv = p->kv;
	for (uint64_t i = 0; i < 20000; i++) { /* every other allocation fails */
		counting_fail(&p->mem, (int64_t)(i % 2), false);
		if (kvs_set(kv, make_key(room, 1000 + i), kvs_str("v"), NULL) == KVS_OK)
			done++;
	}
	counting_fail_never(&p->mem);
	check_u64(store_len(kv), 100 + done);
	check(done > 0 && done < 20000);
	for (uint64_t i = 1; i < 100; i++)
		check_pattern(kv, i, 100, i);
	close_poor(p);
}

/* ---- STORE_CLOSED ----------------------------------------------------------------------- */

static void test_error_STORE_CLOSED(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_value copy;
	struct kvs_slice *keys;
	size_t count;

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("v"), NULL));
	check_ok(kvs_get_alloc(kv, kvs_str("k"), &copy));
	check_ok(kvs_keys(kv, &keys, &count));
	check_ok(kvs_close(kv));
	check_all_answer(keyed_calls, ARRAY_LEN(keyed_calls), kv, kvs_str("k"),
			 KVS_ERR_STORE_CLOSED);
	check_all_answer(keyed_calls, ARRAY_LEN(keyed_calls), kv, kvs_str("absent"),
			 KVS_ERR_STORE_CLOSED);
	check_all_answer(other_calls, ARRAY_LEN(other_calls), kv, kvs_str("k"),
			 KVS_ERR_STORE_CLOSED);
	check(copy.len == 1 && memcmp(copy.data, "v", 1) == 0);
	kvs_value_free(kv, &copy);
	kvs_keys_free(kv, keys);
	check_ok(kvs_free(kv));
}

static void all_answer_closed(size_t index, void *arg)
{
	(void)index;
	check_all_answer(keyed_calls, ARRAY_LEN(keyed_calls), arg, kvs_str("k"),
			 KVS_ERR_STORE_CLOSED);
	check_all_answer(other_calls, ARRAY_LEN(other_calls), arg, kvs_str("k"),
			 KVS_ERR_STORE_CLOSED);
}

static void test_error_STORE_CLOSED_for_a_new_thread(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_close(kv));
	run_threads(1, all_answer_closed, kv);
	check_ok(kvs_free(kv));
}

/* ---- BUSY ------------------------------------------------------------------------------- */

/*
 * The only callbacks that the store's own threads make in this version are the allocator's. They
 * must not call the library; these do, to see that calls which would wait for ever answer BUSY.
 */
struct busybody {
	struct kvs *kv;
	pthread_t main_thread;
	_Atomic bool armed;
	_Atomic int drain_answer, clear_answer, close_answer;
	_Atomic bool asked;
};

static void *plain_alloc(void *ctx, size_t size)
{
	(void)ctx;
	return malloc(size);
}

static void meddling_free(void *ctx, void *ptr, size_t size)
{
	struct busybody *b = ctx;

	(void)size;
	free(ptr);
	if (pthread_equal(pthread_self(), b->main_thread) || !atomic_exchange(&b->armed, false))
		return;
	atomic_store(&b->drain_answer, kvs_drain(b->kv));
	atomic_store(&b->clear_answer, kvs_clear(b->kv));
	atomic_store(&b->close_answer, kvs_close(b->kv));
	atomic_store(&b->asked, true);
}

static void test_error_BUSY(void **state)
{
	static struct busybody b;
	struct kvs_allocator hooks = { plain_alloc, NULL, meddling_free, &b };
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	b.main_thread = pthread_self();
	opts.allocator = &hooks;
	b.kv = open_with(&opts);
	atomic_store(&b.armed, true);
	for (uint64_t i = 0; !atomic_load(&b.asked); i++) {
		set_pattern(b.kv, i % 10, 100, i);
		check_ok(kvs_drain(b.kv));
	}
	check_status(atomic_load(&b.drain_answer), KVS_ERR_BUSY);
	check_status(atomic_load(&b.clear_answer), KVS_ERR_BUSY);
	check_status(atomic_load(&b.close_answer), KVS_ERR_BUSY);
	check_ok(kvs_exists(b.kv, kvs_str("key-0000000")));
	close_store(b.kv);
}

/* ---- Numbers ---------------------------------------------------------------------------- */

static void test_error_NOT_A_NUMBER(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("12 apples"), NULL));
	check_status(kvs_increment(kv, kvs_str("k"), 1, NULL, NULL), KVS_ERR_NOT_A_NUMBER);
	check_status(kvs_increment_i64(kv, kvs_str("k"), 1, NULL, NULL), KVS_ERR_NOT_A_NUMBER);
	check_unchanged(kv, "k", "12 apples");
	close_store(kv);
}

static void test_error_OVERFLOW(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("9223372036854775807"), NULL));
	check_status(kvs_increment(kv, kvs_str("k"), 1, NULL, NULL), KVS_ERR_OVERFLOW);
	check_unchanged(kv, "k", "9223372036854775807");
	close_store(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_code_has_a_name_and_a_sentence),
		cmocka_unit_test(test_codes_we_do_not_know),
		cmocka_unit_test(test_error_UNKNOWN),
		cmocka_unit_test(test_error_CORRUPTED_SNAPSHOT),
		cmocka_unit_test(test_error_UNSUPPORTED_VERSION),
		cmocka_unit_test(test_error_INVALID_TTL),
		cmocka_unit_test(test_error_MEMORY_LIMIT),
		cmocka_unit_test(test_error_NOT_FOUND),
		cmocka_unit_test(test_error_DUPLICATE),
		cmocka_unit_test(test_error_VERSION_MISMATCH),
		cmocka_unit_test(test_error_BUFFER_TOO_SMALL),
		cmocka_unit_test(test_error_KEY_TOO_LARGE),
		cmocka_unit_test(test_error_VALUE_TOO_LARGE),
		cmocka_unit_test(test_error_INVALID_NUM_SHARDS),
		cmocka_unit_test(test_error_NIL_HASH_FUNC),
		cmocka_unit_test(test_error_INVALID_SHARD_INDEX),
		cmocka_unit_test(test_error_IO),
		cmocka_unit_test(test_random_key_in_spite_of_signals_and_drips),
		cmocka_unit_test(test_error_INVALID_ARGUMENT),
		cmocka_unit_test(test_error_IN_READ_SECTION),
		cmocka_unit_test(test_error_IN_READ_SECTION_of_another_store),
		cmocka_unit_test(test_error_NO_READ_SECTION),
		cmocka_unit_test(test_error_NO_MEMORY),
		cmocka_unit_test(test_error_NO_MEMORY_leaves_reads_working),
		cmocka_unit_test(test_error_NO_MEMORY_at_each_allocation_of_a_call),
		cmocka_unit_test(test_error_NO_MEMORY_at_each_allocation_of_clear),
		cmocka_unit_test(test_growth_without_memory_is_no_error),
		cmocka_unit_test(test_error_STORE_CLOSED),
		cmocka_unit_test(test_error_STORE_CLOSED_for_a_new_thread),
		cmocka_unit_test(test_error_BUSY),
		cmocka_unit_test(test_error_NOT_A_NUMBER),
		cmocka_unit_test(test_error_OVERFLOW),
	};

	return util_main("errors", tests, ARRAY_LEN(tests));
}
