/* SPDX-License-Identifier: MIT */
/*
 * clock.h - the store's clock: CLOCK_BOOTTIME for deadlines, wall time at the edges, or the user's own.
 *
 * CLOCK_BOOTTIME goes on while the machine is suspended and is not set by anybody. Deadlines are whole
 * milliseconds of it. What the user says or is told in wall time is converted by one offset, kept until it is wrong
 * by more than a millisecond: so a deadline reads the same each time unless the wall clock was set.
 */
#ifndef KVS_CLOCK_H
#define KVS_CLOCK_H

#include "atomic.h"
#include "kvs.h"

#define KVS__NO_DEADLINE INT64_C(0) /* "does not expire", where a deadline is passed */

struct kvs__clock {
	struct kvs_clock user;   /* boot_ms == NULL: the system's (i) */
	_Atomic(int64_t) offset; /* wall time minus boot time, ms (a) */
};

void kvs__clock_init(struct kvs__clock *c, const struct kvs_clock *user);

/* kvs__clock_now - The time of deadlines, ms, rounded down: expired means deadline <= now. */
int64_t kvs__clock_now(const struct kvs__clock *c);

/* kvs__clock_sync - Look whether the wall clock was set. */
void kvs__clock_sync(struct kvs__clock *c);

/*
 * kvs__clock_deadline - The deadline that @expiry means, counted from now.
 *
 * The first millisecond at or after the present time plus ttl; KVS__NO_DEADLINE for none.
 * Returns 0 or KVS_ERR_INVALID_TTL.
 */
int kvs__clock_deadline(struct kvs__clock *c, struct kvs_expiry expiry, int64_t *ret_deadline);

/* kvs__clock_wall_of - A deadline in wall time, ms since 1970, 1 at least; 0 for KVS__NO_DEADLINE. */
int64_t kvs__clock_wall_of(const struct kvs__clock *c, int64_t deadline);

/* kvs__clock_deadline_at - The deadline that is @wall_ms (not 0) in wall time; 1 if that is before the clock began. */
int64_t kvs__clock_deadline_at(const struct kvs__clock *c, int64_t wall_ms);

#endif
