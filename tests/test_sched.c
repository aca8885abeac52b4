/* SPDX-License-Identifier: MIT */
/*
 * test_sched.c - the explorer: the real sources under every schedule within a bound.
 *
 * All of src/ but rcu.c (its model: sched/sched_rcu.c) is compiled with hooks at its atomic
 * operations, into one program without threads:
 *
 *   cc -std=gnu11 -O2 -g -DKVS_SCHED -DKVS_PLAIN_ALLOC -DKVS_DEBUG -DPACKAGE_VERSION='"0"' \
 *      -include tests/sched/hooks.h \
 *      -Iinclude -Isrc -Itests/sched -o test_sched tests/test_sched.c tests/sched/[a-z]*.c \
 *      $(ls src/[a-z]*.c | grep -vE '/(rcu|file|format|io|load|save).c')
 *
 * and with -O1 -fsanitize=address,undefined to have plain accesses to freed memory caught too.
 *
 *   test_sched                      all groups at the scale of KVS_TEST_SCALE (ci, full or long)
 *   test_sched GROUP...             these
 *   test_sched --every N GROUP...   one program in N of these, to see what all would cost
 *   test_sched --every N --part K GROUP...   number K of N parts, from 0: together they are all
 *   test_sched --program TEXT       one program (sched/program.h), searched; with --bound N, --full
 *   test_sched --program TEXT --replay TEXT   one schedule of it, traced
 *
 * KVS_TEST_SEED seeds the random groups. KVS_SCHED_FIRST=1 ends the program at the first failure.
 * What is searched, and what an equivalent schedule is: sched/explore.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "program.h"
#include "sched_rcu.h"

#define BIT(x) (1u << (x))
#define ALL_KEYS (BIT(KEYS_NEAR) | BIT(KEYS_EQUAL))
#define CUT_KEYS (BIT(KEYS_APART) | BIT(KEYS_EQUAL))
#define BOTH (BIT(INIT_EMPTY) | BIT(INIT_FULL))
#define FAILURES_MAX 5u

/* Modes of groups only: a search of a part of the programs, and with the reduction and without. */
#define SAMPLE ((enum sched_mode)1000)
#define COMPARE ((enum sched_mode)1001)

/* A sanitizer makes it three times as slow: there CI leaves out what takes longest, the PLAIN ones. */
enum scale { CI, PLAIN, FULL, LONG };
#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

/* What a run must have met at least, lest it prove nothing. */
struct floor {
	uint64_t programs, schedules, lost, helped, deferred, resized, blocked, handed, settled;
};

struct group {
	const char *name;
	enum scale scale; /* from which on it is run */
	unsigned keys;    /* bits */
	unsigned inits;   /* bits */
	enum third third;
	unsigned ops[2]; /* of the two lists */
	unsigned bound;
	bool full; /* without the reduction */
	enum sched_mode mode;
	uint64_t
		schedules; /* RANDOM, PCT: a program; SAMPLE, COMPARE: of so many programs one; SEARCH: an alphabet */
	struct floor floor;
};

/* Operations of which a group's lists are made; each program has at least one beyond the first 13. */
struct alphabet {
	unsigned count;
	uint8_t op[20];
};

enum { FIRST_OPS, ALL_OPS, FEW_OPS, PIN_OPS, WRITES, TIME_OPS, RENEW_OPS };

