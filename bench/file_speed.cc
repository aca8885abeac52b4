// SPDX-License-Identifier: MIT
//
// file_speed FILE [KEYS] [THREADS] - How fast is a store of (12 B, 100 B) entries saved to FILE and loaded?
//
// The load is timed in a process of its own, from its start to the answer of the first get.

#include <kvs.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace
{

double now()
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

struct kvs_slice key_of(char *room, unsigned long i)
{
	return kvs_bytes(room, static_cast<size_t>(snprintf(room, 16, "%012lu", i)));
}

void die(const char *what, int err, const struct kvs_file_error &e)
{
	fprintf(stderr, "file_speed: %s: %s (%s)\n", what, kvs_errname(err),
		e.cause ? e.cause : "?");
	exit(1);
}

void report(const char *what, unsigned long keys, double seconds)
{
	printf("kvs %s %.3f s, %.2f M entries/s\n", what, seconds,
	       static_cast<double>(keys) / seconds / 1e6);
	fflush(stdout);
}

// Twice: the second one replaces a file.
void save(const char *path, unsigned long keys, unsigned threads)
{
	struct kvs_save_options o = KVS_SAVE_OPTIONS_INIT;
	struct kvs_file_error e = {};
	struct kvs *kv;
	char room[16], value[100];
	int err = kvs_open(nullptr, &kv);

	memset(value, 'v', sizeof(value));
	for (unsigned long i = 0; i < keys && !err; i++)
		err = kvs_set(kv, key_of(room, i), kvs_bytes(value, sizeof(value)), nullptr);
	if (err)
		die("filling", err, e);
	o.threads = threads;
	o.error = &e;
	for (int round = 0; round < 2; round++) {
		double start = now();

		err = kvs_save(kv, path, &o);
		if (err)
			die("saving", err, e);
		report(round ? "save, replacing" : "save", keys, now() - start);
	}
	kvs_free(kv);
}

void load(const char *path, unsigned long keys, unsigned threads, double start)
{
	struct kvs_load_options o = KVS_LOAD_OPTIONS_INIT;
	struct kvs_file_error e = {};
	struct kvs *kv;
	char room[16];
	uint64_t len = 0;
	int err = kvs_open(nullptr, &kv);

	o.threads = threads;
	o.error = &e;
	if (!err)
		err = kvs_load(kv, path, &o);
	if (!err)
		err = kvs_exists(kv, key_of(room, keys / 2));
	if (err)
		die("loading", err, e);
	report("load", keys, now() - start);
	if (kvs_len(kv, &len) || len != keys)
		die("counting", KVS_ERR_UNKNOWN, e);
}

// Run @part in a child, so that each begins with fresh memory.
template <typename Part> void apart(Part part)
{
	double start = now();
	int status = 1;
	pid_t pid = fork();

	if (pid == 0) {
		part(start);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		exit(1);
}

} // namespace

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: file_speed FILE [KEYS] [THREADS]\n");
		return 2;
	}
	unsigned long keys = argc > 2 ? strtoul(argv[2], nullptr, 10) : 10000000;
	unsigned threads = argc > 3 ? static_cast<unsigned>(atoi(argv[3])) : 0;

	apart([&](double) { save(argv[1], keys, threads); });
	for (int round = 0; round < 2; round++)
		apart([&](double start) { load(argv[1], keys, threads, start); });
	return 0;
}
