/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface of /dev/fastio between the fastio kernel module and user space.
 *
 * One open of the device is one context. FASTIO_IOC_SETUP gives it a number of rings; each ring is
 * a submission queue (SQ) and a completion queue (CQ) in memory mapped from the device at offset 0.
 * A ring is served by exactly one thread at a time: a donated worker thread inside
 * FASTIO_IOC_WORKER, or an application thread inside FASTIO_IOC_ENTER. Whoever serves a ring
 * executes its SQEs with its own credentials, files and memory; the completion of an SQE always
 * appears in the CQ of the same ring.
 *
 * All sizes are fixed, all padding is explicit, and the layout is the same on arm64 and x86_64.
 * 32-bit tasks are not supported (-ENOTTY). Unknown flag bits and reserved fields that are not zero
 * are refused with -EINVAL, so that they can get a meaning later.
 */
#ifndef _UAPI_LINUX_FASTIO_H
#define _UAPI_LINUX_FASTIO_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Changes when a program built for an older header would no longer work. */
#define FASTIO_ABI_VERSION	1

#define FASTIO_MAX_WORKERS	64	/* rings of one context */
#define FASTIO_MAX_WQ_WORKERS	16	/* blocking helper threads of one context */
#define FASTIO_MAX_ENTRIES	32768	/* entries of an SQ, a CQ or a buffer ring */
#define FASTIO_MAX_IDLE_US	10000000	/* ten seconds of polling before sleep */
#define FASTIO_MAX_SLOTS	1048576	/* descriptors that can have a slot */
#define FASTIO_MAX_BUFFERS	1024	/* registered buffers of one context */
#define FASTIO_MAX_BUFFER_BYTES	(1U << 30)	/* length of one registered buffer */
#define FASTIO_MAX_BUF_GROUPS	64	/* buffer rings of one context */
#define FASTIO_LINE_BYTES	128	/* indices are this far apart: no false sharing */

/* ------------------------------------------------------------------ rings */

/**
 * struct fastio_ring - head of a ring; queues follow at &fastio_setup.sq_off and
 * &fastio_setup.cq_off
 * @sq_tail: user writes: number of SQEs ever submitted; store with release after the entries
 * @resv0: keeps indices on lines of their own
 * @sq_head: kernel writes: number of SQEs ever taken; load with acquire before reusing an entry
 * @resv1: keeps indices on lines of their own
 * @cq_tail: kernel writes: number of CQEs ever posted; load with acquire before reading entries
 * @resv2: keeps indices on lines of their own
 * @cq_head: user writes: number of CQEs ever reaped; store with release after reading them
 * @resv3: keeps indices on lines of their own
 * @flags: the server writes: FASTIO_RING_* bits; see each for what to do
 * @resv4: keeps indices on lines of their own
 * @enter: kernel writes: non-zero when nobody serves the ring, it was last served by
 *	FASTIO_IOC_ENTER, and I/O is ready on it: ENTER it. May be set when there is nothing to do
 *	after all
 * @resv5: keeps indices on lines of their own
 *
 * Indices run freely and wrap at 2^32; the entry of index i is i modulo the number of entries. The
 * kernel keeps private copies of its own indices and clamps the user's, so wrong values harm only
 * the completions of the process that wrote them.
 *
 * Submitting: write SQEs, store sq_tail (release), full fence, then test FASTIO_RING_NEED_WAKE.
 */
struct fastio_ring {
	__u32 sq_tail;
	__u32 resv0[31];
	__u32 sq_head;
	__u32 resv1[31];
	__u32 cq_tail;
	__u32 resv2[31];
	__u32 cq_head;
	__u32 resv3[31];
	__u32 flags;
	__u32 resv4[31];
	__u32 enter;
	__u32 resv5[31];
};

/* The server of the ring sleeps: after advancing sq_tail call FASTIO_IOC_WAKE. */
#define FASTIO_RING_NEED_WAKE	(1U << 0)
/* Work waits for room in the CQ: after advancing cq_head call FASTIO_IOC_WAKE (or ENTER). */
#define FASTIO_RING_CQ_WAIT	(1U << 1)
/*
 * The context is dead (its owner closed the device or is exiting): no more completions will come.
 */
#define FASTIO_RING_DEAD	(1U << 2)

