/* SPDX-License-Identifier: MIT */
/* lin_rows.c - small histories of one key: see lin_rows.h. */
#include "lin_rows.h"

/* The arrays are the caller's. */
static struct lin_history history_of(const struct lin_row *rows, size_t count,
				     struct lin_op ops[LIN_ROW_THREADS + 1][LIN_ROWS])
{
	struct lin_history h = { .threads = LIN_ROW_THREADS, .keys = 1, .now = LIN_ROW_START };

	for (size_t t = 0; t < LIN_ROW_THREADS; t++)
		h.thread[t].ops = ops[t];
	h.clock.ops = ops[LIN_ROW_CLOCK];
	for (size_t i = 0; i < count; i++) {
		const struct lin_row *r = &rows[i];
		struct lin_thread *t = r->thread == LIN_ROW_CLOCK ? &h.clock : &h.thread[r->thread];

		t->ops[t->count++] = (struct lin_op){
			.start = r->start,
			.end = r->end,
			.version = r->version,
			.value = r->value,
			.before = r->before,
			.before_value = r->before_value,
			.ttl = r->ttl,
			.expires = r->expires,
			.kind = (uint8_t)r->kind,
			.answer = (uint8_t)r->answer,
		};
	}
	return h;
}

void lin_rows_judge(const struct lin_row *rows, size_t count, bool strict, struct lin_verdict *ret)
{
	struct lin_op ops[LIN_ROW_THREADS + 1][LIN_ROWS];
	struct lin_history h = history_of(rows, count, ops);

	h.strict = strict;
	lin_check(&h, ret);
}

void lin_judge_hand_made(const struct lin_hand_made *h, size_t count)
{
	size_t faults = 0;

	for (size_t i = 0; i < count; i++) {
		struct lin_verdict v;
		size_t rows = 0;

		while (rows < LIN_ROWS && h[i].rows[rows].end != 0)
			rows++;
		util_context(h[i].name);
		lin_rows_judge(h[i].rows, rows, false, &v);
		if (v.outcome != h[i].outcome)
			util_fail(__FILE__, __LINE__, "outcome %d: %s", v.outcome, v.why);
		faults += v.outcome == LIN_VIOLATION;
	}
	util_context(NULL);
	util_note("%zu hand-made histories judged, %zu of them faulty", count, faults);
}

struct lin_row lin_row_random(struct rng *r, struct lin_instants *at, size_t thread,
			      enum lin_kind kind)
{
	struct lin_row row = { .thread = thread, .kind = kind };
	uint64_t from = at->free_at[thread];

	at->last = (at->last > from ? at->last : from) + 10;
	row.start = at->last - rng_below(r, at->last - from < 40 ? at->last - from : 40);
	row.end = at->last + 1 + rng_below(r, 40);
	at->free_at[thread] = row.end + 1;
	return row;
}

bool lin_row_may_be_next(const struct lin_row *rows, size_t count, uint32_t done, size_t i)
{
	for (size_t j = 0; j < count; j++)
		if (!(done >> j & 1) && rows[j].end < rows[i].start)
			return false;
	return true;
}

bool lin_row_writes(const struct lin_row *row)
{
	return row->answer == LIN_OK && row->kind <= LIN_GET_AND_SET;
}

bool lin_rows_versions_hold(const struct lin_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++) {
			if (i == j || !lin_row_writes(&rows[i]) || !lin_row_writes(&rows[j]))
				continue;
			if (rows[i].version == rows[j].version)
				return false;
			if (rows[i].end < rows[j].start && rows[i].version > rows[j].version)
				return false;
		}
	return true;
}
