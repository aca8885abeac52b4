/* SPDX-License-Identifier: MIT */
/* test_batch.c - get, set and delete of many keys: every item answers as the single call would. */
#include "configs.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "probe.h"
#include "store.h"

#define MANY 1000u

/* On both sides of the size of a group, and one that is none. */
static const size_t batch_sizes[] = { 0, 1, 2, 31, 32, 33, 64, 100, MANY };

struct many {
	char room[MANY][KEY_ROOM];
	struct kvs_get_item get[MANY];
	struct kvs_set_item set[MANY];
	struct kvs_delete_item delete[MANY];
	char value[MANY][16];
	char buf[MANY * 16];
};

static struct many *many_make(void)
{
	struct many *m = calloc(1, sizeof(*m));

	check(m != NULL);
	for (size_t i = 0; i < MANY; i++) {
		struct kvs_slice key = make_key(m->room[i], i);
		int len = snprintf(m->value[i], sizeof(m->value[i]), "v%zu", i * 7919 % 100003);

		m->get[i].key = m->set[i].key = m->delete[i].key = key;
		m->set[i].val = kvs_bytes(m->value[i], (size_t)len);
	}
	return m;
}

static void check_counts(const struct kvs_batch_counts *c, size_t ok, size_t not_found,
			 size_t failed)
{
	check_u64(c->ok, ok);
	check_u64(c->not_found, not_found);
	check_u64(c->failed, failed);
}

/* Set the even keys of the first @n in one batch; what a single get says is what was set. */
static void set_even(struct kvs *kv, struct many *m, size_t n)
{
	struct kvs_set_item items[MANY];
	struct kvs_batch_counts counts;
	struct kvs_value v;
	char buf[16];

	for (size_t i = 0; i < (n + 1) / 2; i++)
		items[i] = m->set[2 * i];
	check_ok(kvs_batch_set(kv, items, (n + 1) / 2, &counts));
	check_counts(&counts, (n + 1) / 2, 0, 0);
	for (size_t i = 0; i < (n + 1) / 2; i++) {
		check_ok(items[i].status);
		check_ok(kvs_get(kv, items[i].key, buf, sizeof(buf), &v));
		check_u64(v.version, items[i].version);
		check_u64(v.len, items[i].val.len);
		check_bytes(buf, items[i].val.data, v.len);
	}
	check_u64(store_len(kv), (n + 1) / 2);
}

static void check_got(const struct many *m, size_t i, const char *where)
{
	const struct kvs_get_item *item = &m->get[i];

	check_status(item->status, i % 2 ? KVS_ERR_NOT_FOUND : KVS_OK);
	if (i % 2)
		return;
	check(item->value.version != 0);
	check_u64(item->value.len, m->set[i].val.len);
	check_bytes(item->value.data, m->set[i].val.data, item->value.len);
	check(where == NULL || item->value.data == where);
}

static void get_in_three_forms(struct kvs *kv, struct many *m, size_t n)
{
	struct kvs_batch_counts counts;
	const char *at = m->buf;

	check_ok(kvs_batch_get(kv, m->get, n, m->buf, sizeof(m->buf), &counts));
	check_counts(&counts, (n + 1) / 2, n / 2, 0);
	for (size_t i = 0; i < n; i++) {
		check_got(m, i, at);
		at += i % 2 ? 0 : m->get[i].value.len;
	}
	check_u64(counts.bytes, (uint64_t)(at - m->buf));
	check_ok(kvs_batch_get_alloc(kv, m->get, n, &counts));
	check_counts(&counts, (n + 1) / 2, n / 2, 0);
	for (size_t i = 0; i < n; i++) {
		check_got(m, i, NULL);
		if (!m->get[i].status)
			kvs_value_free(kv, &m->get[i].value);
	}
	kvs_read_begin(kv);
	check_ok(kvs_batch_borrow(kv, m->get, n, &counts));
	check_counts(&counts, (n + 1) / 2, n / 2, 0);
	for (size_t i = 0; i < n; i++)
		check_got(m, i, NULL);
	kvs_read_end(kv);
}

