/* SPDX-License-Identifier: MIT */
/*
 * atomic.h - our only vocabulary of atomic operations: C11, the order in the name.
 *
 * Words that decide an answer (links, sizes, roots) are read and written seq_cst: on x86 a
 * seq_cst load is a plain load and every CAS is a full barrier anyway, and one total order
 * over them makes each argument in CONCURRENCY.md shorter. Counters are relaxed.
 *
 * Every operation that orders something is a yield point: builds made for testing define
 * KVS_SCHED (each one is a scheduling point of the explorer) or KVS_YIELD_RAND (each one may
 * give the processor away). Relaxed operations are not: nothing may depend on their order.
 *
 * No fences: ThreadSanitizer does not see them. The order is always on the operation.
 */
#ifndef KVS_ATOMIC_H
#define KVS_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(KVS_SCHED) || defined(KVS_YIELD_RAND)
void kvs__yield(const char *file, int line);
#define KVS_YIELD() kvs__yield(__FILE__, __LINE__)
#else
#define KVS_YIELD() ((void)0)
#endif

typedef _Atomic(uint64_t) kvs__u64;
typedef _Atomic(uint32_t) kvs__u32;

/* for words that decide an answer */
#define load_seq_cst(p) (KVS_YIELD(), atomic_load_explicit((p), memory_order_seq_cst))
#define store_seq_cst(p, v) (KVS_YIELD(), atomic_store_explicit((p), (v), memory_order_seq_cst))
#define xchg_seq_cst(p, v) (KVS_YIELD(), atomic_exchange_explicit((p), (v), memory_order_seq_cst))
#define fetch_add_seq_cst(p, v)                                                                    \
	(KVS_YIELD(), atomic_fetch_add_explicit((p), (v), memory_order_seq_cst))
#define fetch_sub_seq_cst(p, v)                                                                    \
	(KVS_YIELD(), atomic_fetch_sub_explicit((p), (v), memory_order_seq_cst))
/* cas_seq_cst - true if *@p was *@expected and is now @v; else *@expected is what it was. */
#define cas_seq_cst(p, expected, v)                                                                \
	(KVS_YIELD(), atomic_compare_exchange_strong_explicit(                                     \
			      (p), (expected), (v), memory_order_seq_cst, memory_order_seq_cst))

/* for publication and for counters that only one thread writes */
#define load_acquire(p) (KVS_YIELD(), atomic_load_explicit((p), memory_order_acquire))
#define store_release(p, v) (KVS_YIELD(), atomic_store_explicit((p), (v), memory_order_release))

#define load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define fetch_add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define fetch_sub_relaxed(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)

/* add_owned - Add to a counter that only this thread writes and others may read: no locked instruction. */
static inline void add_owned(kvs__u64 *p, uint64_t v)
{
	store_relaxed(p, load_relaxed(p) + v);
}

#endif
