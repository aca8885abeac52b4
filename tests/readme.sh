# SPDX-License-Identifier: MIT
#
# The program in README.md compiles and does what the README says.

echo 1..1
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"$KVS_SRCDIR/scripts/readme-example" >"$room/example.c"
# shellcheck disable=SC2046,SC2086 # lists of flags
if $KVS_CC $KVS_BUILD_FLAGS -I"$KVS_SRCDIR/include" -o "$room/example" "$room/example.c" \
	"$KVS_BUILDDIR/.libs/libkvs.a" $(pkg-config --libs liburcu-bp) -lpthread 2>"$room/errors" &&
	"$room/example" >"$room/output" 2>>"$room/errors" &&
	printf '%s\n' "hello, world" "the key is not in the store" | diff - "$room/output" >>"$room/errors"; then
	echo "ok 1 - the program in README.md"
else
	echo "not ok 1 - the program in README.md"
	sed 's/^/# /' "$room/errors"
fi
