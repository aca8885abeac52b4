/* SPDX-License-Identifier: MIT */
/*
 * stress.h - what the stress programs share: goals, and tables that grow and shrink.
 *
 * GOALS  A stress test means something only if enough happened. So its threads do not run for a
 * time or a number of rounds: each runs until every goal of the test is reached, by whichever
 * thread.
 *
 * TIDE  Filler keys that come and go, so that a table grows and shrinks. The test holds the
 * store's admin lock, which keeps the store's own thread from shrinking, and makes shrink's steps
 * itself.
 */
#ifndef KVS_TESTS_STRESS_H
#define KVS_TESTS_STRESS_H

#include "util.h"

#include "maintain.h"

/* ---- Goals ------------------------------------------------------------------------------ */

#define GOALS 8

struct goal {
	const char *name;
	uint64_t floor;
	_Atomic uint64_t count;
};

/* A goal without a name ends the list. */
struct goals {
	struct goal goal[GOALS];
};

static inline bool goals_met(struct goals *g)
{
	for (size_t i = 0; i < GOALS && g->goal[i].name != NULL; i++)
		if (atomic_load(&g->goal[i].count) < g->goal[i].floor)
			return false;
	return true;
}

static inline void goal_add(struct goals *g, size_t i, uint64_t n)
{
	atomic_fetch_add(&g->goal[i].count, n);
}

/* Print what happened, and fail if it was too little. */
static inline void goals_report(struct goals *g)
{
	for (size_t i = 0; i < GOALS && g->goal[i].name != NULL; i++)
		util_note("%s: %llu, at least %llu", g->goal[i].name,
			  (unsigned long long)atomic_load(&g->goal[i].count),
			  (unsigned long long)g->goal[i].floor);
	check(goals_met(g));
}

/* ---- Tide ------------------------------------------------------------------------------- */

#define TIDE_FIRST 1000000u /* number of the first filler key */

/* Called between the steps of a tide; may be NULL. */
typedef void (*tide_fn)(void *arg);

struct tide {
	struct kvs *kv; /* one shard */
	uint64_t fillers;
	uint64_t step; /* fillers between two calls of between(); 0: none */
	tide_fn between;
	void *arg;
};

static inline void tide_between(const struct tide *t)
{
	if (t->between != NULL)
		t->between(t->arg);
}

/* Set or delete all fillers. */
static inline void tide_fill(const struct tide *t, bool in)
{
	char room[KEY_ROOM];

	for (uint64_t i = 0; i < t->fillers; i++) {
		struct kvs_slice key = make_key(room, TIDE_FIRST + i);

		if (in)
			check_ok(kvs_set(t->kv, key, key, NULL));
		else
			check_ok(kvs_delete(t->kv, key, NULL));
		if (t->step != 0 && i % t->step == 0)
			tide_between(t);
	}
}

static inline void tide_grace_period(const struct tide *t)
{
#ifdef KVS_TSAN
	kvs__rcu_wait(&t->kv->reclaim.worker); /* which the sanitizer understands */
#else
	(void)t;
	urcu_bp_synchronize_rcu(); /* the worker's would take its time, 10 ms each */
#endif
}

static inline void tide_unlink(const struct tide *t, struct kvs__table *table)
{
	uint64_t first = 0;
	bool more;

	do {
		kvs__rcu_read_lock();
		more = kvs__unlink_heads(table, first, 64);
		kvs__rcu_read_unlock();
		first += 64;
		tide_between(t);
	} while (more);
}

/*
 * Shrink's steps, as kvs__maintain_shrink makes them, for the only table. false: it is small.
 * @halved, which may be NULL, counts those that no growth called back.
 */
static inline bool tide_halve(const struct tide *t, uint64_t *halved)
{
	struct kvs__table *table = &load_seq_cst(&t->kv->root)->table[0];

	if (!kvs__shrink_begin(table))
		return false;
	tide_between(t);
	tide_grace_period(t); /* GP 1 */
	tide_between(t);
	if (!kvs__shrink_commit(table))
		return true;
	tide_unlink(t, table);
	kvs__shrink_detach(table);
	tide_between(t);
	tide_grace_period(t); /* GP 2 */
	tide_between(t);
	kvs__shrink_end(table);
	if (halved != NULL)
		++*halved;
	return true;
}

/* tide_begin, tide_end - The store's thread stays away from the tables meanwhile; what it had begun is ended. */
static inline void tide_begin(const struct tide *t)
{
	kvs__admin_lock(t->kv);
	(void)kvs__maintain_shrink(t->kv, load_seq_cst(&t->kv->root));
}

static inline void tide_end(const struct tide *t)
{
	kvs__admin_unlock(t->kv);
}

/* Once in and out. Returns how often the table was halved; other keys may make it grow again. */
static inline uint64_t tide_cycle(const struct tide *t)
{
	uint64_t halved = 0;

	tide_fill(t, true);
	tide_fill(t, false);
	for (unsigned i = 0; i < 8 && tide_halve(t, &halved); i++)
		;
	return halved;
}

#endif /* KVS_TESTS_STRESS_H */
