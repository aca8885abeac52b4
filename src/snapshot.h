/* SPDX-License-Identifier: MIT */
/* snapshot.h - what writers see of a snapshot that runs: the queue for what they remove. */
#ifndef KVS_SNAPSHOT_H
#define KVS_SNAPSHOT_H

#include "store.h"

/*
 * kvs__hand_over - Leave an unlinked entry that is owed to the running snapshot to its queue.
 *
 * Inside the section in which it was unlinked. false: the snapshot has failed, or fails now, for want of
 * memory; the caller retires the entry. OWNS: on true the snapshot's.
 */
bool kvs__hand_over(struct kvs *kv, struct kvs__slot *slot, struct kvs__entry *e);

#endif
