// SPDX-License-Identifier: GPL-2.0
/* Every ioctl but SETUP: each wrong index, flag, reserved field, pointer and order of calls, and its documented errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"

/* The context of the tables: two rings and one wq worker, so that worker indices 0..2 and ring indices 0..1 exist. */
static void open_idle(struct ctx *ctx)
{
	struct fastio_setup setup = ctx_defaults(2);

	ctx_open(ctx, &setup, SERVER_NONE);
}

/* ------------------------------------------------------------------ by value */

struct value_case {
	const char *name;
	unsigned long command;
	unsigned long arg;
	long want;
};

#define VALUE(command_, arg_, want_) \
	{ #command_ " " #arg_ " gives " #want_, FASTIO_IOC_##command_, arg_, want_ }

static const struct value_case value_cases[] = {
	VALUE(WORKER, 3, -EINVAL),
	VALUE(WORKER, FASTIO_MAX_WORKERS, -EINVAL),
	VALUE(WORKER, 0x100000000, -EINVAL),
	VALUE(WORKER, ~0UL, -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(0, 0, 0, 0), 0),
	VALUE(ENTER, FASTIO_ENTER(1, 0, 65535, 0), 0),
	VALUE(ENTER, FASTIO_ENTER(2, 0, 0, 0), -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(255, 0, 0, 0), -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(0, 8, 0, 0), -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(0, 0x80, 0, 0), -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT | FASTIO_ENTER_WAIT_ANY, 0, 1000), -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(0, 0, 0, 1), -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(0, FASTIO_ENTER_SPIN, 0, 0), -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(0, FASTIO_ENTER_SPIN, 0, 1000), -EINVAL),
	VALUE(ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT, 0, 1000), -ETIME),
	VALUE(ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT_ANY, 0, 1000), -ETIME),
	VALUE(ENTER, FASTIO_ENTER(1, FASTIO_ENTER_WAIT | FASTIO_ENTER_SPIN, 7, 1000), -ETIME),
	VALUE(WAKE, 0, 0),
	VALUE(WAKE, 1, 0),
	VALUE(WAKE, 2, -EINVAL),
	VALUE(WAKE, 0x100000000, -EINVAL),
	VALUE(WAKE, ~0UL, -EINVAL),
	VALUE(WAIT, 0, -ETIME),
	VALUE(WAIT, 1, -ETIME),
	VALUE(WAIT, 1000, -ETIME),
	VALUE(WAIT, 0x100000000, -EINVAL),
	VALUE(WAIT, ~0UL - 1, -EINVAL),
	VALUE(UNREGISTER_BUFFERS, 0, -ENXIO),
	VALUE(UNREGISTER_BUFFERS, 1, -EINVAL),
	VALUE(UNREGISTER_BUFFERS, ~0UL, -EINVAL),
	VALUE(REGISTER_BUFFERS, 0, -EFAULT),
	VALUE(REGISTER_BUF_RING, 0, -EFAULT),
	VALUE(UNREGISTER_BUF_RING, 0, -EFAULT),
	VALUE(STATS, 0, -EFAULT),
	VALUE(REGISTER_BUFFERS, 0xffffffffffff0000, -EFAULT),
	VALUE(REGISTER_BUF_RING, 0xffffffffffff0000, -EFAULT),
	VALUE(UNREGISTER_BUF_RING, 0xffffffffffff0000, -EFAULT),
	VALUE(STATS, 0xffffffffffff0000, -EFAULT),
};

static void by_value(const void *arg)
{
	const struct value_case *c = arg;
	struct ctx ctx;

	open_idle(&ctx);
	CHECK_EQ(device_ioctl(ctx.fd, c->command, c->arg), c->want);
	ctx_close(&ctx);
}

/* ------------------------------------------------------------------ structures */

/* A valid argument with one field changed. */
struct struct_case {
	const char *name;
	unsigned long command;
	size_t offset;
	size_t bytes;
	uint64_t value;
	long want;
};

