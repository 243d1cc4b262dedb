/* SPDX-License-Identifier: MIT */
/*
 * A client no server likes: bytes one at a time, half-closed streams, resets in the middle of a message, peers
 * that do not read, thousands of connections at once. Every byte that comes back is checked. Exits with 0 when
 * the server stood it, with 1 and one line when it did not.
 */
#define _GNU_SOURCE
#include "../common/cputime.h"
#include "../common/options.h"
#include "../load/pattern.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_NS 60000000000ull /* of a scenario; far more than any takes */
#define STUCK_NS 300000000ull	   /* a stream that has not moved for so long waits for us */
#define PROMPT_NS 2000000000ull	   /* no reply may take longer because others do not read */
#define KIB 1024u
#define MIB (1024u * KIB)

static uint64_t port, pid;
static const char *scenario;
static uint64_t deadline;
static unsigned char scratch[256 * KIB];

static void __attribute__((noreturn, format(printf, 1, 2))) failed(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "nasty: %s: ", scenario);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	exit(EXIT_SAID_NO);
}

/* ------------------------------------------------------------------ streams */

struct stream {
	int fd;
	uint64_t key;
	size_t total, sent, received;
	size_t write_max, read_max; /* most bytes of one call */
	bool half_close;	    /* say that it was all, and expect the same */
	bool holds;		    /* does not read */
	bool ended;
};

static int connect_server(int receive_buffer)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0)
		failed("socket: %s", strerror(errno));
	/* Before connecting, so that the window the server sees is small from the start. */
	if (receive_buffer && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer)))
		failed("setsockopt: %s", strerror(errno));
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)))
		failed("connect: %s", strerror(errno));
	return fd;
}

static struct stream make_stream(int fd, unsigned int number, size_t total, size_t write_max, size_t read_max,
				 bool half_close)
{
	return (struct stream){
		.fd = fd, .key = pattern_key(7, number, 0), .total = total,
		.write_max = write_max, .read_max = read_max, .half_close = half_close,
	};
}

static struct stream open_stream(unsigned int number, size_t total, size_t write_max, size_t read_max, bool half_close)
{
	return make_stream(connect_server(0), number, total, write_max, read_max, half_close);
}

/* Returns whether anything went. */
static bool stream_write(struct stream *stream)
{
	size_t length = stream->total - stream->sent;
	ssize_t sent;

	if (!length)
		return false;
	if (length > stream->write_max)
		length = stream->write_max;
	if (length > sizeof(scratch))
		length = sizeof(scratch);
	pattern_fill(scratch, stream->key, stream->sent, length);
	sent = send(stream->fd, scratch, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0) {
		if (errno == EAGAIN)
			return false;
		failed("send after %zu of %zu bytes: %s", stream->sent, stream->total, strerror(errno));
	}
	stream->sent += (size_t)sent;
	if (stream->sent == stream->total && stream->half_close)
		shutdown(stream->fd, SHUT_WR);
	return true;
}

static bool stream_read(struct stream *stream)
{
	size_t length = stream->read_max < sizeof(scratch) ? stream->read_max : sizeof(scratch), good;
	ssize_t received;

	if (stream->holds || stream->ended)
		return false;
	received = recv(stream->fd, scratch, length, MSG_DONTWAIT);
	if (received < 0) {
		if (errno == EAGAIN)
			return false;
		failed("recv after %zu of %zu bytes: %s", stream->received, stream->total, strerror(errno));
	}
	if (!received) {
		if (!stream->half_close || stream->received != stream->total)
			failed("the stream ended after %zu of %zu bytes", stream->received, stream->total);
		stream->ended = true;
		return true;
	}
	good = pattern_check(scratch, stream->key, stream->received, (size_t)received);
	if (good < (size_t)received)
		failed("byte %zu of %zu came back wrong", stream->received + good, stream->total);
	stream->received += (size_t)received;
	if (stream->received > stream->sent)
		failed("%zu bytes came back, but only %zu were sent", stream->received, stream->sent);
	return true;
}

static bool stream_done(const struct stream *stream)
{
	return stream->received == stream->total && (stream->ended || !stream->half_close);
}

