/* SPDX-License-Identifier: MIT */
/*
 * CPU time of every thread of a process, kernel workers among them: a donated FastIO worker and an io_uring
 * SQ thread are threads of the process and stand in /proc/PID/task like any other.
 */
#ifndef ECHO_CPUTIME_H
#define ECHO_CPUTIME_H

#include <stdint.h>
#include <sys/types.h>

#define CPUTIME_THREADS_MAX 4096

struct thread_time {
	pid_t tid;
	uint64_t cpu_ns; /* since the thread began */
	uint64_t at_ns;	 /* CLOCK_MONOTONIC_RAW when cpu_ns was read; 0 in another process's sample */
	char name[16];
};

struct cpu_sample {
	uint64_t time_ns; /* CLOCK_MONOTONIC_RAW, taken in the middle of reading */
	unsigned int count;
	struct thread_time *threads; /* by rising tid; the sample owns them */
};

/* CLOCK_MONOTONIC_RAW in nanoseconds: the clock of everything measured here. */
uint64_t now_ns(void);

/*
 * Samples the calling process. Exact to the moment even for threads that run on other CPUs, since a
 * thread may read the clocks of its own process. Returns 0 or -errno; frees what @sample held before.
 */
int cputime_sample_self(struct cpu_sample *sample);

/*
 * Samples another process from schedstat, which the kernel brings up to date at each tick: a running
 * thread's time is up to one tick old. Returns 0 or -errno.
 */
int cputime_sample_process(pid_t pid, struct cpu_sample *sample);

/* Writes a sample as lines "TIME", then "TID CPU_NS NAME" for each thread, then an empty one. */
#define CPUTIME_LINE_MAX 64
/* Reads such lines up to the empty one. Returns 0, or -EPROTO, or the -errno of reading. */
int cputime_receive(int fd, struct cpu_sample *sample);
int cputime_send(int fd, const struct cpu_sample *sample);

/* The abstract Unix socket on which an echo server answers each byte with a sample of itself. */
struct sockaddr_un;
unsigned int cputime_address(pid_t pid, struct sockaddr_un *address);

void cputime_free(struct cpu_sample *sample);

#endif
