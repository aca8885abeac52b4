/* SPDX-License-Identifier: MIT */
/*
 * test_readonly.c - reads write nothing that is shared.
 *
 * All memory of a store is taken from two mappings of the test's own: one for the slots, which
 * hold each thread's counters, one for everything else. With the threads known to the store, the
 * second is made read-only; then two threads read in every way there is. One write anywhere would
 * end the program.
 */
#include "configs.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "maintain.h"
#include "store.h"

#define KEYS 4000u
#define LARGE_KEYS 20u
#define LARGE 20000u
#define READERS 2u
#define COMMON_SIZE ((size_t)64 << 20)
#define SLOTS_SIZE ((size_t)1 << 20)
#define SLOT_ASKED (sizeof(struct kvs__slot) + KVS_LINE) /* what kvs__mem_lines asks for a slot */

/* ---- Two mappings ----------------------------------------------------------------------- */

struct region {
	char *base;
	size_t size;
	_Atomic size_t used; /* nothing is ever reused */
};

struct regions {
	struct region common;
	struct region slots;
	_Atomic uint64_t blocks;
};

static void region_make(struct region *r, size_t size)
{
	r->base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(r->base != MAP_FAILED);
	r->size = size;
}

static void *region_alloc(void *ctx, size_t size)
{
	struct regions *all = ctx;
	struct region *r = size == SLOT_ASKED ? &all->slots : &all->common;
	size_t at = atomic_fetch_add(&r->used, (size + 15) & ~(size_t)15);

	check(at + size <= r->size);
	atomic_fetch_add(&all->blocks, 1);
	return r->base + at;
}

static void region_free(void *ctx, void *ptr, size_t size)
{
	(void)ctx;
	(void)ptr;
	(void)size;
}

static bool holds(const struct region *r, const void *p, size_t size)
{
	uintptr_t at = (uintptr_t)p, base = (uintptr_t)r->base;

	return at >= base && at + size <= base + atomic_load(&r->used);
}

static void protect(struct region *r, int protection)
{
	check(mprotect(r->base, r->size, protection) == 0);
}

/* ---- What is protected ------------------------------------------------------------------ */

struct reading {
	struct kvs *kv;
	struct regions regions;
	size_t each; /* operations of a reader */
	pthread_barrier_t attached, protected, done, unprotected;
	_Atomic uint64_t hits, misses, borrows, pages, items;
	uint64_t items_seen, bytes_seen;
};

static int check_item(const struct kvs_item *item, void *arg)
{
	struct reading *r = arg;

	check(holds(&r->regions.common, item->key.data, item->key.len));
	check(holds(&r->regions.common, item->value.data, item->value.len));
	r->items_seen++;
	r->bytes_seen += item->key.len + item->value.len;
	return 0;
}

/* Keys, values, directory, root, versions and the store's own fields; the slots are apart. */
static void check_cover(struct reading *r)
{
	const struct region *common = &r->regions.common;
	struct kvs__root *root = load_seq_cst(&r->kv->root);
	uint64_t segments = 0, heads = 0, slots = 0;

	check(holds(common, r->kv, sizeof(*r->kv)));
	check(holds(common, root, sizeof(*root) + root->shards * sizeof(root->table[0])));
	check(holds(common, r->kv->versions, r->kv->shards * sizeof(*r->kv->versions)));
	for (uint64_t i = 0; i < root->shards; i++)
		for (unsigned s = 0; s < KVS__SEGMENTS; s++) {
			const kvs__head *h = load_acquire(&root->table[i].segment[s]);

			if (h == NULL)
				continue;
			check(holds(common, (const void *)(uintptr_t)h,
				    kvs__segment_heads(s) * sizeof(*h)));
			heads += kvs__segment_heads(s);
			segments++;
		}
	for (struct kvs__slot *s = load_acquire(&r->kv->home.slots); s != NULL; s = s->next) {
		check(holds(&r->regions.slots, s, sizeof(*s)));
		slots++;
	}
	check_ok(kvs_foreach(r->kv, check_item, r));
	check_u64(r->items_seen, KEYS + LARGE_KEYS);
	check(r->bytes_seen > LARGE_KEYS * LARGE + KEYS * 40);
	check(slots >= READERS);
	util_note("read-only: %zu bytes in %llu blocks: %llu keys, %llu heads in %llu segments",
		  atomic_load(&r->regions.common.used),
		  (unsigned long long)atomic_load(&r->regions.blocks),
		  (unsigned long long)r->items_seen, (unsigned long long)heads,
		  (unsigned long long)segments);
	util_note("writable: %llu slots, of a thread each", (unsigned long long)slots);
}

