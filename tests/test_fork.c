/* SPDX-License-Identifier: MIT */
/*
 * test_fork.c - between kvs_fork_before and kvs_fork_child a child gets a store that works on;
 * without them it may read and _exit.
 */
#include "configs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define KEYS 300

/* The thread sanitizer does not follow a child that starts threads: no such test there. */
#ifdef KVS_TSAN
#define CHILD_MAY_START_THREADS 0
#else
#define CHILD_MAY_START_THREADS 1
#endif

static char room[KEY_ROOM];

static void fill(struct kvs *kv)
{
	for (uint64_t i = 0; i < KEYS; i++)
		set_pattern(kv, i, i % 60, i);
}

static void check_filled(struct kvs *kv)
{
	for (uint64_t i = 0; i < KEYS; i++)
		check_pattern(kv, i, i % 60, i);
}

/* What is deferred though all was drained. */
static uint64_t lost_bytes(struct kvs *kv)
{
	check_ok(kvs_drain(kv));
	return store_stats(kv).bytes_deferred;
}

/*
 * Everything that a store can do, at the end of which it is empty and drained: but for what a
 * thread that is not in this process had in hand at the fork.
 */
static void use_all(struct kvs *kv)
{
	struct kvs_value old;
	uint64_t version, lost = lost_bytes(kv);

	set_pattern(kv, 1000, 50, 1);
	check_ok(kvs_get_and_set(kv, make_key(room, 1000), kvs_str("x"), &old, &version));
	kvs_value_free(kv, &old);
	check_ok(kvs_compare_and_set(kv, make_key(room, 1000), kvs_str("y"), version, NULL));
	check_ok(kvs_delete(kv, make_key(room, 1000), NULL));
	for (uint64_t i = 2000; i < 8000; i++) /* growth */
		set_pattern(kv, i, 5, i);
	for (uint64_t i = 2000; i < 8000; i++)
		check_ok(kvs_delete(kv, make_key(room, i), NULL));
	check_u64(lost_bytes(kv), lost);
	check_ok(kvs_clear(kv));
	check_u64(store_len(kv), 0);
	check_u64(lost_bytes(kv), lost);
}

static void child_reads(struct fixture *f)
{
	struct kvs_value got;
	char buf[64];
	pid_t pid;

	fill(f->kv);
	pid = util_fork(); /* not bracketed */
	if (pid == 0) {
		check_filled(f->kv);
		check_ok(kvs_get(f->kv, make_key(room, 7), buf, sizeof(buf), &got));
		check(key_present(f->kv, 0) && !key_present(f->kv, KEYS));
		util_child_done();
	}
	check_child(pid);
	use_all(f->kv);
}

static void test_child_without_preparation_may_read(void **state)
{
	(void)state;
	each_config(child_reads);
}

/* As for a child that calls exec: it needs nothing of the library any more. */
static void parent_goes_on(struct fixture *f)
{
	pid_t pid;

	fill(f->kv);
	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0)
		util_child_done();
	kvs_fork_parent();
	check_child(pid);
	check_filled(f->kv);
	use_all(f->kv);
}

static void test_parent_goes_on_after_a_child_that_only_ends(void **state)
{
	(void)state;
	each_config(parent_goes_on);
}

#if CHILD_MAY_START_THREADS

/* fork(), bracketed; in both processes the store can go on. */
static pid_t fork_bracketed(void)
{
	pid_t pid;

	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0)
		check_ok(kvs_fork_child());
	else
		kvs_fork_parent();
	return pid;
}

static void child_goes_on(struct fixture *f)
{
	pid_t pid;

	fill(f->kv);
	pid = fork_bracketed();
	if (pid == 0) {
		check_filled(f->kv);
		check_u64(lost_bytes(f->kv), 0);
		use_all(f->kv);
		fixture_close(f); /* every byte of the copy is given back */
		util_child_done();
	}
	check_filled(f->kv);
	use_all(f->kv);
	check_child(pid);
}

static void test_child_goes_on_using_the_store(void **state)
{
	(void)state;
	each_config(child_goes_on);
}

static void copies(struct fixture *f)
{
	pid_t pid;

	fill(f->kv);
	pid = fork_bracketed();
	if (pid == 0) {
		for (uint64_t i = 0; i < KEYS; i++)
			set_pattern(f->kv, i, 10, i + 1);
		check_ok(kvs_drain(f->kv));
		util_child_done();
	}
	check_child(pid);
	check_filled(f->kv); /* what the child did is the child's */
}

static void test_parent_and_child_are_apart(void **state)
{
	(void)state;
	each_config(copies);
}

static void test_fork_before_inside_a_section_holds_nothing(void **state)
{
	struct kvs *kv = open_default();
	pid_t pid;

	(void)state;
	fill(kv);
	kvs_read_begin(kv);
	check_status(kvs_fork_before(), KVS_ERR_IN_READ_SECTION);
	check_filled(kv);
	kvs_read_end(kv);
	use_all(kv); /* nothing is held: what waits works */
	pid = fork_bracketed();
	if (pid == 0) {
		use_all(kv);
		util_child_done();
	}
	check_child(pid);
	close_store(kv);
}

