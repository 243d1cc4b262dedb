// SPDX-License-Identifier: MIT
/* Serving a ring: the loop of a worker's thread, and the program's own thread in its place. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "user.h"

#define EVENTS 64

static void drain(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

/* Runs the files that epoll reports, at most @most. */
static void run_events(struct user_ring *ring, unsigned int most, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count =
		epoll_wait(ring->epoll_fd, events, most < EVENTS ? (int)most : EVENTS, timeout_ms);

	if (count < 0 && errno != EINTR)
		ring->broken = -errno;
	for (int i = 0; i < count; i++) {
		if (events[i].data.u64 == USER_EVENT_KICK)
			drain(ring->event_fd);
		else if (events[i].data.u64 == USER_EVENT_TIMER)
			drain(ring->timer_fd);
		else
			fio_run_file(ring, &ring->files[events[i].data.u64]);
		fio_count(&ring->stats.ready, 1);
	}
}

static bool ready_can_go_on(const struct user_ring *ring)
{
	return ring->ready && fio_has_room(ring);
}

/*
 * Does what can be done now without blocking, at most @most operations of each kind. Returns how
 * much that was.
 */
static uint32_t pass(struct user_ring *ring, unsigned int most, bool look_at_files)
{
	uint32_t before = ring->cq_tail;
	uint32_t taken = 0;
	struct user_req *req;

	/*
	 * Kicks are taken first: what they were for is then looked at below, and not forgotten
	 * until the next one.
	 */
	if (look_at_files || ring->waiting)
		run_events(ring, most, 0);
	fio_timer_run(ring);
	fio_wq_reap(ring);
	if (ready_can_go_on(ring))
		fio_run_ready(ring, most);
	while (taken < most && taken < ring->sq_entries && (req = fio_take(ring))) {
		fio_issue(req);
		taken++;
	}
	taken += ring->cq_tail - before;
	fio_publish(ring);
	if (taken)
		fio_count(&ring->stats.batches, 1);
	__atomic_store_n(&ring->stats.in_flight, ring->in_flight, __ATOMIC_RELAXED);
	return taken;
}

/* What others must know of a ring that nobody looks at. */
static void set_flags(struct user_ring *ring, uint32_t flags)
{
	if (!fio_has_room(ring)) {
		flags |= FASTIO_RING_CQ_WAIT;
		fio_count(&ring->stats.cq_stalls, 1);
	}
	__atomic_store_n(&ring->head->flags, flags, __ATOMIC_SEQ_CST);
}

static bool has_work(const struct user_ring *ring)
{
	return fio_sq_has_work(ring) || ready_can_go_on(ring) ||
	       __atomic_load_n(&ring->wq_any_done, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&ring->context->priv->stopping, __ATOMIC_ACQUIRE);
}

static void sleep_until_work(struct user_ring *ring)
{
	/* First the flags, then a last look. Pairs with fastio_submit() and fastio_seen(). */
	set_flags(ring, FASTIO_RING_NEED_WAKE);
	if (!has_work(ring)) {
		fio_count(&ring->stats.sleeps, 1);
		run_events(ring, EVENTS, fio_timer_left_ms(ring));
	}
	__atomic_store_n(&ring->head->flags, 0, __ATOMIC_SEQ_CST);
	fio_publish(ring);
}

