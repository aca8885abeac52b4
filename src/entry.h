/* SPDX-License-Identifier: MIT */
/*
 * entry.h - one record: a 32-byte header, the key's bytes, the value's bytes, in one block.
 *
 *                         only with HAS_DEADLINE: 32 bytes more, before the header
 *      -32      8  retire   link of the message that the entry was removed (expiry.h)
 *      -24     16  ring     the wheel's links (wheel.h); the message that it was published uses the first
 *       -8      8  deadline ms of the store's clock (clock.h)
 *   offset  bytes  field
 *        0      8  next     link to the successor, and the state of this entry (list.h)
 *        8      8  order    order key (bits 63..17, bit 16 is 1), key length (bits 15..0)
 *       16      8  version  56 bits, then 8 bits of pins (entry.c)
 *       24      4  stamp    of snapshots
 *       28      4  extent   value length (bits 29..0), HAS_DEADLINE (30), OWN_BLOCK (31)
 *       32         key, then value; or, with OWN_BLOCK, key, then a pointer to a struct kvs__block
 *
 * A pointer to an entry is to its
 * header, timed or not, so that the key is always at offset 32; its block begins before that if it is timed.
 *
 * order first after next, and the key right behind the header: what a lookup compares lies
 * within 32 + key bytes of the entry's start.
 *
 * An entry is immutable once published, but for next, stamp, pins and the links of a timed one. States and who moves
 * them: CONCURRENCY.md. Values above KVS__INLINE_MAX lie in a block of their own.
 */
#ifndef KVS_ENTRY_H
#define KVS_ENTRY_H

#include <string.h>

#include "arena.h"
#include "atomic.h"
#include "clock.h"
#include "compiler.h"
#include "handover.h"
#include "kvs.h"
#include "mem.h"
#include "wheel.h"

struct kvs__entry {
	kvs__u64 next;         /* (a) list.h */
	uint64_t order;        /* (i) */
	kvs__u64 version;      /* the upper 56 bits (c), then (i); pins (a) */
	kvs__u32 stamp;        /* (a) */
	uint32_t extent;       /* (i) */
	unsigned char bytes[]; /* (i) */
};

/* What stands before the header of an entry with a deadline. */
struct kvs__timed {
	struct kvs__message retire; /* of the remover, then of the role's holder (expiry.h) */
	struct kvs__timer
		timer; /* of the publisher, then of the role's holder; its deadline (i) but for the flag */
};

/* A value's own block; shared by counting, so that it can outlive its entry. */
struct kvs__block {
	kvs__u64 refs; /* (a) */
	uint64_t len;  /* (i) */
	void *data;    /* bytes, or the user's object (i) */
	unsigned char bytes[];
};

#define KVS__HEADER ((size_t)32)
#define KVS__TIMED ((size_t)32)
#define KVS__INLINE_MAX ((size_t)4096)
#define KVS__EXTENT_LEN 0x3fffffffu
#define KVS__EXTENT_DEADLINE 0x40000000u
#define KVS__EXTENT_BLOCK 0x80000000u
#define KVS__VERSION_SHIFT 8
#define KVS__PINS_MAX ((uint64_t)0xff)
#define KVS__ORDER_MASK (~(uint64_t)0x1ffff) /* the part of order that comes from the hash */
#define KVS__ORDER_ENTRY ((uint64_t)0x10000) /* set in entries, clear in heads */
#define KVS__KEY_LEN_MASK ((uint64_t)0xffff)

_Static_assert(offsetof(struct kvs__entry, bytes) == 32, "the header is 32 bytes");
_Static_assert(sizeof(struct kvs__timed) == KVS__TIMED, "a timed entry has 32 bytes more");
_Static_assert(KVS_VALUE_MAX == KVS__EXTENT_LEN, "a value's length fits its field");
_Static_assert(KVS_KEY_MAX == KVS__KEY_LEN_MASK, "a key's length fits its field");

