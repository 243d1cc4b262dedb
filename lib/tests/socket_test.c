// SPDX-License-Identifier: MIT
/* Every socket operation: what it does, when it waits, and what each misuse is answered with. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rig.h"

/* More than both ends of a connection buffer. */
#define MUCH (16 << 20)

static void nop_completes(void *arg)
{
	struct rig *rig = arg;

	for (unsigned int i = 0; i < rig->fio->nr_queues; i++) {
		struct fastio_sqe *sqe = rig_get(&rig->fio->queues[i]);

		fastio_prep_nop(sqe);
		fastio_set_data64(sqe, 40 + i);
		CHECK_EQ(rig_expect(rig, 40 + i), 0);
	}
}

static void data_waits_for_recv_and_recv_for_data(void *arg)
{
	struct rig *rig = arg;
	char buf[64] = "";
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	CHECK_EQ(send(pair[1], "early", 5, 0), 5);
	fastio_prep_recv(rig_sqe(rig, pair[0]), pair[0], buf, sizeof(buf), 0);
	CHECK_EQ(rig_expect(rig, 0), 5);
	CHECK(!memcmp(buf, "early", 5));

	fastio_prep_recv(rig_sqe(rig, pair[0]), pair[0], buf, sizeof(buf), 0);
	CHECK(rig_quiet(rig));
	CHECK_EQ(send(pair[1], "late!!", 6, 0), 6);
	CHECK_EQ(rig_expect(rig, 0), 6);
	CHECK(!memcmp(buf, "late!!", 6));

	fastio_prep_recv(rig_sqe(rig, pair[0]), pair[0], buf, sizeof(buf), 0);
	close(pair[1]);
	CHECK_EQ(rig_expect(rig, 0), 0);
	close(pair[0]);
}

static void nowait_does_not_wait(void *arg)
{
	struct rig *rig = arg;
	struct fastio_sqe *sqe;
	char buf[8];
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	sqe = rig_sqe(rig, pair[0]);
	fastio_prep_recv(sqe, pair[0], buf, sizeof(buf), 0);
	fastio_set_flags(sqe, FASTIO_SQE_NOWAIT);
	CHECK_EQ(rig_expect(rig, 0), -EAGAIN);
	close(pair[0]);
	close(pair[1]);
}

static void waitall_gathers(void *arg)
{
	struct rig *rig = arg;
	char buf[12] = "";
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	fastio_prep_recv(rig_sqe(rig, pair[0]), pair[0], buf, sizeof(buf), MSG_WAITALL);
	for (int i = 0; i < 3; i++) {
		CHECK(rig_quiet(rig));
		CHECK_EQ(send(pair[1], &"abcdefghijkl"[4 * i], 4, 0), 4);
	}
	CHECK_EQ(rig_expect(rig, 0), 12);
	CHECK(!memcmp(buf, "abcdefghijkl", 12));

	/* The end of the stream ends the wait with what is there. */
	fastio_prep_recv(rig_sqe(rig, pair[0]), pair[0], buf, sizeof(buf), MSG_WAITALL);
	CHECK_EQ(send(pair[1], "xyz", 3, 0), 3);
	CHECK(rig_quiet(rig));
	close(pair[1]);
	CHECK_EQ(rig_expect(rig, 0), 3);
	close(pair[0]);
}

