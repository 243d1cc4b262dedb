// SPDX-License-Identifier: GPL-2.0
/* Who may use a context and how it may be mapped: strangers, forked children, exec, seccomp, limits, protections. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

#define NOBODY	65534

static const unsigned long commands[] = {
	FASTIO_IOC_SETUP, FASTIO_IOC_WORKER, FASTIO_IOC_ENTER, FASTIO_IOC_WAKE, FASTIO_IOC_WAIT,
	FASTIO_IOC_REGISTER_BUFFERS, FASTIO_IOC_UNREGISTER_BUFFERS, FASTIO_IOC_REGISTER_BUF_RING,
	FASTIO_IOC_UNREGISTER_BUF_RING, FASTIO_IOC_STATS,
};

/* Runs @child in a process of its own and waits for it; its CHECKs count for this test. Return: its wait status. */
static int in_child(void (*child)(void *), void *arg)
{
	pid_t pid = fork();
	int status;

	NEED(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		child(arg);
		_exit(0);
	}
	NEED_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

/* Everything a process with the descriptor but another address space may try. */
static void try_everything(void *arg)
{
	int fd = *(int *)arg;
	struct pollfd events = { .fd = fd, .events = POLLIN };

	for (size_t i = 0; i < NR(commands); i++) {
		CHECK_EQ(device_ioctl(fd, commands[i], 0), -EPERM, "command %zu", i);
		CHECK_EQ(device_ioctl(fd, commands[i], ~0UL), -EPERM, "command %zu", i);
	}
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_STATS + 1, 0), -ENOTTY);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK_EQ(errno, EPERM);
	CHECK_EQ(poll(&events, 1, 0), 1);
	CHECK_EQ(events.revents, POLLERR);
}

static void forked_child(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_SLEEPING);
	CHECK_EQ(in_child(try_everything, &ctx.fd), 0);
	/* The child's end closes the descriptor there; the owner's context goes on. */
	CHECK_EQ(op_run(&ctx, 0, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP }).res, 0);
	ctx_close(&ctx);
}

static void forked_before_setup(const void *arg)
{
	int fd = device_open();
	struct fastio_setup setup = ctx_defaults(1);

	(void)arg;
	CHECK_EQ(in_child(try_everything, &fd), 0);
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&setup)), 0);
	close(fd);
}

static void touch_ring(void *arg)
{
	const struct ctx *ctx = arg;

	signal(SIGSEGV, SIG_DFL);
	_exit(__atomic_load_n(&ctx->ring[0].head->sq_tail, __ATOMIC_RELAXED) & 0x7f);
}

static void not_inherited(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;
	int status;

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_NONE);
	status = in_child(touch_ring, &ctx);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "wait status %#x", status);
	ctx_close(&ctx);
}

static void receive_and_try(void *arg)
{
	int socket = *(int *)arg, fd = -1;
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iovec = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iovec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };

	NEED(recvmsg(socket, &msg, 0) == 1, "recvmsg: %s", strerror(errno));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	try_everything(&fd);
}

static void send_fd(int socket, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { 0 };
	char byte = 0;
	struct iovec iovec = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iovec, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

	control.header = (struct cmsghdr) { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	NEED(sendmsg(socket, &msg, 0) == 1, "sendmsg: %s", strerror(errno));
}

static void passed_descriptor(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;
	int pair[2], status;
	pid_t pid;

	(void)arg;
	NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		receive_and_try(&pair[1]);
		_exit(0);
	}
	ctx_open(&ctx, &setup, SERVER_SLEEPING);
	send_fd(pair[0], ctx.fd);
	NEED_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(op_run(&ctx, 0, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP }).res, 0);
	ctx_close(&ctx);
}

/* A process that opened the device and became another program keeps the descriptor but not the right. */
static void exec_self(void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;
	char number[16];

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_SPINNING);
	NEED_EQ(fcntl(ctx.fd, F_SETFD, 0), 0);
	snprintf(number, sizeof(number), "%d", ctx.fd);
	execl("/proc/self/exe", "abi_access", "--stranger", number, NULL);
	_exit(127);
}

static int stranger_main(int fd)
{
	for (size_t i = 0; i < NR(commands); i++)
		if (device_ioctl(fd, commands[i], 0) != -EPERM)
			return 1;
	return 0;
}

static void after_exec(const void *arg)
{
	(void)arg;
	CHECK_EQ(in_child(exec_self, NULL), 0);
}

/* A thread with a file table of its own ends: the context belongs to the table it was opened in. */
static void *leave_with_own_files(void *arg)
{
	struct ctx *ctx = arg;

	NEED_EQ(unshare(CLONE_FILES), 0);
	close(ctx->fd);
	return NULL;
}

