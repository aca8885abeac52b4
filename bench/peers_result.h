/* SPDX-License-Identifier: MIT */
/* peers_result.h - what came of a cell: for people, and as a record of JSON. */
#ifndef BENCH_PEERS_RESULT_H
#define BENCH_PEERS_RESULT_H

#include <stdio.h>
#include <time.h>

#include <sstream>
#include <string>
#include <vector>

#include "competitor.h"
#include "machine.h"
#include "peers_options.h"
#include "process.h"
#include "results_file.h"

namespace bench
{

using samples = std::vector<double>; /* one a round */

inline double median(const samples &s)
{
	return quantile(s, 0.5);
}

inline bool less_is_better(const std::string &figure)
{
	return figure.find("_ns") != std::string::npos || figure == "bytes_per_entry";
}

/* How many times as good ours is, in each round that both took part in. */
inline samples ratios(const samples &ours, const samples &theirs, bool less)
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

} // namespace bench

#endif // BENCH_PEERS_RESULT_H
