/* SPDX-License-Identifier: MIT */
/*
 * An echo server on io_uring, the way its authors would write it: registered files, a registered ring, accepts
 * straight into the file table, completions taken in batches, one io_uring_enter() to submit and wait.
 *
 * What it shows, by --mode:
 *
 * multishot  One accept and one receive per connection stay armed for its whole life; received bytes come in
 *            buffers that the thread provides and are sent from there. A send must not wait: what the peer does
 *            not take at once is copied out and sent by a request that waits, and the receive is cancelled until
 *            then. So a peer that does not read never keeps a buffer from the others.
 * oneshot    Receive, send, receive, send, each asked for anew, with a buffer of its own per connection. The
 *            receive is told not to try before there is data, unless the last one said there was more.
 *
 * --sqpoll     A kernel thread takes the submissions: no system call while the application is busy. It uses a
 *              CPU of its own (the entry of --cpus after the threads' own), and so does the application with --wait spin.
 *              Without it the ring uses DEFER_TASKRUN, so that completions are worked on only when asked for.
 * --accept balanced   thread 0 accepts and passes connections to the other rings in turn.
 *
 * By hand:  ./io_uring --port 12345 --cpus 0 &   ./load --address 127.0.0.1:12345 --duration 5
 *           kill %1 ends it and prints what it did. Needs Linux 6.1.
 */
#define _GNU_SOURCE
#include "common/outbox.h"
#include "common/relax.h"
#include "common/serve.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SQ_ENTRIES 1024
#define CQ_ENTRIES 8192
#define BATCH_MAX 256
#define GROUP 0	   /* the only group of provided buffers */
#define NOBODY ~0u /* no connection */

enum mode { MODE_MULTISHOT, MODE_ONESHOT };
enum wait_mode { WAIT_SLEEP, WAIT_SPIN };
static const char *const mode_names[] = { "multishot", "oneshot", NULL };
static const char *const wait_names[] = { "sleep", "spin", NULL };

static struct {
	unsigned int mode, wait;
	bool sqpoll;
	uint64_t sq_idle_ms, buffers;
} options = { .sq_idle_ms = 1000, .buffers = 1024 };

/* What a completion is about; its index is that of a connection where there is one. */
enum tag { TAG_ACCEPT, TAG_RECEIVE, TAG_SEND, TAG_CLOSE, TAG_CANCEL, TAG_STOP, TAG_RETRY, TAG_HAND_OVER, TAG_ADOPT };

struct connection {
	bool receiving; /* a receive is in flight */
	bool sending;	/* a send is in flight */
	bool pausing;	/* the receive is being cancelled */
	bool cancelled; /* so is everything */
	bool starved;	/* waits for a provided buffer */
	bool ended;	/* the peer sends no more */
	bool failed;	/* give up as soon as nothing is in flight */
	bool more;	/* oneshot: the last receive left something behind */
	int error;	/* what it failed with */
	unsigned int next_starved;
	struct outbox outbox;	 /* multishot */
	char *buffer;		 /* oneshot: its own */
	uint32_t received, sent; /* oneshot: bytes in it, and how many of them have gone */
};

struct ring {
	struct io_uring uring;
	struct serve_thread *thread;
	struct connection *connections; /* by index in the file table */
	struct pool pool;
	struct io_uring_buf_ring *provided;
	unsigned int starved_first, starved_last;
	unsigned int next_target;
	struct __kernel_timespec retry;
	bool stop;
};

static struct ring rings[SERVE_THREADS_MAX];
static pthread_barrier_t rings_made;

/* ------------------------------------------------------------------ submitting */

static struct io_uring_sqe *get_sqe(struct ring *ring, enum tag tag, unsigned int index)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&ring->uring))) {
		int ret = io_uring_submit(&ring->uring);

		if (ret < 0 && ret != -EINTR && ret != -EBUSY && ret != -EAGAIN)
			die(EXIT_SAID_NO, "io_uring_submit: %s", strerror(-ret));
		if (options.sqpoll)
			io_uring_sqring_wait(&ring->uring);
	}
	/* The prep functions leave it alone (since liburing 2.2). */
	io_uring_sqe_set_data64(sqe, (uint64_t)tag << 32 | index);
	return sqe;
}

static void submit_accept(struct ring *ring)
{
	struct io_uring_sqe *sqe = get_sqe(ring, TAG_ACCEPT, 0);

	if (options.mode == MODE_MULTISHOT)
		io_uring_prep_multishot_accept_direct(sqe, ring->thread->listen_fd, NULL, NULL, 0);
	else
		io_uring_prep_accept(sqe, ring->thread->listen_fd, NULL, NULL, 0);
	/* liburing 2.3 does not know this value. */
	sqe->file_index = IORING_FILE_INDEX_ALLOC;
}

