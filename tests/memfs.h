/* SPDX-License-Identifier: MIT */
/*
 * memfs.h - a file system in memory behind the library's I/O hooks (src/io.h): one directory, called
 * "/memfs", of regular files. It keeps a log of all that changes it, from which the states can be
 * made in which a power failure may leave a disk.
 *
 * What a disk may hold after a power failure at a given point of the log:
 *   data   writes before the last fsync of their file are there. Each later one may be there, absent (its place
 *          then reads as zeros, if the file's length reached beyond), zero-filled, or there up to a sector.
 *   names  changes of the directory before its last fsync are there. Of the later ones any subset.
 */
#ifndef KVS_TESTS_MEMFS_H
#define KVS_TESTS_MEMFS_H

#include "util.h"

#include "io.h"

#define MEMFS_DIR "/memfs"
#define MEMFS_SECTOR 512u

extern const struct kvs__io memfs_io;

/* memfs_use - An empty file system takes the place of the system calls. memfs_leave - And goes. */
void memfs_use(void);
void memfs_leave(void);

/* memfs_put - Make or replace a file, durably. memfs_get - Its bytes, the file system's own; NULL: there is none. */
void memfs_put(const char *name, const void *bytes, size_t len);
const unsigned char *memfs_get(const char *name, size_t *ret_len);
unsigned memfs_files(void); /* how many names there are */
unsigned memfs_mode(const char *name);

/* memfs_log_length - Changes so far. memfs_log_clear - All is durable now, the log starts anew. */
size_t memfs_log_length(void);
void memfs_log_clear(void);

/* One state of the disk. */
struct memfs_state {
	size_t cut;     /* changes that had been made */
	unsigned names; /* bit i: the i-th change of names that fsync does not cover is there */
	unsigned data;  /* enum below */
	size_t which; /* the write that data speaks of, counted among those that fsync does not cover */
	size_t sectors; /* of that write: MEMFS_CUT */
};

enum memfs_data {
	MEMFS_ALL,     /* every write is there */
	MEMFS_NONE,    /* none is */
	MEMFS_LENGTH,  /* none is, but the file has its length: zeros */
	MEMFS_BEFORE,  /* those before @which are, the others are not */
	MEMFS_WITHOUT, /* all but @which */
	MEMFS_ZEROED,  /* all, but @which is zeros */
	MEMFS_CUT,     /* all before @which, and of it the first @sectors sectors */
};

/* memfs_each_state - Call @fn with the file system in each state; afterwards it is as it was. Returns how many. */
uint64_t memfs_each_state(void (*fn)(const struct memfs_state *state, void *arg), void *arg);

#endif /* KVS_TESTS_MEMFS_H */
