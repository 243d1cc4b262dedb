// SPDX-License-Identifier: GPL-2.0
/*
 * Operations on files of any kind: reads and writes without blocking, and everything a wq worker
 * does.
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include "compat.h"
#include "internal.h"

static bool fastio_is_write(const struct fastio_sqe *sqe)
{
	return sqe->opcode == FASTIO_OP_WRITE || sqe->opcode == FASTIO_OP_WRITEV;
}

/*
 * A file position is shared by all who use the file, so it is locked as read(2) does. @nowait: a
 * worker does not wait for the lock. Return: 0, or -EAGAIN.
 */
static int fastio_lock_pos(struct file *file, bool nowait)
{
	if (!(file->f_mode & FMODE_ATOMIC_POS))
		return 0;
	if (!nowait)
		mutex_lock(&file->f_pos_lock);
	else if (!mutex_trylock(&file->f_pos_lock))
		return -EAGAIN;
	return 0;
}

static void fastio_unlock_pos(struct file *file)
{
	if (file->f_mode & FMODE_ATOMIC_POS)
		mutex_unlock(&file->f_pos_lock);
}

/**
 * fastio_check_rw() - whether a READ, WRITE, READV or WRITEV may use a file at its offset
 * @sqe: operation
 * @file: file
 *
 * Return: 0, or what the system call would say.
 */
int fastio_check_rw(const struct fastio_sqe *sqe, struct file *file)
{
	bool write = fastio_is_write(sqe);

	if (!(file->f_mode & (write ? FMODE_WRITE : FMODE_READ)))
		return -EBADF;
	if (S_ISDIR(file_inode(file)->i_mode))
		return -EISDIR;
	if (write ? !file->f_op->write_iter : !file->f_op->read_iter)
		return -EOPNOTSUPP;
	if (sqe->off == FASTIO_OFF_CURRENT)
		return 0;
	if (sqe->off > MAX_LFS_FILESIZE)
		return -EINVAL;
	return file->f_mode & (write ? FMODE_PWRITE : FMODE_PREAD) ? 0 : -ESPIPE;
}

/*
 * An attempt gives up at the first page that is not in the cache. A file that has more is read as
 * read(2) does: a short count means the end to those who call it.
 */
static bool fastio_is_cut_short(const struct fastio_req *req, const struct kiocb *kiocb,
				const struct iov_iter *iter)
{
	const struct inode *inode = kiocb->ki_filp->f_mapping->host;

	return kiocb->ki_flags & IOCB_NOWAIT && !fastio_is_write(&req->sqe) && iov_iter_count(iter) &&
	       !(req->sqe.flags & FASTIO_SQE_NOWAIT) && req->node.rq->ctx->nr_wq &&
	       (S_ISREG(inode->i_mode) || S_ISBLK(inode->i_mode)) && kiocb->ki_pos < i_size_read(inode);
}

static ssize_t fastio_rw_iter(const struct fastio_req *req, struct file *file,
			      struct iov_iter *iter, bool nowait)
{
	const struct fastio_sqe *sqe = &req->sqe;
	bool current_pos = sqe->off == FASTIO_OFF_CURRENT && !(file->f_mode & FMODE_STREAM);
	bool write = fastio_is_write(sqe);
	struct kiocb kiocb;
	ssize_t ret;

	init_sync_kiocb(&kiocb, file);
	if (nowait)
		kiocb.ki_flags |= IOCB_NOWAIT;
	if (current_pos) {
		if (fastio_lock_pos(file, nowait))
			return FASTIO_PUNT;
		kiocb.ki_pos = file->f_pos;
	} else {
		kiocb.ki_pos = sqe->off == FASTIO_OFF_CURRENT ? 0 : sqe->off;
	}
	if (write) {
		fastio_start_write(file);
		ret = vfs_iocb_iter_write(file, &kiocb, iter);
		fastio_end_write(file);
	} else {
		ret = vfs_iocb_iter_read(file, &kiocb, iter);
	}
	if (ret > 0 && fastio_is_cut_short(req, &kiocb, iter))
		ret = FASTIO_PUNT;
	if (current_pos) {
		if (ret > 0)
			file->f_pos = kiocb.ki_pos;
		fastio_unlock_pos(file);
	}
	return ret;
}

