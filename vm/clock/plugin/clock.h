/* SPDX-License-Identifier: MIT */
/* The clock the guest sees. */
#ifndef FASTIO_CLOCK_CLOCK_H
#define FASTIO_CLOCK_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "vcpu.h"

/* A timer further away than this is no reason to move: a guest that is off has its timers at infinity. */
#define JUMP_MAX_NS 3600000000000LL

/* Start of the present round, in ns: the time for everyone who is not a vCPU. Any thread. */
int64_t round_start_ns(void);

/*
 * Moves the start of the round to @to ns and runs the timers that are due on the way, each at its time.
 * Takes QEMU's lock when the caller does not hold it and a timer is due.
 */
void advance_to(int64_t to);

/* ns from the start of the round to the next timer; negative when there is none within an hour. */
int64_t next_timer_in(void);

/* The time at which what happens now happens: a vCPU's own, or that of the timer that is running. */
vtime time_of_event(void);

/* AccelOpsClass.get_virtual_clock and .set_virtual_clock. */
int64_t clock_get(void);
void clock_set(int64_t now);

#endif
