/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "serve.h"

#include "cputime.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STOP_DEADLINE_MS 5000	  /* threads that have not stopped by then are stuck */
#define DESCRIPTORS_KEPT_BACK 128 /* for everything that is not a connection */
#define CONNECTIONS_MAX 1000000
#define SAMPLERS_MAX 4 /* connections to the control thread */

static const char *const accept_names[] = { "reuseport", "balanced", NULL };

/* The control thread's own; set up before it starts. */
static struct {
	pthread_t thread;
	struct server *server;
	int done_fd;		/* readable once all server threads have ended */
	bool private_table;	/* its descriptor table is its own */
	struct cpu_sample last; /* taken when asked to stop */
	pthread_barrier_t started;
} control;

static pthread_mutex_t ready_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int ready_count;

struct option_table serve_option_table(struct serve_options *options)
{
	static struct option_spec specs[8];
	struct option_table table = { specs, 7 };

	*options = (struct serve_options){
		.address = "127.0.0.1", .port = 12345, .threads = 1, .buffer_bytes = 16384,
	};
	specs[0] = (struct option_spec){ "address", 0, OPTION_TEXT, &options->address, 1, 64, NULL,
					 "IPv4 or IPv6 address to listen on", NULL };
	specs[1] = (struct option_spec){ "port", 'p', OPTION_COUNT, &options->port, 0, 65535, NULL,
					 "port; 0 lets the system choose", NULL };
	specs[2] = (struct option_spec){ "threads", 't', OPTION_COUNT, &options->threads, 1, SERVE_THREADS_MAX, NULL,
					 "serving threads", &options->threads_given };
	specs[3] = (struct option_spec){ "cpus", 0, OPTION_CPUS, &options->cpus, 0, 0, NULL,
					 "pin thread i to the i-th of these CPUs", NULL };
	specs[4] = (struct option_spec){ "buffer-bytes", 0, OPTION_COUNT, &options->buffer_bytes, 64, 1 << 20, NULL,
					 "most bytes one receive takes", NULL };
	specs[5] = (struct option_spec){ "max-connections", 0, OPTION_COUNT, &options->max_connections, 0,
					 CONNECTIONS_MAX, NULL,
					 "of each thread; 0: what the descriptor limit allows", NULL };
	specs[6] = (struct option_spec){ "accept", 0, OPTION_CHOICE, &options->accept, 0, 0, accept_names,
					 "the kernel spreads connections by hash, or thread 0 deals them out", NULL };
	return table;
}

/* ------------------------------------------------------------------ set-up */

/* As many descriptors as allowed; returns how many connections each thread may hold. */
static unsigned int raise_limits(const struct serve_options *options)
{
	struct rlimit limit;
	rlim_t room;
	int last;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die(EXIT_ENVIRONMENT, "cannot read the descriptor limit: %s", strerror(errno));
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die(EXIT_ENVIRONMENT, "cannot raise the descriptor limit: %s", strerror(errno));
	if (limit.rlim_cur <= 2 * DESCRIPTORS_KEPT_BACK)
		die(EXIT_ENVIRONMENT, "found a limit of %llu descriptors, expected more than %d: raise `ulimit -n`",
		    (unsigned long long)limit.rlim_cur, 2 * DESCRIPTORS_KEPT_BACK);
	room = limit.rlim_cur - DESCRIPTORS_KEPT_BACK;
	if (room > 16384)
		room = 16384;
	if (options->max_connections > limit.rlim_cur - DESCRIPTORS_KEPT_BACK)
		die(EXIT_USAGE, "--max-connections: found %llu, expected at most %llu, the descriptor limit",
		    (unsigned long long)options->max_connections,
		    (unsigned long long)(limit.rlim_cur - DESCRIPTORS_KEPT_BACK));
	if (options->max_connections)
		room = options->max_connections;

	/*
	 * Growing the table of descriptors while threads share it waits for an RCU grace period each time it
	 * doubles. Grow it now, so that no connection pays for that.
	 */
	last = fcntl(0, F_DUPFD_CLOEXEC, (int)(room + DESCRIPTORS_KEPT_BACK) - 1);
	if (last >= 0)
		close(last);
	return (unsigned int)room;
}

