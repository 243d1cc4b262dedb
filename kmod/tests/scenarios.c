// SPDX-License-Identifier: GPL-2.0
/* What liburing's tests taught that the other programs do not show already; docs/liburing-scenarios.md has the whole list. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

static char buffer[4096];

/* A file beyond 2 GiB opens and reads as with openat(2), which needs no O_LARGEFILE here. */
static void large_file(const void *arg)
{
	char path[] = "/tmp/fastio-large-XXXXXX";
	int made = mkstemp(path), fd;
	struct ctx ctx;

	variant_open(&ctx, arg, 1);
	NEED(made >= 0 && ftruncate(made, 5LL << 30) == 0, "%s", strerror(errno));
	NEED_EQ(pwrite(made, "far", 3, (5LL << 30) - 3), 3);
	fd = op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(path), .op_flags = O_RDWR)).res;
	unlink(path);
	NEED(fd >= 0, "res %d", fd);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(buffer), .len = 9, .off = (5ULL << 30) - 3)).res, 3);
	CHECK(!memcmp(buffer, "far", 3));
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .addr = ADDR("er"), .len = 2, .off = 5ULL << 30)).res, 2);
	ctx_close(&ctx);
}

static void o_path(const void *arg)
{
	int fd = open("/tmp", O_PATH);
	struct ctx ctx;

	variant_open(&ctx, arg, 1);
	CHECK_EQ(op_run(&ctx, 0, OP(POLL, fd, .op_flags = POLLIN)).res, -EBADF);
	CHECK_EQ(op_run(&ctx, 0, OP(CLOSE, fd)).res, 0);
	CHECK(fcntl(fd, F_GETFD) < 0);
	ctx_close(&ctx);
}

/* Whoever watches a directory sees our operations like everybody's. */
static void notifications(const void *arg)
{
	char dir[] = "/tmp/fastio-notify-XXXXXX", path[64], events[4096];
	uint32_t seen = 0;
	struct ctx ctx;
	ssize_t bytes;
	int watch, fd;

	variant_open(&ctx, arg, 1);
	NEED(mkdtemp(dir), "%s", strerror(errno));
	snprintf(path, sizeof(path), "%s/file", dir);
	watch = inotify_init1(IN_NONBLOCK);
	NEED(inotify_add_watch(watch, dir, IN_ALL_EVENTS) >= 0, "%s", strerror(errno));
	fd = op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(path), .op_flags = O_RDWR | O_CREAT, .len = 0600)).res;
	NEED(fd >= 0, "res %d", fd);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .addr = ADDR("w"), .len = 1)).res, 1);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(buffer), .len = 1)).res, 1);
	CHECK_EQ(op_run(&ctx, 0, OP(CLOSE, fd)).res, 0);
	ring_idle(&ctx, 0, 50);
	while ((bytes = read(watch, events, sizeof(events))) > 0)
		for (char *at = events; at < events + bytes;) {
			struct inotify_event *event = (struct inotify_event *)at;

			seen |= event->mask;
			at += sizeof(*event) + event->len;
		}
	CHECK(seen & IN_CREATE, "events %#x", seen);
	CHECK(seen & IN_OPEN, "events %#x", seen);
	CHECK(seen & IN_MODIFY, "events %#x", seen);
	CHECK(seen & IN_ACCESS, "events %#x", seen);
	CHECK(seen & IN_CLOSE_WRITE, "events %#x", seen);
	unlink(path);
	rmdir(dir);
	ctx_close(&ctx);
}

/* A terminal has two wait queues; reading and writing one, with waiting. */
static void terminal(const void *arg)
{
	const struct variant *v = arg;
	struct termios raw;
	int master, slave;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
		ktap_skip("no pseudo-terminals: %s", strerror(errno));
	tcgetattr(slave, &raw);
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
	ring_push(&ctx, 0, OP(POLL, slave, .op_flags = POLLIN, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	CHECK_EQ(write(master, "tty", 3), 3);
	ring_expect(&ctx, 0, 1, POLLIN);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, slave, .flags = v->slot, .addr = ADDR(buffer), .len = 9,
				    .off = FASTIO_OFF_CURRENT)).res, 3);
	CHECK(!memcmp(buffer, "tty", 3));
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, slave, .flags = v->slot, .addr = ADDR("back"), .len = 4,
				    .off = FASTIO_OFF_CURRENT)).res, 4);
	CHECK_EQ(read(master, buffer, 9), 4);
	/* The other side hangs up while an operation waits. */
	ring_push(&ctx, 0, OP(POLL, slave, .user_data = 2));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	close(master);
	CHECK(ring_wait(&ctx, 0).res & POLLHUP);
	ctx_close(&ctx);
}

static void ignore_signal(int signal)
{
	(void)signal;
}

