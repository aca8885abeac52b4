/* SPDX-License-Identifier: MIT */
/* dataset.c - synthetic keys and a file's keys behind one face. See dataset.h. */
#include "posix.h"

#include <string.h>

#include "dataset.h"

#define LINE 64          /* bytes of a cache line */
#define PREFETCH_LINES 4 /* of a row; the processor's own prefetch goes on from there */

void dataset_file(struct dataset *d, const struct rows *rows)
{
	memset(d, 0, sizeof(*d));
	d->from_file = true;
	d->rows = *rows;
	d->count = rows->count;
	d->limit = UINT64_MAX;
	d->payload = rows->payload;
	d->key_max = rows->key_max;
	d->value_max = rows->value_max;
}

int dataset_synthetic(struct dataset *d, uint64_t count, size_t key_size, size_t value_size,
		      uint64_t seed)
{
	memset(d, 0, sizeof(*d));
	synthetic_init(&d->made, key_size, value_size, seed);
	if (count > synthetic_space(&d->made) / 4 + 1)
		return -1;
	d->count = count;
	d->limit = synthetic_space(&d->made) / 2;
	d->payload = count * (key_size + value_size);
	d->key_max = key_size;
	d->value_max = value_size;
	return 0;
}

void dataset_free(struct dataset *d)
{
	if (d->from_file)
		rows_free(&d->rows);
}

size_t dataset_key_room(const struct dataset *d)
{
	return d->key_max + DATASET_TAG_MAX;
}

static uint64_t row_of(const struct dataset *d, uint64_t number)
{
	return number < d->count ? number : (number - d->count) % d->count;
}

/* The key of row @i, a zero byte, the letter @tag and @round in hexadecimal. */
static struct kvs_slice tagged_key(const struct dataset *d, uint64_t i, char tag, uint64_t round,
				   unsigned char *buf)
{
	static const char digits[] = "0123456789abcdef";
	size_t len = d->rows.row[i].key_len;

	memcpy(buf, rows_key(&d->rows, i), len);
	buf[len++] = '\0';
	buf[len++] = (unsigned char)tag;
	do {
		buf[len++] = (unsigned char)digits[round & 15];
		round >>= 4;
	} while (round);
	return kvs_bytes(buf, len);
}

struct kvs_slice dataset_key(const struct dataset *d, uint64_t number, unsigned char *buf)
{
	if (!d->from_file) {
		synthetic_key(&d->made, number, buf);
		return kvs_bytes(buf, d->made.key_size);
	}
	if (number >= d->count)
		return tagged_key(d, row_of(d, number), 'n', (number - d->count) / d->count, buf);
	return kvs_bytes(rows_key(&d->rows, number), d->rows.row[number].key_len);
}

struct kvs_slice dataset_absent_key(const struct dataset *d, uint64_t number, unsigned char *buf)
{
	if (d->from_file)
		return tagged_key(d, number, 'a', 0, buf);
	synthetic_key(&d->made, synthetic_space(&d->made) - number, buf);
	return kvs_bytes(buf, d->made.key_size);
}

struct kvs_slice dataset_value(const struct dataset *d, uint64_t number, uint64_t generation,
			       unsigned char *buf)
{
	uint64_t i;

	if (!d->from_file) {
		synthetic_value(&d->made, number, generation, buf);
		return kvs_bytes(buf, d->made.value_size);
	}
	i = row_of(d, number);
	return kvs_bytes(rows_value(&d->rows, i), d->rows.row[i].value_len);
}

bool dataset_check(const struct dataset *d, uint64_t number, const void *value, size_t len)
{
	uint64_t i;

	if (!d->from_file)
		return synthetic_check(&d->made, number, value, len);
	i = row_of(d, number);
	return len == d->rows.row[i].value_len && memcmp(value, rows_value(&d->rows, i), len) == 0;
}

void dataset_prefetch_row(const struct dataset *d, uint64_t number)
{
	if (d->from_file)
		__builtin_prefetch(&d->rows.row[row_of(d, number)]);
}

void dataset_prefetch_key(const struct dataset *d, uint64_t number)
{
	const char *key;
	size_t i;

	if (!d->from_file)
		return;
	key = rows_key(&d->rows, row_of(d, number));
	for (i = 0; i < PREFETCH_LINES; i++)
		__builtin_prefetch(key + i * LINE);
}
