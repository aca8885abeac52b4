/* SPDX-License-Identifier: MIT */
/* counter.c - threads that share one key: a counter kept by compare-and-set. */
#include <kvs.h>
#include <pthread.h>
#include <stdio.h>

#define THREADS 4
#define ROUNDS 1000

static int increment(struct kvs *kv, struct kvs_slice key)
{
	uint64_t n;
	struct kvs_value v;
	int err;

	do {
		err = kvs_get(kv, key, &n, sizeof(n), &v);
		if (err)
			return err;
		n++;
		err = kvs_compare_and_set(kv, key, kvs_bytes(&n, sizeof(n)), v.version, NULL);
	} while (err == KVS_ERR_VERSION_MISMATCH); /* another thread was faster */
	return err;
}

static void *count(void *arg)
{
	int i;

	for (i = 0; i < ROUNDS; i++)
		if (increment(arg, kvs_str("hits")))
			return arg;
	return NULL;
}

int main(void)
{
	pthread_t thread[THREADS];
	struct kvs *kv;
	struct kvs_value v;
	uint64_t n = 0;
	int i;

	if (kvs_open(NULL, &kv) || kvs_set(kv, kvs_str("hits"), kvs_bytes(&n, sizeof(n)), NULL))
		return 1;
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, count, kv))
			return 1;
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	if (kvs_get(kv, kvs_str("hits"), &n, sizeof(n), &v))
		return 1;
	printf("%llu hits, %d expected\n", (unsigned long long)n, THREADS * ROUNDS);
	return kvs_free(kv) || n != THREADS * ROUNDS;
}
