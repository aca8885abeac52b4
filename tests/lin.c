/* SPDX-License-Identifier: MIT */
/*
 * lin.c - is a history linearizable? Exact, and near-linear in the number of operations.
 *
 * VERSIONS  First what needs no search. No version is written twice; what was read with a version
 * is what was written with it, to that key; a write that started after another of the key had
 * returned has the greater version. So a version names one write, and a key's state is one
 * number.
 *
 * ORDER  Then each key's operations in the order of their starts and ends. An operation that
 * overlaps no other has one place: it is applied. Operations that overlap are searched just in
 * time (Lowe, "Testing for linearizability", 2017): a configuration is a state and the set of
 * running operations that have taken effect already; when an operation returns, every
 * configuration in which it has not is extended by running ones, in each order, until it has. No
 * configuration left: a violation. Their number depends on how many threads meet on the key, not
 * on the length of the history; versions keep it small, since most operations fit one state only.
 *
 * Along a key that stays versions must grow: a write that finds version v writes a greater one.
 * After a delete they need not: of two overlapping inserts with a delete between them the later
 * may have the smaller version. Delete reports what it removed, so the search tells the lives
 * apart.
 *
 * TIME  The clock's moves are one more thread, whose operations are on every key: one that comes to the key's
 * deadline takes the key away. A deadline is some reading of the clock during the call plus the ttl; where the clock moved
 * meanwhile each reading is tried.
 *
 * THE EXCEPTION  A write that needs the key (replace, compare_and_set, get_and_set that tells what it replaced, expire,
 * touch) and found it before its deadline counts as before it, though it may take effect after. Until it does, others
 * are told that the key is gone. So once such a write was applied, and until it has returned or something else of
 * the key was seen or changed, NOT_FOUND is right from the old deadline on too.
 */
#include "lin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const lin_kind_names[LIN_NAMES] = {
	"set",    "add", "replace", "compare_and_set", "get_and_set", "get_and_delete",
	"delete", "get", "exists",  "expire",          "touch",       "clock",
};
static const char *const answer_names[LIN_ANSWERS] = { "OK", "NOT_FOUND", "DUPLICATE",
						       "VERSION_MISMATCH" };

/* ---- Reports ---- */

static void say(struct lin_verdict *v, const char *text)
{
	size_t used = strlen(v->why);

	snprintf(v->why + used, sizeof(v->why) - used, "%s", text);
}

static void say_op(struct lin_verdict *v, const char *before, const struct lin_op *op)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "%s[%" PRIu64 " %" PRIu64 "] %s key %" PRIu32 " -> %s version %" PRIu64
		 " value %#" PRIx64 " before %" PRIu64 " ttl %" PRId64 " expires %" PRId64,
		 before, op->start, op->end, lin_kind_names[op->kind], op->key,
		 answer_names[op->answer], op->version, op->value, op->before, op->ttl,
		 op->expires);
	say(v, text);
}

static void violation(struct lin_verdict *v, const char *what, const struct lin_op *op)
{
	v->outcome = LIN_VIOLATION;
	say(v, what);
	say_op(v, ": ", op);
}

static void undecided(struct lin_verdict *v, const char *what)
{
	v->outcome = LIN_UNDECIDED;
	say(v, what);
}

/* ---- What an operation does to a key ---- */

#define NOBODY 0

struct state {
	uint64_t version; /* 0: absent */
	uint64_t value;
	int64_t deadline; /* 0: none */
	int64_t now;
	int64_t late; /* the deadline of what the last write replaced, while it matters; see THE EXCEPTION */
	uint8_t late_by; /* whose write that was, its thread and 1, or NOBODY */
	bool expired;    /* absent because its deadline has passed */
};

/* A touch may have found what it was to write. */
static bool op_writes(const struct lin_op *op)
{
	return op->answer == LIN_OK && (op->kind <= LIN_GET_AND_SET || op->kind == LIN_EXPIRE);
}

static bool op_copies(const struct lin_op *op)
{
	return op->kind == LIN_GET || op->kind == LIN_GET_AND_DELETE;
}

static void leave(struct state *s, bool expired)
{
	s->version = 0;
	s->value = 0;
	s->deadline = 0;
	s->expired = expired;
}

static void tell_time(struct state *s, int64_t now)
{
	s->now = now;
	if (s->version && s->deadline && s->deadline <= now)
		leave(s, true);
}

