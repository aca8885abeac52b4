/* SPDX-License-Identifier: MIT */
/*
 * clock.c - readings of the clock, exact and avoided.
 *
 * To read CLOCK_BOOTTIME takes 22 ns, in which the processor finishes all loads that it has begun and begins no other. A
 * read of a key that is far from its deadline needs no more than a bound: the clock has not come to the deadline. The
 * thread has one from its last reading and the processor's cycles since, KVS__CLOCK_CYCLES of which are less than a
 * millisecond on any processor.
 *
 * That holds while the machine runs. Over a suspend the clock goes on, and the counter may stand still or begin anew; no bound
 * can be had from it, nor from a clock that a thread of the store keeps, since readers may run before that does. But to be
 * suspended a machine stops every thread, as when it is preempted, and of that the kernel tells: it clears the pointer
 * rseq_cs in the thread's area of rseq(2) when it "detects that it is preempting or delivering a signal outside of the range
 * targeted by the rseq_cs" (linux/rseq.h). So the thread sets it to kvs__clock_mark, a range that no thread is ever in, before
 * it reads counter and clock. While the mark is there, the thread has run on one processor all the time, and the bound
 * holds; else the clock is read, and the mark set again.
 *
 * From Linux 6.19 on the pointer stays when a thread is stopped inside a system call, whatever the header says. So the
 * kernel is asked: a thread that sleeps must find its mark gone, each time of several, or there is no bound. Only on
 * x86-64, with a C library that knows rseq, and where the kernel itself keeps time by this counter; never by a
 * user's clock. Others that use rseq_cs take the mark away: that costs a reading.
 */
#include "clock.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define MS_PER_S INT64_C(1000)
#define OFFSET_TRIES 16u
#define SLEEPS 8

static int64_t ns_of(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t);
	return (int64_t)t.tv_sec * MS_PER_S * NS_PER_MS + t.tv_nsec;
}

/* ---- the bound ---- */

_Thread_local struct kvs__reading kvs__reading;

#if defined(KVS__CLOCK_CYCLES)
#include <cpuid.h>
#include <sys/rseq.h>

/* A struct rseq_cs: its range is one instruction that nobody executes. */
__asm__(".pushsection .text\n"
	"0:	nop\n"
	"1:	.byte 0x0f, 0xb9, 0x3d\n" /* ud1, with the signature that the kernel asks for in it */
	"	.long 0x53053053\n"
	"2:	ud2\n"
	".popsection\n"
	".pushsection .data.rel.ro, \"aw\"\n"
	"	.balign 32\n"
	"	.globl kvs__clock_mark\n"
	"	.hidden kvs__clock_mark\n"
	"	.type kvs__clock_mark, @object\n"
	"kvs__clock_mark:\n"
	"	.long 0, 0\n"
	"	.quad 0b, 1b - 0b, 2b\n"
	"	.size kvs__clock_mark, . - kvs__clock_mark\n"
	".popsection\n");

/* Does the kernel keep time by the processor's counter, and does that never stop or change its rate? */
static bool counter_is_trusted(void)
{
	unsigned a, b, c, d;
	char name[4] = { 0 };
	int fd;

	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & 1u << 8))
		return false;
	fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
		  O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, name, sizeof(name)) != (ssize_t)sizeof(name))
		name[0] = 0;
	(void)close(fd);
	return memcmp(name, "tsc\n", sizeof(name)) == 0;
}

/* Is the mark of whoever sleeps in the kernel always gone, and are there as many cycles in the time as there should be? */
static bool sleep_takes_the_mark(ptrdiff_t rseq)
{
	const struct timespec a_while = {
		0, 60000
	}; /* shorter, and it might be over before it slept */
	uint64_t cycles = __builtin_ia32_rdtsc();
	int64_t ns = ns_of(CLOCK_BOOTTIME);
	int i;

	for (i = 0; i < SLEEPS; i++) {
		kvs__clock_mark_set(rseq);
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &a_while, NULL);
		if (kvs__clock_mark_get(rseq) == &kvs__clock_mark)
			return false; /* and nobody will ask */
	}
	kvs__reading.cycles = 0; /* the mark was set without one */
	ns = ns_of(CLOCK_BOOTTIME) - ns;
	cycles = __builtin_ia32_rdtsc() - cycles;
	return cycles * (uint64_t)NS_PER_MS >= (uint64_t)ns << KVS__CLOCK_CYCLES;
}

/* Once in a process: it takes a millisecond. */
static ptrdiff_t rseq_find(void)
{
	enum { UNKNOWN, USABLE, NOT_USABLE };
	static _Atomic(uint32_t) found;
	uint32_t is = load_relaxed(&found);

	if (is == UNKNOWN) {
		is = __rseq_size && counter_is_trusted() && sleep_takes_the_mark(__rseq_offset)
			     ? USABLE
			     : NOT_USABLE;
		store_relaxed(&found, is);
	}
	return is == USABLE ? __rseq_offset : 0;
}

