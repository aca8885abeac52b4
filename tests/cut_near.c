/* SPDX-License-Identifier: MIT */
/* cut_near.c - see cut_near.h. */
#include "cut_near.h"

#include <sched.h>
#include <string.h>

#include "store.h"
#include "yield.h"

#ifdef KVS_YIELD_RAND

#define LINGER_EVERY 100u /* on average */
#define LINGER_YIELDS 60u
#define YIELD_EVERY 64u

static _Atomic uint32_t making; /* odd while a cut or an end is being made */

static uint64_t random_below(uint64_t n)
{
	static _Thread_local uint64_t state;

	if (state == 0)
		state = (uint64_t)(uintptr_t)&state | 1;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % n;
}

static bool is_of_the_cut(const char *file)
{
	const char *base = strrchr(file, '/');

	base = base ? base + 1 : file;
	return strcmp(base, "cut.h") == 0 || strcmp(base, "cut.c") == 0;
}

static void linger(const char *file, int line)
{
	uint32_t now = atomic_load(&making);
	uint64_t yields;
	bool through;

	(void)line;
	if ((now & 1) == 0 || !is_of_the_cut(file) || random_below(LINGER_EVERY) != 0) {
		if (random_below(YIELD_EVERY) == 0)
			sched_yield();
		return;
	}
	through = random_below(4) == 0; /* on into the walk */
	for (yields = random_below(LINGER_YIELDS); yields > 0; yields--) {
		sched_yield();
		if (!through && atomic_load(&making) != now)
			break;
	}
}

static void make(void)
{
	atomic_fetch_add(&making, 1);
}

#else
static void make(void)
{
}
#endif

struct kvs *near_open(int32_t shards, const struct kvs_clock *clock)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *kv = NULL;

	opts.shards = shards;
	opts.clock = clock;
	check_ok(kvs_open(&opts, &kv));
	kvs__rcu_worker_stop(&kv->reclaim.worker);
#ifdef KVS_YIELD_RAND
	atomic_store(&kvs__yield_hook, linger);
#endif
	return kv;
}

void near_close(struct kvs *kv)
{
#ifdef KVS_YIELD_RAND
	atomic_store(&kvs__yield_hook, NULL);
#endif
	check_ok(kvs_free(kv));
}

struct kvs_snapshot *near_begin(struct kvs *kv)
{
	struct kvs_snapshot *s = NULL;

	make();
	check_ok(kvs_snapshot_begin(kv, NULL, &s));
	make();
	return s;
}

void near_end(struct kvs_snapshot *s, uint64_t want_count)
{
	uint64_t count;

	make();
	check_ok(kvs_snapshot_end(s, &count));
	make();
	check_u64(count, want_count);
}

uint64_t near_walk(struct kvs_snapshot *s, void (*fn)(const struct kvs_item *item, void *arg),
		   void *arg)
{
	struct kvs_snapshot_part *part = NULL;
	struct kvs_item item;
	uint64_t n = 0;
	int err;

	check_ok(kvs_snapshot_part_begin(s, &part));
	while ((err = kvs_snapshot_next(part, &item)) == KVS_OK) {
		fn(&item, arg);
		n++;
	}
	check_status(err, KVS_ERR_NOT_FOUND);
	kvs_snapshot_part_end(part);
	return n;
}
