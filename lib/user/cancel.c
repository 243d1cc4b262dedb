// SPDX-License-Identifier: MIT
/* Cancelling what is in flight on the same ring, oldest first. */
#include <errno.h>

#include "user.h"

static bool has_fd(const struct user_req *req)
{
	switch (req->sqe.opcode) {
	case FASTIO_OP_NOP:
	case FASTIO_OP_TIMEOUT:
	case FASTIO_OP_CANCEL:
	case FASTIO_OP_OPENAT:
		return false;
	default:
		return true;
	}
}

static bool matches(const struct user_req *req, const struct fastio_sqe *cancel)
{
	if (cancel->op_flags & FASTIO_CANCEL_FD)
		return has_fd(req) && req->sqe.fd == cancel->fd;
	return req->sqe.user_data == cancel->addr;
}

/* Ends one request, unless a wq thread has begun with it. */
static bool cancel_one(struct user_req *req)
{
	switch (req->state) {
	case USER_WAITING:
		fio_unwait(req);
		break;
	case USER_TIMED:
		fio_timer_remove(req);
		break;
	case USER_PUNTED:
		if (!fio_unpunt(req))
			return false;
		break;
	default:
		return false;
	}
	fio_complete(req, -ECANCELED, 0);
	return true;
}

void fio_cancel(struct user_req *req)
{
	bool all = req->sqe.op_flags & FASTIO_CANCEL_ALL;
	struct user_req *newer;
	bool busy = false;
	int count = 0;

	/* What a wq thread has finished completes with its own result. */
	fio_wq_reap(req->ring);
	for (struct user_req *at = req->ring->oldest; at && (all || !count); at = newer) {
		newer = at->newer;
		if (at == req || !matches(at, &req->sqe))
			continue;
		if (cancel_one(at))
			count++;
		else
			busy = true;
	}
	fio_complete(req, count ? count : busy ? -EALREADY : -ENOENT, 0);
}
