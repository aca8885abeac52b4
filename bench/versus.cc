/* SPDX-License-Identifier: MIT */
/*
 * versus.cc - kvs-versus: this library beside its peers, in one interleaved run.
 *
 * A competitor is a contender (adapter.h) in an environment, such as lfht with huge pages under its
 * malloc. Each is a process of its own, so that none inherits the other's heap. All load their keys
 * once; then, row by row, they run measuring windows strictly one at a time, in turns A B C A B C,
 * so that the machine's drift meets all of them alike. While one runs the others sleep.
 *
 *	parent ── pipe ──> kvs-versus --serve kvs         one line a command, one line an answer
 *	       ├─ pipe ──> kvs-versus --serve lfht
 *	       └─ pipe ──> GLIBC_TUNABLES=... kvs-versus --serve lfht
 *
 * A row is a workload, a key size, a value size and a number of threads. Shown are the median, the
 * least and the greatest rate of each competitor, and the median over the rounds of (kvs / competitor
 * of the same round). "best PEER" is that ratio against the variant with the greatest median.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "adapter.h"
#include "keys.h"
#include "process.h"

using namespace bench;

namespace
{

constexpr double resident_max_gib = 20;

const struct {
	const char *name;
	workload work;
} workloads[] = {
	{ "get-hit", workload::get_hit },   { "get-miss", workload::get_miss },
	{ "95/5", workload::mixed_5 },      { "50/50", workload::mixed_50 },
	{ "batch-32", workload::batch_32 },
};

[[noreturn]] void fail(const std::string &text)
{
	fprintf(stderr, "kvs-versus: %s\n", text.c_str());
	exit(1);
}

/* ---- The child: serves one store ---- */

struct window {
	store *st;
	shape s;
	workload work;
	unsigned threads;
	double seconds;
	bool cpu_clock;
	uint64_t seed;
	pthread_barrier_t gate;
	std::atomic<uint64_t> wrong{ 0 };
};

/* Seconds that this thread had a processor. */
double thread_seconds()
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One thread of a window; returns its operations a second. */
double run_thread(window *w, unsigned number, int processor)
{
	constexpr int warm_steps = 8;
	std::unique_ptr<client> c;
	unsigned wrong = 0;
	uint64_t steps = 0;
	double begin_cpu;
	double begin;
	double took;

	pin(processor);
	c = w->st->make_client(w->s, w->work, w->seed * 1000003 + number);
	for (int i = 0; i < warm_steps; i++)
		wrong += c->step();
	c.reset(); /* it waits at the gate, and others' readers must not wait for it */
	pthread_barrier_wait(&w->gate);
	c = w->st->make_client(w->s, w->work, w->seed * 1000003 + number + 500000);
	begin_cpu = thread_seconds();
	begin = now_seconds();
	do {
		wrong += c->step();
		steps++;
		took = now_seconds() - begin;
	} while (took < w->seconds);
	if (w->cpu_clock)
		took = thread_seconds() - begin_cpu;
	w->wrong += wrong;
	return (double)(steps * block_size) / took;
}

double run_window(window *w, const std::vector<int> &cpus)
{
	std::vector<double> rates(w->threads);
	std::vector<std::thread> threads;
	double sum = 0;

	pthread_barrier_init(&w->gate, nullptr, w->threads);
	for (unsigned i = 0; i < w->threads; i++)
		threads.emplace_back(
			[&, i] { rates[i] = run_thread(w, i, cpus[i % cpus.size()]); });
	for (std::thread &t : threads)
		t.join();
	pthread_barrier_destroy(&w->gate);
	for (double r : rates)
		sum += r;
	return sum;
}

