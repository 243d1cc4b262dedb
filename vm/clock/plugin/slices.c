// SPDX-License-Identifier: MIT
/*
 * Turns, slices and rounds.
 *
 * In a round every vCPU that is awake has one turn; each runs until its own clock reaches the end of the
 * round. Only the vCPU whose turn it is has a counter below SLICE_LIMIT, so any other that QEMU lets in
 * calls back before it executes anything, and is sent away. That makes the order of execution a function
 * of the guest alone: when QEMU's other threads interrupt a slice, the same vCPU takes it up again.
 * The round's first turn moves on by one vCPU from round to round, so no index has an advantage.
 */
#include <stdatomic.h>

#include "binding.h"
#include "clock.h"
#include "profile.h"
#include "slices.h"

/* From a return address to an address inside the call, as QEMU counts it. */
#define CALL_ADJUSTMENT 2

struct vcpu vcpus[VCPUS_MAX];
unsigned int vcpu_count;

static _Atomic uint64_t awake;
static _Atomic int holder = NOBODY;
static int64_t quantum_ns = 2000, wanted_ns = 2000;
static vtime round_end;
/* The vCPU with the first turn of this round, and how many vCPUs have been asked since. */
static unsigned int first, asked;
static uint64_t rounds;
static _Atomic uint64_t slices;

void want_quantum(int64_t ns)
{
	wanted_ns = ns;
	if (!rounds)
		quantum_ns = ns;
}

int64_t quantum(void)
{
	return quantum_ns;
}

uint64_t rounds_so_far(void)
{
	return rounds;
}

uint64_t slices_so_far(void)
{
	return atomic_load_explicit(&slices, memory_order_relaxed);
}

struct vcpu *find_vcpu(const void *cpu)
{
	int now = atomic_load_explicit(&holder, memory_order_relaxed);

	if (now != NOBODY && vcpus[now].cpu == cpu)
		return &vcpus[now];
	for (unsigned int i = 0; i < vcpu_count; i++)
		if (vcpus[i].cpu == cpu)
			return &vcpus[i];
	return NULL;
}

static uint64_t bit_of(const struct vcpu *vcpu)
{
	return 1ULL << (vcpu - vcpus);
}

uint64_t awake_vcpus(void)
{
	return atomic_load_explicit(&awake, memory_order_relaxed);
}

bool is_awake(const struct vcpu *vcpu)
{
	return awake_vcpus() & bit_of(vcpu);
}

void set_awake(const struct vcpu *vcpu, bool now)
{
	if (now)
		atomic_fetch_or(&awake, bit_of(vcpu));
	else
		atomic_fetch_and(&awake, ~bit_of(vcpu));
}

int turn_holder(void)
{
	return atomic_load_explicit(&holder, memory_order_relaxed);
}

void add_vcpu(struct vcpu *vcpu, void *cpu)
{
	vcpu->cpu = cpu;
	vcpu->score->spent = SLICE_LIMIT;
	vcpu->accounted = SLICE_LIMIT;
	vcpu->offset = -(vtime)SLICE_LIMIT;
	vcpu_count++;
}

void begin_round(void)
{
	quantum_ns = wanted_ns;
	round_end = VTIME(round_start_ns() + quantum_ns);
	first = (first + 1) % vcpu_count;
	asked = 0;
	rounds++;
}

void end_turn(struct vcpu *vcpu)
{
	profile_slice(vcpu);
	rebase(vcpu, SLICE_LIMIT);
	if (turn_holder() == vcpu - vcpus)
		atomic_store(&holder, NOBODY);
}

/* A vCPU that slept does not run before it was woken, nor in a round that is over. */
static bool give_turn(struct vcpu *vcpu)
{
	vtime round_start = VTIME(round_start_ns());

	skip_to(vcpu, vcpu->woken);
	skip_to(vcpu, round_start);
	if (own_time(vcpu) >= round_end)
		return false;
	rebase(vcpu, SLICE_LIMIT - (uint64_t)(round_end - own_time(vcpu)));
	atomic_store(&holder, (int)(vcpu - vcpus));
	atomic_store_explicit(&slices, slices_so_far() + 1, memory_order_relaxed);
	return true;
}

int pass_turn(void)
{
	for (;;) {
		uint64_t set = awake_vcpus();

		while (asked < vcpu_count) {
			unsigned int i = (first + asked) % vcpu_count;

			asked++;
			if ((set & (1ULL << i)) && give_turn(&vcpus[i]))
				return (int)i;
		}
		if (!awake_vcpus())
			return NOBODY;
		advance_to(round_start_ns() + quantum_ns);
		begin_round();
	}
}

/* After this vCPU's turn: leaves translated code unless the next turn is its own again. */
static void next_turn(unsigned int index)
{
	if (pass_turn() != (int)index)
		qemu.exit_cpu(vcpus[index].cpu);
}

/*
 * A vCPU runs whose turn it is not: it was switched on, something other than an interrupt woke it, or QEMU
 * went round because a thread of its own wanted attention. It must not execute anything now.
 */
static void on_wrong_turn(struct vcpu *vcpu, vtime cost, uintptr_t host_pc)
{
	int now = turn_holder();

	if (!is_awake(vcpu)) {
		vcpu->woken = VTIME(round_start_ns());
		set_awake(vcpu, true);
	}
	/* A vCPU that was switched off during its turn does not come back to end it. */
	if (now != NOBODY && qemu.cpu_is_idle(vcpus[now].cpu)) {
		set_awake(&vcpus[now], false);
		end_turn(&vcpus[now]);
	}
	vcpu->score->spent -= cost;
	if (turn_holder() == NOBODY && pass_turn() == vcpu - vcpus) {
		vcpu->score->spent += cost;
		return;
	}
	qemu.exit_cpu(vcpu->cpu);
	qemu.leave_block(vcpu->cpu, host_pc);
}

void on_slice_spent(unsigned int index, void *cost)
{
	struct vcpu *vcpu = &vcpus[index];

	bind_vcpu_thread();
	if (turn_holder() == (int)index) {
		end_turn(vcpu);
		next_turn(index);
	} else {
		on_wrong_turn(vcpu, (vtime)(uintptr_t)cost,
			      (uintptr_t)__builtin_return_address(0) - CALL_ADJUSTMENT);
	}
}

void on_spin(unsigned int index, void *unused)
{
	struct vcpu *vcpu = &vcpus[index];

	(void)unused;
	/* The rest of a block that began in this vCPU's turn. */
	if (turn_holder() != (int)index)
		return;
	vcpu->spun += skip_to(vcpu, round_end);
	end_turn(vcpu);
	next_turn(index);
}
