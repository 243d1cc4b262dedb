// SPDX-License-Identifier: GPL-2.0
/* ACCEPT, POLL, CLOSE, slots and their life, and the order of operations on one connection. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

static char buffer[1 << 16];

static void need_accept(const struct ctx *ctx)
{
	if (!(ctx->setup.ops & 1ULL << FASTIO_OP_ACCEPT))
		ktap_skip("ACCEPT is switched off: a security module must see it");
}

static void accept_pending(const void *arg)
{
	const struct variant *v = arg;
	struct sockaddr_in addr, peer, self;
	socklen_t bytes = sizeof(peer), self_bytes = sizeof(self);
	int listener, client, fd;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	need_accept(&ctx);
	listener = net_listen(&addr);
	client = net_connect(&addr);
	fd = op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot, .op_flags = SOCK_NONBLOCK | SOCK_CLOEXEC,
				.addr = ADDR(&peer), .addr2 = ADDR(&bytes))).res;
	NEED(fd >= 0, "res %d", fd);
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(bytes, sizeof(peer));
	NEED_EQ(getsockname(client, (struct sockaddr *)&self, &self_bytes), 0);
	CHECK_EQ(peer.sin_port, self.sin_port);
	CHECK_EQ(peer.sin_addr.s_addr, self.sin_addr.s_addr);
	net_write(client, "hi", 2);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, fd, .flags = v->slot, .addr = ADDR(buffer), .len = 9)).res, 2);
	client = net_connect(&addr);
	fd = op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot)).res;
	NEED(fd >= 0, "res %d", fd);
	CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	CHECK_EQ(fcntl(fd, F_GETFD), 0);
	CHECK_EQ(op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot | FASTIO_SQE_NOWAIT)).res, -EAGAIN);
	ctx_close(&ctx);
}

static void accept_waits(const void *arg)
{
	enum { WAITING = 8 };
	const struct variant *v = arg;
	bool seen[WAITING] = { false };
	struct sockaddr_in addr;
	int listener;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	need_accept(&ctx);
	listener = net_listen(&addr);
	for (int i = 0; i < WAITING; i++)
		ring_push(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot, .user_data = i));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (int i = 0; i < WAITING; i++) {
		int client = net_connect(&addr);
		struct fastio_cqe cqe = ring_wait(&ctx, 0);

		NEED(cqe.user_data < WAITING && !seen[cqe.user_data]);
		seen[cqe.user_data] = true;
		if (v->slot)
			CHECK_EQ(cqe.user_data, i, "operations of one slot run in order");
		NEED(cqe.res >= 0, "res %d", cqe.res);
		net_write(client, "x", 1);
		CHECK_EQ(recv(cqe.res, buffer, 1, 0), 1);
		close(client);
		close(cqe.res);
	}
	ctx_close(&ctx);
}

static void accept_errors(const void *arg)
{
	const struct variant *v = arg;
	struct rlimit limit = { 64, 64 };
	struct sockaddr_in addr, peer;
	socklen_t negative = -1, small = 4;
	int listener, pair[2], client, fd;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	need_accept(&ctx);
	listener = net_listen(&addr);
	net_pair(pair);
	CHECK_EQ(op_run(&ctx, 0, OP(ACCEPT, pair[0], .flags = v->slot)).res, -EINVAL, "not listening");
	client = net_connect(&addr);
	CHECK_EQ(op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot, .addr = ADDR(&peer),
				    .addr2 = ADDR(&negative))).res, -EINVAL, "negative length");
	client = net_connect(&addr);
	CHECK_EQ(op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot, .addr = ADDR(&peer), .addr2 = 0x10)).res,
		 -EFAULT, "length nowhere");
	client = net_connect(&addr);
	fd = op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot, .addr = ADDR(&peer), .addr2 = ADDR(&small))).res;
	CHECK(fd >= 0, "res %d", fd);
	CHECK_EQ(small, sizeof(peer), "the full length of a name that was cut");
	/* No descriptor left: the connection stays in the queue until there is one. */
	client = net_connect(&addr);
	NEED_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while ((fd = dup(0)) >= 0)
		;
	CHECK_EQ(op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot)).res, -EMFILE);
	close(63);
	CHECK_EQ(op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot)).res, 63);
	net_write(client, "x", 1);
	CHECK_EQ(recv(63, buffer, 1, 0), 1);
	ctx_close(&ctx);
}

