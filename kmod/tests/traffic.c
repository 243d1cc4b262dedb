// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic: millions of NOPs, and echo servers in three styles whose every byte is verified by a client in another
 * process. Shows that no completion is lost, doubled or reordered per connection, also with several contexts at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

#define MESSAGE_MAX	3000
#define CONNS_MAX	2048

/* ------------------------------------------------------------------ the client */

/**
 * struct load - what the client does
 * @conns: connections
 * @messages: messages on each
 * @bytes_max: their largest size, 1..MESSAGE_MAX
 */
struct load {
	unsigned int conns;
	unsigned int messages;
	unsigned int bytes_max;
};

/* One connection of the client: a message goes out in pieces, its echo comes back in pieces. */
struct client {
	int fd;
	unsigned int left;
	uint32_t bytes;
	uint32_t sent;
	uint32_t received;
	uint64_t position;
};

static void next_message(struct client *client, const struct load *load)
{
	client->position += client->bytes;
	client->bytes = 1 + (client->position * 2654435761U + client->fd * 40503U) % load->bytes_max;
	client->sent = client->received = 0;
}

/* Moves one connection on as far as it goes. Return: whether it has more to do. */
static bool client_step(struct client *client, const struct load *load, uint32_t stream)
{
	char data[MESSAGE_MAX];
	ssize_t ret;

	if (client->sent < client->bytes) {
		/* Now and then only a part, so that the server sees messages in pieces. */
		uint32_t part = client->bytes - client->sent;

		if (part > 1 && (client->position + client->sent) % 5 == 0)
			part = part / 2;
		pattern_fill(data, part, stream, client->position + client->sent);
		ret = send(client->fd, data, part, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (ret > 0)
			client->sent += ret;
		else
			NEED(errno == EAGAIN, "client send: %s", strerror(errno));
	}
	ret = recv(client->fd, data, client->bytes - client->received, MSG_DONTWAIT);
	NEED(ret != 0, "stream %u: the server closed after %llu bytes", stream,
	     (unsigned long long)client->position + client->received);
	if (ret < 0) {
		NEED(errno == EAGAIN, "client recv: %s", strerror(errno));
		return true;
	}
	NEED(client->received + ret <= client->sent, "more came back than was sent");
	NEED(pattern_check(data, ret, stream, client->position + client->received));
	client->received += ret;
	if (client->received < client->bytes)
		return true;
	if (--client->left == 0)
		return false;
	next_message(client, load);
	return true;
}

static void client_main(const struct load *load, const struct sockaddr_in *addr)
{
	static struct client clients[CONNS_MAX];
	static struct pollfd events[CONNS_MAX];
	unsigned int active = load->conns;

	for (unsigned int i = 0; i < load->conns; i++) {
		clients[i] = (struct client) { .fd = net_connect(addr), .left = load->messages };
		next_message(&clients[i], load);
		events[i] = (struct pollfd) { .fd = clients[i].fd, .events = POLLIN | POLLOUT };
	}
	while (active) {
		NEED(poll(events, load->conns, 30000 * ktap_slowness()) > 0, "no echo for 30 seconds, %u connections left",
		     active);
		for (unsigned int i = 0; i < load->conns; i++) {
			if (!events[i].revents)
				continue;
			if (!client_step(&clients[i], load, i)) {
				close(clients[i].fd);
				events[i].fd = -1;
				active--;
				continue;
			}
			events[i].events = clients[i].sent < clients[i].bytes ? POLLIN | POLLOUT : POLLIN;
		}
	}
}

static pid_t client_start(const struct load *load, const struct sockaddr_in *addr)
{
	pid_t pid = fork();

	NEED(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		client_main(load, addr);
		_exit(ktap_has_failed());
	}
	return pid;
}

/* ------------------------------------------------------------------ the servers */

enum style { STYLE_SPLIT, STYLE_FUSED, STYLE_MULTISHOT };

#define OP_ACCEPT	(1ULL << 32)
#define OP_RECV		(2ULL << 32)
#define OP_SEND		(3ULL << 32)
#define OP_CLOSE	(4ULL << 32)
#define OP_KIND(data)	((data) & 0xff00000000)

/* One connection of the server, by descriptor. @sending counts sends in flight, @ended that its end was seen. */
struct conn {
	char data[MESSAGE_MAX];
	unsigned int sending;
	bool ended;
};

struct echo {
	struct ctx ctx;
	enum style style;
	uint8_t slot;
	struct conn *conns;
	unsigned int accepted;
	unsigned int closed;
	struct fastio_buf_ring *groups[FASTIO_MAX_WORKERS];
	uint32_t group_tails[FASTIO_MAX_WORKERS];
	char (*buffers)[256];
	int listener;
};

#define GROUP_ENTRIES	256

static void give_buffer(struct echo *s, unsigned int ring, uint16_t bid)
{
	uint32_t tail = s->group_tails[ring]++;

	s->groups[ring]->bufs[tail % GROUP_ENTRIES] = (struct fastio_buf) {
		.addr = ADDR(s->buffers[ring * GROUP_ENTRIES + bid]), .len = 256, .bid = bid,
	};
	__atomic_store_n(&s->groups[ring]->tail, tail + 1, __ATOMIC_RELEASE);
}

static void open_groups(struct echo *s)
{
	s->buffers = calloc(GROUP_ENTRIES * s->ctx.setup.workers, 256);
	NEED(s->buffers);
	for (unsigned int ring = 0; ring < s->ctx.setup.workers; ring++) {
		struct fastio_buf_group group = { .group = ring, .ring = ring, .entries = GROUP_ENTRIES };

		NEED_EQ(device_ioctl(s->ctx.fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&group)), 0);
		s->groups[ring] = mmap(NULL, group.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->ctx.fd, group.mmap_off);
		NEED(s->groups[ring] != MAP_FAILED, "mmap: %s", strerror(errno));
		for (unsigned int bid = 0; bid < GROUP_ENTRIES; bid++)
			give_buffer(s, ring, bid);
	}
}

