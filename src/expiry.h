/* SPDX-License-Identifier: MIT */
/*
 * expiry.h - what writers tell the timer wheel, and the role that turns it. The essay is in expiry.c.
 */
#ifndef KVS_EXPIRY_H
#define KVS_EXPIRY_H

#include "store.h"

/* kvs__expiry_start - The wheel, and the role's slot. false: no memory. kvs__expiry_end - With the store. */
bool kvs__expiry_start(struct kvs *kv, uint32_t tick_ms);
void kvs__expiry_end(struct kvs *kv);

/*
 * kvs__expiry_added - A timed entry was published. In the section in which it was.
 * kvs__expiry_retired - It was removed: in place of kvs__retire(), after it was unlinked. @expired: for its deadline.
 *
 * kvs__expiry_pass_on - The same of what was left to a snapshot, which is done with it: counts no bytes; @slot may be NULL.
 *
 * Lock-free, and need no memory. @slot is the calling thread's.
 */
void kvs__expiry_added(struct kvs__slot *slot, struct kvs__entry *e);
void kvs__expiry_retired(struct kvs *kv, struct kvs__slot *slot, struct kvs__entry *e);
void kvs__expiry_pass_on(struct kvs *kv, struct kvs__slot *slot, struct kvs__entry *e);

/* kvs__expiry_mark - @e, which the caller has marked, was removed because its deadline had passed. */
KVS_INLINE void kvs__expiry_mark(struct kvs__entry *e)
{
	kvs__u64 *deadline = &kvs__entry_timed(e)->timer.deadline;

	store_relaxed(deadline, load_relaxed(deadline) | KVS__TIMER_FLAG);
}

/* kvs__expiry_help - A write that sent messages is done: does a piece of the role's work if too many wait. */
void kvs__expiry_help(struct kvs *kv, struct kvs__slot *slot);

/* What is left after a pass. */
enum kvs__expiry_left {
	KVS__EXPIRY_NONE = 0, /* nothing: until a write sends a message */
	KVS__EXPIRY_LATER,    /* timers that are not due; or somebody else has the role */
	KVS__EXPIRY_NOW,      /* the budget was spent */
};

/*
 * kvs__expiry_pass - Take the role, and do what is due at @now_ms: at most about *@budget messages and timers, which it spends.
 *
 * Any thread, not inside a section; never waits.
 */
enum kvs__expiry_left kvs__expiry_pass(struct kvs *kv, int64_t now_ms, uint64_t *budget);

/*
 * kvs__expiry_flush - Take the role, if need be wait for it, and look at all messages sent before.
 *
 * What they retire is handed over before the role is given up: nobody else has that batch in hand, nor will.
 * Not inside a section. false: there was no memory to retire some entries; they wait.
 */
bool kvs__expiry_flush(struct kvs *kv);

/* kvs__expiry_free_dead - After close and a flush: free what there was no memory to retire. Returns their footprints. */
uint64_t kvs__expiry_free_dead(struct kvs *kv);

/*
 * kvs__expiry_forget - Entries of a root that is gone leave the wheel, for who is about to free them.
 *
 * After a flush that came after a grace period: no message about them is under way.
 */
void kvs__expiry_forget(struct kvs *kv, struct kvs__entry *const *entries, size_t n);

/*
 * kvs__expiry_adopt - In a fork's child, with nobody else about: @e, timed and live, stands where a thread that is not here
 * was writing. If that has not sent ADDED, this does.
 */
void kvs__expiry_adopt(struct kvs *kv, struct kvs__entry *e);

/* kvs__expiry_lock, kvs__expiry_unlock - Nobody has the role, around a fork. */
void kvs__expiry_lock(struct kvs *kv);
void kvs__expiry_unlock(struct kvs *kv);

#endif
