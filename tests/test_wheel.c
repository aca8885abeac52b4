/* SPDX-License-Identifier: MIT */
/*
 * test_wheel.c - the timer wheel under a clock that the test moves.
 *
 * The property: a timer comes off in [deadline, deadline + tick], that is, never before its deadline, and at
 * the first advance to deadline + tick or later at the latest; exactly once; and never after it was removed.
 */
#include "util.h"

#include <string.h>

#include "compiler.h"
#include "wheel.h"

#define YEAR_MS UINT64_C(31556952000)
#define FAR ((uint64_t)1 << 62) /* ms: random time stays below */

struct timer {
	struct kvs__timer timer;
	uint64_t added; /* number of the advance it was added after */
	bool on;
};

struct world {
	struct kvs__wheel wheel;
	struct rng rng;
	struct timer *timers;
	size_t room;
	size_t live;
	uint64_t now;      /* ms */
	uint64_t previous; /* of the advance before the last */
	uint64_t advances;
	uint64_t looks; /* timers looked at by kvs__wheel_next */
	/* what was met */
	uint64_t added, fired, removed, past;
	uint64_t by_level[KVS__WHEEL_LEVELS];
	uint64_t at_boundary, jumps, stands;
};

static void world_make(struct world *w, uint64_t tick_ms, uint64_t now, size_t room,
		       uint64_t stream)
{
	memset(w, 0, sizeof(*w));
	rng_init(&w->rng, stream);
	w->timers = calloc(room, sizeof(*w->timers));
	check(w->timers != NULL);
	w->room = room;
	w->now = now;
	kvs__wheel_init(&w->wheel, tick_ms, now);
}

static void world_end(struct world *w)
{
	free(w->timers);
}

static uint64_t deadline_of(const struct timer *t)
{
	return load_relaxed(&t->timer.deadline);
}

/* The lowest level at which a later tick lies in this turn or the next. */
static unsigned level_of(const struct world *w, uint64_t tick)
{
	unsigned level = KVS__WHEEL_LEVELS - 1;
	unsigned shift;

	for (shift = level * KVS__WHEEL_BITS;
	     level && (tick >> shift) - (w->wheel.now >> shift) < 2; shift -= KVS__WHEEL_BITS)
		level--;
	return level;
}

static void add(struct world *w, struct timer *t, uint64_t deadline)
{
	uint64_t tick = (deadline + w->wheel.tick_ms - 1) / w->wheel.tick_ms;

	store_relaxed(&t->timer.deadline, deadline);
	t->added = w->advances;
	t->on = true;
	kvs__wheel_add(&w->wheel, &t->timer);
	w->added++;
	w->live++;
	if (tick <= w->wheel.now)
		w->past++;
	else
		w->by_level[level_of(w, tick)]++;
}

static void take_off(struct world *w, struct timer *t)
{
	kvs__wheel_remove(&w->wheel, &t->timer);
	t->on = false;
	w->removed++;
	w->live--;
}

static void fired(struct world *w, struct timer *t)
{
	uint64_t deadline = deadline_of(t);

	if (!t->on)
		util_fail(__FILE__, __LINE__, "a timer came twice, or after it was removed");
	if (deadline > w->now)
		util_fail(__FILE__, __LINE__, "early: deadline %llu at %llu",
			  (unsigned long long)deadline, (unsigned long long)w->now);
	if (t->added + 1 < w->advances && w->previous >= deadline &&
	    w->previous - deadline >= w->wheel.tick_ms)
		util_fail(__FILE__, __LINE__, "late: deadline %llu, not at %llu but at %llu",
			  (unsigned long long)deadline, (unsigned long long)w->previous,
			  (unsigned long long)w->now);
	t->on = false;
	w->fired++;
	w->live--;
}

