/* SPDX-License-Identifier: MIT */
/*
 * file.c - reading a snapshot file. The format is described in save.c.
 *
 * Under the reader's lock a thread reads up to a megabyte, looks at the block headers just as far as to
 * see where the last whole block ends, and moves the reader's offset and index behind it. Nothing has been
 * checked by then. It checks each block outside: if a length on the way was wrong, that block's checksum is
 * wrong, or the next block does not begin where it should; the file is refused either way.
 *
 * A long record's length is needed before its blocks are read, so its first block is checked under the lock.
 *
 * Every length is compared with what is left of the file before anything is allocated or read for it.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "options.h"

int kvs__reader_fail(struct kvs__reader *r, int code, int system_error, uint64_t offset,
		     const char *cause)
{
	pthread_mutex_lock(&r->lock);
	if (!r->error.code || offset < r->error.offset)
		r->error = (struct kvs_file_error){ code, system_error, offset, cause };
	pthread_mutex_unlock(&r->lock);
	store_seq_cst(&r->failed, 1);
	return code;
}

static int damaged(struct kvs__reader *r, uint64_t offset, const char *cause)
{
	return kvs__reader_fail(r, KVS_ERR_CORRUPTED_SNAPSHOT, 0, offset, cause);
}

static int failed_io(struct kvs__reader *r, uint64_t offset, const char *cause)
{
	return kvs__reader_fail(r, KVS_ERR_IO, errno, offset, cause);
}

static int read_at(struct kvs__reader *r, void *to, size_t len, uint64_t offset)
{
	if (kvs__io_read(r->fd, to, len, offset) == 0)
		return KVS_OK;
	if (errno == 0)
		return damaged(r, offset, "the file has become shorter");
	return failed_io(r, offset, "reading");
}

/* ---- open ---- */

static int read_header(struct kvs__reader *r, uint64_t size)
{
	unsigned char bytes[KVS__FILE_HEADER];
	const char *cause = NULL;
	int err;

	if (size < sizeof(bytes))
		return damaged(r, size, "the file is shorter than a header");
	err = read_at(r, bytes, sizeof(bytes), 0);
	if (err)
		return err;
	err = kvs__file_header_get(bytes, &r->header, &cause);
	return err ? kvs__reader_fail(r, err, 0, 0, cause) : KVS_OK;
}

static int read_trailer(struct kvs__reader *r, uint64_t size)
{
	unsigned char bytes[KVS__FILE_TRAILER];
	const char *cause;
	int err;

	if (size < KVS__FILE_HEADER + KVS__FILE_TRAILER)
		return damaged(r, size, "the file ends before its trailer");
	r->end = size - KVS__FILE_TRAILER;
	err = read_at(r, bytes, sizeof(bytes), r->end);
	if (err)
		return err;
	cause = kvs__file_trailer_get(bytes, r->header.id, &r->trailer);
	if (cause)
		return damaged(r, r->end, cause);
	if (r->trailer.file_bytes != size)
		return damaged(r, r->end, "the file has another length than its trailer says");
	if (r->trailer.entries > (r->end - KVS__FILE_HEADER) / KVS__RECORD_MIN)
		return damaged(r, r->end, "the trailer counts more entries than the file can hold");
	return KVS_OK;
}

static int read_ends(struct kvs__reader *r)
{
	struct stat st;
	int err;

	if (kvs__io->fstat(r->fd, &st))
		return failed_io(r, 0, "asking for the file's length");
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
		return failed_io(r, 0, "this is no regular file");
	}
	err = read_header(r, (uint64_t)st.st_size);
	return err ? err : read_trailer(r, (uint64_t)st.st_size);
}