static int open_listener(const struct serve_options *options, int port, bool shared)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	bool is_four = inet_pton(AF_INET, options->address, &four.sin_addr) == 1;
	struct sockaddr *address = is_four ? (struct sockaddr *)&four : (struct sockaddr *)&six;
	socklen_t length = is_four ? sizeof(four) : sizeof(six);
	int on = 1, fd;

	if (!is_four && inet_pton(AF_INET6, options->address, &six.sin6_addr) != 1)
		die(EXIT_USAGE, "--address: found \"%s\", expected an IPv4 or IPv6 address", options->address);
	fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die(EXIT_ENVIRONMENT, "cannot make a socket: %s", strerror(errno));
	/* Connections inherit TCP_NODELAY: an echo must not wait for an acknowledgement. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on))))
		die(EXIT_ENVIRONMENT, "cannot set socket options: %s", strerror(errno));
	if (bind(fd, address, length))
		die(EXIT_ENVIRONMENT, "cannot listen on %s port %d: %s", options->address, port, strerror(errno));
	return fd;
}

static int port_of(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length))
		die(EXIT_ENVIRONMENT, "getsockname: %s", strerror(errno));
	if (address.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)&address)->sin_port);
	return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
}

static void open_listeners(struct server *server)
{
	const struct serve_options *options = server->options;
	unsigned int listeners = options->accept == ACCEPT_BALANCED ? 1 : (unsigned int)options->threads;

	server->port = (int)options->port;
	if (listeners > 1) {
		/*
		 * SO_REUSEPORT would let a second server share our port unnoticed. A socket without it finds out
		 * whether somebody is there, and which port is free.
		 */
		int probe = open_listener(options, server->port, false);

		server->port = port_of(probe);
		close(probe);
	}
	for (unsigned int i = 0; i < options->threads; i++) {
		int fd;

		server->threads[i].listen_fd = -1;
		if (i >= listeners)
			continue;
		fd = open_listener(options, server->port, listeners > 1);
		if (listen(fd, 65535))
			die(EXIT_ENVIRONMENT, "cannot listen on %s port %d: %s", options->address, server->port,
			    strerror(errno));
		server->port = port_of(fd);
		server->threads[i].listen_fd = fd;
	}
}

/* ------------------------------------------------------------------ control thread */

static int open_sampler(void)
{
	struct sockaddr_un address;
	unsigned int length = cputime_address(getpid(), &address);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, SAMPLERS_MAX)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* One byte asks for one sample. Returns false when the asker has gone. */
static bool answer_sampler(int fd)
{
	struct cpu_sample sample = { 0 };
	char byte;
	int ret;

	if (recv(fd, &byte, 1, 0) <= 0)
		return false;
	ret = cputime_sample_self(&sample);
	if (!ret)
		ret = cputime_send(fd, &sample);
	cputime_free(&sample);
	return !ret;
}

static void stop_threads(struct server *server)
{
	uint64_t one = 1;
	struct pollfd done = { .fd = control.done_fd, .events = POLLIN };

	if (cputime_sample_self(&control.last))
		complain("no CPU times: /proc is not readable");
	for (unsigned int i = 0; i < server->options->threads; i++) {
		if (write(server->threads[i].stop_fd, &one, sizeof(one)) < 0)
			die(EXIT_SAID_NO, "cannot stop a thread: %s", strerror(errno));
	}
	if (poll(&done, 1, STOP_DEADLINE_MS) <= 0) {
		complain("a serving thread did not stop within %d ms", STOP_DEADLINE_MS);
		_exit(EXIT_SAID_NO);
	}
}

