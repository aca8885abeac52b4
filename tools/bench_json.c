/* SPDX-License-Identifier: MIT */
/* bench_json.c - the report for programs: one JSON object, the figures of the other report. */
#include "posix.h"

#include <inttypes.h>

#include "bench.h"
#include "timer.h"

struct json {
	FILE *out;
	int depth;
	bool first; /* of its object */
};

static void put_string(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			putc(c, out);
	}
	putc('"', out);
}

static void put_name(struct json *j, const char *name)
{
	fprintf(j->out, "%s\n%*s", j->first ? "" : ",", j->depth * 2, "");
	put_string(j->out, name);
	fputs(": ", j->out);
	j->first = false;
}

static void open_object(struct json *j, const char *name)
{
	if (name)
		put_name(j, name);
	putc('{', j->out);
	j->depth++;
	j->first = true;
}

static void close_object(struct json *j)
{
	j->depth--;
	fprintf(j->out, "\n%*s}", j->depth * 2, "");
	j->first = false;
}

static void put_number(struct json *j, const char *name, uint64_t value)
{
	put_name(j, name);
	fprintf(j->out, "%" PRIu64, value);
}

static void put_real(struct json *j, const char *name, double value)
{
	put_name(j, name);
	fprintf(j->out, "%.6f", value);
}

static void put_text(struct json *j, const char *name, const char *value)
{
	put_name(j, name);
	put_string(j->out, value);
}

/* ---- Sections -------------------------------------------------------------------------- */

static void put_source(struct json *j, const struct bench *b)
{
	const struct config *c = &b->config;

	open_object(j, "source");
	put_text(j, "kind", b->data.from_file ? "input" : "synthetic");
	if (b->data.from_file)
		put_text(j, "file", c->input);
	put_number(j, "keys", b->data.count);
	put_number(j, "payload_bytes", b->data.payload);
	put_number(j, "key_bytes_max", b->data.key_max);
	put_number(j, "value_bytes_max", b->data.value_max);
	close_object(j);
}

static void put_settings(struct json *j, const struct bench *b)
{
	static const char *const dists[] = { "uniform", "zipf", "latest" };
	static const char *const hashes[] = { "siphash", "xxh3", "fnv1a" };
	const struct config *c = &b->config;
	char letter[2] = { mix_get(c->mix)->letter, '\0' };

	open_object(j, "settings");
	put_number(j, "threads", c->threads);
	put_text(j, "mix", letter);
	put_text(j, "dist", dists[c->dist]);
	put_number(j, "seed", c->seed);
	put_number(j, "sample", c->sample);
	put_number(j, "check", CHECK_EVERY);
	put_number(j, "rate", c->rate);
	put_real(j, "miss_percent", c->miss);
	put_number(j, "shards", c->shards);
	put_text(j, "hash", hashes[c->hash]);
	close_object(j);
}

static void put_load(struct json *j, const struct bench *b, const struct result *r)
{
	double seconds = timer_seconds(r->load_ns);

	open_object(j, "load");
	put_number(j, "keys", b->data.count);
	put_real(j, "seconds", seconds);
	put_real(j, "mkeys_per_second", (double)b->data.count / seconds / 1e6);
	close_object(j);
}

static void put_run(struct json *j, const struct result *r)
{
	int i;

	open_object(j, "run");
	put_number(j, "operations", r->operations);
	put_real(j, "seconds", timer_seconds(r->run_ns));
	put_real(j, "operations_per_second", result_rate(r));
	put_real(j, "processors_used", result_cpus(r));
	put_number(j, "operations_late", result_late(r));
	put_number(j, "hits", r->hits);
	put_number(j, "misses", r->misses);
	put_real(j, "hit_ratio", result_hit_percent(r) / 100.0);
	put_number(j, "values_checked", r->checked);
	put_number(j, "retries", r->retries);
	put_number(j, "keys_after", r->keys_after);
	put_number(j, "timer_cost_ns", r->timer_cost_ns);
	put_real(j, "plan_cost_ns", r->plan_cost_ns);
	open_object(j, "operations_by_kind");
	for (i = KIND_READ; i < KINDS; i++)
		put_number(j, kind_name((enum kind)i), r->ops[i]);
	close_object(j);
	close_object(j);
}

static void put_latency(struct json *j, const char *name, const struct histogram *h)
{
	int i;

	open_object(j, name);
	put_number(j, "timed", h->count);
	put_real(j, "mean", histogram_mean(h));
	put_number(j, "min", h->min);
	for (i = 0; i < REPORT_PERCENTS; i++)
		put_number(j, report_percent_names[i], histogram_percentile(h, report_percents[i]));
	put_number(j, "max", h->max);
	close_object(j);
}

static void put_latencies(struct json *j, const struct result *r)
{
	int i;

	open_object(j, "latency_ns");
	for (i = 0; i < KINDS; i++)
		if (r->latency[i].count)
			put_latency(j, kind_name((enum kind)i), &r->latency[i]);
	close_object(j);
}

static void put_memory(struct json *j, const struct bench *b, const struct result *r)
{
	double resident = result_per_key(b, result_resident(r)), payload = result_payload(b);

	open_object(j, "memory");
	put_real(j, "payload_bytes_per_entry", payload);
	put_real(j, "resident_bytes_per_entry", resident);
	put_real(j, "overhead_bytes_per_entry", resident - payload);
	put_number(j, "rss_before_bytes", r->before.rss);
	put_number(j, "rss_loaded_bytes", r->loaded.rss);
	put_number(j, "rss_end_bytes", r->after.rss);
	put_number(j, "rss_peak_bytes", r->after.peak);
	put_number(j, "bytes_live", r->stats.bytes_live);
	put_number(j, "bytes_index", r->stats.bytes_index);
	put_number(j, "bytes_mapped", r->stats.bytes_mapped);
	put_number(j, "bytes_deferred", r->stats.bytes_deferred);
	close_object(j);
}

static void put_snapshots(struct json *j, const struct bench *b, const struct result *r)
{
	int i;

	if (!b->config.snapshot_file)
		return;
	open_object(j, "snapshots");
	put_real(j, "every_seconds", b->config.snapshot_every);
	put_number(j, "saves", b->saver.saves);
	put_real(j, "seconds_saving", timer_seconds(b->saver.ns));
	put_real(j, "operations_per_second_saving", result_rate_saving(b));
	put_real(j, "operations_per_second_otherwise", result_rate_quiet(b, r));
	for (i = KIND_READ; i < KINDS; i++)
		if (r->saving[i].count)
			put_latency(j, kind_name((enum kind)i), &r->saving[i]);
	close_object(j);
}

int json_print(FILE *out, const struct bench *b, const struct result *r)
{
	struct json j = { out, 0, true };

	open_object(&j, NULL);
	put_text(&j, "program", PROGRAM);
	put_text(&j, "library_version", kvs_version_string());
	put_source(&j, b);
	put_settings(&j, b);
	put_load(&j, b, r);
	put_run(&j, r);
	put_latencies(&j, r);
	put_snapshots(&j, b, r);
	put_memory(&j, b, r);
	close_object(&j);
	putc('\n', out);
	return ferror(out) ? -1 : 0;
}
