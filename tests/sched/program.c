/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "iter.h"
#include "expiry.h"
#include "maintain.h"
#include "sched_rcu.h"
#include "structure.h"

static const char *const keys_names[] = { "near", "equal", "wide", "typed", "apart", "upper" };
static const char *const init_names[] = { "empty", "full" };
static const char *const third_names[] = { "none",    "grow", "shrink", "limit", "take",
					   "both",    "cut",  "walk",   "twice", "abort",
					   "filters", "time", "late",   "close" };
static const char kind_letters[] = "sarcdgxiGSDpeu";
static const char *const key_bytes[KEYS] = { "A", "B" };

/* The hash that the table sees; the first 47 bits are the order key, and the last four of them choose the filter's bit. */
static const uint64_t hashes[6][KEYS] = {
	[KEYS_NEAR] = { UINT64_C(0x0100000000020000), UINT64_C(0x0300000000040000) },
	[KEYS_EQUAL] = { UINT64_C(0x0300000000020000), UINT64_C(0x0300000000020000) },
	[KEYS_TYPED] = { UINT64_C(0x0100000000020000), UINT64_C(0x0300000000040000) },
	[KEYS_WIDE] = { UINT64_C(0x0001000000020000), UINT64_C(0x0003000000040000) },
	[KEYS_APART] = { UINT64_C(0x0100000000020000), UINT64_C(0x8100000000040000) },
	/* both behind the head that grow links and shrink removes */
	[KEYS_UPPER] = { UINT64_C(0x0240000000020000), UINT64_C(0x0300000000040000) },
};

#define ARRAY(a) (unsigned)(sizeof(a) / sizeof(*(a)))

static struct setting setting;
static struct kvs *kv;
static struct structure sealed;
static struct history history;

/* What a fiber knows. */
static struct {
	uint64_t known[KEYS]; /* versions */
	uint64_t cursor;
	struct kvs_pin pin[OPS_MAX];
	struct kvs_value held[OPS_MAX];
} mine[LISTS_MAX];

void (*program_passed)(void);
struct program_counts program_counts;

/* ---- the store ---- */

static uint64_t unshift(uint64_t x, unsigned by)
{
	uint64_t y = x;

	for (unsigned i = 0; i < 64 / by; i++)
		y = x ^ (y >> by);
	return y;
}

static uint64_t inverse(uint64_t odd)
{
	uint64_t y = odd;

	for (unsigned i = 0; i < 6; i++)
		y *= 2 - odd * y;
	return y;
}

/* The number that kvs__mix64() makes @x of. */
static uint64_t unmix64(uint64_t x)
{
	x = unshift(x, 31) * inverse(UINT64_C(0x94d049bb133111eb));
	x = unshift(x, 27) * inverse(UINT64_C(0xbf58476d1ce4e5b9));
	return unshift(x, 30);
}

static uint64_t hash(const void *key, size_t len, void *ctx)
{
	(void)len;
	(void)ctx;
	return unmix64(hashes[setting.keys][*(const unsigned char *)key == 'B']);
}

/* Objects are numbers in blocks of their own, which the heap watches. */
static void *object_clone(const void *object, size_t len, void *ctx)
{
	void *copy = heap_allocator.alloc(heap_allocator.ctx, len);

	(void)ctx;
	memcpy(copy, object, len);
	return copy;
}

static void object_destroy(void *object, size_t len, void *ctx)
{
	(void)ctx;
	heap_allocator.free(heap_allocator.ctx, object, len);
}

static const struct kvs_type object_type = { .clone = object_clone, .destroy = object_destroy };

/* ---- time ---- */

#define BEFORE 50 /* ms */
#define DEADLINE 100
#define AFTER 150 /* more than a tick past it */

static int64_t *clock_word(void)
{
	return (int64_t *)(void *)(heap_bytes + 8 * HEAP_WORD_CLOCK);
}

/* Wall and boot time are the same here. */
static int64_t clock_read(void *ctx)
{
	(void)ctx;
	sched_at(clock_word(), SCHED_READ, true);
	return *clock_word();
}

static const struct kvs_clock test_clock = { clock_read, clock_read, NULL };

static void clock_move(void)
{
	sched_op_begin(&history.time.begin, &history.time.early);
	sched_at(clock_word(), SCHED_WRITE, true);
	*clock_word() = AFTER;
	sched_op_end(&history.time.end);
}

