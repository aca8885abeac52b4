/* SPDX-License-Identifier: MIT */
/*
 * iter.c - walks: scan, foreach, keys.
 *
 * A position is (shard, order key): both belong to a key for its whole life, whatever the size of
 * the table, and the list is sorted by the second. So a walk can stop behind a run of equal
 * order keys and go on in another section from that position alone. A key that stays is met
 * exactly once: it is never before a position that is before it, a replaced entry leads to its
 * replacement in the same step (INV-L4), and heads that growth adds or shrink removes carry no keys. Likewise it can stop
 * at a head, whose order key is between those of the runs before and behind it.
 *
 *   cursor   63      48 47                    0
 *           +----------+-----------------------+
 *           | shard    | last order key done   |      0: start, and complete
 *           +----------+-----------------------+
 */
#include "iter.h"

#include "store.h"

struct kvs__walk kvs__walk_start(const struct kvs__table *t, uint64_t after,
				 const struct kvs__clock *clock)
{
	struct kvs__start s = kvs__start_of(t, after << 16);
	struct kvs__walk w = { t, after, kvs__head_word_link(s.word), clock, UINT64_MAX };

	return w;
}

/* A head of a segment that shrink has detached has no order key any more (0), and the walk passes it. */
KVS_COLD bool kvs__walk_can_stop(const struct kvs__table *t, uint64_t link, uint64_t *after)
{
	uint64_t order_key = kvs__order_key(kvs__head_order(t, kvs__link_head(link)));

	if (order_key <= *after)
		return false;
	*after = order_key;
	return true;
}

/*
 * Has @e, which was met unmarked, expired? Then its link is loaded again, for the verdict and to go on by: if it was
 * replaced meanwhile, its replacement comes next, and a key that was renewed in time is not missed.
 */
static bool pass_expired(struct kvs__walk *w, const struct kvs__entry *e)
{
	if (!w->clock || !kvs__entry_has_expired(w->clock, e))
		return false;
	w->link = load_seq_cst(&e->next);
	return true;
}

struct kvs__entry *kvs__walk_next(struct kvs__walk *w)
{
	while (!kvs__link_is_end(w->link)) {
		struct kvs__entry *e;

		KVS_COUNT_STEP();
		w->nodes -= w->nodes > 0;
		if (kvs__link_to_head(w->link)) {
			if (unlikely(w->nodes == 0) &&
			    kvs__walk_can_stop(w->table, w->link, &w->after))
				return NULL;
			w->link = kvs__head_word_link(load_seq_cst(kvs__link_head(w->link)));
			continue;
		}
		e = kvs__link_entry(w->link);
		w->link = load_seq_cst(&e->next);
		if (!kvs__word_is_marked(w->link) && kvs__order_key(e->order) > w->after) {
			if (unlikely(load_seq_cst(&e->stamp) == 0))
				kvs__settle_met(w->table->cut, e, false);
			if (unlikely(kvs__entry_is_timed(e)) && pass_expired(w, e))
				continue;
			return e;
		}
	}
	return NULL;
}

/* ---- pages ---- */

#define CURSOR_SHARD_SHIFT 48
#define CURSOR_ORDER_MASK (((uint64_t)1 << CURSOR_SHARD_SHIFT) - 1)

static uint64_t cursor_make(uint64_t shard, uint64_t order_key)
{
	return shard << CURSOR_SHARD_SHIFT | order_key;
}

struct page {
	const struct kvs *kv;
	struct kvs_item *items;
	size_t cap;
	size_t count;      /* collected, the last run perhaps not whole */
	size_t whole;      /* of these, in whole runs */
	uint64_t last;     /* order key of the last item */
	uint64_t position; /* order key of the last whole run */
};

static void item_of(const struct kvs *kv, const struct kvs__entry *e, struct kvs_item *ret)
{
	ret->key = kvs_bytes(e->bytes, kvs__entry_key_len(e));
	kvs__value_of(kv, e, &ret->value);
}

