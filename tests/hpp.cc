/* SPDX-License-Identifier: MIT */
/* hpp.cc - every function of kvs.hpp. Reports in TAP; see hpp.sh. */
#include <kvs.hpp>

#include <cstdio>
#include <thread>

namespace
{

int number;
int failed;

void report(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++number, what);
	failed += !good;
}

template <class fn> int code_of(fn call)
{
	try {
		call();
	} catch (const kvspp::error &e) {
		return e.what() == std::string(kvs_strerror(e.code())) ? e.code() : 1;
	}
	return 0;
}

void basics(kvspp::store &db)
{
	using namespace std::string_literals;
	const std::string zeros = "a\0b"s;

	report(!db.get("planet") && !db.contains("planet"), "an absent key");
	uint64_t version = db.set("planet", "earth");
	report(db.get("planet") == "earth" && db.contains("planet") && db.size() == 1,
	       "set and get");
	report(!db.add("planet", "mars") && db.add("moon", "luna"), "add");
	report(db.replace("moon", "io") && !db.replace("sun", "sol"), "replace");
	report(db.compare_and_set("planet", "mars", version) &&
		       !db.compare_and_set("planet", "venus", version) &&
		       !db.compare_and_set("sun", "sol", 1) && db.get("planet") == "mars",
	       "compare and set");
	db.set(zeros, zeros);
	report(db.get(zeros) == zeros && db.erase(zeros) && !db.erase(zeros), "any bytes");
	db.set("", "");
	report(db.get("") == "" && db.erase(""), "the empty key and the empty value");
	report(db.increment("n") == 1 && db.increment("n", 41) == 42 && db.get("n") == "42",
	       "increment");
	db.set("soon", "gone", std::chrono::hours(1));
	report(db.get("soon") == "gone", "a key with a deadline");
}

void errors(kvspp::store &db)
{
	report(code_of([&] { db.set(std::string(70000, 'k'), ""); }) == KVS_ERR_KEY_TOO_LARGE,
	       "errors are thrown");
	report(code_of([&] { db.set("k", "", std::chrono::milliseconds(-1)); }) ==
		       KVS_ERR_INVALID_TTL,
	       "so is that of a time");
	report(code_of([&] {
		       const kvspp::guard g(db);

		       db.clear();
	       }) == KVS_ERR_IN_READ_SECTION,
	       "the guard is a section, and ends when something is thrown");
	db.clear();
	report(db.size() == 0, "clear");
}

void borrowing(kvspp::store &db)
{
	db.set("k", "value");
	{
		const kvspp::guard g(db);
		std::optional<std::string_view> s = g.get("k");

		db.erase("k");
		report(s == "value" && !g.get("k"), "borrowed until the guard is gone");
	}
	db.set("k", "other");
	kvspp::pinned p(db, "k");
	const kvspp::pinned none(db, "none");
	db.set("k", "third");
	std::thread([q = std::move(p)] {
		report(q && *q == "other", "pinned, on another thread");
	}).join();
	report(!p && !none, "an empty pin");
}

} // namespace

int main()
{
	kvs_options options = KVS_OPTIONS_INIT;

	printf("1..17\n");
	options.shards = -1;
	report(code_of([&] { const kvspp::store bad(&options); }) == KVS_ERR_INVALID_NUM_SHARDS,
	       "open can fail");
	kvspp::store first;
	kvspp::store db(std::move(first));
	basics(db);
	errors(db);
	borrowing(db);
	return failed != 0 || number != 17;
}
