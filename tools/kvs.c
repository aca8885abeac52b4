/* SPDX-License-Identifier: MIT */
/*
 * kvs.c - look into snapshot files, and make them. It uses the public header only.
 *
 * Text is that of tsv.h: key TAB value, a line each. A time to live does not go into it.
 */
#include "posix.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kvs.h>

#include "progress.h"
#include "rows.h"
#include "tsv.h"

#define PROGRAM "kvs"

/* Pinned: scripts rely on them. kvs(1) lists them. */
enum exit_code {
	EXIT_GOOD = 0,
	EXIT_ABSENT = 1,  /* get: the key is not in the file */
	EXIT_USAGE = 2,   /* the command line, or the text of load */
	EXIT_DAMAGED = 3, /* the file is damaged */
	EXIT_NEWER = 4,   /* a newer version wrote the file */
	EXIT_IO = 5,      /* the system refused */
	EXIT_MEMORY = 6,  /* no memory */
};

static const char usage[] =
	"Usage: " PROGRAM " snapshot info FILE              what the file says of itself\n"
	"       " PROGRAM " snapshot verify FILE            read all of it, check everything\n"
	"       " PROGRAM
	" snapshot dump FILE              write it as text, key TAB value, to standard output\n"
	"       " PROGRAM " snapshot load FILE [--input T]  make it from text (standard input)\n"
	"       " PROGRAM " snapshot get FILE KEY           write one value to standard output\n"
	"       " PROGRAM " --help | --version\n"
	"\n"
	"In text, and in KEY, tab, line feed, carriage return and backslash are written \\t \\n \\r \\\\,\n"
	"and any byte may be written \\xHH.\n"
	"\n"
	"Exit status: 0 all went well, 1 get: no such key, 2 bad command line or bad text, 3 the file is\n"
	"damaged, 4 it was written by a newer version, 5 a system call failed, 6 no memory.\n";

static int complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int complain(int code, const char *format, ...)
{
	va_list args;

	fputs(PROGRAM ": ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return code;
}

static int misused(const char *what)
{
	(void)complain(EXIT_USAGE, "%s", what);
	fputs("Try \"" PROGRAM " --help\".\n", stderr);
	return EXIT_USAGE;
}

static int code_of(int err)
{
	switch (err) {
	case KVS_ERR_CORRUPTED_SNAPSHOT:
		return EXIT_DAMAGED;
	case KVS_ERR_UNSUPPORTED_VERSION:
		return EXIT_NEWER;
	case KVS_ERR_NO_MEMORY:
		return EXIT_MEMORY;
	default:
		return EXIT_IO;
	}
}

/* Name the file, the place in it, and the cause. */
static int file_failed(const char *path, int err, const struct kvs_file_error *e)
{
	if (!e->cause)
		return complain(code_of(err), "%s: %s", path, kvs_strerror(err));
	if (e->system_error)
		return complain(code_of(err), "%s: offset %" PRIu64 ": %s: %s", path, e->offset,
				e->cause, strerror(e->system_error));
	return complain(code_of(err), "%s: offset %" PRIu64 ": %s (%s)", path, e->offset,
			kvs_strerror(err), e->cause);
}

static int output_done(void)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		return complain(EXIT_IO, "standard output: %s", strerror(errno));
	return EXIT_GOOD;
}

/* ---- Reading ---------------------------------------------------------------------------- */

/* What is done with each entry. Not EXIT_GOOD ends the reading; DONE ends it well. */
#define DONE (-1)
typedef int (*entry_fn)(const struct kvs_item *item, void *arg);

struct reading {
	const char *path;
	struct kvs_file_error error;
	struct kvs_file *file;
	struct kvs_file_info info;
};

static int reading_begin(struct reading *r, const char *path)
{
	int err;

	memset(r, 0, sizeof(*r));
	r->path = path;
	r->info.size = sizeof(r->info);
	err = kvs_file_open(path, &r->error, &r->file);
	if (err)
		return file_failed(path, err, &r->error);
	(void)kvs_file_info(r->file, &r->info);
	return EXIT_GOOD;
}

#define REDRAW 65536u /* entries */

