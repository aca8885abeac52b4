/* SPDX-License-Identifier: MIT */
/* peers_serve.cc - see peers_serve.h. */
#include "peers_serve.h"

#include <pthread.h>

#include <atomic>
#include <sstream>
#include <thread>

#include "adapter.h"
#include "histogram.h"
#include "keys.h"
#include "machine.h"
#include "peers_options.h"
#include "process.h"

namespace bench
{

namespace
{

/* Seconds that this thread had a processor. */
double thread_seconds()
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void say(const char *name, double value)
{
	printf("%s %.9g ", name, value);
}

/* in_threads - Call fn(0) to fn(n - 1), each in a thread that is pinned to a processor of its own. */
template <class F> void in_threads(unsigned n, const std::vector<int> &cpus, F fn)
{
	std::vector<std::thread> threads;

	for (unsigned i = 0; i < n; i++)
		threads.emplace_back([&, i] {
			pin(cpus[i % cpus.size()]);
			fn(i);
		});
	for (std::thread &t : threads)
		t.join();
}

class gate
{
public:
	explicit gate(unsigned threads)
	{
		pthread_barrier_init(&barrier, nullptr, threads);
	}
	~gate()
	{
		pthread_barrier_destroy(&barrier);
	}
	void wait()
	{
		pthread_barrier_wait(&barrier);
	}

private:
	pthread_barrier_t barrier;
};

/* What one thread did in a window. */
struct share {
	tally counts;
	double seconds = 0;
	histogram ticks;
};

constexpr int warm_steps = 8;

/* Its client waits at the gate for nobody: others' readers must not wait for it. */
void warm(store &st, task t, share *mine)
{
	std::unique_ptr<client> c;
	tally ignored;

	t.seed += 500000;
	c = st.make_client(t);
	for (int i = 0; i < warm_steps; i++)
		c->step(&ignored);
	mine->counts.wrong += ignored.wrong;
}

/* A server of one store. */
class store_server
{
public:
	explicit store_server(const contender *its_kind) : kind(its_kind), cpus(processors())
	{
	}
	bool obey(const std::string &verb, std::istringstream &in)
	{
		if (verb == "load")
			load_keys(in);
		else if (verb == "verify")
			verify(in);
		else if (verb == "run")
			run(in);
		else if (verb == "insert")
			insert(in);
		else if (verb == "tail")
			tail(in);
		else if (verb == "overwrite")
			overwrite(in);
		else if (verb == "drain")
			st->drain();
		else
			return false;
		return true;
	}

private:
	void load_keys(std::istringstream &in)
	{
		uint64_t before = anonymous_bytes();
		double begin = now_seconds();
		memory_use use;

		in >> s.keys >> s.key_len >> s.value_len;
		st = kind->open(s.keys);
		if (!load(*st, s, true))
			fail(kind->name + ": out of memory while loading");
		st->drain();
		use = st->memory();
		say("seconds", now_seconds() - begin);
		say("resident", (double)resident_bytes());
		say("grown", (double)(anonymous_bytes() - before));
		say("huge", (double)rollup_bytes("AnonHugePages:"));
		say("account", (double)(use.entries + use.index));
	}

	/* ---- verify ---- */

	/* What was seen of them. */
	struct sight {
		uint64_t asked = 0;
		uint64_t found = 0;
		uint64_t asked_missing = 0;
		uint64_t missed = 0;
		uint64_t asked_replaced = 0;
		uint64_t replaced = 0;
	};
	/* Every byte is looked at; evenly spread numbers if not all are asked for. */
	void verify(std::istringstream &in)
	{
		std::vector<sight> all(cpus.size());
		uint64_t count;

		in >> count;
		count = std::min(count, s.keys);
		in_threads((unsigned)all.size(), cpus, [&](unsigned i) {
			verify_part(count * i / all.size(), count * (i + 1) / all.size(),
				    s.keys / count, &all[i]);
		});
		st->drain();
		for (const sight &one : all) {
			say("found", (double)one.found);
			if (one.found != one.asked || one.missed != one.asked_missing ||
			    one.replaced != one.asked_replaced)
				fail(kind->name + " does not hold what was put into it");
		}
	}
	void verify_part(uint64_t from, uint64_t to, uint64_t stride, sight *seen)
	{
		pair_maker pair(s);

		st->enter();
		for (uint64_t i = from; i < to; i++) {
			uint64_t number = i * stride;

			seen->asked++;
			seen->found += holds(pair, number, 0);
			if (i % 8 == 0) {
				seen->asked_missing++;
				pair.set(s.keys + number);
				seen->missed += !is_there(pair.key_bytes());
			}
			if (i % 64 == 0) {
				seen->asked_replaced++;
				seen->replaced +=
					replace(pair, number, 1) && holds(pair, number, 1) &&
					replace(pair, number, 0) && holds(pair, number, 0);
			}
			if (i % block_size == 0)
				st->pause();
		}
		st->leave();
	}
	bool is_there(bytes key)
	{
		char buf[value_len_max];

		return st->get(key, buf, sizeof(buf)) != absent;
	}
	/* A value differs from the next generation's in its first and last byte. */
	bool holds(pair_maker &pair, uint64_t number, unsigned generation)
	{
		char buf[value_len_max];
		bytes wanted;

		pair.set(number, generation);
		wanted = pair.value_bytes();
		return st->get(pair.key_bytes(), buf, sizeof(buf)) == wanted.len &&
		       memcmp(buf, wanted.data, wanted.len) == 0;
	}
	bool replace(pair_maker &pair, uint64_t number, unsigned generation)
	{
		pair.set(number, generation);
		return st->set(pair.key_bytes(), pair.value_bytes());
	}

