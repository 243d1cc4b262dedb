// SPDX-License-Identifier: MIT
/* Slots, registered buffers and provided buffers. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "rig.h"

#define SIZE 64
#define COUNT 4

static char memory[COUNT][SIZE];

static void provide(struct fastio_bufs *bufs, unsigned int from, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		fastio_bufs_add(bufs, memory[from + i], SIZE, (uint16_t)(1000 + from + i));
	fastio_bufs_publish(bufs);
}

static void provided_buffer_is_taken_when_data_is_there(void *arg)
{
	struct rig *rig = arg;
	struct fastio_bufs bufs;
	struct fastio_cqe cqe;
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	REQUIRE(!fastio_bufs_setup(&bufs, fastio_queue_for(rig->fio, pair[0]), 3, COUNT));
	/* Armed while the group is empty: only data needs a buffer. */
	fastio_prep_recv_select(rig_sqe(rig, pair[0]), pair[0], 3, 0, 0);
	CHECK(rig_quiet(rig));
	provide(&bufs, 0, COUNT);
	CHECK_EQ(send(pair[1], "hello", 5, 0), 5);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, 5);
	CHECK(fastio_cqe_has_bid(&cqe) && fastio_cqe_bid(&cqe) == 1000, "flags %x", cqe.flags);
	CHECK(!memcmp(memory[0], "hello", 5));

	/* The length bounds what is taken; the rest goes to the next buffer. */
	CHECK_EQ(send(pair[1], "0123456789", 10, 0), 10);
	fastio_prep_recv_select(rig_sqe(rig, pair[0]), pair[0], 3, 4, 0);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, 4);
	CHECK_EQ(fastio_cqe_bid(&cqe), 1001);
	CHECK(cqe.flags & FASTIO_CQE_NONEMPTY);
	fastio_prep_send_recv_select(rig_sqe(rig, pair[0]), pair[0], "r", 1, 3, 0, 0);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, 6);
	CHECK_EQ(fastio_cqe_bid(&cqe), 1002);
	CHECK(!memcmp(memory[2], "456789", 6));

	/* The end of the stream keeps no buffer. */
	CHECK_EQ(shutdown(pair[1], SHUT_WR), 0);
	fastio_prep_recv_select(rig_sqe(rig, pair[0]), pair[0], 3, 0, 0);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, 0);
	CHECK(!fastio_cqe_has_bid(&cqe));
	CHECK_EQ(fastio_bufs_free(&bufs), 0);
	close(pair[0]);
	close(pair[1]);
}

static void multishot_recv_ends_when_buffers_do(void *arg)
{
	struct rig *rig = arg;
	struct fastio_bufs bufs;
	struct fastio_cqe cqe;
	char data[SIZE * COUNT + 10];
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	REQUIRE(!fastio_bufs_setup(&bufs, fastio_queue_for(rig->fio, pair[0]), 0, COUNT));
	provide(&bufs, 0, COUNT);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)i;
	fastio_prep_recv_multishot(rig_sqe(rig, pair[0]), pair[0], 0, 0, 0);
	CHECK(rig_quiet(rig));
	CHECK_EQ(send(pair[1], data, sizeof(data), 0), sizeof(data));
	for (unsigned int i = 0; i < COUNT; i++) {
		cqe = rig_next(rig);
		CHECK_EQ(cqe.res, SIZE);
		CHECK(fastio_cqe_more(&cqe));
		CHECK_EQ(fastio_cqe_bid(&cqe), 1000 + i);
		CHECK(!memcmp(memory[i], data + SIZE * i, SIZE), "buffer %u", i);
	}
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, -ENOBUFS);
	CHECK(!fastio_cqe_more(&cqe) && !fastio_cqe_has_bid(&cqe));

	/* Nothing is lost: with buffers again it goes on where it stopped. */
	provide(&bufs, 2, 2);
	fastio_prep_recv_multishot(rig_sqe(rig, pair[0]), pair[0], 0, 0, 0);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, 10);
	CHECK(fastio_cqe_more(&cqe) && !memcmp(memory[2], data + SIZE * COUNT, 10));
	close(pair[1]);
	cqe = rig_next(rig);
	CHECK_EQ(cqe.res, 0);
	CHECK(!fastio_cqe_more(&cqe));
	CHECK_EQ(fastio_bufs_free(&bufs), 0);
	close(pair[0]);
}

