/* SPDX-License-Identifier: MIT */
/*
 * test_file_damage.c - files that are not what was saved: every one is refused with the right error, nothing
 * changes, and little is allocated for it. The undamaged file loads in the same test, and its contents are compared.
 *
 * Files are in memory (memfs.h). The store that is loaded into has contents of its own, which must stay.
 */
#include "configs.h"
#include "files.h"

#include <stdio.h>
#include <string.h>

#include "format.h"
#include "memfs.h"
#include "store.h"

#define GOOD MEMFS_DIR "/good.kvs"
#define HEADER 64u
#define BLOCK 48u
#define TRAILER 64u

static const struct contents own = { 20, 1000, 30 };
static const struct contents saved = { 60, 2000, 60 };

struct bench {
	struct kvs *kv;
	unsigned char *bytes; /* of the good file */
	unsigned char *copy;
	size_t len;
	struct contents in_file;
	uint64_t refused;
};

static void bench_make(struct bench *b, const struct contents *c)
{
	size_t len;

	memset(b, 0, sizeof(*b));
	memfs_use();
	contents_save(GOOD, c);
	check(memfs_get("good.kvs", &len) != NULL);
	b->len = len;
	b->bytes = malloc(len);
	b->copy = malloc(2 * len + 65536);
	check(b->bytes != NULL && b->copy != NULL);
	memcpy(b->bytes, memfs_get("good.kvs", &len), len);
	b->in_file = *c;
	b->kv = small_store();
	contents_set(b->kv, &own);
}

static void bench_end(struct bench *b)
{
	check_contents(b->kv, &own);
	check_ok(kvs_load(b->kv, GOOD, NULL));
	check_contents(b->kv, &b->in_file);
	check_ok(kvs_free(b->kv));
	free(b->bytes);
	free(b->copy);
	memfs_leave();
}

/* The copy, @len bytes of it, must be refused. */
static void check_refused(struct bench *b, size_t len, const char *what, size_t where)
{
	struct kvs_file_error error = { 0, 0, 0, NULL };
	int err = bytes_load(b->kv, b->copy, len, &error);

	if (err != KVS_ERR_CORRUPTED_SNAPSHOT)
		util_fail(__FILE__, __LINE__, "%s %zu: answered %s (%s)", what, where,
			  kvs_errname(err), error.cause != NULL ? error.cause : "no cause");
	check(error.code == err && error.cause != NULL && error.offset <= len);
	b->refused++;
	if (b->refused % 64 == 0)
		check_contents(b->kv, &own);
}

static void copy_good(struct bench *b)
{
	memcpy(b->copy, b->bytes, b->len);
}

/* A store whose file has exactly @want bytes. */
static void bench_make_sized(struct bench *b, size_t want)
{
	struct kvs *kv;
	char filler[4096] = { 0 };
	size_t len;

	bench_make(b, &saved);
	check(b->len + 16 + 6 < want);
	kv = small_store();
	check_ok(kvs_load(kv, GOOD, NULL));
	check_ok(kvs_set(kv, kvs_str("filler"), kvs_bytes(filler, want - b->len - 16 - 6), NULL));
	check_ok(kvs_save(kv, GOOD, NULL));
	check_ok(kvs_free(kv));
	check(memfs_get("good.kvs", &len) != NULL);
	check_u64(len, want);
	free(b->bytes);
	free(b->copy);
	b->bytes = malloc(len);
	b->copy = malloc(2 * len);
	check(b->bytes != NULL && b->copy != NULL);
	memcpy(b->bytes, memfs_get("good.kvs", &len), len);
	b->len = len;
}

static void bench_end_sized(struct bench *b)
{
	check_contents(b->kv, &own);
	check_ok(kvs_load(b->kv, GOOD, NULL));
	check_u64(store_len(b->kv), saved.count + 1);
	check_ok(kvs_delete(b->kv, kvs_str("filler"), NULL));
	check_contents(b->kv, &saved);
	check_ok(kvs_free(b->kv));
	free(b->bytes);
	free(b->copy);
	memfs_leave();
}