static const struct alphabet alphabets[] = {
	[ALL_OPS] = { 18,
		      { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, OP_CODE(OP_INCREMENT, 0),
			OP_CODE(OP_INCREMENT, 1), OP_CODE(OP_BATCH_GET, 0),
			OP_CODE(OP_BATCH_SET, 0), OP_CODE(OP_BATCH_DELETE, 0) } },
	[PIN_OPS] = { 5,
		      { OP_CODE(OP_SET, 0), OP_CODE(OP_DELETE, 0), OP_CODE(OP_PIN, 0),
			OP_CODE(OP_PIN, 1), OP_CODE(OP_BATCH_DELETE, 0) } },
	[TIME_OPS] = { 10,
		       { OP_CODE(OP_SET, 0), OP_CODE(OP_ADD, 0), OP_CODE(OP_REPLACE, 0),
			 OP_CODE(OP_DELETE, 0), OP_CODE(OP_GET, 0), OP_CODE(OP_SCAN, 0),
			 OP_CODE(OP_INCREMENT, 0), OP_CODE(OP_SET_TIMED, 0),
			 OP_CODE(OP_SET_TIMED, 1), OP_CODE(OP_TOUCH, 0) } },
	[RENEW_OPS] = { 5,
			{ OP_CODE(OP_SET, 0), OP_CODE(OP_DELETE, 0), OP_CODE(OP_GET, 0),
			  OP_CODE(OP_SET_TIMED, 0), OP_CODE(OP_TOUCH, 0) } },
	[FEW_OPS] = { 7,
		      { OP_CODE(OP_ADD, 0), OP_CODE(OP_DELETE, 0), OP_CODE(OP_GET, 0),
			OP_CODE(OP_INCREMENT, 0), OP_CODE(OP_BATCH_GET, 0),
			OP_CODE(OP_BATCH_SET, 0), OP_CODE(OP_BATCH_DELETE, 0) } },
	/* beside a snapshot */
	[WRITES] = { 6,
		     { OP_CODE(OP_SET, 0), OP_CODE(OP_SET, 1), OP_CODE(OP_COMPARE, 0),
		       OP_CODE(OP_COMPARE, 1), OP_CODE(OP_DELETE, 0), OP_CODE(OP_DELETE, 1) } },
};

static const char *current_group = "?";
static char current_program[128] = "?";
static struct setting current_setting;
static uint64_t failures;
static uint64_t programs;
static uint64_t met; /* programs of the group, also those that are not to be run */
static uint64_t seed = 1;
static bool stop_at_first;
static uint64_t every = 1; /* programs: of so many one */
static uint64_t part;      /* which */

/* ---- failures ---- */

static void tell_failure(void)
{
	printf("# %s: %s\n#   test_sched --program '%s' --replay '%s'\n#   schedule %" PRIu64
	       " of the program, program %" PRIu64 " of the group\n",
	       current_group, sched_failure.message, current_program, sched_failure.replay,
	       sched_failure.runs, programs);
	if (sched_mutant_hits)
		printf("# mutant hits %" PRIu64 "\n", sched_mutant_hits);
	fflush(stdout);
}

static void crashed(void)
{
	tell_failure();
	printf("not ok - %s\nBail out! a schedule crashed\n", current_group);
	fflush(stdout);
}

static void run_program(const struct program *p, const struct sched_plan *plan)
{
	program_write(&current_setting, p, current_program, sizeof(current_program));
	programs++;
	if (program_run(p, plan))
		return;
	failures++;
	tell_failure();
	if (stop_at_first)
		exit(1);
}

/* ---- all programs of a group ---- */

static bool has_snapshot(const struct group *g)
{
	return g->third >= THIRD_CUT && g->third <= THIRD_ABORT;
}

static const struct alphabet *alphabet_of(const struct group *g)
{
	if (has_snapshot(g))
		return &alphabets[WRITES];
	return g->mode == SCHED_SEARCH && g->schedules != FIRST_OPS ? &alphabets[g->schedules]
								    : NULL;
}

static unsigned ops_of(const struct group *g)
{
	return alphabet_of(g) ? alphabet_of(g)->count : OP_COUNT;
}

static unsigned lists_of(const struct group *g, unsigned ops)
{
	unsigned n = 1;

	while (ops--)
		n *= ops_of(g);
	return n;
}

static void list_make(const struct group *g, struct program *p, unsigned list, unsigned ops,
		      unsigned number)
{
	p->ops[list] = ops;
	for (unsigned i = ops; i-- > 0; number /= ops_of(g))
		p->op[list][i] = alphabet_of(g) ? alphabet_of(g)->op[number % ops_of(g)]
						: (uint8_t)(number % OP_COUNT);
}

/* Programs of the first 13 operations only belong to groups without an alphabet, and beside snapshots and time. */
static bool is_new(const struct group *g, const struct program *p)
{
	if (!alphabet_of(g) || has_snapshot(g) || THIRD_HAS_TIME(g->third))
		return true;
	for (unsigned l = 0; l < p->lists; l++)
		for (unsigned i = 0; i < p->ops[l]; i++)
			if (p->op[l][i] >= OP_COUNT)
				return true;
	return false;
}

typedef void (*program_fn)(const struct group *g, const struct program *p);