#define STRUCT(command_, type_, field_, value_, want_)					\
	{ #command_ " " #field_ " = " #value_ " gives " #want_, FASTIO_IOC_##command_,	\
	  offsetof(struct type_, field_), sizeof(((struct type_ *)0)->field_), value_, want_ }
#define BUFFERS(field_, value_, want_)	STRUCT(REGISTER_BUFFERS, fastio_buffers, field_, value_, want_)
#define GROUP(field_, value_, want_)	STRUCT(REGISTER_BUF_RING, fastio_buf_group, field_, value_, want_)
#define UNGROUP(field_, value_, want_)	STRUCT(UNREGISTER_BUF_RING, fastio_buf_group, field_, value_, want_)
#define STATS(field_, value_, want_)	STRUCT(STATS, fastio_stats, field_, value_, want_)

static const struct struct_case struct_cases[] = {
	BUFFERS(nr, 1, 0),
	BUFFERS(nr, 0, -EINVAL),
	BUFFERS(nr, FASTIO_MAX_BUFFERS + 1, -EINVAL),
	BUFFERS(nr, 0xffffffff, -EINVAL),
	BUFFERS(flags, 1, -EINVAL),
	BUFFERS(flags, 0x80000000, -EINVAL),
	BUFFERS(resv[0], 1, -EINVAL),
	BUFFERS(resv[1], 0x100000000, -EINVAL),
	BUFFERS(iovecs, 0, -EFAULT),
	BUFFERS(iovecs, 0xffffffffffff0000, -EFAULT),
	GROUP(group, 0, 0),
	GROUP(group, FASTIO_MAX_BUF_GROUPS - 1, 0),
	GROUP(group, FASTIO_MAX_BUF_GROUPS, -EINVAL),
	GROUP(group, 0xffffffff, -EINVAL),
	GROUP(ring, 1, 0),
	GROUP(ring, 2, -EINVAL),
	GROUP(ring, 0xffffffff, -EINVAL),
	GROUP(entries, 0, -EINVAL),
	GROUP(entries, 1, 0),
	GROUP(entries, 3, -EINVAL),
	GROUP(entries, FASTIO_MAX_ENTRIES, 0),
	GROUP(entries, FASTIO_MAX_ENTRIES * 2, -EINVAL),
	GROUP(entries, 0x80000000, -EINVAL),
	GROUP(flags, 1, -EINVAL),
	GROUP(mmap_off, 4096, -EINVAL),
	GROUP(bytes, 1, -EINVAL),
	GROUP(resv[0], 1, -EINVAL),
	GROUP(resv[1], 0x100000000, -EINVAL),
	UNGROUP(group, 0, -ENXIO),
	UNGROUP(group, FASTIO_MAX_BUF_GROUPS - 1, -ENXIO),
	UNGROUP(ring, 1, -EINVAL),
	UNGROUP(entries, 8, -EINVAL),
	UNGROUP(flags, 1, -EINVAL),
	UNGROUP(mmap_off, 4096, -EINVAL),
	UNGROUP(bytes, 1, -EINVAL),
	UNGROUP(resv[0], 1, -EINVAL),
	UNGROUP(resv[1], 0x100000000, -EINVAL),
	STATS(ring, 1, 0),
	STATS(ring, 2, -EINVAL),
	STATS(ring, 0xffffffff, -EINVAL),
	STATS(flags, 1, -EINVAL),
	STATS(resv[0], 1, -EINVAL),
	STATS(resv[1], 0x100000000, -EINVAL),
	STATS(submitted, 7, 0),			/* an output: what it held does not matter */
};

