/* SPDX-License-Identifier: MIT */
/*
 * bench_snapshot.c - save the store now and then while the workload runs, and count what the workload does meanwhile.
 *
 * A thread of its own saves; the workers look whether it is at it when they time an operation.
 */
#include "posix.h"

#include <errno.h>
#include <string.h>

#include "bench.h"
#include "timer.h"

#define NAP_NS 5000000u /* how long the end of the run may be overlooked */

static bool ended(const struct bench *b)
{
	return atomic_load(&b->saver.quit) || atomic_load(&b->stop);
}

static bool wait_until(const struct bench *b, uint64_t due)
{
	while (!ended(b) && timer_now() < due) {
		struct timespec nap = timer_spec(NAP_NS);

		nanosleep(&nap, NULL);
	}
	return !ended(b);
}

static int save(struct bench *b)
{
	struct kvs_save_options o = KVS_SAVE_OPTIONS_INIT;
	struct kvs_file_error error = { 0, 0, 0, NULL };
	int code;

	o.error = &error;
	code = kvs_save(b->kv, b->config.snapshot_file, &o);
	if (code)
		worker_fail(b->worker[0], "%s: %s: %s%s%s", b->config.snapshot_file,
			    kvs_strerror(code), error.cause ? error.cause : "?",
			    error.system_error ? ": " : "",
			    error.system_error ? strerror(error.system_error) : "");
	return code;
}

/* One save. What is counted of one that the end of the run cuts across is what was done until it ended. */
static bool save_timed(struct bench *b)
{
	struct saver *s = &b->saver;
	uint64_t ops = workers_done(b);
	uint64_t start = timer_now();
	uint64_t ns;
	int code;

	atomic_store(&s->saving, true);
	code = save(b);
	atomic_store(&s->saving, false);
	ns = timer_now() - start;
	if (code || atomic_load(&s->quit))
		return false;
	s->saves++;
	s->ns += ns;
	s->ops += workers_done(b) - ops;
	return true;
}

static void *saver_main(void *arg)
{
	struct bench *b = arg;
	uint64_t every = (uint64_t)(b->config.snapshot_every * TIMER_SECOND);
	uint64_t due = timer_now() + every;

	while (wait_until(b, due) && save_timed(b))
		due += every > timer_now() - due ? every : timer_now() - due;
	return NULL;
}

int saver_start(struct bench *b)
{
	struct saver *s = &b->saver;

	if (b->config.snapshot_every <= 0.0)
		return 0;
	atomic_store(&s->quit, false);
	s->runs = pthread_create(&s->thread, NULL, saver_main, b) == 0;
	return s->runs ? 0 : -1;
}

void saver_end(struct bench *b)
{
	if (!b->saver.runs)
		return;
	atomic_store(&b->saver.quit, true);
	pthread_join(b->saver.thread, NULL);
	b->saver.runs = false;
}
