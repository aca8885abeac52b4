/* SPDX-License-Identifier: MIT */
/* meminfo.c - VmRSS and VmHWM from /proc/self/status. */
#include "posix.h"

#include <inttypes.h>
#include <stdio.h>

#include "meminfo.h"

struct meminfo meminfo_read(void)
{
	struct meminfo m = { 0, 0 };
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	uint64_t kib;

	if (!f)
		return m;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmRSS: %" SCNu64, &kib) == 1)
			m.rss = kib * 1024;
		else if (sscanf(line, "VmHWM: %" SCNu64, &kib) == 1)
			m.peak = kib * 1024;
	}
	fclose(f);
	return m;
}