int kvs__reader_open(struct kvs__reader *r, const char *path)
{
	int err;

	memset((void *)r, 0, sizeof(*r));
	(void)pthread_mutex_init(&r->lock, NULL);
	r->offset = KVS__FILE_HEADER;
	/* A pipe must not make us wait for its other end. */
	r->fd = kvs__io_open(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	if (r->fd < 0) {
		err = failed_io(r, 0, "opening the file");
		pthread_mutex_destroy(&r->lock);
		return err;
	}
	err = read_ends(r);
	if (err)
		kvs__reader_close(r);
	return err;
}

void kvs__reader_close(struct kvs__reader *r)
{
	(void)kvs__io->close(r->fd);
	pthread_mutex_destroy(&r->lock);
}

/* ---- pieces ---- */

/*
 * How many bytes at the buffer's start are blocks of whole records, all within @len, and how many blocks. 0: the
 * first is not such a block; @ret_cause says why, NULL if it begins a long record.
 */
static size_t whole_blocks(const unsigned char *buffer, size_t len, uint64_t *ret_blocks,
			   const char **ret_cause)
{
	struct kvs__block_header h;
	const char *cause = "a block goes beyond the end of the file";
	size_t at = 0;

	*ret_blocks = 0;
	while (len - at >= KVS__BLOCK_HEADER) {
		cause = kvs__block_peek(buffer + at, &h);
		if (cause || h.kind == KVS__BLOCK_LONG)
			break;
		if (h.kind == KVS__BLOCK_MORE) {
			cause = "a record goes on that has not begun";
			break;
		}
		cause = "a block goes beyond the end of the file";
		if (h.len > len - at - KVS__BLOCK_HEADER)
			break;
		at += KVS__BLOCK_HEADER + h.len;
		++*ret_blocks;
	}
	*ret_cause = cause;
	return at;
}

/* The first block of a long record: how much follows? @left: bytes of the file from this block on. */
static const char *long_begin(struct kvs__reader *r, struct kvs__piece *p, uint64_t left)
{
	struct kvs__block_header h;
	struct kvs__record record;
	const char *cause = kvs__block_peek(p->buffer, &h);
	uint64_t bytes;

	if (cause)
		return cause;
	if (h.len != KVS__BLOCK_MAX || left < KVS__BLOCK_HEADER + KVS__BLOCK_MAX)
		return "the first block of a long record is not full";
	cause = kvs__block_check(p->buffer, r->header.id, &h, p->index);
	if (!cause)
		cause = kvs__record_get(p->buffer + KVS__BLOCK_HEADER, h.len, &record);
	if (cause)
		return cause;
	bytes = kvs__record_bytes(&record);
	if (bytes <= KVS__BLOCK_MAX || h.records != 1)
		return "the first block of a long record holds all of it";
	p->rest = bytes - KVS__BLOCK_MAX;
	left -= KVS__BLOCK_HEADER + KVS__BLOCK_MAX;
	if (p->rest > left ||
	    (p->rest + KVS__BLOCK_MAX - 1) / KVS__BLOCK_MAX * KVS__BLOCK_HEADER > left - p->rest)
		return "a long record goes beyond the end of the file";
	return NULL;
}

static uint64_t rest_blocks(const struct kvs__piece *p)
{
	return (p->rest + KVS__BLOCK_MAX - 1) / KVS__BLOCK_MAX;
}

/* Under the lock: fill the buffer and move on behind what was taken. */
static const char *take(struct kvs__reader *r, struct kvs__piece *p, size_t len)
{
	const char *cause;
	uint64_t blocks;

	p->len = whole_blocks(p->buffer, len, &blocks, &cause);
	if (p->len == 0 && cause)
		return cause;
	if (p->len == 0) {
		cause = long_begin(r, p, r->end - r->offset);
		if (cause)
			return cause;
		p->len = KVS__BLOCK_HEADER + KVS__BLOCK_MAX;
		blocks = 1 + rest_blocks(p);
	}
	r->offset += p->len + p->rest + rest_blocks(p) * KVS__BLOCK_HEADER;
	r->index += blocks;
	return NULL;
}

int kvs__reader_take(struct kvs__reader *r, struct kvs__piece *p)
{
	const char *cause = NULL;
	uint64_t left;
	size_t len;
	int err = KVS_ERR_NOT_FOUND;

	p->at = 0;
	p->rest = 0;
	p->records = 0;
	p->record = 0;
	p->block_end = 0;
	pthread_mutex_lock(&r->lock);
	left = r->end - r->offset;
	if (left && !load_seq_cst(&r->failed)) {
		len = left < KVS__PIECE_BYTES ? (size_t)left : KVS__PIECE_BYTES;
		p->offset = r->offset;
		p->index = r->index;
		err = kvs__io_read(r->fd, p->buffer, len, p->offset) ? KVS_ERR_IO : KVS_OK;
		if (!err)
			cause = take(r, p, len);
	}
	pthread_mutex_unlock(&r->lock);
	if (err == KVS_ERR_IO)
		return errno ? failed_io(r, p->offset, "reading")
			     : damaged(r, p->offset, "the file has become shorter");
	return cause ? damaged(r, p->offset, cause) : err;
}

/* ---- records ---- */

/* Check the block at p->at, of the kind that belongs there, and step into it. */
static const char *block_enter(struct kvs__reader *r, struct kvs__piece *p)
{
	unsigned char *block = p->buffer + p->at;
	struct kvs__block_header h;
	const char *cause = kvs__block_peek(block, &h);

	if (!cause)
		cause = kvs__block_check(block, r->header.id, &h, p->index);
	if (cause)
		return cause;
	if (h.records == 0)
		return "a block without records";
	p->digest += kvs__digest_of(h.index, h.crc);
	p->index++;
	p->record = p->at + KVS__BLOCK_HEADER;
	p->at = p->record + h.len;
	p->block_end = p->at;
	p->records = h.records;
	return NULL;
}

/* The record at p->record: its head, and where its parts lie. */
static const char *record_enter(struct kvs__piece *p, struct kvs__found *ret)
{
	const unsigned char *at = p->buffer + p->record;
	size_t len = p->block_end - p->record;
	const char *cause = kvs__record_get(at, len, &ret->record);
	uint64_t bytes;
	size_t head;

	if (cause)
		return cause;
	bytes = kvs__record_bytes(&ret->record);
	if (p->rest ? bytes != len + p->rest : bytes > len)
		return "a record goes beyond its block";
	head = kvs__record_head(&ret->record);
	ret->key = at + head;
	ret->value = ret->key + ret->record.key_len;
	ret->value_here = ret->record.value_len - (size_t)p->rest;
	ret->offset = p->offset + p->record;
	p->record += head + ret->record.key_len + ret->value_here;
	p->records--;
	p->entries++;
	if (p->records == 0 && p->record != p->block_end)
		return "a block has more bytes than its records";
	return NULL;
}

int kvs__piece_next(struct kvs__reader *r, struct kvs__piece *p, struct kvs__found *ret)
{
	const char *cause;
	size_t where = p->at;

	if (p->records == 0) {
		if (p->at == p->len)
			return KVS_ERR_NOT_FOUND;
		cause = block_enter(r, p);
		if (cause)
			return damaged(r, p->offset + where, cause);
	}
	where = p->record;
	cause = record_enter(p, ret);
	return cause ? damaged(r, p->offset + where, cause) : KVS_OK;
}

/* ---- the rest of a long record ---- */

static const char *rest_check(struct kvs__reader *r, struct kvs__piece *p,
			      const unsigned char *block, size_t len)
{
	struct kvs__block_header h;
	const char *cause = kvs__block_peek(block, &h);

	if (cause)
		return cause;
	if (h.kind != KVS__BLOCK_MORE || h.len != len || h.records != 0)
		return "a long record is broken off";
	cause = kvs__block_check(block, r->header.id, &h, p->index);
	if (cause)
		return cause;
	p->digest += kvs__digest_of(h.index, h.crc);
	p->index++;
	return NULL;
}

/* Behind the first block, where the key is. */
int kvs__piece_read_rest(struct kvs__reader *r, struct kvs__piece *p, unsigned char *to)
{
	unsigned char *block = p->buffer + p->len;
	uint64_t offset = p->offset + p->len;

	while (p->rest) {
		size_t len = p->rest < KVS__BLOCK_MAX ? (size_t)p->rest : KVS__BLOCK_MAX;
		const char *cause;
		int err = read_at(r, block, KVS__BLOCK_HEADER + len, offset);

		if (err)
			return err;
		cause = rest_check(r, p, block, len);
		if (cause)
			return damaged(r, offset, cause);
		if (to) {
			memcpy(to, block + KVS__BLOCK_HEADER, len);
			to += len;
		}
		offset += KVS__BLOCK_HEADER + len;
		p->rest -= len;
	}
	return KVS_OK;
}

/* ---- the end ---- */

void kvs__piece_done(struct kvs__reader *r, struct kvs__piece *p)
{
	pthread_mutex_lock(&r->lock);
	r->digest += p->digest;
	r->entries += p->entries;
	pthread_mutex_unlock(&r->lock);
}

int kvs__reader_finish(struct kvs__reader *r)
{
	if (load_seq_cst(&r->failed))
		return r->error.code;
	if (r->index != r->trailer.blocks || r->entries != r->trailer.entries ||
	    r->digest != r->trailer.digest)
		return damaged(r, r->end,
			       "the trailer counts other blocks or entries than there are");
	return KVS_OK;
}

/* ---- entry by entry, without a store ---- */

struct kvs_file {
	struct kvs__reader reader;
	struct kvs__piece piece;
	struct kvs_file_error *ret_error; /* NULL: nobody asks */
	unsigned char *value;             /* of a long record */
	int end; /* what ended it: KVS_ERR_NOT_FOUND or an error; 0: not yet */
};

static int answer(struct kvs_file *f, int err)
{
	if (err && err != KVS_ERR_NOT_FOUND && f->ret_error)
		*f->ret_error = f->reader.error;
	return err;
}

KVS_API int kvs_file_open(const char *path, struct kvs_file_error *ret_error,
			  struct kvs_file **ret_file)
{
	struct kvs_file *f;
	int err;

	if (!path || !ret_file)
		return KVS_ERR_INVALID_ARGUMENT;
	f = calloc(1, sizeof(*f));
	if (!f)
		return KVS_ERR_NO_MEMORY;
	f->ret_error = ret_error;
	f->piece.buffer = malloc(KVS__PIECE_BYTES);
	err = KVS_ERR_NO_MEMORY;
	if (f->piece.buffer)
		err = answer(f, kvs__reader_open(&f->reader, path));
	if (err) {
		free(f->piece.buffer);
		free(f);
		return err;
	}
	*ret_file = f;
	return KVS_OK;
}

KVS_API int kvs_file_info(const struct kvs_file *f, struct kvs_file_info *info)
{
	struct kvs_file_info full;

	if (!f || !info || info->size < sizeof(info->size))
		return KVS_ERR_INVALID_ARGUMENT;
	memset(&full, 0, sizeof(full));
	full.file_bytes = f->reader.trailer.file_bytes;
	full.entries = f->reader.trailer.entries;
	full.blocks = f->reader.trailer.blocks;
	full.saved_at_ms = f->reader.header.saved_at_ms;
	memcpy(full.id, f->reader.header.id, sizeof(full.id));
	full.format = KVS__FORMAT_VERSION;
	kvs__sized_fill(info, &full, sizeof(full));
	return KVS_OK;
}

static int value_join(struct kvs_file *f, struct kvs__found *found)
{
	f->value = malloc(found->record.value_len);
	if (!f->value)
		return kvs__reader_fail(&f->reader, KVS_ERR_NO_MEMORY, 0, found->offset,
					"making room for a value");
	memcpy(f->value, found->value, found->value_here);
	found->value = f->value;
	return kvs__piece_read_rest(&f->reader, &f->piece, f->value + found->value_here);
}

/* The next record, whichever piece it is in. */
static int next_found(struct kvs_file *f, struct kvs__found *ret)
{
	int err;

	while ((err = kvs__piece_next(&f->reader, &f->piece, ret)) == KVS_ERR_NOT_FOUND) {
		err = kvs__reader_take(&f->reader, &f->piece);
		if (err)
			return err;
	}
	return err;
}

static int next_item(struct kvs_file *f, struct kvs_item *ret)
{
	struct kvs__found found;
	int err;

	free(f->value);
	f->value = NULL;
	err = next_found(f, &found);
	if (!err && f->piece.rest)
		err = value_join(f, &found);
	if (err)
		return err;
	ret->key = kvs_bytes(found.key, found.record.key_len);
	ret->value.data = found.value;
	ret->value.len = found.record.value_len;
	ret->value.version = found.record.version;
	ret->value.expires_at_ms = found.record.expires_at_ms;
	return KVS_OK;
}

KVS_API int kvs_file_next(struct kvs_file *f, struct kvs_item *ret_item)
{
	int err;

	if (!f || !ret_item)
		return KVS_ERR_INVALID_ARGUMENT;
	if (f->end)
		return answer(f, f->end);
	err = next_item(f, ret_item);
	if (err == KVS_ERR_NOT_FOUND) {
		kvs__piece_done(&f->reader, &f->piece);
		err = kvs__reader_finish(&f->reader);
		err = err ? err : KVS_ERR_NOT_FOUND;
	}
	f->end = err;
	return answer(f, err);
}

KVS_API void kvs_file_close(struct kvs_file *f)
{
	if (!f)
		return;
	kvs__reader_close(&f->reader);
	free(f->piece.buffer);
	free(f->value);
	free(f);
}
