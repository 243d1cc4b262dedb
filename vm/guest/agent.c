// SPDX-License-Identifier: MIT
/*
 * The guest's first process: runs commands for the host, over a virtio-serial port (protocol.h).
 *
 *	agent			find the port and serve it; for process 1 of a guest
 *	agent --socket PATH	serve the Unix socket PATH, one host after the other; for tests
 *	agent --sentinel	say SENTINEL on the console and power off: user space runs
 *
 * One thread, one poll() loop. The host is not trusted to keep to the protocol: a frame that makes
 * no sense is refused, and the connection has to start over.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "protocol.h"

#define PORT_NAME "fastio.agent"
#define SENTINEL "fastio-guest: user space runs\n"
/* How often a missing port or host is looked for. */
#define RETRY_MS 20
#define HELLO_BYTES (FRAME_MAGIC_BYTES + 4 + FRAME_NONCE_BYTES)
#define RESUMED_HEADER 12
#define SEED_WORDS 16
/*
 * Frames under way to the host, in bytes. Twice that much memory, so that they rarely have to be
 * moved.
 */
#define OUT_LIMIT (256 * 1024)
/* The part of OUT_LIMIT that output of commands leaves to small frames. */
#define SMALL_RESERVE (32 * 1024)
/* One frame from the host causes at most one small frame, of at most this size with its header. */
#define SMALL_FRAME_MAX 512

static int host = -1;
/* The host's HELLO was seen; without it all bytes are dropped. */
static bool greeted;
static bool is_init;
static uint8_t in[2 * (FRAME_HEADER + FRAME_PAYLOAD_MAX)];
static size_t in_bytes;
static uint8_t out[2 * OUT_LIMIT];
static size_t out_start, out_bytes;

/* --- To the host. --- */

bool has_room(size_t payload, bool small)
{
	return out_bytes + FRAME_HEADER + payload + (small ? 0 : SMALL_RESERVE) <= OUT_LIMIT;
}

uint8_t *payload_room(size_t payload)
{
	if (out_start + out_bytes + FRAME_HEADER + payload > sizeof(out)) {
		memmove(out, out + out_start, out_bytes);
		out_start = 0;
	}
	return out + out_start + out_bytes + FRAME_HEADER;
}

void commit_frame(uint8_t type, uint32_t id, uint32_t payload)
{
	uint8_t *header = out + out_start + out_bytes;

	put_u32(header, payload);
	header[4] = type;
	put_u32(header + 5, id);
	out_bytes += FRAME_HEADER + payload;
}

bool send_frame(uint8_t type, uint32_t id, const void *payload, size_t bytes)
{
	if (!has_room(bytes, true))
		return false;
	memcpy(payload_room(bytes), payload, bytes);
	commit_frame(type, id, bytes);
	return true;
}

static void send_done(uint32_t id, int error)
{
	uint8_t payload[4];

	put_u32(payload, error);
	send_frame(FRAME_DONE, id, payload, sizeof(payload));
}

/* Returns false when the host is gone. */
static bool flush_out(void)
{
	while (out_bytes) {
		ssize_t written = write(host, out + out_start, out_bytes);

		if (written < 0)
			return errno == EAGAIN || errno == EINTR;
		/* A virtio-serial port without a host takes nothing. */
		if (written == 0)
			return false;
		out_start += written;
		out_bytes -= written;
	}
	out_start = 0;
	return true;
}

/* --- From the host. --- */

static size_t add_string(uint8_t *at, const char *text)
{
	return snprintf((char *)at, 80, "%.79s", text) + 1;
}

/* A new connection: nothing of an earlier one may reach it. */
static void greet(uint32_t id, const uint8_t *hello)
{
	uint8_t welcome[FRAME_MAGIC_BYTES + FRAME_NONCE_BYTES + 4 + 3 * 80];
	size_t used = FRAME_MAGIC_BYTES + FRAME_NONCE_BYTES + 4;
	char boot_id[64] = "";
	struct utsname name;
	int fd;

	kill_commands();
	out_start = out_bytes = 0;
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t got = read(fd, boot_id, sizeof(boot_id) - 1);

		boot_id[got > 0 ? got : 0] = '\0';
		boot_id[strcspn(boot_id, "\n")] = '\0';
		close(fd);
	}
	uname(&name);
	memcpy(welcome, FRAME_MAGIC, FRAME_MAGIC_BYTES);
	memcpy(welcome + FRAME_MAGIC_BYTES, hello + FRAME_MAGIC_BYTES + 4, FRAME_NONCE_BYTES);
	put_u32(welcome + FRAME_MAGIC_BYTES + FRAME_NONCE_BYTES, PROTOCOL_VERSION);
	used += add_string(welcome + used, name.release);
	used += add_string(welcome + used, name.machine);
	used += add_string(welcome + used, boot_id);
	send_frame(FRAME_WELCOME, id, welcome, used);
	greeted = true;
}