static void other_file_table(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;
	pthread_t thread;

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_SLEEPING);
	NEED_EQ(pthread_create(&thread, NULL, leave_with_own_files, &ctx), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(op_run(&ctx, 0, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP }).res, 0);
	ctx_close(&ctx);
}

static void mmap_rules(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(2);
	const struct { const char *name; long bytes_more; int prot; int flags; long offset; int want; } cases[] = {
		{ "all of it", 0, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 0 },
		{ "read-only", 0, PROT_READ, MAP_SHARED, 0, 0 },
		{ "one page too many", 4096, PROT_READ, MAP_SHARED, 0, EINVAL },
		{ "far too many", 1L << 30, PROT_READ, MAP_SHARED, 0, EINVAL },
		{ "executable", 0, PROT_READ | PROT_EXEC, MAP_SHARED, 0, EINVAL },
		{ "private", 0, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, EINVAL },
		{ "an offset that is nothing", 0, PROT_READ, MAP_SHARED, 4096, EINVAL },
		{ "an offset far away", 0, PROT_READ, MAP_SHARED, 1L << 40, EINVAL },
		{ "the highest offset", 0, PROT_READ, MAP_SHARED, 0x7ffffffffffff000, EINVAL },
		{ "a misaligned offset", 0, PROT_READ, MAP_SHARED, 8, EINVAL },
	};
	struct ctx ctx;
	char *p;

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_NONE);
	for (size_t i = 0; i < NR(cases); i++) {
		p = mmap(NULL, ctx.map_bytes + cases[i].bytes_more, cases[i].prot, cases[i].flags, ctx.fd, cases[i].offset);
		CHECK_EQ(p == MAP_FAILED ? errno : 0, cases[i].want, "%s", cases[i].name);
		if (p != MAP_FAILED)
			munmap(p, ctx.map_bytes + cases[i].bytes_more);
	}
	/* What was refused at first cannot be had later either. */
	CHECK(mprotect(ctx.map, 4096, PROT_READ | PROT_EXEC) < 0 && errno == EACCES);
	CHECK(mremap(ctx.map, ctx.map_bytes, ctx.map_bytes + 4096, MREMAP_MAYMOVE) == MAP_FAILED);
	CHECK(madvise(ctx.map, ctx.map_bytes, MADV_DOFORK) < 0, "the mapping must never be inherited");
	ctx_close(&ctx);
}

/* A ring mapped twice is one ring; unmapping half of it harms nobody but who touches it. */
static void mapped_twice(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct fastio_ring *second;
	struct ctx ctx;

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_SLEEPING);
	second = mmap(NULL, ctx.map_bytes, PROT_READ, MAP_SHARED, ctx.fd, 0);
	NEED(second != MAP_FAILED);
	CHECK_EQ(op_run(&ctx, 0, (struct fastio_sqe) { .opcode = FASTIO_OP_NOP }).res, 0);
	CHECK_EQ(second->cq_tail, 1);
	CHECK_EQ(munmap(ctx.map, ctx.map_bytes), 0);
	/* The worker goes on serving a ring nobody has written to; the second mapping still shows it. */
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_WAKE, 0), 0);
	CHECK_EQ(second->cq_tail, 1);
	ctx.map = second;
	ctx_close(&ctx);
}

/* ------------------------------------------------------------------ credentials and limits */

static void device_mode(const void *arg)
{
	struct stat stat_;

	(void)arg;
	NEED_EQ(stat(FASTIO_DEVICE, &stat_), 0);
	CHECK(S_ISCHR(stat_.st_mode));
	CHECK_EQ(stat_.st_mode & 07777, 0600);
	CHECK_EQ(stat_.st_uid, 0);
	NEED_EQ(setresuid(NOBODY, NOBODY, NOBODY), 0);
	CHECK(open(FASTIO_DEVICE, O_RDWR) < 0 && errno == EACCES);
	CHECK(open(FASTIO_DEVICE, O_RDONLY) < 0 && errno == EACCES);
}

static void drop_privileges(void)
{
	NEED_EQ(setresgid(NOBODY, NOBODY, NOBODY), 0);
	NEED_EQ(setresuid(NOBODY, NOBODY, NOBODY), 0);
}

static void set_memlock(rlim_t bytes)
{
	struct rlimit limit = { bytes, bytes };

	NEED_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
}

static void memlock_rings(const void *arg)
{
	struct fastio_setup big = ctx_defaults(8), small = ctx_defaults(1);
	int fd = device_open();

	(void)arg;
	big.sq_entries = big.cq_entries = 4096;
	set_memlock(1 << 20);
	drop_privileges();
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&big)), -ENOMEM);
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&small)), 0, "what fits is granted");
	close(fd);
}

