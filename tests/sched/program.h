/* SPDX-License-Identifier: MIT */
/*
 * program.h - what the fibers do: short lists of operations on two keys, in a store of one shard.
 *
 * A program is written as NAME;NAME;NAME:OPS|OPS, such as "near;full;grow:sAgB|dAx":
 *   keys    near   one bucket of 64, parted by growth to 128
 *           equal  equal 64-bit hashes
 *           typed  as near, in a store of objects
 *           wide   one bucket of 4096: lookups stop at the window in a link; few heads are linked
 *           apart  two buckets, each in a unit of its own of a snapshot's walk
 *   init    empty  neither key is there
 *           full   both are
 *   third   none, or what runs beside the two or three lists of operations:
 *           grow   a fiber that doubles the table and links the head that parts the keys
 *           shrink a fiber that halves the table: the head between the keys goes
 *           limit  no fiber: the table is at its limit, the next insert doubles it
 *           both   shrink, and one more fiber that doubles the table
 *           take   a fiber that takes over partial batches, as the maintenance thread does
 *           cut    a fiber that makes a snapshot: begin, next until it is complete, end
 *           twice  a fiber that makes two, one after the other
 *           walk   the same of a snapshot that began before everything else
 *           abort  a fiber that ends a snapshot right after it began, then makes one
 *           time   a fiber that moves the clock past the keys' deadline and turns the wheel: keys that are there
 *                  have that deadline
 *           late   the clock is past it from the start: the fiber turns the wheel
 *           close  time, and one more fiber that closes the store; answers are not checked, memory is
 *   ops     s set  a add  r replace  c compare-and-set  d delete  g get, each with its key A or B;
 *           x one step of a scan, going on where the fiber's last one stopped
 *           p pin, with its key: unpinned at the end of the list, what it held must be there still
 *           e set with the deadline, u touch (for ever), with their key
 *           i increment, with its key; G batch get, S batch set, D batch delete of both keys
 *
 * Compare-and-set expects the version that its fiber saw last; without one, the version that
 * the key has, or would get first. Batches are taken over after every operation (but with take),
 * so that what was retired is freed as early as is legal.
 */
#ifndef SCHED_PROGRAM_H
#define SCHED_PROGRAM_H

#include "explore.h"
#include "kvs.h"

#define LISTS_MAX 3u
#define OPS_MAX 4u
#define KEYS 2u
#define CUTS_MAX 2u

enum keys { KEYS_NEAR, KEYS_EQUAL, KEYS_WIDE, KEYS_TYPED, KEYS_APART, KEYS_UPPER };
enum init { INIT_EMPTY, INIT_FULL };
enum third {
	THIRD_NONE,
	THIRD_GROW,
	THIRD_SHRINK,
	THIRD_LIMIT,
	THIRD_TAKE,
	THIRD_BOTH,
	THIRD_CUT,
	THIRD_WALK,
	THIRD_TWICE,
	THIRD_ABORT,
	THIRD_FILTERS,
	THIRD_TIME,
	THIRD_LATE,
	THIRD_CLOSE
};
#define THIRD_HAS_TIME(third) ((third) >= THIRD_TIME)

/*
 * The first 13 operations: SET A, SET B, ADD A, ..., GET B, SCAN. Then INCREMENT A and B, and the
 * batches. A snapshot is no operation of a list; no batches beside one. */
enum {
	OP_SET,
	OP_ADD,
	OP_REPLACE,
	OP_COMPARE,
	OP_DELETE,
	OP_GET,
	OP_SCAN,
	OP_INCREMENT,
	OP_BATCH_GET,
	OP_BATCH_SET,
	OP_BATCH_DELETE,
	OP_PIN,
	OP_SET_TIMED,
	OP_TOUCH,
	OP_SNAPSHOT
};
#define OP_COUNT 13u
#define OP_HAS_KEY(kind) ((kind) < OP_SCAN || (kind) == OP_INCREMENT || (kind) >= OP_PIN)
#define OP_IS_BATCH(kind) ((kind) >= OP_BATCH_GET && (kind) <= OP_BATCH_DELETE)
#define OP_CODE(kind, key) (2u * (kind) + (key))
#define OP_KIND(op) ((op) / 2u)
#define OP_KEY(op) ((op) % 2u)

struct setting {
	enum keys keys;
	enum init init;
	enum third third;
};

struct program {
	unsigned lists;
	unsigned ops[LISTS_MAX];
	uint8_t op[LISTS_MAX][OPS_MAX];
};

/* A key as somebody saw it. */
struct seen {
	bool present;
	uint64_t version;
	uint64_t value;
	bool timed; /* it has the deadline */
};

/* What an operation did. */
struct record {
	uint8_t op;
	int err;
	uint32_t begin;
	uint32_t early;
	uint32_t end;
	uint64_t expected;      /* COMPARE */
	uint64_t wrote;         /* value written */
	uint64_t version;       /* reported */
	uint64_t value;         /* GET */
	bool covered[KEYS];     /* SCAN: the page covered the key's place */
	struct seen page[KEYS]; /* SCAN, SNAPSHOT */
	int errs[KEYS];         /* batches: of the items; their versions and values are in page */
};

/* A schedule's history, and what the store held before and after. */
struct history {
	struct program program;
	struct record record[LISTS_MAX][OPS_MAX];
	struct record cut[CUTS_MAX];
	unsigned cuts;
	struct seen before[KEYS];
	struct seen after[KEYS];
	bool has_time;      /* the clock is moved past the deadline */
	struct record time; /* when: begin, early, end */
};

/* program_open - Make the store of @s and seal it. program_close - and give it up. */
void program_open(const struct setting *s);
void program_close(void);

/* program_run - Explore @p in the open store as @plan says; its functions are set here. */
bool program_run(const struct program *p, const struct sched_plan *plan);

/* program_write, program_read - The form described above. program_read returns false: not one. */
void program_write(const struct setting *s, const struct program *p, char *to, size_t room);
bool program_read(const char *text, struct setting *s, struct program *p);

/* program_outcome - A number that is the same for schedules with the same results and end. */
uint64_t program_outcome(void);

/* Called after each schedule that passed, if not NULL. */
extern void (*program_passed)(void);

/* What the snapshots met, and what became of filters, since the program started. */
struct program_counts {
	uint64_t snapshots; /* complete */
	uint64_t tight;     /* schedules that left no full filter */
	uint64_t full;      /* that left one */

	uint64_t handed;  /* entries handed over by writers */
	uint64_t settled; /* stamps settled by readers */
};
extern struct program_counts program_counts;

/* oracle_check - Why @h is no history of a correct store, or NULL. */
const char *oracle_check(const struct history *h);

#endif
