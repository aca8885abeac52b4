/* SPDX-License-Identifier: MIT */
/*
 * handover.c - the one file that includes ConcurrencyKit.
 *
 * Its operations are inline assembly and volatile accesses, which the thread sanitizer does not follow: they are
 * compiled uninstrumented, and the order that they make is told to it by hand. So a word that a sender writes before
 * sending must be visible to who takes the message (PAIRS(H1)), and a race on it is found if it is not.
 */
#include "handover.h"

#include <ck_cc.h>
#ifdef KVS_TSAN
#undef CK_CC_INLINE
#define CK_CC_INLINE inline __attribute__((no_sanitize("thread")))
#define UNSEEN __attribute__((no_sanitize("thread"), noinline))
#else
#define UNSEEN inline
#endif
#include <ck_stack.h>

#include "atomic.h"

_Static_assert(sizeof(struct kvs__mailbox) == sizeof(ck_stack_t), "a mailbox is a stack");
_Static_assert(sizeof(struct kvs__message) == sizeof(ck_stack_entry_t),
	       "a message is an entry of one");

#ifdef KVS_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define TSAN_RELEASE(p) __tsan_release(p)
#define TSAN_ACQUIRE(p) __tsan_acquire(p)
#else
#define TSAN_RELEASE(p) ((void)0)
#define TSAN_ACQUIRE(p) ((void)0)
#endif

/* The explorer is told of each operation as of one step. */
#ifdef KVS_SCHED
#define ONE_STEP(b) (KVS_YIELD(), sched_at(&(b)->head, SCHED_WRITE, true))
#else
#define ONE_STEP(b) KVS_YIELD()
#endif

static ck_stack_t *stack_of(struct kvs__mailbox *b)
{
	return (ck_stack_t *)(void *)b;
}

static UNSEEN void push(struct kvs__mailbox *b, struct kvs__message *message)
{
	ck_stack_push_upmc(stack_of(b), (ck_stack_entry_t *)(void *)message);
}

static UNSEEN struct kvs__message *take(struct kvs__mailbox *b)
{
	if (!ck_pr_load_ptr(&stack_of(b)->head))
		return NULL;
	return (struct kvs__message *)(void *)ck_stack_batch_pop_upmc(stack_of(b));
}

static UNSEEN bool has_some(const struct kvs__mailbox *b)
{
	return ck_pr_load_ptr(&b->head) != NULL;
}

bool kvs__mailbox_has_some(const struct kvs__mailbox *b)
{
	return has_some(b);
}

const struct kvs__message *kvs__mailbox_peek(const struct kvs__mailbox *b)
{
	return ck_pr_load_ptr(&b->head);
}

void kvs__mailbox_send(struct kvs__mailbox *b, struct kvs__message *message)
{
	TSAN_RELEASE(b);
	ONE_STEP(b);
	push(b, message);
}

struct kvs__message *kvs__mailbox_take(struct kvs__mailbox *b)
{
	struct kvs__message *first;

	ONE_STEP(b);
	first = take(b);
	if (first)
		TSAN_ACQUIRE(b);
	return first;
}
