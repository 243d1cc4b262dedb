/* SPDX-License-Identifier: MIT */
/*
 * What the virtual clock needs of QEMU beyond the plugin interface. binding.c finds it, checks it and
 * refuses a QEMU it does not know; see docs/virtual-time.md for how to add a build.
 */
#ifndef FASTIO_CLOCK_BINDING_H
#define FASTIO_CLOCK_BINDING_H

#include "qemu-api.h"

/* QEMU's functions; a vCPU is its CPUState. The comments say only what QEMU's own names do not. */
struct qemu {
	void *(*get_cpu)(int index);
	/* Makes a vCPU leave translated code at the next block. */
	void (*exit_cpu)(void *cpu);
	/* Leaves translated code at once, before the instruction that @host_pc belongs to. No return. */
	void (*leave_block)(void *cpu, uintptr_t host_pc);
	bool (*cpu_is_idle)(void *cpu);
	bool (*all_cpus_idle)(void);
	/* An interrupt is pending that would end WFI. */
	bool (*cpu_has_work)(void *cpu);
	void (*init_cflags)(void *cpu, bool parallel);
	void (*handle_interrupt)(void *cpu, int mask);
	/* ns until the next timer of the virtual clock; negative: none. */
	int64_t (*deadline_ns)(int clock, int attributes);
	/* Runs virtual-clock timers up to @to, setting the clock to each deadline on the way. */
	int64_t (*run_timers_to)(int64_t to);
	void (*lock)(const char *file, int line);
	void (*unlock)(void);
	bool (*is_locked)(void);
	void (*register_thread)(void);
	/* As QEMU prints it: "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)". */
	char version[160];
};

extern struct qemu qemu;

/* What takes the place of QEMU's own. */
struct clock_hooks {
	int64_t (*get_clock)(void);
	void (*set_clock)(int64_t now);
	void (*handle_interrupt)(void *cpu, int mask);
};

/* The version of the plugin interface to declare to the QEMU that has loaded this file. */
int plugin_api_version(void);

/*
 * Finds the functions above and checks that this is a build that was tried. To be called from
 * qemu_plugin_install(). Returns false after having said why on stderr.
 */
bool bind_qemu(void);

/*
 * Puts the hooks into the accelerator's operations and proves that QEMU now calls them; the machine's
 * first vCPU must exist. Ends the process with status 1 and a message when it cannot.
 */
void bind_clock(const struct clock_hooks *hooks);

/* Remembers that the calling thread is the one that runs all vCPUs. */
void bind_vcpu_thread(void);
bool on_vcpu_thread(void);
/* The vCPU whose code runs, or NULL. Only on the vCPUs' thread. */
void *current_vcpu(void);

void on_vcpu_start(plugin_id id, void (*started)(unsigned int vcpu));
void on_translation(plugin_id id, void (*translated)(struct qemu_plugin_tb *tb));
void on_exit_of_qemu(plugin_id id, void (*ending)(void));

/* Prints "fastio-clock: ..." to stderr. */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

#endif
