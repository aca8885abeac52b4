/* SPDX-License-Identifier: MIT */
/* hash.c - the hashes of hash.h out of line, and the choice among them. */
#include "hash.h"

#include <errno.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t kvs__siphash13(const void *data, size_t len, const unsigned char key[16])
{
	uint64_t sip[4];

	kvs__sip_start(sip, key);
	return kvs__siphash13_inline(data, len, sip);
}

uint64_t kvs__xxh3(const void *data, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, len, seed);
}

uint64_t kvs__fnv1a(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

uint64_t kvs__hash_key_slow(const struct kvs__hasher *h, const void *data, size_t len)
{
	switch (h->kind) {
	case KVS_HASH_XXH3:
		return kvs__mix64(kvs__xxh3(data, len, h->seed));
	case KVS_HASH_FNV1A:
		return kvs__mix64(kvs__fnv1a(data, len));
	case KVS_HASH_USER:
		return kvs__mix64(h->fn(data, len, h->ctx));
	default:
		return kvs__siphash13(data, len, h->key);
	}
}

static int fill_random(unsigned char *to, size_t len)
{
	while (len > 0) {
		ssize_t got = getrandom(to, len, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return KVS_ERR_IO;
		to += got;
		len -= (size_t)got;
	}
	return KVS_OK;
}

static int choose_key(unsigned char key[16], const struct kvs_options *opts)
{
	if (opts->hash != KVS_HASH_SIPHASH13 && opts->hash != KVS_HASH_XXH3)
		return KVS_OK;
	if (opts->hash_key == NULL)
		return fill_random(key, 16);
	memcpy(key, opts->hash_key, 16);
	return KVS_OK;
}

int kvs__hasher_init(struct kvs__hasher *h, const struct kvs_options *opts)
{
	int err;

	*h = (struct kvs__hasher){ .kind = opts->hash, .fn = opts->hash_fn, .ctx = opts->hash_ctx };
	err = choose_key(h->key, opts);
	kvs__sip_start(h->sip, h->key);
	h->seed = kvs__mix64(kvs__load_le64(h->key)) ^ kvs__load_le64(h->key + 8);
	return err;
}
