/* SPDX-License-Identifier: MIT */
/*
 * structure.c - the invariants of list.c and buckets.c that hold at rest: the list is sorted, what
 * a link says of its successor is so, a head's filter has its entries, nothing marked is reachable, every head that was claimed is
 * live and linked, once, and no other is.
 */
#include "structure.h"

#include <string.h>

#include "heap.h"

#define NODES_MAX 10000u

/* The walk: the node that is looked at, and the order key and window it must have. */
struct walk {
	const struct kvs__table *t;
	uint64_t link;
	uint64_t filter; /* of the last head */
	bool exact;      /* the link has a window: its holder is an entry */
	uint64_t last;
	uint64_t until;
	struct structure *found;
};

static const char *at_head(struct walk *w)
{
	kvs__head *h = kvs__link_head(w->link);
	uint64_t order = kvs__head_order(w->t, h);
	uint64_t word;

	if (order < w->last || (order == w->last && w->found->heads))
		return "the list is not sorted at a head";
	if (w->exact && kvs__link_window(w->link) != kvs__order_window(order))
		return "a link has the wrong window of a head";
	if (!w->exact && w->filter)
		return "a filter is not empty, and no entry follows";
	word = load_relaxed(h);
	w->last = order;
	w->link = kvs__head_word_link(word);
	w->filter = kvs__filter_of(word);
	w->exact = false;
	w->found->heads++;
	w->found->full += w->filter == KVS__FILTER_FULL;
	return kvs__head_is_live(word) ? NULL : "a head is in the list that is not live";
}

static const char *at_entry(struct walk *w)
{
	struct kvs__entry *e = kvs__link_entry(w->link);

	if (!heap_word(e) || !heap_word_is_live(heap_word(e)))
		return "a link leads to memory that is free";
	if (kvs__order_key(e->order) < kvs__order_key(w->last))
		return "the list is not sorted at an entry";
	if (w->exact && kvs__link_window(w->link) != kvs__order_window(e->order))
		return "a link has the wrong window of an entry";
	if (kvs__filter_lacks(w->filter, e->order))
		return "a filter lacks an entry";
	if (w->found->entries == STRUCTURE_ENTRIES)
		return "there are too many entries";
	w->last = e->order;
	w->link = load_relaxed(&e->next);
	w->exact = true;
	w->found->entry[w->found->entries++] = e;
	return kvs__word_state(w->link) == KVS__ENTRY_LIVE
		       ? NULL
		       : "an entry is in the list that is marked";
}

static const char *walk_list(struct walk *w)
{
	const char *why = NULL;

	for (unsigned n = 0; !why && !kvs__link_is_end(w->link) && w->last < w->until; n++) {
		if (n == NODES_MAX)
			return "the list has no end";
		why = kvs__link_to_head(w->link) ? at_head(w) : at_entry(w);
	}
	return why;
}

/* Each head with a linking index below link_next is there, and no other. */
static const char *check_heads(const struct kvs__table *t, const struct structure *found)
{
	uint64_t claimed = load_relaxed(&t->link_next);
	uint64_t buckets = kvs__table_buckets(t);
	uint64_t i;

	if (claimed > buckets)
		return "more heads were claimed than there are";
	if (found->heads != claimed || load_relaxed(&t->linked) != claimed)
		return "the number of linked heads is wrong";
	for (i = claimed; i < buckets && i < claimed + 64; i++) {
		uint64_t order;

		if (load_relaxed(kvs__head_at(t, i, &order)) != 0)
			return "a head that nobody claimed is not empty";
	}
	return NULL;
}

static const char *check_segments(const struct kvs__table *t, struct structure *found)
{
	uint32_t size = load_relaxed(&t->size);
	unsigned top = kvs__size_bits(size) - KVS__BITS_MIN;

	if (size != kvs__size_bits(size))
		return "the table still shrinks";
	if (t->detached)
		return "a segment was detached and not freed";
	for (unsigned s = 0; s < KVS__SEGMENTS; s++) {
		const kvs__head *base = load_relaxed(&t->segment[s]);

		if (!base && s <= top)
			return "a segment is missing";
		if (base && !heap_word_is_live(heap_word(base)))
			return "a segment is in place that was freed";
		/* One above the size: a growth that lost its race left it for the next. */
		found->segments += base != NULL;
	}
	return NULL;
}

const char *structure_read(const struct kvs__table *t, struct structure *ret, bool all)
{
	struct walk w = { .t = t,
			  .found = ret,
			  .until = all ? UINT64_MAX : (uint64_t)1 << (64 - KVS__BITS_MIN) };
	const char *why;
	uint64_t word;

	*ret = (struct structure){ .heads = 1,
				   .live = heap_live(),
				   .count = load_relaxed(&t->count) };
	why = check_segments(t, ret);
	if (why)
		return why;
	word = load_relaxed(load_relaxed(&t->segment[0]));
	if (!kvs__head_is_live(word))
		return "head 0 is not live";
	w.link = kvs__head_word_link(word);
	w.filter = kvs__filter_of(word);
	ret->full = w.filter == KVS__FILTER_FULL;
	why = walk_list(&w);
	return why || !all ? why : check_heads(t, ret);
}
