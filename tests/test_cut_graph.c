/* SPDX-License-Identifier: MIT */
/*
 * test_cut_graph.c - snapshots are operations: there is one order of all writes, reads and snapshots.
 *
 * Four threads write, delete and read few keys of different shards, all of them the same; a fifth makes
 * snapshots. cut_graph.c looks for an order that explains every answer. First it is checked itself,
 * by hand-made histories.
 *
 * Finds more where threads yield inside operations (--enable-yield); see cut_near.h.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "cut_graph.h"
#include "cut_near.h"
#include "lin.h"

static void print_ops(const struct graph_op *ops, size_t n)
{
	static const char *const names[] = { "write", "delete", "read", "snapshot" };

	for (size_t i = 0; i < n; i++)
		util_note("  [%llu %llu] %s key %u found %llu version %llu cut %llu %llu %llu %llu",
			  (unsigned long long)ops[i].start, (unsigned long long)ops[i].end,
			  names[ops[i].kind], ops[i].key, (unsigned long long)ops[i].found,
			  (unsigned long long)ops[i].version, (unsigned long long)ops[i].cut[0],
			  (unsigned long long)ops[i].cut[1], (unsigned long long)ops[i].cut[2],
			  (unsigned long long)ops[i].cut[3]);
}

/* ---- The checker ------------------------------------------------------------------------ */

#define W(key, start, end, found, version)                                                         \
	{                                                                                          \
		GRAPH_WRITE, key, start, end, found, version,                                      \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}
#define D(key, start, end, found)                                                                  \
	{                                                                                          \
		GRAPH_DELETE, key, start, end, found, 0,                                           \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}
#define R(key, start, end, found)                                                                  \
	{                                                                                          \
		GRAPH_READ, key, start, end, found, 0,                                             \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}
#define S(start, end, a, b)                                                                        \
	{                                                                                          \
		GRAPH_SNAPSHOT, 0, start, end, 0, 0,                                               \
		{                                                                                  \
			a, b, 0, 0                                                                 \
		}                                                                                  \
	}

struct hand_made {
	const char *name;
	enum graph_outcome outcome;
	struct graph_op ops[10]; /* end: 0 ends the list */
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
		if (got != h->outcome)
			util_fail(__FILE__, __LINE__, "outcome %d: %s", got, why ? why : "right");
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
	uint64_t lives;
	unsigned done; /* bits */
};

static bool small_fits(const struct graph_op *o, uint64_t state[SMALL_KEYS])
{
	if (o->kind == GRAPH_SNAPSHOT)
		return o->cut[0] == state[0] && o->cut[1] == state[1];
	if (o->found != state[o->key])
		return false;
	if (o->kind != GRAPH_READ)
		state[o->key] = o->kind == GRAPH_WRITE ? o->version : 0;
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
		if (small_is_first(s, i) && small_fits(&s->ops[i], next.state) &&
		    small_is_right(&next))
			return true;
	}
	return s->done == (1u << s->count) - 1;
}

/* What happens at one instant: versions fall from life to life and grow within one. */
static void small_one(struct small *s, struct graph_op *o, struct rng *r)
{
	uint64_t *state = &s->state[o->key];
	uint64_t how = rng_below(r, 8);

	o->found = *state;
	o->kind = how < 3             ? GRAPH_WRITE
		  : how < 5 && *state ? GRAPH_DELETE
		  : how < 7           ? GRAPH_READ
				      : GRAPH_SNAPSHOT;
	if (o->kind == GRAPH_WRITE)
		*state = o->version = *state ? *state + 1 : 1000 - 10 * ++s->lives;
	else if (o->kind == GRAPH_DELETE)
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
		o->start = 100 + 10 * i - rng_below(r, 20);
		o->end = 101 + 10 * i + rng_below(r, 20);
		small_one(s, o, r);
	}
	memset(s->state, 0, sizeof(s->state));
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
		for (uint64_t n = rng_below(&r, 12); n > 0; n--)
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

struct run {
	struct kvs *kv;
	uint64_t number;
	_Atomic uint64_t snapshots; /* made */
	_Atomic bool hold;          /* the next cut is to last */
	_Atomic bool held;          /* it will */
	struct graph_op ops[THREADS][SNAPSHOTS * QUOTA];
	size_t count[THREADS];
	struct graph_op cuts[SNAPSHOTS];
};

struct totals {
	uint64_t histories, operations, snapshots, absent, deletes, undecided;
	uint64_t during; /* operations that overlap a begin */
};

