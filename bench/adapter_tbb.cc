/* SPDX-License-Identifier: MIT */
/* adapter_tbb.cc - tbb::concurrent_hash_map. */
#include <tbb/concurrent_hash_map.h>

#include "loops.h"
#include "xxh3.h"

namespace
{

struct hash_compare {
	using is_transparent = void;
	size_t hash(std::string_view key) const
	{
		return bench::xxh3(key);
	}
	bool equal(std::string_view a, std::string_view b) const
	{
		return a == b;
	}
};

class tbb_adapter
{
public:
	static constexpr bool has_batch = false;
	static constexpr unsigned overhead = 136;

	/* As many buckets as keys. */
	explicit tbb_adapter(uint64_t capacity) : entries(capacity ? capacity : 1)
	{
	}
	void enter()
	{
	}
	void leave()
	{
	}
	void pause()
	{
	}
	/* An accessor holds the entry's lock. */
	bool set(bench::bytes key, bench::bytes value)
	{
		table::accessor at;

		entries.insert(at, bench::text_of(key));
		at->second.assign(bench::text_of(value));
		return true;
	}
	size_t get(bench::bytes key, void *buf, size_t cap)
	{
		table::const_accessor at;

		return entries.find(at, bench::text_of(key)) ? bench::copy_out(at->second, buf, cap)
							     : bench::absent;
	}
	void drain()
	{
	}
	bench::memory_use memory()
	{
		return bench::malloc_use();
	}

private:
	/* The allocator is malloc, as for the others. */
	using table =
		tbb::concurrent_hash_map<std::string, std::string, hash_compare,
					 std::allocator<std::pair<const std::string, std::string>>>;
	table entries;
};

const bench::contender_of<tbb_adapter> self("tbb", "tbb");

} // namespace
