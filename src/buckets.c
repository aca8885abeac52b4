/* SPDX-License-Identifier: MIT */
/*
 * buckets.c - growth and shrink of a table's directory. The layout is described in buckets.h.
 *
 * STATES OF A HEAD
 *
 *        claim (CAS 0 -> CLAIMED)   link (CAS of predecessor)      ready (CAS)
 *   empty --------------------> claimed ----------------> linked ------------> live
 *     ^                        (only its claimer sees it)  (walks pass it)       |
 *     |            segment freed after a grace period                            | mark, by shrink
 *     +--------------------------------------------------------- removed <-------+
 *
 * A live head may be watched for a while (list.c): the same in all that matters here.
 *
 * INVARIANTS
 *
 * INV-B1  segment[s] is there whenever a section can hold a size with more than
 *         KVS__BITS_MIN + s - 1 bits. Growth installs it before it publishes the size; shrink
 *         takes it away a grace period after it published the smaller one, and frees it after another.
 * INV-B2  A head is linked by the one thread that claimed it. Others start from an ancestor
 *         meanwhile; nobody waits for it.
 * INV-B3  While a size is withdrawn (SHRINKING) its heads are whole: growth may restore it, which ends the
 *         shrink. While its heads are taken away (UNLINKING) the size does not change, and then the
 *         segment is detached: a head that was removed is never used again.
 * INV-B4  Every head with linking index below link_next is claimed or about to be; after its
 *         claimer ends, linked. link_next reaches the size long before the next doubling, since every
 *         fourth insert claims eight and a doubling takes as many inserts as there are new heads; but not where
 *         claimers are stopped. Nothing rests on it: a start goes up as many levels as it takes.
 *
 * PROGRESS  Growth is lock-free: one CAS installs the segment, one the size; the loser frees its
 * own segment. A growth that finds no memory leaves the table small and counts it.
 */
#include "buckets.h"

#include "counting.h"

struct kvs__start kvs__start_slow(const struct kvs__table *t, uint64_t prefix, unsigned bits)
{
	struct kvs__start s;

	do {
		/* The ancestor: the same prefix with its last 1 cleared. Head 0 is always live. */
		unsigned zeros = (unsigned)__builtin_ctzll(prefix);

		KVS_COUNT_STEP();
		prefix &= prefix - 1;
		s.head = kvs__head_of(t, prefix, bits);
		s.word = load_seq_cst(s.head);
		s.bits = bits - zeros - 1;
	} while (!kvs__head_is_live(s.word));
	return s;
}

static uint64_t order_in_segment(unsigned s, uint64_t i)
{
	if (s == 0)
		return i << (64 - KVS__BITS_MIN);
	return (2 * i + 1) << (64 - KVS__BITS_MIN - s);
}

uint64_t kvs__head_order(const struct kvs__table *t, const kvs__head *h)
{
	unsigned top = kvs__size_bits(load_seq_cst(&t->size)) - KVS__BITS_MIN;
	unsigned n;

	/* Most heads are in the top segment; a growth or shrink may have left h above it. */
	for (n = 0; n < KVS__SEGMENTS; n++) {
		unsigned s = n <= top ? top - n : n;
		const kvs__head *base = load_acquire(&t->segment[s]);
		uintptr_t offset = (uintptr_t)h - (uintptr_t)base;

		if (base && offset < kvs__segment_heads(s) * sizeof(*h))
			return order_in_segment(s, offset / sizeof(*h));
	}
	return 0; /* of a segment that shrink has detached: see kvs__shrink_detach */
}

static kvs__head *segment_make(struct kvs__table *t, unsigned s)
{
	return kvs__segment_alloc(t->pages, kvs__segment_heads(s) * sizeof(kvs__head));
}

static void segment_free(struct kvs__table *t, unsigned s, kvs__head *heads)
{
	kvs__segment_free(t->pages, heads, kvs__segment_heads(s) * sizeof(kvs__head));
}

void kvs__table_release(struct kvs__table *t)
{
	unsigned s;

	for (s = 0; s < KVS__SEGMENTS; s++)
		segment_free(t, s, load_acquire(&t->segment[s]));
	if (t->detached)
		kvs__shrink_end(t);
}

bool kvs__table_init(struct kvs__table *t, struct kvs__pages *pages, struct kvs__cut *cut,
		     unsigned bits)
{
	unsigned s;

	memset((void *)t, 0, sizeof(*t));
	t->pages = pages;
	t->cut = cut;
	t->bits_min = bits;
	for (s = 0; s <= bits - KVS__BITS_MIN; s++) {
		kvs__head *heads = segment_make(t, s);

		if (!heads) {
			kvs__table_release(t);
			return false;
		}
		store_release(&t->segment[s], heads);
	}
	store_release(load_acquire(&t->segment[0]),
		      kvs__head_word_make(KVS__LINK_END, 0, KVS__HEAD_LIVE));
	store_release(&t->link_next, 1);
	store_release(&t->linked, 1);
	store_release(&t->size, bits);
	return true;
}