/* Beside a snapshot a third list looks at both keys, in either order. */
static void with_observers(const struct group *g, struct program *p, program_fn fn)
{
	if (!has_snapshot(g)) {
		fn(g, p);
		return;
	}
	p->lists = 3;
	p->ops[2] = 2;
	for (uint8_t first = 0; first < KEYS && failures < FAILURES_MAX; first++) {
		p->op[2][0] = 2 * OP_GET + first;
		p->op[2][1] = 2 * OP_GET + !first;
		fn(g, p);
	}
}

/* The two lists are interchangeable: if they are as long as each other, each pair is taken once. */
static void each_program(const struct group *g, program_fn fn)
{
	unsigned n0 = lists_of(g, g->ops[0]);
	unsigned n1 = lists_of(g, g->ops[1]);

	for (unsigned i = 0; i < n0 && failures < FAILURES_MAX; i++)
		for (unsigned j = g->ops[0] == g->ops[1] ? i : 0; j < n1; j++) {
			struct program p = { .lists = 2 };

			list_make(g, &p, 0, g->ops[0], i);
			list_make(g, &p, 1, g->ops[1], j);
			if (is_new(g, &p))
				with_observers(g, &p, fn);
			if (failures >= FAILURES_MAX)
				return;
		}
}

static void each_setting(const struct group *g, program_fn fn)
{
	for (unsigned k = KEYS_NEAR; k <= KEYS_UPPER; k++)
		for (unsigned i = INIT_EMPTY; i <= INIT_FULL; i++) {
			if (!(g->keys & BIT(k)) || !(g->inits & BIT(i)))
				continue;
			current_setting = (struct setting){ (enum keys)k, (enum init)i, g->third };
			program_open(&current_setting);
			each_program(g, fn);
			program_close();
		}
}

static void search(const struct group *g, const struct program *p)
{
	uint64_t n = met++;

	if (n % every != part || (g->mode == SAMPLE && n % g->schedules))
		return;
	run_program(p, &(struct sched_plan){
			       .mode = SCHED_SEARCH, .bound = g->bound, .full = g->full });
}

/* ---- is the reduction right? the same outcomes with it and without ---- */

#define OUTCOMES 65536u
static uint64_t outcomes[2][OUTCOMES]; /* hashed sets; 0: free */
static unsigned outcome_count[2];
static unsigned outcome_set;
static uint64_t compared;

static void outcome_add(void)
{
	uint64_t x = program_outcome() | 1;
	uint64_t *set = outcomes[outcome_set];
	size_t at = (size_t)(x >> 20) % OUTCOMES;

	while (set[at] && set[at] != x)
		at = (at + 1) % OUTCOMES;
	outcome_count[outcome_set] += !set[at];
	set[at] = x;
}

static bool outcome_is_in(unsigned set, uint64_t x)
{
	size_t at = (size_t)(x >> 20) % OUTCOMES;

	while (outcomes[set][at] && outcomes[set][at] != x)
		at = (at + 1) % OUTCOMES;
	return outcomes[set][at] == x;
}

static bool outcomes_differ(void)
{
	for (size_t i = 0; i < OUTCOMES; i++)
		if (outcomes[1][i] && !outcome_is_in(0, outcomes[1][i]))
			return true;
	return outcome_count[0] != outcome_count[1];
}

static void compare(const struct group *g, const struct program *p)
{
	struct sched_plan plan = { .mode = SCHED_SEARCH, .bound = g->bound };
	static uint64_t number;

	if (number++ % g->schedules != seed % g->schedules)
		return;
	memset(outcomes, 0, sizeof(outcomes));
	memset(outcome_count, 0, sizeof(outcome_count));
	program_passed = outcome_add;
	for (outcome_set = 0; outcome_set < 2; outcome_set++) {
		plan.full = outcome_set == 1;
		run_program(p, &plan);
	}
	program_passed = NULL;
	compared += outcome_count[1];
	if (!outcomes_differ())
		return;
	failures++;
	printf("# %s: %s has %u outcomes, with the reduction %u\n", current_group, current_program,
	       outcome_count[1], outcome_count[0]);
}

/* ---- random schedules of random programs of three lists ---- */

static uint64_t random_state;

static unsigned random_below(unsigned n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)((random_state >> 33) % n);
}

static void random_lists(struct program *p, unsigned lists)
{
	p->lists = lists;
	for (unsigned l = 0; l < lists; l++) {
		p->ops[l] = 2 + random_below(OPS_MAX - 1);
		for (unsigned o = 0; o < p->ops[l]; o++)
			p->op[l][o] = (uint8_t)random_below(OP_COUNT);
	}
}

