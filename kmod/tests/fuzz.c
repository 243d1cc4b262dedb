// SPDX-License-Identifier: GPL-2.0
/* Rounds of fuzzing in processes that are killed, and the check that nothing of them is left. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "levels.h"

#define ROUND_NS	2000000000ULL
#define WARM_UP_ROUNDS	3
/* For reports from a round: rounds limit themselves to smaller numbers, and a byte changed in one of those is not this. */
#define REPORT_FD	1000

static uint64_t bound(const char *name, uint64_t fallback)
{
	const char *text = getenv(name);
	char *end;
	uint64_t value;

	if (!text || !*text)
		return fallback;
	value = strtoull(text, &end, 10);
	NEED(!*end, "%s=%s: expected a decimal number", name, text);
	return value;
}

unsigned int fuzz_timeout_s(void)
{
	const char *text = getenv("FASTIO_FUZZ_SECONDS");

	return (text ? strtoul(text, NULL, 10) : 30) + 120;
}

/*
 * Waits for a round's own end or its time, and kills whatever it started. A signal is no failure: a hostile operation may
 * overwrite what the round runs on. Return: the SQEs it has counted.
 */
static uint64_t run_round(struct fuzz_round *shared, uint64_t seed, void (*round)(struct fuzz_round *round))
{
	uint64_t end = now_ns() + ROUND_NS;
	int status;
	pid_t pid;

	shared->seed = seed;
	shared->sqes = 0;
	shared->done = false;
	pid = fork();
	NEED(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ktap_keep_output(REPORT_FD);
		round(shared);
		shared->done = true;
		_exit(0);
	}
	setpgid(pid, pid);
	while (!shared->done && now_ns() < end)
		sleep_ms(5);
	kill(-pid, SIGKILL);
	NEED_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "wait status %#x of a round", status);
	/* Children of the round are ours now: they were killed with its group. */
	while (waitpid(-1, &status, 0) > 0)
		;
	return shared->sqes;
}

void fuzz_rounds(void (*round)(struct fuzz_round *round), const char *name)
{
	uint64_t seed = bound("FASTIO_FUZZ_SEED", now_ns() | 1), goal = bound("FASTIO_FUZZ_SQES", 200000);
	uint64_t begin = now_ns(), end = begin + bound("FASTIO_FUZZ_SECONDS", 30) * 1000000000ULL, sqes = 0;
	struct fuzz_round *shared = ktap_shared(sizeof(*shared));
	struct levels before = { 0 }, after;
	unsigned int rounds = 0;

	NEED_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	ktap_say("%s: FASTIO_FUZZ_SEED=%llu repeats this", name, (unsigned long long)seed);
	do {
		if (rounds == WARM_UP_ROUNDS) {
			sleep_ms(1000);
			before = levels_now();
		}
		sqes += run_round(shared, (seed + rounds) * 0x9e3779b97f4a7c15ULL | 1, round);
		if (ktap_has_failed()) {
			ktap_say("%s: round %u failed; FASTIO_FUZZ_SEED=%llu begins with it", name, rounds,
				 (unsigned long long)(seed + rounds));
			return;
		}
		rounds++;
	} while (rounds <= WARM_UP_ROUNDS || (sqes < goal && now_ns() < end));
	ktap_say("%s: %llu SQEs in %u rounds and %llu s", name, (unsigned long long)sqes, rounds,
		 (unsigned long long)((now_ns() - begin) / 1000000000));
	CHECK(sqes > 0, "the module took no SQE at all");
	levels_flat(&before);
	after = levels_now();
	levels_say(&before, &after);
}
