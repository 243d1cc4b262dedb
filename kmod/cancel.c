// SPDX-License-Identifier: GPL-2.0
/* Ending operations early: CANCEL, CLOSE, timers, and everything at once when the context dies. */
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include "internal.h"

/* A timer may fire while it is being cancelled; then it is on the ready list when this returns. */
static void fastio_stop_timer(struct fastio_req *req)
{
	if (!hrtimer_cancel(&req->node.timer))
		fastio_dequeue(&req->node);
}

/**
 * fastio_cancel_req() - end a request that waits
 * @rq: ring; the caller serves it
 * @req: request in flight, not FASTIO_WQ_RUNNING
 * @res: what to complete it with, if a wq worker has not done it already
 */
void fastio_cancel_req(struct fastio_rq *rq, struct fastio_req *req, int res)
{
	switch (req->where) {
	case FASTIO_TIMED:
		fastio_stop_timer(req);
		break;
	case FASTIO_WQ_DONE:
		fastio_dequeue(&req->node);
		res = req->res;
		break;
	}
	fastio_complete(rq, req, res, 0);
}

static bool fastio_matches(const struct fastio_req *req, const struct fastio_sqe *cancel)
{
	if (cancel->op_flags & FASTIO_CANCEL_FD)
		return req->sqe.opcode != FASTIO_OP_TIMEOUT &&
		       req->sqe.opcode != FASTIO_OP_OPENAT && req->sqe.fd == cancel->fd;
	return req->sqe.user_data == cancel->addr;
}

/**
 * fastio_cancel() - FASTIO_OP_CANCEL
 * @rq: ring; the caller serves it
 * @cancel: the request that cancels
 *
 * Return: number of requests cancelled, -ENOENT, or -EALREADY.
 */
int fastio_cancel(struct fastio_rq *rq, const struct fastio_req *cancel)
{
	const struct fastio_sqe *sqe = &cancel->sqe;
	struct hlist_node *tmp;
	struct fastio_req *req;
	bool running = false;
	int nr = 0;

	if (sqe->op_flags & FASTIO_CANCEL_FD ? sqe->addr != 0 : sqe->fd != 0)
		return -EINVAL;
	hlist_for_each_entry_safe(req, tmp, &rq->flight, flight) {
		if (!fastio_matches(req, sqe))
			continue;
		if (!fastio_wq_remove(rq, req)) {
			running = true;
			continue;
		}
		fastio_cancel_req(rq, req, -ECANCELED);
		nr++;
		if (!(sqe->op_flags & FASTIO_CANCEL_ALL))
			break;
	}
	if (nr)
		return nr;
	return running ? -EALREADY : -ENOENT;
}

/**
 * fastio_close() - FASTIO_OP_CLOSE
 * @rq: ring; the caller serves it
 * @req: the request
 *
 * Return: see close(2); -EXDEV if the slot is another ring's.
 */
int fastio_close(struct fastio_rq *rq, const struct fastio_req *req)
{
	struct fastio_slot *slot = fastio_slot_find(rq, req->sqe.fd);
	struct file *file;
	int ret = 0;

	if (IS_ERR(slot))
		return PTR_ERR(slot);
	if (slot) {
		fastio_slot_drop(rq, slot);
	} else {
		/*
		 * Closing the device from inside would end the context in the middle of its own
		 * work.
		 */
		file = fget_raw(req->sqe.fd);
		if (!file)
			return -EBADF;
		if (file->f_op == &fastio_fops)
			ret = -EBADF;
		fput(file);
	}
	if (!ret)
		ret = close_fd(req->sqe.fd);
	/* As the system call: the descriptor is gone, so there is nothing to restart. */
	return fastio_interrupted(ret) ? -EINTR : ret;
}

static enum hrtimer_restart fastio_expired(struct hrtimer *timer)
{
	struct fastio_node *node = container_of(timer, struct fastio_node, timer);

	atomic_or(FASTIO_QUEUED, &node->state);
	fastio_kick(node);
	return HRTIMER_NORESTART;
}

/**
 * fastio_start_timer() - FASTIO_OP_TIMEOUT
 * @rq: ring; the caller serves it
 * @req: the request
 */
void fastio_start_timer(struct fastio_rq *rq, struct fastio_req *req)
{
	enum hrtimer_mode mode = req->sqe.op_flags & FASTIO_TIMEOUT_ABS ? HRTIMER_MODE_ABS :
									  HRTIMER_MODE_REL;

	if (req->sqe.off > KTIME_MAX) {
		fastio_complete(rq, req, -EINVAL, 0);
		return;
	}
	req->node.kind = FASTIO_NODE_TIMER;
	atomic_set(&req->node.state, 0);
	hrtimer_init(&req->node.timer, CLOCK_MONOTONIC, mode);
	req->node.timer.function = fastio_expired;
	fastio_park(rq, req, FASTIO_TIMED);
	hrtimer_start(&req->node.timer, ns_to_ktime(req->sqe.off), mode);
}

/**
 * fastio_retire() - drop every reference of a ring, for ever
 * @rq: ring of a dead context; the caller has claimed it and never gives it back
 *
 * Completions are posted as if each operation had been cancelled; there is room for them by
 * reservation. Requests that a wq worker is executing stay with it: it drops their references
 * itself.
 */
void fastio_retire(struct fastio_rq *rq)
{
	struct fastio_slot *slot, *next;
	struct fastio_req *req;
	struct hlist_node *tmp;

	hlist_for_each_entry_safe(req, tmp, &rq->flight, flight)
		if (fastio_wq_remove(rq, req))
			fastio_cancel_req(rq, req, -ECANCELED);
	list_for_each_entry_safe(slot, next, &rq->slots, link)
		fastio_slot_drop(rq, slot);
	fastio_drop_resources(rq);
	fastio_publish(rq);
	WRITE_ONCE(rq->shm->flags, FASTIO_RING_DEAD);
	atomic_set(&rq->claim, FASTIO_RETIRED);
}
