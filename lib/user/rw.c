// SPDX-License-Identifier: MIT
/*
 * Reading and writing files of all kinds: without blocking where that is possible, else in a wq
 * thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "user.h"

/* How often a FIFO is tried that nobody reads yet. */
#define FIFO_LOOK_MS 10

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
	struct msghdr msg = { .msg_iov = (struct iovec *)transfer->vector,
			      .msg_iovlen = (size_t)transfer->count };

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

/*
 * As much as a pipe that says it is writable takes without blocking. Its vector points to @segment.
 */
static struct transfer first_part(const struct transfer *transfer, struct iovec *segment)
{
	struct transfer part = *transfer;

	while (part.count > 1 && !part.vector->iov_len) {
		part.vector++;
		part.count--;
	}
	if (!part.count)
		return part;
	*segment = *part.vector;
	if (segment->iov_len > PIPE_BUF)
		segment->iov_len = PIPE_BUF;
	part.vector = segment;
	part.count = 1;
	return part;
}

/* Sockets, pipes, terminals and the like: moves what is possible, or fails with EAGAIN. */
static ssize_t try_stream(const struct transfer *transfer, int fd, bool socket)
{
	struct pollfd file = { .fd = fd, .events = transfer->write ? POLLOUT : POLLIN };
	struct transfer part;
	struct iovec segment;
	ssize_t ret;

	if (socket)
		return move_socket(transfer, fd, MSG_DONTWAIT);
	ret = move(transfer, fd, RWF_NOWAIT);
	if (ret >= 0 || errno != EOPNOTSUPP)
		return ret;
	/* A kernel that cannot try: look first. */
	if (poll(&file, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	if (!transfer->write)
		return move(transfer, fd, 0);
	part = first_part(transfer, &segment);
	return move(&part, fd, 0);
}

/* An attempt gives up at the first page that is not in the cache: the file has more. */
static bool is_cut_short(const struct user_req *req, const struct transfer *transfer,
			 const struct stat *info, ssize_t ret)
{
	size_t length = 0;

	if (transfer->write || transfer->offset < 0 || req->sqe.flags & FASTIO_SQE_NOWAIT ||
	    !req->ring->context->priv->params.wq_workers)
		return false;
	for (int i = 0; i < transfer->count; i++)
		length += transfer->vector[i].iov_len;
	return (size_t)ret < length && (S_ISBLK(info->st_mode) || transfer->offset + ret < info->st_size);
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
	if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
		return settle(req, try_stream(&transfer, fd, S_ISSOCK(info.st_mode)), USER_BLOCKED);
	ret = move(&transfer, fd, RWF_NOWAIT);
	if (ret < 0 && errno == EOPNOTSUPP)
		return USER_PUNT;
	if (ret > 0 && is_cut_short(req, &transfer, &info, ret))
		return USER_PUNT;
	return settle(req, ret, USER_PUNT);
}

/* ------------------------------------------------------------------ in a wq thread */

/* Waits for a file, but not beyond the end of all. */
static bool wait_for(const struct user_context *context, int fd, short events, int timeout_ms)
{
	struct pollfd files[2] = {
		{ .fd = context->stop_fd, .events = POLLIN },
		{ .fd = fd, .events = events },
	};

	while (poll(files, 2, timeout_ms) < 0 && errno == EINTR)
		;
	return !files[0].revents;
}

static ssize_t send_all(const struct user_context *context, int fd, bool socket, const char *bytes,
			size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t ret =
			socket ? send(fd, bytes + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL)
			       : write(fd, bytes + done, len - done);

		if (ret >= 0)
			done += (size_t)ret;
		else if (errno != EAGAIN || !wait_for(context, fd, POLLOUT, -1))
			return done ? (ssize_t)done : -errno;
	}
	return (ssize_t)done;
}

/*
 * By reading and sending: sendfile(2) into a blocking socket could not be interrupted when all is
 * to end.
 */
static ssize_t copy_file(const struct user_context *context, const struct fastio_sqe *sqe, int out,
			 char *buffer)
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
	while (done < sqe->len) {
		size_t want = sqe->len - done < USER_COPY_BYTES ? sqe->len - done : USER_COPY_BYTES;
		ssize_t got = pread(sqe->fd2, buffer, want, from + (off_t)done);

		ret = got < 0 ? -errno : 0;
		if (got <= 0)
			break;
		ret = send_all(context, out, S_ISSOCK(info.st_mode), buffer, (size_t)got);
		if (ret > 0)
			done += (size_t)ret;
		if (ret < got)
			break;
	}
	if (current && done && lseek(sqe->fd2, from + (off_t)done, SEEK_SET) < 0)
		return -errno;
	return done ? (ssize_t)done : ret;
}

/*
 * Opens a file. A FIFO without a reader is tried again and again rather than waited for without
 * end.
 */
static int open_path(const struct user_context *context, const struct fastio_sqe *sqe)
{
	const char *path = at(sqe->addr);
	int flags = (int)sqe->op_flags;
	struct stat info;
	int fd;

	if (flags & (O_NONBLOCK | O_PATH | O_CREAT) || stat(path, &info) ||
	    !S_ISFIFO(info.st_mode)) {
		fd = openat(AT_FDCWD, path, flags, (mode_t)sqe->len);
		return fd < 0 ? -errno : fd;
	}
	while ((fd = openat(AT_FDCWD, path, flags | O_NONBLOCK)) < 0)
		if (errno != ENXIO || !wait_for(context, -1, 0, FIFO_LOOK_MS))
			return -errno;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

static ssize_t move_when_ready(const struct user_context *context, const struct fastio_sqe *sqe,
			       int fd)
{
	struct transfer transfer;
	struct stat info;
	ssize_t ret;

	describe(&transfer, sqe);
	if (fstat(fd, &info))
		return -errno;
	if (S_ISREG(info.st_mode) || S_ISBLK(info.st_mode)) {
		ret = move(&transfer, fd, 0);
		return ret < 0 ? -errno : ret;
	}
	while ((ret = try_stream(&transfer, fd, S_ISSOCK(info.st_mode))) < 0)
		if (errno != EAGAIN ||
		    !wait_for(context, fd, transfer.write ? POLLOUT : POLLIN, -1))
			return -errno;
	return ret;
}

/* Does what may block; gives up when all is to end, unless it waits for a disk. */
int fio_blocking(struct user_req *req, char *copy_buffer)
{
	const struct user_context *context = req->ring->context;
	const struct fastio_sqe *sqe = &req->sqe;

	switch (sqe->opcode) {
	case FASTIO_OP_OPENAT:
		return open_path(context, sqe);
	case FASTIO_OP_FSYNC:
		if (sqe->op_flags & FASTIO_FSYNC_DATASYNC)
			return fdatasync(req->io_fd) ? -errno : 0;
		return fsync(req->io_fd) ? -errno : 0;
	case FASTIO_OP_SENDFILE:
		return (int)copy_file(context, sqe, req->io_fd, copy_buffer);
	default:
		return (int)move_when_ready(context, sqe, req->io_fd);
	}
}
