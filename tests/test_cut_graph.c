/* SPDX-License-Identifier: MIT */
/*
 * test_cut_graph.c - snapshots are operations: there is one order of all writes, reads and snapshots.
 *
 * Four threads write, delete and read few keys of different shards, all of them the same; a fifth makes
 * snapshots. cut_graph.c looks for an order that explains every answer. First it is checked itself,
 * by hand-made histories. Then the same with deadlines: a sixth moves the store's clock on, and turns the wheel, while
 * snapshots are made and walked.
 *
 * Finds more where threads yield inside operations (--enable-yield); see cut_near.h.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "cut_graph.h"
#include "cut_near.h"
#include "expiry.h"
#include "lin.h"

static void print_ops(const struct graph_op *ops, size_t n)
{
	static const char *const names[] = { "write", "delete", "read", "snapshot", "move" };

	for (size_t i = 0; i < n; i++)
		util_note("  [%llu %llu] %s key %u found %llu version %llu cut %llu %llu %llu %llu "
			  "deadline %lld",
			  (unsigned long long)ops[i].start, (unsigned long long)ops[i].end,
			  names[ops[i].kind], ops[i].key, (unsigned long long)ops[i].found,
			  (unsigned long long)ops[i].version, (unsigned long long)ops[i].cut[0],
			  (unsigned long long)ops[i].cut[1], (unsigned long long)ops[i].cut[2],
			  (unsigned long long)ops[i].cut[3], (long long)ops[i].deadline);
}

/* ---- The checker ------------------------------------------------------------------------ */

/* clang-format off */
#define W(key, start, end, found, version) { GRAPH_WRITE, key, start, end, found, version, { 0 }, 0 }
#define T(key, start, end, found, version, deadline) \
	{ GRAPH_WRITE, key, start, end, found, version, { 0 }, deadline }
#define D(key, start, end, found) { GRAPH_DELETE, key, start, end, found, 0, { 0 }, 0 }
#define R(key, start, end, found) { GRAPH_READ, key, start, end, found, 0, { 0 }, 0 }
#define S(start, end, a, b) { GRAPH_SNAPSHOT, 0, start, end, 0, 0, { a, b, 0, 0 }, 0 }
#define M(start, end, now) { GRAPH_MOVE, 0, start, end, 0, 0, { 0 }, now }
/* clang-format on */

#define EXCEPTED GRAPH_UNDECIDED

struct hand_made {
	const char *name;
	enum graph_outcome outcome; /* or EXCEPTED: a violation, but for the exception */
	struct graph_op ops[10];    /* end: 0 ends the list */
};

