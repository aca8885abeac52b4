/* SPDX-License-Identifier: MIT */
/*
 * reclaim.c - batches of retired entries and who frees them.
 *
 * INVARIANTS
 *
 * INV-R1  A batch is in one place: in one slot, in one thread's hand, with the worker, parked or ripe.
 *         It moves between slots and hands by exchange only.
 * INV-R2  An entry is put into a batch after it was unlinked, by the thread that marked it, once;
 *         the batch is queued after that; so the grace period that is waited for begins after the unlinking.
 * INV-R3  A write that marks holds a batch with room from before the mark until after the retire.
 * INV-R4  A batch becomes ripe after a grace period that began after it was handed over, and never before.
 * INV-R5  A batch made before a sweep that its holder has seen does not come back to a slot. Drain announces
 *         one and waits for all to have seen it; what it then does not find in the slots is in hands or queued.
 *
 * The worker runs callbacks in the order in which they were queued, so that a grace period waited
 * for through it (kvs__rcu_wait) is also a fence behind all batches handed over before.
 *
 * THE SOFT LIMIT  Writers can outrun the worker, which is one thread. Above the limit it only says of each
 * batch that it is ripe, which takes it no time, and all free: the maintenance thread, and each writer two
 * batches for every one that it hands over, so that what is ripe becomes less whatever the writers do. A
 * helper frees what is ripe; it never waits for a grace period.
 *
 * Taking a ripe batch is two steps on a list of its own (ready), under a flag that is only tried: whoever finds
 * it taken goes on without helping. Those that help do so inside a section, so that who waits for everything can
 * wait for them.
 *
 * Without a worker (a store opened so, or a fork's child that could not make one) batches are parked, and made
 * ripe by whoever waits for a grace period: kvs_run, drain, close.
 */
#include "reclaim.h"

#define HELP_BATCHES 2u
#define HELP_BATCHES_FULL 8u

bool kvs__reclaim_start(struct kvs__reclaim *r)
{
	return kvs__rcu_worker_start(&r->worker, "kvs-rcu");
}

void kvs__reclaim_stop(struct kvs__reclaim *r)
{
	kvs__reclaim_wait(r);
	kvs__rcu_worker_stop(&r->worker);
}

/* ---- free ---- */

static void batch_free(struct kvs__batch *b)
{
	struct kvs__reclaim *r = b->reclaim;
	uint64_t bytes = b->bytes;
	uint32_t count = b->count;

	kvs__entry_bury_many(r->pool, b->entry, count, KVS_REMOVED_DELETED);
	kvs__mem_free(&r->pool->mem, b, sizeof(*b));
	fetch_add_relaxed(&r->freed_bytes, bytes);
	fetch_add_relaxed(&r->freed_count, count);
	fetch_add_seq_cst(&r->freed_batches, 1);
}

static void push(_Atomic(struct kvs__batch *) *to, struct kvs__batch *b)
{
	b->next = load_acquire(to);
	while (!cas_seq_cst(to, &b->next, b))
		;
}

/* Its grace period is over: by the worker. */
static void batch_ripe(struct kvs__rcu_head *head)
{
	struct kvs__batch *b = kvs_container_of(head, struct kvs__batch, head);
	struct kvs__reclaim *r = b->reclaim;
	bool pressed = kvs__reclaim_deferred(r) > r->soft_limit;

	fetch_add_seq_cst(&r->ripe_batches, 1);
	if (unlikely(pressed))
		push(&r->ripe, b);
	else
		batch_free(b);
}

/* NULL: none, or somebody else is taking one. */
static struct kvs__batch *ripe_take(struct kvs__reclaim *r)
{
	struct kvs__batch *b;

	if (xchg_seq_cst(&r->freeing, 1))
		return NULL;
	if (!r->ready)
		r->ready = xchg_seq_cst(&r->ripe, NULL);
	b = r->ready;
	if (b)
		r->ready = b->next;
	store_seq_cst(&r->freeing, 0);
	return b;
}

/* In both, freed first: read last it could count later batches in the place of one that is still in a helper's hand. */
bool kvs__reclaim_has_ripe(const struct kvs__reclaim *r)
{
	uint64_t freed = load_seq_cst(&r->freed_batches);

	return freed != load_seq_cst(&r->ripe_batches);
}

