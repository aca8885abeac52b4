/* SPDX-License-Identifier: MIT */
/* test_update.c - increment, decrement, append and update by a function, alone and under contention. */
#include "configs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void check_text(struct kvs *kv, const char *key, const char *want)
{
	struct kvs_value v;
	char buf[64];

	check_ok(kvs_get(kv, kvs_str(key), buf, sizeof(buf), &v));
	check_u64(v.len, strlen(want));
	check_bytes(buf, want, v.len);
}

/* ---- Numbers ---------------------------------------------------------------------------- */

static void decimal(struct fixture *f)
{
	struct kvs_slice key = kvs_str("n");
	uint64_t first = 0, second = 0;
	int64_t n = 0;

	check_ok(kvs_increment(f->kv, key, 5, &n, &first));
	check(n == 5 && first != 0);
	check_text(f->kv, "n", "5");
	check_ok(kvs_increment(f->kv, key, -15, &n, &second));
	check(n == -10 && second > first);
	check_text(f->kv, "n", "-10");
	check_ok(kvs_decrement(f->kv, key, 90, &n, NULL));
	check(n == -100);
	check_ok(kvs_decrement(f->kv, key, -100, NULL, NULL));
	check_text(f->kv, "n", "0");
	check_ok(kvs_increment(f->kv, key, INT64_MAX, &n, NULL));
	check_text(f->kv, "n", "9223372036854775807");
	check_ok(kvs_decrement(f->kv, kvs_str("m"), INT64_MAX, &n, NULL));
	check_ok(kvs_decrement(f->kv, kvs_str("m"), 1, &n, NULL));
	check(n == INT64_MIN);
	check_text(f->kv, "m", "-9223372036854775808");
	check_u64(store_len(f->kv), 2);
}

static void test_decimal_numbers(void **state)
{
	(void)state;
	each_config(decimal);
}

/* An operation that fails leaves the key and its version, and writes no result. */
static void check_refused(struct kvs *kv, struct kvs_slice val, int64_t delta, int want)
{
	struct kvs_slice key = kvs_str("k");
	uint64_t version = 0, reported = 77;
	struct kvs_value v;
	int64_t n = 99;
	char buf[64];

	check_ok(kvs_set(kv, key, val, &version));
	check_status(kvs_increment(kv, key, delta, &n, &reported), want);
	check(n == 99 && reported == 77);
	check_ok(kvs_get(kv, key, buf, sizeof(buf), &v));
	check(v.version == version && v.len == val.len);
	check_bytes(buf, val.data, v.len);
}

static void test_what_is_no_number_is_left_alone(void **state)
{
	static const char *const wrong[] = { "",
					     "-",
					     "+1",
					     " 1",
					     "1 ",
					     "01",
					     "-0",
					     "00",
					     "--1",
					     "1.5",
					     "x",
					     "1x",
					     "0x1",
					     "1\n",
					     "9223372036854775808",
					     "-9223372036854775809",
					     "99999999999999999999",
					     "999999999999999999999",
					     "-00000000000000000001" };
	static const char *const right[] = { "0", "-1", "7", "9223372036854775807",
					     "-9223372036854775808" };
	static const int64_t values[] = { 0, -1, 7, INT64_MAX, INT64_MIN };
	struct kvs *kv = open_default();
	int64_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		util_context(wrong[i]);
		check_refused(kv, kvs_str(wrong[i]), 1, KVS_ERR_NOT_A_NUMBER);
	}
	util_context(NULL);
	check_refused(kv, kvs_bytes("1\0", 2), 1, KVS_ERR_NOT_A_NUMBER);
	for (size_t i = 0; i < ARRAY_LEN(right); i++) {
		check_ok(kvs_set(kv, kvs_str("k"), kvs_str(right[i]), NULL));
		check_ok(kvs_increment(kv, kvs_str("k"), 0, &n, NULL));
		check(n == values[i]);
		check_text(kv, "k", right[i]);
	}
	close_store(kv);
}

