/* SPDX-License-Identifier: MIT */
/*
 * cut_graph.h - histories in which snapshots are operations, and the check that one is linearizable.
 *
 * Every write says what it found: the version that it replaced or removed, or that there was none. So
 * the lives of a key (an insert, overwrites, a delete) are known; cut_graph.c tells the rest.
 *
 * Keys may have deadlines; then moves of the clock are operations too, one after the other. The clock must not
 * come to the deadline of a write before that has returned.
 */
#ifndef KVS_TESTS_CUT_GRAPH_H
#define KVS_TESTS_CUT_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAPH_KEYS 4u
#define GRAPH_NODES 1024u

enum graph_kind { GRAPH_WRITE, GRAPH_DELETE, GRAPH_READ, GRAPH_SNAPSHOT, GRAPH_MOVE };

struct graph_op {
	enum graph_kind kind;
	uint32_t key;   /* none for a snapshot */
	uint64_t start; /* ticks */
	uint64_t end;
	uint64_t found;           /* version replaced, removed or read; 0: absent */
	uint64_t version;         /* written */
	uint64_t cut[GRAPH_KEYS]; /* snapshot: versions; 0: absent */
	int64_t deadline; /* of what was written, 0: none; of a move: what the clock comes to */
};

enum graph_outcome { GRAPH_RIGHT, GRAPH_VIOLATION, GRAPH_UNDECIDED };

/* graph_check - Is there an order of all operations that explains them? @ret_why says what is wrong. */
enum graph_outcome graph_check(const struct graph_op *ops, size_t count, const char **ret_why);

/* graph_check_excepting - The same, but for what the one exception allows; see cut_graph.c. */
enum graph_outcome graph_check_excepting(const struct graph_op *ops, size_t count,
					 const char **ret_why);

#endif /* KVS_TESTS_CUT_GRAPH_H */
