// SPDX-License-Identifier: MIT
/*
 * Beginning and end: exit with work in flight, fork, several at once, waiting, event loops of
 * others.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rig.h"

static int threads_running(void)
{
	DIR *dir = opendir("/proc/self/task");
	int count = -2;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/*
 * How many threads there are once all but @expected have had two seconds to go: one that has been
 * joined is still on its way out of the kernel. It may be fewer, as those of the test before may
 * have been counted on theirs.
 */
static int threads_left(int expected)
{
	for (int ms = 0; ms < 2000 && threads_running() > expected; ms++)
		usleep(1000);
	return threads_running();
}

/* Everything that can wait in a ring, waiting. The descriptors are left open in @fds, 7 of them. */
static void submit_what_never_ends(struct rig *rig, int fds[7])
{
	static char buffer[16];
	static char bytes[4 << 20];
	struct fastio_sqe *sqe;
	uint16_t port;

	REQUIRE(rig_tcp_pair(fds) && rig_tcp_pair(fds + 2) && !pipe2(fds + 4, O_CLOEXEC));
	fds[6] = rig_listen(4, &port);
	fastio_prep_recv(rig_sqe(rig, fds[0]), fds[0], buffer, sizeof(buffer), 0);
	sqe = rig_sqe(rig, fds[2]);
	fastio_prep_recv(sqe, fds[2], buffer, sizeof(buffer), 0);
	fastio_set_flags(sqe, FASTIO_SQE_SLOT);
	fastio_prep_send(rig_sqe(rig, fds[1]), fds[1], bytes, sizeof(bytes), MSG_WAITALL);
	fastio_prep_read(rig_sqe(rig, fds[4]), fds[4], buffer, sizeof(buffer), FASTIO_OFF_CURRENT);
	fastio_prep_accept_multishot(rig_sqe(rig, fds[6]), fds[6], 0);
	fastio_prep_poll(rig_sqe(rig, fds[4]), fds[4], POLLIN);
	fastio_prep_timeout(rig_get(&rig->fio->queues[0]), 3600ull * 1000000000, 0);
	/* Nothing is received on fds[0] because everything goes to it: its RECV completes. */
	CHECK(rig_next(rig).res > 0);
}

static void exit_with_operations_in_flight(void *arg)
{
	const struct rig *outer = arg;
	int before = rig_open_fds(), threads = threads_running(), left;
	struct fastio_params params;
	struct rig rig = { 0 };
	int fds[7];

	rig_params(&params, outer->mode);
	for (int round = 0; round < 5; round++) {
		struct fastio_error error = { "" };

		REQUIRE(!fastio_setup(&rig.fio, &params, &error), "%s", error.message);
		submit_what_never_ends(&rig, fds);
		fastio_exit(rig.fio);
		for (int i = 0; i < 7; i++)
			CHECK_EQ(close(fds[i]), 0);
	}
	CHECK_EQ(rig_open_fds(), before);
	left = threads_left(threads);
	CHECK(left <= threads, "%d, expected %d at most", left, threads);
}

/* A read, an open and a copy that block their threads, for want of somebody at the other end. */
static void exit_while_wq_workers_block(void *arg)
{
	const struct rig *outer = arg;
	int before = rig_open_fds(), threads = threads_running(), left;
	struct fastio_params params;
	struct rig rig = { 0 };
	int pipes[2], pair[2], file;
	char path[80], fifo[64], byte;
	struct fastio_sqe *sqe;

	snprintf(fifo, sizeof(fifo), "/tmp/fastio-test-exit-%d", (int)getpid());
	snprintf(path, sizeof(path), "%s-file", fifo);
	unlink(fifo);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unlink(path);
	REQUIRE(!mkfifo(fifo, 0600) && !pipe2(pipes, O_CLOEXEC) && rig_tcp_pair(pair));
	/* More than a connection holds when nobody reads. */
	REQUIRE(file >= 0 && !ftruncate(file, 64 << 20));
	rig_params(&params, outer->mode);
	params.wq_workers = 3;
	REQUIRE(!fastio_setup(&rig.fio, &params, NULL));
	sqe = rig_sqe(&rig, pipes[0]);
	fastio_prep_read(sqe, pipes[0], &byte, 1, FASTIO_OFF_CURRENT);
	fastio_set_flags(sqe, FASTIO_SQE_ASYNC);
	fastio_prep_open(rig_sqe(&rig, pipes[1]), fifo, O_WRONLY | O_CLOEXEC, 0);
	fastio_prep_sendfile(rig_sqe(&rig, pair[0]), pair[0], file, 0, 64 << 20);
	CHECK(rig_quiet(&rig));
	fastio_exit(rig.fio);
	close(pipes[0]);
	close(pipes[1]);
	close(pair[0]);
	close(pair[1]);
	close(file);
	unlink(fifo);
	CHECK_EQ(rig_open_fds(), before);
	left = threads_left(threads);
	CHECK(left <= threads, "%d, expected %d at most", left, threads);
}

