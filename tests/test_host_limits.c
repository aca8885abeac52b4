/* SPDX-License-Identifier: MIT */
/*
 * test_host_limits.c - a process that has no memory or no thread left: liburcu aborts then, the library must not.
 *
 * The allocator and the creation of threads are this program's, for liburcu and the C library too. Malloc has so many bytes
 * and no more, and what is given back can be had again, as in a process that is short of memory; so it is with
 * threads. A run without limits notes how many bytes were in use behind each allocation. Then there is one run for each of them in
 * which it finds one byte too few, each in a process of its own: it must answer KVS_OK or KVS_ERR_NO_MEMORY, and
 * the store must work on.
 */
#include "configs.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <urcu/urcu-bp.h>

#include "store.h"

/* ---- Limits ----------------------------------------------------------------------------- */

/* The sanitizers themselves end a program whose malloc fails in a new thread: there, only threads are limited. */
#if defined(__SANITIZE_ADDRESS__) || defined(KVS_TSAN)
#define LIMIT_BYTES 0
#else
#define LIMIT_BYTES 1
#endif

#define LEVELS 256u

/* Of one process. */
static struct limits {
	_Atomic int64_t bytes, threads;         /* in use */
	_Atomic int64_t max_bytes, max_threads; /* negative: no limit */
	_Atomic int64_t start;                  /* bytes in use when the limits were set */
	_Atomic uint64_t refused;
	_Atomic bool noted; /* levels are */
} limits = { .max_bytes = -1, .max_threads = -1 };

/* Of all. */
static struct shared {
	_Atomic uint64_t levels; /* of the run without limits */
	int64_t level[LEVELS];   /* bytes in use above those at the start, behind each allocation */
	_Atomic uint64_t limited;  /* runs in which something was refused */
	_Atomic uint64_t refused;  /* in all of them */
	_Atomic uint64_t answered; /* runs that answered NO_MEMORY */
} * shared;

#if LIMIT_BYTES

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static bool may_take(size_t size)
{
	int64_t max = atomic_load(&limits.max_bytes);

	if (max < 0 || atomic_load(&limits.bytes) + (int64_t)size <= max)
		return true;
	atomic_fetch_add(&limits.refused, 1);
	errno = ENOMEM;
	return false;
}

static void *took(void *p)
{
	int64_t size, bytes;
	uint64_t n;

	if (p == NULL)
		return NULL;
	size = (int64_t)malloc_usable_size(p);
	bytes = atomic_fetch_add(&limits.bytes, size) + size;
	if (atomic_load(&limits.noted)) {
		n = atomic_fetch_add(&shared->levels, 1);
		check(n < LEVELS);
		shared->level[n] = bytes - atomic_load(&limits.start);
	}
	return p;
}

void *malloc(size_t size)
{
	return may_take(size) ? took(__libc_malloc(size)) : NULL;
}

void *calloc(size_t count, size_t size)
{
	return may_take(count * size) ? took(__libc_calloc(count, size)) : NULL;
}

void *realloc(void *old, size_t size)
{
	size_t had = old ? malloc_usable_size(old) : 0;
	void *p;

	if (!may_take(size))
		return NULL;
	p = __libc_realloc(old, size);
	if (p == NULL)
		return NULL;
	atomic_fetch_sub(&limits.bytes, (int64_t)had);
	return took(p);
}

void *memalign(size_t align, size_t size)
{
	return may_take(size) ? took(__libc_memalign(align, size)) : NULL;
}

void *aligned_alloc(size_t align, size_t size)
{
	return memalign(align, size);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
	*ret = memalign(align, size);
	return *ret ? 0 : ENOMEM;
}

void free(void *p)
{
	if (p != NULL)
		atomic_fetch_sub(&limits.bytes, (int64_t)malloc_usable_size(p));
	__libc_free(p);
}

#endif

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef int join_fn(pthread_t, void **);

/* A sanitizer's, that is linked into the program. */
create_fn __interceptor_pthread_create __attribute__((weak));
join_fn __interceptor_pthread_join __attribute__((weak));
static create_fn *real_create;
static join_fn *real_join;

