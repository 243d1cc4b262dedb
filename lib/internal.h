/* SPDX-License-Identifier: MIT */
/* What the files of libfastio share and programs do not see. */
#ifndef FASTIO_INTERNAL_H
#define FASTIO_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>

#include "fastio.h"

struct fastio_private;

/**
 * struct fastio_backend_ops - what a back end does; one for the module, one for user space
 * @setup: makes the rings of priv->params and points priv->fio.queues at them; undoes everything
 *	when it fails
 * @worker: the body of thread @index: workers first, then wq workers. Returns 0 or -EINTR to be
 *	called again, another -errno when it cannot go on. Called by the thread itself.
 * @stop: makes every @worker return soon, now and when called again, so that the threads can be
 *	joined
 * @free: gives everything back; no thread is left. With @forked the caller is a child process,
 *	which has copies of the descriptors and nothing else.
 * @wake: wakes the worker of a queue
 * @enter: see fastio_enter()
 * @wait: sleeps until a CQ may hold something; @timeout_us is at most a second, 0 only tests. 0,
 *	-ETIME, -EINTR, -ESHUTDOWN
 * @poll_fd: see fastio_poll_fd()
 * @emptied: see fastio_emptied(); NULL when there is nothing to do
 * @register_buffers: see fastio_register_buffers()
 * @unregister_buffers: see fastio_unregister_buffers()
 * @bufs_setup: see fastio_bufs_setup(); sets bufs->ring and bufs->bytes
 * @bufs_free: see fastio_bufs_free(); the caller unmaps
 * @stats: see fastio_get_stats(); stats->ring is set
 */
struct fastio_backend_ops {
	int (*setup)(struct fastio_private *priv, struct fastio_error *error);
	int (*worker)(struct fastio_private *priv, unsigned int index);
	void (*stop)(struct fastio_private *priv);
	void (*free)(struct fastio_private *priv, bool forked);
	int (*wake)(struct fastio_queue *queue);
	int (*enter)(struct fastio_queue *queue, unsigned int flags, unsigned int batch,
		     uint32_t timeout_us);
	int (*wait)(struct fastio_private *priv, uint32_t timeout_us);
	int (*poll_fd)(const struct fastio_private *priv);
	bool (*emptied)(struct fastio_private *priv);
	int (*register_buffers)(struct fastio_private *priv, const struct iovec *iovecs,
				unsigned int nr);
	int (*unregister_buffers)(struct fastio_private *priv);
	int (*bufs_setup)(struct fastio_bufs *bufs);
	int (*bufs_free)(struct fastio_bufs *bufs);
	int (*stats)(const struct fastio_queue *queue, struct fastio_stats *stats);
};

extern const struct fastio_backend_ops fastio_kernel_ops;
extern const struct fastio_backend_ops fastio_user_ops;

#define FASTIO_MAX_THREADS (FASTIO_MAX_WORKERS + FASTIO_MAX_WQ_WORKERS)

/**
 * struct fastio_thread - a worker's thread
 * @priv: whose
 * @id: for joining
 * @index: workers first, then wq workers
 * @cpu: where it runs, or FASTIO_NO_CPU
 * @start_error: -errno of going there; valid once the thread has posted @started
 */
struct fastio_thread {
	struct fastio_private *priv;
	pthread_t id;
	unsigned int index;
	int cpu;
	int start_error;
};

/**
 * struct fastio_private - all of a struct fastio
 * @fio: the part programs see
 * @ops: of the back end
 * @params: as given, with defaults filled in
 * @owner: the process that may use it
 * @nr_threads: how many of @threads run
 * @threads: the workers
 * @started: posted once by each thread that runs
 * @stopping: threads are to leave for good; atomic
 * @failed: -errno of the first thread that left unasked, else 0; atomic
 * @queues: what fio.queues points to
 * @map: what fio.map points to
 * @bufs: provided buffers by group, to be unmapped at the end; bytes is 0 for those not in use
 * @device_fd: kernel back end: the device
 * @device_number: kernel back end: what it is the number of
 * @spare_fd: kernel back end: takes the device's place when it is shut down
 * @rings: kernel back end: the mapping
 * @rings_bytes: kernel back end: its length
 * @user: user-space back end: all of it
 */
struct fastio_private {
	struct fastio fio;
	const struct fastio_backend_ops *ops;
	struct fastio_params params;
	pid_t owner;
	unsigned int nr_threads;
	struct fastio_thread threads[FASTIO_MAX_THREADS];
	sem_t started;
	int stopping;
	int failed;
	struct fastio_queue queues[FASTIO_MAX_WORKERS];
	uint8_t map[FASTIO_MAX_WORKERS * FASTIO_SELF_WEIGHT_FULL];
	struct fastio_bufs bufs[FASTIO_MAX_BUF_GROUPS];
	int device_fd;
	dev_t device_number;
	int spare_fd;
	void *rings;
	size_t rings_bytes;
	struct user_context *user;
};

static inline struct fastio_private *fastio_private(const struct fastio *fio)
{
	return fio->private_data;
}

/* Whether any CQ holds something that was not seen yet. */
bool fastio_any_cqe(const struct fastio *fio);

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t fastio_now_ns(void);

/* register.c: gives back what provided buffers occupy. */
void fastio_bufs_free_all(struct fastio_private *priv, bool forked);

/* threads.c: both return when all threads run, or are gone. */
int fastio_threads_start(struct fastio_private *priv, struct fastio_error *error);
void fastio_threads_stop(struct fastio_private *priv);

/* Fills @error, when there is one, and returns @ret. */
__attribute__((format(printf, 3, 4))) int fastio_fail(struct fastio_error *error, int ret,
						      const char *format, ...);

/* Tells a polling CPU that it polls. */
static inline void fastio_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#else
	__asm__ volatile("" ::: "memory");
#endif
}

#endif
