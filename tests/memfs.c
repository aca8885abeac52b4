/* SPDX-License-Identifier: MIT */
/* memfs.c - see memfs.h. Files and changes have fixed bounds, which a test that outgrows them meets as a failure. */
#include "memfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILES 64u
#define NAMES 64u
#define FDS 64u
#define FD_FIRST 1000000
#define NAME_ROOM 256u
#define DIR_INODE 0u

struct inode {
	unsigned char *bytes;
	size_t len;
	size_t room;
	unsigned mode;
	unsigned links;
	unsigned opens;
	int locked_by; /* fd, 0: nobody */
	bool used;
};

struct name {
	char text[NAME_ROOM]; /* "": free */
	unsigned inode;
};

struct open_file {
	bool used;
	unsigned inode;
	size_t at; /* getdents */
};

enum change_kind {
	CHANGE_WRITE,
	CHANGE_FSYNC,
	CHANGE_FSYNC_DIR,
	CHANGE_ADD,
	CHANGE_RENAME,
	CHANGE_REMOVE
};

struct change {
	enum change_kind kind;
	unsigned inode;
	uint64_t offset;
	size_t len;
	unsigned char *bytes;
	char name[NAME_ROOM];
	char to[NAME_ROOM];
};

static struct {
	pthread_mutex_t lock;
	struct inode inode[FILES];
	struct name name[NAMES];
	struct open_file file[FDS];
	struct change *log;
	size_t log_length, log_room;
	uint64_t random;
	unsigned next_inode;
	/* as it was when the log began */
	struct inode base[FILES];
	struct name base_name[NAMES];
} fs = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- The parts -------------------------------------------------------------------------- */

static int refuse(int error)
{
	errno = error;
	return -1;
}

static struct name *name_find(const char *text)
{
	for (size_t i = 0; i < NAMES; i++)
		if (fs.name[i].text[0] != '\0' && strcmp(fs.name[i].text, text) == 0)
			return &fs.name[i];
	return NULL;
}

static void name_add(const char *text, unsigned inode)
{
	for (size_t i = 0; i < NAMES; i++) {
		if (fs.name[i].text[0] != '\0')
			continue;
		check(strlen(text) < NAME_ROOM);
		strcpy(fs.name[i].text, text);
		fs.name[i].inode = inode;
		fs.inode[inode].links++;
		return;
	}
	util_fail(__FILE__, __LINE__, "no room for a name");
}

static void inode_drop(struct inode *i)
{
	if (i->links != 0 || i->opens != 0)
		return;
	free(i->bytes);
	memset(i, 0, sizeof(*i));
}

static void name_remove(struct name *n)
{
	struct inode *i = &fs.inode[n->inode];

	n->text[0] = '\0';
	i->links--;
	inode_drop(i);
}

/* In turn, so that in one log a number means one file. */
static unsigned inode_make(unsigned mode)
{
	for (unsigned n = 0; n < FILES; n++) {
		unsigned i = fs.next_inode++ % (FILES - 1) + DIR_INODE + 1;

		if (fs.inode[i].used)
			continue;
		memset(&fs.inode[i], 0, sizeof(fs.inode[i]));
		fs.inode[i].used = true;
		fs.inode[i].mode = mode;
		return i;
	}
	util_fail(__FILE__, __LINE__, "no room for a file");
	return 0;
}

static void inode_write(struct inode *i, const void *from, size_t len, uint64_t offset)
{
	size_t end = (size_t)offset + len;

	if (len == 0)
		return;
	if (end > i->room) {
		i->room = 2 * end;
		i->bytes = realloc(i->bytes, i->room);
		check(i->bytes != NULL);
	}
	if (offset > i->len)
		memset(i->bytes + i->len, 0, (size_t)offset - i->len);
	if (from != NULL)
		memcpy(i->bytes + offset, from, len);
	else
		memset(i->bytes + offset, 0, len);
	if (end > i->len)
		i->len = end;
}

static int fd_make(unsigned inode)
{
	for (int i = 0; i < (int)FDS; i++) {
		if (fs.file[i].used)
			continue;
		fs.file[i] = (struct open_file){ true, inode, 0 };
		fs.inode[inode].opens++;
		return FD_FIRST + i;
	}
	return refuse(EMFILE);
}

static struct open_file *fd_find(int fd)
{
	check(fd >= FD_FIRST && fd < FD_FIRST + (int)FDS && fs.file[fd - FD_FIRST].used);
	return &fs.file[fd - FD_FIRST];
}

static struct change *change_note(enum change_kind kind, unsigned inode)
{
	struct change *c;

