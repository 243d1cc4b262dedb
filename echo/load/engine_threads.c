/* SPDX-License-Identifier: MIT */
/* A sending thread with a single connection and blocking calls, as rust_echo_bench has it. */
#define _GNU_SOURCE
#include "../common/relax.h"
#include "load.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#define TICK_MS 100

static bool ended(const struct sender *sender)
{
	return atomic_load_explicit(&sender->window->failed, memory_order_relaxed) ||
	       sender->connections[0]->fd < 0;
}

/* Waits for the intended time. Returns false when there will be no further request. */
static bool await_due(struct sender *sender, struct connection *connection)
{
	struct window *window = sender->window;

	while (!ended(sender)) {
		uint64_t now = now_ns(), left;
		struct timespec time = { 0, TICK_MS * 1000000 };

		if (connection->due_ns >= atomic_load(&window->end_ns))
			return false;
		if (connection->due_ns <= now)
			return true;
		left = connection->due_ns - now;
		if (sender->settings->wait == WAIT_SPIN) {
			cpu_relax();
			continue;
		}
		if (left < (uint64_t)time.tv_nsec)
			time.tv_nsec = (long)left;
		nanosleep(&time, NULL);
		sender->blocked_ns += window_overlap(window, now, now_ns());
	}
	return false;
}

/* Sends the request and receives its reply. Returns false when the connection or the run has ended. */
static bool exchange(struct sender *sender, struct connection *connection)
{
	if (!connection_send(sender, connection))
		return false;
	while (!ended(sender)) {
		uint64_t before = now_ns();
		enum receive_result result;

		/* A message that does not fit comes back while it is being sent: watch both directions. */
		if (connection->sent < shape_bytes(&connection->exchange.request)) {
			struct pollfd wait = { .fd = connection->fd, .events = POLLIN | POLLOUT };

			poll(&wait, 1, TICK_MS);
			if ((wait.revents & POLLOUT) && !connection_send(sender, connection))
				return false;
			result = connection_receive(sender, connection, MSG_DONTWAIT);
		} else {
			result = connection_receive(sender, connection,
						    sender->settings->wait == WAIT_SPIN ? MSG_DONTWAIT : 0);
		}
		if (result == RECEIVE_AGAIN && sender->settings->wait == WAIT_SPIN)
			cpu_relax();
		if (sender->settings->wait == WAIT_SLEEP)
			sender->blocked_ns += window_overlap(sender->window, before, now_ns());
		if (result == RECEIVE_DONE)
			return true;
		if (result == RECEIVE_FAILED)
			return false;
		if (result == RECEIVE_AGAIN)
			connection_check_age(sender, connection, before);
	}
	return false;
}

static void open_loop(struct sender *sender, struct connection *connection)
{
	bool free = true; /* whether it waited for this request, and not this request for it */

	while (await_due(sender, connection)) {
		uint64_t now = now_ns(), due = connection->due_ns, end;

		if (free && window_overlap(sender->window, due, due + 1))
			histogram_record(sender->lateness, now - due);
		schedule_advance(sender, connection);
		connection_begin(sender, connection, due, now);
		if (!exchange(sender, connection))
			return;
		free = connection->due_ns > connection->sent_ns;
		/* An overloaded loop may have a long way to go; it does not get for ever. */
		end = atomic_load(&sender->window->end_ns);
		if (connection->sent_ns > end && connection->sent_ns - end > sender->settings->timeout_ns)
			return;
	}
}

void engine_threads(struct sender *sender)
{
	struct connection *connection = sender->connections[0];
	uint64_t now = now_ns();

	if (sender->settings->rate > 0) {
		open_loop(sender, connection);
		return;
	}
	while (connection_may_begin(sender, connection)) {
		connection_begin(sender, connection, now, now);
		if (!exchange(sender, connection))
			return;
		now = connection->sent_ns;
	}
	/* Others may still be at it; closing now would change what they measure. */
	while (!ended(sender) && !atomic_load(&sender->window->stop)) {
		struct timespec tick = { 0, 1000000 };

		nanosleep(&tick, NULL);
	}
}
