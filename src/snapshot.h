/* SPDX-License-Identifier: MIT */
/* snapshot.h - what writers see of a snapshot that runs: the queue for what they remove. */
#ifndef KVS_SNAPSHOT_H
#define KVS_SNAPSHOT_H

#include "store.h"

/*
 * kvs__leave_to_snapshot - A snapshot runs. Was @e, removed in the present section and unlinked, there at its cut, and
 * has the walker not taken it? Then it is the snapshot's now.
 *
 * @view        as the attempt that removed it saw the cut.
 * @successor   what took its place; NULL: it was deleted.
 * OWNS: on true the snapshot's; else the caller retires it.
 */
bool kvs__leave_to_snapshot(struct kvs *kv, struct kvs__slot *slot, struct kvs__view view,
			    struct kvs__entry *e, const struct kvs__entry *successor);

/*
 * kvs__hand_over - Leave an unlinked entry that is owed to the running snapshot to its queue.
 *
 * Inside the section in which it was unlinked. false: the snapshot has failed, or fails now, for want of
 * memory; the caller retires the entry. OWNS: on true the snapshot's.
 */
bool kvs__hand_over(struct kvs *kv, struct kvs__slot *slot, struct kvs__entry *e);

/* kvs__snapshot_made_at - The cut's instant by the wall, ms since 1970: by the clock that its expiries are of. */
int64_t kvs__snapshot_made_at(const struct kvs_snapshot *s);

#endif
