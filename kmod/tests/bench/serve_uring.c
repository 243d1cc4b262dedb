// SPDX-License-Identifier: GPL-2.0
/* io_uring by system calls: one-shot receives and sends, SINGLE_ISSUER and DEFER_TASKRUN, one wait for all. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../ktap.h"
#include "bench.h"

#define ENTRIES	256
#define IS_SEND	(1ULL << 32)

struct uring {
	int fd;
	char *rings;
	struct io_uring_params params;
	struct io_uring_sqe *sqes;
	uint32_t tail;
	uint32_t submitted;
	char data[CONNS_MAX + 64][MESSAGE_BYTES];
};

static void uring_open(struct uring *u)
{
	size_t bytes;
	uint32_t *array;

	u->params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	u->fd = syscall(SYS_io_uring_setup, ENTRIES, &u->params);
	NEED(u->fd >= 0, "io_uring_setup: %s", strerror(errno));
	bytes = u->params.cq_off.cqes + u->params.cq_entries * sizeof(struct io_uring_cqe);
	if (bytes < u->params.sq_off.array + u->params.sq_entries * sizeof(uint32_t))
		bytes = u->params.sq_off.array + u->params.sq_entries * sizeof(uint32_t);
	u->rings = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, IORING_OFF_SQ_RING);
	u->sqes = mmap(NULL, ENTRIES * sizeof(*u->sqes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd,
		       IORING_OFF_SQES);
	NEED(u->rings != MAP_FAILED && u->sqes != MAP_FAILED, "mmap: %s", strerror(errno));
	array = (uint32_t *)(u->rings + u->params.sq_off.array);
	for (uint32_t i = 0; i < u->params.sq_entries; i++)
		array[i] = i;
}

static void uring_push(struct uring *u, uint8_t opcode, int fd, uint64_t user_data)
{
	struct io_uring_sqe *sqe = &u->sqes[u->tail++ & (ENTRIES - 1)];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = opcode;
	sqe->fd = fd;
	sqe->addr = ADDR(u->data[fd]);
	sqe->len = MESSAGE_BYTES;
	sqe->msg_flags = opcode == IORING_OP_SEND ? MSG_NOSIGNAL : 0;
	sqe->user_data = user_data;
}

static void uring_submit_and_wait(struct uring *u)
{
	__atomic_store_n((uint32_t *)(u->rings + u->params.sq_off.tail), u->tail, __ATOMIC_RELEASE);
	NEED(syscall(SYS_io_uring_enter, u->fd, u->tail - u->submitted, 1, IORING_ENTER_GETEVENTS, NULL, 0) >= 0,
	     "io_uring_enter: %s", strerror(errno));
	u->submitted = u->tail;
}

void serve_uring(struct bench *bench, int listener)
{
	static struct uring u;
	uint32_t head = 0;

	uring_open(&u);
	for (unsigned int i = 0; i < bench->conns; i++) {
		int fd;

		while ((fd = accept4(listener, NULL, NULL, 0)) < 0)
			sched_yield();
		NEED(fd < (int)NR(u.data));
		uring_push(&u, IORING_OP_RECV, fd, fd);
	}
	for (;;) {
		const uint32_t *tail = (uint32_t *)(u.rings + u.params.cq_off.tail);
		const struct io_uring_cqe *cqes = (struct io_uring_cqe *)(u.rings + u.params.cq_off.cqes);
		unsigned int served = 0;

		uring_submit_and_wait(&u);
		for (; head != __atomic_load_n(tail, __ATOMIC_ACQUIRE); head++) {
			const struct io_uring_cqe *cqe = &cqes[head & (u.params.cq_entries - 1)];
			int fd = cqe->user_data & 0xffffffff;

			NEED_EQ(cqe->res, MESSAGE_BYTES);
			if (cqe->user_data & IS_SEND) {
				uring_push(&u, IORING_OP_RECV, fd, fd);
				served++;
			} else {
				uring_push(&u, IORING_OP_SEND, fd, IS_SEND | fd);
			}
		}
		__atomic_store_n((uint32_t *)(u.rings + u.params.cq_off.head), head, __ATOMIC_RELEASE);
		if (bench_served(bench, served))
			return;
	}
}