static unsigned int ring_of(const struct echo *s, int fd)
{
	return fd % s->ctx.setup.workers;
}

static void push(struct echo *s, unsigned int ring, struct fastio_sqe sqe)
{
	uint64_t end = now_ns() + 10000000000ULL * ktap_slowness();

	/* The CQ has room for everything in flight, so a full SQ empties by itself. */
	while (!ring_room(&s->ctx, ring)) {
		ring_submit(&s->ctx, ring);
		if (s->ctx.server == SERVER_INLINE)
			device_ioctl(s->ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(ring, 0, 0, 0));
		NEED(now_ns() < end, "the SQ of ring %u stays full", ring);
	}
	ring_push(&s->ctx, ring, sqe);
}

static void push_recv(struct echo *s, int fd)
{
	if (s->style == STYLE_MULTISHOT)
		push(s, ring_of(s, fd), OP(RECV, fd, .flags = s->slot | FASTIO_SQE_MULTISHOT | FASTIO_SQE_BUF_SELECT,
					   .buf = ring_of(s, fd), .user_data = OP_RECV | fd));
	else
		push(s, ring_of(s, fd), OP(RECV, fd, .flags = s->slot, .addr = ADDR(s->conns[fd].data),
					   .len = MESSAGE_MAX, .user_data = OP_RECV | fd));
}

static void push_close(struct echo *s, int fd)
{
	push(s, ring_of(s, fd), OP(CLOSE, fd, .user_data = OP_CLOSE | fd));
}

static void received(struct echo *s, unsigned int ring, int fd, struct fastio_cqe cqe)
{
	struct conn *conn = &s->conns[fd];
	uint16_t bid = cqe.flags >> FASTIO_CQE_BUFFER_SHIFT;

	/* A send that crosses the client's end may be answered by a reset. */
	if (cqe.res == 0 || cqe.res == -ECONNRESET) {
		conn->ended = true;
		if (!conn->sending)
			push_close(s, fd);
		return;
	}
	if (s->style == STYLE_MULTISHOT && cqe.res == -ENOBUFS) {
		push_recv(s, fd);
		return;
	}
	NEED(cqe.res > 0, "receive on %d: %d", fd, cqe.res);
	switch (s->style) {
	case STYLE_FUSED:
		push(s, ring, OP(SEND_RECV, fd, .flags = s->slot, .addr = ADDR(conn->data), .len = cqe.res,
				 .addr2 = ADDR(conn->data), .len2 = MESSAGE_MAX, .user_data = OP_RECV | fd));
		break;
	case STYLE_SPLIT:
		conn->sending++;
		push(s, ring, OP(SEND, fd, .flags = s->slot, .addr = ADDR(conn->data), .len = cqe.res,
				 .op_flags = MSG_WAITALL, .user_data = OP_SEND | fd));
		break;
	case STYLE_MULTISHOT:
		NEED(cqe.flags & FASTIO_CQE_BUFFER && cqe.flags & FASTIO_CQE_MORE, "flags %#x", cqe.flags);
		conn->sending++;
		push(s, ring, OP(SEND, fd, .flags = s->slot, .addr = ADDR(s->buffers[ring * GROUP_ENTRIES + bid]),
				 .len = cqe.res, .op_flags = MSG_WAITALL,
				 .user_data = OP_SEND | (uint64_t)bid << 40 | fd));
		break;
	}
}

