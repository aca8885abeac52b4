/* SPDX-License-Identifier: MIT */
/*
 * explore.h - which fiber runs next: every choice within a bound, random choices, or a given list.
 *
 * A schedule is one run of a set of fibers from the sealed heap to their ends. A scheduling point
 * lies before each ordered atomic operation and each operation of the RCU model. To switch there
 * is a preemption; to choose who goes on when a fiber ended or waits for a grace period is free.
 *
 * SEARCH  Depth first, by running again with a longer list of choices, until every schedule with at
 * most `bound` preemptions was run, or an equivalent one was.
 *
 * REDUCTION (off with full)  Two schedules are equivalent if one comes from the other by
 * swapping neighbouring steps of different fibers that do not conflict: they give the same results.
 *   1 A preemption is tried only before an operation that conflicts with what another fiber does
 *     in some schedule: elsewhere it can be delayed to the next such one.
 *     What conflicts is found by exploring: the search is repeated until nothing new was met, with
 *     no preemptions first, then with one more each time.
 *   2 A preempted fiber goes on only if what the others did meanwhile conflicts with the operation
 *     that it was preempted before: else delaying the preemption behind that gives the same.
 * Delaying never adds a preemption, so nothing within the bound is lost. An operation of the
 * program begins with its first conflicting step and ends with its last step: "ended before the
 * other began" counts as a conflict too, so no order in time that the history check rests on is
 * lost.
 */
#ifndef SCHED_EXPLORE_H
#define SCHED_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHED_FIBERS 4u
#define SCHED_MAIN SCHED_FIBERS /* the context that is no fiber */
#define SCHED_SELF_MAX (SCHED_FIBERS + 1)
#define SCHED_TEXT 512

/* ---- called by the instrumented sources (hooks.h) and by the models ---- */

enum sched_kind { SCHED_READ, SCHED_WRITE };

/* sched_at - An atomic operation on @p comes next; @point: others may run before it. */
void sched_at_slow(const volatile void *p, enum sched_kind kind, bool point);
extern unsigned sched_quiet; /* not 0: outside of fibers, or between sched_quiet_begin and _end */

static inline void sched_at(const volatile void *p, enum sched_kind kind, bool point)
{
	if (!sched_quiet)
		sched_at_slow(p, kind, point);
}

/* sched_compared - The compare-and-swap was made. sched_stored - @v is about to be stored. */
void sched_compared(const volatile void *p, uint64_t from, uint64_t to, bool won);
void sched_stored(const volatile void *p, uint64_t v);

extern uint64_t sched_mutant_hits;

/* sched_freed - @words words from heap word @word on are being freed. */
void sched_freed(size_t word, size_t words);

/* sched_self - The fiber that runs, or SCHED_MAIN. */
unsigned sched_self(void);

/* sched_wait_for - Block this fiber until the sections of the fibers in @mask have ended. */
void sched_wait_for(uint32_t mask);
void sched_section_ended(unsigned fiber);

/* What is done in between is nobody's: no scheduling points. They nest. */
void sched_quiet_begin(void);
void sched_quiet_end(void);

/* sched_fail - This schedule shows a fault. From a fiber it does not return. */
void sched_fail(const char *message);

/* ---- called by the fibers of a program ---- */

/*
 * An operation begins and ends. *@late is when it made its first step that conflicts with
 * another fiber's, *@early when it made its first step, *@at when it ended.
 */
void sched_op_begin(uint32_t *late, uint32_t *early);
void sched_op_end(uint32_t *at);

/* sched_is_settled - Are all conflicts known? Until then only the early times can be relied on. */
bool sched_is_settled(void);

/* ---- called by the test ---- */

enum sched_mode { SCHED_SEARCH, SCHED_RANDOM, SCHED_PCT, SCHED_REPLAY };

struct sched_plan {
	unsigned fibers;
	void (*fn)(unsigned fiber); /* the body of each */
	void (*begin)(void);        /* before each schedule: restore everything */
	void (*end)(void);          /* after each that ran to its end: check, sched_fail() */
	bool twins;                 /* fibers 0 and 1 do the same: 1 need not be started first */
	enum sched_mode mode;
	unsigned bound;     /* SEARCH: preemptions */
	bool full;          /* SEARCH: without the reduction */
	uint64_t seed;      /* RANDOM, PCT */
	uint64_t schedules; /* RANDOM, PCT: how many */
	unsigned depth;     /* PCT: priorities change so many times, less one */
	unsigned steps;     /* PCT: about how many a schedule has */
	const char *replay; /* REPLAY: "STEP>FIBER STEP/FIBER ..." */
	bool trace;         /* print each step */
};

/* What was done; added to by every sched_explore(). */
struct sched_counts {
	uint64_t schedules; /* run to their end and checked */
	uint64_t redundant; /* given up: equivalent to another */
	uint64_t passes;    /* searches, repeated ones too */
	uint64_t steps;     /* scheduling points met in the last search of each program */
	uint64_t all_steps; /* and in all */
	uint64_t preempted; /* preemptions */
	uint64_t lost;      /* compare-and-swaps that lost */
	uint64_t helped;    /* unlinkings of a node that another fiber had marked */
	uint64_t unlinked;  /* unlinkings */
	uint64_t resized;   /* sizes published while another fiber was inside an operation */
	uint64_t failed;    /* schedules */
};
extern struct sched_counts sched_counts;

/* sched_explore - Run schedules as planned. false: one failed, and sched_failure tells about it. */
bool sched_explore(const struct sched_plan *plan);

struct sched_failure {
	char message[SCHED_TEXT];
	char replay[SCHED_TEXT]; /* "-" if it has no switches */
	uint64_t runs;           /* up to this one, of this sched_explore() */
};
extern struct sched_failure sched_failure;

/* sched_tls_swap - Trade the thread-local memory of the main context for that of a fiber. */
void sched_tls_swap(unsigned fiber);

/*
 * sched_forget_conflicts - Another store comes, at other addresses. Until then what is known of
 * conflicts is kept from program to program: to believe in too many only costs redundant schedules.
 */
void sched_forget_conflicts(void);

/* sched_commutes - What is done to the word at @p does not conflict, in whatever order. NULL: forget all. */
void sched_commutes(const volatile void *p);

/* sched_watch_size - Count in resized what is published there. */
void sched_watch_size(const volatile void *p);

/* sched_on_crash - Call @fn, then end the program, if a schedule crashes or does not end. */
void sched_on_crash(void (*fn)(void));

#endif
