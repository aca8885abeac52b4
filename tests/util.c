/* SPDX-License-Identifier: MIT */
/* util.c - see util.h. */
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif

enum place { PLACE_MAIN, PLACE_THREAD, PLACE_CHILD };

static _Thread_local enum place place = PLACE_MAIN;
static const char *_Atomic running_test;
static const char *_Atomic running_context;

/* ---- Checks ----------------------------------------------------------------------------- */

static void __attribute__((format(printf, 3, 0)))
print_failure(const char *file, int line, const char *format, va_list args)
{
	const char *test = atomic_load(&running_test);
	const char *context = atomic_load(&running_context);

	fflush(stdout);
	fprintf(stderr, "# %s:%d: in %s%s%s: ", file, line, test ? test : "(no test)",
		context ? ", " : "", context ? context : "");
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void util_fail(const char *file, int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_failure(file, line, format, args);
	va_end(args);
	if (place == PLACE_CHILD)
		_exit(1);
	if (place == PLACE_THREAD) {
		printf("Bail out! a check failed on a helper thread\n");
		fflush(stdout);
		_exit(1);
	}
	_fail(file, line);
	abort(); /* not reached: _fail() jumps */
}

void util_check_status(int got, int want, const char *what, const char *file, int line)
{
	if (got == want)
		return;
	util_fail(file, line, "%s answered %s (%d), wanted %s", what, kvs_errname(got), got,
		  kvs_errname(want));
}

void util_check_u64(uint64_t got, uint64_t want, const char *what, const char *file, int line)
{
	if (got == want)
		return;
	util_fail(file, line, "%s is %llu, wanted %llu", what, (unsigned long long)got,
		  (unsigned long long)want);
}

void util_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	va_end(args);
}

/* ---- Running ---------------------------------------------------------------------------- */

static unsigned int timeout_seconds(void)
{
	const char *text = getenv("KVS_TEST_TIMEOUT");

	if (text != NULL)
		return (unsigned int)strtoul(text, NULL, 10);
	return (unsigned int)util_scaled(600, 240, 3600);
}

static void write_text(const char *text)
{
	ssize_t ignored = write(STDOUT_FILENO, text, strlen(text));

	(void)ignored;
}

static void on_alarm(int signal_number)
{
	const char *test = atomic_load(&running_test);
	const char *context = atomic_load(&running_context);

	(void)signal_number;
	write_text("\nBail out! the test hangs: ");
	write_text(test ? test : "(no test)");
	write_text(context ? ", " : "");
	write_text(context ? context : "");
	write_text("\n");
	abort();
}

static int start_watchdog(void **state)
{
	atomic_store(&running_test, *state);
	atomic_store(&running_context, NULL);
	alarm(timeout_seconds());
	return 0;
}

static int stop_watchdog(void **state)
{
	(void)state;
	alarm(0);
	atomic_store(&running_test, NULL);
	return 0;
}

int util_main(const char *program, const struct CMUnitTest *tests, size_t count)
{
	struct CMUnitTest *watched = calloc(count, sizeof(*watched));
	int failures;

	if (watched == NULL)
		return 99;
	for (size_t i = 0; i < count; i++) {
		watched[i] = tests[i];
		watched[i].setup_func = start_watchdog;
		watched[i].teardown_func = stop_watchdog;
		watched[i].initial_state = (void *)(uintptr_t)tests[i].name;
	}
	signal(SIGALRM, on_alarm);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failures = _cmocka_run_group_tests(program, watched, count, NULL, NULL);
	free(watched);
	return failures != 0;
}

void util_context(const char *text)
{
	atomic_store(&running_context, text);
}

static bool scale_is(const char *name)
{
	const char *scale = getenv("KVS_TEST_SCALE");

	return scale != NULL && strcmp(scale, name) == 0;
}

size_t util_scaled(size_t small, size_t ci, size_t longer)
{
	return util_scaled_full(small, ci, ci, longer);
}

size_t util_scaled_full(size_t small, size_t ci, size_t full, size_t longer)
{
	if (scale_is("small"))
		return small;
	if (scale_is("full"))
		return full;
	return scale_is("long") ? longer : ci;
}

/* ---- Random numbers --------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ (x >> 33);
}

static uint64_t run_seed;
static pthread_once_t run_seed_once = PTHREAD_ONCE_INIT;

static void choose_seed(void)
{
	const char *text = getenv("KVS_TEST_SEED");

	if (text != NULL)
		run_seed = strtoull(text, NULL, 0);
	else if (getrandom(&run_seed, sizeof(run_seed), 0) != (ssize_t)sizeof(run_seed))
		run_seed = 1;
	util_note("KVS_TEST_SEED=%llu", (unsigned long long)run_seed);
}

void rng_init(struct rng *r, uint64_t stream)
{
	pthread_once(&run_seed_once, choose_seed);
	r->state = mix(run_seed ^ mix(stream + 1));
}

uint64_t rng_next(struct rng *r)
{
	r->state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(r->state);
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

/* ---- Keys and values -------------------------------------------------------------------- */

