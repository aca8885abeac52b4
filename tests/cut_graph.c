/* SPDX-License-Identifier: MIT */
/*
 * cut_graph.c - are operations on keys, and snapshots of all of them, linearizable? By a graph.
 *
 * NODES are operations, an edge says "before". What returned before another was called is before it.
 *
 * KEYS  A write names the version that it found, so each life of a key is a chain. Lives do not
 * overlap: of two, the one that can have ended before the other began is first (if both can, by
 * version). So the writes of a key stand in one order.
 *
 * READS  of version v, and snapshots that have v: write of v -> read -> next write of the key.
 *
 * ABSENT  A read that found nothing lies in a gap between two lives. The clock says which are possible. Of
 * several, one is chosen thus: whatever
 * must lie before the read; for as long as the last write of the key among that is not a delete, the delete that
 * ends this life, and what must lie before it. The gap behind is the first that is possible, and since
 * all of it was forced, no later one helps where it does not fit. A snapshot is a read of all keys at
 * once. With all gaps chosen, no cycle means that every topological order is a witness.
 *
 * A cycle is a violation, unless something was chosen that was not forced: the order of two lives, or
 * the gap of a plain read that another of them rests on. Then it is undecided.
 */
#include "cut_graph.h"

#include <stdlib.h>
#include <string.h>

#define WORDS (GRAPH_NODES / 64)
#define NONE UINT32_MAX

struct set {
	uint64_t word[WORDS];
};

struct life {
	uint32_t first; /* node of the insert */
	uint32_t last;  /* of the delete; NONE: it goes on */
};

struct key_order {
	struct life lives[GRAPH_NODES];
	uint32_t count;
};

struct graph {
	const struct graph_op *ops;
	uint32_t count;
	struct set before[GRAPH_NODES]; /* direct predecessors */
	uint32_t next[GRAPH_NODES];     /* of a write: the next write of its life, or NONE */
	uint32_t life[GRAPH_NODES];     /* of a write: number in its key's order */
	struct key_order keys[GRAPH_KEYS];
	bool guessed;
	const char *why;
};

static bool has(const struct set *s, uint32_t i)
{
	return s->word[i / 64] >> (i % 64) & 1;
}

static void add(struct set *s, uint32_t i)
{
	s->word[i / 64] |= (uint64_t)1 << (i % 64);
}

static void edge(struct graph *g, uint32_t from, uint32_t to)
{
	add(&g->before[to], from);
}

static bool fault(struct graph *g, const char *why)
{
	g->why = why;
	return false;
}

static bool is_write(const struct graph_op *o)
{
	return o->kind == GRAPH_WRITE || o->kind == GRAPH_DELETE;
}

/* ---- Chains of writes ---- */

static uint32_t writer_of(const struct graph *g, uint32_t key, uint64_t version)
{
	for (uint32_t i = 0; i < g->count; i++)
		if (g->ops[i].kind == GRAPH_WRITE && g->ops[i].key == key && g->ops[i].version == version)
			return i;
	return NONE;
}

static void add_real_time(struct graph *g)
{
	for (uint32_t i = 0; i < g->count; i++)
		for (uint32_t j = 0; j < g->count; j++)
			if (g->ops[i].end < g->ops[j].start)
				edge(g, i, j);
}

static bool link_writes(struct graph *g)
{
	for (uint32_t i = 0; i < g->count; i++)
		g->next[i] = NONE;
	for (uint32_t i = 0; i < g->count; i++) {
		const struct graph_op *o = &g->ops[i];
		uint32_t before;

		if (!is_write(o) || o->found == 0)
			continue;
		before = writer_of(g, o->key, o->found);
		if (before == NONE)
			return fault(g, "a write found what nobody wrote");
		if (g->next[before] != NONE)
			return fault(g, "two writes found the same version");
		if (o->kind == GRAPH_WRITE && o->version < o->found)
			return fault(g, "versions shrink along a life");
		g->next[before] = i;
		edge(g, before, i);
	}
	return true;
}

/* Can life @a have ended before @b began? */
static bool can_precede(const struct graph *g, const struct life *a, const struct life *b)
{
	return a->last != NONE && g->ops[a->last].start < g->ops[b->first].end;
}

static bool precedes(struct graph *g, const struct life *a, const struct life *b)
{
	bool forward = can_precede(g, a, b), backward = can_precede(g, b, a);

	if (forward != backward)
		return forward;
	g->guessed = true;
	return g->ops[a->first].version < g->ops[b->first].version;
}

