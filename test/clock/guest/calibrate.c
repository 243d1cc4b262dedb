// SPDX-License-Identifier: MIT
/*
 * Measures the virtual clock from inside the guest. Every verb prints one JSON object and exits with 0; what the
 * figures have to be is for the caller to judge.
 *
 *	calibrate loop THREADS INSTRUCTIONS	a pinned loop of known length on each of THREADS CPUs
 *	calibrate sleep NS...			how long each sleep really was, by several means
 *	calibrate order THREADS READS		reads of the clock on several CPUs, ordered through memory
 *	calibrate lock THREADS HOLDS INSTRUCTIONS	a contended spinlock, held for so many instructions
 *	calibrate ping ROUNDS			a word bounced between two CPUs through memory
 *	calibrate alias ADDS SAME		two CPUs add to one line (SAME 1) or two (0), each through its own mapping
 *	calibrate calls COUNT			null system calls
 *
 * Thread i runs on CPU i + 1; CPU 0 is left to the rest of the guest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 63
#define SLEEPS_MAX 16
#define NS_PER_SECOND 1000000000LL
#define LINE 64
/* Loops below are counted by hand: instructions of one turn. */
#define TURN_INSTRUCTIONS 10

static int threads;
static uint64_t turns, reads, holds;
static pthread_barrier_t start;
static int64_t from_ns[THREADS_MAX], to_ns[THREADS_MAX];

/* Shared words, each on a line of its own. */
static struct {
	_Alignas(LINE) uint32_t lock;
	_Alignas(LINE) uint64_t count;
	_Alignas(LINE) int64_t latest;
	_Alignas(LINE) uint64_t backwards;
	_Alignas(LINE) uint64_t ball;
	_Alignas(LINE) char end;
} shared;

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "calibrate: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

