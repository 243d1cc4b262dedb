// SPDX-License-Identifier: MIT
/* Making and unmaking the user-space back end. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "user.h"

/* More descriptors than Linux gives a process by default. */
#define MAX_FILES 1048576u

static uint32_t max_files(void)
{
	struct rlimit limit;

	/* The hard limit: a program may raise the soft one later. */
	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_max > MAX_FILES)
		return MAX_FILES;
	return (uint32_t)limit.rlim_max;
}

static size_t ring_bytes(const struct user_context *context)
{
	const struct fastio_params *params = &context->priv->params;
	size_t bytes = sizeof(struct fastio_ring) + params->sq_entries * sizeof(struct fastio_sqe) +
		       params->cq_entries * sizeof(struct fastio_cqe);

	return (bytes + FASTIO_LINE_BYTES - 1) & ~(size_t)(FASTIO_LINE_BYTES - 1);
}

/* The buffers of all wq threads. */
static size_t wq_buffer_bytes(const struct user_context *context)
{
	return context->priv->params.wq_workers * (size_t)USER_COPY_BYTES;
}

/*
 * Large tables are not taken from the program's allocator: they stand for memory of the kernel, and a server that
 * watches how fragmented its heap is would count them. Returns NULL without memory.
 */
static void *map(size_t bytes, int flags)
{
	void *memory = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void unmap(void *memory, size_t bytes)
{
	if (memory)
		munmap(memory, bytes ? bytes : 1);
}

static int watch(int epoll_fd, int fd, uint64_t data)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int open_ring_fds(struct user_ring *ring, bool self)
{
	ring->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring->epoll_fd < 0 || ring->event_fd < 0)
		return -errno;
	if (watch(ring->epoll_fd, ring->event_fd, USER_EVENT_KICK))
		return -errno;
	if (!self)
		return 0;
	ring->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (ring->timer_fd < 0)
		return -errno;
	return watch(ring->epoll_fd, ring->timer_fd, USER_EVENT_TIMER);
}

static int make_ring(struct user_ring *ring, struct fastio_queue *queue, char *memory)
{
	ring->sq_entries = queue->sq_entries;
	ring->cq_entries = queue->cq_entries;
	ring->head = (struct fastio_ring *)memory;
	ring->sqes = (struct fastio_sqe *)(memory + sizeof(struct fastio_ring));
	ring->cqes = (struct fastio_cqe *)(ring->sqes + ring->sq_entries);
	queue->ring = ring->head;
	queue->sqes = ring->sqes;
	queue->cqes = ring->cqes;
	ring->reqs = map(ring->cq_entries * sizeof(*ring->reqs), 0);
	ring->timers = map(ring->cq_entries * sizeof(struct user_req *), 0);
	ring->files = map(ring->nr_files * sizeof(*ring->files), MAP_NORESERVE);
	if (!ring->reqs || !ring->timers || !ring->files)
		return -ENOMEM;
	for (uint32_t i = ring->cq_entries; i-- > 0;) {
		ring->reqs[i].ring = ring;
		ring->reqs[i].next = ring->free_req;
		ring->free_req = &ring->reqs[i];
	}
	return open_ring_fds(ring, queue->self);
}

