// SPDX-License-Identifier: MIT
#include "rig.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct rig_mode rig_modes[] = {
	{ "one worker that sleeps", 1, 0, 0 },
	{ "two workers that poll", 2, 0, 50000 },
	{ "inline", 0, 0, 0 },
	{ "hybrid", 1, FASTIO_SELF_WEIGHT_FULL, 2000 },
};
const unsigned int rig_nr_modes = sizeof(rig_modes) / sizeof(rig_modes[0]);

void rig_params(struct fastio_params *params, const struct rig_mode *mode)
{
	fastio_params_init(params);
	params->workers = mode->workers;
	params->self_weight = mode->self_weight;
	params->self_batch = mode->workers ? 1 : 0;
	params->idle_us = mode->idle_us;
	params->wq_idle_us = 0;
	params->sq_entries = 16;
	params->cq_entries = 64;
	params->max_slots = 4096;
	params->max_fds = 256;
	params->quiet = true;
}

struct fastio_cqe rig_next(struct rig *rig)
{
	struct fastio_cqe none = { .user_data = ~0ull, .res = -1 };
	struct fastio_queue *queue;
	struct fastio_cqe *cqe;

	if (fastio_submit_all(rig->fio))
		return none;
	while (!(cqe = fastio_next(rig->fio, &queue))) {
		int ret = fastio_wait(rig->fio, RIG_WAIT_US);

		if (ret) {
			printf("# waiting for a completion: %s\n", fastio_errno_name(ret));
			return none;
		}
	}
	none = *cqe;
	fastio_seen(queue);
	return none;
}

int rig_expect(struct rig *rig, uint64_t data)
{
	struct fastio_cqe cqe = rig_next(rig);

	CHECK_EQ(cqe.user_data, data);
	return cqe.res;
}

bool rig_quiet(struct rig *rig)
{
	return !fastio_submit_all(rig->fio) && fastio_wait(rig->fio, RIG_QUIET_US) == -ETIME;
}

struct fastio_sqe *rig_get(struct fastio_queue *queue)
{
	struct fastio_sqe *sqe = fastio_get_sqe(queue);

	if (!sqe) {
		printf("Bail out! the SQ of queue %u is full\n", queue->index);
		exit(1);
	}
	return sqe;
}

struct fastio_sqe *rig_sqe(struct rig *rig, int fd)
{
	return rig_get(fastio_queue_for(rig->fio, fd));
}

int rig_listen(int backlog, uint16_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, len) || listen(fd, backlog) ||
	    getsockname(fd, (struct sockaddr *)&address, &len)) {
		close(fd);
		return -1;
	}
	*port = ntohs(address.sin_port);
	return fd;
}

int rig_connect(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(port),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

bool rig_tcp_pair(int pair[2])
{
	uint16_t port;
	int listener = rig_listen(1, &port);

	pair[0] = pair[1] = -1;
	if (listener < 0)
		return false;
	pair[1] = rig_connect(port);
	if (pair[1] >= 0)
		pair[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	return pair[0] >= 0;
}

int rig_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

static void run_one(const struct tap_test *test, const struct rig_mode *mode)
{
	struct fastio_error error = { "" };
	struct fastio_params params;
	struct rig rig = { .mode = mode };
	int before = rig_open_fds();
	int ret;

	rig_params(&params, mode);
	ret = fastio_setup(&rig.fio, &params, &error);
	REQUIRE(!ret, "%s", error.message);
	test->run(&rig);
	fastio_exit(rig.fio);
	CHECK_EQ(rig_open_fds(), before);
}

struct mode_run {
	const struct tap_test *test;
	const struct rig_mode *mode;
};

static void run_in_mode(void *arg)
{
	const struct mode_run *run = arg;

	run_one(run->test, run->mode);
}

void rig_run(const struct tap_test *tests, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		for (unsigned int m = 0; m < rig_nr_modes; m++) {
			struct mode_run run = { &tests[i], &rig_modes[m] };
			struct tap_test named = { tests[i].name, run_in_mode };

			tap_run(&named, rig_modes[m].name, &run);
		}
	}
}
