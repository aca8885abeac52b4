/* SPDX-License-Identifier: MIT */
/*
 * test_lin.c - every operation on a key takes effect at one instant between its call and its
 * return.
 *
 * Four threads work on few keys, and note what they asked and what was answered; a fifth brings
 * waves of other keys that come and go, so that the table grows and shrinks all the time. lin.c
 * then looks for an order that explains the answers. First the checker itself is checked: it must
 * refuse hand-made histories of each kind of fault, and agree with a search through all orders.
 *
 * Works in any build, but finds more where threads yield inside operations (--enable-yield).
 */
#include "configs.h"

#include <sched.h>
#include <string.h>

#include "lin.h"
#include "maintain.h"
#include "yield.h"

/* ---- The checker: hand-made histories --------------------------------------------------- */

/* One operation: thread, start, end, kind, answer, version, value, before, before_value. */
struct row {
	size_t thread;
	uint64_t start, end;
	enum lin_kind kind;
	enum lin_answer answer;
	uint64_t version, value, before, before_value;
};

struct hand_made {
	const char *name;
	enum lin_outcome outcome;
	struct row rows[8]; /* end: 0 ends the list */
};

#define ROWS 8
#define OK LIN_OK
#define NF LIN_NOT_FOUND

static const struct hand_made hand_made[] = {
	{ "one after the other",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_GET, NF, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_SET, OK, 5, 50, 0, 0 },
	    { 1, 5, 6, LIN_GET, OK, 5, 50, 0, 0 },
	    { 1, 7, 8, LIN_COMPARE_AND_SET, OK, 6, 60, 5, 0 },
	    { 0, 9, 10, LIN_GET_AND_SET, OK, 7, 70, 6, 60 },
	    { 1, 11, 12, LIN_ADD, LIN_DUPLICATE, 7, 0, 0, 0 },
	    { 0, 13, 14, LIN_GET_AND_DELETE, OK, 7, 70, 0, 0 },
	    { 1, 15, 16, LIN_EXISTS, NF, 0, 0, 0, 0 } } },
	{ "an overlapping get sees either",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 20, LIN_SET, OK, 2, 20, 0, 0 },
	    { 1, 4, 5, LIN_GET, OK, 1, 10, 0, 0 },
	    { 2, 6, 7, LIN_GET, OK, 2, 20, 0, 0 } } },
	{ "overlapping inserts with a delete between come out in the other order",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 20, LIN_ADD, OK, 1, 10, 0, 0 },
	    { 1, 2, 3, LIN_ADD, OK, 2, 20, 0, 0 },
	    { 1, 4, 5, LIN_DELETE, OK, 2, 0, 0, 0 },
	    { 2, 6, 30, LIN_GET, OK, 1, 10, 0, 0 } } },
	{ "a chain that only one order explains",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 20, LIN_SET, OK, 1, 10, 0, 0 },
	    { 1, 1, 20, LIN_COMPARE_AND_SET, OK, 2, 20, 1, 0 },
	    { 2, 1, 20, LIN_DELETE, OK, 2, 0, 0, 0 },
	    { 3, 1, 20, LIN_ADD, OK, 3, 30, 0, 0 } } },
	{ "stale read",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 4, LIN_SET, OK, 2, 20, 0, 0 },
	    { 1, 5, 6, LIN_GET, OK, 1, 10, 0, 0 } } },
	{ "new, then old, under one write",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 20, LIN_SET, OK, 2, 20, 0, 0 },
	    { 1, 4, 5, LIN_GET, OK, 2, 20, 0, 0 },
	    { 2, 6, 7, LIN_GET, OK, 1, 10, 0, 0 } } },
	{ "a present key is missed",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 20, LIN_SET, OK, 2, 20, 0, 0 },
	    { 1, 4, 5, LIN_GET, NF, 0, 0, 0, 0 } } },
	{ "exists misses it",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 }, { 1, 3, 4, LIN_EXISTS, NF, 0, 0, 0, 0 } } },
	{ "exists sees what is gone",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0 },
	    { 1, 5, 6, LIN_EXISTS, OK, 0, 0, 0, 0 } } },
	{ "read before it was written",
	  LIN_VIOLATION,
	  { { 1, 1, 2, LIN_GET, OK, 1, 10, 0, 0 }, { 0, 3, 4, LIN_SET, OK, 1, 10, 0, 0 } } },
	{ "a version that nobody wrote",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 }, { 1, 1, 2, LIN_GET, OK, 9, 90, 0, 0 } } },
	{ "a value of another version",
	  LIN_VIOLATION,
	  { { 0, 1, 4, LIN_SET, OK, 1, 10, 0, 0 }, { 1, 2, 3, LIN_GET, OK, 1, 11, 0, 0 } } },
	{ "a copy of what was replaced is of another version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 1, 3, 4, LIN_GET_AND_SET, OK, 2, 20, 1, 99 } } },
	{ "lost update: two succeed on one version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 10, LIN_COMPARE_AND_SET, OK, 2, 20, 1, 0 },
	    { 1, 3, 10, LIN_COMPARE_AND_SET, OK, 3, 30, 1, 0 } } },
	{ "lost update: two get the same old value",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 10, LIN_GET_AND_SET, OK, 2, 20, 1, 10 },
	    { 1, 3, 10, LIN_GET_AND_SET, OK, 3, 30, 1, 10 } } },
	{ "compare_and_set succeeds on the wrong version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 4, LIN_SET, OK, 2, 20, 0, 0 },
	    { 1, 5, 6, LIN_COMPARE_AND_SET, OK, 3, 30, 1, 0 } } },
	{ "compare_and_set fails on the right version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 1, 3, 4, LIN_COMPARE_AND_SET, LIN_MISMATCH, 1, 0, 1, 0 } } },
	{ "compare_and_set makes a new key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0 },
	    { 1, 5, 6, LIN_COMPARE_AND_SET, OK, 2, 20, 1, 0 } } },
	{ "delete of an absent key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0 },
	    { 1, 5, 6, LIN_DELETE, OK, 1, 0, 0, 0 } } },
	{ "two overlapping deletes of one entry",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 10, LIN_DELETE, OK, 1, 0, 0, 0 },
	    { 1, 3, 10, LIN_GET_AND_DELETE, OK, 1, 10, 0, 0 } } },
	{ "delete does not find a present key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 }, { 1, 3, 4, LIN_DELETE, NF, 0, 0, 0, 0 } } },
	{ "duplicate add",
	  LIN_VIOLATION,
	  { { 0, 1, 10, LIN_ADD, OK, 1, 10, 0, 0 }, { 1, 1, 10, LIN_ADD, OK, 2, 20, 0, 0 } } },
	{ "add meets what is not there",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0 },
	    { 1, 5, 6, LIN_ADD, LIN_DUPLICATE, 1, 0, 0, 0 } } },
	{ "replace of an absent key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_REPLACE, OK, 1, 10, 0, 0 } } },
	{ "replace does not find a present key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 }, { 1, 3, 4, LIN_REPLACE, NF, 0, 0, 0, 0 } } },
	{ "a version is given twice",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0 },
	    { 0, 5, 6, LIN_SET, OK, 1, 20, 0, 0 } } },
	{ "a later write has the smaller version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 2, 20, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 2, 0, 0, 0 },
	    { 1, 5, 6, LIN_SET, OK, 1, 10, 0, 0 } } },
	{ "versions shrink while the key stays",
	  LIN_VIOLATION,
	  { { 0, 1, 10, LIN_SET, OK, 2, 20, 0, 0 },
	    { 1, 1, 10, LIN_GET_AND_SET, OK, 1, 10, 2, 20 } } },
	{ "of six answers the last is wrong",
	  LIN_VIOLATION,
	  { { 0, 1, 20, LIN_SET, OK, 1, 10, 0, 0 },
	    { 1, 1, 20, LIN_SET, OK, 2, 20, 0, 0 },
	    { 2, 1, 20, LIN_DELETE, OK, 1, 0, 0, 0 },
	    { 3, 21, 40, LIN_GET, OK, 2, 20, 0, 0 },
	    { 0, 21, 40, LIN_DELETE, OK, 2, 0, 0, 0 },
	    { 1, 41, 42, LIN_GET, OK, 2, 20, 0, 0 } } },
};

