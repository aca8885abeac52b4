/* SPDX-License-Identifier: MIT */
/*
 * test_arena.c - entry memory: exact, shared among threads, given back.
 *
 * Most tests give the arena a source that counts, remembers what is mapped, and fails on demand;
 * residency is asked from the kernel (mincore), not from the arena. After each step the arena's
 * own invariants are checked.
 */
#include "util.h"

#include <string.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "compiler.h"

#ifdef KVS_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define BLOCK 144 /* a 12-byte key, a 100-byte value */
#define PAGE 4096
#define SPAN_KIB 64
#define MAX_MAPS 512
#define MIB ((size_t)1 << 20)

/* ---- A source that counts -------------------------------------------------------------- */

struct source {
	struct kvs__arena_source hooks;
	pthread_mutex_t mutex;
	void *map[MAX_MAPS];
	size_t size[MAX_MAPS];
	size_t live;
	size_t calls;
	size_t failures;
	long fail_in; /* this many succeed, then all fail; negative: none fails */
};

static void *map_aligned(size_t size, size_t align)
{
	char *raw = mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	char *ptr = (char *)(((uintptr_t)raw + align - 1) & ~(uintptr_t)(align - 1));

	check(raw != MAP_FAILED);
	if (ptr > raw)
		munmap(raw, (size_t)(ptr - raw));
	munmap(ptr + size, (size_t)(raw + align - ptr));
	return ptr;
}

static void *source_map(void *ctx, size_t size, size_t align)
{
	struct source *s = ctx;
	void *ptr = NULL;

	pthread_mutex_lock(&s->mutex);
	s->calls++;
	if (s->fail_in == 0) {
		s->failures++;
	} else {
		s->fail_in -= s->fail_in > 0;
		check(s->live < MAX_MAPS);
		ptr = map_aligned(size, align);
		s->map[s->live] = ptr;
		s->size[s->live++] = size;
	}
	pthread_mutex_unlock(&s->mutex);
	return ptr;
}

static void source_unmap(void *ctx, void *ptr, size_t size)
{
	struct source *s = ctx;
	size_t i = 0;

	pthread_mutex_lock(&s->mutex);
	while (i < s->live && s->map[i] != ptr)
		i++;
	check(i < s->live);
	check_u64(size, s->size[i]);
	s->live--;
	memmove(&s->map[i], &s->map[i + 1], (s->live - i) * sizeof(s->map[0]));
	memmove(&s->size[i], &s->size[i + 1], (s->live - i) * sizeof(s->size[0]));
	check(munmap(ptr, size) == 0);
	pthread_mutex_unlock(&s->mutex);
}

static size_t source_bytes(const struct source *s)
{
	size_t bytes = 0;
	size_t i;

	for (i = 0; i < s->live; i++)
		bytes += s->size[i];
	return bytes;
}

static size_t source_resident(const struct source *s)
{
	unsigned char pages[KVS__ARENA_CHUNK / PAGE];
	size_t resident = 0;
	size_t i, j;

	for (i = 0; i < s->live; i++) {
		check(s->size[i] == KVS__ARENA_CHUNK);
		check(mincore(s->map[i], s->size[i], pages) == 0);
		for (j = 0; j < ARRAY_LEN(pages); j++)
			resident += (pages[j] & 1u) * (size_t)PAGE;
	}
	return resident;
}

/* ---- The arena under test, and some blocks -------------------------------------------- */

static struct source source;
static struct kvs__arena *arena;
static struct kvs__heap heap;

static void begin(void **state)
{
	(void)state;
	memset(&source, 0, sizeof(source));
	pthread_mutex_init(&source.mutex, NULL);
	source.fail_in = -1;
	source.hooks = (struct kvs__arena_source){ source_map, source_unmap, &source };
	memset(&heap, 0, sizeof(heap));
	arena = kvs__arena_create(&source.hooks);
	check(arena != NULL);
}

/* Whatever a test left allocated: everything mapped goes back. */
static void end(void)
{
	kvs__arena_destroy(arena);
	kvs__heap_drop(&heap);
	pthread_mutex_destroy(&source.mutex);
	check_u64(source.live, 0);
}

static void check_arena(void)
{
	const char *broken = kvs__arena_check(arena);

	if (broken)
		util_fail(__FILE__, __LINE__, "%s is broken", broken);
	check(kvs__arena_mapped(arena) >= source_bytes(&source)); /* malloc may have some */
}

/* Nothing is allocated any more, and all of it can be given back. */
static void check_all_free(void)
{
	kvs__heap_flush(arena, &heap);
	check_arena();
	check_u64(kvs__arena_used(arena), 0);
	kvs__arena_trim(arena);
	check_arena();
	check_u64(kvs__arena_mapped(arena), 0);
	check_u64(source.live, 0);
}

struct blocks {
	void **ptr;
	uint32_t *size;
	size_t count;
};

static struct blocks blocks_new(size_t count)
{
	struct blocks b = { calloc(count, sizeof(void *)), calloc(count, sizeof(uint32_t)), count };

	check(b.ptr && b.size);
	return b;
}

static void blocks_delete(struct blocks *b)
{
	free(b->ptr);
	free(b->size);
}

static void block_alloc(struct blocks *b, size_t i, uint32_t size)
{
	b->size[i] = size;
	b->ptr[i] = kvs__arena_alloc(arena, &heap, size);
	check(b->ptr[i] != NULL);
	check((uintptr_t)b->ptr[i] % 8 == 0);
	pattern_fill(b->ptr[i], size, i);
}

static void block_free(struct blocks *b, size_t i)
{
	check(pattern_matches(b->ptr[i], b->size[i], i));
	kvs__arena_free(arena, b->ptr[i], b->size[i]);
	b->ptr[i] = NULL;
}

