/* SPDX-License-Identifier: MIT */
#include "fiber.h"

#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
/* The frames of a run that was given up have left their red zones on the stack. */
#define STACK_FORGET(p) __asan_unpoison_memory_region((p), FIBER_STACK)
#else
#define STACK_FORGET(p) ((void)(p))
#endif

#ifdef SCHED_UCONTEXT

void fiber_make(struct fiber *f, unsigned char *stack, void (*fn)(void))
{
	STACK_FORGET(stack);
	f->stack = stack;
	(void)getcontext(&f->context);
	f->context.uc_stack.ss_sp = stack;
	f->context.uc_stack.ss_size = FIBER_STACK;
	f->context.uc_link = NULL;
	makecontext(&f->context, fn, 0);
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
	(void)swapcontext(&from->context, &to->context);
}

#else

/* Saves what a call preserves on the stack, then does the same backwards on the other stack. */
void fiber_swap(void **save, void *to);
__asm__(".text\n"
	".p2align 4\n"
	".globl fiber_swap\n"
	".type fiber_swap, @function\n"
	"fiber_swap:\n\t"
	"pushq %rbp\n\t"
	"pushq %rbx\n\t"
	"pushq %r12\n\t"
	"pushq %r13\n\t"
	"pushq %r14\n\t"
	"pushq %r15\n\t"
	"movq %rsp, (%rdi)\n\t"
	"movq %rsi, %rsp\n\t"
	"popq %r15\n\t"
	"popq %r14\n\t"
	"popq %r13\n\t"
	"popq %r12\n\t"
	"popq %rbx\n\t"
	"popq %rbp\n\t"
	"ret\n"
	".size fiber_swap, .-fiber_swap\n");

void fiber_make(struct fiber *f, unsigned char *stack, void (*fn)(void))
{
	uintptr_t *top = (uintptr_t *)(void *)(stack + FIBER_STACK);

	STACK_FORGET(stack);
	f->stack = stack;
	*--top = 0;             /* where fn would return to, which it never does */
	*--top = (uintptr_t)fn; /* the ret of the first switch; leaves the stack as a call would */
	top -= 6;
	for (int i = 0; i < 6; i++)
		top[i] = 0;
	f->sp = top;
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
	fiber_swap(&from->sp, to->sp);
}

#endif
