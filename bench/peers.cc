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
#include <math.h>
#include <signal.h>

#include "adapter.h"
#include "competitor.h"
#include "keys.h"
#include "peers_options.h"
#include "peers_result.h"
#include "peers_serve.h"
#include "process.h"
#include "results_file.h"

using namespace bench;

namespace
{

/* ---- Competitors ---- */

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
	return (double)s.keys * (entry + c.overhead + (s.key_len > 15 ? 32 : 0)) + (4 << 20);
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
	signal(SIGPIPE, SIG_IGN);
	try {
		run_all(read_options(argc, argv));
	} catch (const std::exception &e) {
		fail(e.what());
	}
	return 0;
}
