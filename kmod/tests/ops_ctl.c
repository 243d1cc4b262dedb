// SPDX-License-Identifier: GPL-2.0
/* NOP, TIMEOUT and CANCEL, the full SQ and the full CQ, and the counters. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

#define MS	1000000ULL

static char buffer[1 << 16];

static void nops_in_order(const void *arg)
{
	struct ctx ctx;
	uint64_t pushed = 0, reaped = 0;

	variant_open(&ctx, arg, 1);
	while (reaped < 20000) {
		unsigned int batch = pushed * 7 % 64 + 1;

		while (pushed < 20000 && batch-- && ring_room(&ctx, 0))
			ring_push(&ctx, 0, OP(NOP, 0, .user_data = pushed++ << 32 | 0xabcd));
		ring_submit(&ctx, 0);
		do
			ring_expect(&ctx, 0, reaped++ << 32 | 0xabcd, 0);
		while (reaped < pushed && reaped % 50);
	}
	ring_expect_nothing(&ctx, 0);
	ctx_close(&ctx);
}

static void timeouts(const void *arg)
{
	struct ctx ctx;
	uint64_t start;

	variant_open(&ctx, arg, 1);
	start = now_ns();
	CHECK_EQ(op_run(&ctx, 0, OP(TIMEOUT, 0, .off = 50 * MS)).res, -ETIME);
	CHECK(now_ns() - start >= 50 * MS, "it took %llu ns", (unsigned long long)(now_ns() - start));
	start = now_ns();
	CHECK_EQ(op_run(&ctx, 0, OP(TIMEOUT, 0, .off = start + 50 * MS, .op_flags = FASTIO_TIMEOUT_ABS)).res, -ETIME);
	CHECK(now_ns() - start >= 50 * MS, "it took %llu ns", (unsigned long long)(now_ns() - start));
	CHECK_EQ(op_run(&ctx, 0, OP(TIMEOUT, 0)).res, -ETIME, "no time at all");
	CHECK_EQ(op_run(&ctx, 0, OP(TIMEOUT, 0, .off = 1, .op_flags = FASTIO_TIMEOUT_ABS)).res, -ETIME, "in the past");
	CHECK_EQ(op_run(&ctx, 0, OP(TIMEOUT, 0, .off = 1ULL << 63)).res, -EINVAL, "beyond the clock's range");
	CHECK_EQ(op_run(&ctx, 0, OP(TIMEOUT, 0, .off = ~0ULL, .op_flags = FASTIO_TIMEOUT_ABS)).res, -EINVAL);
	ctx_close(&ctx);
}

static void timeouts_in_order(const void *arg)
{
	static const unsigned int order[] = { 3, 1, 4, 0, 2 };
	uint64_t base;
	struct ctx ctx;

	variant_open(&ctx, arg, 1);
	base = now_ns() + 30 * MS * ktap_slowness();
	for (size_t i = 0; i < NR(order); i++)
		ring_push(&ctx, 0, OP(TIMEOUT, 0, .off = base + order[i] * 20 * MS, .op_flags = FASTIO_TIMEOUT_ABS,
				      .user_data = order[i]));
	/* These never come. */
	ring_push(&ctx, 0, OP(TIMEOUT, 0, .off = INT64_MAX, .user_data = 100));
	ring_push(&ctx, 0, OP(TIMEOUT, 0, .off = INT64_MAX, .op_flags = FASTIO_TIMEOUT_ABS, .user_data = 101));
	ring_submit(&ctx, 0);
	for (unsigned int i = 0; i < NR(order); i++)
		ring_expect(&ctx, 0, i, -ETIME);
	CHECK(now_ns() >= base + 4 * 20 * MS);
	ring_expect_nothing(&ctx, 0);
	ctx_close(&ctx);
}