/**
 * struct fastio_sqe - submission queue entry, one operation
 * @opcode: enum fastio_op
 * @flags: FASTIO_SQE_* bits allowed for the operation
 * @buf: FASTIO_SQE_FIXED_BUF: index of the registered buffer; FASTIO_SQE_BUF_SELECT: buffer group;
 *	else zero
 * @fd: file descriptor (NOP, TIMEOUT, CANCEL without FASTIO_CANCEL_FD: zero)
 * @addr: user address, by operation
 * @len: bytes or count, by operation; byte counts above 0x7ffff000 are cut to that
 * @op_flags: flags of the operation (MSG_*, SOCK_*, O_*, poll events, ...)
 * @user_data: returned in the CQE
 * @off: file offset, time or sockaddr length pointer, by operation
 * @addr2: second user address, by operation
 * @len2: second length, by operation
 * @fd2: second file descriptor, by operation
 * @resv: zero
 *
 * Fields that an operation does not use must be zero, else the operation fails with -EINVAL.
 * The memory @addr and @addr2 point to belongs to the operation until its last completion.
 */
struct fastio_sqe {
	__u8 opcode;
	__u8 flags;
	__u16 buf;
	__s32 fd;
	__u64 addr;
	__u32 len;
	__u32 op_flags;
	__u64 user_data;
	__u64 off;
	__u64 addr2;
	__u32 len2;
	__s32 fd2;
	__u64 resv;
};

/*
 * The file is kept in a slot of its number: no descriptor look-up per operation, and one wait queue
 * entry installed once. The first operation with this flag makes the slot, owned by the ring it
 * came through; the slot refers to the file that had the number then, until FASTIO_OP_CLOSE or
 * FASTIO_OP_FILE_UNREGISTER on the same ring, or the end of the context. Never close(2) a
 * descriptor that has a slot before its slot is gone. Operations of one slot and one direction
 * (receive side, send side) run in the order submitted. Without this flag, operations in flight
 * together on one file may complete in any order; so may those that went to a wq worker. The
 * receiving half of SEND_RECV queues when its sending half is done. Allowed for ACCEPT, RECV, SEND,
 * SEND_RECV, RECVMSG, SENDMSG, READ, WRITE, READV, WRITEV; CLOSE and FILE_UNREGISTER find the slot
 * without it. Errors: -EXDEV the slot belongs to another ring; -EBADF fd >= fastio_setup.max_slots.
 */
#define FASTIO_SQE_SLOT		(1U << 0)
/* ACCEPT and RECV: stays armed and posts CQEs with FASTIO_CQE_MORE until one without it. */
#define FASTIO_SQE_MULTISHOT	(1U << 1)
/* RECV, RECV of SEND_RECV: take a buffer from group @buf when data is there. */
#define FASTIO_SQE_BUF_SELECT	(1U << 2)
/* RECV, SEND, READ, WRITE: [addr, addr + len) lies in registered buffer @buf. */
#define FASTIO_SQE_FIXED_BUF	(1U << 3)
/* READ, WRITE, READV, WRITEV: go straight to a wq worker. Not with NOWAIT. */
#define FASTIO_SQE_ASYNC	(1U << 4)
/* ACCEPT, RECV, SEND, RECVMSG, SENDMSG, READ*, WRITE*: fail with -EAGAIN instead of waiting. */
#define FASTIO_SQE_NOWAIT	(1U << 5)

/**
 * struct fastio_cqe - completion queue entry
 * @user_data: from the SQE
 * @res: result of the operation, or -errno
 * @flags: FASTIO_CQE_* bits; with FASTIO_CQE_BUFFER the buffer id in the upper 16 bits
 */
struct fastio_cqe {
	__u64 user_data;
	__s32 res;
	__u32 flags;
};

/* More completions of this (multishot) operation will follow. */
#define FASTIO_CQE_MORE		(1U << 0)
/* The data is in a provided buffer: its id is flags >> FASTIO_CQE_BUFFER_SHIFT. */
#define FASTIO_CQE_BUFFER	(1U << 1)
/* RECV, RECVMSG, SEND_RECV: the socket had more to read at that moment. */
#define FASTIO_CQE_NONEMPTY	(1U << 2)
/* SEND_RECV: @res is the error of the send; nothing was received. */
#define FASTIO_CQE_SEND_FAILED	(1U << 3)
#define FASTIO_CQE_BUFFER_SHIFT	16

