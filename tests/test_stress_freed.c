/* SPDX-License-Identifier: MIT */
/*
 * test_stress_freed.c - what a reader holds is not freed while it holds it, and nobody touches
 * what is freed.
 *
 * The allocator fills what is freed with a pattern and keeps it aside for a while before it is
 * given back: a reader that comes too late reads the pattern, or follows it and crashes; a writer
 * that comes too late damages it. Readers hold on to borrowed values until these have been
 * replaced or deleted, and look at them again.
 */
#include "configs.h"

#include <sched.h>
#include <string.h>

#include "stress.h"

#define KEYS 16u
#define ASIDE 4096u /* freed blocks kept */
#define FREED 0xdd

enum { FREES, HELD, WALKED, HALVED };

struct stress {
	struct kvs *kv;
	struct kvs_allocator hooks;
	struct goals goals;
	pthread_mutex_t lock;
	struct {
		unsigned char *ptr;
		size_t size;
	} aside[ASIDE]; /* under lock */
	uint64_t freed; /* under lock */
};

static void *hook_alloc(void *ctx, size_t size)
{
	(void)ctx;
	return malloc(size);
}

static bool is_pattern(const unsigned char *p, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (p[i] != FREED)
			return false;
	return true;
}

static void give_back(unsigned char *p, size_t size)
{
	if (p != NULL && !is_pattern(p, size))
		util_fail(__FILE__, __LINE__, "a freed block of %zu bytes was written to", size);
	free(p);
}

static void hook_free(void *ctx, void *ptr, size_t size)
{
	struct stress *s = ctx;
	unsigned char *old;
	size_t old_size;
	size_t i;

	memset(ptr, FREED, size);
	pthread_mutex_lock(&s->lock);
	i = s->freed++ % ASIDE;
	old = s->aside[i].ptr;
	old_size = s->aside[i].size;
	s->aside[i].ptr = ptr;
	s->aside[i].size = size;
	pthread_mutex_unlock(&s->lock);
	give_back(old, old_size);
	goal_add(&s->goals, FREES, 1);
}

/* A value names its tag; it may lie in its entry or in a block of its own. */
static struct kvs_slice value_make(unsigned char *buf, struct rng *r)
{
	uint64_t tag = rng_next(r);
	size_t len = tag % 32 == 0 ? 4200 : 16 + tag % 100;

	memcpy(buf, &tag, sizeof(tag));
	pattern_fill(buf + 8, len - 8, tag);
	return kvs_bytes(buf, len);
}

static void check_value(const struct kvs_value *v)
{
	uint64_t tag;

	check(v->len >= 16);
	memcpy(&tag, v->data, sizeof(tag));
	check_u64(v->len, tag % 32 == 0 ? 4200 : 16 + tag % 100);
	check(pattern_matches((const char *)v->data + 8, v->len - 8, tag));
}

static void write_keys(struct stress *s, struct rng *r)
{
	unsigned char buf[4300];
	char room[KEY_ROOM];

	while (!goals_met(&s->goals)) {
		struct kvs_slice key = make_key(room, rng_below(r, KEYS));

		if (rng_below(r, 4) == 0)
			(void)kvs_delete(s->kv, key, NULL);
		else
			check_ok(kvs_set(s->kv, key, value_make(buf, r), NULL));
	}
}

/*
 * Hold a value until its key has another version or none, at most for some turns; then look
 * again.
 */
static bool hold(struct stress *s, struct kvs_slice key)
{
	struct kvs_value held, now;
	bool gone = false;

	kvs_read_begin(s->kv);
	if (kvs_borrow(s->kv, key, &held) == KVS_OK) {
		check_value(&held);
		for (unsigned i = 0; i < 50 && !gone; i++) {
			sched_yield();
			gone = kvs_borrow(s->kv, key, &now) != KVS_OK ||
			       now.version != held.version;
		}
		check_value(&held);
	}
	kvs_read_end(s->kv);
	return gone;
}

static int look(const struct kvs_item *item, void *arg)
{
	uint64_t *n = arg;

	if (key_number(item->key) < KEYS) {
		check_value(&item->value);
		++*n;
	}
	return 0;
}

static void read_keys(struct stress *s, struct rng *r)
{
	char room[KEY_ROOM];

	while (!goals_met(&s->goals)) {
		uint64_t walked = 0;

		goal_add(&s->goals, HELD, hold(s, make_key(room, rng_below(r, KEYS))));
		check_ok(kvs_foreach(s->kv, look, &walked));
		goal_add(&s->goals, WALKED, walked);
	}
}

static void member(size_t index, void *arg)
{
	struct stress *s = arg;
	struct tide tide = { .kv = s->kv, .fillers = 140 };
	struct rng r;

	rng_init(&r, index);
	if (index < 2) {
		write_keys(s, &r);
	} else if (index < 4) {
		read_keys(s, &r);
	} else {
		tide_begin(&tide);
		while (!goals_met(&s->goals))
			goal_add(&s->goals, HALVED, tide_cycle(&tide));
		tide_end(&tide);
	}
}

static void test_freed_memory_is_not_used(void **state)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct stress *s = calloc(1, sizeof(*s));

	(void)state;
	check(s != NULL);
	s->goals = (struct goals){ {
		[FREES] = { .name = "blocks freed", .floor = util_scaled(2000, 500000, 100000000) },
		[HELD] = { .name = "values looked at after they were replaced or deleted",
			   .floor = util_scaled(50, 3000, 1000000) },
		[WALKED] = { .name = "entries walked over",
			     .floor = util_scaled(1000, 20000, 10000000) },
		[HALVED] = { .name = "halvings", .floor = util_scaled(2, 40, 10000) },
	} };
	s->hooks = (struct kvs_allocator){ hook_alloc, NULL, hook_free, s };
	pthread_mutex_init(&s->lock, NULL);
	opts.shards = 1;
	opts.allocator = &s->hooks;
	check_ok(kvs_open(&opts, &s->kv));
	run_threads(5, member, s);
	close_store(s->kv);
	goals_report(&s->goals);
	for (size_t i = 0; i < ASIDE; i++)
		give_back(s->aside[i].ptr, s->aside[i].size);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_freed_memory_is_not_used),
	};

	return util_main("stress_freed", tests, ARRAY_LEN(tests));
}