struct kvs_slice make_key(char room[KEY_ROOM], uint64_t number)
{
	char digits[21];
	size_t count = 0, len = 4;

	do
		digits[count++] = (char)('0' + number % 10);
	while ((number /= 10) != 0 || count < 7);
	memcpy(room, "key-", 4);
	while (count > 0)
		room[len++] = digits[--count];
	room[len] = '\0';
	return kvs_bytes(room, len);
}

uint64_t key_number(struct kvs_slice key)
{
	char room[KEY_ROOM] = { 0 };

	check(key.len > 4 && key.len < sizeof(room) && memcmp(key.data, "key-", 4) == 0);
	memcpy(room, key.data, key.len);
	return strtoull(room + 4, NULL, 10);
}

static uint64_t pattern_word(uint64_t tag, size_t at)
{
	return tag * UINT64_C(0xd6e8feb86659fd93) + at * UINT64_C(0x9e3779b97f4a7c15);
}

void pattern_fill(void *to, size_t len, uint64_t tag)
{
	unsigned char *p = to;

	for (size_t at = 0; at < len; at += 8) {
		uint64_t word = pattern_word(tag, at);

		memcpy(p + at, &word, len - at < 8 ? len - at : 8);
	}
}

bool pattern_matches(const void *bytes, size_t len, uint64_t tag)
{
	const unsigned char *p = bytes;

	for (size_t at = 0; at < len; at += 8) {
		uint64_t word = pattern_word(tag, at);

		if (memcmp(p + at, &word, len - at < 8 ? len - at : 8) != 0)
			return false;
	}
	return true;
}

void set_pattern(struct kvs *kv, uint64_t number, size_t len, uint64_t tag)
{
	char room[KEY_ROOM];
	unsigned char small[256];
	unsigned char *value = len <= sizeof(small) ? small : malloc(len);

	check(value != NULL);
	pattern_fill(value, len, tag);
	check_ok(kvs_set(kv, make_key(room, number), kvs_bytes(value, len), NULL));
	if (value != small)
		free(value);
}

void check_pattern(struct kvs *kv, uint64_t number, size_t len, uint64_t tag)
{
	char room[KEY_ROOM];
	struct kvs_value got;

	kvs_read_begin(kv);
	check_ok(kvs_borrow(kv, make_key(room, number), &got));
	check_u64(got.len, len);
	check(pattern_matches(got.data, len, tag));
	kvs_read_end(kv);
}

bool key_present(struct kvs *kv, uint64_t number)
{
	char room[KEY_ROOM];
	int err = kvs_exists(kv, make_key(room, number));

	if (err != KVS_ERR_NOT_FOUND)
		check_ok(err);
	return err == KVS_OK;
}

uint64_t store_len(struct kvs *kv)
{
	uint64_t len = UINT64_MAX;

	check_ok(kvs_len(kv, &len));
	return len;
}

struct kvs_stats store_stats(struct kvs *kv)
{
	struct kvs_stats stats = { .size = sizeof(stats) };

	check_ok(kvs_stats(kv, &stats));
	return stats;
}

/* ---- Threads and processes -------------------------------------------------------------- */

struct crew_member {
	struct crew *crew;
	crew_fn fn;
	void *arg;
	size_t index;
};

static void *crew_run(void *arg)
{
	struct crew_member *m = arg;

	place = PLACE_THREAD;
	pthread_barrier_wait(&m->crew->start);
	m->fn(m->index, m->arg);
	return NULL;
}

void crew_start(struct crew *crew, size_t count, crew_fn fn, void *arg)
{
	crew->count = count;
	crew->threads = calloc(count, sizeof(*crew->threads));
	crew->members = calloc(count, sizeof(*crew->members));
	check(crew->threads != NULL && crew->members != NULL);
	check(pthread_barrier_init(&crew->start, NULL, (unsigned int)count + 1) == 0);
	for (size_t i = 0; i < count; i++) {
		crew->members[i] = (struct crew_member){ crew, fn, arg, i };
		check(pthread_create(&crew->threads[i], NULL, crew_run, &crew->members[i]) == 0);
	}
	pthread_barrier_wait(&crew->start); /* nobody is still being made when this returns */
}

void crew_join(struct crew *crew)
{
	for (size_t i = 0; i < crew->count; i++)
		check(pthread_join(crew->threads[i], NULL) == 0);
	pthread_barrier_destroy(&crew->start);
	free(crew->threads);
	free(crew->members);
}

void run_threads(size_t count, crew_fn fn, void *arg)
{
	struct crew crew;

	crew_start(&crew, count, fn, arg);
	crew_join(&crew);
}

