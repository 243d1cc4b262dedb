// SPDX-License-Identifier: MIT
/*
 * Echo servers in the three styles the library offers, under a client that sends odd sizes, reads
 * slowly and checks every byte against a pattern of its own for each connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "rig.h"

enum style {
	ONESHOT,
	FUSED,
	MULTISHOT
};

#define MAX_CONNECTIONS 1200
#define CONN_BUF 512
#define GROUP_BUFS 64
#define GROUP_BUF 256

/* ------------------------------------------------------------------ client */

struct client {
	pthread_t thread;
	uint16_t port;
	unsigned int connections;
	size_t bytes;
	unsigned int max_chunk;
	/* Result: first thing that went wrong. */
	char wrong[200];
};

struct stream {
	int fd;
	size_t sent, received;
};

static unsigned char pattern(unsigned int connection, size_t at)
{
	uint32_t x = connection * 2654435761u ^ (uint32_t)at * 2246822519u;

	return (unsigned char)(x >> 24 ^ x >> 11);
}

static void client_send(struct client *client, struct stream *stream, unsigned int index,
			unsigned int *seed)
{
	unsigned char chunk[4096];
	size_t left = client->bytes - stream->sent;
	size_t len;
	ssize_t ret;

	*seed = *seed * 1103515245 + 12345;
	len = (*seed >> 16) % client->max_chunk + 1;
	len = len < left ? len : left;
	for (size_t i = 0; i < len; i++)
		chunk[i] = pattern(index, stream->sent + i);
	ret = send(stream->fd, chunk, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (ret > 0)
		stream->sent += (size_t)ret;
	else if (errno != EAGAIN)
		snprintf(client->wrong, sizeof(client->wrong), "connection %u: sending: errno %d",
			 index, errno);
	if (stream->sent == client->bytes)
		shutdown(stream->fd, SHUT_WR);
}

/* Returns true when the stream has ended as it should. */
static bool client_recv(struct client *client, struct stream *stream, unsigned int index)
{
	unsigned char chunk[1000];
	ssize_t ret = recv(stream->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (ret < 0 && errno == EAGAIN)
		return false;
	if (ret < 0)
		snprintf(client->wrong, sizeof(client->wrong), "connection %u: receiving: errno %d",
			 index, errno);
	if (ret == 0 && stream->received != client->bytes)
		snprintf(client->wrong, sizeof(client->wrong),
			 "connection %u ended after %zu of %zu bytes", index, stream->received,
			 client->bytes);
	for (ssize_t i = 0; i < ret; i++)
		if (chunk[i] != pattern(index, stream->received + (size_t)i)) {
			snprintf(client->wrong, sizeof(client->wrong),
				 "connection %u: byte %zu is wrong", index,
				 stream->received + (size_t)i);
			break;
		}
	if (ret > 0)
		stream->received += (size_t)ret;
	return ret <= 0;
}

static void client_turn(struct client *client, struct stream *streams, unsigned int *left,
			unsigned int *seed)
{
	static struct pollfd files[MAX_CONNECTIONS];

	for (unsigned int i = 0; i < client->connections; i++) {
		files[i].fd = streams[i].fd;
		files[i].events = streams[i].sent < client->bytes ? POLLIN | POLLOUT : POLLIN;
	}
	if (poll(files, client->connections, 60000) <= 0) {
		snprintf(client->wrong, sizeof(client->wrong),
			 "nothing happened for a minute, %u connections left", *left);
		return;
	}
	for (unsigned int i = 0; i < client->connections; i++) {
		if (files[i].revents & POLLOUT && streams[i].sent < client->bytes)
			client_send(client, &streams[i], i, seed);
		if (files[i].revents & ~POLLOUT && client_recv(client, &streams[i], i)) {
			close(streams[i].fd);
			streams[i].fd = -1;
			(*left)--;
		}
	}
}

static void *client_main(void *arg)
{
	struct client *client = arg;
	struct stream *streams = calloc(client->connections, sizeof(*streams));
	unsigned int left = client->connections, seed = 1;

	for (unsigned int i = 0; i < client->connections; i++) {
		streams[i].fd = rig_connect(client->port);
		if (streams[i].fd < 0)
			snprintf(client->wrong, sizeof(client->wrong), "cannot connect: errno %d",
				 errno);
	}
	while (left && !client->wrong[0])
		client_turn(client, streams, &left, &seed);
	for (unsigned int i = 0; i < client->connections; i++)
		if (streams[i].fd >= 0)
			close(streams[i].fd);
	free(streams);
	return NULL;
}

/* ------------------------------------------------------------------ server */

enum what {
	ACCEPTED = 1,
	RECEIVED,
	SENT,
	FUSED_DONE,
	CLOSED
};

/* user_data: what completed, buffer id, descriptor. */
static uint64_t tag(enum what what, unsigned int bid, int fd)
{
	return (uint64_t)what << 56 | (uint64_t)bid << 32 | (uint32_t)fd;
}

struct conn {
	/* Fused: one is sent while the other is received into. */
	char buf[2][CONN_BUF];
	unsigned int turn;
	unsigned int sends;
	bool ended, wants_buffers;
};

struct server {
	struct rig rig;
	enum style style;
	struct conn *conns[MAX_CONNECTIONS * 3];
	struct fastio_bufs bufs[FASTIO_MAX_WORKERS];
	/* Buffers of each group that are full, and not given back yet. */
	unsigned int lent[FASTIO_MAX_WORKERS];
	char (*buffers)[GROUP_BUF];
	unsigned int accepted, closed, open_max, open;
	unsigned int seed;
};

/*
 * The SQ may be full for a moment: the worker takes entries as long as there is room in the CQ,
 * which there is.
 */
static struct fastio_sqe *get_sqe(struct server *server, int fd)
{
	struct fastio_queue *queue = fastio_queue_for(server->rig.fio, fd);
	struct fastio_sqe *sqe;

	while (!(sqe = fastio_get_sqe(queue))) {
		fastio_submit(queue);
		fastio_serve(server->rig.fio);
		sched_yield();
	}
	return sqe;
}

static size_t odd_length(struct server *server)
{
	server->seed = server->seed * 1103515245 + 12345;
	return (server->seed >> 16) % CONN_BUF + 1;
}

static void start_recv(struct server *server, int fd)
{
	struct conn *conn = server->conns[fd];
	struct fastio_sqe *sqe = get_sqe(server, fd);

	if (server->style == MULTISHOT)
		fastio_prep_recv_multishot(sqe, fd, fastio_queue_for(server->rig.fio, fd)->index, 0,
					   0);
	else
		fastio_prep_recv(sqe, fd, conn->buf[conn->turn], odd_length(server), 0);
	fastio_set_flags(sqe, FASTIO_SQE_SLOT);
	fastio_set_data64(sqe, tag(RECEIVED, 0, fd));
}

static void start_send(struct server *server, int fd, const char *bytes, size_t len,
		       unsigned int bid)
{
	struct conn *conn = server->conns[fd];
	struct fastio_sqe *sqe = get_sqe(server, fd);
	enum what what = SENT;

	if (server->style == FUSED) {
		what = FUSED_DONE;
		conn->turn = !conn->turn;
		fastio_prep_send_recv(sqe, fd, bytes, len, conn->buf[conn->turn],
				      odd_length(server), 0);
	} else {
		fastio_prep_send(sqe, fd, bytes, len, MSG_WAITALL);
		conn->sends++;
	}
	fastio_set_flags(sqe, FASTIO_SQE_SLOT);
	fastio_set_data64(sqe, tag(what, bid, fd));
}

static void start_close_when_idle(struct server *server, int fd)
{
	struct fastio_sqe *sqe;

	if (!server->conns[fd]->ended || server->conns[fd]->sends)
		return;
	sqe = get_sqe(server, fd);
	fastio_prep_close(sqe, fd);
	fastio_set_data64(sqe, tag(CLOSED, 0, fd));
}

static void on_accepted(struct server *server, int fd)
{
	int small = 4096;

	REQUIRE(fd >= 0 && fd < (int)(sizeof(server->conns) / sizeof(server->conns[0])),
		"accept: %d", fd);
	/* Small buffers: what is sent does not fit, and waits. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	server->conns[fd] = calloc(1, sizeof(struct conn));
	server->accepted++;
	server->open++;
	if (server->open > server->open_max)
		server->open_max = server->open;
	start_recv(server, fd);
}

static char *buffer_of(struct server *server, int fd, unsigned int bid)
{
	return server->buffers[fastio_queue_for(server->rig.fio, fd)->index * GROUP_BUFS + bid];
}

/* If a buffer of the queue is free, everyone who ran out of them goes on. */
static void restart_starved(struct server *server, struct fastio_queue *queue)
{
	if (server->lent[queue->index] == GROUP_BUFS)
		return;
	for (int fd = 0; fd < (int)(sizeof(server->conns) / sizeof(server->conns[0])); fd++) {
		struct conn *conn = server->conns[fd];

		if (!conn || !conn->wants_buffers || fastio_queue_for(server->rig.fio, fd) != queue)
			continue;
		conn->wants_buffers = false;
		start_recv(server, fd);
	}
}

static void on_received(struct server *server, int fd, const struct fastio_cqe *cqe)
{
	struct conn *conn = server->conns[fd];
	unsigned int bid = fastio_cqe_bid(cqe);

	if (cqe->res == -ENOBUFS) {
		/* They may all have come back since: then nothing else would start it again. */
		conn->wants_buffers = true;
		restart_starved(server, fastio_queue_for(server->rig.fio, fd));
		return;
	}
	if (cqe->res > 0) {
		server->lent[fastio_queue_for(server->rig.fio, fd)->index] +=
			server->style == MULTISHOT;
		start_send(server, fd,
			   server->style == MULTISHOT ? buffer_of(server, fd, bid)
						      : conn->buf[conn->turn],
			   (size_t)cqe->res, bid);
		return;
	}
	CHECK(cqe->res == 0, "receive: %s", fastio_errno_name(cqe->res));
	conn->ended = true;
	start_close_when_idle(server, fd);
}

static void give_back(struct server *server, int fd, unsigned int bid)
{
	struct fastio_queue *queue = fastio_queue_for(server->rig.fio, fd);
	struct fastio_bufs *bufs = &server->bufs[queue->index];

	fastio_bufs_add(bufs, buffer_of(server, fd, bid), GROUP_BUF, (uint16_t)bid);
	fastio_bufs_publish(bufs);
	server->lent[queue->index]--;
	restart_starved(server, queue);
}

static void on_sent(struct server *server, int fd, const struct fastio_cqe *cqe, unsigned int bid)
{
	server->conns[fd]->sends--;
	CHECK(cqe->res > 0, "send: %s", fastio_errno_name(cqe->res));
	if (server->style == MULTISHOT)
		give_back(server, fd, bid);
	else
		start_recv(server, fd);
	start_close_when_idle(server, fd);
}

static void on_completion(struct server *server, const struct fastio_cqe *cqe)
{
	unsigned int bid = cqe->user_data >> 32 & 0xffff;
	int fd = (int)(uint32_t)cqe->user_data;

	switch (cqe->user_data >> 56) {
	case ACCEPTED:
		on_accepted(server, cqe->res);
		break;
	case RECEIVED:
	case FUSED_DONE:
		on_received(server, fd, cqe);
		break;
	case SENT:
		on_sent(server, fd, cqe, bid);
		break;
	case CLOSED:
		CHECK_EQ(cqe->res, 0);
		free(server->conns[fd]);
		server->conns[fd] = NULL;
		server->closed++;
		server->open--;
		break;
	default:
		CHECK(false, "a completion of nothing: %llx", (unsigned long long)cqe->user_data);
	}
}

static void serve(struct server *server, unsigned int connections)
{
	struct fastio *fio = server->rig.fio;

	for (;;) {
		struct fastio_queue *queue;
		struct fastio_cqe *cqe;

		while ((cqe = fastio_next(fio, &queue))) {
			struct fastio_cqe copy = *cqe;

			fastio_seen(queue);
			on_completion(server, &copy);
		}
		CHECK_EQ(fastio_submit_all(fio), 0);
		CHECK(fastio_serve(fio) >= 0);
		if (server->closed == connections)
			return;
		REQUIRE(!fastio_wait(fio, RIG_WAIT_US), "%u of %u connections are done",
			server->closed, connections);
	}
}

static bool provide_buffers(struct server *server)
{
	struct fastio *fio = server->rig.fio;

	server->buffers = calloc(fio->nr_queues * GROUP_BUFS, GROUP_BUF);
	for (unsigned int i = 0; i < fio->nr_queues; i++) {
		if (fastio_bufs_setup(&server->bufs[i], &fio->queues[i], i, GROUP_BUFS))
			return false;
		for (unsigned int bid = 0; bid < GROUP_BUFS; bid++)
			fastio_bufs_add(&server->bufs[i], server->buffers[i * GROUP_BUFS + bid],
					GROUP_BUF, (uint16_t)bid);
		fastio_bufs_publish(&server->bufs[i]);
	}
	return true;
}

struct load {
	const struct rig_mode *mode;
	enum style style;
	unsigned int connections;
	size_t bytes;
	unsigned int max_chunk;
};

static void echo(void *arg)
{
	const struct load *load = arg;
	struct client client = { .connections = load->connections,
				 .bytes = load->bytes,
				 .max_chunk = load->max_chunk };
	struct server *server = calloc(1, sizeof(*server));
	struct fastio_error error = { "" };
	struct fastio_params params;
	struct fastio_sqe *sqe;
	int listener = rig_listen(1024, &client.port);

	server->style = load->style;
	rig_params(&params, load->mode);
	params.sq_entries = 256;
	params.cq_entries = 8192;
	REQUIRE(listener >= 0);
	REQUIRE(!fastio_setup(&server->rig.fio, &params, &error), "%s", error.message);
	REQUIRE(load->style != MULTISHOT || provide_buffers(server));
	sqe = get_sqe(server, listener);
	fastio_prep_accept_multishot(sqe, listener, SOCK_CLOEXEC);
	fastio_set_data64(sqe, tag(ACCEPTED, 0, listener));
	REQUIRE(!pthread_create(&client.thread, NULL, client_main, &client));
	serve(server, load->connections);
	pthread_join(client.thread, NULL);
	CHECK(!client.wrong[0], "%s", client.wrong);
	CHECK_EQ(server->accepted, load->connections);
	fastio_exit(server->rig.fio);
	close(listener);
	free(server->buffers);
	free(server);
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "one-shot", "fused",
					     "multishot with provided buffers" };
	struct rlimit limit;

	(void)argc;
	tap_begin(argv[0]);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (unsigned int m = 0; m < rig_nr_modes; m++)
		for (enum style style = ONESHOT; style <= MULTISHOT; style++) {
			struct load load = { &rig_modes[m], style, 20, 50000, 3000 };
			struct tap_test test = { names[style], echo };

			tap_run(&test, rig_modes[m].name, &load);
		}
	for (unsigned int m = 0; m < rig_nr_modes; m++) {
		struct load load = { &rig_modes[m], m % 2 ? MULTISHOT : FUSED, 1000, 300, 100 };
		struct tap_test test = { "a thousand connections", echo };

		tap_run(&test, rig_modes[m].name, &load);
	}
	return tap_end();
}
