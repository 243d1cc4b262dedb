/* SPDX-License-Identifier: MIT */
/*
 * The part of QEMU's plugin interface that is used here, declared from its documentation: no Debian
 * package carries a header. All of it is stable ABI since interface version 4; where version 7 differs,
 * binding.c knows.
 */
#ifndef FASTIO_CLOCK_QEMU_API_H
#define FASTIO_CLOCK_QEMU_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLUGIN_EXPORT __attribute__((visibility("default")))

/* The version this file follows. */
#define PLUGIN_API_VERSION 4
/* From this version on, callbacks of the whole plugin take user data instead of its id; nothing else differs. */
#define PLUGIN_API_USERDATA 7

typedef uint64_t plugin_id;

/* What QEMU says of itself; alive only during qemu_plugin_install(). */
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

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;
struct qemu_plugin_hwaddr;

/* One u64 of every vCPU's scoreboard entry. */
struct plugin_u64 {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
};

enum { PLUGIN_CB_NO_REGS };
enum { PLUGIN_INLINE_ADD, PLUGIN_INLINE_STORE };
enum { PLUGIN_COND_GE = 7 };
enum { PLUGIN_MEM_RW = 3 };

typedef void (*plugin_vcpu_cb)(unsigned int vcpu, void *userdata);
typedef void (*plugin_mem_cb)(unsigned int vcpu, uint32_t info, uint64_t vaddr, void *userdata);

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t element_size);
/* The entry moves when more vCPUs appear: look it up again after each vCPU's start. */
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned int vcpu);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t bytes);

/* Both run before the block's first instruction, in the order they were registered. */
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, int op,
						       struct plugin_u64 entry, uint64_t value);
/* Calls back only when the entry compares so with @value; unsigned. */
void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *tb, plugin_vcpu_cb cb,
					       int flags, int cond, struct plugin_u64 entry,
					       uint64_t value, void *userdata);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, plugin_vcpu_cb cb,
					    int flags, void *userdata);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *insn, int op,
							 struct plugin_u64 entry, uint64_t value);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, plugin_mem_cb cb, int flags,
				      int rw, void *userdata);

bool qemu_plugin_mem_is_store(uint32_t info);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(uint32_t info, uint64_t vaddr);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *address);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *address);

#endif
