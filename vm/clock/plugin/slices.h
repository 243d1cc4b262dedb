/* SPDX-License-Identifier: MIT */
/* Whose turn it is, and for how long. */
#ifndef FASTIO_CLOCK_SLICES_H
#define FASTIO_CLOCK_SLICES_H

#include <stdbool.h>
#include <stdint.h>

#include "vcpu.h"

#define NOBODY (-1)

/* A quantum is at most this, so that timers stay within a tenth of a millisecond. */
#define QUANTUM_MAX_NS 100000

/* The quantum of the rounds to come, in ns; takes effect when the present round is over. */
void want_quantum(int64_t ns);
int64_t quantum(void);
uint64_t rounds_so_far(void);
uint64_t slices_so_far(void);

/* The vCPU of a CPUState, or NULL. Any thread. */
struct vcpu *find_vcpu(const void *cpu);

/* A vCPU has come into being; called once for each, in order. */
void add_vcpu(struct vcpu *vcpu, void *cpu);

/* Callback: a block of this vCPU found its slice spent. @cost is the block's, in vtime, already counted. */
void on_slice_spent(unsigned int index, void *cost);

/* Callback: YIELD or WFE. What is left of the slice passes without executing anything. */
void on_spin(unsigned int index, void *unused);

/* Gives the turn to the next vCPU that is awake. Returns its index, or NOBODY when all sleep. */
int pass_turn(void);
/* The vCPU whose turn it is, or NOBODY. */
int turn_holder(void);

/* Ends the round, wherever it stands, and begins the next at the clock's time. */
void begin_round(void);

/* Takes the turn from a vCPU that is going to sleep. */
void end_turn(struct vcpu *vcpu);

/* Sets of vCPUs by bit. The set of those awake may be asked and added to from any thread. */
uint64_t awake_vcpus(void);
void set_awake(const struct vcpu *vcpu, bool is_awake);
bool is_awake(const struct vcpu *vcpu);

#endif
