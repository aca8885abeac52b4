/* SPDX-License-Identifier: MIT */
/*
 * test_host_urcu.c - the store beside a program that uses liburcu itself: the same flavour (bp),
 * and memb and qsbr, each with readers, grace periods and deferred calls of its own.
 */
#include "configs.h"

#include <urcu/urcu-bp.h>
#include <urcu/urcu-memb.h>
#include <urcu/urcu-qsbr.h>

#include "host.h"

/* liburcu's header declares these for one flavour only, the first that is included. */
void urcu_memb_call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head));
void urcu_memb_barrier(void);
void urcu_qsbr_call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head));
void urcu_qsbr_barrier(void);

/* The thread sanitizer is told what a grace period orders; liburcu does not. */
#ifdef KVS_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define SANITIZER_ACQUIRE(p) __tsan_acquire(p)
#define SANITIZER_RELEASE(p) __tsan_release(p)
#else
#define SANITIZER_ACQUIRE(p) ((void)(p))
#define SANITIZER_RELEASE(p) ((void)(p))
#endif

#define KEYS 100u
#define GONE 0xdeadu

/* One flavour of liburcu, as the program uses it. */
struct flavour {
	const char *name;
	void (*enter_thread)(void);
	void (*leave_thread)(void);
	void (*lock)(void);
	void (*unlock)(void);
	void (*quiet)(void); /* qsbr: say that nothing is held; else nothing */
	void (*synchronize)(void);
	void (*call)(struct rcu_head *head, void (*fn)(struct rcu_head *head));
	void (*barrier)(void);
};

static void nothing(void)
{
}

static const struct flavour flavours[] = {
	{ "bp", nothing, nothing, urcu_bp_read_lock, urcu_bp_read_unlock, nothing,
	  urcu_bp_synchronize_rcu, urcu_bp_call_rcu, urcu_bp_barrier },
	{ "memb", urcu_memb_register_thread, urcu_memb_unregister_thread, urcu_memb_read_lock,
	  urcu_memb_read_unlock, nothing, urcu_memb_synchronize_rcu, urcu_memb_call_rcu,
	  urcu_memb_barrier },
	{ "qsbr", urcu_qsbr_register_thread, urcu_qsbr_unregister_thread, urcu_qsbr_read_lock,
	  urcu_qsbr_read_unlock, urcu_qsbr_quiescent_state, urcu_qsbr_synchronize_rcu,
	  urcu_qsbr_call_rcu, urcu_qsbr_barrier },
};

/* What the program protects: an object replaced all the time. */
struct object {
	struct rcu_head head;
	_Atomic uint64_t word;
	_Atomic uint64_t *freed;
};

static char sections; /* a name for the sanitizer: what the ends of sections release */

struct host {
	struct kvs *kv;
	const struct flavour *f;
	struct object *_Atomic object;
	_Atomic uint64_t read, replaced, freed, waited;
	size_t each;
};

static void object_free(struct rcu_head *head)
{
	struct object *o = (struct object *)head; /* its first member */

	SANITIZER_ACQUIRE(&sections);
	atomic_store(&o->word, GONE);
	atomic_fetch_add(o->freed, 1);
	free(o);
}

static void object_replace(struct host *h)
{
	struct object *fresh = malloc(sizeof(*fresh)), *old;

	check(fresh != NULL);
	atomic_init(&fresh->word, 1);
	fresh->freed = &h->freed;
	old = atomic_exchange(&h->object, fresh);
	SANITIZER_RELEASE(&sections);
	if (old != NULL)
		h->f->call(&old->head, object_free);
	atomic_fetch_add(&h->replaced, 1);
}

/* A section of the program's, and calls on the store inside and outside of it. */
static void read_both(struct host *h, struct rng *r)
{
	uint64_t k = rng_below(r, KEYS);
	struct object *o;

	h->f->lock();
	o = atomic_load(&h->object);
	check(atomic_load(&o->word) == 1);
	check_pattern(h->kv, k, 30, k);
	set_pattern(h->kv, k, 30, k);
	check(atomic_load(&o->word) == 1);
	SANITIZER_RELEASE(&sections);
	h->f->unlock();
	h->f->quiet();
	set_pattern(h->kv, k, 30, k);
	atomic_fetch_add(&h->read, 1);
}

