/* SPDX-License-Identifier: GPL-2.0 */
/* A process that uses everything the module has, under load, for tests that stop, freeze, trace or kill it. */
#ifndef FASTIO_TESTS_VICTIM_H
#define FASTIO_TESTS_VICTIM_H

#include <stdatomic.h>
#include <sys/types.h>

#include "ctx.h"

/**
 * struct victim - a running victim
 * @pid: its process
 * @echoes: echoes it has completed, in memory shared with it
 * @echo_socket: shared with it: a connection it serves by SEND_RECV in a slot; the other end is ours
 */
struct victim {
	pid_t pid;
	atomic_ulong *echoes;
	int echo_socket;
};

/**
 * victim_start() - start one and wait until it is under load
 * @victim: filled
 * @server: who serves its rings
 * @in_victim: called there once it is under load, or NULL; what it returns is the exit status
 */
void victim_start(struct victim *victim, enum server server, int (*in_victim)(struct ctx *ctx));

/* Checks that it echoes: @echoes more within ten seconds (times slowness). */
void victim_makes_progress(const struct victim *victim, unsigned long echoes);

/* Kills it with @signal (0: waits for its own end), reaps it and closes our end. Return: its wait status. */
int victim_end(struct victim *victim, int signal);

#endif