static void exit_right_after_submit(void *arg)
{
	const struct rig *outer = arg;
	struct fastio_params params;

	rig_params(&params, outer->mode);
	for (int round = 0; round < 50; round++) {
		struct rig rig = { 0 };

		REQUIRE(!fastio_setup(&rig.fio, &params, NULL));
		for (int i = 0; i < 10; i++)
			fastio_prep_nop(rig_get(&rig.fio->queues[0]));
		CHECK_EQ(fastio_submit_all(rig.fio), 0);
		fastio_exit(rig.fio);
	}
}

/* Of the operations that a program finds without a completion afterwards, none has been executed. */
static void completions_outlive_their_workers(void *arg)
{
	const struct rig *outer = arg;
	int before = rig_open_fds(), pair[2], reaped = 0;
	struct fastio_params params;
	struct fastio_queue *queue;
	struct fastio_cqe *cqe;
	struct rig rig = { 0 };
	char buffer[16];

	rig_params(&params, outer->mode);
	REQUIRE(rig_tcp_pair(pair) && !fastio_setup(&rig.fio, &params, NULL));
	fastio_prep_recv(rig_sqe(&rig, pair[0]), pair[0], buffer, sizeof(buffer), 0);
	for (int i = 1; i <= 3; i++) {
		struct fastio_sqe *sqe = rig_sqe(&rig, pair[0]);

		fastio_prep_nop(sqe);
		fastio_set_data64(sqe, (uint64_t)i);
	}
	CHECK_EQ(fastio_submit_all(rig.fio), 0);
	CHECK_EQ(fastio_wait(rig.fio, RIG_WAIT_US), 0);
	fastio_stop(rig.fio);
	while ((cqe = fastio_next(rig.fio, &queue))) {
		/* The module says of what waited that it was cancelled. */
		if (cqe->user_data)
			CHECK_EQ(cqe->user_data, (uint64_t)++reaped);
		else
			CHECK_EQ(cqe->res, -ECANCELED);
		fastio_seen(queue);
	}
	CHECK(reaped >= 1 && reaped <= 3, "%d", reaped);
	CHECK_EQ(write(pair[1], "late", 4), 4);
	CHECK_EQ(recv(pair[0], buffer, sizeof(buffer), 0), 4);
	fastio_stop(rig.fio);
	fastio_exit(rig.fio);
	close(pair[0]);
	close(pair[1]);
	CHECK_EQ(rig_open_fds(), before);
}

static void several_at_once(void *arg)
{
	const struct rig *outer = arg;
	struct fastio_params params;
	struct rig rigs[3];

	rig_params(&params, outer->mode);
	for (int i = 0; i < 3; i++)
		REQUIRE(!fastio_setup(&rigs[i].fio, &params, NULL));
	for (int round = 0; round < 100; round++)
		for (int i = 0; i < 3; i++) {
			struct fastio_sqe *sqe = rig_get(&rigs[i].fio->queues[0]);

			fastio_prep_nop(sqe);
			fastio_set_data64(sqe, (uint64_t)(round * 3 + i));
			CHECK_EQ(rig_expect(&rigs[i], (uint64_t)(round * 3 + i)), 0);
		}
	for (int i = 0; i < 3; i++)
		fastio_exit(rigs[i].fio);
}