	if (fs.log_length == fs.log_room) {
		fs.log_room = fs.log_room ? 2 * fs.log_room : 64;
		fs.log = realloc(fs.log, fs.log_room * sizeof(*fs.log));
		check(fs.log != NULL);
	}
	c = &fs.log[fs.log_length++];
	memset(c, 0, sizeof(*c));
	c->kind = kind;
	c->inode = inode;
	return c;
}

/* ---- The calls -------------------------------------------------------------------------- */

static int open_path(int dir, const char *path, int flags, mode_t mode)
{
	struct name *n;
	unsigned inode;

	if (dir == AT_FDCWD && strncmp(path, MEMFS_DIR, strlen(MEMFS_DIR)) == 0) {
		path += strlen(MEMFS_DIR);
		path += *path == '/';
	} else if (dir == AT_FDCWD) {
		return refuse(ENOENT);
	}
	if (*path == '\0' || strcmp(path, ".") == 0)
		return fd_make(DIR_INODE);
	if (flags & O_DIRECTORY)
		return refuse(ENOENT);
	n = name_find(path);
	if (n != NULL)
		return flags & O_EXCL ? refuse(EEXIST) : fd_make(n->inode);
	if (!(flags & O_CREAT))
		return refuse(ENOENT);
	inode = inode_make(mode);
	name_add(path, inode);
	strcpy(change_note(CHANGE_ADD, inode)->name, path);
	return fd_make(inode);
}

static int memfs_openat(int dir, const char *path, int flags, mode_t mode)
{
	int fd;

	pthread_mutex_lock(&fs.lock);
	fd = open_path(dir, path, flags, mode);
	pthread_mutex_unlock(&fs.lock);
	return fd;
}

static void stat_of(unsigned inode, struct stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->st_ino = inode + 1;
	ret->st_mode = (inode == DIR_INODE ? S_IFDIR : S_IFREG) | fs.inode[inode].mode;
	ret->st_uid = geteuid();
	ret->st_nlink = fs.inode[inode].links;
	ret->st_size = (off_t)fs.inode[inode].len;
}

static int memfs_fstat(int fd, struct stat *ret)
{
	pthread_mutex_lock(&fs.lock);
	stat_of(fd_find(fd)->inode, ret);
	pthread_mutex_unlock(&fs.lock);
	return 0;
}

static int memfs_fstatat(int dir, const char *path, struct stat *ret)
{
	struct name *n;

	(void)dir;
	pthread_mutex_lock(&fs.lock);
	n = name_find(path);
	if (n != NULL)
		stat_of(n->inode, ret);
	pthread_mutex_unlock(&fs.lock);
	return n != NULL ? 0 : refuse(ENOENT);
}

static ssize_t memfs_pread(int fd, void *to, size_t len, uint64_t offset)
{
	struct inode *i;

	pthread_mutex_lock(&fs.lock);
	i = &fs.inode[fd_find(fd)->inode];
	if (offset >= i->len)
		len = 0;
	else if (len > i->len - offset)
		len = i->len - (size_t)offset;
	if (len != 0)
		memcpy(to, i->bytes + offset, len);
	pthread_mutex_unlock(&fs.lock);
	return (ssize_t)len;
}

static ssize_t memfs_pwrite(int fd, const void *from, size_t len, uint64_t offset)
{
	struct change *c;
	unsigned inode;

	pthread_mutex_lock(&fs.lock);
	inode = fd_find(fd)->inode;
	inode_write(&fs.inode[inode], from, len, offset);
	c = change_note(CHANGE_WRITE, inode);
	c->offset = offset;
	c->len = len;
	c->bytes = malloc(len);
	check(c->bytes != NULL);
	memcpy(c->bytes, from, len);
	pthread_mutex_unlock(&fs.lock);
	return (ssize_t)len;
}

/* A promise of nothing. */
static int memfs_write_behind(int fd, uint64_t offset, size_t len)
{
	(void)fd;
	(void)offset;
	(void)len;
	return 0;
}

static int memfs_fchmod(int fd, mode_t mode)
{
	pthread_mutex_lock(&fs.lock);
	fs.inode[fd_find(fd)->inode].mode = mode;
	pthread_mutex_unlock(&fs.lock);
	return 0;
}

static int memfs_fsync(int fd)
{
	unsigned inode;

	pthread_mutex_lock(&fs.lock);
	inode = fd_find(fd)->inode;
	(void)change_note(inode == DIR_INODE ? CHANGE_FSYNC_DIR : CHANGE_FSYNC, inode);
	pthread_mutex_unlock(&fs.lock);
	return 0;
}