/* All that is due, in pieces of @piece looks. */
static void drain(struct world *w, unsigned piece)
{
	struct kvs__timer *t;
	unsigned budget;

	do {
		budget = piece;
		while ((t = kvs__wheel_next(&w->wheel, &budget)) != NULL)
			fired(w, kvs_container_of(t, struct timer, timer));
		w->looks += piece - budget;
	} while (budget == 0);
	check(!kvs__wheel_has_work(&w->wheel));
	check_u64(w->wheel.count, w->live);
}

static void come_to(struct world *w, uint64_t now)
{
	w->previous = w->now;
	w->advances++;
	w->jumps += now > w->now + YEAR_MS / 2;
	w->stands += now == w->now;
	w->now = now;
	kvs__wheel_advance(&w->wheel, now);
	drain(w, 1 + (unsigned)rng_below(&w->rng, 100));
}

/* A number of up to @bits bits, each length as likely as any other. */
static uint64_t random_bits(struct world *w, unsigned bits)
{
	unsigned n = (unsigned)rng_below(&w->rng, bits + 1);

	return n ? rng_next(&w->rng) >> (64 - n) : 0;
}

/* The next time at which a digit of some level changes, give or take a little. */
static uint64_t boundary_near(struct world *w, unsigned levels)
{
	unsigned level = (unsigned)rng_below(&w->rng, levels);
	uint64_t span = (uint64_t)1 << (level * KVS__WHEEL_BITS);
	uint64_t tick = (w->wheel.now / span + 1 + rng_below(&w->rng, 3)) * span;
	uint64_t at = tick * w->wheel.tick_ms + rng_below(&w->rng, 2 * w->wheel.tick_ms + 1);

	w->at_boundary++;
	return at > w->wheel.tick_ms ? at - w->wheel.tick_ms : at;
}

static uint64_t random_deadline(struct world *w)
{
	uint64_t past;

	switch (rng_below(&w->rng, 8)) {
	case 0:
		return boundary_near(w, 9);
	case 1:
		past = random_bits(w, 20);
		return past < w->now ? w->now - past : 0;
	case 2:
		return w->now + random_bits(w, 62); /* below 2^63 */
	default:
		return w->now + random_bits(w, 36); /* two years */
	}
}

static uint64_t random_step(struct world *w)
{
	switch (rng_below(&w->rng, 16)) {
	case 0:
		return w->now; /* time stands still */
	case 1:
		return w->now > 50 ? w->now - rng_below(&w->rng, 50)
				   : w->now; /* goes back: not for the wheel */
	case 2:
		return w->now + random_bits(w, rng_below(&w->rng, 64) ? 18 : 34);
	case 3:
		return boundary_near(w, rng_below(&w->rng, 64) ? 3 : 9);
	case 4:
		return rng_below(&w->rng, 8) ? w->now + 1 : w->now + YEAR_MS;
	default:
		return w->now + random_bits(w, 12);
	}
}

static void one_round(struct world *w)
{
	size_t n = 1 + (size_t)rng_below(&w->rng, 200);
	uint64_t to;

	for (size_t i = 0; i < n; i++) {
		struct timer *t = &w->timers[rng_below(&w->rng, w->room)];

		if (!t->on)
			add(w, t, random_deadline(w));
		else if (rng_below(&w->rng, 2))
			take_off(w, t);
	}
	to = random_step(w);
	if (to < w->now)
		kvs__wheel_advance(&w->wheel, to);
	else if (to < FAR)
		come_to(w, to);
}

