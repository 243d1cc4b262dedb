/* SPDX-License-Identifier: MIT */
/*
 * Load generator for echo servers, any of them, on any host; and for Redis and Valkey (--protocol).
 *
 * Closed loop (no --rate): every connection sends a message, waits for all of it to come back, sends the next.
 * It finds out how much a server can do. Its latencies hold only for this many connections: a slow reply
 * also delays the next question, so they say nothing about the tail that independent users would see.
 *
 * Open loop (--rate R): messages are sent on a schedule fixed beforehand, and latency counts from the intended
 * time. It finds out how long users wait at a given rate.
 *
 * Every byte that comes back is compared with what was sent on that very connection. README.md says what
 * the JSON means.
 *
 * By hand:  ./load -a 127.0.0.1:12345 -c 50 -l 512 -t 10
 */
#define _GNU_SOURCE
#include "hints.h"
#include "load.h"
#include "resolve.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define BUFFER_BYTES 65536
#define PREFAULT_BYTES_MAX (64u << 20)
#define SCHEDULE_LEAD_NS 10000000u /* from the last thread's being ready to the first request of an open loop */

static const char *const engine_names[] = { "epoll", "threads", NULL };
static const char *const wait_names[] = { "sleep", "spin", NULL };
static const char *const arrivals_names[] = { "even", "poisson", NULL };
static const char *const on_error_names[] = { "stop", "count", NULL };

static bool rate_given, requests_given, duration_given, threads_given;

static void parse(int argc, char **argv, struct settings *settings)
{
	const uint64_t hour = 3600 * 1000000000ull;
	const struct option_spec specs[] = {
		{ "address", 'a', OPTION_TEXT, &settings->address, 1, 300, NULL, "HOST:PORT of the server", NULL },
		{ "connections", 'c', OPTION_COUNT, &settings->connections, 1, LOAD_CONNECTIONS_MAX, NULL, "connections",
		  NULL },
		{ "message-bytes", 'l', OPTION_COUNT, &settings->message_bytes, 1, LOAD_MESSAGE_MAX, NULL,
		  "bytes of a message", NULL },
		{ "protocol", 0, OPTION_CHOICE, &settings->protocol, 0, 0, protocol_names,
		  "what to send: the message alone, or one RESP command with it", NULL },
		{ "pipeline", 0, OPTION_COUNT, &settings->pipeline, 1, LOAD_PIPELINE_MAX, NULL,
		  "RESP: commands sent at once; each counts as a request", NULL },
		{ "duration", 't', OPTION_TIME, &settings->duration_ns, 1000000, hour, NULL, "length of the window",
		  &duration_given },
		{ "requests", 'n', OPTION_COUNT, &settings->requests, 1, 1000000000000, NULL,
		  "end the window after so many requests instead", &requests_given },
		{ "warmup", 'w', OPTION_TIME, &settings->warmup_ns, 0, hour, NULL, "time before the window", NULL },
		{ "intervals", 0, OPTION_COUNT, &settings->intervals, 1, LOAD_INTERVALS_MAX, NULL,
		  "parts of the window that are also reported on their own", NULL },
		{ "rate", 'r', OPTION_DECIMAL, &settings->rate, 0, 1000000000, NULL,
		  "open loop: requests per second of all connections together", &rate_given },
		{ "arrivals", 0, OPTION_CHOICE, &settings->arrivals, 0, 0, arrivals_names, "open loop: times between",
		  NULL },
		{ "seed", 0, OPTION_COUNT, &settings->seed, 0, UINT32_MAX, NULL, "of message bytes and arrival times",
		  NULL },
		{ "engine", 0, OPTION_CHOICE, &settings->engine, 0, 0, engine_names,
		  "threads that share connections, or one thread for each", NULL },
		{ "threads", 'j', OPTION_COUNT, &settings->threads, 1, LOAD_THREADS_MAX, NULL, "sending threads",
		  &threads_given },
		{ "wait", 0, OPTION_CHOICE, &settings->wait, 0, 0, wait_names, "how a thread waits", NULL },
		{ "cpus", 0, OPTION_CPUS, &settings->cpus, 0, 0, NULL, "pin sending thread i to the i-th of these, in turn",
		  NULL },
		{ "control-cpu", 0, OPTION_CPUS, &settings->control, 0, 0, NULL,
		  "pin the thread that opens and closes the window", NULL },
		{ "timeout", 0, OPTION_TIME, &settings->timeout_ns, 1000000, hour, NULL,
		  "longest wait for a connection or a reply", NULL },
		{ "on-error", 0, OPTION_CHOICE, &settings->on_error, 0, 0, on_error_names,
		  "end at the first error, or go on without that connection (wrong bytes always end)", NULL },
		{ "account-pid", 0, OPTION_COUNT, &settings->account_pid, 1, 4194304, NULL,
		  "report the CPU time of this server process", NULL },
		{ "clock-hints", 0, OPTION_FLAG, &settings->clock_hints, 0, 0, NULL,
		  "arm64: tell a virtual clock where the window begins and ends", NULL },
		{ "json", 'o', OPTION_TEXT, &settings->json_path, 1, 4000, NULL, "write JSON to this file; - is stdout",
		  NULL },
	};
	const struct option_table table = OPTION_TABLE(specs);

	options_parse(argc, argv, "load generator for echo servers", &table, 1);
	if (duration_given && requests_given)
		die(EXIT_USAGE, "found --duration and --requests, expected one of them");
	if (settings->pipeline > 1 && !protocol_can_pipeline(settings->protocol))
		die(EXIT_USAGE, "--pipeline: found %llu with --protocol %s, expected ping, get, set or mset",
		    (unsigned long long)settings->pipeline, protocol_names[settings->protocol]);
	if (settings->pipeline > 1 && (requests_given || rate_given))
		die(EXIT_USAGE, "found --pipeline with --%s, expected a closed loop with a --duration",
		    requests_given ? "requests" : "rate");
	if (rate_given && settings->rate <= 0)
		die(EXIT_USAGE, "--rate: found 0, expected more than 0");
	if (rate_given && requests_given)
		die(EXIT_USAGE, "found --rate and --requests, expected a --duration for an open loop");
	if (settings->engine == ENGINE_THREADS) {
		if (threads_given)
			die(EXIT_USAGE, "found --threads with --engine threads, expected --connections only");
		settings->threads = settings->connections;
		if (settings->threads > LOAD_THREADS_MAX)
			die(EXIT_USAGE, "--connections: found %llu, expected at most %d with --engine threads",
			    (unsigned long long)settings->connections, LOAD_THREADS_MAX);
	}
	if (settings->threads > settings->connections)
		die(EXIT_USAGE, "--threads: found %llu, expected at most as many as connections (%llu)",
		    (unsigned long long)settings->threads, (unsigned long long)settings->connections);
	if (settings->requests && settings->intervals > settings->requests)
		settings->intervals = settings->requests;
	settings->interval_ns = (settings->duration_ns + settings->intervals - 1) / settings->intervals;
	if (settings->control.count > 1)
		die(EXIT_USAGE, "--control-cpu: found %u CPUs, expected one", settings->control.count);
#ifndef __aarch64__
	if (settings->clock_hints)
		die(EXIT_USAGE, "--clock-hints: found another processor, expected arm64");
#endif
	resolve(settings->address, settings->host, sizeof(settings->host), &settings->port);
}

