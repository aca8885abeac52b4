/* SPDX-License-Identifier: MIT */
/*
 * stats.c - sums over threads' slots and shards' tables, and a sample of chains.
 *
 * Nothing is counted on the read path but in the thread's own slot. Sums are of counters that
 * go on moving: exact at rest.
 */
#include "maintain.h"
#include "options.h"
#include "store.h"

#define SAMPLE_CHAINS 16384u
#define SAMPLE_PIECE 256u /* chains walked in one read section */
#define SAMPLE_LENGTHS 256u

struct sample {
	uint32_t chains_of[SAMPLE_LENGTHS]; /* how many chains had that length; the last: or more */
	uint64_t chains;
	uint64_t nodes;
	uint64_t max;
};

/* Entries of bucket @prefix, marked ones not counted. */
static uint64_t chain_length(const struct kvs__table *t, uint64_t prefix, unsigned bits)
{
	uint64_t order = prefix << (64 - bits);
	struct kvs__start s = kvs__start_of(t, order);
	uint64_t link = kvs__head_word_link(s.word);
	uint64_t n = 0;

	while (!kvs__link_is_end(link)) {
		const struct kvs__entry *e;

		if (kvs__link_to_head(link)) {
			if (kvs__head_order(t, kvs__link_head(link)) >> (64 - bits) > prefix)
				break;
			link = kvs__head_word_link(load_seq_cst(kvs__link_head(link)));
			continue;
		}
		e = kvs__link_entry(link);
		if (e->order >> (64 - bits) > prefix)
			break;
		link = load_seq_cst(&e->next);
		n += !kvs__word_is_marked(link) && e->order > order;
	}
	return n;
}

static void sample_add(struct sample *s, uint64_t length)
{
	s->chains_of[length < SAMPLE_LENGTHS ? length : SAMPLE_LENGTHS - 1]++;
	s->chains++;
	s->nodes += length;
	if (length > s->max)
		s->max = length;
}

static bool sample_piece(struct kvs *kv, uint64_t shard, uint64_t first, uint64_t wanted,
			 struct sample *s)
{
	const struct kvs__root *root;
	uint64_t i;

	kvs__rcu_read_lock();
	root = load_seq_cst(&kv->root);
	for (i = first; root && i < first + SAMPLE_PIECE && i < wanted; i++) {
		const struct kvs__table *t = &root->table[shard];
		unsigned bits = kvs__size_bits(load_seq_cst(&t->size));
		uint64_t step = ((uint64_t)1 << bits) / wanted;

		sample_add(s, chain_length(t, step ? i * step : i & (((uint64_t)1 << bits) - 1),
					   bits));
	}
	kvs__rcu_read_unlock();
	return root != NULL;
}

static uint64_t chains_wanted(const struct kvs *kv, uint64_t shard)
{
	const struct kvs__root *root;
	uint64_t share = SAMPLE_CHAINS / kv->shards ? SAMPLE_CHAINS / kv->shards : 1;
	uint64_t buckets = 0;

	kvs__rcu_read_lock();
	root = load_seq_cst(&kv->root);
	if (root)
		buckets = kvs__table_buckets(&root->table[shard]);
	kvs__rcu_read_unlock();
	return buckets < share ? buckets : share;
}

static bool sample_store(struct kvs *kv, struct sample *s)
{
	uint64_t shard;

	for (shard = 0; shard < kv->shards; shard++) {
		uint64_t wanted = chains_wanted(kv, shard);
		uint64_t first;

		for (first = 0; first < wanted; first += SAMPLE_PIECE)
			if (!sample_piece(kv, shard, first, wanted, s))
				return false;
	}
	return true;
}

static uint64_t percentile(const struct sample *s, uint64_t percent)
{
	uint64_t rank = (s->chains * percent + 99) / 100;
	uint64_t seen = 0;
	uint64_t length;

	for (length = 0; length < SAMPLE_LENGTHS - 1; length++) {
		seen += s->chains_of[length];
		if (seen >= rank)
			break;
	}
	return length;
}

/* Counters are read one after another while they move: never show less than nothing. */
static uint64_t difference(uint64_t more, uint64_t less)
{
	return (int64_t)(more - less) > 0 ? more - less : 0;
}

static void fill_chains(const struct sample *s, struct kvs_stats *out)
{
	out->chain_p50 = percentile(s, 50);
	out->chain_p99 = percentile(s, 99);
	out->chain_max = s->max;
	out->chain_mean_milli = s->chains ? s->nodes * 1000 / s->chains : 0;
}

