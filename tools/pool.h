/* SPDX-License-Identifier: MIT */
/*
 * pool.h - threads that run one job together, then wait for the next.
 *
 * They exist from pool_start() on, so that what threads cost in memory is not taken for what a
 * job costs. One thread gives out the jobs.
 */
#ifndef TOOLS_POOL_H
#define TOOLS_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef void (*pool_job)(void *arg, unsigned thread);

struct pool;

/* pool_start - Returns 0 or an errno value. */
int pool_start(unsigned threads, struct pool **ret_pool);

/* pool_run - Let every thread call @job once. The job before must have ended. */
void pool_run(struct pool *pool, pool_job job, void *arg);

/* pool_wait - Wait for the job's end, at most until @until_ns. Returns whether it has ended. */
bool pool_wait(struct pool *pool, uint64_t until_ns);

/* pool_stop - End the threads; no job may be under way. */
void pool_stop(struct pool *pool);

#endif /* TOOLS_POOL_H */
