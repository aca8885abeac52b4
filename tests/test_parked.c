/* SPDX-License-Identifier: MIT */
/*
 * test_parked.c - a thread that is stopped anywhere stops no other.
 *
 * One thread, the victim, is parked at each yield point of an operation in turn: the first time
 * it comes to its n-th point, for every n until the operation ends before. While it is parked all
 * other threads' operations go on, on the same key and on others, and answer as if it were not
 * there. Then it goes on, and the store is whole. Only for builds configured with --enable-yield.
 */
#include "configs.h"

#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "expiry.h"
#include "hand.h"
#include "stress.h"
#include "yield.h"

#ifndef KVS_YIELD_RAND
#error "this program needs yield points: configure with --enable-yield"
#endif

#define VICTIM_KEY 7u
#define FILL 64u                           /* keys with which the smallest table is full */
#define GROWN (FILL + KVS__LINK_EVERY - 1) /* has grown, and the next one links heads */
#define FILL_FIRST 100u
#define OTHERS 2u
#define PLACES 256u

/* ---- Parking ---------------------------------------------------------------------------- */

struct place {
	const char *file;
	int line;
};

static struct parking {
	uint64_t stop_at; /* the victim's n-th point */
	uint64_t passed;
	bool finished; /* the operation ended before; handed over with here */
	sem_t here;    /* parked, or finished */
	sem_t go;
	struct place places[PLACES]; /* where it was parked */
	size_t count;
} parking;

static __thread bool is_victim;

static void note_place(const char *file, int line)
{
	for (size_t i = 0; i < parking.count; i++)
		if (parking.places[i].line == line && strcmp(parking.places[i].file, file) == 0)
			return;
	check(parking.count < PLACES);
	parking.places[parking.count++] = (struct place){ file, line };
}

static void on_yield(const char *file, int line)
{
	if (!is_victim || parking.passed++ != parking.stop_at)
		return;
	note_place(file, line);
	sem_post(&parking.here);
	while (sem_wait(&parking.go) != 0)
		;
}

/* ---- What is parked --------------------------------------------------------------------- */

struct scene {
	struct kvs *kv;
	uint64_t version; /* of the victim's key before, if it was there */
	_Atomic uint64_t others_done;
};

struct act {
	const char *name;
	bool present; /* the victim's key is there before */
	bool full;    /* the table is full: one more key makes it grow */
	bool grown;   /* the table has grown and is nearly empty again */
	void (*fn)(struct scene *s, struct kvs_slice key);
	uint64_t points_floor;
};

static const char new_value[] = "victim";
#define NEW_VALUE kvs_str(new_value)

static void act_set(struct scene *s, struct kvs_slice key)
{
	check_ok(kvs_set(s->kv, key, NEW_VALUE, NULL));
}

static void act_set_large(struct scene *s, struct kvs_slice key)
{
	static const char large[5000];

	check_ok(kvs_set(s->kv, key, kvs_bytes(large, sizeof(large)), NULL));
}

static void act_add(struct scene *s, struct kvs_slice key)
{
	int err = kvs_add(s->kv, key, NEW_VALUE, NULL);

	check(err == KVS_OK || err == KVS_ERR_DUPLICATE);
}

static void act_compare_and_set(struct scene *s, struct kvs_slice key)
{
	int err = kvs_compare_and_set(s->kv, key, NEW_VALUE, s->version, NULL);

	check(err == KVS_OK || err == KVS_ERR_NOT_FOUND || err == KVS_ERR_VERSION_MISMATCH);
}

static void act_get_and_set(struct scene *s, struct kvs_slice key)
{
	struct kvs_value old;

	check_ok(kvs_get_and_set(s->kv, key, NEW_VALUE, &old, NULL));
	kvs_value_free(s->kv, &old);
}

static void act_delete(struct scene *s, struct kvs_slice key)
{
	int err = kvs_delete(s->kv, key, NULL);

	check(err == KVS_OK || err == KVS_ERR_NOT_FOUND);
}

static void act_get_and_delete(struct scene *s, struct kvs_slice key)
{
	struct kvs_value old = { NULL, 0, 0, 0 };
	int err = kvs_get_and_delete(s->kv, key, &old);

	check(err == KVS_OK || err == KVS_ERR_NOT_FOUND);
	kvs_value_free(s->kv, &old);
}

static void act_get(struct scene *s, struct kvs_slice key)
{
	char buf[64];
	int err = kvs_get(s->kv, key, buf, sizeof(buf), NULL);

	check(err == KVS_OK || err == KVS_ERR_NOT_FOUND || err == KVS_ERR_BUFFER_TOO_SMALL);
}

static void act_scan(struct scene *s, struct kvs_slice key)
{
	struct kvs_item items[16];
	uint64_t cursor = 0;
	size_t count;

	(void)key;
	kvs_read_begin(s->kv);
	check_ok(kvs_scan(s->kv, &cursor, items, ARRAY_LEN(items), &count));
	kvs_read_end(s->kv);
}

static void act_link(struct scene *s, struct kvs_slice key)
{
	(void)key;
	(void)kvs__maintain_link(load_seq_cst(&s->kv->root), 8);
}

/* Shrink's steps as the store's thread makes them; admin is the test's. */
static void act_shrink(struct scene *s, struct kvs_slice key)
{
	struct tide tide = { .kv = s->kv };

	(void)key;
	check(tide_halve(&tide, NULL));
}

