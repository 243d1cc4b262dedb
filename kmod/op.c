// SPDX-License-Identifier: GPL-2.0
/*
 * Operations: checked, attempted, parked when they must wait, attempted again when woken, completed.
 *
 * An attempt never blocks. The rule that keeps wake-ups from being lost: clear the "ready" bit first, attempt
 * then, and say WANT only when the bit is still clear.
 */
#include <linux/file.h>
#include <linux/net.h>
#include <linux/nospec.h>
#include <linux/socket.h>
#include "internal.h"

/**
 * struct fastio_opdef - what an operation may look like
 * @zero: bits of the SQE that must not be set
 * @word: the same as words
 * @dir: FASTIO_RD or FASTIO_WR: what it waits for; 0: it does not wait for a file
 */
struct fastio_opdef {
	union {
		struct fastio_sqe	zero;
		u64			word[sizeof(struct fastio_sqe) / sizeof(u64)];
	};
	u8 dir;
};

#define FLAGS(allowed)	.flags = (u8)~(allowed), .resv = ~0ULL
#define NO_FLAGS	FLAGS(0), .buf = U16_MAX
#define NO_FD		.fd = -1
#define NO_ADDR		.addr = ~0ULL
#define NO_LEN		.len = U32_MAX
#define NO_OP_FLAGS	.op_flags = U32_MAX
#define NO_OFF		.off = ~0ULL
#define NO_ADDR2	.addr2 = ~0ULL
#define NO_LEN2		.len2 = U32_MAX
#define NO_FD2		.fd2 = -1
#define NO_SECOND	NO_ADDR2, NO_LEN2, NO_FD2

#define SLOT		FASTIO_SQE_SLOT
#define MULTI		FASTIO_SQE_MULTISHOT
#define SELECT		FASTIO_SQE_BUF_SELECT
#define FIXED		FASTIO_SQE_FIXED_BUF
#define ASYNC		FASTIO_SQE_ASYNC
#define NOWAIT		FASTIO_SQE_NOWAIT

