// SPDX-License-Identifier: GPL-2.0
/* Multishot ACCEPT and RECV, provided buffers, fairness between busy connections, and the hybrid way of serving. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

#define BUF_BYTES	256

/* A buffer group: @entries buffers of BUF_BYTES, all given to the kernel at first. */
struct group {
	uint16_t number;
	uint32_t entries;
	struct fastio_buf_ring *ring;
	size_t bytes;
	uint32_t tail;
	char (*memory)[BUF_BYTES];
};

static void group_give(struct group *group, uint16_t bid, uint32_t len)
{
	group->ring->bufs[group->tail & (group->entries - 1)] = (struct fastio_buf) {
		.addr = ADDR(group->memory[bid]), .len = len, .bid = bid,
	};
	__atomic_store_n(&group->ring->tail, ++group->tail, __ATOMIC_RELEASE);
}

static void group_open(struct group *group, struct ctx *ctx, uint16_t number, uint32_t entries, uint32_t given)
{
	struct fastio_buf_group arg = { .group = number, .entries = entries };

	NEED_EQ(device_ioctl(ctx->fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&arg)), 0);
	*group = (struct group) { .number = number, .entries = entries, .bytes = arg.bytes };
	group->ring = mmap(NULL, arg.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ctx->fd, arg.mmap_off);
	NEED(group->ring != MAP_FAILED, "mmap: %s", strerror(errno));
	group->memory = calloc(entries, BUF_BYTES);
	NEED(group->memory);
	for (uint32_t i = 0; i < given; i++)
		group_give(group, i, BUF_BYTES);
}

/* Checks that a CQE brings a buffer of the group, and returns its id. */
static uint16_t buffer_of(const struct group *group, struct fastio_cqe cqe)
{
	NEED(cqe.flags & FASTIO_CQE_BUFFER, "res %d flags %#x", cqe.res, cqe.flags);
	NEED(cqe.flags >> FASTIO_CQE_BUFFER_SHIFT < group->entries);
	return cqe.flags >> FASTIO_CQE_BUFFER_SHIFT;
}

static void select_one(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_cqe cqe;
	struct group group;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	group_open(&group, &ctx, 9, 4, 2);
	/* A receive that waits holds no buffer: it takes one when the data is there. */
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = v->slot | FASTIO_SQE_BUF_SELECT, .buf = 9, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_write(pair[1], "one", 3);
	cqe = ring_wait(&ctx, 0);
	CHECK_EQ(cqe.res, 3);
	CHECK(!(cqe.flags & FASTIO_CQE_MORE));
	CHECK_EQ(buffer_of(&group, cqe), 0, "in the order given");
	CHECK(!memcmp(group.memory[0], "one", 3));
	/* len bounds what goes into the buffer. */
	net_write(pair[1], "twothree", 8);
	cqe = op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot | FASTIO_SQE_BUF_SELECT, .buf = 9, .len = 3));
	CHECK_EQ(cqe.res, 3);
	CHECK_EQ(buffer_of(&group, cqe), 1);
	CHECK(!memcmp(group.memory[1], "two", 3));
	/* None left. */
	cqe = op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot | FASTIO_SQE_BUF_SELECT, .buf = 9));
	CHECK_EQ(cqe.res, -ENOBUFS);
	CHECK(!(cqe.flags & FASTIO_CQE_BUFFER));
	group_give(&group, 3, BUF_BYTES);
	cqe = op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot | FASTIO_SQE_BUF_SELECT, .buf = 9));
	CHECK_EQ(cqe.res, 5);
	CHECK_EQ(buffer_of(&group, cqe), 3);
	/* The end keeps no buffer: the same one serves the next. */
	group_give(&group, 2, BUF_BYTES);
	shutdown(pair[1], SHUT_WR);
	cqe = op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot | FASTIO_SQE_BUF_SELECT, .buf = 9));
	CHECK_EQ(cqe.res, 0);
	CHECK(!(cqe.flags & FASTIO_CQE_BUFFER));
	net_pair(pair);
	net_write(pair[1], "x", 1);
	cqe = op_run(&ctx, 0, OP(RECV, pair[0], .flags = v->slot | FASTIO_SQE_BUF_SELECT, .buf = 9));
	CHECK_EQ(buffer_of(&group, cqe), 2);
	ctx_close(&ctx);
}

