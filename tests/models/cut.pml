/* SPDX-License-Identifier: MIT */
/*
 * cut.pml - a model of the cut: the protocol by which a snapshot of the whole store is the state of
 * one instant, while writers and readers run.
 *
 * WHAT IS SEARCHED   Up to three threads run a program of one or two operations each on the keys X
 * and Y, while one more takes one snapshot or two, or aborts the first. spin tries every
 * interleaving of their shared accesses (one access, one step; sequentially consistent). The script
 * "check" beside this file lists the programs.
 *
 * THE PROTOCOL   Shared: `mode` (QUIET, LATE, POST) and `era`, which grows by 4 from snapshot to
 * snapshot. With S the era of the running snapshot, an entry's stamp says:
 *
 *	0        not settled: nobody knows yet on which side of the cut it was written
 *	1        written and removed before the cut
 *	S + 1    written before the cut, claimed by the walker
 *	S + 2    written after the cut
 *	S + 3    written before the cut, removed after it; its remover owes it to the queue
 *	another  written before the cut
 *
 * Begin: era = S, mode = LATE, grace period. Cut: era = S + 2, mode = POST. Then the walk. End and
 * abort: mode = QUIET, grace period, last drain of the queue.
 *
 * A writer that saw QUIET or POST stamps its entry with the era it loaded after the mode. One that
 * saw LATE publishes with stamp 0, or marks "deleted, stamp owed", and settles that afterwards by
 * the era it loads then; whoever meets it first does the same in its place. Why it holds together:
 * a late write takes effect, in the order of all operations, at the load of era whose value was
 * installed, and nobody has answered from it before.
 *
 * WHAT MUST HOLD
 *
 *   1. The snapshot is the prefix, before one instant, of one linearization of all operations. See
 *      below.
 *   2. The walker and the queue together give out no key twice.
 *   3. No thread touches an entry that is freed. An entry is freed as early as the rules allow: the
 *      moment the last section ends that was open when it was retired (`waits`).
 *   4. An entry goes to the queue at most once and is retired once, either by the writer that
 *      removed it or by the consumer of the queue; at the end, what is not linked has been retired.
 *   5. Only what the grace periods allow waits: no deadlock (spin looks for invalid end states).
 *
 * HOW 1 IS CHECKED   From outside, by what the operations answered and when; stamps and modes play
 * no part.
 *
 * The writes of a key are ordered by the CAS that made them; state i of a key is the one after its
 * i-th write, state 0 the initial one. An insert, a replacement, a delete is a write; get, a failed
 * add and a failed delete are reads of a state. Each read was of a state that was current at some
 * instant of the operation (asserted), so the operations alone are linearizable. An order of all
 * operations is a linearization if it has the following edges:
 *
 *   (a) from write i of a key to its write i + 1;
 *   (b) from write i to each read of state i, and from each read of state i to write i + 1;
 *   (c) from an operation that returned to each operation called after that.
 *
 * Candidates for the cut are the pairs p = (p[X], p[Y]) of states such that state p[k] of each key
 * k is what the snapshot has of k. (An absent key may stand for several states, between several
 * lives.) A candidate is the prefix before one instant of some linearization if and only if no path
 * of edges leads from a write behind p to a write within p; then the operations can be sorted with
 * all that must come before the cut in front. It is enough to look at paths without a write between
 * their ends. Edges (c) are transitive, so such a path is (a); or it leads from write x of one key,
 * perhaps by a read of it, by (c) to an operation o, which is write y of the other key or a read of
 * its state y - 1. So one number for each write y is enough: the greatest x that had returned, or
 * had been read by an operation that had returned, when such an o was called. `known[k]` is that x
 * for a call made now; `needs` keeps the maximum over all o.
 *
 * The snapshot itself is an operation that lasts from the call of begin to its return: states known
 * at the call lie within the cut (`least`), what was called after the return lies behind it
 * (`most`). Of two snapshots the first lies within the second. Exactly when all threads have
 * finished, one candidate must pass all that.
 *
 * WHAT IS LEFT OUT   Weak memory: every access is sequentially consistent, as it is in the library.
 * The list has one chain to a key, and to find the place in it is one step, since the CAS that
 * follows checks it again. A chain is a row of replaced entries, then at most one live or deleted
 * one, since an insert finds the chain empty. Left out are begin's reading of the clock (its second
 * try is an abort at the cut), the cap on memory (an abort), and values that the walker pins.
 *
 * Steps are joined where whatever can go wrong with the steps apart can go wrong with them joined.
 * An entry's stamp is loaded together with its link: a later load would only find more settled. The
 * call of an operation and the start of its section are joined with its first access, its end and
 * its return with its last; the removed entry is retired or pushed in the step that unlinks it; a
 * grace period starts with the store before it and ends with the store behind it. (A later call, an
 * earlier return, a shorter section only demand more of the snapshot and free entries sooner.)
 * Programs with WIDE have sections that span operations.
 */

