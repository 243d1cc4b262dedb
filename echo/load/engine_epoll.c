/* SPDX-License-Identifier: MIT */
/* A sending thread that carries many connections on one epoll. */
#define _GNU_SOURCE
#include "../common/relax.h"
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define TICK_NS 100000000u /* how often an idle thread looks at ages and at whether the run has ended */

/* Free connections of an open loop, the one due first on top. */
struct heap {
	struct connection **entries;
	unsigned int count;
};

struct loop {
	struct sender *sender;
	int epoll_fd;
	struct heap heap;
};

static void heap_push(struct heap *heap, struct connection *connection)
{
	unsigned int at = heap->count++;

	while (at && heap->entries[(at - 1) / 2]->due_ns > connection->due_ns) {
		heap->entries[at] = heap->entries[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap->entries[at] = connection;
}

static struct connection *heap_pop(struct heap *heap)
{
	struct connection *first = heap->entries[0], *last = heap->entries[--heap->count];
	unsigned int at = 0, child;

	for (; (child = 2 * at + 1) < heap->count; at = child) {
		if (child + 1 < heap->count && heap->entries[child + 1]->due_ns < heap->entries[child]->due_ns)
			child++;
		if (last->due_ns <= heap->entries[child]->due_ns)
			break;
		heap->entries[at] = heap->entries[child];
	}
	if (heap->count)
		heap->entries[at] = last;
	return first;
}

/* Sends what can be sent and waits for room only while something is left. */
static void push_out(struct loop *loop, struct connection *connection)
{
	bool waits;

	if (!connection_send(loop->sender, connection))
		return;
	waits = connection->sent < shape_bytes(&connection->exchange.request);
	if (waits != connection->waits_to_send) {
		struct epoll_event event = { .events = EPOLLIN | (waits ? EPOLLOUT : 0), .data.ptr = connection };

		connection->waits_to_send = waits;
		if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event))
			connection_fail(loop->sender, connection, ERROR_OTHER, "epoll_ctl: %s", strerror(errno));
	}
}

static bool open_loop(const struct loop *loop)
{
	return loop->sender->settings->rate > 0;
}

/* A free connection begins its next request, or waits until that is due. */
static void next_request(struct loop *loop, struct connection *connection, uint64_t now)
{
	struct sender *sender = loop->sender;
	uint64_t due = connection->due_ns;

	if (!open_loop(loop)) {
		if (connection_may_begin(sender, connection)) {
			connection_begin(sender, connection, now, now);
			push_out(loop, connection);
		}
		return;
	}
	if (due >= atomic_load_explicit(&sender->window->end_ns, memory_order_relaxed))
		return;
	if (due > now) {
		heap_push(&loop->heap, connection);
		return;
	}
	schedule_advance(sender, connection);
	connection_begin(sender, connection, due, now);
	push_out(loop, connection);
}

static void begin_due(struct loop *loop)
{
	struct sender *sender = loop->sender;
	uint64_t now = now_ns();

	while (loop->heap.count && loop->heap.entries[0]->due_ns <= now) {
		struct connection *connection = heap_pop(&loop->heap);

		if (connection->fd < 0)
			continue;
		if (window_overlap(sender->window, connection->due_ns, connection->due_ns + 1))
			histogram_record(sender->lateness, now - connection->due_ns);
		next_request(loop, connection, now);
		now = now_ns();
	}
}

static void handle(struct loop *loop, struct connection *connection, uint32_t events)
{
	struct sender *sender = loop->sender;

	if ((events & EPOLLOUT) && connection->busy)
		push_out(loop, connection);
	if (connection->fd < 0 || !(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return;
	if (connection_receive(sender, connection, MSG_DONTWAIT) == RECEIVE_DONE)
		next_request(loop, connection, connection->sent_ns);
}

/* How long to sleep: until something is due, and no longer than a tick. */
static int wait_for_events(struct loop *loop, struct epoll_event *events)
{
	struct sender *sender = loop->sender;
	struct timespec timeout = { 0, TICK_NS };
	uint64_t before = now_ns(), after;
	int count;

	if (sender->settings->wait == WAIT_SPIN) {
		timeout.tv_nsec = 0;
	} else if (loop->heap.count) {
		uint64_t due = loop->heap.entries[0]->due_ns;

		if (due < before + TICK_NS)
			timeout.tv_nsec = due > before ? (long)(due - before) : 0;
	}
	count = epoll_pwait2(loop->epoll_fd, events, EVENTS_MAX, &timeout, NULL);
	if (count < 0 && errno != EINTR)
		die(EXIT_ENVIRONMENT, "epoll_pwait2: %s", strerror(errno));
	after = now_ns();
	if (sender->settings->wait == WAIT_SLEEP)
		sender->blocked_ns += window_overlap(sender->window, before, after);
	else if (!count)
		cpu_relax();
	return count;
}

static bool finished(const struct loop *loop, uint64_t now)
{
	const struct sender *sender = loop->sender;
	const struct window *window = sender->window;
	uint64_t end;

	if (atomic_load_explicit(&window->failed, memory_order_relaxed))
		return true;
	if (!atomic_load_explicit(&window->stop, memory_order_relaxed))
		return false;
	end = atomic_load(&window->end_ns);
	/* What is due after the end was put there before the end was known. */
	if (!sender->busy_count && (!loop->heap.count || loop->heap.entries[0]->due_ns >= end))
		return true;
	/* An overloaded open loop may have a long way to go; it does not get for ever. */
	return open_loop(loop) && end != LOAD_NEVER && now > end + sender->settings->timeout_ns;
}

static void begin_all(struct loop *loop)
{
	struct sender *sender = loop->sender;

	for (unsigned int i = 0; i < sender->connection_count; i++) {
		struct connection *connection = sender->connections[i];
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };

		if (connection->fd < 0)
			continue;
		if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event))
			die(EXIT_ENVIRONMENT, "epoll_ctl: %s", strerror(errno));
		next_request(loop, connection, now_ns());
	}
}

void engine_epoll(struct sender *sender)
{
	struct loop loop = { .sender = sender, .epoll_fd = epoll_create1(EPOLL_CLOEXEC) };
	struct epoll_event events[EVENTS_MAX];
	uint64_t now = now_ns(), looked = now;

	loop.heap.entries = calloc(sender->connection_count, sizeof(struct connection *));
	if (loop.epoll_fd < 0 || !loop.heap.entries)
		die(EXIT_ENVIRONMENT, "cannot make an epoll: %s", strerror(errno));
	begin_all(&loop);
	while (!finished(&loop, now)) {
		int count = wait_for_events(&loop, events);

		for (int i = 0; i < count; i++)
			handle(&loop, events[i].data.ptr, events[i].events);
		if (open_loop(&loop))
			begin_due(&loop);
		now = now_ns();
		if (now - looked < TICK_NS)
			continue;
		looked = now;
		for (unsigned int i = 0; i < sender->connection_count; i++)
			connection_check_age(sender, sender->connections[i], now);
	}
	free(loop.heap.entries);
	close(loop.epoll_fd);
}
