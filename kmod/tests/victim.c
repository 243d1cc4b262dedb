// SPDX-License-Identifier: GPL-2.0
/* A process that uses everything the module has, under load. */
#define _GNU_SOURCE
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktap.h"
#include "net.h"

#define PAIRS		6
#define HOUR_NS		3600000000000ULL
#define BUFFER_BYTES	65536

static char buffers[PAIRS + 1][4096];

/* The other side of the echoes inside the victim. A stop or a trace interrupts waits that have a time limit. */
static void *client_main(void *arg)
{
	int fd = *(int *)arg;
	char byte = 'e';
	ssize_t ret;

	for (;;) {
		do
			ret = send(fd, &byte, 1, MSG_NOSIGNAL);
		while (ret < 0 && errno == EINTR);
		if (ret != 1)
			return NULL;
		do
			ret = recv(fd, &byte, 1, 0);
		while (ret < 0 && errno == EINTR);
		if (ret != 1)
			return NULL;
	}
}

/* Leaves one of every waiting operation in flight. */
static void park_everything(struct ctx *ctx)
{
	static struct iovec iovec = { NULL, BUFFER_BYTES };
	struct fastio_buffers fixed = { .iovecs = ADDR(&iovec), .nr = 1 };
	struct fastio_buf_group group = { .group = 1, .entries = 64 };
	struct sockaddr_in addr;
	char fifo[64];
	int pair[2], pipe_fds[2];

	iovec.iov_base = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED_EQ(device_ioctl(ctx->fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&fixed)), 0);
	NEED_EQ(device_ioctl(ctx->fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&group)), 0);
	NEED_EQ(pipe(pipe_fds), 0);
	for (uint8_t slot = 0; slot < 2; slot++) {
		net_pair(pair);
		ring_push(ctx, 0, OP(RECV, pair[0], .flags = slot, .addr = ADDR(buffers[0]), .len = 9));
		ring_push(ctx, 0, OP(POLL, pair[0], .op_flags = POLLIN));
		NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		net_clog(pair[0]);
		ring_push(ctx, 0, OP(SEND, pair[0], .flags = slot, .addr = ADDR("x"), .len = 1));
		net_pair(pair);
		ring_push(ctx, 0, OP(SEND_RECV, pair[0], .flags = slot, .addr2 = ADDR(buffers[0]), .len2 = 9));
		net_pair(pair);
		ring_push(ctx, 0, OP(RECV, pair[0], .flags = slot | FASTIO_SQE_MULTISHOT | FASTIO_SQE_BUF_SELECT, .buf = 1));
		if (ctx->setup.ops & 1ULL << FASTIO_OP_ACCEPT)
			ring_push(ctx, 0, OP(ACCEPT, net_listen(&addr), .flags = slot | FASTIO_SQE_MULTISHOT));
	}
	net_pair(pair);
	ring_push(ctx, 0, OP(RECV, pair[0], .flags = FASTIO_SQE_FIXED_BUF, .addr = ADDR(iovec.iov_base), .len = 9));
	ring_push(ctx, 0, OP(READ, pipe_fds[0], .addr = ADDR(buffers[0]), .len = 9, .off = FASTIO_OFF_CURRENT));
	ring_push(ctx, 0, OP(TIMEOUT, 0, .off = HOUR_NS));
	/* The wq worker sits in open(2) of a FIFO nobody writes, with another operation behind it. */
	snprintf(fifo, sizeof(fifo), "/tmp/fastio-victim-%d", getpid());
	NEED_EQ(mkfifo(fifo, 0600), 0);
	ring_push(ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(strdup(fifo)), .op_flags = O_RDONLY));
	ring_push(ctx, 0, OP(FSYNC, pipe_fds[0]));
	ring_submit(ctx, 0);
	ring_idle(ctx, 0, 20);
	unlink(fifo);
}

