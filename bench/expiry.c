/* SPDX-License-Identifier: MIT */
/*
 * expiry.c - keys with deadlines on the real clock.
 *
 *   truth [SECONDS]   two threads, 95 % get and 5 % set with a ttl of 100 ms to 10 s over 1 million keys. Each reads the
 *                     clock before and after a get: a value whose deadline is not later than the reading before,
 *                     and a miss of a key whose deadline is later than the reading after, are violations.
 *                     Then the lag of removals, as the store tells it.
 *   storm             1 million keys due in one tick: the 99.9th percentile of gets of two readers in the 10 s before and in
 *                     the storm, and how long it lasts.
 *   overwrite [S]     two threads overwrite 1 million keys of 100 bytes, each with a ttl of 24 h: memory each second.
 *   speed             set with a ttl against set, get of timed keys against get, in turns, 1 million keys.
 *
 * In truth, a key belongs to one thread, which alone sets it and remembers its deadline: so it knows what a get must see.
 * The deadline is told in wall time; the thread takes the boot clock and the offset that one read of both gives.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvs.h"

#define KEYS 1000000u
#define THREADS 2u

static void fail(const char *text)
{
	fprintf(stderr, "expiry: %s\n", text);
	exit(1);
}

static void must(int err, const char *what)
{
	if (err) {
		fprintf(stderr, "expiry: %s: %s\n", what, kvs_strerror(err));
		exit(1);
	}
}

static int64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t boot_ms(void *ctx)
{
	(void)ctx;
	return clock_ns(CLOCK_BOOTTIME) / 1000000;
}

/* Wall time is boot time here, so that deadlines can be compared with the clock to the millisecond. */
static const struct kvs_clock boot_clock = { boot_ms, boot_ms, NULL };

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

struct key {
	char bytes[12];
};

static struct kvs_slice key_make(struct key *k, uint32_t number)
{
	static const char hex[] = "0123456789abcdef";

	memcpy(k->bytes, "key:", 4);
	for (int i = 0; i < 8; i++)
		k->bytes[4 + i] = hex[number >> (28 - 4 * i) & 15];
	return kvs_bytes(k->bytes, sizeof(k->bytes));
}

static struct kvs *open_store(const struct kvs_clock *clock)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	o.clock = clock;
	must(kvs_open(&o, &kv), "open");
	return kv;
}

static struct kvs_stats stats_of(struct kvs *kv)
{
	struct kvs_stats s = { .size = sizeof(s) };

	must(kvs_stats(kv, &s), "stats");
	return s;
}

/* ---- truth ---- */

struct truth {
	struct kvs *kv;
	int64_t until; /* ms */
	uint32_t first;
	int64_t *deadline; /* of this thread's keys; 0: none yet */
	uint64_t gets, hits, sets, shown_late, gone_early;
};

static void truth_get(struct truth *t, uint32_t n)
{
	struct kvs_value v = { NULL, 0, 0, 0 };
	unsigned char buf[128];
	struct key k;
	int64_t before, after;
	int err;

	before = boot_ms(NULL);
	err = kvs_get(t->kv, key_make(&k, t->first + n), buf, sizeof(buf), &v);
	after = boot_ms(NULL);
	t->gets++;
	t->hits += !err;
	if (!err && v.expires_at_ms <= before)
		t->shown_late++;
	if (!err && v.expires_at_ms != t->deadline[n])
		fail("a key has another deadline than it was given");
	if (err == KVS_ERR_NOT_FOUND && t->deadline[n] > after)
		t->gone_early++;
}

static void *truth_thread(void *arg)
{
	struct truth *t = arg;
	uint64_t state = t->first + 1;
	unsigned char value[100] = { 0 };
	struct key k;

	while (boot_ms(NULL) < t->until)
		for (int i = 0; i < 100; i++) {
			uint64_t r = next_random(&state);
			uint32_t n = (uint32_t)(r >> 32) % (KEYS / THREADS);

			if (r % 100 >= 5) {
				truth_get(t, n);
				continue;
			}
			t->deadline[n] =
				boot_ms(NULL) + 100 + (int64_t)(next_random(&state) % 9901);
			must(kvs_set_ex(t->kv, key_make(&k, t->first + n),
					kvs_bytes(value, sizeof(value)), kvs_at(t->deadline[n]),
					NULL),
			     "set");
			t->sets++;
		}
	return NULL;
}