static const struct hand_made hand_made[] = {
	{ "one after the other",
	  GRAPH_RIGHT,
	  { W(0, 1, 2, 0, 1), W(1, 3, 4, 0, 2), S(5, 6, 1, 2), D(0, 7, 8, 1), S(9, 10, 0, 2) } },
	{ "a write that overlaps is in or out",
	  GRAPH_RIGHT,
	  { W(0, 1, 9, 0, 1), S(2, 3, 0, 0), S(4, 5, 1, 0) } },
	{ "what was done is not in", GRAPH_VIOLATION, { W(0, 1, 2, 0, 1), S(3, 4, 0, 0) } },
	{ "what was done later is in", GRAPH_VIOLATION, { S(1, 2, 1, 0), W(0, 3, 4, 0, 1) } },
	{ "what was deleted is in",
	  GRAPH_VIOLATION,
	  { W(0, 1, 2, 0, 1), D(0, 3, 4, 1), S(5, 6, 1, 0) } },
	{ "observer: x new, then y old; y without x",
	  GRAPH_VIOLATION,
	  { W(0, 1, 20, 0, 1), W(1, 1, 30, 0, 2), R(0, 5, 6, 1), R(1, 7, 8, 0), S(2, 29, 0, 2) } },
	{ "the same without the observer",
	  GRAPH_RIGHT,
	  { W(0, 1, 20, 0, 1), W(1, 1, 30, 0, 2), S(2, 29, 0, 2) } },
	{ "observer of a delete",
	  GRAPH_VIOLATION,
	  { W(0, 1, 2, 0, 1), W(1, 1, 2, 0, 2), D(0, 3, 20, 1), W(1, 3, 20, 2, 3), R(0, 5, 6, 0),
	    R(1, 7, 8, 2), S(4, 19, 1, 3) } },
	{ "absent between two lives",
	  GRAPH_RIGHT,
	  { W(0, 1, 2, 0, 1), D(0, 3, 4, 1), W(0, 5, 6, 0, 5), W(1, 1, 9, 0, 2), S(1, 9, 0, 2) } },
	{ "absent between two lives, and what lies there cannot be",
	  GRAPH_VIOLATION,
	  { W(0, 1, 2, 0, 1), W(1, 3, 4, 0, 2), D(1, 5, 6, 2), D(0, 7, 8, 1), S(2, 9, 0, 2) } },
	{ "absent, but the key stays",
	  GRAPH_VIOLATION,
	  { W(0, 1, 2, 0, 1), W(1, 1, 9, 0, 2), R(1, 3, 4, 2), S(1, 9, 1, 0), S(10, 11, 0, 2) } },
	{ "two snapshots cross",
	  GRAPH_VIOLATION,
	  { W(0, 1, 20, 0, 1), S(2, 3, 1, 0), S(4, 5, 0, 0) } },
	{ "the later version lived first",
	  GRAPH_RIGHT,
	  { W(0, 1, 20, 0, 5), D(0, 2, 30, 5), W(0, 1, 20, 0, 3), D(0, 2, 30, 3), R(0, 5, 6, 5),
	    R(0, 7, 8, 3) } },
	{ "each of two lives was seen before the other",
	  GRAPH_VIOLATION,
	  { W(0, 1, 20, 0, 5), D(0, 2, 30, 5), W(0, 1, 20, 0, 3), D(0, 2, 30, 3), R(0, 5, 6, 5),
	    R(0, 7, 8, 3), R(0, 9, 10, 5) } },
	{ "absent in the later gap, for what was seen before",
	  GRAPH_RIGHT,
	  { W(0, 1, 2, 0, 1), D(0, 3, 30, 1), W(0, 3, 30, 0, 2), D(0, 3, 30, 2), R(0, 5, 6, 2),
	    R(0, 7, 40, 0) } },
	{ "two writes replace the same",
	  GRAPH_VIOLATION,
	  { W(0, 1, 2, 0, 1), W(0, 3, 9, 1, 2), W(0, 3, 9, 1, 3) } },
	{ "a key is in the snapshots until its deadline",
	  GRAPH_RIGHT,
	  { T(0, 1, 2, 0, 1, 10), M(3, 4, 9), S(5, 6, 1, 0), M(7, 8, 10), S(9, 10, 0, 0),
	    W(0, 11, 12, 0, 2) } },
	{ "but not from it on",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), M(3, 4, 9), M(5, 6, 12), S(7, 8, 1, 0) } },
	{ "and it is before",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), M(3, 4, 9), S(5, 6, 0, 0), M(7, 8, 12) } },
	{ "what was read from the deadline on",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), M(3, 4, 12), R(0, 5, 6, 1) } },
	{ "two keys of one deadline go at once",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), T(1, 1, 2, 0, 2, 10), M(3, 9, 10), S(4, 8, 1, 0) } },
	{ "the one of the earlier deadline goes first",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), T(1, 1, 2, 0, 2, 11), M(3, 9, 10), M(10, 19, 11),
	    S(4, 18, 1, 0) } },
	{ "the snapshot has what was written after another had expired, and that",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), M(3, 40, 10), R(0, 5, 6, 0), W(1, 7, 8, 0, 2), S(4, 39, 1, 2) } },
	{ "renewed in time",
	  GRAPH_RIGHT,
	  { T(0, 1, 2, 0, 1, 10), T(0, 3, 20, 1, 2, 50), M(5, 6, 10), S(7, 8, 2, 0),
	    R(0, 21, 22, 2) } },
	{ "renewed too late",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), M(3, 4, 10), T(0, 5, 6, 1, 2, 50) } },
	{ "the exception: renewed in time, in effect later",
	  EXCEPTED,
	  { T(0, 1, 2, 0, 1, 10), T(0, 3, 20, 1, 2, 50), M(5, 6, 10), S(7, 8, 0, 0), R(0, 9, 10, 0),
	    R(0, 21, 22, 2) } },
	{ "no exception when the renewal has returned",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), T(0, 3, 20, 1, 2, 50), M(5, 6, 10), S(21, 22, 0, 0) } },
	{ "no exception before the deadline",
	  GRAPH_VIOLATION,
	  { T(0, 1, 2, 0, 1, 10), T(0, 3, 20, 1, 2, 50), R(0, 4, 5, 0), M(6, 7, 10) } },
};

