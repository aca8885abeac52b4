/* SPDX-License-Identifier: MIT */
/*
 * test_filters.c - the filters in bucket heads: that they hold every entry, and that they are worth their bits.
 *
 * A table at rest is walked from end to end (INV-F1). How good filters are is the share of absent keys that
 * the head alone answers: in a fresh table, after growth and shrink, and after many generations of keys.
 */
#include "configs.h"

#include <sched.h>
#include <semaphore.h>

#include "hand.h"
#include "stress.h"

/* ---- A table at rest --------------------------------------------------------------------- */

struct shape {
	uint64_t heads;
	uint64_t used; /* heads that entries follow */
	uint64_t full; /* of them, with full filters */
	uint64_t entries;
};

static void look_at_table(const struct kvs__table *t, struct shape *ret)
{
	uint64_t word = load_relaxed(load_relaxed(&t->segment[0]));
	uint64_t link = kvs__head_word_link(word);

	for (;;) {
		ret->heads++;
		ret->used += kvs__filter_of(word) != 0;
		ret->full += kvs__filter_of(word) == KVS__FILTER_FULL;
		check((kvs__filter_of(word) != 0) == !kvs__link_to_head(link));
		while (!kvs__link_to_head(link)) {
			const struct kvs__entry *e = kvs__link_entry(link);

			check(!kvs__filter_lacks(word, e->order));
			ret->entries++;
			link = load_relaxed(&e->next);
		}
		if (kvs__link_is_end(link))
			return;
		word = load_relaxed(kvs__link_head(link));
		link = kvs__head_word_link(word);
	}
}

/* Nobody writes meanwhile. */
static struct shape look_at_store(struct kvs *kv)
{
	const struct kvs__root *root = load_seq_cst(&kv->root);
	struct shape s = { 0 };

	kvs__admin_lock(kv);
	kvs__rcu_read_lock();
	for (uint64_t i = 0; i < root->shards; i++)
		look_at_table(&root->table[i], &s);
	kvs__rcu_read_unlock();
	kvs__admin_unlock(kv);
	check_u64(s.entries, store_len(kv));
	return s;
}

#define ABSENT 1000000000u /* number of the first key that is never set */

/* Of 100 absent keys, how many a head's filter answers. */
static uint64_t answered_by_heads(struct kvs *kv)
{
	const struct kvs__root *root = load_seq_cst(&kv->root);
	const uint64_t keys = 20000;
	uint64_t answered = 0;
	char room[KEY_ROOM];

	for (uint64_t i = 0; i < keys; i++) {
		struct kvs_slice key = make_key(room, ABSENT + i);
		struct kvs__target target;
		const struct kvs__entry *e = NULL;

		check(!key_present(kv, ABSENT + i));
		check_ok(kvs__target_of(kv, key, &target));
		kvs__rcu_read_lock();
		answered += kvs__filter_lacks(
			kvs__start_of(&root->table[target.shard], target.wanted.order).word,
			target.wanted.order);
		check(kvs__lookup_straight(&root->table[target.shard], target.wanted.order,
					   key.data, key.len, &e) != KVS__MET_IT);
		kvs__rcu_read_unlock();
	}
	util_note("%llu of 100 absent keys answered by heads",
		  (unsigned long long)(answered * 100 / keys));
	return answered * 100 / keys;
}

static void fill(struct kvs *kv, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++)
		set_pattern(kv, i, 8, i);
}

static void delete_all(struct kvs *kv, uint64_t first, uint64_t count)
{
	char room[KEY_ROOM];

	for (uint64_t i = first; i < first + count; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
}

static struct hand hand;

static struct kvs *open_for(uint64_t capacity)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv;

	hand_init(&hand);
	opts.clock = &hand.clock;
	opts.flags = KVS_OPEN_NO_THREADS;
	opts.shards = 4;
	opts.initial_capacity = capacity;
	check_ok(kvs_open(&opts, &kv));
	return kv;
}

