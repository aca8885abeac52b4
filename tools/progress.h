/* SPDX-License-Identifier: MIT */
/* progress.h - one line on stderr that is drawn again and again; nothing if that is no terminal. */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool shown;
	const char *what;
	uint64_t started_ns;
};

void progress_begin(struct progress *p, const char *what);

/* progress_draw - @fraction of the work, and @done units of it, are finished. */
void progress_draw(const struct progress *p, double fraction, uint64_t done);

/* progress_end - Take the line away. */
void progress_end(const struct progress *p);

#endif /* TOOLS_PROGRESS_H */
