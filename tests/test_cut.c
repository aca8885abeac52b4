/* SPDX-License-Identifier: MIT */
/*
 * test_cut.c - a snapshot lies at one instant for all keys.
 *
 * OBSERVERS  Each key has one writer, which takes it through numbered steps: insert, overwrite,
 * compare-and-set, delete, and again; a value is its step. A thread that reads A at step i, then B at step j has seen
 * that the i-th step of A was made before the one that followed the j-th of B. So a snapshot that lacks
 * the one and has the other lies at no instant. A test without observers passes on a wrong
 * protocol. Two keys are a pair; observers are two readers, in both orders, and the writers, each of which
 * reads the other key after its own step.
 *
 * A present key shows its step. An absent one is at some step that is a delete, between the last that was done before
 * the look and the last that was started after it: these bounds are kept, and of them the one
 * that accuses less is used.
 *
 * REAL TIME  What was done before begin was called is in; what was started after it returned is out.
 *
 * A fifth thread stops the writers by a signal, anywhere, while a cut is made: so in every build some stand
 * between a write and its stamp. More are found where threads yield inside operations (--enable-yield);
 * see cut_near.h.
 */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cut_near.h"

#define LINE 64
#define PAIRS 8u
#define KEYS (2 * PAIRS)
#define LIFE 4u /* steps: add, set, compare-and-set, delete */
#define WRITERS 2u
#define READERS 2u
#define OBSERVERS (WRITERS + READERS)
#define THREADS (OBSERVERS + 1)
#define STOP_YIELDS 60u /* that a writer stands still for */
#define HOLD_YIELDS 24u /* that a cut lasts for */
#define ROUND 250u      /* snapshots between two checks */
#define RING 32u /* sightings kept of a key, an observer and a snapshot: the last before its walk */
#define TURN 64u /* operations after which a thread lets others go on, outside a section */

/* A key's progress, written by its writer only. */
struct progress {
	_Alignas(LINE) _Atomic uint64_t started;
	_Atomic uint64_t done;
};

/* What is known about the step at which a key was seen. */
struct seen {
	uint64_t low;
	uint64_t high;
};

/* The step of the key that was read first, at least; of the other, at most. */
struct sighting {
	uint64_t first_low;
	uint64_t second_high;
};

/* Sightings of one observer of which one key was read first. Unused ones are zero, which accuses nobody. */
struct log {
	struct sighting at[ROUND][RING];
	size_t snapshot;
	uint64_t count; /* of that snapshot */
};

/* What a snapshot has. */
struct row {
	struct seen key[KEYS];
	bool present[KEYS];
};

struct test {
	struct kvs *kv;
	struct progress progress[KEYS];
	_Atomic bool stop;
	_Atomic bool near;       /* sightings are kept */
	_Atomic size_t snapshot; /* number in its round */
	pthread_t writer[WRITERS];
	_Atomic unsigned writing; /* writers whose thread is known */
	_Atomic bool hold;        /* the next cut is to last */
	_Atomic bool held;        /* it will */
	struct log log[OBSERVERS][KEYS];
	struct row rows[ROUND];
	uint64_t sightings;
	uint64_t reinserts;
};

static struct kvs_slice key_of(char room[KEY_ROOM], size_t key)
{
	return make_key(room, key);
}

static size_t partner(size_t key)
{
	return key ^ 1;
}

static bool is_absent_at(uint64_t step)
{
	return step % LIFE == 0;
}

/* The step of a key, given what was done before it was looked at and started after that. */
static struct seen seen_make(bool present, uint64_t step, uint64_t done, uint64_t started)
{
	struct seen s = { step, step };

	if (!present) {
		s.low = (done + LIFE - 1) / LIFE * LIFE;
		s.high = started / LIFE * LIFE;
	}
	if (s.low > s.high || s.low < done || s.high > started || (present && is_absent_at(step)))
		util_fail(__FILE__, __LINE__,
			  "seen %s at step %llu; done before %llu, started after %llu",
			  present ? "present" : "absent", (unsigned long long)step,
			  (unsigned long long)done, (unsigned long long)started);
	return s;
}

