# SPDX-License-Identifier: MIT
#
# KVS_APPEND_CFLAGS(VARIABLE, FLAGS)
# KVS_APPEND_LDFLAGS(VARIABLE, FLAGS)
#
# Append those of FLAGS (a blank-separated list) to VARIABLE that the compiler and the linker take
# without a warning. Each flag is tried on its own.

AC_DEFUN([KVS_APPEND_CFLAGS], [
m4_foreach_w([kvs_flag], [$2], [KVS_APPEND_ONE([$1], m4_defn([kvs_flag]), [CFLAGS])])])

AC_DEFUN([KVS_APPEND_LDFLAGS], [
m4_foreach_w([kvs_flag], [$2], [KVS_APPEND_ONE([$1], m4_defn([kvs_flag]), [LDFLAGS])])])

AC_DEFUN([KVS_APPEND_ONE], [
AS_VAR_PUSHDEF([kvs_cache], [kvs_cv_$3_$2])
AC_CACHE_CHECK([whether $CC takes $2], [kvs_cache], [
	kvs_save=$$3
	$3="$$3 -Werror $2"
	AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
		[AS_VAR_SET([kvs_cache], [yes])], [AS_VAR_SET([kvs_cache], [no])])
	$3=$kvs_save
])
AS_VAR_IF([kvs_cache], [yes], [$1="$$1 $2"])
AS_VAR_POPDEF([kvs_cache])])
