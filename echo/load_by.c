/* SPDX-License-Identifier: MIT */
/*
 * Measures a Redis or Valkey server under somebody else's load generator, in a window like that of load.
 *
 * A benchmark tool is told how many requests to make, and what it prints is about its whole life. Here it is given
 * more than it can make, and the server is asked at both ends of the window, and between, how many commands it has
 * processed and what time it is: INFO takes both in the same moment, by the server's clock. Then the tool is ended.
 * The JSON is that of load (README.md), without latencies, and with the tool's threads as the generator's.
 *
 * By hand:  ./load_by -a 127.0.0.1:6379 -t 5 -- redis-benchmark -c 50 -n 1000000000 -t get --threads 4
 */
#define _GNU_SOURCE
#include "common/json.h"
#include "load/hints.h"
#include "load/load.h"
#include "load/resolve.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INFO_BYTES_MAX 65536
#define STARTED_COMMANDS 100 /* the tool is under way when the server has processed so many of its commands */
#define POLL_NS 1000000u

static const char info_command[] = "*3\r\n$4\r\nINFO\r\n$6\r\nserver\r\n$5\r\nstats\r\n";

/* What the server says of itself in one moment. */
struct moment {
	uint64_t commands; /* processed since it began */
	uint64_t time_ns;  /* by its clock */
};

struct measurement {
	uint64_t intervals;
	struct moment moments[LOAD_INTERVALS_MAX + 1];
	struct cpu_sample tool_start, tool_end;
	struct accounting accounting;
	uint64_t start_ns; /* CLOCK_MONOTONIC_RAW */
};

static struct settings settings = {
	.address = "127.0.0.1:6379", .duration_ns = 10 * 1000000000ull, .intervals = 10, .timeout_ns = 10 * 1000000000ull,
};
static pid_t tool;

static void __attribute__((noreturn, format(printf, 1, 2))) give_up(const char *format, ...)
{
	char line[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (tool > 0) {
		kill(tool, SIGKILL);
		waitpid(tool, NULL, 0);
	}
	die(EXIT_SAID_NO, "%s", line);
}

/* ------------------------------------------------------------------ the server */

static int connect_server(void)
{
	struct timeval timeout = { (time_t)(settings.timeout_ns / 1000000000u),
				   (suseconds_t)(settings.timeout_ns % 1000000000u / 1000) };
	struct sockaddr_storage address;
	socklen_t length = resolve_address(&address);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* The one for sending is also that for connecting. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) ||
	    connect(fd, (struct sockaddr *)&address, length))
		give_up("cannot connect to %s: %s", settings.address, strerror(errno));
	return fd;
}

static uint64_t field(const char *info, const char *name)
{
	const char *found = strstr(info, name);

	if (!found)
		give_up("%s: found INFO without %s, expected a Redis or Valkey server", settings.address, name);
	return strtoull(found + strlen(name), NULL, 10);
}

static struct moment ask(int fd)
{
	char info[INFO_BYTES_MAX];
	size_t length = 0, wanted = 0;
	char *body = NULL;

	if (send(fd, info_command, sizeof(info_command) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(info_command) - 1)
		give_up("%s: cannot ask for INFO: %s", settings.address, strerror(errno));
	while (!wanted || length < wanted) {
		ssize_t count = recv(fd, info + length, sizeof(info) - 1 - length, 0);

		if (count <= 0)
			give_up("%s: no reply to INFO: %s", settings.address, count ? strerror(errno) : "connection closed");
		length += (size_t)count;
		info[length] = '\0';
		if (info[0] != '$')
			give_up("%s: found \"%.60s\", expected a reply to INFO", settings.address, info);
		body = strstr(info, "\r\n");
		if (!body)
			continue;
		wanted = (size_t)(body - info) + 4 + strtoull(info + 1, NULL, 10);
		if (wanted >= sizeof(info))
			give_up("%s: found INFO of %zu bytes, expected at most %d", settings.address, wanted, INFO_BYTES_MAX);
	}
	return (struct moment){ field(info, "\ntotal_commands_processed:"),
				field(info, "\nserver_time_usec:") * 1000 };
}

/* ------------------------------------------------------------------ the tool */

static void start_tool(char **argv)
{
	fflush(NULL);
	tool = fork();
	if (tool < 0)
		die(EXIT_ENVIRONMENT, "cannot start a process: %s", strerror(errno));
	if (tool)
		return;
	/* Its progress is for people; what it complains about is not. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!freopen("/dev/null", "w", stdout))
		_exit(EXIT_ENVIRONMENT);
	execvp(argv[0], argv);
	complain("cannot run %s: %s", argv[0], strerror(errno));
	_exit(EXIT_ENVIRONMENT);
}

static void require_tool(void)
{
	int status;

	if (waitpid(tool, &status, WNOHANG) != tool)
		return;
	tool = 0;
	if (WIFSIGNALED(status))
		give_up("the tool was ended by signal %d before the window was over", WTERMSIG(status));
	give_up("the tool ended with status %d before the window was over", WEXITSTATUS(status));
}

static void stop_tool(void)
{
	require_tool();
	kill(tool, SIGKILL);
	waitpid(tool, NULL, 0);
}

static void sleep_until(uint64_t until_ns)
{
	for (uint64_t now = now_ns(); now < until_ns; now = now_ns()) {
		/* The raw clock cannot be slept on; the other one differs by less than a thousandth. */
		struct timespec time = { (time_t)((until_ns - now) / 1000000000u), (long)((until_ns - now) % 1000000000u) };

		nanosleep(&time, NULL);
	}
}

