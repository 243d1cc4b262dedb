/* SPDX-License-Identifier: MIT */
/*
 * fastio.h - asynchronous socket and file operations that never trap
 *
 * A program writes operations (submission queue entries, SQEs) into rings it shares with workers,
 * and reads their results (completion queue entries, CQEs) from the same rings. A worker is a
 * thread of the program itself that stays inside the kernel, polls its ring and executes what it
 * finds; submitting and reaping are plain loads and stores. Each worker has a ring of its own,
 * called a queue here: a submission queue (SQ) and a completion queue (CQ). The operations of one
 * connection go to one queue, so their order is kept.
 *
 *	struct fastio_params params;
 *	struct fastio *fio;
 *
 *	fastio_params_init(&params);
 *	if (fastio_setup(&fio, &params, NULL))
 *		return 1;
 *	struct fastio_queue *queue = fastio_queue_for(fio, fd);
 *	struct fastio_sqe *sqe = fastio_get_sqe(queue);
 *	fastio_prep_recv(sqe, fd, buf, sizeof(buf), 0);
 *	fastio_set_data(sqe, connection);
 *	fastio_submit(queue);
 *	while (!fastio_wait(fio, FASTIO_FOREVER)) {
 *		struct fastio_cqe *cqe;
 *
 *		while ((cqe = fastio_next(fio, &queue))) {
 *			handle(fastio_get_data(cqe), cqe->res);
 *			fastio_seen(queue);
 *		}
 *		fastio_submit_all(fio);
 *	}
 *
 * Three ways to share the work, chosen by struct fastio_params:
 *  - workers > 0: donated workers execute everything; the program's thread only submits and reaps.
 *  - workers = 0 (inline): there is one queue, and the program's thread becomes its worker inside
 *    fastio_wait() and fastio_serve() whenever it has nothing else to do. No other CPU is used.
 *  - workers > 0 and self_weight > 0 (hybrid): both. The last queue is served by the program's own
 *    thread.
 * A loop written as above runs in all three; in the last one call fastio_serve() between reaping as
 * well.
 *
 * Two back ends, one behaviour: the kernel module (/dev/fastio), or, where it is absent, threads of
 * this library that make the system calls, so that programs and their tests run anywhere. See enum
 * fastio_backend.
 *
 * Results: functions that can fail return 0 or a count, or -errno, never errno itself;
 * fastio_strerror() says what to do about it. CQEs carry what the system call would have returned,
 * or -errno.
 *
 * Threads: a struct fastio belongs to one thread at a time; programs with several threads give each
 * its own. To be woken by another thread while waiting, sleep on fastio_poll_fd() and an eventfd
 * together.
 *
 * fork(): rings and workers stay with the process that called fastio_setup(). A child may call
 * fastio_exit() on the copy to get rid of it, and nothing else.
 */
#ifndef FASTIO_H
#define FASTIO_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <linux/fastio.h>

#include "fastio_conf.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FASTIO_VERSION_MAJOR 0
#define FASTIO_VERSION_MINOR 1
#define FASTIO_VERSION_PATCH 0

/** fastio_version - the version of the library at run time, as "0.1.0" */
const char *fastio_version(void);

/** FASTIO_FOREVER - a time-out that never comes */
#define FASTIO_FOREVER ((int64_t)-1)
/** FASTIO_NO_CPU - leave the choice of the CPU to the scheduler */
#define FASTIO_NO_CPU (-1)
/** FASTIO_SELF_WEIGHT_FULL - the program's own queue gets as many connections as a worker's */
#define FASTIO_SELF_WEIGHT_FULL 4

/* ------------------------------------------------------------------ set-up */

/**
 * enum fastio_backend - who executes the operations
 * @FASTIO_BACKEND_AUTO: what $FASTIO_BACKEND says ("kernel", "user" or "auto"); else the module
 *	when its device is there, else user space, announced once on stderr. A device that is there
 *	but refuses is an error.
 * @FASTIO_BACKEND_KERNEL: the module, or fastio_setup() fails
 * @FASTIO_BACKEND_USER: threads of this library
 *
 * Differences of the user-space back end, besides speed: a listening socket given to ACCEPT is made
 * non-blocking; closing a descriptor while operations without FASTIO_SQE_SLOT wait on it ends them
 * with -ECANCELED.
 */
