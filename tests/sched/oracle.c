/* SPDX-License-Identifier: MIT */
/*
 * oracle.c - is a history linearizable, with versions?
 *
 * Key by key (linearizability is local), but of both keys at once if there are snapshots, each of which is
 * a read of both: try every order of the operations on it that keeps each
 * list's order and puts no operation before one that had ended before it began, run a model
 * along, and compare every result and the state at the end. A step of a scan that covered the key's
 * place counts as a get of it: each key's part of a page is a read of its own. That the clock moves past the
 * deadline is an operation on both keys, by which those that have the deadline go.
 */
#include <string.h>

#include "program.h"

#define BOTH_KEYS KEYS

static bool concerns(const struct record *r, unsigned key)
{
	/* The two parts of a page are reads of their own. */
	if (key == BOTH_KEYS)
		return OP_KIND(r->op) != OP_SCAN;
	if (OP_KIND(r->op) == OP_SCAN)
		return r->covered[key];
	if (OP_IS_BATCH(OP_KIND(r->op)))
		return true;
	return OP_KEY(r->op) == key;
}

static bool write_fits(const struct record *r, struct seen *state)
{
	if (r->err || (state->present && r->version <= state->version))
		return false;
	*state = (struct seen){ true, r->version, r->wrote, false };
	return true;
}

/* With the deadline: if that is past the key is gone at once. */
static bool timed_fits(const struct record *r, struct seen *state, bool past)
{
	if (!write_fits(r, state))
		return false;
	state->present = !past;
	state->timed = true;
	return true;
}

/* For ever: a key without a deadline stays as it is. */
static bool touch_fits(const struct record *r, struct seen *state)
{
	if (!state->present)
		return r->err == KVS_ERR_NOT_FOUND;
	if (r->err || (state->timed ? r->version <= state->version : r->version != state->version))
		return false;
	state->version = r->version;
	state->timed = false;
	return true;
}

static bool compare_fits(const struct record *r, struct seen *state)
{
	if (!state->present)
		return r->err == KVS_ERR_NOT_FOUND;
	if (state->version != r->expected)
		return r->err == KVS_ERR_VERSION_MISMATCH && r->version == state->version;
	return write_fits(r, state);
}

static bool delete_fits(const struct record *r, struct seen *state)
{
	if (!state->present)
		return r->err == KVS_ERR_NOT_FOUND;
	state->present = false;
	return !r->err && r->version == state->version;
}

static bool read_fits(int err, uint64_t version, uint64_t value, const struct seen *state)
{
	if (!state->present)
		return err == KVS_ERR_NOT_FOUND;
	return !err && version == state->version && value == state->value;
}

static bool increment_fits(const struct record *r, struct seen *state)
{
	bool timed = state->present && state->timed;
	struct record w = *r;

	w.wrote = (state->present ? state->value : 0) + (r->wrote << 16);
	if (r->value != w.wrote || !write_fits(&w, state))
		return false;
	state->timed = timed; /* an increment keeps the deadline */
	return true;
}

/* An item of a batch, as an operation of its own. */
static struct record item_of(const struct record *r, unsigned key)
{
	static const uint8_t kinds[] = {
		[OP_BATCH_GET] = OP_GET, [OP_BATCH_SET] = OP_SET, [OP_BATCH_DELETE] = OP_DELETE
	};
	struct record item = *r;

	item.op = (uint8_t)OP_CODE(kinds[OP_KIND(r->op)], key);
	item.err = r->errs[key];
	item.version = r->page[key].version;
	item.wrote = item.value = r->page[key].value;
	return item;
}

static bool page_fits(const struct seen *page, const struct seen *state)
{
	return read_fits(page->present ? 0 : KVS_ERR_NOT_FOUND, page->version, page->value, state);
}

