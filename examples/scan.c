/* SPDX-License-Identifier: MIT */
/* scan.c - walk over all keys in pages, with a cursor that is one number and holds nothing. */
#include <kvs.h>
#include <stdio.h>

#define KEYS 1000u
#define PAGE 64u

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

int main(void)
{
	struct kvs *kv;
	struct kvs_item items[PAGE];
	uint64_t cursor = 0;
	unsigned long keys = 0;
	unsigned pages = 0;
	int err = kvs_open(NULL, &kv);

	if (err)
		return 1;
	err = fill(kv);
	do {
		size_t count = 0;

		/* What a page holds is borrowed: it is valid until the section ends. */
		kvs_read_begin(kv);
		if (!err)
			err = kvs_scan(kv, &cursor, items, PAGE, &count);
		keys += count;
		kvs_read_end(kv);
		pages++;
		/* Between pages the cursor is all there is; others may write, the table may grow. */
	} while (!err && cursor != 0);
	printf("%lu keys in %u pages\n", keys, pages);
	if (err || keys != KEYS)
		return 1;
	return kvs_free(kv);
}
