/* SPDX-License-Identifier: MIT */
/*
 * fork.c - the three calls around fork().
 *
 * before   holds every lock of the library, in their order (homes, each store's admin and expiry role, liburcu's,
 *          then each store's slots and arena), so that the child's copies are free and consistent.
 *          liburcu is paused before slots and arenas are held, because a worker may wait for an
 *          arena's lock, or for the section of a thread that waits for the slots' lock.
 * parent   lets go, whether there was a fork or not.
 * child    lets go; the other threads do not exist here, so their slots are free, and each store gets
 *          new threads, if they can be had.
 *
 * From before until after, batches are parked: see kvs__reclaim_hold. Whatever was queued before has run when
 * before returns, so the child has no callback of ours to wait for. That it has none matters when memory is short: liburcu
 * can run what it has copied on a new worker only, and aborts if it gets none. What it has copied of the program's runs
 * there, later.
 *
 * Other threads' writes may be half done in the child's copy: an entry marked and not unlinked, which a snapshot would
 * take for one that was removed after its cut; or an entry with a deadline published, of which the wheel was not told.
 * Each writer says in its slot, before it publishes or marks, in which run of equal order keys. So child, while nobody else
 * is about, looks at one run for each slot: it unlinks what is marked, and tells the wheel. What was unlinked so, or
 * was in the lost thread's hand, stays allocated until the store is freed: nobody retires it, so nobody does twice.
 */
#include "expiry.h"
#include "iter.h"
#include "maintain.h"
#include "store.h"

static struct kvs *store_of(struct kvs__home *h)
{
	return kvs_container_of(h, struct kvs, home);
}

static void hold(struct kvs__home *h, void *arg)
{
	struct kvs *kv = store_of(h);

	(void)arg;
	kvs__admin_lock(kv);
	kvs__expiry_lock(kv);
	kvs__reclaim_hold(&kv->reclaim);
}

static struct kvs__rcu_worker nobody; /* so that a grace period is waited for in place */

/* Behind what was queued: a worker runs callbacks in their order. */
static void wait_for_queue(struct kvs__home *h, void *arg)
{
	struct kvs *kv = store_of(h);

	(void)arg;
	if (load_seq_cst(&kv->root) && kvs__rcu_worker_runs(&kv->reclaim.worker))
		kvs__rcu_wait(&kv->reclaim.worker);
}

static void hold_inner(struct kvs__home *h, void *arg)
{
	struct kvs *kv = store_of(h);

	(void)arg;
	pthread_mutex_lock(&h->slots_lock);
	kvs__pages_lock(&kv->pages);
	if (kv->pool.arena)
		kvs__arena_fork_before(kv->pool.arena);
}

static void let_go_inner(struct kvs__home *h, void *arg)
{
	struct kvs *kv = store_of(h);

	(void)arg;
	if (kv->pool.arena)
		kvs__arena_fork_after(kv->pool.arena);
	kvs__pages_unlock(&kv->pages);
	pthread_mutex_unlock(&h->slots_lock);
}

static void let_go(struct kvs__home *h, void *arg)
{
	struct kvs *kv = store_of(h);

	(void)arg;
	kvs__reclaim_unhold(&kv->reclaim);
	kvs__expiry_unlock(kv);
	kvs__admin_unlock(kv);
}

/* No section is needed, nor could one be opened here: there is no other thread, and what is deferred waits. */
static void finish_run(struct kvs *kv, const struct kvs__table *t, uint64_t order)
{
	struct kvs__wanted run = { order, NULL };
	struct kvs__place ignored;
	struct kvs__walk w;
	struct kvs__entry *e;

	kvs__find(t, &run, &ignored);
	w = kvs__walk_start(t, kvs__order_key(order) - 1, NULL);
	while ((e = kvs__walk_next(&w)) && kvs__order_key(e->order) == kvs__order_key(order))
		if (kvs__entry_is_timed(e))
			kvs__expiry_adopt(kv, e);
}

/* What the threads that are not here were writing. A place that a write was done with long ago does no harm. */
static void finish_writes(struct kvs *kv)
{
	struct kvs__root *root = load_seq_cst(&kv->root);
	const struct kvs__slot *s;

	for (s = load_acquire(&kv->home.slots); root && s; s = s->next) {
		uint64_t place = load_relaxed(&s->place);

		if (place)
			finish_run(kv, &root->table[kvs__place_shard(place)],
				   kvs__place_order(place));
	}
}

/* In the child, before anything is queued: the threads are not here. */
static void forget_threads(struct kvs__home *h, void *arg)
{
	struct kvs *kv = store_of(h);

	(void)arg;
	fetch_add_seq_cst(&kv->forks, 1);
	kvs__home_fork_child(h);
	kvs__pages_fork_child(&kv->pages);
	kvs__rcu_worker_forget(&kv->reclaim.worker);
	kv->maintainer.runs = false;
	store_seq_cst(&kv->admin_waiters, 0);
	store_seq_cst(&kv->reclaim.watching,
		      0); /* the only things that a reader of statistics holds */
	/* A snapshot that was open goes on in the parent; here its parts belong to nobody. */
	store_seq_cst(&kv->cut.mode, KVS__QUIET);
	store_seq_cst(&kv->cut.running, NULL);
	/* Likewise a load: what it had built is lost to the child until the store is freed, its timers once they are due. */
	store_seq_cst(&kv->loading, 0);
	finish_writes(kv);
}

/* While there is one thread: liburcu's worker, which comes next, may run functions of the program's. */
static void recount(struct kvs__home *h, void *arg)
{
	struct kvs *kv = store_of(h);

	(void)arg;
	if (load_seq_cst(&kv->root))
		kvs__reclaim_recount(&kv->reclaim);
}

static void restart(struct kvs__home *h, void *arg)
{
	struct kvs *kv = store_of(h);
	int *err = arg;

	if (!load_seq_cst(&kv->root))
		return;
	kvs__maintain_adopt(kv);
	if (!kvs__threads_start(kv))
		*err = KVS_ERR_NO_MEMORY;
	kvs__reclaim_unhold(&kv->reclaim); /* what was parked has a worker now */
}

KVS_API int kvs_fork_before(void)
{
	if (kvs__rcu_read_ongoing())
		return KVS_ERR_IN_READ_SECTION;
	if (kvs__maintainer_is_here())
		return KVS_ERR_BUSY;
	kvs__homes_lock();
	kvs__home_each(hold, NULL);
	kvs__rcu_wait(&nobody); /* GP: threads that were queueing a batch while hold was set */
	kvs__home_each(wait_for_queue, NULL);
	kvs__rcu_fork_before();
	kvs__home_each(hold_inner, NULL);
	return KVS_OK;
}

KVS_API void kvs_fork_parent(void)
{
	kvs__home_each(let_go_inner, NULL);
	kvs__rcu_fork_parent();
	kvs__home_each(let_go, NULL);
	kvs__homes_unlock();
}

KVS_API int kvs_fork_child(void)
{
	int err = KVS_OK;

	kvs__home_each(forget_threads, NULL);
	kvs__home_each(recount, NULL);
	kvs__home_each(let_go_inner, NULL);
	kvs__rcu_fork_child();
	kvs__home_each(let_go, NULL);
	if (!kvs__rcu_fork_finish())
		err = KVS_ERR_NO_MEMORY;
	kvs__home_each(restart, &err);
	kvs__homes_unlock();
	return err;
}
