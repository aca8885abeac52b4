/* SPDX-License-Identifier: MIT */
/*
 * store.c - open, close, clear, free: what swaps the root pointer, and what waits.
 *
 * A swap of the root is the linearization point of clear, load and close. Operations that loaded the old root
 * overlap the swap and count before it; GP: after the swap one grace period passes before the
 * old tables are walked and freed, so no operation is left in them. Swaps are made under admin,
 * one at a time.
 */
#include "store.h"

#include "expiry.h"
#include "hash_wide.h"
#include "iter.h"
#include "quota.h"
#include "maintain.h"
#include "options.h"

/* ---- roots ---- */

static size_t root_size(uint64_t shards)
{
	return sizeof(struct kvs__root) + KVS_LINE + shards * sizeof(struct kvs__table);
}

static void root_release(const struct kvs__mem *mem, struct kvs__root *root)
{
	uint64_t i;

	for (i = 0; i < root->shards; i++)
		kvs__table_release(&root->table[i]);
	kvs__mem_lines_free(mem, root, root_size(root->shards));
}

struct kvs__root *kvs__root_make(struct kvs *kv, unsigned bits)
{
	struct kvs__root *root = kvs__mem_lines(&kv->pool.mem, root_size(kv->shards));
	uint64_t i;

	if (!root)
		return NULL;
	for (i = 0; i < kv->shards; i++) {
		root->shards = i;
		if (!kvs__table_init(&root->table[i], &kv->pages, &kv->cut, bits)) {
			while (i-- > 0)
				kvs__table_release(&root->table[i]);
			kvs__mem_lines_free(&kv->pool.mem, root, root_size(kv->shards));
			return NULL;
		}
	}
	root->shards = kv->shards;
	return root;
}

#define FREE_BATCH 128u

/* Free every entry of a table that no thread can reach. Returns their footprints. */
static uint64_t table_free_entries(struct kvs *kv, const struct kvs__table *t,
				   enum kvs_removal cause)
{
	struct kvs__walk w = kvs__walk_start(t, 0, NULL);
	struct kvs__entry *batch[FREE_BATCH];
	struct kvs__entry *e;
	uint64_t bytes = 0;
	size_t n = 0;

	while ((e = kvs__walk_next(&w)) != NULL) {
		bytes += kvs__entry_footprint(&kv->pool, e);
		batch[n++] = e;
		if (n == FREE_BATCH) {
			kvs__expiry_forget(kv, batch, n);
			kvs__entry_bury_many(&kv->pool, batch, n, cause);
			n = 0;
		}
	}
	kvs__expiry_forget(kv, batch, n);
	kvs__entry_bury_many(&kv->pool, batch, n, cause);
	return bytes;
}

void kvs__root_discard(struct kvs *kv, struct kvs__root *root)
{
	uint64_t i;

	if (load_seq_cst(&kv->root))         /* else what is on the wheel is free, and nobody's */
		(void)kvs__expiry_flush(kv); /* what was sent about its entries */
	for (i = 0; i < root->shards; i++)
		(void)table_free_entries(kv, &root->table[i], (enum kvs_removal)0);
	root_release(&kv->pool.mem, root);
}

static void root_free(struct kvs *kv, struct kvs__root *root, enum kvs_removal cause)
{
	uint64_t i;

	for (i = 0; i < root->shards; i++) {
		struct kvs__table *t = &root->table[i];

		kvs__live_cleared(kv, table_free_entries(kv, t, cause));
		fetch_add_relaxed(&kv->past_growths, load_relaxed(&t->growths));
		fetch_add_relaxed(&kv->past_shrinks, load_relaxed(&t->shrinks));
		fetch_add_relaxed(&kv->past_growths_failed, load_relaxed(&t->growths_failed));
	}
	root_release(&kv->pool.mem, root);
}

/* ---- open ---- */

unsigned kvs__bits_for(uint64_t keys)
{
	unsigned bits = KVS__BITS_MIN;

	while (bits < KVS__BITS_MAX && (uint64_t)1 << bits < keys)
		bits++;
	return bits;
}