static void submit_receive(struct ring *ring, unsigned int index)
{
	struct connection *connection = &ring->connections[index];
	struct io_uring_sqe *sqe = get_sqe(ring, TAG_RECEIVE, index);

	if (options.mode == MODE_MULTISHOT) {
		io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = GROUP;
	} else {
		io_uring_prep_recv(sqe, (int)index, connection->buffer, ring->thread->server->options->buffer_bytes, 0);
		if (!connection->more)
			sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	}
	sqe->flags |= IOSQE_FIXED_FILE;
	connection->receiving = true;
}

static void submit_send(struct ring *ring, unsigned int index, const char *bytes, size_t length, int flags)
{
	struct io_uring_sqe *sqe = get_sqe(ring, TAG_SEND, index);

	io_uring_prep_send(sqe, (int)index, bytes, length, flags | MSG_NOSIGNAL);
	sqe->flags |= IOSQE_FIXED_FILE;
	ring->connections[index].sending = true;
}

/* No more is to be received for now. */
static void submit_cancel(struct ring *ring, unsigned int index)
{
	struct connection *connection = &ring->connections[index];

	if (!connection->receiving || connection->pausing)
		return;
	connection->pausing = true;
	io_uring_prep_cancel64(get_sqe(ring, TAG_CANCEL, index), (uint64_t)TAG_RECEIVE << 32 | index, 0);
}

/* Whatever is in flight comes back. */
static void submit_cancel_all(struct ring *ring, unsigned int index)
{
	struct connection *connection = &ring->connections[index];

	if (connection->cancelled || (!connection->receiving && !connection->sending))
		return;
	connection->cancelled = true;
	io_uring_prep_cancel_fd(get_sqe(ring, TAG_CANCEL, index), (int)index,
				IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD_FIXED);
}

static void submit_close(struct ring *ring, unsigned int index)
{
	io_uring_prep_close_direct(get_sqe(ring, TAG_CLOSE, index), index);
}

static void submit_retry(struct ring *ring)
{
	ring->retry = (struct __kernel_timespec){ 0, SERVE_ACCEPT_RETRY_MS * 1000000ll };
	io_uring_prep_timeout(get_sqe(ring, TAG_RETRY, 0), &ring->retry, 0, 0);
}

/* ------------------------------------------------------------------ provided buffers */

static void provide(struct pool *pool, char *bytes, unsigned int id)
{
	struct ring *ring = (struct ring *)((char *)pool - offsetof(struct ring, pool));

	io_uring_buf_ring_add(ring->provided, bytes, (unsigned int)pool->buffer_bytes, (unsigned short)id,
			      (int)pool->count - 1, 0);
	io_uring_buf_ring_advance(ring->provided, 1);
}

static void make_pool(struct ring *ring)
{
	struct io_uring_buf_reg registration = { .ring_entries = (uint32_t)options.buffers, .bgid = GROUP };
	size_t ring_bytes = options.buffers * sizeof(struct io_uring_buf);
	int ret;

	ring->provided = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring->provided == MAP_FAILED)
		die(EXIT_ENVIRONMENT, "out of memory");
	io_uring_buf_ring_init(ring->provided);
	registration.ring_addr = (uint64_t)(uintptr_t)ring->provided;
	ret = io_uring_register_buf_ring(&ring->uring, &registration, 0);
	if (ret)
		die(EXIT_ENVIRONMENT, "cannot register buffers with io_uring: %s", strerror(-ret));
	if (!pool_init(&ring->pool, (unsigned int)options.buffers, ring->thread->server->options->buffer_bytes, provide))
		die(EXIT_ENVIRONMENT, "out of memory");
}

/* ------------------------------------------------------------------ connections */

static void connection_open(struct ring *ring, unsigned int index)
{
	struct connection *connection = &ring->connections[index];
	char *buffer = connection->buffer;

	*connection = (struct connection){ .buffer = buffer };
	outbox_init(&connection->outbox);
	if (options.mode == MODE_ONESHOT && !buffer) {
		connection->buffer = malloc(ring->thread->server->options->buffer_bytes);
		if (!connection->buffer) {
			ring->thread->counters.refused++;
			submit_close(ring, index);
			return;
		}
	}
	submit_receive(ring, index);
}

static void fail(struct connection *connection, int error)
{
	if (!connection->failed)
		connection->error = error;
	connection->failed = true;
}

