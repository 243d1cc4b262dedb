// SPDX-License-Identifier: MIT
/* The rings: set-up, harvesting, waiting, and their end. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "flow.h"

/* Completions of a lane taken in one go; the rest waits for the next round of the event loop. */
#define HARVEST_MAX 4096
/* Completions after which the worker is told that there is room for more. */
#define HARVEST_BATCH 64
/* Buffers given back after which the worker is told, if the loop does not come round before. */
#define PUBLISH_EVERY 16
/* Operations that the main thread of a hybrid executes before it looks at the workers' rings again. */
#define SELF_BATCH 8
/* Looks at the rings between two at the clock. */
#define SPINS_PER_CLOCK 16
/* So many completions are few: see should_send_at_once(). */
#define FEW 4

bool rings_foreign;

static void became_child(void)
{
	rings_foreign = true;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/** rings_now_ms - milliseconds of CLOCK_MONOTONIC */
uint64_t rings_now_ms(void)
{
	return now_us() / 1000;
}

/* ------------------------------------------------------------------ set-up */

/** lane_publish - tells the worker of the buffers given back */
void lane_publish(struct lane *lane)
{
	if (lane->unpublished && lane->bufs.ring)
		fastio_bufs_publish(&lane->bufs);
	lane->unpublished = 0;
}

/** lane_give_back - a provided buffer is the worker's again, as soon as lane_publish() has been called */
void lane_give_back(struct lane *lane, int32_t buffer)
{
	if (!lane->bufs.ring) /* abandoned */
		return;
	fastio_bufs_add(&lane->bufs, lane_buffer(lane, buffer), FLOW_BUFFER_BYTES, (uint16_t)buffer);
	lane->free++;
	if (++lane->unpublished == PUBLISH_EVERY)
		lane_publish(lane);
}

/** lane_provide_more - provides another step of buffers, if there are any */
void lane_provide_more(struct lane *lane)
{
	int32_t end = (int32_t)lane->provided + FLOW_BUFFERS_STEP;

	if (lane->provided == FLOW_BUFFERS || !lane->bufs.ring)
		return;
	for (int32_t i = (int32_t)lane->provided; i < end; i++) {
		/* Else the worker would have to fault it in. */
		*(volatile char *)lane_buffer(lane, i) = 0;
		lane_give_back(lane, i);
	}
	lane->provided = (unsigned int)end;
	lane_publish(lane);
}

static int open_lane(struct lane *lane, struct fastio_queue *queue, struct fastio_error *error)
{
	size_t bytes = (size_t)FLOW_BUFFERS * FLOW_BUFFER_STRIDE;
	int ret;

	lane->queue = queue;
	flow_list_init(&lane->deferred);
	flow_list_init(&lane->starved);
	lane->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (lane->memory == MAP_FAILED) {
		lane->memory = NULL;
		return -ENOMEM;
	}
	/* Else every receive after a fork copies a page that the child never looks at. */
	madvise(lane->memory, bytes, MADV_DONTFORK);
	ret = fastio_bufs_setup(&lane->bufs, queue, queue->index, FLOW_BUFFERS);
	if (ret) {
		snprintf(error->message, sizeof(error->message), "cannot provide buffers: %s", fastio_strerror(ret));
		return ret;
	}
	lane_provide_more(lane);
	return 0;
}

static unsigned int power_of_two(unsigned int at_least, unsigned int least, unsigned int most)
{
	unsigned int power = least;

	while (power < at_least && power < most)
		power *= 2;
	return power;
}

static void fill_params(struct fastio_params *params, const struct rings_options *options)
{
	unsigned int queues = options->workers + (!options->workers || options->self_weight);

	fastio_params_init(params);
	params->workers = options->workers;
	params->self_weight = options->workers ? options->self_weight : 0;
	/* Inline, each call costs a round of the event loop: do everything. Beside workers, their completions wait. */
	params->self_batch = options->workers ? SELF_BATCH : 0;
	params->wq_workers = 0;
	params->idle_us = options->idle_us;
	/* A flow has at most a receive, a send and one more in flight. */
	params->sq_entries = 1024;
	params->cq_entries = power_of_two(3 * (options->flows_max / queues + 64), 4096, FASTIO_MAX_ENTRIES);
	params->backend = options->backend;
	params->quiet = true;
	for (unsigned int i = 0; i < options->workers; i++)
		params->worker_cpu[i] = options->nr_cpus ? options->cpus[i % options->nr_cpus] : FASTIO_NO_CPU;
}

/**
 * rings_open - sets up and starts the workers
 * @on_gone: see struct rings
 *
 * Returns 0, or -errno as fastio_setup(), with the reason in @error.
 */
int rings_open(struct rings **rings, const struct rings_options *options, void (*on_gone)(struct flow *),
	       struct fastio_error *error)
{
	struct rings *made = calloc(1, sizeof(*made));
	struct fastio_params params;
	int ret;

	if (!made)
		return -ENOMEM;
	fill_params(&params, options);
	ret = fastio_setup(&made->fio, &params, error);
	if (ret) {
		free(made);
		return ret;
	}
	made->flow_max = params.cq_entries / 3;
	made->send_bytes = options->send_bytes;
	made->on_gone = on_gone;
	made->poll_fd = -1;
	flow_list_init(&made->readable);
	flow_list_init(&made->writable);
	flow_list_init(&made->lingering);
	flow_list_init(&made->all);
	made->lanes = calloc(made->fio->nr_queues, sizeof(*made->lanes));
	if (made->lanes)
		made->nr_lanes = made->fio->nr_queues;
	else
		ret = -ENOMEM;
	for (unsigned int i = 0; !ret && i < made->nr_lanes; i++)
		ret = open_lane(&made->lanes[i], &made->fio->queues[i], error);
	if (!ret && !rings_foreign)
		ret = -pthread_atfork(NULL, NULL, became_child);
	if (ret) {
		rings_close(made);
		return ret;
	}
	*rings = made;
	return 0;
}

/** rings_close - stops the workers. Flows that are still on the rings must have been abandoned or be given up. */
void rings_close(struct rings *rings)
{
	fastio_exit(rings->fio);
	for (unsigned int i = 0; i < rings->nr_lanes; i++)
		if (rings->lanes[i].memory)
			munmap(rings->lanes[i].memory, (size_t)FLOW_BUFFERS * FLOW_BUFFER_STRIDE);
	free(rings->lanes);
	free(rings);
	flow_pool_empty();
}

/* ------------------------------------------------------------------ going round */

static void catch_up(struct rings *rings)
{
	for (unsigned int i = 0; i < rings->nr_lanes; i++) {
		struct lane *lane = &rings->lanes[i];

		if (lane->deferred.length || lane->starved.length)
			flow_catch_up(lane);
	}
}

/** rings_submit - makes everything visible to the workers. Returns 0 or -errno. */
int rings_submit(struct rings *rings)
{
	for (unsigned int i = 0; i < rings->nr_lanes; i++) {
		lane_publish(&rings->lanes[i]);
		rings->lanes[i].unsubmitted = 0;
	}
	catch_up(rings);
	return fastio_submit_all(rings->fio);
}

/** rings_watch_fd - sets rings.poll_ready when @fd becomes readable; -1 watches none */
void rings_watch_fd(struct rings *rings, int fd)
{
	rings->poll_fd = fd;
}

/* Asks about the watched descriptor, unless that was done or the answer has come. */
static void arm_poll(struct rings *rings)
{
	struct fastio_sqe *sqe;

	if (rings->poll_fd < 0 || rings->polling || rings->poll_ready)
		return;
	sqe = fastio_get_sqe(rings->lanes[0].queue);
	if (!sqe)
		return;
	fastio_prep_poll(sqe, rings->poll_fd, POLLIN);
	fastio_set_data64(sqe, TAG_POLL);
	rings->polling = true;
}

static void handle(struct rings *rings, const struct fastio_cqe *cqe)
{
	struct flow *flow = (struct flow *)(uintptr_t)(cqe->user_data & ~(uint64_t)TAG_MASK);
	enum flow_tag tag = (enum flow_tag)(cqe->user_data & TAG_MASK);

	if (tag == TAG_SETTLE) {
		rings->settling--;
		return;
	}
	if (tag != TAG_POLL) {
		flow_completed(rings, flow, tag, cqe);
		return;
	}
	/* Whatever it says, looking at the descriptor itself is right. */
	rings->polling = false;
	rings->poll_ready = true;
}

static unsigned int harvest_lane(struct rings *rings, struct fastio_queue *queue)
{
	unsigned int count = 0;

	while (count < HARVEST_MAX && fastio_peek(queue)) {
		uint32_t batch = queue->cq_tail - queue->cq_head;

		if (batch > HARVEST_BATCH)
			batch = HARVEST_BATCH;
		for (uint32_t i = 0; i < batch; i++)
			handle(rings, &queue->cqes[(queue->cq_head + i) & (queue->cq_entries - 1)]);
		fastio_seen_many(queue, batch);
		count += batch;
	}
	return count;
}

/** rings_harvest - takes completions and tells their flows. Returns how many. */
unsigned int rings_harvest(struct rings *rings)
{
	unsigned int count = 0, found;

	do {
		found = 0;
		for (unsigned int i = 0; i < rings->nr_lanes; i++)
			found += harvest_lane(rings, &rings->fio->queues[i]);
		count += found;
	} while (found < HARVEST_MAX && rings->fio->clear_when_empty && fastio_emptied(rings->fio));
	rings->few = !rings->fio->nr_workers && count <= FEW;
	return count;
}

/** rings_have_news - whether rings_harvest() would find something */
bool rings_have_news(struct rings *rings)
{
	for (unsigned int i = 0; i < rings->nr_lanes; i++)
		if (fastio_peek(&rings->fio->queues[i]))
			return true;
	return false;
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/* Polls without system calls. Returns whether there is news. */
static bool spin(struct rings *rings, uint64_t until_us)
{
	for (unsigned int turn = 1; !rings_have_news(rings); turn++) {
		if (fastio_serve(rings->fio) < 0)
			return false;
		if (turn % SPINS_PER_CLOCK == 0 && now_us() >= until_us)
			return false;
		relax();
	}
	return true;
}

/* Polls, then sleeps. */
static int rest(struct rings *rings, uint64_t began_us, int64_t timeout_us, unsigned int spin_us)
{
	int ret;

	if (spin_us && rings->fio->nr_workers) {
		uint64_t us = timeout_us < spin_us ? (uint64_t)timeout_us : spin_us;

		if (spin(rings, began_us + us))
			return 0;
		timeout_us -= (int64_t)us;
		if (!timeout_us)
			return 0;
	}
	rings->counters.wakes++;
	ret = fastio_wait(rings->fio, timeout_us);
	return ret == -ETIME || ret == -EINTR ? 0 : ret;
}

/**
 * rings_wait - submits, serves the caller's own ring, and sleeps until there is something to harvest
 * @timeout_us: 0 does not sleep
 * @spin_us: polls so long before that, if there are workers
 *
 * Returns 0, also when the time is up or a signal came; else -errno: the workers are gone.
 */
int rings_wait(struct rings *rings, int64_t timeout_us, unsigned int spin_us)
{
	uint64_t began_us;
	int ret;

	arm_poll(rings);
	ret = rings_submit(rings);
	if (!ret && (!timeout_us || rings->fio->nr_workers))
		ret = fastio_serve(rings->fio);
	if (ret < 0 && ret != -EINTR)
		return ret;
	if (!timeout_us || rings_have_news(rings))
		return 0;
	rings->counters.waits++;
	began_us = now_us();
	ret = rest(rings, began_us, timeout_us, spin_us);
	rings->counters.waited_us += now_us() - began_us;
	return ret;
}

/**
 * rings_settle - harvests until the workers have tried everything submitted before, for at most RINGS_SETTLE_US
 *
 * For callers that come by rarely and would else miss what a system call would have found there and then.
 */
void rings_settle(struct rings *rings)
{
	uint64_t until_us = now_us() + RINGS_SETTLE_US;

	for (unsigned int i = 0; i < rings->nr_lanes; i++) {
		struct fastio_sqe *sqe = rings->lanes[i].queue->self ? NULL : fastio_get_sqe(rings->lanes[i].queue);

		if (!sqe)
			continue;
		fastio_prep_nop(sqe);
		fastio_set_data64(sqe, TAG_SETTLE);
		rings->settling++;
	}
	do {
		if (rings_wait(rings, 0, 0))
			return;
		rings_harvest(rings);
		relax();
	} while (rings->settling && now_us() < until_us);
}

/* ------------------------------------------------------------------ time and end */

/** rings_expire - closes flows that lingered for too long; to be called once a second or more often */
void rings_expire(struct rings *rings)
{
	uint64_t now_ms = rings_now_ms();
	struct flow *flow;

	while ((flow = flow_list_first(&rings->lingering, offsetof(struct flow, lingering))) &&
	       flow->linger_until_ms <= now_ms)
		flow_stop_lingering(rings, flow);
}

/** rings_unsent - bytes that were taken for sending and are not sent */
size_t rings_unsent(const struct rings *rings)
{
	const struct flow_node *node = rings->all.head.after;
	size_t bytes = 0;

	for (; node != &rings->all.head; node = node->after)
		bytes += flow_unsent((const struct flow *)((const char *)node - offsetof(struct flow, all)));
	return bytes;
}

/** rings_drain - before the process ends: lets the workers send what was written, for at most @limit_ms */
void rings_drain(struct rings *rings, unsigned int limit_ms)
{
	uint64_t until_ms = rings_now_ms() + limit_ms;

	while (rings_unsent(rings) && rings_now_ms() < until_ms) {
		if (rings_wait(rings, 1000, 0))
			return;
		rings_harvest(rings);
	}
}

/**
 * rings_stop - the workers are dead, or shall be
 *
 * What they have completed is harvested. The flows that are left in rings.all must be abandoned then, one by one.
 */
void rings_stop(struct rings *rings)
{
	fastio_stop(rings->fio);
	/* Their CQs get no longer, whatever is submitted on the way. */
	while (rings_harvest(rings))
		;
	for (unsigned int i = 0; i < rings->nr_lanes; i++)
		rings->lanes[i].bufs.ring = NULL;
	fastio_exit(rings->fio);
	rings->fio = NULL;
}
