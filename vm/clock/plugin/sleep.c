// SPDX-License-Identifier: MIT
/*
 * Sleep. A vCPU that executes WFI gives its turn away until an interrupt is pending for it. When the last
 * one goes to sleep, time jumps to the next timer before it does, so that sleeping costs the host nothing.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "binding.h"
#include "clock.h"
#include "sleep.h"
#include "slices.h"

/* Timers that wake nobody are run this many times in a row before QEMU's other threads get a chance. */
#define JUMPS_MAX 1000
/* How often the idle thread looks. */
#define IDLE_CHECK_NS 1000000L

static vtime wake_cost;
static _Atomic bool pace_by_wall, stopping;
static _Atomic uint64_t moves;

void set_wake_cost(vtime cost)
{
	wake_cost = cost;
}

void set_pace(bool by_wall)
{
	atomic_store(&pace_by_wall, by_wall);
}

uint64_t idle_moves(void)
{
	return atomic_load(&moves);
}

void on_interrupt(void *cpu, int mask)
{
	struct vcpu *vcpu = find_vcpu(cpu);

	qemu.handle_interrupt(cpu, mask);
	if (!vcpu || is_awake(vcpu) || !qemu.cpu_has_work(cpu))
		return;
	vcpu->woken = time_of_event() + wake_cost;
	set_awake(vcpu, true);
}

/* Nobody is awake: goes to the next timer, and on, until one wakes somebody. */
static void jump(void)
{
	for (int i = 0; i < JUMPS_MAX; i++) {
		int64_t in = next_timer_in();

		if (in < 0 || atomic_load_explicit(&pace_by_wall, memory_order_relaxed))
			return;
		advance_to(round_start_ns() + (in > 0 ? in : 1));
		if (awake_vcpus()) {
			begin_round();
			pass_turn();
			return;
		}
	}
}

void on_wfi(unsigned int index, void *unused)
{
	struct vcpu *vcpu = &vcpus[index];

	(void)unused;
	/* Does not sleep; nor does the instruction. */
	if (qemu.cpu_has_work(vcpu->cpu))
		return;
	vcpu->sleeps++;
	set_awake(vcpu, false);
	if (turn_holder() == (int)index)
		end_turn(vcpu);
	if (turn_holder() == NOBODY && pass_turn() == NOBODY)
		jump();
}

static int64_t wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Everybody sleeps, the lock is held: time may pass up to @limit ns. */
static void move_idle(int64_t limit)
{
	int64_t in = next_timer_in();

	if (in < 0 || round_start_ns() + in > limit)
		return;
	advance_to(round_start_ns() + (in > 0 ? in : 1));
	if (awake_vcpus())
		begin_round();
	atomic_fetch_add(&moves, 1);
}

/*
 * Needed in three cases: the last vCPU was switched off instead of going to sleep, timers woke nobody for
 * long, or time is to pass by the wall. It only ever does what the vCPUs' thread would have done, so the
 * guest's time line does not depend on when it runs.
 */
static void *idle_thread(void *unused)
{
	const struct timespec pause = { .tv_nsec = IDLE_CHECK_NS };
	/* The pair that says which virtual time belongs to which wall time; -1: nobody was idle. */
	int64_t idle_since = -1, wall_since = 0;
	uint64_t slices = 0;

	qemu.register_thread();
	while (!atomic_load(&stopping)) {
		nanosleep(&pause, NULL);
		/* The machine is not there yet, or turns are being given: somebody is at work. */
		if (!slices_so_far() || slices_so_far() != slices) {
			slices = slices_so_far();
			idle_since = -1;
			continue;
		}
		qemu.lock(__FILE__, __LINE__);
		if (!qemu.all_cpus_idle()) {
			idle_since = -1;
		} else {
			int64_t limit = INT64_MAX;

			/* A vCPU that was switched off while it had the turn. */
			if (turn_holder() != NOBODY) {
				struct vcpu *vcpu = &vcpus[turn_holder()];

				set_awake(vcpu, false);
				end_turn(vcpu);
			}
			if (idle_since < 0) {
				idle_since = round_start_ns();
				wall_since = wall_ns();
			}
			if (atomic_load(&pace_by_wall))
				limit = idle_since + (wall_ns() - wall_since);
			move_idle(limit);
		}
		qemu.unlock();
	}
	return unused;
}

static pthread_t thread;

int start_idle_thread(void)
{
	return pthread_create(&thread, NULL, idle_thread, NULL);
}

void stop_idle_thread(void)
{
	atomic_store(&stopping, true);
}
