/* SPDX-License-Identifier: MIT */
/*
 * fastio_prep.h - filling in SQEs and reading CQEs; fastio.h includes this file
 *
 * Every fastio_prep_*() function sets the whole entry, user_data included: set that, and flags,
 * afterwards. The memory an SQE points to belongs to the operation until its last completion. What
 * each operation does, its flags and its errors: enum fastio_op in linux/fastio.h.
 */
#ifndef FASTIO_PREP_H
#define FASTIO_PREP_H

/** fastio_set_data - what the completion shall carry, for fastio_get_data() */
static inline void fastio_set_data(struct fastio_sqe *sqe, void *data)
{
	sqe->user_data = (uint64_t)(uintptr_t)data;
}

/** fastio_set_data64 - the same as a number, for cqe->user_data */
static inline void fastio_set_data64(struct fastio_sqe *sqe, uint64_t data)
{
	sqe->user_data = data;
}

/** fastio_get_data - what fastio_set_data() set */
static inline void *fastio_get_data(const struct fastio_cqe *cqe)
{
	return (void *)(uintptr_t)cqe->user_data;
}

/** fastio_set_flags - adds FASTIO_SQE_* flags */
static inline void fastio_set_flags(struct fastio_sqe *sqe, unsigned int flags)
{
	sqe->flags |= (uint8_t)flags;
}

/** fastio_set_fixed_buf - RECV, SEND, READ, WRITE: the address lies in registered buffer @index */
static inline void fastio_set_fixed_buf(struct fastio_sqe *sqe, unsigned int index)
{
	sqe->flags |= FASTIO_SQE_FIXED_BUF;
	sqe->buf = (uint16_t)index;
}

/** fastio_cqe_more - whether further completions of the same multishot operation will follow */
static inline bool fastio_cqe_more(const struct fastio_cqe *cqe)
{
	return cqe->flags & FASTIO_CQE_MORE;
}

/** fastio_cqe_has_bid - whether the data is in a provided buffer */
static inline bool fastio_cqe_has_bid(const struct fastio_cqe *cqe)
{
	return cqe->flags & FASTIO_CQE_BUFFER;
}

/** fastio_cqe_bid - the id of that buffer */
static inline uint16_t fastio_cqe_bid(const struct fastio_cqe *cqe)
{
	return (uint16_t)(cqe->flags >> FASTIO_CQE_BUFFER_SHIFT);
}

/* A byte count that fits into an SQE. Linux moves no more than this in one call anyway. */
static inline uint32_t fastio_len_(size_t len)
{
	return len < 0x7ffff000 ? (uint32_t)len : 0x7ffff000;
}

static inline void fastio_prep_(struct fastio_sqe *sqe, enum fastio_op op, int fd, const void *addr,
				uint32_t len, uint32_t op_flags)
{
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (uint8_t)op;
	sqe->fd = fd;
	sqe->addr = (uint64_t)(uintptr_t)addr;
	sqe->len = len;
	sqe->op_flags = op_flags;
}

/** fastio_prep_nop - does nothing, and says so. res: 0 */
static inline void fastio_prep_nop(struct fastio_sqe *sqe)
{
	fastio_prep_(sqe, FASTIO_OP_NOP, 0, NULL, 0, 0);
}

/** fastio_prep_accept - accept4(2). @flags: SOCK_CLOEXEC, SOCK_NONBLOCK. res: the new descriptor */
static inline void fastio_prep_accept(struct fastio_sqe *sqe, int fd, struct sockaddr *addr,
				      socklen_t *addrlen, int flags)
{
	fastio_prep_(sqe, FASTIO_OP_ACCEPT, fd, addr, 0, (uint32_t)flags);
	sqe->addr2 = (uint64_t)(uintptr_t)addrlen;
}

/**
 * fastio_prep_accept_multishot - accepts until it is cancelled or fails; one CQE for each
 * connection
 */
static inline void fastio_prep_accept_multishot(struct fastio_sqe *sqe, int fd, int flags)
{
	fastio_prep_(sqe, FASTIO_OP_ACCEPT, fd, NULL, 0, (uint32_t)flags);
	sqe->flags = FASTIO_SQE_MULTISHOT;
}

/** fastio_prep_recv - recv(2). res: bytes, 0 at the end of the stream */
static inline void fastio_prep_recv(struct fastio_sqe *sqe, int fd, void *buf, size_t len,
				    int flags)
{
	fastio_prep_(sqe, FASTIO_OP_RECV, fd, buf, fastio_len_(len), (uint32_t)flags);
}

/**
 * fastio_prep_recv_select - recv(2) into a provided buffer of @group, taken when data is there;
 * @len 0: all of it
 */
