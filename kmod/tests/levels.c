// SPDX-License-Identifier: GPL-2.0
/* Levels of files, sockets, tasks and memory of the whole system. */
#define _GNU_SOURCE
#include "levels.h"

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"

#define SLAB_SLACK_KIB		512
#define VMALLOC_SLACK_KIB	256
#define PF_KTHREAD		0x00200000UL	/* of /proc/PID/stat; include/linux/sched.h */

/* The number behind the first occurrence of @label in a /proc file, or 0 when there is none. */
static long number_in(const char *path, const char *label)
{
	static char text[65536];
	FILE *file = fopen(path, "r");
	const char *at;
	long number = 0;
	size_t bytes;

	NEED(file, "%s", path);
	bytes = fread(text, 1, sizeof(text) - 1, file);
	text[bytes] = 0;
	fclose(file);
	at = strstr(text, label);
	if (at)
		sscanf(at + strlen(label), "%ld", &number);
	return number;
}

/*
 * What the system itself keeps in caches of their own, when they have not been merged with others: address ranges of freed
 * vmalloc memory until there are many, and connections in TIME_WAIT.
 */
static long kept_kib(void)
{
	static const char *const caches[] = { "\nvmap_area ", "\ntw_sock_TCP ", "\ntcp_bind_bucket ", "\ntcp_bind2_bucket " };
	static char text[65536];
	FILE *file = fopen("/proc/slabinfo", "r");
	long kib = 0, page_kib = sysconf(_SC_PAGESIZE) / 1024;
	size_t bytes;

	NEED(file, "/proc/slabinfo");
	bytes = fread(text, 1, sizeof(text) - 1, file);
	text[bytes] = 0;
	fclose(file);
	for (size_t i = 0; i < NR(caches); i++) {
		const char *line = strstr(text, caches[i]);
		long pages, slabs;

		if (line && sscanf(line, " %*s %*d %*d %*d %*d %ld : tunables %*d %*d %*d : slabdata %*d %ld", &pages, &slabs) == 2)
			kib += slabs * pages * page_kib;
	}
	return kib;
}

/*
 * Threads of all processes. The module has none of its own in the kernel, whose workers come and go with what it has to do.
 */
static long user_tasks(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	long tasks = 0;

	NEED(proc, "/proc");
	while ((entry = readdir(proc))) {
		unsigned long flags;
		char path[300], text[512] = "";
		const char *name_end;
		FILE *file;
		long threads;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;	/* has just ended */
		/* A name may hold anything, so the fields are counted from its end. */
		name_end = fgets(text, sizeof(text), file) ? strrchr(text, ')') : NULL;
		fclose(file);
		if (name_end && sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %lu %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld",
				       &flags, &threads) == 2 && !(flags & PF_KTHREAD))
			tasks += threads;
	}
	closedir(proc);
	return tasks;
}

/* How far a per-CPU counter may be from the truth: each CPU keeps up to a batch to itself. */
static long counter_error(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	return cpus * (cpus > 16 ? 2 * cpus : 32);
}

/* Caches keep slabs in which nothing is allocated; given back, what is left is what somebody uses. */
static void shrink_caches(void)
{
	glob_t caches;

	if (glob("/sys/kernel/slab/*/shrink", GLOB_NOSORT, NULL, &caches))
		return;
	for (size_t i = 0; i < caches.gl_pathc; i++) {
		struct stat directory;
		int fd;

		/* Links are further names of the same. */
		*strrchr(caches.gl_pathv[i], '/') = 0;
		if (lstat(caches.gl_pathv[i], &directory) || !S_ISDIR(directory.st_mode))
			continue;
		caches.gl_pathv[i][strlen(caches.gl_pathv[i])] = '/';
		fd = open(caches.gl_pathv[i], O_WRONLY);
		/* One that cannot be shrunk shows in the level at worst. */
		if (fd >= 0 && write(fd, "1", 1) < 0)
			ktap_say("%s cannot be shrunk", caches.gl_pathv[i]);
		close(fd);
	}
	globfree(&caches);
}

static struct levels read_levels(void)
{
	return (struct levels) {
		.files = number_in("/proc/sys/fs/file-nr", ""),
		.tcp = number_in("/proc/net/sockstat", "TCP: inuse "),
		.sockets = number_in("/proc/net/sockstat", "sockets: used "),
		.tasks = user_tasks(),
		.slab_kib = number_in("/proc/meminfo", "SUnreclaim:") - kept_kib(),
		.vmalloc_kib = number_in("/proc/meminfo", "VmallocUsed:"),
		.locked_pages = number_in("/proc/vmstat", "nr_foll_pin_acquired ") -
				number_in("/proc/vmstat", "nr_foll_pin_released "),
	};
}

struct levels levels_now(void)
{
	shrink_caches();
	return read_levels();
}

void levels_say(const struct levels *before, const struct levels *now)
{
	ktap_say("files %ld to %ld, TCP %ld to %ld, sockets %ld to %ld, tasks %ld to %ld", before->files, now->files,
		 before->tcp, now->tcp, before->sockets, now->sockets, before->tasks, now->tasks);
	ktap_say("slab %ld to %ld KiB, vmalloc %ld to %ld KiB, pinned pages %ld to %ld", before->slab_kib, now->slab_kib,
		 before->vmalloc_kib, now->vmalloc_kib, before->locked_pages, now->locked_pages);
}

/* Whether everything but slab memory is back. */
static bool others_are_flat(const struct levels *before, const struct levels *now)
{
	return now->files <= before->files + counter_error() && now->tcp <= before->tcp && now->sockets <= before->sockets &&
	       now->tasks <= before->tasks && now->locked_pages <= before->locked_pages &&
	       now->vmalloc_kib <= before->vmalloc_kib + VMALLOC_SLACK_KIB;
}

void levels_flat(const struct levels *before)
{
	uint64_t end = now_ns() + 20000000000ULL * ktap_slowness();
	struct levels now;

	do {
		sleep_ms(100);
		now = read_levels();
		/* It takes a while, so it comes last. */
		if (now.slab_kib > before->slab_kib + SLAB_SLACK_KIB && others_are_flat(before, &now))
			now = levels_now();
		if (now.slab_kib <= before->slab_kib + SLAB_SLACK_KIB && others_are_flat(before, &now))
			return;
	} while (now_ns() < end);
	levels_say(before, &now);
	ktap_fail(__FILE__, __LINE__, "a level rose and stayed");
}