static const struct fastio_opdef fastio_opdefs[FASTIO_OP_LAST] = {
	[FASTIO_OP_NOP] = {
		.zero = { NO_FLAGS, NO_FD, NO_ADDR, NO_LEN, NO_OP_FLAGS, NO_OFF, NO_SECOND },
	},
	[FASTIO_OP_ACCEPT] = {
		.zero = { FLAGS(SLOT | MULTI | NOWAIT), NO_LEN, NO_OFF, NO_LEN2, NO_FD2 },
		.dir = FASTIO_RD,
	},
	[FASTIO_OP_RECV] = {
		.zero = { FLAGS(SLOT | MULTI | SELECT | FIXED | NOWAIT), NO_OFF, NO_SECOND },
		.dir = FASTIO_RD,
	},
	[FASTIO_OP_SEND] = {
		.zero = { FLAGS(SLOT | FIXED | NOWAIT), NO_OFF, NO_SECOND },
		.dir = FASTIO_WR,
	},
	[FASTIO_OP_SEND_RECV] = {
		.zero = { FLAGS(SLOT | SELECT), NO_OFF, NO_FD2 },
		.dir = FASTIO_WR,
	},
	[FASTIO_OP_RECVMSG] = {
		.zero = { FLAGS(SLOT | NOWAIT), NO_LEN, NO_OFF, NO_SECOND },
		.dir = FASTIO_RD,
	},
	[FASTIO_OP_SENDMSG] = {
		.zero = { FLAGS(SLOT | NOWAIT), NO_LEN, NO_OFF, NO_SECOND },
		.dir = FASTIO_WR,
	},
	[FASTIO_OP_READ] = {
		.zero = { FLAGS(SLOT | FIXED | ASYNC | NOWAIT), NO_OP_FLAGS, NO_SECOND },
		.dir = FASTIO_RD,
	},
	[FASTIO_OP_WRITE] = {
		.zero = { FLAGS(SLOT | FIXED | ASYNC | NOWAIT), NO_OP_FLAGS, NO_SECOND },
		.dir = FASTIO_WR,
	},
	[FASTIO_OP_READV] = {
		.zero = { FLAGS(SLOT | ASYNC | NOWAIT), NO_OP_FLAGS, NO_SECOND },
		.dir = FASTIO_RD,
	},
	[FASTIO_OP_WRITEV] = {
		.zero = { FLAGS(SLOT | ASYNC | NOWAIT), NO_OP_FLAGS, NO_SECOND },
		.dir = FASTIO_WR,
	},
	[FASTIO_OP_POLL] = {
		.zero = { NO_FLAGS, NO_ADDR, NO_LEN, NO_OFF, NO_SECOND },
		.dir = FASTIO_RD,
	},
	[FASTIO_OP_CLOSE] = {
		.zero = { NO_FLAGS, NO_ADDR, NO_LEN, NO_OP_FLAGS, NO_OFF, NO_SECOND },
	},
	[FASTIO_OP_OPENAT] = {
		.zero = { NO_FLAGS, NO_OFF, NO_SECOND },
	},
	[FASTIO_OP_FSYNC] = {
		.zero = { NO_FLAGS, NO_ADDR, NO_SECOND },
	},
	[FASTIO_OP_SENDFILE] = {
		.zero = { NO_FLAGS, NO_ADDR, NO_OP_FLAGS, NO_ADDR2, NO_LEN2 },
	},
	[FASTIO_OP_TIMEOUT] = {
		.zero = { NO_FLAGS, NO_FD, NO_ADDR, NO_LEN, NO_SECOND },
	},
	[FASTIO_OP_CANCEL] = {
		.zero = { NO_FLAGS, NO_LEN, NO_OFF, NO_SECOND },
	},
	[FASTIO_OP_FILE_REGISTER] = {
		.zero = { NO_FLAGS, NO_ADDR, NO_LEN, NO_OP_FLAGS, NO_OFF, NO_SECOND },
	},
	[FASTIO_OP_FILE_UNREGISTER] = {
		.zero = { NO_FLAGS, NO_ADDR, NO_LEN, NO_OP_FLAGS, NO_OFF, NO_SECOND },
	},
};

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
		list_add_tail(&req->flight, &rq->flight);
		rq->st.in_flight++;
	}
	req->where = where;
	if (where == FASTIO_PARKED && req->slot)
		list_add_tail(&req->queue, req->receiving ? &req->slot->rd : &req->slot->wr);
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
		list_del(&req->flight);
		rq->st.in_flight--;
		if (req->where == FASTIO_PARKED && req->slot)
			list_del(&req->queue);
		req->where = FASTIO_FREE;
	}
	if (req->file) {
		fastio_unhook(&req->node);
		fastio_dequeue(&req->node);
		fput(req->file);
		req->file = NULL;
	}
	fastio_post(rq, req->sqe.user_data, res, flags);
	rq->ix.reserved--;
	req->next = rq->free;
	rq->free = req;
}

/* ------------------------------------------------------------------ attempts */

