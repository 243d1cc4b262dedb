/* SPDX-License-Identifier: MIT */
/*
 * Who used how much CPU in the window: every thread of the server (donated workers, wq workers and SQ threads
 * are threads of it), the kernel's softirq threads, each CPU, and this program itself.
 *
 * An echo server of this project answers with exact times. Any other process is read from schedstat, which the
 * kernel brings up to date at each tick; "tickNs" says so. Softirq work done in passing is part of the
 * time of the thread it interrupted, unless the kernel counts interrupts apart; the columns of /proc/stat,
 * in units of USER_HZ, stand beside it.
 */
#define _GNU_SOURCE
#include "load.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int connect_server(pid_t pid)
{
	struct timeval deadline = { 5, 0 };
	struct sockaddr_un address;
	unsigned int length = cputime_address(pid, &address);
	struct ucred peer;
	socklen_t peer_length = sizeof(peer);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	/* Anybody can take a name; the kernel says who did. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) ||
	    connect(fd, (struct sockaddr *)&address, length) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_length) || peer.pid != pid) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Finds the kernel's softirq threads; a container may show none of them. */
static void find_softirqd(struct accounting *accounting)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) && accounting->softirqd_count < CPUS_MAX) {
		char path[300], name[32] = "";
		FILE *file;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(name, sizeof(name), file) && !strncmp(name, "ksoftirqd/", 10))
			accounting->softirqd[accounting->softirqd_count++] = atoi(entry->d_name);
		fclose(file);
	}
	if (dir)
		closedir(dir);
}

void accounting_open(struct accounting *accounting, pid_t pid)
{
	struct timespec tick;

	*accounting = (struct accounting){ .pid = pid, .socket = -1 };
	find_softirqd(accounting);
	if (!pid)
		return;
	accounting->socket = connect_server(pid);
	if (accounting->socket < 0)
		/* The coarse clock moves once per tick. */
		accounting->tick_ns = clock_getres(CLOCK_MONOTONIC_COARSE, &tick) ? 0 : (uint64_t)tick.tv_nsec;
}

static void sample_cpus(struct accounting_sample *sample)
{
	double unit = 1e9 / (double)sysconf(_SC_CLK_TCK);
	FILE *file = fopen("/proc/stat", "re");
	char line[512];

	sample->cpu_count = 0;
	while (file && fgets(line, sizeof(line), file)) {
		unsigned long long v[8] = { 0 };
		struct cpu_ticks *ticks;
		unsigned int cpu;

		if (sscanf(line, "cpu%u %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, &v[0], &v[1], &v[2], &v[3],
			   &v[4], &v[5], &v[6], &v[7]) < 8 ||
		    cpu >= CPUS_MAX)
			continue;
		/* CPUs that are off leave gaps. */
		for (; sample->cpu_count <= cpu; sample->cpu_count++)
			sample->cpus[sample->cpu_count] = (struct cpu_ticks){ 0 };
		ticks = &sample->cpus[cpu];
		ticks->user = (uint64_t)((double)v[0] * unit);
		ticks->nice = (uint64_t)((double)v[1] * unit);
		ticks->system = (uint64_t)((double)v[2] * unit);
		ticks->idle = (uint64_t)((double)v[3] * unit);
		ticks->iowait = (uint64_t)((double)v[4] * unit);
		ticks->irq = (uint64_t)((double)v[5] * unit);
		ticks->softirq = (uint64_t)((double)v[6] * unit);
		ticks->steal = (uint64_t)((double)v[7] * unit);
	}
	if (file)
		fclose(file);
}

static void sample_softirqd(const struct accounting *accounting, struct cpu_sample *sample)
{
	cputime_free(sample);
	if (!accounting->softirqd_count)
		return;
	sample->threads = calloc(accounting->softirqd_count, sizeof(*sample->threads));
	if (!sample->threads)
		return;
	for (unsigned int i = 0; i < accounting->softirqd_count; i++) {
		struct cpu_sample one = { 0 };

		if (!cputime_sample_process(accounting->softirqd[i], &one))
			sample->threads[sample->count++] = one.threads[0];
		cputime_free(&one);
	}
}

void accounting_sample(struct accounting *accounting, struct accounting_sample *sample)
{
	int error = 0;

	/* The server first: its times are the ones that matter most. */
	if (accounting->socket >= 0) {
		error = send(accounting->socket, "?", 1, MSG_NOSIGNAL) == 1 ? 0 : -errno;
		if (!error)
			error = cputime_receive(accounting->socket, &sample->server);
	} else if (accounting->pid) {
		error = cputime_sample_process(accounting->pid, &sample->server);
	}
	if (error)
		die(EXIT_SAID_NO, "--account-pid: cannot read the CPU time of process %d: %s", (int)accounting->pid,
		    strerror(-error));
	if (cputime_sample_self(&sample->own))
		die(EXIT_ENVIRONMENT, "cannot read /proc/self/task");
	sample_cpus(sample);
	sample_softirqd(accounting, &sample->softirqd);
}

