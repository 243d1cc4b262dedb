// SPDX-License-Identifier: GPL-2.0
/*
 * Every way a process under load can end, stop or be held: kill, exit, exec, fork, close of the device, descriptors passed
 * around, signals, ptrace, the freezer, CPU hotplug. Afterwards the system's levels are what they were.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "levels.h"
#include "net.h"
#include "victim.h"

static const enum server servers[] = { SERVER_SPINNING, SERVER_SLEEPING, SERVER_INLINE };

/* Runs @rounds of @round, after some to fill the system's caches, and checks that nothing is left of them. */
static void flat_over(unsigned int rounds, void (*round)(unsigned int))
{
	struct levels before;

	for (unsigned int i = 0; i < 6; i++)
		round(i);
	sleep_ms(1000);
	before = levels_now();
	for (unsigned int i = 0; i < rounds; i++)
		round(i);
	levels_flat(&before);
}

/* ------------------------------------------------------------------ ends */

static void kill_round(unsigned int i)
{
	struct victim victim;
	int status;

	victim_start(&victim, servers[i % NR(servers)], NULL);
	sleep_ms(i * 7 % 20);
	status = victim_end(&victim, i % 5 == 4 ? SIGSEGV : SIGKILL);
	CHECK(WIFSIGNALED(status), "wait status %#x", status);
}

static void killed(const void *arg)
{
	(void)arg;
	flat_over(42, kill_round);
}

static int just_exit(struct ctx *ctx)
{
	(void)ctx;
	return 42;
}

static void exit_round(unsigned int i)
{
	struct victim victim;

	victim_start(&victim, servers[i % NR(servers)], just_exit);
	CHECK_EQ(WEXITSTATUS(victim_end(&victim, 0)), 42);
}

static void exits(const void *arg)
{
	(void)arg;
	flat_over(15, exit_round);
}

/* The new program keeps the descriptor in odd rounds: the context must be dead all the same. */
static int exec_true(struct ctx *ctx)
{
	fcntl(ctx->fd, F_SETFD, 0);
	execl("/proc/self/exe", "lifecycle", "--exit", NULL);
	return 127;
}

static int exec_cloexec(struct ctx *ctx)
{
	(void)ctx;
	execl("/proc/self/exe", "lifecycle", "--exit", NULL);
	return 127;
}

static void exec_round(unsigned int i)
{
	struct victim victim;
	int status;

	victim_start(&victim, servers[i % NR(servers)], i % 2 ? exec_true : exec_cloexec);
	status = victim_end(&victim, 0);
	CHECK_EQ(status, 0, "round %u", i);
}

static void execs(const void *arg)
{
	(void)arg;
	flat_over(15, exec_round);
}

/* A crash under load with the core file written by the kernel: the threads in the module must come out for it. */
static int crash(struct ctx *ctx)
{
	struct rlimit core = { 1 << 20, 1 << 20 };

	(void)ctx;
	setrlimit(RLIMIT_CORE, &core);
	NEED_EQ(chdir("/tmp"), 0);
	abort();
}

static void core_round(unsigned int i)
{
	struct victim victim;
	int status;

	victim_start(&victim, servers[i % NR(servers)], crash);
	status = victim_end(&victim, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "wait status %#x", status);
	unlink("/tmp/core");
}

static void dumps_core(const void *arg)
{
	(void)arg;
	flat_over(9, core_round);
}

/* ------------------------------------------------------------------ descriptors */

/* Closing the device with everything in flight, forty times in one process. */
static void *pound_main(void *arg)
{
	int fd = *(int *)arg;
	char byte = 'p';

	while (send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1)
		;
	return NULL;
}

