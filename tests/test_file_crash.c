/* SPDX-License-Identifier: MIT */
/*
 * test_file_crash.c - G7: what is there after a failure, a kill or a power cut is the old file or the new one, whole.
 *
 * FAULTS  Every system call of a save and of a load fails once with each error, or is short. The
 *         call then succeeds, or answers IO with that errno and leaves the old file and the old contents.
 * POWER   A save in memory (memfs.h) is cut off after every change, and every state in which the disk may then be
 *         is loaded.
 * KILLS   A child is killed at every system call of its save, and at random times.
 */
#include "files.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memfs.h"

static const struct contents old_contents = { 30, 1, 40 };
static const struct contents new_contents = { 90, 2, 60 };

static struct kvs *store_of(const struct contents *c)
{
	struct kvs *kv = small_store();

	contents_set(kv, c);
	return kv;
}

/* One without threads, whose grace periods are short: a save then takes a tenth of the time. */
static struct kvs *quick_store(void)
{
	struct kvs_options o = KVS_OPTIONS_INIT;
	struct kvs *kv;

	o.shards = 1;
	o.hash = KVS_HASH_FNV1A;
	o.flags = KVS_OPEN_NO_THREADS;
	check_ok(kvs_open(&o, &kv));
	return kv;
}

enum which { NEITHER, OLD, NEW };

static struct kvs *probe; /* what files are loaded into */

/* What the file @path holds. */
static enum which which_at(const char *path)
{
	if (kvs_load(probe, path, NULL) != KVS_OK)
		return NEITHER;
	return contents_are(probe, &old_contents)   ? OLD
	       : contents_are(probe, &new_contents) ? NEW
						    : NEITHER;
}

static const char older[] = "the file before the old one";

/* Of a save that keeps the previous file: is the old one there under a name, and if nothing has replaced it, the older? */
static bool keeps_right(enum which w, const unsigned char *old, size_t len,
			const unsigned char *prev, size_t prev_len)
{
	bool is_kept = prev != NULL && prev_len == len && memcmp(prev, old, len) == 0;
	bool is_older =
		prev != NULL && prev_len == sizeof(older) && memcmp(prev, older, prev_len) == 0;

	return is_kept || (w == OLD && is_older);
}

/* The old file's bytes, to be put in place quickly. */
static unsigned char *old_bytes;
static size_t old_len;

static void tools_make(void)
{
	probe = quick_store();
	contents_save(in_dir("f"), &old_contents);
	old_bytes = file_read(in_dir("f"), &old_len);
}

static void tools_end(void)
{
	check_ok(kvs_free(probe));
	free(old_bytes);
}

/* Still the very bytes that were put there? */
static bool is_old(void)
{
	size_t len;
	unsigned char *bytes = file_read(in_dir("f"), &len);
	bool same = len == old_len && memcmp(bytes, old_bytes, len) == 0;

	free(bytes);
	return same;
}

/* New files each time: after a save the names may be of one file. */
static void put_old(void)
{
	(void)unlink(in_dir("f"));
	file_write(in_dir("f"), old_bytes, old_len);
	(void)unlink(in_dir("f.prev"));
	file_write(in_dir("f.prev"), older, sizeof(older));
}

static void check_previous(enum which w)
{
	size_t len;
	unsigned char *prev = file_read(in_dir("f.prev"), &len);

	check(keeps_right(w, old_bytes, old_len, prev, len));
	free(prev);
}

/* ---- Faults ----------------------------------------------------------------------------- */

static const int errors[] = { ENOSPC, EIO, EINTR, EDQUOT, EMFILE, EROFS, 0 };

/* Counts of injections, by call and error, of which every one must have happened. */
static struct log_line {
	const char *call;
	uint64_t by_error[ARRAY_LEN(errors)];
	uint64_t failed, succeeded;
} log_lines[32];

static void note_injection(const char *call, size_t error, int err)
{
	for (size_t i = 0; i < ARRAY_LEN(log_lines); i++) {
		struct log_line *l = &log_lines[i];

		if (l->call != NULL && strcmp(l->call, call) != 0)
			continue;
		l->call = call;
		l->by_error[error]++;
		l->failed += err != KVS_OK;
		l->succeeded += err == KVS_OK;
		return;
	}
}

