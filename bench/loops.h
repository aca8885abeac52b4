/* SPDX-License-Identifier: MIT */
/* loops.h - the measured loops, built around each adapter. Included by adapters only. */
#ifndef BENCH_LOOPS_H
#define BENCH_LOOPS_H

#include <malloc.h>
#include <string.h>

#include <memory>
#include <optional>
#include <utility>

#include "adapter.h"
#include "histogram.h"
#include "keys.h"
#include "zipf.h"

namespace bench
{

/* malloc_use - For adapters whose store allocates with malloc. */
inline memory_use malloc_use()
{
	struct mallinfo2 m = mallinfo2();

	return { m.uordblks + m.hblkhd, 0, 0, m.arena + m.hblkhd };
}

constexpr unsigned percent_of_sets(workload w)
{
	switch (w) {
	case workload::mixed_5:
	case workload::zipf_5:
		return 5;
	case workload::mixed_50:
		return 50;
	case workload::overwrite:
	case workload::insert:
		return 100;
	default:
		return 0;
	}
}

/* A block of operations, made ahead: it stays in the first caches. */
class block
{
public:
	explicit block(const task &its_task)
	    : t(its_task), s(t.s), random(t.seed), order(s.keys),
	      next_insert(s.keys * t.part / t.parts), end_insert(s.keys * (t.part + 1) / t.parts)
	{
		for (size_t i = 0; i < block_size; i++)
			key_init(keys[i], s.key_len);
		if (t.work == workload::zipf_5)
			by_rank.emplace(s.keys, 0.99);
	}
	/* How many there are to do. */
	size_t fill()
	{
		unsigned percent = percent_of_sets(t.work);
		size_t n = t.work == workload::insert
				   ? std::min<uint64_t>(block_size, end_insert - next_insert)
				   : block_size;

		for (size_t i = 0; i < n; i++) {
			uint64_t number = choose();

			key_set(keys[i], s.key_len, number);
			stamps[i] = stamp_of(number);
		}
		if (percent)
			for (size_t i = 0; i < n; i++)
				writes[i] = random.below(100) < percent;
		return n;
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
	const task t;
	const shape s;

private:
	/* Keys were loaded in no order, so that rank and place have nothing to do with each other. */
	uint64_t choose()
	{
		switch (t.work) {
		case workload::get_miss:
			return s.keys + random.below(s.keys);
		case workload::zipf_5:
			return by_rank->next(random);
		case workload::insert:
			return order.at(next_insert++);
		default:
			return random.below(s.keys);
		}
	}
	random_numbers random;
	shuffle order;
	uint64_t next_insert;
	uint64_t end_insert;
	std::optional<zipf> by_rank;
	alignas(64) unsigned char keys[block_size][key_len_max];
	uint64_t stamps[block_size];
	bool writes[block_size] = {};
};

template <class adapter> class client_of : public client
{
public:
	client_of(adapter &its_store, const task &t)
	    : st(its_store), b(t), fresh(t.s.value_len, 'v')
	{
		st.enter();
	}
	~client_of() override
	{
		st.leave();
	}
	bool step(tally *t) override
	{
		size_t n = b.fill();

		switch (b.t.work) {
		case workload::get_hit:
			hits(n, t);
			break;
		case workload::get_miss:
			misses(n, t);
			break;
		case workload::batch_8:
			batches<8>(n, t);
			break;
		case workload::batch_32:
			batches<32>(n, t);
			break;
		case workload::batch_128:
			batches<128>(n, t);
			break;
		default:
			for (size_t i = 0; i < n; i++)
				one(i, t);
		}
		st.pause();
		return n != 0;
	}
	/* From stamp to stamp, so that nothing falls between two operations. A write waits for its own loads. */
	bool step_timed(tally *t, histogram *h) override
	{
		const bool always_writes = percent_of_sets(b.t.work) == 100;
		size_t n = b.fill();
		uint64_t last = ticks();

		for (size_t i = 0; i < n; i++) {
			uint64_t now;

			one(i, t);
			if (i + 1 == n)
				st.pause();
			now = always_writes ? ticks() : ticks_after();
			h->add(now - last);
			last = now;
		}
		return n != 0;
	}

private:
	bool is_right(size_t i, const void *data, size_t len) const
	{
		uint64_t stamp;

		memcpy(&stamp, data, sizeof(stamp));
		return (len == b.s.value_len) & (stamp == b.stamp(i));
	}
	bool get_is_right(size_t i)
	{
		size_t len = st.get(b.key(i), buf, sizeof(buf));

		return is_right(i, buf, len);
	}
	void count_hits(size_t n, size_t right, tally *t)
	{
		t->hits += right;
		t->wrong += n - right;
	}
	void hits(size_t n, tally *t)
	{
		size_t right = 0;

		for (size_t i = 0; i < n; i++)
			right += get_is_right(i);
		count_hits(n, right, t);
	}
	void misses(size_t n, tally *t)
	{
		size_t right = 0;

		for (size_t i = 0; i < n; i++)
			right += st.get(b.key(i), buf, sizeof(buf)) == absent;
		t->misses += right;
		t->wrong += n - right;
	}
	/* Any workload, an operation at a time. */
	void one(size_t i, tally *t)
	{
		uint64_t *right = &t->hits;
		bool ok;

		if (b.is_write(i)) {
			ok = put(i);
			right = &t->sets;
		} else if (b.t.work == workload::get_miss) {
			ok = st.get(b.key(i), buf, sizeof(buf)) == absent;
			right = &t->misses;
		} else {
			ok = get_is_right(i);
		}
		++*(ok ? right : &t->wrong);
	}
	bool put(size_t i)
	{
		uint64_t stamp = b.stamp(i);

		memcpy(fresh.data(), &stamp, sizeof(stamp));
		return st.set(b.key(i), { fresh.data(), fresh.size() });
	}
	template <size_t batch> void batches(size_t n, tally *t)
	{
		if constexpr (adapter::has_batch) {
			size_t right = 0;

			bufs.resize(batch * b.s.value_len);
			for (size_t first = 0; first < n; first += batch)
				st.get_batch(
					batch, [&](size_t i) { return b.key(first + i); },
					bufs.data(), bufs.size(),
					[&](size_t i, const void *data, size_t len) {
						right += is_right(first + i, data, len);
					});
			count_hits(n, right, t);
		} else {
			hits(n, t);
		}
	}

	adapter &st;
	block b;
	std::vector<char> fresh;
	std::vector<char> bufs; /* of a batch */
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
	size_t get(bytes key, void *buf, size_t cap) override
	{
		return st.get(key, buf, cap);
	}
	void drain() override
	{
		st.drain();
	}
	memory_use memory() override
	{
		return st.memory();
	}
	std::unique_ptr<client> make_client(const task &t) override
	{
		return std::make_unique<client_of<adapter>>(st, t);
	}

private:
	adapter st;
};

template <class adapter> class contender_of : public contender
{
public:
	contender_of(const char *its_name, const char *its_peer)
	    : contender(its_name, its_peer, adapter::overhead)
	{
	}
	std::unique_ptr<store> open(uint64_t capacity) const override
	{
		return std::make_unique<store_of<adapter>>(capacity);
	}
};

} // namespace bench

#endif // BENCH_LOOPS_H
