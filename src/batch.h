/* SPDX-License-Identifier: MIT */
/* batch.h - batches of gets, for the public calls in read.c. */
#ifndef KVS_BATCH_H
#define KVS_BATCH_H

#include "kvs.h"

/* kvs__batch_get and its kin - kvs_batch_get and its kin, for any number of items. */
int kvs__batch_get(struct kvs *kv, struct kvs_get_item *items, size_t n, void *buf, size_t cap,
		   struct kvs_batch_counts *ret_counts);
int kvs__batch_get_alloc(struct kvs *kv, struct kvs_get_item *items, size_t n,
			 struct kvs_batch_counts *ret_counts);
int kvs__batch_borrow(struct kvs *kv, struct kvs_get_item *items, size_t n,
		      struct kvs_batch_counts *ret_counts);

#endif