static void by_struct(const void *arg)
{
	const struct struct_case *c = arg;
	static char memory[4096];
	struct iovec iovec = { .iov_base = memory, .iov_len = sizeof(memory) };
	union {
		struct fastio_buffers buffers;
		struct fastio_buf_group group;
		struct fastio_stats stats;
		char bytes[256];
	} argument = { 0 };
	struct ctx ctx;

	open_idle(&ctx);
	if (c->command == FASTIO_IOC_REGISTER_BUFFERS)
		argument.buffers = (struct fastio_buffers) { .iovecs = ADDR(&iovec), .nr = 1 };
	else if (c->command == FASTIO_IOC_REGISTER_BUF_RING)
		argument.group = (struct fastio_buf_group) { .group = 3, .entries = 8 };
	memcpy(argument.bytes + c->offset, &c->value, c->bytes);
	CHECK_EQ(device_ioctl(ctx.fd, c->command, ADDR(&argument)), c->want);
	ctx_close(&ctx);
}

/* ------------------------------------------------------------------ order of calls and states */

/* Each command with an argument that would be good, and one with an argument that never is. */
static const struct value_case in_order[] = {
	VALUE(WORKER, 0, 0), VALUE(WORKER, ~0UL, 0), VALUE(ENTER, 0, 0), VALUE(ENTER, ~0UL, 0),
	VALUE(WAKE, 0, 0), VALUE(WAKE, ~0UL, 0), VALUE(WAIT, 0, 0), VALUE(WAIT, ~0UL - 1, 0),
	VALUE(REGISTER_BUFFERS, 0, 0), VALUE(UNREGISTER_BUFFERS, 0, 0), VALUE(UNREGISTER_BUFFERS, 1, 0),
	VALUE(REGISTER_BUF_RING, 0, 0), VALUE(UNREGISTER_BUF_RING, 0, 0), VALUE(STATS, 0, 0),
};

static void before_setup(const void *arg)
{
	struct pollfd events = { .events = POLLIN | POLLOUT };
	int fd = device_open();

	(void)arg;
	for (size_t i = 0; i < NR(in_order); i++)
		CHECK_EQ(device_ioctl(fd, in_order[i].command, in_order[i].arg), -EBADFD, "case %zu", i);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK_EQ(errno, EBADFD);
	events.fd = fd;
	CHECK_EQ(poll(&events, 1, 0), 1);
	CHECK_EQ(events.revents, POLLERR);
	close(fd);
}

/* Closing any descriptor of the device by its owner ends the context; a duplicate then shows what is left. */
static void after_close(const void *arg)
{
	struct pollfd events = { .events = POLLIN };
	struct fastio_stats stats = { 0 };
	struct fastio_setup again = ctx_defaults(1);
	struct ctx ctx;
	int left;

	(void)arg;
	open_idle(&ctx);
	left = dup(ctx.fd);
	close(ctx.fd);
	for (size_t i = 0; i < NR(in_order); i++)
		if (in_order[i].command != FASTIO_IOC_STATS)
			CHECK_EQ(device_ioctl(left, in_order[i].command, in_order[i].arg), -ESHUTDOWN, "case %zu", i);
	CHECK_EQ(device_ioctl(left, FASTIO_IOC_SETUP, ADDR(&again)), -ESHUTDOWN);
	CHECK_EQ(device_ioctl(left, FASTIO_IOC_STATS, ADDR(&stats)), 0);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, left, 0) == MAP_FAILED);
	CHECK_EQ(errno, ESHUTDOWN);
	events.fd = left;
	CHECK_EQ(poll(&events, 1, 0), 1);
	CHECK(events.revents & POLLHUP);
	for (unsigned int i = 0; i < ctx.setup.workers; i++)
		CHECK(__atomic_load_n(&ctx.ring[i].head->flags, __ATOMIC_ACQUIRE) & FASTIO_RING_DEAD);
	/* The mapping outlives the descriptor. */
	close(left);
	for (unsigned int i = 0; i < ctx.setup.workers; i++)
		CHECK(__atomic_load_n(&ctx.ring[i].head->flags, __ATOMIC_ACQUIRE) & FASTIO_RING_DEAD);
	CHECK_EQ(munmap(ctx.map, ctx.map_bytes), 0);
}

static void on_signal(int signal)
{
	(void)signal;
}

