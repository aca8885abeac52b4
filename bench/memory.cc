/* SPDX-License-Identifier: MIT */
/*
 * memory.cc - what becomes of memory that is deleted or overwritten.
 *
 *   memory give [KEYS [VALUE]]       delete 99 in 100 keys, those inserted first or any: how much stays resident, and
 *                                    what inserting as many again takes
 *   memory overwrite [SECONDS [KEYS]]  two threads overwrite at full speed: resident memory each second; the
 *                                    store with its threads, without limits, driven by kvs_run, and a table of
 *                                    liburcu with one call_rcu a node
 *   memory stall [KEYS]              a reader holds its section for five seconds under full write load, without and
 *                                    with a hard limit
 *
 * Each part is a process of its own. Keys have 12 bytes, values 100 unless said otherwise.
 */
#include <atomic>
#include <thread>

#include "keys.h"
#include "kvs.h"
#include "process.h"

using namespace bench;

namespace
{

constexpr double MIB = 1 << 20;

/* A line of /proc/self/status, in bytes. */
uint64_t status_bytes(const char *name)
{
	unsigned long long kib = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0) {
			kib = strtoull(line + strlen(name), nullptr, 10);
			break;
		}
	if (f)
		fclose(f);
	return kib * 1024;
}

[[noreturn]] void fail(const char *what)
{
	fprintf(stderr, "memory: %s\n", what);
	exit(1);
}

int set(struct kvs *kv, pair_maker &pair, uint64_t number)
{
	bytes key, value;

	pair.set(number);
	key = pair.key_bytes();
	value = pair.value_bytes();
	return kvs_set(kv, kvs_bytes(key.data, key.len), kvs_bytes(value.data, value.len), nullptr);
}

int del(struct kvs *kv, pair_maker &pair, uint64_t number)
{
	bytes key;

	pair.set(number);
	key = pair.key_bytes();
	return kvs_delete(kv, kvs_bytes(key.data, key.len), nullptr);
}

struct kvs *open_store(const struct kvs_options *opts)
{
	struct kvs *kv;

	if (kvs_open(opts, &kv) != KVS_OK)
		fail("no store");
	return kv;
}

void insert(struct kvs *kv, const shape &s, uint64_t first, uint64_t count)
{
	pair_maker pair(s);

	for (uint64_t i = 0; i < count; i++)
		if (set(kv, pair, first + i) != KVS_OK)
			fail("no memory");
}

struct kvs_stats stats_of(struct kvs *kv)
{
	struct kvs_stats st = {};

	st.size = sizeof(st);
	if (kvs_stats(kv, &st) != KVS_OK)
		fail("no statistics");
	return st;
}

/* ---- give ---- */

void give(const shape &s, bool any)
{
	struct kvs *kv;
	random_numbers random(7);
	pair_maker pair(s);
	uint64_t gone = 0;
	double base = (double)resident_bytes();
	double peak, begin, now = 0, hwm;

	kv = open_store(nullptr);
	insert(kv, s, 0, s.keys);
	peak = (double)resident_bytes() - base;
	begin = now_seconds();
	for (uint64_t i = 0; i < s.keys; i++)
		if (any ? random.below(100) != 0 : i < s.keys / 100 * 99) {
			if (del(kv, pair, i) != KVS_OK)
				fail("a key is missing");
			gone++;
		}
	printf("%s 99%% of %llu keys, %u B values: peak %.1f MiB, %.1f s to delete\n",
	       any ? "any" : "first", (unsigned long long)s.keys, s.value_len, peak / MIB,
	       now_seconds() - begin);
	begin = now_seconds();
	for (unsigned half = 1; half <= 20; half++) {
		while (now_seconds() < begin + half * 0.5)
			usleep(20000);
		now = (double)resident_bytes() - base;
		if (half % 4 == 0 || half < 4)
			printf("  after %4.1f s resident %6.2f %% of the peak\n", half * 0.5,
			       now / peak * 100);
	}
	printf("  verdict: %s (%.2f %%, at most %d %%)\n",
	       now < peak * (any ? 0.4 : 0.1) ? "holds" : "FAILS", now / peak * 100, any ? 40 : 10);
	insert(kv, s, s.keys, gone);
	hwm = (double)resident_bytes() - base;
	printf("  as many again: %.1f MiB, %+.2f %% against the peak: %s\n", hwm / MIB,
	       (hwm / peak - 1) * 100, hwm <= peak * 1.05 ? "holds" : "FAILS");
	fflush(stdout);
	kvs_free(kv);
}