static int open_context_fds(struct user_context *context)
{
	const struct fastio_queue *self = context->priv->fio.self;
	int ret;

	context->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	context->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (context->done_fd < 0 || context->stop_fd < 0)
		return -errno;
	context->poll_fd = context->done_fd;
	if (!self)
		return 0;
	context->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (context->poll_fd < 0)
		return -errno;
	ret = watch(context->poll_fd, context->done_fd, 0);
	return ret ? ret : watch(context->poll_fd, context->rings[self->index].epoll_fd, 0);
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void close_slots(struct user_context *context)
{
	for (uint32_t fd = 0; context->slot_owner && fd < context->max_slots; fd++) {
		uint8_t owner = context->slot_owner[fd];

		if (owner)
			close(context->rings[owner - 1].files[fd].slot_fd - 1);
	}
}

static void user_free(struct fastio_private *priv, bool forked)
{
	struct user_context *context = priv->user;

	close_slots(context);
	for (uint32_t i = 0; context->rings && i < context->nr_rings; i++) {
		struct user_ring *ring = &context->rings[i];

		close_if_open(ring->epoll_fd);
		close_if_open(ring->event_fd);
		close_if_open(ring->timer_fd);
		unmap(ring->files, ring->nr_files * sizeof(*ring->files));
		unmap(ring->timers, ring->cq_entries * sizeof(struct user_req *));
		unmap(ring->reqs, ring->cq_entries * sizeof(*ring->reqs));
	}
	if (context->poll_fd != context->done_fd)
		close_if_open(context->poll_fd);
	close_if_open(context->done_fd);
	close_if_open(context->stop_fd);
	/* A child has no rings, and may have something of its own at the address. */
	if (!forked)
		unmap(context->memory, context->memory_bytes);
	unmap(context->wq_buffer, wq_buffer_bytes(context));
	unmap(context->slot_owner, context->max_slots * sizeof(*context->slot_owner));
	free(context->rings);
	free(context);
}

static struct user_context *allocate(struct fastio_private *priv)
{
	struct user_context *context = calloc(1, sizeof(*context));

	if (!context)
		return NULL;
	context->priv = priv;
	context->nr_rings = priv->fio.nr_queues;
	context->max_slots = priv->params.max_slots;
	context->done_fd = -1;
	context->poll_fd = -1;
	context->stop_fd = -1;
	pthread_mutex_init(&context->wq_lock, NULL);
	pthread_cond_init(&context->wq_more, NULL);
	pthread_mutex_init(&context->buffers_lock, NULL);
	for (unsigned int i = 0; i < FASTIO_MAX_BUF_GROUPS; i++)
		pthread_mutex_init(&context->groups[i].lock, NULL);
	context->rings = calloc(context->nr_rings, sizeof(*context->rings));
	for (uint32_t i = 0; context->rings && i < context->nr_rings; i++) {
		struct user_ring *ring = &context->rings[i];

		ring->context = context;
		ring->index = i;
		ring->nr_files = max_files();
		ring->epoll_fd = -1;
		ring->event_fd = -1;
		ring->timer_fd = -1;
	}
	return context;
}

static int make(struct user_context *context)
{
	struct fastio_private *priv = context->priv;
	size_t bytes = ring_bytes(context);
	int ret = 0;

	context->slot_owner = map(context->max_slots * sizeof(*context->slot_owner), 0);
	context->wq_buffer = map(wq_buffer_bytes(context), 0);
	context->memory_bytes = bytes * context->nr_rings;
	context->memory = map(context->memory_bytes, 0);
	if (!context->rings || !context->slot_owner || !context->wq_buffer || !context->memory)
		return -ENOMEM;
	madvise(context->memory, context->memory_bytes, MADV_DONTFORK);
	for (uint32_t i = 0; i < context->nr_rings && !ret; i++)
		ret = make_ring(&context->rings[i], &priv->queues[i],
				(char *)context->memory + bytes * i);
	return ret ? ret : open_context_fds(context);
}

static int user_setup(struct fastio_private *priv, struct fastio_error *error)
{
	int ret = -ENOMEM;

	priv->user = allocate(priv);
	if (priv->user) {
		ret = make(priv->user);
		if (ret)
			user_free(priv, false);
	}
	if (ret)
		return fastio_fail(error, ret, "cannot make %u rings in user space (%s): %s",
				   priv->fio.nr_queues, fastio_errno_name(ret),
				   fastio_strerror(ret));
	priv->fio.ops = (1ull << FASTIO_OP_LAST) - 1;
	priv->fio.features = FASTIO_FEAT_MULTISHOT | FASTIO_FEAT_FIXED_BUFS |
			     FASTIO_FEAT_BUF_RINGS | FASTIO_FEAT_POLL | FASTIO_FEAT_SEND_RECV;
	priv->fio.max_slots = priv->params.max_slots;
	return 0;
}

static void user_stop(struct fastio_private *priv)
{
	struct user_context *context = priv->user;

	for (uint32_t i = 0; i < context->nr_rings; i++)
		fio_kick(&context->rings[i]);
	pthread_mutex_lock(&context->wq_lock);
	pthread_cond_broadcast(&context->wq_more);
	pthread_mutex_unlock(&context->wq_lock);
	eventfd_write(context->stop_fd, 1);
}

static int user_wake(struct fastio_queue *queue)
{
	fio_kick(&fastio_private(queue->fio)->user->rings[queue->index]);
	return 0;
}

static int user_poll_fd(const struct fastio_private *priv)
{
	return priv->user->poll_fd;
}

static int user_stats(const struct fastio_queue *queue, struct fastio_stats *stats)
{
	__u64 *from = &fastio_private(queue->fio)->user->rings[queue->index].stats.submitted;
	__u64 *to = &stats->submitted;

	for (size_t i = 0; &to[i] < stats->resv; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	return 0;
}

const struct fastio_backend_ops fastio_user_ops = {
	.setup = user_setup,
	.worker = fio_worker,
	.stop = user_stop,
	.free = user_free,
	.wake = user_wake,
	.enter = fio_enter,
	.wait = fio_wait,
	.poll_fd = user_poll_fd,
	.emptied = fio_emptied,
	.register_buffers = fio_register_buffers,
	.unregister_buffers = fio_unregister_buffers,
	.bufs_setup = fio_bufs_setup,
	.bufs_free = fio_bufs_free,
	.stats = user_stats,
};