static void test_fork_without_any_store(void **state)
{
	pid_t pid = fork_bracketed();

	(void)state;
	if (pid == 0) {
		struct kvs *kv = open_default();

		fill(kv);
		use_all(kv);
		close_store(kv);
		util_child_done();
	}
	check_child(pid);
}

static void test_fork_with_several_stores(void **state)
{
	struct kvs *stores[3];
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(stores); i++) {
		stores[i] = open_default();
		fill(stores[i]);
	}
	check_ok(kvs_close(stores[2])); /* one is closed, not yet free */
	pid = fork_bracketed();
	if (pid == 0) {
		use_all(stores[0]);
		use_all(stores[1]);
		check_status(kvs_exists(stores[2], kvs_str("k")), KVS_ERR_STORE_CLOSED);
		check_ok(kvs_free(stores[2]));
		close_store(stores[1]);
		close_store(stores[0]);
		util_child_done();
	}
	check_child(pid);
	for (size_t i = 0; i < ARRAY_LEN(stores); i++)
		check_ok(kvs_free(stores[i]));
}

static void test_grandchildren(void **state)
{
	struct kvs *kv = open_default();
	pid_t child, grandchild;

	(void)state;
	fill(kv);
	child = fork_bracketed();
	if (child == 0) {
		grandchild = fork_bracketed();
		if (grandchild == 0) {
			check_filled(kv);
			use_all(kv);
			close_store(kv);
			util_child_done();
		}
		check_child(grandchild);
		use_all(kv);
		util_child_done();
	}
	check_child(child);
	check_filled(kv);
	close_store(kv);
}

static void member_in_child(size_t index, void *arg)
{
	set_pattern(arg, 5000 + index, 30, index);
	check_pattern(arg, 5000 + index, 30, index);
}

static void test_child_may_start_threads(void **state)
{
	struct kvs *kv = open_default();
	pid_t pid;

	(void)state;
	fill(kv);
	pid = fork_bracketed();
	if (pid == 0) {
		run_threads(4, member_in_child, kv);
		check_u64(store_len(kv), KEYS + 4);
		close_store(kv);
		util_child_done();
	}
	check_child(pid);
	close_store(kv);
}

/* ---- While other threads work ----------------------------------------------------------- */

struct load {
	struct kvs *kv;
	_Atomic bool stop;
};

static void work(size_t index, void *arg)
{
	struct load *l = arg;
	char mine[KEY_ROOM];
	struct rng r;

	rng_init(&r, 700 + index);
	while (!atomic_load(&l->stop)) {
		uint64_t number = 10000 + rng_below(&r, 3000);

		check_pattern(l->kv, number % KEYS, number % KEYS % 60, number % KEYS);
		if (rng_below(&r, 2) == 0)
			set_pattern(l->kv, number, 30, number);
		else
			(void)kvs_delete(l->kv, make_key(mine, number), NULL);
	}
}

static void fork_and_check(struct kvs *kv, bool bracketed)
{
	pid_t pid = bracketed ? fork_bracketed() : util_fork();

	if (pid == 0) {
		check_filled(kv);
		if (bracketed) {
			use_all(kv);
			close_store(kv);
		}
		util_child_done();
	}
	check_child(pid);
	check_filled(kv);
}

static void fork_under_load(struct fixture *f)
{
	struct load l = { .kv = f->kv };
	struct crew crew;

	fill(f->kv);
	crew_start(&crew, 2, work, &l);
	for (size_t i = 0; i < util_scaled(1, 1, 100); i++) {
		fork_and_check(f->kv, true);
		fork_and_check(f->kv, false);
	}
	atomic_store(&l.stop, true);
	crew_join(&crew);
	check_filled(f->kv);
}

static void test_fork_while_threads_work(void **state)
{
	(void)state;
	each_config(fork_under_load);
}

#endif /* CHILD_MAY_START_THREADS */

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_child_without_preparation_may_read),
		cmocka_unit_test(test_parent_goes_on_after_a_child_that_only_ends),
#if CHILD_MAY_START_THREADS
		cmocka_unit_test(test_child_goes_on_using_the_store),
		cmocka_unit_test(test_parent_and_child_are_apart),
		cmocka_unit_test(test_fork_before_inside_a_section_holds_nothing),
		cmocka_unit_test(test_fork_without_any_store),
		cmocka_unit_test(test_fork_with_several_stores),
		cmocka_unit_test(test_grandchildren),
		cmocka_unit_test(test_child_may_start_threads),
		cmocka_unit_test(test_fork_while_threads_work),
#endif
	};

	return util_main("fork", tests, ARRAY_LEN(tests));
}
