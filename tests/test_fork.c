/* SPDX-License-Identifier: MIT */
/*
 * test_fork.c - between kvs_fork_before and kvs_fork_child a child gets a store that works on;
 * without them it may read and _exit.
 */
#include "configs.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

#include "store.h"

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

	util_steps_hold(); /* the child may allocate */
	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0) {
		check_ok(kvs_fork_child());
	} else {
		kvs_fork_parent();
		util_steps_resume();
	}
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
		util_step_begin();
		if (rng_below(&r, 2) == 0)
			set_pattern(l->kv, number, 30, number);
		else
			(void)kvs_delete(l->kv, make_key(mine, number), NULL);
		util_step_end();
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

/* ---- what other threads are about when the process forks ---- */

/* A thread that has made its first call, which a fork that is prepared would hold up, and waits for its word. */
struct other {
	struct kvs *kv;
	void (*fn)(struct kvs *kv, void *arg);
	void *arg;
	pthread_t thread;
	sem_t ready, begin;
};

static void *other_main(void *arg)
{
	struct other *o = arg;

	check_ok(kvs_thread_attach(o->kv));
	sem_post(&o->ready);
	sem_wait(&o->begin);
	o->fn(o->kv, o->arg);
	return NULL;
}

static void other_make(struct other *o)
{
	sem_init(&o->ready, 0, 0);
	sem_init(&o->begin, 0, 0);
	check(pthread_create(&o->thread, NULL, other_main, o) == 0);
	sem_wait(&o->ready);
}

static void other_join(struct other *o)
{
	check(pthread_join(o->thread, NULL) == 0);
	sem_destroy(&o->ready);
	sem_destroy(&o->begin);
}

static void wait_for_admin_waiter(struct kvs *kv)
{
	while (load_seq_cst(&kv->admin_waiters) == 0)
		sched_yield();
}

static void drain(struct kvs *kv, void *arg)
{
	(void)arg;
	check_ok(kvs_drain(kv));
}

/* A first call, which a fork that is prepared holds up. */
static void *set_one(void *arg)
{
	set_pattern(arg, 6000, 20, 1);
	return NULL;
}

/* There is no child: what kvs_fork_before holds, and who waits for it, is let go by kvs_fork_parent all the same. */
static void fork_fails(struct fixture *f)
{
	struct other waiter = { .kv = f->kv, .fn = drain };
	pthread_t beginner;

	fill(f->kv);
	other_make(&waiter);
	for (int i = 0; i < 2; i++) {
		check_ok(kvs_fork_before());
		if (i == 0) {
			sem_post(&waiter.begin);
			wait_for_admin_waiter(f->kv);
			check(pthread_create(&beginner, NULL, set_one, f->kv) == 0);
		}
		kvs_fork_parent();
	}
	other_join(&waiter);
	check(pthread_join(beginner, NULL) == 0);
	check_filled(f->kv);
	check_u64(store_len(f->kv), KEYS + 1);
	parent_goes_on(f);
}

static void test_a_fork_that_fails_leaves_nothing_held(void **state)
{
	(void)state;
	each_config(fork_fails);
}

#if CHILD_MAY_START_THREADS

static struct kvs *open_no_threads(void)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv;

	opts.flags = KVS_OPEN_NO_THREADS;
	check_ok(kvs_open(&opts, &kv));
	return kv;
}

/* A thread of the parent waits for its turn; in the child nobody does, and kvs_run does all its work. */
static void test_a_thread_that_waits_does_not_hold_back_the_child(void **state)
{
	struct kvs *kv = open_no_threads();
	struct other waiter = { .kv = kv, .fn = drain };
	pid_t pid;

	(void)state;
	fill(kv);
	other_make(&waiter);
	check_ok(kvs_fork_before());
	sem_post(&waiter.begin);
	wait_for_admin_waiter(kv);
	pid = util_fork();
	if (pid == 0) {
		check_ok(kvs_fork_child());
		for (uint64_t i = 0; i < KEYS; i++)
			check_ok(kvs_delete(kv, make_key(room, i), NULL));
		check(store_stats(kv).bytes_deferred > 0);
		for (int i = 0; i < 3; i++)
			check_ok(kvs_run(kv, 0, 0, NULL));
		check_u64(store_stats(kv).bytes_deferred, 0);
		close_store(kv);
		util_child_done();
	}
	kvs_fork_parent();
	other_join(&waiter);
	check_child(pid);
	close_store(kv);
}