static struct seen look(struct test *t, size_t key)
{
	struct progress *p = &t->progress[key];
	uint64_t done = atomic_load(&p->done);
	uint64_t step = 0;
	char room[KEY_ROOM];
	int err = kvs_get(t->kv, key_of(room, key), &step, sizeof(step), NULL);

	if (err != KVS_ERR_NOT_FOUND)
		check_ok(err);
	return seen_make(err == KVS_OK, step, done, atomic_load(&p->started));
}

static void note(struct test *t, size_t observer, size_t key, uint64_t first_low,
		 uint64_t second_high)
{
	struct log *l = &t->log[observer][key];
	size_t snapshot = atomic_load(&t->snapshot);

	if (l->snapshot != snapshot)
		l->count = 0;
	l->snapshot = snapshot;
	l->at[snapshot][l->count++ % RING] = (struct sighting){ first_low, second_high };
}

static void take_turns(uint64_t *operations)
{
	if (++*operations % TURN == 0)
		sched_yield();
}

/* ---- Threads ---------------------------------------------------------------------------- */

static void step_make(struct test *t, size_t key, uint64_t step, uint64_t *version)
{
	struct kvs_slice val = kvs_bytes(&step, sizeof(step));
	char room[KEY_ROOM];
	struct kvs_slice name = key_of(room, key);

	switch (step % LIFE) {
	case 1:
		check_ok(kvs_add(t->kv, name, val, version));
		break;
	case 2:
		check_ok(kvs_set(t->kv, name, val, version));
		break;
	case 3:
		check_ok(kvs_compare_and_set(t->kv, name, val, *version, version));
		break;
	default:
		check_ok(kvs_delete(t->kv, name, NULL));
		break;
	}
}

static void write_steps(struct test *t, size_t side)
{
	uint64_t version[PAIRS] = { 0 };
	uint64_t operations = 0;
	struct rng r;

	rng_init(&r, side);
	while (!atomic_load(&t->stop)) {
		size_t pair = rng_below(&r, PAIRS);
		size_t key = 2 * pair + side;
		struct progress *p = &t->progress[key];
		uint64_t step = atomic_load(&p->started) + 1;
		bool near = atomic_load(&t->near);
		struct seen other;

		if (version[pair] ==
		    0) /* a round begins where the last one ended: with a new life */
			step = (step + LIFE - 1) / LIFE * LIFE + 1;
		atomic_store(&p->started, step);
		step_make(t, key, step, &version[pair]);
		atomic_store(&p->done, step);
		other = look(t, partner(key));
		if (near || atomic_load(&t->near))
			note(t, side, key, step, other.high);
		take_turns(&operations);
	}
}

static void read_steps(struct test *t, size_t index)
{
	uint64_t operations = 0;
	struct rng r;

	rng_init(&r, index);
	while (!atomic_load(&t->stop)) {
		bool near = atomic_load(&t->near);
		size_t key = rng_below(&r, KEYS);
		struct seen first = look(t, key);
		struct seen second = look(t, partner(key));

		if (near || atomic_load(&t->near))
			note(t, index, key, first.low, second.high);
		take_turns(&operations);
	}
}

/* The signal's handler: stand still until the cut is made, or each fourth time on into the walk. */
static _Atomic(_Atomic bool *) standing_while;

static void stand_still(int number)
{
	static _Atomic unsigned times;
	_Atomic bool *near = atomic_load(&standing_while);
	bool through = atomic_fetch_add(&times, 1) % 4 == 0;

	(void)number;
	for (unsigned i = 0; i < STOP_YIELDS && (through || atomic_load(near)); i++)
		sched_yield();
}

/*
 * Make a cut last: stay in a section, so that the grace period before it cannot end, and stop the writers
 * now and then, wherever they are.
 */
static void hold_the_cut(struct test *t, struct rng *r)
{
	kvs_read_begin(t->kv);
	atomic_store(&t->held, true);
	while (!atomic_load(&t->near))
		sched_yield();
	for (uint64_t n = 4 + rng_below(r, HOLD_YIELDS); n > 0; n--) {
		if (rng_below(r, 4) == 0)
			(void)pthread_kill(t->writer[rng_below(r, WRITERS)], SIGUSR1);
		sched_yield();
	}
	kvs_read_end(t->kv);
	atomic_store(&t->held, false);
}