static void delete_all(struct kvs *kv, struct many *m, size_t n)
{
	struct kvs_batch_counts counts;

	check_ok(kvs_batch_delete(kv, m->delete, n, &counts));
	check_counts(&counts, (n + 1) / 2, n / 2, 0);
	for (size_t i = 0; i < n; i++) {
		check_status(m->delete[i].status, i % 2 ? KVS_ERR_NOT_FOUND : KVS_OK);
		if (i % 2 == 0)
			check_u64(m->delete[i].version, m->get[i].value.version);
	}
	check_u64(store_len(kv), 0);
}

static void all_sizes(struct fixture *f)
{
	struct many *m = many_make();

	for (size_t s = 0; s < ARRAY_LEN(batch_sizes); s++) {
		set_even(f->kv, m, batch_sizes[s]);
		get_in_three_forms(f->kv, m, batch_sizes[s]);
		delete_all(f->kv, m, batch_sizes[s]);
	}
	free(m);
}

static void test_items_answer_as_single_calls(void **state)
{
	(void)state;
	each_config(all_sizes);
}

static void sizes_of_values(struct fixture *f)
{
	struct kvs_get_item get[ARRAY_LEN(value_sizes)];
	struct kvs_set_item set[ARRAY_LEN(value_sizes)];
	char room[ARRAY_LEN(value_sizes)][KEY_ROOM];
	struct kvs_batch_counts counts;
	unsigned char *bytes = malloc(100000);
	unsigned char *buf = malloc(100000);
	size_t total = 0;

	check(bytes != NULL && buf != NULL);
	pattern_fill(bytes, 100000, 5);
	for (size_t i = 0; i < ARRAY_LEN(value_sizes); i++) {
		get[i].key = make_key(room[i], i);
		set[i] = (struct kvs_set_item){ .key = get[i].key,
						.val = kvs_bytes(bytes, value_sizes[i]) };
		total += value_sizes[i];
	}
	check_ok(kvs_batch_set(f->kv, set, ARRAY_LEN(set), NULL));
	check_ok(kvs_batch_get(f->kv, get, ARRAY_LEN(get), buf, total, &counts));
	check_u64(counts.bytes, total);
	for (size_t i = 0; i < ARRAY_LEN(value_sizes); i++)
		check(pattern_matches(get[i].value.data, get[i].value.len, 5) &&
		      get[i].value.len == value_sizes[i]);
	free(bytes);
	free(buf);
}

static void test_values_of_every_size(void **state)
{
	(void)state;
	each_config(sizes_of_values);
}

/* What does not fit says so and takes no room; what comes behind it may fit. */
static void test_a_full_buffer_stops_nobody(void **state)
{
	static const char *const keys[] = { "a", "none", "long", "b", "c" };
	struct kvs *kv = open_default();
	struct kvs_get_item get[5];
	struct kvs_batch_counts counts;
	char buf[40];

	(void)state;
	check_ok(kvs_set(kv, kvs_str("a"), kvs_str("12"), NULL));
	check_ok(kvs_set(kv, kvs_str("long"), kvs_str("1234567890"), NULL));
	check_ok(kvs_set(kv, kvs_str("b"), kvs_str("345"), NULL));
	check_ok(kvs_set(kv, kvs_str("c"), kvs_str("6"), NULL));
	for (size_t i = 0; i < 5; i++)
		get[i].key = kvs_str(keys[i]);
	memset(buf, '.', sizeof(buf));
	check_status(kvs_batch_get(kv, get, 5, buf, 5, &counts), KVS_ERR_BUFFER_TOO_SMALL);
	check_counts(&counts, 2, 1, 2);
	check_u64(counts.bytes, 16);
	check_ok(get[0].status);
	check_status(get[1].status, KVS_ERR_NOT_FOUND);
	check_status(get[2].status, KVS_ERR_BUFFER_TOO_SMALL);
	check(get[2].value.data == NULL && get[2].value.len == 10 && get[2].value.version != 0);
	check_ok(get[3].status);
	check_status(get[4].status, KVS_ERR_BUFFER_TOO_SMALL);
	check_bytes(buf, "12345.", 6);
	check_ok(kvs_batch_get(kv, get, 5, buf, 16, NULL)); /* as much as the counts said */
	check_bytes(buf, "1212345678903456.", 17);
	check_status(kvs_batch_get(kv, get, 1, NULL, 0, NULL), KVS_ERR_BUFFER_TOO_SMALL);
	close_store(kv);
}

