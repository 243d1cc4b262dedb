// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that race: several contexts of one process, and threads that set up, serve, enter, wake, wait, register, map,
 * poll, submit, cancel, duplicate, close and fork over them at once, interrupted by signals all the while.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ctx.h"
#include "fuzz.h"
#include "ktap.h"
#include "net.h"

#define CONTEXTS	3
#define THREADS		8
#define STEPS		20000
#define ENTRIES		16

/* A context of a round: whoever gets the lock replaces what is not there; nobody is kept from using it meanwhile. */
struct shared_ctx {
	pthread_mutex_t lock;
	atomic_int fd;
	atomic_uintptr_t map;
	struct fastio_setup setup;
	atomic_ulong submitted;
};

static struct shared_ctx contexts[CONTEXTS];
static pid_t tids[THREADS];
static int sockets[8];
static char memory[16 * 4096] __attribute__((aligned(4096)));

struct racer {
	uint64_t random;
	unsigned int index;
	struct fuzz_round *round;
};

static void replace_device(struct shared_ctx *c)
{
	if (pthread_mutex_trylock(&c->lock))
		return;
	close(c->fd);
	c->fd = open(FASTIO_DEVICE, O_RDWR | O_CLOEXEC);
	pthread_mutex_unlock(&c->lock);
}

