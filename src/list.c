/* SPDX-License-Identifier: MIT */
/*
 * list.c - one sorted list of all entries and bucket heads of a table.
 *
 * WHAT  A split-ordered list (Shalev and Shavit, J. ACM 2006) with the marks of Harris (DISC 2001)
 * and the unlinking of Michael (SPAA 2002), and one addition: an entry is replaced by one CAS.
 *
 * PICTURE   head 0 -> e -> e -> head 01 -> e -> head 1 -> e -> e -> end
 *           order keys never decrease; heads end in 0, entries in 1, so a head stands before the
 *           entries of its bucket; entries with equal order keys (a "run") stand together.
 *
 * REPLACE   old.next: (succ, live) -> (new, replaced), where new.next = succ was set before. The one CAS marks the
 *           old entry and links the new one behind it. A reader at the old entry loads its link once: unmarked, the
 *           old value is the answer; marked replaced, the new entry is the next it meets.
 *
 * INVARIANTS
 *
 * INV-L1  A marked link never changes again. So nothing is ever inserted behind a marked node.
 * INV-L2  An unmarked node that was linked is reachable from head 0 and from every live head
 *         before it, until it is marked.
 * INV-L3  A new key goes before all entries of its order key. So a walk that met the first entry of a run
 *         meets, of any one key, no two lives: a re-insert stands behind the walker.
 * INV-L4  Walkers that give out entries load a link once, judge the mark by it and go on by it.
 *         Loading again would give out an entry and its replacement.
 * INV-L5  A node is retired by the thread that marked it, after a walk from a live head that passed
 *         its place and unlinked every marked node on the way (or after the CAS that took it from
 *         an unmarked predecessor). So it is unreachable, and no marked node that is still
 *         reachable points to it: what precedes it in the run has been unlinked before.
 * INV-L6  At most one unmarked entry of a key is reachable: an insert's CAS on the link before
 *         the run succeeds only if nothing entered the run since it was searched.
 * INV-L7  Every access is made inside one read section, so a node met in it is not freed
 *         before it ends (GP: from unlinking to free), and no address comes back as another node:
 *         a CAS that finds the expected link finds the same node.
 *
 * INV-F1  The filter of a linked head has the bit of every entry, marked or not, between it and the next linked head;
 *         it is empty if and only if that is the successor.
 *
 * FILTERS   An insert behind a head sets its bit by the CAS that links it; behind an entry it covers its key in the last head that it
 * passed, before that CAS. A head that is linked among entries begins with a full filter, and so does the head before one that is removed:
 * inserts under way may have covered their key elsewhere. A CAS after which a head follows a head empties the filter: an insert that has
 * covered its key there and is not linked yet stands behind an entry that is marked by now, and will look again. So a filter that filled up is
 * rid of what has left when its bucket becomes empty, unless a key stays there. Those with many bits are made anew by maintenance: it
 * sets heads to watched, waits for a grace period, so that all inserts that did not see that are linked, then makes the filter of what it meets
 * and puts it in place by a CAS. An insert that covers its key in a watched head takes the watch away, and that CAS fails.
 *
 * PROGRESS  Lookup never retries. Find restarts when a CAS fails, that is, when another thread's
 * insert, replace, delete or unlink succeeded at that very link, or, at a head, a cover or maintenance did: a cover adds one of 16 bits
 * or ends a watch, and maintenance comes by once a pass. Or it restarts when there was nothing to cover, since another's unlinking or linking
 * had succeeded. Only writers unlink.
 */
#include "list.h"

bool kvs__pass_head(const struct kvs__table *t, uint64_t link, uint64_t order)
{
	if (kvs__link_is_end(link))
		return false;
	return kvs__head_order(t, kvs__link_head(link)) <= order;
}

const struct kvs__entry *kvs__lookup_long(const struct kvs__table *t, uint64_t order,
					  const unsigned char *key)
{
	struct kvs__start s = kvs__start_of(t, order);

	return kvs__lookup_from(t, order, key, kvs__head_word_link(s.word),
				kvs__window_limit(order, s.bits));
}

/* ---- lookup of what may have expired ---- */