/* ---- configuration, by -D ---- */

/* Programs: thread t does Ot0, then Ot1. */
#define NOP 0
#define GETX 2
#define GETY 3
#define SETX 4
#define SETY 5
#define ADDX 6
#define ADDY 7
#define DELX 8
#define DELY 9

#ifndef O00
#define O00 NOP
#endif
#ifndef O01
#define O01 NOP
#endif
#ifndef O10
#define O10 NOP
#endif
#ifndef O11
#define O11 NOP
#endif
#ifndef O20
#define O20 NOP
#endif
#ifndef O21
#define O21 NOP
#endif

/* 1: the programs and the walk use X alone. */
#ifndef KEYS
#define KEYS 2
#endif

/* Is the key there at the beginning? */
#ifndef HAS_X
#define HAS_X 1
#endif
#ifndef HAS_Y
#define HAS_Y 1
#endif

/* Bit t: thread t runs its whole program inside one section. */
#ifndef WIDE
#define WIDE 0
#endif

/* 1: writers load mode and era after they found the place, instead of before. */
#ifndef MODE_LAST
#define MODE_LAST 0
#endif

#ifndef SNAPSHOTS
#define SNAPSHOTS 1
#endif

/* One more snapshot is begun first and aborted: 1 before the cut, 2 between the cut and POST, 3 during the walk. */
#ifndef ABORT
#define ABORT 0
#endif

/* One of these breaks the protocol: */
#define NO_HELP 1              /* readers answer from what is not settled */
#define NO_GP1 2               /* no grace period before the cut */
#define NO_GP2 3               /* none before the last drain */
#define WALK_IGNORES_END 4     /* the walker takes what was removed before the cut */
#define DELETE_NOT_SETTLED 5   /* readers answer "absent" from a delete that is not settled */
#define QUIET_CONST 6          /* quiet writers stamp "before any cut" */
#define QUIET_NO_SETTLE 7      /* quiet writers settle nothing */
#define PUSH_BEFORE_UNLINK 8   /* to the queue while still linked */
#define ERA_FIRST 9            /* writers load era, then mode */
#define LATE_NO_SETTLE 10      /* late writers replace and delete what is not settled */
#define UNLINK_NOT_SETTLED 11  /* others unlink a deleted entry whose delete is not settled */
#define NO_CLAIM 12            /* the remover pushes what the walker may have taken */
#define EARLY_STAMP 13         /* late writers stamp before they publish */
#define PLAIN_DELETE 14        /* late deletes owe no stamp */
#define MODE_BEFORE_ERA 15     /* begin publishes the mode, then S */
#define POST_BEFORE_CUT 16     /* POST before the era of the cut */
#define ABORT_NO_GP 17         /* no grace period after an abort */
#define RETURNS_EARLY 18       /* begin returns before the cut */
#ifndef MUTANT
#define MUTANT 0
#endif
#define BROKEN(m) (MUTANT == m)

