# SPDX-License-Identifier: MIT
#
# KVS_ARG_ENABLE(NAME, DEFAULT, HELP)
#
# A yes-or-no switch --enable-NAME whose answer is in enable_NAME, yes or no and nothing else.

AC_DEFUN([KVS_ARG_ENABLE], [
AC_ARG_ENABLE([$1], [AS_HELP_STRING([--]m4_if([$2], [yes], [disable], [enable])[-$1], [$3])],
	[], [AS_VAR_SET([enable_]m4_translit([$1], [-], [_]), [$2])])
AS_CASE([$enable_[]m4_translit([$1], [-], [_])],
	[yes|no], [],
	[AC_MSG_ERROR([--enable-$1 is yes or no, not "$enable_[]m4_translit([$1], [-], [_])"])])])

# KVS_NEED(WHAT, DEBIAN-PACKAGE)
#
# End configure with a word on what is missing and where Debian has it.

AC_DEFUN([KVS_NEED], [AC_MSG_ERROR([$1 is missing. On Debian: apt-get install $2])])
