// SPDX-License-Identifier: GPL-2.0
/*
 * Operations: checked, attempted, parked when they must wait, attempted again when woken,
 * completed.
 *
 * An attempt never blocks. The rule that keeps wake-ups from being lost: clear the "ready" bit
 * first, attempt then, and say WANT only when the bit is still clear.
 */
#include <linux/file.h>
#include <linux/net.h>
#include <linux/socket.h>
#include "internal.h"

static bool fastio_multishot(const struct fastio_req *req)
{
	return req->sqe.flags & FASTIO_SQE_MULTISHOT;
}

/**
 * fastio_park() - keep a request until it can go on
 * @rq: ring; the caller serves it
 * @req: request
 * @where: what it waits for
 */
void fastio_park(struct fastio_rq *rq, struct fastio_req *req, enum fastio_where where)
{
	if (req->where == FASTIO_FREE) {
		fastio_flight_add(rq, req);
		/* What it refers to stays, whatever is registered while it waits. */
		if (req->sqe.flags & FASTIO_SQE_FIXED_BUF && rq->bufs) {
			refcount_inc(&rq->bufs->refs);
			req->bufs = rq->bufs;
		}
	}
	req->where = where;
	if (where == FASTIO_PARKED && req->slot)
		fastio_queue_add(fastio_queue_of(req), req);
	rq->st.parked++;
}

/**
 * fastio_complete() - post the last CQE of a request and free it
 * @rq: ring; the caller serves it
 * @req: request, which no wq worker and no timer knows any more
 * @res: result
 * @flags: FASTIO_CQE_*
 */
void fastio_complete(struct fastio_rq *rq, struct fastio_req *req, int res, u32 flags)
{
	if (req->where != FASTIO_FREE) {
		fastio_flight_remove(rq, req);
		fastio_queue_remove(req);
		req->where = FASTIO_FREE;
		if (unlikely(req->bufs)) {
			fastio_put_bufs(req->bufs);
			req->bufs = NULL;
		}
	}
	if (req->file) {
		fastio_unhook(&req->node);
		fastio_dequeue(&req->node);
		fput(req->file);
		req->file = NULL;
	}
	fastio_finish(rq, req, res, flags);
}

/* ------------------------------------------------------------------ attempts */

/* A filter may have been installed since the request was taken, so both look again. */
static int fastio_attempt_rd(struct fastio_rq *rq, struct fastio_req *req,
			     struct fastio_result *result)
{
	struct file *file = fastio_file(req);

	if (unlikely(fastio_seccomp_refuses()))
		return -EPERM;
	switch (req->sqe.opcode) {
	case FASTIO_OP_RECV:
	case FASTIO_OP_SEND_RECV:
		return fastio_do_recv(rq, req, file, result);
	case FASTIO_OP_ACCEPT:
		return fastio_do_accept(req, file, result);
	case FASTIO_OP_RECVMSG:
		return fastio_do_recvmsg(req, file, result);
	case FASTIO_OP_READ:
	case FASTIO_OP_READV:
		return fastio_do_rw(req, file);
	case FASTIO_OP_POLL:
		return fastio_do_poll(req, file);
	}
	return -EOPNOTSUPP;
}

static int fastio_attempt_wr(struct fastio_rq *rq, struct fastio_req *req)
{
	struct file *file = fastio_file(req);

	if (unlikely(fastio_seccomp_refuses()))
		return -EPERM;
	switch (req->sqe.opcode) {
	case FASTIO_OP_SEND:
	case FASTIO_OP_SEND_RECV:
		return fastio_do_send(rq, req, file);
	case FASTIO_OP_SENDMSG:
		return fastio_do_sendmsg(req, file);
	case FASTIO_OP_WRITE:
	case FASTIO_OP_WRITEV:
		return fastio_do_rw(req, file);
	}
	return -EOPNOTSUPP;
}

/* An attempt said "not yet". Return: 0 if the request may wait, else what to complete it with. */
static int fastio_may_wait(struct fastio_rq *rq, struct fastio_req *req)
{
	struct fastio_node *node = fastio_node_of(req);

	rq->st.eagain++;
	if (req->sqe.flags & FASTIO_SQE_NOWAIT)
		return -EAGAIN;
	if (node->hooked)
		return 0;
	return fastio_hook(node, fastio_file(req),
			   node->events ?: EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP);
}

/**
 * fastio_punt_or_complete() - hand a request to a wq worker, or complete it with the reason why not
 * @rq: ring; the caller serves it
 * @req: request
 */
void fastio_punt_or_complete(struct fastio_rq *rq, struct fastio_req *req)
{
	int err = -EAGAIN;

	if (!(req->sqe.flags & FASTIO_SQE_NOWAIT))
		err = fastio_punt(rq, req);
	if (err)
		fastio_complete(rq, req, err, 0);
}

