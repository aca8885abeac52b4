/* SPDX-License-Identifier: MIT */
/*
 * snapshot.c - the handle: makes the cut, walks, consumes the queue, ends. The protocol is in cut.c.
 *
 * The walk is cut into units, ranges of order keys of one shard, which parts take one after another. A
 * part goes through its unit in short sections; it claims entries, copies them into its buffer (a large value is held
 * by reference, some MiB of them), and returns them outside. Before it takes a unit it takes the whole queue: so what is kept
 * for the snapshot stays little while the parts keep up.
 *
 * States, under lock:   WALKING -- no unit left, no part in one --> CLOSING -- grace period, rest of the
 * queue --> DONE. The part that finds the walk over makes both steps.
 *
 * GP of the end: writers that saw LATE or POST have ended, so nobody touches the queue or the
 * snapshot any more. An entry from the queue was unlinked before it was pushed (INV-C5), so the consumer
 * retires it as its remover would have.
 */
#include "snapshot.h"

#include <pthread.h>

#include "expiry.h"
#include "iter.h"
#include "quota.h"
#include "maintain.h"
#include "options.h"

#ifndef KVS_UNIT_BITS
#define KVS_UNIT_BITS 6u /* a shard's order keys are cut into 64 units; the explorer takes fewer */
#endif
#define UNITS ((uint64_t)1 << KVS_UNIT_BITS)
#define SECTION_ITEMS 128u /* claimed in one section */
#define BUFFER_BYTES ((size_t)192 << 10)
#define HELD_BYTES ((size_t)4 << 20) /* of values held by one section, but for the last of them */
#define ENTRY_BYTES_MAX (KVS_KEY_MAX + KVS__INLINE_MAX)
#define PREFETCH_BUCKETS 16u
#define POST_EVERY                                                                                 \
	64u /* returned entries that a part keeps to itself before it counts them for all */

/* A node of the queue. */
struct owed {
	struct owed *next;
	struct kvs__entry *entry;
};

enum state { WALKING, CLOSING, DONE };

struct kvs_snapshot {
	struct kvs *kv;
	uint32_t id;         /* S (i) */
	int64_t now;         /* the store's clock at the cut, ms (i) */
	int64_t offset;      /* of its wall time then: one for the whole cut (i) */
	uint64_t max_memory; /* bytes (i) */
	pthread_mutex_t lock;
	enum state state;   /* (l) lock */
	uint64_t next_unit; /* (l) lock */
	unsigned in_unit;   /* parts that have one (l) lock */
	unsigned parts;     /* (l) lock */
	uint64_t returned;  /* (l) lock */
	struct owed *spent; /* returned, not to be retired for want of memory (l) lock */
	KVS_LINE_ALIGNED _Atomic(struct owed *) queue; /* (a) */
	kvs__u32 failed;                               /* 0, or the negative of an error (a) */
};

struct kvs_snapshot_part {
	struct kvs_snapshot *snapshot;
	bool has_unit;
	uint64_t shard; /* of the unit */
	uint64_t after; /* order key: done up to here */
	uint64_t last;  /* order key: the unit's last */
	uint64_t returned;
	uint64_t posted;                        /* of these, in the store's count */
	unsigned count;                         /* in items */
	unsigned at;                            /* next in items */
	size_t used;                            /* of buffer */
	size_t held_bytes;                      /* of the values that a section came to hold */
	struct owed *queue;                     /* taken, not yet returned */
	struct owed *current;                   /* returned, not yet retired */
	struct kvs__block *held[SECTION_ITEMS]; /* NULL where the value was copied */
	struct kvs_item items[SECTION_ITEMS];
	unsigned char buffer[];
};

/* ---- writers ---- */

/* Of what it was to keep, @bytes more are not kept. */
static bool fail(struct kvs_snapshot *s, int err, uint64_t bytes)
{
	uint32_t none = 0;

	(void)cas_seq_cst(&s->failed, &none, (uint32_t)-err);
	fetch_sub_seq_cst(&s->kv->snapshots.held, bytes);
	return false;
}