/* Length of the run of @order_key from its first item on: what a buffer would have to hold. */
static size_t run_length(const struct kvs *kv, const struct kvs__table *t, uint64_t order_key)
{
	struct kvs__walk w = kvs__walk_start(t, order_key - 1, &kv->clock);
	struct kvs__entry *e;
	size_t n = 0;

	while ((e = kvs__walk_next(&w)) != NULL && kvs__order_key(e->order) == order_key)
		n++;
	return n;
}

/* Fill from one table. true: its end was reached. */
static bool page_fill(struct page *p, const struct kvs__table *t, uint64_t after)
{
	struct kvs__walk w = kvs__walk_start(t, after, &p->kv->clock);
	struct kvs__entry *e;

	while ((e = kvs__walk_next(&w)) != NULL) {
		uint64_t order_key = kvs__order_key(e->order);

		if (order_key != p->last || p->count == p->whole) {
			p->whole = p->count;
			p->position = p->last;
		}
		if (p->count == p->cap)
			return false;
		p->last = order_key;
		item_of(p->kv, e, &p->items[p->count++]);
	}
	p->whole = p->count;
	return true;
}

static int scan_root(const struct kvs *kv, const struct kvs__root *root, uint64_t *cursor,
		     struct kvs_item *items, size_t cap, size_t *ret_count)
{
	uint64_t shard = *cursor >> CURSOR_SHARD_SHIFT;
	uint64_t after = *cursor & CURSOR_ORDER_MASK;
	struct page p = { .kv = kv, .items = items, .cap = cap };

	for (; shard < root->shards; shard++) {
		p.last = after;
		p.position = after;
		if (!page_fill(&p, &root->table[shard], after)) {
			if (p.whole == 0 && p.count) {
				*ret_count = run_length(kv, &root->table[shard], p.last);
				return KVS_ERR_BUFFER_TOO_SMALL;
			}
			*cursor = cursor_make(shard, p.position);
			*ret_count = p.whole;
			return KVS_OK;
		}
		after = 0;
	}
	*cursor = 0;
	*ret_count = p.count;
	return KVS_OK;
}

KVS_API int kvs_scan(struct kvs *kv, uint64_t *cursor, struct kvs_item *items, size_t cap,
		     size_t *ret_count)
{
	const struct kvs__root *root;

	if (!kv || !cursor || !items || !ret_count || cap == 0)
		return KVS_ERR_INVALID_ARGUMENT;
	root = load_seq_cst(&kv->root);
	if (!root)
		return KVS_ERR_STORE_CLOSED;
	if (!kvs__rcu_read_ongoing())
		return KVS_ERR_NO_READ_SECTION;
	root = load_seq_cst(&kv->root);
	if (!root)
		return KVS_ERR_STORE_CLOSED;
	if (*cursor >> CURSOR_SHARD_SHIFT >= root->shards)
		return KVS_ERR_INVALID_ARGUMENT;
	return scan_root(kv, root, cursor, items, cap, ret_count);
}

/* ---- foreach ---- */

#define SECTION_ITEMS 64u /* callbacks in one read section, but for the end of a run */

/* One section's worth. @after moves on. Returns what @fn returned; *ret_end: the table's end was reached. */
static int visit_some(const struct kvs *kv, const struct kvs__table *t, uint64_t *after,
		      kvs_foreach_fn fn, void *arg, bool *ret_end)
{
	struct kvs__walk w = kvs__walk_start(t, *after, &kv->clock);
	struct kvs__entry *e;
	size_t n = 0;

	w.nodes = KVS__SECTION_NODES;
	while ((e = kvs__walk_next(&w)) != NULL) {
		struct kvs_item item;
		int err;

		if (n >= SECTION_ITEMS && kvs__order_key(e->order) != *after)
			return 0;
		*after = kvs__order_key(e->order);
		item_of(kv, e, &item);
		err = fn(&item, arg);
		if (err)
			return err;
		n++;
	}
	*ret_end = kvs__walk_has_ended(&w);
	*after = w.after;
	return 0;
}