static void groups_belong_to_a_queue(void *arg)
{
	struct rig *rig = arg;
	struct fastio *fio = rig->fio;
	struct fastio_queue *last = &fio->queues[fio->nr_queues - 1];
	struct fastio_bufs bufs, twice;
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	CHECK_EQ(send(pair[1], "x", 1, 0), 1);
	fastio_prep_recv_select(rig_get(last), pair[0], 5, 0, 0);
	CHECK_EQ(rig_expect(rig, 0), -ENOENT);
	fastio_prep_recv_select(rig_get(last), pair[0], FASTIO_MAX_BUF_GROUPS, 0, 0);
	CHECK_EQ(rig_expect(rig, 0), -ENOENT);
	CHECK_EQ(fastio_bufs_setup(&bufs, last, FASTIO_MAX_BUF_GROUPS, 4), -EINVAL);
	CHECK_EQ(fastio_bufs_setup(&bufs, last, 5, 3), -EINVAL);
	CHECK_EQ(fastio_bufs_setup(&bufs, last, 5, 0), -EINVAL);
	CHECK_EQ(fastio_bufs_setup(&bufs, last, 5, 2 * FASTIO_MAX_ENTRIES), -EINVAL);
	CHECK_EQ(fastio_bufs_setup(&bufs, last, 5, 4), 0);
	CHECK_EQ(fastio_bufs_setup(&twice, last, 5, 4), -EEXIST);
	provide(&bufs, 0, 1);
	if (fio->nr_queues > 1) {
		fastio_prep_recv_select(rig_get(&fio->queues[0]), pair[0], 5, 0, 0);
		CHECK_EQ(rig_expect(rig, 0), -EXDEV);
	}
	fastio_prep_recv_select(rig_get(last), pair[0], 5, 0, 0);
	CHECK_EQ(rig_expect(rig, 0), 1);
	CHECK_EQ(fastio_bufs_free(&bufs), 0);
	CHECK_EQ(fastio_bufs_setup(&bufs, last, 5, 8), 0);
	/* Left for fastio_exit(). */
	close(pair[0]);
	close(pair[1]);
}

