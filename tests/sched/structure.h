/* SPDX-License-Identifier: MIT */
/* structure.h - is a table at rest as it must be? */
#ifndef SCHED_STRUCTURE_H
#define SCHED_STRUCTURE_H

#include "list.h"

#define STRUCTURE_ENTRIES 16u

/* What was found. */
struct structure {
	unsigned entries;
	const struct kvs__entry *entry[STRUCTURE_ENTRIES];
	unsigned heads; /* linked */
	unsigned full;  /* of them, with a full filter */
	unsigned segments;
	unsigned live;  /* blocks of the heap */
	uint64_t count; /* as the table says */
};

/*
 * structure_read - Walk @t, which nobody uses. Returns what is wrong with it, or NULL.
 *
 * @all         false: only up to head number 1, behind which there is no key.
 */
const char *structure_read(const struct kvs__table *t, struct structure *ret, bool all);

#endif
