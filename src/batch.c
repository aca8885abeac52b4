/* SPDX-License-Identifier: MIT */
/*
 * batch.c - get, set and delete of many keys.
 *
 * A batch is cut into groups of KVS__PROBES items; a group has one read section. Within it all keys are looked
 * up side by side (probe.c). For gets that is the answer. Writes then go one after the other as ever (write.c), and
 * find in the caches what they need; their entries were made before the section. A batch of one get is
 * a single get: read.c has the public calls, and gives us the others.
 *
 * With the default hash and routing the keys of a group of gets are hashed together before the section, four at once
 * if the processor can. Whatever that is not made for is hashed and checked key by key.
 *
 * Errors of one item end up in its status. Nothing is kept from one group to the next but the counts
 * and how much of the caller's buffer is used, so memory does not depend on the number of items.
 */
#include "batch.h"
#include "hash_wide.h"
#include "probe.h"
#include "write.h"

/* ---- counts ---- */

static void count(struct kvs_batch_counts *c, int status)
{
	c->ok += status == KVS_OK;
	c->not_found += status == KVS_ERR_NOT_FOUND;
	c->failed += status != KVS_OK && status != KVS_ERR_NOT_FOUND;
}

/* What a batch answers: the first status that is more than an ordinary answer. */
static void note(int *err, int status)
{
	if (unlikely(status && status != KVS_ERR_NOT_FOUND && !*err))
		*err = status;
}

/* Of a closed store the items tell, if there are any: it may have been closed when all of them were done. */
static int answer(const struct kvs *kv, size_t n, int err, const struct kvs_batch_counts *counts,
		  struct kvs_batch_counts *ret_counts)
{
	if (ret_counts)
		*ret_counts = *counts;
	return n || load_seq_cst(&kv->root) ? err : KVS_ERR_STORE_CLOSED;
}

static unsigned group_size(size_t left)
{
	return left < KVS__PROBES ? (unsigned)left : KVS__PROBES;
}

/* ---- gets ---- */

/* A constant in each public call, so that each is compiled for its own: a get that copies never allocates. */
enum form { FORM_COPY, FORM_ALLOC, FORM_BORROW };

struct reading {
	struct kvs *kv;
	unsigned char *buf; /* COPY: what is left of the caller's buffer */
	size_t cap;
	int err;
	struct kvs_batch_counts counts;
};

/* A copy of what is not just bytes behind the key, or does not fit. @ret_bytes: what it would take. */
static KVS_NOINLINE int copy_met(const struct kvs *kv, const struct kvs__probe *p,
				 const struct kvs__entry *e, struct kvs_get_item *item,
				 unsigned char *buf, size_t cap, uint64_t *ret_bytes)
{
	*ret_bytes = 0;
	if (kvs__entry_is_timed(e))
		e = kvs__lookup_timed(&kv->clock, p->table, p->order, item->key.data, e);
	if (!e)
		return KVS_ERR_NOT_FOUND;
	if ((e->extent & KVS__EXTENT_BLOCK) && kvs__pool_is_typed(&kv->pool))
		return KVS_ERR_TYPED;
	kvs__value_of(kv, e, &item->value);
	*ret_bytes = item->value.len;
	if (item->value.len > cap) {
		item->value.data = NULL;
		return KVS_ERR_BUFFER_TOO_SMALL;
	}
	kvs__copy(buf, item->value.data, item->value.len);
	item->value.data = buf;
	return KVS_OK;
}

/* One answer. @ret_bytes is set if it is KVS_OK or its value was found. */
KVS_INLINE int deliver(const struct kvs *kv, enum form form, const struct kvs__probe *p,
		       struct kvs_get_item *item, unsigned char *buf, size_t cap,
		       uint64_t *ret_bytes)
{
	const struct kvs__entry *e = kvs__probe_answer(p, &item->key);

	*ret_bytes = 0;
	if (unlikely(!e))
		return item->status ? item->status : KVS_ERR_NOT_FOUND;
	if (form == FORM_COPY) {
		size_t len = e->extent; /* greater than any length, if there is more to it */

		if (unlikely(len > cap || len > KVS__EXTENT_LEN))
			return copy_met(kv, p, e, item, buf, cap, ret_bytes);
		kvs__copy(buf, e->bytes + item->key.len, len);
		item->value = (struct kvs_value){ buf, len, kvs__entry_version(e), 0 };
		*ret_bytes = len;
		return KVS_OK;
	}
	if (unlikely(kvs__entry_is_timed(e)))
		e = kvs__lookup_timed(&kv->clock, p->table, p->order, item->key.data, e);
	if (unlikely(!e))
		return KVS_ERR_NOT_FOUND;
	*ret_bytes = kvs__entry_value_len(e);
	if (form == FORM_ALLOC)
		return kvs__value_copy(kv, e, &item->value) ? KVS_OK : KVS_ERR_NO_MEMORY;
	kvs__value_of(kv, e, &item->value);
	return KVS_OK;
}

