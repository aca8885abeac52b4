/* SPDX-License-Identifier: MIT */
/*
 * maintain.h - what can wait for a tick: done by the store's thread, or by the program through kvs_run.
 *
 * Each tick it hands partial batches over, frees what is ripe, links the heads that a growth added and no
 * insert has linked yet, shrinks tables that have become too large, gives memory back that has
 * been free for a while, and looks for read sections that do not end. With nothing to do it sleeps
 * until a write leaves it something.
 */
#ifndef KVS_MAINTAIN_H
#define KVS_MAINTAIN_H

#include "store.h"

#define KVS__TICK_MS 10

bool kvs__maintainer_start(struct kvs *kv);

/*
 * kvs__maintainer_stop - The store's thread makes no round any more. false: there is none. Under admin.
 * kvs__maintainer_join - And then it is gone. With no lock held: at its end it may take homes, as every thread that leaves a slot.
 */
bool kvs__maintainer_stop(struct kvs *kv);
void kvs__maintainer_join(struct kvs *kv);

/*
 * kvs__maintainer_is_here - Is the caller the thread of a store, whichever? Then it may wait for none: who closes that
 * store waits for the thread, and who prepares a fork may hold what it waits for and wait for who closes.
 */
bool kvs__maintainer_is_here(void);

/* kvs__maintain_now_ms - The clock of all this: the store's. */
uint64_t kvs__maintain_now_ms(const struct kvs *kv);

/*
 * kvs__maintain_adopt - In a fork's child, before the store's threads start: wait for what a shrink or the filters wait for, if nobody does.
 *
 * A store without a worker waits in kvs_run, which a worker would put an end to.
 */
void kvs__maintain_adopt(struct kvs *kv);

/*
 * kvs__maintain_forget - The root is gone and a grace period later: whatever was begun with it is over.
 *
 * Under admin, before the root is freed.
 */
void kvs__maintain_forget(struct kvs *kv);

/* The sleeper is woken. Cold, never waits. */
void kvs__maintainer_wake_slow(struct kvs *kv);

/* kvs__maintainer_wake - A write left something to do. PAIRS(M1): what was left was stored before. */
KVS_INLINE void kvs__maintainer_wake(struct kvs *kv)
{
	if (unlikely(load_seq_cst(&kv->maintainer.idle)))
		kvs__maintainer_wake_slow(kv);
}

/* kvs__maintainer_hurry - The store's thread, if there is one, makes its next round now. Never waits. */
void kvs__maintainer_hurry(struct kvs *kv);

/* kvs__maintain_link - Link heads of @root, at most about @budget. Returns how many. */
uint64_t kvs__maintain_link(struct kvs__root *root, uint64_t budget);

/*
 * kvs__maintain_shrink - Halve every table of @root that holds fewer than 1/8 key a bucket; ends a shrink that was begun, and gives up a pass over filters.
 *
 * All steps at once, waiting for two grace periods: for those who are the maintainer themselves. The
 * caller keeps @root from being freed and is the only one to shrink. Returns how many tables were halved.
 */
unsigned kvs__maintain_shrink(struct kvs *kv, struct kvs__root *root);

#endif
