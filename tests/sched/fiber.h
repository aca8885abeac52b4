/* SPDX-License-Identifier: MIT */
/*
 * fiber.h - threads of control that take turns in one OS thread.
 *
 * On x86-64 a switch is a dozen instructions. Elsewhere, and with SCHED_UCONTEXT, it is
 * swapcontext(), which makes a system call each time.
 */
#ifndef SCHED_FIBER_H
#define SCHED_FIBER_H

#include <stddef.h>

#if !defined(__x86_64__) && !defined(SCHED_UCONTEXT)
#define SCHED_UCONTEXT 1
#endif

#ifdef SCHED_UCONTEXT
#include <ucontext.h>
#endif

#define FIBER_STACK ((size_t)64 << 10)

struct fiber {
#ifdef SCHED_UCONTEXT
	ucontext_t context;
#else
	void *sp;
#endif
	unsigned char *stack; /* NULL: the OS thread's own */
};

/* fiber_make - Let the next switch to @f call @fn on @stack. What ran there before is forgotten. */
void fiber_make(struct fiber *f, unsigned char *stack, void (*fn)(void));

/* fiber_switch - Go on in @to; returns when somebody switches back to @from. */
void fiber_switch(struct fiber *from, struct fiber *to);

#endif