static void wait_for_load(int fd)
{
	uint64_t limit = now_ns() + settings.timeout_ns, first = ask(fd).commands, asked = 0;

	while (ask(fd).commands < first + ++asked + STARTED_COMMANDS) {
		require_tool();
		if (now_ns() > limit)
			give_up("the tool made no requests within %g s", (double)settings.timeout_ns / 1e9);
		sleep_until(now_ns() + POLL_NS);
	}
}

/* ------------------------------------------------------------------ the window */

static void sample_tool(struct cpu_sample *sample)
{
	int error = cputime_sample_process(tool, sample);

	if (error)
		give_up("cannot read the CPU time of the tool: %s", strerror(-error));
}

static void measure(int fd, struct measurement *found)
{
	sleep_until(now_ns() + settings.warmup_ns);
	accounting_sample(&found->accounting, &found->accounting.start);
	sample_tool(&found->tool_start);
	if (settings.clock_hints)
		clock_hint(true);
	found->moments[0] = ask(fd);
	found->start_ns = now_ns();
	for (uint64_t i = 1; i <= settings.intervals; i++) {
		sleep_until(found->start_ns + settings.duration_ns * i / settings.intervals);
		found->moments[i] = ask(fd);
	}
	sample_tool(&found->tool_end);
	accounting_sample(&found->accounting, &found->accounting.end);
	if (settings.clock_hints)
		clock_hint(false);
	found->intervals = settings.intervals;
	stop_tool();
}

/* ------------------------------------------------------------------ the report */

/* What the server processed from one moment to a later one, the question itself left out. */
static uint64_t processed(const struct moment *from, const struct moment *to, uint64_t questions)
{
	uint64_t commands = to->commands - from->commands;

	return commands > questions ? commands - questions : 0;
}