/* Executes exactly TURN_INSTRUCTIONS times @count instructions, and two. */
static void spend(uint64_t count)
{
	__asm__ volatile("1:\n\t"
			 "nop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\t"
			 "subs %0, %0, #1\n\t"
			 "b.ne 1b"
			 : "+r"(count)
			 :
			 : "cc");
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static void run_threads(void *(*body)(void *))
{
	pthread_t handles[THREADS_MAX];

	pin(0);
	pthread_barrier_init(&start, NULL, (unsigned int)threads);
	for (intptr_t i = 0; i < threads; i++) {
		errno = pthread_create(&handles[i], NULL, body, (void *)i);
		if (errno)
			fail("pthread_create");
	}
	for (int i = 0; i < threads; i++)
		pthread_join(handles[i], NULL);
}

static void begin_thread(intptr_t index)
{
	pin((int)index + 1);
	pthread_barrier_wait(&start);
}

static void print_times(const char *verb, uint64_t each)
{
	int64_t first = from_ns[0], last = to_ns[0];

	printf("{\"verb\":\"%s\",\"each\":%" PRIu64 ",\"ns\":[", verb, each);
	for (int i = 0; i < threads; i++) {
		printf("%s%" PRId64, i ? "," : "", to_ns[i] - from_ns[i]);
		first = from_ns[i] < first ? from_ns[i] : first;
		last = to_ns[i] > last ? to_ns[i] : last;
	}
	printf("],\"spanNs\":%" PRId64, last - first);
}

static void *loop_body(void *arg)
{
	intptr_t index = (intptr_t)arg;

	begin_thread(index);
	/* What the first turns touch for the first time is not the clock's business. */
	spend(1000);
	from_ns[index] = now_ns();
	spend(turns);
	to_ns[index] = now_ns();
	return NULL;
}

static int64_t until(clockid_t clock, int64_t ns)
{
	struct timespec time;
	int64_t from;

	clock_gettime(clock, &time);
	from = time.tv_sec * NS_PER_SECOND + time.tv_nsec;
	time.tv_sec = (from + ns) / NS_PER_SECOND;
	time.tv_nsec = (from + ns) % NS_PER_SECOND;
	if (clock_nanosleep(clock, TIMER_ABSTIME, &time, NULL))
		fail("clock_nanosleep");
	clock_gettime(clock, &time);
	return time.tv_sec * NS_PER_SECOND + time.tv_nsec - from;
}

static int64_t by_timerfd(int64_t ns)
{
	struct itimerspec when = { .it_value = { ns / NS_PER_SECOND, ns % NS_PER_SECOND } };
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t expired;
	int64_t from = now_ns();

	if (fd < 0 || timerfd_settime(fd, 0, &when, NULL) || read(fd, &expired, sizeof(expired)) < 0)
		fail("timerfd");
	close(fd);
	return now_ns() - from;
}

static void sleep_all(int count, char **texts)
{
	printf("{\"verb\":\"sleep\",\"sleeps\":[");
	for (int i = 0; i < count && i < SLEEPS_MAX; i++) {
		int64_t ns = atoll(texts[i]);

		printf("%s{\"wantedNs\":%" PRId64 ",\"monotonicNs\":%" PRId64, i ? "," : "", ns,
		       until(CLOCK_MONOTONIC, ns));
		printf(",\"realtimeNs\":%" PRId64 ",\"timerfdNs\":%" PRId64 "}", until(CLOCK_REALTIME, ns),
		       by_timerfd(ns));
	}
	printf("]}\n");
}

static void *order_body(void *arg)
{
	begin_thread((intptr_t)arg);
	for (uint64_t i = 0; i < reads; i++) {
		int64_t seen = __atomic_load_n(&shared.latest, __ATOMIC_SEQ_CST);
		int64_t now;

		/* Not before what was read above. */
		__asm__ volatile("isb" ::: "memory");
		now = now_ns();
		if (now < seen)
			__atomic_fetch_add(&shared.backwards, 1, __ATOMIC_RELAXED);
		while (now > seen && !__atomic_compare_exchange_n(&shared.latest, &seen, now, false,
								  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			continue;
	}
	return NULL;
}

static void *lock_body(void *arg)
{
	intptr_t index = (intptr_t)arg;

	begin_thread(index);
	from_ns[index] = now_ns();
	for (uint64_t i = 0; i < holds; i++) {
		while (__atomic_exchange_n(&shared.lock, 1, __ATOMIC_ACQUIRE))
			while (__atomic_load_n(&shared.lock, __ATOMIC_RELAXED))
				__asm__ volatile("yield");
		spend(turns);
		shared.count++;
		__atomic_store_n(&shared.lock, 0, __ATOMIC_RELEASE);
	}
	to_ns[index] = now_ns();
	return NULL;
}

/* Player 0 makes the ball odd, player 1 makes it even. */
static void *ping_body(void *arg)
{
	intptr_t index = (intptr_t)arg;

	begin_thread(index);
	from_ns[index] = now_ns();
	for (uint64_t i = 0; i < turns; i++) {
		while (__atomic_load_n(&shared.ball, __ATOMIC_ACQUIRE) != 2 * i + (uint64_t)index)
			continue;
		__atomic_store_n(&shared.ball, 2 * i + (uint64_t)index + 1, __ATOMIC_RELEASE);
	}
	to_ns[index] = now_ns();
	return NULL;
}

/* Two CPUs add to one word, each through its own mapping: as many transfers as with one. */
static uint64_t *alias[2];

static void *alias_body(void *arg)
{
	intptr_t index = (intptr_t)arg;

	begin_thread(index);
	from_ns[index] = now_ns();
	for (uint64_t i = 0; i < turns; i++)
		__atomic_fetch_add(alias[index], 1, __ATOMIC_SEQ_CST);
	to_ns[index] = now_ns();
	return NULL;
}

static void map_alias(bool same_line)
{
	int fd = memfd_create("alias", 0);

	if (fd < 0 || ftruncate(fd, 4096))
		fail("memfd_create");
	for (int i = 0; i < 2; i++) {
		char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

		if (at == MAP_FAILED)
			fail("mmap");
		alias[i] = (uint64_t *)(at + (same_line ? 0 : i * LINE));
	}
}

static void *calls_body(void *arg)
{
	intptr_t index = (intptr_t)arg;

	begin_thread(index);
	syscall(SYS_getppid);
	from_ns[index] = now_ns();
	for (uint64_t i = 0; i < turns; i++)
		syscall(SYS_getppid);
	to_ns[index] = now_ns();
	return NULL;
}

static uint64_t number(char **argv, int index, uint64_t low, uint64_t high)
{
	char *end;
	uint64_t value = argv[index] ? strtoull(argv[index], &end, 10) : 0;

	if (argv[index] && !*end && value >= low && value <= high)
		return value;
	fprintf(stderr, "calibrate: argument %d: found \"%s\", expected %" PRIu64 " to %" PRIu64 "\n", index,
		argv[index] ? argv[index] : "nothing", low, high);
	exit(2);
}

static void run_verb(const char *verb, int argc, char **argv)
{
	if (!strcmp(verb, "loop")) {
		threads = (int)number(argv, 2, 1, THREADS_MAX);
		turns = number(argv, 3, 10, UINT64_MAX) / TURN_INSTRUCTIONS;
		run_threads(loop_body);
		print_times(verb, turns * TURN_INSTRUCTIONS);
	} else if (!strcmp(verb, "order")) {
		threads = (int)number(argv, 2, 1, THREADS_MAX);
		reads = number(argv, 3, 1, UINT64_MAX);
		run_threads(order_body);
		printf("{\"verb\":\"order\",\"reads\":%" PRIu64 ",\"backwards\":%" PRIu64, reads * threads,
		       shared.backwards);
	} else if (!strcmp(verb, "lock")) {
		threads = (int)number(argv, 2, 1, THREADS_MAX);
		holds = number(argv, 3, 1, UINT64_MAX);
		turns = number(argv, 4, 10, UINT64_MAX) / TURN_INSTRUCTIONS;
		run_threads(lock_body);
		print_times(verb, turns * TURN_INSTRUCTIONS);
		printf(",\"holds\":%" PRIu64 ",\"count\":%" PRIu64, holds * threads, shared.count);
	} else if (!strcmp(verb, "ping")) {
		threads = 2;
		turns = number(argv, 2, 1, UINT64_MAX);
		run_threads(ping_body);
		print_times(verb, turns);
	} else if (!strcmp(verb, "alias")) {
		threads = 2;
		turns = number(argv, 2, 1, UINT64_MAX);
		map_alias(number(argv, 3, 0, 1));
		run_threads(alias_body);
		print_times(verb, turns);
	} else if (!strcmp(verb, "calls")) {
		threads = 1;
		turns = number(argv, 2, 1, UINT64_MAX);
		run_threads(calls_body);
		print_times(verb, turns);
	} else if (!strcmp(verb, "sleep") && argc > 2) {
		sleep_all(argc - 2, argv + 2);
		return;
	} else {
		fputs("calibrate: see the head of calibrate.c\n", stderr);
		exit(2);
	}
	printf("}\n");
}

int main(int argc, char **argv)
{
	run_verb(argc > 1 ? argv[1] : "", argc, argv);
	return 0;
}
