/* SPDX-License-Identifier: MIT */
/*
 * maintain.c - one round of what can wait, and the thread that makes rounds.
 *
 * SLEEP AND WAKE  The thread sets idle, then looks once more for work; a write stores its work
 * (a batch put back, a size published), then loads idle. Both in seq_cst order, so one of them
 * sees the other (PAIRS(M1)). The post of a semaphore never waits.
 *
 * ROUND   A round does at most its budget of steps: an entry freed, a head linked, so many for a span looked at. It ends
 * by saying when there is more to do: now, after a tick, or not before a write. It never waits: what needs
 * a grace period asks for one and goes on in a later round. Admin is only tried, and is let go in between,
 * so that the calls that wait for it go first.
 *
 * SHRINK  All tables that are to be halved go through the steps together, so that it costs two
 * grace periods, however many tables there are. GP 1: operations that loaded the larger size,
 * and may start from an upper head or be linking one, have ended. GP 2: walkers that stand on a removed
 * head, or were led to one, have ended. Between the steps the root may be exchanged; whoever does that waits for
 * a grace period and then forgets the shrink. A reader that stalls in either holds back neither the rest of a
 * round nor growth.
 *
 * FILTERS  Where a head was linked among entries, or one removed, a filter is full; where keys have gone, one may be fuller than it need be
 * (list.c). When heads were filled, or as many entries have gone as there are buckets, and the tables have been
 * calm for a while, filters with many bits are made anew in two passes over the heads, with a grace period between them. It can wait: full
 * filters are sound, and while keys stream in there is better use for the time.
 *
 * GIVING BACK  A chunk whose last block is freed goes back at once (arena.c). What random deletes leave are pages.
 * They are looked for only when the arena has held a quarter more than what is in use for ROOMY_MS: what overwrites free is
 * soon taken again, and giving it back would cost a page fault each and the huge pages besides.
 *
 * GRACE PERIODS  The worker's, where there is one. Else kvs_run waits for one itself, at most one a call: what
 * is parked becomes ripe by it, and a shrink that waits goes on, or the making of filters.
 */
#include "maintain.h"

#include "expiry.h"

#include <errno.h>
#include <time.h>

#define LINK_PIECE 64u    /* heads linked in one read section */
#define SHRINK_PIECE 256u /* heads unlinked in one read section */
#define FILTER_PIECE 256u /* heads whose filters are looked at in one read section */
#define SHRINK_LOAD 8u    /* shrink below 1/8 key a bucket; growth begins above 1 */
#define ROUND_BUDGET ((uint64_t)1 << 14)
#define TRIM_SPANS 16u      /* looked at in one piece */
#define TRIM_STEPS 64u      /* what a span counts for */
#define PREPARE_STEPS 1024u /* what a chunk to be cleared counts for */
#define ROOMY_BYTES                                                                                \
	(KVS__ARENA_CHUNK + ((uint64_t)1 << 20)) /* a chunk is mapped before it is full */
#define ROOMY_MS 200u
#define CALM_LOOKS                                                                                 \
	4u /* so many looks that found few entries more or less than the one before; mostly a tick apart */
#define CALM_SHARE 4096u /* few: one in so many, */
#define CALM_FEW 64u     /* and so many */

/* When there is more to do. */
enum next { NEXT_NOW, NEXT_TICK, NEXT_WRITE };

struct round {
	struct kvs *kv;
	struct kvs__root *root;
	uint64_t now_ms;
	uint64_t budget; /* steps left */
	bool may_wait;   /* a grace period that is asked for will come */
	enum next next;
};

static void spend(struct round *r, uint64_t steps)
{
	r->budget -= steps < r->budget ? steps : r->budget;
}

static void again(struct round *r, enum next next)
{
	if (next < r->next)
		r->next = next;
}

uint64_t kvs__maintain_now_ms(const struct kvs *kv)
{
	return (uint64_t)kvs__clock_now(&kv->clock);
}

/* Calls that wait for admin go first: what there is to do here is done in pieces. */
static bool may_go_on(const struct round *r)
{
	return r->budget > 0 && load_seq_cst(&r->kv->admin_waiters) == 0 &&
	       !load_seq_cst(&r->kv->maintainer.stop);
}

/* ---- growth ---- */

