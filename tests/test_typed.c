/* SPDX-License-Identifier: MIT */
/*
 * test_typed.c - a store of the program's objects: each is cloned in, seen or cloned out, and destroyed once, after
 * everybody who could see it has gone.
 *
 * A test object says what it is in its first word, and no longer when it is destroyed.
 */
#include "configs.h"
#include "files.h"

#include <string.h>
#include <time.h>

#define ALIVE UINT64_C(0x600d600d600d600d)
#define DEAD UINT64_C(0xdeaddeaddeaddead)

struct person {
	uint64_t state;
	uint64_t age;
	char *name; /* in memory of its own */
};

/* What a store's type has done. */
struct census {
	struct kvs_type type;
	_Atomic uint64_t born;
	_Atomic uint64_t died;
	_Atomic int64_t
		refuse_in; /* so many clones and decodes succeed, the next does not; negative: all do */
};

static bool is_refused(struct census *c)
{
	int64_t left = c->refuse_in;

	while (left >= 0 && !atomic_compare_exchange_weak(&c->refuse_in, &left, left - 1))
		;
	return left == 0;
}

static struct person *person_make(struct census *c, const char *name, size_t len, uint64_t age)
{
	struct person *p = is_refused(c) ? NULL : malloc(sizeof(*p));

	if (p == NULL)
		return NULL;
	*p = (struct person){ ALIVE, age, malloc(len + 1) };
	check(p->name != NULL);
	memcpy(p->name, name, len);
	p->name[len] = '\0';
	c->born++;
	return p;
}

static void *person_clone(const void *object, size_t len, void *ctx)
{
	const struct person *p = object;

	check(len == sizeof(*p) && p->state == ALIVE);
	return person_make(ctx, p->name, strlen(p->name), p->age);
}

static void person_destroy(void *object, size_t len, void *ctx)
{
	struct person *p = object;
	struct census *c = ctx;

	check(len == sizeof(*p) && p->state == ALIVE);
	p->state = DEAD;
	free(p->name);
	free(p);
	c->died++;
}

static size_t person_encode(const void *object, size_t len, void *buf, size_t cap, void *ctx)
{
	const struct person *p = object;
	size_t need = sizeof(p->age) + strlen(p->name);

	(void)ctx;
	check(len == sizeof(*p) && p->state == ALIVE);
	if (need <= cap) {
		memcpy(buf, &p->age, sizeof(p->age));
		memcpy((char *)buf + sizeof(p->age), p->name, need - sizeof(p->age));
	}
	return need;
}

static int person_decode(const void *bytes, size_t n, void **ret_object, size_t *ret_len, void *ctx)
{
	uint64_t age;

	if (n < sizeof(age))
		return KVS_ERR_CORRUPTED_SNAPSHOT;
	memcpy(&age, bytes, sizeof(age));
	*ret_object = person_make(ctx, (const char *)bytes + sizeof(age), n - sizeof(age), age);
	*ret_len = sizeof(struct person);
	return *ret_object ? KVS_OK : KVS_ERR_NO_MEMORY;
}

static struct kvs *census_open(struct census *c, struct counting *mem)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	*c = (struct census){ .type = { person_clone, person_destroy, person_encode, person_decode,
					c } };
	c->refuse_in = -1;
	counting_init(mem, true);
	o.type = &c->type;
	o.allocator = &mem->hooks;
	check_ok(kvs_open(&o, &kv));
	return kv;
}

static void census_close(struct census *c, struct counting *mem, struct kvs *kv)
{
	check_ok(kvs_free(kv));
	check_u64(c->died, c->born);
	check_u64(mem->live_blocks, 0);
}

/* A value of the caller's own. */
static struct kvs_slice person(struct person *p, const char *name, uint64_t age)
{
	*p = (struct person){ ALIVE, age, (char *)(uintptr_t)name };
	return kvs_bytes(p, sizeof(*p));
}

static void check_person(const struct kvs_value *v, const char *name, uint64_t age)
{
	const struct person *p = v->data;

	check(v->len == sizeof(*p) && p->state == ALIVE && p->age == age);
	check(strcmp(p->name, name) == 0);
}

static void check_stored(struct kvs *kv, const char *key, const char *name, uint64_t age)
{
	struct kvs_value v;

	kvs_read_begin(kv);
	check_ok(kvs_borrow(kv, kvs_str(key), &v));
	check_person(&v, name, age);
	kvs_read_end(kv);
}

