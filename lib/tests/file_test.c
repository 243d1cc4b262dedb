// SPDX-License-Identifier: MIT
/* Files, what blocks, time-outs and cancelling. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"

/* A file of its own for each test, gone by itself. */
static int scratch_file(void)
{
	char path[] = "/tmp/fastio-test-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd >= 0)
		unlink(path);
	return fd;
}

static void read_and_write_at_offsets(void *arg)
{
	struct rig *rig = arg;
	int fd = scratch_file();
	char buf[16] = "";

	REQUIRE(fd >= 0);
	fastio_prep_write(rig_sqe(rig, fd), fd, "0123456789", 10, 0);
	CHECK_EQ(rig_expect(rig, 0), 10);
	fastio_prep_write(rig_sqe(rig, fd), fd, "XY", 2, 4);
	CHECK_EQ(rig_expect(rig, 0), 2);
	fastio_prep_read(rig_sqe(rig, fd), fd, buf, sizeof(buf), 2);
	CHECK_EQ(rig_expect(rig, 0), 8);
	CHECK(!memcmp(buf, "23XY6789", 8), "%.8s", buf);
	fastio_prep_read(rig_sqe(rig, fd), fd, buf, sizeof(buf), 10);
	CHECK_EQ(rig_expect(rig, 0), 0);
	/* Offsets leave the position alone. */
	fastio_prep_read(rig_sqe(rig, fd), fd, buf, 3, FASTIO_OFF_CURRENT);
	CHECK_EQ(rig_expect(rig, 0), 3);
	fastio_prep_read(rig_sqe(rig, fd), fd, buf, 3, FASTIO_OFF_CURRENT);
	CHECK_EQ(rig_expect(rig, 0), 3);
	CHECK(!memcmp(buf, "3XY", 3), "%.3s", buf);
	close(fd);
}

static void vectors_scatter_and_gather(void *arg)
{
	struct rig *rig = arg;
	char one[4], two[4];
	struct iovec out[3] = { { "ab", 2 }, { "", 0 }, { "cdefgh", 6 } };
	struct iovec in[2] = { { one, 4 }, { two, 4 } };
	int fd = scratch_file();

	REQUIRE(fd >= 0);
	fastio_prep_writev(rig_sqe(rig, fd), fd, out, 3, 0);
	CHECK_EQ(rig_expect(rig, 0), 8);
	fastio_prep_readv(rig_sqe(rig, fd), fd, in, 2, 0);
	CHECK_EQ(rig_expect(rig, 0), 8);
	CHECK(!memcmp(one, "abcd", 4) && !memcmp(two, "efgh", 4));
	fastio_prep_readv(rig_sqe(rig, fd), fd, in, 0, 0);
	CHECK_EQ(rig_expect(rig, 0), 0);
	fastio_prep_readv(rig_sqe(rig, fd), fd, in, 1025, 0);
	CHECK_EQ(rig_expect(rig, 0), -EINVAL);
	close(fd);
}

static void pipes_wait(void *arg)
{
	struct rig *rig = arg;
	char buf[8] = "";
	int pipes[2];

	REQUIRE(!pipe2(pipes, O_CLOEXEC));
	fastio_prep_read(rig_sqe(rig, pipes[0]), pipes[0], buf, sizeof(buf), FASTIO_OFF_CURRENT);
	CHECK(rig_quiet(rig));
	fastio_prep_write(rig_sqe(rig, pipes[1]), pipes[1], "pipe", 4, FASTIO_OFF_CURRENT);
	CHECK_EQ(rig_next(rig).res, 4);
	CHECK_EQ(rig_next(rig).res, 4);
	CHECK(!memcmp(buf, "pipe", 4));
	fastio_prep_read(rig_sqe(rig, pipes[0]), pipes[0], buf, sizeof(buf), 0);
	CHECK_EQ(rig_expect(rig, 0), -ESPIPE);
	fastio_prep_read(rig_sqe(rig, pipes[0]), pipes[0], buf, sizeof(buf), FASTIO_OFF_CURRENT);
	close(pipes[1]);
	CHECK_EQ(rig_expect(rig, 0), 0);
	close(pipes[0]);
}