/*
 * A guest resumed from a snapshot has a stopped clock and a copied random pool: puts both right.
 * Returns errno.
 */
static int handle_resumed(const uint8_t *payload, size_t bytes)
{
	const uint64_t seconds = get_u32(payload) | (uint64_t)get_u32(payload + 4) << 32;
	struct timespec now = { .tv_sec = (time_t)seconds, .tv_nsec = get_u32(payload + 8) };
	union {
		struct rand_pool_info info;
		uint32_t words[sizeof(struct rand_pool_info) / 4 + SEED_WORDS];
	} pool = { .info = { .entropy_count = SEED_WORDS * 32, .buf_size = SEED_WORDS * 4 } };
	size_t seed = bytes - RESUMED_HEADER;
	int error = 0, fd;

	/* On a developer's machine, under test, there is nothing to put right. */
	if (!is_init)
		return 0;
	if (clock_settime(CLOCK_REALTIME, &now))
		error = errno;
	if (seed > SEED_WORDS * 4)
		seed = SEED_WORDS * 4;
	memcpy((uint8_t *)&pool + sizeof(struct rand_pool_info), payload + RESUMED_HEADER, seed);
	fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG))
		error = errno;
	close(fd);
	return error;
}

static void power_off(void)
{
	kill_commands();
	if (!is_init)
		exit(0);
	sync();
	reboot(RB_POWER_OFF);
	/* A machine that cannot: QEMU is told to end at a reboot. */
	reboot(RB_AUTOBOOT);
}

/* Frames that concern one command; one that has ended meanwhile is no mistake of the host's. */
static const char *handle_command_frame(uint8_t type, uint32_t id, const uint8_t *payload,
					size_t bytes)
{
	struct command *command = find_command(id);

	if (type == FRAME_CREDIT && (bytes != 5 || payload[0] < 1 || payload[0] > 2))
		return "CREDIT makes no sense";
	if (type == FRAME_SIGNAL && (bytes != 4 || get_u32(payload) < 1 || get_u32(payload) > 64))
		return "SIGNAL makes no sense";
	if (!command)
		return NULL;
	if (type == FRAME_STDIN)
		return handle_stdin(command, payload, bytes);
	if (type == FRAME_CREDIT)
		return handle_credit(command, payload[0] - 1, get_u32(payload + 1));
	if (type == FRAME_SIGNAL)
		signal_command(command, get_u32(payload));
	else
		handle_stdin_eof(command);
	return NULL;
}

/* Returns NULL, or what is wrong with the frame. */
static const char *handle_frame(uint8_t type, uint32_t id, const uint8_t *payload, size_t bytes)
{
	switch (type) {
	case FRAME_EXEC:
		return handle_exec(id, payload, bytes);
	case FRAME_STDIN:
	case FRAME_STDIN_EOF:
	case FRAME_CREDIT:
	case FRAME_SIGNAL:
		return handle_command_frame(type, id, payload, bytes);
	case FRAME_PING:
		send_frame(FRAME_PONG, id, "", 0);
		return NULL;
	case FRAME_RESUMED:
		if (bytes < RESUMED_HEADER + 16)
			return "RESUMED is too short";
		send_done(id, handle_resumed(payload, bytes));
		return NULL;
	case FRAME_POWEROFF:
		send_done(id, 0);
		flush_out();
		power_off();
		return NULL;
	default:
		return "unknown frame type";
	}
}

static bool is_hello(const uint8_t *at)
{
	return get_u32(at) == HELLO_BYTES && at[4] == FRAME_HELLO &&
	       !memcmp(at + FRAME_HEADER, FRAME_MAGIC, FRAME_MAGIC_BYTES);
}

/* Handles the frame at @at if it is all there. Returns the bytes it took; 0 is "wait for more". */
static size_t take_frame(const uint8_t *at, size_t bytes)
{
	const char *wrong = NULL;
	uint32_t length, id;

	if (bytes < FRAME_HEADER || (!greeted && bytes < FRAME_HEADER + HELLO_BYTES))
		return 0;
	length = get_u32(at);
	id = get_u32(at + 5);
	if (bytes >= FRAME_HEADER + HELLO_BYTES && is_hello(at)) {
		greet(id, at + FRAME_HEADER);
		return FRAME_HEADER + HELLO_BYTES;
	}
	if (!greeted)
		return 1;
	if (length > FRAME_PAYLOAD_MAX)
		wrong = "frame is too long";
	else if (bytes < FRAME_HEADER + length)
		return 0;
	else
		wrong = handle_frame(at[4], id, at + FRAME_HEADER, length);
	if (!wrong)
		return FRAME_HEADER + length;
	kill_commands();
	send_frame(FRAME_REFUSED, id, wrong, strlen(wrong));
	greeted = false;
	return 1;
}