uint64_t kvs__maintain_link(struct kvs__root *root, uint64_t budget)
{
	uint64_t done = 0;
	uint64_t i;

	for (i = 0; i < root->shards && done < budget; i++) {
		uint64_t n;

		do {
			kvs__rcu_read_lock();
			n = kvs__link_heads(&root->table[i], LINK_PIECE);
			kvs__rcu_read_unlock();
			done += n;
		} while (n && done < budget);
	}
	return done;
}

/* ---- shrink ---- */

static bool is_too_large(const struct kvs__table *t)
{
	unsigned bits = kvs__size_bits(load_seq_cst(&t->size));

	/* a count that is below zero for a moment will be seen as small, not as huge */
	return bits > t->bits_min &&
	       (int64_t)load_seq_cst(&t->count) < (int64_t)(((uint64_t)1 << bits) / SHRINK_LOAD);
}

static bool has_flag(const struct kvs__table *t, uint32_t flag)
{
	return (load_seq_cst(&t->size) & flag) != 0;
}

static unsigned begin_all(struct kvs__root *root)
{
	unsigned n = 0;
	uint64_t i;

	for (i = 0; i < root->shards; i++)
		n += is_too_large(&root->table[i]) && kvs__shrink_begin(&root->table[i]);
	return n;
}

static void unlink_upper(struct kvs__table *t)
{
	uint64_t first = 0;
	bool more;

	do {
		kvs__rcu_read_lock();
		more = kvs__unlink_heads(t, first, SHRINK_PIECE);
		kvs__rcu_read_unlock();
		first += SHRINK_PIECE;
	} while (more);
}

/* Unlinks the upper heads of the next table whose size was withdrawn. false: there is none. */
static bool commit_next(struct kvs__root *root, unsigned *ret_halved)
{
	uint64_t i;

	for (i = 0; i < root->shards; i++) {
		struct kvs__table *t = &root->table[i];

		if (!has_flag(t, KVS__SIZE_SHRINKING) || !kvs__shrink_commit(t))
			continue;
		unlink_upper(t);
		kvs__shrink_detach(t);
		++*ret_halved;
		return true;
	}
	return false;
}

static void end_all(struct kvs__root *root)
{
	uint64_t i;

	for (i = 0; i < root->shards; i++)
		if (root->table[i].detached)
			kvs__shrink_end(&root->table[i]);
}

unsigned kvs__maintain_shrink(struct kvs *kv, struct kvs__root *root)
{
	struct kvs__maintainer *m = &kv->maintainer;
	unsigned n = 0;

	if (begin_all(root) == 0 && m->shrink == KVS__SHRINK_NONE)
		return 0;
	kvs__rcu_wait(&kv->reclaim.worker); /* GP 1 */
	while (commit_next(root, &n))
		;
	if (n || m->shrink != KVS__SHRINK_NONE)
		kvs__rcu_wait(&kv->reclaim.worker); /* GP 2 */
	end_all(root);
	m->shrink = KVS__SHRINK_NONE;
	return n;
}

static uint64_t entries_gone(const struct kvs *kv)
{
	const struct kvs__slot *s;
	uint64_t gone = 0;

	for (s = load_acquire(&kv->home.slots); s; s = s->next)
		gone += load_relaxed(&s->deletes) + load_relaxed(&s->expirations);
	return gone;
}

void kvs__maintain_forget(struct kvs *kv)
{
	kv->maintainer.shrink = KVS__SHRINK_NONE;
	kv->maintainer.filters = (struct kvs__filters){ .done.gone = entries_gone(kv) };
}

static bool awaits_gp(const struct kvs__maintainer *m)
{
	return m->shrink != KVS__SHRINK_NONE && m->shrink != KVS__FILTERS_WATCH &&
	       !load_seq_cst(&m->gp_over);
}

void kvs__maintain_adopt(struct kvs *kv)
{
	struct kvs__maintainer *m = &kv->maintainer;

	if (!awaits_gp(m))
		return;
	kvs__rcu_wait(&kv->reclaim.worker);
	store_seq_cst(&m->gp_over, 1);
}

static void gp_is_over(struct kvs__rcu_head *head)
{
	store_seq_cst(&kvs_container_of(head, struct kvs__maintainer, gp)->gp_over, 1);
}

/* Without a worker kvs_run says so. */
static void shrink_wait(struct kvs *kv, enum kvs__shrink_state state)
{
	struct kvs__maintainer *m = &kv->maintainer;

	m->shrink = state;
	store_seq_cst(&m->gp_over, 0);
	if (kvs__rcu_worker_runs(&kv->reclaim.worker))
		kvs__rcu_call(&kv->reclaim.worker, &m->gp, gp_is_over);
}

