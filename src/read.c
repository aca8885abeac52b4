/* SPDX-License-Identifier: MIT */
/*
 * read.c - get in its three forms, exists, len, sections.
 *
 * No function here takes a lock, executes a locked instruction or writes anything but the thread's own
 * RCU word and counters, the first call of a thread excepted. See list.h for the lookup.
 */
#include "store.h"

KVS_INLINE void count_read(struct kvs *kv, int err)
{
	struct kvs__slot *slot;

	if (unlikely(err == KVS_ERR_STORE_CLOSED))
		return;
	slot = kvs__slot_get(&kv->home);
	if (likely(slot != NULL))
		add_owned(err == KVS_ERR_NOT_FOUND ? &slot->misses : &slot->hits, 1);
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

KVS_API int kvs_get(struct kvs *kv, struct kvs_slice key, void *buf, size_t cap, struct kvs_value *ret)
{
	const struct kvs__entry *e;
	struct kvs__target target;
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
	count_read(kv, err);
	return err;
}

KVS_API int kvs_get_alloc(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret)
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
	count_read(kv, err);
	return err;
}

KVS_API void kvs_value_free(struct kvs *kv, struct kvs_value *value)
{
	if (!kv || !value)
		return;
	kvs__mem_free(&kv->pool.mem, (void *)(uintptr_t)value->data, value->len);
	*value = (struct kvs_value){ NULL, 0, 0, 0 };
}

KVS_API int kvs_borrow(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret)
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
	count_read(kv, err);
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
	count_read(kv, err);
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
	count_read(kv, err);
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
