#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh [MUTANT...] - Do the tests find what they should?
#
# Each file of this directory breaks one place of src/ and names the test program that must then fail ("---expect",
# "tests/PROGRAM:", and if more than that is wanted a pattern of its output). The unbroken copy goes first and must pass
# all of these programs. Breaks that are a matter of interleaving are the explorer's: tests/sched/mutants. CC and CFLAGS may
# be set.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
read -ra flags <<<"${CFLAGS:--O1 -g}"
read -ra libs <<<"$(pkg-config --libs cmocka liburcu-bp libdeflate) -lm -lpthread"
compile=("${CC:-cc}" -std=gnu11 -D_GNU_SOURCE -DKVS_DEBUG -DPACKAGE_VERSION='"0"' -ftls-model=initial-exec "${flags[@]}")
export KVS_TEST_SCALE=small CMOCKA_MESSAGE_OUTPUT=TAP KVS_TEST_TIMEOUT=60

# points PROGRAM - What it is compiled with, and the library for it: yield points if it needs them.
points() {
	if grep -q '^#error "this program needs yield points' "$root/tests/$1.c"; then
		echo -DKVS_YIELD_RAND
	else
		echo -DNO_YIELD_POINTS
	fi
}

# objects DIRECTORY POINTS FILE... - Compile these sources of DIRECTORY/src there, two at a time.
objects() {
	local dir=$1 points=$2
	shift 2
	printf '%s\n' "$@" | xargs -P 2 -I{} "${compile[@]}" "$points" -I"$root/include" -I"$dir/src" -c -o "$dir/{}.o" "$dir/src/{}.c"
}

names() { # DIRECTORY
	find "$1/src" -name '*.c' -printf '%f\n' | sed 's/\.c$//' | sort
}

declare -A with=([memfs]=files) # a part that another part needs

link() { # DIRECTORY PROGRAM
	local sources=("$root/tests/util.c" "$root/tests/configs.c") part
	for part in cut_graph cut_near files lin lin_rows lin_run memfs; do
		if grep -qE "#include \"($part|${with[$part]:-$part}).h\"" "$root/tests/$2.c"; then
			sources+=("$root/tests/$part.c")
		fi
	done
	"${compile[@]}" "$(points "$2")" -I"$root/include" -I"$1/src" -I"$root/tests" -o "$1/$2" "$root/tests/$2.c" \
		"${sources[@]}" "$1"/*.o "${libs[@]}"
}

expected() { # MUTANT
	sed -n '/^---expect/,$p' "$1" | sed -nE "s/^tests.([a-z_]+): *(.*)$/$2/p"
}

if (($# == 0)); then
	set -- "$here"/*.mut
fi
echo "1..$(($# + 1))"
bad=0
mapfile -t programs < <(for m in "$@"; do expected "$m" '\1'; done | sort -u)
whole="ok - no mutant"
for program in "${programs[@]}"; do
	none=$tmp/none$(points "$program")
	if [[ ! -d $none ]]; then
		mkdir "$none"
		cp -r "$root/src" "$none/src"
		mapfile -t all < <(names "$none")
		objects "$none" "$(points "$program")" "${all[@]}"
	fi
	link "$none" "$program"
	if ! timeout 300 "$none/$program" >"$tmp/out" 2>&1; then
		cat "$tmp/out"
		whole="not ok - no mutant: $program"
		bad=1
	fi
done
echo "$whole"
for mutant in "$@"; do
	name=$(basename "$mutant" .mut)
	program=$(expected "$mutant" '\1')
	dir=$tmp/$name
	mkdir "$dir"
	cp -r "$root/src" "$dir/src"
	cp "$tmp/none$(points "$program")"/*.o "$dir"
	perl "$root/tests/sched/apply.pl" "$mutant" "$dir"
	mapfile -t changed < <(cd "$dir/src" && for f in *; do cmp -s "$f" "$root/src/$f" || echo "$f"; done)
	if printf '%s\n' "${changed[@]}" | grep -q '\.h$'; then
		objects "$dir" "$(points "$program")" "${all[@]}"
	else
		objects "$dir" "$(points "$program")" "${changed[@]%.c}"
	fi
	link "$dir" "$program"
	status=0
	{ timeout 300 "$dir/$program" >"$dir/out" 2>&1; } 2>/dev/null || status=$?
	if ((status == 0)); then
		echo "not ok - $name: $program passes"
		bad=1
	elif ! grep -qE "$(expected "$mutant" '\2')" "$dir/out"; then
		cat "$dir/out"
		echo "not ok - $name: another failure of $program than expected"
		bad=1
	else
		grep -m1 -E '^not ok|^Bail out' "$dir/out" | sed 's/^/# /' || echo "# ended with status $status"
		echo "ok - $name"
	fi
	rm -rf "$dir"
done
exit $bad