static int visit_section(struct kvs *kv, uint64_t *shard, uint64_t *after, kvs_foreach_fn fn,
			 void *arg)
{
	const struct kvs__root *root;
	bool end = false;
	int err = KVS_ERR_STORE_CLOSED;

	kvs__rcu_read_lock();
	root = load_seq_cst(&kv->root);
	if (root)
		err = visit_some(kv, &root->table[*shard], after, fn, arg, &end);
	kvs__rcu_read_unlock();
	if (end) {
		*after = 0;
		(*shard)++;
	}
	return err;
}

KVS_API int kvs_foreach(struct kvs *kv, kvs_foreach_fn fn, void *arg)
{
	uint64_t shard = 0;
	uint64_t after = 0;
	int err = KVS_OK;

	if (!kv || !fn)
		return KVS_ERR_INVALID_ARGUMENT;
	while (!err && shard < kv->shards)
		err = visit_section(kv, &shard, &after, fn, arg);
	return err;
}

/* ---- keys ---- */

/* A growing list of keys: each its length (4 bytes), then its bytes. */
struct key_buffer {
	const struct kvs__mem *mem;
	unsigned char *bytes;
	size_t used;
	size_t room;
	size_t count;
};

static bool key_buffer_grow(struct key_buffer *b, size_t need)
{
	size_t room = b->room ? 2 * b->room : 4096;
	unsigned char *bytes;

	while (room < b->used + need)
		room *= 2;
	bytes = kvs__mem_alloc(b->mem, room);
	if (!bytes)
		return false;
	if (b->used)
		memcpy(bytes, b->bytes, b->used);
	kvs__mem_free(b->mem, b->bytes, b->room);
	b->bytes = bytes;
	b->room = room;
	return true;
}

static int key_buffer_add(const struct kvs_item *item, void *arg)
{
	struct key_buffer *b = arg;
	uint32_t len = (uint32_t)item->key.len;

	if (b->room - b->used < sizeof(len) + len && !key_buffer_grow(b, sizeof(len) + len))
		return KVS_ERR_NO_MEMORY;
	memcpy(b->bytes + b->used, &len, sizeof(len));
	if (len)
		memcpy(b->bytes + b->used + sizeof(len), item->key.data, len);
	b->used += sizeof(len) + len;
	b->count++;
	return 0;
}

/* The block behind a list of keys: its size, the slices, and the buffer's bytes, which the slices point to. */
struct key_list {
	size_t size;
	size_t pad;
	struct kvs_slice keys[];
};

static struct kvs_slice *key_list_make(const struct key_buffer *b)
{
	size_t size = sizeof(struct key_list) + b->count * sizeof(struct kvs_slice) + b->used;
	struct key_list *list = kvs__mem_alloc(b->mem, size);
	unsigned char *at;
	size_t i;

	if (!list)
		return NULL;
	list->size = size;
	at = (unsigned char *)&list->keys[b->count];
	memcpy(at, b->bytes, b->used);
	for (i = 0; i < b->count; i++) {
		uint32_t len;

		memcpy(&len, at, sizeof(len));
		list->keys[i] = kvs_bytes(at + sizeof(len), len);
		at += sizeof(len) + len;
	}
	return list->keys;
}

KVS_API int kvs_keys(struct kvs *kv, struct kvs_slice **ret_keys, size_t *ret_count)
{
	struct key_buffer b = { .mem = NULL };
	struct kvs_slice *keys = NULL;
	int err;

	if (!kv || !ret_keys || !ret_count)
		return KVS_ERR_INVALID_ARGUMENT;
	b.mem = &kv->pool.mem;
	err = kvs_foreach(kv, key_buffer_add, &b);
	if (!err && b.count) {
		keys = key_list_make(&b);
		if (!keys)
			err = KVS_ERR_NO_MEMORY;
	}
	kvs__mem_free(b.mem, b.bytes, b.room);
	if (err)
		return err;
	*ret_keys = keys;
	*ret_count = b.count;
	return KVS_OK;
}

KVS_API void kvs_keys_free(struct kvs *kv, struct kvs_slice *keys)
{
	struct key_list *list;

	if (!kv || !keys)
		return;
	list = kvs_container_of(keys, struct key_list, keys);
	kvs__mem_free(&kv->pool.mem, list, list->size);
}