static const struct act acts[] = {
	{ "set, insert", false, false, false, act_set, 8 },
	{ "set, replace", true, false, false, act_set, 8 },
	{ "set, insert of a large value", false, false, false, act_set_large, 8 },
	{ "add", false, false, false, act_add, 8 },
	{ "compare_and_set", true, false, false, act_compare_and_set, 8 },
	{ "get_and_set", true, false, false, act_get_and_set, 8 },
	{ "delete", true, false, false, act_delete, 8 },
	{ "get_and_delete", true, false, false, act_get_and_delete, 8 },
	{ "get", true, false, false, act_get, 4 },
	{ "scan", true, false, false, act_scan, 4 },
	{ "set, growth", false, true, false, act_set, 14 },
	{ "set, linking of heads", false, false, true, act_set, 100 },
	{ "linking of heads after growth", true, false, true, act_link, 20 },
	{ "shrink", true, false, true, act_shrink, 200 },
};

/* ---- The others ------------------------------------------------------------------------- */

/* On the victim's key: whatever the answer, there is one. */
static void meddle(struct scene *s, struct rng *r, struct kvs_slice key)
{
	struct kvs_value v = { NULL, 0, 0, 0 };

	switch (rng_below(r, 6)) {
	case 0:
		check_ok(kvs_set(s->kv, key, kvs_str("other"), NULL));
		break;
	case 1:
		act_delete(s, key);
		break;
	case 2:
		act_add(s, key);
		break;
	case 3:
		act_get(s, key);
		break;
	case 4:
		act_get_and_delete(s, key);
		break;
	default:
		if (kvs_get(s->kv, key, NULL, 0, &v) == KVS_ERR_BUFFER_TOO_SMALL)
			(void)kvs_compare_and_set(s->kv, key, kvs_str("cas"), v.version, NULL);
		break;
	}
}

static void other(size_t index, void *arg)
{
	struct scene *s = arg;
	uint64_t mine = 10000 * (index + 1), rounds = 40;
	char a[KEY_ROOM], b[KEY_ROOM];
	struct rng r;

	rng_init(&r, index + parking.stop_at * 4);
	for (uint64_t i = 0; i < rounds; i++) {
		struct kvs_slice own = make_key(a, mine + i);

		set_pattern(s->kv, mine + i, 20, i);
		check_pattern(s->kv, mine + i, 20, i);
		meddle(s, &r, make_key(b, VICTIM_KEY));
		check_ok(kvs_replace(s->kv, own, own, NULL));
		act_scan(s, own);
	}
	for (uint64_t i = 0; i < rounds; i++)
		check_ok(kvs_delete(s->kv, make_key(a, mine + i), NULL));
	atomic_fetch_add(&s->others_done, 7 * rounds);
}

/* With nobody else about, the victim's key does what it is told, parked victim or not. */
static void command(struct scene *s)
{
	char room[KEY_ROOM], buf[8];
	struct kvs_slice key = make_key(room, VICTIM_KEY);
	struct kvs_value v;

	check_ok(kvs_set(s->kv, key, kvs_str("one"), NULL));
	check_ok(kvs_get(s->kv, key, buf, sizeof(buf), &v));
	check(v.len == 3 && memcmp(buf, "one", 3) == 0);
	check_ok(kvs_replace(s->kv, key, kvs_str("two"), NULL));
	check_ok(kvs_get(s->kv, key, buf, sizeof(buf), &v));
	check(v.len == 3 && memcmp(buf, "two", 3) == 0);
	check_ok(kvs_delete(s->kv, key, NULL));
	check(!key_present(s->kv, VICTIM_KEY));
	check_ok(kvs_add(s->kv, key, kvs_str("six"), NULL));
	check(key_present(s->kv, VICTIM_KEY));
	atomic_fetch_add(&s->others_done, 8);
}

/* ---- One point -------------------------------------------------------------------------- */

struct victim {
	struct scene *scene;
	const struct act *act;
};

static void *run_victim(void *arg)
{
	struct victim *v = arg;
	char room[KEY_ROOM];

	check_ok(kvs_thread_attach(v->scene->kv)); /* a first call takes a lock, and may */
	is_victim = true;
	v->act->fn(v->scene, make_key(room, VICTIM_KEY));
	is_victim = false;
	if (parking.passed <= parking.stop_at) {
		parking.finished = true;
		sem_post(&parking.here);
	}
	return NULL;
}

static void fill(struct kvs *kv, uint64_t keys, bool in)
{
	char room[KEY_ROOM];

	for (uint64_t i = 0; i < keys; i++) {
		if (in)
			set_pattern(kv, FILL_FIRST + i, 10, i);
		else
			check_ok(kvs_delete(kv, make_key(room, FILL_FIRST + i), NULL));
	}
}

/* How many the scene has: the next one links heads, if there are any to be linked. */
static uint64_t keys_of(const struct act *act)
{
	return act->full ? FILL : FILL / 4 + KVS__LINK_EVERY - 1;
}

static void set_scene(struct scene *s, const struct act *act)
{
	struct tide tide = { .kv = s->kv };
	char room[KEY_ROOM];

	act_delete(s, make_key(room, VICTIM_KEY));
	while (tide_halve(&tide, NULL))
		;
	if (act->grown) {
		fill(s->kv, FILL + 1, true);
		if (act->fn == act_shrink)
			while (kvs__maintain_link(load_seq_cst(&s->kv->root), 8))
				;
		fill(s->kv, FILL + 1, false);
	}
	fill(s->kv, keys_of(act), true);
	if (act->present)
		check_ok(kvs_set(s->kv, make_key(room, VICTIM_KEY), kvs_str("old"), &s->version));
}

