#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_bench_cli.sh - kvs-bench from outside: what it refuses and how, what it reports, that its
# check of values sees a wrong one. Prints TAP. KVS_BENCH names the program.

bench=${KVS_BENCH:-./kvs-bench}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
if ! command -v "$bench" >/dev/null; then
	echo "Bail out! there is no program $bench (set KVS_BENCH)"
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

skip() {
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

# run ARG...: sets status; output in $dir/out and $dir/err.
run() {
	"$bench" "$@" >"$dir/out" 2>"$dir/err" </dev/null
	status=$?
}

ended() { test "$status" -eq "$1"; }
says() { grep -qF -e "$1" "$dir/err"; }
prints() { grep -qE -e "$1" "$dir/out"; }
silent() { test ! -s "$dir/$1"; }

# refuses NAME TEXT ARG...: exit status 2, TEXT on stderr, nothing on stdout.
refuses() {
	name=$1
	text=$2
	shift 2
	run "$@"
	ok "$name" refused "$text"
}
refused() { ended 2 && says "$1" && silent out; }

# refuses_input NAME LINE TEXT: the same for $dir/in, and the line's number is named.
refuses_input() {
	refuses "$1" "$dir/in: line $2: $3" --input "$dir/in" --ops 100
}

# value NAME: a number in the JSON in $dir/json, first of its name.
value() { sed -n "s/^ *\"$1\": \\([-0-9.]*\\),*\$/\\1/p" "$dir/json" | head -n 1; }
equals() { test "$(value "$1")" = "$2"; }
above() { value "$1" | awk -v least="$2" '{ good = $1 > least } END { exit !good }'; }

# json_valid FILE: parse it, in awk, and demand one value and nothing behind it.
json_valid() {
	awk '
	function skip_space() { sub(/^[ \t\r\n]+/, "", text) }
	function take(re) {
		skip_space()
		if (match(text, re) != 1)
			return 0
		text = substr(text, RLENGTH + 1)
		return 1
	}
	function string() { return take("^\"([^\"\\\\]|\\\\.)*\"") }
	function members() {
		do {
			if (!string() || !take("^:") || !element())
				return 0
		} while (take("^,"))
		return take("^}")
	}
	function elements() {
		do {
			if (!element())
				return 0
		} while (take("^,"))
		return take("^]")
	}
	function element() {
		if (take("^[{]"))
			return take("^}") || members()
		if (take("^[[]"))
			return take("^]") || elements()
		return string() || take("^(true|false|null)") ||
			take("^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?")
	}
	{ text = text $0 "\n" }
	END { good = element(); skip_space(); exit !(good && text == "") }' "$1"
}

# ---- Options ------------------------------------------------------------------------------

run --help
ok "help: prints the options on stdout, exit status 0" ended 0
ok "help: names --input" prints '--input'
run --version
ok "version: exit status 0" ended 0
ok "version: names the library's" prints 'libkvs'

refuses "unknown option" "nonsense" --nonsense
refuses "argument that is no option" '"extra"' extra
refuses "--keys 0" "--keys 0: must be a whole number from 1" --keys 0
refuses "--keys with a bad suffix" "--keys 5q" --keys 5q
refuses "--keys negative" "--keys -5" --keys -5
refuses "--keys beyond 64 bits" "--keys 99999999999999999999" --keys 99999999999999999999
refuses "--key-size 0" "--key-size 0" --key-size 0
refuses "--key-size above the limit" "--key-size 65536" --key-size 65536
refuses "--value-size above the limit" "--value-size 2G" --value-size 2G
refuses "--key-size too small for the keys" "too small" --key-size 2 --keys 5000
refuses "--threads 0" "--threads 0" --threads 0
refuses "--ops 0" "--ops 0" --ops 0
refuses "--seconds 0" "--seconds" --seconds 0
refuses "--sample 0" "--sample 0" --sample 0
refuses "--rate 0" "--rate 0" --rate 0
refuses "--miss above 100" "--miss 101" --miss 101
refuses "--mix unknown" "--mix E: must be one of A|B|C|D|F" --mix E
refuses "--dist unknown" "must be one of uniform|zipf|latest" --dist normal
refuses "--hash unknown" "must be one of siphash|xxh3|fnv1a" --hash md5
refuses "--shards above the limit" "--shards" --shards 5000
refuses "--seconds and --ops together" "exclude each other" --seconds 1 --ops 1
refuses "--input and --keys together" "exclude each other" --input x --keys 1
refuses "--json in no directory" "No such file" --json "$dir/none/x.json"

# ---- Input that is refused ----------------------------------------------------------------

refuses "no such file" "$dir/none: No such file" --input "$dir/none"
refuses "a directory" "$dir: " --input "$dir"
: >"$dir/in"
refuses "empty file" "$dir/in: the file is empty" --input "$dir/in"
printf 'a\t1\nb\t2\nno tab here\nd\t4\n' >"$dir/in"
refuses_input "line without a tab" 3 "no tab"
printf 'a\t1\n\nb\t2\n' >"$dir/in"
refuses_input "empty line" 2 "no tab"
printf 'a\t1\t2\n' >"$dir/in"
refuses_input "second tab" 1 "a second tab"
printf 'a\t1\r\n' >"$dir/in"
refuses_input "raw carriage return" 1 "a raw carriage return"
printf 'a\t1\nb\t\\q\n' >"$dir/in"
refuses_input "unknown escape" 2 "bad escape"
printf 'a\t1\nb\t2\134' >"$dir/in"
refuses_input "backslash at the end" 2 "bad escape"
printf 'a\\x4\t1\n' >"$dir/in"
refuses_input "escape cut short" 1 "bad escape"
printf 'a\\xg0\t1\n' >"$dir/in"
refuses_input "escape that is not hexadecimal" 1 "bad escape"
printf 'a\t1\nb\t2\nc\t3\nb\t4\nd\t5\n' >"$dir/in"
refuses_input "key that comes twice" 4 "the same key as on line 2"
printf 'A\t1\nb\t2\n\\x41\t3\n' >"$dir/in"
refuses_input "key that comes twice, once escaped" 3 "the same key as on line 1"
awk 'BEGIN { print "a\t1"; for (i = 0; i < 65536; i++) printf "k"; print "\t2" }' >"$dir/in"
refuses_input "key too large" 2 "the key is longer than 65535 bytes"

# ---- Input that is taken ------------------------------------------------------------------

awk 'BEGIN { for (i = 0; i < 65535; i++) printf "k"; print "\tv" }' >"$dir/in"
run --input "$dir/in" --ops 100
ok "key of the largest size" ended 0
run --input "$dir/in" --ops 100 --miss 5
ok "key too large to make absent ones from" refused "too long to make"

# 8 entries of 6 + 7 + 5 + 4 + 4 + 256 + 2 + 1 bytes.
{
	printf 'tab\\t01\t\n'
	printf 'feed\\n\\r\t1\n'
	printf 'a\\\\b\t\\\\x\n'
	printf '\\x00\\xfF\t\\x7f\303\n'
	printf '\tnull'
	printf '\n'
	awk 'BEGIN { printf "all\t"; for (i = 0; i < 253; i++) printf "\\x%02x", i; print "" }'
	printf 'k\tv\n'
	printf 'z\t'
} >"$dir/in"
run --input "$dir/in" --ops 20000 --threads 2 --json "$dir/json"
ok "input with escapes: exit status 0" ended 0
ok "input: nothing on stderr, which is no terminal" silent err
ok "input: the first line says so" prints '^kvs-bench: real data from '
ok "input: every line is an entry" equals keys 8
ok "input: escapes are undone" equals payload_bytes 285
ok "input: values are compared" above values_checked 100
ok "input: every read hits" equals hit_ratio 1.000000
for mix in A B C D F; do
	run --input "$dir/in" --ops 20000 --mix $mix --miss 20 --json "$dir/json"
	ok "input, mix $mix with absent keys: exit status 0" ended 0
done
"$bench" --input - --ops 100 <"$dir/in" >"$dir/out" 2>"$dir/err"
status=$?
ok "input from stdin" ended 0

# ---- Report -------------------------------------------------------------------------------

run --keys 2k --ops 50k --seed 7 --sample 8 --miss 10 --json "$dir/json"
ok "synthetic: exit status 0" ended 0
ok "synthetic: the first line says so" prints '^kvs-bench: synthetic data, 2,000 keys of 16 B'
for field in 'Loading +[0-9.]+ Mkeys/s' 'Throughput +[0-9,]+ operations/s' 'Hit ratio +[0-9.]+ %' \
	'p50 +p90 +p99 +p99.9 +p99.99 +max' '^  read +[0-9,]+' '^  update +[0-9,]+' \
	'^  read-absent +[0-9,]+' '^  load +[0-9,]+' '1 operation in 8 is timed' 'seed 7' \
	'timing adds about [0-9]+ ns' 'B/entry +overhead' '^  resident ' 'bytes_live' 'VmHWM'; do
	ok "report has /$field/" prints "$field"
done
ok "json: parses" json_valid "$dir/json"
ok "json: operations" equals operations 50000
ok "json: sample" equals sample 8
for field in mkeys_per_second operations_per_second hit_ratio p99.99 resident_bytes_per_entry \
	rss_peak_bytes bytes_live values_checked; do
	ok "json: $field is above 0" above "$field" 0
done
ok "absent keys miss" above misses 100
ok "present keys hit" above hits 30000
run --keys 100 --ops 1000 --json -
cp "$dir/out" "$dir/json"
ok "json on stdout: parses, nothing else there" json_valid "$dir/json"
for mix in A B C D F; do
	run --keys 1k --ops 20k --mix $mix --json "$dir/json"
	ok "mix $mix: exit status 0" ended 0
done
run --keys 1k --ops 20k --mix D --json "$dir/json"
ok "mix D inserts new keys" above keys_after 1500
for dist in uniform zipf latest; do
	run --keys 1k --ops 20k --dist $dist
	ok "dist $dist: exit status 0" ended 0
done
for size in 0 1 2 15 16 17; do
	run --keys 100 --ops 20k --mix A --value-size $size
	ok "values of $size bytes: exit status 0" ended 0
done
run --keys 16 --key-size 1 --ops 20k --miss 50
ok "keys of 1 byte: exit status 0" ended 0
run --keys 1 --ops 1 --threads 3
ok "one key, one operation, three threads: exit status 0" ended 0
run --keys 1k --rate 20k --seconds 0.2 --json "$dir/json"
ok "rate: exit status 0" ended 0
ok "rate: says from when latencies count" prints 'from when the operation was due'
ok "rate: no more operations than asked for" test "$(value operations)" -le 4000
if [ -w /dev/full ]; then
	"$bench" --keys 10 --ops 10 >/dev/full 2>"$dir/err"
	status=$?
	ok "report that cannot be written: exit status 1" ended 1
else
	skip "report that cannot be written" "no /dev/full"
fi

# A machine that runs the saving thread late gets more time.
for seconds in 1 4 16 64; do
	run --keys 20k --seconds $seconds --mix A --snapshot-every 0.1 --snapshot-file "$dir/snapshot" --json "$dir/json"
	ended 0 || break
	above saves 0 && above operations_per_second_saving 0 && break
done
ok "snapshots: exit status 0" ended 0
ok "snapshots: says so" prints '^Snapshots +[0-9]+ saves to '
ok "snapshots: one at least ended" above saves 0
ok "snapshots: operations went on meanwhile" above operations_per_second_saving 0
ok "snapshots: json parses" json_valid "$dir/json"
ok "snapshots: the file is there" test -s "$dir/snapshot"
for seconds in 1 4 16 64; do
	run --keys 1k --seconds $seconds --snapshot-every 0.1 --snapshot-file "$dir/none/snapshot"
	ended 0 || break
done
ok "snapshots: a save that fails ends the run, its cause named" says "opening the directory: No such file"
refuses "--snapshot-every alone" "go together" --snapshot-every 1
refuses "--snapshot-every 0" "--snapshot-every: must be more than 0" --snapshot-every 0 --snapshot-file "$dir/x"

# ---- The check of values ------------------------------------------------------------------

wrong() { ended 1 && says "a wrong value was read" && silent out; }
run --keys 1k --ops 20k --mix C --plant-error
ok "wrong synthetic values are found" wrong
run --input "$dir/in" --ops 20k --mix C --plant-error
ok "wrong values of an input are found" wrong

echo "1..$count"
exit $((failed > 0))