/* Where a store's entries live: the arena, or the user's allocator. */
struct kvs__pool {
	struct kvs__mem mem;
	struct kvs__arena *arena;  /* NULL with a user's allocator (i) */
	struct kvs_type type;      /* clone NULL: values are bytes (i) */
	kvs__u64 *pinned_bytes;    /* of entries that are removed and wait for the last unpin (s) */
	kvs_removed_fn removed_fn; /* (i) */
	void *removed_ctx;         /* (i) */
	const struct kvs__clock *clock; /* for what it is told (i) */
};

/* kvs__pool_is_typed - Are the values the user's objects? Then each lies in a block of its own. */
KVS_INLINE bool kvs__pool_is_typed(const struct kvs__pool *pool)
{
	return pool->type.clone != NULL;
}

/* kvs__pool_wants_memory - Is it time for the maintainer to prepare some (arena.h)? */
KVS_INLINE bool kvs__pool_wants_memory(const struct kvs__pool *pool)
{
	return pool->arena && kvs__arena_wants_chunk(pool->arena);
}

KVS_INLINE size_t kvs__entry_key_len(const struct kvs__entry *e)
{
	return (size_t)(e->order & KVS__KEY_LEN_MASK);
}

KVS_INLINE size_t kvs__entry_value_len(const struct kvs__entry *e)
{
	return e->extent & KVS__EXTENT_LEN;
}

KVS_INLINE uint64_t kvs__entry_version(const struct kvs__entry *e)
{
	return load_relaxed(&e->version) >> KVS__VERSION_SHIFT;
}

KVS_INLINE bool kvs__entry_is_timed(const struct kvs__entry *e)
{
	return (e->extent & KVS__EXTENT_DEADLINE) != 0;
}

/* kvs__entry_timed - What stands before a timed entry. kvs__timed_entry - The entry behind it. */
KVS_INLINE struct kvs__timed *kvs__entry_timed(const struct kvs__entry *e)
{
	return (struct kvs__timed *)((uintptr_t)e - KVS__TIMED);
}

KVS_INLINE struct kvs__entry *kvs__timed_entry(struct kvs__timed *t)
{
	return (struct kvs__entry *)((uintptr_t)t + KVS__TIMED);
}

/* kvs__entry_deadline - When it expires, or KVS__NO_DEADLINE. */
KVS_INLINE int64_t kvs__entry_deadline(const struct kvs__entry *e)
{
	if (likely(!kvs__entry_is_timed(e)))
		return KVS__NO_DEADLINE;
	return (int64_t)(load_relaxed(&kvs__entry_timed(e)->timer.deadline) & ~KVS__TIMER_FLAG);
}

/* kvs__entry_has_expired - Has the deadline of a timed entry passed? Reads the clock, unless that is far before it. */
KVS_INLINE bool kvs__entry_has_expired(const struct kvs__clock *c, const struct kvs__entry *e)
{
	int64_t deadline = kvs__entry_deadline(e);

	return !likely(kvs__clock_is_before(c, deadline)) && deadline <= kvs__clock_now(c);
}

KVS_INLINE struct kvs__block *kvs__entry_block(const struct kvs__entry *e)
{
	struct kvs__block *b;

	memcpy(&b, e->bytes + kvs__entry_key_len(e), sizeof(b));
	return b;
}

/* kvs__entry_value - Its bytes, or the user's object; of an entry that nobody else can reach yet they may be written. */
KVS_INLINE const void *kvs__entry_value(const struct kvs__entry *e)
{
	if (unlikely(e->extent & KVS__EXTENT_BLOCK))
		return kvs__entry_block(e)->data;
	return e->bytes + kvs__entry_key_len(e);
}

/* kvs__entry_size - Bytes of the entry's own block, as asked for. */
KVS_INLINE size_t kvs__entry_size(const struct kvs__entry *e)
{
	size_t tail = e->extent & KVS__EXTENT_BLOCK ? sizeof(void *) : kvs__entry_value_len(e);
	size_t timed = kvs__entry_is_timed(e) ? KVS__TIMED : 0;

	return timed + KVS__HEADER + kvs__entry_key_len(e) + tail;
}