static void sent(struct echo *s, unsigned int ring, int fd, struct fastio_cqe cqe)
{
	struct conn *conn = &s->conns[fd];

	NEED(cqe.res > 0, "send on %d: %d", fd, cqe.res);
	conn->sending--;
	if (s->style == STYLE_MULTISHOT)
		give_buffer(s, ring, cqe.user_data >> 40);
	else
		push_recv(s, fd);
	if (conn->ended && !conn->sending)
		push_close(s, fd);
}

static void handle(struct echo *s, unsigned int ring, struct fastio_cqe cqe)
{
	int fd = cqe.user_data & 0xffffffff;

	switch (OP_KIND(cqe.user_data)) {
	case OP_ACCEPT:
		NEED(cqe.res >= 0, "accept: %d", cqe.res);
		NEED(cqe.res < CONNS_MAX + 64);
		s->accepted++;
		s->conns[cqe.res].sending = 0;
		s->conns[cqe.res].ended = false;
		push_recv(s, cqe.res);
		if (!(cqe.flags & FASTIO_CQE_MORE))
			push(s, 0, OP(ACCEPT, s->listener, .flags = s->slot | FASTIO_SQE_MULTISHOT, .user_data = OP_ACCEPT));
		break;
	case OP_RECV:
		received(s, ring, fd, cqe);
		break;
	case OP_SEND:
		sent(s, ring, fd, cqe);
		break;
	case OP_CLOSE:
		CHECK_EQ(cqe.res, 0);
		s->closed++;
		break;
	default:
		NEED(false, "a completion of nothing: %#llx", (unsigned long long)cqe.user_data);
	}
}

static void serve(struct echo *s, const struct load *load)
{
	uint64_t last = now_ns();

	push(s, 0, OP(ACCEPT, s->listener, .flags = s->slot | FASTIO_SQE_MULTISHOT, .user_data = OP_ACCEPT));
	while (s->closed < load->conns) {
		bool idle = true;

		for (unsigned int ring = 0; ring < s->ctx.setup.workers; ring++) {
			struct fastio_cqe cqe;

			while (ring_peek(&s->ctx, ring, &cqe)) {
				handle(s, ring, cqe);
				idle = false;
			}
		}
		for (unsigned int ring = 0; ring < s->ctx.setup.workers; ring++)
			ring_submit(&s->ctx, ring);
		if (!idle) {
			last = now_ns();
			continue;
		}
		NEED(now_ns() - last < 30000000000ULL * ktap_slowness(), "stuck: %u accepted, %u closed", s->accepted,
		     s->closed);
		if (s->ctx.server == SERVER_INLINE)
			device_ioctl(s->ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT, 0, 100000));
		else
			device_ioctl(s->ctx.fd, FASTIO_IOC_WAIT, 100000);
	}
	CHECK_EQ(s->accepted, load->conns);
}

static void run_server(struct echo *s, unsigned int workers, enum server mode, const struct load *load)
{
	struct fastio_setup setup = ctx_defaults(mode == SERVER_INLINE ? 1 : workers);
	struct sockaddr_in addr;
	int status;
	pid_t pid;

	setup.sq_entries = 128;
	setup.cq_entries = 4096;
	/* There are more threads than CPUs: who polls for longer keeps the vCPU from those it waits for. */
	if (mode == SERVER_SPINNING)
		setup.idle_us = 200;
	s->listener = net_listen(&addr);
	pid = client_start(load, &addr);
	ctx_open(&s->ctx, &setup, mode);
	if (!(s->ctx.setup.ops & 1ULL << FASTIO_OP_ACCEPT))
		ktap_skip("ACCEPT is switched off: a security module must see it");
	s->conns = calloc(CONNS_MAX + 64, sizeof(*s->conns));
	NEED(s->conns);
	if (s->style == STYLE_MULTISHOT)
		open_groups(s);
	serve(s, load);
	NEED_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0, "the client's wait status");
	for (unsigned int ring = 0; ring < s->ctx.setup.workers; ring++)
		CHECK_EQ(ring_stats(&s->ctx, ring).in_flight, ring == 0 ? 1 : 0, "only the accept on ring %u", ring);
	ctx_close(&s->ctx);
	free(s->conns);
	free(s->buffers);
}

