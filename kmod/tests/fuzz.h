/* SPDX-License-Identifier: GPL-2.0 */
/* What the fuzzers share: seeded numbers, bounds from the environment, and rounds in processes that are killed. */
#ifndef FASTIO_TESTS_FUZZ_H
#define FASTIO_TESTS_FUZZ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct fuzz_round - shared between a round's process and its parent
 * @seed: of this round; equal seeds make equal choices, though not equal interleavings
 * @sqes: SQEs the module has taken in this round, kept up to date by the round
 * @done: the round has done what it wanted
 */
struct fuzz_round {
	uint64_t seed;
	atomic_ulong sqes;
	atomic_bool done;
};

/**
 * fuzz_rounds() - run rounds until the bounds are reached, each in a process that is killed after it
 * @round: runs in that process; returning ends the round early
 * @name: for the diagnostics
 *
 * Bounds and seed come from the environment: $FASTIO_FUZZ_SQES (default 200,000), $FASTIO_FUZZ_SECONDS (default 30, the
 * limit that comes first counts), $FASTIO_FUZZ_SEED (default from the clock, printed). Checks afterwards that the
 * levels of the system are flat.
 */
void fuzz_rounds(void (*round)(struct fuzz_round *round), const char *name);

/* Seconds the runner has to grant a test of fuzz_rounds(). */
unsigned int fuzz_timeout_s(void);

/* The next number of a sequence; @state must not be 0. */
static inline uint64_t fuzz_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

/* A number below @bound. */
static inline uint32_t fuzz_below(uint64_t *state, uint32_t bound)
{
	return (fuzz_random(state) >> 32) % bound;
}

/* True in one of @n cases. */
static inline bool fuzz_one_in(uint64_t *state, uint32_t n)
{
	return fuzz_below(state, n) == 0;
}

#endif
