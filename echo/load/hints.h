/* SPDX-License-Identifier: MIT */
#ifndef LOAD_HINTS_H
#define LOAD_HINTS_H

#include <stdbool.h>

/* Asks a virtual clock, if there is one, for small steps (@fine) or large ones. On hardware these hints do nothing. */
static inline void clock_hint(bool fine)
{
#ifdef __aarch64__
	if (fine)
		__asm__ volatile("hint #96" ::: "memory");
	else
		__asm__ volatile("hint #97" ::: "memory");
#else
	(void)fine;
#endif
}

#endif
