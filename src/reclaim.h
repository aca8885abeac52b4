/* SPDX-License-Identifier: MIT */
/*
 * reclaim.h - from unlinked to free: entries wait for a grace period in batches.
 *
 * A batch has room for KVS__BATCH_ROOM entries and one rcu_head for them all. Each thread fills a
 * batch of its own in its slot (thread.h); a full one goes to the store's worker. A partial one can
 * be taken over, by exchange, by the maintenance thread, by kvs_run, by drain and by close.
 *
 *   reserve  before the mark: a batch with room is in the caller's hand, or the write fails
 *   retire   after the unlinking: put the entry in; cannot fail
 *   release  at the end of the write: the batch goes back to the slot, or on if it is full
 *
 * On its way a batch is
 *
 *   queued   on the worker, which frees it when its grace period is over; or parked, where there is
 *            no worker, or for the time of a fork
 *   ripe     its grace period is over, and anybody may free it: what the worker leaves to others while more
 *            than the soft limit is deferred, and what kvs_run has no budget left for
 *
 * GP: from unlinking (before retire) to free, all sections open at the unlinking have ended.
 *
 * Deferred bytes are counted by batches: what lies in partial ones (fewer than KVS__BATCH_ROOM entries and
 * KVS__BATCH_BYTES a thread) is not in them yet.
 */
#ifndef KVS_RECLAIM_H
#define KVS_RECLAIM_H

#include <pthread.h>

#include "entry.h"
#include "rcu.h"

#define KVS__BATCH_ROOM 125u
#define KVS__BATCH_BYTES                                                                           \
	((uint64_t)256 << 10) /* with so many a batch is full, whatever its count */

struct kvs__reclaim;

struct kvs__batch {
	struct kvs__rcu_head head;
	struct kvs__reclaim *reclaim;
	struct kvs__batch *next; /* parked or ripe */
	uint64_t bytes;
	uint32_t count;
	uint32_t sweep; /* the last one when it was made */
	struct kvs__entry *entry[KVS__BATCH_ROOM];
};

typedef _Atomic(struct kvs__batch *) kvs__batch_ref;

struct kvs__reclaim {
	struct kvs__rcu_worker worker;
	struct kvs__pool *pool; /* (i) */
	uint64_t soft_limit;    /* bytes deferred from which on writers help (i) */
	uint64_t hard_limit;    /* bytes deferred from which on removals are refused; 0: none (i) */
	_Atomic(struct kvs__batch *) parked; /* batches that no worker could be had for (a) */
	_Atomic(struct kvs__batch *) ripe;   /* pushed one by one, taken whole (a) */
	struct kvs__batch *ready;            /* taken from ripe, freed one by one (l) freeing */
	kvs__u32 freeing; /* 1: somebody is at ready. Only tried, never waited for (a) */
	kvs__u32 hold;    /* 1: a fork is near, park everything (a) */
	kvs__u32 sweep;   /* batches made before the last one do not come back to a slot (a) */
	KVS_LINE_ALIGNED kvs__u64 queued_bytes; /* of batches handed over so far (a) */
	kvs__u64 queued_batches;                /* (a) */
	KVS_LINE_ALIGNED kvs__u64 freed_bytes;  /* (a) */
	kvs__u64 freed_count;                   /* entries (s) */
	kvs__u64 freed_batches;                 /* (a) */
	kvs__u64 ripe_batches;                  /* their grace period is over (a) */
	kvs__u64 helped_batches;                /* freed by writers (s) */
	kvs__u32 watching;                      /* 1: somebody moves the watch on. Only tried (a) */
	kvs__u64 watch_since_ms;                /* when the watch was set (a) */
	kvs__u64 watch_batches;                 /* it is over when so many batches are ripe (a) */
};

/* kvs__reclaim_start - Start the worker. false: no memory or no thread. */
bool kvs__reclaim_start(struct kvs__reclaim *r);

/* kvs__reclaim_stop - End the worker, if there is one, after everything handed over has been freed. Waits. */
void kvs__reclaim_stop(struct kvs__reclaim *r);

/* kvs__reclaim_reserve - A batch with room, from @ref or new; NULL: no memory. The caller's until released. */
struct kvs__batch *kvs__reclaim_reserve(struct kvs__reclaim *r, kvs__batch_ref *ref);

