/* SPDX-License-Identifier: MIT */
/* One connection: what is sent, what has to come back, and everything that can go wrong with it. */
#define _GNU_SOURCE
#include "load.h"
#include "pattern.h"
#include "resolve.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FINISH_MS 2000 /* how long a server may take to close after we did */

const char *const error_names[ERROR_KINDS] = {
	"connect", "reset", "closed", "timeout", "wrongBytes", "extraBytes", "other",
};

void connection_fail(struct sender *sender, struct connection *connection, enum error_kind kind, const char *format, ...)
{
	const struct settings *settings = sender->settings;
	struct window *window = sender->window;
	/* What a server may not do however busy it is. */
	bool fatal = settings->on_error == ON_ERROR_STOP || kind == ERROR_WRONG_BYTES || kind == ERROR_EXTRA_BYTES;
	va_list arguments;

	sender->errors[kind]++;
	pthread_mutex_lock(&window->first_lock);
	if (!window->first_error[0]) {
		int length = snprintf(window->first_error, sizeof(window->first_error), "connection %u, message %llu: ",
				      connection->id, (unsigned long long)connection->sequence);

		va_start(arguments, format);
		vsnprintf(window->first_error + length, sizeof(window->first_error) - (size_t)length, format, arguments);
		va_end(arguments);
	}
	pthread_mutex_unlock(&window->first_lock);
	if (connection->fd >= 0)
		close(connection->fd);
	connection->fd = -1;
	if (connection->busy) {
		connection->busy = false;
		sender->busy_count--;
		if (connection->ticket != NO_TICKET)
			window_return_ticket(window, settings, now_ns());
	}
	if (atomic_fetch_sub(&window->alive, 1) == 1)
		fatal = true;
	if (fatal && !atomic_exchange(&window->failed, true))
		window_wake(window);
}

/* Sends a request and receives its reply, both whole. Returns false after counting an error. */
static bool exchange_now(struct sender *sender, struct connection *connection)
{
	const struct exchange *exchange = &connection->exchange;
	uint64_t deadline = now_ns() + sender->settings->timeout_ns;

	connection->sent = connection->received = 0;
	while (connection->sent < shape_bytes(&exchange->request)) {
		struct pollfd wait = { .fd = connection->fd, .events = POLLOUT };

		if (!connection_send(sender, connection))
			return false;
		if (connection->sent < shape_bytes(&exchange->request))
			poll(&wait, 1, FINISH_MS);
	}
	while (connection->received < shape_bytes(&exchange->reply)) {
		size_t left = shape_bytes(&exchange->reply) - connection->received;
		ssize_t received = recv(connection->fd, sender->buffer, left, 0);

		if (received < 0 && (errno == EAGAIN || errno == EINTR) && now_ns() < deadline)
			continue;
		if (received <= 0 || shape_check(sender->buffer, &exchange->reply, connection->received,
						 (size_t)received) < (size_t)received) {
			connection_fail(sender, connection, received > 0 ? ERROR_WRONG_BYTES : ERROR_CONNECT,
					"preparing: %s", received > 0 ? "another reply than expected" : "no reply");
			return false;
		}
		connection->received += (uint32_t)received;
	}
	return true;
}

int connection_open(struct sender *sender, struct connection *connection)
{
	const struct settings *settings = sender->settings;
	uint64_t seconds = settings->timeout_ns / 1000000000u;
	struct timeval deadline = { (time_t)seconds, (suseconds_t)(settings->timeout_ns % 1000000000u / 1000) };
	struct timeval tick = { 0, 100000 };
	struct sockaddr_storage address;
	socklen_t length = resolve_address(&address);
	int on = 1;

	connection->ticket = NO_TICKET;
	connection->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd < 0) {
		connection_fail(sender, connection, ERROR_CONNECT, "cannot make a socket: %s", strerror(errno));
		return -1;
	}
	/* The send timeout is also that of connect(2). Receives wake up to see whether the run has ended. */
	if (setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline)) ||
	    setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) ||
	    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    connect(connection->fd, (struct sockaddr *)&address, length)) {
		connection_fail(sender, connection, ERROR_CONNECT, "cannot connect to %s: %s", settings->address,
				errno == EINPROGRESS ? "no answer within the timeout" : strerror(errno));
		return -1;
	}
	for (unsigned int step = 0;
	     protocol_preparation(settings->protocol, step, &connection->exchange, settings->seed, connection->id,
				  (uint32_t)settings->message_bytes);
	     step++)
		if (!exchange_now(sender, connection))
			return -1;
	return 0;
}

