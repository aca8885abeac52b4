/* SPDX-License-Identifier: MIT */
/*
 * probe.c - many lookups at once.
 *
 * WHY   A lookup in a table that is larger than the caches waits for two misses, one after the other: the head,
 * which says where the entry is, and the entry. Lookups of different keys do not depend on each other,
 * so the misses of all can be under way together; the processor does that by itself only as far
 * as it sees ahead, which is two or three gets.
 *
 * HOW   In stages, all keys going through one before the first enters the next:
 *
 *   begin    (by the caller) find the head's address; fetch the head
 *   start    load the head's word, fetch the node that it leads to, unless its filter lacks the key
 *   rounds   each lookup that is still before its key's place looks at the node that was fetched for it: the node's
 *            order key is smaller and the next one is not past the place: fetch that. Else it has arrived, and
 *            the lines that hold a value are fetched. Most keys need one round.
 *   answer   the lookup as ever, from where it has arrived; finds everything in the cache
 *
 * Each stage is a loop of few instructions. A prefetch keeps what follows it from retiring until its page has been
 * found, which takes longer than the line once a table is larger than what the processor knows the pages of:
 * so fetches overlap with each other as far as the processor sees ahead, and with little else.
 *
 * The rounds decide nothing. They pass nodes that a lookup passes: entries that are not the key's, whatever their mark, by their
 * link, loaded once. Where one stops, the lookup goes on as if its thread had been preempted before it came to
 * that node. So what CONCURRENCY.md says of a lookup holds for each.
 */
#include "probe.h"

const kvs__head kvs__probe_nowhere = KVS__HEAD_LIVE; /* nothing follows it */

/* From a head that is not linked: as any lookup, by the size of now, in which the key's bucket may be one whose head is. */
static KVS_NOINLINE uint64_t start_slow(struct kvs__probe *p)
{
	struct kvs__start s = kvs__start_of(p->table, p->order);

	p->limit = kvs__link_limit(p->order, s.bits);
	return kvs__head_word_link(s.word);
}

/*
 * What an entry has behind its first line: one line, two or three, by what stands behind the header. An entry of the
 * first size touches two lines wherever it begins; one of the second, of 144 bytes, three: it begins at a multiple of 16.
 * Most entries of a store are of one size, so the branches are foreseen.
 */
#define TAIL_ONE 40u
#define TAIL_TWO 112u

KVS_INLINE void fetch_rest(const struct kvs__entry *e)
{
	size_t tail = kvs__entry_key_len(e) + e->extent;

	__builtin_prefetch((const char *)e + KVS_LINE);
	if (tail > TAIL_ONE)
		__builtin_prefetch((const char *)e + 2 * KVS_LINE);
	if (tail > TAIL_TWO)
		__builtin_prefetch((const char *)e + 2 * KVS_LINE + KVS_LINE / 2);
}

/* From the head, which has been fetched. true: there is a node to look at. */
KVS_INLINE bool start(struct kvs__probe *p)
{
	uint64_t word = load_seq_cst(p->head);

	p->link = kvs__head_word_link(word);
	if (unlikely(!kvs__head_is_live(word)))
		p->link = start_slow(p);
	else if (kvs__filter_lacks(word, p->order) &&
		 (!p->table || kvs__size_stands(p->table, p->size)))
		p->link = KVS__LINK_END;
	if (kvs__link_to_head(p->link))
		return false;
	__builtin_prefetch(kvs__link_entry(p->link));
	return true;
}

/* One entry, which has been fetched. true: it was passed, and there is another to look at. */
KVS_INLINE bool pass(struct kvs__probe *p)
{
	const struct kvs__entry *e = kvs__link_entry(p->link);
	uint64_t word = load_seq_cst(&e->next);
	unsigned before = kvs__order_key(e->order) < kvs__order_key(p->order);
	unsigned within = word <= p->limit;
	unsigned entry = !kvs__link_to_head(word);

	KVS_COUNT_STEP();
	/* One branch for all. Other heads are rare, and left to the answer. */
	if (before & within & entry) {
		p->link = word;
		__builtin_prefetch(kvs__link_entry(word));
		return true;
	}
	fetch_rest(e);
	return false;
}

void kvs__probe_run(struct kvs__probe *probes, unsigned n)
{
	uint8_t open[KVS__PROBES];
	unsigned left = 0;
	unsigned i;

	for (i = 0; i < n; i++) {
		open[left] = (uint8_t)i;
		if (start(&probes[i]))
			left++;
	}
	while (left) {
		unsigned now = left;

		left = 0;
		for (i = 0; i < now; i++) {
			uint8_t at = open[i];

			open[left] = at;
			if (pass(&probes[at]))
				left++;
		}
	}
}

const struct kvs__entry *kvs__probe_answer_slow(const struct kvs__probe *p,
						const struct kvs_slice *key)
{
	return kvs__lookup_from(p->table, p->order, key->data, p->link, kvs__link_window(p->limit));
}
