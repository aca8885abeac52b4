/* SPDX-License-Identifier: MIT */
/* test_file_fuzz.c - the inputs that the fuzzer of the loader has found worth keeping, tests/data/fuzz, run again. */
#include "files.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_every_input_kept(void **state)
{
	const char *srcdir = getenv("KVS_SRCDIR");
	char path[PATH_ROOM], dir[PATH_ROOM];
	struct dirent *e;
	uint64_t inputs = 0;
	DIR *d;

	(void)state;
	dir_path(dir, srcdir != NULL ? srcdir : ".", "tests/data/fuzz");
	d = opendir(dir);
	check(d != NULL);
	while ((e = readdir(d)) != NULL) {
		unsigned char *bytes;
		size_t len;

		if (e->d_name[0] == '.')
			continue;
		util_context(e->d_name);
		bytes = file_read(dir_path(path, dir, e->d_name), &len);
		(void)LLVMFuzzerTestOneInput(bytes, len);
		free(bytes);
		inputs++;
	}
	closedir(d);
	util_context(NULL);
	util_note("%llu inputs", (unsigned long long)inputs);
	check(inputs >= 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_input_kept),
	};

	return util_main("test_file_fuzz", tests, ARRAY_LEN(tests));
}
