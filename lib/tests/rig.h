/* SPDX-License-Identifier: MIT */
/* What tests of running queues share: the ways to set up, and waiting for one completion. */
#ifndef RIG_H
#define RIG_H

#include "fastio.h"
#include "tap.h"

/* Long enough for any machine that works. */
#define RIG_WAIT_US 60000000
/*
 * Long enough to show that something does not happen at once; a pass depends on no more than that.
 */
#define RIG_QUIET_US 20000

/**
 * struct rig - a set-up queue and what tests read from it
 * @fio: running
 * @mode: how it was set up
 */
struct rig {
	struct fastio *fio;
	const struct rig_mode *mode;
};

/**
 * struct rig_mode - a way to share the work
 * @name: for the test's line
 * @workers: see struct fastio_params
 * @self_weight: see struct fastio_params
 * @idle_us: see struct fastio_params
 */
struct rig_mode {
	const char *name;
	unsigned int workers;
	unsigned int self_weight;
	unsigned int idle_us;
};

/* Every way: workers that sleep, that poll, inline, hybrid. */
extern const struct rig_mode rig_modes[];
extern const unsigned int rig_nr_modes;

/* Small rings, so that tests reach their ends. */
void rig_params(struct fastio_params *params, const struct rig_mode *mode);
/*
 * Runs all tests in all modes, each with queues of its own and a check that it leaves no descriptor
 * open.
 */
void rig_run(const struct tap_test *tests, unsigned int nr);

/*
 * The next completion, given back already; user_data is ~0 when none came in time. Submits first.
 */
struct fastio_cqe rig_next(struct rig *rig);
/* The same, noting a failure unless it is for @data; returns its result. */
int rig_expect(struct rig *rig, uint64_t data);
/* Whether nothing completes for a while. */
bool rig_quiet(struct rig *rig);
/* An SQE, never NULL: a full SQ ends the program. */
struct fastio_sqe *rig_get(struct fastio_queue *queue);
/* The same on the queue of @fd. */
struct fastio_sqe *rig_sqe(struct rig *rig, int fd);
/* A connected pair of TCP sockets on loopback, blocking. */
bool rig_tcp_pair(int pair[2]);
/* A listening TCP socket on loopback; @port is set. */
int rig_listen(int backlog, uint16_t *port);
int rig_connect(uint16_t port);
/* Descriptors this process has open. */
int rig_open_fds(void);

#endif