struct updating {
	sem_t inside, go_on;
};

static int update(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg)
{
	struct updating *u = arg;

	(void)old;
	(void)ret_new;
	sem_post(&u->inside);
	sem_wait(&u->go_on);
	return KVS_UPDATE_KEEP;
}

static void update_slowly(struct kvs *kv, void *arg)
{
	char mine[KEY_ROOM];

	check_ok(kvs_update(kv, make_key(mine, 1), update, arg, NULL));
}

/* A thread of the parent is in the program's function; its slot in the child is the next thread's, which may write. */
static void test_a_thread_in_an_update_leaves_the_child_a_slot(void **state)
{
	struct kvs *kv = open_no_threads();
	struct updating u;
	struct other updater = { .kv = kv, .fn = update_slowly, .arg = &u };
	pid_t pid;

	(void)state;
	fill(kv);
	sem_init(&u.inside, 0, 0);
	sem_init(&u.go_on, 0, 0);
	other_make(&updater);
	check_ok(kvs_fork_before());
	sem_post(&updater.begin);
	sem_wait(&u.inside);
	pid = util_fork();
	if (pid == 0) {
		check_ok(kvs_fork_child());
		run_threads(1, member_in_child, kv);
		close_store(kv);
		util_child_done();
	}
	kvs_fork_parent();
	sem_post(&u.go_on);
	other_join(&updater);
	check_child(pid);
	sem_destroy(&u.inside);
	sem_destroy(&u.go_on);
	close_store(kv);
}

#endif

static void walk_to_the_end(struct kvs *kv, void *arg)
{
	struct kvs_snapshot_part *part;
	struct kvs_item item;

	(void)kv;
	check_ok(kvs_snapshot_part_begin(arg, &part));
	check_status(kvs_snapshot_next(part, &item), KVS_ERR_NOT_FOUND);
	kvs_snapshot_part_end(part);
}

/* The end of a walk waits for a grace period: not between kvs_fork_before and the fork, which would copy it half-way. */
static void test_the_end_of_a_walk_waits_for_a_fork(void **state)
{
	struct kvs *kv = open_default();
	struct other walker = { .kv = kv, .fn = walk_to_the_end };
	struct kvs_snapshot *snapshot;
	pid_t pid;

	(void)state;
	check_ok(kvs_snapshot_begin(kv, NULL, &snapshot));
	walker.arg = snapshot;
	other_make(&walker);
	check_ok(kvs_fork_before());
	sem_post(&walker.begin);
	while (load_seq_cst(&kv->admin_waiters) == 0) {
		check(load_seq_cst(&kv->cut.mode) != KVS__QUIET);
		sched_yield();
	}
	pid = util_fork();
	if (pid == 0)
		util_child_done();
	kvs_fork_parent();
	other_join(&walker);
	check_ok(kvs_snapshot_end(snapshot, NULL));
	check_child(pid);
	close_store(kv);
}

struct closing {
	struct kvs *kv;
	_Atomic bool stalled;
};

/* So the store's thread has a slot, which it leaves at its end. */
static void on_stall(struct kvs *kv, uint64_t age_ms, uint64_t deferred, void *ctx)
{
	struct closing *c = ctx;

	(void)age_ms;
	(void)deferred;
	check(kvs_exists(kv, kvs_str("none")) != KVS_OK); /* NOT_FOUND; later, that it was closed */
	atomic_store(&c->stalled, true);
}

static void *close_it(void *arg)
{
	struct closing *c = arg;

	check_ok(kvs_close(c->kv));
	return NULL;
}

static void *prepare_and_let_go(void *arg)
{
	(void)arg;
	check_ok(kvs_fork_before());
	kvs_fork_parent();
	return NULL;
}