static void turn(void)
{
	uint64_t budget = 1000;

	(void)kvs__expiry_pass(kv, *clock_word(), &budget);
	if (setting.third != THIRD_CLOSE)
		(void)kvs__reclaim_take_over(&kv->reclaim, &kv->expiry.slot->batch);
}

static struct kvs__table *table(void)
{
	return &load_relaxed(&kv->root)->table[0];
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	printf("Bail out! %s\n", what);
	exit(2);
}

static uint64_t value_of(unsigned list, unsigned op)
{
	return UINT64_C(0x1100) + 16 * list + op;
}

static void put_keys(void)
{
	for (unsigned k = 0; k < KEYS; k++) {
		struct seen *b = &history.before[k];
		uint64_t value = 0x99 + k;

		*b = (struct seen){ .present = false };
		if (setting.init == INIT_EMPTY)
			continue;
		b->timed = THIRD_HAS_TIME(setting.third);
		must(kvs_set_ex(kv, kvs_str(key_bytes[k]), kvs_bytes(&value, 8),
				kvs_at(b->timed ? DEADLINE : 0), &b->version) == 0,
		     "no key");
		b->present = true;
		b->value = value;
	}
	/* With time their messages wait at the start, else they are on the wheel. */
	if (setting.third == THIRD_LATE || setting.third == THIRD_CLOSE)
		turn();
	if (setting.third == THIRD_LATE) {
		*clock_word() = AFTER;
		for (unsigned k = 0; k < KEYS; k++)
			history.before[k].present = false;
	}
}

static void link_all(void)
{
	kvs__rcu_read_lock();
	while (kvs__link_heads(table(), 64))
		;
	kvs__rcu_read_unlock();
}

static void prepare_table(void)
{
	if (setting.keys != KEYS_WIDE)
		link_all();
	put_keys();
	if (setting.third == THIRD_SHRINK || setting.third == THIRD_BOTH ||
	    setting.third == THIRD_FILTERS) {
		kvs__table_grow(table(), KVS__BITS_MIN);
		kvs__rcu_read_lock();
		must(kvs__link_heads(table(), 1) == 1, "no head was linked");
		kvs__rcu_read_unlock();
	}
	/* The other keys of a table at its limit lie elsewhere: only their number matters. */
	if (setting.third == THIRD_LIMIT)
		store_relaxed(&table()->count, kvs__table_buckets(table()));
}

static void attach_all(void)
{
	must(kvs_thread_attach(kv) == 0, "no slot");
	for (unsigned i = 0; i < SCHED_FIBERS; i++) {
		sched_tls_swap(i);
		must(kvs_thread_attach(kv) == 0, "no slot");
		sched_tls_swap(i);
	}
}

/* Far from every limit nothing is decided by these sums. */
static void set_commuting(void)
{
	struct kvs__reclaim *r = &kv->reclaim;

	sched_commutes(NULL);
	if (setting.third != THIRD_LIMIT)
		sched_commutes(&table()->count);
	sched_commutes(&r->queued_batches);
	sched_commutes(&r->freed_batches);
	sched_commutes(&r->ripe_batches);
}

static int64_t no_time(void *ctx)
{
	(void)ctx;
	return 1;
}

void program_open(const struct setting *s)
{
	static const struct kvs_clock clock = { no_time, no_time, NULL };
	struct kvs_options o = KVS_OPTIONS_INIT;

	setting = *s;
	heap_reset();
	sched_forget_conflicts();
	heap_region(SCHED_MAIN);
	o.shards = 1;
	o.hash = KVS_HASH_USER;
	o.hash_fn = hash;
	o.allocator = &heap_allocator;
	o.clock = THIRD_HAS_TIME(s->third) ? &test_clock : &clock; /* else it stands still */
	*clock_word() = BEFORE;
	o.type = s->keys == KEYS_TYPED ? &object_type : NULL;
	o.initial_capacity = s->keys == KEYS_WIDE ? 4096 : 0;
	must(kvs_open(&o, &kv) == 0, "no store");
	attach_all();
	prepare_table();
	(void)kvs__slots_take_over(&kv->home, &kv->reclaim);
	sched_watch_size(&table()->size);
	set_commuting();
	must(structure_read(table(), &sealed, true) == NULL, "the table is wrong from the start");
	heap_seal();
}