static inline void fastio_prep_recv_select(struct fastio_sqe *sqe, int fd, unsigned int group,
					   size_t len, int flags)
{
	fastio_prep_(sqe, FASTIO_OP_RECV, fd, NULL, fastio_len_(len), (uint32_t)flags);
	sqe->flags = FASTIO_SQE_BUF_SELECT;
	sqe->buf = (uint16_t)group;
}

/**
 * fastio_prep_recv_multishot - receives into provided buffers of @group, one CQE each, until a CQE
 * without FASTIO_CQE_MORE: the end of the stream, an error, -ENOBUFS when the group was empty, or a
 * cancellation
 *
 * -ENOBUFS is about a moment that has passed: buffers may have been given back since, so look, and
 * submit it again at once if there is one; otherwise nothing may ever start it again.
 */
static inline void fastio_prep_recv_multishot(struct fastio_sqe *sqe, int fd, unsigned int group,
					      size_t len, int flags)
{
	fastio_prep_recv_select(sqe, fd, group, len, flags);
	sqe->flags |= FASTIO_SQE_MULTISHOT;
}

/**
 * fastio_prep_send - send(2), never SIGPIPE. res: bytes, which may be fewer than @len without
 * MSG_WAITALL
 */
static inline void fastio_prep_send(struct fastio_sqe *sqe, int fd, const void *buf, size_t len,
				    int flags)
{
	fastio_prep_(sqe, FASTIO_OP_SEND, fd, buf, fastio_len_(len), (uint32_t)flags);
}

/**
 * fastio_prep_send_recv - sends all of @len bytes, then receives up to @recv_len: one SQE and one
 * CQE for each request of a server. res: bytes received; with FASTIO_CQE_SEND_FAILED the error of
 * the send
 */
static inline void fastio_prep_send_recv(struct fastio_sqe *sqe, int fd, const void *buf,
					 size_t len, void *recv_buf, size_t recv_len, int flags)
{
	fastio_prep_(sqe, FASTIO_OP_SEND_RECV, fd, buf, fastio_len_(len), (uint32_t)flags);
	sqe->addr2 = (uint64_t)(uintptr_t)recv_buf;
	sqe->len2 = fastio_len_(recv_len);
}

/** fastio_prep_send_recv_select - the same, receiving into a provided buffer of @group */
static inline void fastio_prep_send_recv_select(struct fastio_sqe *sqe, int fd, const void *buf,
						size_t len, unsigned int group, size_t recv_len,
						int flags)
{
	fastio_prep_send_recv(sqe, fd, buf, len, NULL, recv_len, flags);
	sqe->flags = FASTIO_SQE_BUF_SELECT;
	sqe->buf = (uint16_t)group;
}

/** fastio_prep_recvmsg - recvmsg(2). res: bytes */
static inline void fastio_prep_recvmsg(struct fastio_sqe *sqe, int fd, struct msghdr *msg,
				       int flags)
{
	fastio_prep_(sqe, FASTIO_OP_RECVMSG, fd, msg, 0, (uint32_t)flags);
}

/** fastio_prep_sendmsg - sendmsg(2), never SIGPIPE. res: bytes */
static inline void fastio_prep_sendmsg(struct fastio_sqe *sqe, int fd, const struct msghdr *msg,
				       int flags)
{
	fastio_prep_(sqe, FASTIO_OP_SENDMSG, fd, msg, 0, (uint32_t)flags);
}

/**
 * fastio_prep_read - pread(2), or read(2) with FASTIO_OFF_CURRENT (pipes and the like need that).
 * res: bytes
 */
static inline void fastio_prep_read(struct fastio_sqe *sqe, int fd, void *buf, size_t len,
				    uint64_t offset)
{
	fastio_prep_(sqe, FASTIO_OP_READ, fd, buf, fastio_len_(len), 0);
	sqe->off = offset;
}

/** fastio_prep_write - pwrite(2), or write(2) with FASTIO_OFF_CURRENT. res: bytes */
static inline void fastio_prep_write(struct fastio_sqe *sqe, int fd, const void *buf, size_t len,
				     uint64_t offset)
{
	fastio_prep_(sqe, FASTIO_OP_WRITE, fd, buf, fastio_len_(len), 0);
	sqe->off = offset;
}

/** fastio_prep_readv - preadv(2) or readv(2), as fastio_prep_read(). @nr: 0 to 1024. res: bytes */
static inline void fastio_prep_readv(struct fastio_sqe *sqe, int fd, const struct iovec *iovecs,
				     unsigned int nr, uint64_t offset)
{
	fastio_prep_(sqe, FASTIO_OP_READV, fd, iovecs, nr, 0);
	sqe->off = offset;
}

