/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One context of /dev/fastio as a test uses it: straight on the ioctls and the rings, without the library, so that a
 * fault in one cannot hide a fault in the other. Helpers that fail end the running test.
 */
#ifndef FASTIO_TESTS_CTX_H
#define FASTIO_TESTS_CTX_H

#include <linux/fastio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define FASTIO_DEVICE	"/dev/fastio"

/* Who serves the rings of a test's context. */
enum server {
	SERVER_NONE,		/* nobody: the test serves or starves them itself */
	SERVER_SPINNING,	/* donated threads that poll */
	SERVER_SLEEPING,	/* donated threads that sleep at once, so that every step needs a wake-up */
	SERVER_INLINE,		/* the thread that waits, by FASTIO_IOC_ENTER */
};

/**
 * struct ring - a ring as user space sees it
 * @head: the shared indices
 * @sq: the submission queue entries
 * @cq: the completion queue entries
 * @sq_tail: our copy of the tail; entries from head->sq_tail on are filled but not submitted
 * @cq_head: our copy of the head
 */
struct ring {
	struct fastio_ring *head;
	struct fastio_sqe *sq;
	struct fastio_cqe *cq;
	uint32_t sq_tail;
	uint32_t cq_head;
};

/**
 * struct ctx - one open of the device, set up and mapped
 * @fd: the device
 * @server: who serves the rings
 * @setup: as SETUP returned it
 * @map: the rings' mapping, @map_bytes long
 * @map_bytes: bytes of @map
 * @ring: the rings, setup.workers of them
 * @donors: threads inside FASTIO_IOC_WORKER, @nr_donors of them
 * @nr_donors: number of @donors
 */
struct ctx {
	int fd;
	enum server server;
	struct fastio_setup setup;
	void *map;
	size_t map_bytes;
	struct ring ring[FASTIO_MAX_WORKERS];
	struct donor {
		struct ctx *ctx;
		unsigned long index;
		pthread_t thread;
	} donors[FASTIO_MAX_WORKERS + FASTIO_MAX_WQ_WORKERS];
	unsigned int nr_donors;
	bool contested;	/* a donated thread may find its ring claimed by another */
};

/* What most tests want: @workers rings of 64 SQEs and 128 CQEs, one wq worker. */
struct fastio_setup ctx_defaults(unsigned int workers);

/* Opens the device. Return: a descriptor; the test fails and ends without one. */
int device_open(void);

/* ioctl(2) on the device, with -errno as its result. */
long device_ioctl(int fd, unsigned long command, unsigned long arg);

/**
 * ctx_open() - open, set up and map a context, and start its donated threads
 * @ctx: filled
 * @setup: the argument of SETUP
 * @server: who serves the rings; all but SERVER_NONE start the wq workers too
 */
void ctx_open(struct ctx *ctx, const struct fastio_setup *setup, enum server server);

/* Closes the device, checks that every donated thread comes back with -ESHUTDOWN, and unmaps. */
void ctx_close(struct ctx *ctx);

/* Starts one donated thread for worker @index, rings first, then wq workers. Signals are blocked in it. */
void ctx_donate(struct ctx *ctx, unsigned long index);

/* Room in the SQ: entries that can be filled now. */
unsigned int ring_room(const struct ctx *ctx, unsigned int ring);

/* Fills the next entry; it is submitted by ring_submit(). Ends the test when the SQ is full. */
void ring_push(struct ctx *ctx, unsigned int ring, struct fastio_sqe sqe);

/* Makes all pushed entries visible and wakes a sleeping worker. */
void ring_submit(struct ctx *ctx, unsigned int ring);

/* Takes one completion if there is one. Never enters the kernel. */
bool ring_peek(struct ctx *ctx, unsigned int ring, struct fastio_cqe *cqe);

/* Takes one completion, waiting up to @timeout_ms (times slowness) as the context's server demands. */
bool ring_wait_for(struct ctx *ctx, unsigned int ring, struct fastio_cqe *cqe, unsigned int timeout_ms);

/* Takes one completion; the test fails and ends when none comes within ten seconds (times slowness). */
struct fastio_cqe ring_wait(struct ctx *ctx, unsigned int ring);

/* Lets the ring make progress for @ms milliseconds; used to show that something does not complete. */
void ring_idle(struct ctx *ctx, unsigned int ring, unsigned int ms);

/* Submits one operation alone and returns its completion, after checking that it is that one. */
struct fastio_cqe op_run(struct ctx *ctx, unsigned int ring, struct fastio_sqe sqe);

/* Counters of a ring. */
struct fastio_stats ring_stats(struct ctx *ctx, unsigned int ring);

/* Waits until all submitted entries have been taken; the test fails and ends when they are not within ten seconds. */
void ring_wait_taken(struct ctx *ctx, unsigned int ring);

/* Checks that nothing completes on the ring for a while: what is in flight has to wait. */
void ring_expect_nothing(struct ctx *ctx, unsigned int ring);

/* Waits for the next completion and checks whose it is and its result; returns its flags. */
uint32_t ring_expect(struct ctx *ctx, unsigned int ring, uint64_t user_data, int res);

/**
 * struct variant - one way to run an operation's test
 * @name: for the test's name
 * @server: who serves the ring
 * @slot: FASTIO_SQE_SLOT or 0, for the flags of operations that allow it
 */
struct variant {
	const char *name;
	enum server server;
	uint8_t slot;
};

/* Opens a context of @workers rings as the variant says. */
void variant_open(struct ctx *ctx, const struct variant *variant, unsigned int workers);

struct ktap_test;

/* As ktap_main(), with each test run for every server, and with @with_slots also with a slot; arg is the variant. */
int variants_main(const struct ktap_test *tests, size_t nr, bool with_slots, int argc, char **argv);

/* An SQE: OP(RECV, fd, .addr = ..., .len = ...). */
#define OP(name_, fd_, ...) ((struct fastio_sqe) { .opcode = FASTIO_OP_##name_, .fd = fd_, __VA_ARGS__ })

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);

/* Sleeps, for tests whose subject is time. */
void sleep_ms(unsigned int ms);

/* An address for @addr fields. */
#define ADDR(p)	((uint64_t)(uintptr_t)(p))

#endif