static void *control_thread(void *argument)
{
	struct server *server = argument;
	struct pollfd polls[2 + SAMPLERS_MAX];
	nfds_t count = 2;
	sigset_t stops;

	pthread_setname_np(pthread_self(), "echo-control");
	/*
	 * Some containers refuse unshare(2) as a whole; close_range(2) of no descriptor at all does the same.
	 * ThreadSanitizer knows only one table, and would take equal numbers for equal descriptors.
	 */
#ifndef __SANITIZE_THREAD__
	control.private_table = !unshare(CLONE_FILES) || !close_range(~0U, ~0U, CLOSE_RANGE_UNSHARE);
#endif
	sigemptyset(&stops);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGINT);
	polls[0] = (struct pollfd){ signalfd(-1, &stops, SFD_CLOEXEC), POLLIN, 0 };
	if (polls[0].fd < 0)
		die(EXIT_ENVIRONMENT, "signalfd: %s", strerror(errno));
	polls[1] = (struct pollfd){ open_sampler(), POLLIN, 0 };
	pthread_barrier_wait(&control.started);

	while (!(poll(polls, count, -1) > 0 && polls[0].revents)) {
		for (nfds_t i = 2; i < count; i++) {
			if (!polls[i].revents || answer_sampler(polls[i].fd))
				continue;
			close(polls[i].fd);
			polls[i--] = polls[--count];
		}
		if (polls[1].revents) {
			int fd = accept4(polls[1].fd, NULL, NULL, SOCK_CLOEXEC);

			if (fd < 0)
				continue;
			if (count == 2 + SAMPLERS_MAX)
				close(fd);
			else
				polls[count++] = (struct pollfd){ fd, POLLIN, 0 };
		}
	}
	stop_threads(server);
	while (count--) {
		if (polls[count].fd >= 0)
			close(polls[count].fd);
	}
	return NULL;
}

void serve_start(struct server *server, const char *name, const struct serve_options *options)
{
	unsigned int threads = (unsigned int)options->threads;
	sigset_t stops;

	server->name = name;
	server->options = options;
	cpus_require(&options->cpus, "--cpus", threads + server->extra_cpus, "threads");
	server->max_connections = raise_limits(options);
	server->threads = aligned_alloc(_Alignof(struct serve_thread), threads * sizeof(*server->threads));
	if (!server->threads)
		die(EXIT_ENVIRONMENT, "out of memory");
	memset(server->threads, 0, threads * sizeof(*server->threads));

	/* Blocked in every thread to come, so that only the control thread's signalfd sees them. */
	sigemptyset(&stops);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGINT);
	pthread_sigmask(SIG_BLOCK, &stops, NULL);
	signal(SIGPIPE, SIG_IGN);

	control.done_fd = eventfd(0, EFD_CLOEXEC);
	for (unsigned int i = 0; i < threads; i++) {
		server->threads[i].server = server;
		server->threads[i].index = i;
		server->threads[i].stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (server->threads[i].stop_fd < 0 || control.done_fd < 0)
			die(EXIT_ENVIRONMENT, "eventfd: %s", strerror(errno));
	}
	pthread_barrier_init(&control.started, NULL, 2);
	if (pthread_create(&control.thread, NULL, control_thread, server))
		die(EXIT_ENVIRONMENT, "cannot start a thread");
	/* The sockets come after it has taken leave of our table, so that it never holds one open. */
	pthread_barrier_wait(&control.started);
	open_listeners(server);
}

/* ------------------------------------------------------------------ running */

void serve_ready(struct serve_thread *thread)
{
	struct server *server = thread->server;

	pthread_mutex_lock(&ready_lock);
	if (++ready_count == server->options->threads) {
		printf("READY port=%d pid=%d server=%s\n", server->port, (int)getpid(), server->name);
		if (fflush(stdout))
			die(EXIT_ENVIRONMENT, "cannot write to stdout: %s", strerror(errno));
	}
	pthread_mutex_unlock(&ready_lock);
}

struct start {
	struct serve_thread *thread;
	void (*run)(struct serve_thread *thread);
};

static void *run_thread(void *argument)
{
	struct start *start = argument;
	char name[16];

	snprintf(name, sizeof(name), "echo-%u", start->thread->index);
	pthread_setname_np(pthread_self(), name);
	cpus_pin(&start->thread->server->options->cpus, start->thread->index);
	start->run(start->thread);
	return NULL;
}

