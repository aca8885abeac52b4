/* SPDX-License-Identifier: MIT */
/* bench_options.c - the command line, from one table. */
#include "posix.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "bench.h"

enum option_type { NUMBER, REAL, WORD, TEXT, FLAG };

enum option_id {
	OPT_INPUT,
	OPT_KEYS,
	OPT_KEY_SIZE,
	OPT_VALUE_SIZE,
	OPT_THREADS,
	OPT_SECONDS,
	OPT_OPS,
	OPT_MIX,
	OPT_DIST,
	OPT_MISS,
	OPT_RATE,
	OPT_SEED,
	OPT_SAMPLE,
	OPT_JSON,
	OPT_SHARDS,
	OPT_HASH,
	OPT_SNAPSHOT_EVERY,
	OPT_SNAPSHOT_FILE,
	OPT_PLANT_ERROR,
	OPT_HELP,
	OPT_VERSION,
	OPTIONS
};

struct option_spec {
	const char *name, *arg, *help;
	enum option_type type;
	size_t offset; /* in struct config */
	uint64_t min, max;
	const char *const *words;
};

static const char *const mix_words[] = { "A", "B", "C", "D", "F", NULL };
static const char *const dist_words[] = { "uniform", "zipf", "latest", NULL };
static const char *const hash_words[] = { "siphash", "xxh3", "fnv1a", NULL };

static const struct mix mixes[] = {
	{ 'A', 50, 0, 0, "50 % reads, 50 % updates" },
	{ 'B', 5, 0, 0, "95 % reads, 5 % updates" },
	{ 'C', 0, 0, 0, "reads only" },
	{ 'D', 0, 5, 0, "95 % reads, 5 % inserts" },
	{ 'F', 0, 0, 50, "50 % reads, 50 % read-modify-writes" },
};

const struct mix *mix_get(int i)
{
	return &mixes[i];
}

#define AT(field) offsetof(struct config, field)

/* clang-format off */
static const struct option_spec specs[OPTIONS] = {
	[OPT_INPUT] = { "input", "FILE", "load FILE, a line \"key TAB value\" each (-: stdin)",
		TEXT, AT(input), 0, 0, NULL },
	[OPT_KEYS] = { "keys", "N", "without --input: load N synthetic keys (1M)",
		NUMBER, AT(keys), 1, UINT64_C(1) << 40, NULL },
	[OPT_KEY_SIZE] = { "key-size", "B", "bytes of a synthetic key (16)",
		NUMBER, AT(key_size), 1, KVS_KEY_MAX, NULL },
	[OPT_VALUE_SIZE] = { "value-size", "B", "bytes of a synthetic value (100)",
		NUMBER, AT(value_size), 0, KVS_VALUE_MAX, NULL },
	[OPT_THREADS] = { "threads", "N", "threads that load and run (as many as CPUs)",
		NUMBER, AT(threads), 1, 1024, NULL },
	[OPT_SECONDS] = { "seconds", "S", "run for S seconds (10)",
		REAL, AT(seconds), 0, 1000000, NULL },
	[OPT_OPS] = { "ops", "N", "run N operations instead of a time",
		NUMBER, AT(ops), 1, UINT64_C(1) << 60, NULL },
	[OPT_MIX] = { "mix", "A|B|C|D|F", "operations, as in YCSB (B); see below",
		WORD, AT(mix), 0, 0, mix_words },
	[OPT_DIST] = { "dist", "uniform|zipf|latest", "which keys (zipf; latest for mix D)",
		WORD, AT(dist), 0, 0, dist_words },
	[OPT_MISS] = { "miss", "PERCENT", "of the reads: ask for keys that are absent (0)",
		REAL, AT(miss), 0, 100, NULL },
	[OPT_RATE] = { "rate", "OPS", "start OPS operations a second by the clock; see below",
		NUMBER, AT(rate), 1, 1000000000, NULL },
	[OPT_SEED] = { "seed", "N", "of all random choices (1)",
		NUMBER, AT(seed), 0, UINT64_MAX, NULL },
	[OPT_SAMPLE] = { "sample", "K", "time one operation in K, on its own (64)",
		NUMBER, AT(sample), 1, 1000000000, NULL },
	[OPT_JSON] = { "json", "FILE", "also write the report as JSON (-: only that, on stdout)",
		TEXT, AT(json), 0, 0, NULL },
	[OPT_SHARDS] = { "shards", "N", "shards of the store (the library's default)",
		NUMBER, AT(shards), 1, INT32_MAX, NULL },
	[OPT_HASH] = { "hash", "siphash|xxh3|fnv1a", "hash of the store (siphash)",
		WORD, AT(hash), 0, 0, hash_words },
	[OPT_SNAPSHOT_EVERY] = { "snapshot-every", "S", "during the run: save the store every S seconds",
		REAL, AT(snapshot_every), 0, 1000000, NULL },
	[OPT_SNAPSHOT_FILE] = { "snapshot-file", "FILE", "to FILE, with fsync",
		TEXT, AT(snapshot_file), 0, 0, NULL },
	[OPT_PLANT_ERROR] = { "plant-error", NULL, "load wrong values, to see the check find them",
		FLAG, AT(plant_error), 0, 0, NULL },
	[OPT_HELP] = { "help", NULL, "print this",
		FLAG, AT(help), 0, 0, NULL },
	[OPT_VERSION] = { "version", NULL, "print the version",
		FLAG, AT(version), 0, 0, NULL },
};
/* clang-format on */