/* ---- Each call -------------------------------------------------------------------------- */

static int grow_older(const struct kvs_value *old, struct kvs_slice *ret_new, void *arg)
{
	struct person *p = arg;

	if (old == NULL)
		return KVS_UPDATE_KEEP;
	*p = *(const struct person *)old->data;
	p->age++;
	*ret_new = kvs_bytes(p, sizeof(*p));
	return KVS_UPDATE_SET;
}

static void test_objects_are_cloned_in_and_out(void **state)
{
	struct kvs_value v = { NULL, 0, 0, 0 };
	struct kvs_get_item get = { .key = kvs_str("a") };
	struct census c;
	struct counting mem;
	struct kvs *kv = census_open(&c, &mem);
	struct person p;
	uint64_t version = 0;
	struct kvs_pin pin;

	(void)state;
	check_ok(kvs_set(kv, kvs_str("a"), person(&p, "Ada", 36), &version));
	p.age = 1; /* the caller's own, which the store does not have */
	check_stored(kv, "a", "Ada", 36);
	check_u64(c.born, 1);
	check_ok(kvs_get_alloc(kv, kvs_str("a"), &v));
	check_person(&v, "Ada", 36);
	check_u64(c.born, 2);
	kvs_value_free(kv, &v);
	kvs_value_free(kv, &v);
	check_u64(c.died, 1);
	check_ok(kvs_batch_get_alloc(kv, &get, 1, NULL));
	check_person(&get.value, "Ada", 36);
	kvs_value_free(kv, &get.value);
	check_ok(kvs_get_and_set(kv, kvs_str("a"), person(&p, "Grace", 85), &v, NULL));
	check_person(&v, "Ada", 36);
	kvs_value_free(kv, &v);
	check_ok(kvs_pin(kv, kvs_str("a"), &v, &pin));
	check_ok(kvs_update(kv, kvs_str("a"), grow_older, &p, NULL));
	check_stored(kv, "a", "Grace", 86);
	check_ok(kvs_expire(kv, kvs_str("a"), 1000000, NULL)); /* shares the object */
	check_stored(kv, "a", "Grace", 86);
	check_u64(c.born, 6);
	check_ok(kvs_drain(kv));
	check_person(&v, "Grace", 85);
	check_u64(c.died, 4);
	kvs_unpin(kv, &pin);
	check_u64(c.died, 5);
	check_ok(kvs_get_and_delete(kv, kvs_str("a"), &v));
	check_person(&v, "Grace", 86);
	kvs_value_free(kv, &v);
	check_u64(store_len(kv), 0);
	census_close(&c, &mem, kv);
}

static void test_calls_for_bytes_are_refused(void **state)
{
	struct kvs_get_item get = { .key = kvs_str("a") };
	struct census c;
	struct counting mem;
	struct kvs *kv = census_open(&c, &mem);
	struct kvs_value v;
	struct person p;
	char buf[64];

	(void)state;
	check_ok(kvs_set(kv, kvs_str("a"), person(&p, "Ada", 36), NULL));
	check_status(kvs_get(kv, kvs_str("a"), buf, sizeof(buf), &v), KVS_ERR_TYPED);
	check_status(kvs_get(kv, kvs_str("a"), NULL, 0, &v), KVS_ERR_TYPED);
	check_status(kvs_batch_get(kv, &get, 1, buf, sizeof(buf), NULL), KVS_ERR_TYPED);
	check_status(kvs_append(kv, kvs_str("a"), kvs_str("x"), NULL, NULL), KVS_ERR_TYPED);
	check_status(kvs_increment(kv, kvs_str("a"), 1, NULL, NULL), KVS_ERR_TYPED);
	check_status(kvs_increment_i64(kv, kvs_str("new"), 1, NULL, NULL), KVS_ERR_TYPED);
	check_status(kvs_set(kv, kvs_str("a"), kvs_bytes(NULL, 0), NULL), KVS_ERR_INVALID_ARGUMENT);
	check_ok(kvs_exists(kv, kvs_str("a")));
	check_stored(kv, "a", "Ada", 36);
	census_close(&c, &mem, kv);
}

