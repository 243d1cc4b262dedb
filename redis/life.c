// SPDX-License-Identifier: MIT
/* How a flow gets on rings, and off them again: closed, detached or abandoned. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flow.h"

/** flow_init - a flow that is not on the rings */
void flow_init(struct flow *flow, int fd)
{
	*flow = (struct flow){ .fd = fd, .first = -1, .last = -1 };
}

/** flow_attach - begins to receive. Returns 0, or -EUSERS when the rings carry as many flows as they can. */
int flow_attach(struct rings *rings, struct flow *flow)
{
	unsigned int lanes = rings->fio ? rings->fio->nr_queues : 0;

	for (unsigned int i = 0; i < lanes; i++) {
		struct fastio_queue *queue = fastio_queue_for(rings->fio, (int)(rings->dealt++ & 0x7fffffff));
		struct lane *lane = &rings->lanes[queue->index];

		if (lane->flows >= rings->flow_max || flow->fd >= (int)rings->fio->max_slots)
			continue;
		lane->flows++;
		flow->lane = lane;
		flow_list_add(&rings->all, &flow->all);
		rings->counters.attached++;
		flow_issue(flow, FLOW_RECEIVE);
		return 0;
	}
	rings->counters.refused++;
	return -EUSERS;
}

static void leave_lists(struct rings *rings, struct flow *flow)
{
	flow_list_remove(&rings->readable, &flow->readable);
	flow_list_remove(&rings->writable, &flow->writable);
	flow_list_remove(&rings->lingering, &flow->lingering);
	if (!flow->lane)
		return;
	flow_list_remove(&flow->lane->starved, &flow->starved);
	flow_list_remove(&flow->lane->deferred, &flow->deferred);
}

static void leave_lane(struct rings *rings, struct flow *flow)
{
	leave_lists(rings, flow);
	flow_give_back(flow);
	flow_list_remove(&rings->all, &flow->all);
	flow->lane->flows--;
	flow->lane = NULL;
}

static void free_bytes(struct flow *flow)
{
	flow_bytes_release(&flow->out);
	flow_bytes_release(&flow->next);
	flow_bytes_release(&flow->spill);
}

/** flow_close_on_ring - closes the socket by way of its ring: its number stays taken as long as it is known there */
void flow_close_on_ring(struct rings *rings, struct flow *flow)
{
	flow_list_remove(&rings->lingering, &flow->lingering);
	if (flow->shut)
		shutdown(flow->fd, SHUT_RDWR);
	flow_issue(flow, FLOW_CLOSE);
}

/** flow_stop_lingering - a closing flow gives up what is not sent yet */
void flow_stop_lingering(struct rings *rings, struct flow *flow)
{
	rings->counters.abandoned++;
	/* The peer must learn at once that more is missing, even while a child has the descriptor as well. */
	flow->shut = true;
	flow_close_on_ring(rings, flow);
}

/** flow_shutdown - shutdown(2) for both directions once everything is sent */
void flow_shutdown(struct flow *flow)
{
	flow->shut = true;
	if (!flow->lane || flow->error || !flow_unsent(flow))
		shutdown(flow->fd, SHUT_RDWR);
}

/**
 * flow_close - sends what was written, up to FLOW_LINGER_MS, and closes the socket
 *
 * rings.on_gone is called when all is over, perhaps before this returns.
 */
void flow_close(struct rings *rings, struct flow *flow)
{
	leave_lists(rings, flow);
	flow->watch_read = flow->watch_write = false;
	flow->closing = true;
	if (!flow->lane) {
		close(flow->fd);
		free_bytes(flow);
		rings->on_gone(flow);
		return;
	}
	flow_give_back(flow);
	flow->wants &= flow->error ? 0 : FLOW_SEND;
	if (flow->error || !flow_unsent(flow)) {
		flow_close_on_ring(rings, flow);
		return;
	}
	if (flow->wants)
		flow_issue(flow, 0);
	rings->counters.lingered++;
	flow->linger_until_ms = rings_now_ms() + FLOW_LINGER_MS;
	flow_list_add(&rings->lingering, &flow->lingering);
	if (rings->lingering.length > FLOW_LINGERING_MAX)
		flow_stop_lingering(rings, flow_list_first(&rings->lingering, offsetof(struct flow, lingering)));
}