/* A write does end the program, so the protection is real. */
static void check_protection(struct reading *r)
{
	pid_t pid = util_fork();
	int status;

	if (pid == 0) {
		char room[KEY_ROOM];

		signal(SIGSEGV, SIG_DFL);
		(void)kvs_delete(r->kv, make_key(room, 0), NULL);
		util_child_done();
	}
	check(waitpid(pid, &status, 0) == pid);
	/* a sanitizer turns the signal into an exit */
	check(WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV : WEXITSTATUS(status) != 42);
}

/* ---- Reading ---------------------------------------------------------------------------- */

struct counts {
	uint64_t hits, misses, borrows, pages, items;
};

static size_t len_of(uint64_t k)
{
	return k < KEYS ? 40 + k % 60 : LARGE;
}

static void borrow_one(struct kvs *kv, uint64_t k, struct counts *c)
{
	char room[KEY_ROOM];
	struct kvs_value v;

	kvs_read_begin(kv);
	check_ok(kvs_borrow(kv, make_key(room, k), &v));
	check_u64(v.len, len_of(k));
	check_status(kvs_borrow(kv, make_key(room, k + 100000), &v), KVS_ERR_NOT_FOUND);
	kvs_read_end(kv);
	c->borrows += 2;
}

static void scan_page(struct kvs *kv, uint64_t *cursor, struct counts *c)
{
	struct kvs_item items[8];
	size_t count;

	kvs_read_begin(kv);
	check_ok(kvs_scan(kv, cursor, items, ARRAY_LEN(items), &count));
	kvs_read_end(kv);
	c->pages++;
	c->items += count;
}

static void read_one(struct reading *r, struct rng *rng, uint64_t *cursor, struct counts *c)
{
	uint64_t k = rng_below(rng, KEYS + LARGE_KEYS), len;
	char room[KEY_ROOM], buf[128];
	int err;

	switch (rng_below(rng, 16)) {
	case 0:
		scan_page(r->kv, cursor, c);
		break;
	case 1:
	case 2:
	case 3:
		borrow_one(r->kv, k, c);
		break;
	case 4:
		check_status(kvs_exists(r->kv, make_key(room, k + 100000)), KVS_ERR_NOT_FOUND);
		c->misses++;
		break;
	case 5:
	case 6:
	case 7:
		check_status(kvs_get(r->kv, make_key(room, k + 100000), buf, sizeof(buf), NULL),
			     KVS_ERR_NOT_FOUND);
		c->misses++;
		break;
	case 8:
		check_ok(kvs_len(r->kv, &len));
		check_ok(kvs_exists(r->kv, make_key(room, k)));
		c->hits++;
		break;
	default:
		err = kvs_get(r->kv, make_key(room, k), buf, sizeof(buf), NULL);
		check_status(err, k < KEYS ? KVS_OK : KVS_ERR_BUFFER_TOO_SMALL);
		c->hits++;
		break;
	}
}