static void select_fused(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_cqe cqe;
	struct group group;
	struct ctx ctx;
	char data[8];
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	group_open(&group, &ctx, 0, 2, 2);
	for (unsigned int i = 0; i < 20; i++) {
		uint16_t bid;

		ring_push(&ctx, 0, OP(SEND_RECV, pair[0], .flags = v->slot | FASTIO_SQE_BUF_SELECT, .addr = ADDR("re"),
				      .len = 2, .user_data = i));
		ring_submit(&ctx, 0);
		ring_idle(&ctx, 0, 2);
		net_read(pair[1], data, 2);
		snprintf(data, sizeof(data), "m%04u", i);
		net_write(pair[1], data, 5);
		cqe = ring_wait(&ctx, 0);
		CHECK_EQ(cqe.user_data, i);
		CHECK_EQ(cqe.res, 5);
		bid = buffer_of(&group, cqe);
		CHECK(!memcmp(group.memory[bid], data, 5));
		group_give(&group, bid, BUF_BYTES);
	}
	ctx_close(&ctx);
}

static void select_bad(const void *arg)
{
	const struct variant *v = arg;
	uint8_t flags = v->slot | FASTIO_SQE_BUF_SELECT;
	struct fastio_cqe cqe;
	struct group group;
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, v, 2);
	net_pair(pair);
	group_open(&group, &ctx, 1, 8, 0);
	net_write(pair[1], "kept", 4);
	group_give(&group, 0, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = flags, .buf = 1)).res, -EINVAL, "a buffer of no length");
	/* A failed receive keeps no buffer, so that buffer is still the next; replace it. */
	group.ring->bufs[0] = (struct fastio_buf) { .addr = 0x10, .len = BUF_BYTES };
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = flags, .buf = 1)).res, -EFAULT, "a buffer nowhere");
	group.ring->bufs[0] = (struct fastio_buf) { .addr = ADDR(group.memory[0]), .len = BUF_BYTES, .bid = 5 };
	cqe = op_run(&ctx, 0, OP(RECV, pair[0], .flags = flags, .buf = 1));
	CHECK_EQ(cqe.res, 4);
	CHECK_EQ(buffer_of(&group, cqe), 5);
	CHECK(!memcmp(group.memory[0], "kept", 4));
	/* Of another ring's group. */
	net_pair(pair);
	net_write(pair[1], "x", 1);
	CHECK_EQ(op_run(&ctx, 1, OP(RECV, pair[0], .flags = flags, .buf = 1)).res, -EXDEV);
	ctx_close(&ctx);
}

static void recv_multishot(const void *arg)
{
	enum { ROUNDS = 200 };
	const struct variant *v = arg;
	uint8_t flags = v->slot | FASTIO_SQE_BUF_SELECT | FASTIO_SQE_MULTISHOT;
	uint64_t sent = 0, received = 0;
	struct fastio_cqe cqe;
	struct group group;
	struct ctx ctx;
	char data[700];
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	group_open(&group, &ctx, 2, 4, 4);
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = flags, .buf = 2, .user_data = 77));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		size_t bytes = 1 + round * 37 % sizeof(data);

		pattern_fill(data, bytes, 1, sent);
		net_write(pair[1], data, bytes);
		sent += bytes;
		while (received < sent) {
			uint16_t bid;

			cqe = ring_wait(&ctx, 0);
			NEED(cqe.user_data == 77 && cqe.res > 0, "res %d", cqe.res);
			CHECK(cqe.flags & FASTIO_CQE_MORE);
			bid = buffer_of(&group, cqe);
			if (!pattern_check(group.memory[bid], cqe.res, 1, received))
				ktap_abort();
			received += cqe.res;
			group_give(&group, bid, BUF_BYTES);
		}
	}
	CHECK_EQ(ring_stats(&ctx, 0).in_flight, 1);
	CHECK(ring_stats(&ctx, 0).multishot >= ROUNDS);
	/* The end is its last completion. */
	close(pair[1]);
	cqe = ring_wait(&ctx, 0);
	CHECK_EQ(cqe.res, 0);
	CHECK_EQ(cqe.flags & (FASTIO_CQE_MORE | FASTIO_CQE_BUFFER), 0);
	CHECK_EQ(ring_stats(&ctx, 0).in_flight, 0);
	ctx_close(&ctx);
}

