/* SPDX-License-Identifier: MIT */
/*
 * test_stress_scan.c - a walk meets every key that stays exactly once, and no key twice.
 *
 * In each round the table grows 16 times and shrinks back, in steps; between two steps one page
 * of a scan is taken. So every scan meets tables of different sizes, and shrinks half done.
 * Meanwhile one thread overwrites the keys that stay, one inserts and deletes others, and one
 * walks in all the other ways; these three start pieces of work between steps and nobody waits
 * for them.
 */
#include "configs.h"

#include <semaphore.h>
#include <string.h>

#include "stress.h"

#define STABLE 40u
#define CHURN 16u
#define CHURN_FIRST 1000u
#define FILLERS 600u
#define CAP_MAX 64u

enum { ROUNDS, SCANS, PAGES, WALKS, OVERWRITES, CHURNED };

struct stress {
	struct kvs *kv;
	struct goals goals;
	struct tide tide;
	sem_t scanner;      /* the scanner's turn */
	sem_t resizer;      /* the resizer's turn */
	sem_t piece[3];     /* a piece of work for walker, overwriter, churner */
	bool over;          /* the round's last step is done; handed over with the turn */
	bool stop;          /* no more rounds; likewise */
	_Atomic bool ended; /* no more pieces */
	uint64_t halved;
	uint64_t steps;
	uint64_t most_bits;
};

/* What one walk met. */
struct met {
	unsigned char stable[STABLE];
	unsigned char churn[CHURN];
	unsigned char filler[FILLERS];
};

static int meet(const struct kvs_item *item, void *arg)
{
	struct met *m = arg;
	uint64_t k = key_number(item->key);
	unsigned char *n;

	if (k < STABLE)
		n = &m->stable[k];
	else if (k < TIDE_FIRST)
		n = &m->churn[k - CHURN_FIRST];
	else
		n = &m->filler[k - TIDE_FIRST];
	if (++*n != 1)
		util_fail(__FILE__, __LINE__, "key %llu was met twice", (unsigned long long)k);
	check(item->value.version != 0);
	if (k < STABLE) {
		uint64_t tag;

		check_u64(item->value.len, 24);
		memcpy(&tag, item->value.data, 8);
		check(pattern_matches((const char *)item->value.data + 8, 16, tag));
	}
	return 0;
}

static void check_met(const struct met *m)
{
	for (uint64_t k = 0; k < STABLE; k++)
		if (m->stable[k] != 1)
			util_fail(__FILE__, __LINE__, "key %llu, which stays, was not met",
				  (unsigned long long)k);
}

/* ---- Scans ------------------------------------------------------------------------------ */

struct scan {
	uint64_t cursor;
	size_t cap;
	struct met met;
};

static void scan_begin(struct scan *s, struct rng *r)
{
	memset(s, 0, sizeof(*s));
	s->cap = 2 + rng_below(r, CAP_MAX - 1);
}

/* One page. true: the scan is complete. */
static bool scan_page(struct kvs *kv, struct scan *s)
{
	struct kvs_item items[CAP_MAX];
	size_t count;

	kvs_read_begin(kv);
	check_ok(kvs_scan(kv, &s->cursor, items, s->cap, &count));
	for (size_t i = 0; i < count; i++)
		(void)meet(&items[i], &s->met);
	kvs_read_end(kv);
	if (s->cursor != 0)
		return false;
	check_met(&s->met);
	return true;
}

/* In turn with the resizer: a page for each of its steps; at a round's end the scan is finished. */
static void scan_in_turn(struct stress *s, struct rng *r)
{
	struct scan scan;
	bool stop = false;

	scan_begin(&scan, r);
	while (!stop) {
		bool done;

		sem_wait(&s->scanner);
		do {
			goal_add(&s->goals, PAGES, 1);
			done = scan_page(s->kv, &scan);
		} while (s->over && !done);
		if (done) {
			goal_add(&s->goals, SCANS, 1);
			scan_begin(&scan, r);
		}
		stop = s->stop;
		sem_post(&s->resizer);
	}
}

static void step(void *arg)
{
	struct stress *s = arg;
	uint64_t bits = kvs__size_bits(load_seq_cst(&load_seq_cst(&s->kv->root)->table[0].size));

	s->most_bits = bits > s->most_bits ? bits : s->most_bits;
	/* Not at each step: a grace period that meets a reader takes 10 ms, and walks are long. */
	for (size_t i = 0; i < 3; i++)
		if (s->steps % (i == 0 ? 17 : 5) < (i == 0 ? 1 : 2))
			sem_post(&s->piece[i]);
	s->steps++;
	sem_post(&s->scanner);
	sem_wait(&s->resizer);
}

/* Wait for the next piece of work; false: there are no more. */
static bool next_piece(struct stress *s, size_t who)
{
	sem_wait(&s->piece[who]);
	return !atomic_load(&s->ended);
}

static void resize(struct stress *s)
{
	tide_begin(&s->tide);
	do {
		s->over = false;
		s->most_bits = 0;
		s->halved = tide_cycle(&s->tide);
		check(s->halved >= 4 && s->most_bits >= KVS__BITS_MIN + 4);
		goal_add(&s->goals, ROUNDS, 1);
		s->over = true;
		s->stop = goals_met(&s->goals);
		step(s);
	} while (!s->stop);
	atomic_store(&s->ended, true);
	for (size_t i = 0; i < 3; i++)
		sem_post(&s->piece[i]);
	tide_end(&s->tide);
}

