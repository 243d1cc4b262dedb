// SPDX-License-Identifier: GPL-2.0
/* READ, WRITE, READV, WRITEV, OPENAT, FSYNC and SENDFILE, on files, pipes and block devices, and the wq worker's part. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

#define CURRENT	FASTIO_OFF_CURRENT

static char buffer[1 << 18], data[1 << 18];

/* A new file without a name in $TMPDIR or /tmp. */
static int temporary_file(void)
{
	const char *dir = getenv("TMPDIR");
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/fastio-XXXXXX", dir ? dir : "/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	NEED(fd >= 0, "%s: %s", path, strerror(errno));
	unlink(path);
	return fd;
}

static void read_write(const void *arg)
{
	struct ctx ctx;
	int fd = temporary_file();

	variant_open(&ctx, arg, 1);
	pattern_fill(data, 10000, 1, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .addr = ADDR(data), .len = 10000, .off = 0)).res, 10000);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(buffer), .len = 20000, .off = 5000)).res, 5000, "short");
	pattern_check(buffer, 5000, 1, 5000);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(buffer), .len = 100, .off = 10000)).res, 0, "at the end");
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(buffer), .len = 100, .off = 1 << 30)).res, 0, "beyond");
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0, "an offset leaves the position alone");
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .addr = ADDR("hole"), .len = 4, .off = 20000)).res, 4);
	CHECK_EQ(lseek(fd, 0, SEEK_END), 20004);
	ctx_close(&ctx);
}

static void file_position(const void *arg)
{
	struct ctx ctx;
	int fd = temporary_file();

	variant_open(&ctx, arg, 1);
	pattern_fill(data, 3000, 2, 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .addr = ADDR(data + 1000 * i), .len = 1000,
					    .off = CURRENT)).res, 1000);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3000);
	lseek(fd, 500, SEEK_SET);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(buffer), .len = 1000, .off = CURRENT)).res, 1000);
	pattern_check(buffer, 1000, 2, 500);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 1500);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .flags = FASTIO_SQE_ASYNC, .addr = ADDR(buffer), .len = 9000,
				    .off = CURRENT)).res, 1500);
	pattern_check(buffer, 1500, 2, 1500);
	NEED_EQ(fcntl(fd, F_SETFL, O_APPEND), 0);
	lseek(fd, 0, SEEK_SET);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .addr = ADDR("end"), .len = 3, .off = CURRENT)).res, 3);
	CHECK_EQ(lseek(fd, 0, SEEK_END), 3003);
	ctx_close(&ctx);
}