static uint64_t log_print(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_LEN(log_lines) && log_lines[i].call != NULL; i++) {
		const struct log_line *l = &log_lines[i];

		util_note(
			"injected %-9s ENOSPC %llu EIO %llu EINTR %llu EDQUOT %llu EMFILE %llu EROFS %llu short %llu: "
			"%llu calls failed, %llu did not",
			l->call, (unsigned long long)l->by_error[0],
			(unsigned long long)l->by_error[1], (unsigned long long)l->by_error[2],
			(unsigned long long)l->by_error[3], (unsigned long long)l->by_error[4],
			(unsigned long long)l->by_error[5], (unsigned long long)l->by_error[6],
			(unsigned long long)l->failed, (unsigned long long)l->succeeded);
		sum += l->failed + l->succeeded;
	}
	memset(log_lines, 0, sizeof(log_lines));
	return sum;
}

/* May a save go on although this call failed? Repeated ones, tidying, and what only says how safe it was to close. */
static bool is_harmless(const char *call, int error)
{
	if (error == 0 || strcmp(call, "close") == 0 || strcmp(call, "getdents") == 0 ||
	    strcmp(call, "flock") == 0 || strcmp(call, "fstatat") == 0)
		return true;
	/* of the sweep and of the look at the new file's links; the load's fstat is checked apart */
	if (strcmp(call, "fstat") == 0 || strcmp(call, "unlinkat") == 0 ||
	    strcmp(call, "writeback") == 0)
		return true;
	return error == EINTR && strcmp(call, "fsync") != 0 && strcmp(call, "renameat") != 0 &&
	       strcmp(call, "fchmod") != 0 && strcmp(call, "linkat") != 0;
}

/* One save with its n-th call failing. false: there were not so many. */
static bool save_with_fault(struct kvs *kv, int64_t n, size_t error, bool stale, uint32_t flags)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs_file_error told = { 0, 0, 0, NULL };
	struct faults f = { .left = n, .error = errors[error] };
	char name[PATH_ROOM];
	enum which there;
	int err;

	put_old();
	if (stale)
		file_write(in_dir(".f.0123456789abcdef.tmp"), "left", 4);
	so.flags = KVS_SAVE_KEEP_PREVIOUS | flags;
	so.mode = 0640;
	so.error = &told;
	faults_use(&f);
	err = kvs_save(kv, in_dir("f"), &so);
	faults_leave();
	there = is_old() ? OLD : which_at(in_dir("f"));
	if (f.name != NULL) {
		note_injection(f.name, error, err);
		if (err == KVS_OK && !is_harmless(f.name, errors[error]) &&
		    strcmp(f.name, "openat") != 0)
			util_fail(__FILE__, __LINE__, "%s failed with %s and the save did not",
				  f.name, strerror(errors[error]));
	} else {
		check_ok(err);
	}
	if (err == KVS_OK) {
		check_u64(there, NEW);
	} else {
		check_status(err, KVS_ERR_IO);
		check_u64((uint64_t)told.system_error, (uint64_t)errors[error]);
		check(told.cause != NULL);
		/* the one case in which the new file is there: it is in place, but the directory was not synced */
		check(there == OLD ||
		      (there == NEW && strncmp(told.cause, "fsync of the directory", 22) == 0));
	}
	check_previous(there);
	/* no litter after the next save, and mostly none before */
	if (f.name == NULL || strcmp(f.name, "unlinkat") != 0)
		check(err == KVS_OK || stale || !dir_find_temp(test_dir, name));
	if ((n + (int64_t)error) % 4 == 0) {
		check_ok(kvs_save(kv, in_dir("f"), NULL));
		check(!dir_find_temp(test_dir, name));
		check_u64(which_at(in_dir("f")), NEW);
	} else if (dir_find_temp(test_dir, name)) {
		(void)unlink(in_dir(name));
	}
	return f.name != NULL || atomic_load(&f.left) < 0;
}

static void test_every_call_of_a_save_fails(void **state)
{
	struct kvs *kv = quick_store();
	uint64_t injected = 0;
	int64_t n, calls = 0;

	(void)state;
	tools_make();
	contents_set(kv, &new_contents);
	for (size_t e = 0; e < ARRAY_LEN(errors); e++) {
		int64_t stride = (int64_t)util_scaled(5, 1, 1);

		/* every other time there is something to sweep, which shifts the numbers of the calls */
		for (n = (int64_t)e % stride; save_with_fault(kv, n, e, false, 0); n += stride)
			;
		for (; stride == 1 && save_with_fault(kv, n, e, true, 0); n += stride)
			;
		for (calls = n, n = 3; stride == 1 && n < 12; n++)
			(void)save_with_fault(kv, n, e, true, 0);
		for (n = (int64_t)e % stride; save_with_fault(kv, n, e, false, KVS_SAVE_NO_FSYNC);
		     n += stride)
			;
	}
	injected = log_print();
	util_note("%llu faults in saves of about %lld system calls", (unsigned long long)injected,
		  (long long)calls);
	check(calls >= 18 && injected >= (uint64_t)util_scaled(20, 180, 180));
	check_contents(kv, &new_contents);
	tools_end();
	check_ok(kvs_free(kv));
}

