/* SPDX-License-Identifier: MIT */
/*
 * test_threads.c - any thread may call anything, need not register, and may end at any time.
 */
#include "configs.h"

#include <string.h>

static char room[KEY_ROOM];

/* ---- Registration ----------------------------------------------------------------------- */

static void attach_twice(size_t index, void *arg)
{
	(void)index;
	check_ok(kvs_thread_attach(arg));
	check_ok(kvs_thread_attach(arg));
	check(!key_present(arg, 1));
}

static void attach(struct fixture *f)
{
	uint64_t before;

	check_ok(kvs_thread_attach(f->kv));
	before = store_stats(f->kv).registrations;
	check(before >= 1);
	check_ok(kvs_thread_attach(f->kv));
	check_u64(store_stats(f->kv).registrations, before);
	run_threads(3, attach_twice, f->kv);
	check_u64(store_stats(f->kv).registrations, before + 3); /* once each */
}

static void test_thread_attach_registers_once(void **state)
{
	(void)state;
	each_config(attach);
}

static void read_once(size_t index, void *arg)
{
	check(!key_present(arg, index));
}

static void test_a_first_call_registers_by_itself(void **state)
{
	struct kvs *kv = open_default();
	uint64_t before;

	(void)state;
	check_ok(kvs_thread_attach(kv));
	before = store_stats(kv).registrations;
	run_threads(4, read_once, kv);
	check_u64(store_stats(kv).registrations, before + 4);
	close_store(kv);
}

/* ---- Threads that end ------------------------------------------------------------------- */

struct shift {
	struct kvs *kv;
	uint64_t first; /* key of the crew's first member */
};

/* A short life: one key in, one overwritten, one out. */
static void short_life(size_t index, void *arg)
{
	struct shift *s = arg;
	uint64_t number = s->first + index;
	char mine[KEY_ROOM];

	set_pattern(s->kv, number, 30, 0);
	set_pattern(s->kv, number, 40, number);
	check_pattern(s->kv, number, 40, number);
	if (number % 2 == 1)
		check_ok(kvs_delete(s->kv, make_key(mine, number), NULL));
}

static void run_shifts(struct kvs *kv, uint64_t threads)
{
	struct shift s = { kv, 0 };

	for (; s.first < threads; s.first += 4)
		run_threads(4, short_life, &s);
	check_u64(store_len(kv), threads / 2);
	for (uint64_t i = 0; i < threads; i += 2)
		check_pattern(kv, i, 40, i);
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0); /* their partial batches were taken over */
}

static void short_lives(struct fixture *f)
{
	run_shifts(f->kv, 40);
}

static void test_what_a_thread_left_is_freed(void **state)
{
	(void)state;
	each_config(short_lives);
}

static void test_many_short_threads(void **state)
{
	struct kvs *kv = open_default();
	uint64_t threads = util_scaled(100, 2000, 40000), index_bytes;

	(void)state;
	run_shifts(kv, threads);
	check_ok(kvs_clear(kv));
	index_bytes = store_stats(kv).bytes_mapped;
	run_shifts(kv, threads);
	check(store_stats(kv).bytes_mapped <= index_bytes * 2); /* slots and stocks are reused */
	close_store(kv);
}

static void end_inside_section(size_t index, void *arg)
{
	struct kvs_value got;
	char mine[KEY_ROOM];

	kvs_read_begin(arg);
	check_ok(kvs_borrow(arg, make_key(mine, index), &got));
	/* and off */
}