static __attribute__((constructor)) void find_real(void)
{
	void *create = dlsym(RTLD_NEXT, "pthread_create"), *join = dlsym(RTLD_NEXT, "pthread_join");

	memcpy(&real_create, &create, sizeof(create));
	memcpy(&real_join, &join, sizeof(join));
	if (__interceptor_pthread_create)
		real_create = __interceptor_pthread_create;
	if (__interceptor_pthread_join)
		real_join = __interceptor_pthread_join;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	int64_t max = atomic_load(&limits.max_threads);
	int err = EAGAIN;

	if (max < 0 || atomic_load(&limits.threads) < max)
		err = real_create(thread, attr, fn, arg);
	else
		atomic_fetch_add(&limits.refused, 1);
	if (err == 0)
		atomic_fetch_add(&limits.threads, 1);
	return err;
}

int pthread_join(pthread_t thread, void **ret)
{
	int err = real_join(thread, ret);

	if (err == 0)
		atomic_fetch_sub(&limits.threads, 1);
	return err;
}

/* ---- Runs ------------------------------------------------------------------------------- */

/* What a run has to do with; negative: no limit. */
struct limit {
	int64_t bytes;   /* above those at the start */
	int64_t threads; /* of this process, but for the first */
	bool note;       /* the levels, without limits */
};

static const struct limit unlimited = { -1, -1, false };

static void limit_set(struct limit l)
{
	int64_t bytes = atomic_load(&limits.bytes);

	atomic_store(&limits.start, bytes);
	atomic_store(&limits.refused, 0);
	atomic_store(&limits.noted, l.note);
	atomic_store(&limits.max_threads, l.threads);
	atomic_store(&limits.max_bytes, l.bytes < 0 ? -1 : bytes + l.bytes);
}

/* After the call that was limited by @l and answered @err: one of two, and one of them for a reason only. */
static void limit_lift(struct limit l, int err)
{
	uint64_t refused = atomic_load(&limits.refused);

	limit_set(unlimited);
	check(err == KVS_OK || err == KVS_ERR_NO_MEMORY);
	check(err == KVS_OK || refused > 0);
	if (l.threads >= 0)
		check_status(err, KVS_ERR_NO_MEMORY);
	atomic_fetch_add(&shared->limited, refused > 0);
	atomic_fetch_add(&shared->refused, refused);
	atomic_fetch_add(&shared->answered, err != KVS_OK);
}

#define TOGETHER 6u /* most of a run is waiting */

static void run_these(void (*fn)(struct limit l), const struct limit *l, size_t count)
{
#ifdef KVS_TSAN /* which can start no thread in a child */
	for (size_t i = 0; i < count; i++)
		fn(l[i]);
#else
	pid_t pids[TOGETHER];

	for (size_t i = 0; i < count; i++) {
		pids[i] = util_fork();
		if (pids[i] == 0) {
			fn(l[i]);
			util_child_done();
		}
	}
	for (size_t i = 0; i < count; i++)
		check_child(pids[i]);
#endif
}

/* Once as it is, then with too little for each of its allocations, and with 0, 1, ... @threads - 1 threads, which is too few. */
static void run_all(void (*fn)(struct limit l), uint64_t threads)
{
	struct limit list[LEVELS + 8], note = { -1, -1, true };
	uint64_t n = 0;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	check(shared != MAP_FAILED);
	run_these(fn, &note, 1);
	for (uint64_t i = 0; i < atomic_load(&shared->levels); i++)
		list[n++] = (struct limit){ shared->level[i] - 1, -1, false };
	for (uint64_t i = 0; i < threads; i++)
		list[n++] = (struct limit){ -1, (int64_t)i, false };
	for (uint64_t i = 0; i < n; i += TOGETHER)
		run_these(fn, &list[i], n - i < TOGETHER ? n - i : TOGETHER);
	util_note(
		"%llu allocations; %llu runs with a limit: in %llu something was refused, %llu times; %llu "
		"answered NO_MEMORY",
		(unsigned long long)atomic_load(&shared->levels), (unsigned long long)n,
		(unsigned long long)atomic_load(&shared->limited),
		(unsigned long long)atomic_load(&shared->refused),
		(unsigned long long)atomic_load(&shared->answered));
#if LIMIT_BYTES
	check(atomic_load(&shared->levels) >= 10);
#endif
	check(atomic_load(&shared->limited) >= n / 2);
	check(atomic_load(&shared->answered) >= threads + (LIMIT_BYTES ? 8 : 0));
	munmap(shared, sizeof(*shared));
}

/* ---- What is run ------------------------------------------------------------------------ */

#define KEYS 300u

static void fill(struct kvs *kv)
{
	for (uint64_t k = 0; k < KEYS; k++)
		set_pattern(kv, k, 30, k);
	for (uint64_t k = 0; k < KEYS; k++)
		set_pattern(kv, k, 40, k); /* more than one batch */
}

