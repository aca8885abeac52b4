/* SPDX-License-Identifier: MIT */
/*
 * kvs.h - an in-process store of byte-string keys and byte-string values.
 *
 * CONVENTIONS
 *
 * Errors      A function that can fail returns int: 0 (KVS_OK) or a negative KVS_ERR_ code.
 *             Results come back through ret_ parameters, which are written only on success
 *             unless the function says otherwise. The library never prints, never aborts,
 *             never touches errno on purpose. liburcu may abort: see kvs_thread_attach.
 * Keys        0 to KVS_KEY_MAX bytes, any bytes, the empty key included.
 * Values      0 to KVS_VALUE_MAX bytes, any bytes. No alignment is promised for their bytes.
 * Ownership   Keys and values are copied in by every write; the caller keeps its memory.
 *             Borrowed memory is valid until the read section in which it was borrowed ends,
 *             whatever happens to the key meanwhile.
 * Sections    kvs_read_begin() ... kvs_read_end() is a read section. Sections nest, belong to
 *             a thread, and are shared with the program's own urcu-bp sections. An open section
 *             holds back the return of memory, not other threads' calls: keep it short.
 * Threads     Any thread may call anything at any time, kvs_free() excepted, which must be the
 *             last call on its store. No thread needs to register; a thread may exit at any time.
 * Waiting     Only kvs_open, kvs_close, kvs_free, kvs_clear, kvs_drain, kvs_run, kvs_fork_before, kvs_save, kvs_load
 *             and the calls of a snapshot wait for other threads. Inside the caller's own read section they answer
 *             KVS_ERR_IN_READ_SECTION and change nothing; on a thread of a store, so in a stall function, KVS_ERR_BUSY.
 * Callbacks   None may throw, longjmp or end its thread. Each says what it may call.
 * Versions    Every entry carries a version (56 bits, never 0). It is never repeated in a store, but by kvs_load,
 *              which by default keeps those of the file: one of this store may come back with another value.
 *             It grows along a key while the key stays, and a write that starts after another
 *             write of that key returned has the greater one.
 * Expiry      A key may have a deadline, a whole millisecond: never gone before it, never seen from it on, by
 *             reads, writes, walks and snapshots alike. Counted on a clock that nobody sets and that goes on while the
 *             machine is suspended; wall time is converted once, when it is passed in.
 * Progress    wait-free: ends after a number of steps that depends only on the nodes it meets.
 *             lock-free: some thread always completes. Both apart from the memory allocator.
 *             waits: may wait for a grace period or a lock.
 *
 * WHICH CALLS MAY OVERLAP      "-" any way, "1" one at a time (the second waits its turn), "X" never
 *
 *                  reads  writes  iterate  run  clear  drain  close  free
 *     reads          -      -        -      -     -      -      -     X
 *     writes         -      -        -      -     -      -      -     X
 *     iterate        -      -        -      -     -      -      -     X
 *     run            -      -        -      B     B      B      B     X
 *     clear          -      -        -      1     1      1      1     X
 *     drain          -      -        -      1     1      1      1     X
 *     close          -      -        -      1     1      1      1     X
 *     free           X      X        X      X     X      X      X     X
 *
 *     "B": kvs_run answers KVS_ERR_BUSY while another of these is under way; they wait for it.
 *
 * kvs_load is in this table as clear, but that a second load, or one beside a snapshot, answers KVS_ERR_BUSY; a
 * snapshot, kvs_save too, overlaps reads, writes, iterate and drain.
 */
#ifndef KVS_H
#define KVS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define KVS_API __attribute__((visibility("default")))
#define KVS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define KVS_API
#define KVS_MUST_CHECK
#endif

/* ---- Errors ---------------------------------------------------------------------------- */

/* code, value, sentence. Values are pinned for ever; new codes are added at the end. */
#define KVS_ERROR_MAP(X)                                                                           \
	X(UNKNOWN, -1, "unknown error")                                                            \
	X(NOT_FOUND, -2, "the key is not in the store")                                            \
	X(DUPLICATE, -3, "the key is in the store already")                                        \
	X(INVALID_NUM_SHARDS, -4, "the number of shards must be 0 (default) or 1 to 4096")         \
	X(INVALID_SHARD_INDEX, -5, "the shard function returned an index outside [0, shards)")     \
	X(CORRUPTED_SNAPSHOT, -6, "the snapshot is damaged")                                       \
	X(UNSUPPORTED_VERSION, -7, "the snapshot was written by a newer version")                  \
	X(INVALID_TTL, -8, "the time to live is negative or out of range")                         \
	X(STORE_CLOSED, -9, "the store is closed")                                                 \
	X(NIL_HASH_FUNC, -10, "a user function was chosen but none was given")                     \
	X(NO_MEMORY, -11, "out of memory; nothing was changed")                                    \
	X(IO, -12, "input or output failed")                                                       \
	X(INVALID_ARGUMENT, -13, "an argument is invalid")                                         \
	X(BUFFER_TOO_SMALL, -14, "the buffer is too small; the needed size was reported")          \
	X(KEY_TOO_LARGE, -15, "the key is longer than 65535 bytes")                                \
	X(VALUE_TOO_LARGE, -16, "the value is longer than 1073741823 bytes")                       \
	X(BUSY, -17, "the call cannot be made while another one is under way")                     \
	X(IN_READ_SECTION, -18, "the call waits, and the caller is inside a read section")         \
	X(NO_READ_SECTION, -19, "the call borrows, and the caller is outside a read section")      \
	X(VERSION_MISMATCH, -20, "the key has another version")                                    \
	X(MEMORY_LIMIT, -21, "the memory limit is reached; nothing was changed")                   \
	X(NOT_A_NUMBER, -22, "the value is not a 64-bit number")                                   \
	X(OVERFLOW, -23, "the result is not a 64-bit number; nothing was changed")                 \
	X(TOO_MANY_PINS, -24, "the entry has 255 pins, which is the most")                         \
	X(TYPED, -25, "the store holds objects, the call is for bytes")

#define KVS_OK 0
enum kvs_error {
#define KVS_X(name, value, text) KVS_ERR_##name = (value),
	KVS_ERROR_MAP(KVS_X)
#undef KVS_X
};

/* kvs_strerror - A sentence for @code ("no error" for 0, UNKNOWN's for codes we do not know). Static. */
KVS_API const char *kvs_strerror(int code);

/* kvs_errname - The name of @code without its prefix, such as "NOT_FOUND"; "OK" for 0. Static. */
KVS_API const char *kvs_errname(int code);

/* ---- Types ----------------------------------------------------------------------------- */

#define KVS_KEY_MAX 65535u        /* bytes */
#define KVS_VALUE_MAX 1073741823u /* bytes: 1 GiB - 1 */
#define KVS_SHARDS_MAX 4096

struct kvs; /* a store */

/* Bytes that somebody else owns: the caller when passed in, the store when borrowed. */
struct kvs_slice {
	const void *data; /* may be NULL if len is 0 */
	size_t len;       /* bytes */
};

/* kvs_bytes - The slice of @len bytes at @data. */
static inline struct kvs_slice kvs_bytes(const void *data, size_t len)
{
	struct kvs_slice s;
	s.data = data;
	s.len = len;
	return s;
}

/* kvs_lit - The slice of a string literal, without the zero at its end; it may hold others. */
#define kvs_lit(literal) kvs_bytes("" literal, sizeof(literal) - 1)

/* kvs_str - The slice of a zero-terminated string, without the zero. */
static inline struct kvs_slice kvs_str(const char *s)
{
	return kvs_bytes(s, strlen(s));
}

/*
 * What a read found. @data is the caller's buffer (kvs_get), memory to give back with
 * kvs_value_free() (kvs_get_alloc and the get-and- calls), or borrowed (kvs_borrow, kvs_scan).
 */
struct kvs_value {
	const void *data;
	size_t len;       /* bytes */
	uint64_t version; /* of the entry; 0 only where "no entry" is a documented answer */
	int64_t expires_at_ms; /* wall clock, ms since 1970; 0: never. As the clocks stood when it was last looked at */
};

