/* SPDX-License-Identifier: MIT */
/* host.h - what a process has: counts that must be the same before and after. */
#ifndef KVS_TESTS_HOST_H
#define KVS_TESTS_HOST_H

#include "util.h"

#include <dirent.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

static inline size_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t n = 0;

	check(dir != NULL);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - 3; /* itself twice, and the directory's own descriptor or one thread */
}

/* Threads but one. A joined one may be seen for a moment longer: see wait_for_threads(). */
static inline size_t count_threads(void)
{
	return count_entries("/proc/self/task");
}

static inline void *note_id(void *ret_id)
{
	*(pid_t *)ret_id = gettid();
	return NULL;
}

/* The same before a test's first thread: a sanitizer starts one of its own with the first. */
static inline size_t count_threads_at_rest(void)
{
	char path[64];
	pthread_t thread;
	pid_t id = 0;

	check(pthread_create(&thread, NULL, note_id, &id) == 0);
	check(pthread_join(thread, NULL) == 0);
	snprintf(path, sizeof(path), "/proc/self/task/%d", (int)id);
	while (access(path, F_OK) == 0)
		sched_yield();
	return count_threads();
}

static inline size_t count_descriptors(void)
{
	return count_entries("/proc/self/fd");
}

static inline void wait_for_threads(size_t count)
{
	while (count_threads() != count)
		sched_yield();
}

/* Bytes in use of malloc's. */
static inline size_t count_heap(void)
{
	return mallinfo2().uordblks;
}

#endif /* KVS_TESTS_HOST_H */