class server
{
public:
	explicit server(const contender *its_kind) : kind(its_kind), cpus(processors())
	{
	}
	void serve()
	{
		char line[256];

		while (fgets(line, sizeof(line), stdin)) {
			std::istringstream in(line);
			std::string verb;

			in >> verb;
			if (verb == "load")
				load_keys(in);
			else if (verb == "run")
				run(in);
			else if (verb == "drain")
				drain();
			fflush(stdout);
		}
		_exit(0); /* the system is quicker at giving millions of entries back */
	}

private:
	void load_keys(std::istringstream &in)
	{
		bool shuffled;
		double begin = now_seconds();

		in >> s.keys >> s.key_len >> s.value_len >> shuffled;
		st = kind->open(s.keys);
		if (!load(*st, s, shuffled))
			fail(kind->name + ": out of memory while loading");
		st->drain();
		printf("%.9g %.9g\n", now_seconds() - begin, (double)resident_bytes());
	}
	void run(std::istringstream &in)
	{
		window w;
		int work;
		double rate;

		w.st = st.get();
		w.s = s;
		in >> work >> w.threads >> w.seconds >> w.cpu_clock >> w.seed;
		w.work = (workload)work;
		rate = run_window(&w, cpus);
		printf("%.9g %.9g\n", rate, (double)w.wrong.load());
	}
	void drain()
	{
		st->drain();
		printf("%.9g 0\n", (double)resident_bytes());
	}
	const contender *kind;
	std::vector<int> cpus;
	std::unique_ptr<store> st;
	shape s = {};
};

/* ---- The parent ---- */

struct answer {
	double first;
	double second;
};

class competitor
{
public:
	competitor(const contender *its_kind, bool with_huge)
	    : name(its_kind->name + (with_huge ? "+huge" : "")), peer(its_kind->peer),
	      kind(its_kind), huge(with_huge)
	{
	}
	/* Another build of ours, with its libkvs.so in that directory. */
	competitor(const contender *its_kind, const std::string &label, const std::string &dir)
	    : name(its_kind->name + "@" + label), peer(its_kind->peer), kind(its_kind), huge(false),
	      library(dir)
	{
	}
	void start()
	{
		int down[2];
		int up[2];

		if (pipe(down) != 0 || pipe(up) != 0)
			fail("no pipe");
		fflush(nullptr);
		pid = fork();
		if (pid < 0)
			fail("no process");
		if (pid == 0)
			become_server(down, up);
		close(down[0]);
		close(up[1]);
		to = fdopen(down[1], "w");
		from = fdopen(up[0], "r");
		close_on_exec();
	}
	answer ask(const std::string &command)
	{
		char line[256];
		answer a;

		fprintf(to, "%s\n", command.c_str());
		fflush(to);
		if (!fgets(line, sizeof(line), from) ||
		    sscanf(line, "%lf %lf", &a.first, &a.second) != 2)
			fail(name + " gave no answer to: " + command);
		return a;
	}
	void stop()
	{
		fclose(to);
		fclose(from);
		waitpid(pid, nullptr, 0);
	}

	const std::string name;
	const std::string peer;
	double resident = 0; /* bytes */

private:
	[[noreturn]] void become_server(const int *down, const int *up)
	{
		dup2(down[0], 0);
		dup2(up[1], 1);
		close(down[0]);
		close(down[1]);
		close(up[0]);
		close(up[1]);
		if (huge)
			setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 1);
		if (!library.empty())
			setenv("LD_LIBRARY_PATH", library.c_str(), 1);
		execl("/proc/self/exe", "kvs-versus", "--serve", kind->name.c_str(),
		      (char *)nullptr);
		_exit(127);
	}
	/* Else a later child holds our ends open, and this one never sees the end of its commands. */
	void close_on_exec()
	{
		fcntl(fileno(to), F_SETFD, FD_CLOEXEC);
		fcntl(fileno(from), F_SETFD, FD_CLOEXEC);
	}
	const contender *kind;
	bool huge;
	std::string library;
	pid_t pid = -1;
	FILE *to = nullptr;
	FILE *from = nullptr;
};

struct options {
	uint64_t keys = 10000000;
	std::vector<uint64_t> threads = { 1, 2 };
	std::vector<uint64_t> key_lens = { 12, 32 };
	std::vector<uint64_t> value_lens = { 100, 8 };
	std::set<std::string> competitors;  /* empty: all */
	std::vector<std::string> libraries; /* LABEL=DIR */
	std::string rows;                   /* empty: all */
	std::string json;
	unsigned rounds = 9;
	double seconds = 0.5;
	bool shuffled = true;
	bool cpu_clock = false;
};

struct row {
	workload work;
	std::string name;
	shape s;
	unsigned threads;
};

using samples = std::vector<double>; /* operations a second, one a round */