static int failure(struct kvs_snapshot *s)
{
	return -(int)load_seq_cst(&s->failed);
}

static void push(struct kvs_snapshot *s, struct owed *o)
{
	o->next = load_seq_cst(&s->queue);
	while (!cas_seq_cst(&s->queue, &o->next, o))
		;
}

static struct owed *owed_make(struct kvs *kv, struct kvs__slot *slot)
{
	if (kv->pool.arena)
		return kvs__arena_alloc(kv->pool.arena, &slot->heap, sizeof(struct owed));
	return kvs__mem_alloc(&kv->pool.mem, sizeof(struct owed));
}

static void owed_free(struct kvs *kv, struct owed *o)
{
	if (kv->pool.arena)
		kvs__arena_free(kv->pool.arena, o, sizeof(*o));
	else
		kvs__mem_free(&kv->pool.mem, o, sizeof(*o));
}

/* What an entry in the queue keeps: itself and its value, even if that counts with a later entry, and its node. */
static uint64_t owed_bytes(const struct kvs *kv, const struct kvs__entry *e)
{
	uint64_t bytes = kvs__entry_footprint_own(&kv->pool, e);

	bytes += kv->pool.arena ? kvs__arena_block_size(sizeof(struct owed)) : sizeof(struct owed);
	return e->extent & KVS__EXTENT_BLOCK ? bytes + kvs__entry_block_bytes(e) : bytes;
}

bool kvs__hand_over(struct kvs *kv, struct kvs__slot *slot, struct kvs__entry *e)
{
	struct kvs_snapshot *s = load_seq_cst(&kv->cut.running);
	uint64_t bytes = owed_bytes(kv, e);
	struct owed *o;

	if (failure(s))
		return false;
	if (fetch_add_seq_cst(&kv->snapshots.held, bytes) + bytes > s->max_memory)
		return fail(s, KVS_ERR_MEMORY_LIMIT, bytes);
	o = owed_make(kv, slot);
	if (!o)
		return fail(s, KVS_ERR_NO_MEMORY, bytes);
	o->entry = e;
	kvs__note_handed_over(kv, slot, kvs__entry_footprint(&kv->pool, e));
	push(s, o);
	fetch_add_relaxed(&kv->snapshots.handed_over, 1);
	return true;
}

KVS_COLD bool kvs__leave_to_snapshot(struct kvs *kv, struct kvs__slot *slot, struct kvs__view view,
				     struct kvs__entry *e, const struct kvs__entry *successor)
{
	uint32_t s = kvs__era_snapshot(view.era);

	if (!successor && view.mode == KVS__LATE) {
		if (load_seq_cst(&e->stamp) != s + 3) /* as its removal was settled */
			return false;
	} else if (successor && load_seq_cst(&successor->stamp) != s + 2) {
		return false; /* the removal lies before the cut */
	} else if (!kvs__owe(&kv->cut, e, s)) {
		return false;
	}
	return kvs__hand_over(kv, slot, e);
}

/* ---- begin ---- */

static void owed_retire_all(struct kvs_snapshot *s, struct owed *o);
static void spent_free(struct kvs_snapshot *s);

/* The smallest multiple of 4 above the last one; never 0. */
static uint32_t next_id(const struct kvs *kv)
{
	uint32_t id = kvs__era_snapshot(load_seq_cst(&kv->cut.era)) + 4;

	return id ? id : 4;
}

/*
 * One attempt. false: the clock moved on while the cut was made, so that a deadline may lie inside it: some have been told
 * that a key is gone before the cut, and others have seen it after. The attempt ends like a snapshot.
 */
static bool cut(struct kvs *kv, struct kvs_snapshot *s)
{
	bool still;

	s->id = next_id(kv);
	store_seq_cst(&kv->cut.running, s);
	store_seq_cst(&kv->cut.era, s->id);
	store_seq_cst(&kv->cut.mode, KVS__LATE);
	kvs__rcu_wait(&kv->reclaim.worker); /* GP: writes that saw QUIET lie before the cut */
	s->now = kvs__clock_now(&kv->clock);
	s->offset = kvs__clock_offset(&kv->clock);
	store_seq_cst(&kv->cut.era, s->id + 2); /* the cut */
	still = s->now == kvs__clock_now(&kv->clock);
	store_seq_cst(&kv->cut.mode, still ? KVS__POST : KVS__QUIET);
	return still;
}

