/* SPDX-License-Identifier: MIT */
/*
 * test_lin_ttl.c - with deadlines, too, every operation on a key takes effect at one instant between its call and
 * its return, and so does every move of the clock: a key is there while the clock is before its deadline.
 *
 * Four threads write few keys with short times to live, let them expire, renew and read them, and note what they
 * asked and what was answered (lin_run.c); a fifth moves the store's clock on while they are at it, a sixth turns the
 * wheel beside the store's thread. lin.c then looks for an order of all this that explains the answers. First the
 * checker is checked, as in test_lin.c.
 *
 * Works in any build, since threads yield where the store reads their clock, but finds more with --enable-yield.
 */
#include "configs.h"

#include <sched.h>
#include <string.h>

#include "expiry.h"
#include "lin.h"
#include "lin_rows.h"
#include "lin_run.h"
#include "yield.h"

/* ---- The checker: hand-made histories --------------------------------------------------- */

#define CLOCK LIN_ROW_CLOCK
#define START LIN_ROW_START
#define OK LIN_OK
#define NF LIN_NOT_FOUND
#define MOVE(start, end, now)                                                                      \
	{                                                                                          \
		CLOCK, start, end, LIN_CLOCK, OK, 0, now, 0, 0, 0, 0                               \
	}

/* The clock stands at START in the beginning. */
static const struct lin_hand_made hand_made[] = {
	{ "there until the last millisecond",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 109),
	    { 1, 5, 6, LIN_GET, OK, 1, 10, 0, 0, 0, 110 },
	    MOVE(7, 8, 110),
	    { 1, 9, 10, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "shown at its deadline",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_GET, OK, 1, 10, 0, 0, 0, 110 } } },
	{ "exists at its deadline",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_EXISTS, OK, 0, 0, 0, 0, 0, 0 } } },
	{ "gone a millisecond early",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 109),
	    { 1, 5, 6, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "while the clock is moved both are right",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 20, 110),
	    { 1, 4, 5, LIN_GET, OK, 1, 10, 0, 0, 0, 110 },
	    { 1, 6, 7, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "but not gone and there again",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 20, 110),
	    { 1, 4, 5, LIN_GET, NF, 0, 0, 0, 0, 0, 0 },
	    { 1, 6, 7, LIN_GET, OK, 1, 10, 0, 0, 0, 110 } } },
	{ "an expired key is added",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 120),
	    { 1, 5, 6, LIN_ADD, OK, 2, 20, 0, 0, 0, 0 },
	    { 1, 7, 8, LIN_GET, OK, 2, 20, 0, 0, 0, 0 } } },
	{ "an expired key is a duplicate",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 120),
	    { 1, 5, 6, LIN_ADD, LIN_DUPLICATE, 1, 0, 0, 0, 0, 0 } } },
	{ "a touch brings back what has expired",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_TOUCH, OK, 2, 0, 0, 0, 50, 0 } } },
	{ "a delete of what has expired",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_DELETE, OK, 1, 0, 0, 0, 0, 0 } } },
	{ "the old version, by which an expired key was written anew",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_COMPARE_AND_SET, OK, 2, 20, 1, 0, 0, 0 } } },
	{ "the old deadline takes the new value",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 0, 3, 4, LIN_SET, OK, 2, 20, 0, 0, 50, 0 },
	    MOVE(5, 6, 110),
	    { 1, 7, 8, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "persist keeps it, with its value",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 1, 3, 4, LIN_EXPIRE, OK, 2, 0, 0, 0, 0, 0 },
	    MOVE(5, 6, 200),
	    { 1, 7, 8, LIN_GET, OK, 2, 10, 0, 0, 0, 0 } } },
	{ "expire changes the value",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 0, 3, 4, LIN_SET, OK, 2, 20, 0, 0, 10, 0 },
	    { 1, 5, 6, LIN_EXPIRE, OK, 3, 0, 0, 0, 50, 0 },
	    { 1, 7, 8, LIN_GET, OK, 3, 10, 0, 0, 0, 150 } } },
	{ "expire sets another deadline than it was told",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 1, 3, 4, LIN_EXPIRE, OK, 2, 0, 0, 0, 50, 0 },
	    { 1, 5, 6, LIN_GET, OK, 2, 10, 0, 0, 0, 110 } } },
	{ "a touch leaves what lives longer as it is",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 1, 3, 4, LIN_TOUCH, OK, 1, 0, 0, 0, 10, 0 },
	    { 1, 5, 6, LIN_TOUCH, OK, 2, 0, 0, 0, 11, 0 },
	    { 1, 7, 8, LIN_GET, OK, 2, 10, 0, 0, 0, 111 } } },
	{ "a touch shortens a life",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 1, 3, 4, LIN_TOUCH, OK, 2, 0, 0, 0, 5, 0 } } },
	{ "the ttl counts from some instant of the call",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 10, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(2, 3, 101),
	    MOVE(4, 5, 102),
	    { 1, 11, 12, LIN_GET, OK, 1, 10, 0, 0, 0, 111 } } },
	{ "and not from one after it",
	  LIN_VIOLATION,
	  { { 0, 1, 3, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(4, 5, 102),
	    { 1, 11, 12, LIN_GET, OK, 1, 10, 0, 0, 0, 112 } } },
	{ "not told which, all of them are tried",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 10, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    MOVE(2, 3, 101),
	    MOVE(11, 12, 110),
	    { 1, 13, 14, LIN_EXISTS, OK, 0, 0, 0, 0, 0, 0 },
	    MOVE(15, 16, 111),
	    { 1, 17, 18, LIN_EXISTS, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "the exception: a touch in time, that takes effect later",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 0, 3, 20, LIN_TOUCH, OK, 2, 0, 0, 0, 50, 0 },
	    MOVE(5, 6, 110),
	    { 1, 7, 8, LIN_GET, NF, 0, 0, 0, 0, 0, 0 },
	    { 1, 21, 22, LIN_GET, OK, 2, 10, 0, 0, 0, 150 } } },
	{ "the exception ends when the touch has returned",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 0, 3, 20, LIN_TOUCH, OK, 2, 0, 0, 0, 50, 0 },
	    MOVE(5, 6, 110),
	    { 1, 21, 22, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "the exception ends when the touched was seen",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 0, 3, 20, LIN_TOUCH, OK, 2, 0, 0, 0, 50, 0 },
	    MOVE(5, 6, 110),
	    { 1, 7, 8, LIN_GET, OK, 2, 10, 0, 0, 0, 150 },
	    { 1, 9, 10, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "no exception before the deadline",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 0, 3, 20, LIN_TOUCH, OK, 2, 0, 0, 0, 50, 0 },
	    MOVE(5, 6, 109),
	    { 1, 7, 8, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
	{ "no exception for a set",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 0, 10, 0 },
	    { 0, 3, 20, LIN_SET, OK, 2, 20, 0, 0, 50, 0 },
	    { 1, 4, 5, LIN_GET, OK, 2, 20, 0, 0, 0, 150 },
	    MOVE(6, 7, 110),
	    { 1, 8, 9, LIN_GET, NF, 0, 0, 0, 0, 0, 0 } } },
};

