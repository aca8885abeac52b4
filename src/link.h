/* SPDX-License-Identifier: MIT */
/*
 * link.h - the one word that everything hangs on: a node's `next`.
 *
 *              63          49  48  47                       3  2     0
 *             +--------------+----+--------------------------+--------+
 *  an entry's | window       | H  | address of the successor | state  |
 *             +--------------+----+--------------------------+--------+
 *    a head's | filter            | address of the successor | state  |
 *             +-------------------+--------------------------+--------+
 *
 * state    of the node that HOLDS the word: what it is and whether it is marked.
 * address  of the successor; 0 at the end of the list.
 * H        the SUCCESSOR is a bucket head (also set at the end of the list).
 * window   15 bits of the SUCCESSOR's order key, from bit KVS__WINDOW_SKIP down; all ones at the end.
 * filter   a Bloom filter, one bit a key, of at least the entries up to the next head that is linked; 0 says that
 *          there is none, so that the successor is a head (or the end).
 *
 * The filter lets a lookup that starts at a key's own head say "absent" from that head's line alone. Window and H let
 * a walker decide about the successor without touching it: within a bucket of
 * at least KVS__WINDOW_SKIP order bits, all order bits above the window are the same for every
 * node up to the wanted one, so a successor whose window is greater than the wanted one lies
 * behind it: the key is absent, and a cache miss was saved.
 *
 * What walkers carry is a LINK: an entry's word, whatever its state; of a head's word they make one with the smallest
 * window, which says nothing.
 *
 * This file is the only one that knows the bits.
 */
#ifndef KVS_LINK_H
#define KVS_LINK_H

#include "atomic.h"
#include "compiler.h"
#include "entry.h"

typedef kvs__u64 kvs__head; /* a bucket's head: its link; 0 while unlinked */

enum kvs__state {
	KVS__ENTRY_LIVE = 0,
	KVS__HEAD_LIVE = 1,    /* linked, lookups may start here */
	KVS__HEAD_CLAIMED = 2, /* one thread is linking it; reachable from then on, no start yet */
	KVS__HEAD_WATCHED = 3, /* live, and no insert has covered it since (list.c) */
	KVS__HEAD_REMOVED = 4, /* marked, by shrink */
	KVS__ENTRY_RENEWED =
		4, /* marked, as the next, and the successor shows the same block (entry.h); no head's */
	KVS__ENTRY_REPLACED = 5,     /* marked; the successor has the same key */
	KVS__ENTRY_DELETED = 6,      /* marked */
	KVS__ENTRY_DELETED_OWED = 7, /* marked; the removal's stamp is owed (cut.h) */
};

#define KVS__STATE_MASK ((uint64_t)7)
#define KVS__STATE_MARKED ((uint64_t)4)
#define KVS__ADDRESS_MASK ((((uint64_t)1 << 48) - 1) & ~KVS__STATE_MASK)
#define KVS__LINK_HEAD ((uint64_t)1 << 48)
#define KVS__WINDOW_SHIFT 49
#define KVS__WINDOW_MAX ((uint64_t)0x7fff)
#define KVS__WINDOW_FIELD (KVS__WINDOW_MAX << KVS__WINDOW_SHIFT)
#define KVS__WINDOW_SKIP 12 /* order bits above the window */
#define KVS__LINK_END (KVS__WINDOW_FIELD | KVS__LINK_HEAD)
#define KVS__FILTER_SHIFT 48
#define KVS__FILTER_FULL ((uint64_t)0xffff << KVS__FILTER_SHIFT)

KVS_INLINE enum kvs__state kvs__word_state(uint64_t word)
{
	return (enum kvs__state)(word & KVS__STATE_MASK);
}

KVS_INLINE bool kvs__word_is_marked(uint64_t word)
{
	return (word & KVS__STATE_MARKED) != 0;
}

/* The word without the state of its holder: what can be moved to another holder. */
KVS_INLINE uint64_t kvs__word_link(uint64_t word)
{
	return word & ~KVS__STATE_MASK;
}

