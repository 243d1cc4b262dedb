/* SPDX-License-Identifier: MIT */
/*
 * An echo server on epoll, the way most servers are written: the baseline of every comparison.
 *
 * What it shows: one recv() and one send() per request, plus its share of an epoll_wait() that reports many
 * connections at once. Bytes are sent back from the one hot buffer of the thread. A connection gets memory
 * of its own only when its peer does not read: what send() left over is kept, at most --buffer-bytes, and
 * nothing more is received from that peer until it is gone.
 *
 * --trigger level   epoll reports a connection as long as it has data; one receive per report.
 * --trigger edge    epoll reports a change; the connection is drained. A receive that did not fill the buffer
 *                   has emptied the socket, which saves the recv() that would say EAGAIN (epoll(7)).
 * --threads N       N threads, each with an epoll of its own. With --accept reuseport each has a listening
 *                   socket and the kernel spreads connections by hash, so some get more than others; with
 *                   --accept balanced thread 0 accepts and deals connections out in turn.
 *
 * By hand:  ./epoll --port 12345 --cpus 0 &   ./load --address 127.0.0.1:12345 --duration 5
 *           kill %1 ends it and prints what it did.
 */
#define _GNU_SOURCE
#include "common/serve.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define ACCEPTS_MAX 64 /* per report, so that a storm of connections does not starve those that are there */
#define ROUNDS_MAX 16  /* full buffers one edge-triggered connection may echo before the others get their turn */

enum trigger { TRIGGER_LEVEL, TRIGGER_EDGE };
static const char *const trigger_names[] = { "level", "edge", NULL };
static unsigned int trigger;

struct connection {
	struct connection *next, *previous; /* the thread's list, under its list_lock */
	struct connection *next_eager;	    /* on the eager list, which only the thread touches */
	struct reactor *reactor;
	int fd;
	bool eager;
	char *unsent; /* what the peer did not take yet; NULL when it reads */
	size_t unsent_off, unsent_len;
};

/* One thread's epoll and what belongs to it. */
struct reactor {
	struct serve_thread *thread;
	int epoll_fd;
	char *buffer;
	size_t buffer_bytes;
	struct connection *eager; /* edge-triggered: used up their rounds, more is waiting */
	pthread_mutex_t list_lock;
	struct connection *connections;
	unsigned int connection_count; /* under list_lock */
	unsigned int next_target;      /* whom the next connection is dealt to */
	bool accept_rests;
};

static struct reactor reactors[SERVE_THREADS_MAX];

/* ------------------------------------------------------------------ connections */

static void connection_close(struct connection *connection, int error)
{
	struct reactor *reactor = connection->reactor;

	close(connection->fd); /* The only descriptor of the socket: epoll forgets it, too. */
	serve_closed(reactor->thread, error);
	if (connection->eager) {
		struct connection **link = &reactor->eager;

		while (*link != connection)
			link = &(*link)->next_eager;
		*link = connection->next_eager;
	}
	pthread_mutex_lock(&reactor->list_lock);
	if (connection->next)
		connection->next->previous = connection->previous;
	if (connection->previous)
		connection->previous->next = connection->next;
	else
		reactor->connections = connection->next;
	reactor->connection_count--;
	pthread_mutex_unlock(&reactor->list_lock);
	free(connection->unsent);
	free(connection);
}