static void random_timers(uint64_t tick_ms, uint64_t start, size_t wanted, uint64_t stream)
{
	struct world w;
	unsigned l;

	world_make(&w, tick_ms, start, wanted < 100000 ? wanted / 10 : 5000, stream);
	while (w.added < wanted)
		one_round(&w);
	/* everything comes, however far it was */
	come_to(&w, w.now);
	while (w.live) {
		uint64_t least = UINT64_MAX;

		for (size_t i = 0; i < w.room; i++)
			if (w.timers[i].on && deadline_of(&w.timers[i]) < least)
				least = deadline_of(&w.timers[i]);
		come_to(&w, least + tick_ms + random_bits(&w, 58));
	}
	check_u64(w.fired + w.removed, w.added);
	/* a timer is looked at once when it comes, and once at most for each level it comes down */
	check(w.looks <= w.added * KVS__WHEEL_LEVELS);
	util_note(
		"tick %llu: added %llu fired %llu removed %llu past %llu, at boundaries %llu, jumps of a year "
		"%llu, time stood %llu, looks a timer %.2f",
		(unsigned long long)tick_ms, (unsigned long long)w.added,
		(unsigned long long)w.fired, (unsigned long long)w.removed,
		(unsigned long long)w.past, (unsigned long long)w.at_boundary,
		(unsigned long long)w.jumps, (unsigned long long)w.stands,
		(double)w.looks / (double)w.added);
	check(w.fired > wanted / 4 && w.removed > wanted / 50 && w.looks > w.fired + wanted / 200 &&
	      w.past && w.at_boundary && w.jumps && w.stands);
	/* Of a level whose first two positions are half of all time there are too few. */
	for (l = 0; l < KVS__WHEEL_LEVELS - 1 && FAR / tick_ms >> (l * KVS__WHEEL_BITS) > 4; l++)
		if (w.by_level[l] <= wanted / 1000)
			util_fail(__FILE__, __LINE__, "level %u saw %llu timers", l,
				  (unsigned long long)w.by_level[l]);
	world_end(&w);
}

static void test_random_timers_come_in_time(void **state)
{
	static const uint64_t ticks[] = { 1, 7, 10, 64, 1000 };
	size_t wanted = util_scaled(100000, 300000, 10000000) / ARRAY_LEN(ticks);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ticks); i++)
		random_timers(ticks[i], i % 2 ? 0 : 123456789, wanted, i);
}

/* ---- every boundary, exactly ---- */

#define AROUND 5

/* Timers in the ticks around a boundary, from a start before it; time goes tick by tick across. */
static void cross(uint64_t boundary, uint64_t before, uint64_t tick_ms)
{
	struct world w;
	int64_t d;
	size_t n = 0;

	world_make(&w, tick_ms, (boundary - before) * tick_ms, 2 * (2 * AROUND + 1), 100);
	for (d = -AROUND; d <= AROUND; d++) {
		add(&w, &w.timers[n++], (boundary + (uint64_t)d) * tick_ms);
		add(&w, &w.timers[n++], (boundary + (uint64_t)d) * tick_ms + tick_ms / 2);
	}
	for (d = -AROUND; d <= AROUND + 1; d++) {
		uint64_t at = boundary + (uint64_t)d;

		if (at < boundary - before)
			continue;
		if (at * tick_ms > w.now)
			come_to(&w, at * tick_ms - 1); /* the last millisecond before */
		come_to(&w, at * tick_ms);
	}
	check_u64(w.live, 0);
	world_end(&w);
}

static void test_every_level_boundary_is_crossed_in_time(void **state)
{
	(void)state;
	for (unsigned level = 1; level < 9; level++)
		for (uint64_t times = 1; times < 130; times += times < 4 ? 1 : 31) {
			uint64_t boundary = times << (level * KVS__WHEEL_BITS);

			for (uint64_t before = 1; before < boundary && before < (uint64_t)1 << 54;
			     before *= 3) {
				cross(boundary, before, 1);
				cross(boundary, before, 10);
			}
		}
}

static void test_every_slot_of_every_level(void **state)
{
	struct world w;

	(void)state;
	for (unsigned level = 0; level < 9; level++) {
		world_make(&w, 10, 0, KVS__WHEEL_SLOTS, 200 + level);
		for (uint64_t s = 2; s < KVS__WHEEL_SLOTS; s++)
			add(&w, &w.timers[s], (s << (level * KVS__WHEEL_BITS)) * 10);
		check_u64(w.by_level[level], KVS__WHEEL_SLOTS - 2);
		for (uint64_t s = 2; s < KVS__WHEEL_SLOTS; s++) {
			uint64_t due = (s << (level * KVS__WHEEL_BITS)) * 10;

			come_to(&w, due - 1);
			check_u64(w.fired, s - 2);
			come_to(&w, due);
			check_u64(w.fired, s - 1);
		}
		world_end(&w);
	}
}

