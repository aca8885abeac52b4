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
 *		explicit adapter(uint64_t capacity);       capacity keys are coming; 0: unknown
 *		~adapter();                                no other thread is inside
 *		void enter();                              this thread begins to use the store
 *		void leave();                              ... and ends
 *		void pause();                              between operations, every block_size of them
 *		bool set(bytes key, bytes value);          put or replace; false: no memory
 *		size_t get(bytes key, void *buf, size_t cap);  copy the value out; its length, or absent
 *		bool del(bytes key);                       was it there?
 *		void get_batch(const bytes *keys, size_t n, char *bufs, size_t cap, size_t *lens);
 *		                                           with has_batch: n gets, buffers cap apart
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
	get_hit,  /* uniform over all keys */
	get_miss, /* uniform over as many keys that are not there */
	mixed_5,  /* get_hit, and 5 in 100 are sets of a key that is there */
	mixed_50, /* the same with 50 in 100 */
	batch_32, /* get_hit, 32 keys a call */
};

constexpr size_t block_size = 256; /* operations */

/* One thread's use of a store. Made, used and destroyed by that thread. */
class client
{
public:
	virtual ~client() = default;
	/* Run a block of block_size operations; returns how many gave a wrong answer. */
	virtual unsigned step() = 0;
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
	virtual void drain() = 0;
	virtual memory_use memory() = 0;
	virtual std::unique_ptr<client> make_client(const shape &s, workload w, uint64_t seed) = 0;
};

/* A kind of store. All of them register themselves before main() begins. */
class contender
{
public:
	contender(const char *its_name, const char *its_peer);
	virtual ~contender() = default;
	virtual std::unique_ptr<store> open(uint64_t capacity) const = 0;

	const std::string name; /* unique */
	const std::string peer; /* the product; its variants share it */
};

inline std::vector<const contender *> &contenders()
{
	static std::vector<const contender *> all;
	return all;
}

inline contender::contender(const char *its_name, const char *its_peer)
    : name(its_name), peer(its_peer)
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
