/* SPDX-License-Identifier: MIT */
/* adapter_absl.cc - 256 shards of absl::flat_hash_map. */
#include <absl/container/flat_hash_map.h>

#include "sharded.h"

namespace
{

class map
{
public:
	void reserve(size_t n)
	{
		entries.reserve(n);
	}
	const std::string *find(std::string_view key) const
	{
		auto at = entries.find(key);

		return at != entries.end() ? &at->second : nullptr;
	}
	void put(std::string_view key, std::string_view value)
	{
		auto [at, is_new] = entries.try_emplace(key, value);

		if (!is_new)
			at->second.assign(value);
	}

private:
	absl::flat_hash_map<std::string, std::string, bench::xxh3_hash, bench::same_text> entries;
};

const bench::contender_of<bench::sharded_adapter<map>> self("absl-256", "absl-256");

} // namespace