/* How many of the ways to claim a ring are refused; none may end in any other way than by having found it free. */
static unsigned int claims_refused(int fd, unsigned int ring)
{
	const struct {
		unsigned long command, arg;
		long found_free;
	} ways[] = {
		{ FASTIO_IOC_WORKER, ring, -EINTR },
		{ FASTIO_IOC_ENTER, FASTIO_ENTER(ring, 0, 0, 0), 0 },
		{ FASTIO_IOC_ENTER, FASTIO_ENTER(ring, FASTIO_ENTER_WAIT, 0, 1000), -ETIME },
	};
	unsigned int refused = 0;

	for (size_t i = 0; i < NR(ways); i++) {
		long ret;

		/* A claim that succeeds would serve for ever. */
		alarm(1);
		ret = device_ioctl(fd, ways[i].command, ways[i].arg);
		alarm(0);
		CHECK(ret == -EBUSY || ret == 0 || ret == ways[i].found_free, "way %zu to claim ring %u: %ld", i, ring, ret);
		refused += ret == -EBUSY;
	}
	return refused;
}

/*
 * A server leaves for a moment when the kernel has work for its thread in user mode, several times a second on some. Who
 * claims the ring then has it, and the server is the one refused. So it is tried again.
 */
static void claimed_twice(const void *arg)
{
	struct sigaction action = { .sa_handler = on_signal };
	unsigned int refused = 0;

	sigaction(SIGALRM, &action, NULL);
	for (unsigned int attempt = 0; attempt < 5 && refused < 6; attempt++) {
		struct fastio_setup setup = ctx_defaults(2);
		struct ctx ctx;

		ctx_open(&ctx, &setup, *(const enum server *)arg);
		op_run(&ctx, 0, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP });
		op_run(&ctx, 1, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP });
		refused = claims_refused(ctx.fd, 0) + claims_refused(ctx.fd, 1);
		ctx.contested = refused < 6;
		ctx_close(&ctx);
	}
	CHECK_EQ(refused, 6, "claims of two rings that are served");
}

/* Threads that claim one worker together; those that come back count themselves by result. */
struct claim {
	int fd;
	unsigned long index;
	pthread_barrier_t start;
	atomic_int busy;
	atomic_int shut_down;
};

static void *claimant(void *arg)
{
	struct claim *claim = arg;
	long ret;

	pthread_barrier_wait(&claim->start);
	do
		ret = device_ioctl(claim->fd, FASTIO_IOC_WORKER, claim->index);
	while (ret == 0 || ret == -EINTR);
	if (ret == -EBUSY)
		claim->busy++;
	else if (CHECK_EQ(ret, -ESHUTDOWN))
		claim->shut_down++;
	return NULL;
}

static void claim_race(const void *arg)
{
	enum { THREADS = 4 };
	struct claim claim = { .index = *(const unsigned long *)arg };
	pthread_t threads[THREADS];
	struct ctx ctx;

	open_idle(&ctx);
	claim.fd = ctx.fd;
	pthread_barrier_init(&claim.start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		NEED_EQ(pthread_create(&threads[i], NULL, claimant, &claim), 0);
	for (int ms = 0; claim.busy < THREADS - 1 && ms < 5000; ms++)
		sleep_ms(1);
	CHECK_EQ(claim.busy, THREADS - 1);
	ctx_close(&ctx);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(claim.shut_down, 1);
}

/* ------------------------------------------------------------------ waiting */

/* Interrupts the calling thread's system calls every few milliseconds. */
static void start_alarms(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec every = { { 0, 20000000 }, { 0, 20000000 } };
	timer_t timer;

	sigaction(SIGUSR1, &action, NULL);
	NEED_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	NEED_EQ(timer_settime(timer, 0, &every, NULL), 0);
}

/* A worker also comes back, with 0, when the kernel has something to do on the way to user space. */
static long work_until_interrupted(struct ctx *ctx, unsigned long index)
{
	uint64_t end = now_ns() + 10000000000ULL * ktap_slowness();
	long ret;

	do
		ret = device_ioctl(ctx->fd, FASTIO_IOC_WORKER, index);
	while (ret == 0 && now_ns() < end);
	return ret;
}

static void waits_interrupted(const void *arg)
{
	struct ctx ctx;

	(void)arg;
	open_idle(&ctx);
	start_alarms();
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_WAIT, FASTIO_WAIT_FOREVER), -EINTR);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_WAIT, 10000000), -EINTR);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT, 0, 0)), -EINTR);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT_ANY, 0, 0)), -EINTR);
	CHECK_EQ(work_until_interrupted(&ctx, 0), -EINTR);
	CHECK_EQ(work_until_interrupted(&ctx, 2), -EINTR, "the wq worker");
	ctx_close(&ctx);
}

