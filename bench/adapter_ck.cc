/* SPDX-License-Identifier: MIT */
/* adapter_ck.cc - ConcurrencyKit's hash table under its epochs. */
#include <stdexcept>

#include "ck_cache.h"
#include "loops.h"

namespace
{

class ck_adapter
{
public:
	static constexpr bool has_batch = false;
	static constexpr unsigned overhead = 152;

	explicit ck_adapter(uint64_t capacity) : cache(ck_cache_open(capacity))
	{
		if (!cache)
			throw std::runtime_error("ck_ht_init failed");
	}
	~ck_adapter()
	{
		ck_cache_close(cache);
	}
	ck_adapter(const ck_adapter &) = delete;
	ck_adapter &operator=(const ck_adapter &) = delete;

	void enter()
	{
		if (!ck_cache_enter())
			throw std::bad_alloc();
	}
	void leave()
	{
		ck_cache_leave();
	}
	void pause()
	{
	}
	bool set(bench::bytes key, bench::bytes value)
	{
		return ck_cache_set(cache, key.data, key.len, value.data, value.len);
	}
	size_t get(bench::bytes key, void *buf, size_t cap)
	{
		return ck_cache_get(cache, key.data, key.len, buf, cap);
	}
	/* Threads free what they deferred when they leave. */
	void drain()
	{
	}
	bench::memory_use memory()
	{
		return bench::malloc_use();
	}

private:
	struct ck_cache *cache;
};

const bench::contender_of<ck_adapter> self("ck_ht", "ck_ht");

} // namespace
