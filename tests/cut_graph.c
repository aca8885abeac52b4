/* SPDX-License-Identifier: MIT */
/*
 * cut_graph.c - are operations on keys, and snapshots of all of them, linearizable? By a graph.
 *
 * NODES are operations, an edge says "before". What returned before another was called is before it.
 *
 * KEYS  A write names the version that it found, so each life of a key, from an insert to its delete, is
 * a chain.
 *
 * TIME  A life whose last version has a deadline ends at the move by which the clock comes to it. A write that found a
 * version is before the move that ends that.
 *
 * THE EXCEPTION  A write that found a version in time may take effect behind that move; then whoever found the key absent
 * meanwhile is right too, and is not asked: from the move on until the write has returned.
 *
 * READS  of version v, and snapshots that have v: write of v -> read -> next write of the key.
 *
 * CHOICES  Two lives of a key do not overlap: one ends before the other begins. What found a key absent
 * lies outside each of its lives: before the insert or behind the delete. Each is a choice of two edges.
 * Given one of each without a cycle, every topological order is a witness: in it each write finds what it
 * has found, and each read, and each snapshot, which is a read of all keys at once. And a witness makes every
 * choice. So the history is linearizable if and only if the choices can be made.
 *
 * SEARCH  An edge is impossible where its end is before its start already, and the other one of its choice is forced.
 * When nothing more is forced, one choice is tried, and the other if that fails; the earliest by the
 * clock, so that what contradicts it is near. What is before what is kept closed (reach), so both are
 * one look. Only a search that has tried too much leaves a history undecided.
 */
#include "cut_graph.h"

#include <stdlib.h>
#include <string.h>

#define WORDS (GRAPH_NODES / 64)
#define NONE UINT32_MAX
#define TRIES_MAX 20000u

struct set {
	uint64_t word[WORDS];
};

struct life {
	uint32_t first; /* node of the insert */
	uint32_t last;  /* of the delete, or the move that ends it; NONE: it goes on */
};

struct edge {
	uint32_t from; /* NONE: there is no such edge */
	uint32_t to;
};

struct choice {
	struct edge edge[2];
};