static const struct thread_time *find_thread(const struct cpu_sample *sample, pid_t tid)
{
	for (unsigned int i = 0; i < sample->count; i++) {
		if (sample->threads[i].tid == tid)
			return &sample->threads[i];
	}
	return NULL;
}

/* What a thread of the later sample used since the earlier one, in which it need not have existed. */
static uint64_t used(const struct cpu_sample *start, const struct thread_time *thread)
{
	const struct thread_time *before = find_thread(start, thread->tid);

	return before && before->cpu_ns <= thread->cpu_ns ? thread->cpu_ns - before->cpu_ns : thread->cpu_ns;
}

uint64_t accounting_own(const struct accounting *accounting, pid_t tid)
{
	const struct thread_time *thread = find_thread(&accounting->end.own, tid);

	return thread ? used(&accounting->start.own, thread) : 0;
}

double accounting_own_share(const struct accounting *accounting, pid_t tid)
{
	const struct thread_time *start = find_thread(&accounting->start.own, tid);
	const struct thread_time *end = find_thread(&accounting->end.own, tid);

	if (!start || !end || end->at_ns <= start->at_ns)
		return 0;
	return (double)used(&accounting->start.own, end) / (double)(end->at_ns - start->at_ns);
}

static uint64_t threads_json(const struct cpu_sample *start, const struct cpu_sample *end, struct json *json,
			     const char *key)
{
	uint64_t sum = 0;

	json_array(json, key);
	for (unsigned int i = 0; i < end->count; i++) {
		uint64_t cpu_ns = used(start, &end->threads[i]);

		sum += cpu_ns;
		json_object(json, NULL);
		json_count(json, "tid", (uint64_t)end->threads[i].tid);
		json_text(json, "name", end->threads[i].name);
		json_count(json, "cpuNs", cpu_ns);
		json_end_object(json);
	}
	json_end_array(json);
	return sum;
}

static void server_json(const struct accounting *accounting, struct json *json)
{
	const struct cpu_sample *start = &accounting->start.server, *end = &accounting->end.server;
	uint64_t elapsed = end->time_ns - start->time_ns, sum;
	unsigned int vanished = 0;

	for (unsigned int i = 0; i < start->count; i++)
		vanished += !find_thread(end, start->threads[i].tid);
	json_object(json, "server");
	json_count(json, "pid", (uint64_t)accounting->pid);
	json_text(json, "source", accounting->socket >= 0 ? "server" : "schedstat");
	json_count(json, "tickNs", accounting->tick_ns);
	json_count(json, "elapsedNs", elapsed);
	sum = threads_json(start, end, json, "threads");
	/* Their time is lost; a server whose threads come and go should not be compared by this. */
	json_count(json, "threadsEnded", vanished);
	json_count(json, "cpuNs", sum);
	json_number(json, "cpusUsed", (double)sum / (double)elapsed);
	json_end_object(json);
}

static void cpus_json(const struct accounting *accounting, struct json *json)
{
	json_array(json, "cpus");
	for (unsigned int i = 0; i < accounting->end.cpu_count; i++) {
		const struct cpu_ticks *start = &accounting->start.cpus[i], *end = &accounting->end.cpus[i];

		if (i >= accounting->start.cpu_count)
			break;
		json_object(json, NULL);
		json_count(json, "cpu", i);
		json_count(json, "userNs", end->user + end->nice - start->user - start->nice);
		json_count(json, "systemNs", end->system - start->system);
		json_count(json, "irqNs", end->irq - start->irq);
		json_count(json, "softirqNs", end->softirq - start->softirq);
		json_count(json, "stealNs", end->steal - start->steal);
		/* The kernel's own idle time can step back by a tick. */
		json_number(json, "idleNs", (double)(end->idle + end->iowait) - (double)(start->idle + start->iowait));
		json_end_object(json);
	}
	json_end_array(json);
}

void accounting_json(const struct accounting *accounting, struct json *json, const char *key)
{
	json_object(json, key);
	if (accounting->pid)
		server_json(accounting, json);
	else
		json_text(json, "server", NULL);
	threads_json(&accounting->start.softirqd, &accounting->end.softirqd, json, "softirqThreads");
	cpus_json(accounting, json);
	json_end_object(json);
}

void accounting_close(struct accounting *accounting)
{
	struct accounting_sample *samples[] = { &accounting->start, &accounting->end };

	for (int i = 0; i < 2; i++) {
		cputime_free(&samples[i]->own);
		cputime_free(&samples[i]->server);
		cputime_free(&samples[i]->softirqd);
	}
	if (accounting->socket >= 0)
		close(accounting->socket);
}