/* ---- overwrite ---- */

/* Two writers and what they write to. */
struct load {
	std::atomic<bool> stop{ false };
	std::atomic<uint64_t> ops[2];
	std::atomic<uint64_t> cpu_ns[2]; /* processor time of each writer */
	std::atomic<uint64_t> refused{ 0 };
	std::atomic<uint64_t> gets{ 0 };
};

template <class Set> void overwrite(load *l, unsigned index, const shape &s, Set set_one)
{
	random_numbers random(index + 1);
	struct timespec t;
	pair_maker pair(s);

	while (!l->stop.load(std::memory_order_relaxed)) {
		for (unsigned i = 0; i < 1024; i++)
			set_one(pair, random.below(s.keys));
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
		l->cpu_ns[index].store((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
				       std::memory_order_relaxed);
		l->ops[index].store(l->ops[index].load(std::memory_order_relaxed) + 1024,
				    std::memory_order_relaxed);
	}
}

uint64_t ops_of(load *l)
{
	return l->ops[0].load() + l->ops[1].load();
}

uint64_t cpu_of(load *l)
{
	return l->cpu_ns[0].load() + l->cpu_ns[1].load();
}

/* Watch for so long; returns the operations a second of the first five seconds and of all. */
struct rates {
	double first;
	double all;
	double first_cpu; /* the same a second of a writer's processor time */
	double all_cpu;
	double rss_max;
	double hwm;
};

rates watch(load *l, unsigned seconds, double limit)
{
	rates r = {};
	double begin = now_seconds();
	uint64_t last = ops_of(l), start = last, cpu = cpu_of(l);

	for (unsigned second = 1; second <= seconds; second++) {
		uint64_t ops;
		double rss;

		while (now_seconds() < begin + second)
			usleep(5000);
		ops = ops_of(l);
		rss = (double)status_bytes("VmRSS:");
		r.rss_max = std::max(r.rss_max, rss);
		printf("  %2u s  VmRSS %8.1f MiB %s  %6.3f M/s\n", second, rss / MIB,
		       limit <= 0     ? ""
		       : rss <= limit ? "ok  "
				      : "OVER",
		       (double)(ops - last) * 1e-6);
		last = ops;
		r.all_cpu = (double)(ops - start) * 1e9 / (double)(cpu_of(l) - cpu);
		r.all = (double)(ops - start) / second;
		if (second <= 5) {
			r.first = r.all;
			r.first_cpu = r.all_cpu;
		}
	}
	r.hwm = (double)status_bytes("VmHWM:");
	return r;
}

enum engine { LIMITED, UNLIMITED, DRIVEN };

void drive(struct kvs *kv, load *l)
{
	int next;

	while (!l->stop.load(std::memory_order_relaxed)) {
		if (kvs_run(kv, 0, 0, &next) != KVS_OK)
			fail("kvs_run");
		if (next != 0)
			usleep(next < 0 ? 10000 : (useconds_t)next * 1000);
	}
}

void overwrite_kvs(const shape &s, unsigned seconds, engine how, rates *ret)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	std::vector<std::thread> all;
	static load l;
	struct kvs_stats st;
	struct kvs *kv;
	double limit;

	if (how == UNLIMITED)
		opts.deferred_soft = UINT64_MAX;
	if (how == DRIVEN)
		opts.flags = KVS_OPEN_NO_THREADS;
	kv = open_store(&opts);
	insert(kv, s, 0, s.keys);
	st = stats_of(kv);
	limit = 1.3 * (double)(st.bytes_live + st.bytes_index) + 32 * MIB;
	printf("%s: live %.1f MiB, so at most %.1f MiB; resident %.1f MiB\n",
	       how == LIMITED     ? "kvs"
	       : how == UNLIMITED ? "kvs without limits"
				  : "kvs driven by kvs_run",
	       (double)(st.bytes_live + st.bytes_index) / MIB, limit / MIB,
	       (double)resident_bytes() / MIB);
	for (unsigned i = 0; i < 2; i++)
		all.emplace_back([&, i] {
			overwrite(&l, i, s,
				  [&](pair_maker &pair, uint64_t n) { (void)set(kv, pair, n); });
		});
	if (how == DRIVEN)
		all.emplace_back(drive, kv, &l);
	*ret = watch(&l, seconds, limit);
	st = stats_of(kv);
	l.stop = true;
	for (std::thread &t : all)
		t.join();
	printf("  VmHWM %.1f MiB of %.1f: %s; %.3f M/s in all, %.3f in the first 5 s; helped %llu, deferred %.1f MiB\n",
	       ret->hwm / MIB, limit / MIB,
	       ret->hwm <= limit && ret->rss_max <= limit ? "holds" : "FAILS", ret->all * 1e-6,
	       ret->first * 1e-6, (unsigned long long)st.helped, (double)st.bytes_deferred / MIB);
	fflush(stdout);
	kvs_free(kv);
}

