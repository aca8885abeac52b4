/* SPDX-License-Identifier: MIT */
/*
 * kvs.hpp - kvs.h for C++17: handles that close themselves, std::string_view in, std::optional out.
 *
 *	kvspp::store db;
 *	db.set("planet", "earth");
 *	std::optional<std::string> v = db.get("planet");
 *	{
 *		kvspp::guard g(db);                                 a read section
 *		std::optional<std::string_view> s = g.get("planet"); valid until the guard is gone
 *	}
 *
 * "Not there" and "there already" are answers; every other error is thrown, as kvspp::error. What is not
 * here is done with the functions of kvs.h on db.handle().
 */
#ifndef KVS_HPP
#define KVS_HPP

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "kvs.h"

namespace kvspp
{

class error : public std::runtime_error
{
public:
	explicit error(int its_code) : std::runtime_error(kvs_strerror(its_code)), code_(its_code)
	{
	}
	int code() const noexcept
	{
		return code_;
	}

private:
	int code_;
};

/* Throws unless @err is 0. */
inline void check(int err)
{
	if (err != KVS_OK)
		throw error(err);
}

/* True for 0, false for @no; throws for anything else. */
inline bool answer(int err, int no)
{
	if (err == no)
		return false;
	check(err);
	return true;
}

inline kvs_slice slice(std::string_view s) noexcept
{
	return kvs_bytes(s.data(), s.size());
}

inline std::string_view view(const kvs_value &v) noexcept
{
	return std::string_view(static_cast<const char *>(v.data), v.len);
}

/* A store. Moves, does not copy. Its end waits for read sections: not inside one, and after all pins. */
class store
{
public:
	explicit store(const kvs_options *options = nullptr)
	{
		check(kvs_open(options, &kv_));
	}
	~store()
	{
		kvs_free(kv_);
	}
	store(store &&other) noexcept : kv_(std::exchange(other.kv_, nullptr))
	{
	}
	store &operator=(store &&other) noexcept
	{
		std::swap(kv_, other.kv_);
		return *this;
	}
	kvs *handle() const noexcept
	{
		return kv_;
	}
	/* In stores of bytes only: an object is not. Likewise guard::get. */
	std::optional<std::string> get(std::string_view key) const
	{
		kvs_value v;

		if (!answer(kvs_get_alloc(kv_, slice(key), &v), KVS_ERR_NOT_FOUND))
			return std::nullopt;
		const owned o{ kv_, &v };
		return std::string(view(v));
	}
	/* Returns the version. */
	uint64_t set(std::string_view key, std::string_view value,
		     std::chrono::milliseconds ttl = std::chrono::milliseconds(0))
	{
		uint64_t version;

		check(kvs_set_ex(kv_, slice(key), slice(value), kvs_after(ttl.count()), &version));
		return version;
	}
	/* Only if it is absent, present, of that version. */
	bool add(std::string_view key, std::string_view value)
	{
		return answer(kvs_add(kv_, slice(key), slice(value), nullptr), KVS_ERR_DUPLICATE);
	}
	bool replace(std::string_view key, std::string_view value)
	{
		return answer(kvs_replace(kv_, slice(key), slice(value), nullptr),
			      KVS_ERR_NOT_FOUND);
	}
	bool compare_and_set(std::string_view key, std::string_view value, uint64_t expected)
	{
		int err = kvs_compare_and_set(kv_, slice(key), slice(value), expected, nullptr);

		return err != KVS_ERR_NOT_FOUND && answer(err, KVS_ERR_VERSION_MISMATCH);
	}
	bool erase(std::string_view key)
	{
		return answer(kvs_delete(kv_, slice(key), nullptr), KVS_ERR_NOT_FOUND);
	}
	bool contains(std::string_view key) const
	{
		return answer(kvs_exists(kv_, slice(key)), KVS_ERR_NOT_FOUND);
	}
	int64_t increment(std::string_view key, int64_t delta = 1)
	{
		int64_t n;

		check(kvs_increment(kv_, slice(key), delta, &n, nullptr));
		return n;
	}
	uint64_t size() const
	{
		uint64_t n;

		check(kvs_len(kv_, &n));
		return n;
	}
	void clear()
	{
		check(kvs_clear(kv_));
	}

private:
	struct owned {
		kvs *kv;
		kvs_value *value;
		~owned()
		{
			kvs_value_free(kv, value);
		}
	};
	kvs *kv_ = nullptr;
};

/* A read section of this thread. */
class guard
{
public:
	explicit guard(const store &s) noexcept : kv_(s.handle())
	{
		kvs_read_begin(kv_);
	}
	~guard()
	{
		kvs_read_end(kv_);
	}
	guard(const guard &) = delete;
	guard &operator=(const guard &) = delete;
	/* Not copied; valid as long as the guard. */
	std::optional<std::string_view> get(std::string_view key) const
	{
		kvs_value v;

		if (!answer(kvs_borrow(kv_, slice(key), &v), KVS_ERR_NOT_FOUND))
			return std::nullopt;
		return view(v);
	}

private:
	kvs *kv_;
};

/* A value held without a read section; empty if the key was absent. May be moved to other threads. */
class pinned
{
public:
	pinned(const store &s, std::string_view key) : kv_(s.handle())
	{
		has_ = answer(kvs_pin(kv_, slice(key), &value_, &pin_), KVS_ERR_NOT_FOUND);
	}
	~pinned()
	{
		kvs_unpin(kv_, &pin_);
	}
	pinned(pinned &&other) noexcept
	    : kv_(other.kv_), value_(other.value_), pin_(std::exchange(other.pin_, pin_type{})),
	      has_(other.has_)
	{
		other.has_ = false;
	}
	pinned &operator=(pinned &&) = delete;
	explicit operator bool() const noexcept
	{
		return has_;
	}
	std::string_view operator*() const noexcept
	{
		return view(value_);
	}

private:
	using pin_type = struct kvs_pin; /* there is a function of that name too */
	kvs *kv_;
	kvs_value value_ = {};
	pin_type pin_ = {};
	bool has_ = false;
};

} // namespace kvspp

#endif // KVS_HPP