/* In a process group that is not the terminal's foreground one. */
static void read_in_background(const struct variant *v, const char *name)
{
	struct sigaction action = { .sa_handler = ignore_signal };
	int slave = open(name, O_RDWR | O_NONBLOCK | O_NOCTTY);
	struct ctx ctx;

	NEED(slave >= 0, "%s: %s", name, strerror(errno));
	NEED_EQ(setpgid(0, 0), 0);
	sigaction(SIGTTIN, &action, NULL);
	variant_open(&ctx, v, 1);
	/* Donated threads block all signals, so the terminal refuses; otherwise it sends SIGTTIN and wants to be asked again. */
	CHECK_EQ(op_run(&ctx, 0, OP(READ, slave, .flags = v->slot, .addr = ADDR(buffer), .len = 9,
				    .off = FASTIO_OFF_CURRENT)).res, v->server == SERVER_INLINE ? -EINTR : -EIO);
	ctx_close(&ctx);
	_exit(ktap_has_failed());
}

static void background_terminal(const void *arg)
{
	int master, slave, status;
	char name[64];
	pid_t pid;

	if (openpty(&master, &slave, name, NULL, NULL) < 0)
		ktap_skip("no pseudo-terminals: %s", strerror(errno));
	/* Slots attempt what the terminal says is there. */
	NEED_EQ(write(master, "in\n", 3), 3);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		NEED(setsid() > 0 && ioctl(slave, TIOCSCTTY, 0) == 0, "%s", strerror(errno));
		pid = fork();
		if (pid == 0)
			read_in_background(arg, name);
		NEED_EQ(waitpid(pid, &status, 0), pid);
		_exit(status != 0);
	}
	NEED_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void signal_file(const void *arg)
{
	struct signalfd_siginfo info;
	sigset_t set;
	struct ctx ctx;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	variant_open(&ctx, arg, 1);
	fd = signalfd(-1, &set, SFD_NONBLOCK);
	for (int round = 0; round < 20; round++) {
		ring_push(&ctx, 0, OP(POLL, fd, .op_flags = POLLIN, .user_data = round));
		ring_submit(&ctx, 0);
		ring_expect_nothing(&ctx, 0);
		kill(getpid(), SIGUSR2);
		ring_expect(&ctx, 0, round, POLLIN);
		CHECK_EQ(read(fd, &info, sizeof(info)), sizeof(info));
	}
	ctx_close(&ctx);
}

struct server_process {
	struct ctx *ctx;
	char stack[65536];
};

/* Serves ring 0 once from a process that shares memory and files but not signals, and ends. */
static int serve_and_end(void *arg)
{
	struct server_process *server = arg;

	device_ioctl(server->ctx->fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, 0, 0, 0));
	_exit(0);
}

/*
 * The queue of a signalfd is part of the process that polled it: when that ends, the queue is freed under whoever waits in
 * it (POLLFREE), here an operation that goes on living in its ring.
 */
static void poll_free(const void *arg)
{
	static struct server_process server;
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;
	sigset_t set;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	ctx_open(&ctx, &setup, SERVER_NONE);
	server.ctx = &ctx;
	for (int round = 0; round < 100; round++) {
		int fd = signalfd(-1, &set, SFD_NONBLOCK), status;
		struct fastio_cqe cqe;
		pid_t pid;

		ring_push(&ctx, 0, OP(POLL, fd, .op_flags = POLLIN, .user_data = round));
		if (round % 2)
			ring_push(&ctx, 0, OP(FILE_REGISTER, fd, .user_data = 1000));
		ring_submit(&ctx, 0);
		pid = clone(serve_and_end, server.stack + sizeof(server.stack), CLONE_VM | CLONE_FILES | SIGCHLD, &server);
		NEED(pid >= 0, "clone: %s", strerror(errno));
		NEED_EQ(waitpid(pid, &status, 0), pid);
		/* The wait has ended in one way or another, or can be ended. */
		ring_push(&ctx, 0, OP(CANCEL, 0, .addr = round, .user_data = 1001));
		ring_push(&ctx, 0, OP(CLOSE, fd, .user_data = 1002));
		ring_submit(&ctx, 0);
		ctx.server = SERVER_INLINE;
		do
			cqe = ring_wait(&ctx, 0);
		while (cqe.user_data != 1002);
		CHECK_EQ(cqe.res, 0);
		ctx.server = SERVER_NONE;
	}
	CHECK_EQ(ring_stats(&ctx, 0).in_flight, 0);
	CHECK_EQ(ring_stats(&ctx, 0).slots, 0);
	ctx_close(&ctx);
}

/* Lets the ring run until @nr completions can be reaped, without reaping any. */
static void wait_unreaped(struct ctx *ctx, uint32_t nr)
{
	uint64_t end = now_ns() + 10000000000ULL * ktap_slowness();

	while (__atomic_load_n(&ctx->ring[0].head->cq_tail, __ATOMIC_ACQUIRE) - ctx->ring[0].cq_head < nr) {
		NEED(now_ns() < end, "not %u completions in ten seconds", nr);
		if (ctx->server == SERVER_INLINE)
			device_ioctl(ctx->fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, 0, 0, 0));
		else
			sleep_ms(1);
	}
}