static void test_every_bit_of_4_KiB(void **state)
{
	size_t stride = util_scaled(17, 1, 1);
	struct bench b;

	(void)state;
	bench_make_sized(&b, 4096);
	copy_good(&b);
	for (size_t bit = 0; bit < 4096 * 8; bit += stride) {
		b.copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
		check_refused(&b, b.len, "bit", bit);
		b.copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	util_note("%llu of 32,768 single-bit flips refused", (unsigned long long)b.refused);
	check_u64(b.refused, (4096 * 8 + stride - 1) / stride);
	bench_end_sized(&b);
}

static void test_every_truncation_of_4_KiB(void **state)
{
	struct bench b;

	(void)state;
	bench_make_sized(&b, 4096);
	copy_good(&b);
	for (size_t len = 0; len < 4096; len++)
		check_refused(&b, len, "length", len);
	util_note("%llu truncations refused", (unsigned long long)b.refused);
	bench_end_sized(&b);
}

static void test_bytes_behind_the_end(void **state)
{
	struct bench b;

	(void)state;
	bench_make_sized(&b, 4096);
	for (unsigned fill = 0; fill < 2; fill++) {
		copy_good(&b);
		memset(b.copy + b.len, fill ? 0xff : 0, 256);
		for (size_t more = 1; more <= 256; more++)
			check_refused(&b, b.len + more, "bytes more", more);
	}
	/* a second trailer, a second file */
	copy_good(&b);
	memcpy(b.copy + b.len, b.bytes + b.len - TRAILER, TRAILER);
	check_refused(&b, b.len + TRAILER, "trailer", 2);
	memcpy(b.copy + b.len, b.bytes, b.len);
	check_refused(&b, 2 * b.len, "file", 2);
	bench_end_sized(&b);
}

static void test_random_damage(void **state)
{
	static const struct contents larger[] = { { 300, 1, 100 },
						  { 2000, 2, 200 },
						  { 12, 3, 400000 } };
	size_t rounds = util_scaled_full(1000, 20000, 200000, 1000000) / ARRAY_LEN(larger);
	uint64_t refused = 0, same = 0;
	struct rng r;

	(void)state;
	rng_init(&r, 1);
	for (size_t f = 0; f < ARRAY_LEN(larger); f++) {
		struct bench b;
		/* loading half a megabyte costs what a hundred small ones do */
		size_t n = f == 0 ? rounds * 5 / 2 : rounds / 4;

		bench_make(&b, &larger[f]);
		copy_good(&b);
		for (size_t i = 0; i < n; i++) {
			size_t len = 1 + rng_below(&r, 64);
			size_t at = rng_below(&r, b.len - len);

			for (size_t k = 0; k < len; k++)
				b.copy[at + k] = (unsigned char)rng_next(&r);
			if (memcmp(b.copy + at, b.bytes + at, len) == 0)
				same++;
			else
				check_refused(&b, b.len, "damage at", at);
			memcpy(b.copy + at, b.bytes + at, len);
		}
		refused += b.refused;
		bench_end(&b);
	}
	util_note("%llu random damages refused, %llu changed nothing", (unsigned long long)refused,
		  (unsigned long long)same);
	check(refused >= rounds * 2);
}

/* ---- Whole blocks ----------------------------------------------------------------------- */

#define BLOCKS_MAX 64u

/* Where the blocks of a file begin; the last is the trailer. */
static size_t blocks_of(const struct bench *b, size_t start[BLOCKS_MAX])
{
	size_t n = 0, at = HEADER;

	while (at < b->len - TRAILER) {
		uint32_t len;

		check(n + 1 < BLOCKS_MAX);
		start[n++] = at;
		memcpy(&len, b->bytes + at + 32, sizeof(len));
		at += BLOCK + len;
	}
	start[n] = at;
	check_u64(at, b->len - TRAILER);
	return n;
}

/* Values of one length: blocks of one length, so that exchanging two moves nothing else. */
static void even_store(struct bench *b, size_t *ret_blocks, size_t start[BLOCKS_MAX])
{
	const struct contents c = { 6000, 5, 0 };
	struct contents empty_values = c;

	bench_make(b, &empty_values);
	*ret_blocks = blocks_of(b, start);
	check(*ret_blocks >= 3);
}

/* The copy is put together from blocks of the good file; the checksums of all but the trailer are still right. */
static size_t put_block(struct bench *b, size_t at, const size_t start[BLOCKS_MAX], size_t block)
{
	size_t len = start[block + 1] - start[block];

	memcpy(b->copy + at, b->bytes + start[block], len);
	return at + len;
}

static size_t put_trailer(struct bench *b, size_t at)
{
	uint64_t size = at + TRAILER;

	memcpy(b->copy + at, b->bytes + b->len - TRAILER, TRAILER);
	memcpy(b->copy + at + 40, &size, sizeof(size));
	return at + TRAILER;
}

static void test_blocks_lost_doubled_swapped(void **state)
{
	size_t start[BLOCKS_MAX];
	size_t blocks, at;
	struct bench b;

	(void)state;
	even_store(&b, &blocks, start);
	memcpy(b.copy, b.bytes, HEADER);
	for (size_t i = 0; i < blocks; i++) {
		for (size_t j = 0; j < blocks; j++) {
			if (i == j)
				continue;
			at = HEADER; /* swapped */
			for (size_t k = 0; k < blocks; k++)
				at = put_block(&b, at, start, k == i ? j : k == j ? i : k);
			at = put_trailer(&b, at);
			bytes_seal(b.copy, at);
			check_refused(&b, at, "swapped", i * blocks + j);
			at = HEADER; /* j again in the place of i */
			for (size_t k = 0; k < blocks; k++)
				at = put_block(&b, at, start, k == i ? j : k);
			at = put_trailer(&b, at);
			bytes_seal(b.copy, at);
			check_refused(&b, at, "in place of", i * blocks + j);
		}
		at = HEADER; /* lost */
		for (size_t k = 0; k < blocks; k++)
			at = k == i ? at : put_block(&b, at, start, k);
		at = put_trailer(&b, at);
		bytes_seal(b.copy, at);
		check_refused(&b, at, "lost", i);
		at = HEADER; /* doubled */
		for (size_t k = 0; k < blocks; k++) {
			at = put_block(&b, at, start, k);
			at = k == i ? put_block(&b, at, start, k) : at;
		}
		at = put_trailer(&b, at);
		bytes_seal(b.copy, at);
		check_refused(&b, at, "doubled", i);
	}
	/* with new indices and counts only the keys, which come twice, tell */
	at = HEADER;
	for (size_t k = 0; k < blocks; k++)
		at = put_block(&b, at, start, k);
	at = put_block(&b, at, start, 0);
	put_trailer(&b, at);
	{
		uint64_t index = blocks, count = blocks + 1, entries;
		uint32_t records;

		memcpy(b.copy + at - (start[1] - start[0]) + 24, &index, sizeof(index));
		memcpy(&records, b.copy + at - (start[1] - start[0]) + 36, sizeof(records));
		memcpy(&entries, b.copy + at + 32, sizeof(entries));
		entries += records;
		memcpy(b.copy + at + 24, &count, sizeof(count));
		memcpy(b.copy + at + 32, &entries, sizeof(entries));
	}
	bytes_seal(b.copy, at + TRAILER);
	check_refused(&b, at + TRAILER, "keys twice", 0);
	util_note("%llu files of the right blocks in a wrong order refused",
		  (unsigned long long)b.refused);
	bench_end(&b);
}

static void test_foreign_blocks(void **state)
{
	size_t start[BLOCKS_MAX], other_start[BLOCKS_MAX];
	size_t blocks;
	struct bench b, other;

	(void)state;
	even_store(&b, &blocks, start);
	/* the same contents saved again: blocks alike but for the snapshot's id */
	contents_save(GOOD, &b.in_file);
	other = b;
	other.bytes = malloc(b.len);
	check(other.bytes != NULL);
	{
		size_t len;
		const unsigned char *bytes = memfs_get("good.kvs", &len);

		check_u64(len, b.len);
		memcpy(other.bytes, bytes, len);
	}
	check_u64(blocks_of(&other, other_start), blocks);
	for (size_t k = 0; k <= blocks; k++) {
		size_t end = k == blocks ? b.len : start[k + 1];

		copy_good(&b);
		memcpy(b.copy + start[k], other.bytes + start[k], end - start[k]);
		check_refused(&b, b.len, "foreign block", k);
		bytes_seal(b.copy, b.len);
		check_refused(&b, b.len, "foreign block, sealed", k);
	}
	copy_good(&b);
	memcpy(b.copy, other.bytes, HEADER);
	check_refused(&b, b.len, "foreign header", 0);
	free(other.bytes);
	bench_end(&b);
}

/* ---- Hostile lengths -------------------------------------------------------------------- */

#define MALLOC_LIMIT ((uint64_t)64 << 20)

static _Atomic uint64_t largest;

static void *limited_alloc(void *ctx, size_t size)
{
	uint64_t seen = atomic_load(&largest);

	(void)ctx;
	while (size > seen && !atomic_compare_exchange_weak(&largest, &seen, size))
		;
	return size > MALLOC_LIMIT ? NULL : malloc(size);
}

static void limited_free(void *ctx, void *ptr, size_t size)
{
	(void)ctx;
	(void)size;
	free(ptr);
}

static uint64_t refuse_hostile(struct kvs *kv, const unsigned char *bytes, size_t len)
{
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct kvs_file *file;
	struct kvs_item item;
	int err = bytes_load(kv, bytes, len, &error);

	check_status(err, KVS_ERR_CORRUPTED_SNAPSHOT);
	err = kvs_file_open(MEMFS_DIR "/damaged.kvs", NULL, &file);
	if (err == KVS_OK) {
		while ((err = kvs_file_next(file, &item)) == KVS_OK)
			;
		kvs_file_close(file);
	}
	check(err == KVS_ERR_CORRUPTED_SNAPSHOT || err == KVS_ERR_NOT_FOUND);
	return 1;
}

/* Of this number the field's @bytes would hold nothing but zeros, which some fields may be. */
static bool fits_as_zero(uint64_t lie, size_t bytes)
{
	return bytes < 8 && (lie & (((uint64_t)1 << 8 * bytes) - 1)) == 0;
}

/* Every field that is a length or a count, with every checksum right: only the bytes that are there count. */
static void test_lengths_that_lie(void **state)
{
	static const uint64_t lies[] = { 1u << 17,          (1u << 17) + 1, 1u << 20,
					 1u << 30,          0x3fffffff,     0x40000000,
					 0x7fffffff,        0xffffffff,     UINT64_C(1) << 32,
					 UINT64_C(1) << 40, UINT64_MAX / 2, UINT64_MAX };
	static const struct {
		size_t at;
		bool from_end;
		size_t bytes;
		const char *name;
	} fields[] = {
		{ 8, false, 4, "header length" },
		{ HEADER + 32, false, 4, "block length" },
		{ HEADER + 36, false, 4, "records" },
		{ HEADER + BLOCK, false, 2, "key length" },
		{ HEADER + BLOCK + 4, false, 4, "value length" },
		{ TRAILER - 24, true, 8, "blocks" },
		{ TRAILER - 32, true, 8, "entries" },
		{ TRAILER - 40, true, 8, "file bytes" },
		{ HEADER + 4, false, 4, "kind" },
		{ HEADER + BLOCK + 2, false, 2, "flags" },
		{ HEADER + BLOCK + 8, false, 8, "version" },
	};
	struct kvs_allocator hooks = { limited_alloc, NULL, limited_free, NULL };
	struct kvs_options o = KVS_OPTIONS_INIT;
	uint64_t tried = 0;
	struct bench b;
	struct kvs *kv;

	(void)state;
	o.allocator = &hooks;
	o.shards = 1;
	check_ok(kvs_open(&o, &kv));
	contents_set(kv, &own);
	for (unsigned big = 0; big < 2; big++) {
		const struct contents c =
			big ? (struct contents){ 1, 1, 300000 } : (struct contents){ 5, 1, 20 };
		struct contents one = c;

		one.tag = big ? 299999 : 1;
		bench_make(&b, &one);
		atomic_store(&largest, 0);
		for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
			for (size_t l = 0; l < ARRAY_LEN(lies); l++) {
				size_t at =
					fields[f].from_end ? b.len - fields[f].at : fields[f].at;

				copy_good(&b);
				memcpy(b.copy + at, &lies[l], fields[f].bytes);
				if (memcmp(b.copy + at, b.bytes + at, fields[f].bytes) == 0 ||
				    (strcmp(fields[f].name, "version") == 0 &&
				     lies[l] < UINT64_C(1) << 56) ||
				    fits_as_zero(lies[l], fields[f].bytes))
					continue;
				bytes_seal(b.copy, b.len);
				util_context(fields[f].name);
				tried += refuse_hostile(kv, b.copy, b.len);
			}
		}
		util_context(NULL);
		check_ok(kvs_load(kv, GOOD, NULL));
		check_contents(kv, &one);
		bench_end(&b);
	}
	util_note("%llu lies refused; the largest allocation was %llu bytes",
		  (unsigned long long)tried, (unsigned long long)atomic_load(&largest));
	check(tried > 150 && atomic_load(&largest) < (uint64_t)4 << 20);
	check_ok(kvs_free(kv));
}