static int truth(int64_t seconds)
{
	struct kvs *kv = open_store(&boot_clock);
	struct truth t[THREADS];
	pthread_t thread[THREADS];
	struct kvs_stats s;
	uint64_t violations = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		t[i] = (struct truth){ .kv = kv,
				       .until = boot_ms(NULL) + seconds * 1000,
				       .first = i * (KEYS / THREADS) };
		t[i].deadline = calloc(KEYS / THREADS, sizeof(int64_t));
		if (!t[i].deadline || pthread_create(&thread[i], NULL, truth_thread, &t[i]))
			fail("no memory or no thread");
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		printf("thread %u: %" PRIu64 " gets, %" PRIu64 " hits, %" PRIu64
		       " sets, shown late %" PRIu64 ", gone early %" PRIu64 "\n",
		       i, t[i].gets, t[i].hits, t[i].sets, t[i].shown_late, t[i].gone_early);
		violations += t[i].shown_late + t[i].gone_early;
		free(t[i].deadline);
	}
	s = stats_of(kv);
	printf("expirations %" PRIu64 ", by writes before the wheel came %" PRIu64 " (%.2f %%)\n",
	       s.expirations, s.expirations_by_write,
	       100.0 * (double)s.expirations_by_write / (double)s.expirations);
	printf("lag ms: p50 %" PRIu64 " p99 %" PRIu64 " max %" PRIu64 "\n", s.expiry_lag_p50_ms,
	       s.expiry_lag_p99_ms, s.expiry_lag_max_ms);
	printf("violations %" PRIu64 "\n", violations);
	must(kvs_free(kv), "free");
	return violations != 0 || s.expiry_lag_p99_ms > 50 ||
	       s.expirations_by_write * 20 > s.expirations; /* the lag is known of 95 % at least */
}

/* ---- storm ---- */

#define SLOTS 1000000u /* of 10 ns */

static _Atomic int phase; /* 0: warm, 1: before, 2: storm, 3: over */

struct reader {
	struct kvs *kv;
	uint32_t *count[2]; /* gets that took so many slots: before, in the storm */
	uint64_t gets[2];
};

static void *storm_reader(void *arg)
{
	struct reader *r = arg;
	uint64_t state = (uint64_t)(uintptr_t)arg;
	unsigned char buf[128];
	struct key k;
	int now;

	while ((now = atomic_load(&phase)) < 3) {
		struct kvs_slice key = key_make(&k, (uint32_t)(next_random(&state) % KEYS));
		int64_t start = clock_ns(CLOCK_MONOTONIC);
		int64_t took;

		(void)kvs_get(r->kv, key, buf, sizeof(buf), NULL);
		took = (clock_ns(CLOCK_MONOTONIC) - start) / 10;
		if (now == 0)
			continue;
		r->count[now - 1][took < SLOTS ? took : SLOTS - 1]++;
		r->gets[now - 1]++;
	}
	return NULL;
}

static double percentile_ns(const struct reader *r, int when, double p)
{
	uint64_t all = r[0].gets[when] + r[1].gets[when];
	uint64_t rank = (uint64_t)((double)all * p);
	uint64_t seen = 0;
	uint32_t i;

	for (i = 0; i < SLOTS - 1 && seen < rank; i++)
		seen += r[0].count[when][i] + r[1].count[when][i];
	return i * 10.0;
}