/*
 * The clock is read after the entry was found. Past the deadline, the entry's link is loaded again: if it was replaced
 * meanwhile, perhaps by a write that finished before the deadline, the key may never have been absent, and the
 * lookup goes on from that link as if it had met the entry marked.
 */
const struct kvs__entry *kvs__lookup_timed(const struct kvs__clock *c, const struct kvs__table *t,
					   uint64_t order, const unsigned char *key,
					   const struct kvs__entry *e)
{
	while (e && kvs__entry_is_timed(e) && kvs__entry_has_expired(c, e)) {
		uint64_t word = load_seq_cst(&e->next); /* LP(lookup, expired) */

		if (!kvs__word_is_marked(word))
			return NULL;
		if (unlikely(kvs__word_state(word) == KVS__ENTRY_DELETED_OWED))
			kvs__settle_met(t->cut, e, true);
		e = kvs__lookup_from(t, order, key, word, KVS__WINDOW_MAX);
	}
	return e;
}

/* ---- find ---- */

/* A marked entry is about to be taken out, or its key reported absent: its removal must be settled. */
static void settle_removal(const struct kvs__table *t, struct kvs__entry *e, uint64_t word)
{
	if (unlikely(kvs__word_state(word) == KVS__ENTRY_DELETED_OWED))
		kvs__settle_delete(t->cut, e);
}

/* The word of @pred_word's holder when @link follows it: a head keeps its filter, as long as entries follow. */
KVS_INLINE uint64_t word_with(uint64_t pred_word, uint64_t link)
{
	if (kvs__word_of_head(pred_word))
		return kvs__head_word_make(link, kvs__filter_of(pred_word),
					   kvs__word_state(pred_word));
	return kvs__word_link(link) | KVS__ENTRY_LIVE;
}

/* Take the marked entry with link @word out from behind @pred. On success *pred_word is the new word. */
static bool unlink_next(kvs__u64 *pred, uint64_t *pred_word, uint64_t word)
{
	uint64_t expected = *pred_word;
	uint64_t next = word_with(expected, word);

	KVS_COUNT_STEP();
	if (!cas_seq_cst(pred, &expected, next))
		return false;
	*pred_word = next;
	return true;
}

/*
 * INV-F1: the filter of @h gets the bits of @filter before an entry comes behind the entries that follow it, and is
 * watched no more. false: none do any more, or it was removed; look again.
 */
static bool cover(kvs__head *h, uint64_t filter)
{
	uint64_t word = load_seq_cst(h);
	uint64_t next;

	do {
		KVS_COUNT_STEP();
		if (kvs__word_is_marked(word) || !kvs__filter_of(word))
			return false;
		next = word | filter;
		if (kvs__word_state(word) == KVS__HEAD_WATCHED)
			next ^= KVS__HEAD_WATCHED ^ KVS__HEAD_LIVE;
	} while (next != word && !cas_seq_cst(h, &word, next));
	return true;
}

/* The link that a head's @word holds, with its window. */
static uint64_t link_with_window(const struct kvs__table *t, uint64_t word)
{
	uint64_t link = kvs__head_word_link(word);

	if (kvs__link_is_end(link))
		return KVS__LINK_END;
	if (kvs__link_to_head(link))
		return kvs__link_make_head(kvs__link_head(link),
					   kvs__head_order(t, kvs__link_head(link)));
	return kvs__link_make_entry(kvs__link_entry(link));
}

/* Take the removed head with @word out from behind p->pred. Its entries are the head's before it from now on: INV-F1. */
static bool unlink_head(const struct kvs__table *t, struct kvs__place *p, uint64_t word)
{
	uint64_t link = link_with_window(t, word);
	uint64_t expected = p->pred_word;
	uint64_t next;

	if (kvs__word_of_head(expected))
		next = kvs__head_word_make(link, KVS__FILTER_FULL,
					   kvs__head_is_live(expected) ? KVS__HEAD_LIVE
								       : KVS__HEAD_CLAIMED);
	else if (cover(p->head, KVS__FILTER_FULL))
		next = kvs__word_link(link) | KVS__ENTRY_LIVE;
	else
		return false;
	KVS_COUNT_STEP();
	if (!cas_seq_cst(p->pred, &expected, next))
		return false;
	p->pred_word = next;
	p->link = link;
	return true;
}