static void accept_unix(const void *arg)
{
	const struct variant *v = arg;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	need_accept(&ctx);
	/* An abstract name: nothing to clean up. */
	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "fastio-%d", getpid());
	NEED_EQ(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	NEED_EQ(listen(listener, 8), 0);
	ring_push(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	NEED_EQ(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
	fd = ring_wait(&ctx, 0).res;
	NEED(fd >= 0, "res %d", fd);
	ring_push(&ctx, 0, OP(RECV, fd, .flags = v->slot, .addr = ADDR(buffer), .len = 9, .user_data = 2));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_write(client, "unix", 4);
	ring_expect(&ctx, 0, 2, 4);
	close(client);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, fd, .flags = v->slot, .addr = ADDR(buffer), .len = 9)).res, 0);
	ctx_close(&ctx);
}

static void poll_events(const void *arg)
{
	const struct variant *v = arg;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	CHECK_EQ(op_run(&ctx, 0, OP(POLL, pair[0], .op_flags = POLLOUT)).res, POLLOUT);
	CHECK_EQ(op_run(&ctx, 0, OP(POLL, pair[0], .op_flags = POLLIN | POLLOUT)).res, POLLOUT);
	ring_push(&ctx, 0, OP(POLL, pair[0], .op_flags = POLLIN, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_write(pair[1], "x", 1);
	ring_expect(&ctx, 0, 1, POLLIN);
	CHECK_EQ(op_run(&ctx, 0, OP(POLL, pair[0], .op_flags = POLLIN)).res, POLLIN,
		 "it took nothing");
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9)).res, 1);
	ring_push(&ctx, 0, OP(POLL, pair[0], .op_flags = POLLRDHUP, .user_data = 2));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_write(pair[1], "y", 1);
	ring_expect_nothing(&ctx, 0);
	shutdown(pair[1], SHUT_WR);
	ring_expect(&ctx, 0, 2, POLLRDHUP);
	/* Errors and hang-ups come without being asked for. */
	net_pair(pair);
	ring_push(&ctx, 0, OP(POLL, pair[0], .user_data = 3));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_reset(pair[1]);
	ring_expect(&ctx, 0, 3, POLLERR | POLLHUP);
	ctx_close(&ctx);
}

/* Files that are no sockets: a pipe's two ends, an eventfd, a regular file. */
static void poll_others(const void *arg)
{
	const struct variant *v = arg;
	char path[] = "/tmp/fastio-poll-XXXXXX";
	int pipe_fds[2], event = eventfd(0, EFD_NONBLOCK), file = mkstemp(path);
	uint64_t one = 1;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	unlink(path);
	NEED_EQ(pipe(pipe_fds), 0);
	CHECK_EQ(op_run(&ctx, 0, OP(POLL, pipe_fds[1], .op_flags = POLLOUT)).res, POLLOUT);
	ring_push(&ctx, 0, OP(POLL, pipe_fds[0], .op_flags = POLLIN, .user_data = 1));
	ring_push(&ctx, 0, OP(POLL, event, .op_flags = POLLIN, .user_data = 2));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	CHECK_EQ(write(event, &one, 8), 8);
	ring_expect(&ctx, 0, 2, POLLIN);
	close(pipe_fds[1]);
	ring_expect(&ctx, 0, 1, POLLHUP);
	CHECK_EQ(op_run(&ctx, 0, OP(POLL, file, .op_flags = POLLIN)).res, POLLIN, "a regular file");
	ctx_close(&ctx);
}

static void close_ends(const void *arg)
{
	const struct variant *v = arg;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	for (int round = 0; round < 3; round++) {
		net_pair(pair);
		net_write(pair[1], "x", 1);
		CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9)).res, 1);
		CHECK_EQ(op_run(&ctx, 0, OP(CLOSE, pair[0])).res, 0);
		CHECK(fcntl(pair[0], F_GETFD) < 0 && errno == EBADF);
		CHECK(net_at_end(pair[1]), "the peer sees the end although the worker stays in the kernel");
		CHECK_EQ(op_run(&ctx, 0, OP(CLOSE, pair[0])).res, -EBADF);
		close(pair[1]);
	}
	ctx_close(&ctx);
}

