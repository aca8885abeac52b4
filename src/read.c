/* SPDX-License-Identifier: MIT */
/*
 * read.c - get in its three forms, exists, len, sections.
 *
 * No function here takes a lock, executes a locked instruction or writes anything but the thread's own
 * RCU word and counters, the first call of a thread excepted. See list.h for the lookup.
 *
 * kvs_get has two ways. The straight one is for a thread that has read this store before, outside of
 * sections of its own, from a store with the default hash and routing. It is one function without a call, but to tell a head:
 * the fewer instructions a get has, the more of the next get the processor has begun while it
 * waits for memory. Whatever it is not made for goes the long way, from the beginning. There are two of
 * it, one for processors with AVX-512VL, and each once more in a batch of one.
 */
#include "batch.h"
#include "hash_wide.h"
#include "store.h"

/* Returns the thread's slot, or NULL. */
KVS_INLINE struct kvs__slot *count_read(struct kvs *kv, int err)
{
	struct kvs__slot *slot;

	if (unlikely(err == KVS_ERR_STORE_CLOSED))
		return NULL;
	slot = kvs__slot_get(&kv->home);
	if (likely(slot != NULL))
		add_owned(err == KVS_ERR_NOT_FOUND ? &slot->misses : &slot->hits, 1);
	return slot;
}

/* Inside a section: the live entry of a key. */
KVS_INLINE int find(struct kvs *kv, const struct kvs__target *target, const struct kvs__entry **ret)
{
	const struct kvs__root *root = load_seq_cst(&kv->root);

	if (unlikely(!root))
		return KVS_ERR_STORE_CLOSED;
	*ret = kvs__find_live(kv, &root->table[target->shard], &target->wanted);
	return *ret ? KVS_OK : KVS_ERR_NOT_FOUND;
}

KVS_INLINE int copy_out(const struct kvs *kv, const struct kvs__entry *e, void *buf, size_t cap,
			struct kvs_value *ret)
{
	struct kvs_value v;

	if (unlikely(e->extent & KVS__EXTENT_BLOCK) && kvs__pool_is_typed(&kv->pool))
		return KVS_ERR_TYPED;
	kvs__value_of(kv, e, &v);
	if (unlikely(v.len > cap)) {
		v.data = NULL;
		if (ret)
			*ret = v;
		return KVS_ERR_BUFFER_TOO_SMALL;
	}
	kvs__copy(buf, v.data, v.len);
	v.data = buf;
	if (ret)
		*ret = v;
	return KVS_OK;
}

/* The long way. */
static KVS_NOINLINE int get_any(struct kvs *kv, struct kvs_slice key, void *buf, size_t cap,
				struct kvs_value *ret)
{
	const struct kvs__entry *e;
	struct kvs__target target;
	struct kvs__slot *slot;
	int err;

	if (unlikely(!kv || (!buf && cap)))
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__target_of(kv, key, &target);
	if (unlikely(err))
		return err;
	kvs__rcu_read_lock();
	err = find(kv, &target, &e);
	if (likely(!err))
		err = copy_out(kv, e, buf, cap, ret);
	kvs__rcu_read_unlock();
	slot = count_read(kv, err);
	if (slot)
		kvs__slot_bring_near(&kv->home, slot); /* the next get may go straight */
	return err;
}

/* The end of a straight get that met a timed entry, a value in a block of its own or one that is too long. */
static KVS_NOINLINE int get_met(struct kvs *kv, const struct kvs__table *t,
				const struct kvs__entry *e, const unsigned char *key, void *buf,
				size_t cap, struct kvs_value *ret, kvs__rcu_reader reader)
{
	int err;

	if (kvs__entry_is_timed(e))
		e = kvs__lookup_timed(&kv->clock, t, e->order, key, e);
	err = e ? copy_out(kv, e, buf, cap, ret) : KVS_ERR_NOT_FOUND;
	kvs__rcu_exit(reader);
	(void)count_read(kv, err);
	return err;
}

/* The straight way, from the slot and the hash on. */
KVS_INLINE int get_straight(struct kvs *kv, struct kvs_slice key, void *buf, size_t cap,
			    struct kvs_value *ret, struct kvs__slot *slot, uint64_t hash)
{
	const struct kvs__entry *e;
	const struct kvs__root *root;
	const struct kvs__table *t;
	kvs__rcu_reader reader;
	enum kvs__met met;
	size_t len;