/* A file system that takes all writes, and tells of the one that failed only by the first close that follows. */
static struct {
	struct kvs__io io;
	const struct kvs__io *inner;
	bool is_late;          /* a write has failed, and nobody knows */
	unsigned told, copies; /* such closes; descriptors that were copied */
} late;

static ssize_t late_pwrite(int fd, const void *from, size_t len, uint64_t offset)
{
	late.is_late = true;
	return late.inner->pwrite(fd, from, len, offset);
}

static int late_dup(int fd)
{
	late.copies++;
	return late.inner->dup(fd);
}

static int late_close(int fd)
{
	struct stat st;
	bool tells = late.is_late && late.inner->fstat(fd, &st) == 0 && S_ISREG(st.st_mode);

	(void)late.inner->close(fd);
	if (!tells)
		return 0;
	late.is_late = false;
	late.told++;
	errno = EDQUOT;
	return -1;
}

/* Without fsync, too, such a file does not take the old one's place. */
static void test_a_write_that_fails_late(void **state)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs *kv = store_of(&new_contents);
	struct kvs_file_error told;
	char name[PATH_ROOM];

	(void)state;
	tools_make();
	put_old();
	so.flags = KVS_SAVE_NO_FSYNC;
	so.error = &told;
	memset(&late, 0, sizeof(late));
	late.inner = kvs__io;
	late.io = *kvs__io;
	late.io.pwrite = late_pwrite;
	late.io.dup = late_dup;
	late.io.close = late_close;
	kvs__io = &late.io;
	check_status(kvs_save(kv, in_dir("f"), &so), KVS_ERR_IO);
	kvs__io = late.inner;
	check_u64((uint64_t)told.system_error, EDQUOT);
	check(is_old());
	check(late.told == 1 && late.copies == 1);
	check(!dir_find_temp(test_dir, name));
	tools_end();
	check_ok(kvs_free(kv));
}

static bool load_with_fault(struct kvs *kv, int64_t n, size_t error)
{
	struct kvs_load_options lo = KVS_LOAD_OPTIONS_INIT;
	struct kvs_file_error told = { 0, 0, 0, NULL };
	struct faults f = { .left = n, .error = errors[error] };
	int err;

	lo.error = &told;
	faults_use(&f);
	err = kvs_load(kv, in_dir("f"), &lo);
	faults_leave();
	if (f.name == NULL) {
		check_ok(err);
	} else {
		note_injection(f.name, error, err);
		if (errors[error] == 0 || errors[error] == EINTR || strcmp(f.name, "close") == 0) {
			if (strcmp(f.name, "fstat") != 0)
				check_ok(err);
		} else {
			check_status(err, KVS_ERR_IO);
		}
	}
	if (err == KVS_OK) {
		check_contents(kv, &new_contents);
		check_ok(kvs_clear(kv));
		contents_set(kv, &old_contents);
	} else {
		check_u64((uint64_t)told.system_error, (uint64_t)errors[error]);
		check_contents(kv, &old_contents);
	}
	return f.name != NULL || atomic_load(&f.left) < 0;
}

static void test_every_call_of_a_load_fails(void **state)
{
	struct kvs *kv = store_of(&old_contents);
	uint64_t injected;
	int64_t n = 0;

	(void)state;
	contents_save(in_dir("f"), &new_contents);
	for (size_t e = 0; e < ARRAY_LEN(errors); e++)
		for (n = 0; load_with_fault(kv, n, e); n++)
			;
	injected = log_print();
	util_note("%llu faults in loads", (unsigned long long)injected);
	check(n >= 5 && injected >= 25);
	check_ok(kvs_free(kv));
}

