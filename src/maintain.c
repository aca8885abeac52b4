/* SPDX-License-Identifier: MIT */
/*
 * maintain.c - the store's thread.
 *
 * SLEEP AND WAKE  The thread sets idle, then looks once more for work; a write stores its work
 * (a batch put back, a size published), then loads idle. Both in seq_cst order, so one of them
 * sees the other (PAIRS(M1)). The post of a semaphore never waits.
 *
 * SHRINK  All tables that are to be halved go through the steps together, so that a pass costs two
 * grace periods, however many tables there are. GP 1: operations that loaded the larger size,
 * and may start from an upper head or be linking one, have ended. GP 2: walkers that stand on a removed
 * head, or were led to one, have ended. Grace periods are waited for through the worker. A reader that
 * stalls in either holds back this thread and those that wait for admin, but not growth.
 */
#include "maintain.h"

#include <errno.h>
#include <time.h>

#define LINK_PIECE 64u    /* heads linked in one read section */
#define LINK_PASS 4096u   /* heads linked before other work gets its turn */
#define SHRINK_PIECE 256u /* heads unlinked in one read section */
#define SHRINK_LOAD 8u    /* shrink below 1/8 key a bucket; growth begins above 1 */

uint64_t kvs__maintain_link(struct kvs__root *root, uint64_t budget)
{
	uint64_t done = 0;
	uint64_t i;

	for (i = 0; i < root->shards && done < budget; i++) {
		uint64_t n;

		do {
			kvs__rcu_read_lock();
			n = kvs__link_heads(&root->table[i], LINK_PIECE);
			kvs__rcu_read_unlock();
			done += n;
		} while (n && done < budget);
	}
	return done;
}

/* ---- shrink ---- */

static bool is_too_large(const struct kvs__table *t)
{
	unsigned bits = kvs__size_bits(load_seq_cst(&t->size));

	/* a count that is below zero for a moment will be seen as small, not as huge */
	return bits > t->bits_min &&
	       (int64_t)load_seq_cst(&t->count) < (int64_t)(((uint64_t)1 << bits) / SHRINK_LOAD);
}

static bool has_flag(const struct kvs__table *t, uint32_t flag)
{
	return (load_seq_cst(&t->size) & flag) != 0;
}

static unsigned begin_all(struct kvs__root *root)
{
	unsigned n = 0;
	uint64_t i;

	for (i = 0; i < root->shards; i++)
		n += is_too_large(&root->table[i]) && kvs__shrink_begin(&root->table[i]);
	return n;
}

static void unlink_upper(struct kvs__table *t)
{
	uint64_t first = 0;
	bool more;

	do {
		kvs__rcu_read_lock();
		more = kvs__unlink_heads(t, first, SHRINK_PIECE);
		kvs__rcu_read_unlock();
		first += SHRINK_PIECE;
	} while (more);
}

static unsigned commit_all(struct kvs__root *root)
{
	unsigned n = 0;
	uint64_t i;

	for (i = 0; i < root->shards; i++) {
		struct kvs__table *t = &root->table[i];

		if (!has_flag(t, KVS__SIZE_SHRINKING) || !kvs__shrink_commit(t))
			continue;
		unlink_upper(t);
		kvs__shrink_detach(t);
		n++;
	}
	return n;
}

static void end_all(struct kvs__root *root)
{
	uint64_t i;

	for (i = 0; i < root->shards; i++)
		if (root->table[i].detached)
			kvs__shrink_end(&root->table[i]);
}

unsigned kvs__maintain_shrink(struct kvs *kv, struct kvs__root *root)
{
	unsigned n;

	if (begin_all(root) == 0)
		return 0;
	kvs__rcu_wait(&kv->reclaim.worker); /* GP 1 */
	n = commit_all(root);
	if (n)
		kvs__rcu_wait(&kv->reclaim.worker); /* GP 2 */
	end_all(root);
	return n;
}

/* ---- the thread ---- */

static bool root_has_work(const struct kvs__root *root)
{
	uint64_t i;

	for (i = 0; i < root->shards; i++) {
		const struct kvs__table *t = &root->table[i];

		if (load_seq_cst(&t->link_next) < kvs__table_buckets(t) || is_too_large(t))
			return true;
	}
	return false;
}

/* Calls that wait for admin go first: what there is to do here is done in pieces. */
static bool may_go_on(const struct kvs *kv)
{
	return load_seq_cst(&kv->admin_waiters) == 0 && !load_seq_cst(&kv->maintainer.stop);
}

/* Holding admin keeps the root: only its holders swap and free it. If another has it, look again next tick. */
static bool pass_root(struct kvs *kv)
{
	struct kvs__root *root;
	bool more = true;

	if (!may_go_on(kv) || pthread_mutex_trylock(&kv->admin) != 0)
		return true;
	root = load_seq_cst(&kv->root);
	while (root && may_go_on(kv) && kvs__maintain_link(root, LINK_PASS) >= LINK_PASS)
		(void)kvs__slots_take_over(&kv->home, &kv->reclaim);
	if (root && may_go_on(kv))
		(void)kvs__maintain_shrink(kv, root);
	if (root)
		more = root_has_work(root);
	pthread_mutex_unlock(&kv->admin);
	return more;
}

static bool pass(struct kvs *kv)
{
	bool any = kvs__slots_take_over(&kv->home, &kv->reclaim);

	return pass_root(kv) || any;
}

static void sleep_a_tick(struct kvs__maintainer *m)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += KVS__TICK_MS * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_nsec -= 1000000000L;
		until.tv_sec++;
	}
	while (sem_clockwait(&m->wake, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR)
		;
}

static void sleep_until_woken(struct kvs__maintainer *m)
{
	while (sem_wait(&m->wake) != 0 && errno == EINTR)
		;
	store_seq_cst(&m->idle, 0);
}

static void *maintain(void *arg)
{
	struct kvs *kv = arg;
	struct kvs__maintainer *m = &kv->maintainer;

	while (!load_seq_cst(&m->stop)) {
		if (pass(kv)) {
			store_seq_cst(&m->idle, 0);
			sleep_a_tick(m);
		} else if (load_seq_cst(&m->idle) == 0) {
			store_seq_cst(&m->idle, 1); /* PAIRS(M1): then one more pass */
		} else {
			sleep_until_woken(m);
		}
	}
	return NULL;
}

KVS_COLD void kvs__maintainer_wake_slow(struct kvs *kv)
{
	uint32_t idle = 1;

	if (cas_seq_cst(&kv->maintainer.idle, &idle, 0))
		(void)sem_post(&kv->maintainer.wake);
}

bool kvs__maintainer_start(struct kvs *kv)
{
	struct kvs__maintainer *m = &kv->maintainer;

	store_seq_cst(&m->idle, 0);
	store_seq_cst(&m->stop, 0);
	if (sem_init(&m->wake, 0, 0) != 0)
		return false;
	m->runs = kvs__thread_start(&m->thread, "kvs-maint", maintain, kv);
	if (!m->runs)
		(void)sem_destroy(&m->wake);
	return m->runs;
}

void kvs__maintainer_stop(struct kvs *kv)
{
	struct kvs__maintainer *m = &kv->maintainer;

	if (!m->runs)
		return;
	store_seq_cst(&m->stop, 1);
	(void)sem_post(&m->wake);
	kvs__thread_join(m->thread);
	(void)sem_destroy(&m->wake);
	m->runs = false;
}
