/* SPDX-License-Identifier: MIT */
/*
 * An echo server on FastIO: kernel workers poll shared rings and do the receiving and sending; the application
 * thread makes no system call while it is busy.
 *
 * What it shows, by --mode:
 *
 * fused      One entry sends the reply and then receives the next request: one submission and one completion
 *            per request. The connection has a buffer of its own.
 * oneshot    A receive, then a send, then a receive: what a server does that looks at the request first.
 * multishot  The receive stays armed; requests come in buffers the thread provides and are sent from there. A
 *            peer that does not read keeps none of them: what it does not take is copied, and receiving pauses.
 *
 * Who does the work:
 *
 * --workers N             N kernel workers, each with a ring and its share of the connections.
 * --workers 0             inline: the application thread itself enters the kernel and works through its ring.
 * --workers N --hybrid    both: N workers, and the application thread works on a further ring in between
 *                         (--self-weight: how many quarters of a worker's connections that one gets).
 * --wait spin             the application thread polls, as the workers do while busy; else it sleeps.
 *
 * Without --workers and --conf the number comes from fastio.conf (libfastio says where that is looked for), and
 * so does everything else it configures. --cpus names the CPUs of the application threads first, then those of
 * the workers of each; without it fastio.conf decides where workers run.
 *
 * By hand:  ./fastio --port 12345 --workers 1 --cpus 0,1 &   ./load --address 127.0.0.1:12345 --duration 5
 *           kill %1 ends it and prints what it did. Without /dev/fastio, threads stand in for the kernel
 *           workers, which shows that it works, not how fast it is.
 */
#define _GNU_SOURCE
#include "common/relax.h"
#include "fastio_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFERRED_RETRY_US 1000

/* What a completion is about; its index is that of a connection where there is one. */
enum tag { TAG_ACCEPT, TAG_RECEIVE, TAG_SEND, TAG_CLOSE, TAG_CANCEL, TAG_STOP, TAG_RETRY, TAG_MAIL };

/* Operations of no connection that are still to be submitted. */
enum due { DUE_STOP = 1, DUE_ACCEPT = 2, DUE_RETRY = 4, DUE_MAIL = 8 };

/* Entries a connection waits to write, since the submission queue was full. */
enum want { WANT_RECEIVE = 1, WANT_SEND = 2, WANT_CANCEL = 4, WANT_CLOSE = 8 };

struct application *applications[SERVE_THREADS_MAX];

/* ------------------------------------------------------------------ lists */

static void list_add(struct application *application, struct list *list, unsigned int index)
{
	application->listed++;
	application->connections[index].next[list->link] = NOBODY;
	if (list->last == NOBODY)
		list->first = index;
	else
		application->connections[list->last].next[list->link] = index;
	list->last = index;
}

static unsigned int list_take(struct application *application, struct list *list)
{
	unsigned int index = list->first;

	application->listed--;
	list->first = application->connections[index].next[list->link];
	if (list->first == NOBODY)
		list->last = NOBODY;
	return index;
}

/* ------------------------------------------------------------------ submitting */

static char *buffer_of(const struct application *application, unsigned int index)
{
	return application->buffers + index * application->thread->server->options->buffer_bytes;
}

static void fill_receive(struct application *application, struct connection *connection, unsigned int index,
			 struct fastio_sqe *sqe)
{
	if (options.mode == MODE_MULTISHOT)
		fastio_prep_recv_multishot(sqe, connection->fd, connection->lane->provided.group, 0, 0);
	else
		fastio_prep_recv(sqe, connection->fd, buffer_of(application, index),
				 application->thread->server->options->buffer_bytes, 0);
	fastio_set_data64(sqe, (uint64_t)TAG_RECEIVE << 32 | index);
	connection->receiving = true;
}

static void fill_send(struct application *application, struct connection *connection, unsigned int index,
		      struct fastio_sqe *sqe)
{
	char *buffer = buffer_of(application, index);
	size_t length;
	const char *bytes;

