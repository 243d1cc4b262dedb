// SPDX-License-Identifier: MIT
/*
 * A clock for each vCPU of an emulated machine: one that counts what the vCPU executes, so that many vCPUs
 * on one host thread take the time they would take on as many cores. docs/virtual-time.md explains it.
 *
 *	qemu-system-aarch64 -accel tcg,thread=single -plugin clock.so,fine=20,svc=100,... ...
 *
 * This file counts: it decides for every translated block what it costs and what calls back.
 */
#include <stdio.h>
#include <string.h>

#include "binding.h"
#include "clock.h"
#include "costs.h"
#include "lines.h"
#include "options.h"
#include "profile.h"
#include "sleep.h"
#include "slices.h"
#include "stats.h"

#define KERNEL_SPACE (1ULL << 63)
#define INSN_BYTES 4
#define ARGUMENTS_MAX 1024

extern int qemu_plugin_version;
int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc, char **argv);

PLUGIN_EXPORT int qemu_plugin_version;

/* QEMU reads the version right after loading, and newer ones refuse what was made for older ones. */
__attribute__((constructor)) static void choose_version(void)
{
	qemu_plugin_version = plugin_api_version();
}

static struct options options;
static struct qemu_plugin_scoreboard *scores;

static struct plugin_u64 field(size_t offset)
{
	return (struct plugin_u64){ .score = scores, .offset = offset };
}

#define FIELD(name) field(offsetof(struct score, name))

/* HINT #96: a window begins. */
static void on_fine(unsigned int index, void *unused)
{
	(void)unused;
	want_quantum(options.fine_ns);
	begin_window(index);
}

/* HINT #97: it ends. */
static void on_coarse(unsigned int index, void *unused)
{
	(void)unused;
	want_quantum(options.coarse_ns);
	end_window(index);
}

/* HINT #98 and #99: the guest waits for its user, or no longer. */
static void on_pace(unsigned int index, void *by_wall)
{
	(void)index;
	set_pace(by_wall != NULL);
}

static void register_hint(struct qemu_plugin_insn *insn, unsigned int number)
{
	static const plugin_vcpu_cb calls[] = { on_fine, on_coarse, on_pace, on_pace };

	qemu_plugin_register_vcpu_insn_exec_cb(insn, calls[number - 96], PLUGIN_CB_NO_REGS,
					       number == 98 ? &options : NULL);
}

static void count_insn(struct qemu_plugin_insn *insn, struct plugin_u64 counter)
{
	qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, PLUGIN_INLINE_ADD, counter, 1);
}

/* Registers what an instruction needs beyond its share of the block's cost. */
static void register_insn(struct qemu_plugin_insn *insn, uint64_t pc, uint32_t word, enum insn_kind kind)
{
	bool lines = options.costs.line;

	switch (kind) {
	case INSN_SPIN:
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_spin, PLUGIN_CB_NO_REGS, NULL);
		break;
	case INSN_WFI:
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_wfi, PLUGIN_CB_NO_REGS, NULL);
		break;
	case INSN_HINT:
		register_hint(insn, hint_number(word));
		break;
	case INSN_SVC:
		count_insn(insn, FIELD(syscalls));
		break;
	case INSN_ERET:
		count_insn(insn, FIELD(exception_returns));
		break;
	case INSN_IPI:
		count_insn(insn, FIELD(ipis));
		break;
	case INSN_ATOMIC:
		count_insn(insn, FIELD(atomics));
		if (lines)
			watch_lines(insn, pc, LINE_OWNED);
		break;
	case INSN_ORDERED:
		if (lines)
			watch_lines(insn, pc, LINE_SHARED);
		break;
	case INSN_OTHER:
		/* Instructions that touch no memory never call back. */
		if (lines && options.costs.all_accesses)
			watch_lines(insn, pc, LINE_SHARED);
		break;
	}
}

static void on_translate(struct qemu_plugin_tb *tb)
{
	size_t count = qemu_plugin_tb_n_insns(tb);
	uint64_t start = qemu_plugin_tb_vaddr(tb);
	vtime cost = (vtime)count * options.costs.insn;

	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		enum insn_kind kind;
		uint32_t word = 0;

		qemu_plugin_insn_data(insn, &word, sizeof(word));
		kind = classify(word);
		cost += extra_cost(&options.costs, kind);
		register_insn(insn, start + i * INSN_BYTES, word, kind);
	}
	if (profiling())
		qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, PLUGIN_INLINE_STORE, FIELD(block), start);
	/* In this order: a block that must not run yet has paid, and is refunded, but has not been counted. */
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, PLUGIN_INLINE_ADD, FIELD(spent), (uint64_t)cost);
	qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_slice_spent, PLUGIN_CB_NO_REGS, PLUGIN_COND_GE,
						  FIELD(spent), SLICE_LIMIT, (void *)(uintptr_t)cost);
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
		tb, PLUGIN_INLINE_ADD, start & KERNEL_SPACE ? FIELD(kernel_insns) : FIELD(user_insns), count);
}

static void on_start(unsigned int index)
{
	static const struct clock_hooks hooks = {
		.get_clock = clock_get,
		.set_clock = clock_set,
		.handle_interrupt = on_interrupt,
	};
	static bool bound;
	void *cpu = qemu.get_cpu((int)index);

	if (!bound)
		bind_clock(&hooks);
	bound = true;
	/* One block serves all vCPUs only when it was translated for vCPUs that run in parallel. */
	qemu.init_cflags(cpu, true);
	/* The scoreboard may have moved as it grew. */
	for (unsigned int i = 0; i < VCPUS_MAX; i++)
		if (i == index || vcpus[i].cpu)
			vcpus[i].score = qemu_plugin_scoreboard_find(scores, i);
	add_vcpu(&vcpus[index], cpu);
}

static void on_end(void)
{
	stop_idle_thread();
	close_stats();
}

static void join(char *to, size_t bytes, int argc, char **argv)
{
	size_t used = 0;

	to[0] = '\0';
	for (int i = 0; i < argc && used < bytes; i++)
		if (strncmp(argv[i], "stats=", 6))
			used += (size_t)snprintf(to + used, bytes - used, "%s%s", used ? "," : "", argv[i]);
}

PLUGIN_EXPORT int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc, char **argv)
{
	char arguments[ARGUMENTS_MAX];

	if (!parse_options(&options, argc, argv) || !bind_qemu())
		return 1;
	if (strcmp(info->target_name, "aarch64") || !info->system_emulation) {
		complain("found a guest of %s, expected a machine of aarch64", info->target_name);
		return 1;
	}
	if (info->system.max_vcpus > VCPUS_MAX) {
		complain("found %d vCPUs, expected at most %d", info->system.max_vcpus, VCPUS_MAX);
		return 1;
	}
	join(arguments, sizeof(arguments), argc, argv);
	if (!open_stats(options.stats, info->system.max_vcpus, arguments) ||
	    (options.costs.line && !start_lines(options.costs.line, options.ram_mib)))
		return 1;
	if (options.profile && !start_profile())
		return 1;
	want_quantum(options.coarse_ns);
	set_wake_cost(options.costs.wfi);
	set_pace(options.pace);
	scores = qemu_plugin_scoreboard_new(sizeof(struct score));
	on_vcpu_start(id, on_start);
	on_exit_of_qemu(id, on_end);
	on_translation(id, on_translate);
	if (start_idle_thread()) {
		complain("cannot start the idle thread");
		return 1;
	}
	return 0;
}