static uint64_t since(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

static void intervals_json(const struct measurement *found, struct json *json)
{
	json_array(json, "intervals");
	for (uint64_t i = 1; i <= found->intervals; i++) {
		json_object(json, NULL);
		json_count(json, "startNs", since(found->moments[0].time_ns, found->moments[i - 1].time_ns));
		json_count(json, "endNs", since(found->moments[0].time_ns, found->moments[i].time_ns));
		json_count(json, "requests", processed(&found->moments[i - 1], &found->moments[i], 1));
		json_end_object(json);
	}
	json_end_array(json);
}

static uint64_t cpu_used(const struct cpu_sample *start, const struct thread_time *end)
{
	for (unsigned int i = 0; i < start->count; i++) {
		if (start->threads[i].tid == end->tid)
			return since(start->threads[i].cpu_ns, end->cpu_ns);
	}
	return end->cpu_ns;
}

static void generator_json(const struct measurement *found, struct json *json)
{
	double elapsed = (double)since(found->tool_start.time_ns, found->tool_end.time_ns), busiest = 0;
	uint64_t sum = 0;

	json_object(json, "generator");
	json_array(json, "threads");
	for (unsigned int i = 0; i < found->tool_end.count; i++) {
		const struct thread_time *thread = &found->tool_end.threads[i];
		uint64_t used = cpu_used(&found->tool_start, thread);
		double share = elapsed > 0 ? (double)used / elapsed : 0;

		json_object(json, NULL);
		json_count(json, "tid", (uint64_t)thread->tid);
		json_count(json, "cpuNs", used);
		json_number(json, "busyShare", share);
		json_end_object(json);
		sum += used;
		if (share > busiest)
			busiest = share;
	}
	json_end_array(json);
	json_count(json, "cpuNs", sum);
	json_number(json, "busiestShare", busiest);
	json_bool(json, "saturated", busiest > LOAD_SATURATED_SHARE);
	json_end_object(json);
}

static void print(const struct measurement *found)
{
	static const struct histogram none;
	const struct moment *first = &found->moments[0], *last = &found->moments[found->intervals];
	uint64_t elapsed = since(first->time_ns, last->time_ns);
	uint64_t requests = processed(first, last, found->intervals);
	struct json json = { .file = stdout };

	if (!elapsed)
		give_up("the server's clock stood still during the window");
	json_object(&json, NULL);
	json_text(&json, "schema", "fastio-load");
	json_count(&json, "version", 1);
	json_bool(&json, "ok", true);
	json_text(&json, "loop", "closed");
	json_object(&json, "window");
	json_text(&json, "clock", "the server's");
	json_count(&json, "startNs", found->start_ns);
	json_count(&json, "elapsedNs", elapsed);
	json_end_object(&json);
	json_count(&json, "requests", requests);
	json_number(&json, "requestsPerSecond", (double)requests * 1e9 / (double)elapsed);
	histogram_json(&none, &json, "latency");
	intervals_json(found, &json);
	generator_json(found, &json);
	accounting_json(&found->accounting, &json, "accounting");
	json_object(&json, "errors");
	json_count(&json, "total", 0);
	json_text(&json, "first", NULL);
	json_end_object(&json);
	json_end_object(&json);
	putchar('\n');
	if (fflush(stdout))
		die(EXIT_ENVIRONMENT, "cannot write to stdout: %s", strerror(errno));
}

static char **parse(int argc, char **argv)
{
	const uint64_t hour = 3600 * 1000000000ull;
	const struct option_spec specs[] = {
		{ "address", 'a', OPTION_TEXT, &settings.address, 1, 300, NULL, "HOST:PORT of the server", NULL },
		{ "duration", 't', OPTION_TIME, &settings.duration_ns, 1000000, hour, NULL, "length of the window", NULL },
		{ "warmup", 'w', OPTION_TIME, &settings.warmup_ns, 0, hour, NULL,
		  "time between the tool's first requests and the window", NULL },
		{ "intervals", 0, OPTION_COUNT, &settings.intervals, 1, LOAD_INTERVALS_MAX, NULL,
		  "parts of the window that are also reported on their own", NULL },
		{ "control-cpu", 0, OPTION_CPUS, &settings.control, 0, 0, NULL, "pin this program to it, not the tool", NULL },
		{ "timeout", 0, OPTION_TIME, &settings.timeout_ns, 1000000, hour, NULL,
		  "longest wait for the server's replies and the tool's first requests", NULL },
		{ "account-pid", 0, OPTION_COUNT, &settings.account_pid, 1, 4194304, NULL,
		  "report the CPU time of this server process", NULL },
		{ "clock-hints", 0, OPTION_FLAG, &settings.clock_hints, 0, 0, NULL,
		  "arm64: tell a virtual clock where the window begins and ends", NULL },
	};
	const struct option_table table = OPTION_TABLE(specs);
	int own = 1;

	while (own < argc && strcmp(argv[own], "--"))
		own++;
	options_parse(own, argv, "a Redis or Valkey server under another load generator: [options] -- TOOL ARGUMENT...",
		      &table, 1);
	if (own >= argc - 1)
		die(EXIT_USAGE, "found no tool, expected -- and the command of one");
	if (settings.control.count > 1)
		die(EXIT_USAGE, "--control-cpu: found %u CPUs, expected one", settings.control.count);
#ifndef __aarch64__
	if (settings.clock_hints)
		die(EXIT_USAGE, "--clock-hints: found another processor, expected arm64");
#endif
	resolve(settings.address, settings.host, sizeof(settings.host), &settings.port);
	return &argv[own + 1];
}

int main(int argc, char **argv)
{
	static struct measurement found;
	char **command = parse(argc, argv);
	int fd;

	/* A sleep ends when it should, not up to 50 us later. */
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	cpus_require(&settings.control, "--control-cpu", 1, "process");
	accounting_open(&found.accounting, (pid_t)settings.account_pid);
	fd = connect_server();
	start_tool(command);
	cpus_pin(&settings.control, 0);
	wait_for_load(fd);
	measure(fd, &found);
	print(&found);
	close(fd);
	accounting_close(&found.accounting);
	cputime_free(&found.tool_start);
	cputime_free(&found.tool_end);
	return 0;
}
