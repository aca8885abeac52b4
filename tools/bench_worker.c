/* SPDX-License-Identifier: MIT */
/* bench_worker.c - the threads' memory, errors and progress. */
#include "posix.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "progress.h"
#include "timer.h"
#include "tsv.h"

#define REDRAW_NS (TIMER_SECOND / 10)
#define NEVER (UINT64_MAX / 2) /* ns; a timespec can hold it */
#define KEY_SHOWN 40           /* bytes of a key in an error */

static void *new_touched(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (p)
		memset(p, 1, size);
	return p;
}

static struct worker *worker_new(struct bench *b, unsigned id)
{
	bool own_values = !b->data.from_file || b->config.plant_error;
	struct worker *w = aligned_alloc(CACHE_LINE, sizeof(*w));
	int kind;

	if (!w)
		return NULL;
	memset(w, 0, sizeof(*w));
	for (kind = 0; kind < KINDS; kind++) {
		histogram_reset(&w->latency[kind]);
		histogram_reset(&w->saving[kind]);
	}
	w->bench = b;
	w->id = id;
	random_seed(&w->random, b->config.seed, id);
	w->sample_in = worker_sample(w);
	w->check_in = 1 + id % CHECK_EVERY;
	w->generation = (uint64_t)(id + 1) << 40;
	w->get_buf = new_touched(b->data.value_max);
	w->value_buf = new_touched(own_values ? b->data.value_max : 0);
	w->key_buf = new_touched(PLAN_STEPS * dataset_key_room(&b->data));
	return w;
}

int workers_new(struct bench *b)
{
	unsigned i, threads = (unsigned)b->config.threads;

	b->worker = calloc(threads, sizeof(struct worker *));
	if (!b->worker)
		return -1;
	for (i = 0; i < threads; i++) {
		struct worker *w = worker_new(b, i);

		b->worker[i] = w;
		if (!w || !w->get_buf || !w->value_buf || !w->key_buf)
			return -1;
	}
	return 0;
}

void workers_free(struct bench *b)
{
	unsigned i;

	for (i = 0; b->worker && i < b->config.threads; i++) {
		struct worker *w = b->worker[i];

		if (!w)
			break;
		free(w->get_buf);
		free(w->value_buf);
		free(w->key_buf);
		free(w);
	}
	free(b->worker);
}

uint64_t worker_sample(struct worker *w)
{
	return 1 + random_below(&w->random, 2 * w->bench->config.sample - 1);
}

/* ---- Errors ---------------------------------------------------------------------------- */

static void print_error(const char *format, va_list args)
{
	fputs(PROGRAM ": ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void bench_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_error(format, args);
	va_end(args);
}

void worker_fail(struct worker *w, const char *format, ...)
{
	va_list args;

	atomic_store(&w->bench->stop, true);
	if (atomic_exchange(&w->bench->failed, true))
		return;
	va_start(args, format);
	print_error(format, args);
	va_end(args);
}

void worker_fail_key(struct worker *w, const char *what, const char *reason, struct kvs_slice key)
{
	char text[4 * KEY_SHOWN + 1];
	size_t shown = key.len < KEY_SHOWN ? key.len : KEY_SHOWN;

	text[tsv_escape(text, key.data, shown)] = '\0';
	worker_fail(w, "%s: %s (key \"%s\"%s of %zu bytes)", what, reason, text,
		    shown < key.len ? "..." : "", key.len);
}

/* ---- Progress -------------------------------------------------------------------------- */

uint64_t workers_done(const struct bench *b)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < b->config.threads; i++)
		sum += atomic_load_explicit(&b->worker[i]->done, memory_order_relaxed);
	return sum;
}

static double fraction_done(const struct bench *b, uint64_t done, uint64_t total, uint64_t limit_ns)
{
	if (limit_ns)
		return (double)(timer_now() - b->start_ns) / (double)limit_ns;
	return (double)done / (double)total;
}

void workers_run(struct bench *b, struct pool *pool, pool_job job, const char *what, uint64_t total,
		 uint64_t limit_ns)
{
	uint64_t now, until, done, stop_at = NEVER;
	struct progress progress;
	unsigned i;

	for (i = 0; i < b->config.threads; i++)
		atomic_store(&b->worker[i]->done, 0);
	progress_begin(&progress, what);
	b->start_ns = timer_now();
	if (limit_ns)
		stop_at = b->start_ns + limit_ns;
	pool_run(pool, job, b);
	do {
		now = timer_now();
		if (now >= stop_at) {
			atomic_store(&b->stop, true);
			stop_at = NEVER;
		}
		done = workers_done(b);
		progress_draw(&progress, fraction_done(b, done, total, limit_ns), done);
		until = progress.shown && now + REDRAW_NS < stop_at ? now + REDRAW_NS : stop_at;
	} while (!pool_wait(pool, until));
	progress_end(&progress);
}