/**
 * enum fastio_op - operations
 * @FASTIO_OP_NOP: nothing. res: 0
 * @FASTIO_OP_ACCEPT: accept4(2) on @fd. @op_flags: SOCK_CLOEXEC, SOCK_NONBLOCK. @addr: sockaddr to
 *	fill or 0, @addr2: its socklen_t (in and out); both 0 with MULTISHOT. res: the new
 *	descriptor
 * @FASTIO_OP_RECV: recv(2). @addr, @len; @op_flags: MSG_* (MSG_WAITALL: until @len bytes, end or
 *	error). With BUF_SELECT @addr is 0 and @len bounds the bytes taken into the buffer (0: its
 *	whole length). MULTISHOT demands BUF_SELECT. res: bytes, 0 at the end of the stream
 * @FASTIO_OP_SEND: send(2), MSG_NOSIGNAL implied. @addr, @len; @op_flags: MSG_* (MSG_WAITALL: all
 *	of it or an error after which nothing can be said about how much was sent). res: bytes
 * @FASTIO_OP_SEND_RECV: fused: send all of @len bytes at @addr (@op_flags: MSG_* of the send; @len
 *	0 sends nothing), then receive up to @len2 bytes at @addr2 (BUF_SELECT: into a buffer of
 *	group @buf, @addr2 0). One CQE. res: bytes received, 0 at the end; with
 *	FASTIO_CQE_SEND_FAILED the send's -errno
 * @FASTIO_OP_RECVMSG: recvmsg(2). @addr: struct msghdr; @op_flags: MSG_*. res: bytes
 * @FASTIO_OP_SENDMSG: sendmsg(2), MSG_NOSIGNAL implied. @addr: struct msghdr; @op_flags: MSG_*.
 *	res: bytes
 * @FASTIO_OP_READ: pread(2). @addr, @len, @off (FASTIO_OFF_CURRENT: read(2)). res: bytes; of a file
 *	with FASTIO_SQE_NOWAIT, or without wq workers, those that were in the cache
 * @FASTIO_OP_WRITE: pwrite(2). @addr, @len, @off (FASTIO_OFF_CURRENT: write(2)). res: bytes
 * @FASTIO_OP_READV: preadv(2). @addr: struct iovec[@len], @len 0..1024, @off as READ. res: bytes
 * @FASTIO_OP_WRITEV: pwritev(2). @addr: struct iovec[@len], @len 0..1024, @off as WRITE. res: bytes
 * @FASTIO_OP_POLL: poll(2), one shot. @op_flags: POLLIN, POLLOUT, POLLPRI, POLLRDHUP. res: events,
 *	which may include POLLERR, POLLHUP, POLLNVAL
 * @FASTIO_OP_CLOSE: close(2). Operations waiting in the slot of @fd complete first, with
 *	-ECANCELED; others in flight on the file go on, and keep it open. -EXDEV: the slot is
 *	another ring's. A /dev/fastio cannot be closed this way. The peer of a socket sees the end
 *	at the latest when the worker next returns to user space, which it does by itself. res: 0
 * @FASTIO_OP_OPENAT: open(2), on a wq worker. @fd: AT_FDCWD, @addr: path, @op_flags: O_*, @len:
 *	mode. res: the new descriptor
 * @FASTIO_OP_FSYNC: fsync(2), on a wq worker. @op_flags: FASTIO_FSYNC_DATASYNC; @off, @len: the
 *	range (@len 0: to the end). res: 0
 * @FASTIO_OP_SENDFILE: sendfile(2), on a wq worker. @fd: to, @fd2: from (a file that can seek, or
 *	-ESPIPE), @off: where to begin there (FASTIO_OFF_CURRENT: its position), @len. res: bytes
 * @FASTIO_OP_TIMEOUT: nothing but time goes by. @off: nanoseconds from now, or with
 *	FASTIO_TIMEOUT_ABS in @op_flags the CLOCK_MONOTONIC time; up to 2^63-1. res: -ETIME when it
 *	expired, -ECANCELED when cancelled
 * @FASTIO_OP_CANCEL: cancel operations in flight on this ring: those with user_data equal to @addr,
 *	or with FASTIO_CANCEL_FD in @op_flags those on @fd. Only the oldest found, or all with
 *	FASTIO_CANCEL_ALL. Each completes with -ECANCELED before the CQE of the cancel (with its
 *	result, if a wq worker has just finished it). @fd is 0 without CANCEL_FD, @addr is 0 with
 *	it. res: number cancelled; -ENOENT none found on this ring; -EALREADY found only on a wq
 *	worker that is executing it
 * @FASTIO_OP_FILE_REGISTER: make the slot of @fd now. res: 0; -EEXIST it has one
 * @FASTIO_OP_FILE_UNREGISTER: drop the slot of @fd; waiting operations complete first, with
 *	-ECANCELED. The descriptor stays open. res: 0; -ENOENT it has none; -EXDEV it is another
 *	ring's
 * @FASTIO_OP_LAST: number of opcodes
 *
 * Besides what the system call of the same name returns (never -EAGAIN unless NOWAIT; -EINTR only
 * from a file that gives up for a signal to the serving thread, as a terminal does for SIGTTIN):
 * The fields of the SQE are checked first: -EOPNOTSUPP: opcode unknown or switched off (see
 * fastio_setup.ops); -EINVAL: flag not allowed for the operation, unused field not zero, RECV
 * MULTISHOT without BUF_SELECT, or BUF_SELECT with an address, MSG_WAITALL or MSG_PEEK; -EPERM: the
 * serving thread has a seccomp filter (module parameter seccomp=refuse). Then the file, and then
 * what is to be done with it: -EOPNOTSUPP: would block and the context has no wq worker; also a
 * file that supports neither waiting nor non-blocking, or POLL for events that the file cannot
 * report; -EBADF: no such descriptor, or it is a /dev/fastio; -ENOTSOCK; -EXDEV: see
 * FASTIO_SQE_SLOT; -ENOBUFS: BUF_SELECT and the group is empty (ends a multishot); -ENOENT: no such
 * buffer group, -EXDEV: it is another ring's; -EFAULT: address not accessible, or outside the
 * registered buffer, or no such buffer; -ECANCELED: cancelled; -ENOMEM: no memory for a slot.
 */
