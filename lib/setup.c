// SPDX-License-Identifier: MIT
/* From parameters to running queues, and back to nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "params.h"

/*
 * A worker that has not answered by then never will, even on an emulated machine with its CPUs
 * taken.
 */
#define ANSWER_NS (60 * 1000000000ull)
#define ANSWER_LOOK_US 100000u

#define STR_(x) #x
#define STR(x) STR_(x)

const char *fastio_version(void)
{
	return STR(FASTIO_VERSION_MAJOR) "." STR(FASTIO_VERSION_MINOR) "." STR(
		FASTIO_VERSION_PATCH);
}

/*
 * Lays out which queue connection i goes to: plain turns, with the program's own queue coming in
 * less often when it is to have less. Each step goes to the queue that is furthest behind its
 * share.
 */
static void fill_map(struct fastio_private *priv)
{
	struct fastio *fio = &priv->fio;
	unsigned int total = fio->nr_workers * FASTIO_SELF_WEIGHT_FULL;
	int behind[FASTIO_MAX_WORKERS] = { 0 };

	if (!fio->self || !fio->nr_workers) {
		for (unsigned int i = 0; i < fio->nr_queues; i++)
			priv->map[i] = (uint8_t)i;
		fio->map_len = fio->nr_queues;
		return;
	}
	total += priv->params.self_weight;
	for (unsigned int step = 0; step < total; step++) {
		unsigned int most = 0;

		for (unsigned int i = 0; i < fio->nr_queues; i++) {
			behind[i] += i < fio->nr_workers ? FASTIO_SELF_WEIGHT_FULL
							 : (int)priv->params.self_weight;
			if (behind[i] > behind[most])
				most = i;
		}
		behind[most] -= (int)total;
		priv->map[step] = (uint8_t)most;
	}
	fio->map_len = total;
}

static void shape(struct fastio_private *priv)
{
	const struct fastio_params *params = &priv->params;
	bool own = !params->workers || params->self_weight;
	struct fastio *fio = &priv->fio;

	fio->private_data = priv;
	fio->queues = priv->queues;
	fio->nr_workers = params->workers;
	fio->nr_queues = params->workers + own;
	fio->self = own ? &priv->queues[params->workers] : NULL;
	fio->map = priv->map;
	fio->backend = params->backend;
	for (unsigned int i = 0; i < fio->nr_queues; i++) {
		struct fastio_queue *queue = &priv->queues[i];

		queue->fio = fio;
		queue->index = i;
		queue->self = queue == fio->self;
		queue->sq_entries = params->sq_entries;
		queue->cq_entries = params->cq_entries;
	}
	fill_map(priv);
}

static void announce(const struct fastio_params *params)
{
	const char *quiet = getenv("FASTIO_QUIET");
	static int announced;

	if (params->quiet || (quiet && *quiet && *quiet != '0'))
		return;
	if (__atomic_exchange_n(&announced, 1, __ATOMIC_RELAXED))
		return;
	fprintf(stderr,
		"fastio: user-space back end in use: it behaves as the kernel module does, but is "
		"slower. Load "
		"the module (modprobe fastio) for speed; set FASTIO_QUIET=1 to silence this.\n");
}

static int setup_backend(struct fastio_private *priv, struct fastio_error *error)
{
	struct fastio *fio = &priv->fio;
	int ret;

	if (fio->backend != FASTIO_BACKEND_USER) {
		bool must = fio->backend == FASTIO_BACKEND_KERNEL;

		priv->ops = &fastio_kernel_ops;
		fio->backend = FASTIO_BACKEND_KERNEL;
		ret = priv->ops->setup(priv, error);
		/*
		 * Only a device that is not there is made up for: one that refuses is a fault worth
		 * knowing.
		 */
		if (must || (ret != -ENOENT && ret != -ENXIO && ret != -ENODEV))
			return ret;
	}
	priv->ops = &fastio_user_ops;
	fio->backend = FASTIO_BACKEND_USER;
	ret = priv->ops->setup(priv, error);
	if (!ret)
		announce(&priv->params);
	return ret;
}

/*
 * Sends a NOP through every worker: a thread that could not enter its ring is found now, not by a
 * wait without end.
 */
static int check_answers(struct fastio_private *priv, struct fastio_error *error)
{
	uint64_t deadline_ns = fastio_now_ns() + ANSWER_NS;
	struct fastio *fio = &priv->fio;
	unsigned int answers = 0;

	for (unsigned int i = 0; i < fio->nr_workers; i++) {
		struct fastio_sqe *sqe = fastio_get_sqe(&fio->queues[i]);
		int ret = -EBUSY;

		if (sqe) {
			fastio_prep_nop(sqe);
			ret = fastio_submit(&fio->queues[i]);
		}
		if (ret)
			return fastio_fail(error, ret, "cannot wake worker %u (%s)", i,
					   fastio_errno_name(ret));
	}
	while (answers < fio->nr_workers) {
		struct fastio_queue *queue;
		int failed = __atomic_load_n(&priv->failed, __ATOMIC_ACQUIRE);

		if (failed)
			return fastio_fail(error, failed,
					   "a worker thread could not start serving (%s): %s",
					   fastio_errno_name(failed), fastio_strerror(failed));
		if (fastio_now_ns() > deadline_ns)
			return fastio_fail(
				error, -ETIME,
				"%u of %u workers did not answer within %llu s; is the machine "
				"overloaded?",
				fio->nr_workers - answers, fio->nr_workers, ANSWER_NS / 1000000000);
		while (fastio_next(fio, &queue)) {
			fastio_seen(queue);
			answers++;
		}
		if (answers < fio->nr_workers)
			priv->ops->wait(priv, ANSWER_LOOK_US);
	}
	return 0;
}

int fastio_setup(struct fastio **fio, const struct fastio_params *params,
		 struct fastio_error *error)
{
	struct fastio_private *priv = calloc(1, sizeof(*priv));
	int ret;

	if (!priv)
		return fastio_fail(error, -ENOMEM, "out of memory");
	priv->owner = getpid();
	if (params)
		priv->params = *params;
	else
		fastio_params_init(&priv->params);
	ret = fastio_params_complete(&priv->params, error);
	if (ret)
		goto out_free;
	shape(priv);
	ret = setup_backend(priv, error);
	if (ret)
		goto out_free;
	priv->fio.clear_when_empty = priv->ops->emptied;
	ret = fastio_threads_start(priv, error);
	if (ret)
		goto out_backend;
	ret = check_answers(priv, error);
	if (ret)
		goto out_threads;
	*fio = &priv->fio;
	return 0;
out_threads:
	fastio_threads_stop(priv);
out_backend:
	priv->ops->free(priv, false);
out_free:
	free(priv);
	return ret;
}

void fastio_stop(struct fastio *fio)
{
	struct fastio_private *priv = fastio_private(fio);

	if (priv->owner == getpid())
		fastio_threads_stop(priv);
}

void fastio_exit(struct fastio *fio)
{
	struct fastio_private *priv;
	bool forked;

	if (!fio)
		return;
	priv = fastio_private(fio);
	forked = priv->owner != getpid();
	if (!forked)
		fastio_threads_stop(priv);
	fastio_bufs_free_all(priv, forked);
	priv->ops->free(priv, forked);
	free(priv);
}
