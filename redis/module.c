// SPDX-License-Identifier: MIT
/* Loading, options, INFO. */
#include "core.h"

#include <dlfcn.h>
#include <link.h>
#include <sched.h>

/*
 * The value of hybrid that leaves it to the number of workers. One worker alone has twice the work of the main thread,
 * which then waits for it; with a ring of its own both are busy. Two workers keep the main thread busy by themselves.
 */
#define HYBRID_BY_WORKERS (-1)
/* With a third of the connections on its own ring both have about the same to do (docs/redis.md). */
#define HYBRID_BESIDE_ONE 2

struct core core = {
	.options = {
		.workers = 1,
		.idle_us = 1000,
		.send_bytes = 131072,
		.backend = FASTIO_BACKEND_KERNEL,
	},
	.spin_us = 20,
	.hybrid = HYBRID_BY_WORKERS,
};

/* ------------------------------------------------------------------ options */

enum option { OPT_WORKERS, OPT_SPIN, OPT_IDLE, OPT_SEND, OPT_HYBRID, OPT_PORT };

struct option_rule {
	const char *name;
	long long least, most;
	/* Can be set while the server runs; the others only at its start. */
	bool any_time;
};

static const struct option_rule option_rules[] = {
	[OPT_WORKERS] = { "workers", 0, FASTIO_MAX_WORKERS - 1, false },
	[OPT_SPIN] = { "spin-us", 0, 1000000, true },
	[OPT_IDLE] = { "idle-us", 0, FASTIO_MAX_IDLE_US, false },
	[OPT_SEND] = { "send-buffer", 4096, 16 * 1024 * 1024, true },
	[OPT_HYBRID] = { "hybrid", HYBRID_BY_WORKERS, FASTIO_SELF_WEIGHT_FULL, false },
	[OPT_PORT] = { "port", 0, 65535, false },
};

#define OPTIONS (sizeof(option_rules) / sizeof(option_rules[0]))

static long long get_option(enum option option)
{
	switch (option) {
	case OPT_WORKERS:
		return core.options.workers;
	case OPT_SPIN:
		return core.spin_us;
	case OPT_IDLE:
		return core.options.idle_us;
	case OPT_SEND:
		return (long long)core.options.send_bytes;
	case OPT_HYBRID:
		return core.hybrid;
	case OPT_PORT:
		return core.port;
	}
	return 0;
}

static void set_option(enum option option, long long value)
{
	switch (option) {
	case OPT_WORKERS:
		core.options.workers = (unsigned int)value;
		break;
	case OPT_SPIN:
		core.spin_us = (unsigned int)value;
		break;
	case OPT_IDLE:
		core.options.idle_us = (unsigned int)value;
		break;
	case OPT_SEND:
		core.options.send_bytes = (size_t)value;
		if (core.rings)
			core.rings->send_bytes = (size_t)value;
		break;
	case OPT_HYBRID:
		core.hybrid = (int)value;
		break;
	case OPT_PORT:
		core.port = (int)value;
		break;
	}
}

static long long config_get(const char *name, void *which)
{
	(void)name;
	return get_option((enum option)((const struct option_rule *)which - option_rules));
}

static int config_set(const char *name, long long value, void *which, MODULE_TYPE(String) **error)
{
	const struct option_rule *rule = which;
	enum option option = (enum option)(rule - option_rules);

	(void)name;
	if (value == get_option(option))
		return MODULE_CONST(OK);
	if (!rule->any_time && core.tried) {
		*error = createStringObject("can only be set when the server starts", 38);
		return MODULE_CONST(ERR);
	}
	set_option(option, value);
	return MODULE_CONST(OK);
}

static bool parse_backend(const char *word)
{
	if (!strcasecmp(word, "kernel"))
		core.options.backend = FASTIO_BACKEND_KERNEL;
	else if (!strcasecmp(word, "user"))
		core.options.backend = FASTIO_BACKEND_USER;
	else
		return false;
	return true;
}