#ifdef KVS_ASAN

/* Taken first, so that steps do not starve a fork. */
static pthread_mutex_t next_step = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t steps = PTHREAD_RWLOCK_INITIALIZER;

void util_step_begin(void)
{
	pthread_mutex_lock(&next_step);
	pthread_rwlock_rdlock(&steps);
	pthread_mutex_unlock(&next_step);
}

void util_step_end(void)
{
	pthread_rwlock_unlock(&steps);
}

void util_steps_hold(void)
{
	pthread_mutex_lock(&next_step);
	pthread_rwlock_wrlock(&steps);
}

void util_steps_resume(void)
{
	pthread_rwlock_unlock(&steps);
	pthread_mutex_unlock(&next_step);
}

/* In a child nobody is in a step. */
static void forget_steps(void)
{
	next_step = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	steps = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER;
}

#else

void util_step_begin(void)
{
}

void util_step_end(void)
{
}

void util_steps_hold(void)
{
}

void util_steps_resume(void)
{
}

static void forget_steps(void)
{
}

#endif

/* A child's copy of what the parent's other threads had is nobody's: no leak of the library's. */
static void forget_leaks(void)
{
#ifdef VALGRIND_CLO_CHANGE
	VALGRIND_CLO_CHANGE("--leak-check=no");
#endif
}

pid_t util_fork(void)
{
	pid_t pid;

	fflush(stdout);
	fflush(stderr);
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		place = PLACE_CHILD;
		alarm(timeout_seconds());
		forget_steps();
		forget_leaks();
	}
	return pid;
}

void util_child_done(void)
{
	_exit(42);
}

void check_child(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0)
		check(errno == EINTR);
	if (WIFSIGNALED(status))
		util_fail(__FILE__, __LINE__, "the child died of signal %d", WTERMSIG(status));
	check_u64((uint64_t)WEXITSTATUS(status), 42);
}

/* ---- A counting allocator --------------------------------------------------------------- */

struct block {
	_Alignas(16) size_t size;
	uint64_t magic;
};

#define MAGIC_LIVE UINT64_C(0x6c6976652d6c6976)
#define MAGIC_FREE UINT64_C(0x667265652d667265)

static bool must_fail(struct counting *c)
{
	int64_t left = atomic_load(&c->fail_in);

	if (left < 0)
		return false;
	if (left == 0 && atomic_load(&c->fail_on))
		return true;
	return atomic_fetch_sub(&c->fail_in, 1) == 0;
}

static void *counting_alloc_raw(struct counting *c, size_t size, int fill)
{
	struct block *b;

	atomic_fetch_add(&c->calls, 1);
	if (must_fail(c)) {
		atomic_fetch_add(&c->failures, 1);
		return NULL;
	}
	b = malloc(sizeof(*b) + size);
	if (b == NULL)
		return NULL;
	b->size = size;
	b->magic = MAGIC_LIVE;
	memset(b + 1, fill, size);
	atomic_fetch_add(&c->live_bytes, size);
	atomic_fetch_add(&c->live_blocks, 1);
	return b + 1;
}

static void *counting_alloc(void *ctx, size_t size)
{
	return counting_alloc_raw(ctx, size, 0xa5);
}

static void *counting_zalloc(void *ctx, size_t size)
{
	return counting_alloc_raw(ctx, size, 0);
}

static void counting_free(void *ctx, void *ptr, size_t size)
{
	struct counting *c = ctx;
	struct block *b;

	if (ptr == NULL)
		return;
	b = (struct block *)ptr - 1;
	if (b->magic != MAGIC_LIVE || b->size != size) {
		fprintf(stderr, "# free(%p, %zu): %s, allocated with size %zu\n", ptr, size,
			b->magic == MAGIC_LIVE ? "wrong size" : "not allocated", b->size);
		printf("Bail out! the allocator hook was misused\n");
		fflush(stdout);
		abort();
	}
	memset(ptr, 0xdd, size);
	b->magic = MAGIC_FREE;
	atomic_fetch_sub(&c->live_bytes, size);
	atomic_fetch_sub(&c->live_blocks, 1);
	free(b);
}

void counting_init(struct counting *c, bool with_zalloc)
{
	memset(c, 0, sizeof(*c));
	c->hooks.alloc = counting_alloc;
	c->hooks.zalloc = with_zalloc ? counting_zalloc : NULL;
	c->hooks.free = counting_free;
	c->hooks.ctx = c;
	counting_fail_never(c);
}

void counting_fail(struct counting *c, int64_t fail_in, bool fail_on)
{
	atomic_store(&c->fail_on, fail_on);
	atomic_store(&c->fail_in, fail_in);
}

void counting_fail_never(struct counting *c)
{
	counting_fail(c, -1, false);
}
