// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that serve a ring: donated workers, application threads that come in for a while, and
 * their sleep.
 */
#include <linux/hrtimer.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include "compat.h"
#include "internal.h"

#define FASTIO_SPINS	32	/* looks at the rings between two at the clock and the scheduler */

/**
 * fastio_claim() - become the server of a ring
 * @rq: ring
 *
 * Return: false if it has one, or has been retired.
 */
bool fastio_claim(struct fastio_rq *rq)
{
	int old;

	/* Acquires what the last server released in fastio_unclaim(). */
	while ((old = atomic_cmpxchg(&rq->claim, FASTIO_UNCLAIMED, FASTIO_CLAIMED)) ==
	       FASTIO_BORROWED)
		cpu_relax();	/* by somebody who holds a spinlock */
	return old == FASTIO_UNCLAIMED;
}

static void fastio_set_flags(struct fastio_rq *rq, u32 flags)
{
	if (READ_ONCE(rq->shm->flags) != flags)
		WRITE_ONCE(rq->shm->flags, flags);
}

/* I/O is ready, and only user space can make it run. */
static void fastio_set_enter(struct fastio_rq *rq)
{
	WRITE_ONCE(rq->enter, true);
	WRITE_ONCE(rq->shm->enter, 1);
}

/*
 * Whether operations wait for user space to reap. SQEs that a bounded pass has left behind do not:
 * user space sees in sq_head that they are still there.
 */
static bool fastio_waits_for_room(struct fastio_rq *rq)
{
	if (!list_empty(&rq->stalled))
		return true;
	return fastio_index_sq_avail(&rq->ix, rq->shm) &&
	       !fastio_index_cq_room(&rq->ix, rq->shm, 1);
}

/**
 * fastio_unclaim() - stop being the server of a ring
 * @rq: ring, served by the caller
 *
 * If the context died meanwhile and flush() could not have the ring, the ring is retired here.
 */
void fastio_unclaim(struct fastio_rq *rq)
{
	if (rq->self) {
		fastio_set_flags(rq, fastio_waits_for_room(rq) ? FASTIO_RING_CQ_WAIT : 0);
		if (!list_empty(&rq->backlog))
			fastio_set_enter(rq);
	}
	atomic_set_release(&rq->claim, FASTIO_UNCLAIMED);
	/*
	 * Give up first, then look. Pairs with fastio_kick(), which adds first and then looks for a
	 * server, and with fastio_flush(), which sets ->dead first and then tries to claim.
	 */
	smp_mb();
	if (unlikely(READ_ONCE(rq->ctx->dead))) {
		if (fastio_claim(rq))
			fastio_retire(rq);
	} else if (rq->self && !llist_empty(&rq->ready)) {
		fastio_set_enter(rq);
	}
}

/**
 * fastio_kick() - hand a node to the server of its ring
 * @node: node whose FASTIO_QUEUED bit the caller has set
 *
 * Called from wait queue callbacks, timers and wq workers, in any context. The node may be gone on
 * return.
 */
void fastio_kick(struct fastio_node *node)
{
	struct fastio_rq *rq = node->rq;

	/* A full barrier. Who finds the list not empty leaves the rest to who made it so. */
	if (!llist_add(&node->ll, &rq->ready))
		return;
	/* Pairs with fastio_unclaim(). */
	if (READ_ONCE(rq->self) && !(atomic_read(&rq->claim) & (FASTIO_CLAIMED | FASTIO_RETIRED))) {
		fastio_set_enter(rq);
		/* The barrier pairs with prepare_to_wait() in fastio_wait(). */
		if (wq_has_sleeper(&rq->ctx->cq_wait))
			irq_work_queue(&rq->notify);
		return;
	}
	/* Pairs with the barrier of set_current_state() in fastio_sleep(). */
	if (rcuwait_active(&rq->wait))
		rcuwait_wake_up(&rq->wait);
}

