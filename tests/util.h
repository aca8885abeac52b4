/* SPDX-License-Identifier: MIT */
/*
 * util.h - what every test program here shares: checks that also work on helper threads and in
 * forked children, a seeded generator, a scale, threads that start together, a counting
 * allocator, and a watchdog that turns a hang into a failure with a name.
 *
 * Environment: KVS_TEST_SEED     a number; else random. It is printed: run again with it.
 *              KVS_TEST_SCALE    small (valgrind), ci (default) or long.
 *              KVS_TEST_TIMEOUT  seconds a single test may take; 0: no watchdog.
 *
 * A test never sleeps and never depends on how fast anything is. What is done by other threads is
 * waited for with kvs_drain() or a loop round it; a wait that never ends is the watchdog's.
 */
#ifndef KVS_TESTS_UTIL_H
#define KVS_TESTS_UTIL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <pthread.h>
#include <stdlib.h>
#include <cmocka.h>

#include "compiler.h"
#include "kvs.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* ---- Checks: usable on any thread ------------------------------------------------------- */

/* Fail unless @cond holds. */
#define check(cond) ((cond) ? (void)0 : util_fail(__FILE__, __LINE__, "%s", #cond))

/* Fail unless a call answers @want; both are printed by name. */
#define check_status(call, want) util_check_status((call), (want), #call, __FILE__, __LINE__)
#define check_ok(call) check_status(call, KVS_OK)

/* Fail unless two numbers are equal; both are printed. */
#define check_u64(got, want) util_check_u64((got), (want), #got, __FILE__, __LINE__)

/* Fail unless the @len bytes at @got and @want are the same. */
#define check_bytes(got, want, len) check((len) == 0 || memcmp((got), (want), (len)) == 0)

/*
 * util_fail - Fail the test: on the main thread the test ends, on another the program ("Bail
 * out!"), in a child of util_fork() the child, with exit code 1.
 */
void util_fail(const char *file, int line, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

void util_check_status(int got, int want, const char *what, const char *file, int line);
void util_check_u64(uint64_t got, uint64_t want, const char *what, const char *file, int line);

/* util_note - A TAP comment. */
void util_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- Running ---------------------------------------------------------------------------- */

/* util_main - Run @tests as the program's one group, under the watchdog. Returns main's value. */
int util_main(const char *program, const struct CMUnitTest *tests, size_t count);

/* util_context - Say where in its work the test is, for failures and hangs. NULL: nowhere. */
void util_context(const char *text);

/* util_scaled - One of three numbers, by KVS_TEST_SCALE. */
size_t util_scaled(size_t small, size_t ci, size_t longer);

/* util_scaled_full - One of four: what is too much for every change has a scale between ci and long. */
size_t util_scaled_full(size_t small, size_t ci, size_t full, size_t longer);

/* ---- Random numbers --------------------------------------------------------------------- */

struct rng {
	uint64_t state;
};

/* rng_init - A generator for stream @stream of the run's seed; print the seed once. */
void rng_init(struct rng *r, uint64_t stream);
uint64_t rng_next(struct rng *r);

/* rng_below - In [0, @n); n is not 0. */
uint64_t rng_below(struct rng *r, uint64_t n);

/* ---- Keys and values -------------------------------------------------------------------- */

#define KEY_ROOM 32

/* make_key - The key "key-0000042" for 42, in @room. */
struct kvs_slice make_key(char room[KEY_ROOM], uint64_t number);

/* key_number - The inverse of make_key; fails the test for any other key. */
uint64_t key_number(struct kvs_slice key);

/* Bytes that depend on @tag and on where they lie. */
void pattern_fill(void *to, size_t len, uint64_t tag);
bool pattern_matches(const void *bytes, size_t len, uint64_t tag);

/* set_pattern, check_pattern - Set key @number to a pattern; fail unless it has that pattern. */
void set_pattern(struct kvs *kv, uint64_t number, size_t len, uint64_t tag);
void check_pattern(struct kvs *kv, uint64_t number, size_t len, uint64_t tag);

/* key_present - Whether key @number is there; any other answer fails the test. */
bool key_present(struct kvs *kv, uint64_t number);

/* store_len, store_stats - As kvs_len and kvs_stats, for calls that must not fail. */
uint64_t store_len(struct kvs *kv);
struct kvs_stats store_stats(struct kvs *kv);

/* ---- Threads and processes -------------------------------------------------------------- */

typedef void (*crew_fn)(size_t index, void *arg);

/* Threads that all start at once. */
struct crew {
	pthread_t *threads;
	struct crew_member *members;
	pthread_barrier_t start;
	size_t count;
};

void crew_start(struct crew *crew, size_t count, crew_fn fn, void *arg);
void crew_join(struct crew *crew);

/* run_threads - crew_start and crew_join. */
void run_threads(size_t count, crew_fn fn, void *arg);

/*
 * The address sanitizer's allocator holds no lock of its own across fork(): a child that allocates hangs
 * if another thread was in it. There, what a thread does between util_step_begin() and util_step_end()
 * is never met by a fork made between util_steps_hold() and util_steps_resume(). In all other builds
 * the four do nothing, and a fork meets the threads anywhere.
 */
void util_step_begin(void);
void util_step_end(void);
void util_steps_hold(void);
void util_steps_resume(void);

/* util_fork - fork(); in the child failed checks make it exit with code 1, and a watchdog runs. */
pid_t util_fork(void);

/* util_child_done - End the child well. */
void util_child_done(void) __attribute__((noreturn));

/* check_child - Wait for @pid; fail unless it ended by util_child_done(). */
void check_child(pid_t pid);

/* ---- A counting allocator --------------------------------------------------------------- */

/*
 * Checks that free gets the size alloc got, poisons what is freed, counts, and fails on demand.
 * fail_in: this many calls succeed, the next fails; then none (fail_on) or all of them do.
 */
struct counting {
	struct kvs_allocator hooks; /* for kvs_options.allocator */
	_Atomic uint64_t live_bytes;
	_Atomic uint64_t live_blocks;
	_Atomic uint64_t calls;
	_Atomic uint64_t failures;
	_Atomic int64_t fail_in; /* negative: never */
	_Atomic bool fail_on;
};

/* counting_init - @with_zalloc: whether the optional hook is there too. */
void counting_init(struct counting *c, bool with_zalloc);
void counting_fail(struct counting *c, int64_t fail_in, bool fail_on);
void counting_fail_never(struct counting *c);

#endif /* KVS_TESTS_UTIL_H */
