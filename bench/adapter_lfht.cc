/* SPDX-License-Identifier: MIT */
/* adapter_lfht.cc - liburcu's hash table, flavour bp: the one that we use. */
#define _LGPL_SOURCE /* the read lock in line, as our own build has it */
#include <urcu/urcu-bp.h>
#include <urcu/static/urcu-bp.h>

#include "adapter_lfht.h"

namespace
{

struct flavour_bp {
	static const struct rcu_flavor_struct *table()
	{
		return &urcu_bp_flavor;
	}
	static void start()
	{
		/* now, lest the worker inherits the processor of a pinned thread */
		(void)urcu_bp_get_default_call_rcu_data();
	}
	static void enter()
	{
	}
	static void leave()
	{
	}
	static void pause()
	{
	}
	static void read_lock()
	{
		_urcu_bp_read_lock();
	}
	static void read_unlock()
	{
		_urcu_bp_read_unlock();
	}
	static void call(struct rcu_head *head, void (*fn)(struct rcu_head *))
	{
		urcu_bp_call_rcu(head, fn);
	}
	static void barrier()
	{
		urcu_bp_barrier();
	}
};

const bench::contender_of<lfht_adapter<flavour_bp>> self("lfht", "lfht");

} // namespace
