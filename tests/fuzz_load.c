/* SPDX-License-Identifier: MIT */
/*
 * fuzz_load.c - any bytes at all, loaded as a snapshot file. scripts/fuzz-loader runs it under libFuzzer,
 * test_file_fuzz runs it over what was kept.
 *
 * The first two bytes of the input say how, the rest is the file:
 *   byte 0   bit 0 the checksums are made right, so that what lies behind them is reached; bit 1 likewise ids and
 *            indices; bit 2 new versions; bits 3, 4 threads; bit 5 a store whose memory limit is low; bit 6 a routing
 *            by the key's first byte, which may lead out of range; bit 7 what was loaded is saved and loaded again
 *   byte 1   0 to 63 nothing; 64 to 127 the n-th system call fails; 128 to 191 it is short; 192 to 255 the n-th
 *            allocation fails
 *
 * FUZZ_SEALED (0 or 1), if set at build time, decides bit 0 for every input.
 */
#include "files.h"

#include <errno.h>
#include <string.h>

#include "memfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER 64u
#define BLOCK 48u

static struct counting memory;
static struct kvs *kv, *limited, *routed;

static int route_by_first(const void *key, size_t len, int shards, void *ctx)
{
	(void)ctx;
	return len && *(const unsigned char *)key == 'x' ? shards : 0;
}

static struct kvs *store_open(uint64_t max_memory, kvs_shard_fn fn)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *ret;

	o.shards = 2;
	o.flags = KVS_OPEN_NO_THREADS; /* its grace periods are quick */
	o.allocator = &memory.hooks;
	o.max_memory = max_memory;
	o.shard_fn = fn;
	o.route = fn != NULL ? KVS_ROUTE_USER : KVS_ROUTE_HASH;
	check_ok(kvs_open(&o, &ret));
	check_ok(kvs_set(ret, kvs_str("own"), kvs_str("stays"), NULL));
	return ret;
}

/* Every byte has come back. (The leak sanitizer cannot be asked meanwhile: links carry more than an address.) */
static void end(void)
{
	check_ok(kvs_free(kv));
	check_ok(kvs_free(limited));
	check_ok(kvs_free(routed));
	check_u64(atomic_load(&memory.live_bytes), 0);
	memfs_leave();
}

static void begin(void)
{
	if (kv != NULL)
		return;
	memfs_use();
	counting_init(&memory, true);
	kv = store_open(0, NULL);
	limited = store_open(1 << 20, NULL);
	routed = store_open(0, route_by_first);
	(void)atexit(end);
}

/* Every block gets the header's id and its own index. */
static void number_blocks(unsigned char *file, size_t len)
{
	uint64_t index = 0;
	size_t at = HEADER;

	if (len < 2 * HEADER)
		return;
	while (len - HEADER - at >= BLOCK && at < len - HEADER) {
		uint32_t n;

		memcpy(&n, file + at + 32, sizeof(n));
		if (n > len - HEADER - at - BLOCK)
			break;
		memcpy(file + at + 8, file + 16, 16);
		memcpy(file + at + 24, &index, sizeof(index));
		index++;
		at += BLOCK + n;
	}
	memcpy(file + len - HEADER + 8, file + 16, 16);
}

static void read_without_store(uint64_t *ret_entries, int *ret_err)
{
	struct kvs_file_error error;
	struct kvs_file *file;
	struct kvs_item item;
	struct kvs_file_info info = { .size = sizeof(info) };
	uint64_t n = 0;
	int err = kvs_file_open(MEMFS_DIR "/fuzz", &error, &file);

	if (err == KVS_OK) {
		check_ok(kvs_file_info(file, &info));
		while ((err = kvs_file_next(file, &item)) == KVS_OK)
			n += item.key.len <= KVS_KEY_MAX && item.value.len <= KVS_VALUE_MAX;
		kvs_file_close(file);
	}
	*ret_entries = n;
	*ret_err = err;
}

static void check_own(struct kvs *store)
{
	char buf[8];
	struct kvs_value v;

	check_u64(store_len(store), 1);
	check_ok(kvs_get(store, kvs_str("own"), buf, sizeof(buf), &v));
	check(v.len == 5 && memcmp(buf, "stays", 5) == 0);
}

static void load_it(struct kvs *store, unsigned how, unsigned fault)
{
	struct kvs_load_options o = KVS_LOAD_OPTIONS_INIT;
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct faults f = { .left = -1 };
	uint64_t entries, bytes;
	int err, read_err;

	o.flags = how & 4 ? KVS_LOAD_NEW_VERSIONS : 0;
	o.threads = 1 + (how >> 3 & 3);
	o.error = &error;
	read_without_store(&entries, &read_err);
	if (fault >= 192)
		counting_fail(&memory, fault - 192, false);
	else if (fault >= 64)
		f = (struct faults){ .left = fault % 64, .error = fault < 128 ? EIO : 0 };
	bytes = atomic_load(&memory.live_bytes);
	faults_use(&f);
	err = kvs_load(store, MEMFS_DIR "/fuzz", &o);
	faults_leave();
	counting_fail_never(&memory);
	if (err != KVS_OK) {
		check(err == KVS_ERR_NO_MEMORY || (error.code == err && error.cause != NULL));
		check_own(store);
		if (o.threads == 1) /* others leave a slot behind, to be used again */
			check_u64(atomic_load(&memory.live_bytes), bytes);
		return;
	}
	/* what loads can also be read, and there are no more keys than entries */
	check_status(read_err, KVS_ERR_NOT_FOUND);
	check(store_len(store) <= entries);
	if (how & 128) {
		entries = store_len(store);
		check_ok(kvs_save(store, MEMFS_DIR "/again", NULL));
		check_ok(kvs_load(store, MEMFS_DIR "/again", NULL));
		check(store_len(store) <= entries); /* some may have expired meanwhile */
	}
	check_ok(kvs_clear(store));
	check_ok(kvs_set(store, kvs_str("own"), kvs_str("stays"), NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *file;
	unsigned how, fault;

	if (size < 2)
		return 0;
	begin();
	how = data[0];
	fault = data[1];
#ifdef FUZZ_SEALED
	how = (how & ~1u) | FUZZ_SEALED;
#endif
	file = malloc(size);
	check(file != NULL);
	memcpy(file, data + 2, size - 2);
	if (how & 2)
		number_blocks(file, size - 2);
	if (how & 1)
		bytes_seal(file, size - 2);
	memfs_put("fuzz", file, size - 2);
	memfs_log_clear();
	free(file);
	load_it(how & 32 ? limited : how & 64 ? routed : kv, how, fault);
	return 0;
}