static void registered_buffers_bound_what_is_touched(void *arg)
{
	struct rig *rig = arg;
	struct fastio *fio = rig->fio;
	char *area = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *read_only = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec buffers[2] = { { area, 4096 }, { area + 4096, 4096 } };
	struct iovec bad[] = { { read_only, 4096 }, { NULL, 4096 }, { area, 0 } };
	struct fastio_sqe *sqe;
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	CHECK_EQ(fastio_unregister_buffers(fio), -ENXIO);
	CHECK_EQ(fastio_register_buffers(fio, buffers, 0), -EINVAL);
	CHECK_EQ(fastio_register_buffers(fio, buffers, FASTIO_MAX_BUFFERS + 1), -EINVAL);
	CHECK_EQ(fastio_register_buffers(fio, &bad[0], 1), -EFAULT);
	CHECK_EQ(fastio_register_buffers(fio, &bad[1], 1), -EFAULT);
	CHECK_EQ(fastio_register_buffers(fio, &bad[2], 1), -EINVAL);
	CHECK_EQ(fastio_register_buffers(fio, buffers, 2), 0);
	CHECK_EQ(fastio_register_buffers(fio, buffers, 2), -EBUSY);

	memcpy(area + 4096, "fixed", 5);
	sqe = rig_sqe(rig, pair[1]);
	fastio_prep_send(sqe, pair[1], area + 4096, 5, 0);
	fastio_set_fixed_buf(sqe, 1);
	CHECK_EQ(rig_expect(rig, 0), 5);
	sqe = rig_sqe(rig, pair[0]);
	fastio_prep_recv(sqe, pair[0], area + 100, 64, 0);
	fastio_set_fixed_buf(sqe, 0);
	CHECK_EQ(rig_expect(rig, 0), 5);
	CHECK(!memcmp(area + 100, "fixed", 5));

	/* A byte too far, the wrong one, one that is not there. */
	sqe = rig_sqe(rig, pair[1]);
	fastio_prep_send(sqe, pair[1], area + 4000, 97, 0);
	fastio_set_fixed_buf(sqe, 0);
	CHECK_EQ(rig_expect(rig, 0), -EFAULT);
	sqe = rig_sqe(rig, pair[1]);
	fastio_prep_send(sqe, pair[1], area, 5, 0);
	fastio_set_fixed_buf(sqe, 1);
	CHECK_EQ(rig_expect(rig, 0), -EFAULT);
	sqe = rig_sqe(rig, pair[1]);
	fastio_prep_send(sqe, pair[1], area, 5, 0);
	fastio_set_fixed_buf(sqe, 2);
	CHECK_EQ(rig_expect(rig, 0), -EFAULT);
	CHECK_EQ(fastio_unregister_buffers(fio), 0);
	sqe = rig_sqe(rig, pair[1]);
	fastio_prep_send(sqe, pair[1], area, 5, 0);
	fastio_set_fixed_buf(sqe, 0);
	CHECK_EQ(rig_expect(rig, 0), -EFAULT);
	close(pair[0]);
	close(pair[1]);
	munmap(area, 8192);
	munmap(read_only, 4096);
}

/* A receive through the slot. */
static struct fastio_sqe *slot_recv(struct rig *rig, int fd, void *buf, size_t len, uint64_t data)
{
	struct fastio_sqe *sqe = rig_sqe(rig, fd);

	fastio_prep_recv(sqe, fd, buf, len, 0);
	fastio_set_flags(sqe, FASTIO_SQE_SLOT);
	fastio_set_data64(sqe, data);
	return sqe;
}

static void slot_keeps_order(void *arg)
{
	struct rig *rig = arg;
	char buf[3][4];
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	for (uint64_t i = 0; i < 3; i++)
		slot_recv(rig, pair[0], buf[i], 4, i);
	CHECK(rig_quiet(rig));
	CHECK_EQ(send(pair[1], "aaaabbbbcccc", 12, 0), 12);
	for (uint64_t i = 0; i < 3; i++) {
		CHECK_EQ(rig_expect(rig, i), 4);
		CHECK(!memcmp(buf[i], &"aaaabbbbcccc"[4 * i], 4));
	}
	fastio_prep_close(rig_sqe(rig, pair[0]), pair[0]);
	CHECK_EQ(rig_expect(rig, 0), 0);
	close(pair[1]);
}

static void slot_is_closed_with_what_waits_in_it(void *arg)
{
	struct rig *rig = arg;
	struct fastio_sqe *sqe;
	char buf[8];
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	slot_recv(rig, pair[0], buf, sizeof(buf), 1);
	slot_recv(rig, pair[0], buf, sizeof(buf), 2);
	CHECK(rig_quiet(rig));
	sqe = rig_sqe(rig, pair[0]);
	fastio_prep_close(sqe, pair[0]);
	fastio_set_data64(sqe, 3);
	CHECK_EQ(rig_expect(rig, 1), -ECANCELED);
	CHECK_EQ(rig_expect(rig, 2), -ECANCELED);
	CHECK_EQ(rig_expect(rig, 3), 0);
	CHECK_EQ(poll(&(struct pollfd){ .fd = pair[1], .events = POLLIN }, 1, 10000), 1);
	CHECK_EQ(recv(pair[1], buf, 1, 0), 0);
	close(pair[1]);
}

