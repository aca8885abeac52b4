/* SPDX-License-Identifier: MIT */
/*
 * format.h - the parts of a snapshot file as structs, to and from bytes. What they mean: save.c.
 *
 * Nothing here trusts a byte: a reader gets a part only if its magic, its checksum and every field that
 * can be judged by itself are right, else the reason as a static sentence.
 */
#ifndef KVS_FORMAT_H
#define KVS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvs.h"

#define KVS__FORMAT_VERSION 1u
#define KVS__FILE_HEADER ((size_t)64)      /* bytes */
#define KVS__FILE_TRAILER ((size_t)64)     /* bytes */
#define KVS__BLOCK_HEADER ((size_t)48)     /* bytes */
#define KVS__BLOCK_MAX ((size_t)128 << 10) /* bytes of a block's payload */
#define KVS__RECORD_MIN ((size_t)16)       /* bytes of a record without its key and value */
#define KVS__RECORD_MAX ((size_t)24)       /* the same, with an expiry */
#define KVS__FILE_VERSION_MAX (((uint64_t)1 << 56) - 1) /* of an entry: all that it can have */
#define KVS__ID_BYTES 16

enum kvs__block_kind {
	KVS__BLOCK_RECORDS = 1, /* whole records */
	KVS__BLOCK_LONG = 2,    /* the beginning of one record that is longer than a block */
	KVS__BLOCK_MORE = 3,    /* more of it; all but its last block are full */
};

struct kvs__file_header {
	unsigned char id[KVS__ID_BYTES];
	int64_t saved_at_ms; /* wall clock */
};

struct kvs__block_header {
	unsigned kind;
	uint32_t len;     /* bytes of payload */
	uint32_t records; /* that begin in this block */
	uint32_t crc;
	uint64_t index;
};

struct kvs__file_trailer {
	uint64_t blocks;
	uint64_t entries;
	uint64_t file_bytes;
	uint64_t digest;
};

struct kvs__record {
	uint64_t version;
	int64_t expires_at_ms; /* wall clock; 0: none */
	uint32_t key_len;
	uint32_t value_len;
};

/* kvs__record_head - Bytes of a record before its key. kvs__record_bytes - with key and value. */
static inline size_t kvs__record_head(const struct kvs__record *r)
{
	return r->expires_at_ms ? KVS__RECORD_MAX : KVS__RECORD_MIN;
}

static inline uint64_t kvs__record_bytes(const struct kvs__record *r)
{
	return kvs__record_head(r) + (uint64_t)r->key_len + r->value_len;
}

/* kvs__crc32 - The CRC-32 (IEEE 802.3, as zlib's) of what @crc is of, followed by these bytes. */
uint32_t kvs__crc32(uint32_t crc, const void *bytes, size_t len);

/* kvs__digest_of - What a block adds (mod 2^64) to the file's digest: blocks may be summed in any order. */
uint64_t kvs__digest_of(uint64_t index, uint32_t crc);

/* The writers fill exactly the bytes named above. The payload of a block lies behind its header already. */
void kvs__file_header_put(unsigned char *to, const struct kvs__file_header *h);
void kvs__block_put(unsigned char *to, const unsigned char id[KVS__ID_BYTES],
		    struct kvs__block_header *h);
void kvs__file_trailer_put(unsigned char *to, const unsigned char id[KVS__ID_BYTES],
			   const struct kvs__file_trailer *t);
size_t kvs__record_put(unsigned char *to,
		       const struct kvs__record *r); /* Returns kvs__record_head(). */

/*
 * kvs__file_header_get - 0, KVS_ERR_CORRUPTED_SNAPSHOT or KVS_ERR_UNSUPPORTED_VERSION, with the cause.
 *
 * The place of magic, version and checksum is the same in all versions to come, so that a newer file is told
 * from a damaged one.
 */
int kvs__file_header_get(const unsigned char *from, struct kvs__file_header *ret,
			 const char **ret_cause);

/* kvs__file_trailer_get - @id: the header's. NULL, or what is wrong. */
const char *kvs__file_trailer_get(const unsigned char *from, const unsigned char id[KVS__ID_BYTES],
				  struct kvs__file_trailer *ret);

/*
 * kvs__block_peek - A block's header, not checked but for what following blocks are found by: magic, kind
 * and length. kvs__block_check - All of it, with its payload behind it. NULL, or what is wrong.
 */
const char *kvs__block_peek(const unsigned char *from, struct kvs__block_header *ret);
const char *kvs__block_check(const unsigned char *from, const unsigned char id[KVS__ID_BYTES],
			     const struct kvs__block_header *h, uint64_t index);

/*
 * kvs__record_get - The head of a record in @len bytes of payload. NULL, or what is wrong; whether key and value
 * lie within the payload is for the caller to judge.
 */
const char *kvs__record_get(const unsigned char *from, size_t len, struct kvs__record *ret);

#endif
