/* SPDX-License-Identifier: MIT */
/* bench_run.c - do the operations: time one in --sample, check one value in CHECK_EVERY. */
#include "posix.h"

#include <inttypes.h>
#include <math.h>

#include "bench.h"
#include "timer.h"

#define SPIN_NS 150000u    /* before an operation is due we no longer sleep */
#define SLEEP_NS 50000000u /* at most at a time, to see the end of the run */

uint64_t bench_planned(const struct bench *b)
{
	const struct config *c = &b->config;

	if (c->ops || !c->rate)
		return c->ops;
	return (uint64_t)ceil(c->seconds * (double)c->rate);
}

void bench_run_setup(struct bench *b)
{
	uint64_t planned = bench_planned(b), threads = b->config.threads;
	unsigned i;

	for (i = 0; i < threads; i++) {
		struct worker *w = b->worker[i];

		random_seed(&w->random, b->config.seed, threads + i);
		w->quota = planned ? planned / threads + (i < planned % threads) : UINT64_MAX;
		w->new_keys = 0;
	}
}

/* ---- The clock ------------------------------------------------------------------------- */

static bool stopped(const struct worker *w)
{
	return atomic_load_explicit(&w->bench->stop, memory_order_relaxed);
}

/* When the thread's next operation is due: the threads take turns at an even pace. */
static uint64_t due_time(const struct worker *w)
{
	const struct config *c = &w->bench->config;
	double turn = (double)(w->issued * c->threads + w->id);

	return w->bench->start_ns + (uint64_t)(turn * (TIMER_SECOND / (double)c->rate));
}

/* Wait until @due. Returns false if the run ended before. */
static bool wait_until(const struct worker *w, uint64_t due)
{
	uint64_t now;

	while ((now = timer_now()) < due) {
		uint64_t left = due - now;
		struct timespec nap;

		if (stopped(w))
			return false;
		if (left <= SPIN_NS)
			continue;
		nap = timer_spec(left - SPIN_NS < SLEEP_NS ? left - SPIN_NS : SLEEP_NS);
		nanosleep(&nap, NULL);
	}
	return true;
}

/* ---- One operation --------------------------------------------------------------------- */

static int read_value(struct worker *w, const struct step *s, struct kvs_value *got)
{
	const struct bench *b = w->bench;

	return kvs_get(b->kv, s->key, w->get_buf, b->data.value_max, got);
}

static int modify(struct worker *w, const struct step *s, struct kvs_slice value,
		  struct kvs_value *got)
{
	int code = read_value(w, s, got);

	while (code == 0) {
		code = kvs_compare_and_set(w->bench->kv, s->key, value, got->version, NULL);
		if (code != KVS_ERR_VERSION_MISMATCH)
			break;
		w->retries++;
		code = read_value(w, s, got);
	}
	return code;
}

static int perform(struct worker *w, const struct step *s, struct kvs_slice value,
		   struct kvs_value *got)
{
	switch (s->kind) {
	case KIND_UPDATE:
		return kvs_set(w->bench->kv, s->key, value, NULL);
	case KIND_INSERT:
		return kvs_add(w->bench->kv, s->key, value, NULL);
	case KIND_RMW:
		return modify(w, s, value, got);
	default:
		return read_value(w, s, got);
	}
}

static bool check_value(struct worker *w, const struct step *s, const struct kvs_value *got)
{
	if (--w->check_in > 0)
		return true;
	w->check_in = CHECK_EVERY;
	w->checked++;
	if (dataset_check(&w->bench->data, s->number, got->data, got->len))
		return true;
	worker_fail_key(w, "a wrong value was read", "its bytes were never written for this key",
			s->key);
	return false;
}

static bool settle_read(struct worker *w, const struct step *s, int code,
			const struct kvs_value *got)
{
	if (code == 0) {
		w->hits++;
		if (s->kind != KIND_ABSENT)
			return check_value(w, s, got);
		worker_fail_key(w, "reading an absent key", "it was found", s->key);
		return false;
	}
	if (code == KVS_ERR_NOT_FOUND && s->kind == KIND_ABSENT) {
		w->misses++;
		return true;
	}
	worker_fail_key(w, "reading a stored key", kvs_strerror(code), s->key);
	return false;
}

/* Count the operation's outcome. Returns false if the run must end. */
static bool settle(struct worker *w, const struct step *s, int code, const struct kvs_value *got)
{
	w->ops[s->kind]++;
	if (s->kind == KIND_READ || s->kind == KIND_ABSENT || s->kind == KIND_RMW)
		return settle_read(w, s, code, got);
	if (code) {
		worker_fail_key(w, kind_name(s->kind), kvs_strerror(code), s->key);
		return false;
	}
	if (s->kind == KIND_INSERT) /* release: whoever reads the count finds the keys */
		atomic_store_explicit(&w->inserted, w->ops[KIND_INSERT], memory_order_release);
	return true;
}

/* The value that a write will store, made before the clock is read. */
static struct kvs_slice value_for(struct worker *w, const struct step *s)
{
	if (s->kind == KIND_READ || s->kind == KIND_ABSENT)
		return kvs_bytes(NULL, 0);
	return dataset_value(&w->bench->data, s->number, w->generation++, w->value_buf);
}

static bool execute(struct worker *w, const struct step *s)
{
	bool paced = w->bench->config.rate > 0, timed = --w->sample_in == 0;
	struct kvs_slice value = value_for(w, s);
	struct kvs_value got = { 0 };
	uint64_t start = 0;
	int code;

	if (paced) {
		start = due_time(w);
		if (!wait_until(w, start))
			return false;
	} else if (timed) {
		start = timer_now();
	}
	code = perform(w, s, value, &got);
	if (timed) {
		uint64_t took = timer_now() - start;

		histogram_add(&w->latency[s->kind], took);
		if (atomic_load_explicit(&w->bench->saver.saving, memory_order_relaxed))
			histogram_add(&w->saving[s->kind], took);
		w->sample_in = worker_sample(w);
	}
	w->issued++;
	return settle(w, s, code, &got);
}

/* ---- A thread -------------------------------------------------------------------------- */

static bool out_of_keys(struct worker *w, const struct step *s)
{
	if (s->kind != KIND_INSERT || s->number < w->bench->data.limit)
		return false;
	worker_fail(w, "no new keys of %" PRIu64 " bytes are left: choose a larger --key-size",
		    w->bench->config.key_size);
	return true;
}

static bool run_steps(struct worker *w, unsigned count)
{
	struct step steps[PLAN_STEPS];
	unsigned i;

	plan_fill(w, steps, count);
	for (i = 0; i < count; i++)
		if (out_of_keys(w, &steps[i]) || !execute(w, &steps[i]))
			return false;
	atomic_store_explicit(&w->done, w->issued, memory_order_relaxed);
	return true;
}

void bench_run_job(void *bench, unsigned thread)
{
	struct bench *b = bench;
	struct worker *w = b->worker[thread];

	while (!stopped(w) && w->issued < w->quota) {
		uint64_t left = w->quota - w->issued;

		if (!run_steps(w, left < PLAN_STEPS ? (unsigned)left : PLAN_STEPS))
			break;
	}
	w->end_ns = timer_now();
}
