// SPDX-License-Identifier: GPL-2.0
/*
 * Hostile rings: indices that lie, SQEs that are garbage or change while they are read, and buffers that are unmapped,
 * read-only, the rings themselves, or answered late by userfaultfd. Nothing is expected of the results; the kernel must
 * stay well, which the caller sees in its log, and the system's levels flat.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ctx.h"
#include "fuzz.h"
#include "ktap.h"
#include "net.h"

#define FUZZ_DIR	"/tmp/fastio-fuzz"
#define PAGE		4096
#define ARENA_PAGES	64
#define MAX_FDS		48
#define GROUP_ENTRIES	16
#define SQES_PER_ROUND	50000
#define IDLE_STEPS	3	/* steps without an SQE taken that end a round early */

/* Parts of the arena, by page. */
enum { RW = 0, READ_ONLY = 24, NO_ACCESS = 26, HOLE = 28, LATE = 30, LATE_PAGES = 6, SHIFTING = 40, SHIFTING_PAGES = 16 };

static const char *const paths[] = {
	FUZZ_DIR "/file", "/dev/null", "/dev/zero", "/proc/self/stat", "relative", "", "/dev/fastio", "/nowhere/at/all", "/tmp",
};

/* A round's world. The hostile structures lie in memory that other threads scribble over meanwhile. */
struct world {
	struct ctx ctx;
	char *arena;
	int fds[MAX_FDS];
	unsigned int nr_fds;
	struct fastio_buf_ring *group;
	struct msghdr msgs[8];
	struct iovec iovecs[32];
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr header;
	} control;
	int uffd;
	uint64_t seed;
};

static uint64_t some_address(struct world *w, uint64_t *random)
{
	/* An answer takes milliseconds, so these are rare, and in some rounds only. */
	if ((w->seed >> 8) % 4 == 0 && fuzz_one_in(random, 32))
		return ADDR(w->arena) + (LATE + fuzz_below(random, LATE_PAGES)) * PAGE + fuzz_below(random, PAGE);
	switch (fuzz_below(random, 16)) {
	case 0:
		return 0;
	case 1:
		return fuzz_random(random);
	case 2:
		return 0xffff000000000000ULL | fuzz_random(random);
	case 3:
		return ADDR(w->ctx.map) + fuzz_below(random, w->ctx.map_bytes);
	case 4:
		return ADDR(w->group) + fuzz_below(random, PAGE);
	case 5:
	case 6:
		return ADDR(w->arena) + fuzz_below(random, LATE * PAGE);
	case 7:
		return ADDR(w->arena) + (SHIFTING + fuzz_below(random, SHIFTING_PAGES)) * PAGE;
	default:
		return ADDR(w->arena) + fuzz_below(random, READ_ONLY * PAGE);
	}
}

static uint32_t some_length(uint64_t *random)
{
	static const uint32_t edges[] = { 0, 1, 0x7ffff000, 0x7fffffff, 0x80000000, 0xffffffff, PAGE, PAGE - 1 };

	return fuzz_one_in(random, 8) ? edges[fuzz_below(random, NR(edges))] : fuzz_below(random, 3 * PAGE);
}

static int some_fd(const struct world *w, uint64_t *random)
{
	return fuzz_one_in(random, 30) ? (int)fuzz_random(random) : w->fds[fuzz_below(random, w->nr_fds)];
}

/* An entry that has good chances to pass the checks, so that what lies behind them is reached. */
static struct fastio_sqe plausible(struct world *w, uint64_t *random)
{
	static const uint8_t flags[] = {
		0, FASTIO_SQE_SLOT, FASTIO_SQE_SLOT, FASTIO_SQE_NOWAIT, FASTIO_SQE_SLOT | FASTIO_SQE_NOWAIT, FASTIO_SQE_FIXED_BUF,
		FASTIO_SQE_BUF_SELECT, FASTIO_SQE_SLOT | FASTIO_SQE_BUF_SELECT | FASTIO_SQE_MULTISHOT, FASTIO_SQE_ASYNC,
		FASTIO_SQE_SLOT | FASTIO_SQE_MULTISHOT, FASTIO_SQE_FIXED_BUF | FASTIO_SQE_ASYNC,
	};
	struct fastio_sqe sqe = {
		.opcode = fuzz_below(random, FASTIO_OP_LAST), .flags = flags[fuzz_below(random, NR(flags))],
		.fd = some_fd(w, random), .user_data = fuzz_below(random, 64),
	};

