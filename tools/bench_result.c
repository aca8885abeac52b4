/* SPDX-License-Identifier: MIT */
/* bench_result.c - the threads' counts and histograms, added up, and figures that follow. */
#include "posix.h"

#include "bench.h"
#include "timer.h"

const double report_percents[REPORT_PERCENTS] = { 50, 90, 99, 99.9, 99.99 };
const char *const report_percent_names[REPORT_PERCENTS] = { "p50", "p90", "p99", "p99.9",
							    "p99.99" };

const char *kind_name(enum kind kind)
{
	static const char *const names[KINDS] = { "load",   "read",   "read-absent",
						  "update", "insert", "read-modify-write" };

	return names[kind];
}

static void add_worker(struct result *r, const struct worker *w)
{
	int kind;

	r->hits += w->hits;
	r->misses += w->misses;
	r->checked += w->checked;
	r->retries += w->retries;
	r->operations += w->issued;
	for (kind = 0; kind < KINDS; kind++) {
		r->ops[kind] += w->ops[kind];
		histogram_merge(&r->latency[kind], &w->latency[kind]);
		histogram_merge(&r->saving[kind], &w->saving[kind]);
	}
}

void result_collect(const struct bench *b, struct result *r)
{
	unsigned i;

	for (i = 0; i < KINDS; i++) {
		histogram_reset(&r->latency[i]);
		histogram_reset(&r->saving[i]);
	}
	for (i = 0; i < b->config.threads; i++)
		add_worker(r, b->worker[i]);
	r->planned = b->config.rate ? bench_planned(b) : 0;
}

uint64_t result_elapsed(const struct bench *b)
{
	uint64_t end = b->start_ns + 1;
	unsigned i;

	for (i = 0; i < b->config.threads; i++)
		if (b->worker[i]->end_ns > end)
			end = b->worker[i]->end_ns;
	return end - b->start_ns;
}

double result_rate(const struct result *r)
{
	return (double)r->operations / timer_seconds(r->run_ns);
}

double result_rate_saving(const struct bench *b)
{
	return b->saver.ns ? (double)b->saver.ops / timer_seconds(b->saver.ns) : 0.0;
}

double result_rate_quiet(const struct bench *b, const struct result *r)
{
	if (b->saver.ns >= r->run_ns || b->saver.ops >= r->operations)
		return 0.0;
	return (double)(r->operations - b->saver.ops) / timer_seconds(r->run_ns - b->saver.ns);
}

double result_cpus(const struct result *r)
{
	return (double)r->run_cpu_ns / (double)r->run_ns;
}

double result_hit_percent(const struct result *r)
{
	uint64_t reads = r->hits + r->misses;

	return reads ? 100.0 * (double)r->hits / (double)reads : 0.0;
}

/* 0 without --rate. */
uint64_t result_late(const struct result *r)
{
	return r->planned > r->operations ? r->planned - r->operations : 0;
}

double result_resident(const struct result *r)
{
	return (double)r->loaded.rss - (double)r->before.rss;
}

double result_per_key(const struct bench *b, double bytes)
{
	return bytes / (double)b->data.count;
}

double result_payload(const struct bench *b)
{
	return result_per_key(b, (double)b->data.payload);
}