/* Rows of one key as a history; the arrays are the caller's. */
static struct lin_history history_of(const struct row *rows, size_t count,
				     struct lin_op ops[4][ROWS])
{
	struct lin_history h = { .threads = 4, .keys = 1 };

	for (size_t t = 0; t < 4; t++)
		h.thread[t].ops = ops[t];
	for (size_t i = 0; i < count; i++) {
		const struct row *r = &rows[i];
		struct lin_thread *t = &h.thread[r->thread];

		t->ops[t->count++] = (struct lin_op){
			.start = r->start,
			.end = r->end,
			.version = r->version,
			.value = r->value,
			.before = r->before,
			.before_value = r->before_value,
			.kind = (uint8_t)r->kind,
			.answer = (uint8_t)r->answer,
		};
	}
	return h;
}

static void test_checker_judges_hand_made_histories(void **state)
{
	size_t faults = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hand_made); i++) {
		struct lin_op ops[4][ROWS];
		struct lin_verdict v;
		struct lin_history h;
		size_t count = 0;

		while (count < ROWS && hand_made[i].rows[count].end != 0)
			count++;
		util_context(hand_made[i].name);
		h = history_of(hand_made[i].rows, count, ops);
		lin_check(&h, &v);
		if (v.outcome != hand_made[i].outcome)
			util_fail(__FILE__, __LINE__, "outcome %d: %s", v.outcome, v.why);
		faults += v.outcome == LIN_VIOLATION;
	}
	util_context(NULL);
	util_note("%zu hand-made histories judged, %zu of them faulty", ARRAY_LEN(hand_made),
		  faults);
}

