/* SPDX-License-Identifier: MIT */
/*
 * wheel.c - a hierarchical timer wheel (Varghese and Lauck, SOSP 1987) that can jump.
 *
 * TICKS  A timer is due in tick ceil(deadline / tick_ms), the wheel stands at floor(now / tick_ms). So a timer
 * never comes early, and an advance at any time from deadline + tick_ms - 1 on finds it due.
 *
 * PLACE  A tick is a number of digits of KVS__WHEEL_BITS bits. The position of a tick at level l is the tick without
 * its last l digits; the positions that differ in their last digit only are a turn. A timer lies at the lowest
 * level at which its position is in the wheel's turn or in the next one. A level has slots for two turns, so that
 * the position names the slot.
 *
 *   now     3 . 17 . 60      level 2      level 1      level 0
 *   tick    3 . 17 . 63  ->                            slot 17 . 63     this turn
 *   tick    3 . 18 . 02  ->                            slot 18 . 02     the next
 *   tick    3 . 19 . 40  ->               slot 3 . 19
 *   tick    5 . 00 . 00  ->  slot 5
 *
 * INVARIANTS
 *
 * INV-T1  A timer in a slot of level l has a position there that is greater than the wheel's, in its turn or the next; on
 *         levels above 0 greater by two at least. No two such positions have the same slot. One that was put off is in that
 *         of the next tick.
 * INV-T2  A timer that is on the wheel is in one list: a slot's, due, again or ahead.
 * INV-T3  A timer in ahead was in a slot whose range has not begun.
 *
 * ADVANCE  from now to a later tick: on each level the slots between the two positions are due. At level 0 that of the
 * new position is, too. Above, its timers, were they still there, would have to be looked at one by one: due, or filed
 * again at a lower level. That takes long when a range of 41 s or of 44 minutes begins with all timers of it, and those
 * that are due at once would wait for it. So the slot of the position after the new one is put ahead: its timers belong
 * to the next turn of the level below, which has slots for them, and there is all of this turn's time to file them. What is left
 * ahead when a range begins (time has jumped, or nobody had the time) comes again. Lists are moved whole, so an advance costs at
 * most one look at each slot, over a tick or a year. The rest is done in pieces by kvs__wheel_next.
 *
 * WORK  A timer is filed again at most once a level, so its cost is bounded by the levels between the
 * tick of its start and its own: 1 for ten seconds in ticks of 10 ms, 3 for a day.
 */
#include "wheel.h"

#include <string.h>

#include "compiler.h"

static void ring_init(struct kvs__ring *r)
{
	r->next = r;
	r->prev = r;
}

static bool ring_is_empty(const struct kvs__ring *r)
{
	return r->next == r;
}

static void ring_append(struct kvs__ring *r, struct kvs__ring *node)
{
	node->next = r;
	node->prev = r->prev;
	r->prev->next = node;
	r->prev = node;
}

static void ring_unlink(struct kvs__ring *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
}

/* All of @from goes to the end of @to. */
static void ring_move(struct kvs__ring *to, struct kvs__ring *from)
{
	if (ring_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	ring_init(from);
}

void kvs__wheel_init(struct kvs__wheel *w, uint64_t tick_ms, uint64_t now_ms)
{
	unsigned l, s;

	memset(w, 0, sizeof(*w));
	w->tick_ms = tick_ms;
	w->now = now_ms / tick_ms;
	ring_init(&w->due);
	ring_init(&w->again);
	for (l = 0; l < KVS__WHEEL_LEVELS; l++) {
		ring_init(&w->ahead[l]);
		for (s = 0; s < KVS__WHEEL_SLOTS; s++)
			ring_init(&w->slot[l][s]);
	}
}

static uint64_t tick_of(const struct kvs__wheel *w, const struct kvs__timer *t)
{
	uint64_t deadline = load_relaxed(&t->deadline) & ~KVS__TIMER_FLAG;

	return (deadline + w->tick_ms - 1) / w->tick_ms;
}

static uint64_t position(uint64_t tick, unsigned level)
{
	return level < KVS__WHEEL_LEVELS ? tick >> (level * KVS__WHEEL_BITS) : 0;
}

static void file(struct kvs__wheel *w, struct kvs__timer *t, uint64_t tick)
{
	unsigned level = 0;

	if (tick <= w->now) {
		ring_append(&w->due, &t->ring);
		return;
	}
	while (position(tick, level + 1) - position(w->now, level + 1) > 1)
		level++;
	ring_append(&w->slot[level][position(tick, level) % KVS__WHEEL_SLOTS], &t->ring);
}

void kvs__wheel_add(struct kvs__wheel *w, struct kvs__timer *t)
{
	file(w, t, tick_of(w, t));
	w->count++;
}

void kvs__wheel_add_later(struct kvs__wheel *w, struct kvs__timer *t)
{
	file(w, t, w->now + 1);
	w->count++;
}

void kvs__wheel_remove(struct kvs__wheel *w, struct kvs__timer *t)
{
	ring_unlink(&t->ring);
	w->count--;
}

/* Move the slot of @level that a position has. */
static void move_slot(struct kvs__wheel *w, unsigned level, uint64_t at, struct kvs__ring *to)
{
	ring_move(to, &w->slot[level][at % KVS__WHEEL_SLOTS]);
}

static void move_ahead(struct kvs__wheel *w, unsigned level, uint64_t at)
{
	ring_move(&w->again, &w->ahead[level]);
	move_slot(w, level, at, &w->again);
	move_slot(w, level, at + 1, &w->ahead[level]);
	if (!ring_is_empty(&w->ahead[level]))
		w->ahead_full |= 1u << level;
}

/* What has come to its time on one level, and what will next. */
static void advance_level(struct kvs__wheel *w, unsigned level, uint64_t now)
{
	uint64_t at = position(w->now, level) + 1;
	uint64_t to = position(now, level);
	unsigned n;

	if (to < at)
		return;
	for (n = 0; at < to && n < KVS__WHEEL_SLOTS; n++)
		move_slot(w, level, at++, &w->due);
	if (level == 0)
		move_slot(w, level, to, &w->due);
	else
		move_ahead(w, level, to);
}

void kvs__wheel_advance(struct kvs__wheel *w, uint64_t now_ms)
{
	uint64_t now = now_ms / w->tick_ms;
	unsigned level;

	if (now <= w->now)
		return;
	for (level = 0; level < KVS__WHEEL_LEVELS; level++)
		advance_level(w, level, now);
	w->now = now;
}

/* Where to take the next timer from; NULL: there is none to look at. */
static struct kvs__ring *next_ring(struct kvs__wheel *w)
{
	if (!ring_is_empty(&w->due))
		return &w->due;
	if (!ring_is_empty(&w->again))
		return &w->again;
	for (; w->ahead_full; w->ahead_full &= w->ahead_full - 1) {
		struct kvs__ring *r = &w->ahead[__builtin_ctz(w->ahead_full)];

		if (!ring_is_empty(r))
			return r;
	}
	return NULL;
}

struct kvs__timer *kvs__wheel_next(struct kvs__wheel *w, unsigned *budget)
{
	struct kvs__ring *from;

	while (*budget && (from = next_ring(w)) != NULL) {
		struct kvs__timer *t = kvs_container_of(from->next, struct kvs__timer, ring);
		uint64_t tick = tick_of(w, t);

		--*budget;
		ring_unlink(&t->ring);
		if (tick <= w->now) {
			w->count--;
			return t;
		}
		file(w, t, tick);
	}
	return NULL;
}