KVS_INLINE bool is_hashable(const struct kvs_slice *key)
{
	return key->data && key->len <= KVS_KEY_MAX;
}

/* The hashes of all keys, by the default function. false: there is one that cannot be a key. */
static KVS_NOINLINE bool hash_keys(const struct kvs *kv, const struct kvs_get_item *items,
				   unsigned n, uint64_t *ret)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		const struct kvs_slice *key = &items[i].key;

		if (unlikely(!is_hashable(key)))
			return false;
		ret[i] = kvs__siphash13_inline(key->data, key->len, kv->hasher.sip);
	}
	return true;
}

/* The same for another processor: four keys at once where their lengths allow it. */
static KVS_NOINLINE KVS_WIDE bool hash_keys_wide(const struct kvs *kv,
						 const struct kvs_get_item *items, unsigned n,
						 uint64_t *ret)
{
	unsigned i;

	for (i = 0; i < n; i++)
		if (unlikely(!is_hashable(&items[i].key)))
			return false;
	i = 0;
	while (i < n) {
		const struct kvs_get_item *at = &items[i];

		if (n - i >= 4 &&
		    kvs__siphash13_wide4_may(&at[0].key, &at[1].key, &at[2].key, &at[3].key)) {
			kvs__siphash13_wide4(&at[0].key, &at[1].key, &at[2].key, &at[3].key,
					     kv->hasher.sip, ret + i);
			i += 4;
		} else {
			ret[i] = kvs__siphash13_wide(at->key.data, at->key.len, kv->hasher.sip);
			i++;
		}
	}
	return true;
}

static KVS_NOINLINE bool hash_keys_xxh3(const struct kvs *kv, const struct kvs_get_item *items,
					unsigned n, uint64_t *ret)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		const struct kvs_slice *key = &items[i].key;

		if (unlikely(!is_hashable(key)))
			return false;
		ret[i] = kvs__mix64(kvs__xxh3(key->data, key->len, kv->hasher.seed));
	}
	return true;
}

KVS_INLINE bool hash_group(const struct kvs *kv, const struct kvs_get_item *items, unsigned n,
			   uint64_t *ret)
{
	if (kv->straight == KVS__GENERATION_NONE)
		return false;
	if (kv->wide)
		return hash_keys_wide(kv, items, n, ret);
	return kv->xxh3 ? hash_keys_xxh3(kv, items, n, ret) : hash_keys(kv, items, n, ret);
}

/* Route what was hashed, fetch heads. */
KVS_INLINE void begin_hashed(const struct kvs *kv, const struct kvs__root *root,
			     struct kvs_get_item *items, unsigned n, const uint64_t *hash,
			     struct kvs__probe *probes)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		items[i].status = KVS_OK;
		kvs__probe_begin(&probes[i], &root->table[kvs__shard_of(kv, hash[i])],
				 kvs__order_make(hash[i], items[i].key.len));
	}
}

/* Check, hash, route, fetch heads. An item that is refused says so in its status, and its lookup is none. */
static KVS_NOINLINE void begin_any(struct kvs *kv, const struct kvs__root *root,
				   struct kvs_get_item *items, unsigned n,
				   struct kvs__probe *probes)
{
	struct kvs__target target;
	unsigned i;

	for (i = 0; i < n; i++) {
		items[i].status =
			root ? kvs__target_of(kv, items[i].key, &target) : KVS_ERR_STORE_CLOSED;
		if (unlikely(items[i].status))
			kvs__probe_skip(&probes[i]);
		else
			kvs__probe_begin(&probes[i], &root->table[target.shard],
					 target.wanted.order);
	}
}

