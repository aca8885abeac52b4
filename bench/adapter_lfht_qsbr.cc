/* SPDX-License-Identifier: MIT */
/* adapter_lfht_qsbr.cc - liburcu's hash table, flavour qsbr: no read lock at all. */
#define _LGPL_SOURCE /* the read lock in line, as our own build has it */
#include <urcu/urcu-qsbr.h>
#include <urcu/static/urcu-qsbr.h>

#include "adapter_lfht.h"

namespace
{

struct flavour_qsbr {
	static const struct rcu_flavor_struct *table()
	{
		return &urcu_qsbr_flavor;
	}
	static void start()
	{
		(void)urcu_qsbr_get_default_call_rcu_data();
	}
	static void enter()
	{
		urcu_qsbr_register_thread();
	}
	static void leave()
	{
		urcu_qsbr_unregister_thread();
	}
	static void pause()
	{
		_urcu_qsbr_quiescent_state();
	}
	static void read_lock()
	{
		_urcu_qsbr_read_lock();
	}
	static void read_unlock()
	{
		_urcu_qsbr_read_unlock();
	}
	static void call(struct rcu_head *head, void (*fn)(struct rcu_head *))
	{
		urcu_qsbr_call_rcu(head, fn);
	}
	static void barrier()
	{
		urcu_qsbr_barrier();
	}
};

const bench::contender_of<lfht_adapter<flavour_qsbr>> self("lfht-qsbr", "lfht");

} // namespace
