/* SPDX-License-Identifier: MIT */
/* competitor.h - a contender in an environment, served by a process of its own (peers_serve.h). */
#ifndef BENCH_COMPETITOR_H
#define BENCH_COMPETITOR_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "adapter.h"

namespace bench
{

/* By name, what was measured; several numbers of one name are in the order they came. */
using answer = std::map<std::string, std::vector<double>>;

class competitor
{
public:
	/* What is served, and how: with huge pages under malloc, or with the libkvs.so of that directory. */
	competitor(std::string its_contender, std::string its_peer, unsigned its_overhead,
		   bool with_huge = false, std::string its_label = "", std::string its_library = "")
	    : name(its_contender + (with_huge ? "+huge" : "") +
		   (its_label.empty() ? "" : "@" + its_label)),
	      peer(std::move(its_peer)), overhead(its_overhead),
	      contender_name(std::move(its_contender)), huge(with_huge),
	      library(std::move(its_library))
	{
	}
	void start()
	{
		int down[2];
		int up[2];

		if (pipe(down) != 0 || pipe(up) != 0)
			throw std::runtime_error("no pipe");
		fflush(nullptr);
		pid = fork();
		if (pid < 0)
			throw std::runtime_error("no process");
		if (pid == 0)
			become_server(down, up);
		close(down[0]);
		close(up[1]);
		to = fdopen(down[1], "w");
		from = fdopen(up[0], "r");
		close_on_exec();
	}
	answer ask(const std::string &command)
	{
		answer a;
		std::string line = line_for(command), word;
		std::istringstream in(line);
		double number;

		while (in >> word >> number)
			a[word].push_back(number);
		return a;
	}
	void stop()
	{
		if (pid < 0)
			return;
		fclose(to);
		fclose(from);
		waitpid(pid, nullptr, 0);
		pid = -1;
	}
	/* After it has begun to serve: is the library that it was given the one that it runs? */
	bool runs_its_library() const
	{
		std::ifstream in("/proc/" + std::to_string(pid) + "/maps");
		std::string line;

		while (std::getline(in, line))
			if (line.find("libkvs.so") != std::string::npos)
				return library.empty() || line.find(library) != std::string::npos;
		return library.empty();
	}
	bool is_ours() const
	{
		return peer == "kvs";
	}

	std::string name;
	std::string peer;
	unsigned overhead;   /* bytes an entry beside key and value, roughly */
	double resident = 0; /* bytes, when it was loaded */

private:
	std::string line_for(const std::string &command)
	{
		std::string line;
		int c;

		fprintf(to, "%s\n", command.c_str());
		fflush(to);
		while ((c = getc(from)) != EOF && c != '\n')
			line += (char)c;
		if (c == EOF)
			throw std::runtime_error(name + " gave no answer to: " + command);
		return line;
	}
	[[noreturn]] void become_server(const int *down, const int *up)
	{
		dup2(down[0], 0);
		dup2(up[1], 1);
		close(down[0]);
		close(down[1]);
		close(up[0]);
		close(up[1]);
		if (huge)
			setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 1);
		if (!library.empty())
			setenv("LD_LIBRARY_PATH", library.c_str(), 1);
		execl("/proc/self/exe", "peers", "--serve", contender_name.c_str(),
		      (char *)nullptr);
		_exit(127);
	}
	/* Else a later child holds our ends open, and this one never sees the end of its commands. */
	void close_on_exec()
	{
		fcntl(fileno(to), F_SETFD, FD_CLOEXEC);
		fcntl(fileno(from), F_SETFD, FD_CLOEXEC);
	}
	std::string contender_name;
	bool huge;
	std::string library;
	pid_t pid = -1;
	FILE *to = nullptr;
	FILE *from = nullptr;
};

} // namespace bench

#endif // BENCH_COMPETITOR_H
