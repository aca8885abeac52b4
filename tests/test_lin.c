/* SPDX-License-Identifier: MIT */
/*
 * test_lin.c - every operation on a key takes effect at one instant between its call and its
 * return.
 *
 * Four threads work on few keys, and note what they asked and what was answered (lin_run.c); a fifth brings
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
#include "lin_rows.h"
#include "lin_run.h"
#include "maintain.h"
#include "yield.h"

/* ---- The checker: hand-made histories --------------------------------------------------- */

#define OK LIN_OK
#define NF LIN_NOT_FOUND

static const struct lin_hand_made hand_made[] = {
	{ "one after the other",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_GET, NF, 0, 0, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_SET, OK, 5, 50, 0, 0, 0, 0 },
	    { 1, 5, 6, LIN_GET, OK, 5, 50, 0, 0, 0, 0 },
	    { 1, 7, 8, LIN_COMPARE_AND_SET, OK, 6, 60, 5, 0, 0, 0 },
	    { 0, 9, 10, LIN_GET_AND_SET, OK, 7, 70, 6, 60, 0, 0 },
	    { 1, 11, 12, LIN_ADD, LIN_DUPLICATE, 7, 0, 0, 0, 0, 0 },
	    { 0, 13, 14, LIN_GET_AND_DELETE, OK, 7, 70, 0, 0, 0, 0 },
	    { 1, 15, 16, LIN_EXISTS, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "an overlapping get sees either",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 20, LIN_SET, OK, 2, 20, 0, 0, 0, 0 },
	    { 1, 4, 5, LIN_GET, OK, 1, 10, 0, 0, 0, 0 },
	    { 2, 6, 7, LIN_GET, OK, 2, 20, 0, 0, 0, 0 } } },
	{ "overlapping inserts with a delete between come out in the other order",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 20, LIN_ADD, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 2, 3, LIN_ADD, OK, 2, 20, 0, 0, 0, 0 },
	    { 1, 4, 5, LIN_DELETE, OK, 2, 0, 0, 0, 0, 0 },
	    { 2, 6, 30, LIN_GET, OK, 1, 10, 0, 0, 0, 0 } } },
	{ "a chain that only one order explains",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 20, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 1, 20, LIN_COMPARE_AND_SET, OK, 2, 20, 1, 0, 0, 0 },
	    { 2, 1, 20, LIN_DELETE, OK, 2, 0, 0, 0, 0, 0 },
	    { 3, 1, 20, LIN_ADD, OK, 3, 30, 0, 0, 0, 0 } } },
	{ "stale read",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_SET, OK, 2, 20, 0, 0, 0, 0 },
	    { 1, 5, 6, LIN_GET, OK, 1, 10, 0, 0, 0, 0 } } },
	{ "new, then old, under one write",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 20, LIN_SET, OK, 2, 20, 0, 0, 0, 0 },
	    { 1, 4, 5, LIN_GET, OK, 2, 20, 0, 0, 0, 0 },
	    { 2, 6, 7, LIN_GET, OK, 1, 10, 0, 0, 0, 0 } } },
	{ "a present key is missed",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 20, LIN_SET, OK, 2, 20, 0, 0, 0, 0 },
	    { 1, 4, 5, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "exists misses it",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 3, 4, LIN_EXISTS, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "exists sees what is gone",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 },
	    { 1, 5, 6, LIN_EXISTS, OK, 0, 0, 0, 0, 0, 0 } } },
	{ "read before it was written",
	  LIN_VIOLATION,
	  { { 1, 1, 2, LIN_GET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_SET, OK, 1, 10, 0, 0, 0, 0 } } },
	{ "a version that nobody wrote",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 1, 2, LIN_GET, OK, 9, 90, 0, 0, 0, 0 } } },
	{ "a value of another version",
	  LIN_VIOLATION,
	  { { 0, 1, 4, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 2, 3, LIN_GET, OK, 1, 11, 0, 0, 0, 0 } } },
	{ "a copy of what was replaced is of another version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 3, 4, LIN_GET_AND_SET, OK, 2, 20, 1, 99, 0, 0 } } },
	{ "lost update: two succeed on one version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 10, LIN_COMPARE_AND_SET, OK, 2, 20, 1, 0, 0, 0 },
	    { 1, 3, 10, LIN_COMPARE_AND_SET, OK, 3, 30, 1, 0, 0, 0 } } },
	{ "lost update: two get the same old value",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 10, LIN_GET_AND_SET, OK, 2, 20, 1, 10, 0, 0 },
	    { 1, 3, 10, LIN_GET_AND_SET, OK, 3, 30, 1, 10, 0, 0 } } },
	{ "compare_and_set succeeds on the wrong version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_SET, OK, 2, 20, 0, 0, 0, 0 },
	    { 1, 5, 6, LIN_COMPARE_AND_SET, OK, 3, 30, 1, 0, 0, 0 } } },
	{ "compare_and_set fails on the right version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 3, 4, LIN_COMPARE_AND_SET, LIN_MISMATCH, 1, 0, 1, 0, 0, 0 } } },
	{ "compare_and_set makes a new key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 },
	    { 1, 5, 6, LIN_COMPARE_AND_SET, OK, 2, 20, 1, 0, 0, 0 } } },
	{ "delete of an absent key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 },
	    { 1, 5, 6, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 } } },
	{ "two overlapping deletes of one entry",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 10, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 },
	    { 1, 3, 10, LIN_GET_AND_DELETE, OK, 1, 10, 0, 0, 0, 0 } } },
	{ "delete does not find a present key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 3, 4, LIN_DELETE, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "duplicate add",
	  LIN_VIOLATION,
	  { { 0, 1, 10, LIN_ADD, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 1, 10, LIN_ADD, OK, 2, 20, 0, 0, 0, 0 } } },
	{ "add meets what is not there",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 },
	    { 1, 5, 6, LIN_ADD, LIN_DUPLICATE, 1, 0, 0, 0, 0, 0 } } },
	{ "replace of an absent key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_REPLACE, OK, 1, 10, 0, 0, 0, 0 } } },
	{ "replace does not find a present key",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 3, 4, LIN_REPLACE, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "a version is given twice",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 },
	    { 0, 5, 6, LIN_SET, OK, 1, 20, 0, 0, 0, 0 } } },
	{ "a later write has the smaller version",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 2, 20, 0, 0, 0, 0 },
	    { 0, 3, 4, LIN_DELETE, OK, 2, 0, 0, 0, 0, 0 },
	    { 1, 5, 6, LIN_SET, OK, 1, 10, 0, 0, 0, 0 } } },
	{ "versions shrink while the key stays",
	  LIN_VIOLATION,
	  { { 0, 1, 10, LIN_SET, OK, 2, 20, 0, 0, 0, 0 },
	    { 1, 1, 10, LIN_GET_AND_SET, OK, 1, 10, 2, 20, 0, 0 } } },
	{ "of six answers the last is wrong",
	  LIN_VIOLATION,
	  { { 0, 1, 20, LIN_SET, OK, 1, 10, 0, 0, 0, 0 },
	    { 1, 1, 20, LIN_SET, OK, 2, 20, 0, 0, 0, 0 },
	    { 2, 1, 20, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 },
	    { 3, 21, 40, LIN_GET, OK, 2, 20, 0, 0, 0, 0 },
	    { 0, 21, 40, LIN_DELETE, OK, 2, 0, 0, 0, 0, 0 },
	    { 1, 41, 42, LIN_GET, OK, 2, 20, 0, 0, 0, 0 } } },
};