static int memfs_dup(int fd)
{
	int copy;

	pthread_mutex_lock(&fs.lock);
	copy = fd_make(fd_find(fd)->inode);
	pthread_mutex_unlock(&fs.lock);
	return copy;
}

/* A lock is the first descriptor's: nobody here closes that before a copy. */
static int memfs_close(int fd)
{
	struct open_file *f;
	struct inode *i;

	pthread_mutex_lock(&fs.lock);
	f = fd_find(fd);
	i = &fs.inode[f->inode];
	f->used = false;
	i->opens--;
	if (i->locked_by == fd)
		i->locked_by = 0;
	if (f->inode != DIR_INODE)
		inode_drop(i);
	pthread_mutex_unlock(&fs.lock);
	return 0;
}

static int memfs_flock(int fd, int operation)
{
	struct inode *i;
	bool got;

	(void)operation;
	pthread_mutex_lock(&fs.lock);
	i = &fs.inode[fd_find(fd)->inode];
	got = i->locked_by == 0 || i->locked_by == fd;
	if (got)
		i->locked_by = fd;
	pthread_mutex_unlock(&fs.lock);
	return got ? 0 : refuse(EWOULDBLOCK);
}

static int link_name(const char *from, const char *to)
{
	struct name *n = name_find(from);

	if (n == NULL)
		return refuse(ENOENT);
	if (name_find(to) != NULL)
		return refuse(EEXIST);
	name_add(to, n->inode);
	strcpy(change_note(CHANGE_ADD, n->inode)->name, to);
	return 0;
}

static int memfs_linkat(int dir, const char *from, const char *to)
{
	int err;

	(void)dir;
	pthread_mutex_lock(&fs.lock);
	err = link_name(from, to);
	pthread_mutex_unlock(&fs.lock);
	return err;
}

/* One file under both names: then a rename does nothing. */
static bool is_second_name(const struct name *from, const char *to)
{
	const struct name *old = name_find(to);

	return old != NULL && old->inode == from->inode;
}

static void rename_to(struct name *from, const char *to)
{
	struct name *old = name_find(to);

	if (old != NULL)
		name_remove(old);
	strcpy(from->text, to);
}

static int memfs_renameat(int dir, const char *from, const char *to)
{
	struct name *n;

	(void)dir;
	pthread_mutex_lock(&fs.lock);
	n = name_find(from);
	if (n != NULL && !is_second_name(n, to)) {
		struct change *c = change_note(CHANGE_RENAME, n->inode);

		strcpy(c->name, from);
		strcpy(c->to, to);
		rename_to(n, to);
	}
	pthread_mutex_unlock(&fs.lock);
	return n != NULL ? 0 : refuse(ENOENT);
}

static int memfs_unlinkat(int dir, const char *path)
{
	struct name *n;

	(void)dir;
	pthread_mutex_lock(&fs.lock);
	n = name_find(path);
	if (n != NULL) {
		strcpy(change_note(CHANGE_REMOVE, n->inode)->name, path);
		name_remove(n);
	}
	pthread_mutex_unlock(&fs.lock);
	return n != NULL ? 0 : refuse(ENOENT);
}

/* One name at a time. */
static ssize_t memfs_getdents(int fd, void *to, size_t len)
{
	struct open_file *f;
	ssize_t got = 0;

	pthread_mutex_lock(&fs.lock);
	f = fd_find(fd);
	while (f->at < NAMES && fs.name[f->at].text[0] == '\0')
		f->at++;
	if (f->at < NAMES) {
		const char *text = fs.name[f->at++].text;
		unsigned short size = (unsigned short)((19 + strlen(text) + 1 + 7) & ~(size_t)7);
		char entry[300] = { 0 };

		memcpy(entry + 16, &size, sizeof(size));
		strcpy(entry + 19, text);
		check(size <= len);
		memcpy(to, entry, size);
		got = size;
	}
	pthread_mutex_unlock(&fs.lock);
	return got;
}

static ssize_t memfs_getrandom(void *to, size_t len)
{
	struct rng r;

	pthread_mutex_lock(&fs.lock);
	rng_init(&r, 7777 + ++fs.random);
	for (size_t i = 0; i < len; i++)
		((unsigned char *)to)[i] = (unsigned char)rng_next(&r);
	pthread_mutex_unlock(&fs.lock);
	return (ssize_t)len;
}