static void test_checker_judges_hand_made_histories(void **state)
{
	(void)state;
	lin_judge_hand_made(hand_made, ARRAY_LEN(hand_made));
}

/* ---- The checker: against a search through all orders ----------------------------------- */

#define OPS 6u /* of a small history, moves of the clock included */

/* The sequential map with a clock, written apart from the checker. */
struct model {
	uint64_t version; /* 0: there is none; else it may have expired */
	uint64_t value;
	int64_t deadline;
	int64_t now;
	unsigned moves;
};

static bool model_has(const struct model *m)
{
	return m->version != 0 && (m->deadline == 0 || m->now < m->deadline);
}

static bool model_put(struct model *m, uint64_t version, uint64_t value, int64_t deadline)
{
	if (model_has(m) && m->version >= version)
		return false;
	m->version = version;
	m->value = value;
	m->deadline = deadline;
	return true;
}

static bool model_touch(struct model *m, const struct lin_row *r, int64_t deadline)
{
	if (m->deadline == 0 || (deadline != 0 && deadline <= m->deadline))
		return r->version == m->version;
	return model_put(m, r->version, m->value, deadline);
}

static bool model_apply(struct model *m, const struct lin_row *r, int64_t deadline)
{
	bool there = model_has(m);

	if (r->kind == LIN_CLOCK) {
		m->now = (int64_t)r->value;
		m->moves++;
		return true;
	}
	if (r->answer == LIN_NOT_FOUND)
		return !there;
	if (r->answer == LIN_DUPLICATE)
		return there && r->version == m->version;
	if (r->answer == LIN_MISMATCH)
		return there && r->version == m->version && r->before != m->version;
	switch (r->kind) {
	case LIN_SET:
		return model_put(m, r->version, r->value, deadline);
	case LIN_ADD:
		return !there && model_put(m, r->version, r->value, deadline);
	case LIN_COMPARE_AND_SET:
		return there && r->before == m->version &&
		       model_put(m, r->version, r->value, deadline);
	case LIN_TOUCH:
		return there && model_touch(m, r, deadline);
	case LIN_DELETE:
		if (!there || r->version != m->version)
			return false;
		m->version = 0;
		return true;
	default:
		return there && r->version == m->version && r->value == m->value &&
		       r->expires == m->deadline;
	}
}

