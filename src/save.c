/* SPDX-License-Identifier: MIT */
/*
 * save.c - a snapshot to a file. This comment specifies the file; kvs-snapshot(5) says the same for users.
 *
 * FORMAT, VERSION 1
 *
 * Numbers are little-endian and unsigned; CRC-32 is that of IEEE 802.3, as zlib has it. A file is a header,
 * blocks one behind the other, a trailer, and nothing else.
 *
 *   header, 64 bytes             block, 48 bytes + payload         trailer, 64 bytes
 *    0  4  "KVS1"                 0  4  "KVSB"                      0  4  "KVSE"
 *    4  4  format version, 1      4  4  kind                        4  4  0
 *    8  4  64                     8 16  snapshot id                 8 16  snapshot id
 *   12  4  features, 0           24  8  index: 0, 1, 2, ...        24  8  number of blocks
 *   16 16  snapshot id           32  4  bytes of payload           32  8  number of entries
 *   32  8  time of the save      36  4  records that begin here    40  8  bytes of the file
 *   40 20  0                     40  4  0                          48  8  digest
 *   60  4  CRC of bytes 0..59    44  4  CRC of bytes 0..43         56  4  CRC of bytes 0..55
 *                                       and the payload            60  4  "1SVK"
 *                                48     payload, 1 to 131,072 bytes
 *
 *   record: the payload of blocks
 *    0  2  key length
 *    2  2  flags: 1 the entry expires; the rest is 0
 *    4  4  value length, at most 2^30 - 1
 *    8  8  version of the entry, 1 to 2^56 - 1
 *   16  8  only with flag 1: when it expires, not 0
 *          key, value
 *
 * Kinds of block: 1, whole records, one at least. 2, the beginning of one record that does not fit a block;
 * its other bytes follow in blocks of kind 3. All blocks of such a record but the last are full. So a reader
 * that has checked the first knows how many follow and how long they are.
 *
 * Times are milliseconds since 1970 by the wall clock. The snapshot id is 128 random bits, the same all
 * through the file and in no other. The digest is the sum over all blocks of mix(mix(index) + CRC), modulo 2^64, where mix is
 * kvs__mix64() in hash.h. Entries come in no order, and each key once. Fields given as 0 are written so and not looked at,
 * but for features: a bit there, or a higher version, means that only a newer reader understands the file. Whatever else changes
 * in later versions, a file will begin with "KVS1", the version, and the CRC of bytes 0 to 59 at 60.
 *
 * WHY THESE  A block's CRC finds every burst of up to 32 bits and any two flipped bits in it; index and id find
 * blocks that were lost, doubled, swapped or brought in from another file; the trailer's counts and digest, what
 * was cut off or added. Against someone who forges a file none of this helps: the reader checks every length
 * against the bytes that are left all the same.
 *
 * HOW A FILE COMES TO BE (G7: after a crash at any instant the old file is there or the new one, whole)
 *
 *   1. .NAME.<16 random hex digits>.tmp is made beside NAME, with O_EXCL and, whatever the umask, mode 0600, and
 *      locked by flock().
 *   2. A snapshot is begun. Each thread walks a part of it and fills a buffer with blocks; when it is full the
 *      thread draws the next indices and the next place in the file, and writes there.
 *   3. The snapshot ends; the trailer is written; fsync. If that fails the file is given up: what a second fsync
 *      would say is worth nothing, since the kernel forgets what it could not write. If no fsync is wanted, a second
 *      descriptor is closed in its place, since close may fail for what was written before, too.
 *   4. rename() to NAME, fsync of the directory.
 *
 * A temporary file that its saver left behind by dying is removed by the next save to NAME: it has the name's pattern, is
 * a regular file of our user, and nobody holds its lock. A saver that finds its new file locked or gone, because a sweep
 * came in between, makes another.
 *
 * To keep what is replaced as NAME.prev, between 3 and 4: link() gives NAME's file a second name of the same pattern, rename()
 * makes that NAME.prev, fsync of the directory. So there is a NAME.prev at every instant if there was one, and NAME is not
 * replaced before the disk has it under NAME.prev. After a crash in between, both are one file, or the second name is
 * left over: NAME has its file too, and the next save sweeps it, but not if NAME is a link, another user's or one that
 * cannot be read. If there is no NAME, NAME.prev, which may be the last copy, stays. Of two savers to one NAME at once each succeeds, and NAME.prev is a file that one of them found.
 *
 * A child that is forked off in the progress function has copies of the descriptors, but the file is its parent's, and so
 * are the snapshot and the threads. If it returns from there its save ends with KVS_ERR_BUSY, and does nothing but close them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format.h"
#include "io.h"
#include "options.h"
#include "snapshot.h"
#include "store.h"

#define BLOCKS 8u /* that a thread fills before it writes them */
#define BUFFER ((size_t)BLOCKS * (KVS__BLOCK_HEADER + KVS__BLOCK_MAX))
#define BLOCK_GOAL ((size_t)64 << 10) /* payload after which a block is not begun anew */
#define TWO_THREADS_FROM 100000u      /* entries */
#define TEMP_DIGITS 16u
#define TEMP_END ".tmp"
#define TEMP_EXTRA (2 + TEMP_DIGITS + 4) /* characters of a temporary name beyond those of NAME */
#define TEMP_TRIES 16u
#define PREVIOUS ".prev"

