// SPDX-License-Identifier: MIT
/* The threads that are donated to the kernel, or do its work in user space. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

static void name_thread(const struct fastio_thread *thread)
{
	unsigned int workers = thread->priv->fio.nr_workers;
	char name[16];

	if (thread->index < workers)
		snprintf(name, sizeof(name), "fastio/%u", (uint8_t)thread->index);
	else
		snprintf(name, sizeof(name), "fastio-wq/%u", (uint8_t)(thread->index - workers));
	pthread_setname_np(pthread_self(), name);
}

static int pin_thread(const struct fastio_thread *thread)
{
	cpu_set_t cpus;

	if (thread->cpu == FASTIO_NO_CPU)
		return 0;
	CPU_ZERO(&cpus);
	CPU_SET(thread->cpu, &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus) ? -errno : 0;
}

static void *run_thread(void *arg)
{
	struct fastio_thread *thread = arg;
	struct fastio_private *priv = thread->priv;
	int none = 0;
	int ret;

	name_thread(thread);
	ret = pin_thread(thread);
	thread->start_error = ret;
	sem_post(&priv->started);
	while (!ret || ret == -EINTR) {
		if (__atomic_load_n(&priv->stopping, __ATOMIC_ACQUIRE))
			return NULL;
		ret = priv->ops->worker(priv, thread->index);
	}
	/* Whoever waits for completions finds this and gives up, instead of waiting for ever. */
	if (!__atomic_load_n(&priv->stopping, __ATOMIC_ACQUIRE))
		__atomic_compare_exchange_n(&priv->failed, &none, ret, false, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED);
	return NULL;
}

static int create_threads(struct fastio_private *priv, unsigned int wanted,
			  struct fastio_error *error)
{
	unsigned int workers = priv->fio.nr_workers;
	sigset_t all, before;
	int err = 0;

	/*
	 * Signals are for the program's threads; a worker would have to leave the kernel for each.
	 */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned int i = 0; i < wanted && !err; i++) {
		struct fastio_thread *thread = &priv->threads[i];

		thread->priv = priv;
		thread->index = i;
		thread->cpu =
			i < workers ? priv->params.worker_cpu[i] : priv->params.wq_cpu[i - workers];
		err = pthread_create(&thread->id, NULL, run_thread, thread);
		if (!err)
			priv->nr_threads++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!err)
		return 0;
	return fastio_fail(
		error, -err,
		"cannot start worker thread %u of %u (%s): use fewer workers or raise the "
		"limit on threads (ulimit -u)",
		priv->nr_threads + 1, wanted, fastio_errno_name(err));
}

/* Threads tell where they stand before they go to work, so that this ends soon. */
static int await_starts(struct fastio_private *priv, struct fastio_error *error)
{
	for (unsigned int i = 0; i < priv->nr_threads; i++)
		while (sem_wait(&priv->started))
			;
	for (unsigned int i = 0; i < priv->nr_threads; i++) {
		const struct fastio_thread *thread = &priv->threads[i];
		bool wq = i >= priv->fio.nr_workers;

		if (thread->start_error)
			return fastio_fail(
				error, thread->start_error,
				"found CPU %d for %s %u, expected one that is online and "
				"that this process may use (%s); use fewer workers, or "
				"change %s (-1 is any CPU)",
				thread->cpu, wq ? "wq worker" : "worker",
				wq ? i - priv->fio.nr_workers : i,
				fastio_errno_name(thread->start_error),
				wq ? "wq_affinity_offset" : "affinity_offset");
	}
	return 0;
}

int fastio_threads_start(struct fastio_private *priv, struct fastio_error *error)
{
	int ret, late;

	sem_init(&priv->started, 0, 0);
	ret = create_threads(priv, priv->fio.nr_workers + priv->params.wq_workers, error);
	late = await_starts(priv, ret ? NULL : error);
	if (!ret)
		ret = late;
	if (ret)
		fastio_threads_stop(priv);
	return ret;
}

void fastio_threads_stop(struct fastio_private *priv)
{
	if (__atomic_exchange_n(&priv->stopping, 1, __ATOMIC_ACQ_REL))
		return;
	priv->ops->stop(priv);
	for (unsigned int i = 0; i < priv->nr_threads; i++)
		pthread_join(priv->threads[i].id, NULL);
	priv->nr_threads = 0;
	sem_destroy(&priv->started);
}
