/* SPDX-License-Identifier: MIT */
/*
 * thread.c - slots: attach at the first call, detach at thread exit.
 *
 * The list of open stores and the thread key are the library's only global state. They exist
 * because a thread's exit must find the stores that are still there. Lock order: homes, then a
 * store's slots_lock. Neither is taken by a thread that is attached already.
 */
#include "thread.h"

#include <stdlib.h>

__thread struct kvs__tls kvs__tls;

static pthread_mutex_t homes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kvs__home *homes;  /* (l) homes_lock */
static uint64_t last_generation; /* (l) homes_lock */
static pthread_key_t exit_key;
static bool exit_key_made;
static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;

void kvs__homes_lock(void)
{
	pthread_mutex_lock(&homes_lock);
}

void kvs__homes_unlock(void)
{
	pthread_mutex_unlock(&homes_lock);
}

void kvs__home_each(void (*fn)(struct kvs__home *h, void *arg), void *arg)
{
	struct kvs__home *h;

	for (h = homes; h; h = h->next)
		fn(h, arg);
}

/* ---- thread exit ---- */

static void slot_leave(struct kvs__home *h, struct kvs__slot *s)
{
	if (h->pool->arena)
		kvs__heap_flush(h->pool->arena, &s->heap);
	pthread_mutex_lock(&h->slots_lock);
	s->taken = false; /* its batch is taken over within a tick */
	pthread_mutex_unlock(&h->slots_lock);
}

static void leave_if_mine(struct kvs__home *h, void *arg)
{
	struct kvs__tls *tls = arg;

	if (h->number < tls->count && tls->entry[h->number].generation == h->generation)
		slot_leave(h, tls->entry[h->number].slot);
}

static void thread_exits(void *arg)
{
	struct kvs__tls *tls = arg;

	kvs__rcu_sections_end(); /* who has the lock may wait for this thread's */
	kvs__homes_lock();
	kvs__home_each(leave_if_mine, tls);
	kvs__homes_unlock();
	free(tls->entry);
	memset(tls, 0, sizeof(*tls));
}

/*
 * The thread that ends the process ends without thread_exits. Its slots stay with their stores, as no lock may be
 * waited for here; a call that comes later still attaches it anew.
 */
static __attribute__((destructor)) void process_exits(void)
{
	free(kvs__tls.entry);
	memset(&kvs__tls, 0, sizeof(kvs__tls));
}

static void exit_key_make(void)
{
	exit_key_made = pthread_key_create(&exit_key, thread_exits) == 0;
}

/* ---- attach ---- */

static struct kvs__slot *slot_reuse(struct kvs__home *h)
{
	struct kvs__slot *s;

	for (s = load_acquire(&h->slots); s; s = s->next)
		if (!s->taken)
			break;
	return s;
}

static struct kvs__slot *slot_make(struct kvs__home *h)
{
	struct kvs__slot *s = kvs__mem_lines(&h->pool->mem, sizeof(*s));

	if (!s)
		return NULL;
	s->next = load_acquire(&h->slots);
	store_release(&h->slots, s);
	return s;
}

static struct kvs__slot *slot_take(struct kvs__home *h)
{
	struct kvs__slot *s;

	pthread_mutex_lock(&h->slots_lock);
	s = slot_reuse(h);
	if (!s)
		s = slot_make(h);
	if (s) {
		s->taken = true;
		s->in_update = false; /* its last thread may have been lost there, in a fork */
	}
	pthread_mutex_unlock(&h->slots_lock);
	return s;
}

struct kvs__slot *kvs__slot_make_own(struct kvs__home *h)
{
	struct kvs__slot *s;

	pthread_mutex_lock(&h->slots_lock);
	s = slot_make(h);
	if (s) {
		s->taken = true;
		s->own = true;
	}
	pthread_mutex_unlock(&h->slots_lock);
	return s;
}

static bool tls_make_room(uint32_t number)
{
	uint32_t count = number < 8 ? 8 : 2 * number;
	struct kvs__tls_entry *entry;

	if (number < kvs__tls.count)
		return true;
	entry = calloc(count, sizeof(*entry));
	if (!entry)
		return false;
	if (kvs__tls.count)
		memcpy(entry, kvs__tls.entry, kvs__tls.count * sizeof(*entry));
	free(kvs__tls.entry);
	kvs__tls.entry = entry;
	kvs__tls.count = count;
	return true;
}

KVS_COLD struct kvs__slot *kvs__slot_attach(struct kvs__home *h)
{
	struct kvs__slot *s;

	pthread_once(&exit_key_once, exit_key_make);
	if (!exit_key_made || !tls_make_room(h->number))
		return NULL;
	if (pthread_setspecific(exit_key, &kvs__tls) != 0)
		return NULL;
	s = slot_take(h);
	if (!s)
		return NULL;
	kvs__tls.entry[h->number].slot = s;
	kvs__tls.entry[h->number].generation = h->generation;
	fetch_add_relaxed(&h->registrations, 1);
	return s;
}

/* ---- stores come and go ---- */

static bool number_is_free(uint32_t number)
{
	struct kvs__home *h;

	for (h = homes; h; h = h->next)
		if (h->number == number)
			return false;
	return true;
}

bool kvs__home_make(struct kvs__home *h, struct kvs__pool *pool)
{
	h->pool = pool;
	return pthread_mutex_init(&h->slots_lock, NULL) == 0;
}

void kvs__home_enter(struct kvs__home *h)
{
	kvs__homes_lock();
	h->number = 0;
	while (!number_is_free(h->number))
		h->number++;
	h->generation = ++last_generation;
	h->next = homes;
	homes = h;
	kvs__homes_unlock();
}

static void slots_free(struct kvs__home *h)
{
	struct kvs__slot *s = load_acquire(&h->slots);

	while (s) {
		struct kvs__slot *next = s->next;

		if (h->pool->arena)
			kvs__heap_drop(&s->heap);
		kvs__mem_lines_free(&h->pool->mem, s, sizeof(*s));
		s = next;
	}
}

void kvs__home_leave(struct kvs__home *h)
{
	struct kvs__home **at;

	kvs__homes_lock();
	for (at = &homes; *at != h; at = &(*at)->next)
		;
	*at = h->next;
	kvs__homes_unlock();
}

void kvs__home_end(struct kvs__home *h)
{
	slots_free(h);
	pthread_mutex_destroy(&h->slots_lock);
}

bool kvs__slots_take_over(struct kvs__home *h, struct kvs__reclaim *r)
{
	struct kvs__slot *s;
	bool any = false;

	/* In a section: who waits for sections, then for the worker, waits for what is in this hand too. */
	kvs__rcu_read_lock();
	for (s = load_acquire(&h->slots); s; s = s->next)
		any |= kvs__reclaim_take_over(r, &s->batch);
	kvs__rcu_read_unlock();
	return any;
}

void kvs__home_fork_child(struct kvs__home *h)
{
	bool attached =
		h->number < kvs__tls.count && kvs__tls.entry[h->number].generation == h->generation;
	struct kvs__slot *mine = attached ? kvs__tls.entry[h->number].slot : NULL;
	struct kvs__slot *s;

	for (s = load_acquire(&h->slots); s; s = s->next) {
		if (s != mine && h->pool->arena)
			kvs__heap_drop(
				&s->heap); /* its blocks are lost to the child: they may be in use */
		s->taken = s == mine || s->own;
	}
}