/*
 * The mark comes first: a thread that is preempted from here on loses it. A signal handler may set it again, which
 * says nothing of what was read here before: then nothing is known.
 */
static int64_t read_marking(ptrdiff_t rseq)
{
	static _Thread_local volatile uint32_t readings;
	uint32_t n = readings + 1;
	struct kvs__reading r;

	readings = n;
	kvs__clock_mark_set(rseq);
	r.cycles = __builtin_ia32_rdtsc();
	r.ms = ns_of(CLOCK_BOOTTIME) / NS_PER_MS;
	kvs__reading = r;
	__asm__ __volatile__("" : : : "memory");
	if (readings != n)
		kvs__reading.cycles = 0;
	return r.ms;
}
#else
static ptrdiff_t rseq_find(void)
{
	return 0;
}

static int64_t read_marking(ptrdiff_t rseq)
{
	(void)rseq;
	return 0;
}
#endif

int64_t kvs__clock_now(const struct kvs__clock *c)
{
	if (c->user.boot_ms)
		return c->user.boot_ms(c->user.ctx);
	if (c->rseq)
		return read_marking(c->rseq);
	return ns_of(CLOCK_BOOTTIME) / NS_PER_MS;
}

/* Rounded up, so that a deadline counted from it is not too early. */
static int64_t now_up(const struct kvs__clock *c)
{
	if (c->user.boot_ms)
		return c->user.boot_ms(c->user.ctx);
	return (ns_of(CLOCK_BOOTTIME) + NS_PER_MS - 1) / NS_PER_MS;
}

/* Wall minus boot time, ms. What the thread loses between reading the two would end up in it: then read again. */
static int64_t offset_now(const struct kvs__clock *c)
{
	int64_t offset = 0;
	unsigned i;

	for (i = 0; i < OFFSET_TRIES; i++) {
		int64_t boot = kvs__clock_now(c);

		if (c->user.boot_ms)
			offset = c->user.wall_ms(c->user.ctx) - boot;
		else
			offset = (ns_of(CLOCK_REALTIME) - ns_of(CLOCK_BOOTTIME)) / NS_PER_MS;
		if (kvs__clock_now(c) - boot <= 0)
			break;
	}
	return offset;
}

void kvs__clock_init(struct kvs__clock *c, const struct kvs_clock *user)
{
	if (user)
		c->user = *user;
	else
		c->rseq = rseq_find();
	store_relaxed(&c->offset, offset_now(c));
}

void kvs__clock_sync(struct kvs__clock *c)
{
	int64_t now = offset_now(c);
	int64_t differs = now - load_relaxed(&c->offset);

	if (differs > 1 || differs < -1)
		store_relaxed(&c->offset, now);
}

static int deadline_after(const struct kvs__clock *c, int64_t ttl_ms, int64_t *ret)
{
	int64_t deadline;

	if (ttl_ms < 0 || __builtin_add_overflow(now_up(c), ttl_ms, &deadline))
		return KVS_ERR_INVALID_TTL;
	*ret = deadline;
	return KVS_OK;
}

int64_t kvs__clock_deadline_by(int64_t offset, int64_t wall_ms)
{
	int64_t deadline;

	if (__builtin_sub_overflow(wall_ms, offset, &deadline))
		return INT64_MAX;
	return deadline > 0 ? deadline : 1;
}

int kvs__clock_deadline(struct kvs__clock *c, struct kvs_expiry expiry, int64_t *ret_deadline)
{
	if (expiry.kind != KVS_EXPIRY_AFTER && expiry.kind != KVS_EXPIRY_AT)
		return KVS_ERR_INVALID_ARGUMENT;
	if (expiry.ms == 0) {
		*ret_deadline = KVS__NO_DEADLINE;
		return KVS_OK;
	}
	if (expiry.kind == KVS_EXPIRY_AFTER)
		return deadline_after(c, expiry.ms, ret_deadline);
	if (expiry.ms < 0)
		return KVS_ERR_INVALID_TTL;
	kvs__clock_sync(c);
	*ret_deadline = kvs__clock_deadline_by(kvs__clock_offset(c), expiry.ms);
	return KVS_OK;
}

int64_t kvs__clock_wall_by(int64_t offset, int64_t deadline)
{
	int64_t wall;

	if (deadline == KVS__NO_DEADLINE)
		return 0;
	if (__builtin_add_overflow(deadline, offset, &wall))
		return INT64_MAX;
	return wall > 0 ? wall : 1;
}

int64_t kvs__clock_wall_of(const struct kvs__clock *c, int64_t deadline)
{
	return kvs__clock_wall_by(kvs__clock_offset(c), deadline);
}
