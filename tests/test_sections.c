/* SPDX-License-Identifier: MIT */
/*
 * test_sections.c - the read sections that walks make for themselves are short, whatever they walk through.
 *
 * The table has far more heads than entries, and what it holds has mostly expired. The yield points that the walker passes
 * from one section's begin to the next are counted: about one for each node. Only for builds configured with --enable-yield.
 */
#include "configs.h"

#include <string.h>

#include "hand.h"
#include "iter.h"
#include "rcu.h"
#include "store.h"
#include "yield.h"

#ifndef KVS_YIELD_RAND
#error "this program needs yield points: configure with --enable-yield"
#endif

#define KEYS 200u
#define EXPIRED 1000u
#define TTL 1000
/* A head is one point, an entry few; a snapshot looks at some buckets ahead. */
#define POINTS_MAX (3 * KVS__SECTION_NODES)

/* ---- Counting --------------------------------------------------------------------------- */

static struct {
	const char *file; /* the first point of a section: always the same */
	int line;
	uint64_t points; /* in this section */
	uint64_t longest;
	uint64_t total;
	uint64_t sections;
} seen;

static __thread bool is_walker;

static void on_yield(const char *file, int line)
{
	if (!is_walker || !kvs__rcu_read_ongoing())
		return;
	if (seen.file == NULL) {
		seen.file = file;
		seen.line = line;
	}
	if (line == seen.line && strcmp(file, seen.file) == 0) {
		seen.points = 0;
		seen.sections++;
	}
	seen.total++;
	if (++seen.points > seen.longest)
		seen.longest = seen.points;
}

static void count_begin(void)
{
	memset(&seen, 0, sizeof(seen));
	is_walker = true;
}

static void count_end(const char *what, uint64_t heads)
{
	is_walker = false;
	util_note("%s: %llu points in %llu sections, %llu in the longest", what,
		  (unsigned long long)seen.total, (unsigned long long)seen.sections,
		  (unsigned long long)seen.longest);
	check(seen.total >= heads); /* it has met them all */
	check(seen.longest <= POINTS_MAX);
}

/* ---- Walks ------------------------------------------------------------------------------ */

struct walked {
	unsigned char times[KEYS];
	uint64_t count;
};

static int note_key(const struct kvs_item *item, void *arg)
{
	struct walked *w = arg;
	uint64_t number = key_number(item->key);

	check(number < KEYS);
	check_u64(w->times[number]++, 0);
	w->count++;
	return 0;
}

static void walk_foreach(struct kvs *kv, uint64_t keys, uint64_t heads)
{
	struct walked w = { .count = 0 };

	count_begin();
	check_ok(kvs_foreach(kv, note_key, &w));
	count_end("foreach", heads);
	check_u64(w.count, keys);
}

static void walk_snapshot(struct kvs *kv, uint64_t keys, uint64_t heads)
{
	struct walked w = { .count = 0 };
	struct kvs_snapshot_part *p;
	struct kvs_snapshot *s;
	struct kvs_item item;

	check_ok(kvs_snapshot_begin(kv, NULL, &s));
	check_ok(kvs_snapshot_part_begin(s, &p));
	count_begin();
	while (kvs_snapshot_next(p, &item) == KVS_OK)
		(void)note_key(&item, &w);
	count_end("snapshot", heads);
	check_u64(w.count, keys);
	kvs_snapshot_part_end(p);
	check_ok(kvs_snapshot_end(s, NULL));
}

/* A store of one shard, of which every head is linked. Without threads: nothing is removed unless we say so. */
static struct kvs *open_sparse(struct hand *hand, uint64_t heads)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;

	hand_init(hand);
	opts.clock = &hand->clock;
	opts.flags = KVS_OPEN_NO_THREADS;
	opts.initial_capacity = heads;
	opts.shards = 1;
	check_ok(kvs_open(&opts, &kv));
	while (store_stats(kv).buckets_linked < store_stats(kv).buckets)
		check_ok(kvs_run(kv, 0, 0, NULL));
	check_u64(store_stats(kv).buckets_linked, heads);
	return kv;
}

