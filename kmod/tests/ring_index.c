// SPDX-License-Identifier: GPL-2.0
/*
 * The module's index arithmetic (kmod/ring_index.h, the same source) in user space, for the sanitizers: against random
 * and hostile peers, across the wrap of 32 bits, and between two threads that pass real entries. `make host-check`.
 */
#define _GNU_SOURCE
#include "../ring_index.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ktap.h"

#define ENTRIES_MAX	64

/* xorshift64*: the same numbers for the same seed everywhere. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

/* Numbers near every edge that matters, as a liar would choose them. */
static uint32_t hostile_index(uint64_t *random, const struct fastio_index *ix)
{
	static const uint32_t fixed[] = { 0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff };
	uint64_t dice = next_random(random);
	int32_t near = (int32_t)(dice >> 40 & 0xff) - 128;

	switch (dice & 7) {
	case 0:
		return fixed[(dice >> 8) % NR(fixed)];
	case 1:
		return ix->sq_head + near;
	case 2:
		return ix->cq_tail + near;
	case 3:
		return ix->cq_tail - ix->cq_entries + near;
	default:
		return dice >> 32;
	}
}

/*
 * A server that follows the rules of ring_index.h against indices that mean nothing: no count ever exceeds its queue,
 * and what is promised, posted and unreaped (as the server last saw it) never exceeds the CQ.
 */
static void hostile_peer(const void *arg)
{
	uint64_t random = 0x9e3779b97f4a7c15ULL, steps;

	(void)arg;
	for (unsigned int shape = 0; shape < 49; shape++) {
		struct fastio_index ix = { .sq_entries = 1U << shape % 7, .cq_entries = 1U << shape / 7 };
		struct fastio_ring shm = { 0 };

		ix.sq_head = ix.cq_tail = ix.cq_published = ix.cq_head = hostile_index(&random, &ix);
		shm.sq_head = shm.cq_tail = ix.sq_head;
		for (steps = 0; steps < 20000; steps++) {
			uint32_t avail, room, n, position;

			shm.sq_tail = hostile_index(&random, &ix);
			shm.cq_head = hostile_index(&random, &ix);
			avail = fastio_index_sq_avail(&ix, &shm);
			room = fastio_index_cq_room(&ix, &shm, 1 + next_random(&random) % ix.cq_entries);
			NEED(avail <= ix.sq_entries);
			NEED(room <= ix.cq_entries);
			NEED(room + ix.reserved <= ix.cq_entries);
			NEED(ix.cq_tail - ix.cq_head <= ix.cq_entries);
			NEED(fastio_index_cq_unreaped(&ix, &shm) <= ix.cq_entries);
			n = avail < room ? avail : room;
			fastio_index_sq_take(&ix, &shm, n);
			NEED(shm.sq_head == ix.sq_head);
			ix.reserved += n;
			/* Complete some of what is promised. */
			for (n = ix.reserved ? next_random(&random) % (ix.reserved + 1) : 0; n; n--) {
				position = fastio_index_cq_next(&ix);
				ix.reserved--;
				NEED(position < ix.cq_entries);
			}
			fastio_index_cq_publish(&ix, &shm);
			NEED(shm.cq_tail == ix.cq_tail && ix.cq_published == ix.cq_tail);
		}
	}
}

/* With a peer that reaps honestly, an entry is never overwritten before it was reaped, wherever the indices start. */
static void honest_peer(const void *arg)
{
	static const uint32_t starts[] = { 0, 0xffffffc0, 0xffffffff, 0x7ffffff0 };
	uint64_t random = 42;

	(void)arg;
	for (unsigned int shape = 0; shape < 7 * NR(starts); shape++) {
		uint32_t start = starts[shape % NR(starts)], reaped = start, submitted = start, unreaped = 0;
		struct fastio_index ix = { .sq_entries = 1U << shape / NR(starts), .cq_entries = 1U << shape / NR(starts) };
		struct fastio_ring shm = { .sq_tail = start, .sq_head = start, .cq_tail = start, .cq_head = start };

		ix.sq_head = ix.cq_tail = ix.cq_published = ix.cq_head = start;
		for (unsigned int step = 0; step < 50000; step++) {
			uint32_t avail, room, n;

			n = next_random(&random) % (ix.sq_entries - (submitted - ix.sq_head) + 1);
			submitted += n;
			shm.sq_tail = submitted;
			avail = fastio_index_sq_avail(&ix, &shm);
			NEED(avail == submitted - ix.sq_head);
			room = fastio_index_cq_room(&ix, &shm, ix.cq_entries);
			NEED(room == ix.cq_entries - unreaped - ix.reserved);
			n = avail < room ? avail : room;
			fastio_index_sq_take(&ix, &shm, n);
			ix.reserved += n;
			for (n = next_random(&random) % (ix.reserved + 1); n; n--) {
				fastio_index_cq_next(&ix);
				ix.reserved--;
				unreaped++;
				NEED(unreaped <= ix.cq_entries, "an unreaped entry was overwritten");
			}
			n = ix.cq_tail - ix.cq_published;
			NEED(fastio_index_cq_publish(&ix, &shm) == n);
			n = next_random(&random) % (shm.cq_tail - reaped + 1);
			reaped += n;
			unreaped -= n;
			shm.cq_head = reaped;
			NEED(fastio_index_cq_unreaped(&ix, &shm) == shm.cq_tail - reaped);
		}
	}
}