/* Adds what was received to a RECV with MSG_WAITALL. Return: whether more is to come. */
static bool fastio_recv_more(struct fastio_req *req, int *res)
{
	if (req->sqe.opcode != FASTIO_OP_RECV || !(req->sqe.op_flags & MSG_WAITALL))
		return false;
	if (*res > 0) {
		req->done += *res;
		if (req->done < req->sqe.len && !(req->sqe.op_flags & MSG_PEEK))
			return true;
	}
	if (req->done)
		*res = req->done;
	return false;
}

/*
 * Asks to be woken unless an attempt to read may succeed.
 *
 * Return: whether it may. If not, FASTIO_WANT_RD is set.
 */
static bool fastio_may_read(struct fastio_node *node)
{
	if (!node->hooked || atomic_read(&node->state) & FASTIO_RD)
		return true;
	/* Full barrier: WANT first, then the last look. Pairs with fastio_wake_fn(). */
	return atomic_fetch_or(FASTIO_WANT_RD, &node->state) & FASTIO_RD;
}

/**
 * fastio_try_rd() - attempt the receiving half of a request until it ends or must wait
 * @rq: ring; the caller serves it
 * @req: request
 * @cleared: attempt at once: FASTIO_RD was set and has just been cleared, or does not matter
 *
 * Return: false if it must wait; the caller keeps it.
 */
bool fastio_try_rd(struct fastio_rq *rq, struct fastio_req *req, bool cleared)
{
	struct fastio_node *node = fastio_node_of(req);
	unsigned int fair = FASTIO_FAIR;
	int res;

	for (;;) {
		struct fastio_result result = {};

		if (node->hooked && !cleared) {
			if ((req->sqe.flags & FASTIO_SQE_NOWAIT) &&
			    !(atomic_read(&node->state) & FASTIO_RD)) {
				fastio_complete(rq, req, -EAGAIN, 0);
				return true;
			}
			if (!fastio_may_read(node))
				return false;
			/* Full barrier: clear first, then attempt. Pairs with fastio_wake_fn(). */
			atomic_fetch_andnot(FASTIO_RD | FASTIO_WANT_RD, &node->state);
		}
		cleared = false;
		/* One more completion than promised needs room; others need their turn. */
		if (fastio_multishot(req) && !fastio_index_cq_room(&rq->ix, rq->shm, 1)) {
			atomic_or(FASTIO_RD, &node->state);
			fastio_requeue(node, &rq->stalled);
			rq->st.cq_stalls++;
			return false;
		}
		if (!fair--) {
			atomic_or(FASTIO_RD, &node->state);
			fastio_requeue(node, &rq->backlog);
			return false;
		}
		res = fastio_attempt_rd(rq, req, &result);
		if (res == -EAGAIN) {
			res = fastio_may_wait(rq, req);
			if (!res)
				continue;
		}
		if (unlikely(res < 0)) {
			if (res == FASTIO_PUNT) {
				fastio_punt_or_complete(rq, req);
				return true;
			}
			if (fastio_interrupted(res))
				res = -EINTR;
		}
		if (node->hooked && !result.drained)
			atomic_or(FASTIO_RD, &node->state);
		if (fastio_recv_more(req, &res))
			continue;
		if (fastio_multishot(req) &&
		    (res > 0 || (!res && req->sqe.opcode == FASTIO_OP_ACCEPT))) {
			fastio_post(rq, req->sqe.user_data, res, result.flags | FASTIO_CQE_MORE);
			rq->st.multishot++;
			continue;
		}
		fastio_complete(rq, req, res, res < 0 ? 0 : result.flags);
		return true;
	}
}

/* SEND_RECV has sent: wait for the answer, behind those who wait already. */
static void fastio_begin_rd(struct fastio_rq *rq, struct fastio_req *req)
{
	fastio_queue_remove(req);
	req->receiving = true;
	/* Mostly the answer is still to come: spare the attempt its preparations. */
	if ((req->slot && (req->slot->rd.first || !fastio_may_read(&req->slot->node))) ||
	    !fastio_try_rd(rq, req, false))
		fastio_park(rq, req, FASTIO_PARKED);
}

/**
 * fastio_try_wr() - attempt the sending half of a request until it ends or must wait
 * @rq: ring; the caller serves it
 * @req: request
 *
 * Files are mostly writable, so the attempt comes first and is not paid for with an atomic
 * operation.
 *
 * Return: false if it must wait; the caller keeps it.
 */