static void test_a_type_must_be_whole(void **state)
{
	static const struct kvs_type bad[] = {
		{ .destroy = person_destroy },
		{ .clone = person_clone },
		{ person_clone, person_destroy, person_encode, NULL, NULL },
		{ person_clone, person_destroy, NULL, person_decode, NULL },
	};
	struct kvs_type plain = { .clone = person_clone, .destroy = person_destroy };
	struct kvs_options o = KVS_OPTIONS_INIT;
	const char *option = "";
	struct kvs *kv;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		o.type = &bad[i];
		check_status(kvs_options_check(&o, &option), KVS_ERR_INVALID_ARGUMENT);
		check(strcmp(option, "type") == 0);
	}
	o.type = &plain;
	check_ok(kvs_open(&o, &kv));
	check_status(kvs_save(kv, "nowhere", NULL), KVS_ERR_TYPED);
	check_status(kvs_load(kv, "nowhere", NULL), KVS_ERR_TYPED);
	close_store(kv);
}

/* Whichever clone or allocation is refused, nothing is changed, and nothing stays behind. */
static void test_a_refused_clone_changes_nothing(void **state)
{
	struct counting mem;
	struct census c;
	struct kvs *kv = census_open(&c, &mem);
	struct kvs_value v = { NULL, 0, 0, 0 };
	struct person p;

	(void)state;
	check_ok(kvs_set(kv, kvs_str("a"), person(&p, "Ada", 36), NULL));
	c.refuse_in = 0;
	check_status(kvs_set(kv, kvs_str("a"), person(&p, "Bob", 1), NULL), KVS_ERR_NO_MEMORY);
	c.refuse_in = 0;
	check_status(kvs_get_alloc(kv, kvs_str("a"), &v), KVS_ERR_NO_MEMORY);
	c.refuse_in = 1;
	check_status(kvs_get_and_set(kv, kvs_str("a"), person(&p, "Bob", 1), &v, NULL),
		     KVS_ERR_NO_MEMORY);
	c.refuse_in = 0;
	check_status(kvs_update(kv, kvs_str("a"), grow_older, &p, NULL), KVS_ERR_NO_MEMORY);
	for (int64_t fail = 0; fail < 3; fail++) {
		counting_fail(&mem, fail, true);
		(void)kvs_set(kv, kvs_str("b"), person(&p, "Bob", 1), NULL);
		counting_fail_never(&mem);
	}
	check_stored(kv, "a", "Ada", 36);
	census_close(&c, &mem, kv);
}

/* ---- Snapshots -------------------------------------------------------------------------- */

#define PEOPLE 300u

static void long_name(char *room, size_t i)
{
	size_t len = i % 50 == 7 ? 200000 : 3 + i % 40;

	memset(room, 'a' + (int)(i % 26), len);
	room[len] = '\0';
}

static void fill(struct kvs *kv)
{
	char *name = malloc(200001), room[KEY_ROOM];
	struct person p;

	check(name != NULL);
	for (size_t i = 0; i < PEOPLE; i++) {
		long_name(name, i);
		check_ok(kvs_set(kv, make_key(room, i), person(&p, name, i), NULL));
	}
	free(name);
}

static void check_filled(struct kvs *kv)
{
	char *name = malloc(200001), room[KEY_ROOM];
	struct kvs_value v;

	check(name != NULL);
	check_u64(store_len(kv), PEOPLE);
	for (size_t i = 0; i < PEOPLE; i++) {
		long_name(name, i);
		kvs_read_begin(kv);
		check_ok(kvs_borrow(kv, make_key(room, i), &v));
		check_person(&v, name, i);
		kvs_read_end(kv);
	}
	free(name);
}

static void test_snapshots_go_through_encode_and_decode(void **state)
{
	char dir[PATH_ROOM], path[PATH_ROOM];
	struct counting mem[2];
	struct census c[2];
	struct kvs *kv[2];

	(void)state;
	dir_make(dir);
	(void)dir_path(path, dir, "snapshot");
	for (size_t i = 0; i < 2; i++)
		kv[i] = census_open(&c[i], &mem[i]);
	fill(kv[0]);
	check_ok(kvs_save(kv[0], path, NULL));
	check_filled(kv[0]);
	check_ok(kvs_load(kv[1], path, NULL));
	check_filled(kv[1]);
	check_u64(c[1].born - c[1].died, PEOPLE);
	c[1].refuse_in = PEOPLE / 2; /* a load that fails leaves what was there */
	check_status(kvs_load(kv[1], path, NULL), KVS_ERR_NO_MEMORY);
	check_filled(kv[1]);
	check_u64(c[1].born - c[1].died, PEOPLE);
	for (size_t i = 0; i < 2; i++)
		census_close(&c[i], &mem[i], kv[i]);
	dir_remove(dir);
}

