/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <string.h>

#include "compiler.h"

static int fault(const char **ret_option, const char *name, int err)
{
	if (ret_option)
		*ret_option = name;
	return err;
}

bool kvs__sized_copy(void *to, size_t known, const void *from, size_t size)
{
	const unsigned char *bytes = from;
	size_t i;

	if (size < sizeof(size))
		return false;
	for (i = known; i < size; i++)
		if (bytes[i])
			return false;
	memcpy(to, from, size < known ? size : known);
	memcpy(to, &known, sizeof(known)); /* its first member */
	return true;
}

void kvs__sized_fill(void *to, const void *from, size_t known)
{
	unsigned char *bytes = to;
	size_t size;

	memcpy(&size, to, sizeof(size));
	memcpy(bytes + sizeof(size), (const unsigned char *)from + sizeof(size),
	       (size < known ? size : known) - sizeof(size));
	if (size > known)
		memset(bytes + known, 0, size - known);
}

static int check_functions(const struct kvs_options *o, const char **ret_option)
{
	if (o->hash < KVS_HASH_SIPHASH13 || o->hash > KVS_HASH_USER)
		return fault(ret_option, "hash", KVS_ERR_INVALID_ARGUMENT);
	if (o->hash == KVS_HASH_USER && !o->hash_fn)
		return fault(ret_option, "hash_fn", KVS_ERR_NIL_HASH_FUNC);
	if (o->route != KVS_ROUTE_HASH && o->route != KVS_ROUTE_USER)
		return fault(ret_option, "route", KVS_ERR_INVALID_ARGUMENT);
	if (o->route == KVS_ROUTE_USER && !o->shard_fn)
		return fault(ret_option, "shard_fn", KVS_ERR_NIL_HASH_FUNC);
	return KVS_OK;
}

static int check(const struct kvs_options *o, const char **ret_option)
{
	if (o->shards < 0 || o->shards > KVS_SHARDS_MAX)
		return fault(ret_option, "shards", KVS_ERR_INVALID_NUM_SHARDS);
	if (o->flags & ~KVS_OPEN_NO_THREADS)
		return fault(ret_option, "flags", KVS_ERR_INVALID_ARGUMENT);
	if (o->initial_capacity > (uint64_t)1 << 40)
		return fault(ret_option, "initial_capacity", KVS_ERR_INVALID_ARGUMENT);
	if (o->expiry_tick_ms > KVS_EXPIRY_TICK_MS_MAX)
		return fault(ret_option, "expiry_tick_ms", KVS_ERR_INVALID_ARGUMENT);
	if (o->allocator && (!o->allocator->alloc || !o->allocator->free))
		return fault(ret_option, "allocator", KVS_ERR_INVALID_ARGUMENT);
	if (o->clock && (!o->clock->boot_ms || !o->clock->wall_ms))
		return fault(ret_option, "clock", KVS_ERR_INVALID_ARGUMENT);
	if (o->type &&
	    (!o->type->clone || !o->type->destroy || !o->type->encode != !o->type->decode))
		return fault(ret_option, "type", KVS_ERR_INVALID_ARGUMENT);
	return check_functions(o, ret_option);
}

int kvs__options_read(const struct kvs_options *opts, struct kvs_options *ret,
		      const char **ret_option)
{
	*ret = (struct kvs_options)KVS_OPTIONS_INIT;
	if (opts && !kvs__sized_copy(ret, sizeof(*ret), opts, opts->size))
		return fault(ret_option, "size", KVS_ERR_INVALID_ARGUMENT);
	return check(ret, ret_option);
}

KVS_API int kvs_options_check(const struct kvs_options *opts, const char **ret_option)
{
	struct kvs_options ignored;

	return kvs__options_read(opts, &ignored, ret_option);
}
