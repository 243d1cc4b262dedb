/* SPDX-License-Identifier: MIT */
/* Where vCPUs spend their time, by code; on request, as it makes windows' statistics long. */
#ifndef FASTIO_CLOCK_PROFILE_H
#define FASTIO_CLOCK_PROFILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vcpu.h"

/* Before the first window. Returns false after a message when there is no memory for the table. */
bool start_profile(void);
bool profiling(void);

/*
 * At the end of a vCPU's slice: what it has executed since the last one, line transfers left out, is booked on
 * the block it is in. A slice of a window is some tens of ns, so the sums are close to the truth.
 */
void profile_slice(struct vcpu *vcpu);

/* A line came to a vCPU for the instruction at guest address @pc. */
void profile_transfer(unsigned int index, uint64_t pc);

void clear_profile(void);
/* Writes `,"profile":[...],"unprofiledNs":...` when there is a profile. */
void print_profile(FILE *to);

#endif
