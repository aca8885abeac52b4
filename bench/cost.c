/* SPDX-License-Identifier: MIT */
/*
 * cost.c - a fixed program of calls, for counting their instructions: see scripts/compare-cost.
 *
 * One thread, a fixed hash key, so that every run makes the same steps in the same chains. Uses only
 * what the public header had from the first release on.
 */
#include <kvs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 20000, KEY_SIZE = 12, VALUE_SIZE = 100 };

static void check(int ok)
{
	if (!ok) {
		fprintf(stderr, "cost: a call failed\n");
		exit(1);
	}
}

static struct kvs_slice key_of(unsigned number)
{
	static char key[KEY_SIZE + 1];

	(void)snprintf(key, sizeof(key), "user:%07u", number);
	return kvs_bytes(key, KEY_SIZE);
}

int main(void)
{
	static const unsigned char hash_key[16] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	static char value[VALUE_SIZE];
	static char buf[VALUE_SIZE];
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs_get_item item;
	struct kvs_value v;
	struct kvs *kv;
	unsigned i;

	o.shards = 1;
	o.initial_capacity = 2 * KEYS;
	o.hash_key = hash_key;
	check(kvs_open(&o, &kv) == KVS_OK);
	for (i = 0; i < KEYS; i++)
		check(kvs_add(kv, key_of(i), kvs_bytes(value, VALUE_SIZE), NULL) == KVS_OK);
	for (i = 0; i < KEYS; i++)
		check(kvs_get(kv, key_of(i), buf, sizeof(buf), &v) == KVS_OK);
	for (i = 0; i < KEYS; i++) {
		item.key = key_of(i);
		check(kvs_batch_get(kv, &item, 1, buf, sizeof(buf), NULL) == KVS_OK);
	}
	for (i = 0; i < KEYS; i++)
		check(kvs_exists(kv, key_of(KEYS + i)) == KVS_ERR_NOT_FOUND);
	for (i = 0; i < KEYS; i++)
		check(kvs_set(kv, key_of(i), kvs_bytes(value, VALUE_SIZE), NULL) == KVS_OK);
	for (i = 0; i < KEYS; i++)
		check(kvs_delete(kv, key_of(i), NULL) == KVS_OK);
	return kvs_free(kv) != KVS_OK;
}
