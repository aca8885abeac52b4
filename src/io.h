/* SPDX-License-Identifier: MIT */
/*
 * io.h - every system call that saving and loading make, behind one table of functions.
 *
 * kvs__io points to the table in use, normally the one of the system calls. Tests put theirs in its
 * place: one that lets the n-th call fail, one that records what a disk would have seen, one that
 * keeps files in memory. It is changed only while no save and no load is under way.
 *
 * Each function answers as its system call does: -1 and errno. They are called from any thread.
 */
#ifndef KVS_IO_H
#define KVS_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct kvs__io {
	int (*openat)(int dir, const char *path, int flags, mode_t mode);
	int (*fstat)(int fd, struct stat *ret);
	int (*fstatat)(int dir, const char *path, struct stat *ret); /* of a symbolic link itself */
	ssize_t (*pread)(int fd, void *to, size_t len, uint64_t offset);
	ssize_t (*pwrite)(int fd, const void *from, size_t len, uint64_t offset);
	int (*write_behind)(int fd, uint64_t offset,
			    size_t len); /* begin to write it to disk, wait for nothing */
	int (*fchmod)(int fd, mode_t mode);
	int (*fsync)(int fd);
	int (*dup)(int fd);
	int (*close)(int fd);
	int (*flock)(int fd, int operation);
	int (*linkat)(int dir, const char *from, const char *to);
	int (*renameat)(int dir, const char *from, const char *to);
	int (*unlinkat)(int dir, const char *path);
	ssize_t (*getdents)(int fd, void *to,
			    size_t len); /* struct linux_dirent64, as getdents64(2) */
	ssize_t (*getrandom)(void *to, size_t len);
};

extern const struct kvs__io *kvs__io;
extern const struct kvs__io kvs__io_system;

/* The same, again after EINTR. Calls that are not here are not repeated: fsync and close say their word once. */
int kvs__io_open(int dir, const char *path, int flags, mode_t mode);
int kvs__io_lock(int fd);

/* kvs__io_read - Read @len bytes at @offset, whatever pieces they come in; 0, or -1 with errno, 0 at the file's end. */
int kvs__io_read(int fd, void *to, size_t len, uint64_t offset);

/* kvs__io_write - Write all @len bytes at @offset. 0, or -1 with errno. */
int kvs__io_write(int fd, const void *from, size_t len, uint64_t offset);

/* kvs__io_random - @len random bytes. 0, or -1 with errno. */
int kvs__io_random(void *to, size_t len);

#endif
