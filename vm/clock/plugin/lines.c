// SPDX-License-Identifier: MIT
/*
 * A directory of cache lines, by physical address: two mappings of one page are one line. For each line of
 * the guest's memory it knows which vCPUs hold a copy, as MSI does without limits on size: a load by one
 * that holds none shares the line, a store by one that is not alone owns it; both cost one transfer.
 * A line nobody has touched yet is free, as is one that only its holder touches.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "binding.h"
#include "lines.h"
#include "profile.h"

#define LINE_BITS 6
#define RAM_START (1ULL << 30)
/* Lines and instructions counted in one window; a power of two. */
#define COUNTS 65536
/* Tries to place one before it is counted among the rest. */
#define PROBES 32
/* Lines and instructions reported. */
#define TOP 200

/* Transfers of one line, or caused by one instruction. */
struct count {
	/* Physical address of the line, or virtual one of the instruction; 0: unused. */
	uint64_t key;
	/* Virtual address last used for the line; for an instruction, the line it last touched. */
	uint64_t seen;
	uint64_t reads;
	uint64_t writes;
};

/* Instructions are four bytes long, so an address has room for how the instruction uses lines. */
#define USE_MASK 3ULL

static uint64_t *holders;
static uint64_t lines;
static vtime transfer_cost;
static struct count line_counts[COUNTS], site_counts[COUNTS];
static uint64_t uncounted;

bool start_lines(vtime cost, unsigned int ram_mib)
{
	void *table;

	lines = ((uint64_t)ram_mib << 20) >> LINE_BITS;
	transfer_cost = cost;
	/* Pages of it that no line falls into take no memory. */
	table = mmap(NULL, lines * sizeof(*holders), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED) {
		complain("no address space for the directory of %" PRIu64 " cache lines", lines);
		return false;
	}
	holders = table;
	return true;
}

static void count(struct count *counts, uint64_t key, uint64_t seen, bool store)
{
	uint64_t hash = (key * 0x9e3779b97f4a7c15ULL) >> 32;

	for (unsigned int i = 0; i < PROBES; i++) {
		struct count *entry = &counts[(hash + i) % COUNTS];

		if (entry->key && entry->key != key)
			continue;
		entry->key = key;
		entry->seen = seen;
		if (store)
			entry->writes++;
		else
			entry->reads++;
		return;
	}
	uncounted++;
}

static void on_access(unsigned int index, uint32_t info, uint64_t vaddr, void *userdata)
{
	struct qemu_plugin_hwaddr *address = qemu_plugin_get_hwaddr(info, vaddr);
	uint64_t pc = (uint64_t)(uintptr_t)userdata & ~USE_MASK;
	enum line_use use = (uint64_t)(uintptr_t)userdata & USE_MASK;
	struct vcpu *vcpu = &vcpus[index];
	uint64_t me = 1ULL << index, line, *set;
	bool owns;

	if (!address || qemu_plugin_hwaddr_is_io(address))
		return;
	line = (qemu_plugin_hwaddr_phys_addr(address) - RAM_START) >> LINE_BITS;
	if (line >= lines)
		return;
	set = &holders[line];
	owns = use == LINE_OWNED || qemu_plugin_mem_is_store(info);
	if (owns ? *set == me : (*set & me) != 0)
		return;
	if (!*set) {
		*set = me;
		return;
	}
	*set = owns ? me : *set | me;
	vcpu->score->spent += (uint64_t)transfer_cost;
	vcpu->on_lines += transfer_cost;
	vcpu->line_transfers++;
	count(line_counts, RAM_START + (line << LINE_BITS), vaddr, owns);
	count(site_counts, pc, vaddr, owns);
	profile_transfer(index, pc);
}

void watch_lines(struct qemu_plugin_insn *insn, uint64_t pc, enum line_use use)
{
	qemu_plugin_register_vcpu_mem_cb(insn, on_access, PLUGIN_CB_NO_REGS, PLUGIN_MEM_RW,
					 (void *)(uintptr_t)(pc | use));
}

void clear_line_counts(void)
{
	memset(line_counts, 0, sizeof(line_counts));
	memset(site_counts, 0, sizeof(site_counts));
	uncounted = 0;
}

/* Most transfers first; equal ones by address, so that equal runs print equal bytes. */
static int by_transfers(const void *a, const void *b)
{
	const struct count *left = a, *right = b;
	uint64_t l = left->reads + left->writes, r = right->reads + right->writes;

	if (l != r)
		return l < r ? 1 : -1;
	return left->key < right->key ? -1 : left->key > right->key;
}

static void print_top(FILE *to, const char *name, struct count *counts, const char *key)
{
	fprintf(to, "\"%s\":[", name);
	qsort(counts, COUNTS, sizeof(*counts), by_transfers);
	for (unsigned int i = 0; i < TOP && counts[i].key; i++)
		fprintf(to,
			"%s{\"%s\":\"0x%" PRIx64 "\",\"seenAt\":\"0x%" PRIx64 "\",\"reads\":%" PRIu64
			",\"writes\":%" PRIu64 "}",
			i ? "," : "", key, counts[i].key, counts[i].seen, counts[i].reads, counts[i].writes);
	fputc(']', to);
}

void print_line_counts(FILE *to)
{
	print_top(to, "lines", line_counts, "physical");
	fputc(',', to);
	print_top(to, "sites", site_counts, "pc");
	fprintf(to, ",\"uncountedTransfers\":%" PRIu64, uncounted);
	/* Sorting has put them out of their places. */
	clear_line_counts();
}
