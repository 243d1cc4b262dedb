/* SPDX-License-Identifier: MIT */
/* Setting the FastIO echo server up: its arguments, its rings. What it does with them is in fastio.c. */
#ifndef ECHO_FASTIO_SETUP_H
#define ECHO_FASTIO_SETUP_H

#include "common/outbox.h"
#include "common/serve.h"

#include <fastio.h>

#define LANES_MAX (FASTIO_MAX_WORKERS + 1)
#define NOBODY ~0u /* no connection */

enum mode { MODE_FUSED, MODE_ONESHOT, MODE_MULTISHOT };
enum wait_mode { WAIT_SLEEP, WAIT_SPIN };

struct fastio_options {
	unsigned int mode, wait, backend;
	const char *conf;
	uint64_t workers, self_weight, self_batch, idle_us, batch, buffers;
	bool workers_given, hybrid, self_weight_given, self_batch_given, idle_given;
};
extern struct fastio_options options;

/* A connection that is free or waits for a provided buffer; one that waits for room in the submission queue. */
enum link { LINK_FREE_OR_STARVED, LINK_DEFERRED, LINKS };

struct connection {
	int fd;
	struct lane *lane;
	unsigned int next[LINKS];
	unsigned char wants;
	bool deferred;	/* on the lane's list since it wants something */
	bool receiving; /* an operation that receives is in flight */
	bool sending;	/* an operation that only sends is in flight */
	bool pausing;	/* the receive is being cancelled */
	bool starved;	/* waits for a provided buffer */
	bool slotless;	/* there was no descriptor for its slot, which the user-space back end takes */
	bool ended;	/* the peer sends no more */
	bool failed;	/* give up */
	bool closing;	/* its descriptor is being closed */
	bool closed;
	int error;	/* what it failed with */
	struct outbox outbox; /* multishot */
	uint32_t received;    /* fused and oneshot: bytes to send back */
};

/* Connections in order, by index. One can be on a list of each link. */
struct list {
	unsigned int first, last;
	enum link link;
};

/* A ring and what belongs to it. */
struct lane {
	struct application *application;
	struct fastio_queue *queue;
	struct pool pool;
	struct fastio_bufs provided;
	struct list starved, deferred;
	unsigned int connection_count;
};

/* An application thread with its rings. */
struct application {
	struct fastio *fio;
	struct serve_thread *thread;
	struct lane lanes[LANES_MAX];
	struct connection *connections;
	char *buffers; /* one for each connection, by index */
	unsigned int free_first;
	unsigned int dealt, next_target;
	unsigned int lane_connections_max;
	int mailbox[2]; /* descriptors of connections that thread 0 accepted for this one */
	unsigned int due; /* DUE_* */
	unsigned int listed; /* entries of all lanes' lists */
	bool stop;
	enum fastio_backend backend;
	struct fastio_stats stats[LANES_MAX];
	unsigned int lane_count;
};

extern struct application *applications[SERVE_THREADS_MAX];

/* Parses the arguments and reads fastio.conf. Ends the program when they make no sense. */
void setup_options(int argc, char **argv, struct serve_options *serve, struct server *server);
/* Makes the rings of an application thread, starts their workers and makes room for connections. */
void setup_application(struct application *application,
		       void (*provide)(struct pool *pool, char *bytes, unsigned int id));
/* Adds what only this server has to the statistics. */
void setup_statistics(struct server *server, struct json *json);

#endif
