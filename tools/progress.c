/* SPDX-License-Identifier: MIT */
/* progress.c - a progress bar. */
#include "posix.h"

#include <stdio.h>
#include <unistd.h>

#include "progress.h"
#include "timer.h"

#define WIDTH 30

void progress_begin(struct progress *p, const char *what)
{
	p->shown = isatty(STDERR_FILENO) == 1;
	p->what = what;
	p->started_ns = timer_now();
}

static void draw_bar(double fraction)
{
	char bar[WIDTH + 1];
	int i;

	for (i = 0; i < WIDTH; i++)
		bar[i] = (double)i < fraction * WIDTH ? '#' : '.';
	bar[WIDTH] = '\0';
	fprintf(stderr, "[%s] %3.0f %%", bar, fraction * 100.0);
}

void progress_draw(const struct progress *p, double fraction, uint64_t done)
{
	double elapsed = timer_seconds(timer_now() - p->started_ns);

	if (!p->shown)
		return;
	if (fraction > 1.0)
		fraction = 1.0;
	fprintf(stderr, "\r%-8s ", p->what);
	draw_bar(fraction);
	if (elapsed > 0.0)
		fprintf(stderr, "  %7.2f M/s", (double)done / elapsed / 1e6);
	if (fraction > 0.0)
		fprintf(stderr, "  %.0f s left", elapsed / fraction - elapsed);
	fputs("\033[K", stderr);
	fflush(stderr);
}

void progress_end(const struct progress *p)
{
	if (!p->shown)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
}