/*
 * Moves the streams on until all are done, or until nothing has moved for STUCK_NS (which is what is wanted of
 * streams that hold). Returns whether all are done.
 */
static bool run_streams(struct stream *streams, unsigned int count)
{
	struct pollfd *polls = calloc(count, sizeof(*polls));
	uint64_t moved = now_ns();
	unsigned int left = count;

	if (!polls)
		failed("out of memory");
	while (left) {
		uint64_t now = now_ns();

		if (now > deadline)
			failed("%u of %u streams did not end in time", left, count);
		if (now - moved > STUCK_NS) {
			bool holds = false;

			for (unsigned int i = 0; i < count; i++)
				holds = holds || streams[i].holds;
			if (holds)
				break;
		}
		for (unsigned int i = 0; i < count; i++) {
			struct stream *stream = &streams[i];
			short events = 0;

			if (!stream->holds && !stream_done(stream))
				events |= POLLIN;
			if (stream->sent < stream->total)
				events |= POLLOUT;
			polls[i] = (struct pollfd){ events ? stream->fd : -1, events, 0 };
		}
		if (poll(polls, count, 100) < 0)
			failed("poll: %s", strerror(errno));
		left = 0;
		for (unsigned int i = 0; i < count; i++) {
			struct stream *stream = &streams[i];

			if (polls[i].fd >= 0 && polls[i].revents) {
				if (stream_write(stream) | stream_read(stream))
					moved = now_ns();
			}
			left += !stream_done(stream);
		}
	}
	free(polls);
	return !left;
}

static void close_streams(struct stream *streams, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		close(streams[i].fd);
}

static void run_alike(unsigned int count, size_t total, size_t write_max, size_t read_max, bool half_close)
{
	struct stream *streams = calloc(count, sizeof(*streams));

	if (!streams)
		failed("out of memory");
	for (unsigned int i = 0; i < count; i++)
		streams[i] = open_stream(i, total, write_max, read_max, half_close);
	run_streams(streams, count);
	close_streams(streams, count);
	free(streams);
}

/* Asks and is answered on one connection; the longest wait must stay below PROMPT_NS. */
static void be_answered(unsigned int times)
{
	struct stream stream = open_stream(99999, 0, 512, 512, false);

	for (unsigned int i = 0; i < times; i++) {
		uint64_t asked = now_ns();

		stream.total += 512;
		run_streams(&stream, 1);
		if (now_ns() - asked > PROMPT_NS)
			failed("a reply took %.1f s", (double)(now_ns() - asked) / 1e9);
	}
	close(stream.fd);
}

/* ------------------------------------------------------------------ scenarios */

static void one_byte(void)
{
	run_alike(8, 1000, 1, 1, false);
}

static void half_close(void)
{
	static const size_t totals[] = { 0, 1, 512, 64 * KIB, MIB };

	for (unsigned int i = 0; i < sizeof(totals) / sizeof(totals[0]); i++) {
		struct stream stream = open_stream(i, totals[i], sizeof(scratch), sizeof(scratch), true);

		if (!totals[i])
			shutdown(stream.fd, SHUT_WR);
		run_streams(&stream, 1);
		close(stream.fd);
	}
}

static void fragments(void)
{
	/* Neither divides the other, nor any buffer. */
	run_alike(16, 100000, 1009, 613, true);
	run_alike(16, 100000, 613, 7919, true);
}

static void big(void)
{
	run_alike(4, 8 * MIB, sizeof(scratch), sizeof(scratch), true);
}

static void many(void)
{
	run_alike(2000, 300, 100, 300, true);
}

