/* SPDX-License-Identifier: MIT */
/*
 * cut.h - the stamps by which a snapshot tells what was there at its cut. The essay is in cut.c.
 *
 * stamp of an entry, for the snapshot S that runs (S is a multiple of 4; compared for equality only):
 *
 *   0      not settled: published by a LATE writer that has not said yet on which side of the cut
 *   1      removed before the cut
 *   S+1    taken by the walker of S
 *   S+2    written after the cut of S
 *   S+3    written before and removed after the cut: owed to the queue of S by its remover
 *   other  written before the cut
 */
#ifndef KVS_CUT_H
#define KVS_CUT_H

#include "entry.h"

enum kvs__cut_mode {
	KVS__QUIET = 0, /* no snapshot, or its walk is over */
	KVS__LATE = 1,  /* the cut is near: writers stamp after they published */
	KVS__POST = 2,  /* the cut is made: writers know their stamp beforehand */
};

#define KVS__ERA_FIRST 2u /* of a store that had no snapshot yet */

struct kvs_snapshot;

/* One read-mostly line: every write loads it, begin and end of a snapshot store it. */
struct kvs__cut {
	kvs__u32 mode;                          /* (a) enum kvs__cut_mode */
	kvs__u32 era;                           /* (a) S before the cut of S, S+2 from it on */
	_Atomic(struct kvs_snapshot *) running; /* (a) NULL: none */
	kvs__u64 *reader_settles;               /* (s) counted on a line of its own */
};

/* What a writer knows of the cut. Loaded anew for every attempt, mode first. */
struct kvs__view {
	uint32_t mode;
	uint32_t era;
};

KVS_INLINE struct kvs__view kvs__cut_view(struct kvs__cut *c)
{
	struct kvs__view v;

	v.mode = load_seq_cst(&c->mode);
	v.era = load_seq_cst(&c->era);
	return v;
}

/* The stamp with which a writer that saw @v publishes. */
KVS_INLINE uint32_t kvs__view_stamp(struct kvs__view v)
{
	return v.mode == KVS__LATE ? 0 : v.era;
}

/* The snapshot that an era belongs to. */
KVS_INLINE uint32_t kvs__era_snapshot(uint32_t era)
{
	return era & ~(uint32_t)3;
}

/* Was an entry with settled stamp @b written before the cut of @s, and neither taken nor removed? */
KVS_INLINE bool kvs__stamp_is_before(uint32_t b, uint32_t s)
{
	return b > 1 && b - (s + 1) > 2;
}

/* kvs__settle_slow - Settle an entry's own stamp. Lock-free; one CAS. */
void kvs__settle_slow(struct kvs__cut *c, struct kvs__entry *e);

/* kvs__settle - Before anything is answered from, or done to, an entry: its stamp must not be 0. */
KVS_INLINE void kvs__settle(struct kvs__cut *c, struct kvs__entry *e)
{
	if (unlikely(load_seq_cst(&e->stamp) == 0))
		kvs__settle_slow(c, e);
}

/* kvs__settle_delete - Settle the removal of an entry marked "deleted, stamp owed". */
void kvs__settle_delete(struct kvs__cut *c, struct kvs__entry *e);

/* kvs__settle_met - One of the two, by a reader that met it: counted. Never inlined into the read path. */
void kvs__settle_met(struct kvs__cut *c, const struct kvs__entry *e, bool deleted);

/*
 * kvs__owe - A remover whose write is after the cut of @s claims @e for the queue.
 *
 * false: the walker has it, or it was not there at the cut; the remover retires it as usual.
 */
bool kvs__owe(struct kvs__cut *c, struct kvs__entry *e, uint32_t s);

/* kvs__take - The walker of @s claims @e. false: it is not the walker's. */
bool kvs__take(struct kvs__cut *c, struct kvs__entry *e, uint32_t s);

#endif