enum step { STEP_ON, STEP_STOP, STEP_LOST };

/* At a head: pass it, unlink it if shrink removed it, or stop before it. */
static enum step step_head(const struct kvs__table *t, struct kvs__place *p, uint64_t order)
{
	kvs__head *h = kvs__link_head(p->link);
	uint64_t at;
	uint64_t word;

	if (kvs__link_is_end(p->link)) {
		p->link = KVS__LINK_END;
		return STEP_STOP;
	}
	at = kvs__head_order(t, h);
	if (at > order) {
		p->link = kvs__link_make_head(h, at);
		return STEP_STOP;
	}
	word = load_seq_cst(h);
	if (kvs__word_is_marked(word))
		return unlink_head(t, p, word) ? STEP_ON : STEP_LOST;
	p->pred = h;
	p->pred_word = word;
	p->link = kvs__head_word_link(word);
	p->head = h;
	return STEP_ON;
}

/* At an entry before the run: pass it, unlink it if marked, or stop before it. */
static enum step step_entry(const struct kvs__table *t, struct kvs__place *p, uint64_t order)
{
	struct kvs__entry *e = kvs__link_entry(p->link);
	uint64_t word = load_seq_cst(&e->next);

	if (kvs__word_is_marked(word) && kvs__order_key(e->order) <= kvs__order_key(order)) {
		settle_removal(t, e, word);
		p->link = kvs__word_link(word);
		return unlink_next(p->pred, &p->pred_word, word) ? STEP_ON : STEP_LOST;
	}
	if (kvs__order_key(e->order) >= kvs__order_key(order)) {
		p->link = kvs__link_make_entry(e);
		return STEP_STOP;
	}
	p->pred = &e->next;
	p->pred_word = word;
	p->link = word;
	return STEP_ON;
}

/* Walk to the last link before the run of @order. false: a CAS was lost, start again. */
static bool find_run(const struct kvs__table *t, uint64_t order, struct kvs__place *p)
{
	struct kvs__start s = kvs__start_of(t, order);
	uint64_t limit = kvs__window_limit(order, s.bits);
	enum step step = STEP_ON;

	p->pred = s.head;
	p->pred_word = s.word;
	p->link = kvs__head_word_link(s.word);
	p->head = s.head;
	while (step == STEP_ON && kvs__link_window(p->link) <= limit) {
		KVS_COUNT_STEP();
		if (kvs__link_to_head(p->link))
			step = step_head(t, p, order);
		else
			step = step_entry(t, p, order);
	}
	return step != STEP_LOST;
}

static bool is_in_run(uint64_t link, uint64_t order)
{
	return !kvs__link_to_head(link) && kvs__link_window(link) == kvs__order_window(order) &&
	       kvs__order_key(kvs__link_entry(link)->order) == kvs__order_key(order);
}

/* Search the run behind p->pred for the key. false: a CAS was lost, start again. */
static bool find_in_run(const struct kvs__table *t, const struct kvs__wanted *w,
			struct kvs__place *p)
{
	kvs__u64 *pred = p->pred;
	uint64_t pred_word = p->pred_word;
	uint64_t link = p->link;

	while (is_in_run(link, w->order)) {
		struct kvs__entry *e = kvs__link_entry(link);
		uint64_t word = load_seq_cst(&e->next);

		KVS_COUNT_STEP();
		if (kvs__word_is_marked(word)) {
			settle_removal(t, e, word);
			if (!unlink_next(pred, &pred_word, word))
				return false;
			link = kvs__word_link(word);
			if (pred == p->pred) {
				p->pred_word = pred_word;
				p->link = link;
			}
			continue;
		}
		if (w->key && e->order == w->order &&
		    kvs__bytes_equal(e->bytes, w->key, w->order & KVS__KEY_LEN_MASK)) {
			kvs__settle(t->cut, e);
			p->match = e;
			p->match_word = word;
			p->match_pred = pred;
			p->match_pred_word = pred_word;
			return true;
		}
		pred = &e->next;
		pred_word = word;
		link = word;
	}
	return true;
}

