/* SPDX-License-Identifier: MIT */
/*
 * Connections on FastIO's rings, for a server with one event loop. Nothing here knows of a server.
 *
 * A flow is one socket. What arrives is collected in buffers of its lane (one ring pair and its pool
 * of provided buffers) and taken with flow_read(); what flow_write() took goes out with one SEND in
 * flight at a time, the next one carrying everything written meanwhile. Neither makes a system call.
 * Flows that are watched and have something to report wait in a list for flow_next_readable() and
 * flow_next_writable().
 *
 * Everything belongs to the one thread that called rings_open(). After fork() a child may only use
 * flows that were detached: see rings_are_foreign().
 */
#ifndef FASTIO_REDIS_FLOW_H
#define FASTIO_REDIS_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <fastio.h>

/* Bytes of one provided buffer; a request rarely has more. */
#define FLOW_BUFFER_BYTES 8192
/* Distance of two buffers: their beginnings, which all requests fill, fall into different cache sets. */
#define FLOW_BUFFER_STRIDE (FLOW_BUFFER_BYTES + 128)
/* Buffers of one lane at most, a power of two. */
#define FLOW_BUFFERS 512
/*
 * They are provided in steps, when fewer than so many are left: what is received next should go where something was
 * received before, as long as that is enough.
 */
#define FLOW_BUFFERS_STEP 64
#define FLOW_BUFFERS_LOW 16
/* Bytes received but not read, from which on a flow stops receiving; at half of it it goes on. */
#define FLOW_RECEIVE_MAX (256 * 1024)
/* Smaller writes than this are taken even when the send buffer is full: callers do not expect less than all. */
#define FLOW_SMALL_WRITE 1024
/* How long what was written before flow_close() may take to be sent. */
#define FLOW_LINGER_MS 1000
/* Flows that may linger at a time. */
#define FLOW_LINGERING_MAX 1024
/* How long rings_settle() waits for workers that others keep from running. */
#define RINGS_SETTLE_US 5000
/* How long flow_detach() waits for the workers to let go of a socket. */
#define FLOW_DETACH_MS 1000

struct flow_node {
	struct flow_node *before, *after;
};

struct flow_list {
	struct flow_node head;
	size_t length;
};

/* Buffers larger than this are not a flow's own any longer once they are empty. */
#define FLOW_BYTES_KEPT 16384

struct flow_bytes {
	char *at;
	uint32_t capacity, length;
};

struct rings;
struct lane;

/**
 * struct flow - one socket
 * @fd: -1 when there is none any more
 * @lane: ring that executes its operations; NULL before flow_attach() and after flow_detach()
 * @wants: enum flow_want: operations to be submitted
 * @in_flight: SQEs whose last completion has not come
 * @receiving: a multishot receive is armed
 * @pausing: and is being cancelled, because too much was received
 * @sending: a send is in flight
 * @ended: the peer will send no more
 * @closing: flow_close() was called
 * @detaching: flow_detach() waits for it
 * @shut: to be shut down when everything is sent
 * @watch_read: flow_next_readable() may return it
 * @watch_write: flow_next_writable() may return it
 * @error: why the connection broke, or 0
 * @first: oldest provided buffer with bytes received, or -1
 * @last: newest
 * @taken: bytes of @first that were read
 * @received: bytes received but not read
 * @spill: older bytes than those in provided buffers, moved out because nobody reads them
 * @spill_taken: bytes of @spill that were read
 * @out: what is being sent
 * @out_sent: bytes of it that were
 * @next: what is to be sent after it
 * @linger_until_ms: when a closing flow gives up sending
 * @readable, @writable, @deferred, @starved, @lingering: places in lists
 * @all: in the list of all flows that are on rings
 */
struct flow {
	int fd;
	struct lane *lane;
	uint8_t wants;
	uint8_t in_flight;
	bool receiving, pausing, sending, ended, closing, detaching, shut, watch_read, watch_write;
	int error;
	int32_t first, last;
	uint32_t taken;
	size_t received;
	struct flow_bytes spill;
	uint32_t spill_taken;
	struct flow_bytes out;
	uint32_t out_sent;
	struct flow_bytes next;
	uint64_t linger_until_ms;
	struct flow_node readable, writable, deferred, starved, lingering, all;
};

