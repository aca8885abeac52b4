/* SPDX-License-Identifier: MIT */
/*
 * write.c - set, delete and the conditional writes: one engine, the modes differ in what they
 * want to find.
 *
 * A write makes its entry first, outside the section. Inside, each attempt finds the place of the
 * key anew, decides, draws a version after it saw the old entry or its absence, and publishes by
 * one CAS (list.h); if the CAS is lost the attempt is made again. What is retired is put into a
 * batch that was reserved before the mark, so that nothing can fail after it.
 *
 *                 key absent                 key present
 *   SET           insert                     replace
 *   ADD           insert                     DUPLICATE
 *   REPLACE       NOT_FOUND                  replace
 *   COMPARE       NOT_FOUND                  replace if the version is the expected one, else VERSION_MISMATCH
 *   DELETE        NOT_FOUND                  delete
 *   UPDATE        the entry is made inside the section, from what is there: insert, replace, delete, or neither
 *   EXPIRE        NOT_FOUND                  replace by an entry with the same value and another deadline
 *   TOUCH         NOT_FOUND                  the same if the new deadline is later, else nothing
 *
 * An entry whose deadline has passed counts as absent, though it is still in the list: an insert then
 * replaces it.
 *
 * Linearization points of failures: DUPLICATE and VERSION_MISMATCH, the load of the present entry's
 * unmarked link; NOT_FOUND, as a lookup's; a TOUCH that changes nothing, the load of the present entry's link; an
 * UPDATE that changes nothing, as a lookup.
 */
#include "write.h"

#include "expiry.h"
#include "maintain.h"
#include "quota.h"
#include "snapshot.h"

/* ---- key absent ---- */

static void after_insert(struct write *w)
{
	struct kvs__table *t = w->table;
	uint64_t count = fetch_add_seq_cst(&t->count, 1) + 1;
	uint32_t size = load_seq_cst(&t->size);
	uint64_t buckets = (uint64_t)1 << kvs__size_bits(size);

	/* A count that a delete has pulled below zero for a moment is no reason to grow. */
	if (unlikely(count > buckets) && (int64_t)count > 0) {
		if (kvs__live_may_grow(w->kv, w->slot, buckets * sizeof(kvs__head)))
			kvs__table_grow(t, size);
		else
			fetch_add_relaxed(&t->growths_failed, 1);
		kvs__maintainer_wake(w->kv);
	}
	if (count % KVS__LINK_EVERY == 0 && load_seq_cst(&t->link_next) < buckets)
		(void)kvs__link_heads(t, 2 * KVS__LINK_EVERY);
	if (unlikely(kvs__pool_wants_memory(&w->kv->pool)))
		kvs__maintainer_wake(w->kv);
	add_owned(&w->slot->inserts, 1);
}

/* It was published: if it expires, the wheel must know. In the same section. */
KVS_INLINE void published(struct write *w)
{
	if (unlikely(kvs__entry_is_timed(w->fresh))) {
		kvs__expiry_added(w->slot, w->fresh);
		w->sent = true;
	}
}

/* Before every CAS that publishes or marks: the child of a fork finds what a thread that is lost to it was at (fork.c). */
KVS_INLINE void note_place(struct write *w)
{
	store_relaxed(&w->slot->place, kvs__place_of(&w->target));
}

/* The last touches to an entry before it is published. */
KVS_INLINE void dress(struct write *w)
{
	note_place(w);
	store_relaxed(&w->fresh->version, w->version << KVS__VERSION_SHIFT);
	store_relaxed(&w->fresh->stamp, kvs__view_stamp(w->view));
}

/* The entry of an attempt that was lost. */
static void forget_fresh(struct write *w)
{
	if (!w->fresh)
		return;
	kvs__entry_free(&w->kv->pool, w->fresh);
	w->fresh = NULL;
}

