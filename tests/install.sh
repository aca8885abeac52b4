# SPDX-License-Identifier: MIT
#
# An installed copy serves C and C++ programs through pkg-config, linked each way.

case $KVS_BUILD_FLAGS in
*-fsanitize=*) echo "1..0 # SKIP a sanitizer's library is not for installing" ;;
*) "$KVS_SRCDIR/scripts/install-test" "$KVS_BUILDDIR" ;;
esac