static void file_errors(const void *arg)
{
	const struct variant *v = arg;
	int fd = temporary_file(), read_only = open("/proc/self/exe", O_RDONLY), dir = open("/tmp", O_RDONLY);
	int write_only = open("/dev/null", O_WRONLY), path_only = open("/tmp", O_PATH), pipe_fds[2];
	struct ctx ctx;

	variant_open(&ctx, v, 1);
	NEED_EQ(pipe(pipe_fds), 0);
	CHECK_EQ(write(fd, "kept", 4), 4);
	const struct { const char *name; struct fastio_sqe sqe; long want; } cases[] = {
		{ "READ of a write-only file", OP(READ, write_only, .addr = ADDR(buffer), .len = 4), -EBADF },
		{ "WRITE of a read-only file", OP(WRITE, read_only, .addr = ADDR(buffer), .len = 4), -EBADF },
		{ "READ of an O_PATH descriptor", OP(READ, path_only, .addr = ADDR(buffer), .len = 4), -EBADF },
		{ "READ of a directory", OP(READ, dir, .addr = ADDR(buffer), .len = 4), -EISDIR },
		{ "READ at a negative offset", OP(READ, fd, .addr = ADDR(buffer), .len = 4, .off = -2ULL), -EINVAL },
		{ "READ of a pipe at an offset", OP(READ, pipe_fds[0], .addr = ADDR(buffer), .len = 4, .off = 4), -ESPIPE },
		{ "WRITE of a pipe at an offset", OP(WRITE, pipe_fds[1], .addr = ADDR(buffer), .len = 4), -ESPIPE },
		{ "READ of a socket at an offset", OP(READ, socket(AF_INET, SOCK_DGRAM, 0), .addr = ADDR(buffer), .len = 4), -ESPIPE },
		{ "READ to nowhere", OP(READ, fd, .addr = 0x10, .len = 4), -EFAULT },
		{ "READ to the kernel", OP(READ, fd, .addr = 0xffffffffffff0000, .len = 4), -EFAULT },
		{ "WRITE from nowhere", OP(WRITE, fd, .addr = 0x10, .len = 4), -EFAULT },
		{ "READV of vectors that are nowhere", OP(READV, fd, .addr = 0x10, .len = 2), -EFAULT },
		{ "WRITEV of vectors that are nowhere", OP(WRITEV, fd, .addr = 0x10, .len = 2), -EFAULT },
		{ "READ of nothing", OP(READ, fd, .addr = ADDR(buffer), .len = 0), 0 },
		{ "READV of no vectors", OP(READV, fd, .addr = 0, .len = 0), 0 },
		{ "FSYNC of a pipe", OP(FSYNC, pipe_fds[1]), -EINVAL },
		{ "SENDFILE from a pipe", OP(SENDFILE, fd, .fd2 = pipe_fds[0], .len = 4), -ESPIPE },
		{ "SENDFILE from nothing", OP(SENDFILE, fd, .fd2 = -1, .len = 4), -EBADF },
		{ "SENDFILE to a read-only file", OP(SENDFILE, read_only, .fd2 = fd, .len = 4), -EBADF },
	};

	for (size_t i = 0; i < NR(cases); i++)
		CHECK_EQ(op_run(&ctx, 0, cases[i].sqe).res, cases[i].want, "%s", cases[i].name);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(buffer), .len = 9)).res, 4);
	CHECK(!memcmp(buffer, "kept", 4));
	ctx_close(&ctx);
}

static void vectors(const void *arg)
{
	struct iovec out[3] = { { data, 100 }, { data + 100, 0 }, { data + 100, 900 } };
	struct iovec in[2] = { { buffer, 333 }, { buffer + 1000, 4000 } };
	int fd = temporary_file();
	struct ctx ctx;

	variant_open(&ctx, arg, 1);
	pattern_fill(data, 1000, 3, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITEV, fd, .addr = ADDR(out), .len = 3, .off = 50)).res, 1000);
	CHECK_EQ(op_run(&ctx, 0, OP(READV, fd, .addr = ADDR(in), .len = 2, .off = 50)).res, 1000);
	pattern_check(buffer, 333, 3, 0);
	pattern_check(buffer + 1000, 667, 3, 333);
	lseek(fd, 60, SEEK_SET);
	CHECK_EQ(op_run(&ctx, 0, OP(READV, fd, .flags = FASTIO_SQE_ASYNC, .addr = ADDR(in), .len = 2,
				    .off = CURRENT)).res, 990);
	pattern_check(buffer, 333, 3, 10);
	ctx_close(&ctx);
}

