/* SPDX-License-Identifier: MIT */
#include "kvs.h"

#ifndef PACKAGE_VERSION
#error "PACKAGE_VERSION comes from configure"
#endif

KVS_API const char *kvs_strerror(int code)
{
	switch (code) {
	case KVS_OK:
		return "no error";
#define KVS_X(name, value, text)                                                                   \
	case value:                                                                                \
		return text;
		KVS_ERROR_MAP(KVS_X)
#undef KVS_X
	default:
		return kvs_strerror(KVS_ERR_UNKNOWN);
	}
}

KVS_API const char *kvs_errname(int code)
{
	switch (code) {
	case KVS_OK:
		return "OK";
#define KVS_X(name, value, text)                                                                   \
	case value:                                                                                \
		return #name;
		KVS_ERROR_MAP(KVS_X)
#undef KVS_X
	default:
		return "UNKNOWN";
	}
}

KVS_API const char *kvs_version_string(void)
{
	return PACKAGE_VERSION;
}