/* An UPDATE's entry, from what this attempt found. */
static KVS_NOINLINE int make(struct write *w, const struct kvs__entry *e)
{
	int made;

	forget_fresh(w);
	made = w->make(w, e);
	if (made == MADE_ENTRY)
		w->fresh_bytes = kvs__entry_footprint(&w->kv->pool, w->fresh);
	return made;
}

static int made_nothing(struct write *w, int made, uint64_t version)
{
	w->version = version;
	return made < 0 ? made : KVS_OK;
}

static int on_absent(struct write *w, const struct kvs__place *p)
{
	if (unlikely(w->mode == MODE_UPDATE)) {
		int made = make(w, NULL);

		if (made != MADE_ENTRY)
			return made_nothing(w, made, 0);
	} else if (w->mode != MODE_SET && w->mode != MODE_ADD) {
		return KVS_ERR_NOT_FOUND;
	}
	if (unlikely(!kvs__live_may_grow(w->kv, w->slot, w->fresh_bytes)))
		return KVS_ERR_MEMORY_LIMIT;
	w->version = kvs__next_version(w->kv, w->target.shard);
	dress(w);
	if (!kvs__insert_at(w->table, p, w->fresh))
		return AGAIN;
	published(w);
	if (w->old)
		kvs_value_free(w->kv, w->old); /* of an attempt that was lost to a delete */
	after_insert(w);
	return KVS_OK;
}

/* ---- key present ---- */

/* Room for retiring what this write removes: before the mark, so that nothing can fail after it. */
KVS_INLINE int reserve(struct write *w)
{
	struct kvs__reclaim *r = &w->kv->reclaim;

	if (w->batch)
		return KVS_OK;
	if (unlikely(kvs__reclaim_is_full(r)) && !kvs__reclaim_make_room(r, &w->slot->batch))
		return KVS_ERR_MEMORY_LIMIT;
	w->batch = kvs__reclaim_reserve(r, &w->slot->batch);
	return w->batch ? KVS_OK : KVS_ERR_NO_MEMORY;
}

/*
 * May the fresh entry take the place of @old? Not if it is larger and the store is at its limit. A renewal's
 * counts without the value's block, and others with it, whoever may be renewing @old meanwhile.
 */
KVS_INLINE bool may_replace(const struct write *w, const struct kvs__entry *old)
{
	uint64_t bytes;

	if (likely(!w->kv->max_memory))
		return true;
	bytes = kvs__entry_footprint_own(&w->kv->pool, old);
	if (unlikely(old->extent & KVS__EXTENT_BLOCK) && w->mode < MODE_EXPIRE)
		bytes += kvs__entry_block_bytes(old);
	return w->fresh_bytes <= bytes ||
	       kvs__live_may_grow(w->kv, w->slot, w->fresh_bytes - bytes);
}

KVS_INLINE bool copy_old(struct write *w, const struct kvs__entry *e)
{
	if (!w->old)
		return true;
	kvs_value_free(w->kv, w->old); /* of an attempt that was lost */
	return kvs__value_copy(w->kv, e, w->old);
}

KVS_INLINE void retire(struct write *w, struct kvs__entry *e)
{
	if (unlikely(w->view.mode != KVS__QUIET) &&
	    kvs__leave_to_snapshot(w->kv, w->slot, w->view, e, w->fresh))
		return;
	if (unlikely(kvs__entry_is_timed(e))) {
		kvs__expiry_retired(w->kv, w->slot, e);
		w->sent = true;
		return;
	}
	kvs__note_retired(w->kv, w->slot, kvs__retire(w->batch, e));
}

KVS_INLINE int replace(struct write *w, const struct kvs__place *p)
{
	w->version = kvs__next_version(w->kv, w->target.shard);
	dress(w);
	if (!kvs__replace_at(w->table, p, w->fresh))
		return AGAIN;
	published(w);
	retire(w, p->match);
	add_owned(&w->slot->overwrites, 1);
	return KVS_OK;
}