/* More threads at once than the search has room for: it must say so, not pass. */
static void test_checker_never_passes_what_it_cannot_decide(void **state)
{
	static struct lin_op ops[LIN_THREADS][64];
	struct lin_history h = { .threads = LIN_THREADS, .keys = 1 };
	struct lin_verdict v;

	(void)state;
	for (size_t t = 0; t < LIN_THREADS; t++) {
		h.thread[t] = (struct lin_thread){ ops[t], 64 };
		for (size_t i = 0; i < 64; i++) {
			uint64_t number = i * LIN_THREADS + t + 1;

			ops[t][i] = (struct lin_op){ .start = i == 0 ? 1 : 100 * i + t,
						     .end = 100 * i + 90 + t,
						     .version = number,
						     .value = number,
						     .kind = LIN_SET };
		}
	}
	lin_check(&h, &v);
	check_u64(v.outcome, LIN_LINEARIZABLE);
	check(v.configs > 64);
	h.configs_max = 64;
	lin_check(&h, &v);
	check_u64(v.outcome, LIN_UNDECIDED);
}

/* ---- The checker: against a search through all orders ----------------------------------- */

/* The sequential map, written apart from the checker. */
struct model {
	uint64_t version; /* 0: absent */
	uint64_t value;
};

static bool model_failure(const struct model *m, const struct row *r)
{
	switch (r->answer) {
	case LIN_NOT_FOUND:
		return m->version == 0 && r->kind != LIN_SET && r->kind != LIN_ADD &&
		       r->kind != LIN_GET_AND_SET;
	case LIN_DUPLICATE:
		return r->kind == LIN_ADD && m->version != 0 && m->version == r->version;
	case LIN_MISMATCH:
		return m->version != 0 && m->version == r->version && m->version != r->before;
	default:
		return false;
	}
}

static bool model_write(struct model *m, const struct row *r)
{
	if (m->version >= r->version)
		return false;
	*m = (struct model){ r->version, r->value };
	return true;
}

static bool model_apply(struct model *m, const struct row *r)
{
	bool there = m->version != 0;

	if (r->answer != LIN_OK)
		return model_failure(m, r);
	switch (r->kind) {
	case LIN_SET:
		return model_write(m, r);
	case LIN_ADD:
		return !there && model_write(m, r);
	case LIN_REPLACE:
		return there && model_write(m, r);
	case LIN_COMPARE_AND_SET:
		return there && m->version == r->before && model_write(m, r);
	case LIN_GET_AND_SET:
		return m->version == r->before && (!there || m->value == r->before_value) &&
		       model_write(m, r);
	case LIN_EXISTS:
		return there;
	case LIN_GET:
		return there && m->version == r->version && m->value == r->value;
	default:
		if (!there || m->version != r->version)
			return false;
		if (r->kind == LIN_GET_AND_DELETE && m->value != r->value)
			return false;
		*m = (struct model){ 0, 0 };
		return true;
	}
}

static bool may_be_next(const struct row *rows, size_t count, uint32_t done, size_t i)
{
	for (size_t j = 0; j < count; j++)
		if (!(done & (uint32_t)1 << j) && rows[j].end < rows[i].start)
			return false;
	return true;
}

static bool any_order(const struct row *rows, size_t count, uint32_t done, struct model m)
{
	if (done == ((uint32_t)1 << count) - 1)
		return true;
	for (size_t i = 0; i < count; i++) {
		struct model next = m;

		if (!(done & (uint32_t)1 << i) && may_be_next(rows, count, done, i) &&
		    model_apply(&next, &rows[i]) &&
		    any_order(rows, count, done | (uint32_t)1 << i, next))
			return true;
	}
	return false;
}

static bool writes_version(const struct row *r)
{
	return r->answer == LIN_OK && r->kind <= LIN_GET_AND_SET;
}

/* What the versions promise beyond an order: no repetition, and growth in real time. */
static bool versions_hold(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++) {
			if (i == j || !writes_version(&rows[i]) || !writes_version(&rows[j]))
				continue;
			if (rows[i].version == rows[j].version)
				return false;
			if (rows[i].end < rows[j].start && rows[i].version > rows[j].version)
				return false;
		}
	return true;
}