/* ------------------------------------------------------------------ set-up */

static void raise_limits(const struct settings *settings)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die(EXIT_ENVIRONMENT, "cannot read the descriptor limit: %s", strerror(errno));
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die(EXIT_ENVIRONMENT, "cannot raise the descriptor limit: %s", strerror(errno));
	if (settings->connections + settings->threads + 32 > limit.rlim_cur)
		die(EXIT_ENVIRONMENT, "--connections: found %llu, expected at most %llu: raise `ulimit -n`",
		    (unsigned long long)settings->connections,
		    (unsigned long long)(limit.rlim_cur - settings->threads - 32));
}

/* Zeroed memory that costs nothing until it is touched. */
static void *reserve(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		die(EXIT_ENVIRONMENT, "out of memory");
	return memory;
}

static void make_intervals(struct sender *sender)
{
	const struct settings *settings = sender->settings;
	unsigned int first = histogram_index(1000), last = histogram_index(100000000);
	size_t touched = (last - first) * sizeof(uint64_t) * settings->intervals * settings->threads;

	sender->intervals = reserve(settings->intervals * sizeof(struct interval));
	sender->lateness = reserve(sizeof(struct histogram));
	for (unsigned int i = 0; i < settings->intervals; i++) {
		struct histogram *latency = &sender->intervals[i].latency;

		sender->intervals[i].first_ns = LOAD_NEVER;
		/* A page fault within the window would be measured along with the server. */
		if (touched <= PREFAULT_BYTES_MAX)
			memset(&latency->buckets[first], 0, (last - first) * sizeof(latency->buckets[0]));
	}
}