static const char usage[] =
	"Usage: " PROGRAM " [OPTION]...\n"
	"Load keys and values into a store, run a read-heavy workload on it, print a report.\n\n";

static const char notes[] =
	"\nNumbers may end in k, M or G (thousands, millions, billions).\n"
	"\nFILE has one entry a line. Inside keys and values, tab, line feed, carriage\n"
	"return and backslash are written \\t \\n \\r \\\\, and any byte may be written \\xHH.\n"
	"\nWith --rate a latency starts when the operation was due, not when the program\n"
	"got to it, so it includes the wait behind slower operations.\n";

static const char status[] =
	"\nExit status: 0 all went well, 1 a run failed or a value was wrong, 2 bad options or\n"
	"bad input.\n";

void options_help(void)
{
	int i;

	fputs(usage, stdout);
	for (i = 0; i < OPTIONS; i++)
		printf("  --%-14s %-20s %s\n", specs[i].name, specs[i].arg ? specs[i].arg : "",
		       specs[i].help);
	fputs(notes, stdout);
	printf("\nThe bytes of one value in %d that are read are checked against the key.\n",
	       CHECK_EVERY);
	printf("\nMixes:\n");
	for (i = 0; i < (int)(sizeof(mixes) / sizeof(mixes[0])); i++)
		printf("  %c  %s\n", mixes[i].letter, mixes[i].text);
	fputs(status, stdout);
}

/* ---- Values ---------------------------------------------------------------------------- */

static uint64_t suffix_factor(char c)
{
	switch (c) {
	case 'k':
		return 1000;
	case 'M':
		return 1000000;
	case 'G':
		return 1000000000;
	default:
		return 0;
	}
}

static bool parse_number(const struct option_spec *spec, const char *text, uint64_t *ret)
{
	uint64_t value, factor = 1;
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end)
		factor = suffix_factor(*end++);
	if (factor == 0 || *end || value > UINT64_MAX / factor)
		return false;
	value *= factor;
	if (value < spec->min || value > spec->max)
		return false;
	*ret = value;
	return true;
}

static bool parse_real(const struct option_spec *spec, const char *text, double *ret)
{
	char *end;
	double value;

	if (!isdigit((unsigned char)*text) && *text != '.')
		return false;
	value = strtod(text, &end);
	if (end == text || *end || !(value >= (double)spec->min && value <= (double)spec->max))
		return false;
	*ret = value;
	return true;
}

static bool parse_word(const struct option_spec *spec, const char *text, int *ret)
{
	int i;

	for (i = 0; spec->words[i]; i++)
		if (strcasecmp(spec->words[i], text) == 0) {
			*ret = i;
			return true;
		}
	return false;
}

