// SPDX-License-Identifier: MIT
/* Waiting for completions, and serving the program's own queue meanwhile. */
#include <errno.h>
#include <time.h>

#include "internal.h"

/* A worker that fails cannot wake who waits for it; so waits look up this often. */
#define LOOK_UP_US 1000000u
/* Clock reads are dear beside a look at the rings. */
#define SPINS_PER_CLOCK 32

uint64_t fastio_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool fastio_any_cqe(const struct fastio *fio)
{
	for (unsigned int i = 0; i < fio->nr_queues; i++) {
		const struct fastio_queue *queue = &fio->queues[i];

		if (__atomic_load_n(&queue->ring->cq_tail, __ATOMIC_SEQ_CST) != queue->cq_head)
			return true;
	}
	return false;
}

int fastio_wake_worker(struct fastio_queue *queue)
{
	return fastio_private(queue->fio)->ops->wake(queue);
}

int fastio_enter(struct fastio_queue *queue, unsigned int flags, unsigned int batch,
		 uint32_t timeout_us)
{
	if (batch > 255)
		return -EINVAL;
	return fastio_private(queue->fio)->ops->enter(queue, flags, batch, timeout_us);
}

int fastio_serve_now(struct fastio *fio)
{
	if (!fio->self)
		return 0;
	return fastio_private(fio)->ops->enter(fio->self, 0, fastio_private(fio)->params.self_batch,
					       0);
}

bool fastio_emptied(struct fastio *fio)
{
	struct fastio_private *priv = fastio_private(fio);

	return priv->ops->emptied && priv->ops->emptied(priv);
}

int fastio_poll_fd(const struct fastio *fio)
{
	return fastio_private(fio)->ops->poll_fd(fastio_private(fio));
}

/* Whether entries of the program's own queue have been submitted and not taken. */
static bool has_unserved(const struct fastio *fio)
{
	const struct fastio_queue *self = fio->self;

	return self &&
	       self->sq_submitted != __atomic_load_n(&self->ring->sq_head, __ATOMIC_ACQUIRE);
}

int fastio_before_poll(struct fastio *fio)
{
	/* A pass takes one entry at least. */
	unsigned int passes = fio->self ? fio->self->sq_entries + 1 : 1;
	int ret = fastio_submit_all(fio);

	if (ret)
		return ret;
	/* What a bounded pass leaves in the SQ nothing would announce. */
	do {
		ret = fastio_serve(fio);
		if (ret < 0 && ret != -EINTR)
			return ret;
		if (fastio_any_cqe(fio) || fastio_emptied(fio))
			return 1;
	} while (has_unserved(fio) && --passes);
	return has_unserved(fio);
}

/*
 * Polls in user space, where looking costs no system call. Returns 0 when there is a completion,
 * -ETIME, or -errno.
 */
static int spin(struct fastio *fio, uint64_t until_ns)
{
	for (unsigned int turn = 1; !fastio_any_cqe(fio); turn++) {
		int ret = fastio_serve(fio);

		if (ret < 0)
			return ret;
		if (turn % SPINS_PER_CLOCK == 0 && fastio_now_ns() >= until_ns)
			return -ETIME;
		fastio_cpu_relax();
	}
	return 0;
}

static int sleep_once(struct fastio_private *priv, uint32_t timeout_us)
{
	struct fastio_queue *self = priv->fio.self;
	int ret;

	if (!self)
		return priv->ops->wait(priv, timeout_us);
	ret = priv->ops->enter(self, timeout_us ? FASTIO_ENTER_WAIT_ANY : 0,
			       priv->params.self_batch, timeout_us);
	return ret < 0 ? ret : 0;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

int fastio_wait(struct fastio *fio, int64_t timeout_us)
{
	struct fastio_private *priv = fastio_private(fio);
	uint64_t deadline_ns, now_ns;

	if (timeout_us < FASTIO_FOREVER)
		return -EINVAL;
	if (fastio_any_cqe(fio))
		return 0;
	now_ns = fastio_now_ns();
	deadline_ns = UINT64_MAX;
	if (timeout_us != FASTIO_FOREVER && (uint64_t)timeout_us < (UINT64_MAX - now_ns) / 1000)
		deadline_ns = now_ns + (uint64_t)timeout_us * 1000;
	if (priv->params.wait_spin_us && timeout_us) {
		int ret = spin(fio,
			       min_u64(deadline_ns, now_ns + priv->params.wait_spin_us * 1000ull));

		if (ret != -ETIME)
			return ret;
		now_ns = fastio_now_ns();
	}
	for (;;) {
		uint64_t left_us = deadline_ns > now_ns ? (deadline_ns - now_ns + 999) / 1000 : 0;
		int ret = sleep_once(priv, (uint32_t)min_u64(left_us, LOOK_UP_US));

		if (fastio_any_cqe(fio))
			return 0;
		if (ret && ret != -ETIME)
			return ret;
		if (__atomic_load_n(&priv->failed, __ATOMIC_ACQUIRE))
			return -ESHUTDOWN;
		now_ns = fastio_now_ns();
		if (now_ns >= deadline_ns)
			return -ETIME;
	}
}
