// SPDX-License-Identifier: MIT
/*
 * Preloaded into a server, takes its rings away while it serves: kill -WINCH. The kernel module's device is closed behind
 * the library's back, as a faulty module might; of the user-space back end, the descriptors that its rings wait on fail
 * from then on.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define DEVICE "/dev/fastio"
#define DESCRIPTORS 1024

static int (*next_epoll_create1)(int);
static int (*next_epoll_wait)(int, struct epoll_event *, int, int);
static atomic_bool ours[DESCRIPTORS];
static atomic_bool vanished;

/* Of a signal handler: so without stdio. */
static void path_of(char *path, int fd)
{
	char digits[8];
	int count = 0;

	do
		digits[count++] = (char)('0' + fd % 10);
	while (fd /= 10);
	path = stpcpy(path, "/proc/self/fd/");
	while (count)
		*path++ = digits[--count];
	*path = '\0';
}

static void vanish(int number)
{
	char path[32], target[sizeof(DEVICE)];

	(void)number;
	atomic_store(&vanished, 1);
	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		ssize_t length;

		path_of(path, fd);
		length = readlink(path, target, sizeof(target));
		if (length == sizeof(DEVICE) - 1 && !memcmp(target, DEVICE, sizeof(DEVICE) - 1))
			close(fd);
	}
}

__attribute__((constructor)) static void begin(void)
{
	*(void **)&next_epoll_create1 = dlsym(RTLD_NEXT, "epoll_create1");
	*(void **)&next_epoll_wait = dlsym(RTLD_NEXT, "epoll_wait");
	/* The servers themselves have no use for it. */
	signal(SIGWINCH, vanish);
}

/* The servers themselves call epoll_create(). */
int epoll_create1(int flags)
{
	int fd = next_epoll_create1(flags);

	if (fd >= 0 && fd < DESCRIPTORS)
		atomic_store(&ours[fd], 1);
	return fd;
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms)
{
	if (fd >= 0 && fd < DESCRIPTORS && atomic_load(&ours[fd]) && atomic_load(&vanished)) {
		errno = EBADF;
		return -1;
	}
	return next_epoll_wait(fd, events, most, timeout_ms);
}