/**
 * struct rings_options - how to set up
 * @workers: donated workers, 0 to 63; 0 is inline
 * @self_weight: see struct fastio_params; not 0 makes it hybrid
 * @idle_us: how long a worker polls before it sleeps, microseconds
 * @flows_max: connections expected at a time
 * @cpus: CPU of each worker, or FASTIO_NO_CPU; in turn when there are fewer than workers
 * @nr_cpus: entries of @cpus; 0 leaves all to the scheduler
 * @send_bytes: most bytes a flow takes ahead of the peer
 * @backend: see enum fastio_backend
 */
struct rings_options {
	unsigned int workers, self_weight, idle_us, flows_max;
	int cpus[FASTIO_MAX_WORKERS];
	unsigned int nr_cpus;
	size_t send_bytes;
	enum fastio_backend backend;
};

/** struct rings_counters - events since rings_open() */
struct rings_counters {
	uint64_t attached, detached, refused, receives, received_bytes, sends, sent_bytes;
	uint64_t starvations, pauses, spills, lingered, abandoned, waits, waited_us, wakes;
};

/**
 * struct lane - a queue and its provided buffers
 * @queue: libfastio's
 * @bufs: provided buffers
 * @memory: of the buffers
 * @next: by buffer: the one received after it, or -1
 * @length: by buffer: bytes received into it
 * @provided: buffers in use so far
 * @free: of these, buffers that are the worker's
 * @unpublished: of these, buffers that it has not been told of
 * @flows: attached
 * @unsubmitted: SQEs got since the last submit
 * @deferred: flows that found the SQ full
 * @starved: flows whose receive ended for want of a buffer
 */
struct lane {
	struct fastio_queue *queue;
	struct fastio_bufs bufs;
	char *memory;
	int32_t next[FLOW_BUFFERS];
	uint32_t length[FLOW_BUFFERS];
	unsigned int provided, free, unpublished, flows, unsubmitted;
	struct flow_list deferred, starved;
};

/**
 * struct rings - all lanes
 * @fio: libfastio's, NULL once the workers are gone
 * @lanes: one for each queue
 * @nr_lanes: how many
 * @flow_max: flows one lane can carry
 * @dealt: flows dealt out to lanes
 * @few: the main thread does all by itself, and found few completions when it looked last
 * @send_bytes: see struct rings_options; may be changed any time
 * @readable, @writable: watched flows with something to report
 * @lingering: closing flows with bytes to send
 * @all: flows on rings, closing ones included
 * @poll_fd: descriptor watched beside the rings, or -1
 * @polling: its POLL is in flight
 * @poll_ready: it has something to report; cleared by whoever looked
 * @settling: lanes whose worker is asked to catch up
 * @on_gone: called when a closed flow is gone and its memory may be freed
 * @counters: for statistics
 */
struct rings {
	struct fastio *fio;
	struct lane *lanes;
	unsigned int nr_lanes;
	unsigned int flow_max;
	unsigned int dealt;
	bool few;
	size_t send_bytes;
	struct flow_list readable, writable, lingering, all;
	int poll_fd;
	bool polling, poll_ready;
	unsigned int settling;
	void (*on_gone)(struct flow *flow);
	struct rings_counters counters;
};

/* rings.c */
int rings_open(struct rings **rings, const struct rings_options *options, void (*on_gone)(struct flow *),
	       struct fastio_error *error);
void rings_close(struct rings *rings);
int rings_submit(struct rings *rings);
unsigned int rings_harvest(struct rings *rings);
bool rings_have_news(struct rings *rings);
void rings_watch_fd(struct rings *rings, int fd);
int rings_wait(struct rings *rings, int64_t timeout_us, unsigned int spin_us);
void rings_settle(struct rings *rings);
void rings_expire(struct rings *rings);
void rings_drain(struct rings *rings, unsigned int limit_ms);
void rings_stop(struct rings *rings);
size_t rings_unsent(const struct rings *rings);