static void blocks_alloc(struct blocks *b, size_t from, size_t to, uint32_t size)
{
	for (; from < to; from++)
		block_alloc(b, from, size);
}

static void blocks_free(struct blocks *b, size_t from, size_t to)
{
	for (; from < to; from++)
		block_free(b, from);
}

static size_t *shuffled(size_t count)
{
	size_t *order = calloc(count, sizeof(*order));
	struct rng rng;
	size_t i, j, swap;

	check(order != NULL);
	rng_init(&rng, 1);
	for (i = 0; i < count; i++)
		order[i] = i;
	for (i = count; i > 1; i--) {
		j = rng_below(&rng, i);
		swap = order[i - 1];
		order[i - 1] = order[j];
		order[j] = swap;
	}
	return order;
}

/* ---- Where blocks lie ------------------------------------------------------------------ */

static void test_blocks_of_a_size_lie_side_by_side(void **state)
{
	size_t span0 = (64 - 12) * 1024 / BLOCK;
	struct blocks b = blocks_new(span0);
	size_t i;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	for (i = 1; i < b.count; i++)
		check_u64((uintptr_t)b.ptr[i], (uintptr_t)b.ptr[i - 1] + BLOCK);
	util_note("%zu blocks, %d bytes apart", b.count, BLOCK);
	check(b.count > 300);
	check_u64(source.calls, 1);
	blocks_free(&b, 0, b.count);
	check_all_free();
	blocks_delete(&b);
	end();
}

static void test_refill_takes_the_lowest_free_blocks_in_order(void **state)
{
	struct blocks b = blocks_new(300);
	size_t i;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	kvs__heap_flush(arena, &heap);
	for (i = 0; i < b.count; i += 3)
		kvs__arena_free(arena, b.ptr[i], BLOCK);
	for (i = 0; i < b.count; i += 3)
		check(kvs__arena_alloc(arena, &heap, BLOCK) == b.ptr[i]);
	check_arena();
	kvs__heap_flush(arena, &heap);
	check_u64(kvs__arena_used(arena), b.count * BLOCK);
	blocks_delete(&b);
	end();
}

static void check_block_size(size_t size)
{
	size_t block = kvs__arena_block_size(size);

	check(block >= size && block % 8 == 0);
	if (size >= 32 && size <= 1024)
		check(block < size + 8);
	else if (size > 1024 && size <= KVS__ARENA_SMALL_MAX)
		check(block - size < size / 8 + 1);
}

/* Every size to 2100 and every 61st from there: all classes, and both sides of fine and coarse. */
static size_t size_after(size_t size)
{
	return size < 2100 ? size + 1 : size + 61;
}

static void test_every_size_is_aligned_apart_and_bounded(void **state)
{
	struct blocks b = blocks_new(3000);
	bool seen[KVS__ARENA_SMALL_MAX / 8 + 1] = { false };
	size_t size = 0, n = 0, classes = 0;
	size_t i;

	begin(state);
	for (; size <= KVS__ARENA_SMALL_MAX; size = size_after(size)) {
		check_block_size(size);
		block_alloc(&b, n++, (uint32_t)size);
		classes += !seen[kvs__arena_block_size(size) / 8];
		seen[kvs__arena_block_size(size) / 8] = true;
	}
	block_alloc(&b, n++, KVS__ARENA_SMALL_MAX);
	check_arena();
	util_note("%zu sizes in %zu classes", n, classes);
	check(n > 2500);
	check_u64(classes, 165);
	for (i = 0; i < n; i++)
		check(pattern_matches(b.ptr[i], b.size[i], i));
	blocks_free(&b, 0, n);
	check_all_free();
	blocks_delete(&b);
	end();
}

static void test_ten_thousand_entries_take_under_4_mib(void **state)
{
	struct blocks b = blocks_new(10000);

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	util_note("10,000 blocks of %d bytes: %zu KiB mapped, %zu KiB resident", BLOCK,
		  kvs__arena_mapped(arena) >> 10, source_resident(&source) >> 10);
	check(kvs__arena_mapped(arena) < 4 * MIB);
	check(source_resident(&source) < b.count * BLOCK * 103 / 100);
	blocks_delete(&b);
	end();
}

static void test_blocks_cost_under_one_percent(void **state)
{
	struct blocks b = blocks_new(util_scaled(60000, 200000, 2000000));
	double each;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	each = (double)kvs__arena_mapped(arena) / (double)b.count;
	util_note("%zu blocks of %d bytes: %.2f bytes each", b.count, BLOCK, each);
	check(kvs__arena_mapped(arena) <= b.count * BLOCK * 101 / 100 + KVS__ARENA_CHUNK);
	blocks_delete(&b);
	end();
}

/* ---- Freeing ---------------------------------------------------------------------------- */

static uint32_t size_of_mix(size_t i)
{
	static const uint32_t sizes[] = {
		32, 40, 144, 1000, 1024, 1025, 5000, 32768, 40000, 300000
	};

	return sizes[i * 7 % ARRAY_LEN(sizes)];
}

static void test_free_many_takes_any_mix_and_number(void **state)
{
	static const size_t counts[] = { 0, 1, 2, 63, 64, 65, 128, 200 };
	struct blocks b = blocks_new(200);
	size_t i, c;

	begin(state);
	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < counts[c]; i++)
			block_alloc(&b, i, size_of_mix(i));
		check_arena();
		kvs__arena_free_many(arena, b.ptr, b.size, counts[c]);
		check_all_free();
	}
	blocks_delete(&b);
	end();
}

/* ---- Freed blocks that are kept ---------------------------------------------------------- */

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;

	return (x > y) - (x < y);
}

static size_t in_both(void **a, void **b, size_t n)
{
	size_t both = 0;
	size_t i;

	qsort(b, n, sizeof(*b), by_address);
	for (i = 0; i < n; i++)
		both += bsearch(&a[i], b, n, sizeof(*b), by_address) != NULL;
	return both;
}