static void test_checker_judges_hand_made_histories(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hand_made); i++) {
		const struct hand_made *h = &hand_made[i];
		enum graph_outcome got;
		const char *why;
		size_t n = 0;

		while (n < ARRAY_LEN(h->ops) && h->ops[n].end != 0)
			n++;
		util_context(h->name);
		got = graph_check(h->ops, n, &why);
		if (got != (h->outcome == EXCEPTED ? GRAPH_VIOLATION : h->outcome))
			util_fail(__FILE__, __LINE__, "outcome %d: %s", got, why ? why : "right");
		got = graph_check_excepting(h->ops, n, &why);
		if (got != (h->outcome == EXCEPTED ? GRAPH_RIGHT : h->outcome))
			util_fail(__FILE__, __LINE__, "with the exception: outcome %d: %s", got,
				  why ? why : "right");
	}
	util_context(NULL);
}

/* Small histories, judged by trying every order as well. */

#define SMALL_OPS 7u
#define SMALL_KEYS 2u

struct small {
	struct graph_op ops[SMALL_OPS];
	size_t count;
	uint64_t state[SMALL_KEYS]; /* versions */
	int64_t deadline[SMALL_KEYS];
	int64_t now;
	uint64_t lives;
	unsigned done; /* bits */
};

static void small_move(struct small *s, int64_t now)
{
	s->now = now;
	for (unsigned k = 0; k < SMALL_KEYS; k++)
		if (s->deadline[k] != 0 && s->deadline[k] <= now)
			s->state[k] = 0;
}

static bool small_fits(const struct graph_op *o, struct small *s)
{
	if (o->kind == GRAPH_SNAPSHOT)
		return o->cut[0] == s->state[0] && o->cut[1] == s->state[1];
	if (o->kind == GRAPH_MOVE) {
		small_move(s, o->deadline);
		return true;
	}
	if (o->found != s->state[o->key])
		return false;
	if (o->kind == GRAPH_READ)
		return true;
	s->state[o->key] = o->kind == GRAPH_WRITE ? o->version : 0;
	s->deadline[o->key] = o->deadline;
	return true;
}

static bool small_is_first(const struct small *s, size_t i)
{
	for (size_t j = 0; j < s->count; j++)
		if (!(s->done >> j & 1) && s->ops[j].end < s->ops[i].start)
			return false;
	return !(s->done >> i & 1);
}

static bool small_is_right(const struct small *s)
{
	for (size_t i = 0; i < s->count; i++) {
		struct small next = *s;

		next.done |= 1u << i;
		if (small_is_first(s, i) && small_fits(&s->ops[i], &next) && small_is_right(&next))
			return true;
	}
	return s->done == (1u << s->count) - 1;
}

/* What happens at one instant: versions fall from life to life and grow within one. */
static void small_one(struct small *s, struct graph_op *o, struct rng *r)
{
	uint64_t *state = &s->state[o->key];
	uint64_t how = rng_below(r, 8);

	if (rng_below(r, 4) == 0) {
		o->kind = GRAPH_MOVE;
		o->deadline = s->now + 1;
		small_move(s, o->deadline);
		return;
	}
	o->found = *state;
	o->kind = how < 3             ? GRAPH_WRITE
		  : how < 5 && *state ? GRAPH_DELETE
		  : how < 7           ? GRAPH_READ
				      : GRAPH_SNAPSHOT;
	if (o->kind == GRAPH_WRITE) {
		*state = o->version = *state ? *state + 1 : 1000 - 10 * ++s->lives;
		o->deadline = rng_below(r, 2) ? s->now + 1 + (int64_t)rng_below(r, 2) : 0;
		s->deadline[o->key] = o->deadline;
	} else if (o->kind == GRAPH_DELETE)
		*state = 0;
	else if (o->kind == GRAPH_SNAPSHOT)
		memcpy(o->cut, s->state, sizeof(s->state));
}

