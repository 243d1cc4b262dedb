// SPDX-License-Identifier: MIT
/*
 * Waiting for files. Each ring has an epoll; a file is armed for one report of what its waiting
 * requests want, and armed again when some still wait after it. A slot pins its file by a duplicate
 * descriptor, as the module does by a reference.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "user.h"

/* Duplicates stay out of the way of the program's own numbers, which choose its queues. */
#define SLOT_FD_FLOOR 4096

/* NULL for a number no file can have. */
struct user_file *fio_file_of(struct user_ring *ring, int fd)
{
	return fd >= 0 && (uint32_t)fd < ring->nr_files ? &ring->files[fd] : NULL;
}

int fio_fd_of(const struct user_ring *ring, const struct user_file *file)
{
	return (int)(file - ring->files);
}

static int io_fd(const struct user_ring *ring, const struct user_file *file)
{
	return file->slot_fd ? file->slot_fd - 1 : fio_fd_of(ring, file);
}

/* The number to make system calls with: that of the slot, if there is one. */
int fio_io_fd(const struct user_ring *ring, int fd)
{
	return fd >= 0 && (uint32_t)fd < ring->nr_files ? io_fd(ring, &ring->files[fd]) : fd;
}

/* ------------------------------------------------------------------ waiting */

static void wait_on(struct user_file *file, struct user_req *req, enum user_side side)
{
	user_list_add(&file->waiting[side], req);
	req->state = USER_WAITING;
	req->side = side;
	req->ring->waiting++;
	fio_count(&req->ring->stats.parked, 1);
}

static struct user_req *stop_waiting(struct user_ring *ring, struct user_file *file,
				     enum user_side side)
{
	struct user_req *req = user_list_take(&file->waiting[side]);

	if (req) {
		req->state = USER_RUNNING;
		ring->waiting--;
	}
	return req;
}

/* Takes a waiting request out of its queue. */
void fio_unwait(struct user_req *req)
{
	struct user_file *file = fio_file_of(req->ring, req->sqe.fd);

	if (user_list_remove(&file->waiting[req->side], req)) {
		req->state = USER_RUNNING;
		req->ring->waiting--;
	}
}

static void end_all_waiting(struct user_file *file, int res, const struct user_req *but)
{
	for (int side = 0; side < USER_SIDES; side++) {
		struct user_list *list = &file->waiting[side];
		struct user_req *next;

		for (struct user_req *req = list->first; req; req = next) {
			next = req->next;
			if (req == but)
				continue;
			fio_unwait(req);
			fio_complete(req, res, 0);
		}
	}
}

static void list_as_ready(struct user_ring *ring, struct user_file *file)
{
	if (file->listed)
		return;
	file->listed = true;
	file->next_ready = NULL;
	if (ring->ready_last)
		ring->ready_last->next_ready = file;
	else
		ring->ready = file;
	ring->ready_last = file;
}

static uint32_t wanted_events(const struct user_file *file)
{
	uint32_t events = 0;

	if (file->waiting[USER_RECEIVE].first)
		events |= EPOLLIN | EPOLLRDHUP;
	if (file->waiting[USER_SEND].first)
		events |= EPOLLOUT;
	for (const struct user_req *req = file->waiting[USER_POLL].first; req; req = req->next)
		events |= req->sqe.op_flags;
	return events;
}

static int epoll_control(struct user_ring *ring, struct user_file *file, int op, uint32_t events)
{
	struct epoll_event event = {
		.events = events | EPOLLONESHOT,
		.data.u64 = (uint64_t)fio_fd_of(ring, file),
	};

	return epoll_ctl(ring->epoll_fd, op, io_fd(ring, file), &event) ? -errno : 0;
}

/*
 * Arms a file for what waits on it, @newest being the request that came last. A program may have
 * closed the descriptor and got its number again for another file; epoll has forgotten the old one,
 * and those who waited for it are told.
 */
static int arm(struct user_ring *ring, struct user_file *file, const struct user_req *newest)
{
	bool was_armed = file->armed;
	uint32_t events;
	int ret = -ENOENT;

	if (file->known)
		ret = epoll_control(ring, file, EPOLL_CTL_MOD, wanted_events(file));
	if (ret == -ENOENT) {
		if (was_armed && newest)
			end_all_waiting(file, -ECANCELED, newest);
		ret = epoll_control(ring, file, EPOLL_CTL_ADD, wanted_events(file));
		if (ret == -EEXIST)
			ret = epoll_control(ring, file, EPOLL_CTL_MOD, wanted_events(file));
	}
	events = wanted_events(file);
	file->known = !ret;
	file->armed = ret ? 0 : events | EPOLLERR | EPOLLHUP;
	fio_count(&ring->stats.armed, 1);
	return ret;
}