	switch (options.mode) {
	case MODE_FUSED:
		fastio_prep_send_recv(sqe, connection->fd, buffer, connection->received, buffer,
				      application->thread->server->options->buffer_bytes, 0);
		fastio_set_data64(sqe, (uint64_t)TAG_RECEIVE << 32 | index);
		connection->receiving = true;
		return;
	case MODE_ONESHOT:
		fastio_prep_send(sqe, connection->fd, buffer, connection->received, MSG_WAITALL);
		break;
	default:
		bytes = outbox_next(&connection->outbox, &connection->lane->pool, &length);
		if (outbox_is_stalled(&connection->outbox)) {
			fastio_prep_send(sqe, connection->fd, bytes, length, MSG_WAITALL);
		} else {
			fastio_prep_send(sqe, connection->fd, bytes, length, 0);
			fastio_set_flags(sqe, FASTIO_SQE_NOWAIT);
		}
		break;
	}
	fastio_set_data64(sqe, (uint64_t)TAG_SEND << 32 | index);
	connection->sending = true;
}

/* Writes what the connection wants as far as there is room; the rest is tried again later. */
static void issue(struct application *application, unsigned int index)
{
	struct connection *connection = &application->connections[index];

	/* Not past those that have waited longer; and it must not end while it is on the list. */
	if (connection->deferred)
		return;
	while (connection->wants) {
		struct fastio_sqe *sqe = fastio_get_sqe(connection->lane->queue);
		unsigned int slot = connection->slotless ? 0 : FASTIO_SQE_SLOT;

		if (!sqe) {
			list_add(application, &connection->lane->deferred, index);
			connection->deferred = true;
			return;
		}
		if (connection->wants & WANT_SEND) {
			connection->wants &= ~WANT_SEND;
			fill_send(application, connection, index, sqe);
			fastio_set_flags(sqe, slot);
		} else if (connection->wants & WANT_RECEIVE) {
			connection->wants &= ~WANT_RECEIVE;
			fill_receive(application, connection, index, sqe);
			fastio_set_flags(sqe, slot);
		} else if (connection->wants & WANT_CANCEL) {
			connection->wants &= ~WANT_CANCEL;
			fastio_prep_cancel(sqe, (uint64_t)TAG_RECEIVE << 32 | index, 0);
			fastio_set_data64(sqe, (uint64_t)TAG_CANCEL << 32 | index);
		} else {
			connection->wants = 0;
			fastio_prep_close(sqe, connection->fd);
			fastio_set_data64(sqe, (uint64_t)TAG_CLOSE << 32 | index);
		}
	}
}

/* ------------------------------------------------------------------ provided buffers */

static void provide(struct pool *pool, char *bytes, unsigned int id)
{
	struct lane *lane = (struct lane *)((char *)pool - offsetof(struct lane, pool));

	fastio_bufs_add(&lane->provided, bytes, (unsigned int)pool->buffer_bytes, (uint16_t)id);
	fastio_bufs_publish(&lane->provided);
}

/* ------------------------------------------------------------------ connections */

/* The ring whose turn it is, or the next one with room. NULL when all are full. */
static struct lane *choose_lane(struct application *application)
{
	struct fastio_queue *queue = fastio_queue_for(application->fio, (int)(application->dealt++ & 0x7fffffff));

	for (unsigned int i = 0; i < application->lane_count; i++) {
		struct lane *lane = &application->lanes[(queue->index + i) % application->lane_count];

		if (lane->connection_count < application->lane_connections_max)
			return lane;
	}
	return NULL;
}

static void connection_open(struct application *application, int fd)
{
	struct lane *lane = choose_lane(application);
	unsigned int index = application->free_first;
	struct connection *connection;

	if (!lane || index == NOBODY) {
		application->thread->counters.refused++;
		close(fd);
		return;
	}
	connection = &application->connections[index];
	application->free_first = connection->next[LINK_FREE_OR_STARVED];
	*connection = (struct connection){ .fd = fd, .lane = lane, .wants = WANT_RECEIVE };
	outbox_init(&connection->outbox);
	lane->connection_count++;
	issue(application, index);
}

static void connection_free(struct application *application, unsigned int index)
{
	struct connection *connection = &application->connections[index];

	serve_closed(application->thread, connection->error);
	connection->lane->connection_count--;
	connection->next[LINK_FREE_OR_STARVED] = application->free_first;
	application->free_first = index;
}

static void fail(struct connection *connection, int error)
{
	if (!connection->failed)
		connection->error = error;
	connection->failed = true;
}