static void small_make(struct small *s, struct rng *r)
{
	memset(s, 0, sizeof(*s));
	s->count = 3 + rng_below(r, SMALL_OPS - 2);
	for (size_t i = 0; i < s->count; i++) {
		struct graph_op *o = &s->ops[i];

		o->key = (uint32_t)rng_below(r, SMALL_KEYS);
		small_one(s, o, r);
		o->start = 100 + 10 * i - (o->kind == GRAPH_MOVE ? 0 : rng_below(r, 20));
		o->end = 101 + 10 * i + (o->deadline != 0 ? rng_below(r, 8) : rng_below(r, 20));
	}
	memset(s->state, 0, sizeof(s->state));
	memset(s->deadline, 0, sizeof(s->deadline));
	s->now = 0;
}

/* Let one read or snapshot have seen what another operation has to do with. */
static void small_spoil(struct small *s, struct rng *r)
{
	struct graph_op *o = &s->ops[rng_below(r, s->count)];
	const struct graph_op *other = &s->ops[rng_below(r, s->count)];

	if (o->kind == GRAPH_SNAPSHOT)
		o->cut[other->key] = rng_below(r, 2) ? other->version : other->found;
	else if (o->kind == GRAPH_READ && o->key == other->key)
		o->found = rng_below(r, 2) ? other->version : other->found;
}

static void test_checker_agrees_with_every_order(void **state)
{
	uint64_t count = util_scaled(1500, 20000, 1000000), right = 0;
	struct rng r;

	(void)state;
	rng_init(&r, 1);
	for (uint64_t i = 0; i < count; i++) {
		struct small s;
		const char *why;
		bool want;

		small_make(&s, &r);
		for (uint64_t n = rng_below(&r, 60); n > 0; n--)
			small_spoil(&s, &r);
		want = small_is_right(&s);
		right += want;
		if (graph_check(s.ops, s.count, &why) != (want ? GRAPH_RIGHT : GRAPH_VIOLATION)) {
			print_ops(s.ops, s.count);
			util_fail(__FILE__, __LINE__, "history %llu: %s", (unsigned long long)i,
				  want ? why : "there is no order");
		}
	}
	util_note("%llu small histories, %llu of them right", (unsigned long long)count,
		  (unsigned long long)right);
	check(right >= count / 4 && count - right >= count / 10);
}

/* ---- The store -------------------------------------------------------------------------- */

#define THREADS 4u
#define SNAPSHOTS 4u
#define QUOTA 60u       /* operations of a thread around one snapshot */
#define HOLD_YIELDS 24u /* that a cut lasts for */

/* With deadlines: fewer operations, so that the moves of the clock have room among the nodes. */
#define TIMED_QUOTA 40u
#define MOVES_MAX (GRAPH_NODES - THREADS * SNAPSHOTS * TIMED_QUOTA - SNAPSHOTS)
#define START 1000     /* ms */
#define OVERTAKE 2     /* ms by which the clock may overtake an operation */
#define TTL_MAX 6u     /* and those are added */
#define IDLE INT64_MAX /* no operation */
#define OPS_A_MOVE 6u

struct run {
	struct kvs *kv;
	uint64_t number;
	_Atomic uint64_t snapshots; /* made */
	_Atomic bool hold;          /* the next cut is to last */
	_Atomic bool held;          /* it will */
	struct graph_op ops[THREADS][SNAPSHOTS * QUOTA];
	size_t count[THREADS];
	struct graph_op cuts[SNAPSHOTS];
	bool timed;
	_Atomic int64_t now;
	_Atomic int64_t
		since[THREADS]; /* when the running operation began, by the clock; or IDLE */
	struct graph_op moves[MOVES_MAX];
	_Atomic size_t move_count;
	_Atomic size_t moves_wanted; /* whatever the threads do */
	_Atomic size_t made;         /* operations */
	_Atomic uint64_t cutting;    /* snapshots made, and the one whose cut is being made */
};

struct totals {
	uint64_t histories, operations, snapshots, absent, deletes, undecided;
	uint64_t during; /* operations that overlap a begin */
	uint64_t moves, expired, handed, excepted, timed;
};

/* A write that did not take place was a read of what stood in its way. */
static void became_read(struct graph_op *o, int err)
{
	o->kind = GRAPH_READ;
	o->found = o->version;
	o->deadline = 0;
	if (err == KVS_ERR_NOT_FOUND)
		o->found = 0;
	else if (err != KVS_ERR_DUPLICATE)
		check_status(err, KVS_ERR_VERSION_MISMATCH);
}

