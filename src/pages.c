/* SPDX-License-Identifier: MIT */
/*
 * pages.c - chunks of 2 MiB cut into blocks of a power of two from 64 KiB on.
 *
 * A chunk's 32 pieces are the bits of a word; a block is an aligned run of them. A freed block's
 * memory is given back to the system at once, which also makes it zero again; a chunk with no block left
 * is unmapped. The system does not take back memory that a program has locked: that is cleared.
 * Growth and shrink are rare: one lock and a walk over the few chunks will do.
 */
#include "pages.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "compiler.h"

struct kvs__pages_chunk {
	struct kvs__pages_chunk *next;
	char *base;
	uint32_t used; /* a bit a piece */
};

void kvs__pages_init(struct kvs__pages *p, const struct kvs__mem *mem)
{
	p->mem = mem;
	p->chunks = NULL;
	store_relaxed(&p->bytes, 0);
	(void)pthread_mutex_init(&p->lock, NULL);
}

void kvs__pages_fork_child(struct kvs__pages *p)
{
	p->may_lose = true;
}

static void chunk_drop(struct kvs__pages *p, struct kvs__pages_chunk *c)
{
	kvs__mem_unmap(c->base, KVS_HUGE_PAGE);
	kvs__mem_free(p->mem, c, sizeof(*c));
}

void kvs__pages_release(struct kvs__pages *p)
{
	KVS_ASSERT(!p->chunks || p->may_lose);
	while (p->chunks) {
		struct kvs__pages_chunk *c = p->chunks;

		p->chunks = c->next;
		chunk_drop(p, c);
	}
	(void)pthread_mutex_destroy(&p->lock);
}

void kvs__pages_lock(struct kvs__pages *p)
{
	(void)pthread_mutex_lock(&p->lock);
}

void kvs__pages_unlock(struct kvs__pages *p)
{
	(void)pthread_mutex_unlock(&p->lock);
}

static uint32_t mask_of(size_t size)
{
	return (uint32_t)(((uint64_t)1 << (size / KVS__PAGES_MIN)) - 1);
}

static void *chunk_take(struct kvs__pages_chunk *c, size_t size)
{
	unsigned step = (unsigned)(size / KVS__PAGES_MIN);
	unsigned at;

	for (at = 0; at < 32; at += step)
		if (!(c->used & mask_of(size) << at)) {
			c->used |= mask_of(size) << at;
			return c->base + at * KVS__PAGES_MIN;
		}
	return NULL;
}

static struct kvs__pages_chunk *chunk_make(struct kvs__pages *p)
{
	struct kvs__pages_chunk *c = kvs__mem_zalloc(p->mem, sizeof(*c));

	if (!c)
		return NULL;
	c->base = kvs__mem_map(KVS_HUGE_PAGE, KVS_HUGE_PAGE);
	if (!c->base) {
		kvs__mem_free(p->mem, c, sizeof(*c));
		return NULL;
	}
	(void)madvise(c->base, KVS_HUGE_PAGE, MADV_HUGEPAGE);
	c->next = p->chunks;
	p->chunks = c;
	return c;
}

static void *small_alloc(struct kvs__pages *p, size_t size)
{
	struct kvs__pages_chunk *c;
	void *block = NULL;

	kvs__pages_lock(p);
	for (c = p->chunks; c && !block; c = c->next)
		block = chunk_take(c, size);
	if (!block) {
		c = chunk_make(p);
		block = c ? chunk_take(c, size) : NULL;
	}
	kvs__pages_unlock(p);
	return block;
}

static void small_free(struct kvs__pages *p, char *block, size_t size)
{
	struct kvs__pages_chunk **at;
	struct kvs__pages_chunk *c;

	kvs__pages_lock(p);
	for (at = &p->chunks; (size_t)(block - (*at)->base) >= KVS_HUGE_PAGE; at = &(*at)->next)
		;
	c = *at;
	c->used &= ~(mask_of(size) << (size_t)(block - c->base) / KVS__PAGES_MIN);
	if (c->used) {
		if (madvise(block, size, MADV_DONTNEED) != 0)
			memset(block, 0, size);
	} else {
		*at = c->next;
		chunk_drop(p, c);
	}
	kvs__pages_unlock(p);
}

static void *segment_take(struct kvs__pages *p, size_t size)
{
	void *block;

	if (p->mem->user.alloc || size < KVS__PAGES_MIN)
		return kvs__mem_zalloc(p->mem, size);
	if (size < KVS_HUGE_PAGE)
		return small_alloc(p, size);
	block = kvs__mem_map(size, KVS_HUGE_PAGE);
	if (block)
		(void)madvise(block, size, MADV_HUGEPAGE);
	return block;
}

void *kvs__segment_alloc(struct kvs__pages *p, size_t size)
{
	void *block = segment_take(p, size);

	if (block)
		fetch_add_relaxed(&p->bytes, size);
	return block;
}

void kvs__segment_free(struct kvs__pages *p, void *ptr, size_t size)
{
	if (!ptr)
		return;
	fetch_sub_relaxed(&p->bytes, size);
	if (p->mem->user.alloc || size < KVS__PAGES_MIN)
		kvs__mem_free(p->mem, ptr, size);
	else if (size < KVS_HUGE_PAGE)
		small_free(p, ptr, size);
	else
		kvs__mem_unmap(ptr, size);
}
