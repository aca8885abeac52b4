/* SPDX-License-Identifier: MIT */
/*
 * test_oom.c - every allocation fails once, and from there on: no abort, no leak, the state is
 * that before the call or that after it, and a retry succeeds.
 *
 * A script of 2,000 operations uses every public function. For each n it is run twice: with its
 * n-th allocation failing, and with all from the n-th on, until a call has been refused. A model
 * says what the store must hold. The runs are divided among processes, since most of their time
 * is waiting.
 *
 * Each process notes from where in the sources the allocation that failed was asked for; in the
 * end the set must be that of all calls of the allocator (kvs__mem_*) in src/, as grep finds
 * them. A second part does the same to what the arena maps, for stores without a user's
 * allocator.
 */
#include "configs.h"
#include "memfs.h"

#include <execinfo.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format.h"
#include "store.h"

#define KEYS 220u
#define OPERATIONS 2000u
#define PROCESSES 12u
#define SITES 64u   /* calls of the allocator in src/ */
#define STACKS 512u /* ways to them */
#define FRAMES 12
#define LARGE 5000u /* bytes: a block of its own */

/* Bytes encoded; the last is a long record in a file. */
static const size_t object_sizes[] = { 10, 3000, KVS__BLOCK_MAX + 1 };

/* ---- What the processes share ----------------------------------------------------------- */

struct site {
	void *frames[FRAMES];
	int count;
};

static struct shared {
	_Atomic uint64_t runs, failed, refused, retried, most;
	_Atomic uint64_t calls[32]; /* of the public functions, by their place in the script */
	pthread_mutex_t lock;
	struct site sites[STACKS];
	size_t site_count;
} * shared;

/* ---- The allocator ---------------------------------------------------------------------- */

/* The counting allocator, with a note of who was refused. */
struct hooked {
	struct counting mem;
	struct kvs_allocator hooks;
};

static void note_site(void)
{
	struct site s = { .count = 0 };

	s.count = backtrace(s.frames, FRAMES);
	pthread_mutex_lock(&shared->lock);
	for (size_t i = 0; i < shared->site_count; i++)
		if (memcmp(&shared->sites[i].frames[1], &s.frames[1], 5 * sizeof(void *)) == 0)
			goto out;
	if (shared->site_count < STACKS)
		shared->sites[shared->site_count++] = s;
out:
	pthread_mutex_unlock(&shared->lock);
}

static void *hook_alloc(void *ctx, size_t size)
{
	struct hooked *h = ctx;
	void *p = h->mem.hooks.alloc(&h->mem, size);

	if (p == NULL)
		note_site();
	return p;
}

static void *hook_zalloc(void *ctx, size_t size)
{
	struct hooked *h = ctx;
	void *p = h->mem.hooks.zalloc(&h->mem, size);

	if (p == NULL)
		note_site();
	return p;
}

static void hook_free(void *ctx, void *ptr, size_t size)
{
	struct hooked *h = ctx;

	h->mem.hooks.free(&h->mem, ptr, size);
}

/* ---- One run ---------------------------------------------------------------------------- */

struct run {
	struct hooked memory;
	struct kvs *kv;
	struct rng rng;
	bool from_on; /* fail from the n-th on, until a call was refused twice */
	uint64_t failures_before;
	uint64_t tag[KEYS]; /* the model: what key k holds; 0: nothing */
	uint64_t version[KEYS];
	uint64_t next_tag;
	unsigned char value[LARGE];
};

static size_t len_of(uint64_t tag)
{
	return tag % 64 == 0 ? LARGE : tag % 50;
}

static struct kvs_slice value_make(struct run *r, uint64_t tag)
{
	pattern_fill(r->value, len_of(tag), tag);
	return kvs_bytes(r->value, len_of(tag));
}

static void check_value(const struct kvs_value *v, uint64_t tag)
{
	check_u64(v->len, len_of(tag));
	check(pattern_matches(v->data, v->len, tag));
}

/* The store holds what the model says; reads need no memory. */
static void check_model(struct run *r)
{
	unsigned char buf[LARGE];
	char room[KEY_ROOM];
	uint64_t keys = 0;

	for (uint64_t k = 0; k < KEYS; k++) {
		struct kvs_value v;
		int err = kvs_get(r->kv, make_key(room, k), buf, sizeof(buf), &v);

		check_status(err, r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND);
		if (!err)
			check_value(&v, r->tag[k]);
		keys += r->tag[k] != 0;
	}
	check_u64(store_len(r->kv), keys);
}