static void waits_last(const void *arg)
{
	static const struct value_case waits[] = {
		VALUE(WAIT, 50000, 0),
		VALUE(ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT, 0, 50000), 0),
		VALUE(ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT_ANY, 0, 50000), 0),
		VALUE(ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT | FASTIO_ENTER_SPIN, 0, 50000), 0),
	};
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;

	(void)arg;
	setup.idle_us = 10000;
	ctx_open(&ctx, &setup, SERVER_NONE);
	for (size_t i = 0; i < NR(waits); i++) {
		uint64_t start, took_us;
		unsigned int tries = 0;
		long ret;

		/* ENTER may come back early for the kernel's sake, with nothing to reap. */
		do {
			start = now_ns();
			ret = device_ioctl(ctx.fd, waits[i].command, waits[i].arg);
			took_us = (now_ns() - start) / 1000;
		} while (ret == 0 && waits[i].command == FASTIO_IOC_ENTER && ++tries < 1000);
		CHECK_EQ(ret, -ETIME, "%s", waits[i].name);
		CHECK(took_us >= 50000, "%s took %llu us", waits[i].name, (unsigned long long)took_us);
		CHECK(took_us < 1000000 * ktap_slowness(), "%s took %llu us", waits[i].name, (unsigned long long)took_us);
	}
	ctx_close(&ctx);
}

/* With something to reap no wait waits, whoever posted it, and reaping it makes them wait again. */
static void waits_see_completions(const void *arg)
{
	struct pollfd events = { .events = POLLIN };
	struct fastio_cqe cqe;
	struct ctx ctx;

	(void)arg;
	open_idle(&ctx);
	events.fd = ctx.fd;
	CHECK_EQ(poll(&events, 1, 0), 0);
	ring_push(&ctx, 1, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP });
	ring_push(&ctx, 1, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP });
	ring_submit(&ctx, 1);
	CHECK_EQ(poll(&events, 1, 0), 0, "nobody served the ring yet");
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, 0, 1, 0)), 1, "batch of one");
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, 0, 1, 0)), 2);
	CHECK_EQ(poll(&events, 1, 0), 1);
	CHECK_EQ(events.revents, POLLIN);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_WAIT, FASTIO_WAIT_FOREVER), 0);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_WAIT, 0), 0);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, FASTIO_ENTER_WAIT, 0, 0)), 2);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT_ANY, 0, 0)), 0,
		 "ring 0 has none, but ring 1 has");
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT, 0, 1000)), -ETIME);
	CHECK(ring_peek(&ctx, 1, &cqe));
	CHECK(ring_peek(&ctx, 1, &cqe));
	CHECK(!ring_peek(&ctx, 1, &cqe));
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_WAIT, 0), -ETIME);
	CHECK_EQ(poll(&events, 1, 0), 0);
	ctx_close(&ctx);
}

/*
 * A bounded ENTER does as much as it may, but not while another ring has something to reap; what it leaves in the SQ is
 * no want of room.
 */
