/* SPDX-License-Identifier: MIT */
/* What the files of the load generator share. README.md says what it measures and how. */
#ifndef LOAD_LOAD_H
#define LOAD_LOAD_H

#include "../common/cputime.h"
#include "../common/options.h"
#include "histogram.h"
#include "protocol.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOAD_CONNECTIONS_MAX 100000
#define LOAD_THREADS_MAX 1024
#define LOAD_INTERVALS_MAX 256
#define LOAD_MESSAGE_MAX (1u << 20)
#define LOAD_PIPELINE_MAX 1000
#define LOAD_NEVER UINT64_MAX
/* A thread busy for more than this share of the window may have been the bottleneck. */
#define LOAD_SATURATED_SHARE 0.9

enum engine { ENGINE_EPOLL, ENGINE_THREADS };
enum wait_mode { WAIT_SLEEP, WAIT_SPIN };
enum arrivals { ARRIVALS_EVEN, ARRIVALS_POISSON };
enum on_error { ON_ERROR_STOP, ON_ERROR_COUNT };

struct settings {
	const char *address; /* as given: HOST:PORT */
	char host[256];
	int port;
	uint64_t connections;
	uint64_t message_bytes;
	unsigned int protocol;
	uint64_t pipeline; /* commands sent at once */
	uint64_t threads;
	unsigned int engine;
	unsigned int wait;
	struct cpu_list cpus;	 /* of the sending threads */
	struct cpu_list control; /* of the thread that opens and closes the window */
	uint64_t warmup_ns;
	uint64_t duration_ns;
	uint64_t requests; /* 0: the window ends by time */
	uint64_t intervals;
	uint64_t interval_ns; /* length of each but perhaps the last, when the window ends by time */
	double rate; /* requests per second of all connections; 0: closed loop */
	unsigned int arrivals;
	uint64_t seed;
	uint64_t timeout_ns; /* longest wait for a connection, and for a reply */
	unsigned int on_error;
	bool clock_hints;
	uint64_t account_pid;
	const char *json_path; /* NULL: a summary for people on stdout; "-": JSON on stdout */
};

enum error_kind {
	ERROR_CONNECT,	   /* no connection within the timeout */
	ERROR_RESET,	   /* connection reset or broken */
	ERROR_CLOSED,	   /* end of stream in the middle of a reply or instead of one */
	ERROR_TIMEOUT,	   /* no complete reply within the timeout: lost or short */
	ERROR_WRONG_BYTES, /* a byte of a reply is not the one sent */
	ERROR_EXTRA_BYTES, /* more came back than was sent */
	ERROR_OTHER,
	ERROR_KINDS,
};
extern const char *const error_names[ERROR_KINDS];

/*
 * The measured window. Written by the control thread (and the one that completes the last request), read by
 * all. A thread sees that the window is open by its start being no longer LOAD_NEVER.
 */
struct window {
	_Atomic uint64_t start_ns; /* CLOCK_MONOTONIC_RAW */
	_Atomic uint64_t end_ns;
	_Atomic bool stop;	    /* send nothing new; end once the replies are in */
	_Atomic bool failed;	    /* end at once */
	_Atomic uint64_t tickets;   /* requests mode: handed out */
	_Atomic uint64_t completed; /* requests mode: tickets whose reply is in */
	_Atomic uint32_t alive;	    /* connections that have not failed */
	int event_fd;		    /* wakes the control thread: failed, all requests done, or nobody alive */
	pthread_mutex_t first_lock;
	char first_error[512]; /* under first_lock */
	pthread_barrier_t connected, begin;
	uint64_t schedule_ns; /* open loop: when it begins; set before the second barrier */
};

struct interval {
	uint64_t first_ns, last_ns; /* completions; LOAD_NEVER and 0 when there was none */
	struct histogram latency;   /* its count is the number of requests */
};

#define NO_TICKET UINT64_MAX

struct connection {
	int fd; /* -1 once it has failed */
	uint32_t id;
	bool busy;	   /* a request is under way */
	bool waits_to_send; /* engine epoll: EPOLLOUT is asked for */
	uint32_t sent, received; /* bytes of the request under way */
	uint64_t sequence;	 /* of the request under way, or the next */
	struct exchange exchange; /* of that request */
	uint64_t start_ns; /* where its latency begins: intended time in an open loop, else when sending began */
	uint64_t sent_ns;  /* when sending began */
	uint64_t ticket;
	uint64_t due_ns; /* open loop: intended time of the next request */
	uint64_t due_number;
};

