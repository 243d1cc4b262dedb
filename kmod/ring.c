// SPDX-License-Identifier: GPL-2.0
/* One pass over a ring: ready nodes, then new SQEs, then one publication of all completions. */
#include <linux/sched.h>
#include "internal.h"

/**
 * fastio_publish() - show user space the CQEs written, and wake who waits for them
 * @rq: ring; the caller serves it
 */
void fastio_publish(struct fastio_rq *rq)
{
	u32 n = fastio_index_cq_publish(&rq->ix, rq->shm);

	if (!n)
		return;
	rq->st.completed += n;
	/*
	 * The full barrier in here pairs with the one in prepare_to_wait() and poll_wait() of those
	 * who wait.
	 */
	if (wq_has_sleeper(&rq->ctx->cq_wait))
		wake_up_interruptible_poll(&rq->ctx->cq_wait, EPOLLIN | EPOLLRDNORM);
}

/**
 * fastio_breathe() - let others run in the middle of a long pass
 * @rq: ring; the caller serves it
 */
void fastio_breathe(struct fastio_rq *rq)
{
	if (need_resched()) {
		fastio_publish(rq);
		cond_resched();
	}
}

/* Moves what a pass has taken off the ready list and not run yet to the front of the backlog. */
static void fastio_give_back(struct fastio_rq *rq)
{
	struct list_head *last = &rq->backlog;

	while (rq->taken) {
		struct fastio_node *node = llist_entry(rq->taken, struct fastio_node, ll);

		rq->taken = node->ll.next;	/* ->list shares its place */
		list_add(&node->list, last);
		last = &node->list;
	}
}

/**
 * fastio_pull() - move all nodes that wait to be run to the backlog, oldest first
 * @rq: ring; the caller serves it
 *
 * From here on nodes can be taken out from the middle.
 */
void fastio_pull(struct fastio_rq *rq)
{
	struct list_head *tail;
	struct llist_node *ll;

	/* They came before those that are on the ready list by now. */
	fastio_give_back(rq);
	tail = rq->backlog.prev;
	/* The oldest entry comes last: insert every next one before those that came later. */
	ll = llist_del_all(&rq->ready);
	while (ll) {
		struct fastio_node *node = llist_entry(ll, struct fastio_node, ll);

		ll = ll->next;	/* ->list shares its place */
		list_add(&node->list, tail);
	}
}

/**
 * fastio_wanted_elsewhere() - whether the serving thread should return to reap other rings
 * @rq: ring; the caller serves it with &fastio_rq.polite
 *
 * Looks at the shared indices only: the private ones belong to other CPUs. Nonsense in them makes
 * user space return early, or late, to itself.
 *
 * Return: whether another ring has completions.
 */
bool fastio_wanted_elsewhere(const struct fastio_rq *rq)
{
	const struct fastio_ctx *ctx = rq->ctx;
	u32 i;

	for (i = 0; i < ctx->nr_rings; i++) {
		const struct fastio_ring *shm = ctx->rq[i].shm;

		if (i != rq->index && READ_ONCE(shm->cq_tail) != READ_ONCE(shm->cq_head))
			return true;
	}
	return false;
}

/* Runs a node. Return: whether to go on with the next one. */
static bool fastio_run_one(struct fastio_rq *rq, struct fastio_node *node, unsigned int done)
{
	fastio_run_node(rq, node);
	if (!(done % FASTIO_BREATHE))
		fastio_breathe(rq);
	return !rq->polite || !fastio_wanted_elsewhere(rq);
}

/* What an earlier pass left behind goes first. */
static unsigned int fastio_run_backlog(struct fastio_rq *rq, unsigned int batch)
{
	unsigned int done = 0;
	LIST_HEAD(run);

	if (!llist_empty(&rq->ready))
		fastio_pull(rq);
	if (!list_empty(&rq->stalled) && fastio_index_cq_room(&rq->ix, rq->shm, 1))
		list_splice_tail_init(&rq->stalled, &rq->backlog);
	/* Nodes that queue themselves again have to wait for the next pass. */
	list_splice_init(&rq->backlog, &run);
	while (!list_empty(&run) && (!batch || done < batch)) {
		struct fastio_node *node = list_first_entry(&run, struct fastio_node, list);

		list_del(&node->list);
		if (!fastio_run_one(rq, node, ++done))
			break;
	}
	list_splice(&run, &rq->backlog);
	return done;
}

/*
 * The same when nothing was left: spares nodes the way through a list with two ends, unless one
 * that is run calls fastio_pull().
 */
static unsigned int fastio_run_new(struct fastio_rq *rq, unsigned int batch)
{
	unsigned int done = 0;
	bool more = true;

	/* The oldest entry comes last. */
	rq->taken = llist_reverse_order(llist_del_all(&rq->ready));
	while (rq->taken && more && (!batch || done < batch)) {
		struct fastio_node *node = llist_entry(rq->taken, struct fastio_node, ll);

		rq->taken = node->ll.next;	/* ->list shares its place */
		more = fastio_run_one(rq, node, ++done);
	}
	fastio_give_back(rq);
	return done;
}

static unsigned int fastio_run_ready(struct fastio_rq *rq, unsigned int batch)
{
	unsigned int done = 0;

	if (!list_empty(&rq->backlog) || !list_empty(&rq->stalled))
		done = fastio_run_backlog(rq, batch);
	else if (!llist_empty(&rq->ready))
		done = fastio_run_new(rq, batch);
	rq->st.ready += done;
	return done;
}

/**
 * fastio_pass() - do what there is to do on a ring, once
 * @rq: ring; the caller serves it
 * @batch: ready nodes and SQEs to take at most, 0: all
 *
 * Return: how many were taken.
 */
unsigned int fastio_pass(struct fastio_rq *rq, unsigned int batch)
{
	unsigned int done;

	done = fastio_run_ready(rq, batch);
	/*
	 * What has been received goes out before anything is sent: user space works on it
	 * meanwhile, and has the next SQEs ready when these are done.
	 */
	if (done)
		fastio_publish(rq);
	done += fastio_run_sq(rq, batch);
	if (done) {
		fastio_publish(rq);
		rq->st.batches++;
	}
	return done;
}

/**
 * fastio_has_work() - whether a pass would find something
 * @rq: ring; the caller serves it
 *
 * With the CQ full nothing can be taken until user space has reaped; it then calls WAKE. Saying
 * "work" here would turn a sleep into an endless loop.
 *
 * Return: whether not to sleep.
 */
bool fastio_has_work(struct fastio_rq *rq)
{
	if (!llist_empty(&rq->ready) || !list_empty(&rq->backlog))
		return true;
	if (rq->gen != READ_ONCE(rq->ctx->gen) || READ_ONCE(rq->ctx->dead))
		return true;
	if (list_empty(&rq->stalled) && !fastio_index_sq_avail(&rq->ix, rq->shm))
		return false;
	return fastio_index_cq_room(&rq->ix, rq->shm, 1);
}