static void sockets_can_be_read_and_written(void *arg)
{
	struct rig *rig = arg;
	char buf[8] = "";
	int pair[2];

	REQUIRE(rig_tcp_pair(pair));
	fastio_prep_read(rig_sqe(rig, pair[0]), pair[0], buf, sizeof(buf), FASTIO_OFF_CURRENT);
	CHECK(rig_quiet(rig));
	fastio_prep_write(rig_sqe(rig, pair[1]), pair[1], "sock", 4, FASTIO_OFF_CURRENT);
	CHECK_EQ(rig_next(rig).res, 4);
	CHECK_EQ(rig_next(rig).res, 4);
	CHECK(!memcmp(buf, "sock", 4));
	close(pair[0]);
	close(pair[1]);
}

static void async_goes_to_the_wq_worker(void *arg)
{
	struct rig *rig = arg;
	struct fastio_stats stats;
	struct fastio_sqe *sqe;
	int fd = scratch_file();
	char buf[8] = "";

	REQUIRE(fd >= 0);
	sqe = rig_sqe(rig, fd);
	fastio_prep_write(sqe, fd, "async", 5, 0);
	fastio_set_flags(sqe, FASTIO_SQE_ASYNC);
	CHECK_EQ(rig_expect(rig, 0), 5);
	sqe = rig_sqe(rig, fd);
	fastio_prep_read(sqe, fd, buf, sizeof(buf), 0);
	fastio_set_flags(sqe, FASTIO_SQE_ASYNC);
	CHECK_EQ(rig_expect(rig, 0), 5);
	CHECK(!memcmp(buf, "async", 5));
	CHECK_EQ(fastio_get_stats(fastio_queue_for(rig->fio, fd), &stats), 0);
	CHECK(stats.punted >= 2, "%llu", (unsigned long long)stats.punted);
	close(fd);
}

static void open_and_fsync(void *arg)
{
	struct rig *rig = arg;
	char path[64];
	struct stat info;
	int fd;

	snprintf(path, sizeof(path), "/tmp/fastio-test-open-%d", (int)getpid());
	unlink(path);
	fastio_prep_open(rig_get(&rig->fio->queues[0]), path, O_RDWR, 0);
	CHECK_EQ(rig_expect(rig, 0), -ENOENT);
	fastio_prep_open(rig_get(&rig->fio->queues[0]), path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			 0600);
	fd = rig_expect(rig, 0);
	REQUIRE(fd >= 0, "%s", fastio_errno_name(fd));
	CHECK_EQ(fstat(fd, &info), 0);
	CHECK_EQ(info.st_mode & 0777, 0600);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	fastio_prep_fsync(rig_sqe(rig, fd), fd, 0);
	CHECK_EQ(rig_expect(rig, 0), 0);
	fastio_prep_fsync(rig_sqe(rig, fd), fd, FASTIO_FSYNC_DATASYNC);
	CHECK_EQ(rig_expect(rig, 0), 0);
	fastio_prep_fsync(rig_sqe(rig, fd), fd, 8);
	CHECK_EQ(rig_expect(rig, 0), -EINVAL);
	close(fd);
	unlink(path);
}

static void open_of_a_fifo_waits_for_the_other_side(void *arg)
{
	struct rig *rig = arg;
	char path[64];
	int reader, fd;

	snprintf(path, sizeof(path), "/tmp/fastio-test-fifo-%d", (int)getpid());
	unlink(path);
	REQUIRE(!mkfifo(path, 0600));
	fastio_prep_open(rig_get(&rig->fio->queues[0]), path, O_WRONLY | O_CLOEXEC, 0);
	CHECK(rig_quiet(rig));
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	fd = rig_expect(rig, 0);
	REQUIRE(fd >= 0, "%s", fastio_errno_name(fd));
	CHECK_EQ(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_WRONLY);
	close(fd);
	close(reader);
	unlink(path);
}

