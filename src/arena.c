/* SPDX-License-Identifier: MIT */
/*
 * arena.c - memory for entries.
 *
 * What
 *
 * Entries are made by the threads that write and freed, a grace period later, by one thread in
 * batches. That is the case general allocators are worst at: the freeing
 * thread hoards what the writers need, or pays a remote free and a miss on the dead block each
 * time. Here the freed blocks' addresses go, a magazine full at a time, to whoever allocates next, and
 * what is too much for that clears one bit each beside many others, where any writer finds it again.
 *
 * Picture
 *
 *	arena ── class[165]: mutex, depot, spans by fullness, spans to trim     one per block size
 *	      └─ pool: mutex, chunks by number of free spans
 *	                 │
 *	chunk, 2 MiB     ▼                                 heap (one thread at a time)
 *	┌────────────┬────────┬────────┬─ ─ ─┬────────┐      magazine per class, made on first use:
 *	│header│ s0  │ span 1 │ span 2 │     │span 31 │        up to 62 blocks
 *	└──┬───┴─────┴────────┴────────┴─ ─ ─┴────────┘
 *	   └ span[32]: class, used, bitmap (1 = taken), pages given back, list links
 *
 * A chunk is 2 MiB and so aligned: a block's address leads to its chunk, span and bit by
 * arithmetic alone. A span is 64 KiB (the first is 12 KiB shorter) of blocks of one size, side by
 * side with nothing between them. Block sizes are every 8 bytes from 32 to 1024, then eight steps
 * to each doubling, up to 32 KiB. All that is known of a block is its bit in the header: freed
 * blocks hold no links, and free touches no line of theirs. What is left over at a span's end is
 * under 2% of it up to 1 KiB, under 20% up to 16 KiB, and 31% at worst (22 KiB).
 *
 * Alloc takes from the thread's magazine. An empty magazine is exchanged under the class's mutex for one
 * of the class's depot (depot.h). If that has none it is filled
 * with the lowest free blocks of one span, at most 8 KiB of them. The span comes from the fullest
 * quarter that has one, so that emptier ones can become empty; within a quarter the one that waited
 * longest, so that it has collected many free blocks and one lock buys many. Chunks likewise: the
 * one with the fewest free spans first.
 *
 * Free takes the class's mutex once per 64 blocks of a batch. While the depot keeps less than 1/16 of
 * what is in use, the blocks go there. That is what a store that is overwritten lives on: in a large one
 * the free blocks are one or two a span, and to look for each would cost a lock and some misses
 * on either side. Otherwise they go to their spans, the lines of the header fetched ahead; and while
 * the depot keeps more than 1/8, since the store became smaller, each time one magazine of it goes too.
 * Writers of a class thus wait for two times 64 frees at most, or for trim to give back the pages of
 * one span, or for one chunk to be mapped.
 *
 * To map a chunk is to clear 2 MiB. When a large arena has used half of its last one it says that it
 * wants another; the maintainer prepares it before the writers are there.
 *
 * Giving back. A span whose last block is freed goes back to its chunk, for any class. A chunk
 * whose last span comes back is unmapped, but for one spare. What random deletes leave behind is
 * pages: trim looks at spans less than half full which lost an eighth of their blocks since they
 * were last looked at (they queue up when that happens, nobody searches) and gives their wholly
 * free pages to the system. Such pages are remembered, until a block is taken from them. Free
 * spans of used chunks are given back by trim whole.
 *
 * Huge pages are asked for once 8 chunks are held; a small store stays small. With each chunk that is
 * prepared from then on, one of the first 8 is laid on a huge page too. They are declined
 * again for a chunk before its pages are given back (else khugepaged fills the holes), which
 * takes a span with four such pages at least, and asked for again when all its pages are in use.
 *
 * Large blocks come with a header on a list: destroy must find them. Up to 256 KiB from malloc,
 * above from the source.
 *
 * States
 *
 *	span   free in its chunk -> partial, on a list of its class -> full, on none -> ... -> free
 *	block  free -> in a magazine -> allocated -> free, or in the depot -> in a magazine -> ...
 *	       (taken, in the bitmap, but while free)
 *	chunk  mapped -> has free spans | has none -> spare | unmapped
 *
 * Invariants (kvs__arena_check)
 *
 *	INV-A1  A span is free in its chunk with no bit set, or has 0 < used < total and is on the
 *	        list of its class for its fullness, or is full and on no list of spans.
 *	INV-A2  used is the number of bits set; no bit is set from total on; none is clear in a word
 *	        below hint.
 *	INV-A3  A class's taken is the sum of used over its spans.
 *	INV-A4  A page in given touches no taken block; a chunk's given_pages counts the bits of
 *	        its spans, the pool's those of its chunks.
 *	INV-A5  A chunk is on the pool's list for its number of free spans, and on the list of dirty
 *	        ones if one of its free spans has pages not given back. Spares counts the chunks of
 *	        32 free spans.
 *	INV-A6  A block in the depot of a class is taken, in a span of that class, and in one place there;
 *	        kept counts them.
 *
 * Locking
 *
 * Order: class, then pool; never two classes. The large blocks' mutex is taken alone. A class's
 * mutex protects its lists, depot and counter and all of its spans but the chunk's bit for them; a span's
 * owner is the class that took it from the pool, or the pool. Only the span's owner reads or writes
 * it. A magazine belongs to the thread that has the heap. Chunks are mapped under the mutex of the
 * class that needs one, not the pool's; they are unmapped under none.
 *
 * Progress
 *
 * Alloc takes no lock but to refill: one class, at most once the pool, at most one map(). No call
 * but destroy, check and trim walks anything longer than a span's 32 words, the pool's 33 lists or
 * its own arguments. No call clears memory: chunks arrive zeroed and a free span's bitmap is clear.
 *
 * Addresses. Chunk, span and page arithmetic lives in chunk_of(), find_spot(), pages_between() and
 * free_pages(). The page is taken to be 4 KiB; where it is larger trim's madvise fails and nothing
 * is given back but whole chunks.
 */
#include "arena.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "atomic.h"
#include "compiler.h"
#include "depot.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; before, the page comes when khugepaged passes */
#endif

#ifdef KVS_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(ptr, size) ASAN_POISON_MEMORY_REGION(ptr, size)
#define UNPOISON(ptr, size) ASAN_UNPOISON_MEMORY_REGION(ptr, size)
#define IS_POISONED(ptr) __asan_address_is_poisoned(ptr)
#else
#define POISON(ptr, size) ((void)(ptr), (void)(size))
#define UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#define IS_POISONED(ptr) ((void)(ptr), false)
#endif