#define CUT_ATTEMPTS 100u

/* What the writers of a lost attempt have left to it goes the way of all that was removed. */
static int cut_until_still(struct kvs *kv, struct kvs_snapshot *s)
{
	unsigned i;

	for (i = 0; i < CUT_ATTEMPTS; i++) {
		if (cut(kv, s))
			return KVS_OK;
		kvs__rcu_wait(&kv->reclaim.worker); /* GP: writers that saw LATE; INV-C4 */
		owed_retire_all(s, xchg_seq_cst(&s->queue, NULL));
		store_seq_cst(&s->failed, 0);
	}
	spent_free(s);
	store_seq_cst(&kv->cut.running, NULL);
	return KVS_ERR_BUSY; /* a clock that never stands still */
}

static int options_read(const struct kvs_snapshot_options *opts, uint64_t *ret_max_memory)
{
	struct kvs_snapshot_options o = KVS_SNAPSHOT_OPTIONS_INIT;

	if (opts && !kvs__sized_copy(&o, sizeof(o), opts, opts->size))
		return KVS_ERR_INVALID_ARGUMENT;
	*ret_max_memory = o.max_memory ? o.max_memory : KVS_SNAPSHOT_MEMORY_DEFAULT;
	return KVS_OK;
}

/* What is told of the last one ends here. held is 0, but in a fork's child, which has lost what was. */
static void count_anew(struct kvs *kv)
{
	struct kvs__snapshots *n = &kv->snapshots;

	store_seq_cst(&n->held, 0);
	store_relaxed(&n->units_done, 0);
	store_relaxed(&n->returned, 0);
	store_relaxed(&n->units, kv->shards * UNITS);
}

static int begin_held(struct kvs *kv, uint64_t max_memory, struct kvs_snapshot **ret)
{
	struct kvs_snapshot *s;
	int err;

	if (load_seq_cst(&kv->cut.running) || load_seq_cst(&kv->loading))
		return KVS_ERR_BUSY;
	s = kvs__mem_lines(&kv->pool.mem, sizeof(*s));
	if (!s)
		return KVS_ERR_NO_MEMORY;
	s->kv = kv;
	s->max_memory = max_memory;
	(void)pthread_mutex_init(&s->lock, NULL);
	count_anew(kv);
	err = cut_until_still(kv, s);
	if (err) {
		pthread_mutex_destroy(&s->lock);
		kvs__mem_lines_free(&kv->pool.mem, s, sizeof(*s));
		return err;
	}
	fetch_add_relaxed(&kv->snapshots.begun, 1);
	*ret = s;
	return KVS_OK;
}

KVS_API int kvs_snapshot_begin(struct kvs *kv, const struct kvs_snapshot_options *opts,
			       struct kvs_snapshot **ret_snapshot)
{
	uint64_t max_memory;
	int err;

	if (!ret_snapshot || options_read(opts, &max_memory))
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__admin_begin(kv);
	if (err)
		return err;
	err = begin_held(kv, max_memory, ret_snapshot);
	kvs__admin_unlock(kv);
	return err;
}

int64_t kvs__snapshot_made_at(const struct kvs_snapshot *s)
{
	return kvs__clock_wall_by(s->offset, s->now);
}

/* ---- parts ---- */

KVS_API int kvs_snapshot_part_begin(struct kvs_snapshot *s, struct kvs_snapshot_part **ret_part)
{
	struct kvs_snapshot_part *p;

	if (!s || !ret_part)
		return KVS_ERR_INVALID_ARGUMENT;
	p = kvs__mem_alloc(&s->kv->pool.mem, sizeof(*p) + BUFFER_BYTES);
	if (!p)
		return KVS_ERR_NO_MEMORY;
	memset(p, 0, sizeof(*p));
	p->snapshot = s;
	pthread_mutex_lock(&s->lock);
	s->parts++;
	pthread_mutex_unlock(&s->lock);
	*ret_part = p;
	return KVS_OK;
}