	/* ---- run ---- */

	void run_thread(task t, double seconds, bool cpu_clock, gate *g, share *mine)
	{
		std::unique_ptr<client> c;
		double begin, begin_cpu;

		warm(*st, t, mine);
		g->wait();
		c = st->make_client(t);
		begin_cpu = thread_seconds();
		begin = now_seconds();
		do {
			c->step(&mine->counts);
			mine->seconds = now_seconds() - begin;
		} while (mine->seconds < seconds);
		if (cpu_clock)
			mine->seconds = thread_seconds() - begin_cpu;
	}
	void run(std::istringstream &in)
	{
		int work, threads;
		double seconds, rate = 0;
		bool cpu_clock;
		uint64_t seed;

		in >> work >> threads >> seconds >> cpu_clock >> seed;
		gate g((unsigned)threads);
		std::vector<share> all((size_t)threads);
		in_threads((unsigned)threads, cpus, [&](unsigned i) {
			run_thread({ s, (workload)work, seed * 1000003 + i }, seconds, cpu_clock,
				   &g, &all[i]);
		});
		for (const share &one : all)
			rate += (double)one.counts.all() / one.seconds;
		say("mops", rate / 1e6);
		say_counts(all);
	}
	void say_counts(const std::vector<share> &all)
	{
		tally t;

		for (const share &one : all) {
			t.hits += one.counts.hits;
			t.misses += one.counts.misses;
			t.sets += one.counts.sets;
			t.wrong += one.counts.wrong;
		}
		say("hits", (double)t.hits);
		say("misses", (double)t.misses);
		say("sets", (double)t.sets);
		say("wrong", (double)t.wrong);
	}
	void say_quantiles(const histogram &h)
	{
		double rate = ticks_per_ns();

		say("p50_ns", h.quantile(0.5) / rate);
		say("p99_ns", h.quantile(0.99) / rate);
		say("p99.9_ns", h.quantile(0.999) / rate);
		say("p99.99_ns", h.quantile(0.9999) / rate);
		say("max_ns", (double)h.max() / rate);
	}

	/* ---- insert ---- */

	void insert(std::istringstream &in)
	{
		unsigned threads;
		double took = 0;
		histogram h;

		in >> s.keys >> s.key_len >> s.value_len >> threads;
		st = kind->open(0);
		gate g(threads);
		std::vector<share> all(threads);
		in_threads(threads, cpus,
			   [&](unsigned i) { insert_part(i, threads, &g, &all[i]); });
		for (const share &one : all) {
			took = std::max(took, one.seconds);
			h.add(one.ticks);
		}
		say("mops", (double)s.keys / took / 1e6);
		say_quantiles(h);
		say_counts(all);
	}
	void insert_part(unsigned part, unsigned parts, gate *g, share *mine)
	{
		std::unique_ptr<client> c;
		double begin;

		g->wait();
		c = st->make_client({ s, workload::insert, part, part, parts });
		begin = now_seconds();
		while (c->step_timed(&mine->counts, &mine->ticks))
			;
		mine->seconds = now_seconds() - begin;
	}

	/* ---- tail ---- */

