// SPDX-License-Identifier: GPL-2.0
/* FastIO on one ring: receive and send apart or fused, by a polling worker or by the application thread itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../ktap.h"
#include "bench.h"

#define IS_SEND	(1ULL << 32)

static char data[CONNS_MAX + 64][MESSAGE_BYTES];

/* Whether workers that start from now on count the time of the passes that did work. */
static void account(bool on)
{
	int fd = open("/sys/module/fastio/parameters/account", O_WRONLY);

	NEED(fd >= 0, "the module's parameter account: %s", strerror(errno));
	NEED_EQ(write(fd, on ? "1" : "0", 1), 1);
	close(fd);
}

static void push_recv(struct ctx *ctx, int fd)
{
	ring_push(ctx, 0, OP(RECV, fd, .flags = FASTIO_SQE_SLOT, .addr = ADDR(data[fd]), .len = MESSAGE_BYTES,
			     .user_data = fd));
}

/* Answers one completion. Return: whether a request is done with it. */
static unsigned int answer(struct ctx *ctx, struct fastio_cqe cqe, bool fused)
{
	int fd = cqe.user_data & 0xffffffff;

	NEED_EQ(cqe.res, MESSAGE_BYTES);
	if (fused) {
		ring_push(ctx, 0, OP(SEND_RECV, fd, .flags = FASTIO_SQE_SLOT, .addr = ADDR(data[fd]), .len = MESSAGE_BYTES,
				     .addr2 = ADDR(data[fd]), .len2 = MESSAGE_BYTES, .user_data = fd));
		return 1;
	}
	if (cqe.user_data & IS_SEND) {
		push_recv(ctx, fd);
		return 1;
	}
	ring_push(ctx, 0, OP(SEND, fd, .flags = FASTIO_SQE_SLOT, .addr = ADDR(data[fd]), .len = MESSAGE_BYTES,
			     .user_data = IS_SEND | fd));
	return 0;
}

void serve_fastio(struct bench *bench, int listener, enum server server, bool fused)
{
	struct fastio_setup setup = ctx_defaults(1);
	static struct ctx ctx;

	setup.wq_workers = 0;
	setup.idle_us = server == SERVER_SPINNING ? FASTIO_MAX_IDLE_US : 0;
	account(server == SERVER_SPINNING);
	ctx_open(&ctx, &setup, server);
	if (server == SERVER_SPINNING)
		bench->ctx = &ctx;
	for (unsigned int i = 0; i < bench->conns; i++) {
		int fd;

		while ((fd = accept4(listener, NULL, NULL, 0)) < 0)
			sched_yield();
		NEED(fd < (int)NR(data));
		push_recv(&ctx, fd);
	}
	for (;;) {
		struct fastio_cqe cqe;
		unsigned int served = 0;

		ring_submit(&ctx, 0);
		if (server == SERVER_INLINE)
			device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT, 0, 0));
		else
			device_ioctl(ctx.fd, FASTIO_IOC_WAIT, FASTIO_WAIT_FOREVER);
		while (ring_peek(&ctx, 0, &cqe))
			served += answer(&ctx, cqe, fused);
		if (bench_served(bench, served))
			return;
	}
}

/* Submits and reaps NOPs as the library does, a few instructions each, so that the module's share is what is seen. */
static void nop_batch(struct ctx *ctx, unsigned int batch)
{
	struct ring *r = &ctx->ring[0];
	uint32_t mask = ctx->setup.sq_entries - 1, tail;
	unsigned int left = batch;

	for (unsigned int i = 0; i < batch; i++) {
		struct fastio_sqe *sqe = &r->sq[r->sq_tail++ & mask];

		memset(sqe, 0, sizeof(*sqe));
		sqe->user_data = i;
	}
	ring_submit(ctx, 0);
	while (left) {
		if (ctx->server == SERVER_INLINE)
			device_ioctl(ctx->fd, FASTIO_IOC_ENTER, FASTIO_ENTER(0, FASTIO_ENTER_WAIT, 0, 0));
		else
			device_ioctl(ctx->fd, FASTIO_IOC_WAIT, FASTIO_WAIT_FOREVER);
		tail = __atomic_load_n(&r->head->cq_tail, __ATOMIC_ACQUIRE);
		for (; r->cq_head != tail; r->cq_head++, left--) {
			const struct fastio_cqe *cqe = &r->cq[r->cq_head & (ctx->setup.cq_entries - 1)];

			NEED(cqe->res == 0 && cqe->user_data == batch - left);
		}
		__atomic_store_n(&r->head->cq_head, tail, __ATOMIC_RELEASE);
	}
}

void bench_nops(enum server server, unsigned int batch, uint64_t count)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct bench bench = { 0 };
	struct clocks start, end;
	static struct ctx ctx;

	setup.wq_workers = 0;
	setup.sq_entries = setup.cq_entries = 256;
	account(false);
	ctx_open(&ctx, &setup, server);
	/* The first batches settle where the worker sleeps. */
	for (unsigned int i = 0; i < 8; i++)
		nop_batch(&ctx, batch);
	start = bench_clocks(&bench);
	for (uint64_t done = 0; done < count; done += batch)
		nop_batch(&ctx, batch);
	end = bench_clocks(&bench);
	printf("{\"name\":\"nop %s\",\"batch\":%u,\"count\":%" PRIu64 ",\"processNs\":%" PRIu64 ",\"applicationNs\":%" PRIu64
	       "}\n", server == SERVER_INLINE ? "inline" : "sleeping worker", batch, count, end.process_ns - start.process_ns,
	       end.application_ns - start.application_ns);
	fflush(stdout);
	ctx_close(&ctx);
}

void bench_spin(void)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct bench bench = { 0 };
	struct clocks start, end;
	static struct ctx ctx;
	uint64_t spins;

	setup.wq_workers = 0;
	setup.idle_us = FASTIO_MAX_IDLE_US;
	account(false);
	ctx_open(&ctx, &setup, SERVER_SPINNING);
	op_run(&ctx, 0, OP(NOP, 0));
	sleep_ms(50);
	start = bench_clocks(&bench);
	spins = ring_stats(&ctx, 0).spins;
	sleep_ms(1000);
	end = bench_clocks(&bench);
	spins = ring_stats(&ctx, 0).spins - spins;
	printf("{\"name\":\"spin\",\"count\":%" PRIu64 ",\"processNs\":%" PRIu64 "}\n", spins, end.process_ns - start.process_ns);
	fflush(stdout);
	ctx_close(&ctx);
}
