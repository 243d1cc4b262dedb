// SPDX-License-Identifier: GPL-2.0
/* FASTIO_IOC_SETUP: every field out of its range, every command of a wrong size, bad pointers, a second call. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"

/* One field of the otherwise valid argument of SETUP, and what the header documents for its value. */
struct field_case {
	const char *name;
	size_t offset;
	size_t bytes;
	uint64_t value;
	long want;
};

#define FIELD(field_, value_, want_)							\
	{ #field_ " = " #value_ " gives " #want_, offsetof(struct fastio_setup, field_),	\
	  sizeof(((struct fastio_setup *)0)->field_), value_, want_ }

static const struct field_case field_cases[] = {
	FIELD(version, 0, -EPROTONOSUPPORT),
	FIELD(version, FASTIO_ABI_VERSION + 1, -EPROTONOSUPPORT),
	FIELD(version, 0xffffffff, -EPROTONOSUPPORT),
	FIELD(flags, 1, -EINVAL),
	FIELD(flags, 0x80000000, -EINVAL),
	FIELD(workers, 0, -EINVAL),
	FIELD(workers, 1, 0),
	FIELD(workers, FASTIO_MAX_WORKERS, 0),
	FIELD(workers, FASTIO_MAX_WORKERS + 1, -EINVAL),
	FIELD(workers, 0xffffffff, -EINVAL),
	FIELD(wq_workers, 0, 0),
	FIELD(wq_workers, FASTIO_MAX_WQ_WORKERS, 0),
	FIELD(wq_workers, FASTIO_MAX_WQ_WORKERS + 1, -EINVAL),
	FIELD(wq_workers, 0xffffffff, -EINVAL),
	FIELD(sq_entries, 0, -EINVAL),
	FIELD(sq_entries, 1, 0),
	FIELD(sq_entries, 3, -EINVAL),
	FIELD(sq_entries, 48, -EINVAL),
	FIELD(sq_entries, 128, 0),
	FIELD(sq_entries, 256, -EINVAL),		/* more than cq_entries */
	FIELD(sq_entries, FASTIO_MAX_ENTRIES * 2, -EINVAL),
	FIELD(sq_entries, 0x80000000, -EINVAL),
	FIELD(sq_entries, 0xffffffff, -EINVAL),
	FIELD(cq_entries, 0, -EINVAL),
	FIELD(cq_entries, 32, -EINVAL),			/* fewer than sq_entries */
	FIELD(cq_entries, 64, 0),
	FIELD(cq_entries, 100, -EINVAL),
	FIELD(cq_entries, FASTIO_MAX_ENTRIES, 0),
	FIELD(cq_entries, FASTIO_MAX_ENTRIES * 2, -EINVAL),
	FIELD(cq_entries, 0x80000000, -EINVAL),
	FIELD(cq_entries, 0xffffffff, -EINVAL),
	FIELD(idle_us, FASTIO_MAX_IDLE_US, 0),
	FIELD(idle_us, FASTIO_MAX_IDLE_US + 1, -EINVAL),
	FIELD(idle_us, 0xffffffff, -EINVAL),
	FIELD(wq_idle_us, FASTIO_MAX_IDLE_US, 0),
	FIELD(wq_idle_us, FASTIO_MAX_IDLE_US + 1, -EINVAL),
	FIELD(wq_idle_us, 0xffffffff, -EINVAL),
	FIELD(max_slots, 1, 0),
	FIELD(max_slots, FASTIO_MAX_SLOTS, 0),
	FIELD(max_slots, FASTIO_MAX_SLOTS + 1, -EINVAL),
	FIELD(max_slots, 0xffffffff, -EINVAL),
	FIELD(resv[0], 1, -EINVAL),
	FIELD(resv[1], 0x100000000, -EINVAL),
	FIELD(resv[2], 1, -EINVAL),
	FIELD(resv[3], 0x8000000000000000, -EINVAL),
};

static void setup_field(const void *arg)
{
	const struct field_case *c = arg;
	struct fastio_setup setup = ctx_defaults(1), again;
	int fd = device_open();

	memcpy((char *)&setup + c->offset, &c->value, c->bytes);
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&setup)), c->want);
	/* A refused SETUP leaves nothing behind: the same open still takes a good one. */
	again = ctx_defaults(1);
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&again)), c->want ? 0 : -EBUSY);
	close(fd);
}

