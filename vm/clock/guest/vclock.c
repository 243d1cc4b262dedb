// SPDX-License-Identifier: MIT
/*
 * Talks to the virtual clock from inside the guest. Without the clock the instructions it uses do nothing.
 *
 *	vclock settle [NS]		sleep until the guest is quiet: to the second full second from now, and NS
 *	vclock window COMMAND...	run a command as a window of its own: fine quantum, counters written out
 *	vclock fine | coarse		begin or end a window
 *	vclock wall | free		let time pass by the host's clock while all CPUs sleep, or jump
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __aarch64__
#error "the virtual clock knows arm64 guests only"
#endif

#define NS_PER_SECOND 1000000000LL
/* Exit statuses that shells use for a command that cannot be run. */
#define STATUS_NOT_RUN 126
#define STATUS_NOT_FOUND 127

static void begin_window(void)
{
	__asm__ volatile("hint #96" ::: "memory");
}

static void end_window(void)
{
	__asm__ volatile("hint #97" ::: "memory");
}

static void pace_by_wall(void)
{
	__asm__ volatile("hint #98" ::: "memory");
}

static void pace_freely(void)
{
	__asm__ volatile("hint #99" ::: "memory");
}

static int usage(void)
{
	fputs("usage: vclock settle [NS] | window COMMAND... | fine | coarse | wall | free\n", stderr);
	return 2;
}

/* Ticks and deferred work of the boot are over a second later; a full second is the same for every run. */
static int settle(long long offset_ns)
{
	struct timespec now, until;

	clock_gettime(CLOCK_MONOTONIC, &now);
	until.tv_sec = now.tv_sec + 2 + offset_ns / NS_PER_SECOND;
	until.tv_nsec = offset_ns % NS_PER_SECOND;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		continue;
	return 0;
}

static int run_window(char **argv)
{
	int status, error;
	pid_t child;

	begin_window();
	child = fork();
	if (child == 0) {
		execvp(argv[0], argv);
		error = errno;
		fprintf(stderr, "vclock: %s: %s\n", argv[0], strerror(error));
		_exit(error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_RUN);
	}
	error = errno;
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	end_window();
	if (child < 0) {
		fprintf(stderr, "vclock: fork: %s\n", strerror(error));
		return STATUS_NOT_RUN;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int settle_by_text(const char *text)
{
	char *end;
	long long ns;

	errno = 0;
	ns = strtoll(text, &end, 10);
	if (end == text || *end || errno || ns < 0 || ns > 3600 * NS_PER_SECOND) {
		fprintf(stderr, "vclock: found \"%s\", expected ns from 0 to an hour\n", text);
		return 2;
	}
	return settle(ns);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (!strcmp(verb, "settle") && argc <= 3)
		return settle_by_text(argc == 3 ? argv[2] : "0");
	if (!strcmp(verb, "window") && argc > 2)
		return run_window(argv + 2);
	if (argc != 2)
		return usage();
	if (!strcmp(verb, "fine"))
		begin_window();
	else if (!strcmp(verb, "coarse"))
		end_window();
	else if (!strcmp(verb, "wall"))
		pace_by_wall();
	else if (!strcmp(verb, "free"))
		pace_freely();
	else
		return usage();
	return 0;
}
