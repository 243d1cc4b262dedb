// SPDX-License-Identifier: GPL-2.0
/* New SQEs: copied, checked, and executed or parked. */
#include <linux/file.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/socket.h>
#include <net/sock.h>
#include "internal.h"

/**
 * struct fastio_opdef - what an operation may look like
 * @zero: bits of the SQE that must not be set, besides all of fastio_sqe.resv
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

/* Initialisers for fields that an operation does not use. */
#define NO_BUF		.buf = U16_MAX
#define NO_FD		.fd = -1
#define NO_ADDR		.addr = ~0ULL
#define NO_LEN		.len = U32_MAX
#define NO_OP_FLAGS	.op_flags = U32_MAX
#define NO_OFF		.off = ~0ULL
#define NO_ADDR2	.addr2 = ~0ULL
#define NO_LEN2		.len2 = U32_MAX
#define NO_FD2		.fd2 = -1

#define SLOT		FASTIO_SQE_SLOT
#define MULTI		FASTIO_SQE_MULTISHOT
#define SELECT		FASTIO_SQE_BUF_SELECT
#define FIXED		FASTIO_SQE_FIXED_BUF
#define ASYNC		FASTIO_SQE_ASYNC
#define NOWAIT		FASTIO_SQE_NOWAIT

#define OPDEF(direction, allowed, unused...)						\
	{										\
		.zero = { .flags = (u8)~(allowed), unused },				\
		.dir = direction,							\
	}

/* Longer than the list of operations, so that a mask keeps speculation inside of it. */
static const struct fastio_opdef fastio_opdefs[32] = {
	[FASTIO_OP_NOP] = OPDEF(0, 0, NO_BUF, NO_FD, NO_ADDR, NO_LEN, NO_OP_FLAGS, NO_OFF, NO_ADDR2,
			NO_LEN2, NO_FD2),
	[FASTIO_OP_ACCEPT] = OPDEF(FASTIO_RD, SLOT | MULTI | NOWAIT, NO_LEN, NO_OFF, NO_LEN2,
			NO_FD2),
	[FASTIO_OP_RECV] = OPDEF(FASTIO_RD, SLOT | MULTI | SELECT | FIXED | NOWAIT, NO_OFF,
			NO_ADDR2, NO_LEN2, NO_FD2),
	[FASTIO_OP_SEND] = OPDEF(FASTIO_WR, SLOT | FIXED | NOWAIT, NO_OFF, NO_ADDR2, NO_LEN2,
			NO_FD2),
	[FASTIO_OP_SEND_RECV] = OPDEF(FASTIO_WR, SLOT | SELECT, NO_OFF, NO_FD2),
	[FASTIO_OP_RECVMSG] = OPDEF(FASTIO_RD, SLOT | NOWAIT, NO_LEN, NO_OFF, NO_ADDR2, NO_LEN2,
			NO_FD2),
	[FASTIO_OP_SENDMSG] = OPDEF(FASTIO_WR, SLOT | NOWAIT, NO_LEN, NO_OFF, NO_ADDR2, NO_LEN2,
			NO_FD2),
	[FASTIO_OP_READ] = OPDEF(FASTIO_RD, SLOT | FIXED | ASYNC | NOWAIT, NO_OP_FLAGS, NO_ADDR2,
			NO_LEN2, NO_FD2),
	[FASTIO_OP_WRITE] = OPDEF(FASTIO_WR, SLOT | FIXED | ASYNC | NOWAIT, NO_OP_FLAGS, NO_ADDR2,
			NO_LEN2, NO_FD2),
	[FASTIO_OP_READV] = OPDEF(FASTIO_RD, SLOT | ASYNC | NOWAIT, NO_OP_FLAGS, NO_ADDR2, NO_LEN2,
			NO_FD2),
	[FASTIO_OP_WRITEV] = OPDEF(FASTIO_WR, SLOT | ASYNC | NOWAIT, NO_OP_FLAGS, NO_ADDR2, NO_LEN2,
			NO_FD2),
	[FASTIO_OP_POLL] = OPDEF(FASTIO_RD, 0, NO_BUF, NO_ADDR, NO_LEN, NO_OFF, NO_ADDR2, NO_LEN2,
			NO_FD2),
	[FASTIO_OP_CLOSE] = OPDEF(0, 0, NO_BUF, NO_ADDR, NO_LEN, NO_OP_FLAGS, NO_OFF, NO_ADDR2,
			NO_LEN2, NO_FD2),
	[FASTIO_OP_OPENAT] = OPDEF(0, 0, NO_BUF, NO_OFF, NO_ADDR2, NO_LEN2, NO_FD2),
	[FASTIO_OP_FSYNC] = OPDEF(0, 0, NO_BUF, NO_ADDR, NO_ADDR2, NO_LEN2, NO_FD2),
	[FASTIO_OP_SENDFILE] = OPDEF(0, 0, NO_BUF, NO_ADDR, NO_OP_FLAGS, NO_ADDR2, NO_LEN2),
	[FASTIO_OP_TIMEOUT] = OPDEF(0, 0, NO_BUF, NO_FD, NO_ADDR, NO_LEN, NO_ADDR2, NO_LEN2,
			NO_FD2),
	[FASTIO_OP_CANCEL] = OPDEF(0, 0, NO_BUF, NO_LEN, NO_OFF, NO_ADDR2, NO_LEN2, NO_FD2),
	[FASTIO_OP_FILE_REGISTER] = OPDEF(0, 0, NO_BUF, NO_ADDR, NO_LEN, NO_OP_FLAGS, NO_OFF,
			NO_ADDR2, NO_LEN2, NO_FD2),
	[FASTIO_OP_FILE_UNREGISTER] = OPDEF(0, 0, NO_BUF, NO_ADDR, NO_LEN, NO_OP_FLAGS, NO_OFF,
			NO_ADDR2, NO_LEN2, NO_FD2),
};

