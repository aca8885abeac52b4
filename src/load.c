/* SPDX-License-Identifier: MIT */
/*
 * load.c - a file's contents in place of the store's.
 *
 * What     New tables are built beside the present ones, which go on being read and written, and take their
 *          place by one store of the root pointer, as in kvs_clear. So a reader sees the old contents or the new,
 *          and whatever is wrong with the file is found while nothing but memory of our own has been touched.
 *
 * How      The trailer says how many entries there are; the directories are made for them, and every head is linked
 *          while the tables are empty. Threads take pieces of the file (file.h). Of a group of records each makes the entries and
 *          fetches the heads, then what the heads lead to, and only then puts the entries in: the misses overlap. It is put in as
 *          a write does it (list.h), so that threads need not know of each other; a key that is there already
 *          means that the file has it twice.
 *
 * Versions Before the swap the store's counters are raised above the highest loaded. A write that finds the new tables
 *          loaded the root after the swap, so draws its versions from the raised counters. They must have room to count: so
 *          of a file's versions the upper half, to which no store comes by writing, is not kept, but new ones are drawn from
 *          counters raised to that half. Whatever a store comes to have in it can so be saved and loaded again.
 *
 * Cut      Loaded entries carry the stamp of one written before any later cut. kv->loading keeps snapshots from
 *          beginning meanwhile: a walk would have some parts of its cut in either root. It is not the admin mutex
 *          that does, since a load takes long, and drain, shrink and fork must not wait for it.
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "expiry.h"
#include "file.h"
#include "options.h"
#include "quota.h"
#include "store.h"

#define GROUP 64u
#define COUNTED                                                                                    \
	256u /* entries that a thread puts into a table before it adds them to the table's count */
#define TWO_THREADS_FROM ((uint64_t)16 << 20) /* bytes of the file */
#define VERSION_KEPT_MAX (KVS__FILE_VERSION_MAX >> 1)

struct load {
	struct kvs *kv;
	struct kvs_load_options opts;
	struct kvs__reader reader;
	struct kvs__root *root;
	uint32_t stamp;   /* of a written entry (i) */
	int64_t now;      /* the store's clock at the start, ms (i) */
	int64_t offset;   /* of its wall time then: one for the whole file (i) */
	kvs__u64 taken;   /* bytes of the directories, and of entries so far (s) */
	kvs__u64 seen;    /* entries (s) */
	uint64_t highest; /* version, once all threads are done */
	uint64_t bytes;   /* footprints, likewise */
};

/* An entry on its way into its table. */
struct pending {
	struct kvs__entry *entry;
	struct kvs__table *table;
	uint32_t shard;
	uint64_t offset; /* of its record in the file */
};

/* One thread. */
struct hand {
	struct load *load;
	struct kvs__slot *slot;
	struct kvs__piece piece;
	uint32_t *counts; /* one a shard: put in, not yet in the table's count */
	uint64_t highest;
	uint64_t bytes;
	uint64_t reported; /* of piece.entries, in load->seen */
	uint64_t taken;    /* of bytes, in load->taken */
	unsigned pending;
	struct pending group[GROUP];
	bool is_caller;
	bool raised; /* the store's counters, above all versions that are kept */
	bool runs;
	pthread_t thread;
};

static int fail(struct hand *h, int code, uint64_t offset, const char *cause)
{
	return kvs__reader_fail(&h->load->reader, code, 0, offset, cause);
}

/* ---- into the tables ---- */

/* Entries of a thread become part of the table's count, which may make it grow. */
static void count_in(struct hand *h, uint32_t shard)
{
	struct kvs__table *t = &h->load->root->table[shard];
	uint32_t n = h->counts[shard];
	uint64_t count = fetch_add_seq_cst(&t->count, n) + n;
	uint32_t size = load_seq_cst(&t->size);

	h->counts[shard] = 0;
	if (count > (uint64_t)1 << kvs__size_bits(size))
		kvs__table_grow(t, size);
	(void)kvs__link_heads(t, 2 * n);
}

