/* SPDX-License-Identifier: MIT */
/*
 * wheel.h - timers in a hierarchical wheel. Time is an argument; one thread at a time. Essay: wheel.c.
 *
 * A timer is embedded in what it belongs to. Deadlines and times are milliseconds of any one clock.
 */
#ifndef KVS_WHEEL_H
#define KVS_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "atomic.h"

#define KVS__WHEEL_BITS 6u
#define KVS__WHEEL_TURN (1u << KVS__WHEEL_BITS) /* slots of a level in one of the level above */
#define KVS__WHEEL_SLOTS (2 * KVS__WHEEL_TURN)  /* this turn's and the next one's */
#define KVS__WHEEL_LEVELS 11u /* 66 bits: every deadline has a place, there is no overflow list */

/* A link of a circular list; also the list's own head. */
struct kvs__ring {
	struct kvs__ring *next;
	struct kvs__ring *prev;
};

struct kvs__timer {
	struct kvs__ring ring; /* the wheel's while the timer is on it, else the holder's to use */
	kvs__u64 deadline;     /* ms, below KVS__TIMER_FLAG, never changed (a) */
};

/* The top bit of the deadline is the holder's. */
#define KVS__TIMER_FLAG ((uint64_t)1 << 63)

struct kvs__wheel {
	uint64_t tick_ms;
	uint64_t now;           /* ticks; timers of this tick and before are due */
	uint64_t count;         /* timers on the wheel, due ones included */
	struct kvs__ring due;   /* all due */
	struct kvs__ring again; /* of slots whose range has begun: due, or to be filed again */
	/* of slots whose range is the next: to be filed again until it begins */
	struct kvs__ring ahead[KVS__WHEEL_LEVELS];
	uint32_t ahead_full; /* bit: the level may have some ahead */
	struct kvs__ring slot[KVS__WHEEL_LEVELS][KVS__WHEEL_SLOTS];
};

/* kvs__wheel_init - An empty wheel that has come to @now_ms, in ticks of @tick_ms (not 0). */
void kvs__wheel_init(struct kvs__wheel *w, uint64_t tick_ms, uint64_t now_ms);

/* kvs__wheel_add - Put a timer on, with its deadline set. One that is past is due at once. O(1). */
void kvs__wheel_add(struct kvs__wheel *w, struct kvs__timer *t);

/* kvs__wheel_add_later - The same, whatever its deadline, for the next tick. */
void kvs__wheel_add_later(struct kvs__wheel *w, struct kvs__timer *t);

/* kvs__wheel_remove - Take a timer off, wherever it is. O(1). */
void kvs__wheel_remove(struct kvs__wheel *w, struct kvs__timer *t);

/*
 * kvs__wheel_advance - Time has come to @now_ms. An earlier time than before changes nothing.
 *
 * Moves whole slots: at most one look at each slot, however far time has jumped.
 */
void kvs__wheel_advance(struct kvs__wheel *w, uint64_t now_ms);

/*
 * kvs__wheel_next - Take a timer that is due off the wheel. NULL: none is, or *@budget is spent.
 *
 * Each timer that is looked at costs one of *@budget. Those left over come in later calls.
 */
struct kvs__timer *kvs__wheel_next(struct kvs__wheel *w, unsigned *budget);

/* kvs__wheel_has_work - May kvs__wheel_next find something to look at without time going on? */
static inline bool kvs__wheel_has_work(const struct kvs__wheel *w)
{
	return w->due.next != &w->due || w->again.next != &w->again || w->ahead_full;
}

#endif
