// SPDX-License-Identifier: GPL-2.0
/* RECV, SEND, SEND_RECV, RECVMSG and SENDMSG: each documented result, served in every way, with and without slots. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

/* An address in no mapping, but a user address. */
#define NOWHERE	0x10

static char buffer[1 << 20];

static void recv_ready(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_cqe cqe;
	char data[100];
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	pattern_fill(data, sizeof(data), 1, 0);
	net_write(pair[1], data, sizeof(data));
	cqe = op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 40));
	CHECK_EQ(cqe.res, 40);
	CHECK_EQ(cqe.flags, FASTIO_CQE_NONEMPTY, "60 bytes are left");
	pattern_check(buffer, 40, 1, 0);
	cqe = op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = sizeof(buffer)));
	CHECK_EQ(cqe.res, 60, "a short receive is a result");
	CHECK_EQ(cqe.flags, 0);
	pattern_check(buffer, 60, 1, 40);
	ctx_close(&ctx);
}

static void recv_waits(const void *arg)
{
	const struct variant *v = arg;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	for (int round = 0; round < 5; round++) {
		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 64, .user_data = 5));
		ring_submit(&ctx, 0);
		ring_expect_nothing(&ctx, 0);
		net_write(pair[1], "hello", 5);
		ring_expect(&ctx, 0, 5, 5);
		CHECK(!memcmp(buffer, "hello", 5));
	}
	ctx_close(&ctx);
}

static void recv_ends(const void *arg)
{
	const struct variant *v = arg;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	net_write(pair[1], "last", 4);
	close(pair[1]);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 64)).res, 4);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 64)).res, 0);
	/* The end and a reset also wake an operation that waits. */
	net_pair(pair);
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 64, .user_data = 6));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	shutdown(pair[1], SHUT_WR);
	ring_expect(&ctx, 0, 6, 0);
	net_pair(pair);
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 64, .user_data = 7));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_reset(pair[1]);
	ring_expect(&ctx, 0, 7, -ECONNRESET);
	ctx_close(&ctx);
}

static void recv_flags(const void *arg)
{
	const struct variant *v = arg;
	uint8_t nowait = v->slot | FASTIO_SQE_NOWAIT;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = nowait, .addr = ADDR(buffer), .len = 64)).res, -EAGAIN);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = nowait, .addr = ADDR(buffer), .len = 64)).res, -EAGAIN);
	net_write(pair[1], "abcdef", 6);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 3,
				    .op_flags = MSG_PEEK)).res, 3);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = nowait, .addr = ADDR(buffer), .len = 3)).res, 3);
	CHECK(!memcmp(buffer, "abc", 3), "MSG_PEEK took nothing");
	/* MSG_WAITALL collects until the buffer is full ... */
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 10,
			      .op_flags = MSG_WAITALL, .user_data = 8));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_write(pair[1], "gh", 2);
	ring_expect_nothing(&ctx, 0);
	net_write(pair[1], "ijklmnop", 8);
	ring_expect(&ctx, 0, 8, 10);
	CHECK(!memcmp(buffer, "defghijklm", 10));
	/* ... or the end comes. */
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 10,
			      .op_flags = MSG_WAITALL, .user_data = 9));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	close(pair[1]);
	ring_expect(&ctx, 0, 9, 3);
	CHECK(!memcmp(buffer, "nop", 3));
	ctx_close(&ctx);
}

static void bad_addresses(const void *arg)
{
	static const uint64_t bad[] = { 0, NOWHERE, 0xffffffffffff0000, 0x00ff000000000000, ~0ULL };
	const struct variant *v = arg;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	net_write(pair[1], "kept", 4);
	for (size_t i = 0; i < NR(bad); i++) {
		CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = bad[i], .len = 4)).res, -EFAULT,
			 "RECV to %#llx", (unsigned long long)bad[i]);
		CHECK_EQ(op_run(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = bad[i], .len = 4)).res, -EFAULT,
			 "SEND from %#llx", (unsigned long long)bad[i]);
		CHECK_EQ(op_run(&ctx, 0, OP(RECVMSG, pair[0], .flags = v->slot, .addr = bad[i])).res, -EFAULT,
			 "RECVMSG of %#llx", (unsigned long long)bad[i]);
		CHECK_EQ(op_run(&ctx, 0, OP(SENDMSG, pair[0], .flags = v->slot, .addr = bad[i])).res, -EFAULT,
			 "SENDMSG of %#llx", (unsigned long long)bad[i]);
		CHECK_EQ(op_run(&ctx, 0, OP(SEND_RECV, pair[0], .flags = v->slot, .addr2 = bad[i], .len2 = 4)).res,
			 -EFAULT, "SEND_RECV to %#llx", (unsigned long long)bad[i]);
	}
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 64)).res, 4);
	CHECK(!memcmp(buffer, "kept", 4), "a failed receive takes nothing");
	CHECK(recv(pair[1], buffer, 64, MSG_DONTWAIT) < 0 && errno == EAGAIN, "a failed send sends nothing");
	ctx_close(&ctx);
}

