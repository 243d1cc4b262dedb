/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Structures and functions shared by the files of the module.
 *
 * Who may touch what: a ring (struct fastio_rq) is served by one thread at a time, the one that
 * holds its claim. That thread alone reads and writes everything of the ring, its requests and its
 * slots, without locks. Only wake-ups come from elsewhere: they touch the atomic state word of a
 * node and the ready list.
 */
#ifndef FASTIO_INTERNAL_H
#define FASTIO_INTERNAL_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/rcuwait.h>
#include <linux/refcount.h>
#include <linux/sched/signal.h>
#include <linux/seccomp.h>
#include <linux/spinlock.h>
#include <linux/task_work.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include "ring_index.h"
#include "trace.h"

#define FASTIO_SLOTS_PER_CHUNK	512
#define FASTIO_OWNER	63UL	/* bits of a slot table entry that hold the index of the ring */
#define FASTIO_BREATHE		16	/* operations between two looks at the scheduler */
#define FASTIO_FAIR 16 /* completions per slot and pass before others have their turn */
#define FASTIO_PUNT (-EIOCBQUEUED) /* an attempt's result: only a wq worker can do it */

struct fastio_ctx;
struct fastio_rq;
struct fastio_slot;

/* ------------------------------------------------------------------ waiting */

/*
 * Bits of fastio_node.state. RD and WR: "an attempt may succeed"; WANT_*: "somebody waits for it",
 * FASTIO_WANT to the left of the bit wanted; QUEUED: the node is on the ready list or the backlog
 * of its ring, or about to be. Who sets QUEUED puts it there; the server clears it when it takes
 * the node off. The node of a request that is free is never QUEUED.
 */
#define FASTIO_RD		BIT(0)
#define FASTIO_WR		BIT(1)
#define FASTIO_WANT		2
#define FASTIO_WANT_RD		(FASTIO_RD << FASTIO_WANT)
#define FASTIO_WANT_WR		(FASTIO_WR << FASTIO_WANT)
#define FASTIO_QUEUED		BIT(4)

/**
 * struct fastio_hook - our entry in somebody's wait queue
 * @wait: the entry
 * @head: the queue it is in, NULL when in none. Written by the server, and once by a wake-up with
 *	POLLFREE, as its last access
 * @node: whom to wake
 *
 * Part of a node. The file reference of the node keeps the queue alive, except for POLLFREE.
 */
struct fastio_hook {
	wait_queue_entry_t	wait;
	wait_queue_head_t	*head;
	struct fastio_node	*node;
};

/**
 * enum fastio_kind - what a node is part of
 * @FASTIO_NODE_SLOT: a slot, whose hooks stay until it is dropped
 * @FASTIO_NODE_REQ: a request without a slot, whose hooks stay until it completes
 * @FASTIO_NODE_TIMER: a TIMEOUT request
 * @FASTIO_NODE_WQ: a request that a wq worker has executed
 */
enum fastio_kind {
	FASTIO_NODE_SLOT,
	FASTIO_NODE_REQ,
	FASTIO_NODE_TIMER,
	FASTIO_NODE_WQ,
};

/**
 * struct fastio_node - something that can become ready
 * @ll: link in fastio_rq.ready, while being handed over, and .taken
 * @list: link in fastio_rq.backlog or .stalled, once the server has it
 * @rq: the ring whose server runs it
 * @state: FASTIO_RD ... FASTIO_QUEUED; with @hook the only field that wake-ups write
 * @kind: what it is part of
 * @hooked: hooks have been installed
 * @events: poll events to wait for; 0: those of reading and writing
 * @hook: our entries in the wait queues of a file; it may have two (reading and writing)
 * @timer: FASTIO_NODE_TIMER
 *
 * Part of a slot or a request, which outlives every hook and timer of it.
 */
struct fastio_node {
	union {
		struct llist_node	ll;
		struct list_head	list;
	};
	struct fastio_rq	*rq;
	atomic_t		state;
	u8			kind;
	bool			hooked;
	__poll_t		events;
	union {
		struct fastio_hook	hook[2];
		struct hrtimer		timer;
	};
};