enum fastio_op {
	FASTIO_OP_NOP			= 0,
	FASTIO_OP_ACCEPT		= 1,
	FASTIO_OP_RECV			= 2,
	FASTIO_OP_SEND			= 3,
	FASTIO_OP_SEND_RECV		= 4,
	FASTIO_OP_RECVMSG		= 5,
	FASTIO_OP_SENDMSG		= 6,
	FASTIO_OP_READ			= 7,
	FASTIO_OP_WRITE			= 8,
	FASTIO_OP_READV			= 9,
	FASTIO_OP_WRITEV		= 10,
	FASTIO_OP_POLL			= 11,
	FASTIO_OP_CLOSE			= 12,
	FASTIO_OP_OPENAT		= 13,
	FASTIO_OP_FSYNC			= 14,
	FASTIO_OP_SENDFILE		= 15,
	FASTIO_OP_TIMEOUT		= 16,
	FASTIO_OP_CANCEL		= 17,
	FASTIO_OP_FILE_REGISTER		= 18,
	FASTIO_OP_FILE_UNREGISTER	= 19,
	FASTIO_OP_LAST			= 20,
};

/*
 * READ, WRITE, READV, WRITEV, SENDFILE: use and advance the file's own position; needed for
 * streams.
 */
#define FASTIO_OFF_CURRENT	(~0ULL)
#define FASTIO_FSYNC_DATASYNC	(1U << 0)
#define FASTIO_TIMEOUT_ABS	(1U << 0)
#define FASTIO_CANCEL_ALL	(1U << 0)
#define FASTIO_CANCEL_FD	(1U << 1)

/* ------------------------------------------------------------------ set-up */

