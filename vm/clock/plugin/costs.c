// SPDX-License-Identifier: MIT
/* Encodings are from the Arm Architecture Reference Manual for A-profile, section C4.1. */
#include "costs.h"

#define HINT_YIELD 1
#define HINT_WFE 2
#define HINT_WFI 3
#define HINT_OWN_FIRST 96
#define HINT_OWN_LAST 99

static enum insn_kind classify_hint(unsigned int number)
{
	if (number == HINT_YIELD || number == HINT_WFE)
		return INSN_SPIN;
	if (number == HINT_WFI)
		return INSN_WFI;
	return number >= HINT_OWN_FIRST && number <= HINT_OWN_LAST ? INSN_HINT : INSN_OTHER;
}

static enum insn_kind classify_memory(uint32_t word)
{
	/* LDAPR is encoded among the atomic operations. */
	if ((word & 0x3ffffc00) == 0x38bfc000)
		return INSN_ORDERED;
	/* LDADD, LDSET, SWP, ... of FEAT_LSE. */
	if ((word & 0x3b200c00) == 0x38200000)
		return INSN_ATOMIC;
	/* Exclusives, compare-and-swap; among them LDAR, STLR, LDLAR, STLLR. */
	if ((word & 0x3f000000) == 0x08000000)
		return (word & 0x00a00000) == 0x00800000 ? INSN_ORDERED : INSN_ATOMIC;
	/* LDAPUR, STLUR. */
	if ((word & 0x3f200c00) == 0x19000000)
		return INSN_ORDERED;
	return INSN_OTHER;
}

enum insn_kind classify(uint32_t word)
{
	if ((word & 0xfffff01f) == 0xd503201f)
		return classify_hint(hint_number(word));
	if ((word & 0xffe0001f) == 0xd4000001)
		return INSN_SVC;
	/* ERET, ERETAA, ERETAB. */
	if (word == 0xd69f03e0 || (word & 0xfffffbff) == 0xd69f0bff)
		return INSN_ERET;
	/* MSR ICC_SGI1R_EL1, Xt. */
	if ((word & 0xffffffe0) == 0xd518cba0)
		return INSN_IPI;
	return classify_memory(word);
}

vtime extra_cost(const struct costs *costs, enum insn_kind kind)
{
	switch (kind) {
	case INSN_SVC:
		return costs->svc;
	case INSN_ERET:
		return costs->eret;
	case INSN_IPI:
		return costs->ipi;
	case INSN_ATOMIC:
		return costs->atomic;
	default:
		return 0;
	}
}
