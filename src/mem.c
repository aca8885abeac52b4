/* SPDX-License-Identifier: MIT */
#include "mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "compiler.h"

/* Links carry 48 bits of an address; memory above that cannot be used. */
static void *check_range(const struct kvs__mem *m, void *p, size_t size)
{
	if (p && unlikely(((uintptr_t)p + size) >> 48)) {
		kvs__mem_free(m, p, size);
		return NULL;
	}
	return p;
}

void *kvs__mem_alloc(const struct kvs__mem *m, size_t size)
{
	void *p = m->user.alloc ? m->user.alloc(m->user.ctx, size) : malloc(size);

	return check_range(m, p, size);
}

void *kvs__mem_zalloc(const struct kvs__mem *m, size_t size)
{
	void *p;

	if (!m->user.alloc)
		return check_range(m, calloc(1, size), size);
	if (m->user.zalloc)
		return check_range(m, m->user.zalloc(m->user.ctx, size), size);
	p = kvs__mem_alloc(m, size);
	if (p)
		memset(p, 0, size);
	return p;
}

void kvs__mem_free(const struct kvs__mem *m, void *ptr, size_t size)
{
	if (!ptr)
		return;
	if (m->user.alloc)
		m->user.free(m->user.ctx, ptr, size);
	else
		free(ptr);
}

/* The distance to the start of the block is kept in the 8 bytes before the aligned address. */
void *kvs__mem_lines(const struct kvs__mem *m, size_t size)
{
	char *start = kvs__mem_zalloc(m, size + KVS_LINE);
	uint64_t distance;

	if (!start)
		return NULL;
	distance = KVS_LINE - ((uintptr_t)start & (KVS_LINE - 1));
	memcpy(start + distance - sizeof(distance), &distance, sizeof(distance));
	return start + distance;
}

void kvs__mem_lines_free(const struct kvs__mem *m, void *ptr, size_t size)
{
	uint64_t distance;

	if (!ptr)
		return;
	memcpy(&distance, (char *)ptr - sizeof(distance), sizeof(distance));
	kvs__mem_free(m, (char *)ptr - distance, size + KVS_LINE);
}

void *kvs__mem_map(size_t size, size_t align)
{
	const int prot = PROT_READ | PROT_WRITE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	char *p = mmap(NULL, size + align, prot, flags, -1, 0);
	char *aligned;

	if (p == MAP_FAILED)
		return NULL;
	aligned = (char *)(((uintptr_t)p + align - 1) & ~(uintptr_t)(align - 1));
	if (aligned > p)
		(void)munmap(p, (size_t)(aligned - p));
	(void)munmap(aligned + size, (size_t)(p + align - aligned));
	return aligned;
}

void kvs__mem_unmap(void *ptr, size_t size)
{
	(void)munmap(ptr, size);
}
