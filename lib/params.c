// SPDX-License-Identifier: MIT
/*
 * How a set of queues is to be: defaults, fastio.conf, and what is refused before anything is made.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "params.h"

#define DEFAULT_WQ_WORKERS 1
#define DEFAULT_SELF_BATCH 8
#define MIN_DEFAULT_CQ_ENTRIES 4096

static unsigned int power_of_two_from(unsigned int least)
{
	unsigned int power = 1;

	while (power < least)
		power *= 2;
	return power;
}

static int cpu_at(int offset, unsigned int index)
{
	return offset == -1 ? FASTIO_NO_CPU : offset + (int)index;
}

static void translate(struct fastio_params *params, const struct fastio_conf *conf,
		      unsigned int user_worker)
{
	unsigned int workers = (unsigned int)(conf->max_ker_worker / conf->max_usr_worker);

	memset(params, 0, sizeof(*params));
	params->workers = workers;
	params->self_batch = workers ? DEFAULT_SELF_BATCH : 0;
	params->wq_workers = DEFAULT_WQ_WORKERS;
	params->sq_entries =
		power_of_two_from((unsigned int)(conf->max_table_entry * conf->max_table_len));
	params->idle_us = (unsigned int)conf->default_main_worker_idle_time * 1000;
	params->wq_idle_us = (unsigned int)conf->default_wq_worker_idle_time * 1000;
	for (unsigned int i = 0; i < FASTIO_MAX_WORKERS; i++) {
		unsigned int place = conf->esca_localize ? user_worker : user_worker * workers + i;

		params->worker_cpu[i] = cpu_at(conf->affinity_offset, place);
	}
	for (unsigned int i = 0; i < FASTIO_MAX_WQ_WORKERS; i++)
		params->wq_cpu[i] = cpu_at(conf->wq_affinity_offset, user_worker);
}

void fastio_params_init(struct fastio_params *params)
{
	struct fastio_conf conf;

	fastio_conf_defaults(&conf);
	translate(params, &conf, 0);
}

int fastio_params_from_conf(struct fastio_params *params, const struct fastio_conf *conf,
			    unsigned int user_worker, struct fastio_error *error)
{
	if (user_worker >= (unsigned int)conf->max_usr_worker)
		return fastio_fail(
			error, -ERANGE,
			"found user worker %u, expected one below max_usr_worker = %d; raise it "
			"in fastio.conf",
			user_worker, conf->max_usr_worker);
	translate(params, conf, user_worker);
	return 0;
}

struct range {
	const char *name;
	unsigned int value, min, max;
	bool power_of_two;
};

static int check_range(const struct range *range, struct fastio_error *error)
{
	bool fits = range->value >= range->min && range->value <= range->max;

	if (fits && !(range->power_of_two && (range->value & (range->value - 1))))
		return 0;
	return fastio_fail(error, -EINVAL, "found %s = %u, expected %s from %u to %u", range->name,
			   range->value, range->power_of_two ? "a power of two" : "a number",
			   range->min, range->max);
}

/* Whether the CPU is there is found out by the thread that goes there: the caller may be pinned. */
static int check_cpu(const char *what, unsigned int index, int cpu, struct fastio_error *error)
{
	if (cpu >= FASTIO_NO_CPU && cpu < CPU_SETSIZE)
		return 0;
	return fastio_fail(error, -EINVAL, "found CPU %d for %s %u, expected -1 to %d", cpu, what,
			   index, CPU_SETSIZE - 1);
}

static int check_cpus(const struct fastio_params *params, struct fastio_error *error)
{
	int ret = 0;

	for (unsigned int i = 0; i < params->workers && !ret; i++)
		ret = check_cpu("worker", i, params->worker_cpu[i], error);
	for (unsigned int i = 0; i < params->wq_workers && !ret; i++)
		ret = check_cpu("wq worker", i, params->wq_cpu[i], error);
	return ret;
}

static int choose_backend(struct fastio_params *params, struct fastio_error *error)
{
	const char *named = getenv("FASTIO_BACKEND");

	if (params->backend > FASTIO_BACKEND_USER)
		return fastio_fail(error, -EINVAL,
				   "found backend = %d, expected a FASTIO_BACKEND_* value",
				   (int)params->backend);
	if (params->backend != FASTIO_BACKEND_AUTO || !named || !*named || !strcmp(named, "auto"))
		return 0;
	if (!strcmp(named, "kernel"))
		params->backend = FASTIO_BACKEND_KERNEL;
	else if (!strcmp(named, "user"))
		params->backend = FASTIO_BACKEND_USER;
	else
		return fastio_fail(error, -EINVAL,
				   "found FASTIO_BACKEND=%.40s, expected kernel, user or auto",
				   named);
	return 0;
}

int fastio_params_complete(struct fastio_params *params, struct fastio_error *error)
{
	/* The program's own queue needs one of the rings. */
	unsigned int max_workers = FASTIO_MAX_WORKERS - (params->self_weight ? 1 : 0);
	int ret;

	if (!params->cq_entries) {
		unsigned int entries = params->sq_entries < FASTIO_MAX_ENTRIES / 4
					       ? 4 * params->sq_entries
					       : FASTIO_MAX_ENTRIES;

		params->cq_entries =
			entries < MIN_DEFAULT_CQ_ENTRIES ? MIN_DEFAULT_CQ_ENTRIES : entries;
	}
	if (!params->max_slots)
		params->max_slots = 65536;
	if (!params->device)
		params->device = "/dev/fastio";
	{
		const struct range ranges[] = {
			{ "workers", params->workers, 0, max_workers, false },
			{ "self_weight", params->self_weight, 0, FASTIO_SELF_WEIGHT_FULL, false },
			{ "self_batch", params->self_batch, 0, 255, false },
			{ "wq_workers", params->wq_workers, 0, FASTIO_MAX_WQ_WORKERS, false },
			{ "sq_entries", params->sq_entries, 1, FASTIO_MAX_ENTRIES, true },
			{ "cq_entries", params->cq_entries, params->sq_entries, FASTIO_MAX_ENTRIES,
			  true },
			{ "idle_us", params->idle_us, 0, FASTIO_MAX_IDLE_US, false },
			{ "wq_idle_us", params->wq_idle_us, 0, FASTIO_MAX_IDLE_US, false },
			{ "wait_spin_us", params->wait_spin_us, 0, FASTIO_MAX_IDLE_US, false },
			{ "max_slots", params->max_slots, 1, FASTIO_MAX_SLOTS, false },
		};

		for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
			ret = check_range(&ranges[i], error);
			if (ret)
				return ret;
		}
	}
	ret = check_cpus(params, error);
	return ret ? ret : choose_backend(params, error);
}