/* One of these must happen: the search has to end with an error. They show that the searches are not empty. */
#define READER_STAMPS_AFTER 1   /* a reader settles a write, behind the cut */
#define READER_DELETES_BEFORE 2 /* a reader settles a delete, before the cut */
#define READER_DELETES_AFTER 3  /* the same behind it */
#define QUIET_SETTLES 4         /* a quiet writer settles a late write */
#define WALKER_STAMPS 5         /* the walker settles a write */
#define WALKER_TAKES_REMOVED 6  /* the walker takes an entry that is removed already */
#define LATE_HANDS_OVER 7       /* a late writer hands over what it replaced */
#define HELPED_DELETE_OWED 8    /* a late delete was settled by another, and its remover owes the entry */
#define FIRST_LIFE_FROM_QUEUE 9 /* a deleted entry comes from the queue while its key is there again */
#ifndef GOAL
#define GOAL 0
#endif
#define REACHED(g, condition) assert(GOAL != g || !(condition))

/* ---- shared state ---- */

#define X 0
#define Y 1
#define THREADS 3
#define ENTRIES 9 /* 0 is none; 1 and 2 are the initial ones; thread t writes 3 + 2t and 4 + 2t */

#define QUIET 0
#define LATE 1
#define POST 2

#define LIVE 0
#define REPLACED 1
#define DELETED 2
#define OWED 3 /* deleted, stamp owed */

#define PRIVATE 0
#define LINKED 1
#define QUEUED 2
#define RETIRED 3

byte mode = QUIET;
byte era = 2;

byte head[2];
byte next[ENTRIES]; /* next and state are one word: they are loaded and changed together */
byte state[ENTRIES];
byte stamp[ENTRIES];
byte life[ENTRIES];
byte queued; /* entries in the queue */

byte open;           /* sections: a bit for each thread and one for the walker */
byte waits[ENTRIES]; /* retired: the sections it still waits for */
byte period;         /* the sections that the snapshot's grace period still waits for */

#define SECTION(id) (1 << (id))
#define WALKER SECTION(THREADS)

#define SNAPSHOT_OF(e) ((e) & 252)
#define BEFORE_CUT(b, s) ((b) > 1 && (b) != (s) + 1 && (b) != (s) + 2 && (b) != (s) + 3)

/* ---- what is observed ---- */

#define STATES 8     /* of a key: 0 to 6 */
#define NO_LIMIT 15

byte writes[2];      /* of the key, so far */
byte wrote[ENTRIES]; /* the state of which this entry is the content */
byte key[ENTRIES];
byte known[2];
byte needs[2 * STATES];
byte least[4]; /* for snapshot s and key k at 2s + k, like the next two */
byte most[4];
byte taken[4];
byte returned; /* snapshots whose begin has returned */
byte running;  /* threads */

#define AT_LEAST(a, b) a = ((a) < (b) -> (b) : (a))
#define AT_MOST(a, b) a = ((a) > (b) -> (b) : (a))

/* ---- sections and memory ---- */

inline touch(en)
{
	assert(life[en] != RETIRED || waits[en] != 0)
}

inline leave(section)
{
	open = open & ~(section);
	period = period & ~(section);
	for (j : 1 .. ENTRIES - 1) {
		waits[j] = waits[j] & ~(section)
	}
	j = 0
}

inline retire(en)
{
	assert(life[en] == LINKED || life[en] == QUEUED);
	life[en] = RETIRED;
	waits[en] = open
}

/* ---- settling, by era @by, loaded before in the same section ---- */

inline settle_write(en, by)
{
	touch(en);
	stamp[en] = (stamp[en] == 0 -> by : stamp[en])
}

inline settle_delete(en, by)
{
	touch(en);
	stamp[en] = (BEFORE_CUT(stamp[en], SNAPSHOT_OF(by)) ->
		(by == SNAPSHOT_OF(by) -> 1 : by + 1) : stamp[en])
}