const struct kvs__io memfs_io = {
	.openat = memfs_openat,
	.fstat = memfs_fstat,
	.fstatat = memfs_fstatat,
	.pread = memfs_pread,
	.pwrite = memfs_pwrite,
	.write_behind = memfs_write_behind,
	.fchmod = memfs_fchmod,
	.fsync = memfs_fsync,
	.dup = memfs_dup,
	.close = memfs_close,
	.flock = memfs_flock,
	.linkat = memfs_linkat,
	.renameat = memfs_renameat,
	.unlinkat = memfs_unlinkat,
	.getdents = memfs_getdents,
	.getrandom = memfs_getrandom,
};

/* ---- Life ------------------------------------------------------------------------------- */

static void inodes_free(struct inode inode[FILES])
{
	for (size_t i = 0; i < FILES; i++)
		free(inode[i].bytes);
	memset(inode, 0, FILES * sizeof(*inode));
}

static void log_free(void)
{
	for (size_t i = 0; i < fs.log_length; i++)
		free(fs.log[i].bytes);
	free(fs.log);
	fs.log = NULL;
	fs.log_length = 0;
	fs.log_room = 0;
}

/* A deep copy of files and names. */
static void copy_files(struct inode to[FILES], struct name to_name[NAMES],
		       const struct inode from[FILES], const struct name from_name[NAMES])
{
	inodes_free(to);
	memcpy(to, from, FILES * sizeof(*to));
	for (size_t i = 0; i < FILES; i++) {
		if (from[i].bytes == NULL)
			continue;
		to[i].bytes = malloc(from[i].room);
		check(to[i].bytes != NULL);
		memcpy(to[i].bytes, from[i].bytes, from[i].len);
	}
	memcpy(to_name, from_name, NAMES * sizeof(*to_name));
}

void memfs_log_clear(void)
{
	log_free();
	copy_files(fs.base, fs.base_name, fs.inode, fs.name);
}

void memfs_use(void)
{
	memset(fs.name, 0, sizeof(fs.name));
	inodes_free(fs.inode);
	memset(fs.file, 0, sizeof(fs.file));
	fs.inode[DIR_INODE].used = true;
	memfs_log_clear();
	kvs__io = &memfs_io;
}

void memfs_leave(void)
{
	for (size_t i = 0; i < FDS; i++)
		check(!fs.file[i].used); /* a descriptor that was not closed */
	kvs__io = &kvs__io_system;
	inodes_free(fs.inode);
	inodes_free(fs.base);
	log_free();
}

void memfs_put(const char *name, const void *bytes, size_t len)
{
	struct name *n = name_find(name);
	unsigned inode = n != NULL ? n->inode : inode_make(0600);

	if (n == NULL)
		name_add(name, inode);
	fs.inode[inode].len = 0;
	inode_write(&fs.inode[inode], bytes, len, 0);
}

const unsigned char *memfs_get(const char *name, size_t *ret_len)
{
	const struct name *n = name_find(name);

	if (n == NULL)
		return NULL;
	*ret_len = fs.inode[n->inode].len;
	return fs.inode[n->inode].bytes;
}

unsigned memfs_files(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < NAMES; i++)
		n += fs.name[i].text[0] != '\0';
	return n;
}

unsigned memfs_mode(const char *name)
{
	const struct name *n = name_find(name);

	return n != NULL ? fs.inode[n->inode].mode : 0;
}

size_t memfs_log_length(void)
{
	return fs.log_length;
}

/* ---- States of the disk ----------------------------------------------------------------- */

static bool is_name_change(const struct change *c)
{
	return c->kind == CHANGE_ADD || c->kind == CHANGE_RENAME || c->kind == CHANGE_REMOVE;
}

/* The last fsync that covers change @i within the first @cut, if there is one. */
static bool is_durable(size_t i, size_t cut)
{
	const struct change *c = &fs.log[i];

	for (size_t j = i + 1; j < cut; j++) {
		if (is_name_change(c) && fs.log[j].kind == CHANGE_FSYNC_DIR)
			return true;
		if (c->kind == CHANGE_WRITE && fs.log[j].kind == CHANGE_FSYNC &&
		    fs.log[j].inode == c->inode)
			return true;
	}
	return false;
}

static size_t loose(size_t cut, bool names)
{
	size_t n = 0;

	for (size_t i = 0; i < cut; i++)
		n += (names ? is_name_change(&fs.log[i]) : fs.log[i].kind == CHANGE_WRITE) &&
		     !is_durable(i, cut);
	return n;
}

