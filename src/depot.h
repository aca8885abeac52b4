/* SPDX-License-Identifier: MIT */
/*
 * depot.h - freed blocks of one size on their way to the next writer, by the magazine.
 *
 * A depot keeps magazines of freed blocks. Who frees puts blocks in, who allocates exchanges an empty
 * magazine for one with blocks: neither looks at where the blocks lie, and many change hands under one
 * lock. Magazine and depot as in Bonwick and Adams, Magazines and Vmem, USENIX 2001.
 *
 * No locking here: the caller's lock protects a depot (arena.c). Zeroed memory is an empty one.
 */
#ifndef KVS_DEPOT_H
#define KVS_DEPOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KVS__MAGAZINE_BLOCKS 62u

/* Blocks in [next, count) are in it. */
struct kvs__magazine {
	struct kvs__magazine *link; /* in a depot */
	uint32_t next;
	uint32_t count;
	void *block[KVS__MAGAZINE_BLOCKS];
};

struct kvs__depot {
	struct kvs__magazine *full;
	struct kvs__magazine *filling; /* or NULL */
	struct kvs__magazine *empty;   /* for those that put */
	size_t kept;                   /* blocks in full ones and in filling */
};

/* kvs__magazine_new - An empty one, from malloc, or NULL: no memory. The caller's. */
struct kvs__magazine *kvs__magazine_new(void);

/* kvs__magazine_is_empty - Has it no block? */
static inline bool kvs__magazine_is_empty(const struct kvs__magazine *m)
{
	return m->next == m->count;
}

/* kvs__magazine_pop - Take a block out of one that is not empty. */
static inline void *kvs__magazine_pop(struct kvs__magazine *m)
{
	return m->block[m->next++];
}

/* kvs__depot_put - Keep @block, @per_magazine to each. false: no memory for a magazine, and nothing was done. */
bool kvs__depot_put(struct kvs__depot *d, void *block, uint32_t per_magazine);

/*
 * kvs__depot_exchange - A magazine with blocks for the empty one @m, or NULL if none is kept; then @m stays the caller's.
 */
struct kvs__magazine *kvs__depot_exchange(struct kvs__depot *d, struct kvs__magazine *m);

/* kvs__depot_get - One block, or NULL: none is kept. */
void *kvs__depot_get(struct kvs__depot *d);

/* kvs__depot_take - A magazine with blocks, or NULL. OWNS: the caller, who frees it. */
struct kvs__magazine *kvs__depot_take(struct kvs__depot *d);

/* kvs__depot_take_empty - The empty ones, a list. OWNS: the caller. kvs__magazines_free - Free such a list. */
struct kvs__magazine *kvs__depot_take_empty(struct kvs__depot *d);
void kvs__magazines_free(struct kvs__magazine *list);

/* kvs__depot_release - Free all magazines; the blocks are forgotten. */
void kvs__depot_release(struct kvs__depot *d);

#endif