KVS_INLINE bool kvs__link_is_end(uint64_t word)
{
	return (word & KVS__ADDRESS_MASK) == 0;
}

KVS_INLINE bool kvs__link_to_head(uint64_t word)
{
	return (word & KVS__LINK_HEAD) != 0;
}

KVS_INLINE struct kvs__entry *kvs__link_entry(uint64_t word)
{
	return (struct kvs__entry *)(uintptr_t)(word & KVS__ADDRESS_MASK);
}

KVS_INLINE kvs__head *kvs__link_head(uint64_t word)
{
	return (kvs__head *)(uintptr_t)(word & KVS__ADDRESS_MASK);
}

KVS_INLINE uint64_t kvs__order_window(uint64_t order)
{
	return order << KVS__WINDOW_SKIP >> KVS__WINDOW_SHIFT;
}

KVS_INLINE uint64_t kvs__link_window(uint64_t word)
{
	return word >> KVS__WINDOW_SHIFT;
}

/* The window beyond which a successor lies behind @order, in a bucket of @bits order bits. */
KVS_INLINE uint64_t kvs__window_limit(uint64_t order, unsigned bits)
{
	return bits >= KVS__WINDOW_SKIP ? kvs__order_window(order) : KVS__WINDOW_MAX;
}

/* The same as a whole link: one that is greater leads behind @order. */
KVS_INLINE uint64_t kvs__link_limit(uint64_t order, unsigned bits)
{
	uint64_t below = ((uint64_t)1 << KVS__WINDOW_SHIFT) - 1;

	return likely(bits >= KVS__WINDOW_SKIP) ? order << KVS__WINDOW_SKIP | below : UINT64_MAX;
}

KVS_INLINE uint64_t kvs__link_make_entry(const struct kvs__entry *e)
{
	return (uint64_t)(uintptr_t)e | kvs__order_window(e->order) << KVS__WINDOW_SHIFT;
}

KVS_INLINE uint64_t kvs__link_make_head(const kvs__head *h, uint64_t order)
{
	return (uint64_t)(uintptr_t)h | KVS__LINK_HEAD |
	       kvs__order_window(order) << KVS__WINDOW_SHIFT;
}

/* kvs__word_of_head - Is the holder of an unmarked word a head? */
KVS_INLINE bool kvs__word_of_head(uint64_t word)
{
	return (word & KVS__STATE_MASK) != KVS__ENTRY_LIVE;
}

/* kvs__head_is_live - May lookups start at the head that holds @word? */
KVS_INLINE bool kvs__head_is_live(uint64_t word)
{
	return (word & (KVS__STATE_MARKED | KVS__HEAD_LIVE)) == KVS__HEAD_LIVE;
}

/* kvs__filter_bit - The bit of an entry in its head's filter: from the end of the hash, which chooses no bucket. */
KVS_INLINE uint64_t kvs__filter_bit(uint64_t order)
{
	return (uint64_t)1 << (order >> 17 | KVS__FILTER_SHIFT) % 64;
}

KVS_INLINE bool kvs__filter_lacks(uint64_t word, uint64_t order)
{
	return (word & kvs__filter_bit(order)) == 0;
}

/* kvs__filter_of - The filter in a head's word, in its place. */
KVS_INLINE uint64_t kvs__filter_of(uint64_t word)
{
	return word & KVS__FILTER_FULL;
}

/* kvs__head_word_link - The link that a head's @word holds. Its window says nothing. */
KVS_INLINE uint64_t kvs__head_word_link(uint64_t word)
{
	return (word & KVS__ADDRESS_MASK) | (kvs__filter_of(word) ? 0 : KVS__LINK_HEAD);
}

/* kvs__head_word_make - The word of a head in @state that @link follows; @filter covers what stands there, if entries do. */
KVS_INLINE uint64_t kvs__head_word_make(uint64_t link, uint64_t filter, enum kvs__state state)
{
	return (link & KVS__ADDRESS_MASK) | (kvs__link_to_head(link) ? 0 : filter) | state;
}

#endif
