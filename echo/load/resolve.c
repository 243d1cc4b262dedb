/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "resolve.h"

#include "../common/options.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef ECHO_STATIC
#include <netdb.h>
#endif

static struct sockaddr_storage found;
static socklen_t found_length;

static bool numeric(const char *host, int port)
{
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };

	if (inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1", &four.sin_addr) == 1) {
		memcpy(&found, &four, sizeof(four));
		found_length = sizeof(four);
		return true;
	}
	if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1) {
		memcpy(&found, &six, sizeof(six));
		found_length = sizeof(six);
		return true;
	}
	return false;
}

static void look_up(const char *host, int port)
{
#ifdef ECHO_STATIC
	(void)port;
	die(EXIT_USAGE, "--address: found host \"%s\", expected a numeric address or localhost (this is a static build)",
	    host);
#else
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	char service[8];
	int error;

	snprintf(service, sizeof(service), "%d", port);
	error = getaddrinfo(host, service, &hints, &list);
	if (error)
		die(EXIT_ENVIRONMENT, "--address: cannot find host \"%s\": %s", host, gai_strerror(error));
	memcpy(&found, list->ai_addr, list->ai_addrlen);
	found_length = list->ai_addrlen;
	freeaddrinfo(list);
#endif
}

void resolve(const char *text, char *host, size_t host_size, int *port)
{
	const char *colon = strrchr(text, ':'), *end = colon;
	unsigned long number;
	char *stop;

	if (!colon || colon == text || colon[1] < '0' || colon[1] > '9')
		die(EXIT_USAGE, "--address: found \"%s\", expected HOST:PORT", text);
	number = strtoul(colon + 1, &stop, 10);
	if (*stop || !number || number > 65535)
		die(EXIT_USAGE, "--address: found port \"%s\", expected a whole number from 1 to 65535", colon + 1);
	if (*text == '[' && colon[-1] == ']') {
		text++;
		end--;
	}
	if ((size_t)(end - text) >= host_size)
		die(EXIT_USAGE, "--address: found a host name of %zd bytes, expected less than %zu", end - text, host_size);
	memcpy(host, text, (size_t)(end - text));
	host[end - text] = '\0';
	*port = (int)number;
	if (!numeric(host, *port))
		look_up(host, *port);
}

socklen_t resolve_address(struct sockaddr_storage *address)
{
	*address = found;
	return found_length;
}