/* Each item that cannot be done says why; all others are done. */
static void test_errors_stay_with_their_items(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_slice too_long = kvs_bytes("", (size_t)KVS_KEY_MAX + 1);
	struct kvs_slice too_large = kvs_bytes("", (size_t)KVS_VALUE_MAX + 1);
	struct kvs_slice no_bytes = kvs_bytes(NULL, 3);
	struct kvs_set_item set[6] = { { .key = kvs_str("a"), .val = kvs_str("1") },
				       { .key = too_long, .val = kvs_str("2") },
				       { .key = kvs_str("b"), .val = too_large },
				       { .key = kvs_str("c"), .val = no_bytes },
				       { .key = no_bytes, .val = kvs_str("5") },
				       { .key = kvs_str("d"), .val = kvs_str("6") } };
	static const int want[6] = { KVS_OK,
				     KVS_ERR_KEY_TOO_LARGE,
				     KVS_ERR_VALUE_TOO_LARGE,
				     KVS_ERR_INVALID_ARGUMENT,
				     KVS_ERR_INVALID_ARGUMENT,
				     KVS_OK };
	struct kvs_get_item get[3] = { { .key = kvs_str("d") },
				       { .key = too_long },
				       { .key = kvs_str("a") } };
	struct kvs_delete_item delete[3] = { { .key = too_long },
					     { .key = kvs_str("a") },
					     { .key = kvs_str("b") } };
	struct kvs_batch_counts counts;
	char buf[8];

	(void)state;
	check_status(kvs_batch_set(kv, set, 6, &counts), KVS_ERR_KEY_TOO_LARGE);
	check_counts(&counts, 2, 0, 4);
	for (size_t i = 0; i < 6; i++)
		check_status(set[i].status, want[i]);
	check_status(kvs_batch_get(kv, get, 3, buf, sizeof(buf), &counts), KVS_ERR_KEY_TOO_LARGE);
	check_counts(&counts, 2, 0, 1);
	check_bytes(buf, "61", 2);
	check_status(kvs_batch_delete(kv, delete, 3, &counts), KVS_ERR_KEY_TOO_LARGE);
	check_counts(&counts, 1, 1, 1);
	check_u64(store_len(kv), 1);
	close_store(kv);
}

