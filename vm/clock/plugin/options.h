/* SPDX-License-Identifier: MIT */
/* The plugin's arguments. */
#ifndef FASTIO_CLOCK_OPTIONS_H
#define FASTIO_CLOCK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "costs.h"

struct options {
	/* ns a vCPU runs before the next has its turn: outside and inside of windows. */
	int64_t coarse_ns;
	int64_t fine_ns;
	struct costs costs;
	/* MiB of guest memory, which costs.line needs. */
	unsigned int ram_mib;
	/* Where statistics go; NULL for nowhere. */
	const char *stats;
	/* Let time pass by the wall whenever all vCPUs sleep, from boot on. */
	bool pace;
	/* Say which code the time of windows went to. */
	bool profile;
};

/* Returns false after having said which argument is wrong, what was found and what was expected. */
bool parse_options(struct options *options, int argc, char **argv);

#endif
