/* SPDX-License-Identifier: MIT */
/*
 * expiry.c - timed entries and the wheel: removed on time, freed when nobody knows them any more.
 *
 * WHO  The wheel has no thread of its own. Whoever takes the role (a mutex, only tried) turns it: the store's thread every
 * tick, kvs_run, or a writer whose messages wait in too great a number, for one bounded piece. Writers never
 * touch the wheel; they send messages, through a mailbox in their slot that no other thread writes to:
 *
 *   ADDED    the entry was published. Sent in the section that published it, after the CAS.
 *   RETIRED  it was removed. Sent by its remover after it was unlinked, in place of retiring it.
 *
 * The two use different links of the entry, since both may wait at once; mailboxes are taken whole and give the newest
 * first, and RETIRED may come before ADDED. Neither matters: an entry says in ring.prev, which only the role's holder uses
 * from ADDED on, how far it is.
 *
 *               ADDED                  comes off the wheel           RETIRED
 *   NEW ------------------> on the wheel ----------------> OFF ------------------> to a batch
 *    |                           '--------------------------- RETIRED --------------^
 *    '--- RETIRED ---> EARLY ------------------------------------- ADDED -----------'
 *
 * INVARIANTS
 *
 * INV-E1  ADDED and RETIRED are sent once each, but what the role's holder removed itself needs no RETIRED; only the
 *         role's holder puts a timed entry into a batch, after both. If a fork came before ADDED, its child sends it.
 *         So while a message or the wheel leads to an entry it is not freed, and its address is not another entry's.
 * INV-E2  The wheel, the links of entries on it and the states above are touched under the role only.
 * INV-E3  The role is taken, but by flush and forget, in a section that found a root, and given up before that ends. So after
 *         close has taken the root away and waited for a grace period, nobody has the role or can take it.
 *
 * FIRING  removes this entry, never "the key": the key is looked up, and if the live entry found is not this one, somebody
 * has removed it and its RETIRED is on its way. It goes the way of every delete: mark, unlink, then to the snapshot
 * that it is owed to or into a batch. An entry that is not found and yet not marked is of another root, one that is being
 * loaded or freed: it is filed again for the next tick.
 *
 * GP: from the unlinking, which comes before RETIRED, to the free: a batch, as for all entries.
 */
#include "expiry.h"

#include "maintain.h"
#include "quota.h"
#include "snapshot.h"

#define PIECE 64u        /* timers, and messages, in one section */
#define HELP_ABOVE 4096u /* messages of one thread that wait */
#define WAKE_ABOVE 1024u /* likewise: the store's thread does not sleep its tick out */
#define HELP_EVERY 16u   /* messages: then a writer looks */

/* What an entry that is not on the wheel says in ring.prev. */
#define NEW ((struct kvs__ring *)0)
#define EARLY ((struct kvs__ring *)1)
#define OFF ((struct kvs__ring *)2)

static bool is_on_wheel(const struct kvs__timer *t)
{
	return (uintptr_t)t->ring.prev > (uintptr_t)OFF;
}

/* ---- what writers do ---- */

static struct kvs__message *added_of(struct kvs__entry *e)
{
	return (struct kvs__message *)(void *)&kvs__entry_timed(e)->timer.ring.next;
}

void kvs__expiry_added(struct kvs__slot *slot, struct kvs__entry *e)
{
	kvs__mailbox_send(&slot->added, added_of(e));
	add_owned(&slot->sent, 1);
}

void kvs__expiry_retired(struct kvs *kv, struct kvs__slot *slot, struct kvs__entry *e)
{
	kvs__note_retired(kv, slot, kvs__entry_footprint(&kv->pool, e));
	kvs__expiry_pass_on(kv, slot, e);
}

void kvs__expiry_pass_on(struct kvs *kv, struct kvs__slot *slot, struct kvs__entry *e)
{
	if (likely(slot))
		add_owned(&slot->sent, 1);
	else /* no memory for one: anybody may send through the role's */
		slot = kv->expiry.slot;
	kvs__mailbox_send(&slot->retired, &kvs__entry_timed(e)->retire);
}