/* What waits in the slot completes before the close does, and the number is then free for another file. */
static void close_cancels(const void *arg)
{
	const struct variant *v = arg;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	if (!v->slot)
		ktap_skip("without a slot the operation holds the file, not the number");
	for (int round = 0; round < 10; round++) {
		/* It takes TCP most of a second to be full for good. */
		if (round == 0)
			net_pair(pair);
		else
			NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		net_clog(pair[0]);
		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9, .user_data = 1));
		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9, .user_data = 2));
		ring_push(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR("x"), .len = 1, .user_data = 3));
		ring_submit(&ctx, 0);
		ring_expect_nothing(&ctx, 0);
		ring_push(&ctx, 0, OP(CLOSE, pair[0], .user_data = 4));
		ring_submit(&ctx, 0);
		for (unsigned int seen = 0, i = 0; i < 3; i++) {
			struct fastio_cqe cqe = ring_wait(&ctx, 0);

			CHECK_EQ(cqe.res, -ECANCELED, "of %llu", (unsigned long long)cqe.user_data);
			CHECK(cqe.user_data >= 1 && cqe.user_data <= 3 && !(seen & 1U << cqe.user_data));
			seen |= 1U << cqe.user_data;
		}
		ring_expect(&ctx, 0, 4, 0);
		close(pair[1]);
	}
	ctx_close(&ctx);
}

static void slot_rules(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_setup setup = ctx_defaults(2);
	int pair[2], other[2], high;
	struct ctx ctx;

	setup.max_slots = 100;
	ctx_open(&ctx, &setup, v->server);
	net_pair(pair);
	CHECK_EQ(op_run(&ctx, 0, OP(FILE_UNREGISTER, pair[0])).res, -ENOENT);
	CHECK_EQ(op_run(&ctx, 0, OP(FILE_REGISTER, pair[0])).res, 0);
	CHECK_EQ(ring_stats(&ctx, 0).slots, 1);
	CHECK_EQ(op_run(&ctx, 0, OP(FILE_REGISTER, pair[0])).res, -EEXIST);
	CHECK_EQ(op_run(&ctx, 1, OP(FILE_REGISTER, pair[0])).res, -EXDEV);
	CHECK_EQ(op_run(&ctx, 1, OP(RECV, pair[0], .flags = FASTIO_SQE_SLOT, .addr = ADDR(buffer), .len = 9)).res,
		 -EXDEV);
	CHECK_EQ(op_run(&ctx, 1, OP(FILE_UNREGISTER, pair[0])).res, -EXDEV);
	CHECK_EQ(op_run(&ctx, 1, OP(CLOSE, pair[0])).res, -EXDEV);
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = FASTIO_SQE_SLOT, .addr = ADDR(buffer), .len = 9, .user_data = 1));
	ring_push(&ctx, 0, OP(FILE_UNREGISTER, pair[0], .user_data = 2));
	ring_submit(&ctx, 0);
	ring_expect(&ctx, 0, 1, -ECANCELED);
	ring_expect(&ctx, 0, 2, 0);
	CHECK_EQ(ring_stats(&ctx, 0).slots, 0);
	CHECK(fcntl(pair[0], F_GETFD) >= 0, "the descriptor stays open");
	/* Now the other ring may have it. */
	net_write(pair[1], "x", 1);
	CHECK_EQ(op_run(&ctx, 1, OP(RECV, pair[0], .flags = FASTIO_SQE_SLOT, .addr = ADDR(buffer), .len = 9)).res, 1);
	CHECK_EQ(op_run(&ctx, 1, OP(CLOSE, pair[0])).res, 0);
	/* max_slots is one more than the highest. */
	net_pair(other);
	high = dup2(other[0], 100);
	CHECK_EQ(op_run(&ctx, 0, OP(FILE_REGISTER, high)).res, -EBADF);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, high, .flags = FASTIO_SQE_SLOT, .addr = ADDR(buffer), .len = 9)).res, -EBADF);
	high = dup2(other[0], 99);
	CHECK_EQ(op_run(&ctx, 0, OP(FILE_REGISTER, high)).res, 0);
	ctx_close(&ctx);
}

