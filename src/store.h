/* SPDX-License-Identifier: MIT */
/* store.h - the store: its parts, routing of keys to tables. */
#ifndef KVS_STORE_H
#define KVS_STORE_H

#include <semaphore.h>

#include "hash.h"
#include "list.h"
#include "reclaim.h"
#include "thread.h"

/* All tables hang on one pointer, so that clear (and what replaces contents) swaps them at once. */
struct kvs__root {
	uint64_t shards;           /* (i) */
	struct kvs__table table[]; /* one a shard */
};

/* Versions are drawn per shard; a line each, since every write draws one. They outlive roots. */
struct kvs__version_counter {
	KVS_LINE_ALIGNED kvs__u64
		next; /* (a) steps by the number of shards, so that none is repeated in a store */
};

/* A shrink of all tables that are too large, on its way, or filters that are made anew: one at a time (maintain.c). */
enum kvs__shrink_state {
	KVS__SHRINK_NONE = 0,
	KVS__SHRINK_GP_1, /* smaller sizes are published; then upper heads are unlinked, table by table */
	KVS__SHRINK_GP_2,   /* all are unlinked */
	KVS__FILTERS_WATCH, /* heads with many bits in their filters are being marked as watched */
	KVS__FILTERS_GP,    /* all are; then their filters are made anew */
};

/* What makes filters worse: sums, as they were at some time (maintain.c). */
struct kvs__filters_wear {
	uint64_t full; /* heads of the root whose filters were filled */
	uint64_t gone; /* entries that were deleted or expired, of the store */
};

/* Where making filters anew has got to (maintain.c). (l) admin */
struct kvs__filters {
	struct kvs__filters_wear done;  /* when the last pass began */
	struct kvs__filters_wear doing; /* when this one did */
	uint64_t entries;               /* of the root, at the last look */
	unsigned calm;                  /* looks in a row that found few more or less */
	uint64_t shard;                 /* the next head to be looked at: its table */
	uint64_t head;                  /* and its linking index */
};

struct kvs__maintainer {
	pthread_t thread;
	bool runs; /* (l) admin */
	sem_t wake;
	sem_t ended;                   /* posted after its last round */
	kvs__u32 idle;                 /* 1: sleeps until woken (a) */
	kvs__u32 stop;                 /* (a) */
	enum kvs__shrink_state shrink; /* (l) admin */
	struct kvs__rcu_head gp; /* of its state; queued while a worker runs and gp_over is 0 */
	kvs__u32 gp_over;        /* 1: the grace period of its state is over (a) */
	struct kvs__filters filters;
	unsigned trim_cursor;    /* (l) admin */
	bool trimming;           /* there may be pages to give back (l) admin */
	uint64_t freed_seen;     /* batches freed when that was decided (l) admin */
	uint64_t roomy_since_ms; /* the arena is roomy since then; 0: it is not (l) admin */
	uint64_t stall_reported; /* so many times (o) kvs-maint; without it (l) admin */
};

#define KVS__LAGS 128u

/* kvs__lag_bucket - Where a lag is counted: exact below 64 ms, then in eighths of a power of two, up to 16 s. */
KVS_INLINE unsigned kvs__lag_bucket(uint64_t ms)
{
	unsigned bits;

	if (ms < 64)
		return (unsigned)ms;
	bits = 63u - (unsigned)__builtin_clzll(ms);
	return bits > 13 ? KVS__LAGS - 1 : 64 + (bits - 6) * 8 + (unsigned)(ms >> (bits - 3) & 7);
}

/* Timed entries and their wheel (expiry.h). */
struct kvs__expiry {
	pthread_mutex_t role;         /* to turn the wheel; writers only try it */
	struct kvs__slot *slot;       /* of whoever has the role (i) */
	struct kvs__slot *from;       /* whose mail was taken last (l) role */
	struct kvs__message *added;   /* taken, not yet looked at (l) role */
	struct kvs__message *retired; /* (l) role */
	struct kvs__message *dead; /* entries to be retired, when there is memory for it (l) role */
	kvs__u64 timers;           /* (s) */
	kvs__u64 lag_max;          /* ms (s) */
	kvs__u64 lag[KVS__LAGS];   /* how many were removed so late (s) */
	struct kvs__wheel wheel;   /* (l) role */
};

/*
 * What can be told of snapshots: not in theirs, which may be given back while somebody reads. All but the first two are of
 * the one that is open, or was the last.
 */
