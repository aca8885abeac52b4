/* SPDX-License-Identifier: MIT */
/*
 * test_host_threads.c - threads that come and go by the thousand, and end in whatever state: none
 * of them leaves anything behind.
 */
#include "configs.h"

#include <semaphore.h>

#include "host.h"
#include "thread.h"
#include "store.h"

#define AT_ONCE 8u
#define KEYS 64u

struct host {
	struct kvs *kv;
	struct kvs *second;
	uint64_t first;            /* number of the crew's first thread */
	_Atomic uint64_t ended[8]; /* threads, by the state in which they ended */
};

static void end_attached(struct host *h, struct rng *r)
{
	(void)r;
	check_ok(kvs_thread_attach(h->kv));
}

static void end_after_reads(struct host *h, struct rng *r)
{
	for (unsigned i = 0; i < 10; i++)
		check(key_present(h->kv, rng_below(r, KEYS)));
}

/* One retired entry lies in the thread's batch. */
static void end_with_partial_batch(struct host *h, struct rng *r)
{
	set_pattern(h->kv, rng_below(r, KEYS), 20, 1);
}

/* A whole batch was handed over, and a part of another is left. */
static void end_after_full_batch(struct host *h, struct rng *r)
{
	for (unsigned i = 0; i < 140; i++)
		set_pattern(h->kv, rng_below(r, KEYS), 20, 1);
}

/* The thread's stock holds blocks of several sizes. */
static void end_with_stock(struct host *h, struct rng *r)
{
	for (unsigned i = 0; i < 20; i++)
		set_pattern(h->kv, rng_below(r, KEYS), rng_below(r, 600), 1);
}

static void end_with_two_stores(struct host *h, struct rng *r)
{
	set_pattern(h->second, rng_below(r, KEYS), 20, 1);
	set_pattern(h->kv, rng_below(r, KEYS), 20, 1);
}

/* The first call that needs a slot comes inside a section. */
static void end_after_first_call_in_section(struct host *h, struct rng *r)
{
	char room[KEY_ROOM];
	struct kvs_value v;

	kvs_read_begin(h->kv);
	check_ok(kvs_borrow(h->kv, make_key(room, rng_below(r, KEYS)), &v));
	set_pattern(h->kv, rng_below(r, KEYS), 20, 1);
	kvs_read_end(h->kv);
}

/* Not by a return. */
static void end_by_exit(struct host *h, struct rng *r)
{
	end_with_partial_batch(h, r);
	atomic_fetch_add(&h->ended[7], 1);
	pthread_exit(NULL);
}

static void (*const ends[8])(struct host *h, struct rng *r) = {
	end_attached,   end_after_reads,     end_with_partial_batch,          end_after_full_batch,
	end_with_stock, end_with_two_stores, end_after_first_call_in_section, end_by_exit,
};

static void short_life(size_t index, void *arg)
{
	struct host *h = arg;
	struct rng r;

	rng_init(&r, h->first + index);
	ends[index](h, &r);
	atomic_fetch_add(&h->ended[index], 1);
}

static size_t count_slots(struct kvs *kv)
{
	size_t n = 0;

	for (struct kvs__slot *s = load_acquire(&kv->home.slots); s != NULL; s = s->next)
		n += !s->own; /* the store's */
	return n;
}

static void check_nothing_left(struct kvs *kv)
{
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
	check(count_slots(kv) <= AT_ONCE + 1); /* places are used again */
}

static void many_threads(struct fixture *f, uint64_t threads)
{
	struct host h = { .kv = f->kv, .second = open_default() };
	size_t tasks = count_threads_at_rest(), descriptors = count_descriptors();

	for (uint64_t k = 0; k < KEYS; k++)
		set_pattern(h.kv, k, 20, 1);
	for (h.first = 0; h.first < threads; h.first += AT_ONCE)
		run_threads(AT_ONCE, short_life, &h);
	wait_for_threads(tasks);
	check_u64(count_descriptors(), descriptors);
	check_u64(store_len(h.kv), KEYS);
	check_nothing_left(h.kv);
	check_nothing_left(h.second);
	for (size_t i = 0; i < AT_ONCE; i++)
		check_u64(atomic_load(&h.ended[i]), threads / AT_ONCE);
	util_note("%llu threads ended, %zu at once, in %zu states; slots %zu, registrations %llu",
		  (unsigned long long)threads, (size_t)AT_ONCE, ARRAY_LEN(ends), count_slots(h.kv),
		  (unsigned long long)store_stats(h.kv).registrations);
	close_store(h.second);
}

