/* SPDX-License-Identifier: MIT */
/*
 * rcu.h - the only door to liburcu (flavour bp) and to our threads.
 *
 * Flavour bp: no registration call, one registry shared with a program that uses it too, threads
 * may exit and fork inside a section. The read lock of release builds is inlined (functions of
 * at most ten lines, free for any licence); sanitizer builds call the library's functions.
 *
 *   kvs__rcu_read_lock/unlock   a read section; they nest
 *   kvs__rcu_read_ongoing       inside one?
 *   kvs__rcu_enter/exit         the same sections, for the shortest path
 *   kvs__rcu_worker_*           one call_rcu thread; kvs__rcu_call queues a callback on it and
 *                               kvs__rcu_wait waits for a grace period through it, so that a
 *                               store has one caller of synchronize_rcu, its worker
 *   kvs__thread_*               a background thread: named, all signals blocked
 *
 * ThreadSanitizer cannot see how a grace period orders a reader before a free. With KVS_TSAN
 * this file tells it, precisely: call_rcu notes which section every thread is in, and the
 * callback acquires what the end of just that section released. See rcu.c.
 */
#ifndef KVS_RCU_H
#define KVS_RCU_H

#include "atomic.h"
#include "compiler.h"

#ifdef KVS_SCHED
#include "sched_rcu.h" /* the explorer's model of all of this */
#else

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <urcu/urcu-bp.h>
#ifndef KVS_RCU_LIBRARY_CALLS
#include <urcu/static/urcu-bp.h>
#endif

#ifdef KVS_TSAN
#define KVS_TSAN_THREADS 64
struct kvs__rcu_head {
	struct rcu_head rcu;
	void (*fn)(struct kvs__rcu_head *);
	unsigned long section[KVS_TSAN_THREADS];
};
void kvs__rcu_read_lock(void);
void kvs__rcu_read_unlock(void);
#else
struct kvs__rcu_head {
	struct rcu_head rcu;
	void (*fn)(struct kvs__rcu_head *);
};

KVS_INLINE void kvs__rcu_read_lock(void)
{
#ifdef KVS_RCU_LIBRARY_CALLS
	urcu_bp_read_lock();
#else
	_urcu_bp_read_lock();
#endif
}

KVS_INLINE void kvs__rcu_read_unlock(void)
{
#ifdef KVS_RCU_LIBRARY_CALLS
	urcu_bp_read_unlock();
#else
	_urcu_bp_read_unlock();
#endif
}
#endif

KVS_INLINE bool kvs__rcu_read_ongoing(void)
{
#ifdef KVS_RCU_LIBRARY_CALLS
	return urcu_bp_read_ongoing() != 0;
#else
	return _urcu_bp_read_ongoing() != 0;
#endif
}

struct kvs__rcu_worker {
	_Atomic(struct call_rcu_data *)
		data; /* NULL: no thread; grace periods are waited for in place */
	pthread_t thread;
};

/* kvs__rcu_worker_start - Start a worker thread called @name. false: no memory or no thread. */
bool kvs__rcu_worker_start(struct kvs__rcu_worker *w, const char *name);

/* kvs__rcu_worker_stop - End and join the worker. Its queue must be empty. */
void kvs__rcu_worker_stop(struct kvs__rcu_worker *w);

/* kvs__rcu_worker_runs - Has it a thread? */
KVS_INLINE bool kvs__rcu_worker_runs(const struct kvs__rcu_worker *w)
{
	return load_acquire(&w->data) != NULL;
}

/* kvs__rcu_worker_is_self - Is the caller the worker's own thread? */
bool kvs__rcu_worker_is_self(const struct kvs__rcu_worker *w);

/* kvs__rcu_call - Run @fn(@head) on the worker after a grace period. Never waits if there is one. */
void kvs__rcu_call(struct kvs__rcu_worker *w, struct kvs__rcu_head *head,
		   void (*fn)(struct kvs__rcu_head *));

/* kvs__rcu_wait - Wait until every section open now has ended. Not inside a section. */
void kvs__rcu_wait(struct kvs__rcu_worker *w);

/* kvs__rcu_sections_end - End those that the calling thread, which exits, has left open. */
void kvs__rcu_sections_end(void);

/* kvs__rcu_worker_forget - In a fork's child: the thread is not there; its queue was empty. */
void kvs__rcu_worker_forget(struct kvs__rcu_worker *w);

/*
 * kvs__rcu_fork_before, kvs__rcu_fork_parent, kvs__rcu_fork_child - Around a fork. Under homes.
 *
 * After kvs__rcu_fork_child there are sections and grace periods, but no worker can be started.
 */
void kvs__rcu_fork_before(void);
void kvs__rcu_fork_parent(void);
void kvs__rcu_fork_child(void);

/*
 * kvs__rcu_fork_finish - In a fork's child: from now on workers can be started. Under homes. Elsewhere, and once it was done, nothing.
 *
 * false: not done, for want of memory or of a thread: liburcu makes a worker of its own if there was any before the fork,
 * and aborts if it cannot. May be called again.
 * kvs__rcu_fork_is_unfinished - It has not been done yet. Anywhere.
 */
bool kvs__rcu_fork_finish(void);
bool kvs__rcu_fork_is_unfinished(void);

/* kvs__thread_start - Start @fn(@arg) on a thread called @name with all signals blocked. */
bool kvs__thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg);

/* kvs__thread_await - Wait until a thread has posted @said. */
void kvs__thread_await(sem_t *said);

/* kvs__thread_join - Wait for its end. kvs__thread_is_self - Is the caller that thread? */
void kvs__thread_join(pthread_t thread);
bool kvs__thread_is_self(pthread_t thread);

#endif /* KVS_SCHED */

/*
 * kvs__rcu_enter, kvs__rcu_exit - read_lock and read_unlock that look for the thread's word once.
 *
 * enter returns NULL, with nothing done, where read_lock must be called instead: in a thread that is not
 * registered, and inside a section. exit takes what enter returned.
 * kvs__rcu_can_enter - May this process call enter at all? Without membarrier sections need fences.
 */
#if defined(KVS_SCHED) || defined(KVS_TSAN) || defined(KVS_RCU_LIBRARY_CALLS)
typedef const char *kvs__rcu_reader;

KVS_INLINE bool kvs__rcu_can_enter(void)
{
	return true;
}

KVS_INLINE kvs__rcu_reader kvs__rcu_enter(void)
{
	kvs__rcu_read_lock();
	return "";
}

KVS_INLINE void kvs__rcu_exit(kvs__rcu_reader reader)
{
	(void)reader;
	kvs__rcu_read_unlock();
}
#else
typedef struct urcu_bp_reader *kvs__rcu_reader;

KVS_INLINE bool kvs__rcu_can_enter(void)
{
	return urcu_bp_has_sys_membarrier;
}

KVS_INLINE kvs__rcu_reader kvs__rcu_enter(void)
{
	kvs__rcu_reader reader = URCU_TLS(urcu_bp_reader);

	if (unlikely(!reader) || unlikely(CMM_LOAD_SHARED(reader->ctr) & URCU_BP_GP_CTR_NEST_MASK))
		return NULL;
	cmm_barrier();
	_CMM_STORE_SHARED(reader->ctr, _CMM_LOAD_SHARED(urcu_bp_gp.ctr));
	cmm_barrier();
	return reader;
}

KVS_INLINE void kvs__rcu_exit(kvs__rcu_reader reader)
{
	cmm_barrier();
	_CMM_STORE_SHARED(reader->ctr, 0); /* not nested: no section left */
	cmm_barrier();
}
#endif

#endif
