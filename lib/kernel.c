// SPDX-License-Identifier: MIT
/* The kernel back end: every function is one request to /dev/fastio. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

static int device_ioctl(int fd, unsigned long request, unsigned long arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

static int kernel_worker(struct fastio_private *priv, unsigned int index)
{
	/*
	 * The module counts wq workers after all rings, of which the program's own has no thread.
	 */
	if (index >= priv->fio.nr_workers)
		index += priv->fio.nr_queues - priv->fio.nr_workers;
	return device_ioctl(priv->device_fd, FASTIO_IOC_WORKER, index);
}

static int kernel_wake(struct fastio_queue *queue)
{
	return device_ioctl(fastio_private(queue->fio)->device_fd, FASTIO_IOC_WAKE, queue->index);
}

static int kernel_enter(struct fastio_queue *queue, unsigned int flags, unsigned int batch,
			uint32_t timeout_us)
{
	return device_ioctl(fastio_private(queue->fio)->device_fd, FASTIO_IOC_ENTER,
			    FASTIO_ENTER(queue->index, flags, batch, timeout_us));
}

static int kernel_wait(struct fastio_private *priv, uint32_t timeout_us)
{
	return device_ioctl(priv->device_fd, FASTIO_IOC_WAIT, timeout_us);
}

static int kernel_poll_fd(const struct fastio_private *priv)
{
	return priv->device_fd;
}

static int kernel_register_buffers(struct fastio_private *priv, const struct iovec *iovecs,
				   unsigned int nr)
{
	struct fastio_buffers buffers = { .iovecs = (uint64_t)(uintptr_t)iovecs, .nr = nr };

	return device_ioctl(priv->device_fd, FASTIO_IOC_REGISTER_BUFFERS, (unsigned long)&buffers);
}

static int kernel_unregister_buffers(struct fastio_private *priv)
{
	return device_ioctl(priv->device_fd, FASTIO_IOC_UNREGISTER_BUFFERS, 0);
}

static int kernel_bufs_free(struct fastio_bufs *bufs)
{
	struct fastio_buf_group group = { .group = bufs->group };

	return device_ioctl(fastio_private(bufs->queue->fio)->device_fd,
			    FASTIO_IOC_UNREGISTER_BUF_RING, (unsigned long)&group);
}

static int kernel_bufs_setup(struct fastio_bufs *bufs)
{
	int fd = fastio_private(bufs->queue->fio)->device_fd;
	struct fastio_buf_group group = {
		.group = bufs->group,
		.ring = bufs->queue->index,
		.entries = bufs->entries,
	};
	int ret = device_ioctl(fd, FASTIO_IOC_REGISTER_BUF_RING, (unsigned long)&group);
	void *ring;

	if (ret < 0)
		return ret;
	ring = mmap(NULL, group.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    (off_t)group.mmap_off);
	if (ring == MAP_FAILED) {
		struct fastio_buf_group undo = { .group = bufs->group };

		ret = -errno;
		device_ioctl(fd, FASTIO_IOC_UNREGISTER_BUF_RING, (unsigned long)&undo);
		return ret;
	}
	bufs->ring = ring;
	bufs->bytes = group.bytes;
	return 0;
}

static int kernel_stats(const struct fastio_queue *queue, struct fastio_stats *stats)
{
	return device_ioctl(fastio_private(queue->fio)->device_fd, FASTIO_IOC_STATS,
			    (unsigned long)stats);
}

/* Somebody may have closed the device, and its number be a stranger's by now. */
static bool has_device(const struct fastio_private *priv)
{
	struct stat file;

	return priv->device_fd >= 0 && !fstat(priv->device_fd, &file) && S_ISCHR(file.st_mode) &&
	       file.st_rdev == priv->device_number;
}

/*
 * Puts something harmless in the device's place, so that no thread can meet a stranger's file under
 * its number.
 */
static void kernel_stop(struct fastio_private *priv)
{
	if (has_device(priv))
		dup2(priv->spare_fd, priv->device_fd);
	else
		priv->device_fd = -1;
}

static void kernel_free(struct fastio_private *priv, bool forked)
{
	/* A child has no mapping, and may have something of its own at the address. */
	if (priv->rings && !forked)
		munmap(priv->rings, priv->rings_bytes);
	if (priv->device_fd >= 0)
		close(priv->device_fd);
	if (priv->spare_fd >= 0)
		close(priv->spare_fd);
}

/*
 * Growing the table of descriptors waits for every spinning worker; so do it while there is none.
 */