double ratio(const samples &ours, const samples &theirs)
{
	samples r;

	for (size_t i = 0; i < ours.size(); i++)
		r.push_back(ours[i] / theirs[i]);
	return quantile(r, 0.5);
}

/* The rates of one row. The first competitor is the one that all are compared with. */
class result
{
public:
	result(const row &its_row, const std::vector<competitor> &its_all)
	    : r(its_row), all(its_all), rates(its_all.size())
	{
	}
	void add(size_t who, double rate)
	{
		rates[who].push_back(rate);
	}
	void print() const
	{
		printf("\n%s\n", r.name.c_str());
		for (size_t i = 0; i < all.size(); i++)
			printf("  %-16s %8.2f Mops/s  (%.2f .. %.2f)   %s / it = %.2f\n",
			       all[i].name.c_str(), quantile(rates[i], 0.5) / 1e6,
			       quantile(rates[i], 0) / 1e6, quantile(rates[i], 1) / 1e6,
			       all[0].name.c_str(), ratio(rates[0], rates[i]));
		for (const auto &[peer, best] : best_of_peers())
			printf("  best %-11s is %s: %s / it = %.2f\n", peer.c_str(),
			       all[best].name.c_str(), all[0].name.c_str(),
			       ratio(rates[0], rates[best]));
		fflush(stdout);
	}
	void append(FILE *f, const options &o) const
	{
		const char *comma = "";

		fprintf(f,
			"{\"row\":\"%s\",\"keys\":%llu,\"key_size\":%u,\"value_size\":%u,"
			"\"threads\":%u,\"rounds\":%u,\"seconds\":%g,\"clock\":\"%s\","
			"\"order\":\"%s\",\"mops\":{",
			r.name.c_str(), (unsigned long long)r.s.keys, r.s.key_len, r.s.value_len,
			r.threads, o.rounds, o.seconds, o.cpu_clock ? "cpu" : "wall",
			o.shuffled ? "shuffled" : "sequential");
		for (size_t i = 0; i < all.size(); i++, comma = ",")
			append_rates(f, comma, i);
		fprintf(f, "},\"resident\":{");
		comma = "";
		for (size_t i = 0; i < all.size(); i++, comma = ",")
			fprintf(f, "%s\"%s\":%.0f", comma, all[i].name.c_str(), all[i].resident);
		fprintf(f, "},\"ratio\":{");
		comma = "";
		for (size_t i = 1; i < all.size(); i++, comma = ",")
			fprintf(f, "%s\"%s\":%.4f", comma, all[i].name.c_str(),
				ratio(rates[0], rates[i]));
		for (const auto &[peer, best] : best_of_peers())
			fprintf(f, ",\"best %s\":%.4f", peer.c_str(), ratio(rates[0], rates[best]));
		fprintf(f, "}}\n");
		fflush(f);
	}

private:
	void append_rates(FILE *f, const char *comma, size_t who) const
	{
		fprintf(f, "%s\"%s\":[", comma, all[who].name.c_str());
		for (size_t i = 0; i < rates[who].size(); i++)
			fprintf(f, "%s%.4f", i ? "," : "", rates[who][i] / 1e6);
		fprintf(f, "]");
	}
	/* For every other product, the variant with the greatest median. */
	std::map<std::string, size_t> best_of_peers() const
	{
		std::map<std::string, size_t> best;

		for (size_t i = 1; i < all.size(); i++) {
			if (all[i].peer == all[0].peer)
				continue;
			auto [at, is_new] = best.emplace(all[i].peer, i);
			if (!is_new && quantile(rates[i], 0.5) > quantile(rates[at->second], 0.5))
				at->second = i;
		}
		return best;
	}
	const row r;
	const std::vector<competitor> &all;
	std::vector<samples> rates;
};

/* Ours first, in the order of the libraries; it asks for huge pages itself. */
std::vector<competitor> every_competitor(const options &o)
{
	std::vector<competitor> all;

	for (const contender *c : contenders()) {
		if (c->peer != "kvs")
			continue;
		if (o.libraries.empty())
			all.emplace_back(c, false);
		for (const std::string &l : o.libraries)
			all.emplace_back(c, l.substr(0, l.find('=')), l.substr(l.find('=') + 1));
	}
	for (const contender *c : contenders())
		if (c->peer != "kvs")
			for (bool huge : { false, true })
				all.emplace_back(c, huge);
	return all;
}