static _Thread_local bool makes_cuts;

/* A thread that reads the clock may be overtaken, and who makes a cut by more. */
static int64_t clock_now(void *ctx)
{
	static _Thread_local uint64_t state;
	struct run *run = ctx;
	int64_t now;

	state = (state + (uintptr_t)&state) * UINT64_C(6364136223846793005) + 1442695040888963407;
	if ((state >> 33) % 8 == 0)
		sched_yield();
	if (makes_cuts)
		atomic_store(&run->cutting, atomic_load(&run->snapshots) + 1);
	now = atomic_load(&run->now);
	if ((state >> 40) % (makes_cuts ? 2 : 8) == 0)
		for (uint64_t n = makes_cuts ? HOLD_YIELDS : 1; n > 0; n--)
			sched_yield();
	return now;
}

/* From here to the end of the operation the clock moves by no more than OVERTAKE. */
static void clock_hold(struct run *run, size_t index)
{
	int64_t now;

	if (!run->timed)
		return;
	do {
		now = atomic_load(&run->now);
		atomic_store(&run->since[index], now);
	} while (atomic_load(&run->now) != now);
}

static void clock_release(struct run *run, size_t index)
{
	atomic_store(&run->since[index], IDLE);
}

static bool clock_may_move(const struct run *run)
{
	int64_t now = atomic_load(&run->now);
	size_t moves = atomic_load(&run->move_count);

	if (moves >= MOVES_MAX || (moves >= atomic_load(&run->moves_wanted) &&
				   moves >= atomic_load(&run->made) / OPS_A_MOVE))
		return false;
	for (size_t t = 0; t < THREADS; t++)
		if (now - atomic_load(&run->since[t]) >= OVERTAKE)
			return false;
	return true;
}

/* The threads do not leave the clock behind either, and half of what they do is kept until the cut is made. */
static bool is_too_early(const struct run *run, uint64_t snapshot, size_t i)
{
	size_t moves = atomic_load(&run->move_count);

	if (i >= TIMED_QUOTA / 2 && atomic_load(&run->cutting) <= snapshot)
		return true;
	return moves < MOVES_MAX && moves < atomic_load(&run->made) / OPS_A_MOVE;
}

static void clock_move(struct run *run)
{
	size_t n = atomic_load(&run->move_count);
	struct graph_op *o = &run->moves[n];

	memset(o, 0, sizeof(*o));
	o->kind = GRAPH_MOVE;
	o->deadline = atomic_load(&run->now) + 1;
	o->start = lin_ticks_before();
	atomic_store(&run->now, o->deadline);
	o->end = lin_ticks_after();
	atomic_store(&run->move_count, n + 1);
}

static void choose_deadline(struct run *run, struct graph_op *o, size_t index, struct rng *r)
{
	if (run->timed && rng_below(r, 16) != 0)
		o->deadline = atomic_load(&run->since[index]) + OVERTAKE + 1 +
			      (int64_t)rng_below(r, TTL_MAX);
}

/* What a thread does next: of each the share, in sixteenths. */
enum doing { DO_ADD, DO_COMPARE, DO_GET_AND_SET, DO_DELETE, DO_GET };

static enum doing choose(const struct run *run, struct rng *r)
{
	static const uint8_t shares[2][DO_GET] = { { 2, 2, 2, 4 }, { 6, 4, 0, 2 } };
	uint64_t at = rng_below(r, 16);
	unsigned how = DO_ADD;

	while (how < DO_GET && at >= shares[run->timed][how])
		at -= shares[run->timed][how++];
	return (enum doing)how;
}

static int write_one(struct kvs *kv, struct graph_op *o, struct kvs_slice key, enum doing how,
		     uint64_t expected)
{
	struct kvs_value old = { NULL, 0, 0, 0 };
	int err;

	o->kind = GRAPH_WRITE;
	if (how == DO_ADD) {
		err = kvs_add_ex(kv, key, key, kvs_at(o->deadline), &o->version);
	} else if (how == DO_COMPARE) {
		o->found = expected;
		err = kvs_compare_and_set_ex(kv, key, key, expected, kvs_at(o->deadline),
					     &o->version);
	} else {
		err = kvs_get_and_set(kv, key, key, &old, &o->version);
		o->found = old.version;
		kvs_value_free(kv, &old);
	}
	return err;
}

