/* SPDX-License-Identifier: MIT */
/* posix.h - include first: asks libc for POSIX and GNU calls under -std=c11. */
#ifndef TOOLS_POSIX_H
#define TOOLS_POSIX_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#endif /* TOOLS_POSIX_H */