static void apply_name(const struct change *c)
{
	struct name *n = name_find(c->name);

	switch (c->kind) {
	case CHANGE_ADD:
		if (n == NULL)
			name_add(c->name, c->inode);
		break;
	case CHANGE_REMOVE:
		if (n != NULL) {
			n->text[0] = '\0';
			fs.inode[n->inode].links--;
		}
		break;
	default: /* a rename names the inode, whether or not the old name was ever durable */
		if (n != NULL) {
			n->text[0] = '\0';
			fs.inode[n->inode].links--;
		}
		n = name_find(c->to);
		if (n != NULL) {
			n->text[0] = '\0';
			fs.inode[n->inode].links--;
		}
		name_add(c->to, c->inode);
	}
}

static void apply_write(const struct change *c, const struct memfs_state *s, size_t number)
{
	struct inode *i = &fs.inode[c->inode];
	bool is_it = number == s->which;
	size_t len = c->len;

	switch ((enum memfs_data)s->data) {
	case MEMFS_ALL:
		break;
	case MEMFS_NONE:
		return;
	case MEMFS_LENGTH:
		inode_write(i, NULL, len, c->offset);
		return;
	case MEMFS_BEFORE:
		if (number >= s->which)
			return;
		break;
	case MEMFS_WITHOUT:
		if (is_it)
			return;
		break;
	case MEMFS_ZEROED:
		if (is_it) {
			inode_write(i, NULL, len, c->offset);
			return;
		}
		break;
	case MEMFS_CUT:
		if (number > s->which)
			return;
		if (is_it && s->sectors * MEMFS_SECTOR < len)
			len = s->sectors * MEMFS_SECTOR;
		break;
	}
	if (len != 0)
		inode_write(i, c->bytes, len, c->offset);
}

static void state_make(const struct memfs_state *s)
{
	size_t names = 0, writes = 0;

	copy_files(fs.inode, fs.name, fs.base, fs.base_name);
	for (size_t i = 0; i < s->cut; i++) {
		const struct change *c = &fs.log[i];

		fs.inode[c->inode].used = true;
		fs.inode[c->inode].mode = c->inode == DIR_INODE ? 0 : 0600;
		if (is_name_change(c)) {
			if (is_durable(i, s->cut) || s->names >> names++ & 1)
				apply_name(c);
		} else if (c->kind == CHANGE_WRITE) {
			if (is_durable(i, s->cut))
				inode_write(&fs.inode[c->inode], c->bytes, c->len, c->offset);
			else
				apply_write(c, s, writes++);
		}
	}
}

struct walk {
	void (*fn)(const struct memfs_state *, void *);
	void *arg;
	uint64_t count;
	struct change *log; /* what fn changes is not part of it */
	size_t length, room;
};

static void visit(struct walk *w, const struct memfs_state *s)
{
	state_make(s);
	fs.log = NULL;
	fs.log_length = 0;
	fs.log_room = 0;
	w->fn(s, w->arg);
	w->count++;
	log_free();
	fs.log = w->log;
	fs.log_length = w->length;
	fs.log_room = w->room;
}

static size_t loose_write_len(size_t cut, size_t which)
{
	for (size_t i = 0; i < cut; i++)
		if (fs.log[i].kind == CHANGE_WRITE && !is_durable(i, cut) && which-- == 0)
			return fs.log[i].len;
	return 0;
}

static void visit_data(struct walk *w, struct memfs_state s)
{
	static const unsigned kinds[] = { MEMFS_BEFORE, MEMFS_WITHOUT, MEMFS_ZEROED };
	size_t writes = loose(s.cut, false);

	for (s.data = MEMFS_ALL; s.data <= (writes != 0 ? MEMFS_LENGTH : MEMFS_ALL); s.data++)
		visit(w, &s);
	for (s.which = 0; s.which < writes; s.which++) {
		for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
			s.data = kinds[k];
			visit(w, &s);
		}
		s.data = MEMFS_CUT;
		for (s.sectors = 1; s.sectors * MEMFS_SECTOR < loose_write_len(s.cut, s.which);
		     s.sectors++)
			visit(w, &s);
		s.sectors = 0;
	}
}

uint64_t memfs_each_state(void (*fn)(const struct memfs_state *, void *), void *arg)
{
	struct walk w = { fn, arg, 0, fs.log, fs.log_length, fs.log_room };
	static struct inode inode[FILES];
	static struct name name[NAMES];

	copy_files(inode, name, fs.inode, fs.name);
	for (size_t cut = 0; cut <= w.length; cut++) {
		size_t names = loose(cut, true);

		check(names < 8);
		for (unsigned mask = 0; mask < 1u << names; mask++)
			visit_data(&w, (struct memfs_state){ .cut = cut, .names = mask });
	}
	copy_files(fs.inode, fs.name, inode, name);
	inodes_free(inode);
	return w.count;
}