/* Decides what the connection does next; called when one of its operations has ended. */
static void proceed(struct application *application, unsigned int index)
{
	struct connection *connection = &application->connections[index];
	bool idle;

	if (connection->closed) {
		if (!connection->receiving && !connection->sending)
			connection_free(application, index);
		return;
	}
	if (connection->closing)
		return;
	if (!connection->sending && !outbox_is_empty(&connection->outbox)) {
		/* A failed one gives its buffers back at once: it may itself be waiting for one. */
		if (connection->failed)
			outbox_drop(&connection->outbox, &connection->lane->pool);
		else
			connection->wants |= WANT_SEND;
	}
	if (connection->starved) {
		issue(application, index);
		return;
	}
	idle = !connection->sending && !connection->receiving && !(connection->wants & (WANT_SEND | WANT_RECEIVE));
	if (connection->failed || (connection->ended && idle)) {
		/* What is still in flight ends with the descriptor. */
		connection->closing = true;
		connection->wants = WANT_CLOSE;
	} else if (idle) {
		connection->wants |= WANT_RECEIVE;
	}
	issue(application, index);
}

/* Buffers have come back: those that waited for one receive again, the longest waiting first. */
static void feed_starved(struct application *application, struct lane *lane)
{
	unsigned int budget = lane->pool.free;

	while (lane->starved.first != NOBODY && budget--) {
		unsigned int index = list_take(application, &lane->starved);
		struct connection *connection = &application->connections[index];

		connection->starved = false;
		if (!connection->failed && !outbox_is_stalled(&connection->outbox))
			connection->wants |= WANT_RECEIVE;
		proceed(application, index);
	}
}

static void retry_deferred(struct application *application, struct lane *lane)
{
	while (lane->deferred.first != NOBODY && fastio_sq_space(lane->queue)) {
		unsigned int index = list_take(application, &lane->deferred);

		application->connections[index].deferred = false;
		issue(application, index);
	}
}

/* ------------------------------------------------------------------ completions */

/* Its first receive is the one that needs a slot. Without one it goes on; only this program closes descriptors. */
static bool lacks_slot(struct connection *connection, int res)
{
	if (res != -EMFILE || connection->slotless)
		return false;
	connection->slotless = true;
	return true;
}

/* In fused mode the same completion says that the bytes received before have all been sent. */
static void received_own_buffer(struct application *application, unsigned int index, const struct fastio_cqe *cqe)
{
	struct connection *connection = &application->connections[index];
	struct serve_counters *counters = &application->thread->counters;

	connection->receiving = false;
	if (options.mode == MODE_FUSED && connection->received && !(cqe->flags & FASTIO_CQE_SEND_FAILED)) {
		counters->requests++;
		counters->bytes += connection->received;
	}
	connection->received = 0;
	if (cqe->res > 0) {
		connection->received = (uint32_t)cqe->res;
		connection->wants |= WANT_SEND;
	} else if (!cqe->res) {
		connection->ended = true;
	} else if (!lacks_slot(connection, cqe->res)) {
		fail(connection, -cqe->res);
	}
	proceed(application, index);
}

/* No more is to be received until everything has been sent. */
static void pause_receiving(struct connection *connection)
{
	if (connection->receiving && !connection->pausing)
		connection->wants |= WANT_CANCEL;
	connection->pausing = connection->receiving;
}

static void received_provided(struct application *application, unsigned int index, const struct fastio_cqe *cqe)
{
	struct connection *connection = &application->connections[index];
	struct lane *lane = connection->lane;

	if (!fastio_cqe_more(cqe))
		connection->receiving = connection->pausing = false;
	if (fastio_cqe_has_bid(cqe)) {
		pool_taken(&lane->pool);
		if (cqe->res <= 0 || connection->failed)
			pool_give_back(&lane->pool, fastio_cqe_bid(cqe));
		else if (!outbox_add(&connection->outbox, &lane->pool, fastio_cqe_bid(cqe), (size_t)cqe->res))
			fail(connection, ENOMEM);
		else if (outbox_is_full(&connection->outbox))
			pause_receiving(connection);
	}
	if (!cqe->res) {
		connection->ended = true;
	} else if (cqe->res == -ENOBUFS) {
		/* One that ends needs no buffer, and may not be on a list when it has ended. */
		connection->starved = !connection->failed && !connection->closing;
		if (connection->starved)
			list_add(application, &lane->starved, index);
	} else if (cqe->res < 0 && cqe->res != -ECANCELED && !lacks_slot(connection, cqe->res)) {
		fail(connection, -cqe->res);
	}
	proceed(application, index);
}