/* Freed all over the arena, they come back before anything else is looked for; each once. */
static void test_what_was_freed_last_is_taken_first(void **state)
{
	enum { SOME = 1000 };
	struct blocks b = blocks_new(40000);
	struct blocks again = blocks_new(SOME);
	void *freed[SOME];
	size_t used, i;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	kvs__heap_flush(arena, &heap);
	used = kvs__arena_used(arena);
	for (i = 0; i < SOME; i++) {
		freed[i] = b.ptr[i * 40];
		again.size[i] = BLOCK;
	}
	kvs__arena_free_many(arena, freed, again.size, SOME);
	check_arena();
	check_u64(kvs__arena_used(arena), used - SOME * BLOCK);
	again.ptr[0] = kvs__arena_alloc(arena, NULL, BLOCK);
	check(again.ptr[0] == freed[SOME - 1]);
	for (i = 1; i < SOME; i++)
		again.ptr[i] = kvs__arena_alloc(arena, &heap, BLOCK);
	check(again.ptr[1] >
	      freed[SOME - 120]); /* they were freed in the order of their addresses */
	check_arena();
	check_u64(in_both(freed, again.ptr, SOME), SOME);
	for (i = 1; i < SOME; i++)
		check(again.ptr[i] != again.ptr[i - 1]);
	kvs__arena_free_many(arena, again.ptr, again.size, SOME);
	for (i = 0; i < b.count; i++)
		if (i % 40 || i / 40 >= SOME)
			block_free(&b, i);
	check_all_free();
	blocks_delete(&again);
	blocks_delete(&b);
	end();
}

/* Ever smaller, without a trim: what is kept becomes less with what is in use, and holds no chunks back. */
static void free_at_random(size_t many)
{
	struct blocks b = blocks_new(util_scaled(60000, 200000, 2000000));
	size_t *order = shuffled(b.count);
	uint32_t size[64];
	void *ptr[64];
	size_t i, n = 0;

	many = many < b.count ? many : b.count;
	blocks_alloc(&b, 0, b.count, BLOCK);
	kvs__heap_flush(arena, &heap);
	for (i = 0; i < many; i++) {
		ptr[n] = b.ptr[order[i]];
		size[n++] = BLOCK;
		if (n == 64 || i + 1 == many) {
			kvs__arena_free_many(arena, ptr, size, n);
			n = 0;
		}
	}
	for (; i < b.count; i++)
		block_free(&b, order[i]);
	check_arena();
	check_u64(kvs__arena_used(arena), 0);
	util_note("%zu blocks freed at random, %zu of them 64 at once: %zu KiB mapped", b.count,
		  many, kvs__arena_mapped(arena) >> 10);
	check(kvs__arena_mapped(arena) <= 2 * KVS__ARENA_CHUNK);
	check_all_free();
	free(order);
	blocks_delete(&b);
}

static void test_what_is_kept_is_a_share_of_what_is_in_use(void **state)
{
	begin(state);
	free_at_random(SIZE_MAX);
	end();
}

/* As unpins free: what was kept before goes with them. */
static void test_what_is_kept_becomes_less_by_single_frees(void **state)
{
	begin(state);
	free_at_random(10000);
	end();
}

#ifndef KVS_ASAN
/* With AddressSanitizer nobody may look; there the next test says more. */
static void test_free_does_not_touch_the_block(void **state)
{
	struct blocks b = blocks_new(100);
	size_t i;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	for (i = 0; i < b.count / 2; i++)
		kvs__arena_free(arena, b.ptr[i], BLOCK);
	kvs__arena_free_many(arena, b.ptr + i, b.size + i, b.count - 1 - i);
	for (i = 0; i < b.count; i++)
		check(pattern_matches(b.ptr[i], BLOCK, i));
	blocks_delete(&b);
	end();
}
#else
static void test_blocks_are_poisoned_but_while_allocated(void **state)
{
	char *a, *b;

	begin(state);
	a = kvs__arena_alloc(arena, &heap, 140);
	check(!__asan_region_is_poisoned(a, 140));
	check(__asan_address_is_poisoned(a + 140));
	check(__asan_address_is_poisoned(a + BLOCK));
	b = kvs__arena_alloc(arena, &heap, BLOCK);
	check(b == a + BLOCK);
	check(!__asan_region_is_poisoned(b, BLOCK));
	kvs__arena_free(arena, a, 140);
	check(__asan_address_is_poisoned(a) && __asan_address_is_poisoned(a + 139));
	check(!__asan_region_is_poisoned(b, BLOCK));
	end();
}
#endif

static void test_flush_gives_back_what_the_heap_holds(void **state)
{
	void *ptr[3];
	size_t held;

	begin(state);
	ptr[0] = kvs__arena_alloc(arena, &heap, 32);
	ptr[1] = kvs__arena_alloc(arena, &heap, BLOCK);
	ptr[2] = kvs__arena_alloc(arena, &heap, 4096);
	held = kvs__arena_used(arena);
	util_note("%zu bytes in and behind 3 blocks", held);
	check(held > 32 + BLOCK + 4096);
	check(held <= 3 * 8192);
	kvs__heap_flush(arena, &heap);
	check(heap.magazines == NULL);
	check_arena();
	check_u64(kvs__arena_used(arena), 32 + BLOCK + 4096);
	kvs__arena_free(arena, ptr[0], 32);
	kvs__arena_free(arena, ptr[1], BLOCK);
	kvs__arena_free(arena, ptr[2], 4096);
	check_all_free();
	end();
}