struct kvs__snapshots {
	kvs__u64 handed_over; /* entries that writers left to them (s) */
	kvs__u64 retired;     /* footprints of those that were retired in the end (s) */
	kvs__u64 held;        /* bytes of what was handed over and not given back (a) */
	kvs__u64 begun;       /* how many (s) */
	kvs__u64 units;       /* pieces of the walk (s) */
	kvs__u64 units_done;  /* (s) */
	kvs__u64 returned;    /* entries (s) */
};

struct kvs {
	struct kvs__home home; /* first */
	/* read by every operation, written by open, clear and close only */
	KVS_LINE_ALIGNED _Atomic(struct kvs__root *) root; /* NULL: closed (r) */
	uint64_t straight;         /* home's generation, or none: kvs_get takes the long way (i) */
	uint32_t number;           /* home's (i) */
	bool wide;                 /* SipHash, and the processor has AVX-512VL (i) */
	bool xxh3;                 /* the hash is XXH3 (i) */
	uint32_t shards;           /* (i) */
	int32_t route;             /* (i) */
	kvs_shard_fn shard_fn;     /* (i) */
	void *shard_ctx;           /* (i) */
	struct kvs__cut cut;       /* (a) */
	struct kvs__hasher hasher; /* (i) */
	struct kvs__version_counter *versions; /* (i) */
	struct kvs__pool pool;                 /* (i) */
	struct kvs__clock clock;               /* (i) but for its offset */
	struct kvs__pages pages;               /* of the directories; its own lock */
	unsigned bits_min;                     /* (i) */
	uint32_t flags;                        /* KVS_OPEN_ (i) */
	uint64_t max_memory;                   /* bytes; 0: no limit (i) */
	kvs_stall_fn stall_fn;                 /* (i) */
	void *stall_ctx;                       /* (i) */
	uint32_t stall_ms;                     /* (i) */
	uint32_t tick_ms;                      /* of the wheel and of the store's thread (i) */
	/* the rest is off the paths of operations */
	KVS_LINE_ALIGNED pthread_mutex_t
		admin;          /* clear, close, drain, fork and shrink, one at a time */
	kvs__u32 admin_waiters; /* the maintainer lets them go first (a) */
	kvs__u32
		forks; /* of which this process is a child, grandchild, ... (a), set in kvs_fork_child */
	kvs__u32
		loading; /* a load builds new contents: no snapshot may begin (a), set under admin */
	struct kvs__reclaim reclaim;
	struct kvs__maintainer maintainer;
	struct kvs__expiry expiry;
	KVS_LINE_ALIGNED kvs__u64 live_bytes;     /* posted by threads; only with max_memory (a) */
	KVS_LINE_ALIGNED kvs__u64 reader_settles; /* (s) */
	kvs__u64 stalls;                          /* (s) */
	kvs__u64 pinned_bytes;                    /* see struct kvs__pool (s) */
	kvs__u64 stray_unpins;                    /* by threads for which there was no slot (a) */
	kvs__u64 cleared_bytes;                   /* footprints given back by clear and close (s) */
	kvs__u64 past_growths;                    /* of roots that are gone (s) */
	kvs__u64 past_shrinks;                    /* (s) */
	kvs__u64 past_growths_failed;             /* (s) */
	KVS_LINE_ALIGNED struct kvs__snapshots snapshots; /* written by writers while one is open */
};

/* A key on its way to its table. */
struct kvs__target {
	uint32_t shard;
	struct kvs__wanted wanted;
};

/* kvs__shard_of - The shard that a key goes to by its hash. */
KVS_INLINE uint32_t kvs__shard_of(const struct kvs *kv, uint64_t hash)
{
	return (uint32_t)((hash & 0xffff) * kv->shards >> 16);
}

_Static_assert(KVS_SHARDS_MAX <= KVS__KEY_LEN_MASK + 1, "a place has room for the shard");

/*
 * kvs__place_of - The run that a key stands in, as one word, never 0: its order word with the shard in place of the key's
 * length. kvs__place_order, kvs__place_shard - Its parts.
 */
KVS_INLINE uint64_t kvs__place_of(const struct kvs__target *t)
{
	return (t->wanted.order & ~KVS__KEY_LEN_MASK) | t->shard;
}

KVS_INLINE uint64_t kvs__place_order(uint64_t place)
{
	return place & ~KVS__KEY_LEN_MASK;
}

KVS_INLINE uint64_t kvs__place_shard(uint64_t place)
{
	return place & KVS__KEY_LEN_MASK;
}