/* ---- time itself ---- */

static void test_nothing_comes_while_time_stands_or_goes_back(void **state)
{
	struct world w;

	(void)state;
	world_make(&w, 10, 1000000, 100, 300);
	for (size_t i = 0; i < 100; i++)
		add(&w, &w.timers[i], 1000001 + i);
	for (size_t i = 0; i < 1000; i++)
		come_to(&w, 1000000);
	kvs__wheel_advance(&w.wheel, 0);
	drain(&w, 10);
	check_u64(w.fired, 0);
	come_to(&w, 1000110);
	check_u64(w.fired, 100);
	world_end(&w);
}

/* A loop over missed ticks would take longer than the watchdog waits. */
static void test_a_jump_costs_the_same_however_far(void **state)
{
	size_t jumps = util_scaled(1000, 20000, 1000000);
	struct world w;

	(void)state;
	world_make(&w, 1, 5, 64, 400);
	for (size_t i = 0; i < jumps; i++) {
		struct timer *t = &w.timers[i % 64];

		if (!t->on)
			add(&w, t, w.now + 1 + random_bits(&w, 40));
		come_to(&w, w.now + YEAR_MS);
	}
	check(w.jumps == jumps && w.fired > jumps / 2);
	come_to(&w, FAR);
	check_u64(w.live, 0);
	world_end(&w);
}

static void test_the_far_future_has_a_place(void **state)
{
	const uint64_t last = KVS__TIMER_FLAG - 1;
	struct world w;

	(void)state;
	world_make(&w, 1, 0, 4, 500);
	for (uint64_t i = 0; i < 4; i++)
		add(&w, &w.timers[i], last - i);
	check(w.by_level[KVS__WHEEL_LEVELS - 1] == 4);
	come_to(&w, last - 4);
	check_u64(w.fired, 0);
	for (uint64_t i = 0; i < 4; i++) {
		come_to(&w, last - 3 + i);
		check_u64(w.fired, i + 1);
	}
	world_end(&w);
}

/* ---- bounded work ---- */

static void test_a_storm_is_worked_off_in_pieces(void **state)
{
	size_t n = util_scaled(10000, 100000, 1000000);
	struct kvs__timer *t;
	struct world w;
	size_t pieces = 0;

	(void)state;
	world_make(&w, 10, 0, n, 600);
	for (size_t i = 0; i < n; i++)
		add(&w, &w.timers[i], 100000 + i % 10); /* one tick, filed three levels up */
	w.previous = 0;
	w.now = 100010;
	w.advances++;
	kvs__wheel_advance(&w.wheel, w.now);
	while (kvs__wheel_has_work(&w.wheel)) {
		unsigned budget = 64;
		size_t before = w.fired;

		/* some are removed while they wait in the list of due ones */
		for (size_t i = pieces * 3; i < pieces * 3 + 2; i++)
			if (w.timers[n - 1 - i].on)
				take_off(&w, &w.timers[n - 1 - i]);
		while ((t = kvs__wheel_next(&w.wheel, &budget)) != NULL)
			fired(&w, kvs_container_of(t, struct timer, timer));
		check(w.fired - before <= 64);
		pieces++;
	}
	check_u64(w.fired + w.removed, n);
	check(pieces >= n / 70 && w.removed > pieces / 2);
	world_end(&w);
}

static bool is_empty(const struct kvs__ring *r)
{
	return r->next == r;
}

/*
 * Whoever looks at all there is each tick has nothing left to file when a range begins: a timer that is due with the first
 * tick of 41 s, or of 44 minutes, waits for no other one.
 */