/* kvs__entry_base - Where its block begins. */
KVS_INLINE void *kvs__entry_base(const struct kvs__entry *e)
{
	return (void *)((uintptr_t)e - (kvs__entry_is_timed(e) ? KVS__TIMED : 0));
}

/* kvs__entry_footprint_own - Of kvs__entry_footprint, what the entry's own block takes. */
KVS_INLINE size_t kvs__entry_footprint_own(const struct kvs__pool *pool, const struct kvs__entry *e)
{
	size_t size = kvs__entry_size(e);

	return likely(pool->arena) ? kvs__arena_block_size(size) : size;
}

/* kvs__entry_block_bytes - What its value's block takes. kvs__entry_block_share - That, unless it has gone on. Cold. */
KVS_INLINE size_t kvs__entry_block_bytes(const struct kvs__entry *e)
{
	return sizeof(struct kvs__block) + kvs__entry_value_len(e);
}

size_t kvs__entry_block_share(const struct kvs__entry *e);

/*
 * kvs__entry_footprint - Bytes that the entry takes of the store's memory, with the value's block: what the arena
 * or, about, malloc hands out for them. What a user's allocator adds we do not know.
 *
 * A block that is shared counts once, with the entry that shows it last: the mark of one that was renewed takes the block
 * out of its footprint, for good. So a renewal adds kvs__entry_footprint_own() of the new entry.
 */
KVS_INLINE size_t kvs__entry_footprint(const struct kvs__pool *pool, const struct kvs__entry *e)
{
	size_t size = kvs__entry_footprint_own(pool, e);

	return unlikely(e->extent & KVS__EXTENT_BLOCK) ? size + kvs__entry_block_share(e) : size;
}

/*
 * kvs__bytes_equal - memcmp for keys: short ones are compared in place, without a call.
 * Both sides have @n bytes; overlapping loads cover the lengths between powers of two.
 */
