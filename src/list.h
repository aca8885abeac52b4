/* SPDX-License-Identifier: MIT */
/* list.h - the split-ordered list: lookup, find, replace, delete, heads. The essay is in list.c. */
#ifndef KVS_LIST_H
#define KVS_LIST_H

#include "buckets.h"
#include "counting.h"

/* What is looked for: a key and its order word (hash bits, KVS__ORDER_ENTRY, key length). */
struct kvs__wanted {
	uint64_t order;
	const unsigned char *key; /* NULL: no key, only the place */
};

/* kvs__order_make - The order word of a key from its 64-bit hash and its length. */
KVS_INLINE uint64_t kvs__order_make(uint64_t hash, size_t key_len)
{
	return (hash & KVS__ORDER_MASK) | KVS__ORDER_ENTRY | key_len;
}

/* kvs__order_key - The 48 bits that the list is sorted by. */
KVS_INLINE uint64_t kvs__order_key(uint64_t order)
{
	return order >> 16;
}

/* kvs__pass_head - A walker for @order came to a head: false if that lies behind. Cold, but in small tables. */
bool kvs__pass_head(const struct kvs__table *t, uint64_t link, uint64_t order);

/* kvs__lookup_from - The rest of a lookup, from a @link that leads to its place or before it. */
KVS_INLINE const struct kvs__entry *kvs__lookup_from(const struct kvs__table *t, uint64_t order,
						     const unsigned char *key, uint64_t link,
						     uint64_t limit)
{
	while (kvs__link_window(link) <= limit) {
		const struct kvs__entry *e;
		uint64_t word;

		KVS_COUNT_STEP();
		if (unlikely(kvs__link_to_head(link))) {
			if (!kvs__pass_head(t, link, order))
				return NULL;
			link = kvs__head_word_link(load_seq_cst(kvs__link_head(link)));
			continue;
		}
		e = kvs__link_entry(link);
		__builtin_prefetch((const char *)e + KVS_LINE);
		__builtin_prefetch((const char *)e + 2 * KVS_LINE);
		word = load_seq_cst(&e->next);
		if (e->order == order) {
			if (kvs__bytes_equal(e->bytes, key, order & KVS__KEY_LEN_MASK)) {
				if (likely(!kvs__word_is_marked(word))) {
					if (unlikely(load_seq_cst(&e->stamp) == 0))
						kvs__settle_met(t->cut, e, false);
					return e;
				}
				if (unlikely(kvs__word_state(word) == KVS__ENTRY_DELETED_OWED))
					kvs__settle_met(t->cut, e, true);
			}
		} else if (kvs__order_key(e->order) > kvs__order_key(order)) {
			return NULL;
		}
		link = word;
	}
	return NULL;
}

/* Fetch the lines of the value, if the window says that it may be wanted; else the first line once more: no branch. */
KVS_INLINE void kvs__fetch_rest(const struct kvs__entry *e, uint64_t link, uint64_t limit)
{
	size_t step = kvs__link_window(link ^ limit) == 0 ? KVS_LINE : 0;

	__builtin_prefetch((const char *)e + step);
	__builtin_prefetch((const char *)e + 2 * step);
}

enum kvs__met { KVS__MET_IT, KVS__MET_NOTHING, KVS__MET_MORE };

/* kvs__straight_from - The rest of kvs__lookup_straight, from a @link that leads to its place or before it. */
KVS_INLINE enum kvs__met kvs__straight_from(const struct kvs__table *t, uint64_t order,
					    const unsigned char *key, size_t key_len, uint64_t link,
					    uint64_t limit, const struct kvs__entry **ret)
{
	while (likely(link <= limit)) {
		const struct kvs__entry *e = kvs__link_entry(link);
		uint64_t word;

		KVS_COUNT_STEP();
		if (unlikely(kvs__link_to_head(link)))
			return kvs__pass_head(t, link, order) ? KVS__MET_MORE : KVS__MET_NOTHING;
		kvs__fetch_rest(e, link, limit);
		word = load_seq_cst(&e->next);
		if (likely(e->order == order)) {
			if (likely(kvs__bytes_equal(e->bytes, key, key_len))) {
				if (unlikely(kvs__word_is_marked(word)) ||
				    unlikely(load_seq_cst(&e->stamp) == 0))
					return KVS__MET_MORE;
				*ret = e;
				return KVS__MET_IT;
			}
		} else if (kvs__order_key(e->order) > kvs__order_key(order)) {
			return KVS__MET_NOTHING;
		}
		link = word;
	}
	return KVS__MET_NOTHING;
}

/*
 * kvs__lookup_straight - kvs__lookup for the case that is nearly always the case; inside a section.
 *
 * KVS__MET_IT, with the entry in @ret, and KVS__MET_NOTHING are kvs__lookup's answers. KVS__MET_MORE is none:
 * a bucket whose head is not linked yet, a head within the bucket, a mark or a missing stamp was met, or the table
 * was growing or shrinking, and kvs__lookup has to say.
 *
 * LP(lookup, filter)  the load of the head's word, whose filter lacks the key.
 */
KVS_INLINE enum kvs__met kvs__lookup_straight(const struct kvs__table *t, uint64_t order,
					      const unsigned char *key, size_t key_len,
					      const struct kvs__entry **ret)
{
	uint32_t size = load_seq_cst(&t->size);
	unsigned bits = kvs__size_bits(size);
	uint64_t word = load_seq_cst(kvs__head_of(t, order >> (64 - bits), bits));
	uint64_t limit;

	if (unlikely(!kvs__head_is_live(word)))
		return KVS__MET_MORE;
	if (kvs__filter_lacks(word, order))
		return likely(kvs__size_stands(t, size)) ? KVS__MET_NOTHING : KVS__MET_MORE;
	limit = kvs__link_limit(order, bits);
	/* What follows is likely to be wanted: as if by its window. */
	return kvs__straight_from(t, order, key, key_len,
				  (word & KVS__ADDRESS_MASK) | (limit & KVS__WINDOW_FIELD), limit,
				  ret);
}