/* Streams wait like sockets do: an empty pipe for data, a full one for room, an eventfd for a count. */
static void streams_wait(const void *arg)
{
	int fds[2], event = eventfd(0, EFD_NONBLOCK), pair[2];
	uint64_t one = 1, got = 0;
	struct iovec iovec = { buffer, 100 };
	struct ctx ctx;
	size_t room;

	variant_open(&ctx, arg, 1);
	NEED_EQ(pipe(fds), 0);
	ring_push(&ctx, 0, OP(READ, fds[0], .addr = ADDR(buffer), .len = 100, .off = CURRENT, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	CHECK_EQ(write(fds[1], "pipe", 4), 4);
	ring_expect(&ctx, 0, 1, 4);
	CHECK(!memcmp(buffer, "pipe", 4));
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fds[0], .flags = FASTIO_SQE_NOWAIT, .addr = ADDR(buffer), .len = 100,
				    .off = CURRENT)).res, -EAGAIN);
	room = fcntl(fds[1], F_GETPIPE_SZ);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fds[1], .addr = ADDR(data), .len = room, .off = CURRENT)).res, room);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fds[1], .flags = FASTIO_SQE_NOWAIT, .addr = ADDR(data), .len = 1,
				    .off = CURRENT)).res, -EAGAIN);
	ring_push(&ctx, 0, OP(WRITE, fds[1], .addr = ADDR("!"), .len = 1, .off = CURRENT, .user_data = 2));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (size_t done = 0; done < room; done += 4096)
		NEED_EQ(read(fds[0], buffer, 4096), 4096);
	ring_expect(&ctx, 0, 2, 1);
	CHECK_EQ(read(fds[0], buffer, 4096), 1);
	ring_push(&ctx, 0, OP(READV, fds[0], .addr = ADDR(&iovec), .len = 1, .off = CURRENT, .user_data = 3));
	ring_push(&ctx, 0, OP(READ, event, .addr = ADDR(&got), .len = 8, .off = CURRENT, .user_data = 4));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	CHECK_EQ(write(event, &one, 8), 8);
	ring_expect(&ctx, 0, 4, 8);
	CHECK_EQ(got, 1);
	close(fds[1]);
	ring_expect(&ctx, 0, 3, 0);
	net_pair(pair);
	ring_push(&ctx, 0, OP(READ, pair[0], .addr = ADDR(buffer), .len = 100, .off = CURRENT, .user_data = 5));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	net_write(pair[1], "socket", 6);
	ring_expect(&ctx, 0, 5, 6);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, pair[0], .addr = ADDR("back"), .len = 4, .off = CURRENT)).res, 4);
	net_read(pair[1], buffer, 4);
	CHECK(!memcmp(buffer, "back", 4));
	ctx_close(&ctx);
}

static void fixed_buffers(const void *arg)
{
	struct iovec iovecs[2] = { { data, 65536 }, { buffer, 65536 } };
	struct fastio_buffers buffers = { .iovecs = ADDR(iovecs), .nr = 2 };
	int fd = temporary_file(), pair[2];
	struct ctx ctx;

	variant_open(&ctx, arg, 1);
	net_pair(pair);
	NEED_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), 0);
	pattern_fill(data, 65536, 4, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .flags = FASTIO_SQE_FIXED_BUF, .buf = 0, .addr = ADDR(data) + 100,
				    .len = 60000)).res, 60000);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .flags = FASTIO_SQE_FIXED_BUF, .buf = 1, .addr = ADDR(buffer) + 1,
				    .len = 65535)).res, 60000);
	pattern_check(buffer + 1, 60000, 4, 100);
	CHECK_EQ(op_run(&ctx, 0, OP(SEND, pair[0], .flags = FASTIO_SQE_FIXED_BUF, .buf = 0, .addr = ADDR(data) + 4090,
				    .len = 5000)).res, 5000);
	NEED_EQ(recv(pair[1], buffer, 5000, MSG_WAITALL), 5000);
	pattern_check(buffer, 5000, 4, 4090);
	net_write(pair[1], data, 5000);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .flags = FASTIO_SQE_FIXED_BUF, .buf = 1, .addr = ADDR(buffer) + 77,
				    .len = 5000, .op_flags = MSG_WAITALL)).res, 5000);
	pattern_check(buffer + 77, 5000, 4, 0);
	/* Outside by a byte at either end, around the end of memory, of the other buffer, of none. */
	const struct { uint16_t buf; uint64_t addr; uint32_t len; } outside[] = {
		{ 0, ADDR(data) - 1, 10 }, { 0, ADDR(data) + 65527, 10 }, { 0, ADDR(data), 65537 },
		{ 0, ~0ULL - 4, 10 }, { 1, ADDR(data), 10 }, { 2, ADDR(data), 10 },
		{ 0xffff, ADDR(data), 10 }, { 0, 0, 10 },
	};

	for (size_t i = 0; i < NR(outside); i++) {
		CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .flags = FASTIO_SQE_FIXED_BUF, .buf = outside[i].buf,
					    .addr = outside[i].addr, .len = outside[i].len)).res, -EFAULT, "case %zu", i);
		CHECK_EQ(op_run(&ctx, 0, OP(SEND, pair[0], .flags = FASTIO_SQE_FIXED_BUF, .buf = outside[i].buf,
					    .addr = outside[i].addr, .len = outside[i].len)).res, -EFAULT, "case %zu", i);
	}
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_UNREGISTER_BUFFERS, 0), 0);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .flags = FASTIO_SQE_FIXED_BUF, .addr = ADDR(data), .len = 1)).res, -EFAULT);
	ctx_close(&ctx);
}