/**
 * struct fastio_setup - argument of FASTIO_IOC_SETUP
 * @version: in: FASTIO_ABI_VERSION; out: the module's
 * @flags: in: zero, none defined yet
 * @workers: in: number of rings, 1..FASTIO_MAX_WORKERS
 * @wq_workers: in: number of blocking helper threads the process will donate,
 *	0..FASTIO_MAX_WQ_WORKERS; with 0, operations that would block fail with -EOPNOTSUPP
 * @sq_entries: in: entries of each SQ, a power of two, 1..FASTIO_MAX_ENTRIES
 * @cq_entries: in: entries of each CQ, a power of two, @sq_entries..FASTIO_MAX_ENTRIES; also the
 *	most operations one ring has in flight
 * @idle_us: in: microseconds a worker polls without work before it sleeps, 0..FASTIO_MAX_IDLE_US
 * @wq_idle_us: in: the same for wq workers
 * @max_slots: in: one more than the highest descriptor that can have a slot, 0..FASTIO_MAX_SLOTS;
 *	0: the default of 65536; out: granted
 * @ring_bytes: out: distance between two rings in the mapping; it is @workers times this long, at
 *	offset 0
 * @sq_off: out: offset of the SQEs from the head of their ring
 * @cq_off: out: offset of the CQEs from the head of their ring
 * @ops: out: bit n is set if opcode n is available to this process. A switched-off opcode (module
 *	parameter ops; ACCEPT when a security module that must see it is active) has its bit clear
 * @features: out: FASTIO_FEAT_* bits
 * @resv: zero
 */
struct fastio_setup {
	__u32 version;
	__u32 flags;
	__u32 workers;
	__u32 wq_workers;
	__u32 sq_entries;
	__u32 cq_entries;
	__u32 idle_us;
	__u32 wq_idle_us;
	__u32 max_slots;
	__u32 ring_bytes;
	__u32 sq_off;
	__u32 cq_off;
	__u64 ops;
	__u64 features;
	__u64 resv[4];
};

/* Every bit below is set by a module of this version; later ones add bits. */
#define FASTIO_FEAT_MULTISHOT	(1ULL << 0)
#define FASTIO_FEAT_FIXED_BUFS	(1ULL << 1)
#define FASTIO_FEAT_BUF_RINGS	(1ULL << 2)
#define FASTIO_FEAT_POLL	(1ULL << 3)	/* the device descriptor can be polled */
#define FASTIO_FEAT_SEND_RECV	(1ULL << 4)

/**
 * struct fastio_buffers - argument of FASTIO_IOC_REGISTER_BUFFERS
 * @iovecs: in: address of struct iovec[@nr]; buffer i of SQEs is iovecs[i]
 * @nr: in: 1..FASTIO_MAX_BUFFERS
 * @flags: in: zero
 * @resv: zero
 *
 * The memory is pinned and charged to RLIMIT_MEMLOCK until unregistered. Writable memory only.
 */
struct fastio_buffers {
	__u64 iovecs;
	__u32 nr;
	__u32 flags;
	__u64 resv[2];
};

/**
 * struct fastio_buf_group - argument of FASTIO_IOC_REGISTER_BUF_RING and _UNREGISTER_BUF_RING
 * @group: in: number of the group, 0..FASTIO_MAX_BUF_GROUPS - 1, for fastio_sqe.buf
 * @ring: in: the ring whose operations may use it (others get -EXDEV)
 * @entries: in: a power of two, 1..FASTIO_MAX_ENTRIES; 0 to unregister
 * @flags: in: zero
 * @mmap_off: in: zero; out: where to mmap() the struct fastio_buf_ring
 * @bytes: in: zero; out: how much to map
 * @resv: zero
 */
struct fastio_buf_group {
	__u32 group;
	__u32 ring;
	__u32 entries;
	__u32 flags;
	__u64 mmap_off;
	__u64 bytes;
	__u64 resv[2];
};

/**
 * struct fastio_buf - one provided buffer
 * @addr: user address
 * @len: bytes, 1..0x7ffff000 (0: the receive that meets it fails with -EINVAL)
 * @bid: buffer id, any number, returned in the CQE
 * @resv: zero
 */
struct fastio_buf {
	__u64 addr;
	__u32 len;
	__u16 bid;
	__u16 resv;
};

/**
 * struct fastio_buf_ring - buffers provided for BUF_SELECT, consumed in order
 * @tail: user writes: number of buffers ever added; store with release after the entries
 * @resv: zero
 * @bufs: entry i is for buffer number i modulo the number of entries
 *
 * A buffer is the kernel's from the moment @tail covers it until a CQE returns its id. At most
 * "entries" buffers may be the kernel's at a time. A receive that fails or meets the end keeps no
 * buffer.
 */