enum {
	SPANS = 32, /* spans in a chunk */
	SPAN_SIZE = 64 << 10,
	HEADER_SIZE = 12 << 10, /* taken from span 0 */
	PAGE_SIZE = 4 << 10,
	PAGES = SPAN_SIZE / PAGE_SIZE,
	UNIT = KVS__ARENA_UNIT,
	SMALLEST = KVS__ARENA_SMALLEST,
	FINE_MAX = KVS__ARENA_FINE_MAX, /* classes every 8 bytes up to here */
	FINE_CLASSES = (FINE_MAX - SMALLEST) / UNIT + 1,
	CLASSES = FINE_CLASSES + 5 * 8,
	WORDS = SPAN_SIZE / SMALLEST / 64,
	MAGAZINE_BYTES = 8 << 10,
	KEEP_SMALLEST = 8, /* blocks in a magazine from which on a class has a depot */
	KEEP_SHARE = 16,   /* one freed block is kept for so many in use ... */
	DRAIN_SHARE = 8,   /* ... and with one for so many the depot is drained */
	BINS = 4,          /* lists of partial spans by fullness */
	BIN_NONE = BINS,   /* full, or free */
	WINDOW = 64,       /* blocks freed under one lock */
	SPARES = 1,        /* wholly free chunks kept */
	HUGE_FROM = 8,     /* chunks mapped before huge pages are asked for */
	SPLIT_PAGES = 4,   /* free pages in a span worth losing a huge page */
	TRIM_STEP = 64,
	TRIM_STOPS = CLASSES + 1, /* a trim cursor's values: the classes, then the free spans */
};

#define ALL_SPANS UINT32_MAX
#define ALL_PAGES 0xffffu

struct link {
	struct link *prev;
	struct link *next;
};

/* Protected by the mutex of its class while it has one, by the pool's while it is free. */
struct span {
	struct link by_fullness;
	struct link to_trim;
	char *base;     /* first block */
	uint32_t used;  /* blocks taken */
	uint32_t total; /* blocks it has room for */
	uint32_t hint;  /* no free block in a word below this one */
	uint32_t mark;  /* worth another trim when used is an eighth below this */
	uint16_t given; /* pages given back, bit 0 at the span's first byte */
	uint8_t class;
	uint8_t bin;
	KVS_LINE_ALIGNED uint64_t bits[WORDS];
};

struct chunk {
	struct link by_free;     /* pool */
	struct link dirty;       /* pool */
	struct link small;       /* pool: on its list until huge pages are asked for */
	uint32_t free_spans;     /* pool */
	uint32_t dirty_spans;    /* pool: free ones with pages not given back */
	uint32_t given_pages;    /* pool */
	bool huge;               /* pool: huge pages asked for */
	struct chunk *next_dead; /* owned by the thread that unmaps it */
	KVS_LINE_ALIGNED struct span span[SPANS];
};

_Static_assert(sizeof(struct chunk) <= HEADER_SIZE, "the header's room in span 0");
_Static_assert(sizeof(struct chunk) % KVS_LINE == 0, "span headers lie on lines of their own");
_Static_assert(KVS__ARENA_CHUNK == (size_t)SPANS * SPAN_SIZE, "spans fill a chunk");
_Static_assert(CLASSES <= UINT8_MAX, "a span's class fits");

struct size_class {
	KVS_LINE_ALIGNED pthread_mutex_t mutex;
	uint32_t size;    /* immutable */
	uint32_t inverse; /* immutable: floor(x / size) = x * inverse >> 32 for x < 64 Ki */
	uint32_t batch;   /* immutable: blocks per refill */
	size_t taken;     /* blocks, with those in the depot */
	struct kvs__depot depot;
	struct link bin[BINS];
	struct link to_trim;
};

struct pool {
	KVS_LINE_ALIGNED pthread_mutex_t mutex;
	size_t chunks;
	size_t spares;
	size_t given_pages;
	kvs__u32 wants_chunk; /* written under the mutex */
	struct link dirty;
	struct link small; /* chunks from before huge pages were asked for */
	struct link by_free[SPANS + 1];
};

struct large {
	struct link link;
	size_t size; /* with this header, as it came from the system */
	bool direct; /* from the source, not malloc */
};

struct large_list {
	KVS_LINE_ALIGNED pthread_mutex_t mutex;
	size_t bytes;
	struct link blocks;
};

struct kvs__arena {
	struct size_class class[CLASSES];
	struct pool pool;
	struct large_list large;
	struct kvs__arena_source source;
};

/* Where a block is: found by arithmetic, without reading the chunk. */
struct spot {
	struct span *span;
	uint32_t index;
	uint32_t class;
};

/* ---- lists ---- */

static void list_init(struct link *link)
{
	link->prev = link;
	link->next = link;
}

static bool list_empty(const struct link *link)
{
	return link->next == link;
}

