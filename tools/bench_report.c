/* SPDX-License-Identifier: MIT */
/* bench_report.c - the report for people. */
#include "posix.h"

#include <inttypes.h>

#include "bench.h"
#include "timer.h"

#define MIB 1048576.0
#define GROUPED_MAX 32 /* bytes of a number with commas */

/* Write @x with a comma after every three digits. */
static const char *grouped(uint64_t x, char *buf)
{
	char *at = buf + GROUPED_MAX - 1;
	int digits = 0;

	*at = '\0';
	do {
		if (digits > 0 && digits % 3 == 0)
			*--at = ',';
		*--at = (char)('0' + x % 10);
		x /= 10;
		digits++;
	} while (x);
	return at;
}

static const char *grouped_real(double x, char *buf)
{
	return grouped(x > 0.0 ? (uint64_t)(x + 0.5) : 0, buf);
}

static void print_source(const struct bench *b)
{
	const struct config *c = &b->config;
	char n[GROUPED_MAX];

	if (b->data.from_file)
		printf(PROGRAM ": real data from %s, %s entries, mean payload %.1f B, longest key "
			       "%zu B, longest value %zu B\n",
		       c->input, grouped(b->data.count, n), result_payload(b), b->data.key_max,
		       b->data.value_max);
	else
		printf(PROGRAM ": synthetic data, %s keys of %" PRIu64 " B with values of %" PRIu64
			       " B\n",
		       grouped(b->data.count, n), c->key_size, c->value_size);
}

static void print_setting(const struct bench *b)
{
	static const char *const hashes[] = { "siphash", "xxh3", "fnv1a" };
	const struct config *c = &b->config;

	printf("Store        libkvs %s, hash %s, ", kvs_version_string(), hashes[c->hash]);
	if (c->shards)
		printf("%" PRIu64 " shards\n", c->shards);
	else
		printf("default shards\n");
}

static void print_load(const struct bench *b, const struct result *r)
{
	double seconds = timer_seconds(r->load_ns);
	char n[GROUPED_MAX];

	printf("Loading      %.3f Mkeys/s: %s keys in %.3f s on %" PRIu64 " threads\n",
	       (double)b->data.count / seconds / 1e6, grouped(b->data.count, n), seconds,
	       b->config.threads);
}

static void print_run(const struct bench *b, const struct result *r)
{
	static const char *const dists[] = { "uniform", "zipf 0.99, scattered", "latest (zipf)" };
	const struct config *c = &b->config;
	char ops[GROUPED_MAX], rate[GROUPED_MAX];

	printf("Workload     %c: %s; keys %s; %" PRIu64 " threads; seed %" PRIu64 "\n",
	       mix_get(c->mix)->letter, mix_get(c->mix)->text, dists[c->dist], c->threads, c->seed);
	printf("Throughput   %s operations/s: %s in %.3f s\n", grouped_real(result_rate(r), rate),
	       grouped(r->operations, ops), timer_seconds(r->run_ns));
	printf("             %.2f processors were in use for %" PRIu64 " threads; choosing an\n"
	       "             operation and making its key takes about %.0f ns of each\n",
	       result_cpus(r), c->threads, r->plan_cost_ns);
	if (c->rate)
		printf("Rate         %s/s asked for; %s operations were due but never begun\n",
		       grouped(c->rate, rate), grouped(result_late(r), ops));
}

static void print_hits(const struct bench *b, const struct result *r)
{
	char hits[GROUPED_MAX], misses[GROUPED_MAX], checked[GROUPED_MAX];

	printf("Hit ratio    %.3f %%: %s hits, %s misses", result_hit_percent(r),
	       grouped(r->hits, hits), grouped(r->misses, misses));
	if (b->config.miss > 0.0)
		printf(" (%g %% of the reads ask for absent keys)", b->config.miss);
	printf("\nIntegrity    %s values compared byte by byte (1 hit in %d), all right\n",
	       grouped(r->checked, checked), CHECK_EVERY);
	if (r->ops[KIND_RMW])
		printf("Retries      %s read-modify-writes began again after another's write\n",
		       grouped(r->retries, hits));
}

