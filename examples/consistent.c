/* SPDX-License-Identifier: MIT */
/*
 * consistent.c - shards by consistent hashing: a ring on which each shard has many points, and a key belongs to the
 * next point. With one shard more only a part of the keys changes its shard, as you want it if shards stand for
 * machines, files or caches outside.
 *
 * The store spreads keys over its shards by itself; a function of your own is for when the shard of a key matters.
 */
#include <kvs.h>
#include <stdio.h>
#include <stdlib.h>

#define POINTS 64 /* of each shard */
#define SHARDS_MAX 8
#define KEYS 10000u

struct point {
	uint64_t at;
	int shard;
};

struct ring {
	struct point point[POINTS * SHARDS_MAX];
	int points;
};

static uint64_t hash(const void *bytes,
		     size_t len) /* FNV-1a, then mixed: the ring needs all of its bits */
{
	const unsigned char *p = bytes;
	uint64_t h = 0xcbf29ce484222325u;
	size_t i;

	for (i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

static int by_place(const void *a, const void *b)
{
	uint64_t x = ((const struct point *)a)->at, y = ((const struct point *)b)->at;

	return (x > y) - (x < y);
}

static void ring_make(struct ring *r, int shards)
{
	int i;

	r->points = POINTS * shards;
	for (i = 0; i < r->points; i++) {
		char name[32];
		int len = snprintf(name, sizeof(name), "shard %d point %d", i / POINTS, i % POINTS);

		r->point[i].at = hash(name, (size_t)len);
		r->point[i].shard = i / POINTS;
	}
	qsort(r->point, (size_t)r->points, sizeof(r->point[0]), by_place);
}

/* A kvs_shard_fn: always the same for the same key, from any thread. */
static int ring_shard(const void *key, size_t len, int shards, void *ctx)
{
	const struct ring *r = ctx;
	uint64_t at = hash(key, len);
	int low = 0, high = r->points;

	(void)shards;
	while (low < high) {
		int middle = (low + high) / 2;

		if (r->point[middle].at < at)
			low = middle + 1;
		else
			high = middle;
	}
	return r->point[low % r->points].shard;
}

static struct kvs *open_on(struct ring *r, int shards)
{
	struct kvs_options options = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;

	ring_make(r, shards);
	options.shards = shards;
	options.route = KVS_ROUTE_USER;
	options.shard_fn = ring_shard;
	options.shard_ctx = r;
	return kvs_open(&options, &kv) ? NULL : kv;
}

int main(void)
{
	static struct ring four, five;
	struct kvs *kv = open_on(&four, 4);
	unsigned i, moved = 0;
	uint64_t len = 0;

	if (!kv)
		return 1;
	ring_make(&five, 5);
	for (i = 0; i < KEYS; i++) {
		char key[16];
		int n = snprintf(key, sizeof(key), "user-%u", i);

		if (kvs_set(kv, kvs_bytes(key, (size_t)n), kvs_str("x"), NULL))
			return 1;
		moved += ring_shard(key, (size_t)n, 4, &four) !=
			 ring_shard(key, (size_t)n, 5, &five);
	}
	if (kvs_len(kv, &len) || len != KEYS)
		return 1;
	printf("%u of %u keys move from 4 shards to 5\n", moved, KEYS);
	return kvs_free(kv) || moved == 0 || moved > KEYS / 2;
}
