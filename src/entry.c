/* SPDX-License-Identifier: MIT */
/*
 * entry.c - making entries, holding on to them, giving them back.
 *
 * PINS  The lowest 8 bits of an entry's version word count the references to it beyond the first, which is that of the
 * table and then of whoever retires it. A pin adds one, inside a section in which the entry was found live. Whoever
 * gives a reference back, by kvs__entry_free a grace period after the entry was unlinked or by an unpin, subtracts one;
 * who finds the bits 0 had the last one and gives the memory back. The subtraction then borrows from the version,
 * which nobody reads any more. An entry that was never pinned costs the freer a load of the word.
 *
 * INV-P1  A pin is added only while the first reference is there: the section in which it is added began before the
 *         grace period that kvs__entry_free comes after.
 */
#include "entry.h"

#include "link.h"

KVS_INLINE void copy(unsigned char *to, struct kvs_slice from)
{
	if (from.len && from.data)
		kvs__copy(to, from.data, from.len);
}

KVS_INLINE void *take(const struct kvs__pool *pool, struct kvs__heap *heap, size_t size)
{
	if (pool->arena)
		return kvs__arena_alloc(pool->arena, heap, size);
	return kvs__mem_alloc(&pool->mem, size);
}

static void give(const struct kvs__pool *pool, void *p, size_t size)
{
	if (pool->arena)
		kvs__arena_free(pool->arena, p, size);
	else
		kvs__mem_free(&pool->mem, p, size);
}

void kvs__block_hold(struct kvs__block *b)
{
	fetch_add_seq_cst(&b->refs, 1);
}

void kvs__block_release(const struct kvs__pool *pool, struct kvs__block *b)
{
	size_t tail = b->len;

	if (fetch_sub_seq_cst(&b->refs, 1) != 1)
		return;
	if (kvs__pool_is_typed(pool)) {
		pool->type.destroy(b->data, b->len, pool->type.ctx);
		tail = 0;
	}
	kvs__mem_free(&pool->mem, b, sizeof(*b) + tail);
}

static struct kvs__block *block_make(const struct kvs__pool *pool, struct kvs_slice val)
{
	struct kvs__block *b = kvs__mem_alloc(&pool->mem, sizeof(*b) + val.len);

	if (!b)
		return NULL;
	store_relaxed(&b->refs, 1);
	b->len = val.len;
	b->data = b->bytes;
	copy(b->bytes, val);
	return b;
}

/* OWNS: the object, on failure too. */
static struct kvs__block *block_adopt(const struct kvs__pool *pool, void *object, size_t len)
{
	struct kvs__block *b = object ? kvs__mem_alloc(&pool->mem, sizeof(*b)) : NULL;

	if (!b) {
		if (object)
			pool->type.destroy(object, len, pool->type.ctx);
		return NULL;
	}
	KVS_ASSERT(len <= KVS_VALUE_MAX);
	store_relaxed(&b->refs, 1);
	b->len = len;
	b->data = object;
	return b;
}

static struct kvs__entry *timed_init(struct kvs__timed *t, int64_t deadline)
{
	t->retire.next = NULL;
	t->timer.ring.next = NULL;
	t->timer.ring.prev = NULL;
	store_relaxed(&t->timer.deadline, (uint64_t)deadline);
	return kvs__timed_entry(t);
}

KVS_INLINE struct kvs__entry *header_make(const struct kvs__pool *pool, struct kvs__heap *heap,
					  uint64_t order, struct kvs_slice key, uint32_t extent,
					  size_t tail, int64_t deadline)
{
	size_t timed = deadline != KVS__NO_DEADLINE ? KVS__TIMED : 0;
	struct kvs__entry *e = take(pool, heap, timed + KVS__HEADER + key.len + tail);

	if (!e)
		return NULL;
	if (unlikely(timed != 0)) {
		e = timed_init((struct kvs__timed *)e, deadline);
		extent |= KVS__EXTENT_DEADLINE;
	}
	/* A block comes as it was freed, and a footprint looks at the mark. */
	store_relaxed(&e->next, KVS__ENTRY_LIVE);
	e->order = (order & ~KVS__KEY_LEN_MASK) | key.len;
	store_relaxed(&e->version, 0);
	store_relaxed(&e->stamp, 0);
	e->extent = extent;
	copy(e->bytes, key);
	return e;
}

