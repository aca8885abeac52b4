/* SPDX-License-Identifier: MIT */
/*
 * test_host_dlopen.c - a program that loads the library at run time, uses it on threads, and
 * unloads it before the threads end: what the library left for a thread's end must still be
 * there.
 *
 * KVS_LIB names the shared library; else it is the build's. This program links neither it nor
 * liburcu.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvs.h"

struct library {
	void *handle;
	int (*open)(const struct kvs_options *opts, struct kvs **ret_kv);
	int (*free)(struct kvs *kv);
	int (*set)(struct kvs *kv, struct kvs_slice key, struct kvs_slice val, uint64_t *version);
	int (*get)(struct kvs *kv, struct kvs_slice key, void *buf, size_t cap,
		   struct kvs_value *ret);
};

static const char *library_path(void)
{
	static char path[4096];
	const char *dir = getenv("KVS_BUILDDIR");

	if (getenv("KVS_LIB") != NULL)
		return getenv("KVS_LIB");
	snprintf(path, sizeof(path), "%s/.libs/libkvs.so", dir ? dir : ".");
	return path;
}

static void load(struct library *lib)
{
	lib->handle = dlopen(library_path(), RTLD_NOW | RTLD_LOCAL);
	if (lib->handle == NULL)
		fail_msg("%s", dlerror());
	*(void **)&lib->open = dlsym(lib->handle, "kvs_open");
	*(void **)&lib->free = dlsym(lib->handle, "kvs_free");
	*(void **)&lib->set = dlsym(lib->handle, "kvs_set");
	*(void **)&lib->get = dlsym(lib->handle, "kvs_get");
	assert_non_null(lib->open);
	assert_non_null(lib->free);
	assert_non_null(lib->set);
	assert_non_null(lib->get);
}

struct member {
	struct library *lib;
	struct kvs *kv;
	pthread_barrier_t used, unloaded;
	int err;
};

static void *use_and_outlive(void *arg)
{
	struct member *m = arg;
	uint64_t value = 42, got = 0;

	for (unsigned i = 0; i < 10 && m->err == 0; i++)
		m->err = m->lib->set(m->kv, kvs_str("key"), kvs_bytes(&value, sizeof(value)), NULL);
	if (m->err == 0)
		m->err = m->lib->get(m->kv, kvs_str("key"), &got, sizeof(got), NULL);
	if (got != value)
		m->err = KVS_ERR_UNKNOWN;
	pthread_barrier_wait(&m->used);
	pthread_barrier_wait(&m->unloaded);
	return NULL; /* now the destructors of the thread's keys run */
}

/* @store_first: the store is freed before the library is unloaded; else it is left behind. */
static void load_use_unload(bool store_first)
{
	struct library lib;
	struct member m = { .lib = &lib };
	pthread_t thread;

	load(&lib);
	assert_int_equal(lib.open(NULL, &m.kv), 0);
	assert_int_equal(pthread_barrier_init(&m.used, NULL, 2), 0);
	assert_int_equal(pthread_barrier_init(&m.unloaded, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, use_and_outlive, &m), 0);
	pthread_barrier_wait(&m.used);
	if (store_first)
		assert_int_equal(lib.free(m.kv), 0);
	assert_int_equal(dlclose(lib.handle), 0);
	pthread_barrier_wait(&m.unloaded);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(m.err, 0);
	pthread_barrier_destroy(&m.used);
	pthread_barrier_destroy(&m.unloaded);
	if (!store_first) { /* the library is still there: the store can be found and freed */
		load(&lib);
		assert_int_equal(lib.free(m.kv), 0);
		dlclose(lib.handle);
	}
}

static void test_threads_end_after_the_library_was_unloaded(void **state)
{
	unsigned rounds = 0;

	(void)state;
	for (; rounds < 20; rounds++) {
		alarm(120);
		load_use_unload(rounds % 2 == 0);
	}
	alarm(0);
	printf("# %u times: load, call on a thread, unload, end of the thread\n", rounds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_end_after_the_library_was_unloaded),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("host_dlopen", tests, NULL, NULL) != 0;
}