static void close_round(unsigned int i)
{
	enum { PAIRS = 4 };
	enum server server = i % 2 ? SERVER_SPINNING : SERVER_SLEEPING;
	struct fastio_setup setup = ctx_defaults(2);
	uint64_t end = now_ns() + (i % 8) * 5000000;
	pthread_t threads[PAIRS];
	struct fastio_cqe cqe;
	int pairs[PAIRS][2];
	char bytes[PAIRS];
	struct ctx ctx;

	ctx_open(&ctx, &setup, server);
	for (unsigned int p = 0; p < PAIRS; p++) {
		net_pair(pairs[p]);
		NEED_EQ(pthread_create(&threads[p], NULL, pound_main, &pairs[p][1]), 0);
		ring_push(&ctx, p % 2, OP(RECV, pairs[p][0], .flags = FASTIO_SQE_SLOT, .addr = ADDR(&bytes[p]), .len = 1,
					  .user_data = p));
	}
	do {
		for (unsigned int ring = 0; ring < 2; ring++) {
			while (ring_peek(&ctx, ring, &cqe))
				ring_push(&ctx, ring, OP(SEND_RECV, pairs[cqe.user_data][0], .flags = FASTIO_SQE_SLOT,
							 .addr = ADDR(&bytes[cqe.user_data]), .len = 1,
							 .addr2 = ADDR(&bytes[cqe.user_data]), .len2 = 1,
							 .user_data = cqe.user_data));
			ring_submit(&ctx, ring);
		}
	} while (now_ns() < end);
	ctx_close(&ctx);
	for (unsigned int p = 0; p < PAIRS; p++) {
		close(pairs[p][0]);
		pthread_join(threads[p], NULL);
		close(pairs[p][1]);
	}
}

static void device_closed(const void *arg)
{
	(void)arg;
	flat_over(40, close_round);
}

/* The children below say by a byte that they are there, and live until our end of the gate is closed. */
static int gate[2], alive[2];

/* A child keeps the device open, and nothing else: the owner's death must still let go of every file, at once. */
static int fork_and_wait(struct ctx *ctx)
{
	char byte;

	if (fork() == 0) {
		for (int fd = 3; fd < 200; fd++)
			if (fd != ctx->fd && fd != gate[0] && fd != alive[1])
				close(fd);
		_exit(write(alive[1], "a", 1) != 1 || read(gate[0], &byte, 1));
	}
	for (;;)
		pause();
}

static void fork_round(unsigned int i)
{
	struct victim victim;
	int status;
	char byte;

	NEED_EQ(pipe(gate), 0);
	NEED_EQ(pipe(alive), 0);
	victim_start(&victim, servers[i % NR(servers)], fork_and_wait);
	NEED_EQ(read(alive[0], &byte, 1), 1);
	victim_makes_progress(&victim, 50);
	/* Its peer sees the end while the child still holds the device. */
	status = victim_end(&victim, SIGKILL);
	CHECK(WIFSIGNALED(status), "wait status %#x", status);
	close(gate[1]);
	NEED(waitpid(-1, &status, 0) > 0, "the orphan: %s", strerror(errno));
	CHECK_EQ(status, 0, "the orphan's wait status");
	close(gate[0]);
	close(alive[0]);
	close(alive[1]);
}

static void forks(const void *arg)
{
	(void)arg;
	NEED_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	flat_over(6, fork_round);
}

static void pass_descriptor(int socket, int fd)
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

/* The device lies in the queue of a socket whose slot the device holds: a cycle nobody could free by counting. */
static void cycle_round(unsigned int i)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;
	char byte;
	int pair[2];

	ctx_open(&ctx, &setup, i % 2 ? SERVER_SPINNING : SERVER_SLEEPING);
	NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	if (i % 3 == 0)
		CHECK_EQ(op_run(&ctx, 0, OP(FILE_REGISTER, pair[0])).res, 0);
	ring_push(&ctx, 0, OP(RECV, pair[0], .flags = i % 3 == 1 ? FASTIO_SQE_SLOT : 0, .addr = ADDR(&byte), .len = 1));
	ring_submit(&ctx, 0);
	ring_idle(&ctx, 0, 2);
	pass_descriptor(pair[1], ctx.fd);
	pass_descriptor(pair[0], ctx.fd);
	close(pair[0]);
	close(pair[1]);
	ctx_close(&ctx);
}

