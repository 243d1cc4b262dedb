// SPDX-License-Identifier: MIT
/*
 * Loaded before the C library, makes accept4() fail as it seldom does by itself: LD_PRELOAD=refuse.so
 * FASTIO_REFUSE=COUNT:ERRNO refuses the first COUNT calls. Whatever waits in the backlog stays there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

static int (*next_accept4)(int, struct sockaddr *, socklen_t *, int);
static atomic_int left;
static int refusal;

/* Not strtol(): newer headers call it by a name that older C libraries lack; see native/glibc.cc. */
static int number(const char **text)
{
	int value = 0;

	while (**text >= '0' && **text <= '9' && value < 100000)
		value = value * 10 + *(*text)++ - '0';
	return value;
}

__attribute__((constructor)) static void begin(void)
{
	const char *wish = getenv("FASTIO_REFUSE");
	int count;

	*(void **)&next_accept4 = dlsym(RTLD_NEXT, "accept4");
	if (!wish)
		return;
	count = number(&wish);
	if (*wish++ != ':')
		abort();
	refusal = number(&wish);
	atomic_store(&left, count);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	if (atomic_load(&left) > 0 && atomic_fetch_sub(&left, 1) > 0) {
		errno = refusal;
		return -1;
	}
	return next_accept4(fd, address, length, flags);
}