/* Time goes on by what kvs_run asks for. */
static void run_to_rest(struct kvs *kv)
{
	unsigned calls = 0;
	int next = 0;

	while (next >= 0) {
		check_ok(kvs_run(kv, 0, 0, &next));
		hand.boot += next > 0 ? next : 0;
		check(++calls < 10000);
	}
}

/* ---- How good they are ------------------------------------------------------------------- */

static void test_a_fresh_table(void **state)
{
	const uint64_t count = util_scaled(20000, 100000, 1000000);
	struct kvs *kv = open_for(count);
	struct shape s;

	(void)state;
	run_to_rest(kv); /* links all heads */
	check_u64(answered_by_heads(kv), 100);
	fill(kv, 0, count);
	s = look_at_store(kv);
	check_u64(s.full, 0);
	check(answered_by_heads(kv) >= 90);
	delete_all(kv, 0, count);
	check_u64(look_at_store(kv).used, 0);
	check_u64(answered_by_heads(kv), 100);
	close_store(kv);
}

static void test_after_growth_and_shrink(void **state)
{
	const uint64_t count = util_scaled(20000, 100000, 1000000);
	struct kvs *kv = open_for(0);
	uint64_t growths, shrinks;
	struct shape s;

	(void)state;
	fill(kv, 0, count);
	s = look_at_store(kv);
	util_note("grown: %llu of %llu filters full", (unsigned long long)s.full,
		  (unsigned long long)s.used);
	check(s.full > s.used / 10); /* else what follows would show nothing */
	run_to_rest(kv);
	growths = store_stats(kv).growths;
	check(growths > 8);
	check_u64(look_at_store(kv).full, 0);
	check(answered_by_heads(kv) >= 90);
	delete_all(kv, 0, count - count / 50);
	run_to_rest(kv);
	shrinks = store_stats(kv).shrinks;
	check(shrinks > 4);
	s = look_at_store(kv);
	util_note("shrunk: %llu heads, %llu entries", (unsigned long long)s.heads,
		  (unsigned long long)s.entries);
	check_u64(s.full, 0);
	check(answered_by_heads(kv) >= 90);
	fill(kv, 0, count);
	(void)look_at_store(kv);
	check(store_stats(kv).growths > growths);
	close_store(kv);
}

/* Keys come and go at a fixed size: a filter forgets what has gone when its bucket becomes empty. */
static void test_generations(void **state)
{
	const uint64_t count = util_scaled(10000, 50000, 500000);
	struct kvs *kv = open_for(count);
	uint64_t gone = 0;

	(void)state;
	run_to_rest(kv);
	fill(kv, 0, count);
	for (; gone < 20 * count; gone++) {
		delete_all(kv, gone, 1);
		fill(kv, gone + count, 1);
	}
	check_u64(store_stats(kv).growths, 0);
	(void)look_at_store(kv);
	check(answered_by_heads(kv) >= 80);
	close_store(kv);
}

/* Half of the keys stay, so that many buckets are never empty: maintenance comes by when enough keys have gone. */
static void test_generations_beside_keys_that_stay(void **state)
{
	const uint64_t count = util_scaled(5000, 25000, 250000);
	struct kvs *kv = open_for(2 * count);
	uint64_t gone = count;
	uint64_t worn;

	(void)state;
	run_to_rest(kv);
	fill(kv, 0, 2 * count);
	for (; gone < 60 * count; gone++) {
		delete_all(kv, gone, 1);
		fill(kv, gone + count, 1);
	}
	check_u64(store_stats(kv).growths, 0);
	worn = answered_by_heads(kv);
	check(worn < 85); /* else what follows would show nothing */
	run_to_rest(kv);
	(void)look_at_store(kv);
	check(answered_by_heads(kv) >= 90);
	close_store(kv);
}