/* An epoll set watches the device and is watched through it: a completion wakes the set, which wakes the ring. */
static void watched_watcher(const void *arg)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(0);
	struct ctx ctx;

	variant_open(&ctx, arg, 1);
	NEED_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, ctx.fd, &event), 0);
	for (int round = 0; round < 50; round++) {
		ring_push(&ctx, 0, OP(POLL, epoll, .op_flags = POLLIN, .user_data = 1));
		ring_submit(&ctx, 0);
		ring_idle(&ctx, 0, 1);
		ring_push(&ctx, 0, OP(NOP, 0, .user_data = 2));
		ring_submit(&ctx, 0);
		/* While the NOP is not reaped the device is ready, so the set is, so the POLL completes. */
		wait_unreaped(&ctx, 2);
		ring_expect(&ctx, 0, 2, 0);
		ring_expect(&ctx, 0, 1, POLLIN);
	}
	ctx_close(&ctx);
}

/* shutdown(2) ends what waits on the socket, also an accept on a listening one. */
static void shut_down(const void *arg)
{
	const struct variant *v = arg;
	struct sockaddr_in addr;
	int pair[2], listener;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	net_pair(pair);
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	shutdown(pair[0], SHUT_RD);
	ring_expect(&ctx, 0, 1, 0);
	shutdown(pair[0], SHUT_WR);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR("x"), .len = 1)).res, -EPIPE);
	if (ctx.setup.ops & 1ULL << FASTIO_OP_ACCEPT) {
		listener = net_listen(&addr);
		ring_push(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot, .user_data = 2));
		ring_submit(&ctx, 0);
		ring_expect_nothing(&ctx, 0);
		shutdown(listener, SHUT_RDWR);
		ring_expect(&ctx, 0, 2, -EINVAL);
	}
	ctx_close(&ctx);
}

struct submitter {
	struct ctx *ctx;
	int fd;
	uint8_t slot;
};

static void *submit_and_exit(void *arg)
{
	const struct submitter *submitter = arg;

	ring_push(submitter->ctx, 0, OP(RECV, submitter->fd, .flags = submitter->slot, .addr = ADDR(buffer), .len = 9,
					.user_data = 1));
	ring_submit(submitter->ctx, 0);
	ring_idle(submitter->ctx, 0, 5);
	return NULL;
}

/* An operation outlives the thread that submitted it. */
static void thread_exits(const void *arg)
{
	const struct variant *v = arg;
	struct submitter submitter = { .slot = v->slot };
	pthread_t thread;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	submitter.ctx = &ctx;
	submitter.fd = pair[0];
	NEED_EQ(pthread_create(&thread, NULL, submit_and_exit, &submitter), 0);
	pthread_join(thread, NULL);
	ring_expect_nothing(&ctx, 0);
	net_write(pair[1], "later", 5);
	ring_expect(&ctx, 0, 1, 5);
	ctx_close(&ctx);
}

/* Several operations wait on one file without a slot, in both directions, and one event each ends them. */
static void one_file_many_waits(const void *arg)
{
	const struct variant *v = arg;
	int event = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
	uint64_t values[4], two = 2;
	unsigned int done = 0;
	struct fastio_cqe cqe;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	for (unsigned int i = 0; i < 4; i++)
		ring_push(&ctx, 0, OP(READ, event, .flags = v->slot, .addr = ADDR(&values[i]), .len = 8,
				      .off = FASTIO_OFF_CURRENT, .user_data = i));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (int half = 0; half < 2; half++) {
		CHECK_EQ(write(event, &two, 8), 8);
		for (int i = 0; i < 2; i++, done++) {
			cqe = ring_wait(&ctx, 0);
			CHECK_EQ(cqe.res, 8);
			if (v->slot)
				CHECK_EQ(cqe.user_data, done, "in order");
		}
		ring_expect_nothing(&ctx, 0);
	}
	ctx_close(&ctx);
}

static const struct ktap_test tests[] = {
	TEST("OPENAT of a file beyond 2 GiB", large_file),
	TEST("an O_PATH descriptor can only be closed", o_path),
	TEST("inotify sees opens, reads, writes and closes", notifications),
	TEST("a terminal, which has two wait queues", terminal),
	TEST("READ of a terminal in the background", background_terminal),
	TEST("POLL of a signalfd", signal_file),
	TEST("a wait queue that is freed under a waiting operation", poll_free),
	TEST("an epoll set that watches the device and is watched by it", watched_watcher),
	TEST("shutdown ends what waits on the socket", shut_down),
	TEST("an operation outlives the thread that submitted it", thread_exits),
	TEST("several reads wait on one file and take one event each", one_file_many_waits),
};

int main(int argc, char **argv)
{
	return variants_main(tests, NR(tests), true, argc, argv);
}
