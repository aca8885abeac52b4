/* SPDX-License-Identifier: MIT */
/* synthetic.c - keys and values made from numbers. See synthetic.h. */
#include "posix.h"

#include <string.h>

#include "synthetic.h"

#define DIGIT_BITS 6
#define DIGITS 11 /* that hold 64 bits */

void synthetic_init(struct synthetic *s, size_t key_size, size_t value_size, uint64_t seed)
{
	uint64_t last = key_size >= DIGITS ? UINT64_MAX : (1ull << (key_size * DIGIT_BITS)) - 1;

	s->key_size = key_size;
	s->value_size = value_size;
	s->seed = random_mix(seed ^ 0x76616c7565u);
	permutation_init(&s->scramble, last, seed);
}

uint64_t synthetic_space(const struct synthetic *s)
{
	return s->scramble.last;
}

/* Write the low bits of @x as @count digits. */
static void write_digits(unsigned char *to, size_t count, uint64_t x)
{
	static const char digits[] =
		"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
	size_t i;

	for (i = 0; i < count; i++) {
		to[i] = (unsigned char)digits[x & 63];
		x >>= DIGIT_BITS;
	}
}

void synthetic_key(const struct synthetic *s, uint64_t number, unsigned char *ret_key)
{
	uint64_t x = permutation_at(&s->scramble, number);
	size_t at, left;

	for (at = 0; at < s->key_size; at += DIGITS) {
		left = s->key_size - at;
		write_digits(ret_key + at, left < DIGITS ? left : DIGITS, x);
		x = random_mix(x + RANDOM_GOLDEN);
	}
}

/* Bytes of a value that hold its generation. */
static size_t generation_bytes(size_t value_size)
{
	return value_size >= 16 ? 8 : value_size / 2;
}

static uint64_t cut_generation(uint64_t generation, size_t bytes)
{
	return bytes == 8 ? generation : generation & ((1ull << (bytes * 8)) - 1);
}

/* The first word of the stream that fills the value behind its generation. */
static uint64_t stream_start(const struct synthetic *s, uint64_t number, uint64_t generation)
{
	return random_mix(number ^ s->seed) ^ random_mix(generation + RANDOM_GOLDEN);
}

static uint64_t stream_word(uint64_t start, uint64_t i)
{
	return random_mix(start + i * RANDOM_GOLDEN);
}

static void write_little_endian(unsigned char *to, size_t bytes, uint64_t x)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		to[i] = (unsigned char)(x >> (i * 8));
}

static uint64_t read_little_endian(const unsigned char *from, size_t bytes)
{
	uint64_t x = 0;
	size_t i;

	for (i = 0; i < bytes; i++)
		x |= (uint64_t)from[i] << (i * 8);
	return x;
}

void synthetic_value(const struct synthetic *s, uint64_t number, uint64_t generation,
		     unsigned char *ret_value)
{
	size_t head = generation_bytes(s->value_size), left = s->value_size - head;
	uint64_t start, i;

	generation = cut_generation(generation, head);
	start = stream_start(s, number, generation);
	write_little_endian(ret_value, head, generation);
	ret_value += head;
	for (i = 0; left > 0; i++) {
		uint64_t word = stream_word(start, i);
		size_t part = left < sizeof(word) ? left : sizeof(word);

		memcpy(ret_value, &word, part);
		ret_value += part;
		left -= part;
	}
}

bool synthetic_check(const struct synthetic *s, uint64_t number, const void *value, size_t len)
{
	size_t head = generation_bytes(s->value_size), left = s->value_size - head;
	const unsigned char *at = value;
	uint64_t start, i;

	if (len != s->value_size)
		return false;
	start = stream_start(s, number, read_little_endian(at, head));
	at += head;
	for (i = 0; left > 0; i++) {
		uint64_t word = stream_word(start, i);
		size_t part = left < sizeof(word) ? left : sizeof(word);

		if (memcmp(at, &word, part) != 0)
			return false;
		at += part;
		left -= part;
	}
	return true;
}