static void random_in_setting(const struct group *g, unsigned number)
{
	program_open(&current_setting);
	for (unsigned i = 0; i < number && failures < FAILURES_MAX; i++) {
		struct sched_plan plan = { .mode = g->mode,
					   .depth = 2 + i % 4,
					   .steps = has_snapshot(g) ? 480 : 160,
					   .seed = seed + i * 1000003u,
					   .schedules = g->schedules };
		struct program p = { .lists = 0 };

		random_lists(&p, current_setting.third == THIRD_BOTH ? 2 : 3);
		run_program(&p, &plan);
	}
	program_close();
}

/* A third of their own for each sixth of the programs; beside snapshots, for each quarter. */
static void random_programs(const struct group *g)
{
	static const enum keys cut_keys[] = { KEYS_NEAR, KEYS_EQUAL, KEYS_APART };
	unsigned settings = has_snapshot(g) ? 24 : 36;

	for (unsigned n = 0; n < settings && failures < FAILURES_MAX; n++) {
		enum third third = (enum third)(g->third + n / 6);
		bool resizes = third != THIRD_NONE && third != THIRD_TAKE;

		/* A wide table is too large to be resized here. */
		current_setting = (struct setting){ (enum keys)(n % (resizes ? 2 : 3)),
						    (enum init)(n / 3 % 2), third };
		if (has_snapshot(g))
			current_setting.keys = cut_keys[n % 3];
		random_in_setting(g, (unsigned)(g->floor.programs / settings));
	}
}

/* ---- groups ---- */

