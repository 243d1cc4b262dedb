// SPDX-License-Identifier: MIT
/*
 * Windows. The guest marks where a measurement begins and ends; what each vCPU did in between is written
 * out. Everything but "host" is a function of the guest alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "binding.h"
#include "clock.h"
#include "lines.h"
#include "profile.h"
#include "sleep.h"
#include "slices.h"
#include "stats.h"

struct snapshot {
	int64_t now_ns;
	uint64_t rounds, slices;
	double wall, cpu;
	struct vcpu vcpus[VCPUS_MAX];
	struct score scores[VCPUS_MAX];
};

static FILE *file;
static struct snapshot boot, begun;
static unsigned int windows;
static bool in_window;

static void take(struct snapshot *to, int64_t now_ns)
{
	struct rusage usage;
	struct timespec wall;

	clock_gettime(CLOCK_MONOTONIC, &wall);
	getrusage(RUSAGE_SELF, &usage);
	to->now_ns = now_ns;
	to->rounds = rounds_so_far();
	to->slices = slices_so_far();
	to->wall = (double)wall.tv_sec + (double)wall.tv_nsec * 1e-9;
	to->cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		  (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
	for (unsigned int i = 0; i < vcpu_count; i++) {
		account(&vcpus[i]);
		to->vcpus[i] = vcpus[i];
		to->scores[i] = *vcpus[i].score;
	}
}

bool open_stats(const char *path, int vcpus_to_come, const char *arguments)
{
	struct timespec wall;

	clock_gettime(CLOCK_MONOTONIC, &wall);
	boot.wall = (double)wall.tv_sec + (double)wall.tv_nsec * 1e-9;
	if (!path)
		return true;
	file = fopen(path, "we");
	if (!file) {
		complain("%s: %s", path, strerror(errno));
		return false;
	}
	fprintf(file, "{\"kind\":\"start\",\"qemu\":\"%s\",\"vcpus\":%d,\"arguments\":\"%s\"}\n",
		qemu.version, vcpus_to_come, arguments);
	fflush(file);
	return true;
}

static void print_vcpu(unsigned int index, const struct snapshot *from, const struct snapshot *to)
{
	const struct vcpu *a = &from->vcpus[index], *b = &to->vcpus[index];
	const struct score *before = &from->scores[index], *after = &to->scores[index];

	fprintf(file,
		"%s{\"executedNs\":%" PRId64 ",\"spunNs\":%" PRId64 ",\"lineNs\":%" PRId64
		",\"lineTransfers\":%" PRIu64 ",\"userInstructions\":%" PRIu64 ",\"kernelInstructions\":%" PRIu64
		",\"systemCalls\":%" PRIu64 ",\"exceptionReturns\":%" PRIu64 ",\"atomics\":%" PRIu64
		",\"ipis\":%" PRIu64 ",\"sleeps\":%" PRIu64 "}",
		index ? "," : "", TO_NS(b->executed - a->executed), TO_NS(b->spun - a->spun),
		TO_NS(b->on_lines - a->on_lines), b->line_transfers - a->line_transfers,
		after->user_insns - before->user_insns, after->kernel_insns - before->kernel_insns,
		after->syscalls - before->syscalls, after->exception_returns - before->exception_returns,
		after->atomics - before->atomics, after->ipis - before->ipis, b->sleeps - a->sleeps);
}

static void print_span(const char *kind, const struct snapshot *from, const struct snapshot *to)
{
	fprintf(file,
		"{\"kind\":\"%s\",\"startNs\":%" PRId64 ",\"endNs\":%" PRId64 ",\"quantumNs\":%" PRId64
		",\"rounds\":%" PRIu64 ",\"slices\":%" PRIu64 ",\"vcpus\":[",
		kind, from->now_ns, to->now_ns, quantum(), to->rounds - from->rounds,
		to->slices - from->slices);
	for (unsigned int i = 0; i < vcpu_count; i++)
		print_vcpu(i, from, to);
	fprintf(file, "]");
}

static void print_host(const struct snapshot *from, const struct snapshot *to)
{
	fprintf(file, ",\"host\":{\"wallSeconds\":%.3f,\"cpuSeconds\":%.3f,\"idleMoves\":%" PRIu64 "}}\n",
		to->wall - from->wall, to->cpu - from->cpu, idle_moves());
	fflush(file);
}

void begin_window(unsigned int index)
{
	clear_line_counts();
	clear_profile();
	in_window = true;
	take(&begun, TO_NS(own_time(&vcpus[index])));
}

void end_window(unsigned int index)
{
	static struct snapshot ended;

	if (!in_window)
		return;
	in_window = false;
	windows++;
	if (!file)
		return;
	take(&ended, TO_NS(own_time(&vcpus[index])));
	print_span("window", &begun, &ended);
	fprintf(file, ",\"index\":%u,", windows);
	print_line_counts(file);
	print_profile(file);
	print_host(&begun, &ended);
}

void close_stats(void)
{
	static struct snapshot ended;

	if (!file)
		return;
	take(&ended, round_start_ns());
	print_span("end", &boot, &ended);
	print_host(&boot, &ended);
	fclose(file);
	file = NULL;
}
