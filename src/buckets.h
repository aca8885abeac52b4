/* SPDX-License-Identifier: MIT */
/*
 * buckets.h - the directory of one table: where the bucket heads lie, how many there are.
 *
 * A table of 2^bits buckets cuts the order keys into 2^bits equal ranges; bucket p holds the
 * entries whose order key begins with the `bits` bits of p, and its head stands before them all:
 * the head's order key is p followed by zeros. A head exists for every prefix, whatever the size,
 * so growth only adds heads, and nothing ever moves.
 *
 * Heads are named by their prefix without its trailing zeros. Those with at most KVS__BITS_MIN
 * bits lie in segment 0, in order; those with exactly KVS__BITS_MIN + s bits (their last bit is 1)
 * lie in segment s, in order. Segment s is as large as all before it together, so it is added when
 * the table doubles and taken away when it halves. A head is 8 bytes: its link.
 *
 *   bits = 3 (in a table with a minimum of 1)        order of the list
 *   segment 0:  0       1                              0 . . . . . . . 1 . . . . . . .
 *   segment 1:      01      11                                 01              11
 *   segment 2:   001 011 101 111                           001     011     101     111
 *
 * Neighbours in a segment are neighbours in the list, so that walks read the directory in order.
 * (The usual layout reverses the bits of the hash to index the directory. Taking the order key's
 * leading bits as the prefix instead is the same list with the reversal left out.)
 */
#ifndef KVS_BUCKETS_H
#define KVS_BUCKETS_H

#include "cut.h"
#include "link.h"
#include "pages.h"

#define KVS__BITS_MIN 6u
#define KVS__BITS_MAX 40u
#define KVS__SEGMENTS (KVS__BITS_MAX - KVS__BITS_MIN + 1)
#define KVS__SIZE_SHRINKING                                                                        \
	0x100u /* in size: the larger size is being withdrawn; growth may call it back */
#define KVS__SIZE_UNLINKING 0x200u /* in size: the upper heads are being taken away; no growth */

/* One shard's table. Lookups read the first lines only; the last is written by inserts. */
struct kvs__table {
	kvs__u32 size;           /* bits, KVS__SIZE_SHRINKING (a) */
	uint32_t bits_min;       /* never smaller than this (i) */
	kvs__head *detached;     /* a segment that waits for its grace period (l) admin */
	uint64_t detached_heads; /* (l) admin */
	_Atomic(kvs__head *) segment[KVS__SEGMENTS]; /* NULL: not there (a) */
	struct kvs__pages *pages;                    /* where segments come from (i) */
	struct kvs__cut *cut;                        /* (i) */
	KVS_LINE_ALIGNED kvs__u64 count;             /* entries (a) */
	kvs__u64 link_next; /* heads claimed for linking so far, in the order of kvs__head_at (a) */
	kvs__u64 linked;    /* heads linked now (s) */
	kvs__u64
		filled; /* heads whose filters were filled, since they had to cover what was there (s) */
	kvs__u64 growths;        /* (s) */
	kvs__u64 shrinks;        /* (s) */
	kvs__u64 growths_failed; /* (s) */
} KVS_LINE_ALIGNED;

KVS_INLINE unsigned kvs__size_bits(uint32_t size)
{
	return size & 0xff;
}

/*
 * kvs__size_stands - Has no head of a greater size than @size been in the list of @t since that was loaded as its size?
 *
 * In the same section. While a shrink has a flag there, heads of the greater size still are. (CONCURRENCY.md, Filters and sizes.)
 */
KVS_INLINE bool kvs__size_stands(const struct kvs__table *t, uint32_t size)
{
	return size == kvs__size_bits(size) && load_seq_cst(&t->size) == size;
}

/* kvs__segment_heads - How many heads segment @s has. */
KVS_INLINE uint64_t kvs__segment_heads(unsigned s)
{
	return (uint64_t)1 << (s ? KVS__BITS_MIN + s - 1 : KVS__BITS_MIN);
}