static void test_overflow_changes_nothing(void **state)
{
	struct kvs *kv = open_default();
	int64_t most = INT64_MAX, n = 4;

	(void)state;
	check_refused(kv, kvs_str("9223372036854775807"), 1, KVS_ERR_OVERFLOW);
	check_refused(kv, kvs_str("-9223372036854775808"), -1, KVS_ERR_OVERFLOW);
	check_refused(kv, kvs_str("-2"), INT64_MIN, KVS_ERR_OVERFLOW);
	check_status(kvs_decrement(kv, kvs_str("k"), INT64_MIN, &n, NULL), KVS_ERR_OVERFLOW);
	check_status(kvs_decrement_i64(kv, kvs_str("k"), INT64_MIN, &n, NULL), KVS_ERR_OVERFLOW);
	check_ok(kvs_set(kv, kvs_str("i"), kvs_bytes(&most, 8), NULL));
	check_status(kvs_increment_i64(kv, kvs_str("i"), 1, &n, NULL), KVS_ERR_OVERFLOW);
	check(n == 4);
	check_ok(kvs_increment_i64(kv, kvs_str("i"), 0, &n, NULL));
	check(n == INT64_MAX);
	close_store(kv);
}

static void integers(struct fixture *f)
{
	struct kvs_slice key = kvs_str("i");
	struct kvs_value v;
	int64_t n = 0, stored = 0;

	check_ok(kvs_increment_i64(f->kv, key, -3, &n, NULL));
	check(n == -3);
	check_ok(kvs_decrement_i64(f->kv, key, 4, &n, NULL));
	check(n == -7);
	check_ok(kvs_get(f->kv, key, &stored, sizeof(stored), &v));
	check(v.len == 8 && stored == -7);
	check_ok(kvs_set(f->kv, key, kvs_str("1234567"), NULL));
	check_status(kvs_increment_i64(f->kv, key, 1, &n, NULL), KVS_ERR_NOT_A_NUMBER);
	check_ok(kvs_set(f->kv, key, kvs_str("12345678"), NULL)); /* any 8 bytes are one */
	check_ok(kvs_increment_i64(f->kv, key, 1, &n, NULL));
	check_text(f->kv, "i", "22345678");
}

static void test_integers(void **state)
{
	(void)state;
	each_config(integers);
}

/* ---- Append ----------------------------------------------------------------------------- */

static void append(struct fixture *f)
{
	struct kvs_slice key = kvs_str("a");
	unsigned char *piece = malloc(3000);
	struct kvs_value v;
	uint64_t version = 0;
	size_t len = 0;

	check(piece != NULL);
	check_ok(kvs_append(f->kv, key, kvs_str(""), &len, NULL));
	check_u64(len, 0);
	for (unsigned i = 0; i < 5; i++) { /* past the size at which a value gets its own block */
		pattern_fill(piece, 3000, i);
		check_ok(kvs_append(f->kv, key, kvs_bytes(piece, 3000), &len, &version));
		check_u64(len, 3000 * (i + 1));
	}
	check_ok(kvs_get_alloc(f->kv, key, &v));
	check(v.len == 15000 && v.version == version);
	for (unsigned i = 0; i < 5; i++)
		check(pattern_matches((const char *)v.data + (size_t)3000 * i, 3000, i));
	kvs_value_free(f->kv, &v);
	free(piece);
}

static void test_append(void **state)
{
	(void)state;
	each_config(append);
}

static void test_append_refuses_what_is_too_long(void **state)
{
	struct kvs *kv = open_default();
	size_t len = 5;

	(void)state;
	check_ok(kvs_append(kv, kvs_str("a"), kvs_str("xyz"), NULL, NULL));
	check_status(kvs_append(kv, kvs_str("a"), kvs_bytes("", KVS_VALUE_MAX - 2), &len, NULL),
		     KVS_ERR_VALUE_TOO_LARGE);
	check_status(kvs_append(kv, kvs_str("a"), kvs_bytes("", SIZE_MAX), &len, NULL),
		     KVS_ERR_VALUE_TOO_LARGE);
	check_status(
		kvs_append(kv, kvs_str("b"), kvs_bytes("", (size_t)KVS_VALUE_MAX + 1), &len, NULL),
		KVS_ERR_VALUE_TOO_LARGE);
	check_status(kvs_append(kv, kvs_str("a"), kvs_bytes(NULL, 1), &len, NULL),
		     KVS_ERR_INVALID_ARGUMENT);
	check_u64(len, 5);
	check_text(kv, "a", "xyz");
	check_u64(store_len(kv), 1);
	close_store(kv);
}

