/* SPDX-License-Identifier: MIT */
/*
 * bench_plan.c - choose operations some time before they are done.
 *
 * A few at a time are chosen and their keys made or fetched into the cache, so that the store
 * and not the choosing is what the run measures. What remains is reported (plan_cost).
 */
#include "posix.h"

#include "bench.h"
#include "timer.h"

#define COST_ROUNDS 10 /* of which the least disturbed counts */
#define COST_PLANS 100 /* in a round */

static enum kind choose_kind(struct worker *w)
{
	const struct config *c = &w->bench->config;
	const struct mix *mix = mix_get(c->mix);
	uint64_t draw = random_below(&w->random, 100);

	if (draw < mix->update)
		return KIND_UPDATE;
	if (draw < mix->update + mix->insert)
		return KIND_INSERT;
	if (draw < mix->update + mix->insert + mix->rmw)
		return KIND_RMW;
	if (c->miss > 0.0 && random_unit(&w->random) * 100.0 < c->miss)
		return KIND_ABSENT;
	return KIND_READ;
}

/* The thread's new keys interleave with the other threads': nobody need count them together. */
static uint64_t new_key(const struct bench *b, unsigned thread, uint64_t nth)
{
	return b->data.count + nth * b->config.threads + thread;
}

/*
 * The @rank-th newest key: rank 0, threads, 2 * threads, ... are the newest of thread 0, rank 1
 * and so on those of thread 1. Beyond what a thread has inserted lie the loaded keys, last first.
 */
static uint64_t choose_latest(const struct bench *b, uint64_t rank)
{
	unsigned thread = (unsigned)(rank % b->config.threads);
	uint64_t back = rank / b->config.threads;
	uint64_t inserted =
		atomic_load_explicit(&b->worker[thread]->inserted, memory_order_acquire);

	if (back < inserted)
		return new_key(b, thread, inserted - 1 - back);
	return b->data.count - 1 - (rank - inserted * b->config.threads);
}

static uint64_t choose_present(struct worker *w)
{
	const struct bench *b = w->bench;

	switch (b->config.dist) {
	case DIST_ZIPF:
		return permutation_at(&b->scatter, zipf_next(&b->zipf, &w->random));
	case DIST_LATEST:
		return choose_latest(b, zipf_next(&b->zipf, &w->random));
	default:
		return random_below(&w->random, b->data.count);
	}
}

static uint64_t choose_number(struct worker *w, enum kind kind)
{
	if (kind == KIND_INSERT)
		return new_key(w->bench, w->id, w->new_keys++);
	if (kind == KIND_ABSENT)
		return random_below(&w->random, w->bench->data.count);
	return choose_present(w);
}

static struct kvs_slice make_key(const struct worker *w, const struct step *s, unsigned slot)
{
	const struct dataset *d = &w->bench->data;
	unsigned char *buf = w->key_buf + slot * dataset_key_room(d);

	if (s->kind == KIND_ABSENT)
		return dataset_absent_key(d, s->number, buf);
	return dataset_key(d, s->number, buf);
}

void plan_fill(struct worker *w, struct step *steps, unsigned count)
{
	const struct dataset *d = &w->bench->data;
	unsigned i;

	for (i = 0; i < count; i++) {
		steps[i].kind = choose_kind(w);
		steps[i].number = choose_number(w, steps[i].kind);
		dataset_prefetch_row(d, steps[i].number);
	}
	for (i = 0; i < count; i++)
		dataset_prefetch_key(d, steps[i].number);
	for (i = 0; i < count; i++)
		steps[i].key = make_key(w, &steps[i], i);
}

double plan_cost(struct worker *w)
{
	struct step steps[PLAN_STEPS];
	uint64_t best = UINT64_MAX;
	unsigned round, i;

	for (round = 0; round < COST_ROUNDS; round++) {
		uint64_t start = timer_now(), took;

		for (i = 0; i < COST_PLANS; i++)
			plan_fill(w, steps, PLAN_STEPS);
		took = timer_now() - start;
		best = took < best ? took : best;
	}
	return (double)best / (COST_PLANS * PLAN_STEPS);
}