/* After every call: true: it was refused for want of memory, and nothing changed. */
static bool refused(struct run *r, int err)
{
	uint64_t failures = atomic_load(&r->memory.mem.failures);

	if (err != KVS_ERR_NO_MEMORY)
		return false;
	check(failures > r->failures_before);
	r->failures_before = failures;
	if (r->kv != NULL)
		check_model(r);
	atomic_fetch_add(&shared->refused, 1);
	return true;
}

/* Make a call; if it was refused, again, with memory there again. */
#define RETRIED(err, call)                                                                         \
	do {                                                                                       \
		(err) = (call);                                                                    \
		if (!refused(r, (err)))                                                            \
			break;                                                                     \
		if (r->from_on)                                                                    \
			check(refused(r, (call)));                                                 \
		counting_fail_never(&r->memory.mem);                                               \
		(err) = (call);                                                                    \
		check((err) != KVS_ERR_NO_MEMORY);                                                 \
		atomic_fetch_add(&shared->retried, 1);                                             \
	} while (0)

/* ---- The script: writes ----------------------------------------------------------------- */

static void wrote(struct run *r, uint64_t k, uint64_t tag, uint64_t version)
{
	r->tag[k] = tag;
	r->version[k] = version;
}

static void op_set(struct run *r, uint64_t k, struct kvs_slice key)
{
	uint64_t tag = r->next_tag++, version = 0;
	int err;

	RETRIED(err, kvs_set(r->kv, key, value_make(r, tag), &version));
	check_ok(err);
	wrote(r, k, tag, version);
}

static void op_add(struct run *r, uint64_t k, struct kvs_slice key)
{
	uint64_t tag = r->next_tag++, version = 0;
	int err;

	RETRIED(err, kvs_add(r->kv, key, value_make(r, tag), &version));
	check_status(err, r->tag[k] ? KVS_ERR_DUPLICATE : KVS_OK);
	if (!err)
		wrote(r, k, tag, version);
}