KVS_INLINE int delete (struct write *w, const struct kvs__place *p)
{
	w->version = kvs__entry_version(p->match);
	note_place(w);
	if (!kvs__delete_at(w->table, p, w->view.mode == KVS__LATE))
		return AGAIN;
	(void)fetch_sub_seq_cst(&w->table->count, 1);
	retire(w, p->match);
	add_owned(&w->slot->deletes, 1);
	return KVS_OK;
}

/*
 * The key's deadline has passed: it is absent. The clock was read after the entry was found, so unless that has
 * been replaced meanwhile the key is gone now; if it has, perhaps in time, look again.
 */
static int on_expired(struct write *w, const struct kvs__place *p)
{
	int answer = KVS_ERR_NOT_FOUND;
	bool writes = w->mode == MODE_SET || w->mode == MODE_ADD;
	int err;

	if (unlikely(w->mode == MODE_UPDATE)) {
		int made = make(w, NULL);

		writes = made == MADE_ENTRY;
		answer = made_nothing(w, made, 0);
	}
	if (!writes)
		return kvs__word_is_marked(load_seq_cst(&p->match->next)) ? AGAIN : answer;
	if (unlikely(!may_replace(w, p->match)))
		return KVS_ERR_MEMORY_LIMIT;
	err = reserve(w);
	if (err)
		return err;
	if (w->old)
		kvs_value_free(w->kv, w->old); /* of an attempt that was lost */
	w->version = kvs__next_version(w->kv, w->target.shard);
	dress(w);
	if (!kvs__replace_at(w->table, p, w->fresh))
		return AGAIN;
	published(w);
	kvs__expiry_mark(p->match);
	retire(w, p->match);
	add_owned(&w->slot->inserts, 1);
	add_owned(&w->slot->expirations, 1);
	return KVS_OK;
}

static bool lives_longer(const struct write *w, const struct kvs__entry *e)
{
	int64_t deadline = kvs__entry_deadline(e);

	if (deadline == KVS__NO_DEADLINE)
		return true;
	return w->deadline != KVS__NO_DEADLINE && deadline >= w->deadline;
}

/* EXPIRE, TOUCH: the deadline of an entry never changes, so another entry takes its place. */
static int renew(struct write *w, const struct kvs__place *p)
{
	int err;

	forget_fresh(w);
	w->version = kvs__entry_version(p->match);
	if (w->mode == MODE_TOUCH && lives_longer(w, p->match))
		return KVS_OK;
	w->fresh = kvs__entry_renew(&w->kv->pool, &w->slot->heap, p->match, w->deadline);
	if (!w->fresh)
		return KVS_ERR_NO_MEMORY;
	w->fresh_bytes = kvs__entry_footprint_own(&w->kv->pool, w->fresh);
	if (unlikely(!may_replace(w, p->match)))
		return KVS_ERR_MEMORY_LIMIT;
	err = reserve(w);
	return err ? err : replace(w, p);
}

#define GO_ON 2 /* internal: w->fresh takes the entry's place, or nothing does */

/* What the modes other than SET make of a key that is present. */
KVS_INLINE int on_mode(struct write *w, const struct kvs__place *p)
{
	uint64_t version = kvs__entry_version(p->match);

	if (unlikely(w->mode >= MODE_EXPIRE))
		return renew(w, p);
	if (w->mode == MODE_ADD || (w->mode == MODE_COMPARE && version != w->expected)) {
		w->version = version;
		return w->mode == MODE_ADD ? KVS_ERR_DUPLICATE : KVS_ERR_VERSION_MISMATCH;
	}
	if (unlikely(w->mode == MODE_UPDATE)) {
		int made = make(w, p->match);

		if (made != MADE_ENTRY && made != MADE_DELETE)
			return made_nothing(w, made, version);
	}
	return GO_ON;
}

