/* SPDX-License-Identifier: MIT */
#include "clock.h"

#include <time.h>

#define NS_PER_MS INT64_C(1000000)
#define MS_PER_S INT64_C(1000)
#define OFFSET_TRIES 16u

static int64_t ns_of(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t);
	return (int64_t)t.tv_sec * MS_PER_S * NS_PER_MS + t.tv_nsec;
}

int64_t kvs__clock_now(const struct kvs__clock *c)
{
	if (c->user.boot_ms)
		return c->user.boot_ms(c->user.ctx);
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

int64_t kvs__clock_deadline_at(const struct kvs__clock *c, int64_t wall_ms)
{
	int64_t deadline;

	if (__builtin_sub_overflow(wall_ms, load_relaxed(&c->offset), &deadline))
		return INT64_MAX;
	return deadline > 0 ? deadline : 1;
}

int kvs__clock_deadline(struct kvs__clock *c, struct kvs_expiry expiry, int64_t *ret_deadline)
{
	if (expiry.ms == 0) {
		*ret_deadline = KVS__NO_DEADLINE;
		return KVS_OK;
	}
	switch (expiry.kind) {
	case KVS_EXPIRY_AFTER:
		return deadline_after(c, expiry.ms, ret_deadline);
	case KVS_EXPIRY_AT:
		if (expiry.ms < 0)
			return KVS_ERR_INVALID_TTL;
		kvs__clock_sync(c);
		*ret_deadline = kvs__clock_deadline_at(c, expiry.ms);
		return KVS_OK;
	default:
		return KVS_ERR_INVALID_ARGUMENT;
	}
}

int64_t kvs__clock_wall_of(const struct kvs__clock *c, int64_t deadline)
{
	int64_t wall;

	if (deadline == KVS__NO_DEADLINE)
		return 0;
	if (__builtin_add_overflow(deadline, load_relaxed(&c->offset), &wall))
		return INT64_MAX;
	return wall > 0 ? wall : 1;
}
