/* SPDX-License-Identifier: MIT */
/*
 * cut_near.h - for tests that make many snapshots: stores whose grace periods are short, and
 * threads that linger where it matters.
 *
 * A store's grace periods go through its worker, which lets 10 ms pass between two of them. A store
 * without a worker, as a fork's child may have one, waits in place, which is over as soon as the
 * sections are; what is removed is kept until kvs_drain().
 *
 * In builds with --enable-yield a thread that is about to look at the cut, or to settle a stamp,
 * lingers at random while a cut or an end is being made, until that is over, or for longer.
 */
#ifndef KVS_TESTS_CUT_NEAR_H
#define KVS_TESTS_CUT_NEAR_H

#include "util.h"

/* near_open - A store of @shards without a worker; @clock may be NULL. near_close - the end of it. */
struct kvs *near_open(int32_t shards, const struct kvs_clock *clock);
void near_close(struct kvs *kv);

/* near_begin, near_end - As kvs_snapshot_begin and kvs_snapshot_end, while threads linger. */
struct kvs_snapshot *near_begin(struct kvs *kv);
void near_end(struct kvs_snapshot *s, uint64_t want_count);

/* near_walk - Hand every entry of the cut to @fn; returns how many. */
uint64_t near_walk(struct kvs_snapshot *s, void (*fn)(const struct kvs_item *item, void *arg),
		   void *arg);

#endif /* KVS_TESTS_CUT_NEAR_H */