/* A larger store: two threads write, and one of many writes fails. */
static void test_a_write_of_many_fails(void **state)
{
	const struct contents c = { util_scaled(3000, 20000, 20000), 7, 300 };
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	struct kvs *kv = small_store();
	char name[PATH_ROOM];
	uint64_t failed = 0;

	(void)state;
	tools_make();
	contents_set(kv, &c);
	so.threads = 2;
	for (int64_t n = 6; n < 24; n++) {
		struct faults f = { .left = n, .error = ENOSPC };
		int err;

		faults_use(&f);
		err = kvs_save(kv, in_dir("f"), &so);
		faults_leave();
		if (err != KVS_OK) {
			check_status(err, KVS_ERR_IO);
			check(!dir_find_temp(test_dir, name));
			if (strcmp(f.name, "pwrite") == 0)
				check_u64(which_at(in_dir("f")), OLD);
			failed++;
		}
		put_old();
	}
	tools_end();
	util_note("%llu saves by two threads failed", (unsigned long long)failed);
	check(failed >= 3);
	check_ok(kvs_free(kv));
}

/* ---- Power ------------------------------------------------------------------------------ */

static const struct contents power_contents = { 250, 2,
						2000 }; /* a quarter of a megabyte: many sectors */

struct power {
	struct kvs *kv;
	size_t done_at; /* changes after which save had answered OK */
	bool syncs, keeps;
	unsigned char
		*bytes[2]; /* of the old file and of the new, which have been loaded and compared */
	size_t len[2];
	uint64_t old, new, neither, with_temp, next;
};

static bool is_file(const struct power *p, unsigned i)
{
	size_t len;
	const unsigned char *bytes = memfs_get("f", &len);

	return bytes != NULL && len == p->len[i] && memcmp(bytes, p->bytes[i], len) == 0;
}

static bool previous_is_right(const struct power *p, enum which w)
{
	size_t len = 0;
	const unsigned char *prev = memfs_get("f.prev", &len);

	return keeps_right(w, p->bytes[0], p->len[0], prev, len);
}

/* A file that is not the very bytes of the old or the new one is loaded: it must not pass for either. */
static enum which state_which(const struct power *p)
{
	if (is_file(p, 0))
		return OLD;
	if (is_file(p, 1))
		return NEW;
	check(kvs_load(p->kv, MEMFS_DIR "/f", NULL) != KVS_OK);
	return NEITHER;
}

static void check_state(const struct memfs_state *s, void *arg)
{
	struct power *p = arg;
	enum which w = state_which(p);

	p->old += w == OLD;
	p->new += w == NEW;
	p->neither += w == NEITHER;
	p->with_temp += memfs_files() > 1;
	if (!p->syncs)
		return;
	if (w == NEITHER || (s->cut >= p->done_at && w != NEW))
		util_fail(__FILE__, __LINE__,
			  "after %zu changes, names %x, data %u of write %zu, %zu sectors: %s",
			  s->cut, s->names, s->data, s->which, s->sectors,
			  w == OLD ? "the old file" : "neither");
	if (p->keeps && !previous_is_right(p, w))
		util_fail(__FILE__, __LINE__,
			  "after %zu changes, names %x: the previous file is lost", s->cut,
			  s->names);
	/* whatever was left is gone after the next save */
	if (s->data == MEMFS_ALL) {
		size_t ignored;

		check_ok(kvs_save(p->kv, MEMFS_DIR "/f", NULL));
		check_u64(memfs_files(), memfs_get("f.prev", &ignored) != NULL ? 2 : 1);
		p->next++;
	}
}

static void power_keep(struct power *p, unsigned i, const struct contents *c)
{
	const unsigned char *bytes = memfs_get("f", &p->len[i]);

	check_ok(kvs_load(p->kv, MEMFS_DIR "/f", NULL));
	check_contents(p->kv, c);
	p->bytes[i] = malloc(p->len[i]);
	check(bytes != NULL && p->bytes[i] != NULL);
	memcpy(p->bytes[i], bytes, p->len[i]);
}

static uint64_t power_run(struct power *p, uint32_t flags)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	uint64_t states;

	memset(p, 0, sizeof(*p));
	p->kv = small_store();
	memfs_use();
	contents_save(MEMFS_DIR "/f", &old_contents);
	power_keep(p, 0, &old_contents);
	check_ok(kvs_clear(p->kv));
	contents_set(p->kv, &power_contents);
	p->keeps = flags & KVS_SAVE_KEEP_PREVIOUS;
	if (p->keeps)
		memfs_put("f.prev", older, sizeof(older));
	memfs_log_clear();
	so.flags = flags;
	check_ok(kvs_save(p->kv, MEMFS_DIR "/f", &so));
	p->done_at = memfs_log_length();
	p->syncs = !(flags & KVS_SAVE_NO_FSYNC);
	power_keep(p, 1, &power_contents);
	states = memfs_each_state(check_state, p);
	check_ok(kvs_free(p->kv));
	memfs_leave();
	free(p->bytes[0]);
	free(p->bytes[1]);
	return states;
}

