/* SPDX-License-Identifier: MIT */
/*
 * test_pin.c - a pinned value keeps its bytes, whatever becomes of its key and of the store, and its memory comes
 * back with the last pin; also while threads pin, replace and unpin at once.
 */
#include "configs.h"

#include <string.h>

static void check_pinned(const struct kvs_value *v, size_t len, uint64_t tag)
{
	check_u64(v->len, len);
	check(pattern_matches(v->data, len, tag));
}

static void pin_number(struct kvs *kv, uint64_t number, struct kvs_value *v, struct kvs_pin *pin)
{
	char room[KEY_ROOM];

	check_ok(kvs_pin(kv, make_key(room, number), v, pin));
}

/* Overwritten, deleted, cleared, closed: the value stays; then free answers BUSY until it is let go. */
static void whatever_becomes_of_it(struct fixture *f)
{
	static const size_t lens[] = { 0, 1, 100, 5000, 70000 };
	struct kvs_value v[ARRAY_LEN(lens)][3];
	struct kvs_pin pin[ARRAY_LEN(lens)][3];
	struct kvs_stats stats;

	for (size_t i = 0; i < ARRAY_LEN(lens); i++)
		for (size_t j = 0; j < 3; j++) {
			set_pattern(f->kv, 10 * j + i, lens[i], 10 * j + i);
			pin_number(f->kv, 10 * j + i, &v[i][j], &pin[i][j]);
			check(v[i][j].version != 0);
		}
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		char room[KEY_ROOM];

		set_pattern(f->kv, i, 7, 99);
		check_ok(kvs_delete(f->kv, make_key(room, 10 + i), NULL));
	}
	check_ok(kvs_drain(f->kv));
	stats = store_stats(f->kv);
	check_u64(stats.pins, 3 * ARRAY_LEN(lens));
	check(stats.bytes_pinned > 2 * 75000 && stats.bytes_deferred == 0);
	check_ok(kvs_clear(f->kv));
	check_u64(store_len(f->kv), 0);
	check_status(kvs_free(f->kv), KVS_ERR_BUSY); /* and nothing was changed */
	set_pattern(f->kv, 0, 3, 5);
	check_pattern(f->kv, 0, 3, 5);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++)
		for (size_t j = 0; j < 3; j++)
			check_pinned(&v[i][j], lens[i], 10 * j + i);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++)
		kvs_unpin(f->kv, &pin[i][0]);
	check_ok(kvs_close(f->kv));
	check_status(kvs_free(f->kv), KVS_ERR_BUSY);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++)
		for (size_t j = 1; j < 3; j++) {
			check_pinned(&v[i][j], lens[i], 10 * j + i);
			kvs_unpin(f->kv, &pin[i][j]);
			check(pin[i][j].entry == NULL);
			kvs_unpin(f->kv, &pin[i][j]); /* of none */
		}
}

static void test_a_pinned_value_stays_whatever_becomes_of_it(void **state)
{
	(void)state;
	each_config(whatever_becomes_of_it);
}

static void memory_comes_back(struct fixture *f)
{
	struct kvs_value v;
	struct kvs_pin a, b;
	uint64_t before;

	if (!f->config.allocator)
		return;
	set_pattern(f->kv, 1, 5000, 1);
	pin_number(f->kv, 1, &v, &a);
	pin_number(f->kv, 1, &v, &b);
	set_pattern(f->kv, 1, 5000, 2);
	check_ok(kvs_drain(f->kv));
	before = f->mem.live_bytes;
	kvs_unpin(f->kv, &a);
	check_u64(f->mem.live_bytes, before);
	check_pinned(&v, 5000, 1);
	check_u64(store_stats(f->kv).bytes_pinned > 5000, 1);
	kvs_unpin(f->kv, &b);
	check(before - f->mem.live_bytes > 5000);
	check_u64(store_stats(f->kv).bytes_pinned, 0);
	check_u64(store_stats(f->kv).pins, 0);
}

static void test_memory_comes_back_with_the_last_pin(void **state)
{
	(void)state;
	each_config(memory_comes_back);
}