static void child_can_drop_its_copy(void *arg)
{
	struct rig *rig = arg;
	char buf[8];
	int pair[2], status = -1;
	struct fastio_sqe *sqe;
	pid_t child;

	REQUIRE(rig_tcp_pair(pair));
	sqe = rig_sqe(rig, pair[0]);
	fastio_prep_recv(sqe, pair[0], buf, sizeof(buf), 0);
	fastio_set_flags(sqe, FASTIO_SQE_SLOT);
	CHECK(rig_quiet(rig));
	child = fork();
	REQUIRE(child >= 0);
	if (!child) {
		close(pair[1]);
		fastio_exit(rig->fio);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	/* The parent's goes on as if nothing had been. */
	CHECK_EQ(send(pair[1], "x", 1, 0), 1);
	CHECK_EQ(rig_expect(rig, 0), 1);
	close(pair[0]);
	close(pair[1]);
}

static void child_has_no_rings(void *arg)
{
	struct rig *rig = arg;
	int status = -1;
	pid_t child = fork();

	REQUIRE(child >= 0);
	if (!child) {
		/* No core file, no message of a sanitizer: this is expected. */
		signal(SIGSEGV, SIG_DFL);
		fastio_prep_nop(rig_get(&rig->fio->queues[0]));
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %x",
	      (unsigned int)status);
	fastio_prep_nop(rig_get(&rig->fio->queues[0]));
	CHECK_EQ(rig_expect(rig, 0), 0);
}

static void waits_end_in_time(void *arg)
{
	struct rig *rig = arg;

	CHECK_EQ(fastio_wait(rig->fio, 0), -ETIME);
	CHECK_EQ(fastio_wait(rig->fio, 1000), -ETIME);
	CHECK_EQ(fastio_wait(rig->fio, -2), -EINVAL);
	fastio_prep_nop(rig_get(&rig->fio->queues[0]));
	CHECK_EQ(fastio_submit_and_wait(rig->fio, FASTIO_FOREVER), 0);
	CHECK_EQ(fastio_wait(rig->fio, 0), 0);
	CHECK_EQ(rig_expect(rig, 0), 0);
	CHECK_EQ(fastio_wait(rig->fio, 0), -ETIME);
}

static void own_descriptor_is_out_of_reach(void *arg)
{
	struct rig *rig = arg;
	char byte;

	fastio_prep_close(rig_get(&rig->fio->queues[0]), fastio_poll_fd(rig->fio));
	CHECK_EQ(rig_expect(rig, 0), -EBADF);
	fastio_prep_read(rig_get(&rig->fio->queues[0]), fastio_poll_fd(rig->fio), &byte, 1,
			 FASTIO_OFF_CURRENT);
	CHECK_EQ(rig_expect(rig, 0), -EBADF);
	fastio_prep_poll(rig_get(&rig->fio->queues[0]), fastio_poll_fd(rig->fio), POLLIN);
	CHECK_EQ(rig_expect(rig, 0), -EBADF);
	fastio_prep_nop(rig_get(&rig->fio->queues[0]));
	CHECK_EQ(rig_expect(rig, 0), 0);
}

static void on_signal(int signal_number)
{
	(void)signal_number;
}

static void signals_end_waits(void *arg)
{
	struct rig *rig = arg;
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval soon = { .it_value.tv_usec = 20000 }, never = { 0 };
	struct sigaction before;
	int ret;

	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &soon, NULL);
	ret = fastio_wait(rig->fio, RIG_WAIT_US);
	CHECK(ret == -EINTR, "%s", fastio_errno_name(ret));
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &before, NULL);
}

static bool readable(int epoll_fd, int timeout_ms)
{
	struct epoll_event event;

	return epoll_wait(epoll_fd, &event, 1, timeout_ms) == 1;
}

/* As an event loop does it: sleep on the descriptor, serve, reap. */
static struct fastio_cqe next_by_epoll(struct rig *rig, int epoll_fd)
{
	struct fastio_cqe none = { .user_data = ~0ull };
	struct fastio_queue *queue;
	struct fastio_cqe *cqe;