static void stop_writers(struct test *t)
{
	struct rng r;

	rng_init(&r, OBSERVERS);
	while (atomic_load(&t->writing) < WRITERS)
		sched_yield();
	while (!atomic_load(&t->stop)) {
		if (atomic_exchange(&t->hold, false))
			hold_the_cut(t, &r);
		sched_yield();
	}
}

static void observe(size_t index, void *arg)
{
	struct test *t = arg;

	if (index < WRITERS) {
		t->writer[index] = pthread_self();
		atomic_fetch_add(&t->writing, 1);
		write_steps(t, index);
	} else if (index < OBSERVERS) {
		read_steps(t, index);
	} else {
		stop_writers(t);
	}
}

/* ---- Snapshots -------------------------------------------------------------------------- */

struct cut {
	bool present[KEYS];
	uint64_t step[KEYS];
};

static void take(const struct kvs_item *item, void *arg)
{
	struct cut *c = arg;
	uint64_t key = key_number(item->key);

	check(key < KEYS && !c->present[key]);
	check_u64(item->value.len, sizeof(c->step[key]));
	c->present[key] = true;
	memcpy(&c->step[key], item->value.data, sizeof(c->step[key]));
}

/* Deletes whose re-insert came too, both after step @from and up to @to. */
static uint64_t reinserts(uint64_t from, uint64_t to)
{
	return to / LIFE > from / LIFE ? to / LIFE - from / LIFE - is_absent_at(to) : 0;
}

static void snapshot(struct test *t, struct row *row, size_t pause, bool hold)
{
	uint64_t done[KEYS], started[KEYS];
	struct kvs_snapshot *s;
	struct cut c;
	uint64_t n;

	memset(&c, 0, sizeof(c));
	atomic_store(&t->hold, hold);
	while (hold && !atomic_load(&t->held))
		sched_yield();
	atomic_store(&t->near, true);
	for (size_t k = 0; k < KEYS; k++)
		done[k] = atomic_load(&t->progress[k].done);
	s = near_begin(t->kv);
	for (size_t k = 0; k < KEYS; k++)
		started[k] = atomic_load(&t->progress[k].started);
	while (pause-- > 0)
		sched_yield();
	atomic_store(&t->near, false);
	n = near_walk(s, take, &c);
	for (size_t k = 0; k < KEYS; k++) {
		t->reinserts += reinserts(started[k], atomic_load(&t->progress[k].done));
		row->present[k] = c.present[k];
		row->key[k] = seen_make(c.present[k], c.step[k], done[k], started[k]);
	}
	near_end(s, n);
}

/* ---- The check -------------------------------------------------------------------------- */

static int by_first(const void *a, const void *b)
{
	const struct sighting *x = a, *y = b;

	return x->first_low < y->first_low ? -1 : x->first_low > y->first_low;
}

/* All sightings with @key first, by its step; second_high becomes the least from there on. */
static struct sighting *sorted(struct test *t, size_t key, size_t *ret_count)
{
	struct sighting *all = calloc(OBSERVERS * ROUND * RING, sizeof(*all));
	size_t n = 0;

	check(all != NULL);
	for (size_t i = 0; i < OBSERVERS; i++) {
		struct log *l = &t->log[i][key];
		const struct sighting *at = l->at[0];

		for (size_t j = 0; j < (size_t)ROUND * RING; j++)
			if (at[j].first_low != 0)
				all[n++] = at[j];
		memset(l, 0, sizeof(*l));
	}
	qsort(all, n, sizeof(*all), by_first);
	for (size_t i = n; i-- > 1;)
		if (all[i].second_high < all[i - 1].second_high)
			all[i - 1].second_high = all[i].second_high;
	*ret_count = n;
	return all;
}

/* The first sighting with a step of its first key above @step. */
static size_t first_above(const struct sighting *all, size_t count, uint64_t step)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (all[mid].first_low > step)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static void check_key(struct test *t, size_t key, size_t snapshots)
{
	size_t n;
	struct sighting *all = sorted(t, key, &n);

	for (size_t i = 0; i < snapshots; i++) {
		const struct seen *first = &t->rows[i].key[key];
		const struct seen *second = &t->rows[i].key[partner(key)];
		size_t at = first_above(all, n, first->high);

		if (at < n && all[at].second_high < second->low)
			util_fail(
				__FILE__, __LINE__,
				"snapshot has key %zu at step %llu and key %zu at %llu, but at the latter's "
				"step %llu the former was beyond, at %llu or more",
				key, (unsigned long long)first->high, partner(key),
				(unsigned long long)second->low,
				(unsigned long long)all[at].second_high,
				(unsigned long long)all[at].first_low);
	}
	t->sightings += n;
	free(all);
}