/**
 * enum fastio_where - where a request is
 * @FASTIO_FREE: on the free list, or being attempted for the first time
 * @FASTIO_PARKED: waits in a queue of its slot, or for hooks of its own
 * @FASTIO_TIMED: waits for its timer
 * @FASTIO_WQ_QUEUED: on the queue of a wq worker
 * @FASTIO_WQ_RUNNING: being executed by a wq worker, which owns everything in it
 * @FASTIO_WQ_DONE: executed, on its way back to the ring
 */
enum fastio_where {
	FASTIO_FREE,
	FASTIO_PARKED,
	FASTIO_TIMED,
	FASTIO_WQ_QUEUED,
	FASTIO_WQ_RUNNING,
	FASTIO_WQ_DONE,
};

/**
 * struct fastio_req - an operation taken from the SQ
 * @sqe: our copy of the entry, checked
 * @next: next on the free list, or in a queue of @slot
 * @flight: link in fastio_rq.flight while not free
 * @wq_link: link in fastio_wq.queue
 * @slot: slot of the operation, or NULL
 * @file: reference held, when the operation has a file and no slot, or is at a wq worker
 * @bufs: reference held by an operation with a fixed buffer while it waits
 * @where: what it waits for; the FASTIO_WQ_* values change under fastio_wq.lock
 * @receiving: waits to receive, or has nothing (more) to send
 * @queued: is in a queue of @slot
 * @done: bytes sent or received so far (MSG_WAITALL, SEND_RECV)
 * @res: result from the wq worker
 * @node: wakes the ring for an operation without a slot, a timer, or the result of a wq worker
 *
 * Lives in fastio_rq.reqs from SETUP to release.
 */
struct fastio_req {
	struct fastio_sqe	sqe;
	struct fastio_req	*next;
	struct hlist_node	flight;
	struct list_head	wq_link;
	struct fastio_slot	*slot;
	struct file		*file;
	struct fastio_bufs	*bufs;
	u8			where;
	bool			receiving;
	bool			queued;
	u32			done;
	int			res;
	struct fastio_node	node;
};

/**
 * struct fastio_queue - requests that wait, oldest first
 * @first: the oldest, linked by fastio_req.next
 * @tail: where to link the next one
 *
 * Mostly it holds one request, so taking one out of the middle may be slow.
 */
struct fastio_queue {
	struct fastio_req	*first;
	struct fastio_req	**tail;
};

/**
 * struct fastio_slot - a registered file
 * @node: wakes the ring; its hooks live as long as the slot
 * @file: reference held until the slot is dropped
 * @sock: the socket of @file, or NULL
 * @fd: its place in the table
 * @pollable: hooks are installed: the file tells when it is ready
 * @rd: requests waiting to receive, oldest first
 * @wr: requests waiting to send, oldest first
 * @link: in fastio_rq.slots
 *
 * Made, used and freed by the server of its ring alone. Aligned to 64 bytes: the table keeps the
 * index of the ring in the low bits of the pointer, so that other rings need not look inside.
 */
struct fastio_slot {
	struct fastio_node	node;
	struct file		*file;
	struct socket		*sock;
	u32			fd;
	bool			pollable;
	struct fastio_queue	rd;
	struct fastio_queue	wr;
	struct list_head	link;
};

/* ------------------------------------------------------------------ resources */

/**
 * struct fastio_fixed - one registered buffer
 * @addr: user address it was registered with
 * @len: bytes
 * @nr: number of pages
 * @bvec: its pages, pinned; all but the first begin at offset 0
 */
struct fastio_fixed {
	u64		addr;
	u32		len;
	u32		nr;
	struct bio_vec	*bvec;
};

/**
 * struct fastio_bufs - the registered buffers of a context; immutable once published
 * @refs: the context, every ring that has seen it, every operation at a wq worker that uses it
 * @mm: whose RLIMIT_MEMLOCK was charged; holds a reference to the structure, not to the memory
 * @pages: number of pages charged
 * @nr: number of buffers
 * @buf: the buffers
 */
struct fastio_bufs {
	refcount_t		refs;
	struct mm_struct	*mm;
	unsigned long		pages;
	u32			nr;
	struct fastio_fixed	buf[];
};