static void run(bool allocator, uint64_t threads)
{
	struct config config = { .shards = 1, .allocator = allocator };
	struct fixture *f = malloc(sizeof(*f));

	check(f != NULL);
	fixture_open(f, &config);
	many_threads(f, threads);
	fixture_close(f);
	free(f);
}

static void test_short_threads_leave_nothing(void **state)
{
	(void)state;
	run(false, util_scaled(80, 8000, 200000));
}

static void test_short_threads_leave_nothing_with_a_users_allocator(void **state)
{
	(void)state;
	run(true, util_scaled(80, 2000, 50000));
}

/* ---- Threads that end around the end of a store ----------------------------------------- */

struct ending {
	struct kvs *kv;
	pthread_barrier_t used, gone;
};

static void end_around_free(size_t index, void *arg)
{
	struct ending *e = arg;

	set_pattern(e->kv, index, 20, index);
	set_pattern(e->kv, index, 20, index); /* a partial batch */
	pthread_barrier_wait(&e->used);
	if (index % 2)
		pthread_barrier_wait(
			&e->gone); /* end when the store is gone, the others beside it */
}

static void test_threads_end_beside_and_after_the_stores_end(void **state)
{
	size_t tasks = count_threads_at_rest(), rounds = util_scaled(3, 60, 2000);

	(void)state;
	for (size_t i = 0; i < rounds; i++) {
		struct kvs *kv = open_default();
		struct ending e = { .kv = kv };
		struct crew crew;

		pthread_barrier_init(&e.used, NULL, 5);
		pthread_barrier_init(&e.gone, NULL, 3);
		crew_start(&crew, 4, end_around_free, &e);
		pthread_barrier_wait(&e.used);
		close_store(kv);
		pthread_barrier_wait(&e.gone);
		crew_join(&crew);
		pthread_barrier_destroy(&e.used);
		pthread_barrier_destroy(&e.gone);
	}
	wait_for_threads(tasks);
	util_note("%zu stores ended beside 2 threads and before 2 others", rounds);
}

/* ---- a key of the program's that is older than liburcu's ---- */

#ifndef KVS_TSAN /* which is not there yet when the first functions run */

static pthread_key_t oldest;
static bool have_oldest;

/* Before the constructors of all libraries. */
static void __attribute__((no_sanitize("address", "undefined")))
take_the_oldest_key(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	(void)envp;
	have_oldest = pthread_key_create(&oldest, NULL) == 0;
}

static void (*const first[])(int, char **, char **)
	__attribute__((section(".preinit_array"), used)) = { take_the_oldest_key };

struct leaver {
	struct kvs *kv;
	sem_t inside, go_on;
};

static void *leave_inside(void *arg)
{
	struct leaver *l = arg;

	set_pattern(l->kv, 1, 20, 1);
	kvs_read_begin(l->kv);
	sem_post(&l->inside);
	sem_wait(&l->go_on);
	return NULL;
}

static void *prepare_and_let_go(void *arg)
{
	(void)arg;
	check_ok(kvs_fork_before());
	kvs_fork_parent();
	return NULL;
}

/*
 * The program gives back the first of all keys before it uses a store: the library gets it, and a thread's exit is told the
 * library before it is told liburcu. The thread's section is open then, and who waits for it holds the list of stores.
 */
static void test_a_thread_that_exits_in_a_section_before_liburcu_is_told(void **state)
{
	struct leaver l = { .kv = NULL };
	pthread_t leaver, forker;

	(void)state;
	check(have_oldest);
	check(pthread_key_delete(oldest) == 0);
	l.kv = open_default();
	sem_init(&l.inside, 0, 0);
	sem_init(&l.go_on, 0, 0);
	check(pthread_create(&leaver, NULL, leave_inside, &l) == 0);
	sem_wait(&l.inside);
	check(pthread_create(&forker, NULL, prepare_and_let_go, NULL) == 0);
	while (!load_seq_cst(&l.kv->reclaim.hold))
		sched_yield(); /* from then until the section ends */
	sem_post(&l.go_on);
	check(pthread_join(leaver, NULL) == 0);
	check(pthread_join(forker, NULL) == 0);
	close_store(l.kv);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifndef KVS_TSAN
		cmocka_unit_test(
			test_a_thread_that_exits_in_a_section_before_liburcu_is_told), /* the first call */
#endif
		cmocka_unit_test(test_short_threads_leave_nothing),
		cmocka_unit_test(test_short_threads_leave_nothing_with_a_users_allocator),
		cmocka_unit_test(test_threads_end_beside_and_after_the_stores_end),
	};

	return util_main("host_threads", tests, ARRAY_LEN(tests));
}