/* A list such as 3,4,8-11: the CPU of the main thread, then those of the workers. */
static bool parse_cpus(const char *word)
{
	core.options.nr_cpus = 0;
	for (const char *at = word; *at;) {
		char *end;
		long first = strtol(at, &end, 10), last = first;

		if (end == at || first < 0)
			return false;
		if (*end == '-') {
			at = end + 1;
			last = strtol(at, &end, 10);
			if (end == at)
				return false;
		}
		if ((*end && *end != ',') || (*end && !end[1]) || last < first ||
		    last - first >= FASTIO_MAX_WORKERS - (long)core.options.nr_cpus)
			return false;
		for (; first <= last; first++)
			core.options.cpus[core.options.nr_cpus++] = (int)first;
		at = *end ? end + 1 : end;
	}
	return core.options.nr_cpus;
}

/* One "name value" of the module's arguments. Returns false, and says why, if it is none. */
static bool parse_argument(const char *name, const char *word)
{
	long long value;

	if (!strcasecmp(name, "backend")) {
		if (parse_backend(word))
			return true;
		serverLog(LL_WARNING, "FastIO: backend: found '%s', expected kernel or user", word);
		return false;
	}
	if (!strcasecmp(name, "cpus")) {
		if (parse_cpus(word))
			return true;
		serverLog(LL_WARNING, "FastIO: cpus: found '%s', expected a list of CPUs such as 1,2,4-7", word);
		return false;
	}
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option_rule *rule = &option_rules[i];

		if (strcasecmp(name, rule->name))
			continue;
		if (!string2ll(word, strlen(word), &value) || value < rule->least || value > rule->most) {
			serverLog(LL_WARNING, "FastIO: %s: found '%s', expected a number from %lld to %lld", name, word,
				  rule->least, rule->most);
			return false;
		}
		set_option((enum option)i, value);
		return true;
	}
	serverLog(LL_WARNING,
		  "FastIO: found argument '%s', expected workers, spin-us, idle-us, send-buffer, hybrid, "
		  "port, cpus or backend",
		  name);
	return false;
}

static bool parse_arguments(MODULE_TYPE(String) **argv, int argc)
{
	for (int i = 0; i < argc; i += 2) {
		if (i + 1 == argc) {
			serverLog(LL_WARNING, "FastIO: argument '%s' has no value", (const char *)argv[i]->ptr);
			return false;
		}
		if (!parse_argument(argv[i]->ptr, argv[i + 1]->ptr))
			return false;
	}
	return true;
}

static bool register_options(MODULE_TYPE(Ctx) *ctx)
{
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option_rule *rule = &option_rules[i];

		if (MODULE(RegisterNumericConfig)(ctx, rule->name, get_option((enum option)i),
						  MODULE_CONST(CONFIG_DEFAULT), rule->least, rule->most, config_get,
						  config_set, NULL, (void *)rule) == MODULE_CONST(ERR))
			return false;
	}
	return MODULE(LoadConfigs)(ctx) == MODULE_CONST(OK);
}

/* ------------------------------------------------------------------ the rings */

/* Replies that the core wrote just before exit() are still ours; the log line is the proof of who served. */
static void at_server_exit(void)
{
	const struct rings *rings = core.rings;

	if (getpid() != core.owner)
		return;
	if (rings && rings->fio)
		rings_drain(core.rings, EXIT_DRAIN_MS);
	serverLog(LL_NOTICE, "FastIO: %llu accepted, %llu on rings, %llu detached, %llu plain, %llu turned away",
		  core.accepted, rings ? (unsigned long long)rings->counters.attached : 0,
		  rings ? (unsigned long long)rings->counters.detached : 0, core.plain, core.turned_away);
}

static shim_timer open_soon(struct aeEventLoop *el, long long id, void *data)
{
	(void)el;
	(void)id;
	(void)data;
	core_open();
	return AE_NOMORE;
}

/* With CPUs given, the main thread has the first to itself. */
static void pin(void)
{
	struct rings_options *options = &core.options;
	cpu_set_t mine;

	if (!options->nr_cpus)
		return;
	CPU_ZERO(&mine);
	CPU_SET(options->cpus[0], &mine);
	if (sched_setaffinity(0, sizeof(mine), &mine))
		serverLog(LL_WARNING, "FastIO: cpus: cannot use CPU %d: %s", options->cpus[0], strerror(errno));
	/* A list of one leaves the workers to the scheduler. */
	options->nr_cpus--;
	memmove(options->cpus, options->cpus + 1, options->nr_cpus * sizeof(options->cpus[0]));
}

