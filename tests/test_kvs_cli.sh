#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_kvs_cli.sh - the program kvs from outside: text to a file and back, exit codes, what errors
# name. Prints TAP. KVS_TOOL names the program.

kvs=${KVS_TOOL:-./kvs}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
if ! command -v "$kvs" >/dev/null; then
	echo "Bail out! there is no program $kvs (set KVS_TOOL)"
	exit 1
fi
count=0
failed=0

# ok NAME COMMAND...: the test NAME passes if the command succeeds.
ok() {
	name=$1
	shift
	count=$((count + 1))
	if "$@"; then
		echo "ok $count - $name"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $count - $name"
	sed 's/^/# stdout: /' "$dir/out" | head -n 5
	sed 's/^/# stderr: /' "$dir/err" | head -n 5
	echo "# status: $status"
}

# run ARG...: sets status; output in $dir/out and $dir/err.
run() {
	"$kvs" "$@" >"$dir/out" 2>"$dir/err" </dev/null
	status=$?
}

ended() { test "$status" -eq "$1"; }
says() { grep -qF -e "$1" "$dir/err"; }
prints() { grep -qE -e "$1" "$dir/out"; }
silent() { test ! -s "$dir/$1"; }

# refuses NAME STATUS TEXT ARG...: TEXT on stderr, nothing on stdout.
refuses() {
	name=$1
	want=$2
	text=$3
	shift 3
	run "$@"
	ok "$name" refused "$want" "$text"
}
refused() { ended "$1" && says "$2" && silent out; }

# ---- The command line ---------------------------------------------------------------------

run --help
ok "help" prints 'snapshot verify FILE'
ok "help: exit status 0" ended 0
run --version
ok "version" prints 'libkvs'
refuses "no argument" 2 "first argument"
refuses "unknown command" 2 "first argument" nonsense
refuses "snapshot alone" 2 "snapshot takes" snapshot
refuses "unknown snapshot command" 2 "snapshot takes" snapshot nonsense "$dir/f"
refuses "info without a file" 2 "snapshot takes" snapshot info
refuses "get without a key" 2 "snapshot takes" snapshot get "$dir/f"
refuses "load with a wrong option" 2 "snapshot takes" snapshot load "$dir/f" --output x

# ---- There and back -----------------------------------------------------------------------

{
	printf 'tab\\t01\tvalue 1\n'
	printf 'feed\\n\\r\t\n'
	printf 'a\\\\b\t\\\\x\n'
	printf '\tof the empty key\n'
	awk 'BEGIN { printf "all\t"; for (i = 0; i < 256; i++) printf "\\x%02x", i; print "" }'
	awk 'BEGIN { for (i = 0; i < 3000; i++) printf "key %d\tvalue %d %0*d\n", i, i, i % 90 + 1, i }'
	awk 'BEGIN { printf "long\t"; for (i = 0; i < 400000; i++) printf "%d", i % 10; print "" }'
} >"$dir/text"
run snapshot load "$dir/f" --input "$dir/text"
ok "load: exit status 0" ended 0
ok "load: silent" silent err
ok "load: mode 0600" test -n "$(find "$dir/f" -perm 600)"
"$kvs" snapshot load "$dir/g" <"$dir/text" 2>"$dir/err"
status=$?
ok "load from standard input: exit status 0" ended 0
run snapshot verify "$dir/f"
ok "verify: exit status 0" ended 0
ok "verify: counts" prints 'good: 3006 entries'
run snapshot info "$dir/f"
ok "info: exit status 0" ended 0
ok "info: entries" prints '^entries +3006$'
ok "info: format" prints '^format +1$'
ok "info: bytes" prints "^bytes +$(wc -c <"$dir/f")\$"
run snapshot dump "$dir/f"
ok "dump: exit status 0" ended 0
LC_ALL=C sort "$dir/out" >"$dir/sorted"
cp "$dir/out" "$dir/dumped"
ok "dump: as many lines" test "$(wc -l <"$dir/out")" -eq 3006
# Text can be written in more ways than one: what is dumped must give the same when loaded and dumped again.
run snapshot load "$dir/h" --input "$dir/dumped"
ok "load what was dumped" ended 0
run snapshot dump "$dir/h"
ok "dump again: the same" eval 'LC_ALL=C sort "$dir/out" | cmp -s - "$dir/sorted"'
grep '^key ' "$dir/text" | LC_ALL=C sort >"$dir/want"
ok "dump: plain lines byte for byte" eval 'grep "^key " "$dir/sorted" | cmp -s - "$dir/want"'
run snapshot get "$dir/f" 'key 17'
ok "get: the value" test "$(cat "$dir/out")" = "value 17 000000000000000017"
run snapshot get "$dir/f" 'tab\t01'
ok "get: a key with an escape" test "$(cat "$dir/out")" = "value 1"
run snapshot get "$dir/f" ''
ok "get: the empty key" test "$(cat "$dir/out")" = "of the empty key"
run snapshot get "$dir/f" all
ok "get: all bytes" test "$(wc -c <"$dir/out")" -eq 256
run snapshot get "$dir/f" long
ok "get: a long value" test "$(wc -c <"$dir/out")" -eq 400000
refuses "get: no such key" 1 "the key is not in the file" snapshot get "$dir/f" 'key 3000'
refuses "get: bad escape" 2 "bad escape" snapshot get "$dir/f" '\q'

