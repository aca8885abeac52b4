/* SPDX-License-Identifier: MIT */
/*
 * test_lin_ttl.c - with deadlines, too, every operation on a key takes effect at one instant between its call and
 * its return, and so does every move of the clock: a key is there while the clock is before its deadline.
 *
 * Four threads write few keys with short times to live, let them expire, renew and read them, and note what they
 * asked and what was answered; a fifth moves the store's clock on while they are at it, a sixth turns the wheel beside the
 * store's thread. lin.c then looks for an order of all this that explains the answers. First the checker is checked,
 * as in test_lin.c.
 *
 * Works in any build, since threads yield where the store reads their clock, but finds more with --enable-yield.
 */
#include "configs.h"

#include <sched.h>
#include <string.h>

#include "expiry.h"
#include "lin.h"
#include "yield.h"

/* ---- The checker: hand-made histories --------------------------------------------------- */

/* The clock stands at 100 in the beginning. */
struct row {
	size_t thread; /* CLOCK: the clock comes to value */
	uint64_t start, end;
	enum lin_kind kind;
	enum lin_answer answer;
	uint64_t version, value, before;
	int64_t ttl, expires;
};

#define ROWS 8u
#define CLOCK 4u
#define START 100
#define OK LIN_OK
#define NF LIN_NOT_FOUND
#define MOVE(start, end, now)                                                                      \
	{                                                                                          \
		CLOCK, start, end, LIN_CLOCK, OK, 0, now, 0, 0, 0                                  \
	}

struct hand_made {
	const char *name;
	enum lin_outcome outcome;
	struct row rows[ROWS]; /* end: 0 ends the list */
};

