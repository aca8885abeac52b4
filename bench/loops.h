/* SPDX-License-Identifier: MIT */
/* loops.h - the measured loops, built around each adapter. Included by adapters only. */
#ifndef BENCH_LOOPS_H
#define BENCH_LOOPS_H

#include <string.h>

#include <memory>
#include <utility>

#include "adapter.h"
#include "keys.h"

namespace bench
{

/* A block of operations, made ahead: it stays in the first caches. */
class block
{
public:
	block(const shape &its_shape, workload its_work, uint64_t seed)
	    : s(its_shape), work(its_work), random(seed)
	{
		for (size_t i = 0; i < block_size; i++)
			key_init(keys[i], s.key_len);
	}
	void fill()
	{
		uint64_t base = work == workload::get_miss ? s.keys : 0;

		for (size_t i = 0; i < block_size; i++) {
			uint64_t number = base + random.below(s.keys);

			key_set(keys[i], s.key_len, number);
			stamps[i] = stamp_of(number);
		}
		if (work == workload::mixed_5)
			choose_writes(5);
		else if (work == workload::mixed_50)
			choose_writes(50);
	}
	bytes key(size_t i) const
	{
		return { keys[i], s.key_len };
	}
	uint64_t stamp(size_t i) const
	{
		return stamps[i];
	}
	bool is_write(size_t i) const
	{
		return writes[i];
	}
	const shape s;
	const workload work;

private:
	void choose_writes(unsigned percent)
	{
		for (size_t i = 0; i < block_size; i++)
			writes[i] = random.below(100) < percent;
	}
	random_numbers random;
	alignas(64) unsigned char keys[block_size][key_len_max];
	uint64_t stamps[block_size];
	bool writes[block_size] = {};
};

template <class adapter> class client_of : public client
{
public:
	client_of(adapter &its_store, const shape &s, workload w, uint64_t seed)
	    : st(its_store), b(s, w, seed), fresh(s.value_len, 'v')
	{
		st.enter();
	}
	~client_of() override
	{
		st.leave();
	}
	unsigned step() override
	{
		unsigned wrong;

		b.fill();
		switch (b.work) {
		case workload::get_hit:
			wrong = hits();
			break;
		case workload::get_miss:
			wrong = misses();
			break;
		case workload::batch_32:
			wrong = batches();
			break;
		default:
			wrong = mixed();
		}
		st.pause();
		return wrong;
	}

private:
	bool get_is_right(size_t i)
	{
		uint64_t stamp;
		size_t len = st.get(b.key(i), buf, sizeof(buf));

		memcpy(&stamp, buf, sizeof(stamp));
		return (len == b.s.value_len) & (stamp == b.stamp(i));
	}
	unsigned hits()
	{
		unsigned wrong = 0;

		for (size_t i = 0; i < block_size; i++)
			wrong += !get_is_right(i);
		return wrong;
	}
	unsigned misses()
	{
		unsigned wrong = 0;

		for (size_t i = 0; i < block_size; i++)
			wrong += st.get(b.key(i), buf, sizeof(buf)) != absent;
		return wrong;
	}
	unsigned mixed()
	{
		unsigned wrong = 0;

		for (size_t i = 0; i < block_size; i++)
			wrong += b.is_write(i) ? !put(i) : !get_is_right(i);
		return wrong;
	}
	bool put(size_t i)
	{
		uint64_t stamp = b.stamp(i);

		memcpy(fresh.data(), &stamp, sizeof(stamp));
		return st.set(b.key(i), { fresh.data(), fresh.size() });
	}
	unsigned batches()
	{
		unsigned wrong = 0;

		for (size_t i = 0; i < block_size; i += batch)
			wrong += one_batch(i);
		return wrong;
	}
	unsigned one_batch(size_t first)
	{
		size_t cap = b.s.value_len;
		bytes keys[batch];
		size_t lens[batch];
		unsigned wrong = 0;

		for (size_t i = 0; i < batch; i++)
			keys[i] = b.key(first + i);
		get_batch(keys, cap, lens);
		for (size_t i = 0; i < batch; i++) {
			uint64_t stamp;

			memcpy(&stamp, &bufs[i * cap], sizeof(stamp));
			wrong += lens[i] != cap || stamp != b.stamp(first + i);
		}
		return wrong;
	}
	void get_batch(const bytes *keys, size_t cap, size_t *lens)
	{
		if (bufs.empty())
			bufs.resize(batch * cap);
		if constexpr (adapter::has_batch)
			st.get_batch(keys, batch, bufs.data(), cap, lens);
		else
			for (size_t i = 0; i < batch; i++)
				lens[i] = st.get(keys[i], &bufs[i * cap], cap);
	}

	static constexpr size_t batch = 32;
	adapter &st;
	block b;
	std::vector<char> fresh;
	std::vector<char> bufs;
	char buf[value_len_max] = {};
};

template <class adapter> class store_of : public store
{
public:
	explicit store_of(uint64_t capacity) : st(capacity)
	{
	}
	void enter() override
	{
		st.enter();
	}
	void leave() override
	{
		st.leave();
	}
	void pause() override
	{
		st.pause();
	}
	bool set(bytes key, bytes value) override
	{
		return st.set(key, value);
	}
	void drain() override
	{
		st.drain();
	}
	memory_use memory() override
	{
		return st.memory();
	}
	std::unique_ptr<client> make_client(const shape &s, workload w, uint64_t seed) override
	{
		return std::make_unique<client_of<adapter>>(st, s, w, seed);
	}

private:
	adapter st;
};

template <class adapter> class contender_of : public contender
{
public:
	using contender::contender;
	std::unique_ptr<store> open(uint64_t capacity) const override
	{
		return std::make_unique<store_of<adapter>>(capacity);
	}
};

} // namespace bench

#endif // BENCH_LOOPS_H
