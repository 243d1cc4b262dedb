// SPDX-License-Identifier: MIT
/*
 * One clock per vCPU, and one for everybody else.
 *
 * A vCPU reads its own time, never less than any vCPU has read before: within a round the vCPUs run one
 * after the other, and one that runs later must not see a smaller time than one that ran before it.
 * The main loop and the devices see the start of the round. Whoever runs timers sees each timer's deadline.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "binding.h"
#include "clock.h"
#include "slices.h"

/* QEMU_CLOCK_VIRTUAL, and QEMU_TIMER_ATTR_ALL. */
#define CLOCK_VIRTUAL 1
#define ALL_TIMERS (-1)

static _Atomic int64_t round_ns;
/* The greatest time a vCPU has read, in ns. Only the vCPUs' thread touches it. */
static int64_t last_read_ns;
/* While timers run: who runs them, and at what time. Guarded by QEMU's lock, but for the test "is it me?". */
static _Atomic bool timers_run;
static pthread_t timers_thread;
static int64_t timers_ns;

static bool am_running_timers(void)
{
	return atomic_load_explicit(&timers_run, memory_order_relaxed) &&
	       pthread_equal(timers_thread, pthread_self());
}

int64_t round_start_ns(void)
{
	return atomic_load_explicit(&round_ns, memory_order_relaxed);
}

int64_t clock_get(void)
{
	const struct vcpu *vcpu;
	int64_t now;

	if (am_running_timers())
		return timers_ns;
	if (!on_vcpu_thread())
		return round_start_ns();
	vcpu = find_vcpu(current_vcpu());
	now = vcpu ? TO_NS(own_time(vcpu)) : round_start_ns();
	if (now > last_read_ns)
		last_read_ns = now;
	return last_read_ns;
}

void clock_set(int64_t now)
{
	if (am_running_timers())
		timers_ns = now;
}

vtime time_of_event(void)
{
	const struct vcpu *vcpu;

	if (am_running_timers())
		return VTIME(timers_ns);
	vcpu = on_vcpu_thread() ? find_vcpu(current_vcpu()) : NULL;
	return vcpu ? own_time(vcpu) : VTIME(round_start_ns());
}

int64_t next_timer_in(void)
{
	int64_t in = qemu.deadline_ns(CLOCK_VIRTUAL, ALL_TIMERS);

	return in > JUMP_MAX_NS ? -1 : in;
}

/* Called with QEMU's lock held. */
static void run_timers(int64_t from, int64_t to)
{
	timers_thread = pthread_self();
	timers_ns = from;
	atomic_store(&timers_run, true);
	qemu.run_timers_to(to);
	atomic_store(&timers_run, false);
}

void advance_to(int64_t to)
{
	int64_t from = round_start_ns();
	int64_t in = qemu.deadline_ns(CLOCK_VIRTUAL, ALL_TIMERS);

	if (in >= 0 && from + in <= to) {
		bool locked = qemu.is_locked();

		if (!locked)
			qemu.lock(__FILE__, __LINE__);
		run_timers(from, to);
		if (!locked)
			qemu.unlock();
	}
	atomic_store(&round_ns, to);
}
