/* SPDX-License-Identifier: MIT */
/* configs.c - see configs.h. */
#include "configs.h"

#include <stdio.h>

static const int32_t shard_counts[] = { 1, 4, 16, 0 };
static const uint64_t capacities[] = { 0, 100000 };

uint64_t weak_hash(const void *key, size_t len, void *ctx)
{
	const unsigned char *p = key;
	uint64_t h = len;

	(void)ctx;
	for (size_t i = 0; i < len; i++)
		h = h * 131 + p[i];
	return h;
}

struct kvs_options fixture_options(struct fixture *f)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;

	opts.shards = f->config.shards;
	opts.hash = f->config.hash;
	opts.initial_capacity = f->config.initial_capacity;
	if (f->config.hash == KVS_HASH_USER)
		opts.hash_fn = weak_hash;
	if (f->config.allocator)
		opts.allocator = &f->mem.hooks;
	return opts;
}

void fixture_open(struct fixture *f, const struct config *config)
{
	struct kvs_options opts;

	f->config = *config;
	f->kv = NULL;
	counting_init(&f->mem, config->hash % 2 == 0);
	opts = fixture_options(f);
	check_ok(kvs_open(&opts, &f->kv));
}

void fixture_close(struct fixture *f)
{
	check_ok(kvs_free(f->kv));
	check_u64(atomic_load(&f->mem.live_blocks), 0);
	check_u64(atomic_load(&f->mem.live_bytes), 0);
}

static void run_config(const struct config *config, void (*body)(struct fixture *f))
{
	static char text[128];
	struct fixture *f = malloc(sizeof(*f)); /* not the stack: it outlives a test that fails */

	check(f != NULL);
	snprintf(text, sizeof(text), "config shards=%d hash=%d capacity=%llu allocator=%d",
		 config->shards, config->hash, (unsigned long long)config->initial_capacity,
		 config->allocator);
	util_context(text);
	fixture_open(f, config);
	body(f);
	fixture_close(f);
	util_context(NULL);
	free(f);
}

/* Whether row (@s, @h, @c, @a) of the full product is in the part that the scale runs. */
static bool config_chosen(size_t s, size_t h, size_t c, size_t a)
{
	bool pairs = c == ((s ^ h) & 1) && a == ((s >> 1 ^ h >> 1 ^ h) & 1);

	return util_scaled(pairs && h == (s ^ s >> 1), pairs, true);
}

void each_config(void (*body)(struct fixture *f))
{
	/* the four factors in one number: two bits, two bits, one, one */
	for (size_t i = 0; i < 64; i++) {
		size_t s = i & 3, h = i >> 2 & 3, c = i >> 4 & 1, a = i >> 5;
		struct config config = { shard_counts[s], (int32_t)h, capacities[c], a != 0 };

		if (config_chosen(s, h, c, a))
			run_config(&config, body);
	}
}

struct kvs *open_default(void)
{
	struct kvs *kv = NULL;

	check_ok(kvs_open(NULL, &kv));
	return kv;
}

void close_store(struct kvs *kv)
{
	check_ok(kvs_close(kv));
	check_ok(kvs_free(kv));
}
