/* SPDX-License-Identifier: MIT */
/* iter.h - a walk over the entries of one table, in the order of the list. */
#ifndef KVS_ITER_H
#define KVS_ITER_H

#include "list.h"

/* Valid inside one read section. To go on in another, start again after the last order key. */
struct kvs__walk {
	const struct kvs__table *table;
	uint64_t after;                 /* order keys up to this one are passed over */
	uint64_t link;                  /* to the node that comes next */
	const struct kvs__clock *clock; /* NULL: what has expired is returned too */
};

/* kvs__walk_start - Begin behind order key @after (48 bits; 0: at the first entry). */
struct kvs__walk kvs__walk_start(const struct kvs__table *t, uint64_t after,
				 const struct kvs__clock *clock);

/* kvs__walk_next - The next live entry, or NULL at the end. INV-L4: each link is loaded once. */
struct kvs__entry *kvs__walk_next(struct kvs__walk *w);

#endif
