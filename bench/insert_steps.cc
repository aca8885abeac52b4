/* SPDX-License-Identifier: MIT */
/*
 * insert_steps.cc - the most work that any one of many inserts does.
 *
 * Linked against a counting build of the static library. A step is a node walked, a head looked at
 * or linked, or a retry (src/counting.h). Keys go into an empty store of default options one by one, the table
 * doubling all the while. Passes if no insert takes more than the stated number of steps, however
 * many keys there are. What else an insert may do is bounded by constants in the sources: it refills a stock of
 * at most 58 blocks, and clears at most 32 KiB (a segment below the size that is mapped and left
 * to page faults). Usage: insert-steps [KEYS]
 */
#include <stdio.h>

#include "keys.h"
#include "kvs.h"
#include "process.h"

/* As in src/counting.h. */
extern "C" {
struct kvs__work {
	uint64_t steps;
};
extern __thread struct kvs__work kvs__work;
}

using namespace bench;

namespace
{

constexpr uint64_t steps_allowed = 128;

struct step_count {
	uint64_t most = 0;
	uint64_t sum = 0;
	uint64_t above_16 = 0;

	void add(uint64_t steps)
	{
		most = steps > most ? steps : most;
		sum += steps;
		above_16 += steps > 16;
	}
};

step_count insert_all(struct kvs *kv, uint64_t keys)
{
	pair_maker pair({ keys, 12, 8 });
	step_count t;

	for (uint64_t i = 0; i < keys; i++) {
		bytes key;
		bytes value;

		pair.set(i);
		key = pair.key_bytes();
		value = pair.value_bytes();
		kvs__work.steps = 0;
		if (kvs_set(kv, kvs_bytes(key.data, key.len), kvs_bytes(value.data, value.len),
			    nullptr) != KVS_OK) {
			fprintf(stderr, "insert-steps: cannot set\n");
			exit(1);
		}
		t.add(kvs__work.steps);
	}
	return t;
}

} // namespace

int main(int argc, char **argv)
{
	uint64_t keys = argc > 1 ? number_of("KEYS", argv[1]) : 10000000;
	struct kvs *kv;
	step_count t;

	if (kvs_open(nullptr, &kv) != KVS_OK)
		return 1;
	t = insert_all(kv, keys);
	printf("%llu inserts: %.2f steps on average, %llu of them above 16, the most %llu; allowed %llu\n",
	       (unsigned long long)keys, (double)t.sum / (double)keys,
	       (unsigned long long)t.above_16, (unsigned long long)t.most,
	       (unsigned long long)steps_allowed);
	kvs_free(kv);
	return t.most <= steps_allowed ? 0 : 1;
}