bool connection_may_begin(struct sender *sender, struct connection *connection)
{
	struct window *window = sender->window;

	connection->ticket = NO_TICKET;
	if (atomic_load_explicit(&window->stop, memory_order_relaxed) ||
	    atomic_load_explicit(&window->failed, memory_order_relaxed))
		return false;
	if (!sender->settings->requests ||
	    atomic_load_explicit(&window->start_ns, memory_order_relaxed) == LOAD_NEVER)
		return true;
	/* Looked at first, so that idle connections do not count tickets up for ever. */
	if (atomic_load_explicit(&window->tickets, memory_order_relaxed) >= sender->settings->requests)
		return false;
	connection->ticket = atomic_fetch_add(&window->tickets, 1);
	return connection->ticket < sender->settings->requests;
}

void connection_begin(struct sender *sender, struct connection *connection, uint64_t start_ns, uint64_t now)
{
	connection->start_ns = start_ns;
	connection->sent_ns = now;
	connection->sent = 0;
	connection->received = 0;
	protocol_exchange(sender->settings->protocol, &connection->exchange, sender->settings->seed, connection->id,
			  connection->sequence, (uint32_t)sender->settings->message_bytes,
			  (uint32_t)sender->settings->pipeline);
	connection->busy = true;
	sender->busy_count++;
}

bool connection_send(struct sender *sender, struct connection *connection)
{
	const struct shape *request = &connection->exchange.request;
	size_t size = shape_bytes(request);

	while (connection->sent < size) {
		size_t length = size - connection->sent;
		ssize_t sent;

		if (length > sender->buffer_bytes)
			length = sender->buffer_bytes;
		shape_fill(sender->buffer, request, connection->sent, length);
		sent = send(connection->fd, sender->buffer, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0) {
			if (errno == EAGAIN)
				return true;
			connection_fail(sender, connection,
					errno == EPIPE || errno == ECONNRESET ? ERROR_RESET : ERROR_OTHER,
					"sending byte %u of %zu: %s", connection->sent, size, strerror(errno));
			return false;
		}
		connection->sent += (uint32_t)sent;
	}
	return true;
}

/* Says what came instead of byte @at, and whose it is if it is anybody's. */
static void fail_wrong(struct sender *sender, struct connection *connection, size_t good, size_t length)
{
	const struct settings *settings = sender->settings;
	const struct shape *reply = &connection->exchange.reply;
	const unsigned char *bytes = sender->buffer;
	size_t once = shape_bytes(reply) / reply->times;
	size_t at = connection->received + good;
	/* Whose bytes they are can be said of whole words of a message that this buffer holds. */
	size_t first = connection->received > reply->text_bytes ? 0 : reply->text_bytes - connection->received;
	size_t aligned = good >= first ? first + (good - first) / 8 * 8 : good;
	unsigned char expected;
	char owner[96] = "";
	uint32_t whose;
	uint64_t which;

	shape_fill(&expected, reply, at, 1);
	if (at >= reply->text_bytes && at < reply->text_bytes + reply->message_bytes && at < once &&
	    pattern_origin(bytes + aligned, settings->seed, connection->received + aligned - reply->text_bytes,
			   length - aligned, (uint32_t)settings->connections, &whose, &which))
		snprintf(owner, sizeof(owner), "; these bytes are of connection %u, message %llu", whose,
			 (unsigned long long)which);
	connection_fail(sender, connection, ERROR_WRONG_BYTES, "byte %zu of %zu: found 0x%02x, expected 0x%02x%s", at,
			shape_bytes(reply), bytes[good], expected, owner);
}

