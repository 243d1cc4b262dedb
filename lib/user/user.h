/* SPDX-License-Identifier: MIT */
/*
 * The user-space back end: what /dev/fastio does, done by threads that make the system calls. It
 * reads and writes the same rings by the same rules, so that programs cannot tell the difference
 * but by the clock.
 *
 * One thread at a time serves a ring: its worker, or the program's thread inside enter. Everything
 * in struct user_ring belongs to that thread, but for what its comment names. A request waits in
 * the queue of its file until epoll says that the file is ready; what would block for other reasons
 * goes to the wq threads and comes back on a list.
 */
#ifndef FASTIO_USER_H
#define FASTIO_USER_H

#include "internal.h"

/* What is waited for on a file. Send and receive sides do not hold each other up. */
enum user_side {
	USER_RECEIVE,
	USER_SEND,
	USER_POLL,
	USER_SIDES
};

enum user_state {
	USER_FREE, /* not in flight */
	USER_RUNNING, /* being executed by the server of the ring */
	USER_WAITING, /* in a queue of its file */
	USER_TIMED, /* in the heap of time-outs */
	USER_PUNTED, /* with the wq threads, until the server of the ring has it back */
};

/* What became of an attempt to execute a request. */
enum user_outcome {
	USER_DONE, /* req->res and req->cqe_flags are set */
	USER_BLOCKED, /* try again when the file is ready */
	USER_LATER, /* had its share, or lacks room for completions: try again in the next pass */
	USER_PUNT, /* would block where epoll cannot help: for the wq threads */
	USER_TO_RECEIVE, /* a fused send is through: now the receive */
};

/**
 * struct user_req - an operation in flight
 * @sqe: private copy; the entry in the ring may be reused at once
 * @state: where it is
 * @side: USER_WAITING: which queue of the file
 * @res: result
 * @cqe_flags: flags of its completion
 * @done: bytes moved so far by an operation that goes on until all are
 * @sent: the send of a fused operation is through
 * @wq_begun: a wq thread executes it, or has; under user_context.wq_lock
 * @io_fd: with the wq threads: what to make the system call with
 * @heap_at: USER_TIMED: place in the heap
 * @deadline_ns: USER_TIMED: CLOCK_MONOTONIC
 * @ring: whose
 * @next: in the free list, the queue of a file, or a list of the wq threads
 * @older: in flight, submitted before
 * @newer: in flight, submitted after
 */
struct user_req {
	struct fastio_sqe sqe;
	enum user_state state;
	enum user_side side;
	int res;
	uint32_t cqe_flags;
	uint32_t done;
	bool sent;
	bool wq_begun;
	int io_fd;
	uint32_t heap_at;
	uint64_t deadline_ns;
	struct user_ring *ring;
	struct user_req *next;
	struct user_req *older, *newer;
};

struct user_list {
	struct user_req *first, *last;
};

/**
 * struct user_file - what a ring knows about a descriptor
 * @waiting: requests by side, oldest first
 * @slot_fd: one more than the duplicate that pins the file of a slot, or 0
 * @armed: events that epoll will report once, or 0
 * @known: epoll has an entry for it, as far as we know
 * @listed: in user_ring.ready
 * @next_ready: in that list
 */
struct user_file {
	struct user_list waiting[USER_SIDES];
	int slot_fd;
	uint32_t armed;
	bool known;
	bool listed;
	struct user_file *next_ready;
};

/**
 * struct user_ring - one ring and whoever serves it
 * @context: whose
 * @index: number of the ring
 * @head: shared memory
 * @sqes: shared memory
 * @cqes: shared memory
 * @sq_entries: a power of two
 * @cq_entries: a power of two
 * @served: a thread serves it; atomic
 * @broken: -errno once files can no longer be waited for, because somebody closed @epoll_fd
 * @sq_head: SQEs taken
 * @cq_tail: CQEs posted
 * @cq_published: CQEs visible
 * @in_flight: requests not free
 * @waiting: requests in queues of files
 * @reqs: as many as the CQ has entries
 * @free_req: those not in use
 * @oldest: in flight
 * @newest: in flight
 * @files: by descriptor; memory appears when touched
 * @nr_files: entries of @files
 * @ready: files with something to do that no event will tell
 * @ready_last: end of that list
 * @timers: heap by deadline
 * @nr_timers: entries of @timers
 * @epoll_fd: all files with waiting requests, and @event_fd
 * @event_fd: wakes the server; written by anybody
 * @timer_fd: the program's own queue only: makes @epoll_fd readable when a time-out is due and
 *	nobody serves; else -1
 * @wq_done: requests back from the wq threads; under user_context.wq_lock
 * @wq_any_done: @wq_done is not empty; atomic
 * @wq_out: requests with the wq threads
 * @stats: counters, written by the server, read by anybody; atomic
 */