/* kvs__head_of - The head of bucket @prefix of @bits bits; its segment must be there. */
KVS_INLINE kvs__head *kvs__head_of(const struct kvs__table *t, uint64_t prefix, unsigned bits)
{
	unsigned zeros = (unsigned)__builtin_ctzll(prefix | (uint64_t)1 << bits);
	unsigned own = bits - zeros; /* bits without trailing zeros */

	if (own <= KVS__BITS_MIN)
		return load_acquire(&t->segment[0]) + (prefix >> (bits - KVS__BITS_MIN));
	return load_acquire(&t->segment[own - KVS__BITS_MIN]) + (prefix >> (zeros + 1));
}

/* A start of a walk: a live head at or before the wanted order key. */
struct kvs__start {
	kvs__head *head;
	uint64_t word; /* its own, loaded once */
	unsigned bits; /* all entries up to the wanted one share so many bits with it */
};

/* kvs__start_slow - The nearest linked ancestor of a bucket whose head is not linked. */
struct kvs__start kvs__start_slow(const struct kvs__table *t, uint64_t prefix, unsigned bits);

/* kvs__start_of - Where to begin looking for @order. Reads only. Call inside a section. */
KVS_INLINE struct kvs__start kvs__start_of(const struct kvs__table *t, uint64_t order)
{
	unsigned bits = kvs__size_bits(load_seq_cst(&t->size));
	uint64_t prefix = order >> (64 - bits);
	struct kvs__start s;

	s.head = kvs__head_of(t, prefix, bits);
	s.word = load_seq_cst(s.head);
	s.bits = bits;
	if (unlikely(!kvs__head_is_live(s.word)))
		return kvs__start_slow(t, prefix, bits);
	return s;
}

/* kvs__head_order - The order key of the head at @h, from its address. */
uint64_t kvs__head_order(const struct kvs__table *t, const kvs__head *h);

/* kvs__table_init - An empty table with 2^@bits buckets of which head 0 is linked. false: no memory. */
bool kvs__table_init(struct kvs__table *t, struct kvs__pages *pages, struct kvs__cut *cut,
		     unsigned bits);

/*
 * kvs__table_link_all - Link every head of an empty table that no other thread can reach, and let it shrink to 2^@bits_min.
 *
 * For a table that is about to be filled: one pass over the directory, where linking heads among entries would miss
 * the cache for each.
 */
void kvs__table_link_all(struct kvs__table *t, unsigned bits_min);

/* kvs__table_release - Give back the directory. No thread may reach the table. */
void kvs__table_release(struct kvs__table *t);

/* kvs__table_buckets - The number of buckets now. kvs__table_index_bytes - memory of the directory. */
uint64_t kvs__table_buckets(const struct kvs__table *t);
uint64_t kvs__table_index_bytes(const struct kvs__table *t);

/*
 * kvs__table_grow - Double, if the size is still @size, as loaded. Lock-free.
 *
 * A shrink that has only withdrawn its larger size is called back: that size holds again.
 */
void kvs__table_grow(struct kvs__table *t, uint32_t size);

/*
 * kvs__table_claim - Claim the next @want unlinked heads, in the order in which they are linked.
 *
 * Returns how many were claimed, the first of them in @ret_first: indices for kvs__head_at().
 */
uint64_t kvs__table_claim(struct kvs__table *t, uint64_t want, uint64_t *ret_first);

/* kvs__head_at - The head with linking index @i, and its order key. */
kvs__head *kvs__head_at(const struct kvs__table *t, uint64_t i, uint64_t *ret_order);

/*
 * Shrink, for one thread at a time (under admin), in steps:
 *   kvs__shrink_begin    publish the smaller size; false: too small, or a growth came in between
 *     grace period 1
 *   kvs__shrink_commit   false: a growth has called the shrink back, it is over
 *   kvs__unlink_heads    (list.h) mark and unlink the heads of the upper segment
 *   kvs__shrink_detach   take the segment off the table; growth may begin, with a fresh one
 *     grace period 2
 *   kvs__shrink_end      give the segment back
 * A section that stays open holds back the steps behind a grace period, and growth in none of them.
 */
bool kvs__shrink_begin(struct kvs__table *t);
bool kvs__shrink_commit(struct kvs__table *t);
void kvs__shrink_detach(struct kvs__table *t);
void kvs__shrink_end(struct kvs__table *t);

#endif
