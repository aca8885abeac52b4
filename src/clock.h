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

#include <stdbool.h>
#include <stddef.h>

#include "atomic.h"
#include "compiler.h"
#include "kvs.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 35)
#define KVS__CLOCK_CYCLES 19 /* binary digits of the fewest cycles in a millisecond: 0.53 GHz */
#define KVS__CLOCK_SLACK                                                                           \
	2 /* ms: that a reading is rounded down; that counter and loads are not in order */
#define KVS__CLOCK_STALE ((uint64_t)1 << 24) /* cycles: read the clock again */

/* What a thread says it is in the middle of, until it is preempted; see clock.c. */
extern const char kvs__clock_mark;

KVS_INLINE const void *kvs__clock_mark_get(ptrdiff_t rseq)
{
	const void *mark;

	__asm__ __volatile__("movq %%fs:8(%1), %0" : "=r"(mark) : "r"(rseq) : "memory");
	return mark;
}

KVS_INLINE void kvs__clock_mark_set(ptrdiff_t rseq)
{
	__asm__ __volatile__("movq %0, %%fs:8(%1)" : : "r"(&kvs__clock_mark), "r"(rseq) : "memory");
}
#endif
#endif

#define KVS__NO_DEADLINE INT64_C(0) /* "does not expire", where a deadline is passed */

struct kvs__clock {
	struct kvs_clock user;   /* boot_ms == NULL: the system's (i) */
	_Atomic(int64_t) offset; /* wall time minus boot time, ms (a) */
	ptrdiff_t rseq; /* from the thread's base to its area of rseq; 0: not to be used (i) */
};

/* The calling thread's last reading of the system's clock. */
struct kvs__reading {
	uint64_t cycles; /* of the processor's counter, read before the clock was */
	int64_t ms;
};
extern _Thread_local struct kvs__reading kvs__reading;

void kvs__clock_init(struct kvs__clock *c, const struct kvs_clock *user);

/* kvs__clock_now - The time of deadlines, ms, rounded down: expired means deadline <= now. */
int64_t kvs__clock_now(const struct kvs__clock *c);

/*
 * kvs__clock_is_before - Is the clock certainly before @deadline? false: read it.
 *
 * For what is far away it costs a few loads and a reading of the processor's counter, which waits for nothing. clock.c
 * tells why it is right.
 */
KVS_INLINE bool kvs__clock_is_before(const struct kvs__clock *c, int64_t deadline)
{
#if defined(KVS__CLOCK_CYCLES)
	uint64_t cycles;

	if (unlikely(!c->rseq))
		return false;
	cycles = __builtin_ia32_rdtsc() - kvs__reading.cycles;
	if (unlikely(kvs__clock_mark_get(c->rseq) != &kvs__clock_mark)) /* after the counter */
		return false;
	return cycles < KVS__CLOCK_STALE &&
	       deadline - kvs__reading.ms >
		       KVS__CLOCK_SLACK + (int64_t)(cycles >> KVS__CLOCK_CYCLES);
#else
	(void)c;
	(void)deadline;
	return false;
#endif
}

/* kvs__clock_sync - Look whether the wall clock was set. */
void kvs__clock_sync(struct kvs__clock *c);

/*
 * kvs__clock_deadline - The deadline that @expiry means, counted from now.
 *
 * The first millisecond at or after the present time plus ttl; KVS__NO_DEADLINE for none.
 * Returns 0, KVS_ERR_INVALID_TTL or KVS_ERR_INVALID_ARGUMENT (an unknown kind).
 */
int kvs__clock_deadline(struct kvs__clock *c, struct kvs_expiry expiry, int64_t *ret_deadline);

/* kvs__clock_offset - Wall time minus the clock's, ms, as last synced; for those who convert many deadlines by one. */
KVS_INLINE int64_t kvs__clock_offset(const struct kvs__clock *c)
{
	return load_relaxed(&c->offset);
}

/* kvs__clock_wall_of - A deadline in wall time, ms since 1970, 1 at least; 0 for KVS__NO_DEADLINE. _by: by this offset. */
int64_t kvs__clock_wall_of(const struct kvs__clock *c, int64_t deadline);
int64_t kvs__clock_wall_by(int64_t offset, int64_t deadline);

/* kvs__clock_deadline_by - The deadline that is @wall_ms (not 0) in wall time; 1 if before the clock began, INT64_MAX if beyond its end. */
int64_t kvs__clock_deadline_by(int64_t offset, int64_t wall_ms);

#endif