static void send_ready(const void *arg)
{
	const struct variant *v = arg;
	char data[1000];
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	pattern_fill(buffer, 1000, 2, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 1000)).res, 1000);
	net_read(pair[1], data, 1000);
	pattern_check(data, 1000, 2, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 0)).res, 0);
	ctx_close(&ctx);
}

static void send_waits(const void *arg)
{
	const struct variant *v = arg;
	struct ctx ctx;
	int pair[2];
	size_t clog;

	variant_open(&ctx, v, 1);
	net_pair(pair);
	clog = net_clog(pair[0]);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND, pair[0], .flags = v->slot | FASTIO_SQE_NOWAIT, .addr = ADDR("x"),
				    .len = 1)).res, -EAGAIN);
	ring_push(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR("after"), .len = 5, .user_data = 3));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (size_t left = clog, part; left; left -= part) {
		part = left < sizeof(buffer) ? left : sizeof(buffer);
		net_read(pair[1], buffer, part);
	}
	ring_expect(&ctx, 0, 3, 5);
	net_read(pair[1], buffer, 5);
	CHECK(!memcmp(buffer, "after", 5));
	ctx_close(&ctx);
}

static void send_whole(const void *arg)
{
	const struct variant *v = arg;
	static char received[sizeof(buffer)];
	size_t got = 0;
	struct fastio_cqe cqe;
	struct ctx ctx;
	int pair[2], least = 1;

	variant_open(&ctx, v, 1);
	net_pair(pair);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	pattern_fill(buffer, sizeof(buffer), 3, 0);
	/* Without MSG_WAITALL what fits is sent, and the result says how much that was. */
	cqe = op_run(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = sizeof(buffer)));
	NEED(cqe.res > 0 && cqe.res < (int)sizeof(buffer), "res %d", cqe.res);
	net_read(pair[1], received, cqe.res);
	pattern_check(received, cqe.res, 3, 0);
	/* With it the operation goes on until all is sent. */
	ring_push(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = sizeof(buffer),
			      .op_flags = MSG_WAITALL, .user_data = 4));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	while (got < sizeof(buffer)) {
		ssize_t ret = recv(pair[1], received + got, sizeof(buffer) - got, MSG_DONTWAIT);

		if (ret > 0)
			got += ret;
		else
			ring_idle(&ctx, 0, 1);
	}
	ring_expect(&ctx, 0, 4, sizeof(buffer));
	pattern_check(received, sizeof(buffer), 3, 0);
	ctx_close(&ctx);
}

static void send_to_nobody(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_cqe cqe = { 0 };
	struct ctx ctx;
	int pair[2];

	/* SIGPIPE would end this process. */
	signal(SIGPIPE, SIG_DFL);
	variant_open(&ctx, v, 1);
	net_pair(pair);
	net_reset(pair[1]);
	for (int i = 0; i < 20 && cqe.res >= 0; i++)
		cqe = op_run(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR("x"), .len = 1));
	CHECK(cqe.res == -EPIPE || cqe.res == -ECONNRESET, "res %d", cqe.res);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND, pair[0], .flags = v->slot, .addr = ADDR("x"), .len = 1)).res, -EPIPE);
	ctx_close(&ctx);
}

static void send_recv(const void *arg)
{
	const struct variant *v = arg;
	char data[64];
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	for (uint32_t round = 0; round < 20; round++) {
		char reply[8], request[8];

		snprintf(reply, sizeof(reply), "r%05u", round);
		snprintf(request, sizeof(request), "q%05u", round);
		ring_push(&ctx, 0, OP(SEND_RECV, pair[0], .flags = v->slot, .addr = ADDR(reply), .len = 6,
				      .addr2 = ADDR(buffer), .len2 = 64, .user_data = round));
		ring_submit(&ctx, 0);
		if (round == 0)
			ring_expect_nothing(&ctx, 0);
		else
			ring_idle(&ctx, 0, 1);
		net_read(pair[1], data, 6);
		CHECK(!memcmp(data, reply, 6));
		net_write(pair[1], request, 6);
		ring_expect(&ctx, 0, round, 6);
		CHECK(!memcmp(buffer, request, 6));
	}
	/* With nothing to send it is a receive. */
	net_write(pair[1], "0123456789", 10);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND_RECV, pair[0], .flags = v->slot, .addr2 = ADDR(buffer), .len2 = 4)).res, 4);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND_RECV, pair[0], .flags = v->slot, .addr2 = ADDR(buffer), .len2 = 64)).res, 6);
	ctx_close(&ctx);
}