/* A receive that waits keeps its registered buffer although that is unregistered and unmapped meanwhile. */
static void fixed_buffer_outlives(const void *arg)
{
	char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iovec = { memory, 65536 };
	struct fastio_buffers buffers = { .iovecs = ADDR(&iovec), .nr = 1 };
	struct ctx ctx;
	int pair[2];

	variant_open(&ctx, arg, 1);
	net_pair(pair);
	for (int round = 0; round < 10; round++) {
		NEED_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), 0);
		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = FASTIO_SQE_FIXED_BUF, .addr = ADDR(memory), .len = 9,
				      .user_data = 1));
		ring_submit(&ctx, 0);
		ring_expect_nothing(&ctx, 0);
		CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_UNREGISTER_BUFFERS, 0), 0);
		NEED(mmap(memory, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
		net_write(pair[1], "x", 1);
		ring_expect(&ctx, 0, 1, 1);
		CHECK_EQ(memory[0], 0, "the byte went to the pinned page, not to what is mapped there now");
	}
	ctx_close(&ctx);
}

static void openat_(const void *arg)
{
	struct rlimit limit = { 64, 64 };
	char dir[] = "/tmp/fastio-open-XXXXXX", path[64], long_path[5000];
	struct stat stat_;
	struct ctx ctx;
	int fd;

	variant_open(&ctx, arg, 1);
	NEED(mkdtemp(dir), "%s", strerror(errno));
	snprintf(path, sizeof(path), "%s/file", dir);
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[0] = '/';
	long_path[sizeof(long_path) - 1] = 0;
	umask(022);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(path), .op_flags = O_RDWR)).res, -ENOENT);
	fd = op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(path), .op_flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
				.len = 0666)).res;
	NEED(fd >= 0, "res %d", fd);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	NEED_EQ(fstat(fd, &stat_), 0);
	CHECK_EQ(stat_.st_mode & 07777, 0644);
	CHECK_EQ(op_run(&ctx, 0, OP(WRITE, fd, .addr = ADDR("via"), .len = 3, .off = CURRENT)).res, 3);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(path), .op_flags = O_RDWR | O_CREAT | O_EXCL,
				    .len = 0600)).res, -EEXIST);
	CHECK_EQ(op_run(&ctx, 0, OP(CLOSE, fd)).res, 0);
	NEED_EQ(chdir(dir), 0);
	fd = op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR("file"), .op_flags = O_RDONLY)).res;
	NEED(fd >= 0, "a relative path: res %d", fd);
	CHECK_EQ(read(fd, buffer, 9), 3);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = 0x10)).res, -EFAULT);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(""))).res, -ENOENT);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(long_path))).res, -ENAMETOOLONG);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR("/"), .op_flags = O_RDWR)).res, -EISDIR);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR("file"), .op_flags = O_DIRECTORY)).res, -ENOTDIR);
	NEED_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (dup(0) >= 0)
		;
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR("file"))).res, -EMFILE);
	unlink("file");
	rmdir(dir);
	ctx_close(&ctx);
}

static void fsync_(const void *arg)
{
	int fd = temporary_file();
	struct ctx ctx;

	variant_open(&ctx, arg, 1);
	CHECK_EQ(write(fd, data, 100000), 100000);
	CHECK_EQ(op_run(&ctx, 0, OP(FSYNC, fd)).res, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(FSYNC, fd, .op_flags = FASTIO_FSYNC_DATASYNC)).res, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(FSYNC, fd, .off = 4096, .len = 4096)).res, 0);
	CHECK_EQ(op_run(&ctx, 0, OP(FSYNC, fd, .off = -1ULL, .len = 4096)).res, -EINVAL);
	CHECK(ring_stats(&ctx, 0).punted >= 3);
	ctx_close(&ctx);
}