/* The 256th pin is refused; those that are out are not disturbed, nor is the version. */
static void test_an_entry_has_255_pins_at_most(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_pin pin[255], more = { NULL };
	struct kvs_value v;
	uint64_t version = 0;
	char buf[8];

	(void)state;
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("value"), &version));
	for (size_t i = 0; i < 255; i++)
		check_ok(kvs_pin(kv, kvs_str("k"), &v, &pin[i]));
	check_status(kvs_pin(kv, kvs_str("k"), &v, &more), KVS_ERR_TOO_MANY_PINS);
	check(more.entry == NULL && v.version == version);
	check_ok(kvs_get(kv, kvs_str("k"), buf, sizeof(buf), &v));
	check_u64(v.version, version);
	kvs_unpin(kv, &pin[7]);
	check_ok(kvs_pin(kv, kvs_str("k"), &v, &pin[7]));
	check_ok(kvs_delete(kv, kvs_str("k"), &version));
	check_u64(version, v.version);
	check_ok(kvs_drain(kv));
	for (size_t i = 0; i < 255; i++) {
		check_bytes(v.data, "value", 5);
		kvs_unpin(kv, &pin[i]);
	}
	check_u64(store_stats(kv).pins, 0);
	check_u64(store_stats(kv).bytes_pinned, 0);
	close_store(kv);
}

/* What a snapshot takes from the queue, and what it walks, are pinned entries too. */
static void test_a_snapshot_leaves_pinned_values(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_snapshot *snapshot;
	struct kvs_snapshot_part *part;
	struct kvs_item item;
	struct kvs_value v[2];
	struct kvs_pin pin[2];
	uint64_t count = 0;

	(void)state;
	for (uint64_t i = 0; i < 2; i++) {
		set_pattern(kv, i, 100, i);
		pin_number(kv, i, &v[i], &pin[i]);
	}
	check_ok(kvs_snapshot_begin(kv, NULL, &snapshot));
	set_pattern(kv, 0, 50, 7); /* the old one goes to the queue */
	check_ok(kvs_snapshot_part_begin(snapshot, &part));
	while (kvs_snapshot_next(part, &item) == KVS_OK)
		check_u64(item.value.len, 100);
	kvs_snapshot_part_end(part);
	check_ok(kvs_snapshot_end(snapshot, &count));
	check_u64(count, 2);
	set_pattern(kv, 1, 50, 7);
	check_ok(kvs_drain(kv));
	for (uint64_t i = 0; i < 2; i++) {
		check_pinned(&v[i], 100, i);
		kvs_unpin(kv, &pin[i]);
	}
	check_u64(store_stats(kv).bytes_pinned, 0);
	close_store(kv);
}

static _Atomic int64_t now_ms = 1000000; /* read by the store's thread */

static int64_t hand_ms(void *ctx)
{
	(void)ctx;
	return atomic_load(&now_ms);
}

static void test_a_pinned_value_outlives_its_deadline(void **state)
{
	struct kvs_clock clock = { hand_ms, hand_ms, NULL };
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs_pin pin, none;
	struct kvs_value v;
	struct kvs *kv;

	(void)state;
	o.clock = &clock;
	check_ok(kvs_open(&o, &kv));
	check_ok(kvs_set_ex(kv, kvs_str("k"), kvs_str("mortal"), kvs_after(100), NULL));
	check_ok(kvs_pin(kv, kvs_str("k"), &v, &pin));
	check_u64((uint64_t)v.expires_at_ms, (uint64_t)atomic_load(&now_ms) + 100);
	atomic_fetch_add(&now_ms, 100);
	check_status(kvs_pin(kv, kvs_str("k"), &v, &none), KVS_ERR_NOT_FOUND);
	check_ok(kvs_set(kv, kvs_str("k"), kvs_str("again"), NULL));
	check_ok(kvs_drain(kv));
	check_bytes(v.data, "mortal", 6);
	kvs_unpin(kv, &pin);
	close_store(kv);
}

static void test_calls_that_cannot_be_made(void **state)
{
	struct kvs *kv = open_default();
	struct kvs_pin pin = { NULL };
	struct kvs_value v;

	(void)state;
	check_status(kvs_pin(NULL, kvs_str("k"), &v, &pin), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_pin(kv, kvs_str("k"), NULL, &pin), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_pin(kv, kvs_str("k"), &v, NULL), KVS_ERR_INVALID_ARGUMENT);
	check_status(kvs_pin(kv, kvs_str("k"), &v, &pin), KVS_ERR_NOT_FOUND);
	check_status(kvs_pin(kv, kvs_bytes("", (size_t)KVS_KEY_MAX + 1), &v, &pin),
		     KVS_ERR_KEY_TOO_LARGE);
	kvs_unpin(NULL, &pin);
	kvs_unpin(kv, NULL);
	kvs_unpin(kv, &pin);
	check_ok(kvs_close(kv));
	check_status(kvs_pin(kv, kvs_str("k"), &v, &pin), KVS_ERR_STORE_CLOSED);
	check_ok(kvs_free(kv));
}

