/* SPDX-License-Identifier: MIT */
/* Where the server is. */
#ifndef LOAD_RESOLVE_H
#define LOAD_RESOLVE_H

#include <sys/socket.h>

/*
 * Looks HOST:PORT or [IPv6]:PORT up, once, and fills @host and @port. Ends the program when it is not of that
 * form or there is no such host. A static program knows only numeric addresses and "localhost": the
 * C library's look-up needs shared objects.
 */
void resolve(const char *text, char *host, size_t host_size, int *port);

/* The address found, and its length. */
socklen_t resolve_address(struct sockaddr_storage *address);

#endif
