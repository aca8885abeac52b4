/* SPDX-License-Identifier: MIT */
/*
 * sched_rcu.h - what src/rcu.h offers, for fibers. Included by it under KVS_SCHED.
 *
 * Frees as early as is legal: a callback runs within the unlock that ends the last of the
 * sections that had made an access when it was queued, or at once if there were none.
 */
#ifndef SCHED_RCU_H
#define SCHED_RCU_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

struct kvs__rcu_head {
	struct kvs__rcu_head *next;
	void (*fn)(struct kvs__rcu_head *);
	uint32_t sections; /* bit i: fiber i's, which have to end first */
};

struct kvs__rcu_worker {
	bool runs;
};

void kvs__rcu_read_lock(void);
void kvs__rcu_read_unlock(void);
bool kvs__rcu_read_ongoing(void);

bool kvs__rcu_worker_start(struct kvs__rcu_worker *w, const char *name);
void kvs__rcu_worker_stop(struct kvs__rcu_worker *w);
bool kvs__rcu_worker_runs(const struct kvs__rcu_worker *w);
bool kvs__rcu_worker_is_self(const struct kvs__rcu_worker *w);
void kvs__rcu_worker_forget(struct kvs__rcu_worker *w);
void kvs__rcu_call(struct kvs__rcu_worker *w, struct kvs__rcu_head *head,
		   void (*fn)(struct kvs__rcu_head *));
void kvs__rcu_wait(struct kvs__rcu_worker *w);

/* No thread exits here. */
static inline void kvs__rcu_sections_end(void)
{
}

void kvs__rcu_fork_before(void);
void kvs__rcu_fork_parent(void);
void kvs__rcu_fork_child(void);
bool kvs__rcu_fork_finish(void);
bool kvs__rcu_fork_is_unfinished(void);

/* The maintenance thread is a fiber of the test, if there is one: this starts nothing. */
bool kvs__thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg);
void kvs__thread_await(sem_t *said);
void kvs__thread_join(pthread_t thread);
bool kvs__thread_is_self(pthread_t thread);

/* sched_rcu_reset - Before a schedule: no section is open, nothing is queued. */
void sched_rcu_reset(void);

/* sched_rcu_queued - Callbacks that have not run. */
unsigned sched_rcu_queued(void);

/* sched_rcu_step - Fiber @self makes an access. */
void sched_rcu_step(unsigned self);

/* sched_rcu_sections - Bit i: fiber i is inside a section. */
uint32_t sched_rcu_sections(void);

/* What happened, since the program started. */
struct sched_rcu_counts {
	uint64_t calls;    /* callbacks queued */
	uint64_t deferred; /* of these, had to wait for another's section */
	uint64_t waits;    /* grace periods waited for */
	uint64_t blocked;  /* of these, by a section of another fiber */
};
extern struct sched_rcu_counts sched_rcu_counts;

#endif