/* Room from the start, and keys before the heads are linked. */
static void test_a_presized_table_filled_at_once(void **state)
{
	const uint64_t count = util_scaled(20000, 100000, 1000000);
	struct kvs *kv = open_for(count);

	(void)state;
	fill(kv, 0, count);
	check(look_at_store(kv).full > count / 20);
	run_to_rest(kv);
	check_u64(look_at_store(kv).full, 0);
	check(answered_by_heads(kv) >= 90);
	close_store(kv);
}

/* ---- When they are made ------------------------------------------------------------------ */

static void run_once(struct kvs *kv, uint32_t flags)
{
	int next;

	check_ok(kvs_run(kv, 0, flags, &next));
	check(next >= 0); /* there is more to do */
	hand.boot += next;
}

static uint64_t filled(struct kvs *kv)
{
	const struct kvs__root *root = load_seq_cst(&kv->root);
	uint64_t n = 0;

	for (uint64_t i = 0; i < root->shards; i++)
		n += load_relaxed(&root->table[i].filled);
	return n;
}

/* Not while keys stream in; not before a grace period after the watch, nor in calls that wait for none. */
static void test_they_wait(void **state)
{
	struct kvs *kv = open_for(0);
	struct kvs__maintainer *m = &kv->maintainer;
	uint64_t at = 3000;
	int next = 0;

	(void)state;
	fill(kv, 0, at);
	for (unsigned i = 0; i < 50; i++, at += 100) {
		run_once(kv, 0);
		check_u64(m->shrink, KVS__SHRINK_NONE);
		fill(kv, at, 100);
	}
	for (unsigned i = 0; i < 50 && next >= 0; i++)
		check_ok(kvs_run(kv, 0, KVS_RUN_DONT_WAIT, &next));
	check(next == -1); /* they have nothing to do for filters */
	check_u64(m->shrink, KVS__SHRINK_NONE);
	while (m->shrink == KVS__SHRINK_NONE)
		run_once(kv, 0);
	check_u64(m->shrink, KVS__FILTERS_GP);
	for (unsigned i = 0; i < 10; i++)
		check_ok(kvs_run(kv, 0, KVS_RUN_DONT_WAIT, &next));
	check(next == -1);
	check_u64(m->shrink, KVS__FILTERS_GP);
	check(look_at_store(kv).full > 100);
	check_u64(m->filters.done.full, 0);
	run_to_rest(kv);
	check_u64(m->shrink, KVS__SHRINK_NONE);
	check_u64(look_at_store(kv).full, 0);
	check(m->filters.done.full > 100);
	check_u64(m->filters.done.full, filled(kv));
	delete_all(kv, 0, 10);
	check_ok(kvs_clear(kv));
	check_u64(m->filters.done.full, 0); /* of this root */
	check_u64(m->filters.done.gone, 10);
	run_to_rest(kv);
	close_store(kv);
}

struct holder {
	struct kvs *kv;
	sem_t holds, let_go;
};

static void hold(size_t index, void *arg)
{
	struct holder *h = arg;

	(void)index;
	kvs_read_begin(h->kv);
	sem_post(&h->holds);
	sem_wait(&h->let_go);
	kvs_read_end(h->kv);
}

static enum kvs__shrink_state awaited(struct kvs *kv)
{
	enum kvs__shrink_state state;

	kvs__admin_lock(kv);
	state = kv->maintainer.shrink;
	kvs__admin_unlock(kv);
	return state;
}

static bool all_linked(struct kvs *kv)
{
	const struct kvs__root *root = load_seq_cst(&kv->root);

	for (uint64_t i = 0; i < root->shards; i++)
		if (load_relaxed(&root->table[i].linked) != kvs__table_buckets(&root->table[i]))
			return false;
	return true;
}

/* A round of the store, by this thread or its own. */
static void round_of(struct kvs *kv)
{
	int err = kvs_run(kv, 0, 0, NULL);

	check(err == KVS_OK || err == KVS_ERR_BUSY);
	sched_yield();
}