static int other_one(struct kvs *kv, struct graph_op *o, struct kvs_slice key, bool is_delete)
{
	struct kvs_value got = { NULL, 0, 0, 0 };
	char room[KEY_ROOM];
	int err;

	if (is_delete) {
		o->kind = GRAPH_DELETE;
		return kvs_delete(kv, key, &o->found);
	}
	o->kind = GRAPH_READ;
	err = kvs_get(kv, key, room, sizeof(room), &got);
	o->version = got.version;
	o->found = got.version;
	o->deadline = got.expires_at_ms;
	return err;
}

static void make_one(struct run *run, struct graph_op *o, size_t index, struct rng *r,
		     uint64_t seen[GRAPH_KEYS])
{
	enum doing how = choose(run, r);
	char room[KEY_ROOM];
	struct kvs_slice key;
	int err;

	memset(o, 0, sizeof(*o));
	o->key = (uint32_t)rng_below(r, GRAPH_KEYS);
	key = make_key(room, o->key);
	clock_hold(run, index);
	if (how == DO_ADD || how == DO_COMPARE)
		choose_deadline(run, o, index, r);
	o->start = lin_ticks_before();
	if (how < DO_DELETE)
		err = write_one(run->kv, o, key, how, seen[o->key]);
	else
		err = other_one(run->kv, o, key, how == DO_DELETE);
	o->end = lin_ticks_after();
	clock_release(run, index);
	if (err)
		became_read(o, err);
	seen[o->key] = o->version ? o->version : o->found;
	atomic_fetch_add(&run->made, 1);
}

static size_t quota(const struct run *run)
{
	return run->timed ? TIMED_QUOTA : QUOTA;
}

static void work(size_t index, void *arg)
{
	struct run *run = arg;
	uint64_t seen[GRAPH_KEYS] = { 0 };
	struct rng r;

	rng_init(&r, run->number * THREADS + index);
	for (uint64_t n = 0; n < SNAPSHOTS; n++) {
		for (size_t i = 0; i < quota(run) && atomic_load(&run->snapshots) <= n; i++) {
			make_one(run, &run->ops[index][run->count[index]++], index, &r, seen);
			while (run->timed && atomic_load(&run->snapshots) <= n &&
			       is_too_early(run, n, i))
				sched_yield();
			if (rng_below(&r, 16) == 0)
				sched_yield();
		}
		while (atomic_load(&run->snapshots) <= n)
			sched_yield();
	}
}

/* Stay in a section while a cut is made, so that the grace period before it does not end at once. */
static void hold_cuts(struct run *run)
{
	struct rng r;

	rng_init(&r, run->number * THREADS);
	while (atomic_load(&run->snapshots) < SNAPSHOTS) {
		if (atomic_exchange(&run->hold, false)) {
			kvs_read_begin(run->kv);
			atomic_store(&run->held, true);
			for (uint64_t n = rng_below(&r, HOLD_YIELDS); n > 0; n--)
				sched_yield();
			kvs_read_end(run->kv);
		}
		sched_yield();
	}
}

/* The clock goes on as long as there is room for it, and the wheel is turned. */
static void move_clock(struct run *run)
{
	struct rng r;

	rng_init(&r, run->number * THREADS + 1000000);
	while (atomic_load(&run->snapshots) < SNAPSHOTS) {
		uint64_t budget = 16;

		if (clock_may_move(run))
			clock_move(run);
		if (rng_below(&r, 4) == 0)
			(void)kvs__expiry_pass(run->kv, atomic_load(&run->now), &budget);
		sched_yield();
	}
}

static void member(size_t index, void *arg)
{
	if (index < THREADS)
		work(index, arg);
	else if (index == THREADS)
		hold_cuts(arg);
	else
		move_clock(arg);
}

/* What is in the snapshot and has a deadline expires before it is walked; or only what does so by itself. */
static void let_expire(struct run *run)
{
	size_t until = atomic_load(&run->move_count) + TTL_MAX + OVERTAKE;
	uint64_t budget = 64;

	if (!run->timed || run->number % 4 == 3)
		return;
	until = until < MOVES_MAX ? until : MOVES_MAX;
	atomic_store(&run->moves_wanted, until);
	while (atomic_load(&run->move_count) < until)
		sched_yield();
	(void)kvs__expiry_pass(run->kv, atomic_load(&run->now), &budget);
}