static void cycles(const void *arg)
{
	(void)arg;
	flat_over(60, cycle_round);
}

/* What becomes of a process one of whose operations waits for memory that userfaultfd withholds. */
enum withheld { KILLED, CLOSED, ANSWERED, WITHHELD_ENDS };

static char *withhold_page(int *uffd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register page = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *memory = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	*uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	NEED(*uffd >= 0, "userfaultfd: %s", strerror(errno));
	page.range.start = ADDR(memory);
	page.range.len = sysconf(_SC_PAGESIZE);
	NEED_EQ(ioctl(*uffd, UFFDIO_API, &api), 0);
	NEED_EQ(ioctl(*uffd, UFFDIO_REGISTER, &page), 0);
	return memory;
}

/* One operation of ring 0 stalls, on its server or a wq worker; ring 1 does not mind. Then the end. */
static void withheld_main(enum withheld end, enum server server, bool async, int ready)
{
	struct fastio_setup setup = ctx_defaults(2);
	struct uffdio_zeropage zero = { .range.len = sysconf(_SC_PAGESIZE) };
	int pair[2], other[2], uffd;
	char *memory = withhold_page(&uffd), byte = 'w';
	struct pollfd fault = { .fd = uffd, .events = POLLIN };
	struct ctx ctx;

	ctx_open(&ctx, &setup, server);
	net_pair(pair);
	net_pair(other);
	net_write(pair[1], "late", 4);
	if (async)
		ring_push(&ctx, 0, OP(READ, pair[0], .flags = FASTIO_SQE_ASYNC, .addr = ADDR(memory), .len = 4,
				      .off = FASTIO_OFF_CURRENT));
	else
		ring_push(&ctx, 0, OP(RECV, pair[0], .flags = FASTIO_SQE_SLOT, .addr = ADDR(memory), .len = 4));
	ring_submit(&ctx, 0);
	NEED_EQ(poll(&fault, 1, 10000 * ktap_slowness()), 1, "the page is asked for");
	for (int i = 0; i < 20; i++) {
		net_write(other[1], &byte, 1);
		CHECK_EQ(op_run(&ctx, 1, OP(RECV, other[0], .flags = FASTIO_SQE_SLOT, .addr = ADDR(&byte), .len = 1)).res, 1);
	}
	NEED(write(ready, "r", 1) == 1, "%s", strerror(errno));
	if (end == CLOSED)
		_exit(close(ctx.fd));
	if (end == ANSWERED) {
		zero.range.start = ADDR(memory);
		NEED_EQ(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), 0);
		ring_expect(&ctx, 0, 0, 4);
		CHECK(!memcmp(memory, "late", 4));
		ctx_close(&ctx);
		_exit(ktap_has_failed());
	}
	for (;;)
		pause();
}

static void withheld_round(unsigned int i)
{
	enum withheld end = i % WITHHELD_ENDS;
	int ready[2], status;
	char byte;
	pid_t pid;

	NEED_EQ(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		withheld_main(end, i % 2 ? SERVER_SPINNING : SERVER_SLEEPING, i / WITHHELD_ENDS % 2, ready[1]);
	}
	close(ready[1]);
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	if (end == KILLED)
		kill(pid, SIGKILL);
	NEED_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, end == KILLED ? SIGKILL : 0, "wait status of round %u", i);
	close(ready[0]);
}

static void withheld(const void *arg)
{
	(void)arg;
	flat_over(18, withheld_round);
}

/* ------------------------------------------------------------------ holds */

