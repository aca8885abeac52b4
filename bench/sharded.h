/* SPDX-License-Identifier: MIT */
/* sharded.h - a store of 256 maps, each under a lock that many readers may hold at once. */
#ifndef BENCH_SHARDED_H
#define BENCH_SHARDED_H

#include <string.h>

#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "loops.h"
#include "xxh3.h"

namespace bench
{

/*
 * @map knows the maps of one library:
 *	map.reserve(n)
 *	const std::string *map.find(std::string_view key)    nullptr: not there
 *	map.put(std::string_view key, std::string_view value)
 */
template <class map> class sharded_adapter
{
public:
	static constexpr bool has_batch = false;
	static constexpr unsigned overhead = 120;

	explicit sharded_adapter(uint64_t capacity) : shards(256)
	{
		for (shard &sh : shards)
			sh.entries.reserve(capacity / shards.size());
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
	bool set(bytes key, bytes value)
	{
		shard &sh = shard_of(key);
		std::unique_lock<std::shared_mutex> guard(sh.lock);

		sh.entries.put(text_of(key), text_of(value));
		return true;
	}
	size_t get(bytes key, void *buf, size_t cap)
	{
		shard &sh = shard_of(key);
		std::shared_lock<std::shared_mutex> guard(sh.lock);
		const std::string *found = sh.entries.find(text_of(key));

		return found ? copy_out(*found, buf, cap) : absent;
	}
	void drain()
	{
	}
	memory_use memory()
	{
		return malloc_use();
	}

private:
	struct alignas(64) shard {
		std::shared_mutex lock;
		map entries;
	};
	/* The map goes by the low bits. */
	shard &shard_of(bytes key)
	{
		return shards[xxh3(text_of(key)) >> 56];
	}
	std::vector<shard> shards;
};

} // namespace bench

#endif // BENCH_SHARDED_H