/**
 * struct fastio_group - a ring of provided buffers
 * @refs: the context and the ring that may use it
 * @mm: whose RLIMIT_MEMLOCK was charged; holds a reference to the structure, not to the memory
 * @shm: the shared pages, written by user space
 * @bytes: length of @shm
 * @entries: a power of two
 * @ring: index of the ring that may use it
 * @head: next buffer to hand out; touched by the server of that ring alone
 */
struct fastio_group {
	refcount_t		refs;
	struct mm_struct	*mm;
	struct fastio_buf_ring	*shm;
	unsigned long		bytes;
	u32			entries;
	u32			ring;
	u32			head;
};

/* ------------------------------------------------------------------ rings and contexts */

/* Values of fastio_rq.claim. */
#define FASTIO_UNCLAIMED	0	/* nobody serves the ring */
#define FASTIO_CLAIMED		1	/* somebody does */
#define FASTIO_RETIRED		2	/* for ever: everything of the ring has been dropped */
#define FASTIO_BORROWED 4 /* nobody does, but its resources are being exchanged under res_lock */

/**
 * struct fastio_rq - the kernel's side of one ring
 * @ix: private indices
 * @shm: shared head, never trusted
 * @sq: shared SQEs, read once each
 * @cq: shared CQEs, only written
 * @ctx: the context it is part of
 * @free: requests not in use
 * @taken: nodes that the pass under way has taken from @ready and not yet run, oldest first; else
 *	NULL
 * @backlog: nodes taken from @ready and left for the next pass, oldest first
 * @stalled: multishot nodes that wait for room in the CQ
 * @flight: requests in use, oldest first
 * @youngest: the last of @flight, or NULL
 * @slots: slots it owns
 * @bufs: the registered buffers as last seen; holds a reference
 * @group: the buffer groups of this ring as last seen; hold references
 * @gen: fastio_ctx.gen when @bufs and @group were last looked at
 * @index: its number
 * @stalling: the SQ has been found to wait for room in the CQ
 * @last_jiffy: when the server last told RCU that it holds no reference
 * @st: counters
 * @reqs: all requests
 * @ready: nodes that became ready; anybody adds, the server takes all
 * @wait: the server while it sleeps
 * @claim: FASTIO_UNCLAIMED ... FASTIO_RETIRED
 * @self: last served by ENTER, so wake-ups must tell user space when nobody serves it
 * @polite: served by a thread that has other rings to reap, and returns when they have something
 * @enter: mirror of fastio_ring.enter that user space cannot change
 * @notify: wakes pollers and waiters on behalf of a wake-up, which may hold their locks
 *
 * Lives from SETUP to release of its context. Up to @reqs everything belongs to the holder of the
 * claim.
 */
struct fastio_rq {
	struct fastio_index	ix;
	struct fastio_ring	*shm;
	const struct fastio_sqe	*sq;
	struct fastio_cqe	*cq;
	struct fastio_ctx	*ctx;
	struct fastio_req	*free;
	struct llist_node	*taken;
	struct list_head	backlog;
	struct list_head	stalled;
	struct hlist_head	flight;
	struct hlist_node	*youngest;
	struct list_head	slots;
	struct fastio_bufs	*bufs;
	struct fastio_group	*group[FASTIO_MAX_BUF_GROUPS];
	u32			gen;
	u32			index;
	bool			stalling;
	unsigned long		last_jiffy;
	struct fastio_stats	st;
	struct fastio_req	*reqs;

	struct llist_head	ready ____cacheline_aligned_in_smp;
	struct rcuwait		wait;
	atomic_t		claim;
	bool			self;
	bool			polite;
	bool			enter;
	struct irq_work		notify;
};

/**
 * struct fastio_wq - what one wq worker has to do
 * @lock: protects @queue, @task and the FASTIO_WQ_* values of fastio_req.where; a leaf lock
 * @queue: requests, oldest first
 * @wait: the worker while it sleeps for want of work
 * @task: the worker while it is inside; changes under @lock
 *
 * Part of the context.
 */
struct fastio_wq {
	spinlock_t		lock;		/* queue, task, where requests are */
	struct list_head	queue;
	struct rcuwait		wait;
	struct task_struct	*task;
};

