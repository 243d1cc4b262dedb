/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "fastio_setup.h"

#include <stdlib.h>
#include <sys/mman.h>

#define CONNECTIONS_DEFAULT 4000 /* of each ring: what fits into its default number of operations in flight */
#define SELF_WEIGHT_LESS_FROM 4	 /* workers; found by measuring */
#define KEPT_BACK 64		 /* operations in flight of a ring that are not of connections */

static const char *const mode_names[] = { "fused", "oneshot", "multishot", NULL };
static const char *const wait_names[] = { "sleep", "spin", NULL };
static const char *const backend_names[] = { "auto", "kernel", "user", NULL };

struct fastio_options options = { .self_weight = FASTIO_SELF_WEIGHT_FULL, .batch = 16, .buffers = 1024 };
static struct fastio_conf conf;

/* Reads fastio.conf; what the command line leaves open comes from there. */
static void configure(struct serve_options *serve)
{
	struct fastio_error error;

	if (fastio_conf_load(&conf, options.conf, &error))
		die(EXIT_USAGE, "%s", error.message);
	if (!serve->threads_given)
		serve->threads = (uint64_t)conf.max_usr_worker;
	else if (serve->threads > (uint64_t)conf.max_usr_worker)
		conf.max_usr_worker = (int)serve->threads;
	if (!options.workers_given) {
		if (conf.max_ker_worker % conf.max_usr_worker)
			die(EXIT_USAGE, "--threads: found %llu, expected a divisor of max_ker_worker = %d, or --workers",
			    (unsigned long long)serve->threads, conf.max_ker_worker);
		options.workers = (uint64_t)(conf.max_ker_worker / conf.max_usr_worker);
	}
	/* As if the file had said so: other settings follow from the number. */
	conf.max_ker_worker = (int)options.workers * conf.max_usr_worker;
	if (options.self_weight_given && !options.hybrid)
		die(EXIT_USAGE, "found --self-weight without --hybrid, expected both");
	/* The more workers there are to serve, the less time the thread has for connections of its own. */
	if (!options.self_weight_given && options.workers >= SELF_WEIGHT_LESS_FROM)
		options.self_weight = FASTIO_SELF_WEIGHT_FULL - 1;
	if (options.hybrid && !options.workers)
		die(EXIT_USAGE, "found --hybrid with no workers, expected --workers of at least 1; without any it is inline");
	if (options.buffers & (options.buffers - 1))
		die(EXIT_USAGE, "--buffers: found %llu, expected a power of two", (unsigned long long)options.buffers);
}

void setup_options(int argc, char **argv, struct serve_options *serve, struct server *server)
{
	static const struct option_spec specs[] = {
		{ "mode", 0, OPTION_CHOICE, &options.mode, 0, 0, mode_names, "how requests are asked for", NULL },
		{ "workers", 'k', OPTION_COUNT, &options.workers, 0, FASTIO_MAX_WORKERS, NULL,
		  "kernel workers of each thread, instead of fastio.conf's; 0 is inline", &options.workers_given },
		{ "hybrid", 0, OPTION_FLAG, &options.hybrid, 0, 0, NULL, "the application thread works on a ring of its own, too",
		  NULL },
		{ "self-weight", 0, OPTION_COUNT, &options.self_weight, 1, FASTIO_SELF_WEIGHT_FULL, NULL,
		  "hybrid: that ring's share, in quarters of a worker's (default: 4, from 4 workers on 3)", &options.self_weight_given },
		{ "self-batch", 0, OPTION_COUNT, &options.self_batch, 0, 255, NULL,
		  "most operations it does on that ring at a time, or inline; 0: no bound (default: 8, inline 0)",
		  &options.self_batch_given },
		{ "wait", 0, OPTION_CHOICE, &options.wait, 0, 0, wait_names, "how the application thread waits", NULL },
		{ "idle-us", 0, OPTION_COUNT, &options.idle_us, 0, FASTIO_MAX_IDLE_US, NULL,
		  "how long a worker polls before it sleeps, instead of fastio.conf's", &options.idle_given },
		{ "conf", 0, OPTION_TEXT, &options.conf, 1, 4000, NULL, "the fastio.conf to read", NULL },
		{ "backend", 0, OPTION_CHOICE, &options.backend, 0, 0, backend_names,
		  "/dev/fastio, threads that stand in for it, or what there is", NULL },
		{ "batch", 0, OPTION_COUNT, &options.batch, 1, 4096, NULL,
		  "most completions handled before their replies are submitted", NULL },
		{ "buffers", 0, OPTION_COUNT, &options.buffers, 2, POOL_BUFFERS_MAX, NULL,
		  "multishot: provided buffers of each ring, a power of two", NULL },
	};
	struct option_table tables[] = { serve_option_table(serve), OPTION_TABLE(specs) };

	options_parse(argc, argv, "an echo server on FastIO", tables, 2);
	configure(serve);
	server->extra_cpus = (unsigned int)(serve->threads * options.workers);
}

static unsigned int round_up(unsigned int value)
{
	unsigned int power = 1;

	while (power < value)
		power *= 2;
	return power;
}

