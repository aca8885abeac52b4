/* SPDX-License-Identifier: MIT */
/*
 * arena.h - memory for entries: exact sizes, many allocating threads, batches of frees.
 *
 * An arena hands out blocks of any size. Up to KVS__ARENA_SMALL_MAX they come from 2 MiB chunks
 * cut into spans of one block size each; larger ones go to malloc, or from
 * KVS__ARENA_DIRECT_MIN on to the memory source. Blocks are 8-byte aligned and not cleared; the
 * caller remembers their size and hands it back with them. Any thread may free any block.
 *
 * A heap is one thread's stock of blocks. Zeroed memory is an empty heap; one thread at a time
 * uses it (whoever hands it to another thread orders the two), with one arena, and ends with
 * kvs__heap_flush(), or kvs__heap_drop() once the arena is gone.
 *
 * No call here waits for a grace period or for a reader. Those that allocate or free may wait
 * for a mutex that others hold for a bounded number of steps.
 */
#ifndef KVS_ARENA_H
#define KVS_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KVS__ARENA_CHUNK ((size_t)2 << 20) /* size and alignment of a chunk */
#define KVS__ARENA_SMALLEST ((size_t)32)
#define KVS__ARENA_UNIT ((size_t)8) /* block sizes are its multiples up to ... */
#define KVS__ARENA_FINE_MAX ((size_t)1024)
#define KVS__ARENA_SMALL_MAX ((size_t)32 << 10)
#define KVS__ARENA_DIRECT_MIN ((size_t)256 << 10)

struct kvs__arena;
struct kvs__magazine;

struct kvs__heap {
	struct kvs__magazine **magazines; /* one per size class, all made on first use */
};

/*
 * Where memory comes from. map() returns size bytes, zeroed, aligned to align (a power of two),
 * or NULL; unmap() takes back exactly what one map() gave. Called from any thread, several at
 * once, sometimes inside a mutex of the arena: neither may call the arena. The memory must be
 * private and anonymous (pages are given back with MADV_DONTNEED and must read as zero after).
 */
struct kvs__arena_source {
	void *(*map)(void *ctx, size_t size, size_t align);
	void (*unmap)(void *ctx, void *ptr, size_t size);
	void *ctx;
};

/*
 * kvs__arena_create - A new arena that has mapped nothing yet.
 *
 * @source is copied; NULL means mmap. Returns NULL when there is no memory.
 */
struct kvs__arena *kvs__arena_create(const struct kvs__arena_source *source);

/*
 * kvs__arena_destroy - Give back everything, whatever is still allocated.
 *
 * No other call on the arena may run or follow. Heaps that still hold blocks need only
 * kvs__heap_drop(), before or after. NULL is allowed.
 */
void kvs__arena_destroy(struct kvs__arena *arena);

/*
 * kvs__arena_alloc - A block of at least size bytes, or NULL when there is no memory.
 *
 * @heap belongs to the calling thread, or is NULL: then each call takes the class's mutex.
 * Progress     Without a lock while the heap has a block of that class, else one mutex and at
 *              most one map().
 */
void *kvs__arena_alloc(struct kvs__arena *arena, struct kvs__heap *heap, size_t size);

/*
 * kvs__arena_wants_chunk - Half of the last chunk of a large arena is used: time for the next, before a writer needs it.
 * kvs__arena_prepare     - Map it, and bring its memory in. Returns whether there was anything to do. Not beside trim.
 */
bool kvs__arena_wants_chunk(const struct kvs__arena *arena);
bool kvs__arena_prepare(struct kvs__arena *arena);

/*
 * kvs__arena_free - Free a block. size is the one it was allocated with.
 *
 * The block's own bytes are not touched: freeing costs no miss on the dead block.
 * kvs__arena_free_many - The same for n blocks; takes each class's mutex once per 64 blocks, and
 *              keeps up to 1/16 of what is in use for those who allocate next.
 */
void kvs__arena_free(struct kvs__arena *arena, void *ptr, size_t size);
void kvs__arena_free_many(struct kvs__arena *arena, void *const *ptrs, const uint32_t *sizes,
			  size_t n);

/* kvs__arena_block_size - The bytes a block of that size really takes, for accounting. */
size_t kvs__arena_block_size_slow(size_t size);

static inline size_t kvs__arena_block_size(size_t size)
{
	if (size > KVS__ARENA_FINE_MAX)
		return kvs__arena_block_size_slow(size);
	return size > KVS__ARENA_SMALLEST ? (size + KVS__ARENA_UNIT - 1) & ~(KVS__ARENA_UNIT - 1)
					  : KVS__ARENA_SMALLEST;
}

/* kvs__heap_flush - Give all blocks and the heap's own memory back; the heap is empty again. */
void kvs__heap_flush(struct kvs__arena *arena, struct kvs__heap *heap);

/* kvs__heap_drop - Forget the blocks, free only the heap's own memory. */
void kvs__heap_drop(struct kvs__heap *heap);

/*
 * kvs__arena_trim_step - Give back whole pages that lie free inside spans in use.
 *
 * Looks at up to max_spans spans that lost blocks since they were last looked at. @cursor starts
 * at 0 and remembers where to go on. Returns the number looked at: fewer than max_spans means
 * that a whole round was made and nothing is left to do. One caller per cursor; any thread.
 *
 * kvs__arena_trim - All of it at once, spare chunks too. Blocks in heaps stay where they are.
 */
unsigned kvs__arena_trim_step(struct kvs__arena *arena, unsigned *cursor, unsigned max_spans);
void kvs__arena_trim(struct kvs__arena *arena);

/*
 * kvs__arena_mapped - Bytes of memory held: chunks and large blocks.
 * kvs__arena_given  - Of those, bytes of pages given back by trim (still mapped, not resident).
 * kvs__arena_used   - Bytes in blocks handed out. Blocks waiting in heaps count too, at most 8 KiB
 *                     or one block per heap and class. Each class is exact, their sum is not an
 *                     instant's.
 */
size_t kvs__arena_mapped(struct kvs__arena *arena);
size_t kvs__arena_given(struct kvs__arena *arena);
size_t kvs__arena_used(struct kvs__arena *arena);

/*
 * kvs__arena_fork_before - Take every mutex, so that a fork's child finds them free after
 * kvs__arena_fork_after(), which parent and child both call.
 */
void kvs__arena_fork_before(struct kvs__arena *arena);
void kvs__arena_fork_after(struct kvs__arena *arena);

/*
 * kvs__arena_check - NULL, or the name of the first invariant (arena.c) found broken. For tests:
 * walks everything, and no other call may run meanwhile.
 */
const char *kvs__arena_check(struct kvs__arena *arena);

#endif