/* A write that did not take place was a read of what stood in its way. */
static void became_read(struct graph_op *o, int err)
{
	o->kind = GRAPH_READ;
	o->found = o->version;
	if (err == KVS_ERR_NOT_FOUND)
		o->found = 0;
	else if (err != KVS_ERR_DUPLICATE)
		check_status(err, KVS_ERR_VERSION_MISMATCH);
}

static int write_one(struct kvs *kv, struct graph_op *o, struct kvs_slice key, uint64_t how,
		     uint64_t expected)
{
	struct kvs_value old = { NULL, 0, 0, 0 };
	int err;

	o->kind = GRAPH_WRITE;
	if (how == 0) {
		err = kvs_add(kv, key, key, &o->version);
	} else if (how == 1) {
		o->found = expected;
		err = kvs_compare_and_set(kv, key, key, expected, &o->version);
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
	return err;
}

static void make_one(struct run *run, struct graph_op *o, struct rng *r, uint64_t seen[GRAPH_KEYS])
{
	uint64_t how = rng_below(r, 8);
	char room[KEY_ROOM];
	struct kvs_slice key;
	int err;

	memset(o, 0, sizeof(*o));
	o->key = (uint32_t)rng_below(r, GRAPH_KEYS);
	key = make_key(room, o->key);
	o->start = lin_ticks_before();
	if (how < 3)
		err = write_one(run->kv, o, key, how, seen[o->key]);
	else
		err = other_one(run->kv, o, key, how < 5);
	o->end = lin_ticks_after();
	if (err)
		became_read(o, err);
	seen[o->key] = o->version ? o->version : o->found;
}

static void work(size_t index, void *arg)
{
	struct run *run = arg;
	uint64_t seen[GRAPH_KEYS] = { 0 };
	struct rng r;

	rng_init(&r, run->number * THREADS + index);
	for (uint64_t n = 0; n < SNAPSHOTS; n++) {
		for (size_t i = 0; i < QUOTA && atomic_load(&run->snapshots) <= n; i++) {
			make_one(run, &run->ops[index][run->count[index]++], &r, seen);
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

static void member(size_t index, void *arg)
{
	if (index < THREADS)
		work(index, arg);
	else
		hold_cuts(arg);
}

static void take(const struct kvs_item *item, void *arg)
{
	struct graph_op *o = arg;
	uint64_t key = key_number(item->key);

	check(key < GRAPH_KEYS && o->cut[key] == 0);
	o->cut[key] = item->value.version;
}

static void snapshot(struct run *run, struct graph_op *o)
{
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
	n = near_walk(s, take, o);
	near_end(s, n);
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
	return n + SNAPSHOTS;
}

static void run_history(struct run *run, struct totals *sum)
{
	static struct graph_op all[GRAPH_NODES];
	enum graph_outcome outcome;
	struct crew crew;
	const char *why;
	size_t n;

	memset(run->count, 0, sizeof(run->count));
	atomic_store(&run->snapshots, 0);
	run->kv = near_open(64);
	crew_start(&crew, THREADS + 1, member, run);
	for (size_t i = 0; i < SNAPSHOTS; i++)
		snapshot(run, &run->cuts[i]);
	crew_join(&crew);
	near_close(run->kv);
	n = collect(run, all, sum);
	outcome = graph_check(all, n, &why);
	sum->undecided += outcome == GRAPH_UNDECIDED;
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

static void test_histories_with_snapshots_are_linearizable(void **state)
{
	size_t histories = util_scaled_full(6, 50, 200, 10000);
	struct run *run = calloc(1, sizeof(*run));
	struct totals sum = { .histories = 0 };

	(void)state;
	check(run != NULL);
	for (run->number = 0; run->number < histories || !is_enough(&sum, histories); run->number++)
		run_history(run, &sum);
	util_note(
		"%llu histories, %llu operations, %llu snapshots, %llu keys absent in one, %llu deletes",
		(unsigned long long)sum.histories, (unsigned long long)sum.operations,
		(unsigned long long)sum.snapshots, (unsigned long long)sum.absent,
		(unsigned long long)sum.deletes);
	util_note("operations that overlap a begin %llu, violations 0, undecided %llu",
		  (unsigned long long)sum.during, (unsigned long long)sum.undecided);
	check_u64(sum.undecided, 0);
	check(is_enough(&sum, histories));
	free(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checker_judges_hand_made_histories),
		cmocka_unit_test(test_checker_agrees_with_every_order),
		cmocka_unit_test(test_histories_with_snapshots_are_linearizable),
	};

	return util_main("cut_graph", tests, ARRAY_LEN(tests));
}