/*
 * Sets the rings up, the first time that it is called: after the server became a daemon, and when it has no
 * more libraries to load. Returns whether connections go on rings.
 */
bool core_open(void)
{
	struct fastio_error error = { "" };
	int ret;

	if (core.tried)
		return core.rings && core.rings->fio;
	core.tried = true;
	core.owner = getpid();
	atexit(at_server_exit);
	core.options.flows_max = server.maxclients;
	if (core.hybrid == HYBRID_BY_WORKERS)
		core.options.self_weight = core.options.workers == 1 ? HYBRID_BESIDE_ONE : 0;
	else
		core.options.self_weight = (unsigned int)core.hybrid;
	if (sysconf(_SC_NPROCESSORS_ONLN) == 1)
		core.spin_us = 0;
	pin();
	ret = rings_open(&core.rings, &core.options, connection_gone, &error);
	if (ret) {
		core.rings = NULL;
		serverLog(LL_WARNING, "FastIO: serving through plain sockets: %s%s%s", error.message,
			  *error.message ? ": " : "", fastio_strerror(ret));
		return false;
	}
	loop_hook();
	serverLog(LL_NOTICE, "FastIO: %u workers%s, %s back end", core.options.workers,
		  core.options.workers ? "" : " (inline)",
		  core.rings->fio->backend == FASTIO_BACKEND_KERNEL ? "kernel" : "user-space");
	return true;
}

/* ------------------------------------------------------------------ INFO */

static void info_counter(MODULE_TYPE(InfoCtx) *info, const char *name, unsigned long long value)
{
	MODULE(InfoAddFieldULongLong)(info, name, value);
}

static void info_workers(MODULE_TYPE(InfoCtx) *info)
{
	for (unsigned int i = 0; i < core.rings->nr_lanes; i++) {
		struct fastio_stats stats;
		char name[32];

		if (fastio_get_stats(core.rings->lanes[i].queue, &stats))
			continue;
		snprintf(name, sizeof(name), "ring%u", i);
		MODULE(InfoBeginDictField)(info, name);
		info_counter(info, "flows", core.rings->lanes[i].flows);
		info_counter(info, "submitted", stats.submitted);
		info_counter(info, "completed", stats.completed);
		info_counter(info, "batches", stats.batches);
		info_counter(info, "in_flight", stats.in_flight);
		info_counter(info, "sleeps", stats.sleeps);
		info_counter(info, "enters", stats.enters);
		MODULE(InfoEndDictField)(info);
	}
}

static const char *mode(void)
{
	if (!core.rings)
		return core.tried ? "plain" : "idle";
	if (!core.rings->fio)
		return "abandoned";
	if (!core.options.workers)
		return "inline";
	return core.options.self_weight ? "hybrid" : "workers";
}

static void info(MODULE_TYPE(InfoCtx) *ctx, int for_crash_report)
{
	const struct rings *rings = core.rings;

	MODULE(InfoAddSection)(ctx, "");
	MODULE(InfoAddFieldCString)(ctx, "mode", mode());
	info_counter(ctx, "workers", core.options.workers);
	info_counter(ctx, "accepted", core.accepted);
	info_counter(ctx, "plain", core.plain);
	info_counter(ctx, "turned_away", core.turned_away);
	if (!rings)
		return;
	MODULE(InfoAddFieldCString)
	(ctx, "backend", core.options.backend == FASTIO_BACKEND_KERNEL ? "kernel" : "user");
	info_counter(ctx, "flows", rings->all.length);
	info_counter(ctx, "attached", rings->counters.attached);
	info_counter(ctx, "detached", rings->counters.detached);
	info_counter(ctx, "refused", rings->counters.refused);
	info_counter(ctx, "receives", rings->counters.receives);
	info_counter(ctx, "received_bytes", rings->counters.received_bytes);
	info_counter(ctx, "sends", rings->counters.sends);
	info_counter(ctx, "sent_bytes", rings->counters.sent_bytes);
	info_counter(ctx, "lingering", rings->lingering.length);
	info_counter(ctx, "lingered", rings->counters.lingered);
	info_counter(ctx, "linger_timeouts", rings->counters.abandoned);
	info_counter(ctx, "receive_pauses", rings->counters.pauses);
	info_counter(ctx, "buffer_starvations", rings->counters.starvations);
	info_counter(ctx, "buffer_spills", rings->counters.spills);
	info_counter(ctx, "waits", rings->counters.waits);
	info_counter(ctx, "waited_us", rings->counters.waited_us);
	info_counter(ctx, "sleeps", rings->counters.wakes);
	if (!for_crash_report && rings->fio)
		info_workers(ctx);
}