static void read_all(size_t index, void *arg)
{
	struct reading *r = arg;
	struct counts c = { 0 };
	uint64_t cursor = 0;
	struct rng rng;

	rng_init(&rng, index);
	check_ok(kvs_thread_attach(r->kv));
	pthread_barrier_wait(&r->attached);
	pthread_barrier_wait(&r->protected);
	for (size_t i = 0; i < r->each; i++)
		read_one(r, &rng, &cursor, &c);
	check_u64(store_stats(r->kv).keys, KEYS + LARGE_KEYS); /* which only reads, too */
	pthread_barrier_wait(&r->done);
	pthread_barrier_wait(&r->unprotected); /* a thread's end gives its slot back, and writes */
	atomic_fetch_add(&r->hits, c.hits);
	atomic_fetch_add(&r->misses, c.misses);
	atomic_fetch_add(&r->borrows, c.borrows);
	atomic_fetch_add(&r->pages, c.pages);
	atomic_fetch_add(&r->items, c.items);
}

static void fill(struct kvs *kv)
{
	char room[KEY_ROOM];

	for (uint64_t k = 0; k < KEYS + LARGE_KEYS; k++)
		set_pattern(kv, k, len_of(k), k);
	for (uint64_t k = 0; k < KEYS; k += 3) /* overwritten and re-inserted ones too */
		set_pattern(kv, k, len_of(k), k);
	for (uint64_t k = 1; k < KEYS; k += 3) {
		check_ok(kvs_delete(kv, make_key(room, k), NULL));
		set_pattern(kv, k, len_of(k), k);
	}
	check_ok(kvs_drain(kv));
}

static void reading_open(struct reading *r)
{
	struct kvs_allocator hooks = { region_alloc, NULL, region_free, &r->regions };
	struct kvs_options opts = KVS_OPTIONS_INIT;

	region_make(&r->regions.common, COMMON_SIZE);
	region_make(&r->regions.slots, SLOTS_SIZE);
	opts.shards = 8;
	opts.allocator = &hooks;
	check_ok(kvs_open(&opts, &r->kv));
	check((size_t)opts.shards * sizeof(*r->kv->versions) !=
	      sizeof(struct kvs__slot)); /* told apart by size */
	fill(r->kv);
}

static void report(struct reading *r)
{
	uint64_t hits = atomic_load(&r->hits), misses = atomic_load(&r->misses);
	uint64_t borrows = atomic_load(&r->borrows), pages = atomic_load(&r->pages);

	util_note("%llu gets, %llu misses, %llu borrows, %llu pages with %llu items: %llu in all",
		  (unsigned long long)hits, (unsigned long long)misses, (unsigned long long)borrows,
		  (unsigned long long)pages, (unsigned long long)atomic_load(&r->items),
		  (unsigned long long)(hits + misses + borrows + pages));
	check(hits + misses + borrows + pages >= READERS * r->each);
	check(hits >= r->each / 4 && misses >= r->each / 8 && borrows >= r->each / 8);
	check(pages >= r->each / 32 && atomic_load(&r->items) >= pages);
}

static void test_reads_write_nothing_shared(void **state)
{
	struct reading *r = calloc(1, sizeof(*r));
	struct crew crew;

	(void)state;
	check(r != NULL);
	r->each = util_scaled(20000, 10000000, 100000000) / READERS;
	reading_open(r);
	pthread_barrier_init(&r->attached, NULL, READERS + 1);
	pthread_barrier_init(&r->protected, NULL, READERS + 1);
	pthread_barrier_init(&r->done, NULL, READERS + 1);
	pthread_barrier_init(&r->unprotected, NULL, READERS + 1);
	crew_start(&crew, READERS, read_all, r);
	pthread_barrier_wait(&r->attached);
	if (kvs__maintainer_stop(r->kv)) /* it would go to sleep, sooner or later */
		kvs__maintainer_join(r->kv);
	check_cover(r);
	protect(&r->regions.common, PROT_READ);
	check_protection(r);
	pthread_barrier_wait(&r->protected);
	pthread_barrier_wait(&r->done);
	protect(&r->regions.common, PROT_READ | PROT_WRITE);
	pthread_barrier_wait(&r->unprotected);
	crew_join(&crew);
	report(r);
	close_store(r->kv);
	munmap(r->regions.common.base, r->regions.common.size);
	munmap(r->regions.slots.base, r->regions.slots.size);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_write_nothing_shared),
	};

	return util_main("readonly", tests, ARRAY_LEN(tests));
}
