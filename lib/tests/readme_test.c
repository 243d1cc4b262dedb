// SPDX-License-Identifier: MIT
/* The server in README.md, as it stands there, compiled beside this program: it must echo. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"

#define ROUNDS 200

static char server_path[512];

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
	uint16_t port = 0;
	int listener = rig_listen(1, &port);

	close(listener);
	return port;
}

static pid_t start_server(uint16_t port)
{
	char text[8];
	pid_t child;

	snprintf(text, sizeof(text), "%u", port);
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(server_path, server_path, text, (char *)NULL);
		_exit(127);
	}
	return child;
}

static int connect_when_up(uint16_t port, pid_t server)
{
	int fd = -1;

	while (fd < 0 && waitpid(server, NULL, WNOHANG) == 0) {
		fd = rig_connect(port);
		if (fd < 0)
			nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return fd;
}

static void echo_some(int fd, int seed)
{
	char sent[6000], received[6000];

	for (int round = 0; round < ROUNDS; round++) {
		size_t len = (size_t)(round * 31 % (int)sizeof(sent)) + 1;

		for (size_t i = 0; i < len; i++)
			sent[i] = (char)(seed + round + (int)i * 7);
		REQUIRE(send(fd, sent, len, 0) == (ssize_t)len);
		REQUIRE(recv(fd, received, len, MSG_WAITALL) == (ssize_t)len);
		REQUIRE(!memcmp(sent, received, len), "round %d", round);
	}
}

static void readme_server_echoes(void *arg)
{
	uint16_t port = free_port();
	pid_t server = start_server(port);
	int fds[3] = { -1, -1, -1 };

	(void)arg;
	REQUIRE(server > 0 && port);
	for (int i = 0; i < 3; i++) {
		fds[i] = connect_when_up(port, server);
		CHECK(fds[i] >= 0, "cannot connect to %s", server_path);
	}
	for (int i = 0; i < 3 && fds[i] >= 0; i++)
		echo_some(fds[i], i);
	for (int i = 0; i < 3; i++) {
		char byte;

		shutdown(fds[i], SHUT_WR);
		CHECK_EQ(recv(fds[i], &byte, 1, 0), 0);
		close(fds[i]);
	}
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}

int main(int argc, char **argv)
{
	static const struct tap_test test = { "the server in README.md echoes",
					      readme_server_echoes };
	const char *slash = strrchr(argv[0], '/');

	(void)argc;
	snprintf(server_path, sizeof(server_path), "%.*s/readme_server",
		 slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
	tap_begin(argv[0]);
	tap_run(&test, NULL, NULL);
	return tap_end();
}
