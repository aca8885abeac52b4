/* SPDX-License-Identifier: MIT */
/* hand.h - a clock that the test moves, for stores with deadlines. */
#ifndef KVS_TESTS_HAND_H
#define KVS_TESTS_HAND_H

#include "util.h"

#define HAND_BOOT INT64_C(1000000)       /* ms, at the start */
#define HAND_WALL INT64_C(1700000000000) /* ms since 1970, then */

struct hand {
	_Atomic int64_t boot;
	_Atomic int64_t wall;
	struct kvs_clock clock; /* for kvs_options.clock */
};

static inline int64_t hand_boot(void *ctx)
{
	struct hand *h = ctx;

	return h->boot;
}

static inline int64_t hand_wall(void *ctx)
{
	struct hand *h = ctx;

	return h->wall;
}

/* hand_set - Both clocks: @since the start. */
static inline void hand_set(struct hand *h, int64_t since)
{
	h->boot = HAND_BOOT + since;
	h->wall = HAND_WALL + since;
}

static inline void hand_init(struct hand *h)
{
	h->clock = (struct kvs_clock){ hand_boot, hand_wall, h };
	hand_set(h, 0);
}

#endif /* KVS_TESTS_HAND_H */