static void run_echo(const struct variant *v, enum style how, struct load load)
{
	static struct echo s;

	s = (struct echo) { .style = how, .slot = v->slot };
	run_server(&s, 2, v->server, &load);
}

static void echo_split(const void *arg)
{
	run_echo(arg, STYLE_SPLIT, (struct load) { 20, 30, MESSAGE_MAX });
}

static void echo_fused(const void *arg)
{
	run_echo(arg, STYLE_FUSED, (struct load) { 20, 30, MESSAGE_MAX });
}

static void echo_multishot(const void *arg)
{
	run_echo(arg, STYLE_MULTISHOT, (struct load) { 20, 30, MESSAGE_MAX });
}

static void many_connections(const void *arg)
{
	struct rlimit files = { 8192, 8192 };

	NEED_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
	run_echo(arg, STYLE_FUSED, (struct load) { 1500, 4, 100 });
}

/* Contexts of one process and of several, all under load together. */
static void *server_thread(void *arg)
{
	const struct variant *v = arg;
	struct load load = { 8, 60, 500 };
	struct echo *s = calloc(1, sizeof(*s));

	NEED(s);
	s->style = STYLE_FUSED;
	s->slot = v->slot;
	run_server(s, 2, v->server, &load);
	free(s);
	return NULL;
}

static void many_contexts(const void *arg)
{
	enum { PROCESSES = 3, THREADS = 2 };
	pthread_t threads[THREADS];
	int status;
	pid_t pids[PROCESSES];

	for (int i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		if (pids[i])
			continue;
		for (int j = 0; j < THREADS; j++)
			NEED_EQ(pthread_create(&threads[j], NULL, server_thread, (void *)arg), 0);
		for (int j = 0; j < THREADS; j++)
			pthread_join(threads[j], NULL);
		_exit(ktap_has_failed());
	}
	for (int i = 0; i < PROCESSES; i++) {
		NEED_EQ(waitpid(pids[i], &status, 0), pids[i]);
		CHECK_EQ(status, 0, "process %d", i);
	}
}

/* Two million NOPs over two rings at once: each ring's come back in order, once each. */
static void millions_of_nops(const void *arg)
{
	enum { EACH = 1000000 };
	const struct variant *v = arg;
	struct fastio_setup setup = ctx_defaults(v->server == SERVER_INLINE ? 1 : 2);
	uint64_t pushed[2] = { 0 }, reaped[2] = { 0 };
	struct fastio_cqe cqe;
	struct ctx ctx;

	if (v->slot)
		ktap_skip("NOPs have no file");
	setup.sq_entries = setup.cq_entries = 1024;
	ctx_open(&ctx, &setup, v->server);
	while (reaped[0] < EACH || (setup.workers == 2 && reaped[1] < EACH)) {
		bool idle = true;

		for (unsigned int ring = 0; ring < setup.workers; ring++) {
			unsigned int room = ring_room(&ctx, ring);

			for (; room && pushed[ring] < EACH; room--)
				ring_push(&ctx, ring, OP(NOP, 0, .user_data = (uint64_t)ring << 40 | pushed[ring]++));
			ring_submit(&ctx, ring);
			while (ring_peek(&ctx, ring, &cqe)) {
				NEED_EQ(cqe.user_data, (uint64_t)ring << 40 | reaped[ring]);
				NEED_EQ(cqe.res, 0);
				reaped[ring]++;
				idle = false;
			}
		}
		if (idle && v->server == SERVER_INLINE)
			device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT, 0, 100000));
		else if (idle)
			device_ioctl(ctx.fd, FASTIO_IOC_WAIT, 100000);
	}
	for (unsigned int ring = 0; ring < setup.workers; ring++)
		CHECK(!ring_peek(&ctx, ring, &cqe));
	ctx_close(&ctx);
}

static const struct ktap_test tests[] = {
	TEST("a million NOPs per ring, each once and in order", millions_of_nops, .timeout_s = 300),
	TEST("echo by RECV and SEND, every byte verified", echo_split, .timeout_s = 120),
	TEST("echo by SEND_RECV, every byte verified", echo_fused, .timeout_s = 120),
	TEST("echo by multishot RECV and SEND, every byte verified", echo_multishot, .timeout_s = 120),
	TEST("echo on 1,500 connections", many_connections, .timeout_s = 300),
	TEST("echo in three processes of two contexts each", many_contexts, .timeout_s = 300),
};

int main(int argc, char **argv)
{
	return variants_main(tests, NR(tests), true, argc, argv);
}