static void errors_are_those_of_the_system_calls(void *arg)
{
	struct rig *rig = arg;
	void *hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char buf[8] = "";
	int pair[2], pipes[2], closed;

	REQUIRE(rig_tcp_pair(pair) && !pipe(pipes));
	closed = dup(pair[0]);
	close(closed);
	fastio_prep_recv(rig_sqe(rig, closed), closed, buf, sizeof(buf), 0);
	CHECK_EQ(rig_expect(rig, 0), -EBADF);
	fastio_prep_send(rig_sqe(rig, closed), closed, buf, sizeof(buf), 0);
	CHECK_EQ(rig_expect(rig, 0), -EBADF);
	fastio_prep_recv(rig_get(&rig->fio->queues[0]), -1, buf, sizeof(buf), 0);
	CHECK_EQ(rig_expect(rig, 0), -EBADF);
	fastio_prep_recv(rig_sqe(rig, pipes[0]), pipes[0], buf, sizeof(buf), 0);
	CHECK_EQ(rig_expect(rig, 0), -ENOTSOCK);
	CHECK_EQ(send(pair[1], "data", 4, 0), 4);
	fastio_prep_recv(rig_sqe(rig, pair[0]), pair[0], hole, 4, 0);
	CHECK_EQ(rig_expect(rig, 0), -EFAULT);
	fastio_prep_send(rig_sqe(rig, pair[0]), pair[0], hole, 4, 0);
	CHECK_EQ(rig_expect(rig, 0), -EFAULT);
	fastio_prep_recvmsg(rig_sqe(rig, pair[0]), pair[0], hole, 0);
	CHECK_EQ(rig_expect(rig, 0), -EFAULT);
	/* The data is still there: an operation that failed has taken nothing. */
	fastio_prep_recv(rig_sqe(rig, pair[0]), pair[0], buf, sizeof(buf), 0);
	CHECK_EQ(rig_expect(rig, 0), 4);
	close(pair[1]);
	fastio_prep_send(rig_sqe(rig, pair[0]), pair[0], buf, 4, 0);
	rig_expect(rig, 0);
	fastio_prep_poll(rig_sqe(rig, pair[0]), pair[0], POLLPRI);
	CHECK(rig_expect(rig, 0) & (POLLHUP | POLLERR));
	fastio_prep_send(rig_sqe(rig, pair[0]), pair[0], buf, 4, 0);
	CHECK_EQ(rig_expect(rig, 0), -EPIPE);
	close(pair[0]);
	close(pipes[0]);
	close(pipes[1]);
	munmap(hole, 4096);
}

/* Reads everything that @fd has now, checking it against the pattern from *@at on. */
static void swallow(int fd, size_t *at)
{
	unsigned char buf[65536];
	ssize_t got;

	while ((got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < got; i++)
			if (buf[i] != (unsigned char)((*at + (size_t)i) * 7 / 3)) {
				CHECK(false, "byte %zu is wrong", *at + (size_t)i);
				break;
			}
		*at += (size_t)got;
	}
}

static void send_waits_for_room(void *arg)
{
	struct rig *rig = arg;
	unsigned char *data = malloc(MUCH);
	size_t sent = 0, received = 0;
	struct fastio_queue *queue;
	struct fastio_cqe *cqe;
	int pair[2], ret;

	REQUIRE(rig_tcp_pair(pair));
	for (size_t i = 0; i < MUCH; i++)
		data[i] = (unsigned char)(i * 7 / 3);

	/* Without MSG_WAITALL it sends what fits. */
	fastio_prep_send(rig_sqe(rig, pair[0]), pair[0], data, MUCH, 0);
	ret = rig_expect(rig, 0);
	REQUIRE(ret > 0 && ret < MUCH, "%d", ret);
	sent = (size_t)ret;

	/* Then fill the connection to the brim: the next one waits. */
	for (bool moved = true; moved;) {
		ssize_t more;

		moved = poll(&(struct pollfd){ .fd = pair[0], .events = POLLOUT }, 1, 200) > 0;
		while ((more = send(pair[0], data + sent, MUCH - sent, MSG_DONTWAIT)) > 0) {
			sent += (size_t)more;
			moved = true;
		}
	}
	CHECK(sent < MUCH, "%zu", sent);
	fastio_prep_send(rig_sqe(rig, pair[0]), pair[0], data + sent, MUCH - sent, 0);
	CHECK(rig_quiet(rig));
	while (!(cqe = fastio_next(rig->fio, &queue))) {
		swallow(pair[1], &received);
		fastio_wait(rig->fio, 1000);
	}
	CHECK(cqe->res > 0);
	sent += cqe->res > 0 ? (size_t)cqe->res : 0;
	fastio_seen(queue);

	/* With it, one completion says that all is sent. */
	fastio_prep_send(rig_sqe(rig, pair[0]), pair[0], data + sent, MUCH - sent, MSG_WAITALL);
	CHECK_EQ(fastio_submit_all(rig->fio), 0);
	while (!(cqe = fastio_next(rig->fio, &queue))) {
		swallow(pair[1], &received);
		fastio_wait(rig->fio, 1000);
	}
	CHECK_EQ(cqe->res, MUCH - sent);
	fastio_seen(queue);
	close(pair[0]);
	while (received < MUCH &&
	       poll(&(struct pollfd){ .fd = pair[1], .events = POLLIN }, 1, 10000) > 0)
		swallow(pair[1], &received);
	CHECK_EQ(received, MUCH);
	close(pair[1]);
	free(data);
}

