/* SPDX-License-Identifier: MIT */
/*
 * update.c - writes whose new value comes from the old one: numbers, append, a user's function.
 *
 * Each is an UPDATE of the engine (write.c): inside the section, find the live entry, make the new one from it, and
 * publish by the CAS on the old entry's link. That CAS fails if anything happened to the entry since it was
 * looked at; then all is done again from what is there then. So the CAS that succeeds replaces just the
 * entry that was the base: no update is lost, and none is applied twice.
 *
 * LP   that of the insert, replace or delete; where nothing is changed, that of a lookup.
 */
#include <stdio.h>

#include "write.h"

static int run(struct write *w, struct kvs_slice key, uint64_t *ret_version)
{
	int err = kvs__write_prepare(w, key, NULL);

	if (!err)
		err = kvs__write_run(w);
	if (!err && ret_version)
		*ret_version = w->version;
	return err;
}

/* The new entry of the key, with the deadline of the old one. */
static int make_entry(struct write *w, const struct kvs__entry *e, struct kvs_slice val)
{
	int64_t deadline = e ? kvs__entry_deadline(e) : KVS__NO_DEADLINE;
	const struct kvs__wanted *wanted = &w->target.wanted;
	struct kvs_slice key = kvs_bytes(wanted->key, wanted->order & KVS__KEY_LEN_MASK);

	w->fresh = kvs__entry_make_timed(&w->kv->pool, &w->slot->heap, wanted->order, key, val,
					 deadline);
	return w->fresh ? MADE_ENTRY : KVS_ERR_NO_MEMORY;
}

/* ---- numbers ---- */

struct addition {
	struct write w;
	int64_t delta;
	int64_t sum;
};

#define DIGITS_MAX 20u /* of -2^63, with its sign */

static bool read_decimal(const struct kvs__entry *e, int64_t *ret)
{
	const unsigned char *p = kvs__entry_value(e);
	size_t len = kvs__entry_value_len(e);
	bool minus = len && *p == '-';
	int64_t n = 0;
	size_t i;

	if (len - minus == 0 || len > DIGITS_MAX || (p[minus] == '0' && len > 1))
		return false;
	for (i = minus; i < len; i++) {
		int digit = p[i] - '0';

		/* downwards: -2^63 has no positive counterpart */
		if (digit < 0 || digit > 9 || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_sub_overflow(n, digit, &n))
			return false;
	}
	if (!minus && __builtin_sub_overflow(0, n, &n))
		return false;
	*ret = n;
	return true;
}

static int make_decimal(struct write *w, const struct kvs__entry *e)
{
	struct addition *a = kvs_container_of(w, struct addition, w);
	char text[DIGITS_MAX + 1];
	int64_t n = 0;

	if (kvs__pool_is_typed(&w->kv->pool))
		return KVS_ERR_TYPED;
	if (e && !read_decimal(e, &n))
		return KVS_ERR_NOT_A_NUMBER;
	if (__builtin_add_overflow(n, a->delta, &a->sum))
		return KVS_ERR_OVERFLOW;
	return make_entry(
		w, e,
		kvs_bytes(text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)a->sum)));
}

static int make_i64(struct write *w, const struct kvs__entry *e)
{
	struct addition *a = kvs_container_of(w, struct addition, w);
	int64_t n = 0;

	if (kvs__pool_is_typed(&w->kv->pool))
		return KVS_ERR_TYPED;
	if (e && kvs__entry_value_len(e) != sizeof(n))
		return KVS_ERR_NOT_A_NUMBER;
	if (e)
		memcpy(&n, kvs__entry_value(e), sizeof(n));
	if (__builtin_add_overflow(n, a->delta, &a->sum))
		return KVS_ERR_OVERFLOW;
	return make_entry(w, e, kvs_bytes(&a->sum, sizeof(a->sum)));
}

static int add(struct kvs *kv, struct kvs_slice key, kvs__make_fn make, int64_t delta,
	       int64_t *ret_value, uint64_t *ret_version)
{
	struct addition a = { .w = { .kv = kv, .mode = MODE_UPDATE, .make = make },
			      .delta = delta };
	int err = run(&a.w, key, ret_version);

	if (!err && ret_value)
		*ret_value = a.sum;
	return err;
}

static int subtract(struct kvs *kv, struct kvs_slice key, kvs__make_fn make, int64_t delta,
		    int64_t *ret_value, uint64_t *ret_version)
{
	if (delta == INT64_MIN)
		return kv ? KVS_ERR_OVERFLOW : KVS_ERR_INVALID_ARGUMENT;
	return add(kv, key, make, -delta, ret_value, ret_version);
}