static void cancel_by_data(const void *arg)
{
	const struct variant *v = arg;
	struct sockaddr_in addr;
	struct ctx ctx;
	int pair[2], clogged[2], listener = net_listen(&addr);

	variant_open(&ctx, v, 1);
	net_pair(pair);
	NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, clogged), 0);
	net_clog(clogged[0]);
	const struct fastio_sqe waiting[] = {
		OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9),
		OP(SEND, clogged[0], .flags = v->slot, .addr = ADDR("x"), .len = 1),
		OP(POLL, pair[0], .op_flags = POLLIN),
		OP(TIMEOUT, 0, .off = 3600 * 1000 * MS),
		OP(SEND_RECV, pair[0], .flags = v->slot, .addr2 = ADDR(buffer), .len2 = 9),
		OP(ACCEPT, listener, .flags = v->slot),
	};

	for (size_t i = 0; i < NR(waiting); i++) {
		struct fastio_sqe sqe = waiting[i];

		if (sqe.opcode == FASTIO_OP_ACCEPT && !(ctx.setup.ops & 1ULL << FASTIO_OP_ACCEPT))
			continue;
		sqe.user_data = 0x7700 + i;
		CHECK_EQ(op_run(&ctx, 0, OP(CANCEL, 0, .addr = 0x7700 + i)).res, -ENOENT);
		ring_push(&ctx, 0, sqe);
		ring_submit(&ctx, 0);
		ring_expect_nothing(&ctx, 0);
		CHECK_EQ(op_run(&ctx, 0, OP(CANCEL, 0, .addr = 0x7799)).res, -ENOENT);
		ring_push(&ctx, 0, OP(CANCEL, 0, .addr = 0x7700 + i, .user_data = 1));
		ring_submit(&ctx, 0);
		ring_expect(&ctx, 0, 0x7700 + i, -ECANCELED);
		ring_expect(&ctx, 0, 1, 1);
		CHECK_EQ(op_run(&ctx, 0, OP(CANCEL, 0, .addr = 0x7700 + i)).res, -ENOENT);
	}
	CHECK_EQ(ring_stats(&ctx, 0).in_flight, 0);
	ctx_close(&ctx);
}

static void cancel_many(const void *arg)
{
	const struct variant *v = arg;
	struct ctx ctx;
	int pair[2], other[2];

	variant_open(&ctx, v, 2);
	net_pair(pair);
	net_pair(other);
	for (unsigned int i = 0; i < 3; i++) {
		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9, .user_data = 7));
		ring_push(&ctx, 0, OP(RECV, other[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9, .user_data = 8));
		ring_push(&ctx, 0, OP(TIMEOUT, 0, .off = 3600 * 1000 * MS, .user_data = 7));
	}
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	CHECK_EQ(op_run(&ctx, 1, OP(CANCEL, 0, .addr = 7, .op_flags = FASTIO_CANCEL_ALL)).res, -ENOENT, "of another ring");
	/* Without ALL the oldest goes. */
	ring_push(&ctx, 0, OP(CANCEL, 0, .addr = 7, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect(&ctx, 0, 7, -ECANCELED);
	ring_expect(&ctx, 0, 1, 1);
	/* By descriptor: only those on it. */
	ring_push(&ctx, 0, OP(CANCEL, other[0], .op_flags = FASTIO_CANCEL_FD | FASTIO_CANCEL_ALL, .user_data = 2));
	ring_submit(&ctx, 0);
	for (unsigned int i = 0; i < 3; i++)
		ring_expect(&ctx, 0, 8, -ECANCELED);
	ring_expect(&ctx, 0, 2, 3);
	ring_push(&ctx, 0, OP(CANCEL, 0, .addr = 7, .op_flags = FASTIO_CANCEL_ALL, .user_data = 3));
	ring_submit(&ctx, 0);
	for (unsigned int i = 0; i < 5; i++)
		ring_expect(&ctx, 0, 7, -ECANCELED);
	ring_expect(&ctx, 0, 3, 5);
	CHECK_EQ(op_run(&ctx, 0, OP(CANCEL, pair[0], .op_flags = FASTIO_CANCEL_FD)).res, -ENOENT);
	CHECK_EQ(ring_stats(&ctx, 0).in_flight, 0);
	ctx_close(&ctx);
}

struct peer {
	int fd;
	unsigned int rounds;
	atomic_uint go;
};

static void *write_when_told(void *arg)
{
	struct peer *peer = arg;

	for (unsigned int round = 1; round <= peer->rounds; round++) {
		while (peer->go < round)
			sched_yield();
		net_write(peer->fd, "!", 1);
	}
	return NULL;
}

/* Data arrives while its receive is being cancelled: one or the other happens, and no byte is lost or doubled. */
static void cancel_race(const void *arg)
{
	enum { ROUNDS = 500 };
	const struct variant *v = arg;
	struct peer peer = { .rounds = ROUNDS };
	unsigned int cancelled = 0, bytes = 0;
	pthread_t thread;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	peer.fd = pair[1];
	NEED_EQ(pthread_create(&thread, NULL, write_when_told, &peer), 0);
	for (unsigned int round = 1; round <= ROUNDS; round++) {
		struct fastio_cqe first, second;

		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 1, .user_data = 1));
		ring_submit(&ctx, 0);
		peer.go = round;
		for (volatile unsigned int i = 0; i < round % 50 * 20; i++)
			;
		ring_push(&ctx, 0, OP(CANCEL, 0, .addr = 1, .user_data = 2));
		ring_submit(&ctx, 0);
		first = ring_wait(&ctx, 0);
		second = ring_wait(&ctx, 0);
		NEED_EQ(first.user_data, 1, "the cancelled operation completes before its cancel");
		NEED_EQ(second.user_data, 2);
		if (first.res == -ECANCELED) {
			CHECK_EQ(second.res, 1);
			cancelled++;
			CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer),
						    .len = 1)).res, 1);
		} else {
			CHECK_EQ(first.res, 1);
			CHECK_EQ(second.res, -ENOENT);
		}
		bytes++;
	}
	pthread_join(thread, NULL);
	CHECK_EQ(bytes, ROUNDS);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot | FASTIO_SQE_NOWAIT, .addr = ADDR(buffer),
				    .len = 9)).res, -EAGAIN, "nothing is left over");
	ktap_say("%u of %u receives were cancelled", cancelled, ROUNDS);
	ctx_close(&ctx);
}