/* ---- A function of the user ------------------------------------------------------------- */

struct script {
	int answer;
	struct kvs_slice val;
	unsigned calls;
	bool was_there;
	char old[16];
	size_t old_len;
};

static int follow(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg)
{
	struct script *s = arg;

	s->calls++;
	s->was_there = old != NULL;
	if (old != NULL) {
		s->old_len = old->len;
		memcpy(s->old, old->data, old->len);
	}
	*ret_new = s->val;
	return s->answer;
}

static void updates(struct fixture *f)
{
	struct kvs_slice key = kvs_str("u");
	struct script s = { .answer = KVS_UPDATE_KEEP };
	uint64_t v1 = 5, v2 = 0, v3 = 0;

	check_ok(kvs_update(f->kv, key, follow, &s, &v1));
	check(s.calls == 1 && !s.was_there && v1 == 0);
	s.answer = KVS_UPDATE_DELETE;
	check_ok(kvs_update(f->kv, key, follow, &s, &v1));
	check(v1 == 0 && store_len(f->kv) == 0);
	s = (struct script){ .answer = KVS_UPDATE_SET, .val = kvs_str("one") };
	check_ok(kvs_update(f->kv, key, follow, &s, &v1));
	check(!s.was_there && v1 != 0);
	s.val = kvs_str("second");
	check_ok(kvs_update(f->kv, key, follow, &s, &v2));
	check(s.was_there && s.old_len == 3 && memcmp(s.old, "one", 3) == 0 && v2 > v1);
	check_text(f->kv, "u", "second");
	s.answer = KVS_UPDATE_KEEP;
	check_ok(kvs_update(f->kv, key, follow, &s, &v3));
	check(v3 == v2);
	s.answer = -12345; /* the function's own error comes back */
	check_u64((uint64_t)-kvs_update(f->kv, key, follow, &s, &v3), 12345);
	s.answer = 3;
	check_status(kvs_update(f->kv, key, follow, &s, &v3), KVS_ERR_INVALID_ARGUMENT);
	s.answer = KVS_UPDATE_SET;
	s.val = kvs_bytes(NULL, 1);
	check_status(kvs_update(f->kv, key, follow, &s, &v3), KVS_ERR_INVALID_ARGUMENT);
	s.val = kvs_bytes("", (size_t)KVS_VALUE_MAX + 1);
	check_status(kvs_update(f->kv, key, follow, &s, &v3), KVS_ERR_VALUE_TOO_LARGE);
	check_text(f->kv, "u", "second");
	s.answer = KVS_UPDATE_DELETE;
	check_ok(kvs_update(f->kv, key, follow, &s, &v3));
	check(v3 == v2 && store_len(f->kv) == 0);
	check(s.calls >=
	      8); /* since it was made anew; a growth beside it makes a write try again */
}

static void test_update(void **state)
{
	(void)state;
	each_config(updates);
}

static int cut_off_first(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg)
{
	(void)arg;
	*ret_new = kvs_bytes((const char *)old->data + 1, old->len - 1);
	return KVS_UPDATE_SET;
}

static void test_the_new_value_may_lie_in_the_old(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("abc"), NULL));
	check_ok(kvs_update(kv, kvs_str("k"), cut_off_first, NULL, NULL));
	check_text(kv, "k", "bc");
	close_store(kv);
}

struct nested {
	struct kvs *kv;
	struct kvs *other;
};