/* The entry has gone on: @bytes are not kept any more. */
static void owed_release(struct kvs *kv, struct owed *o, uint64_t bytes)
{
	owed_free(kv, o);
	fetch_sub_seq_cst(&kv->snapshots.held, bytes);
}

/* No batch to retire it by: it waits for the grace period of the snapshot's end. */
static void owed_put_by(struct kvs_snapshot *s, struct owed *o)
{
	pthread_mutex_lock(&s->lock);
	o->next = s->spent;
	s->spent = o;
	pthread_mutex_unlock(&s->lock);
}

/*
 * An entry from the queue is done with: as its remover would have retired it, inside a section, since a
 * fork waits for those that queue batches by a grace period. It stopped being live when it was handed over; it is
 * deferred from here on.
 */
static void owed_retire(struct kvs_snapshot *s, struct owed *o)
{
	struct kvs *kv = s->kv;
	struct kvs__slot *slot = kvs__slot_get(&kv->home);
	uint64_t bytes = owed_bytes(kv, o->entry);
	struct kvs__batch *b = NULL;

	if (kvs__entry_is_timed(o->entry)) {
		fetch_add_relaxed(&kv->snapshots.retired,
				  kvs__entry_footprint(&kv->pool, o->entry));
		kvs__expiry_pass_on(kv, slot, o->entry);
		kvs__maintainer_wake(kv);
		owed_release(kv, o, bytes);
		return;
	}
	kvs__rcu_read_lock();
	if (slot)
		b = kvs__reclaim_reserve(&kv->reclaim, &slot->batch);
	if (b) {
		fetch_add_relaxed(&kv->snapshots.retired, kvs__retire(b, o->entry));
		kvs__reclaim_release(&kv->reclaim, &slot->batch, b);
		kvs__maintainer_wake(kv);
	}
	kvs__rcu_read_unlock();
	if (b)
		owed_release(kv, o, bytes);
	else
		owed_put_by(s, o);
}

static void owed_retire_all(struct kvs_snapshot *s, struct owed *o)
{
	while (o) {
		struct owed *next = o->next;

		owed_retire(s, o);
		o = next;
	}
}

/* At the end: what could not be retired is freed here, after a grace period. */
static void spent_free(struct kvs_snapshot *s)
{
	struct kvs *kv = s->kv;
	struct owed *o = s->spent;

	if (!o)
		return;
	kvs__rcu_wait(&kv->reclaim.worker); /* GP: from the unlinking of what is freed here */
	while (o) {
		struct owed *next = o->next;
		uint64_t bytes = owed_bytes(kv, o->entry);

		kvs__entry_bury_many(&kv->pool, &o->entry, 1, KVS_REMOVED_DELETED);
		owed_release(kv, o, bytes);
		o = next;
	}
}

/* Let statistics see what this part has returned. */
static void part_post(struct kvs_snapshot_part *p)
{
	fetch_add_relaxed(&p->snapshot->kv->snapshots.returned, p->returned - p->posted);
	p->posted = p->returned;
}

/* What was returned last is no longer the caller's. */
static void part_forget(struct kvs_snapshot_part *p)
{
	struct kvs *kv = p->snapshot->kv;

	if (p->current) {
		owed_retire(p->snapshot, p->current);
		p->current = NULL;
	}
	if (p->at && p->held[p->at - 1]) {
		kvs__block_release(&kv->pool, p->held[p->at - 1]);
		p->held[p->at - 1] = NULL;
	}
}

static void part_discard(struct kvs_snapshot_part *p)
{
	unsigned i;

	part_forget(p);
	for (i = p->at; i < p->count; i++)
		if (p->held[i])
			kvs__block_release(&p->snapshot->kv->pool, p->held[i]);
	owed_retire_all(p->snapshot, p->queue);
}

