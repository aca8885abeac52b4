/* SPDX-License-Identifier: MIT */
/*
 * heap.h - the store's memory under the explorer: every byte is known, none is used twice.
 *
 * Set-up allocates from the image. heap_seal() keeps a copy, and heap_restore() brings every byte
 * back, so that a schedule starts from the very same store for the price of a memcpy. Each fiber
 * allocates from a region of its own, so addresses do not depend on the schedule.
 *
 * A freed block is filled with a pattern and never handed out again before the next restore. An
 * atomic access to it is a failure at once (heap_word_is_live), any other access to it is one
 * under AddressSanitizer, and a write is one at the end of the schedule (heap_damaged).
 */
#ifndef SCHED_HEAP_H
#define SCHED_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvs.h"

#define HEAP_REGIONS 6u /* one a fiber, one for the main context once the image is sealed */
#define HEAP_IMAGE ((size_t)80 << 10)
#define HEAP_REGION ((size_t)16 << 10)
#define HEAP_BIG ((size_t)448 << 10) /* where blocks go that no region has room for */
#define HEAP_SIZE (HEAP_IMAGE + HEAP_REGIONS * HEAP_REGION + HEAP_BIG)
#define HEAP_WORDS (HEAP_SIZE / 8)

/* The first words of the heap are never allocated: names for things that are no memory. */
#define HEAP_WORD_RCU 1u
#define HEAP_WORD_CLOCK 2u /* the store's clock: restored like all else */

extern unsigned char heap_bytes[HEAP_SIZE];

extern const struct kvs_allocator heap_allocator;

/* heap_reset - Forget everything. heap_seal, heap_restore - see above. */
void heap_reset(void);
void heap_seal(void);
void heap_restore(void);

/* heap_region - Allocate from region @r from now on. */
void heap_region(unsigned r);

/* heap_live - Blocks allocated and not freed. heap_frees - Blocks freed since the last restore. */
unsigned heap_live(void);
unsigned heap_frees(void);

/* heap_damaged - Was a freed block written to since the last restore? */
bool heap_damaged(void);

/* heap_word - The number of the word at @p, or 0 if that is not in the heap. */
static inline size_t heap_word(const volatile void *p)
{
	size_t offset = (size_t)((uintptr_t)p - (uintptr_t)heap_bytes);

	return offset < HEAP_SIZE ? offset / 8 : 0;
}

enum heap_state { HEAP_NEVER, HEAP_LIVE, HEAP_FREED };
extern unsigned char heap_granule[HEAP_SIZE / 16]; /* enum heap_state */

static inline bool heap_word_is_live(size_t word)
{
	return heap_granule[word / 2] == HEAP_LIVE;
}

#endif
