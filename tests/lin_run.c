/* SPDX-License-Identifier: MIT */
/* lin_run.c - threads that make histories: see lin_run.h. */
#include "lin_run.h"

#include <string.h>

#define VALUE_MAX 5000u

struct lin_worker {
	struct lin_run *run;
	size_t index;
	struct rng rng;
	uint64_t next_value;
	uint64_t seen[LIN_HOT_MAX]; /* the version last met, for compare_and_set */
	unsigned char buf[LIN_HOT_MAX * VALUE_MAX];
};

/* ---- Keys and values -------------------------------------------------------------------- */

static struct kvs_slice hot_key(char room[16], uint32_t number)
{
	memset(room, '-', 16);
	room[0] = 'h';
	room[1] = (char)('0' + number);
	return kvs_bytes(room, 10);
}

/* A value says what it is in its first 8 bytes; the rest follows from that, its length too. */
static size_t value_len(const struct lin_mix *mix, uint64_t value)
{
	if (value % mix->large_one_in == 7)
		return VALUE_MAX;
	return value % 16 == 5 ? 40 : 8;
}

static struct kvs_slice value_make(struct lin_worker *w, size_t item, uint64_t value)
{
	unsigned char *buf = w->buf + item * VALUE_MAX;
	size_t len = value_len(w->run->mix, value);

	memcpy(buf, &value, 8);
	pattern_fill(buf + 8, len - 8, value);
	return kvs_bytes(buf, len);
}

static uint64_t value_of(const struct lin_worker *w, const struct kvs_value *v)
{
	uint64_t value;

	check(v->len >= 8);
	memcpy(&value, v->data, 8);
	check_u64(v->len, value_len(w->run->mix, value));
	check(pattern_matches((const char *)v->data + 8, v->len - 8, value));
	return value;
}

/* ---- Single operations ------------------------------------------------------------------ */

static enum lin_kind choose_kind(struct lin_worker *w)
{
	const uint8_t *weights = w->run->mix->weights;
	uint64_t at = rng_below(&w->rng, 100);
	size_t kind = 0;

	while (at >= weights[kind])
		at -= weights[kind++];
	return (enum lin_kind)kind;
}

static int64_t choose_ttl(struct lin_worker *w)
{
	uint64_t most = w->run->mix->ttl_max;

	if (most == 0 || rng_below(&w->rng, 8) == 0)
		return 0;
	return 1 + (int64_t)rng_below(&w->rng, most);
}

static int write_plain(struct kvs *kv, struct lin_op *op, struct kvs_slice key,
		       struct kvs_slice val)
{
	switch ((enum lin_kind)op->kind) {
	case LIN_SET:
		return kvs_set(kv, key, val, &op->version);
	case LIN_ADD:
		return kvs_add(kv, key, val, &op->version);
	case LIN_REPLACE:
		return kvs_replace(kv, key, val, &op->version);
	default:
		return kvs_compare_and_set(kv, key, val, op->before, &op->version);
	}
}

static int write_timed(struct kvs *kv, struct lin_op *op, struct kvs_slice key,
		       struct kvs_slice val)
{
	struct kvs_expiry expiry = kvs_after(op->ttl);

	switch ((enum lin_kind)op->kind) {
	case LIN_SET:
		return kvs_set_ex(kv, key, val, expiry, &op->version);
	case LIN_ADD:
		return kvs_add_ex(kv, key, val, expiry, &op->version);
	case LIN_REPLACE:
		return kvs_replace_ex(kv, key, val, expiry, &op->version);
	default:
		return kvs_compare_and_set_ex(kv, key, val, op->before, expiry, &op->version);
	}
}

static int do_write(struct lin_worker *w, struct lin_op *op, struct kvs_slice key)
{
	bool timed = w->run->mix->ttl_max != 0;
	struct kvs *kv = w->run->kv;
	struct kvs_slice val;
	int err;

	op->value = w->next_value++;
	op->ttl = choose_ttl(w);
	val = value_make(w, 0, op->value);
	op->start = lin_ticks_before();
	err = timed ? write_timed(kv, op, key, val) : write_plain(kv, op, key, val);
	op->end = lin_ticks_after();
	return err;
}

