/* SPDX-License-Identifier: MIT */
/*
 * sched_rcu.c - the model of grace periods.
 *
 * For the explorer, beginning and ending a section read one word and waiting writes it: so the order
 * of a section's end and a grace period's start is explored, that of two sections is not.
 *
 * Queuing a callback conflicts with nothing: it waits for nobody and answers nothing, and all that
 * its order with a section decides is when memory is freed. Of the orders with the same results the one
 * that frees first is run: for callbacks, a section begins with its first access behind the lock.
 */
#include "sched_rcu.h"

#include <string.h>

#include "explore.h"
#include "heap.h"

struct sched_rcu_counts sched_rcu_counts;

static unsigned depth[SCHED_SELF_MAX];
static uint32_t locked;   /* fibers between lock and unlock: what a wait waits for */
static uint32_t sections; /* of these, who has made a step since: what a callback waits for */
static struct kvs__rcu_head *queue;

void sched_rcu_reset(void)
{
	memset(depth, 0, sizeof(depth));
	locked = 0;
	sections = 0;
	queue = NULL;
}

unsigned sched_rcu_queued(void)
{
	unsigned n = 0;

	for (const struct kvs__rcu_head *h = queue; h; h = h->next)
		n++;
	return n;
}

uint32_t sched_rcu_sections(void)
{
	return sections;
}

static void *rcu_word(void)
{
	return heap_bytes + 8 * HEAP_WORD_RCU;
}

/* A callback is not part of the fiber in which it happens to run. */
static void run(struct kvs__rcu_head *head)
{
	sched_quiet_begin();
	head->fn(head);
	sched_quiet_end();
}

static void ripen(uint32_t ended)
{
	struct kvs__rcu_head **at = &queue;

	while (*at) {
		struct kvs__rcu_head *head = *at;

		head->sections &= ~ended;
		if (head->sections) {
			at = &head->next;
			continue;
		}
		*at = head->next;
		run(head);
	}
}

void kvs__rcu_read_lock(void)
{
	unsigned self = sched_self();

	sched_at(rcu_word(), SCHED_READ, true);
	if (depth[self]++ == 0)
		locked |= 1u << self;
}

void sched_rcu_step(unsigned self)
{
	sections |= locked & 1u << self;
}

void kvs__rcu_read_unlock(void)
{
	unsigned self = sched_self();

	sched_at(rcu_word(), SCHED_READ, true);
	if (depth[self] == 0) {
		sched_fail("a section was ended that was not begun");
		return;
	}
	if (--depth[self])
		return;
	locked &= ~(1u << self);
	sections &= ~(1u << self);
	ripen(1u << self);
	sched_section_ended(self);
}

bool kvs__rcu_read_ongoing(void)
{
	return depth[sched_self()] != 0;
}

void kvs__rcu_call(struct kvs__rcu_worker *w, struct kvs__rcu_head *head,
		   void (*fn)(struct kvs__rcu_head *))
{
	struct kvs__rcu_head **at = &queue;

	if (!w->runs)
		sched_fail("a callback was queued without a worker");
	sched_rcu_counts.calls++;
	head->fn = fn;
	head->next = NULL;
	head->sections = sections;
	if (!sections) {
		run(head);
		return;
	}
	sched_rcu_counts.deferred += (sections & ~(1u << sched_self())) != 0;
	while (*at)
		at = &(*at)->next;
	*at = head;
}

void kvs__rcu_wait(struct kvs__rcu_worker *w)
{
	(void)w;
	sched_at(rcu_word(), SCHED_WRITE, true);
	sched_rcu_counts.waits++;
	if (depth[sched_self()])
		sched_fail("a grace period is waited for inside a section");
	if (!locked)
		return;
	sched_rcu_counts.blocked++;
	sched_wait_for(locked);
}

bool kvs__rcu_worker_start(struct kvs__rcu_worker *w, const char *name)
{
	(void)name;
	w->runs = true;
	return true;
}

void kvs__rcu_worker_stop(struct kvs__rcu_worker *w)
{
	if (queue)
		sched_fail("the worker was stopped with callbacks queued");
	w->runs = false;
}

bool kvs__rcu_worker_runs(const struct kvs__rcu_worker *w)
{
	return w->runs;
}

bool kvs__rcu_worker_is_self(const struct kvs__rcu_worker *w)
{
	(void)w;
	return false;
}

void kvs__rcu_worker_forget(struct kvs__rcu_worker *w)
{
	w->runs = false;
}

void kvs__rcu_fork_before(void)
{
}

void kvs__rcu_fork_parent(void)
{
}

void kvs__rcu_fork_child(void)
{
}

bool kvs__rcu_fork_finish(void)
{
	return true;
}

bool kvs__rcu_fork_is_unfinished(void)
{
	return false;
}

bool kvs__thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg)
{
	(void)name;
	(void)fn;
	(void)arg;
	*thread = pthread_self();
	return true;
}

void kvs__thread_await(sem_t *said)
{
	(void)said;
}

void kvs__thread_join(pthread_t thread)
{
	(void)thread;
}

bool kvs__thread_is_self(pthread_t thread)
{
	(void)thread;
	return false;
}