struct save {
	struct kvs *kv;
	struct kvs_save_options opts;
	struct kvs_snapshot *snapshot;
	struct kvs__file_header header;
	/* the file */
	char dir_name[PATH_MAX];
	char name[NAME_MAX + 1];
	char temp[NAME_MAX + 1]; /* "" if there is none */
	char previous[NAME_MAX + 1];
	int dir;
	int fd;
	/* whose all this is */
	pid_t process;
	uint32_t forks;  /* of the store's, when the save began */
	bool is_parents; /* this process is a child of the one that began */
	/* what the threads share */
	pthread_mutex_t lock;
	uint64_t index;              /* of the next block (l) lock */
	uint64_t offset;             /* of the next block (l) lock */
	uint64_t digest;             /* (l) lock */
	uint64_t entries;            /* (l) lock */
	struct kvs_file_error error; /* the first one (l) lock */
	kvs__u32 failed;             /* (a) */
	kvs__u64 done;               /* entries written (s) */
	uint64_t total;              /* entries expected */
};

/* One thread's part. */
struct pen {
	struct save *save;
	struct kvs_snapshot_part *part;
	unsigned char *buffer;
	unsigned char *object; /* a store of objects: one, encoded */
	size_t object_room;
	size_t used;      /* bytes of closed blocks */
	size_t fill;      /* bytes of the open block's payload */
	uint32_t records; /* in the open block */
	unsigned blocks;  /* closed */
	struct kvs__block_header header[BLOCKS];
	uint64_t entries; /* in all */
	uint64_t counted; /* of these, in save->done */
	uint64_t digest;
	bool is_caller;
	pthread_t thread;
	bool runs;
};

/* ---- errors ---- */

/* The first one stays. Returns false. */
static bool fail(struct save *s, int code, int system_error, uint64_t offset, const char *cause)
{
	pthread_mutex_lock(&s->lock);
	if (!s->error.code)
		s->error = (struct kvs_file_error){ code, system_error, offset, cause };
	pthread_mutex_unlock(&s->lock);
	store_seq_cst(&s->failed, 1);
	return false;
}

/* A system call said no. */
static bool fail_io(struct save *s, uint64_t offset, const char *cause)
{
	return fail(s, KVS_ERR_IO, errno, offset, cause);
}

/*
 * The program's function was called. Did it fork, and is this the child? Then what the threads share stays as it is: they are
 * not here, and one of them may have held the lock. true: go on.
 */
static bool is_still_ours(struct save *s)
{
	if (getpid() == s->process && load_seq_cst(&s->kv->forks) == s->forks)
		return true;
	s->is_parents = true;
	s->temp[0] = '\0';
	s->error = (struct kvs_file_error){
		KVS_ERR_BUSY, 0, 0, "the save is that of the process which this one was forked from"
	};
	store_seq_cst(&s->failed, 1);
	return false;
}

