/* SPDX-License-Identifier: MIT */
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "compiler.h"

/* ---- the system calls ---- */

static int system_openat(int dir, const char *path, int flags, mode_t mode)
{
	return openat(dir, path, flags, mode);
}

static int system_fstatat(int dir, const char *path, struct stat *ret)
{
	return fstatat(dir, path, ret, AT_SYMLINK_NOFOLLOW);
}

static ssize_t system_pread(int fd, void *to, size_t len, uint64_t offset)
{
	return pread(fd, to, len, (off_t)offset);
}

static ssize_t system_pwrite(int fd, const void *from, size_t len, uint64_t offset)
{
	return pwrite(fd, from, len, (off_t)offset);
}

static int system_write_behind(int fd, uint64_t offset, size_t len)
{
	return sync_file_range(fd, (off64_t)offset, (off64_t)len, SYNC_FILE_RANGE_WRITE);
}

static int system_dup(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int system_linkat(int dir, const char *from, const char *to)
{
	return linkat(dir, from, dir, to, 0);
}

static int system_renameat(int dir, const char *from, const char *to)
{
	return renameat(dir, from, dir, to);
}

static int system_unlinkat(int dir, const char *path)
{
	return unlinkat(dir, path, 0);
}

static ssize_t system_getdents(int fd, void *to, size_t len)
{
	return getdents64(fd, to, len);
}

static ssize_t system_getrandom(void *to, size_t len)
{
	return getrandom(to, len, 0);
}

const struct kvs__io kvs__io_system = {
	.openat = system_openat,
	.fstat = fstat,
	.fstatat = system_fstatat,
	.pread = system_pread,
	.pwrite = system_pwrite,
	.write_behind = system_write_behind,
	.fchmod = fchmod,
	.fsync = fsync,
	.dup = system_dup,
	.close = close,
	.flock = flock,
	.linkat = system_linkat,
	.renameat = system_renameat,
	.unlinkat = system_unlinkat,
	.getdents = system_getdents,
	.getrandom = system_getrandom,
};

const struct kvs__io *kvs__io = &kvs__io_system;

/* ---- again after EINTR ---- */

int kvs__io_open(int dir, const char *path, int flags, mode_t mode)
{
	int fd;

	do
		fd = kvs__io->openat(dir, path, flags, mode);
	while (fd < 0 && errno == EINTR);
	return fd;
}

int kvs__io_lock(int fd)
{
	int err;

	do
		err = kvs__io->flock(fd, LOCK_EX | LOCK_NB);
	while (err && errno == EINTR);
	return err;
}

int kvs__io_read(int fd, void *to, size_t len, uint64_t offset)
{
	char *at = to;

	while (len) {
		ssize_t n = kvs__io->pread(fd, at, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = 0;
		if (n <= 0)
			return -1;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int kvs__io_write(int fd, const void *from, size_t len, uint64_t offset)
{
	const char *at = from;

	while (len) {
		ssize_t n = kvs__io->pwrite(fd, at, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENOSPC; /* no file system does that; do not go round for ever */
		if (n <= 0)
			return -1;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int kvs__io_random(void *to, size_t len)
{
	char *at = to;

	while (len) {
		ssize_t n = kvs__io->getrandom(at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}