static void test_power_cuts(void **state)
{
	static const uint32_t flags[] = { 0, KVS_SAVE_KEEP_PREVIOUS };
	uint64_t all = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		struct power p;
		uint64_t states = power_run(&p, flags[i]);

		util_note(
			"%s: %llu states of the disk after 0 to %zu changes: old %llu, new %llu, neither %llu; "
			"a temporary file in %llu; saved again in %llu",
			flags[i] ? "previous kept" : "plain", (unsigned long long)states, p.done_at,
			(unsigned long long)p.old, (unsigned long long)p.new,
			(unsigned long long)p.neither, (unsigned long long)p.with_temp,
			(unsigned long long)p.next);
		check(p.old > 500 && p.new > 1 && p.neither == 0 && p.with_temp > 500 &&
		      p.next > 8);
		all += states;
	}
	check(all >= 2000);
}

/* The simulation has teeth: without fsync it finds disks with neither file. */
static void test_power_cuts_without_fsync(void **state)
{
	struct power p;
	uint64_t states = power_run(&p, KVS_SAVE_NO_FSYNC);

	(void)state;
	util_note("without fsync: %llu states, neither file in %llu", (unsigned long long)states,
		  (unsigned long long)p.neither);
	check(p.neither > 100);
}

/* ---- Kills ------------------------------------------------------------------------------ */

#ifndef KVS_TSAN /* which can start no thread in a child */

static const struct kvs__io *killed_inner;
static _Atomic int64_t calls_left;

static void maybe_die(void)
{
	if (atomic_fetch_sub(&calls_left, 1) == 0)
		kill(getpid(), SIGKILL);
}

static int k_openat(int dir, const char *path, int flags, mode_t mode)
{
	maybe_die();
	return killed_inner->openat(dir, path, flags, mode);
}

static ssize_t k_pwrite(int fd, const void *from, size_t len, uint64_t offset)
{
	maybe_die();
	return killed_inner->pwrite(fd, from, len, offset);
}

static int k_fsync(int fd)
{
	maybe_die();
	return killed_inner->fsync(fd);
}

static int k_close(int fd)
{
	maybe_die();
	return killed_inner->close(fd);
}

static int k_flock(int fd, int operation)
{
	maybe_die();
	return killed_inner->flock(fd, operation);
}

static int k_fstat(int fd, struct stat *ret)
{
	maybe_die();
	return killed_inner->fstat(fd, ret);
}

static int k_fstatat(int dir, const char *path, struct stat *ret)
{
	maybe_die();
	return killed_inner->fstatat(dir, path, ret);
}

static int k_linkat(int dir, const char *from, const char *to)
{
	maybe_die();
	return killed_inner->linkat(dir, from, to);
}

static int k_renameat(int dir, const char *from, const char *to)
{
	maybe_die();
	return killed_inner->renameat(dir, from, to);
}

static int k_unlinkat(int dir, const char *path)
{
	maybe_die();
	return killed_inner->unlinkat(dir, path);
}

static ssize_t k_getdents(int fd, void *to, size_t len)
{
	maybe_die();
	return killed_inner->getdents(fd, to, len);
}

/* In a child: save, and be killed before the n-th call. */
static void child_saves(struct kvs *kv, int64_t n, uint32_t flags)
{
	struct kvs_save_options so = KVS_SAVE_OPTIONS_INIT;
	static struct kvs__io killing;

	killing = *kvs__io;
	killed_inner = kvs__io;
	killing.openat = k_openat;
	killing.fstat = k_fstat;
	killing.fstatat = k_fstatat;
	killing.pwrite = k_pwrite;
	killing.fsync = k_fsync;
	killing.close = k_close;
	killing.flock = k_flock;
	killing.linkat = k_linkat;
	killing.renameat = k_renameat;
	killing.unlinkat = k_unlinkat;
	killing.getdents = k_getdents;
	kvs__io = &killing;
	atomic_store(&calls_left, n);
	so.flags = flags;
	check_ok(kvs_save(kv, in_dir("f"), &so));
	util_child_done();
}