static void rest_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static int storm(void)
{
	struct kvs *kv = open_store(&boot_clock);
	int64_t due = boot_ms(NULL) + 16000;
	unsigned char value[100] = { 0 };
	struct reader r[2];
	pthread_t thread[2];
	int64_t begun, gone;
	double before, during;
	uint64_t len;
	struct key k;

	for (uint32_t i = 0; i < KEYS; i++) /* other keys stay: the readers have hits throughout */
		must(kvs_set(kv, key_make(&k, i), kvs_bytes(value, sizeof(value)), NULL), "set");
	for (uint32_t i = 0; i < KEYS; i++)
		must(kvs_set_ex(kv, key_make(&k, KEYS + i), kvs_bytes(value, sizeof(value)),
				kvs_at(due), NULL),
		     "set");
	for (int i = 0; i < 2; i++) {
		r[i] = (struct reader){ .kv = kv };
		r[i].count[0] = calloc(SLOTS, sizeof(uint32_t));
		r[i].count[1] = calloc(SLOTS, sizeof(uint32_t));
		if (!r[i].count[0] || !r[i].count[1] ||
		    pthread_create(&thread[i], NULL, storm_reader, &r[i]))
			fail("no memory or no thread");
	}
	if (boot_ms(NULL) > due - 11000)
		fail("this machine is too slow for the plan");
	rest_ms(due - 10500 - boot_ms(NULL));
	atomic_store(&phase, 1);
	rest_ms(due - 1 - boot_ms(NULL));
	atomic_store(&phase, 2);
	while (begun = boot_ms(NULL), begun < due)
		;
	do {
		rest_ms(1);
		must(kvs_len(kv, &len), "len");
	} while (len > KEYS);
	gone = boot_ms(NULL);
	atomic_store(&phase, 3);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	before = percentile_ns(r, 0, 0.999);
	during = percentile_ns(r, 1, 0.999);
	printf("gets before %" PRIu64 ", in the storm %" PRIu64 "\n", r[0].gets[0] + r[1].gets[0],
	       r[0].gets[1] + r[1].gets[1]);
	printf("p50 ns %.0f -> %.0f, p99.9 ns %.0f -> %.0f (%.2fx)\n", percentile_ns(r, 0, 0.5),
	       percentile_ns(r, 1, 0.5), before, during, during / before);
	printf("all gone after %" PRId64 " ms; lag p99 %" PRIu64 " max %" PRIu64 " ms\n",
	       gone - due, stats_of(kv).expiry_lag_p99_ms, stats_of(kv).expiry_lag_max_ms);
	must(kvs_free(kv), "free");
	return during > 2 * before || gone - due > 2000;
}

/* ---- overwrite ---- */

static uint64_t status_kb(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	uint64_t kb = 0;

	if (!f)
		fail("no /proc/self/status");
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, field, strlen(field)) == 0)
			kb = strtoull(line + strlen(field) + 1, NULL, 10);
	fclose(f);
	return kb;
}

struct writer {
	struct kvs *kv;
	_Atomic uint64_t writes;
	_Atomic bool stop;
	uint64_t seed;
};

static void *overwriter(void *arg)
{
	struct writer *w = arg;
	unsigned char value[100] = { 0 };
	uint64_t n = 0;
	struct key k;

	while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		must(kvs_set_ex(w->kv, key_make(&k, (uint32_t)(next_random(&w->seed) % KEYS)),
				kvs_bytes(value, sizeof(value)), kvs_after(24 * 3600 * 1000), NULL),
		     "set");
		atomic_store_explicit(&w->writes, ++n, memory_order_relaxed);
	}
	return NULL;
}

static int overwrite(int64_t seconds)
{
	struct kvs *kv = open_store(NULL);
	unsigned char value[100] = { 0 };
	struct writer w[THREADS] = { { .kv = kv, .seed = 1 }, { .kv = kv, .seed = 2 } };
	pthread_t thread[THREADS];
	uint64_t live, most = 0, last = 0, allowed;
	struct key k;

	for (uint32_t i = 0; i < KEYS; i++)
		must(kvs_set_ex(kv, key_make(&k, i), kvs_bytes(value, sizeof(value)),
				kvs_after(24 * 3600 * 1000), NULL),
		     "set");
	must(kvs_drain(kv), "drain");
	live = stats_of(kv).bytes_live + stats_of(kv).bytes_index;
	allowed = live * 13 / 10 / 1024 + 32 * 1024;
	printf("live %.1f MiB, allowed %.1f MiB\n", (double)live / 1048576, (double)allowed / 1024);
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, overwriter, &w[i]))
			fail("no thread");
	for (int64_t s = 1; s <= seconds; s++) {
		uint64_t rss, writes;

		rest_ms(1000);
		rss = status_kb("VmRSS:");
		writes = w[0].writes + w[1].writes;
		most = rss > most ? rss : most;
		if (s <= 5 || s % 10 == 0)
			printf("%3" PRId64 " s: %.2f M/s, VmRSS %.1f MiB, deferred %.1f MiB\n", s,
			       (double)(writes - last) / 1e6 /
				       (s <= 5    ? 1
					: s == 10 ? 5
						  : 10),
			       (double)rss / 1024, (double)stats_of(kv).bytes_deferred / 1048576);
		if (s <= 5 || s % 10 == 0)
			last = writes;
	}
	for (unsigned i = 0; i < THREADS; i++)
		atomic_store(&w[i].stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	printf("VmRSS at most %.1f MiB, VmHWM %.1f MiB, %.2fx of the live set less 32 MiB\n",
	       (double)most / 1024, (double)status_kb("VmHWM:") / 1024,
	       ((double)status_kb("VmHWM:") / 1024 - 32) / ((double)live / 1048576));
	live = status_kb("VmHWM:");
	must(kvs_free(kv), "free");
	return live > allowed;
}