/* Go through all entries, with a progress bar on a terminal. */
static int read_all(const char *path, const char *what, entry_fn fn, void *arg)
{
	struct progress progress;
	struct kvs_item item;
	struct reading r;
	uint64_t n = 0;
	int result = reading_begin(&r, path);
	int err = 0;

	if (result != EXIT_GOOD)
		return result;
	progress_begin(&progress, what);
	while (result == EXIT_GOOD && (err = kvs_file_next(r.file, &item)) == 0) {
		if (n++ % REDRAW == 0)
			progress_draw(&progress, (double)n / (double)r.info.entries, n);
		result = fn(&item, arg);
	}
	progress_end(&progress);
	if (result == EXIT_GOOD && err != KVS_ERR_NOT_FOUND)
		result = file_failed(path, err, &r.error);
	kvs_file_close(r.file);
	return result == DONE ? EXIT_GOOD : result;
}

static int do_info(const char *path)
{
	struct reading r;
	int code = reading_begin(&r, path);
	time_t seconds;
	char when[32] = "?";
	struct tm tm;
	unsigned i;

	if (code != EXIT_GOOD)
		return code;
	seconds = (time_t)(r.info.saved_at_ms / 1000);
	if (gmtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("format      %" PRIu32 "\nsnapshot    ", r.info.format);
	for (i = 0; i < sizeof(r.info.id); i++)
		printf("%02x", r.info.id[i]);
	printf("\nsaved       %s.%03d UTC\nentries     %" PRIu64 "\nblocks      %" PRIu64
	       "\nbytes       %" PRIu64 "\n",
	       when, (int)(r.info.saved_at_ms % 1000), r.info.entries, r.info.blocks,
	       r.info.file_bytes);
	kvs_file_close(r.file);
	return output_done();
}

struct counts {
	uint64_t entries, key_bytes, value_bytes, timed;
};

static int count_entry(const struct kvs_item *item, void *arg)
{
	struct counts *c = arg;

	c->entries++;
	c->key_bytes += item->key.len;
	c->value_bytes += item->value.len;
	c->timed += item->value.expires_at_ms != 0;
	return EXIT_GOOD;
}

static int store_failed(const char *what, int err)
{
	return complain(code_of(err), "%s: %s", what, kvs_strerror(err));
}

static int draw_progress(uint64_t done, uint64_t total, void *arg)
{
	progress_draw(arg, total ? (double)done / (double)total : 1.0, done);
	return 0;
}

static int64_t before_all_time(void *ctx)
{
	(void)ctx;
	return 0;
}

/*
 * That no key comes twice only a store can say: one whose clock stands before all expiries, since a load leaves out what has
 * expired, and does not look whether its key comes again.
 */
static int verify_keys(const char *path)
{
	static const struct kvs_clock clock = { before_all_time, before_all_time, NULL };
	struct kvs_options opts = KVS_OPTIONS_INIT;
	struct kvs_load_options o = KVS_LOAD_OPTIONS_INIT;
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct progress progress;
	struct kvs *kv;
	int err;

	opts.clock = &clock;
	err = kvs_open(&opts, &kv);
	if (err)
		return store_failed("opening a store", err);
	progress_begin(&progress, "loading");
	o.progress = draw_progress;
	o.progress_arg = &progress;
	o.error = &error;
	err = kvs_load(kv, path, &o);
	progress_end(&progress);
	(void)kvs_free(kv);
	return err ? file_failed(path, err, &error) : EXIT_GOOD;
}

static int do_verify(const char *path)
{
	struct counts c = { 0, 0, 0, 0 };
	int code = read_all(path, "reading", count_entry, &c);

	if (code == EXIT_GOOD)
		code = verify_keys(path);
	if (code != EXIT_GOOD)
		return code;
	printf("%s: good: %" PRIu64 " entries, %" PRIu64 " bytes of keys, %" PRIu64
	       " of values, %" PRIu64 " expire\n",
	       path, c.entries, c.key_bytes, c.value_bytes, c.timed);
	return output_done();
}

static int dump_entry(const struct kvs_item *item, void *arg)
{
	(void)arg;
	if (tsv_write(stdout, item->key.data, item->key.len, item->value.data, item->value.len) ==
	    0)
		return EXIT_GOOD;
	return complain(EXIT_IO, "standard output: %s", strerror(errno));
}

static int do_dump(const char *path)
{
	int code = read_all(path, "dumping", dump_entry, NULL);

	return code == EXIT_GOOD ? output_done() : code;
}

struct wanted {
	const char *key;
	size_t len;
	bool found;
};

static int get_entry(const struct kvs_item *item, void *arg)
{
	struct wanted *w = arg;

	if (item->key.len != w->len || (w->len && memcmp(item->key.data, w->key, w->len) != 0))
		return EXIT_GOOD;
	w->found = true;
	if (item->value.len &&
	    fwrite(item->value.data, 1, item->value.len, stdout) != item->value.len)
		return complain(EXIT_IO, "standard output: %s", strerror(errno));
	return DONE;
}

static int do_get(const char *path, char *key)
{
	struct wanted w = { key, strlen(key), false };
	enum tsv_error bad = tsv_unescape(key, w.len, &w.len);
	int code;

	if (bad)
		return complain(EXIT_USAGE, "the key: %s", tsv_reason(bad));
	code = read_all(path, "looking", get_entry, &w);
	if (code == EXIT_GOOD && !w.found)
		return complain(EXIT_ABSENT, "%s: the key is not in the file", path);
	return code == EXIT_GOOD ? output_done() : code;
}

/* ---- Making ----------------------------------------------------------------------------- */

static int fill(struct kvs *kv, const char *input, const struct rows *rows)
{
	uint64_t i;

	for (i = 0; i < rows->count; i++) {
		struct kvs_slice key = kvs_bytes(rows_key(rows, i), rows->row[i].key_len);
		struct kvs_slice value = kvs_bytes(rows_value(rows, i), rows->row[i].value_len);
		int err = kvs_add(kv, key, value, NULL);

		if (err == KVS_ERR_DUPLICATE)
			return complain(EXIT_USAGE,
					"%s: line %" PRIu64
					": the key stands on an earlier line too",
					input, i + 1);
		if (err)
			return store_failed("filling the store", err);
	}
	return EXIT_GOOD;
}

static int save(struct kvs *kv, const char *path)
{
	struct kvs_save_options o = KVS_SAVE_OPTIONS_INIT;
	struct kvs_file_error error = { 0, 0, 0, NULL };
	struct progress progress;
	int err;

	progress_begin(&progress, "saving");
	o.progress = draw_progress;
	o.progress_arg = &progress;
	o.error = &error;
	err = kvs_save(kv, path, &o);
	progress_end(&progress);
	return err ? file_failed(path, err, &error) : EXIT_GOOD;
}

static int do_load(const char *path, const char *input)
{
	struct rows_error bad;
	struct rows rows;
	int code;
	struct kvs *kv;
	int err;

	if (rows_load(input, &rows, &bad) != 0) {
		if (bad.line)
			return complain(EXIT_USAGE, "%s: line %" PRIu64 ": %s", input, bad.line,
					bad.reason);
		return complain(bad.no_memory ? EXIT_MEMORY : EXIT_USAGE, "%s: %s", input,
				bad.reason);
	}
	err = kvs_open(NULL, &kv);
	if (err) {
		rows_free(&rows);
		return store_failed("opening a store", err);
	}
	code = fill(kv, input, &rows);
	rows_free(&rows);
	if (code == EXIT_GOOD)
		code = save(kv, path);
	(void)kvs_free(kv);
	return code;
}

/* ---- The command line ------------------------------------------------------------------- */

static int snapshot_command(int argc, char **argv)
{
	const char *what = argc > 0 ? argv[0] : "";

	if (argc == 2 && strcmp(what, "info") == 0)
		return do_info(argv[1]);
	if (argc == 2 && strcmp(what, "verify") == 0)
		return do_verify(argv[1]);
	if (argc == 2 && strcmp(what, "dump") == 0)
		return do_dump(argv[1]);
	if (argc == 3 && strcmp(what, "get") == 0)
		return do_get(argv[1], argv[2]);
	if (argc == 2 && strcmp(what, "load") == 0)
		return do_load(argv[1], "-");
	if (argc == 4 && strcmp(what, "load") == 0 && strcmp(argv[2], "--input") == 0)
		return do_load(argv[1], argv[3]);
	return misused("snapshot takes info, verify, dump, load or get, and a file");
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return output_done();
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf(PROGRAM " of libkvs %s\n", kvs_version_string());
		return output_done();
	}
	if (argc < 2 || strcmp(argv[1], "snapshot") != 0)
		return misused("the first argument is snapshot, --help or --version");
	return snapshot_command(argc - 2, argv + 2);
}