enum fastio_backend {
	FASTIO_BACKEND_AUTO,
	FASTIO_BACKEND_KERNEL,
	FASTIO_BACKEND_USER,
};

/**
 * struct fastio_params - how to set up; fill with fastio_params_init(), then change what matters
 * @workers: donated worker threads, each with a queue; 0 to 64; 0 is inline
 * @self_weight: hybrid: 0 for none; else a further queue is served by the calling thread itself and
 *	gets self_weight quarters of the connections that a worker's gets; 0 to
 *	FASTIO_SELF_WEIGHT_FULL. Inline always has that queue, whatever stands here.
 * @self_batch: most operations one fastio_serve() executes before it returns to reap; 0 to 255, 0
 *	is no bound. It returns earlier when a worker's queue has completions. Default 8 for hybrid,
 *	no bound for inline.
 * @wq_workers: threads for operations that block (open, fsync, data not in cache); 0 to 16. With 0
 *	those operations fail with -EOPNOTSUPP. Default 1.
 * @sq_entries: entries of each SQ, a power of two up to 32768. Default 1024.
 * @cq_entries: entries of each CQ, a power of two from sq_entries to 32768. It is also the most
 *	operations in flight on one queue: a server needs one for each connection that waits for
 *	data. 0: the larger of 4 x sq_entries and 4096, at most 32768.
 * @idle_us: how long a worker polls without work before it sleeps, in microseconds; up to 10
 *	seconds
 * @wq_idle_us: the same for wq workers
 * @wait_spin_us: how long fastio_wait() polls before it sleeps, in microseconds; up to 10 seconds.
 *	Default 0.
 * @max_slots: one more than the highest descriptor that may be used with FASTIO_SQE_SLOT; up to
 *	1048576; 0 is 65536
 * @max_fds: descriptors the process expects to have open. Its table is grown at set-up, because
 *	growing it later stops every worker that accepts or opens for up to 175 ms. 0: the soft
 *	RLIMIT_NOFILE, at most 65536.
 * @worker_cpu: CPU of each worker; with FASTIO_NO_CPU it may use those of the calling thread
 * @wq_cpu: the same for each wq worker
 * @backend: see enum fastio_backend
 * @quiet: do not announce the user-space back end ($FASTIO_QUIET=1 does the same)
 * @device: path of the device; NULL is /dev/fastio
 */
struct fastio_params {
	unsigned int workers;
	unsigned int self_weight;
	unsigned int self_batch;
	unsigned int wq_workers;
	unsigned int sq_entries;
	unsigned int cq_entries;
	unsigned int idle_us;
	unsigned int wq_idle_us;
	unsigned int wait_spin_us;
	unsigned int max_slots;
	unsigned int max_fds;
	int worker_cpu[FASTIO_MAX_WORKERS];
	int wq_cpu[FASTIO_MAX_WQ_WORKERS];
	enum fastio_backend backend;
	bool quiet;
	const char *device;
};

/**
 * fastio_params_init - sets the defaults: those of fastio.conf, as fastio_params_from_conf()
 * translates them
 */
void fastio_params_init(struct fastio_params *params);

/**
 * fastio_params_from_conf - what a fastio.conf means for one user worker
 * @params: all of it is set
 * @conf: as read by fastio_conf_load()
 * @user_worker: which of the conf's user workers the caller is, from 0
 * @error: may be NULL
 *
 * Returns 0, or -ERANGE if @user_worker is not below max_usr_worker.
 */
int fastio_params_from_conf(struct fastio_params *params, const struct fastio_conf *conf,
			    unsigned int user_worker, struct fastio_error *error);

/**
 * struct fastio_queue - one SQ and one CQ, as the program sees them; only the functions below touch
 * the fields
 * @ring: head of the shared memory
 * @sqes: the SQ
 * @cqes: the CQ
 * @sq_entries: entries of the SQ, a power of two
 * @cq_entries: entries of the CQ, a power of two
 * @sq_claimed: SQEs handed out by fastio_get_sqe() so far
 * @sq_submitted: SQEs submitted so far
 * @sq_head: the last known value of ring->sq_head
 * @cq_head: CQEs seen so far
 * @cq_tail: the last known value of ring->cq_tail
 * @index: number of the queue
 * @self: served by the program's own thread, so submitting wakes nobody
 * @fio: what the queue belongs to
 */