static void print_latency_line(enum kind kind, const struct histogram *h)
{
	char n[GROUPED_MAX];
	int i;

	if (!h->count)
		return;
	printf("  %-18s %12s", kind_name(kind), grouped(h->count, n));
	for (i = 0; i < REPORT_PERCENTS; i++)
		printf(" %10s", grouped(histogram_percentile(h, report_percents[i]), n));
	printf(" %11s\n", grouped(h->max, n));
}

static void print_latency(const struct bench *b, const struct result *r)
{
	int i;

	printf("\nLatency in ns, %s\n",
	       b->config.rate ? "from when the operation was due (loading: from its start)"
			      : "from the operation's start");
	printf("1 operation in %" PRIu64 " is timed, on its own; timing adds about %" PRIu64
	       " ns to each\n",
	       b->config.sample, r->timer_cost_ns);
	printf("  %-18s %12s", "operation", "timed");
	for (i = 0; i < REPORT_PERCENTS; i++)
		printf(" %10s", report_percent_names[i]);
	printf(" %11s\n", "max");
	for (i = KIND_READ; i < KINDS; i++)
		print_latency_line((enum kind)i, &r->latency[i]);
	print_latency_line(KIND_LOAD, &r->latency[KIND_LOAD]);
}

static void print_snapshots(const struct bench *b, const struct result *r)
{
	const struct saver *s = &b->saver;
	char saving[GROUPED_MAX], quiet[GROUPED_MAX];
	int i;

	if (!b->config.snapshot_file)
		return;
	printf("\nSnapshots    %" PRIu64 " saves to %s ended in the run", s->saves,
	       b->config.snapshot_file);
	if (!s->saves) {
		printf("; a longer one would show what they cost\n");
		return;
	}
	printf(", %.3f s each on average\n", timer_seconds(s->ns) / (double)s->saves);
	printf("             %s operations/s during a save, %s otherwise\n",
	       grouped_real(result_rate_saving(b), saving),
	       grouped_real(result_rate_quiet(b, r), quiet));
	printf("  %-18s %12s", "during a save", "timed");
	for (i = 0; i < REPORT_PERCENTS; i++)
		printf(" %10s", report_percent_names[i]);
	printf(" %11s\n", "max");
	for (i = KIND_READ; i < KINDS; i++)
		print_latency_line((enum kind)i, &r->saving[i]);
}

static void print_memory_line(const struct bench *b, const char *what, double bytes)
{
	double per_key = result_per_key(b, bytes), payload = result_payload(b);

	printf("  %-36s %10.1f %10.1f %9.1f %% %10.1f\n", what, per_key, per_key - payload,
	       payload > 0.0 ? 100.0 * (per_key - payload) / payload : 0.0, bytes / MIB);
}

static void print_memory(const struct bench *b, const struct result *r)
{
	const struct kvs_stats *s = &r->stats;

	printf("\nMemory after loading and kvs_drain(); the payload is %.1f B an entry\n",
	       result_payload(b));
	printf("  %-36s %10s %10s %11s %10s\n", "", "B/entry", "overhead", "of payload", "MiB");
	print_memory_line(b, "resident (VmRSS, less what was before)", result_resident(r));
	print_memory_line(b, "store: bytes_live + bytes_index",
			  (double)(s->bytes_live + s->bytes_index));
	if (s->bytes_mapped)
		print_memory_line(b, "store: bytes_mapped + bytes_index",
				  (double)(s->bytes_mapped + s->bytes_index));
	printf("In use       "
	       "VmRSS %.1f MiB at the end, VmHWM %.1f MiB; before the store %.1f MiB\n",
	       (double)r->after.rss / MIB, (double)r->after.peak / MIB,
	       (double)r->before.rss / MIB);
}

void report_print(const struct bench *b, const struct result *r)
{
	print_source(b);
	print_setting(b);
	print_load(b, r);
	print_run(b, r);
	print_hits(b, r);
	print_latency(b, r);
	print_snapshots(b, r);
	print_memory(b, r);
}
