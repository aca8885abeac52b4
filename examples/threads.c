/* SPDX-License-Identifier: MIT */
/* threads.c - one store, many threads: readers that never wait, writers that never lock, exact counters. */
#include <kvs.h>
#include <pthread.h>
#include <stdio.h>

#define WRITERS 2
#define READERS 2
#define ROUNDS 20000

static void *writer(void *arg)
{
	struct kvs *kv = arg;
	char key[16];
	int i;

	for (i = 0; i < ROUNDS; i++) {
		int len = snprintf(key, sizeof(key), "page-%d", i % 10);

		if (kvs_set(kv, kvs_bytes(key, (size_t)len), kvs_str("<html>"), NULL) ||
		    kvs_increment(kv, kvs_str("views"), 1, NULL, NULL))
			return arg; /* not NULL: it went wrong */
	}
	return NULL;
}

static void *reader(void *arg)
{
	struct kvs *kv = arg;
	struct kvs_value v;
	char buf[32];
	int i;

	for (i = 0; i < ROUNDS; i++) {
		int err = kvs_get(kv, kvs_str("page-7"), buf, sizeof(buf), &v);

		if (err && err != KVS_ERR_NOT_FOUND)
			return arg;
	}
	return NULL;
}

int main(void)
{
	pthread_t thread[WRITERS + READERS];
	struct kvs *kv;
	int64_t views = 0;
	int i, bad = 0;

	if (kvs_open(NULL, &kv))
		return 1;
	/* Threads need no registration; they may come and go. */
	for (i = 0; i < WRITERS + READERS; i++)
		if (pthread_create(&thread[i], NULL, i < WRITERS ? writer : reader, kv))
			return 1;
	for (i = 0; i < WRITERS + READERS; i++) {
		void *failed;

		pthread_join(thread[i], &failed);
		bad += failed != NULL;
	}
	bad += kvs_increment(kv, kvs_str("views"), 0, &views, NULL) != 0;
	printf("%lld views, %d expected\n", (long long)views, WRITERS * ROUNDS);
	return kvs_free(kv) || bad || views != WRITERS * ROUNDS;
}