KVS_API void kvs_snapshot_part_end(struct kvs_snapshot_part *p)
{
	struct kvs_snapshot *s;

	if (!p)
		return;
	s = p->snapshot;
	part_post(p);
	part_discard(p);
	pthread_mutex_lock(&s->lock);
	s->parts--;
	s->in_unit -= p->has_unit;
	s->returned += p->returned;
	pthread_mutex_unlock(&s->lock);
	kvs__mem_free(&s->kv->pool.mem, p, sizeof(*p) + BUFFER_BYTES);
}

/* ---- the walk ---- */

/* Does a marked entry's removal lie after the cut? Settled first. */
static bool is_removed_after(struct kvs_snapshot *s, struct kvs__entry *e, uint64_t word)
{
	struct kvs__cut *c = &s->kv->cut;
	struct kvs__entry *successor;

	switch (kvs__word_state(word)) {
	case KVS__ENTRY_REPLACED:
	case KVS__ENTRY_RENEWED:
		successor = kvs__link_entry(word);
		kvs__settle(c, successor);
		return load_seq_cst(&successor->stamp) == s->id + 2;
	case KVS__ENTRY_DELETED_OWED:
		kvs__settle_delete(c, e);
		return false; /* removed before the cut, or its remover has it */
	default:
		return true; /* deleted plainly: by a writer that saw the cut made */
	}
}

/* A key whose deadline had come at the cut's millisecond was gone by then. */
static bool had_expired(const struct kvs_snapshot *s, const struct kvs__entry *e)
{
	return kvs__entry_is_timed(e) && kvs__entry_deadline(e) <= s->now;
}

static bool is_ours(struct kvs_snapshot *s, struct kvs__entry *e, uint64_t word)
{
	if (unlikely(had_expired(s, e)))
		return false;
	if (kvs__word_is_marked(word) && !is_removed_after(s, e, word))
		return false;
	return kvs__take(&s->kv->cut, e, s->id);
}

/* As kvs__value_of, but the wall clock may be set while the walk goes on, and the cut's expiries are of one. */
static void value_of(const struct kvs_snapshot *s, const struct kvs__entry *e,
		     struct kvs_value *ret)
{
	kvs__value_of(s->kv, e, ret);
	ret->expires_at_ms = kvs__clock_wall_by(s->offset, kvs__entry_deadline(e));
}

static const void *copy_in(struct kvs_snapshot_part *p, const void *bytes, size_t len)
{
	void *to = p->buffer + p->used;

	if (len)
		memcpy(to, bytes, len);
	p->used += len;
	return to;
}

static void keep(struct kvs_snapshot_part *p, const struct kvs__entry *e)
{
	struct kvs_item *item = &p->items[p->count];
	size_t key_len = kvs__entry_key_len(e);

	p->held[p->count] = NULL;
	item->key = kvs_bytes(copy_in(p, e->bytes, key_len), key_len);
	value_of(p->snapshot, e, &item->value);
	if (e->extent & KVS__EXTENT_BLOCK) {
		p->held[p->count] = kvs__entry_block(e);
		kvs__block_hold(p->held[p->count]);
		p->held_bytes += item->value.len;
	} else {
		item->value.data = copy_in(p, item->value.data, item->value.len);
	}
	p->count++;
}

/* Fetch what the next buckets begin with, while this one is worked on. */
static void prefetch_bucket(const struct kvs__table *t, uint64_t prefix, unsigned bits)
{
	uint64_t word = prefix >> bits ? 0 : load_relaxed(kvs__head_of(t, prefix, bits));

	if (kvs__filter_of(word)) {
		__builtin_prefetch(kvs__link_entry(word), 1);
		__builtin_prefetch((char *)kvs__link_entry(word) + KVS_LINE);
	}
}

struct step_walk {
	const struct kvs__table *table;
	unsigned bits;
	uint64_t fetched; /* prefix */
	uint64_t link;
	uint64_t after; /* order key: done up to here, if it stops at a head */
	unsigned nodes; /* passed */
};

/* The next entry; NULL: the end of the table, or the section ends at a head. */
static struct kvs__entry *walk_next(struct step_walk *w, uint64_t *ret_word)
{
	struct kvs__entry *e;
	uint64_t bucket;