static const struct hand_made hand_made[] = {
	{ "there until the last millisecond",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 109),
	    { 1, 5, 6, LIN_GET, OK, 1, 10, 0, 0, 110 },
	    MOVE(7, 8, 110),
	    { 1, 9, 10, LIN_GET, NF, 0, 0, 0, 0, 0 } } },
	{ "shown at its deadline",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_GET, OK, 1, 10, 0, 0, 110 } } },
	{ "exists at its deadline",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_EXISTS, OK, 0, 0, 0, 0, 0 } } },
	{ "gone a millisecond early",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 109),
	    { 1, 5, 6, LIN_GET, NF, 0, 0, 0, 0, 0 } } },
	{ "while the clock is moved both are right",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 20, 110),
	    { 1, 4, 5, LIN_GET, OK, 1, 10, 0, 0, 110 },
	    { 1, 6, 7, LIN_GET, NF, 0, 0, 0, 0, 0 } } },
	{ "but not gone and there again",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 20, 110),
	    { 1, 4, 5, LIN_GET, NF, 0, 0, 0, 0, 0 },
	    { 1, 6, 7, LIN_GET, OK, 1, 10, 0, 0, 110 } } },
	{ "an expired key is added",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 120),
	    { 1, 5, 6, LIN_ADD, OK, 2, 20, 0, 0, 0 },
	    { 1, 7, 8, LIN_GET, OK, 2, 20, 0, 0, 0 } } },
	{ "an expired key is a duplicate",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 120),
	    { 1, 5, 6, LIN_ADD, LIN_DUPLICATE, 1, 0, 0, 0, 0 } } },
	{ "a touch brings back what has expired",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_TOUCH, OK, 2, 0, 0, 50, 0 } } },
	{ "a delete of what has expired",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_DELETE, OK, 1, 0, 0, 0, 0 } } },
	{ "the old version, by which an expired key was written anew",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(3, 4, 110),
	    { 1, 5, 6, LIN_COMPARE_AND_SET, OK, 2, 20, 1, 0, 0 } } },
	{ "the old deadline takes the new value",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 0, 3, 4, LIN_SET, OK, 2, 20, 0, 50, 0 },
	    MOVE(5, 6, 110),
	    { 1, 7, 8, LIN_GET, NF, 0, 0, 0, 0, 0 } } },
	{ "persist keeps it, with its value",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 1, 3, 4, LIN_EXPIRE, OK, 2, 0, 0, 0, 0 },
	    MOVE(5, 6, 200),
	    { 1, 7, 8, LIN_GET, OK, 2, 10, 0, 0, 0 } } },
	{ "expire changes the value",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 0, 3, 4, LIN_SET, OK, 2, 20, 0, 10, 0 },
	    { 1, 5, 6, LIN_EXPIRE, OK, 3, 0, 0, 50, 0 },
	    { 1, 7, 8, LIN_GET, OK, 3, 10, 0, 0, 150 } } },
	{ "expire sets another deadline than it was told",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 1, 3, 4, LIN_EXPIRE, OK, 2, 0, 0, 50, 0 },
	    { 1, 5, 6, LIN_GET, OK, 2, 10, 0, 0, 110 } } },
	{ "a touch leaves what lives longer as it is",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 1, 3, 4, LIN_TOUCH, OK, 1, 0, 0, 10, 0 },
	    { 1, 5, 6, LIN_TOUCH, OK, 2, 0, 0, 11, 0 },
	    { 1, 7, 8, LIN_GET, OK, 2, 10, 0, 0, 111 } } },
	{ "a touch shortens a life",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 1, 3, 4, LIN_TOUCH, OK, 2, 0, 0, 5, 0 } } },
	{ "the ttl counts from some instant of the call",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 10, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(2, 3, 101),
	    MOVE(4, 5, 102),
	    { 1, 11, 12, LIN_GET, OK, 1, 10, 0, 0, 111 } } },
	{ "and not from one after it",
	  LIN_VIOLATION,
	  { { 0, 1, 3, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(4, 5, 102),
	    { 1, 11, 12, LIN_GET, OK, 1, 10, 0, 0, 112 } } },
	{ "not told which, all of them are tried",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 10, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    MOVE(2, 3, 101),
	    MOVE(11, 12, 110),
	    { 1, 13, 14, LIN_EXISTS, OK, 0, 0, 0, 0, 0 },
	    MOVE(15, 16, 111),
	    { 1, 17, 18, LIN_EXISTS, NF, 0, 0, 0, 0, 0 } } },
	{ "the exception: a touch in time, that takes effect later",
	  LIN_LINEARIZABLE,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 0, 3, 20, LIN_TOUCH, OK, 2, 0, 0, 50, 0 },
	    MOVE(5, 6, 110),
	    { 1, 7, 8, LIN_GET, NF, 0, 0, 0, 0, 0 },
	    { 1, 21, 22, LIN_GET, OK, 2, 10, 0, 0, 150 } } },
	{ "the exception ends when the touch has returned",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 0, 3, 20, LIN_TOUCH, OK, 2, 0, 0, 50, 0 },
	    MOVE(5, 6, 110),
	    { 1, 21, 22, LIN_GET, NF, 0, 0, 0, 0, 0 } } },
	{ "the exception ends when the touched was seen",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 0, 3, 20, LIN_TOUCH, OK, 2, 0, 0, 50, 0 },
	    MOVE(5, 6, 110),
	    { 1, 7, 8, LIN_GET, OK, 2, 10, 0, 0, 150 },
	    { 1, 9, 10, LIN_GET, NF, 0, 0, 0, 0, 0 } } },
	{ "no exception before the deadline",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 0, 3, 20, LIN_TOUCH, OK, 2, 0, 0, 50, 0 },
	    MOVE(5, 6, 109),
	    { 1, 7, 8, LIN_GET, NF, 0, 0, 0, 0, 0 } } },
	{ "no exception for a set",
	  LIN_VIOLATION,
	  { { 0, 1, 2, LIN_SET, OK, 1, 10, 0, 10, 0 },
	    { 0, 3, 20, LIN_SET, OK, 2, 20, 0, 50, 0 },
	    { 1, 4, 5, LIN_GET, OK, 2, 20, 0, 0, 150 },
	    MOVE(6, 7, 110),
	    { 1, 8, 9, LIN_GET, NF, 0, 0, 0, 0, 0 } } },
};

