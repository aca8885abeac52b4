/* SPDX-License-Identifier: MIT */
/* write.h - the engine of write.c, for those who make many writes, or build their entry from the old one. */
#ifndef KVS_WRITE_H
#define KVS_WRITE_H

#include "store.h"

enum mode {
	MODE_SET,
	MODE_ADD,
	MODE_REPLACE,
	MODE_COMPARE,
	MODE_DELETE,
	MODE_UPDATE,
	MODE_EXPIRE,
	MODE_TOUCH
};

#define AGAIN 1 /* internal: the CAS was lost */

struct write;

/* What an UPDATE makes of what is there; else an error, which ends it. */
enum made { MADE_ENTRY = 0, MADE_NOTHING = 1, MADE_DELETE = 2 };

/*
 * Makes w->fresh from the live entry of the key (NULL: there is none), or decides otherwise. Called inside the section,
 * anew for every attempt.
 */
typedef int (*kvs__make_fn)(struct write *w, const struct kvs__entry *e);

struct write {
	struct kvs *kv;
	struct kvs__slot *slot;
	struct kvs__table *table;
	struct kvs__target target;
	enum mode mode;
	kvs__make_fn make; /* UPDATE */
	uint64_t expected; /* COMPARE */
	bool sent;         /* a message to the one who turns the wheel */
	int64_t deadline;  /* of what is written; KVS__NO_DEADLINE, which is 0: none */
	struct kvs__entry
		*fresh; /* private until published, not ours from then on; NULL: the key goes */
	uint64_t fresh_bytes;     /* its footprint, while it could still be looked at */
	struct kvs__batch *batch; /* reserved, or NULL */
	struct kvs__view view;    /* of the cut, as this attempt saw it */
	struct kvs_value *old;    /* NULL: the caller does not want a copy of what was there */
	uint64_t version;         /* what is reported */
};

/*
 * kvs__write_prepare - Everything that can be refused before the store is looked at; then the entry is made.
 *
 * kv and mode are set. @val NULL for DELETE, UPDATE, EXPIRE and TOUCH. On an error there is nothing to give back.
 */
int kvs__write_prepare(struct write *w, struct kvs_slice key, const struct kvs_slice *val);

/* kvs__write_run - The write itself, in a section of its own. OWNS: whatever the answer, nothing is left to give back. */
int kvs__write_run(struct write *w);

#endif