/* The grace period between the passes is a real one. */
static void test_a_reader_holds_them_back(void **state)
{
	struct holder h;
	struct crew crew;
	uint64_t full;

	(void)state;
	check_ok(kvs_open(NULL, &h.kv));
	check(sem_init(&h.holds, 0, 0) == 0 && sem_init(&h.let_go, 0, 0) == 0);
	crew_start(&crew, 1, hold, &h);
	sem_wait(&h.holds);
	fill(h.kv, 0, 5000);
	while (awaited(h.kv) != KVS__FILTERS_GP || !all_linked(h.kv))
		round_of(h.kv);
	full = look_at_store(h.kv).full;
	for (unsigned i = 0; i < 100; i++)
		round_of(h.kv);
	check_u64(look_at_store(h.kv).full, full);
	check(full > 100);
	sem_post(&h.let_go);
	crew_join(&crew);
	while (look_at_store(h.kv).full)
		round_of(h.kv);
	sem_destroy(&h.holds);
	sem_destroy(&h.let_go);
	close_store(h.kv);
}

/* ---- Heads and links by hand ------------------------------------------------------------- */

/* A watched head: an insert behind an entry takes the watch away; one behind the head itself may leave it. */
static void test_a_covered_head_is_not_made_anew(void **state)
{
	struct kvs *kv = open_for(0);
	struct kvs__table *t;
	uint64_t watched = 0;
	uint64_t left = 0;

	(void)state;
	fill(kv, 0, 3000);
	t = &load_seq_cst(&kv->root)->table[0];
	kvs__admin_lock(kv);
	kvs__rcu_read_lock();
	(void)kvs__watch_heads(t, 0, UINT64_MAX);
	kvs__rcu_read_unlock();
	for (uint64_t i = 0; i < kvs__table_buckets(t); i++) {
		uint64_t order;

		watched += kvs__word_state(load_relaxed(kvs__head_at(t, i, &order))) ==
			   KVS__HEAD_WATCHED;
	}
	fill(kv, 3000, 300); /* few enough for no growth, or it shows below */
	kvs__rcu_wait(&kv->reclaim.worker);
	for (uint64_t i = 0; i < kvs__table_buckets(t); i++) {
		uint64_t order;

		left += kvs__word_state(load_relaxed(kvs__head_at(t, i, &order))) ==
			KVS__HEAD_WATCHED;
	}
	kvs__rcu_read_lock();
	(void)kvs__tighten_heads(t, 0, UINT64_MAX);
	kvs__rcu_read_unlock();
	kvs__admin_unlock(kv);
	util_note("%llu heads watched, %llu still before their filters are made",
		  (unsigned long long)watched, (unsigned long long)left);
	check(watched > 20);
	check(left > 10 && left < watched);
	(void)look_at_store(kv);
	for (uint64_t i = 0; i < 3300; i++)
		check_pattern(kv, i, 8, i);
	close_store(kv);
}

/* ---- While everything moves -------------------------------------------------------------- */

enum { GROWN, HALVED, MADE, CHURNED, READ };

#define STABLE 500u
#define OWN 400u
#define OWN_FIRST(thread) (10000u * (1 + (thread)))

struct storm {
	struct kvs *kv;
	struct goals goals;
	struct tide tide;
};

static void churn(struct storm *s, size_t thread, struct rng *r)
{
	bool there[OWN] = { false };
	char room[KEY_ROOM];

	while (!goals_met(&s->goals)) {
		uint64_t i = rng_below(r, OWN);
		struct kvs_slice key = make_key(room, OWN_FIRST(thread) + i);

		check(key_present(s->kv, OWN_FIRST(thread) + i) == there[i]);
		if (there[i])
			check_ok(kvs_delete(s->kv, key, NULL));
		else
			check_ok(kvs_set(s->kv, key, key, NULL));
		there[i] = !there[i];
		check(key_present(s->kv, OWN_FIRST(thread) + i) == there[i]);
		goal_add(&s->goals, CHURNED, 1);
	}
}

