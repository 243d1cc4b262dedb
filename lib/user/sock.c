// SPDX-License-Identifier: MIT
/* Socket operations, tried without blocking. */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "user.h"

/* Completions of one multishot in a row, before others get their turn. */
#define SHARE 16
/* As the kernel cuts them. */
#define MAX_BYTES 0x7ffff000u

static void *at(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

static bool would_block(int err)
{
	return err == EAGAIN || err == EWOULDBLOCK || err == EINTR;
}

/* Ends the attempt of a call that returned @ret. */
static enum user_outcome settle(struct user_req *req, ssize_t ret)
{
	if (ret < 0 && would_block(errno))
		return USER_BLOCKED;
	req->res = ret < 0 ? -errno : (int)ret;
	return USER_DONE;
}

static bool is_stream(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM;
}

/* A call that did not fill its buffer has emptied a stream; only then is asking unnecessary. */
static uint32_t nonempty_flag(int fd, ssize_t got, size_t asked)
{
	int left = 0;

	if (got <= 0 || (size_t)got < asked || ioctl(fd, FIONREAD, &left) || left <= 0)
		return 0;
	return FASTIO_CQE_NONEMPTY;
}

static enum user_outcome accept_many(struct user_req *req, int fd)
{
	for (int count = 0; count < SHARE; count++) {
		enum user_outcome outcome;

		if (!fio_has_room(req->ring))
			return USER_LATER;
		outcome = settle(req, accept4(fd, NULL, NULL, (int)req->sqe.op_flags));
		if (outcome != USER_DONE || req->res < 0)
			return outcome;
		fio_post_more(req, req->res, 0);
	}
	return USER_LATER;
}

enum user_outcome fio_accept(struct user_req *req, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	/*
	 * Two who accept from one listener: the slower of them would block in accept4(), whatever
	 * poll() said.
	 */
	if (flags >= 0 && !(flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	if (req->sqe.flags & FASTIO_SQE_MULTISHOT)
		return accept_many(req, fd);
	return settle(req,
		      accept4(fd, at(req->sqe.addr), at(req->sqe.addr2), (int)req->sqe.op_flags));
}

/* Receives into plain memory; with MSG_WAITALL goes on where it stopped. */
static enum user_outcome recv_plain(struct user_req *req, int fd, uint64_t addr, uint32_t len)
{
	bool all = req->sqe.opcode == FASTIO_OP_RECV &&
		   (req->sqe.op_flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL && is_stream(fd);
	int flags = MSG_DONTWAIT | (req->sqe.opcode == FASTIO_OP_RECV ? (int)req->sqe.op_flags : 0);

	len = len < MAX_BYTES ? len : MAX_BYTES;
	for (;;) {
		ssize_t got = recv(fd, at(addr + req->done), len - req->done, flags);

		if (got < 0 && would_block(errno))
			return USER_BLOCKED;
		if (got > 0)
			req->cqe_flags = nonempty_flag(fd, got, len - req->done);
		if (got < 0 && !req->done) {
			req->res = -errno;
			return USER_DONE;
		}
		if (got > 0)
			req->done += (uint32_t)got;
		if (!all || got <= 0 || req->done >= len) {
			req->res = (int)req->done;
			return USER_DONE;
		}
	}
}

/* No buffer is free: that only matters when there is data. */
static enum user_outcome recv_without_buffer(struct user_req *req, int fd)
{
	char byte;
	enum user_outcome outcome = settle(req, recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK));

	if (outcome == USER_DONE && (req->res > 0 || (!req->res && !is_stream(fd))))
		req->res = -ENOBUFS;
	return outcome;
}

static enum user_outcome recv_selected(struct user_req *req, int fd, struct user_group *group,
				       uint32_t most)
{
	int flags = MSG_DONTWAIT | (req->sqe.opcode == FASTIO_OP_RECV ? (int)req->sqe.op_flags : 0);
	struct fastio_buf *buf = fio_group_peek(group);
	enum user_outcome outcome;
	uint32_t len;

	req->cqe_flags = 0;
	if (!buf)
		return recv_without_buffer(req, fd);
	len = most && most < buf->len ? most : buf->len;
	if (!len) {
		req->res = -EINVAL;
		return USER_DONE;
	}
	outcome = settle(req, recv(fd, at(buf->addr), len, flags));
	if (outcome == USER_DONE && req->res > 0) {
		req->cqe_flags = FASTIO_CQE_BUFFER | (uint32_t)buf->bid << FASTIO_CQE_BUFFER_SHIFT |
				 nonempty_flag(fd, req->res, len);
		group->head++;
	}
	return outcome;
}

static enum user_outcome recv_many(struct user_req *req, int fd, struct user_group *group)
{
	for (int count = 0; count < SHARE; count++) {
		enum user_outcome outcome;

		if (!fio_has_room(req->ring))
			return USER_LATER;
		outcome = recv_selected(req, fd, group, req->sqe.len);
		if (outcome != USER_DONE || req->res <= 0)
			return outcome;
		fio_post_more(req, req->res, req->cqe_flags);
		req->cqe_flags = 0;
	}
	return USER_LATER;
}

enum user_outcome fio_recv(struct user_req *req, int fd)
{
	bool fused = req->sqe.opcode == FASTIO_OP_SEND_RECV;
	uint32_t len = fused ? req->sqe.len2 : req->sqe.len;
	enum user_outcome outcome;
	struct user_group *group;

	if (!(req->sqe.flags & FASTIO_SQE_BUF_SELECT))
		return recv_plain(req, fd, fused ? req->sqe.addr2 : req->sqe.addr, len);
	group = fio_group_lock(req->ring, req->sqe.buf, &req->res);
	if (!group)
		return USER_DONE;
	if (req->sqe.flags & FASTIO_SQE_MULTISHOT)
		outcome = recv_many(req, fd, group);
	else
		outcome = recv_selected(req, fd, group, len);
	pthread_mutex_unlock(&group->lock);
	return outcome;
}

/* Sends once, or with MSG_WAITALL and in a fused operation until all is sent. */
enum user_outcome fio_send(struct user_req *req, int fd)
{
	bool all = req->sqe.opcode == FASTIO_OP_SEND_RECV || req->sqe.op_flags & MSG_WAITALL;
	int flags = (int)(req->sqe.op_flags & ~(uint32_t)MSG_WAITALL) | MSG_DONTWAIT | MSG_NOSIGNAL;
	uint32_t len = req->sqe.len < MAX_BYTES ? req->sqe.len : MAX_BYTES;

	for (;;) {
		enum user_outcome outcome = settle(req, send(fd, at(req->sqe.addr + req->done),
							     len - req->done, flags));

		if (outcome != USER_DONE || req->res < 0)
			return outcome;
		req->done += (uint32_t)req->res;
		req->res = (int)req->done;
		if (!all || req->done >= len)
			return USER_DONE;
	}
}

enum user_outcome fio_recvmsg(struct user_req *req, int fd)
{
	return settle(req, recvmsg(fd, at(req->sqe.addr), (int)req->sqe.op_flags | MSG_DONTWAIT));
}

enum user_outcome fio_sendmsg(struct user_req *req, int fd)
{
	return settle(req, sendmsg(fd, at(req->sqe.addr),
				   (int)req->sqe.op_flags | MSG_DONTWAIT | MSG_NOSIGNAL));
}