static void test_slots_are_emptied_before_their_range_begins(void **state)
{
	const uint64_t turn = KVS__WHEEL_TURN;
	size_t n = util_scaled(5000, 20000, 200000);
	uint64_t first =
		3 * turn * turn * turn - 2 * turn * turn - 7; /* before a boundary of level 3 */
	uint64_t ticks = 4 * turn * turn;
	uint64_t ahead = 0;
	struct world w;

	(void)state;
	world_make(&w, 10, first * 10, n, 800);
	for (size_t i = 0; i < n; i++)
		add(&w, &w.timers[i], (first + 1 + rng_below(&w.rng, ticks)) * 10);
	for (uint64_t tick = first + 1; tick <= first + ticks; tick++) {
		w.previous = w.now;
		w.advances++;
		w.now = tick * 10;
		kvs__wheel_advance(&w.wheel, w.now);
		check(is_empty(&w.wheel.again));
		ahead += w.wheel.ahead_full != 0;
		drain(&w, 100);
	}
	util_note("%zu timers, slots put ahead %llu times, looks a timer %.2f", n,
		  (unsigned long long)ahead, (double)w.looks / (double)n);
	check_u64(w.fired, n);
	check(w.by_level[2] > n / 4 && ahead >= 100);
	check(w.looks <= 3 * n);
	world_end(&w);
}

/* Nobody looks at what is ahead before its range begins: then it comes again. */
static void test_what_is_left_ahead_comes_again(void **state)
{
	struct world w;
	unsigned budget = 2;

	(void)state;
	world_make(&w, 10, 0, 4, 900);
	for (size_t i = 0; i < 4; i++)
		add(&w, &w.timers[i], 1290 + 10 * i); /* of position 2 at level 1 */
	check_u64(w.by_level[1], 4);
	kvs__wheel_advance(&w.wheel, 640);
	check(!is_empty(&w.wheel.ahead[1]) && is_empty(&w.wheel.again));
	check(kvs__wheel_next(&w.wheel, &budget) == NULL && budget == 0);
	kvs__wheel_advance(&w.wheel, 1280);
	check(is_empty(&w.wheel.ahead[1]) && !is_empty(&w.wheel.again));
	w.now = 1300;
	kvs__wheel_advance(&w.wheel, w.now);
	drain(&w, 1);
	check_u64(w.fired, 2);
	come_to(&w, 1320);
	check_u64(w.fired, 4);
	world_end(&w);
}

static void test_the_flag_in_a_deadline_is_not_time(void **state)
{
	struct world w;
	unsigned budget = 10;

	(void)state;
	world_make(&w, 10, 0, 2, 700);
	add(&w, &w.timers[0], 1300);
	store_relaxed(&w.timers[0].timer.deadline, 1300 | KVS__TIMER_FLAG);
	kvs__wheel_advance(&w.wheel, 1280); /* filed again from level 1 */
	check(!is_empty(&w.wheel.again));
	check(kvs__wheel_next(&w.wheel, &budget) == NULL && budget == 9);
	kvs__wheel_advance(&w.wheel, 1300);
	check(kvs__wheel_next(&w.wheel, &budget) == &w.timers[0].timer);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_timers_come_in_time),
		cmocka_unit_test(test_every_level_boundary_is_crossed_in_time),
		cmocka_unit_test(test_every_slot_of_every_level),
		cmocka_unit_test(test_nothing_comes_while_time_stands_or_goes_back),
		cmocka_unit_test(test_a_jump_costs_the_same_however_far),
		cmocka_unit_test(test_the_far_future_has_a_place),
		cmocka_unit_test(test_a_storm_is_worked_off_in_pieces),
		cmocka_unit_test(test_slots_are_emptied_before_their_range_begins),
		cmocka_unit_test(test_what_is_left_ahead_comes_again),
		cmocka_unit_test(test_the_flag_in_a_deadline_is_not_time),
	};

	return util_main("wheel", tests, ARRAY_LEN(tests));
}