static void shrink_commit(struct round *r)
{
	unsigned halved;

	while (may_go_on(r)) {
		halved = 0;
		if (!commit_next(r->root, &halved)) {
			shrink_wait(r->kv, KVS__SHRINK_GP_2);
			return;
		}
		spend(r, SHRINK_PIECE);
	}
	again(r, NEXT_NOW);
}

static void shrink(struct round *r)
{
	struct kvs__maintainer *m = &r->kv->maintainer;
	bool over = load_seq_cst(&m->gp_over); /* once: it may be over between two looks */

	if (m->shrink == KVS__SHRINK_NONE) {
		if (begin_all(r->root))
			shrink_wait(r->kv, KVS__SHRINK_GP_1);
	} else if (over && m->shrink == KVS__SHRINK_GP_1) {
		shrink_commit(r);
	} else if (over && m->shrink == KVS__SHRINK_GP_2) {
		end_all(r->root);
		m->shrink = KVS__SHRINK_NONE;
	}
	if (m->shrink == KVS__SHRINK_GP_1 || m->shrink == KVS__SHRINK_GP_2)
		again(r, NEXT_TICK);
}

/* ---- filters ---- */

struct look {
	struct kvs__filters_wear wear;
	uint64_t buckets;
	uint64_t entries;
	bool linked; /* all heads are */
};

static struct look look_at(const struct kvs *kv, const struct kvs__root *root)
{
	struct look l = { .linked = true };
	uint64_t i;

	for (i = 0; i < root->shards; i++) {
		const struct kvs__table *t = &root->table[i];
		uint64_t buckets = kvs__table_buckets(t);

		l.wear.full += load_relaxed(&t->filled);
		l.buckets += buckets;
		l.entries += load_seq_cst(&t->count);
		l.linked &= load_seq_cst(&t->link_next) >= buckets;
	}
	l.wear.gone = entries_gone(kv);
	return l;
}

/* Have few entries come or gone for a while? Looks, not time: a program that calls kvs_run says how long that is. */
static bool is_calm(struct kvs__filters *f, uint64_t entries)
{
	uint64_t moved = entries > f->entries ? entries - f->entries : f->entries - entries;

	f->calm = moved <= f->entries / CALM_SHARE + CALM_FEW ? f->calm + 1 : 0;
	f->entries = entries;
	return f->calm >= CALM_LOOKS;
}

static bool is_worn(const struct kvs__filters *f, struct look l)
{
	return l.wear.full != f->done.full || l.wear.gone - f->done.gone >= l.buckets;
}

static bool filters_begin(struct round *r)
{
	struct kvs__filters *f = &r->kv->maintainer.filters;
	struct look l = look_at(r->kv, r->root);

	if (!is_worn(f, l))
		return false;
	again(r, NEXT_TICK);
	if (!l.linked || !is_calm(f, l.entries))
		return false;
	*f = (struct kvs__filters){ .done = f->done, .doing = l.wear };
	r->kv->maintainer.shrink = KVS__FILTERS_WATCH;
	return true;
}

typedef uint64_t filters_fn(struct kvs__table *t, uint64_t first, uint64_t end);

/* One pass over all heads, as far as the round goes. true: it is over. */
static bool filters_pass(struct round *r, filters_fn *fn)
{
	struct kvs__filters *f = &r->kv->maintainer.filters;

	while (f->shard < r->root->shards && may_go_on(r)) {
		struct kvs__table *t = &r->root->table[f->shard];

		kvs__rcu_read_lock();
		spend(r, fn(t, f->head, f->head + FILTER_PIECE));
		kvs__rcu_read_unlock();
		f->head += FILTER_PIECE;
		if (f->head >= kvs__table_buckets(t)) {
			f->head = 0;
			f->shard++;
		}
	}
	if (f->shard < r->root->shards) {
		again(r, NEXT_NOW);
		return false;
	}
	f->shard = 0;
	return true;
}

