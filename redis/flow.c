// SPDX-License-Identifier: MIT
/* Receiving and sending of one flow. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flow.h"

/* A worker need not wait for the end of a long batch. */
#define SUBMIT_EVERY 16

static void swap(struct flow_bytes *a, struct flow_bytes *b)
{
	struct flow_bytes c = *a;

	*a = *b;
	*b = c;
}

/* ------------------------------------------------------------------ submitting */

static void fill(struct flow *flow, struct fastio_sqe *sqe)
{
	uint64_t tag;

	if (flow->wants & FLOW_SEND) {
		flow->wants &= (uint8_t)~FLOW_SEND;
		tag = TAG_SEND;
		/* Without MSG_WAITALL, so that one that is cancelled has sent nothing. */
		fastio_prep_send(sqe, flow->fd, flow->out.at + flow->out_sent, flow->out.length - flow->out_sent, 0);
		fastio_set_flags(sqe, FASTIO_SQE_SLOT);
		flow->sending = true;
	} else if (flow->wants & FLOW_RECEIVE) {
		flow->wants &= (uint8_t)~FLOW_RECEIVE;
		tag = TAG_RECEIVE;
		fastio_prep_recv_multishot(sqe, flow->fd, flow->lane->bufs.group, 0, 0);
		fastio_set_flags(sqe, FASTIO_SQE_SLOT);
		flow->receiving = true;
	} else if (flow->wants & FLOW_CANCEL) {
		flow->wants &= (uint8_t)~FLOW_CANCEL;
		tag = TAG_CANCEL;
		fastio_prep_cancel(sqe, (uint64_t)(uintptr_t)flow | TAG_RECEIVE, 0);
	} else if (flow->wants & FLOW_UNREGISTER) {
		flow->wants &= (uint8_t)~FLOW_UNREGISTER;
		tag = TAG_UNREGISTER;
		fastio_prep_file_unregister(sqe, flow->fd);
	} else {
		flow->wants = 0;
		tag = TAG_CLOSE;
		fastio_prep_close(sqe, flow->fd);
	}
	fastio_set_data64(sqe, (uint64_t)(uintptr_t)flow | tag);
	flow->in_flight++;
}

/** flow_issue - submits operations (@wants: enum flow_want), now or when the SQ has room */
void flow_issue(struct flow *flow, uint8_t wants)
{
	struct lane *lane = flow->lane;

	flow->wants |= wants;
	while (flow->wants) {
		struct fastio_sqe *sqe = fastio_get_sqe(lane->queue);

		if (!sqe) {
			flow_list_add(&lane->deferred, &flow->deferred);
			return;
		}
		fill(flow, sqe);
		if (++lane->unsubmitted == SUBMIT_EVERY) {
			lane->unsubmitted = 0;
			/* A worker that cannot be woken is found dead by the next wait. */
			fastio_submit(lane->queue);
		}
	}
	flow_list_remove(&lane->deferred, &flow->deferred);
}

/* ------------------------------------------------------------------ receiving */

/** flow_give_back - drops what was received into provided buffers */
void flow_give_back(struct flow *flow)
{
	while (flow->first >= 0) {
		int32_t buffer = flow->first;

		flow->first = flow->lane->next[buffer];
		lane_give_back(flow->lane, buffer);
	}
	flow->last = -1;
	flow->taken = 0;
}

/** flow_spill - moves what was received out of the provided buffers, which others need. Returns false without memory. */
bool flow_spill(struct rings *rings, struct flow *flow)
{
	struct flow_bytes *bytes = &flow->spill;

	if (flow->first < 0)
		return true;
	if (flow->spill_taken) {
		bytes->length -= flow->spill_taken;
		memmove(bytes->at, bytes->at + flow->spill_taken, bytes->length);
		flow->spill_taken = 0;
	}
	if (!flow_bytes_reserve(bytes, flow->received))
		return false;
	for (int32_t buffer = flow->first; buffer >= 0; buffer = flow->lane->next[buffer]) {
		uint32_t skip = buffer == flow->first ? flow->taken : 0;
		uint32_t length = flow->lane->length[buffer] - skip;

		memcpy(bytes->at + bytes->length, lane_buffer(flow->lane, buffer) + skip, length);
		bytes->length += length;
	}
	flow_give_back(flow);
	rings->counters.spills++;
	return true;
}

/* Whether more is to be received now. */
static bool may_receive(const struct flow *flow)
{
	return !flow->receiving && !flow->ended && !flow->error && !flow->closing && !flow->detaching &&
	       !(flow->wants & FLOW_RECEIVE) && flow->received < FLOW_RECEIVE_MAX && !flow->starved.after;
}