/* Registered buffers count, and what is unregistered is given back, or the loop would run out. */
static void memlock_buffers(const void *arg)
{
	enum { BYTES = 512 << 10 };
	char *memory = mmap(NULL, 4 * BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iovecs[2] = { { memory, BYTES }, { memory + BYTES, 3 * BYTES } };
	struct fastio_buffers buffers = { .iovecs = ADDR(iovecs), .nr = 2 };
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;

	(void)arg;
	set_memlock(1 << 20);
	ctx_open(&ctx, &setup, SERVER_NONE);
	drop_privileges();
	CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), -ENOMEM);
	buffers.nr = 1;
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), 0, "round %d", i);
		CHECK_EQ(device_ioctl(ctx.fd, FASTIO_IOC_UNREGISTER_BUFFERS, 0), 0, "round %d", i);
	}
	ctx_close(&ctx);
}

static long set_up_least(int fd)
{
	struct fastio_setup least = {
		.version = FASTIO_ABI_VERSION, .workers = 1, .sq_entries = 1, .cq_entries = 1, .max_slots = 1,
	};

	return device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&least));
}

/* Contexts are counted per user and given back. The module's default limit must be below what this tries. */
static void contexts_per_uid(const void *arg)
{
	enum { MOST = 256 };
	struct rlimit files = { MOST + 64, MOST + 64 };
	static int fds[MOST];
	unsigned int nr;
	long ret = 0;

	(void)arg;
	setrlimit(RLIMIT_NOFILE, &files);
	set_memlock(RLIM_INFINITY);
	for (nr = 0; nr < MOST; nr++)
		fds[nr] = device_open();
	drop_privileges();
	for (nr = 0; nr < MOST && ret == 0; nr++)
		ret = set_up_least(fds[nr]);
	NEED_EQ(ret, -EUSERS, "after %u contexts", nr);
	ktap_say("%u contexts of one user were granted", nr - 1);
	close(fds[0]);
	CHECK_EQ(set_up_least(fds[nr]), 0, "a closed context makes room for another");
	CHECK_EQ(set_up_least(fds[nr + 1]), -EUSERS, "but not for two");
}

/* ------------------------------------------------------------------ seccomp */

static void install_filter(void)
{
	struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { .len = 1, .filter = allow };

	NEED_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	NEED_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void seccomp_setup(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	int fd = device_open();

	(void)arg;
	install_filter();
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&setup)), -EPERM);
	close(fd);
}

/* A filter installed after set-up must not be bypassed either: neither by a worker nor by an application thread. */
static void seccomp_late(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(2);
	int pair[2];
	char byte = 'x';
	struct ctx ctx;

	(void)arg;
	ctx_open(&ctx, &setup, SERVER_NONE);
	net_pair(pair);
	install_filter();
	ctx_donate(&ctx, 0);
	CHECK_EQ(op_run(&ctx, 0, (struct fastio_sqe) { .opcode = FASTIO_OP_SEND, .fd = pair[0], .addr = ADDR(&byte),
						       .len = 1 }).res, -EPERM, "a worker");
	ctx.server = SERVER_INLINE;
	CHECK_EQ(op_run(&ctx, 1, (struct fastio_sqe) { .opcode = FASTIO_OP_SEND, .fd = pair[0], .addr = ADDR(&byte),
						       .len = 1 }).res, -EPERM, "an application thread");
	CHECK(recv(pair[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "nothing was sent");
	ctx_close(&ctx);
}

static const struct ktap_test tests[] = {
	TEST("a forked child is refused by every call and the context goes on", forked_child),
	TEST("a child forked before SETUP is refused, its parent is not", forked_before_setup),
	TEST("fork does not inherit the rings", not_inherited),
	TEST("a process that was passed the descriptor is refused by every call", passed_descriptor),
	TEST("exec ends the workers and the new program is refused", after_exec),
	TEST("a thread with its own file table closes its copy only", other_file_table),
	TEST("mmap: offsets, lengths and protections", mmap_rules),
	TEST("a ring can be mapped twice and unmapped under its worker", mapped_twice),
	TEST("the device is root's and an unprivileged open is refused", device_mode),
	TEST("rings are charged to RLIMIT_MEMLOCK", memlock_rings),
	TEST("registered buffers are charged to RLIMIT_MEMLOCK and given back", memlock_buffers),
	TEST("contexts per user are limited and given back", contexts_per_uid, .timeout_s = 120),
	TEST("SETUP under a seccomp filter gives -EPERM", seccomp_setup),
	TEST("a seccomp filter that came after SETUP makes operations fail with -EPERM", seccomp_late),
};

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--stranger"))
		return stranger_main(atoi(argv[2]));
	return ktap_main(tests, NR(tests), argc, argv);
}