static void send_recv_is_one_of_each(void *arg)
{
	struct rig *rig = arg;
	char answer[32] = "", seen[8] = "";
	struct fastio_cqe cqe;
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	fastio_prep_send_recv(rig_sqe(rig, pair[0]), pair[0], "reply", 5, answer, sizeof(answer),
			      0);
	CHECK(rig_quiet(rig));
	CHECK_EQ(recv(pair[1], seen, sizeof(seen), 0), 5);
	CHECK(!memcmp(seen, "reply", 5));
	CHECK_EQ(send(pair[1], "request", 7, 0), 7);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, 7);
	CHECK(!(cqe.flags & FASTIO_CQE_SEND_FAILED) && !memcmp(answer, "request", 7));

	/* Nothing to send: only a receive. */
	fastio_prep_send_recv(rig_sqe(rig, pair[0]), pair[0], NULL, 0, answer, sizeof(answer), 0);
	CHECK(rig_quiet(rig));
	CHECK_EQ(send(pair[1], "more", 4, 0), 4);
	CHECK_EQ(rig_expect(rig, 0), 4);

	CHECK_EQ(shutdown(pair[0], SHUT_WR), 0);
	fastio_prep_send_recv(rig_sqe(rig, pair[0]), pair[0], "x", 1, answer, sizeof(answer), 0);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, -EPIPE);
	CHECK(cqe.flags & FASTIO_CQE_SEND_FAILED);
	close(pair[1]);
	fastio_prep_send_recv(rig_sqe(rig, pair[0]), pair[0], NULL, 0, answer, sizeof(answer), 0);
	CHECK_EQ(rig_expect(rig, 0), 0);
	close(pair[0]);
}

static void messages_gather_and_scatter(void *arg)
{
	struct rig *rig = arg;
	char one[3], two[5];
	struct iovec out[2] = { { "abc", 3 }, { "defgh", 5 } };
	struct iovec in[2] = { { one, 3 }, { two, 5 } };
	struct msghdr send_msg = { .msg_iov = out, .msg_iovlen = 2 };
	struct msghdr recv_msg = { .msg_iov = in, .msg_iovlen = 2 };
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	fastio_prep_recvmsg(rig_sqe(rig, pair[0]), pair[0], &recv_msg, 0);
	CHECK(rig_quiet(rig));
	fastio_prep_sendmsg(rig_sqe(rig, pair[1]), pair[1], &send_msg, 0);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(rig_next(rig).res, 8);
	CHECK(!memcmp(one, "abc", 3) && !memcmp(two, "defgh", 5));
	close(pair[0]);
	close(pair[1]);
}

static void accept_gives_descriptor_and_address(void *arg)
{
	struct rig *rig = arg;
	struct sockaddr_in peer = { 0 }, own = { 0 };
	socklen_t peer_len = sizeof(peer), own_len = sizeof(own);
	uint16_t port;
	int listener = rig_listen(8, &port);
	int client, fd;

	REQUIRE(listener >= 0);
	fastio_prep_accept(rig_sqe(rig, listener), listener, (struct sockaddr *)&peer, &peer_len,
			   SOCK_CLOEXEC);
	CHECK(rig_quiet(rig));
	client = rig_connect(port);
	fd = rig_expect(rig, 0);
	REQUIRE(fd >= 0, "%s", fastio_errno_name(fd));
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	CHECK_EQ(getsockname(client, (struct sockaddr *)&own, &own_len), 0);
	CHECK_EQ(peer_len, sizeof(peer));
	CHECK_EQ(peer.sin_port, own.sin_port);
	CHECK_EQ(send(client, "hi", 2, 0), 2);
	close(fd);

	fastio_prep_accept(rig_sqe(rig, listener), listener, NULL, NULL, SOCK_NONBLOCK);
	close(client);
	client = rig_connect(port);
	fd = rig_expect(rig, 0);
	REQUIRE(fd >= 0, "%s", fastio_errno_name(fd));
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	CHECK_EQ(fcntl(fd, F_GETFD), 0);
	close(fd);
	close(client);

	fastio_prep_accept(rig_sqe(rig, listener), listener, NULL, NULL, 1);
	CHECK_EQ(rig_expect(rig, 0), -EINVAL);
	close(listener);
}

