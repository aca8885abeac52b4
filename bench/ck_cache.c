/* SPDX-License-Identifier: MIT */
/*
 * ck_cache.c - ConcurrencyKit's hash table under its epochs.
 *
 * ck_ht has one writer and any number of readers, so there are 16 tables, each with a lock for its
 * writers: few, for the head of every table lies at the start of a large block, all in the same set of
 * the first cache. A node is one block: the callback's entry, lengths, key, value; the table points to the key and
 * to the node. A node that was replaced, and a table that was outgrown, are freed by a callback of the epoch,
 * called by the thread that deferred it.
 */
#include "ck_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <ck_epoch.h>
#include <ck_ht.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SHARD_BITS 4
#define SHARDS (1u << SHARD_BITS)
#define SLOTS_WHEN_UNKNOWN 65536
#define POLL_AFTER 256 /* deferred */

struct node {
	ck_epoch_entry_t deferred; /* first */
	uint32_t key_len;
	uint32_t value_len;
	unsigned char data[]; /* key, value */
};

/* Readers of the table do not see the lock's line. */
struct shard {
	_Alignas(64) ck_ht_t table;
	_Alignas(64) pthread_mutex_t writers;
};

struct ck_cache {
	struct shard shards[SHARDS];
};

static ck_epoch_t epoch;
static _Thread_local ck_epoch_record_t *here; /* this thread's, from enter() to leave() */

static void free_deferred(ck_epoch_entry_t *entry)
{
	free(entry); /* it is the first thing in its block */
}

/* A table has its callback's entry before it, on a line of its own. */
#define BEFORE_TABLE 64

static void *table_malloc(size_t size)
{
	char *p = malloc(BEFORE_TABLE + size);

	return p ? p + BEFORE_TABLE : NULL;
}

static void table_free(void *table, size_t size, bool readers_may_be_in_it)
{
	void *block = (char *)table - BEFORE_TABLE;

	(void)size;
	if (readers_may_be_in_it)
		ck_epoch_call(here, block, free_deferred);
	else
		free(block);
}

static struct ck_malloc allocator = { .malloc = table_malloc, .free = table_free };

static void hash_key(ck_ht_hash_t *h, const void *key, size_t len, uint64_t seed)
{
	(void)seed;
	h->value = XXH3_64bits(key, len);
}

/* The table goes by the low bits. */
static struct shard *shard_of(struct ck_cache *c, ck_ht_hash_t h)
{
	return &c->shards[h.value >> (64 - SHARD_BITS)];
}

static void remove_all(ck_ht_t *table)
{
	ck_ht_iterator_t it = CK_HT_ITERATOR_INITIALIZER;
	ck_ht_entry_t *entry;

	while (ck_ht_next(table, &it, &entry))
		free(ck_ht_entry_value(entry));
	ck_ht_destroy(table);
}

static void close_some(struct ck_cache *c, unsigned n)
{
	while (n-- > 0) {
		remove_all(&c->shards[n].table);
		pthread_mutex_destroy(&c->shards[n].writers);
	}
	free(c);
}

struct ck_cache *ck_cache_open(uint64_t keys)
{
	/* A table is at most half full. */
	uint64_t slots = (keys ? 2 * keys : SLOTS_WHEN_UNKNOWN) / SHARDS;
	struct ck_cache *c = aligned_alloc(64, sizeof(*c));

	if (!c)
		return NULL;
	ck_epoch_init(&epoch);
	for (unsigned i = 0; i < SHARDS; i++) {
		if (!ck_ht_init(&c->shards[i].table, CK_HT_MODE_BYTESTRING, hash_key, &allocator,
				slots < 8 ? 8 : slots, 0)) {
			close_some(c, i);
			return NULL;
		}
		pthread_mutex_init(&c->shards[i].writers, NULL);
	}
	return c;
}

void ck_cache_close(struct ck_cache *c)
{
	close_some(c, SHARDS);
}

/* Records are used again and never freed: the library allows no other way. */
bool ck_cache_enter(void)
{
	here = ck_epoch_recycle(&epoch, NULL);
	if (here)
		return true;
	here = aligned_alloc(64, sizeof(*here));
	if (here)
		ck_epoch_register(&epoch, here, NULL);
	return here != NULL;
}

void ck_cache_leave(void)
{
	ck_epoch_barrier(here);
	ck_epoch_unregister(here);
	here = NULL;
}

static struct node *make_node(const void *key, size_t key_len, const void *value, size_t value_len)
{
	struct node *n = malloc(sizeof(*n) + key_len + value_len);

	if (!n)
		return NULL;
	n->key_len = (uint32_t)key_len;
	n->value_len = (uint32_t)value_len;
	memcpy(n->data, key, key_len);
	memcpy(n->data + key_len, value, value_len);
	return n;
}

static void retire(struct node *n)
{
	ck_epoch_call(here, &n->deferred, free_deferred);
	if (here->n_pending >= POLL_AFTER)
		ck_epoch_poll(here);
}

bool ck_cache_set(struct ck_cache *c, const void *key, size_t key_len, const void *value,
		  size_t value_len)
{
	struct node *n = make_node(key, key_len, value, value_len);
	ck_ht_entry_t entry;
	struct shard *sh;
	ck_ht_hash_t h;
	bool done;

	if (!n)
		return false;
	hash_key(&h, key, key_len, 0);
	sh = shard_of(c, h);
	ck_ht_entry_set(&entry, h, n->data, (uint16_t)key_len, n);
	pthread_mutex_lock(&sh->writers);
	done = ck_ht_set_spmc(&sh->table, h, &entry);
	pthread_mutex_unlock(&sh->writers);
	if (!done)
		free(n);
	else if (!ck_ht_entry_empty(&entry))
		retire(ck_ht_entry_value(&entry)); /* what was there before */
	return done;
}

size_t ck_cache_get(struct ck_cache *c, const void *key, size_t key_len, void *buf, size_t cap)
{
	size_t len = SIZE_MAX;
	ck_ht_entry_t entry;
	ck_ht_hash_t h;

	hash_key(&h, key, key_len, 0);
	ck_ht_entry_key_set(&entry, key, (uint16_t)key_len);
	ck_epoch_begin(here, NULL);
	if (ck_ht_get_spmc(&shard_of(c, h)->table, h, &entry)) {
		const struct node *n = ck_ht_entry_value(&entry);

		len = n->value_len;
		if (len <= cap)
			memcpy(buf, n->data + n->key_len, len);
	}
	ck_epoch_end(here, NULL);
	return len;
}
