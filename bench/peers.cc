/* SPDX-License-Identifier: MIT */
/*
 * peers.cc - this library beside its peers, cell by cell, each cell one interleaved run.
 *
 * A competitor is a contender (adapter.h) in an environment, such as lfht with huge pages under its
 * malloc. Each is a process of its own, so that none inherits the other's heap. They load their keys once
 * and then run measuring windows strictly one at a time, in turns A B C A B C, so that the
 * machine's drift meets all of them alike. While one runs the others sleep.
 *
 *	parent ── pipe ──> peers --serve kvs         one line a command, one line an answer
 *	       ├─ pipe ──> peers --serve machine     loads from memory, at the size of kvs's table
 *	       ├─ pipe ──> peers --serve lfht
 *	       └─ pipe ──> GLIBC_TUNABLES=... peers --serve lfht
 *
 * A cell is a row (what is done), a number of keys, their size, that of values, and a number of threads. Where
 * all competitors do not fit into memory at once they form groups; the first of ours is in every group, and what counts
 * is the ratio to it, round by round. Rows that begin with an empty table take a new process a turn.
 *
 * Before anything is measured each competitor shows that it holds what was put into it (verify), and what every
 * window's operations returned is counted: hits, misses and sets must be what the row implies.
 */
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <time.h>

#include <set>
#include <sstream>

#include "adapter.h"
#include "competitor.h"
#include "keys.h"
#include "machine.h"
#include "peers_serve.h"
#include "process.h"
#include "results_file.h"

using namespace bench;

namespace
{

[[noreturn]] void fail(const std::string &text)
{
	fprintf(stderr, "peers: %s\n", text.c_str());
	exit(1);
}

/* ---- Rows ---- */

enum class kind {
	BYTES,     /* memory for each entry */
	WINDOW,    /* operations a second */
	SCALE,     /* ours only: the same with one thread and with two, in turns */
	TAIL,      /* gets of one thread, one by one, beside a thread that overwrites */
	INSERT,    /* from empty, each timed */
	OVERWRITE, /* resident memory while all threads overwrite */
};

struct row {
	const char *name;
	kind what;
	workload work;
	const char *figure; /* the name of what is compared; less is better if it is a time */
};

/* Rows that write come last: they move entries about. */
const row rows[] = {
	{ "bytes", kind::BYTES, workload::get_hit, "bytes_per_entry" },
	{ "get-hit", kind::WINDOW, workload::get_hit, "mops" },
	{ "get-miss", kind::WINDOW, workload::get_miss, "mops" },
	{ "batch-8", kind::WINDOW, workload::batch_8, "mops" },
	{ "batch-32", kind::WINDOW, workload::batch_32, "mops" },
	{ "batch-128", kind::WINDOW, workload::batch_128, "mops" },
	{ "scale-get", kind::SCALE, workload::get_hit, "scaling" },
	{ "95/5", kind::WINDOW, workload::mixed_5, "mops" },
	{ "zipf", kind::WINDOW, workload::zipf_5, "mops" },
	{ "50/50", kind::WINDOW, workload::mixed_50, "mops" },
	{ "scale-50/50", kind::SCALE, workload::mixed_50, "scaling" },
	{ "tail", kind::TAIL, workload::get_hit, "p99.9_ns" },
	{ "insert", kind::INSERT, workload::insert, "mops" },
	{ "overwrite", kind::OVERWRITE, workload::overwrite, "mops" },
};

struct cell {
	const row *r;
	shape s;
	unsigned threads;