static void test_no_heap_works_too(void **state)
{
	void *a, *b;

	begin(state);
	a = kvs__arena_alloc(arena, NULL, BLOCK);
	b = kvs__arena_alloc(arena, NULL, BLOCK);
	check(a != NULL && b == (char *)a + BLOCK);
	check_u64(kvs__arena_used(arena), 2 * BLOCK);
	kvs__arena_free(arena, a, BLOCK);
	kvs__arena_free(arena, b, BLOCK);
	check_all_free();
	end();
}

static void test_large_blocks_come_and_go(void **state)
{
	static const size_t sizes[] = { KVS__ARENA_SMALL_MAX + 1, KVS__ARENA_DIRECT_MIN - 1,
					KVS__ARENA_DIRECT_MIN, 3 * MIB + 5 };
	void *ptr[ARRAY_LEN(sizes)];
	size_t sum = 0;
	size_t i;

	begin(state);
	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		ptr[i] = kvs__arena_alloc(arena, &heap, sizes[i]);
		check(ptr[i] != NULL && (uintptr_t)ptr[i] % 8 == 0);
		pattern_fill(ptr[i], sizes[i], i);
		sum += kvs__arena_block_size(sizes[i]);
	}
	check_u64(source.calls, 2);
	check_u64(kvs__arena_mapped(arena), sum);
	check_u64(kvs__arena_used(arena), sum);
	check(kvs__arena_alloc(arena, &heap, SIZE_MAX) == NULL);
	check(kvs__arena_alloc(arena, &heap, SIZE_MAX - 100) == NULL);
	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		check(pattern_matches(ptr[i], sizes[i], i));
		kvs__arena_free(arena, ptr[i], sizes[i]);
	}
	check_all_free();
	end();
}

/* ---- Giving back ------------------------------------------------------------------------ */

static void test_empty_chunks_are_unmapped(void **state)
{
	struct blocks b = blocks_new(util_scaled(60000, 200000, 2000000));
	size_t *order = shuffled(b.count);
	size_t peak, i;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	kvs__heap_flush(arena, &heap);
	peak = kvs__arena_mapped(arena);
	for (i = 0; i < b.count; i++)
		block_free(&b, order[i]);
	util_note("peak %zu KiB, empty %zu KiB", peak >> 10, kvs__arena_mapped(arena) >> 10);
	check(peak >= 5 * KVS__ARENA_CHUNK);
	check(kvs__arena_mapped(arena) <= KVS__ARENA_CHUNK);
	check_all_free();
	free(order);
	blocks_delete(&b);
	end();
}

static void test_deleting_the_first_99_percent_gives_their_chunks_back(void **state)
{
	struct blocks b = blocks_new(util_scaled(200000, 400000, 2000000));
	size_t most = b.count / 100 * 99;
	size_t peak;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	peak = kvs__arena_mapped(arena);
	kvs__arena_free_many(arena, b.ptr, b.size, most);
	kvs__arena_trim(arena);
	check_arena();
	util_note("peak %zu KiB, after %zu KiB mapped, %zu KiB resident", peak >> 10,
		  kvs__arena_mapped(arena) >> 10, source_resident(&source) >> 10);
	check(peak >= 12 * KVS__ARENA_CHUNK);
	check(source_resident(&source) * 10 < peak);
	check(kvs__arena_mapped(arena) <= 3 * KVS__ARENA_CHUNK);
	blocks_free(&b, most, b.count);
	check_all_free();
	blocks_delete(&b);
	end();
}

static void free_random_99_percent(struct blocks *b)
{
	size_t *order = shuffled(b->count);
	size_t i;

	for (i = 0; i < b->count / 100 * 99; i++)
		block_free(b, order[i]);
	free(order);
}

static size_t blocks_refill(struct blocks *b, uint32_t size)
{
	size_t live = 0;
	size_t i;

	for (i = 0; i < b->count; i++) {
		if (b->ptr[i] == NULL) {
			block_alloc(b, i, size);
			continue;
		}
		check(pattern_matches(b->ptr[i], size, i));
		live++;
	}
	return live;
}

static void test_trim_gives_back_pages_after_random_deletes(void **state)
{
	struct blocks b = blocks_new(util_scaled(60000, 400000, 4000000));
	size_t peak, peak_mapped, unused, after, given;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	kvs__heap_flush(arena, &heap);
	peak = source_resident(&source);
	peak_mapped = kvs__arena_mapped(arena);
	unused = peak_mapped - kvs__arena_used(arena);
	free_random_99_percent(&b);
	check_arena();
	kvs__arena_trim(arena);
	check_arena();
	after = source_resident(&source);
	given = kvs__arena_given(arena);
	util_note("resident: peak %zu KiB, after %zu KiB; given back %zu KiB", peak >> 10,
		  after >> 10, given >> 10);
	check(peak >= 8 * MIB);
	check(after * 100 < peak * 40);
	check(after + given >= kvs__arena_mapped(arena) - KVS__ARENA_CHUNK);
	kvs__arena_trim(arena);
	check_u64(kvs__arena_given(arena), given);

	check(blocks_refill(&b, BLOCK) > b.count / 200);
	check_arena();
	util_note("inserted as many again: peak %zu KiB, now %zu KiB", peak >> 10,
		  source_resident(&source) >> 10);
	check(source_resident(&source) * 100 <= peak * 105);
	check(kvs__arena_mapped(arena) <= peak_mapped);
	given = kvs__arena_given(arena);
	check(given <= unused || (given - unused) * 100 <= peak);

	free_random_99_percent(&b);
	kvs__arena_trim(arena);
	check_arena();
	util_note("and deleted again: %zu KiB", source_resident(&source) >> 10);
	check(source_resident(&source) * 100 < peak * 40);
	blocks_refill(&b, BLOCK);
	blocks_free(&b, 0, b.count);
	check_all_free();
	blocks_delete(&b);
	end();
}

