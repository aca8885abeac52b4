/* SPDX-License-Identifier: MIT */
#include "format.h"

#include <libdeflate.h>
#include <string.h>

#include "hash.h"

#define MAGIC_FILE "KVS1"
#define MAGIC_BLOCK "KVSB"
#define MAGIC_TRAILER "KVSE"
#define MAGIC_END "1SVK"
#define MAGIC_BYTES 4

#define RECORD_HAS_EXPIRY 1u /* in a record's flags; the others are 0 */

/* Offsets; lengths as the names of put and get say. */
enum {
	HEADER_VERSION = 4,
	HEADER_BYTES = 8,
	HEADER_FEATURES = 12,
	HEADER_ID = 16,
	HEADER_SAVED_AT = 32,
	HEADER_CRC = 60,

	BLOCK_KIND = 4,
	BLOCK_ID = 8,
	BLOCK_INDEX = 24,
	BLOCK_LEN = 32,
	BLOCK_RECORDS = 36,
	BLOCK_CRC = 44,

	TRAILER_ID = 8,
	TRAILER_BLOCKS = 24,
	TRAILER_ENTRIES = 32,
	TRAILER_FILE_BYTES = 40,
	TRAILER_DIGEST = 48,
	TRAILER_CRC = 56,
	TRAILER_END = 60,

	RECORD_KEY_LEN = 0,
	RECORD_FLAGS = 2,
	RECORD_VALUE_LEN = 4,
	RECORD_VERSION = 8,
	RECORD_EXPIRY = 16,
};

/* ---- little-endian numbers anywhere ---- */

static void put64(unsigned char *to, uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	memcpy(to, &v, sizeof(v));
}

static void put32(unsigned char *to, uint32_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap32(v);
#endif
	memcpy(to, &v, sizeof(v));
}

static void put16(unsigned char *to, unsigned v)
{
	to[0] = (unsigned char)v;
	to[1] = (unsigned char)(v >> 8);
}

static uint64_t get64(const unsigned char *from)
{
	return kvs__load_le64(from);
}

static uint32_t get32(const unsigned char *from)
{
	return (uint32_t)kvs__load_le32(from);
}

static unsigned get16(const unsigned char *from)
{
	return from[0] | (unsigned)from[1] << 8;
}

static bool has_magic(const unsigned char *from, const char *magic)
{
	return memcmp(from, magic, MAGIC_BYTES) == 0;
}

/* ---- checksums ---- */

uint32_t kvs__crc32(uint32_t crc, const void *bytes, size_t len)
{
	return libdeflate_crc32(crc, bytes, len);
}

uint64_t kvs__digest_of(uint64_t index, uint32_t crc)
{
	return kvs__mix64(kvs__mix64(index) + crc);
}

static uint32_t block_crc(const unsigned char *block, size_t len)
{
	return kvs__crc32(kvs__crc32(0, block, BLOCK_CRC), block + KVS__BLOCK_HEADER, len);
}

/* ---- put ---- */

void kvs__file_header_put(unsigned char *to, const struct kvs__file_header *h)
{
	memset(to, 0, KVS__FILE_HEADER);
	memcpy(to, MAGIC_FILE, MAGIC_BYTES);
	put32(to + HEADER_VERSION, KVS__FORMAT_VERSION);
	put32(to + HEADER_BYTES, (uint32_t)KVS__FILE_HEADER);
	memcpy(to + HEADER_ID, h->id, KVS__ID_BYTES);
	put64(to + HEADER_SAVED_AT, (uint64_t)h->saved_at_ms);
	put32(to + HEADER_CRC, kvs__crc32(0, to, HEADER_CRC));
}

void kvs__block_put(unsigned char *to, const unsigned char id[KVS__ID_BYTES],
		    struct kvs__block_header *h)
{
	memset(to, 0, KVS__BLOCK_HEADER);
	memcpy(to, MAGIC_BLOCK, MAGIC_BYTES);
	put32(to + BLOCK_KIND, h->kind);
	memcpy(to + BLOCK_ID, id, KVS__ID_BYTES);
	put64(to + BLOCK_INDEX, h->index);
	put32(to + BLOCK_LEN, h->len);
	put32(to + BLOCK_RECORDS, h->records);
	h->crc = block_crc(to, h->len);
	put32(to + BLOCK_CRC, h->crc);
}

void kvs__file_trailer_put(unsigned char *to, const unsigned char id[KVS__ID_BYTES],
			   const struct kvs__file_trailer *t)
{
	memset(to, 0, KVS__FILE_TRAILER);
	memcpy(to, MAGIC_TRAILER, MAGIC_BYTES);
	memcpy(to + TRAILER_ID, id, KVS__ID_BYTES);
	put64(to + TRAILER_BLOCKS, t->blocks);
	put64(to + TRAILER_ENTRIES, t->entries);
	put64(to + TRAILER_FILE_BYTES, t->file_bytes);
	put64(to + TRAILER_DIGEST, t->digest);
	put32(to + TRAILER_CRC, kvs__crc32(0, to, TRAILER_CRC));
	memcpy(to + TRAILER_END, MAGIC_END, MAGIC_BYTES);
}