/* The deadline that was given to what has @version. */
static int64_t deadline_of(const struct run *run, uint64_t version)
{
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < run->count[t]; i++)
			if (run->ops[t][i].kind == GRAPH_WRITE && run->ops[t][i].version == version)
				return run->ops[t][i].deadline;
	return 0;
}

struct taking {
	struct graph_op *op;
	int64_t expires[GRAPH_KEYS];
};

static void take(const struct kvs_item *item, void *arg)
{
	struct taking *t = arg;
	uint64_t key = key_number(item->key);

	check(key < GRAPH_KEYS && t->op->cut[key] == 0);
	t->op->cut[key] = item->value.version;
	t->expires[key] = item->value.expires_at_ms;
}

static void snapshot(struct run *run, struct graph_op *o, int64_t expires[GRAPH_KEYS])
{
	struct taking taking = { .op = o };
	struct kvs_snapshot *s;
	uint64_t n;

	memset(o, 0, sizeof(*o));
	o->kind = GRAPH_SNAPSHOT;
	atomic_store(&run->held, false);
	atomic_store(&run->hold, true);
	while (!atomic_load(&run->held))
		sched_yield();
	o->start = lin_ticks_before();
	s = near_begin(run->kv);
	o->end = lin_ticks_after();
	let_expire(run);
	n = near_walk(s, take, &taking);
	near_end(s, n);
	memcpy(expires, taking.expires, sizeof(taking.expires));
	atomic_fetch_add(&run->snapshots, 1);
}

static size_t collect(const struct run *run, struct graph_op *all, struct totals *sum)
{
	size_t n = 0;

	for (size_t t = 0; t < THREADS; t++) {
		memcpy(all + n, run->ops[t], run->count[t] * sizeof(*all));
		n += run->count[t];
	}
	for (size_t i = 0; i < n; i++) {
		sum->deletes += all[i].kind == GRAPH_DELETE;
		for (size_t s = 0; s < SNAPSHOTS; s++)
			sum->during +=
				all[i].start < run->cuts[s].end && all[i].end > run->cuts[s].start;
	}
	memcpy(all + n, run->cuts, sizeof(run->cuts));
	for (size_t s = 0; s < SNAPSHOTS; s++)
		for (size_t k = 0; k < GRAPH_KEYS; k++)
			sum->absent += run->cuts[s].cut[k] == 0;
	sum->operations += n;
	sum->snapshots += SNAPSHOTS;
	sum->histories++;
	n += SNAPSHOTS;
	memcpy(all + n, run->moves, run->move_count * sizeof(*all));
	sum->moves += run->move_count;
	return n + run->move_count;
}

/* What is told of a version has the deadline that it was given. */
static void check_deadlines(const struct run *run, int64_t expires[SNAPSHOTS][GRAPH_KEYS],
			    struct totals *sum)
{
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < run->count[t]; i++) {
			const struct graph_op *o = &run->ops[t][i];

			if (o->kind == GRAPH_READ && o->deadline != 0)
				check(o->deadline == deadline_of(run, o->version));
		}
	for (size_t s = 0; s < SNAPSHOTS; s++)
		for (size_t k = 0; k < GRAPH_KEYS; k++) {
			check(expires[s][k] == deadline_of(run, run->cuts[s].cut[k]));
			sum->timed += expires[s][k] != 0;
		}
}

static enum graph_outcome judge(const struct graph_op *all, size_t n, struct totals *sum,
				const char **ret_why)
{
	enum graph_outcome outcome = graph_check(all, n, ret_why);

	if (outcome == GRAPH_VIOLATION) {
		outcome = graph_check_excepting(all, n, ret_why);
		sum->excepted += outcome == GRAPH_RIGHT;
	}
	sum->undecided += outcome == GRAPH_UNDECIDED;
	return outcome;
}