static void test_trim_gives_back_free_spans_of_used_chunks(void **state)
{
	struct blocks b = blocks_new(20000);
	size_t before;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	before = source_resident(&source);
	blocks_free(&b, 1000, b.count - 1000);
	kvs__arena_trim(arena);
	check_arena();
	util_note("resident %zu KiB, then %zu KiB", before >> 10, source_resident(&source) >> 10);
	check(before > 2 * MIB);
	check(source_resident(&source) < before / 5);
	blocks_alloc(&b, 1000, b.count - 1000, BLOCK);
	blocks_free(&b, 0, b.count);
	check_all_free();
	blocks_delete(&b);
	end();
}

/* Deleting goes on between steps: each looks at no more than it may, and together at all. */
static void test_trim_steps_are_bounded_and_come_to_an_end(void **state)
{
	struct blocks b = blocks_new(util_scaled(30000, 100000, 1000000));
	size_t *order = shuffled(b.count);
	size_t steps = 0, looked = 0, i;
	unsigned cursor = 0, n;

	begin(state);
	blocks_alloc(&b, 0, b.count, BLOCK);
	for (i = 0; i < b.count / 100 * 99; i++) {
		block_free(&b, order[i]);
		if (i % 100 == 0) {
			n = kvs__arena_trim_step(arena, &cursor, 3);
			check(n <= 3);
			looked += n;
		}
	}
	while (kvs__arena_trim_step(arena, &cursor, 3) == 3)
		steps++;
	check_arena();
	util_note("%zu spans looked at on the way, %zu steps after", looked, steps);
	check(looked > b.count / 455);
	check_u64(kvs__arena_trim_step(arena, &cursor, 3), 0);
	check(kvs__arena_given(arena) * 2 > kvs__arena_mapped(arena));
	free(order);
	blocks_delete(&b);
	end();
}

/* The last blocks of all spans are in the depot; and the cursor may stand anywhere. */
static void test_trim_steps_give_back_what_the_depot_held(void **state)
{
	struct blocks b = blocks_new(40000);
	size_t lasts = 50, span = (SPAN_KIB << 10) / BLOCK;
	unsigned cursor, from;
	uint32_t size[64];
	void *ptr[64];
	size_t i;

	for (from = 0; from < 166; from += 165) {
		begin(state);
		blocks_alloc(&b, 0, b.count, BLOCK);
		kvs__heap_flush(arena, &heap);
		for (i = 0; i < lasts; i++) {
			ptr[i] = b.ptr[span * (i + 2)];
			size[i] = BLOCK;
		}
		kvs__arena_free_many(arena, ptr, size, lasts);
		for (i = 0; i < b.count; i++)
			if (i / span < lasts + 2 && (i % span || i / span < 2))
				kvs__arena_free(arena, b.ptr[i], BLOCK);
		cursor = from;
		while (kvs__arena_trim_step(arena, &cursor, 16) == 16)
			;
		check_arena();
		util_note("from stop %u: %zu KiB used, %zu KiB resident", from,
			  kvs__arena_used(arena) >> 10, source_resident(&source) >> 10);
		check(source_resident(&source) <= kvs__arena_used(arena) * 103 / 100 + 64 * 1024);
		end();
		memset(&heap, 0, sizeof(heap));
	}
	blocks_delete(&b);
}

static void test_a_span_serves_another_size_once_empty(void **state)
{
	static const uint32_t sizes[] = { 144, 32, 1024, 9000, 48, 32768, 3000 };
	struct blocks b = blocks_new(40000);
	size_t i, n;

	begin(state);
	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		n = 4 * MIB / kvs__arena_block_size(sizes[i]);
		n = n < b.count ? n : b.count;
		blocks_alloc(&b, 0, n, sizes[i]);
		check(kvs__arena_mapped(arena) <= 4 * KVS__ARENA_CHUNK);
		kvs__arena_free_many(arena, b.ptr, b.size, n);
		kvs__heap_flush(arena, &heap);
		check_arena();
	}
	check_all_free();
	blocks_delete(&b);
	end();
}

/* ---- Huge pages ------------------------------------------------------------------------- */

/* Whether the kernel was told to back the address with huge pages. */
static bool advised_huge(const void *ptr)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long from, to;
	bool inside = false, huge = false;
	char line[512];

	check(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= (uintptr_t)ptr && (uintptr_t)ptr < to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			huge = strstr(line, " hg") != NULL;
	}
	fclose(f);
	return huge;
}

static size_t count_advised_huge(void)
{
	size_t n = 0;
	size_t i;

	for (i = 0; i < source.live; i++)
		n += advised_huge(source.map[i]);
	return n;
}

static void test_huge_pages_are_for_large_stores_only(void **state)
{
	size_t want = access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) == 0 ? 4 : 0;
	struct blocks b = blocks_new(8 * 512 - 200 + 4 * 512);

	begin(state);
	blocks_alloc(&b, 0, 8 * 512 - 200, 4096);
	check_u64(source.live, 8);
	check_u64(count_advised_huge(), 0);
	blocks_alloc(&b, 8 * 512 - 200, b.count, 4096);
	util_note("%zu of %zu chunks are huge", count_advised_huge(), source.live);
	check(count_advised_huge() >= want);
	check(count_advised_huge() <= source.live - 8);

	free_random_99_percent(&b);
	kvs__arena_trim(arena);
	check_u64(count_advised_huge(), 0);
	blocks_refill(&b, 4096);
	check_arena();
	util_note("%zu are again after trim and refill", count_advised_huge());
	check(count_advised_huge() >= want);
	blocks_delete(&b);
	end();
}