size_t kvs__record_put(unsigned char *to, const struct kvs__record *r)
{
	put16(to + RECORD_KEY_LEN, r->key_len);
	put16(to + RECORD_FLAGS, r->expires_at_ms ? RECORD_HAS_EXPIRY : 0);
	put32(to + RECORD_VALUE_LEN, r->value_len);
	put64(to + RECORD_VERSION, r->version);
	if (r->expires_at_ms)
		put64(to + RECORD_EXPIRY, (uint64_t)r->expires_at_ms);
	return kvs__record_head(r);
}

/* ---- get ---- */

static int corrupted(const char **ret_cause, const char *cause)
{
	*ret_cause = cause;
	return KVS_ERR_CORRUPTED_SNAPSHOT;
}

int kvs__file_header_get(const unsigned char *from, struct kvs__file_header *ret,
			 const char **ret_cause)
{
	uint32_t version = get32(from + HEADER_VERSION);

	if (!has_magic(from, MAGIC_FILE))
		return corrupted(ret_cause, "this is no snapshot file");
	if (get32(from + HEADER_CRC) != kvs__crc32(0, from, HEADER_CRC))
		return corrupted(ret_cause, "the checksum of the file's header is wrong");
	if (version == 0)
		return corrupted(ret_cause, "there is no format version 0");
	if (version > KVS__FORMAT_VERSION || get32(from + HEADER_FEATURES) != 0) {
		*ret_cause = "the format is newer than this library";
		return KVS_ERR_UNSUPPORTED_VERSION;
	}
	if (get32(from + HEADER_BYTES) != KVS__FILE_HEADER)
		return corrupted(ret_cause, "the length of the file's header is wrong");
	memcpy(ret->id, from + HEADER_ID, KVS__ID_BYTES);
	ret->saved_at_ms = (int64_t)get64(from + HEADER_SAVED_AT);
	return KVS_OK;
}

const char *kvs__file_trailer_get(const unsigned char *from, const unsigned char id[KVS__ID_BYTES],
				  struct kvs__file_trailer *ret)
{
	if (!has_magic(from, MAGIC_TRAILER) || !has_magic(from + TRAILER_END, MAGIC_END))
		return "the file does not end in a trailer";
	if (get32(from + TRAILER_CRC) != kvs__crc32(0, from, TRAILER_CRC))
		return "the checksum of the trailer is wrong";
	if (memcmp(from + TRAILER_ID, id, KVS__ID_BYTES) != 0)
		return "the trailer is another snapshot's";
	ret->blocks = get64(from + TRAILER_BLOCKS);
	ret->entries = get64(from + TRAILER_ENTRIES);
	ret->file_bytes = get64(from + TRAILER_FILE_BYTES);
	ret->digest = get64(from + TRAILER_DIGEST);
	return NULL;
}

const char *kvs__block_peek(const unsigned char *from, struct kvs__block_header *ret)
{
	ret->kind = get32(from + BLOCK_KIND);
	ret->len = get32(from + BLOCK_LEN);
	ret->records = get32(from + BLOCK_RECORDS);
	ret->crc = get32(from + BLOCK_CRC);
	ret->index = get64(from + BLOCK_INDEX);
	if (!has_magic(from, MAGIC_BLOCK))
		return "no block begins here";
	if (ret->kind < KVS__BLOCK_RECORDS || ret->kind > KVS__BLOCK_MORE)
		return "the block is of no known kind";
	if (ret->len == 0 || ret->len > KVS__BLOCK_MAX)
		return "the length of the block is out of range";
	return NULL;
}

const char *kvs__block_check(const unsigned char *from, const unsigned char id[KVS__ID_BYTES],
			     const struct kvs__block_header *h, uint64_t index)
{
	if (h->crc != block_crc(from, h->len))
		return "the checksum of the block is wrong";
	if (memcmp(from + BLOCK_ID, id, KVS__ID_BYTES) != 0)
		return "the block is another snapshot's";
	if (h->index != index)
		return "the block stands in another one's place";
	return NULL;
}

const char *kvs__record_get(const unsigned char *from, size_t len, struct kvs__record *ret)
{
	unsigned flags;

	if (len < KVS__RECORD_MIN)
		return "a record goes beyond its block";
	flags = get16(from + RECORD_FLAGS);
	ret->key_len = get16(from + RECORD_KEY_LEN);
	ret->value_len = get32(from + RECORD_VALUE_LEN);
	ret->version = get64(from + RECORD_VERSION);
	ret->expires_at_ms = 0;
	if (flags & ~RECORD_HAS_EXPIRY)
		return "a record has unknown flags";
	if (ret->value_len > KVS_VALUE_MAX)
		return "a value is too long";
	if (ret->version == 0 || ret->version > KVS__FILE_VERSION_MAX)
		return "a version is out of range";
	if (!flags)
		return NULL;
	if (len < KVS__RECORD_MAX)
		return "a record goes beyond its block";
	ret->expires_at_ms = (int64_t)get64(from + RECORD_EXPIRY);
	return ret->expires_at_ms > 0 ? NULL : "an expiry is out of range";
}
