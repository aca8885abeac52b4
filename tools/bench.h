/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the files of kvs-bench share.
 *
 *   kvs-bench.c      main: the steps in their order
 *   bench_options.c  command line -> struct config
 *   bench_worker.c   a thread's memory, errors, progress
 *   bench_load.c     fill the store
 *   bench_plan.c     choose the operations: mix, distribution, keys
 *   bench_snapshot.c save the store meanwhile
 *   bench_run.c      do them, time some, check some
 *   bench_result.c   add up what the threads found
 *   bench_report.c   print it for people
 *   bench_json.c     print it for programs
 */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <kvs.h>

#include "dataset.h"
#include "histogram.h"
#include "meminfo.h"
#include "permutation.h"
#include "pool.h"
#include "zipf.h"

#define PROGRAM "kvs-bench"
#define ZIPF_THETA 0.99
#define CHECK_EVERY 64 /* gets for each value that is checked */
#define PLAN_STEPS 32  /* operations that are chosen ahead of time */
#define CACHE_LINE 64

enum exit_code { EXIT_GOOD = 0, EXIT_RUN = 1, EXIT_USAGE = 2 };

enum dist { DIST_UNIFORM, DIST_ZIPF, DIST_LATEST };

/* Kinds of operation, each with its own histogram. Those from KIND_READ on make up the run. */
enum kind { KIND_LOAD, KIND_READ, KIND_ABSENT, KIND_UPDATE, KIND_INSERT, KIND_RMW, KINDS };

/* kind_name - In reports: "load", "read", ... */
const char *kind_name(enum kind kind);

/* A mix of YCSB's: how many of 100 operations are of each kind; the rest are reads. */
struct mix {
	char letter;
	unsigned update, insert, rmw;
	const char *text;
};

/* mix_get - The mix of index @i, in the order of the option's words. */
const struct mix *mix_get(int i);

/* ---- Options --------------------------------------------------------------------------- */

struct config {
	const char *input; /* NULL: synthetic */
	const char *json;  /* NULL: none; "-": on stdout, in place of the report */
	uint64_t keys;
	uint64_t key_size;
	uint64_t value_size;
	uint64_t threads;
	uint64_t ops; /* 0: for a time */
	uint64_t seed;
	uint64_t rate;   /* operations started per second by the clock; 0: each after the other */
	uint64_t sample; /* one operation of so many is timed */
	uint64_t shards;
	const char *snapshot_file; /* NULL: no saves */
	double snapshot_every;     /* seconds; 0: no saves */
	double seconds;
	double miss; /* percent of the reads */
	int mix;
	int dist; /* enum dist */
	int hash; /* enum kvs_hash */
	bool plant_error;
	bool help;
	bool version;
};

/* options_parse - Returns 0, or EXIT_USAGE after an error was printed. */
int options_parse(int argc, char **argv, struct config *ret_config);

void options_help(void);

/* ---- State ----------------------------------------------------------------------------- */

/* The thread that saves, and what it counted. Workers read saving. */
struct saver {
	pthread_t thread;
	bool runs;
	atomic_bool quit;
	atomic_bool saving;
	uint64_t saves; /* that ended within the run */
	uint64_t ns;    /* of these */
	uint64_t ops;   /* operations of all threads meanwhile */
};

/* What stays the same during the run, and the few words that all threads share. */
struct bench {
	struct config config;
	struct dataset data;
	struct zipf zipf;
	struct permutation scatter; /* rank -> key number */
	struct kvs *kv;
	struct worker **worker;
	struct saver saver;
	uint64_t start_ns;                              /* of the phase that runs */
	_Alignas(CACHE_LINE) _Atomic uint64_t next_row; /* to be loaded */
	_Alignas(CACHE_LINE) atomic_bool stop;
	atomic_bool failed;    /* an error was printed */
	atomic_bool bad_input; /* and it is the input's fault */
};

/* One thread's own. Others read done and inserted. */
struct worker {
	struct bench *bench;
	unsigned id;
	struct random random;
	uint64_t quota;      /* operations to do */
	uint64_t issued;     /* operations begun */
	uint64_t new_keys;   /* chosen for inserts */
	uint64_t sample_in;  /* operations until the next timed one */
	uint64_t check_in;   /* gets until the next checked one */
	uint64_t generation; /* of the next value */
	uint64_t hits, misses, checked, retries;
	uint64_t ops[KINDS];
	uint64_t end_ns;
	unsigned char *get_buf;   /* room for the longest value */
	unsigned char *value_buf; /* likewise, where values are made */
	unsigned char *key_buf;   /* PLAN_STEPS keys */
	struct histogram latency[KINDS];
	struct histogram saving[KINDS];                 /* of these, begun during a save */
	_Alignas(CACHE_LINE) _Atomic uint64_t done;     /* for the progress bar */
	_Alignas(CACHE_LINE) _Atomic uint64_t inserted; /* new keys that are in the store */
};