/* The remover or the walker wins a removed entry that was written before the cut of @s, or does not. */
inline claim(en, s, value, won)
{
	touch(en);
	won = BEFORE_CUT(stamp[en], s);
	stamp[en] = (won -> value : stamp[en])
}

/* ---- what an operation leaves behind for the check ---- */

/* Where a thread is: */
#define CALL 0
#define GET 1
#define GET_ERA 2
#define GET_SETTLE 3
#define LOAD_MODE 4
#define LOAD_ERA 5
#define FIND 6
#define FIND_ERA 7
#define FIND_SETTLE 8
#define FIND_UNLINK 9
#define PUBLISH 10
#define OWN_ERA 11
#define OWN_SETTLE 12
#define CLAIM 13
#define LEAVE_LIST 14

/*
 * It answers, in its last step. State @s is known from now on; a snapshot whose begin had returned
 * before the call has state @limit at most.
 */
inline answer(s, limit)
{
	AT_LEAST(known[k], s);
	if
	:: after_begin >= 1 -> AT_MOST(most[k], limit)
	:: else
	fi;
	if
	:: after_begin >= 2 -> AT_MOST(most[2 + k], limit)
	:: else
	fi;
	if
	:: ((WIDE >> id) & 1) && op != NOP
	:: else -> leave(SECTION(id))
	fi;
	k = 0; kind = NOP; other = 0; current = 0; after_begin = 0;
	m = 0; e = 0; stamp_new = 0; c = 0; i = 0; owed = 0;
	pc = CALL
}

/* It read state @s of its key and answers. */
inline answer_read(s)
{
	assert((s) >= current);
	AT_LEAST(needs[k * STATES + (s) + 1], other);
	answer(s, s)
}

/* It makes the next state of its key, of which @en is the content, or nothing. */
inline write_state(en)
{
	writes[k]++;
	i = writes[k];
	AT_LEAST(needs[k * STATES + i], other);
	if
	:: en != 0 ->
		stamp[en] = stamp_new;
		life[en] = LINKED;
		wrote[en] = i;
		key[en] = k
	:: else
	fi
}

/* ---- a thread ---- */

#define ATTEMPT (MODE_LAST -> FIND : (BROKEN(ERA_FIRST) -> LOAD_ERA : LOAD_MODE))

inline load_mode()
{
	m = mode;
	if
	:: BROKEN(ERA_FIRST) -> pc = FIND
	:: !BROKEN(ERA_FIRST) && m == LATE && !BROKEN(EARLY_STAMP) -> pc = (MODE_LAST -> PUBLISH : FIND)
	:: else -> pc = LOAD_ERA
	fi
}

inline load_era()
{
	e = era;
	pc = (BROKEN(ERA_FIRST) -> LOAD_MODE : (MODE_LAST -> PUBLISH : FIND))
}