static int put_in(struct hand *h, const struct pending *p)
{
	struct kvs__wanted w = { p->entry->order, p->entry->bytes };
	struct kvs__place place;

	do {
		kvs__find(p->table, &w, &place);
		if (place.match)
			return fail(h, KVS_ERR_CORRUPTED_SNAPSHOT, p->offset, "a key comes twice");
	} while (!kvs__insert_at(p->table, &place, p->entry));
	if (kvs__entry_is_timed(p->entry))
		kvs__expiry_added(h->slot,
				  p->entry); /* if it is due before the swap it is filed again */
	if (++h->counts[p->shard] == COUNTED)
		count_in(h, p->shard);
	return KVS_OK;
}

static void prefetch_head(const struct pending *p)
{
	unsigned bits = kvs__size_bits(load_relaxed(&p->table->size));

	__builtin_prefetch(kvs__head_of(p->table, p->entry->order >> (64 - bits), bits), 1);
}

static void prefetch_first(const struct pending *p)
{
	unsigned bits = kvs__size_bits(load_relaxed(&p->table->size));
	uint64_t word = load_relaxed(kvs__head_of(p->table, p->entry->order >> (64 - bits), bits));

	if (kvs__filter_of(word))
		__builtin_prefetch(kvs__link_entry(word), 1);
}

/* Put the group in. On an error those that are not in are freed. */
static int group_end(struct hand *h)
{
	int err = KVS_OK;
	unsigned i;

	for (i = 0; i < h->pending; i++)
		prefetch_first(&h->group[i]);
	for (i = 0; i < h->pending; i++) {
		if (!err)
			err = put_in(h, &h->group[i]);
		if (err)
			kvs__entry_free(&h->load->kv->pool, h->group[i].entry);
	}
	h->pending = 0;
	return err;
}

/* ---- from the file ---- */

/* No shard draws a version up to @highest any more. */
static void versions_raise(struct kvs *kv, uint64_t highest)
{
	uint32_t i;

	for (i = 0; i < kv->shards; i++) {
		uint64_t first = highest + 1;
		uint64_t rest = first % kv->shards;
		uint64_t next = load_seq_cst(&kv->versions[i].next);

		/* the first of this shard's: those that leave the same rest as i + 1 */
		first += ((uint64_t)i + 1 + kv->shards - rest) % kv->shards;
		while (next < first && !cas_seq_cst(&kv->versions[i].next, &next, first))
			;
	}
}

static uint64_t version_of(struct hand *h, const struct kvs__record *r, uint32_t shard)
{
	if (h->load->opts.flags & KVS_LOAD_NEW_VERSIONS)
		return kvs__next_version(h->load->kv, shard);
	if (unlikely(r->version > VERSION_KEPT_MAX)) {
		if (!h->raised)
			versions_raise(h->load->kv, VERSION_KEPT_MAX);
		h->raised = true;
		return kvs__next_version(h->load->kv, shard);
	}
	if (r->version > h->highest)
		h->highest = r->version;
	return r->version;
}

/* The rest of a long value goes to where it will be read. */
static int value_fill(struct hand *h, const struct kvs__found *f, const struct kvs__entry *e)
{
	unsigned char *to = kvs__entry_block(e)->bytes;

	memcpy(to, f->value, f->value_here);
	return kvs__piece_read_rest(&h->load->reader, &h->piece, to + f->value_here);
}

/* On the store's clock. */
static int64_t deadline_of(const struct hand *h, const struct kvs__found *f)
{
	if (!f->record.expires_at_ms)
		return KVS__NO_DEADLINE;
	return kvs__clock_deadline_by(h->load->offset, f->record.expires_at_ms);
}

static int make_of_bytes(struct hand *h, const struct kvs__found *f, uint64_t order,
			 struct kvs_slice key, struct kvs__entry **ret)
{
	const struct kvs__pool *pool = &h->load->kv->pool;
	struct kvs_slice value = kvs_bytes(h->piece.rest ? NULL : f->value, f->record.value_len);
	struct kvs__entry *e =
		kvs__entry_make_timed(pool, &h->slot->heap, order, key, value, deadline_of(h, f));
	int err;

	if (!e)
		return fail(h, KVS_ERR_NO_MEMORY, f->offset, "making an entry");
	err = h->piece.rest ? value_fill(h, f, e) : KVS_OK;
	if (err)
		kvs__entry_free(pool, e);
	*ret = e;
	return err;
}

