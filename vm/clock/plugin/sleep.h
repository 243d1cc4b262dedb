/* SPDX-License-Identifier: MIT */
/* vCPUs that sleep, and a machine in which all of them do. */
#ifndef FASTIO_CLOCK_SLEEP_H
#define FASTIO_CLOCK_SLEEP_H

#include <stdbool.h>

#include "vcpu.h"

/* How long a vCPU needs from the end of WFI to its next instruction. */
void set_wake_cost(vtime cost);

/* Callback: WFI is about to be executed. */
void on_wfi(unsigned int index, void *unused);

/* AccelOpsClass.handle_interrupt: QEMU's own, and then the sleeper is awake. Any thread, lock held. */
void on_interrupt(void *cpu, int mask);

/*
 * From now on time passes no faster than on the wall while all vCPUs sleep: for a guest that waits for
 * its user. Without it time jumps from timer to timer.
 */
void set_pace(bool by_wall);

/* Starts the thread that moves the clock when nobody else can. Returns 0, or an errno. */
int start_idle_thread(void);
void stop_idle_thread(void);

/* How often that thread had to. */
uint64_t idle_moves(void);

#endif
