/* SPDX-License-Identifier: MIT */
/*
 * test_pages.c - the blocks that directory segments lie in: apart, aligned, and zero each time.
 *
 * The case that it is about is a program whose memory is locked: the system does not take such memory back.
 */
#include "util.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "pages.h"

#define BLOCKS 31u /* the last piece of a chunk stays in use, or the chunk would be unmapped */
#define SIZE KVS__PAGES_MIN

static const struct kvs__mem mem; /* no user's allocator */

static bool is_zero(const unsigned char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static void take_all(struct kvs__pages *p, unsigned char **block, size_t *zero)
{
	unsigned i;

	for (i = 0; i < BLOCKS; i++) {
		block[i] = kvs__segment_alloc(p, SIZE);
		check(block[i] != NULL);
		check((uintptr_t)block[i] % SIZE == 0);
		*zero += is_zero(block[i], SIZE);
		memset(block[i], 0x5a, SIZE);
	}
}

static void free_all(struct kvs__pages *p, unsigned char **block)
{
	unsigned i;

	for (i = 0; i < BLOCKS; i++)
		kvs__segment_free(p, block[i], SIZE);
}

static void take_and_free(bool locked)
{
	unsigned char *block[BLOCKS];
	struct kvs__pages p;
	size_t zero = 0;
	void *keeper;
	unsigned round, i;

	kvs__pages_init(&p, &mem);
	keeper = kvs__segment_alloc(&p, SIZE);
	check(keeper != NULL);
	for (round = 0; round < 3; round++) {
		take_all(&p, block, &zero);
		for (i = 0; locked && i < BLOCKS; i++)
			check(mlock(block[i], SIZE) == 0);
		free_all(&p, block);
	}
	util_note("%zu of %u blocks were zero%s", zero, 3 * BLOCKS,
		  locked ? ", of locked memory" : "");
	check_u64(zero, 3 * BLOCKS);
	check_u64(load_relaxed(&p.bytes), SIZE);
	kvs__segment_free(&p, keeper, SIZE);
	check(p.chunks == NULL);
	kvs__pages_release(&p);
}

static void test_blocks_come_back_zero(void **state)
{
	(void)state;
	take_and_free(false);
}

/* The sanitizers let no memory be locked, and say that it is. */
#if defined(KVS_ASAN) || defined(KVS_TSAN)
#define LOCKS false
#else
#define LOCKS true
#endif

/* Does what this test is about happen here? */
static bool keeps_locked_memory(void)
{
	size_t size = (BLOCKS + 1) * SIZE;
	bool keeps = false;
	void *p;

	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(p != MAP_FAILED);
	if (mlock(p, size) != 0)
		util_note("no memory may be locked here: %s", strerror(errno));
	else
		keeps = madvise(p, size, MADV_DONTNEED) != 0;
	check(munmap(p, size) == 0);
	return keeps;
}

static void test_locked_blocks_come_back_zero(void **state)
{
	(void)state;
	take_and_free(LOCKS && keeps_locked_memory());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_come_back_zero),
		cmocka_unit_test(test_locked_blocks_come_back_zero),
	};

	return util_main("pages", tests, ARRAY_LEN(tests));
}