static struct kvs__entry *entry_of_timer(struct kvs__timer *t)
{
	return kvs__timed_entry(kvs_container_of(t, struct kvs__timed, timer));
}

static struct kvs__entry *entry_of_added(struct kvs__message *m)
{
	return entry_of_timer(
		kvs_container_of((struct kvs__ring *)(void *)m, struct kvs__timer, ring));
}

static struct kvs__entry *entry_of_retired(struct kvs__message *m)
{
	return kvs__timed_entry(kvs_container_of(m, struct kvs__timed, retire));
}

/* ---- the role's work ---- */

/* What its holder has in hand. */
struct shift {
	struct kvs *kv;
	struct kvs__expiry *x;
	struct kvs__batch *batch;
};

static bool shift_begin(struct shift *s, struct kvs *kv, bool wait)
{
	*s = (struct shift){ .kv = kv, .x = &kv->expiry };
	if (wait)
		return pthread_mutex_lock(&s->x->role) == 0;
	return pthread_mutex_trylock(&s->x->role) == 0;
}

static void batch_release(struct shift *s)
{
	if (s->batch)
		kvs__reclaim_release(&s->kv->reclaim, &s->x->slot->batch, s->batch);
	s->batch = NULL;
}

static void shift_end(struct shift *s)
{
	store_relaxed(&s->x->timers, s->x->wheel.count);
	pthread_mutex_unlock(&s->x->role);
}

/* false: no memory. */
static bool has_room(struct shift *s)
{
	if (s->batch && s->batch->count == KVS__BATCH_ROOM)
		batch_release(s);
	if (!s->batch)
		s->batch = kvs__reclaim_reserve(&s->kv->reclaim, &s->x->slot->batch);
	return s->batch != NULL;
}

/* Nobody knows the entry any more: into a batch; without memory for one it waits, linked, until there is. */
static void bury(struct shift *s, struct kvs__entry *e)
{
	struct kvs__message *m = &kvs__entry_timed(e)->retire;

	if (likely(has_room(s))) {
		(void)kvs__retire(s->batch, e);
		return;
	}
	m->next = s->x->dead;
	s->x->dead = m;
}

static void bury_dead(struct shift *s)
{
	while (s->x->dead && has_room(s)) {
		struct kvs__message *m = s->x->dead;

		s->x->dead = m->next;
		(void)kvs__retire(s->batch, entry_of_retired(m));
	}
}

/* ---- messages ---- */

static void on_added(struct shift *s, struct kvs__entry *e)
{
	struct kvs__timer *t = &kvs__entry_timed(e)->timer;

	if (t->ring.prev == EARLY)
		bury(s, e);
	else if (kvs__word_is_marked(load_seq_cst(&e->next)))
		t->ring.prev = OFF; /* RETIRED is on its way */
	else
		kvs__wheel_add(&s->x->wheel, t);
}

static void on_retired(struct shift *s, struct kvs__entry *e)
{
	struct kvs__timer *t = &kvs__entry_timed(e)->timer;

	if (t->ring.prev == NEW) {
		t->ring.prev = EARLY;
		return;
	}
	if (is_on_wheel(t))
		kvs__wheel_remove(&s->x->wheel, t);
	bury(s, e);
}

/* Something was taken and not looked at yet. */
static bool has_taken(const struct kvs__expiry *x)
{
	return x->added || x->retired;
}

/* Take the mail of @slot, with nothing else in hand. false: it has none. */
static bool take_mail_of(struct kvs__expiry *x, struct kvs__slot *slot)
{
	x->from = slot;
	x->added = kvs__mailbox_take(&slot->added);
	x->retired = kvs__mailbox_take(&slot->retired);
	return has_taken(x);
}