/* In a store of objects: all bytes of the value together, and the object that they are. */
static int decode(struct hand *h, const struct kvs__found *f, void **ret_object, size_t *ret_len)
{
	const struct kvs__pool *pool = &h->load->kv->pool;
	size_t n = f->record.value_len;
	const unsigned char *bytes = f->value;
	unsigned char *whole = NULL;
	int err = KVS_OK;

	if (h->piece.rest) {
		whole = kvs__mem_alloc(&pool->mem, n);
		if (!whole)
			return fail(h, KVS_ERR_NO_MEMORY, f->offset, "making room for a value");
		memcpy(whole, f->value, f->value_here);
		err = kvs__piece_read_rest(&h->load->reader, &h->piece, whole + f->value_here);
		bytes = whole;
	}
	if (!err) {
		err = pool->type.decode(bytes, n, ret_object, ret_len, pool->type.ctx);
		if (err)
			(void)fail(h, err, f->offset, "decoding a value");
	}
	kvs__mem_free(&pool->mem, whole, n);
	return err;
}

/* What decode says that an object counts for must fit an entry, as what a write brings must. */
static int decode_checked(struct hand *h, const struct kvs__found *f, void **ret_object,
			  size_t *ret_len)
{
	const struct kvs_type *type = &h->load->kv->pool.type;
	int err = decode(h, f, ret_object, ret_len);

	if (err || *ret_len <= KVS_VALUE_MAX)
		return err;
	if (*ret_object)
		type->destroy(*ret_object, *ret_len, type->ctx);
	return fail(h, KVS_ERR_VALUE_TOO_LARGE, f->offset, "a decoded object is too large");
}

static int make_of_object(struct hand *h, const struct kvs__found *f, uint64_t order,
			  struct kvs_slice key, struct kvs__entry **ret)
{
	void *object = NULL;
	size_t len = 0;
	int err = decode_checked(h, f, &object, &len);

	if (err)
		return err;
	*ret = kvs__entry_adopt(&h->load->kv->pool, &h->slot->heap, order, key, object, len,
				deadline_of(h, f));
	return *ret ? KVS_OK : fail(h, KVS_ERR_NO_MEMORY, f->offset, "making an entry");
}

static int entry_make(struct hand *h, const struct kvs__found *f, struct pending *ret)
{
	struct load *l = h->load;
	struct kvs_slice key = kvs_bytes(f->key, f->record.key_len);
	struct kvs__target target;
	struct kvs__entry *e = NULL;
	int err = kvs__target_of(l->kv, key, &target);

	if (err)
		return fail(h, err, f->offset, "finding the shard of a key");
	if (kvs__pool_is_typed(&l->kv->pool))
		err = make_of_object(h, f, target.wanted.order, key, &e);
	else
		err = make_of_bytes(h, f, target.wanted.order, key, &e);
	if (err)
		return err;
	store_relaxed(&e->version, version_of(h, &f->record, target.shard) << KVS__VERSION_SHIFT);
	store_relaxed(&e->stamp, l->stamp);
	h->bytes += kvs__entry_footprint(&l->kv->pool, e);
	*ret = (struct pending){ e, &l->root->table[target.shard], target.shard, f->offset };
	return KVS_OK;
}

static int record_take(struct hand *h, const struct kvs__found *f)
{
	struct pending *p = &h->group[h->pending];
	int err;

	if (f->record.expires_at_ms && deadline_of(h, f) <= h->load->now)
		return kvs__piece_read_rest(&h->load->reader, &h->piece,
					    NULL); /* damage counts all the same */
	err = entry_make(h, f, p);
	if (err)
		return err;
	prefetch_head(p);
	return ++h->pending == GROUP ? group_end(h) : KVS_OK;
}

static int piece_take(struct hand *h)
{
	struct kvs__found f;
	int ended = KVS_OK;
	int err;

	while ((err = kvs__piece_next(&h->load->reader, &h->piece, &f)) == KVS_OK) {
		err = record_take(h, &f);
		if (err)
			break;
	}
	ended = group_end(h);
	if (err && err != KVS_ERR_NOT_FOUND)
		return err;
	return ended;
}

/* ---- a thread ---- */

/* The new contents alone must keep within the store's limit; that both are there for a while is not held against them. */
static int limit_check(struct hand *h)
{
	struct load *l = h->load;
	uint64_t before = fetch_add_relaxed(&l->taken, h->bytes - h->taken);
	uint64_t now = before + (h->bytes - h->taken);

	h->taken = h->bytes;
	if (!l->kv->max_memory || now <= l->kv->max_memory)
		return KVS_OK;
	return fail(h, KVS_ERR_MEMORY_LIMIT, h->piece.offset,
		    "the contents are beyond the store's memory limit");
}

