/* SPDX-License-Identifier: MIT */
/*
 * pages.h - huge pages shared by directory segments that are smaller than one.
 *
 * A lookup's first miss is a bucket head, and on small pages it costs a walk of the page table
 * besides. A segment of 2 MiB or more has huge pages of its own; the smaller ones of all tables are
 * laid together into chunks of 2 MiB.
 */
#ifndef KVS_PAGES_H
#define KVS_PAGES_H

#include <pthread.h>

#include "atomic.h"
#include "mem.h"

#define KVS__PAGES_MIN ((size_t)64 << 10) /* smallest block; smaller segments come from calloc */

struct kvs__pages_chunk;

struct kvs__pages {
	const struct kvs__mem *mem; /* (i) */
	pthread_mutex_t lock;
	struct kvs__pages_chunk *chunks; /* (l) lock */
	kvs__u64 bytes;                  /* of all segments, whatever they come from (a) */
	bool may_lose; /* in a fork's child: what a lost thread had allocated is not freed (i) */
};

void kvs__pages_init(struct kvs__pages *p, const struct kvs__mem *mem);

/* kvs__pages_release - With the store. Every block must have been freed; in a fork's child what is left goes with its chunk. */
void kvs__pages_release(struct kvs__pages *p);
void kvs__pages_fork_child(struct kvs__pages *p);

/*
 * kvs__segment_alloc - @size bytes, a power of two, all zero and aligned to their size up to 2 MiB; or NULL.
 *
 * Without a user's allocator memory from KVS__PAGES_MIN on comes from mmap and is not touched here, so that no
 * call clears more than the kernel does at a page fault.
 */
void *kvs__segment_alloc(struct kvs__pages *p, size_t size);
void kvs__segment_free(struct kvs__pages *p, void *ptr, size_t size);

/* kvs__pages_lock, kvs__pages_unlock - Around a fork. */
void kvs__pages_lock(struct kvs__pages *p);
void kvs__pages_unlock(struct kvs__pages *p);

#endif
