/* SPDX-License-Identifier: MIT */
/*
 * reclaim.h - from unlinked to free: entries wait for a grace period in batches.
 *
 * A batch has room for KVS__BATCH_ROOM entries and one rcu_head for them all. Each thread fills a
 * batch of its own in its slot (thread.h); a full one goes to the store's worker. A partial one can
 * be taken over, by exchange, by the maintenance thread, by drain and by close.
 *
 *   reserve  before the mark: a batch with room is in the caller's hand, or the write fails
 *   retire   after the unlinking: put the entry in; cannot fail
 *   release  at the end of the write: the batch goes back to the slot, or to the worker if full
 *
 * GP: from unlinking (before retire) to free, all sections open at the unlinking have ended.
 */
#ifndef KVS_RECLAIM_H
#define KVS_RECLAIM_H

#include <pthread.h>

#include "entry.h"
#include "rcu.h"

#define KVS__BATCH_ROOM 125u

struct kvs__reclaim;

struct kvs__batch {
	struct kvs__rcu_head head;
	struct kvs__reclaim *reclaim;
	struct kvs__batch *parked_next; /* without a worker only */
	uint64_t bytes;
	uint32_t count;
	struct kvs__entry *entry[KVS__BATCH_ROOM];
};

typedef _Atomic(struct kvs__batch *) kvs__batch_ref;

struct kvs__reclaim {
	struct kvs__rcu_worker worker;
	struct kvs__pool *pool;               /* (i) */
	_Atomic(struct kvs__batch *) parked;  /* batches that no worker could be had for (a) */
	kvs__u32 hold;                        /* 1: a fork is near, park everything (a) */
	KVS_LINE_ALIGNED kvs__u64 freed_bytes; /* (s) */
	kvs__u64 freed_count;                  /* (s) */
};

/* kvs__reclaim_start - Start the worker. false: no memory or no thread. */
bool kvs__reclaim_start(struct kvs__reclaim *r, struct kvs__pool *pool);

/* kvs__reclaim_stop - End the worker, after everything handed over has been freed. Waits. */
void kvs__reclaim_stop(struct kvs__reclaim *r);

/* kvs__reclaim_reserve - A batch with room, from @ref or new; NULL: no memory. The caller's until released. */
struct kvs__batch *kvs__reclaim_reserve(struct kvs__reclaim *r, kvs__batch_ref *ref);

/* kvs__retire - Put the unlinked @e into a reserved batch. Returns its footprint in bytes. */
uint64_t kvs__retire(struct kvs__batch *b, struct kvs__entry *e);

/* kvs__reclaim_release - End of the write: back to @ref, or on to the worker if full. */
void kvs__reclaim_release(struct kvs__reclaim *r, kvs__batch_ref *ref, struct kvs__batch *b);

/* kvs__reclaim_take_over - Hand the partial batch in @ref, if any, to the worker. Any thread. true: there was one. */
bool kvs__reclaim_take_over(struct kvs__reclaim *r, kvs__batch_ref *ref);

/*
 * kvs__reclaim_hold, kvs__reclaim_unhold - Park what is handed over, then hand it over.
 *
 * Around a fork: queueing on the worker is not one step, and a queue copied half-way could not be
 * emptied in the child. After hold and one grace period nobody is queueing.
 */
void kvs__reclaim_hold(struct kvs__reclaim *r);
void kvs__reclaim_unhold(struct kvs__reclaim *r);

/* kvs__reclaim_wait - Wait until everything handed over before has been freed. Not inside a section. */
void kvs__reclaim_wait(struct kvs__reclaim *r);

#endif