/* ---- names ---- */

static bool name_is_usable(const char *name)
{
	return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Cut @path into directory and name. */
static int names_take(struct save *s, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t dir_len = slash ? (size_t)(slash - path) + 1 : 0;

	if (!name_is_usable(name))
		return KVS_ERR_INVALID_ARGUMENT;
	if (dir_len >= sizeof(s->dir_name) || strlen(name) + TEMP_EXTRA > NAME_MAX) {
		errno = ENAMETOOLONG;
		fail_io(s, 0, "the name is too long for a temporary one beside it");
		return KVS_ERR_IO;
	}
	memcpy(s->dir_name, path, dir_len);
	memcpy(s->dir_name + dir_len, dir_len ? "" : ".", dir_len ? 1 : 2);
	memcpy(s->name, name, strlen(name) + 1);
	memcpy(s->previous, name, strlen(name));
	memcpy(s->previous + strlen(name), PREVIOUS, sizeof(PREVIOUS));
	return KVS_OK;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Is @entry a name that a save of @name gives its temporary file? */
static bool is_temp_of(const char *entry, const char *name)
{
	size_t len = strlen(name);
	unsigned i;

	if (strlen(entry) != len + TEMP_EXTRA || entry[0] != '.' ||
	    memcmp(entry + 1, name, len) != 0)
		return false;
	entry += 1 + len;
	if (*entry++ != '.')
		return false;
	for (i = 0; i < TEMP_DIGITS; i++)
		if (!is_hex(*entry++))
			return false;
	return strcmp(entry, TEMP_END) == 0;
}

/* ---- what dead savers left ---- */

/* A dead saver's, and still the file of that name? Then nobody else makes it his: its maker never reopens it. */
static bool is_left(const struct save *s, const char *entry, int fd)
{
	struct stat opened;
	struct stat named;

	return kvs__io->fstat(fd, &opened) == 0 && S_ISREG(opened.st_mode) &&
	       opened.st_uid == geteuid() && kvs__io_lock(fd) == 0 &&
	       kvs__io->fstatat(s->dir, entry, &named) == 0 && named.st_dev == opened.st_dev &&
	       named.st_ino == opened.st_ino;
}

static void sweep_one(const struct save *s, const char *entry)
{
	int fd = kvs__io_open(s->dir, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);

	if (fd < 0)
		return;
	if (is_left(s, entry, fd))
		(void)kvs__io->unlinkat(s->dir, entry);
	(void)kvs__io->close(fd);
}

/* As the kernel gives them. */
struct directory_entry {
	uint64_t inode;
	int64_t next;
	unsigned short len;
	unsigned char type;
	char name[];
};

/* Tidying up: what fails here is no reason not to save. */
static void sweep(const struct save *s)
{
	_Alignas(struct directory_entry) char entries[4096];
	int fd = kvs__io_open(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	ssize_t got;

	if (fd < 0)
		return;
	while ((got = kvs__io->getdents(fd, entries, sizeof(entries))) > 0) {
		const char *at = entries;

		while (at < entries + got) {
			struct directory_entry e;

			memcpy(&e, at, offsetof(struct directory_entry, name));
			if (is_temp_of(at + offsetof(struct directory_entry, name), s->name))
				sweep_one(s, at + offsetof(struct directory_entry, name));
			at += e.len;
		}
	}
	(void)kvs__io->close(fd);
}

/* ---- the temporary file ---- */

/* Draw a name by which the sweep knows a file as ours. */
static bool temp_name(struct save *s, char ret_name[NAME_MAX + 1])
{
	uint64_t random;

	if (kvs__io_random(&random, sizeof(random)))
		return fail_io(s, 0, "drawing a random name");
	(void)snprintf(ret_name, NAME_MAX + 1, ".%.*s.%016llx%s", (int)strlen(s->name), s->name,
		       (unsigned long long)random, TEMP_END);
	return true;
}

/* Locked, and not swept before that? A file system without locks will do: nobody sweeps there. */
static bool temp_is_held(const struct save *s)
{
	struct stat st;

	if (kvs__io_lock(s->fd) && errno == EWOULDBLOCK)
		return false;
	return kvs__io->fstat(s->fd, &st) || st.st_nlink > 0;
}

static void temp_close(struct save *s)
{
	if (s->fd >= 0)
		(void)kvs__io->close(s->fd);
	s->fd = -1;
}

static void temp_remove(struct save *s)
{
	if (s->temp[0])
		(void)kvs__io->unlinkat(s->dir,
					s->temp); /* first: what is closed is for anyone to sweep */
	s->temp[0] = '\0';
	temp_close(s);
}

static bool temp_make(struct save *s)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	unsigned tries;

	for (tries = 0; tries < TEMP_TRIES; tries++) {
		if (!temp_name(s, s->temp)) {
			s->temp[0] = '\0';
			return false;
		}
		s->fd = kvs__io_open(s->dir, s->temp, flags, 0600);
		if (s->fd < 0 && errno != EEXIST) {
			s->temp[0] = '\0';
			return fail_io(s, 0, "making a temporary file beside the target");
		}
		if (s->fd >= 0 && temp_is_held(s))
			return true;
		temp_close(s);
	}
	s->temp[0] = '\0';
	return fail_io(s, 0, "finding a name for the temporary file");
}

/*
 * A umask may have taken of the mode that it was made with, and a sweep must be able to open it. Where files have whatever
 * mode the mount gives them, and none can be set, there is nothing to do.
 */
static bool temp_mode(struct save *s)
{
	struct stat st;

	if (kvs__io->fstat(s->fd, &st) == 0 && (st.st_mode & 0600) == 0600)
		return true;
	return kvs__io->fchmod(s->fd, 0600) == 0 || fail_io(s, 0, "setting the file's mode");
}

static bool file_open(struct save *s)
{
	s->dir = kvs__io_open(AT_FDCWD, s->dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (s->dir < 0)
		return fail_io(s, 0, "opening the directory");
	sweep(s);
	if (kvs__io_random(s->header.id, sizeof(s->header.id)))
		return fail_io(s, 0, "drawing the snapshot id");
	return temp_make(s) && temp_mode(s);
}

/* The cut has just been made. */
static bool header_write(struct save *s)
{
	unsigned char header[KVS__FILE_HEADER];

	s->header.saved_at_ms = kvs__snapshot_made_at(s->snapshot);
	kvs__file_header_put(header, &s->header);
	if (kvs__io_write(s->fd, header, sizeof(header), 0))
		return fail_io(s, 0, "writing the header");
	s->offset = sizeof(header);
	return true;
}

/* ---- blocks ---- */

static unsigned char *block_at(const struct pen *p)
{
	return p->buffer + p->used;
}

/* Close the open block. Its header is made when its index is known. */
static void block_close(struct pen *p)
{
	if (!p->fill)
		return;
	p->header[p->blocks++] = (struct kvs__block_header){
		.kind = KVS__BLOCK_RECORDS,
		.len = (uint32_t)p->fill,
		.records = p->records,
	};
	p->used += KVS__BLOCK_HEADER + p->fill;
	p->fill = 0;
	p->records = 0;
}

/* The next place in the file, for @blocks blocks of @bytes bytes together. */
static void reserve(struct save *s, uint64_t blocks, uint64_t bytes, uint64_t *ret_index,
		    uint64_t *ret_offset)
{
	pthread_mutex_lock(&s->lock);
	*ret_index = s->index;
	*ret_offset = s->offset;
	s->index += blocks;
	s->offset += bytes;
	pthread_mutex_unlock(&s->lock);
}

/* Number and seal the closed blocks, and write them. */
static bool blocks_write(struct pen *p, uint64_t index, uint64_t offset)
{
	unsigned char *at = p->buffer;
	unsigned i;

	for (i = 0; i < p->blocks; i++) {
		struct kvs__block_header *h = &p->header[i];

		h->index = index + i;
		kvs__block_put(at, p->save->header.id, h);
		p->digest += kvs__digest_of(h->index, h->crc);
		at += KVS__BLOCK_HEADER + h->len;
	}
	if (kvs__io_write(p->save->fd, p->buffer, p->used, offset))
		return fail_io(p->save, offset, "writing blocks");
	/* The disk works while we walk. A hint: whether it has worked, fsync will say. */
	if (!(p->save->opts.flags & KVS_SAVE_NO_FSYNC))
		(void)kvs__io->write_behind(p->save->fd, offset, p->used);
	p->blocks = 0;
	p->used = 0;
	return true;
}

static bool progress(struct pen *p)
{
	struct save *s = p->save;
	uint64_t done;
	int answer;

	fetch_add_relaxed(&s->done, p->entries - p->counted);
	p->counted = p->entries;
	if (!p->is_caller || !s->opts.progress)
		return true;
	done = load_relaxed(&s->done);
	answer = s->opts.progress(done, done < s->total ? s->total : done, s->opts.progress_arg);
	if (!is_still_ours(s))
		return false;
	return !answer || fail(s, answer, 0, 0, "the progress callback ended the save");
}

static bool flush(struct pen *p)
{
	uint64_t index;
	uint64_t offset;

	block_close(p);
	if (!p->blocks)
		return true;
	reserve(p->save, p->blocks, p->used, &index, &offset);
	return blocks_write(p, index, offset) && progress(p);
}

/* ---- records ---- */

static void copy(unsigned char *to, const void *from, size_t len)
{
	if (len)
		memcpy(to, from, len);
}

static bool record_write_short(struct pen *p, const struct kvs__record *r,
			       const struct kvs_item *item)
{
	size_t bytes = (size_t)kvs__record_bytes(r);
	unsigned char *to;

	if (p->fill >= BLOCK_GOAL || p->fill + bytes > KVS__BLOCK_MAX)
		block_close(p);
	if (p->blocks == BLOCKS && !flush(p))
		return false;
	to = block_at(p) + KVS__BLOCK_HEADER + p->fill;
	to += kvs__record_put(to, r);
	copy(to, item->key.data, item->key.len);
	copy(to + item->key.len, item->value.data, item->value.len);
	p->fill += bytes;
	p->records++;
	return true;
}

/* Bytes @from to @from + @len of head, key and value laid together. */
static void gather(unsigned char *to, const struct kvs_slice part[3], uint64_t from, size_t len)
{
	unsigned i;

	for (i = 0; i < 3 && len; i++) {
		size_t n;

		if (from >= part[i].len) {
			from -= part[i].len;
			continue;
		}
		n = part[i].len - from < len ? part[i].len - from : len;
		memcpy(to, (const char *)part[i].data + from, n);
		to += n;
		len -= n;
		from = 0;
	}
}

static bool record_write_long(struct pen *p, const struct kvs__record *r,
			      const struct kvs_item *item)
{
	unsigned char head[KVS__RECORD_MAX];
	uint64_t total = kvs__record_bytes(r);
	uint64_t blocks = (total + KVS__BLOCK_MAX - 1) / KVS__BLOCK_MAX;
	struct kvs_slice part[3] = { kvs_bytes(head, kvs__record_put(head, r)), item->key,
				     kvs_bytes(item->value.data, item->value.len) };
	uint64_t index;
	uint64_t offset;
	uint64_t at;

	if (!flush(p))
		return false;
	reserve(p->save, blocks, total + blocks * KVS__BLOCK_HEADER, &index, &offset);
	for (at = 0; at < total; at += p->fill) {
		p->fill = total - at < KVS__BLOCK_MAX ? (size_t)(total - at) : KVS__BLOCK_MAX;
		gather(block_at(p) + KVS__BLOCK_HEADER, part, at, p->fill);
		p->header[p->blocks++] = (struct kvs__block_header){
			.kind = at ? KVS__BLOCK_MORE : KVS__BLOCK_LONG,
			.len = (uint32_t)p->fill,
			.records = at == 0,
		};
		p->used += KVS__BLOCK_HEADER + p->fill;
		if (p->blocks == BLOCKS || at + p->fill == total) {
			uint64_t n = p->blocks;
			uint64_t bytes = p->used;

			if (load_seq_cst(&p->save->failed) || !blocks_write(p, index, offset))
				return false;
			index += n;
			offset += bytes;
		}
	}
	p->fill = 0;
	return true;
}

static bool object_make_room(struct pen *p, size_t need)
{
	struct kvs__mem *mem = &p->save->kv->pool.mem;

	if (need > KVS_VALUE_MAX)
		return fail(p->save, KVS_ERR_VALUE_TOO_LARGE, 0, 0, "encoding an object");
	kvs__mem_free(mem, p->object, p->object_room);
	p->object = kvs__mem_alloc(mem, need);
	p->object_room = p->object ? need : 0;
	return p->object ||
	       fail(p->save, KVS_ERR_NO_MEMORY, 0, 0, "making room for an encoded object");
}

/* In a store of objects: the item with its value's bytes in the place of the object. */
static bool encode(struct pen *p, struct kvs_item *item)
{
	const struct kvs_type *type = &p->save->kv->pool.type;
	struct kvs_value *v = &item->value;
	size_t n = type->encode(v->data, v->len, p->object, p->object_room, type->ctx);

	while (n > p->object_room) {
		if (!object_make_room(p, n))
			return false;
		n = type->encode(v->data, v->len, p->object, p->object_room, type->ctx);
	}
	v->data = p->object;
	v->len = n;
	return true;
}

static bool item_write(struct pen *p, const struct kvs_item *item)
{
	struct kvs__record r = {
		.version = item->value.version,
		.expires_at_ms = item->value.expires_at_ms,
		.key_len = (uint32_t)item->key.len,
		.value_len = (uint32_t)item->value.len,
	};

	p->entries++;
	if (kvs__record_bytes(&r) > KVS__BLOCK_MAX)
		return record_write_long(p, &r, item) && progress(p);
	return record_write_short(p, &r, item);
}

/* ---- a thread ---- */

static void pen_walk(struct pen *p)
{
	struct save *s = p->save;
	struct kvs_item item;
	int err = KVS_OK;

	while (!load_seq_cst(&s->failed) && (err = kvs_snapshot_next(p->part, &item)) == KVS_OK)
		if ((kvs__pool_is_typed(&s->kv->pool) && !encode(p, &item)) ||
		    !item_write(p, &item))
			return;
	if (err && err != KVS_ERR_NOT_FOUND)
		fail(s, err, 0, 0, "walking the snapshot");
	else if (!load_seq_cst(&s->failed))
		(void)flush(p);
}

static void pen_free(struct pen *p)
{
	const struct kvs__mem *mem = &p->save->kv->pool.mem;

	kvs__mem_free(mem, p->buffer, BUFFER);
	kvs__mem_free(mem, p->object, p->object_room);
}

static void pen_release(struct pen *p)
{
	struct save *s = p->save;

	kvs_snapshot_part_end(p->part);
	pen_free(p);
	pthread_mutex_lock(&s->lock);
	s->entries += p->entries;
	s->digest += p->digest;
	pthread_mutex_unlock(&s->lock);
}

static void *pen_thread(void *arg)
{
	pen_walk(arg);
	return NULL;
}

static bool pen_take(struct pen *p, struct save *s)
{
	memset(p, 0, sizeof(*p));
	p->save = s;
	p->buffer = kvs__mem_alloc(&s->kv->pool.mem, BUFFER);
	if (!p->buffer)
		return false;
	if (kvs_snapshot_part_begin(s->snapshot, &p->part) == KVS_OK)
		return true;
	kvs__mem_free(&s->kv->pool.mem, p->buffer, BUFFER);
	return false;
}

static unsigned threads_wanted(const struct save *s)
{
	if (s->opts.threads)
		return s->opts.threads;
	if (s->kv->flags & KVS_OPEN_NO_THREADS)
		return 1;
	return s->total >= TWO_THREADS_FROM && sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1;
}

/* Helpers are welcome, but only the caller's own part is needed. */
static bool walk(struct save *s)
{
	struct pen pen[KVS_FILE_THREADS_MAX];
	unsigned wanted = threads_wanted(s);
	unsigned n = 0;
	unsigned i;

	if (!pen_take(&pen[n], s))
		return fail(s, KVS_ERR_NO_MEMORY, 0, 0, "making buffers");
	pen[n++].is_caller = true;
	while (n < wanted && pen_take(&pen[n], s)) {
		pen[n].runs = kvs__thread_start(&pen[n].thread, "kvs-save", pen_thread, &pen[n]);
		n++;
	}
	pen_walk(&pen[0]);
	if (s->is_parents) {
		pen_free(&pen[0]); /* the others' threads may have been freeing theirs */
		return false;
	}
	for (i = 0; i < n; i++) {
		if (pen[i].runs)
			kvs__thread_join(pen[i].thread);
		pen_release(&pen[i]);
	}
	return !load_seq_cst(&s->failed);
}

/* ---- the whole ---- */

static bool snapshot_write(struct save *s)
{
	struct kvs_snapshot_options o = KVS_SNAPSHOT_OPTIONS_INIT;
	uint64_t count = 0;
	bool good;
	int err;

	o.max_memory = s->opts.max_memory;
	kvs__clock_sync(&s->kv->clock); /* the cut's expiries are by what it finds */
	err = kvs_snapshot_begin(s->kv, &o, &s->snapshot);
	if (err)
		return fail(s, err, 0, 0, "beginning a snapshot");
	(void)kvs_len(s->kv, &s->total);
	good = header_write(s) && walk(s);
	if (s->is_parents)
		return false;
	err = kvs_snapshot_end(s->snapshot, &count);
	if (err)
		return fail(s, err, 0, 0, "ending the snapshot");
	KVS_ASSERT(!good || count == s->entries);
	return good;
}

static bool trailer_write(struct save *s)
{
	unsigned char bytes[KVS__FILE_TRAILER];
	struct kvs__file_trailer t = {
		.blocks = s->index,
		.entries = s->entries,
		.file_bytes = s->offset + KVS__FILE_TRAILER,
		.digest = s->digest,
	};
	int answer;

	kvs__file_trailer_put(bytes, s->header.id, &t);
	if (kvs__io_write(s->fd, bytes, sizeof(bytes), s->offset))
		return fail_io(s, s->offset, "writing the trailer");
	if (!s->opts.progress)
		return true;
	answer = s->opts.progress(s->entries, s->entries, s->opts.progress_arg);
	if (!is_still_ours(s))
		return false;
	return !answer || fail(s, answer, 0, 0, "the progress callback ended the save");
}

static bool directory_sync(struct save *s, const char *cause)
{
	return kvs__io->fsync(s->dir) == 0 || errno == EINVAL || fail_io(s, 0, cause);
}

/* One attempt. 0, or -1 with errno; ENOENT: there is nothing to keep, or a sweep took the second name. */
static int previous_link(struct save *s, const char *second)
{
	int error;

	if (kvs__io->linkat(s->dir, s->name, second))
		return -1;
	error = kvs__io->renameat(s->dir, second, s->previous) ? errno : 0;
	/* it is there still if the rename failed, or had nothing to do because both were one file already */
	(void)kvs__io->unlinkat(s->dir, second);
	errno = error;
	return error ? -1 : 0;
}

static bool name_is_there(const struct save *s)
{
	struct stat st;

	return kvs__io->fstatat(s->dir, s->name, &st) == 0 || errno != ENOENT;
}

static bool previous_keep(struct save *s)
{
	char second[NAME_MAX + 1];
	unsigned tries;

	for (tries = 0; tries < TEMP_TRIES; tries++) {
		if (!temp_name(s, second))
			return false;
		if (previous_link(s, second) == 0)
			return true;
		if (errno == ENOENT && !name_is_there(s))
			return true;
		if (errno != ENOENT && errno != EEXIST)
			break;
	}
	return fail_io(s, 0, "keeping the previous file by a second name");
}

/*
 * Without fsync close is the first to tell of a write that failed late, by a quota or a server, and it must be heard
 * before the rename. Any descriptor's close will tell; the lock, which all share, stays.
 */
static bool data_handed_over(struct save *s)
{
	int copy = kvs__io->dup(s->fd);

	if (copy < 0)
		return fail_io(s, 0, "duplicating the descriptor");
	return kvs__io->close(copy) == 0 || fail_io(s, 0, "closing the file");
}

static bool data_sync(struct save *s)
{
	return kvs__io->fsync(s->fd) == 0 || fail_io(s, 0, "fsync");
}

static bool file_finish(struct save *s)
{
	bool syncs = !(s->opts.flags & KVS_SAVE_NO_FSYNC);

	if (s->opts.mode && kvs__io->fchmod(s->fd, (mode_t)s->opts.mode))
		return fail_io(s, 0, "setting the file's mode");
	if (!(syncs ? data_sync(s) : data_handed_over(s)))
		return false;
	if (s->opts.flags & KVS_SAVE_KEEP_PREVIOUS &&
	    (!previous_keep(s) ||
	     (syncs && !directory_sync(s, "fsync for the previous file's new name"))))
		return false;
	if (kvs__io->renameat(s->dir, s->temp, s->name))
		return fail_io(s, 0, "renaming the temporary file");
	s->temp[0] = '\0';
	temp_close(s); /* the lock ends; nothing is left to be written that this could fail for */
	if (syncs)
		(void)directory_sync(
			s,
			"fsync of the directory; the new file is in place, but a power failure may take it back");
	return !s->error.code;
}

static void save_run(struct save *s)
{
	if (!file_open(s) || !snapshot_write(s) || !trailer_write(s) || !file_finish(s))
		temp_remove(s);
	if (s->dir >= 0)
		(void)kvs__io->close(s->dir);
}

static int options_read(const struct kvs_save_options *opts, struct kvs_save_options *ret)
{
	*ret = (struct kvs_save_options)KVS_SAVE_OPTIONS_INIT;
	if (opts && !kvs__sized_copy(ret, sizeof(*ret), opts, opts->size))
		return KVS_ERR_INVALID_ARGUMENT;
	if (ret->flags & ~(KVS_SAVE_NO_FSYNC | KVS_SAVE_KEEP_PREVIOUS) || ret->mode & ~0777u ||
	    ret->threads > KVS_FILE_THREADS_MAX || ret->unused)
		return KVS_ERR_INVALID_ARGUMENT;
	return KVS_OK;
}

static int refused(struct kvs *kv, const char *path)
{
	if (!kv || !path)
		return KVS_ERR_INVALID_ARGUMENT;
	if (!load_seq_cst(&kv->root))
		return KVS_ERR_STORE_CLOSED;
	if (kvs__pool_is_typed(&kv->pool) && !kv->pool.type.encode)
		return KVS_ERR_TYPED;
	return kvs__waiting_call_refused(kv);
}

static int save(struct save *s, const char *path)
{
	int err = names_take(s, path);

	if (!err)
		save_run(s);
	if (err && !s->error.code)
		s->error = (struct kvs_file_error){ err, 0, 0, "the path names no file" };
	if (s->error.code && s->opts.error)
		*s->opts.error = s->error;
	return s->error.code;
}

KVS_API int kvs_save(struct kvs *kv, const char *path, const struct kvs_save_options *opts)
{
	struct kvs_save_options o;
	struct save *s;
	int err = refused(kv, path);

	if (!err)
		err = options_read(opts, &o);
	if (err)
		return err;
	s = kvs__mem_zalloc(&kv->pool.mem, sizeof(*s));
	if (!s)
		return KVS_ERR_NO_MEMORY;
	s->kv = kv;
	s->opts = o;
	s->process = getpid();
	s->forks = load_seq_cst(&kv->forks);
	s->dir = -1;
	s->fd = -1;
	(void)pthread_mutex_init(&s->lock, NULL);
	err = save(s, path);
	pthread_mutex_destroy(&s->lock);
	kvs__mem_free(&kv->pool.mem, s, sizeof(*s));
	return err;
}
