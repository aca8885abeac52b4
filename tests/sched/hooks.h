/* SPDX-License-Identifier: MIT */
/*
 * hooks.h - tells the explorer what every atomic operation touches. Included by the compiler's
 * command line (-include) before each file of src/; src/atomic.h itself is the real one.
 *
 * atomic.h calls kvs__yield() before each ordered operation and then one of C11's. The yield
 * notes where in the source we are; the operation below is where fibers are switched, because
 * by then the address is known: that is what lets accesses to freed memory be seen, and
 * interleavings that differ only in the order of independent operations be left out. The two come
 * in pairs, so every kvs__yield() is a scheduling point.
 */
#ifndef SCHED_HOOKS_H
#define SCHED_HOOKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "explore.h"

#ifdef __clang__
#define SCHED_LOAD(p, mo) __c11_atomic_load((p), (mo))
#define SCHED_STORE(p, v, mo) __c11_atomic_store((p), (v), (mo))
#define SCHED_SWAP(p, v, mo) __c11_atomic_exchange((p), (v), (mo))
#define SCHED_ADD(p, v, mo) __c11_atomic_fetch_add((p), (v), (mo))
#define SCHED_SUB(p, v, mo) __c11_atomic_fetch_sub((p), (v), (mo))
#define SCHED_CAS(p, e, v, mo, mf) __c11_atomic_compare_exchange_strong((p), (e), (v), (mo), (mf))
#else
#define SCHED_LOAD(p, mo) __atomic_load_n((p), (mo))
#define SCHED_STORE(p, v, mo) __atomic_store_n((p), (v), (mo))
#define SCHED_SWAP(p, v, mo) __atomic_exchange_n((p), (v), (mo))
#define SCHED_ADD(p, v, mo) __atomic_fetch_add((p), (v), (mo))
#define SCHED_SUB(p, v, mo) __atomic_fetch_sub((p), (v), (mo))
#define SCHED_CAS(p, e, v, mo, mf) __atomic_compare_exchange_n((p), (e), (v), 0, (mo), (mf))
#endif

/* Two units to a shard: what a snapshot does between two is searched once, not 63 times. */
#define KVS_UNIT_BITS 1u

/* Every insert links heads. */
#define KVS__LINK_EVERY 1u

/* In a mutated source: the changed line was executed. */
#define KVS_MUTANT_HIT() ((void)sched_mutant_hits++)

#define SCHED_POINT(mo) ((mo) != memory_order_relaxed)
#define SCHED_TYPE(p) __typeof__((void)0, *(p))
#define SCHED_BITS(v) ((uint64_t)(uintptr_t)(v))

#undef atomic_load_explicit
#define atomic_load_explicit(p, mo)                                                                \
	__extension__({                                                                            \
		__auto_type sched_p = (p);                                                         \
		sched_at(sched_p, SCHED_READ, SCHED_POINT(mo));                                    \
		SCHED_LOAD(sched_p, mo);                                                           \
	})

#undef atomic_store_explicit
#define atomic_store_explicit(p, v, mo)                                                            \
	__extension__({                                                                            \
		__auto_type sched_p = (p);                                                         \
		SCHED_TYPE(sched_p) sched_v = (v);                                                 \
		sched_at(sched_p, SCHED_WRITE, SCHED_POINT(mo));                                   \
		sched_stored(sched_p, SCHED_BITS(sched_v));                                        \
		SCHED_STORE(sched_p, sched_v, mo);                                                 \
	})

#undef atomic_exchange_explicit
#define atomic_exchange_explicit(p, v, mo)                                                         \
	__extension__({                                                                            \
		__auto_type sched_p = (p);                                                         \
		SCHED_TYPE(sched_p) sched_v = (v);                                                 \
		sched_at(sched_p, SCHED_WRITE, SCHED_POINT(mo));                                   \
		SCHED_SWAP(sched_p, sched_v, mo);                                                  \
	})

#undef atomic_fetch_add_explicit
#define atomic_fetch_add_explicit(p, v, mo)                                                        \
	__extension__({                                                                            \
		__auto_type sched_p = (p);                                                         \
		SCHED_TYPE(sched_p) sched_v = (SCHED_TYPE(sched_p))(v);                            \
		sched_at(sched_p, SCHED_WRITE, SCHED_POINT(mo));                                   \
		SCHED_ADD(sched_p, sched_v, mo);                                                   \
	})

#undef atomic_fetch_sub_explicit
#define atomic_fetch_sub_explicit(p, v, mo)                                                        \
	__extension__({                                                                            \
		__auto_type sched_p = (p);                                                         \
		SCHED_TYPE(sched_p) sched_v = (SCHED_TYPE(sched_p))(v);                            \
		sched_at(sched_p, SCHED_WRITE, SCHED_POINT(mo));                                   \
		SCHED_SUB(sched_p, sched_v, mo);                                                   \
	})

#undef atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_strong_explicit(p, e, v, mo, mf)                                   \
	__extension__({                                                                            \
		__auto_type sched_p = (p);                                                         \
		__auto_type sched_e = (e);                                                         \
		SCHED_TYPE(sched_p) sched_v = (v);                                                 \
		SCHED_TYPE(sched_p) sched_old = *sched_e;                                          \
		bool sched_ok;                                                                     \
		sched_at(sched_p, SCHED_WRITE, SCHED_POINT(mo));                                   \
		sched_ok = SCHED_CAS(sched_p, sched_e, sched_v, mo, mf);                           \
		sched_compared(sched_p, SCHED_BITS(sched_old), SCHED_BITS(sched_v), sched_ok);     \
		sched_ok;                                                                          \
	})

#endif
