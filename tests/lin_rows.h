/* SPDX-License-Identifier: MIT */
/*
 * lin_rows.h - small histories of one key, a row an operation, on which the check of lin.h is checked itself.
 *
 * They are written by hand, each with the verdict that it must get, or made at random, to be compared with a search
 * through all orders. The map that such a search steps through is the test's own.
 */
#ifndef KVS_TESTS_LIN_ROWS_H
#define KVS_TESTS_LIN_ROWS_H

#include "lin.h"
#include "util.h"

#define LIN_ROWS 8u /* of a history, at most */
#define LIN_ROW_THREADS 4u
#define LIN_ROW_CLOCK LIN_ROW_THREADS /* the thread of LIN_CLOCK */
#define LIN_ROW_START 100             /* the clock, ms, in the beginning */

/* As struct lin_op. */
struct lin_row {
	size_t thread;
	uint64_t start, end;
	enum lin_kind kind;
	enum lin_answer answer;
	uint64_t version, value, before, before_value;
	int64_t ttl, expires;
};

struct lin_hand_made {
	const char *name;
	enum lin_outcome outcome;
	struct lin_row rows[LIN_ROWS]; /* end: 0 ends the list */
};

/* lin_rows_judge - lin_check() of the history that the @count @rows are. */
void lin_rows_judge(const struct lin_row *rows, size_t count, bool strict, struct lin_verdict *ret);

/* lin_judge_hand_made - Fail unless each of the @count histories gets its verdict; print how many are faulty. */
void lin_judge_hand_made(const struct lin_hand_made *h, size_t count);

/* What the instants of random rows are chosen by. */
struct lin_instants {
	uint64_t last;                         /* when the last operation took effect */
	uint64_t free_at[LIN_ROW_THREADS + 1]; /* when the thread's last operation has ended */
};

/*
 * lin_row_random - A row of @thread that takes effect after those before, in an interval about that instant that may
 * overlap others'; the answer is the caller's.
 */
struct lin_row lin_row_random(struct rng *r, struct lin_instants *at, size_t thread,
			      enum lin_kind kind);

/* lin_row_may_be_next - Whether none of the others that are not @done, a bit each, ended before row @i began. */
bool lin_row_may_be_next(const struct lin_row *rows, size_t count, uint32_t done, size_t i);

/* lin_row_writes - Whether the row wrote a value, under a version of its own. */
bool lin_row_writes(const struct lin_row *row);

/* lin_rows_versions_hold - What versions promise beyond an order: no repetition, and growth in real time. */
bool lin_rows_versions_hold(const struct lin_row *rows, size_t count);

#endif /* KVS_TESTS_LIN_ROWS_H */