/* All that a function may do, and all that it may not. */
static int do_everything(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg)
{
	struct nested *n = arg;
	struct kvs_slice key = kvs_str("k"), val = kvs_str("v");
	struct kvs_set_item set = { .key = key, .val = val };
	struct kvs_delete_item delete = { .key = key };
	struct kvs_snapshot *snapshot;
	struct kvs_value v;
	char buf[8];
	int64_t number;

	(void)old;
	(void)ret_new;
	check_ok(kvs_get(n->kv, kvs_str("r"), buf, sizeof(buf), &v));
	check_ok(kvs_borrow(n->kv, kvs_str("r"), &v));
	check_ok(kvs_set(n->other, key, val, NULL));
	check_status(kvs_set(n->kv, key, val, NULL), KVS_ERR_BUSY);
	check_status(kvs_add(n->kv, key, val, NULL), KVS_ERR_BUSY);
	check_status(kvs_replace(n->kv, kvs_str("r"), val, NULL), KVS_ERR_BUSY);
	check_status(kvs_compare_and_set(n->kv, key, val, 1, NULL), KVS_ERR_BUSY);
	check_status(kvs_delete(n->kv, kvs_str("r"), NULL), KVS_ERR_BUSY);
	check_status(kvs_get_and_set(n->kv, key, val, &v, NULL), KVS_ERR_BUSY);
	check_status(kvs_get_and_delete(n->kv, kvs_str("r"), &v), KVS_ERR_BUSY);
	check_status(kvs_increment(n->kv, key, 1, &number, NULL), KVS_ERR_BUSY);
	check_status(kvs_append(n->kv, key, val, NULL, NULL), KVS_ERR_BUSY);
	check_status(kvs_update(n->kv, key, do_everything, n, NULL), KVS_ERR_BUSY);
	check_status(kvs_batch_set(n->kv, &set, 1, NULL), KVS_ERR_BUSY);
	check_status(kvs_batch_delete(n->kv, &delete, 1, NULL), KVS_ERR_BUSY);
	check_status(kvs_clear(n->kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_drain(n->kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_close(n->kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_snapshot_begin(n->kv, NULL, &snapshot), KVS_ERR_IN_READ_SECTION);
	return KVS_UPDATE_KEEP;
}

static void test_a_function_may_not_write_to_its_store(void **state)
{
	struct nested n = { open_default(), open_default() };

	(void)state;
	check_ok(kvs_set(n.kv, kvs_str("r"), kvs_str("value"), NULL));
	check_ok(kvs_update(n.kv, kvs_str("u"), do_everything, &n, NULL));
	check_text(n.kv, "r", "value");
	check_u64(store_len(n.kv), 1);
	check_u64(store_len(n.other), 1);
	check_ok(kvs_set(n.kv, kvs_str("k"), kvs_str("v"), NULL)); /* and now it works again */
	close_store(n.kv);
	close_store(n.other);
}

static void test_calls_that_cannot_be_made(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_slice key = kvs_str("k"), too_long = kvs_bytes("", (size_t)KVS_KEY_MAX + 1);
	struct script s = { .answer = KVS_UPDATE_KEEP };
	int64_t n;

	(void)state;
	check_status(kvs_increment(NULL, key, 1, &n, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_decrement(NULL, key, 1, &n, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_decrement(NULL, key, INT64_MIN, &n, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_increment_i64(NULL, key, 1, &n, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_decrement_i64(NULL, key, 1, &n, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_append(NULL, key, key, NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_update(NULL, key, follow, &s, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_update(kv, key, NULL, &s, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_increment(kv, too_long, 1, &n, NULL), KVS_ERR_KEY_TOO_LARGE);
	check_status(kvs_append(kv, too_long, key, NULL, NULL), KVS_ERR_KEY_TOO_LARGE);
	check_status(kvs_update(kv, too_long, follow, &s, NULL), KVS_ERR_KEY_TOO_LARGE);
	check_u64(s.calls, 0);
	check_ok(kvs_close(kv));
	check_status(kvs_increment(kv, key, 1, &n, NULL), KVS_ERR_STORE_CLOSED);
	check_status(kvs_decrement(kv, key, 1, &n, NULL), KVS_ERR_STORE_CLOSED);
	check_status(kvs_increment_i64(kv, key, 1, &n, NULL), KVS_ERR_STORE_CLOSED);
	check_status(kvs_decrement_i64(kv, key, 1, &n, NULL), KVS_ERR_STORE_CLOSED);
	check_status(kvs_append(kv, key, key, NULL, NULL), KVS_ERR_STORE_CLOSED);
	check_status(kvs_update(kv, key, follow, &s, NULL), KVS_ERR_STORE_CLOSED);
	check_ok(kvs_free(kv));
}

/* Whichever allocation fails, the key is as it was. */
static void test_want_of_memory_changes_nothing(void **state)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct counting mem;
	unsigned refused = 0;
	struct kvs *kv;
	int64_t n;

	(void)state;
	counting_init(&mem, true);
	o.allocator = &mem.hooks;
	for (int64_t fail = 0; fail < 4; fail++) {
		check_ok(kvs_open(&o, &kv));
		check_ok(kvs_increment(kv, kvs_str("n"), 7, &n, NULL));
		counting_fail(&mem, fail, true);
		refused += kvs_increment(kv, kvs_str("n"), 1, &n, NULL) == KVS_ERR_NO_MEMORY;
		refused += kvs_append(kv, kvs_str("new"), kvs_str("1"), NULL, NULL) ==
			   KVS_ERR_NO_MEMORY;
		counting_fail_never(&mem);
		check(n == 7 || n == 8);
		check_text(kv, "n", n == 7 ? "7" : "8");
		check_ok(kvs_free(kv));
		check_u64(mem.live_blocks, 0);
	}
	check(refused >= 4);
}

/* ---- Contention ------------------------------------------------------------------------- */

#define THREADS 8u
#define NUMBERS 100u

struct contention {
	struct kvs *kv;
	size_t each; /* operations of a thread */
	_Atomic uint64_t calls;
	_Atomic int64_t taken;
	_Atomic int64_t counted;
	_Atomic uint64_t ended;
};

static void count_up(size_t index, void *arg)
{
	struct contention *c = arg;
	char room[KEY_ROOM];
	struct rng r;

	rng_init(&r, index);
	for (size_t i = 0; i < c->each; i++) {
		struct kvs_slice key = make_key(room, rng_below(&r, NUMBERS));

		if (index % 2)
			check_ok(kvs_increment(c->kv, key, 3, NULL, NULL));
		else
			check_ok(kvs_decrement(c->kv, key, -3, NULL, NULL));
	}
}

static void test_sums_are_exact(void **state)
{
	struct contention c = { .kv = open_default(), .each = util_scaled(5000, 50000, 1000000) };
	char room[KEY_ROOM];
	int64_t sum = 0, n;

	(void)state;
	run_threads(THREADS, count_up, &c);
	for (unsigned i = 0; i < NUMBERS; i++) {
		check_ok(kvs_increment(c.kv, make_key(room, i), 0, &n, NULL));
		sum += n;
	}
	util_note("%u threads, %zu increments each on %u keys: sum %" PRId64, THREADS, c.each,
		  NUMBERS, sum);
	check(sum == (int64_t)(3 * THREADS * c.each));
	close_store(c.kv);
}

#define TAKEN_FLOOR 1000

/* Until each has counted @each, and enough was taken: the machine may run one of the threads long before another. */
static void count_or_take(size_t index, void *arg)
{
	struct contention *c = arg;
	char room[KEY_ROOM];
	struct kvs_value v;
	int64_t n;
	struct rng r;

	rng_init(&r, index);
	if (index != 0) {
		for (size_t i = 0; i < c->each || c->taken < TAKEN_FLOOR; i++) {
			check_ok(kvs_increment_i64(c->kv, make_key(room, rng_below(&r, 4)), 1, NULL,
						   NULL));
			c->counted++;
		}
		c->ended++;
		return;
	}
	while (c->ended < THREADS - 1)
		if (kvs_get_and_delete(c->kv, make_key(room, rng_below(&r, 4)), &v) == KVS_OK) {
			memcpy(&n, v.data, sizeof(n));
			c->taken += n;
			kvs_value_free(c->kv, &v);
		}
}

static void test_nothing_is_lost_to_deletes(void **state)
{
	struct contention c = { .kv = open_default(), .each = util_scaled(5000, 50000, 1000000) };
	char room[KEY_ROOM];
	int64_t sum, n;

	(void)state;
	run_threads(THREADS, count_or_take, &c);
	sum = c.taken;
	util_note("taken %" PRId64 " of %" PRId64, sum, (int64_t)c.counted);
	check(sum >= TAKEN_FLOOR);
	for (unsigned i = 0; i < 4; i++) {
		check_ok(kvs_increment_i64(c.kv, make_key(room, i), 0, &n, NULL));
		sum += n;
	}
	check(sum == c.counted);
	close_store(c.kv);
}

/* Records of (thread, number): each there once, those of a thread in their order. */
static void append_records(size_t index, void *arg)
{
	struct contention *c = arg;

	for (uint32_t i = 0; i < c->each; i++) {
		uint32_t record[2] = { (uint32_t)index, i };

		check_ok(kvs_append(c->kv, kvs_str("log"), kvs_bytes(record, sizeof(record)), NULL,
				    NULL));
	}
}

static void test_appended_records_are_all_there(void **state)
{
	struct contention c = { .kv = open_default(), .each = util_scaled(100, 1000, 5000) };
	uint32_t next[THREADS] = { 0 };
	struct kvs_value v;

	(void)state;
	run_threads(THREADS, append_records, &c);
	check_ok(kvs_get_alloc(c.kv, kvs_str("log"), &v));
	check_u64(v.len, THREADS * c.each * 8);
	for (size_t i = 0; i < THREADS * c.each; i++) {
		uint32_t record[2];

		memcpy(record, (const char *)v.data + 8 * i, 8);
		check(record[0] < THREADS && record[1] == next[record[0]]);
		next[record[0]]++;
	}
	kvs_value_free(c.kv, &v);
	close_store(c.kv);
}

/* A count for each thread, and how many there were in all. */
struct tallies {
	uint64_t of[THREADS];
	uint64_t all;
};

struct tally_call {
	struct contention *c;
	size_t index;
	struct tallies made;
	uint64_t calls; /* for one update */
};

static uint64_t tallied[THREADS]; /* updates of each thread */
static _Atomic uint64_t made_again;

/* More than one in a thousand: threads that run one after another are never in each other's way. */
static bool is_enough_made_again(const struct contention *c)
{
#ifdef KVS_YIELD_RAND
	return made_again > THREADS * c->each / 1000;
#else
	(void)c;
	return true;
#endif
}

static int tally(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg)
{
	struct tally_call *t = arg;
	uint64_t sum = 0;

	atomic_fetch_add(&t->c->calls, 1);
	t->calls++;
	memset(&t->made, 0, sizeof(t->made));
	if (old != NULL)
		memcpy(&t->made, old->data, sizeof(t->made));
	for (size_t i = 0; i < THREADS; i++)
		sum += t->made.of[i];
	check_u64(t->made.all, sum);
	t->made.of[t->index]++;
	t->made.all++;
	*ret_new = kvs_bytes(&t->made, sizeof(t->made));
	return KVS_UPDATE_SET;
}

static void tally_all(size_t index, void *arg)
{
	struct tally_call t = { .c = arg, .index = index };
	char room[KEY_ROOM];

	for (size_t i = 0; i < t.c->each || !is_enough_made_again(t.c); i++) {
		t.calls = 0;
		check_ok(kvs_update(t.c->kv, make_key(room, i % 3), tally, &t, NULL));
		made_again += t.calls - 1;
		tallied[index]++;
	}
}

static void test_updates_are_applied_once_each(void **state)
{
	struct contention c = { .kv = open_default(), .each = util_scaled(3000, 50000, 1000000) };
	struct tallies sum = { .all = 0 };
	char room[KEY_ROOM];

	(void)state;
	run_threads(THREADS, tally_all, &c);
	for (unsigned k = 0; k < 3; k++) {
		struct tallies got;

		check_ok(kvs_get(c.kv, make_key(room, k), &got, sizeof(got), NULL));
		for (size_t i = 0; i < THREADS; i++)
			sum.of[i] += got.of[i];
		sum.all += got.all;
	}
	util_note("%" PRIu64 " updates, the function was called %" PRIu64 " times", sum.all,
		  c.calls);
	for (size_t i = 0; i < THREADS; i++) {
		check(tallied[i] >= c.each);
		check_u64(sum.of[i], tallied[i]);
		sum.all -= tallied[i];
	}
	check_u64(sum.all, 0);
	check(is_enough_made_again(&c));
	close_store(c.kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decimal_numbers),
		cmocka_unit_test(test_what_is_no_number_is_left_alone),
		cmocka_unit_test(test_overflow_changes_nothing),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_append_refuses_what_is_too_long),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_the_new_value_may_lie_in_the_old),
		cmocka_unit_test(test_a_function_may_not_write_to_its_store),
		cmocka_unit_test(test_calls_that_cannot_be_made),
		cmocka_unit_test(test_want_of_memory_changes_nothing),
		cmocka_unit_test(test_sums_are_exact),
		cmocka_unit_test(test_nothing_is_lost_to_deletes),
		cmocka_unit_test(test_appended_records_are_all_there),
		cmocka_unit_test(test_updates_are_applied_once_each),
	};

	return util_main("update", tests, ARRAY_LEN(tests));
}