/* Decides what the connection does next; called when one of its requests has ended. */
static void proceed(struct ring *ring, unsigned int index)
{
	struct connection *connection = &ring->connections[index];
	bool over = connection->failed;

	if (over) {
		submit_cancel_all(ring, index);
		/* At once: it may itself be waiting for a buffer. What is being sent must stay. */
		if (!connection->sending)
			outbox_drop(&connection->outbox, &ring->pool);
	} else if (!connection->sending && !outbox_is_empty(&connection->outbox)) {
		size_t length;
		const char *bytes = outbox_next(&connection->outbox, &ring->pool, &length);

		submit_send(ring, index, bytes, length, outbox_is_stalled(&connection->outbox) ? MSG_WAITALL : MSG_DONTWAIT);
	}
	if (connection->sending || connection->receiving || connection->starved)
		return;
	if (!over && !connection->ended) {
		submit_receive(ring, index);
		return;
	}
	serve_closed(ring->thread, connection->error);
	submit_close(ring, index);
}

static void starve(struct ring *ring, unsigned int index)
{
	struct connection *connection = &ring->connections[index];

	connection->starved = true;
	connection->next_starved = NOBODY;
	if (ring->starved_last == NOBODY)
		ring->starved_first = index;
	else
		ring->connections[ring->starved_last].next_starved = index;
	ring->starved_last = index;
}

/* Buffers have come back: those that waited for one receive again, the longest waiting first. */
static void feed_starved(struct ring *ring)
{
	unsigned int budget = ring->pool.free;

	while (ring->starved_first != NOBODY && budget--) {
		unsigned int index = ring->starved_first;
		struct connection *connection = &ring->connections[index];

		ring->starved_first = connection->next_starved;
		if (ring->starved_first == NOBODY)
			ring->starved_last = NOBODY;
		connection->starved = false;
		if (connection->failed || outbox_is_stalled(&connection->outbox))
			proceed(ring, index);
		else
			submit_receive(ring, index);
	}
}

/* ------------------------------------------------------------------ completions */

static void received_multishot(struct ring *ring, unsigned int index, const struct io_uring_cqe *cqe)
{
	struct connection *connection = &ring->connections[index];

	if (!(cqe->flags & IORING_CQE_F_MORE))
		connection->receiving = connection->pausing = false;
	if (cqe->flags & IORING_CQE_F_BUFFER) {
		unsigned int id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

		pool_taken(&ring->pool);
		if (cqe->res <= 0 || connection->failed)
			pool_give_back(&ring->pool, id);
		else if (!outbox_add(&connection->outbox, &ring->pool, id, (size_t)cqe->res))
			fail(connection, ENOMEM);
		else if (outbox_is_full(&connection->outbox))
			submit_cancel(ring, index);
	}
	if (!cqe->res)
		connection->ended = true;
	else if (cqe->res == -ENOBUFS)
		starve(ring, index);
	else if (cqe->res < 0 && cqe->res != -ECANCELED)
		fail(connection, -cqe->res);
	proceed(ring, index);
}

static void sent_multishot(struct ring *ring, unsigned int index, int res)
{
	struct connection *connection = &ring->connections[index];

	switch (outbox_sent(&connection->outbox, &ring->pool, res > 0 ? (size_t)res : 0)) {
	case OUTBOX_DONE:
		ring->thread->counters.requests++;
		break;
	case OUTBOX_STALLS:
		ring->thread->counters.stalls++;
		submit_cancel(ring, index);
		break;
	case OUTBOX_NO_MEMORY:
		fail(connection, ENOMEM);
		break;
	case OUTBOX_PART:
		break;
	}
}

static void received_oneshot(struct ring *ring, unsigned int index, const struct io_uring_cqe *cqe)
{
	struct connection *connection = &ring->connections[index];

	connection->receiving = false;
	connection->more = cqe->flags & IORING_CQE_F_SOCK_NONEMPTY;
	if (cqe->res > 0) {
		connection->received = (uint32_t)cqe->res;
		connection->sent = 0;
		submit_send(ring, index, connection->buffer, connection->received, MSG_WAITALL);
		return;
	}
	if (cqe->res)
		fail(connection, -cqe->res);
	connection->ended = true;
	proceed(ring, index);
}