/* clang-format off */
static const struct group groups[] = {
	{ "none-2x2", FULL, ALL_KEYS, BOTH, THIRD_NONE, { 2, 2 }, 2, false, SCHED_SEARCH, 0,
	  { 57460, 1000000, 100000, 10000, 10000, 0, 0, 0, 0 } },
	{ "none-2x1", CI, ALL_KEYS, BOTH, THIRD_NONE, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 8788, 100000, 10000, 1000, 1000, 0, 0, 0, 0 } },
	{ "wide-2x1", PLAIN, BIT(KEYS_WIDE), BOTH, THIRD_NONE, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 4394, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "grow-1x1", CI, ALL_KEYS, BOTH, THIRD_GROW, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 364, 10000, 1000, 10, 10, 1000, 0, 0, 0 } },
	{ "shrink-1x1", PLAIN, ALL_KEYS, BOTH, THIRD_SHRINK, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 364, 10000, 1000, 10, 10, 1000, 1000, 0, 0 } },
	{ "grow-2x1-1", PLAIN, ALL_KEYS, BOTH, THIRD_GROW, { 2, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 8788, 100000, 1000, 100, 100, 10000, 0, 0, 0 } },
	{ "shrink-2x1-1", FULL, ALL_KEYS, BOTH, THIRD_SHRINK, { 2, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 8788, 100000, 1000, 100, 100, 10000, 10000, 0, 0 } },
	{ "grow-2x2-1", LONG, ALL_KEYS, BOTH, THIRD_GROW, { 2, 2 }, 1, false, SCHED_SEARCH, 0,
	  { 57460, 100000, 1000, 100, 100, 10000, 0, 0, 0 } },
	{ "shrink-2x2-1", LONG, ALL_KEYS, BOTH, THIRD_SHRINK, { 2, 2 }, 1, false, SCHED_SEARCH, 0,
	  { 57460, 100000, 1000, 100, 100, 10000, 10000, 0, 0 } },
	{ "grow-2x1", LONG, ALL_KEYS, BOTH, THIRD_GROW, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 8788, 100000, 10000, 100, 100, 10000, 0, 0, 0 } },
	{ "shrink-2x1", LONG, ALL_KEYS, BOTH, THIRD_SHRINK, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 8788, 100000, 10000, 100, 100, 10000, 10000, 0, 0 } },
	{ "limit-2x1", PLAIN, ALL_KEYS, BOTH, THIRD_LIMIT, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 8788, 100000, 10000, 100, 100, 1000, 0, 0, 0 } },
	{ "both-1x1-1", FULL, ALL_KEYS, BOTH, THIRD_BOTH, { 1, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 364, 10000, 100, 0, 0, 1000, 1000, 0, 0 } },
	{ "both-1x1", LONG, ALL_KEYS, BOTH, THIRD_BOTH, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 364, 10000, 1000, 0, 0, 1000, 1000, 0, 0 } },
	{ "take-2x1", LONG, ALL_KEYS, BOTH, THIRD_TAKE, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 8788, 100000, 10000, 100, 100, 0, 0, 0, 0 } },
	{ "take-1x1", CI, ALL_KEYS, BOTH, THIRD_TAKE, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 364, 10000, 100, 10, 10, 0, 0, 0, 0 } },
	{ "more-1x1", CI, ALL_KEYS, BOTH, THIRD_NONE, { 1, 1 }, 3, false, SCHED_SEARCH, ALL_OPS,
	  { 320, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "more-2x1", CI, ALL_KEYS, BOTH, THIRD_NONE, { 2, 1 }, 2, false, SCHED_SEARCH, FEW_OPS,
	  { 1264, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "more-grow-1x1", PLAIN, ALL_KEYS, BOTH, THIRD_GROW, { 1, 1 }, 2, false, SCHED_SEARCH, FEW_OPS,
	  { 88, 10000, 1000, 10, 10, 1000, 0, 0, 0 } },
	{ "more-shrink-1x1", CI, ALL_KEYS, BOTH, THIRD_SHRINK, { 1, 1 }, 1, false, SCHED_SEARCH, FEW_OPS,
	  { 88, 10000, 100, 10, 10, 1000, 1000, 0, 0 } },
	{ "typed-2x1", CI, BIT(KEYS_TYPED), BOTH, THIRD_NONE, { 2, 1 }, 2, false, SCHED_SEARCH, FIRST_OPS,
	  { 4394, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "pins-typed-1x1", CI, BIT(KEYS_TYPED), BOTH, THIRD_NONE, { 1, 1 }, 2, false, SCHED_SEARCH, PIN_OPS,
	  { 20, 100, 10, 10, 10, 0, 0, 0, 0 } },
	{ "pins-2x1", CI, ALL_KEYS, BOTH, THIRD_NONE, { 2, 1 }, 2, false, SCHED_SEARCH, PIN_OPS,
	  { 200, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "pins-take-1x1", CI, ALL_KEYS, BOTH, THIRD_TAKE, { 1, 1 }, 2, false, SCHED_SEARCH, PIN_OPS,
	  { 20, 1000, 10, 10, 10, 0, 0, 0, 0 } },
	{ "cut-1x1-1", CI, CUT_KEYS, BOTH, THIRD_CUT, { 1, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 168, 100000, 1000, 100, 1000, 0, 10000, 10000, 100 } },
	{ "walk-1x1-1", CI, CUT_KEYS, BOTH, THIRD_WALK, { 1, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 168, 10000, 1000, 100, 1000, 0, 10000, 10000, 0 } },
	{ "abort-1x1-1", PLAIN, CUT_KEYS, BOTH, THIRD_ABORT, { 1, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 168, 100000, 1000, 100, 1000, 0, 10000, 10000, 100 } },
	{ "cut-some", PLAIN, CUT_KEYS, BOTH, THIRD_CUT, { 1, 1 }, 2, false, SAMPLE, 19,
	  { 8, 100000, 1000, 100, 1000, 0, 10000, 10000, 1000 } },
	{ "walk-1x1", FULL, CUT_KEYS, BOTH, THIRD_WALK, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 168, 100000, 10000, 1000, 1000, 0, 10000, 10000, 0 } },
	{ "twice-1x1-1", FULL, CUT_KEYS, BOTH, THIRD_TWICE, { 1, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 168, 100000, 1000, 100, 1000, 0, 10000, 10000, 100 } },
	{ "cut-2x1-1", FULL, CUT_KEYS, BOTH, THIRD_CUT, { 2, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 1728, 1000000, 10000, 1000, 10000, 0, 10000, 100000, 1000 } },
	{ "cut-1x1", FULL, CUT_KEYS, BOTH, THIRD_CUT, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 168, 1000000, 10000, 1000, 10000, 0, 100000, 100000, 10000 } },
	{ "twice-1x1", LONG, CUT_KEYS, BOTH, THIRD_TWICE, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 168, 1000000, 10000, 1000, 10000, 0, 100000, 100000, 10000 } },
	{ "abort-1x1", LONG, CUT_KEYS, BOTH, THIRD_ABORT, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 168, 1000000, 10000, 1000, 10000, 0, 100000, 100000, 10000 } },
	{ "walk-2x1", LONG, CUT_KEYS, BOTH, THIRD_WALK, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 1728, 1000000, 10000, 1000, 10000, 0, 100000, 100000, 0 } },
	{ "cut-2x1", LONG, CUT_KEYS, BOTH, THIRD_CUT, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 1728, 1000000, 10000, 1000, 10000, 0, 100000, 100000, 10000 } },
	{ "cut-2x2-1", LONG, CUT_KEYS, BOTH, THIRD_CUT, { 2, 2 }, 1, false, SCHED_SEARCH, 0,
	  { 5328, 1000000, 10000, 1000, 10000, 0, 100000, 100000, 1000 } },
	{ "filters-1x1", CI, BIT(KEYS_UPPER), BIT(INIT_FULL), THIRD_FILTERS, { 1, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 91, 1000, 100, 100, 100, 0, 1000, 0, 0 } },
	{ "filters-2x1", FULL, BIT(KEYS_UPPER), BIT(INIT_FULL), THIRD_FILTERS, { 2, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 2197, 10000, 1000, 100, 100, 0, 1000, 0, 0 } },
	{ "filters-2x1-2", FULL, BIT(KEYS_UPPER) | BIT(KEYS_NEAR), BIT(INIT_FULL), THIRD_FILTERS, { 2, 1 }, 2, false,
	  SCHED_SEARCH, 0, { 4394, 10000, 1000, 100, 100, 0, 1000, 0, 0 } },
	{ "upper-grow-1x1", CI, BIT(KEYS_UPPER), BOTH, THIRD_GROW, { 1, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 182, 1000, 100, 10, 10, 1000, 0, 0, 0 } },
	{ "upper-grow-2x1", FULL, BIT(KEYS_UPPER), BOTH, THIRD_GROW, { 2, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 4394, 10000, 1000, 100, 100, 10000, 0, 0, 0 } },
	{ "upper-shrink-1x1", CI, BIT(KEYS_UPPER), BOTH, THIRD_SHRINK, { 1, 1 }, 1, false, SCHED_SEARCH, 0,
	  { 182, 1000, 100, 10, 10, 1000, 1000, 0, 0 } },
	{ "upper-shrink-2x1", FULL, BIT(KEYS_UPPER), BOTH, THIRD_SHRINK, { 2, 1 }, 2, false, SCHED_SEARCH, 0,
	  { 4394, 100000, 10000, 100, 100, 10000, 10000, 0, 0 } },
	{ "cut-random", CI, 0, 0, THIRD_CUT, { 0, 0 }, 0, false, SCHED_RANDOM, 50, { .programs = 240 } },
	{ "cut-pct", CI, 0, 0, THIRD_CUT, { 0, 0 }, 0, false, SCHED_PCT, 50, { .programs = 240 } },
	{ "time-1x1", CI, BIT(KEYS_NEAR), BOTH, THIRD_TIME, { 1, 1 }, 2, false, SCHED_SEARCH, TIME_OPS,
	  { 100, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "time-1x1-equal", FULL, BIT(KEYS_EQUAL), BOTH, THIRD_TIME, { 1, 1 }, 2, false, SCHED_SEARCH, TIME_OPS,
	  { 100, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "time-2x1", FULL, ALL_KEYS, BOTH, THIRD_TIME, { 2, 1 }, 2, false, SCHED_SEARCH, RENEW_OPS,
	  { 200, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "time-2x1-all", LONG, ALL_KEYS, BOTH, THIRD_TIME, { 2, 1 }, 2, false, SCHED_SEARCH, TIME_OPS,
	  { 2000, 100000, 10000, 1000, 1000, 0, 0, 0, 0 } },
	{ "late-1x1", CI, BIT(KEYS_NEAR), BIT(INIT_FULL), THIRD_LATE, { 1, 1 }, 2, false, SCHED_SEARCH, TIME_OPS,
	  { 50, 10000, 1000, 100, 100, 0, 0, 0, 0 } },
	{ "late-2x1", LONG, ALL_KEYS, BIT(INIT_FULL), THIRD_LATE, { 2, 1 }, 2, false, SCHED_SEARCH, TIME_OPS,
	  { 1000, 100000, 10000, 1000, 1000, 0, 0, 0, 0 } },
	{ "close-1x1", CI, BIT(KEYS_NEAR), BIT(INIT_FULL), THIRD_CLOSE, { 1, 1 }, 2, false, SCHED_SEARCH,
	  RENEW_OPS, { 15, 10000, 100, 10, 10, 0, 1000, 0, 0 } },
	{ "random", CI, 0, 0, THIRD_NONE, { 0, 0 }, 0, false, SCHED_RANDOM, 100, { .programs = 720 } },
	{ "pct", CI, 0, 0, THIRD_NONE, { 0, 0 }, 0, false, SCHED_PCT, 100, { .programs = 720 } },
	{ "reduction", CI, ALL_KEYS, BOTH, THIRD_NONE, { 2, 2 }, 2, false, COMPARE, 2000,
	  { .programs = 40, .schedules = 10000 } },
	{ "reduction-grow", CI, ALL_KEYS, BOTH, THIRD_GROW, { 1, 1 }, 2, false, COMPARE, 20,
	  { .programs = 20, .schedules = 10000 } },
	{ "reduction-shrink", PLAIN, ALL_KEYS, BOTH, THIRD_SHRINK, { 1, 1 }, 2, false, COMPARE, 60,
	  { .programs = 8, .schedules = 10000 } },
	{ "reduction-cut", PLAIN, CUT_KEYS, BOTH, THIRD_CUT, { 1, 1 }, 1, false, COMPARE, 19,
	  { .programs = 16, .schedules = 10000 } },
	{ "reduction-cut-2", FULL, CUT_KEYS, BOTH, THIRD_CUT, { 1, 1 }, 2, false, COMPARE, 84,
	  { .programs = 4, .schedules = 100000 } },
	{ "grow-2x2", LONG, ALL_KEYS, BOTH, THIRD_GROW, { 2, 2 }, 2, false, SCHED_SEARCH, 0, { 0 } },
	{ "shrink-2x2", LONG, ALL_KEYS, BOTH, THIRD_SHRINK, { 2, 2 }, 2, false, SCHED_SEARCH, 0, { 0 } },
};
/* clang-format on */
#define GROUPS (sizeof(groups) / sizeof(*groups))

static bool is_low(const struct group *g, uint64_t seen, uint64_t floor, const char *what)
{
	if (seen >= floor)
		return false;
	printf("# %s proves too little: %" PRIu64 " %s, wanted %" PRIu64 "\n", g->name, seen, what,
	       floor);
	return true;
}

static bool floor_is_met(const struct group *g)
{
	const struct sched_counts *c = &sched_counts;
	const struct sched_rcu_counts *r = &sched_rcu_counts;
	const struct floor *f = &g->floor;
	unsigned low = 0;

	low += is_low(g, programs, f->programs, "programs");
	low += is_low(g, c->schedules, f->schedules, "schedules");
	low += is_low(g, c->lost, f->lost, "lost compare-and-swaps");
	low += is_low(g, c->helped, f->helped, "unlinkings of others' nodes");
	low += is_low(g, r->deferred, f->deferred, "deferred frees");
	low += is_low(g, c->resized, f->resized, "resizes inside an operation");
	low += is_low(g, r->blocked, f->blocked, "blocked grace periods");
	low += is_low(g, program_counts.handed, f->handed, "entries handed over");
	low += is_low(g, program_counts.settled, f->settled, "stamps settled by readers");
	if (g->third == THIRD_FILTERS) {
		low += is_low(g, program_counts.tight, c->schedules / 20, "filters made anew");
		low += is_low(g, program_counts.full, c->schedules / 20, "filters left full");
	}
	return low == 0;
}

static double seconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void print_counts(const struct group *g, double took)
{
	const struct sched_counts *c = &sched_counts;
	const struct sched_rcu_counts *r = &sched_rcu_counts;

	printf("# %s: programs %" PRIu64 " schedules %" PRIu64 " (redundant %" PRIu64
	       ") steps %" PRIu64 " (all %" PRIu64 ") failures %" PRIu64 " in %.1f s of CPU\n",
	       g->name, programs, c->schedules, c->redundant, c->steps, c->all_steps, failures,
	       took);
	printf("# %s: preemptions %" PRIu64 " lost CAS %" PRIu64 " unlinked %" PRIu64
	       " (by helpers %" PRIu64 ") resized inside an operation %" PRIu64
	       " frees deferred %" PRIu64 " of %" PRIu64 " grace periods blocked %" PRIu64
	       " of %" PRIu64 " outcomes compared %" PRIu64 "\n",
	       g->name, c->preempted, c->lost, c->unlinked, c->helped, c->resized, r->deferred,
	       r->calls, r->blocked, r->waits, compared);
	if (g->third == THIRD_FILTERS)
		printf("# %s: filters made anew %" PRIu64 " left full %" PRIu64 "\n", g->name,
		       program_counts.tight, program_counts.full);
	if (has_snapshot(g))
		printf("# %s: snapshots %" PRIu64 " entries handed over by writers %" PRIu64
		       " stamps settled by readers %" PRIu64 "\n",
		       g->name, program_counts.snapshots, program_counts.handed,
		       program_counts.settled);
}

static bool run_group(const struct group *g)
{
	double start = seconds();
	bool good;

	sched_counts = (struct sched_counts){ 0 };
	sched_rcu_counts = (struct sched_rcu_counts){ 0 };
	program_counts = (struct program_counts){ 0 };
	current_group = g->name;
	programs = 0;
	met = 0;
	failures = 0;
	compared = 0;
	if (g->mode == SCHED_SEARCH || g->mode == SAMPLE)
		each_setting(g, search);
	else if (g->mode == COMPARE)
		each_setting(g, compare);
	else
		random_programs(g);
	print_counts(g, seconds() - start);
	good = failures == 0 && floor_is_met(g);
	printf("%s - %s\n", good ? "ok" : "not ok", g->name);
	fflush(stdout);
	return good;
}

/* ---- the command line ---- */

static int run_one(const char *text, struct sched_plan *plan)
{
	struct program p;
	bool good;

	if (!program_read(text, &current_setting, &p)) {
		printf("Bail out! not a program: %s\n", text);
		return 2;
	}
	current_group = "--program";
	program_open(&current_setting);
	run_program(&p, plan);
	good = failures == 0;
	program_close();
	printf("# schedules %" PRIu64 " (redundant %" PRIu64 ") passes %" PRIu64 " steps %" PRIu64
	       "\n",
	       sched_counts.schedules, sched_counts.redundant, sched_counts.passes,
	       sched_counts.steps);
	printf("1..1\n%s - %s\n", good ? "ok" : "not ok", text);
	return !good;
}

static bool is_wanted(const struct group *g, enum scale scale, int count, char **names)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], g->name) == 0)
			return true;
	if (count)
		return false;
	return g->scale <= scale;
}

