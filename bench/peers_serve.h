/* SPDX-License-Identifier: MIT */
/*
 * peers_serve.h - the child of the comparison: it holds one store, and does what lines on its input say.
 *
 *	load KEYS KEY_LEN VALUE_LEN       open a store for so many keys, put them in
 *	verify COUNT                      see that keys are found, others not, and replaced values seen
 *	run WORKLOAD THREADS SECONDS CLOCK SEED   a measuring window; CLOCK is 0 wall, 1 processor time
 *	insert KEYS KEY_LEN VALUE_LEN THREADS     a store that begins empty and small
 *	tail SECONDS SEED                 one thread gets, the other overwrites
 *	overwrite SECONDS THREADS SEED    resident memory each second
 *	drain                             wait until what was deferred has been freed
 *
 * The answer is a line of names and numbers; a name may come more than once. The contender "machine" holds two
 * areas of memory instead, and knows load (BYTES) and run.
 */
#ifndef BENCH_PEERS_SERVE_H
#define BENCH_PEERS_SERVE_H

#include <string>

namespace bench
{

constexpr const char *machine_name = "machine";

/* Never returns. */
[[noreturn]] void serve(const std::string &name);

} // namespace bench

#endif // BENCH_PEERS_SERVE_H