	reader = kvs__rcu_enter();
	if (unlikely(!reader))
		return get_any(kv, key, buf, cap, ret);
	root = load_seq_cst(&kv->root);
	if (unlikely(!root))
		goto other;
	t = &root->table[kvs__shard_of(kv, hash)];
	met = kvs__lookup_straight(t, kvs__order_make(hash, key.len), key.data, key.len, &e);
	if (unlikely(met == KVS__MET_MORE))
		goto other;
	if (unlikely(met == KVS__MET_NOTHING)) {
		kvs__rcu_exit(reader);
		add_owned(&slot->misses, 1);
		return KVS_ERR_NOT_FOUND;
	}
	len = e->extent; /* greater than any length, if there is more to it */
	if (unlikely(len > cap || len > KVS__EXTENT_LEN)) {
		len &= ~(size_t)KVS__EXTENT_DEADLINE;
		if (ret || len > cap || len > KVS__EXTENT_LEN ||
		    !kvs__clock_is_before(&kv->clock, kvs__entry_deadline(e)))
			return get_met(kv, t, e, key.data, buf, cap, ret, reader);
	}
	kvs__copy(buf, e->bytes + key.len, len);
	if (ret)
		*ret = (struct kvs_value){ buf, len, kvs__entry_version(e), 0 };
	kvs__rcu_exit(reader);
	add_owned(&slot->hits, 1);
	return KVS_OK;
other:
	kvs__rcu_exit(reader);
	return get_any(kv, key, buf, cap, ret);
}

/* The same for another processor. */
static KVS_NOINLINE KVS_WIDE int get_wide(struct kvs *kv, struct kvs_slice key, void *buf,
					  size_t cap, struct kvs_value *ret)
{
	struct kvs__slot *slot = kvs__slot_near(kv->straight, kv->number);

	if (unlikely(!slot))
		return get_any(kv, key, buf, cap, ret);
	return get_straight(kv, key, buf, cap, ret, slot,
			    kvs__siphash13_wide(key.data, key.len, kv->hasher.sip));
}

/* The same for another hash. */
static KVS_NOINLINE int get_xxh3(struct kvs *kv, struct kvs_slice key, void *buf, size_t cap,
				 struct kvs_value *ret)
{
	struct kvs__slot *slot = kvs__slot_near(kv->straight, kv->number);

	if (unlikely(!slot))
		return get_any(kv, key, buf, cap, ret);
	return get_straight(kv, key, buf, cap, ret, slot,
			    kvs__mix64(kvs__xxh3(key.data, key.len, kv->hasher.seed)));
}

KVS_INLINE int get_here(struct kvs *kv, struct kvs_slice key, void *buf, size_t cap,
			struct kvs_value *ret)
{
	struct kvs__slot *slot;

	if (unlikely(!kv || !buf || !key.data || key.len > KVS_KEY_MAX))
		return get_any(kv, key, buf, cap, ret);
	if (kv->wide)
		return get_wide(kv, key, buf, cap, ret);
	if (kv->xxh3)
		return get_xxh3(kv, key, buf, cap, ret);
	slot = kvs__slot_near(kv->straight, kv->number);
	if (unlikely(!slot))
		return get_any(kv, key, buf, cap, ret);
	return get_straight(kv, key, buf, cap, ret, slot,
			    kvs__siphash13_inline(key.data, key.len, kv->hasher.sip));
}

KVS_API int kvs_get(struct kvs *kv, struct kvs_slice key, void *buf, size_t cap,
		    struct kvs_value *ret)
{
	return get_here(kv, key, buf, cap, ret);
}

KVS_INLINE int get_alloc_here(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret)
{
	const struct kvs__entry *e;
	struct kvs__target target;
	int err;

	if (unlikely(!kv || !ret))
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__target_of(kv, key, &target);
	if (unlikely(err))
		return err;
	kvs__rcu_read_lock();
	err = find(kv, &target, &e);
	if (!err && !kvs__value_copy(kv, e, ret))
		err = KVS_ERR_NO_MEMORY;
	kvs__rcu_read_unlock();
	(void)count_read(kv, err);
	return err;
}

KVS_API int kvs_get_alloc(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret)
{
	return get_alloc_here(kv, key, ret);
}

KVS_API void kvs_value_free(struct kvs *kv, struct kvs_value *value)
{
	void *data;

	if (!kv || !value)
		return;
	data = (void *)(uintptr_t)value->data;
	if (data && kvs__pool_is_typed(&kv->pool))
		kv->pool.type.destroy(data, value->len, kv->pool.type.ctx);
	else
		kvs__mem_free(&kv->pool.mem, data, value->len);
	*value = (struct kvs_value){ NULL, 0, 0, 0 };
}

KVS_INLINE int borrow_here(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret)
{
	const struct kvs__entry *e;
	struct kvs__target target;
	int err;

	if (unlikely(!kv || !ret))
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__target_of(kv, key, &target);
	if (unlikely(err))
		return err;
	if (unlikely(!kvs__rcu_read_ongoing()))
		return KVS_ERR_NO_READ_SECTION;
	err = find(kv, &target, &e);
	if (likely(!err))
		kvs__value_of(kv, e, ret);
	(void)count_read(kv, err);
	return err;
}

KVS_API int kvs_borrow(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret)
{
	return borrow_here(kv, key, ret);
}

/* ---- batches: one item is a single get ---- */

KVS_INLINE int answer_one(struct kvs_get_item *item, int err)
{
	item->status = err;
	return unlikely(err == KVS_ERR_NOT_FOUND) ? KVS_OK : err;
}