/* From the present version to that of a write; false: they do not grow. */
static bool overwrite(struct state *s, uint64_t version, uint64_t value, int64_t deadline)
{
	if (s->version >= version)
		return false;
	s->version = version;
	s->value = value;
	s->deadline = deadline;
	s->expired = false;
	tell_time(s, s->now);
	return true;
}

static bool step_failure(const struct lin_op *op, const struct state *s)
{
	if (op->answer == LIN_NOT_FOUND)
		return s->version == 0 || (s->late_by != NOBODY && s->now >= s->late);
	if (op->answer == LIN_DUPLICATE)
		return s->version != 0 && s->version == op->version;
	return s->version != 0 && s->version == op->version && s->version != op->before;
}

static bool step_touch(const struct lin_op *op, struct state *s, int64_t deadline)
{
	bool longer = !s->deadline || (deadline && s->deadline >= deadline);

	if (s->version == 0)
		return false;
	return longer ? op->version == s->version : overwrite(s, op->version, s->value, deadline);
}

static bool step_success(const struct lin_op *op, struct state *s, int64_t deadline)
{
	bool there = s->version != 0;

	switch ((enum lin_kind)op->kind) {
	case LIN_SET:
		return overwrite(s, op->version, op->value, deadline);
	case LIN_ADD:
		return !there && overwrite(s, op->version, op->value, deadline);
	case LIN_REPLACE:
		return there && overwrite(s, op->version, op->value, deadline);
	case LIN_COMPARE_AND_SET:
		return there && s->version == op->before &&
		       overwrite(s, op->version, op->value, deadline);
	case LIN_GET_AND_SET:
		return s->version == op->before && (!there || s->value == op->before_value) &&
		       overwrite(s, op->version, op->value, deadline);
	case LIN_EXPIRE:
		return there && overwrite(s, op->version, s->value, deadline);
	case LIN_TOUCH:
		return step_touch(op, s, deadline);
	case LIN_EXISTS:
		return there;
	case LIN_GET_AND_DELETE:
	case LIN_DELETE:
	case LIN_GET:
		if (!there || s->version != op->version)
			return false;
		if (op_copies(op) && (s->value != op->value || s->deadline != op->expires))
			return false;
		if (op->kind != LIN_GET)
			leave(s, false);
		return true;
	default:
		return false;
	}
}

/*
 * Let @op of thread @by take effect on a key in state @s; its ttl ends at @deadline. false: it could not have
 * answered what it did.
 */
static bool step(const struct lin_op *op, uint8_t by, int64_t deadline, struct state *s)
{
	uint64_t version = s->version;
	int64_t late = s->deadline;

	if (op->kind == LIN_CLOCK) {
		tell_time(s, (int64_t)op->value);
		return true;
	}
	if (op->answer == LIN_NOT_FOUND)
		return step_failure(op, s);
	if (op->answer == LIN_OK ? !step_success(op, s, deadline) : !step_failure(op, s))
		return false;
	s->late_by = NOBODY;
	s->late = 0;
	if (version && late && s->version != version && op->kind != LIN_SET) {
		s->late_by = by;
		s->late = late;
	}
	return true;
}

/* ---- Versions and values ---- */

/* A hash table from version to the operation that wrote it. */
struct writes {
	const struct lin_op **slot;
	size_t mask;
};

static const struct lin_op **write_slot(const struct writes *w, uint64_t version)
{
	size_t i = (size_t)(version * UINT64_C(0x9e3779b97f4a7c15) >> 20) & w->mask;

	while (w->slot[i] != NULL && w->slot[i]->version != version)
		i = (i + 1) & w->mask;
	return &w->slot[i];
}

static bool writes_make(struct writes *w, const struct lin_history *h, struct lin_verdict *v)
{
	size_t room = 64;

	for (size_t t = 0; t < h->threads; t++)
		v->operations += h->thread[t].count;
	while (room < 2 * v->operations)
		room *= 2;
	w->mask = room - 1;
	w->slot = calloc(room, sizeof(*w->slot));
	if (w->slot == NULL)
		undecided(v, "no memory for the versions");
	return w->slot != NULL;
}

