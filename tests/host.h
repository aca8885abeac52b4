/* SPDX-License-Identifier: MIT */
/* host.h - what a process has: counts that must be the same before and after. */
#ifndef KVS_TESTS_HOST_H
#define KVS_TESTS_HOST_H

#include "util.h"

#include <dirent.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static inline size_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t n = 0;

	check(dir != NULL);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - 3; /* itself twice, and the directory's own descriptor */
}

#define TASK_EXITING 0x4u /* in a task's flags: it has begun to end */

/* Whether thread @id, by its name under /proc/self/task, is there and not about to end. */
static inline bool thread_lives(const char *id)
{
	char path[300], text[512];
	unsigned int flags = 0;
	const char *at;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%s/stat", id);
	f = fopen(path, "r");
	if (f == NULL)
		return false;
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = '\0';
	at = strrchr(text, ')'); /* behind it: state, five numbers, flags */
	return at != NULL && sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
	       (flags & TASK_EXITING) == 0;
}

/*
 * Threads but one. The kernel shows a joined one until it has run to its very end, which may be long after the join where
 * processors are few: such a one is not counted.
 */
static inline size_t count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	size_t n = 0;

	check(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.' && thread_lives(entry->d_name);
	closedir(dir);
	return n - 1;
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
