/* SPDX-License-Identifier: MIT */
/* xxh3.h - what adapters of C++ maps share: the hash of a key, and texts from bytes and back. */
#ifndef BENCH_XXH3_H
#define BENCH_XXH3_H

#include <string.h>

#include <string>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "adapter.h"

namespace bench
{

inline size_t xxh3(std::string_view key)
{
	return XXH3_64bits(key.data(), key.size());
}

/* For maps that find keys of another type than they hold: none has to be built for a get. */
struct xxh3_hash {
	using is_transparent = void;
	size_t operator()(std::string_view key) const
	{
		return xxh3(key);
	}
};

struct same_text {
	using is_transparent = void;
	bool operator()(std::string_view a, std::string_view b) const
	{
		return a == b;
	}
};

inline std::string_view text_of(bytes b)
{
	return { static_cast<const char *>(b.data), b.len };
}

/* copy_out - As get() has to; the length, copied if there was room. */
inline size_t copy_out(const std::string &value, void *buf, size_t cap)
{
	if (value.size() <= cap)
		memcpy(buf, value.data(), value.size());
	return value.size();
}

} // namespace bench

#endif // BENCH_XXH3_H