static bool writes_fill(struct writes *w, const struct lin_history *h, struct lin_verdict *v)
{
	for (size_t t = 0; t < h->threads; t++)
		for (size_t i = 0; i < h->thread[t].count; i++) {
			const struct lin_op *op = &h->thread[t].ops[i];
			const struct lin_op **slot;

			if (!op_writes(op))
				continue;
			slot = write_slot(w, op->version);
			if (op->version == 0 || *slot != NULL) {
				violation(v, "a version was given twice, or is 0", op);
				return false;
			}
			*slot = op;
		}
	for (size_t t = 0; t < h->threads; t++)
		for (size_t i = 0; i < h->thread[t].count; i++) {
			const struct lin_op *op = &h->thread[t].ops[i];
			const struct lin_op **slot;

			if (op->kind != LIN_TOUCH || op->answer != LIN_OK)
				continue;
			slot = write_slot(w, op->version);
			if (*slot == NULL)
				*slot = op;
		}
	return true;
}

/* Whether @version was written to @op's key, and, if @value is to be judged, with that value. */
static bool known(const struct writes *w, const struct lin_op *op, uint64_t version,
		  const uint64_t *value)
{
	const struct lin_op *by = *write_slot(w, version);

	if (by == NULL || by->key != op->key)
		return false;
	/* expire and touch keep the value that was there: that is the search's */
	return value == NULL || by->kind >= LIN_EXPIRE || by->value == *value;
}

static bool report_is_known(const struct writes *w, const struct lin_op *op)
{
	if (op->answer == LIN_OK && op->kind == LIN_GET_AND_SET && op->before != 0)
		return known(w, op, op->before, &op->before_value);
	if (op->answer == LIN_NOT_FOUND || op_writes(op) || op->kind == LIN_EXISTS)
		return true;
	return known(w, op, op->version, op->answer == LIN_OK && op_copies(op) ? &op->value : NULL);
}

static bool reports_check(const struct writes *w, const struct lin_history *h,
			  struct lin_verdict *v)
{
	for (size_t t = 0; t < h->threads; t++)
		for (size_t i = 0; i < h->thread[t].count; i++)
			if (!report_is_known(w, &h->thread[t].ops[i])) {
				violation(v, "nobody wrote that version, or not that value",
					  &h->thread[t].ops[i]);
				return false;
			}
	return true;
}

/* ---- One key ---- */

#define LISTS (LIN_THREADS + 1u)
#define CLOCK LIN_THREADS /* the list of the clock's moves */

struct config {
	struct state state;
	uint32_t done;  /* running operations that have taken effect, a bit for each thread */
	uint32_t moves; /* of the clock, that have */
};

struct key {
	struct lin_verdict *v;
	const struct lin_history *h;
	struct lin_thread of[LISTS]; /* its operations, by thread */
	size_t at[LISTS];            /* the next one of each, or the running one */
	uint32_t running;            /* a bit for each thread */
	uint32_t met;                /* of these, those that overlap another */
	uint64_t floor[LIN_THREADS]; /* greatest version returned before the start */
	uint32_t since[LISTS];       /* moves of the clock that had returned before the start */
	uint64_t greatest;           /* version returned by a write */
	struct config *now;
	struct config *work;
	size_t count;
	size_t room;                  /* of now and work */
	const struct lin_op *last[8]; /* that returned, for the report */
	size_t returned;
};

static const struct lin_op *op_of(const struct key *k, size_t t)
{
	return &k->of[t].ops[k->at[t]];
}

static int64_t clock_after(const struct key *k, uint32_t moves)
{
	return moves == 0 ? k->h->now : (int64_t)k->of[CLOCK].ops[moves - 1].value;
}

static bool is_same(const struct config *a, const struct config *b)
{
	return a->done == b->done && a->moves == b->moves && a->state.version == b->state.version &&
	       a->state.value == b->state.value && a->state.deadline == b->state.deadline &&
	       a->state.late == b->state.late && a->state.late_by == b->state.late_by &&
	       a->state.expired == b->state.expired;
}

/* Add @c, if it is new. false: no room. */
static bool push(struct config *list, size_t *count, size_t room, const struct config *c)
{
	for (size_t i = 0; i < *count; i++)
		if (is_same(&list[i], c))
			return true;
	if (*count == room)
		return false;
	list[(*count)++] = *c;
	return true;
}

/* The operation of @t takes effect, its ttl counted from when the clock had moved @from times. */
static bool take_effect(const struct key *k, size_t t, uint32_t from, struct config *c)
{
	const struct lin_op *op = op_of(k, t);
	int64_t deadline = op->ttl ? clock_after(k, from) + op->ttl : 0;

	if (!step(op, (uint8_t)(t + 1), deadline, &c->state))
		return false;
	if (k->h->strict) {
		c->state.late_by = NOBODY;
		c->state.late = 0;
	}
	c->done |= (uint32_t)1 << t;
	c->moves += t == CLOCK;
	return true;
}

