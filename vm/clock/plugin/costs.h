/* SPDX-License-Identifier: MIT */
/* What an instruction costs: the model of vm/clock/costs.yaml. */
#ifndef FASTIO_CLOCK_COSTS_H
#define FASTIO_CLOCK_COSTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vcpu.h"

/* In vtime; all but @insn come on top of it. */
struct costs {
	vtime insn;	/* any instruction */
	vtime svc;	/* entering the kernel by a system call */
	vtime eret;	/* leaving an exception of any kind */
	vtime atomic;	/* read-modify-write, exclusive or not */
	vtime line;	/* a cache line that another vCPU holds */
	vtime wfi;	/* from the end of WFI to the next instruction */
	vtime ipi;	/* sending an interrupt to other vCPUs */
	/* Charge lines for plain loads and stores too, not only for ordered and atomic ones. */
	bool all_accesses;
};

enum insn_kind {
	INSN_OTHER,
	INSN_SPIN,   /* YIELD, WFE */
	INSN_WFI,
	INSN_HINT,   /* HINT #96 to #99: the guest talks to the clock */
	INSN_SVC,
	INSN_ERET,
	INSN_IPI,
	INSN_ATOMIC,
	INSN_ORDERED, /* load-acquire, store-release */
};

/* Of an A64 instruction word. */
enum insn_kind classify(uint32_t word);

/* The number of a HINT instruction. */
static inline unsigned int hint_number(uint32_t word)
{
	return word >> 5 & 0x7f;
}

/* On top of costs.insn, without lines, which depend on the address. */
vtime extra_cost(const struct costs *costs, enum insn_kind kind);

#endif
