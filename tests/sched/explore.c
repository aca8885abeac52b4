/* SPDX-License-Identifier: MIT */
#include "explore.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "fiber.h"
#include "heap.h"
#include "link.h"
#include "sched_rcu.h"
#include "thread.h"

#define STEPS_MAX 20000u /* of one schedule: more, and a fiber spins */
#define NODES_MAX 4096u
#define SWITCHES_MAX 64u
#define TIMEOUT_S 60u /* CPU time of 1,024 schedules: more, and one does not end */
#define STUCK_S 200u  /* their time by the clock: more, and one waits for something real */

void kvs__yield(const char *file, int line);

struct task {
	struct fiber fiber;
	struct kvs__tls tls;
	bool done;
	uint32_t waits_for; /* blocked while not 0 */
	uint32_t *begins;   /* the operation that has not made its first conflicting step */
	uint32_t *early;    /* the operation that has not made its first step */
	bool inside;        /* an operation */
	bool preempted;     /* before the operation below, which it has not made */
	bool conflict;      /* others did something since that conflicts with it */
	size_t word;
	enum sched_kind kind;
	unsigned priority; /* PCT */
};

/* One choice on the way to where the search is. */
struct node {
	uint32_t step;
	bool forced;
	uint8_t count;
	uint8_t at;
	uint8_t option[SCHED_FIBERS];
};

struct switched {
	uint32_t step;
	bool forced;
	uint8_t to;
};

enum ending { ENDED, REDUNDANT, FAILED };

static struct {
	const struct sched_plan *plan;
	struct task task[SCHED_SELF_MAX];
	unsigned self;
	uint32_t step;
	uint32_t clock;
	unsigned preemptions;
	uint32_t preempted; /* fibers that are */
	enum ending ending;
	const char *file;
	int line;
	/* search */
	struct node node[NODES_MAX];
	unsigned nodes;
	unsigned depth;
	bool grown;
	unsigned bound; /* of this search */
	/* random */
	uint64_t random;
	uint32_t change[16]; /* PCT: steps at which the running fiber's priority falls */
	/* what was chosen */
	struct switched switched[SWITCHES_MAX];
	unsigned switches;
	unsigned replayed;
	uint64_t runs;
} x = { .self = SCHED_MAIN };

unsigned sched_quiet = 1;

/* Who read and wrote each word, in this program: settled by the searches before, and met now. */
static struct mask {
	uint8_t read;
	uint8_t write;
	uint8_t new_read;
	uint8_t new_write;
} masks[HEAP_WORDS];
static uint32_t touched[HEAP_WORDS];
static unsigned touched_count;

struct sched_counts sched_counts;
struct sched_failure sched_failure;
uint64_t sched_mutant_hits;

static unsigned char stacks[SCHED_FIBERS][FIBER_STACK] __attribute__((aligned(64)));
static uint8_t marker[HEAP_WORDS]; /* of a node: who marked it, plus 1 */
static size_t size_word;
static bool commutes[HEAP_WORDS];
static void (*crash_fn)(void);

/* ---- small things ---- */

void kvs__yield(const char *file, int line)
{
	x.file = file;
	x.line = line;
}

unsigned sched_self(void)
{
	return x.self;
}

void sched_quiet_begin(void)
{
	sched_quiet++;
}

void sched_quiet_end(void)
{
	sched_quiet--;
}

void sched_commutes(const volatile void *p)
{
	if (p)
		commutes[heap_word(p)] = true;
	else
		memset(commutes, 0, sizeof(commutes));
}

void sched_watch_size(const volatile void *p)
{
	size_word = heap_word(p);
}

void sched_tls_swap(unsigned fiber)
{
	struct kvs__tls tls = kvs__tls;

	kvs__tls = x.task[fiber].tls;
	x.task[fiber].tls = tls;
}