/*
 * When a key that is written expires. Zeroed, as kvs_after(0) and kvs_at(0): never. Times are milliseconds;
 * negative ones, and a kvs_after() that ends beyond INT64_MAX of the clock, answer KVS_ERR_INVALID_TTL. A kvs_at() beyond
 * that is taken as that instant, since only the wall clock's reading can make it so.
 */
struct kvs_expiry {
	int32_t kind; /* enum kvs_expiry_kind */
	int64_t ms;
};

enum kvs_expiry_kind {
	KVS_EXPIRY_AFTER = 0, /* that long from the call on */
	KVS_EXPIRY_AT = 1     /* wall time, since 1970; what is past expires at once */
};

/* kvs_after - Expire @ttl_ms from now; 0: never. */
static inline struct kvs_expiry kvs_after(int64_t ttl_ms)
{
	struct kvs_expiry e;
	e.kind = KVS_EXPIRY_AFTER;
	e.ms = ttl_ms;
	return e;
}

/* kvs_at - Expire at @wall_ms, milliseconds since 1970; 0: never. */
static inline struct kvs_expiry kvs_at(int64_t wall_ms)
{
	struct kvs_expiry e;
	e.kind = KVS_EXPIRY_AT;
	e.ms = wall_ms;
	return e;
}

/* One entry of a page of kvs_scan() or a step of kvs_foreach(); both parts are borrowed. */
struct kvs_item {
	struct kvs_slice key;
	struct kvs_value value;
};

/* ---- Options --------------------------------------------------------------------------- */

/*
 * Memory for a store. alloc and free are needed, zalloc may be NULL (then alloc and memset).
 * alloc returns memory aligned to 16 bytes, or NULL; free gets the size that was asked for. They
 * are called from any thread, several at once, inside read sections too, and must not call this library.
 * Without a user's allocator the store takes entries and directory straight from the system,
 * in huge pages where they fill; with one, every byte goes through it, one call per entry.
 */
struct kvs_allocator {
	void *(*alloc)(void *ctx, size_t size);
	void *(*zalloc)(void *ctx, size_t size);
	void (*free)(void *ctx, void *ptr, size_t size);
	void *ctx;
};

/*
 * A clock in place of the system's, for programs that test what they do with expiry. Both functions are needed;
 * they are called from any thread, often, and must not call this library. boot_ms never goes back and is not
 * negative; wall_ms is since 1970 and may jump. A snapshot begins only while boot_ms stands still for two calls in a row.
 */
struct kvs_clock {
	int64_t (*boot_ms)(void *ctx);
	int64_t (*wall_ms)(void *ctx);
	void *ctx;
};

/*
 * OBJECTS AS VALUES
 *
 * A store opened with a struct kvs_type holds objects of the program's. A value is then a slice whose data is the object
 * and whose len is what the object counts for in the store's accounts (such as its size): 0 to KVS_VALUE_MAX, and the
 * data is not NULL.
 *
 *   writes        clone the object they are given; the caller keeps its own
 *   kvs_get_alloc, kvs_batch_get_alloc, kvs_get_and_set, kvs_get_and_delete
 *                 return a clone, to be destroyed by kvs_value_free()
 *   kvs_borrow, kvs_batch_borrow, kvs_scan, kvs_foreach, kvs_pin, kvs_snapshot_next, kvs_update's function
 *                 show the store's own object, which must not be changed
 *   kvs_get, kvs_batch_get, kvs_append, kvs_increment and its kin
 *                 are for bytes and answer KVS_ERR_TYPED; the gets only of a key that is there
 *   kvs_save, kvs_load
 *                 use encode and decode; without them they answer KVS_ERR_TYPED
 *
 * The store destroys each object that it cloned or decoded exactly once, when nobody can see it any more: after the
 * read sections that were open at its removal, and its last pin.
 *
 * The functions are called from any thread, several at once, also inside read sections and on the store's own thread; they must
 * not call this library and must not wait.
 */
struct kvs_type {
	/* A copy; NULL: no memory. */
	void *(*clone)(const void *object, size_t len, void *ctx);
	void (*destroy)(void *object, size_t len, void *ctx);
	/* The bytes of an object, into @buf if they fit @cap. Returns how many they are, whether or not they fit. */
	size_t (*encode)(const void *object, size_t len, void *buf, size_t cap, void *ctx);
	/* An object from @n bytes, and its len, KVS_VALUE_MAX at most. Returns 0 or an error, which the load answers. */
	int (*decode)(const void *bytes, size_t n, void **ret_object, size_t *ret_len, void *ctx);
	void *ctx;
};

/*
 * A user's hash: 64 bits from the key's bytes; it need not be well mixed. Called from any thread, several at once, inside
 * read sections too; it must not call this library. @key may be NULL if @len is 0. So it is with kvs_shard_fn.
 */
typedef uint64_t (*kvs_hash_fn)(const void *key, size_t len, void *ctx);

/* A user's routing: the shard of a key, in [0, shards). Always the same for the same key. */
typedef int (*kvs_shard_fn)(const void *key, size_t len, int shards, void *ctx);

enum kvs_hash {
	KVS_HASH_SIPHASH13 = 0, /* default: keyed, withstands chosen keys */
	KVS_HASH_XXH3 = 1,      /* fast; for keys that no adversary chooses */
	KVS_HASH_FNV1A = 2,     /* 64-bit FNV-1a, unseeded; likewise for trusted keys only */
	KVS_HASH_USER = 3       /* hash_fn */
};

enum kvs_route {
	KVS_ROUTE_HASH = 0, /* default: by bits of the hash that the shard's table does not use */
	KVS_ROUTE_USER = 1  /* shard_fn */
};

/*
 * Told of a read section that has been open for long: what is deferred cannot be freed before it ends.
 *
 * @age_ms      how long the oldest grace period has been waited for; a lower bound of the section's age. Of a store
 *              without threads: what a call of kvs_run has waited, told when it is over.
 * @deferred    bytes that wait, at present.
 * Context      The store's thread "kvs-maint", or the caller of kvs_run. It may read and write this store and others; the
 *              calls that wait, on whatever store, answer KVS_ERR_BUSY on a store's thread. It must not call kvs_free.
 */
typedef void (*kvs_stall_fn)(struct kvs *kv, uint64_t age_ms, uint64_t deferred, void *ctx);

/* Why an entry left the store. */
enum kvs_removal {
	KVS_REMOVED_EXPIRED = 1, /* its deadline had passed */
	KVS_REMOVED_DELETED = 2,
	KVS_REMOVED_REPLACED =
		3, /* by another write of the key, kvs_expire, kvs_persist and kvs_touch included */
	KVS_REMOVED_CLEARED = 4, /* by kvs_clear, or by the new contents of kvs_load */
	KVS_REMOVED_CLOSED = 5   /* by kvs_close or kvs_free */
};

/*
 * Called once for each entry that was in the store, when its memory is about to be given back: after its removal and
 * the read sections open then, usually 10 to 50 ms. So of two entries of a key the later may be told of first;
 * versions tell. @item is valid until it returns.
 *
 * Context      A thread of the store; or the caller of kvs_run, kvs_clear, kvs_load, kvs_drain, kvs_close, kvs_free,
 *              kvs_snapshot_begin, kvs_snapshot_next, kvs_snapshot_part_end, kvs_snapshot_end or kvs_save, whose helpers
 *              too; or a writer that helps to free, in the middle of its write. Several at once. Never a read. It
 *              must not call this library, and should be short: it holds back the freeing of memory.
 */
typedef void (*kvs_removed_fn)(const struct kvs_item *item, enum kvs_removal cause, void *ctx);

#define KVS_EXPIRY_TICK_MS_DEFAULT 10u
#define KVS_EXPIRY_TICK_MS_MAX 1000u

/* kvs_options.flags */
#define KVS_OPEN_NO_THREADS 1u /* start no thread; the program calls kvs_run() */

#define KVS_DEFERRED_SOFT_DEFAULT ((uint64_t)32 << 20) /* bytes */
#define KVS_STALL_MS_DEFAULT 10000u

