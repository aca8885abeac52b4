#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What a read can execute, in the machine code: no lock prefix, no exchange with memory, no call that
# takes a lock, in any function that can be reached from the calls that read, but in the cold
# ones named here. Built from the sources as a release is, whatever this build is like; and checked
# on functions with each of the faults first.
#
# Only what is called by name is followed. Indirect calls are counted and printed: they are the
# user's hash and shard functions.
set -eu

src=${KVS_SRCDIR:-.}
cc=${KVS_CC:-cc}
roots="kvs_get kvs_borrow kvs_batch_get kvs_batch_borrow kvs_exists kvs_scan kvs_ttl kvs_read_begin kvs_read_end"
# A thread's first call only: its slot in the store, and its place in liburcu's registry. Near the cut of a
# snapshot only: the stamp of what it met.
cold="kvs__slot_attach kvs__settle_met urcu_bp_register"
dir=$(mktemp -d "${TMPDIR:-/tmp}/kvs-reader.XXXXXX")
trap 'rm -rf "$dir"' EXIT INT TERM

# reach LIBRARY - Walk the calls from $roots; print what was found. Status 1: a fault.
reach()
{
	objdump -d --no-show-raw-insn "$1" | awk -v roots="$roots" -v cold="$cold" '
	function target(text) { # the name in <...>, without offset and @plt
		if (!match(text, /<[^>]+>/))
			return ""
		text = substr(text, RSTART + 1, RLENGTH - 2)
		sub(/\+0x[0-9a-f]+$/, "", text)
		sub(/@plt$/, "", text)
		return text
	}
	function visit(name) {
		if (name in seen)
			return
		seen[name] = 1
		queue[++last] = name
	}
	/^[0-9a-f]+ <.*>:$/ {
		name = target($0)
		stub = $0 ~ /@plt>/ # what a stub stands for is elsewhere
		if (!stub)
			defined[name] = 1
		next
	}
	stub || name == "" { next }
	{
		code = $0
		sub(/^[^\t]*\t/, "", code)
		sub(/#.*/, "", code)
		if (code ~ /^lock[ \t]/)
			fault[name] = fault[name] "\n#   " name ": " code
		else if (code ~ /^xchg/ && code ~ /\(/)
			fault[name] = fault[name] "\n#   " name ": " code
		if (code ~ /^(call|jmp)q? +\*/)
			indirect[name]++
		else if (code ~ /^(call|j[a-z]+)/ && (to = target(code)) != "" && to != name)
			calls[name] = calls[name] " " to
	}
	END {
		n = split(cold, list, " ")
		for (i = 1; i <= n; i++)
			is_cold[list[i]] = 1
		n = split(roots, list, " ")
		for (i = 1; i <= n; i++)
			if (!(list[i] in defined)) {
				print "# not in the library: " list[i]
				bad = 1
			} else
				visit(list[i])
		for (at = 1; at <= last; at++) {
			name = queue[at]
			if (name in is_cold) {
				met = met " " name
				continue
			}
			if (name in fault) {
				print "# writes with a lock:" fault[name]
				bad = 1
			}
			if (!(name in defined)) {
				outside = outside " " name
				if (name != "clock_gettime" && name ~ /lock|mutex|sem_|cond_|^(m|c|re)alloc$|^free$|syscall|futex/) {
					print "# may wait: " name
					bad = 1
				}
				continue
			}
			functions++
			if (indirect[name])
				through = through " " name
			n = split(calls[name], list, " ")
			for (i = 1; i <= n; i++)
				visit(list[i])
		}
		print "# functions reached: " functions ", of other libraries:" outside
		print "# cold ones, not entered:" met
		print "# calls of the user'"'"'s functions in:" through
		if (functions < 6)
			bad = 1
		exit bad
	}'
}

# faulty NAME CODE - A library whose kvs_get does CODE two calls down; true if that is found.
faulty()
{
	cat > "$dir/$1.c" <<EOT
#include <pthread.h>
extern pthread_mutex_t m;
long word;
#define STEP(n) __attribute__((noinline)) void n
STEP(deep)(void) { $2; __asm__ volatile("" ::: "memory"); }
STEP(middle)(void) { deep(); __asm__ volatile("" ::: "memory"); }
#define ROOT(n) void n(void) { middle(); __asm__ volatile("" ::: "memory"); }
ROOT(kvs_get) ROOT(kvs_borrow) ROOT(kvs_batch_get) ROOT(kvs_batch_borrow) ROOT(kvs_exists) ROOT(kvs_scan) ROOT(kvs_ttl) ROOT(kvs_read_begin) ROOT(kvs_read_end)
EOT
	$cc -O2 -fPIC -shared -o "$dir/$1.so" "$dir/$1.c"
	if reach "$dir/$1.so" > "$dir/$1.out"; then found=0; else found=1; fi
	[ $found = "$3" ]
}

number=0
result()
{
	number=$((number + 1))
	if [ "$1" = 0 ]; then echo "ok $number - $2"; else
		echo "not ok $number - $2"
		status=1
	fi
}

status=0
echo 1..5
faulty none 'word++' 0 && r=0 || r=1
result "$r" "plain code is accepted"
faulty prefix '__atomic_fetch_add(&word, 1, 5)' 1 && r=0 || r=1
result "$r" "a lock prefix is found"
faulty exchange '__atomic_exchange_n(&word, 1, 5)' 1 && r=0 || r=1
result "$r" "an exchange with memory is found"
faulty mutex 'pthread_mutex_lock(&m)' 1 && r=0 || r=1
result "$r" "a lock's call is found"

# As configure builds a release.
$cc -std=gnu11 -O2 -fPIC -ftls-model=initial-exec -fvisibility=hidden -D_GNU_SOURCE \
	'-DPACKAGE_VERSION="0"' -I"$src/include" -I"$src/src" -shared \
	-Wl,--version-script="$src/src/libkvs.map" -o "$dir/libkvs.so" "$src"/src/*.c \
	-lurcu-bp -lpthread
reach "$dir/libkvs.so" && r=0 || r=1
result "$r" "reads take no lock and execute no locked instruction"
exit $status