static int do_get_and_set(struct lin_worker *w, struct lin_op *op, struct kvs_slice key)
{
	struct kvs *kv = w->run->kv;
	struct kvs_value old = { NULL, 0, 0, 0 };
	struct kvs_slice val;
	int err;

	op->value = w->next_value++;
	val = value_make(w, 0, op->value);
	op->start = lin_ticks_before();
	err = kvs_get_and_set(kv, key, val, &old, &op->version);
	op->end = lin_ticks_after();
	if (old.version != 0) {
		op->before = old.version;
		op->before_value = value_of(w, &old);
	}
	kvs_value_free(kv, &old);
	return err;
}

static int do_renewal(struct lin_worker *w, struct lin_op *op, struct kvs_slice key)
{
	struct kvs *kv = w->run->kv;
	int err;

	op->ttl = choose_ttl(w);
	op->start = lin_ticks_before();
	if (op->kind == LIN_TOUCH)
		err = kvs_touch(kv, key, op->ttl, &op->version);
	else if (op->ttl == 0)
		err = kvs_persist(kv, key, &op->version);
	else
		err = kvs_expire(kv, key, op->ttl, &op->version);
	op->end = lin_ticks_after();
	return err;
}

static int do_other(struct lin_worker *w, struct lin_op *op, struct kvs_slice key)
{
	struct kvs *kv = w->run->kv;
	struct kvs_value got = { NULL, 0, 0, 0 };
	int err;

	op->start = lin_ticks_before();
	switch ((enum lin_kind)op->kind) {
	case LIN_DELETE:
		err = kvs_delete(kv, key, &op->version);
		break;
	case LIN_GET_AND_DELETE:
		err = kvs_get_and_delete(kv, key, &got);
		break;
	case LIN_GET:
		err = kvs_get(kv, key, w->buf, sizeof(w->buf), &got);
		break;
	default:
		err = kvs_exists(kv, key);
		break;
	}
	op->end = lin_ticks_after();
	if (got.version != 0) {
		op->version = got.version;
		op->value = value_of(w, &got);
		op->expires = got.expires_at_ms;
	}
	if (op->kind == LIN_GET_AND_DELETE)
		kvs_value_free(kv, &got);
	return err;
}

static uint8_t answer_of(int err)
{
	switch (err) {
	case KVS_ERR_NOT_FOUND:
		return LIN_NOT_FOUND;
	case KVS_ERR_DUPLICATE:
		return LIN_DUPLICATE;
	case KVS_ERR_VERSION_MISMATCH:
		return LIN_MISMATCH;
	default:
		check_ok(err);
		return LIN_OK;
	}
}

static void note(struct lin_worker *w, const struct lin_op *op)
{
	if (op->version != 0)
		w->seen[op->key] = op->version;
	w->run->answers[w->index][op->kind][op->answer]++;
}

static void do_one(struct lin_worker *w, struct lin_op *op)
{
	char room[16];
	struct kvs_slice key;
	int err;

	*op = (struct lin_op){ .kind = (uint8_t)choose_kind(w),
			       .key = (uint32_t)rng_below(&w->rng, w->run->hot) };
	key = hot_key(room, op->key);
	if (op->kind == LIN_COMPARE_AND_SET)
		op->before = w->seen[op->key];
	if (op->kind < LIN_GET_AND_SET)
		err = do_write(w, op, key);
	else if (op->kind == LIN_GET_AND_SET)
		err = do_get_and_set(w, op, key);
	else if (op->kind >= LIN_EXPIRE)
		err = do_renewal(w, op, key);
	else
		err = do_other(w, op, key);
	op->answer = answer_of(err);
	note(w, op);
}

/* ---- Batches: each item is an operation, all of them with the interval of the call ------ */

static void batch_of_sets(struct lin_worker *w, struct lin_op *ops, const struct kvs_slice *keys,
			  size_t n)
{
	struct kvs_set_item items[LIN_HOT_MAX];

	for (size_t i = 0; i < n; i++) {
		ops[i].value = w->next_value++;
		ops[i].ttl = choose_ttl(w);
		items[i] = (struct kvs_set_item){ .key = keys[i],
						  .val = value_make(w, i, ops[i].value),
						  .expiry = kvs_after(ops[i].ttl) };
	}
	ops->start = lin_ticks_before();
	check_ok(kvs_batch_set(w->run->kv, items, n, NULL));
	ops->end = lin_ticks_after();
	for (size_t i = 0; i < n; i++) {
		check_ok(items[i].status);
		ops[i].version = items[i].version;
	}
}