/*
 * How to open a store. Start from KVS_OPTIONS_INIT and set what you need; zero means default.
 * A shorter struct from an older caller works; a longer one works if what we do not know is zero.
 */
struct kvs_options {
	size_t size;               /* sizeof(struct kvs_options) */
	int32_t shards;            /* 0: 16; 1 to KVS_SHARDS_MAX */
	uint32_t flags;            /* KVS_OPEN_ bits; unknown ones must be 0 */
	uint64_t initial_capacity; /* keys the directory has room for from the start; 0: small */
	int32_t hash;              /* enum kvs_hash */
	int32_t route;             /* enum kvs_route */
	kvs_hash_fn hash_fn;       /* needed by KVS_HASH_USER */
	void *hash_ctx;
	kvs_shard_fn shard_fn; /* needed by KVS_ROUTE_USER */
	void *shard_ctx;
	const unsigned char *hash_key; /* 16 bytes for SipHash and XXH3, copied; NULL: random */
	const struct kvs_allocator *allocator; /* copied; NULL: the store's own */
	const struct kvs_clock *clock;         /* copied; NULL: the system's */
	/*
	 * Limits, in bytes; 0: none (deferred_soft: the default). See MEMORY below.
	 */
	uint64_t
		max_memory; /* entries and directories: a write that would grow them beyond fails */
	uint64_t deferred_soft; /* deferred memory from which on writers help to free it */
	uint64_t deferred_hard; /* deferred memory from which on removing writes fail */
	kvs_stall_fn stall_fn;  /* NULL: none */
	void *stall_ctx;
	uint32_t stall_ms; /* stall_fn is called once for each so many ms; 0: the default */
	/*
	 * Expired keys are removed at most two ticks late, within 50 ms by default, when the store's thread gets to run
	 * in time and is not behind: a million keys due in one tick took it half a second. Reads do not see them
	 * from the first millisecond on, whatever the tick.
	 */
	uint32_t expiry_tick_ms;     /* 0: the default; 1 to KVS_EXPIRY_TICK_MS_MAX */
	const struct kvs_type *type; /* copied; NULL: values are bytes */
	kvs_removed_fn removed_fn;   /* NULL: none */
	void *removed_ctx;
};
#define KVS_OPTIONS_INIT                                                                           \
	{                                                                                          \
		sizeof(struct kvs_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  \
			0, 0, 0, 0                                                                 \
	}

/*
 * MEMORY
 *
 * What a write removes is deferred: it stays until every read section that was open at the removal has ended.
 * While all sections are short that takes 10 to 50 ms. A section that stays open holds back everything
 * that is removed meanwhile.
 *
 * max_memory      A write that would make live entries and directories larger than this answers
 *                 KVS_ERR_MEMORY_LIMIT and changes nothing. Deletes, and writes that put no more in a key's place
 *                 than was there, go on. Deferred memory is not in it, nor what is kept for a snapshot. Exceeded by
 *                 at most 1/256 of the limit (at most 64 KiB), one entry and one doubling of a shard's directory a
 *                 thread: a write looks before it publishes, and reserves nothing.
 * deferred_soft   Above it, writers free some of what may be freed. They wait for nobody.
 * deferred_hard   At it, writes that remove an entry (overwrites and deletes) answer KVS_ERR_MEMORY_LIMIT and change
 *                 nothing, until memory has been freed. New keys are not refused, but in the place of an expired entry
 *                 that has not been removed yet. Exceeded by at most 256 KiB and one entry a thread, by the entries
 *                 with a deadline that are removed within a tick of 10 ms, or between two calls of kvs_run, and by what
 *                 was kept for a snapshot and has been returned or given up.
 *
 * While kvs_clear and kvs_load put new contents in the place of the old, both count towards max_memory: their directories from the
 * start, and from the swap on until the old entries have been freed, before the call returns, the entries of both. Writes
 * may be refused meanwhile though either would fit.
 *
 * So max_memory + deferred_hard bounds what a store holds; while a snapshot is open, and the max_memory of its own
 * (kvs_snapshot_options) with them.
 */

/*
 * kvs_options_check - Say whether @opts can be opened, and if not, which option is at fault.
 *
 * @ret_option  may be NULL; on an error it names the option ("shards", "hash_fn", ...), static.
 * Returns      0, KVS_ERR_INVALID_NUM_SHARDS, KVS_ERR_NIL_HASH_FUNC, KVS_ERR_INVALID_ARGUMENT.
 */
KVS_API int kvs_options_check(const struct kvs_options *opts, const char **ret_option);

/* ---- Life ------------------------------------------------------------------------------ */

/*
 * kvs_open - Open an empty store.
 *
 * @opts        NULL for all defaults. Copied; may be forgotten afterwards.
 * Returns      0, what kvs_options_check() returns, KVS_ERR_NO_MEMORY (also: no thread to be had),
 *              KVS_ERR_IO (the system has no random bytes for the hash key), KVS_ERR_IN_READ_SECTION,
 *              KVS_ERR_BUSY (on a thread of a store).
 * Threads      Starts two: "kvs-rcu" (runs deferred frees) and "kvs-maint" (hands over idle
 *              batches, finishes growth, shrinks, gives memory back). Both block every signal. With
 *              KVS_OPEN_NO_THREADS none: see kvs_run.
 * Progress     Waits for its threads to start.
 */
KVS_API KVS_MUST_CHECK int kvs_open(const struct kvs_options *opts, struct kvs **ret_kv);

/*
 * kvs_close - End the work of a store: its contents are given back, its threads are gone.
 *
 * Afterwards every call that can fail answers KVS_ERR_STORE_CLOSED, this one too, if its arguments are valid: else it may
 * say that first.
 * Returns      0, KVS_ERR_STORE_CLOSED, KVS_ERR_IN_READ_SECTION, KVS_ERR_BUSY (a snapshot is open; or on a
 *              thread of a store).
 * Linearizes   At the swap of the root: later operations answer KVS_ERR_STORE_CLOSED.
 * Progress     Waits for every read section open at the call, and frees every entry.
 */
KVS_API int kvs_close(struct kvs *kv);

/*
 * kvs_free - Close the store if it is open, then give back what is left of it.
 *
 * Must not overlap any other call on this store. On an error the store is as it was.
 * Returns      0 (also for NULL), KVS_ERR_IN_READ_SECTION, KVS_ERR_BUSY (as kvs_close; also: a pin is out).
 */
KVS_API int kvs_free(struct kvs *kv);

/* ---- Reading --------------------------------------------------------------------------- */

/*
 * kvs_get - Copy the value of @key into the caller's buffer.
 *
 * @buf         room for @cap bytes; may be NULL if @cap is 0.
 * @ret         may be NULL. On success data is @buf and len the value's length; with
 *              KVS_ERR_BUFFER_TOO_SMALL data is NULL, and len and version are the entry's.
 * Returns      0, KVS_ERR_NOT_FOUND, KVS_ERR_BUFFER_TOO_SMALL (nothing was copied),
 *              KVS_ERR_KEY_TOO_LARGE, KVS_ERR_INVALID_SHARD_INDEX, KVS_ERR_STORE_CLOSED.
 * Linearizes   Where the entry is found unmarked, or where the chain ends without it.
 * Progress     Wait-free but for the nodes that others put into the same chain meanwhile.
 */
KVS_API int kvs_get(struct kvs *kv, struct kvs_slice key, void *buf, size_t cap,
		    struct kvs_value *ret);

/*
 * kvs_get_alloc - As kvs_get, into new memory, to be given back with kvs_value_free().
 *
 * Returns      as kvs_get, and KVS_ERR_NO_MEMORY.
 */
KVS_API KVS_MUST_CHECK int kvs_get_alloc(struct kvs *kv, struct kvs_slice key,
					 struct kvs_value *ret);

/* kvs_value_free - Give back the memory of a value that a call allocated; @value becomes empty. Never fails. */
KVS_API void kvs_value_free(struct kvs *kv, struct kvs_value *value);

/*
 * kvs_read_begin, kvs_read_end - Open and close a read section on this thread.
 *
 * Sections nest. What was borrowed inside is valid until the outermost one ends. A thread that exits inside
 * sections ends them, in a destructor of thread-specific data: destructors that run after it must not.
 * Progress     Wait-free, but for a thread's very first call, which registers it.
 */
KVS_API void kvs_read_begin(struct kvs *kv);
KVS_API void kvs_read_end(struct kvs *kv);

/*
 * kvs_borrow - Find the value of @key without copying it. Only inside a read section.
 *
 * @ret         data points into the store until the section ends. Never write through it.
 * Returns      0, KVS_ERR_NOT_FOUND, KVS_ERR_NO_READ_SECTION, KVS_ERR_KEY_TOO_LARGE,
 *              KVS_ERR_INVALID_SHARD_INDEX, KVS_ERR_STORE_CLOSED.
 * Linearizes, Progress   as kvs_get.
 */
KVS_API KVS_MUST_CHECK int kvs_borrow(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret);

/* Holds on to one value of a store. Small, to be copied and handed to other threads; all zero: none. */
struct kvs_pin {
	void *entry;
};

/*
 * kvs_pin - As kvs_borrow, but what is borrowed stays until kvs_unpin(), whatever becomes of the key: it may be
 * overwritten, deleted, expire, and the store be cleared or closed. Inside or outside a read section.
 *
 * Meanwhile its memory stays taken, which neither max_memory nor deferred_hard sees; see bytes_pinned.
 * Returns      0, KVS_ERR_NOT_FOUND, KVS_ERR_TOO_MANY_PINS (255 on one entry), KVS_ERR_NO_MEMORY,
 *              KVS_ERR_KEY_TOO_LARGE, KVS_ERR_INVALID_SHARD_INDEX, KVS_ERR_STORE_CLOSED.
 * Linearizes   as kvs_get.
 * Progress     As kvs_get, and a compare-and-swap on the entry, which other pins of it can make to be repeated.
 */
KVS_API KVS_MUST_CHECK int kvs_pin(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret,
				   struct kvs_pin *ret_pin);

/*
 * kvs_unpin - Let go of what a pin holds; @pin becomes all zero. Once for each kvs_pin(), by any thread. Never fails.
 *
 * It may free the value, if that is of the past. Works on a closed store.
 */
KVS_API void kvs_unpin(struct kvs *kv, struct kvs_pin *pin);

/* kvs_exists - 0 if the key is there, else KVS_ERR_NOT_FOUND or another code of kvs_get. */
KVS_API int kvs_exists(struct kvs *kv, struct kvs_slice key);

/*
 * kvs_ttl - How long @key still has: @ret_ttl_ms is 1 at least; 0 if it does not expire.
 *
 * When it expires in wall time is in what every read returns (expires_at_ms).
 * Returns      0, KVS_ERR_NOT_FOUND, or another code of kvs_get.    Progress   as kvs_get.
 */
KVS_API int kvs_ttl(struct kvs *kv, struct kvs_slice key, int64_t *ret_ttl_ms);

/*
 * kvs_len - Count the keys, without walking them: the sum of the shards' counters.
 *
 * Keys that have expired count until they are removed, which is a matter of milliseconds.
 * Exact when no write is under way. Not a point in time while writers run.
 * Returns      0, KVS_ERR_STORE_CLOSED.          Progress   wait-free, one load a shard.
 */
KVS_API int kvs_len(struct kvs *kv, uint64_t *ret_len);

/* ---- Writing --------------------------------------------------------------------------- */

/*
 * Common to all writes. @ret_version may be NULL.
 * Returns      0, KVS_ERR_KEY_TOO_LARGE, KVS_ERR_VALUE_TOO_LARGE, KVS_ERR_NO_MEMORY,
 *              KVS_ERR_INVALID_SHARD_INDEX, KVS_ERR_STORE_CLOSED, KVS_ERR_MEMORY_LIMIT (a limit of
 *              kvs_options), and what the call itself names. On any error nothing was changed.
 * Context      Any thread, inside or outside a read section.
 * Linearizes   At one compare-and-swap: of the predecessor's link (new key) or of the old
 *              entry's own link (present key). A reader never finds a replaced key missing.
 * Progress     Lock-free apart from the allocator. Never waits for a reader.
 */

/* kvs_set - Set @key to @val, whether or not it was there. @ret_version: of the new entry. */
KVS_API int kvs_set(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
		    uint64_t *ret_version);

/* kvs_add - Set @key only if it is absent; else KVS_ERR_DUPLICATE, and @ret_version is the present entry's. */
KVS_API int kvs_add(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
		    uint64_t *ret_version);

/* kvs_replace - Set @key only if it is present; else KVS_ERR_NOT_FOUND. */
KVS_API int kvs_replace(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
			uint64_t *ret_version);

/*
 * kvs_compare_and_set - Set @key only if its entry still has version @expected.
 *
 * Returns also KVS_ERR_NOT_FOUND, and KVS_ERR_VERSION_MISMATCH, with @ret_version the present one.
 */
KVS_API int kvs_compare_and_set(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
				uint64_t expected, uint64_t *ret_version);

/*
 * kvs_get_and_set - Set @key and return a copy of what it replaced, in one step.
 *
 * @ret_old     give back with kvs_value_free(); version 0 and data NULL if the key was absent.
 */
KVS_API KVS_MUST_CHECK int kvs_get_and_set(struct kvs *kv, struct kvs_slice key,
					   struct kvs_slice val, struct kvs_value *ret_old,
					   uint64_t *ret_version);

/* kvs_get_and_delete - Delete @key and return a copy of what it was; else KVS_ERR_NOT_FOUND. */
KVS_API KVS_MUST_CHECK int kvs_get_and_delete(struct kvs *kv, struct kvs_slice key,
					      struct kvs_value *ret_old);

/*
 * kvs_set_ex, kvs_add_ex, kvs_replace_ex, kvs_compare_and_set_ex - As the calls without _ex, and the key expires
 * as @expiry says: kvs_after(ttl_ms) or kvs_at(wall_ms). The calls without _ex write a key that does not expire.
 *
 * Returns also KVS_ERR_INVALID_TTL, and KVS_ERR_INVALID_ARGUMENT for an unknown kind of expiry.
 * Linearizes   A write that needs the key to be there, and found it before its deadline, counts as before the
 *              deadline even if it takes effect a little later. It is the only one that can make a key
 *              be there again that somebody was told is gone.
 */
KVS_API int kvs_set_ex(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
		       struct kvs_expiry expiry, uint64_t *ret_version);
KVS_API int kvs_add_ex(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
		       struct kvs_expiry expiry, uint64_t *ret_version);
KVS_API int kvs_replace_ex(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
			   struct kvs_expiry expiry, uint64_t *ret_version);
KVS_API int kvs_compare_and_set_ex(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
				   uint64_t expected, struct kvs_expiry expiry,
				   uint64_t *ret_version);

/*
 * kvs_expire - Let a present key expire @ttl_ms from now; 0: never.
 * kvs_expire_at - Let it expire at @wall_ms, milliseconds since 1970; 0: never.
 * kvs_persist - Let it never expire.
 * kvs_touch - Let it live for @ttl_ms from now at least (0: for ever): a key that would live longer is left as it is,
 *              so this is what a sliding expiry calls at each use.
 *
 * The value stays; one of more than 4 KiB is not copied, and counts once, with the key (and as kept for a snapshot that is open).
 * The key gets a new version, but by a kvs_touch() that left it as it was: then @ret_version is the present one.
 * Returns      also KVS_ERR_NOT_FOUND, KVS_ERR_INVALID_TTL.
 */
KVS_API int kvs_expire(struct kvs *kv, struct kvs_slice key, int64_t ttl_ms, uint64_t *ret_version);
KVS_API int kvs_expire_at(struct kvs *kv, struct kvs_slice key, int64_t wall_ms,
			  uint64_t *ret_version);
KVS_API int kvs_persist(struct kvs *kv, struct kvs_slice key, uint64_t *ret_version);
KVS_API int kvs_touch(struct kvs *kv, struct kvs_slice key, int64_t ttl_ms, uint64_t *ret_version);

/* kvs_delete - Delete @key; else KVS_ERR_NOT_FOUND. @ret_version: of the entry that was removed. */
KVS_API int kvs_delete(struct kvs *kv, struct kvs_slice key, uint64_t *ret_version);

/* ---- Updates: a new value from the old one, in one step ---------------------------------- */

/*
 * Common to all: as for all writes. Under contention the new value is made again from what is there
 * then, so no update is lost and none is applied twice. A key that is absent counts as described. A key that is
 * present keeps its expiry.
 */

/*
 * kvs_increment, kvs_decrement - Add to, subtract from, a number in decimal text, such as "-42".
 *
 * A number is an optional minus sign and digits without leading zeros, from -2^63 to 2^63 - 1. An absent
 * key counts as 0.
 * @ret_value   may be NULL: the new number.
 * Returns also KVS_ERR_NOT_A_NUMBER, KVS_ERR_OVERFLOW (the result, or -@delta, does not fit).
 */
KVS_API int kvs_increment(struct kvs *kv, struct kvs_slice key, int64_t delta, int64_t *ret_value,
			  uint64_t *ret_version);
KVS_API int kvs_decrement(struct kvs *kv, struct kvs_slice key, int64_t delta, int64_t *ret_value,
			  uint64_t *ret_version);

/*
 * kvs_increment_i64, kvs_decrement_i64 - The same for a number in the 8 bytes of an int64_t.
 *
 * Of the host's byte order. Returns also KVS_ERR_NOT_A_NUMBER (the value has not 8 bytes), KVS_ERR_OVERFLOW.
 */
KVS_API int kvs_increment_i64(struct kvs *kv, struct kvs_slice key, int64_t delta,
			      int64_t *ret_value, uint64_t *ret_version);
KVS_API int kvs_decrement_i64(struct kvs *kv, struct kvs_slice key, int64_t delta,
			      int64_t *ret_value, uint64_t *ret_version);

/*
 * kvs_append - Put @tail behind the value. An absent key counts as empty.
 *
 * @ret_len     may be NULL: bytes of the new value.
 * Returns also KVS_ERR_VALUE_TOO_LARGE of the whole.
 */
KVS_API int kvs_append(struct kvs *kv, struct kvs_slice key, struct kvs_slice tail, size_t *ret_len,
		       uint64_t *ret_version);

/* What a kvs_update_fn answers, if not a negative error of its own, with which the update ends. */
enum kvs_update {
	KVS_UPDATE_SET = 0,    /* set the key to *ret_new */
	KVS_UPDATE_KEEP = 1,   /* change nothing */
	KVS_UPDATE_DELETE = 2, /* delete the key, if it is there */
};

/*
 * Makes a new value of the old one. @old is borrowed; NULL if the key is absent. *ret_new must stay as it is until
 * the next call, or the return of kvs_update(); it may lie within @old.
 *
 * It runs inside a read section, perhaps several times, of which the last one counts: so it must have no effects but its
 * result. It must return (no longjmp, no thread exit), soon, and wait for nobody. It may read this
 * store and do anything to others. Writes to this store answer KVS_ERR_BUSY, calls that wait
 * KVS_ERR_IN_READ_SECTION.
 */
typedef int (*kvs_update_fn)(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg);

/*
 * kvs_update - Set, keep or delete @key, as @fn decides by its value.
 *
 * @ret_version of the new entry, of the one kept, or of the one deleted; 0: the key is absent.
 * Returns also what @fn returned, if that is negative; KVS_ERR_INVALID_ARGUMENT for an answer of @fn that is none.
 * Linearizes   KEEP: as a get.
 */
KVS_API int kvs_update(struct kvs *kv, struct kvs_slice key, kvs_update_fn fn, void *arg,
		       uint64_t *ret_version);

/*
 * kvs_clear - Make the store empty at one instant, for all shards.
 *
 * A reader sees the old contents or the new, never a mixture. Versions go on growing.
 * Returns      0, KVS_ERR_NO_MEMORY, KVS_ERR_IN_READ_SECTION, KVS_ERR_STORE_CLOSED, KVS_ERR_BUSY (as kvs_close).
 * Progress     Waits for the read sections open at the call, then frees every old entry.
 */
KVS_API int kvs_clear(struct kvs *kv);

/* ---- Batches --------------------------------------------------------------------------- */

/*
 * Many keys in one call: their cache misses overlap. Gets in batches of 32 were measured at three to four times the rate
 * of single ones with 10 million keys, at 1.5 to 2 times with 10 thousand; one of one get costs 5 % more instructions.
 *
 * Each item is an operation of its own, with its own status, and none stops the others. Together they are
 * not one step: other threads may see some done and others not.
 * Order       Writes take effect in the order of the items, so of equal keys the last wins. Gets take effect
 *             at any instants of the call, in no order; equal keys each get an answer.
 * Returns     0 if every item says KVS_OK or KVS_ERR_NOT_FOUND, else the status of the first that does not; of no
 *             item, 0 or KVS_ERR_STORE_CLOSED.
 *             KVS_ERR_INVALID_ARGUMENT, with nothing done and no status written, for a NULL @kv or @items.
 * Memory      The calls need a constant amount beyond the arrays, whatever @n is. Keys, values and the
 *             results must not overlap.
 * Progress    As that of each operation. No read section of the call spans more than 32 items.
 */

/* How the items of a batch ended. */
struct kvs_batch_counts {
	size_t ok;
	size_t not_found;
	size_t failed;  /* any other status */
	uint64_t bytes; /* gets: of all values found, also of those for which there was no room */
};

/* An item of a batch get. @value is written when the status is KVS_OK or KVS_ERR_BUFFER_TOO_SMALL, as by kvs_get(). */
struct kvs_get_item {
	struct kvs_slice key;   /* in */
	struct kvs_value value; /* out */
	int status;             /* out: as the single call */
};

/* An item of a batch set. */
struct kvs_set_item {
	struct kvs_slice key;     /* in */
	struct kvs_slice val;     /* in */
	struct kvs_expiry expiry; /* in; all zero: the key does not expire */
	uint64_t version;         /* out, with KVS_OK */
	int status;               /* out: as kvs_set_ex() */
};

/* An item of a batch delete. */
struct kvs_delete_item {
	struct kvs_slice key; /* in */
	uint64_t version;     /* out, with KVS_OK: of the entry that was removed */
	int status;           /* out: as kvs_delete() */
};

/*
 * kvs_batch_get - Copy the values of @n keys into one buffer, one behind the other in the order of the items.
 *
 * @buf         room for @cap bytes. A value that does not fit into what is left answers
 *              KVS_ERR_BUFFER_TOO_SMALL; shorter ones behind it may fit. counts.bytes would have been enough.
 * @ret_counts  may be NULL, here and below.
 */
KVS_API int kvs_batch_get(struct kvs *kv, struct kvs_get_item *items, size_t n, void *buf,
			  size_t cap, struct kvs_batch_counts *ret_counts);

/* kvs_batch_get_alloc - Each value in new memory, to be given back with kvs_value_free(). */
KVS_API int kvs_batch_get_alloc(struct kvs *kv, struct kvs_get_item *items, size_t n,
				struct kvs_batch_counts *ret_counts);

/* kvs_batch_borrow - Without copying. Only inside a read section, else every item, if any, says KVS_ERR_NO_READ_SECTION. */
KVS_API int kvs_batch_borrow(struct kvs *kv, struct kvs_get_item *items, size_t n,
			     struct kvs_batch_counts *ret_counts);

/* kvs_batch_set - Set @n keys. */
KVS_API int kvs_batch_set(struct kvs *kv, struct kvs_set_item *items, size_t n,
			  struct kvs_batch_counts *ret_counts);

/* kvs_batch_delete - Delete @n keys. */
KVS_API int kvs_batch_delete(struct kvs *kv, struct kvs_delete_item *items, size_t n,
			     struct kvs_batch_counts *ret_counts);

/* ---- Iterating ------------------------------------------------------------------------- */

/*
 * A walk returns each key that is present throughout exactly once, across growth, shrink and
 * overwrites; a key that comes or goes meanwhile once or not at all. Walks are not points in time.
 */

/*
 * kvs_scan - Fill a page of entries from a cursor. Only inside a read section.
 *
 * @cursor      0 to start; advanced on success; 0 again when the walk is complete. Stateless:
 *              it holds for this store at any later time, from any thread, in another section.
 * @items       room for @cap entries, borrowed.
 * Returns      0 (@ret_count may be 0 only with the walk complete), KVS_ERR_BUFFER_TOO_SMALL (more
 *              than @cap entries have equal order keys, @ret_count says how many; the cursor
 *              stays), KVS_ERR_NO_READ_SECTION, KVS_ERR_INVALID_ARGUMENT, KVS_ERR_STORE_CLOSED.
 */
KVS_API KVS_MUST_CHECK int kvs_scan(struct kvs *kv, uint64_t *cursor, struct kvs_item *items,
				    size_t cap, size_t *ret_count);

/* Called for each entry, inside a read section. Nonzero ends the walk. It may call the store. */
typedef int (*kvs_foreach_fn)(const struct kvs_item *item, void *arg);

/*
 * kvs_foreach - Call @fn for each entry, in read sections of the library's own, each for 64 calls at the most (but those
 *              for entries of equal order keys are made in one) or 4,096 nodes passed.
 *
 * The item is valid until @fn returns.
 * Returns      0, what @fn returned if not 0, KVS_ERR_STORE_CLOSED, KVS_ERR_INVALID_ARGUMENT.
 */
KVS_API int kvs_foreach(struct kvs *kv, kvs_foreach_fn fn, void *arg);

/*
 * kvs_keys - A list of all keys, in new memory.
 *
 * @ret_keys    give back with kvs_keys_free(); NULL if there are none.
 * Returns      0, KVS_ERR_NO_MEMORY, KVS_ERR_STORE_CLOSED.
 */
KVS_API KVS_MUST_CHECK int kvs_keys(struct kvs *kv, struct kvs_slice **ret_keys, size_t *ret_count);

/* kvs_keys_free - Give back a list of kvs_keys(), NULL included. Works on a closed store. */
KVS_API void kvs_keys_free(struct kvs *kv, struct kvs_slice *keys);

/* ---- Snapshots ------------------------------------------------------------------------- */

/*
 * A snapshot is the contents of the whole store at one instant, its cut: exactly the operations on
 * single keys before that instant, in one order in which they all can have happened. It is taken
 * while everything runs; no writer waits for it.
 *
 * It is one pass: each key of the cut is returned once, in no order. The pass can be divided among
 * threads, each with a part of its own, and paused for as long as one likes; what is overwritten or deleted
 * meanwhile is kept for it, up to a limit. One snapshot of a store at a time; while one is open
 * kvs_clear, kvs_close and kvs_free answer KVS_ERR_BUSY. All else works as ever; kvs_len counts the
 * present keys, not the cut's.
 */
struct kvs_snapshot;
struct kvs_snapshot_part;

#define KVS_SNAPSHOT_MEMORY_DEFAULT ((uint64_t)1 << 30) /* bytes */

/* As struct kvs_options: size first, zero means default. */
struct kvs_snapshot_options {
	size_t size;         /* sizeof(struct kvs_snapshot_options) */
	uint64_t max_memory; /* bytes of removed entries kept for the snapshot; 0: the default */
};
#define KVS_SNAPSHOT_OPTIONS_INIT                                                                  \
	{                                                                                          \
		sizeof(struct kvs_snapshot_options), 0                                             \
	}

/*
 * kvs_snapshot_begin - Make a cut.
 *
 * @opts        NULL for defaults.
 * Returns      0, KVS_ERR_BUSY (one is open; a load is under way; a clock of the program's never stood still; on a
 *              thread of a store), KVS_ERR_NO_MEMORY, KVS_ERR_INVALID_ARGUMENT, KVS_ERR_IN_READ_SECTION,
 *              KVS_ERR_STORE_CLOSED.
 * Linearizes   At an instant between call and return.
 * Progress     Waits for the read sections open at the call.
 */
KVS_API KVS_MUST_CHECK int kvs_snapshot_begin(struct kvs *kv,
					      const struct kvs_snapshot_options *opts,
					      struct kvs_snapshot **ret_snapshot);

/*
 * kvs_snapshot_part_begin - A part of the pass for one thread. Any number, at any time before the end.
 * kvs_snapshot_part_end - Give the part back. What it had fetched and not returned is lost to the pass,
 *              so end a part when kvs_snapshot_next() has answered KVS_ERR_NOT_FOUND, or to abandon the snapshot.
 *              A part takes 200 KiB. Values above 4 KiB that it is about to return it holds, though their keys be
 *              overwritten or deleted meanwhile: at most 4 MiB of them and one more, which count in no limit.
 *
 * Returns      0, KVS_ERR_NO_MEMORY, KVS_ERR_INVALID_ARGUMENT.
 */
KVS_API KVS_MUST_CHECK int kvs_snapshot_part_begin(struct kvs_snapshot *snapshot,
						   struct kvs_snapshot_part **ret_part);
KVS_API void kvs_snapshot_part_end(struct kvs_snapshot_part *part);

/*
 * kvs_snapshot_next - The next entry of the cut for this part.
 *
 * @ret_item    valid until the next call with this part, or its end; version and expiry are the cut's.
 * Returns      0, KVS_ERR_NOT_FOUND (nothing is left for this part), KVS_ERR_MEMORY_LIMIT or
 *              KVS_ERR_NO_MEMORY (the snapshot has failed: more was removed meanwhile than could be kept),
 *              KVS_ERR_IN_READ_SECTION, KVS_ERR_BUSY (on a thread of a store).
 * Context      One thread at a time a part.
 * Progress     Waits for a grace period once a snapshot, when the walk is over; else short sections only.
 */
KVS_API int kvs_snapshot_next(struct kvs_snapshot_part *part, struct kvs_item *ret_item);

/*
 * kvs_snapshot_end - End the snapshot, finished or not, and give back what was kept for it.
 *
 * @ret_count   may be NULL: how many entries were returned; the exact size of the cut if every part
 *              has answered KVS_ERR_NOT_FOUND.
 * Returns      0, KVS_ERR_BUSY (a part is open), KVS_ERR_IN_READ_SECTION: these change nothing;
 *              KVS_ERR_MEMORY_LIMIT, KVS_ERR_NO_MEMORY: the snapshot had failed; it is ended.
 * Progress     Waits for the read sections open at the call.
 */
KVS_API int kvs_snapshot_end(struct kvs_snapshot *snapshot, uint64_t *ret_count);

/* ---- Snapshot files -------------------------------------------------------------------- */

/*
 * A snapshot in a file, and back. What is in it: keys, values, versions, and when keys expire, by the
 * wall clock; nothing about shards or hashes, so that it can be loaded into any store. Every byte is under a checksum.
 * The format is described in kvs-snapshot(5).
 */

#define KVS_FILE_THREADS_MAX 16u

/* What went wrong with a file. Written by a call that fails because of it, for whoever asks. */
struct kvs_file_error {
	int code;         /* what the call answers */
	int system_error; /* errno of the system call that failed; 0: none did */
	uint64_t
		offset; /* bytes from the start of the file: where the damage was met, or what was read or written */
	const char *cause; /* what is wrong, or what was being done; static */
};

/*
 * Called now and then by the thread that saves or loads, with entries done and entries expected, and once
 * at the end with both the same. Not 0 ends the call, which answers just that and has changed nothing.
 */
typedef int (*kvs_progress_fn)(uint64_t done, uint64_t total, void *arg);

#define KVS_SAVE_NO_FSYNC                                                                          \
	1u /* quicker; what a power failure leaves may be damaged, and the old file gone */
#define KVS_SAVE_KEEP_PREVIOUS                                                                     \
	2u /* the file that is replaced stays as NAME.prev; needs hard links */

/* As struct kvs_options: size first, zero means default. */
struct kvs_save_options {
	size_t size;    /* sizeof(struct kvs_save_options) */
	uint32_t flags; /* KVS_SAVE_ */
	uint32_t mode;  /* permission bits of the file, whatever the umask; 0: 0600 */
	uint32_t
		threads; /* the caller's included; 0: two for a large store that may have threads, else one */
	uint32_t unused;     /* must be 0 */
	uint64_t max_memory; /* as in struct kvs_snapshot_options */
	kvs_progress_fn progress;
	void *progress_arg;
	struct kvs_file_error *error; /* may be NULL */
};
#define KVS_SAVE_OPTIONS_INIT                                                                      \
	{                                                                                          \
		sizeof(struct kvs_save_options), 0, 0, 0, 0, 0, 0, 0, 0                            \
	}

/*
 * kvs_save - Write a snapshot of the store to the file @path, which appears whole or not at all.
 *
 * It is written beside @path under a temporary name, forced to disk, and renamed. On an error @path is
 * as it was and the temporary file is gone, with one exception, which the error names: the directory could not be
 * forced to disk, and the new file is there but might not outlive a power failure. What a saver that was
 * killed left behind, the next save to @path removes. If @path is a symbolic link it is replaced, not followed.
 *
 * With KVS_SAVE_KEEP_PREVIOUS there is a NAME.prev at every instant if there was one. It becomes a second name of the file that
 * is about to be replaced just before that happens, so also if the save fails at its last step or is killed there. If
 * there is no file to be replaced, NAME.prev stays as it is. On a file system without hard links the save answers KVS_ERR_IO.
 *
 * @opts        NULL for defaults.
 * Returns      0, KVS_ERR_IO, KVS_ERR_BUSY (a snapshot is open, or a load under way; always in a child that the progress
 *              callback forked: see kvs_fork_before), KVS_ERR_MEMORY_LIMIT (as kvs_snapshot_next), KVS_ERR_NO_MEMORY,
 *              KVS_ERR_TYPED (the type has no encode), KVS_ERR_VALUE_TOO_LARGE (it gave more than KVS_VALUE_MAX bytes),
 *              KVS_ERR_INVALID_ARGUMENT, KVS_ERR_IN_READ_SECTION, KVS_ERR_STORE_CLOSED, or what the progress callback returned.
 * Linearizes   The contents are those of an instant between call and return.
 * Progress     Waits for the read sections open at the call, and for the disk. Nobody waits for it.
 */
KVS_API KVS_MUST_CHECK int kvs_save(struct kvs *kv, const char *path,
				    const struct kvs_save_options *opts);

#define KVS_LOAD_NEW_VERSIONS 1u /* draw new versions instead of keeping the file's */

/* As struct kvs_options: size first, zero means default. */
struct kvs_load_options {
	size_t size;    /* sizeof(struct kvs_load_options) */
	uint32_t flags; /* KVS_LOAD_ */
	uint32_t
		threads; /* the caller's included; 0: two for a large file, if the store may have threads, else one */
	kvs_progress_fn progress;
	void *progress_arg;
	struct kvs_file_error *error; /* may be NULL */
};
#define KVS_LOAD_OPTIONS_INIT                                                                      \
	{                                                                                          \
		sizeof(struct kvs_load_options), 0, 0, 0, 0, 0                                     \
	}

/*
 * kvs_load - Replace the contents of the store by those of the file @path, all or nothing.
 *
 * The new contents are built beside the old ones, so that memory doubles unless the store is empty; then they take
 * their place at one instant, as in kvs_clear: a reader sees the old contents or the new. On an error nothing was changed.
 * Entries that have expired by now are left out, and whether their keys come again is not looked at. The others keep their
 * versions, and later ones go on above the highest of both; a version of the old contents may so come back with another value,
 * which KVS_LOAD_NEW_VERSIONS avoids. Versions above 2^55 - 1, to which no store comes by writing, are not kept, but new ones above
 * that drawn. A symbolic link is not followed.
 *
 * @opts        NULL for defaults.
 * Returns      0, KVS_ERR_CORRUPTED_SNAPSHOT (any damage at all), KVS_ERR_UNSUPPORTED_VERSION (a newer version
 *              wrote it), KVS_ERR_IO, KVS_ERR_BUSY (a snapshot is open, or another load under way), KVS_ERR_NO_MEMORY,
 *              KVS_ERR_MEMORY_LIMIT (the contents are beyond max_memory), KVS_ERR_INVALID_SHARD_INDEX,
 *              KVS_ERR_TYPED (the type has no decode), KVS_ERR_VALUE_TOO_LARGE (it gave an object a len above KVS_VALUE_MAX),
 *              KVS_ERR_INVALID_ARGUMENT,
 *              KVS_ERR_IN_READ_SECTION, KVS_ERR_STORE_CLOSED, or what the progress callback or decode returned.
 * Linearizes   At the swap of the root. Writes made meanwhile go to the old contents, and with them.
 * Progress     Waits for the disk, then for the read sections open at the swap, then frees every old entry.
 */
KVS_API KVS_MUST_CHECK int kvs_load(struct kvs *kv, const char *path,
				    const struct kvs_load_options *opts);

/*
 * A snapshot file read entry by entry, without a store. One thread at a time.
 */
struct kvs_file;

struct kvs_file_info {
	size_t size; /* sizeof(struct kvs_file_info), set by the caller */
	uint64_t file_bytes;
	uint64_t entries; /* expired ones included */
	uint64_t blocks;
	int64_t saved_at_ms;  /* wall clock, milliseconds since 1970 */
	unsigned char id[16]; /* of the snapshot: no other has it */
	uint32_t format;      /* version of the format */
	uint32_t unused;      /* 0 */
};

/*
 * kvs_file_open - Open a snapshot file and check its header and its trailer.
 *
 * @ret_error   may be NULL; else it is written whenever a call on this file fails, up to kvs_file_close().
 * Returns      0, KVS_ERR_CORRUPTED_SNAPSHOT, KVS_ERR_UNSUPPORTED_VERSION, KVS_ERR_IO, KVS_ERR_NO_MEMORY,
 *              KVS_ERR_INVALID_ARGUMENT.
 */
KVS_API KVS_MUST_CHECK int kvs_file_open(const char *path, struct kvs_file_error *ret_error,
					 struct kvs_file **ret_file);

/* kvs_file_info - What header and trailer say, as far as @info->size reaches, and zeros beyond. 0 or KVS_ERR_INVALID_ARGUMENT. */
KVS_API int kvs_file_info(const struct kvs_file *file, struct kvs_file_info *info);

/*
 * kvs_file_next - The next entry, expired or not, in the order of the file.
 *
 * @ret_item    valid until the next call with @file.
 * Returns      0, KVS_ERR_NOT_FOUND (that was all, and the whole file has been found undamaged; but that no key
 *              comes twice only kvs_load() checks, and kvs(1)), KVS_ERR_CORRUPTED_SNAPSHOT, KVS_ERR_IO, KVS_ERR_NO_MEMORY,
 *              KVS_ERR_INVALID_ARGUMENT.
 */
KVS_API int kvs_file_next(struct kvs_file *file, struct kvs_item *ret_item);

/* kvs_file_close - NULL is allowed. */
KVS_API void kvs_file_close(struct kvs_file *file);

/* ---- Memory, threads, fork ------------------------------------------------------------- */

#define KVS_RUN_DONT_WAIT 1u /* kvs_run: no grace period */
#define KVS_RUN_BUDGET_DEFAULT ((uint64_t)1 << 16)

/*
 * kvs_run - Do a bounded piece of what a store's threads would do: free, link heads after a growth, shrink,
 * renew the filters that answer absent keys, give memory back, report stalls.
 *
 * A store opened with KVS_OPEN_NO_THREADS lives on it: call it from the program's loop. On a store with threads it
 * does the same work beside them, and waits for no grace period.
 *
 * @budget      the most work it does, 1 being an entry freed or a bucket head linked (pieces of at most
 *              a few hundred, and the halving of one shard's directory, are not divided); 0: KVS_RUN_BUDGET_DEFAULT.
 * @flags       0 or KVS_RUN_DONT_WAIT: of a store without threads such calls free what earlier ones, or kvs_drain, left
 *              behind their grace period, and nothing else. Without calls that wait nothing is freed.
 * @ret_next_ms may be NULL. When it next has something to do: milliseconds, 0: now, -1: not before a write. As a
 *              timeout for epoll_wait().
 * Returns      0, KVS_ERR_IN_READ_SECTION, KVS_ERR_BUSY (another call that waits is under way, this one included, or
 *              "kvs-maint" is in its round; or on a thread of a store), KVS_ERR_INVALID_ARGUMENT, KVS_ERR_STORE_CLOSED.
 * Progress     Waits for the read sections open at the call, at most once, and only if something is deferred, tables
 *              shrink or filters are to be renewed; with KVS_RUN_DONT_WAIT never.
 */
KVS_API int kvs_run(struct kvs *kv, uint64_t budget, uint32_t flags, int *ret_next_ms);

/*
 * kvs_drain - Wait until all that was deferred before the call has been freed, and give memory back to the system.
 *
 * Returns      0, KVS_ERR_IN_READ_SECTION, KVS_ERR_BUSY, KVS_ERR_STORE_CLOSED, KVS_ERR_NO_MEMORY (keys with deadlines
 *              only: all else was freed, they will be later).
 */
KVS_API int kvs_drain(struct kvs *kv);

/*
 * kvs_thread_attach - Do now what a thread's first call on a store does: register the thread
 * with liburcu and give it its counters. Optional.
 *
 * liburcu aborts the process in three cases that the library cannot prevent. It finds no memory to register a new
 * thread: one of the program's in its first call, which this call lets a program choose; one of a store's behind
 * kvs_open or kvs_fork_child. It finds no memory or no thread for the worker that these two have it make: they see before
 * that there is enough, and answer KVS_ERR_NO_MEMORY if not, but somebody may take it in the moment between. And a
 * seccomp filter that was installed after liburcu was loaded denies it membarrier.
 * Returns      0, KVS_ERR_NO_MEMORY, KVS_ERR_STORE_CLOSED.
 */
KVS_API int kvs_thread_attach(struct kvs *kv);

/*
 * kvs_fork_before, kvs_fork_parent, kvs_fork_child - Bracket a fork() so that the child can go on
 * using its copy of the store. Once per process, however many stores are open; not from two
 * threads at once. Call before, fork, then parent in the parent and child in the child. If fork() fails, too, call
 * kvs_fork_parent: after kvs_fork_before every lock of the library is held. Until parent or child was called this thread
 * makes no other call of the library, and calls of other threads may wait.
 * Without kvs_fork_before the child may only read and call _exit. A snapshot that is open goes on in the
 * parent; in the child it is over, and its handle must not be used. So it is with a load: a child that its progress
 * function made must not return from there. Nor should one that a save's progress function made: the file is the parent's,
 * kvs_save leaves it alone in the child and answers KVS_ERR_BUSY, but what it had allocated is lost there. So is what
 * other threads' writes held at the fork, and what a load had built: what lay in the store's own arena comes back with
 * kvs_free, but values above 4 KiB, objects, batches of removed entries, large directories and all that came from a user's
 * allocator do not. A pin that only a thread of the parent knew stays out: kvs_free answers KVS_ERR_BUSY.
 *
 * kvs_fork_before returns 0, KVS_ERR_IN_READ_SECTION or KVS_ERR_BUSY (on a thread of a store); on an error
 * nothing is held. kvs_fork_child starts new threads for every open store that had some: 0 or KVS_ERR_NO_MEMORY (also: no
 * thread to be had, even if no store here has any: liburcu makes its own). A store without its threads works as if opened with KVS_OPEN_NO_THREADS: see kvs_run. After
 * KVS_ERR_NO_MEMORY the program's own call_rcu and urcu_bp_barrier must not be used in that child, and it must end by
 * _exit, until a kvs_open with threads has succeeded there. Callbacks of the program's own that were queued at the fork run in
 * the child on a thread of liburcu's, which stays; kvs_fork_child does not wait for them.
 */
KVS_API KVS_MUST_CHECK int kvs_fork_before(void);
KVS_API void kvs_fork_parent(void);
KVS_API int kvs_fork_child(void);

/* ---- Statistics ------------------------------------------------------------------------ */

/* All counts are since open. Sums over threads and shards: exact at rest, approximate otherwise. */
struct kvs_stats {
	size_t size;   /* sizeof(struct kvs_stats), set by the caller */
	uint64_t keys; /* as kvs_len */
	uint64_t
		bytes_live; /* memory of the entries that are in the store, headers and rounding included */
	uint64_t bytes_deferred; /* memory of removed entries that waits for a grace period */
	uint64_t bytes_index;    /* memory of the directories */
	uint64_t bytes_mapped;   /* taken from the system for entries; 0 with a user's allocator */
	uint64_t hits;           /* reads that found their key */
	uint64_t misses;         /* reads that did not */
	uint64_t inserts;        /* writes that made a new key */
	uint64_t overwrites;     /* writes that replaced an entry */
	uint64_t deletes;        /* removals by a caller */
	uint64_t growths;        /* doublings of a shard's directory */
	uint64_t shrinks;        /* halvings */
	uint64_t
		growths_failed; /* inserts that found no memory for a doubling, or none left by max_memory */
	uint64_t buckets;        /* heads in use by the present sizes */
	uint64_t buckets_linked; /* of these, linked */
	uint64_t chain_p50;      /* entries of a chain, from a sample of up to 16,384 chains */
	uint64_t chain_p99;
	uint64_t chain_max;
	uint64_t chain_mean_milli; /* thousandths of an entry */
	uint64_t registrations;    /* threads that a first call attached to this store */
	uint64_t
		reader_settles; /* times a read had to stamp what it met, near the cut of a snapshot */
	uint64_t handed_over; /* entries that writers removed and left to a snapshot */
	uint64_t
		deferred_age_ms; /* how long the oldest grace period has been waited for; 0: nobody waits; see kvs_stall_fn */
	uint64_t limited; /* writes that answered KVS_ERR_MEMORY_LIMIT */
	uint64_t helped;  /* batches of deferred entries that writers freed, over the soft limit */
	uint64_t stalls;  /* calls of stall_fn */
	uint64_t expirations; /* entries removed because their deadline had passed */
	uint64_t
		expirations_by_write; /* of these, by a write of the key, before the store came to it */
	uint64_t timers;              /* entries that have a deadline, as the store last saw them */
	uint64_t
		expiry_lag_p50_ms; /* from the deadline to the removal; of those that the store removed itself */
	uint64_t expiry_lag_p99_ms;
	uint64_t expiry_lag_max_ms;
	uint64_t pins; /* taken and not yet given back */
	uint64_t
		bytes_pinned; /* memory of removed entries that waits for them; not values above 4 KiB that kvs_touch and its kin handed on */
	uint64_t snapshots;   /* begun, kvs_save's too */
	/* Of the one that is open, or was the last: */
	uint64_t snapshot_open; /* 1: it is open, from its begin to its end */
	uint64_t
		snapshot_units; /* pieces that its walk is cut into, of about equal shares of the store */
	uint64_t snapshot_units_done; /* of these, walked through */
	uint64_t
		snapshot_returned; /* entries; of each part that goes on up to 63 are not yet counted */
	uint64_t
		snapshot_bytes; /* memory of removed entries that is kept for it, and counts nowhere else meanwhile; up to its max_memory */
};

/*
 * kvs_stats - Fill @stats, as far as @stats->size reaches; what it has beyond this library's is zeroed.
 *
 * Returns      0, KVS_ERR_INVALID_ARGUMENT (size too small to hold itself), KVS_ERR_STORE_CLOSED.
 * Progress     Reads counters of all threads and shards and walks the sample; writes nothing shared.
 */
KVS_API int kvs_stats(struct kvs *kv, struct kvs_stats *stats);

/* kvs_version_string - The version of the library that runs, such as "0.1.0". Static. */
KVS_API const char *kvs_version_string(void);

#ifdef __cplusplus
}
#endif

#endif /* KVS_H */
