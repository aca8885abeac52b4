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
 */
#include "lin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[LIN_KINDS] = {
	"set",    "add", "replace", "compare_and_set", "get_and_set", "get_and_delete",
	"delete", "get", "exists",
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
		 " value %#" PRIx64 " before %" PRIu64,
		 before, op->start, op->end, kind_names[op->kind], op->key,
		 answer_names[op->answer], op->version, op->value, op->before);
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

static bool op_writes(const struct lin_op *op)
{
	return op->answer == LIN_OK && op->kind <= LIN_GET_AND_SET;
}

/* From the present version to that of a write; false: they do not grow. */
static bool overwrite(uint64_t *state, uint64_t version)
{
	if (*state >= version)
		return false;
	*state = version;
	return true;
}

static bool step_failure(const struct lin_op *op, uint64_t state)
{
	if (op->answer == LIN_NOT_FOUND)
		return state == 0;
	if (op->answer == LIN_DUPLICATE)
		return state != 0 && state == op->version;
	return state != 0 && state == op->version && state != op->before;
}

/* Let @op take effect on a key in @state. false: it could not have answered what it did. */
static bool step(const struct lin_op *op, uint64_t *state)
{
	if (op->answer != LIN_OK)
		return step_failure(op, *state);
	switch ((enum lin_kind)op->kind) {
	case LIN_SET:
		return overwrite(state, op->version);
	case LIN_ADD:
		return *state == 0 && overwrite(state, op->version);
	case LIN_REPLACE:
		return *state != 0 && overwrite(state, op->version);
	case LIN_COMPARE_AND_SET:
		return *state != 0 && *state == op->before && overwrite(state, op->version);
	case LIN_GET_AND_SET:
		return *state == op->before && overwrite(state, op->version);
	case LIN_GET_AND_DELETE:
	case LIN_DELETE:
		if (*state == 0 || *state != op->version)
			return false;
		*state = 0;
		return true;
	case LIN_GET:
		return *state != 0 && *state == op->version;
	case LIN_EXISTS:
		return *state != 0;
	case LIN_KINDS:
		break;
	}
	return false;
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
	return true;
}

/* Whether @version was written to @op's key, and, if @value is to be judged, with that value. */
static bool known(const struct writes *w, const struct lin_op *op, uint64_t version,
		  const uint64_t *value)
{
	const struct lin_op *by = *write_slot(w, version);

	return by != NULL && by->key == op->key && (value == NULL || by->value == *value);
}

static bool report_is_known(const struct writes *w, const struct lin_op *op)
{
	bool copies = op->kind == LIN_GET || op->kind == LIN_GET_AND_DELETE;

	if (op->answer == LIN_OK && op->kind == LIN_GET_AND_SET && op->before != 0)
		return known(w, op, op->before, &op->before_value);
	if (op->answer == LIN_NOT_FOUND || op_writes(op) || op->kind == LIN_EXISTS)
		return true;
	return known(w, op, op->version, op->answer == LIN_OK && copies ? &op->value : NULL);
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

struct config {
	uint64_t state;
	uint32_t done; /* running operations that have taken effect, a bit for each thread */
};

struct key {
	struct lin_verdict *v;
	struct lin_thread of[LIN_THREADS]; /* its operations, by thread */
	size_t at[LIN_THREADS];            /* the next one of each, or the running one */
	uint32_t running;                  /* a bit for each thread */
	uint32_t met;                      /* of these, those that overlap another */
	uint64_t floor[LIN_THREADS];       /* greatest version returned before the start */
	uint64_t greatest;                 /* version returned by a write */
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

/* Add @c, if it is new. false: no room. */
static bool push(struct config *list, size_t *count, size_t room, struct config c)
{
	for (size_t i = 0; i < *count; i++)
		if (list[i].state == c.state && list[i].done == c.done)
			return true;
	if (*count == room)
		return false;
	list[(*count)++] = c;
	return true;
}

/* All configurations that running operations can lead to until @t's has taken effect. */
static bool extend(struct key *k, size_t t, size_t *ret_count)
{
	uint32_t bit = (uint32_t)1 << t;
	size_t count = k->count;

	memcpy(k->work, k->now, count * sizeof(*k->work));
	for (size_t i = 0; i < count; i++) {
		if (k->work[i].done & bit)
			continue;
		for (size_t p = 0; p < LIN_THREADS; p++) {
			struct config c = k->work[i];
			uint32_t other = (uint32_t)1 << p;

			if (!(k->running & ~c.done & other) || !step(op_of(k, p), &c.state))
				continue;
			c.done |= other;
			if (!push(k->work, &count, k->room, c))
				return false;
		}
	}
	*ret_count = count;
	return true;
}

static void no_order(struct key *k, const struct lin_op *op)
{
	violation(k->v, "no order of the operations explains", op);
	for (size_t p = 0; p < LIN_THREADS; p++)
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
			k->work[i].done &= ~bit;
			(void)push(k->now, &k->count, k->room, k->work[i]);
		}
	if (k->count == 0)
		no_order(k, op_of(k, t));
}

static void on_start(struct key *k, size_t t)
{
	k->floor[t] = k->greatest;
	k->running |= (uint32_t)1 << t;
	if (k->running & (k->running - 1))
		k->met |= k->running;
}

static void on_end(struct key *k, size_t t)
{
	const struct lin_op *op = op_of(k, t);
	uint32_t bit = (uint32_t)1 << t;

	if (k->met & bit)
		k->v->overlapping++;
	if (op_writes(op)) {
		if (op->version <= k->floor[t])
			violation(k->v,
				  "a write that returned before it started has a greater version",
				  op);
		if (op->version < k->greatest)
			k->v->crossed++;
		else
			k->greatest = op->version;
	}
	if (k->running == bit && k->count == 1 && k->now[0].done == 0) {
		if (!step(op, &k->now[0].state))
			no_order(k, op);
	} else {
		k->v->searched++;
		settle(k, t);
	}
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
	size_t who = LIN_THREADS;
	bool start = false;

	for (size_t t = 0; t < LIN_THREADS; t++) {
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
	if (who == LIN_THREADS)
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
	k->now[0] = (struct config){ 0, 0 };
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
	struct key k = { .v = ret };
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