proctype thread(byte id; byte op; byte op_2)
{
	byte pc = CALL;
	byte kind, k;
	byte n = 2 + 2 * id;    /* the entry it writes */
	byte other;             /* the state of the other key that was known at the call */
	byte current;           /* get: the state of its key at the call */
	byte after_begin;       /* snapshots whose begin had returned at the call */
	byte m;                 /* the mode it loaded */
	byte e;                 /* the era it loaded last */
	byte stamp_new;         /* what it publishes with */
	byte c;                 /* the entry it stands on, and the one it removed */
	byte i;                 /* the state it read or wrote */
	bit unlink;             /* find: what it settles is a delete */
	bit owed;               /* the removed entry goes to the queue */
	byte j;

	do
	:: d_step { pc == CALL && op == NOP ->
		running--
	   }
	   break

	:: d_step { pc == CALL && op != NOP ->
		kind = op & 254;
		k = op & 1;
		op = op_2;
		op_2 = NOP;
		n++;
		open = open | SECTION(id);
		other = known[1 - k];
		after_begin = returned;
		if
		:: kind == GETX ->
			current = writes[k];
			c = head[k];
			if
			:: c == 0 -> answer_read(writes[k])
			:: else -> pc = GET
			fi
		:: else ->
			pc = ATTEMPT;
			if
			:: pc == LOAD_MODE -> load_mode()
			:: pc == LOAD_ERA -> load_era()
			:: else
			fi
		fi
	   }

	/* ---- get: the mode is not looked at; what is found says whether it must be settled ---- */

	:: d_step { pc == GET ->
		touch(c);
		if
		:: state[c] == REPLACED ->
			c = next[c]
		:: state[c] == LIVE ->
			i = wrote[c];
			assert(i == writes[k]);
			if
			:: stamp[c] == 0 && !BROKEN(NO_HELP) -> pc = GET_ERA
			:: else -> answer_read(i)
			fi
		:: state[c] == OWED ->
			i = wrote[c] + 1;
			if
			:: !BROKEN(DELETE_NOT_SETTLED) -> pc = GET_ERA
			:: else -> answer_read(i)
			fi
		:: state[c] == DELETED ->
			answer_read(wrote[c] + 1)
		fi
	   }
	:: d_step { pc == GET_ERA ->
		e = era;
		pc = GET_SETTLE
	   }
	:: d_step { pc == GET_SETTLE ->
		if
		:: i == wrote[c] ->
			REACHED(READER_STAMPS_AFTER, stamp[c] == 0 && e != SNAPSHOT_OF(e));
			settle_write(c, e)
		:: else ->
			REACHED(READER_DELETES_BEFORE, BEFORE_CUT(stamp[c], SNAPSHOT_OF(e)) && e == SNAPSHOT_OF(e));
			REACHED(READER_DELETES_AFTER, BEFORE_CUT(stamp[c], SNAPSHOT_OF(e)) && e != SNAPSHOT_OF(e));
			settle_delete(c, e)
		fi;
		answer_read(i)
	   }

	/* ---- an attempt to write ---- */

	:: d_step { pc == LOAD_MODE ->
		load_mode()
	   }
	:: d_step { pc == LOAD_ERA ->
		load_era()
	   }

	/* Unlink what is marked; settle what stands in the way or what the decision rests on. */
	:: d_step { pc == FIND ->
		c = head[k];
		if
		:: c == 0 ->
			if
			:: kind == DELX -> answer_read(writes[k])
			:: else -> pc = (MODE_LAST -> LOAD_MODE : PUBLISH)
			fi
		:: else ->
			touch(c);
			if
			:: state[c] == LIVE ->
				if
				:: stamp[c] == 0 && !(BROKEN(QUIET_NO_SETTLE) && m == QUIET) &&
					!(BROKEN(LATE_NO_SETTLE) && m == LATE) -> pc = FIND_ERA
				:: else ->
					if
					:: kind == ADDX -> answer_read(wrote[c])
					:: else -> pc = (MODE_LAST -> LOAD_MODE : PUBLISH)
					fi
				fi
			:: state[c] == OWED && !BROKEN(UNLINK_NOT_SETTLED) &&
				!(BROKEN(QUIET_NO_SETTLE) && m == QUIET) ->
				unlink = 1;
				pc = FIND_ERA
			:: else -> pc = FIND_UNLINK
			fi
		fi
	   }
	:: d_step { pc == FIND_ERA ->
		i = era; /* e may be the era to publish with */
		pc = FIND_SETTLE
	   }
	:: d_step { pc == FIND_SETTLE ->
		if
		:: unlink ->
			settle_delete(c, i);
			pc = FIND_UNLINK
		:: else ->
			settle_write(c, i);
			REACHED(QUIET_SETTLES, m == QUIET && stamp[c] == era);
			c = 0;
			pc = FIND
		fi;
		i = 0;
		unlink = 0
	   }
	:: d_step { pc == FIND_UNLINK ->
		touch(c);
		head[k] = (head[k] == c -> next[c] : head[k]);
		c = 0;
		pc = FIND
	   }

	/* The CAS that takes effect: on the head, or on the entry's link. */
	:: d_step { pc == PUBLISH ->
		stamp_new = (m == LATE && !BROKEN(EARLY_STAMP) -> 0 : e);
		stamp_new = (m == QUIET && BROKEN(QUIET_CONST) -> 2 : stamp_new);
		if
		:: c == 0 && head[k] == 0 ->
			head[k] = n;
			write_state(n);
			pc = OWN_ERA
		:: c != 0 && state[c] == LIVE && kind == SETX ->
			touch(c);
			state[c] = REPLACED;
			next[c] = n;
			write_state(n);
			pc = OWN_ERA
		:: c != 0 && state[c] == LIVE && kind == DELX ->
			touch(c);
			state[c] = (m == LATE && !BROKEN(PLAIN_DELETE) -> OWED : DELETED);
			write_state(0);
			pc = OWN_ERA
		:: else ->
			touch(c);
			m = 0;
			e = 0;
			stamp_new = 0;
			c = 0;
			pc = ATTEMPT
		fi;
		stamp_new = 0;
		if
		:: pc == OWN_ERA && m != LATE ->
			if
			:: c == 0 -> answer(i, i - 1)
			:: else -> pc = (m == QUIET -> LEAVE_LIST : CLAIM)
			fi
		:: else
		fi
	   }

	/* Late: settle by an era loaded after the CAS. */
	:: d_step { pc == OWN_ERA ->
		e = era;
		pc = OWN_SETTLE
	   }
	:: d_step { pc == OWN_SETTLE ->
		if
		:: kind == DELX && BROKEN(PLAIN_DELETE) ->
			pc = (e == SNAPSHOT_OF(e) -> LEAVE_LIST : CLAIM)
		:: kind == DELX && !BROKEN(PLAIN_DELETE) ->
			REACHED(HELPED_DELETE_OWED, stamp[c] == SNAPSHOT_OF(e) + 3);
			settle_delete(c, e);
			owed = (stamp[c] == SNAPSHOT_OF(e) + 3);
			pc = LEAVE_LIST
		:: else ->
			settle_write(n, e);
			if
			:: c == 0 -> answer(i, i - 1)
			:: else -> pc = (stamp[n] == SNAPSHOT_OF(e) + 2 -> CLAIM : LEAVE_LIST)
			fi
		fi
	   }

	/* The write is behind the cut: what it removed may be the snapshot's. */
	:: d_step { pc == CLAIM ->
		claim(c, SNAPSHOT_OF(e), SNAPSHOT_OF(e) + 3, owed);
		REACHED(LATE_HANDS_OVER, owed && m == LATE);
		owed = owed || BROKEN(NO_CLAIM);
		pc = LEAVE_LIST
	   }
	:: d_step { pc == LEAVE_LIST ->
		touch(c);
		if
		:: BROKEN(PUSH_BEFORE_UNLINK) && owed ->
			assert(life[c] == LINKED);
			life[c] = QUEUED;
			queued++;
			owed = 0;
			j = 1 /* come back to unlink */
		:: else ->
			head[k] = (head[k] == c -> next[c] : head[k]);
			if
			:: owed ->
				assert(life[c] == LINKED);
				life[c] = QUEUED;
				queued++
			:: !owed && j == 0 -> retire(c)
			:: else
			fi;
			j = 0;
			answer(i, i - 1)
		fi
	   }
	od
}

