/* SPDX-License-Identifier: MIT */
/* adapter_std.cc - 256 shards of std::unordered_map. */
#include <unordered_map>

#include "sharded.h"

namespace
{

/* In C++17 only a std::string finds one: each thread keeps one, so that no get allocates. */
const std::string &as_string(std::string_view key)
{
	static thread_local std::string kept;

	return kept.assign(key);
}

class map
{
public:
	void reserve(size_t n)
	{
		entries.reserve(n);
	}
	const std::string *find(std::string_view key) const
	{
		auto at = entries.find(as_string(key));

		return at != entries.end() ? &at->second : nullptr;
	}
	void put(std::string_view key, std::string_view value)
	{
		auto [at, is_new] = entries.try_emplace(as_string(key), value);

		if (!is_new)
			at->second.assign(value);
	}

private:
	std::unordered_map<std::string, std::string, bench::xxh3_hash, bench::same_text> entries;
};

const bench::contender_of<bench::sharded_adapter<map>> self("std-256", "std-256");

} // namespace