struct graph {
	const struct graph_op *ops;
	uint32_t count;
	struct set reach[GRAPH_NODES];   /* what each is before: closed under transitivity */
	uint32_t next[GRAPH_NODES];      /* of a write: the next write of its life, or NONE */
	struct life lives[GRAPH_NODES];  /* of one key */
	struct set excepted[GRAPH_KEYS]; /* nodes that are not asked about it */
	struct choice *choices;          /* in front those that are still open */
	uint32_t made;
	uint32_t room;
	uint32_t tries;
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

static bool fault(struct graph *g, const char *why)
{
	g->why = why;
	return false;
}

static bool is_write(const struct graph_op *o)
{
	return o->kind == GRAPH_WRITE || o->kind == GRAPH_DELETE;
}

/* ---- Edges ---- */

/* The order of intervals is transitive, so this is closed. */
static void add_real_time(struct graph *g)
{
	for (uint32_t i = 0; i < g->count; i++)
		for (uint32_t j = 0; j < g->count; j++)
			if (g->ops[i].end < g->ops[j].start)
				add(&g->reach[i], j);
}

/* false: it closes a cycle. */
static bool add_edge(struct graph *g, uint32_t from, uint32_t to)
{
	if (from == to || has(&g->reach[to], from))
		return fault(g, "no order explains all of it");
	if (has(&g->reach[from], to))
		return true;
	for (uint32_t x = 0; x < g->count; x++) {
		if ((x != from && !has(&g->reach[x], from)) || has(&g->reach[x], to))
			continue;
		add(&g->reach[x], to);
		for (uint32_t w = 0; w < WORDS; w++)
			g->reach[x].word[w] |= g->reach[to].word[w];
	}
	return true;
}

/* ---- Writes ---- */

static uint32_t writer_of(const struct graph *g, uint32_t key, uint64_t version)
{
	for (uint32_t i = 0; i < g->count; i++)
		if (g->ops[i].kind == GRAPH_WRITE && g->ops[i].key == key &&
		    g->ops[i].version == version)
			return i;
	return NONE;
}

/* The move that ends what @i wrote, or NONE. */
static uint32_t end_of(const struct graph *g, uint32_t i)
{
	uint32_t first = NONE;

	if (g->ops[i].deadline == 0)
		return NONE;
	for (uint32_t m = 0; m < g->count; m++)
		if (g->ops[m].kind == GRAPH_MOVE && g->ops[m].deadline >= g->ops[i].deadline &&
		    (first == NONE || g->ops[m].deadline < g->ops[first].deadline))
			first = m;
	return first;
}

/* @i saw what @by wrote: before the move that ends it. */
static bool link_in_time(struct graph *g, uint32_t i, uint32_t by)
{
	uint32_t move = end_of(g, by);

	return move == NONE || add_edge(g, i, move);
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
		if (!add_edge(g, before, i) || !link_in_time(g, i, before))
			return false;
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
	return add_edge(g, before, i) && link_in_time(g, i, before) &&
	       (g->next[before] == NONE || add_edge(g, i, g->next[before]));
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

/* ---- The exception ---- */

/* @w found in time what the clock ended at @move before it returned. */
static void except_beside(struct graph *g, uint32_t w, uint32_t move)
{
	uint32_t key = g->ops[w].key;

	for (uint32_t i = 0; i < g->count; i++)
		if (reads_key(&g->ops[i], key) && found_by(&g->ops[i], key) == 0 &&
		    g->ops[i].end > g->ops[move].start && g->ops[i].start < g->ops[w].end)
			add(&g->excepted[key], i);
}

static void find_exceptions(struct graph *g)
{
	for (uint32_t w = 0; w < g->count; w++) {
		uint32_t by, move;

		if (g->ops[w].kind != GRAPH_WRITE || g->ops[w].found == 0)
			continue;
		by = writer_of(g, g->ops[w].key, g->ops[w].found);
		move = by == NONE ? NONE : end_of(g, by);
		if (move != NONE && g->ops[w].end > g->ops[move].start)
			except_beside(g, w, move);
	}
}

/* ---- Choices ---- */

static bool add_choice(struct graph *g, struct edge a, struct edge b)
{
	if (g->made == g->room) {
		uint32_t room = g->room ? 2 * g->room : 1024;
		struct choice *more = realloc(g->choices, room * sizeof(*more));

		if (!more) {
			g->tries = TRIES_MAX;
			return fault(g, "no memory");
		}
		g->choices = more;
		g->room = room;
	}
	g->choices[g->made++] = (struct choice){ { a, b } };
	return true;
}

static uint32_t find_lives(struct graph *g, uint32_t key)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < g->count; i++) {
		struct life life = { i, i };

		if (g->ops[i].kind != GRAPH_WRITE || g->ops[i].key != key || g->ops[i].found != 0)
			continue;
		while (g->ops[life.last].kind == GRAPH_WRITE && g->next[life.last] != NONE)
			life.last = g->next[life.last];
		if (g->ops[life.last].kind == GRAPH_WRITE)
			life.last = end_of(g, life.last);
		g->lives[n++] = life;
	}
	return n;
}

/* Lives @a and @b, or life @a and a single operation that lies outside of it. */
static bool keep_apart(struct graph *g, struct life a, struct life b)
{
	struct edge forward = { a.last, b.first };
	struct edge backward = { b.last, a.first };

	return add_choice(g, forward, backward);
}

static bool add_choices(struct graph *g, uint32_t key)
{
	uint32_t lives = find_lives(g, key);

	for (uint32_t n = 0; n < lives; n++) {
		for (uint32_t m = 0; m < n; m++)
			if (!keep_apart(g, g->lives[m], g->lives[n]))
				return false;
		for (uint32_t i = 0; i < g->count; i++)
			if (reads_key(&g->ops[i], key) && found_by(&g->ops[i], key) == 0 &&
			    !has(&g->excepted[key], i) &&
			    !keep_apart(g, g->lives[n], (struct life){ i, i }))
				return false;
	}
	return true;
}

/* ---- Search ---- */