/* One ring between a thread that serves and a thread that submits and reaps, with plain entries for TSan to watch. */
struct shared_ring {
	struct fastio_ring shm;
	uint64_t sq[ENTRIES_MAX];
	uint64_t cq[ENTRIES_MAX];
	uint32_t entries;
	uint32_t start;
	uint64_t count;
};

static void *server_main(void *arg)
{
	struct shared_ring *r = arg;
	struct fastio_index ix = {
		.sq_head = r->start, .sq_entries = r->entries, .cq_entries = r->entries,
		.cq_tail = r->start, .cq_published = r->start, .cq_head = r->start,
	};

	for (uint64_t done = 0; done < r->count;) {
		uint32_t n = fastio_index_sq_avail(&ix, &r->shm), room = fastio_index_cq_room(&ix, &r->shm, n);

		if (n > room)
			n = room;
		if (!n) {
			sched_yield();
			continue;
		}
		for (uint32_t i = 0; i < n; i++) {
			uint64_t value = r->sq[(ix.sq_head + i) & (r->entries - 1)];

			r->cq[fastio_index_cq_next(&ix)] = value * 3;
		}
		fastio_index_sq_take(&ix, &r->shm, n);
		fastio_index_cq_publish(&ix, &r->shm);
		done += n;
	}
	return NULL;
}

static void two_threads(const void *arg)
{
	static struct shared_ring ring;

	(void)arg;
	for (uint32_t entries = 1; entries <= ENTRIES_MAX; entries *= 4) {
		uint64_t submitted = 0, reaped = 0;
		uint32_t tail, head;
		pthread_t server;

		ring = (struct shared_ring) { .entries = entries, .start = 0xfffffff0, .count = 200000 };
		tail = head = ring.start;
		ring.shm.sq_tail = ring.shm.sq_head = ring.shm.cq_tail = ring.shm.cq_head = ring.start;
		NEED_EQ(pthread_create(&server, NULL, server_main, &ring), 0);
		while (reaped < ring.count) {
			bool idle = true;

			while (submitted < ring.count &&
			       tail - __atomic_load_n(&ring.shm.sq_head, __ATOMIC_ACQUIRE) < entries) {
				ring.sq[tail++ & (entries - 1)] = submitted++;
				__atomic_store_n(&ring.shm.sq_tail, tail, __ATOMIC_RELEASE);
				idle = false;
			}
			while (__atomic_load_n(&ring.shm.cq_tail, __ATOMIC_ACQUIRE) != head) {
				NEED_EQ(ring.cq[head++ & (entries - 1)], 3 * reaped);
				reaped++;
				__atomic_store_n(&ring.shm.cq_head, head, __ATOMIC_RELEASE);
				idle = false;
			}
			if (idle)
				sched_yield();
		}
		pthread_join(server, NULL);
	}
}

static atomic_bool liar_stops;

static void *liar_main(void *arg)
{
	struct fastio_ring *shm = arg;
	uint64_t random = 7;

	while (!liar_stops) {
		__atomic_store_n(&shm->sq_tail, next_random(&random), __ATOMIC_RELAXED);
		__atomic_store_n(&shm->cq_head, next_random(&random), __ATOMIC_RELAXED);
		__atomic_store_n(&shm->sq_head, next_random(&random), __ATOMIC_RELAXED);
		__atomic_store_n(&shm->cq_tail, next_random(&random), __ATOMIC_RELAXED);
	}
	return NULL;
}

/* The peer scribbles over all four indices while the server works: the server's queues are heap blocks for ASan. */
static void scribbling_peer(const void *arg)
{
	struct fastio_index ix = { .sq_entries = 32, .cq_entries = 64 };
	uint64_t *sq = calloc(32, sizeof(*sq)), *cq = calloc(64, sizeof(*cq)), sum = 0;
	static struct fastio_ring shm;
	pthread_t liar;

	(void)arg;
	NEED(sq && cq);
	NEED_EQ(pthread_create(&liar, NULL, liar_main, &shm), 0);
	for (unsigned int step = 0; step < 200000; step++) {
		uint32_t n = fastio_index_sq_avail(&ix, &shm), room = fastio_index_cq_room(&ix, &shm, n);

		if (n > room)
			n = room;
		for (uint32_t i = 0; i < n; i++) {
			sum += sq[(ix.sq_head + i) & (ix.sq_entries - 1)];
			cq[fastio_index_cq_next(&ix)] = sum;
		}
		fastio_index_sq_take(&ix, &shm, n);
		fastio_index_cq_publish(&ix, &shm);
		NEED(ix.cq_tail - ix.cq_head <= ix.cq_entries);
	}
	liar_stops = true;
	pthread_join(liar, NULL);
	free(sq);
	free(cq);
}

static const struct ktap_test tests[] = {
	TEST("indices that mean nothing never exceed a queue", hostile_peer),
	TEST("an honest peer finds every entry, across the wrap of 32 bits", honest_peer),
	TEST("two threads pass every entry once and in order", two_threads, .timeout_s = 300),
	TEST("a peer that scribbles over the indices harms only itself", scribbling_peer, .timeout_s = 300),
};

int main(int argc, char **argv)
{
	return ktap_main(tests, NR(tests), argc, argv);
}