static void op_replace(struct run *r, uint64_t k, struct kvs_slice key)
{
	uint64_t tag = r->next_tag++, version = 0;
	int err;

	RETRIED(err, kvs_replace(r->kv, key, value_make(r, tag), &version));
	check_status(err, r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (!err)
		wrote(r, k, tag, version);
}

static void op_compare_and_set(struct run *r, uint64_t k, struct kvs_slice key)
{
	uint64_t tag = r->next_tag++, version = 0;
	int err;

	RETRIED(err, kvs_compare_and_set(r->kv, key, value_make(r, tag), r->version[k], &version));
	check_status(err, r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (!err)
		wrote(r, k, tag, version);
}

#define HOUR INT64_C(3600000) /* longer than any run */

static void op_set_ex(struct run *r, uint64_t k, struct kvs_slice key)
{
	uint64_t tag = r->next_tag++, version = 0;
	int err;

	RETRIED(err, kvs_set_ex(r->kv, key, value_make(r, tag), kvs_after(HOUR), &version));
	check_ok(err);
	wrote(r, k, tag, version);
}

static void op_expire(struct run *r, uint64_t k, struct kvs_slice key)
{
	uint64_t version = 0;
	int err;

	RETRIED(err, kvs_expire(r->kv, key, k % 4 ? HOUR : 0, &version));
	check_status(err, r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (!err)
		r->version[k] = version;
	RETRIED(err, kvs_touch(r->kv, key, k % 8 ? 2 * HOUR : 1, &version));
	check_status(err, r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (!err)
		r->version[k] = version;
}

static void op_get_and_set(struct run *r, uint64_t k, struct kvs_slice key)
{
	uint64_t tag = r->next_tag++, version = 0;
	struct kvs_value old;
	int err;

	RETRIED(err, kvs_get_and_set(r->kv, key, value_make(r, tag), &old, &version));
	check_ok(err);
	check_u64(old.version, r->tag[k] ? r->version[k] : 0);
	if (r->tag[k])
		check_value(&old, r->tag[k]);
	kvs_value_free(r->kv, &old);
	wrote(r, k, tag, version);
}

static void op_get_and_delete(struct run *r, uint64_t k, struct kvs_slice key)
{
	struct kvs_value old;
	int err;

	RETRIED(err, kvs_get_and_delete(r->kv, key, &old));
	check_status(err, r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (err)
		return;
	check_value(&old, r->tag[k]);
	kvs_value_free(r->kv, &old);
	r->tag[k] = 0;
}

static void op_delete(struct run *r, uint64_t k, struct kvs_slice key)
{
	int err;

	RETRIED(err, kvs_delete(r->kv, key, NULL));
	check_status(err, r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND);
	r->tag[k] = 0;
}

/* ---- The script: reads ------------------------------------------------------------------ */

static void op_get_alloc(struct run *r, uint64_t k, struct kvs_slice key)
{
	struct kvs_value v;
	int err;

	RETRIED(err, kvs_get_alloc(r->kv, key, &v));
	check_status(err, r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND);
	if (err)
		return;
	check_value(&v, r->tag[k]);
	kvs_value_free(r->kv, &v);
}

static void op_read(struct run *r, uint64_t k, struct kvs_slice key)
{
	struct kvs_value v;
	int want = r->tag[k] ? KVS_OK : KVS_ERR_NOT_FOUND;

	kvs_read_begin(r->kv);
	check_status(kvs_borrow(r->kv, key, &v), want);
	if (!want)
		check_value(&v, r->tag[k]);
	kvs_read_end(r->kv);
	check_status(kvs_exists(r->kv, key), want);
}

static int count_item(const struct kvs_item *item, void *arg)
{
	(void)key_number(item->key);
	++*(uint64_t *)arg;
	return 0;
}

static void op_walk(struct run *r, uint64_t k, struct kvs_slice key)
{
	uint64_t cursor = 0, walked = 0, scanned = 0;
	struct kvs_item items[32];
	struct kvs_slice *keys;
	size_t count;
	int err;

	(void)k;
	(void)key;
	check_ok(kvs_foreach(r->kv, count_item, &walked));
	do {
		kvs_read_begin(r->kv);
		check_ok(kvs_scan(r->kv, &cursor, items, ARRAY_LEN(items), &count));
		kvs_read_end(r->kv);
		scanned += count;
	} while (cursor != 0);
	RETRIED(err, kvs_keys(r->kv, &keys, &count));
	check_ok(err);
	kvs_keys_free(r->kv, keys);
	check_u64(walked, store_len(r->kv));
	check_u64(scanned, walked);
	check_u64(count, walked);
	check_u64(store_stats(r->kv).keys, walked);
}

/* ---- The script: the store as a whole --------------------------------------------------- */

static void op_clear(struct run *r, uint64_t k, struct kvs_slice key)
{
	int err;

	(void)k;
	(void)key;
	RETRIED(err, kvs_clear(r->kv));
	check_ok(err);
	memset(r->tag, 0, sizeof(r->tag));
}

static void op_drain(struct run *r, uint64_t k, struct kvs_slice key)
{
	int err;

	(void)k;
	(void)key;
	RETRIED(err, kvs_drain(r->kv));
	check_ok(err);
	check_u64(store_stats(r->kv).bytes_deferred, 0);
}

static void *attach(void *arg)
{
	struct run *r = arg;
	int err;

	RETRIED(err, kvs_thread_attach(r->kv));
	check_ok(err);
	return NULL;
}

/* A thread's first call needs memory, and its place is kept for the next. */
static void op_thread(struct run *r, uint64_t k, struct kvs_slice key)
{
	pthread_t thread;

	(void)k;
	(void)key;
	check(pthread_create(&thread, NULL, attach, r) == 0);
	check(pthread_join(thread, NULL) == 0);
}

static void op_fork(struct run *r, uint64_t k, struct kvs_slice key)
{
	pid_t pid;

	(void)k;
	(void)key;
	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid == 0) {
#ifndef KVS_TSAN /* which can start no thread in a child */
		check_ok(kvs_fork_child());
		op_set(r, k, key);
#endif
		check_model(r);
		util_child_done();
	}
	kvs_fork_parent();
	check_child(pid);
}

/*
 * Some entries are overwritten behind the cut. If there is no memory to keep an old one, the write goes
 * on and the snapshot says so.
 */
static void op_snapshot(struct run *r, uint64_t k, struct kvs_slice key)
{
	struct kvs_snapshot *snapshot;
	struct kvs_snapshot_part *part;
	struct kvs_item item;
	uint64_t keys, failures, returned = 0, count = 0;
	char room[KEY_ROOM];
	int err;

	op_set(r, k, key);
	keys = store_len(r->kv);
	RETRIED(err, kvs_snapshot_begin(r->kv, NULL, &snapshot));
	check_ok(err);
	for (int i = 0; i < 4; i++) { /* threads of the store shift what the n-th allocation is */
		RETRIED(err, kvs_snapshot_part_begin(snapshot, &part));
		check_ok(err);
		if (i < 3)
			kvs_snapshot_part_end(part);
	}
	failures = atomic_load(&r->memory.mem.failures);
	for (uint64_t i = 0; i < KEYS; i += 20)
		if (r->tag[i])
			op_set(r, i, make_key(room, i));
	while ((err = kvs_snapshot_next(part, &item)) == KVS_OK)
		returned++;
	if (err == KVS_ERR_NO_MEMORY) {
		check(atomic_load(&r->memory.mem.failures) > failures);
		r->failures_before = atomic_load(&r->memory.mem.failures);
		check_model(r);
		atomic_fetch_add(&shared->refused, 1);
		counting_fail_never(&r->memory.mem);
		atomic_fetch_add(&shared->retried, 1);
	} else {
		check_status(err, KVS_ERR_NOT_FOUND);
		check_u64(returned, keys);
	}
	kvs_snapshot_part_end(part);
	check_status(kvs_snapshot_end(snapshot, &count), err == KVS_ERR_NO_MEMORY ? err : KVS_OK);
	check_u64(count, returned);
}

/* To a file and back. One thread each: a helper that cannot be had is not missed. */
static void op_file(struct run *r, uint64_t k, struct kvs_slice key)
{
	int err;

	op_set(r, k, key);
	RETRIED(err, kvs_save(r->kv, MEMFS_DIR "/oom.kvs", NULL));
	check_ok(err);
	RETRIED(err, kvs_load(r->kv, MEMFS_DIR "/oom.kvs", NULL));
	check_ok(err);
	memfs_log_clear();
}

/* A text that counts for its length. Its own memory does not fail. */
static void *text_clone(const void *object, size_t len, void *ctx)
{
	void *copy = malloc(len);

	(void)ctx;
	check(copy != NULL);
	return memcpy(copy, object, len);
}

static void text_destroy(void *object, size_t len, void *ctx)
{
	(void)len;
	(void)ctx;
	free(object);
}

static size_t text_encode(const void *object, size_t len, void *buf, size_t cap, void *ctx)
{
	(void)ctx;
	if (len <= cap)
		memcpy(buf, object, len);
	return len;
}

static int text_decode(const void *bytes, size_t n, void **ret_object, size_t *ret_len, void *ctx)
{
	*ret_object = text_clone(bytes, n, ctx);
	*ret_len = n;
	return 0;
}

/* A store of objects of its own, to a file and back: small ones, and one that is longer than a block. */
static void op_typed(struct run *r, uint64_t k, struct kvs_slice key)
{
	static const struct kvs_type text = { text_clone, text_destroy, text_encode, text_decode,
					      NULL };
	struct kvs_options opts = KVS_OPTIONS_INIT;
	char room[KEY_ROOM];
	struct kvs_value v;
	struct kvs *kv;
	int err;

	(void)key;
	opts.shards = 1;
	opts.allocator = &r->memory.hooks;
	opts.type = &text;
	RETRIED(err, kvs_open(&opts, &kv));
	check_ok(err);
	for (size_t i = 0; i < ARRAY_LEN(object_sizes); i++) {
		unsigned char *object = malloc(object_sizes[i]);

		check(object != NULL);
		pattern_fill(object, object_sizes[i], k + i);
		RETRIED(err,
			kvs_set(kv, make_key(room, i), kvs_bytes(object, object_sizes[i]), NULL));
		check_ok(err);
		free(object);
	}
	RETRIED(err, kvs_save(kv, MEMFS_DIR "/typed.kvs", NULL));
	check_ok(err);
	RETRIED(err, kvs_load(kv, MEMFS_DIR "/typed.kvs", NULL));
	check_ok(err);
	for (size_t i = 0; i < ARRAY_LEN(object_sizes); i++) {
		RETRIED(err, kvs_get_alloc(kv, make_key(room, i), &v));
		check_ok(err);
		check_u64(v.len, object_sizes[i]);
		check(pattern_matches(v.data, v.len, k + i));
		kvs_value_free(kv, &v);
	}
	check_ok(kvs_free(kv));
	memfs_log_clear();
}

static void op_words(struct run *r, uint64_t k, struct kvs_slice key)
{
	const char *option = NULL;

	(void)r;
	(void)k;
	(void)key;
	check(kvs_strerror(KVS_ERR_NO_MEMORY) != NULL);
	check(strcmp(kvs_errname(KVS_ERR_NO_MEMORY), "NO_MEMORY") == 0);
	check(kvs_version_string() != NULL);
	check_ok(kvs_options_check(NULL, &option));
}

static const struct op {
	void (*fn)(struct run *r, uint64_t k, struct kvs_slice key);
	unsigned weight; /* of 2,000 */
} ops[] = {
	{ op_set, 450 },         { op_add, 200 },
	{ op_set_ex, 150 },      { op_expire, 50 },
	{ op_replace, 150 },     { op_compare_and_set, 150 },
	{ op_get_and_set, 150 }, { op_get_and_delete, 90 },
	{ op_delete, 150 },      { op_get_alloc, 150 },
	{ op_read, 200 },        { op_walk, 6 },
	{ op_words, 92 },        { op_thread, 2 },
	{ op_drain, 2 },         { op_clear, 1 },
	{ op_fork, 1 },          { op_snapshot, 2 },
	{ op_file, 1 },          { op_typed, 1 },
};

/* ---- Running it ------------------------------------------------------------------------- */

static uint8_t script[OPERATIONS]; /* which op comes when */

static void script_make(void)
{
	size_t at = 0;
	struct rng r = { 1 };

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		for (unsigned n = 0; n < ops[i].weight && at < OPERATIONS; n++)
			script[at++] = (uint8_t)i;
	check_u64(at, OPERATIONS - 2); /* open and free are the other two */
	for (size_t i = at - 1; i > 0; i--) {
		size_t j = rng_below(&r, i + 1);
		uint8_t swapped = script[i];

		script[i] = script[j];
		script[j] = swapped;
	}
}

static void script_run(struct run *r)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	char room[KEY_ROOM];
	int err;

	opts.shards = 2;
	opts.allocator = &r->memory.hooks;
	RETRIED(err, kvs_open(&opts, &r->kv));
	check_ok(err);
	for (size_t i = 0; i < OPERATIONS - 2; i++) {
		uint64_t k = rng_below(&r->rng, KEYS);

		ops[script[i]].fn(r, k, make_key(room, k));
		atomic_fetch_add(&shared->calls[script[i]], 1);
	}
	check_model(r);
	check_ok(kvs_free(r->kv));
}

/* Fail the @n-th allocation. false: there were not so many. */
static bool fail_nth(int64_t n, bool from_on)
{
	struct run *r = calloc(1, sizeof(*r));
	bool failed;

	check(r != NULL);
	counting_init(&r->memory.mem, n % 2 == 0);
	r->memory.hooks = (struct kvs_allocator){ hook_alloc, n % 2 == 0 ? hook_zalloc : NULL,
						  hook_free, &r->memory };
	r->rng.state = 1;
	r->next_tag = 1;
	r->from_on = from_on;
	counting_fail(&r->memory.mem, n, from_on);
	script_run(r);
	failed = atomic_load(&r->memory.mem.failures) != 0;
	check_u64(atomic_load(&r->memory.mem.live_blocks), 0);
	check_u64(atomic_load(&r->memory.mem.live_bytes), 0);
	atomic_fetch_add(&shared->failed, failed);
	atomic_fetch_add(&shared->runs, 1);
	if (!failed && atomic_load(&r->memory.mem.calls) > atomic_load(&shared->most))
		atomic_store(&shared->most, atomic_load(&r->memory.mem.calls));
	free(r);
	return failed;
}

static void share(size_t index, int64_t stride)
{
	for (int64_t n = (int64_t)index * stride; fail_nth(n, false); n += PROCESSES * stride)
		(void)fail_nth(n, true);
}

static void shared_make(void)
{
	pthread_mutexattr_t attr;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	check(shared != MAP_FAILED);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->lock, &attr);
	pthread_mutexattr_destroy(&attr);
}

/* ---- Sites ------------------------------------------------------------------------------ */

static const char *source_dir(void)
{
	const char *dir = getenv("KVS_SRCDIR");

	return dir ? dir : ".";
}

/*
 * "file:line" of each call of the allocator in src/, sorted. mem.c is what is called; pages.c hands
 * requests for segments on to it, and keeps books of its own only without a user's allocator.
 */
static size_t sites_in_sources(char names[SITES][64])
{
	char command[1024];
	size_t n = 0;
	FILE *f;

	snprintf(command, sizeof(command),
		 "cd '%s/src' && grep -nE 'kvs__(mem_(alloc|zalloc|lines)|segment_alloc)\\(' *.c |"
		 " grep -vE '^(mem|pages)\\.c:' | cut -d: -f1,2 | sort",
		 source_dir());
	f = popen(command, "r");
	check(f != NULL);
	while (n < SITES && fscanf(f, "%63s", names[n]) == 1)
		n++;
	pclose(f);
	return n;
}

static uintptr_t load_address(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long start = 0;

	check(f != NULL && fscanf(f, "%lx", &start) == 1);
	fclose(f);
	return start;
}

/* Whether a frame is of this program's hooks, of the allocator, or unknown. */
static bool is_allocator(const char *frame)
{
	static const char *const files[] = { "test_oom.c:", "mem.c:", "pages.c:", "?" };

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (strncmp(frame, files[i], strlen(files[i])) == 0)
			return true;
	return false;
}

/* Where a failed allocation was asked for: the first frame in src/ that is not the allocator's. */
static bool site_name(const struct site *s, char name[64])
{
	uintptr_t base = load_address();
	char command[1024], line[512];
	size_t used;
	FILE *f;

	used = (size_t)snprintf(command, sizeof(command), "addr2line -s -i -e /proc/%d/exe",
				(int)getpid());
	for (int i = 1; i < s->count && used + 24 < sizeof(command); i++)
		used += (size_t)snprintf(command + used, sizeof(command) - used, " %#lx",
					 (unsigned long)((uintptr_t)s->frames[i] - base - 1));
	f = popen(command, "r");
	check(f != NULL);
	name[0] = '\0';
	while (name[0] == '\0' && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, " \n")] = '\0';
		if (!is_allocator(line))
			snprintf(name, 64, "%.63s", line);
	}
	while (fgets(line, sizeof(line), f) != NULL)
		;
	pclose(f);
	return name[0] != '\0';
}