/* The user's shard function is asked, and checked. Cold. */
int kvs__route_user(const struct kvs *kv, struct kvs_slice key, uint32_t *ret_shard);

/*
 * kvs__target_of - Hash and route a key; checks everything about it.
 *
 * The shard comes from the lowest 16 bits of the hash, the order key from the upper 47: neither
 * route can make the other's chains long.
 */
KVS_INLINE int kvs__target_of(struct kvs *kv, struct kvs_slice key, struct kvs__target *ret)
{
	uint64_t hash;

	if (unlikely(!load_seq_cst(&kv->root)))
		return KVS_ERR_STORE_CLOSED;
	if (unlikely(key.len > KVS_KEY_MAX))
		return KVS_ERR_KEY_TOO_LARGE;
	if (unlikely(!key.data && key.len))
		return KVS_ERR_INVALID_ARGUMENT;
	hash = kvs__hash_key(&kv->hasher, key.data, key.len);
	ret->wanted.order = kvs__order_make(hash, key.len);
	/* never NULL: that would mean "no key" */
	ret->wanted.key = key.data ? key.data : (const unsigned char *)"";
	ret->shard = kvs__shard_of(kv, hash);
	if (unlikely(kv->route != KVS_ROUTE_HASH))
		return kvs__route_user(kv, key, &ret->shard);
	return KVS_OK;
}

/* kvs__next_version - A version for an entry of @shard that nobody else gets. */
KVS_INLINE uint64_t kvs__next_version(struct kvs *kv, uint32_t shard)
{
	return fetch_add_seq_cst(&kv->versions[shard].next, kv->shards);
}

/* kvs__value_of - Describe a reachable entry's value, borrowed. */
KVS_INLINE void kvs__value_of(const struct kvs *kv, const struct kvs__entry *e,
			      struct kvs_value *ret)
{
	ret->data = kvs__entry_value(e);
	ret->len = kvs__entry_value_len(e);
	ret->version = kvs__entry_version(e);
	ret->expires_at_ms = 0;
	if (unlikely(kvs__entry_is_timed(e)))
		ret->expires_at_ms = kvs__clock_wall_of(&kv->clock, kvs__entry_deadline(e));
}

/* kvs__find_live - The entry of a key that is there and has not expired, or NULL. Inside a section. */
KVS_INLINE const struct kvs__entry *kvs__find_live(const struct kvs *kv, const struct kvs__table *t,
						   const struct kvs__wanted *wanted)
{
	const struct kvs__entry *e = kvs__lookup(t, wanted->order, wanted->key);

	if (unlikely(e && kvs__entry_is_timed(e)))
		return kvs__lookup_timed(&kv->clock, t, wanted->order, wanted->key, e);
	return e;
}

/* kvs__pins_out - Pins that were taken and not given back. Exact if no other call runs. */
uint64_t kvs__pins_out(const struct kvs *kv);

/* kvs__value_copy - The same in new memory, or a clone. false: no memory. */
bool kvs__value_copy(const struct kvs *kv, const struct kvs__entry *e, struct kvs_value *ret);

/*
 * New contents: made by make with 2^@bits buckets a table (kvs__bits_for: enough for so many keys), filled
 * while no other thread can reach them, then put in place of the old by replace, which waits for a grace period
 * and frees those; or given back, entries and all, by discard. Both: admin is held, so that no close comes in between. replace: the store is
 * open, no snapshot runs.
 */
struct kvs__root *kvs__root_make(struct kvs *kv, unsigned bits); /* NULL: no memory */
unsigned kvs__bits_for(uint64_t keys);
void kvs__contents_replace(struct kvs *kv, struct kvs__root *fresh);
void kvs__root_discard(struct kvs *kv, struct kvs__root *root);

/* kvs__admin_lock, kvs__admin_unlock - Admin, taken ahead of the maintainer. */
void kvs__admin_lock(struct kvs *kv);
void kvs__admin_unlock(struct kvs *kv);

/* kvs__admin_begin - Enter a call that waits: 0 with admin held and the store open, else an error with nothing held. */
int kvs__admin_begin(struct kvs *kv);

/* kvs__threads_start - Worker and maintainer, unless the store has none. false: no memory or no thread; neither runs. */
bool kvs__threads_start(struct kvs *kv);

/* kvs__waiting_call_refused - Why a call that waits may not be made here, or 0. */
int kvs__waiting_call_refused(const struct kvs *kv);

#endif