/* kvs_close ends the store's thread, which leaves its slot, for which it needs what kvs_fork_before has taken by then. */
static void test_close_and_fork_do_not_wait_for_each_other(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct closing c = { .stalled = false };
	pthread_t closer, forker;

	(void)state;
	opts.stall_fn = on_stall;
	opts.stall_ctx = &c;
	opts.stall_ms = 1;
	check_ok(kvs_open(&opts, &c.kv));
	fill(c.kv);
	kvs_read_begin(c.kv);
	fill(c.kv); /* something waits for the section */
	while (!atomic_load(&c.stalled))
		sched_yield();
	check(pthread_create(&closer, NULL, close_it, &c) == 0);
	while (load_seq_cst(&c.kv->root))
		sched_yield(); /* it has admin, and waits for the section */
	check(pthread_create(&forker, NULL, prepare_and_let_go, NULL) == 0);
	wait_for_admin_waiter(c.kv); /* it has the list of stores, and waits for admin */
	kvs_read_end(c.kv);
	check(pthread_join(closer, NULL) == 0);
	check(pthread_join(forker, NULL) == 0);
	check_ok(kvs_free(c.kv));
}

struct waiting {
	struct kvs *other;
	struct kvs_snapshot_part *part; /* of a snapshot of it */
	_Atomic bool asked;
};

/* Any of these could be held up by who waits for this thread. */
static void call_what_waits(struct kvs *kv, uint64_t age_ms, uint64_t deferred, void *ctx)
{
	struct waiting *w = ctx;
	struct kvs_snapshot *snapshot;
	struct kvs_item item;
	struct kvs *third;

	(void)age_ms;
	(void)deferred;
	if (atomic_load(&w->asked))
		return; /* by now it may be closed */
	check_status(kvs_clear(kv), KVS_ERR_BUSY);
	check_status(kvs_clear(w->other), KVS_ERR_BUSY);
	check_status(kvs_drain(w->other), KVS_ERR_BUSY);
	check_status(kvs_close(w->other), KVS_ERR_BUSY);
	check_status(kvs_free(w->other), KVS_ERR_BUSY);
	check_status(kvs_snapshot_begin(w->other, NULL, &snapshot), KVS_ERR_BUSY);
	check_status(kvs_snapshot_next(w->part, &item), KVS_ERR_BUSY);
	check_status(kvs_open(NULL, &third), KVS_ERR_BUSY);
	check_status(kvs_fork_before(), KVS_ERR_BUSY);
	set_pattern(w->other, 1, 20, 1);
	check_pattern(w->other, 1, 20, 1);
	atomic_store(&w->asked, true);
}

static void test_a_stall_function_waits_for_no_store(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct waiting w = { .other = open_default() };
	struct kvs_snapshot *snapshot;
	struct kvs *kv;

	(void)state;
	check_ok(kvs_snapshot_begin(w.other, NULL, &snapshot));
	check_ok(kvs_snapshot_part_begin(snapshot, &w.part));
	opts.stall_fn = call_what_waits;
	opts.stall_ctx = &w;
	opts.stall_ms = 1;
	check_ok(kvs_open(&opts, &kv));
	fill(kv);
	kvs_read_begin(kv);
	fill(kv);
	while (!atomic_load(&w.asked))
		sched_yield();
	kvs_read_end(kv);
	close_store(kv);
	kvs_snapshot_part_end(w.part);
	check_ok(kvs_snapshot_end(snapshot, NULL));
	close_store(w.other);
}

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
		cmocka_unit_test(test_a_thread_that_waits_does_not_hold_back_the_child),
		cmocka_unit_test(test_a_thread_in_an_update_leaves_the_child_a_slot),
#endif
		cmocka_unit_test(test_a_fork_that_fails_leaves_nothing_held),
		cmocka_unit_test(test_the_end_of_a_walk_waits_for_a_fork),
		cmocka_unit_test(test_close_and_fork_do_not_wait_for_each_other),
		cmocka_unit_test(test_a_stall_function_waits_for_no_store),
	};

	return util_main("fork", tests, ARRAY_LEN(tests));
}
