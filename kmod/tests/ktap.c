// SPDX-License-Identifier: GPL-2.0
/* The KTAP runner of the module's tests: one child process and one deadline per test. */
#define _GNU_SOURCE
#include "ktap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The exit statuses of a test's process; 4 is what kselftests use for a skip. */
enum { EXIT_PASS = 0, EXIT_FAIL = 1, EXIT_SKIP = 4 };

#define DEFAULT_TIMEOUT_S	60
#define LINE_BYTES		512

/* Shared with the test's process: its failures may come from any thread or child of it. */
struct shared {
	atomic_int failed;
	char skip_reason[LINE_BYTES];
};

/* Programs that use the checks outside of a test have them counted here. */
static struct shared own;
static struct shared *shared = &own;
static int output = STDOUT_FILENO;

unsigned int ktap_slowness(void)
{
	const char *text = getenv("FASTIO_TEST_SLOWNESS");
	long factor = text ? strtol(text, NULL, 10) : 1;

	return factor < 1 ? 1 : factor > 100 ? 100 : factor;
}

/* One write per line, so that lines of several processes do not mix. */
static void say_line(const char *prefix, const char *format, va_list args)
{
	char line[LINE_BYTES];
	int used = snprintf(line, sizeof(line), "%s", prefix);

	used += vsnprintf(line + used, sizeof(line) - used, format, args);
	if (used > LINE_BYTES - 2)
		used = LINE_BYTES - 2;
	line[used++] = '\n';
	if (write(output, line, used) < 0)
		_exit(EXIT_FAIL);
}

void ktap_keep_output(int fd)
{
	int null = open("/dev/null", O_RDWR);

	NEED(null >= 0, "/dev/null: %s", strerror(errno));
	NEED(dup3(output, fd, O_CLOEXEC) == fd, "descriptor %d: %s", fd, strerror(errno));
	output = fd;
	for (int i = 0; i < 3; i++)
		NEED(dup2(null, i) == i, "descriptor %d: %s", i, strerror(errno));
	if (null > 2)
		close(null);
}

void *ktap_shared(size_t bytes)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *memory = mmap(NULL, page + bytes, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	NEED(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	NEED(mprotect(memory + page, bytes, PROT_READ | PROT_WRITE) == 0, "mprotect: %s", strerror(errno));
	return memory + page;
}

void ktap_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_line("# ", format, args);
	va_end(args);
}

void ktap_fail(const char *file, int line, const char *format, ...)
{
	char prefix[LINE_BYTES / 2];
	const char *base = strrchr(file, '/');
	va_list args;

	/* A broken loop must not bury the report: the first lines tell the story. */
	if (atomic_fetch_add(&shared->failed, 1) >= 20)
		return;
	snprintf(prefix, sizeof(prefix), "# %s:%d: ", base ? base + 1 : file, line);
	va_start(args, format);
	say_line(prefix, format, args);
	va_end(args);
}

void ktap_broken(const char *file, int line, const char *what, const char *format, ...)
{
	char text[LINE_BYTES / 2];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ktap_fail(file, line, "does not hold: %s%s", what, text);
}

void ktap_unequal(const char *file, int line, const char *what, long long got, long long want, const char *format, ...)
{
	char text[LINE_BYTES / 2];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ktap_fail(file, line, "%s: got %lld, expected %lld%s", what, got, want, text);
}

bool ktap_has_failed(void)
{
	return atomic_load(&shared->failed);
}

void ktap_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(shared->skip_reason, sizeof(shared->skip_reason), format, args);
	va_end(args);
	_exit(EXIT_SKIP);
}

void ktap_abort(void)
{
	_exit(EXIT_FAIL);
}

static void print_result(bool passed, size_t number, const char *name, const char *remark)
{
	printf("%s %zu %s%s\n", passed ? "ok" : "not ok", number, name, remark);
	fflush(stdout);
}

/* Waits for the test's process until its deadline. Return: its wait status, or -1 when it was too late and is killed. */
static int await_test(pid_t pid, unsigned int timeout_s)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0), status = -1;
	struct pollfd end = { .fd = pidfd, .events = POLLIN };
	bool in_time = pidfd >= 0 && poll(&end, 1, (int)timeout_s * 1000) == 1;

	/* The group: whatever the test started goes with it. */
	kill(-pid, SIGKILL);
	close(pidfd);
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return in_time ? status : -1;
}

/* Kills and reaps what a test left behind in sessions or groups of its own. */
static void reap_strays(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static bool run_one(const struct ktap_test *test, size_t number)
{
	unsigned int timeout_s = (test->timeout_s ? test->timeout_s : DEFAULT_TIMEOUT_S) * ktap_slowness();
	char remark[LINE_BYTES + 16] = "";
	unsigned int took_s;
	bool passed = false;
	time_t start;
	pid_t pid;
	int status;

	start = time(NULL);
	memset(shared, 0, sizeof(*shared));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		test->run(test->arg);
		_exit(ktap_has_failed() ? EXIT_FAIL : EXIT_PASS);
	}
	if (pid < 0) {
		ktap_say("fork: %s", strerror(errno));
		print_result(false, number, test->name, "");
		return false;
	}
	setpgid(pid, pid);
	status = await_test(pid, timeout_s);
	took_s = time(NULL) - start;
	reap_strays();
	if (status == -1) {
		ktap_say("not done after %u s", timeout_s);
	} else if (WIFSIGNALED(status)) {
		ktap_say("killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	} else if (WEXITSTATUS(status) == EXIT_SKIP) {
		snprintf(remark, sizeof(remark), " # SKIP %s", shared->skip_reason);
		passed = true;
	} else {
		passed = WEXITSTATUS(status) == EXIT_PASS;
		/* So that it can be seen where the time goes. */
		if (took_s)
			snprintf(remark, sizeof(remark), " # %u s", took_s);
	}
	print_result(passed, number, test->name, remark);
	return passed;
}

static bool is_selected(const struct ktap_test *test, int argc, char **argv)
{
	if (argc < 2)
		return true;
	for (int i = 1; i < argc; i++)
		if (strstr(test->name, argv[i]))
			return true;
	return false;
}

int ktap_main(const struct ktap_test *tests, size_t nr, int argc, char **argv)
{
	size_t selected = 0, number = 0, failed = 0;

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (size_t i = 0; i < nr; i++)
			puts(tests[i].name);
		return 0;
	}
	for (size_t i = 0; i < nr; i++)
		selected += is_selected(&tests[i], argc, argv);
	if (!selected) {
		fprintf(stderr, "%s: no test has such a name; --list prints them\n", argv[0]);
		return 2;
	}
	shared = ktap_shared(sizeof(*shared));
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..%zu\n", selected);
	for (size_t i = 0; i < nr; i++)
		if (is_selected(&tests[i], argc, argv))
			failed += !run_one(&tests[i], ++number);
	return failed ? 1 : 0;
}