static void count_one(const struct kvs_get_item *item, struct kvs_batch_counts *ret)
{
	int err = item->status;
	bool found = err == KVS_OK || err == KVS_ERR_BUFFER_TOO_SMALL;

	*ret = (struct kvs_batch_counts){
		.ok = err == KVS_OK,
		.not_found = err == KVS_ERR_NOT_FOUND,
		.failed = err != KVS_OK && err != KVS_ERR_NOT_FOUND,
		.bytes = found ? item->value.len : 0,
	};
}

static KVS_NOINLINE int get_one_counted(struct kvs *kv, struct kvs_get_item *item, void *buf,
					size_t cap, struct kvs_batch_counts *ret_counts)
{
	int err = answer_one(item, get_here(kv, item->key, buf, cap, &item->value));

	count_one(item, ret_counts);
	return err;
}

/* Each of its few instructions more than kvs_get's is one that a batch of one costs more: see scripts/compare-cost. */
KVS_API int kvs_batch_get(struct kvs *kv, struct kvs_get_item *items, size_t n, void *buf,
			  size_t cap, struct kvs_batch_counts *ret_counts)
{
	if (n != 1 || !items || !kv || !buf)
		return kvs__batch_get(kv, items, n, buf, cap, ret_counts);
	if (ret_counts)
		return get_one_counted(kv, items, buf, cap, ret_counts);
	return answer_one(items, get_here(kv, items->key, buf, cap, &items->value));
}

KVS_API int kvs_batch_get_alloc(struct kvs *kv, struct kvs_get_item *items, size_t n,
				struct kvs_batch_counts *ret_counts)
{
	if (n != 1 || ret_counts || unlikely(!items) || unlikely(!kv))
		return kvs__batch_get_alloc(kv, items, n, ret_counts);
	return answer_one(items, get_alloc_here(kv, items->key, &items->value));
}

KVS_API int kvs_batch_borrow(struct kvs *kv, struct kvs_get_item *items, size_t n,
			     struct kvs_batch_counts *ret_counts)
{
	int err;

	if (n != 1 || unlikely(!items) || unlikely(!kv) || unlikely(!kvs__rcu_read_ongoing()))
		return kvs__batch_borrow(kv, items, n, ret_counts);
	err = answer_one(items, borrow_here(kv, items->key, &items->value));
	if (ret_counts)
		count_one(items, ret_counts);
	return err;
}

KVS_API int kvs_exists(struct kvs *kv, struct kvs_slice key)
{
	const struct kvs__entry *e;
	struct kvs__target target;
	int err;

	if (unlikely(!kv))
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__target_of(kv, key, &target);
	if (unlikely(err))
		return err;
	kvs__rcu_read_lock();
	err = find(kv, &target, &e);
	kvs__rcu_read_unlock();
	(void)count_read(kv, err);
	return err;
}

static int64_t time_left(const struct kvs *kv, const struct kvs__entry *e)
{
	int64_t deadline = kvs__entry_deadline(e);
	int64_t left;

	if (deadline == KVS__NO_DEADLINE)
		return 0;
	left = deadline - kvs__clock_now(&kv->clock);
	return left > 0 ? left : 1; /* it was there a moment ago */
}

KVS_API int kvs_ttl(struct kvs *kv, struct kvs_slice key, int64_t *ret_ttl_ms)
{
	const struct kvs__entry *e;
	struct kvs__target target;
	int err;

	if (unlikely(!kv || !ret_ttl_ms))
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__target_of(kv, key, &target);
	if (unlikely(err))
		return err;
	kvs__rcu_read_lock();
	err = find(kv, &target, &e);
	if (!err)
		*ret_ttl_ms = time_left(kv, e);
	kvs__rcu_read_unlock();
	(void)count_read(kv, err);
	return err;
}

KVS_API void kvs_read_begin(struct kvs *kv)
{
	(void)kv;
	kvs__rcu_read_lock();
}

KVS_API void kvs_read_end(struct kvs *kv)
{
	(void)kv;
	kvs__rcu_read_unlock();
}

KVS_API int kvs_len(struct kvs *kv, uint64_t *ret_len)
{
	const struct kvs__root *root;
	uint64_t sum = 0;
	uint64_t i;

	if (!kv || !ret_len)
		return KVS_ERR_INVALID_ARGUMENT;
	kvs__rcu_read_lock();
	root = load_seq_cst(&kv->root);
	for (i = 0; root && i < root->shards; i++)
		sum += load_seq_cst(&root->table[i].count);
	kvs__rcu_read_unlock();
	if (!root)
		return KVS_ERR_STORE_CLOSED;
	/* A delete may be counted before the insert that it undid: never show less than nothing. */
	*ret_len = (int64_t)sum < 0 ? 0 : sum;
	return KVS_OK;
}

KVS_API int kvs_thread_attach(struct kvs *kv)
{
	if (!kv)
		return KVS_ERR_INVALID_ARGUMENT;
	if (!load_seq_cst(&kv->root))
		return KVS_ERR_STORE_CLOSED;
	if (!kvs__slot_get(&kv->home))
		return KVS_ERR_NO_MEMORY;
	kvs__rcu_read_lock();
	kvs__rcu_read_unlock();
	return KVS_OK;
}
