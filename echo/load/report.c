/* SPDX-License-Identifier: MIT */
/* What was found: JSON for programs, a few lines for people. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The senders' figures put together. */
struct totals {
	uint64_t requests; /* in the window */
	uint64_t start_ns, end_ns, elapsed_ns;
	double per_second;
	uint64_t all_requests, all_bytes, unanswered, left_open;
	uint64_t errors[ERROR_KINDS], error_count;
	uint64_t cpu_ns;
	double cpu_share; /* of all senders together; 1 is one CPU */
	double busiest_share;
	unsigned int cpus; /* that the senders may use */
	struct histogram *latency, *lateness;
};

/* The larger of the CPU time and the time not spent waiting, as a share of the window. */
static double busy_share(const struct result *result, const struct totals *totals, const struct sender *sender)
{
	double cpu = accounting_own_share(result->accounting, sender->tid), awake;

	if (!totals->elapsed_ns)
		return 0;
	awake = 1 - (double)sender->blocked_ns / (double)totals->elapsed_ns;
	return cpu > awake ? cpu : awake;
}

/* How many CPUs the senders share. */
static unsigned int count_cpus(const struct settings *settings)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (!settings->cpus.count && sched_getaffinity(0, sizeof(set), &set))
		return 1;
	for (unsigned int i = 0; i < settings->cpus.count && i < settings->threads; i++)
		CPU_SET(settings->cpus.cpu[i], &set);
	return (unsigned int)CPU_COUNT(&set);
}

static void add_up(const struct result *result, struct totals *totals)
{
	const struct settings *settings = result->settings;

	totals->latency = calloc(1, sizeof(*totals->latency));
	totals->lateness = calloc(1, sizeof(*totals->lateness));
	if (!totals->latency || !totals->lateness)
		die(EXIT_ENVIRONMENT, "out of memory");
	totals->start_ns = atomic_load(&result->window->start_ns);
	totals->end_ns = atomic_load(&result->window->end_ns);
	if (totals->start_ns != LOAD_NEVER && totals->end_ns != LOAD_NEVER)
		totals->elapsed_ns = totals->end_ns - totals->start_ns;
	for (unsigned int i = 0; i < settings->threads; i++) {
		const struct sender *sender = &result->senders[i];
		double share = busy_share(result, totals, sender);

		totals->requests += sender->completed;
		totals->all_requests += sender->total_requests;
		totals->all_bytes += sender->total_bytes;
		totals->unanswered += sender->unanswered;
		totals->left_open += sender->streams_left_open;
		totals->cpu_ns += accounting_own(result->accounting, sender->tid);
		totals->cpu_share += accounting_own_share(result->accounting, sender->tid);
		if (share > totals->busiest_share)
			totals->busiest_share = share;
		for (int kind = 0; kind < ERROR_KINDS; kind++) {
			totals->errors[kind] += sender->errors[kind];
			totals->error_count += sender->errors[kind];
		}
		for (uint64_t j = 0; j < settings->intervals; j++)
			histogram_merge(totals->latency, &sender->intervals[j].latency);
		histogram_merge(totals->lateness, sender->lateness);
	}
	/* Many threads on few CPUs can fill these without any of them being busy by itself. */
	totals->cpus = count_cpus(settings);
	if (totals->cpu_share / totals->cpus > totals->busiest_share)
		totals->busiest_share = totals->cpu_share / totals->cpus;
	if (totals->elapsed_ns)
		totals->per_second = (double)totals->requests * 1e9 / (double)totals->elapsed_ns;
}

/* ------------------------------------------------------------------ JSON */

static void settings_json(const struct settings *settings, struct json *json)
{
	static const char *const engines[] = { "epoll", "threads" };
	static const char *const waits[] = { "sleep", "spin" };
	static const char *const arrivals[] = { "even", "poisson" };

	json_object(json, "settings");
	json_text(json, "host", settings->host);
	json_count(json, "port", (uint64_t)settings->port);
	json_count(json, "connections", settings->connections);
	json_count(json, "messageBytes", settings->message_bytes);
	json_text(json, "protocol", protocol_names[settings->protocol]);
	json_count(json, "pipeline", settings->pipeline);
	json_text(json, "engine", engines[settings->engine]);
	json_count(json, "threads", settings->threads);
	json_text(json, "wait", waits[settings->wait]);
	json_array(json, "cpus");
	for (unsigned int i = 0; i < settings->cpus.count; i++)
		json_count(json, NULL, settings->cpus.cpu[i]);
	json_end_array(json);
	json_count(json, "warmupNs", settings->warmup_ns);
	if (settings->requests)
		json_count(json, "requests", settings->requests);
	else
		json_count(json, "durationNs", settings->duration_ns);
	if (settings->rate > 0) {
		json_number(json, "ratePerSecond", settings->rate);
		json_text(json, "arrivals", arrivals[settings->arrivals]);
	}
	json_count(json, "seed", settings->seed);
	json_count(json, "timeoutNs", settings->timeout_ns);
	json_bool(json, "clockHints", settings->clock_hints);
	json_end_object(json);
}