/* kvs__retire - Put the unlinked @e into a reserved batch. Returns its footprint in bytes. */
KVS_INLINE uint64_t kvs__retire(struct kvs__batch *b, struct kvs__entry *e)
{
	uint64_t bytes = kvs__entry_footprint(b->reclaim->pool, e);

	KVS_ASSERT(b->count < KVS__BATCH_ROOM);
	b->entry[b->count++] = e;
	b->bytes += bytes;
	return bytes;
}

/*
 * kvs__reclaim_sweep - From now on whoever has a batch in hand that was made before hands it over, full or not.
 *
 * One grace period later none of them comes back to a slot; when those in the slots have been taken over, another later,
 * none is in a hand: all that was retired before is handed over.
 */
void kvs__reclaim_sweep(struct kvs__reclaim *r);

/*
 * kvs__reclaim_release - End of the write: back to @ref, or handed over if full.
 *
 * Whoever hands one over while more than the soft limit is deferred frees a few ripe ones. Inside a section.
 */
void kvs__reclaim_release(struct kvs__reclaim *r, kvs__batch_ref *ref, struct kvs__batch *b);

/* kvs__reclaim_take_over - Hand over the partial batch in @ref, if any. Any thread, in a section. true: there was one. */
bool kvs__reclaim_take_over(struct kvs__reclaim *r, kvs__batch_ref *ref);

/* kvs__reclaim_deferred - Bytes in batches handed over and not freed; approximate while things move. */
KVS_INLINE uint64_t kvs__reclaim_deferred(const struct kvs__reclaim *r)
{
	uint64_t freed = load_relaxed(&r->freed_bytes);
	uint64_t queued = load_relaxed(&r->queued_bytes);

	return (int64_t)(queued - freed) > 0 ? queued - freed : 0;
}

/* kvs__reclaim_is_full - The hard limit is reached. */
KVS_INLINE bool kvs__reclaim_is_full(const struct kvs__reclaim *r)
{
	return unlikely(r->hard_limit) && kvs__reclaim_deferred(r) >= r->hard_limit;
}

/*
 * kvs__reclaim_make_room - The hard limit is reached: hand over the batch in @ref, free what is ripe.
 *
 * In a section, with no batch in hand. A bounded piece; never waits. true: below the limit now.
 */
bool kvs__reclaim_make_room(struct kvs__reclaim *r, kvs__batch_ref *ref);

/* kvs__reclaim_free_ripe - Free one ripe batch. Returns its entries; 0: none, or somebody else is taking one. */
unsigned kvs__reclaim_free_ripe(struct kvs__reclaim *r);

/* kvs__reclaim_has_ripe - There may be a ripe batch. */
bool kvs__reclaim_has_ripe(const struct kvs__reclaim *r);

/* kvs__reclaim_is_idle - Everything handed over has been freed. */
bool kvs__reclaim_is_idle(const struct kvs__reclaim *r);

/*
 * kvs__reclaim_ripen - Make what is parked ripe by one grace period, waited for in place. Returns whether it waited.
 *
 * For stores without a worker; one caller at a time, not inside a section. Does nothing while ripe ones are left.
 */
bool kvs__reclaim_ripen(struct kvs__reclaim *r);

/*
 * kvs__reclaim_watch - If what was watched is ripe, watch all that is queued at @now_ms.
 * kvs__reclaim_watch_end - Watch nothing: without a worker nobody waits for it any more. By the only one to watch.
 */
void kvs__reclaim_watch(struct kvs__reclaim *r, uint64_t now_ms);
void kvs__reclaim_watch_end(struct kvs__reclaim *r);

/*
 * kvs__reclaim_age - Milliseconds that the oldest grace period has been waited for; 0: none is.
 *
 * A lower bound, exact up to the time between two calls of kvs__reclaim_watch. Writes nothing.
 */
uint64_t kvs__reclaim_age(const struct kvs__reclaim *r, uint64_t now_ms);

/*
 * kvs__reclaim_hold, kvs__reclaim_unhold - Park what is handed over, then hand it over.
 *
 * Around a fork: queueing on the worker is not one step, and a queue copied half-way could not be
 * emptied in the child. After hold and one grace period nobody is queueing, or taking what is ripe.
 */
void kvs__reclaim_hold(struct kvs__reclaim *r);
void kvs__reclaim_unhold(struct kvs__reclaim *r);

/* kvs__reclaim_recount - In a fork's child: what is queued is what is here; a thread that is not may have counted a batch. */
void kvs__reclaim_recount(struct kvs__reclaim *r);

/* kvs__reclaim_wait - Wait until everything handed over before has been freed. Not inside a section. */
void kvs__reclaim_wait(struct kvs__reclaim *r);

#endif