/* An order as far as it is chosen. */
struct order {
	const struct lin_row *rows;
	size_t count;
	uint32_t done;
	struct model m;
	const struct lin_row
		*late;         /* the last that told of the key or changed it, if it needed it */
	int64_t late_deadline; /* of what that replaced */
	uint64_t latest;       /* start of those chosen: nothing takes effect earlier any more */
	bool exceptions;       /* are made */
};

static bool any_order(const struct order *o);

static bool is_excepted(const struct order *o, const struct lin_row *r)
{
	return o->exceptions && r->answer == LIN_NOT_FOUND && o->late != NULL &&
	       o->m.now >= o->late_deadline && o->latest <= o->late->end &&
	       r->start <= o->late->end;
}

static bool any_order_with(const struct order *o, size_t i, int64_t deadline)
{
	const struct lin_row *r = &o->rows[i];
	struct order next = *o;

	next.done |= 1u << i;
	next.latest = r->start > o->latest ? r->start : o->latest;
	if (is_excepted(o, r))
		return any_order(&next);
	if (!model_apply(&next.m, r, deadline))
		return false;
	if (r->kind != LIN_CLOCK && r->answer != LIN_NOT_FOUND) {
		bool needs = (r->kind == LIN_COMPARE_AND_SET || r->kind == LIN_TOUCH) &&
			     r->answer == LIN_OK && o->m.deadline != 0 &&
			     next.m.version != o->m.version;

		next.late = needs ? r : NULL;
		next.late_deadline = o->m.deadline;
	}
	return any_order(&next);
}

/* The reading that a ttl counts from: any of the call's, up to when it takes effect. */
static bool any_deadline(const struct order *o, size_t i)
{
	const struct lin_row *r = &o->rows[i];
	int64_t now = START;
	unsigned moves = 0;

	if (r->ttl == 0)
		return any_order_with(o, i, 0);
	for (size_t j = 0; j < o->count; j++) { /* moves stand in order */
		const struct lin_row *move = &o->rows[j];

		if (move->kind != LIN_CLOCK)
			continue;
		if (move->end >= r->start && any_order_with(o, i, now + r->ttl))
			return true;
		if (moves++ == o->m.moves)
			return false;
		now = (int64_t)move->value;
	}
	return any_order_with(o, i, now + r->ttl);
}

static bool any_order(const struct order *o)
{
	if (o->done == (1u << o->count) - 1)
		return true;
	for (size_t i = 0; i < o->count; i++)
		if (!(o->done >> i & 1) && lin_row_may_be_next(o->rows, o->count, o->done, i) &&
		    any_deadline(o, i))
			return true;
	return false;
}

/* Somebody is told a version: else there is nothing to order by. */
static bool versions_are_told(const struct lin_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].version > 0)
			return true;
	return false;
}

/* A version that is reported was written, or given by a touch. */
static bool versions_are_known(const struct lin_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct lin_row *r = &rows[i];
		bool known =
			r->kind == LIN_CLOCK || r->answer == LIN_NOT_FOUND || lin_row_writes(r);

		for (size_t j = 0; j < count && !known; j++)
			known = r->version == rows[j].version && rows[j].answer == LIN_OK &&
				(lin_row_writes(&rows[j]) || rows[j].kind == LIN_TOUCH);
		if (!known)
			return false;
	}
	return true;
}