/**
 * struct fastio_ctx - one open of the device
 * @lock: serialises SETUP and flush; never held across user access
 * @res_lock: protects @bufs, @group and @gen; a leaf lock
 * @mm: the owner's address space, for identity and accounting; holds a reference to the structure
 * @owner: the owner's table of files, for identity only
 * @setting_up: a SETUP is under way
 * @ready: SETUP is done; everything below up to @wq is constant from then on
 * @dead: the owner closed the device; nothing is executed any more
 * @nr_rings: number of rings
 * @nr_wq: number of wq workers
 * @idle_ns: polling time of workers before sleep
 * @wq_idle_ns: polling time of wq workers before sleep
 * @max_slots: size of the slot table
 * @ring_bytes: distance of rings in @mem
 * @mem_bytes: length of @mem
 * @mem: the rings' shared memory
 * @ops: bit n: opcode n is allowed
 * @accept_secid: the security label under which ACCEPT is allowed
 * @rq: the rings
 * @wq: the wq workers' queues
 * @slots: slot table in two levels; an entry is a pointer to a slot with the index of its ring in
 *	the low six bits. Entries of a ring are written by its server alone, chunks appear by
 *	cmpxchg()
 * @bufs: registered buffers
 * @group: buffer groups
 * @gen: changes when @bufs or @group do
 * @user: whose number of contexts we count in
 * @id: number for debugfs
 * @pid: process that did the SETUP
 * @debug: debugfs file
 * @cq_wait: threads in WAIT, and pollers
 *
 * Made by open(). flush() by the owner marks it dead and drops all references to files, release()
 * frees it. Every ioctl, mapping and poller holds a reference to the file, so none is left at
 * release().
 */
struct fastio_ctx {
	struct mutex		lock;		/* setting_up, ready, dead */
	spinlock_t		res_lock;	/* bufs, group, gen */
	struct mm_struct	*mm;
	fl_owner_t		owner;
	bool			setting_up;
	bool			ready;
	bool			dead;
	u32			nr_rings;
	u32			nr_wq;
	u64			idle_ns;
	u64			wq_idle_ns;
	u32			max_slots;
	u32			ring_bytes;
	unsigned long		mem_bytes;
	void			*mem;
	u64			ops;
	u32			accept_secid;
	struct fastio_rq	*rq;
	struct fastio_wq	*wq;
	unsigned long		**slots;
	struct fastio_bufs	*bufs;
	struct fastio_group	*group[FASTIO_MAX_BUF_GROUPS];
	u32			gen;
	struct fastio_user	*user;
	u64			id;
	pid_t			pid;
	struct dentry		*debug;
	wait_queue_head_t	cq_wait ____cacheline_aligned_in_smp;
};

/**
 * struct fastio_result - what an attempt found besides its result
 * @flags: FASTIO_CQE_* bits to report
 * @drained: nothing was left to read: wait for a wake-up before the next attempt
 */
struct fastio_result {
	u32	flags;
	bool	drained;
};

/* ctx.c */
extern const struct file_operations fastio_fops;

/* setup.c */
long fastio_setup(struct fastio_ctx *ctx, struct fastio_setup __user *arg);
void fastio_kill(struct fastio_ctx *ctx);
void fastio_free_rings(struct fastio_ctx *ctx);
int fastio_mmap(struct file *file, struct vm_area_struct *vma);

/* ring.c */
void fastio_publish(struct fastio_rq *rq);
bool fastio_has_work(struct fastio_rq *rq);
unsigned int fastio_pass(struct fastio_rq *rq, unsigned int batch);
void fastio_pull(struct fastio_rq *rq);
void fastio_breathe(struct fastio_rq *rq);
bool fastio_wanted_elsewhere(const struct fastio_rq *rq);

/* worker.c */
long fastio_worker(struct fastio_ctx *ctx, unsigned long index);
long fastio_enter(struct fastio_ctx *ctx, unsigned long arg);
long fastio_wait(struct fastio_ctx *ctx, unsigned long timeout_us);
bool fastio_any_ready(struct fastio_ctx *ctx);
bool fastio_claim(struct fastio_rq *rq);
void fastio_unclaim(struct fastio_rq *rq);
void fastio_kick(struct fastio_node *node);
void fastio_notify(struct irq_work *work);
void fastio_quiesce(unsigned long *last_jiffy);

