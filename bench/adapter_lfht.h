/* SPDX-License-Identifier: MIT */
/*
 * adapter_lfht.h - liburcu's lock-free hash table, for any flavour.
 *
 * Included by one file a flavour, after that flavour's headers: they cannot be mixed.
 *
 * A node is one block: the table's node, the callback's head, lengths, key, value. The table starts
 * with as many buckets as keys that are announced, rounded up to a power of two; unannounced, with
 * 65,536: from 1 it may lose its growth for good.
 */
#ifndef BENCH_ADAPTER_LFHT_H
#define BENCH_ADAPTER_LFHT_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <random>
#include <stdexcept>

#include <urcu/call-rcu.h>
#include <urcu/rculfhash.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "loops.h"

namespace
{

struct node {
	struct cds_lfht_node link; /* first */
	struct rcu_head rcu;
	uint32_t key_len;
	uint32_t value_len;
	unsigned char data[]; /* key, value */
};

struct node *node_of(struct cds_lfht_node *link)
{
	return reinterpret_cast<struct node *>(link);
}

void free_node(struct rcu_head *head)
{
	free(reinterpret_cast<char *>(head) - offsetof(struct node, rcu));
}

int match(struct cds_lfht_node *link, const void *wanted)
{
	const struct node *n = node_of(link);
	const bench::bytes *key = static_cast<const bench::bytes *>(wanted);

	return n->key_len == key->len && memcmp(n->data, key->data, key->len) == 0;
}

template <class flavour> class lfht_adapter
{
public:
	static constexpr bool has_batch = false;
	static constexpr unsigned overhead = 80;

	explicit lfht_adapter(uint64_t capacity) : seed(std::random_device{}())
	{
		unsigned long buckets = capacity ? 1 : 65536;

		while (buckets < capacity)
			buckets *= 2;
		flavour::start();
		ht = cds_lfht_new_flavor(buckets, 1, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING,
					 flavour::table(), nullptr);
		if (!ht)
			throw std::runtime_error("cds_lfht_new failed");
	}
	~lfht_adapter()
	{
		flavour::enter();
		remove_all();
		flavour::leave();
		flavour::barrier();
		cds_lfht_destroy(ht, nullptr);
	}
	lfht_adapter(const lfht_adapter &) = delete;
	lfht_adapter &operator=(const lfht_adapter &) = delete;

	void enter()
	{
		flavour::enter();
	}
	void leave()
	{
		flavour::leave();
	}
	void pause()
	{
		flavour::pause();
	}
	bool set(bench::bytes key, bench::bytes value)
	{
		struct node *n = make(key, value);
		struct cds_lfht_node *old;

		if (!n)
			return false;
		flavour::read_lock();
		old = cds_lfht_add_replace(ht, hash(key), match, &key, &n->link);
		if (old)
			flavour::call(&node_of(old)->rcu, free_node);
		flavour::read_unlock();
		return true;
	}
	size_t get(bench::bytes key, void *buf, size_t cap)
	{
		struct cds_lfht_iter iter;
		struct cds_lfht_node *link;
		size_t len = bench::absent;

		flavour::read_lock();
		cds_lfht_lookup(ht, hash(key), match, &key, &iter);
		link = cds_lfht_iter_get_node(&iter);
		if (link) {
			const struct node *n = node_of(link);

			len = n->value_len;
			if (len <= cap)
				memcpy(buf, n->data + n->key_len, len);
		}
		flavour::read_unlock();
		return len;
	}
	void drain()
	{
		flavour::barrier();
	}
	bench::memory_use memory()
	{
		return bench::malloc_use();
	}

private:
	unsigned long hash(bench::bytes key) const
	{
		return XXH3_64bits_withSeed(key.data, key.len, seed);
	}
	static struct node *make(bench::bytes key, bench::bytes value)
	{
		struct node *n = static_cast<struct node *>(
			malloc(sizeof(struct node) + key.len + value.len));

		if (!n)
			return nullptr;
		cds_lfht_node_init(&n->link);
		n->key_len = static_cast<uint32_t>(key.len);
		n->value_len = static_cast<uint32_t>(value.len);
		memcpy(n->data, key.data, key.len);
		memcpy(n->data + key.len, value.data, value.len);
		return n;
	}
	void remove_all()
	{
		struct cds_lfht_iter iter;

		flavour::read_lock();
		cds_lfht_first(ht, &iter);
		while (cds_lfht_iter_get_node(&iter)) {
			struct cds_lfht_node *link = cds_lfht_iter_get_node(&iter);

			cds_lfht_next(ht, &iter);
			if (cds_lfht_del(ht, link) == 0)
				flavour::call(&node_of(link)->rcu, free_node);
		}
		flavour::read_unlock();
	}
	struct cds_lfht *ht;
	uint64_t seed;
};

} // namespace

#endif // BENCH_ADAPTER_LFHT_H
