// SPDX-License-Identifier: MIT
/* What an SQE may hold, by operation, and who executes it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "user.h"

/* Fields of an SQE that an operation may use. */
enum {
	BUF = 1 << 0,
	FD = 1 << 1,
	ADDR = 1 << 2,
	LEN = 1 << 3,
	OP_FLAGS = 1 << 4,
	OFF = 1 << 5,
	ADDR2 = 1 << 6,
	LEN2 = 1 << 7,
	FD2 = 1 << 8,
};

#define SLOT FASTIO_SQE_SLOT
#define MULTISHOT FASTIO_SQE_MULTISHOT
#define SELECT FASTIO_SQE_BUF_SELECT
#define FIXED FASTIO_SQE_FIXED_BUF
#define ASYNC FASTIO_SQE_ASYNC
#define NOWAIT FASTIO_SQE_NOWAIT

#define ANY_MSG_FLAGS (~0u)
#define POLL_EVENTS (POLLIN | POLLOUT | POLLPRI | POLLRDHUP)

struct rule {
	uint32_t fields;
	uint32_t flags;
	/* Bits that op_flags may have. */
	uint32_t op_flags;
};

static const struct rule rules[FASTIO_OP_LAST] = {
	[FASTIO_OP_NOP] = { 0, 0, 0 },
	[FASTIO_OP_ACCEPT] = { FD | ADDR | ADDR2 | OP_FLAGS, SLOT | MULTISHOT | NOWAIT,
			       SOCK_CLOEXEC | SOCK_NONBLOCK },
	[FASTIO_OP_RECV] = { FD | ADDR | LEN | OP_FLAGS | BUF,
			     SLOT | MULTISHOT | SELECT | FIXED | NOWAIT, ANY_MSG_FLAGS },
	[FASTIO_OP_SEND] = { FD | ADDR | LEN | OP_FLAGS | BUF, SLOT | FIXED | NOWAIT,
			     ANY_MSG_FLAGS },
	[FASTIO_OP_SEND_RECV] = { FD | ADDR | LEN | OP_FLAGS | ADDR2 | LEN2 | BUF, SLOT | SELECT,
				  ANY_MSG_FLAGS },
	[FASTIO_OP_RECVMSG] = { FD | ADDR | OP_FLAGS, SLOT | NOWAIT, ANY_MSG_FLAGS },
	[FASTIO_OP_SENDMSG] = { FD | ADDR | OP_FLAGS, SLOT | NOWAIT, ANY_MSG_FLAGS },
	[FASTIO_OP_READ] = { FD | ADDR | LEN | OFF | BUF, SLOT | FIXED | ASYNC | NOWAIT, 0 },
	[FASTIO_OP_WRITE] = { FD | ADDR | LEN | OFF | BUF, SLOT | FIXED | ASYNC | NOWAIT, 0 },
	[FASTIO_OP_READV] = { FD | ADDR | LEN | OFF, SLOT | ASYNC | NOWAIT, 0 },
	[FASTIO_OP_WRITEV] = { FD | ADDR | LEN | OFF, SLOT | ASYNC | NOWAIT, 0 },
	[FASTIO_OP_POLL] = { FD | OP_FLAGS, 0, POLL_EVENTS },
	[FASTIO_OP_CLOSE] = { FD, 0, 0 },
	[FASTIO_OP_OPENAT] = { FD | ADDR | LEN | OP_FLAGS, 0, ~0u },
	[FASTIO_OP_FSYNC] = { FD | OFF | LEN | OP_FLAGS, 0, FASTIO_FSYNC_DATASYNC },
	[FASTIO_OP_SENDFILE] = { FD | FD2 | OFF | LEN, 0, 0 },
	[FASTIO_OP_TIMEOUT] = { OFF | OP_FLAGS, 0, FASTIO_TIMEOUT_ABS },
	[FASTIO_OP_CANCEL] = { FD | ADDR | OP_FLAGS, 0, FASTIO_CANCEL_ALL | FASTIO_CANCEL_FD },
	[FASTIO_OP_FILE_REGISTER] = { FD, 0, 0 },
	[FASTIO_OP_FILE_UNREGISTER] = { FD, 0, 0 },
};

static uint32_t fields_used(const struct fastio_sqe *sqe)
{
	return (sqe->buf ? BUF : 0) | (sqe->fd ? FD : 0) | (sqe->addr ? ADDR : 0) |
	       (sqe->len ? LEN : 0) | (sqe->op_flags ? OP_FLAGS : 0) | (sqe->off ? OFF : 0) |
	       (sqe->addr2 ? ADDR2 : 0) | (sqe->len2 ? LEN2 : 0) | (sqe->fd2 ? FD2 : 0);
}

/* Rules that depend on more than one field. */
static bool fields_agree(const struct fastio_sqe *sqe)
{
	bool fixed = sqe->flags & FIXED, select = sqe->flags & SELECT,
	     multishot = sqe->flags & MULTISHOT;

	if ((fixed && select) || (sqe->buf && !fixed && !select))
		return false;
	if (sqe->flags & ASYNC && sqe->flags & NOWAIT)
		return false;
	switch (sqe->opcode) {
	case FASTIO_OP_ACCEPT:
		return !multishot || (!sqe->addr && !sqe->addr2);
	case FASTIO_OP_RECV:
		return select ? !sqe->addr && !(sqe->op_flags & (MSG_WAITALL | MSG_PEEK))
			      : !multishot;
	case FASTIO_OP_SEND_RECV:
		return !select || !sqe->addr2;
	case FASTIO_OP_READV:
	case FASTIO_OP_WRITEV:
		return sqe->len <= 1024;
	case FASTIO_OP_OPENAT:
		return sqe->fd == AT_FDCWD;
	case FASTIO_OP_TIMEOUT:
		return sqe->off <= INT64_MAX;
	case FASTIO_OP_CANCEL:
		return sqe->op_flags & FASTIO_CANCEL_FD ? !sqe->addr : !sqe->fd;
	default:
		return true;
	}
}