/**
 * fastio_notify() - wake pollers and waiters
 * @work: fastio_rq.notify
 *
 * A wake-up may come from inside a poller's own wait queue (an epoll set that watches us and is
 * watched by us), so it must not wake pollers itself.
 */
void fastio_notify(struct irq_work *work)
{
	struct fastio_rq *rq = container_of(work, struct fastio_rq, notify);

	wake_up_interruptible_poll(&rq->ctx->cq_wait, EPOLLIN | EPOLLRDNORM);
}

/**
 * fastio_quiesce() - tell RCU that this thread holds no reference
 * @last_jiffy: when it was told last
 *
 * A thread that polls inside the kernel is neither idle nor in user mode, so without this a grace
 * period would wait until it is rescheduled: 50 to 175 ms, in which for instance nobody can grow
 * the table of files. Once per tick suffices, as grace periods advance with the tick.
 */
void fastio_quiesce(unsigned long *last_jiffy)
{
	unsigned long now = READ_ONCE(jiffies);

	if (*last_jiffy == now)
		return;
	*last_jiffy = now;
	local_irq_disable();
	fastio_rcu_momentary_eqs();
	local_irq_enable();
}

/*
 * Sleeps until there is work, a signal, or @until. Other rings' completions end it, too, if @any.
 * Return: 0, or -ETIME.
 */
static int fastio_sleep(struct fastio_rq *rq, ktime_t *until, bool any)
{
	struct fastio_ctx *ctx = rq->ctx;
	DEFINE_WAIT(wait);
	int ret = 0;

	rq->st.sleeps++;
	trace_fastio_sleep(ctx->id, rq->index);
	prepare_to_rcuwait(&rq->wait);
	for (;;) {
		bool room = fastio_waits_for_room(rq);

		/* Who sleeps when the CQ fills up never gets to fastio_run_sq(), which counts. */
		if (room)
			fastio_count_stall(rq);
		fastio_set_flags(rq, FASTIO_RING_NEED_WAKE | (room ? FASTIO_RING_CQ_WAIT : 0));
		/*
		 * A full barrier between the flags, the state, and the look at the indices. Pairs
		 * with the fence of user space between storing sq_tail (or cq_head) and reading
		 * flags, and with fastio_kick().
		 */
		if (any)
			prepare_to_wait(&ctx->cq_wait, &wait, TASK_INTERRUPTIBLE);
		else
			set_current_state(TASK_INTERRUPTIBLE);
		if (fastio_has_work(rq) || fastio_must_leave(ctx) || (any && fastio_any_ready(ctx)))
			break;
		/* SQEs that came in after the flags were chosen may be waiting for room. */
		if (room != fastio_waits_for_room(rq))
			continue;
		if (!until) {
			schedule();
		} else if (!schedule_hrtimeout_range(until, current->timer_slack_ns,
						     HRTIMER_MODE_ABS)) {
			ret = -ETIME;
			break;
		}
	}
	if (any)
		finish_wait(&ctx->cq_wait, &wait);
	finish_rcuwait(&rq->wait);
	fastio_set_flags(rq, 0);
	trace_fastio_wake(ctx->id, rq->index);
	return ret;
}

/**
 * struct fastio_spin - how long a thread has found nothing to do
 * @count: looks since the last one at the clock
 * @since: time of the first look at the clock, ns, or 0
 */
struct fastio_spin {
	u32	count;
	u64	since;
};

/*
 * Polls the two words that say that there is work, and nothing else, so that the answer to either
 * is short. @looks: how often at most.
 *
 * Return: whether to look again before sleeping.
 */
static bool fastio_spin(struct fastio_rq *rq, struct fastio_spin *spin, u64 idle_ns,
			unsigned int looks)
{
	u64 now;

	if (!idle_ns)
		return false;
	while (looks--) {
		cpu_relax();
		spin->count++;
		rq->st.spins++;
		if (!llist_empty(&rq->ready) || READ_ONCE(rq->shm->sq_tail) != rq->ix.sq_head)
			break;
	}
	if (spin->count < FASTIO_SPINS)
		return true;
	spin->count = 0;
	cond_resched();
	now = local_clock();
	if (!spin->since)
		spin->since = now;
	return now - spin->since < idle_ns;
}