/* Set in children of the process that opened the rings. */
extern bool rings_foreign;
uint64_t rings_now_ms(void);

/* flow.c */
size_t flow_room(const struct rings *rings, const struct flow *flow, size_t length);
size_t flow_unsent(const struct flow *flow);
size_t flow_write(struct rings *rings, struct flow *flow, const struct iovec *parts, int count);
size_t flow_read(struct flow *flow, void *to, size_t length);
void flow_watch_read(struct rings *rings, struct flow *flow, bool on);
void flow_watch_write(struct rings *rings, struct flow *flow, bool on);
void flow_requeue(struct rings *rings, struct flow *flow);
struct flow *flow_next_readable(struct rings *rings);
struct flow *flow_next_writable(struct rings *rings);

/* life.c */
void flow_init(struct flow *flow, int fd);
int flow_attach(struct rings *rings, struct flow *flow);
void flow_shutdown(struct flow *flow);
void flow_close(struct rings *rings, struct flow *flow);
int flow_detach(struct rings *rings, struct flow *flow);
int flow_write_rest(struct flow *flow);
void flow_abandon(struct rings *rings, struct flow *flow);

/* For each other. */
enum flow_tag {
	TAG_RECEIVE,
	TAG_SEND,
	TAG_CANCEL,
	TAG_CLOSE,
	TAG_UNREGISTER,
	TAG_POLL,
	TAG_SETTLE,
	TAG_MASK = 7,
};

/* bytes.c */

bool flow_bytes_reserve(struct flow_bytes *bytes, size_t length);
void flow_bytes_release(struct flow_bytes *bytes);
void flow_pool_empty(void);

/* Operations to be submitted, in the order in which they go. */
enum flow_want {
	FLOW_SEND = 1 << 0,
	FLOW_RECEIVE = 1 << 1,
	FLOW_CANCEL = 1 << 2,
	FLOW_UNREGISTER = 1 << 3,
	FLOW_CLOSE = 1 << 4,
};

void flow_issue(struct flow *flow, uint8_t wants);
bool flow_spill(struct rings *rings, struct flow *flow);
void flow_give_back(struct flow *flow);
void flow_close_on_ring(struct rings *rings, struct flow *flow);
void flow_gone(struct rings *rings, struct flow *flow);
void flow_completed(struct rings *rings, struct flow *flow, enum flow_tag tag, const struct fastio_cqe *cqe);
void flow_catch_up(struct lane *lane);
void flow_stop_lingering(struct rings *rings, struct flow *flow);
void lane_give_back(struct lane *lane, int32_t buffer);
void lane_publish(struct lane *lane);
void lane_provide_more(struct lane *lane);

/** rings_are_foreign - whether this is a child that must not touch them */
static inline bool rings_are_foreign(void)
{
	return rings_foreign;
}

static inline void flow_list_init(struct flow_list *list)
{
	list->head.before = list->head.after = &list->head;
	list->length = 0;
}

static inline void flow_list_add(struct flow_list *list, struct flow_node *node)
{
	if (node->after)
		return;
	node->before = list->head.before;
	node->after = &list->head;
	node->before->after = node;
	list->head.before = node;
	list->length++;
}

static inline void flow_list_remove(struct flow_list *list, struct flow_node *node)
{
	if (!node->after)
		return;
	node->before->after = node->after;
	node->after->before = node->before;
	node->before = node->after = NULL;
	list->length--;
}

/* Where a provided buffer is. */
static inline char *lane_buffer(const struct lane *lane, int32_t buffer)
{
	return lane->memory + (size_t)buffer * FLOW_BUFFER_STRIDE;
}

/* The first node's flow, or NULL; @place: offset of the node in struct flow. */
static inline struct flow *flow_list_first(const struct flow_list *list, size_t place)
{
	return list->length ? (struct flow *)((char *)list->head.after - place) : NULL;
}

#endif