void program_close(void)
{
	heap_restore();
	sched_rcu_reset();
	must(kvs_free(kv) == 0, "the store was not freed");
	for (unsigned i = 0; i < SCHED_FIBERS; i++) {
		sched_tls_swap(i);
		free(kvs__tls.entry);
		kvs__tls.entry = NULL;
		kvs__tls.count = 0;
		sched_tls_swap(i);
	}
}

/* ---- operations ---- */

static void scan_step(struct record *r, uint64_t *cursor)
{
	struct kvs_item items[KEYS];
	uint64_t from = *cursor;
	size_t count = 0;

	kvs_read_begin(kv);
	r->err = kvs_scan(kv, cursor, items, setting.keys == KEYS_EQUAL ? 2 : 1, &count);
	for (unsigned k = 0; k < KEYS; k++) {
		uint64_t place = hashes[setting.keys][k] >> 16 | 1;

		r->covered[k] = place > from && (!*cursor || place <= *cursor);
		r->page[k].present = false;
	}
	if (r->err == KVS_ERR_BUFFER_TOO_SMALL)
		sched_fail("a key is on a page twice"); /* all keys of a run fit */
	if (r->err)
		sched_fail("a step of a scan failed");
	for (size_t i = 0; i < count; i++) {
		unsigned k = *(const char *)items[i].key.data == 'B';
		struct seen *seen = &r->page[k];

		if (seen->present)
			sched_fail("a key is on a page twice");
		if (!r->covered[k])
			sched_fail("a key is on a page that does not cover it");
		*seen = (struct seen){ true, items[i].value.version, 0, false };
		memcpy(&seen->value, items[i].value.data, items[i].value.len == 8 ? 8 : 0);
	}
	kvs_read_end(kv);
}

static void pin(struct record *r, struct kvs_slice key, unsigned list, unsigned i)
{
	struct kvs_value *v = &mine[list].held[i];

	r->err = kvs_pin(kv, key, v, &mine[list].pin[i]);
	if (r->err)
		return;
	r->version = v->version;
	memcpy(&r->value, v->data, sizeof(r->value));
}

/* The history's values were read when the pin was taken. */
static void unpin_all(unsigned list)
{
	for (unsigned i = 0; i < OPS_MAX; i++) {
		if (!mine[list].pin[i].entry)
			continue;
		if (memcmp(mine[list].held[i].data, &history.record[list][i].value, 8) != 0)
			sched_fail("a pinned value has changed");
		kvs_unpin(kv, &mine[list].pin[i]);
	}
}

static void batch_get(struct record *r)
{
	struct kvs_get_item items[KEYS];
	uint64_t buf[KEYS];

	for (unsigned k = 0; k < KEYS; k++)
		items[k].key = kvs_bytes(key_bytes[k], 1);
	r->err = kvs_batch_get(kv, items, KEYS, buf, sizeof(buf), NULL);
	for (unsigned k = 0; k < KEYS; k++) {
		r->errs[k] = items[k].status;
		r->page[k] = (struct seen){ !items[k].status, items[k].value.version, 0, false };
		if (!items[k].status)
			memcpy(&r->page[k].value, items[k].value.data, sizeof(uint64_t));
	}
}

static void batch_set(struct record *r)
{
	struct kvs_set_item items[KEYS];

	for (unsigned k = 0; k < KEYS; k++) {
		r->page[k].value = r->wrote + 0x1000 * k;
		items[k] = (struct kvs_set_item){
			.key = kvs_bytes(key_bytes[k], 1),
			.val = kvs_bytes(&r->page[k].value, sizeof(uint64_t)),
		};
	}
	r->err = kvs_batch_set(kv, items, KEYS, NULL);
	for (unsigned k = 0; k < KEYS; k++) {
		r->errs[k] = items[k].status;
		r->page[k].version = items[k].version;
	}
}

static void batch_delete(struct record *r)
{
	struct kvs_delete_item items[KEYS];

	for (unsigned k = 0; k < KEYS; k++)
		items[k].key = kvs_bytes(key_bytes[k], 1);
	r->err = kvs_batch_delete(kv, items, KEYS, NULL);
	for (unsigned k = 0; k < KEYS; k++) {
		r->errs[k] = items[k].status;
		r->page[k].version = items[k].version;
	}
}

