/* SPDX-License-Identifier: MIT */
/* pin.c - values held beyond the section in which they were found. The counting is in entry.c. */
#include "store.h"

/* Inside a section. */
static int find_and_pin(struct kvs *kv, const struct kvs__target *target, struct kvs_value *ret,
			struct kvs_pin *ret_pin)
{
	const struct kvs__root *root = load_seq_cst(&kv->root);
	struct kvs__entry *e;

	if (!root)
		return KVS_ERR_STORE_CLOSED;
	e = (struct kvs__entry *)(uintptr_t)kvs__find_live(kv, &root->table[target->shard],
							   &target->wanted);
	if (!e)
		return KVS_ERR_NOT_FOUND;
	if (!kvs__entry_pin(e))
		return KVS_ERR_TOO_MANY_PINS;
	kvs__value_of(kv, e, ret);
	ret_pin->entry = e;
	return KVS_OK;
}

KVS_API int kvs_pin(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret,
		    struct kvs_pin *ret_pin)
{
	struct kvs__target target;
	struct kvs__slot *slot;
	int err;

	if (!kv || !ret || !ret_pin)
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__target_of(kv, key, &target);
	if (err)
		return err;
	slot = kvs__slot_get(&kv->home);
	if (!slot)
		return KVS_ERR_NO_MEMORY;
	kvs__rcu_read_lock();
	err = find_and_pin(kv, &target, ret, ret_pin);
	if (!err)
		add_owned(&slot->pins, 1);
	kvs__rcu_read_unlock();
	if (err != KVS_ERR_STORE_CLOSED)
		add_owned(err == KVS_ERR_NOT_FOUND ? &slot->misses : &slot->hits, 1);
	return err;
}

KVS_API void kvs_unpin(struct kvs *kv, struct kvs_pin *pin)
{
	struct kvs__slot *slot;

	if (!kv || !pin || !pin->entry)
		return;
	kvs__entry_unpin(&kv->pool, pin->entry);
	pin->entry = NULL;
	/* Counted last: from then on the store may be freed. */
	slot = kvs__slot_get(&kv->home);
	if (slot)
		add_owned(&slot->unpins, 1);
	else
		fetch_add_seq_cst(&kv->stray_unpins, 1);
}

uint64_t kvs__pins_out(const struct kvs *kv)
{
	uint64_t back = load_relaxed(&kv->stray_unpins);
	const struct kvs__slot *s;
	uint64_t out = 0;

	for (s = load_acquire(&kv->home.slots); s; s = s->next) {
		out += load_relaxed(&s->pins);
		back += load_relaxed(&s->unpins);
	}
	return out > back ? out - back : 0;
}