/* One sending thread. */
struct sender {
	const struct settings *settings;
	struct window *window;
	pthread_t handle;
	unsigned int index;
	pid_t tid;
	struct connection **connections;
	unsigned int connection_count;
	unsigned int busy_count;
	unsigned char *buffer; /* received bytes and bytes to send pass through it */
	size_t buffer_bytes;
	struct interval *intervals;
	struct histogram *lateness; /* open loop: by how much a request of a free connection began late */
	uint64_t random;	    /* state of the arrival times */
	/* Of the whole life, warm-up and end included. */
	uint64_t total_requests, total_bytes;
	/* Within the window. */
	uint64_t completed; /* replies whose completion fell into it */
	uint64_t blocked_ns;
	/* Open loop: of the window's requests, those never sent or answered. */
	uint64_t unanswered;
	uint64_t errors[ERROR_KINDS];
	uint64_t streams_left_open; /* connections whose peer did not close after we did */
};

/* connection.c */

/* Connects within the timeout and prepares what requests need. Returns 0, or -1 after counting an error. */
int connection_open(struct sender *sender, struct connection *connection);
/* Begins a request at @now. The engine then calls connection_send(). */
void connection_begin(struct sender *sender, struct connection *connection, uint64_t start_ns, uint64_t now);
/*
 * Sends what is left of the request without blocking. Returns false when the connection failed. All is sent when
 * @connection->sent has reached the request's size.
 */
bool connection_send(struct sender *sender, struct connection *connection);
enum receive_result { RECEIVE_AGAIN, RECEIVE_PART, RECEIVE_DONE, RECEIVE_FAILED };
/* Receives once (@flags: MSG_DONTWAIT or 0) and checks every byte. On RECEIVE_DONE the reply is recorded. */
enum receive_result connection_receive(struct sender *sender, struct connection *connection, int flags);
/* Takes a ticket when one is needed. Returns false when no further request may begin. */
bool connection_may_begin(struct sender *sender, struct connection *connection);
/* Counts an error and ends the connection; ends the run unless errors are only counted. */
void connection_fail(struct sender *sender, struct connection *connection, enum error_kind kind, const char *format,
		     ...) __attribute__((format(printf, 4, 5)));
/* Fails the connection if its request has been under way for longer than the timeout. */
void connection_check_age(struct sender *sender, struct connection *connection, uint64_t now);
/* Half-closes all connections and reads on to the end of each: no byte may follow the last reply. */
void connections_finish(struct sender *sender);

/* schedule.c: the open loop */

void schedule_start(struct sender *sender, uint64_t start_ns);
/* Moves a connection on to its next request. */
void schedule_advance(struct sender *sender, struct connection *connection);
/* Counts the window's requests that have not been answered; the schedule is used up by that. */
uint64_t schedule_unanswered(struct sender *sender);

/* engine_epoll.c, engine_threads.c: the body of a sending thread between connecting and finishing */
void engine_epoll(struct sender *sender);
void engine_threads(struct sender *sender);

/* window.c */

void window_init(struct window *window);
/* Nanoseconds of [from, to] that lie in the window. */
uint64_t window_overlap(const struct window *window, uint64_t from, uint64_t to);
/* Records a reply that came in at @now. */
void window_record(struct sender *sender, struct connection *connection, uint64_t now);
/* Requests mode: the ticket of a request is used up, answered or not. The last one ends the window. */
void window_return_ticket(struct window *window, const struct settings *settings, uint64_t now);
void window_wake(struct window *window);
/* Sleeps until @until_ns or an event. Returns false when it was an event. */
bool window_sleep(struct window *window, uint64_t until_ns);

/* accounting.c: the CPU use of the server, of this machine and of this process */

struct cpu_ticks {
	uint64_t user, nice, system, idle, iowait, irq, softirq, steal; /* nanoseconds */
};

struct accounting_sample {
	struct cpu_sample own, server, softirqd;
	unsigned int cpu_count;
	struct cpu_ticks cpus[CPUS_MAX];
};

struct accounting {
	pid_t pid;	/* 0: the server is not ours to account for */
	int socket;	/* to an echo server's control thread, or -1 */
	uint64_t tick_ns; /* how old a time from schedstat may be; 0 when the server says it */
	unsigned int softirqd_count;
	pid_t softirqd[CPUS_MAX];
	struct accounting_sample start, end;
};

void accounting_open(struct accounting *accounting, pid_t pid);
void accounting_sample(struct accounting *accounting, struct accounting_sample *sample);
void accounting_json(const struct accounting *accounting, struct json *json, const char *key);
/* CPU time this process's thread used between the samples. */
uint64_t accounting_own(const struct accounting *accounting, pid_t tid);
/* The same as a share of the time between the two readings of that thread, 0 to 1. */
double accounting_own_share(const struct accounting *accounting, pid_t tid);
void accounting_close(struct accounting *accounting);

/* report.c */

struct result {
	const struct settings *settings;
	const struct window *window;
	const struct sender *senders;
	const struct accounting *accounting;
	uint64_t connected_ns; /* how long connecting took */
};

/* Prints as the settings say. Returns the program's exit code. */
int report(const struct result *result);

#endif
