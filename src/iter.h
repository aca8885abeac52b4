/* SPDX-License-Identifier: MIT */
/*
 * iter.h - a walk over the entries of one table, in the order of the list.
 *
 * Sections of our own end after so many nodes, heads included: a sparse directory has many times more heads than entries.
 * A walk can stop at a head as behind a run: no key has a head's order key, and it parts those done from those to come.
 */
#ifndef KVS_ITER_H
#define KVS_ITER_H

#include "list.h"

#define KVS__SECTION_NODES 4096u /* then a section ends where it can: at a head, behind a run */

/* Valid inside one read section. To go on in another, start again after the last order key. */
struct kvs__walk {
	const struct kvs__table *table;
	uint64_t after;                 /* order keys up to this one are passed over */
	uint64_t link;                  /* to the node that comes next */
	const struct kvs__clock *clock; /* NULL: what has expired is returned too */
	uint64_t nodes;                 /* to pass before it stops at a head; none does at first */
};

/* kvs__walk_start - Begin behind order key @after (48 bits; 0: at the first entry). */
struct kvs__walk kvs__walk_start(const struct kvs__table *t, uint64_t after,
				 const struct kvs__clock *clock);

/*
 * kvs__walk_next - The next live entry; or NULL, at the end or when the walk has stopped at a head: then it goes on in
 * another section after w->after. INV-L4: each link is loaded once.
 */
struct kvs__entry *kvs__walk_next(struct kvs__walk *w);

/* kvs__walk_has_ended - After NULL: at the end? */
KVS_INLINE bool kvs__walk_has_ended(const struct kvs__walk *w)
{
	return kvs__link_is_end(w->link);
}

/*
 * kvs__walk_can_stop - May a walk, begun behind order key *@after, stop at the head to which @link leads? Then all up to its
 * order key is done, which is put into *@after. false: it would not have come on.
 */
bool kvs__walk_can_stop(const struct kvs__table *t, uint64_t link, uint64_t *after);

#endif