static bool has_threads(const struct kvs *kv)
{
	check(kvs__rcu_worker_runs(&kv->reclaim.worker) == kv->maintainer.runs);
	return kv->maintainer.runs;
}

/* Writes, and everything that waits. */
static void use_all(struct kvs *kv)
{
	char room[KEY_ROOM];

	fill(kv);
	for (uint64_t k = 0; k < KEYS; k++)
		check_ok(kvs_delete(kv, make_key(room, k), NULL));
	if (!has_threads(kv))
		for (int i = 0; i < 3; i++)
			check_ok(kvs_run(kv, 0, 0, NULL));
	check_ok(kvs_drain(kv));
	check_u64(store_stats(kv).bytes_deferred, 0);
	check(kvs__reclaim_is_idle(&kv->reclaim)); /* neither too few nor too many were freed */
	fill(kv);
	check_ok(kvs_clear(kv));
	check_u64(store_len(kv), 0);
}

static void open_limited(struct limit l)
{
	struct kvs *kv;
	int err;

	limit_set(l);
	err = kvs_open(NULL, &kv);
	limit_lift(l, err);
	if (err)
		kv = open_default(); /* now that there is enough */
	check(has_threads(kv));
	use_all(kv);
	close_store(kv);
}

static void test_open_without_memory_or_threads(void **state)
{
	(void)state;
	run_all(open_limited, 2);
}

/* The thread sanitizer does not follow a child that starts threads. */
#ifndef KVS_TSAN

static void check_filled(struct kvs *kv)
{
	for (uint64_t k = 0; k < KEYS; k++)
		check_pattern(kv, k, 40, k);
}

struct family {
	struct kvs *kv, *alone;  /* with threads, and without */
	struct rcu_head head[8]; /* the program's own callbacks */
};

static _Atomic uint64_t called;

static void count_call(struct rcu_head *head)
{
	(void)head;
	atomic_fetch_add(&called, 1);
}

static void close_family(struct family *f)
{
	check_ok(kvs_free(f->kv));
	check_ok(kvs_free(f->alone));
}

/* In a child of a child, with memory there again. */
static void fork_again(struct family *f)
{
	pid_t pid;

	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0) {
		check_ok(kvs_fork_child());
		check(has_threads(f->kv) && !has_threads(f->alone));
		check_filled(f->kv);
		use_all(f->kv);
		use_all(f->alone);
		urcu_bp_barrier();
		check_u64(atomic_load(&called), ARRAY_LEN(f->head));
		close_family(f);
		util_child_done();
	}
	kvs_fork_parent();
	check_child(pid);
}

/* The program's callbacks that were queued at the fork run when there is a worker for them. */
static void open_another(struct family *f)
{
	struct kvs *kv = open_default();

	check(has_threads(kv));
	use_all(kv);
	urcu_bp_barrier();
	check_u64(atomic_load(&called), ARRAY_LEN(f->head));
	close_store(kv);
}

static void child_limited(struct family *f, struct limit l)
{
	int err;

	atomic_store(&limits.threads, 0); /* they are not here */
	limit_set(l);
	err = kvs_fork_child();
	check_filled(f->kv); /* reads need nothing */
	check_filled(f->alone);
	limit_lift(l, err);
	check(has_threads(f->kv) == (err == KVS_OK) && !has_threads(f->alone));
	fork_again(f);
	use_all(f->kv);
	use_all(f->alone);
	open_another(f);
	fill(f->kv);
	fork_again(f);
	close_family(f);
	util_child_done();
}

static void fork_limited(struct limit l)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct family f = { .kv = open_default() };
	pid_t pid;

	opts.flags = KVS_OPEN_NO_THREADS;
	check_ok(kvs_open(&opts, &f.alone));
	for (size_t i = 0; i < ARRAY_LEN(f.head); i++)
		urcu_bp_call_rcu(&f.head[i], count_call);
	fill(f.alone);
	fill(f.kv);
	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0)
		child_limited(&f, l);
	kvs_fork_parent();
	check_child(pid);
	check_filled(f.kv);
	use_all(f.kv);
	use_all(f.alone);
	close_family(&f);
}

static void test_child_without_memory_or_threads(void **state)
{
	(void)state;
	run_all(fork_limited, 3);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_without_memory_or_threads),
#ifndef KVS_TSAN
		cmocka_unit_test(test_child_without_memory_or_threads),
#endif
	};

	return util_main("host_limits", tests, ARRAY_LEN(tests));
}
