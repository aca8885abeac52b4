/* SPDX-License-Identifier: MIT */
/*
 * thread.h - what a thread keeps for a store: its slot.
 *
 * A slot holds the thread's counters, its stock of blocks and its batch of retired entries, on
 * lines that no other thread writes. It is made at the thread's first call on the store, found
 * through thread-local memory from then on, and left at the thread's exit to the next thread that
 * comes; it is freed with the store. Counters of a left slot go on counting: they are sums.
 *
 * Thread-local memory maps a store's number to (generation, slot). Numbers are reused, generations never,
 * so an entry left behind by a store that is gone is not mistaken for the new store's. Copies of the entries
 * used last lie near, where they are found without following a pointer.
 */
#ifndef KVS_THREAD_H
#define KVS_THREAD_H

#include "arena.h"
#include "reclaim.h"

struct kvs;

struct kvs__slot {
	/* written by its thread at every call */
	KVS_LINE_ALIGNED kvs__u64 hits; /* (o) owner writes, others may read */
	kvs__u64 misses;                /* (o) */
	kvs__u64 inserts;               /* (o) */
	kvs__u64 overwrites;            /* (o) */
	kvs__u64 deletes;               /* (o) */
	kvs__u64 pins;                  /* (o) taken */
	kvs__u64 unpins;                /* (o) given back */
	kvs__u64 added_bytes;           /* (o) footprints of entries published */
	kvs__u64 retired_bytes;         /* (o) footprints of entries retired */
	kvs__u64 expirations;           /* (o) entries removed because their deadline had passed */
	kvs__u64 sent;                  /* (o) messages */
	kvs__batch_ref batch;           /* (a) partial batch; NULL while a write holds it */
	kvs__u64 place;                 /* (o) of its last write (kvs__place_of); 0: none yet */
	struct kvs__heap heap;          /* (o) */
	int64_t unposted_bytes;         /* (o) live bytes not yet in the store's sum (quota.h) */
	kvs__u64 limited;               /* (o) */
	kvs__u64 handed_bytes;          /* (o) footprints of entries left to snapshots */
	struct kvs__slot *next;         /* (i) all slots of the store */
	bool taken;                     /* (l) slots_lock */
	bool in_update; /* its thread runs a kvs_update_fn, which may not write; no other thread looks */
	bool own;       /* the store's, never a thread's (i) */
	/* to the one who turns the wheel (expiry.h) */
	KVS_LINE_ALIGNED struct kvs__mailbox added; /* (a) */
	struct kvs__mailbox retired;                /* (a) */
	kvs__u64 seen;                              /* messages looked at (o) the role's holder */
};

struct kvs__tls_entry {
	uint64_t generation;
	struct kvs__slot *slot;
};

#define KVS__TLS_NEAR 4u
#define KVS__GENERATION_NONE UINT64_MAX /* no store's */

struct kvs__tls {
	struct kvs__tls_entry near[KVS__TLS_NEAR]; /* copies of entries: [number % KVS__TLS_NEAR] */
	uint32_t count;
	struct kvs__tls_entry *entry;
};

/* A store as its threads see it; the first member of struct kvs. */
struct kvs__home {
	uint64_t generation;               /* never 0, never reused (i) */
	uint32_t number;                   /* index into every thread's table (i) */
	_Atomic(struct kvs__slot *) slots; /* (a) pushed only */
	pthread_mutex_t slots_lock;
	struct kvs__pool *pool; /* (i) */
	kvs__u64 registrations; /* (s) */
	struct kvs__home *next; /* all open stores (l) */
};

extern KVS_HIDDEN __thread struct kvs__tls kvs__tls;

/* kvs__slot_attach - Make or find this thread's slot. NULL: no memory. Cold. */
struct kvs__slot *kvs__slot_attach(struct kvs__home *h);

/* kvs__slot_get - This thread's slot; NULL: no memory. */
KVS_INLINE struct kvs__slot *kvs__slot_get(struct kvs__home *h)
{
	if (likely(h->number < kvs__tls.count)) {
		struct kvs__tls_entry *e = &kvs__tls.entry[h->number];

		if (likely(e->generation == h->generation))
			return e->slot;
	}
	return kvs__slot_attach(h);
}

/* kvs__slot_near - This thread's slot in the store of that @generation and @number, if it lies near; else NULL. */
KVS_INLINE struct kvs__slot *kvs__slot_near(uint64_t generation, uint32_t number)
{
	const struct kvs__tls_entry *e = &kvs__tls.near[number % KVS__TLS_NEAR];

	if (unlikely(e->generation != generation))
		return NULL;
	return e->slot;
}

/* kvs__slot_bring_near - Let kvs__slot_near find this thread's @slot from now on. */
KVS_INLINE void kvs__slot_bring_near(const struct kvs__home *h, struct kvs__slot *slot)
{
	kvs__tls.near[h->number % KVS__TLS_NEAR] = (struct kvs__tls_entry){ h->generation, slot };
}

/* kvs__slot_make_own - A slot for the store itself; freed with the others. NULL: no memory. */
struct kvs__slot *kvs__slot_make_own(struct kvs__home *h);

/*
 * kvs__home_make - Slots can be made. false: no lock to be had. kvs__home_end - All are freed.
 * kvs__home_enter - Make a store known to threads, and to a fork, which holds all its locks: they are there by then.
 * kvs__home_leave - And no longer.
 */
bool kvs__home_make(struct kvs__home *h, struct kvs__pool *pool);
void kvs__home_enter(struct kvs__home *h);
void kvs__home_leave(struct kvs__home *h);
void kvs__home_end(struct kvs__home *h);

/* kvs__slots_take_over - Hand all partial batches to the worker. true: there was one. */
bool kvs__slots_take_over(struct kvs__home *h, struct kvs__reclaim *r);

/* kvs__home_each - Call @fn for every open store. Between lock and unlock only. */
void kvs__homes_lock(void);
void kvs__homes_unlock(void);
void kvs__home_each(void (*fn)(struct kvs__home *h, void *arg), void *arg);

/* kvs__home_fork_child - All slots but the caller's are free now: their threads are not in this process. */
void kvs__home_fork_child(struct kvs__home *h);

#endif