struct user_ring {
	struct user_context *context;
	uint32_t index;
	struct fastio_ring *head;
	struct fastio_sqe *sqes;
	struct fastio_cqe *cqes;
	uint32_t sq_entries, cq_entries;
	int served;
	int broken;
	uint32_t sq_head;
	uint32_t cq_tail, cq_published;
	uint32_t in_flight;
	uint32_t waiting;
	struct user_req *reqs;
	struct user_req *free_req;
	struct user_req *oldest, *newest;
	struct user_file *files;
	uint32_t nr_files;
	struct user_file *ready, *ready_last;
	struct user_req **timers;
	uint32_t nr_timers;
	int epoll_fd;
	int event_fd;
	int timer_fd;
	struct user_list wq_done;
	int wq_any_done;
	uint32_t wq_out;
	struct fastio_stats stats;
};

/**
 * struct user_group - a group of provided buffers
 * @lock: held while a buffer is taken and filled, so that the ring of buffers does not go away
 *	meanwhile
 * @ring: shared memory, NULL when there is no such group
 * @owner: index of the ring that may use it
 * @entries: a power of two
 * @head: buffers taken
 */
struct user_group {
	pthread_mutex_t lock;
	struct fastio_buf_ring *ring;
	uint32_t owner;
	uint32_t entries;
	uint32_t head;
};

/**
 * struct user_context - all of the back end
 * @priv: the library's part
 * @rings: one for each queue
 * @nr_rings: how many
 * @memory: what is shared with the program
 * @memory_bytes: its length
 * @slot_owner: by descriptor: one more than the ring that has its slot, or 0; atomic
 * @max_slots: entries of @slot_owner
 * @done_fd: readable when a CQ may hold something
 * @done_told: @done_fd was written and not read since; atomic
 * @poll_fd: @done_fd, or an epoll of that and of the program's own ring
 * @stop_fd: readable when all is to end; wq threads wait for it beside what they wait for
 * @wq_lock: the wq lists of all rings; a leaf
 * @wq_more: something was put on @wq_list
 * @wq_list: for the wq threads, oldest first; under @wq_lock
 * @wq_buffer: one for each wq thread, USER_COPY_BYTES each
 * @buffers_lock: @buffers, @nr_buffers; a leaf
 * @buffers: registered buffers
 * @nr_buffers: how many
 * @groups: provided buffers
 */
struct user_context {
	struct fastio_private *priv;
	struct user_ring *rings;
	uint32_t nr_rings;
	void *memory;
	size_t memory_bytes;
	uint8_t *slot_owner;
	uint32_t max_slots;
	int done_fd;
	int done_told;
	int poll_fd;
	int stop_fd;
	pthread_mutex_t wq_lock;
	pthread_cond_t wq_more;
	struct user_list wq_list;
	char *wq_buffer;
	pthread_mutex_t buffers_lock;
	struct iovec buffers[FASTIO_MAX_BUFFERS];
	uint32_t nr_buffers;
	struct user_group groups[FASTIO_MAX_BUF_GROUPS];
};

#define USER_COPY_BYTES 65536

/* ring.c: taking SQEs and posting CQEs */
struct user_req *fio_take(struct user_ring *ring);
void fio_complete(struct user_req *req, int res, uint32_t cqe_flags);
void fio_post_more(struct user_req *req, int res, uint32_t cqe_flags);
bool fio_has_room(const struct user_ring *ring);
bool fio_sq_waits(const struct user_ring *ring);
bool fio_sq_has_work(const struct user_ring *ring);
void fio_publish(struct user_ring *ring);

