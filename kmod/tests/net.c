// SPDX-License-Identifier: GPL-2.0
/* Loopback sockets and recognisable data for the tests. */
#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ktap.h"

int net_listen(struct sockaddr_in *addr)
{
	socklen_t bytes = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*addr = (struct sockaddr_in) { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	NEED(fd >= 0, "socket: %s", strerror(errno));
	NEED(bind(fd, (struct sockaddr *)addr, bytes) == 0, "bind: %s", strerror(errno));
	NEED(listen(fd, 1024) == 0, "listen: %s", strerror(errno));
	NEED(getsockname(fd, (struct sockaddr *)addr, &bytes) == 0, "getsockname: %s", strerror(errno));
	return fd;
}

int net_connect(const struct sockaddr_in *addr)
{
	struct timeval patience = { .tv_sec = 10 * ktap_slowness() };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	NEED(fd >= 0, "socket: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	NEED(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0, "connect: %s", strerror(errno));
	return fd;
}

void net_pair(int pair[2])
{
	struct sockaddr_in addr;
	int listener = net_listen(&addr), one = 1;
	struct pollfd ready = { .fd = listener, .events = POLLIN };

	pair[1] = net_connect(&addr);
	/* The connector may see the connection before the listener does. */
	NEED(poll(&ready, 1, 10000 * ktap_slowness()) == 1, "accept: no connection came");
	pair[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	NEED(pair[0] >= 0, "accept: %s", strerror(errno));
	setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	close(listener);
}

void net_reset(int fd)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

void net_write(int fd, const void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t ret = send(fd, (const char *)data + done, bytes - done, MSG_NOSIGNAL);

		NEED(ret > 0, "send of %zu bytes: %s", bytes - done, strerror(errno));
		done += ret;
	}
}

void net_read(int fd, void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t ret = recv(fd, (char *)data + done, bytes - done, 0);

		NEED(ret > 0, "recv after %zu of %zu bytes: %s", done, bytes, ret ? strerror(errno) : "the end");
		done += ret;
	}
}

bool net_at_end(int fd)
{
	struct pollfd events = { .fd = fd, .events = POLLIN };
	char byte;

	return poll(&events, 1, 10000 * ktap_slowness()) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

bool net_is_gone(int fd)
{
	struct pollfd events = { .fd = fd, .events = POLLIN };
	char byte;

	if (poll(&events, 1, 10000 * ktap_slowness()) != 1)
		return false;
	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

size_t net_clog(int fd)
{
	static const char zeros[65536];
	int least = 1, domain = AF_INET;
	socklen_t domain_bytes = sizeof(domain);
	size_t bytes = 0;
	ssize_t ret;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	NEED_EQ(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_bytes), 0);
	/* The peer's kernel acknowledges late, by up to 200 ms: only what stays full for longer is full. Not so within Unix. */
	for (unsigned int quiet = 0; quiet < (domain == AF_UNIX ? 1 : 30); quiet++) {
		while ((ret = send(fd, zeros, sizeof(zeros), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
			bytes += ret;
			quiet = 0;
		}
		NEED(errno == EAGAIN, "send: %s", strerror(errno));
		usleep(10000);
	}
	return bytes;
}

void pattern_fill(void *data, size_t bytes, uint32_t stream, uint64_t position)
{
	for (size_t i = 0; i < bytes; i++)
		((uint8_t *)data)[i] = pattern_byte(stream, position + i);
}

bool pattern_check(const void *data, size_t bytes, uint32_t stream, uint64_t position)
{
	for (size_t i = 0; i < bytes; i++) {
		uint8_t got = ((const uint8_t *)data)[i], want = pattern_byte(stream, position + i);

		if (got != want) {
			ktap_fail(__FILE__, __LINE__, "stream %u, byte %llu: got %#x, expected %#x", stream,
				  (unsigned long long)position + i, got, want);
			return false;
		}
	}
	return true;
}