static void test_calls_that_cannot_be_made(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_get_item get = { .key = kvs_str("a"), .status = 7 };
	struct kvs_set_item set = { .key = kvs_str("a"), .val = kvs_str("1"), .status = 7 };
	struct kvs_delete_item delete = { .key = kvs_str("a"), .status = 7 };
	struct kvs_batch_counts counts = { .ok = 9 };
	char buf[8];

	(void)state;
	check_status(kvs_batch_get(NULL, &get, 1, buf, 8, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_get(kv, NULL, 1, buf, 8, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_get(kv, &get, 1, NULL, 8, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_get_alloc(NULL, &get, 1, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_get_alloc(kv, NULL, 1, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_borrow(NULL, &get, 1, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_borrow(kv, NULL, 1, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_set(NULL, &set, 1, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_set(kv, NULL, 1, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_delete(NULL, &delete, 1, &counts), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_batch_delete(kv, NULL, 1, &counts), KVS_ERR_INVALID_ARGUMENT);
	check(get.status == 7 && set.status == 7 && delete.status == 7 && counts.ok == 9);
	check_status(kvs_batch_borrow(kv, &get, 1, &counts), KVS_ERR_NO_READ_SECTION);
	check_status(get.status, KVS_ERR_NO_READ_SECTION);
	check_counts(&counts, 0, 0, 1);
	check_ok(kvs_batch_get(kv, NULL, 0, NULL, 0, &counts));
	check_counts(&counts, 0, 0, 0);
	counts.ok = 9;
	check_ok(kvs_batch_borrow(kv, NULL, 0,
				  &counts)); /* no item, and so none outside a section */
	check_counts(&counts, 0, 0, 0);
	check_ok(kvs_close(kv));
	check_status(kvs_batch_get(kv, &get, 1, buf, 8, &counts), KVS_ERR_STORE_CLOSED);
	check_status(get.status, KVS_ERR_STORE_CLOSED);
	check_counts(&counts, 0, 0, 1);
	check_status(kvs_batch_get(kv, NULL, 0, NULL, 0, NULL), KVS_ERR_STORE_CLOSED);
	check_status(kvs_batch_borrow(kv, NULL, 0, NULL), KVS_ERR_STORE_CLOSED);
	check_status(kvs_batch_get_alloc(kv, &get, 1, NULL), KVS_ERR_STORE_CLOSED);
	get.status = 7;
	check_status(kvs_batch_borrow(kv, &get, 1, NULL), KVS_ERR_STORE_CLOSED);
	check_status(get.status, KVS_ERR_STORE_CLOSED);
	check_status(kvs_batch_set(kv, &set, 1, &counts), KVS_ERR_STORE_CLOSED);
	check_status(set.status, KVS_ERR_STORE_CLOSED);
	check_counts(&counts, 0, 0, 1);
	check_status(kvs_batch_delete(kv, &delete, 1, NULL), KVS_ERR_STORE_CLOSED);
	check_status(delete.status, KVS_ERR_STORE_CLOSED);
	check_ok(kvs_free(kv));
}

/* Writes take effect in the order of the items, across groups too. */
static void equal_keys(struct fixture *f)
{
	struct many *m = many_make();
	struct kvs_batch_counts counts;
	struct kvs_value v;
	char buf[16];

	for (size_t i = 0; i < 100; i++)
		m->set[i].key = m->get[i].key = m->delete[i].key = kvs_str(i % 3 ? "k" : "l");
	check_ok(kvs_batch_set(f->kv, m->set, 100, &counts));
	check_counts(&counts, 100, 0, 0);
	for (size_t i = 1; i < 100; i++)
		check(i % 3 != 2 || m->set[i].version > m->set[i - 1].version);
	check_u64(store_len(f->kv), 2);
	check_ok(kvs_get(f->kv, kvs_str("k"), buf, sizeof(buf), &v));
	check_u64(v.version, m->set[98].version);
	check_bytes(buf, m->value[98], v.len);
	check_ok(kvs_get(f->kv, kvs_str("l"), buf, sizeof(buf), &v));
	check_u64(v.version, m->set[99].version);
	check_ok(kvs_batch_get(f->kv, m->get, 100, m->buf, sizeof(m->buf), NULL));
	for (size_t i = 0; i < 100; i++)
		check_u64(m->get[i].value.version, m->set[i % 3 ? 98 : 99].version);
	check_ok(kvs_batch_delete(f->kv, m->delete, 100, &counts));
	check_counts(&counts, 2, 98, 0);
	check_ok(m->delete[0].status);
	check_ok(m->delete[1].status);
	check_u64(m->delete[0].version, m->set[99].version);
	free(m);
}

static void test_equal_keys_are_written_in_order(void **state)
{
	(void)state;
	each_config(equal_keys);
}

/* One allocation fails, whichever: one item says so, and the others are there. */
static void test_want_of_memory_hits_one_item(void **state)
{
	struct many *m = many_make();
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct counting mem;
	size_t hit = 0;

	(void)state;
	counting_init(&mem, true);
	o.allocator = &mem.hooks;
	for (int64_t fail = 0; fail < 50; fail++) {
		struct kvs_batch_counts counts;
		struct kvs *kv;
		int err;

		check_ok(kvs_open(&o, &kv));
		check_ok(kvs_thread_attach(kv));
		counting_fail(&mem, fail, false);
		err = kvs_batch_set(kv, m->set, 50, &counts);
		counting_fail_never(&mem);
		check(counts.ok + counts.failed == 50 && counts.failed <= 1);
		check_status(err, counts.failed ? KVS_ERR_NO_MEMORY : KVS_OK);
		check_u64(store_len(kv), counts.ok);
		for (size_t i = 0; i < 50; i++)
			check_status(m->set[i].status,
				     key_present(kv, i) ? KVS_OK : KVS_ERR_NO_MEMORY);
		hit += counts.failed;
		counting_fail(&mem, fail, false);
		err = kvs_batch_get_alloc(kv, m->get, 50, &counts);
		counting_fail_never(&mem);
		check(counts.failed <= 1);
		check_status(err, counts.failed ? KVS_ERR_NO_MEMORY : KVS_OK);
		for (size_t i = 0; i < 50; i++)
			if (!m->get[i].status)
				kvs_value_free(kv, &m->get[i].value);
		hit += counts.failed;
		check_ok(kvs_free(kv));
		check_u64(mem.live_blocks, 0);
	}
	util_note("allocations refused within batches: %zu", hit);
	check(hit >= 90);
	free(m);
}

/* A batch of a million gets allocates nothing; one of sets allocates its entries and what retires them. */
static void test_memory_does_not_depend_on_the_size(void **state)
{
	size_t n = util_scaled(20000, 1000000, 1000000);
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs_set_item *set = calloc(n, sizeof(*set));
	struct kvs_get_item *get = calloc(n, sizeof(*get));
	char(*room)[KEY_ROOM] = calloc(n, KEY_ROOM);
	struct kvs_batch_counts counts;
	struct counting mem;
	struct kvs *kv;
	uint64_t calls;

	(void)state;
	check(set != NULL && get != NULL && room != NULL);
	counting_init(&mem, true);
	o.allocator = &mem.hooks;
	o.initial_capacity = n;
	check_ok(kvs_open(&o, &kv));
	for (size_t i = 0; i < n; i++) {
		get[i].key = set[i].key = make_key(room[i], i);
		set[i].val = kvs_bytes(&room[i], 8);
	}
	check_ok(kvs_thread_attach(kv));
	calls = mem.calls;
	check_ok(kvs_batch_set(kv, set, n, &counts));
	check_counts(&counts, n, 0, 0);
	check(mem.calls - calls >= n && mem.calls - calls <= n + n / 10 + 100);
	kvs_read_begin(kv);
	calls = mem.calls;
	check_ok(kvs_batch_borrow(kv, get, n, &counts));
	check_u64(mem.calls, calls);
	check_counts(&counts, n, 0, 0);
	check_u64(counts.bytes, 8 * n);
	kvs_read_end(kv);
	util_note("%zu items in one batch", n);
	check_ok(kvs_free(kv));
	free(set);
	free(get);
	free(room);
}

/* ---- a close behind the last item ---- */

static struct {
	struct kvs *_Atomic kv; /* to be closed while "none" is hashed; NULL: not now */
	pthread_t closer;
} behind;

static void *close_it(void *arg)
{
	check_ok(kvs_close(arg));
	return NULL;
}

/* Called inside the section in which the batch found the store open: the close comes, and waits for the section. */
static uint64_t hash_and_close(const void *key, size_t len, void *ctx)
{
	bool is_last = len == strlen("none");
	struct kvs *kv = is_last ? atomic_exchange(&behind.kv, NULL) : NULL;

	(void)ctx;
	if (kv) {
		check(pthread_create(&behind.closer, NULL, close_it, kv) == 0);
		while (atomic_load(&kv->root))
			sched_yield();
	}
	return len ? *(const unsigned char *)key : 0;
}

static void test_a_close_behind_the_last_item_is_not_told(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_get_item get[2] = { { .key = kvs_str("a") }, { .key = kvs_str("none") } };
	struct kvs_batch_counts counts;
	struct kvs *kv = NULL;
	char buf[8];

	(void)state;
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = hash_and_close;
	check_ok(kvs_open(&opts, &kv));
	check_ok(kvs_set(kv, kvs_str("a"), kvs_str("1"), NULL));
	check_ok(kvs_set(kv, kvs_str("b"), kvs_str("2"), NULL));
	atomic_store(&behind.kv, kv);
	check_ok(kvs_batch_get(kv, get, 2, buf, sizeof(buf), &counts));
	check_ok(get[0].status);
	check_status(get[1].status, KVS_ERR_NOT_FOUND);
	check_counts(&counts, 1, 1, 0);
	check(pthread_join(behind.closer, NULL) == 0);
	check_status(kvs_batch_get(kv, get, 2, buf, sizeof(buf), NULL), KVS_ERR_STORE_CLOSED);
	check_status(get[0].status, KVS_ERR_STORE_CLOSED);
	check_status(kvs_batch_get(kv, get, 0, buf, sizeof(buf), NULL), KVS_ERR_STORE_CLOSED);
	check_ok(kvs_free(kv));
}

static void test_hits_and_misses_are_counted(void **state)
{
	struct many *m = many_make();
	struct kvs *kv = open_default();
	struct kvs_stats before, after;

	(void)state;
	set_even(kv, m, MANY);
	before = store_stats(kv);
	check_ok(kvs_batch_get(kv, m->get, MANY, m->buf, sizeof(m->buf), NULL));
	after = store_stats(kv);
	check_u64(after.hits - before.hits, MANY / 2);
	check_u64(after.misses - before.misses, MANY / 2);
	close_store(kv);
	free(m);
}

/* ---- Between the steps of a lookup ------------------------------------------------------ */

static uint64_t identity(const void *key, size_t len, void *ctx)
{
	uint64_t hash;

	(void)ctx;
	(void)len;
	memcpy(&hash, key, sizeof(hash));
	return hash;
}

/* The first key behind number @from whose order key has @top in its upper @bits, and a window from @least to @most. */
static uint64_t find_key(struct kvs *kv, uint64_t from, unsigned bits, uint64_t top, uint64_t least,
			 uint64_t most)
{
	struct kvs__target target;

	for (;; from++) {
		uint64_t window;

		check_ok(kvs__target_of(kv, kvs_bytes(&from, sizeof(from)), &target));
		window = kvs__order_window(target.wanted.order);
		if (target.wanted.order >> (64 - bits) == top && window >= least && window <= most)
			return from;
	}
}

static void set_number(struct kvs *kv, uint64_t number)
{
	check_ok(kvs_set(kv, kvs_bytes(&number, sizeof(number)), kvs_bytes(&number, 8), NULL));
}

/*
 * A key of a new bucket whose head is not linked yet is begun to be looked for; then the growth is withdrawn, and the
 * key's bucket is the one that begins the table. An entry before it has a greater window.
 */
static void test_the_size_changes_back_within_a_lookup(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	const struct kvs__entry *found;
	struct kvs__probe probe;
	struct kvs__target target;
	struct kvs__table *t;
	struct kvs_slice key;
	uint64_t wanted;
	struct kvs *kv;

	(void)state;
	opts.shards = 1;
	opts.flags = KVS_OPEN_NO_THREADS;
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = identity;
	check_ok(kvs_open(&opts, &kv));
	t = &load_seq_cst(&kv->root)->table[0];
	set_number(kv, find_key(kv, 1, 8, 0, 0, UINT64_MAX));
	set_number(kv, find_key(kv, 1, 8, 1, 0x4000, UINT64_MAX));
	wanted = find_key(kv, 1, 7, 1, 0, 0x1000);
	set_number(kv, wanted);
	key = kvs_bytes(&wanted, sizeof(wanted));
	check_ok(kvs__target_of(kv, key, &target));
	kvs__rcu_read_lock();
	while (kvs__link_heads(t, 64))
		;
	kvs__rcu_read_unlock();
	kvs__table_grow(t, KVS__BITS_MIN);
	kvs__rcu_read_lock();
	kvs__probe_begin(&probe, t, target.wanted.order);
	check(kvs__shrink_begin(t));
	kvs__probe_run(&probe, 1);
	found = kvs__probe_answer(&probe, &key);
	check(found != NULL);
	check_u64(found->order, target.wanted.order);
	kvs__rcu_read_unlock();
	close_store(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_items_answer_as_single_calls),
		cmocka_unit_test(test_values_of_every_size),
		cmocka_unit_test(test_a_full_buffer_stops_nobody),
		cmocka_unit_test(test_errors_stay_with_their_items),
		cmocka_unit_test(test_calls_that_cannot_be_made),
		cmocka_unit_test(test_equal_keys_are_written_in_order),
		cmocka_unit_test(test_want_of_memory_hits_one_item),
		cmocka_unit_test(test_memory_does_not_depend_on_the_size),
		cmocka_unit_test(test_a_close_behind_the_last_item_is_not_told),
		cmocka_unit_test(test_hits_and_misses_are_counted),
		cmocka_unit_test(test_the_size_changes_back_within_a_lookup),
	};

	return util_main("batch", tests, ARRAY_LEN(tests));
}