static bool is_among(char names[SITES][64], size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void check_sites(void)
{
	static char wanted[SITES][64], failed[SITES][64];
	size_t want = sites_in_sources(wanted), got = 0, missing = 0;
	char name[64];

	check(want > 0 && want < SITES && shared->site_count < STACKS);
	for (size_t i = 0; i < shared->site_count; i++) {
		if (!site_name(&shared->sites[i], name))
			util_fail(__FILE__, __LINE__,
				  "a failed allocation has no place in the sources");
		if (!is_among(wanted, want, name))
			util_fail(__FILE__, __LINE__, "%s is no call of the allocator", name);
		if (!is_among(failed, got, name))
			memcpy(failed[got++], name, sizeof(name));
	}
	for (size_t i = 0; i < want; i++)
		if (!is_among(failed, got, wanted[i])) {
			util_note("never failed: %s", wanted[i]);
			missing++;
		}
	util_note("%zu calls of the allocator in src/, %zu distinct ones failed, from %zu stacks",
		  want, got, shared->site_count);
	check_u64(missing, 0);
}

static void test_every_allocation_fails_in_turn(void **state)
{
	int64_t stride = (int64_t)util_scaled_full(41, 5, 1, 1);
	pid_t pids[PROCESSES];
	void *frames[2];

	(void)state;
	(void)backtrace(frames, 2); /* its own first call allocates */
	shared_make();
	script_make();
#ifdef KVS_TSAN
	(void)pids;
	share(0, stride);
#else
	for (size_t i = 0; i < PROCESSES; i++) {
		pids[i] = util_fork();
		if (pids[i] == 0) {
			share(i, stride);
			util_child_done();
		}
	}
	for (size_t i = 0; i < PROCESSES; i++)
		check_child(pids[i]);
#endif
	util_note("%u operations with %llu allocations; %llu runs, %llu with a failure", OPERATIONS,
		  (unsigned long long)atomic_load(&shared->most),
		  (unsigned long long)atomic_load(&shared->runs),
		  (unsigned long long)atomic_load(&shared->failed));
	util_note("calls refused %llu times, and the state checked; retried with success: %llu",
		  (unsigned long long)atomic_load(&shared->refused),
		  (unsigned long long)atomic_load(&shared->retried));
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		check(atomic_load(&shared->calls[i]) > 0);
	check(atomic_load(&shared->retried) >= atomic_load(&shared->failed) / 2);
	if (stride == 1) {
		check(atomic_load(&shared->failed) >= 2 * (atomic_load(&shared->most) - PROCESSES));
		check_sites();
	}
	munmap(shared, sizeof(*shared));
}

/* ---- The arena's own maps --------------------------------------------------------------- */

struct source {
	_Atomic int64_t fail_in; /* so many maps succeed; negative: all */
	_Atomic bool fail_on;
	_Atomic uint64_t failures;
	_Atomic int64_t balance;
};

static void *source_map(void *ctx, size_t size, size_t align)
{
	struct source *s = ctx;
	int64_t left = atomic_load(&s->fail_in);
	void *p;

	if (left >= 0 && !(left == 0 && atomic_load(&s->fail_on)))
		atomic_fetch_sub(&s->fail_in, 1);
	if (left == 0) {
		atomic_fetch_add(&s->failures, 1);
		return NULL;
	}
	p = kvs__mem_map(size, align);
	if (p != NULL)
		atomic_fetch_add(&s->balance, 1);
	return p;
}

static void source_unmap(void *ctx, void *ptr, size_t size)
{
	struct source *s = ctx;

	atomic_fetch_sub(&s->balance, 1);
	kvs__mem_unmap(ptr, size);
}

#define MAPPED_KEYS 5000u
#define MAPPED_MAX 4000u

static size_t mapped_len(uint64_t k)
{
	return MAPPED_MAX - 30 * (k % 60);
}

/* Set and overwrite; a refused call changes nothing, and works with memory there again. */
static uint64_t use_maps(struct kvs *kv, struct source *s)
{
	unsigned char value[MAPPED_MAX];
	uint64_t refusals = 0;
	char room[KEY_ROOM];

	for (uint64_t i = 0; i < 2 * MAPPED_KEYS; i++) {
		uint64_t k = i % MAPPED_KEYS;
		struct kvs_slice val = kvs_bytes(value, mapped_len(k));
		int err;

		pattern_fill(value, val.len, k);
		err = kvs_set(kv, make_key(room, k), val, NULL);
		if (err == KVS_ERR_NO_MEMORY) {
			refusals++;
			if (i < MAPPED_KEYS)
				check(!key_present(kv, k));
			else
				check_pattern(kv, k, val.len, k);
			atomic_store(&s->fail_in, -1);
			err = kvs_set(kv, make_key(room, k), val, NULL);
		}
		check_ok(err);
	}
	check_u64(store_len(kv), MAPPED_KEYS);
	for (uint64_t k = 0; k < MAPPED_KEYS; k++)
		check_pattern(kv, k, mapped_len(k), k);
	return refusals;
}

/* false: there were not so many maps. */
static bool fail_nth_map(int64_t n, bool from_on, uint64_t *refusals)
{
	struct source s = { .fail_in = n, .fail_on = from_on };
	struct kvs__arena_source source = { source_map, source_unmap, &s };
	struct kvs *kv = open_default();

	pthread_mutex_lock(&kv->admin);     /* the store's thread trims under it */
	kvs__arena_destroy(kv->pool.arena); /* no entry was made yet */
	kv->pool.arena = kvs__arena_create(&source);
	pthread_mutex_unlock(&kv->admin);
	check(kv->pool.arena != NULL);
	*refusals += use_maps(kv, &s);
	close_store(kv);
	check_u64((uint64_t)atomic_load(&s.balance), 0);
	return atomic_load(&s.failures) != 0;
}

static void test_every_map_of_the_arena_fails_in_turn(void **state)
{
	int64_t n = 0, stride = (int64_t)util_scaled(3, 1, 1);
	uint64_t refusals = 0;

	(void)state;
	while (fail_nth_map(n, false, &refusals) && fail_nth_map(n, true, &refusals))
		n += stride;
	util_note("maps failed at %lld places, once and from there on; %llu calls were refused",
		  (long long)(n / stride), (unsigned long long)refusals);
	check(n >= 4 && refusals >= 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_allocation_fails_in_turn),
		cmocka_unit_test(test_every_map_of_the_arena_fails_in_turn),
	};

	memfs_use();
	return util_main("oom", tests, ARRAY_LEN(tests));
}
