/* SPDX-License-Identifier: MIT */
/*
 * dataset.h - the keys and values of a run, synthetic or from a file, behind one face.
 *
 * Keys have numbers. 0 to count - 1 are loaded; count and above are new ones for inserts; those
 * of dataset_absent_key() are in the store at no time. From a file, new and absent keys are the
 * file's with a zero byte and a tag behind them.
 */
#ifndef TOOLS_DATASET_H
#define TOOLS_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvs.h>

#include "rows.h"
#include "synthetic.h"

#define DATASET_TAG_MAX 24 /* bytes that a new or absent key is longer than its row's */

struct dataset {
	bool from_file;
	struct rows rows;      /* if from_file */
	struct synthetic made; /* if not */
	uint64_t count;        /* keys to load */
	uint64_t limit;        /* key numbers at and above are not to be used */
	uint64_t payload;      /* bytes of the loaded keys and values */
	size_t key_max;        /* bytes of the longest loaded key and value */
	size_t value_max;
};

/* dataset_file - Take over @rows. */
void dataset_file(struct dataset *d, const struct rows *rows);

/* dataset_synthetic - Returns 0, or -1 if @key_size cannot hold four times @count keys. */
int dataset_synthetic(struct dataset *d, uint64_t count, size_t key_size, size_t value_size,
		      uint64_t seed);

void dataset_free(struct dataset *d);

/* dataset_key_room - Bytes that a buffer for any of its keys needs. */
size_t dataset_key_room(const struct dataset *d);

/* dataset_key - The key of @number; @buf may be used for it. */
struct kvs_slice dataset_key(const struct dataset *d, uint64_t number, unsigned char *buf);

/* dataset_absent_key - A key that is never stored, different for each @number below count. */
struct kvs_slice dataset_absent_key(const struct dataset *d, uint64_t number, unsigned char *buf);

/* dataset_value - A value for key @number; a file's rows have only one. @buf may be used for it. */
struct kvs_slice dataset_value(const struct dataset *d, uint64_t number, uint64_t generation,
			       unsigned char *buf);

/* dataset_check - Whether these bytes are a value of key @number. */
bool dataset_check(const struct dataset *d, uint64_t number, const void *value, size_t len);

/* dataset_prefetch_row, dataset_prefetch_key - Hints, some time before dataset_key(). */
void dataset_prefetch_row(const struct dataset *d, uint64_t number);
void dataset_prefetch_key(const struct dataset *d, uint64_t number);

#endif /* TOOLS_DATASET_H */