std::vector<competitor> make_competitors(const options &o)
{
	std::vector<competitor> all;

	for (const competitor &c : every_competitor(o))
		if (o.competitors.empty() || o.competitors.count(c.name))
			all.push_back(c);
	if (all.empty())
		fail("no such competitor");
	return all;
}

std::vector<row> make_rows(const options &o, unsigned key_len, unsigned value_len)
{
	std::vector<row> rows;

	/* Sets come last: they move entries about. */
	for (const auto &w : workloads)
		for (uint64_t threads : o.threads) {
			std::ostringstream name;

			name << w.name << " " << o.keys << " keys, " << key_len << "+" << value_len
			     << " B, " << threads << "T";
			if (name.str().find(o.rows) != std::string::npos)
				rows.push_back({ w.work,
						 name.str(),
						 { o.keys, key_len, value_len },
						 (unsigned)threads });
		}
	return rows;
}

void load_all(const options &o, const shape &s, std::vector<competitor> &all)
{
	std::ostringstream command;
	double total = 0;

	command << "load " << s.keys << " " << s.key_len << " " << s.value_len << " " << o.shuffled;
	printf("\nloading %llu keys of %u B with %u B, %s:", (unsigned long long)s.keys, s.key_len,
	       s.value_len, o.shuffled ? "shuffled" : "in sequence");
	for (competitor &c : all) {
		answer a;

		c.start();
		a = c.ask(command.str());
		c.resident = a.second;
		total += a.second;
		printf(" %s %.1f s %.2f GiB;", c.name.c_str(), a.first, a.second / (1 << 30));
		fflush(stdout);
		if (total > resident_max_gib * (1 << 30))
			fail("more than 20 GiB resident: choose fewer competitors or keys");
	}
	printf("\n");
}

result run_row(const options &o, const row &r, std::vector<competitor> &all)
{
	result res(r, all);

	for (unsigned round = 0; round < o.rounds; round++)
		for (size_t i = 0; i < all.size(); i++) {
			std::ostringstream command;
			answer a;

			command << "run " << (int)r.work << " " << r.threads << " " << o.seconds
				<< " " << o.cpu_clock << " " << round + 1;
			a = all[i].ask(command.str());
			if (a.second != 0)
				fail(all[i].name + " gave wrong answers in " + r.name);
			res.add(i, a.first);
		}
	return res;
}

void run_group(const options &o, const std::vector<row> &rows, FILE *json)
{
	std::vector<competitor> all = make_competitors(o);

	load_all(o, rows[0].s, all);
	for (const row &r : rows) {
		result res = run_row(o, r, all);

		for (competitor &c : all)
			c.ask("drain");
		res.print();
		if (json)
			res.append(json, o);
	}
	for (competitor &c : all)
		c.stop();
}

std::vector<std::string> split(const char *list)
{
	std::vector<std::string> parts;
	std::istringstream in(list);
	std::string part;

	while (std::getline(in, part, ','))
		parts.push_back(part);
	return parts;
}

std::vector<uint64_t> numbers(const char *option, const char *list, uint64_t least, uint64_t most)
{
	std::vector<uint64_t> all;

	for (const std::string &part : split(list)) {
		all.push_back(number_of(option, part.c_str()));
		if (all.back() < least || all.back() > most)
			fail(std::string(option) + ": out of range: " + part);
	}
	if (all.empty())
		fail(std::string(option) + ": nothing given");
	return all;
}

const char usage[] =
	"Usage: kvs-versus [option]...\n"
	"  --keys N                  keys in the table (10M)\n"
	"  --key-sizes B,...         8 to 32 (12,32)\n"
	"  --value-sizes B,...       8 to 4096 (100,8)\n"
	"  --threads N,...           1 to 64 (1,2)\n"
	"  --rows TEXT               only rows with this in their names, such as \"get-hit\"\n"
	"  --competitors NAME,...    only these (see --list); the first of ours is compared with all\n"
	"  --library LABEL=DIR       instead of kvs kvs@LABEL, with libkvs.so from there; repeatable\n"
	"  --rounds N                windows of each (9)\n"
	"  --seconds-per-window S    (0.5)\n"
	"  --order shuffled|sequential  of loading (shuffled)\n"
	"  --clock wall|cpu          cpu: where other work shares the processors (wall)\n"
	"  --json FILE               append a line a row\n"
	"  --list                    the competitors\n";

