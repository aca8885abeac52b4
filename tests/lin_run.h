/* SPDX-License-Identifier: MIT */
/*
 * lin_run.h - threads that work on few keys of a store, all on the same, and note what they asked and what was
 * answered: the histories that lin.h checks, and what they added up to.
 *
 * What the operations are is up to the test's mix; what else goes on beside them is the test's own.
 */
#ifndef KVS_TESTS_LIN_RUN_H
#define KVS_TESTS_LIN_RUN_H

#include "lin.h"
#include "util.h"

#define LIN_WORKERS 4u
#define LIN_HOT_MAX 8u

/* What the threads do. */
struct lin_mix {
	uint8_t weights[LIN_TIMED_KINDS]; /* of the operations alone, in percent */
	enum lin_kind batches[4];         /* LIN_SET, LIN_DELETE or LIN_GET; as likely each */
	size_t batch_kinds;               /* of batches[] */
	uint64_t batch_one_in;
	uint64_t large_one_in; /* of the values: in a block of its own */
	uint64_t ttl_max;      /* ms; 0: by the calls that know no deadlines */
};

/* One history after the other. */
struct lin_run {
	const struct lin_mix *mix;
	struct kvs *kv;
	uint64_t number; /* of the history */
	uint32_t hot;    /* keys that the threads share */
	size_t each;     /* operations of a thread */
	struct lin_history history;
	uint64_t answers[LIN_WORKERS][LIN_TIMED_KINDS][LIN_ANSWERS];
	uint64_t batched[LIN_WORKERS]; /* of the operations, items of batches */
	_Atomic size_t working;        /* threads that have not ended */
};

struct lin_totals {
	uint64_t histories, operations, overlapping, searched, crossed, expired, configs;
	uint64_t violations, undecided, batched;
	uint64_t answers[LIN_TIMED_KINDS][LIN_ANSWERS];
};

/* lin_run_init, lin_run_free - @run's room for @each operations of a thread. */
void lin_run_init(struct lin_run *run, const struct lin_mix *mix, size_t each);
void lin_run_free(struct lin_run *run);

/* lin_run_begin - Before a history: nothing noted. The keys' number is random. */
void lin_run_begin(struct lin_run *run, struct rng *r);

/* lin_run_end - Add a history to the sum; fail the test unless @v is that it is linearizable. */
void lin_run_end(const struct lin_run *run, const struct lin_verdict *v, struct lin_totals *sum);

/* The thread @index of a history. */
struct lin_worker *lin_worker_begin(struct lin_run *run, size_t index);
void lin_worker_end(struct lin_worker *w);

/* lin_worker_go_on - Make an operation or a batch of them, and note it; the thread has not made all of its own yet. */
void lin_worker_go_on(struct lin_worker *w);

/* lin_totals_print - @kinds: LIN_KINDS or LIN_TIMED_KINDS. */
void lin_totals_print(const struct lin_totals *sum, size_t kinds);

/* lin_totals_answered - Whether every answer that one of the @kinds can give was given @floor times. */
bool lin_totals_answered(const struct lin_totals *sum, size_t kinds, uint64_t floor);

/* lin_totals_check - Fail unless @histories or more were judged, with all the operations of each. */
void lin_totals_check(const struct lin_totals *sum, const struct lin_run *run, size_t histories);

#endif /* KVS_TESTS_LIN_RUN_H */