static int progress(struct hand *h)
{
	struct load *l = h->load;
	int answer;

	fetch_add_relaxed(&l->seen, h->piece.entries - h->reported);
	h->reported = h->piece.entries;
	if (!h->is_caller || !l->opts.progress)
		return KVS_OK;
	answer = l->opts.progress(load_relaxed(&l->seen), l->reader.trailer.entries,
				  l->opts.progress_arg);
	return answer ? fail(h, answer, 0, "the progress callback ended the load") : KVS_OK;
}

static void hand_work(struct hand *h)
{
	struct load *l = h->load;
	uint32_t i;

	h->slot = kvs__slot_get(&l->kv->home);
	if (!h->slot) {
		if (h->is_caller)
			fail(h, KVS_ERR_NO_MEMORY, 0, "attaching a thread");
		return;
	}
	while (kvs__reader_take(&l->reader, &h->piece) == KVS_OK)
		if (piece_take(h) || limit_check(h) || progress(h))
			break;
	for (i = 0; i < l->kv->shards; i++)
		if (h->counts[i])
			count_in(h, i);
}

static void *hand_thread(void *arg)
{
	hand_work(arg);
	return NULL;
}

static size_t counts_bytes(const struct load *l)
{
	return l->kv->shards * sizeof(uint32_t);
}

static struct hand *hand_make(struct load *l)
{
	const struct kvs__mem *mem = &l->kv->pool.mem;
	struct hand *h = kvs__mem_zalloc(mem, sizeof(*h));

	if (!h)
		return NULL;
	h->load = l;
	h->counts = kvs__mem_zalloc(mem, counts_bytes(l));
	h->piece.buffer = kvs__mem_alloc(mem, KVS__PIECE_BYTES);
	if (h->counts && h->piece.buffer)
		return h;
	kvs__mem_free(mem, h->counts, counts_bytes(l));
	kvs__mem_free(mem, h->piece.buffer, KVS__PIECE_BYTES);
	kvs__mem_free(mem, h, sizeof(*h));
	return NULL;
}

static void hand_end(struct hand *h)
{
	const struct kvs__mem *mem = &h->load->kv->pool.mem;
	struct load *l = h->load;

	if (h->runs)
		kvs__thread_join(h->thread);
	kvs__piece_done(&l->reader, &h->piece);
	l->highest = h->highest > l->highest ? h->highest : l->highest;
	l->bytes += h->bytes;
	kvs__mem_free(mem, h->counts, counts_bytes(l));
	kvs__mem_free(mem, h->piece.buffer, KVS__PIECE_BYTES);
	kvs__mem_free(mem, h, sizeof(*h));
}

static unsigned threads_wanted(const struct load *l)
{
	if (l->opts.threads)
		return l->opts.threads;
	if (l->kv->flags & KVS_OPEN_NO_THREADS)
		return 1;
	return l->reader.end >= TWO_THREADS_FROM && sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1;
}

/* ---- the whole ---- */

static struct kvs__root *tables_make(struct load *l)
{
	struct kvs *kv = l->kv;
	unsigned bits = kvs__bits_for(l->reader.trailer.entries / kv->shards);
	struct kvs__root *root;
	uint32_t i;

	if (bits < kv->bits_min)
		bits = kv->bits_min;
	store_relaxed(&l->taken, ((uint64_t)kv->shards << bits) * sizeof(kvs__head));
	root = kvs__root_make(kv, bits);
	for (i = 0; root && i < kv->shards; i++)
		kvs__table_link_all(&root->table[i], kv->bits_min);
	return root;
}

/* Helpers are welcome, but only the caller is needed. */
static void fill(struct load *l)
{
	struct hand *hand[KVS_FILE_THREADS_MAX];
	unsigned wanted = threads_wanted(l);
	unsigned n = 0;
	unsigned i;

	while (n < wanted && (hand[n] = hand_make(l)) != NULL) {
		if (n)
			hand[n]->runs = kvs__thread_start(&hand[n]->thread, "kvs-load", hand_thread,
							  hand[n]);
		n++;
	}
	if (n == 0) {
		kvs__reader_fail(&l->reader, KVS_ERR_NO_MEMORY, 0, 0, "making buffers");
		return;
	}
	hand[0]->is_caller = true;
	hand_work(hand[0]);
	for (i = 0; i < n; i++)
		hand_end(hand[i]);
}

