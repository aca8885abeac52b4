/* SPDX-License-Identifier: MIT */
/* bench_load.c - fill the store, on all threads. */
#include "posix.h"

#include <inttypes.h>
#include <string.h>

#include "bench.h"
#include "timer.h"

#define CHUNK 256 /* rows that a thread takes at a time */

/* The value to store for row @i: the true one, but when an error is to be planted. */
static struct kvs_slice load_value(struct worker *w, uint64_t i)
{
	const struct bench *b = w->bench;
	struct kvs_slice v = dataset_value(&b->data, i, 0, w->value_buf);

	if (!b->config.plant_error || v.len == 0)
		return v;
	if (v.data != w->value_buf)
		memcpy(w->value_buf, v.data, v.len);
	w->value_buf[v.len - 1] ^= 1;
	return kvs_bytes(w->value_buf, v.len);
}

/* The one error of loading that is the input's fault. */
static void fail_duplicate(struct worker *w, uint64_t i)
{
	struct bench *b = w->bench;
	uint64_t first, second;

	if (!b->data.from_file) {
		worker_fail(w, "the store refused synthetic key %" PRIu64 " as present already", i);
		return;
	}
	first = rows_find(&b->data.rows, i, 0);
	second = rows_find(&b->data.rows, i, first + 1);
	if (second == b->data.count) {
		worker_fail(w, "the store refused the key of line %" PRIu64 " as present already",
			    i + 1);
		return;
	}
	atomic_store(&b->bad_input, true);
	worker_fail(w, "%s: line %" PRIu64 ": the same key as on line %" PRIu64, b->config.input,
		    second + 1, first + 1);
}

static void fail_load(struct worker *w, uint64_t i, int code, struct kvs_slice key)
{
	if (code == KVS_ERR_DUPLICATE)
		fail_duplicate(w, i);
	else if (code == KVS_ERR_NO_MEMORY)
		worker_fail(w, "out of memory after %" PRIu64 " of %" PRIu64 " keys were loaded",
			    workers_done(w->bench), w->bench->data.count);
	else
		worker_fail_key(w, "loading", kvs_strerror(code), key);
}

static bool load_row(struct worker *w, uint64_t i)
{
	struct kvs_slice key = dataset_key(&w->bench->data, i, w->key_buf);
	struct kvs_slice value = load_value(w, i);
	bool timed = --w->sample_in == 0;
	uint64_t start = timed ? timer_now() : 0;
	int code = kvs_add(w->bench->kv, key, value, NULL);

	if (timed) {
		histogram_add(&w->latency[KIND_LOAD], timer_now() - start);
		w->sample_in = worker_sample(w);
	}
	if (code)
		fail_load(w, i, code, key);
	else
		w->ops[KIND_LOAD]++;
	return code == 0;
}

static bool load_chunk(struct worker *w, uint64_t from, uint64_t to)
{
	uint64_t i;

	for (i = from; i < to; i++)
		if (!load_row(w, i))
			return false;
	return true;
}

void bench_load_job(void *bench, unsigned thread)
{
	struct bench *b = bench;
	struct worker *w = b->worker[thread];
	uint64_t from, to;

	while (!atomic_load_explicit(&b->stop, memory_order_relaxed)) {
		from = atomic_fetch_add_explicit(&b->next_row, CHUNK, memory_order_relaxed);
		if (from >= b->data.count)
			break;
		to = from + CHUNK < b->data.count ? from + CHUNK : b->data.count;
		if (!load_chunk(w, from, to))
			break;
		atomic_store_explicit(&w->done, w->ops[KIND_LOAD], memory_order_relaxed);
	}
	w->end_ns = timer_now();
}
