/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Instructions per operation, measured in a guest of one vCPU under `-icount shift=0`. There one instruction takes one
 * nanosecond of the guest's time, whatever the host does, so the CPU time of a thread is its instructions: those of the
 * program, of its system calls, and of the softirqs and wake-ups done on its back (the kernels we run on do not
 * account interrupt time apart).
 *
 * A worker that polls spends CPU time on looking for work as well, here until the next tick of the clock, as it does
 * not sleep. The module parameter account makes it count the time of the passes that did work, publishing and waking
 * included: that is the path of the requests. (To subtract the looks, of which there are thousands for a request, their
 * price would have to be known to a hundredth of an instruction.)
 */
#ifndef FASTIO_BENCH_H
#define FASTIO_BENCH_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/types.h>

#include "../ctx.h"

#define MESSAGE_BYTES	64
#define CONNS_MAX	64

/**
 * struct bench - one echo measurement: warm-up, then a window of requests
 * @name: of the row
 * @conns: connections, 1..CONNS_MAX
 * @warm_up: requests before the window
 * @requests: requests in the window
 * @seen: requests served so far; the server calls bench_served()
 * @start: clocks at the beginning of the window
 * @ctx: whose ring 0 a donated worker serves, to be reported apart, or NULL
 */
struct bench {
	const char *name;
	unsigned int conns;
	uint64_t warm_up;
	uint64_t requests;
	uint64_t seen;
	struct clocks {
		uint64_t process_ns;
		uint64_t application_ns;
		uint64_t worker_ns;
	} start;
	struct ctx *ctx;
};

/* Starts the load in a process of its own: closed loop, every byte verified. Kill it at the end. */
pid_t load_start(const struct sockaddr_in *addr, unsigned int conns);

/* Counts requests that have been served. Return: whether the window is full; the row has been printed then. */
bool bench_served(struct bench *bench, unsigned int requests);

/* CPU time of this process, of this thread, and of the row's worker so far. */
struct clocks bench_clocks(const struct bench *bench);

/* Servers: each accepts the row's connections from a listening socket and serves until the window is full. */
void serve_epoll(struct bench *bench, int listener);
void serve_uring(struct bench *bench, int listener);
void serve_fastio(struct bench *bench, int listener, enum server server, bool fused);

/* NOPs in batches, by a server of the ring. */
void bench_nops(enum server server, unsigned int batch, uint64_t count);

/* What an empty pass of a polling worker costs. */
void bench_spin(void);

/* A loop of known length: whether one instruction is one nanosecond here. */
void bench_calibrate(void);

#endif
