/* SPDX-License-Identifier: MIT */
/*
 * rcu.c - the part of rcu.h that is not inlined.
 *
 * call_rcu takes no worker: a thread's callbacks go to the call_rcu_data set for that thread. So
 * each call sets ours, calls, and restores what the program had set.
 *
 * liburcu aborts when it has no memory or no thread for a worker, and so does its rcu_barrier. The barrier is not
 * used. Before liburcu makes a worker, as much memory as it could ask for is taken and, while it is held, a thread
 * created and joined; then both are given back. What remains is the race with whoever takes them in between: other threads, and
 * for the thread other processes. In a fork's child there are no other threads, but liburcu makes a worker in any case: see
 * kvs__rcu_fork_finish.
 *
 * ThreadSanitizer (KVS_TSAN). A slot per thread holds a section count, odd inside, which is
 * read and written by inline assembly that the sanitizer does not follow, and a ring of tags.
 * The end of section n releases tag n. A callback (or a waiter) acquires, for each thread, the
 * tag of the section that was open, or had last ended, when the callback was queued, and no later one:
 * one tag for all sections would let a later section's release hide a use after the unlock.
 *
 * A thread may exit inside a section, which liburcu then ends in its destructor of a thread key.
 * Ours must come earlier, or a callback runs before the release that it acquires; and the next owner
 * of the slot must find its count even. So the slot is given up by a destructor of the other kind,
 * __cxa_thread_atexit_impl's, which run first; the key serves threads that enter a section after it.
 */
#include "rcu.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "atomic.h"

#ifdef KVS_TSAN

void __tsan_acquire(void *addr);
void __tsan_release(void *addr);

#define TSAN_RING 4096
struct tsan_slot {
	unsigned long section; /* odd inside a section */
	_Atomic int used; /* followed by the sanitizer: a slot's next owner comes after its last */
	char tag[TSAN_RING];
};
static struct tsan_slot slots[KVS_TSAN_THREADS];
static __thread struct tsan_slot *self;
static __thread unsigned depth;
static pthread_key_t slot_key;
static pthread_once_t slot_once = PTHREAD_ONCE_INIT;

static void section_end(void)
{
	__tsan_release(&self->tag[(self->section >> 1) % TSAN_RING]);
	uatomic_xchg(&self->section, self->section + 1);
}

static void slot_release(void *arg)
{
	struct tsan_slot *s = arg;

	if (s != self)
		return;
	if (depth)
		section_end();
	depth = 0;
	self = NULL;
	store_release(&s->used, 0);
}

static void slot_key_make(void)
{
	(void)pthread_key_create(&slot_key, slot_release);
}

/* What C++ compilers call for the destructor of a thread-local object; in glibc. */
int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);
extern void *__dso_handle;

static struct tsan_slot *slot_take(void)
{
	unsigned i;

	pthread_once(&slot_once, slot_key_make);
	for (i = 0; i < KVS_TSAN_THREADS; i++)
		if (xchg_seq_cst(&slots[i].used, 1) == 0) {
			pthread_setspecific(slot_key, &slots[i]);
			(void)__cxa_thread_atexit_impl(slot_release, &slots[i], &__dso_handle);
			return &slots[i];
		}
	__builtin_trap(); /* a test with more threads than this build was made for */
}

void kvs__rcu_read_lock(void)
{
	urcu_bp_read_lock();
	if (depth++ == 0) {
		if (!self)
			self = slot_take();
		uatomic_xchg(&self->section, self->section + 1);
	}
}

void kvs__rcu_read_unlock(void)
{
	if (--depth == 0)
		section_end();
	urcu_bp_read_unlock();
}

static void capture(unsigned long *section)
{
	unsigned i;

	for (i = 0; i < KVS_TSAN_THREADS; i++)
		section[i] = uatomic_read(&slots[i].section);
}

static void acquire_captured(const unsigned long *section)
{
	unsigned i;

	for (i = 0; i < KVS_TSAN_THREADS; i++) {
		unsigned long c = section[i];

		if (c)
			__tsan_acquire(
				&slots[i].tag[((c & 1) ? c >> 1 : (c >> 1) - 1) % TSAN_RING]);
	}
}

#define TSAN_RELEASE(p) __tsan_release(p)
#define TSAN_ACQUIRE(p) __tsan_acquire(p)
#else
#define TSAN_RELEASE(p) ((void)(p))
#define TSAN_ACQUIRE(p) ((void)(p))
#endif

static void leave_section(void)
{
#ifdef KVS_TSAN
	if (depth) {
		kvs__rcu_read_unlock();
		return;
	}
#endif
	urcu_bp_read_unlock();
}

/* The thread may be unregistered already: asking about its sections would register it anew, until it exits once more. */
static bool is_registered(void)
{
#if defined(KVS_TSAN) || defined(KVS_RCU_LIBRARY_CALLS)
	return true; /* not to be known */
#else
	return URCU_TLS(urcu_bp_reader) != NULL;
#endif
}

void kvs__rcu_sections_end(void)
{
	while (is_registered() && urcu_bp_read_ongoing())
		leave_section();
}

/* ---- the worker ---- */

static void block_signals(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, old);
}

static void *do_nothing(void *arg)
{
	return arg;
}

bool kvs__thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg)
{
	sigset_t old;
	int err;

	block_signals(&old);
	err = pthread_create(thread, NULL, fn, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err == 0)
		(void)pthread_setname_np(*thread, name);
	return err == 0;
}

void kvs__thread_await(sem_t *said)
{
	while (sem_wait(said) != 0 && errno == EINTR)
		;
}

