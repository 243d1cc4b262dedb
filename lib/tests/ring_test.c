// SPDX-License-Identifier: MIT
/* Rings at their limits: full, overfull, busy, and what is never lost, doubled or out of order. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

static void full_sq_is_reported(void *arg)
{
	struct rig *rig = arg;
	struct fastio_queue *queue = &rig->fio->queues[0];
	unsigned int got = 0;
	struct fastio_sqe *sqe;

	while ((sqe = fastio_get_sqe(queue))) {
		fastio_prep_nop(sqe);
		fastio_set_data64(sqe, got++);
	}
	CHECK_EQ(got, queue->sq_entries);
	CHECK_EQ(fastio_sq_space(queue), 0);
	for (unsigned int i = 0; i < got; i++)
		CHECK_EQ(rig_expect(rig, i), 0);
	CHECK_EQ(fastio_sq_space(queue), queue->sq_entries);
	CHECK(fastio_get_sqe(queue));
	queue->sq_claimed--;
}

static void no_nop_is_lost_or_out_of_order(void *arg)
{
	struct rig *rig = arg;
	struct fastio *fio = rig->fio;
	uint64_t sent[FASTIO_MAX_WORKERS] = { 0 }, seen[FASTIO_MAX_WORKERS] = { 0 };
	const uint64_t total = 50000;
	uint64_t left = total * fio->nr_queues;

	while (left) {
		struct fastio_queue *queue;
		struct fastio_cqe *cqe;

		for (unsigned int i = 0; i < fio->nr_queues; i++) {
			struct fastio_sqe *sqe;

			while (sent[i] < total && (sqe = fastio_get_sqe(&fio->queues[i]))) {
				fastio_prep_nop(sqe);
				fastio_set_data64(sqe, sent[i]++);
			}
		}
		REQUIRE(!fastio_submit_and_wait(fio, RIG_WAIT_US));
		while ((cqe = fastio_next(fio, &queue))) {
			REQUIRE(cqe->user_data == seen[queue->index] && !cqe->res,
				"queue %u: found %llu, expected %llu", queue->index,
				(unsigned long long)cqe->user_data,
				(unsigned long long)seen[queue->index]);
			seen[queue->index]++;
			fastio_seen(queue);
			left--;
		}
		CHECK(fastio_serve(fio) >= 0);
	}
	for (unsigned int i = 0; i < fio->nr_queues; i++) {
		struct fastio_stats stats;

		CHECK_EQ(fastio_get_stats(&fio->queues[i], &stats), 0);
		CHECK_EQ(stats.submitted, stats.completed);
		CHECK(stats.submitted >= total);
		CHECK_EQ(stats.in_flight, 0);
	}
	CHECK(rig_quiet(rig));
}

static void full_cq_holds_work_back_and_loses_nothing(void *arg)
{
	struct rig *rig = arg;
	struct fastio_queue *queue = &rig->fio->queues[0];
	struct fastio_sqe *sqe;
	const uint64_t all = queue->cq_entries + queue->sq_entries;
	uint64_t sent = 0;
	struct fastio_cqe *cqe;

	/* Without reaping, until both are full. The time limit of the test is that of this loop. */
	while (sent < all) {
		while ((sqe = fastio_get_sqe(queue))) {
			fastio_prep_nop(sqe);
			fastio_set_data64(sqe, sent++);
		}
		CHECK_EQ(fastio_submit(queue), 0);
		CHECK(fastio_serve(rig->fio) >= 0);
		usleep(100);
	}
	usleep(RIG_QUIET_US);
	CHECK(fastio_serve(rig->fio) >= 0);
	CHECK(!fastio_get_sqe(queue), "more were taken than there is room for");
	for (uint64_t i = 0; i < sent; i++) {
		while (!(cqe = fastio_peek(queue)))
			REQUIRE(!fastio_wait(rig->fio, RIG_WAIT_US), "after %llu",
				(unsigned long long)i);
		REQUIRE(cqe->user_data == i, "found %llu, expected %llu",
			(unsigned long long)cqe->user_data, (unsigned long long)i);
		fastio_seen(queue);
	}
	CHECK(rig_quiet(rig));
}