/* @from, with the running operation of @t in effect, to the end of the work. false: no room. */
static bool extend_by(struct key *k, const struct config *from, size_t t, size_t *count)
{
	uint32_t first = op_of(k, t)->ttl ? k->since[t] : from->moves;

	for (uint32_t moves = first; moves <= from->moves; moves++) {
		struct config c = *from;

		if (take_effect(k, t, moves, &c) && !push(k->work, count, k->room, &c))
			return false;
	}
	return true;
}

/*
 * All configurations that running operations can lead to until @t's has taken effect; and from there, if that made an
 * exception, which ends now, those in which others have used it.
 */
static bool extend(struct key *k, size_t t, size_t *ret_count)
{
	uint32_t bit = (uint32_t)1 << t;
	size_t count = k->count;

	memcpy(k->work, k->now, count * sizeof(*k->work));
	for (size_t i = 0; i < count; i++) {
		struct config from = k->work[i];

		if (from.done & bit && from.state.late_by != t + 1)
			continue;
		for (size_t p = 0; p < LISTS; p++)
			if ((k->running & ~from.done & (uint32_t)1 << p) &&
			    !extend_by(k, &from, p, &count))
				return false;
	}
	*ret_count = count;
	return true;
}

/* The operation of @t has returned. */
static void forget(struct config *c, size_t t)
{
	c->done &= ~((uint32_t)1 << t);
	if (c->state.late_by == t + 1) {
		c->state.late_by = NOBODY;
		c->state.late = 0;
	}
}

static void no_order(struct key *k, const struct lin_op *op)
{
	violation(k->v, "no order of the operations explains", op);
	for (size_t p = 0; p < LISTS; p++)
		if (k->running & (uint32_t)1 << p && op_of(k, p) != op)
			say_op(k->v, "\n#   beside ", op_of(k, p));
	for (size_t i = 0; i < 4 && i < k->returned; i++)
		say_op(k->v, "\n#   after ", k->last[(k->returned - 1 - i) % 8]);
}

/* The operation of @t returns: keep what agrees with it. */
static void settle(struct key *k, size_t t)
{
	uint32_t bit = (uint32_t)1 << t;
	size_t count;

	if (!extend(k, t, &count)) {
		undecided(k->v, "too many configurations");
		return;
	}
	if (count > k->v->configs)
		k->v->configs = count;
	k->count = 0;
	for (size_t i = 0; i < count; i++)
		if (k->work[i].done & bit) {
			forget(&k->work[i], t);
			(void)push(k->now, &k->count, k->room, &k->work[i]);
		}
	if (k->count == 0)
		no_order(k, op_of(k, t));
}

/* Has the operation one place and one deadline only? */
static bool is_alone(const struct key *k, size_t t)
{
	if (k->running != (uint32_t)1 << t || k->count != 1 || k->now[0].done != 0)
		return false;
	return !op_of(k, t)->ttl || k->since[t] == k->now[0].moves;
}

static void apply(struct key *k, size_t t)
{
	if (!take_effect(k, t, k->now[0].moves, &k->now[0]))
		no_order(k, op_of(k, t));
	forget(&k->now[0], t);
}

static void check_versions(struct key *k, size_t t)
{
	const struct lin_op *op = op_of(k, t);

	if (!op_writes(op))
		return;
	if (op->version <= k->floor[t])
		violation(k->v, "a write that returned before it started has a greater version",
			  op);
	if (op->version < k->greatest)
		k->v->crossed++;
	else
		k->greatest = op->version;
}

static void check_deadline(struct key *k, size_t t)
{
	const struct lin_op *op = op_of(k, t);

	if (op->answer == LIN_OK && op_copies(op) && op->expires &&
	    op->expires <= clock_after(k, k->since[t]))
		violation(k->v, "a value is shown from its deadline on", op);
}

static void on_start(struct key *k, size_t t)
{
	k->since[t] = (uint32_t)k->at[CLOCK];
	k->running |= (uint32_t)1 << t;
	if (t == CLOCK)
		return;
	k->floor[t] = k->greatest;
	if (k->running & (k->running - 1) & ~((uint32_t)1 << CLOCK))
		k->met |= k->running;
}