static bool claim(struct user_ring *ring)
{
	int nobody = 0;

	return __atomic_compare_exchange_n(&ring->served, &nobody, 1, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static void release(struct user_ring *ring)
{
	__atomic_store_n(&ring->served, 0, __ATOMIC_RELEASE);
}

static void serve_until_stopped(struct user_ring *ring)
{
	uint64_t idle_ns = ring->context->priv->params.idle_us * 1000ull;
	uint64_t idle_since_ns = 0;

	while (!ring->broken && !__atomic_load_n(&ring->context->priv->stopping, __ATOMIC_ACQUIRE)) {
		if (pass(ring, UINT_MAX, false)) {
			idle_since_ns = 0;
			continue;
		}
		fio_count(&ring->stats.spins, 1);
		if (idle_ns) {
			uint64_t now_ns = fastio_now_ns();

			if (!idle_since_ns)
				idle_since_ns = now_ns;
			if (now_ns - idle_since_ns < idle_ns) {
				/* The program may be waiting for this very CPU. */
				sched_yield();
				continue;
			}
		}
		sleep_until_work(ring);
		idle_since_ns = 0;
	}
}

int fio_worker(struct fastio_private *priv, unsigned int index)
{
	struct user_ring *ring;

	if (index >= priv->fio.nr_workers)
		return fio_wq_worker(priv->user, index - priv->fio.nr_workers);
	ring = &priv->user->rings[index];
	if (!claim(ring))
		return -EBUSY;
	serve_until_stopped(ring);
	release(ring);
	return ring->broken ? ring->broken : -ESHUTDOWN;
}

/* Makes whoever serves a ring look at it, now or when somebody does again. */
void fio_kick(struct user_ring *ring)
{
	uint64_t one = 1;

	__atomic_store_n(&ring->head->enter, 1, __ATOMIC_SEQ_CST);
	while (write(ring->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ------------------------------------------------------------------ the program's own thread */

struct stay {
	struct user_ring *ring;
	unsigned int flags;
	unsigned int most;
	uint64_t deadline_ns;
	uint64_t spin_until_ns;
};

static uint32_t unreaped(const struct user_ring *ring)
{
	return ring->cq_published - __atomic_load_n(&ring->head->cq_head, __ATOMIC_ACQUIRE);
}

static bool may_leave(const struct stay *stay)
{
	if (stay->flags & FASTIO_ENTER_WAIT)
		return unreaped(stay->ring);
	if (stay->flags & FASTIO_ENTER_WAIT_ANY)
		return fastio_any_cqe(&stay->ring->context->priv->fio);
	return true;
}

static int sleep_in_stay(const struct stay *stay, uint64_t now_ns)
{
	struct user_context *context = stay->ring->context;
	struct pollfd files[2] = {
		{ .fd = stay->ring->epoll_fd, .events = POLLIN },
		{ .fd = context->done_fd, .events = POLLIN },
	};
	bool any = stay->flags & FASTIO_ENTER_WAIT_ANY;
	int timer_ms = fio_timer_left_ms(stay->ring);
	uint64_t left_ns = stay->deadline_ns - now_ns;
	struct timespec timeout;

	if (timer_ms >= 0 && (uint64_t)timer_ms * 1000000 < left_ns)
		left_ns = (uint64_t)timer_ms * 1000000;
	if (any && fio_forget_told(context))
		return 0;
	timeout = (struct timespec){ (time_t)(left_ns / 1000000000), (long)(left_ns % 1000000000) };
	fio_count(&stay->ring->stats.sleeps, 1);
	return ppoll(files, any ? 2 : 1, left_ns > INT64_MAX ? NULL : &timeout, NULL) < 0 ? -errno
											  : 0;
}

static int serve_for_a_stay(const struct stay *stay)
{
	struct user_ring *ring = stay->ring;

	for (;;) {
		uint32_t count = pass(ring, stay->most, true);
		uint64_t now_ns;
		int ret;

		if (ring->broken)
			return ring->broken;
		if (may_leave(stay))
			return 0;
		if (count || has_work(ring))
			continue;
		now_ns = fastio_now_ns();
		if (now_ns >= stay->deadline_ns)
			return -ETIME;
		fio_count(&ring->stats.spins, 1);
		if (now_ns < stay->spin_until_ns) {
			sched_yield();
			continue;
		}
		ret = sleep_in_stay(stay, now_ns);
		if (ret)
			return ret;
	}
}

/*
 * Says what is left to do, for fastio_self_is_due() and for those who sleep on the poll descriptor.
 */
static void leave(struct user_ring *ring)
{
	struct itimerspec due = { .it_value = { 0, 0 } };
	bool more = ring->waiting || ring->ready || ring->nr_timers || ring->wq_out;

	if (ring->nr_timers) {
		due.it_value.tv_sec = (time_t)(ring->timers[0]->deadline_ns / 1000000000);
		due.it_value.tv_nsec = (long)(ring->timers[0]->deadline_ns % 1000000000);
	}
	timerfd_settime(ring->timer_fd, TFD_TIMER_ABSTIME, &due, NULL);
	if (more)
		__atomic_store_n(&ring->head->enter, 1, __ATOMIC_SEQ_CST);
	set_flags(ring, 0);
}

int fio_enter(struct fastio_queue *queue, unsigned int flags, unsigned int batch,
	      uint32_t timeout_us)
{
	struct fastio_private *priv = fastio_private(queue->fio);
	struct stay stay = { .ring = &priv->user->rings[queue->index],
			     .flags = flags,
			     .deadline_ns = UINT64_MAX };
	bool waits = flags & (FASTIO_ENTER_WAIT | FASTIO_ENTER_WAIT_ANY);
	uint32_t count;
	int ret;

	if (flags & ~(FASTIO_ENTER_WAIT | FASTIO_ENTER_WAIT_ANY | FASTIO_ENTER_SPIN) ||
	    (flags & FASTIO_ENTER_WAIT && flags & FASTIO_ENTER_WAIT_ANY) ||
	    (!waits && (timeout_us || flags & FASTIO_ENTER_SPIN)))
		return -EINVAL;
	if (!claim(stay.ring))
		return -EBUSY;
	stay.most = batch ? batch : UINT_MAX;
	if (timeout_us)
		stay.deadline_ns = fastio_now_ns() + timeout_us * 1000ull;
	if (flags & FASTIO_ENTER_SPIN)
		stay.spin_until_ns = fastio_now_ns() + priv->params.idle_us * 1000ull;
	__atomic_store_n(&stay.ring->head->enter, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&stay.ring->head->flags, 0, __ATOMIC_SEQ_CST);
	fio_count(&stay.ring->stats.enters, 1);
	ret = serve_for_a_stay(&stay);
	leave(stay.ring);
	count = unreaped(stay.ring);
	release(stay.ring);
	return ret && !count ? ret : (int)count;
}
