/* SPDX-License-Identifier: MIT */
/* rows.c - read a file of entries into memory. See rows.h. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kvs.h>

#include "rows.h"
#include "tsv.h"

#define FIRST_ROOM ((size_t)1 << 20)

static int fail(struct rows_error *error, uint64_t line, const char *reason)
{
	error->line = line;
	error->reason = reason;
	error->no_memory = false;
	return -1;
}

static int fail_memory(struct rows_error *error)
{
	fail(error, 0, "out of memory while reading the input");
	error->no_memory = true;
	return -1;
}

/* Room for all of a regular file and one byte to see its end; else a start to grow from. */
static size_t first_room(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 0)
		return FIRST_ROOM;
	return (size_t)st.st_size + 1;
}

static int grow(struct rows *rows, size_t *room)
{
	size_t larger = *room * 2;
	char *buffer = larger > *room ? realloc(rows->buffer, larger) : NULL;

	if (!buffer)
		return -1;
	rows->buffer = buffer;
	*room = larger;
	return 0;
}

/* Read until the end of @fd. The buffer ends up no larger than the contents need. */
static int read_all(int fd, struct rows *rows, struct rows_error *error)
{
	size_t room = first_room(fd);
	ssize_t got = 1;
	char *exact;

	rows->buffer = malloc(room);
	if (!rows->buffer)
		return fail_memory(error);
	while (got != 0) {
		if (rows->size == room && grow(rows, &room) != 0)
			return fail_memory(error);
		got = read(fd, rows->buffer + rows->size, room - rows->size);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(error, 0, strerror(errno));
		rows->size += (size_t)got;
	}
	exact = realloc(rows->buffer, rows->size + 1);
	if (exact)
		rows->buffer = exact;
	return 0;
}

static int read_file(const char *path, struct rows *rows, struct rows_error *error)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	int result;

	if (fd < 0)
		return fail(error, 0, strerror(errno));
	result = read_all(fd, rows, error);
	if (!standard)
		close(fd);
	return result;
}

static void add_row(struct rows *rows, const struct tsv_entry *e)
{
	struct row *row = &rows->row[rows->count++];

	memmove(e->key + e->key_len, e->value, e->value_len);
	row->at = (uint64_t)(e->key - rows->buffer);
	row->value_len = (uint32_t)e->value_len;
	row->key_len = (uint16_t)e->key_len;
	row->unused = 0;
	rows->payload += e->key_len + e->value_len;
	if (e->key_len > rows->key_max)
		rows->key_max = e->key_len;
	if (e->value_len > rows->value_max)
		rows->value_max = e->value_len;
}

static int parse_line(struct rows *rows, char *line, size_t len, struct rows_error *error)
{
	struct tsv_entry e;
	enum tsv_error bad = tsv_parse(line, len, &e);

	if (bad)
		return fail(error, rows->count + 1, tsv_reason(bad));
	if (e.key_len > KVS_KEY_MAX)
		return fail(error, rows->count + 1, kvs_strerror(KVS_ERR_KEY_TOO_LARGE));
	if (e.value_len > KVS_VALUE_MAX)
		return fail(error, rows->count + 1, kvs_strerror(KVS_ERR_VALUE_TOO_LARGE));
	add_row(rows, &e);
	return 0;
}

static int parse_all(struct rows *rows, struct rows_error *error)
{
	char *line = rows->buffer, *end = rows->buffer + rows->size;
	uint64_t lines = tsv_lines(rows->buffer, rows->size);

	if (lines == 0)
		return fail(error, 0, "the file is empty");
	rows->row = calloc(lines, sizeof(*rows->row));
	if (!rows->row)
		return fail_memory(error);
	while (line < end) {
		char *feed = memchr(line, '\n', (size_t)(end - line));
		char *stop = feed ? feed : end;

		if (parse_line(rows, line, (size_t)(stop - line), error) != 0)
			return -1;
		line = stop + 1;
	}
	return 0;
}

int rows_load(const char *path, struct rows *ret_rows, struct rows_error *ret_error)
{
	struct rows rows = { 0 };

	if (read_file(path, &rows, ret_error) != 0 || parse_all(&rows, ret_error) != 0) {
		rows_free(&rows);
		return -1;
	}
	*ret_rows = rows;
	return 0;
}

void rows_free(struct rows *rows)
{
	free(rows->buffer);
	free(rows->row);
}

uint64_t rows_find(const struct rows *rows, uint64_t i, uint64_t from)
{
	size_t len = rows->row[i].key_len;
	uint64_t j;

	for (j = from; j < rows->count; j++)
		if (rows->row[j].key_len == len &&
		    memcmp(rows_key(rows, j), rows_key(rows, i), len) == 0)
			break;
	return j;
}