static int count_item(const struct kvs_item *item, void *arg)
{
	uint64_t *seen = arg, k = key_number(item->key);

	check(k == VICTIM_KEY || (k >= FILL_FIRST && k < FILL_FIRST + FILL));
	check(seen[k == VICTIM_KEY ? 0 : k - FILL_FIRST + 1]++ == 0);
	return 0;
}

/* Every key once, all of them counted; then all away. */
static void check_whole(struct scene *s, const struct act *act)
{
	uint64_t seen[FILL + 1] = { 0 }, keys = keys_of(act);

	check_ok(kvs_foreach(s->kv, count_item, seen));
	check_u64(seen[0], key_present(s->kv, VICTIM_KEY));
	for (uint64_t i = 0; i < keys; i++) {
		check_u64(seen[i + 1], 1);
		check_pattern(s->kv, FILL_FIRST + i, 10, i);
	}
	check_u64(store_len(s->kv), keys + seen[0]);
	fill(s->kv, keys, false);
}

/* Park at the @n-th point. false: the act has fewer. */
static bool park_at(struct scene *s, const struct act *act, uint64_t n)
{
	struct victim victim = { s, act };
	bool finished;
	pthread_t thread;

	set_scene(s, act);
	parking.stop_at = n;
	parking.passed = 0;
	parking.finished = false;
	check(pthread_create(&thread, NULL, run_victim, &victim) == 0);
	sem_wait(&parking.here);
	finished = parking.finished;
	if (!finished) {
		run_threads(OTHERS, other, s);
		command(s);
		sem_post(&parking.go);
	}
	check(pthread_join(thread, NULL) == 0);
	check_whole(s, act);
	return !finished;
}

static void print_places(void)
{
	char line[100] = "";

	for (size_t i = 0; i < parking.count; i++) {
		const char *slash = strrchr(parking.places[i].file, '/');
		const char *file = slash ? slash + 1 : parking.places[i].file;
		size_t used = strlen(line);

		if (used > 80) {
			util_note("  %s", line);
			used = 0;
		}
		snprintf(line + used, sizeof(line) - used, " %s:%d", file, parking.places[i].line);
	}
	util_note("  %s", line);
}

static uint64_t play(struct scene *s, const struct act *act)
{
	uint64_t n = 0, before = atomic_load(&s->others_done);

	parking.count = 0;
	while (park_at(s, act, n))
		n++;
	util_note("%s: parked at %llu points in %zu places; meanwhile %llu operations of others",
		  act->name, (unsigned long long)n, parking.count,
		  (unsigned long long)(atomic_load(&s->others_done) - before));
	print_places();
	check(n >= act->points_floor);
	return n;
}

static void test_nobody_waits_for_a_parked_thread(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	static struct counting mem;
	struct scene s = { .version = 0 };
	struct tide tide = { .kv = NULL };
	uint64_t points = 0;

	(void)state;
	counting_init(&mem, true);
	sem_init(&parking.here, 0, 0);
	sem_init(&parking.go, 0, 0);
	opts.shards = 1;
	opts.allocator = &mem.hooks;
	check_ok(kvs_open(&opts, &s.kv));
	tide.kv = s.kv;
	tide_begin(&tide);
	atomic_store(&kvs__yield_hook, on_yield);
	for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
		util_context(acts[i].name);
		points += play(&s, &acts[i]);
	}
	util_context(NULL);
	atomic_store(&kvs__yield_hook, NULL);
	tide_end(&tide);
	util_note("%llu points in all, each once", (unsigned long long)points);
	close_store(s.kv);
	check_u64(atomic_load(&mem.live_blocks), 0);
}

/* ---- Fork ------------------------------------------------------------------------------- */

/* The sanitizer can start no thread in a child. */
#ifndef KVS_TSAN

struct forking {
	struct kvs *kv;
	struct kvs_snapshot *snapshot; /* NULL: none is open at the fork */
	sem_t ready, begin;
};

static void forking_begin(struct forking *f, struct kvs_options *opts, uint64_t n)
{
	opts->flags = KVS_OPEN_NO_THREADS;
	opts->shards = 1;
	check_ok(kvs_open(opts, &f->kv));
	sem_init(&f->ready, 0, 0);
	sem_init(&f->begin, 0, 0);
	parking.stop_at = n;
	parking.passed = 0;
	parking.finished = false;
}

static void step_done(void)
{
	is_victim = false;
	if (parking.passed <= parking.stop_at) {
		parking.finished = true;
		sem_post(&parking.here);
	}
}

/* Fork while @step of another thread is parked. false: it has fewer points. */
static bool fork_in_the_middle(struct forking *f, void *(*step)(void *),
			       void (*in_child)(struct kvs *))
{
	pthread_t thread;
	bool finished;
	pid_t pid;

	check(pthread_create(&thread, NULL, step, f) == 0);
	sem_wait(&f->ready);
	check_ok(kvs_fork_before());
	sem_post(&f->begin);
	sem_wait(&parking.here);
	finished = parking.finished;
	pid = util_fork();
	if (pid == 0) {
		check_ok(kvs_fork_child());
		in_child(f->kv);
		close_store(f->kv);
		util_child_done();
	}
	kvs_fork_parent();
	if (!finished)
		sem_post(&parking.go);
	check(pthread_join(thread, NULL) == 0);
	check_child(pid);
	if (f->snapshot)
		check_ok(kvs_snapshot_end(f->snapshot, NULL));
	close_store(f->kv);
	return !finished;
}

