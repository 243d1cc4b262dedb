/* SPDX-License-Identifier: MIT */
/*
 * An echo server with a fault planted, to show that the load generator finds it. One thread per connection,
 * blocking calls. The fault strikes once, at the reply --after, whichever connection that is.
 */
#define _GNU_SOURCE
#include "../common/options.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum fault {
	FAULT_NONE,
	FAULT_WRONG_BYTE, /* one bit of the reply is turned over */
	FAULT_CROSS,	  /* the reply is what another connection sent */
	FAULT_STALE,	  /* the reply is what this connection sent before */
	FAULT_LOST,	  /* there is no reply */
	FAULT_SHORT,	  /* its last byte is missing */
	FAULT_EXTRA,	  /* a byte follows it */
	FAULT_LATE_EXTRA, /* a byte follows the last reply, when the client has said that it was all */
	FAULT_CLOSE,	  /* the connection is closed in the middle */
	FAULT_RESET,	  /* and reset */
	FAULT_PAUSE,	  /* nobody is answered for --pause-ms */
	FAULT_NO_END,	  /* the connection is not closed when the client has said that it was all */
};
static const char *const fault_names[] = {
	"none", "wrong-byte", "cross", "stale", "lost", "short", "extra", "late-extra", "close", "reset", "pause", "no-end", NULL,
};

static unsigned int fault;
static uint64_t after = 100, message_bytes = 512, pause_ms = 300;
static atomic_uint_fast64_t replies;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* what follows, and the pause */
static unsigned char *last_of_another;
static int last_fd = -1;

static bool send_all(int fd, const unsigned char *bytes, size_t length)
{
	return send(fd, bytes, length, MSG_NOSIGNAL | MSG_WAITALL) == (ssize_t)length;
}

static bool receive_all(int fd, unsigned char *bytes, size_t length)
{
	return recv(fd, bytes, length, MSG_WAITALL) == (ssize_t)length;
}

/* Keeps the message if it is another connection's than the one kept; returns the one kept before. */
static void remember(int fd, const unsigned char *message, unsigned char *other)
{
	pthread_mutex_lock(&lock);
	memcpy(other, last_fd == fd || last_fd < 0 ? message : last_of_another, message_bytes);
	memcpy(last_of_another, message, message_bytes);
	last_fd = fd;
	pthread_mutex_unlock(&lock);
}

/* Returns whether the connection goes on. */
static bool reply(int fd, unsigned char *message, const unsigned char *before, const unsigned char *other)
{
	struct timespec pause = { (time_t)(pause_ms / 1000), (long)(pause_ms % 1000) * 1000000 };
	struct linger hard = { 1, 0 };
	static atomic_bool struck;
	bool strike = atomic_fetch_add(&replies, 1) >= after;

	/* Of these two the fault must show: the bytes have to differ. */
	if (fault == FAULT_CROSS && !memcmp(message, other, message_bytes))
		strike = false;
	if (fault == FAULT_STALE && !memcmp(message, before, message_bytes))
		strike = false;
	if (!strike || atomic_exchange(&struck, true))
		return send_all(fd, message, message_bytes);
	switch ((enum fault)fault) {
	case FAULT_WRONG_BYTE:
		message[message_bytes - 1] ^= 4;
		return send_all(fd, message, message_bytes);
	case FAULT_CROSS:
		return send_all(fd, other, message_bytes);
	case FAULT_STALE:
		return send_all(fd, before, message_bytes);
	case FAULT_LOST:
		return true;
	case FAULT_SHORT:
		return message_bytes == 1 || send_all(fd, message, message_bytes - 1);
	case FAULT_EXTRA:
		return send_all(fd, message, message_bytes) && send_all(fd, message, 1);
	case FAULT_CLOSE:
		send_all(fd, message, message_bytes / 2);
		return false;
	case FAULT_RESET:
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		return false;
	case FAULT_PAUSE:
		pthread_mutex_lock(&lock);
		nanosleep(&pause, NULL);
		pthread_mutex_unlock(&lock);
		return send_all(fd, message, message_bytes);
	default:
		return send_all(fd, message, message_bytes);
	}
}

static void *serve(void *argument)
{
	int fd = (int)(intptr_t)argument;
	unsigned char *message = calloc(3, message_bytes), *before = message + message_bytes, *other = before + message_bytes;

	while (message && receive_all(fd, message, message_bytes)) {
		remember(fd, message, other);
		if (!reply(fd, message, before, other))
			break;
		memcpy(before, message, message_bytes);
	}
	if (message && fault == FAULT_LATE_EXTRA)
		send_all(fd, message, 1);
	free(message);
	if (fault != FAULT_NO_END)
		close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	const struct option_spec specs[] = {
		{ "fault", 0, OPTION_CHOICE, &fault, 0, 0, fault_names, "what goes wrong", NULL },
		{ "after", 0, OPTION_COUNT, &after, 0, 1000000000, NULL, "which reply it strikes", NULL },
		{ "message-bytes", 0, OPTION_COUNT, &message_bytes, 1, 1 << 20, NULL, "bytes of a message", NULL },
		{ "pause-ms", 0, OPTION_COUNT, &pause_ms, 1, 60000, NULL, "how long it pauses", NULL },
	};
	const struct option_table table = OPTION_TABLE(specs);
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	options_parse(argc, argv, "an echo server with a fault", &table, 1);
	last_of_another = calloc(1, message_bytes);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || !last_of_another || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)&address, &length) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die(EXIT_ENVIRONMENT, "cannot listen");
	printf("READY port=%d pid=%d\n", ntohs(address.sin_port), (int)getpid());
	fflush(stdout);
	for (;;) {
		pthread_t thread;
		int one = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (one < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)one))
			die(EXIT_ENVIRONMENT, "cannot serve a connection");
		pthread_detach(thread);
	}
}