/* Returns 0 or what the operation fails with before it starts. */
int fio_check(const struct fastio_sqe *sqe)
{
	const struct rule *rule;

	if (sqe->opcode >= FASTIO_OP_LAST)
		return -EOPNOTSUPP;
	rule = &rules[sqe->opcode];
	if (sqe->resv || fields_used(sqe) & ~rule->fields || sqe->flags & ~rule->flags ||
	    sqe->op_flags & ~rule->op_flags || !fields_agree(sqe))
		return -EINVAL;
	return 0;
}

static enum user_side side_of(const struct user_req *req)
{
	switch (req->sqe.opcode) {
	case FASTIO_OP_SEND:
	case FASTIO_OP_SENDMSG:
	case FASTIO_OP_WRITE:
	case FASTIO_OP_WRITEV:
		return USER_SEND;
	case FASTIO_OP_SEND_RECV:
		return req->sent ? USER_RECEIVE : USER_SEND;
	case FASTIO_OP_POLL:
		return USER_POLL;
	default:
		return USER_RECEIVE;
	}
}

static enum user_outcome attempt_poll(struct user_req *req, int fd)
{
	struct pollfd file = { .fd = fd, .events = (short)req->sqe.op_flags };

	if (poll(&file, 1, 0) < 0)
		req->res = -errno;
	else if (file.revents & POLLNVAL)
		req->res = -EBADF;
	else if (file.revents)
		req->res = file.revents;
	else
		return USER_BLOCKED;
	return USER_DONE;
}

static enum user_outcome attempt_send_recv(struct user_req *req, int fd)
{
	enum user_outcome outcome;

	if (req->sent)
		return fio_recv(req, fd);
	outcome = req->sqe.len ? fio_send(req, fd) : USER_DONE;
	if (outcome != USER_DONE)
		return outcome;
	if (req->sqe.len && req->res < 0) {
		req->cqe_flags = FASTIO_CQE_SEND_FAILED;
		return USER_DONE;
	}
	req->sent = true;
	req->done = 0;
	return USER_TO_RECEIVE;
}

/* Tries once, without blocking. */
enum user_outcome fio_attempt(struct user_req *req)
{
	int fd = fio_io_fd(req->ring, req->sqe.fd);

	switch (req->sqe.opcode) {
	case FASTIO_OP_ACCEPT:
		return fio_accept(req, fd);
	case FASTIO_OP_RECV:
		return fio_recv(req, fd);
	case FASTIO_OP_SEND:
		return fio_send(req, fd);
	case FASTIO_OP_SEND_RECV:
		return attempt_send_recv(req, fd);
	case FASTIO_OP_RECVMSG:
		return fio_recvmsg(req, fd);
	case FASTIO_OP_SENDMSG:
		return fio_sendmsg(req, fd);
	case FASTIO_OP_POLL:
		return attempt_poll(req, fd);
	default:
		return fio_read_write(req, fd);
	}
}

static void issue_on_file(struct user_req *req)
{
	int ret = 0;

	if (req->sqe.flags & FASTIO_SQE_SLOT)
		ret = fio_slot_get(req->ring, req->sqe.fd);
	if (!ret && req->sqe.flags & FASTIO_SQE_FIXED_BUF &&
	    !fio_fixed_buf_fits(req->ring->context, &req->sqe))
		ret = -EFAULT;
	if (ret)
		fio_complete(req, ret, 0);
	else if (req->sqe.flags & FASTIO_SQE_ASYNC)
		fio_punt(req);
	else
		fio_run_or_wait(req, side_of(req));
}

/* As the module refuses its own device. */
static bool names_ourselves(const struct user_req *req)
{
	const struct user_context *context = req->ring->context;

	return rules[req->sqe.opcode].fields & FD &&
	       (req->sqe.fd == context->poll_fd || req->sqe.fd == context->done_fd);
}

/* Starts a request that was just taken. */
void fio_issue(struct user_req *req)
{
	int ret = fio_check(&req->sqe);

	if (!ret && names_ourselves(req))
		ret = -EBADF;
	if (ret) {
		fio_complete(req, ret, 0);
		return;
	}
	switch (req->sqe.opcode) {
	case FASTIO_OP_NOP:
		fio_complete(req, 0, 0);
		break;
	case FASTIO_OP_CLOSE:
		fio_complete(req, fio_close(req->ring, req->sqe.fd), 0);
		break;
	case FASTIO_OP_TIMEOUT:
		fio_timer_add(req);
		break;
	case FASTIO_OP_CANCEL:
		fio_cancel(req);
		break;
	case FASTIO_OP_FILE_REGISTER:
		fio_complete(req, fio_slot_make(req->ring, req->sqe.fd), 0);
		break;
	case FASTIO_OP_FILE_UNREGISTER:
		fio_complete(req, fio_slot_drop(req->ring, req->sqe.fd), 0);
		break;
	case FASTIO_OP_OPENAT:
	case FASTIO_OP_FSYNC:
	case FASTIO_OP_SENDFILE:
		fio_punt(req);
		break;
	default:
		issue_on_file(req);
	}
}