static void place_life(struct graph *g, struct key_order *k, struct life life)
{
	uint32_t at = k->count++;

	while (at > 0 && precedes(g, &life, &k->lives[at - 1])) {
		k->lives[at] = k->lives[at - 1];
		at--;
	}
	k->lives[at] = life;
}

static bool order_lives(struct graph *g, uint32_t key)
{
	struct key_order *k = &g->keys[key];

	for (uint32_t i = 0; i < g->count; i++) {
		struct life life = { i, i };

		if (g->ops[i].kind != GRAPH_WRITE || g->ops[i].key != key || g->ops[i].found != 0)
			continue;
		while (life.last != NONE && g->ops[life.last].kind == GRAPH_WRITE)
			life.last = g->next[life.last];
		place_life(g, k, life);
	}
	for (uint32_t n = 0; n < k->count; n++) {
		for (uint32_t i = k->lives[n].first; i != NONE; i = g->next[i])
			g->life[i] = n;
		if (n + 1 == k->count)
			break;
		if (k->lives[n].last == NONE)
			return fault(g, "a key is inserted while it is there");
		edge(g, k->lives[n].last, k->lives[n + 1].first);
	}
	return true;
}

/* ---- Reads ---- */

static uint64_t found_by(const struct graph_op *o, uint32_t key)
{
	return o->kind == GRAPH_SNAPSHOT ? o->cut[key] : o->found;
}

static bool reads_key(const struct graph_op *o, uint32_t key)
{
	return o->kind == GRAPH_SNAPSHOT || (o->kind == GRAPH_READ && o->key == key);
}

static bool link_present(struct graph *g, uint32_t i, uint32_t key)
{
	uint32_t before = writer_of(g, key, found_by(&g->ops[i], key));

	if (before == NONE)
		return fault(g, "a read found what nobody wrote");
	edge(g, before, i);
	if (g->next[before] != NONE)
		edge(g, i, g->next[before]);
	return true;
}

static bool link_all_present(struct graph *g)
{
	for (uint32_t i = 0; i < g->count; i++)
		for (uint32_t key = 0; key < GRAPH_KEYS; key++)
			if (reads_key(&g->ops[i], key) && found_by(&g->ops[i], key) != 0 &&
			    !link_present(g, i, key))
				return false;
	return true;
}

/* Can what found key absent at @o lie in the gap before life @n? By the clock. */
static bool can_lie_before(const struct graph *g, const struct graph_op *o, const struct key_order *k, uint32_t n)
{
	if (n > 0 && (k->lives[n - 1].last == NONE || g->ops[k->lives[n - 1].last].start >= o->end))
		return false;
	return n == k->count || g->ops[k->lives[n].first].end > o->start;
}

/* What is forced by the clock alone: operation @i lies between the first gap that it can be in and the last. */
static bool bound_absent(struct graph *g, uint32_t i, uint32_t key)
{
	const struct key_order *k = &g->keys[key];
	uint32_t first = NONE, last = 0;

	for (uint32_t n = 0; n <= k->count; n++) {
		if (!can_lie_before(g, &g->ops[i], k, n))
			continue;
		first = first == NONE ? n : first;
		last = n;
	}
	if (first == NONE)
		return fault(g, "a key is absent that is there all the time");
	if (first > 0)
		edge(g, k->lives[first - 1].last, i);
	if (last < k->count)
		edge(g, i, k->lives[last].first);
	return true;
}

static bool bound_all_absent(struct graph *g)
{
	for (uint32_t i = 0; i < g->count; i++)
		for (uint32_t key = 0; key < GRAPH_KEYS; key++)
			if (reads_key(&g->ops[i], key) && found_by(&g->ops[i], key) == 0 &&
			    !bound_absent(g, i, key))
				return false;
	return true;
}

/* All that is before a member joins the set. */
static void close_down(const struct graph *g, struct set *s)
{
	static uint32_t stack[GRAPH_NODES];
	uint32_t depth = 0;

	for (uint32_t i = 0; i < g->count; i++)
		if (has(s, i))
			stack[depth++] = i;
	while (depth > 0) {
		uint32_t i = stack[--depth];

		for (uint32_t w = 0; w < WORDS; w++) {
			uint64_t fresh = g->before[i].word[w] & ~s->word[w];

			s->word[w] |= fresh;
			for (; fresh; fresh &= fresh - 1)
				stack[depth++] = w * 64 + (uint32_t)__builtin_ctzll(fresh);
		}
	}
}