void overwrite_peer(const shape &s, unsigned seconds, rates *ret)
{
	const contender *c = find_contender("lfht");
	std::vector<std::thread> all;
	static load l;

	if (!c)
		fail("no lfht here");
	std::unique_ptr<store> st = c->open(s.keys);
	if (!bench::load(*st, s, false))
		fail("no memory");
	printf("cds_lfht, a call_rcu a node: resident %.1f MiB\n", (double)resident_bytes() / MIB);
	for (unsigned i = 0; i < 2; i++)
		all.emplace_back([&, i] {
			st->enter();
			overwrite(&l, i, s, [&](pair_maker &pair, uint64_t n) {
				pair.set(n);
				(void)st->set(pair.key_bytes(), pair.value_bytes());
			});
			st->leave();
		});
	*ret = watch(&l, seconds, 0);
	printf("  VmHWM %.1f MiB; %.3f M/s in all, %.3f in the first 5 s\n", ret->hwm / MIB,
	       ret->all * 1e-6, ret->first * 1e-6);
	fflush(stdout);
	_exit(write(STDOUT_FILENO, "", 0) == 0 ? 0 : 1); /* its queue would take long to run */
}

void overwrite_all(unsigned seconds, uint64_t keys)
{
	shape s = { keys, 12, 100 };
	rates free_of = {}, with = {}, driven = {};

	if (!in_child([&](rates *r) { overwrite_kvs(s, 5, UNLIMITED, r); }, &free_of) ||
	    !in_child([&](rates *r) { overwrite_kvs(s, seconds, LIMITED, r); }, &with) ||
	    !in_child([&](rates *r) { overwrite_kvs(s, seconds, DRIVEN, r); }, &driven))
		fail("a child failed");
	printf("writers with limits against the first 5 s without (at least 0.8): %.2f, by their processor time %.2f; "
	       "driven %.2f, %.2f\n",
	       with.all / free_of.first, with.all_cpu / free_of.first_cpu,
	       driven.all / free_of.first, driven.all_cpu / free_of.first_cpu);
	fflush(stdout);
	(void)in_child([&](rates *r) { overwrite_peer(s, seconds < 30 ? seconds : 30, r); },
		       &driven);
}

/* ---- stall ---- */

std::atomic<unsigned> hook_calls;
std::atomic<uint64_t> hook_age_ms;

void on_stall(struct kvs *, uint64_t age_ms, uint64_t, void *)
{
	hook_age_ms = age_ms;
	hook_calls++;
}

void get_all(struct kvs *kv, const shape &s, load *l)
{
	random_numbers random(99);
	pair_maker pair(s);
	char buf[256];

	while (!l->stop.load(std::memory_order_relaxed)) {
		for (unsigned i = 0; i < 64; i++) {
			bytes key;

			pair.set(random.below(s.keys));
			key = pair.key_bytes();
			if (kvs_get(kv, kvs_bytes(key.data, key.len), buf, sizeof(buf), nullptr) !=
			    KVS_OK)
				fail("a get failed");
		}
		l->gets += 64;
	}
}