/* Level-triggered only: says whether to wait for data or for room. */
static bool watch(struct connection *connection, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = connection };

	return !epoll_ctl(connection->reactor->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

/* Keeps what the peer did not take. Until it has, nothing more is received from it. */
static bool keep_unsent(struct connection *connection, const char *bytes, size_t length)
{
	connection->unsent = malloc(length);
	if (!connection->unsent)
		return false;
	memcpy(connection->unsent, bytes, length);
	connection->unsent_off = 0;
	connection->unsent_len = length;
	connection->reactor->thread->counters.stalls++;
	return trigger == TRIGGER_EDGE || watch(connection, EPOLLOUT);
}

/* Receives once and sends it back. Returns whether there may be more to receive at once. */
static bool echo_once(struct connection *connection)
{
	struct reactor *reactor = connection->reactor;
	struct serve_counters *counters = &reactor->thread->counters;
	ssize_t received, sent;

	received = recv(connection->fd, reactor->buffer, reactor->buffer_bytes, 0);
	if (received <= 0) {
		if (!received || errno != EAGAIN)
			connection_close(connection, received ? errno : 0);
		return false;
	}
	sent = send(connection->fd, reactor->buffer, (size_t)received, MSG_NOSIGNAL);
	if (sent < 0) {
		if (errno != EAGAIN) {
			connection_close(connection, errno);
			return false;
		}
		sent = 0;
	}
	counters->bytes += (size_t)sent;
	if (sent < received) {
		if (!keep_unsent(connection, reactor->buffer + sent, (size_t)(received - sent)))
			connection_close(connection, ENOMEM);
		return false;
	}
	counters->requests++;
	return (size_t)received == reactor->buffer_bytes;
}

/* Sends what was kept. Returns true when all of it went and receiving may go on. */
static bool flush(struct connection *connection)
{
	struct serve_counters *counters = &connection->reactor->thread->counters;
	ssize_t sent = send(connection->fd, connection->unsent + connection->unsent_off,
			    connection->unsent_len - connection->unsent_off, MSG_NOSIGNAL);

	if (sent < 0) {
		if (errno != EAGAIN)
			connection_close(connection, errno);
		return false;
	}
	counters->bytes += (size_t)sent;
	connection->unsent_off += (size_t)sent;
	if (connection->unsent_off < connection->unsent_len)
		return false;
	counters->requests++;
	free(connection->unsent);
	connection->unsent = NULL;
	if (trigger == TRIGGER_LEVEL && !watch(connection, EPOLLIN)) {
		connection_close(connection, errno);
		return false;
	}
	return true;
}

/* @ended: the peer has closed its side, so that a short receive says nothing about what follows. */
static void drain(struct connection *connection, bool ended)
{
	struct reactor *reactor = connection->reactor;
	unsigned int rounds = 0;

	for (;;) {
		/* echo_once() frees the connection when it ends; what it counted then tells. */
		uint64_t closed = reactor->thread->counters.closed;
		bool more = echo_once(connection);

		if (reactor->thread->counters.closed != closed || connection->unsent)
			return;
		if (!more && !ended)
			return;
		if (++rounds == ROUNDS_MAX)
			break;
	}
	connection->eager = true;
	connection->next_eager = reactor->eager;
	reactor->eager = connection;
}

static void handle(struct connection *connection, uint32_t events)
{
	if (connection->unsent && (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) || !flush(connection)))
		return;
	if (trigger == TRIGGER_LEVEL) {
		if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
			echo_once(connection);
	} else if (!connection->eager) {
		drain(connection, events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP));
	}
}

/* Gives each connection that used up its rounds as many again. */
static void continue_eager(struct reactor *reactor)
{
	struct connection *connection = reactor->eager;

	reactor->eager = NULL;
	while (connection) {
		struct connection *next = connection->next_eager;

		connection->eager = false;
		/* Whether the peer has ended is not known here; receiving until EAGAIN finds out. */
		drain(connection, true);
		connection = next;
	}
}

/* ------------------------------------------------------------------ accepting */

static bool connection_open(struct reactor *reactor, int fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
	bool room;

	if (!connection)
		return false;
	if (trigger == TRIGGER_EDGE)
		event.events |= EPOLLOUT | EPOLLRDHUP | EPOLLET;
	connection->reactor = reactor;
	connection->fd = fd;

	pthread_mutex_lock(&reactor->list_lock);
	room = reactor->connection_count < reactor->thread->server->max_connections;
	if (room) {
		reactor->connection_count++;
		connection->next = reactor->connections;
		if (connection->next)
			connection->next->previous = connection;
		reactor->connections = connection;
	}
	/* Under the lock: the other thread may see an event at once, and close takes the lock as well. */
	if (room && epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		reactor->connections = connection->next;
		if (connection->next)
			connection->next->previous = NULL;
		reactor->connection_count--;
		room = false;
	}
	pthread_mutex_unlock(&reactor->list_lock);
	if (!room)
		free(connection);
	return room;
}