struct fastio_queue {
	struct fastio_ring *ring;
	struct fastio_sqe *sqes;
	struct fastio_cqe *cqes;
	uint32_t sq_entries;
	uint32_t cq_entries;
	uint32_t sq_claimed;
	uint32_t sq_submitted;
	uint32_t sq_head;
	uint32_t cq_head;
	uint32_t cq_tail;
	uint32_t index;
	bool self;
	struct fastio *fio;
};

struct fastio_private;

/**
 * struct fastio - a set of queues and their workers; read-only for programs
 * @queues: all of them: those of the workers first, then the program's own
 * @nr_queues: how many
 * @nr_workers: donated workers
 * @self: the queue that the program serves itself, or NULL
 * @turn: the queue that fastio_next() looks at first
 * @streak: CQEs it took from there in a row
 * @map: queue of connection i modulo @map_len
 * @map_len: entries of @map
 * @backend: FASTIO_BACKEND_KERNEL or FASTIO_BACKEND_USER
 * @ops: bit n is set if opcode n is available
 * @features: FASTIO_FEAT_* bits
 * @max_slots: one more than the highest descriptor that may be used with FASTIO_SQE_SLOT
 * @clear_when_empty: fastio_next() must tell the back end when nothing is left
 * @private_data: the library's own
 */
struct fastio {
	struct fastio_queue *queues;
	unsigned int nr_queues;
	unsigned int nr_workers;
	struct fastio_queue *self;
	unsigned int turn;
	unsigned int streak;
	const uint8_t *map;
	unsigned int map_len;
	enum fastio_backend backend;
	uint64_t ops;
	uint64_t features;
	unsigned int max_slots;
	bool clear_when_empty;
	struct fastio_private *private_data;
};

/**
 * fastio_setup - makes the rings and starts the workers
 * @fio: set on success
 * @params: NULL takes the defaults
 * @error: may be NULL
 *
 * Returns when every worker has answered a NOP. The worker threads block all signals and are called
 * fastio/0, fastio/1, ... and fastio-wq/0, ...; what they open belongs to the process. Call it
 * after daemonizing and in the process that will use it.
 *
 * Returns 0, or with the reason in @error and nothing left behind: -EINVAL a parameter out of
 * range, a CPU this process may not use, or an unknown $FASTIO_BACKEND; -EACCES no access to the
 * device; -ENOENT no device and the kernel back end demanded; -EPROTONOSUPPORT a module of another
 * version; -EPERM seccomp; -EUSERS too many contexts of this user; -ENOMEM; -EAGAIN no more
 * threads; -EMFILE; -ETIME a worker did not answer.
 */
int fastio_setup(struct fastio **fio, const struct fastio_params *params,
		 struct fastio_error *error);

/**
 * fastio_stop - ends the workers, for a program that goes on without them
 *
 * What they have completed can still be reaped with fastio_peek() or fastio_next(); then call
 * fastio_exit(). Nothing can be executed any more. An operation of one step that has no completion
 * then, or -ECANCELED, such as a receive or a send without MSG_WAITALL, has not been executed and
 * moved no byte: the program may make the system call in its place.
 */
void fastio_stop(struct fastio *fio);

/**
 * fastio_exit - stops the workers and frees everything
 * @fio: may be NULL
 *
 * Operations in flight end without completions; their buffers may be freed when this returns.
 * Descriptors opened or accepted by operations stay open, also those whose completions were not
 * reaped.
 */
void fastio_exit(struct fastio *fio);

/**
 * fastio_strerror - what an error of this library or of a CQE means and what to do about it
 * @err: -errno or errno
 *
 * Returns a constant string without a newline; safe from every thread.
 */
const char *fastio_strerror(int err);

/** fastio_errno_name - the name of an error, as "EINVAL"; @err as for fastio_strerror() */
const char *fastio_errno_name(int err);

/* ------------------------------------------------------------------ for the inline functions */

/**
 * fastio_wake_worker - wakes the worker of a queue. Returns 0 or -errno. For fastio_submit() and
 * fastio_seen().
 */
int fastio_wake_worker(struct fastio_queue *queue);

/** fastio_serve_now - fastio_serve() without looking first whether anything is due */
int fastio_serve_now(struct fastio *fio);

/**
 * fastio_emptied - tells the back end that all CQs were found empty. Returns true if one no longer
 * is.
 */