static long fastio_serve(struct fastio_rq *rq)
{
	struct fastio_ctx *ctx = rq->ctx;
	bool account = fastio_accounting();
	struct fastio_spin spin = {};

	for (;;) {
		u64 start = account ? local_clock() : 0;
		unsigned int done = fastio_pass(rq, 0);

		if (account && done)
			rq->st.busy_ns += local_clock() - start;
		if (unlikely(fastio_must_leave(ctx))) {
			rq->st.leaves++;
			if (READ_ONCE(ctx->dead))
				return -ESHUTDOWN;
			return task_work_pending(current) ? 0 : -EINTR;
		}
		fastio_quiesce(&rq->last_jiffy);
		if (done) {
			spin = (struct fastio_spin){};
			/* RCU knows; cond_resched() would tell it again. */
			if (need_resched())
				cond_resched();
			continue;
		}
		if (unlikely(rq->gen != READ_ONCE(ctx->gen)))
			fastio_see_resources(rq);
		if (fastio_spin(rq, &spin, ctx->idle_ns, FASTIO_SPINS))
			continue;
		fastio_sleep(rq, NULL, false);
		spin = (struct fastio_spin){};
	}
}

/**
 * fastio_worker() - FASTIO_IOC_WORKER
 * @ctx: context
 * @index: ring, or number of rings + wq worker
 *
 * Return: see the uapi header.
 */
long fastio_worker(struct fastio_ctx *ctx, unsigned long index)
{
	struct fastio_rq *rq;
	long ret;

	if (index >= ctx->nr_rings) {
		index -= ctx->nr_rings;
		return index < ctx->nr_wq ? fastio_wq_worker(ctx, &ctx->wq[index]) : -EINVAL;
	}
	rq = &ctx->rq[index];
	if (!fastio_claim(rq))
		return READ_ONCE(ctx->dead) ? -ESHUTDOWN : -EBUSY;
	WRITE_ONCE(rq->self, false);
	rq->polite = false;
	ret = fastio_serve(rq);
	fastio_publish(rq);
	fastio_unclaim(rq);
	return ret;
}

static long fastio_enter_ring(struct fastio_rq *rq, unsigned int flags, unsigned int batch,
			      u32 timeout_us)
{
	struct fastio_ctx *ctx = rq->ctx;
	bool any = flags & FASTIO_ENTER_WAIT_ANY;
	struct fastio_spin spin = {};
	ktime_t until = 0;

	for (;;) {
		unsigned int done = fastio_pass(rq, batch);
		u32 unreaped = fastio_index_cq_unreaped(&rq->ix, rq->shm);
		int ret;

		if (unlikely(READ_ONCE(ctx->dead)))
			return -ESHUTDOWN;
		if (unreaped || !(flags & (FASTIO_ENTER_WAIT | FASTIO_ENTER_WAIT_ANY)))
			return unreaped;
		if (any && fastio_any_ready(ctx))
			return 0;
		if (unlikely(fastio_must_leave(ctx)))
			return task_work_pending(current) ? 0 : -EINTR;
		fastio_quiesce(&rq->last_jiffy);
		if (done) {
			cond_resched();
			continue;
		}
		/* Other rings' completions are not looked at while polling this one. */
		if ((flags & FASTIO_ENTER_SPIN) &&
		    fastio_spin(rq, &spin, ctx->idle_ns, any ? 1 : FASTIO_SPINS))
			continue;
		if (unlikely(rq->gen != READ_ONCE(ctx->gen)))
			fastio_see_resources(rq);
		if (timeout_us && !until)
			until = ktime_add_us(ktime_get(), timeout_us);
		ret = fastio_sleep(rq, timeout_us ? &until : NULL, any);
		if (ret)
			return ret;
	}
}