/* Its last step hands a batch over. */
static void *delete_some(void *arg)
{
	struct forking *f = arg;
	char room[KEY_ROOM];
	uint64_t i;

	for (i = 0; i < KVS__BATCH_ROOM - 1; i++)
		check_ok(kvs_delete(f->kv, make_key(room, i), NULL));
	sem_post(&f->ready);
	sem_wait(&f->begin);
	is_victim = true;
	check_ok(kvs_delete(f->kv, make_key(room, i), NULL));
	step_done();
	return NULL;
}

/* What the lost thread had in hand is lost; but nothing waits for it. */
static void child_comes_to_rest(struct kvs *kv)
{
	char room[KEY_ROOM];
	int next_ms = 0;

	check_ok(kvs_set(kv, make_key(room, 1), NEW_VALUE, NULL));
	check_ok(kvs_delete(kv, make_key(room, 1), NULL));
	check_ok(kvs_drain(kv));
	check_u64(kvs__reclaim_deferred(&kv->reclaim), 0);
	for (unsigned i = 0; i < 10 && next_ms >= 0; i++)
		check_ok(kvs_run(kv, 0, 0, &next_ms));
	check(next_ms == -1); /* not before a write */
}

/* Fork while a delete is parked at its @n-th point. false: it has fewer. */
static bool fork_beside(uint64_t n)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct forking f = { .kv = NULL };

	forking_begin(&f, &opts, n);
	for (uint64_t i = 0; i < KVS__BATCH_ROOM; i++)
		set_pattern(f.kv, i, 10, i);
	return fork_in_the_middle(&f, delete_some, child_comes_to_rest);
}

static void test_wherever_a_thread_is_when_the_process_forks(void **state)
{
	uint64_t n = 0;

	(void)state;
	sem_init(&parking.here, 0, 0);
	sem_init(&parking.go, 0, 0);
	parking.count = 0;
	atomic_store(&kvs__yield_hook, on_yield);
	while (fork_beside(n))
		n++;
	atomic_store(&kvs__yield_hook, NULL);
	util_note("forked beside a delete parked at %llu points", (unsigned long long)n);
	print_places();
	check(n >= 12);
}

/* The table has just grown, and this is the next insert that links heads. */
static void *insert_one(void *arg)
{
	struct forking *f = arg;

	check_ok(kvs_thread_attach(f->kv));
	sem_post(&f->ready);
	sem_wait(&f->begin);
	is_victim = true;
	set_pattern(f->kv, 10 * FILL, 10, 0);
	step_done();
	return NULL;
}

static int is_no_key(const struct kvs_item *item, void *arg)
{
	(void)item;
	(void)arg;
	return 1;
}

/* The heads that the lost thread was about to link go with all others of the directory's upper half. */
static void child_shrinks(struct kvs *kv)
{
	struct kvs__table *table = &load_seq_cst(&kv->root)->table[0];
	char room[KEY_ROOM];
	int next_ms = 0;

	for (uint64_t i = 0; i < GROWN; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	(void)kvs_delete(kv, make_key(room, 10 * FILL), NULL);
	for (unsigned i = 0; i < 1000 && next_ms >= 0; i++)
		check_ok(kvs_run(kv, 0, 0, &next_ms));
	check(next_ms == -1);
	check_u64(load_seq_cst(&table->size), KVS__BITS_MIN);
	check_ok(kvs_foreach(kv, is_no_key, NULL));
	for (uint64_t i = 0; i < 4 * FILL; i++)
		set_pattern(kv, i, 10, i);
	for (uint64_t i = 0; i < 4 * FILL; i++)
		check_pattern(kv, i, 10, i);
}

static bool fork_beside_linking(uint64_t n)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct forking f = { .kv = NULL };
	static struct counting mem; /* poisons what is freed */
	bool more;

	counting_init(&mem, true);
	opts.allocator = &mem.hooks;
	opts.hash_key = (const unsigned char *)"the same for all";
	forking_begin(&f, &opts, n);
	for (uint64_t i = 0; i < GROWN; i++)
		set_pattern(f.kv, i, 10, i);
	check_u64(kvs__table_buckets(&load_seq_cst(&f.kv->root)->table[0]), 2 * FILL);
	more = fork_in_the_middle(&f, insert_one, child_shrinks);
	check_u64(atomic_load(&mem.live_blocks), 0);
	return more;
}

static void test_wherever_a_thread_links_heads_when_the_process_forks(void **state)
{
	uint64_t n = 0;

	(void)state;
	sem_init(&parking.here, 0, 0);
	sem_init(&parking.go, 0, 0);
	parking.count = 0;
	atomic_store(&kvs__yield_hook, on_yield);
	while (fork_beside_linking(n)) /* from the fourth head on it is all the same */
		n += n < 60 ? 1 : 7;
	atomic_store(&kvs__yield_hook, NULL);
	util_note("forked beside an insert that links heads parked at up to %llu points",
		  (unsigned long long)n);
	print_places();
	check(n >= 100);
}

/* It has made its first calls: those that come need nothing that kvs_fork_before holds. */
static void victim_begins(struct forking *f)
{
	set_pattern(f->kv, 10 * FILL, 10, 0);
	set_pattern(f->kv, 10 * FILL, 10, 1);
	sem_post(&f->ready);
	sem_wait(&f->begin);
	is_victim = true;
}