static void count_reads(struct kvs *kv, uint64_t hits, uint64_t misses)
{
	struct kvs__slot *slot = kvs__slot_get(&kv->home);

	if (unlikely(!slot))
		return;
	add_owned(&slot->hits, hits);
	add_owned(&slot->misses, misses);
}

/* Look up what has been begun, and answer all items. */
KVS_INLINE void finish(struct reading *r, enum form form, struct kvs_get_item *items, unsigned n,
		       struct kvs__probe *probes)
{
	unsigned char *buf = r->buf;
	size_t cap = r->cap;
	unsigned refused = 0;
	unsigned misses = 0;
	unsigned other = 0;
	unsigned i;

	kvs__probe_run(probes, n);
	for (i = 0; i < n; i++) {
		struct kvs_get_item *item = &items[i];
		uint64_t bytes;
		int err = deliver(r->kv, form, &probes[i], item, buf, cap, &bytes);

		r->counts.bytes += bytes;
		if (likely(!err)) { /* as its status says since it was begun */
			buf += form == FORM_COPY ? bytes : 0;
			cap -= form == FORM_COPY ? bytes : 0;
			continue;
		}
		refused += item->status != KVS_OK;
		item->status = err;
		misses += err == KVS_ERR_NOT_FOUND;
		other += err != KVS_ERR_NOT_FOUND;
		note(&r->err, err);
	}
	r->buf = buf;
	r->cap = cap;
	r->counts.ok += n - misses - other;
	r->counts.not_found += misses;
	r->counts.failed += other;
	count_reads(r->kv, n - refused - misses, misses);
}

KVS_INLINE void get_group(struct reading *r, enum form form, struct kvs_get_item *items, unsigned n)
{
	struct kvs__probe probes[KVS__PROBES];
	uint64_t hash[KVS__PROBES];
	const struct kvs__root *root;
	bool hashed;

	hashed = hash_group(r->kv, items, n, hash);
	kvs__rcu_read_lock();
	root = load_seq_cst(&r->kv->root);
	if (likely(root && hashed))
		begin_hashed(r->kv, root, items, n, hash, probes);
	else
		begin_any(r->kv, root, items, n, probes);
	finish(r, form, items, n, probes);
	kvs__rcu_read_unlock();
}

KVS_INLINE int get_all(struct reading *r, enum form form, struct kvs_get_item *items, size_t n,
		       struct kvs_batch_counts *ret_counts)
{
	size_t i;

	for (i = 0; i < n; i += KVS__PROBES)
		get_group(r, form, items + i, group_size(n - i));
	return answer(r->kv, n, r->err, &r->counts, ret_counts);
}

int kvs__batch_get(struct kvs *kv, struct kvs_get_item *items, size_t n, void *buf, size_t cap,
		   struct kvs_batch_counts *ret_counts)
{
	struct reading r = { .kv = kv, .buf = buf, .cap = cap };

	if (unlikely(!kv || (!items && n) || (!buf && cap)))
		return KVS_ERR_INVALID_ARGUMENT;
	return get_all(&r, FORM_COPY, items, n, ret_counts);
}

int kvs__batch_get_alloc(struct kvs *kv, struct kvs_get_item *items, size_t n,
			 struct kvs_batch_counts *ret_counts)
{
	struct reading r = { .kv = kv };

	if (unlikely(!kv || (!items && n)))
		return KVS_ERR_INVALID_ARGUMENT;
	return get_all(&r, FORM_ALLOC, items, n, ret_counts);
}

static int refuse_all(struct kvs_get_item *items, size_t n, int err,
		      struct kvs_batch_counts *ret_counts)
{
	size_t i;

	for (i = 0; i < n; i++)
		items[i].status = err;
	if (ret_counts)
		*ret_counts = (struct kvs_batch_counts){ .failed = n };
	return err;
}

int kvs__batch_borrow(struct kvs *kv, struct kvs_get_item *items, size_t n,
		      struct kvs_batch_counts *ret_counts)
{
	struct reading r = { .kv = kv };

	if (unlikely(!kv || (!items && n)))
		return KVS_ERR_INVALID_ARGUMENT;
	if (unlikely(n && !kvs__rcu_read_ongoing() && load_seq_cst(&kv->root)))
		return refuse_all(items, n, KVS_ERR_NO_READ_SECTION, ret_counts);
	return get_all(&r, FORM_BORROW, items, n, ret_counts);
}