static void test_checker_judges_hand_made_histories(void **state)
{
	(void)state;
	lin_judge_hand_made(hand_made, ARRAY_LEN(hand_made));
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

static bool model_failure(const struct model *m, const struct lin_row *r)
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

static bool model_write(struct model *m, const struct lin_row *r)
{
	if (m->version >= r->version)
		return false;
	*m = (struct model){ r->version, r->value };
	return true;
}

static bool model_apply(struct model *m, const struct lin_row *r)
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

static bool any_order(const struct lin_row *rows, size_t count, uint32_t done, struct model m)
{
	if (done == ((uint32_t)1 << count) - 1)
		return true;
	for (size_t i = 0; i < count; i++) {
		struct model next = m;

		if (!(done & (uint32_t)1 << i) && lin_row_may_be_next(rows, count, done, i) &&
		    model_apply(&next, &rows[i]) &&
		    any_order(rows, count, done | (uint32_t)1 << i, next))
			return true;
	}
	return false;
}

/* A run of the map on 4 threads that overlap, then perhaps an answer bent. */
static void random_rows(struct rng *r, struct lin_row *rows, size_t count)
{
	struct lin_instants at = { .last = 10 };
	struct model m = { 0, 0 };

	for (size_t i = 0; i < count; i++) {
		struct lin_row *o = &rows[i];
		size_t t = rng_below(r, LIN_ROW_THREADS);

		*o = lin_row_random(r, &at, t, (enum lin_kind)rng_below(r, LIN_KINDS));
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

static void bend(struct rng *r, struct lin_row *rows, size_t count)
{
	struct lin_row *o = &rows[rng_below(r, count)];
	struct lin_row *other = &rows[rng_below(r, count)];

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
		struct lin_row rows[LIN_ROWS];
		struct lin_verdict v;
		bool want;

		random_rows(&r, rows, 7);
		if (i % 2 == 1)
			bend(&r, rows, 7);
		want = lin_rows_versions_hold(rows, 7) &&
		       any_order(rows, 7, 0, (struct model){ 0, 0 });
		lin_rows_judge(rows, 7, false, &v);
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

#define PHASES 3u
#define FILLERS_A_BUCKET 70u

static const struct lin_mix mix = {
	.weights = { [LIN_SET] = 15,
		     [LIN_ADD] = 12,
		     [LIN_REPLACE] = 8,
		     [LIN_COMPARE_AND_SET] = 14,
		     [LIN_GET_AND_SET] = 8,
		     [LIN_GET_AND_DELETE] = 7,
		     [LIN_DELETE] = 10,
		     [LIN_GET] = 20,
		     [LIN_EXISTS] = 6 },
	.batches = { LIN_GET, LIN_GET, LIN_SET, LIN_DELETE },
	.batch_kinds = 4,
	.batch_one_in = 16,
	.large_one_in = 256,
};

struct run {
	struct lin_run lin;
	uint32_t shards;
	bool own_shrink;       /* the test shrinks; else the store's thread does */
	_Atomic size_t cycles; /* of growth and shrink, complete */
};

/* Keys "hN" hash alike, all or in pairs, or not at all; others are spread. */
static uint64_t hot_hash(const void *key, size_t len, void *ctx)
{
	const struct run *run = ctx;
	const char *p = key;
	uint64_t number;

	if (p[0] == 'h' && run->lin.number % 3 == 0)
		return 1;
	if (p[0] == 'h' && run->lin.number % 3 == 1)
		return (uint64_t)(p[1] - '0') / 2;
	if (p[0] == 'h')
		number = (uint64_t)p[1];
	else
		memcpy(&number, p + len - sizeof(number), sizeof(number));
	return number * UINT64_C(0x9e3779b97f4a7c15);
}

static struct kvs_slice filler_key(char room[16], uint64_t number)
{
	memcpy(room, "filler--", 8);
	memcpy(room + 8, &number, sizeof(number));
	return kvs_bytes(room, 16);
}

/* In phase n at least n cycles of growth and shrink are over, and the next is under way. */
static void work(size_t index, struct run *run)
{
	struct lin_worker *w = lin_worker_begin(&run->lin, index);
	const struct lin_thread *t = &run->lin.history.thread[index];

	for (size_t phase = 0; phase < PHASES; phase++) {
		while (atomic_load(&run->cycles) < phase)
			sched_yield();
		while (t->count < run->lin.each * (phase + 1) / PHASES)
			lin_worker_go_on(w);
	}
	lin_worker_end(w);
}

/* ---- Growth and shrink ------------------------------------------------------------------ */

static bool is_small(const struct run *run)
{
	struct kvs__root *root = load_seq_cst(&run->lin.kv->root);

	for (uint32_t i = 0; i < run->shards; i++)
		if (load_seq_cst(&root->table[i].size) != KVS__BITS_MIN)
			return false;
	return true;
}

static void grow(struct run *run, uint64_t fillers)
{
	char room[16];

	for (uint64_t i = 0; i < fillers; i++)
		check_ok(kvs_set(run->lin.kv, filler_key(room, i), kvs_bytes(room, 16), NULL));
}

static void shrink(struct run *run, uint64_t fillers)
{
	char room[16];

	for (uint64_t i = 0; i < fillers; i++)
		check_ok(kvs_delete(run->lin.kv, filler_key(room, i), NULL));
	while (!is_small(run)) {
		if (run->own_shrink)
			(void)kvs__maintain_shrink(run->lin.kv, load_seq_cst(&run->lin.kv->root));
		else
			sched_yield();
	}
}

/* The thread behind the waves. With admin held the store's own thread leaves the tables alone. */
static void resize(struct run *run)
{
	uint64_t fillers = (uint64_t)(run->shards == 1 ? 2 : run->shards) * FILLERS_A_BUCKET;

	if (run->own_shrink)
		kvs__admin_lock(run->lin.kv);
	while (atomic_load(&run->lin.working) > 0) {
		grow(run, fillers);
		shrink(run, fillers);
		atomic_fetch_add(&run->cycles, 1);
	}
	if (run->own_shrink)
		kvs__admin_unlock(run->lin.kv);
}

static void member(size_t index, void *arg)
{
	if (index < LIN_WORKERS)
		work(index, arg);
	else
		resize(arg);
}

/* ---- Histories -------------------------------------------------------------------------- */

struct totals {
	struct lin_totals lin;
	uint64_t growths, shrinks;
};

static void run_open(struct run *run)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	opts.shards = (int32_t)run->shards;
	if (run->lin.number % 4 != 3) {
		opts.hash = KVS_HASH_USER;
		opts.hash_fn = hot_hash;
		opts.hash_ctx = run;
	}
	check_ok(kvs_open(&opts, &run->lin.kv));
}

static void run_history(struct run *run, struct totals *sum)
{
	struct kvs_stats stats;
	struct lin_verdict v;
	struct rng r;

	rng_init(&r, run->lin.number * 16 + 99);
	lin_run_begin(&run->lin, &r);
	run->shards = run->lin.number % 2 == 0 ? 1 : 4;
	run->own_shrink = run->lin.number % 5 != 4;
	atomic_store(&run->cycles, 0);
#ifdef KVS_YIELD_RAND
	store_relaxed(&kvs__yield_every, 8u << rng_below(&r, 5));
#endif
	run_open(run);
	run_threads(LIN_WORKERS + 1, member, run);
	lin_check(&run->lin.history, &v);
	lin_run_end(&run->lin, &v, &sum->lin);
	stats = store_stats(run->lin.kv);
	sum->growths += stats.growths;
	sum->shrinks += stats.shrinks;
	close_store(run->lin.kv);
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
	       s->lin.overlapping >= histories * operations / share &&
	       lin_totals_answered(&s->lin, LIN_KINDS, histories * operations / 10000);
}

static void test_histories_are_linearizable(void **state)
{
	size_t histories = util_scaled_full(6, 40, 200, 10000);
	size_t operations = util_scaled(2000, 100000, 100000);
	struct run *run = calloc(1, sizeof(*run));
	struct totals sum = { .growths = 0 };

	(void)state;
	check(run != NULL);
	lin_run_init(&run->lin, &mix, operations / LIN_WORKERS);
	while (run->lin.number < histories || !is_enough(&sum, histories, operations)) {
		run_history(run, &sum);
		run->lin.number++;
	}
	lin_totals_print(&sum.lin, LIN_KINDS);
	util_note("growths %llu, shrinks %llu", (unsigned long long)sum.growths,
		  (unsigned long long)sum.shrinks);
	lin_totals_check(&sum.lin, &run->lin, histories);
	check(sum.lin.batched >= sum.lin.operations / 10);
	check(is_enough(&sum, histories, operations));
	lin_run_free(&run->lin);
	free(run);
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
