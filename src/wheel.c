/* SPDX-License-Identifier: MIT */
/*
 * wheel.c - a hierarchical timer wheel (Varghese and Lauck, SOSP 1987) that can jump.
 *
 * TICKS  A timer is due in tick ceil(deadline / tick_ms), the wheel stands at floor(now / tick_ms). So a timer
 * never comes early, and an advance at any time from deadline + tick_ms - 1 on finds it due.
 *
 * PLACE  A tick is a number of digits of KVS__WHEEL_BITS bits. A timer lies at the level of the highest
 * digit in which its tick differs from the wheel's, in the slot named by that digit:
 *
 *   now     3 . 17 . 60         level 2      level 1      level 0
 *   tick    3 . 17 . 63  ->                               slot 63
 *   tick    3 . 18 . 02  ->                  slot 18
 *   tick    5 . 00 . 00  ->     slot 5
 *
 * INVARIANTS
 *
 * INV-T1  A timer in slot s of level l has the wheel's digits above l, and s > the wheel's digit l.
 *         So all timers of lower levels are due before those of higher ones, and slots of a level in order.
 * INV-T2  A timer that is on the wheel is in one list: a slot's, due or again.
 *
 * ADVANCE  from now to a later tick: let l be the highest digit that differs. By T1 all timers of levels below
 * l are due, and so are those of level l in the slots between the two digits. The slot of the new digit holds
 * timers of a range that has begun: at level 0 the range is the tick itself, and they are due; above, each has to be
 * looked at: due, or filed again at a lower level. Lists are moved whole, so an advance costs at most one look at each
 * slot of l + 1 levels, over a tick or a year. The rest is done in pieces by kvs__wheel_next.
 *
 * WORK  A timer is filed again at most once a level, so its cost is bounded by the levels between the
 * tick of its start and its own: 2 for ten seconds in ticks of 10 ms, 4 for a day.
 */
#include "wheel.h"

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

	w->tick_ms = tick_ms;
	w->now = now_ms / tick_ms;
	w->count = 0;
	ring_init(&w->due);
	ring_init(&w->again);
	for (l = 0; l < KVS__WHEEL_LEVELS; l++) {
		w->full[l] = 0;
		for (s = 0; s < KVS__WHEEL_SLOTS; s++)
			ring_init(&w->slot[l][s]);
	}
}

static uint64_t tick_of(const struct kvs__wheel *w, const struct kvs__timer *t)
{
	uint64_t deadline = load_relaxed(&t->deadline) & ~KVS__TIMER_FLAG;

	return (deadline + w->tick_ms - 1) / w->tick_ms;
}

/* The level of the highest digit in which two ticks differ; they do. */
static unsigned level_of(uint64_t a, uint64_t b)
{
	return (63u - (unsigned)__builtin_clzll(a ^ b)) / KVS__WHEEL_BITS;
}

static unsigned digit(uint64_t tick, unsigned level)
{
	return (unsigned)(tick >> (level * KVS__WHEEL_BITS)) & (KVS__WHEEL_SLOTS - 1);
}

static void file(struct kvs__wheel *w, struct kvs__timer *t, uint64_t tick)
{
	unsigned level, s;

	if (tick <= w->now) {
		ring_append(&w->due, &t->ring);
		return;
	}
	level = level_of(tick, w->now);
	s = digit(tick, level);
	w->full[level] |= (uint64_t)1 << s;
	ring_append(&w->slot[level][s], &t->ring);
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

/* Move the slots of @level that are in @slots. */
static void move_slots(struct kvs__wheel *w, unsigned level, uint64_t slots, struct kvs__ring *to)
{
	uint64_t rest = w->full[level] & slots;

	w->full[level] &= ~slots;
	for (; rest; rest &= rest - 1)
		ring_move(to, &w->slot[level][__builtin_ctzll(rest)]);
}

void kvs__wheel_advance(struct kvs__wheel *w, uint64_t now_ms)
{
	uint64_t now = now_ms / w->tick_ms;
	unsigned level, l, s;

	if (now <= w->now)
		return;
	level = level_of(now, w->now);
	s = digit(now, level);
	for (l = 0; l < level; l++)
		move_slots(w, l, ~(uint64_t)0, &w->due);
	move_slots(w, level, ((uint64_t)1 << s) - 1, &w->due);
	move_slots(w, level, (uint64_t)1 << s, level ? &w->again : &w->due);
	w->now = now;
}

struct kvs__timer *kvs__wheel_next(struct kvs__wheel *w, unsigned *budget)
{
	while (*budget && kvs__wheel_has_due(w)) {
		struct kvs__ring *from = ring_is_empty(&w->due) ? &w->again : &w->due;
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
