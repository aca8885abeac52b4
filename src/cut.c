/* SPDX-License-Identifier: MIT */
/*
 * cut.c - one instant for all shards, without stopping anybody.
 *
 * WHY IT IS NOT ENOUGH TO WAIT  A writer that has read "no cut yet" can be preempted, and publish long after
 * another, later write was published and seen. A grace period tells when the first has finished,
 * not which of the two belongs in front. So near the cut a write is stamped after it is visible, and whoever
 * sees it first helps: from then on everybody agrees on which side it lies.
 *
 * PROTOCOL  of snapshot S:
 *
 *   begin    era = S; mode = LATE; grace period. Every write that saw QUIET has ended and has
 *            unlinked what it removed: it lies before the cut as a whole.
 *   cut      era = S+2; mode = POST.
 *   walk     takes each entry that was written before the cut and not removed before it.
 *   end      mode = QUIET; grace period; the rest of the queue.
 *
 * A writer loads mode, then era, inside its section, anew for every attempt.
 *
 *   QUIET, POST  publish with stamp = era; mark deletes plainly.
 *   LATE         publish with stamp 0, then settle: CAS(stamp, 0, era as it is now); mark deletes
 *                "stamp owed", then settle: CAS(stamp, b, era is before the cut ? 1 : S+3).
 *
 * Whoever meets an unsettled entry or removal settles it with the same CAS, inside its section, before it
 * answers anything from it, replaces it or unlinks it: readers, writers in any mode, the walker.
 *
 * A remover (LATE, POST) whose own write lies after the cut claims what it removed for the queue,
 * by CAS(stamp, b, S+3), unlinks it, and only then pushes it. The walker claims by CAS(stamp, b, S+1).
 * So each entry of the cut comes out once: from the walk or from the queue.
 *
 * INVARIANTS
 *
 * INV-C1  A stamp goes from 0 to an era, from a before-stamp to 1, S+1 or S+3, once each; S+2 never
 *         changes while S runs.
 * INV-C2  Nothing that was answered rests on an unsettled entry or removal.
 * INV-C3  QUIET and POST writes linearize at their CAS; a LATE one at the load of era whose value was
 *         installed, which is after its CAS and before anybody acted on it.
 * INV-C4  S advances only after a grace period behind the end of the last, so nobody settles with the
 *         era of one snapshot what belongs to another.
 * INV-C5  A remover pushes after it unlinked, so the consumer may retire at once.
 */
#include "cut.h"

KVS_INLINE void settle(struct kvs__cut *c, struct kvs__entry *e)
{
	uint32_t unsettled = 0;

	if (load_seq_cst(&e->stamp) == 0)
		(void)cas_seq_cst(&e->stamp, &unsettled, load_seq_cst(&c->era));
}

KVS_INLINE void settle_delete(struct kvs__cut *c, struct kvs__entry *e)
{
	uint32_t b;
	uint32_t era;

	do {
		settle(c, e);
		b = load_seq_cst(&e->stamp);
		era = load_seq_cst(&c->era);
		if (!kvs__stamp_is_before(b, kvs__era_snapshot(era)))
			return;
	} while (!cas_seq_cst(&e->stamp, &b, era & 2 ? kvs__era_snapshot(era) + 3 : 1));
}

KVS_COLD void kvs__settle_slow(struct kvs__cut *c, struct kvs__entry *e)
{
	settle(c, e);
}

KVS_COLD void kvs__settle_delete(struct kvs__cut *c, struct kvs__entry *e)
{
	settle_delete(c, e);
}

/* A reader may write this one word, and only in the sections around a cut. One function, calling none. */
KVS_COLD void kvs__settle_met(struct kvs__cut *c, const struct kvs__entry *e, bool deleted)
{
	struct kvs__entry *writable = (struct kvs__entry *)(uintptr_t)e;

	if (deleted)
		settle_delete(c, writable);
	else
		settle(c, writable);
	fetch_add_relaxed(c->reader_settles, 1);
}

static bool claim(struct kvs__cut *c, struct kvs__entry *e, uint32_t s, uint32_t stamp)
{
	uint32_t b;

	kvs__settle(c, e);
	b = load_seq_cst(&e->stamp);
	while (kvs__stamp_is_before(b, s))
		if (cas_seq_cst(&e->stamp, &b, stamp))
			return true;
	return false;
}

bool kvs__owe(struct kvs__cut *c, struct kvs__entry *e, uint32_t s)
{
	return claim(c, e, s, s + 3);
}

bool kvs__take(struct kvs__cut *c, struct kvs__entry *e, uint32_t s)
{
	return claim(c, e, s, s + 1);
}
