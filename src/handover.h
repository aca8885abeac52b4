/* SPDX-License-Identifier: MIT */
/*
 * handover.h - messages from many threads to one: a lock-free stack, taken whole (ConcurrencyKit's).
 *
 * The message is a link within what it is about, so sending needs no memory and cannot fail.
 */
#ifndef KVS_HANDOVER_H
#define KVS_HANDOVER_H

#include <stdbool.h>

#include "compiler.h"

struct kvs__message {
	struct kvs__message *next;
};

/* As large as a ck_stack_t. All zero: empty. */
struct kvs__mailbox {
	struct kvs__message *head; /* (a) */
	char *generation;          /* not used by the operations here */
};

/* kvs__mailbox_send - Put @message in. Any thread; lock-free. PAIRS(H1) */
void kvs__mailbox_send(struct kvs__mailbox *b, struct kvs__message *message);

/* kvs__mailbox_has_some - May there be something in it? */
bool kvs__mailbox_has_some(const struct kvs__mailbox *b);

/* kvs__mailbox_peek - The newest of what is in it, and stays there; NULL: nothing. Nobody takes meanwhile. PAIRS(H1) */
const struct kvs__message *kvs__mailbox_peek(const struct kvs__mailbox *b);

/* kvs__mailbox_take - Take all that is in it, the newest first; NULL: nothing. PAIRS(H1) */
struct kvs__message *kvs__mailbox_take(struct kvs__mailbox *b);

#endif