/* What @r answers to a key in @m. */
static void answer(struct model *m, struct lin_row *r, size_t i)
{
	int64_t deadline = r->ttl ? m->now + r->ttl : 0;
	struct model was = *m;

	r->version = i + 1;
	r->value = 100 + i;
	if (r->kind == LIN_GET || r->kind == LIN_DELETE) {
		r->version = m->version;
		r->value = m->value;
		r->expires = r->kind == LIN_GET ? m->deadline : 0;
	} else if (r->kind == LIN_TOUCH && model_has(m) &&
		   (m->deadline == 0 || (deadline != 0 && deadline <= m->deadline))) {
		r->version = m->version;
	}
	if (model_apply(m, r, deadline))
		return;
	*m = was;
	r->answer = !model_has(m)        ? LIN_NOT_FOUND
		    : r->kind == LIN_ADD ? LIN_DUPLICATE
					 : LIN_MISMATCH;
	r->version = model_has(m) ? m->version : 0;
	r->expires = 0;
}

/* Operations and moves, each at an instant, with intervals about it that overlap others'. */
static void random_rows(struct rng *r, struct lin_row *rows)
{
	static const enum lin_kind kinds[] = { LIN_SET,   LIN_ADD,    LIN_COMPARE_AND_SET,
					       LIN_TOUCH, LIN_DELETE, LIN_GET,
					       LIN_GET,   LIN_TOUCH };
	struct lin_instants at = { .last = 10 };
	struct model m = { .now = START };

	for (size_t i = 0; i < OPS; i++) {
		struct lin_row *o = &rows[i];
		size_t t = rng_below(r, CLOCK + 2) % (CLOCK + 1);

		t = i == 0 ? 0 : rng_below(r, 4) == 0 ? CLOCK : t;
		*o = lin_row_random(r, &at, t, kinds[rng_below(r, ARRAY_LEN(kinds))]);
		if (t == CLOCK) {
			o->kind = LIN_CLOCK;
			o->value = (uint64_t)m.now + 1 + rng_below(r, 3);
			m.now = (int64_t)o->value;
			continue;
		}
		if (o->kind <= LIN_COMPARE_AND_SET || o->kind == LIN_TOUCH)
			o->ttl = (int64_t)rng_below(r, 4);
		if (i == 0) {
			o->kind = LIN_SET;
			o->ttl = 2;
		}
		o->before = m.version;
		answer(&m, o, i);
	}
}

/* Let it return as late as can be. */
static void stretch(struct lin_row *rows, struct lin_row *o)
{
	o->end = 1000;
	for (const struct lin_row *next = rows + OPS - 1; next > o; next--)
		if (next->thread == o->thread)
			o->end = next->start - 1;
}

static void bend(struct rng *r, struct lin_row *rows)
{
	struct lin_row *o = &rows[rng_below(r, OPS)];

	if (o->kind == LIN_CLOCK) {
		o->end = o->start + 1;
		return;
	}
	if (o->kind == LIN_TOUCH || o->kind == LIN_COMPARE_AND_SET) {
		stretch(rows, o);
		return;
	}
	switch (rng_below(r, 4)) {
	case 0:
		o->end = o->start + 1;
		break;
	case 1:
		o->expires += o->expires ? 1 : 0;
		break;
	default:
		o->answer = LIN_NOT_FOUND;
		o->version = 0;
		o->value = 0;
		o->expires = 0;
		break;
	}
}

static void test_checker_agrees_with_all_orders(void **state)
{
	size_t rounds = util_scaled(20000, 300000, 3000000), good = 0, excepted = 0;
	struct rng r;

	(void)state;
	rng_init(&r, 1);
	for (size_t i = 0; i < rounds; i++) {
		struct lin_row rows[LIN_ROWS] = { { .end = 0 } };
		struct order o = { .rows = rows, .count = OPS, .m.now = START };
		struct lin_verdict v;
		bool want[2];

		random_rows(&r, rows);
		for (uint64_t n = i % 4; n > 0; n--)
			bend(&r, rows);
		if (!versions_are_known(rows, OPS) || !versions_are_told(rows, OPS) ||
		    !lin_rows_versions_hold(rows, OPS))
			continue;
		want[0] = any_order(&o);
		o.exceptions = true;
		want[1] = any_order(&o);
		for (unsigned with = 0; with < 2; with++) {
			lin_rows_judge(rows, OPS, !with, &v);
			if (v.outcome != (want[with] ? LIN_LINEARIZABLE : LIN_VIOLATION))
				util_fail(__FILE__, __LINE__, "history %zu, %s: %s", i,
					  with ? "with exceptions" : "strict",
					  want[with] ? v.why : "there is no order");
		}
		check(i % 4 != 0 || want[0]);
		good += want[1];
		excepted += want[1] && !want[0];
	}
	util_note("%zu histories of %u operations: %zu right, of these %zu by the exception",
		  rounds, OPS, good, excepted);
	check(good > rounds / 3 && good < rounds * 9 / 10 && excepted >= rounds / 5000);
}