bool fastio_emptied(struct fastio *fio);

/* ------------------------------------------------------------------ submitting */

/**
 * fastio_queue_for - the queue of a connection
 *
 * The same descriptor always gives the same queue: fd modulo the number of workers, or in hybrid
 * mode a fixed pattern in which the program's own queue comes as often as self_weight says.
 */
static inline struct fastio_queue *fastio_queue_for(const struct fastio *fio, int fd)
{
	return &fio->queues[fio->map[(unsigned int)fd % fio->map_len]];
}

/** fastio_sq_space - how many SQEs fastio_get_sqe() can hand out now */
static inline unsigned int fastio_sq_space(struct fastio_queue *queue)
{
	queue->sq_head = __atomic_load_n(&queue->ring->sq_head, __ATOMIC_ACQUIRE);
	return queue->sq_entries - (queue->sq_claimed - queue->sq_head);
}

/**
 * fastio_get_sqe - the next free SQE of a queue
 *
 * Returns NULL when the SQ is full. Then submit, and reap: a worker takes no SQE for whose
 * completion there is no room. The entry holds old bytes until a fastio_prep_*() function has
 * filled it.
 */
static inline struct fastio_sqe *fastio_get_sqe(struct fastio_queue *queue)
{
	if (__builtin_expect(queue->sq_claimed - queue->sq_head >= queue->sq_entries, 0) &&
	    !fastio_sq_space(queue))
		return NULL;
	return &queue->sqes[queue->sq_claimed++ & (queue->sq_entries - 1)];
}

/**
 * fastio_submit - makes the SQEs got so far visible to the worker
 *
 * Returns 0, or -errno if the worker had to be woken and could not be.
 */
static inline int fastio_submit(struct fastio_queue *queue)
{
	uint32_t flags;

	if (queue->sq_submitted == queue->sq_claimed)
		return 0;
	queue->sq_submitted = queue->sq_claimed;
	/*
	 * The entries before the tail that covers them, and the tail before the flag is read: a
	 * worker sets the flag and only then looks at the tail for the last time. Pairs with the
	 * same two steps where workers go to sleep.
	 */
	__atomic_store_n(&queue->ring->sq_tail, queue->sq_submitted, __ATOMIC_SEQ_CST);
	if (queue->self)
		return 0;
	flags = __atomic_load_n(&queue->ring->flags, __ATOMIC_SEQ_CST);
	return __builtin_expect(flags & FASTIO_RING_NEED_WAKE, 0) ? fastio_wake_worker(queue) : 0;
}

/**
 * fastio_submit_all - fastio_submit() on every queue. Returns 0 or the first error; the others are
 * submitted anyway.
 */
static inline int fastio_submit_all(struct fastio *fio)
{
	int ret = 0;

	for (unsigned int i = 0; i < fio->nr_queues; i++) {
		int one = fastio_submit(&fio->queues[i]);

		if (__builtin_expect(one && !ret, 0))
			ret = one;
	}
	return ret;
}

/* ------------------------------------------------------------------ reaping */

/**
 * fastio_peek - the oldest CQE of a queue that was not seen yet, or NULL. It stays valid until
 * fastio_seen().
 */
static inline struct fastio_cqe *fastio_peek(struct fastio_queue *queue)
{
	if (queue->cq_head == queue->cq_tail) {
		queue->cq_tail = __atomic_load_n(&queue->ring->cq_tail, __ATOMIC_ACQUIRE);
		if (queue->cq_head == queue->cq_tail)
			return NULL;
	}
	return &queue->cqes[queue->cq_head & (queue->cq_entries - 1)];
}

/**
 * fastio_seen_many - gives the @count oldest CQEs of a queue back at once
 *
 * For programs that read a batch from queue->cqes themselves, up to queue->cq_tail as fastio_peek()
 * left it.
 */
static inline void fastio_seen_many(struct fastio_queue *queue, uint32_t count)
{
	uint32_t flags;

	/*
	 * The head before the flag is read, as in fastio_submit(): else a worker that just found no
	 * room would sleep.
	 */
	queue->cq_head += count;
	__atomic_store_n(&queue->ring->cq_head, queue->cq_head, __ATOMIC_SEQ_CST);
	/* fastio_serve() looks at the flag itself. */
	if (queue->self)
		return;
	flags = __atomic_load_n(&queue->ring->flags, __ATOMIC_SEQ_CST);
	if (__builtin_expect(flags & FASTIO_RING_CQ_WAIT, 0))
		fastio_wake_worker(queue);
}