static void round_run(struct test *t, size_t snapshots)
{
	size_t held = 4; /* of so many cuts one is made to last */
	struct crew crew;

	for (size_t k = 0; k < KEYS; k++) { /* a life at a time: see write_steps() */
		char room[KEY_ROOM];
		uint64_t step = (atomic_load(&t->progress[k].done) + LIFE - 1) / LIFE * LIFE;

		if (key_present(t->kv, k))
			check_ok(kvs_delete(t->kv, key_of(room, k), NULL));
		atomic_store(&t->progress[k].started, step);
		atomic_store(&t->progress[k].done, step);
	}
	atomic_store(&t->stop, false);
	atomic_store(&t->writing, 0);
	crew_start(&crew, THREADS, observe, t);
	for (size_t i = 0; i < snapshots; i++) {
		atomic_store(&t->snapshot, i);
		snapshot(t, &t->rows[i], i % 8 == 0 ? 20 : 0, i % held == 0);
		if (i % 16 == 0)
			check_ok(kvs_drain(t->kv));
	}
	atomic_store(&t->stop, true);
	crew_join(&crew);
	for (size_t k = 0; k < KEYS; k++)
		check_key(t, k, snapshots);
}

static struct test *test_open(void)
{
	struct test *t = aligned_alloc(LINE, (sizeof(*t) + LINE - 1) / LINE * LINE);

	check(t != NULL);
	memset(t, 0, sizeof(*t));
	t->kv = near_open(64, NULL);
	atomic_store(&standing_while, &t->near);
	signal(SIGUSR1, stand_still);
	return t;
}

static void test_close(struct test *t)
{
	near_close(t->kv);
	signal(SIGUSR1, SIG_DFL);
	free(t);
}

/* Whether as much has met as @wanted snapshots must have; how much does is up to the machine. */
static bool is_enough(struct test *t, size_t wanted)
{
	struct kvs_stats stats = store_stats(t->kv);

	return stats.handed_over >= wanted / 10 && t->reinserts >= wanted / 100 &&
	       stats.reader_settles >= util_scaled_full(0, 10, 100, 100);
}

static void test_observers_agree_with_snapshots(void **state)
{
#ifdef KVS_YIELD_RAND
	size_t wanted = util_scaled_full(20, 120, 10000, 100000),
	       made; /* threads linger: each is worth more, and dearer */
#else
	size_t wanted = util_scaled_full(400, 2000, 10000, 500000), made;
#endif
	struct test *t = test_open();
	struct kvs_stats stats;
	size_t n;

	(void)state;
	for (made = 0; made < wanted || !is_enough(t, wanted); made += n) {
		n = made < wanted ? wanted - made : wanted;
		n = n < ROUND ? n : ROUND;
		round_run(t, n);
	}
	stats = store_stats(t->kv);
	util_note("%zu snapshots, %u pairs, %llu sightings: 0 violations", made, PAIRS,
		  (unsigned long long)t->sightings);
	util_note(
		"handed over %llu, settled by readers %llu, deletes and re-inserts inside a snapshot %llu",
		(unsigned long long)stats.handed_over, (unsigned long long)stats.reader_settles,
		(unsigned long long)t->reinserts);
	check(is_enough(t, wanted));
	test_close(t);
}

/* ---- Chains ----------------------------------------------------------------------------- */

#define LINKS 4u

struct chain {
	struct kvs *kv;
	_Atomic bool stop;
	bool present[LINKS];
	uint64_t value[LINKS];
};

/* Link 0 counts; link k copies what it finds in link k - 1. */
static void chain_copy(size_t index, void *arg)
{
	struct chain *c = arg;
	char from[KEY_ROOM], to[KEY_ROOM];
	uint64_t value = 0, operations = 0;

	while (!atomic_load(&c->stop)) {
		take_turns(&operations);
		if (index == 0)
			value++;
		else
			check_ok(kvs_get(c->kv, make_key(from, index - 1), &value, sizeof(value),
					 NULL));
		check_ok(kvs_set(c->kv, make_key(to, index), kvs_bytes(&value, sizeof(value)),
				 NULL));
	}
}

