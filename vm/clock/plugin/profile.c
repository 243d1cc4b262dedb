// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "profile.h"

/* Blocks and instructions times vCPUs; a power of two. */
#define ENTRIES (1U << 18)
/* Tries to place one before it is counted among the rest. */
#define PROBES 64

struct entry {
	/* First of the block for time, the instruction's own for transfers; 0 means that the entry is unused. */
	uint64_t pc;
	vtime time;
	uint64_t transfers;
	unsigned int vcpu;
};

static struct entry *entries;
static vtime unprofiled;
/* executed less on_lines, as of the last slice. */
static vtime booked[VCPUS_MAX];

bool start_profile(void)
{
	entries = calloc(ENTRIES, sizeof(*entries));
	if (!entries)
		complain("no memory for the profile");
	return entries;
}

bool profiling(void)
{
	return entries;
}

static struct entry *find(unsigned int vcpu, uint64_t pc)
{
	uint64_t hash = ((pc ^ (uint64_t)vcpu << 48) * 0x9e3779b97f4a7c15ULL) >> 32;

	for (unsigned int i = 0; i < PROBES; i++) {
		struct entry *entry = &entries[(hash + i) % ENTRIES];

		if (!entry->pc) {
			entry->pc = pc;
			entry->vcpu = vcpu;
		}
		if (entry->pc == pc && entry->vcpu == vcpu)
			return entry;
	}
	return NULL;
}

static vtime executed_so_far(struct vcpu *vcpu)
{
	account(vcpu);
	return vcpu->executed - vcpu->on_lines;
}

void profile_slice(struct vcpu *vcpu)
{
	unsigned int index = (unsigned int)(vcpu - vcpus);
	vtime now, time;
	struct entry *entry;

	if (!entries)
		return;
	now = executed_so_far(vcpu);
	time = now - booked[index];
	booked[index] = now;
	if (!time)
		return;
	entry = vcpu->score->block ? find(index, vcpu->score->block) : NULL;
	if (entry)
		entry->time += time;
	else
		unprofiled += time;
}

void profile_transfer(unsigned int index, uint64_t pc)
{
	struct entry *entry = entries ? find(index, pc) : NULL;

	if (entry)
		entry->transfers++;
}

void clear_profile(void)
{
	if (!entries)
		return;
	memset(entries, 0, ENTRIES * sizeof(*entries));
	unprofiled = 0;
	for (unsigned int i = 0; i < vcpu_count; i++)
		booked[i] = executed_so_far(&vcpus[i]);
}

/* By vCPU, then by address, so that equal runs print equal bytes; unused ones last. */
static int by_place(const void *a, const void *b)
{
	const struct entry *left = a, *right = b;

	if (!left->pc || !right->pc)
		return !left->pc - !right->pc;
	if (left->vcpu != right->vcpu)
		return left->vcpu < right->vcpu ? -1 : 1;
	return left->pc < right->pc ? -1 : left->pc > right->pc;
}

void print_profile(FILE *to)
{
	if (!entries)
		return;
	qsort(entries, ENTRIES, sizeof(*entries), by_place);
	fputs(",\"profile\":[", to);
	for (unsigned int i = 0; i < ENTRIES && entries[i].pc; i++)
		fprintf(to, "%s{\"vcpu\":%u,\"pc\":\"0x%" PRIx64 "\",\"ns\":%" PRId64 ",\"transfers\":%" PRIu64 "}",
			i ? "," : "", entries[i].vcpu, entries[i].pc, TO_NS(entries[i].time), entries[i].transfers);
	fprintf(to, "],\"unprofiledNs\":%" PRId64, TO_NS(unprofiled));
	/* Sorting has put them out of their places. */
	clear_profile();
}
