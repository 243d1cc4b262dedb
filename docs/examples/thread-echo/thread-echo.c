/* SPDX-License-Identifier: MIT */
/* An echo server with one thread per connection: the example of docs/adding.md. */
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void *serve(void *argument)
{
	int fd = (int)(intptr_t)argument;
	char buffer[65536];
	ssize_t got;

	while ((got = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
		ssize_t sent = 0, n;

		while (sent < got && (n = send(fd, buffer + sent, (size_t)(got - sent), MSG_NOSIGNAL)) > 0)
			sent += n;
		if (sent < got)
			break;
	}
	close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024) ||
	    getsockname(listener, (struct sockaddr *)&address, &length)) {
		perror("thread-echo");
		return 1;
	}
	printf("listening on %d\n", ntohs(address.sin_port));
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		pthread_t thread;

		if (fd < 0)
			continue;
		if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
			close(fd);
		else
			pthread_detach(thread);
	}
}