static bool apply(const struct option_spec *spec, const char *text, struct config *c)
{
	void *field = (char *)c + spec->offset;

	switch (spec->type) {
	case NUMBER:
		return parse_number(spec, text, field);
	case REAL:
		return parse_real(spec, text, field);
	case WORD:
		return parse_word(spec, text, field);
	case TEXT:
		*(const char **)field = text;
		return *text != '\0';
	case FLAG:
		*(bool *)field = true;
		return true;
	}
	return false;
}

static void complain(const struct option_spec *spec, const char *text)
{
	switch (spec->type) {
	case NUMBER:
		bench_error("--%s %s: must be a whole number from %" PRIu64 " to %" PRIu64,
			    spec->name, text, spec->min, spec->max);
		break;
	case REAL:
		bench_error("--%s %s: must be a number from %" PRIu64 " to %" PRIu64, spec->name,
			    text, spec->min, spec->max);
		break;
	case WORD:
		bench_error("--%s %s: must be one of %s", spec->name, text, spec->arg);
		break;
	default:
		bench_error("--%s: must not be empty", spec->name);
	}
}

/* ---- The whole line -------------------------------------------------------------------- */

static bool given(uint32_t seen, enum option_id id)
{
	return (seen >> id) & 1;
}

static bool conflict(uint32_t seen, enum option_id a, enum option_id b)
{
	if (!given(seen, a) || !given(seen, b))
		return false;
	bench_error("--%s and --%s exclude each other", specs[a].name, specs[b].name);
	return true;
}

static bool check_together(uint32_t seen, const struct config *c)
{
	if (conflict(seen, OPT_INPUT, OPT_KEYS) || conflict(seen, OPT_INPUT, OPT_KEY_SIZE) ||
	    conflict(seen, OPT_INPUT, OPT_VALUE_SIZE) || conflict(seen, OPT_SECONDS, OPT_OPS))
		return false;
	if (given(seen, OPT_SNAPSHOT_EVERY) != given(seen, OPT_SNAPSHOT_FILE)) {
		bench_error("--snapshot-every and --snapshot-file go together");
		return false;
	}
	if (given(seen, OPT_SNAPSHOT_EVERY) && c->snapshot_every <= 0.0) {
		bench_error("--snapshot-every: must be more than 0");
		return false;
	}
	if (c->seconds <= 0.0) {
		bench_error("--seconds: must be more than 0");
		return false;
	}
	return true;
}

static void set_defaults(struct config *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	memset(c, 0, sizeof(*c));
	c->keys = 1000000;
	c->key_size = 16;
	c->value_size = 100;
	c->threads = cpus > 0 ? (uint64_t)cpus : 1;
	c->seconds = 10.0;
	c->mix = 1;
	c->dist = -1;
	c->seed = 1;
	c->sample = 64;
}

static void make_long_options(struct option *options)
{
	int i;

	memset(options, 0, (OPTIONS + 1) * sizeof(*options));
	for (i = 0; i < OPTIONS; i++) {
		options[i].name = specs[i].name;
		options[i].has_arg = specs[i].arg ? required_argument : no_argument;
		options[i].val = i;
	}
}

static int refuse(void)
{
	fprintf(stderr, "Try \"" PROGRAM " --help\".\n");
	return EXIT_USAGE;
}

int options_parse(int argc, char **argv, struct config *ret_config)
{
	struct option options[OPTIONS + 1];
	struct config c;
	uint32_t seen = 0;
	int id;

	set_defaults(&c);
	make_long_options(options);
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id < 0 || id >= OPTIONS)
			return refuse();
		if (!apply(&specs[id], optarg, &c)) {
			complain(&specs[id], optarg);
			return refuse();
		}
		seen |= 1u << id;
	}
	if (optind < argc) {
		bench_error("unexpected argument \"%s\"", argv[optind]);
		return refuse();
	}
	if (!check_together(seen, &c))
		return refuse();
	if (c.dist < 0)
		c.dist = mixes[c.mix].insert ? DIST_LATEST : DIST_ZIPF;
	*ret_config = c;
	return 0;
}