static void filters(struct round *r)
{
	struct kvs__maintainer *m = &r->kv->maintainer;
	bool over = load_seq_cst(&m->gp_over);

	if (!r->may_wait || (m->shrink == KVS__SHRINK_NONE && !filters_begin(r)))
		return;
	if (m->shrink == KVS__FILTERS_WATCH && filters_pass(r, kvs__watch_heads)) {
		shrink_wait(r->kv, KVS__FILTERS_GP);
		again(r, NEXT_TICK);
	} else if (m->shrink == KVS__FILTERS_GP && !over) {
		again(r, NEXT_TICK);
	} else if (m->shrink == KVS__FILTERS_GP && filters_pass(r, kvs__tighten_heads)) {
		m->filters.done = m->filters.doing;
		m->shrink = KVS__SHRINK_NONE;
		if (is_worn(&m->filters, look_at(r->kv, r->root)))
			again(r, NEXT_TICK);
	}
}

/* ---- giving back ---- */

static bool is_roomy(struct kvs__arena *arena)
{
	uint64_t used = kvs__arena_used(arena);
	uint64_t resident = kvs__arena_mapped(arena) - kvs__arena_given(arena);

	return (int64_t)(resident - used) > (int64_t)(used / 4 + ROOMY_BYTES);
}

/* The arena has been roomy for long enough. */
static bool wants_trim(struct round *r)
{
	struct kvs__maintainer *m = &r->kv->maintainer;

	if (!is_roomy(r->kv->pool.arena)) {
		m->roomy_since_ms = 0;
		return false;
	}
	if (!m->roomy_since_ms)
		m->roomy_since_ms = r->now_ms + !r->now_ms;
	return r->now_ms - m->roomy_since_ms >= ROOMY_MS;
}

static void trim(struct round *r)
{
	struct kvs__maintainer *m = &r->kv->maintainer;
	uint64_t freed = load_seq_cst(&r->kv->reclaim.freed_batches);

	m->trimming |= freed != m->freed_seen;
	m->freed_seen = freed;
	if (!r->kv->pool.arena || !m->trimming)
		return;
	if (!wants_trim(r)) {
		m->trimming = m->roomy_since_ms != 0;
		again(r, m->trimming ? NEXT_TICK : NEXT_WRITE);
		return;
	}
	while (m->trimming && may_go_on(r)) {
		m->trimming = kvs__arena_trim_step(r->kv->pool.arena, &m->trim_cursor,
						   TRIM_SPANS) == TRIM_SPANS;
		spend(r, TRIM_SPANS * TRIM_STEPS);
	}
	again(r, m->trimming ? NEXT_NOW : NEXT_WRITE);
}

/* ---- a round ---- */

/* So that no writer waits for a chunk to be cleared. */
static void prepare_memory(struct round *r)
{
	struct kvs__arena *arena = r->kv->pool.arena;

	if (arena && may_go_on(r) && kvs__arena_prepare(arena))
		spend(r, PREPARE_STEPS);
}

static bool root_has_work(const struct kvs__root *root)
{
	uint64_t i;

	for (i = 0; i < root->shards; i++) {
		const struct kvs__table *t = &root->table[i];

		if (load_seq_cst(&t->link_next) < kvs__table_buckets(t) || is_too_large(t))
			return true;
	}
	return false;
}

static void free_ripe(struct round *r)
{
	unsigned n;

	while (may_go_on(r) && (n = kvs__reclaim_free_ripe(&r->kv->reclaim)) != 0)
		spend(r, n);
	if (kvs__reclaim_has_ripe(&r->kv->reclaim))
		again(r, r->budget ? NEXT_TICK : NEXT_NOW);
}

/* Holding admin keeps the root: only its holders swap and free it. */
static void round_held(struct round *r)
{
	r->root = load_seq_cst(&r->kv->root);
	if (!r->root)
		return;
	prepare_memory(r);
	while (may_go_on(r)) {
		uint64_t n = kvs__maintain_link(r->root, LINK_PIECE);

		if (!n)
			break;
		spend(r, n);
	}
	shrink(r);
	filters(r);
	trim(r);
	if (root_has_work(r->root))
		again(r, r->budget ? NEXT_TICK : NEXT_NOW);
}

/* Half of a round at most, so that a storm of timers does not hold back the rest. Needs no admin: expiry.c. */
static void expire(struct round *r)
{
	uint64_t share = r->budget / 2 + 1;
	uint64_t left = share;

	kvs__clock_sync(&r->kv->clock);
	switch (kvs__expiry_pass(r->kv, kvs__clock_now(&r->kv->clock), &left)) {
	case KVS__EXPIRY_NOW:
		again(r, NEXT_NOW);
		break;
	case KVS__EXPIRY_LATER:
		again(r, NEXT_TICK);
		break;
	default:
		break;
	}
	spend(r, share - left);
}