enum {
	KEYS = 256,
	KEY_SIZES,
	VALUE_SIZES,
	THREADS,
	ROWS,
	COMPETITORS,
	LIBRARY,
	ROUNDS,
	SECONDS,
	ORDER,
	CLOCK,
	JSON,
	LIST,
	SERVE,
	HELP
};

const struct option long_options[] = {
	{ "keys", 1, nullptr, KEYS },
	{ "key-sizes", 1, nullptr, KEY_SIZES },
	{ "value-sizes", 1, nullptr, VALUE_SIZES },
	{ "threads", 1, nullptr, THREADS },
	{ "rows", 1, nullptr, ROWS },
	{ "competitors", 1, nullptr, COMPETITORS },
	{ "library", 1, nullptr, LIBRARY },
	{ "rounds", 1, nullptr, ROUNDS },
	{ "seconds-per-window", 1, nullptr, SECONDS },
	{ "order", 1, nullptr, ORDER },
	{ "clock", 1, nullptr, CLOCK },
	{ "json", 1, nullptr, JSON },
	{ "list", 0, nullptr, LIST },
	{ "serve", 1, nullptr, SERVE },
	{ "help", 0, nullptr, HELP },
	{ nullptr, 0, nullptr, 0 },
};

[[noreturn]] void serve(const char *name)
{
	const contender *c = find_contender(name);

	if (!c)
		fail(std::string("no contender ") + name);
	server(c).serve();
	exit(0);
}

void read_option(int option, const char *value, options *o)
{
	switch (option) {
	case KEYS:
		o->keys = numbers("--keys", value, 1, keys_max)[0];
		break;
	case KEY_SIZES:
		o->key_lens = numbers("--key-sizes", value, key_len_min, key_len_max);
		break;
	case VALUE_SIZES:
		o->value_lens = numbers("--value-sizes", value, value_len_min, value_len_max);
		break;
	case THREADS:
		o->threads = numbers("--threads", value, 1, 64);
		break;
	case ROWS:
		o->rows = value;
		break;
	case COMPETITORS:
		for (const std::string &name : split(value))
			o->competitors.insert(name);
		break;
	case LIBRARY:
		if (!strchr(value, '='))
			fail("--library: not LABEL=DIR");
		o->libraries.push_back(value);
		break;
	case ROUNDS:
		o->rounds = (unsigned)numbers("--rounds", value, 1, 10000)[0];
		break;
	case SECONDS:
		o->seconds = atof(value);
		if (!(o->seconds > 0 && o->seconds < 3600))
			fail("--seconds-per-window: out of range");
		break;
	case ORDER:
		o->shuffled = strcmp(value, "sequential") != 0;
		break;
	case CLOCK:
		o->cpu_clock = strcmp(value, "cpu") == 0;
		break;
	case JSON:
		o->json = value;
		break;
	case LIST:
		for (const competitor &c : make_competitors({}))
			printf("%s\n", c.name.c_str());
		exit(0);
	case SERVE:
		serve(value);
	case HELP:
		fputs(usage, stdout);
		exit(0);
	default:
		fputs(usage, stderr);
		exit(2);
	}
}

} // namespace

int main(int argc, char **argv)
{
	FILE *json = nullptr;
	options o;
	int option;

	signal(SIGPIPE, SIG_IGN);
	while ((option = getopt_long(argc, argv, "", long_options, nullptr)) != -1)
		read_option(option, optarg, &o);
	if (!o.json.empty() && !(json = fopen(o.json.c_str(), "a")))
		fail(o.json + ": " + strerror(errno));
	for (uint64_t value_len : o.value_lens)
		for (uint64_t key_len : o.key_lens) {
			std::vector<row> rows =
				make_rows(o, (unsigned)key_len, (unsigned)value_len);

			if (!rows.empty())
				run_group(o, rows, json);
		}
	if (json && fclose(json) != 0)
		fail(o.json + ": " + strerror(errno));
	return 0;
}