static void slot_is_made_and_dropped_by_name(void *arg)
{
	struct rig *rig = arg;
	struct fastio_sqe *sqe;
	char buf[8];
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	fastio_prep_file_unregister(rig_sqe(rig, pair[0]), pair[0]);
	CHECK_EQ(rig_expect(rig, 0), -ENOENT);
	fastio_prep_file_register(rig_sqe(rig, pair[0]), pair[0]);
	CHECK_EQ(rig_expect(rig, 0), 0);
	fastio_prep_file_register(rig_sqe(rig, pair[0]), pair[0]);
	CHECK_EQ(rig_expect(rig, 0), -EEXIST);
	if (rig->fio->nr_queues > 1) {
		struct fastio_queue *own = fastio_queue_for(rig->fio, pair[0]);
		struct fastio_queue *other = &rig->fio->queues[own->index ? 0 : 1];

		sqe = rig_get(other);
		fastio_prep_recv(sqe, pair[0], buf, sizeof(buf), 0);
		fastio_set_flags(sqe, FASTIO_SQE_SLOT);
		CHECK_EQ(rig_expect(rig, 0), -EXDEV);
		fastio_prep_close(rig_get(other), pair[0]);
		CHECK_EQ(rig_expect(rig, 0), -EXDEV);
	}
	slot_recv(rig, pair[0], buf, sizeof(buf), 1);
	CHECK(rig_quiet(rig));
	fastio_prep_file_unregister(rig_sqe(rig, pair[0]), pair[0]);
	CHECK_EQ(rig_expect(rig, 1), -ECANCELED);
	CHECK_EQ(rig_expect(rig, 0), 0);
	/* The descriptor is still open, and its data still there. */
	CHECK_EQ(send(pair[1], "x", 1, 0), 1);
	CHECK_EQ(recv(pair[0], buf, sizeof(buf), 0), 1);
	close(pair[0]);
	close(pair[1]);
}

static void slots_have_a_limit(void *arg)
{
	struct rig *rig = arg;
	struct rlimit files;
	int high, pair[2];
	char buf[4];
	struct fastio_sqe *sqe;

	REQUIRE(!getrlimit(RLIMIT_NOFILE, &files));
	/* Where the hard limit is 4096, as the kernel starts out, we are root and may raise it. */
	if (files.rlim_max <= 4096)
		files.rlim_max = 8192;
	files.rlim_cur = files.rlim_max;
	REQUIRE(!setrlimit(RLIMIT_NOFILE, &files));
	REQUIRE(rig_tcp_pair(pair));
	CHECK_EQ(rig->fio->max_slots, 4096);
	high = fcntl(pair[0], F_DUPFD_CLOEXEC, 4096);
	REQUIRE(high >= 4096);
	sqe = rig_get(&rig->fio->queues[0]);
	fastio_prep_recv(sqe, high, buf, sizeof(buf), 0);
	fastio_set_flags(sqe, FASTIO_SQE_SLOT);
	CHECK_EQ(rig_expect(rig, 0), -EBADF);
	CHECK_EQ(send(pair[1], "x", 1, 0), 1);
	fastio_prep_recv(rig_get(&rig->fio->queues[0]), high, buf, sizeof(buf), 0);
	CHECK_EQ(rig_expect(rig, 0), 1);
	close(high);
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{ "a provided buffer is taken when data is there",
		  provided_buffer_is_taken_when_data_is_there },
		{ "multishot RECV ends when buffers do", multishot_recv_ends_when_buffers_do },
		{ "groups belong to a queue", groups_belong_to_a_queue },
		{ "registered buffers bound what is touched",
		  registered_buffers_bound_what_is_touched },
		{ "a slot keeps order", slot_keeps_order },
		{ "a slot is closed with what waits in it", slot_is_closed_with_what_waits_in_it },
		{ "a slot is made and dropped by name", slot_is_made_and_dropped_by_name },
		{ "slots have a limit", slots_have_a_limit },
	};

	(void)argc;
	tap_begin(argv[0]);
	rig_run(tests, sizeof(tests) / sizeof(tests[0]));
	return tap_end();
}