bool kvs__reclaim_is_idle(const struct kvs__reclaim *r)
{
	uint64_t freed = load_seq_cst(&r->freed_batches);

	return freed == load_seq_cst(&r->queued_batches);
}

unsigned kvs__reclaim_free_ripe(struct kvs__reclaim *r)
{
	struct kvs__batch *b = NULL;
	unsigned count = 0;

	kvs__rcu_read_lock();
	if (!load_seq_cst(&r->hold) && kvs__reclaim_has_ripe(r))
		b = ripe_take(r);
	if (b) {
		count = b->count;
		batch_free(b);
	}
	kvs__rcu_read_unlock();
	return count;
}

static void help(struct kvs__reclaim *r, unsigned batches)
{
	while (batches-- && kvs__reclaim_free_ripe(r))
		fetch_add_relaxed(&r->helped_batches, 1);
}

bool kvs__reclaim_make_room(struct kvs__reclaim *r, kvs__batch_ref *ref)
{
	(void)kvs__reclaim_take_over(r, ref);
	help(r, HELP_BATCHES_FULL);
	return !kvs__reclaim_is_full(r);
}

/* ---- hand over ---- */

static void unpark(struct kvs__reclaim *r)
{
	struct kvs__batch *b = xchg_seq_cst(&r->parked, NULL);

	while (b) {
		struct kvs__batch *next = b->next;

		kvs__rcu_call(&r->worker, &b->head, batch_ripe);
		b = next;
	}
}

static bool may_call(const struct kvs__reclaim *r)
{
	return kvs__rcu_worker_runs(&r->worker) && !load_seq_cst(&r->hold);
}

static void batch_dispatch(struct kvs__reclaim *r, struct kvs__batch *b)
{
	if (likely(may_call(r))) {
		kvs__rcu_call(&r->worker, &b->head, batch_ripe);
		return;
	}
	push(&r->parked, b);
	if (unlikely(may_call(r)))
		unpark(r); /* the hold has ended meanwhile, and may not have met it. PAIRS(R4) */
}

static void batch_queue(struct kvs__reclaim *r, struct kvs__batch *b)
{
	fetch_add_relaxed(&r->queued_bytes, b->bytes);
	fetch_add_seq_cst(&r->queued_batches, 1);
	batch_dispatch(r, b);
}

void kvs__reclaim_hold(struct kvs__reclaim *r)
{
	store_seq_cst(&r->hold, 1);
}

void kvs__reclaim_unhold(struct kvs__reclaim *r)
{
	store_seq_cst(&r->hold, 0); /* PAIRS(R4) */
	if (kvs__rcu_worker_runs(&r->worker))
		unpark(r);
}

static void count_list(const struct kvs__batch *b, uint64_t *batches, uint64_t *bytes)
{
	for (; b; b = b->next) {
		++*batches;
		*bytes += b->bytes;
	}
}

void kvs__reclaim_recount(struct kvs__reclaim *r)
{
	uint64_t batches = load_seq_cst(&r->freed_batches);
	uint64_t bytes = load_relaxed(&r->freed_bytes);

	count_list(r->ready, &batches, &bytes);
	count_list(load_seq_cst(&r->ripe), &batches, &bytes);
	store_seq_cst(&r->watch_batches, batches); /* all that is ripe: nothing is watched */
	count_list(load_seq_cst(&r->parked), &batches, &bytes);
	store_relaxed(&r->queued_bytes, bytes);
	store_seq_cst(&r->queued_batches, batches);
}

/* ---- wait ---- */

/* Everything that is ripe. false: somebody else is taking one. */
static bool ripe_take_all(struct kvs__reclaim *r, struct kvs__batch **ret_ready,
			  struct kvs__batch **ret_ripe)
{
	if (xchg_seq_cst(&r->freeing, 1))
		return false;
	*ret_ready = r->ready;
	*ret_ripe = xchg_seq_cst(&r->ripe, NULL);
	r->ready = NULL;
	store_seq_cst(&r->freeing, 0);
	return true;
}

static void free_list(struct kvs__batch *b)
{
	while (b) {
		struct kvs__batch *next = b->next;

		batch_free(b);
		b = next;
	}
}