# The real input, where it has been made: ./dev run does.
real=${KVS_SRCDIR:-.}/build/debian-packages.tsv
if [ -s "$real" ]; then
	run snapshot load "$dir/real" --input "$real"
	ok "real input: load" ended 0
	run snapshot verify "$dir/real"
	ok "real input: verify" ended 0
	run snapshot dump "$dir/real"
	ok "real input: what comes back is byte for byte what went in" \
		eval 'LC_ALL=C sort "$dir/out" >"$dir/sorted"; LC_ALL=C sort "$real" | cmp -s - "$dir/sorted"'
fi

# ---- What is refused ----------------------------------------------------------------------

refuses "no such file" 5 "opening the file: No such file" snapshot info "$dir/none"
refuses "a directory" 5 "no regular file" snapshot verify "$dir"
refuses "load into no directory" 5 "opening the directory" snapshot load "$dir/none/f" --input "$dir/text"
refuses "no text" 2 "the file is empty" snapshot load "$dir/f"
printf 'a\t1\nno tab\n' >"$dir/bad"
refuses "text with an error: its line" 2 "$dir/bad: line 2: no tab" snapshot load "$dir/f" --input "$dir/bad"
printf 'a\t1\na\t2\n' >"$dir/bad"
refuses "text with a key twice" 2 "$dir/bad: line 2: the key stands on an earlier line" snapshot load "$dir/f" --input "$dir/bad"
run snapshot verify "$dir/f"
ok "what was refused has changed nothing" ended 0
printf 'not a snapshot file at all, but long enough to have a header of sixty-four bytes, if not more' >"$dir/bad"
for command in info verify dump; do
	refuses "$command of another file" 3 "offset 0: the snapshot is damaged (this is no snapshot file)" snapshot $command "$dir/bad"
done
size=$(wc -c <"$dir/f")
head -c $((size - 1)) "$dir/f" >"$dir/bad"
refuses "a file cut short" 3 "trailer" snapshot verify "$dir/bad"
{ # within the first block, however short the threads that saved made it
	head -c 120 "$dir/f"
	printf '\377\000\377\000'
	tail -c +125 "$dir/f"
} >"$dir/bad"
run snapshot verify "$dir/bad"
ok "a damaged block: exit status 3" ended 3
ok "a damaged block: its offset and the cause" says "offset 64: the snapshot is damaged (the checksum of the block is wrong)"
refuses "a key that comes twice, expired" 3 "a key comes twice" snapshot verify "${KVS_SRCDIR:-.}/tests/data/expired-twice.kvs"
run snapshot verify "${KVS_SRCDIR:-.}/tests/data/format-1.kvs"
ok "a file with an expired key: exit status 0" ended 0
if [ -w /dev/full ]; then
	"$kvs" snapshot dump "$dir/f" >/dev/full 2>"$dir/err"
	status=$?
	ok "output that cannot be written: exit status 5" ended 5
fi
ok "no litter" test -z "$(find "$dir" -name '*.tmp')"

echo "1..$count"
exit $((failed > 0))