static void *sender_main(void *argument)
{
	struct sender *sender = argument;
	struct window *window = sender->window;
	char name[16];

	snprintf(name, sizeof(name), "load-%u", sender->index);
	pthread_setname_np(pthread_self(), name);
	/* A sleep ends when it should, not up to 50 us later. */
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	sender->tid = gettid();
	cpus_pin(&sender->settings->cpus, sender->index);
	for (unsigned int i = 0; i < sender->connection_count; i++) {
		if (atomic_load(&window->failed))
			break;
		connection_open(sender, sender->connections[i]);
	}
	pthread_barrier_wait(&window->connected);
	pthread_barrier_wait(&window->begin);
	if (!atomic_load(&window->failed)) {
		if (sender->settings->rate > 0)
			schedule_start(sender, window->schedule_ns);
		if (sender->settings->engine == ENGINE_THREADS)
			engine_threads(sender);
		else
			engine_epoll(sender);
	}
	if (sender->settings->rate > 0)
		sender->unanswered = schedule_unanswered(sender);
	connections_finish(sender);
	return NULL;
}

static void start_senders(struct sender *senders, struct connection *connections, const struct settings *settings,
			  struct window *window)
{
	for (unsigned int i = 0; i < settings->threads; i++) {
		struct sender *sender = &senders[i];
		uint64_t room = settings->connections / settings->threads + 1;

		sender->settings = settings;
		sender->window = window;
		sender->index = i;
		sender->buffer_bytes = BUFFER_BYTES;
		sender->buffer = malloc(sender->buffer_bytes);
		sender->connections = calloc(room, sizeof(struct connection *));
		if (!sender->buffer || !sender->connections)
			die(EXIT_ENVIRONMENT, "out of memory");
		make_intervals(sender);
		for (uint64_t id = i; id < settings->connections; id += settings->threads) {
			connections[id].id = (uint32_t)id;
			connections[id].fd = -1;
			sender->connections[sender->connection_count++] = &connections[id];
		}
		if (pthread_create(&sender->handle, NULL, sender_main, sender))
			die(EXIT_ENVIRONMENT, "cannot start thread %u", i);
	}
}

/* ------------------------------------------------------------------ the window */

static void measure(const struct settings *settings, struct window *window, struct accounting *accounting)
{
	if (!window_sleep(window, now_ns() + settings->warmup_ns))
		return;
	accounting_sample(accounting, &accounting->start);
	if (settings->clock_hints)
		clock_hint(true);
	if (!settings->requests)
		atomic_store(&window->end_ns, now_ns() + settings->duration_ns);
	atomic_store(&window->start_ns,
		     settings->requests ? now_ns() : atomic_load(&window->end_ns) - settings->duration_ns);
	window_sleep(window, settings->requests ? LOAD_NEVER : atomic_load(&window->end_ns));
	/* The senders go on meanwhile, so that the server is as busy as before. */
	accounting_sample(accounting, &accounting->end);
	if (settings->clock_hints)
		clock_hint(false);
}

int main(int argc, char **argv)
{
	struct settings settings = {
		.address = "127.0.0.1:12345", .connections = 50, .message_bytes = 512, .pipeline = 1, .threads = 1,
		.duration_ns = 60 * 1000000000ull, .intervals = 20, .seed = 1, .timeout_ns = 10 * 1000000000ull,
	};
	struct accounting accounting;
	struct connection *connections;
	struct sender *senders;
	struct window window = { 0 };
	uint64_t began;
	int code;

	parse(argc, argv, &settings);
	cpus_require(&settings.cpus, "--cpus", 1, "threads");
	cpus_require(&settings.control, "--control-cpu", 1, "thread");
	raise_limits(&settings);
	window_init(&window);
	atomic_init(&window.alive, (uint32_t)settings.connections);
	pthread_barrier_init(&window.connected, NULL, (unsigned int)settings.threads + 1);
	pthread_barrier_init(&window.begin, NULL, (unsigned int)settings.threads + 1);
	senders = calloc(settings.threads, sizeof(*senders));
	connections = calloc(settings.connections, sizeof(*connections));
	if (!senders || !connections)
		die(EXIT_ENVIRONMENT, "out of memory");
	accounting_open(&accounting, (pid_t)settings.account_pid);

	began = now_ns();
	start_senders(senders, connections, &settings, &window);
	cpus_pin(&settings.control, 0);
	pthread_barrier_wait(&window.connected);
	began = now_ns() - began;
	window.schedule_ns = now_ns() + SCHEDULE_LEAD_NS;
	pthread_barrier_wait(&window.begin);
	measure(&settings, &window, &accounting);
	atomic_store(&window.stop, true);
	for (unsigned int i = 0; i < settings.threads; i++)
		pthread_join(senders[i].handle, NULL);

	code = report(&(struct result){ &settings, &window, senders, &accounting, began });
	accounting_close(&accounting);
	for (unsigned int i = 0; i < settings.threads; i++) {
		munmap(senders[i].intervals, settings.intervals * sizeof(struct interval));
		munmap(senders[i].lateness, sizeof(struct histogram));
		free(senders[i].connections);
		free(senders[i].buffer);
	}
	free(connections);
	free(senders);
	close(window.event_fd);
	return code;
}