/* With each chunk that is prepared one of the first; what they hold is as it was. */
static void test_the_first_chunks_become_huge_in_a_large_store(void **state)
{
	size_t want = access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) == 0 ? 8 : 0;
	struct blocks b = blocks_new(20 * 512);
	size_t first[8] = { 0 };
	size_t n = 0, huge = 0;
	size_t i;

	begin(state);
	for (i = 0; i < b.count; i++) {
		block_alloc(&b, i, 4096);
		if (source.live <= 8 && first[source.live - 1] == 0)
			first[source.live - 1] = i + 1;
		n += kvs__arena_prepare(arena);
		check(n == 0 || source.live > 8);
	}
	check_arena();
	for (i = 0; i < 8; i++)
		huge += advised_huge(b.ptr[first[i] - 1]);
	util_note("%zu of the first 8 chunks, %zu of %zu in all are huge; %zu prepared", huge,
		  count_advised_huge(), source.live, n);
	check(n >= 8);
	check_u64(huge, want);
	for (i = 0; i < b.count; i++)
		check(pattern_matches(b.ptr[i], 4096, i));
	free_random_99_percent(&b);
	kvs__arena_trim(arena);
	check_arena();
	check_u64(count_advised_huge(), 0);
	blocks_delete(&b);
	end();
}

/* ---- No memory -------------------------------------------------------------------------- */

static void test_no_memory_is_null_and_nothing_is_lost(void **state)
{
	struct blocks b = blocks_new(40000);
	size_t n = 0;

	begin(state);
	source.fail_in = 2;
	while ((b.ptr[n] = kvs__arena_alloc(arena, &heap, BLOCK)) != NULL)
		b.size[n++] = BLOCK;
	util_note("%zu blocks from 2 chunks", n);
	check(n > 28000);
	check_u64(source.failures, 1);
	check(kvs__arena_alloc(arena, &heap, 200) == NULL);
	check(kvs__arena_alloc(arena, NULL, BLOCK) == NULL);
	check(kvs__arena_alloc(arena, &heap, KVS__ARENA_DIRECT_MIN) == NULL);
	check_arena();
	check_u64(kvs__arena_used(arena), n * BLOCK);

	kvs__arena_free(arena, b.ptr[7], BLOCK);
	check(kvs__arena_alloc(arena, &heap, BLOCK) == b.ptr[7]);
	source.fail_in = -1;
	b.size[n] = 200;
	b.ptr[n] = kvs__arena_alloc(arena, &heap, 200);
	check(b.ptr[n] != NULL);
	kvs__arena_free_many(arena, b.ptr, b.size, n + 1);
	check_all_free();
	blocks_delete(&b);
	end();
}

/* ---- Prepared chunks -------------------------------------------------------------------- */

static void test_large_arenas_want_the_next_chunk_ahead(void **state)
{
	struct blocks b = blocks_new(11 * 512);
	size_t calls, ahead = 0;
	size_t i;

	begin(state);
	for (i = 0; i < b.count; i++) {
		block_alloc(&b, i, 4096);
		check(!kvs__arena_wants_chunk(arena) || source.live >= 8);
		calls = source.calls;
		if (!kvs__arena_prepare(arena))
			continue;
		ahead++;
		check_u64(source.calls, calls + 1);
		check(!kvs__arena_wants_chunk(arena));
		check(!kvs__arena_prepare(arena));
		check_arena();
	}
	util_note("%zu chunks, %zu of them prepared", source.calls, ahead);
	check(ahead >= 3);
	check(source.calls <= 9 + ahead);
	for (i = 0; i < b.count; i++)
		block_free(&b, i);
	check_all_free();
	blocks_delete(&b);
	end();
}

/* A key that comes and goes at the edge of a chunk, and trim, which takes spans too. */
static void test_chunks_are_not_prepared_for_nothing(void **state)
{
	struct blocks b = blocks_new(9 * 512);
	size_t calls, i;
	void *ptr;

	begin(state);
	for (i = 0; source.live < 9; i++)
		block_alloc(&b, i, 4096);
	block_free(&b, i - 1);
	kvs__heap_flush(arena, &heap);
	(void)kvs__arena_prepare(arena);
	check_u64(source.live, 9); /* eight full ones and a spare one */
	calls = source.calls;
	for (i = 0; i < 100; i++) {
		ptr = kvs__arena_alloc(arena, &heap, 5000);
		check(ptr != NULL);
		(void)kvs__arena_prepare(arena);
		kvs__arena_free(arena, ptr, 5000);
		(void)kvs__arena_prepare(arena);
	}
	check_u64(source.calls, calls);
	kvs__arena_trim(arena);
	check(!kvs__arena_prepare(arena));
	check_arena();
	blocks_delete(&b);
	end();
}

static void forget_wish(void)
{
	source.fail_in = 0;
	check(kvs__arena_prepare(arena));
	check(!kvs__arena_wants_chunk(arena));
	source.fail_in = -1;
}

/* Of 17 free spans of the last chunk trim takes one for a moment. */
static void test_trim_wants_no_chunk(void **state)
{
	struct blocks b = blocks_new(10 * 512);
	unsigned cursor = 0;
	size_t n = 0, last;
	bool was_huge;
	void *ptr;

	begin(state);
	while (source.live < 9)
		block_alloc(&b, n++, 4096);
	was_huge = count_advised_huge() != 0;
	for (last = n - 1; n < last + 13 + 14 * 16; n++)
		block_alloc(&b, n, 4096);
	forget_wish();
	ptr = kvs__arena_alloc(arena, &heap, 5000);
	check(kvs__arena_wants_chunk(arena));
	kvs__arena_free(arena, ptr, 5000);
	kvs__heap_flush(arena, &heap);
	forget_wish();
	while (kvs__arena_trim_step(arena, &cursor, 1) == 1)
		;
	/* A huge page came whole: its free spans go whole. Else only the one that was used. */
	check(kvs__arena_given(arena) >= (was_huge ? 17 : 1) * (size_t)SPAN_KIB << 10);
	check(!kvs__arena_wants_chunk(arena));
	check_arena();
	blocks_delete(&b);
	end();
}