static ssize_t fastio_rw(const struct fastio_req *req, struct file *file, bool nowait)
{
	const struct fastio_sqe *sqe = &req->sqe;
	unsigned int dir = fastio_is_write(sqe) ? ITER_SOURCE : ITER_DEST;
	struct iovec fast[UIO_FASTIOV], *iov = NULL;
	struct iov_iter iter;
	ssize_t ret;

	if (sqe->opcode == FASTIO_OP_READ || sqe->opcode == FASTIO_OP_WRITE) {
		ret = fastio_import(req->node.rq, req, dir, sqe->addr, sqe->len, &iter);
	} else {
		iov = fast;
		ret = import_iovec(dir, u64_to_user_ptr(sqe->addr), sqe->len, ARRAY_SIZE(fast),
				   &iov, &iter);
	}
	if (ret < 0)
		return ret;
	ret = fastio_rw_iter(req, file, &iter, nowait);
	kfree(iov);
	return ret;
}

/**
 * fastio_do_rw() - one attempt of READ, WRITE, READV or WRITEV that does not block
 * @req: request
 * @file: any file
 *
 * Return: bytes; -EAGAIN: wait until the file is ready; FASTIO_PUNT: only a wq worker can do it; or
 * -errno.
 */
int fastio_do_rw(const struct fastio_req *req, struct file *file)
{
	const struct fastio_sqe *sqe = &req->sqe;
	__poll_t want = fastio_is_write(sqe) ? EPOLLOUT : EPOLLIN;
	bool pollable = file_can_poll(file);
	ssize_t ret = fastio_check_rw(sqe, file);

	if (ret)
		return ret;
	/*
	 * Direct I/O waits for the device even with IOCB_NOWAIT; a frozen file system makes writers
	 * wait.
	 */
	if (sqe->flags & FASTIO_SQE_ASYNC || file->f_flags & O_DIRECT ||
	    (want == EPOLLOUT && file_inode(file)->i_sb->s_writers.frozen))
		return FASTIO_PUNT;
	if (file->f_mode & FMODE_NOWAIT || sock_from_file(file) ||
	    (pollable && file->f_flags & O_NONBLOCK)) {
		ret = fastio_rw(req, file, true);
	} else if (pollable && !(vfs_poll(file, NULL) & (want | EPOLLERR | EPOLLHUP))) {
		/* Hand it over only once it is unlikely to keep the wq worker from others. */
		ret = -EAGAIN;
	} else {
		ret = FASTIO_PUNT;
	}
	if (!pollable && (ret == -EAGAIN || ret == -EOPNOTSUPP))
		ret = FASTIO_PUNT;
	return ret;
}

static int fastio_openat(const struct fastio_sqe *sqe)
{
	struct file *file;
	char *path;
	int fd;

	if (sqe->fd != AT_FDCWD)
		return -EINVAL;
	path = strndup_user(u64_to_user_ptr(sqe->addr), PATH_MAX);
	if (IS_ERR(path))
		return PTR_ERR(path) == -EINVAL ? -ENAMETOOLONG : PTR_ERR(path);
	/* See fastio_do_accept(): an accept must not wait for the table to grow here either. */
	rcu_expedite_gp();
	fd = get_unused_fd_flags(sqe->op_flags & O_CLOEXEC);
	rcu_unexpedite_gp();
	if (fd < 0)
		goto out_path;
	/* filp_open() does not refuse an empty path with these flags as open(2) does. */
	file = *path ? filp_open(path, sqe->op_flags | O_LARGEFILE, sqe->len & S_IALLUGO) :
		       ERR_PTR(-ENOENT);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
		goto out_path;
	}
	fastio_opened(file);
	fd_install(fd, file);