	switch (sqe.opcode) {
	case FASTIO_OP_NOP:
		sqe.fd = sqe.flags = 0;
		break;
	case FASTIO_OP_ACCEPT:
		sqe.op_flags = fuzz_one_in(random, 2) ? SOCK_NONBLOCK : 0;
		if (fuzz_one_in(random, 4)) {
			sqe.addr = some_address(w, random);
			sqe.addr2 = some_address(w, random);
		}
		break;
	case FASTIO_OP_RECV:
	case FASTIO_OP_SEND:
		sqe.addr = sqe.flags & FASTIO_SQE_BUF_SELECT ? 0 : some_address(w, random);
		sqe.len = some_length(random);
		sqe.op_flags = fuzz_one_in(random, 4) ? fuzz_random(random) : fuzz_one_in(random, 4) ? MSG_WAITALL : 0;
		break;
	case FASTIO_OP_SEND_RECV:
		sqe.flags &= FASTIO_SQE_SLOT | FASTIO_SQE_BUF_SELECT;
		sqe.addr = some_address(w, random);
		sqe.len = fuzz_one_in(random, 2) ? some_length(random) : 1;
		sqe.addr2 = sqe.flags & FASTIO_SQE_BUF_SELECT ? 0 : some_address(w, random);
		sqe.len2 = some_length(random);
		break;
	case FASTIO_OP_RECVMSG:
	case FASTIO_OP_SENDMSG:
		sqe.flags &= FASTIO_SQE_SLOT | FASTIO_SQE_NOWAIT;
		sqe.addr = fuzz_one_in(random, 8) ? some_address(w, random) : ADDR(&w->msgs[fuzz_below(random, NR(w->msgs))]);
		sqe.op_flags = fuzz_one_in(random, 4) ? fuzz_random(random) : 0;
		break;
	case FASTIO_OP_READ:
	case FASTIO_OP_WRITE:
		sqe.flags &= FASTIO_SQE_FIXED_BUF | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT;
		sqe.addr = some_address(w, random);
		sqe.len = some_length(random);
		sqe.off = fuzz_one_in(random, 2) ? FASTIO_OFF_CURRENT : fuzz_below(random, 1 << 20);
		break;
	case FASTIO_OP_READV:
	case FASTIO_OP_WRITEV:
		sqe.flags &= FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT;
		sqe.addr = fuzz_one_in(random, 8) ? some_address(w, random) : ADDR(w->iovecs);
		sqe.len = fuzz_below(random, NR(w->iovecs) + 1);
		sqe.off = fuzz_one_in(random, 2) ? FASTIO_OFF_CURRENT : fuzz_below(random, 1 << 20);
		break;
	case FASTIO_OP_POLL:
		sqe.flags &= FASTIO_SQE_SLOT;
		sqe.op_flags = fuzz_below(random, 8);
		break;
	case FASTIO_OP_OPENAT:
		sqe.flags = 0;
		sqe.fd = AT_FDCWD;
		sqe.addr = fuzz_one_in(random, 4) ? some_address(w, random) : ADDR(paths[fuzz_below(random, NR(paths))]);
		sqe.op_flags = fuzz_one_in(random, 2) ? fuzz_random(random) : O_RDWR | O_CREAT;
		sqe.len = 0600;
		break;
	case FASTIO_OP_FSYNC:
		sqe.flags = 0;
		break;
	case FASTIO_OP_SENDFILE:
		sqe.flags = 0;
		sqe.fd2 = some_fd(w, random);
		sqe.off = fuzz_one_in(random, 2) ? FASTIO_OFF_CURRENT : fuzz_below(random, 1 << 20);
		sqe.len = fuzz_below(random, 65536);
		break;
	case FASTIO_OP_TIMEOUT:
		sqe.fd = sqe.flags = 0;
		sqe.off = fuzz_one_in(random, 16) ? fuzz_random(random) : fuzz_below(random, 20000000);
		break;
	case FASTIO_OP_CANCEL:
		sqe.flags = 0;
		sqe.op_flags = fuzz_below(random, 4);
		sqe.addr = sqe.op_flags & FASTIO_CANCEL_FD ? 0 : fuzz_below(random, 64);
		sqe.fd = sqe.op_flags & FASTIO_CANCEL_FD ? sqe.fd : 0;
		break;
	default:
		sqe.flags = 0;
	}
	return sqe;
}

