/* SPDX-License-Identifier: MIT */
/*
 * The module's parts: module.c loads and configures, connection.c is the connection type, loop.c makes
 * the event loop wait for the rings. All of it runs in the server's main thread.
 */
#ifndef FASTIO_REDIS_CORE_H
#define FASTIO_REDIS_CORE_H

#include "shim.h"

#include "flow.h"

/* How long replies may take to leave when the server exits. */
#define EXIT_DRAIN_MS 100

/**
 * struct core - the module's state
 * @rings: NULL before the first connection, and when there is no FastIO
 * @tried: rings_open() was tried
 * @died: -errno once the workers are gone; flows are abandoned at the next occasion
 * @owner: process that serves, not its children
 * @tcp: the server's own connection type
 * @options: for rings_open()
 * @spin_us: how long the main thread polls before it sleeps, microseconds
 * @hybrid: quarters of a worker's connections that the main thread's own ring gets; -1 leaves it to the number of workers
 * @port: of a listener of our own; 0 takes TCP's over
 * @accepted: connections that came to us
 * @plain: of these, those that were left to system calls from the beginning
 * @turned_away: of these, those that the server did not want, for want of room
 */
struct core {
	struct rings *rings;
	bool tried;
	int died;
	pid_t owner;
	ConnectionType *tcp;
	struct rings_options options;
	unsigned int spin_us;
	int hybrid, port;
	unsigned long long accepted, plain, turned_away;
};

extern struct core core;

/* module.c */
bool core_open(void);

/* connection.c */
extern ConnectionType connection_type;
void connection_accept(aeEventLoop *el, int fd, void *privdata, int mask);
void connection_gone(struct flow *flow);

/* loop.c */
void loop_hook(void);
void loop_unhook(void);

#endif