static void *delete_the_key(void *arg)
{
	struct forking *f = arg;
	char room[KEY_ROOM];

	victim_begins(f);
	check_ok(kvs_delete(f->kv, make_key(room, VICTIM_KEY), NULL));
	step_done();
	return NULL;
}

static void *replace_the_key(void *arg)
{
	struct forking *f = arg;

	victim_begins(f);
	set_pattern(f->kv, VICTIM_KEY, 10, VICTIM_KEY + 1);
	step_done();
	return NULL;
}

/* A snapshot has what single reads find, each key once. */
static void check_snapshot(struct kvs *kv)
{
	uint64_t seen[FILL] = { 0 }, extra = 0, there = 0;
	struct kvs_snapshot_part *part;
	struct kvs_snapshot *snapshot;
	struct kvs_item item;
	int err;

	seen[VICTIM_KEY] = !key_present(kv, VICTIM_KEY);
	check_ok(kvs_snapshot_begin(kv, NULL, &snapshot));
	check_ok(kvs_snapshot_part_begin(snapshot, &part));
	while ((err = kvs_snapshot_next(part, &item)) == KVS_OK) {
		uint64_t k = key_number(item.key);

		extra += k == 10 * FILL;
		if (k < FILL)
			check_u64(seen[k]++, 0);
		there++;
	}
	check_status(err, KVS_ERR_NOT_FOUND);
	kvs_snapshot_part_end(part);
	check_ok(kvs_snapshot_end(snapshot, NULL));
	for (uint64_t i = 0; i < FILL / 2; i++)
		check_u64(seen[i], 1);
	check_u64(extra, 1);
	check_u64(there, FILL / 2 + key_present(kv, VICTIM_KEY));
}

/* With no write before it. Then the child has a child; then somebody writes where the lost thread was. */
static void child_makes_snapshots(struct kvs *kv)
{
	char room[KEY_ROOM];
	pid_t pid;

	check_snapshot(kv);
	check_snapshot(kv);
	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0) {
		check_ok(kvs_fork_child());
		check_snapshot(kv);
		close_store(kv);
		util_child_done();
	}
	kvs_fork_parent();
	check_child(pid);
	check_ok(kvs_set(kv, make_key(room, VICTIM_KEY), NEW_VALUE, NULL));
	check_snapshot(kv);
	check_ok(kvs_delete(kv, make_key(room, VICTIM_KEY), NULL));
	check_snapshot(kv);
	check_ok(kvs_drain(kv));
	check_u64(kvs__reclaim_deferred(&kv->reclaim), 0);
}

static bool fork_beside_write(void *(*step)(void *), bool during_snapshot, uint64_t n)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct forking f = { .kv = NULL };
	static struct counting mem; /* poisons what is freed; and an arena's lock would be held */
	bool more;

	counting_init(&mem, true);
	opts.allocator = &mem.hooks;
	opts.hash_key = (const unsigned char *)"the same for all";
	forking_begin(&f, &opts, n);
	for (uint64_t i = 0; i < FILL / 2; i++)
		set_pattern(f.kv, i, 10, i);
	if (during_snapshot)
		check_ok(kvs_snapshot_begin(f.kv, NULL, &f.snapshot));
	more = fork_in_the_middle(&f, step, child_makes_snapshots);
	check_u64(atomic_load(&mem.live_blocks), 0);
	return more;
}

static uint64_t snapshots_after_forks(void *(*step)(void *), bool during_snapshot)
{
	uint64_t n = 0;

	while (fork_beside_write(step, during_snapshot, n))
		n++;
	return n;
}

static void test_snapshots_of_a_child_wherever_a_thread_was_writing(void **state)
{
	uint64_t deletes, replaces;

	(void)state;
	sem_init(&parking.here, 0, 0);
	sem_init(&parking.go, 0, 0);
	parking.count = 0;
	atomic_store(&kvs__yield_hook, on_yield);
	deletes = snapshots_after_forks(delete_the_key, false);
	deletes += snapshots_after_forks(delete_the_key, true);
	replaces = snapshots_after_forks(replace_the_key, false);
	replaces += snapshots_after_forks(replace_the_key, true);
	atomic_store(&kvs__yield_hook, NULL);
	util_note(
		"snapshots of children forked beside a delete parked at %llu points, a replace at %llu",
		(unsigned long long)deletes, (unsigned long long)replaces);
	print_places();
	check(deletes >= 24);
	check(replaces >= 24);
}

#define TTL INT64_C(1000) /* ms */

static struct hand hand;

static void *set_with_deadline(void *arg)
{
	struct forking *f = arg;
	char room[KEY_ROOM];

	check_ok(kvs_set_ex(f->kv, make_key(room, 10 * FILL), NEW_VALUE, kvs_after(9 * TTL), NULL));
	sem_post(&f->ready);
	sem_wait(&f->begin);
	is_victim = true;
	check_ok(kvs_set_ex(f->kv, make_key(room, VICTIM_KEY), NEW_VALUE, kvs_after(TTL), NULL));
	step_done();
	return NULL;
}

static uint64_t freed_entries(struct kvs *kv)
{
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
	return load_relaxed(&kv->reclaim.freed_count);
}

