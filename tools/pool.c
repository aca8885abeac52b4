/* SPDX-License-Identifier: MIT */
/* pool.c - threads that wait for jobs. See pool.h. */
#include "posix.h"

#include <errno.h>
#include <stdlib.h>

#include "pool.h"
#include "timer.h"

struct member {
	struct pool *pool;
	pthread_t thread;
	unsigned id;
};

/* All fields but members and threads: under the lock. */
struct pool {
	pthread_mutex_t lock;
	pthread_cond_t given; /* a job was given out, or the end */
	pthread_cond_t ended; /* the last thread finished its job */
	uint64_t jobs;        /* given out so far */
	pool_job job;         /* NULL: go home */
	void *arg;
	unsigned busy;
	unsigned threads;
	struct member *members;
};

static void *member_main(void *arg)
{
	struct member *m = arg;
	struct pool *pool = m->pool;
	uint64_t seen = 0;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (pool->jobs == seen)
			pthread_cond_wait(&pool->given, &pool->lock);
		seen = pool->jobs;
		if (!pool->job)
			break;
		pthread_mutex_unlock(&pool->lock);
		pool->job(pool->arg, m->id);
		pthread_mutex_lock(&pool->lock);
		if (--pool->busy == 0)
			pthread_cond_signal(&pool->ended);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static struct pool *pool_new(unsigned threads)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	pthread_condattr_t attr;

	if (!pool)
		return NULL;
	pool->members = calloc(threads, sizeof(*pool->members));
	if (!pool->members) {
		free(pool);
		return NULL;
	}
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->given, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->ended, &attr);
	pthread_condattr_destroy(&attr);
	return pool;
}

int pool_start(unsigned threads, struct pool **ret_pool)
{
	struct pool *pool = pool_new(threads);

	if (!pool)
		return ENOMEM;
	for (; pool->threads < threads; pool->threads++) {
		struct member *m = &pool->members[pool->threads];
		int error;

		m->pool = pool;
		m->id = pool->threads;
		error = pthread_create(&m->thread, NULL, member_main, m);
		if (error) {
			pool_stop(pool);
			return error;
		}
	}
	*ret_pool = pool;
	return 0;
}

void pool_run(struct pool *pool, pool_job job, void *arg)
{
	pthread_mutex_lock(&pool->lock);
	pool->job = job;
	pool->arg = arg;
	pool->busy = pool->threads;
	pool->jobs++;
	pthread_cond_broadcast(&pool->given);
	pthread_mutex_unlock(&pool->lock);
}

bool pool_wait(struct pool *pool, uint64_t until_ns)
{
	struct timespec until = timer_spec(until_ns);
	int error = 0;
	bool ended;

	pthread_mutex_lock(&pool->lock);
	while (pool->busy > 0 && error == 0)
		error = pthread_cond_timedwait(&pool->ended, &pool->lock, &until);
	ended = pool->busy == 0;
	pthread_mutex_unlock(&pool->lock);
	return ended;
}

void pool_stop(struct pool *pool)
{
	unsigned i;

	pool_run(pool, NULL, NULL);
	for (i = 0; i < pool->threads; i++)
		pthread_join(pool->members[i].thread, NULL);
	pthread_cond_destroy(&pool->given);
	pthread_cond_destroy(&pool->ended);
	pthread_mutex_destroy(&pool->lock);
	free(pool->members);
	free(pool);
}