/**
 * fastio_prep_writev - pwritev(2) or writev(2), as fastio_prep_write(). @nr: 0 to 1024. res: bytes
 */
static inline void fastio_prep_writev(struct fastio_sqe *sqe, int fd, const struct iovec *iovecs,
				      unsigned int nr, uint64_t offset)
{
	fastio_prep_(sqe, FASTIO_OP_WRITEV, fd, iovecs, nr, 0);
	sqe->off = offset;
}

/**
 * fastio_prep_poll - poll(2), one shot. @events: POLLIN, POLLOUT, POLLPRI, POLLRDHUP. res: events
 */
static inline void fastio_prep_poll(struct fastio_sqe *sqe, int fd, unsigned int events)
{
	fastio_prep_(sqe, FASTIO_OP_POLL, fd, NULL, 0, events);
}

/**
 * fastio_prep_close - close(2) of @fd and its slot; submit it on the queue of the connection. res:
 * 0
 */
static inline void fastio_prep_close(struct fastio_sqe *sqe, int fd)
{
	fastio_prep_(sqe, FASTIO_OP_CLOSE, fd, NULL, 0, 0);
}

/* AT_FDCWD, which a strict -std=c11 hides. */
#define FASTIO_CWD_ (-100)

/**
 * fastio_prep_open - open(2), relative to the working directory. res: the new descriptor. Needs a
 * wq worker.
 */
static inline void fastio_prep_open(struct fastio_sqe *sqe, const char *path, int flags,
				    unsigned int mode)
{
	fastio_prep_(sqe, FASTIO_OP_OPENAT, FASTIO_CWD_, path, mode, (uint32_t)flags);
}

/** fastio_prep_fsync - fsync(2). @flags: 0 or FASTIO_FSYNC_DATASYNC. res: 0. Needs a wq worker. */
static inline void fastio_prep_fsync(struct fastio_sqe *sqe, int fd, unsigned int flags)
{
	fastio_prep_(sqe, FASTIO_OP_FSYNC, fd, NULL, 0, flags);
}

/**
 * fastio_prep_sendfile - sendfile(2) from @in at @offset or FASTIO_OFF_CURRENT. res: bytes. Needs a
 * wq worker.
 */
static inline void fastio_prep_sendfile(struct fastio_sqe *sqe, int out, int in, uint64_t offset,
					size_t len)
{
	fastio_prep_(sqe, FASTIO_OP_SENDFILE, out, NULL, fastio_len_(len), 0);
	sqe->fd2 = in;
	sqe->off = offset;
}

/**
 * fastio_prep_timeout - completes after @ns nanoseconds, or at CLOCK_MONOTONIC @ns with
 * FASTIO_TIMEOUT_ABS. res: -ETIME
 */
static inline void fastio_prep_timeout(struct fastio_sqe *sqe, uint64_t ns, unsigned int flags)
{
	fastio_prep_(sqe, FASTIO_OP_TIMEOUT, 0, NULL, 0, flags);
	sqe->off = ns;
}

/**
 * fastio_prep_cancel - cancels operations in flight on the same queue that have user_data @data
 * @flags: 0 for the oldest, FASTIO_CANCEL_ALL
 *
 * res: how many; -ENOENT none; -EALREADY executing on a wq worker
 */
static inline void fastio_prep_cancel(struct fastio_sqe *sqe, uint64_t data, unsigned int flags)
{
	fastio_prep_(sqe, FASTIO_OP_CANCEL, 0, NULL, 0, flags);
	sqe->addr = data;
}

/** fastio_prep_cancel_fd - the same for operations on @fd */
static inline void fastio_prep_cancel_fd(struct fastio_sqe *sqe, int fd, unsigned int flags)
{
	fastio_prep_(sqe, FASTIO_OP_CANCEL, fd, NULL, 0, flags | FASTIO_CANCEL_FD);
}

/**
 * fastio_prep_file_register - makes the slot of @fd now rather than with its first operation. res:
 * 0
 */
static inline void fastio_prep_file_register(struct fastio_sqe *sqe, int fd)
{
	fastio_prep_(sqe, FASTIO_OP_FILE_REGISTER, fd, NULL, 0, 0);
}

/** fastio_prep_file_unregister - drops the slot of @fd; the descriptor stays open. res: 0 */
static inline void fastio_prep_file_unregister(struct fastio_sqe *sqe, int fd)
{
	fastio_prep_(sqe, FASTIO_OP_FILE_UNREGISTER, fd, NULL, 0, 0);
}

#endif