static void send_recv_ends(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_cqe cqe;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	shutdown(pair[1], SHUT_WR);
	cqe = op_run(&ctx, 0, OP(SEND_RECV, pair[0], .flags = v->slot, .addr = ADDR("bye"), .len = 3,
				 .addr2 = ADDR(buffer), .len2 = 64));
	CHECK_EQ(cqe.res, 0);
	CHECK(!(cqe.flags & FASTIO_CQE_SEND_FAILED));
	net_read(pair[1], buffer, 3);
	CHECK(!memcmp(buffer, "bye", 3), "the reply went out before the end was reported");
	shutdown(pair[0], SHUT_WR);
	cqe = op_run(&ctx, 0, OP(SEND_RECV, pair[0], .flags = v->slot, .addr = ADDR("x"), .len = 1,
				 .addr2 = ADDR(buffer), .len2 = 64));
	CHECK_EQ(cqe.res, -EPIPE);
	CHECK(cqe.flags & FASTIO_CQE_SEND_FAILED);
	ctx_close(&ctx);
}

/* The send has to wait several times before the receive may begin, and what arrives meanwhile is not lost. */
static void send_recv_long(const void *arg)
{
	const struct variant *v = arg;
	static char received[sizeof(buffer)];
	char request[8];
	size_t got = 0;
	struct ctx ctx;
	int pair[2], least = 1;

	variant_open(&ctx, v, 1);
	net_pair(pair);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	pattern_fill(buffer, sizeof(buffer), 4, 0);
	net_write(pair[1], "early", 5);
	ring_push(&ctx, 0, OP(SEND_RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = sizeof(buffer),
			      .addr2 = ADDR(request), .len2 = sizeof(request), .user_data = 11));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	while (got < sizeof(buffer)) {
		ssize_t ret = recv(pair[1], received + got, sizeof(buffer) - got, MSG_DONTWAIT);

		if (ret > 0)
			got += ret;
		else
			ring_idle(&ctx, 0, 1);
	}
	ring_expect(&ctx, 0, 11, 5);
	CHECK(!memcmp(request, "early", 5));
	pattern_check(received, sizeof(buffer), 4, 0);
	ctx_close(&ctx);
}

static void msg_vectors(const void *arg)
{
	const struct variant *v = arg;
	char parts[3][40], data[100];
	struct iovec out[3] = { { data, 10 }, { data + 10, 0 }, { data + 10, 90 } };
	struct iovec in[3] = { { parts[0], 40 }, { parts[1], 40 }, { parts[2], 40 } };
	struct msghdr send = { .msg_iov = out, .msg_iovlen = 3 }, receive = { .msg_iov = in, .msg_iovlen = 3 };
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	pattern_fill(data, 100, 5, 0);
	ring_push(&ctx, 0, OP(RECVMSG, pair[0], .flags = v->slot, .addr = ADDR(&receive), .user_data = 12));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_write(pair[1], data, 100);
	ring_expect(&ctx, 0, 12, 100);
	pattern_check(parts[0], 40, 5, 0);
	pattern_check(parts[1], 40, 5, 40);
	pattern_check(parts[2], 20, 5, 80);
	CHECK_EQ(op_run(&ctx, 0, OP(SENDMSG, pair[0], .flags = v->slot, .addr = ADDR(&send))).res, 100);
	net_read(pair[1], buffer, 100);
	pattern_check(buffer, 100, 5, 0);
	send.msg_iovlen = 1025;
	CHECK_EQ(op_run(&ctx, 0, OP(SENDMSG, pair[0], .flags = v->slot, .addr = ADDR(&send))).res, -EMSGSIZE);
	send = (struct msghdr) { .msg_iov = (struct iovec *)NOWHERE, .msg_iovlen = 1 };
	CHECK_EQ(op_run(&ctx, 0, OP(SENDMSG, pair[0], .flags = v->slot, .addr = ADDR(&send))).res, -EFAULT);
	CHECK_EQ(op_run(&ctx, 0, OP(RECVMSG, pair[0], .flags = v->slot | FASTIO_SQE_NOWAIT,
				    .addr = ADDR(&receive))).res, -EAGAIN);
	ctx_close(&ctx);
}