/**
 * fastio_seen - gives the oldest CQE of a queue back
 *
 * Call it once for each CQE that fastio_peek() or fastio_next() returned. Wakes a worker that waits
 * for room.
 */
static inline void fastio_seen(struct fastio_queue *queue)
{
	fastio_seen_many(queue, 1);
}

/* After this many CQEs in a row another queue is looked at first. */
#define FASTIO_STREAK_MAX 64

/**
 * fastio_next - the next CQE of any queue
 * @fio: all queues are looked at, in turn, so that none starves
 * @queue: set to the queue of the CQE, for fastio_seen()
 *
 * Returns NULL when all CQs are empty. Makes no system call with the kernel back end.
 */
static inline struct fastio_cqe *fastio_next(struct fastio *fio, struct fastio_queue **queue)
{
	do {
		for (unsigned int tried = 0; tried <= fio->nr_queues; tried++) {
			struct fastio_queue *candidate = &fio->queues[fio->turn];
			struct fastio_cqe *cqe = fastio_peek(candidate);

			if (cqe && fio->streak < FASTIO_STREAK_MAX) {
				fio->streak++;
				*queue = candidate;
				return cqe;
			}
			fio->streak = 0;
			if (++fio->turn == fio->nr_queues)
				fio->turn = 0;
		}
	} while (__builtin_expect(fio->clear_when_empty, 0) && fastio_emptied(fio));
	return NULL;
}

/**
 * fastio_wait - sleeps until a CQ holds a completion
 * @fio: what to wait for. If it has a queue of its own (inline, hybrid), the calling thread serves
 *	that meanwhile.
 * @timeout_us: microseconds, 0 only tests, FASTIO_FOREVER has no limit
 *
 * Submits nothing: call fastio_submit_all() before. Polls for wait_spin_us before it sleeps.
 *
 * Returns 0 when there is something to reap; -ETIME; -EINTR a signal was handled; -ESHUTDOWN the
 * workers are gone; -EINVAL a time-out below -1.
 */
int fastio_wait(struct fastio *fio, int64_t timeout_us);

/** fastio_submit_and_wait - fastio_submit_all(), then fastio_wait() */
static inline int fastio_submit_and_wait(struct fastio *fio, int64_t timeout_us)
{
	int ret = fastio_submit_all(fio);

	return ret ? ret : fastio_wait(fio, timeout_us);
}

/* ------------------------------------------------------------------ serving a queue oneself */

/**
 * fastio_enter - the calling thread is the worker of a queue for a while (FASTIO_IOC_ENTER)
 * @queue: one that no worker serves
 * @flags: 0 makes one pass and never sleeps; FASTIO_ENTER_WAIT serves until this CQ holds a
 *	completion, FASTIO_ENTER_WAIT_ANY until any does; with a wait, FASTIO_ENTER_SPIN polls for
 *	idle_us before it sleeps
 * @batch: most operations to execute in a pass, 0 to 255, 0 is no bound
 * @timeout_us: longest sleep of a wait, 1 to 2^32 - 1 microseconds; 0 is no limit
 *
 * Returns the number of completions in the CQ, which may be 0; -ETIME; -EINTR; -EBUSY the queue has
 * a worker; -EINVAL.
 */
int fastio_enter(struct fastio_queue *queue, unsigned int flags, unsigned int batch,
		 uint32_t timeout_us);

/**
 * fastio_self_is_due - whether the program's own queue has something to execute. No system call.
 */
static inline bool fastio_self_is_due(const struct fastio *fio)
{
	const struct fastio_queue *self = fio->self;

	return self &&
	       (self->sq_submitted != __atomic_load_n(&self->ring->sq_head, __ATOMIC_RELAXED) ||
		__atomic_load_n(&self->ring->enter, __ATOMIC_RELAXED) ||
		__atomic_load_n(&self->ring->flags, __ATOMIC_RELAXED) & FASTIO_RING_CQ_WAIT);
}

/**
 * fastio_serve - executes what is due on the program's own queue, at most self_batch operations
 *
 * For hybrid programs: call it between reaping the workers' queues. Returns at once when nothing is
 * due or there is no such queue. Returns the number of completions in that queue, or -errno as
 * fastio_enter().
 */