static void round_begin(struct round *r, struct kvs *kv, uint64_t budget)
{
	*r = (struct round){ .kv = kv, .budget = budget, .may_wait = true, .next = NEXT_WRITE };
	r->now_ms = kvs__maintain_now_ms(kv);
	expire(r);
	if (kvs__slots_take_over(&kv->home, &kv->reclaim))
		again(r, NEXT_TICK);
}

/* How old the stall is that is to be reported now; 0: none. */
static uint64_t stall_due(struct kvs *kv, uint64_t age_ms)
{
	uint64_t times = age_ms / kv->stall_ms;
	bool due = times > kv->maintainer.stall_reported;

	kv->maintainer.stall_reported = times;
	return kv->stall_fn && due ? age_ms : 0;
}

static void report_stall(struct kvs *kv, uint64_t age_ms)
{
	if (!age_ms)
		return;
	fetch_add_relaxed(&kv->stalls, 1);
	kv->stall_fn(kv, age_ms, kvs__reclaim_deferred(&kv->reclaim), kv->stall_ctx);
}

/* ---- kvs_run ---- */

/* Other work has a tick of its own, which a wheel with a finer one shortens. */
static uint32_t tick_ms_of(const struct kvs *kv)
{
	return kv->tick_ms < KVS__TICK_MS ? kv->tick_ms : KVS__TICK_MS;
}

static int next_ms(const struct kvs *kv, enum next next)
{
	switch (next) {
	case NEXT_NOW:
		return 0;
	case NEXT_TICK:
		return (int)tick_ms_of(kv);
	default:
		return -1;
	}
}

/* The one grace period of a call, watched while it is waited for. */
static void wait_once(struct kvs *kv)
{
	struct kvs__maintainer *m = &kv->maintainer;
	bool awaits = awaits_gp(m);

	kvs__reclaim_watch(&kv->reclaim, kvs__maintain_now_ms(kv));
	if (!kvs__reclaim_ripen(&kv->reclaim) && awaits)
		kvs__rcu_wait(&kv->reclaim.worker); /* GP of the shrink, or of the filters */
	kvs__reclaim_watch_end(&kv->reclaim);
	if (awaits)
		store_seq_cst(&m->gp_over, 1);
}

/*
 * Under admin. Returns the age of a stall to be reported: of what this call has waited for. Between the calls
 * nobody waits, so no time that passes there is anybody's stall.
 */
static uint64_t run_held(struct round *r, struct kvs *kv, uint64_t budget, uint32_t flags)
{
	bool waits = !kv->maintainer.runs && !kvs__rcu_worker_runs(&kv->reclaim.worker) &&
		     !(flags & KVS_RUN_DONT_WAIT);
	uint64_t waited = 0;

	round_begin(r, kv, budget);
	r->may_wait = waits || kv->maintainer.runs || kvs__rcu_worker_runs(&kv->reclaim.worker);
	if (kvs__rcu_worker_runs(&kv->reclaim.worker))
		kvs__reclaim_watch(&kv->reclaim, r->now_ms);
	free_ripe(r);
	if (waits) {
		uint64_t since = kvs__maintain_now_ms(kv);

		wait_once(kv);
		waited = kvs__maintain_now_ms(kv) - since;
		kv->maintainer.stall_reported = 0;
	}
	free_ripe(r);
	round_held(r);
	return waits ? stall_due(kv, waited) : 0;
}

KVS_API int kvs_run(struct kvs *kv, uint64_t budget, uint32_t flags, int *ret_next_ms)
{
	struct round r;
	uint64_t stall;
	int err;

	if (!kv || flags & ~KVS_RUN_DONT_WAIT)
		return KVS_ERR_INVALID_ARGUMENT;
	if (!load_seq_cst(&kv->root))
		return KVS_ERR_STORE_CLOSED;
	err = kvs__waiting_call_refused(kv);
	if (err)
		return err;
	if (pthread_mutex_trylock(&kv->admin) != 0)
		return KVS_ERR_BUSY;
	if (!load_seq_cst(&kv->root)) {
		kvs__admin_unlock(kv);
		return KVS_ERR_STORE_CLOSED;
	}
	stall = run_held(&r, kv, budget ? budget : KVS_RUN_BUDGET_DEFAULT, flags);
	if (!kvs__reclaim_is_idle(&kv->reclaim))
		again(&r, NEXT_TICK);
	kvs__admin_unlock(kv);
	if (ret_next_ms)
		*ret_next_ms = next_ms(kv, r.next);
	report_stall(kv, stall);
	return KVS_OK;
}

