/* SPDX-License-Identifier: MIT */
/*
 * rows.h - a file of entries (tsv.h) held in memory: one buffer, and 16 bytes a row beside it.
 */
#ifndef TOOLS_ROWS_H
#define TOOLS_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where an entry lies in the buffer: its key, and right behind it its value. */
struct row {
	uint64_t at;
	uint32_t value_len;
	uint16_t key_len;
	uint16_t unused;
};

struct rows {
	char *buffer;
	size_t size; /* bytes of the file */
	struct row *row;
	uint64_t count;   /* row i is line i + 1 */
	uint64_t payload; /* bytes of all keys and values */
	size_t key_max;   /* bytes of the longest key and value */
	size_t value_max;
};

/* What was wrong with a file. */
struct rows_error {
	uint64_t line; /* 0: not about a line */
	const char *reason;
	bool no_memory; /* the machine's fault, not the file's */
};

/* rows_load - Read and parse @path ("-": standard input). Returns 0, or -1 and @ret_error. */
int rows_load(const char *path, struct rows *ret_rows, struct rows_error *ret_error);

void rows_free(struct rows *rows);

/* rows_find - The first row from @from on with the same key as row @i; count if there is none. */
uint64_t rows_find(const struct rows *rows, uint64_t i, uint64_t from);

static inline const char *rows_key(const struct rows *rows, uint64_t i)
{
	return rows->buffer + rows->row[i].at;
}

static inline const char *rows_value(const struct rows *rows, uint64_t i)
{
	return rows_key(rows, i) + rows->row[i].key_len;
}

#endif /* TOOLS_ROWS_H */