/* A run of the map on 4 threads that overlap, then perhaps an answer bent. */
static void random_rows(struct rng *r, struct row *rows, size_t count)
{
	uint64_t free_at[4] = { 0 };
	struct model m = { 0, 0 };
	uint64_t clock = 10;

	for (size_t i = 0; i < count; i++) {
		struct row *o = &rows[i];
		size_t t = rng_below(r, 4);

		/*
		 * takes effect at clock; starts after the thread's last end, ends somewhere later
		 */
		clock = (clock > free_at[t] ? clock : free_at[t]) + 10;
		*o = (struct row){ .thread = t, .kind = (enum lin_kind)rng_below(r, LIN_KINDS) };
		o->start = clock - rng_below(r, clock - free_at[t] < 40 ? clock - free_at[t] : 40);
		o->end = clock + 1 + rng_below(r, 40);
		free_at[t] = o->end + 1;
		o->version = i + 1;
		o->value = 100 + i;
		o->before = rng_below(r, 3) == 0 ? rng_below(r, i + 2) : m.version;
		o->before_value = m.value;
		if (o->kind == LIN_GET_AND_SET)
			o->before = m.version;
		if (o->kind >= LIN_GET_AND_DELETE) {
			o->version = m.version;
			o->value = m.value;
		}
		if (!model_apply(&m, o)) { /* then it fails, and says why */
			o->answer = m.version == 0       ? LIN_NOT_FOUND
				    : o->kind == LIN_ADD ? LIN_DUPLICATE
							 : LIN_MISMATCH;
			o->version = m.version;
		}
	}
}

static void bend(struct rng *r, struct row *rows, size_t count)
{
	struct row *o = &rows[rng_below(r, count)];
	struct row *other = &rows[rng_below(r, count)];

	switch (rng_below(r, 5)) {
	case 0:
		o->version = other->version;
		break;
	case 1:
		o->before = other->version;
		break;
	case 2:
		if (o->kind >= LIN_GET_AND_DELETE || o->kind == LIN_REPLACE)
			o->answer = o->answer == LIN_OK ? LIN_NOT_FOUND : LIN_OK;
		break;
	case 3:
		o->value = other->value;
		break;
	default:
		o->end = o->start + 1;
		break;
	}
}

static void test_checker_agrees_with_all_orders(void **state)
{
	size_t rounds = util_scaled(2000, 100000, 2000000), good = 0, bad = 0;
	struct rng r;

	(void)state;
	rng_init(&r, 1);
	for (size_t i = 0; i < rounds; i++) {
		struct lin_op ops[4][ROWS];
		struct row rows[ROWS];
		struct lin_verdict v;
		struct lin_history h;
		bool want;

		random_rows(&r, rows, 7);
		if (i % 2 == 1)
			bend(&r, rows, 7);
		want = versions_hold(rows, 7) && any_order(rows, 7, 0, (struct model){ 0, 0 });
		h = history_of(rows, 7, ops);
		lin_check(&h, &v);
		check_u64(v.outcome, want ? LIN_LINEARIZABLE : LIN_VIOLATION);
		if (want)
			good++;
		else
			bad++;
		check(i % 2 == 1 || want);
	}
	util_note("%zu histories of 7 operations: %zu right, %zu wrong, all judged alike", rounds,
		  good, bad);
	check(good > rounds / 2 && bad > rounds / 10);
}

/* ---- The store: what the threads do ----------------------------------------------------- */

#define THREADS 4u
#define HOT_MAX 8u
#define PHASES 3u
#define VALUE_MAX 5000u
#define FILLERS_A_BUCKET 70u

struct run {
	struct kvs *kv;
	uint64_t number; /* of the history */
	uint32_t hot;    /* keys that the threads share */
	uint32_t shards;
	bool own_shrink; /* the test shrinks; else the store's thread does */
	size_t each;     /* operations of a thread */
	struct lin_history history;
	uint64_t answers[THREADS][LIN_KINDS][LIN_ANSWERS];
	uint64_t batched[THREADS]; /* of the operations, items of batches */
	_Atomic size_t cycles;     /* of growth and shrink, complete */
	_Atomic size_t working;
};

/* Keys "hN" hash alike, all or in pairs, or not at all; others are spread. */
static uint64_t hot_hash(const void *key, size_t len, void *ctx)
{
	const struct run *run = ctx;
	const char *p = key;
	uint64_t number;

	if (p[0] == 'h' && run->number % 3 == 0)
		return 1;
	if (p[0] == 'h' && run->number % 3 == 1)
		return (uint64_t)(p[1] - '0') / 2;
	memcpy(&number, p + len - sizeof(number), sizeof(number));
	return number * UINT64_C(0x9e3779b97f4a7c15);
}

static struct kvs_slice hot_key(char room[16], uint32_t number)
{
	memset(room, '-', 16);
	room[0] = 'h';
	room[1] = (char)('0' + number);
	return kvs_bytes(room, 10);
}

static struct kvs_slice filler_key(char room[16], uint64_t number)
{
	memcpy(room, "filler--", 8);
	memcpy(room + 8, &number, sizeof(number));
	return kvs_bytes(room, 16);
}

/* A value says what it is in its first 8 bytes; the rest follows from that, its length too. */
static size_t value_len(uint64_t value)
{
	if (value % 256 == 77)
		return VALUE_MAX; /* in a block of its own */
	return value % 16 == 5 ? 40 : 8;
}