/* OWNS: the block, on failure too. */
static KVS_NOINLINE struct kvs__entry *make_with_block(const struct kvs__pool *pool,
						       struct kvs__heap *heap, uint64_t order,
						       struct kvs_slice key, struct kvs__block *b,
						       int64_t deadline)
{
	struct kvs__entry *e;

	if (!b)
		return NULL;
	e = header_make(pool, heap, order, key, (uint32_t)b->len | KVS__EXTENT_BLOCK, sizeof(b),
			deadline);
	if (!e) {
		kvs__block_release(pool, b);
		return NULL;
	}
	memcpy(e->bytes + key.len, &b, sizeof(b));
	return e;
}

struct kvs__entry *kvs__entry_make(const struct kvs__pool *pool, struct kvs__heap *heap,
				   uint64_t order, struct kvs_slice key, struct kvs_slice val)
{
	return kvs__entry_make_timed(pool, heap, order, key, val, KVS__NO_DEADLINE);
}

struct kvs__entry *kvs__entry_make_timed(const struct kvs__pool *pool, struct kvs__heap *heap,
					 uint64_t order, struct kvs_slice key, struct kvs_slice val,
					 int64_t deadline)
{
	struct kvs__entry *e;

	if (unlikely(kvs__pool_is_typed(pool))) {
		void *object = pool->type.clone(val.data, val.len, pool->type.ctx);

		return kvs__entry_adopt(pool, heap, order, key, object, val.len, deadline);
	}
	if (unlikely(val.len > KVS__INLINE_MAX))
		return make_with_block(pool, heap, order, key, block_make(pool, val), deadline);
	e = header_make(pool, heap, order, key, (uint32_t)val.len, val.len, deadline);
	if (e)
		copy(e->bytes + key.len, val);
	return e;
}

struct kvs__entry *kvs__entry_renew(const struct kvs__pool *pool, struct kvs__heap *heap,
				    const struct kvs__entry *e, int64_t deadline)
{
	struct kvs_slice key = kvs_bytes(e->bytes, kvs__entry_key_len(e));
	struct kvs_slice val = kvs_bytes(kvs__entry_value(e), kvs__entry_value_len(e));

	if (e->extent & KVS__EXTENT_BLOCK) {
		kvs__block_hold(kvs__entry_block(e));
		return make_with_block(pool, heap, e->order, key, kvs__entry_block(e), deadline);
	}
	return kvs__entry_make_timed(pool, heap, e->order, key, val, deadline);
}

struct kvs__entry *kvs__entry_adopt(const struct kvs__pool *pool, struct kvs__heap *heap,
				    uint64_t order, struct kvs_slice key, void *object, size_t len,
				    int64_t deadline)
{
	return make_with_block(pool, heap, order, key, block_adopt(pool, object, len), deadline);
}

size_t kvs__entry_block_share(const struct kvs__entry *e)
{
	if (kvs__word_state(load_relaxed(&e->next)) == KVS__ENTRY_RENEWED)
		return 0;
	return kvs__entry_block_bytes(e);
}

/* ---- references ---- */

bool kvs__entry_pin(struct kvs__entry *e)
{
	uint64_t word = load_seq_cst(&e->version);

	do {
		if ((word & KVS__PINS_MAX) == KVS__PINS_MAX)
			return false;
	} while (!cas_seq_cst(&e->version, &word, word + 1));
	return true;
}

/* One reference less. true: it was the last. */
static bool drop(struct kvs__entry *e)
{
	return (fetch_sub_seq_cst(&e->version, 1) & KVS__PINS_MAX) == 0;
}