	for (; kvs__link_to_head(w->link); w->nodes++) {
		if (kvs__link_is_end(w->link) || (w->nodes >= KVS__SECTION_NODES &&
						  kvs__walk_can_stop(w->table, w->link, &w->after)))
			return NULL;
		w->link = kvs__head_word_link(load_seq_cst(kvs__link_head(w->link)));
	}
	w->nodes++;
	e = kvs__link_entry(w->link);
	*ret_word = load_seq_cst(&e->next);
	w->link = *ret_word;
	bucket = e->order >> (64 - w->bits);
	if (w->fetched < bucket)
		w->fetched = bucket;
	for (; w->fetched < bucket + PREFETCH_BUCKETS; w->fetched++)
		prefetch_bucket(w->table, w->fetched, w->bits);
	return e;
}

/* Another entry might not fit, or would make it hold too much: what is held stays in memory while the part is paused. */
static bool is_full(const struct kvs_snapshot_part *p)
{
	return p->count == SECTION_ITEMS || BUFFER_BYTES - p->used < ENTRY_BYTES_MAX ||
	       p->held_bytes >= HELD_BYTES;
}

/*
 * One section of a unit. true: the unit is done.
 *
 * Within a run all entries are walked in one section, so that a position between runs is enough to
 * go on: a run is left only when it ends, whatever the buffer's state, by going back to its start, where what was
 * claimed already will not be claimed again. A section that has passed many nodes ends at the next such position that it
 * has come on to: behind a run, or at a head.
 */
static bool walk_section(struct kvs_snapshot_part *p)
{
	const struct kvs__root *root = load_seq_cst(&p->snapshot->kv->root);
	const struct kvs__table *t = &root->table[p->shard];
	struct kvs__start start = kvs__start_of(t, p->after << 16);
	unsigned bits = kvs__size_bits(load_seq_cst(&t->size));
	struct step_walk w = {
		t,        bits, (p->after << 16) >> (64 - bits), kvs__head_word_link(start.word),
		p->after, 0
	};
	struct kvs__entry *e;
	uint64_t run = 0;
	uint64_t word;

	while ((e = walk_next(&w, &word)) != NULL) {
		uint64_t order_key = kvs__order_key(e->order);

		if (order_key <= p->after)
			continue;
		if (order_key > p->last)
			return true;
		if (is_full(p) || (w.nodes > KVS__SECTION_NODES && order_key != run &&
				   order_key - 1 > p->after)) {
			p->after = order_key - 1;
			return false;
		}
		run = order_key;
		if (is_ours(p->snapshot, e, word))
			keep(p, e);
	}
	if (kvs__link_is_end(w.link))
		return true;
	p->after = w.after;
	return p->after > p->last;
}

static void walk_some(struct kvs_snapshot_part *p)
{
	struct kvs_snapshot *s = p->snapshot;
	bool done;

	p->count = 0;
	p->at = 0;
	p->used = 0;
	p->held_bytes = 0;
	kvs__rcu_read_lock();
	done = walk_section(p);
	kvs__rcu_read_unlock();
	if (!done)
		return;
	pthread_mutex_lock(&s->lock);
	p->has_unit = false;
	s->in_unit--;
	pthread_mutex_unlock(&s->lock);
	fetch_add_relaxed(&s->kv->snapshots.units_done, 1);
}

/* ---- next ---- */

static void unit_take(struct kvs_snapshot_part *p, uint64_t unit)
{
	uint64_t range = (uint64_t)1 << (48 - KVS_UNIT_BITS);
	uint64_t first = unit % UNITS * range;

	p->shard = unit / UNITS;
	p->after = first ? first - 1 : 0; /* an entry's order key is odd, never 0 */
	p->last = first + range - 1;
	p->has_unit = true;
}

enum work { WORK_UNIT, WORK_CLOSE, WORK_NONE };

static enum work work_next(struct kvs_snapshot_part *p)
{
	struct kvs_snapshot *s = p->snapshot;
	enum work work = WORK_NONE;