/* What cannot be polled never makes anybody wait for long; a thread that may block does it. */
static void end_or_punt_all(struct user_ring *ring, struct user_file *file, int err)
{
	for (int side = 0; side < USER_SIDES; side++) {
		struct user_req *req;

		while ((req = stop_waiting(ring, file, (enum user_side)side))) {
			if (err == -EPERM && req->sqe.opcode >= FASTIO_OP_READ &&
			    req->sqe.opcode <= FASTIO_OP_WRITEV)
				fio_punt(req);
			else
				fio_complete(req, err == -EPERM ? -EOPNOTSUPP : err, 0);
		}
	}
}

static void arm_or_end(struct user_ring *ring, struct user_file *file,
		       const struct user_req *newest)
{
	int ret = arm(ring, file, newest);

	if (ret)
		end_or_punt_all(ring, file, ret);
}

/* ------------------------------------------------------------------ running */

/* Acts on the outcome of an attempt. Returns false if the request waits on. */
static bool settle(struct user_file *file, struct user_req *req, enum user_outcome outcome)
{
	switch (outcome) {
	case USER_DONE:
		fio_complete(req, req->res, req->cqe_flags);
		return true;
	case USER_PUNT:
		fio_punt(req);
		return true;
	case USER_TO_RECEIVE:
		/*
		 * Behind the receives that wait already; the caller's next step is the receive
		 * side.
		 */
		wait_on(file, req, USER_RECEIVE);
		return true;
	case USER_LATER:
		list_as_ready(req->ring, file);
		return false;
	case USER_BLOCKED:
		fio_count(&req->ring->stats.eagain, 1);
		return false;
	}
	return true;
}

static void run_side(struct user_ring *ring, struct user_file *file, enum user_side side)
{
	struct user_req *req;

	while ((req = file->waiting[side].first)) {
		enum user_outcome outcome = fio_attempt(req);

		if (outcome == USER_BLOCKED || outcome == USER_LATER) {
			settle(file, req, outcome);
			return;
		}
		stop_waiting(ring, file, side);
		settle(file, req, outcome);
	}
}

/* Polls are for different events, so none holds up another. */
static void run_polls(struct user_file *file)
{
	struct user_req *next;

	for (struct user_req *req = file->waiting[USER_POLL].first; req; req = next) {
		next = req->next;
		if (fio_attempt(req) != USER_DONE)
			continue;
		fio_unwait(req);
		fio_complete(req, req->res, 0);
	}
}

/* Gives everything that waits on a file a try, and arms the file for what is left. */
void fio_run_file(struct user_ring *ring, struct user_file *file)
{
	file->armed = 0;
	run_side(ring, file, USER_SEND);
	run_side(ring, file, USER_RECEIVE);
	run_polls(file);
	if (wanted_events(file) && !file->listed)
		arm_or_end(ring, file, NULL);
}

/* Starts a request on a file: at once if nobody is before it, else in its turn. */
void fio_run_or_wait(struct user_req *req, enum user_side side)
{
	struct user_file *file = fio_file_of(req->ring, req->sqe.fd);
	bool nowait = req->sqe.flags & FASTIO_SQE_NOWAIT;
	struct user_ring *ring = req->ring;
	enum user_outcome outcome = USER_BLOCKED;

	if (!file) {
		fio_complete(req, -EBADF, 0);
		return;
	}
	if (!file->waiting[side].first || side == USER_POLL)
		outcome = fio_attempt(req);
	if ((outcome == USER_BLOCKED || outcome == USER_PUNT) && nowait) {
		fio_complete(req, -EAGAIN, 0);
		return;
	}
	if (outcome == USER_TO_RECEIVE) {
		fio_run_or_wait(req, USER_RECEIVE);
		return;
	}
	if (settle(file, req, outcome))
		return;
	wait_on(file, req, side);
	/* A file that is to be tried again anyway is armed after that. */
	if (!file->listed)
		arm_or_end(ring, file, req);
}