/* ---- Long records ----------------------------------------------------------------------- */

/* A record over three blocks, with each block's fields wrong in turn. */
static void test_long_records_broken(void **state)
{
	static const struct {
		size_t field, bytes;
		uint64_t value;
	} changes[] = {
		{ 4, 4, 1 },  { 4, 4, 2 },  { 4, 4, 3 },  { 24, 8, 0 },
		{ 24, 8, 1 }, { 24, 8, 2 }, { 32, 4, 1 }, { 32, 4, 131071 },
		{ 36, 4, 0 }, { 36, 4, 1 }, { 36, 4, 2 },
	};
	const struct contents c = { 1, 300000, 300000 };
	size_t start[BLOCKS_MAX];
	size_t blocks, refused = 0;
	struct bench b;

	(void)state;
	bench_make(&b, &c);
	blocks = blocks_of(&b, start);
	check_u64(blocks, 3);
	for (size_t k = 0; k < blocks; k++) {
		for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
			copy_good(&b);
			memcpy(b.copy + start[k] + changes[i].field, &changes[i].value,
			       changes[i].bytes);
			if (memcmp(b.copy, b.bytes, b.len) == 0)
				continue;
			bytes_seal(b.copy, b.len);
			check_refused(&b, b.len, "long record, change", k * ARRAY_LEN(changes) + i);
			refused++;
		}
	}
	check(refused >= 20);
	bench_end(&b);
}