KVS_INLINE int on_present(struct write *w, const struct kvs__place *p)
{
	int err;

	if (unlikely(kvs__entry_is_timed(p->match)) &&
	    kvs__entry_has_expired(&w->kv->clock, p->match))
		return on_expired(w, p);
	if (w->mode != MODE_SET) {
		err = on_mode(w, p);
		if (err != GO_ON)
			return err;
	}
	if (w->fresh && unlikely(!may_replace(w, p->match)))
		return KVS_ERR_MEMORY_LIMIT;
	err = reserve(w);
	if (err)
		return err;
	if (!copy_old(w, p->match))
		return KVS_ERR_NO_MEMORY;
	return w->fresh ? replace(w, p) : delete (w, p);
}

/* ---- the engine ---- */

KVS_INLINE int attempt(struct write *w)
{
	struct kvs__place p;

	w->view = kvs__cut_view(&w->kv->cut);
	kvs__find(w->table, &w->target.wanted, &p);
	return p.match ? on_present(w, &p) : on_absent(w, &p);
}

KVS_INLINE int run_in_section(struct write *w)
{
	struct kvs__root *root = load_seq_cst(&w->kv->root);
	int err;

	if (!root)
		return KVS_ERR_STORE_CLOSED;
	w->table = &root->table[w->target.shard];
	do
		err = attempt(w);
	while (err == AGAIN);
	return err;
}

/*
 * The batch goes back inside the section: close waits for sections, and only then takes over what
 * lies in the slots and ends the threads.
 */
KVS_INLINE int run(struct write *w)
{
	int err;

	kvs__rcu_read_lock();
	err = run_in_section(w);
	if (w->batch) {
		kvs__reclaim_release(&w->kv->reclaim, &w->slot->batch, w->batch);
		kvs__maintainer_wake(w->kv);
	}
	if (unlikely(w->sent)) {
		kvs__maintainer_wake(w->kv);
		kvs__expiry_help(w->kv, w->slot);
	}
	if (w->fresh && !err)
		kvs__note_added(w->kv, w->slot, w->fresh_bytes);
	if (unlikely(err == KVS_ERR_MEMORY_LIMIT))
		add_owned(&w->slot->limited, 1);
	kvs__rcu_read_unlock();
	if (w->fresh && err)
		kvs__entry_free(&w->kv->pool, w->fresh);
	if (err && w->old)
		kvs_value_free(w->kv, w->old);
	return err;
}

int kvs__write_run(struct write *w)
{
	return run(w);
}

KVS_INLINE int prepare(struct write *w, struct kvs_slice key, const struct kvs_slice *val)
{
	int err;

	if (!w->kv || (val && !val->data && val->len))
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__target_of(w->kv, key, &w->target);
	if (err)
		return err;
	if (val && val->len > KVS_VALUE_MAX)
		return KVS_ERR_VALUE_TOO_LARGE;
	if (val && !val->data && kvs__pool_is_typed(&w->kv->pool))
		return KVS_ERR_INVALID_ARGUMENT;
	w->slot = kvs__slot_get(&w->kv->home);
	if (!w->slot)
		return KVS_ERR_NO_MEMORY;
	if (unlikely(w->slot->in_update))
		return KVS_ERR_BUSY;
	if (!val)
		return KVS_OK;
	w->fresh = kvs__entry_make_timed(&w->kv->pool, &w->slot->heap, w->target.wanted.order, key,
					 *val, w->deadline);
	if (!w->fresh)
		return KVS_ERR_NO_MEMORY;
	w->fresh_bytes = kvs__entry_footprint(&w->kv->pool, w->fresh);
	return KVS_OK;
}

int kvs__write_prepare(struct write *w, struct kvs_slice key, const struct kvs_slice *val)
{
	return prepare(w, key, val);
}

static KVS_NOINLINE int write_key(struct write *w, struct kvs_slice key,
				  const struct kvs_slice *val, uint64_t *ret_version)
{
	int err = prepare(w, key, val);

	if (likely(!err))
		err = run(w);
	if (ret_version && (!err || err == KVS_ERR_DUPLICATE || err == KVS_ERR_VERSION_MISMATCH))
		*ret_version = w->version;
	return err;
}