static int grow_fd_table(struct fastio_private *priv, struct fastio_error *error)
{
	unsigned int wanted = priv->params.max_fds;
	struct rlimit limit;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return fastio_fail(error, -errno, "cannot read RLIMIT_NOFILE (%s)",
				   fastio_errno_name(errno));
	if (wanted > limit.rlim_cur)
		return fastio_fail(
			error, -EINVAL,
			"found max_fds = %u, expected at most %llu, the limit of this process; "
			"raise it (ulimit -n)",
			wanted, (unsigned long long)limit.rlim_cur);
	if (!wanted)
		wanted = limit.rlim_cur < 65536 ? (unsigned int)limit.rlim_cur : 65536;
	/* Failing means that a higher number is in use, so that the table is large already. */
	fd = wanted ? fcntl(priv->spare_fd, F_DUPFD_CLOEXEC, wanted - 1) : -1;
	if (fd >= 0)
		close(fd);
	return 0;
}

static int open_device(struct fastio_private *priv, struct fastio_error *error)
{
	const char *device = priv->params.device;
	struct stat file;

	priv->device_fd = open(device, O_RDWR | O_CLOEXEC);
	if (priv->device_fd < 0 || fstat(priv->device_fd, &file))
		return fastio_fail(error, -errno, "cannot open %s (%s): %s", device,
				   fastio_errno_name(errno), fastio_strerror(errno));
	priv->device_number = file.st_rdev;
	priv->spare_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (priv->spare_fd < 0)
		return fastio_fail(error, -errno, "cannot open an event descriptor (%s): %s",
				   fastio_errno_name(errno), fastio_strerror(errno));
	return 0;
}

static int map_rings(struct fastio_private *priv, const struct fastio_setup *setup,
		     struct fastio_error *error)
{
	priv->rings_bytes = (size_t)setup->ring_bytes * setup->workers;
	priv->rings = mmap(NULL, priv->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			   priv->device_fd, 0);
	if (priv->rings == MAP_FAILED) {
		priv->rings = NULL;
		return fastio_fail(error, -errno, "cannot map the rings (%s): %s",
				   fastio_errno_name(errno), fastio_strerror(errno));
	}
	for (unsigned int i = 0; i < setup->workers; i++) {
		char *head = (char *)priv->rings + (size_t)setup->ring_bytes * i;

		priv->queues[i].ring = (struct fastio_ring *)head;
		priv->queues[i].sqes = (struct fastio_sqe *)(head + setup->sq_off);
		priv->queues[i].cqes = (struct fastio_cqe *)(head + setup->cq_off);
	}
	return 0;
}

static int kernel_setup(struct fastio_private *priv, struct fastio_error *error)
{
	const struct fastio_params *params = &priv->params;
	struct fastio_setup setup = {
		.version = FASTIO_ABI_VERSION,
		.workers = priv->fio.nr_queues,
		.wq_workers = params->wq_workers,
		.sq_entries = params->sq_entries,
		.cq_entries = params->cq_entries,
		.idle_us = params->idle_us,
		.wq_idle_us = params->wq_idle_us,
		.max_slots = params->max_slots,
	};
	int ret;

	priv->device_fd = -1;
	priv->spare_fd = -1;
	ret = open_device(priv, error);
	if (!ret)
		ret = grow_fd_table(priv, error);
	if (!ret) {
		ret = device_ioctl(priv->device_fd, FASTIO_IOC_SETUP, (unsigned long)&setup);
		if (ret)
			fastio_fail(error, ret,
				    "%s refused to set up %u rings of %u and %u entries (%s): %s",
				    params->device, setup.workers, setup.sq_entries,
				    setup.cq_entries, fastio_errno_name(ret), fastio_strerror(ret));
	}
	if (!ret)
		ret = map_rings(priv, &setup, error);
	if (ret) {
		kernel_free(priv, false);
		return ret;
	}
	priv->fio.ops = setup.ops;
	priv->fio.features = setup.features;
	priv->fio.max_slots = setup.max_slots;
	return 0;
}

const struct fastio_backend_ops fastio_kernel_ops = {
	.setup = kernel_setup,
	.worker = kernel_worker,
	.stop = kernel_stop,
	.free = kernel_free,
	.wake = kernel_wake,
	.enter = kernel_enter,
	.wait = kernel_wait,
	.poll_fd = kernel_poll_fd,
	.register_buffers = kernel_register_buffers,
	.unregister_buffers = kernel_unregister_buffers,
	.bufs_setup = kernel_bufs_setup,
	.bufs_free = kernel_bufs_free,
	.stats = kernel_stats,
};
