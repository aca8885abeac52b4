/* SPDX-License-Identifier: MIT */
/* ttl.c - keys that expire: sessions that live as long as they are used. */
#include <kvs.h>
#include <stdio.h>
#include <time.h>

static void sleep_ms(long ms)
{
	struct timespec t;

	t.tv_sec = ms / 1000;
	t.tv_nsec = ms % 1000 * 1000000;
	nanosleep(&t, NULL);
}

/* Wait for a key to go. It goes by itself; a deadline is kept to the millisecond. */
static int wait_gone(struct kvs *kv, struct kvs_slice key)
{
	int i;

	for (i = 0; i < 1000; i++) {
		if (kvs_exists(kv, key) == KVS_ERR_NOT_FOUND)
			return 0;
		sleep_ms(5);
	}
	return 1;
}

int main(void)
{
	struct kvs_slice session = kvs_lit("session"), token = kvs_lit("token");
	struct kvs *kv;
	int64_t left = 0;
	int err = kvs_open(NULL, &kv);

	if (err)
		return 1;
	/* From now on, or at a time of the wall clock: kvs_at(). */
	err = kvs_set_ex(kv, session, kvs_lit("Ada"), kvs_after(60000), NULL);
	if (!err)
		err = kvs_ttl(kv, session, &left);
	printf("the session has %s\n", left > 59000 ? "about a minute" : "too little");
	/* At each use: another hour, but never less than it has. */
	if (!err)
		err = kvs_touch(kv, session, 3600000, NULL);
	/* Or no expiry at all. */
	if (!err)
		err = kvs_persist(kv, session, NULL);
	if (!err)
		err = kvs_ttl(kv, session, &left);
	printf("then it %s\n", left == 0 ? "stays" : "expires");
	if (!err)
		err = kvs_set_ex(kv, token, kvs_lit("secret"), kvs_after(20), NULL);
	if (!err)
		err = wait_gone(kv, token);
	printf("the token is %s\n", err ? "still there" : "gone");
	return kvs_free(kv) || err;
}
