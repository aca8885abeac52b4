/* SPDX-License-Identifier: MIT */
/*
 * lin.h - histories of operations on keys, and the check that one is linearizable.
 *
 * A history is what each thread did, in its own array: operations with the interval of clock
 * ticks in which they ran and what they answered. The object is a map; keys are checked apart,
 * which is exact (Herlihy and Wing: linearizability is local). A key's state is the version of
 * its entry, 0 if it is absent. lin.c tells how it is checked.
 *
 * Keys may have deadlines. Then that a clock moves is an operation too, on all keys at once, with the interval in
 * which it was moved: a key is there while the clock is before its deadline.
 */
#ifndef KVS_TESTS_LIN_H
#define KVS_TESTS_LIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if !defined(__x86_64__)
#include <time.h>
#endif

#define LIN_THREADS 8u
#define LIN_CONFIGS 4096u /* of the search, held at once, unless the history says fewer */

enum lin_kind {
	LIN_SET,
	LIN_ADD,
	LIN_REPLACE,
	LIN_COMPARE_AND_SET,
	LIN_GET_AND_SET,
	LIN_GET_AND_DELETE,
	LIN_DELETE,
	LIN_GET,
	LIN_EXISTS,
	LIN_KINDS, /* of a history without time */
	LIN_EXPIRE = LIN_KINDS,
	LIN_TOUCH,
	LIN_TIMED_KINDS,
	LIN_CLOCK = LIN_TIMED_KINDS, /* comes to value */
	LIN_NAMES
};

/* lin_kind_names - As in what is printed. */
extern const char *const lin_kind_names[LIN_NAMES];

enum lin_answer { LIN_OK, LIN_NOT_FOUND, LIN_DUPLICATE, LIN_MISMATCH, LIN_ANSWERS };

/*
 * One operation. version is what was reported: of the entry written, read or removed, or the
 * present one with DUPLICATE and MISMATCH. before is what the operation says it met:
 * get_and_set's old version, compare_and_set's expected one. Values are numbers, none written
 * twice.
 */
struct lin_op {
	uint64_t start; /* ticks */
	uint64_t end;
	uint64_t version;
	uint64_t value;        /* written, read or removed */
	uint64_t before;       /* version; 0: absent */
	uint64_t before_value; /* get_and_set only */
	int64_t ttl;     /* of what was written, ms from some instant of the call on; 0: for ever */
	int64_t expires; /* get, get_and_delete: the deadline that was told; 0: none */
	uint32_t key;
	uint8_t kind;   /* enum lin_kind */
	uint8_t answer; /* enum lin_answer */
};

struct lin_thread {
	struct lin_op *ops; /* in the order in which the thread made them */
	size_t count;
};

struct lin_history {
	struct lin_thread thread[LIN_THREADS];
	size_t threads;
	uint32_t keys;           /* keys are below */
	size_t configs_max;      /* more configurations of the search: undecided; 0: LIN_CONFIGS */
	int64_t now;             /* the clock, ms, before it was moved */
	struct lin_thread clock; /* LIN_CLOCK each, one after the other */
	bool strict;             /* without the exception, see lin.c */
};

enum lin_outcome { LIN_LINEARIZABLE, LIN_VIOLATION, LIN_UNDECIDED };

struct lin_verdict {
	enum lin_outcome outcome;
	uint64_t operations;
	uint64_t overlapping; /* operations that overlap another on the same key */
	uint64_t searched;    /* operations decided by the search, the others one after the other */
	uint64_t crossed;     /* writes that returned after an overlapping one of greater version */
	uint64_t expired;     /* answers NOT_FOUND for a key that was gone by its deadline */
	size_t configs;       /* the most states held at once */
	char why[1024];       /* what is wrong, if not linearizable */
};

/* lin_check - Check @history. Needs memory in proportion; without it the outcome is undecided. */
void lin_check(const struct lin_history *history, struct lin_verdict *ret);

/* lin_ticks_before, lin_ticks_after - The clock, right before and right after an operation. */
static inline uint64_t lin_ticks_before(void)
{
#if defined(__x86_64__)
	uint32_t low, high;

	__asm__ __volatile__("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
#else
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

static inline uint64_t lin_ticks_after(void)
{
#if defined(__x86_64__)
	uint32_t low, high;

	__asm__ __volatile__("rdtscp; lfence" : "=a"(low), "=d"(high) : : "rcx", "memory");
	return (uint64_t)high << 32 | low;
#else
	return lin_ticks_before();
#endif
}

#endif /* KVS_TESTS_LIN_H */