/* Datagrams: the sender's address comes back, a long one is cut and says so. */
static void msg_names(const void *arg)
{
	const struct variant *v = arg;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, from, self = to;
	socklen_t bytes = sizeof(to);
	char data[16];
	struct iovec iovec = { data, sizeof(data) };
	struct msghdr receive = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iovec, .msg_iovlen = 1 };
	struct msghdr send = { .msg_name = &self, .msg_namelen = sizeof(self), .msg_iov = &iovec, .msg_iovlen = 1 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), peer = socket(AF_INET, SOCK_DGRAM, 0);
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	NEED_EQ(bind(fd, (struct sockaddr *)&to, bytes), 0);
	NEED_EQ(getsockname(fd, (struct sockaddr *)&to, &bytes), 0);
	NEED_EQ(bind(peer, (struct sockaddr *)&self, bytes), 0);
	NEED_EQ(getsockname(peer, (struct sockaddr *)&self, &bytes), 0);
	ring_push(&ctx, 0, OP(RECVMSG, fd, .flags = v->slot, .addr = ADDR(&receive), .user_data = 13));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	NEED_EQ(sendto(peer, "0123456789abcdefghij", 20, 0, (struct sockaddr *)&to, bytes), 20);
	ring_expect(&ctx, 0, 13, 16);
	CHECK_EQ(receive.msg_flags & MSG_TRUNC, MSG_TRUNC);
	CHECK_EQ(receive.msg_namelen, sizeof(from));
	CHECK_EQ(from.sin_port, self.sin_port);
	CHECK_EQ(op_run(&ctx, 0, OP(SENDMSG, fd, .flags = v->slot, .addr = ADDR(&send))).res, 16);
	CHECK_EQ(recv(peer, buffer, sizeof(buffer), 0), 16);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND, fd, .flags = v->slot, .addr = ADDR("x"), .len = 1)).res, -EDESTADDRREQ);
	ctx_close(&ctx);
}

/* A descriptor passed by SENDMSG and received by RECVMSG works and is the receiver's own. */
static void msg_control(const void *arg)
{
	const struct variant *v = arg;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { 0 }, received = { 0 };
	char byte = 'c', in = 0;
	struct iovec iovec = { &byte, 1 }, in_iovec = { &in, 1 };
	struct msghdr send = { .msg_iov = &iovec, .msg_iovlen = 1, .msg_control = &control,
			       .msg_controllen = sizeof(control) };
	struct msghdr receive = { .msg_iov = &in_iovec, .msg_iovlen = 1, .msg_control = &received,
				  .msg_controllen = sizeof(received) };
	int pair[2], pipe_fds[2], fd = -1;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	NEED_EQ(pipe(pipe_fds), 0);
	control.header = (struct cmsghdr) { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), &pipe_fds[1], sizeof(int));
	CHECK_EQ(op_run(&ctx, 0, OP(SENDMSG, pair[0], .flags = v->slot, .addr = ADDR(&send))).res, 1);
	CHECK_EQ(op_run(&ctx, 0, OP(RECVMSG, pair[1], .flags = v->slot, .addr = ADDR(&receive),
				    .op_flags = MSG_CMSG_CLOEXEC)).res, 1);
	CHECK_EQ(in, 'c');
	NEED_EQ(receive.msg_controllen, CMSG_SPACE(sizeof(int)));
	memcpy(&fd, CMSG_DATA(&received.header), sizeof(int));
	CHECK(fd >= 0 && fd != pipe_fds[1]);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(write(fd, "p", 1), 1);
	CHECK_EQ(read(pipe_fds[0], &in, 1), 1);
	ctx_close(&ctx);
}

static const struct ktap_test tests[] = {
	TEST("RECV takes what is there and says whether more is", recv_ready),
	TEST("RECV waits for data", recv_waits),
	TEST("RECV reports the end and a reset", recv_ends),
	TEST("RECV with NOWAIT, MSG_PEEK and MSG_WAITALL", recv_flags),
	TEST("bad addresses give -EFAULT and lose nothing", bad_addresses),
	TEST("SEND delivers its bytes", send_ready),
	TEST("SEND waits for room", send_waits),
	TEST("SEND of a part, and of all with MSG_WAITALL", send_whole),
	TEST("SEND to a closed connection gives -EPIPE and no signal", send_to_nobody),
	TEST("SEND_RECV sends the reply and receives the next request", send_recv),
	TEST("SEND_RECV reports the end, and a failed send apart from it", send_recv_ends),
	TEST("SEND_RECV of a megabyte against a slow reader", send_recv_long),
	TEST("RECVMSG and SENDMSG with vectors", msg_vectors),
	TEST("RECVMSG and SENDMSG with names", msg_names),
	TEST("RECVMSG and SENDMSG pass descriptors", msg_control),
};

int main(int argc, char **argv)
{
	return variants_main(tests, NR(tests), true, argc, argv);
}
