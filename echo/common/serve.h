/* SPDX-License-Identifier: MIT */
/*
 * What every echo server shares, so that only the I/O differs: arguments, listening sockets, pinned threads,
 * the READY line, orderly stop, and the statistics line.
 *
 * Life of a server: serve_start() makes one listening socket per thread, raises limits and starts a control
 * thread; serve_run() calls the server's own function once per thread, thread 0 being the process's first;
 * SIGTERM or SIGINT makes every thread's stop_fd readable; serve_run() then prints one JSON line.
 *
 * The control thread takes signals and samples CPU time. It has a descriptor table of its own: a second
 * thread in the table would put an atomic on every descriptor look-up of a one-threaded server, and the
 * measurement would change what it measures.
 */
#ifndef ECHO_SERVE_H
#define ECHO_SERVE_H

#include "json.h"
#include "options.h"

#include <stdint.h>

#define SERVE_THREADS_MAX 64
#define SERVE_ACCEPT_RETRY_MS 100 /* how long accepting rests when descriptors ran out */

enum serve_accept { ACCEPT_REUSEPORT, ACCEPT_BALANCED };

struct serve_options {
	const char *address;
	uint64_t port;
	uint64_t threads;
	uint64_t buffer_bytes;
	uint64_t max_connections; /* of each thread; 0: as many as descriptors allow */
	unsigned int accept;	  /* enum serve_accept */
	struct cpu_list cpus;
	bool threads_given;
};

/* Counted by the thread that owns them; read when it has ended. */
struct serve_counters {
	uint64_t requests; /* receives whose bytes were all sent back; a message may take several */
	uint64_t bytes;	   /* sent back */
	uint64_t accepted;
	uint64_t refused; /* closed at once, or not accepted, since the limit of connections was reached */
	uint64_t closed;
	uint64_t resets; /* connections the peer reset */
	uint64_t stalls; /* times a peer did not read and its connection was paused */
	uint64_t errors; /* anything else that failed */
};

struct server;

struct serve_thread {
	struct server *server;
	unsigned int index;
	int listen_fd; /* -1 when another thread accepts for this one */
	int stop_fd;   /* an eventfd */
	void *state;   /* the server's own */
	_Alignas(128) struct serve_counters counters;
};

struct server {
	const char *name;
	const struct serve_options *options;
	unsigned int max_connections; /* of each thread */
	int port;
	struct serve_thread *threads;
	unsigned int extra_cpus; /* how many of --cpus come after those of the threads */
};

/* Options every server has; append the server's own table to the parser's call. */
struct option_table serve_option_table(struct serve_options *options);

/* Starts; ends the program with EXIT_ENVIRONMENT and one line when the machine cannot do it. */
void serve_start(struct server *server, const char *name, const struct serve_options *options);

/* Called by each thread once it can take connections; the last one prints the READY line. */
void serve_ready(struct serve_thread *thread);

/*
 * Runs @run in every thread, waits for them, prints the statistics line. @extra adds the server's own members
 * to it; may be NULL. Returns the exit code.
 */
int serve_run(struct server *server, void (*run)(struct serve_thread *thread),
	      void (*extra)(struct server *server, struct json *json));

/* Counts an error of accept(). Returns true when descriptors ran out and accepting should rest. */
bool serve_accept_failed(struct serve_thread *thread, int error);
/* Counts the end of a connection: 0 for the end of the stream, else the errno it failed with. */
void serve_closed(struct serve_thread *thread, int error);

#endif