/* What is removed by a write is given back. */
static void child_deletes_the_timed_key(struct kvs *kv)
{
	uint64_t freed = freed_entries(kv);
	bool there = key_present(kv, VICTIM_KEY);
	char room[KEY_ROOM];

	check_status(kvs_delete(kv, make_key(room, VICTIM_KEY), NULL),
		     there ? KVS_OK : KVS_ERR_NOT_FOUND);
	check_u64(freed_entries(kv), freed + there);
	check_ok(kvs_delete(kv, make_key(room, 10 * FILL), NULL));
	check_u64(freed_entries(kv), freed + there + 1);
}

/* And what nobody touches, by the wheel, in a child's child too. */
static void child_lets_the_key_expire(struct kvs *kv)
{
	uint64_t freed = freed_entries(kv);
	bool there = key_present(kv, VICTIM_KEY);
	pid_t pid;

	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0)
		check_ok(kvs_fork_child());
	else
		kvs_fork_parent();
	check_u64(freed_entries(kv), freed);
	check_u64(store_stats(kv).timers, there + 1u);
	hand_set(&hand, 2 * TTL);
	for (unsigned i = 0; i < 4; i++)
		check_ok(kvs_run(kv, 0, 0, NULL));
	check_u64(store_stats(kv).expirations, there);
	check_u64(freed_entries(kv), freed + there);
	check_u64(store_stats(kv).timers, 1);
	if (pid == 0) {
		close_store(kv);
		util_child_done();
	}
	check_child(pid);
}

static bool fork_beside_set_ex(void (*in_child)(struct kvs *), uint64_t n)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct forking f = { .kv = NULL };
	static struct counting mem; /* poisons what is freed */
	bool more;

	counting_init(&mem, true);
	hand_init(&hand);
	opts.allocator = &mem.hooks;
	opts.clock = &hand.clock;
	opts.hash_key = (const unsigned char *)"the same for all";
	forking_begin(&f, &opts, n);
	more = fork_in_the_middle(&f, set_with_deadline, in_child);
	check_u64(atomic_load(&mem.live_blocks), 0);
	return more;
}

static void test_a_timer_of_a_child_wherever_a_thread_was_setting_it(void **state)
{
	uint64_t deleted = 0, expired = 0;

	(void)state;
	sem_init(&parking.here, 0, 0);
	sem_init(&parking.go, 0, 0);
	parking.count = 0;
	atomic_store(&kvs__yield_hook, on_yield);
	while (fork_beside_set_ex(child_deletes_the_timed_key, deleted))
		deleted++;
	while (fork_beside_set_ex(child_lets_the_key_expire, expired))
		expired++;
	atomic_store(&kvs__yield_hook, NULL);
	util_note("forked beside a set with a deadline parked at %llu and %llu points",
		  (unsigned long long)deleted, (unsigned long long)expired);
	print_places();
	check(deleted >= 10);
	check(expired >= 10);
}

static void *open_and_close(void *arg)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv;

	(void)arg;
	opts.shards = 1;
	is_victim = true;
	check_ok(kvs_open(&opts, &kv));
	is_victim = false;
	if (parking.passed <= parking.stop_at) {
		parking.finished = true;
		sem_post(&parking.here);
	}
	close_store(kv);
	return NULL;
}

/* What a fork finds has all its parts: its child starts threads for it. */
static void check_home(struct kvs__home *h, void *arg)
{
	(void)arg;
	check(kvs_container_of(h, struct kvs, home)->expiry.slot != NULL);
}

/* Fork while an open is parked at its @n-th point. false: it has fewer. */
static bool fork_beside_open(struct kvs *kv, uint64_t n)
{
	pthread_t thread;
	bool finished;
	pid_t pid;

	parking.stop_at = n;
	parking.passed = 0;
	parking.finished = false;
	check(pthread_create(&thread, NULL, open_and_close, NULL) == 0);
	sem_wait(&parking.here);
	finished = parking.finished;
	check_ok(kvs_fork_before());
	kvs__home_each(check_home, NULL);
	pid = util_fork();
	if (pid == 0) {
		check_ok(kvs_fork_child());
		set_pattern(kv, 1, 10, 1);
		close_store(kv);
		util_child_done();
	}
	kvs_fork_parent();
	if (!finished)
		sem_post(&parking.go);
	check(pthread_join(thread, NULL) == 0);
	check_child(pid);
	return !finished;
}

static void test_wherever_an_open_is_when_the_process_forks(void **state)
{
	struct kvs *kv = open_default();
	uint64_t n = 0;

	(void)state;
	parking.count = 0;
	atomic_store(&kvs__yield_hook, on_yield);
	while (fork_beside_open(kv, n))
		n++;
	atomic_store(&kvs__yield_hook, NULL);
	close_store(kv);
	util_note("forked beside an open parked at %llu points", (unsigned long long)n);
	print_places();
	check(n >= 12);
}

#endif

/* ---- Close ------------------------------------------------------------------------------ */

struct closing {
	struct scene scene;
	_Atomic bool done;
};

static void *close_it(void *arg)
{
	struct closing *c = arg;

	check_ok(kvs_close(c->scene.kv));
	atomic_store(&c->done, true);
	return NULL;
}

/* Let close come as far as it can. How far that is decides nothing here but what may be found. */
static void give_time(const struct closing *c)
{
	const struct timespec a_while = { 0, 1000000 };

	for (unsigned i = 0; i < 60 && !atomic_load(&c->done); i++)
		nanosleep(&a_while, NULL);
}

static void replace_until_closed(struct scene *s, struct kvs_slice key)
{
	int err = kvs_set(s->kv, key, NEW_VALUE, NULL);

	check(err == KVS_OK || err == KVS_ERR_STORE_CLOSED);
}

