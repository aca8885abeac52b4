/* SPDX-License-Identifier: MIT */
/* test_life.c - open, close, free: what they leave behind, and what they refuse. */
#include "configs.h"

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* Entries of a directory under /proc. */
static size_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t count = 0;

	check(dir != NULL);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* The text of /proc/self/task/@task/@file; false if that thread is gone. */
static bool read_task_file(const char *task, const char *file, char *to, size_t room)
{
	char path[300];
	FILE *f;
	size_t got;

	snprintf(path, sizeof(path), "/proc/self/task/%s/%s", task, file);
	f = fopen(path, "r");
	if (f == NULL)
		return false;
	got = fread(to, 1, room - 1, f);
	fclose(f);
	to[got] = '\0';
	to[strcspn(to, "\n") == got - 1 ? got - 1 : got] = '\0';
	return got > 0;
}

/* How many threads are named @name; if @ret_task is not NULL, the number of one of them. */
static size_t threads_named(const char *name, char *ret_task)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	size_t count = 0;
	char comm[64];

	check(dir != NULL);
	while ((entry = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (!read_task_file(entry->d_name, "comm", comm, sizeof(comm)))
			continue;
		if (strcmp(comm, name) != 0)
			continue;
		count++;
		if (ret_task != NULL)
			strcpy(ret_task, entry->d_name);
	}
	closedir(dir);
	return count;
}

/* The kernel takes a joined thread out of /proc a moment after the join. */
static void wait_until_no_thread(const char *name)
{
	while (threads_named(name, NULL) != 0)
		sched_yield();
}

static uint64_t blocked_signals(const char *task)
{
	char status[8192];
	const char *line;

	check(read_task_file(task, "status", status, sizeof(status)));
	line = strstr(status, "SigBlk:");
	check(line != NULL);
	return strtoull(line + 7, NULL, 16);
}

static void check_blocks_signals(const char *name)
{
	const uint64_t cannot_be_blocked = UINT64_C(1) << (9 - 1) | UINT64_C(1) << (19 - 1);
	const uint64_t standard = (UINT64_C(1) << 31) - 1;
	char task[256] = "";

	check_u64(threads_named(name, task), 1);
	check_u64(~blocked_signals(task) & standard & ~cannot_be_blocked, 0);
}

static void test_open_with_null_options(void **state)
{
	struct kvs *kv = NULL;

	(void)state;
	check_ok(kvs_open(NULL, &kv));
	check(kv != NULL);
	check_u64(store_len(kv), 0);
	close_store(kv);
}

static void test_free_of_null(void **state)
{
	(void)state;
	check_ok(kvs_free(NULL));
}

static void test_free_closes_an_open_store(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	set_pattern(kv, 1, 100, 1);
	check_ok(kvs_free(kv));
}

static void test_second_close_answers_closed(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	check_ok(kvs_close(kv));
	check_status(kvs_close(kv), KVS_ERR_STORE_CLOSED);
	check_status(kvs_close(kv), KVS_ERR_STORE_CLOSED);
	check_ok(kvs_free(kv));
}

static void fill_and_close(struct fixture *f)
{
	for (uint64_t i = 0; i < 200; i++)
		set_pattern(f->kv, i, value_sizes[i % ARRAY_LEN(value_sizes)], i);
	for (uint64_t i = 0; i < 200; i += 2)
		set_pattern(f->kv, i, 10, i);
	check_ok(kvs_close(f->kv));
}

static void test_close_gives_back_every_entry(void **state)
{
	(void)state;
	each_config(fill_and_close); /* whose end checks that the allocator's count is 0 */
}

static void leave_empty(struct fixture *f)
{
	check_u64(store_len(f->kv), 0);
}

static void test_empty_store_gives_back_everything(void **state)
{
	(void)state;
	each_config(leave_empty);
}

static void test_close_and_free_inside_a_read_section(void **state)
{
	struct kvs *kv = open_default();

	(void)state;
	set_pattern(kv, 1, 100, 7);
	kvs_read_begin(kv);
	check_status(kvs_close(kv), KVS_ERR_IN_READ_SECTION);
	check_status(kvs_free(kv), KVS_ERR_IN_READ_SECTION);
	kvs_read_end(kv);
	check_pattern(kv, 1, 100, 7);
	set_pattern(kv, 2, 100, 8);
	close_store(kv);
}