/* ---- the thread ---- */

static enum next pass(struct kvs *kv)
{
	struct round r;

	round_begin(&r, kv, ROUND_BUDGET);
	free_ripe(&r);
	if (!may_go_on(&r) || pthread_mutex_trylock(&kv->admin) != 0) {
		again(&r, NEXT_TICK);
	} else {
		round_held(&r);
		pthread_mutex_unlock(&kv->admin);
	}
	if (!kvs__reclaim_is_idle(&kv->reclaim))
		again(&r, NEXT_TICK);
	kvs__reclaim_watch(&kv->reclaim, r.now_ms);
	report_stall(kv, stall_due(kv, kvs__reclaim_age(&kv->reclaim, r.now_ms)));
	return r.next;
}

static void sleep_a_tick(struct kvs__maintainer *m, uint32_t tick_ms)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += tick_ms / 1000;
	until.tv_nsec += (long)(tick_ms % 1000) * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_nsec -= 1000000000L;
		until.tv_sec++;
	}
	while (sem_clockwait(&m->wake, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR)
		;
}

static void sleep_until_woken(struct kvs__maintainer *m)
{
	kvs__thread_await(&m->wake);
	store_seq_cst(&m->idle, 0);
}

static __thread bool is_a_stores; /* this thread */

static void *maintain(void *arg)
{
	struct kvs *kv = arg;
	struct kvs__maintainer *m = &kv->maintainer;

	is_a_stores = true;
	while (!load_seq_cst(&m->stop)) {
		enum next next = pass(kv);

		if (next != NEXT_WRITE) {
			store_seq_cst(&m->idle, 0);
			if (next == NEXT_TICK)
				sleep_a_tick(m, tick_ms_of(kv));
		} else if (load_seq_cst(&m->idle) == 0) {
			store_seq_cst(&m->idle, 1); /* PAIRS(M1): then one more pass */
		} else {
			sleep_until_woken(m);
		}
		while (sem_trywait(&m->wake) == 0)
			; /* the pass that comes answers them all */
	}
	store_seq_cst(&m->idle, 0); /* wake it no more */
	(void)sem_post(&m->ended);
	return NULL;
}

KVS_COLD void kvs__maintainer_wake_slow(struct kvs *kv)
{
	uint32_t idle = 1;

	if (cas_seq_cst(&kv->maintainer.idle, &idle, 0))
		(void)sem_post(&kv->maintainer.wake);
}

KVS_COLD void kvs__maintainer_hurry(struct kvs *kv)
{
	if (kv->maintainer.runs)
		(void)sem_post(&kv->maintainer.wake);
}

bool kvs__maintainer_is_here(void)
{
	return is_a_stores;
}

bool kvs__maintainer_start(struct kvs *kv)
{
	struct kvs__maintainer *m = &kv->maintainer;

	store_seq_cst(&m->idle, 0);
	store_seq_cst(&m->stop, 0);
	if (sem_init(&m->wake, 0, 0) != 0 || sem_init(&m->ended, 0, 0) != 0)
		return false;
	m->runs =
		true; /* before the thread is: in a stall function it may write, and so look at this */
	if (kvs__thread_start(&m->thread, "kvs-maint", maintain, kv))
		return true;
	m->runs = false;
	(void)sem_destroy(&m->wake);
	(void)sem_destroy(&m->ended);
	return false;
}

bool kvs__maintainer_stop(struct kvs *kv)
{
	struct kvs__maintainer *m = &kv->maintainer;
	bool ran = m->runs;

	if (!ran)
		return false;
	store_seq_cst(&m->stop, 1);
	(void)sem_post(&m->wake);
	kvs__thread_await(&m->ended);
	m->runs = false;
	return true;
}

void kvs__maintainer_join(struct kvs *kv)
{
	struct kvs__maintainer *m = &kv->maintainer;

	kvs__thread_join(m->thread);
	(void)sem_destroy(&m->wake);
	(void)sem_destroy(&m->ended);
}