static int fastio_attempt(struct fastio_rq *rq, struct fastio_req *req, struct fastio_result *result)
{
	struct file *file = fastio_file(req);

	/* A filter may have been installed since the request was taken. */
	if (unlikely(fastio_seccomp_refuses()))
		return -EPERM;
	switch (req->sqe.opcode) {
	case FASTIO_OP_SEND_RECV:
		if (!req->receiving)
			return fastio_do_send(rq, req, file);
		fallthrough;
	case FASTIO_OP_RECV:
		return fastio_do_recv(rq, req, file, result);
	case FASTIO_OP_SEND:
		return fastio_do_send(rq, req, file);
	case FASTIO_OP_ACCEPT:
		return fastio_do_accept(req, file, result);
	case FASTIO_OP_RECVMSG:
		return fastio_do_recvmsg(req, file, result);
	case FASTIO_OP_SENDMSG:
		return fastio_do_sendmsg(req, file);
	case FASTIO_OP_READ:
	case FASTIO_OP_WRITE:
	case FASTIO_OP_READV:
	case FASTIO_OP_WRITEV:
		return fastio_do_rw(rq, req, file);
	case FASTIO_OP_POLL:
		return fastio_do_poll(req, file);
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

/* Hands a request to a wq worker, or completes it with the reason why not. */
static void fastio_punt_or_complete(struct fastio_rq *rq, struct fastio_req *req)
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
 * Attempts the receiving half of a request until it ends or must wait. @cleared: FASTIO_RD was set and has
 * just been cleared.
 *
 * Return: false if it must wait; the caller keeps it.
 */
static bool fastio_try_rd(struct fastio_rq *rq, struct fastio_req *req, bool cleared)
{
	struct fastio_node *node = fastio_node_of(req);
	unsigned int fair = FASTIO_FAIR;
	int res;

	for (;;) {
		struct fastio_result result = {};

		if (node->hooked && !cleared) {
			/* Full barrier: WANT first, then the last look. Pairs with fastio_wake_fn(). */
			if (!(atomic_read(&node->state) & FASTIO_RD) &&
			    !(atomic_fetch_or(FASTIO_WANT_RD, &node->state) & FASTIO_RD))
				return false;
			/* Full barrier: clear first, then attempt. Pairs with fastio_wake_fn(). */
			atomic_fetch_andnot(FASTIO_RD | FASTIO_WANT_RD, &node->state);
		}
		cleared = false;
		/* One more completion than promised needs room; others need their turn. */
		if (fastio_multishot(req) && !fastio_index_cq_room(&rq->ix, rq->shm, 1)) {
			atomic_or(FASTIO_RD, &node->state);
			fastio_requeue(node, &rq->stalled);
			return false;
		}
		if (!fair--) {
			atomic_or(FASTIO_RD, &node->state);
			fastio_requeue(node, &rq->backlog);
			return false;
		}
		res = fastio_attempt(rq, req, &result);
		if (res == -EAGAIN) {
			res = fastio_may_wait(rq, req);
			if (!res)
				continue;
		}
		if (res == FASTIO_PUNT) {
			fastio_punt_or_complete(rq, req);
			return true;
		}
		if (node->hooked && !result.drained)
			atomic_or(FASTIO_RD, &node->state);
		if (fastio_recv_more(req, &res))
			continue;
		if (fastio_multishot(req) && (res > 0 || (!res && req->sqe.opcode == FASTIO_OP_ACCEPT))) {
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
	req->receiving = true;
	if (req->where == FASTIO_PARKED && req->slot)
		list_del_init(&req->queue);
	if ((req->slot && !list_empty(&req->slot->rd)) || !fastio_try_rd(rq, req, false))
		fastio_park(rq, req, FASTIO_PARKED);
}

/*
 * Attempts the sending half of a request until it ends or must wait. Files are mostly writable, so the attempt
 * comes first and is not paid for with an atomic operation.
 *
 * Return: false if it must wait; the caller keeps it.
 */
static bool fastio_try_wr(struct fastio_rq *rq, struct fastio_req *req)
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
		res = fastio_attempt(rq, req, NULL);
		if (res == -EAGAIN) {
			res = fastio_may_wait(rq, req);
			if (!res && !cleared) {
				/*
				 * Full barrier: clear first, then attempt once more: that attempt makes the file
				 * wake us. Pairs with fastio_wake_fn().
				 */
				atomic_fetch_andnot(FASTIO_WR | FASTIO_WANT_WR, &node->state);
				cleared = true;
				continue;
			}
			if (!res) {
				/* Full barrier: WANT first, then the last look. Pairs with fastio_wake_fn(). */
				if (!(atomic_fetch_or(FASTIO_WANT_WR, &node->state) & FASTIO_WR))
					return false;
				cleared = false;
				continue;
			}
		}
		if (res == FASTIO_PUNT) {
			fastio_punt_or_complete(rq, req);
			return true;
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
					req->sqe.opcode == FASTIO_OP_SEND_RECV ? FASTIO_CQE_SEND_FAILED : 0);
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
		clear |= list_empty(&slot->rd) ? FASTIO_WANT_RD : FASTIO_WANT_RD | FASTIO_RD;
	if (old & FASTIO_WR)
		clear |= FASTIO_WANT_WR;
	/* Full barrier: clear first, then attempt. What comes in after this queues the node again, if wanted. */
	old = atomic_fetch_andnot(clear, &node->state);

	if (old & FASTIO_WR) {
		for (fair = FASTIO_FAIR; fair && !list_empty(&slot->wr); fair--)
			if (!fastio_try_wr(rq, list_first_entry(&slot->wr, struct fastio_req, queue)))
				break;
		if (!fair && !list_empty(&slot->wr)) {
			atomic_or(FASTIO_WR, &node->state);
			fastio_requeue(node, &rq->backlog);
		}
	}
	if (old & FASTIO_RD) {
		bool cleared = clear & FASTIO_RD;

		for (fair = FASTIO_FAIR; fair && !list_empty(&slot->rd); fair--, cleared = false)
			if (!fastio_try_rd(rq, list_first_entry(&slot->rd, struct fastio_req, queue), cleared))
				break;
		if (!fair && !list_empty(&slot->rd)) {
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

/* ------------------------------------------------------------------ new SQEs */

static void fastio_start_io(struct fastio_rq *rq, struct fastio_req *req, u8 dir)
{
	bool ended;

	req->receiving = dir == FASTIO_RD || (req->sqe.opcode == FASTIO_OP_SEND_RECV && !req->sqe.len);
	if (req->sqe.flags & FASTIO_SQE_SLOT) {
		struct fastio_slot *slot = fastio_slot_find(rq, req->sqe.fd);

		if (unlikely(!slot))
			slot = fastio_slot_make(rq, req->sqe.fd);
		if (IS_ERR(slot)) {
			fastio_complete(rq, req, PTR_ERR(slot), 0);
			return;
		}
		req->slot = slot;
		/* First come, first served. */
		if (!list_empty(req->receiving ? &slot->rd : &slot->wr)) {
			if (req->sqe.flags & FASTIO_SQE_NOWAIT)
				fastio_complete(rq, req, -EAGAIN, 0);
			else
				fastio_park(rq, req, FASTIO_PARKED);
			return;
		}
	} else {
		req->file = fget(req->sqe.fd);
		if (!req->file || req->file->f_op == &fastio_fops) {
			fastio_complete(rq, req, -EBADF, 0);
			return;
		}
		req->node.kind = FASTIO_NODE_REQ;
		req->node.events = req->sqe.opcode == FASTIO_OP_POLL ? (__force __poll_t)req->sqe.op_flags : 0;
		atomic_set(&req->node.state, 0);
	}
	ended = req->receiving ? fastio_try_rd(rq, req, false) : fastio_try_wr(rq, req);
	if (!ended)
		fastio_park(rq, req, FASTIO_PARKED);
}

/* Operations that always block. */
static void fastio_start_blocking(struct fastio_rq *rq, struct fastio_req *req)
{
	if (req->sqe.opcode != FASTIO_OP_OPENAT) {
		req->file = fget(req->sqe.fd);
		if (!req->file || req->file->f_op == &fastio_fops) {
			fastio_complete(rq, req, -EBADF, 0);
			return;
		}
	}
	fastio_punt_or_complete(rq, req);
}

/* Rules between fields of an SQE; what every SQE of the operation must obey has been checked. */
static int fastio_check(const struct fastio_sqe *sqe)
{
	const u8 flags = sqe->flags;
	const u32 events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;
	u32 op_flags = 0;

	if (sqe->buf && !(flags & (SELECT | FIXED)))
		return -EINVAL;
	if ((flags & SELECT && flags & FIXED) || (flags & ASYNC && flags & NOWAIT))
		return -EINVAL;
	switch (sqe->opcode) {
	case FASTIO_OP_ACCEPT:
		op_flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
		if (flags & MULTI && (sqe->addr || sqe->addr2))
			return -EINVAL;
		break;
	case FASTIO_OP_RECV:
		op_flags = ~MSG_CMSG_COMPAT;
		if ((flags & MULTI && !(flags & SELECT)) ||
		    (flags & SELECT && (sqe->addr || sqe->op_flags & (MSG_WAITALL | MSG_PEEK))))
			return -EINVAL;
		break;
	case FASTIO_OP_SEND_RECV:
		if (flags & SELECT && sqe->addr2)
			return -EINVAL;
		fallthrough;
	case FASTIO_OP_SEND:
	case FASTIO_OP_RECVMSG:
	case FASTIO_OP_SENDMSG:
		op_flags = ~MSG_CMSG_COMPAT;
		break;
	case FASTIO_OP_POLL:
		op_flags = events;
		break;
	case FASTIO_OP_FSYNC:
		op_flags = FASTIO_FSYNC_DATASYNC;
		break;
	case FASTIO_OP_TIMEOUT:
		op_flags = FASTIO_TIMEOUT_ABS;
		break;
	case FASTIO_OP_CANCEL:
		op_flags = FASTIO_CANCEL_ALL | FASTIO_CANCEL_FD;
		break;
	case FASTIO_OP_OPENAT:
		op_flags = ~0U;
		break;
	}
	return sqe->op_flags & ~op_flags ? -EINVAL : 0;
}

static int fastio_file_register(struct fastio_rq *rq, u32 fd)
{
	struct fastio_slot *slot = fastio_slot_find(rq, fd);

	if (!slot)
		slot = fastio_slot_make(rq, fd);
	else if (!IS_ERR(slot))
		return -EEXIST;
	return PTR_ERR_OR_ZERO(slot);
}

static int fastio_file_unregister(struct fastio_rq *rq, u32 fd)
{
	struct fastio_slot *slot = fastio_slot_find(rq, fd);

	if (!slot)
		return -ENOENT;
	if (IS_ERR(slot))
		return PTR_ERR(slot);
	fastio_slot_drop(rq, slot);
	return 0;
}

/* Copies an SQE once and checks the copy. Return: its definition, or why it is refused. */
static const struct fastio_opdef *fastio_take(struct fastio_rq *rq, struct fastio_req *req,
					      const struct fastio_sqe *shared)
{
	const u64 *from = (const u64 *)shared;
	u64 *to = (u64 *)&req->sqe;
	const struct fastio_opdef *def;
	u64 bad = 0;
	u32 opcode;
	int i;

	BUILD_BUG_ON(sizeof(struct fastio_sqe) != 64);
	BUILD_BUG_ON(sizeof(struct fastio_cqe) != 16);

	for (i = 0; i < ARRAY_SIZE(def->word); i++)
		to[i] = READ_ONCE(from[i]);
	opcode = req->sqe.opcode;
	if (unlikely(opcode >= FASTIO_OP_LAST))
		return ERR_PTR(-EOPNOTSUPP);
	opcode = array_index_nospec(opcode, FASTIO_OP_LAST);
	if (unlikely(!(rq->ctx->ops & BIT_ULL(opcode))))
		return ERR_PTR(-EOPNOTSUPP);
	def = &fastio_opdefs[opcode];
	for (i = 0; i < ARRAY_SIZE(def->word); i++)
		bad |= to[i] & def->word[i];
	if (unlikely(bad))
		return ERR_PTR(-EINVAL);
	if (req->sqe.op_flags || req->sqe.buf || req->sqe.flags & ~SLOT) {
		int err = fastio_check(&req->sqe);

		if (unlikely(err))
			return ERR_PTR(err);
	}
	if (unlikely(fastio_seccomp_refuses()))
		return ERR_PTR(-EPERM);
	return def;
}

/**
 * fastio_issue() - take an SQE and execute or park it
 * @rq: ring; the caller serves it and has reserved a CQE
 * @req: a free request
 * @shared: the SQE, which user space may change at any time
 */
void fastio_issue(struct fastio_rq *rq, struct fastio_req *req, const struct fastio_sqe *shared)
{
	const struct fastio_opdef *def = fastio_take(rq, req, shared);
	const struct fastio_sqe *sqe = &req->sqe;

	trace_fastio_submit(rq->ctx->id, rq->index, sqe->opcode, sqe->flags, sqe->fd, sqe->user_data);
	req->slot = NULL;
	req->done = 0;
	if (IS_ERR(def)) {
		fastio_complete(rq, req, PTR_ERR(def), 0);
		return;
	}
	switch (sqe->opcode) {
	case FASTIO_OP_NOP:
		fastio_complete(rq, req, 0, 0);
		break;
	case FASTIO_OP_CLOSE:
		fastio_complete(rq, req, fastio_close(rq, req), 0);
		break;
	case FASTIO_OP_CANCEL:
		fastio_complete(rq, req, fastio_cancel(rq, req), 0);
		break;
	case FASTIO_OP_FILE_REGISTER:
		fastio_complete(rq, req, fastio_file_register(rq, sqe->fd), 0);
		break;
	case FASTIO_OP_FILE_UNREGISTER:
		fastio_complete(rq, req, fastio_file_unregister(rq, sqe->fd), 0);
		break;
	case FASTIO_OP_TIMEOUT:
		fastio_start_timer(rq, req);
		break;
	case FASTIO_OP_OPENAT:
	case FASTIO_OP_FSYNC:
	case FASTIO_OP_SENDFILE:
		fastio_start_blocking(rq, req);
		break;
	default:
		fastio_start_io(rq, req, def->dir);
	}
}
