// SPDX-License-Identifier: MIT
/* Reading and writing files of all kinds: without blocking where that is possible, else in a wq thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "user.h"

/* An operation of any of the four kinds, as a vector. */
struct transfer {
	struct iovec own;
	const struct iovec *vector;
	int count;
	off_t offset;
	bool write;
};

static void *at(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

static void describe(struct transfer *transfer, const struct fastio_sqe *sqe)
{
	bool vectored = sqe->opcode == FASTIO_OP_READV || sqe->opcode == FASTIO_OP_WRITEV;

	transfer->own = (struct iovec){ at(sqe->addr), sqe->len };
	transfer->vector = vectored ? at(sqe->addr) : &transfer->own;
	transfer->count = vectored ? (int)sqe->len : 1;
	/* FASTIO_OFF_CURRENT is -1, which means the same to preadv2(). */
	transfer->offset = (off_t)sqe->off;
	transfer->write = sqe->opcode == FASTIO_OP_WRITE || sqe->opcode == FASTIO_OP_WRITEV;
}

static ssize_t move(const struct transfer *transfer, int fd, int flags)
{
	if (transfer->write)
		return pwritev2(fd, transfer->vector, transfer->count, transfer->offset, flags);
	return preadv2(fd, transfer->vector, transfer->count, transfer->offset, flags);
}

static ssize_t move_socket(const struct transfer *transfer, int fd, int flags)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)transfer->vector, .msg_iovlen = (size_t)transfer->count };

	if (transfer->offset != -1) {
		errno = ESPIPE;
		return -1;
	}
	return transfer->write ? sendmsg(fd, &msg, flags | MSG_NOSIGNAL) : recvmsg(fd, &msg, flags);
}

static enum user_outcome settle(struct user_req *req, ssize_t ret, enum user_outcome when_blocked)
{
	if (ret < 0 && (errno == EAGAIN || errno == EINTR))
		return when_blocked;
	req->res = ret < 0 ? -errno : (int)ret;
	return USER_DONE;
}

/* Pipes, terminals and the like on a kernel that cannot try them: blocking is avoided by looking first. */
static enum user_outcome attempt_stream(struct user_req *req, const struct transfer *transfer, int fd)
{
	struct pollfd file = { .fd = fd, .events = transfer->write ? POLLOUT : POLLIN };
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0 && flags & O_NONBLOCK)
		return settle(req, move(transfer, fd, 0), USER_BLOCKED);
	if (poll(&file, 1, 0) <= 0)
		return USER_BLOCKED;
	/* Room for a byte is not room for all of them. */
	if (transfer->write)
		return USER_PUNT;
	return settle(req, move(transfer, fd, 0), USER_BLOCKED);
}

enum user_outcome fio_read_write(struct user_req *req, int fd)
{
	struct transfer transfer;
	struct stat info;
	ssize_t ret;

	describe(&transfer, &req->sqe);
	if (fstat(fd, &info)) {
		req->res = -errno;
		return USER_DONE;
	}
	if (S_ISSOCK(info.st_mode))
		return settle(req, move_socket(&transfer, fd, MSG_DONTWAIT), USER_BLOCKED);
	ret = move(&transfer, fd, RWF_NOWAIT);
	if (S_ISREG(info.st_mode) || S_ISBLK(info.st_mode)) {
		if (ret < 0 && errno == EOPNOTSUPP)
			return USER_PUNT;
		return settle(req, ret, USER_PUNT);
	}
	if (ret < 0 && errno == EOPNOTSUPP)
		return attempt_stream(req, &transfer, fd);
	return settle(req, ret, USER_BLOCKED);
}

/* ------------------------------------------------------------------ in a wq thread */

static ssize_t write_all(int fd, bool socket, const char *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		struct pollfd file = { .fd = fd, .events = POLLOUT };
		ssize_t ret = socket ? send(fd, bytes + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL) :
				       write(fd, bytes + done, len - done);

		if (ret >= 0)
			done += (size_t)ret;
		else if (errno != EAGAIN || poll(&file, 1, -1) < 0)
			return done ? (ssize_t)done : -errno;
	}
	return (ssize_t)done;
}

/* By reading and sending: sendfile(2) into a blocking socket could not be interrupted when all is to end. */
static ssize_t copy_file(const struct fastio_sqe *sqe, int out, char *buffer)
{
	bool current = sqe->off == FASTIO_OFF_CURRENT;
	off_t from = current ? lseek(sqe->fd2, 0, SEEK_CUR) : (off_t)sqe->off;
	struct stat info;
	size_t done = 0;
	ssize_t ret = 0;

	if (from < 0)
		return current && errno != ESPIPE ? -errno : -EINVAL;
	if (fstat(out, &info))
		return -errno;
	while (done < sqe->len && ret >= 0) {
		size_t want = sqe->len - done < USER_COPY_BYTES ? sqe->len - done : USER_COPY_BYTES;
		ssize_t got = pread(sqe->fd2, buffer, want, from + (off_t)done);

		if (got <= 0) {
			ret = got < 0 ? -errno : 0;
			break;
		}
		ret = write_all(out, S_ISSOCK(info.st_mode), buffer, (size_t)got);
		if (ret > 0)
			done += (size_t)ret;
		if (ret < got)
			break;
	}
	if (current && done && lseek(sqe->fd2, from + (off_t)done, SEEK_SET) < 0)
		return -errno;
	return done ? (ssize_t)done : ret == -ESPIPE ? -EINVAL : ret;
}

static ssize_t negative_errno(ssize_t ret)
{
	return ret < 0 ? -errno : ret;
}

/* Does what may block. */
int fio_blocking(struct user_req *req, char *copy_buffer)
{
	const struct fastio_sqe *sqe = &req->sqe;
	struct transfer transfer;
	struct stat info;

	switch (sqe->opcode) {
	case FASTIO_OP_OPENAT:
		return (int)negative_errno(openat(AT_FDCWD, at(sqe->addr), (int)sqe->op_flags, (mode_t)sqe->len));
	case FASTIO_OP_FSYNC:
		return (int)negative_errno(sqe->op_flags & FASTIO_FSYNC_DATASYNC ? fdatasync(req->io_fd) :
										   fsync(req->io_fd));
	case FASTIO_OP_SENDFILE:
		return (int)copy_file(sqe, req->io_fd, copy_buffer);
	default:
		describe(&transfer, sqe);
		if (!fstat(req->io_fd, &info) && S_ISSOCK(info.st_mode))
			return (int)negative_errno(move_socket(&transfer, req->io_fd, 0));
		return (int)negative_errno(move(&transfer, req->io_fd, 0));
	}
}