static void test_sections_among_heads(void **state)
{
	uint64_t heads = util_scaled_full(1 << 16, 1 << 19, 1 << 20, 1 << 22);
	struct kvs *kv;
	struct hand hand;
	char room[KEY_ROOM];

	(void)state;
	check(heads > 2 * (uint64_t)POINTS_MAX);
	atomic_store(&kvs__yield_hook, on_yield);
	kv = open_sparse(&hand, heads);
	walk_foreach(kv, 0, heads);
	walk_snapshot(kv, 0, heads);
	for (uint64_t i = 0; i < KEYS; i++)
		check_ok(kvs_set(kv, make_key(room, i), kvs_str("value"), NULL));
	for (uint64_t i = KEYS; i < KEYS + EXPIRED; i++)
		check_ok(kvs_set_ex(kv, make_key(room, i), kvs_str("value"), kvs_after(TTL), NULL));
	hand_set(&hand, TTL);
	check_u64(store_len(kv), KEYS + EXPIRED); /* nobody has removed them */
	walk_foreach(kv, KEYS, heads);
	walk_snapshot(kv, KEYS, heads);
	atomic_store(&kvs__yield_hook, NULL);
	close_store(kv);
}

/* ---- Where they end --------------------------------------------------------------------- */

#define STAY 500u
#define WAVES 24u /* the table grows, then shrinks, this often */

struct small {
	struct kvs *kv;
	struct rng rng;
	unsigned char times[STAY];
	uint64_t sections;
	uint64_t stops; /* at heads */
};

/* One section, which may end at the first head that it comes on to. false: the table's end was reached. */
static bool small_section(struct small *s, uint64_t *after)
{
	struct kvs__entry *e;
	struct kvs__walk w;
	bool goes_on;

	kvs__rcu_read_lock();
	w = kvs__walk_start(&load_seq_cst(&s->kv->root)->table[0], *after, NULL);
	w.nodes = rng_below(&s->rng, 8);
	while ((e = kvs__walk_next(&w)) != NULL) {
		uint64_t number = key_number(kvs_bytes(e->bytes, kvs__entry_key_len(e)));

		if (number < STAY)
			check_u64(s->times[number]++, 0);
	}
	goes_on = !kvs__walk_has_ended(&w);
	kvs__rcu_read_unlock();
	check(!goes_on || w.after > *after);
	*after = w.after;
	s->sections++;
	s->stops += goes_on;
	return goes_on;
}

/* Something that changes the table: a part of a wave of keys that come, or go. */
static void stir(struct small *s, uint64_t *at, uint64_t wave)
{
	char room[KEY_ROOM];

	for (uint64_t i = 0; i < wave / 16; i++, ++*at) {
		struct kvs_slice key = make_key(room, STAY + *at % wave);

		if (*at / wave % 2 == 0)
			check_ok(kvs_set(s->kv, key, kvs_str("wave"), NULL));
		else
			check_ok(kvs_delete(s->kv, key, NULL));
	}
	check_ok(kvs_run(s->kv, 0, 0, NULL));
}

/* Between sections the table grows and shrinks; what stays is met once all the same. */
static void test_a_walk_goes_on_at_heads(void **state)
{
	uint64_t wave = util_scaled(4000, 16000, 64000), walks = 0, at = 0;
	struct small s = { .kv = NULL };
	struct kvs_stats stats;
	struct hand hand;
	char room[KEY_ROOM];

	(void)state;
	s.kv = open_sparse(&hand, 64);
	rng_init(&s.rng, 1);
	for (uint64_t i = 0; i < STAY; i++)
		check_ok(kvs_set(s.kv, make_key(room, i), kvs_str("stay"), NULL));
	for (; at < WAVES * wave; walks++) {
		uint64_t after = 0;

		memset(s.times, 0, sizeof(s.times));
		while (small_section(&s, &after))
			if (rng_below(&s.rng, 200) == 0)
				stir(&s, &at, wave);
		for (unsigned i = 0; i < STAY; i++)
			check_u64(s.times[i], 1);
		stir(&s, &at, wave);
	}
	stats = store_stats(s.kv);
	util_note(
		"%llu walks in %llu sections, %llu of which ended at heads; %llu doublings, %llu halvings",
		(unsigned long long)walks, (unsigned long long)s.sections,
		(unsigned long long)s.stops, (unsigned long long)stats.growths,
		(unsigned long long)stats.shrinks);
	check(s.stops > 100 * walks && walks > 5);
	check(stats.growths > WAVES / 3 && stats.shrinks > WAVES / 3);
	close_store(s.kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sections_among_heads),
		cmocka_unit_test(test_a_walk_goes_on_at_heads),
	};

	return util_main("sections", tests, ARRAY_LEN(tests));
}