/* ---- Threads ---------------------------------------------------------------------------- */

#define THREADS 4u
#define KEYS 6u
#define HELD 16u

/* Pins go round: each thread pins into its own places and unpins those of others. */
struct stress {
	struct kvs *kv;
	size_t rounds;
	size_t drain_every; /* so many rounds: each waits for a grace period */
	pthread_mutex_t lock[HELD];
	struct kvs_pin pin[HELD];
	struct kvs_value value[HELD];
	_Atomic uint64_t pinned, changed, past;
};

static void exchange(struct stress *s, struct rng *r)
{
	size_t at = rng_below(r, HELD);
	struct kvs_pin pin = { NULL }, other;
	struct kvs_value v = { NULL, 0, 0, 0 }, old;
	char room[KEY_ROOM];

	if (rng_below(r, 4) &&
	    kvs_pin(s->kv, make_key(room, rng_below(r, KEYS)), &v, &pin) == KVS_OK)
		s->pinned++;
	pthread_mutex_lock(&s->lock[at]);
	other = s->pin[at];
	old = s->value[at];
	s->pin[at] = pin;
	s->value[at] = v;
	pthread_mutex_unlock(&s->lock[at]);
	if (other.entry == NULL)
		return;
	check(pattern_matches(old.data, old.len, old.len));
	kvs_unpin(s->kv, &other);
}

static void write_some(struct stress *s, struct rng *r)
{
	uint64_t number = rng_below(r, KEYS);
	char room[KEY_ROOM];

	if (rng_below(r, 8) == 0)
		(void)kvs_delete(s->kv, make_key(room, number), NULL);
	else
		set_pattern(s->kv, number, number, number);
	s->changed++;
}

static void member(size_t index, void *arg)
{
	struct stress *s = arg;
	struct rng r;

	rng_init(&r, index);
	for (size_t i = 0; i < s->rounds; i++) {
		exchange(s, &r);
		write_some(s, &r);
		if (index == 0 && i % s->drain_every == 0) {
			check_ok(kvs_drain(s->kv));
			s->past += store_stats(s->kv).bytes_pinned != 0;
		}
	}
}

static void test_threads_that_pin_replace_and_unpin(void **state)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct stress s = { .rounds = util_scaled(2000, 60000, 5000000) };
	struct counting mem;

	(void)state;
	s.drain_every = s.rounds > 1024 * 256 ? s.rounds / 1024 : 256;
	counting_init(&mem, true);
	o.allocator = &mem.hooks;
	check_ok(kvs_open(&o, &s.kv));
	for (size_t i = 0; i < HELD; i++)
		pthread_mutex_init(&s.lock[i], NULL);
	run_threads(THREADS, member, &s);
	for (size_t i = 0; i < HELD; i++) {
		kvs_unpin(s.kv, &s.pin[i]);
		pthread_mutex_destroy(&s.lock[i]);
	}
	check_ok(kvs_drain(s.kv));
	check_u64(store_stats(s.kv).pins, 0);
	check_u64(store_stats(s.kv).bytes_pinned, 0);
	util_note("pins %llu, writes %llu, times that removed entries were pinned %llu of %zu",
		  (unsigned long long)s.pinned, (unsigned long long)s.changed,
		  (unsigned long long)s.past, s.rounds / s.drain_every);
	check(s.pinned > s.rounds && s.past >= s.rounds / s.drain_every / 4);
	check_ok(kvs_free(s.kv));
	check_u64(mem.live_blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pinned_value_stays_whatever_becomes_of_it),
		cmocka_unit_test(test_memory_comes_back_with_the_last_pin),
		cmocka_unit_test(test_an_entry_has_255_pins_at_most),
		cmocka_unit_test(test_a_snapshot_leaves_pinned_values),
		cmocka_unit_test(test_a_pinned_value_outlives_its_deadline),
		cmocka_unit_test(test_calls_that_cannot_be_made),
		cmocka_unit_test(test_threads_that_pin_replace_and_unpin),
	};

	return util_main("pin", tests, ARRAY_LEN(tests));
}
