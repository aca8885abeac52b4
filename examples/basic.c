/* SPDX-License-Identifier: MIT */
/* basic.c - open, set, get in three forms, versions, delete, close. */
#include <kvs.h>
#include <stdio.h>

/* Tell what went wrong, and give an exit code. */
static int failed(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, kvs_strerror(err));
	return 1;
}

static int show(struct kvs *kv, const char *key)
{
	char buf[64];
	struct kvs_value v;
	int err = kvs_get(kv, kvs_str(key), buf, sizeof(buf), &v);

	if (err)
		return failed(key, err);
	printf("%s = %.*s (version %llu)\n", key, (int)v.len, (const char *)v.data,
	       (unsigned long long)v.version);
	return 0;
}

int main(void)
{
	struct kvs *kv;
	struct kvs_value v;
	uint64_t version;
	int err = kvs_open(NULL, &kv);

	if (err)
		return failed("open", err);
	err = kvs_set(kv, kvs_str("planet"), kvs_str("earth"), &version);
	if (err || show(kv, "planet"))
		return failed("set", err);

	/* Only if nobody else changed it since we looked: */
	err = kvs_compare_and_set(kv, kvs_str("planet"), kvs_str("mars"), version, NULL);
	if (err || show(kv, "planet"))
		return failed("compare and set", err);
	err = kvs_compare_and_set(kv, kvs_str("planet"), kvs_str("venus"), version, NULL);
	printf("again with the old version: %s\n", kvs_strerror(err));

	/* Without copying: valid until the section ends, even if the key is deleted meanwhile. */
	kvs_read_begin(kv);
	err = kvs_borrow(kv, kvs_str("planet"), &v);
	if (!err)
		err = kvs_delete(kv, kvs_str("planet"), NULL);
	if (!err)
		printf("borrowed: %.*s\n", (int)v.len, (const char *)v.data);
	kvs_read_end(kv);
	if (err)
		return failed("borrow", err);
	return kvs_free(kv);
}