void kvs__thread_join(pthread_t thread)
{
	(void)pthread_join(thread, NULL);
}

bool kvs__thread_is_self(pthread_t thread)
{
	return pthread_equal(thread, pthread_self()) != 0;
}

static bool a_thread_can_be_had(void)
{
	pthread_t t;

	return kvs__thread_start(&t, "kvs-probe", do_nothing, NULL) && pthread_join(t, NULL) == 0;
}

/*
 * liburcu takes one block for a worker: 128 bytes in 0.13, whole cache lines in any version. A block of each such size is
 * held, as what is freed of one size need not serve for another.
 */
#define PROBES 8u
#define PROBE_STEP 64u

static bool a_worker_can_be_had(void)
{
	void *volatile block[PROBES]; /* or the compiler leaves them out */
	bool can = true;
	unsigned i;

	for (i = 0; i < PROBES; i++) {
		block[i] = malloc((i + 1) * PROBE_STEP);
		can &= block[i] != NULL;
	}
	can = can && a_thread_can_be_had();
	while (i-- > 0)
		free(block[i]);
	return can;
}

/* In a fork's child: liburcu's part for call_rcu was not done yet, and its lock for workers is held. */
static kvs__u32 unfinished;

bool kvs__rcu_fork_is_unfinished(void)
{
	return load_acquire(&unfinished) != 0;
}

bool kvs__rcu_worker_start(struct kvs__rcu_worker *w, const char *name)
{
	struct call_rcu_data *data;
	sigset_t old;

	store_release(&w->data, NULL);
	if (kvs__rcu_fork_is_unfinished() || !a_worker_can_be_had())
		return false;
	block_signals(&old);
	data = urcu_bp_create_call_rcu_data(0, -1);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!data)
		return false;
	w->thread = urcu_bp_get_call_rcu_thread(data);
	(void)pthread_setname_np(w->thread, name);
	store_release(&w->data, data);
	return true;
}

void kvs__rcu_worker_stop(struct kvs__rcu_worker *w)
{
	struct call_rcu_data *data = load_acquire(&w->data);

	if (!data)
		return;
	store_release(&w->data, NULL);
	urcu_bp_call_rcu_data_free(data);
#ifndef KVS_URCU_JOINS_WORKER
	(void)pthread_join(w->thread, NULL);
#endif
}

bool kvs__rcu_worker_is_self(const struct kvs__rcu_worker *w)
{
	return kvs__rcu_worker_runs(w) && kvs__thread_is_self(w->thread);
}

static void run(struct rcu_head *rcu)
{
	struct kvs__rcu_head *head = kvs_container_of(rcu, struct kvs__rcu_head, rcu);

	TSAN_ACQUIRE(head);
#ifdef KVS_TSAN
	acquire_captured(head->section);
#endif
	head->fn(head);
}

void kvs__rcu_call(struct kvs__rcu_worker *w, struct kvs__rcu_head *head,
		   void (*fn)(struct kvs__rcu_head *))
{
	struct call_rcu_data *data = load_acquire(&w->data);
	struct call_rcu_data *theirs;

	head->fn = fn;
#ifdef KVS_TSAN
	capture(head->section);
#endif
	TSAN_RELEASE(head);
	if (!data) {
		urcu_bp_synchronize_rcu();
		run(&head->rcu);
		return;
	}
	theirs = urcu_bp_get_thread_call_rcu_data();
	urcu_bp_set_thread_call_rcu_data(data);
	urcu_bp_call_rcu(&head->rcu, run);
	urcu_bp_set_thread_call_rcu_data(theirs);
}

struct waiter {
	struct kvs__rcu_head head;
	pthread_mutex_t lock;
	pthread_cond_t done_changed;
	bool done;
};

static void waiter_wake(struct kvs__rcu_head *head)
{
	struct waiter *w = kvs_container_of(head, struct waiter, head);

	pthread_mutex_lock(&w->lock);
	w->done = true;
	pthread_cond_signal(&w->done_changed);
	pthread_mutex_unlock(&w->lock);
}

void kvs__rcu_wait(struct kvs__rcu_worker *worker)
{
	struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER,
			    .done_changed = PTHREAD_COND_INITIALIZER };

	kvs__rcu_call(worker, &w.head, waiter_wake);
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.done_changed, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.done_changed);
	pthread_mutex_destroy(&w.lock);
}

void kvs__rcu_worker_forget(struct kvs__rcu_worker *w)
{
	store_release(&w->data, NULL);
}

/* In a child that was left unfinished liburcu has no worker to pause, and its lock is held. */
void kvs__rcu_fork_before(void)
{
	if (!kvs__rcu_fork_is_unfinished())
		urcu_bp_call_rcu_before_fork();
	urcu_bp_before_fork();
}

void kvs__rcu_fork_parent(void)
{
	urcu_bp_after_fork_parent();
	if (!kvs__rcu_fork_is_unfinished())
		urcu_bp_call_rcu_after_fork_parent();
}

void kvs__rcu_fork_child(void)
{
	urcu_bp_after_fork_child();
	urcu_bp_set_thread_call_rcu_data(NULL); /* one that has no thread here */
	store_release(&unfinished, 1);
}

bool kvs__rcu_fork_finish(void)
{
	sigset_t old;

	if (!kvs__rcu_fork_is_unfinished())
		return true;
	if (!a_worker_can_be_had())
		return false;
	block_signals(&old);
	urcu_bp_call_rcu_after_fork_child();
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	store_release(&unfinished, 0);
	return true;
}