/* Rows of one key as a history; the arrays are the caller's. */
static struct lin_history history_of(const struct row *rows, size_t count,
				     struct lin_op ops[CLOCK + 1][ROWS])
{
	struct lin_history h = { .threads = CLOCK, .keys = 1, .now = START };

	for (size_t t = 0; t < CLOCK; t++)
		h.thread[t].ops = ops[t];
	h.clock.ops = ops[CLOCK];
	for (size_t i = 0; i < count; i++) {
		const struct row *r = &rows[i];
		struct lin_thread *t = r->thread == CLOCK ? &h.clock : &h.thread[r->thread];

		t->ops[t->count++] = (struct lin_op){
			.start = r->start,
			.end = r->end,
			.version = r->version,
			.value = r->value,
			.before = r->before,
			.ttl = r->ttl,
			.expires = r->expires,
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
		struct lin_op ops[CLOCK + 1][ROWS];
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

static bool model_touch(struct model *m, const struct row *r, int64_t deadline)
{
	if (m->deadline == 0 || (deadline != 0 && deadline <= m->deadline))
		return r->version == m->version;
	return model_put(m, r->version, m->value, deadline);
}

static bool model_apply(struct model *m, const struct row *r, int64_t deadline)
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
	const struct row *rows;
	size_t count;
	uint32_t done;
	struct model m;
	const struct row *late; /* the last that saw or changed something, if it needed the key */
	int64_t late_deadline;  /* of what that replaced */
	uint64_t latest;        /* start of those chosen: nothing takes effect earlier any more */
	bool exceptions;        /* are made */
};

static bool may_be_next(const struct order *o, size_t i)
{
	for (size_t j = 0; j < o->count; j++)
		if (!(o->done >> j & 1) && o->rows[j].end < o->rows[i].start)
			return false;
	return !(o->done >> i & 1);
}

static bool any_order(const struct order *o);

static bool is_excepted(const struct order *o, const struct row *r)
{
	return o->exceptions && r->answer == LIN_NOT_FOUND && o->late != NULL &&
	       o->m.now >= o->late_deadline && o->latest <= o->late->end &&
	       r->start <= o->late->end;
}

static bool any_order_with(const struct order *o, size_t i, int64_t deadline)
{
	const struct row *r = &o->rows[i];
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
	const struct row *r = &o->rows[i];
	int64_t now = START;
	unsigned moves = 0;

	if (r->ttl == 0)
		return any_order_with(o, i, 0);
	for (size_t j = 0; j < o->count; j++) { /* moves stand in order */
		const struct row *move = &o->rows[j];

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
		if (may_be_next(o, i) && any_deadline(o, i))
			return true;
	return false;
}

static bool writes_version(const struct row *r)
{
	return r->answer == LIN_OK &&
	       (r->kind == LIN_SET || r->kind == LIN_ADD || r->kind == LIN_COMPARE_AND_SET);
}

/* What the versions promise beyond an order: no repetition, and growth in real time. */
static bool versions_hold(const struct row *rows, size_t count)
{
	uint64_t greatest = 0;

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++) {
			if (i == j || !writes_version(&rows[i]) || !writes_version(&rows[j]))
				continue;
			if (rows[i].version == rows[j].version)
				return false;
			if (rows[i].end < rows[j].start && rows[i].version > rows[j].version)
				return false;
		}
	for (size_t i = 0; i < count; i++)
		greatest = rows[i].version > greatest ? rows[i].version : greatest;
	return greatest > 0;
}

/* A version that is reported was written, or given by a touch. */
static bool versions_are_known(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct row *r = &rows[i];
		bool known =
			r->kind == LIN_CLOCK || r->answer == LIN_NOT_FOUND || writes_version(r);

		for (size_t j = 0; j < count && !known; j++)
			known = r->version == rows[j].version && rows[j].answer == LIN_OK &&
				(writes_version(&rows[j]) || rows[j].kind == LIN_TOUCH);
		if (!known)
			return false;
	}
	return true;
}

/* What @r answers to a key in @m. */
static void answer(struct model *m, struct row *r, size_t i)
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
static void random_rows(struct rng *r, struct row *rows)
{
	static const enum lin_kind kinds[] = { LIN_SET,   LIN_ADD,    LIN_COMPARE_AND_SET,
					       LIN_TOUCH, LIN_DELETE, LIN_GET,
					       LIN_GET,   LIN_TOUCH };
	uint64_t free_at[CLOCK + 1] = { 0 };
	struct model m = { .now = START };
	uint64_t clock = 10;

	for (size_t i = 0; i < OPS; i++) {
		struct row *o = &rows[i];
		size_t t = rng_below(r, CLOCK + 2) % (CLOCK + 1);

		t = i == 0 ? 0 : rng_below(r, 4) == 0 ? CLOCK : t;
		clock = (clock > free_at[t] ? clock : free_at[t]) + 10;
		*o = (struct row){ .thread = t, .kind = kinds[rng_below(r, ARRAY_LEN(kinds))] };
		o->start = clock - rng_below(r, clock - free_at[t] < 40 ? clock - free_at[t] : 40);
		o->end = clock + 1 + rng_below(r, 40);
		free_at[t] = o->end + 1;
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
static void stretch(struct row *rows, struct row *o)
{
	o->end = 1000;
	for (const struct row *next = rows + OPS - 1; next > o; next--)
		if (next->thread == o->thread)
			o->end = next->start - 1;
}

static void bend(struct rng *r, struct row *rows)
{
	struct row *o = &rows[rng_below(r, OPS)];

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

static enum lin_outcome judge(const struct row *rows, bool strict, struct lin_verdict *v)
{
	struct lin_op ops[CLOCK + 1][ROWS];
	struct lin_history h = history_of(rows, OPS, ops);

	h.strict = strict;
	lin_check(&h, v);
	return v->outcome;
}

static void test_checker_agrees_with_all_orders(void **state)
{
	size_t rounds = util_scaled(20000, 300000, 3000000), good = 0, excepted = 0;
	struct rng r;

	(void)state;
	rng_init(&r, 1);
	for (size_t i = 0; i < rounds; i++) {
		struct row rows[ROWS] = { { .end = 0 } };
		struct order o = { .rows = rows, .count = OPS, .m.now = START };
		struct lin_verdict v;
		bool want[2], sound;

		random_rows(&r, rows);
		for (uint64_t n = i % 4; n > 0; n--)
			bend(&r, rows);
		sound = versions_are_known(rows, OPS);
		if (!sound || !versions_hold(rows, OPS))
			continue;
		want[0] = any_order(&o);
		o.exceptions = true;
		want[1] = any_order(&o);
		for (unsigned with = 0; with < 2; with++)
			if (judge(rows, !with, &v) !=
			    (want[with] ? LIN_LINEARIZABLE : LIN_VIOLATION))
				util_fail(__FILE__, __LINE__, "history %zu, %s: %s", i,
					  with ? "with exceptions" : "strict",
					  want[with] ? v.why : "there is no order");
		check(i % 4 != 0 || want[0]);
		good += want[1];
		excepted += want[1] && !want[0];
	}
	util_note("%zu histories of %u operations: %zu right, of these %zu by the exception",
		  rounds, OPS, good, excepted);
	check(good > rounds / 3 && good < rounds * 9 / 10 && excepted >= rounds / 5000);
}

/* ---- The store: what the threads do ----------------------------------------------------- */

#define THREADS 4u
#define HOT_MAX 8u
#define VALUE_MAX 5000u
#define TTL_MAX 8u /* ms */
#define YIELD_EVERY 8u

struct run {
	struct kvs *kv;
	uint64_t number; /* of the history */
	uint32_t hot;    /* keys that the threads share */
	size_t each;     /* operations of a thread */
	size_t a_move;   /* operations of all threads that a move of the clock waits for */
	bool turned;     /* the test turns the wheel too */
	struct lin_history history;
	uint64_t answers[THREADS][LIN_TIMED_KINDS][LIN_ANSWERS];
	uint64_t batched[THREADS];
	_Atomic size_t made[THREADS]; /* operations */
	_Atomic int64_t now;
	_Atomic size_t working;
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

static struct kvs_slice hot_key(char room[16], uint32_t number)
{
	memset(room, '-', 16);
	room[0] = (char)('0' + number);
	return kvs_bytes(room, 10);
}

/* A value says what it is in its first 8 bytes; the rest follows from that, its length too. */
static size_t value_len(uint64_t value)
{
	if (value % 32 == 7)
		return VALUE_MAX; /* in a block of its own, that a renewal shares */
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
	unsigned char buf[HOT_MAX * VALUE_MAX];
};

static const uint8_t kind_weights[LIN_TIMED_KINDS] = {
	[LIN_SET] = 12,        [LIN_ADD] = 16,
	[LIN_REPLACE] = 8,     [LIN_COMPARE_AND_SET] = 10,
	[LIN_GET_AND_SET] = 4, [LIN_GET_AND_DELETE] = 3,
	[LIN_DELETE] = 3,      [LIN_GET] = 18,
	[LIN_EXISTS] = 6,      [LIN_EXPIRE] = 10,
	[LIN_TOUCH] = 10,
};

static enum lin_kind choose_kind(struct rng *r)
{
	uint64_t at = rng_below(r, 100);
	size_t kind = 0;

	while (at >= kind_weights[kind])
		at -= kind_weights[kind++];
	return (enum lin_kind)kind;
}

static int64_t choose_ttl(struct rng *r)
{
	return rng_below(r, 8) == 0 ? 0 : 1 + (int64_t)rng_below(r, TTL_MAX);
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
		err = kvs_set_ex(kv, key, val, kvs_after(op->ttl), &op->version);
		break;
	case LIN_ADD:
		err = kvs_add_ex(kv, key, val, kvs_after(op->ttl), &op->version);
		break;
	case LIN_REPLACE:
		err = kvs_replace_ex(kv, key, val, kvs_after(op->ttl), &op->version);
		break;
	case LIN_COMPARE_AND_SET:
		err = kvs_compare_and_set_ex(kv, key, val, op->before, kvs_after(op->ttl),
					     &op->version);
		break;
	default:
		op->ttl = 0;
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

static int do_renewal(struct kvs *kv, struct lin_op *op, struct kvs_slice key)
{
	int err;

	op->start = lin_ticks_before();
	if (op->kind == LIN_TOUCH)
		err = kvs_touch(kv, key, op->ttl, &op->version);
	else if (op->ttl == 0)
		err = kvs_persist(kv, key, &op->version);
	else
		err = kvs_expire(kv, key, op->ttl, &op->version);
	op->end = lin_ticks_after();
	return err;
}

static int do_other(struct worker *w, struct lin_op *op, struct kvs_slice key)
{
	struct kvs *kv = w->run->kv;
	struct kvs_value got = { NULL, 0, 0, 0 };
	int err;

	op->ttl = 0;
	op->start = lin_ticks_before();
	switch ((enum lin_kind)op->kind) {
	case LIN_DELETE:
		err = kvs_delete(kv, key, &op->version);
		break;
	case LIN_GET_AND_DELETE:
		err = kvs_get_and_delete(kv, key, &got);
		break;
	case LIN_GET:
		err = kvs_get(kv, key, w->buf, sizeof(w->buf), &got);
		break;
	default:
		err = kvs_exists(kv, key);
		break;
	}
	op->end = lin_ticks_after();
	if (got.version != 0) {
		op->version = got.version;
		op->value = value_of(&got);
		op->expires = got.expires_at_ms;
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

static void note(struct worker *w, const struct lin_op *op)
{
	if (op->version != 0)
		w->seen[op->key] = op->version;
	w->run->answers[w->index][op->kind][op->answer]++;
}

static void do_one(struct worker *w, struct lin_op *op)
{
	char room[16];
	struct kvs_slice key;
	int err;

	memset(op, 0, sizeof(*op));
	op->kind = (uint8_t)choose_kind(&w->rng);
	op->key = (uint32_t)rng_below(&w->rng, w->run->hot);
	op->ttl = choose_ttl(&w->rng);
	key = hot_key(room, op->key);
	if (op->kind == LIN_COMPARE_AND_SET)
		op->before = w->seen[op->key];
	if (op->kind <= LIN_GET_AND_SET)
		err = do_write(w, op, key);
	else if (op->kind >= LIN_EXPIRE)
		err = do_renewal(w->run->kv, op, key);
	else
		err = do_other(w, op, key);
	op->answer = (uint8_t)answer_of(err);
	note(w, op);
}

/* ---- Batches: each item is an operation, all of them with the interval of the call ---- */

static void batch_of_sets(struct worker *w, struct lin_op *ops, char (*room)[16], size_t n)
{
	struct kvs_set_item items[HOT_MAX];
	uint64_t start, end;

	for (size_t i = 0; i < n; i++) {
		ops[i].value = w->next_value++;
		ops[i].ttl = choose_ttl(&w->rng);
		items[i] = (struct kvs_set_item){ .key = hot_key(room[i], ops[i].key),
						  .val = value_make(w->buf + i * VALUE_MAX,
								    ops[i].value),
						  .expiry = kvs_after(ops[i].ttl) };
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

static void batch_of_gets(struct worker *w, struct lin_op *ops, char (*room)[16], size_t n)
{
	struct kvs_get_item items[HOT_MAX];
	uint64_t start, end;

	for (size_t i = 0; i < n; i++)
		items[i].key = hot_key(room[i], ops[i].key);
	start = lin_ticks_before();
	check_ok(kvs_batch_get(w->run->kv, items, n, w->buf, sizeof(w->buf), NULL));
	end = lin_ticks_after();
	for (size_t i = 0; i < n; i++) {
		ops[i].start = start;
		ops[i].end = end;
		ops[i].answer = (uint8_t)answer_of(items[i].status);
		if (items[i].status)
			continue;
		ops[i].version = items[i].value.version;
		ops[i].value = value_of(&items[i].value);
		ops[i].expires = items[i].value.expires_at_ms;
	}
}

/* Two keys or more, each once: a thread has one operation at a time on a key. */
static size_t do_batch(struct worker *w, struct lin_op *ops, size_t most)
{
	enum lin_kind kind = rng_below(&w->rng, 3) == 0 ? LIN_SET : LIN_GET;
	size_t n = 2 + rng_below(&w->rng, w->run->hot - 1);
	uint32_t first = (uint32_t)rng_below(&w->rng, w->run->hot);
	char room[HOT_MAX][16];

	n = n < most ? n : most;
	for (size_t i = 0; i < n; i++)
		ops[i] = (struct lin_op){ .kind = (uint8_t)kind,
					  .key = (first + (uint32_t)i) % w->run->hot };
	if (kind == LIN_SET)
		batch_of_sets(w, ops, room, n);
	else
		batch_of_gets(w, ops, room, n);
	for (size_t i = 0; i < n; i++)
		note(w, &ops[i]);
	w->run->batched[w->index] += n;
	return n;
}

static void work(size_t index, struct run *run)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct lin_thread *t = &run->history.thread[index];

	check(w != NULL);
	w->run = run;
	w->index = index;
	w->next_value = (run->number << 8 | (index + 1)) << 32;
	rng_init(&w->rng, run->number * 16 + index + 100);
	while (t->count < run->each) {
		if (rng_below(&w->rng, 32) == 0) {
			t->count += do_batch(w, &t->ops[t->count], run->each - t->count);
		} else {
			do_one(w, &t->ops[t->count]);
			t->count++;
		}
		atomic_store(&run->made[index], t->count);
	}
	atomic_fetch_sub(&run->working, 1);
	free(w);
}

/* ---- The clock and the wheel ------------------------------------------------------------ */

static size_t made(const struct run *run)
{
	size_t sum = 0;

	for (size_t t = 0; t < THREADS; t++)
		sum += atomic_load(&run->made[t]);
	return sum;
}

/* As often as the threads get on, so that how many operations a life has is not up to the machine. */
static void move_clock(struct run *run)
{
	struct lin_thread *t = &run->history.clock;
	struct rng r;

	rng_init(&r, run->number * 16 + 98);
	while (atomic_load(&run->working) > 0) {
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
	while (atomic_load(&run->working) > 0) {
		uint64_t budget = 64;

		if (run->turned)
			(void)kvs__expiry_pass(run->kv, atomic_load(&run->now), &budget);
		sched_yield();
	}
}

static void member(size_t index, void *arg)
{
	if (index < THREADS)
		work(index, arg);
	else if (index == THREADS)
		move_clock(arg);
	else
		turn_wheel(arg);
}

/* ---- Histories -------------------------------------------------------------------------- */

struct totals {
	uint64_t histories, operations, overlapping, searched, configs, moves, expired, batched;
	uint64_t excepted; /* histories that only the exception explains */
	uint64_t expirations, by_write, violations, undecided;
	uint64_t answers[LIN_TIMED_KINDS][LIN_ANSWERS];
};

static void add_up(struct totals *sum, const struct run *run, const struct lin_verdict *v)
{
	struct kvs_stats stats = store_stats(run->kv);

	sum->histories++;
	sum->operations += v->operations;
	sum->overlapping += v->overlapping;
	sum->searched += v->searched;
	sum->configs = v->configs > sum->configs ? v->configs : sum->configs;
	sum->moves += run->history.clock.count;
	sum->expired += v->expired;
	sum->expirations += stats.expirations;
	sum->by_write += stats.expirations_by_write;
	sum->violations += v->outcome == LIN_VIOLATION;
	sum->undecided += v->outcome == LIN_UNDECIDED;
	for (size_t t = 0; t < THREADS; t++)
		sum->batched += run->batched[t];
	for (size_t t = 0; t < THREADS; t++)
		for (size_t k = 0; k < LIN_TIMED_KINDS; k++)
			for (size_t a = 0; a < LIN_ANSWERS; a++)
				sum->answers[k][a] += run->answers[t][k][a];
}

/* The wheel's ticks are of 1 ms and of 5: with those a removal may come early by less than a tick. */
static void run_open(struct run *run)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_clock clock = { clock_now, clock_now, run };

	opts.shards = run->number % 2 == 0 ? 1 : 4;
	opts.expiry_tick_ms = run->number % 2 == 0 ? 5 : 1;
	opts.clock = &clock;
	check_ok(kvs_open(&opts, &run->kv));
}

static void judge_history(struct run *run, struct totals *sum)
{
	struct lin_verdict v;

	run->history.strict = true;
	lin_check(&run->history, &v);
	if (v.outcome == LIN_VIOLATION) {
		run->history.strict = false;
		lin_check(&run->history, &v);
		sum->excepted += v.outcome == LIN_LINEARIZABLE;
	}
	add_up(sum, run, &v);
	if (v.outcome != LIN_LINEARIZABLE)
		util_fail(__FILE__, __LINE__, "history %llu, %u keys, %s:\n# %s",
			  (unsigned long long)run->number, run->hot,
			  v.outcome == LIN_VIOLATION ? "not linearizable" : "undecided", v.why);
}

static void run_history(struct run *run, struct totals *sum)
{
	struct rng r;

	rng_init(&r, run->number * 16 + 99);
	memset(run->answers, 0, sizeof(run->answers));
	memset(run->batched, 0, sizeof(run->batched));
	run->hot = 2 + (uint32_t)rng_below(&r, HOT_MAX - 1);
	run->a_move = 4 + rng_below(&r, 12);
	run->turned = run->number % 4 != 3;
	run->history.threads = THREADS;
	run->history.keys = run->hot;
	run->history.now = 1000;
	run->history.clock.count = 0;
	for (size_t t = 0; t < THREADS; t++) {
		run->history.thread[t].count = 0;
		atomic_store(&run->made[t], 0);
	}
	atomic_store(&run->now, run->history.now);
	atomic_store(&run->working, THREADS);
#ifdef KVS_YIELD_RAND
	store_relaxed(&kvs__yield_every, 8u << rng_below(&r, 5));
#endif
	run_open(run);
	run_threads(THREADS + 2, member, run);
	judge_history(run, sum);
	check_ok(kvs_free(run->kv));
}

static void print_totals(const struct totals *s)
{
	static const char *const names[LIN_TIMED_KINDS] = {
		"set",    "add", "replace", "compare_and_set", "get_and_set", "get_and_delete",
		"delete", "get", "exists",  "expire",          "touch",
	};

	util_note("histories %llu, operations %llu, overlapping another on the key %llu (%llu%%)",
		  (unsigned long long)s->histories, (unsigned long long)s->operations,
		  (unsigned long long)s->overlapping,
		  (unsigned long long)(s->overlapping * 100 / s->operations));
	util_note("items of batches %llu, moves of the clock %llu", (unsigned long long)s->batched,
		  (unsigned long long)s->moves);
	util_note("decided by search %llu, most configurations %llu",
		  (unsigned long long)s->searched, (unsigned long long)s->configs);
	util_note("told that a key is gone by its deadline %llu, written anew from then on %llu, "
		  "removed by the wheel %llu",
		  (unsigned long long)s->expired, (unsigned long long)s->by_write,
		  (unsigned long long)(s->expirations - s->by_write));
	util_note("violations %llu, undecided %llu, explained by the exception only %llu",
		  (unsigned long long)s->violations, (unsigned long long)s->undecided,
		  (unsigned long long)s->excepted);
	for (size_t k = 0; k < LIN_TIMED_KINDS; k++)
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

	for (size_t k = 0; k < LIN_TIMED_KINDS; k++) {
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
	uint64_t all = histories * operations;
#ifdef KVS_YIELD_RAND
	uint64_t share = 5;
#else
	uint64_t share = 50; /* processors may be few, and threads yield at the clock only */
#endif

	return s->overlapping >= all / share && s->expired >= all / 50 && s->moves >= all / 20 &&
	       s->by_write >= all / 200 && s->expirations - s->by_write >= all / 200 &&
	       answers_are_enough(s, all / 1000);
}

static void test_histories_with_deadlines_are_linearizable(void **state)
{
	size_t histories = util_scaled_full(4, 30, 200, 5000);
	size_t operations = util_scaled(4000, 20000, 20000);
	struct run *run = calloc(1, sizeof(*run));
	struct totals sum = { .histories = 0 };

	(void)state;
	check(run != NULL);
	run->each = operations / THREADS;
	for (size_t t = 0; t < THREADS; t++) {
		run->history.thread[t].ops = calloc(run->each, sizeof(struct lin_op));
		check(run->history.thread[t].ops != NULL);
	}
	run->history.clock.ops = calloc(operations, sizeof(struct lin_op));
	check(run->history.clock.ops != NULL);
	while (run->number < histories || !is_enough(&sum, histories, operations)) {
		run_history(run, &sum);
		run->number++;
	}
	print_totals(&sum);
	for (size_t t = 0; t < THREADS; t++)
		free(run->history.thread[t].ops);
	free(run->history.clock.ops);
	free(run);
	check(sum.histories >= histories);
	check_u64(sum.operations, sum.histories * (operations / THREADS) * THREADS);
	check(sum.batched >= sum.operations / 20);
	check(is_enough(&sum, histories, operations));
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
