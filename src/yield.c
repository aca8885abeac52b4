/* SPDX-License-Identifier: MIT */
/*
 * yield.c - in builds configured with --enable-yield: what happens at a yield point (atomic.h).
 *
 * Each thread gives the processor away at 1 point in kvs__yield_every, by a generator of its own, so
 * that on few processors threads meet inside the windows that matter. A test may set a hook instead, to
 * stop a thread at a chosen point.
 */
#include "atomic.h"

#ifdef KVS_YIELD_RAND

#include <sched.h>

#include "yield.h"

_Atomic(kvs__yield_fn) kvs__yield_hook;
kvs__u32 kvs__yield_every = 64;

static __thread uint64_t state;

static uint64_t next_random(void)
{
	if (state == 0)
		state = (uint64_t)(uintptr_t)&state | 1;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

void kvs__yield(const char *file, int line)
{
	kvs__yield_fn hook = atomic_load_explicit(&kvs__yield_hook, memory_order_acquire);
	uint32_t every = load_relaxed(&kvs__yield_every);

	if (hook)
		hook(file, line);
	else if (every && next_random() % every == 0)
		(void)sched_yield();
}

#else
typedef int kvs__yield_is_off; /* a translation unit must not be empty */
#endif