/* How many bytes of the reply may be here: of an echo, as many as were sent. */
static size_t due_bytes(const struct sender *sender, const struct connection *connection)
{
	if (!connection->busy)
		return 0;
	if (sender->settings->protocol == PROTOCOL_ECHO)
		return connection->sent - connection->received;
	if (connection->sent < shape_bytes(&connection->exchange.request))
		return 0;
	return shape_bytes(&connection->exchange.reply) - connection->received;
}

enum receive_result connection_receive(struct sender *sender, struct connection *connection, int flags)
{
	const struct shape *reply = &connection->exchange.reply;
	ssize_t received = recv(connection->fd, sender->buffer, sender->buffer_bytes, flags);
	size_t size = shape_bytes(reply), length, wanted, good;
	uint64_t now;

	if (received < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return RECEIVE_AGAIN;
		connection_fail(sender, connection, errno == ECONNRESET ? ERROR_RESET : ERROR_OTHER,
				"after byte %u of %zu: %s", connection->received, size, strerror(errno));
		return RECEIVE_FAILED;
	}
	if (!received) {
		connection_fail(sender, connection, ERROR_CLOSED, "the server closed after byte %u of %zu",
				connection->received, size);
		return RECEIVE_FAILED;
	}
	length = (size_t)received;
	wanted = due_bytes(sender, connection);
	good = shape_check(sender->buffer, reply, connection->received, length < wanted ? length : wanted);
	if (good < length && good < wanted) {
		fail_wrong(sender, connection, good, length);
		return RECEIVE_FAILED;
	}
	if (length > wanted) {
		connection_fail(sender, connection, ERROR_EXTRA_BYTES, "%zu bytes more than were sent", length - wanted);
		return RECEIVE_FAILED;
	}
	connection->received += (uint32_t)length;
	if (connection->received < size)
		return RECEIVE_PART;
	now = now_ns();
	window_record(sender, connection, now);
	connection->sent_ns = now; /* A closed loop begins its next request at this very moment. */
	connection->busy = false;
	connection->sequence++;
	sender->busy_count--;
	return RECEIVE_DONE;
}

void connection_check_age(struct sender *sender, struct connection *connection, uint64_t now)
{
	uint64_t timeout = sender->settings->timeout_ns;

	if (connection->fd < 0 || !connection->busy || now < connection->sent_ns + timeout)
		return;
	connection_fail(sender, connection, ERROR_TIMEOUT, "%u of %zu bytes came back within %g s", connection->received,
			shape_bytes(&connection->exchange.reply), (double)timeout / 1e9);
}

/* Reads on after the last reply. Returns true when the stream has ended, one way or the other. */
static bool finish_one(struct sender *sender, struct connection *connection)
{
	ssize_t received = recv(connection->fd, sender->buffer, sender->buffer_bytes, MSG_DONTWAIT);

	if (received < 0 && errno == EAGAIN)
		return false;
	if (received > 0)
		connection_fail(sender, connection, ERROR_EXTRA_BYTES, "%zd bytes after the last reply", received);
	else if (received < 0)
		connection_fail(sender, connection, ERROR_RESET, "after the last reply: %s", strerror(errno));
	return true;
}

void connections_finish(struct sender *sender)
{
	uint64_t deadline = now_ns() + FINISH_MS * 1000000ull;

	for (unsigned int i = 0; i < sender->connection_count; i++) {
		if (sender->connections[i]->fd >= 0)
			shutdown(sender->connections[i]->fd, SHUT_WR);
	}
	for (unsigned int i = 0; i < sender->connection_count; i++) {
		struct connection *connection = sender->connections[i];
		struct pollfd wait = { .fd = connection->fd, .events = POLLIN };

		while (connection->fd >= 0 && !connection->busy && !atomic_load(&sender->window->failed)) {
			uint64_t now = now_ns();

			if (finish_one(sender, connection))
				break;
			if (now >= deadline || poll(&wait, 1, (int)((deadline - now) / 1000000u) + 1) == 0) {
				sender->streams_left_open++;
				break;
			}
		}
		if (connection->fd >= 0)
			close(connection->fd);
		connection->fd = -1;
	}
}