static struct kvs_slice value_make(unsigned char *buf, uint64_t value)
{
	size_t len = value_len(value);

	memcpy(buf, &value, 8);
	pattern_fill(buf + 8, len - 8, value);
	return kvs_bytes(buf, len);
}

static uint64_t value_of(const struct kvs_value *v)
{
	uint64_t value;

	check(v->len >= 8);
	memcpy(&value, v->data, 8);
	check_u64(v->len, value_len(value));
	check(pattern_matches((const char *)v->data + 8, v->len - 8, value));
	return value;
}

struct worker {
	struct run *run;
	size_t index;
	struct rng rng;
	uint64_t next_value;
	uint64_t seen[HOT_MAX]; /* the version last met, for compare_and_set */
	unsigned char buf[VALUE_MAX];
	unsigned char out[VALUE_MAX];
};

static const uint8_t kind_weights[LIN_KINDS] = {
	[LIN_SET] = 15,        [LIN_ADD] = 12,
	[LIN_REPLACE] = 8,     [LIN_COMPARE_AND_SET] = 14,
	[LIN_GET_AND_SET] = 8, [LIN_GET_AND_DELETE] = 7,
	[LIN_DELETE] = 10,     [LIN_GET] = 20,
	[LIN_EXISTS] = 6,
};

static enum lin_kind choose_kind(struct rng *r)
{
	uint64_t at = rng_below(r, 100);
	size_t kind = 0;

	while (at >= kind_weights[kind])
		at -= kind_weights[kind++];
	return (enum lin_kind)kind;
}

static int do_write(struct worker *w, struct lin_op *op, struct kvs_slice key)
{
	struct kvs *kv = w->run->kv;
	struct kvs_value old = { NULL, 0, 0, 0 };
	struct kvs_slice val;
	int err;

	op->value = w->next_value++;
	val = value_make(w->buf, op->value);
	op->start = lin_ticks_before();
	switch ((enum lin_kind)op->kind) {
	case LIN_SET:
		err = kvs_set(kv, key, val, &op->version);
		break;
	case LIN_ADD:
		err = kvs_add(kv, key, val, &op->version);
		break;
	case LIN_REPLACE:
		err = kvs_replace(kv, key, val, &op->version);
		break;
	case LIN_COMPARE_AND_SET:
		err = kvs_compare_and_set(kv, key, val, op->before, &op->version);
		break;
	default:
		err = kvs_get_and_set(kv, key, val, &old, &op->version);
		break;
	}
	op->end = lin_ticks_after();
	if (op->kind == LIN_GET_AND_SET && old.version != 0) {
		op->before = old.version;
		op->before_value = value_of(&old);
	}
	kvs_value_free(kv, &old);
	return err;
}

static int do_other(struct worker *w, struct lin_op *op, struct kvs_slice key)
{
	struct kvs *kv = w->run->kv;
	struct kvs_value got = { NULL, 0, 0, 0 };
	int err;

	op->start = lin_ticks_before();
	switch ((enum lin_kind)op->kind) {
	case LIN_DELETE:
		err = kvs_delete(kv, key, &op->version);
		break;
	case LIN_GET_AND_DELETE:
		err = kvs_get_and_delete(kv, key, &got);
		break;
	case LIN_GET:
		err = kvs_get(kv, key, w->out, sizeof(w->out), &got);
		break;
	default:
		err = kvs_exists(kv, key);
		break;
	}
	op->end = lin_ticks_after();
	if (got.version != 0) {
		op->version = got.version;
		op->value = value_of(&got);
	}
	if (op->kind == LIN_GET_AND_DELETE)
		kvs_value_free(kv, &got);
	return err;
}

static enum lin_answer answer_of(int err)
{
	switch (err) {
	case KVS_ERR_NOT_FOUND:
		return LIN_NOT_FOUND;
	case KVS_ERR_DUPLICATE:
		return LIN_DUPLICATE;
	case KVS_ERR_VERSION_MISMATCH:
		return LIN_MISMATCH;
	default:
		check_ok(err);
		return LIN_OK;
	}
}

static void do_one(struct worker *w, struct lin_op *op)
{
	char room[16];
	struct kvs_slice key;
	int err;

	memset(op, 0, sizeof(*op));
	op->kind = (uint8_t)choose_kind(&w->rng);
	op->key = (uint32_t)rng_below(&w->rng, w->run->hot);
	key = hot_key(room, op->key);
	if (op->kind == LIN_COMPARE_AND_SET)
		op->before = w->seen[op->key];
	err = op->kind <= LIN_GET_AND_SET ? do_write(w, op, key) : do_other(w, op, key);
	op->answer = (uint8_t)answer_of(err);
	if (op->version != 0)
		w->seen[op->key] = op->version;
	w->run->answers[w->index][op->kind][op->answer]++;
}

/* ---- Batches: each item is an operation, all of them with the interval of the call ---- */