/* Objects that count for whatever decode says. */
struct weights {
	struct kvs_type type;
	size_t decoded; /* what decode says */
	uint64_t born, died;
};

static void *weight_clone(const void *object, size_t len, void *ctx)
{
	struct weights *w = ctx;
	char *copy = malloc(1);

	(void)len;
	check(copy != NULL);
	*copy = *(const char *)object;
	w->born++;
	return copy;
}

static void weight_destroy(void *object, size_t len, void *ctx)
{
	struct weights *w = ctx;

	(void)len;
	free(object);
	w->died++;
}

static size_t weight_encode(const void *object, size_t len, void *buf, size_t cap, void *ctx)
{
	(void)len;
	(void)ctx;
	if (cap)
		*(char *)buf = *(const char *)object;
	return 1;
}

static int weight_decode(const void *bytes, size_t n, void **ret_object, size_t *ret_len, void *ctx)
{
	struct weights *w = ctx;

	check(n == 1);
	*ret_object = weight_clone(bytes, n, ctx);
	*ret_len = w->decoded;
	return KVS_OK;
}

/* Its length has 30 bits in an entry, and those above say how the entry lies in memory. */
static void test_a_decoded_object_is_as_large_as_a_value_at_most(void **state)
{
	static const size_t lens[] = { 0,
				       KVS_VALUE_MAX,
				       (size_t)1 << 30,
				       (size_t)1 << 31,
				       (size_t)3 << 30,
				       ((size_t)1 << 32) + 1,
				       SIZE_MAX };
	struct weights w = { .type = { weight_clone, weight_destroy, weight_encode, weight_decode,
				       &w } };
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs_options o = KVS_OPTIONS_INIT;
	char dir[PATH_ROOM], path[PATH_ROOM];
	struct kvs_file_error error;
	struct counting mem;
	struct kvs_value v;
	struct kvs *kv;

	(void)state;
	dir_make(dir);
	(void)dir_path(path, dir, "snapshot");
	counting_init(&mem, true);
	o.type = &w.type;
	o.allocator = &mem.hooks;
	lo.error = &error;
	check_ok(kvs_open(&o, &kv));
	check_ok(kvs_set(kv, kvs_str("plain"), kvs_bytes("p", 1), NULL));
	check_ok(kvs_set_ex(kv, kvs_str("timed"), kvs_bytes("t", 1), kvs_after(1000000), NULL));
	check_ok(kvs_save(kv, path, NULL));
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		bool fits = lens[i] <= KVS_VALUE_MAX;

		w.decoded = lens[i];
		error = (struct kvs_file_error){ 0, 0, 0, NULL };
		check_status(kvs_load(kv, path, &lo), fits ? KVS_OK : KVS_ERR_VALUE_TOO_LARGE);
		check_u64(store_len(kv), 2);
		check(fits || (error.code == KVS_ERR_VALUE_TOO_LARGE && error.offset > 64));
		kvs_read_begin(kv);
		check_ok(kvs_borrow(kv, kvs_str("plain"), &v));
		check_u64(v.len, fits ? lens[i] : KVS_VALUE_MAX);
		check(*(const char *)v.data == 'p');
		kvs_read_end(kv);
	}
	check_ok(kvs_free(kv));
	check_u64(w.died, w.born);
	check_u64(w.born, 2 + 2 * 2 + 5);
	check_u64(mem.live_blocks, 0);
	dir_remove(dir);
}

static void test_the_handle_shows_objects(void **state)
{
	struct kvs_snapshot *snapshot;
	struct kvs_snapshot_part *part;
	struct kvs_item item;
	struct counting mem;
	struct census c;
	struct kvs *kv = census_open(&c, &mem);
	uint64_t count = 0, seen = 0;

	(void)state;
	fill(kv);
	check_ok(kvs_snapshot_begin(kv, NULL, &snapshot));
	check_ok(kvs_snapshot_part_begin(snapshot, &part));
	fill(kv); /* the old ones stay for the snapshot */
	while (kvs_snapshot_next(part, &item) == KVS_OK) {
		const struct person *p = item.value.data;

		check(p->state == ALIVE && p->age == key_number(item.key));
		seen++;
	}
	kvs_snapshot_part_end(part);
	check_ok(kvs_snapshot_end(snapshot, &count));
	check(count == PEOPLE && seen == PEOPLE);
	census_close(&c, &mem, kv);
}