static bool is_readable(const struct flow *flow)
{
	return flow->watch_read && (flow->received || flow->ended || flow->error);
}

static bool is_writable(const struct rings *rings, const struct flow *flow)
{
	return flow->watch_write &&
	       (flow->error || (flow->lane ? flow_room(rings, flow, SIZE_MAX) : !flow_unsent(flow)));
}

static void report(struct rings *rings, struct flow *flow)
{
	if (is_readable(flow))
		flow_list_add(&rings->readable, &flow->readable);
	if (is_writable(rings, flow))
		flow_list_add(&rings->writable, &flow->writable);
}

static void broke(struct rings *rings, struct flow *flow, int error)
{
	if (!flow->error)
		flow->error = error;
	flow->next.length = flow->out.length = flow->out_sent = 0;
	report(rings, flow);
}

/* Keeps a provided buffer until it is read. */
static void keep(struct rings *rings, struct flow *flow, int32_t buffer, uint32_t length)
{
	struct lane *lane = flow->lane;

	lane->length[buffer] = length;
	lane->next[buffer] = -1;
	if (flow->first < 0)
		flow->first = buffer;
	else
		lane->next[flow->last] = buffer;
	flow->last = buffer;
	flow->received += length;
	rings->counters.receives++;
	rings->counters.received_bytes += length;
}

static void received(struct rings *rings, struct flow *flow, const struct fastio_cqe *cqe)
{
	struct lane *lane = flow->lane;

	if (!fastio_cqe_more(cqe)) {
		flow->receiving = flow->pausing = false;
		flow->in_flight--;
	}
	if (fastio_cqe_has_bid(cqe)) {
		int32_t buffer = fastio_cqe_bid(cqe);

		if (--lane->free < FLOW_BUFFERS_LOW)
			lane_provide_more(lane);
		if (cqe->res <= 0 || flow->closing) {
			lane_give_back(lane, buffer);
		} else {
			keep(rings, flow, buffer, (uint32_t)cqe->res);
			/* All that is to be done about nearly every request. */
			if (flow->receiving && flow->watch_read && !flow->detaching &&
			    flow->received < FLOW_RECEIVE_MAX) {
				flow_list_add(&rings->readable, &flow->readable);
				return;
			}
		}
	}
	if (!cqe->res) {
		flow->ended = true;
	} else if (cqe->res == -ENOBUFS) {
		rings->counters.starvations++;
		lane_provide_more(lane);
		if (!flow->closing)
			flow_list_add(&lane->starved, &flow->starved);
	} else if (cqe->res < 0 && cqe->res != -ECANCELED) {
		broke(rings, flow, -cqe->res);
	}
	if (flow->closing)
		return;
	/* Nobody will read soon, or the workers are short of buffers. */
	if (flow->first >= 0 && (!flow->watch_read || flow->detaching) && !flow_spill(rings, flow))
		broke(rings, flow, ENOMEM);
	if (flow->received >= FLOW_RECEIVE_MAX && flow->receiving && !flow->pausing) {
		flow->pausing = true;
		rings->counters.pauses++;
		flow_issue(flow, FLOW_CANCEL);
	}
	if (may_receive(flow))
		flow_issue(flow, FLOW_RECEIVE);
	report(rings, flow);
}

/* Takes up to @length bytes from @from. */
static size_t take(void *to, size_t length, const char *from, size_t available)
{
	size_t bytes = length < available ? length : available;

	memcpy(to, from, bytes);
	return bytes;
}

/**
 * flow_read - moves bytes received to @to; no system call
 *
 * Returns how many, which may be fewer than @length; 0 says that there are none: see flow.ended and
 * flow.error.
 */
size_t flow_read(struct flow *flow, void *to, size_t length)
{
	bool was_full = flow->received >= FLOW_RECEIVE_MAX / 2;
	size_t done = 0;

	if (flow->spill.length) {
		done = take(to, length, flow->spill.at + flow->spill_taken, flow->spill.length - flow->spill_taken);
		flow->spill_taken += (uint32_t)done;
		if (flow->spill_taken == flow->spill.length) {
			flow_bytes_release(&flow->spill);
			flow->spill_taken = 0;
		}
	}
	while (flow->first >= 0 && done < length) {
		struct lane *lane = flow->lane;
		int32_t buffer = flow->first;
		size_t bytes = take((char *)to + done, length - done,
				    lane_buffer(lane, buffer) + flow->taken,
				    lane->length[buffer] - flow->taken);

		done += bytes;
		flow->taken += (uint32_t)bytes;
		if (flow->taken < lane->length[buffer])
			break;
		flow->first = lane->next[buffer];
		flow->taken = 0;
		if (flow->first < 0)
			flow->last = -1;
		lane_give_back(lane, buffer);
	}
	flow->received -= done;
	if (was_full && flow->lane && flow->received < FLOW_RECEIVE_MAX / 2 && may_receive(flow))
		flow_issue(flow, FLOW_RECEIVE);
	return done;
}