/* Every command with the sizes its number does not have, wrong directions, and numbers that are no command. */
static void unknown_commands(const void *arg)
{
	static const unsigned long known[] = {
		FASTIO_IOC_SETUP, FASTIO_IOC_WORKER, FASTIO_IOC_ENTER, FASTIO_IOC_WAKE, FASTIO_IOC_WAIT,
		FASTIO_IOC_REGISTER_BUFFERS, FASTIO_IOC_UNREGISTER_BUFFERS, FASTIO_IOC_REGISTER_BUF_RING,
		FASTIO_IOC_UNREGISTER_BUF_RING, FASTIO_IOC_STATS,
	};
	bool is_set_up = arg != NULL;
	struct fastio_setup setup = ctx_defaults(1);
	char *memory = calloc(1, 16384);
	int fd = device_open();

	if (is_set_up)
		NEED_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&setup)), 0);
	for (unsigned int nr = 0; nr < 256; nr++)
		for (unsigned int dir = 0; dir < 4; dir++)
			for (unsigned int size = 0; size < 16384; size = size < 256 ? size + 4 : size * 2) {
				unsigned long command = _IOC(dir, FASTIO_IOC_MAGIC, nr, size);
				bool is_known = false;

				for (size_t i = 0; i < NR(known); i++)
					is_known |= known[i] == command;
				if (!is_known)
					CHECK_EQ(device_ioctl(fd, command, ADDR(memory)), -ENOTTY, "nr %#x dir %u size %u",
						 nr, dir, size);
			}
	for (size_t i = 0; i < NR(known); i++)
		CHECK_EQ(device_ioctl(fd, known[i] ^ (0x5aUL << _IOC_TYPESHIFT), ADDR(memory)), -ENOTTY,
			 "other magic, command %zu", i);
	free(memory);
	close(fd);
}

/* One page that holds a good argument and allows @protection, with an inaccessible one behind it. */
static void *page(int protection)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(p != MAP_FAILED, "mmap: %s", strerror(errno));
	NEED_EQ(mprotect(p + 4096, 4096, PROT_NONE), 0);
	*(struct fastio_setup *)(void *)p = ctx_defaults(1);
	NEED_EQ(mprotect(p, 4096, protection), 0);
	return p;
}

static void setup_pointers(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	char *cut = page(PROT_READ | PROT_WRITE);
	int fd = device_open();

	(void)arg;
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, 0), -EFAULT, "NULL");
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(page(PROT_NONE))), -EFAULT, "unreadable");
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(page(PROT_READ))), -EFAULT, "nowhere to write the result");
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, 0xffffffffffff0000), -EFAULT, "a kernel address");
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, 0x00ff000000000000), -EFAULT, "a non-canonical address");
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(cut + 4096 - 64)), -EFAULT, "the second half not accessible");
	/* None of these may have set anything up. A misaligned argument is no error. */
	memcpy(cut + 1, &setup, sizeof(setup));
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(cut + 1)), 0, "misaligned");
	close(fd);
}

static void setup_results(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(3);
	const uint64_t features = FASTIO_FEAT_MULTISHOT | FASTIO_FEAT_FIXED_BUFS | FASTIO_FEAT_BUF_RINGS |
				  FASTIO_FEAT_POLL | FASTIO_FEAT_SEND_RECV;
	long page_bytes = sysconf(_SC_PAGESIZE);
	int fd = device_open();

	(void)arg;
	/* What user space leaves in output fields does not matter. */
	setup.ring_bytes = setup.sq_off = setup.cq_off = 0xffffffff;
	setup.ops = setup.features = ~0ULL;
	NEED_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&setup)), 0);
	CHECK_EQ(setup.version, FASTIO_ABI_VERSION);
	CHECK_EQ(setup.features & features, features);
	CHECK_EQ(setup.workers, 3);
	CHECK_EQ(setup.max_slots, 65536, "the default");
	CHECK_EQ(setup.ring_bytes % page_bytes, 0);
	CHECK(setup.sq_off >= sizeof(struct fastio_ring));
	CHECK_EQ(setup.sq_off % 64, 0);
	CHECK_EQ(setup.cq_off % 64, 0);
	CHECK(setup.sq_off + setup.sq_entries * sizeof(struct fastio_sqe) <= setup.cq_off ||
	      setup.cq_off + setup.cq_entries * sizeof(struct fastio_cqe) <= setup.sq_off);
	CHECK(setup.sq_off + setup.sq_entries * sizeof(struct fastio_sqe) <= setup.ring_bytes);
	CHECK(setup.cq_off + setup.cq_entries * sizeof(struct fastio_cqe) <= setup.ring_bytes);
	CHECK_EQ(setup.ops >> FASTIO_OP_LAST, 0, "no bit beyond the last opcode");
	CHECK(setup.ops & 1ULL << FASTIO_OP_NOP);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(setup.resv[i], 0);
	close(fd);
}

static void setup_twice(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	int fd = device_open();

	(void)arg;
	NEED_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&setup)), 0);
	setup = ctx_defaults(1);
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&setup)), -EBUSY);
	setup = ctx_defaults(2);
	CHECK_EQ(device_ioctl(fd, FASTIO_IOC_SETUP, ADDR(&setup)), -EBUSY);
	close(fd);
}

struct race {
	int fd;
	pthread_barrier_t start;
	atomic_int won;
};

