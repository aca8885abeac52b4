/* SPDX-License-Identifier: MIT */
/*
 * files.h - what the tests of snapshot files share: contents that can be made and compared, a
 * directory, damaged files with right checksums, system calls that fail.
 */
#ifndef KVS_TESTS_FILES_H
#define KVS_TESTS_FILES_H

#include "util.h"

#include "io.h"

/* ---- Contents --------------------------------------------------------------------------- */

/* Keys 0 to @count - 1 with values of up to @len_max bytes that depend on key and @tag. */
struct contents {
	uint64_t count;
	uint64_t tag;
	size_t len_max;
};

void contents_set(struct kvs *kv, const struct contents *c);
bool contents_are(struct kvs *kv, const struct contents *c); /* these and no others */
void check_contents(struct kvs *kv, const struct contents *c);

/* A store with one shard and FNV-1a: quick to open and the same in every run. */
struct kvs *small_store(void);

/* contents_save - A new store with @c saved to @path. */
void contents_save(const char *path, const struct contents *c);

/* ---- Directories ------------------------------------------------------------------------ */

#define PATH_ROOM 512

/* dir_main - As util_main, each test with a new directory of its own in test_dir. */
extern char test_dir[PATH_ROOM];
int dir_main(const char *program, const struct CMUnitTest *tests, size_t count);

/* in_dir - The path of @name in it; for one path at a time. */
const char *in_dir(const char *name);

/* dir_make - A new directory, in the way of TMPDIR. dir_remove - With all files in it. */
void dir_make(char room[PATH_ROOM]);
void dir_remove(const char *dir);
const char *dir_path(char room[PATH_ROOM], const char *dir, const char *name);
unsigned dir_count(const char *dir); /* files in it, hidden ones too */

/* dir_find_temp - The name of a temporary file of a save in it. false: there is none. */
bool dir_find_temp(const char *dir, char name[PATH_ROOM]);

/* ---- Bytes ------------------------------------------------------------------------------ */

/* file_read - A file as new memory. file_write - Make or replace it. */
unsigned char *file_read(const char *path, size_t *ret_len);
void file_write(const char *path, const void *bytes, size_t len);

/* bytes_load - Load @bytes as a file of memfs. */
int bytes_load(struct kvs *kv, const void *bytes, size_t len, struct kvs_file_error *ret_error);

/*
 * bytes_seal - Make every checksum right again, and the digest: what can be damaged beyond them. Blocks
 * are followed as far as their lengths lead.
 */
void bytes_seal(unsigned char *bytes, size_t len);

/* ---- System calls that fail -------------------------------------------------------------- */

/* The system calls of the table that was in use, of which one fails. */
struct faults {
	_Atomic int64_t left; /* calls that succeed before; negative: none fails */
	int error;            /* errno; 0: a short read or write */
	_Atomic uint64_t calls;
	_Atomic uint64_t injected;
	const char *name; /* of the call that failed */
};

/* faults_use - From now on. faults_leave - The table that was in use before. */
void faults_use(struct faults *f);
void faults_leave(void);

#endif /* KVS_TESTS_FILES_H */
