/* SPDX-License-Identifier: MIT */
/* probe.h - lookups of several keys side by side, so that their cache misses overlap. The essay is in probe.c. */
#ifndef KVS_PROBE_H
#define KVS_PROBE_H

#include "list.h"

#define KVS__PROBES 32u /* side by side at most */

/* One lookup under way. Lives within one read section. */
struct kvs__probe {
	uint64_t order;
	uint64_t limit; /* a link that is greater leads past the key */
	union {
		const kvs__head *head; /* before kvs__probe_run: where it starts */
		uint64_t link;         /* after it: to the node to go on from */
	};
	const struct kvs__table *table;
	uint32_t size; /* of the table when it was begun */
};

extern KVS_HIDDEN const kvs__head kvs__probe_nowhere;

/* kvs__probe_begin - Begin to look for a key of that @order in @t: its head is being fetched when this returns. */
KVS_INLINE void kvs__probe_begin(struct kvs__probe *p, const struct kvs__table *t, uint64_t order)
{
	uint32_t size = load_seq_cst(&t->size);
	unsigned bits = kvs__size_bits(size);

	p->order = order;
	p->size = size;
	p->limit = kvs__link_limit(order, bits);
	p->head = kvs__head_of(t, order >> (64 - bits), bits);
	p->table = t;
	__builtin_prefetch(p->head);
}

/* kvs__probe_begin_write - The same for a write, which looks at what follows the key's place even if the key is absent. */
KVS_INLINE void kvs__probe_begin_write(struct kvs__probe *p, const struct kvs__table *t,
				       uint64_t order)
{
	kvs__probe_begin(p, t, order);
	p->size = UINT32_MAX; /* none that ever stands: no filter is believed */
}

/* kvs__probe_skip - In the place of a lookup: its answer is NULL. */
KVS_INLINE void kvs__probe_skip(struct kvs__probe *p)
{
	p->order = 0;
	p->limit = 0;
	p->head = &kvs__probe_nowhere;
	p->table = NULL;
	p->size = 0;
}

/* kvs__probe_run - Go on with @n lookups that were begun in this section, until each is at its key's place. */
void kvs__probe_run(struct kvs__probe *probes, unsigned n);

/* What kvs__probe_answer says where it met more than a plain entry. Cold. */
const struct kvs__entry *kvs__probe_answer_slow(const struct kvs__probe *p,
						const struct kvs_slice *key);

/*
 * kvs__probe_answer - The live entry of @key, or NULL. After kvs__probe_run, in the same section.
 *
 * Answer, linearization point and progress are those of kvs__lookup().
 */
KVS_INLINE const struct kvs__entry *kvs__probe_answer(const struct kvs__probe *p,
						      const struct kvs_slice *key)
{
	const struct kvs__entry *e;

	switch (kvs__straight_from(p->table, p->order, key->data, key->len, p->link, p->limit,
				   &e)) {
	case KVS__MET_IT:
		return e;
	case KVS__MET_NOTHING:
		return NULL;
	default:
		return kvs__probe_answer_slow(p, key);
	}
}

#endif