static void watch_listener(struct reactor *reactor, bool on)
{
	struct epoll_event event = { .events = on ? EPOLLIN : 0, .data.ptr = NULL };

	reactor->accept_rests = !on;
	if (epoll_ctl(reactor->epoll_fd, EPOLL_CTL_MOD, reactor->thread->listen_fd, &event))
		die(EXIT_ENVIRONMENT, "epoll_ctl: %s", strerror(errno));
}

static void accept_connections(struct reactor *reactor)
{
	struct serve_thread *thread = reactor->thread;
	const struct serve_options *options = thread->server->options;

	for (int i = 0; i < ACCEPTS_MAX; i++) {
		struct reactor *target = reactor;
		int fd = accept4(thread->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EAGAIN)
				return;
			if (serve_accept_failed(thread, errno)) {
				watch_listener(reactor, false);
				return;
			}
			continue;
		}
		if (options->accept == ACCEPT_BALANCED)
			target = &reactors[reactor->next_target++ % options->threads];
		thread->counters.accepted++;
		if (!connection_open(target, fd)) {
			thread->counters.refused++;
			close(fd);
		}
	}
}

/* ------------------------------------------------------------------ the loop */

static void watch_fixed(struct reactor *reactor, int fd, void *tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = tag };

	if (epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, fd, &event))
		die(EXIT_ENVIRONMENT, "epoll_ctl: %s", strerror(errno));
}

static void loop(struct reactor *reactor)
{
	struct epoll_event events[EVENTS_MAX];

	for (;;) {
		int timeout = reactor->eager ? 0 : reactor->accept_rests ? SERVE_ACCEPT_RETRY_MS : -1;
		int count = epoll_wait(reactor->epoll_fd, events, EVENTS_MAX, timeout);

		if (count < 0 && errno != EINTR)
			die(EXIT_ENVIRONMENT, "epoll_wait: %s", strerror(errno));
		if (reactor->accept_rests && count <= 0)
			watch_listener(reactor, true);
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == reactor)
				return;
			if (events[i].data.ptr)
				handle(events[i].data.ptr, events[i].events);
			else
				accept_connections(reactor);
		}
		if (reactor->eager)
			continue_eager(reactor);
	}
}

static void run(struct serve_thread *thread)
{
	struct reactor *reactor = &reactors[thread->index];

	reactor->buffer = malloc(reactor->buffer_bytes);
	if (!reactor->buffer)
		die(EXIT_ENVIRONMENT, "out of memory");
	/* The tag of a connection is its address; the listener has none, the order to stop has ours. */
	watch_fixed(reactor, thread->stop_fd, reactor);
	if (thread->listen_fd >= 0)
		watch_fixed(reactor, thread->listen_fd, NULL);
	serve_ready(thread);
	loop(reactor);
	free(reactor->buffer);
}

static void extra(struct server *server, struct json *json)
{
	(void)server;
	json_text(json, "trigger", trigger_names[trigger]);
}

int main(int argc, char **argv)
{
	static const struct option_spec specs[] = {
		{ "trigger", 0, OPTION_CHOICE, &trigger, 0, 0, trigger_names, "how epoll reports", NULL },
	};
	struct serve_options options;
	struct option_table tables[] = { serve_option_table(&options), OPTION_TABLE(specs) };
	struct server server = { 0 };
	int code;

	options_parse(argc, argv, "an echo server on epoll", tables, 2);
	serve_start(&server, "epoll", &options);
	for (unsigned int i = 0; i < options.threads; i++) {
		reactors[i].thread = &server.threads[i];
		reactors[i].buffer_bytes = options.buffer_bytes;
		pthread_mutex_init(&reactors[i].list_lock, NULL);
		/* All of them first: thread 0 may deal out connections before the others run. */
		reactors[i].epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (reactors[i].epoll_fd < 0)
			die(EXIT_ENVIRONMENT, "epoll_create1: %s", strerror(errno));
	}
	code = serve_run(&server, run, extra);
	/* Closed here and not by their threads: thread 0 may have dealt out a connection until the end. */
	for (unsigned int i = 0; i < options.threads; i++) {
		while (reactors[i].connections) {
			struct connection *connection = reactors[i].connections;

			reactors[i].connections = connection->next;
			close(connection->fd);
			free(connection->unsent);
			free(connection);
		}
		close(reactors[i].epoll_fd);
	}
	return code;
}