/* Take the mail of the next slot that has some. false: none has. */
static bool take_mail(struct shift *s)
{
	struct kvs__expiry *x = s->x;
	struct kvs__slot *last = x->from;
	struct kvs__slot *next;

	do
		next = x->from->next ? x->from->next : load_acquire(&s->kv->home.slots);
	while (!take_mail_of(x, next) && next != last);
	return has_taken(x);
}

/* The next message that was taken; the entry it is about, and which it is. */
static struct kvs__entry *next_message(struct kvs__expiry *x, bool *ret_added)
{
	struct kvs__message **from = x->added ? &x->added : &x->retired;
	struct kvs__message *m = *from;

	*ret_added = from == &x->added;
	*from = m->next;
	if (*from)
		__builtin_prefetch(*from);
	add_owned(&x->from->seen, 1);
	return *ret_added ? entry_of_added(m) : entry_of_retired(m);
}

static void read_one(struct shift *s)
{
	bool added;
	struct kvs__entry *e = next_message(s->x, &added);

	if (added)
		on_added(s, e);
	else
		on_retired(s, e);
}

/* At most @budget messages. Returns how many; fewer: there are no more. */
static unsigned read_mail(struct shift *s, unsigned budget)
{
	unsigned n;

	for (n = 0; n < budget && (has_taken(s->x) || take_mail(s)); n++)
		read_one(s);
	return n;
}

/* ---- timers ---- */

static void note_lag(struct shift *s, int64_t lag_ms)
{
	struct kvs__expiry *x = s->x;
	uint64_t lag = lag_ms > 0 ? (uint64_t)lag_ms : 0;

	add_owned(&x->lag[kvs__lag_bucket(lag)], 1);
	if (lag > load_relaxed(&x->lag_max))
		store_relaxed(&x->lag_max, lag);
	add_owned(&x->slot->expirations, 1);
}

/* The entry was marked and unlinked here; nobody else sends RETIRED, unless a snapshot is owed it. */
static void fired(struct shift *s, struct kvs__table *t, struct kvs__view view,
		  struct kvs__entry *e)
{
	int64_t deadline = kvs__entry_deadline(e);

	kvs__expiry_mark(e);
	(void)fetch_sub_seq_cst(&t->count, 1);
	note_lag(s, kvs__clock_now(&s->kv->clock) - deadline);
	if (unlikely(view.mode != KVS__QUIET) &&
	    kvs__leave_to_snapshot(s->kv, s->x->slot, view, e, NULL))
		return;
	kvs__note_retired(s->kv, s->x->slot, kvs__entry_footprint(&s->kv->pool, e));
	bury(s, e);
}

/*
 * An entry that is not in the lists of @root: of a load under way, or of contents that have taken the place of @root. Else
 * it is of contents that were exchanged before, which are freed, timer or not; or of a load that a fork has left behind.
 */
static bool is_of_later_contents(struct kvs *kv, const struct kvs__root *root, struct kvs__entry *e)
{
	return !kvs__word_is_marked(load_seq_cst(&e->next)) &&
	       (load_seq_cst(&kv->loading) || load_seq_cst(&kv->root) != root);
}

/* A timer came off the wheel: remove its entry, if it is still in the list. */
static void fire(struct shift *s, struct kvs__root *root, struct kvs__entry *e)
{
	struct kvs__timer *timer = &kvs__entry_timed(e)->timer;
	struct kvs__target target;
	struct kvs__table *t;
	struct kvs__place p;
	struct kvs__view view;

	timer->ring.prev = OFF;
	if (kvs__target_of(s->kv, kvs_bytes(e->bytes, kvs__entry_key_len(e)), &target))
		return; /* closed meanwhile, or the user's shard function has changed its mind */
	t = &root->table[target.shard];
	do {
		view = kvs__cut_view(&s->kv->cut);
		kvs__find(t, &target.wanted, &p);
		if (p.match != e) {
			if (is_of_later_contents(s->kv, root, e))
				kvs__wheel_add_later(&s->x->wheel, timer);
			return;
		}
	} while (!kvs__delete_at(t, &p, view.mode == KVS__LATE));
	fired(s, t, view, e);
}

