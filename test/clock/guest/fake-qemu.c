// SPDX-License-Identifier: MIT
/*
 * Loads the clock's plugin as QEMU would and shows what it says to a QEMU that it must refuse:
 *
 *	fake-qemu PLUGIN version MAJOR.MINOR.MICRO	a version nobody has tried
 *	fake-qemu-bare PLUGIN ...			without the functions the plugin needs
 *	fake-qemu PLUGIN layout				the accelerator's operations moved
 *	fake-qemu PLUGIN deaf				the clock's entry points lead elsewhere
 *
 * Only what the plugin calls before it refuses is here. A QEMU it accepts is tested as a whole, elsewhere.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As in vm/clock/plugin/qemu-api.h. */
struct plugin_info {
	const char *target_name;
	struct {
		int min;
		int cur;
	} version;
	bool system_emulation;
	struct {
		int smp_vcpus;
		int max_vcpus;
	} system;
};

static int64_t version[3] = { 10, 0, 13 };
static struct {
	int64_t *version;
	const char *package;
} version_info = { version, "(a fake)" };

void *qmp_query_version(void *error)
{
	(void)error;
	return &version_info;
}

#define STUB(name) \
	void name(void) \
	{ \
		fprintf(stderr, "fake-qemu: %s was called\n", #name); \
		abort(); \
	}

static void (*vcpu_init)(uint64_t id, unsigned int vcpu);

void qemu_plugin_register_vcpu_init_cb(uint64_t id, void *cb)
{
	(void)id;
	memcpy(&vcpu_init, &cb, sizeof(cb));
}

void *qemu_plugin_scoreboard_new(size_t bytes)
{
	return calloc(64, bytes);
}

void qemu_plugin_register_vcpu_tb_trans_cb(void)
{
}

void qemu_plugin_register_atexit_cb(void)
{
}

STUB(qemu_plugin_scoreboard_find)
STUB(qemu_plugin_tb_n_insns)
STUB(qemu_plugin_tb_vaddr)
STUB(qemu_plugin_tb_get_insn)
STUB(qemu_plugin_insn_data)
STUB(qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu)
STUB(qemu_plugin_register_vcpu_tb_exec_cond_cb)
STUB(qemu_plugin_register_vcpu_insn_exec_cb)
STUB(qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu)
STUB(qemu_plugin_register_vcpu_mem_cb)
STUB(qemu_plugin_mem_is_store)
STUB(qemu_plugin_get_hwaddr)
STUB(qemu_plugin_hwaddr_is_io)
STUB(qemu_plugin_hwaddr_phys_addr)

#ifndef BARE
STUB(cpu_exit)
STUB(cpu_loop_exit_restore)
STUB(cpu_thread_is_idle)
STUB(all_cpu_threads_idle)
STUB(cpu_has_work)
STUB(tcg_cpu_init_cflags)
STUB(tcg_handle_interrupt)
STUB(qemu_clock_deadline_ns_all)
STUB(qemu_clock_advance_virtual_time)
STUB(bql_lock_impl)
STUB(bql_unlock)
STUB(bql_locked)
STUB(rr_start_vcpu_thread)

void rcu_register_thread(void)
{
}

void *qemu_get_cpu(int index)
{
	(void)index;
	return &version_info;
}

static void *operations[64];

void *object_class_by_name(const char *name)
{
	(void)name;
	return operations;
}

int64_t cpus_get_virtual_clock(void)
{
	return 42;
}

void cpus_set_virtual_clock(int64_t now)
{
	(void)now;
}

/* As the build 10.0.13 has them, or moved. */
static void lay_out(int interrupt_slot)
{
	operations[12] = (void *)(uintptr_t)rr_start_vcpu_thread;
	operations[interrupt_slot] = (void *)(uintptr_t)tcg_handle_interrupt;
}
#else
static void lay_out(int interrupt_slot)
{
	(void)interrupt_slot;
}
#endif

int main(int argc, char **argv)
{
	const struct plugin_info info = { "aarch64", { 2, 4 }, true, { 1, 1 } };
	int (*install)(uint64_t id, const struct plugin_info *info, int argc, char **argv);
	void *plugin, *found;
	int status;

	if (argc < 3)
		return 2;
	if (argc == 4 && sscanf(argv[3], "%ld.%ld.%ld", &version[0], &version[1], &version[2]) != 3)
		return 2;
	plugin = dlopen(argv[1], RTLD_NOW);
	found = plugin ? dlsym(plugin, "qemu_plugin_install") : NULL;
	if (!found) {
		fprintf(stderr, "fake-qemu: %s\n", dlerror());
		return 2;
	}
	memcpy(&install, &found, sizeof(found));
	status = install(1, &info, 0, NULL);
	if (status)
		return status;
	lay_out(strcmp(argv[2], "layout") ? 23 : 20);
	vcpu_init(1, 0);
	fprintf(stderr, "fake-qemu: the plugin went on\n");
	return 0;
}