/* Can @r have been what happened to a key in @state? Then it is what it made of it. */
static bool fits_key(const struct record *r, unsigned key, struct seen *state, bool past)
{
	struct record item;

	if (OP_IS_BATCH(OP_KIND(r->op))) {
		item = item_of(r, key);
		return fits_key(&item, key, state, past);
	}
	switch (OP_KIND(r->op)) {
	case OP_SET:
		return write_fits(r, state);
	case OP_ADD:
		if (state->present)
			return r->err == KVS_ERR_DUPLICATE && r->version == state->version;
		return write_fits(r, state);
	case OP_REPLACE:
		return state->present ? write_fits(r, state) : r->err == KVS_ERR_NOT_FOUND;
	case OP_COMPARE:
		return compare_fits(r, state);
	case OP_DELETE:
		return delete_fits(r, state);
	case OP_GET:
	case OP_PIN:
		return read_fits(r->err, r->version, r->value, state);
	case OP_INCREMENT:
		return increment_fits(r, state);
	case OP_SET_TIMED:
		return timed_fits(r, state, past);
	case OP_TOUCH:
		return touch_fits(r, state);
	default:
		return page_fits(&r->page[key], state);
	}
}

static bool fits(const struct record *r, unsigned key, struct seen state[KEYS], bool past)
{
	if (OP_KIND(r->op) == OP_SNAPSHOT)
		return page_fits(&r->page[0], &state[0]) && page_fits(&r->page[1], &state[1]);
	return fits_key(r, key, &state[key], past);
}

/* That the clock passes the deadline, and the snapshots, are lists of their own behind the others. */
#define LISTS (LISTS_MAX + 2u)
#define TIME LISTS_MAX
#define CUTS (LISTS_MAX + 1u)

/* The operations on one key or both, and how far the search is in each list. */
struct search {
	const struct history *h;
	unsigned key;
	const struct record *record[LISTS][OPS_MAX];
	unsigned count[LISTS];
	unsigned at[LISTS];
	uint32_t excepted[KEYS]; /* see is_excepted; 0: none */
};

static bool is_past(const struct search *s)
{
	return !s->h->has_time || s->at[TIME] == s->count[TIME];
}

/* Had the next operation of another list ended before this one began? */
static bool comes_too_early(const struct search *s, unsigned list)
{
	const struct record *r = s->record[list][s->at[list]];

	for (unsigned l = 0; l < LISTS; l++)
		if (l != list && s->at[l] < s->count[l] && s->record[l][s->at[l]]->end < r->begin)
			return true;
	return false;
}

static bool needs_presence(const struct record *r)
{
	switch (OP_KIND(r->op)) {
	case OP_REPLACE:
	case OP_COMPARE:
	case OP_INCREMENT:
	case OP_TOUCH:
		return !r->err;
	default:
		return false;
	}
}

static bool says_not_found(const struct record *r, unsigned key)
{
	if (OP_KIND(r->op) == OP_SCAN)
		return !r->page[key].present;
	if (OP_IS_BATCH(OP_KIND(r->op)))
		return OP_KIND(r->op) != OP_BATCH_SET && r->errs[key] == KVS_ERR_NOT_FOUND;
	return r->err == KVS_ERR_NOT_FOUND;
}

/*
 * The one exception. A write that needs the key and found it before its deadline counts as before it, though it may
 * take effect after; until it has ended, others may have been told that the key is gone.
 */
static bool is_excepted(const struct search *s, const struct record *r, unsigned key)
{
	return s->h->has_time && is_past(s) && says_not_found(r, key) &&
	       r->begin < s->excepted[key] && r->end > s->h->time.begin;
}

static bool next_fits(struct search *s, unsigned list, struct seen state[KEYS])
{
	const struct record *r = s->record[list][s->at[list]];
	unsigned key = s->key == BOTH_KEYS ? OP_KEY(r->op) : s->key;
	struct seen before[KEYS] = { state[0], state[1] };

	if (list == TIME) {
		for (unsigned k = 0; k < KEYS; k++)
			state[k].present &= !state[k].timed;
		return true;
	}
	if (fits(r, key, state, is_past(s))) {
		if (!is_past(s) && needs_presence(r) && r->end > s->h->time.begin)
			s->excepted[key] = r->end;
		return true;
	}
	memcpy(state, before, sizeof(before));
	return is_excepted(s, r, key);
}