/* From the head of an empty bucket, with its window, the @link that leads to the next one; 0: not behind @order. */
KVS_INLINE uint64_t link_behind_empty(const struct kvs__table *t, uint64_t link, uint64_t order,
				      unsigned bits)
{
	uint64_t next = (order >> (64 - bits)) +
			1; /* the next bucket, whose head is the next one, mostly */
	kvs__head *h = kvs__link_head(link);
	uint64_t at;

	if (kvs__link_is_end(link))
		return KVS__LINK_END;
	if (likely(next >> bits == 0 && h == kvs__head_of(t, next, bits)))
		return kvs__link_make_head(h, next << (64 - bits));
	at = kvs__head_order(t, h);
	return at > order ? kvs__link_make_head(h, at) : 0;
}

/*
 * kvs__find for the case that is nearly always the case: false, with @ret void, when a bucket whose head is
 * not linked, another head, a mark, or a run that does not begin with the key was met.
 */
KVS_INLINE bool find_straight(const struct kvs__table *t, const struct kvs__wanted *w,
			      struct kvs__place *ret)
{
	unsigned bits = kvs__size_bits(load_seq_cst(&t->size));
	kvs__head *head = kvs__head_of(t, w->order >> (64 - bits), bits);
	kvs__u64 *pred = head;
	uint64_t pred_word = load_seq_cst(head);
	uint64_t limit = kvs__link_limit(w->order, bits);
	uint64_t link = pred_word & KVS__ADDRESS_MASK;

	if (unlikely(!kvs__head_is_live(pred_word)))
		return false;
	if (!kvs__filter_of(pred_word)) {
		link = link_behind_empty(t, link, w->order, bits);
		*ret = (struct kvs__place){ head, pred_word, link, head, NULL, 0, NULL, 0 };
		return link != 0;
	}
	while (link <= limit) {
		struct kvs__entry *e = kvs__link_entry(link);
		uint64_t word;

		KVS_COUNT_STEP();
		if (unlikely(kvs__link_to_head(link)))
			return false;
		word = load_seq_cst(&e->next);
		if (unlikely(kvs__word_is_marked(word)))
			return false;
		if (e->order == w->order &&
		    kvs__bytes_equal(e->bytes, w->key, w->order & KVS__KEY_LEN_MASK)) {
			kvs__settle(t->cut, e);
			*ret = (struct kvs__place){ pred, pred_word, link, head,
						    e,    word,      pred, pred_word };
			return true;
		}
		if (kvs__order_key(e->order) > kvs__order_key(w->order)) {
			link = kvs__link_make_entry(e);
			break;
		}
		if (unlikely(kvs__order_key(e->order) == kvs__order_key(w->order)))
			return false;
		pred = &e->next;
		pred_word = word;
		link = word;
	}
	*ret = (struct kvs__place){ pred, pred_word, link, head, NULL, 0, NULL, 0 };
	return true;
}

void kvs__find(const struct kvs__table *t, const struct kvs__wanted *w, struct kvs__place *ret)
{
	if (likely(w->key && find_straight(t, w, ret)))
		return;
	ret->match = NULL;
	while (!find_run(t, w->order, ret) || !find_in_run(t, w, ret))
		KVS_COUNT_STEP();
}

/* ---- insert, replace, delete ---- */

bool kvs__insert_at(const struct kvs__table *t, const struct kvs__place *p, struct kvs__entry *e)
{
	uint64_t expected = p->pred_word;
	uint64_t next = kvs__link_make_entry(e) | KVS__ENTRY_LIVE;

	store_relaxed(&e->next, kvs__word_link(p->link) | KVS__ENTRY_LIVE);
	if (kvs__word_of_head(expected))
		next = kvs__head_word_make(next,
					   kvs__filter_of(expected) | kvs__filter_bit(e->order),
					   kvs__word_state(expected));
	else if (!cover(p->head, kvs__filter_bit(e->order)))
		return false;
	/* LP(insert). PAIRS(L1): the entry's fields are written before any walker can load its address. */
	if (!cas_seq_cst(p->pred, &expected, next))
		return false;
	kvs__settle(t->cut, e);
	return true;
}

