/* SPDX-License-Identifier: MIT */
/*
 * results_file.h - a JSON file with one array, to which records are appended, one a line.
 *
 * It is whole after every append: written anew under another name, then renamed. A record begins with what
 * identifies it, so that a run that was broken off can be told what it has done already.
 */
#ifndef BENCH_RESULTS_FILE_H
#define BENCH_RESULTS_FILE_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench
{

inline std::string json_string(const std::string &text)
{
	std::string out = "\"";

	for (char c : text) {
		if (c == '"' || c == '\\')
			out += '\\';
		if ((unsigned char)c >= ' ')
			out += c;
	}
	return out + "\"";
}

class results_file
{
public:
	/* No name: nothing is kept. A file that is not there is empty. */
	explicit results_file(const std::string &its_name) : name(its_name)
	{
		std::ifstream in(name);
		std::string line;

		while (!name.empty() && std::getline(in, line)) {
			if (line.empty() || line == "[" || line == "]")
				continue;
			if (line.back() == ',')
				line.pop_back();
			if (line.front() != '{' || line.back() != '}')
				throw std::runtime_error(name + " is not a file of results");
			records.push_back(line);
		}
	}
	bool has(const std::string &beginning) const
	{
		for (const std::string &r : records)
			if (r.compare(0, beginning.size(), beginning) == 0)
				return true;
		return false;
	}
	void append(const std::string &record)
	{
		records.push_back(record);
		if (!name.empty())
			write();
	}

private:
	void write() const
	{
		const std::string part = name + ".part";
		FILE *f = fopen(part.c_str(), "w");
		bool ok = f && fputs("[\n", f) >= 0;

		for (size_t i = 0; ok && i < records.size(); i++)
			ok = fprintf(f, "%s%s\n", records[i].c_str(),
				     i + 1 < records.size() ? "," : "") > 0;
		ok = ok && fputs("]\n", f) >= 0;
		if (f && fclose(f) != 0)
			ok = false;
		if (!ok || rename(part.c_str(), name.c_str()) != 0)
			throw std::runtime_error(name + ": " + strerror(errno));
	}
	const std::string name;
	std::vector<std::string> records;
};

} // namespace bench

#endif // BENCH_RESULTS_FILE_H