static void enter_is_polite(const void *arg)
{
	enum { NOPS = 10 };
	struct fastio_cqe cqe;
	struct ctx ctx;

	(void)arg;
	open_idle(&ctx);
	for (int i = 0; i < NOPS; i++)
		ring_push(&ctx, 1, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP, .user_data = i });
	ring_submit(&ctx, 1);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, 0, 4, 0)), 4);
	CHECK_EQ(__atomic_load_n(&ctx.ring[1].head->flags, __ATOMIC_ACQUIRE), 0, "there is room for the others");

	ring_push(&ctx, 0, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP });
	ring_submit(&ctx, 0);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, 0, 1, 0)), 1);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, 0, 4, 0)), 5, "ring 0 waits to be reaped");
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, 0, 0, 0)), 6, "without a bound, too");
	CHECK(ring_peek(&ctx, 0, &cqe));
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, 0, 0, 0)), NOPS);
	for (int i = 0; i < NOPS; i++)
		ring_expect(&ctx, 1, i, 0);
	ctx_close(&ctx);
}

/* ------------------------------------------------------------------ registration */

static void buffers_register(const void *arg)
{
	static char memory[3 * 4096];
	struct iovec iovecs[3] = { { memory, 1 }, { memory + 100, 4096 }, { memory, sizeof(memory) } };
	struct fastio_buffers buffers = { .iovecs = ADDR(iovecs), .nr = 3 };
	char *read_only = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct { const char *name; struct iovec iovec; long want; } bad[] = {
		{ "length 0", { memory, 0 }, -EINVAL },
		{ "too long", { memory, FASTIO_MAX_BUFFER_BYTES + 1UL }, -EINVAL },
		{ "far too long", { memory, ~0UL }, -EINVAL },
		{ "NULL", { NULL, 4096 }, -EFAULT },
		{ "read-only", { read_only, 4096 }, -EFAULT },
		{ "not accessible", { none, 4096 }, -EFAULT },
		{ "a kernel address", { (void *)0xffffffffffff0000, 4096 }, -EFAULT },
		{ "around the end", { (void *)0xfffffffffffff000, 8192 }, -EFAULT },
	};
	struct ctx ctx;

	(void)arg;
	open_idle(&ctx);
	for (size_t i = 0; i < NR(bad); i++) {
		iovecs[2] = bad[i].iovec;
		CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), bad[i].want, "%s",
			 bad[i].name);
		CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_UNREGISTER_BUFFERS, 0), -ENXIO, "all or nothing: %s",
			 bad[i].name);
	}
	iovecs[2] = (struct iovec) { memory, sizeof(memory) };
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), 0);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), -EBUSY);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_UNREGISTER_BUFFERS, 0), 0);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_UNREGISTER_BUFFERS, 0), -ENXIO);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), 0, "and again");
	ctx_close(&ctx);
}

static void groups_register(const void *arg)
{
	struct fastio_buf_group group = { .group = 5, .entries = 64 }, same = { .group = 5, .entries = 8 };
	struct fastio_buf_group drop = { .group = 5 };
	struct fastio_buf_ring *ring;
	struct ctx ctx;

	(void)arg;
	open_idle(&ctx);
	NEED_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&group)), 0);
	CHECK(group.mmap_off > 0);
	CHECK(group.bytes >= sizeof(*ring) + 64 * sizeof(struct fastio_buf));
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&same)), -EEXIST);
	ring = mmap(NULL, group.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ctx.fd, group.mmap_off);
	NEED(ring != MAP_FAILED, "mmap: %s", strerror(errno));
	for (size_t i = 0; i < group.bytes; i++)
		if (!CHECK_EQ(((char *)ring)[i], 0, "byte %zu of a new mapping", i))
			break;
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_UNREGISTER_BUF_RING, ADDR(&drop)), 0);
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_UNREGISTER_BUF_RING, ADDR(&drop)), -ENXIO);
	ring->tail = 77;
	CHECK_EQ(ring->tail, 77, "the mapping stays memory");
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&same)), 0, "the number is free again");
	ctx_close(&ctx);
	ring->tail = 78;
	CHECK_EQ(ring->tail, 78, "beyond the context too");
	CHECK_EQ(munmap(ring, group.bytes), 0);
}