static void sent_provided(struct application *application, struct connection *connection, int res)
{
	struct serve_counters *counters = &application->thread->counters;

	switch (outbox_sent(&connection->outbox, &connection->lane->pool, res > 0 ? (size_t)res : 0)) {
	case OUTBOX_DONE:
		counters->requests++;
		break;
	case OUTBOX_STALLS:
		counters->stalls++;
		pause_receiving(connection);
		break;
	case OUTBOX_NO_MEMORY:
		fail(connection, ENOMEM);
		break;
	case OUTBOX_PART:
		break;
	}
}

static void sent(struct application *application, unsigned int index, int res)
{
	struct connection *connection = &application->connections[index];

	connection->sending = false;
	if (res > 0)
		application->thread->counters.bytes += (unsigned int)res;
	else if (res < 0 && res != -EAGAIN)
		fail(connection, -res);
	if (options.mode == MODE_MULTISHOT && !connection->failed)
		sent_provided(application, connection, res);
	else if (!connection->failed)
		application->thread->counters.requests++;
	proceed(application, index);
}

/* Passes a fresh connection to the application thread whose turn it is. */
static void deal_out(struct application *application, int fd)
{
	unsigned int threads = (unsigned int)application->thread->server->options->threads;
	struct application *target = applications[application->next_target++ % threads];

	if (target == application) {
		connection_open(application, fd);
	} else if (write(target->mailbox[1], &fd, sizeof(fd)) != sizeof(fd)) {
		application->thread->counters.refused++;
		close(fd);
	}
}

static void accepted(struct application *application, const struct fastio_cqe *cqe)
{
	struct serve_thread *thread = application->thread;
	bool rest = false;

	if (cqe->res >= 0) {
		thread->counters.accepted++;
		if (thread->server->options->accept == ACCEPT_BALANCED)
			deal_out(application, cqe->res);
		else
			connection_open(application, cqe->res);
	} else {
		if (cqe->res == -EOPNOTSUPP)
			die(EXIT_ENVIRONMENT, "this kernel's FastIO may not accept connections: %s",
			    fastio_strerror(cqe->res));
		rest = serve_accept_failed(thread, -cqe->res);
	}
	if (!fastio_cqe_more(cqe))
		application->due |= rest ? DUE_RETRY : DUE_ACCEPT;
}

static void open_mail(struct application *application)
{
	int fds[64];
	ssize_t bytes = read(application->mailbox[0], fds, sizeof(fds));

	for (ssize_t i = 0; i < bytes / (ssize_t)sizeof(fds[0]); i++)
		connection_open(application, fds[i]);
	application->due |= DUE_MAIL;
}

static void handle(struct application *application, const struct fastio_cqe *cqe)
{
	unsigned int index = (unsigned int)cqe->user_data;

	switch ((enum tag)(cqe->user_data >> 32)) {
	case TAG_RECEIVE:
		if (options.mode == MODE_MULTISHOT)
			received_provided(application, index, cqe);
		else
			received_own_buffer(application, index, cqe);
		break;
	case TAG_SEND:
		sent(application, index, cqe->res);
		break;
	case TAG_CLOSE:
		application->connections[index].closed = true;
		outbox_drop(&application->connections[index].outbox, &application->connections[index].lane->pool);
		proceed(application, index);
		break;
	case TAG_ACCEPT:
		accepted(application, cqe);
		break;
	case TAG_MAIL:
		open_mail(application);
		break;
	case TAG_RETRY:
		application->due |= DUE_ACCEPT;
		break;
	case TAG_STOP:
		application->stop = true;
		break;
	case TAG_CANCEL: /* What it cancelled, or that it came too late, shows in the receive's own completion. */
		break;
	}
}

/* ------------------------------------------------------------------ the loop */

