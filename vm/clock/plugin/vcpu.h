/* SPDX-License-Identifier: MIT */
/* Virtual time and the vCPUs that spend it. */
#ifndef FASTIO_CLOCK_VCPU_H
#define FASTIO_CLOCK_VCPU_H

#include <stdint.h>

/* As many as bits in a set of vCPUs. */
#define VCPUS_MAX 64

/* Virtual time in 1/4096 ns: fine enough for fractions of an instruction, good for 26 days. */
typedef int64_t vtime;
#define VTIME_BITS 12
#define VTIME(ns) ((vtime)(ns) << VTIME_BITS)
#define TO_NS(time) ((int64_t)((time) >> VTIME_BITS))

/* A slice ends when a vCPU's counter reaches this; constant, because it is compiled into every block. */
#define SLICE_LIMIT (1ULL << 62)

/* What translated code itself counts; an entry of QEMU's scoreboard. */
struct score {
	/* Spent virtual time; see vcpu.offset. */
	uint64_t spent;
	uint64_t user_insns;
	uint64_t kernel_insns;
	uint64_t syscalls;
	uint64_t exception_returns;
	uint64_t atomics;
	uint64_t ipis;
	/* Address of the block it is in; kept only for a profile. */
	uint64_t block;
};

/* One vCPU. Written only by the vCPUs' thread; other threads touch nothing here but what says so. */
struct vcpu {
	void *cpu;
	struct score *score;
	/* The vCPU's own time is offset + score->spent; the sum stays when a slice starts over. */
	vtime offset;
	/* score->spent up to here is in @executed. */
	uint64_t accounted;
	/* Executed instructions and their costs. */
	vtime executed;
	/* Skipped in YIELD and WFE: a busy CPU that waits. */
	vtime spun;
	/* The part of @executed that went to line transfers. */
	vtime on_lines;
	uint64_t line_transfers;
	uint64_t sleeps;
	/* When it was woken; it does not run before. Written by whoever wakes it, before it is awake. */
	vtime woken;
};

extern struct vcpu vcpus[VCPUS_MAX];
extern unsigned int vcpu_count;

static inline vtime own_time(const struct vcpu *vcpu)
{
	return vcpu->offset + (vtime)vcpu->score->spent;
}

/* Books what was executed since the last call. */
static inline void account(struct vcpu *vcpu)
{
	vcpu->executed += (vtime)(vcpu->score->spent - vcpu->accounted);
	vcpu->accounted = vcpu->score->spent;
}

/* Sets the counter without changing the vCPU's time. */
static inline void rebase(struct vcpu *vcpu, uint64_t spent)
{
	account(vcpu);
	vcpu->offset += (vtime)(vcpu->score->spent - spent);
	vcpu->score->spent = spent;
	vcpu->accounted = spent;
}

/* Passes time without executing. Returns how much. */
static inline vtime skip_to(struct vcpu *vcpu, vtime time)
{
	vtime skipped = time - own_time(vcpu);

	if (skipped <= 0)
		return 0;
	vcpu->offset += skipped;
	return skipped;
}

#endif
