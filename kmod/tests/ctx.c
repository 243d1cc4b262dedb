// SPDX-License-Identifier: GPL-2.0
/* A context of /dev/fastio for the tests: set-up, donated threads, submission and completion. */
#define _GNU_SOURCE
#include "ctx.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ktap.h"

/* One wait never lasts longer than this, so that a lost wake-up shows as a slow test, not as a hung one. */
#define WAIT_STEP_US	100000

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

void sleep_ms(unsigned int ms)
{
	struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

struct fastio_setup ctx_defaults(unsigned int workers)
{
	return (struct fastio_setup) {
		.version = FASTIO_ABI_VERSION,
		.workers = workers,
		.wq_workers = 1,
		.sq_entries = 64,
		.cq_entries = 128,
	};
}

int device_open(void)
{
	int fd = open(FASTIO_DEVICE, O_RDWR | O_CLOEXEC);

	NEED(fd >= 0, "%s: %s", FASTIO_DEVICE, strerror(errno));
	return fd;
}

long device_ioctl(int fd, unsigned long command, unsigned long arg)
{
	int ret = ioctl(fd, command, arg);

	return ret < 0 ? -errno : ret;
}

static void *donor_main(void *arg)
{
	const struct donor *donor = arg;
	long ret;

	/* 0 and -EINTR mean that the kernel had something to do on the way out: come back in. */
	do
		ret = device_ioctl(donor->ctx->fd, FASTIO_IOC_WORKER, donor->index);
	while (ret == 0 || ret == -EINTR);
	return (void *)ret;
}

void ctx_donate(struct ctx *ctx, unsigned long index)
{
	struct donor *donor = &ctx->donors[ctx->nr_donors++];
	sigset_t all, old;

	*donor = (struct donor) { .ctx = ctx, .index = index };
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	NEED_EQ(pthread_create(&donor->thread, NULL, donor_main, donor), 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void ctx_open(struct ctx *ctx, const struct fastio_setup *setup, enum server server)
{
	unsigned int first, i;

	memset(ctx, 0, sizeof(*ctx));
	ctx->server = server;
	ctx->setup = *setup;
	if (server == SERVER_SPINNING && !ctx->setup.idle_us)
		ctx->setup.idle_us = 1000000;
	ctx->fd = device_open();
	NEED_EQ(device_ioctl(ctx->fd, FASTIO_IOC_SETUP, ADDR(&ctx->setup)), 0);
	ctx->map_bytes = (size_t)ctx->setup.ring_bytes * ctx->setup.workers;
	ctx->map = mmap(NULL, ctx->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ctx->fd, 0);
	NEED(ctx->map != MAP_FAILED, "mmap: %s", strerror(errno));
	for (i = 0; i < ctx->setup.workers; i++) {
		char *base = (char *)ctx->map + (size_t)i * ctx->setup.ring_bytes;

		ctx->ring[i].head = (struct fastio_ring *)base;
		ctx->ring[i].sq = (struct fastio_sqe *)(base + ctx->setup.sq_off);
		ctx->ring[i].cq = (struct fastio_cqe *)(base + ctx->setup.cq_off);
	}
	if (server == SERVER_NONE)
		return;
	first = server == SERVER_INLINE ? ctx->setup.workers : 0;
	for (i = first; i < ctx->setup.workers + ctx->setup.wq_workers; i++)
		ctx_donate(ctx, i);
}

void ctx_close(struct ctx *ctx)
{
	unsigned int i;

	CHECK_EQ(close(ctx->fd), 0);
	for (i = 0; i < ctx->nr_donors; i++) {
		void *ret;

		NEED_EQ(pthread_join(ctx->donors[i].thread, &ret), 0);
		/* A thread that came too late to enter finds the descriptor gone. */
		if ((long)ret != -EBADF && !(ctx->contested && (long)ret == -EBUSY))
			CHECK_EQ((long)ret, -ESHUTDOWN, "donated thread %lu", ctx->donors[i].index);
	}
	CHECK_EQ(munmap(ctx->map, ctx->map_bytes), 0);
}

unsigned int ring_room(const struct ctx *ctx, unsigned int ring)
{
	const struct ring *r = &ctx->ring[ring];

	/* Pairs with the release by which the kernel gives entries back. */
	return ctx->setup.sq_entries - (r->sq_tail - __atomic_load_n(&r->head->sq_head, __ATOMIC_ACQUIRE));
}

void ring_push(struct ctx *ctx, unsigned int ring, struct fastio_sqe sqe)
{
	struct ring *r = &ctx->ring[ring];

	NEED(ring_room(ctx, ring) > 0, "ring %u", ring);
	r->sq[r->sq_tail++ & (ctx->setup.sq_entries - 1)] = sqe;
}

static void wake_if(struct ctx *ctx, unsigned int ring, uint32_t flag)
{
	/* The index must be visible before the flag is read, or a worker going to sleep would miss it. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ctx->ring[ring].head->flags, __ATOMIC_RELAXED) & flag)
		CHECK_EQ(device_ioctl(ctx->fd, FASTIO_IOC_WAKE, ring), 0);
}

void ring_submit(struct ctx *ctx, unsigned int ring)
{
	struct ring *r = &ctx->ring[ring];

	__atomic_store_n(&r->head->sq_tail, r->sq_tail, __ATOMIC_RELEASE);
	wake_if(ctx, ring, FASTIO_RING_NEED_WAKE);
}

bool ring_peek(struct ctx *ctx, unsigned int ring, struct fastio_cqe *cqe)
{
	struct ring *r = &ctx->ring[ring];

	if (__atomic_load_n(&r->head->cq_tail, __ATOMIC_ACQUIRE) == r->cq_head)
		return false;
	*cqe = r->cq[r->cq_head++ & (ctx->setup.cq_entries - 1)];
	__atomic_store_n(&r->head->cq_head, r->cq_head, __ATOMIC_RELEASE);
	wake_if(ctx, ring, FASTIO_RING_CQ_WAIT);
	/* Above 511 the kernel keeps codes for its own use. */
	CHECK(cqe->res >= -511, "res %d of %#llx", cqe->res, (unsigned long long)cqe->user_data);
	return true;
}

/* Waits, or serves the ring, for at most @us microseconds or until something may have completed. */
static void wait_step(struct ctx *ctx, unsigned int ring, uint64_t us)
{
	long ret;

	if (us > WAIT_STEP_US)
		us = WAIT_STEP_US;
	if (ctx->server == SERVER_INLINE)
		ret = device_ioctl(ctx->fd, FASTIO_IOC_ENTER, FASTIO_ENTER(ring, FASTIO_ENTER_WAIT, 0, us));
	else
		ret = device_ioctl(ctx->fd, FASTIO_IOC_WAIT, us);
	if (ret < 0 && ret != -ETIME && ret != -EINTR)
		NEED_EQ(ret, 0, "ring %u", ring);
}

bool ring_wait_for(struct ctx *ctx, unsigned int ring, struct fastio_cqe *cqe, unsigned int timeout_ms)
{
	uint64_t end = now_ns() + (uint64_t)timeout_ms * ktap_slowness() * 1000000;

	while (!ring_peek(ctx, ring, cqe)) {
		uint64_t now = now_ns();

		if (now >= end)
			return false;
		wait_step(ctx, ring, (end - now) / 1000 + 1);
	}
	return true;
}

struct fastio_cqe ring_wait(struct ctx *ctx, unsigned int ring)
{
	struct fastio_cqe cqe = { 0 };

	NEED(ring_wait_for(ctx, ring, &cqe, 10000), "no completion on ring %u in ten seconds", ring);
	return cqe;
}

void ring_idle(struct ctx *ctx, unsigned int ring, unsigned int ms)
{
	uint64_t end = now_ns() + (uint64_t)ms * 1000000;
	uint64_t now;

	while ((now = now_ns()) < end) {
		if (ctx->server == SERVER_INLINE)
			wait_step(ctx, ring, (end - now) / 1000 + 1);
		else
			sleep_ms((end - now) / 1000000 + 1);
	}
}

struct fastio_cqe op_run(struct ctx *ctx, unsigned int ring, struct fastio_sqe sqe)
{
	static uint64_t serial = 0x0f05710000000000;
	struct fastio_cqe cqe;

	sqe.user_data = __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED);
	ring_push(ctx, ring, sqe);
	ring_submit(ctx, ring);
	cqe = ring_wait(ctx, ring);
	NEED(cqe.user_data == sqe.user_data, "opcode %u: a completion of something else, user_data %#llx", sqe.opcode,
	     (unsigned long long)cqe.user_data);
	return cqe;
}

void ring_wait_taken(struct ctx *ctx, unsigned int ring)
{
	uint64_t end = now_ns() + 10000000000ULL * ktap_slowness();

	while (ring_room(ctx, ring) < ctx->setup.sq_entries) {
		NEED(now_ns() < end, "%u entries not taken", ctx->setup.sq_entries - ring_room(ctx, ring));
		ring_idle(ctx, ring, 1);
	}
}

void ring_expect_nothing(struct ctx *ctx, unsigned int ring)
{
	struct fastio_cqe cqe;

	ring_idle(ctx, ring, 20);
	if (ring_peek(ctx, ring, &cqe))
		ktap_fail(__FILE__, __LINE__, "ring %u: a completion of %#llx, res %d, where none is due", ring,
			  (unsigned long long)cqe.user_data, cqe.res);
}

uint32_t ring_expect(struct ctx *ctx, unsigned int ring, uint64_t user_data, int res)
{
	struct fastio_cqe cqe = ring_wait(ctx, ring);

	CHECK_EQ(cqe.user_data, user_data, "(res %d)", cqe.res);
	CHECK_EQ(cqe.res, res, "of %#llx", (unsigned long long)user_data);
	return cqe.flags;
}

void variant_open(struct ctx *ctx, const struct variant *variant, unsigned int workers)
{
	struct fastio_setup setup = ctx_defaults(workers);

	ctx_open(ctx, &setup, variant->server);
}

static const struct variant variants[] = {
	{ "spinning worker", SERVER_SPINNING, 0 },
	{ "sleeping worker", SERVER_SLEEPING, 0 },
	{ "inline", SERVER_INLINE, 0 },
	{ "spinning worker, slot", SERVER_SPINNING, FASTIO_SQE_SLOT },
	{ "sleeping worker, slot", SERVER_SLEEPING, FASTIO_SQE_SLOT },
	{ "inline, slot", SERVER_INLINE, FASTIO_SQE_SLOT },
};

int variants_main(const struct ktap_test *tests, size_t nr, bool with_slots, int argc, char **argv)
{
	size_t nr_variants = with_slots ? NR(variants) : NR(variants) / 2;
	struct ktap_test *all = calloc(nr * nr_variants, sizeof(*all));
	int ret;

	if (!all)
		return 1;
	for (size_t i = 0; i < nr * nr_variants; i++) {
		char *name;

		all[i] = tests[i / nr_variants];
		all[i].arg = &variants[i % nr_variants];
		if (asprintf(&name, "%s (%s)", all[i].name, variants[i % nr_variants].name) < 0)
			return 1;
		all[i].name = name;
	}
	ret = ktap_main(all, nr * nr_variants, argc, argv);
	for (size_t i = 0; i < nr * nr_variants; i++)
		free((char *)all[i].name);
	free(all);
	return ret;
}

struct fastio_stats ring_stats(struct ctx *ctx, unsigned int ring)
{
	struct fastio_stats stats = { .ring = ring };

	NEED_EQ(device_ioctl(ctx->fd, FASTIO_IOC_STATS, ADDR(&stats)), 0);
	return stats;
}
