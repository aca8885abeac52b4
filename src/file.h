/* SPDX-License-Identifier: MIT */
/*
 * file.h - reading a snapshot file: pieces of whole blocks for any number of threads, records for one.
 *
 * A reader belongs to a file. Threads take pieces from it, one after another in the order of the file, check
 * their blocks and go through their records each on its own. What is given out has been checked: the block's
 * checksum, that it stands in its place, that the record lies within it.
 *
 * A long record (save.c) is a piece of its own. Its value is not given out but read by the caller to where he wants it.
 */
#ifndef KVS_FILE_H
#define KVS_FILE_H

#include <pthread.h>

#include "atomic.h"
#include "format.h"
#include "mem.h"

#define KVS__PIECE_BYTES ((size_t)8 * (KVS__BLOCK_HEADER + KVS__BLOCK_MAX))

struct kvs__reader {
	int fd;
	uint64_t end;                     /* offset of the trailer (i) */
	struct kvs__file_header header;   /* (i) */
	struct kvs__file_trailer trailer; /* (i) */
	pthread_mutex_t lock;
	uint64_t offset;             /* of the next block (l) lock */
	uint64_t index;              /* of the next block (l) lock */
	uint64_t digest;             /* (l) lock */
	uint64_t entries;            /* (l) lock */
	struct kvs_file_error error; /* that with the lowest offset (l) lock */
	kvs__u32 failed;             /* (a) */
};

/* What one thread has taken. Zeroed, with a buffer, it is empty. */
struct kvs__piece {
	unsigned char *buffer; /* KVS__PIECE_BYTES */
	uint64_t offset;       /* in the file, of the buffer's first byte */
	uint64_t index;        /* of the next block */
	size_t len;            /* bytes of whole blocks in the buffer */
	size_t at;             /* the next block */
	size_t record;         /* the next record */
	size_t block_end;      /* of the block that record is in */
	uint32_t records;      /* left in that block */
	uint64_t rest;         /* bytes of a long record that lie in blocks behind the buffer's */
	uint64_t digest;       /* of all blocks so far */
	uint64_t entries;      /* so far */
};

/* A record that was checked; key and value lie in the piece's buffer. */
struct kvs__found {
	struct kvs__record record;
	const unsigned char *key;
	const unsigned char *value;
	size_t value_here; /* bytes of the value in the buffer: all, but for a long record */
	uint64_t offset;   /* in the file */
};

/* kvs__reader_open - Check @path's header and trailer. 0, or an error, with r->error set and nothing held. */
int kvs__reader_open(struct kvs__reader *r, const char *path);
void kvs__reader_close(struct kvs__reader *r);

/* kvs__reader_fail - Note an error and stop all threads. Returns @code. */
int kvs__reader_fail(struct kvs__reader *r, int code, int system_error, uint64_t offset,
		     const char *cause);

/* kvs__reader_take - The next piece. 0, KVS_ERR_NOT_FOUND at the end of the blocks or after another's error, or an error. */
int kvs__reader_take(struct kvs__reader *r, struct kvs__piece *p);

/* kvs__piece_next - The next record. 0, KVS_ERR_NOT_FOUND at the piece's end, or an error. */
int kvs__piece_next(struct kvs__reader *r, struct kvs__piece *p, struct kvs__found *ret);

/* kvs__piece_read_rest - What of a long record's value is not here, all of it, to @to; NULL: only check it. */
int kvs__piece_read_rest(struct kvs__reader *r, struct kvs__piece *p, unsigned char *to);

/* kvs__piece_done - A thread has taken its last piece: its sums are the reader's now. */
void kvs__piece_done(struct kvs__reader *r, struct kvs__piece *p);

/* kvs__reader_finish - All threads are done: 0 if the whole file has been seen and is what the trailer says. */
int kvs__reader_finish(struct kvs__reader *r);

#endif
