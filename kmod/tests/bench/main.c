// SPDX-License-Identifier: GPL-2.0
/* Prints one JSON line per measurement; test/bench/kmod.ts makes the table. See bench.h for the method. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../ktap.h"
#include "../net.h"
#include "bench.h"

#define REQUESTS	10000
#define WARM_UP		1000

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

struct clocks bench_clocks(const struct bench *bench)
{
	struct clocks now = {
		.process_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID),
		.application_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID),
	};

	if (bench->ctx)
		now.worker_ns = ring_stats(bench->ctx, 0).busy_ns;
	return now;
}

bool bench_served(struct bench *bench, unsigned int requests)
{
	uint64_t before = bench->seen;
	struct clocks now;

	bench->seen += requests;
	if (before < bench->warm_up && bench->seen >= bench->warm_up) {
		/* The window is what comes from here on. */
		bench->warm_up = bench->seen;
		bench->start = bench_clocks(bench);
	}
	if (bench->seen < bench->warm_up + bench->requests)
		return false;
	now = bench_clocks(bench);
	printf("{\"name\":\"%s\",\"connections\":%u,\"count\":%" PRIu64 ",\"processNs\":%" PRIu64
	       ",\"applicationNs\":%" PRIu64 ",\"workerNs\":%" PRIu64 "}\n",
	       bench->name, bench->conns, bench->seen - bench->warm_up, now.process_ns - bench->start.process_ns,
	       now.application_ns - bench->start.application_ns, now.worker_ns - bench->start.worker_ns);
	fflush(stdout);
	return true;
}

void bench_calibrate(void)
{
	const uint64_t loops = 100000000;
	uint64_t start = clock_ns(CLOCK_PROCESS_CPUTIME_ID), left = loops;

#ifdef __aarch64__
	asm volatile("1: subs %0, %0, #1\n\tb.ne 1b" : "+r"(left) : : "cc");
#else
	asm volatile("1: sub $1, %0\n\tjnz 1b" : "+r"(left) : : "cc");
#endif
	printf("{\"name\":\"calibration\",\"count\":%" PRIu64 ",\"processNs\":%" PRIu64 "}\n", 2 * loops,
	       clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start);
	fflush(stdout);
}

/* The least a system call costs here. */
static void null_call(void)
{
	const unsigned int calls = 20000;
	uint64_t start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	for (unsigned int i = 0; i < calls; i++)
		syscall(SYS_getppid);
	printf("{\"name\":\"null system call\",\"count\":%u,\"processNs\":%" PRIu64 "}\n", calls,
	       clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start);
	fflush(stdout);
}

/* Each row runs in a process of its own, so that none inherits another's heap, descriptors or threads. */
static void run_row(const char *name, unsigned int conns, void (*row)(struct bench *bench, int listener))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct bench bench = { .name = name, .conns = conns, .warm_up = WARM_UP, .requests = REQUESTS };
		struct sockaddr_in addr;
		int listener = net_listen(&addr);
		pid_t load = load_start(&addr, conns);

		row(&bench, listener);
		kill(load, SIGKILL);
		waitpid(load, NULL, 0);
		_exit(0);
	}
	NEED_EQ(waitpid(pid, &status, 0), pid);
	NEED_EQ(status, 0, "%s", name);
}

static void row_epoll(struct bench *bench, int listener)
{
	serve_epoll(bench, listener);
}

static void row_uring(struct bench *bench, int listener)
{
	serve_uring(bench, listener);
}

static void row_split(struct bench *bench, int listener)
{
	serve_fastio(bench, listener, SERVER_SPINNING, false);
}

static void row_fused(struct bench *bench, int listener)
{
	serve_fastio(bench, listener, SERVER_SPINNING, true);
}

static void row_inline(struct bench *bench, int listener)
{
	serve_fastio(bench, listener, SERVER_INLINE, true);
}

static void row_inline_split(struct bench *bench, int listener)
{
	serve_fastio(bench, listener, SERVER_INLINE, false);
}

int main(void)
{
	static const unsigned int batches[] = { 1, 8, 32, 128 };

	bench_calibrate();
	null_call();
	bench_spin();
	run_row("epoll", 25, row_epoll);
	run_row("io_uring", 25, row_uring);
	run_row("fastio worker", 25, row_split);
	run_row("fastio worker, fused", 25, row_fused);
	run_row("fastio inline", 25, row_inline_split);
	run_row("fastio inline, fused", 25, row_inline);
	run_row("epoll", 1, row_epoll);
	run_row("io_uring", 1, row_uring);
	run_row("fastio inline, fused", 1, row_inline);
	for (size_t i = 0; i < NR(batches); i++)
		bench_nops(SERVER_SLEEPING, batches[i], batches[i] * 500);
	for (size_t i = 0; i < NR(batches); i++)
		bench_nops(SERVER_INLINE, batches[i], batches[i] * 500);
	return 0;
}