bool fastio_try_wr(struct fastio_rq *rq, struct fastio_req *req)
{
	struct fastio_node *node = fastio_node_of(req);
	bool whole = req->sqe.opcode == FASTIO_OP_SEND_RECV ||
		     (req->sqe.opcode == FASTIO_OP_SEND && (req->sqe.op_flags & MSG_WAITALL));
	unsigned int fair = FASTIO_FAIR;
	bool cleared = false;
	int res;

	for (;;) {
		if (!fair--) {
			atomic_or(FASTIO_WR, &node->state);
			fastio_requeue(node, &rq->backlog);
			return false;
		}
		res = fastio_attempt_wr(rq, req);
		if (res == -EAGAIN) {
			res = fastio_may_wait(rq, req);
			if (!res && !cleared) {
				/*
				 * Full barrier: clear first, then attempt once more: that attempt
				 * makes the file wake us. Pairs with fastio_wake_fn().
				 */
				atomic_fetch_andnot(FASTIO_WR | FASTIO_WANT_WR, &node->state);
				cleared = true;
				continue;
			}
			if (!res) {
				/*
				 * Full barrier: WANT first, then the last look. Pairs with
				 * fastio_wake_fn().
				 */
				if (!(atomic_fetch_or(FASTIO_WANT_WR, &node->state) & FASTIO_WR))
					return false;
				cleared = false;
				continue;
			}
		}
		if (unlikely(res < 0)) {
			if (res == FASTIO_PUNT) {
				fastio_punt_or_complete(rq, req);
				return true;
			}
			if (fastio_interrupted(res))
				res = -EINTR;
		}
		if (whole && res > 0) {
			req->done += res;
			if (req->done < req->sqe.len)
				continue;
			res = req->done;
		}
		if (req->sqe.opcode == FASTIO_OP_SEND_RECV && res >= 0)
			fastio_begin_rd(rq, req);
		else
			fastio_complete(rq, req, res,
					req->sqe.opcode == FASTIO_OP_SEND_RECV ?
						FASTIO_CQE_SEND_FAILED :
						0);
		return true;
	}
}

/* ------------------------------------------------------------------ ready nodes */

static void fastio_run_slot(struct fastio_rq *rq, struct fastio_slot *slot)
{
	struct fastio_node *node = &slot->node;
	int clear = FASTIO_QUEUED, old;
	unsigned int fair;

	old = atomic_read(&node->state);
	if (old & FASTIO_RD)
		clear |= !slot->rd.first ? FASTIO_WANT_RD : FASTIO_WANT_RD | FASTIO_RD;
	if (old & FASTIO_WR)
		clear |= FASTIO_WANT_WR;
	/*
	 * Full barrier: clear first, then attempt. What comes in after this queues the node again,
	 * if wanted.
	 */
	old = atomic_fetch_andnot(clear, &node->state);

	if (old & FASTIO_WR) {
		for (fair = FASTIO_FAIR; fair && slot->wr.first; fair--)
			if (!fastio_try_wr(rq, slot->wr.first))
				break;
		if (!fair && slot->wr.first) {
			atomic_or(FASTIO_WR, &node->state);
			fastio_requeue(node, &rq->backlog);
		}
	}
	if (old & FASTIO_RD) {
		bool cleared = clear & FASTIO_RD;

		for (fair = FASTIO_FAIR; fair && slot->rd.first; fair--, cleared = false)
			if (!fastio_try_rd(rq, slot->rd.first, cleared))
				break;
		if (!fair && slot->rd.first) {
			atomic_or(FASTIO_RD, &node->state);
			fastio_requeue(node, &rq->backlog);
		}
	}
}

/**
 * fastio_run_node() - go on with what a node has been waiting for
 * @rq: ring; the caller serves it
 * @node: node, taken off its list
 */
void fastio_run_node(struct fastio_rq *rq, struct fastio_node *node)
{
	struct fastio_req *req = container_of(node, struct fastio_req, node);

	switch (node->kind) {
	case FASTIO_NODE_SLOT:
		fastio_run_slot(rq, container_of(node, struct fastio_slot, node));
		break;
	case FASTIO_NODE_REQ:
		atomic_fetch_andnot(FASTIO_QUEUED, &node->state);
		if (req->receiving)
			fastio_try_rd(rq, req, false);
		else
			fastio_try_wr(rq, req);
		break;
	case FASTIO_NODE_TIMER:
		/* The callback may not have returned yet. */
		hrtimer_cancel(&node->timer);
		atomic_set(&node->state, 0);
		fastio_complete(rq, req, -ETIME, 0);
		break;
	case FASTIO_NODE_WQ:
		atomic_set(&node->state, 0);
		fastio_complete(rq, req, req->res, 0);
		break;
	}
}