/* ---- The store: what the threads do ----------------------------------------------------- */

#define YIELD_EVERY 8u

static const struct lin_mix mix = {
	.weights = { [LIN_SET] = 12,
		     [LIN_ADD] = 16,
		     [LIN_REPLACE] = 8,
		     [LIN_COMPARE_AND_SET] = 10,
		     [LIN_GET_AND_SET] = 4,
		     [LIN_GET_AND_DELETE] = 3,
		     [LIN_DELETE] = 3,
		     [LIN_GET] = 18,
		     [LIN_EXISTS] = 6,
		     [LIN_EXPIRE] = 10,
		     [LIN_TOUCH] = 10 },
	.batches = { LIN_SET, LIN_GET, LIN_GET },
	.batch_kinds = 3,
	.batch_one_in = 32,
	.large_one_in = 32, /* a renewal shares the block */
	.ttl_max = 8,
};

struct run {
	struct lin_run lin;
	size_t a_move; /* operations of all threads that a move of the clock waits for */
	bool turned;   /* the test turns the wheel too */
	_Atomic size_t made[LIN_WORKERS]; /* operations */
	_Atomic int64_t now;
};

/* Between what is seen and what is done about it a thread reads the clock: there it may be overtaken. */
static int64_t clock_now(void *ctx)
{
	static _Thread_local uint64_t state;
	struct run *run = ctx;
	int64_t now;

	state = (state + (uintptr_t)&state) * UINT64_C(6364136223846793005) + 1442695040888963407;
	if ((state >> 33) % YIELD_EVERY == 0)
		sched_yield();
	now = atomic_load(&run->now);
	if ((state >> 40) % YIELD_EVERY == 0)
		sched_yield();
	return now;
}

static void work(size_t index, struct run *run)
{
	struct lin_worker *w = lin_worker_begin(&run->lin, index);
	const struct lin_thread *t = &run->lin.history.thread[index];

	while (t->count < run->lin.each) {
		lin_worker_go_on(w);
		atomic_store(&run->made[index], t->count);
	}
	lin_worker_end(w);
}

/* ---- The clock and the wheel ------------------------------------------------------------ */

static size_t made(const struct run *run)
{
	size_t sum = 0;

	for (size_t t = 0; t < LIN_WORKERS; t++)
		sum += atomic_load(&run->made[t]);
	return sum;
}

/* As often as the threads get on, so that how many operations a life has is not up to the machine. */
static void move_clock(struct run *run)
{
	struct lin_thread *t = &run->lin.history.clock;
	struct rng r;

	rng_init(&r, run->lin.number * 16 + 98);
	while (atomic_load(&run->lin.working) > 0) {
		struct lin_op *op = &t->ops[t->count];
		uint64_t far = rng_below(&r, 64);

		if (made(run) / run->a_move <= t->count) {
			sched_yield();
			continue;
		}
		memset(op, 0, sizeof(*op));
		op->kind = LIN_CLOCK;
		op->value = (uint64_t)run->now + (far == 0 ? 1000 : far < 8 ? far : 1);
		op->start = lin_ticks_before();
		atomic_store(&run->now, (int64_t)op->value);
		op->end = lin_ticks_after();
		t->count++;
	}
}

static void turn_wheel(struct run *run)
{
	while (atomic_load(&run->lin.working) > 0) {
		uint64_t budget = 64;

		if (run->turned)
			(void)kvs__expiry_pass(run->lin.kv, atomic_load(&run->now), &budget);
		sched_yield();
	}
}

static void member(size_t index, void *arg)
{
	if (index < LIN_WORKERS)
		work(index, arg);
	else if (index == LIN_WORKERS)
		move_clock(arg);
	else
		turn_wheel(arg);
}

/* ---- Histories -------------------------------------------------------------------------- */

struct totals {
	struct lin_totals lin;
	uint64_t moves, expirations, by_write;
	uint64_t excepted; /* histories that only the exception explains */
};