/* A thread that ends inside a section ends the section. */
static void test_thread_that_ends_inside_a_section(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		set_pattern(kv, i, 30, i);
	run_threads(4, end_inside_section, kv);
	for (uint64_t i = 0; i < 4; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
	close_store(kv);
}

struct outliver {
	struct kvs *_Atomic kv;
	pthread_barrier_t used, gone;
};

/* Use the store; when it is gone, use another, perhaps at the same address, then end. */
static void outlive(size_t index, void *arg)
{
	struct outliver *o = arg;

	set_pattern(atomic_load(&o->kv), index, 30, index);
	pthread_barrier_wait(&o->used);
	pthread_barrier_wait(&o->gone);
	if (index % 2 == 0)
		return; /* nothing more: only the thread's end */
	check(!key_present(atomic_load(&o->kv), index));
	set_pattern(atomic_load(&o->kv), index, 30, index);
}

static void test_thread_that_outlives_the_store(void **state)
{
	struct outliver o;
	struct crew crew;

	(void)state;
	atomic_init(&o.kv, open_default());
	check(pthread_barrier_init(&o.used, NULL, 5) == 0);
	check(pthread_barrier_init(&o.gone, NULL, 5) == 0);
	crew_start(&crew, 4, outlive, &o);
	pthread_barrier_wait(&o.used);
	close_store(atomic_load(&o.kv));
	atomic_store(&o.kv, open_default());
	pthread_barrier_wait(&o.gone);
	crew_join(&crew);
	check_u64(store_len(atomic_load(&o.kv)), 2);
	close_store(atomic_load(&o.kv));
	pthread_barrier_destroy(&o.used);
	pthread_barrier_destroy(&o.gone);
}

/* ---- Two stores ------------------------------------------------------------------------- */

struct two {
	struct kvs *a, *b;
};

static void use_both(size_t index, void *arg)
{
	struct two *two = arg;
	uint64_t base = index * 1000;

	for (uint64_t i = base; i < base + 300; i++) {
		set_pattern(two->a, i, 20, i);
		set_pattern(two->b, i, 20, i + 1);
		check_pattern(two->a, i, 20, i);
		check_pattern(two->b, i, 20, i + 1);
	}
}

static void test_two_stores_are_apart(void **state)
{
	struct two two = { open_default(), open_default() };

	(void)state;
	run_threads(4, use_both, &two);
	check_u64(store_len(two.a), 1200);
	check_u64(store_len(two.b), 1200);
	check_ok(kvs_clear(two.a));
	check_u64(store_len(two.b), 1200);
	close_store(two.a);
	for (uint64_t i = 0; i < 300; i++)
		check_pattern(two.b, i, 20, i + 1);
	check_ok(kvs_drain(two.b));
	close_store(two.b);
}

static void test_one_section_covers_two_stores(void **state)
{
	struct two two = { open_default(), open_default() };
	struct kvs_value a, b;

	(void)state;
	set_pattern(two.a, 1, 20, 1);
	set_pattern(two.b, 1, 20, 2);
	kvs_read_begin(two.a); /* a section belongs to the thread */
	check_ok(kvs_borrow(two.a, make_key(room, 1), &a));
	check_ok(kvs_borrow(two.b, make_key(room, 1), &b));
	check_ok(kvs_delete(two.b, make_key(room, 1), NULL));
	check(pattern_matches(a.data, a.len, 1) && pattern_matches(b.data, b.len, 2));
	kvs_read_end(two.b);
	check_ok(kvs_drain(two.a));
	close_store(two.a);
	close_store(two.b);
}

/* ---- Reading while others write --------------------------------------------------------- */

#define HOT 16

struct hot {
	struct kvs *kv;
	_Atomic bool stop;
	size_t writes;
	_Atomic uint64_t writers;
};

/* Values that say themselves how they must look: tag = version of the content, length varies. */
static void overwrite_hot(struct hot *h, size_t index)
{
	unsigned char value[8 + 200];
	char mine[KEY_ROOM];

	for (uint64_t i = 0; i < h->writes; i++) {
		uint64_t tag = i * 8 + index;
		size_t len = 8 + tag % 200;

		memcpy(value, &tag, 8);
		pattern_fill(value + 8, len - 8, tag);
		check_ok(kvs_set(h->kv, make_key(mine, i % HOT), kvs_bytes(value, len), NULL));
	}
	if (atomic_fetch_sub(&h->writers, 1) == 1)
		atomic_store(&h->stop, true);
}

static void check_hot(struct hot *h, uint64_t number)
{
	struct kvs_value got;
	char mine[KEY_ROOM];
	uint64_t tag;

	kvs_read_begin(h->kv);
	check_ok(kvs_borrow(h->kv, make_key(mine, number), &got)); /* never missing */
	memcpy(&tag, got.data, 8);
	check_u64(got.len, 8 + tag % 200);
	check(pattern_matches((const char *)got.data + 8, got.len - 8, tag));
	kvs_read_end(h->kv);
}

static void hot_member(size_t index, void *arg)
{
	struct hot *h = arg;

	if (index < 2) {
		overwrite_hot(h, index);
		return;
	}
	for (uint64_t i = 0; !atomic_load(&h->stop); i++)
		check_hot(h, i % HOT);
}

static void hot_keys(struct fixture *f)
{
	struct hot h = { .kv = f->kv, .writes = util_scaled(500, 10000, 1000000), .writers = 2 };
	uint64_t zero = 0;

	for (uint64_t i = 0; i < HOT; i++)
		check_ok(kvs_set(f->kv, make_key(room, i), kvs_bytes(&zero, sizeof(zero)), NULL));
	run_threads(4, hot_member, &h);
	check_u64(store_len(f->kv), HOT);
}

static void test_an_overwritten_key_is_never_missing_or_torn(void **state)
{
	(void)state;
	each_config(hot_keys);
}

/* Each thread has keys of its own, growth and retiring are common. */
static void own_keys(size_t index, void *arg)
{
	struct kvs *kv = arg;
	uint64_t base = index * 1000000, count = util_scaled(300, 3000, 100000);
	char mine[KEY_ROOM];

	for (uint64_t i = base; i < base + count; i++)
		set_pattern(kv, i, i % 50, i);
	for (uint64_t i = base; i < base + count; i++) {
		check_pattern(kv, i, i % 50, i);
		if (i % 3 == 0)
			check_ok(kvs_delete(kv, make_key(mine, i), NULL));
	}
	for (uint64_t i = base; i < base + count; i++)
		check(key_present(kv, i) == (i % 3 != 0));
}

static void own(struct fixture *f)
{
	run_threads(4, own_keys, f->kv);
}

static void test_threads_with_their_own_keys(void **state)
{
	(void)state;
	each_config(own);
}

/* ---- Clear, drain, close against others ------------------------------------------------- */

#define CLEARED 400

struct clearing {
	struct kvs *kv;
	_Atomic bool stop;
	pthread_barrier_t round;
};

/* Once one key of the old contents is missing, all that are read later are missing too. */
static void watch_clear(size_t index, void *arg)
{
	struct clearing *c = arg;

	for (;;) {
		bool missing = false;

		pthread_barrier_wait(&c->round); /* all keys are there */
		if (atomic_load(&c->stop))
			return;
		for (uint64_t i = 0; !missing || i % CLEARED != 0; i++) {
			bool present = key_present(c->kv, (i * 7 + index) % CLEARED);

			check(!(missing && present));
			missing = missing || !present;
		}
		pthread_barrier_wait(&c->round);
	}
}

static void clear_at_once(struct fixture *f)
{
	struct clearing c = { .kv = f->kv };
	struct crew crew;

	check(pthread_barrier_init(&c.round, NULL, 3) == 0);
	crew_start(&crew, 2, watch_clear, &c);
	for (size_t i = 0; i < util_scaled(3, 10, 500); i++) {
		for (uint64_t k = 0; k < CLEARED; k++)
			set_pattern(f->kv, k, 10, k);
		pthread_barrier_wait(&c.round);
		check_ok(kvs_clear(f->kv));
		pthread_barrier_wait(&c.round);
	}
	atomic_store(&c.stop, true);
	pthread_barrier_wait(&c.round);
	crew_join(&crew);
	pthread_barrier_destroy(&c.round);
}

static void test_clear_is_one_instant_for_all_shards(void **state)
{
	(void)state;
	each_config(clear_at_once);
}

/* ---- Drain while others write ------------------------------------------------------------ */

#define DRAINED_WRITERS 2u
#define DRAINED_FLOOR 1000u

struct drained {
	struct kvs *kv;
	_Atomic bool stop;
	_Atomic uint64_t written[DRAINED_WRITERS]; /* writes of one key that have returned */
	_Atomic uint64_t freed[DRAINED_WRITERS];   /* entries told of */
};

static void count_freed(const struct kvs_item *item, enum kvs_removal cause, void *ctx)
{
	struct drained *d = ctx;
	uint64_t index;

	(void)cause;
	check_u64(item->value.len, sizeof(index));
	memcpy(&index, item->value.data, sizeof(index));
	d->freed[index]++;
}

static void overwrite_until_stopped(size_t index, void *arg)
{
	struct drained *d = arg;
	uint64_t value = index;
	char key[KEY_ROOM];

	while (!d->stop) {
		/* one with a deadline, whose entries go through the wheel's hands */
		check_ok(kvs_set_ex(d->kv, make_key(key, index), kvs_bytes(&value, sizeof(value)),
				    kvs_after(index ? 86400000 : 0), NULL));
		d->written[index]++;
	}
}

/* Each write but the first has retired one entry of its key: after a drain all those of before it are free. */
static void drain_under_load(struct drained *d, size_t rounds)
{
	uint64_t before[DRAINED_WRITERS];
	struct crew crew;

	crew_start(&crew, DRAINED_WRITERS, overwrite_until_stopped, d);
	for (size_t i = 0; i < rounds || d->written[0] + d->written[1] < DRAINED_FLOOR; i++) {
		for (size_t w = 0; w < DRAINED_WRITERS; w++)
			before[w] = d->written[w];
		check_ok(kvs_drain(d->kv));
		for (size_t w = 0; w < DRAINED_WRITERS; w++)
			check(d->freed[w] + 1 >= before[w]);
	}
	d->stop = true;
	crew_join(&crew);
}

static void test_drain_frees_what_was_removed_before_it(void **state)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct drained d = { 0 };
	uint64_t total = 0;

	(void)state;
	o.removed_fn = count_freed;
	o.removed_ctx = &d;
	check_ok(kvs_open(&o, &d.kv));
	drain_under_load(&d, util_scaled(20, 50, 2000));
	check_ok(kvs_free(d.kv));
	for (size_t w = 0; w < DRAINED_WRITERS; w++) {
		check_u64(d.freed[w], d.written[w]);
		total += d.written[w];
	}
	check(total >= DRAINED_FLOOR); /* else nothing was under way */
}