/* slot.c */
extern struct kmem_cache *fastio_slot_cache;
struct fastio_slot *fastio_slot_make(struct fastio_rq *rq, u32 fd);
void fastio_slot_drop(struct fastio_rq *rq, struct fastio_slot *slot);
int fastio_hook(struct fastio_node *node, struct file *file, __poll_t events);
void fastio_unhook(struct fastio_node *node);
void fastio_dequeue(struct fastio_node *node);
void fastio_requeue(struct fastio_node *node, struct list_head *list);

/* issue.c */
unsigned int fastio_run_sq(struct fastio_rq *rq, unsigned int batch);

/* op.c */
bool fastio_try_rd(struct fastio_rq *rq, struct fastio_req *req, bool cleared);
bool fastio_try_wr(struct fastio_rq *rq, struct fastio_req *req);
void fastio_punt_or_complete(struct fastio_rq *rq, struct fastio_req *req);
void fastio_complete(struct fastio_rq *rq, struct fastio_req *req, int res, u32 flags);
void fastio_park(struct fastio_rq *rq, struct fastio_req *req, enum fastio_where where);
void fastio_run_node(struct fastio_rq *rq, struct fastio_node *node);

/* op_sock.c, op_msg.c, op_file.c: one attempt, never blocking; -EAGAIN: not yet */
int fastio_do_accept(struct fastio_req *req, struct file *file, struct fastio_result *result);
int fastio_do_recv(struct fastio_rq *rq, struct fastio_req *req, struct file *file,
		   struct fastio_result *result);
int fastio_do_send(struct fastio_rq *rq, struct fastio_req *req, struct file *file);
int fastio_do_recvmsg(struct fastio_req *req, struct file *file, struct fastio_result *result);
int fastio_do_sendmsg(struct fastio_req *req, struct file *file);
int fastio_do_poll(struct fastio_req *req, struct file *file);
int fastio_do_rw(const struct fastio_req *req, struct file *file);
int fastio_do_blocking(struct fastio_req *req);
int fastio_check_rw(const struct fastio_sqe *sqe, struct file *file);

/* cancel.c: operations on other operations, and timers */
int fastio_cancel(struct fastio_rq *rq, const struct fastio_req *req);
void fastio_cancel_req(struct fastio_rq *rq, struct fastio_req *req, int res);
int fastio_close(struct fastio_rq *rq, const struct fastio_req *req);
void fastio_start_timer(struct fastio_rq *rq, struct fastio_req *req);
void fastio_retire(struct fastio_rq *rq);

/* wq.c */
int fastio_punt(struct fastio_rq *rq, struct fastio_req *req);
void fastio_wq_interrupt(struct fastio_wq *wq);
bool fastio_wq_remove(struct fastio_rq *rq, struct fastio_req *req);
long fastio_wq_worker(struct fastio_ctx *ctx, struct fastio_wq *wq);

/* buf.c */
long fastio_register_buffers(struct fastio_ctx *ctx, struct fastio_buffers __user *arg);
long fastio_unregister_buffers(struct fastio_ctx *ctx, unsigned long arg);
long fastio_register_group(struct fastio_ctx *ctx, struct fastio_buf_group __user *arg);
long fastio_unregister_group(struct fastio_ctx *ctx, struct fastio_buf_group __user *arg);
void fastio_see_resources(struct fastio_rq *rq);
void fastio_drop_resources(struct fastio_rq *rq);
void fastio_free_resources(struct fastio_ctx *ctx);
void fastio_put_bufs(struct fastio_bufs *bufs);
int fastio_import_fixed(struct fastio_bufs *bufs, u32 index, unsigned int dir, u64 addr, u32 len,
			struct iov_iter *iter);
