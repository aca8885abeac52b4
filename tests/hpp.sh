# SPDX-License-Identifier: MIT
#
# kvs.hpp compiles without a warning as C++17 and C++20, and does what it says (hpp.cc).

case $KVS_BUILD_FLAGS in
*-fsanitize=*)
	echo "1..0 # SKIP built by another compiler than its library, a sanitizer's run time does not fit"
	exit 0
	;;
esac
if ! command -v "${KVS_CXX%% *}" >/dev/null; then
	echo "1..0 # SKIP no C++ compiler"
	exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for standard in c++17 c++20; do
	# shellcheck disable=SC2086 # a compiler may have arguments
	$KVS_CXX -std=$standard -Wall -Wextra -pedantic -Werror -I"$KVS_SRCDIR/include" -o "$dir/$standard" \
		"$KVS_SRCDIR/tests/hpp.cc" "$KVS_BUILDDIR/.libs/libkvs.so" -Wl,-rpath,"$KVS_BUILDDIR/.libs" || {
		echo "Bail out! kvs.hpp does not compile as $standard"
		exit 1
	}
done
"$dir/c++17"