static struct fastio_sqe any_sqe(struct world *w, uint64_t *random)
{
	struct fastio_sqe sqe = plausible(w, random);

	/* One field wrong, or all of them. */
	if (fuzz_one_in(random, 6))
		((unsigned char *)&sqe)[fuzz_below(random, sizeof(sqe))] = fuzz_random(random);
	if (fuzz_one_in(random, 50))
		for (size_t i = 0; i < sizeof(sqe) / 8; i++)
			((uint64_t *)&sqe)[i] = fuzz_random(random);
	return sqe;
}

static void add_fd(struct world *w, int fd)
{
	if (fd >= 0 && w->nr_fds < MAX_FDS)
		w->fds[w->nr_fds++] = fd;
}

static void add_pair(struct world *w, int domain, int type)
{
	int pair[2];

	if (socketpair(domain, type, 0, pair) == 0) {
		add_fd(w, pair[0]);
		add_fd(w, pair[1]);
	}
}

static void open_files(struct world *w)
{
	struct sockaddr_in addr;
	int pair[2];

	add_fd(w, net_listen(&addr));
	add_fd(w, net_connect(&addr));
	add_fd(w, net_connect(&addr));
	for (int i = 0; i < 5; i++) {
		net_pair(pair);
		/* They block in nothing but the module. */
		fcntl(pair[1], F_SETFL, O_NONBLOCK);
		add_fd(w, pair[0]);
		add_fd(w, pair[1]);
	}
	add_pair(w, AF_UNIX, SOCK_STREAM);
	add_pair(w, AF_UNIX, SOCK_STREAM);
	add_pair(w, AF_UNIX, SOCK_DGRAM);
	add_pair(w, AF_UNIX, SOCK_SEQPACKET);
	if (pipe(pair) == 0) {
		add_fd(w, pair[0]);
		add_fd(w, pair[1]);
	}
	add_fd(w, eventfd(0, EFD_NONBLOCK));
	add_fd(w, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	add_fd(w, epoll_create1(0));
	add_fd(w, open("/dev/zero", O_RDWR));
	add_fd(w, open("/dev/null", O_RDWR));
	add_fd(w, open(FUZZ_DIR "/file", O_RDWR | O_CREAT, 0600));
	add_fd(w, open("/tmp", O_RDONLY));
	add_fd(w, socket(AF_INET, SOCK_DGRAM, 0));
	add_fd(w, w->ctx.fd);
	add_fd(w, device_open());
	add_fd(w, -1);
	add_fd(w, 255);
}

static void *answer_late(void *arg)
{
	struct world *w = arg;
	uint64_t random = w->seed ^ 0x77;
	struct uffd_msg msg;

	while (read(w->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		struct uffdio_zeropage zero = {
			.range = { .start = msg.arg.pagefault.address & ~(uint64_t)(PAGE - 1), .len = PAGE },
		};

		sleep_ms(fuzz_below(&random, 8));
		ioctl(w->uffd, UFFDIO_ZEROPAGE, &zero);
	}
	return NULL;
}

static void open_arena(struct world *w)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register late = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread;

	w->arena = mmap(NULL, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(w->arena != MAP_FAILED, "mmap: %s", strerror(errno));
	memset(w->arena, 'a', READ_ONLY * PAGE);
	mprotect(w->arena + READ_ONLY * PAGE, 2 * PAGE, PROT_READ);
	mprotect(w->arena + NO_ACCESS * PAGE, 2 * PAGE, PROT_NONE);
	munmap(w->arena + HOLE * PAGE, 2 * PAGE);
	w->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	NEED(w->uffd >= 0, "userfaultfd: %s", strerror(errno));
	late.range.start = ADDR(w->arena) + LATE * PAGE;
	late.range.len = LATE_PAGES * PAGE;
	NEED_EQ(ioctl(w->uffd, UFFDIO_API, &api), 0);
	NEED_EQ(ioctl(w->uffd, UFFDIO_REGISTER, &late), 0);
	NEED_EQ(pthread_create(&thread, NULL, answer_late, w), 0);
}

/* Changes everything the module may be reading: entries, buffers' mappings, vectors, provided buffers, indices. */
static void *scribble(void *arg)
{
	struct world *w = arg;
	uint64_t random = w->seed ^ 0x5555;

	for (;;) {
		unsigned int ring = fuzz_below(&random, w->ctx.setup.workers);
		struct fastio_sqe *sqe = &w->ctx.ring[ring].sq[fuzz_below(&random, w->ctx.setup.sq_entries)];
		char *shifting = w->arena + (SHIFTING + fuzz_below(&random, SHIFTING_PAGES)) * PAGE;

		switch (fuzz_below(&random, 12)) {
		case 0:
			((volatile unsigned char *)sqe)[fuzz_below(&random, sizeof(*sqe))] = fuzz_random(&random);
			break;
		case 1:
			mprotect(shifting, PAGE, fuzz_one_in(&random, 2) ? PROT_READ : PROT_READ | PROT_WRITE);
			break;
		case 2:
			mmap(shifting, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			break;
		case 3:
			madvise(w->arena + (LATE + fuzz_below(&random, LATE_PAGES)) * PAGE, PAGE, MADV_DONTNEED);
			break;
		case 4:
			w->iovecs[fuzz_below(&random, NR(w->iovecs))] = (struct iovec) {
				(void *)some_address(w, &random), some_length(&random),
			};
			break;
		case 5:
			w->msgs[fuzz_below(&random, NR(w->msgs))] = (struct msghdr) {
				.msg_name = fuzz_one_in(&random, 4) ? (void *)some_address(w, &random) : NULL,
				.msg_namelen = fuzz_one_in(&random, 4) ? some_length(&random) : 0,
				.msg_iov = w->iovecs, .msg_iovlen = fuzz_below(&random, NR(w->iovecs)),
				.msg_control = fuzz_one_in(&random, 3) ? &w->control : NULL,
				.msg_controllen = fuzz_one_in(&random, 3) ? sizeof(w->control) : fuzz_below(&random, 64),
			};
			break;
		case 6:
			w->control.header = (struct cmsghdr) { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
			*(int *)CMSG_DATA(&w->control.header) = some_fd(w, &random);
			break;
		case 7:
			w->group->bufs[fuzz_below(&random, GROUP_ENTRIES)] = (struct fastio_buf) {
				.addr = some_address(w, &random), .len = some_length(&random), .bid = fuzz_random(&random),
			};
			w->group->tail = fuzz_one_in(&random, 4) ? fuzz_random(&random) : w->group->tail + 1;
			break;
		case 8:
			/* The kernel's own indices and flags: it must not read them back. */
			w->ctx.ring[ring].head->sq_head = fuzz_random(&random);
			w->ctx.ring[ring].head->cq_tail = fuzz_random(&random);
			break;
		case 9:
			w->ctx.ring[ring].head->flags = fuzz_random(&random);
			w->ctx.ring[ring].head->enter = fuzz_random(&random);
			break;
		default:
			usleep(50);
		}
	}
	return NULL;
}

static void register_things(struct world *w)
{
	struct iovec iovecs[2] = { { w->arena, 8 * PAGE }, { w->arena + 10 * PAGE + 5, 1000 } };
	struct fastio_buffers buffers = { .iovecs = ADDR(iovecs), .nr = 2 };
	struct fastio_buf_group group = { .entries = GROUP_ENTRIES };

	NEED_EQ(device_ioctl(w->ctx.fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers)), 0);
	NEED_EQ(device_ioctl(w->ctx.fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&group)), 0);
	w->group = mmap(NULL, group.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, w->ctx.fd, group.mmap_off);
	NEED(w->group != MAP_FAILED, "mmap: %s", strerror(errno));
}

/* Fills and submits a handful of entries with an honest or a lying tail, and reaps honestly or not. */
static void attack(struct world *w, unsigned int ring, uint64_t *random)
{
	struct ring *r = &w->ctx.ring[ring];
	uint32_t mask = w->ctx.setup.sq_entries - 1, n = 1 + fuzz_below(random, w->ctx.setup.sq_entries);

	for (uint32_t i = 0; i < n; i++)
		r->sq[r->sq_tail++ & mask] = any_sqe(w, random);
	if (fuzz_one_in(random, 10))
		r->sq_tail = fuzz_one_in(random, 2) ? fuzz_random(random) : r->sq_tail + fuzz_below(random, 300);
	__atomic_store_n(&r->head->sq_tail, r->sq_tail, __ATOMIC_RELEASE);
	r->cq_head += fuzz_one_in(random, 10) ? fuzz_random(random) : fuzz_below(random, w->ctx.setup.cq_entries);
	if (fuzz_one_in(random, 2))
		r->cq_head = __atomic_load_n(&r->head->cq_tail, __ATOMIC_ACQUIRE);
	__atomic_store_n(&r->head->cq_head, r->cq_head, __ATOMIC_RELEASE);
	device_ioctl(w->ctx.fd, FASTIO_IOC_WAKE, ring);
}

static void round_main(struct fuzz_round *shared)
{
	static struct world w;
	static const uint32_t sizes[] = { 1, 2, 16, 64, 256 };
	uint64_t random = shared->seed;
	struct fastio_setup setup = ctx_defaults(3);
	struct rlimit files = { 256, 256 }, bytes = { 1 << 20, 1 << 20 };
	unsigned int idle = 0;
	pthread_t thread;

	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_FSIZE, &bytes);
	NEED_EQ(chdir(FUZZ_DIR), 0);
	w.seed = shared->seed;
	setup.sq_entries = sizes[fuzz_below(&random, NR(sizes))];
	setup.cq_entries = setup.sq_entries << fuzz_below(&random, 3);
	setup.wq_workers = fuzz_below(&random, 4);
	/* Two rings have donated workers, this thread enters the third. */
	ctx_open(&w.ctx, &setup, SERVER_NONE);
	open_arena(&w);
	register_things(&w);
	open_files(&w);
	for (unsigned int i = 0; i < setup.wq_workers; i++)
		ctx_donate(&w.ctx, 3 + i);
	ctx_donate(&w.ctx, 0);
	ctx_donate(&w.ctx, 1);
	NEED_EQ(pthread_create(&thread, NULL, scribble, &w), 0);
	/* Operations that wait for ever can fill all CQs; then nothing goes on. */
	while (shared->sqes < SQES_PER_ROUND && idle < IDLE_STEPS) {
		struct fastio_stats stats = { 0 };
		uint64_t sqes = 0;

		for (unsigned int i = 0; i < 32; i++) {
			attack(&w, fuzz_below(&random, 3), &random);
			if (fuzz_one_in(&random, 3))
				device_ioctl(w.ctx.fd, FASTIO_IOC_ENTER,
					     FASTIO_ENTER(2, fuzz_below(&random, 8), fuzz_below(&random, 300),
							  fuzz_below(&random, 2000)));
		}
		for (stats.ring = 0; stats.ring < 3; stats.ring++) {
			NEED_EQ(device_ioctl(w.ctx.fd, FASTIO_IOC_STATS, ADDR(&stats)), 0);
			sqes += stats.submitted;
			NEED(stats.in_flight <= w.ctx.setup.cq_entries, "%llu in flight", (unsigned long long)stats.in_flight);
		}
		idle = sqes > shared->sqes ? 0 : idle + 1;
		shared->sqes = sqes;
	}
	/* Half the rounds close the device in the middle of it; all are killed. */
	if (fuzz_one_in(&random, 2))
		close(w.ctx.fd);
}

/* Hostile paths name files here. */
static void empty_directory(void)
{
	DIR *dir = opendir(FUZZ_DIR);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	NEED_EQ(rmdir(FUZZ_DIR), 0);
}

static void rings(const void *arg)
{
	(void)arg;
	NEED(mkdir(FUZZ_DIR, 0700) == 0 || errno == EEXIST, "%s: %s", FUZZ_DIR, strerror(errno));
	fuzz_rounds(round_main, "hostile rings");
	empty_directory();
}

int main(int argc, char **argv)
{
	const struct ktap_test tests[] = {
		TEST("hostile rings harm nobody", rings, .timeout_s = fuzz_timeout_s()),
	};

	return ktap_main(tests, NR(tests), argc, argv);
}