static void set_up(struct shared_ctx *c, uint64_t *random)
{
	struct fastio_setup setup = ctx_defaults(1 + fuzz_below(random, 2));
	char *map;

	setup.sq_entries = setup.cq_entries = ENTRIES;
	setup.wq_workers = 1;
	setup.idle_us = fuzz_below(random, 3) * 500;
	if (device_ioctl(c->fd, FASTIO_IOC_SETUP, ADDR(&setup)))
		return;
	map = mmap(NULL, setup.ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (map == MAP_FAILED)
		return;
	pthread_mutex_lock(&c->lock);
	c->setup = setup;
	/* The old mapping stays: somebody may be writing to it. The round's end takes it. */
	c->map = (uintptr_t)map;
	pthread_mutex_unlock(&c->lock);
}

static void submit(struct shared_ctx *c, struct fuzz_round *round, uint64_t *random)
{
	static const uint8_t ops[] = {
		FASTIO_OP_NOP, FASTIO_OP_RECV, FASTIO_OP_RECV, FASTIO_OP_SEND, FASTIO_OP_POLL, FASTIO_OP_TIMEOUT,
		FASTIO_OP_CANCEL, FASTIO_OP_FILE_REGISTER, FASTIO_OP_FILE_UNREGISTER, FASTIO_OP_FSYNC,
	};
	char *map = (char *)c->map;
	struct fastio_ring *head = (struct fastio_ring *)map;
	struct fastio_sqe *sq;
	uint32_t tail;

	if (!map)
		return;
	sq = (struct fastio_sqe *)(map + c->setup.sq_off);
	tail = __atomic_load_n(&head->sq_tail, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < 4; i++) {
		uint8_t opcode = ops[fuzz_below(random, NR(ops))];
		struct fastio_sqe sqe = { .opcode = opcode, .user_data = fuzz_below(random, 8) };

		if (opcode != FASTIO_OP_NOP && opcode != FASTIO_OP_TIMEOUT && opcode != FASTIO_OP_CANCEL)
			sqe.fd = sockets[fuzz_below(random, NR(sockets))];
		if (opcode == FASTIO_OP_RECV || opcode == FASTIO_OP_SEND) {
			sqe.flags = fuzz_below(random, 2) ? FASTIO_SQE_SLOT : 0;
			sqe.addr = ADDR(memory) + fuzz_below(random, 4096);
			sqe.len = 1 + fuzz_below(random, 100);
			if (fuzz_one_in(random, 3))
				sqe.flags |= FASTIO_SQE_FIXED_BUF;
		}
		if (opcode == FASTIO_OP_TIMEOUT)
			sqe.off = fuzz_below(random, 3000000);
		if (opcode == FASTIO_OP_CANCEL)
			sqe.addr = fuzz_below(random, 8);
		sq[tail++ & (ENTRIES - 1)] = sqe;
	}
	__atomic_store_n(&head->sq_tail, tail, __ATOMIC_RELEASE);
	__atomic_store_n(&head->cq_head, __atomic_load_n(&head->cq_tail, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
	device_ioctl(c->fd, FASTIO_IOC_WAKE, 0);
	round->sqes += 4;
}

static void register_things(struct shared_ctx *c, uint64_t *random)
{
	struct iovec iovec = { memory, sizeof(memory) };
	struct fastio_buffers buffers = { .iovecs = ADDR(&iovec), .nr = 1 };
	struct fastio_buf_group group = { .group = fuzz_below(random, 3), .entries = 8 };
	struct fastio_buf_group drop = { .group = fuzz_below(random, 3) };

	switch (fuzz_below(random, 4)) {
	case 0:
		device_ioctl(c->fd, FASTIO_IOC_REGISTER_BUFFERS, ADDR(&buffers));
		break;
	case 1:
		device_ioctl(c->fd, FASTIO_IOC_UNREGISTER_BUFFERS, 0);
		break;
	case 2:
		if (device_ioctl(c->fd, FASTIO_IOC_REGISTER_BUF_RING, ADDR(&group)) == 0) {
			void *p = mmap(NULL, group.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, group.mmap_off);

			if (p != MAP_FAILED)
				munmap(p, group.bytes);
		}
		break;
	default:
		device_ioctl(c->fd, FASTIO_IOC_UNREGISTER_BUF_RING, ADDR(&drop));
	}
}

static void step(struct racer *racer)
{
	uint64_t *random = &racer->random;
	struct shared_ctx *c = &contexts[fuzz_below(random, CONTEXTS)];
	struct pollfd events = { .fd = c->fd, .events = POLLIN };
	struct fastio_stats stats = { 0 };
	pid_t pid;
	int copy;

	switch (fuzz_below(random, 32)) {
	case 0:
		replace_device(c);
		break;
	case 1:
	case 2:
	case 3:
		set_up(c, random);
		break;
	case 4:
		/* Closing any duplicate by the owner ends the context. */
		copy = dup(c->fd);
		close(copy);
		break;
	case 5:
		if (fuzz_one_in(random, 20)) {
			pid = fork();
			if (pid == 0) {
				device_ioctl(c->fd, FASTIO_IOC_ENTER, 0);
				_exit(0);
			}
		}
		break;
	case 6:
	case 7:
		poll(&events, 1, 0);
		break;
	case 8:
		device_ioctl(c->fd, FASTIO_IOC_STATS, ADDR(&stats));
		break;
	case 9:
	case 10:
		register_things(c, random);
		break;
	case 11:
	case 12:
		device_ioctl(c->fd, FASTIO_IOC_WAIT, fuzz_below(random, 1000));
		break;
	case 13:
	case 14:
	case 15:
	case 16:
		device_ioctl(c->fd, FASTIO_IOC_ENTER, FASTIO_ENTER(fuzz_below(random, 3), fuzz_below(random, 8),
								   fuzz_below(random, 20), 1 + fuzz_below(random, 1000)));
		break;
	case 17:
	case 18:
	case 19:
		/* A signal of another thread brings us out. */
		device_ioctl(c->fd, FASTIO_IOC_WORKER, fuzz_below(random, 4));
		break;
	case 20:
		if (send(sockets[fuzz_below(random, NR(sockets))], memory, 10, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			sched_yield();
		break;
	case 21:
		syscall(SYS_tgkill, getpid(), tids[fuzz_below(random, THREADS)], SIGUSR1);
		break;
	default:
		submit(c, racer->round, random);
	}
}

static void *racer_main(void *arg)
{
	struct racer *racer = arg;

	tids[racer->index] = gettid();
	for (unsigned int i = 0; i < STEPS; i++)
		step(racer);
	return NULL;
}

static void on_signal(int signal)
{
	(void)signal;
}

static void round_main(struct fuzz_round *round)
{
	static struct racer racers[THREADS];
	struct sigaction action = { .sa_handler = on_signal };
	struct rlimit files = { 512, 512 };
	uint64_t random = round->seed, end = now_ns() + 1500000000ULL;
	pthread_t thread;

	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGCHLD, SIG_IGN);
	sigaction(SIGUSR1, &action, NULL);
	for (unsigned int i = 0; i < NR(sockets); i += 2)
		net_pair(&sockets[i]);
	for (unsigned int i = 0; i < CONTEXTS; i++) {
		pthread_mutex_init(&contexts[i].lock, NULL);
		contexts[i].fd = device_open();
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		racers[i] = (struct racer) { fuzz_random(&random) | 1, i, round };
		NEED_EQ(pthread_create(&thread, NULL, racer_main, &racers[i]), 0);
	}
	while (now_ns() < end) {
		syscall(SYS_tgkill, getpid(), tids[fuzz_below(&random, THREADS)], SIGUSR1);
		sleep_ms(1);
	}
}

static void races(const void *arg)
{
	(void)arg;
	fuzz_rounds(round_main, "racing calls");
}

int main(int argc, char **argv)
{
	const struct ktap_test tests[] = {
		TEST("racing calls over several contexts harm nobody", races, .timeout_s = fuzz_timeout_s()),
	};

	return ktap_main(tests, NR(tests), argc, argv);
}