/* ---- the snapshot ---- */

#define BEGIN 0
#define SET_LATE 1
#define CUT 2
#define SET_POST 3
#define NEXT_KEY 4
#define VISIT 5
#define SUCCESSOR 6
#define TAKE 7
#define SETTLE_DELETE 8
#define SET_QUIET 9
#define END 10
#define ENDED 11

#define WALKING (pc >= NEXT_KEY && pc <= SETTLE_DELETE)

inline record(en)
{
	if
	:: aborted
	:: else ->
		assert(taken[2 * s + key[en]] == 0);
		taken[2 * s + key[en]] = en
	fi
}

inline drain()
{
	for (j : 1 .. ENTRIES - 1) {
		if
		:: life[j] == QUEUED ->
			touch(j);
			REACHED(FIRST_LIFE_FROM_QUEUE, state[j] != REPLACED && head[key[j]] != 0 && head[key[j]] != j);
			record(j);
			retire(j)
		:: else
		fi
	}
	j = 0;
	queued = 0
}

inline start_grace_period(skip_it)
{
	period = (skip_it -> 0 : open)
}

inline go_on()
{
	c = after;
	after = 0;
	if
	:: c == 0 ->
		leave(WALKER);
		pc = NEXT_KEY
	:: else -> pc = VISIT
	fi
}

