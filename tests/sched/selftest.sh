#!/bin/bash
# SPDX-License-Identifier: MIT
#
# selftest.sh [MUTANT...] - Does the explorer find what it should?
#
# Builds it from a copy of src/ with one change each, and prints after how many schedules of which
# program the first fault showed. The unchanged copy goes first and must pass the same groups of programs.
# A mutant is found if the changed line was executed and the fault is one that the mutant names.
# CC, CFLAGS and KVS_SCHED_GROUPS (groups of test_sched, instead of those that the mutants name) may be set.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
read -ra flags <<<"${CFLAGS:--O1 -g}"

build() { # DIRECTORY
	local sources=()
	mapfile -t sources < <(find "$1/src" -name '*.c' ! -name rcu.c ! -name file.c ! -name format.c ! -name io.c ! -name load.c ! -name save.c | sort)
	"${CC:-cc}" -std=gnu11 -D_GNU_SOURCE "${flags[@]}" -DKVS_SCHED -DKVS_PLAIN_ALLOC -DPACKAGE_VERSION='"0"' \
		-include "$here/hooks.h" -I"$root/include" -I"$1/src" -I"$here" -o "$1/test_sched" \
		"$root/tests/test_sched.c" "$here"/[a-z]*.c "${sources[@]}"
}

groups_of() { # MUTANT
	local own
	own=$(sed -n '1s/^groups: //p' "$1")
	echo "${KVS_SCHED_GROUPS:-${own:-none-2x1 grow-1x1 shrink-1x1 limit-2x1 more-1x1 more-2x1 pins-2x1 typed-2x1}}"
}

# The first fault ends the program; what it printed of it goes on one line.
find_fault() { # DIRECTORY GROUP...
	local g out
	for g in "${@:2}"; do
		out=$(KVS_SCHED_FIRST=1 timeout 300 "$1/test_sched" "$g" 2>&1) && continue
		grep -m1 -A2 "^# $g: " <<<"$out" | tr -s '\n #' ' ' || true
		grep -o 'mutant hits [0-9]*' <<<"$out" | tail -n 1
		return 0
	done
	return 1
}

if (($# == 0)); then
	set -- "$here"/mutants/*.mut
fi
echo "1..$(($# + 1))"
bad=0
mkdir "$tmp/none"
cp -r "$root/src" "$tmp/none/src"
build "$tmp/none"
read -ra groups <<<"$(for mutant in "$@"; do groups_of "$mutant"; done | tr ' ' '\n' | sort -u | tr '\n' ' ')"
if "$tmp/none/test_sched" "${groups[@]}" >"$tmp/out" 2>&1; then
	grep '^# .* programs ' "$tmp/out"
	echo "ok - no mutant"
else
	cat "$tmp/out"
	echo "not ok - no mutant"
	bad=1
fi
for mutant in "$@"; do
	name=$(basename "$mutant" .mut)
	mkdir "$tmp/$name"
	cp -r "$root/src" "$tmp/$name/src"
	read -ra groups <<<"$(groups_of "$mutant")"
	if perl "$here/apply.pl" "$mutant" "$tmp/$name" && build "$tmp/$name" && find_fault "$tmp/$name" "${groups[@]}" >"$tmp/out"; then
		sed 's/^/# /' "$tmp/out"
		# the fault must be the one that the mutant names
		if ! grep -q 'mutant hits [1-9]' "$tmp/out"; then
			echo "not ok - $name: its line was not executed"
			bad=1
		elif grep -qE "$(sed -n '/^---expect/,$p' "$mutant" | sed -n 's/^tests.test_sched: //p')" "$tmp/out"; then
			echo "ok - $name"
		else
			echo "not ok - $name: another fault than expected"
			bad=1
		fi
	else
		echo "not ok - $name: not found"
		bad=1
	fi
	rm -rf "${tmp:?}/$name"
done
exit $bad