static void batch_op(struct record *r)
{
	switch (OP_KIND(r->op)) {
	case OP_BATCH_GET:
		batch_get(r);
		break;
	case OP_BATCH_SET:
		batch_set(r);
		break;
	default:
		batch_delete(r);
		break;
	}
	if (r->err)
		sched_fail("a batch failed");
}

static void get(struct record *r, struct kvs_slice key)
{
	struct kvs_value got = { NULL, 0, 0, 0 };

	if (setting.keys != KEYS_TYPED) {
		r->err = kvs_get(kv, key, &r->value, sizeof(r->value), &got);
	} else {
		kvs_read_begin(kv);
		r->err = kvs_borrow(kv, key, &got);
		(void)load_seq_cst(&kv->root); /* a point at which others may run */
		if (!r->err)
			memcpy(&r->value, got.data, sizeof(r->value));
		kvs_read_end(kv);
	}
	r->version = got.version;
}

static void point_op(struct record *r, struct kvs_slice key)
{
	struct kvs_slice val = kvs_bytes(&r->wrote, sizeof(r->wrote));

	switch (OP_KIND(r->op)) {
	case OP_SET:
		r->err = kvs_set(kv, key, val, &r->version);
		break;
	case OP_ADD:
		r->err = kvs_add(kv, key, val, &r->version);
		break;
	case OP_REPLACE:
		r->err = kvs_replace(kv, key, val, &r->version);
		break;
	case OP_COMPARE:
		r->err = kvs_compare_and_set(kv, key, val, r->expected, &r->version);
		break;
	case OP_DELETE:
		r->err = kvs_delete(kv, key, &r->version);
		break;
	case OP_SET_TIMED:
		r->err = kvs_set_ex(kv, key, val, kvs_at(DEADLINE), &r->version);
		break;
	case OP_TOUCH:
		r->err = kvs_touch(kv, key, 0, &r->version);
		break;
	case OP_INCREMENT:
		r->err = kvs_increment_i64(kv, key, (int64_t)r->wrote << 16, (int64_t *)&r->value,
					   &r->version);
		break;
	default:
		get(r, key);
		break;
	}
}

static void one_op(unsigned list, unsigned i)
{
	struct record *r = &history.record[list][i];

	*r = (struct record){ .op = history.program.op[list][i], .wrote = value_of(list, i) };
	sched_op_begin(&r->begin, &r->early);
	if (OP_KIND(r->op) == OP_SCAN) {
		scan_step(r, &mine[list].cursor);
	} else if (OP_IS_BATCH(OP_KIND(r->op))) {
		batch_op(r);
	} else {
		unsigned k = OP_KEY(r->op);

		r->expected = mine[list].known[k];
		if (OP_KIND(r->op) == OP_PIN)
			pin(r, kvs_bytes(key_bytes[k], 1), list, i);
		else
			point_op(r, kvs_bytes(key_bytes[k], 1));
		if (r->version)
			mine[list].known[k] = r->version;
	}
	sched_op_end(&r->end);
	if (setting.third != THIRD_TAKE && setting.third != THIRD_CLOSE)
		(void)kvs__reclaim_take_over(&kv->reclaim, &kvs__slot_get(&kv->home)->batch);
}

static void grow(void)
{
	struct kvs__table *t = table();

	kvs__rcu_read_lock();
	kvs__table_grow(t, load_seq_cst(&t->size));
	(void)kvs__link_heads(t, 1);
	kvs__rcu_read_unlock();
}

/* Both passes, over all heads that are there. */
static void make_filters(void)
{
	struct kvs__table *t = table();
	uint64_t end = kvs__table_buckets(t);

	kvs__rcu_read_lock();
	(void)kvs__watch_heads(t, 0, end);
	kvs__rcu_read_unlock();
	kvs__rcu_wait(&kv->reclaim.worker);
	kvs__rcu_read_lock();
	(void)kvs__tighten_heads(t, 0, end);
	kvs__rcu_read_unlock();
}

/* ---- snapshots ---- */

