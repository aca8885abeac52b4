/* SPDX-License-Identifier: MIT */
/* compiler.h - what the compiler gives us beyond C11. Layer 0: includes nothing of ours. */
#ifndef KVS_COMPILER_H
#define KVS_COMPILER_H

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define KVS_NOINLINE __attribute__((noinline))
#define KVS_COLD __attribute__((noinline, cold))
#define KVS_INLINE static inline __attribute__((always_inline))
#define KVS_HIDDEN __attribute__((visibility("hidden")))
#define KVS_LINE 64 /* bytes of a cache line; what is written often keeps a line of its own */
#define KVS_LINE_ALIGNED __attribute__((aligned(KVS_LINE)))

#define kvs_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* KVS_ASSERT - states that cannot be, checked in debug builds only: a release never aborts. */
#ifdef KVS_DEBUG
#include <assert.h>
#define KVS_ASSERT(x) assert(x)
#else
#define KVS_ASSERT(x) ((void)sizeof(x))
#endif

#if defined(__SANITIZE_ADDRESS__)
#define KVS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KVS_ASAN 1
#endif
#endif

#endif