static void print_statistics(struct server *server, void (*extra)(struct server *server, struct json *json))
{
	struct serve_counters sum = { 0 };
	struct json json = { .file = stdout };
	uint64_t cpu_ns = 0;

	json_object(&json, NULL);
	json_text(&json, "schema", "fastio-echo-server");
	json_count(&json, "version", 1);
	json_text(&json, "server", server->name);
	json_count(&json, "port", (uint64_t)server->port);
	for (unsigned int i = 0; i < server->options->threads; i++) {
		const struct serve_counters *counters = &server->threads[i].counters;

		sum.requests += counters->requests;
		sum.bytes += counters->bytes;
		sum.accepted += counters->accepted;
		sum.refused += counters->refused;
		sum.closed += counters->closed;
		sum.resets += counters->resets;
		sum.stalls += counters->stalls;
		sum.errors += counters->errors;
	}
	json_count(&json, "requests", sum.requests);
	json_count(&json, "bytes", sum.bytes);
	json_count(&json, "accepted", sum.accepted);
	json_count(&json, "refused", sum.refused);
	json_count(&json, "closed", sum.closed);
	json_count(&json, "resets", sum.resets);
	json_count(&json, "stalls", sum.stalls);
	json_count(&json, "errors", sum.errors);
	json_array(&json, "requestsByThread");
	for (unsigned int i = 0; i < server->options->threads; i++)
		json_count(&json, NULL, server->threads[i].counters.requests);
	json_end_array(&json);
	json_bool(&json, "controlThreadApart", control.private_table);
	if (extra)
		extra(server, &json);
	json_array(&json, "threads");
	for (unsigned int i = 0; i < control.last.count; i++) {
		const struct thread_time *thread = &control.last.threads[i];

		json_object(&json, NULL);
		json_count(&json, "tid", (uint64_t)thread->tid);
		json_text(&json, "name", thread->name);
		json_count(&json, "cpuNs", thread->cpu_ns);
		json_end_object(&json);
		cpu_ns += thread->cpu_ns;
	}
	json_end_array(&json);
	json_count(&json, "cpuNs", cpu_ns);
	json_end_object(&json);
	putchar('\n');
	cputime_free(&control.last);
}

int serve_run(struct server *server, void (*run)(struct serve_thread *thread),
	      void (*extra)(struct server *server, struct json *json))
{
	unsigned int threads = (unsigned int)server->options->threads;
	pthread_t handles[SERVE_THREADS_MAX];
	struct start starts[SERVE_THREADS_MAX];
	uint64_t one = 1;

	for (unsigned int i = 0; i < threads; i++)
		starts[i] = (struct start){ &server->threads[i], run };
	for (unsigned int i = 1; i < threads; i++) {
		if (pthread_create(&handles[i], NULL, run_thread, &starts[i]))
			die(EXIT_ENVIRONMENT, "cannot start a thread");
	}
	run_thread(&starts[0]);
	for (unsigned int i = 1; i < threads; i++)
		pthread_join(handles[i], NULL);
	if (write(control.done_fd, &one, sizeof(one)) < 0)
		die(EXIT_SAID_NO, "cannot stop the control thread: %s", strerror(errno));
	pthread_join(control.thread, NULL);
	print_statistics(server, extra);
	for (unsigned int i = 0; i < threads; i++) {
		if (server->threads[i].listen_fd >= 0)
			close(server->threads[i].listen_fd);
		close(server->threads[i].stop_fd);
	}
	close(control.done_fd);
	free(server->threads);
	return fflush(stdout) ? EXIT_ENVIRONMENT : 0;
}

bool serve_accept_failed(struct serve_thread *thread, int error)
{
	/* The peer gave up before we got to it: its business. */
	if (error == ECONNABORTED || error == EAGAIN || error == EINTR)
		return false;
	thread->counters.errors++;
	return true;
}

void serve_closed(struct serve_thread *thread, int error)
{
	thread->counters.closed++;
	if (error == ECONNRESET || error == EPIPE || error == ETIMEDOUT)
		thread->counters.resets++;
	else if (error)
		thread->counters.errors++;
}
