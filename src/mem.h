/* SPDX-License-Identifier: MIT */
/*
 * mem.h - where a store's memory comes from: the user's allocator, or malloc and mmap.
 *
 * Every allocation of the library that belongs to a store goes through here or, for entries of
 * a store without a user's allocator, through arena.h, which takes its chunks here.
 */
#ifndef KVS_MEM_H
#define KVS_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "kvs.h"

struct kvs__mem {
	struct kvs_allocator user; /* alloc == NULL: none (i) */
};

/* kvs__mem_alloc - @size bytes, aligned to 16, or NULL. kvs__mem_zalloc - the same, all zero. */
void *kvs__mem_alloc(const struct kvs__mem *m, size_t size);
void *kvs__mem_zalloc(const struct kvs__mem *m, size_t size);

/* kvs__mem_free - Give back @ptr (NULL is fine), which was asked for with @size. */
void kvs__mem_free(const struct kvs__mem *m, void *ptr, size_t size);

/* kvs__mem_lines - @size zero bytes aligned to a cache line, or NULL; given back with kvs__mem_lines_free. */
void *kvs__mem_lines(const struct kvs__mem *m, size_t size);
void kvs__mem_lines_free(const struct kvs__mem *m, void *ptr, size_t size);

#define KVS_HUGE_PAGE ((size_t)2 << 20)

/* kvs__mem_map - @size bytes of zeroed pages at a multiple of @align (a power of two), or NULL. */
void *kvs__mem_map(size_t size, size_t align);
void kvs__mem_unmap(void *ptr, size_t size);

#endif