/* Ends connections in the middle of everything, as hard as can be. */
static void reset(void)
{
	for (unsigned int i = 0; i < 300; i++) {
		struct linger hard = { 1, 0 };
		struct stream stream = open_stream(i, 64 * KIB, 1 + i * 217, 1 + i * 31, false);

		for (unsigned int j = 0; j < i % 5; j++)
			stream_write(&stream);
		if (i % 3 == 1)
			stream_read(&stream);
		if (i % 7 == 2)
			shutdown(stream.fd, SHUT_WR);
		setsockopt(stream.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close(stream.fd);
	}
	be_answered(50);
}

static size_t resident_bytes(void)
{
	unsigned long pages = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%llu/statm", (unsigned long long)pid);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%*u %lu", &pages) != 1)
		failed("cannot read %s", path);
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Peers that send and do not read. Nobody else may notice, and the server's memory must stay as it is. */
static void slow_reader(void)
{
	enum { COUNT = 8 };
	struct stream streams[COUNT];
	size_t before = resident_bytes(), grown;

	for (unsigned int i = 0; i < COUNT; i++) {
		streams[i] = make_stream(connect_server(16 * KIB), i, 64 * MIB, sizeof(scratch), sizeof(scratch), true);
		streams[i].holds = true;
	}
	if (run_streams(streams, COUNT))
		failed("the server took 64 MiB from each of %d peers that do not read", COUNT);
	be_answered(500);
	grown = resident_bytes();
	grown = grown > before ? grown - before : 0;
	/* The half above a buffer or two each is for the allocator and the sanitizers. */
	if (grown > (size_t)COUNT * MIB + 64 * MIB)
		failed("the server's memory grew by %zu MiB for %d peers that do not read", grown / MIB, COUNT);
	for (unsigned int i = 0; i < COUNT; i++) {
		streams[i].holds = false;
		/* What was taken has to come back; no more is sent. */
		streams[i].total = streams[i].sent;
		shutdown(streams[i].fd, SHUT_WR);
	}
	run_streams(streams, COUNT);
	close_streams(streams, COUNT);
}

static unsigned int descriptors(void)
{
	unsigned int count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%llu/fd", (unsigned long long)pid);
	dir = opendir(path);
	if (!dir)
		failed("cannot read %s", path);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Many short lives, some without a word; none may leave a descriptor behind. */
static void churn(void)
{
	unsigned int before = descriptors();

	for (unsigned int i = 0; i < 3000; i++) {
		struct stream stream = open_stream(i, i % 4 ? 64 : 0, 64, 64, i % 2);

		if (stream.total)
			run_streams(&stream, 1);
		close(stream.fd);
	}
	while (descriptors() > before) {
		struct timespec tick = { 0, 10000000 };

		if (now_ns() > deadline)
			failed("%u descriptors before, %u after", before, descriptors());
		nanosleep(&tick, NULL);
	}
}

/* More peers than the server may have descriptors. Those it has keep being served. */
static void crowd(void)
{
	enum { COUNT = 400 };
	struct stream first = open_stream(0, 512, 512, 512, false);
	int fds[COUNT];

	run_streams(&first, 1);
	for (unsigned int i = 0; i < COUNT; i++)
		fds[i] = connect_server(0);
	first.total += 64 * KIB;
	run_streams(&first, 1);
	for (unsigned int i = 0; i < COUNT; i++)
		close(fds[i]);
	close(first.fd);
	be_answered(10);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} scenarios[] = {
		{ "one-byte", one_byte },	{ "half-close", half_close }, { "fragments", fragments }, { "big", big },
		{ "many", many },		{ "reset", reset },	      { "churn", churn },
		{ "slow-reader", slow_reader }, { "crowd", crowd },
	};
	const struct option_spec specs[] = {
		{ "port", 0, OPTION_COUNT, &port, 1, 65535, NULL, "of the server on 127.0.0.1", NULL },
		{ "pid", 0, OPTION_COUNT, &pid, 1, 4194304, NULL, "of the server", NULL },
		{ "scenario", 0, OPTION_TEXT, &scenario, 1, 64, NULL, "which one", NULL },
	};
	const struct option_table table = OPTION_TABLE(specs);
	struct rlimit limit;

	options_parse(argc, argv, "a client no server likes", &table, 1);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	deadline = now_ns() + DEADLINE_NS;
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		if (!scenario || strcmp(scenario, scenarios[i].name))
			continue;
		scenarios[i].run();
		return 0;
	}
	die(EXIT_USAGE, "--scenario: found \"%s\", expected one of those in tests/nasty.c", scenario ? scenario : "");
}