static void batch_of_sets(struct worker *w, struct lin_op *ops, char (*room)[16], size_t n)
{
	static _Thread_local unsigned char bytes[HOT_MAX][VALUE_MAX];
	struct kvs_set_item items[HOT_MAX];
	uint64_t start, end;

	for (size_t i = 0; i < n; i++) {
		ops[i].value = w->next_value++;
		items[i] = (struct kvs_set_item){ .key = hot_key(room[i], ops[i].key),
						  .val = value_make(bytes[i], ops[i].value) };
	}
	start = lin_ticks_before();
	check_ok(kvs_batch_set(w->run->kv, items, n, NULL));
	end = lin_ticks_after();
	for (size_t i = 0; i < n; i++) {
		check_ok(items[i].status);
		ops[i].start = start;
		ops[i].end = end;
		ops[i].version = items[i].version;
	}
}

static void batch_of_deletes(struct worker *w, struct lin_op *ops, char (*room)[16], size_t n)
{
	struct kvs_delete_item items[HOT_MAX];
	uint64_t start, end;

	for (size_t i = 0; i < n; i++)
		items[i].key = hot_key(room[i], ops[i].key);
	start = lin_ticks_before();
	check_ok(kvs_batch_delete(w->run->kv, items, n, NULL));
	end = lin_ticks_after();
	for (size_t i = 0; i < n; i++) {
		ops[i].start = start;
		ops[i].end = end;
		ops[i].answer = (uint8_t)answer_of(items[i].status);
		ops[i].version = items[i].status ? 0 : items[i].version;
	}
}

static void batch_of_gets(struct worker *w, struct lin_op *ops, char (*room)[16], size_t n)
{
	static _Thread_local unsigned char buf[HOT_MAX * VALUE_MAX];
	struct kvs_get_item items[HOT_MAX];
	uint64_t start, end;

	for (size_t i = 0; i < n; i++)
		items[i].key = hot_key(room[i], ops[i].key);
	start = lin_ticks_before();
	check_ok(kvs_batch_get(w->run->kv, items, n, buf, sizeof(buf), NULL));
	end = lin_ticks_after();
	for (size_t i = 0; i < n; i++) {
		ops[i].start = start;
		ops[i].end = end;
		ops[i].answer = (uint8_t)answer_of(items[i].status);
		if (items[i].status)
			continue;
		ops[i].version = items[i].value.version;
		ops[i].value = value_of(&items[i].value);
	}
}

/* Two keys or more, each once: a thread has one operation at a time on a key. */
static size_t do_batch(struct worker *w, struct lin_op *ops, size_t most)
{
	static const enum lin_kind kinds[] = { LIN_GET, LIN_GET, LIN_SET, LIN_DELETE };
	enum lin_kind kind = kinds[rng_below(&w->rng, ARRAY_LEN(kinds))];
	size_t n = 2 + rng_below(&w->rng, w->run->hot - 1);
	uint32_t first = (uint32_t)rng_below(&w->rng, w->run->hot);
	char room[HOT_MAX][16];

	n = n < most ? n : most;
	for (size_t i = 0; i < n; i++)
		ops[i] = (struct lin_op){ .kind = (uint8_t)kind,
					  .key = (first + (uint32_t)i) % w->run->hot };
	if (kind == LIN_SET)
		batch_of_sets(w, ops, room, n);
	else if (kind == LIN_DELETE)
		batch_of_deletes(w, ops, room, n);
	else
		batch_of_gets(w, ops, room, n);
	for (size_t i = 0; i < n; i++) {
		if (ops[i].version != 0)
			w->seen[ops[i].key] = ops[i].version;
		w->run->answers[w->index][kind][ops[i].answer]++;
	}
	w->run->batched[w->index] += n;
	return n;
}

static size_t do_some(struct worker *w, struct lin_op *ops, size_t most)
{
	if (rng_below(&w->rng, 16) == 0)
		return do_batch(w, ops, most);
	do_one(w, ops);
	return 1;
}

/* In phase n at least n cycles of growth and shrink are over, and the next is under way. */
static void work(size_t index, void *arg)
{
	struct run *run = arg;
	struct worker *w = calloc(1, sizeof(*w));
	struct lin_thread *t = &run->history.thread[index];

	check(w != NULL);
	w->run = run;
	w->index = index;
	w->next_value = (run->number << 8 | (index + 1)) << 32;
	rng_init(&w->rng, run->number * 16 + index + 100);
	for (size_t phase = 0; phase < PHASES; phase++) {
		while (atomic_load(&run->cycles) < phase)
			sched_yield();
		while (t->count < run->each * (phase + 1) / PHASES)
			t->count += do_some(w, &t->ops[t->count], run->each - t->count);
	}
	atomic_fetch_sub(&run->working, 1);
	free(w);
}

/* ---- Growth and shrink ------------------------------------------------------------------ */

