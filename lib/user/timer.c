// SPDX-License-Identifier: MIT
/* Time-outs: a binary heap by deadline, as large as there can be requests. */
#include <errno.h>
#include <limits.h>

#include "user.h"

static void place(struct user_ring *ring, uint32_t at, struct user_req *req)
{
	ring->timers[at] = req;
	req->heap_at = at;
}

static void rise(struct user_ring *ring, uint32_t at, struct user_req *req)
{
	while (at && ring->timers[(at - 1) / 2]->deadline_ns > req->deadline_ns) {
		place(ring, at, ring->timers[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	place(ring, at, req);
}

static void sink(struct user_ring *ring, uint32_t at, struct user_req *req)
{
	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child + 1 < ring->nr_timers &&
		    ring->timers[child + 1]->deadline_ns < ring->timers[child]->deadline_ns)
			child++;
		if (child >= ring->nr_timers ||
		    ring->timers[child]->deadline_ns >= req->deadline_ns)
			break;
		place(ring, at, ring->timers[child]);
		at = child;
	}
	place(ring, at, req);
}

void fio_timer_add(struct user_req *req)
{
	uint64_t now_ns = fastio_now_ns();
	uint64_t from_ns = req->sqe.op_flags & FASTIO_TIMEOUT_ABS ? 0 : now_ns;

	req->deadline_ns =
		req->sqe.off < UINT64_MAX - from_ns ? from_ns + req->sqe.off : UINT64_MAX;
	if (req->deadline_ns <= now_ns) {
		fio_complete(req, -ETIME, 0);
		return;
	}
	req->state = USER_TIMED;
	rise(req->ring, req->ring->nr_timers++, req);
}

void fio_timer_remove(struct user_req *req)
{
	struct user_ring *ring = req->ring;
	struct user_req *last = ring->timers[--ring->nr_timers];

	if (last == req)
		return;
	if (req->heap_at && ring->timers[(req->heap_at - 1) / 2]->deadline_ns > last->deadline_ns)
		rise(ring, req->heap_at, last);
	else
		sink(ring, req->heap_at, last);
}

/* Completes what is due. Returns how many. */
unsigned int fio_timer_run(struct user_ring *ring)
{
	unsigned int count = 0;
	uint64_t now_ns;

	if (!ring->nr_timers)
		return 0;
	now_ns = fastio_now_ns();
	while (ring->nr_timers && ring->timers[0]->deadline_ns <= now_ns) {
		struct user_req *req = ring->timers[0];

		fio_timer_remove(req);
		fio_complete(req, -ETIME, 0);
		count++;
	}
	return count;
}

/* Milliseconds until the next is due, rounded up, for epoll_wait(); -1 when there is none. */
int fio_timer_left_ms(const struct user_ring *ring)
{
	uint64_t now_ns, left_ms;

	if (!ring->nr_timers)
		return -1;
	now_ns = fastio_now_ns();
	if (ring->timers[0]->deadline_ns <= now_ns)
		return 0;
	left_ms = (ring->timers[0]->deadline_ns - now_ns - 1) / 1000000 + 1;
	return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}
