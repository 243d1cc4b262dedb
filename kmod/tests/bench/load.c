// SPDX-License-Identifier: GPL-2.0
/* The load of the bench: a closed loop over some connections, one message in flight on each, every byte verified. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <unistd.h>

#include "../ktap.h"
#include "../net.h"
#include "bench.h"

struct peer {
	int fd;
	unsigned int received;
	uint64_t position;
	char message[MESSAGE_BYTES];
	char reply[MESSAGE_BYTES];
};

static void send_next(struct peer *peer, unsigned int index)
{
	pattern_fill(peer->message, MESSAGE_BYTES, index, peer->position);
	peer->position += MESSAGE_BYTES;
	peer->received = 0;
	net_write(peer->fd, peer->message, MESSAGE_BYTES);
}

static void load_main(const struct sockaddr_in *addr, unsigned int conns)
{
	static struct peer peers[CONNS_MAX];
	struct epoll_event events[CONNS_MAX];
	int epoll = epoll_create1(0);

	for (unsigned int i = 0; i < conns; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		peers[i].fd = net_connect(addr);
		NEED_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i].fd, &event), 0);
	}
	for (unsigned int i = 0; i < conns; i++)
		send_next(&peers[i], i);
	for (;;) {
		int nr = epoll_wait(epoll, events, CONNS_MAX, -1);

		for (int i = 0; i < nr; i++) {
			struct peer *peer = &peers[events[i].data.u32];
			ssize_t ret = recv(peer->fd, peer->reply + peer->received, MESSAGE_BYTES - peer->received, 0);

			NEED(ret > 0, "recv: %s", ret ? strerror(errno) : "the end");
			peer->received += ret;
			if (peer->received < MESSAGE_BYTES)
				continue;
			NEED(!memcmp(peer->message, peer->reply, MESSAGE_BYTES), "a wrong echo");
			send_next(peer, events[i].data.u32);
		}
	}
}

pid_t load_start(const struct sockaddr_in *addr, unsigned int conns)
{
	pid_t pid = fork();

	NEED(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Its wake-ups do not take the only vCPU from the server, which then does its work in one go. */
		NEED_EQ(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 }), 0);
		load_main(addr, conns);
	}
	return pid;
}