static inline int fastio_serve(struct fastio *fio)
{
	return fastio_self_is_due(fio) ? fastio_serve_now(fio) : 0;
}

/* ------------------------------------------------------------------ event loops of others */

/**
 * fastio_poll_fd - a descriptor for epoll, libuv or an event loop: readable when fastio_next()
 * would return something or fastio_serve() has something to do
 *
 * Level-triggered. Call fastio_before_poll() before sleeping on it. Do not read, write or close it.
 */
int fastio_poll_fd(const struct fastio *fio);

/**
 * fastio_before_poll - to be called before sleeping on fastio_poll_fd()
 *
 * Submits everything, serves the program's own queue, and looks a last time. Returns 1 if there is
 * something to reap, so do not sleep; 0; or -errno as fastio_submit() and fastio_enter().
 */
int fastio_before_poll(struct fastio *fio);

/* ------------------------------------------------------------------ registering */

/**
 * fastio_register_buffers - pins memory for FASTIO_SQE_FIXED_BUF
 * @fio: one set of buffers at a time
 * @iovecs: buffer i of an SQE is iovecs[i]
 * @nr: 1 to 1024
 *
 * Returns 0; -EBUSY there are some; -EINVAL; -EFAULT not mapped or not writable; -ENOMEM, also over
 * RLIMIT_MEMLOCK.
 */
int fastio_register_buffers(struct fastio *fio, const struct iovec *iovecs, unsigned int nr);

/**
 * fastio_unregister_buffers - operations in progress keep the memory. Returns 0, or -ENXIO if there
 * are none.
 */
int fastio_unregister_buffers(struct fastio *fio);

/**
 * struct fastio_bufs - buffers provided to one queue, for FASTIO_SQE_BUF_SELECT
 * @ring: shared memory
 * @entries: a power of two
 * @tail: buffers added so far
 * @group: for SQEs
 * @queue: whose operations may take them
 * @bytes: length of the mapping
 */
struct fastio_bufs {
	struct fastio_buf_ring *ring;
	uint32_t entries;
	uint32_t tail;
	uint16_t group;
	struct fastio_queue *queue;
	size_t bytes;
};

/**
 * fastio_bufs_setup - makes a group of provided buffers, empty at first
 * @bufs: set on success
 * @queue: whose operations may take them; others get -EXDEV
 * @group: 0 to 63, not in use in any queue
 * @entries: most buffers that are the workers' at a time, a power of two up to 32768
 *
 * Returns 0; -EEXIST the group is taken; -EINVAL; -ENOMEM.
 */
int fastio_bufs_setup(struct fastio_bufs *bufs, struct fastio_queue *queue, unsigned int group,
		      unsigned int entries);

/**
 * fastio_bufs_free - takes the group away; fastio_exit() does so for those that are left
 *
 * Receives that use it end with -ENOENT when data comes. Returns 0 or -errno.
 */
int fastio_bufs_free(struct fastio_bufs *bufs);

/**
 * fastio_bufs_add - puts a buffer behind the others; fastio_bufs_publish() hands it over
 * @bufs: at most "entries" buffers may be the workers' at a time: never add one that is still
 *	theirs
 * @addr: memory that stays untouched until a CQE returns @bid
 * @len: bytes, not 0
 * @bid: any number, returned by fastio_cqe_bid()
 */
static inline void fastio_bufs_add(struct fastio_bufs *bufs, void *addr, unsigned int len,
				   uint16_t bid)
{
	struct fastio_buf *buf = &bufs->ring->bufs[bufs->tail++ & (bufs->entries - 1)];

	buf->addr = (uint64_t)(uintptr_t)addr;
	buf->len = len;
	buf->bid = bid;
	buf->resv = 0;
}

/** fastio_bufs_publish - makes the buffers added so far visible */
static inline void fastio_bufs_publish(struct fastio_bufs *bufs)
{
	__atomic_store_n(&bufs->ring->tail, bufs->tail, __ATOMIC_RELEASE);
}

/** fastio_get_stats - counters of a queue since set-up. Returns 0 or -errno. */
int fastio_get_stats(const struct fastio_queue *queue, struct fastio_stats *stats);

#include "fastio_prep.h"

#ifdef __cplusplus
}
#endif
#endif