KVS_API int kvs_increment(struct kvs *kv, struct kvs_slice key, int64_t delta, int64_t *ret_value,
			  uint64_t *ret_version)
{
	return add(kv, key, make_decimal, delta, ret_value, ret_version);
}

KVS_API int kvs_decrement(struct kvs *kv, struct kvs_slice key, int64_t delta, int64_t *ret_value,
			  uint64_t *ret_version)
{
	return subtract(kv, key, make_decimal, delta, ret_value, ret_version);
}

KVS_API int kvs_increment_i64(struct kvs *kv, struct kvs_slice key, int64_t delta,
			      int64_t *ret_value, uint64_t *ret_version)
{
	return add(kv, key, make_i64, delta, ret_value, ret_version);
}

KVS_API int kvs_decrement_i64(struct kvs *kv, struct kvs_slice key, int64_t delta,
			      int64_t *ret_value, uint64_t *ret_version)
{
	return subtract(kv, key, make_i64, delta, ret_value, ret_version);
}

/* ---- append ---- */

struct appending {
	struct write w;
	struct kvs_slice tail;
	size_t len; /* of the whole */
};

static int make_longer(struct write *w, const struct kvs__entry *e)
{
	struct appending *a = kvs_container_of(w, struct appending, w);
	size_t before = e ? kvs__entry_value_len(e) : 0;
	unsigned char *to;
	int made;

	if (kvs__pool_is_typed(&w->kv->pool))
		return KVS_ERR_TYPED;
	if (a->tail.len > KVS_VALUE_MAX - before)
		return KVS_ERR_VALUE_TOO_LARGE;
	a->len = before + a->tail.len;
	made = make_entry(w, e, kvs_bytes(NULL, a->len));
	if (made != MADE_ENTRY)
		return made;
	to = (unsigned char *)(uintptr_t)kvs__entry_value(w->fresh);
	if (before)
		memcpy(to, kvs__entry_value(e), before);
	if (a->tail.len)
		memcpy(to + before, a->tail.data, a->tail.len);
	return MADE_ENTRY;
}

KVS_API int kvs_append(struct kvs *kv, struct kvs_slice key, struct kvs_slice tail, size_t *ret_len,
		       uint64_t *ret_version)
{
	struct appending a = { .w = { .kv = kv, .mode = MODE_UPDATE, .make = make_longer },
			       .tail = tail };
	int err;

	if (!tail.data && tail.len)
		return KVS_ERR_INVALID_ARGUMENT;
	err = run(&a.w, key, ret_version);
	if (!err && ret_len)
		*ret_len = a.len;
	return err;
}

/* ---- a user's function ---- */

struct updating {
	struct write w;
	kvs_update_fn fn;
	void *arg;
};

static int ask(struct updating *u, const struct kvs__entry *e, struct kvs_slice *ret_new)
{
	struct kvs_value old;
	int answer;

	if (e)
		kvs__value_of(u->w.kv, e, &old);
	u->w.slot->in_update = true;
	answer = u->fn(e ? &old : NULL, ret_new, u->arg);
	u->w.slot->in_update = false;
	return answer;
}

static int make_by_user(struct write *w, const struct kvs__entry *e)
{
	struct updating *u = kvs_container_of(w, struct updating, w);
	struct kvs_slice val = { NULL, 0 };
	int answer = ask(u, e, &val);

	if (answer == KVS_UPDATE_KEEP)
		return MADE_NOTHING;
	if (answer == KVS_UPDATE_DELETE)
		return MADE_DELETE;
	if (answer != KVS_UPDATE_SET || (!val.data && val.len))
		return answer < 0 ? answer : KVS_ERR_INVALID_ARGUMENT;
	if (!val.data && kvs__pool_is_typed(&w->kv->pool))
		return KVS_ERR_INVALID_ARGUMENT;
	if (val.len > KVS_VALUE_MAX)
		return KVS_ERR_VALUE_TOO_LARGE;
	return make_entry(w, e, val);
}

KVS_API int kvs_update(struct kvs *kv, struct kvs_slice key, kvs_update_fn fn, void *arg,
		       uint64_t *ret_version)
{
	struct updating u = { .w = { .kv = kv, .mode = MODE_UPDATE, .make = make_by_user },
			      .fn = fn,
			      .arg = arg };

	if (!fn)
		return KVS_ERR_INVALID_ARGUMENT;
	return run(&u.w, key, ret_version);
}