static void take_options(struct kvs *kv, const struct kvs_options *o)
{
	kv->shards = o->shards ? (uint32_t)o->shards : KVS__SHARDS_DEFAULT;
	kv->route = o->route;
	kv->shard_fn = o->shard_fn;
	kv->shard_ctx = o->shard_ctx;
	kv->cut.reader_settles = &kv->reader_settles;
	store_relaxed(&kv->cut.era, KVS__ERA_FIRST);
	kvs__clock_init(&kv->clock, o->clock);
	kv->tick_ms = o->expiry_tick_ms ? o->expiry_tick_ms : KVS_EXPIRY_TICK_MS_DEFAULT;
	kv->pool.removed_fn = o->removed_fn;
	kv->pool.removed_ctx = o->removed_ctx;
	kv->pool.clock = &kv->clock;
	kv->bits_min = kvs__bits_for(o->initial_capacity / kv->shards);
	kv->flags = o->flags;
	kv->max_memory = o->max_memory < INT64_MAX ? o->max_memory : INT64_MAX; /* quota.h */
	kv->stall_fn = o->stall_fn;
	kv->stall_ctx = o->stall_ctx;
	kv->stall_ms = o->stall_ms ? o->stall_ms : KVS_STALL_MS_DEFAULT;
	if (o->type)
		kv->pool.type = *o->type;
	kv->pool.pinned_bytes = &kv->pinned_bytes;
	kv->reclaim.pool = &kv->pool;
	kv->reclaim.soft_limit = o->deferred_soft ? o->deferred_soft : KVS_DEFERRED_SOFT_DEFAULT;
	kv->reclaim.hard_limit = o->deferred_hard;
}

static bool versions_make(struct kvs *kv)
{
	uint32_t i;

	kv->versions = kvs__mem_lines(&kv->pool.mem, kv->shards * sizeof(*kv->versions));
	if (!kv->versions)
		return false;
	for (i = 0; i < kv->shards; i++)
		store_relaxed(&kv->versions[i].next, (uint64_t)i + 1);
	return true;
}

static void versions_free(struct kvs *kv)
{
	kvs__mem_lines_free(&kv->pool.mem, kv->versions, kv->shards * sizeof(*kv->versions));
}

/* The arena is left out where every block is to be seen by a memory checker. */
static bool pool_make(struct kvs *kv)
{
#ifndef KVS_PLAIN_ALLOC
	if (!kv->pool.mem.user.alloc) {
		kv->pool.arena = kvs__arena_create(NULL);
		return kv->pool.arena != NULL;
	}
#endif
	kv->pool.arena = NULL;
	return true;
}

bool kvs__threads_start(struct kvs *kv)
{
	if (kv->flags & KVS_OPEN_NO_THREADS)
		return true;
	if (!kvs__reclaim_start(&kv->reclaim))
		return false;
	if (kvs__maintainer_start(kv))
		return true;
	kvs__admin_lock(kv); /* it waits for a grace period, which no fork may cut in two */
	kvs__reclaim_stop(&kv->reclaim);
	kvs__admin_unlock(kv);
	return false;
}

/* What a fork's child had no memory for, and this store needs. */
static bool finish_fork(const struct kvs *kv)
{
	bool ok;

	if (kv->flags & KVS_OPEN_NO_THREADS || !kvs__rcu_fork_is_unfinished())
		return true;
	kvs__homes_lock();
	ok = kvs__rcu_fork_finish();
	kvs__homes_unlock();
	return ok;
}

/* Which stores kvs_get has its straight path for (read.c). */
static void open_straight(struct kvs *kv)
{
	bool sip = kv->hasher.kind == KVS_HASH_SIPHASH13;
	bool xxh3 = kv->hasher.kind == KVS_HASH_XXH3;
	bool usual = kv->route == KVS_ROUTE_HASH && (sip || xxh3);

	kv->number = kv->home.number;
	kv->wide = sip && kvs__wide_supported();
	kv->xxh3 = xxh3;
	kv->straight = usual && kvs__rcu_can_enter() ? kv->home.generation : KVS__GENERATION_NONE;
}