static void sendfile_sends_files(void *arg)
{
	struct rig *rig = arg;
	char text[100], buf[128];
	int fd = scratch_file();
	int pair[2], ret;

	REQUIRE(fd >= 0 && rig_tcp_pair(pair));
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	CHECK_EQ(pwrite(fd, text, sizeof(text), 0), sizeof(text));
	fastio_prep_sendfile(rig_sqe(rig, pair[0]), pair[0], fd, 10, 1000);
	CHECK_EQ(rig_expect(rig, 0), 90);
	CHECK_EQ(recv(pair[1], buf, sizeof(buf), MSG_WAITALL | MSG_DONTWAIT), 90);
	CHECK(!memcmp(buf, text + 10, 90));
	CHECK_EQ(lseek(fd, 95, SEEK_SET), 95);
	fastio_prep_sendfile(rig_sqe(rig, pair[0]), pair[0], fd, FASTIO_OFF_CURRENT, 3);
	CHECK_EQ(rig_expect(rig, 0), 3);
	CHECK_EQ(recv(pair[1], buf, sizeof(buf), 0), 3);
	CHECK(!memcmp(buf, text + 95, 3));
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 98);
	/* A socket cannot be sent from. */
	fastio_prep_sendfile(rig_sqe(rig, pair[0]), pair[0], pair[0], FASTIO_OFF_CURRENT, 3);
	ret = rig_expect(rig, 0);
	CHECK(ret == -EINVAL || ret == -ESPIPE, "%s", fastio_errno_name(ret));
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/*
 * Five time-outs, the first due @from_ms from now. Returns false if the machine was too slow to
 * have all of them waiting by then, so that their order says nothing.
 */
static bool try_timeouts(struct rig *rig, unsigned int from_ms)
{
	static const unsigned int order[] = { 30, 10, 50, 20, 40 };
	struct fastio_queue *queue = &rig->fio->queues[rig->fio->nr_queues - 1];
	uint64_t from_ns = now_ns() + from_ms * 1000000u;
	struct fastio_cqe cqes[5];
	bool in_time;

	for (int i = 0; i < 5; i++) {
		struct fastio_sqe *sqe = rig_get(queue);

		fastio_prep_timeout(sqe, from_ns + order[i] * 1000000u, FASTIO_TIMEOUT_ABS);
		fastio_set_data64(sqe, order[i]);
	}
	CHECK_EQ(fastio_submit_all(rig->fio), 0);
	CHECK(fastio_serve(rig->fio) >= 0);
	while (fastio_sq_space(queue) < queue->sq_entries && now_ns() < from_ns)
		CHECK(fastio_serve(rig->fio) >= 0);
	in_time = now_ns() < from_ns;
	for (unsigned int i = 0; i < 5; i++) {
		cqes[i] = rig_next(rig);
		CHECK_EQ(cqes[i].res, -ETIME);
		CHECK(now_ns() >= from_ns + cqes[i].user_data * 1000000u, "%u ms came early",
		      (unsigned int)cqes[i].user_data);
	}
	for (unsigned int i = 0; i < 5 && in_time; i++)
		CHECK_EQ(cqes[i].user_data, 10 * (i + 1));
	return in_time;
}

static void timeouts_come_in_their_order(void *arg)
{
	struct rig *rig = arg;
	struct fastio_queue *queue = &rig->fio->queues[rig->fio->nr_queues - 1];
	unsigned int from_ms = 20;

	while (!try_timeouts(rig, from_ms)) {
		from_ms *= 2;
		REQUIRE(from_ms < 20000);
	}
	fastio_prep_timeout(rig_get(queue), 1, FASTIO_TIMEOUT_ABS);
	CHECK_EQ(rig_expect(rig, 0), -ETIME);
	fastio_prep_timeout(rig_get(queue), 0, 0);
	CHECK_EQ(rig_expect(rig, 0), -ETIME);
}

