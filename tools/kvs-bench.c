/* SPDX-License-Identifier: MIT */
/*
 * kvs-bench.c - load a store, run a read-heavy workload on it, print a report.
 *
 * It uses the public header only. The steps: options, data, the program's own memory, the memory
 * in use before the store, load, drain, the memory in use with it, run, report.
 */
#include "posix.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "timer.h"

#define GRACE_NS 5000000u /* for the last operations that were due */

/* ---- Before ---------------------------------------------------------------------------- */

static enum exit_code no_memory(void)
{
	bench_error("out of memory");
	return EXIT_RUN;
}

static enum exit_code load_input(struct bench *b)
{
	const char *path = b->config.input;
	struct rows_error error;
	struct rows rows;

	if (rows_load(path, &rows, &error) == 0) {
		dataset_file(&b->data, &rows);
		return EXIT_GOOD;
	}
	if (error.line)
		bench_error("%s: line %" PRIu64 ": %s", path, error.line, error.reason);
	else
		bench_error("%s: %s", path, error.reason);
	return error.no_memory ? EXIT_RUN : EXIT_USAGE;
}

static enum exit_code make_data(struct bench *b)
{
	const struct config *c = &b->config;

	if (c->input)
		return load_input(b);
	if (dataset_synthetic(&b->data, c->keys, c->key_size, c->value_size, c->seed) == 0)
		return EXIT_GOOD;
	bench_error("--key-size %" PRIu64 " is too small for %" PRIu64 " different keys and "
		    "others that are absent",
		    c->key_size, c->keys);
	return EXIT_USAGE;
}

static bool needs_tagged_keys(const struct config *c)
{
	return c->input && (c->miss > 0.0 || mix_get(c->mix)->insert);
}

static enum exit_code check_data(const struct bench *b)
{
	if (!needs_tagged_keys(&b->config) || dataset_key_room(&b->data) <= KVS_KEY_MAX)
		return EXIT_GOOD;
	bench_error("%s: a key of %zu bytes is too long to make new or absent keys from it; leave "
		    "out --miss and --mix D",
		    b->config.input, b->data.key_max);
	return EXIT_USAGE;
}

static struct kvs_options store_options(const struct config *c)
{
	struct kvs_options o = KVS_OPTIONS_INIT;

	o.shards = (int32_t)c->shards;
	o.hash = c->hash;
	return o;
}

static enum exit_code check_store_options(const struct config *c)
{
	struct kvs_options o = store_options(c);
	const char *option = "options";
	int code = kvs_options_check(&o, &option);

	if (code == 0)
		return EXIT_GOOD;
	bench_error("--%s: %s", option, kvs_strerror(code));
	return EXIT_USAGE;
}

static enum exit_code open_json(const struct config *c, FILE **ret_json)
{
	if (!c->json)
		return EXIT_GOOD;
	*ret_json = strcmp(c->json, "-") == 0 ? stdout : fopen(c->json, "w");
	if (*ret_json)
		return EXIT_GOOD;
	bench_error("--json %s: %s", c->json, strerror(errno));
	return EXIT_USAGE;
}

static enum exit_code prepare(struct bench *b, FILE **ret_json)
{
	enum exit_code code = check_store_options(&b->config);

	if (code == EXIT_GOOD)
		code = open_json(&b->config, ret_json);
	if (code == EXIT_GOOD)
		code = make_data(b);
	if (code == EXIT_GOOD)
		code = check_data(b);
	if (code != EXIT_GOOD)
		return code;
	zipf_init(&b->zipf, b->data.count, ZIPF_THETA);
	permutation_init(&b->scatter, b->data.count - 1, b->config.seed);
	return workers_new(b) == 0 ? EXIT_GOOD : no_memory();
}

/* ---- The measurement ------------------------------------------------------------------- */

static enum exit_code store_error(const char *what, int code)
{
	bench_error("%s: %s", what, kvs_strerror(code));
	return EXIT_RUN;
}

/* Whether the store counts as many keys as were put in. */
static enum exit_code check_keys(const struct bench *b, uint64_t expected, uint64_t *ret_keys)
{
	uint64_t keys = 0;
	int code = kvs_len(b->kv, &keys);

	if (code)
		return store_error("kvs_len", code);
	*ret_keys = keys;
	if (keys == expected)
		return EXIT_GOOD;
	bench_error("the store counts %" PRIu64 " keys, but %" PRIu64 " were put in", keys,
		    expected);
	return EXIT_RUN;
}