KVS_INLINE bool kvs__bytes_equal(const unsigned char *a, const unsigned char *b, size_t n)
{
	uint64_t x, y, v, w;
	uint32_t p, q, r, s;

	if (likely(n >= 8)) {
		if (n > 16) {
			if (n > 32)
				return memcmp(a, b, n) == 0;
			memcpy(&x, a + 8, 8);
			memcpy(&y, b + 8, 8);
			memcpy(&v, a + n - 16, 8);
			memcpy(&w, b + n - 16, 8);
			if (((x ^ y) | (v ^ w)) != 0)
				return false;
		}
		memcpy(&x, a, 8);
		memcpy(&y, b, 8);
		memcpy(&v, a + n - 8, 8);
		memcpy(&w, b + n - 8, 8);
		return ((x ^ y) | (v ^ w)) == 0;
	}
	if (n >= 4) {
		memcpy(&p, a, 4);
		memcpy(&q, b, 4);
		memcpy(&r, a + n - 4, 4);
		memcpy(&s, b + n - 4, 4);
		return ((p ^ q) | (r ^ s)) == 0;
	}
	return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

/* 16 bytes that may lie anywhere. */
typedef long long kvs__16 __attribute__((vector_size(16), aligned(1), may_alias));

/* Copy 17 to 128 bytes: all loads first, from both ends towards the middle, overlapping there. */
KVS_INLINE void kvs__copy_medium(char *to, const char *from, size_t n)
{
	const char *end = from + n;
	kvs__16 a = *(const kvs__16 *)from;
	kvs__16 z = *(const kvs__16 *)(end - 16);

	if (n > 32) {
		kvs__16 b = *(const kvs__16 *)(from + 16);
		kvs__16 y = *(const kvs__16 *)(end - 32);

		if (n > 64) {
			kvs__16 c = *(const kvs__16 *)(from + 32);
			kvs__16 d = *(const kvs__16 *)(from + 48);
			kvs__16 w = *(const kvs__16 *)(end - 64);
			kvs__16 x = *(const kvs__16 *)(end - 48);

			*(kvs__16 *)(to + 32) = c;
			*(kvs__16 *)(to + 48) = d;
			*(kvs__16 *)(to + n - 64) = w;
			*(kvs__16 *)(to + n - 48) = x;
		}
		*(kvs__16 *)(to + 16) = b;
		*(kvs__16 *)(to + n - 32) = y;
	}
	*(kvs__16 *)to = a;
	*(kvs__16 *)(to + n - 16) = z;
}

/* kvs__copy - memcpy for keys and values: the common sizes in line, so that neighbouring gets can overlap. */
KVS_INLINE void kvs__copy(void *to, const void *from, size_t n)
{
	uint64_t x, y;

	if (likely(n - 17 <= 128 - 17)) {
		kvs__copy_medium(to, from, n);
	} else if (n - 8 <= 16 - 8) {
		memcpy(&x, from, 8);
		memcpy(&y, (const char *)from + n - 8, 8);
		memcpy(to, &x, 8);
		memcpy((char *)to + n - 8, &y, 8);
	} else if (n) {
		memcpy(to, from, n);
	}
}

/*
 * kvs__entry_make - A private entry with copies of @key and @val; version is not set, and it leads nowhere.
 *
 * @val         data NULL: the value's bytes are left to the caller to write.
 * @heap        the calling thread's (arena.h). Returns NULL: no memory.
 */
struct kvs__entry *kvs__entry_make(const struct kvs__pool *pool, struct kvs__heap *heap,
				   uint64_t order, struct kvs_slice key, struct kvs_slice val);

/* kvs__entry_make_timed - The same with a deadline, which may be KVS__NO_DEADLINE. */
struct kvs__entry *kvs__entry_make_timed(const struct kvs__pool *pool, struct kvs__heap *heap,
					 uint64_t order, struct kvs_slice key, struct kvs_slice val,
					 int64_t deadline);

/*
 * kvs__entry_renew - A private entry with the key and the value of @e, and another deadline.
 *
 * Inside a section in which @e was met. A value in a block of its own is shared, a shorter one copied.
 */
struct kvs__entry *kvs__entry_renew(const struct kvs__pool *pool, struct kvs__heap *heap,
				    const struct kvs__entry *e, int64_t deadline);

/* kvs__block_hold, kvs__block_release - One reference more; one less, and the block is freed with the last. */
void kvs__block_hold(struct kvs__block *b);
void kvs__block_release(const struct kvs__pool *pool, struct kvs__block *b);

/*
 * kvs__entry_adopt - As kvs__entry_make_timed in a store of objects, with an object that is there already.
 *
 * @len         KVS_VALUE_MAX at most: the bits of extent above that are flags.
 * OWNS: the object, on failure too.
 */
struct kvs__entry *kvs__entry_adopt(const struct kvs__pool *pool, struct kvs__heap *heap,
				    uint64_t order, struct kvs_slice key, void *object, size_t len,
				    int64_t deadline);

/* kvs__entry_pin - Inside a section in which @e was found live. false: it has as many pins as it can have. */
bool kvs__entry_pin(struct kvs__entry *e);

/* kvs__entry_unpin - Take a pin off. Any thread, inside a section or not. */
void kvs__entry_unpin(const struct kvs__pool *pool, struct kvs__entry *e);

/*
 * kvs__entry_bury_many - Give back @n entries that were published and that no thread can reach; reorders @e.
 *
 * The user is told why each was removed; @live is why those were that are not marked (0: they were never in the store).
 */
void kvs__entry_bury_many(const struct kvs__pool *pool, struct kvs__entry **e, size_t n,
			  enum kvs_removal live);

/* kvs__entry_free - Give back an entry that no thread can reach, now or with its last pin. */
void kvs__entry_free(const struct kvs__pool *pool, struct kvs__entry *e);

/* kvs__entry_free_many - The same for @n of them; reorders @e. */
void kvs__entry_free_many(const struct kvs__pool *pool, struct kvs__entry **e, size_t n);

#endif