static bool key_ends_right(const struct seen *after, const struct seen *state)
{
	if (!state->present || !after->present)
		return state->present == after->present;
	return state->version == after->version && state->value == after->value;
}

static bool ends_right(const struct search *s, const struct seen state[KEYS])
{
	for (unsigned k = 0; k < KEYS; k++)
		if ((s->key == BOTH_KEYS || s->key == k) &&
		    !key_ends_right(&s->h->after[k], &state[k]))
			return false;
	return true;
}

static bool order_exists(struct search *s, const struct seen state[KEYS])
{
	bool all = true;

	for (unsigned l = 0; l < LISTS; l++) {
		uint32_t excepted[KEYS] = { s->excepted[0], s->excepted[1] };
		struct seen next[KEYS] = { state[0], state[1] };
		bool found;

		if (s->at[l] == s->count[l])
			continue;
		all = false;
		if (comes_too_early(s, l) || !next_fits(s, l, next)) {
			memcpy(s->excepted, excepted, sizeof(excepted));
			continue;
		}
		s->at[l]++;
		found = order_exists(s, next);
		s->at[l]--;
		memcpy(s->excepted, excepted, sizeof(excepted));
		if (found)
			return true;
	}
	return all && ends_right(s, state);
}

static bool is_linearizable(const struct history *h, unsigned key)
{
	struct search s = { .h = h, .key = key };

	for (unsigned l = 0; l < h->program.lists; l++)
		for (unsigned i = 0; i < h->program.ops[l]; i++)
			if (concerns(&h->record[l][i], key))
				s.record[l][s.count[l]++] = &h->record[l][i];
	for (unsigned i = 0; key == BOTH_KEYS && i < h->cuts; i++)
		s.record[CUTS][s.count[CUTS]++] = &h->cut[i];
	if (h->has_time)
		s.record[TIME][s.count[TIME]++] = &h->time;
	return order_exists(&s, h->before);
}

static bool made_a_version(const struct record *r)
{
	return !r->err && (OP_KIND(r->op) <= OP_COMPARE || OP_KIND(r->op) == OP_INCREMENT ||
			   OP_KIND(r->op) == OP_SET_TIMED);
}

/* No version twice; on a key, a write that began after another had ended has the greater one. */
static const char *check_versions(const struct record *a, const struct record *b)
{
	if (!made_a_version(a) || !made_a_version(b))
		return NULL;
	if (a->version == b->version)
		return "a version was given twice";
	if (OP_KEY(a->op) == OP_KEY(b->op) && a->end < b->begin && a->version > b->version)
		return "a later write has a smaller version";
	return NULL;
}

static const char *check_all_versions(const struct history *h)
{
	static struct record items[KEYS * LISTS_MAX * OPS_MAX];
	const struct record *all[KEYS * LISTS_MAX * OPS_MAX];
	const char *why = NULL;
	unsigned n = 0;

	for (unsigned l = 0; l < h->program.lists; l++)
		for (unsigned i = 0; i < h->program.ops[l]; i++) {
			const struct record *r = &h->record[l][i];

			all[n] = r;
			if (!OP_IS_BATCH(OP_KIND(r->op))) {
				n++;
				continue;
			}
			for (unsigned k = 0; k < KEYS; k++, n++) {
				items[n] = item_of(r, k);
				all[n] = &items[n];
			}
		}
	for (unsigned i = 0; i < n && !why; i++)
		for (unsigned j = 0; j < n && !why; j++)
			why = i == j ? NULL : check_versions(all[i], all[j]);
	return why;
}

const char *oracle_check(const struct history *h)
{
	const char *why = check_all_versions(h);

	if (why)
		return why;
	if (!is_linearizable(h, 0))
		return "the history of key A is not linearizable";
	if (!is_linearizable(h, 1))
		return "the history of key B is not linearizable";
	if (h->cuts && !is_linearizable(h, BOTH_KEYS))
		return "a snapshot is no prefix of any order of the operations";
	return NULL;
}