int fastio_group_peek(struct fastio_rq *rq, u32 group, struct fastio_buf *buf);
void fastio_group_take(struct fastio_rq *rq, u32 group);
struct fastio_group *fastio_get_group(struct fastio_ctx *ctx, u64 index);
void fastio_put_group(struct fastio_group *group);
void fastio_put_group_locked(struct fastio_group *group);
void *fastio_alloc_shared(struct mm_struct *mm, unsigned long bytes);
void fastio_free_shared(struct mm_struct *mm, void *mem, unsigned long bytes);

/* policy.c */
bool fastio_seccomp_policy(void);
bool fastio_accounting(void);
u64 fastio_allowed_ops(u32 *accept_secid);
bool fastio_accept_allowed(u32 accept_secid);
u32 fastio_max_entries(void);
int fastio_user_get(struct fastio_ctx *ctx);
void fastio_user_put(struct fastio_ctx *ctx);
void fastio_audit(const struct fastio_ctx *ctx, const struct fastio_setup *setup, int res);

/* stats.c */
long fastio_stats(struct fastio_ctx *ctx, struct fastio_stats __user *arg);
void fastio_show_fdinfo(struct seq_file *m, struct file *file);
void fastio_debugfs_init(void);
void fastio_debugfs_exit(void);
void fastio_debugfs_add(struct fastio_ctx *ctx);
void fastio_debugfs_remove(struct fastio_ctx *ctx);

/* A system call filter says which system calls the thread may make; ours would go round it. */
static inline bool fastio_seccomp_refuses(void)
{
	return unlikely(seccomp_mode(&current->seccomp)) && fastio_seccomp_policy();
}

/* A slot's file is the slot's; other operations hold their own reference. */
static inline struct file *fastio_file(const struct fastio_req *req)
{
	return req->slot ? req->slot->file : req->file;
}

/* Whether an operation gave up for a signal: -EINTR, and the kernel's own ways of saying so. */
static inline bool fastio_interrupted(int res)
{
	return res == -ERESTARTSYS || res == -ERESTARTNOINTR || res == -ERESTARTNOHAND ||
	       res == -ERESTART_RESTARTBLOCK || res == -EINTR;
}

/* SQEs find no room in the CQ: counted once, until they do. */
static inline void fastio_count_stall(struct fastio_rq *rq)
{
	if (!rq->stalling)
		rq->st.cq_stalls++;
	rq->stalling = true;
}

/* A list with a tail, without the checks that a list_head costs in a distribution's kernel. */
static inline void fastio_flight_add(struct fastio_rq *rq, struct fastio_req *req)
{
	if (rq->youngest)
		hlist_add_behind(&req->flight, rq->youngest);
	else
		hlist_add_head(&req->flight, &rq->flight);
	rq->youngest = &req->flight;
}

static inline void fastio_flight_remove(struct fastio_rq *rq, struct fastio_req *req)
{
	struct hlist_node **link = req->flight.pprev;

	if (rq->youngest == &req->flight)
		rq->youngest = link == &rq->flight.first ?
			       NULL : container_of(link, struct hlist_node, next);
	hlist_del(&req->flight);
}

static inline void fastio_queue_init(struct fastio_queue *queue)
{
	queue->first = NULL;
	queue->tail = &queue->first;
}

static inline void fastio_queue_add(struct fastio_queue *queue, struct fastio_req *req)
{
	req->next = NULL;
	req->queued = true;
	*queue->tail = req;
	queue->tail = &req->next;
}

/* Which queue of its slot a request is in, or belongs in. */
static inline struct fastio_queue *fastio_queue_of(const struct fastio_req *req)
{
	return req->receiving ? &req->slot->rd : &req->slot->wr;
}

/* Does nothing if the request is in no queue. */
static inline void fastio_queue_remove(struct fastio_req *req)
{
	struct fastio_queue *queue;
	struct fastio_req **link;

	if (!req->queued)
		return;
	req->queued = false;
	queue = fastio_queue_of(req);
	for (link = &queue->first; *link != req; link = &(*link)->next)
		;
	*link = req->next;
	if (!req->next)
		queue->tail = link;
}