static void sendfile_(const void *arg)
{
	int from = temporary_file(), to = temporary_file(), pair[2], pipe_fds[2];
	struct ctx ctx;

	variant_open(&ctx, arg, 1);
	net_pair(pair);
	pattern_fill(data, 50000, 6, 0);
	NEED_EQ(write(from, data, 50000), 50000);
	CHECK_EQ(op_run(&ctx, 0, OP(SENDFILE, pair[0], .fd2 = from, .off = 1000, .len = 20000)).res, 20000);
	net_read(pair[1], buffer, 20000);
	pattern_check(buffer, 20000, 6, 1000);
	CHECK_EQ(lseek(from, 0, SEEK_CUR), 50000, "an offset leaves the position alone");
	lseek(from, 49000, SEEK_SET);
	CHECK_EQ(op_run(&ctx, 0, OP(SENDFILE, pair[0], .fd2 = from, .off = CURRENT, .len = 20000)).res, 1000, "short");
	CHECK_EQ(lseek(from, 0, SEEK_CUR), 50000);
	net_read(pair[1], buffer, 1000);
	pattern_check(buffer, 1000, 6, 49000);
	CHECK_EQ(op_run(&ctx, 0, OP(SENDFILE, pair[0], .fd2 = from, .off = 50000, .len = 10)).res, 0, "at the end");
	CHECK_EQ(op_run(&ctx, 0, OP(SENDFILE, to, .fd2 = from, .off = 0, .len = 50000)).res, 50000, "to a file");
	CHECK_EQ(pread(to, buffer, 60000, 0), 50000);
	pattern_check(buffer, 50000, 6, 0);
	NEED_EQ(pipe(pipe_fds), 0);
	CHECK_EQ(op_run(&ctx, 0, OP(SENDFILE, pipe_fds[1], .fd2 = from, .len = 10)).res, -EINVAL, "to a pipe");
	ctx_close(&ctx);
}

/* Reads of a block device: cached, out of the cache, and past the cache with O_DIRECT. */
static void block_device(const void *arg)
{
	struct dirent *entry;
	DIR *dir = opendir("/sys/block");
	char path[300];
	uint64_t bytes = 0;
	struct ctx ctx;
	int fd = -1, direct;
	char *aligned = NULL;

	while (dir && (entry = readdir(dir)) && bytes < 1 << 20) {
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes) < 0)
			bytes = 0;
	}
	if (bytes < 1 << 20)
		ktap_skip("no block device of a megabyte or more");
	variant_open(&ctx, arg, 1);
	NEED_EQ(posix_memalign((void **)&aligned, 4096, 65536), 0);
	/* No reading ahead: pages on their way from a slow disk cannot be dropped. */
	NEED_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
	direct = open(path, O_RDONLY | O_DIRECT);
	NEED(direct >= 0, "%s: %s", path, strerror(errno));
	for (uint64_t off = 0; off + 65536 <= (1 << 20); off += 65536) {
		int res;

		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		res = op_run(&ctx, 0, OP(READ, fd, .flags = FASTIO_SQE_NOWAIT, .addr = ADDR(aligned), .len = 65536,
					 .off = off)).res;
		/* The attempt starts the transfer, and a quick disk has done some of it before the attempt gives up. */
		CHECK(res == -EAGAIN || res > 0, "NOWAIT, out of the cache: %d", res);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(aligned), .len = 65536, .off = off)).res, 65536,
			 "out of the cache, at %llu", (unsigned long long)off);
		NEED_EQ(pread(fd, buffer, 65536, off), 65536);
		CHECK(!memcmp(aligned, buffer, 65536), "out of the cache, at %llu", (unsigned long long)off);
		memset(aligned, 0xa5, 65536);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		NEED_EQ(pread(fd, buffer, 16384, off), 16384);
		CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(aligned), .len = 65536, .off = off)).res, 65536,
			 "a quarter of it cached, at %llu", (unsigned long long)off);
		NEED_EQ(pread(fd, buffer, 65536, off), 65536);
		CHECK(!memcmp(aligned, buffer, 65536), "a quarter of it cached, at %llu", (unsigned long long)off);
		memset(aligned, 0xa5, 65536);
		CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .addr = ADDR(aligned), .len = 65536, .off = off)).res, 65536, "cached");
		CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .flags = FASTIO_SQE_NOWAIT, .addr = ADDR(aligned), .len = 65536,
					    .off = off)).res, 65536, "NOWAIT, cached");
		CHECK(!memcmp(aligned, buffer, 65536), "cached, at %llu", (unsigned long long)off);
		memset(aligned, 0xa5, 65536);
		CHECK_EQ(op_run(&ctx, 0, OP(READ, direct, .addr = ADDR(aligned), .len = 65536, .off = off)).res, 65536,
			 "O_DIRECT");
		CHECK(!memcmp(aligned, buffer, 65536), "O_DIRECT, at %llu", (unsigned long long)off);
	}
	CHECK(ring_stats(&ctx, 0).punted > 0, "what was not in the cache went to the wq worker");
	ctx_close(&ctx);
}