static void test_threads_are_named_and_block_all_signals(void **state)
{
	struct kvs *kv;

	(void)state;
	wait_until_no_thread("kvs-rcu");
	wait_until_no_thread("kvs-maint");
	kv = open_default();
	check_blocks_signals("kvs-rcu");
	check_blocks_signals("kvs-maint");
	check_ok(kvs_close(kv));
	wait_until_no_thread("kvs-rcu");
	wait_until_no_thread("kvs-maint");
	check_ok(kvs_free(kv));
}

static void open_use_close(uint64_t tag)
{
	struct kvs *kv = open_default();

	set_pattern(kv, tag, 100, tag);
	check_pattern(kv, tag, 100, tag);
	close_store(kv);
}

static void test_many_lives_leave_no_thread_and_no_file(void **state)
{
	size_t rounds = util_scaled(5, 50, 1000), tasks, files;

	(void)state;
	open_use_close(0); /* whatever the process needs once, it has now */
	wait_until_no_thread("kvs-rcu");
	wait_until_no_thread("kvs-maint");
	tasks = count_entries("/proc/self/task");
	files = count_entries("/proc/self/fd");
	for (size_t i = 0; i < rounds; i++)
		open_use_close(i);
	while (count_entries("/proc/self/task") > tasks)
		sched_yield();
	check_u64(count_entries("/proc/self/fd"), files);
}

static void test_many_stores_at_once(void **state)
{
	struct kvs *stores[8];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(stores); i++) {
		stores[i] = open_default();
		set_pattern(stores[i], i, 100, i);
	}
	for (size_t i = 0; i < ARRAY_LEN(stores); i++) {
		check_u64(store_len(stores[i]), 1);
		check_pattern(stores[i], i, 100, i);
		close_store(stores[i]);
	}
}

static void test_failed_open_writes_nothing(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *const untouched = (struct kvs *)&opts;
	struct kvs *kv = untouched;

	(void)state;
	opts.shards = -1;
	check_status(kvs_open(&opts, &kv), KVS_ERR_INVALID_NUM_SHARDS);
	check(kv == untouched);
}

/* One try with the allocation number @fail_in failing; true once there are not that many. */
static bool open_with_failure(struct counting *mem, int64_t fail_in, bool fail_on)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;
	int err;

	opts.allocator = &mem->hooks;
	counting_fail(mem, fail_in, fail_on);
	err = kvs_open(&opts, &kv);
	counting_fail_never(mem);
	if (err == KVS_OK) {
		set_pattern(kv, 1, 100, 1);
		close_store(kv);
	} else {
		check_status(err, KVS_ERR_NO_MEMORY);
		check(kv == NULL);
	}
	check_u64(atomic_load(&mem->live_blocks), 0);
	return err == KVS_OK;
}

static void check_open_survives(bool fail_on)
{
	struct counting *mem = malloc(sizeof(*mem));
	int64_t fail_in = 0;

	check(mem != NULL);
	counting_init(mem, true);
	while (!open_with_failure(mem, fail_in, fail_on) && fail_in < 10000)
		fail_in++;
	check(fail_in > 0); /* the hook is used at all */
	check(fail_in < 10000);
	free(mem);
}

static void test_open_when_one_allocation_fails(void **state)
{
	(void)state;
	check_open_survives(false);
}

static void test_open_when_memory_runs_out(void **state)
{
	(void)state;
	check_open_survives(true);
}

static void test_version_string_is_three_numbers(void **state)
{
	unsigned int major, minor, patch;
	char rest;

	(void)state;
	check(kvs_version_string() != NULL);
	check(sscanf(kvs_version_string(), "%u.%u.%u%c", &major, &minor, &patch, &rest) == 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_with_null_options),
		cmocka_unit_test(test_free_of_null),
		cmocka_unit_test(test_free_closes_an_open_store),
		cmocka_unit_test(test_second_close_answers_closed),
		cmocka_unit_test(test_close_gives_back_every_entry),
		cmocka_unit_test(test_empty_store_gives_back_everything),
		cmocka_unit_test(test_close_and_free_inside_a_read_section),
		cmocka_unit_test(test_threads_are_named_and_block_all_signals),
		cmocka_unit_test(test_many_lives_leave_no_thread_and_no_file),
		cmocka_unit_test(test_many_stores_at_once),
		cmocka_unit_test(test_failed_open_writes_nothing),
		cmocka_unit_test(test_open_when_one_allocation_fails),
		cmocka_unit_test(test_open_when_memory_runs_out),
		cmocka_unit_test(test_version_string_is_three_numbers),
	};

	return util_main("life", tests, ARRAY_LEN(tests));
}
