// SPDX-License-Identifier: MIT
/*
 * Ties the clock to one of the QEMU builds it was tried with. Debian links QEMU so that its internal
 * functions are visible to plugins; the two function pointers that the public interface offers no way to
 * set are found beside one whose value is known, and are called once to prove that they are the right ones.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"

#define REMEDY "use the QEMU of the tools root (--qemu locked), or add this build as docs/virtual-time.md says"
/* Pointers in the accelerator's class that are looked through. */
#define CLASS_SLOTS 64
/* A time no clock shows by accident, in ns. */
#define PROBE_NS 0x0123456789abcdefLL

/* A build that passed the calibration tests. */
struct build {
	int major, minor, micro;
	/* Among the pointers of AccelOpsClass: handle_interrupt; get_virtual_clock, which set_ follows. */
	int interrupt_slot, clock_slot;
	/* Of the plugin interface. */
	int api_version;
};

static const struct build builds[] = {
	{ 10, 0, 13, 23, 24, PLUGIN_API_VERSION }, /* Debian trixie; the one of the tools root */
	{ 10, 0, 2, 23, 24, PLUGIN_API_VERSION },  /* Debian bookworm-backports */
	{ 11, 1, 3, 23, 25, PLUGIN_API_USERDATA }, /* Debian trixie-backports */
};

/* What qmp_query_version() returns. */
struct version_info {
	struct {
		int64_t major, minor, micro;
	} *qemu;
	char *package;
};

struct qemu qemu;
static const struct build *build;
static pthread_t vcpu_thread;
static _Atomic bool vcpu_thread_known;
static void **current;
static void (*vcpu_started)(unsigned int vcpu);
static void (*block_translated)(struct qemu_plugin_tb *tb);
static void (*qemu_ending)(void);

void complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("fastio-clock: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

static bool find_functions(void)
{
	/* POSIX lets dlsym()'s result become a function pointer only through memory. */
	const struct {
		const char *name;
		void *to;
	} wanted[] = {
		{ "qemu_get_cpu", &qemu.get_cpu },
		{ "cpu_exit", &qemu.exit_cpu },
		{ "cpu_loop_exit_restore", &qemu.leave_block },
		{ "cpu_thread_is_idle", &qemu.cpu_is_idle },
		{ "all_cpu_threads_idle", &qemu.all_cpus_idle },
		{ "cpu_has_work", &qemu.cpu_has_work },
		{ "tcg_cpu_init_cflags", &qemu.init_cflags },
		{ "tcg_handle_interrupt", &qemu.handle_interrupt },
		{ "qemu_clock_deadline_ns_all", &qemu.deadline_ns },
		{ "qemu_clock_advance_virtual_time", &qemu.run_timers_to },
		{ "bql_lock_impl", &qemu.lock },
		{ "bql_unlock", &qemu.unlock },
		{ "bql_locked", &qemu.is_locked },
		{ "rcu_register_thread", &qemu.register_thread },
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		void *found = dlsym(RTLD_DEFAULT, wanted[i].name);

		if (!found) {
			complain("this QEMU does not export %s; %s", wanted[i].name, REMEDY);
			return false;
		}
		memcpy(wanted[i].to, &found, sizeof(found));
	}
	return true;
}

static const struct version_info *query_version(void)
{
	struct version_info *(*query)(void *error);
	void *found = dlsym(RTLD_DEFAULT, "qmp_query_version");

	if (!found)
		return NULL;
	memcpy(&query, &found, sizeof(found));
	return query(NULL);
}

static const struct build *find_build(const struct version_info *version)
{
	for (size_t i = 0; version && i < sizeof(builds) / sizeof(builds[0]); i++)
		if (builds[i].major == version->qemu->major && builds[i].minor == version->qemu->minor &&
		    builds[i].micro == version->qemu->micro)
			return &builds[i];
	return NULL;
}

int plugin_api_version(void)
{
	const struct build *found = find_build(query_version());

	return found ? found->api_version : PLUGIN_API_VERSION;
}

static void name_builds(char *to, size_t bytes)
{
	size_t used = 0;

	for (size_t i = 0; i < sizeof(builds) / sizeof(builds[0]) && used < bytes; i++)
		used += (size_t)snprintf(to + used, bytes - used, "%s%d.%d.%d", i ? " or " : "",
					 builds[i].major, builds[i].minor, builds[i].micro);
}

bool bind_qemu(void)
{
	const struct version_info *version = query_version();
	char names[80];

	if (!version) {
		complain("this QEMU does not export qmp_query_version; %s", REMEDY);
		return false;
	}
	snprintf(qemu.version, sizeof(qemu.version), "%d.%d.%d %s", (int)version->qemu->major,
		 (int)version->qemu->minor, (int)version->qemu->micro, version->package);
	build = find_build(version);
	if (build)
		return find_functions();
	name_builds(names, sizeof(names));
	complain("found QEMU %s, expected %s; %s", qemu.version, names, REMEDY);
	return false;
}

__attribute__((noreturn)) static void refuse(const char *why)
{
	complain("QEMU %s: %s; %s", qemu.version, why, REMEDY);
	exit(1);
}

/* Calls one of QEMU's own entry points that lead to a hook. */
static void *entry_point(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	if (!found)
		refuse("its clock's entry points are not exported");
	return found;
}

static int64_t probed_set;

static int64_t probe_get(void)
{
	return PROBE_NS;
}

static void probe_set(int64_t now)
{
	probed_set = now;
}

void bind_clock(const struct clock_hooks *hooks)
{
	void *(*class_by_name)(const char *name);
	int64_t (*get_clock)(void);
	void (*set_clock)(int64_t now);
	void *found = entry_point("object_class_by_name");
	void **slots, **clock, *single = entry_point("rr_start_vcpu_thread"), *own;
	bool is_single = false;
	int slot = -1;

	memcpy(&class_by_name, &found, sizeof(found));
	memcpy(&own, &qemu.handle_interrupt, sizeof(own));
	slots = class_by_name("tcg-accel-ops");
	if (!slots)
		refuse("it has no TCG accelerator");
	for (int i = 0; i < CLASS_SLOTS && slot < 0; i++) {
		is_single = is_single || slots[i] == single;
		if (slots[i] == own)
			slot = i;
	}
	if (!is_single || slot < 0) {
		complain("all vCPUs must share one thread without icount: start QEMU with -accel tcg,thread=single");
		exit(1);
	}
	if (slot != build->interrupt_slot) {
		complain("QEMU %s: its interrupt handler is in slot %d, expected %d; %s", qemu.version, slot,
			 build->interrupt_slot, REMEDY);
		exit(1);
	}
	clock = &slots[build->clock_slot];
	if (clock[0] || clock[1])
		refuse("something else sets its virtual clock already");

	found = entry_point("cpus_get_virtual_clock");
	memcpy(&get_clock, &found, sizeof(found));
	found = entry_point("cpus_set_virtual_clock");
	memcpy(&set_clock, &found, sizeof(found));
	clock[0] = (void *)(uintptr_t)probe_get;
	clock[1] = (void *)(uintptr_t)probe_set;
	set_clock(PROBE_NS + 1);
	if (get_clock() != PROBE_NS || probed_set != PROBE_NS + 1)
		refuse("its virtual clock does not follow the accelerator's operations");
	slots[slot] = (void *)(uintptr_t)hooks->handle_interrupt;
	clock[0] = (void *)(uintptr_t)hooks->get_clock;
	clock[1] = (void *)(uintptr_t)hooks->set_clock;
}

void bind_vcpu_thread(void)
{
	if (vcpu_thread_known)
		return;
	/* Thread-local in QEMU: what dlsym() finds belongs to the thread that asks. */
	current = dlsym(RTLD_DEFAULT, "current_cpu");
	if (!current)
		refuse("it does not export current_cpu");
	vcpu_thread = pthread_self();
	atomic_store(&vcpu_thread_known, true);
}

bool on_vcpu_thread(void)
{
	return atomic_load_explicit(&vcpu_thread_known, memory_order_relaxed) &&
	       pthread_equal(pthread_self(), vcpu_thread);
}

void *current_vcpu(void)
{
	return *current;
}

static void vcpu_started_by_id(plugin_id id, unsigned int vcpu)
{
	(void)id;
	vcpu_started(vcpu);
}

static void vcpu_started_by_data(unsigned int vcpu, void *userdata)
{
	(void)userdata;
	vcpu_started(vcpu);
}

void on_vcpu_start(plugin_id id, void (*started)(unsigned int vcpu))
{
	extern void qemu_plugin_register_vcpu_init_cb(plugin_id id, void *cb, void *userdata);

	vcpu_started = started;
	if (build->api_version >= PLUGIN_API_USERDATA)
		qemu_plugin_register_vcpu_init_cb(id, (void *)(uintptr_t)vcpu_started_by_data, NULL);
	else
		qemu_plugin_register_vcpu_init_cb(id, (void *)(uintptr_t)vcpu_started_by_id, NULL);
}

static void translated_by_id(plugin_id id, struct qemu_plugin_tb *tb)
{
	(void)id;
	block_translated(tb);
}

static void translated_by_data(struct qemu_plugin_tb *tb, void *userdata)
{
	(void)userdata;
	block_translated(tb);
}

void on_translation(plugin_id id, void (*translated)(struct qemu_plugin_tb *tb))
{
	extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void *cb, void *userdata);

	block_translated = translated;
	if (build->api_version >= PLUGIN_API_USERDATA)
		qemu_plugin_register_vcpu_tb_trans_cb(id, (void *)(uintptr_t)translated_by_data, NULL);
	else
		qemu_plugin_register_vcpu_tb_trans_cb(id, (void *)(uintptr_t)translated_by_id, NULL);
}

static void ending_by_id(plugin_id id, void *userdata)
{
	(void)id;
	(void)userdata;
	qemu_ending();
}

static void ending_by_data(void *userdata)
{
	(void)userdata;
	qemu_ending();
}

void on_exit_of_qemu(plugin_id id, void (*ending)(void))
{
	extern void qemu_plugin_register_atexit_cb(plugin_id id, void *cb, void *userdata);

	qemu_ending = ending;
	if (build->api_version >= PLUGIN_API_USERDATA)
		qemu_plugin_register_atexit_cb(id, (void *)(uintptr_t)ending_by_data, NULL);
	else
		qemu_plugin_register_atexit_cb(id, (void *)(uintptr_t)ending_by_id, NULL);
}