static void set_params(struct application *application, struct fastio_params *params)
{
	const struct serve_thread *thread = application->thread;
	const struct serve_options *serve = thread->server->options;
	unsigned int lanes, in_flight = options.mode == MODE_MULTISHOT ? 3 : 1;
	struct fastio_error error;

	if (fastio_params_from_conf(params, &conf, thread->index, &error))
		die(EXIT_USAGE, "%s", error.message);
	if (options.self_batch_given)
		params->self_batch = (unsigned int)options.self_batch;
	if (options.idle_given)
		params->idle_us = (unsigned int)options.idle_us;
	params->self_weight = options.hybrid ? (unsigned int)options.self_weight : 0;
	params->wq_workers = 0; /* Nothing here blocks. */
	params->backend = (enum fastio_backend)options.backend;
	lanes = params->workers + (options.hybrid || !params->workers);

	application->lane_connections_max = CONNECTIONS_DEFAULT;
	if (serve->max_connections)
		application->lane_connections_max = ((unsigned int)serve->max_connections + lanes - 1) / lanes;
	params->cq_entries = round_up(application->lane_connections_max * in_flight + KEPT_BACK);
	if (params->cq_entries < params->sq_entries)
		params->cq_entries = params->sq_entries;
	if (params->cq_entries > FASTIO_MAX_ENTRIES)
		die(EXIT_USAGE, "--max-connections: found %llu, expected at most %u for each of %u rings",
		    (unsigned long long)serve->max_connections, (FASTIO_MAX_ENTRIES - KEPT_BACK) / in_flight, lanes);
	for (unsigned int i = 0; serve->cpus.count && i < params->workers; i++)
		params->worker_cpu[i] = serve->cpus.cpu[serve->threads + thread->index * params->workers + i];
}

static void make_pool(struct lane *lane, unsigned int group,
		      void (*provide)(struct pool *pool, char *bytes, unsigned int id))
{
	int ret = fastio_bufs_setup(&lane->provided, lane->queue, group, (unsigned int)options.buffers);

	if (ret)
		die(EXIT_ENVIRONMENT, "cannot provide buffers: %s", fastio_strerror(ret));
	if (!pool_init(&lane->pool, (unsigned int)options.buffers,
		       lane->application->thread->server->options->buffer_bytes, provide))
		die(EXIT_ENVIRONMENT, "out of memory");
}

void setup_application(struct application *application,
		       void (*provide)(struct pool *pool, char *bytes, unsigned int id))
{
	const struct server *server = application->thread->server;
	/*
	 * A descriptor can be closed, and a new connection have it, before this thread has reaped that it is
	 * closed: for a moment there are more connections than descriptors.
	 */
	unsigned int connections = server->max_connections * (server->options->max_connections ? 1 : 2);
	struct fastio_params params;
	struct fastio_error error;

	set_params(application, &params);
	/* Workers run on other CPUs than this thread, which may put them only where it may run itself. */
	cpus_unpin(&server->options->cpus);
	if (fastio_setup(&application->fio, &params, &error))
		die(EXIT_ENVIRONMENT, "%s", error.message);
	cpus_pin(&server->options->cpus, application->thread->index);
	application->lane_count = application->fio->nr_queues;
	if (connections > application->lane_count * application->lane_connections_max)
		connections = application->lane_count * application->lane_connections_max;
	application->connections = calloc(connections, sizeof(*application->connections));
	application->buffers = mmap(NULL, connections * server->options->buffer_bytes, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!application->connections || application->buffers == MAP_FAILED)
		die(EXIT_ENVIRONMENT, "out of memory");
	for (unsigned int i = 0; i < connections; i++)
		application->connections[i].next[LINK_FREE_OR_STARVED] = i + 1 < connections ? i + 1 : NOBODY;
	for (unsigned int i = 0; i < application->lane_count; i++) {
		struct lane *lane = &application->lanes[i];

		lane->application = application;
		lane->queue = &application->fio->queues[i];
		lane->starved = (struct list){ NOBODY, NOBODY, LINK_FREE_OR_STARVED };
		lane->deferred = (struct list){ NOBODY, NOBODY, LINK_DEFERRED };
		if (options.mode == MODE_MULTISHOT)
			make_pool(lane, i, provide);
	}
}

void setup_statistics(struct server *server, struct json *json)
{
	unsigned int threads = (unsigned int)server->options->threads;

	json_text(json, "mode", mode_names[options.mode]);
	json_text(json, "wait", wait_names[options.wait]);
	json_text(json, "backend", backend_names[applications[0]->backend]);
	json_bool(json, "hybrid", options.hybrid);
	json_array(json, "rings");
	for (unsigned int i = 0; i < threads; i++) {
		for (unsigned int j = 0; j < applications[i]->lane_count; j++) {
			const struct fastio_stats *stats = &applications[i]->stats[j];

			json_object(json, NULL);
			json_count(json, "thread", i);
			json_count(json, "ring", j);
			json_count(json, "submitted", stats->submitted);
			json_count(json, "completed", stats->completed);
			json_count(json, "batches", stats->batches);
			json_count(json, "eagain", stats->eagain);
			json_count(json, "parked", stats->parked);
			json_count(json, "spins", stats->spins);
			json_count(json, "sleeps", stats->sleeps);
			json_count(json, "enters", stats->enters);
			json_end_object(json);
		}
	}
	json_end_array(json);
}