/* ---- Threads ---------------------------------------------------------------------------- */

#define THREADS 4u
#define KEYS 12u

/* Each thread makes @rounds, and more until @until_ms: time may lengthen the run, and decides nothing else. */
struct mixed {
	struct kvs *kv;
	size_t rounds;
	uint64_t until_ms; /* of clock_ms */
	_Atomic uint64_t made, seen;
};

static uint64_t clock_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Look at an object for a while: whoever destroyed it now would be seen. */
static void look(struct mixed *m, const struct kvs_value *v)
{
	const struct person *p = v->data;

	for (unsigned i = 0; i < 3; i++) {
		check(p->state == ALIVE && strlen(p->name) == p->age % 100);
		(void)kvs_exists(m->kv, kvs_str("?"));
	}
	m->seen++;
}

static void mix(struct mixed *m, struct rng *r)
{
	static const char name[101] =
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxx";
	uint64_t age = rng_below(r, 100);
	struct kvs_value v;
	struct kvs_pin pin;
	struct person p, copy;
	char room[KEY_ROOM];
	struct kvs_slice key = make_key(room, rng_below(r, KEYS));
	struct kvs_slice val = person(&p, name + 100 - age, age);

	switch (rng_below(r, 9)) {
	case 0:
	case 1:
		check_ok(kvs_set(m->kv, key, val, NULL));
		break;
	case 2:
		(void)kvs_delete(m->kv, key, NULL);
		break;
	case 3:
		if (kvs_get_alloc(m->kv, key, &v) == KVS_OK) {
			look(m, &v);
			kvs_value_free(m->kv, &v);
		}
		break;
	case 4:
		check_ok(kvs_get_and_set(m->kv, key, val, &v, NULL));
		kvs_value_free(m->kv, &v);
		break;
	case 5:
		if (kvs_pin(m->kv, key, &v, &pin) == KVS_OK) {
			look(m, &v);
			kvs_unpin(m->kv, &pin);
		}
		break;
	case 6:
		(void)kvs_touch(m->kv, key, 1000000 + (int64_t)age, NULL);
		break;
	case 7:
		copy = p;
		(void)kvs_compare_and_set(m->kv, key, kvs_bytes(&copy, sizeof(copy)), 1, NULL);
		break;
	default:
		kvs_read_begin(m->kv);
		if (kvs_borrow(m->kv, key, &v) == KVS_OK)
			look(m, &v);
		kvs_read_end(m->kv);
		break;
	}
}

static void member(size_t index, void *arg)
{
	struct mixed *m = arg;
	struct rng r;
	size_t i = 0;

	rng_init(&r, index);
	while (i < m->rounds || (i % 256 == 0 ? clock_ms() < m->until_ms : true)) {
		mix(m, &r);
		i++;
		if (index == 0 && i % 4096 == 0)
			check_ok(kvs_clear(m->kv));
	}
	m->made += i;
}

static void test_each_object_is_destroyed_once_after_its_readers(void **state)
{
	struct mixed m = { .rounds = util_scaled(3000, 80000, 80000) };
	uint64_t seconds = util_scaled(0, 0, 60);
	struct counting mem;
	struct census c;

	(void)state;
	m.kv = census_open(&c, &mem);
	m.until_ms = clock_ms() + seconds * 1000;
	run_threads(THREADS, member, &m);
	census_close(&c, &mem, m.kv);
	util_note(
		"for %llu s at least: operations %llu, looked at %llu times, cloned %llu, destroyed %llu",
		(unsigned long long)seconds, (unsigned long long)m.made, (unsigned long long)m.seen,
		(unsigned long long)c.born, (unsigned long long)c.died);
	check(m.made >= THREADS * m.rounds);
	check(m.seen > m.made / 16 && c.born > m.made / 4 && c.died > m.made / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_objects_are_cloned_in_and_out),
		cmocka_unit_test(test_calls_for_bytes_are_refused),
		cmocka_unit_test(test_a_type_must_be_whole),
		cmocka_unit_test(test_a_refused_clone_changes_nothing),
		cmocka_unit_test(test_snapshots_go_through_encode_and_decode),
		cmocka_unit_test(test_a_decoded_object_is_as_large_as_a_value_at_most),
		cmocka_unit_test(test_the_handle_shows_objects),
		cmocka_unit_test(test_each_object_is_destroyed_once_after_its_readers),
	};

	return util_main("typed", tests, ARRAY_LEN(tests));
}