static void batch_of_deletes(struct lin_worker *w, struct lin_op *ops, const struct kvs_slice *keys,
			     size_t n)
{
	struct kvs_delete_item items[LIN_HOT_MAX];

	for (size_t i = 0; i < n; i++)
		items[i].key = keys[i];
	ops->start = lin_ticks_before();
	check_ok(kvs_batch_delete(w->run->kv, items, n, NULL));
	ops->end = lin_ticks_after();
	for (size_t i = 0; i < n; i++) {
		ops[i].answer = answer_of(items[i].status);
		ops[i].version = items[i].status ? 0 : items[i].version;
	}
}

static void batch_of_gets(struct lin_worker *w, struct lin_op *ops, const struct kvs_slice *keys,
			  size_t n)
{
	struct kvs_get_item items[LIN_HOT_MAX];

	for (size_t i = 0; i < n; i++)
		items[i].key = keys[i];
	ops->start = lin_ticks_before();
	check_ok(kvs_batch_get(w->run->kv, items, n, w->buf, sizeof(w->buf), NULL));
	ops->end = lin_ticks_after();
	for (size_t i = 0; i < n; i++) {
		ops[i].answer = answer_of(items[i].status);
		if (items[i].status)
			continue;
		ops[i].version = items[i].value.version;
		ops[i].value = value_of(w, &items[i].value);
		ops[i].expires = items[i].value.expires_at_ms;
	}
}

/* Two keys or more, each once: a thread has one operation at a time on a key. */
static size_t do_batch(struct lin_worker *w, struct lin_op *ops, size_t most)
{
	const struct lin_mix *mix = w->run->mix;
	enum lin_kind kind = mix->batches[rng_below(&w->rng, mix->batch_kinds)];
	size_t n = 2 + rng_below(&w->rng, w->run->hot - 1);
	uint32_t first = (uint32_t)rng_below(&w->rng, w->run->hot);
	char room[LIN_HOT_MAX][16];
	struct kvs_slice keys[LIN_HOT_MAX];

	n = n < most ? n : most;
	for (size_t i = 0; i < n; i++) {
		ops[i] = (struct lin_op){ .kind = (uint8_t)kind,
					  .key = (first + (uint32_t)i) % w->run->hot };
		keys[i] = hot_key(room[i], ops[i].key);
	}
	if (kind == LIN_SET)
		batch_of_sets(w, ops, keys, n);
	else if (kind == LIN_DELETE)
		batch_of_deletes(w, ops, keys, n);
	else
		batch_of_gets(w, ops, keys, n);
	for (size_t i = 0; i < n; i++) {
		ops[i].start = ops->start;
		ops[i].end = ops->end;
		note(w, &ops[i]);
	}
	w->run->batched[w->index] += n;
	return n;
}

/* ---- Threads and histories -------------------------------------------------------------- */

struct lin_worker *lin_worker_begin(struct lin_run *run, size_t index)
{
	struct lin_worker *w = calloc(1, sizeof(*w));

	check(w != NULL);
	w->run = run;
	w->index = index;
	w->next_value = (run->number << 8 | (index + 1)) << 32;
	rng_init(&w->rng, run->number * 16 + index + 100);
	return w;
}

void lin_worker_end(struct lin_worker *w)
{
	atomic_fetch_sub(&w->run->working, 1);
	free(w);
}

void lin_worker_go_on(struct lin_worker *w)
{
	struct lin_thread *t = &w->run->history.thread[w->index];
	struct lin_op *ops = &t->ops[t->count];

	if (rng_below(&w->rng, w->run->mix->batch_one_in) == 0) {
		t->count += do_batch(w, ops, w->run->each - t->count);
	} else {
		do_one(w, ops);
		t->count++;
	}
}

void lin_run_init(struct lin_run *run, const struct lin_mix *mix, size_t each)
{
	*run = (struct lin_run){ .mix = mix, .each = each };
	for (size_t t = 0; t < LIN_WORKERS; t++) {
		run->history.thread[t].ops = calloc(each, sizeof(struct lin_op));
		check(run->history.thread[t].ops != NULL);
	}
}

