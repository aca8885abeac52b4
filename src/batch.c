/* SPDX-License-Identifier: MIT */
/*
 * batch.c - get, set and delete of many keys.
 *
 * A batch is cut into groups of KVS__PROBES items; a group has one read section. Within it all keys are looked
 * up side by side (probe.c). For gets that is the answer. Writes then go one after the other as ever (write.c), and
 * find in the caches what they need; their entries were made before the section.
 *
 * Errors of one item end up in its status. Nothing is kept from one group to the next but the counts
 * and how much of the caller's buffer is used, so memory does not depend on the number of items.
 */
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

static int answer(const struct kvs *kv, int err, const struct kvs_batch_counts *counts,
		  struct kvs_batch_counts *ret_counts)
{
	if (ret_counts)
		*ret_counts = *counts;
	return err || load_seq_cst(&kv->root)
		       ? err
		       : KVS_ERR_STORE_CLOSED; /* of no item, if there was none */
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

KVS_INLINE int copy_out(struct reading *r, const struct kvs__entry *e, struct kvs_value *ret)
{
	if (unlikely(e->extent & KVS__EXTENT_BLOCK) && kvs__pool_is_typed(&r->kv->pool))
		return KVS_ERR_TYPED;
	kvs__value_of(r->kv, e, ret);
	if (unlikely(ret->len > r->cap)) {
		ret->data = NULL;
		return KVS_ERR_BUFFER_TOO_SMALL;
	}
	kvs__copy(r->buf, ret->data, ret->len);
	ret->data = r->buf;
	r->buf += ret->len;
	r->cap -= ret->len;
	return KVS_OK;
}

KVS_INLINE int deliver(struct reading *r, enum form form, const struct kvs__entry *e,
		       struct kvs_value *ret)
{
	if (!e)
		return KVS_ERR_NOT_FOUND;
	r->counts.bytes += kvs__entry_value_len(e);
	switch (form) {
	case FORM_COPY:
		return copy_out(r, e, ret);
	case FORM_ALLOC:
		return kvs__value_copy(r->kv, e, ret) ? KVS_OK : KVS_ERR_NO_MEMORY;
	default:
		kvs__value_of(r->kv, e, ret);
		return KVS_OK;
	}
}

/* Hash, route, fetch heads. Returns how many lookups were begun; at[] says of which item. */
KVS_INLINE unsigned begin_gets(struct reading *r, struct kvs_get_item *items, unsigned n,
			       struct kvs__probe *probes, uint8_t *at)
{
	const struct kvs__root *root = load_seq_cst(&r->kv->root);
	struct kvs__target target;
	unsigned begun = 0;
	unsigned i;

	for (i = 0; i < n; i++) {
		int err =
			root ? kvs__target_of(r->kv, items[i].key, &target) : KVS_ERR_STORE_CLOSED;

		items[i].status = err;
		if (unlikely(err)) {
			note(&r->err, err);
			r->counts.failed++;
			continue;
		}
		at[begun] = (uint8_t)i;
		kvs__probe_begin(&probes[begun++], &root->table[target.shard], &target.wanted);
	}
	return begun;
}

KVS_INLINE const struct kvs__entry *found_live(const struct kvs *kv, const struct kvs__probe *p)
{
	if (unlikely(p->found && kvs__entry_is_timed(p->found)))
		return kvs__lookup_timed(&kv->clock, p->table, p->order, p->key, p->found);
	return p->found;
}

static void count_reads(struct kvs *kv, uint64_t reads, uint64_t misses)
{
	struct kvs__slot *slot = kvs__slot_get(&kv->home);

	if (unlikely(!slot))
		return;
	add_owned(&slot->hits, reads - misses);
	add_owned(&slot->misses, misses);
}

KVS_INLINE void get_group(struct reading *r, enum form form, struct kvs_get_item *items, unsigned n)
{
	struct kvs__probe probes[KVS__PROBES];
	uint8_t at[KVS__PROBES];
	size_t misses = r->counts.not_found;
	unsigned begun;
	unsigned i;

	kvs__rcu_read_lock();
	begun = begin_gets(r, items, n, probes, at);
	kvs__probe_finish(probes, begun);
	for (i = 0; i < begun; i++) {
		struct kvs_get_item *item = &items[at[i]];

		item->status = deliver(r, form, found_live(r->kv, &probes[i]), &item->value);
		note(&r->err, item->status);
		count(&r->counts, item->status);
	}
	kvs__rcu_read_unlock();
	count_reads(r->kv, begun, r->counts.not_found - misses);
}

KVS_INLINE int get_all(struct reading *r, enum form form, struct kvs_get_item *items, size_t n,
		       struct kvs_batch_counts *ret_counts)
{
	size_t i;

	for (i = 0; i < n; i += KVS__PROBES)
		get_group(r, form, items + i, group_size(n - i));
	return answer(r->kv, r->err, &r->counts, ret_counts);
}

KVS_API int kvs_batch_get(struct kvs *kv, struct kvs_get_item *items, size_t n, void *buf,
			  size_t cap, struct kvs_batch_counts *ret_counts)
{
	struct reading r = { .kv = kv, .buf = buf, .cap = cap };

	if (unlikely(!kv || (!items && n) || (!buf && cap)))
		return KVS_ERR_INVALID_ARGUMENT;
	return get_all(&r, FORM_COPY, items, n, ret_counts);
}

KVS_API int kvs_batch_get_alloc(struct kvs *kv, struct kvs_get_item *items, size_t n,
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

KVS_API int kvs_batch_borrow(struct kvs *kv, struct kvs_get_item *items, size_t n,
			     struct kvs_batch_counts *ret_counts)
{
	struct reading r = { .kv = kv };

	if (unlikely(!kv || (!items && n)))
		return KVS_ERR_INVALID_ARGUMENT;
	if (unlikely(!kvs__rcu_read_ongoing() && load_seq_cst(&kv->root)))
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
			kvs__probe_begin(&probes[begun++], &root->table[t->shard], &t->wanted);
	}
	kvs__probe_finish(probes, begun);
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
	return answer(kv, g.err, &g.counts, ret_counts);
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
	return answer(kv, g.err, &g.counts, ret_counts);
}