	void tail(std::istringstream &in)
	{
		std::atomic<bool> stop{ false };
		std::vector<share> all(2);
		double seconds;
		uint64_t seed;
		gate g(2);

		in >> seconds >> seed;
		in_threads(2, cpus, [&](unsigned i) {
			if (i == 0)
				read_timed(seconds, seed, &g, &all[0]);
			else
				write_until(&stop, seed, &g, &all[1]);
			stop = true;
		});
		say("mops", (double)all[0].counts.hits / all[0].seconds / 1e6);
		say("writer_mops", (double)all[1].counts.sets / all[1].seconds / 1e6);
		say_quantiles(all[0].ticks);
		say_counts(all);
	}
	void read_timed(double seconds, uint64_t seed, gate *g, share *mine)
	{
		task t = { s, workload::get_hit, seed };
		std::unique_ptr<client> c;
		double begin;

		warm(*st, t, mine);
		g->wait();
		c = st->make_client(t);
		begin = now_seconds();
		do {
			c->step_timed(&mine->counts, &mine->ticks);
			mine->seconds = now_seconds() - begin;
		} while (mine->seconds < seconds);
	}
	void write_until(std::atomic<bool> *stop, uint64_t seed, gate *g, share *mine)
	{
		std::unique_ptr<client> c;
		double begin;

		g->wait();
		c = st->make_client({ s, workload::overwrite, seed + 1000 });
		begin = now_seconds();
		while (!*stop)
			c->step(&mine->counts);
		mine->seconds = now_seconds() - begin;
	}

	/* ---- overwrite ---- */

	void overwrite(std::istringstream &in)
	{
		std::atomic<bool> stop{ false };
		unsigned seconds, threads;
		uint64_t seed;

		in >> seconds >> threads >> seed;
		say("resident_mib", (double)resident_bytes() / (1 << 20));
		gate g(threads);
		std::vector<share> all(threads);
		std::thread watcher([&] {
			watch(seconds);
			stop = true;
		});
		in_threads(threads, cpus,
			   [&](unsigned i) { write_until(&stop, seed + i, &g, &all[i]); });
		watcher.join();
		double rate = 0;
		for (const share &one : all)
			rate += (double)one.counts.sets / one.seconds;
		say("mops", rate / 1e6);
		say_counts(all);
	}
	void watch(unsigned seconds)
	{
		double begin = now_seconds();

		for (unsigned i = 1; i <= seconds; i++) {
			while (now_seconds() < begin + i)
				usleep(10000);
			say("resident_mib", (double)resident_bytes() / (1 << 20));
		}
	}

	const contender *kind;
	std::vector<int> cpus;
	std::unique_ptr<store> st;
	shape s = {};
};

/* A server of loads from memory: millions a second, of all threads together. */
class machine_server
{
public:
	bool obey(const std::string &verb, std::istringstream &in)
	{
		if (verb == "load")
			make_areas(in);
		else if (verb == "run")
			run(in);
		else
			return false;
		return true;
	}

private:
	void make_areas(std::istringstream &in)
	{
		double bytes, begin = now_seconds();

		in >> bytes;
		small = std::make_unique<load_area>((uint64_t)bytes, false);
		huge = std::make_unique<load_area>((uint64_t)bytes, true);
		say("seconds", now_seconds() - begin);
		say("resident", (double)resident_bytes());
	}
	void run(std::istringstream &in)
	{
		unsigned threads;
		double seconds;
		int work;

		in >> work >> threads >> seconds;
		seconds /= 4;
		say("dependent_4k", all_of(threads, [&](unsigned i) {
			    return small->dependent(seconds, i, threads);
		    }));
		say("independent_4k",
		    all_of(threads, [&](unsigned i) { return small->independent(seconds, i); }));
		say("dependent_2m", all_of(threads, [&](unsigned i) {
			    return huge->dependent(seconds, i, threads);
		    }));
		say("independent_2m",
		    all_of(threads, [&](unsigned i) { return huge->independent(seconds, i); }));
	}
	template <class F> double all_of(unsigned threads, F loads)
	{
		std::vector<double> rates(threads);
		double sum = 0;

		in_threads(threads, cpus, [&](unsigned i) { rates[i] = loads(i); });
		for (double r : rates)
			sum += r;
		return sum / 1e6;
	}
	std::vector<int> cpus = processors();
	std::unique_ptr<load_area> small;
	std::unique_ptr<load_area> huge;
};

template <class server> [[noreturn]] void answer_all(server &s)
{
	char line[256];

	while (fgets(line, sizeof(line), stdin)) {
		std::istringstream in(line);
		std::string verb;

		in >> verb;
		if (!s.obey(verb, in))
			fail("what is " + verb + "?");
		printf("\n");
		fflush(stdout);
	}
	_exit(0); /* the system is quicker at giving millions of entries back */
}

} // namespace

void serve(const std::string &name)
{
	const contender *c = find_contender(name);

	if (name == machine_name) {
		machine_server s;

		answer_all(s);
	}
	if (!c)
		fail("no contender " + name);
	store_server s(c);
	answer_all(s);
}

} // namespace bench