	for (int round = 0; round < 1000; round++) {
		int ret = fastio_before_poll(rig->fio);

		CHECK(ret >= 0, "%s", fastio_errno_name(ret));
		if (!ret && !readable(epoll_fd, 10000))
			break;
		cqe = fastio_next(rig->fio, &queue);
		if (!cqe)
			continue;
		none = *cqe;
		fastio_seen(queue);
		break;
	}
	return none;
}

static void event_loops_can_wait_for_completions(void *arg)
{
	struct rig *rig = arg;
	struct epoll_event event = { .events = EPOLLIN };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct fastio_sqe *sqe;
	char buf[8];
	int pair[2], quiet[2];

	REQUIRE(rig_tcp_pair(pair));
	CHECK_EQ(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fastio_poll_fd(rig->fio), &event), 0);
	for (uint64_t i = 0; i < 200; i++) {
		sqe = rig_sqe(rig, pair[0]);
		fastio_prep_recv(sqe, pair[0], buf, 1, 0);
		fastio_set_data64(sqe, i);
		if (i % 2)
			CHECK(fastio_before_poll(rig->fio) == 0 &&
			      !readable(epoll_fd, i % 10 == 1 ? 5 : 0));
		CHECK_EQ(send(pair[1], "x", 1, 0), 1);
		CHECK_EQ(next_by_epoll(rig, epoll_fd).user_data, i);
	}
	/* Level-triggered: as long as something is left it says so. */
	for (int i = 0; i < 2; i++) {
		sqe = rig_sqe(rig, pair[0]);
		fastio_prep_nop(sqe);
		fastio_set_data64(sqe, 500);
	}
	CHECK_EQ(next_by_epoll(rig, epoll_fd).user_data, 500);
	for (int i = 0; i < 3; i++)
		CHECK(fastio_before_poll(rig->fio) == 1 || readable(epoll_fd, 10000));
	CHECK_EQ(next_by_epoll(rig, epoll_fd).user_data, 500);
	CHECK_EQ(fastio_before_poll(rig->fio), 0);
	CHECK(!readable(epoll_fd, 20));
	/* Three that wait, and only the last gets something: none may be left in the SQ. */
	CHECK(rig_tcp_pair(quiet));
	for (int i = 0; i < 3; i++) {
		int fd = i < 2 ? quiet[i] : pair[0];

		sqe = rig_get(&rig->fio->queues[rig->fio->nr_queues - 1]);
		fastio_prep_recv(sqe, fd, buf, 1, 0);
		fastio_set_data64(sqe, 600 + (uint64_t)i);
	}
	CHECK_EQ(fastio_before_poll(rig->fio), 0);
	CHECK_EQ(send(pair[1], "x", 1, 0), 1);
	CHECK_EQ(next_by_epoll(rig, epoll_fd).user_data, 602);
	for (uint64_t i = 0; i < 2; i++) {
		CHECK_EQ(send(quiet[1 - i], "x", 1, 0), 1);
		CHECK_EQ(next_by_epoll(rig, epoll_fd).user_data, 600 + i);
	}
	/* A time-out of a queue that nobody serves in the meantime. */
	sqe = rig_get(&rig->fio->queues[rig->fio->nr_queues - 1]);
	fastio_prep_timeout(sqe, 30000000, 0);
	fastio_set_data64(sqe, 77);
	CHECK_EQ(next_by_epoll(rig, epoll_fd).res, -ETIME);
	/* And what a wq worker did for it. */
	sqe = rig_get(&rig->fio->queues[rig->fio->nr_queues - 1]);
	fastio_prep_open(sqe, "/nowhere/at/all", O_RDONLY, 0);
	CHECK_EQ(next_by_epoll(rig, epoll_fd).res, -ENOENT);
	close(epoll_fd);
	close(pair[0]);
	close(pair[1]);
	close(quiet[0]);
	close(quiet[1]);
}