/*
 * Close while a write is parked at its @n-th point. Returns whether close ended before the write.
 */
static bool close_beside(uint64_t n, bool *ret_finished)
{
	static const struct act act = { .name = "set beside close", .fn = replace_until_closed };
	static struct counting mem;
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct closing c = { .done = false };
	struct victim victim = { &c.scene, &act };
	pthread_t thread, closer;
	bool ended;

	counting_init(&mem, true);
	opts.allocator = &mem.hooks;
	opts.hash_key = (const unsigned char *)"the same for all"; /* and so are the points */
	check_ok(kvs_open(&opts, &c.scene.kv));
	set_pattern(c.scene.kv, VICTIM_KEY, 10, 0);
	parking.stop_at = n;
	parking.passed = 0;
	parking.finished = false;
	atomic_store(&kvs__yield_hook, on_yield);
	check(pthread_create(&thread, NULL, run_victim, &victim) == 0);
	sem_wait(&parking.here);
	*ret_finished = parking.finished;
	check(pthread_create(&closer, NULL, close_it, &c) == 0);
	give_time(&c);
	ended = atomic_load(&c.done);
	if (!*ret_finished)
		sem_post(&parking.go);
	check(pthread_join(thread, NULL) == 0);
	check(pthread_join(closer, NULL) == 0);
	atomic_store(&kvs__yield_hook, NULL);
	check_ok(kvs_free(c.scene.kv));
	check_u64(atomic_load(&mem.live_blocks), 0);
	return ended;
}

/* Whatever a write still does when close has let it go, nothing is lost or touched too late. */
static void test_close_beside_a_parked_write(void **state)
{
	uint64_t n = 0, before = 0;
	bool finished = false;

	(void)state;
	sem_init(&parking.here, 0, 0);
	sem_init(&parking.go, 0, 0);
	parking.count = 0;
	for (; !finished; n++)
		before += close_beside(n, &finished) && !finished;
	util_note("a write parked at %llu points beside close, which ended first %llu times",
		  (unsigned long long)n - 1, (unsigned long long)before);
	print_places();
	check(n >= 10);
}

/* ---- Shrink ------------------------------------------------------------------------------ */

static struct {
	struct kvs__maintainer *maintainer;
	uint64_t at, passed;
} grace;

static void end_grace_period(const char *file, int line)
{
	(void)file;
	(void)line;
	if (grace.passed++ == grace.at)
		atomic_store(&grace.maintainer->gp_over, 1);
}

/* In the round in which the shrink waits, its grace period ends at the @n-th point. false: the round has fewer. */
static bool shrink_with_grace_period_until(uint64_t n)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs__table *table;
	struct kvs *kv;
	int next_ms = 0;

	opts.flags = KVS_OPEN_NO_THREADS;
	opts.shards = 1;
	opts.hash_key = (const unsigned char *)"the same for all";
	check_ok(kvs_open(&opts, &kv));
	table = &load_seq_cst(&kv->root)->table[0];
	fill(kv, 4 * FILL, true);
	while (next_ms >= 0)
		check_ok(kvs_run(kv, 0, 0, &next_ms));
	check(kvs__table_buckets(table) == 4 * FILL);
	fill(kv, 4 * FILL, false);
	check_ok(kvs_run(kv, 0, KVS_RUN_DONT_WAIT, NULL));
	check(kv->maintainer.shrink == KVS__SHRINK_GP_1);
	grace.maintainer = &kv->maintainer;
	grace.at = n;
	grace.passed = 0;
	atomic_store(&kvs__yield_hook, end_grace_period);
	check_ok(kvs_run(kv, 0, KVS_RUN_DONT_WAIT, &next_ms));
	atomic_store(&kvs__yield_hook, NULL);
	for (unsigned i = 0; i < 1000 && next_ms >= 0; i++)
		check_ok(kvs_run(kv, 0, 0, &next_ms));
	check(next_ms == -1);
	check_u64(load_seq_cst(&table->size), KVS__BITS_MIN); /* no flag either */
	close_store(kv);
	return grace.passed > n;
}

static void test_a_grace_period_may_end_at_any_point_of_a_round(void **state)
{
	uint64_t n = 0;

	(void)state;
	while (shrink_with_grace_period_until(n))
		n++;
	util_note("the grace period of a shrink ended at %llu points of a round",
		  (unsigned long long)n);
	check(n >= 12);
}

/* ---- The wheel ---------------------------------------------------------------------------- */

struct turning {
	struct kvs *kv;
	struct hand hand;
};

/* A turn of the wheel, as the store's thread or a writer that helps makes it: without admin. */
static void *turn_the_wheel(void *arg)
{
	struct turning *t = arg;
	uint64_t budget = 1000;

	check_ok(kvs_thread_attach(t->kv));
	is_victim = true;
	(void)kvs__expiry_pass(t->kv, kvs__clock_now(&t->kv->clock), &budget);
	is_victim = false;
	if (parking.passed <= parking.stop_at) {
		parking.finished = true;
		sem_post(&parking.here);
	}
	return NULL;
}

static void *clear_it(void *arg)
{
	check_ok(kvs_clear(arg));
	return NULL;
}

static void set_due(struct kvs *kv, uint64_t number)
{
	char room[KEY_ROOM];

	check_ok(kvs_set_ex(kv, make_key(room, number), NEW_VALUE, kvs_at(1), NULL));
}