static uint64_t random_next(void)
{
	x.random ^= x.random << 13;
	x.random ^= x.random >> 7;
	x.random ^= x.random << 17;
	return x.random * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- switching ---- */

static void switch_to(unsigned to)
{
	unsigned from = x.self;

	if (to == from)
		return;
	x.task[from].tls = kvs__tls;
	kvs__tls = x.task[to].tls;
	x.self = to;
	x.preempted &= ~(1u << to);
	x.task[to].preempted = false;
	fiber_switch(&x.task[from].fiber, &x.task[to].fiber);
}

static void leave_for_main(enum ending ending)
{
	x.ending = ending;
	switch_to(SCHED_MAIN);
}

static void write_replay(char *to, size_t room)
{
	size_t used = 0;

	snprintf(to, room, "-");
	for (unsigned i = 0; i < x.switches && used + 16 < room; i++)
		used += (size_t)snprintf(to + used, room - used, "%s%u%c%u", i ? " " : "",
					 x.switched[i].step, x.switched[i].forced ? '/' : '>',
					 x.switched[i].to);
}

void sched_fail(const char *message)
{
	if (x.ending != FAILED) {
		snprintf(sched_failure.message, SCHED_TEXT, "%s", message);
		write_replay(sched_failure.replay, SCHED_TEXT);
		sched_failure.runs = x.runs;
	}
	x.ending = FAILED;
	if (x.self != SCHED_MAIN)
		leave_for_main(FAILED);
}

static void note_switch(unsigned to, bool forced)
{
	if (x.switches < SWITCHES_MAX)
		x.switched[x.switches++] = (struct switched){ x.step, forced, (uint8_t)to };
	if (x.plan->trace)
		printf("      %s to fiber %u\n", forced ? "on" : "preempted,", to);
}

/* ---- choosing ---- */

static bool is_enabled(unsigned i)
{
	return !x.task[i].done && !x.task[i].waits_for;
}

/* Reduction 2. */
static bool may_go_on(unsigned i)
{
	const struct task *t = &x.task[i];

	return x.plan->mode != SCHED_SEARCH || x.plan->full || !t->preempted || t->conflict;
}

static unsigned search_choose(const uint8_t *option, unsigned count, bool forced)
{
	struct node *n = &x.node[x.depth];

	if (count == 1)
		return option[0];
	if (x.depth == NODES_MAX) {
		sched_fail("more choices than the explorer has room for");
		return option[0];
	}
	if (x.depth == x.nodes) {
		*n = (struct node){ x.step, forced, (uint8_t)count, 0, { 0 } };
		memcpy(n->option, option, count);
		x.nodes++;
	} else if (n->step != x.step || n->count != count) {
		sched_fail("the program is not deterministic");
	}
	x.depth++;
	return n->option[n->at];
}

static unsigned highest(const uint8_t *option, unsigned count)
{
	unsigned best = option[0];

	for (unsigned i = 1; i < count; i++)
		if (x.task[option[i]].priority > x.task[best].priority)
			best = option[i];
	return best;
}

static unsigned pct_choose(const uint8_t *option, unsigned count)
{
	for (unsigned i = 0; i + 1 < x.plan->depth && i < 16; i++)
		if (x.change[i] == x.step && x.self != SCHED_MAIN)
			x.task[x.self].priority = i;
	return highest(option, count);
}

static unsigned replay_choose(const uint8_t *option, bool forced)
{
	const struct switched *s = &x.switched[x.replayed];

	if (x.replayed < x.switches && s->step == x.step && s->forced == forced) {
		x.replayed++;
		return s->to;
	}
	return option[0];
}

static unsigned choose(const uint8_t *option, unsigned count, bool forced)
{
	switch (x.plan->mode) {
	case SCHED_SEARCH:
		return search_choose(option, count, forced);
	case SCHED_RANDOM:
		/* one of eight points switches: runs of steps, as threads have them */
		if (!forced && random_next() >> 61)
			return option[0];
		return option[(random_next() >> 32) % count];
	case SCHED_PCT:
		return pct_choose(option, count);
	default:
		return replay_choose(option, forced);
	}
}

/* The others that could run, behind the @count options there are. */
static unsigned add_options(uint8_t *option, unsigned count)
{
	for (unsigned i = 0; i < x.plan->fibers; i++)
		if (i != x.self && is_enabled(i) && may_go_on(i))
			option[count++] = (uint8_t)i;
	return count;
}

/* This fiber cannot go on: somebody else does, or the schedule ends. */
static void choose_forced(void)
{
	uint8_t option[SCHED_FIBERS];
	unsigned count = 0;
	unsigned left = 0;
	unsigned to;

	for (unsigned i = 0; i < x.plan->fibers; i++)
		left += !x.task[i].done;
	if (!left) {
		leave_for_main(ENDED);
		return;
	}
	count = add_options(option, 0);
	if (!count) {
		for (unsigned i = 0; i < x.plan->fibers; i++)
			if (is_enabled(i))
				leave_for_main(REDUNDANT);
		sched_fail("every fiber is blocked");
		return;
	}
	to = choose(option, count, true);
	if (x.plan->mode != SCHED_REPLAY)
		note_switch(to, true);
	switch_to(to);
}

/* Does what this fiber is about to do conflict with what another does, in a schedule met so far? */
static bool conflicts(size_t word, enum sched_kind kind)
{
	uint8_t others = (uint8_t) ~(1u << x.self);

	return (masks[word].write & others) || (kind == SCHED_WRITE && (masks[word].read & others));
}

static bool may_preempt(size_t word, enum sched_kind kind)
{
	const struct sched_plan *p = x.plan;

	return p->mode != SCHED_SEARCH ||
	       (x.preemptions < x.bound && (p->full || (word && conflicts(word, kind))));
}

__attribute__((noinline, cold)) static void trace(size_t word, enum sched_kind kind)
{
	printf("%5u fiber %u %s:%d %s word %zu\n", x.step, x.self, x.file, x.line,
	       kind == SCHED_READ ? "reads" : "writes", word);
}

static void at_point(size_t word, enum sched_kind kind)
{
	struct task *me = &x.task[x.self];
	uint8_t option[SCHED_FIBERS] = { (uint8_t)x.self };
	unsigned count;
	unsigned to;

	if (++x.step > STEPS_MAX) {
		sched_fail("a fiber spins");
		return;
	}
	if (x.plan->trace)
		trace(word, kind);
	if (!may_preempt(word, kind))
		return;
	count = add_options(option, 1);
	to = count > 1 ? choose(option, count, false) : x.self;
	if (to == x.self)
		return;
	if (x.plan->mode != SCHED_REPLAY)
		note_switch(to, false);
	x.preemptions++;
	me->preempted = true;
	me->conflict = false;
	me->word = word;
	me->kind = kind;
	x.preempted |= 1u << x.self;
	switch_to(to);
}

/* ---- what a step does ---- */

static void remember(size_t word, enum sched_kind kind)
{
	uint8_t bit = (uint8_t)(1u << x.self);
	struct mask *m = &masks[word];
	uint8_t *mask = kind == SCHED_WRITE ? &m->new_write : &m->new_read;
	uint8_t all;

	if (*mask & bit)
		return;
	if (!m->new_write && !m->new_read)
		touched[touched_count++] = (uint32_t)word;
	*mask |= bit;
	all = m->new_read | m->new_write;
	if (m->new_write && (all & (all - 1)))
		x.grown = true;
}

static void disturb(size_t word, enum sched_kind kind)
{
	for (unsigned i = 0; i < x.plan->fibers; i++) {
		struct task *t = &x.task[i];

		if (t->preempted && t->word == word &&
		    (kind == SCHED_WRITE || t->kind == SCHED_WRITE))
			t->conflict = true;
	}
}

static void begin_pending(size_t word, enum sched_kind kind)
{
	struct task *me = &x.task[x.self];

	if (me->early)
		*me->early = ++x.clock;
	me->early = NULL;
	if (x.plan->mode == SCHED_SEARCH && !x.plan->full && !(word && conflicts(word, kind)))
		return;
	*me->begins = ++x.clock;
	me->begins = NULL;
}

void sched_at_slow(const volatile void *p, enum sched_kind kind, bool point)
{
	size_t word = heap_word(p);

	if (point)
		at_point(word, kind);
	if (word >= 8 && !heap_word_is_live(word))
		sched_fail("memory was used that is free");
	if (word != HEAP_WORD_RCU)
		sched_rcu_step(x.self);
	if (!point)
		return;
	if (x.task[x.self].begins)
		begin_pending(word, kind);
	if (!word)
		return;
	if (x.plan->mode == SCHED_SEARCH && !x.plan->full && !commutes[word])
		remember(word, kind);
	if (x.preempted)
		disturb(word, kind);
}

void sched_freed(size_t word, size_t words)
{
	if (x.self == SCHED_MAIN)
		return;
	/* Which plain fields the others are about to look at is not known: those in a section may. */
	for (unsigned i = 0; i < x.plan->fibers; i++) {
		struct task *t = &x.task[i];

		if (t->preempted && ((sched_rcu_sections() >> i & 1) ||
				     (t->word >= word && t->word < word + words)))
			t->conflict = true;
	}
	if (x.plan->mode == SCHED_SEARCH && !x.plan->full && words <= 64)
		for (size_t i = word; i < word + words; i++)
			if (masks[i].new_read | masks[i].new_write)
				remember(i, SCHED_WRITE);
}

/* ---- what is worth counting ---- */

static bool another_is_inside(void)
{
	for (unsigned i = 0; i < x.plan->fibers; i++)
		if (i != x.self && x.task[i].inside && !x.task[i].begins)
			return true;
	return false;
}

static void count_unlinking(uint64_t from, uint64_t to)
{
	size_t node = kvs__link_is_end(from) ? 0 : heap_word(kvs__link_head(from));
	uint64_t word;

	if (!node || !heap_word_is_live(node))
		return;
	memcpy(&word, heap_bytes + 8 * node, sizeof(word));
	if (!kvs__word_is_marked(word) || kvs__link_head(word) != kvs__link_head(to))
		return;
	sched_counts.unlinked++;
	sched_counts.helped += marker[node] != x.self + 1;
}

void sched_compared(const volatile void *p, uint64_t from, uint64_t to, bool won)
{
	size_t word = heap_word(p);

	if (sched_quiet || !word)
		return;
	if (!won) {
		if (x.plan->trace)
			printf("      lost\n");
		sched_counts.lost++;
	} else if (word == size_word) {
		sched_counts.resized += another_is_inside();
	} else if (!kvs__word_is_marked(from) && kvs__word_is_marked(to)) {
		marker[word] = (uint8_t)(x.self + 1);
	} else {
		count_unlinking(from, to);
	}
}

void sched_stored(const volatile void *p, uint64_t v)
{
	(void)v;
	if (!sched_quiet && heap_word(p) == size_word && size_word)
		sched_counts.resized += another_is_inside();
}

/* ---- operations, sections ---- */

void sched_op_begin(uint32_t *late, uint32_t *early)
{
	x.task[x.self].inside = true;
	x.task[x.self].begins = late;
	x.task[x.self].early = early;
}

bool sched_is_settled(void)
{
	return !x.grown;
}

void sched_op_end(uint32_t *at)
{
	struct task *me = &x.task[x.self];

	if (me->begins)
		*me->begins = ++x.clock;
	me->begins = NULL;
	me->inside = false;
	*at = ++x.clock;
	for (unsigned i = 0; i < x.plan->fibers; i++)
		if (x.task[i].preempted && x.task[i].begins)
			x.task[i].conflict = true;
}

void sched_wait_for(uint32_t mask)
{
	if (x.self == SCHED_MAIN) {
		sched_fail("the main context waits for a section");
		return;
	}
	x.task[x.self].waits_for = mask;
	choose_forced();
}

void sched_section_ended(unsigned fiber)
{
	for (unsigned i = 0; i < SCHED_FIBERS; i++)
		x.task[i].waits_for &= ~(1u << fiber);
}

/* ---- one schedule ---- */

static void body(void)
{
	x.plan->fn(x.self);
	x.task[x.self].done = true;
	choose_forced();
	abort(); /* nobody switches to a fiber that is done */
}

static void start_fibers(void)
{
	for (unsigned i = 0; i < x.plan->fibers; i++) {
		struct kvs__tls tls = x.task[i].tls;

		x.task[i] = (struct task){ .tls = tls };
		x.task[i].priority = 16 + (unsigned)(random_next() >> 40);
		fiber_make(&x.task[i].fiber, stacks[i], body);
	}
}

static void first_choice(void)
{
	uint8_t option[SCHED_FIBERS];
	unsigned count = 0;
	unsigned to;

	for (unsigned i = 0; i < x.plan->fibers; i++)
		if (!(x.plan->twins && i == 1))
			option[count++] = (uint8_t)i;
	to = choose(option, count, true);
	if (x.plan->mode != SCHED_REPLAY)
		note_switch(to, true);
	sched_quiet = 0;
	switch_to(to);
	sched_quiet = 1;
}

/* Those that run now get a fresh allowance. CPU time: a stopped or crowded process is no spinning one. */
static void watch(void)
{
	const struct itimerval allowance = { .it_value.tv_sec = TIMEOUT_S };

	(void)setitimer(ITIMER_PROF, &allowance, NULL);
	alarm(STUCK_S);
}

/* Runs main's part of x.task too: index SCHED_MAIN is never started, only switched back to. */
static enum ending run(void)
{
	x.runs++;
	x.step = 0;
	x.clock = 0;
	x.preemptions = 0;
	x.preempted = 0;
	x.depth = 0;
	x.replayed = 0;
	if (x.plan->mode != SCHED_REPLAY)
		x.switches = 0;
	x.ending = ENDED;
	sched_rcu_reset();
	x.plan->begin();
	start_fibers();
	if (x.runs % 1024 == 1)
		watch();
	first_choice();
	sched_counts.all_steps += x.step;
	sched_counts.preempted += x.preemptions;
	if (x.ending == ENDED)
		x.plan->end();
	if (x.ending == FAILED)
		sched_counts.failed++;
	return x.ending;
}

/* ---- search ---- */

static bool next_branch(void)
{
	while (x.nodes && x.node[x.nodes - 1].at + 1 == x.node[x.nodes - 1].count)
		x.nodes--;
	if (!x.nodes)
		return false;
	x.node[x.nodes - 1].at++;
	return true;
}

static void masks_settle(void)
{
	for (unsigned i = 0; i < touched_count; i++) {
		struct mask *m = &masks[touched[i]];

		m->read = m->new_read;
		m->write = m->new_write;
	}
	x.grown = false;
}

void sched_forget_conflicts(void)
{
	for (unsigned i = 0; i < touched_count; i++)
		masks[touched[i]] = (struct mask){ 0, 0, 0, 0 };
	touched_count = 0;
}

static bool search_once(uint64_t *schedules, uint64_t *redundant, uint64_t *steps)
{
	*schedules = *redundant = *steps = 0;
	x.nodes = 0;
	do {
		enum ending e = run();

		if (e == FAILED)
			return false;
		*schedules += e == ENDED;
		*redundant += e == REDUNDANT;
		*steps += x.step;
	} while (next_branch());
	return true;
}

static bool search(void)
{
	uint64_t schedules, redundant, steps;
	bool good;

	/* Most conflicts show with fewer preemptions, at a fraction of the price. */
	x.bound = x.plan->full ? x.plan->bound : 0;
	for (;;) {
		masks_settle();
		good = search_once(&schedules, &redundant, &steps);
		sched_counts.passes++;
		if (!good || (!x.grown && x.bound == x.plan->bound))
			break;
		if (!x.grown)
			x.bound++;
	}
	sched_counts.schedules += schedules;
	sched_counts.redundant += redundant;
	sched_counts.steps += steps;
	return good;
}

/* ---- the other modes ---- */

static void pct_prepare(void)
{
	for (unsigned i = 0; i < 16; i++)
		x.change[i] = 1 + (uint32_t)(random_next() >> 33) % x.plan->steps;
}

static bool sample(void)
{
	for (uint64_t i = 0; i < x.plan->schedules; i++) {
		x.random = (x.plan->seed + i) * UINT64_C(0x9e3779b97f4a7c15) | 1;
		if (x.plan->mode == SCHED_PCT)
			pct_prepare();
		if (run() == FAILED)
			return false;
		sched_counts.schedules++;
		sched_counts.steps += x.step;
	}
	return true;
}

static bool replay(void)
{
	const char *at = x.plan->replay;
	int used;

	x.switches = 0;
	while (x.switches < SWITCHES_MAX) {
		unsigned step, to;
		char how;

		if (sscanf(at, " %u%c%u%n", &step, &how, &to, &used) != 3 || to >= x.plan->fibers)
			break;
		x.switched[x.switches++] = (struct switched){ step, how == '/', (uint8_t)to };
		at += used;
	}
	return run() != FAILED;
}

bool sched_explore(const struct sched_plan *plan)
{
	x.plan = plan;
	x.runs = 0;
	x.random = plan->seed | 1;
	if (plan->mode == SCHED_SEARCH)
		return search();
	return plan->mode == SCHED_REPLAY ? replay() : sample();
}

/* ---- crashes ---- */

static void crashed(int signal_number)
{
	static const char *const why[] = {
		[SIGSEGV] = "a wild access", [SIGBUS] = "a wild access", [SIGABRT] = "an assertion",
		[SIGALRM] = "no end",        [SIGPROF] = "no end",       [SIGFPE] = "an exception",
		[SIGILL] = "a trap"
	};

	signal(signal_number, SIG_DFL);
	snprintf(sched_failure.message, SCHED_TEXT, "%s", why[signal_number]);
	write_replay(sched_failure.replay, SCHED_TEXT);
	sched_failure.runs = x.runs;
	crash_fn();
	_exit(1);
}

#if defined(__SANITIZE_ADDRESS__)
void __asan_on_error(void);
void __asan_on_error(void)
{
	snprintf(sched_failure.message, SCHED_TEXT, "AddressSanitizer");
	write_replay(sched_failure.replay, SCHED_TEXT);
	sched_failure.runs = x.runs;
	crash_fn();
}
#endif

void sched_on_crash(void (*fn)(void))
{
	static unsigned char stack[64 << 10];
	const int signals[] = { SIGSEGV, SIGBUS, SIGABRT, SIGALRM, SIGPROF, SIGFPE, SIGILL };
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_handler = crashed, .sa_flags = SA_ONSTACK };

	crash_fn = fn;
	(void)sigaltstack(&ss, NULL);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		(void)sigaction(signals[i], &sa, NULL);
}