void lin_run_free(struct lin_run *run)
{
	for (size_t t = 0; t < LIN_WORKERS; t++)
		free(run->history.thread[t].ops);
}

void lin_run_begin(struct lin_run *run, struct rng *r)
{
	memset(run->answers, 0, sizeof(run->answers));
	memset(run->batched, 0, sizeof(run->batched));
	run->hot = 2 + (uint32_t)rng_below(r, LIN_HOT_MAX - 1);
	run->history.threads = LIN_WORKERS;
	run->history.keys = run->hot;
	for (size_t t = 0; t < LIN_WORKERS; t++)
		run->history.thread[t].count = 0;
	atomic_store(&run->working, LIN_WORKERS);
}

static void add_answers(struct lin_totals *sum, const struct lin_run *run)
{
	for (size_t t = 0; t < LIN_WORKERS; t++) {
		sum->batched += run->batched[t];
		for (size_t k = 0; k < LIN_TIMED_KINDS; k++)
			for (size_t a = 0; a < LIN_ANSWERS; a++)
				sum->answers[k][a] += run->answers[t][k][a];
	}
}

void lin_run_end(const struct lin_run *run, const struct lin_verdict *v, struct lin_totals *sum)
{
	sum->histories++;
	sum->operations += v->operations;
	sum->overlapping += v->overlapping;
	sum->searched += v->searched;
	sum->crossed += v->crossed;
	sum->expired += v->expired;
	sum->configs = v->configs > sum->configs ? v->configs : sum->configs;
	sum->violations += v->outcome == LIN_VIOLATION;
	sum->undecided += v->outcome == LIN_UNDECIDED;
	add_answers(sum, run);
	if (v->outcome != LIN_LINEARIZABLE)
		util_fail(__FILE__, __LINE__, "history %llu, %u keys, %s:\n# %s",
			  (unsigned long long)run->number, run->hot,
			  v->outcome == LIN_VIOLATION ? "not linearizable" : "undecided", v->why);
}

/* ---- Totals ----------------------------------------------------------------------------- */

void lin_totals_print(const struct lin_totals *sum, size_t kinds)
{
	util_note("histories %llu, operations %llu, overlapping another on the key %llu (%llu%%)",
		  (unsigned long long)sum->histories, (unsigned long long)sum->operations,
		  (unsigned long long)sum->overlapping,
		  (unsigned long long)(sum->overlapping * 100 / sum->operations));
	util_note("items of batches %llu", (unsigned long long)sum->batched);
	util_note("decided by search %llu, most configurations %llu, versions that crossed %llu",
		  (unsigned long long)sum->searched, (unsigned long long)sum->configs,
		  (unsigned long long)sum->crossed);
	util_note("violations %llu, undecided %llu", (unsigned long long)sum->violations,
		  (unsigned long long)sum->undecided);
	for (size_t k = 0; k < kinds; k++)
		util_note("  %-15s OK %llu, NOT_FOUND %llu, DUPLICATE %llu, VERSION_MISMATCH %llu",
			  lin_kind_names[k], (unsigned long long)sum->answers[k][LIN_OK],
			  (unsigned long long)sum->answers[k][LIN_NOT_FOUND],
			  (unsigned long long)sum->answers[k][LIN_DUPLICATE],
			  (unsigned long long)sum->answers[k][LIN_MISMATCH]);
}

bool lin_totals_answered(const struct lin_totals *sum, size_t kinds, uint64_t floor)
{
	bool enough = true;

	for (size_t k = 0; k < kinds; k++) {
		enough &= sum->answers[k][LIN_OK] >= floor;
		if (k != LIN_SET && k != LIN_ADD && k != LIN_GET_AND_SET)
			enough &= sum->answers[k][LIN_NOT_FOUND] >= floor;
	}
	enough &= sum->answers[LIN_ADD][LIN_DUPLICATE] >= floor;
	return enough && sum->answers[LIN_COMPARE_AND_SET][LIN_MISMATCH] >= floor;
}

void lin_totals_check(const struct lin_totals *sum, const struct lin_run *run, size_t histories)
{
	check(sum->histories >= histories);
	check_u64(sum->operations, sum->histories * run->each * LIN_WORKERS);
}