/* Handles what has been read, as long as there is room for answers. */
static void take_frames(void)
{
	size_t done = 0, taken = 1;

	while (taken && has_room(SMALL_FRAME_MAX, true)) {
		taken = take_frame(in + done, in_bytes - done);
		done += taken;
	}
	in_bytes -= done;
	memmove(in, in + done, in_bytes);
}

/* Returns false when the host is gone. */
static bool read_host(void)
{
	ssize_t got;

	if (in_bytes == sizeof(in))
		return true;
	got = read(host, in + in_bytes, sizeof(in) - in_bytes);
	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR);
	in_bytes += got;
	return true;
}

/* --- The loop. --- */

/* Serves the connected host until it goes away. */
static void serve(int children)
{
	static struct pollfd polls[2 + COMMAND_POLLS];
	bool alive = true;

	while (alive) {
		struct signalfd_siginfo info;
		unsigned int count;

		polls[0] = (struct pollfd){ .fd = children, .events = POLLIN };
		polls[1] = (struct pollfd){ .fd = host, .events = out_bytes ? POLLOUT : 0 };
		if (has_room(SMALL_FRAME_MAX, true))
			polls[1].events |= POLLIN;
		count = 2 + poll_commands(polls + 2);
		if (poll(polls, count, -1) < 0 && errno != EINTR)
			return;
		if (polls[0].revents && read(children, &info, sizeof(info)) == sizeof(info))
			reap_children();
		if (polls[1].revents & (POLLIN | POLLHUP))
			alive = read_host();
		take_frames();
		run_commands();
		alive = flush_out() && alive;
	}
}

/*
 * Finds the port by its name in sysfs: nothing but the kernel need run in the guest. Returns -1
 * while absent.
 */
static int open_port(void)
{
	DIR *ports = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	int port = -1;

	while (ports && port < 0 && (entry = readdir(ports))) {
		char path[300], name[64];
		ssize_t got;
		int fd;

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%.200s/name", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		got = read(fd, name, sizeof(name) - 1);
		close(fd);
		name[got > 0 ? got : 0] = '\0';
		if (strncmp(name, PORT_NAME "\n", sizeof(PORT_NAME)))
			continue;
		snprintf(path, sizeof(path), "/dev/%.200s", entry->d_name);
		port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	}
	if (ports)
		closedir(ports);
	return port;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 16))
		return -1;
	return listener;
}

static int sentinel(void)
{
	int console = open("/dev/console", O_WRONLY | O_CLOEXEC);
	ssize_t said = write(console < 0 ? STDOUT_FILENO : console, SENTINEL, sizeof(SENTINEL) - 1);

	is_init = getpid() == 1;
	power_off();
	return said < 0;
}

/* One round: waits for a host, serves it, and forgets everything about it. */
static void serve_next(int listener, int children)
{
	while (host < 0) {
		if (listener < 0)
			host = open_port();
		else
			host = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (host < 0)
			poll(NULL, 0, RETRY_MS);
		reap_children();
	}
	serve(children);
	kill_commands();
	greeted = false;
	in_bytes = out_start = out_bytes = 0;
	if (listener >= 0) {
		close(host);
		host = -1;
		return;
	}
	/* The port says "hung up" until a host opens its end again; it stays open here. */
	poll(NULL, 0, RETRY_MS);
	reap_children();
}

int main(int argc, char **argv)
{
	const struct sched_param real_time = { .sched_priority = 1 };
	int listener = -1, children;
	sigset_t child;

	if (argc == 2 && !strcmp(argv[1], "--sentinel"))
		return sentinel();
	if (argc == 3 && !strcmp(argv[1], "--socket")) {
		listener = listen_at(argv[2]);
		if (listener < 0) {
			perror(argv[2]);
			return 1;
		}
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	} else if (argc != 1) {
		fprintf(stderr, "usage: agent [--socket PATH | --sentinel]\n");
		return 2;
	}
	is_init = listener < 0 && getpid() == 1;
	/* Commands that spin must not keep the host waiting; what they run does not inherit it. */
	if (is_init)
		sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &real_time);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	children = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
	if (children < 0) {
		perror("signalfd");
		return 1;
	}
	for (;;)
		serve_next(listener, children);
}
