/* SPDX-License-Identifier: MIT */
/* options.h - options as the library sees them: of full size, checked. */
#ifndef KVS_OPTIONS_H
#define KVS_OPTIONS_H

#include "kvs.h"

#define KVS__SHARDS_DEFAULT 16

/* kvs__options_read - Copy @opts (NULL: defaults) whatever its size, and check it. As kvs_options_check. */
int kvs__options_read(const struct kvs_options *opts, struct kvs_options *ret, const char **ret_option);

#endif