	std::string name() const
	{
		std::ostringstream text;

		text << r->name << " " << s.keys << " keys " << s.key_len << "+" << s.value_len
		     << " B " << threads << "T";
		return text.str();
	}
	bool begins_empty() const
	{
		return r->what == kind::INSERT || r->what == kind::OVERWRITE;
	}
};

/* ---- Options ---- */

struct options {
	std::vector<uint64_t> sizes = { 10000, 1000000, 10000000 };
	std::vector<uint64_t> threads = { 1, 2 };
	std::vector<uint64_t> key_lens = { 12, 32 };
	std::vector<uint64_t> value_lens = { 100, 8 };
	std::set<std::string> rows;         /* empty: all */
	std::set<std::string> competitors;  /* empty: all */
	std::vector<std::string> libraries; /* LABEL=DIR */
	std::vector<std::string> notes;     /* NAME=TEXT */
	std::string commit = "unknown";
	std::string json;
	unsigned rounds = 9;
	unsigned overwrite_seconds = 30;
	double seconds = 0.5;
	double drop_below = 0;
	double max_gib = 20;
	bool cpu_clock = false;
	bool plan_only = false;
};

/* ---- What came of a cell ---- */

using samples = std::vector<double>; /* one a round */

double median(const samples &s)
{
	return quantile(s, 0.5);
}

bool less_is_better(const std::string &figure)
{
	return figure.find("_ns") != std::string::npos || figure == "bytes_per_entry";
}

/* How many times as good ours is, in each round that both took part in. */
samples ratios(const samples &ours, const samples &theirs, bool less)
{
	samples r;

	for (size_t i = 0; i < std::min(ours.size(), theirs.size()); i++)
		r.push_back(less ? theirs[i] / ours[i] : ours[i] / theirs[i]);
	return r;
}

class result
{
public:
	result(const cell &its_cell, const std::vector<competitor> &its_all)
	    : c(its_cell), all(its_all), found(its_all.size())
	{
	}
	/* Counts are checked by then, and not kept. */
	void add(size_t who, const answer &a)
	{
		for (const auto &[name, numbers] : a)
			for (double number : numbers)
				found[who][name].push_back(number);
	}
	const samples &figures(size_t who) const
	{
		static const samples none;
		auto at = found[who].find(c.r->figure);

		return at == found[who].end() ? none : at->second;
	}
	void count(uint64_t ops)
	{
		operations += ops;
	}
	/* Median, least and greatest; of ratios, median and quartiles. */
	void print() const
	{
		printf("\n%s: %s, %llu operations checked\n", c.name().c_str(), c.r->figure,
		       (unsigned long long)operations);
		for (size_t i = 0; i < all.size(); i++)
			if (figures(i).empty())
				print_machine(i);
			else
				print_store(i);
		fflush(stdout);
	}
	std::string json(const options &o, const std::string &beginning) const
	{
		std::ostringstream out;

		out << beginning << ",\"row\":" << json_string(c.r->name)
		    << ",\"keys\":" << c.s.keys << ",\"key_size\":" << c.s.key_len
		    << ",\"value_size\":" << c.s.value_len << ",\"threads\":" << c.threads
		    << ",\"rounds\":" << o.rounds << ",\"seconds\":" << o.seconds << ",\"clock\":\""
		    << (o.cpu_clock ? "cpu" : "wall") << "\""
		    << ",\"figure\":" << json_string(c.r->figure)
		    << ",\"operations\":" << operations << ",\"date\":" << json_string(today())
		    << ",\"machine\":" << json_string(machine_description());
		for (const std::string &n : o.notes)
			out << "," << json_string(n.substr(0, n.find('='))) << ":"
			    << json_string(n.substr(n.find('=') + 1));
		out << ",\"results\":{";
		for (size_t i = 0; i < all.size(); i++)
			append_results(out, i);
		out << "}}";
		return out.str();
	}

private:
	static std::string today()
	{
		time_t now = time(nullptr);
		char text[32];
		struct tm t;

		gmtime_r(&now, &t);
		strftime(text, sizeof(text), "%Y-%m-%d", &t);
		return text;
	}
	void print_store(size_t who) const
	{
		const samples &f = figures(who);
		samples r = ratios(figures(0), f, less_is_better(c.r->figure));

		printf("  %-16s %9.2f  (%.2f .. %.2f)", all[who].name.c_str(), median(f),
		       quantile(f, 0), quantile(f, 1));
		if (who > 0)
			printf("   %s is %.3f (%.3f .. %.3f) times as good", all[0].name.c_str(),
			       median(r), quantile(r, 0.25), quantile(r, 0.75));
		printf("\n");
	}
	void print_machine(size_t who) const
	{
		for (const auto &[name, numbers] : found[who])
			printf("  %-16s %9.2f  (%.2f .. %.2f)   %s\n", all[who].name.c_str(),
			       median(numbers), quantile(numbers, 0), quantile(numbers, 1),
			       name.c_str());
	}
	void append_results(std::ostringstream &out, size_t who) const
	{
		out << (who ? "," : "") << json_string(all[who].name)
		    << ":{\"peer\":" << json_string(all[who].peer);
		for (const auto &[name, numbers] : found[who]) {
			out << "," << json_string(name) << ":[";
			for (size_t i = 0; i < numbers.size(); i++)
				out << (i ? "," : "") << numbers[i];
			out << "]";
		}
		out << "}";
	}
	const cell c;
	const std::vector<competitor> &all;
	std::vector<answer> found; /* of each competitor */
	uint64_t operations = 0;
};

/* ---- Competitors ---- */

/* Ours first, in the order of the libraries; it asks for huge pages itself. */
std::vector<competitor> every_competitor(const options &o)
{
	std::vector<competitor> all;

	for (const contender *c : contenders()) {
		if (c->peer != "kvs")
			continue;
		if (o.libraries.empty())
			all.emplace_back(c->name, c->peer, c->overhead);
		for (const std::string &l : o.libraries)
			all.emplace_back(c->name, c->peer, c->overhead, false,
					 l.substr(0, l.find('=')), l.substr(l.find('=') + 1));
	}
	all.emplace_back(machine_name, machine_name, 0);
	for (const contender *c : contenders())
		if (c->peer != "kvs")
			for (bool huge : { false, true })
				all.emplace_back(c->name, c->peer, c->overhead, huge);
	return all;
}

std::vector<competitor> chosen_competitors(const options &o)
{
	std::set<std::string> unknown = o.competitors;
	std::vector<competitor> all;

	for (const competitor &c : every_competitor(o)) {
		unknown.erase(c.name);
		if (o.competitors.empty() || o.competitors.count(c.name))
			all.push_back(c);
	}
	if (!unknown.empty())
		fail("no competitor is called " + *unknown.begin() + "; see --list");
	return all;
}

bool is_machine(const competitor &c)
{
	return c.peer == machine_name;
}

/* Bytes that it will take, roughly. The two areas of the machine are as large as our table. */
double estimate(const competitor &c, const shape &s)
{
	double entry = s.key_len + s.value_len;

	if (is_machine(c))
		return 2 * (double)s.keys * (entry + 56);
	/* A long std::string is a block of its own. */
	return (double)s.keys * (entry + c.overhead + (s.key_len > 15 ? 16 : 0)) + (4 << 20);
}

/* The first of ours and the machine in each group, the others where there is room. */
std::vector<std::vector<competitor>> make_groups(const options &o, const shape &s)
{
	std::vector<competitor> common, rest;
	std::vector<std::vector<competitor>> groups;
	double room = o.max_gib * (1 << 30), left = 0;

	for (const competitor &c : chosen_competitors(o))
		(common.empty() || is_machine(c) ? common : rest).push_back(c);
	for (const competitor &c : common)
		room -= estimate(c, s);
	for (const competitor &c : rest) {
		if (groups.empty() || estimate(c, s) > left) {
			groups.push_back(common);
			left = room;
		}
		left -= estimate(c, s);
		groups.back().push_back(c);
	}
	if (groups.empty())
		groups.push_back(common);
	return groups;
}

std::string names_of(const std::vector<competitor> &all)
{
	std::string names;

	for (const competitor &c : all)
		names += (names.empty() ? "" : " ") + c.name;
	return names;
}

/* ---- Running ---- */

double number_in(const answer &a, const char *name)
{
	auto at = a.find(name);

	if (at == a.end())
		fail(std::string("an answer without ") + name);
	return at->second[0];
}

/* The share of sets that a row implies. */
double sets_of(workload w)
{
	switch (w) {
	case workload::mixed_5:
	case workload::zipf_5:
		return 0.05;
	case workload::mixed_50:
		return 0.5;
	case workload::overwrite:
	case workload::insert:
		return 1;
	default:
		return 0;
	}
}

/* check_counts - What operations returned is what the row implies; takes the counts out of @a. */
uint64_t check_counts(const cell &c, const competitor &who, answer *a)
{
	double hits = number_in(*a, "hits"), misses = number_in(*a, "misses");
	double sets = number_in(*a, "sets"), wrong = number_in(*a, "wrong");
	double all = hits + misses + sets + wrong, p = sets_of(c.r->work);
	bool ok = wrong == 0 && all >= block_size;

	if (c.r->what == kind::TAIL)
		ok = ok && misses == 0 && hits >= block_size && sets >= block_size;
	else if (c.r->work == workload::insert)
		ok = ok && sets == (double)c.s.keys && all == sets;
	else
		ok = ok && fabs(sets - p * all) <= 6 * sqrt(all * p * (1 - p)) &&
		     misses == (c.r->work == workload::get_miss ? all : 0);
	if (!ok)
		fail(who.name + " gave wrong answers in " + c.name());
	for (const char *name : { "hits", "misses", "sets", "wrong" })
		a->erase(name);
	return (uint64_t)all;
}

std::string run_command(const options &o, const cell &c, unsigned threads, unsigned round)
{
	std::ostringstream command;

	if (c.r->what == kind::TAIL)
		command << "tail " << o.seconds << " " << round + 1;
	else
		command << "run " << (int)c.r->work << " " << threads << " " << o.seconds << " "
			<< o.cpu_clock << " " << round + 1;
	return command.str();
}

/* One turn of one competitor that is loaded. */
answer turn(const options &o, const cell &c, competitor &who, unsigned round, result *res)
{
	answer a;

	if (c.r->what == kind::SCALE) {
		answer one = who.ask(run_command(o, c, 1, round));
		answer two = who.ask(run_command(o, c, 2, round));

		res->count(check_counts(c, who, &one) + check_counts(c, who, &two));
		a["mops_1t"] = one["mops"];
		a["mops_2t"] = two["mops"];
		a["scaling"] = { two["mops"][0] / one["mops"][0] };
		return a;
	}
	a = who.ask(run_command(o, c, c.threads, round));
	if (!is_machine(who))
		res->count(check_counts(c, who, &a));
	return a;
}

bool takes_part(const cell &c, const competitor &who)
{
	if (is_machine(who))
		return c.r->what == kind::WINDOW;
	return c.r->what != kind::SCALE || who.is_ours();
}

/* Far behind the best after a few rounds: it will not be the best. */
bool is_hopeless(const options &o, const result &res, const std::vector<competitor> &all,
		 size_t who, const cell &c)
{
	double best = 0;

	if (less_is_better(c.r->figure) || all[who].is_ours() || is_machine(all[who]) ||
	    res.figures(who).size() < 3)
		return false;
	for (size_t i = 0; i < all.size(); i++)
		if (!all[i].is_ours() && !res.figures(i).empty())
			best = std::max(best, median(res.figures(i)));
	return median(res.figures(who)) < o.drop_below * best;
}

void load_group(const options &o, const shape &s, std::vector<competitor> &all,
		std::vector<answer> *loaded)
{
	double total = 0, table = (double)s.keys * (s.key_len + s.value_len + 56);

	printf("\nloading %llu keys of %u B with %u B:", (unsigned long long)s.keys, s.key_len,
	       s.value_len);
	for (competitor &c : all) {
		std::ostringstream command;
		answer a;

		if (is_machine(c))
			command << "load " << table;
		else
			command << "load " << s.keys << " " << s.key_len << " " << s.value_len;
		c.start();
		a = c.ask(command.str());
		if (c.is_ours())
			table = number_in(a, "grown");
		c.resident = number_in(a, "resident");
		total += c.resident;
		printf(" %s %.1f s %.2f GiB", c.name.c_str(), number_in(a, "seconds"),
		       c.resident / (1 << 30));
		if (!is_machine(c))
			printf(" (%.0f%% on huge pages)", 100 * number_in(a, "huge") / c.resident);
		printf(";");
		fflush(stdout);
		if (total > o.max_gib * (1 << 30))
			fail("more resident than allowed: choose fewer competitors");
		if (!c.runs_its_library())
			fail(c.name + " does not run the library it was given");
		if (!is_machine(c))
			c.ask("verify " + std::to_string(s.keys));
		loaded->push_back(a);
	}
	printf(" %.1f GiB in all, verified\n", total / (1 << 30));
}

result run_loaded(const options &o, const cell &c, std::vector<competitor> &all,
		  const std::vector<answer> &loaded)
{
	result res(c, all);

	if (c.r->what == kind::BYTES) {
		for (size_t i = 0; i < all.size(); i++)
			if (!is_machine(all[i]))
				res.add(i,
					{ { "bytes_per_entry",
					    { number_in(loaded[i], "grown") / (double)c.s.keys } },
					  { "account_per_entry",
					    { number_in(loaded[i], "account") /
					      (double)c.s.keys } } });
		return res;
	}
	for (unsigned round = 0; round < o.rounds; round++)
		for (size_t i = 0; i < all.size(); i++)
			if (takes_part(c, all[i]) && !is_hopeless(o, res, all, i, c))
				res.add(i, turn(o, c, all[i], round, &res));
	for (competitor &who : all)
		if (!is_machine(who))
			who.ask("drain");
	return res;
}

/* Rows that begin with an empty table: a process a turn. */
answer turn_afresh(const options &o, const cell &c, competitor who, unsigned round, result *res)
{
	std::ostringstream load, command;
	answer a;

	load << c.s.keys << " " << c.s.key_len << " " << c.s.value_len;
	who.start();
	if (c.r->what == kind::INSERT) {
		command << "insert " << load.str() << " " << c.threads;
	} else {
		who.ask("load " + load.str());
		who.ask("verify " + std::to_string(c.s.keys));
		command << "overwrite " << o.overwrite_seconds << " " << c.threads << " "
			<< round + 1;
	}
	a = who.ask(command.str());
	res->count(check_counts(c, who, &a));
	if (c.r->what == kind::INSERT)
		who.ask("verify " + std::to_string(std::min<uint64_t>(c.s.keys, 100000)));
	who.stop();
	return a;
}

result run_afresh(const options &o, const cell &c, const std::vector<competitor> &all)
{
	unsigned rounds = c.r->what == kind::INSERT ? o.rounds : 1;
	result res(c, all);

	for (unsigned round = 0; round < rounds; round++)
		for (size_t i = 0; i < all.size(); i++)
			if (!is_hopeless(o, res, all, i, c))
				res.add(i, turn_afresh(o, c, all[i], round, &res));
	return res;
}

/* How the record of that cell begins. */
std::string beginning_of(const options &o, const cell &c, const std::vector<competitor> &all)
{
	return "{\"cell\":" + json_string(c.name()) + ",\"commit\":" + json_string(o.commit) +
	       ",\"competitors\":" + json_string(names_of(all));
}

void keep(const options &o, const cell &c, const std::vector<competitor> &all, const result &res,
	  results_file *file)
{
	res.print();
	file->append(res.json(o, beginning_of(o, c, all)));
}

std::vector<cell> not_done(const options &o, const std::vector<cell> &cells,
			   const std::vector<competitor> &all, const results_file &file)
{
	std::vector<cell> left;

	for (const cell &c : cells)
		if (file.has(beginning_of(o, c, all)))
			printf("%s: done before\n", c.name().c_str());
		else
			left.push_back(c);
	return left;
}

void run_group(const options &o, const std::vector<cell> &cells, std::vector<competitor> all,
	       results_file *file)
{
	std::vector<answer> loaded;

	if (cells.empty())
		return;
	load_group(o, cells[0].s, all, &loaded);
	for (const cell &c : cells)
		keep(o, c, all, run_loaded(o, c, all, loaded), file);
	for (competitor &who : all)
		who.stop();
}

/* ---- What is to be done ---- */

std::vector<unsigned> threads_of(const options &o, const row &r)
{
	std::vector<unsigned> all;

	switch (r.what) {
	case kind::BYTES:
		return { 1 };
	case kind::SCALE:
	case kind::TAIL:
	case kind::OVERWRITE:
		return { 2 };
	default:
		for (uint64_t t : o.threads)
			all.push_back((unsigned)t);
		return all;
	}
}

std::vector<cell> make_cells(const options &o, const shape &s, bool that_begin_empty)
{
	std::vector<cell> cells;

	for (const row &r : rows)
		if (o.rows.empty() || o.rows.count(r.name))
			for (unsigned threads : threads_of(o, r)) {
				cell c = { &r, s, threads };

				if (c.begins_empty() == that_begin_empty)
					cells.push_back(c);
			}
	return cells;
}

std::vector<competitor> stores_of(const options &o)
{
	std::vector<competitor> all;

	for (const competitor &c : chosen_competitors(o))
		if (!is_machine(c))
			all.push_back(c);
	return all;
}

void print_plan(const std::vector<cell> &cells, const std::vector<competitor> &all)
{
	for (const cell &c : cells)
		printf("%-44s %s\n", c.name().c_str(), names_of(all).c_str());
}

void run_shape(const options &o, const shape &s, results_file *file)
{
	std::vector<competitor> stores = stores_of(o);

	for (const std::vector<competitor> &group : make_groups(o, s)) {
		std::vector<cell> cells = not_done(o, make_cells(o, s, false), group, *file);

		if (o.plan_only)
			print_plan(cells, group);
		else
			run_group(o, cells, group, file);
	}
	for (const cell &c : not_done(o, make_cells(o, s, true), stores, *file))
		if (o.plan_only)
			print_plan({ c }, stores);
		else
			keep(o, c, stores, run_afresh(o, c, stores), file);
}

/* ---- The command line ---- */

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

double fraction(const char *option, const char *text, double most)
{
	double x = atof(text);

	if (!(x > 0 && x <= most))
		fail(std::string(option) + ": out of range: " + text);
	return x;
}

const char usage[] =
	"Usage: peers [option]...\n"
	"  --rows NAME,...           of these (all): bytes get-hit get-miss batch-8 batch-32 batch-128\n"
	"                            scale-get 95/5 zipf 50/50 scale-50/50 tail insert overwrite\n"
	"  --sizes N,...             keys in the table (10K,1M,10M)\n"
	"  --keys B,...              their size, 8 to 32 (12,32)\n"
	"  --values B,...            8 to 4096 (100,8)\n"
	"  --threads N,...           1 to 64 (1,2)\n"
	"  --competitors NAME,...    only these (see --list); the first of ours is compared with all\n"
	"  --library LABEL=DIR       instead of kvs kvs@LABEL, with libkvs.so from there; repeatable\n"
	"  --rounds N                turns of each (9)\n"
	"  --window S                seconds a turn (0.5)\n"
	"  --overwrite-seconds S     of that row (30)\n"
	"  --drop-below F            a peer below F times the best one after 3 rounds stops (0: none does)\n"
	"  --max-gib N               resident in all (20)\n"
	"  --clock wall|cpu          cpu: where other work shares the processors (wall)\n"
	"  --json FILE               keep the results there; what is there already is not done again\n"
	"  --commit NAME             what is measured, for the file\n"
	"  --note NAME=TEXT          one more field of every record; repeatable\n"
	"  --plan                    only say what would be done\n"
	"  --list                    the competitors\n";

enum {
	ROWS = 256,
	SIZES,
	KEYS,
	VALUES,
	THREADS,
	COMPETITORS,
	LIBRARY,
	ROUNDS,
	WINDOW_SECONDS,
	OVERWRITE_SECONDS,
	DROP_BELOW,
	MAX_GIB,
	CLOCK,
	JSON,
	COMMIT,
	NOTE,
	PLAN,
	LIST,
	SERVE,
	HELP
};

const struct option long_options[] = {
	{ "rows", 1, nullptr, ROWS },
	{ "sizes", 1, nullptr, SIZES },
	{ "keys", 1, nullptr, KEYS },
	{ "values", 1, nullptr, VALUES },
	{ "threads", 1, nullptr, THREADS },
	{ "competitors", 1, nullptr, COMPETITORS },
	{ "library", 1, nullptr, LIBRARY },
	{ "rounds", 1, nullptr, ROUNDS },
	{ "window", 1, nullptr, WINDOW_SECONDS },
	{ "overwrite-seconds", 1, nullptr, OVERWRITE_SECONDS },
	{ "drop-below", 1, nullptr, DROP_BELOW },
	{ "max-gib", 1, nullptr, MAX_GIB },
	{ "clock", 1, nullptr, CLOCK },
	{ "json", 1, nullptr, JSON },
	{ "commit", 1, nullptr, COMMIT },
	{ "note", 1, nullptr, NOTE },
	{ "plan", 0, nullptr, PLAN },
	{ "list", 0, nullptr, LIST },
	{ "serve", 1, nullptr, SERVE },
	{ "help", 0, nullptr, HELP },
	{ nullptr, 0, nullptr, 0 },
};

void choose_rows(const char *value, options *o)
{
	for (const std::string &name : split(value)) {
		bool known = false;

		for (const row &r : rows)
			known = known || name == r.name;
		if (!known)
			fail("no row is called " + name + "; see --help");
		o->rows.insert(name);
	}
}

std::string with_equals_sign(const char *option, const char *value)
{
	if (!strchr(value, '='))
		fail(std::string(option) + ": no = in " + value);
	return value;
}

void read_option(int option, const char *value, options *o)
{
	switch (option) {
	case ROWS:
		choose_rows(value, o);
		break;
	case SIZES:
		o->sizes = numbers("--sizes", value, 1, keys_max);
		break;
	case KEYS:
		o->key_lens = numbers("--keys", value, key_len_min, key_len_max);
		break;
	case VALUES:
		o->value_lens = numbers("--values", value, value_len_min, value_len_max);
		break;
	case THREADS:
		o->threads = numbers("--threads", value, 1, 64);
		break;
	case COMPETITORS:
		for (const std::string &name : split(value))
			o->competitors.insert(name);
		break;
	case LIBRARY:
		o->libraries.push_back(with_equals_sign("--library", value));
		break;
	case ROUNDS:
		o->rounds = (unsigned)numbers("--rounds", value, 1, 10000)[0];
		break;
	case WINDOW_SECONDS:
		o->seconds = fraction("--window", value, 3600);
		break;
	case OVERWRITE_SECONDS:
		o->overwrite_seconds = (unsigned)numbers("--overwrite-seconds", value, 1, 3600)[0];
		break;
	case DROP_BELOW:
		o->drop_below = fraction("--drop-below", value, 1);
		break;
	case MAX_GIB:
		o->max_gib = fraction("--max-gib", value, 1e6);
		break;
	case CLOCK:
		o->cpu_clock = strcmp(value, "cpu") == 0;
		break;
	case JSON:
		o->json = value;
		break;
	case COMMIT:
		o->commit = value;
		break;
	case NOTE:
		o->notes.push_back(with_equals_sign("--note", value));
		break;
	case PLAN:
		o->plan_only = true;
		break;
	case LIST:
		for (const competitor &c : every_competitor(*o))
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

void run_all(const options &o)
{
	std::vector<competitor> stores = stores_of(o);
	results_file file(o.json);

	if (stores.empty())
		fail("no store among the competitors");
	for (uint64_t size : o.sizes)
		for (uint64_t value_len : o.value_lens)
			for (uint64_t key_len : o.key_lens)
				run_shape(o, { size, (unsigned)key_len, (unsigned)value_len },
					  &file);
}

} // namespace

int main(int argc, char **argv)
{
	options o;
	int option;

	signal(SIGPIPE, SIG_IGN);
	while ((option = getopt_long(argc, argv, "", long_options, nullptr)) != -1)
		read_option(option, optarg, &o);
	if (optind != argc)
		fail(std::string("what is ") + argv[optind] + "?");
	try {
		run_all(o);
	} catch (const std::exception &e) {
		fail(e.what());
	}
	return 0;
}