/* ---- the check at the end ---- */

/* The entry that is the content of each state of each key. */
inline collect_content()
{
	for (j : 1 .. ENTRIES - 1) {
		if
		:: life[j] != PRIVATE -> content[key[j] * STATES + wrote[j]] = j
		:: else
		fi
	}
}

/* Is (x, y) a candidate for snapshot @sn, and does it pass? */
inline pass(sn, x, y, ret)
{
	ret = content[x] == taken[2 * (sn)] && content[STATES + y] == taken[2 * (sn) + 1] &&
		least[2 * (sn)] <= x && least[2 * (sn) + 1] <= y && x <= most[2 * (sn)] && y <= most[2 * (sn) + 1];
	for (j : 1 .. STATES - 1) {
		ret = ret && (j > x || needs[j] <= y) && (j > y || needs[STATES + j] <= x)
	}
}

inline check_snapshots()
{
	for (x0 : 0 .. writes[X]) {
		for (y0 : 0 .. writes[Y]) {
			pass(0, x0, y0, ok);
			if
			:: ok && SNAPSHOTS == 2 ->
				for (x1 : x0 .. writes[X]) {
					for (y1 : y0 .. writes[Y]) {
						pass(1, x1, y1, ok);
						found = found || ok
					}
				}
			:: else -> found = found || ok
			fi
		}
	}
	assert(found)
}

inline check_memory()
{
	for (j : 1 .. ENTRIES - 1) {
		if
		:: life[j] == PRIVATE || life[j] == RETIRED
		:: else -> assert(life[j] == LINKED && state[j] == LIVE && head[key[j]] == j)
		fi
	}
	j = 0
}

