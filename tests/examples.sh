# SPDX-License-Identifier: MIT
#
# Each program in examples/ runs and ends with status 0.

# shellcheck disable=SC2086 # a list of names without blanks
set -- $KVS_EXAMPLES
echo "1..$#"
n=0
for program; do
	n=$((n + 1))
	if output=$("$KVS_BUILDDIR/$program" 2>&1); then
		echo "ok $n - $program"
	else
		echo "not ok $n - $program"
		echo "$output" | sed 's/^/# /'
	fi
done