static unsigned fire_some(struct shift *s, struct kvs__root *root, unsigned budget)
{
	unsigned left = budget;

	while (left && kvs__wheel_has_work(&s->x->wheel)) {
		struct kvs__timer *t = kvs__wheel_next(&s->x->wheel, &left);

		if (t)
			fire(s, root, entry_of_timer(t));
	}
	return budget - left;
}

/* ---- pieces ---- */

static bool has_mail(const struct shift *s)
{
	const struct kvs__slot *slot;

	if (has_taken(s->x))
		return true;
	for (slot = load_acquire(&s->kv->home.slots); slot; slot = slot->next)
		if (kvs__mailbox_has_some(&slot->added) || kvs__mailbox_has_some(&slot->retired))
			return true;
	return false;
}

/* The role is had. Adds to *@done what was done. */
static enum kvs__expiry_left work(struct shift *s, struct kvs__root *root, int64_t now_ms,
				  uint64_t *done)
{
	unsigned timers, messages;

	kvs__wheel_advance(&s->x->wheel, now_ms > 0 ? (uint64_t)now_ms : 0);
	messages = read_mail(s, PIECE);
	timers = fire_some(s, root, PIECE);
	bury_dead(s);
	batch_release(s);
	*done += timers + messages;
	if (timers == PIECE || messages == PIECE)
		return KVS__EXPIRY_NOW;
	return s->x->wheel.count || s->x->dead || has_mail(s) ? KVS__EXPIRY_LATER
							      : KVS__EXPIRY_NONE;
}

/* One section: the role is taken where the store was found open, and given up before the section ends. */
static enum kvs__expiry_left piece(struct kvs *kv, int64_t now_ms, uint64_t *done)
{
	enum kvs__expiry_left left = KVS__EXPIRY_NONE;
	struct kvs__root *root;
	struct shift s;

	kvs__rcu_read_lock();
	root = load_seq_cst(&kv->root);
	if (root) {
		left = KVS__EXPIRY_LATER;
		if (shift_begin(&s, kv, false)) {
			left = work(&s, root, now_ms, done);
			shift_end(&s);
		}
	}
	kvs__rcu_read_unlock();
	return left;
}

enum kvs__expiry_left kvs__expiry_pass(struct kvs *kv, int64_t now_ms, uint64_t *budget)
{
	enum kvs__expiry_left left;
	uint64_t done = 0;

	do
		left = piece(kv, now_ms, &done);
	while (left == KVS__EXPIRY_NOW && done < *budget);
	*budget -= done < *budget ? done : *budget;
	return left;
}

/* In a section that found a root: the store's thread is there until after it. */
static KVS_COLD void hurry(struct kvs *kv)
{
	kvs__rcu_read_lock();
	if (load_seq_cst(&kv->root))
		kvs__maintainer_hurry(kv);
	kvs__rcu_read_unlock();
}

void kvs__expiry_help(struct kvs *kv, struct kvs__slot *slot)
{
	uint64_t sent = load_relaxed(&slot->sent);
	uint64_t done = 0;
	uint64_t wait;

	if (likely(sent % HELP_EVERY > 1)) /* a write sends one message or two */
		return;
	wait = sent - load_relaxed(&slot->seen);
	if (unlikely(wait >= HELP_ABOVE))
		(void)piece(kv, kvs__clock_now(&kv->clock), &done);
	else if (unlikely(wait >= WAKE_ABOVE && wait < WAKE_ABOVE + HELP_EVERY))
		hurry(kv);
}

/* A section for so many messages: who queues a batch is inside one. */
static void flush_piece(struct shift *s)
{
	unsigned n;

	kvs__rcu_read_lock();
	for (n = 0; n < PIECE && has_taken(s->x); n++)
		read_one(s);
	bury_dead(s);
	batch_release(s);
	kvs__rcu_read_unlock();
}