static void run_open(struct run *run)
{
	struct kvs_clock clock = { clock_now, clock_now, run };

	memset(run->count, 0, sizeof(run->count));
	atomic_store(&run->snapshots, 0);
	atomic_store(&run->move_count, 0);
	atomic_store(&run->moves_wanted, 0);
	atomic_store(&run->made, 0);
	atomic_store(&run->cutting, 0);
	atomic_store(&run->now, START);
	for (size_t t = 0; t < THREADS; t++)
		clock_release(run, t);
	run->kv = near_open(64, run->timed ? &clock : NULL);
}

static void run_history(struct run *run, struct totals *sum)
{
	static struct graph_op all[GRAPH_NODES];
	int64_t expires[SNAPSHOTS][GRAPH_KEYS];
	enum graph_outcome outcome;
	struct kvs_stats stats;
	struct crew crew;
	const char *why;
	size_t n;

	run_open(run);
	makes_cuts = true;
	crew_start(&crew, THREADS + 1 + run->timed, member, run);
	for (size_t i = 0; i < SNAPSHOTS; i++)
		snapshot(run, &run->cuts[i], expires[i]);
	crew_join(&crew);
	stats = store_stats(run->kv);
	sum->expired += stats.expirations;
	sum->handed += stats.handed_over;
	near_close(run->kv);
	check_deadlines(run, expires, sum);
	n = collect(run, all, sum);
	outcome = judge(all, n, sum, &why);
	if (outcome == GRAPH_RIGHT)
		return;
	if (getenv("KVS_TEST_PRINT") != NULL)
		print_ops(all, n);
	if (outcome == GRAPH_VIOLATION)
		util_fail(__FILE__, __LINE__, "history %llu is not linearizable: %s",
			  (unsigned long long)run->number, why);
}

/* Whether as much has happened as in @histories; threads that run late do little in one. */
static bool is_enough(const struct totals *sum, size_t histories)
{
	return sum->absent >= histories / 4 && sum->deletes >= 10 * histories &&
	       sum->during >= 4 * histories;
}

/* Whether the clock has taken from under the snapshots what they were to have, often enough. */
static bool is_enough_time(const struct totals *sum, size_t histories)
{
	return sum->moves >= 40 * histories && sum->expired >= 20 * histories &&
	       sum->handed >= 2 * histories && sum->timed >= 2 * histories &&
	       sum->during >= 4 * histories;
}

/* Histories, as many as were asked for and until as much has happened in them as must. */
static struct totals run_histories(bool timed, size_t histories,
				   bool (*enough)(const struct totals *sum, size_t histories))
{
	struct run *run = calloc(1, sizeof(*run));
	struct totals sum = { .histories = 0 };

	check(run != NULL);
	run->timed = timed;
	for (; run->number < histories || !enough(&sum, histories); run->number++)
		run_history(run, &sum);
	free(run);
	util_note("%llu histories, %llu operations, %llu snapshots, %llu moves of the clock",
		  (unsigned long long)sum.histories, (unsigned long long)sum.operations,
		  (unsigned long long)sum.snapshots, (unsigned long long)sum.moves);
	util_note(
		"%llu keys absent in a snapshot, %llu deletes, operations that overlap a begin %llu",
		(unsigned long long)sum.absent, (unsigned long long)sum.deletes,
		(unsigned long long)sum.during);
	util_note("violations 0, undecided %llu, explained by the exception only %llu",
		  (unsigned long long)sum.undecided, (unsigned long long)sum.excepted);
	check_u64(sum.undecided, 0);
	check(enough(&sum, histories));
	return sum;
}

static void test_histories_with_snapshots_are_linearizable(void **state)
{
	(void)state;
	(void)run_histories(false, util_scaled_full(6, 50, 200, 10000), is_enough);
}

static void test_histories_with_deadlines_and_snapshots_are_linearizable(void **state)
{
	struct totals sum;

	(void)state;
	sum = run_histories(true, util_scaled_full(30, 40, 200, 10000), is_enough_time);
	util_note(
		"in snapshots: keys with a deadline %llu; handed over to them %llu; expirations %llu",
		(unsigned long long)sum.timed, (unsigned long long)sum.handed,
		(unsigned long long)sum.expired);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checker_judges_hand_made_histories),
		cmocka_unit_test(test_checker_agrees_with_every_order),
		cmocka_unit_test(test_histories_with_snapshots_are_linearizable),
		cmocka_unit_test(test_histories_with_deadlines_and_snapshots_are_linearizable),
	};

	return util_main("cut_graph", tests, ARRAY_LEN(tests));
}