/* kvs__lookup_long - kvs__lookup in a bucket whose head is not linked yet. */
const struct kvs__entry *kvs__lookup_long(const struct kvs__table *t, uint64_t order,
					  const unsigned char *key);

/*
 * kvs__lookup - The live entry of a key, or NULL. Reads only, never retries. Inside a section.
 *
 * LP(lookup, found)   the load of the entry's link that shows it unmarked.
 * LP(lookup, absent)  see CONCURRENCY.md: the mark of the entry that was last seen deleted, or the load
 *                     of the link that led past the place where a new key would stand.
 */
KVS_INLINE const struct kvs__entry *kvs__lookup(const struct kvs__table *t, uint64_t order,
						const unsigned char *key)
{
	uint32_t size = load_seq_cst(&t->size);
	unsigned bits = kvs__size_bits(size);
	uint64_t word = load_seq_cst(kvs__head_of(t, order >> (64 - bits), bits));

	if (unlikely(!kvs__head_is_live(word)))
		return kvs__lookup_long(t, order, key);
	if (kvs__filter_lacks(word, order) && likely(kvs__size_stands(t, size)))
		return NULL; /* LP(lookup, filter) was the load of word */
	return kvs__lookup_from(t, order, key, kvs__head_word_link(word),
				kvs__window_limit(order, bits));
}

/*
 * kvs__lookup_timed - @e, which a lookup has found and which is timed; or, if it has expired, NULL, unless the
 * key was renewed meanwhile.
 *
 * LP(lookup, expired)  the load that shows the entry still unmarked, with the clock past its deadline.
 */
const struct kvs__entry *kvs__lookup_timed(const struct kvs__clock *c, const struct kvs__table *t,
					   uint64_t order, const unsigned char *key,
					   const struct kvs__entry *e);

/*
 * A place in the list, as kvs__find left it. pred is the word that a new key is put behind: its
 * holder's order key is smaller than the wanted one, its successor's is not.
 */
struct kvs__place {
	kvs__u64 *pred;
	uint64_t pred_word;
	uint64_t link;            /* what pred_word leads to, with its window */
	kvs__head *head;          /* the last head before the place: pred itself, or before it */
	struct kvs__entry *match; /* the live entry of the key, or NULL */
	uint64_t match_word;      /* its link, unmarked */
	kvs__u64 *match_pred;     /* the link that leads to it */
	uint64_t match_pred_word;
};

/*
 * kvs__find - Find the place of a key, unlinking every marked node on the way. Inside a section.
 *
 * With a NULL key the whole run of equal order keys is walked, so that afterwards no node of that
 * order key that was marked before the call is reachable from a live head. Lock-free.
 */
void kvs__find(const struct kvs__table *t, const struct kvs__wanted *w, struct kvs__place *ret);

/*
 * kvs__insert_at - Link the private @e at @p, where kvs__find saw no such key. LP(insert). false: look again.
 *
 * Its stamp must be set; if that is 0 it is settled before the return. Likewise kvs__replace_at.
 */
bool kvs__insert_at(const struct kvs__table *t, const struct kvs__place *p, struct kvs__entry *e);

/*
 * kvs__replace_at - Put the private @e in the place of p->match. LP(replace). false: look again.
 *
 * OWNS: on true p->match is unlinked and the caller's, to be retired.
 */
bool kvs__replace_at(const struct kvs__table *t, const struct kvs__place *p, struct kvs__entry *e);

/*
 * kvs__delete_at - Remove p->match. LP(delete). OWNS and result as kvs__replace_at.
 *
 * @owed        near a cut: the mark says that the removal's stamp is owed, and it is settled before the unlinking.
 */
bool kvs__delete_at(const struct kvs__table *t, const struct kvs__place *p, bool owed);

/*
 * Filters that have become worse than they need be, in two passes over the heads with linking indices from @first to @end, and a grace
 * period between them; inside a section each, by one thread at a time, and with no shrink under way:
 *   kvs__watch_heads     heads with many bits in their filters are watched from now on
 *   kvs__tighten_heads   filters of heads that no insert has covered since are made anew
 * Heads that are not there are left out. Both return about how many nodes were looked at.
 */
uint64_t kvs__watch_heads(struct kvs__table *t, uint64_t first, uint64_t end);
uint64_t kvs__tighten_heads(struct kvs__table *t, uint64_t first, uint64_t end);

/*
 * While a growth's heads are being linked, of so many inserts one links twice as many. Several at once, since each may miss
 * the cache, and side by side these misses cost less.
 */
#ifndef KVS__LINK_EVERY
#define KVS__LINK_EVERY 4u
#endif

/* kvs__link_heads - Claim and link up to @want heads that a growth added. Inside a section. Returns how many. */
uint64_t kvs__link_heads(struct kvs__table *t, uint64_t want);

/*
 * kvs__unlink_heads - Shrink's step 2, in pieces: mark and unlink @count heads of the segment that
 * is being taken away, from its head number @first on. Inside a section. Returns false past its end.
 */
bool kvs__unlink_heads(struct kvs__table *t, uint64_t first, uint64_t count);

#endif