/*
 * What the file can never do must fail at once instead of waiting for it to become ready. Return:
 * 0; 1 if an attempt will say why not; -errno.
 */
static int fastio_check_slot(const struct fastio_req *req, const struct fastio_slot *slot)
{
	switch (req->sqe.opcode) {
	case FASTIO_OP_RECV:
	case FASTIO_OP_SEND:
	case FASTIO_OP_SEND_RECV:
		return slot->sock ? 0 : -ENOTSOCK;
	case FASTIO_OP_READ:
	case FASTIO_OP_WRITE:
	case FASTIO_OP_READV:
	case FASTIO_OP_WRITEV:
		return fastio_check_rw(&req->sqe, slot->file);
	case FASTIO_OP_ACCEPT:
		return slot->sock ? READ_ONCE(slot->sock->sk->sk_state) != TCP_LISTEN : -ENOTSOCK;
	}
	return slot->sock ? 0 : -ENOTSOCK;
}

static void fastio_start_io(struct fastio_rq *rq, struct fastio_req *req, u8 dir)
{
	bool at_once = false;
	bool ended;

	req->receiving = dir == FASTIO_RD ||
			 (req->sqe.opcode == FASTIO_OP_SEND_RECV && !req->sqe.len);
	if (req->sqe.flags & FASTIO_SQE_SLOT) {
		struct fastio_slot *slot = fastio_slot_find(rq, req->sqe.fd);
		int err;

		if (unlikely(!slot))
			slot = fastio_slot_make(rq, req->sqe.fd);
		err = IS_ERR(slot) ? PTR_ERR(slot) : fastio_check_slot(req, slot);
		if (unlikely(err < 0)) {
			fastio_complete(rq, req, err, 0);
			return;
		}
		at_once = err;
		req->slot = slot;
		/* First come, first served. */
		if (fastio_queue_of(req)->first) {
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
		req->node.events =
			req->sqe.opcode == FASTIO_OP_POLL ? (__force __poll_t)req->sqe.op_flags : 0;
		atomic_set(&req->node.state, 0);
	}
	ended = req->receiving ? fastio_try_rd(rq, req, at_once) : fastio_try_wr(rq, req);
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

/**
 * struct fastio_words - our copy of an SQE, in registers as long as nobody takes its address
 * @word: all of it
 */
struct fastio_words {
	u64 word[sizeof(struct fastio_sqe) / sizeof(u64)];
};

/* The first four fields of an SQE. */
union fastio_head {
	u64 word;
	struct {
		u8	opcode;
		u8	flags;
		u16	buf;
		s32	fd;
	};
};

/* Whether an SQE has a bit set that its operation does not know. */
static __always_inline bool fastio_has_unknown(const struct fastio_words *sqe,
					       const struct fastio_opdef *def)
{
	const u64 *word = sqe->word;

	return (word[0] & def->word[0]) | (word[1] & def->word[1]) | (word[2] & def->word[2]) |
	       (word[4] & def->word[4]) | (word[5] & def->word[5]) | (word[6] & def->word[6]) |
	       word[7];
}

/* Checks the opcode and the unused fields of our copy of an SQE. @ops: operations allowed. */
static __always_inline int fastio_validate(const struct fastio_words *sqe, u64 ops)
{
	const union fastio_head head = { .word = sqe->word[0] };
	const struct fastio_opdef *def;

	if (unlikely(head.opcode >= FASTIO_OP_LAST || !(ops >> head.opcode & 1)))
		return -EOPNOTSUPP;
	def = &fastio_opdefs[head.opcode % ARRAY_SIZE(fastio_opdefs)];
	return unlikely(fastio_has_unknown(sqe, def)) ? -EINVAL : 0;
}

/* Return: 0, or why an operation that knows all of its fields is refused after all. */
static int fastio_admit(const struct fastio_sqe *sqe)
{
	if (sqe->op_flags || sqe->buf || sqe->flags & ~SLOT) {
		int err = fastio_check(sqe);

		if (unlikely(err))
			return err;
	}
	return fastio_seccomp_refuses() ? -EPERM : 0;
}

static noinline void fastio_start(struct fastio_rq *rq, struct fastio_req *req)
{
	const struct fastio_sqe *sqe = &req->sqe;
	u8 dir = fastio_opdefs[sqe->opcode % ARRAY_SIZE(fastio_opdefs)].dir;
	int res = fastio_admit(sqe);

	if (unlikely(res)) {
		fastio_finish(rq, req, res, 0);
		return;
	}
	if (dir) {
		fastio_start_io(rq, req, dir);
		return;
	}
	switch (sqe->opcode) {
	case FASTIO_OP_CLOSE:
		res = fastio_close(rq, req);
		break;
	case FASTIO_OP_CANCEL:
		res = fastio_cancel(rq, req);
		break;
	case FASTIO_OP_FILE_REGISTER:
		res = fastio_file_register(rq, sqe->fd);
		break;
	case FASTIO_OP_FILE_UNREGISTER:
		res = fastio_file_unregister(rq, sqe->fd);
		break;
	case FASTIO_OP_TIMEOUT:
		fastio_start_timer(rq, req);
		return;
	case FASTIO_OP_OPENAT:
	case FASTIO_OP_FSYNC:
	case FASTIO_OP_SENDFILE:
		fastio_start_blocking(rq, req);
		return;
	}
	fastio_complete(rq, req, res, 0);
}

/* Takes one SQE, for which a CQE has been reserved. User space may change the entry at any time. */
static __always_inline void fastio_issue(struct fastio_rq *rq, const struct fastio_sqe *shared,
					 u64 ops)
{
	const u64 *from = (const u64 *)shared;
	const struct fastio_words sqe = { { from[0], from[1], from[2], from[3], from[4], from[5],
					    from[6], from[7] } };
	const union fastio_head head = { .word = sqe.word[0] };
	const u64 user_data = sqe.word[3];
	struct fastio_req *req;
	int err;

	BUILD_BUG_ON(sizeof(*shared) != 64 || offsetof(struct fastio_sqe, user_data) != 24);
	BUILD_BUG_ON(offsetof(struct fastio_sqe, addr) != sizeof(head));
	/* Nothing below may look at the shared entry again, not even by the compiler's choice. */
	barrier();
	trace_fastio_submit(rq->ctx->id, rq->index, head.opcode, head.flags, head.fd, user_data);
	err = fastio_validate(&sqe, ops);
	if (head.opcode == FASTIO_OP_NOP && !err && fastio_seccomp_refuses())
		err = -EPERM;
	if (head.opcode == FASTIO_OP_NOP || unlikely(err)) {
		/* What ends at once needs no request. */
		fastio_post(rq, user_data, err, 0);
		rq->ix.reserved--;
		return;
	}
	req = rq->free;
	rq->free = req->next;
	*(struct fastio_words *)&req->sqe = sqe;
	req->slot = NULL;
	req->done = 0;
	fastio_start(rq, req);
}

/**
 * fastio_run_sq() - take new SQEs
 * @rq: ring; the caller serves it
 * @batch: how many at most, 0: all
 *
 * Return: how many were taken.
 */
unsigned int fastio_run_sq(struct fastio_rq *rq, unsigned int batch)
{
	u32 n = fastio_index_sq_avail(&rq->ix, rq->shm);
	u32 mask = rq->ix.sq_entries - 1;
	u32 head = rq->ix.sq_head;
	const struct fastio_sqe *sq = rq->sq;
	u64 ops = rq->ctx->ops;
	u32 room, i;

	if (!n)
		return 0;
	if (batch && n > batch)
		n = batch;
	/* An operation that has no place for its completion stays in the SQ. */
	room = fastio_index_cq_room(&rq->ix, rq->shm, n);
	if (n > room)
		n = room;
	if (!n) {
		fastio_count_stall(rq);
		return 0;
	}
	rq->stalling = false;
	/*
	 * Checked after the tail: what was registered before an SQE was submitted is there for it.
	 */
	if (unlikely(rq->gen != READ_ONCE(rq->ctx->gen)))
		fastio_see_resources(rq);

	rq->ix.reserved += n;
	for (i = 0; i < n;) {
		/* Until the next look at the scheduler; after each when other rings may wait. */
		u32 end = rq->polite ? i + 1 : min(n, i + FASTIO_BREATHE);

		for (; i < end; i++)
			fastio_issue(rq, &sq[(head + i) & mask], ops);
		if (i == n)
			break;
		if (!(i % FASTIO_BREATHE))
			fastio_breathe(rq);
		if (rq->polite && fastio_wanted_elsewhere(rq)) {
			rq->ix.reserved -= n - i;
			n = i;
		}
	}
	rq->st.submitted += n;
	fastio_index_sq_take(&rq->ix, rq->shm, n);
	return n;
}