/* workers_new - Allocate and touch all that the threads need. Returns 0 or -1: no memory. */
int workers_new(struct bench *b);
void workers_free(struct bench *b);

/* worker_fail - Print an error, once however many threads find one, and stop them all. */
void worker_fail(struct worker *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* worker_fail_key - As worker_fail: "@what: @reason (key ...)". */
void worker_fail_key(struct worker *w, const char *what, const char *reason, struct kvs_slice key);

/* worker_sample - Operations until the next timed one: random, to keep step with nothing. */
uint64_t worker_sample(struct worker *w);

/* bench_error - Print an error that starts with the program's name. */
void bench_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* workers_done - Operations that all threads together have done, give or take a few. */
uint64_t workers_done(const struct bench *b);

/* workers_run - Run @job on all threads, with a progress bar; stop it after @limit_ns if not 0. */
void workers_run(struct bench *b, struct pool *pool, pool_job job, const char *what, uint64_t total,
		 uint64_t limit_ns);

/* ---- Phases ---------------------------------------------------------------------------- */

void bench_load_job(void *bench, unsigned thread);
void bench_run_job(void *bench, unsigned thread);

/* bench_planned - Operations that the run will do; 0 if only time will tell. */
uint64_t bench_planned(const struct bench *b);

/* saver_start - Begin to save now and then, if that is asked for. 0, or -1: no thread. saver_end - And end it. */
int saver_start(struct bench *b);
void saver_end(struct bench *b);

/* bench_run_setup - Share the operations out to the threads. */
void bench_run_setup(struct bench *b);

struct step {
	enum kind kind;
	uint64_t number; /* of the key */
	struct kvs_slice key;
};

/* plan_fill - Choose the next @count operations, at most PLAN_STEPS. */
void plan_fill(struct worker *w, struct step *steps, unsigned count);

/* plan_cost - What choosing an operation and making its key costs, in ns. */
double plan_cost(struct worker *w);

/* ---- Result ---------------------------------------------------------------------------- */

struct result {
	uint64_t load_ns;
	uint64_t run_ns;
	uint64_t run_cpu_ns; /* processor time of the whole process meanwhile */
	uint64_t operations;
	uint64_t planned; /* with --rate: operations that were due; else 0 */
	uint64_t hits, misses, checked, retries;
	uint64_t ops[KINDS];
	struct histogram latency[KINDS];
	struct histogram saving[KINDS];
	struct meminfo before, loaded, after;
	struct kvs_stats stats; /* after loading */
	uint64_t keys_after;
	uint64_t timer_cost_ns;
	double plan_cost_ns;
};

/* result_collect - Add up the threads' counts and histograms. */
void result_collect(const struct bench *b, struct result *r);

/* result_elapsed - From the start of the phase to its last thread's end, in ns. */
uint64_t result_elapsed(const struct bench *b);

/* Derived figures, the same in both reports. */
double result_rate(const struct result *r);        /* operations a second */
double result_cpus(const struct result *r);        /* processors in use, mean of the run */
double result_hit_percent(const struct result *r); /* of all reads */
uint64_t result_late(const struct result *r);      /* due by --rate, never begun */
double result_resident(const struct result *r);    /* bytes that loading added */
double result_per_key(const struct bench *b, double bytes);
double result_rate_saving(const struct bench *b);                        /* during saves */
double result_rate_quiet(const struct bench *b, const struct result *r); /* the rest of the run */
double result_payload(const struct bench *b); /* bytes of a key and its value, mean */

void report_print(const struct bench *b, const struct result *r);

/* json_print - Returns 0, or -1 if the stream failed. */
int json_print(FILE *out, const struct bench *b, const struct result *r);

#define REPORT_PERCENTS 5
extern const double report_percents[REPORT_PERCENTS];
extern const char *const report_percent_names[REPORT_PERCENTS];

#endif /* TOOLS_BENCH_H */
