/* SPDX-License-Identifier: MIT */
/*
 * test_host_cycles.c - a program that opens and closes stores all its life keeps as many threads,
 * descriptors and bytes as it had.
 */
#include "configs.h"

#include "host.h"

/* Most of a cycle is waiting for grace periods, so four threads make them side by side. */
#define THREADS 4u

struct cycles {
	size_t each;
	_Atomic uint64_t made;
};

/* Enough for growth, for a batch, and for something to be left in it. */
static void use(struct kvs *kv)
{
	char room[KEY_ROOM];

	for (uint64_t k = 0; k < 200; k++)
		set_pattern(kv, k, k == 7 ? 6000 : 30, k);
	for (uint64_t k = 0; k < 200; k += 2)
		set_pattern(kv, k, 30, k);
	for (uint64_t k = 1; k < 200; k += 4)
		check_ok(kvs_delete(kv, make_key(room, k), NULL));
	check_u64(store_len(kv), 150);
}

/* Two stores at once, closed in either order; one is cleared. */
static void cycle(size_t number)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs *a, *b;

	opts.shards = 1;
	check_ok(kvs_open(&opts, &a));
	check_ok(kvs_open(number % 2 ? NULL : &opts, &b));
	use(a);
	use(b);
	if (number % 8 == 0)
		check_ok(kvs_clear(b));
	check_ok(kvs_free(number % 4 < 2 ? a : b));
	check_ok(kvs_free(number % 4 < 2 ? b : a));
}

static void run_cycles(size_t index, void *arg)
{
	struct cycles *c = arg;

	for (size_t i = 0; i < c->each; i++) {
		cycle(4 * i + index);
		atomic_fetch_add(&c->made, 1);
	}
}

static void test_open_close_cycles_leave_nothing(void **state)
{
	struct cycles warm = { .each = 10 };
	struct cycles c = { .each = util_scaled_full(40, 300, 1000, 20000) / THREADS };
	size_t threads = count_threads_at_rest(), descriptors, heap;

	(void)state;
	run_threads(THREADS, run_cycles, &warm); /* what liburcu and the C library keep for good */
	wait_for_threads(threads);
	descriptors = count_descriptors();
	heap = count_heap();
	run_threads(THREADS, run_cycles, &c);
	wait_for_threads(threads);
	util_note("%llu cycles of two stores: threads %zu before, %zu after; descriptors %zu, %zu; "
		  "heap %zu, %zu bytes",
		  (unsigned long long)atomic_load(&c.made), threads + 1, count_threads() + 1,
		  descriptors, count_descriptors(), heap, count_heap());
	check_u64(count_descriptors(), descriptors);
	check_u64(atomic_load(&c.made), THREADS * c.each);
	/*
	 * The C library's caches for threads come and go; 32 bytes of each cycle would be 32,000.
	 */
	check(count_heap() <= heap + 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_close_cycles_leave_nothing),
	};

	return util_main("host_cycles", tests, ARRAY_LEN(tests));
}