/* An empty group ends a multishot with a completion that says so; nothing received is lost; it can be armed again. */
static void recv_multishot_no_buffers(const void *arg)
{
	const struct variant *v = arg;
	uint8_t flags = v->slot | FASTIO_SQE_BUF_SELECT | FASTIO_SQE_MULTISHOT;
	uint64_t received = 0;
	struct fastio_cqe cqe;
	struct group group;
	struct ctx ctx;
	char data[10 * BUF_BYTES];
	int pair[2];

	variant_open(&ctx, v, 1);
	net_pair(pair);
	group_open(&group, &ctx, 2, 4, 4);
	pattern_fill(data, sizeof(data), 2, 0);
	net_write(pair[1], data, sizeof(data));
	for (int round = 0; round < 3; round++) {
		unsigned int took = 0;

		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = flags, .buf = 2, .user_data = 78));
		ring_submit(&ctx, 0);
		while (took < 4 && received < sizeof(data)) {
			uint16_t bid;

			cqe = ring_wait(&ctx, 0);
			NEED(cqe.res > 0, "res %d", cqe.res);
			bid = buffer_of(&group, cqe);
			pattern_check(group.memory[bid], cqe.res, 2, received);
			received += cqe.res;
			took++;
			NEED(cqe.flags & FASTIO_CQE_MORE);
		}
		if (received == sizeof(data))
			break;
		cqe = ring_wait(&ctx, 0);
		CHECK_EQ(cqe.res, -ENOBUFS);
		CHECK_EQ(cqe.flags & (FASTIO_CQE_MORE | FASTIO_CQE_BUFFER), 0);
		ring_expect_nothing(&ctx, 0);
		for (uint16_t bid = 0; bid < 4; bid++)
			group_give(&group, bid, BUF_BYTES);
	}
	CHECK_EQ(received, sizeof(data));
	ctx_close(&ctx);
}

/* A multishot that nobody reaps fills the CQ and stops there; when it is reaped it goes on, with every byte. */
static void recv_multishot_cq_full(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_setup setup = ctx_defaults(1);
	uint8_t flags = v->slot | FASTIO_SQE_BUF_SELECT | FASTIO_SQE_MULTISHOT;
	uint64_t received = 0;
	struct group group;
	struct ctx ctx;
	char data[64];
	int pair[2];

	setup.sq_entries = setup.cq_entries = 8;
	ctx_open(&ctx, &setup, v->server);
	net_pair(pair);
	group_open(&group, &ctx, 2, 64, 64);
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = flags, .buf = 2, .len = 1, .user_data = 79));
	ring_submit(&ctx, 0);
	pattern_fill(data, sizeof(data), 3, 0);
	net_write(pair[1], data, sizeof(data));
	while (received < sizeof(data)) {
		struct fastio_cqe cqe;

		ring_idle(&ctx, 0, 5);
		NEED(ctx.ring[0].head->cq_tail - (uint32_t)received <= 8, "the CQ overflowed");
		for (int i = 0; i < 8 && received < sizeof(data); i++) {
			cqe = ring_wait(&ctx, 0);
			NEED(cqe.res == 1 && cqe.flags & FASTIO_CQE_MORE, "res %d flags %#x", cqe.res, cqe.flags);
			CHECK_EQ((uint8_t)group.memory[buffer_of(&group, cqe)][0], pattern_byte(3, received));
			received++;
		}
	}
	/* It can be cancelled; the last completion is its own. */
	ring_push(&ctx, 0, OP(CANCEL, 0, .addr = 79, .user_data = 1));
	ring_submit(&ctx, 0);
	CHECK_EQ(ring_expect(&ctx, 0, 79, -ECANCELED) & FASTIO_CQE_MORE, 0);
	ring_expect(&ctx, 0, 1, 1);
	ctx_close(&ctx);
}

