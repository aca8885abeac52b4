/* SPDX-License-Identifier: MIT */
/* yield.h - for tests in builds configured with --enable-yield: see yield.c. */
#ifndef KVS_YIELD_H
#define KVS_YIELD_H

#include "atomic.h"

#ifdef KVS_YIELD_RAND
/* Called at each yield point of every thread, with the place in the source. */
typedef void (*kvs__yield_fn)(const char *file, int line);
extern _Atomic(kvs__yield_fn) kvs__yield_hook; /* NULL: yield at random */
extern kvs__u32 kvs__yield_every;              /* on average; 0: never */
#endif

#endif
