/* SPDX-License-Identifier: MIT */
/* adapter_cuckoo.cc - libcuckoo's cuckoohash_map. */
#include <libcuckoo/cuckoohash_map.hh>

#include "loops.h"
#include "xxh3.h"

namespace
{

class cuckoo_adapter
{
public:
	static constexpr bool has_batch = false;
	static constexpr unsigned overhead = 128;

	explicit cuckoo_adapter(uint64_t capacity)
	    : entries(capacity ? capacity : libcuckoo::DEFAULT_SIZE)
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
	bool set(bench::bytes key, bench::bytes value)
	{
		std::string_view text = bench::text_of(value);

		entries.upsert(
			bench::text_of(key), [&](std::string &old) { old.assign(text); }, text);
		return true;
	}
	/* The function runs under the bucket's lock. */
	size_t get(bench::bytes key, void *buf, size_t cap)
	{
		size_t len = bench::absent;

		entries.find_fn(bench::text_of(key), [&](const std::string &value) {
			len = bench::copy_out(value, buf, cap);
		});
		return len;
	}
	void drain()
	{
	}
	bench::memory_use memory()
	{
		return bench::malloc_use();
	}

private:
	libcuckoo::cuckoohash_map<std::string, std::string, bench::xxh3_hash, bench::same_text>
		entries;
};

const bench::contender_of<cuckoo_adapter> self("libcuckoo", "libcuckoo");

} // namespace