static void stopped(const void *arg)
{
	struct victim victim;

	victim_start(&victim, *(const enum server *)arg, NULL);
	for (int i = 0; i < 10; i++) {
		unsigned long echoes;
		int status;

		kill(victim.pid, SIGSTOP);
		NEED_EQ(waitpid(victim.pid, &status, WUNTRACED), victim.pid);
		CHECK(WIFSTOPPED(status));
		echoes = *victim.echoes;
		sleep_ms(30);
		CHECK_EQ(*victim.echoes, echoes, "a stopped process does nothing");
		kill(victim.pid, SIGCONT);
		victim_makes_progress(&victim, 20);
	}
	victim_end(&victim, SIGKILL);
}

/* Attaches to every thread in turn, those inside the module too, looks at its registers, and lets go. */
static void traced(const void *arg)
{
	struct victim victim;
	char path[64];
	struct dirent *entry;
	unsigned int threads = 0;
	DIR *dir;

	victim_start(&victim, *(const enum server *)arg, NULL);
	snprintf(path, sizeof(path), "/proc/%d/task", victim.pid);
	for (int round = 0; round < 3; round++) {
		dir = opendir(path);
		while (dir && (entry = readdir(dir))) {
			pid_t tid = atoi(entry->d_name);
			struct { long words[64]; } registers;
			struct iovec iovec = { &registers, sizeof(registers) };
			int status;

			if (tid <= 0)
				continue;
			NEED(ptrace(PTRACE_SEIZE, tid, 0, 0) == 0, "%s", strerror(errno));
			NEED(ptrace(PTRACE_INTERRUPT, tid, 0, 0) == 0, "%s", strerror(errno));
			NEED_EQ(waitpid(tid, &status, __WALL), tid);
			CHECK(WIFSTOPPED(status));
			CHECK(ptrace(PTRACE_GETREGSET, tid, 1 /* NT_PRSTATUS */, &iovec) == 0, "%s", strerror(errno));
			NEED(ptrace(PTRACE_DETACH, tid, 0, 0) == 0, "%s", strerror(errno));
			threads++;
		}
		closedir(dir);
		victim_makes_progress(&victim, 20);
	}
	CHECK(threads >= 9, "%u threads traced", threads);
	victim_end(&victim, SIGKILL);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	NEED(fd >= 0, "%s: %s", path, strerror(errno));
	NEED(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s to %s: %s", text, path, strerror(errno));
	close(fd);
}

static bool reads_as(const char *path, const char *text)
{
	char content[256];
	int fd = open(path, O_RDONLY);
	ssize_t bytes;

	NEED(fd >= 0, "%s: %s", path, strerror(errno));
	bytes = read(fd, content, sizeof(content) - 1);
	close(fd);
	content[bytes < 0 ? 0 : bytes] = 0;
	return strstr(content, text) != NULL;
}

static void frozen(const void *arg)
{
	static const char root[] = "/sys/fs/cgroup/fastio-test";
	char procs[64], freeze[64], events[64], pid[16];
	struct victim victim;

	if (mkdir(root, 0755) < 0 && errno != EEXIST)
		ktap_skip("no cgroup2 at /sys/fs/cgroup: %s", strerror(errno));
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", root);
	snprintf(freeze, sizeof(freeze), "%s/cgroup.freeze", root);
	snprintf(events, sizeof(events), "%s/cgroup.events", root);
	if (access(freeze, W_OK) < 0)
		ktap_skip("%s is no cgroup2", root);
	victim_start(&victim, *(const enum server *)arg, NULL);
	snprintf(pid, sizeof(pid), "%d", victim.pid);
	write_text(procs, pid);
	for (int i = 0; i < 10; i++) {
		unsigned long echoes;

		write_text(freeze, "1");
		for (unsigned int ms = 0; !reads_as(events, "frozen 1"); ms++) {
			NEED(ms < 10000 * ktap_slowness(), "not frozen after ten seconds");
			sleep_ms(1);
		}
		echoes = *victim.echoes;
		sleep_ms(20);
		CHECK_EQ(*victim.echoes, echoes, "a frozen process does nothing");
		write_text(freeze, "0");
		victim_makes_progress(&victim, 20);
	}
	/* A frozen process can be killed. */
	write_text(freeze, "1");
	victim_end(&victim, SIGKILL);
	write_text(freeze, "0");
	CHECK_EQ(rmdir(root), 0, "the cgroup is empty: %s", strerror(errno));
}

static void hotplug(const void *arg)
{
	static const char online[] = "/sys/devices/system/cpu/cpu1/online";
	struct victim victim;

	if (access(online, W_OK) < 0)
		ktap_skip("no second CPU that can be switched off");
	victim_start(&victim, *(const enum server *)arg, NULL);
	for (int i = 0; i < 8; i++) {
		write_text(online, "0");
		victim_makes_progress(&victim, 20);
		write_text(online, "1");
		victim_makes_progress(&victim, 20);
	}
	victim_end(&victim, SIGKILL);
}

/* setresuid(2) and friends interrupt every thread of the process by a signal of libc's own. */
static int change_identity(struct ctx *ctx)
{
	(void)ctx;
	for (int i = 0; i < 20; i++) {
		NEED_EQ(setresuid(0, 1000 + i, 0), 0);
		NEED_EQ(setresuid(0, 0, 0), 0);
	}
	return 0;
}

static void identity(const void *arg)
{
	struct victim victim;

	victim_start(&victim, *(const enum server *)arg, change_identity);
	CHECK_EQ(victim_end(&victim, 0), 0);
}

#define SPIN(name_, run_)	TEST(name_ " (spinning worker)", run_, .arg = &servers[0], .timeout_s = 120)
#define SLEEP(name_, run_)	TEST(name_ " (sleeping worker)", run_, .arg = &servers[1], .timeout_s = 120)
#define INLINE(name_, run_)	TEST(name_ " (inline)", run_, .arg = &servers[2], .timeout_s = 120)

static const struct ktap_test tests[] = {
	TEST("42 kills under load leave nothing behind", killed, .timeout_s = 600),
	TEST("exit with everything in flight leaves nothing behind", exits, .timeout_s = 300),
	TEST("exec under load leaves nothing behind", execs, .timeout_s = 300),
	TEST("a core dump under load leaves nothing behind", dumps_core, .timeout_s = 300),
	TEST("40 closes of the device under load leave nothing behind", device_closed, .timeout_s = 300),
	TEST("a child that keeps the device open keeps no file of its dead parent", forks, .timeout_s = 300),
	TEST("a device in the queue of its own socket is freed", cycles, .timeout_s = 300),
	TEST("a buffer that userfaultfd withholds stalls its ring alone and nobody's end", withheld, .timeout_s = 300),
	SPIN("SIGSTOP holds it and SIGCONT continues it", stopped),
	SLEEP("SIGSTOP holds it and SIGCONT continues it", stopped),
	INLINE("SIGSTOP holds it and SIGCONT continues it", stopped),
	SPIN("every thread can be traced", traced),
	SLEEP("every thread can be traced", traced),
	INLINE("every thread can be traced", traced),
	SPIN("the freezer freezes and thaws it, and it can be killed frozen", frozen),
	SLEEP("the freezer freezes and thaws it, and it can be killed frozen", frozen),
	INLINE("the freezer freezes and thaws it, and it can be killed frozen", frozen),
	SPIN("CPUs can be switched off and on under it", hotplug),
	SLEEP("CPUs can be switched off and on under it", hotplug),
	INLINE("CPUs can be switched off and on under it", hotplug),
	SPIN("it can change its identity", identity),
	SLEEP("it can change its identity", identity),
	INLINE("it can change its identity", identity),
};

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--exit"))
		return 0;
	return ktap_main(tests, NR(tests), argc, argv);
}