static void chain_take(const struct kvs_item *item, void *arg)
{
	struct chain *c = arg;
	uint64_t k = key_number(item->key);

	check(k < LINKS && !c->present[k]);
	c->present[k] = true;
	memcpy(&c->value[k], item->value.data, sizeof(c->value[k]));
}

static void chain_snapshot(struct chain *c)
{
	struct kvs_snapshot *s = near_begin(c->kv);
	uint64_t n;

	memset(c->present, 0, sizeof(c->present));
	n = near_walk(s, chain_take, c);
	near_end(s, n);
	check_u64(n, LINKS);
	for (size_t k = 1; k < LINKS; k++)
		if (c->value[k] > c->value[k - 1])
			util_fail(__FILE__, __LINE__,
				  "link %zu is at %llu, the one that it copies at %llu", k,
				  (unsigned long long)c->value[k],
				  (unsigned long long)c->value[k - 1]);
}

static void test_a_copy_is_never_ahead(void **state)
{
	size_t snapshots = util_scaled_full(30, 100, 300, 50000);
	struct chain *c = calloc(1, sizeof(*c));
	struct crew crew;

	(void)state;
	check(c != NULL);
	c->kv = near_open(64, NULL);
	for (size_t k = 0; k < LINKS; k++)
		set_pattern(c->kv, k, 0, 0);
	for (size_t k = 0; k < LINKS; k++) {
		char room[KEY_ROOM];

		check_ok(kvs_set(c->kv, make_key(room, k), kvs_bytes(&c->value[k], 8), NULL));
	}
	crew_start(&crew, LINKS, chain_copy, c);
	for (size_t i = 0; i < snapshots; i++) {
		chain_snapshot(c);
		if (i % 16 == 0)
			check_ok(kvs_drain(c->kv));
	}
	atomic_store(&c->stop, true);
	crew_join(&crew);
	util_note("%zu snapshots of a chain of %u, the last at %llu", snapshots, LINKS,
		  (unsigned long long)c->value[0]);
	near_close(c->kv);
	free(c);
}

/* ---- When readers settle ---------------------------------------------------------------- */

/* Let every writer and reader get on by some operations. */
static void let_run(struct test *t, uint64_t steps)
{
	uint64_t from[2];

	for (size_t side = 0; side < 2; side++)
		from[side] = atomic_load(&t->progress[side].done);
	for (size_t side = 0; side < 2; side++)
		while (atomic_load(&t->progress[side].done) < from[side] + steps)
			sched_yield();
}

static void test_readers_settle_near_the_cut_only(void **state)
{
	size_t snapshots = util_scaled_full(4, 30, 100, 1000);
	struct test *t = test_open();
	uint64_t before, after = 0;
	struct crew crew;

	(void)state;
	atomic_store(&t->writing, 0);
	crew_start(&crew, THREADS, observe, t);
	let_run(t, 1000);
	check_u64(store_stats(t->kv).reader_settles, 0);
	for (size_t i = 0; i < snapshots; i++) {
		struct kvs_snapshot *s = near_begin(t->kv);
		struct cut c;
		uint64_t n;

		memset(&c, 0, sizeof(c));
		check_ok(kvs_drain(t->kv)); /* a grace period */
		before = store_stats(t->kv).reader_settles;
		let_run(t, 50);
		n = near_walk(s, take, &c);
		near_end(s, n);
		let_run(t, 50);
		after = store_stats(t->kv).reader_settles;
		check_u64(after, before);
	}
	atomic_store(&t->stop, true);
	crew_join(&crew);
	util_note("%zu snapshots: %llu settled near cuts, none after a grace period", snapshots,
		  (unsigned long long)after);
	test_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_observers_agree_with_snapshots),
		cmocka_unit_test(test_a_copy_is_never_ahead),
		cmocka_unit_test(test_readers_settle_near_the_cut_only),
	};

	return util_main("cut", tests, ARRAY_LEN(tests));
}