/* Opening a FIFO blocks until there is a writer: the wq worker waits, the ring does not. */
static void wq_blocks(const void *arg)
{
	const struct variant *v = arg;
	char path[64];
	struct ctx ctx;
	int pair[2], writer, fd;

	snprintf(path, sizeof(path), "/tmp/fastio-fifo-%d", getpid());
	NEED_EQ(mkfifo(path, 0600), 0);
	variant_open(&ctx, v, 1);
	net_pair(pair);
	ring_push(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(path), .op_flags = O_RDONLY, .user_data = 1));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(op_run(&ctx, 0, OP(NOP, 0)).res, 0);
	net_write(pair[1], "x", 1);
	CHECK_EQ(op_run(&ctx, 0, OP(RECV, pair[0], .addr = ADDR(buffer), .len = 9)).res, 1);
	CHECK_EQ(op_run(&ctx, 0, OP(CANCEL, 0, .addr = 1)).res, -EALREADY, "it is being executed");
	/* A second one waits behind it, and can still be cancelled. */
	ring_push(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR("/tmp"), .op_flags = O_RDONLY, .user_data = 2));
	ring_submit(&ctx, 0);
	ring_expect_nothing(&ctx, 0);
	ring_push(&ctx, 0, OP(CANCEL, 0, .addr = 2, .user_data = 3));
	ring_submit(&ctx, 0);
	ring_expect(&ctx, 0, 2, -ECANCELED);
	ring_expect(&ctx, 0, 3, 1);
	writer = open(path, O_WRONLY);
	fd = ring_wait(&ctx, 0).res;
	CHECK(fd >= 0, "res %d", fd);
	CHECK_EQ(write(writer, "f", 1), 1);
	CHECK_EQ(read(fd, buffer, 9), 1);
	CHECK(ring_stats(&ctx, 0).punted >= 1);
	unlink(path);
	ctx_close(&ctx);
}

/* Closing the device ends operations that block in a wq worker, too: its thread comes back and can be joined. */
static void wq_ends(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_setup setup = ctx_defaults(1);
	char path[64];
	struct ctx ctx;
	int fds[2], pair[2];

	snprintf(path, sizeof(path), "/tmp/fastio-fifo-%d", getpid());
	NEED_EQ(mkfifo(path, 0600), 0);
	NEED_EQ(pipe(fds), 0);
	net_pair(pair);
	net_clog(pair[0]);
	for (int round = 0; round < 5; round++) {
		setup.wq_workers = 3;
		ctx_open(&ctx, &setup, v->server);
		ring_push(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR(path), .op_flags = O_RDONLY));
		ring_push(&ctx, 0, OP(READ, fds[0], .flags = FASTIO_SQE_ASYNC, .addr = ADDR(buffer), .len = 1,
				      .off = CURRENT));
		ring_push(&ctx, 0, OP(SENDFILE, pair[0], .fd2 = open("/proc/self/exe", O_RDONLY), .len = 65536));
		/* More than there are workers: some wait behind the others. */
		ring_push(&ctx, 0, OP(READ, fds[0], .flags = FASTIO_SQE_ASYNC, .addr = ADDR(buffer), .len = 1,
				      .off = CURRENT));
		ring_submit(&ctx, 0);
		if (round)
			ring_expect_nothing(&ctx, 0);
		ctx_close(&ctx);
	}
	unlink(path);
}