/* An unserved ring takes as many SQEs as it has entries, says so by sq_head, and serves them all once there is a server. */
static void sq_full(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_NONE);
	for (unsigned int i = 0; i < setup.sq_entries; i++)
		ring_push(&ctx, 0, OP(NOP, 0, .user_data = i));
	ring_submit(&ctx, 0);
	CHECK_EQ(ring_room(&ctx, 0), 0);
	sleep_ms(5);
	CHECK_EQ(ring_room(&ctx, 0), 0);
	ctx_donate(&ctx, 0);
	for (unsigned int i = 0; i < setup.sq_entries; i++)
		ring_expect(&ctx, 0, i, 0);
	CHECK_EQ(ring_room(&ctx, 0), setup.sq_entries);
	ctx_close(&ctx);
}

/* The CQ never overflows: a server stops taking SQEs when there might be no room, and goes on when there is. */
static void cq_full(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	const struct variant *v = arg;
	uint64_t reaped = 0, pushed = 0;
	struct fastio_cqe cqe;
	struct ctx ctx;

	setup.sq_entries = 8;
	setup.cq_entries = 16;
	ctx_open(&ctx, &setup, v->server);
	for (unsigned int round = 0; round < 10; round++) {
		uint64_t end = now_ns() + 10000000000ULL * ktap_slowness();

		while ((pushed < reaped + 24 || ctx.ring[0].head->cq_tail - (uint32_t)reaped < 16) &&
		       now_ns() < end) {
			while (ring_room(&ctx, 0))
				ring_push(&ctx, 0, OP(NOP, 0, .user_data = pushed++));
			ring_submit(&ctx, 0);
			ring_idle(&ctx, 0, 1);
		}
		/* 16 are completed and wait to be reaped, 8 wait to be taken. */
		NEED_EQ(pushed, reaped + 24);
		CHECK_EQ(ctx.ring[0].head->cq_tail - (uint32_t)reaped, 16);
		ring_idle(&ctx, 0, 20);
		CHECK_EQ(ctx.ring[0].head->cq_tail - (uint32_t)reaped, 16);
		while (reaped < pushed)
			ring_expect(&ctx, 0, reaped++, 0);
		CHECK(!ring_peek(&ctx, 0, &cqe));
	}
	CHECK(ring_stats(&ctx, 0).cq_stalls > 0);
	ctx_close(&ctx);
}