/* A child with a store of its own. */
static pid_t child_start(const struct contents *c, int64_t n, uint32_t flags)
{
	pid_t pid;

	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid != 0) {
		kvs_fork_parent();
	} else {
		struct kvs *kv;

		check_ok(kvs_fork_child());
		kv = store_of(c);

		child_saves(kv, n, flags);
	}
	return pid;
}

static bool was_killed(pid_t pid)
{
	int status;

	check(waitpid(pid, &status, 0) == pid);
	if (!WIFSIGNALED(status))
		check_u64((uint64_t)WEXITSTATUS(status), 42); /* util_child_done() */
	return WIFSIGNALED(status);
}

static void check_after_kill(uint64_t *temps, uint64_t *news)
{
	char name[PATH_ROOM];
	enum which w = is_old() ? OLD : which_at(in_dir("f"));

	check(w != NEITHER);
	check_previous(w);
	*news += w == NEW;
	*temps += dir_find_temp(test_dir, name);
	check_ok(kvs_save(probe, in_dir("f"), NULL));
	check(!dir_find_temp(test_dir, name));
	put_old();
}

static void test_killed_at_every_call(void **state)
{
	uint64_t kills = 0, temps = 0, news = 0;
	int64_t stride = (int64_t)util_scaled(3, 1, 1);
	int64_t n;

	(void)state;
	tools_make();
	put_old();
	for (n = 0;; n += stride) {
		if (!was_killed(child_start(&new_contents, n, KVS_SAVE_KEEP_PREVIOUS)))
			break;
		kills++;
		check_after_kill(&temps, &news);
	}
	util_note(
		"killed before each of %lld calls; a temporary file was left %llu times, the new file there %llu times",
		(long long)n, (unsigned long long)temps, (unsigned long long)news);
	tools_end();
	check(n >= 15 && kills >= (uint64_t)n / (uint64_t)stride && temps >= kills / 3 &&
	      news >= 1);
}

static uint64_t spin_rounds;

static void *spin_and_kill(void *arg)
{
	volatile uint64_t n = spin_rounds;

	while (n-- > 0)
		;
	kill(getpid(), SIGKILL);
	return arg;
}

/* In a child: save again and again until a thread that has counted to some number ends it all. */
static pid_t child_saves_on(const struct contents *c, uint64_t rounds)
{
	pthread_t thread;
	struct kvs *kv;
	pid_t pid;

	check_ok(kvs_fork_before());
	pid = util_fork();
	if (pid != 0) {
		kvs_fork_parent();
		return pid;
	}
	check_ok(kvs_fork_child());
	kv = store_of(c);
	spin_rounds = rounds;
	check(pthread_create(&thread, NULL, spin_and_kill, NULL) == 0);
	for (;;)
		check_ok(kvs_save(kv, in_dir("f"), NULL));
}

static void test_killed_at_random_times(void **state)
{
	static const struct contents large = { 2000, 2, 4000 };
	uint64_t rounds = util_scaled_full(3, 10, 200, 1000), kills = 0, found = 0, news = 0;
	char name[PATH_ROOM];
	struct rng r;

	(void)state;
	rng_init(&r, 5);
	tools_make();
	/* a kill may come before the first save, whenever the saving thread is late */
	for (; kills < rounds || found < rounds / 2; kills++) {
		put_old();
		check(was_killed(child_saves_on(&large, rng_below(&r, 100000000))));
		found += dir_find_temp(test_dir, name);
		check_ok(kvs_load(probe, in_dir("f"), NULL));
		news += contents_are(probe, &large);
		check(contents_are(probe, &old_contents) || contents_are(probe, &large));
		check_ok(kvs_save(probe, in_dir("f"), NULL));
		check(!dir_find_temp(test_dir, name));
	}
	tools_end();
	util_note(
		"%llu kills at random times, a temporary file was there after %llu, the new file after %llu",
		(unsigned long long)kills, (unsigned long long)found, (unsigned long long)news);
	check(found >= rounds / 2);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_call_of_a_save_fails),
		cmocka_unit_test(test_every_call_of_a_load_fails),
		cmocka_unit_test(test_a_write_of_many_fails),
		cmocka_unit_test(test_a_write_that_fails_late),
		cmocka_unit_test(test_power_cuts),
		cmocka_unit_test(test_power_cuts_without_fsync),
#ifndef KVS_TSAN
		cmocka_unit_test(test_killed_at_every_call),
		cmocka_unit_test(test_killed_at_random_times),
#endif
	};

	return dir_main("test_file_crash", tests, ARRAY_LEN(tests));
}