/* Nobody prepares, or no memory is there: the writer maps, as in a small one. */
static void test_a_chunk_that_was_not_prepared_is_mapped(void **state)
{
	struct blocks b = blocks_new(12 * 512);
	size_t n = 0;

	begin(state);
	while (!kvs__arena_wants_chunk(arena))
		block_alloc(&b, n++, 4096);
	source.fail_in = 0;
	check(kvs__arena_prepare(arena));
	check_u64(source.failures, 1);
	check(!kvs__arena_wants_chunk(arena));
	source.fail_in = -1;
	blocks_alloc(&b, n, b.count, 4096);
	check(source.live > 10);
	check(kvs__arena_wants_chunk(arena));
	blocks_free(&b, 0, b.count);
	kvs__heap_flush(arena, &heap);
	check_arena();
	check_u64(source.live, 1);
	check(kvs__arena_wants_chunk(arena)); /* from before: there is a spare one by now */
	check(!kvs__arena_prepare(arena));
	check(!kvs__arena_wants_chunk(arena));
	check_arena();
	check_u64(source.live, 1);
	check_all_free();
	blocks_delete(&b);
	end();
}

static void test_default_source_maps_aligned_chunks(void **state)
{
	struct kvs__arena *a = kvs__arena_create(NULL);
	struct kvs__heap h = { NULL };
	size_t i;
	char *p;

	begin(state);
	check(a != NULL);
	for (i = 0; i < 5 * 64; i++) {
		p = kvs__arena_alloc(a, &h, 32768);
		check(p != NULL);
		memset(p, 1, 32768);
	}
	p = kvs__arena_alloc(a, &h, MIB);
	check(p != NULL);
	memset(p, 1, MIB);
	kvs__arena_free(a, p, MIB);
	check(kvs__arena_check(a) == NULL);
	check(kvs__arena_mapped(a) >= 5 * KVS__ARENA_CHUNK);
	kvs__arena_destroy(a);
	kvs__heap_drop(&h);
	kvs__arena_destroy(NULL);
	end();
}

static void test_destroy_takes_what_is_still_allocated(void **state)
{
	struct blocks b = blocks_new(30000);
	size_t i;

	begin(state);
	blocks_alloc(&b, 0, 29000, BLOCK);
	for (i = 29000; i < 29050; i++)
		block_alloc(&b, i, size_of_mix(i));
	util_note("%zu maps live, %zu bytes used", source.live, kvs__arena_used(arena));
	check(source.live > 3);
	kvs__arena_destroy(arena);
	check_u64(source.live, 0);
	kvs__heap_drop(&heap);
	arena = NULL;
	blocks_delete(&b);
	end();
}

#ifdef KVS_DEBUG
static void free_twice(void)
{
	void *a = kvs__arena_alloc(arena, NULL, BLOCK);

	check(kvs__arena_alloc(arena, NULL, BLOCK) != NULL);
	kvs__arena_free(arena, a, BLOCK);
	kvs__arena_free(arena, a, BLOCK);
}

static void free_with_another_size(void)
{
	kvs__arena_free(arena, kvs__arena_alloc(arena, NULL, BLOCK), BLOCK + 8);
}

static void free_inside_a_block(void)
{
	void *a = kvs__arena_alloc(arena, NULL, BLOCK);

	check(kvs__arena_alloc(arena, NULL, BLOCK) != NULL);
	kvs__arena_free(arena, (char *)a + 8, BLOCK);
}

static void free_large_with_another_size(void)
{
	kvs__arena_free(arena, kvs__arena_alloc(arena, NULL, 50000), 60000);
}