static void without_wq(const void *arg)
{
	const struct variant *v = arg;
	struct fastio_setup setup = ctx_defaults(1);
	int fd = temporary_file();
	struct ctx ctx;

	setup.wq_workers = 0;
	ctx_open(&ctx, &setup, v->server);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR("/tmp"))).res, -EOPNOTSUPP);
	CHECK_EQ(op_run(&ctx, 0, OP(FSYNC, fd)).res, -EOPNOTSUPP);
	CHECK_EQ(op_run(&ctx, 0, OP(SENDFILE, fd, .fd2 = fd, .len = 1)).res, -EOPNOTSUPP);
	CHECK_EQ(op_run(&ctx, 0, OP(READ, fd, .flags = FASTIO_SQE_ASYNC, .addr = ADDR(buffer), .len = 1)).res, -EOPNOTSUPP);
	CHECK_EQ(op_run(&ctx, 0, OP(NOP, 0)).res, 0);
	ctx_close(&ctx);
}

/* Many operations over two rings and three wq workers: each completes once, on its own ring. */
static void wq_many(const void *arg)
{
	enum { EACH = 300 };
	const struct variant *v = arg;
	struct fastio_setup setup = ctx_defaults(2);
	unsigned char seen[2][EACH] = { 0 };
	unsigned int pushed[2] = { 0 }, reaped[2] = { 0 };
	int fd = temporary_file();
	struct ctx ctx;

	setup.wq_workers = 3;
	ctx_open(&ctx, &setup, v->server);
	while (reaped[0] + reaped[1] < 2 * EACH) {
		for (unsigned int r = 0; r < 2; r++) {
			struct fastio_cqe cqe;

			while (pushed[r] < EACH && ring_room(&ctx, r)) {
				ring_push(&ctx, r, OP(WRITE, fd, .flags = FASTIO_SQE_ASYNC, .addr = ADDR(data), .len = 10,
						      .off = 10 * pushed[r], .user_data = r * 1000 + pushed[r]));
				pushed[r]++;
			}
			ring_submit(&ctx, r);
			if (reaped[r] == EACH)
				continue;
			cqe = ring_wait(&ctx, r);
			CHECK_EQ(cqe.res, 10);
			NEED(cqe.user_data / 1000 == r && cqe.user_data % 1000 < EACH, "user_data %llu on ring %u",
			     (unsigned long long)cqe.user_data, r);
			CHECK_EQ(seen[r][cqe.user_data % 1000]++, 0);
			reaped[r]++;
		}
	}
	ctx_close(&ctx);
}

static const struct ktap_test tests[] = {
	TEST("READ and WRITE at an offset", read_write),
	TEST("READ and WRITE at the file's position", file_position),
	TEST("READV and WRITEV", vectors),
	TEST("wrong files, offsets and addresses", file_errors),
	TEST("pipes, eventfds and sockets wait", streams_wait),
	TEST("registered buffers, and nothing outside them", fixed_buffers),
	TEST("a registered buffer lives as long as its operation", fixed_buffer_outlives),
	TEST("OPENAT", openat_),
	TEST("FSYNC", fsync_),
	TEST("SENDFILE", sendfile_),
	TEST("a block device cached, not cached and O_DIRECT", block_device),
	TEST("a blocking operation holds up neither the ring nor CANCEL", wq_blocks),
	TEST("closing the device ends operations that block in wq workers", wq_ends, .timeout_s = 20),
	TEST("without a wq worker what would block gives -EOPNOTSUPP", without_wq),
	TEST("six hundred operations on three wq workers complete once each", wq_many),
};

int main(int argc, char **argv)
{
	return variants_main(tests, NR(tests), false, argc, argv);
}