/* The wheel's ticks are of 1 ms and of 5: with those a removal may come early by less than a tick. */
static void run_open(struct run *run)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_clock clock = { clock_now, clock_now, run };

	opts.shards = run->lin.number % 2 == 0 ? 1 : 4;
	opts.expiry_tick_ms = run->lin.number % 2 == 0 ? 5 : 1;
	opts.clock = &clock;
	check_ok(kvs_open(&opts, &run->lin.kv));
}

static void judge_history(struct run *run, struct totals *sum)
{
	struct lin_verdict v;

	run->lin.history.strict = true;
	lin_check(&run->lin.history, &v);
	if (v.outcome == LIN_VIOLATION) {
		run->lin.history.strict = false;
		lin_check(&run->lin.history, &v);
		sum->excepted += v.outcome == LIN_LINEARIZABLE;
	}
	lin_run_end(&run->lin, &v, &sum->lin);
}

static void run_history(struct run *run, struct totals *sum)
{
	struct kvs_stats stats;
	struct rng r;

	rng_init(&r, run->lin.number * 16 + 99);
	lin_run_begin(&run->lin, &r);
	run->a_move = 4 + rng_below(&r, 12);
	run->turned = run->lin.number % 4 != 3;
	run->lin.history.now = 1000;
	run->lin.history.clock.count = 0;
	for (size_t t = 0; t < LIN_WORKERS; t++)
		atomic_store(&run->made[t], 0);
	atomic_store(&run->now, run->lin.history.now);
#ifdef KVS_YIELD_RAND
	store_relaxed(&kvs__yield_every, 8u << rng_below(&r, 5));
#endif
	run_open(run);
	run_threads(LIN_WORKERS + 2, member, run);
	judge_history(run, sum);
	stats = store_stats(run->lin.kv);
	sum->moves += run->lin.history.clock.count;
	sum->expirations += stats.expirations;
	sum->by_write += stats.expirations_by_write;
	check_ok(kvs_free(run->lin.kv));
}

static void print_totals(const struct totals *s)
{
	lin_totals_print(&s->lin, LIN_TIMED_KINDS);
	util_note("moves of the clock %llu, explained by the exception only %llu",
		  (unsigned long long)s->moves, (unsigned long long)s->excepted);
	util_note("told that a key is gone by its deadline %llu, written anew from then on %llu, "
		  "removed by the wheel %llu",
		  (unsigned long long)s->lin.expired, (unsigned long long)s->by_write,
		  (unsigned long long)(s->expirations - s->by_write));
}

/* Whether as much has met as in @histories of so many @operations each; how much does is up to the machine. */
static bool is_enough(const struct totals *s, uint64_t histories, uint64_t operations)
{
	uint64_t all = histories * operations;
#ifdef KVS_YIELD_RAND
	uint64_t share = 5;
#else
	uint64_t share = 50; /* processors may be few, and threads yield at the clock only */
#endif

	return s->lin.overlapping >= all / share && s->lin.expired >= all / 50 &&
	       s->moves >= all / 20 && s->by_write >= all / 200 &&
	       s->expirations - s->by_write >= all / 200 &&
	       lin_totals_answered(&s->lin, LIN_TIMED_KINDS, all / 1000);
}

static void test_histories_with_deadlines_are_linearizable(void **state)
{
	size_t histories = util_scaled_full(4, 30, 200, 5000);
	size_t operations = util_scaled(4000, 20000, 20000);
	struct run *run = calloc(1, sizeof(*run));
	struct totals sum = { .moves = 0 };

	(void)state;
	check(run != NULL);
	lin_run_init(&run->lin, &mix, operations / LIN_WORKERS);
	run->lin.history.clock.ops = calloc(operations, sizeof(struct lin_op));
	check(run->lin.history.clock.ops != NULL);
	while (run->lin.number < histories || !is_enough(&sum, histories, operations)) {
		run_history(run, &sum);
		run->lin.number++;
	}
	print_totals(&sum);
	lin_totals_check(&sum.lin, &run->lin, histories);
	check(sum.lin.batched >= sum.lin.operations / 20);
	check(is_enough(&sum, histories, operations));
	free(run->lin.history.clock.ops);
	lin_run_free(&run->lin);
	free(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checker_judges_hand_made_histories),
		cmocka_unit_test(test_checker_agrees_with_all_orders),
		cmocka_unit_test(test_histories_with_deadlines_are_linearizable),
	};

	return util_main("lin_ttl", tests, ARRAY_LEN(tests));
}