static void *racer(void *arg)
{
	struct race *race = arg;
	struct fastio_setup setup = ctx_defaults(1);
	long ret;

	pthread_barrier_wait(&race->start);
	ret = device_ioctl(race->fd, FASTIO_IOC_SETUP, ADDR(&setup));
	if (ret == 0)
		race->won++;
	else
		CHECK_EQ(ret, -EBUSY);
	return NULL;
}

static void setup_race(const void *arg)
{
	enum { THREADS = 4, ROUNDS = 50 };

	(void)arg;
	for (int round = 0; round < ROUNDS; round++) {
		struct race race = { .fd = device_open() };
		pthread_t threads[THREADS];

		pthread_barrier_init(&race.start, NULL, THREADS);
		for (int i = 0; i < THREADS; i++)
			NEED_EQ(pthread_create(&threads[i], NULL, racer, &race), 0);
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		CHECK_EQ(race.won, 1);
		close(race.fd);
	}
}

/* A large one, so that there is time to close the device meanwhile. */
static void *long_setup(void *arg)
{
	struct race *race = arg;
	struct fastio_setup setup = ctx_defaults(16);
	long ret;

	pthread_barrier_wait(&race->start);
	ret = device_ioctl(race->fd, FASTIO_IOC_SETUP, ADDR(&setup));
	/* Closed before it began, while it ran, or after it. */
	CHECK(ret == -EBADF || ret == -ESHUTDOWN || ret == 0, "ret %ld", ret);
	race->won += ret == -ESHUTDOWN;
	return NULL;
}

/* Most contexts of one user at a time. */
static unsigned int most_contexts(void)
{
	static const char path[] = "/sys/module/fastio/parameters/max_contexts";
	FILE *file = fopen(path, "r");
	unsigned int most = 0;

	NEED(file && fscanf(file, "%u", &most) == 1 && most <= 256, "%s", path);
	fclose(file);
	return most;
}

static void closed_meanwhile(const void *arg)
{
	struct race race = { .won = 0 };
	struct fastio_setup setup = ctx_defaults(1);
	unsigned int rounds = 0, most = most_contexts();
	int fds[256];

	(void)arg;
	while (race.won < 20 && rounds++ < 2000) {
		pthread_t thread;

		race.fd = device_open();
		pthread_barrier_init(&race.start, NULL, 2);
		NEED_EQ(pthread_create(&thread, NULL, long_setup, &race), 0);
		pthread_barrier_wait(&race.start);
		for (unsigned int i = 0; i < rounds % 8; i++)
			sched_yield();
		close(race.fd);
		pthread_join(thread, NULL);
	}
	CHECK(race.won > 0, "in %u rounds no close met a SETUP", rounds);
	/* None of them is still counted. */
	for (unsigned int i = 0; i < most; i++) {
		fds[i] = device_open();
		NEED_EQ(device_ioctl(fds[i], FASTIO_IOC_SETUP, ADDR(&setup)), 0, "context %u of %u after %d races", i, most,
			race.won);
		setup = ctx_defaults(1);
	}
	for (unsigned int i = 0; i < most; i++)
		close(fds[i]);
}

#ifdef __x86_64__
/* A 32-bit system call from a 64-bit process: the compat path of ioctl. */
static void compat(const void *arg)
{
	unsigned int command = FASTIO_IOC_SETUP;
	long ret;
	int fd = device_open();

	(void)arg;
	asm volatile("int $0x80" : "=a"(ret) : "a"(54), "b"(fd), "c"(command), "d"(0) : "memory", "r8", "r9", "r10", "r11");
	if ((int)ret == -ENOSYS)
		ktap_skip("this kernel has no 32-bit system calls");
	CHECK_EQ((int)ret, -ENOTTY);
	close(fd);
}
#endif

static const struct ktap_test others[] = {
	TEST("SETUP reports a layout that fits its mapping", setup_results),
	TEST("SETUP of bad pointers gives -EFAULT and sets nothing up", setup_pointers),
	TEST("a second SETUP gives -EBUSY", setup_twice),
	TEST("of SETUPs that race on one open exactly one wins", setup_race),
	TEST("a device closed during SETUP is given back whole", closed_meanwhile, .timeout_s = 120),
	TEST("unknown commands, sizes and directions give -ENOTTY before SETUP", unknown_commands, .timeout_s = 120),
	TEST("unknown commands, sizes and directions give -ENOTTY after SETUP", unknown_commands, .arg = "set up", .timeout_s = 120),
#ifdef __x86_64__
	TEST("a 32-bit task gets -ENOTTY", compat),
#endif
};

int main(int argc, char **argv)
{
	enum { FIELDS = NR(field_cases), OTHERS = NR(others) };
	struct ktap_test tests[FIELDS + OTHERS];

	for (size_t i = 0; i < FIELDS; i++)
		tests[i] = (struct ktap_test) TEST(field_cases[i].name, setup_field, .arg = &field_cases[i]);
	memcpy(tests + FIELDS, others, sizeof(others));
	return ktap_main(tests, FIELDS + OTHERS, argc, argv);
}