static void check_aborts(void (*wrong)(void))
{
	int status = 0;
	pid_t pid = util_fork();

	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		check(freopen("/dev/null", "w", stderr) != NULL);
		wrong();
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_wrong_frees_are_caught_in_debug_builds(void **state)
{
	begin(state);
	check_aborts(free_twice);
	check_aborts(free_with_another_size);
	check_aborts(free_inside_a_block);
	check_aborts(free_large_with_another_size);
	end();
}
#endif

/* ---- Threads ---------------------------------------------------------------------------- */

enum { WRITERS = 3, BATCH = 256, QUEUED = 32 };

struct batch {
	void *ptr[BATCH];
	uint32_t size[BATCH];
};

/* Writers hand batches to one thread that frees, through a queue with room for QUEUED. */
struct market {
	pthread_mutex_t mutex;
	pthread_cond_t change;
	struct batch *queue[QUEUED];
	size_t queued;
	size_t writers;
	size_t rounds; /* batches per writer */
	size_t freed;
	size_t peak; /* of mapped */
	bool trim;
};

static void market_put(struct market *m, struct batch *batch)
{
	pthread_mutex_lock(&m->mutex);
	while (m->queued == QUEUED)
		pthread_cond_wait(&m->change, &m->mutex);
	m->queue[m->queued++] = batch;
	pthread_cond_broadcast(&m->change);
	pthread_mutex_unlock(&m->mutex);
}

/* NULL when all writers are done. */
static struct batch *market_get(struct market *m)
{
	struct batch *batch = NULL;

	pthread_mutex_lock(&m->mutex);
	while (m->queued == 0 && m->writers > 0)
		pthread_cond_wait(&m->change, &m->mutex);
	if (m->queued > 0)
		batch = m->queue[--m->queued];
	pthread_cond_broadcast(&m->change);
	pthread_mutex_unlock(&m->mutex);
	return batch;
}

static struct batch *make_batch(struct kvs__heap *h, struct rng *rng)
{
	struct batch *batch = malloc(sizeof(*batch));
	size_t i;

	check(batch != NULL);
	for (i = 0; i < BATCH; i++) {
		batch->size[i] = rng_below(rng, 8) ? BLOCK : (uint32_t)(8 + rng_below(rng, 2000));
		batch->ptr[i] = kvs__arena_alloc(arena, h, batch->size[i]);
		check(batch->ptr[i] != NULL);
		pattern_fill(batch->ptr[i], batch->size[i], (uintptr_t)batch->ptr[i]);
	}
	return batch;
}

static void free_batch(struct batch *batch)
{
	size_t i;

	for (i = 0; i < BATCH; i++)
		check(pattern_matches(batch->ptr[i], batch->size[i], (uintptr_t)batch->ptr[i]));
	kvs__arena_free_many(arena, batch->ptr, batch->size, BATCH);
	free(batch);
}

static void run_writer(struct market *m, size_t index)
{
	struct kvs__heap h = { NULL };
	struct rng rng;
	size_t i;

	rng_init(&rng, 100 + index);
	for (i = 0; i < m->rounds; i++)
		market_put(m, make_batch(&h, &rng));
	kvs__heap_flush(arena, &h);
	pthread_mutex_lock(&m->mutex);
	m->writers--;
	pthread_cond_broadcast(&m->change);
	pthread_mutex_unlock(&m->mutex);
}

static void run_freer(struct market *m)
{
	struct batch *batch;
	unsigned cursor = 0;
	size_t mapped;

	while ((batch = market_get(m)) != NULL) {
		free_batch(batch);
		m->freed += BATCH;
		if (m->trim)
			check(kvs__arena_trim_step(arena, &cursor, 8) <= 8);
		mapped = kvs__arena_mapped(arena);
		m->peak = mapped > m->peak ? mapped : m->peak;
	}
}

static void market_thread(size_t index, void *arg)
{
	if (index == 0)
		run_freer(arg);
	else
		run_writer(arg, index);
}

static void run_market(bool trim)
{
	struct market m = { .writers = WRITERS, .trim = trim };

	m.rounds = util_scaled(60, 1000, 20000);
	pthread_mutex_init(&m.mutex, NULL);
	pthread_cond_init(&m.change, NULL);
	run_threads(1 + WRITERS, market_thread, &m);
	pthread_cond_destroy(&m.change);
	pthread_mutex_destroy(&m.mutex);
	util_note("%zu blocks through %d writers and one freer: mapped at most %zu KiB", m.freed,
		  WRITERS, m.peak >> 10);
	check_u64(m.freed, WRITERS * m.rounds * BATCH);
	check(m.freed >= 46080);
	check(m.peak <= 20 * MIB); /* 3 MiB in flight, and 165 + 62 classes with a span or two */
	check_all_free();
}

static void test_one_thread_frees_what_many_allocate(void **state)
{
	begin(state);
	run_market(false);
	end();
}

static void test_trim_beside_writers(void **state)
{
	begin(state);
	run_market(true);
	end();
}

/* ----------------------------------------------------------------------------------------- */

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_of_a_size_lie_side_by_side),
		cmocka_unit_test(test_refill_takes_the_lowest_free_blocks_in_order),
		cmocka_unit_test(test_every_size_is_aligned_apart_and_bounded),
		cmocka_unit_test(test_ten_thousand_entries_take_under_4_mib),
		cmocka_unit_test(test_blocks_cost_under_one_percent),
		cmocka_unit_test(test_free_many_takes_any_mix_and_number),
		cmocka_unit_test(test_what_was_freed_last_is_taken_first),
		cmocka_unit_test(test_what_is_kept_is_a_share_of_what_is_in_use),
		cmocka_unit_test(test_what_is_kept_becomes_less_by_single_frees),
#ifndef KVS_ASAN
		cmocka_unit_test(test_free_does_not_touch_the_block),
#else
		cmocka_unit_test(test_blocks_are_poisoned_but_while_allocated),
#endif
		cmocka_unit_test(test_flush_gives_back_what_the_heap_holds),
		cmocka_unit_test(test_no_heap_works_too),
		cmocka_unit_test(test_large_blocks_come_and_go),
		cmocka_unit_test(test_empty_chunks_are_unmapped),
		cmocka_unit_test(test_deleting_the_first_99_percent_gives_their_chunks_back),
		cmocka_unit_test(test_trim_gives_back_pages_after_random_deletes),
		cmocka_unit_test(test_trim_gives_back_free_spans_of_used_chunks),
		cmocka_unit_test(test_trim_steps_are_bounded_and_come_to_an_end),
		cmocka_unit_test(test_trim_steps_give_back_what_the_depot_held),
		cmocka_unit_test(test_a_span_serves_another_size_once_empty),
		cmocka_unit_test(test_huge_pages_are_for_large_stores_only),
		cmocka_unit_test(test_the_first_chunks_become_huge_in_a_large_store),
		cmocka_unit_test(test_no_memory_is_null_and_nothing_is_lost),
		cmocka_unit_test(test_large_arenas_want_the_next_chunk_ahead),
		cmocka_unit_test(test_chunks_are_not_prepared_for_nothing),
		cmocka_unit_test(test_trim_wants_no_chunk),
		cmocka_unit_test(test_a_chunk_that_was_not_prepared_is_mapped),
		cmocka_unit_test(test_default_source_maps_aligned_chunks),
		cmocka_unit_test(test_destroy_takes_what_is_still_allocated),
#ifdef KVS_DEBUG
		cmocka_unit_test(test_wrong_frees_are_caught_in_debug_builds),
#endif
		cmocka_unit_test(test_one_thread_frees_what_many_allocate),
		cmocka_unit_test(test_trim_beside_writers),
	};

	return util_main("arena", tests, ARRAY_LEN(tests));
}