/* Return: the place of @fd in the slot table, or NULL when there is none (yet). */
static inline unsigned long *fastio_slot_entry(struct fastio_ctx *ctx, u32 fd)
{
	unsigned long *chunk;

	if (fd >= ctx->max_slots)
		return NULL;
	fd = array_index_nospec(fd, ctx->max_slots);
	/* Pairs with the cmpxchg in fastio_slot_make(). */
	chunk = smp_load_acquire(&ctx->slots[fd / FASTIO_SLOTS_PER_CHUNK]);
	return chunk ? &chunk[fd % FASTIO_SLOTS_PER_CHUNK] : NULL;
}

/**
 * fastio_slot_find() - look a slot up
 * @rq: ring; the caller serves it
 * @fd: number of the slot
 *
 * Return: the slot, NULL if there is none, -EXDEV if it is another ring's.
 */
static inline struct fastio_slot *fastio_slot_find(struct fastio_rq *rq, u32 fd)
{
	unsigned long *place = fastio_slot_entry(rq->ctx, fd);
	unsigned long entry = place ? READ_ONCE(*place) : 0;

	if (!entry)
		return NULL;
	/* Another ring's slot may be freed at any time: do not look inside. */
	if (unlikely((entry & FASTIO_OWNER) != rq->index))
		return ERR_PTR(-EXDEV);
	return (struct fastio_slot *)(entry & ~FASTIO_OWNER);
}

static inline struct fastio_node *fastio_node_of(struct fastio_req *req)
{
	return req->slot ? &req->slot->node : &req->node;
}

/**
 * fastio_post() - write a CQE
 * @rq: ring; the caller serves it, and has made sure of room or gives up a reservation
 * @user_data: of the SQE
 * @res: result
 * @flags: FASTIO_CQE_*
 */
static inline void fastio_post(struct fastio_rq *rq, u64 user_data, int res, u32 flags)
{
	struct fastio_cqe *cqe = &rq->cq[fastio_index_cq_next(&rq->ix)];

	cqe->user_data = user_data;
	cqe->res = res;
	cqe->flags = flags;
	trace_fastio_complete(rq->ctx->id, rq->index, user_data, res, flags);
}

/**
 * fastio_finish() - post the last CQE of a request that holds nothing and is on no list, and free
 * it
 * @rq: ring; the caller serves it
 * @req: request
 * @res: result
 * @flags: FASTIO_CQE_*
 */
static inline void fastio_finish(struct fastio_rq *rq, struct fastio_req *req, int res, u32 flags)
{
	fastio_post(rq, req->sqe.user_data, res, flags);
	rq->ix.reserved--;
	req->next = rq->free;
	rq->free = req;
}

/* A new operation uses what its ring has; one that has waited, what was registered when it came. */
static inline struct fastio_bufs *fastio_bufs_of(const struct fastio_rq *rq,
						 const struct fastio_req *req)
{
	return req->where == FASTIO_FREE ? rq->bufs : req->bufs;
}

/**
 * fastio_import() - describe the memory of an operation to an iov_iter
 * @rq: ring
 * @req: request; the caller serves @rq, or executes @req on a wq worker
 * @dir: ITER_DEST or ITER_SOURCE
 * @addr: user address
 * @len: bytes, cut to MAX_RW_COUNT
 * @iter: to be set
 *
 * Return: 0 or -EFAULT.
 */
static inline int fastio_import(const struct fastio_rq *rq, const struct fastio_req *req,
				unsigned int dir, u64 addr, u32 len, struct iov_iter *iter)
{
	len = min_t(u32, len, MAX_RW_COUNT);
	if (unlikely(req->sqe.flags & FASTIO_SQE_FIXED_BUF))
		return fastio_import_fixed(fastio_bufs_of(rq, req), req->sqe.buf, dir, addr, len,
					   iter);
	if (unlikely(!access_ok(u64_to_user_ptr(addr), len)))
		return -EFAULT;
	iov_iter_ubuf(iter, dir, u64_to_user_ptr(addr), len);
	return 0;
}

/*
 * Why a serving thread must go back to user space; fput(), signals and the freezer are handled on
 * that way.
 */
static inline bool fastio_must_leave(const struct fastio_ctx *ctx)
{
	return task_work_pending(current) || signal_pending(current) || READ_ONCE(ctx->dead);
}

#endif /* FASTIO_INTERNAL_H */
