/* SPDX-License-Identifier: GPL-2.0 */
/* What the whole system holds of files, sockets, tasks and memory: leaks of the module show as a level that rose. */
#ifndef FASTIO_TESTS_LEVELS_H
#define FASTIO_TESTS_LEVELS_H

/**
 * struct levels - counts of the whole system
 * @files: open files, from /proc/sys/fs/file-nr; wrong by up to some dozens per CPU
 * @tcp: TCP sockets in use, from /proc/net/sockstat
 * @sockets: sockets of any kind, from the same
 * @tasks: threads of all processes, from /proc/PID/stat; the kernel's own not counted
 * @slab_kib: slab memory that cannot be reclaimed, from /proc/meminfo, after caches gave back their empty slabs, and
 *	without what the system keeps for a while
 * @vmalloc_kib: vmalloc memory, from /proc/meminfo
 * @locked_pages: pages pinned by drivers (FOLL_PIN) and not released, from /proc/vmstat
 */
struct levels {
	long files;
	long tcp;
	long sockets;
	long tasks;
	long slab_kib;
	long vmalloc_kib;
	long locked_pages;
};

struct levels levels_now(void);

/* Prints what was and what is, on two lines. */
void levels_say(const struct levels *before, const struct levels *now);

/*
 * Checks that everything has come back to @before: sockets, tasks and pins exactly, files within the error of the kernel's
 * per-CPU counter, memory within what the system itself wanders (512 KiB of slab after its caches have been shrunk, 256 KiB
 * of vmalloc). Deferred frees get 20 seconds (times slowness). A test that leaks must therefore do it often enough to be seen.
 */
void levels_flat(const struct levels *before);

#endif