static bool is_small(const struct run *run)
{
	struct kvs__root *root = load_seq_cst(&run->kv->root);

	for (uint32_t i = 0; i < run->shards; i++)
		if (load_seq_cst(&root->table[i].size) != KVS__BITS_MIN)
			return false;
	return true;
}

static void grow(struct run *run, uint64_t fillers)
{
	char room[16];

	for (uint64_t i = 0; i < fillers; i++)
		check_ok(kvs_set(run->kv, filler_key(room, i), kvs_bytes(room, 16), NULL));
}

static void shrink(struct run *run, uint64_t fillers)
{
	char room[16];

	for (uint64_t i = 0; i < fillers; i++)
		check_ok(kvs_delete(run->kv, filler_key(room, i), NULL));
	while (!is_small(run)) {
		if (run->own_shrink)
			(void)kvs__maintain_shrink(run->kv, load_seq_cst(&run->kv->root));
		else
			sched_yield();
	}
}

/* The thread behind the waves. With admin held the store's own thread leaves the tables alone. */
static void resize(size_t index, void *arg)
{
	struct run *run = arg;
	uint64_t fillers = (uint64_t)(run->shards == 1 ? 2 : run->shards) * FILLERS_A_BUCKET;

	(void)index;
	if (run->own_shrink)
		kvs__admin_lock(run->kv);
	while (atomic_load(&run->working) > 0) {
		grow(run, fillers);
		shrink(run, fillers);
		atomic_fetch_add(&run->cycles, 1);
	}
	if (run->own_shrink)
		kvs__admin_unlock(run->kv);
}

static void member(size_t index, void *arg)
{
	if (index < THREADS)
		work(index, arg);
	else
		resize(index, arg);
}

/* ---- Histories -------------------------------------------------------------------------- */

struct totals {
	uint64_t histories, operations, overlapping, searched, crossed, configs;
	uint64_t growths, shrinks, violations, undecided, batched;
	uint64_t answers[LIN_KINDS][LIN_ANSWERS];
};

static void add_up(struct totals *sum, const struct run *run, const struct lin_verdict *v)
{
	struct kvs_stats stats = store_stats(run->kv);

	sum->histories++;
	sum->operations += v->operations;
	sum->overlapping += v->overlapping;
	sum->searched += v->searched;
	sum->crossed += v->crossed;
	sum->configs = v->configs > sum->configs ? v->configs : sum->configs;
	sum->growths += stats.growths;
	sum->shrinks += stats.shrinks;
	sum->violations += v->outcome == LIN_VIOLATION;
	sum->undecided += v->outcome == LIN_UNDECIDED;
	for (size_t t = 0; t < THREADS; t++)
		sum->batched += run->batched[t];
	for (size_t t = 0; t < THREADS; t++)
		for (size_t k = 0; k < LIN_KINDS; k++)
			for (size_t a = 0; a < LIN_ANSWERS; a++)
				sum->answers[k][a] += run->answers[t][k][a];
}

static void run_open(struct run *run)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	opts.shards = (int32_t)run->shards;
	if (run->number % 4 != 3) {
		opts.hash = KVS_HASH_USER;
		opts.hash_fn = hot_hash;
		opts.hash_ctx = run;
	}
	check_ok(kvs_open(&opts, &run->kv));
}

static void run_history(struct run *run, struct totals *sum)
{
	struct lin_verdict v;
	struct rng r;

	rng_init(&r, run->number * 16 + 99);
	memset(run->answers, 0, sizeof(run->answers));
	memset(run->batched, 0, sizeof(run->batched));
	run->hot = 2 + (uint32_t)rng_below(&r, HOT_MAX - 1);
	run->shards = run->number % 2 == 0 ? 1 : 4;
	run->own_shrink = run->number % 5 != 4;
	run->history.threads = THREADS;
	run->history.keys = run->hot;
	for (size_t t = 0; t < THREADS; t++)
		run->history.thread[t].count = 0;
	atomic_store(&run->cycles, 0);
	atomic_store(&run->working, THREADS);
#ifdef KVS_YIELD_RAND
	store_relaxed(&kvs__yield_every, 8u << rng_below(&r, 5));
#endif
	run_open(run);
	run_threads(THREADS + 1, member, run);
	lin_check(&run->history, &v);
	add_up(sum, run, &v);
	if (v.outcome != LIN_LINEARIZABLE)
		util_fail(__FILE__, __LINE__, "history %llu, %u keys, %s:\n# %s",
			  (unsigned long long)run->number, run->hot,
			  v.outcome == LIN_VIOLATION ? "not linearizable" : "undecided", v.why);
	close_store(run->kv);
}

