/* SPDX-License-Identifier: MIT */
/*
 * reclaim.c - batches of retired entries and the worker that frees them.
 *
 * INVARIANTS
 *
 * INV-R1  A batch is in one place: in one slot, in one thread's hand, or with the worker. It moves
 *         between the first two by exchange only.
 * INV-R2  An entry is put into a batch after it was unlinked, by the thread that marked it, once;
 *         the batch is queued after that; so the grace period that the worker waits for begins after the unlinking.
 * INV-R3  A write that marks holds a batch with room from before the mark until after the retire.
 *
 * The worker runs callbacks in the order in which they were queued, so that a grace period waited
 * for through it (kvs__rcu_wait) is also a fence behind all batches handed over before. Without a
 * worker (a fork's child that could not make one) batches are parked, and freed by whoever waits.
 */
#include "reclaim.h"

bool kvs__reclaim_start(struct kvs__reclaim *r, struct kvs__pool *pool)
{
	r->pool = pool;
	return kvs__rcu_worker_start(&r->worker, "kvs-rcu");
}

void kvs__reclaim_stop(struct kvs__reclaim *r)
{
	kvs__reclaim_wait(r);
	kvs__rcu_worker_stop(&r->worker);
}

static void batch_free(struct kvs__batch *b)
{
	struct kvs__reclaim *r = b->reclaim;

	kvs__entry_free_many(r->pool, b->entry, b->count);
	/* By the worker, and for parked batches by whoever waits. */
	fetch_add_relaxed(&r->freed_bytes, b->bytes);
	fetch_add_relaxed(&r->freed_count, b->count);
	kvs__mem_free(&r->pool->mem, b, sizeof(*b));
}

static void batch_ripe(struct kvs__rcu_head *head)
{
	batch_free(kvs_container_of(head, struct kvs__batch, head));
}

static void park(struct kvs__reclaim *r, struct kvs__batch *b)
{
	b->parked_next = load_acquire(&r->parked);
	while (!cas_seq_cst(&r->parked, &b->parked_next, b))
		;
}

static void batch_queue(struct kvs__reclaim *r, struct kvs__batch *b)
{
	if (likely(kvs__rcu_worker_runs(&r->worker) && !load_seq_cst(&r->hold)))
		kvs__rcu_call(&r->worker, &b->head, batch_ripe);
	else
		park(r, b);
}

void kvs__reclaim_hold(struct kvs__reclaim *r)
{
	store_seq_cst(&r->hold, 1);
}

void kvs__reclaim_unhold(struct kvs__reclaim *r)
{
	struct kvs__batch *b;

	store_seq_cst(&r->hold, 0);
	b = xchg_seq_cst(&r->parked, NULL);
	while (b) {
		struct kvs__batch *next = b->parked_next;

		batch_queue(r, b);
		b = next;
	}
}

static void free_parked(struct kvs__batch *b)
{
	while (b) {
		struct kvs__batch *next = b->parked_next;

		batch_free(b);
		b = next;
	}
}

void kvs__reclaim_wait(struct kvs__reclaim *r)
{
	struct kvs__batch *parked = xchg_seq_cst(&r->parked, NULL);

	kvs__rcu_wait(&r->worker);
	free_parked(parked);
}

struct kvs__batch *kvs__reclaim_reserve(struct kvs__reclaim *r, kvs__batch_ref *ref)
{
	struct kvs__batch *b = xchg_seq_cst(ref, NULL);

	if (likely(b))
		return b;
	b = kvs__mem_alloc(&r->pool->mem, sizeof(*b));
	if (!b)
		return NULL;
	b->reclaim = r;
	b->bytes = 0;
	b->count = 0;
	return b;
}

uint64_t kvs__retire(struct kvs__batch *b, struct kvs__entry *e)
{
	uint64_t bytes = kvs__entry_footprint(e);

	KVS_ASSERT(b->count < KVS__BATCH_ROOM);
	b->entry[b->count++] = e;
	b->bytes += bytes;
	return bytes;
}

void kvs__reclaim_release(struct kvs__reclaim *r, kvs__batch_ref *ref, struct kvs__batch *b)
{
	/* A write made by a user's callback inside this one may have left a batch of its own. */
	if (b->count < KVS__BATCH_ROOM)
		b = xchg_seq_cst(ref, b);
	if (unlikely(b != NULL)) {
		if (b->count)
			batch_queue(r, b);
		else
			kvs__mem_free(&r->pool->mem, b, sizeof(*b));
	}
}

bool kvs__reclaim_take_over(struct kvs__reclaim *r, kvs__batch_ref *ref)
{
	struct kvs__batch *b;

	if (!load_seq_cst(ref))
		return false;
	b = xchg_seq_cst(ref, NULL);
	if (!b)
		return false;
	if (b->count)
		batch_queue(r, b);
	else
		kvs__mem_free(&r->pool->mem, b, sizeof(*b));
	return true;
}
