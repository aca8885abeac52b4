/* SPDX-License-Identifier: MIT */
/* ck_cache.h - a cache of byte strings in ConcurrencyKit's hash table, in C: its headers are not C++. */
#ifndef BENCH_CK_CACHE_H
#define BENCH_CK_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ck_cache;

/* One may be open at a time. NULL: no memory. 0 keys: unknown. */
struct ck_cache *ck_cache_open(uint64_t keys);
/* No thread is inside. */
void ck_cache_close(struct ck_cache *c);

/* Each thread, before and after all it does. Leaving waits until what the thread replaced has been freed. */
bool ck_cache_enter(void);
void ck_cache_leave(void);

bool ck_cache_set(struct ck_cache *c, const void *key, size_t key_len, const void *value,
		  size_t value_len);
/* SIZE_MAX: not there. Copied if there is room. */
size_t ck_cache_get(struct ck_cache *c, const void *key, size_t key_len, void *buf, size_t cap);

#ifdef __cplusplus
}
#endif

#endif /* BENCH_CK_CACHE_H */
