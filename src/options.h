/* SPDX-License-Identifier: MIT */
/* options.h - options as the library sees them: of full size, checked. */
#ifndef KVS_OPTIONS_H
#define KVS_OPTIONS_H

#include "kvs.h"

#define KVS__SHARDS_DEFAULT 16

/*
 * kvs__sized_copy - Copy a struct that begins with its size, whatever that is.
 *
 * An older caller's is shorter: what is missing stays as @to has it. A newer one's is longer: what we do
 * not know must be zero. false: it is not, or the size does not hold itself.
 */
bool kvs__sized_copy(void *to, size_t known, const void *from, size_t size);

/*
 * kvs__sized_fill - Fill a caller's struct @to, which begins with its size, from ours of @known bytes.
 *
 * As far as that size, which holds itself, reaches; what is beyond ours is zeroed, for a newer caller. The size stays.
 */
void kvs__sized_fill(void *to, const void *from, size_t known);

/* kvs__options_read - Copy @opts (NULL: defaults) whatever its size, and check it. As kvs_options_check. */
int kvs__options_read(const struct kvs_options *opts, struct kvs_options *ret,
		      const char **ret_option);

#endif
