/* SPDX-License-Identifier: MIT */
/* batch.c - many keys a call: each with its own status, one that fails stops none. */
#include <kvs.h>
#include <stdio.h>

#define N 5

int main(void)
{
	static const char *const words[N] = { "one", "two", "three", "four", "five" };
	struct kvs_set_item set[N] = { { { NULL, 0 }, { NULL, 0 }, { 0, 0 }, 0, 0 } };
	struct kvs_get_item get[N + 1] = { { { NULL, 0 }, { NULL, 0, 0, 0 }, 0 } };
	struct kvs_delete_item delete_two[2];
	struct kvs_batch_counts counts;
	char buf[64];
	struct kvs *kv;
	int i;

	if (kvs_open(NULL, &kv))
		return 1;
	for (i = 0; i < N; i++) {
		set[i].key = kvs_str(words[i]);
		set[i].val = kvs_str(words[N - 1 - i]);
	}
	set[0].expiry = kvs_after(60000); /* each its own */
	if (kvs_batch_set(kv, set, N, &counts))
		return 1;
	printf("set %zu\n", counts.ok);

	for (i = 0; i < N; i++)
		get[i].key = kvs_str(words[i]);
	get[N].key = kvs_str("six");
	/* The values go into one buffer, one behind the other. What was not found is no error of the call. */
	if (kvs_batch_get(kv, get, N + 1, buf, sizeof(buf), &counts))
		return 1;
	for (i = 0; i < N + 1; i++)
		if (get[i].status)
			printf("%s: %s\n", (const char *)get[i].key.data,
			       kvs_strerror(get[i].status));
		else
			printf("%s = %.*s\n", (const char *)get[i].key.data, (int)get[i].value.len,
			       (const char *)get[i].value.data);
	printf("found %zu, %zu bytes, not found %zu\n", counts.ok, (size_t)counts.bytes,
	       counts.not_found);

	delete_two[0].key = kvs_str("one");
	delete_two[1].key = kvs_str("six");
	if (kvs_batch_delete(kv, delete_two, 2, &counts))
		return 1;
	printf("deleted %zu of 2\n", counts.ok);
	return kvs_free(kv) || counts.ok != 1;
}
