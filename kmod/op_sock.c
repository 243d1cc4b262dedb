// SPDX-License-Identifier: GPL-2.0
/* Attempts on sockets: accept, receive, send. */
#include <linux/file.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/uaccess.h>
#include "compat.h"
#include "internal.h"

/* Not to be cleared by the compiler's choice: fastio_clear() does. */
#define fastio_uninitialized	__attribute__((__uninitialized__))

static struct socket *fastio_sock(const struct fastio_req *req, struct file *file)
{
	return req->slot ? req->slot->sock : sock_from_file(file);
}

/* A few stores; an initialiser would be a call of memset(), for each send and each receive. */
static __always_inline void fastio_clear(struct msghdr *msg)
{
	u64 *word = (u64 *)msg;
	size_t i;

	BUILD_BUG_ON(sizeof(*msg) % sizeof(*word));
#pragma GCC unroll 32
	for (i = 0; i < sizeof(*msg) / sizeof(*word); i++)
		word[i] = 0;
}

/* As move_addr_to_user(), which is not exported. */
static int fastio_put_address(const struct sockaddr_storage *address, int len, void __user *to,
			      int __user *to_len)
{
	int room;

	if (get_user(room, to_len))
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	if (copy_to_user(to, address, min(room, len)))
		return -EFAULT;
	/* The length before truncation. */
	return put_user(len, to_len);
}

/*
 * The steps of do_accept(), which is not exported, nor is the LSM hook in it: see
 * fastio_accept_allowed().
 *
 * Return: the new file, or why there is none.
 */
static struct file *fastio_accept_file(const struct fastio_sqe *sqe, struct socket *sock)
{
	struct sockaddr_storage address = {};
	struct socket *newsock;
	struct file *file;
	int err, len;

	newsock = sock_alloc();
	if (!newsock)
		return ERR_PTR(-ENFILE);
	newsock->type = sock->type;
	newsock->ops = READ_ONCE(sock->ops);
	/* The listening socket holds the module already. */
	__module_get(newsock->ops->owner);
	file = sock_alloc_file(newsock, sqe->op_flags & SOCK_NONBLOCK ? O_NONBLOCK : 0,
			       sock->sk->sk_prot_creator->name);
	if (IS_ERR(file))
		return file;	/* it has released newsock */
	err = fastio_proto_accept(sock, newsock);
	if (err < 0)
		goto out_file;
	if (sqe->addr) {
		len = newsock->ops->getname(newsock, (struct sockaddr *)&address, 2);
		err = len < 0 ? -ECONNABORTED :
				fastio_put_address(&address, len, u64_to_user_ptr(sqe->addr),
						   u64_to_user_ptr(sqe->addr2));
		if (err < 0)
			goto out_file;
	}
	return file;
out_file:
	fput(file);
	return ERR_PTR(err);
}

/**
 * fastio_do_accept() - one attempt of FASTIO_OP_ACCEPT
 * @req: request
 * @file: listening socket
 * @result: unused: one more connection may wait
 *
 * Return: a descriptor, or -errno.
 */