static bool is_there(const struct graph *g, struct edge e)
{
	return e.from != NONE && has(&g->reach[e.from], e.to);
}

static bool is_possible(const struct graph *g, struct edge e)
{
	return e.from != NONE && e.from != e.to && !has(&g->reach[e.to], e.from);
}

enum state { OPEN, SETTLED, FORCED, IMPOSSIBLE };

static enum state look_at(struct graph *g, const struct choice *c)
{
	bool first, second;

	if (is_there(g, c->edge[0]) || is_there(g, c->edge[1]))
		return SETTLED;
	first = is_possible(g, c->edge[0]);
	second = is_possible(g, c->edge[1]);
	if (first && second)
		return OPEN;
	if (!first && !second)
		return IMPOSSIBLE;
	(void)add_edge(g, c->edge[!first].from, c->edge[!first].to);
	return FORCED;
}

/* Make what is forced, until nothing is. Choices that are made go behind the open ones. */
static bool make_forced(struct graph *g, uint32_t *open)
{
	bool more = true;

	while (more) {
		more = false;
		for (uint32_t i = 0; i < *open;) {
			struct choice c = g->choices[i];
			enum state state = look_at(g, &c);

			if (state == IMPOSSIBLE)
				return fault(g, "no order explains all of it");
			more |= state == FORCED;
			if (state == OPEN) {
				i++;
				continue;
			}
			g->choices[i] = g->choices[--*open];
			g->choices[*open] = c;
		}
	}
	return true;
}

static uint64_t began(const struct graph *g, const struct choice *c)
{
	uint64_t a = g->ops[c->edge[0].from].start;
	uint64_t b = g->ops[c->edge[1].from].start;

	return a < b ? a : b;
}

static struct choice earliest(const struct graph *g, uint32_t open)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < open; i++)
		if (began(g, &g->choices[i]) < began(g, &g->choices[best]))
			best = i;
	return g->choices[best];
}

static bool solve(struct graph *g, uint32_t open)
{
	struct set *saved;
	struct choice c;
	bool good = false;

	if (!make_forced(g, &open))
		return false;
	if (open == 0)
		return true;
	if (g->tries == TRIES_MAX)
		return fault(g, "too much was tried");
	g->tries++;
	saved = malloc(g->count * sizeof(*saved));
	if (!saved) {
		g->tries = TRIES_MAX;
		return fault(g, "no memory");
	}
	memcpy(saved, g->reach, g->count * sizeof(*saved));
	c = earliest(g, open);
	for (unsigned i = 0; i < 2 && !good && g->tries < TRIES_MAX; i++) {
		memcpy(g->reach, saved, g->count * sizeof(*saved));
		good = add_edge(g, c.edge[i].from, c.edge[i].to) && solve(g, open);
	}
	free(saved);
	return good;
}

static bool is_right(struct graph *g)
{
	add_real_time(g);
	if (!link_writes(g) || !link_all_present(g))
		return false;
	for (uint32_t key = 0; key < GRAPH_KEYS; key++)
		if (!add_choices(g, key))
			return false;
	return solve(g, g->made);
}

static enum graph_outcome check(const struct graph_op *ops, size_t count, bool excepting,
				const char **ret_why)
{
	struct graph *g = calloc(1, sizeof(*g));
	enum graph_outcome outcome = GRAPH_UNDECIDED;

	*ret_why = "no memory, or too many operations";
	if (g != NULL && count <= GRAPH_NODES) {
		g->ops = ops;
		g->count = (uint32_t)count;
		if (excepting)
			find_exceptions(g);
		if (is_right(g))
			outcome = GRAPH_RIGHT;
		else if (g->tries < TRIES_MAX)
			outcome = GRAPH_VIOLATION;
		*ret_why = g->why;
	}
	if (g != NULL)
		free(g->choices);
	free(g);
	return outcome;
}

enum graph_outcome graph_check(const struct graph_op *ops, size_t count, const char **ret_why)
{
	return check(ops, count, false, ret_why);
}

enum graph_outcome graph_check_excepting(const struct graph_op *ops, size_t count,
					 const char **ret_why)
{
	return check(ops, count, true, ret_why);
}
