/* SPDX-License-Identifier: MIT */
/* meminfo.h - what the kernel says about this process's memory. */
#ifndef TOOLS_MEMINFO_H
#define TOOLS_MEMINFO_H

#include <stdint.h>

struct meminfo {
	uint64_t rss;  /* bytes resident now (VmRSS) */
	uint64_t peak; /* the most that ever was (VmHWM) */
};

/* meminfo_read - From /proc/self/status; zeros where the kernel does not say. */
struct meminfo meminfo_read(void);

#endif /* TOOLS_MEMINFO_H */