/* ------------------------------------------------------------------ sending */

/** flow_unsent - bytes taken by flow_write() that the socket has not */
size_t flow_unsent(const struct flow *flow)
{
	return flow->out.length - flow->out_sent + flow->next.length;
}

/** flow_room - how many of @length bytes flow_write() would take now */
size_t flow_room(const struct rings *rings, const struct flow *flow, size_t length)
{
	size_t unsent = flow_unsent(flow);
	size_t most = rings->send_bytes;

	if (length <= FLOW_SMALL_WRITE)
		most += FLOW_SMALL_WRITE;
	if (unsent >= most || (length <= FLOW_SMALL_WRITE && length > most - unsent))
		return 0;
	return length < most - unsent ? length : most - unsent;
}

/* Sends what is next, if nothing is being sent. */
static void send_next(struct flow *flow)
{
	if (flow->sending || flow->detaching || flow->wants & FLOW_SEND)
		return;
	if (flow->out_sent == flow->out.length) {
		flow->out_sent = flow->out.length = 0;
		if (flow->out.capacity > FLOW_BYTES_KEPT)
			flow_bytes_release(&flow->out);
		if (!flow->next.length)
			return;
		swap(&flow->out, &flow->next);
	}
	flow_issue(flow, FLOW_SEND);
}

/* Whether nothing is being sent or waits for that, so that whatever is small fits. */
static bool is_idle(const struct flow *flow)
{
	return !flow->sending && !flow->out.length && !flow->next.length && !flow->detaching &&
	       !(flow->wants & FLOW_SEND);
}

static size_t send_now(struct flow *flow, const void *data, size_t length)
{
	if (!flow_bytes_reserve(&flow->out, length))
		return 0;
	memcpy(flow->out.at, data, length);
	flow->out.length = (uint32_t)length;
	flow_issue(flow, FLOW_SEND);
	return length;
}

/*
 * Whether a write is better made there and then, by the thread that would make it anyway: a large one would be copied
 * first, and after few completions the loop would soon wait, and come round once more to learn that all was sent.
 */
static bool should_send_at_once(const struct rings *rings, const struct flow *flow, size_t length)
{
	return flow->lane->queue->self && is_idle(flow) && (length > FLOW_BYTES_KEPT || rings->few);
}

/* Sends as much as the socket takes. Returns 0 when it takes none or is broken, which the ring finds out in its turn. */
static size_t send_at_once(struct rings *rings, struct flow *flow, const struct iovec *parts, int count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count };
	ssize_t bytes = sendmsg(flow->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (bytes <= 0)
		return 0;
	rings->counters.sends++;
	rings->counters.sent_bytes += (uint64_t)bytes;
	return (size_t)bytes;
}

/**
 * flow_write - takes bytes to be sent
 *
 * Returns how many, beginning with the first; 0: no room (or no memory) now, watch for it.
 */
size_t flow_write(struct rings *rings, struct flow *flow, const struct iovec *parts, int count)
{
	size_t length = 0, room, done = 0;

	for (int i = 0; i < count; i++)
		length += parts[i].iov_len;
	if (length && count <= IOV_MAX && should_send_at_once(rings, flow, length)) {
		done = send_at_once(rings, flow, parts, count);
		if (done)
			return done;
	}
	if (count == 1 && is_idle(flow) && length && length <= FLOW_SMALL_WRITE)
		return send_now(flow, parts->iov_base, length);
	room = flow_room(rings, flow, length);
	if (!room || !flow_bytes_reserve(&flow->next, flow->next.length + room))
		return 0;
	for (int i = 0; i < count && done < room; i++) {
		size_t bytes = take(flow->next.at + flow->next.length, room - done, parts[i].iov_base,
				    parts[i].iov_len);

		flow->next.length += (uint32_t)bytes;
		done += bytes;
	}
	send_next(flow);
	return done;
}