static void print_totals(const struct totals *s)
{
	static const char *const names[LIN_KINDS] = {
		"set",    "add", "replace", "compare_and_set", "get_and_set", "get_and_delete",
		"delete", "get", "exists",
	};

	util_note("histories %llu, operations %llu, overlapping another on the key %llu (%llu%%)",
		  (unsigned long long)s->histories, (unsigned long long)s->operations,
		  (unsigned long long)s->overlapping,
		  (unsigned long long)(s->overlapping * 100 / s->operations));
	util_note("items of batches %llu", (unsigned long long)s->batched);
	util_note("decided by search %llu, most configurations %llu, versions that crossed %llu",
		  (unsigned long long)s->searched, (unsigned long long)s->configs,
		  (unsigned long long)s->crossed);
	util_note("growths %llu, shrinks %llu, violations %llu, undecided %llu",
		  (unsigned long long)s->growths, (unsigned long long)s->shrinks,
		  (unsigned long long)s->violations, (unsigned long long)s->undecided);
	for (size_t k = 0; k < LIN_KINDS; k++)
		util_note("  %-15s OK %llu, NOT_FOUND %llu, DUPLICATE %llu, VERSION_MISMATCH %llu",
			  names[k], (unsigned long long)s->answers[k][LIN_OK],
			  (unsigned long long)s->answers[k][LIN_NOT_FOUND],
			  (unsigned long long)s->answers[k][LIN_DUPLICATE],
			  (unsigned long long)s->answers[k][LIN_MISMATCH]);
}

/* Every answer that a kind of operation can give was given often. */
static bool answers_are_enough(const struct totals *s, uint64_t floor)
{
	bool enough = true;

	for (size_t k = 0; k < LIN_KINDS; k++) {
		enough &= s->answers[k][LIN_OK] >= floor;
		if (k != LIN_SET && k != LIN_ADD && k != LIN_GET_AND_SET)
			enough &= s->answers[k][LIN_NOT_FOUND] >= floor;
	}
	enough &= s->answers[LIN_ADD][LIN_DUPLICATE] >= floor;
	return enough && s->answers[LIN_COMPARE_AND_SET][LIN_MISMATCH] >= floor;
}

/* Whether as much has met as in @histories of so many @operations each; how much does is up to the machine. */
static bool is_enough(const struct totals *s, uint64_t histories, uint64_t operations)
{
#ifdef KVS_YIELD_RAND
	uint64_t share = 5;
#else
	uint64_t share = 100; /* processors may be few, and nobody yields */
#endif

	return s->growths >= 5 * histories && s->shrinks >= 5 * histories &&
	       s->overlapping >= histories * operations / share &&
	       answers_are_enough(s, histories * operations / 10000);
}

static void test_histories_are_linearizable(void **state)
{
	size_t histories = util_scaled_full(6, 40, 200, 10000);
	size_t operations = util_scaled(2000, 100000, 100000);
	struct run *run = calloc(1, sizeof(*run));
	struct totals sum = { .histories = 0 };

	(void)state;
	check(run != NULL);
	run->each = operations / THREADS;
	for (size_t t = 0; t < THREADS; t++) {
		run->history.thread[t].ops = calloc(run->each, sizeof(struct lin_op));
		check(run->history.thread[t].ops != NULL);
	}
	while (run->number < histories || !is_enough(&sum, histories, operations)) {
		run_history(run, &sum);
		run->number++;
	}
	print_totals(&sum);
	for (size_t t = 0; t < THREADS; t++)
		free(run->history.thread[t].ops);
	free(run);
	check(sum.histories >= histories);
	check_u64(sum.operations, sum.histories * (operations / THREADS) * THREADS);
	check(sum.batched >= sum.operations / 10);
	check(is_enough(&sum, histories, operations));
}

/* ---- The clock -------------------------------------------------------------------------- */

#define BOUNCES 2000u

struct bounce {
	_Atomic uint64_t turn;
	uint64_t stamp[2 * BOUNCES];
};

static void bounce(size_t index, void *arg)
{
	struct bounce *b = arg;

	for (uint64_t i = index; i < 2 * BOUNCES; i += 2) {
		while (atomic_load(&b->turn) != i)
			sched_yield();
		b->stamp[i] = lin_ticks_before();
		atomic_store(&b->turn, i + 1);
	}
}

/* Two threads stamp in turn: if the processors' clocks differed, histories would mean nothing. */
static void test_clock_is_one_for_all_threads(void **state)
{
	struct bounce *b = calloc(1, sizeof(*b));

	(void)state;
	check(b != NULL);
	run_threads(2, bounce, b);
	for (size_t i = 1; i < 2 * BOUNCES; i++)
		check(b->stamp[i - 1] <= b->stamp[i]);
	util_note("%u stamps in turn, none out of order", 2 * BOUNCES);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checker_judges_hand_made_histories),
		cmocka_unit_test(test_checker_never_passes_what_it_cannot_decide),
		cmocka_unit_test(test_checker_agrees_with_all_orders),
		cmocka_unit_test(test_clock_is_one_for_all_threads),
		cmocka_unit_test(test_histories_are_linearizable),
	};

	return util_main("lin", tests, ARRAY_LEN(tests));
}
