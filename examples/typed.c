/* SPDX-License-Identifier: MIT */
/* typed.c - a store of the program's own objects, here persons: cloned in, shown without a copy, destroyed by the store. */
#include <kvs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct person {
	char *name;
	int age;
};

static struct person *person_make(const char *name, size_t len, int age)
{
	struct person *p = malloc(sizeof(*p));
	char *copy = malloc(len + 1);

	if (!p || !copy) {
		free(p);
		free(copy);
		return NULL;
	}
	memcpy(copy, name, len);
	copy[len] = '\0';
	p->name = copy;
	p->age = age;
	return p;
}

static void *person_clone(const void *object, size_t len, void *ctx)
{
	const struct person *p = object;

	(void)len;
	(void)ctx;
	return person_make(p->name, strlen(p->name), p->age);
}

static void person_destroy(void *object, size_t len, void *ctx)
{
	struct person *p = object;

	(void)len;
	(void)ctx;
	free(p->name);
	free(p);
}

/* For kvs_save() and kvs_load(): the age, then the name. */
static size_t person_encode(const void *object, size_t len, void *buf, size_t cap, void *ctx)
{
	const struct person *p = object;
	size_t name_len = strlen(p->name);

	(void)len;
	(void)ctx;
	if (sizeof(p->age) + name_len <= cap) {
		memcpy(buf, &p->age, sizeof(p->age));
		memcpy((char *)buf + sizeof(p->age), p->name, name_len);
	}
	return sizeof(p->age) + name_len;
}

static int person_decode(const void *bytes, size_t n, void **ret_object, size_t *ret_len, void *ctx)
{
	int age;

	(void)ctx;
	if (n < sizeof(age))
		return KVS_ERR_CORRUPTED_SNAPSHOT;
	memcpy(&age, bytes, sizeof(age));
	*ret_object = person_make((const char *)bytes + sizeof(age), n - sizeof(age), age);
	*ret_len = sizeof(struct person);
	return *ret_object ? 0 : KVS_ERR_NO_MEMORY;
}

int main(void)
{
	static const struct kvs_type type = { person_clone, person_destroy, person_encode,
					      person_decode, NULL };
	char name[] = "Ada Lovelace";
	struct person ada = { name, 36 };
	struct kvs_options options = KVS_OPTIONS_INIT;
	struct kvs_value v;
	struct kvs_pin pin;
	struct kvs *kv;
	int err;

	options.type = &type;
	if (kvs_open(&options, &kv))
		return 1;
	err = kvs_set(kv, kvs_str("ada"), kvs_bytes(&ada, sizeof(ada)), NULL);

	/* The store's own object, for as long as it is pinned; not to be changed. */
	if (!err)
		err = kvs_pin(kv, kvs_str("ada"), &v, &pin);
	if (!err) {
		const struct person *p = v.data;

		err = kvs_delete(kv, kvs_str("ada"), NULL);
		printf("%s, %d\n", p->name, p->age);
		kvs_unpin(kv, &pin);
	}
	return kvs_free(kv) || err;
}
