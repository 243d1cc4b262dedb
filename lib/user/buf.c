// SPDX-License-Identifier: MIT
/* Registered memory and provided buffers. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "user.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Whether the memory of an SQE lies in the registered buffer it names. */
bool fio_fixed_buf_fits(struct user_context *context, const struct fastio_sqe *sqe)
{
	bool fits = false;

	pthread_mutex_lock(&context->buffers_lock);
	if (sqe->buf < context->nr_buffers) {
		const struct iovec *buffer = &context->buffers[sqe->buf];
		uint64_t base = (uint64_t)(uintptr_t)buffer->iov_base;

		fits = sqe->addr >= base && sqe->addr - base <= buffer->iov_len &&
		       sqe->len <= buffer->iov_len - (sqe->addr - base);
	}
	pthread_mutex_unlock(&context->buffers_lock);
	return fits;
}

/* Makes every page of it present and writable, as pinning does, or says why that cannot be. */
static int touch(const struct user_context *context, const struct iovec *buffer)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = (uintptr_t)buffer->iov_base & ~(page - 1);
	uintptr_t to = ((uintptr_t)buffer->iov_base + buffer->iov_len + page - 1) & ~(page - 1);

	if (!buffer->iov_len || buffer->iov_len > FASTIO_MAX_BUFFER_BYTES)
		return -EINVAL;
	if (!madvise((void *)from, to - from, MADV_POPULATE_WRITE))
		return 0;
	/*
	 * EINVAL says "not writable", or that Linux is older than 5.14; then all we can see is
	 * whether it is mapped.
	 */
	if (errno == EINVAL && madvise(context->memory, page, MADV_POPULATE_WRITE) &&
	    !madvise((void *)from, to - from, MADV_NORMAL))
		return 0;
	return -EFAULT;
}

int fio_register_buffers(struct fastio_private *priv, const struct iovec *iovecs, unsigned int nr)
{
	struct user_context *context = priv->user;
	int ret = 0;

	if (context->nr_buffers)
		return -EBUSY;
	if (!nr || nr > FASTIO_MAX_BUFFERS)
		return -EINVAL;
	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = touch(context, &iovecs[i]);
	if (ret)
		return ret;
	pthread_mutex_lock(&context->buffers_lock);
	for (unsigned int i = 0; i < nr; i++)
		context->buffers[i] = iovecs[i];
	context->nr_buffers = nr;
	pthread_mutex_unlock(&context->buffers_lock);
	return 0;
}

int fio_unregister_buffers(struct fastio_private *priv)
{
	struct user_context *context = priv->user;

	if (!context->nr_buffers)
		return -ENXIO;
	pthread_mutex_lock(&context->buffers_lock);
	context->nr_buffers = 0;
	pthread_mutex_unlock(&context->buffers_lock);
	return 0;
}

int fio_bufs_setup(struct fastio_bufs *bufs)
{
	struct user_group *group = &fastio_private(bufs->queue->fio)->user->groups[bufs->group];
	size_t bytes = sizeof(struct fastio_buf_ring) + bufs->entries * sizeof(struct fastio_buf);
	void *memory;

	if (group->ring)
		return -EEXIST;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	madvise(memory, bytes, MADV_DONTFORK);
	bufs->ring = memory;
	bufs->bytes = bytes;
	pthread_mutex_lock(&group->lock);
	group->ring = memory;
	group->owner = bufs->queue->index;
	group->entries = bufs->entries;
	group->head = 0;
	pthread_mutex_unlock(&group->lock);
	return 0;
}

int fio_bufs_free(struct fastio_bufs *bufs)
{
	struct user_group *group = &fastio_private(bufs->queue->fio)->user->groups[bufs->group];

	pthread_mutex_lock(&group->lock);
	group->ring = NULL;
	pthread_mutex_unlock(&group->lock);
	return 0;
}

/* Returns a group with its lock held, or NULL and what the receive fails with. */
struct user_group *fio_group_lock(struct user_ring *ring, unsigned int number, int *err)
{
	struct user_group *group;

	*err = -ENOENT;
	if (number >= FASTIO_MAX_BUF_GROUPS)
		return NULL;
	group = &ring->context->groups[number];
	pthread_mutex_lock(&group->lock);
	if (group->ring && group->owner == ring->index)
		return group;
	if (group->ring)
		*err = -EXDEV;
	pthread_mutex_unlock(&group->lock);
	return NULL;
}

/* The buffer that comes next, or NULL. Taking it is group->head++. */
struct fastio_buf *fio_group_peek(struct user_group *group)
{
	if (__atomic_load_n(&group->ring->tail, __ATOMIC_ACQUIRE) == group->head)
		return NULL;
	return &group->ring->bufs[group->head & (group->entries - 1)];
}
