// SPDX-License-Identifier: GPL-2.0
/*
 * Accepts stay quick while every worker spins and the descriptor table grows under them. Growing a shared table waits for
 * an RCU grace period, which a thread that never leaves the kernel can hold up for 50 to 175 ms if it is careless.
 *
 * The table grows at powers of two, so descriptors up to each are taken and some accepts across it are timed. This is for
 * hardware or a virtual clock: where a busy host runs the vCPUs, its own pauses are as long.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

#define LIMIT_NS	10000000ULL
#define ROUNDS		3
#define ACROSS		6	/* accepts timed at each step, half of them before it */

static const int steps[] = { 64, 128, 256, 512, 1024, 2048, 4096, 8192, 10000 };

struct times {
	uint64_t ns[ROUNDS][NR(steps)][ACROSS];
};

/*
 * A CPU for each thread, where there are as many: a thread that has just woken up on a spinning worker's CPU waits for
 * the scheduler's next tick or two, which is not what is timed here.
 */
static void stay_on(pthread_t thread, unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % sysconf(_SC_NPROCESSORS_ONLN), &set);
	NEED_EQ(pthread_setaffinity_np(thread, sizeof(set), &set), 0);
}

/* The client, in a process of its own so that its sockets do not grow the server's table. */
static void client_main(int commands, int results, const struct sockaddr_in *addr)
{
	char byte;

	while (read(commands, &byte, 1) == 1) {
		uint64_t start = now_ns();

		net_connect(addr);
		if (write(results, &start, sizeof(start)) != sizeof(start))
			break;
	}
	_exit(0);
}

/* One accept, from before the client's connect to the completion seen by a sleeping application thread. */
static uint64_t accept_ns(struct ctx *ctx, unsigned int ring, int listener, int commands, int results, int *fd)
{
	struct fastio_cqe cqe;
	uint64_t start, end;

	ring_push(ctx, ring, OP(ACCEPT, listener, .flags = FASTIO_SQE_SLOT));
	ring_submit(ctx, ring);
	NEED_EQ(write(commands, "c", 1), 1);
	cqe = ring_wait(ctx, ring);
	end = now_ns();
	NEED(cqe.res >= 0, "accept: %d", cqe.res);
	NEED_EQ(read(results, &start, sizeof(start)), sizeof(start));
	*fd = cqe.res;
	return end - start;
}

static void one_round(const struct variant *v, struct times *times, unsigned int round)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int workers = cpus > 3 ? cpus - 2 : 1;
	struct fastio_setup setup = ctx_defaults(workers);
	int commands[2], results[2];
	struct sockaddr_in addr;
	int listener = net_listen(&addr), fd;
	struct ctx ctx;

	NEED_EQ(pipe(commands), 0);
	NEED_EQ(pipe(results), 0);
	if (fork() == 0) {
		close(commands[1]);
		stay_on(pthread_self(), 1);
		client_main(commands[0], results[1], &addr);
	}
	if (v->server == SERVER_SPINNING)
		setup.idle_us = FASTIO_MAX_IDLE_US;
	ctx_open(&ctx, &setup, v->server);
	stay_on(pthread_self(), 0);
	for (unsigned int i = 0; i < workers && v->server == SERVER_SPINNING; i++)
		stay_on(ctx.donors[i].thread, 2 + i);
	if (!(ctx.setup.ops & 1ULL << FASTIO_OP_ACCEPT))
		ktap_skip("ACCEPT is switched off: a security module must see it");
	for (size_t step = 0; step < NR(steps); step++) {
		do
			fd = dup(listener);
		while (fd >= 0 && fd < steps[step] - ACROSS / 2);
		NEED(fd >= 0, "dup: %s", strerror(errno));
		for (unsigned int i = 0; i < ACROSS; i++)
			times->ns[round][step][i] = accept_ns(&ctx, 0, listener, commands[1], results[0], &fd);
		CHECK(fd >= steps[step], "accepted up to descriptor %d", fd);
	}
	ctx_close(&ctx);
}

static void accepts_stay_quick(const void *arg)
{
	const struct variant *v = arg;
	struct rlimit files = { 16384, 16384 };
	struct times *times = mmap(NULL, sizeof(*times), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t slowest = 0;
	int pair[2];

	NEED(times != MAP_FAILED);
	/* The first connection since boot prepares what all later ones use. */
	net_pair(pair);
	close(pair[0]);
	close(pair[1]);
	NEED_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
	/* A process each: the table of a process never shrinks. */
	for (unsigned int round = 0; round < ROUNDS; round++) {
		int status;
		pid_t pid = fork();

		NEED(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			one_round(v, times, round);
			_exit(ktap_has_failed());
		}
		NEED_EQ(waitpid(pid, &status, 0), pid);
		NEED(WIFEXITED(status), "wait status %#x", status);
		if (WEXITSTATUS(status))
			_exit(WEXITSTATUS(status));
	}
	for (size_t step = 0; step < NR(steps); step++) {
		uint64_t most = 0;

		for (unsigned int round = 0; round < ROUNDS; round++)
			for (unsigned int i = 0; i < ACROSS; i++)
				if (times->ns[round][step][i] > most)
					most = times->ns[round][step][i];
		slowest = most > slowest ? most : slowest;
		ktap_say("descriptors around %d: slowest accept %llu us", steps[step], (unsigned long long)most / 1000);
		CHECK(most <= LIMIT_NS, "at %d descriptors an accept takes %llu us", steps[step],
		      (unsigned long long)most / 1000);
	}
	ktap_say("slowest accept of all: %llu us", (unsigned long long)slowest / 1000);
}

static const struct ktap_test tests[] = {
	TEST("no accept takes longer than 10 ms from 64 to 10,000 descriptors", accepts_stay_quick, .timeout_s = 300),
};

int main(int argc, char **argv)
{
	return variants_main(tests, NR(tests), false, argc, argv);
}