static void accept_multishot(const void *arg)
{
	enum { CLIENTS = 40 };
	const struct variant *v = arg;
	struct rlimit limit = { 0, 0 };
	int clients[CLIENTS], listener, fds[CLIENTS], spare;
	struct sockaddr_in addr;
	struct fastio_cqe cqe;
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	if (!(ctx.setup.ops & 1ULL << FASTIO_OP_ACCEPT))
		ktap_skip("ACCEPT is switched off: a security module must see it");
	listener = net_listen(&addr);
	ring_push(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot | FASTIO_SQE_MULTISHOT, .op_flags = SOCK_NONBLOCK,
			      .user_data = 5));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = net_connect(&addr);
	for (int i = 0; i < CLIENTS; i++) {
		cqe = ring_wait(&ctx, 0);
		NEED(cqe.user_data == 5 && cqe.res >= 0, "res %d", cqe.res);
		CHECK(cqe.flags & FASTIO_CQE_MORE);
		CHECK(fcntl(cqe.res, F_GETFL) & O_NONBLOCK);
		fds[i] = cqe.res;
		for (int j = 0; j < i; j++)
			NEED(fds[j] != fds[i], "descriptor %d given twice", fds[i]);
	}
	/* An error ends it: no descriptor left. */
	spare = dup(0);
	limit.rlim_cur = limit.rlim_max = spare + 1;
	NEED_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	close(spare);
	NEED_EQ((spare = socket(AF_INET, SOCK_STREAM, 0)) >= 0, 1);
	NEED_EQ(connect(spare, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cqe = ring_wait(&ctx, 0);
	CHECK_EQ(cqe.res, -EMFILE);
	CHECK(!(cqe.flags & FASTIO_CQE_MORE));
	close(clients[0]);
	/* The connection still waits: armed again, it comes. */
	cqe = op_run(&ctx, 0, OP(ACCEPT, listener, .flags = v->slot));
	CHECK_EQ(cqe.res, clients[0]);
	ctx_close(&ctx);
}

struct flood {
	int fd;
	atomic_bool stop;
};

static void *flood_main(void *arg)
{
	static const char zeros[4096];
	struct flood *flood = arg;

	while (!flood->stop)
		if (send(flood->fd, zeros, sizeof(zeros), MSG_NOSIGNAL) < 0)
			break;
	return NULL;
}

/* A connection that always has data and is always reaped must not starve a quiet one on the same ring. */
static void fairness(const void *arg)
{
	enum { PINGS = 20, PATIENCE = 2000 };
	const struct variant *v = arg;
	struct fastio_setup setup = ctx_defaults(1);
	uint8_t flags = v->slot | FASTIO_SQE_BUF_SELECT | FASTIO_SQE_MULTISHOT;
	struct flood flood = { 0 };
	struct group group;
	pthread_t thread;
	struct ctx ctx;
	int noisy[2], quiet[2];
	char byte;

	setup.cq_entries = 64;
	ctx_open(&ctx, &setup, v->server);
	net_pair(noisy);
	net_pair(quiet);
	group_open(&group, &ctx, 0, 256, 256);
	ring_push(&ctx, 0, OP(RECV, noisy[0], .flags = flags, .buf = 0, .len = 16, .user_data = 1));
	ring_submit(&ctx, 0);
	flood.fd = noisy[1];
	NEED_EQ(pthread_create(&thread, NULL, flood_main, &flood), 0);
	for (unsigned int ping = 0; ping < PINGS; ping++) {
		unsigned int others = 0;

		ring_push(&ctx, 0, OP(RECV, quiet[0], .flags = v->slot, .addr = ADDR(&byte), .len = 1, .user_data = 2));
		ring_submit(&ctx, 0);
		net_write(quiet[1], "q", 1);
		for (;;) {
			struct fastio_cqe cqe = ring_wait(&ctx, 0);

			if (cqe.user_data == 2) {
				CHECK_EQ(cqe.res, 1);
				break;
			}
			NEED(cqe.res > 0 && cqe.flags & FASTIO_CQE_MORE, "res %d", cqe.res);
			group_give(&group, buffer_of(&group, cqe), BUF_BYTES);
			others++;
			NEED(others < PATIENCE, "ping %u waits behind %u completions of the other", ping, others);
		}
	}
	flood.stop = true;
	shutdown(noisy[1], SHUT_RDWR);
	pthread_join(thread, NULL);
	ctx_close(&ctx);
}

/* Hybrid: a ring left alone after ENTER says by @enter that it has I/O ready, and WAIT and poll() see that. */
static void hybrid(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(2);
	struct pollfd events = { .events = POLLIN };
	char byte;
	struct ctx ctx;
	int pair[2];

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_NONE);
	ctx_donate(&ctx, 0);
	events.fd = ctx.fd;
	net_pair(pair);
	for (int round = 0; round < 50; round++) {
		ring_push(&ctx, 1, OP(RECV, pair[0], .flags = FASTIO_SQE_SLOT, .addr = ADDR(&byte), .len = 1,
				      .user_data = round));
		ring_submit(&ctx, 1);
		CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, 0, 0, 0)), 0);
		CHECK_EQ(__atomic_load_n(&ctx.ring[1].head->enter, __ATOMIC_ACQUIRE), 0);
		CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_WAIT, 0), -ETIME);
		CHECK_EQ(poll(&events, 1, 0), 0);
		net_write(pair[1], "h", 1);
		NEED_EQ(device_ioctl(ctx.fd, FASTIO_IOC_WAIT, 10000000UL * ktap_slowness()), 0, "round %d", round);
		CHECK_EQ(poll(&events, 1, 0), 1);
		CHECK(__atomic_load_n(&ctx.ring[1].head->enter, __ATOMIC_ACQUIRE) != 0);
		CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_ENTER, FASTIO_ENTER(1, 0, 0, 0)), 1);
		ring_expect(&ctx, 1, round, 1);
		CHECK_EQ(op_run(&ctx, 0, OP(NOP, 0)).res, 0, "the donated worker serves its own ring meanwhile");
	}
	ctx_close(&ctx);
}

static const struct ktap_test tests[] = {
	TEST("BUF_SELECT takes buffers in order and says when there is none", select_one),
	TEST("SEND_RECV with BUF_SELECT", select_fused),
	TEST("provided buffers of no length, nowhere, or of another ring", select_bad),
	TEST("multishot RECV delivers every byte in order", recv_multishot, .timeout_s = 120),
	TEST("multishot RECV ends with -ENOBUFS and loses nothing", recv_multishot_no_buffers),
	TEST("multishot RECV stops at a full CQ and goes on", recv_multishot_cq_full),
	TEST("multishot ACCEPT", accept_multishot),
	TEST("a busy multishot does not starve a quiet connection", fairness),
	TEST("an application thread drains its ring between others (hybrid)", hybrid),
};

int main(int argc, char **argv)
{
	return variants_main(tests, NR(tests), true, argc, argv);
}
