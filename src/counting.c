/* SPDX-License-Identifier: MIT */
#include "counting.h"

#ifdef KVS_COUNTING
__thread struct kvs__work kvs__work;
#else
typedef int kvs__counting_is_off; /* a translation unit must not be empty */
#endif
