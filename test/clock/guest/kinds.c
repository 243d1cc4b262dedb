// SPDX-License-Identifier: MIT
/* Reads A64 instruction words from stdin and prints what the clock takes each for, one per line. */
#include <stdio.h>

#include "costs.h"

int main(void)
{
	static const char *const names[] = {
		[INSN_OTHER] = "other", [INSN_SPIN] = "spin",	  [INSN_WFI] = "wfi",
		[INSN_HINT] = "hint",	[INSN_SVC] = "svc",	  [INSN_ERET] = "eret",
		[INSN_IPI] = "ipi",	[INSN_ATOMIC] = "atomic", [INSN_ORDERED] = "ordered",
	};
	static const struct costs costs = { .insn = 1, .svc = 2, .eret = 3, .atomic = 4, .ipi = 5 };
	uint32_t word;

	while (fread(&word, sizeof(word), 1, stdin) == 1) {
		enum insn_kind kind = classify(word);

		printf("%s %d\n", names[kind], (int)extra_cost(&costs, kind));
	}
	return ferror(stdin) || fflush(stdout);
}