/* The marked p->match leaves the list, and is left to the caller, by INV-L5. */
static void unlink_match(const struct kvs__table *t, const struct kvs__place *p, uint64_t marked)
{
	struct kvs__wanted run = { p->match->order, NULL };
	struct kvs__place ignored;
	uint64_t pred_word = p->match_pred_word;

	if (!unlink_next(p->match_pred, &pred_word, marked))
		kvs__find(t, &run, &ignored);
}

/* How an entry leaves that @e takes the place of: with its value, or without (entry.h). */
KVS_INLINE enum kvs__state state_of_replaced(const struct kvs__entry *old,
					     const struct kvs__entry *e)
{
	if (likely(!(e->extent & KVS__EXTENT_BLOCK)) || !(old->extent & KVS__EXTENT_BLOCK) ||
	    kvs__entry_block(e) != kvs__entry_block(old))
		return KVS__ENTRY_REPLACED;
	return KVS__ENTRY_RENEWED;
}

bool kvs__replace_at(const struct kvs__table *t, const struct kvs__place *p, struct kvs__entry *e)
{
	uint64_t expected = p->match_word;
	uint64_t marked = kvs__link_make_entry(e) | state_of_replaced(p->match, e);

	store_relaxed(&e->next, kvs__word_link(expected) | KVS__ENTRY_LIVE);
	/* LP(replace). PAIRS(L1). */
	if (!cas_seq_cst(&p->match->next, &expected, marked))
		return false;
	kvs__settle(t->cut, e);
	unlink_match(t, p, marked);
	return true;
}

bool kvs__delete_at(const struct kvs__table *t, const struct kvs__place *p, bool owed)
{
	uint64_t expected = p->match_word;
	uint64_t marked =
		kvs__word_link(expected) | (owed ? KVS__ENTRY_DELETED_OWED : KVS__ENTRY_DELETED);

	/* LP(delete) */
	if (!cas_seq_cst(&p->match->next, &expected, marked))
		return false;
	settle_removal(t, p->match, marked);
	unlink_match(t, p, marked);
	return true;
}

/* ---- heads ---- */

/* Let lookups start at a linked head. Others may change its address part meanwhile, not its state. */
static void head_set_state(kvs__head *h, enum kvs__state state)
{
	uint64_t word = load_seq_cst(h);

	while (!cas_seq_cst(h, &word, (word & ~KVS__STATE_MASK) | state))
		KVS_COUNT_STEP();
}

static void head_link(struct kvs__table *t, kvs__head *h, uint64_t order)
{
	uint64_t empty = 0;
	uint64_t expected;
	struct kvs__place p;

	/* INV-B2: the claim; whoever loses it goes on without the head. */
	if (!cas_seq_cst(h, &empty, kvs__head_word_make(KVS__LINK_END, 0, KVS__HEAD_CLAIMED)))
		return;
	do {
		while (!find_run(t, order, &p))
			KVS_COUNT_STEP();
		expected = p.pred_word;
		store_seq_cst(h, kvs__head_word_make(p.link, KVS__FILTER_FULL, KVS__HEAD_CLAIMED));
	} while (!cas_seq_cst(p.pred, &expected,
			      word_with(expected, kvs__link_make_head(h, order))));
	head_set_state(h, KVS__HEAD_LIVE);
	fetch_add_relaxed(&t->linked, 1);
	if (!kvs__link_to_head(p.link))
		fetch_add_relaxed(&t->filled, 1);
}

/* A head of order key @order is to be linked, mostly behind what follows its ancestor: fetch that. */
static void fetch_place(const struct kvs__table *t, uint64_t order)
{
	unsigned bits =
		64u - (unsigned)__builtin_ctzll(order | (uint64_t)1 << (64 - KVS__BITS_MIN));
	uint64_t prefix = order >> (64 - bits);
	uint64_t word = load_relaxed(kvs__head_of(t, prefix & (prefix - 1), bits));

	if (kvs__filter_of(word))
		__builtin_prefetch(kvs__link_entry(word));
}

