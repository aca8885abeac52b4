/* SPDX-License-Identifier: MIT */
/*
 * adapter.h - what a benchmark asks of a key-value store, whoever made it.
 *
 * A peer is one file, adapter_<name>.cc, with an adapter: a class with the functions below, none of
 * them virtual. contender_of<> builds the benchmark's loops around it, so that every store's get is
 * compiled into the same loop, and one line at the end of the file registers it:
 *
 *	class adapter {
 *	    public:
 *		static constexpr bool has_batch = false;
 *		static constexpr unsigned overhead = 160;  bytes an entry beside key and value, roughly: who
 *		                                           fits into memory together is planned with it
 *		explicit adapter(uint64_t capacity);       capacity keys are coming; 0: unknown
 *		~adapter();                                no other thread is inside
 *		void enter();                              this thread begins to use the store
 *		void leave();                              ... and ends
 *		void pause();                              between operations, every block_size of them
 *		bool set(bytes key, bytes value);          put or replace; false: no memory
 *		size_t get(bytes key, void *buf, size_t cap);  copy the value out; its length, or absent
 *		template <class Keys, class Values>        with has_batch: n gets; key_at(i) is a key, and
 *		void get_batch(size_t n, Keys key_at, void *buf, size_t cap, Values take);
 *		                                           take(i, data, len) is called for each, in order;
 *		                                           buf has room for all
 *		void drain();                              wait until what was deferred has been freed
 *		memory_use memory();
 *	};
 *	static const contender_of<adapter> self("name", "peer");
 *
 * Used as a competent user would for a byte-string cache: get copies the value out, set replaces, and a
 * reader never sees memory that was freed.
 */
#ifndef BENCH_ADAPTER_H
#define BENCH_ADAPTER_H

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <string>
#include <vector>

namespace bench
{

struct bytes {
	const void *data;
	size_t len;
};

constexpr size_t absent = SIZE_MAX;

/* By the store's own account, or its allocator's; 0: it keeps none. */
struct memory_use {
	uint64_t entries;  /* bytes of reachable entries */
	uint64_t index;    /* bytes of directories */
	uint64_t deferred; /* bytes that wait for readers */
	uint64_t mapped;   /* bytes taken from the system */
};

/* What a table holds: keys 0 to keys - 1 (keys.h). */
struct shape {
	uint64_t keys;
	unsigned key_len;
	unsigned value_len;
};

enum class workload {
	get_hit,   /* uniform over all keys */
	get_miss,  /* uniform over as many keys that are not there */
	mixed_5,   /* get_hit, and 5 in 100 are sets of a key that is there */
	zipf_5,    /* the same with keys by Zipf's law, exponent 0.99 */
	mixed_50,  /* mixed_5 with 50 in 100 */
	overwrite, /* with 100 in 100 */
	batch_8,   /* get_hit, 8 keys a call; single gets where there is no such call */
	batch_32,
	batch_128,
	insert, /* each key once, in no order; the end comes with the last */
};

constexpr size_t block_size = 256; /* operations */

/* What one thread is to do. With workload::insert @parts threads share the keys. */
struct task {
	shape s;
	workload work;
	uint64_t seed;
	unsigned part = 0;
	unsigned parts = 1;
};

/* What came of operations. */
struct tally {
	uint64_t hits = 0;   /* the value that belongs to the key */
	uint64_t misses = 0; /* keys that are not there, and were not found */
	uint64_t sets = 0;
	uint64_t wrong = 0; /* anything else */

	uint64_t all() const
	{
		return hits + misses + sets + wrong;
	}
};

class histogram;

/* One thread's use of a store. Made, used and destroyed by that thread. */
class client
{
public:
	virtual ~client() = default;
	/* Run a block of block_size operations. false: there was nothing left to insert. */
	virtual bool step(tally *t) = 0;
	/* The same, every operation's ticks in @h; batches one by one. */
	virtual bool step_timed(tally *t, histogram *h) = 0;
};

/* An open store of some kind. */
class store
{
public:
	virtual ~store() = default;
	virtual void enter() = 0;
	virtual void leave() = 0;
	virtual void pause() = 0;
	virtual bool set(bytes key, bytes value) = 0;
	virtual size_t get(bytes key, void *buf, size_t cap) = 0;
	virtual void drain() = 0;
	virtual memory_use memory() = 0;
	virtual std::unique_ptr<client> make_client(const task &t) = 0;
};

/* A kind of store. All of them register themselves before main() begins. */
class contender
{
public:
	contender(const char *its_name, const char *its_peer, unsigned its_overhead);
	virtual ~contender() = default;
	virtual std::unique_ptr<store> open(uint64_t capacity) const = 0;

	const std::string name;  /* unique */
	const std::string peer;  /* the product; its variants share it */
	const unsigned overhead; /* bytes an entry beside key and value, roughly */
};

inline std::vector<const contender *> &contenders()
{
	static std::vector<const contender *> all;
	return all;
}

inline contender::contender(const char *its_name, const char *its_peer, unsigned its_overhead)
    : name(its_name), peer(its_peer), overhead(its_overhead)
{
	contenders().push_back(this);
}

/* find_contender - The one of that name, or nullptr. */
inline const contender *find_contender(const std::string &name)
{
	for (const contender *c : contenders())
		if (c->name == name)
			return c;
	return nullptr;
}

} // namespace bench

#endif // BENCH_ADAPTER_H