static void fill_threads(struct kvs *kv, struct kvs_stats *out)
{
	const struct kvs__slot *s;
	uint64_t added = 0;
	uint64_t retired = 0;
	uint64_t handed = 0;

	for (s = load_acquire(&kv->home.slots); s; s = s->next) {
		out->hits += load_relaxed(&s->hits);
		out->misses += load_relaxed(&s->misses);
		out->inserts += load_relaxed(&s->inserts);
		out->overwrites += load_relaxed(&s->overwrites);
		out->deletes += load_relaxed(&s->deletes);
		out->limited += load_relaxed(&s->limited);
		out->expirations += load_relaxed(&s->expirations);
		added += load_relaxed(&s->added_bytes);
		retired += load_relaxed(&s->retired_bytes);
		handed += load_relaxed(&s->handed_bytes);
	}
	out->pins = kvs__pins_out(kv);
	out->bytes_pinned = load_relaxed(&kv->pinned_bytes);
	out->reader_settles = load_relaxed(&kv->reader_settles);
	out->helped = load_relaxed(&kv->reclaim.helped_batches);
	out->stalls = load_relaxed(&kv->stalls);
	out->deferred_age_ms = kvs__reclaim_age(&kv->reclaim, kvs__maintain_now_ms(kv));
	out->registrations = load_relaxed(&kv->home.registrations);
	out->bytes_deferred = difference(retired + load_relaxed(&kv->snapshots.retired),
					 load_relaxed(&kv->reclaim.freed_bytes));
	out->bytes_live = difference(added, retired + handed + load_relaxed(&kv->cleared_bytes));
}

static void fill_snapshots(struct kvs *kv, struct kvs_stats *out)
{
	struct kvs__snapshots *n = &kv->snapshots;

	out->handed_over = load_relaxed(&n->handed_over);
	out->snapshots = load_relaxed(&n->begun);
	out->snapshot_open = load_seq_cst(&kv->cut.running) != NULL;
	out->snapshot_units = load_relaxed(&n->units);
	out->snapshot_units_done = load_relaxed(&n->units_done);
	out->snapshot_returned = load_relaxed(&n->returned);
	out->snapshot_bytes = difference(load_relaxed(&n->held), 0);
}

static bool fill_tables(struct kvs *kv, struct kvs_stats *out)
{
	const struct kvs__root *root;
	uint64_t i;

	kvs__rcu_read_lock();
	root = load_seq_cst(&kv->root);
	for (i = 0; root && i < root->shards; i++) {
		const struct kvs__table *t = &root->table[i];

		out->keys += load_seq_cst(&t->count);
		out->buckets += kvs__table_buckets(t);
		out->buckets_linked += load_relaxed(&t->linked);
		out->bytes_index += kvs__table_index_bytes(t);
		out->growths += load_relaxed(&t->growths);
		out->shrinks += load_relaxed(&t->shrinks);
		out->growths_failed += load_relaxed(&t->growths_failed);
	}
	kvs__rcu_read_unlock();
	out->keys = difference(out->keys, 0);
	out->growths += load_relaxed(&kv->past_growths);
	out->shrinks += load_relaxed(&kv->past_shrinks);
	out->growths_failed += load_relaxed(&kv->past_growths_failed);
	return root != NULL;
}

/* The greatest lag that @bucket counts. */
static uint64_t lag_of(unsigned bucket)
{
	unsigned at = bucket - 64;

	if (bucket < 64)
		return bucket;
	return ((uint64_t)(8 + at % 8 + 1) << (at / 8 + 3)) - 1;
}

static uint64_t lag_percentile(const struct kvs__expiry *x, uint64_t all, uint64_t percent)
{
	uint64_t rank = (all * percent + 99) / 100;
	uint64_t seen = 0;
	unsigned b;

	for (b = 0; b < KVS__LAGS - 1; b++) {
		seen += load_relaxed(&x->lag[b]);
		if (seen >= rank)
			break;
	}
	return b < KVS__LAGS - 1 ? lag_of(b) : load_relaxed(&x->lag_max);
}

static void fill_expiry(const struct kvs__expiry *x, struct kvs_stats *out)
{
	uint64_t all = 0;
	unsigned b;

	for (b = 0; b < KVS__LAGS; b++)
		all += load_relaxed(&x->lag[b]);
	out->timers = load_relaxed(&x->timers);
	out->expirations_by_write = difference(out->expirations, all);
	out->expiry_lag_max_ms = load_relaxed(&x->lag_max);
	if (all) {
		out->expiry_lag_p50_ms = lag_percentile(x, all, 50);
		out->expiry_lag_p99_ms = lag_percentile(x, all, 99);
	}
}

KVS_API int kvs_stats(struct kvs *kv, struct kvs_stats *stats)
{
	struct kvs_stats out = { .size = sizeof(out) };
	struct sample sample = { .chains = 0 };

	if (!kv || !stats || stats->size < sizeof(stats->size))
		return KVS_ERR_INVALID_ARGUMENT;
	if (!fill_tables(kv, &out) || !sample_store(kv, &sample))
		return KVS_ERR_STORE_CLOSED;
	fill_chains(&sample, &out);
	fill_threads(kv, &out);
	fill_expiry(&kv->expiry, &out);
	fill_snapshots(kv, &out);
	if (kv->pool.arena)
		out.bytes_mapped = kvs__arena_mapped(kv->pool.arena);
	kvs__sized_fill(stats, &out, sizeof(out));
	return KVS_OK;
}
