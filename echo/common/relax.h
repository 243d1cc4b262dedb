/* SPDX-License-Identifier: MIT */
#ifndef ECHO_RELAX_H
#define ECHO_RELAX_H

/* Tells the processor, or the simulator, that this loop only waits. */
static inline void cpu_relax(void)
{
#if defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#elif defined(__x86_64__)
	__asm__ volatile("pause" ::: "memory");
#else
	__asm__ volatile("" ::: "memory");
#endif
}

#endif
