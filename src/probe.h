/* SPDX-License-Identifier: MIT */
/* probe.h - lookups of several keys side by side, so that their cache misses overlap. The essay is in probe.c. */
#ifndef KVS_PROBE_H
#define KVS_PROBE_H

#include "list.h"

#define KVS__PROBES 32u /* side by side at most */

/* One lookup under way. Lives within one read section. */
struct kvs__probe {
	const struct kvs__table *table;
	uint64_t order;
	const unsigned char *key;
	kvs__head *head;                /* where it starts, unless that head is not linked yet */
	unsigned bits;                  /* of the bucket */
	uint64_t limit;                 /* a link with a greater window leads past the key */
	uint64_t link;                  /* to the next node to look at */
	const struct kvs__entry *found; /* the answer: the live entry, or NULL */
};

/* kvs__probe_begin - Begin to look for @wanted in @t: its head is being fetched when this returns. */
KVS_INLINE void kvs__probe_begin(struct kvs__probe *p, const struct kvs__table *t,
				 const struct kvs__wanted *wanted)
{
	p->table = t;
	p->order = wanted->order;
	p->key = wanted->key;
	p->found = NULL;
	p->bits = kvs__size_bits(load_seq_cst(&t->size));
	p->head = kvs__head_of(t, p->order >> (64 - p->bits), p->bits);
	__builtin_prefetch(p->head);
}

/*
 * kvs__probe_finish - Go on with @n lookups that were begun in this section until each has its answer.
 *
 * Answers, linearization points and progress are those of kvs__lookup(), each lookup for itself.
 */
void kvs__probe_finish(struct kvs__probe *probes, unsigned n);

#endif