/**
 * fastio_enter() - FASTIO_IOC_ENTER
 * @ctx: context
 * @arg: FASTIO_ENTER(ring, flags, batch, timeout_us)
 *
 * Return: see the uapi header.
 */
long fastio_enter(struct fastio_ctx *ctx, unsigned long arg)
{
	unsigned int index = arg & 0xff, flags = (arg >> 8) & 0xff, batch = (arg >> 16) & 0xffff;
	unsigned int waits = flags & (FASTIO_ENTER_WAIT | FASTIO_ENTER_WAIT_ANY);
	u32 timeout_us = arg >> 32;
	struct fastio_rq *rq;
	long ret;

	if (index >= ctx->nr_rings ||
	    flags & ~(FASTIO_ENTER_WAIT | FASTIO_ENTER_WAIT_ANY | FASTIO_ENTER_SPIN))
		return -EINVAL;
	if (waits == (FASTIO_ENTER_WAIT | FASTIO_ENTER_WAIT_ANY) ||
	    (!waits && (timeout_us || flags & FASTIO_ENTER_SPIN)))
		return -EINVAL;
	rq = &ctx->rq[index];
	if (!fastio_claim(rq))
		return READ_ONCE(ctx->dead) ? -ESHUTDOWN : -EBUSY;
	if (!rq->self)
		WRITE_ONCE(rq->self, true);
	/*
	 * The full barrier of the claim comes before the look at the ready list, so nothing is
	 * missed.
	 */
	if (rq->enter) {
		WRITE_ONCE(rq->enter, false);
		WRITE_ONCE(rq->shm->enter, 0);
	}
	rq->polite = !waits && ctx->nr_rings > 1;
	rq->st.enters++;
	ret = fastio_enter_ring(rq, flags, batch, timeout_us);
	fastio_unclaim(rq);
	return ret;
}

/**
 * fastio_any_ready() - whether user space has something to do
 * @ctx: context after SETUP
 *
 * Return: whether a CQ holds a completion, or a ring wants to be entered.
 */
bool fastio_any_ready(struct fastio_ctx *ctx)
{
	u32 i;

	for (i = 0; i < ctx->nr_rings; i++) {
		struct fastio_rq *rq = &ctx->rq[i];

		if (READ_ONCE(rq->ix.cq_published) != READ_ONCE(rq->shm->cq_head) ||
		    READ_ONCE(rq->enter))
			return true;
	}
	return false;
}

/**
 * fastio_wait() - FASTIO_IOC_WAIT
 * @ctx: context
 * @timeout_us: microseconds, 0 to 2^32-1, or FASTIO_WAIT_FOREVER
 *
 * Return: see the uapi header.
 */
long fastio_wait(struct fastio_ctx *ctx, unsigned long timeout_us)
{
	DEFINE_WAIT(wait);
	ktime_t until;
	long ret = 0;

	if (timeout_us > U32_MAX && timeout_us != FASTIO_WAIT_FOREVER)
		return -EINVAL;
	if (fastio_any_ready(ctx))
		return 0;
	if (!timeout_us)
		return -ETIME;
	until = ktime_add_us(ktime_get(), timeout_us == FASTIO_WAIT_FOREVER ? 0 : timeout_us);
	for (;;) {
		/* Its barrier pairs with those in fastio_publish() and fastio_kick(). */
		prepare_to_wait(&ctx->cq_wait, &wait, TASK_INTERRUPTIBLE);
		if (fastio_any_ready(ctx))
			break;
		if (READ_ONCE(ctx->dead)) {
			ret = -ESHUTDOWN;
			break;
		}
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		if (timeout_us == FASTIO_WAIT_FOREVER) {
			schedule();
		} else if (!schedule_hrtimeout_range(&until, current->timer_slack_ns,
						     HRTIMER_MODE_ABS)) {
			ret = fastio_any_ready(ctx) ? 0 : -ETIME;
			break;
		}
	}
	finish_wait(&ctx->cq_wait, &wait);
	return ret;
}
