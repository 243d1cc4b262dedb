/* SPDX-License-Identifier: MIT */
/* Transfers of cache lines between vCPUs. */
#ifndef FASTIO_CLOCK_LINES_H
#define FASTIO_CLOCK_LINES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "qemu-api.h"
#include "vcpu.h"

/* How an instruction takes the line it touches. */
enum line_use {
	LINE_SHARED, /* a load shares it, a store owns it */
	LINE_OWNED,  /* read-modify-write and exclusive: owns it at once */
};

/*
 * @cost: of one transfer. @ram_mib: the guest's memory, which begins at 1 GiB on the virt machine.
 * Returns false after a message when there is no memory for the table.
 */
bool start_lines(vtime cost, unsigned int ram_mib);

/* Adds the callback to an instruction at guest address @pc. */
void watch_lines(struct qemu_plugin_insn *insn, uint64_t pc, enum line_use use);

/* Forgets which lines and instructions were seen, not who holds what. */
void clear_line_counts(void);

/* Writes `"lines":[...],"sites":[...]`: the lines and instructions with most transfers. */
void print_line_counts(FILE *to);

#endif
