/* SPDX-License-Identifier: MIT */
/*
 * tsan_selftest.c - the load under which tsan-selftest.sh shows that seeded races are reported.
 *
 * Two threads overwrite, delete and read few keys; the reads are borrows whose bytes are looked at, so
 * that a missing order between an entry's making and its reading, or its reading and its freeing, is
 * a race of plain accesses.
 */
#include <kvs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define KEYS 16u
#define ROUNDS 20000u

static struct kvs *kv;

static struct kvs_slice key_of(unsigned i, char buf[16])
{
	return kvs_bytes(buf, (size_t)snprintf(buf, 16, "key-%u", i));
}

static unsigned read_one(struct kvs_slice key)
{
	struct kvs_value v;
	unsigned sum = 0;
	size_t i;

	kvs_read_begin(kv);
	if (kvs_borrow(kv, key, &v) == KVS_OK)
		for (i = 0; i < v.len; i++)
			sum += ((const unsigned char *)v.data)[i];
	kvs_read_end(kv);
	return sum;
}

static void *reader(void *arg)
{
	unsigned sum = 0;
	unsigned i;
	char buf[16];

	for (i = 0; i < 2 * ROUNDS; i++)
		sum += read_one(key_of(i % KEYS, buf));
	*(unsigned *)arg = sum;
	return NULL;
}

static void *writer(void *arg)
{
	unsigned i;
	char buf[16];

	for (i = 0; i < ROUNDS; i++) {
		struct kvs_slice key = key_of(i * 7 % KEYS, buf);

		if (i % 5 == 0)
			(void)kvs_delete(kv, key, NULL);
		else if (kvs_set(kv, key, key, NULL) != KVS_OK)
			return arg;
	}
	return NULL;
}

int main(void)
{
	pthread_t thread[4];
	unsigned sum[2];
	int i;

	if (kvs_open(NULL, &kv) != KVS_OK)
		return 1;
	for (i = 0; i < 4; i++)
		if (pthread_create(&thread[i], NULL, i < 2 ? reader : writer,
				   i < 2 ? &sum[i] : NULL))
			return 1;
	for (i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	return kvs_free(kv);
}
