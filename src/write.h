/* SPDX-License-Identifier: MIT */
/* write.h - the engine of write.c, for those who make many writes, or build their entry from the old one. */
#ifndef KVS_WRITE_H
#define KVS_WRITE_H

#include "store.h"

enum mode { MODE_SET, MODE_ADD, MODE_REPLACE, MODE_COMPARE, MODE_DELETE, MODE_EXPIRE, MODE_TOUCH };

#define AGAIN 1 /* internal: the CAS was lost */

struct write {
	struct kvs *kv;
	struct kvs__slot *slot;
	struct kvs__table *table;
	struct kvs__target target;
	enum mode mode;
	uint64_t expected; /* COMPARE */
	int64_t deadline;  /* of what is written; KVS__NO_DEADLINE, which is 0: none */
	struct kvs__entry
		*fresh;       /* private until published, not ours from then on; NULL for DELETE */
	uint64_t fresh_bytes; /* its footprint, while it could still be looked at */
	struct kvs__batch *batch; /* reserved, or NULL */
	struct kvs__view view;    /* of the cut, as this attempt saw it */
	struct kvs_value *old;    /* NULL: the caller does not want a copy of what was there */
	uint64_t version;         /* what is reported */
};

/*
 * kvs__write_prepare - Everything that can be refused before the store is looked at; then the entry is made.
 *
 * kv and mode are set. @val NULL for DELETE, EXPIRE and TOUCH. On an error there is nothing to give back.
 */
int kvs__write_prepare(struct write *w, struct kvs_slice key, const struct kvs_slice *val);

/* kvs__write_run - The write itself, in a section of its own. OWNS: whatever the answer, nothing is left to give back. */
int kvs__write_run(struct write *w);

#endif