/* Clear, and a key of the new contents that is due at once, while the wheel is parked at the @n-th point. */
static bool clear_beside_the_wheel(uint64_t n)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct turning t = { .kv = NULL };
	pthread_t turner, clearer;
	struct kvs__root *root;
	int next_ms = 0;
	bool finished;

	hand_init(&t.hand);
	opts.flags = KVS_OPEN_NO_THREADS;
	opts.shards = 1;
	opts.clock = &t.hand.clock;
	check_ok(kvs_open(&opts, &t.kv));
	set_due(t.kv, 1);
	root = load_seq_cst(&t.kv->root);
	parking.stop_at = n;
	parking.passed = 0;
	parking.finished = false;
	atomic_store(&kvs__yield_hook, on_yield);
	check(pthread_create(&turner, NULL, turn_the_wheel, &t) == 0);
	sem_wait(&parking.here);
	finished = parking.finished;
	check(pthread_create(&clearer, NULL, clear_it, t.kv) == 0);
	while (load_seq_cst(&t.kv->root) == root)
		sched_yield();
	set_due(t.kv, 2);
	if (!finished)
		sem_post(&parking.go);
	check(pthread_join(turner, NULL) == 0);
	check(pthread_join(clearer, NULL) == 0);
	atomic_store(&kvs__yield_hook, NULL);
	for (unsigned i = 0; i < 100 && next_ms >= 0; i++) {
		hand_set(&t.hand, (i + 1) * 1000);
		check_ok(kvs_run(t.kv, 0, 0, &next_ms));
	}
	check(next_ms == -1);
	check_u64(store_len(t.kv), 0);
	close_store(t.kv);
	return !finished;
}

static void test_a_key_of_new_contents_is_not_lost_to_the_wheel(void **state)
{
	uint64_t n = 0;

	(void)state;
	sem_init(&parking.here, 0, 0);
	sem_init(&parking.go, 0, 0);
	parking.count = 0;
	while (clear_beside_the_wheel(n))
		n++;
	util_note("cleared beside a turn of the wheel parked at %llu points",
		  (unsigned long long)n);
	print_places();
	check(n >= 20);
}

/* ---- Flush ------------------------------------------------------------------------------- */

#define BUSY_LIMIT 20000u /* points: a drain that has not ended by then never would */

/* A writer that sends two messages at each point that the drain passes in expiry.c. */
static struct busy {
	struct kvs *kv;
	sem_t more;
	sem_t sent;
	uint64_t points;
	uint64_t sets;
	bool over;
} busy;

static void *keep_sending(void *arg)
{
	char room[KEY_ROOM];

	(void)arg;
	check_ok(kvs_thread_attach(busy.kv));
	for (;;) {
		while (sem_wait(&busy.more) != 0)
			;
		if (busy.over)
			return NULL;
		check_ok(kvs_set_ex(busy.kv, make_key(room, busy.sets++ % FILL), NEW_VALUE,
				    kvs_after(1000000), NULL));
		sem_post(&busy.sent);
	}
}

static void wait_for_a_set(const char *file, int line)
{
	(void)line;
	if (!is_victim || !strstr(file, "expiry.c") || busy.points++ >= BUSY_LIMIT)
		return;
	sem_post(&busy.more);
	while (sem_wait(&busy.sent) != 0)
		;
}

static void test_drain_ends_beside_a_writer_of_timed_keys(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	pthread_t writer;

	(void)state;
	opts.flags = KVS_OPEN_NO_THREADS;
	check_ok(kvs_open(&opts, &busy.kv));
	sem_init(&busy.more, 0, 0);
	sem_init(&busy.sent, 0, 0);
	for (uint64_t i = 0; i < 200; i++)
		check_ok(kvs_set_ex(busy.kv, kvs_bytes(&i, sizeof(i)), NEW_VALUE,
				    kvs_after(1000000), NULL));
	check(pthread_create(&writer, NULL, keep_sending, NULL) == 0);
	atomic_store(&kvs__yield_hook, wait_for_a_set);
	is_victim = true;
	check_ok(kvs_drain(busy.kv));
	is_victim = false;
	atomic_store(&kvs__yield_hook, NULL);
	busy.over = true;
	sem_post(&busy.more);
	check(pthread_join(writer, NULL) == 0);
	util_note("%llu sets while the drain passed %llu points", (unsigned long long)busy.sets,
		  (unsigned long long)busy.points);
	check(busy.sets >= 200);
	check(busy.points < BUSY_LIMIT);
	close_store(busy.kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_waits_for_a_parked_thread),
#ifndef KVS_TSAN
		cmocka_unit_test(test_wherever_a_thread_is_when_the_process_forks),
		cmocka_unit_test(test_wherever_a_thread_links_heads_when_the_process_forks),
		cmocka_unit_test(test_snapshots_of_a_child_wherever_a_thread_was_writing),
		cmocka_unit_test(test_a_timer_of_a_child_wherever_a_thread_was_setting_it),
		cmocka_unit_test(test_wherever_an_open_is_when_the_process_forks),
#endif
		cmocka_unit_test(test_close_beside_a_parked_write),
		cmocka_unit_test(test_a_grace_period_may_end_at_any_point_of_a_round),
		cmocka_unit_test(test_a_key_of_new_contents_is_not_lost_to_the_wheel),
		cmocka_unit_test(test_drain_ends_beside_a_writer_of_timed_keys),
	};

	return util_main("parked", tests, ARRAY_LEN(tests));
}