static void list_append(struct link *head, struct link *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

static void list_remove(struct link *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

/* ---- sizes and addresses ---- */

static uint32_t class_of(size_t size)
{
	unsigned top, eighth;

	if (size <= SMALLEST)
		return 0;
	if (size <= FINE_MAX)
		return (uint32_t)((size + UNIT - 1) / UNIT) - SMALLEST / UNIT;
	top = 63 - (unsigned)__builtin_clzl(size - 1);
	eighth = (unsigned)((size - 1) >> (top - 3)) - 8;
	return FINE_CLASSES + (top - 10) * 8 + eighth;
}

static uint32_t class_size(uint32_t class)
{
	uint32_t coarse = class - FINE_CLASSES;

	if (class < FINE_CLASSES)
		return SMALLEST + class * UNIT;
	return (coarse % 8 + 9) << (coarse / 8 + 7);
}

static uint32_t divide(uint32_t x, uint32_t inverse)
{
	return (uint32_t)((uint64_t)x * inverse >> 32);
}

static struct chunk *chunk_of(const void *ptr)
{
	return (struct chunk *)((uintptr_t)ptr & ~(uintptr_t)(KVS__ARENA_CHUNK - 1));
}

static uint32_t span_number(const struct span *span)
{
	return (uint32_t)(span - chunk_of(span)->span);
}

static uint32_t header_bytes(uint32_t span_nr)
{
	return span_nr == 0 ? HEADER_SIZE : 0;
}

static char *span_start(const struct span *span)
{
	return (char *)chunk_of(span) + (size_t)span_number(span) * SPAN_SIZE;
}

static struct spot find_spot(struct kvs__arena *arena, const void *ptr, size_t size)
{
	struct chunk *chunk = chunk_of(ptr);
	uint32_t off = (uint32_t)((uintptr_t)ptr & (KVS__ARENA_CHUNK - 1));
	uint32_t span_nr = off / SPAN_SIZE;
	struct spot spot = { .span = &chunk->span[span_nr], .class = class_of(size) };

	off -= span_nr * SPAN_SIZE + header_bytes(span_nr);
	spot.index = divide(off, arena->class[spot.class].inverse);
	KVS_ASSERT(off == spot.index * arena->class[spot.class].size);
	return spot;
}

static bool is_taken(struct kvs__arena *arena, const struct size_class *class, const void *ptr)
{
	struct spot spot = find_spot(arena, ptr, class->size);

	return &arena->class[spot.span->class] == class &&
	       (spot.span->bits[spot.index / 64] >> spot.index % 64 & 1) != 0;
}

/* The pages of a span that hold its bytes [from, to]. */
static uint32_t pages_between(uint32_t from, uint32_t to)
{
	return ((2u << to / PAGE_SIZE) - 1) & ~((1u << from / PAGE_SIZE) - 1);
}

/* ---- the memory source ---- */

static void *map_aligned_slow(size_t size, size_t align)
{
	char *raw, *ptr;
	size_t head;

	raw = mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	head = (align - (uintptr_t)raw % align) % align;
	ptr = raw + head;
	if (head > 0)
		munmap(raw, head);
	if (align > head)
		munmap(ptr + size, align - head);
	return ptr;
}

/* The kernel packs mappings downwards: after one aligned chunk the next is aligned by itself. */
static void *map_default(void *ctx, size_t size, size_t align)
{
	void *ptr;

	(void)ctx;
	ptr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ptr == MAP_FAILED)
		return NULL;
	if ((uintptr_t)ptr % align == 0)
		return ptr;
	munmap(ptr, size);
	return map_aligned_slow(size, align);
}

static void unmap_default(void *ctx, void *ptr, size_t size)
{
	(void)ctx;
	munmap(ptr, size);
}

static const struct kvs__arena_source default_source = { map_default, unmap_default, NULL };

/* ---- chunks and the pool ---- */

static unsigned free_span_count(const struct chunk *chunk)
{
	return (unsigned)__builtin_popcount(chunk->free_spans);
}

static void refile_chunk_locked(struct pool *pool, struct chunk *chunk)
{
	list_remove(&chunk->by_free);
	list_append(&pool->by_free[free_span_count(chunk)], &chunk->by_free);
}

/* Also says no for the first ones: where the system gives huge pages unasked. */
static bool ask_huge(struct chunk *chunk, bool huge)
{
	return madvise(chunk, KVS__ARENA_CHUNK, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0 &&
	       huge;
}

static void ask_huge_locked(struct pool *pool, struct chunk *chunk)
{
	chunk->huge = ask_huge(chunk, pool->chunks >= HUGE_FROM);
}

static struct chunk *map_chunk(struct kvs__arena *arena)
{
	struct chunk *chunk;
	bool huge;

	chunk = arena->source.map(arena->source.ctx, KVS__ARENA_CHUNK, KVS__ARENA_CHUNK);
	if (chunk == NULL)
		return NULL;
	pthread_mutex_lock(&arena->pool.mutex);
	huge = arena->pool.chunks >= HUGE_FROM;
	pthread_mutex_unlock(&arena->pool.mutex);
	/* Before the first touch: a small page that is there already keeps the huge one out. */
	huge = ask_huge(chunk, huge);
	POISON((char *)chunk + HEADER_SIZE, KVS__ARENA_CHUNK - HEADER_SIZE);
	chunk->huge = huge;
	list_init(&chunk->by_free);
	list_init(&chunk->dirty);
	list_init(&chunk->small);
	chunk->free_spans = ALL_SPANS;
	return chunk;
}

static void decline_huge_locked(struct chunk *chunk)
{
	if (chunk->huge)
		madvise(chunk, KVS__ARENA_CHUNK, MADV_NOHUGEPAGE);
	chunk->huge = false;
}

static void remove_chunk_locked(struct pool *pool, struct chunk *chunk)
{
	list_remove(&chunk->by_free);
	list_remove(&chunk->dirty);
	list_remove(&chunk->small);
	pool->given_pages -= chunk->given_pages;
	pool->chunks--;
	pool->spares--;
	chunk->next_dead = NULL;
}

static void unmap_chunks(struct kvs__arena *arena, struct chunk *dead)
{
	struct chunk *next;

	for (; dead != NULL; dead = next) {
		next = dead->next_dead;
		UNPOISON(dead, KVS__ARENA_CHUNK);
		arena->source.unmap(arena->source.ctx, dead, KVS__ARENA_CHUNK);
	}
}

static void set_dirty_locked(struct pool *pool, struct chunk *chunk, uint32_t dirty_spans)
{
	if (dirty_spans != 0 && chunk->dirty_spans == 0)
		list_append(&pool->dirty, &chunk->dirty);
	if (dirty_spans == 0)
		list_remove(&chunk->dirty);
	chunk->dirty_spans = dirty_spans;
}

/* A huge page came whole, with the header's first word. */
static void add_chunk_locked(struct pool *pool, struct chunk *chunk)
{
	pool->chunks++;
	pool->spares++;
	refile_chunk_locked(pool, chunk);
	if (chunk->huge)
		set_dirty_locked(pool, chunk, ALL_SPANS);
	else
		list_append(&pool->small, &chunk->small);
}

static struct span *take_span_locked(struct pool *pool, struct chunk *chunk, uint32_t span_nr)
{
	uint32_t bit = 1u << span_nr;

	if (chunk->free_spans == ALL_SPANS)
		pool->spares--;
	chunk->free_spans &= ~bit;
	set_dirty_locked(pool, chunk, chunk->dirty_spans & ~bit);
	refile_chunk_locked(pool, chunk);
	return &chunk->span[span_nr];
}

/*
 * For blocks. With half of the last chunk it is time for another: not with its first span, or a key that comes and
 * goes would have a chunk mapped and unmapped each time.
 */
static struct span *begin_span_locked(struct pool *pool, struct chunk *chunk, uint32_t span_nr)
{
	struct span *span = take_span_locked(pool, chunk, span_nr);

	if (pool->spares == 0 && free_span_count(chunk) == SPANS / 2)
		store_relaxed(&pool->wants_chunk, pool->chunks >= HUGE_FROM);
	return span;
}

/* Returns the chunk if it is to be unmapped. OWNS: the caller, it is on no list any more. */
static struct chunk *put_span_locked(struct pool *pool, struct span *span, bool dirty)
{
	struct chunk *chunk = chunk_of(span);
	uint32_t bit = 1u << span_number(span);

	chunk->free_spans |= bit;
	if (dirty)
		set_dirty_locked(pool, chunk, chunk->dirty_spans | bit);
	refile_chunk_locked(pool, chunk);
	if (chunk->free_spans != ALL_SPANS)
		return NULL;
	if (pool->spares++ < SPARES)
		return NULL;
	remove_chunk_locked(pool, chunk);
	return chunk;
}

/* Resident ones first. */
static uint32_t best_free_span(const struct chunk *chunk)
{
	uint32_t spans = chunk->dirty_spans != 0 ? chunk->dirty_spans : chunk->free_spans;

	return (uint32_t)__builtin_ctz(spans);
}

static struct span *take_some_span_locked(struct pool *pool)
{
	struct chunk *chunk;
	unsigned n;

	for (n = 1; n <= SPANS; n++) {
		if (list_empty(&pool->by_free[n]))
			continue;
		chunk = kvs_container_of(pool->by_free[n].next, struct chunk, by_free);
		return begin_span_locked(pool, chunk, best_free_span(chunk));
	}
	return NULL;
}

static struct span *take_span(struct kvs__arena *arena)
{
	struct pool *pool = &arena->pool;
	struct chunk *chunk;
	struct span *span;

	pthread_mutex_lock(&pool->mutex);
	span = take_some_span_locked(pool);
	pthread_mutex_unlock(&pool->mutex);
	if (span != NULL)
		return span;
	chunk = map_chunk(arena);
	if (chunk == NULL)
		return NULL;
	pthread_mutex_lock(&pool->mutex);
	add_chunk_locked(pool, chunk);
	span = begin_span_locked(pool, chunk, 0);
	pthread_mutex_unlock(&pool->mutex);
	return span;
}

/* Takes the wish away. true: it still was one. */
static bool take_wish(struct pool *pool)
{
	bool wanted;

	pthread_mutex_lock(&pool->mutex);
	wanted = load_relaxed(&pool->wants_chunk) && pool->spares < SPARES;
	store_relaxed(&pool->wants_chunk, 0);
	pthread_mutex_unlock(&pool->mutex);
	return wanted;
}

/* A page that is asked for at once comes even where the system is to give none. */
static bool huge_pages_are_on(void)
{
	int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
	char text[64] = "";
	ssize_t len = -1;

	if (fd >= 0) {
		len = read(fd, text, sizeof(text) - 1);
		(void)close(fd);
	}
	return len > 0 && strstr(text, "[never]") == NULL;
}

/* One that was mapped while the arena was small, if it has filled: huge pages are asked for. One look a call. */
static struct chunk *ask_for_one_small(struct pool *pool)
{
	struct chunk *chunk = NULL;

	pthread_mutex_lock(&pool->mutex);
	if (!list_empty(&pool->small) && pool->chunks >= HUGE_FROM) {
		chunk = kvs_container_of(pool->small.next, struct chunk, small);
		list_remove(&chunk->small);
		if (chunk->given_pages == 0 && free_span_count(chunk) <= SPANS / 2) {
			ask_huge_locked(pool, chunk);
			set_dirty_locked(pool, chunk, chunk->free_spans);
		} else {
			list_append(&pool->small, &chunk->small);
			chunk = NULL;
		}
	}
	pthread_mutex_unlock(&pool->mutex);
	return chunk;
}

/*
 * What the chunk holds is copied, which takes a millisecond or more: under no lock. Who trims is not here (arena.h), and if the
 * chunk is unmapped meanwhile the system says so.
 */
static void make_one_huge(struct pool *pool)
{
	struct chunk *chunk = ask_for_one_small(pool);

	if (chunk != NULL && huge_pages_are_on())
		(void)madvise(chunk, KVS__ARENA_CHUNK, MADV_COLLAPSE);
}

/* Its header's first word brings a huge page in, which takes longest of all. */
bool kvs__arena_prepare(struct kvs__arena *arena)
{
	struct pool *pool = &arena->pool;
	struct chunk *chunk;

	if (!kvs__arena_wants_chunk(arena) || !take_wish(pool))
		return false;
	chunk = map_chunk(arena);
	if (chunk == NULL)
		return true;
	pthread_mutex_lock(&pool->mutex);
	if (pool->spares < SPARES) {
		add_chunk_locked(pool, chunk);
		chunk = NULL;
	}
	pthread_mutex_unlock(&pool->mutex);
	unmap_chunks(arena, chunk);
	make_one_huge(pool);
	return true;
}

bool kvs__arena_wants_chunk(const struct kvs__arena *arena)
{
	return load_relaxed(&arena->pool.wants_chunk) != 0;
}

static struct chunk *put_span(struct kvs__arena *arena, struct span *span, bool dirty)
{
	struct chunk *dead;

	pthread_mutex_lock(&arena->pool.mutex);
	dead = put_span_locked(&arena->pool, span, dirty);
	pthread_mutex_unlock(&arena->pool.mutex);
	return dead;
}

/* ---- pages given back ---- */

static void note_given_locked(struct pool *pool, struct span *span, uint32_t pages)
{
	uint32_t n = (uint32_t)__builtin_popcount(pages);

	span->given = (uint16_t)(span->given | pages);
	chunk_of(span)->given_pages += n;
	pool->given_pages += n;
}

/* Blocks are about to be used on these pages. */
static void claim_pages(struct kvs__arena *arena, struct span *span, uint32_t pages)
{
	struct chunk *chunk = chunk_of(span);
	uint32_t back = span->given & pages;
	uint32_t n = (uint32_t)__builtin_popcount(back);

	if (back == 0)
		return;
	span->given = (uint16_t)(span->given & ~back);
	pthread_mutex_lock(&arena->pool.mutex);
	arena->pool.given_pages -= n;
	chunk->given_pages -= n;
	if (chunk->given_pages == 0)
		ask_huge_locked(&arena->pool, chunk);
	pthread_mutex_unlock(&arena->pool.mutex);
}

/* All pages of the span but the chunk's header. */
static uint32_t span_pages(const struct span *span)
{
	return ALL_PAGES & ~((1u << header_bytes(span_number(span)) / PAGE_SIZE) - 1);
}

/* Runs of pages, one call each; returns those that the system took. */
static uint32_t discard_pages(struct span *span, uint32_t pages)
{
	char *start = span_start(span);
	uint32_t taken = 0;
	uint32_t run;
	unsigned first, n;

	while (pages != 0) {
		first = (unsigned)__builtin_ctz(pages);
		n = (unsigned)__builtin_ctz(~(pages >> first));
		run = ((1u << n) - 1) << first;
		pages &= ~run;
		if (madvise(start + (size_t)first * PAGE_SIZE, (size_t)n * PAGE_SIZE,
			    MADV_DONTNEED) == 0)
			taken |= run;
	}
	return taken;
}

static bool range_is_free(const struct span *span, uint32_t from, uint32_t to)
{
	uint32_t word;
	uint64_t bits;

	for (word = from / 64; word <= to / 64; word++) {
		bits = span->bits[word];
		if (word == from / 64)
			bits &= ~UINT64_C(0) << from % 64;
		if (word == to / 64)
			bits &= ~UINT64_C(0) >> (63 - to % 64);
		if (bits != 0)
			return false;
	}
	return true;
}

static uint32_t free_pages(const struct size_class *class, const struct span *span)
{
	uint32_t skip = header_bytes(span_number(span));
	uint32_t pages = 0;
	uint32_t page, from, to;

	for (page = skip / PAGE_SIZE; page < PAGES; page++) {
		from = divide(page * PAGE_SIZE - skip, class->inverse);
		to = divide((page + 1) * PAGE_SIZE - 1 - skip, class->inverse);
		to = to < span->total ? to : span->total - 1;
		if (from >= span->total || range_is_free(span, from, to))
			pages |= 1u << page;
	}
	return pages;
}

/* ---- spans in a class ---- */

static unsigned fullness(const struct span *span)
{
	uint32_t used = 4 * span->used, total = span->total;

	if (span->used == total || span->used == 0)
		return BIN_NONE;
	return (unsigned)(used > total) + (used > 2 * total) + (used > 3 * total);
}

static void refile_span_locked(struct size_class *class, struct span *span)
{
	unsigned bin = fullness(span);

	if (bin == span->bin)
		return;
	list_remove(&span->by_fullness);
	if (bin != BIN_NONE)
		list_append(&class->bin[bin], &span->by_fullness);
	span->bin = (uint8_t)bin;
}

static uint32_t highest_mark(const struct span *span)
{
	return span->total / 2 + 1;
}

static void adopt_span_locked(struct kvs__arena *arena, uint32_t class_nr, struct span *span)
{
	uint32_t skip = header_bytes(span_number(span));

	list_init(&span->by_fullness);
	list_init(&span->to_trim);
	span->base = span_start(span) + skip;
	span->used = 0;
	span->total = (SPAN_SIZE - skip) / arena->class[class_nr].size;
	span->hint = 0;
	span->mark = highest_mark(span);
	span->class = (uint8_t)class_nr;
	span->bin = BIN_NONE;
}

static struct span *fullest_span_locked(struct kvs__arena *arena, uint32_t class_nr)
{
	struct size_class *class = &arena->class[class_nr];
	struct span *span;
	unsigned bin = BINS;

	while (bin-- > 0) {
		if (!list_empty(&class->bin[bin]))
			return kvs_container_of(class->bin[bin].next, struct span, by_fullness);
	}
	span = take_span(arena);
	if (span != NULL)
		adopt_span_locked(arena, class_nr, span);
	return span;
}

static uint64_t free_bits(const struct span *span, uint32_t word)
{
	uint32_t left = span->total - word * 64;

	return ~span->bits[word] & (left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1);
}

/* The lowest free blocks of the span, into an empty magazine. */
static void take_blocks_locked(const struct size_class *class, struct span *span,
			       struct kvs__magazine *mag, uint32_t max)
{
	uint32_t n = 0;
	uint32_t word;
	uint64_t bits;

	for (word = span->hint; word * 64 < span->total; word++) {
		for (bits = free_bits(span, word); bits != 0 && n < max; bits &= bits - 1) {
			uint32_t index = word * 64 + (uint32_t)__builtin_ctzl(bits);

			span->bits[word] |= bits & -bits;
			mag->block[n++] = span->base + (size_t)index * class->size;
		}
		if (bits != 0 || n == max)
			break;
	}
	span->hint = word;
	span->used += n;
	mag->next = 0;
	mag->count = n;
}

static void claim_magazine_pages(struct kvs__arena *arena, struct span *span,
				 const struct kvs__magazine *mag)
{
	const char *start = span_start(span);
	uint32_t size = arena->class[span->class].size;
	uint32_t pages = 0;
	uint32_t i, from;

	for (i = 0; i < mag->count; i++) {
		from = (uint32_t)((const char *)mag->block[i] - start);
		pages |= pages_between(from, from + size - 1);
	}
	claim_pages(arena, span, pages);
}

static void raise_mark(struct span *span)
{
	uint32_t high = highest_mark(span);

	if (span->mark < span->used)
		span->mark = span->used < high ? span->used : high;
}

/* Into an empty magazine. false: no memory. */
static bool fill_locked(struct kvs__arena *arena, uint32_t class_nr, struct kvs__magazine *mag,
			uint32_t max)
{
	struct size_class *class = &arena->class[class_nr];
	struct span *span = fullest_span_locked(arena, class_nr);

	if (span == NULL)
		return false;
	take_blocks_locked(class, span, mag, max);
	class->taken += mag->count;
	if (span->given != 0)
		claim_magazine_pages(arena, span, mag);
	raise_mark(span);
	refile_span_locked(class, span);
	return true;
}

/* What was freed last comes first: nobody need look for it. */
static bool refill(struct kvs__arena *arena, uint32_t class_nr, struct kvs__magazine **mag)
{
	struct size_class *class = &arena->class[class_nr];
	struct kvs__magazine *kept;
	bool filled = true;

	pthread_mutex_lock(&class->mutex);
	kept = kvs__depot_exchange(&class->depot, *mag);
	if (kept != NULL)
		*mag = kept;
	else
		filled = fill_locked(arena, class_nr, *mag, class->batch);
	pthread_mutex_unlock(&class->mutex);
	return filled;
}

static void queue_for_trim_locked(struct size_class *class, struct span *span)
{
	if (span->used + span->mark / 8 < span->mark && list_empty(&span->to_trim))
		list_append(&class->to_trim, &span->to_trim);
}

static struct chunk *retire_span_locked(struct kvs__arena *arena, struct span *span)
{
	list_remove(&span->to_trim);
	return put_span(arena, span, span->given != span_pages(span));
}

static struct chunk *free_spot_locked(struct kvs__arena *arena, const struct spot *spot)
{
	struct size_class *class = &arena->class[spot->class];
	struct span *span = spot->span;
	uint32_t word = spot->index / 64;
	uint64_t bit = UINT64_C(1) << spot->index % 64;

	KVS_ASSERT(span->class == spot->class && spot->index < span->total);
	KVS_ASSERT((span->bits[word] & bit) != 0);
	span->bits[word] &= ~bit;
	span->used--;
	class->taken--;
	if (word < span->hint)
		span->hint = word;
	refile_span_locked(class, span);
	if (span->used == 0)
		return retire_span_locked(arena, span);
	queue_for_trim_locked(class, span);
	return NULL;
}

/* ---- large blocks ---- */

static size_t large_size(size_t size)
{
	size_t total = size + sizeof(struct large);

	if (size >= KVS__ARENA_DIRECT_MIN)
		total = (total + PAGE_SIZE - 1) & ~(size_t)(PAGE_SIZE - 1);
	return total;
}

static void *alloc_large(struct kvs__arena *arena, size_t size)
{
	bool direct = size >= KVS__ARENA_DIRECT_MIN;
	size_t total = large_size(size);
	struct large *large;

	if (total < size)
		return NULL;
	if (direct)
		large = arena->source.map(arena->source.ctx, total, PAGE_SIZE);
	else
		large = malloc(total);
	if (large == NULL)
		return NULL;
	large->size = total;
	large->direct = direct;
	pthread_mutex_lock(&arena->large.mutex);
	list_append(&arena->large.blocks, &large->link);
	arena->large.bytes += total;
	pthread_mutex_unlock(&arena->large.mutex);
	return large + 1;
}

static void release_large(struct kvs__arena *arena, struct large *large)
{
	if (large->direct)
		arena->source.unmap(arena->source.ctx, large, large->size);
	else
		free(large);
}

static void free_large(struct kvs__arena *arena, void *ptr, size_t size)
{
	struct large *large = (struct large *)ptr - 1;

	(void)size;
	KVS_ASSERT(large->size == large_size(size));
	pthread_mutex_lock(&arena->large.mutex);
	list_remove(&large->link);
	arena->large.bytes -= large->size;
	pthread_mutex_unlock(&arena->large.mutex);
	release_large(arena, large);
}

/* ---- alloc and free ---- */

static struct kvs__magazine **magazine_slow(struct kvs__heap *heap, uint32_t class_nr)
{
	if (heap->magazines == NULL)
		heap->magazines = calloc(CLASSES, sizeof(struct kvs__magazine *));
	if (heap->magazines == NULL)
		return NULL;
	heap->magazines[class_nr] = kvs__magazine_new();
	return heap->magazines[class_nr] != NULL ? &heap->magazines[class_nr] : NULL;
}

static struct kvs__magazine **magazine(struct kvs__heap *heap, uint32_t class_nr)
{
	if (heap->magazines != NULL && heap->magazines[class_nr] != NULL)
		return &heap->magazines[class_nr];
	return magazine_slow(heap, class_nr);
}

static void *alloc_single(struct kvs__arena *arena, uint32_t class_nr)
{
	struct size_class *class = &arena->class[class_nr];
	struct kvs__magazine mag;
	void *ptr;

	pthread_mutex_lock(&class->mutex);
	ptr = kvs__depot_get(&class->depot);
	if (ptr == NULL && fill_locked(arena, class_nr, &mag, 1))
		ptr = kvs__magazine_pop(&mag);
	pthread_mutex_unlock(&class->mutex);
	return ptr;
}

static void *alloc_small(struct kvs__arena *arena, struct kvs__heap *heap, uint32_t class_nr)
{
	struct kvs__magazine **mag = heap != NULL ? magazine(heap, class_nr) : NULL;

	if (mag == NULL)
		return alloc_single(arena, class_nr);
	if (kvs__magazine_is_empty(*mag) && !refill(arena, class_nr, mag))
		return NULL;
	return kvs__magazine_pop(*mag);
}

void *kvs__arena_alloc(struct kvs__arena *arena, struct kvs__heap *heap, size_t size)
{
	void *ptr;

	if (size > KVS__ARENA_SMALL_MAX)
		return alloc_large(arena, size);
	ptr = alloc_small(arena, heap, class_of(size));
	if (ptr != NULL)
		UNPOISON(ptr, size);
	return ptr;
}

/* ---- freed blocks that are kept ---- */

static size_t in_use(const struct size_class *class)
{
	return class->taken - class->depot.kept;
}

static bool keep_locked(struct kvs__arena *arena, struct size_class *class, void *ptr)
{
	KVS_ASSERT(is_taken(arena, class, ptr));
	return class->depot.kept * KEEP_SHARE < in_use(class) && class->batch >= KEEP_SMALLEST &&
	       kvs__depot_put(&class->depot, ptr, class->batch);
}

/* A list of chunks to be unmapped; OWNS: the caller. */
static struct chunk *add_dead(struct chunk *dead, struct chunk *chunk)
{
	if (chunk == NULL)
		return dead;
	chunk->next_dead = dead;
	return chunk;
}

static struct chunk *free_blocks_locked(struct kvs__arena *arena, struct size_class *class,
					void *const *ptrs, uint32_t n, struct chunk *dead)
{
	struct spot spots[WINDOW];
	uint32_t i;

	for (i = 0; i < n; i++) {
		spots[i] = find_spot(arena, ptrs[i], class->size);
		__builtin_prefetch(spots[i].span, 1);
		__builtin_prefetch(&spots[i].span->bits[spots[i].index / 64], 1);
	}
	for (i = 0; i < n; i++)
		dead = add_dead(dead, free_spot_locked(arena, &spots[i]));
	return dead;
}

/* One magazine's blocks to their spans. */
static struct chunk *empty_one_locked(struct kvs__arena *arena, struct size_class *class,
				      struct chunk *dead)
{
	struct kvs__magazine *mag = kvs__depot_take(&class->depot);

	if (mag == NULL)
		return dead;
	dead = free_blocks_locked(arena, class, mag->block, mag->count, dead);
	free(mag);
	return dead;
}

/* After each free: what is kept must become less when what is in use does. */
static struct chunk *drain_locked(struct kvs__arena *arena, struct size_class *class,
				  struct chunk *dead)
{
	if (class->depot.kept * DRAIN_SHARE <= in_use(class))
		return dead;
	return empty_one_locked(arena, class, dead);
}

/* Frees those of the blocks in left that are of the class of the lowest; returns the others. */
static uint64_t free_one_class(struct kvs__arena *arena, void *const *ptrs, const uint8_t *classes,
			       uint64_t left)
{
	uint32_t class_nr = classes[__builtin_ctzl(left)];
	struct size_class *class = &arena->class[class_nr];
	void *loose[WINDOW];
	struct chunk *dead;
	uint64_t rest = 0;
	uint32_t n = 0;

	pthread_mutex_lock(&class->mutex);
	for (; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzl(left);

		if (classes[i] != class_nr)
			rest |= left & -left;
		else if (!keep_locked(arena, class, ptrs[i]))
			loose[n++] = ptrs[i];
	}
	dead = drain_locked(arena, class, free_blocks_locked(arena, class, loose, n, NULL));
	pthread_mutex_unlock(&class->mutex);
	unmap_chunks(arena, dead);
	return rest;
}

static void free_window(struct kvs__arena *arena, void *const *ptrs, const uint32_t *sizes,
			unsigned n)
{
	uint8_t classes[WINDOW];
	uint64_t left = 0;
	unsigned i;

	for (i = 0; i < n; i++) {
		if (sizes[i] > KVS__ARENA_SMALL_MAX) {
			free_large(arena, ptrs[i], sizes[i]);
			continue;
		}
		classes[i] = (uint8_t)class_of(sizes[i]);
		KVS_ASSERT(!IS_POISONED(ptrs[i])); /* freed twice, and kept since the first time */
		POISON(ptrs[i], arena->class[classes[i]].size);
		left |= UINT64_C(1) << i;
	}
	while (left != 0)
		left = free_one_class(arena, ptrs, classes, left);
}

void kvs__arena_free_many(struct kvs__arena *arena, void *const *ptrs, const uint32_t *sizes,
			  size_t n)
{
	for (; n > WINDOW; n -= WINDOW, ptrs += WINDOW, sizes += WINDOW)
		free_window(arena, ptrs, sizes, WINDOW);
	free_window(arena, ptrs, sizes, (unsigned)n);
}

/* Not kept: whoever frees one by one is seldom followed by one who allocates. */
void kvs__arena_free(struct kvs__arena *arena, void *ptr, size_t size)
{
	struct size_class *class;
	struct chunk *dead;

	if (size > KVS__ARENA_SMALL_MAX) {
		free_large(arena, ptr, size);
		return;
	}
	class = &arena->class[class_of(size)];
	POISON(ptr, class->size);
	pthread_mutex_lock(&class->mutex);
	dead = drain_locked(arena, class, free_blocks_locked(arena, class, &ptr, 1, NULL));
	pthread_mutex_unlock(&class->mutex);
	unmap_chunks(arena, dead);
}

size_t kvs__arena_block_size_slow(size_t size)
{
	if (size > KVS__ARENA_SMALL_MAX)
		return large_size(size);
	return class_size(class_of(size));
}

static void flush_magazine(struct kvs__arena *arena, struct kvs__magazine *mag, uint32_t class_nr)
{
	while (!kvs__magazine_is_empty(mag))
		kvs__arena_free(arena, kvs__magazine_pop(mag), arena->class[class_nr].size);
}

void kvs__heap_flush(struct kvs__arena *arena, struct kvs__heap *heap)
{
	uint32_t i;

	for (i = 0; heap->magazines != NULL && i < CLASSES; i++) {
		if (heap->magazines[i] != NULL)
			flush_magazine(arena, heap->magazines[i], i);
	}
	kvs__heap_drop(heap);
}

void kvs__heap_drop(struct kvs__heap *heap)
{
	uint32_t i;

	for (i = 0; heap->magazines != NULL && i < CLASSES; i++)
		free(heap->magazines[i]);
	free(heap->magazines);
	heap->magazines = NULL;
}

/* ---- trim ---- */

/* Says whether the pages are worth it, and turns huge pages off first if they are. */
static bool prepare_discard(struct kvs__arena *arena, struct span *span, uint32_t pages)
{
	struct chunk *chunk = chunk_of(span);
	bool worth;

	pthread_mutex_lock(&arena->pool.mutex);
	worth = __builtin_popcount(pages) >= (chunk->huge ? SPLIT_PAGES : 1);
	if (worth)
		decline_huge_locked(chunk);
	pthread_mutex_unlock(&arena->pool.mutex);
	return worth;
}

static void give_back_pages(struct kvs__arena *arena, struct span *span, uint32_t pages)
{
	if (!prepare_discard(arena, span, pages))
		return;
	pages = discard_pages(span, pages);
	pthread_mutex_lock(&arena->pool.mutex);
	if (pages != 0)
		decline_huge_locked(chunk_of(span)); /* a writer may have asked meanwhile */
	note_given_locked(&arena->pool, span, pages);
	pthread_mutex_unlock(&arena->pool.mutex);
}

static bool trim_next_magazine(struct kvs__arena *arena, struct size_class *class)
{
	struct kvs__magazine *empty;
	struct chunk *dead = NULL;
	bool some;

	pthread_mutex_lock(&class->mutex);
	some = class->depot.kept != 0;
	if (some)
		dead = empty_one_locked(arena, class, NULL);
	empty = kvs__depot_take_empty(&class->depot);
	pthread_mutex_unlock(&class->mutex);
	kvs__magazines_free(empty);
	unmap_chunks(arena, dead);
	return some;
}

/* What the depot keeps holds its spans' pages. No more than it keeps now: others may go on freeing. */
static unsigned trim_depot(struct kvs__arena *arena, struct size_class *class, unsigned max)
{
	size_t magazines;
	unsigned n = 0;

	pthread_mutex_lock(&class->mutex);
	magazines = class->depot.kept / class->batch + 1;
	pthread_mutex_unlock(&class->mutex);
	while (n < max && n < magazines && trim_next_magazine(arena, class))
		n++;
	return n;
}

static bool trim_next_span(struct kvs__arena *arena, uint32_t class_nr)
{
	struct size_class *class = &arena->class[class_nr];
	struct span *span = NULL;

	pthread_mutex_lock(&class->mutex);
	if (!list_empty(&class->to_trim)) {
		span = kvs_container_of(class->to_trim.next, struct span, to_trim);
		list_remove(&span->to_trim);
		span->mark = span->used;
		give_back_pages(arena, span, free_pages(class, span) & ~(uint32_t)span->given);
	}
	pthread_mutex_unlock(&class->mutex);
	return span != NULL;
}

/* The span is taken from the pool meanwhile: nobody else has it, and its chunk stays. */
static bool trim_next_free_span(struct kvs__arena *arena)
{
	struct pool *pool = &arena->pool;
	struct span *span = NULL;
	struct chunk *chunk;

	pthread_mutex_lock(&pool->mutex);
	if (!list_empty(&pool->dirty)) {
		chunk = kvs_container_of(pool->dirty.next, struct chunk, dirty);
		span = take_span_locked(pool, chunk, best_free_span(chunk));
	}
	pthread_mutex_unlock(&pool->mutex);
	if (span == NULL)
		return false;
	give_back_pages(arena, span, span_pages(span) & ~(uint32_t)span->given);
	unmap_chunks(arena, put_span(arena, span, false));
	return true;
}

static unsigned trim_stop(struct kvs__arena *arena, unsigned stop, unsigned max_spans)
{
	unsigned n = 0;

	if (stop == CLASSES) {
		while (n < max_spans && trim_next_free_span(arena))
			n++;
	} else {
		n = trim_depot(arena, &arena->class[stop], max_spans);
		while (n < max_spans && trim_next_span(arena, stop))
			n++;
	}
	return n;
}

unsigned kvs__arena_trim_step(struct kvs__arena *arena, unsigned *cursor, unsigned max_spans)
{
	unsigned seen = 0;
	unsigned stops;

	for (stops = 0; stops < TRIM_STOPS; stops++) {
		seen += trim_stop(arena, *cursor, max_spans - seen);
		if (seen == max_spans)
			break;
		*cursor = (*cursor + 1) % TRIM_STOPS;
	}
	/* Spans that the classes have lost since that stop was made. */
	return seen + trim_stop(arena, CLASSES, max_spans - seen);
}

static struct chunk *take_spares(struct pool *pool)
{
	struct chunk *dead = NULL;
	struct chunk *chunk;

	pthread_mutex_lock(&pool->mutex);
	store_relaxed(&pool->wants_chunk, 0);
	while (!list_empty(&pool->by_free[SPANS])) {
		chunk = kvs_container_of(pool->by_free[SPANS].next, struct chunk, by_free);
		remove_chunk_locked(pool, chunk);
		chunk->next_dead = dead;
		dead = chunk;
	}
	pthread_mutex_unlock(&pool->mutex);
	return dead;
}

void kvs__arena_trim(struct kvs__arena *arena)
{
	unsigned cursor = 0;
	uint32_t i;

	for (i = 0; i < CLASSES; i++)
		(void)trim_depot(arena, &arena->class[i], UINT_MAX);
	unmap_chunks(arena, take_spares(&arena->pool));
	while (kvs__arena_trim_step(arena, &cursor, TRIM_STEP) == TRIM_STEP)
		;
}

/* ---- figures ---- */

static size_t large_bytes(struct kvs__arena *arena)
{
	size_t bytes;

	pthread_mutex_lock(&arena->large.mutex);
	bytes = arena->large.bytes;
	pthread_mutex_unlock(&arena->large.mutex);
	return bytes;
}

size_t kvs__arena_mapped(struct kvs__arena *arena)
{
	size_t chunks;

	pthread_mutex_lock(&arena->pool.mutex);
	chunks = arena->pool.chunks;
	pthread_mutex_unlock(&arena->pool.mutex);
	return chunks * KVS__ARENA_CHUNK + large_bytes(arena);
}

size_t kvs__arena_given(struct kvs__arena *arena)
{
	size_t pages;

	pthread_mutex_lock(&arena->pool.mutex);
	pages = arena->pool.given_pages;
	pthread_mutex_unlock(&arena->pool.mutex);
	return pages * PAGE_SIZE;
}

size_t kvs__arena_used(struct kvs__arena *arena)
{
	size_t bytes = large_bytes(arena);
	uint32_t i;

	for (i = 0; i < CLASSES; i++) {
		pthread_mutex_lock(&arena->class[i].mutex);
		bytes += in_use(&arena->class[i]) * arena->class[i].size;
		pthread_mutex_unlock(&arena->class[i].mutex);
	}
	return bytes;
}

/* ---- create and destroy ---- */

static uint32_t blocks_per_refill(uint32_t size)
{
	uint32_t n = MAGAZINE_BYTES / size;

	if (n > KVS__MAGAZINE_BLOCKS)
		return KVS__MAGAZINE_BLOCKS;
	return n > 0 ? n : 1;
}

static void init_class(struct size_class *class, uint32_t class_nr)
{
	unsigned bin;

	pthread_mutex_init(&class->mutex, NULL);
	class->size = class_size(class_nr);
	class->inverse = (uint32_t)((UINT64_C(1) << 32) / class->size) + 1;
	class->batch = blocks_per_refill(class->size);
	class->taken = 0;
	for (bin = 0; bin < BINS; bin++)
		list_init(&class->bin[bin]);
	list_init(&class->to_trim);
}

static void init_pool(struct pool *pool)
{
	unsigned n;

	pthread_mutex_init(&pool->mutex, NULL);
	list_init(&pool->dirty);
	list_init(&pool->small);
	for (n = 0; n <= SPANS; n++)
		list_init(&pool->by_free[n]);
}

struct kvs__arena *kvs__arena_create(const struct kvs__arena_source *source)
{
	struct kvs__arena *arena;
	uint32_t i;

	arena = aligned_alloc(KVS_LINE, sizeof(*arena));
	if (arena == NULL)
		return NULL;
	memset(arena, 0, sizeof(*arena));
	arena->source = source != NULL ? *source : default_source;
	for (i = 0; i < CLASSES; i++)
		init_class(&arena->class[i], i);
	init_pool(&arena->pool);
	pthread_mutex_init(&arena->large.mutex, NULL);
	list_init(&arena->large.blocks);
	return arena;
}

static void destroy_large(struct kvs__arena *arena)
{
	struct link *link = arena->large.blocks.next;
	struct link *next;

	for (; link != &arena->large.blocks; link = next) {
		next = link->next;
		release_large(arena, kvs_container_of(link, struct large, link));
	}
	pthread_mutex_destroy(&arena->large.mutex);
}

static void destroy_chunks(struct kvs__arena *arena, struct link *head)
{
	struct chunk *chunk;

	while (!list_empty(head)) {
		chunk = kvs_container_of(head->next, struct chunk, by_free);
		list_remove(&chunk->by_free);
		chunk->next_dead = NULL;
		unmap_chunks(arena, chunk);
	}
}

void kvs__arena_destroy(struct kvs__arena *arena)
{
	uint32_t i;

	if (arena == NULL)
		return;
	destroy_large(arena);
	for (i = 0; i <= SPANS; i++)
		destroy_chunks(arena, &arena->pool.by_free[i]);
	pthread_mutex_destroy(&arena->pool.mutex);
	for (i = 0; i < CLASSES; i++) {
		kvs__depot_release(&arena->class[i].depot);
		pthread_mutex_destroy(&arena->class[i].mutex);
	}
	free(arena);
}

/* ---- fork ---- */

void kvs__arena_fork_before(struct kvs__arena *arena)
{
	uint32_t i;

	for (i = 0; i < CLASSES; i++)
		pthread_mutex_lock(&arena->class[i].mutex);
	pthread_mutex_lock(&arena->pool.mutex);
	pthread_mutex_lock(&arena->large.mutex);
}

void kvs__arena_fork_after(struct kvs__arena *arena)
{
	uint32_t i;

	pthread_mutex_unlock(&arena->large.mutex);
	pthread_mutex_unlock(&arena->pool.mutex);
	for (i = 0; i < CLASSES; i++)
		pthread_mutex_unlock(&arena->class[i].mutex);
}

/* ---- check ---- */

struct check {
	struct kvs__arena *arena;
	const char *broken;
	size_t taken[CLASSES];
	size_t chunks, spares, given_pages;
};

static void expect(struct check *check, bool holds, const char *name)
{
	if (!holds && check->broken == NULL)
		check->broken = name;
}

static bool list_holds(const struct link *head, const struct link *link)
{
	const struct link *at;

	for (at = head->next; at != head; at = at->next) {
		if (at == link)
			return true;
	}
	return false;
}

static uint32_t bits_set(const struct span *span)
{
	uint32_t n = 0, word;

	for (word = 0; word < WORDS; word++)
		n += (uint32_t)__builtin_popcountl(span->bits[word]);
	return n;
}

static void check_bits(struct check *check, const struct span *span)
{
	uint32_t word;

	expect(check, span->used == bits_set(span), "INV-A2 used");
	for (word = 0; word < WORDS; word++) {
		if (word * 64 >= span->total)
			expect(check, span->bits[word] == 0, "INV-A2 total");
		else if (word == span->total / 64)
			expect(check, span->bits[word] >> span->total % 64 == 0, "INV-A2 total");
		if (word < span->hint && word * 64 < span->total)
			expect(check, free_bits(span, word) == 0, "INV-A2 hint");
	}
}

static void check_owned_span(struct check *check, const struct span *span)
{
	struct size_class *class = &check->arena->class[span->class];
	unsigned bin = fullness(span);

	expect(check, span->used > 0 && span->used <= span->total, "INV-A1 used");
	expect(check, span->bin == bin, "INV-A1 bin");
	if (bin == BIN_NONE)
		expect(check, list_empty(&span->by_fullness), "INV-A1 full");
	else
		expect(check, list_holds(&class->bin[bin], &span->by_fullness), "INV-A1 list");
	check_bits(check, span);
	expect(check, (span->given & ~free_pages(class, span)) == 0, "INV-A4 pages");
	check->taken[span->class] += span->used;
}

static void check_chunk(struct check *check, const struct chunk *chunk)
{
	uint32_t given = 0, i;

	for (i = 0; i < SPANS; i++) {
		const struct span *span = &chunk->span[i];

		given += (uint32_t)__builtin_popcount(span->given);
		if ((chunk->free_spans >> i & 1) == 0)
			check_owned_span(check, span);
		else
			expect(check, bits_set(span) == 0, "INV-A1 free");
	}
	expect(check, given == chunk->given_pages, "INV-A4 chunk");
	expect(check, (chunk->dirty_spans & ~chunk->free_spans) == 0, "INV-A5 dirty");
	expect(check, (chunk->dirty_spans != 0) == !list_empty(&chunk->dirty), "INV-A5 dirty list");
	check->given_pages += given;
	check->chunks++;
	check->spares += chunk->free_spans == ALL_SPANS;
}

/* Takes the blocks' bits away, so that one that is there twice is found, or puts them back. */
static size_t check_magazine(struct check *check, const struct kvs__magazine *mag,
			     struct size_class *class, bool away)
{
	struct spot spot;
	uint32_t i;

	for (i = 0; i < mag->count; i++) {
		if (away)
			expect(check, is_taken(check->arena, class, mag->block[i]), "INV-A6 taken");
		spot = find_spot(check->arena, mag->block[i], class->size);
		spot.span->bits[spot.index / 64] &= ~(UINT64_C(1) << spot.index % 64);
		spot.span->bits[spot.index / 64] |= (uint64_t)!away << spot.index % 64;
	}
	return mag->count;
}

static size_t check_magazines(struct check *check, struct size_class *class, bool away)
{
	const struct kvs__magazine *mag;
	size_t kept = 0;

	for (mag = class->depot.full; mag != NULL; mag = mag->link)
		kept += check_magazine(check, mag, class, away);
	if (class->depot.filling != NULL)
		kept += check_magazine(check, class->depot.filling, class, away);
	return kept;
}

static void check_depot(struct check *check, struct size_class *class)
{
	size_t kept = check_magazines(check, class, true);

	(void)check_magazines(check, class, false);
	expect(check, kept == class->depot.kept, "INV-A6 kept");
}

static void check_chunks(struct check *check, unsigned free_spans)
{
	struct link *head = &check->arena->pool.by_free[free_spans];
	struct link *link;

	for (link = head->next; link != head; link = link->next) {
		const struct chunk *chunk = kvs_container_of(link, struct chunk, by_free);

		expect(check, free_span_count(chunk) == free_spans, "INV-A5 list");
		check_chunk(check, chunk);
	}
}

const char *kvs__arena_check(struct kvs__arena *arena)
{
	struct check check = { .arena = arena };
	struct pool *pool = &arena->pool;
	uint32_t i;

	for (i = 0; i <= SPANS; i++)
		check_chunks(&check, i);
	for (i = 0; i < CLASSES; i++) {
		expect(&check, check.taken[i] == arena->class[i].taken, "INV-A3");
		check_depot(&check, &arena->class[i]);
	}
	expect(&check, check.given_pages == pool->given_pages, "INV-A4 pool");
	expect(&check, check.chunks == pool->chunks, "INV-A5 chunks");
	expect(&check, check.spares == pool->spares && check.spares <= SPARES, "INV-A5 spares");
	return check.broken;
}