static void sent(struct ring *ring, unsigned int index, int res)
{
	struct connection *connection = &ring->connections[index];

	connection->sending = false;
	if (res > 0)
		ring->thread->counters.bytes += (unsigned int)res;
	else if (res < 0 && res != -EAGAIN)
		fail(connection, -res);
	if (connection->failed) {
		proceed(ring, index);
		return;
	}
	if (options.mode == MODE_MULTISHOT) {
		sent_multishot(ring, index, res);
		proceed(ring, index);
		return;
	}
	connection->sent += (uint32_t)res;
	if (connection->sent < connection->received) {
		/* MSG_WAITALL makes this rare. */
		submit_send(ring, index, connection->buffer + connection->sent, connection->received - connection->sent,
			    MSG_WAITALL);
		return;
	}
	ring->thread->counters.requests++;
	proceed(ring, index);
}

/* Passes a fresh connection to the ring whose turn it is; the file moves from table to table. */
static void deal_out(struct ring *ring, unsigned int index)
{
	struct ring *target = &rings[ring->next_target++ % ring->thread->server->options->threads];
	struct io_uring_sqe *sqe;

	if (target == ring) {
		connection_open(ring, index);
		return;
	}
	sqe = get_sqe(ring, TAG_HAND_OVER, index);
	/* io_uring_prep_msg_ring_fd_alloc(), which liburing 2.3 has not. */
	io_uring_prep_rw(IORING_OP_MSG_RING, sqe, target->uring.ring_fd, (void *)(uintptr_t)IORING_MSG_SEND_FD, 0,
			 (uint64_t)TAG_ADOPT << 32);
	sqe->addr3 = index;
	sqe->file_index = IORING_FILE_INDEX_ALLOC;
}

static void accepted(struct ring *ring, const struct io_uring_cqe *cqe)
{
	struct serve_thread *thread = ring->thread;
	bool rest = false;

	if (cqe->res >= 0) {
		thread->counters.accepted++;
		if (thread->server->options->accept == ACCEPT_BALANCED)
			deal_out(ring, (unsigned int)cqe->res);
		else
			connection_open(ring, (unsigned int)cqe->res);
	} else if (cqe->res == -ENFILE) {
		/* The file table is full: the kernel has closed the connection. */
		thread->counters.refused++;
		rest = true;
	} else {
		rest = serve_accept_failed(thread, -cqe->res);
	}
	if (cqe->flags & IORING_CQE_F_MORE)
		return;
	if (rest)
		submit_retry(ring);
	else
		submit_accept(ring);
}

static void handle(struct ring *ring, const struct io_uring_cqe *cqe)
{
	unsigned int index = (unsigned int)cqe->user_data;

	switch ((enum tag)(cqe->user_data >> 32)) {
	case TAG_RECEIVE:
		if (options.mode == MODE_MULTISHOT)
			received_multishot(ring, index, cqe);
		else
			received_oneshot(ring, index, cqe);
		break;
	case TAG_SEND:
		sent(ring, index, cqe->res);
		break;
	case TAG_ACCEPT:
		accepted(ring, cqe);
		break;
	case TAG_ADOPT:
		if (cqe->res >= 0)
			connection_open(ring, (unsigned int)cqe->res);
		break;
	case TAG_HAND_OVER:
		if (cqe->res < 0)
			ring->thread->counters.refused++;
		submit_close(ring, index);
		break;
	case TAG_RETRY:
		submit_accept(ring);
		break;
	case TAG_STOP:
		ring->stop = true;
		break;
	case TAG_CLOSE:
		if (cqe->res < 0)
			ring->thread->counters.errors++;
		break;
	case TAG_CANCEL: /* What it cancelled, or that it came too late, shows in the receive's own completion. */
		break;
	}
}

/* ------------------------------------------------------------------ the loop */

static void make_ring(struct ring *ring)
{
	const struct server *server = ring->thread->server;
	struct io_uring_params params = { .cq_entries = CQ_ENTRIES };
	int ret;

	params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER;
	if (options.sqpoll) {
		params.flags |= IORING_SETUP_SQPOLL;
		params.sq_thread_idle = (uint32_t)options.sq_idle_ms;
		if (server->options->cpus.count) {
			params.flags |= IORING_SETUP_SQ_AFF;
			params.sq_thread_cpu =
				server->options->cpus.cpu[server->options->threads + ring->thread->index];
		}
	} else {
		params.flags |= IORING_SETUP_DEFER_TASKRUN;
	}
	ret = io_uring_queue_init_params(SQ_ENTRIES, &ring->uring, &params);
	if (ret == -EINVAL)
		die(EXIT_ENVIRONMENT, "this kernel's io_uring lacks DEFER_TASKRUN or SINGLE_ISSUER: use Linux 6.1 or later");
	if (ret)
		die(EXIT_ENVIRONMENT, "cannot set io_uring up: %s%s", strerror(-ret),
		    ret == -EPERM || ret == -ENOSYS ? ": it is switched off here" : "");
	ret = io_uring_register_files_sparse(&ring->uring, server->max_connections);
	if (ret)
		die(EXIT_ENVIRONMENT, "cannot register a table of %u files: %s", server->max_connections, strerror(-ret));
	/* An older kernel cannot; it is only a little slower. */
	io_uring_register_ring_fd(&ring->uring);
	ring->connections = calloc(server->max_connections, sizeof(*ring->connections));
	if (!ring->connections)
		die(EXIT_ENVIRONMENT, "out of memory");
	if (options.mode == MODE_MULTISHOT)
		make_pool(ring);
}