out_path:
	kfree(path);
	return fd;
}

static int fastio_fsync(const struct fastio_sqe *sqe, struct file *file)
{
	loff_t end = sqe->len ? sqe->off + sqe->len - 1 : LLONG_MAX;

	if (sqe->off > LLONG_MAX || end < 0)
		return -EINVAL;
	return vfs_fsync_range(file, sqe->off, end, sqe->op_flags & FASTIO_FSYNC_DATASYNC);
}

/* The checks of do_sendfile(). Return: bytes that may be sent, or -errno. */
static ssize_t fastio_check_sendfile(const struct fastio_sqe *sqe, struct file *in,
				     struct file *out, loff_t pos)
{
	loff_t max = min(file_inode(in)->i_sb->s_maxbytes, file_inode(out)->i_sb->s_maxbytes);
	size_t count = min_t(size_t, sqe->len, MAX_RW_COUNT);
	ssize_t ret;

	if (!(in->f_mode & FMODE_READ) || !(out->f_mode & FMODE_WRITE))
		return -EBADF;
	if (pos < 0)
		return -EINVAL;
	/* do_splice_direct() cannot write to a pipe. */
	if (S_ISFIFO(file_inode(out)->i_mode))
		return -EINVAL;
	if (!(in->f_mode & FMODE_PREAD))
		return -ESPIPE;
	ret = rw_verify_area(READ, in, &pos, count);
	if (ret < 0)
		return ret;
	if (pos >= max)
		return -EOVERFLOW;
	return min_t(loff_t, count, max - pos);
}

static ssize_t fastio_sendfile_locked(const struct fastio_sqe *sqe, struct file *in,
				      struct file *out)
{
	bool current_pos = sqe->off == FASTIO_OFF_CURRENT;
	loff_t pos = current_pos ? in->f_pos : (loff_t)sqe->off;
	loff_t out_pos = out->f_pos;
	ssize_t ret = fastio_check_sendfile(sqe, in, out, pos);
	size_t count = ret;

	if (ret <= 0)
		return ret;
	ret = rw_verify_area(WRITE, out, &out_pos, count);
	if (ret < 0)
		return ret;
	fastio_start_write(out);
	ret = do_splice_direct(in, &pos, out, &out_pos, count, 0);
	fastio_end_write(out);
	if (ret > 0) {
		fsnotify_access(in);
		fsnotify_modify(out);
		out->f_pos = out_pos;
		if (current_pos)
			in->f_pos = pos;
	}
	return ret;
}

static ssize_t fastio_sendfile(const struct fastio_sqe *sqe, struct file *out)
{
	struct file *in = fget(sqe->fd2);
	ssize_t ret = -EBADF;

	if (!in)
		return ret;
	if (in->f_op != &fastio_fops)
		ret = fastio_sendfile_locked(sqe, in, out);
	fput(in);
	return ret;
}

/**
 * fastio_do_blocking() - execute a request on a wq worker
 * @req: request, owned by the caller
 *
 * Return: its result, or -ERESTART* if a signal came before anything was done.
 */
int fastio_do_blocking(struct fastio_req *req)
{
	const struct fastio_sqe *sqe = &req->sqe;
	ssize_t ret;

	if (unlikely(fastio_seccomp_refuses()))
		return -EPERM;
	switch (sqe->opcode) {
	case FASTIO_OP_OPENAT:
		return fastio_openat(sqe);
	case FASTIO_OP_FSYNC:
		return fastio_fsync(sqe, req->file);
	case FASTIO_OP_SENDFILE:
		return fastio_sendfile(sqe, req->file);
	default:
		ret = fastio_check_rw(sqe, req->file);
		return ret ?: fastio_rw(req, req->file, false);
	}
}