void stall(const shape &s, uint64_t hard)
{
	struct kvs_options opts = KVS_OPTIONS_INIT;
	std::atomic<bool> held{ false };
	static load l;
	uint64_t sets = 0, gets = 0, refused = 0;
	double released = 0, recovered = 0;
	struct kvs *kv;

	opts.deferred_hard = hard;
	opts.stall_fn = on_stall;
	opts.stall_ms = 1000;
	kv = open_store(&opts);
	insert(kv, s, 0, s.keys);
	printf("a section of 5 s, hard limit %.0f MiB, hook once a second\n", (double)hard / MIB);
	std::thread writer([&] {
		overwrite(&l, 0, s, [&](pair_maker &pair, uint64_t n) {
			int err = set(kv, pair, n);

			if (err == KVS_ERR_MEMORY_LIMIT)
				l.refused++;
			else if (err)
				fail("a set failed");
		});
	});
	std::thread getter([&] { get_all(kv, s, &l); });
	std::thread holder([&] {
		usleep(1000000);
		kvs_read_begin(kv);
		held = true;
		usleep(5000000);
		kvs_read_end(kv);
		held = false;
	});
	double begin = now_seconds();
	for (unsigned step = 1; step <= 80; step++) {
		struct kvs_stats st;
		bool was = held;

		while (now_seconds() < begin + step * 0.1)
			usleep(1000);
		st = stats_of(kv);
		if (step > 11 && !was && !released)
			released = now_seconds();
		if (released && !recovered && st.bytes_deferred < 48 * MIB && l.refused == refused)
			recovered = now_seconds();
		if (step % 10 == 0 || (released && step < 66))
			printf("  %3.1f s %s deferred %8.1f MiB age %5llu ms  set %6.3f M/s  refused %6.3f M/s"
			       "  get %6.3f M/s  hook %u (%llu ms)\n",
			       step * 0.1, was ? "held" : "    ", (double)st.bytes_deferred / MIB,
			       (unsigned long long)st.deferred_age_ms,
			       std::max(0.0, (double)(ops_of(&l) - sets) -
						     (double)(l.refused - refused)) *
				       1e-6,
			       (double)(l.refused - refused) * 1e-6, (double)(l.gets - gets) * 1e-6,
			       hook_calls.load(), (unsigned long long)hook_age_ms.load());
		if (step % 10 == 0 || released) {
			sets = ops_of(&l);
			gets = l.gets;
			refused = l.refused;
		}
	}
	l.stop = true;
	writer.join();
	getter.join();
	holder.join();
	printf("  hook called %u times (4 or 5); recovered %.2f s after the release (at most 1): %s\n",
	       hook_calls.load(), recovered - released,
	       recovered && recovered - released <= 1 && hook_calls >= 4 ? "holds" : "FAILS");
	fflush(stdout);
	kvs_free(kv);
}

} // namespace

int main(int argc, char **argv)
{
	std::string part = argc > 1 ? argv[1] : "";
	int done;

	if (part == "give") {
		shape s = { argc > 2 ? number_of("KEYS", argv[2]) : 1000000, 12,
			    argc > 3 ? (unsigned)number_of("VALUE", argv[3]) : 100 };

		return !in_child([&](int *) { give(s, false); }, &done) ||
		       !in_child([&](int *) { give(s, true); }, &done);
	}
	if (part == "overwrite") {
		overwrite_all(argc > 2 ? (unsigned)number_of("SECONDS", argv[2]) : 60,
			      argc > 3 ? number_of("KEYS", argv[3]) : 1000000);
		return 0;
	}
	if (part == "stall") {
		shape s = { argc > 2 ? number_of("KEYS", argv[2]) : 1000000, 12, 100 };

		return !in_child([&](int *) { stall(s, 0); }, &done) ||
		       !in_child([&](int *) { stall(s, (uint64_t)64 << 20); }, &done);
	}
	fprintf(stderr, "usage: memory give|overwrite|stall ...\n");
	return 2;
}