/* op.c: executing */
int fio_check(const struct fastio_sqe *sqe);
void fio_issue(struct user_req *req);
enum user_outcome fio_attempt(struct user_req *req);

/* sock.c */
enum user_outcome fio_accept(struct user_req *req, int fd);
enum user_outcome fio_recv(struct user_req *req, int fd);
enum user_outcome fio_send(struct user_req *req, int fd);
enum user_outcome fio_recvmsg(struct user_req *req, int fd);
enum user_outcome fio_sendmsg(struct user_req *req, int fd);

/* rw.c */
enum user_outcome fio_read_write(struct user_req *req, int fd);
int fio_blocking(struct user_req *req, char *copy_buffer);

/* file.c: waiting for files */
struct user_file *fio_file_of(struct user_ring *ring, int fd);
int fio_fd_of(const struct user_ring *ring, const struct user_file *file);
int fio_io_fd(const struct user_ring *ring, int fd);
int fio_slot_get(struct user_ring *ring, int fd);
int fio_slot_make(struct user_ring *ring, int fd);
int fio_slot_drop(struct user_ring *ring, int fd);
int fio_close(struct user_ring *ring, int fd);
void fio_run_or_wait(struct user_req *req, enum user_side side);
void fio_run_file(struct user_ring *ring, struct user_file *file);
void fio_run_ready(struct user_ring *ring, unsigned int most);
void fio_unwait(struct user_req *req);

/* timer.c */
void fio_timer_add(struct user_req *req);
void fio_timer_remove(struct user_req *req);
unsigned int fio_timer_run(struct user_ring *ring);
int fio_timer_left_ms(const struct user_ring *ring);

/* cancel.c */
void fio_cancel(struct user_req *req);

/* wq.c */
void fio_punt(struct user_req *req);
bool fio_unpunt(struct user_req *req);
unsigned int fio_wq_reap(struct user_ring *ring);
int fio_wq_worker(struct user_context *context, unsigned int index);

/* buf.c */
bool fio_fixed_buf_fits(struct user_context *context, const struct fastio_sqe *sqe);
int fio_register_buffers(struct fastio_private *priv, const struct iovec *iovecs, unsigned int nr);
int fio_unregister_buffers(struct fastio_private *priv);
int fio_bufs_setup(struct fastio_bufs *bufs);
int fio_bufs_free(struct fastio_bufs *bufs);
struct user_group *fio_group_lock(struct user_ring *ring, unsigned int group, int *err);
struct fastio_buf *fio_group_peek(struct user_group *group);

/* serve.c */
int fio_worker(struct fastio_private *priv, unsigned int index);
int fio_enter(struct fastio_queue *queue, unsigned int flags, unsigned int batch,
	      uint32_t timeout_us);
void fio_kick(struct user_ring *ring);

/* notify.c */
int fio_wait(struct fastio_private *priv, uint32_t timeout_us);
bool fio_emptied(struct fastio_private *priv);
bool fio_forget_told(struct user_context *context);
void fio_tell(struct user_context *context);

/* What epoll reports beside files, whose data is their number. */
#define USER_EVENT_KICK UINT64_MAX
#define USER_EVENT_TIMER (UINT64_MAX - 1)

static inline void fio_count(__u64 *counter, __u64 more)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + more,
			 __ATOMIC_RELAXED);
}

static inline void user_list_add(struct user_list *list, struct user_req *req)
{
	req->next = NULL;
	if (list->last)
		list->last->next = req;
	else
		list->first = req;
	list->last = req;
}

static inline struct user_req *user_list_take(struct user_list *list)
{
	struct user_req *req = list->first;

	if (!req)
		return NULL;
	list->first = req->next;
	if (!list->first)
		list->last = NULL;
	return req;
}

/* Returns false if @req is not in the list. */
static inline bool user_list_remove(struct user_list *list, struct user_req *req)
{
	struct user_req *before = NULL;

	for (struct user_req *at = list->first; at; before = at, at = at->next) {
		if (at != req)
			continue;
		if (before)
			before->next = req->next;
		else
			list->first = req->next;
		if (list->last == req)
			list->last = before;
		return true;
	}
	return false;
}

#endif