static void multishot_accept_goes_on_until_cancelled(void *arg)
{
	struct rig *rig = arg;
	int clients[40];
	uint16_t port;
	int listener = rig_listen(64, &port);
	struct fastio_sqe *sqe = rig_sqe(rig, listener);
	struct fastio_cqe cqe;

	REQUIRE(listener >= 0);
	fastio_prep_accept_multishot(sqe, listener, SOCK_CLOEXEC);
	fastio_set_data64(sqe, 7);
	CHECK(rig_quiet(rig));
	for (int i = 0; i < 40; i++)
		clients[i] = rig_connect(port);
	for (int i = 0; i < 40; i++) {
		cqe = rig_next(rig);
		CHECK_EQ(cqe.user_data, 7);
		CHECK(fastio_cqe_more(&cqe) && cqe.res >= 0, "%d", cqe.res);
		if (cqe.res >= 0)
			close(cqe.res);
		close(clients[i]);
	}
	sqe = rig_sqe(rig, listener);
	fastio_prep_cancel(sqe, 7, 0);
	fastio_set_data64(sqe, 8);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.user_data, 7);
	CHECK_EQ(cqe.res, -ECANCELED);
	CHECK(!fastio_cqe_more(&cqe));
	CHECK_EQ(rig_expect(rig, 8), 1);
	close(listener);
}

static void poll_reports_events(void *arg)
{
	struct rig *rig = arg;
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	fastio_prep_poll(rig_sqe(rig, pair[0]), pair[0], POLLOUT);
	CHECK_EQ(rig_expect(rig, 0), POLLOUT);
	fastio_prep_poll(rig_sqe(rig, pair[0]), pair[0], POLLIN);
	CHECK(rig_quiet(rig));
	CHECK_EQ(send(pair[1], "x", 1, 0), 1);
	CHECK_EQ(rig_expect(rig, 0), POLLIN);
	fastio_prep_poll(rig_sqe(rig, pair[0]), pair[0], POLLRDHUP);
	CHECK(rig_quiet(rig));
	close(pair[1]);
	CHECK(rig_expect(rig, 0) & POLLRDHUP);
	fastio_prep_poll(rig_sqe(rig, pair[0]), pair[0], 0x8000);
	CHECK_EQ(rig_expect(rig, 0), -EINVAL);
	close(pair[0]);
}

static void close_closes(void *arg)
{
	struct rig *rig = arg;
	char byte;
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	fastio_prep_close(rig_sqe(rig, pair[0]), pair[0]);
	CHECK_EQ(rig_expect(rig, 0), 0);
	/* The peer sees the end. */
	CHECK_EQ(poll(&(struct pollfd){ .fd = pair[1], .events = POLLIN }, 1, 10000), 1);
	CHECK_EQ(recv(pair[1], &byte, 1, 0), 0);
	CHECK_EQ(fcntl(pair[0], F_GETFD), -1);
	fastio_prep_close(rig_sqe(rig, pair[0]), pair[0]);
	CHECK_EQ(rig_expect(rig, 0), -EBADF);
	close(pair[1]);
}

static void descriptor_used_again_is_another_file(void *arg)
{
	struct rig *rig = arg;
	char buf[8];
	int pair[2];

	for (int round = 0; round < 20; round++) {
		REQUIRE(rig_tcp_pair(pair));
		fastio_prep_recv(rig_sqe(rig, pair[0]), pair[0], buf, sizeof(buf), 0);
		CHECK(fastio_submit_all(rig->fio) == 0 && fastio_wait(rig->fio, 100) == -ETIME);
		CHECK_EQ(send(pair[1], "x", 1, 0), 1);
		CHECK_EQ(rig_expect(rig, 0), 1);
		fastio_prep_close(rig_sqe(rig, pair[0]), pair[0]);
		CHECK_EQ(rig_expect(rig, 0), 0);
		close(pair[1]);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{ "NOP completes on every queue", nop_completes },
		{ "data waits for RECV and RECV for data", data_waits_for_recv_and_recv_for_data },
		{ "NOWAIT does not wait", nowait_does_not_wait },
		{ "MSG_WAITALL gathers", waitall_gathers },
		{ "errors are those of the system calls", errors_are_those_of_the_system_calls },
		{ "SEND waits for room", send_waits_for_room },
		{ "SEND_RECV is one of each", send_recv_is_one_of_each },
		{ "messages gather and scatter", messages_gather_and_scatter },
		{ "ACCEPT gives descriptor and address", accept_gives_descriptor_and_address },
		{ "multishot ACCEPT goes on until cancelled",
		  multishot_accept_goes_on_until_cancelled },
		{ "POLL reports events", poll_reports_events },
		{ "CLOSE closes", close_closes },
		{ "a descriptor used again is another file",
		  descriptor_used_again_is_another_file },
	};

	(void)argc;
	tap_begin(argv[0]);
	rig_run(tests, sizeof(tests) / sizeof(tests[0]));
	return tap_end();
}