KVS_API int kvs_set(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
		    uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_SET };

	return write_key(&w, key, &val, ret_version);
}

KVS_API int kvs_add(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
		    uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_ADD };

	return write_key(&w, key, &val, ret_version);
}

KVS_API int kvs_replace(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
			uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_REPLACE };

	return write_key(&w, key, &val, ret_version);
}

KVS_API int kvs_compare_and_set(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
				uint64_t expected, uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_COMPARE, .expected = expected };

	return write_key(&w, key, &val, ret_version);
}

KVS_API int kvs_delete(struct kvs *kv, struct kvs_slice key, uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_DELETE };

	return write_key(&w, key, NULL, ret_version);
}

KVS_API int kvs_get_and_set(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
			    struct kvs_value *ret_old, uint64_t *ret_version)
{
	struct kvs_value old = { NULL, 0, 0, 0 };
	struct write w = { .kv = kv, .mode = MODE_SET, .old = &old };
	int err;

	if (!ret_old)
		return KVS_ERR_INVALID_ARGUMENT;
	err = write_key(&w, key, &val, ret_version);
	if (!err)
		*ret_old = old;
	return err;
}

KVS_API int kvs_get_and_delete(struct kvs *kv, struct kvs_slice key, struct kvs_value *ret_old)
{
	struct kvs_value old = { NULL, 0, 0, 0 };
	struct write w = { .kv = kv, .mode = MODE_DELETE, .old = &old };
	int err;

	if (!ret_old)
		return KVS_ERR_INVALID_ARGUMENT;
	err = write_key(&w, key, NULL, NULL);
	if (!err)
		*ret_old = old;
	return err;
}

/* ---- with a deadline ---- */

static int write_ex(struct write *w, struct kvs_slice key, const struct kvs_slice *val,
		    struct kvs_expiry expiry, uint64_t *ret_version)
{
	int err;

	if (!w->kv)
		return KVS_ERR_INVALID_ARGUMENT;
	err = kvs__clock_deadline(&w->kv->clock, expiry, &w->deadline);
	return err ? err : write_key(w, key, val, ret_version);
}

KVS_API int kvs_set_ex(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
		       struct kvs_expiry expiry, uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_SET };

	return write_ex(&w, key, &val, expiry, ret_version);
}

KVS_API int kvs_add_ex(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
		       struct kvs_expiry expiry, uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_ADD };

	return write_ex(&w, key, &val, expiry, ret_version);
}

KVS_API int kvs_replace_ex(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
			   struct kvs_expiry expiry, uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_REPLACE };

	return write_ex(&w, key, &val, expiry, ret_version);
}

KVS_API int kvs_compare_and_set_ex(struct kvs *kv, struct kvs_slice key, struct kvs_slice val,
				   uint64_t expected, struct kvs_expiry expiry,
				   uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_COMPARE, .expected = expected };

	return write_ex(&w, key, &val, expiry, ret_version);
}

KVS_API int kvs_expire(struct kvs *kv, struct kvs_slice key, int64_t ttl_ms, uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_EXPIRE };

	return write_ex(&w, key, NULL, kvs_after(ttl_ms), ret_version);
}

KVS_API int kvs_expire_at(struct kvs *kv, struct kvs_slice key, int64_t wall_ms,
			  uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_EXPIRE };

	return write_ex(&w, key, NULL, kvs_at(wall_ms), ret_version);
}

KVS_API int kvs_persist(struct kvs *kv, struct kvs_slice key, uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_EXPIRE };

	return write_ex(&w, key, NULL, kvs_after(0), ret_version);
}

KVS_API int kvs_touch(struct kvs *kv, struct kvs_slice key, int64_t ttl_ms, uint64_t *ret_version)
{
	struct write w = { .kv = kv, .mode = MODE_TOUCH };

	return write_ex(&w, key, NULL, kvs_after(ttl_ms), ret_version);
}