static void check_keys(struct kvs *kv)
{
	struct met met = { .stable = { 0 } };
	struct kvs_slice *keys;
	size_t count;

	check_ok(kvs_keys(kv, &keys, &count));
	for (size_t i = 0; i < count; i++) {
		uint64_t k = key_number(keys[i]);

		if (k < STABLE)
			met.stable[k]++;
	}
	check_met(&met);
	kvs_keys_free(kv, keys);
}

static void walk(struct stress *s, struct rng *r)
{
	while (next_piece(s, 0)) {
		struct met met = { .stable = { 0 } };
		struct scan scan;

		check_ok(kvs_foreach(s->kv, meet, &met));
		check_met(&met);
		check_keys(s->kv);
		scan_begin(&scan, r);
		while (!scan_page(s->kv, &scan))
			;
		goal_add(&s->goals, WALKS, 3);
	}
}

/* ---- Writers ---------------------------------------------------------------------------- */

#define PIECE 40u

static void overwrite(struct stress *s, struct rng *r)
{
	unsigned char value[24];
	char room[KEY_ROOM];

	while (next_piece(s, 1)) {
		for (unsigned i = 0; i < PIECE; i++) {
			struct kvs_slice key = make_key(room, rng_below(r, STABLE));
			uint64_t tag = rng_next(r);

			memcpy(value, &tag, 8);
			pattern_fill(value + 8, 16, tag);
			if (tag % 2)
				check_ok(kvs_set(s->kv, key, kvs_bytes(value, 24), NULL));
			else
				check_ok(kvs_replace(s->kv, key, kvs_bytes(value, 24), NULL));
		}
		goal_add(&s->goals, OVERWRITES, PIECE);
	}
}

static void churn(struct stress *s, struct rng *r)
{
	char room[KEY_ROOM];

	while (next_piece(s, 2)) {
		for (unsigned i = 0; i < PIECE; i++) {
			struct kvs_slice key = make_key(room, CHURN_FIRST + rng_below(r, CHURN));

			if (kvs_add(s->kv, key, key, NULL) == KVS_ERR_DUPLICATE)
				check_ok(kvs_delete(s->kv, key, NULL));
		}
		goal_add(&s->goals, CHURNED, PIECE);
	}
}

static void member(size_t index, void *arg)
{
	struct stress *s = arg;
	struct rng r;

	rng_init(&r, index);
	switch (index) {
	case 0:
		scan_in_turn(s, &r);
		break;
	case 1:
		walk(s, &r);
		break;
	case 2:
		overwrite(s, &r);
		break;
	case 3:
		churn(s, &r);
		break;
	default:
		resize(s);
		break;
	}
}

/* Keys in pairs of equal hash: 2n and 2n + 1. */
static uint64_t pair_hash(const void *key, size_t len, void *ctx)
{
	(void)ctx;
	return key_number(kvs_bytes(key, len)) / 2 * UINT64_C(0x9e3779b97f4a7c15);
}

static void run(struct kvs_options *opts, uint64_t rounds)
{
	struct stress *s = calloc(1, sizeof(*s));

	check(s != NULL);
	s->goals = (struct goals){ {
		[ROUNDS] = { .name = "rounds of growth by 16 and shrink", .floor = rounds },
		[SCANS] = { .name = "scans, a page between two steps of these", .floor = rounds },
		[PAGES] = { .name = "pages", .floor = 10 * rounds },
		[WALKS] = { .name = "other walks", .floor = rounds },
		[OVERWRITES] = { .name = "overwrites", .floor = 10 * rounds },
		[CHURNED] = { .name = "inserts and deletes of other keys", .floor = 10 * rounds },
	} };
	opts->shards = 1;
	check_ok(kvs_open(opts, &s->kv));
	s->tide = (struct tide){ s->kv, FILLERS, 32, step, s };
	sem_init(&s->scanner, 0, 0);
	sem_init(&s->resizer, 0, 0);
	for (size_t i = 0; i < 3; i++)
		sem_init(&s->piece[i], 0, 0);
	for (uint64_t k = 0; k < STABLE; k++) {
		unsigned char value[24] = { 0 };
		char room[KEY_ROOM];

		pattern_fill(value + 8, 16, 0);
		check_ok(kvs_add(s->kv, make_key(room, k), kvs_bytes(value, 24), NULL));
	}
	run_threads(5, member, s);
	goals_report(&s->goals);
	check(store_stats(s->kv).growths >= 4 * rounds);
	check(store_stats(s->kv).shrinks >= 4 * rounds);
	sem_destroy(&s->scanner);
	sem_destroy(&s->resizer);
	for (size_t i = 0; i < 3; i++)
		sem_destroy(&s->piece[i]);
	close_store(s->kv);
	free(s);
}

static void test_walks_meet_each_key_once(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	run(&opts, util_scaled_full(5, 60, 500, 50000));
}

static void test_walks_meet_each_key_once_with_equal_hashes(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	(void)state;
	opts.hash = KVS_HASH_USER;
	opts.hash_fn = pair_hash;
	run(&opts, util_scaled_full(5, 60, 500, 50000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walks_meet_each_key_once),
		cmocka_unit_test(test_walks_meet_each_key_once_with_equal_hashes),
	};

	return util_main("stress_scan", tests, ARRAY_LEN(tests));
}