static void cancel_ends_what_waits(void *arg)
{
	struct rig *rig = arg;
	char buf[8];
	int pair[2];
	struct fastio_queue *queue;
	struct fastio_cqe first;
	struct fastio_sqe *sqe;

	REQUIRE(rig_tcp_pair(pair));
	queue = fastio_queue_for(rig->fio, pair[0]);
	for (uint64_t i = 0; i < 3; i++) {
		sqe = rig_get(queue);
		if (i == 1)
			fastio_prep_timeout(sqe, 3600ull * 1000000000, 0);
		else
			fastio_prep_recv(sqe, pair[0], buf, sizeof(buf), 0);
		fastio_set_data64(sqe, i == 2 ? 1 : i);
	}
	CHECK(rig_quiet(rig));

	/* Of two with the same data the older one goes first. */
	sqe = rig_get(queue);
	fastio_prep_cancel(sqe, 1, 0);
	fastio_set_data64(sqe, 9);
	CHECK_EQ(rig_expect(rig, 1), -ECANCELED);
	CHECK_EQ(rig_expect(rig, 9), 1);

	sqe = rig_get(queue);
	fastio_prep_cancel(sqe, 77, FASTIO_CANCEL_ALL);
	fastio_set_data64(sqe, 9);
	CHECK_EQ(rig_expect(rig, 9), -ENOENT);

	sqe = rig_get(queue);
	fastio_prep_cancel_fd(sqe, pair[0], FASTIO_CANCEL_ALL);
	fastio_set_data64(sqe, 9);
	/* In whatever order: they share a file without a slot. */
	first = rig_next(rig);
	CHECK_EQ(first.res, -ECANCELED);
	CHECK(first.user_data <= 1, "%llu", (unsigned long long)first.user_data);
	CHECK_EQ(rig_expect(rig, !first.user_data), -ECANCELED);
	CHECK_EQ(rig_expect(rig, 9), 2);

	/* What was cancelled takes nothing that comes later. */
	CHECK_EQ(send(pair[1], "still", 5, 0), 5);
	CHECK_EQ(recv(pair[0], buf, sizeof(buf), 0), 5);
	close(pair[0]);
	close(pair[1]);
}

static void executing_cannot_be_cancelled(void *arg)
{
	struct rig *rig = arg;
	struct fastio_queue *queue;
	struct fastio_sqe *sqe;
	char buf[4];
	int pipes[2];

	REQUIRE(!pipe2(pipes, O_CLOEXEC));
	queue = fastio_queue_for(rig->fio, pipes[0]);
	for (uint64_t i = 1; i <= 2; i++) {
		sqe = rig_get(queue);
		fastio_prep_read(sqe, pipes[0], buf, sizeof(buf), FASTIO_OFF_CURRENT);
		fastio_set_flags(sqe, FASTIO_SQE_ASYNC);
		fastio_set_data64(sqe, i);
	}
	CHECK(rig_quiet(rig));
	/* The one wq worker sits in the first read; the second one waits for it. */
	for (uint64_t i = 1; i <= 2; i++) {
		sqe = rig_get(queue);
		fastio_prep_cancel(sqe, i, 0);
		fastio_set_data64(sqe, 10 + i);
	}
	CHECK_EQ(rig_expect(rig, 11), -EALREADY);
	CHECK_EQ(rig_expect(rig, 2), -ECANCELED);
	CHECK_EQ(rig_expect(rig, 12), 1);
	CHECK_EQ(write(pipes[1], "abc", 3), 3);
	CHECK_EQ(rig_expect(rig, 1), 3);
	close(pipes[0]);
	close(pipes[1]);
}

static void without_wq_workers_nothing_may_block(void *arg)
{
	struct fastio_error error = { "" };
	struct fastio_params params;
	struct rig rig = { 0 };

	(void)arg;
	rig_params(&params, &rig_modes[0]);
	params.wq_workers = 0;
	REQUIRE(!fastio_setup(&rig.fio, &params, &error), "%s", error.message);
	fastio_prep_open(rig_get(&rig.fio->queues[0]), "/tmp", O_RDONLY, 0);
	CHECK_EQ(rig_expect(&rig, 0), -EOPNOTSUPP);
	fastio_exit(rig.fio);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{ "READ and WRITE at offsets and at the position", read_and_write_at_offsets },
		{ "vectors scatter and gather", vectors_scatter_and_gather },
		{ "pipes wait", pipes_wait },
		{ "sockets can be read and written", sockets_can_be_read_and_written },
		{ "ASYNC goes to the wq worker", async_goes_to_the_wq_worker },
		{ "OPENAT and FSYNC", open_and_fsync },
		{ "OPENAT of a FIFO waits for the other side",
		  open_of_a_fifo_waits_for_the_other_side },
		{ "SENDFILE sends files", sendfile_sends_files },
		{ "time-outs come in their order", timeouts_come_in_their_order },
		{ "CANCEL ends what waits", cancel_ends_what_waits },
		{ "what is executing cannot be cancelled", executing_cannot_be_cancelled },
	};
	static const struct tap_test alone = { "without wq workers nothing may block",
					       without_wq_workers_nothing_may_block };

	(void)argc;
	tap_begin(argv[0]);
	rig_run(tests, sizeof(tests) / sizeof(tests[0]));
	tap_run(&alone, NULL, NULL);
	return tap_end();
}