/* ---- Files of earlier versions ---------------------------------------------------------- */

/* tests/data/format-1.kvs: see tests/data/README. No target of any makefile writes it. */
static void test_the_file_of_format_1_loads(void **state)
{
	const char *srcdir = getenv("KVS_SRCDIR");
	char path[PATH_ROOM];
	struct kvs_value v;
	struct kvs *kv = open_default();

	(void)state;
	dir_path(path, srcdir != NULL ? srcdir : ".", "tests/data/format-1.kvs");
	check_ok(kvs_load(kv, path, NULL));
	check_u64(store_len(kv), 204);
	for (uint64_t i = 0; i < 200; i++)
		check_pattern(kv, i, (size_t)(i * 7 % 120), i);
	check_ok(kvs_get_alloc(kv, kvs_bytes(NULL, 0), &v));
	check_u64(v.len, strlen("value of the empty key"));
	check_bytes(v.data, "value of the empty key", v.len);
	kvs_value_free(kv, &v);
	check_pattern(kv, 1000, 140000, 1000);
	check_ok(kvs_get_alloc(kv, kvs_str("expires"), &v));
	check(v.expires_at_ms == INT64_C(7258118400000)); /* the year 2200 */
	check_u64(v.version, 12345);
	kvs_value_free(kv, &v);
	check_status(kvs_exists(kv, kvs_str("expired")), KVS_ERR_NOT_FOUND);
	check_ok(kvs_exists(kv, kvs_str("k\t\n\r\\\x01")));
	check_ok(kvs_free(kv));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_bit_of_4_KiB),
		cmocka_unit_test(test_every_truncation_of_4_KiB),
		cmocka_unit_test(test_bytes_behind_the_end),
		cmocka_unit_test(test_random_damage),
		cmocka_unit_test(test_blocks_lost_doubled_swapped),
		cmocka_unit_test(test_foreign_blocks),
		cmocka_unit_test(test_lengths_that_lie),
		cmocka_unit_test(test_long_records_broken),
		cmocka_unit_test(test_the_file_of_format_1_loads),
	};

	return util_main("test_file_damage", tests, ARRAY_LEN(tests));
}