static void on_end(struct key *k, size_t t)
{
	const struct lin_op *op = op_of(k, t);
	uint32_t bit = (uint32_t)1 << t;

	if (k->met & bit && t != CLOCK)
		k->v->overlapping++;
	if (t != CLOCK) {
		check_versions(k, t);
		check_deadline(k, t);
	}
	if (is_alone(k, t)) {
		apply(k, t);
	} else {
		k->v->searched += t != CLOCK;
		settle(k, t);
	}
	if (op->answer == LIN_NOT_FOUND && k->now[0].state.expired)
		k->v->expired++;
	k->running &= ~bit;
	k->met &= ~bit;
	k->last[k->returned++ % 8] = op;
	k->at[t]++;
}

/*
 * The next thing that happens on the key: a start before an end of the same tick. false: nothing.
 */
static bool next_event(struct key *k)
{
	uint64_t least = UINT64_MAX;
	size_t who = LISTS;
	bool start = false;

	for (size_t t = 0; t < LISTS; t++) {
		bool runs = k->running & (uint32_t)1 << t;
		uint64_t when;

		if (k->at[t] == k->of[t].count)
			continue;
		when = runs ? op_of(k, t)->end : op_of(k, t)->start;
		if (when < least || (when == least && !runs && !start)) {
			least = when;
			who = t;
			start = !runs;
		}
	}
	if (who == LISTS)
		return false;
	if (start)
		on_start(k, who);
	else
		on_end(k, who);
	return true;
}

static void check_key(struct key *k)
{
	memset(k->at, 0, sizeof(k->at));
	k->running = 0;
	k->met = 0;
	k->greatest = 0;
	k->returned = 0;
	k->now[0] = (struct config){ .state.now = k->h->now };
	k->count = 1;
	while (k->v->outcome == LIN_LINEARIZABLE && next_event(k))
		;
}

/* ---- All keys ---- */

/* A thread's operations, sorted by key; the order along a key stays. */
static bool split(const struct lin_thread *from, uint32_t keys, struct lin_op **ret_ops,
		  size_t **ret_first)
{
	size_t *first = calloc(keys + 2, sizeof(*first));
	struct lin_op *ops = malloc((from->count + 1) * sizeof(*ops));

	*ret_ops = ops;
	*ret_first = first;
	if (first == NULL || ops == NULL)
		return false;
	for (size_t i = 0; i < from->count; i++)
		first[from->ops[i].key + 2]++;
	for (uint32_t key = 0; key < keys; key++)
		first[key + 2] += first[key + 1];
	for (size_t i = 0; i < from->count; i++)
		ops[first[from->ops[i].key + 1]++] = from->ops[i];
	return true;
}

static void check_keys(const struct lin_history *h, struct key *k)
{
	struct lin_op *ops[LIN_THREADS] = { NULL };
	size_t *first[LIN_THREADS] = { NULL };
	bool ok = true;

	k->of[CLOCK] = h->clock;
	for (size_t t = 0; t < h->threads; t++)
		ok = split(&h->thread[t], h->keys, &ops[t], &first[t]) && ok;
	if (!ok)
		undecided(k->v, "no memory for the keys");
	for (uint32_t key = 0; key < h->keys && k->v->outcome == LIN_LINEARIZABLE; key++) {
		for (size_t t = 0; t < h->threads; t++)
			k->of[t] = (struct lin_thread){ ops[t] + first[t][key],
							first[t][key + 1] - first[t][key] };
		check_key(k);
	}
	for (size_t t = 0; t < h->threads; t++) {
		free(ops[t]);
		free(first[t]);
	}
}

void lin_check(const struct lin_history *h, struct lin_verdict *ret)
{
	struct key k = { .v = ret, .h = h };
	struct writes w = { NULL, 0 };

	memset(ret, 0, sizeof(*ret));
	k.room = h->configs_max ? h->configs_max : LIN_CONFIGS;
	k.now = malloc(k.room * sizeof(*k.now));
	k.work = malloc(k.room * sizeof(*k.work));
	if (k.now == NULL || k.work == NULL)
		undecided(ret, "no memory for the search");
	else if (writes_make(&w, h, ret) && writes_fill(&w, h, ret) && reports_check(&w, h, ret))
		check_keys(h, &k);
	free(k.now);
	free(k.work);
	free(w.slot);
}
