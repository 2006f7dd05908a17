/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * script - one line of file operations, done by the same system calls wherever it runs.
 *
 *   list   := item { ';' item }
 *   item   := '(' list { '|' list } ')' | ['!'] VERB { WORD }
 *
 * A group is done by other processes, one a branch, all at the same time; the script goes on when
 * they have ended. Names are relative to the script's directory. A step must succeed, one with '!'
 * must fail. Descriptors have a digit for a name and stay open until they are closed, by
 * script_end() at the latest; those that a group opens end with its process. The verbs are in the
 * table at the end of script.c.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>

struct script_failure {
	int error;	/* errno; 0: a step succeeded that should not */
	char step[128]; /* which one; empty if it was in a group */
};

/*
 * Does @text below the directory @root, which is its working directory. With @paced, after each
 * system call outside of branches it writes the line "step" and waits for a line. True, or false
 * and @ret.
 */
bool script_run(const char *root, const char *text, bool paced, struct script_failure *ret);

/* Closes what scripts have left open. */
void script_end(void);

#endif
