/* SPDX-License-Identifier: MIT */
/*
 * loop.c - a store without threads in a program with an event loop: poll() waits until there is input or the store
 * has something to do, and kvs_run() does it in bounded pieces.
 *
 * The input here is a pipe that the program itself writes to; in a server it is its sockets.
 */
#include <kvs.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define REQUESTS 100
#define BUDGET 1000 /* pieces of the store's work between two looks at the input */

/* One request: overwrite a key, so that there is memory to give back. */
static int serve(struct kvs *kv, int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		return -1;
	return kvs_set(kv, kvs_bytes(&byte, 1), kvs_lit("some value"), NULL);
}

int main(void)
{
	struct kvs_options options = KVS_OPTIONS_INIT;
	struct kvs_stats stats;
	struct pollfd input;
	int served = 0, next_ms = -1, ends[2], err;
	struct kvs *kv;
	char c;

	options.flags = KVS_OPEN_NO_THREADS;
	if (kvs_open(&options, &kv) || pipe(ends))
		return 1;
	for (c = 0; c < REQUESTS; c++)
		if (write(ends[1], &"abc"[c % 3], 1) != 1)
			return 1;
	input.fd = ends[0];
	input.events = POLLIN;
	do {
		/* The last call said when the store wants to run again: the loop's timeout. */
		int ready = served < REQUESTS ? poll(&input, 1, next_ms) : 0;

		err = 0;
		if (ready > 0) {
			err = serve(kv, ends[0]);
			served++;
		}
		if (!err)
			err = kvs_run(kv, BUDGET, 0, &next_ms);
	} while (!err && (served < REQUESTS || next_ms == 0));
	stats.size = sizeof(stats);
	if (!err)
		err = kvs_stats(kv, &stats);
	printf("%d requests, %llu keys, %llu bytes wait to be freed\n", served,
	       (unsigned long long)stats.keys, (unsigned long long)stats.bytes_deferred);
	close(ends[0]);
	close(ends[1]);
	return kvs_free(kv) || err || stats.keys != 3;
}