proctype snapshots()
{
	byte pc = BEGIN;
	byte s;                    /* which */
	bit aborted = (ABORT != 0); /* this one will be */
	byte e;                    /* its era */
	byte todo;                 /* the keys still to visit */
	byte k, c, after;          /* the walker's key and entry, and the one behind it */
	bit won;
	byte j;

	byte content[2 * STATES], x0, y0, x1, y1;
	bit ok, found;

	do
	:: d_step { pc == BEGIN ->
		least[2 * s] = known[X];
		least[2 * s + 1] = known[Y];
		e = SNAPSHOT_OF(era) + 4;
		if
		:: BROKEN(MODE_BEFORE_ERA) -> mode = LATE
		:: else -> era = e
		fi;
		pc = SET_LATE
	   }
	:: d_step { pc == SET_LATE ->
		if
		:: BROKEN(MODE_BEFORE_ERA) -> era = e
		:: else -> mode = LATE
		fi;
		start_grace_period(BROKEN(NO_GP1));
		returned = (!aborted && BROKEN(RETURNS_EARLY) -> returned + 1 : returned);
		pc = (aborted && ABORT == 1 -> SET_QUIET : CUT)
	   }
	:: d_step { pc == CUT && period == 0 ->
		e = e + 2;
		if
		:: BROKEN(POST_BEFORE_CUT) -> mode = POST
		:: else -> era = e
		fi;
		pc = (aborted && ABORT == 2 -> SET_QUIET : SET_POST)
	   }
	:: d_step { pc == SET_POST ->
		if
		:: BROKEN(POST_BEFORE_CUT) -> era = e
		:: else -> mode = POST
		fi;
		returned = (!aborted && !BROKEN(RETURNS_EARLY) -> returned + 1 : returned);
		todo = (1 << KEYS) - 1;
		pc = NEXT_KEY
	   }

	/* ---- the walk: a section for each key, the keys in either order ---- */

	:: d_step { pc == NEXT_KEY && (todo & 1) ->
		todo = todo & 2;
		k = X;
		open = open | WALKER;
		after = head[k];
		go_on()
	   }
	:: d_step { pc == NEXT_KEY && (todo & 2) ->
		todo = todo & 1;
		k = Y;
		open = open | WALKER;
		after = head[k];
		go_on()
	   }
	:: d_step { pc == VISIT ->
		touch(c);
		after = next[c];
		if
		:: BROKEN(WALK_IGNORES_END) -> pc = TAKE
		:: !BROKEN(WALK_IGNORES_END) && state[c] == REPLACED -> pc = SUCCESSOR
		:: !BROKEN(WALK_IGNORES_END) && state[c] == OWED -> pc = SETTLE_DELETE
		:: else -> pc = TAKE
		fi
	   }
	/* Replaced before the cut or after it? */
	:: d_step { pc == SUCCESSOR ->
		settle_write(after, e);
		if
		:: stamp[after] == e -> pc = TAKE
		:: else -> go_on()
		fi
	   }
	:: d_step { pc == SETTLE_DELETE ->
		settle_delete(c, e); /* after the cut: its remover has it, or the walker had it before */
		go_on()
	   }
	/* Live, or removed after the cut, when the walker came. */
	:: d_step { pc == TAKE ->
		REACHED(WALKER_STAMPS, stamp[c] == 0);
		settle_write(c, e);
		claim(c, SNAPSHOT_OF(e), SNAPSHOT_OF(e) + 1, won);
		REACHED(WALKER_TAKES_REMOVED, won && state[c] != LIVE);
		if
		:: won -> record(c)
		:: else
		fi;
		won = 0;
		go_on()
	   }

	/* The consumer of the queue may be another thread. */
	:: d_step { WALKING && queued != 0 ->
		drain()
	   }

	:: d_step { pc == NEXT_KEY && (todo == 0 || (aborted && ABORT == 3)) ->
		todo = 0;
		pc = SET_QUIET
	   }
	:: d_step { pc == SET_QUIET ->
		mode = QUIET;
		start_grace_period(BROKEN(NO_GP2) || (aborted && BROKEN(ABORT_NO_GP)));
		pc = END
	   }
	:: d_step { pc == END && period == 0 ->
		drain();
		pc = (aborted || s + 1 < SNAPSHOTS -> BEGIN : ENDED);
		s = (aborted || pc == ENDED -> s : s + 1);
		aborted = 0;
		k = 0
	   }

	:: d_step { pc == ENDED && running == 0 ->
		collect_content();
		check_snapshots();
		check_memory()
	   }
	   break
	od
}

inline put_initial(en, kk)
{
	head[kk] = en;
	key[en] = kk;
	stamp[en] = era;
	life[en] = LINKED
}

init
{
	byte j;

	atomic {
		for (j : 0 .. 3) {
			most[j] = NO_LIMIT
		}
		if
		:: HAS_X -> put_initial(1, X)
		:: else
		fi;
		if
		:: HAS_Y && KEYS == 2 -> put_initial(2, Y)
		:: else
		fi;
		running = (O00 != NOP) + (O10 != NOP) + (O20 != NOP);
		j = 0;
		run snapshots();
		if
		:: O00 != NOP -> run thread(0, O00, O01)
		:: else
		fi;
		if
		:: O10 != NOP -> run thread(1, O10, O11)
		:: else
		fi;
		if
		:: O20 != NOP -> run thread(2, O20, O21)
		:: else
		fi
	}
}
