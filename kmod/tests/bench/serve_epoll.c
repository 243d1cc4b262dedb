// SPDX-License-Identifier: GPL-2.0
/* The baseline: level-triggered epoll, recv and send, one thread. */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/socket.h>

#include "../ktap.h"
#include "bench.h"

void serve_epoll(struct bench *bench, int listener)
{
	struct epoll_event events[CONNS_MAX];
	int epoll = epoll_create1(0);
	char data[MESSAGE_BYTES];

	/* The load connects all before it sends. */
	for (unsigned int i = 0; i < bench->conns; i++) {
		struct epoll_event event = { .events = EPOLLIN };
		int fd;

		while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) < 0)
			sched_yield();
		event.data.fd = fd;
		NEED_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
	}
	for (;;) {
		int nr = epoll_wait(epoll, events, CONNS_MAX, -1);

		for (int i = 0; i < nr; i++) {
			ssize_t bytes = recv(events[i].data.fd, data, sizeof(data), 0);

			NEED_EQ(bytes, MESSAGE_BYTES);
			NEED_EQ(send(events[i].data.fd, data, bytes, MSG_NOSIGNAL), bytes);
		}
		if (bench_served(bench, nr))
			return;
	}
}