/* Undone in reverse by the labels; on success all of it is undone by kvs_close and kvs_free. */
static int build(struct kvs *kv, const struct kvs_options *o)
{
	struct kvs__root *root;
	int err = kvs__hasher_init(&kv->hasher, o);

	if (err)
		return err;
	take_options(kv, o);
	if (!pool_make(kv))
		return KVS_ERR_NO_MEMORY;
	if (!versions_make(kv))
		goto no_versions;
	root = kvs__root_make(kv, kv->bits_min);
	if (!root)
		goto no_root;
	store_seq_cst(&kv->root, root);
	if (!kvs__home_make(&kv->home, &kv->pool))
		goto no_home;
	if (!kvs__expiry_start(kv, kv->tick_ms))
		goto no_expiry;
	kvs__home_enter(&kv->home);
	open_straight(kv);
	if (!finish_fork(kv) || !kvs__threads_start(kv))
		goto no_threads;
	return KVS_OK;

no_threads:
	kvs__home_leave(&kv->home);
	kvs__expiry_end(kv);
no_expiry:
	kvs__home_end(&kv->home);
no_home:
	root_release(&kv->pool.mem, root);
no_root:
	versions_free(kv);
no_versions:
	kvs__arena_destroy(kv->pool.arena);
	return KVS_ERR_NO_MEMORY;
}

KVS_API int kvs_open(const struct kvs_options *opts, struct kvs **ret_kv)
{
	struct kvs_options o;
	struct kvs__mem mem = { { NULL, NULL, NULL, NULL } };
	struct kvs *kv;
	int err = kvs__options_read(opts, &o, NULL);

	if (err)
		return err;
	if (!ret_kv)
		return KVS_ERR_INVALID_ARGUMENT;
	if (kvs__rcu_read_ongoing())
		return KVS_ERR_IN_READ_SECTION;
	if (kvs__maintainer_is_here())
		return KVS_ERR_BUSY;
	if (o.allocator)
		mem.user = *o.allocator;
	kv = kvs__mem_lines(&mem, sizeof(*kv));
	if (!kv)
		return KVS_ERR_NO_MEMORY;
	kv->pool.mem = mem;
	(void)pthread_mutex_init(&kv->admin, NULL);
	kvs__pages_init(&kv->pages, &kv->pool.mem);
	err = build(kv, &o);
	if (err) {
		kvs__pages_release(&kv->pages);
		pthread_mutex_destroy(&kv->admin);
		kvs__mem_lines_free(&mem, kv, sizeof(*kv));
		return err;
	}
	*ret_kv = kv;
	return KVS_OK;
}

/* ---- calls that wait ---- */

void kvs__admin_lock(struct kvs *kv)
{
	fetch_add_seq_cst(&kv->admin_waiters, 1);
	pthread_mutex_lock(&kv->admin);
	fetch_sub_seq_cst(&kv->admin_waiters, 1);
}

void kvs__admin_unlock(struct kvs *kv)
{
	pthread_mutex_unlock(&kv->admin);
}

int kvs__waiting_call_refused(const struct kvs *kv)
{
	if (kvs__rcu_read_ongoing())
		return KVS_ERR_IN_READ_SECTION;
	if (kvs__rcu_worker_is_self(&kv->reclaim.worker) || kvs__maintainer_is_here())
		return KVS_ERR_BUSY;
	return KVS_OK;
}

int kvs__admin_begin(struct kvs *kv)
{
	int err;

	if (!kv)
		return KVS_ERR_INVALID_ARGUMENT;
	if (!load_seq_cst(&kv->root))
		return KVS_ERR_STORE_CLOSED;
	err = kvs__waiting_call_refused(kv);
	if (err)
		return err;
	kvs__admin_lock(kv);
	if (load_seq_cst(&kv->root))
		return KVS_OK;
	kvs__admin_unlock(kv);
	return KVS_ERR_STORE_CLOSED;
}

/* As kvs__admin_begin, for calls that end the contents: BUSY while a snapshot is open. */
static int contents_begin(struct kvs *kv)
{
	int err = kvs__admin_begin(kv);

	if (!err && load_seq_cst(&kv->cut.running)) {
		kvs__admin_unlock(kv);
		return KVS_ERR_BUSY;
	}
	return err;
}

void kvs__contents_replace(struct kvs *kv, struct kvs__root *fresh)
{
	struct kvs__root *old = xchg_seq_cst(&kv->root, fresh); /* LP(clear), LP(load) */

	kvs__rcu_wait(&kv->reclaim.worker); /* GP: operations in the old tables */
	kvs__maintain_forget(kv);
	(void)kvs__expiry_flush(kv); /* and what they have sent */
	root_free(kv, old, KVS_REMOVED_CLEARED);
	kvs__maintainer_wake(kv); /* a large directory has heads to link */
}