/** flow_gone - the workers know the socket no more */
void flow_gone(struct rings *rings, struct flow *flow)
{
	leave_lane(rings, flow);
	free_bytes(flow);
	rings->on_gone(flow);
}

/**
 * flow_write_rest - writes what the rings did not send, with system calls
 *
 * Returns 0 when that was all, -EAGAIN when the socket takes no more now, or -errno.
 */
int flow_write_rest(struct flow *flow)
{
	while (flow_unsent(flow)) {
		ssize_t sent;

		if (flow->out_sent == flow->out.length) {
			flow_bytes_release(&flow->out);
			flow->out = flow->next;
			flow->next = (struct flow_bytes){ NULL, 0, 0 };
			flow->out_sent = 0;
		}
		sent = send(flow->fd, flow->out.at + flow->out_sent, flow->out.length - flow->out_sent,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent >= 0)
			flow->out_sent += (uint32_t)sent;
		else if (errno != EINTR)
			return -errno;
	}
	flow_bytes_release(&flow->out);
	flow->out_sent = 0;
	return 0;
}

/* All of it. Returns 0 or why it cannot, at that time or before. */
static int write_all(struct flow *flow, uint64_t until_ms)
{
	int ret;

	while ((ret = flow_write_rest(flow)) == -EAGAIN) {
		struct pollfd wait = { .fd = flow->fd, .events = POLLOUT };
		uint64_t now_ms = rings_now_ms();

		if (now_ms >= until_ms)
			return -ETIMEDOUT;
		poll(&wait, 1, (int)(until_ms - now_ms));
	}
	return ret;
}

static void give_up_sending(struct flow *flow, int error)
{
	flow->error = error;
	flow->out_sent = 0;
	flow_bytes_release(&flow->out);
	flow_bytes_release(&flow->next);
}

/* Sends all that is left by system calls. Returns 0, or -errno with flow.error set. */
static int finish(struct flow *flow, uint64_t until_ms)
{
	int ret = flow->error ? -flow->error : write_all(flow, until_ms);

	if (ret)
		give_up_sending(flow, -ret);
	return ret;
}

/**
 * flow_detach - takes the socket off the rings, for system calls from now on
 *
 * Everything written has gone to the socket when this returns; bytes received stay for flow_read().
 *
 * Returns 0, or -errno with flow.error set: the peer or the workers did not move for FLOW_DETACH_MS.
 */
int flow_detach(struct rings *rings, struct flow *flow)
{
	uint64_t until_ms = rings_now_ms() + FLOW_DETACH_MS;
	int ret;

	if (!flow->lane)
		return finish(flow, until_ms);
	flow->detaching = true;
	flow->wants = 0;
	flow_list_remove(&flow->lane->starved, &flow->starved);
	flow_issue(flow, FLOW_UNREGISTER);
	while (flow->in_flight || flow->wants) {
		if (!rings->fio || rings_now_ms() > until_ms) {
			flow->error = ETIMEDOUT;
			flow->detaching = false;
			return -ETIMEDOUT;
		}
		rings_submit(rings);
		rings_wait(rings, 1000, 0);
		rings_harvest(rings);
	}
	if (!flow_spill(rings, flow))
		flow->error = ENOMEM;
	leave_lane(rings, flow);
	flow->detaching = false;
	rings->counters.detached++;
	ret = finish(flow, until_ms);
	flow_requeue(rings, flow);
	return ret;
}

/**
 * flow_abandon - takes a flow off rings that were stopped
 *
 * A send that has no completion has sent nothing, so all that is left goes out by system calls: what the socket does
 * not take now is for flow_write_rest(). A flow that is closing is gone afterwards.
 */
void flow_abandon(struct rings *rings, struct flow *flow)
{
	int ret;

	flow->in_flight = flow->wants = 0;
	flow->receiving = flow->pausing = flow->sending = false;
	ret = flow->error ? 0 : flow_write_rest(flow);
	if (flow->closing) {
		if (flow->fd >= 0)
			close(flow->fd);
		flow_gone(rings, flow);
		return;
	}
	if (!flow_spill(rings, flow))
		ret = -ENOMEM;
	leave_lane(rings, flow);
	rings->counters.detached++;
	if (ret && ret != -EAGAIN)
		give_up_sending(flow, -ret);
	flow_requeue(rings, flow);
}
