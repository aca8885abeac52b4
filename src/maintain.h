/* SPDX-License-Identifier: MIT */
/*
 * maintain.h - the store's thread: what can wait for a tick.
 *
 * Each tick it hands partial batches over to the worker, links the heads that a growth added and no
 * insert has linked yet, and shrinks tables that have become too large. With nothing to do it sleeps
 * until a write leaves it something.
 */
#ifndef KVS_MAINTAIN_H
#define KVS_MAINTAIN_H

#include "store.h"

#define KVS__TICK_MS 10

bool kvs__maintainer_start(struct kvs *kv);
void kvs__maintainer_stop(struct kvs *kv);

/* The sleeper is woken. Cold, never waits. */
void kvs__maintainer_wake_slow(struct kvs *kv);

/* kvs__maintainer_wake - A write left something to do. PAIRS(M1): what was left was stored before. */
KVS_INLINE void kvs__maintainer_wake(struct kvs *kv)
{
	if (unlikely(load_seq_cst(&kv->maintainer.idle)))
		kvs__maintainer_wake_slow(kv);
}

/* kvs__maintain_link - Link heads of @root, at most about @budget. Returns how many. */
uint64_t kvs__maintain_link(struct kvs__root *root, uint64_t budget);

/*
 * kvs__maintain_shrink - Halve every table of @root that holds fewer than 1/8 key a bucket.
 *
 * Waits for two grace periods if there is one. The caller keeps @root from being freed and is the
 * only one to shrink. Returns how many tables were halved.
 */
unsigned kvs__maintain_shrink(struct kvs *kv, struct kvs__root *root);

#endif