KVS_API int kvs_clear(struct kvs *kv)
{
	struct kvs__root *fresh;
	int err = contents_begin(kv);

	if (err)
		return err;
	fresh = kvs__root_make(kv, kv->bits_min);
	if (fresh)
		kvs__contents_replace(kv, fresh);
	else
		err = KVS_ERR_NO_MEMORY;
	kvs__admin_unlock(kv);
	return err;
}

KVS_API int kvs_drain(struct kvs *kv)
{
	int err = kvs__admin_begin(kv);

	if (err)
		return err;
	kvs__reclaim_sweep(&kv->reclaim);
	kvs__rcu_wait(&kv->reclaim.worker); /* GP: who has not seen the sweep */
	if (!kvs__expiry_flush(kv))
		err = KVS_ERR_NO_MEMORY;
	(void)kvs__slots_take_over(&kv->home, &kv->reclaim);
	kvs__rcu_wait(&kv->reclaim.worker); /* GP: batches in a hand are queued */
	kvs__reclaim_wait(&kv->reclaim);
	if (kv->pool.arena)
		kvs__arena_trim(kv->pool.arena);
	kvs__admin_unlock(kv);
	return err;
}

KVS_API int kvs_close(struct kvs *kv)
{
	struct kvs__root *old;
	int err = contents_begin(kv);
	bool ran;

	if (err)
		return err;
	old = xchg_seq_cst(&kv->root, NULL); /* LP(close) */
	kvs__rcu_wait(&kv->reclaim.worker);  /* GP: operations that found the store open */
	ran = kvs__maintainer_stop(kv);
	kvs__maintain_forget(kv);
	(void)kvs__expiry_flush(kv); /* what they have sent; the wheel is nobody's from here on */
	fetch_add_relaxed(&kv->reclaim.freed_bytes, kvs__expiry_free_dead(kv));
	(void)kvs__slots_take_over(&kv->home, &kv->reclaim);
	root_free(kv, old, KVS_REMOVED_CLOSED);
	kvs__reclaim_stop(&kv->reclaim);
	if (kv->pool.arena)
		kvs__arena_trim(kv->pool.arena);
	kvs__admin_unlock(kv);
	if (ran)
		kvs__maintainer_join(kv);
	return KVS_OK;
}

KVS_API int kvs_free(struct kvs *kv)
{
	struct kvs__mem mem;
	int err;

	if (!kv)
		return KVS_OK;
	err = kvs__waiting_call_refused(kv);
	if (err)
		return err;
	if (kvs__pins_out(kv))
		return KVS_ERR_BUSY;
	err = kvs_close(kv);
	if (err && err != KVS_ERR_STORE_CLOSED)
		return err;
	kvs__home_leave(&kv->home);
	kvs__home_end(&kv->home);
	kvs__expiry_end(kv);
	kvs__arena_destroy(kv->pool.arena);
	versions_free(kv);
	kvs__pages_release(&kv->pages);
	pthread_mutex_destroy(&kv->admin);
	mem = kv->pool.mem;
	kvs__mem_lines_free(&mem, kv, sizeof(*kv));
	return KVS_OK;
}

/* ---- small things that several files need ---- */

int kvs__route_user(const struct kvs *kv, struct kvs_slice key, uint32_t *ret_shard)
{
	int i = kv->shard_fn(key.data, key.len, (int)kv->shards, kv->shard_ctx);

	if (i < 0 || (uint32_t)i >= kv->shards)
		return KVS_ERR_INVALID_SHARD_INDEX;
	*ret_shard = (uint32_t)i;
	return KVS_OK;
}

bool kvs__value_copy(const struct kvs *kv, const struct kvs__entry *e, struct kvs_value *ret)
{
	struct kvs_value v;
	void *to = NULL;

	kvs__value_of(kv, e, &v);
	if (kvs__pool_is_typed(&kv->pool)) {
		to = kv->pool.type.clone(v.data, v.len, kv->pool.type.ctx);
		if (!to)
			return false;
	} else if (v.len) {
		to = kvs__mem_alloc(&kv->pool.mem, v.len);
		if (!to)
			return false;
		memcpy(to, v.data, v.len);
	}
	v.data = to;
	*ret = v;
	return true;
}