/* Tries those again that had their share, or had no room. At most @most files. */
void fio_run_ready(struct user_ring *ring, unsigned int most)
{
	struct user_file *last = ring->ready_last;

	while (ring->ready && most--) {
		struct user_file *file = ring->ready;

		ring->ready = file->next_ready;
		if (!ring->ready)
			ring->ready_last = NULL;
		file->listed = false;
		fio_run_file(ring, file);
		/* What came back to the list meanwhile is for the next pass. */
		if (file == last)
			break;
	}
}

/* ------------------------------------------------------------------ slots */

static bool has_slot(const struct user_context *context, int fd)
{
	return fd >= 0 && (uint32_t)fd < context->max_slots &&
	       __atomic_load_n(&context->slot_owner[fd], __ATOMIC_ACQUIRE);
}

static int pin(int fd)
{
	struct rlimit limit = { .rlim_cur = 1024 };
	int pinned;

	getrlimit(RLIMIT_NOFILE, &limit);
	pinned = fcntl(fd, F_DUPFD_CLOEXEC,
		       limit.rlim_cur / 2 < SLOT_FD_FLOOR ? (int)(limit.rlim_cur / 2)
							  : SLOT_FD_FLOOR);
	if (pinned < 0 && errno == EMFILE)
		pinned = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return pinned < 0 ? -errno : pinned;
}

/* Makes the slot of a descriptor, owned by this ring. */
int fio_slot_make(struct user_ring *ring, int fd)
{
	struct user_context *context = ring->context;
	struct user_file *file = fio_file_of(ring, fd);
	uint8_t none = 0;
	int pinned;

	if (!file || (uint32_t)fd >= context->max_slots)
		return -EBADF;
	if (has_slot(context, fd))
		return -EEXIST;
	pinned = pin(fd);
	if (pinned < 0)
		return pinned;
	if (!__atomic_compare_exchange_n(&context->slot_owner[fd], &none,
					 (uint8_t)(ring->index + 1), false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		close(pinned);
		return -EEXIST;
	}
	/*
	 * Those who wait without the slot are armed under the number, and would be lost under
	 * another.
	 */
	end_all_waiting(file, -ECANCELED, NULL);
	if (file->known)
		epoll_control(ring, file, EPOLL_CTL_DEL, 0);
	file->slot_fd = pinned + 1;
	file->known = false;
	file->armed = 0;
	fio_count(&ring->stats.slots, 1);
	return 0;
}

/* Makes sure that a descriptor has a slot of this ring. */
int fio_slot_get(struct user_ring *ring, int fd)
{
	struct user_context *context = ring->context;
	int ret;

	if (!has_slot(context, fd)) {
		ret = fio_slot_make(ring, fd);
		if (ret != -EEXIST)
			return ret;
	}
	return __atomic_load_n(&context->slot_owner[fd], __ATOMIC_ACQUIRE) == ring->index + 1
		       ? 0
		       : -EXDEV;
}

int fio_slot_drop(struct user_ring *ring, int fd)
{
	struct user_context *context = ring->context;
	struct user_file *file = fio_file_of(ring, fd);

	if (fd < 0)
		return -EBADF;
	if (!file || !has_slot(context, fd))
		return -ENOENT;
	if (__atomic_load_n(&context->slot_owner[fd], __ATOMIC_ACQUIRE) != ring->index + 1)
		return -EXDEV;
	end_all_waiting(file, -ECANCELED, NULL);
	/* A duplicate elsewhere would keep the file, and with it the entry of epoll. */
	if (file->known)
		epoll_control(ring, file, EPOLL_CTL_DEL, 0);
	close(file->slot_fd - 1);
	file->slot_fd = 0;
	file->known = false;
	file->armed = 0;
	fio_count(&ring->stats.slots, (__u64)-1);
	__atomic_store_n(&context->slot_owner[fd], 0, __ATOMIC_RELEASE);
	return 0;
}

int fio_close(struct user_ring *ring, int fd)
{
	struct user_file *file = fio_file_of(ring, fd);
	int ret = file && has_slot(ring->context, fd) ? fio_slot_drop(ring, fd) : 0;

	if (ret)
		return ret;
	if (file) {
		end_all_waiting(file, -ECANCELED, NULL);
		if (file->known)
			epoll_control(ring, file, EPOLL_CTL_DEL, 0);
		file->known = false;
		file->armed = 0;
	}
	/* Linux closes the descriptor even when it says EINTR. */
	return close(fd) && errno != EINTR ? -errno : 0;
}
