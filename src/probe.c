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
 *   begin    hash and route (by the caller); find the head's address; fetch the head
 *   start    load the head's link; if it leads past the key's place the key is absent, by the
 *            window alone; else fetch the node it leads to
 *   rounds   each open lookup makes one step of kvs__lookup(): it looks at the node fetched in the round
 *            before, and is decided, or fetches the next node. Most keys need one round.
 *
 * A link whose window equals the wanted one most likely leads to the wanted entry: then the lines that
 * hold its value are fetched with it. Other nodes are only passed, their first line is enough.
 *
 * Each lookup executes the same loads, in the same order and with the same decisions, as kvs__lookup() does; between
 * two of them those of others may stand, as they may when its thread is preempted. So what CONCURRENCY.md
 * says of a lookup holds for each.
 */
#include "probe.h"

/* Fetch the node that the lookup comes to next. */
KVS_INLINE void fetch(const struct kvs__probe *p)
{
	const char *node = (const char *)kvs__link_entry(p->link);

	__builtin_prefetch(node);
	if (kvs__link_window(p->link) == kvs__order_window(p->order)) {
		__builtin_prefetch(node + KVS_LINE);
		__builtin_prefetch(node + 2 * KVS_LINE);
	}
}

/* Does the next link lead past the key's place? Then the key is absent. Else its node is fetched. */
KVS_INLINE bool is_past(const struct kvs__probe *p)
{
	if (kvs__link_window(p->link) > p->limit)
		return true;
	fetch(p);
	return false;
}

/* From the head, which has been fetched. true: decided. */
KVS_INLINE bool start(struct kvs__probe *p)
{
	uint64_t word = load_seq_cst(p->head);

	if (unlikely(kvs__word_state(word) != KVS__HEAD_LIVE)) {
		struct kvs__start s =
			kvs__start_slow(p->table, p->order >> (64 - p->bits), p->bits);

		word = s.word;
		p->bits = s.bits;
	}
	p->link = word;
	p->limit = kvs__window_limit(p->order, p->bits);
	return is_past(p);
}

static KVS_NOINLINE bool step_head(struct kvs__probe *p)
{
	if (!kvs__pass_head(p->table, p->link, p->order))
		return true;
	p->link = load_seq_cst(kvs__link_head(p->link));
	return is_past(p);
}

/* One node, which has been fetched. true: decided. */
KVS_INLINE bool step(struct kvs__probe *p)
{
	const struct kvs__entry *e;
	uint64_t word;

	KVS_COUNT_STEP();
	if (unlikely(kvs__link_to_head(p->link)))
		return step_head(p);
	e = kvs__link_entry(p->link);
	word = load_seq_cst(&e->next);
	if (e->order == p->order) {
		if (kvs__bytes_equal(e->bytes, p->key, p->order & KVS__KEY_LEN_MASK)) {
			if (likely(!kvs__word_is_marked(word))) {
				if (unlikely(load_seq_cst(&e->stamp) == 0))
					kvs__settle_met(p->table->cut, e, false);
				p->found = e;
				return true;
			}
			if (unlikely(kvs__word_state(word) == KVS__ENTRY_DELETED_OWED))
				kvs__settle_met(p->table->cut, e, true);
		}
	} else if (kvs__order_key(e->order) > kvs__order_key(p->order)) {
		return true;
	}
	p->link = word;
	return is_past(p);
}

void kvs__probe_finish(struct kvs__probe *probes, unsigned n)
{
	uint8_t open[KVS__PROBES];
	unsigned left = 0;
	unsigned i;

	for (i = 0; i < n; i++) {
		open[left] = (uint8_t)i;
		left += !start(&probes[i]);
	}
	while (left) {
		unsigned now = left;

		left = 0;
		for (i = 0; i < now; i++) {
			uint8_t at = open[i];

			open[left] = at;
			left += !step(&probes[at]);
		}
	}
}