/* Reads the line of /proc/self/task/TID/FILE that begins with @key, for the thread called @name. */
static bool thread_says(const char *name, const char *key, char *value, size_t size)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		char path[300], line[256] = "";
		FILE *status;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		status = fopen(path, "r");
		if (!status)
			continue;
		if (fgets(line, sizeof(line), status) && !strncmp(line, "Name:\t", 6) &&
		    !strncmp(line + 6, name, strlen(name)) && line[6 + strlen(name)] == '\n')
			while (!found && fgets(line, sizeof(line), status))
				if (!strncmp(line, key, strlen(key))) {
					snprintf(value, size, "%s", line + strlen(key));
					value[strcspn(value, "\n")] = '\0';
					found = true;
				}
		fclose(status);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void workers_are_named_pinned_and_deaf_to_signals(void *arg)
{
	struct fastio_params params;
	char value[256] = "";
	struct fastio *fio;
	cpu_set_t allowed;
	int cpu = 0;
	sigset_t none, before;

	(void)arg;
	CHECK_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	rig_params(&params, &rig_modes[1]);
	params.worker_cpu[1] = cpu;
	params.wq_cpu[0] = cpu;
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, &before);
	REQUIRE(!fastio_setup(&fio, &params, NULL));
	CHECK(thread_says("fastio/0", "SigBlk:\t", value, sizeof(value)), "no thread fastio/0");
	/* All but those that cannot be blocked, or that the C library keeps to itself. */
	CHECK((strtoull(value, NULL, 16) & 0x7ffbfeff) == 0x7ffbfeff, "%s", value);
	CHECK(thread_says("fastio/1", "Cpus_allowed_list:\t", value, sizeof(value)),
	      "no thread fastio/1");
	CHECK_EQ(strtol(value, NULL, 10), cpu);
	CHECK(!strpbrk(value, ",-"), "%s", value);
	CHECK(thread_says("fastio-wq/0", "Cpus_allowed_list:\t", value, sizeof(value)),
	      "no thread fastio-wq/0");
	CHECK_EQ(strtol(value, NULL, 10), cpu);
	pthread_sigmask(SIG_SETMASK, NULL, &none);
	CHECK(!sigismember(&none, SIGTERM), "the caller's signals were left blocked");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	fastio_exit(fio);
	fastio_exit(NULL);
}

/* A program pins its own thread first, and then its workers elsewhere. */
static void pinned_caller_can_pin_workers_elsewhere(void *arg)
{
	struct fastio_params params;
	struct fastio_error error = { "" };
	cpu_set_t allowed, one;
	int first = 0, last = CPU_SETSIZE - 1;
	char value[256] = "";
	struct fastio *fio;
	int ret;

	(void)arg;
	CHECK_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	while (!CPU_ISSET(first, &allowed))
		first++;
	while (!CPU_ISSET(last, &allowed))
		last--;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	rig_params(&params, &rig_modes[0]);
	params.worker_cpu[0] = last;
	CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
	ret = fastio_setup(&fio, &params, &error);
	CHECK_EQ(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
	REQUIRE(!ret, "%s", error.message);
	CHECK(thread_says("fastio/0", "Cpus_allowed_list:\t", value, sizeof(value)), "no thread");
	CHECK_EQ(strtol(value, NULL, 10), last);
	fastio_exit(fio);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{ "exit with operations in flight", exit_with_operations_in_flight },
		{ "exit right after submit", exit_right_after_submit },
		{ "completions outlive their workers", completions_outlive_their_workers },
		{ "several at once", several_at_once },
		{ "a child can drop its copy", child_can_drop_its_copy },
		{ "a child has no rings", child_has_no_rings },
		{ "waits end in time", waits_end_in_time },
		{ "signals end waits", signals_end_waits },
		{ "the own descriptor is out of reach", own_descriptor_is_out_of_reach },
		{ "event loops can wait for completions", event_loops_can_wait_for_completions },
	};
	static const struct tap_test alone[] = {
		{ "workers are named, pinned and deaf to signals",
		  workers_are_named_pinned_and_deaf_to_signals },
		{ "a pinned caller can pin workers elsewhere",
		  pinned_caller_can_pin_workers_elsewhere },
	};
	/* Last, because a back end that cannot do it never comes back. */
	static const struct tap_test last = { "exit while wq workers block",
					      exit_while_wq_workers_block };

	(void)argc;
	tap_begin(argv[0]);
	rig_run(tests, sizeof(tests) / sizeof(tests[0]));
	for (size_t i = 0; i < sizeof(alone) / sizeof(alone[0]); i++)
		tap_run(&alone[i], NULL, NULL);
	rig_run(&last, 1);
	return tap_end();
}