uint64_t kvs__link_heads(struct kvs__table *t, uint64_t want)
{
	uint64_t first = 0;
	uint64_t n = kvs__table_claim(t, want, &first);
	uint64_t i;

	for (i = 0; i < n; i++) {
		uint64_t order;

		(void)kvs__head_at(t, first + i, &order);
		fetch_place(t, order);
	}
	for (i = 0; i < n; i++) {
		uint64_t order;
		kvs__head *h = kvs__head_at(t, first + i, &order);

		head_link(t, h, order);
	}
	return n;
}

static void head_remove(struct kvs__table *t, kvs__head *h, uint64_t order)
{
	enum kvs__state was = kvs__word_state(load_seq_cst(h));
	struct kvs__place ignored;

	/* Claimed now: its claimer was lost in a fork, perhaps when it had linked it. */
	if (was != KVS__HEAD_LIVE && was != KVS__HEAD_CLAIMED && was != KVS__HEAD_WATCHED)
		return;
	head_set_state(h, KVS__HEAD_REMOVED);
	while (!find_run(t, order, &ignored))
		KVS_COUNT_STEP();
	if (was != KVS__HEAD_CLAIMED)
		fetch_sub_relaxed(&t->linked, 1);
	fetch_add_relaxed(&t->filled, 1); /* of the head before it, mostly */
}

bool kvs__unlink_heads(struct kvs__table *t, uint64_t first, uint64_t count)
{
	unsigned bits = kvs__size_bits(load_seq_cst(&t->size));
	uint64_t heads = (uint64_t)1 << bits; /* of the upper segment, as of all below it */
	uint64_t i;

	for (i = first; i < first + count && i < heads; i++) {
		uint64_t order;
		kvs__head *h = kvs__head_at(t, heads + i, &order);

		head_remove(t, h, order);
	}
	return i < heads;
}

/* ---- filters ---- */

#define WATCH_BITS 4 /* two entries or three, in few buckets */

static uint64_t heads_from(const struct kvs__table *t, uint64_t end)
{
	uint64_t heads = kvs__table_buckets(t);

	return end < heads ? end : heads;
}

uint64_t kvs__watch_heads(struct kvs__table *t, uint64_t first, uint64_t end)
{
	uint64_t i;

	end = heads_from(t, end);
	for (i = first; i < end; i++) {
		uint64_t order;
		kvs__head *h = kvs__head_at(t, i, &order);
		uint64_t word = load_seq_cst(h);

		/* One attempt: one that changes meanwhile is left to a later pass. */
		if (__builtin_popcountll(kvs__filter_of(word)) >= WATCH_BITS &&
		    kvs__word_state(word) == KVS__HEAD_LIVE)
			(void)cas_seq_cst(h, &word, word ^ KVS__HEAD_LIVE ^ KVS__HEAD_WATCHED);
	}
	return end > first ? end - first : 0;
}

/* The filter of what follows the head that holds @word, up to the next head. */
static uint64_t filter_anew(uint64_t word, uint64_t *nodes)
{
	uint64_t link = kvs__head_word_link(word);
	uint64_t filter = 0;

	while (!kvs__link_to_head(link)) {
		const struct kvs__entry *e = kvs__link_entry(link);

		KVS_COUNT_STEP();
		++*nodes;
		filter |= kvs__filter_bit(e->order);
		link = load_seq_cst(&e->next);
	}
	return filter;
}

uint64_t kvs__tighten_heads(struct kvs__table *t, uint64_t first, uint64_t end)
{
	uint64_t nodes = 0;
	uint64_t i;

	end = heads_from(t, end);
	for (i = first; i < end; i++) {
		uint64_t order;
		kvs__head *h = kvs__head_at(t, i, &order);
		uint64_t word = load_seq_cst(h);

		nodes++;
		if (kvs__word_state(word) == KVS__HEAD_WATCHED)
			(void)cas_seq_cst(h, &word,
					  kvs__head_word_make(kvs__head_word_link(word),
							      filter_anew(word, &nodes),
							      KVS__HEAD_LIVE));
	}
	return nodes;
}
