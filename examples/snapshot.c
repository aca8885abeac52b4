/* SPDX-License-Identifier: MIT */
/* snapshot.c - save a store to a file, load the file into another store, and say what went wrong if it did. */
#include <kvs.h>
#include <stdio.h>
#include <string.h>

#define KEYS 1000u
#define NAME "example.kvs"

static int fill(struct kvs *kv)
{
	char key[16];
	unsigned i;
	int err = 0;

	for (i = 0; i < KEYS && !err; i++) {
		int len = snprintf(key, sizeof(key), "key-%u", i);

		err = kvs_set(kv, kvs_bytes(key, (size_t)len), kvs_str("value"), NULL);
	}
	return err;
}

static int save(struct kvs *kv, struct kvs_file_error *error)
{
	struct kvs_save_options options = KVS_SAVE_OPTIONS_INIT;

	options.flags = KVS_SAVE_KEEP_PREVIOUS;
	options.error = error;
	return kvs_save(kv, NAME, &options); /* others may read and write meanwhile */
}

static int load(struct kvs *kv, struct kvs_file_error *error)
{
	struct kvs_load_options options = KVS_LOAD_OPTIONS_INIT;

	options.error = error;
	return kvs_load(kv, NAME, &options); /* readers see the old contents, then the new */
}

int main(void)
{
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct kvs *kv, *other;
	uint64_t keys = 0;
	int err;

	if (kvs_open(NULL, &kv) || kvs_open(NULL, &other))
		return 1;
	err = fill(kv);
	if (!err)
		err = save(kv, &error);
	if (!err)
		err = load(other, &error);
	if (err)
		printf("%s: %s: %s (%s)\n", NAME, kvs_errname(err), error.cause ? error.cause : "?",
		       error.system_error ? strerror(error.system_error) : "no system error");
	(void)kvs_len(other, &keys);
	printf("%llu keys loaded\n", (unsigned long long)keys);
	(void)remove(NAME);
	(void)remove(NAME ".prev");
	err |= kvs_free(kv) | kvs_free(other);
	return err || keys != KEYS;
}
