/* SPDX-License-Identifier: MIT */
/*
 * test_host_fork.c - fork while other threads do all they can to be in the way.
 *
 * Two stores. Threads write, so that batches are queued and the tables grow and shrink; others
 * make their first call inside a section, again and again; one waits for grace periods of its
 * own. Meanwhile the program forks, with the three calls and without them. A child with them does
 * everything, one without reads and ends.
 */
#include "configs.h"

#include <unistd.h>
#include <urcu/urcu-bp.h>

#include "host.h"

#define STABLE 200u
#define CHURN_FIRST 1000u

struct load {
	struct kvs *a, *b;
	_Atomic bool stop;
	_Atomic uint64_t writes, first_calls, grace_periods;
};

static void write_some(struct load *l, struct rng *r)
{
	char room[KEY_ROOM];

	while (!atomic_load(&l->stop)) {
		struct kvs *kv = rng_below(r, 2) ? l->a : l->b;
		uint64_t first = CHURN_FIRST + 1000 * rng_below(r, 2);

		util_step_begin();
		for (uint64_t i = 0; i < 300; i++)
			set_pattern(kv, first + i, 30, i);
		for (uint64_t i = 0; i < 300; i++)
			(void)kvs_delete(kv, make_key(room, first + i), NULL);
		util_step_end();
		atomic_fetch_add(&l->writes, 600);
	}
}

/* A thread's end may have to wait for a fork, so many that have not begun must be ready. */
#define BEGINNERS 24u

struct beginner {
	struct load *load;
	unsigned patience; /* turns to let pass before the first call */
};

static void *first_call(void *arg)
{
	struct beginner *b = arg;
	struct load *l = b->load;
	char room[KEY_ROOM];
	struct kvs_value v;

	for (unsigned i = 0; i < b->patience; i++)
		sched_yield();
	kvs_read_begin(l->a);
	for (unsigned i = 0; i < 8; i++)
		sched_yield(); /* a fork may come while the section is open */
	check_ok(kvs_borrow(l->a, make_key(room, 1), &v));
	set_pattern(l->b, STABLE + 7, 20, 1);
	kvs_read_end(l->a);
	return NULL;
}

static void call_first(struct load *l)
{
	while (!atomic_load(&l->stop)) {
		struct beginner beginner[BEGINNERS];
		pthread_t thread[BEGINNERS];

		util_step_begin();
		for (unsigned i = 0; i < BEGINNERS; i++) {
			beginner[i] = (struct beginner){ l, 40 * i };
			check(pthread_create(&thread[i], NULL, first_call, &beginner[i]) == 0);
		}
		for (unsigned i = 0; i < BEGINNERS; i++)
			check(pthread_join(thread[i], NULL) == 0);
		util_step_end();
		atomic_fetch_add(&l->first_calls, BEGINNERS);
	}
}

static void wait_for_readers(struct load *l)
{
	while (!atomic_load(&l->stop)) {
		urcu_bp_synchronize_rcu();
		atomic_fetch_add(&l->grace_periods, 1);
	}
}

static void member(size_t index, void *arg)
{
	struct rng r;

	rng_init(&r, index);
	if (index < 2)
		write_some(arg, &r);
	else if (index < 4)
		call_first(arg);
	else
		wait_for_readers(arg);
}

static void check_stable(struct kvs *kv)
{
	for (uint64_t k = 0; k < STABLE; k++)
		check_pattern(kv, k, k % 70, k);
}

static int see_once(const struct kvs_item *item, void *arg)
{
	unsigned char *seen = arg;
	uint64_t k = key_number(item->key);

	if (k < STABLE)
		check(seen[k]++ == 0);
	return 0;
}

static void use_all(struct kvs *kv)
{
	unsigned char seen[STABLE] = { 0 };
	char room[KEY_ROOM];

	check_ok(kvs_foreach(kv, see_once, seen));
	for (uint64_t k = 0; k < STABLE; k++)
		check(seen[k] == 1);
	for (uint64_t k = 5000; k < 5500; k++)
		set_pattern(kv, k, 20, k);
	for (uint64_t k = 5000; k < 5500; k++)
		check_ok(kvs_delete(kv, make_key(room, k), NULL));
	check_ok(kvs_drain(kv));
	check_ok(kvs_clear(kv));
	check_u64(store_len(kv), 0);
}

static void child(struct load *l, bool bracketed)
{
	struct load again = { .a = l->a, .b = l->b };

	check_stable(l->a);
	check_stable(l->b);
	if (!bracketed)
		util_child_done();
	(void)first_call(&(struct beginner){ &again, 0 });
	use_all(l->a);
	use_all(l->b);
	check_ok(kvs_free(l->a));
	check_ok(kvs_free(l->b));
	util_child_done();
}

static void fork_once(struct load *l, bool bracketed)
{
	pid_t pid;

	if (bracketed) {
		util_steps_hold(); /* its child allocates */
		check_ok(kvs_fork_before());
	}
	pid = util_fork();
	if (pid == 0) {
#ifdef KVS_TSAN
		bracketed = false; /* the sanitizer can start no thread in a child: it only reads */
#endif
		if (bracketed)
			check_ok(kvs_fork_child());
		child(l, bracketed);
	}
	if (bracketed) {
		kvs_fork_parent();
		util_steps_resume();
	}
	check_child(pid);
	check_stable(l->a);
}

static void test_fork_under_load(void **state)
{
	size_t forks = util_scaled(2, 12, 1000), tasks = count_threads_at_rest();
	struct load l = { .a = open_default() };
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct counting *mem = malloc(sizeof(*mem));
	struct crew crew;

	(void)state;
	check(mem != NULL);
	counting_init(mem, true);
	opts.shards = 1;
	opts.allocator = &mem->hooks;
	check_ok(kvs_open(&opts, &l.b));
	for (uint64_t k = 0; k < STABLE; k++) {
		set_pattern(l.a, k, k % 70, k);
		set_pattern(l.b, k, k % 70, k);
	}
	crew_start(&crew, 5, member, &l);
	for (size_t i = 0; i < forks; i++) {
		fork_once(&l, true);
		fork_once(&l, false);
	}
	while (atomic_load(&l.writes) < 1000 || atomic_load(&l.first_calls) < forks)
		sched_yield();
	atomic_store(&l.stop, true);
	crew_join(&crew);
	util_note(
		"%zu forks with the three calls and %zu without, beside %llu writes, %llu first calls "
		"in sections, %llu grace periods of the program's",
		forks, forks, (unsigned long long)atomic_load(&l.writes),
		(unsigned long long)atomic_load(&l.first_calls),
		(unsigned long long)atomic_load(&l.grace_periods));
	use_all(l.a);
	close_store(l.a);
	close_store(l.b);
	check_u64(atomic_load(&mem->live_blocks), 0);
	wait_for_threads(tasks);
	free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fork_under_load),
	};

	return util_main("host_fork", tests, ARRAY_LEN(tests));
}