/* ------------------------------------------------------------------ watching */

/** flow_requeue - puts a flow that still has something to report behind the others */
void flow_requeue(struct rings *rings, struct flow *flow)
{
	report(rings, flow);
}

/** flow_watch_read - whether flow_next_readable() may return the flow */
void flow_watch_read(struct rings *rings, struct flow *flow, bool on)
{
	flow->watch_read = on;
	if (on)
		report(rings, flow);
	else
		flow_list_remove(&rings->readable, &flow->readable);
}

/** flow_watch_write - whether flow_next_writable() may return the flow */
void flow_watch_write(struct rings *rings, struct flow *flow, bool on)
{
	flow->watch_write = on;
	if (on)
		report(rings, flow);
	else
		flow_list_remove(&rings->writable, &flow->writable);
}

/** flow_next_readable - takes the flow that waited longest to be read, or NULL */
struct flow *flow_next_readable(struct rings *rings)
{
	struct flow *flow = flow_list_first(&rings->readable, offsetof(struct flow, readable));

	if (flow)
		flow_list_remove(&rings->readable, &flow->readable);
	return flow;
}

/** flow_next_writable - takes the flow that waited longest to be written to, or NULL */
struct flow *flow_next_writable(struct rings *rings)
{
	struct flow *flow = flow_list_first(&rings->writable, offsetof(struct flow, writable));

	if (flow)
		flow_list_remove(&rings->writable, &flow->writable);
	return flow;
}

/* ------------------------------------------------------------------ completions */

/* Whether it is enough to note that all of a flow's bytes went out: nobody waits for that. */
static bool is_all(const struct flow *flow)
{
	return flow->out_sent == flow->out.length && !flow->next.length && !flow->watch_write && !flow->shut &&
	       !flow->lingering.after && flow->out.capacity <= FLOW_BYTES_KEPT;
}

static void sent(struct rings *rings, struct flow *flow, int res)
{
	flow->sending = false;
	if (flow->error) {
		/* What was left is given up already. */
	} else if (res > 0) {
		flow->out_sent += (uint32_t)res;
		rings->counters.sends++;
		rings->counters.sent_bytes += (uint64_t)res;
		if (is_all(flow)) {
			flow->out_sent = flow->out.length = 0;
			return;
		}
	} else if (res != -ECANCELED && res != -EAGAIN) {
		broke(rings, flow, res ? -res : EPIPE);
	}
	if (!flow->error && !flow->detaching)
		send_next(flow);
	if (flow->lingering.after && (flow->error || !flow_unsent(flow)))
		flow_close_on_ring(rings, flow);
	else if (flow->shut && !flow->closing && !flow_unsent(flow))
		shutdown(flow->fd, SHUT_RDWR);
	report(rings, flow);
}

/** flow_completed - what a completion means for its flow, which may be gone afterwards */
void flow_completed(struct rings *rings, struct flow *flow, enum flow_tag tag, const struct fastio_cqe *cqe)
{
	switch (tag) {
	case TAG_RECEIVE:
		received(rings, flow, cqe);
		break;
	case TAG_SEND:
		flow->in_flight--;
		sent(rings, flow, cqe->res);
		break;
	case TAG_CLOSE:
		flow->in_flight--;
		/* Refused: then nobody but us knows the descriptor. */
		if (cqe->res < 0 && cqe->res != -EBADF)
			close(flow->fd);
		flow->fd = -1;
		break;
	case TAG_CANCEL: /* what it did shows in the receive's own completion */
	case TAG_UNREGISTER: /* there may have been no slot yet */
	case TAG_POLL:
	case TAG_SETTLE:
	case TAG_MASK:
		flow->in_flight--;
		break;
	}
	if (flow->closing && flow->fd < 0 && !flow->in_flight)
		flow_gone(rings, flow);
}

/** flow_catch_up - submits what found no room, and receives what found no buffer */
void flow_catch_up(struct lane *lane)
{
	size_t turns = lane->deferred.length;
	struct flow *flow;

	while (turns-- && (flow = flow_list_first(&lane->deferred, offsetof(struct flow, deferred)))) {
		if (!fastio_sq_space(lane->queue))
			break;
		flow_issue(flow, 0);
	}
	turns = lane->free;
	while (turns-- && (flow = flow_list_first(&lane->starved, offsetof(struct flow, starved)))) {
		flow_list_remove(&lane->starved, &flow->starved);
		if (may_receive(flow))
			flow_issue(flow, FLOW_RECEIVE);
	}
}