struct group_maps {
	struct ctx ctx;
	atomic_bool done;
	unsigned long mapped, refused;
};

static void *group_mapper(void *arg)
{
	struct group_maps *maps = arg;
	const uint64_t off = 1ULL << 32;

	while (!maps->done) {
		void *p = mmap(NULL, FASTIO_MAX_ENTRIES, PROT_READ, MAP_SHARED, maps->ctx.fd, off);

		if (p == MAP_FAILED) {
			maps->refused++;
			continue;
		}
		maps->mapped++;
		munmap(p, FASTIO_MAX_ENTRIES);
	}
	return NULL;
}

/* The one that maps may be the last to hold it, and holds the lock of the address space. */
static void group_unregistered_while_mapped(const void *arg)
{
	struct fastio_buf_group drop = { .group = 0 };
	struct group_maps maps = { .done = false };
	pthread_t thread;

	(void)arg;
	open_idle(&maps.ctx);
	NEED_EQ(pthread_create(&thread, NULL, group_mapper, &maps), 0);
	for (uint64_t end = now_ns() + 2000000000ULL; now_ns() < end;) {
		struct fastio_buf_group group = { .group = 0, .entries = FASTIO_MAX_ENTRIES };

		NEED_EQ(device_ioctl(maps.ctx.fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&group)), 0);
		NEED_EQ(device_ioctl(maps.ctx.fd, FASTIO_IOC_UNREGISTER_BUF_RING, ADDR(&drop)), 0);
	}
	maps.done = true;
	pthread_join(thread, NULL);
	CHECK(maps.mapped > 0);
	CHECK(maps.refused > 0);
	ctx_close(&maps.ctx);
}

static const enum server spinning = SERVER_SPINNING, sleeping = SERVER_SLEEPING;
static const unsigned long ring_worker, wq_worker = 2;

static const struct ktap_test others[] = {
	TEST("before SETUP every other call gives -EBADFD, whatever its argument", before_setup),
	TEST("after the owner's close every call but STATS gives -ESHUTDOWN", after_close),
	TEST("a ring with a spinning server cannot be claimed again", claimed_twice, .arg = &spinning),
	TEST("a ring with a sleeping server cannot be claimed again", claimed_twice, .arg = &sleeping),
	TEST("of threads that claim one ring together one stays and the others get -EBUSY", claim_race,
	     .arg = &ring_worker),
	TEST("of threads that claim one wq worker together one stays and the others get -EBUSY", claim_race,
	     .arg = &wq_worker),
	TEST("every wait ends with -EINTR when a signal comes", waits_interrupted),
	TEST("every wait lasts as long as asked and ends with -ETIME", waits_last),
	TEST("no wait waits while there is something to reap", waits_see_completions),
	TEST("a bounded ENTER ends when another ring can be reaped, and leaves the rest in the SQ", enter_is_polite),
	TEST("buffers are registered all or not at all, once at a time", buffers_register),
	TEST("buffer groups come and go, and their mapping outlives them", groups_register),
	TEST("a buffer group unregistered in the middle of mapping it hangs nobody", group_unregistered_while_mapped),
};

int main(int argc, char **argv)
{
	enum { VALUES = NR(value_cases), STRUCTS = NR(struct_cases), OTHERS = NR(others) };
	struct ktap_test tests[VALUES + STRUCTS + OTHERS];

	for (size_t i = 0; i < VALUES; i++)
		tests[i] = (struct ktap_test) TEST(value_cases[i].name, by_value, .arg = &value_cases[i]);
	for (size_t i = 0; i < STRUCTS; i++)
		tests[VALUES + i] = (struct ktap_test) TEST(struct_cases[i].name, by_struct, .arg = &struct_cases[i]);
	memcpy(tests + VALUES + STRUCTS, others, sizeof(others));
	return ktap_main(tests, NR(tests), argc, argv);
}