static void wait_in_turn(size_t index, void *arg)
{
	for (int i = 0; i < 10; i++) {
		set_pattern(arg, index, 10, index);
		check_ok(index % 2 == 0 ? kvs_clear(arg) : kvs_drain(arg));
	}
}

static void test_clears_and_drains_take_turns(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	run_threads(4, wait_in_turn, kv);
	check_ok(kvs_clear(kv));
	check_u64(store_len(kv), 0);
	close_store(kv);
}

/* A call answered @err: well while the store is open, and closed for ever after. */
static void check_until_closed(int err, bool *closed)
{
	*closed = *closed || err == KVS_ERR_STORE_CLOSED;
	if (*closed)
		check_status(err, KVS_ERR_STORE_CLOSED);
	else if (err != KVS_ERR_NOT_FOUND)
		check_ok(err);
}

/* Once a call of this thread found the store closed, all later ones do. */
static void use_until_closed(size_t index, void *arg)
{
	struct kvs *kv = arg;
	bool closed = false;
	char mine[KEY_ROOM];
	uint64_t len;

	for (uint64_t i = 0; !closed; i++) {
		struct kvs_slice key = make_key(mine, (i + index * 31) % 500);

		check_until_closed(kvs_set(kv, key, kvs_bytes(&i, sizeof(i)), NULL), &closed);
		check_until_closed(kvs_delete(kv, key, NULL), &closed);
		check_until_closed(kvs_exists(kv, key), &closed);
		check_until_closed(kvs_len(kv, &len), &closed);
	}
	check_status(kvs_exists(kv, kvs_str("k")), KVS_ERR_STORE_CLOSED);
}