static int build(struct load *l)
{
	uint64_t entries;
	int err;

	l->root = tables_make(l);
	if (!l->root)
		return kvs__reader_fail(&l->reader, KVS_ERR_NO_MEMORY, 0, 0, "making the tables");
	fill(l);
	err = kvs__reader_finish(&l->reader);
	if (err || !l->opts.progress)
		return err;
	entries = l->reader.trailer.entries;
	err = l->opts.progress(entries, entries, l->opts.progress_arg);
	return err ? kvs__reader_fail(&l->reader, err, 0, 0, "the progress callback ended the load")
		   : KVS_OK;
}

static int begin(struct kvs *kv)
{
	int err = kvs__admin_begin(kv);

	if (err)
		return err;
	if (kvs__pool_is_typed(&kv->pool) && !kv->pool.type.decode)
		err = KVS_ERR_TYPED;
	else if (load_seq_cst(&kv->loading) || load_seq_cst(&kv->cut.running))
		err = KVS_ERR_BUSY;
	else
		store_seq_cst(&kv->loading, 1);
	kvs__admin_unlock(kv);
	return err;
}

/* The new contents take their place, if all is well; the store may have been closed meanwhile. */
static int end(struct load *l, int err)
{
	struct kvs *kv = l->kv;
	struct kvs__slot *slot = kvs__slot_get(&kv->home);

	kvs__admin_lock(kv);
	if (!err && !slot)
		err = KVS_ERR_NO_MEMORY;
	if (!err && !load_seq_cst(&kv->root))
		err = KVS_ERR_STORE_CLOSED;
	if (!err) {
		versions_raise(kv, l->highest);
		kvs__note_added(kv, slot, l->bytes);
		kvs__contents_replace(kv, l->root);
	}
	if (err && l->root)
		kvs__root_discard(kv, l->root);
	store_seq_cst(
		&kv->loading,
		0); /* nobody is about any more who looks for its keys in the contents before */
	kvs__admin_unlock(kv);
	return err;
}

static int load_file(struct load *l, const char *path)
{
	int err = kvs__reader_open(&l->reader, path);

	if (err)
		return err;
	kvs__clock_sync(&l->kv->clock);
	l->now = kvs__clock_now(&l->kv->clock);
	l->offset = kvs__clock_offset(&l->kv->clock);
	l->stamp = load_seq_cst(&l->kv->cut.era);
	err = build(l);
	kvs__reader_close(&l->reader);
	return err;
}

static int options_read(const struct kvs_load_options *opts, struct kvs_load_options *ret)
{
	*ret = (struct kvs_load_options)KVS_LOAD_OPTIONS_INIT;
	if (opts && !kvs__sized_copy(ret, sizeof(*ret), opts, opts->size))
		return KVS_ERR_INVALID_ARGUMENT;
	if (ret->flags & ~KVS_LOAD_NEW_VERSIONS || ret->threads > KVS_FILE_THREADS_MAX)
		return KVS_ERR_INVALID_ARGUMENT;
	return KVS_OK;
}

static int load(struct load *l, const char *path)
{
	int err = load_file(l, path);

	if (err && l->opts.error)
		*l->opts.error = l->reader.error;
	return end(l, err);
}

KVS_API int kvs_load(struct kvs *kv, const char *path, const struct kvs_load_options *opts)
{
	struct kvs_load_options o;
	struct load *l;
	int err = path ? options_read(opts, &o) : KVS_ERR_INVALID_ARGUMENT;

	if (!err)
		err = begin(kv);
	if (err)
		return err;
	l = kvs__mem_zalloc(&kv->pool.mem, sizeof(*l));
	if (!l) {
		kvs__admin_lock(kv);
		store_seq_cst(&kv->loading, 0);
		kvs__admin_unlock(kv);
		return KVS_ERR_NO_MEMORY;
	}
	l->kv = kv;
	l->opts = o;
	err = load(l, path);
	kvs__mem_free(&kv->pool.mem, l, sizeof(*l));
	return err;
}
