/* SPDX-License-Identifier: MIT */
#include "heap.h"

#include <string.h>

#include "explore.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define HIDE(p, n) __asan_poison_memory_region((p), (n))
#define SHOW(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define HIDE(p, n) ((void)(p), (void)(n))
#define SHOW(p, n) ((void)(p), (void)(n))
#endif

#define GAP 16u /* between blocks, never valid */
#define FRESH 0xa5
#define FREED 0x35 /* an extent of no block; a version with pins: a second free writes to it */
#define LOG_ROOM 4096u
#define FILL_MAX ((size_t)16 << 10) /* of a block: so much is filled, and looked at in the end */

unsigned char heap_bytes[HEAP_SIZE] __attribute__((aligned(4096)));
unsigned char heap_granule[HEAP_SIZE / 16];

static uint32_t size_of[HEAP_SIZE / 16];
static unsigned char image[HEAP_IMAGE];
static unsigned char pattern[FILL_MAX];
static size_t image_used;
static bool sealed;
static unsigned region;
static size_t used[HEAP_REGIONS];
static size_t big_used;
static unsigned live;
static unsigned image_live;

/* What happened since the last restore. */
static struct {
	uint32_t offset[LOG_ROOM];
	unsigned count;
} allocs, frees;

static size_t granules(size_t size)
{
	return (size + 15) / 16;
}

static size_t region_start(unsigned r)
{
	return HEAP_IMAGE + r * HEAP_REGION;
}

void heap_region(unsigned r)
{
	region = r;
}

#define NAMED 64u /* bytes: the words with names, no block's and never hidden */

void heap_reset(void)
{
	SHOW(heap_bytes, HEAP_SIZE);
	memset(heap_bytes, 0, HEAP_SIZE);
	memset(heap_granule, HEAP_NEVER, sizeof(heap_granule));
	memset(pattern, FREED, sizeof(pattern));
	memset(used, 0, sizeof(used));
	big_used = 0;
	image_used = NAMED;
	HIDE(heap_bytes + NAMED, HEAP_SIZE - NAMED);
	sealed = false;
	live = 0;
	allocs.count = 0;
	frees.count = 0;
}

static size_t filled(size_t size)
{
	return size < FILL_MAX ? size : FILL_MAX;
}

static size_t take_big(size_t room)
{
	size_t offset = region_start(HEAP_REGIONS) + big_used;

	if (big_used + room > HEAP_BIG || allocs.count == LOG_ROOM)
		return 0;
	big_used += room;
	return offset;
}

static size_t take(size_t size)
{
	size_t room = granules(size ? size : 1) * 16 + GAP;
	size_t *at = sealed ? &used[region] : &image_used;
	size_t offset = sealed ? region_start(region) + *at : *at;

	if (sealed && room > HEAP_REGION)
		return take_big(room);
	if (*at + room > (sealed ? HEAP_REGION : HEAP_IMAGE) || allocs.count == LOG_ROOM)
		return 0;
	*at += room;
	return offset;
}

static void *heap_alloc(void *ctx, size_t size)
{
	size_t offset = take(size);

	(void)ctx;
	if (!offset) {
		sched_fail("the heap of the explorer is too small");
		return NULL;
	}
	memset(heap_granule + offset / 16, HEAP_LIVE, granules(size));
	size_of[offset / 16] = (uint32_t)size;
	SHOW(heap_bytes + offset, size);
	memset(heap_bytes + offset, FRESH, filled(size));
	if (sealed)
		allocs.offset[allocs.count++] = (uint32_t)offset;
	live++;
	return heap_bytes + offset;
}

static void heap_free(void *ctx, void *ptr, size_t size)
{
	size_t offset = (size_t)((unsigned char *)ptr - heap_bytes);
	size_t word = heap_word(ptr);

	(void)ctx;
	if (!word || offset % 16 || heap_granule[offset / 16] == HEAP_NEVER) {
		sched_fail("something was freed that is no block");
		return;
	}
	if (heap_granule[offset / 16] == HEAP_FREED) {
		sched_fail("a block was freed twice");
		return;
	}
	if (size_of[offset / 16] != size) {
		sched_fail("a block was freed with a wrong size");
		return;
	}
	sched_freed(word, granules(size) * 2);
	memset(heap_granule + offset / 16, HEAP_FREED, granules(size));
	memset(heap_bytes + offset, FREED, filled(size));
	HIDE(heap_bytes + offset, size);
	if (frees.count < LOG_ROOM)
		frees.offset[frees.count++] = (uint32_t)offset;
	live--;
}

const struct kvs_allocator heap_allocator = { heap_alloc, NULL, heap_free, NULL };

void heap_seal(void)
{
	SHOW(heap_bytes, image_used);
	memcpy(image, heap_bytes, image_used);
	image_live = live;
	sealed = true;
	heap_restore();
	for (size_t g = NAMED / 16; g < image_used / 16; g++)
		if (heap_granule[g] == HEAP_NEVER)
			HIDE(heap_bytes + 16 * g, 16);
}

/* One block back to what it was in the image, or to nothing. */
static void forget(uint32_t offset)
{
	size_t size = size_of[offset / 16];

	if (offset < HEAP_IMAGE) {
		memset(heap_granule + offset / 16, HEAP_LIVE, granules(size));
		SHOW(heap_bytes + offset, size);
	} else {
		memset(heap_granule + offset / 16, HEAP_NEVER, granules(size));
		HIDE(heap_bytes + offset, size);
	}
}

/* The hidden gaps are copied too: nothing is in them. */
__attribute__((no_sanitize_address)) static void copy_words(void *to, const void *from, size_t n)
{
	uint64_t *t = to;
	const uint64_t *f = from;

	for (size_t i = 0; i < n / 8; i++)
		t[i] = f[i];
}

void heap_restore(void)
{
	for (unsigned i = 0; i < frees.count; i++)
		forget(frees.offset[i]);
	for (unsigned i = 0; i < allocs.count; i++)
		forget(allocs.offset[i]);
	copy_words(heap_bytes, image, image_used);
	memset(used, 0, sizeof(used));
	big_used = 0;
	live = image_live;
	allocs.count = 0;
	frees.count = 0;
}

unsigned heap_live(void)
{
	return live;
}

unsigned heap_frees(void)
{
	return frees.count;
}

bool heap_damaged(void)
{
	for (unsigned i = 0; i < frees.count; i++) {
		size_t size = size_of[frees.offset[i] / 16];

		SHOW(heap_bytes + frees.offset[i], size);
		if (memcmp(heap_bytes + frees.offset[i], pattern, filled(size)) != 0)
			return true;
		HIDE(heap_bytes + frees.offset[i], size);
	}
	return false;
}
