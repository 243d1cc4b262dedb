// SPDX-License-Identifier: GPL-2.0
/*
 * What would block a ring goes to a wq worker: another donated thread, which may sleep in an
 * operation.
 */
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include "internal.h"

static struct fastio_wq *fastio_wq_of(struct fastio_rq *rq)
{
	return &rq->ctx->wq[rq->index % rq->ctx->nr_wq];
}

static void fastio_wq_wake(struct fastio_wq *wq)
{
	/* Pairs with the barrier of set_current_state() in fastio_wq_sleep(). */
	rcuwait_wake_up(&wq->wait);
}

/**
 * fastio_punt() - hand a request to a wq worker
 * @rq: ring; the caller serves it
 * @req: request, new or waiting
 *
 * Return: 0; -EOPNOTSUPP if the context has no wq worker: the request is still the caller's.
 */
int fastio_punt(struct fastio_rq *rq, struct fastio_req *req)
{
	struct fastio_wq *wq;

	if (!rq->ctx->nr_wq)
		return -EOPNOTSUPP;
	wq = fastio_wq_of(rq);
	if (req->slot) {
		/* The slot may be dropped while the worker is busy. */
		fastio_queue_remove(req);
		req->file = get_file(req->slot->file);
		req->slot = NULL;
	} else if (req->file) {
		fastio_unhook(&req->node);
		fastio_dequeue(&req->node);
	}
	req->node.kind = FASTIO_NODE_WQ;
	atomic_set(&req->node.state, 0);
	fastio_park(rq, req, FASTIO_WQ_QUEUED);
	spin_lock(&wq->lock);
	list_add_tail(&req->wq_link, &wq->queue);
	spin_unlock(&wq->lock);
	rq->st.punted++;
	fastio_wq_wake(wq);
	return 0;
}

/**
 * fastio_wq_remove() - make sure that no wq worker is going to touch a request
 * @rq: ring; the caller serves it
 * @req: request in flight
 *
 * Return: false if one is executing it.
 */
bool fastio_wq_remove(struct fastio_rq *rq, struct fastio_req *req)
{
	struct fastio_wq *wq;
	bool ret = true;

	/* Only requests at a wq worker change place behind our back. */
	if (req->where == FASTIO_PARKED || req->where == FASTIO_TIMED)
		return true;
	wq = fastio_wq_of(rq);
	spin_lock(&wq->lock);
	switch (req->where) {
	case FASTIO_WQ_QUEUED:
		list_del(&req->wq_link);
		req->where = FASTIO_PARKED;
		break;
	case FASTIO_WQ_RUNNING:
		ret = false;
		break;
	}
	spin_unlock(&wq->lock);
	return ret;
}

static struct fastio_req *fastio_wq_take(struct fastio_wq *wq)
{
	struct fastio_req *req;

	spin_lock(&wq->lock);
	req = list_first_entry_or_null(&wq->queue, struct fastio_req, wq_link);
	if (req) {
		list_del(&req->wq_link);
		req->where = FASTIO_WQ_RUNNING;
	}
	spin_unlock(&wq->lock);
	return req;
}

/*
 * A signal came before anything was done: let the thread handle it first. Return: false if the
 * context is dead.
 */
static bool fastio_wq_give_back(struct fastio_ctx *ctx, struct fastio_wq *wq,
				struct fastio_req *req)
{
	bool dead;

	spin_lock(&wq->lock);
	/*
	 * Under the lock, so that either we see it or fastio_retire() finds the request on the
	 * queue.
	 */
	dead = READ_ONCE(ctx->dead);
	if (!dead) {
		req->where = FASTIO_WQ_QUEUED;
		list_add(&req->wq_link, &wq->queue);
	}
	spin_unlock(&wq->lock);
	return !dead;
}

static void fastio_wq_finish(struct fastio_wq *wq, struct fastio_req *req, int res)
{
	if (req->file)
		fput(req->file);
	fastio_put_bufs(req->bufs);
	req->file = NULL;
	req->bufs = NULL;
	req->res = res;
	/* Under the lock, so that who sees FASTIO_WQ_DONE finds the node on the ready list. */
	spin_lock(&wq->lock);
	req->where = FASTIO_WQ_DONE;
	atomic_or(FASTIO_QUEUED, &req->node.state);
	fastio_kick(&req->node);
	spin_unlock(&wq->lock);
}

/*
 * Sleeps until a file that said -EAGAIN (it is in non-blocking mode) is ready. Return: 0, or
 * -ERESTARTSYS when the worker must leave first.
 */
