// SPDX-License-Identifier: MIT
/*
 * One clock per vCPU, and one for everybody else.
 *
 * A vCPU reads its own time, never less than any vCPU has read before: within a round the vCPUs run one
 * after the other, and one that runs later must not see a smaller time than one that ran before it.
 * The main loop and the devices see the start of the round. Whoever runs timers sees each timer's deadline.
 */
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
/*
 * What the clock shows to the calling thread while it looks after timers: the start of the round, and then the
 * deadline of each timer that runs. Negative: it does not.
 */
static __thread int64_t timers_ns __attribute__((tls_model("initial-exec"))) = -1;

int64_t round_start_ns(void)
{
	return atomic_load_explicit(&round_ns, memory_order_relaxed);
}

int64_t clock_get(void)
{
	const struct vcpu *vcpu;
	int64_t now;

	if (timers_ns >= 0)
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
	if (timers_ns >= 0)
		timers_ns = now;
}

vtime time_of_event(void)
{
	const struct vcpu *vcpu;

	if (timers_ns >= 0)
		return VTIME(timers_ns);
	vcpu = on_vcpu_thread() ? find_vcpu(current_vcpu()) : NULL;
	return vcpu ? own_time(vcpu) : VTIME(round_start_ns());
}

int64_t next_timer_in(void)
{
	int64_t in;

	/* QEMU counts from what the clock shows, which for a vCPU would be its own time. */
	timers_ns = round_start_ns();
	in = qemu.deadline_ns(CLOCK_VIRTUAL, ALL_TIMERS);
	timers_ns = -1;
	return in > JUMP_MAX_NS ? -1 : in;
}

void advance_to(int64_t to)
{
	int64_t from = round_start_ns();
	int64_t in = next_timer_in();

	if (in >= 0 && from + in <= to) {
		bool locked = qemu.is_locked();

		if (!locked)
			qemu.lock(__FILE__, __LINE__);
		timers_ns = from;
		qemu.run_timers_to(to);
		timers_ns = -1;
		if (!locked)
			qemu.unlock();
	}
	atomic_store(&round_ns, to);
}
