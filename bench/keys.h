/* SPDX-License-Identifier: MIT */
/*
 * keys.h - keys and values from numbers, the same for every contender.
 *
 * The last 8 bytes of a key are the number's low 32 bits, a letter for every 4 of them; before them
 * stands what all keys share. A value begins with 8 bytes that follow from the number, so that every get can
 * be checked without remembering anything.
 *
 * The keys of a block are made before the block is run: a key that was stored a moment ago in pieces
 * would make the store's first load of it wait, which no user's key does.
 */
#ifndef BENCH_KEYS_H
#define BENCH_KEYS_H

#include <stdint.h>
#include <string.h>

#include <vector>

#include "adapter.h"

namespace bench
{

constexpr unsigned key_len_min = 8;
constexpr unsigned key_len_max = 32;
constexpr unsigned value_len_min = 8;
constexpr unsigned value_len_max = 4096;
constexpr uint64_t keys_max = (uint64_t)1 << 31; /* as many again are misses */

/* 32 bits as 8 letters from 'A' to 'P'. */
inline uint64_t letters_of(uint32_t number)
{
	uint64_t x = number;

	x = (x | x << 16) & 0x0000ffff0000ffffu;
	x = (x | x << 8) & 0x00ff00ff00ff00ffu;
	x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
	return x + 0x4141414141414141u;
}

/* What the value of a key begins with. */
inline uint64_t stamp_of(uint64_t number)
{
	return (number + 1) * 0x9e3779b97f4a7c15u;
}

/* What keys have in common, in a buffer of @len bytes. */
inline void key_init(unsigned char *key, unsigned len)
{
	static const char common[] = "user:profile:0123456789abcdef:user:profile:0123456789abcdef:";

	memcpy(key, common, len - 8);
}

inline void key_set(unsigned char *key, unsigned len, uint64_t number)
{
	uint64_t letters = letters_of((uint32_t)number);

	memcpy(key + len - 8, &letters, sizeof(letters));
}

/* SplitMix64. */
class random_numbers
{
public:
	explicit random_numbers(uint64_t seed) : state(seed)
	{
	}
	uint64_t next()
	{
		uint64_t x = state += 0x9e3779b97f4a7c15u;

		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
		x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
		return x ^ (x >> 31);
	}
	uint64_t below(uint64_t limit)
	{
		return (uint64_t)(((unsigned __int128)next() * limit) >> 64);
	}

private:
	uint64_t state;
};

/* A one-to-one scrambling of the numbers below @limit, to load keys in no order. */
class shuffle
{
public:
	explicit shuffle(uint64_t its_limit) : limit(its_limit), mask(1)
	{
		while (mask + 1 < limit)
			mask = mask << 1 | 1;
		while (((uint64_t)1 << shift * 2) <= mask)
			shift++;
	}
	uint64_t at(uint64_t x) const
	{
		do
			x = once(x);
		while (x >= limit);
		return x;
	}

private:
	/* Each step is one-to-one on the bits of the mask. */
	uint64_t once(uint64_t x) const
	{
		x = (x + 0x632be59bd9b4e019u) & mask;
		x = (x * 0xbf58476d1ce4e5b9u) & mask;
		x ^= x >> shift;
		x = (x * 0x94d049bb133111ebu) & mask;
		return x ^ (x >> shift);
	}
	uint64_t limit;
	uint64_t mask;
	unsigned shift = 1;
};

/* One key and one value to load with. */
class pair_maker
{
public:
	explicit pair_maker(const shape &s)
	    : key_len(s.key_len), key(s.key_len), value(s.value_len, 'v')
	{
		key_init(key.data(), key_len);
	}
	/* Generation 0 is what every workload writes. */
	void set(uint64_t number, unsigned generation = 0)
	{
		uint64_t stamp = stamp_of(number) + generation;

		key_set(key.data(), key_len, number);
		value.back() = (unsigned char)('v' + generation);
		memcpy(value.data(), &stamp, sizeof(stamp));
	}
	bytes key_bytes() const
	{
		return { key.data(), key.size() };
	}
	bytes value_bytes() const
	{
		return { value.data(), value.size() };
	}

private:
	unsigned key_len;
	std::vector<unsigned char> key;
	std::vector<unsigned char> value;
};

/* load - Put all keys into a store, in no order or from 0 on. false: it had no memory. */
inline bool load(store &st, const shape &s, bool shuffled)
{
	pair_maker pair(s);
	shuffle order(s.keys);
	bool ok = true;

	st.enter();
	for (uint64_t i = 0; i < s.keys && ok; i++) {
		pair.set(shuffled ? order.at(i) : i);
		ok = st.set(pair.key_bytes(), pair.value_bytes());
		if (i % block_size == 0)
			st.pause();
	}
	st.leave();
	return ok;
}

} // namespace bench

#endif // BENCH_KEYS_H