/* A slot is of a file, not of a number: what takes the number over later gets none of the old file's data. */
static void number_reused(const void *arg)
{
	const struct variant *v = arg;
	int first[2], second[2];
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	net_pair(first);
	net_pair(second);
	net_write(first[1], "1", 1);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, first[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9)).res, 1);
	/* By CLOSE: the next operation makes a new slot for the new file. */
	CHECK_EQ(op_run(&ctx, 0, OP(CLOSE, first[0])).res, 0);
	NEED_EQ(dup2(second[0], first[0]), first[0]);
	net_write(second[1], "22", 2);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, first[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9)).res, 2);
	if (v->slot) {
		/* By close(2), against the rules: the slot keeps its file, and nothing goes astray. */
		int third[2];

		net_pair(third);
		NEED_EQ(dup2(third[0], first[0]), first[0]);
		net_write(third[1], "333", 3);
		net_write(second[1], "22", 2);
		CHECK_EQ(op_run(&ctx, 0, OP(RECV, first[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9)).res, 2);
		CHECK_EQ(op_run(&ctx, 0, OP(FILE_UNREGISTER, first[0])).res, 0);
		CHECK_EQ(op_run(&ctx, 0, OP(RECV, first[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9)).res, 3);
	}
	ctx_close(&ctx);
}

/* Many receives and sends queued on one connection: bytes and completions in the order submitted. */
static void order_of_slot(const void *arg)
{
	enum { DEPTH = 16, ROUNDS = 20, BYTES = 100 };
	const struct variant *v = arg;
	static char in[DEPTH][BYTES], out[DEPTH][BYTES], peer[DEPTH * BYTES];
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	if (!v->slot)
		ktap_skip("without a slot operations on one file may complete in any order");
	net_pair(pair);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		uint64_t base = round * DEPTH * BYTES;

		for (unsigned int i = 0; i < DEPTH; i++) {
			ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(in[i]), .len = BYTES,
					      .op_flags = MSG_WAITALL, .user_data = i));
			pattern_fill(out[i], BYTES, 8, base + i * BYTES);
			ring_push(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR(out[i]), .len = BYTES,
					      .op_flags = MSG_WAITALL, .user_data = 1000 + i));
		}
		ring_submit(&ctx, 0);
		pattern_fill(peer, sizeof(peer), 7, base);
		net_write(pair[1], peer, sizeof(peer) / 2 + 7);
		net_write(pair[1], peer + sizeof(peer) / 2 + 7, sizeof(peer) / 2 - 7);
		for (unsigned int received = 0, sent = 0; received + sent < 2 * DEPTH;) {
			struct fastio_cqe cqe = ring_wait(&ctx, 0);

			CHECK_EQ(cqe.res, BYTES);
			if (cqe.user_data < 1000)
				CHECK_EQ(cqe.user_data, received++);
			else
				CHECK_EQ(cqe.user_data, 1000 + sent++);
		}
		for (unsigned int i = 0; i < DEPTH; i++)
			pattern_check(in[i], BYTES, 7, base + i * BYTES);
		net_read(pair[1], peer, sizeof(peer));
		pattern_check(peer, sizeof(peer), 8, base);
	}
	ctx_close(&ctx);
}

static const struct ktap_test tests[] = {
	TEST("ACCEPT takes a connection with its flags and its peer's name", accept_pending),
	TEST("ACCEPTs wait and each gets one connection", accept_waits),
	TEST("ACCEPT errors lose no descriptor and no connection", accept_errors),
	TEST("ACCEPT and RECV on a Unix socket", accept_unix),
	TEST("POLL reports what is asked for, and errors", poll_events),
	TEST("POLL of pipes, eventfds and files", poll_others),
	TEST("CLOSE closes the descriptor and the peer sees the end", close_ends),
	TEST("CLOSE first cancels what waits in the slot", close_cancels),
	TEST("slots are one per descriptor and belong to one ring", slot_rules),
	TEST("a slot refers to a file, not to a number", number_reused),
	TEST("operations of one slot and direction keep their order", order_of_slot),
};

int main(int argc, char **argv)
{
	return variants_main(tests, NR(tests), true, argc, argv);
}