/* The table's reference of an entry with pins is given back. Counted before, since another may free it at once. */
static KVS_COLD bool drop_pinned(const struct kvs__pool *pool, struct kvs__entry *e)
{
	uint64_t bytes = kvs__entry_footprint(pool, e);

	fetch_add_relaxed(pool->pinned_bytes, bytes);
	if (!drop(e))
		return false;
	fetch_sub_relaxed(pool->pinned_bytes, bytes);
	return true;
}

/* INV-P1: what has no pin now gets none any more. */
static bool drop_first(const struct kvs__pool *pool, struct kvs__entry *e)
{
	return likely((load_seq_cst(&e->version) & KVS__PINS_MAX) == 0) || drop_pinned(pool, e);
}

static void give_entry(const struct kvs__pool *pool, struct kvs__entry *e)
{
	if (e->extent & KVS__EXTENT_BLOCK)
		kvs__block_release(pool, kvs__entry_block(e));
	give(pool, kvs__entry_base(e), kvs__entry_size(e));
}

void kvs__entry_unpin(const struct kvs__pool *pool, struct kvs__entry *e)
{
	if (!drop(e))
		return;
	fetch_sub_relaxed(pool->pinned_bytes, kvs__entry_footprint(pool, e));
	give_entry(pool, e);
}

void kvs__entry_free(const struct kvs__pool *pool, struct kvs__entry *e)
{
	if (drop_first(pool, e))
		give_entry(pool, e);
}

#define FREE_CHUNK 128

static void free_chunk(const struct kvs__pool *pool, struct kvs__entry **e, size_t n)
{
	uint32_t sizes[FREE_CHUNK];
	void *blocks[FREE_CHUNK];
	size_t free = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		if (i + 8 < n)
			__builtin_prefetch(e[i + 8]);
		if (!drop_first(pool, e[i]))
			continue;
		if (e[i]->extent & KVS__EXTENT_BLOCK)
			kvs__block_release(pool, kvs__entry_block(e[i]));
		sizes[free] = (uint32_t)kvs__entry_size(e[i]);
		blocks[free++] = kvs__entry_base(e[i]);
	}
	kvs__arena_free_many(pool->arena, blocks, sizes, free);
}

void kvs__entry_free_many(const struct kvs__pool *pool, struct kvs__entry **e, size_t n)
{
	size_t i;

	if (!pool->arena) {
		for (i = 0; i < n; i++)
			kvs__entry_free(pool, e[i]);
		return;
	}
	for (i = 0; i < n; i += FREE_CHUNK)
		free_chunk(pool, e + i, n - i < FREE_CHUNK ? n - i : FREE_CHUNK);
}

/* ---- what the user is told ---- */

static enum kvs_removal cause_of(const struct kvs__entry *e, enum kvs_removal live)
{
	if (kvs__entry_is_timed(e) &&
	    load_relaxed(&kvs__entry_timed(e)->timer.deadline) & KVS__TIMER_FLAG)
		return KVS_REMOVED_EXPIRED;
	switch (kvs__word_state(load_relaxed(&e->next))) {
	case KVS__ENTRY_LIVE:
		return live;
	case KVS__ENTRY_REPLACED:
	case KVS__ENTRY_RENEWED:
		return KVS_REMOVED_REPLACED;
	default:
		return KVS_REMOVED_DELETED;
	}
}

static void tell(const struct kvs__pool *pool, const struct kvs__entry *e, enum kvs_removal live)
{
	struct kvs_item item;

	item.key = kvs_bytes(e->bytes, kvs__entry_key_len(e));
	item.value.data = kvs__entry_value(e);
	item.value.len = kvs__entry_value_len(e);
	item.value.version = kvs__entry_version(e);
	item.value.expires_at_ms = kvs__clock_wall_of(pool->clock, kvs__entry_deadline(e));
	pool->removed_fn(&item, cause_of(e, live), pool->removed_ctx);
}

void kvs__entry_bury_many(const struct kvs__pool *pool, struct kvs__entry **e, size_t n,
			  enum kvs_removal live)
{
	size_t i;

	if (unlikely(pool->removed_fn != NULL && live))
		for (i = 0; i < n; i++)
			tell(pool, e[i], live);
	kvs__entry_free_many(pool, e, n);
}