static void intervals_json(const struct result *result, const struct totals *totals, struct json *json)
{
	const struct settings *settings = result->settings;
	struct histogram *latency = malloc(sizeof(*latency));
	uint64_t start = 0;

	if (!latency)
		die(EXIT_ENVIRONMENT, "out of memory");
	json_array(json, "intervals");
	for (uint64_t i = 0; totals->elapsed_ns && i < settings->intervals; i++) {
		uint64_t end = (i + 1) * settings->interval_ns, last = 0;

		memset(latency, 0, sizeof(*latency));
		for (unsigned int j = 0; j < settings->threads; j++) {
			const struct interval *interval = &result->senders[j].intervals[i];

			histogram_merge(latency, &interval->latency);
			if (interval->last_ns > last)
				last = interval->last_ns;
		}
		/* Without fixed times an interval ends with its last reply. */
		if (settings->requests)
			end = last > totals->start_ns + start ? last - totals->start_ns : start;
		if (end > totals->elapsed_ns)
			end = totals->elapsed_ns;
		json_object(json, NULL);
		json_count(json, "startNs", start);
		json_count(json, "endNs", end);
		json_count(json, "requests", latency->count);
		histogram_json(latency, json, "latency");
		json_end_object(json);
		start = end;
	}
	json_end_array(json);
	free(latency);
}

static void generator_json(const struct result *result, const struct totals *totals, struct json *json)
{
	json_object(json, "generator");
	json_array(json, "threads");
	for (unsigned int i = 0; i < result->settings->threads; i++) {
		const struct sender *sender = &result->senders[i];

		json_object(json, NULL);
		json_count(json, "tid", (uint64_t)sender->tid);
		json_count(json, "connections", sender->connection_count);
		json_count(json, "requests", sender->completed);
		json_count(json, "cpuNs", accounting_own(result->accounting, sender->tid));
		json_count(json, "blockedNs", sender->blocked_ns);
		json_number(json, "busyShare", busy_share(result, totals, sender));
		json_end_object(json);
	}
	json_end_array(json);
	json_count(json, "cpuNs", totals->cpu_ns);
	json_count(json, "cpus", totals->cpus);
	json_number(json, "busiestShare", totals->busiest_share);
	/* A spinning thread is always busy; what it had to spare cannot be seen. */
	json_bool(json, "saturated",
		  result->settings->wait == WAIT_SLEEP && totals->busiest_share > LOAD_SATURATED_SHARE);
	json_end_object(json);
}

static void open_loop_json(const struct result *result, const struct totals *totals, struct json *json)
{
	uint64_t intended = totals->latency->count + totals->unanswered;
	/*
	 * A server that falls behind answers fewer in the window than were to be asked in it. One reply of each
	 * connection may be under way at the end, and a little is let pass.
	 */
	uint64_t slack = intended / 50 > result->settings->connections ? intended / 50 : result->settings->connections;

	json_object(json, "openLoop");
	json_number(json, "offeredPerSecond", result->settings->rate);
	json_count(json, "intended", intended);
	json_count(json, "unanswered", totals->unanswered);
	json_bool(json, "kept", !totals->unanswered && totals->requests + slack >= intended);
	histogram_json(totals->lateness, json, "lateness");
	histogram_summary_json(totals->lateness, json, "latenessSummary");
	json_end_object(json);
}

