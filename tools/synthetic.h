/* SPDX-License-Identifier: MIT */
/*
 * synthetic.h - keys and values made from numbers, so that nothing need be stored.
 *
 * Key      a number, permuted over the whole space that its length can hold and written in base
 *          64 (11 characters hold 64 bits); what is left of the length is filled with more of the
 *          same alphabet. Different numbers below synthetic_space() give different keys.
 * Value    a generation in the first bytes, then bytes that follow from key number, generation
 *          and seed: a value can be checked knowing only its key.
 */
#ifndef TOOLS_SYNTHETIC_H
#define TOOLS_SYNTHETIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "permutation.h"

struct synthetic {
	size_t key_size;
	size_t value_size;
	uint64_t seed;
	struct permutation scramble;
};

/* synthetic_init - @key_size is at least 1. */
void synthetic_init(struct synthetic *s, size_t key_size, size_t value_size, uint64_t seed);

/* synthetic_space - How many keys there are, less one. */
uint64_t synthetic_space(const struct synthetic *s);

/* synthetic_key - Write key number @number, key_size bytes. */
void synthetic_key(const struct synthetic *s, uint64_t number, unsigned char *ret_key);

/* synthetic_value - Write the value of key @number in @generation, value_size bytes. */
void synthetic_value(const struct synthetic *s, uint64_t number, uint64_t generation,
		     unsigned char *ret_value);

/* synthetic_check - Whether @len bytes are a value of key @number, of any generation. */
bool synthetic_check(const struct synthetic *s, uint64_t number, const void *value, size_t len);

#endif /* TOOLS_SYNTHETIC_H */
