/* SPDX-License-Identifier: MIT */
/* What was counted, one JSON object per line of the statistics file. */
#ifndef FASTIO_CLOCK_STATS_H
#define FASTIO_CLOCK_STATS_H

#include <stdbool.h>

/*
 * Opens the statistics file and writes its first line: what the clock was told. Returns false after a
 * message. Without a path nothing is written.
 */
bool open_stats(const char *path, int vcpus_to_come, const char *arguments);

/*
 * The guest begins or ends a window, by its vCPU @index. An end
 * without a beginning is ignored.
 */
void begin_window(unsigned int index);
void end_window(unsigned int index);

/* The last line: totals since boot. */
void close_stats(void);

#endif