/* ------------------------------------------------------------------ loading */

/*
 * The structures of this object must be those of the server that loads it. Until that is sure nothing here may
 * look into them, not even as serverLog() does.
 */
static bool check_build(void)
{
	int version = MODULE(GetServerVersion)();
	const ElfW(Sym) *symbol = NULL;
	Dl_info where;

	if (version != SHIM_VERSION_NUM) {
		_serverLog(LL_WARNING, "FastIO: found server version %d.%d.%d, expected %s " SHIM_VERSION, version >> 16,
			   version >> 8 & 255, version & 255, SHIM_SERVER);
		return false;
	}
	if (!dladdr1(&server, &where, (void **)&symbol, RTLD_DL_SYMENT) || !symbol || symbol->st_size != sizeof(server)) {
		_serverLog(LL_WARNING,
			   "FastIO: found a server whose state has %llu bytes, expected the %zu of Debian's " SHIM_SERVER
			   " " SHIM_VERSION,
			   symbol ? (unsigned long long)symbol->st_size : 0, sizeof(server));
		return false;
	}
	return true;
}

/* Why this server cannot use FastIO, or NULL. */
static const char *refusal(MODULE_TYPE(Ctx) *ctx)
{
	if (!(MODULE(GetContextFlags)(ctx) & MODULE_CONST(CTX_FLAGS_SERVER_STARTUP)))
		return "can be loaded only when the server starts: use loadmodule in its configuration";
	if (strcmp(aeGetApiName(), "epoll"))
		return "this server's event loop does not use epoll";
	if (core.hybrid > 0 && !core.options.workers)
		return "hybrid needs workers; with none it is inline anyway";
	return NULL;
}

static bool add_listener(void)
{
	int index = connectionIndexByType("fastio");
	connListener *listener;

	if (index < 0)
		return false;
	listener = &server.listeners[index];
	listener->bindaddr = server.bindaddr;
	listener->bindaddr_count = server.bindaddr_count;
	listener->port = core.port;
	listener->ct = &connection_type;
	return true;
}

int MODULE(OnLoad)(void *ctx, MODULE_TYPE(String) **argv, int argc);
int MODULE(OnUnload)(void *ctx);

int MODULE(OnLoad)(void *ctx, MODULE_TYPE(String) **argv, int argc)
{
	const char *why;

	if (MODULE(Init)(ctx, "fastio", 1, MODULE_CONST(APIVER_1)) == MODULE_CONST(ERR) || !check_build())
		return MODULE_CONST(ERR);
	if (!register_options(ctx) || !parse_arguments(argv, argc))
		return MODULE_CONST(ERR);
	why = refusal(ctx);
	if (why) {
		serverLog(LL_WARNING, "FastIO: %s", why);
		return MODULE_CONST(ERR);
	}
	MODULE(SetModuleOptions)(ctx, MODULE_CONST(OPTIONS_HANDLE_REPL_ASYNC_LOAD));
	MODULE(RegisterInfoFunc)(ctx, info);
	core.tcp = connectionByType(CONN_TYPE_SOCKET);
	if (server.io_threads_num > 1) {
		core.tried = true;
		serverLog(LL_WARNING,
			  "FastIO: serving through plain sockets: io-threads is %d, and FastIO's workers do that work "
			  "only when it is 1",
			  server.io_threads_num);
		return MODULE_CONST(OK);
	}
	if (!core.tcp || connTypeRegister(&connection_type) != C_OK || (core.port && !add_listener())) {
		serverLog(LL_WARNING, "FastIO: the server has no room for another connection type");
		return MODULE_CONST(ERR);
	}
	if (!core.port)
		core.tcp->accept_handler = connection_accept;
	aeCreateTimeEvent(server.el, 0, open_soon, NULL, NULL);
	return MODULE_CONST(OK);
}

int MODULE(OnUnload)(void *ctx)
{
	(void)ctx;
	serverLog(LL_WARNING, "FastIO: cannot be unloaded: connections use it");
	return MODULE_CONST(ERR);
}