	pthread_mutex_lock(&s->lock);
	if (s->next_unit < s->kv->shards * UNITS) {
		unit_take(p, s->next_unit++);
		s->in_unit++;
		work = WORK_UNIT;
	} else if (s->state == WALKING && s->in_unit == 0) {
		s->state = CLOSING;
		work = WORK_CLOSE;
	}
	pthread_mutex_unlock(&s->lock);
	return work;
}

/* The walk is over: writers need not care any more. GP: those that saw LATE or POST. Under admin: no fork is near. */
static void quieten(struct kvs_snapshot *s)
{
	store_seq_cst(&s->kv->cut.mode, KVS__QUIET);
	kvs__rcu_wait(&s->kv->reclaim.worker);
	pthread_mutex_lock(&s->lock);
	s->state = DONE;
	pthread_mutex_unlock(&s->lock);
}

/* Drop what heads the queue and had expired at the cut. true: something is left. */
static bool queue_has_some(struct kvs_snapshot_part *p)
{
	while (p->queue && had_expired(p->snapshot, p->queue->entry)) {
		struct owed *o = p->queue;

		p->queue = o->next;
		owed_retire(p->snapshot, o);
	}
	return p->queue != NULL;
}

/* Make something there to be returned. false: nothing is left for this part. */
static bool fill(struct kvs_snapshot_part *p)
{
	while (p->at == p->count && !queue_has_some(p)) {
		p->queue = xchg_seq_cst(&p->snapshot->queue, NULL);
		if (p->queue)
			continue;
		if (!p->has_unit) {
			switch (work_next(p)) {
			case WORK_UNIT:
				break;
			case WORK_CLOSE:
				kvs__admin_lock(p->snapshot->kv);
				quieten(p->snapshot);
				kvs__admin_unlock(p->snapshot->kv);
				continue;
			default:
				return false;
			}
		}
		walk_some(p);
	}
	return true;
}

static void return_owed(struct kvs_snapshot_part *p, struct kvs_item *ret)
{
	const struct kvs__entry *e = p->queue->entry;

	p->current = p->queue;
	p->queue = p->queue->next;
	ret->key = kvs_bytes(e->bytes, kvs__entry_key_len(e));
	value_of(p->snapshot, e, &ret->value);
}

KVS_API int kvs_snapshot_next(struct kvs_snapshot_part *p, struct kvs_item *ret_item)
{
	int err;

	if (!p || !ret_item)
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__waiting_call_refused(p->snapshot->kv);
	if (err)
		return err;
	part_forget(p);
	err = failure(p->snapshot);
	if (err)
		return err;
	if (!fill(p)) {
		part_post(p);
		err = failure(p->snapshot);
		return err ? err : KVS_ERR_NOT_FOUND;
	}
	if (queue_has_some(p))
		return_owed(p, ret_item);
	else
		*ret_item = p->items[p->at++];
	if (++p->returned % POST_EVERY == 0)
		part_post(p);
	return KVS_OK;
}

/* ---- end ---- */

static bool has_parts(struct kvs_snapshot *s)
{
	bool any;

	pthread_mutex_lock(&s->lock);
	any = s->parts != 0;
	pthread_mutex_unlock(&s->lock);
	return any;
}

KVS_API int kvs_snapshot_end(struct kvs_snapshot *s, uint64_t *ret_count)
{
	struct kvs *kv;
	int err;

	if (!s)
		return KVS_ERR_INVALID_ARGUMENT;
	kv = s->kv;
	err = kvs__waiting_call_refused(kv);
	if (err)
		return err;
	if (has_parts(s))
		return KVS_ERR_BUSY;
	kvs__admin_lock(kv);
	if (s->state != DONE)
		quieten(s);
	owed_retire_all(s, xchg_seq_cst(&s->queue, NULL));
	spent_free(s);
	store_seq_cst(&kv->cut.running, NULL);
	kvs__admin_unlock(kv);
	err = failure(s);
	if (ret_count)
		*ret_count = s->returned;
	pthread_mutex_destroy(&s->lock);
	kvs__mem_lines_free(&kv->pool.mem, s, sizeof(*s));
	return err;
}
