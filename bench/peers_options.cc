/* SPDX-License-Identifier: MIT */
/* peers_options.cc - the command line of the comparison. See peers_options.h. */
#include "peers_options.h"

#include <getopt.h>
#include <string.h>

#include "keys.h"
#include "peers_serve.h"
#include "process.h"

namespace bench
{

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

namespace
{

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

} // namespace

options read_options(int argc, char **argv)
{
	options o;
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, nullptr)) != -1)
		read_option(option, optarg, &o);
	if (optind != argc)
		fail(std::string("what is ") + argv[optind] + "?");
	return o;
}

} // namespace bench