static void write_json(const struct result *result, const struct totals *totals, FILE *file)
{
	struct json json = { .file = file };

	json_object(&json, NULL);
	json_text(&json, "schema", "fastio-load");
	json_count(&json, "version", 1);
	json_bool(&json, "ok", !totals->error_count && totals->elapsed_ns);
	json_text(&json, "loop", result->settings->rate > 0 ? "open" : "closed");
	settings_json(result->settings, &json);
	json_count(&json, "connectNs", result->connected_ns);
	json_object(&json, "window");
	json_text(&json, "clock", "CLOCK_MONOTONIC_RAW");
	json_count(&json, "startNs", totals->elapsed_ns ? totals->start_ns : 0);
	json_count(&json, "elapsedNs", totals->elapsed_ns);
	json_end_object(&json);
	json_count(&json, "requests", totals->requests);
	json_number(&json, "requestsPerSecond", totals->per_second);
	histogram_summary_json(totals->latency, &json, "latencySummary");
	histogram_json(totals->latency, &json, "latency");
	intervals_json(result, totals, &json);
	if (result->settings->rate > 0)
		open_loop_json(result, totals, &json);
	generator_json(result, totals, &json);
	if (result->accounting->end.own.count)
		accounting_json(result->accounting, &json, "accounting");
	else
		json_text(&json, "accounting", NULL);
	json_object(&json, "totals");
	json_count(&json, "requests", totals->all_requests);
	json_count(&json, "bytes", totals->all_bytes);
	json_count(&json, "streamsLeftOpen", totals->left_open);
	json_end_object(&json);
	json_object(&json, "errors");
	json_count(&json, "total", totals->error_count);
	for (int kind = 0; kind < ERROR_KINDS; kind++)
		json_count(&json, error_names[kind], totals->errors[kind]);
	json_text(&json, "first", result->window->first_error[0] ? result->window->first_error : NULL);
	json_end_object(&json);
	json_end_object(&json);
	fputc('\n', file);
}

/* The file appears whole or not at all. */
static void write_json_file(const struct result *result, const struct totals *totals)
{
	const char *path = result->settings->json_path;
	char temporary[4096];
	FILE *file;

	if (!strcmp(path, "-")) {
		write_json(result, totals, stdout);
		if (fflush(stdout))
			die(EXIT_ENVIRONMENT, "cannot write to stdout: %s", strerror(errno));
		return;
	}
	snprintf(temporary, sizeof(temporary), "%s.%d", path, (int)getpid());
	file = fopen(temporary, "we");
	if (!file)
		die(EXIT_ENVIRONMENT, "cannot write %s: %s", temporary, strerror(errno));
	write_json(result, totals, file);
	if (ferror(file) | fclose(file) || rename(temporary, path)) {
		int error = errno;

		unlink(temporary);
		die(EXIT_ENVIRONMENT, "cannot write %s: %s", path, strerror(error));
	}
}

/* ------------------------------------------------------------------ for people */

static void print_time(const char *label, uint64_t nanoseconds)
{
	if (nanoseconds < 10000000)
		printf("  %s %.1f us", label, (double)nanoseconds / 1e3);
	else
		printf("  %s %.1f ms", label, (double)nanoseconds / 1e6);
}

static void print_summary(const struct result *result, const struct totals *totals)
{
	static const struct {
		const char *label;
		double fraction;
		uint64_t needed;
	} shown[] = { { "p50", 0.5, 20 }, { "p99", 0.99, 1000 }, { "p99.9", 0.999, 10000 } };
	const struct settings *settings = result->settings;

	printf("%s loop: %" PRIu64 " connections, %" PRIu64 " bytes, %.3f s\n", settings->rate > 0 ? "Open" : "Closed",
	       settings->connections, settings->message_bytes, (double)totals->elapsed_ns / 1e9);
	printf("Speed: %.0f requests/s, every byte checked\nLatency:", totals->per_second);
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		if (totals->latency->count >= shown[i].needed)
			print_time(shown[i].label, histogram_quantile(totals->latency, shown[i].fraction));
	}
	print_time("max", totals->latency->max_ns);
	printf("%s\n", settings->rate > 0 ? ", from the intended time" : " (of this closed loop, not of independent users)");
	if (totals->unanswered)
		printf("Overload: %" PRIu64 " requests were still unanswered when it was given up\n", totals->unanswered);
	if (settings->wait == WAIT_SLEEP)
		printf("Generator: %.0f %% busy%s\n", totals->busiest_share * 100,
		       totals->busiest_share > LOAD_SATURATED_SHARE ? ": it may be what was measured" : "");
}

int report(const struct result *result)
{
	struct totals totals = { 0 };

	add_up(result, &totals);
	if (result->settings->json_path)
		write_json_file(result, &totals);
	else if (totals.elapsed_ns)
		print_summary(result, &totals);
	if (result->window->first_error[0])
		complain("%s%s", result->window->first_error, totals.error_count > 1 ? " (and other errors)" : "");
	free(totals.latency);
	free(totals.lateness);
	return totals.error_count || !totals.elapsed_ns ? EXIT_SAID_NO : 0;
}