static void member(size_t index, void *arg)
{
	struct host *h = arg;
	struct rng r;

	rng_init(&r, index);
	h->f->enter_thread();
	for (size_t i = 0; i < h->each; i++) {
		read_both(h, &r);
		if (index == 0 && i % 4 == 0)
			object_replace(h);
		if (index == 1 && i % 64 == 0) {
			h->f->synchronize();
			atomic_fetch_add(&h->waited, 1);
		}
	}
	h->f->leave_thread();
}

static void last_free(struct host *h)
{
#ifndef KVS_TSAN /* it frees a word of liburcu's own, which the sanitizer takes for a race */
	h->f->barrier();
#endif
	while (atomic_load(&h->freed) + 1 < atomic_load(&h->replaced))
		sched_yield();
	free(atomic_load(&h->object));
}

static void run(const struct flavour *f)
{
	struct host h = { .kv = open_default(), .f = f, .each = util_scaled(200, 200000, 5000000) };

	for (uint64_t k = 0; k < KEYS; k++)
		set_pattern(h.kv, k, 30, k);
	object_replace(&h);
	run_threads(3, member, &h);
	last_free(&h);
	check_ok(kvs_drain(h.kv));
	check_u64(store_stats(h.kv).bytes_deferred, 0);
	check_u64(store_len(h.kv), KEYS);
	util_note("%s: %llu sections, %llu objects replaced and %llu freed, %llu grace periods",
		  f->name, (unsigned long long)atomic_load(&h.read),
		  (unsigned long long)atomic_load(&h.replaced),
		  (unsigned long long)atomic_load(&h.freed),
		  (unsigned long long)atomic_load(&h.waited));
	check_u64(atomic_load(&h.freed), atomic_load(&h.replaced) - 1);
	check(atomic_load(&h.read) == 3 * h.each && atomic_load(&h.waited) > 0);
	close_store(h.kv);
}

static void test_store_beside_each_flavour(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(flavours); i++)
		run(&flavours[i]);
}

static void test_section_of_the_program_is_one_of_the_stores(void **state)
{
	struct kvs *kv = open_default();
	char room[KEY_ROOM];
	struct kvs_value v;

	(void)state;
	set_pattern(kv, 1, 30, 1);
	urcu_bp_read_lock();
	check_ok(kvs_borrow(kv, make_key(room, 1), &v));
	check_status(kvs_drain(kv), KVS_ERR_IN_READ_SECTION);
	for (unsigned i = 0; i < 300; i++)
		set_pattern(kv, 1, 30, 2); /* two batches and more are handed over */
#ifndef KVS_TSAN                           /* which is told of the library's own sections only */
	check(pattern_matches(v.data, 30, 1));
#endif
	urcu_bp_read_unlock();
	check_status(kvs_borrow(kv, make_key(room, 1), &v), KVS_ERR_NO_READ_SECTION);
	close_store(kv);
}

static _Atomic(pthread_t *) ran_on;

static void note_thread(struct rcu_head *head)
{
	static pthread_t self;

	(void)head;
	self = pthread_self();
	atomic_store(&ran_on, &self);
}

/* The program's choice of a worker for its own deferred calls stays its choice. */
static void test_programs_own_worker_stays(void **state)
{
	struct call_rcu_data *mine = urcu_bp_create_call_rcu_data(0, -1);
	pthread_t worker = urcu_bp_get_call_rcu_thread(mine);
	struct kvs *kv = open_default();
	static struct rcu_head head;

	(void)state;
	urcu_bp_set_thread_call_rcu_data(mine);
	for (unsigned i = 0; i < 400; i++)
		set_pattern(kv, 1, 30, i);
	check_ok(kvs_drain(kv));
	check(urcu_bp_get_thread_call_rcu_data() == mine);
	urcu_bp_call_rcu(&head, note_thread);
	urcu_bp_barrier();
	check(pthread_equal(*atomic_load(&ran_on), worker));
	close_store(kv);
	check(urcu_bp_get_thread_call_rcu_data() == mine);
	urcu_bp_set_thread_call_rcu_data(NULL);
	urcu_bp_call_rcu_data_free(mine);
#ifndef KVS_URCU_JOINS_WORKER
	check(pthread_join(worker, NULL) == 0);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_beside_each_flavour),
		cmocka_unit_test(test_section_of_the_program_is_one_of_the_stores),
		cmocka_unit_test(test_programs_own_worker_stays),
	};

	return util_main("host_urcu", tests, ARRAY_LEN(tests));
}