static void take_item(struct record *r, const struct kvs_item *item)
{
	struct seen *seen = &r->page[*(const char *)item->key.data == 'B'];

	if (seen->present)
		sched_fail("a key is in a snapshot twice");
	*seen = (struct seen){ true, item->value.version, 0, false };
	memcpy(&seen->value, item->value.data, item->value.len == 8 ? 8 : 0);
}

/* The cut is made while begin runs; what comes out of the walk must have been there then. */
static struct kvs_snapshot *snapshot_begin(struct record *r)
{
	struct kvs_snapshot *s = NULL;

	*r = (struct record){ .op = 2 * OP_SNAPSHOT };
	sched_op_begin(&r->begin, &r->early);
	if (kvs_snapshot_begin(kv, NULL, &s))
		sched_fail("a snapshot did not begin");
	sched_op_end(&r->end);
	return s;
}

static struct kvs_snapshot *begun; /* THIRD_WALK */

static uint64_t snapshot_walk(struct kvs_snapshot *s, struct record *r)
{
	struct kvs_snapshot_part *part = NULL;
	struct kvs_item item;
	uint64_t n = 0;
	int err = kvs_snapshot_part_begin(s, &part);

	while (!err && (err = kvs_snapshot_next(part, &item)) == 0) {
		take_item(r, &item);
		n++;
		(void)kvs__reclaim_take_over(&kv->reclaim, &kvs__slot_get(&kv->home)->batch);
	}
	if (err != KVS_ERR_NOT_FOUND)
		sched_fail("a snapshot failed");
	kvs_snapshot_part_end(part);
	return n;
}

static void snapshot_end(struct kvs_snapshot *s, uint64_t returned)
{
	uint64_t count = UINT64_MAX;

	if (kvs_snapshot_end(s, &count) || count != returned)
		sched_fail("a snapshot did not end, or counted wrongly");
	(void)kvs__reclaim_take_over(&kv->reclaim, &kvs__slot_get(&kv->home)->batch);
}

static void snapshot_rest(struct kvs_snapshot *s)
{
	snapshot_end(s, snapshot_walk(s, &history.cut[history.cuts]));
	history.cuts++;
	program_counts.snapshots++;
}

static void snapshot(void)
{
	snapshot_rest(snapshot_begin(&history.cut[history.cuts]));
}

/* Outside of all fibers, before they start. */
static void snapshot_begin_before(void)
{
	heap_region(SCHED_MAIN);
	history.cut[0] = (struct record){ .op = 2 * OP_SNAPSHOT };
	if (kvs_snapshot_begin(kv, NULL, &begun))
		sched_fail("a snapshot did not begin");
}

static void snapshot_abort(void)
{
	struct record ignored;

	snapshot_end(snapshot_begin(&ignored), 0);
}

/* ---- fibers ---- */

static void extra_fiber(bool second)
{
	if (second && setting.third == THIRD_CLOSE) {
		if (kvs_close(kv) != KVS_OK)
			sched_fail("the store was not closed");
		return;
	}
	switch (second ? THIRD_GROW : setting.third) {
	case THIRD_TIME:
	case THIRD_CLOSE:
		turn();
		clock_move();
		turn();
		break;
	case THIRD_LATE:
		turn();
		turn();
		break;
	case THIRD_GROW:
		grow();
		break;
	case THIRD_SHRINK:
	case THIRD_BOTH:
		(void)kvs__maintain_shrink(kv, load_relaxed(&kv->root));
		break;
	case THIRD_FILTERS:
		make_filters();
		break;
	case THIRD_TWICE:
		snapshot();
		snapshot();
		break;
	case THIRD_ABORT:
		snapshot_abort();
		snapshot();
		break;
	case THIRD_CUT:
		snapshot();
		break;
	case THIRD_WALK:
		snapshot_rest(begun);
		break;
	default:
		(void)kvs__slots_take_over(&kv->home, &kv->reclaim);
		break;
	}
}

static void fiber(unsigned self)
{
	heap_region(self);
	if (self >= history.program.lists) {
		extra_fiber(self > history.program.lists);
		return;
	}
	for (unsigned i = 0; i < history.program.ops[self]; i++)
		one_op(self, i);
	unpin_all(self);
}

/* ---- a schedule ---- */