int fastio_do_accept(struct fastio_req *req, struct file *file, struct fastio_result *result)
{
	struct socket *sock = fastio_sock(req, file);
	struct file *newfile;
	int fd;

	if (!sock)
		return -ENOTSOCK;
	if (unlikely(!fastio_accept_allowed(req->node.rq->ctx->accept_secid)))
		return -EPERM;
	/* Look before allocating a descriptor, a socket and a file for nothing. */
	if (READ_ONCE(sock->sk->sk_state) == TCP_LISTEN &&
	    !(vfs_poll(file, NULL) & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return -EAGAIN;
	/*
	 * Growing the table of files waits for an RCU grace period, and this thread's connections
	 * with it. An expedited one takes microseconds, as the other workers look at need_resched()
	 * all the time.
	 */
	rcu_expedite_gp();
	fd = get_unused_fd_flags(req->sqe.op_flags & SOCK_CLOEXEC ? O_CLOEXEC : 0);
	rcu_unexpedite_gp();
	if (fd < 0)
		return fd;
	newfile = fastio_accept_file(&req->sqe, sock);
	if (IS_ERR(newfile)) {
		put_unused_fd(fd);
		return PTR_ERR(newfile);
	}
	fd_install(fd, newfile);
	return fd;
}

/*
 * Takes the next provided buffer. Return: 0; -EAGAIN if there is nothing to put in it; else why it
 * cannot be.
 */
static int fastio_select(struct fastio_rq *rq, const struct fastio_req *req, struct file *file,
			 u64 *addr, u32 *len, struct fastio_result *result)
{
	struct fastio_buf buf;
	int err = fastio_group_peek(rq, req->sqe.buf, &buf);

	if (err == -ENOBUFS &&
	    !(vfs_poll(file, NULL) & (EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLERR | EPOLLHUP)))
		return -EAGAIN;
	if (err)
		return err;
	*addr = buf.addr;
	*len = *len ? min(*len, buf.len) : buf.len;
	result->flags = FASTIO_CQE_BUFFER | (u32)buf.bid << FASTIO_CQE_BUFFER_SHIFT;
	return 0;
}

/**
 * fastio_do_recv() - one attempt of FASTIO_OP_RECV, or of the second half of FASTIO_OP_SEND_RECV
 * @rq: ring; the caller serves it
 * @req: request
 * @file: socket
 * @result: flags of the CQE; whether the socket is empty now
 *
 * Return: bytes, or -errno.
 */
int fastio_do_recv(struct fastio_rq *rq, struct fastio_req *req, struct file *file,
		   struct fastio_result *result)
{
	struct msghdr msg fastio_uninitialized;
	struct socket *sock = fastio_sock(req, file);
	const struct fastio_sqe *sqe = &req->sqe;
	bool fused = sqe->opcode == FASTIO_OP_SEND_RECV;
	u64 addr = fused ? sqe->addr2 : sqe->addr + req->done;
	u32 len = fused ? sqe->len2 : sqe->len - req->done;
	int ret;

	if (!sock)
		return -ENOTSOCK;
	fastio_clear(&msg);
	msg.msg_get_inq = 1;
	msg.msg_inq = -1;
	if (sqe->flags & FASTIO_SQE_BUF_SELECT) {
		ret = fastio_select(rq, req, file, &addr, &len, result);
		if (ret)
			return ret;
	}
	ret = fastio_import(rq, req, ITER_DEST, addr, len, &msg.msg_iter);
	if (ret)
		return ret;
	ret = sock_recvmsg(sock, &msg, (fused ? 0 : sqe->op_flags) | MSG_DONTWAIT);
	if (sqe->flags & FASTIO_SQE_BUF_SELECT) {
		if (ret > 0)
			fastio_group_take(rq, sqe->buf);
		else
			result->flags = 0;
	}
	if (ret > 0) {
		result->drained = !msg.msg_inq;
		if (msg.msg_inq > 0)
			result->flags |= FASTIO_CQE_NONEMPTY;
	}
	return ret;
}

/**
 * fastio_do_send() - one attempt of FASTIO_OP_SEND, or of the first half of FASTIO_OP_SEND_RECV
 * @rq: ring; the caller serves it
 * @req: request; what has been sent before is skipped
 * @file: socket
 *
 * Return: bytes, or -errno.
 */
int fastio_do_send(struct fastio_rq *rq, struct fastio_req *req, struct file *file)
{
	const struct fastio_sqe *sqe = &req->sqe;
	struct msghdr msg fastio_uninitialized;
	struct socket *sock = fastio_sock(req, file);
	int ret;

	if (!sock)
		return -ENOTSOCK;
	fastio_clear(&msg);
	msg.msg_flags = (sqe->op_flags & ~(MSG_INTERNAL_SENDMSG_FLAGS | MSG_WAITALL)) |
			MSG_DONTWAIT | MSG_NOSIGNAL;
	ret = fastio_import(rq, req, ITER_SOURCE, sqe->addr + req->done,
			    sqe->len - req->done, &msg.msg_iter);
	if (ret)
		return ret;
	return sock_sendmsg(sock, &msg);
}

/**
 * fastio_do_poll() - one attempt of FASTIO_OP_POLL
 * @req: request
 * @file: any file
 *
 * Return: events, or -EAGAIN.
 */
int fastio_do_poll(struct fastio_req *req, struct file *file)
{
	__poll_t mask = vfs_poll(file, NULL) &
			((__force __poll_t)req->sqe.op_flags | EPOLLERR | EPOLLHUP);

	return (__force int)mask ?: -EAGAIN;
}