static void multishot_waits_for_room(void *arg)
{
	struct rig *rig = arg;
	static char buffer[1];
	struct fastio_bufs bufs;
	struct fastio_queue *queue;
	unsigned int total = 0;
	struct fastio_cqe *cqe;
	char data[256];
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	queue = fastio_queue_for(rig->fio, pair[0]);
	REQUIRE(!fastio_bufs_setup(&bufs, queue, 1, 256));
	/* One byte each: more completions than the CQ has room for. */
	for (unsigned int i = 0; i < 256; i++) {
		data[i] = (char)i;
		fastio_bufs_add(&bufs, buffer, 1, (uint16_t)i);
	}
	fastio_bufs_publish(&bufs);
	CHECK_EQ(send(pair[1], data, sizeof(data), 0), sizeof(data));
	fastio_prep_recv_multishot(rig_get(queue), pair[0], 1, 0, 0);
	CHECK_EQ(fastio_submit(queue), 0);
	for (int i = 0; i < 5; i++) {
		usleep(RIG_QUIET_US / 5);
		CHECK(fastio_serve(rig->fio) >= 0);
	}
	while (total < 256) {
		while (!(cqe = fastio_peek(queue)))
			REQUIRE(!fastio_wait(rig->fio, RIG_WAIT_US), "after %u", total);
		REQUIRE(cqe->res == 1 && fastio_cqe_more(cqe) && fastio_cqe_bid(cqe) == total,
			"%d, buffer %u after %u", cqe->res, fastio_cqe_bid(cqe), total);
		total++;
		fastio_seen(queue);
	}
	/* With no buffer left even the end of the stream may be answered with -ENOBUFS. */
	fastio_bufs_add(&bufs, buffer, 1, 0);
	fastio_bufs_publish(&bufs);
	shutdown(pair[1], SHUT_WR);
	CHECK_EQ(rig_expect(rig, 0), 0);
	CHECK_EQ(fastio_bufs_free(&bufs), 0);
	close(pair[0]);
	close(pair[1]);
}

static void sleeping_workers_are_woken_every_time(void *arg)
{
	struct rig *rig = arg;

	for (uint64_t i = 0; i < 3000; i++) {
		struct fastio_sqe *sqe = rig_get(&rig->fio->queues[i % rig->fio->nr_queues]);

		fastio_prep_nop(sqe);
		fastio_set_data64(sqe, i);
		if (rig_expect(rig, i))
			return;
	}
}

static void busy_queue_does_not_starve_another(void *arg)
{
	struct rig *rig = arg;
	struct fastio *fio = rig->fio;
	struct fastio_queue *queue = NULL;
	unsigned int before = 0;
	struct fastio_sqe *sqe;

	if (fio->nr_queues < 2) {
		tap_skip("one queue");
		return;
	}
	/* Fill CQ 0 well beyond a streak, and put one completion into CQ 1. */
	for (unsigned int i = 0; i < 64; i++) {
		sqe = fastio_get_sqe(&fio->queues[0]);
		if (!sqe) {
			CHECK_EQ(fastio_submit(&fio->queues[0]), 0);
			i--;
			usleep(100);
			continue;
		}
		fastio_prep_nop(sqe);
	}
	fastio_prep_nop(rig_get(&fio->queues[1]));
	CHECK_EQ(fastio_submit_all(fio), 0);
	while (!fastio_peek(&fio->queues[1])) {
		CHECK(fastio_serve(fio) >= 0);
		usleep(100);
	}
	while (fastio_next(fio, &queue)) {
		if (queue->index == 1)
			break;
		/* Queue 0 never runs dry. */
		before++;
		fastio_seen(queue);
		while (!(sqe = fastio_get_sqe(&fio->queues[0])))
			usleep(10);
		fastio_prep_nop(sqe);
		CHECK_EQ(fastio_submit(&fio->queues[0]), 0);
		while (!fastio_peek(&fio->queues[0]))
			usleep(10);
	}
	REQUIRE(queue && queue->index == 1);
	fastio_seen(queue);
	CHECK(before <= FASTIO_STREAK_MAX, "%u before it", before);
	while (fastio_next(fio, &queue))
		fastio_seen(queue);
}

static void connections_are_spread(void *arg)
{
	struct fastio_params params;
	struct fastio_error error = { "" };

	(void)arg;
	for (unsigned int weight = 0; weight <= FASTIO_SELF_WEIGHT_FULL; weight++) {
		unsigned int counts[4] = { 0 };
		struct fastio *fio;

		rig_params(&params, &rig_modes[0]);
		params.workers = 3;
		params.self_weight = weight;
		REQUIRE(!fastio_setup(&fio, &params, &error), "%s", error.message);
		CHECK_EQ(fio->nr_queues, weight ? 4 : 3);
		for (int fd = 0; fd < (int)(12 + weight) * 10; fd++)
			counts[fastio_queue_for(fio, fd)->index]++;
		for (int i = 0; i < 3; i++)
			CHECK_EQ(counts[i], 40);
		CHECK_EQ(counts[3], weight * 10);
		if (!weight)
			for (int fd = 0; fd < 30; fd++)
				CHECK_EQ(fastio_queue_for(fio, fd)->index, fd % 3);
		fastio_exit(fio);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{ "a full SQ is reported", full_sq_is_reported },
		{ "no NOP is lost or out of order", no_nop_is_lost_or_out_of_order },
		{ "a full CQ holds work back and loses nothing",
		  full_cq_holds_work_back_and_loses_nothing },
		{ "a multishot waits for room", multishot_waits_for_room },
		{ "sleeping workers are woken every time", sleeping_workers_are_woken_every_time },
		{ "a busy queue does not starve another", busy_queue_does_not_starve_another },
	};
	static const struct tap_test alone = { "connections are spread by weight",
					       connections_are_spread };

	(void)argc;
	tap_begin(argv[0]);
	rig_run(tests, sizeof(tests) / sizeof(tests[0]));
	tap_run(&alone, NULL, NULL);
	return tap_end();
}