/* Operations that are not of a connection. They go to the first ring; what finds no room stays due. */
static void issue_due(struct application *application)
{
	struct fastio_queue *queue = &application->fio->queues[0];
	const struct serve_thread *thread = application->thread;

	while (application->due) {
		unsigned int due = application->due & -application->due;
		struct fastio_sqe *sqe = fastio_get_sqe(queue);

		if (!sqe)
			return;
		application->due &= ~due;
		switch (due) {
		case DUE_ACCEPT:
			fastio_prep_accept_multishot(sqe, thread->listen_fd, SOCK_CLOEXEC);
			fastio_set_data64(sqe, (uint64_t)TAG_ACCEPT << 32);
			break;
		case DUE_RETRY:
			fastio_prep_timeout(sqe, SERVE_ACCEPT_RETRY_MS * 1000000ull, 0);
			fastio_set_data64(sqe, (uint64_t)TAG_RETRY << 32);
			break;
		case DUE_MAIL:
			fastio_prep_poll(sqe, application->mailbox[0], POLLIN);
			fastio_set_data64(sqe, (uint64_t)TAG_MAIL << 32);
			break;
		default:
			fastio_prep_poll(sqe, thread->stop_fd, POLLIN);
			fastio_set_data64(sqe, (uint64_t)TAG_STOP << 32);
			break;
		}
	}
}

static void check(int ret)
{
	if (ret < 0 && ret != -EINTR && ret != -ETIME)
		die(EXIT_SAID_NO, "FastIO: %s", fastio_strerror(ret));
}

/* Reaps at most @batch completions. Returns how many there were. */
static unsigned int reap(struct application *application, unsigned int batch)
{
	struct fastio_queue *queue;
	struct fastio_cqe *cqe;
	unsigned int count = 0;

	while (count < batch && (cqe = fastio_next(application->fio, &queue))) {
		/* A copy, so that the worker gets the room back before this thread writes the next entry. */
		struct fastio_cqe copy = *cqe;

		fastio_seen(queue);
		handle(application, &copy);
		count++;
		/* A worker begins with its replies while this thread looks at the other rings. */
		if (queue->cq_head == queue->cq_tail)
			check(fastio_submit(queue));
	}
	return count;
}

/* Serves what had to wait. Returns whether something waits for room that no completion will announce. */
static bool catch_up(struct application *application)
{
	bool waits = application->due;

	issue_due(application);
	for (unsigned int i = 0; i < application->lane_count; i++) {
		struct lane *lane = &application->lanes[i];

		if (lane->starved.first != NOBODY)
			feed_starved(application, lane);
		if (lane->deferred.first != NOBODY)
			retry_deferred(application, lane);
		waits = waits || lane->deferred.first != NOBODY;
	}
	return waits;
}

static void loop(struct application *application)
{
	struct fastio *fio = application->fio;
	/* Inline, each round is a system call: reap everything first. */
	unsigned int batch = fio->nr_workers ? (unsigned int)options.batch : UINT32_MAX;

	while (!application->stop) {
		unsigned int count = reap(application, batch);
		bool late = application->due || application->listed;
		bool waits = late && catch_up(application);

		/* A look that finds nothing is to be short: the next completion waits for the one after it. */
		if (count || late)
			check(fastio_submit_all(fio));
		if (fio->nr_workers || options.wait == WAIT_SPIN)
			check(fastio_serve(fio));
		if (count)
			continue;
		if (options.wait == WAIT_SPIN)
			cpu_relax();
		else
			check(fastio_wait(fio, waits ? DEFERRED_RETRY_US : FASTIO_FOREVER));
	}
}

static void run(struct serve_thread *thread)
{
	struct application *application = applications[thread->index];

	setup_application(application, provide);
	application->due = DUE_STOP | (thread->listen_fd >= 0 ? DUE_ACCEPT : DUE_MAIL);
	issue_due(application);
	check(fastio_submit_all(application->fio));
	serve_ready(thread);
	loop(application);
	for (unsigned int i = 0; i < application->lane_count; i++)
		fastio_get_stats(&application->fio->queues[i], &application->stats[i]);
	application->backend = application->fio->backend;
	/* Connections that are still open end with the process, and so does their memory. */
	fastio_exit(application->fio);
}

int main(int argc, char **argv)
{
	struct serve_options serve;
	struct server server = { 0 };

	setup_options(argc, argv, &serve, &server);
	serve_start(&server, "fastio", &serve);
	for (unsigned int i = 0; i < serve.threads; i++) {
		applications[i] = calloc(1, sizeof(struct application));
		if (!applications[i])
			die(EXIT_ENVIRONMENT, "out of memory");
		applications[i]->thread = &server.threads[i];
		/* All of them first: thread 0 may deal out connections before the others run. */
		if (pipe2(applications[i]->mailbox, O_CLOEXEC | O_NONBLOCK))
			die(EXIT_ENVIRONMENT, "cannot make a pipe: %s", strerror(errno));
	}
	return serve_run(&server, run, setup_statistics);
}
