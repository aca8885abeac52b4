#!/bin/bash
# SPDX-License-Identifier: MIT
#
# tsan-selftest.sh [--sow] - Does the thread sanitizer see a race in this library when there is one?
#
# Builds copies of the sources, one as it is and one with each of three races sown into it, runs the same load on
# all of them with the suppressions that the tests use, and prints TAP. With --sow, only sows: are the texts there that it
# replaces? CC may be set.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
runs=5 # a race is a matter of chance: it must show in at least 4 of these

# sow NAME - Change the copy in $room/NAME/src; the old text must be there.
sow() {
	local src=$room/$1/src
	case $1 in
	none) ;;
	relaxed-publish) # an entry becomes reachable without its fields being ordered before
		perl -0pi -e 's/return false;\n(\tkvs__settle\(t->cut, e\);\n\tunlink_match)/return false;\n$1/; s/cas_seq_cst\(&p->match->next, &expected, marked\)\)\n\t\treturn false;\n\tkvs__settle/atomic_compare_exchange_strong_explicit(&p->match->next, &expected, marked, memory_order_relaxed, memory_order_relaxed))\n\t\treturn false;\n\tkvs__settle/ or die; s/if \(!cas_seq_cst\(p->pred, &expected, next\)\)\n\t\treturn false;\n\tkvs__settle/if (!atomic_compare_exchange_strong_explicit(p->pred, &expected, next, memory_order_relaxed, memory_order_relaxed))\n\t\treturn false;\n\tkvs__settle/ or die' "$src/list.c"
		;;
	free-without-grace-period)
		perl -0pi -e 's/kvs__rcu_call\(&r->worker, &b->head, batch_ripe\);/batch_ripe(&b->head);/g or die' "$src/reclaim.c"
		;;
	use-after-section) # a borrow made outside: what is found is looked at after the section ended, now and then much later
		perl -0pi -e 's/(KVS_INLINE int borrow_here.*?)\terr = find\(kv, &target, &e\);\n/$1\tkvs__rcu_read_unlock();\n\terr = find(kv, &target, &e);\n\tstatic __thread unsigned turn;\n\tif (++turn % 64 == 0)\n\t\tusleep(200);\n/s or die; s/\A/#include <unistd.h>\n/; s/(KVS_INLINE int borrow_here.*?kvs__value_of\(kv, e, ret\);\n)/$1\tkvs__rcu_read_lock();\n/s or die' "$src/read.c"
		;;
	esac
}

build() {
	"${CC:-gcc}" -std=gnu11 -O1 -g -pthread -fsanitize=thread -D_GNU_SOURCE -DKVS_TSAN -DKVS_RCU_LIBRARY_CALLS \
		-DKVS_PLAIN_ALLOC -DKVS_YIELD_RAND -DPACKAGE_VERSION='"0"' -I"$root/include" -I"$room/$1/src" -o "$room/$1/load" \
		"$room/$1"/src/*.c "$here/tsan_selftest.c" -lurcu-bp -ldeflate
}

# reports NAME - In how many of the runs was a race reported?
reports() {
	local n=0 i
	for ((i = 0; i < runs; i++)); do
		TSAN_OPTIONS="suppressions=$here/tsan.supp:history_size=7:exitcode=66" \
			timeout 120 "$room/$1/load" >"$room/$1/log" 2>&1 || true
		if grep -Eq "WARNING: ThreadSanitizer: (data race|heap-use-after-free)" "$room/$1/log"; then
			n=$((n + 1))
		fi
	done
	echo "$n"
}

bad=0
[[ ${1:-} == --sow ]] || echo "1..4"
for name in none relaxed-publish free-without-grace-period use-after-section; do
	mkdir -p "$room/$name"
	cp -r "$root/src" "$room/$name/src"
	sow "$name"
	[[ ${1:-} != --sow ]] || continue
	build "$name"
	n=$(reports "$name")
	if [[ $name == none ]]; then want="no run" ok=$((n == 0)); else want="at least 4" ok=$((n >= 4)); fi
	echo "# $name: a race reported in $n of $runs runs; wanted: $want"
	if ((ok)); then echo "ok - $name"; else echo "not ok - $name" && bad=1; fi
done
exit $bad