static void begin(void)
{
	heap_restore();
	history.cuts = 0;
	for (unsigned l = 0; l < history.program.lists; l++) {
		mine[l].cursor = 0;
		memset(mine[l].pin, 0, sizeof(mine[l].pin));
		for (unsigned k = 0; k < KEYS; k++)
			mine[l].known[k] =
				setting.init == INIT_FULL ? history.before[k].version : 1;
	}
	if (setting.third == THIRD_WALK)
		snapshot_begin_before();
}

/* What the table holds of the keys. */
static const char *read_keys(const struct structure *s)
{
	memset(history.after, 0, sizeof(history.after));
	for (unsigned i = 0; i < s->entries; i++) {
		const struct kvs__entry *e = s->entry[i];
		struct seen *seen = &history.after[e->bytes[0] == 'B'];

		if (seen->present)
			return "a key is in the table twice";
		*seen = (struct seen){ true, kvs__entry_version(e), 0, false };
		memcpy(&seen->value, kvs__entry_value(e), 8);
	}
	return NULL;
}

static const char *check_memory(const struct structure *s)
{
	unsigned wanted = s->entries + s->segments;
	unsigned others = sealed.live - sealed.entries - sealed.segments;

	if (setting.keys == KEYS_TYPED) { /* an entry is three blocks */
		wanted += 2 * s->entries;
		others -= 2 * sealed.entries;
	}

	if (sched_rcu_queued())
		return "a callback never ran";
	if (heap_live() < wanted + others)
		return "something reachable was freed";
	if (heap_live() > wanted + others)
		return "something unreachable was not freed";
	return NULL;
}

static const char *check_close(void)
{
	/* What is left: the store, its versions, the slots of the fibers, of the main context and of the store. */
	if (kvs_close(kv) != KVS_OK)
		return "the store was not closed";
	if (heap_live() != 2 + SCHED_FIBERS + 2)
		return "close left something behind";
	return NULL;
}

static const char *check_count(const struct structure *s)
{
	uint64_t others = sealed.count - sealed.entries; /* limit */

	return s->count == s->entries + others ? NULL : "the count of keys is wrong";
}

static void begin_early(void)
{
	for (unsigned l = 0; l < history.program.lists; l++)
		for (unsigned i = 0; i < history.program.ops[l]; i++)
			history.record[l][i].begin = history.record[l][i].early;
	for (unsigned i = 0; i < history.cuts; i++)
		history.cut[i].begin = history.cut[i].early;
	history.time.begin = history.time.early;
}

/* Closed in the middle of it all: nothing is left but what the store itself is made of. */
static void end_closed(void)
{
	const char *why = NULL;

	if (sched_rcu_queued())
		why = "a callback never ran";
	else if (heap_live() != 2 + SCHED_FIBERS + 2)
		why = "close left something behind";
	else if (heap_damaged())
		why = "freed memory was written to";
	if (why)
		sched_fail(why);
	else if (program_passed)
		program_passed();
}

static void end(void)
{
	static unsigned number;
	/* The whole table and its end are looked at now and then only: they take most of the time. */
	bool thorough = number++ % 8 == 0;
	struct structure s;
	const char *why;

	if (!sched_is_settled())
		begin_early();
	program_counts.handed += load_relaxed(&kv->snapshots.handed_over);
	program_counts.settled += load_relaxed(&kv->reader_settles);
	heap_region(SCHED_MAIN);
	if (setting.third == THIRD_CLOSE) {
		end_closed();
		return;
	}
	if (THIRD_HAS_TIME(setting.third))
		turn(); /* all messages and timers that are left */
	(void)kvs__slots_take_over(&kv->home, &kv->reclaim);
	why = structure_read(table(), &s, thorough || setting.keys == KEYS_APART);
	program_counts.tight += !s.full;
	program_counts.full += s.full != 0;
	if (!why)
		why = read_keys(&s);
	if (!why)
		why = oracle_check(&history);
	if (!why)
		why = check_count(&s);
	if (!why)
		why = check_memory(&s);
	if (!why && thorough)
		why = check_close();
	if (!why && heap_damaged())
		why = "freed memory was written to";
	if (why)
		sched_fail(why);
	else if (program_passed)
		program_passed();
}

static uint64_t fold(uint64_t sum, uint64_t x)
{
	return kvs__mix64(sum ^ x) + 1;
}

static uint64_t fold_seen(uint64_t sum, const struct seen *s)
{
	return s->present ? fold(fold(sum, s->version), s->value) : fold(sum, 3);
}

