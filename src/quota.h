/* SPDX-License-Identifier: MIT */
/*
 * quota.h - max_memory: what live entries and directories may take.
 *
 * Live bytes are summed in one word, but by quanta: each thread keeps back what it added and removed
 * until that is a quantum, so that a write touches no shared line for it. Without a limit nothing is summed here. The
 * directories' bytes are counted where their memory comes from (pages.h).
 */
#ifndef KVS_QUOTA_H
#define KVS_QUOTA_H

#include "store.h"

#define KVS__LIMIT_QUANTUM_MAX ((int64_t)64 << 10)

KVS_INLINE int64_t kvs__limit_quantum(const struct kvs *kv)
{
	uint64_t share = kv->max_memory / 256;

	return share < (uint64_t)KVS__LIMIT_QUANTUM_MAX ? (int64_t)share : KVS__LIMIT_QUANTUM_MAX;
}

/* kvs__live_add - @delta more live bytes (fewer, if negative), by the thread that has @slot. */
KVS_INLINE void kvs__live_add(struct kvs *kv, struct kvs__slot *slot, int64_t delta)
{
	int64_t sum;

	if (likely(!kv->max_memory))
		return;
	sum = slot->unposted_bytes + delta;
	slot->unposted_bytes = sum;
	if (sum > kvs__limit_quantum(kv) || -sum > kvs__limit_quantum(kv)) {
		fetch_add_relaxed(&kv->live_bytes, (uint64_t)sum);
		slot->unposted_bytes = 0;
	}
}

/* kvs__live_cleared - @bytes of live entries were freed without being retired: by clear and close. */
KVS_INLINE void kvs__live_cleared(struct kvs *kv, uint64_t bytes)
{
	fetch_add_relaxed(&kv->cleared_bytes, bytes);
	fetch_sub_relaxed(&kv->live_bytes, bytes);
}

/*
 * kvs__note_added - An entry was published.
 * kvs__note_retired - A live one was removed and put into a batch, or is on its way to one: it is deferred.
 * kvs__note_handed_over - A live one was removed and left to a snapshot, which counts it from now on (snapshot.c): what
 * takes its place is not refused for it.
 */
KVS_INLINE void kvs__note_added(struct kvs *kv, struct kvs__slot *slot, uint64_t bytes)
{
	add_owned(&slot->added_bytes, bytes);
	kvs__live_add(kv, slot, (int64_t)bytes);
}

KVS_INLINE void kvs__note_retired(struct kvs *kv, struct kvs__slot *slot, uint64_t bytes)
{
	add_owned(&slot->retired_bytes, bytes);
	kvs__live_add(kv, slot, -(int64_t)bytes);
}

KVS_INLINE void kvs__note_handed_over(struct kvs *kv, struct kvs__slot *slot, uint64_t bytes)
{
	add_owned(&slot->handed_bytes, bytes);
	kvs__live_add(kv, slot, -(int64_t)bytes);
}

/* kvs__live_may_grow - May @more bytes be added? */
KVS_INLINE bool kvs__live_may_grow(const struct kvs *kv, const struct kvs__slot *slot,
				   uint64_t more)
{
	int64_t now;

	if (likely(!kv->max_memory))
		return true;
	now = (int64_t)load_relaxed(&kv->live_bytes) + slot->unposted_bytes +
	      (int64_t)load_relaxed(&kv->pages.bytes);
	return now + (int64_t)more <= (int64_t)kv->max_memory;
}

#endif
