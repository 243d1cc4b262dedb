// SPDX-License-Identifier: MIT
#include "tap.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Generous: sanitizers and emulated guests are slow, and a test that hangs hangs for ever. */
#define LIMIT_S 240

static const char *program;
static char running[200];
static unsigned int count, failures;
static bool failed;
static const char *skipped;

static void out_of_time(int signal_number)
{
	static const char text[] = "Bail out! a test did not end in time: ";

	(void)signal_number;
	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0 ||
	    write(STDOUT_FILENO, running, strlen(running)) < 0 || write(STDOUT_FILENO, "\n", 1) < 0)
		_exit(98);
	_exit(99);
}

void tap_begin(const char *argv0)
{
	struct sigaction on_alarm = { .sa_handler = out_of_time };

	program = strrchr(argv0, '/') ? strrchr(argv0, '/') + 1 : argv0;
	sigaction(SIGALRM, &on_alarm, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n# %s\n", program);
}

void tap_fail(const char *file, int line, const char *what, const char *format, ...)
{
	va_list args;

	failed = true;
	printf("# %s:%d: %s:", file, line, what);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

void tap_skip(const char *why)
{
	skipped = why;
}

void tap_run(const struct tap_test *test, const char *suffix, void *arg)
{
	snprintf(running, sizeof(running), "%s%s%s%s", test->name, suffix ? " [" : "",
		 suffix ? suffix : "", suffix ? "]" : "");
	failed = false;
	skipped = NULL;
	alarm(LIMIT_S);
	test->run(arg);
	alarm(0);
	count++;
	failures += failed;
	printf("%s %u - %s%s%s\n", failed ? "not ok" : "ok", count, running,
	       skipped ? " # SKIP " : "", skipped ? skipped : "");
}

int tap_end(void)
{
	printf("1..%u\n", count);
	return failures ? 1 : 0;
}
