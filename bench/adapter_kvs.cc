/* SPDX-License-Identifier: MIT */
/* adapter_kvs.cc - this library through its public header, default options; and with XXH3. */
#include "kvs.h"

#include <stdexcept>

#include "loops.h"

namespace
{

template <int hash> class kvs_adapter
{
public:
	static constexpr bool has_batch = true;
	static constexpr unsigned overhead = 56;

	explicit kvs_adapter(uint64_t capacity)
	{
		struct kvs_options o = KVS_OPTIONS_INIT;

		o.initial_capacity = capacity;
		o.hash = hash;
		if (kvs_open(&o, &kv) != KVS_OK)
			throw std::runtime_error("kvs_open failed");
	}
	~kvs_adapter()
	{
		kvs_free(kv);
	}
	kvs_adapter(const kvs_adapter &) = delete;
	kvs_adapter &operator=(const kvs_adapter &) = delete;

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
		return kvs_set(kv, slice(key), slice(value), nullptr) == KVS_OK;
	}
	size_t get(bench::bytes key, void *buf, size_t cap)
	{
		struct kvs_value v;

		return kvs_get(kv, slice(key), buf, cap, &v) == KVS_OK ? v.len : bench::absent;
	}
	template <class Keys, class Values>
	void get_batch(size_t n, Keys key_at, void *buf, size_t cap, Values take)
	{
		struct kvs_get_item items[batch_max];

		for (size_t i = 0; i < n; i++)
			items[i].key = slice(key_at(i));
		kvs_batch_get(kv, items, n, buf, cap, nullptr);
		for (size_t i = 0; i < n; i++)
			if (items[i].status == KVS_OK)
				take(i, items[i].value.data, items[i].value.len);
			else
				take(i, buf, bench::absent);
	}
	void drain()
	{
		kvs_drain(kv);
	}
	bench::memory_use memory()
	{
		struct kvs_stats s = {};

		s.size = sizeof(s);
		kvs_stats(kv, &s);
		return { s.bytes_live, s.bytes_index, s.bytes_deferred, s.bytes_mapped };
	}

private:
	static constexpr size_t batch_max = 128;
	static struct kvs_slice slice(bench::bytes b)
	{
		return kvs_bytes(b.data, b.len);
	}
	struct kvs *kv = nullptr;
};

const bench::contender_of<kvs_adapter<KVS_HASH_SIPHASH13>> keyed("kvs", "kvs");
const bench::contender_of<kvs_adapter<KVS_HASH_XXH3>> fast("kvs-xxh3", "kvs");

} // namespace