static void loop(struct ring *ring)
{
	struct io_uring_cqe *cqes[BATCH_MAX];

	while (!ring->stop) {
		unsigned int count;
		int ret;

		if (options.wait == WAIT_SPIN)
			ret = io_uring_submit(&ring->uring);
		else
			ret = io_uring_submit_and_wait(&ring->uring, 1);
		if (ret < 0 && ret != -EINTR && ret != -EBUSY && ret != -EAGAIN)
			die(EXIT_SAID_NO, "io_uring_enter: %s", strerror(-ret));
		count = io_uring_peek_batch_cqe(&ring->uring, cqes, BATCH_MAX);
		if (!count)
			cpu_relax();
		for (unsigned int i = 0; i < count; i++)
			handle(ring, cqes[i]);
		io_uring_cq_advance(&ring->uring, count);
		if (ring->starved_first != NOBODY)
			feed_starved(ring);
	}
}

static void run(struct serve_thread *thread)
{
	struct ring *ring = &rings[thread->index];

	ring->thread = thread;
	ring->starved_first = ring->starved_last = NOBODY;
	make_ring(ring);
	/* Thread 0 may pass connections to any ring. */
	pthread_barrier_wait(&rings_made);
	io_uring_prep_poll_add(get_sqe(ring, TAG_STOP, 0), thread->stop_fd, POLLIN);
	if (thread->listen_fd >= 0)
		submit_accept(ring);
	io_uring_submit(&ring->uring);
	serve_ready(thread);
	loop(ring);
	/*
	 * Requests in flight end some time after the ring has gone, and write to this memory until then: it is
	 * left to the end of the process.
	 */
	io_uring_queue_exit(&ring->uring);
}

static void extra(struct server *server, struct json *json)
{
	(void)server;
	json_text(json, "mode", mode_names[options.mode]);
	json_bool(json, "sqpoll", options.sqpoll);
	json_text(json, "wait", wait_names[options.wait]);
}

int main(int argc, char **argv)
{
	static const struct option_spec specs[] = {
		{ "mode", 0, OPTION_CHOICE, &options.mode, 0, 0, mode_names, "requests that stay armed, or one at a time",
		  NULL },
		{ "sqpoll", 0, OPTION_FLAG, &options.sqpoll, 0, 0, NULL, "a kernel thread takes the submissions", NULL },
		{ "sq-idle-ms", 0, OPTION_COUNT, &options.sq_idle_ms, 1, 60000, NULL,
		  "how long that thread polls before it sleeps", NULL },
		{ "wait", 0, OPTION_CHOICE, &options.wait, 0, 0, wait_names, "with --sqpoll: how the application waits",
		  NULL },
		{ "buffers", 0, OPTION_COUNT, &options.buffers, 2, POOL_BUFFERS_MAX, NULL,
		  "multishot: provided buffers of each thread, a power of two", NULL },
	};
	struct serve_options serve;
	struct option_table tables[] = { serve_option_table(&serve), OPTION_TABLE(specs) };
	struct server server = { 0 };

	options_parse(argc, argv, "an echo server on io_uring", tables, 2);
	if (options.wait == WAIT_SPIN && !options.sqpoll)
		die(EXIT_USAGE, "found --wait spin without --sqpoll, expected both: nobody else would work on completions");
	if (options.buffers & (options.buffers - 1))
		die(EXIT_USAGE, "--buffers: found %llu, expected a power of two", (unsigned long long)options.buffers);
	if (serve.max_connections > 32768)
		die(EXIT_USAGE, "--max-connections: found %llu, expected at most 32768 registered files",
		    (unsigned long long)serve.max_connections);
	server.extra_cpus = options.sqpoll ? (unsigned int)serve.threads : 0;
	pthread_barrier_init(&rings_made, NULL, (unsigned int)serve.threads);
	serve_start(&server, "io_uring", &serve);
	return serve_run(&server, run, extra);
}