/* The last life of @key that began in @s, or NONE. */
static uint32_t last_life(const struct graph *g, const struct set *s, uint32_t key)
{
	for (uint32_t n = g->keys[key].count; n-- > 0;)
		if (has(s, g->keys[key].lives[n].first))
			return n;
	return NONE;
}

/* End the lives that must have ended where operation @i found nothing. false: one never ends. */
static bool end_lives(struct graph *g, uint32_t i, struct set *past)
{
	bool more = true;

	while (more) {
		more = false;
		close_down(g, past);
		for (uint32_t key = 0; key < GRAPH_KEYS; key++) {
			uint32_t n = last_life(g, past, key);

			if (!reads_key(&g->ops[i], key) || found_by(&g->ops[i], key) != 0 || n == NONE)
				continue;
			if (g->keys[key].lives[n].last == NONE)
				return fault(g, "a key is absent that is there from then on");
			if (has(past, g->keys[key].lives[n].last))
				continue;
			add(past, g->keys[key].lives[n].last);
			more = true;
		}
	}
	return true;
}

/* Choose the gaps of operation @i. */
static bool link_absent(struct graph *g, uint32_t i)
{
	struct set past = g->before[i];

	if (!end_lives(g, i, &past))
		return false;
	if (has(&past, i))
		return fault(g, "what was found cannot have been so at one instant");
	for (uint32_t key = 0; key < GRAPH_KEYS; key++) {
		uint32_t n;

		if (!reads_key(&g->ops[i], key) || found_by(&g->ops[i], key) != 0)
			continue;
		n = last_life(g, &past, key);
		if (n != NONE)
			edge(g, g->keys[key].lives[n].last, i);
		n = n == NONE ? 0 : n + 1;
		if (n < g->keys[key].count)
			edge(g, i, g->keys[key].lives[n].first);
	}
	return true;
}

static bool link_all_absent(struct graph *g, enum graph_kind kind)
{
	for (uint32_t i = 0; i < g->count; i++)
		if (g->ops[i].kind == kind && !link_absent(g, i))
			return false;
	return true;
}

/* ---- The verdict ---- */

static bool is_acyclic(struct graph *g)
{
	static uint32_t waits[GRAPH_NODES];
	static uint32_t ready[GRAPH_NODES];
	uint32_t depth = 0, done = 0;

	memset(waits, 0, sizeof(waits));
	for (uint32_t i = 0; i < g->count; i++) {
		for (uint32_t w = 0; w < WORDS; w++)
			waits[i] += (uint32_t)__builtin_popcountll(g->before[i].word[w]);
		if (waits[i] == 0)
			ready[depth++] = i;
	}
	while (depth > 0) {
		uint32_t i = ready[--depth];

		done++;
		for (uint32_t j = 0; j < g->count; j++)
			if (has(&g->before[j], i) && --waits[j] == 0)
				ready[depth++] = j;
	}
	return done == g->count || fault(g, "a cycle");
}

static bool is_right(struct graph *g)
{
	add_real_time(g);
	if (!link_writes(g))
		return false;
	for (uint32_t key = 0; key < GRAPH_KEYS; key++)
		if (!order_lives(g, key))
			return false;
	if (!link_all_present(g) || !bound_all_absent(g) || !is_acyclic(g) ||
	    !link_all_absent(g, GRAPH_SNAPSHOT) || !is_acyclic(g))
		return false;
	if (link_all_absent(g, GRAPH_READ) && is_acyclic(g))
		return true;
	g->guessed = true;
	return false;
}

enum graph_outcome graph_check(const struct graph_op *ops, size_t count, const char **ret_why)
{
	struct graph *g = calloc(1, sizeof(*g));
	enum graph_outcome outcome = GRAPH_UNDECIDED;

	*ret_why = "no memory, or too many operations";
	if (g != NULL && count <= GRAPH_NODES) {
		g->ops = ops;
		g->count = (uint32_t)count;
		if (is_right(g))
			outcome = GRAPH_RIGHT;
		else if (!g->guessed)
			outcome = GRAPH_VIOLATION;
		*ret_why = g->why;
	}
	free(g);
	return outcome;
}
