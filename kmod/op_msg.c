// SPDX-License-Identifier: GPL-2.0
/*
 * Attempts of recvmsg() and sendmsg(): the copying of struct msghdr, which the kernel does not
 * export.
 */
#include <linux/net.h>
#include <linux/socket.h>
#include <linux/uaccess.h>
#include "compat.h"
#include "internal.h"

/* Return: 0, or why the header is bad. @iov: for the caller to kfree() after use. */
static int fastio_get_msghdr(const struct fastio_sqe *sqe, unsigned int dir,
			     struct user_msghdr *user, struct msghdr *msg, struct iovec **iov)
{
	ssize_t ret;

	if (copy_from_user(user, u64_to_user_ptr(sqe->addr), sizeof(*user)))
		return -EFAULT;
	if (!user->msg_name)
		user->msg_namelen = 0;
	if (user->msg_namelen < 0)
		return -EINVAL;
	if (user->msg_namelen > sizeof(struct sockaddr_storage))
		user->msg_namelen = sizeof(struct sockaddr_storage);
	if (user->msg_iovlen > UIO_MAXIOV)
		return -EMSGSIZE;
	if (user->msg_controllen > INT_MAX)
		return -ENOBUFS;
	ret = import_iovec(dir, user->msg_iov, user->msg_iovlen, UIO_FASTIOV, iov, &msg->msg_iter);
	return ret < 0 ? ret : 0;
}

/**
 * fastio_do_recvmsg() - one attempt of FASTIO_OP_RECVMSG
 * @req: request
 * @file: socket
 * @result: flags of the CQE; whether the socket is empty now
 *
 * Return: bytes, or -errno.
 */
int fastio_do_recvmsg(struct fastio_req *req, struct file *file, struct fastio_result *result)
{
	struct user_msghdr __user *umsg = u64_to_user_ptr(req->sqe.addr);
	struct socket *sock = sock_from_file(file);
	struct iovec fast[UIO_FASTIOV], *iov = fast;
	struct sockaddr_storage address;
	struct user_msghdr user;
	struct msghdr msg = {};
	int ret, len;

	if (!sock)
		return -ENOTSOCK;
	ret = fastio_get_msghdr(&req->sqe, ITER_DEST, &user, &msg, &iov);
	if (ret)
		return ret;
	msg.msg_name = &address;
	msg.msg_control_is_user = true;
	msg.msg_control_user = user.msg_control;
	msg.msg_controllen = user.msg_controllen;
	msg.msg_flags = req->sqe.op_flags & MSG_CMSG_CLOEXEC;
	msg.msg_get_inq = 1;
	msg.msg_inq = -1;
	len = sock_recvmsg(sock, &msg, req->sqe.op_flags | MSG_DONTWAIT);
	kfree(iov);
	if (len < 0)
		return len;
	if (user.msg_name) {
		int want = user.msg_namelen;

		if (copy_to_user(user.msg_name, &address, min(want, msg.msg_namelen)) ||
		    put_user(msg.msg_namelen, &umsg->msg_namelen))
			return -EFAULT;
	}
	if (put_user(msg.msg_flags & ~MSG_CMSG_COMPAT, &umsg->msg_flags) ||
	    put_user((unsigned long)msg.msg_control_user - (unsigned long)user.msg_control,
		     &umsg->msg_controllen))
		return -EFAULT;
	result->drained = len > 0 && !msg.msg_inq;
	if (msg.msg_inq > 0)
		result->flags = FASTIO_CQE_NONEMPTY;
	return len;
}

/*
 * Copies ancillary data. Return: 0 with @msg pointing to memory to be freed by the caller, or
 * -errno.
 */
static int fastio_get_control(struct socket *sock, const struct user_msghdr *user,
			      struct msghdr *msg)
{
	void *control;

	if (!user->msg_controllen)
		return 0;
	/* Charged to the socket, and bounded by its limit for options. */
	control = sock_kmalloc(sock->sk, user->msg_controllen, GFP_KERNEL);
	if (!control)
		return -ENOBUFS;
	if (copy_from_user(control, user->msg_control, user->msg_controllen)) {
		sock_kfree_s(sock->sk, control, user->msg_controllen);
		return -EFAULT;
	}
	msg->msg_control = control;
	msg->msg_controllen = user->msg_controllen;
	return 0;
}

/**
 * fastio_do_sendmsg() - one attempt of FASTIO_OP_SENDMSG
 * @req: request
 * @file: socket
 *
 * Return: bytes, or -errno.
 */
int fastio_do_sendmsg(struct fastio_req *req, struct file *file)
{
	struct socket *sock = sock_from_file(file);
	struct iovec fast[UIO_FASTIOV], *iov = fast;
	struct sockaddr_storage address;
	struct user_msghdr user;
	struct msghdr msg = {};
	void *control;
	int ret;

	if (!sock)
		return -ENOTSOCK;
	ret = fastio_get_msghdr(&req->sqe, ITER_SOURCE, &user, &msg, &iov);
	if (ret)
		return ret;
	if (user.msg_namelen) {
		ret = -EFAULT;
		if (copy_from_user(&address, user.msg_name, user.msg_namelen))
			goto out_iov;
		msg.msg_name = &address;
		msg.msg_namelen = user.msg_namelen;
	}
	ret = fastio_get_control(sock, &user, &msg);
	if (ret)
		goto out_iov;
	/* Protocols may move the pointer while they parse. */
	control = msg.msg_control;
	msg.msg_flags = (req->sqe.op_flags & ~MSG_INTERNAL_SENDMSG_FLAGS) | MSG_DONTWAIT |
			MSG_NOSIGNAL;
	ret = sock_sendmsg(sock, &msg);
	if (control)
		sock_kfree_s(sock->sk, control, user.msg_controllen);
out_iov:
	kfree(iov);
	return ret;
}
