/* SPDX-License-Identifier: MIT */
/*
 * configs.h - the configurations over which the tests of the public calls run.
 *
 * Factors: shards {1, 4, 16, default}, hash (four kinds), room from the start {0, 100000}, a user's
 * allocator or none. At scale ci 16 stores cover every pair of values of any two factors; at long
 * all 64 run, at small 4. Value sizes are a loop of the tests that care: value_sizes[].
 */
#ifndef KVS_TESTS_CONFIGS_H
#define KVS_TESTS_CONFIGS_H

#include "util.h"

struct config {
	int32_t shards;
	int32_t hash;              /* enum kvs_hash */
	uint64_t initial_capacity; /* keys */
	bool allocator;            /* count every byte */
};

/* One open store of a configuration. */
struct fixture {
	struct config config;
	struct counting mem; /* in use if config.allocator */
	struct kvs *kv;
};

/* Bytes; 0 and 1 are edges, 70000 is more than any small-object class or 16-bit length. */
static const size_t value_sizes[] = { 0, 1, 100, 5000, 70000 };

/* each_config - Call @body with a fresh store of each configuration; all must be given back. */
void each_config(void (*body)(struct fixture *f));

/* fixture_options - Options for @f's configuration; @f must outlive the store. */
struct kvs_options fixture_options(struct fixture *f);

void fixture_open(struct fixture *f, const struct config *config);
void fixture_close(struct fixture *f);

/* open_default - A store with default options, for tests of which one configuration is enough. */
struct kvs *open_default(void);
void close_store(struct kvs *kv);

/* weak_hash - A user's hash that leaves the mixing to the library. */
uint64_t weak_hash(const void *key, size_t len, void *ctx);

#endif /* KVS_TESTS_CONFIGS_H */