/* Operations that wait hold their room in the CQ: a full house of them can complete at once. */
static void cq_full_of_waiters(const void *arg)
{
	enum { ENTRIES = 16 };
	const struct variant *v = arg;
	struct fastio_setup setup = ctx_defaults(1);
	int pairs[ENTRIES][2];
	unsigned int seen = 0;
	struct ctx ctx;

	setup.sq_entries = ENTRIES;
	setup.cq_entries = ENTRIES;
	ctx_open(&ctx, &setup, v->server);
	for (unsigned int i = 0; i < ENTRIES; i++) {
		net_pair(pairs[i]);
		ring_push(&ctx, 0, OP(RECV, pairs[i][0], .flags = v->slot, .addr = ADDR(buffer), .len = 9,
				      .user_data = i));
	}
	ring_submit(&ctx, 0);
	ring_wait_taken(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (unsigned int i = 0; i < ENTRIES; i++)
		ring_push(&ctx, 0, OP(NOP, 0, .user_data = 100 + i));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (unsigned int i = 0; i < ENTRIES; i++)
		net_write(pairs[i][1], "x", 1);
	while (seen < 2 * ENTRIES) {
		struct fastio_cqe cqe = ring_wait(&ctx, 0);

		CHECK_EQ(cqe.res, cqe.user_data < 100 ? 1 : 0);
		seen++;
	}
	ctx_close(&ctx);
}

/* epoll on the device: level- and edge-triggered. */
static void device_in_epoll(const void *arg)
{
	const struct variant *v = arg;
	struct epoll_event event = { .events = EPOLLIN }, got;
	int epoll = epoll_create1(0), edge = epoll_create1(0);
	struct fastio_cqe cqe;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	if (v->server == SERVER_INLINE)
		ktap_skip("nobody serves the ring while this thread waits in epoll");
	net_pair(pair);
	NEED_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, ctx.fd, &event), 0);
	event.events |= EPOLLET;
	NEED_EQ(epoll_ctl(edge, EPOLL_CTL_ADD, ctx.fd, &event), 0);
	CHECK_EQ(epoll_wait(epoll, &got, 1, 0), 0);
	for (unsigned int i = 0; i < 50; i++) {
		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9, .user_data = i));
		ring_submit(&ctx, 0);
		net_write(pair[1], "x", 1);
		NEED_EQ(epoll_wait(epoll, &got, 1, 10000 * ktap_slowness()), 1, "round %u", i);
		CHECK(got.events & EPOLLIN);
		NEED_EQ(epoll_wait(edge, &got, 1, 10000 * ktap_slowness()), 1, "round %u, edge", i);
		CHECK_EQ(epoll_wait(epoll, &got, 1, 0), 1, "still there");
		CHECK(ring_peek(&ctx, 0, &cqe));
		CHECK_EQ(cqe.user_data, i);
		CHECK_EQ(epoll_wait(epoll, &got, 1, 0), 0, "reaped");
	}
	ctx_close(&ctx);
}

static void counters(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_stats stats;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	for (unsigned int i = 0; i < 10; i++)
		op_run(&ctx, 0, OP(NOP, 0));
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot, .addr = ADDR(buffer), .len = 9, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	stats = ring_stats(&ctx, 0);
	CHECK_EQ(stats.submitted, 11);
	CHECK_EQ(stats.completed, 10);
	CHECK_EQ(stats.in_flight, 1);
	CHECK(stats.armed >= 1 && stats.parked >= 1);
	CHECK_EQ(stats.slots, v->slot ? 1 : 0);
	if (v->server == SERVER_INLINE)
		CHECK(stats.enters > 0);
	if (v->server == SERVER_SLEEPING)
		CHECK(stats.sleeps > 0);
	if (v->server == SERVER_SPINNING)
		CHECK(stats.spins > 0);
	net_write(pair[1], "x", 1);
	ring_expect(&ctx, 0, 1, 1);
	stats = ring_stats(&ctx, 0);
	CHECK_EQ(stats.completed, 11);
	CHECK_EQ(stats.in_flight, 0);
	CHECK(stats.ready >= 1);
	ctx_close(&ctx);
}

static const struct ktap_test tests[] = {
	TEST("20,000 NOPs complete once each, in order", nops_in_order, .timeout_s = 120),
	TEST("TIMEOUT lasts as long as asked", timeouts),
	TEST("TIMEOUTs expire in order of their time", timeouts_in_order),
	TEST("CANCEL by user_data ends each kind of waiting operation", cancel_by_data),
	TEST("CANCEL of all, of the oldest, and by descriptor", cancel_many),
	TEST("CANCEL racing with data loses nothing", cancel_race),
	TEST("a full SQ is reported and served later", sq_full),
	TEST("a full CQ stalls the ring and loses nothing", cq_full),
	TEST("a CQ full of waiting operations can take all their completions", cq_full_of_waiters),
	TEST("the device in epoll, level- and edge-triggered", device_in_epoll),
	TEST("the counters tell what happened", counters),
};

int main(int argc, char **argv)
{
	return variants_main(tests, NR(tests), true, argc, argv);
}