static void close_under_load(struct fixture *f)
{
	struct crew crew;
	uint64_t len;

	crew_start(&crew, 3, use_until_closed, f->kv);
	do
		check_ok(kvs_len(f->kv, &len));
	while (store_stats(f->kv).inserts < 1000);
	check_ok(kvs_close(f->kv));
	crew_join(&crew);
}

static void test_close_while_others_write(void **state)
{
	(void)state;
	each_config(close_under_load);
}

static void try_close(size_t index, void *arg)
{
	struct hot *h = arg;
	int err = kvs_close(h->kv);

	(void)index;
	if (err == KVS_OK)
		atomic_fetch_add(&h->writers, 1);
	else
		check_status(err, KVS_ERR_STORE_CLOSED);
}

static void test_one_of_racing_closes_wins(void **state)
{
	(void)state;
	for (size_t i = 0; i < util_scaled(2, 10, 200); i++) {
		struct hot h = { .kv = open_default() };

		run_threads(4, try_close, &h);
		check_u64(atomic_load(&h.writers), 1);
		check_ok(kvs_free(h.kv));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thread_attach_registers_once),
		cmocka_unit_test(test_a_first_call_registers_by_itself),
		cmocka_unit_test(test_what_a_thread_left_is_freed),
		cmocka_unit_test(test_many_short_threads),
		cmocka_unit_test(test_thread_that_ends_inside_a_section),
		cmocka_unit_test(test_thread_that_outlives_the_store),
		cmocka_unit_test(test_two_stores_are_apart),
		cmocka_unit_test(test_one_section_covers_two_stores),
		cmocka_unit_test(test_an_overwritten_key_is_never_missing_or_torn),
		cmocka_unit_test(test_threads_with_their_own_keys),
		cmocka_unit_test(test_clear_is_one_instant_for_all_shards),
		cmocka_unit_test(test_drain_frees_what_was_removed_before_it),
		cmocka_unit_test(test_clears_and_drains_take_turns),
		cmocka_unit_test(test_close_while_others_write),
		cmocka_unit_test(test_one_of_racing_closes_wins),
	};

	return util_main("threads", tests, ARRAY_LEN(tests));
}