void kvs__table_link_all(struct kvs__table *t, unsigned bits_min)
{
	unsigned bits = kvs__size_bits(load_acquire(&t->size));
	uint64_t prefix = (uint64_t)1 << bits;
	uint64_t link = KVS__LINK_END;

	store_release(&t->link_next, prefix);
	store_release(&t->linked, prefix);
	while (prefix-- > 0) {
		kvs__head *h = kvs__head_of(t, prefix, bits);

		store_relaxed(h, kvs__head_word_make(link, 0, KVS__HEAD_LIVE));
		link = kvs__link_make_head(h, prefix << (64 - bits));
	}
	t->bits_min = bits_min;
}

uint64_t kvs__table_buckets(const struct kvs__table *t)
{
	return (uint64_t)1 << kvs__size_bits(load_seq_cst(&t->size));
}

uint64_t kvs__table_index_bytes(const struct kvs__table *t)
{
	uint64_t bytes = 0;
	unsigned s;

	for (s = 0; s < KVS__SEGMENTS; s++)
		if (load_acquire(&t->segment[s]))
			bytes += kvs__segment_heads(s) * sizeof(kvs__head);
	return bytes;
}

static bool segment_install(struct kvs__table *t, unsigned s)
{
	kvs__head *none = NULL;
	kvs__head *heads;

	if (load_acquire(&t->segment[s]))
		return true;
	heads = segment_make(t, s);
	if (!heads)
		return false;
	if (!cas_seq_cst(&t->segment[s], &none, heads))
		segment_free(t, s, heads);
	return true;
}

void kvs__table_grow(struct kvs__table *t, uint32_t size)
{
	unsigned bits = kvs__size_bits(size);

	if (size & KVS__SIZE_UNLINKING || bits >= KVS__BITS_MAX || load_seq_cst(&t->size) != size)
		return;
	if (!segment_install(t, bits + 1 - KVS__BITS_MIN)) {
		fetch_add_relaxed(&t->growths_failed, 1);
		return;
	}
	/* PAIRS(B1): whoever loads the new size finds the segment. */
	if (cas_seq_cst(&t->size, &size, bits + 1))
		fetch_add_relaxed(&t->growths, 1);
}

uint64_t kvs__table_claim(struct kvs__table *t, uint64_t want, uint64_t *ret_first)
{
	uint64_t next = load_seq_cst(&t->link_next);

	for (;;) {
		uint32_t size = load_seq_cst(&t->size);
		uint64_t end = (uint64_t)1 << kvs__size_bits(size);
		uint64_t n = next < end ? end - next : 0;

		if (n == 0 || size & (KVS__SIZE_SHRINKING | KVS__SIZE_UNLINKING))
			return 0;
		n = n < want ? n : want;
		if (cas_seq_cst(&t->link_next, &next, next + n)) {
			*ret_first = next;
			return n;
		}
	}
}

kvs__head *kvs__head_at(const struct kvs__table *t, uint64_t i, uint64_t *ret_order)
{
	unsigned s = 0;

	if (i >> KVS__BITS_MIN) {
		unsigned bits = 63u - (unsigned)__builtin_clzll(i);

		s = bits - KVS__BITS_MIN + 1;
		i -= (uint64_t)1 << bits;
	}
	*ret_order = order_in_segment(s, i);
	return load_acquire(&t->segment[s]) + i;
}

bool kvs__shrink_begin(struct kvs__table *t)
{
	uint32_t size = load_seq_cst(&t->size);
	unsigned bits = kvs__size_bits(size);

	if (size & (KVS__SIZE_SHRINKING | KVS__SIZE_UNLINKING) || t->detached ||
	    bits <= t->bits_min || bits <= KVS__BITS_MIN)
		return false;
	return cas_seq_cst(&t->size, &size, (bits - 1) | KVS__SIZE_SHRINKING);
}

bool kvs__shrink_commit(struct kvs__table *t)
{
	uint32_t size = load_seq_cst(&t->size);

	return size & KVS__SIZE_SHRINKING &&
	       cas_seq_cst(&t->size, &size, kvs__size_bits(size) | KVS__SIZE_UNLINKING);
}

/*
 * A walker may still hold a link to one of the segment's heads, whose order key cannot be told from its
 * address from now on: kvs__head_order answers 0, and the walker passes it. A lookup that should have stopped
 * there stops at the next node; a find tries to unlink it, fails, since it is unlinked, and starts again.
 */
void kvs__shrink_detach(struct kvs__table *t)
{
	unsigned bits = kvs__size_bits(load_seq_cst(&t->size));
	uint64_t heads = (uint64_t)1 << bits;

	t->detached = xchg_seq_cst(&t->segment[bits + 1 - KVS__BITS_MIN], NULL);
	t->detached_heads = heads;
	if (load_seq_cst(&t->link_next) > heads)
		store_seq_cst(&t->link_next, heads);
	fetch_add_relaxed(&t->shrinks, 1);
	store_seq_cst(&t->size, bits);
}

void kvs__shrink_end(struct kvs__table *t)
{
	kvs__segment_free(t->pages, t->detached, t->detached_heads * sizeof(kvs__head));
	t->detached = NULL;
}