static enum scale scale_wanted(void)
{
	const char *text = getenv("KVS_TEST_SCALE");

	if (text && strcmp(text, "long") == 0)
		return LONG;
	if (text && strcmp(text, "full") == 0)
		return FULL;
	return IS_SANITIZED ? CI : PLAIN;
}

static int run_groups(int count, char **names)
{
	enum scale scale = scale_wanted();
	unsigned wanted = 0;
	bool good = true;

	for (size_t i = 0; i < GROUPS; i++)
		wanted += is_wanted(&groups[i], scale, count, names);
	printf("1..%u\n# seed %" PRIu64 "\n", wanted, seed);
	for (size_t i = 0; i < GROUPS; i++)
		if (is_wanted(&groups[i], scale, count, names))
			good &= run_group(&groups[i]);
	return !good;
}

int main(int argc, char **argv)
{
	struct sched_plan plan = { .mode = SCHED_SEARCH, .bound = 2 };
	const char *program = NULL;
	int i;

	if (getenv("KVS_TEST_SEED"))
		seed = strtoull(getenv("KVS_TEST_SEED"), NULL, 0);
	stop_at_first = getenv("KVS_SCHED_FIRST") != NULL;
	random_state = seed;
	sched_on_crash(crashed);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
		if (strcmp(argv[i], "--full") == 0) {
			plan.full = true;
		} else if (i + 1 == argc) {
			break;
		} else if (strcmp(argv[i], "--every") == 0) {
			every = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--part") == 0) {
			part = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--program") == 0) {
			program = argv[++i];
		} else if (strcmp(argv[i], "--bound") == 0) {
			plan.bound = (unsigned)atoi(argv[++i]);
		} else if (strcmp(argv[i], "--replay") == 0) {
			plan.mode = SCHED_REPLAY;
			plan.replay = argv[++i];
			plan.trace = true;
		}
	}
	return program ? run_one(program, &plan) : run_groups(argc - i, argv + i);
}