uint64_t program_outcome(void)
{
	const struct history *h = &history;
	uint64_t sum = fold_seen(fold_seen(0, &h->after[0]), &h->after[1]);

	for (unsigned l = 0; l < h->program.lists; l++)
		for (unsigned i = 0; i < h->program.ops[l]; i++) {
			const struct record *r = &h->record[l][i];

			sum = fold(fold(fold(sum, (uint64_t)r->err), r->version), r->value);
			if (OP_KIND(r->op) == OP_SCAN || OP_IS_BATCH(OP_KIND(r->op)))
				sum = fold_seen(fold_seen(sum, &r->page[0]), &r->page[1]);
		}
	for (unsigned i = 0; i < h->cuts; i++)
		sum = fold_seen(fold_seen(sum, &h->cut[i].page[0]), &h->cut[i].page[1]);
	return sum;
}

bool program_run(const struct program *p, const struct sched_plan *plan)
{
	static const unsigned extra[] = {
		[THIRD_GROW] = 1,    [THIRD_SHRINK] = 1, [THIRD_TAKE] = 1,  [THIRD_BOTH] = 2,
		[THIRD_CUT] = 1,     [THIRD_WALK] = 1,   [THIRD_TWICE] = 1, [THIRD_ABORT] = 1,
		[THIRD_FILTERS] = 1, [THIRD_TIME] = 1,   [THIRD_LATE] = 1,  [THIRD_CLOSE] = 2
	};
	struct sched_plan all = *plan;

	history.program = *p;
	history.has_time = setting.third == THIRD_TIME;
	all.fibers = p->lists + extra[setting.third];
	all.fn = fiber;
	all.begin = begin;
	all.end = end;
	all.twins = p->ops[0] == p->ops[1] && memcmp(p->op[0], p->op[1], p->ops[0]) == 0;
	return sched_explore(&all);
}

/* ---- text ---- */

void program_write(const struct setting *s, const struct program *p, char *to, size_t room)
{
	size_t used = (size_t)snprintf(to, room, "%s;%s;%s:", keys_names[s->keys],
				       init_names[s->init], third_names[s->third]);

	for (unsigned l = 0; l < p->lists; l++) {
		if (l)
			used += (size_t)snprintf(to + used, room - used, "|");
		for (unsigned i = 0; i < p->ops[l] && used + 3 < room; i++) {
			uint8_t op = p->op[l][i];

			used += (size_t)snprintf(
				to + used, room - used, "%c%s", kind_letters[OP_KIND(op)],
				OP_HAS_KEY(OP_KIND(op)) ? key_bytes[OP_KEY(op)] : "");
		}
	}
}

static bool name_in(const char *const *names, unsigned count, const char *name, unsigned *ret)
{
	for (*ret = 0; *ret < count; (*ret)++)
		if (strcmp(names[*ret], name) == 0)
			return true;
	return false;
}

static bool read_ops(const char *at, struct program *p)
{
	*p = (struct program){ .lists = 1 };
	for (; *at; at++) {
		unsigned *n = &p->ops[p->lists - 1];
		const char *kind;

		if (*at == '|') {
			if (p->lists++ == LISTS_MAX)
				return false;
			continue;
		}
		kind = strchr(kind_letters, *at);
		if (!kind || *n == OPS_MAX)
			return false;
		if (OP_HAS_KEY((unsigned)(kind - kind_letters)) && *++at != 'A' && *at != 'B')
			return false;
		p->op[p->lists - 1][(*n)++] = (uint8_t)(2 * (kind - kind_letters) + (*at == 'B'));
	}
	return true;
}

bool program_read(const char *text, struct setting *s, struct program *p)
{
	char names[3][16];
	unsigned keys, init, third;
	int used = 0;

	if (sscanf(text, "%15[a-z];%15[a-z];%15[a-z]:%n", names[0], names[1], names[2], &used) !=
		    3 ||
	    !used)
		return false;
	if (!name_in(keys_names, 5, names[0], &keys) || !name_in(init_names, 2, names[1], &init) ||
	    !name_in(third_names, ARRAY(third_names), names[2], &third))
		return false;
	*s = (struct setting){ (enum keys)keys, (enum init)init, (enum third)third };
	return read_ops(text + used, p);
}
