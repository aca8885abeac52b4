/* SPDX-License-Identifier: MIT */
/*
 * counting.h - how much work an operation does, in builds configured with --enable-counting.
 *
 * A step is a node walked, a head looked at or linked, or a retry; bytes are those copied or cleared
 * by us beyond the caller's key and value. Other builds compile all of it away.
 */
#ifndef KVS_COUNTING_H
#define KVS_COUNTING_H

#include <stdint.h>

#ifdef KVS_COUNTING
struct kvs__work {
	uint64_t steps; /* of the operations since the last reset by this thread */
};
extern __thread struct kvs__work kvs__work __attribute__((visibility("default")));
#define KVS_COUNT_STEP() ((void)kvs__work.steps++)
#else
#define KVS_COUNT_STEP() ((void)0)
#endif

#endif