static void serve(struct ctx *ctx, atomic_ulong *echoes, const int *fds, unsigned int nr)
{
	unsigned int ring = ctx->setup.workers - 1;

	for (unsigned int i = 0; i < nr; i++)
		ring_push(ctx, ring, OP(SEND_RECV, fds[i], .flags = FASTIO_SQE_SLOT, .addr2 = ADDR(buffers[i]), .len2 = 1,
					.user_data = i + 1));
	for (;;) {
		struct fastio_cqe cqe;

		ring_submit(ctx, ring);
		if (!ring_wait_for(ctx, ring, &cqe, 1000))
			continue;
		if (cqe.res <= 0 || !cqe.user_data)
			continue;
		ring_push(ctx, ring, OP(SEND_RECV, fds[cqe.user_data - 1], .flags = FASTIO_SQE_SLOT,
					.addr = ADDR(buffers[cqe.user_data - 1]), .len = 1,
					.addr2 = ADDR(buffers[cqe.user_data - 1]), .len2 = 1, .user_data = cqe.user_data));
		(*echoes)++;
	}
}

struct serving {
	struct ctx *ctx;
	atomic_ulong *echoes;
	const int *fds;
};

static void *serving_main(void *arg)
{
	struct serving *serving = arg;

	serve(serving->ctx, serving->echoes, serving->fds, PAIRS + 1);
	return NULL;
}

static int victim_main(enum server server, atomic_ulong *echoes, int echo_socket, int (*in_victim)(struct ctx *ctx))
{
	struct fastio_setup setup = ctx_defaults(server == SERVER_INLINE ? 1 : 2);
	static int fds[PAIRS + 1], peers[PAIRS];
	static struct ctx ctx;
	struct serving serving = { &ctx, echoes, fds };
	pthread_t thread;

	setup.sq_entries = setup.cq_entries = 1024;
	ctx_open(&ctx, &setup, server);
	park_everything(&ctx);
	for (unsigned int i = 0; i < PAIRS; i++) {
		int pair[2];

		net_pair(pair);
		fds[i] = pair[0];
		peers[i] = pair[1];
		NEED_EQ(pthread_create(&thread, NULL, client_main, &peers[i]), 0);
	}
	fds[PAIRS] = echo_socket;
	if (!in_victim)
		serve(&ctx, echoes, fds, PAIRS + 1);
	NEED_EQ(pthread_create(&thread, NULL, serving_main, &serving), 0);
	while (*echoes < 50)
		sched_yield();
	return in_victim(&ctx);
}

void victim_start(struct victim *victim, enum server server, int (*in_victim)(struct ctx *ctx))
{
	int pair[2];

	victim->echoes = mmap(NULL, sizeof(*victim->echoes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(victim->echoes != MAP_FAILED, "mmap: %s", strerror(errno));
	net_pair(pair);
	victim->pid = fork();
	NEED(victim->pid >= 0, "fork: %s", strerror(errno));
	if (victim->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[1]);
		_exit(victim_main(server, victim->echoes, pair[0], in_victim));
	}
	close(pair[0]);
	victim->echo_socket = pair[1];
	if (!in_victim)
		victim_makes_progress(victim, 50);
}

void victim_makes_progress(const struct victim *victim, unsigned long echoes)
{
	uint64_t end = now_ns() + 10000000000ULL * ktap_slowness();
	unsigned long goal = *victim->echoes + echoes;

	while (*victim->echoes < goal && now_ns() < end)
		sleep_ms(1);
	NEED(*victim->echoes >= goal, "%lu of %lu echoes within ten seconds", *victim->echoes + echoes - goal, echoes);
}

int victim_end(struct victim *victim, int signal)
{
	int status;

	if (signal)
		kill(victim->pid, signal);
	NEED_EQ(waitpid(victim->pid, &status, 0), victim->pid);
	CHECK(net_is_gone(victim->echo_socket), "the peer of a dead process sees the end");
	close(victim->echo_socket);
	munmap(victim->echoes, sizeof(*victim->echoes));
	return status;
}
