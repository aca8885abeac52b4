/* SPDX-License-Identifier: MIT */
/*
 * oracle.c - is a history linearizable, with versions?
 *
 * Key by key (linearizability is local), but of both keys at once if there are snapshots, each of which is
 * a read of both: try every order of the operations on it that keeps each
 * list's order and puts no operation before one that had ended before it began, run a model
 * along, and compare every result and the state at the end. A step of a scan that covered the key's
 * place counts as a get of it: each key's part of a page is a read of its own.
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
	*state = (struct seen){ true, r->version, r->wrote };
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
	struct record w = *r;

	w.wrote = (state->present ? state->value : 0) + (r->wrote << 16);
	return r->value == w.wrote && write_fits(&w, state);
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
static bool fits_key(const struct record *r, unsigned key, struct seen *state)
{
	struct record item;

	if (OP_IS_BATCH(OP_KIND(r->op))) {
		item = item_of(r, key);
		return fits_key(&item, key, state);
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
	default:
		return page_fits(&r->page[key], state);
	}
}

static bool fits(const struct record *r, unsigned key, struct seen state[KEYS])
{
	if (OP_KIND(r->op) == OP_SNAPSHOT)
		return page_fits(&r->page[0], &state[0]) && page_fits(&r->page[1], &state[1]);
	key = key == BOTH_KEYS ? OP_KEY(r->op) : key;
	return fits_key(r, key, &state[key]);
}

/* The operations on one key or both, the snapshots as one more list, and how far the search is in each. */
struct search {
	const struct history *h;
	unsigned key;
	unsigned lists;
	const struct record *record[LISTS_MAX + 1][OPS_MAX];
	unsigned count[LISTS_MAX + 1];
	unsigned at[LISTS_MAX + 1];
};

/* Had the next operation of another list ended before this one began? */
static bool comes_too_early(const struct search *s, unsigned list)
{
	const struct record *r = s->record[list][s->at[list]];

	for (unsigned l = 0; l < s->lists; l++)
		if (l != list && s->at[l] < s->count[l] && s->record[l][s->at[l]]->end < r->begin)
			return true;
	return false;
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

	for (unsigned l = 0; l < s->lists; l++) {
		struct seen next[KEYS] = { state[0], state[1] };
		bool found;

		if (s->at[l] == s->count[l])
			continue;
		all = false;
		if (comes_too_early(s, l) || !fits(s->record[l][s->at[l]], s->key, next))
			continue;
		s->at[l]++;
		found = order_exists(s, next);
		s->at[l]--;
		if (found)
			return true;
	}
	return all && ends_right(s, state);
}

static bool is_linearizable(const struct history *h, unsigned key)
{
	struct search s = { .h = h, .key = key, .lists = h->program.lists };

	for (unsigned l = 0; l < h->program.lists; l++)
		for (unsigned i = 0; i < h->program.ops[l]; i++)
			if (concerns(&h->record[l][i], key))
				s.record[l][s.count[l]++] = &h->record[l][i];
	for (unsigned i = 0; key == BOTH_KEYS && i < h->cuts; i++)
		s.record[s.lists][s.count[s.lists]++] = &h->cut[i];
	s.lists += s.count[s.lists] != 0;
	return order_exists(&s, h->before);
}

static bool made_a_version(const struct record *r)
{
	return !r->err && (OP_KIND(r->op) <= OP_COMPARE || OP_KIND(r->op) == OP_INCREMENT);
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