static int fastio_wq_poll(struct fastio_ctx *ctx, struct fastio_wq *wq, struct file *file,
			  __poll_t events)
{
	struct poll_wqueues table;
	poll_table *pt;
	int ret = 0;

	events |= EPOLLERR | EPOLLHUP;
	poll_initwait(&table);
	table.pt._key = events;
	pt = &table.pt;
	prepare_to_rcuwait(&wq->wait);
	while (!(vfs_poll(file, pt) & events)) {
		pt = NULL;
		/*
		 * Full barrier: the state first, then what wakers set. Pairs with pollwake() and
		 * fastio_kill().
		 */
		set_current_state(TASK_INTERRUPTIBLE);
		if (fastio_must_leave(ctx)) {
			ret = -ERESTARTSYS;
			break;
		}
		if (!READ_ONCE(table.triggered))
			schedule();
		__set_current_state(TASK_RUNNING);
		/* Full barrier: forget the event, then look again. Pairs with pollwake(). */
		smp_store_mb(table.triggered, 0);
	}
	finish_rcuwait(&wq->wait);
	poll_freewait(&table);
	return ret;
}

static int fastio_wq_execute(struct fastio_ctx *ctx, struct fastio_wq *wq, struct fastio_req *req)
{
	bool reads = req->sqe.opcode == FASTIO_OP_READ || req->sqe.opcode == FASTIO_OP_READV;
	int res;

	for (;;) {
		res = fastio_do_blocking(req);
		if (res != -EAGAIN || !req->file || !file_can_poll(req->file))
			return res;
		res = fastio_wq_poll(ctx, wq, req->file, reads ? EPOLLIN : EPOLLOUT);
		if (res)
			return res;
	}
}

static void fastio_wq_sleep(struct fastio_ctx *ctx, struct fastio_wq *wq)
{
	prepare_to_rcuwait(&wq->wait);
	for (;;) {
		/* Full barrier: the state first, then the queue. Pairs with fastio_wq_wake(). */
		set_current_state(TASK_INTERRUPTIBLE);
		if (!list_empty(&wq->queue) || fastio_must_leave(ctx))
			break;
		schedule();
	}
	finish_rcuwait(&wq->wait);
}

static long fastio_wq_serve(struct fastio_ctx *ctx, struct fastio_wq *wq)
{
	unsigned long last_jiffy = 0;
	u64 idle_since = 0;

	for (;;) {
		struct fastio_req *req;

		if (READ_ONCE(ctx->dead))
			return -ESHUTDOWN;
		if (task_work_pending(current))
			return 0;
		if (signal_pending(current))
			return -EINTR;
		req = fastio_wq_take(wq);
		if (req) {
			int res = fastio_wq_execute(ctx, wq, req);

			idle_since = 0;
			if (fastio_interrupted(res) && fastio_must_leave(ctx)) {
				if (fastio_wq_give_back(ctx, wq, req))
					continue;
				res = -ECANCELED;
			} else if (fastio_interrupted(res)) {
				res = -EINTR;
			}
			fastio_wq_finish(wq, req, res);
			continue;
		}
		fastio_quiesce(&last_jiffy);
		cond_resched();
		cpu_relax();
		if (!idle_since)
			idle_since = local_clock();
		if (!ctx->wq_idle_ns || local_clock() - idle_since >= ctx->wq_idle_ns) {
			fastio_wq_sleep(ctx, wq);
			idle_since = 0;
		}
	}
}

/**
 * fastio_wq_interrupt() - get a wq worker out of whatever it is doing
 * @wq: its queue
 *
 * As a signal would, but without one: an operation that sleeps interruptibly ends with
 * -ERESTARTSYS. The flag is cleared on the way to user space.
 */
void fastio_wq_interrupt(struct fastio_wq *wq)
{
	spin_lock(&wq->lock);
	if (wq->task) {
		set_tsk_thread_flag(wq->task, TIF_NOTIFY_SIGNAL);
		wake_up_process(wq->task);
	}
	spin_unlock(&wq->lock);
}

/**
 * fastio_wq_worker() - FASTIO_IOC_WORKER of a wq worker
 * @ctx: context
 * @wq: its queue
 *
 * Return: see the uapi header.
 */
long fastio_wq_worker(struct fastio_ctx *ctx, struct fastio_wq *wq)
{
	bool busy;
	long ret;

	spin_lock(&wq->lock);
	busy = wq->task;
	if (!busy)
		wq->task = current;
	spin_unlock(&wq->lock);
	if (busy)
		return -EBUSY;
	ret = fastio_wq_serve(ctx, wq);
	spin_lock(&wq->lock);
	wq->task = NULL;
	spin_unlock(&wq->lock);
	return ret;
}