struct fastio_buf_ring {
	__u32 tail;
	__u32 resv[31];
	struct fastio_buf bufs[];
};

/**
 * struct fastio_stats - argument of FASTIO_IOC_STATS: counters of one ring since SETUP
 * @ring: in: index of the ring
 * @flags: in: zero
 * @submitted: SQEs taken
 * @completed: CQEs posted
 * @batches: passes that did work
 * @eagain: attempts that found nothing to do after all
 * @armed: wait queue entries installed (slots once, other operations once per wait)
 * @parked: operations that had to wait
 * @ready: operations or slots that a wake-up made runnable
 * @multishot: CQEs with FASTIO_CQE_MORE
 * @punted: operations handed to a wq worker
 * @cq_stalls: times that work waited for room in the CQ
 * @spins: looks at a ring that found nothing, by a thread that polls
 * @sleeps: times the server slept
 * @enters: calls of FASTIO_IOC_ENTER
 * @leaves: times a donated worker returned to user space to run pending kernel work or signals
 * @in_flight: operations in flight now
 * @slots: slots the ring owns now
 * @busy_ns: nanoseconds in passes of donated workers that did work; 0 unless module parameter
 *	account is on
 * @resv: zero
 */
struct fastio_stats {
	__u32 ring;
	__u32 flags;
	__u64 submitted;
	__u64 completed;
	__u64 batches;
	__u64 eagain;
	__u64 armed;
	__u64 parked;
	__u64 ready;
	__u64 multishot;
	__u64 punted;
	__u64 cq_stalls;
	__u64 spins;
	__u64 sleeps;
	__u64 enters;
	__u64 leaves;
	__u64 in_flight;
	__u64 slots;
	__u64 busy_ns;
	__u64 resv[2];
};

/*
 * FASTIO_IOC_ENTER takes its argument by value, so that the fast path copies nothing:
 * FASTIO_ENTER(ring, flags, batch, timeout_us).
 *
 * ring	0..255 index of the ring
 * flags	FASTIO_ENTER_* bits
 * batch SQEs and ready operations to execute at most per pass, 0: no bound but the size of the ring;
 *	without a wait, in a context of several rings, the pass also ends when another ring has
 *	completions, after an SQE and a ready operation at the latest
 * timeout_us 0: none; else with WAIT or WAIT_ANY the longest sleep, 1..2^32-1 microseconds
 */
#define FASTIO_ENTER(ring, flags, batch, timeout_us)		\
	((unsigned long)(ring) | (unsigned long)(flags) << 8 |	\
	 (unsigned long)(batch) << 16 | (unsigned long)(timeout_us) << 32)

/*
 * No bit: one pass, never sleeps (hybrid mode: an application thread drains a ring between reaping
 * others).
 */
/* Serve the ring until its CQ holds a completion. */
#define FASTIO_ENTER_WAIT	(1U << 0)
/* Serve the ring until any CQ of the context holds a completion. */
#define FASTIO_ENTER_WAIT_ANY	(1U << 1)
/* With a wait: poll for fastio_setup.idle_us before sleeping. */
#define FASTIO_ENTER_SPIN	(1U << 2)

/* FASTIO_IOC_WAIT: wait without a limit. */
#define FASTIO_WAIT_FOREVER	(~0UL)

