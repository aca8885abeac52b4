/* SPDX-License-Identifier: MIT */
/*
 * test_file_swap.c - contents replaced by kvs_load again and again while others read, walk and write: nobody sees some of the
 * old and some of the new, nothing leaks.
 *
 * Two files hold the same keys; every value says of which file it is, its generation. A reader opens a section and borrows
 * keys one after another. Loads alternate between the files, so a section may see generation a, then b; but a key of a's
 * contents after one of b's, as b's were loaded after, must not be: within a section the count of loads that had begun
 * before it and ended by its end bounds how often the generation may change.
 *
 * Writers work on keys of their own, which a load takes away: what they wrote is there, or is gone with a later load.
 */
#include "configs.h"
#include "files.h"

#include <string.h>

#include "memfs.h"
#include "stress.h"

#define KEYS 400u
#define FILES 2u

enum { GOAL_LOADS, GOAL_SECTIONS, GOAL_ACROSS, GOAL_WALKS, GOAL_WRITES };

struct swap {
	struct kvs *kv;
	struct goals goals;
	_Atomic uint64_t begun, ended; /* loads */
};

static const char *const names[FILES] = { MEMFS_DIR "/0", MEMFS_DIR "/1" };

/* Values of a generation: 8 bytes, each the generation's digit. */
static void file_make(unsigned generation)
{
	struct kvs *kv = small_store();
	char room[KEY_ROOM], value[8];

	memset(value, '0' + (int)generation, sizeof(value));
	for (uint64_t i = 0; i < KEYS; i++)
		check_ok(kvs_set(kv, make_key(room, i), kvs_bytes(value, sizeof(value)), NULL));
	check_ok(kvs_save(kv, names[generation], NULL));
	check_ok(kvs_free(kv));
}

static unsigned generation_of(const struct kvs_value *v)
{
	const char *bytes = v->data;

	check_u64(v->len, 8);
	for (size_t i = 1; i < 8; i++)
		check(bytes[i] == bytes[0]);
	check(bytes[0] == '0' || bytes[0] == '1');
	return (unsigned)(bytes[0] - '0');
}

static void loader(struct swap *s)
{
	while (!goals_met(&s->goals)) {
		struct kvs_load_options o = KVS_LOAD_OPTIONS_INIT;
		uint64_t n = atomic_fetch_add(&s->begun, 1) + 1;

		o.threads = 1 + (uint32_t)(n % 2);
		check_ok(kvs_load(s->kv, names[n % FILES], &o));
		atomic_store(&s->ended, n);
		goal_add(&s->goals, GOAL_LOADS, 1);
	}
}

/*
 * The generation changes by loads only, and each load changes it: between two looks it changes at most as often as loads have
 * swapped meanwhile, and those began before the second look and had not ended before the first.
 */
static void section(struct swap *s, struct rng *r)
{
	uint64_t ended = atomic_load(&s->ended), changes = 0, begun;
	struct kvs_value v;
	unsigned last = 2;
	char room[KEY_ROOM];

	kvs_read_begin(s->kv);
	for (unsigned i = 0; i < 50; i++) {
		unsigned now;

		/* every key is in both files: it is never missing */
		check_ok(kvs_borrow(s->kv, make_key(room, rng_below(r, KEYS)), &v));
		now = generation_of(&v);
		changes += last != 2 && now != last;
		last = now;
	}
	kvs_read_end(s->kv);
	begun = atomic_load(&s->begun);
	check(changes <= begun - ended);
	/* and a load waits for this section before it ends: at most one swapped within it */
	check(changes <= 1);
	goal_add(&s->goals, GOAL_SECTIONS, 1);
	goal_add(&s->goals, GOAL_ACROSS, changes);
}

static void reader(struct swap *s, size_t index)
{
	struct rng r;

	rng_init(&r, index);
	while (!goals_met(&s->goals))
		section(s, &r);
}

/* A page of a scan has one root: one generation, but for keys that writers put there. */
static void walker(struct swap *s)
{
	struct kvs_item items[64];

	while (!goals_met(&s->goals)) {
		uint64_t cursor = 0;
		size_t count;

		do {
			unsigned seen = 2;

			kvs_read_begin(s->kv);
			check_ok(kvs_scan(s->kv, &cursor, items, ARRAY_LEN(items), &count));
			for (size_t i = 0; i < count; i++) {
				unsigned g;

				if (((const char *)items[i].key.data)[0] != 'k')
					continue;
				g = generation_of(&items[i].value);
				check(seen == 2 || seen == g);
				seen = g;
			}
			kvs_read_end(s->kv);
		} while (cursor != 0);
		goal_add(&s->goals, GOAL_WALKS, 1);
	}
}

static void writer(struct swap *s)
{
	uint64_t n = 0, last_version = 0;

	while (!goals_met(&s->goals)) {
		uint64_t ended = atomic_load(&s->ended), begun, version = 0;
		char buf[8];
		struct kvs_value v;
		int err;

		n++;
		check_ok(kvs_set(s->kv, kvs_str("written"), kvs_bytes(&n, sizeof(n)), &version));
		check(version > last_version); /* also across loads */
		last_version = version;
		err = kvs_get(s->kv, kvs_str("written"), buf, sizeof(buf), &v);
		begun = atomic_load(&s->begun);
		check(err == KVS_OK || err == KVS_ERR_NOT_FOUND);
		if (err == KVS_OK)
			check(v.version == version && memcmp(buf, &n, sizeof(n)) == 0);
		else
			check(begun > ended); /* only a load that overlaps can have taken it */
		goal_add(&s->goals, GOAL_WRITES, 1);
	}
}

static void part(size_t index, void *arg)
{
	switch (index) {
	case 0:
		loader(arg);
		break;
	case 1:
		writer(arg);
		break;
	case 2:
		walker(arg);
		break;
	default:
		reader(arg, index);
	}
}

static void test_nobody_sees_a_mixture(void **state)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct counting mem;
	struct swap s = {
		.goals = { {
			{ "loads", util_scaled(10, 100, 1000), 0 },
			{ "sections of readers", 1000, 0 },
			{ "sections that saw a load take effect", util_scaled(1, 1, 10), 0 },
			{ "walks", 20, 0 },
			{ "writes", 1000, 0 },
		} }
	};

	(void)state;
	memfs_use();
	file_make(0);
	file_make(1);
	counting_init(&mem, true);
	o.allocator = &mem.hooks;
	o.shards = 4;
	check_ok(kvs_open(&o, &s.kv));
	check_ok(kvs_load(s.kv, names[0], NULL));
	run_threads(5, part, &s);
	goals_report(&s.goals);
	check_ok(kvs_clear(s.kv));
	check_ok(kvs_drain(s.kv));
	check_u64(store_stats(s.kv).bytes_live, 0);
	check_u64(store_stats(s.kv).bytes_deferred, 0);
	check_ok(kvs_free(s.kv));
	check_u64(atomic_load(&mem.live_bytes), 0);
	memfs_leave();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_sees_a_mixture),
	};

	return util_main("test_file_swap", tests, ARRAY_LEN(tests));
}