static void read_stable(struct storm *s, struct rng *r)
{
	struct kvs_get_item items[8];
	char room[8][KEY_ROOM];
	char buf[8 * 8];

	while (!goals_met(&s->goals)) {
		uint64_t at = rng_below(r, STABLE);

		check_pattern(s->kv, at, 8, at);
		check(!key_present(s->kv, ABSENT + at));
		for (unsigned i = 0; i < 8; i++)
			items[i].key = make_key(room[i], (at + i) % STABLE);
		check_ok(kvs_batch_get(s->kv, items, 8, buf, sizeof(buf), NULL));
		for (unsigned i = 0; i < 8; i++)
			check_ok(items[i].status);
		goal_add(&s->goals, READ, 1);
	}
}

/* Between the steps of a tide: one pass over the filters, and the other. */
static void make_filters(void *arg)
{
	struct storm *s = arg;
	struct kvs__table *t = &load_seq_cst(&s->kv->root)->table[0];

	if (load_seq_cst(&t->size) != kvs__size_bits(load_seq_cst(&t->size)))
		return; /* a shrink is under way */
	kvs__rcu_read_lock();
	(void)kvs__watch_heads(t, 0, UINT64_MAX);
	kvs__rcu_read_unlock();
	tide_grace_period(&s->tide);
	kvs__rcu_read_lock();
	(void)kvs__tighten_heads(t, 0, UINT64_MAX);
	kvs__rcu_read_unlock();
	goal_add(&s->goals, MADE, 1);
}

static void turn_tides(struct storm *s)
{
	uint64_t growths = 0;

	tide_begin(&s->tide);
	while (!goals_met(&s->goals)) {
		uint64_t now;

		goal_add(&s->goals, HALVED, tide_cycle(&s->tide));
		now = load_relaxed(&load_seq_cst(&s->kv->root)->table[0].growths);
		goal_add(&s->goals, GROWN, now - growths);
		growths = now;
	}
	tide_end(&s->tide);
}

static void member(size_t index, void *arg)
{
	struct rng r;

	rng_init(&r, index);
	if (index == 0)
		turn_tides(arg);
	else if (index < 3)
		churn(arg, index, &r);
	else
		read_stable(arg, &r);
}

static void test_while_everything_moves(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct storm *s = calloc(1, sizeof(*s));

	(void)state;
	check(s != NULL);
	s->goals = (struct goals){ {
		[GROWN] = { .name = "growths", .floor = util_scaled(6, 60, 3000) },
		[HALVED] = { .name = "shrinks", .floor = util_scaled(6, 60, 3000) },
		[MADE] = { .name = "times all filters were made",
			   .floor = util_scaled(50, 500, 30000) },
		[CHURNED] = { .name = "keys set or deleted",
			      .floor = util_scaled(5000, 100000, 5000000) },
		[READ] = { .name = "reads of keys that stay",
			   .floor = util_scaled(5000, 100000, 5000000) },
	} };
	opts.shards = 1;
	check_ok(kvs_open(&opts, &s->kv));
	s->tide = (struct tide){
		.kv = s->kv, .fillers = 6000, .step = 500, .between = make_filters, .arg = s
	};
	fill(s->kv, 0, STABLE);
	run_threads(4, member, s);
	goals_report(&s->goals);
	(void)look_at_store(s->kv);
	close_store(s->kv);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_fresh_table),
		cmocka_unit_test(test_after_growth_and_shrink),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_generations_beside_keys_that_stay),
		cmocka_unit_test(test_a_presized_table_filled_at_once),
		cmocka_unit_test(test_they_wait),
		cmocka_unit_test(test_a_reader_holds_them_back),
		cmocka_unit_test(test_a_covered_head_is_not_made_anew),
		cmocka_unit_test(test_while_everything_moves),
	};

	return util_main("filters", tests, ARRAY_LEN(tests));
}