/* ---- writes ---- */

struct writing {
	struct kvs *kv;
	enum mode mode;
	int err;
	struct kvs_batch_counts counts;
	unsigned n; /* of the group, each with a status */
	struct write write[KVS__PROBES];
	int status[KVS__PROBES];
};

/* All but the arrays, which a group fills. */
static void writing_begin(struct writing *g, struct kvs *kv, enum mode mode)
{
	g->kv = kv;
	g->mode = mode;
	g->err = KVS_OK;
	g->counts = (struct kvs_batch_counts){ .ok = 0 };
}

/* @item NULL: a delete. */
static void prepare_next(struct writing *g, struct kvs_slice key, const struct kvs_set_item *item)
{
	struct write *w = &g->write[g->n];
	int err = KVS_OK;

	*w = (struct write){ .kv = g->kv, .mode = g->mode };
	if (item && (item->expiry.kind || item->expiry.ms))
		err = kvs__clock_deadline(&g->kv->clock, item->expiry, &w->deadline);
	g->status[g->n++] = err ? err : kvs__write_prepare(w, key, item ? &item->val : NULL);
}

/* Inside the section: bring to the caches what the writes will look at. */
static void warm_up(const struct writing *g)
{
	const struct kvs__root *root = load_seq_cst(&g->kv->root);
	struct kvs__probe probes[KVS__PROBES];
	unsigned begun = 0;
	unsigned i;

	for (i = 0; root && i < g->n; i++) {
		const struct kvs__target *t = &g->write[i].target;

		if (!g->status[i])
			kvs__probe_begin_write(&probes[begun++], &root->table[t->shard],
					       t->wanted.order);
	}
	kvs__probe_run(probes, begun);
}

static void write_group(struct writing *g)
{
	unsigned i;

	kvs__rcu_read_lock();
	if (g->n > 1)
		warm_up(g);
	for (i = 0; i < g->n; i++)
		if (likely(!g->status[i]))
			g->status[i] = kvs__write_run(&g->write[i]);
	kvs__rcu_read_unlock();
	for (i = 0; i < g->n; i++) {
		note(&g->err, g->status[i]);
		count(&g->counts, g->status[i]);
	}
}

static void set_group(struct writing *g, struct kvs_set_item *items, unsigned n)
{
	unsigned i;

	g->n = 0;
	for (i = 0; i < n; i++)
		prepare_next(g, items[i].key, &items[i]);
	write_group(g);
	for (i = 0; i < n; i++) {
		items[i].status = g->status[i];
		if (!g->status[i])
			items[i].version = g->write[i].version;
	}
}

KVS_API int kvs_batch_set(struct kvs *kv, struct kvs_set_item *items, size_t n,
			  struct kvs_batch_counts *ret_counts)
{
	struct writing g;
	size_t i;

	if (unlikely(!kv || (!items && n)))
		return KVS_ERR_INVALID_ARGUMENT;
	writing_begin(&g, kv, MODE_SET);
	for (i = 0; i < n; i += KVS__PROBES)
		set_group(&g, items + i, group_size(n - i));
	return answer(kv, n, g.err, &g.counts, ret_counts);
}

static void delete_group(struct writing *g, struct kvs_delete_item *items, unsigned n)
{
	unsigned i;

	g->n = 0;
	for (i = 0; i < n; i++)
		prepare_next(g, items[i].key, NULL);
	write_group(g);
	for (i = 0; i < n; i++) {
		items[i].status = g->status[i];
		if (!g->status[i])
			items[i].version = g->write[i].version;
	}
}

KVS_API int kvs_batch_delete(struct kvs *kv, struct kvs_delete_item *items, size_t n,
			     struct kvs_batch_counts *ret_counts)
{
	struct writing g;
	size_t i;

	if (unlikely(!kv || (!items && n)))
		return KVS_ERR_INVALID_ARGUMENT;
	writing_begin(&g, kv, MODE_DELETE);
	for (i = 0; i < n; i += KVS__PROBES)
		delete_group(&g, items + i, group_size(n - i));
	return answer(kv, n, g.err, &g.counts, ret_counts);
}