/*
 * What was taken before, then each mailbox once: what is sent meanwhile stays, or who flushes beside writers
 * would have no end. One turn meets both messages about an entry, in whatever slots.
 */
bool kvs__expiry_flush(struct kvs *kv)
{
	struct kvs__slot *slot = load_acquire(&kv->home.slots);
	struct shift s;
	bool all;

	(void)shift_begin(&s, kv, true);
	do
		flush_piece(&s);
	while (has_taken(s.x));
	for (; slot; slot = slot->next)
		if (take_mail_of(s.x, slot))
			do
				flush_piece(&s);
			while (has_taken(s.x));
	all = !s.x->dead;
	kvs__rcu_read_lock();
	(void)kvs__reclaim_take_over(&kv->reclaim, &s.x->slot->batch);
	kvs__rcu_read_unlock();
	shift_end(&s);
	return all;
}

uint64_t kvs__expiry_free_dead(struct kvs *kv)
{
	struct kvs__expiry *x = &kv->expiry;
	uint64_t bytes = 0;

	while (x->dead) {
		struct kvs__entry *e = entry_of_retired(x->dead);

		x->dead = x->dead->next;
		bytes += kvs__entry_footprint(&kv->pool, e);
		kvs__entry_bury_many(&kv->pool, &e, 1, KVS_REMOVED_DELETED);
	}
	return bytes;
}

void kvs__expiry_forget(struct kvs *kv, struct kvs__entry *const *entries, size_t n)
{
	struct shift s;
	size_t i;

	if (!load_seq_cst(&kv->root))
		return; /* closed: the wheel is nobody's */
	(void)shift_begin(&s, kv, true);
	for (i = 0; i < n; i++)
		if (kvs__entry_is_timed(entries[i])) {
			struct kvs__timer *t = &kvs__entry_timed(entries[i])->timer;

			if (is_on_wheel(t))
				kvs__wheel_remove(&s.x->wheel, t);
		}
	shift_end(&s);
}

/* ---- fork ---- */

static bool is_among(const struct kvs__message *m, const struct kvs__message *wanted)
{
	while (m && m != wanted)
		m = m->next;
	return m != NULL;
}

/* The role is held by who forked. */
static bool was_sent(const struct kvs *kv, struct kvs__entry *e)
{
	const struct kvs__message *m = added_of(e);
	const struct kvs__slot *slot;

	if (kvs__entry_timed(e)->timer.ring.prev != NEW || is_among(kv->expiry.added, m))
		return true; /* it was looked at, or taken */
	for (slot = load_acquire(&kv->home.slots); slot; slot = slot->next)
		if (is_among(kvs__mailbox_peek(&slot->added), m))
			return true;
	return false;
}

void kvs__expiry_adopt(struct kvs *kv, struct kvs__entry *e)
{
	if (!was_sent(kv, e))
		kvs__expiry_added(kv->expiry.slot, e);
}

/* ---- with the store ---- */

bool kvs__expiry_start(struct kvs *kv, uint32_t tick_ms)
{
	struct kvs__expiry *x = &kv->expiry;

	x->slot = kvs__slot_make_own(&kv->home);
	if (!x->slot)
		return false;
	x->from = x->slot;
	(void)pthread_mutex_init(&x->role, NULL);
	kvs__wheel_init(&x->wheel, tick_ms, (uint64_t)kvs__clock_now(&kv->clock));
	return true;
}

void kvs__expiry_end(struct kvs *kv)
{
	pthread_mutex_destroy(&kv->expiry.role);
}

void kvs__expiry_lock(struct kvs *kv)
{
	pthread_mutex_lock(&kv->expiry.role);
}

void kvs__expiry_unlock(struct kvs *kv)
{
	pthread_mutex_unlock(&kv->expiry.role);
}