/* ---- speed ---- */

#define SLICE 200000u
#define ROUNDS 40u

static double set_slice(struct kvs *kv, uint64_t *state, bool timed)
{
	unsigned char value[100] = { 0 };
	int64_t start = clock_ns(CLOCK_MONOTONIC);
	struct key k;

	for (uint32_t i = 0; i < SLICE; i++) {
		struct kvs_slice key = key_make(&k, (uint32_t)(next_random(state) % KEYS));

		if (timed)
			must(kvs_set_ex(kv, key, kvs_bytes(value, sizeof(value)),
					kvs_after(3600000), NULL),
			     "set");
		else
			must(kvs_set(kv, key, kvs_bytes(value, sizeof(value)), NULL), "set");
	}
	return SLICE / ((double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e3);
}

static double get_slice(struct kvs *kv, uint64_t *state)
{
	int64_t start = clock_ns(CLOCK_MONOTONIC);
	unsigned char buf[128];
	struct key k;

	for (uint32_t i = 0; i < SLICE; i++)
		must(kvs_get(kv, key_make(&k, (uint32_t)(next_random(state) % KEYS)), buf,
			     sizeof(buf), NULL),
		     "get");
	return SLICE / ((double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e3);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static int speed(void)
{
	struct kvs *plain = open_store(NULL);
	struct kvs *timed = open_store(NULL);
	static double sets[2][ROUNDS], gets[2][ROUNDS], set_ratio[ROUNDS], get_ratio[ROUNDS];
	uint64_t state = 1;
	struct key k;

	for (uint32_t i = 0; i < KEYS; i++) {
		unsigned char value[100] = { 0 };

		must(kvs_set(plain, key_make(&k, i), kvs_bytes(value, sizeof(value)), NULL), "set");
		must(kvs_set_ex(timed, key_make(&k, i), kvs_bytes(value, sizeof(value)),
				kvs_after(3600000), NULL),
		     "set");
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		sets[0][i] = set_slice(plain, &state, false);
		sets[1][i] = set_slice(timed, &state, true);
		set_ratio[i] = sets[1][i] / sets[0][i];
	}
	must(kvs_drain(plain), "drain");
	must(kvs_drain(timed), "drain");
	for (unsigned i = 0; i < ROUNDS; i++) {
		gets[0][i] = get_slice(plain, &state);
		gets[1][i] = get_slice(timed, &state);
		get_ratio[i] = gets[1][i] / gets[0][i];
	}
	printf("set %.2f M/s, with ttl %.2f M/s, median of ratios %.3f (wanted 0.7)\n",
	       median(sets[0], ROUNDS), median(sets[1], ROUNDS), median(set_ratio, ROUNDS));
	printf("get %.2f M/s, of timed keys %.2f M/s, median of ratios %.3f (wanted 0.9)\n",
	       median(gets[0], ROUNDS), median(gets[1], ROUNDS), median(get_ratio, ROUNDS));
	printf("bytes an entry: %.2f without, %.2f with a deadline\n",
	       (double)stats_of(plain).bytes_live / KEYS,
	       (double)stats_of(timed).bytes_live / KEYS);
	must(kvs_free(plain), "free");
	must(kvs_free(timed), "free");
	return median(set_ratio, ROUNDS) < 0.7 || median(get_ratio, ROUNDS) < 0.9;
}

int main(int argc, char **argv)
{
	int64_t seconds = argc > 2 ? strtoll(argv[2], NULL, 10) : 60;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && strcmp(argv[1], "truth") == 0)
		return truth(seconds);
	if (argc > 1 && strcmp(argv[1], "storm") == 0)
		return storm();
	if (argc > 1 && strcmp(argv[1], "overwrite") == 0)
		return overwrite(seconds);
	if (argc > 1 && strcmp(argv[1], "speed") == 0)
		return speed();
	fprintf(stderr, "usage: expiry truth [SECONDS] | storm | overwrite [SECONDS] | speed\n");
	return 2;
}