static enum exit_code failure(struct bench *b)
{
	return atomic_load(&b->bad_input) ? EXIT_USAGE : EXIT_RUN;
}

static enum exit_code load(struct bench *b, struct pool *pool, struct result *r)
{
	uint64_t keys;
	int code;

	workers_run(b, pool, bench_load_job, "loading", b->data.count, 0);
	r->load_ns = result_elapsed(b);
	if (atomic_load(&b->failed))
		return failure(b);
	code = kvs_drain(b->kv);
	if (code)
		return store_error("kvs_drain", code);
	r->loaded = meminfo_read();
	r->stats.size = sizeof(r->stats);
	code = kvs_stats(b->kv, &r->stats);
	if (code)
		return store_error("kvs_stats", code);
	return check_keys(b, b->data.count, &keys);
}

static enum exit_code run(struct bench *b, struct pool *pool, struct result *r)
{
	const struct config *c = &b->config;
	uint64_t limit = c->ops ? 0 : (uint64_t)(c->seconds * TIMER_SECOND);

	if (limit && c->rate)
		limit += GRACE_NS;
	r->timer_cost_ns = timer_cost();
	r->plan_cost_ns = plan_cost(b->worker[0]);
	bench_run_setup(b);
	r->run_cpu_ns = timer_cpu();
	if (saver_start(b) != 0) {
		bench_error("cannot start a thread that saves");
		return EXIT_RUN;
	}
	workers_run(b, pool, bench_run_job, "running", bench_planned(b), limit);
	r->run_ns = result_elapsed(b);
	r->run_cpu_ns = timer_cpu() - r->run_cpu_ns;
	saver_end(b);
	if (atomic_load(&b->failed))
		return failure(b);
	r->after = meminfo_read();
	result_collect(b, r);
	return check_keys(b, b->data.count + r->ops[KIND_INSERT], &r->keys_after);
}

/* Open, load, run, close. @r is touched before, so that it does not count as the store's. */
static enum exit_code measure(struct bench *b, struct pool *pool, struct result *r)
{
	struct kvs_options o = store_options(&b->config);
	enum exit_code result;
	int code;

	r->before = meminfo_read();
	code = kvs_open(&o, &b->kv);
	if (code)
		return store_error("kvs_open", code);
	result = load(b, pool, r);
	if (result == EXIT_GOOD)
		result = run(b, pool, r);
	code = kvs_free(b->kv);
	if (code && result == EXIT_GOOD)
		return store_error("kvs_free", code);
	return result;
}

/* ---- After ----------------------------------------------------------------------------- */

static enum exit_code print_reports(const struct bench *b, const struct result *r, FILE *json)
{
	if (json != stdout)
		report_print(b, r);
	if (json && (json_print(json, b, r) != 0 || fflush(json) != 0)) {
		bench_error("--json %s: %s", b->config.json, strerror(errno));
		return EXIT_RUN;
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		bench_error("writing the report: %s", strerror(errno));
		return EXIT_RUN;
	}
	return EXIT_GOOD;
}

static enum exit_code measure_and_print(struct bench *b, FILE *json)
{
	struct result *r = malloc(sizeof(*r));
	struct pool *pool;
	enum exit_code code;
	int error;

	if (!r)
		return no_memory();
	memset(r, 0, sizeof(*r));
	error = pool_start((unsigned)b->config.threads, &pool);
	if (error) {
		bench_error("cannot start %" PRIu64 " threads: %s", b->config.threads,
			    strerror(error));
		free(r);
		return EXIT_RUN;
	}
	code = measure(b, pool, r);
	pool_stop(pool);
	if (code == EXIT_GOOD)
		code = print_reports(b, r, json);
	free(r);
	return code;
}

static enum exit_code bench(const struct config *c)
{
	struct bench b = { 0 };
	FILE *json = NULL;
	enum exit_code code;

	b.config = *c;
	code = prepare(&b, &json);
	if (code == EXIT_GOOD)
		code = measure_and_print(&b, json);
	workers_free(&b);
	dataset_free(&b.data);
	if (json && json != stdout)
		fclose(json);
	return code;
}

int main(int argc, char **argv)
{
	struct config c;

	if (options_parse(argc, argv, &c) != 0)
		return EXIT_USAGE;
	if (c.help) {
		options_help();
		return EXIT_GOOD;
	}
	if (c.version) {
		printf(PROGRAM " with libkvs %s\n", kvs_version_string());
		return EXIT_GOOD;
	}
	return (int)bench(&c);
}
