/* SPDX-License-Identifier: MIT */
/* peers_options.h - what there is to do, and what of it is asked for. */
#ifndef BENCH_PEERS_OPTIONS_H
#define BENCH_PEERS_OPTIONS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "adapter.h"
#include "competitor.h"

namespace bench
{

[[noreturn]] inline void fail(const std::string &text)
{
	fprintf(stderr, "peers: %s\n", text.c_str());
	exit(1);
}

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
inline const row rows[] = {
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

/* read_options - From the command line; the program ends if there is something wrong, or nothing left to do. */
options read_options(int argc, char **argv);

/* Ours first, in the order of the libraries; it asks for huge pages itself. */
std::vector<competitor> every_competitor(const options &o);

} // namespace bench

#endif // BENCH_PEERS_OPTIONS_H