static void free_all_ripe(struct kvs__reclaim *r)
{
	struct kvs__batch *ready;
	struct kvs__batch *ripe;

	while (!ripe_take_all(r, &ready, &ripe))
		kvs__rcu_wait(&r->worker); /* GP: who was at ready */
	free_list(ready);
	free_list(ripe);
}

static void note_ripe(struct kvs__reclaim *r, const struct kvs__batch *b)
{
	for (; b; b = b->next)
		fetch_add_seq_cst(&r->ripe_batches, 1);
}

bool kvs__reclaim_ripen(struct kvs__reclaim *r)
{
	struct kvs__batch *parked;
	struct kvs__batch *b;

	if (kvs__reclaim_has_ripe(r))
		return false;
	parked = xchg_seq_cst(&r->parked, NULL);
	if (!parked)
		return false;
	kvs__rcu_wait(&r->worker); /* GP: of the parked batches */
	note_ripe(r, parked);
	while (parked) {
		b = parked->next;
		push(&r->ripe, parked);
		parked = b;
	}
	return true;
}

void kvs__reclaim_wait(struct kvs__reclaim *r)
{
	struct kvs__batch *parked = xchg_seq_cst(&r->parked, NULL);

	kvs__rcu_wait(
		&r->worker); /* GP: of the parked ones; behind it, what the worker had is free or ripe */
	note_ripe(r, parked);
	free_list(parked);
	if (!kvs__reclaim_has_ripe(r))
		return;
	free_all_ripe(r);
	kvs__rcu_wait(&r->worker); /* GP: batches in the hands of those that help */
}

/* ---- the watch ---- */

static bool watch_is_over(const struct kvs__reclaim *r)
{
	return (int64_t)(load_seq_cst(&r->ripe_batches) - load_seq_cst(&r->watch_batches)) >= 0;
}

void kvs__reclaim_watch(struct kvs__reclaim *r, uint64_t now_ms)
{
	if (watch_is_over(r) && xchg_seq_cst(&r->watching, 1) == 0) {
		if (watch_is_over(r)) {
			store_seq_cst(&r->watch_since_ms, now_ms);
			store_seq_cst(&r->watch_batches, load_seq_cst(&r->queued_batches));
		}
		store_seq_cst(&r->watching, 0);
	}
}

void kvs__reclaim_watch_end(struct kvs__reclaim *r)
{
	store_seq_cst(&r->watch_batches, load_seq_cst(&r->ripe_batches));
}

uint64_t kvs__reclaim_age(const struct kvs__reclaim *r, uint64_t now_ms)
{
	uint64_t since;

	if (watch_is_over(r))
		return 0;
	since = load_seq_cst(&r->watch_since_ms);
	return now_ms > since ? now_ms - since : 0;
}

/* ---- a write's batch ---- */

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
	b->sweep = load_relaxed(&r->sweep);
	return b;
}

static void batch_part_with(struct kvs__reclaim *r, struct kvs__batch *b)
{
	if (b->count)
		batch_queue(r, b);
	else
		kvs__mem_free(&r->pool->mem, b, sizeof(*b));
}

void kvs__reclaim_release(struct kvs__reclaim *r, kvs__batch_ref *ref, struct kvs__batch *b)
{
	/* A write made by a user's callback inside this one may have left a batch of its own. */
	if (b->count < KVS__BATCH_ROOM && b->bytes < KVS__BATCH_BYTES &&
	    likely(b->sweep == load_relaxed(&r->sweep)))
		b = xchg_seq_cst(ref, b);
	if (likely(!b))
		return;
	batch_part_with(r, b);
	if (unlikely(kvs__reclaim_deferred(r) > r->soft_limit))
		help(r, HELP_BATCHES);
}

void kvs__reclaim_sweep(struct kvs__reclaim *r)
{
	(void)fetch_add_seq_cst(&r->sweep, 1);
}

bool kvs__reclaim_take_over(struct kvs__reclaim *r, kvs__batch_ref *ref)
{
	struct kvs__batch *b;

	if (!load_seq_cst(ref))
		return false;
	b = xchg_seq_cst(ref, NULL);
	if (b)
		batch_part_with(r, b);
	return b != NULL;
}
