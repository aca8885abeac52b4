/* SPDX-License-Identifier: MIT */
/*
 * depot.c - stacks of magazines.
 *
 * Empty magazines stay for those that put: in the long run as many are exchanged as are filled, and
 * none is made.
 */
#include "depot.h"

#include <stdlib.h>

struct kvs__magazine *kvs__magazine_new(void)
{
	return calloc(1, sizeof(struct kvs__magazine));
}

static void push(struct kvs__magazine **to, struct kvs__magazine *m)
{
	m->link = *to;
	*to = m;
}

static struct kvs__magazine *pop(struct kvs__magazine **from)
{
	struct kvs__magazine *m = *from;

	if (m != NULL)
		*from = m->link;
	return m;
}

bool kvs__depot_put(struct kvs__depot *d, void *block, uint32_t per_magazine)
{
	struct kvs__magazine *m = d->filling;

	if (m == NULL) {
		m = pop(&d->empty);
		if (m == NULL)
			m = kvs__magazine_new();
		if (m == NULL)
			return false;
		m->next = 0;
		m->count = 0;
		d->filling = m;
	}
	m->block[m->count++] = block;
	d->kept++;
	if (m->count == per_magazine) {
		push(&d->full, m);
		d->filling = NULL;
	}
	return true;
}

struct kvs__magazine *kvs__depot_take(struct kvs__depot *d)
{
	struct kvs__magazine *m = pop(&d->full);

	if (m == NULL) {
		m = d->filling;
		d->filling = NULL;
	}
	if (m != NULL)
		d->kept -= m->count;
	return m;
}

void *kvs__depot_get(struct kvs__depot *d)
{
	struct kvs__magazine *m = d->filling;

	if (m == NULL)
		m = pop(&d->full);
	if (m == NULL)
		return NULL;
	d->kept--;
	d->filling = m;
	if (--m->count == 0) {
		d->filling = NULL;
		push(&d->empty, m);
	}
	return m->block[m->count];
}

struct kvs__magazine *kvs__depot_exchange(struct kvs__depot *d, struct kvs__magazine *m)
{
	struct kvs__magazine *with_blocks = kvs__depot_take(d);

	if (with_blocks != NULL)
		push(&d->empty, m);
	return with_blocks;
}

struct kvs__magazine *kvs__depot_take_empty(struct kvs__depot *d)
{
	struct kvs__magazine *list = d->empty;

	d->empty = NULL;
	return list;
}

void kvs__magazines_free(struct kvs__magazine *list)
{
	struct kvs__magazine *m;

	while ((m = pop(&list)) != NULL)
		free(m);
}

void kvs__depot_release(struct kvs__depot *d)
{
	kvs__magazines_free(d->full);
	kvs__magazines_free(d->empty);
	free(d->filling);
	*d = (struct kvs__depot){ NULL, NULL, NULL, 0 };
}