/*
 * Every ioctl: -EPERM: the caller's address space is not that of the process that opened the device
 * (a forked child, or a process that got the descriptor passed); -ENOTTY: unknown command or size.
 * Every ioctl but SETUP: -EBADFD: no SETUP yet. Every ioctl but STATS: -ESHUTDOWN: the context is
 * dead. These are checked in this order: -ENOTTY, -EPERM, -EBADFD, -ESHUTDOWN, -EFAULT, then what
 * the command says.
 *
 * SETUP(struct fastio_setup *): once per open.
 *	-EBUSY: done before. -EPROTONOSUPPORT: @version. -EINVAL: a field out of its range, not a
 *	power of two, flag or reserved field not zero. -EPERM: seccomp filter present (parameter
 *	seccomp), or no more contexts for this uid (-EUSERS). -ENOMEM: memory, or RLIMIT_MEMLOCK for
 *	the rings.
 * WORKER(index): the calling thread serves ring @index, or for index = workers..workers +
 * wq_workers - 1
 *	is a wq worker. 0: come back in at once (kernel work on return to user space was due).
 *	-EINTR: a signal was pending; come back in. -EBUSY: the ring has a server. -EINVAL: no such
 *	index. -ESHUTDOWN: end of service.
 * ENTER(FASTIO_ENTER(...)): the calling thread serves the ring for a while. Returns the number of
 *	completions in the CQ of the ring, which can be 0 early (kernel work on return to user space
 *	was due, WAIT_ANY, no wait asked). -ETIME: timeout_us went by. -EINTR: a signal is pending
 *	and there is nothing to reap. -EBUSY: the ring has a server. -EINVAL: ring, flags, WAIT with
 *	WAIT_ANY, timeout or SPIN without a wait.
 * WAKE(ring): wake the server of the ring. 0, also when there is none. -EINVAL: no such ring.
 * WAIT(timeout_us): sleep until any CQ holds a completion or a ring has its @enter set. 0; -ETIME;
 *	-EINTR. 0 microseconds only tests. FASTIO_WAIT_FOREVER; more than 2^32-1 otherwise: -EINVAL.
 * REGISTER_BUFFERS(struct fastio_buffers *): -EBUSY: there are some. -EINVAL: @nr, flags, reserved,
 * a length of
 *	0 or above FASTIO_MAX_BUFFER_BYTES. -EFAULT: not mapped or not writable. -EOPNOTSUPP: memory
 *	that cannot be pinned for long. -ENOMEM: memory or RLIMIT_MEMLOCK. All or nothing.
 * UNREGISTER_BUFFERS(0): operations in progress keep the pages until they end. -ENXIO: none
 * registered.
 *	-EINVAL: argument not 0.
 * REGISTER_BUF_RING(struct fastio_buf_group *): -EEXIST: @group is taken. -EINVAL. -ENOMEM.
 * UNREGISTER_BUF_RING(struct fastio_buf_group *): -ENXIO: no such group. -EINVAL: fields besides
 * @group not 0.
 *	The mapping stays valid memory until unmapped, but is no longer read.
 * STATS(struct fastio_stats *): -EINVAL: no such ring, flags or reserved not 0.
 *
 * mmap(): -EPERM, -EBADFD, -ESHUTDOWN as above; -EINVAL: an offset that is none of the above, a
 * length beyond the area, PROT_EXEC, or not MAP_SHARED. Mappings are not inherited by fork().
 * poll(): POLLIN: a CQ holds a completion or a ring has its @enter set; POLLHUP: the context is
 * dead; POLLERR: not the owner's address space, or no SETUP yet. It is level-triggered, and edges
 * are reported for every batch of completions posted.
 */
#define FASTIO_IOC_MAGIC		'F'
#define FASTIO_IOC_SETUP		_IOWR(FASTIO_IOC_MAGIC, 0xa0, struct fastio_setup)
#define FASTIO_IOC_WORKER		_IO(FASTIO_IOC_MAGIC, 0xa1)
#define FASTIO_IOC_ENTER		_IO(FASTIO_IOC_MAGIC, 0xa2)
#define FASTIO_IOC_WAKE			_IO(FASTIO_IOC_MAGIC, 0xa3)
#define FASTIO_IOC_WAIT			_IO(FASTIO_IOC_MAGIC, 0xa4)
#define FASTIO_IOC_REGISTER_BUFFERS	_IOW(FASTIO_IOC_MAGIC, 0xa5, struct fastio_buffers)
#define FASTIO_IOC_UNREGISTER_BUFFERS	_IO(FASTIO_IOC_MAGIC, 0xa6)
#define FASTIO_IOC_REGISTER_BUF_RING	_IOWR(FASTIO_IOC_MAGIC, 0xa7, struct fastio_buf_group)
#define FASTIO_IOC_UNREGISTER_BUF_RING	_IOW(FASTIO_IOC_MAGIC, 0xa8, struct fastio_buf_group)
#define FASTIO_IOC_STATS		_IOWR(FASTIO_IOC_MAGIC, 0xa9, struct fastio_stats)

#endif /* _UAPI_LINUX_FASTIO_H */
