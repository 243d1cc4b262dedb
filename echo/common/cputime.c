/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cputime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A reading is close enough when the two of the time around it are this near each other. */
#define READ_CLOSE_NS 5000u
#define READ_TRIES 8

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void cputime_free(struct cpu_sample *sample)
{
	free(sample->threads);
	*sample = (struct cpu_sample){ 0 };
}

/* Makes room for one more thread and returns it, or NULL. */
static struct thread_time *add_thread(struct cpu_sample *sample)
{
	struct thread_time *threads;

	if (sample->count == CPUTIME_THREADS_MAX)
		return NULL;
	/* Room grows by powers of two, and only when the count is one. */
	if (!(sample->count & (sample->count - 1))) {
		threads = realloc(sample->threads, (sample->count ? sample->count * 2 : 1) * sizeof(*threads));
		if (!threads)
			return NULL;
		sample->threads = threads;
	}
	sample->threads[sample->count] = (struct thread_time){ 0 };
	return &sample->threads[sample->count++];
}

static int compare_tid(const void *left, const void *right)
{
	const struct thread_time *a = left, *b = right;

	return (a->tid > b->tid) - (a->tid < b->tid);
}

/* Reads a small file of a thread's directory. Returns its length without a final newline, or -errno. */
static ssize_t read_task_file(int task_dir, const char *tid, const char *file, char *buffer, size_t size)
{
	char path[64];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", tid, file);
	fd = openat(task_dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	length = read(fd, buffer, size - 1);
	if (length < 0)
		length = -errno;
	close(fd);
	if (length < 0)
		return length;
	while (length && buffer[length - 1] == '\n')
		length--;
	buffer[length] = '\0';
	return length;
}

/*
 * Reads a thread's CPU time together with the moment it holds for: what lies between two moments is then never more than
 * all of that time. Whoever reads can be interrupted in between, for long where CPUs are short; then it tries again.
 */
static int own_thread_time(pid_t tid, struct thread_time *thread)
{
	/* How the kernel numbers the scheduler clock of a thread: ~tid, per-thread bit, CPUCLOCK_SCHED. */
	clockid_t clock = (clockid_t)((~(unsigned int)tid << 3) | 4 | 2);
	uint64_t closest = UINT64_MAX;

	for (int i = 0; i < READ_TRIES && closest > READ_CLOSE_NS; i++) {
		uint64_t before = now_ns(), after;
		struct timespec used;

		if (clock_gettime(clock, &used))
			return -errno;
		after = now_ns();
		if (after - before >= closest)
			continue;
		closest = after - before;
		thread->at_ns = before + closest / 2;
		thread->cpu_ns = (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
	}
	return 0;
}

static int schedstat_time(int task_dir, const char *tid, struct thread_time *thread)
{
	char line[128];
	ssize_t length = read_task_file(task_dir, tid, "schedstat", line, sizeof(line));

	if (length < 0)
		return (int)length;
	return sscanf(line, "%" SCNu64, &thread->cpu_ns) == 1 ? 0 : -EPROTO;
}

/* @pid 0: this process. */
static int sample_tasks(pid_t pid, struct cpu_sample *sample)
{
	struct dirent *entry;
	char path[64];
	int ret = 0;
	DIR *dir;

	cputime_free(sample);
	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	else
		snprintf(path, sizeof(path), "/proc/self/task");
	dir = opendir(path);
	if (!dir)
		return -errno;
	sample->time_ns = now_ns();
	while ((entry = readdir(dir))) {
		struct thread_time read = { .tid = atoi(entry->d_name) }, *thread;

		if (read.tid <= 0)
			continue;
		ret = pid ? schedstat_time(dirfd(dir), entry->d_name, &read) : own_thread_time(read.tid, &read);
		if (ret == -ENOENT || ret == -ESRCH || ret == -EINVAL) {
			ret = 0; /* It ended meanwhile. */
			continue;
		}
		if (ret)
			break;
		thread = add_thread(sample);
		if (!thread) {
			ret = -ENOMEM;
			break;
		}
		*thread = read;
	}
	sample->time_ns += (now_ns() - sample->time_ns) / 2;
	/* Names come last, so that the times are close together. */
	for (unsigned int i = 0; !ret && i < sample->count; i++) {
		char tid[16];

		snprintf(tid, sizeof(tid), "%d", (int)sample->threads[i].tid);
		read_task_file(dirfd(dir), tid, "comm", sample->threads[i].name, sizeof(sample->threads[i].name));
	}
	closedir(dir);
	if (!ret && !sample->count)
		ret = -ESRCH;
	if (ret) {
		cputime_free(sample);
		return ret;
	}
	qsort(sample->threads, sample->count, sizeof(*sample->threads), compare_tid);
	return 0;
}

int cputime_sample_self(struct cpu_sample *sample)
{
	return sample_tasks(0, sample);
}

int cputime_sample_process(pid_t pid, struct cpu_sample *sample)
{
	return sample_tasks(pid, sample);
}

/* ------------------------------------------------------------------ between processes */

unsigned int cputime_address(pid_t pid, struct sockaddr_un *address)
{
	int length;

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	/* The leading zero byte makes it abstract: nothing is left in the file system. */
	length = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "fastio-echo.%d", (int)pid);
	return (unsigned int)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

int cputime_send(int fd, const struct cpu_sample *sample)
{
	size_t size = (sample->count + 2) * CPUTIME_LINE_MAX;
	char *text = malloc(size);
	size_t length, sent = 0;

	if (!text)
		return -ENOMEM;
	length = (size_t)snprintf(text, size, "%" PRIu64 "\n", sample->time_ns);
	for (unsigned int i = 0; i < sample->count; i++) {
		const struct thread_time *thread = &sample->threads[i];

		length += (size_t)snprintf(text + length, size - length, "%d %" PRIu64 " %s\n", (int)thread->tid,
					   thread->cpu_ns, thread->name);
	}
	text[length++] = '\n';
	while (sent < length) {
		ssize_t n = send(fd, text + sent, length - sent, MSG_NOSIGNAL);

		if (n < 0) {
			free(text);
			return -errno;
		}
		sent += (size_t)n;
	}
	free(text);
	return 0;
}

/* Reads one line of at most @size - 1 bytes. Samples are rare: a system call per byte does no harm. */
static int receive_line(int fd, char *line, size_t size)
{
	size_t length = 0;

	for (;;) {
		char byte;
		ssize_t n = recv(fd, &byte, 1, 0);

		if (n < 0)
			return -errno;
		if (!n || (byte != '\n' && length + 1 == size))
			return -EPROTO;
		if (byte == '\n')
			break;
		line[length++] = byte;
	}
	line[length] = '\0';
	return 0;
}

int cputime_receive(int fd, struct cpu_sample *sample)
{
	char line[CPUTIME_LINE_MAX];
	int ret;

	cputime_free(sample);
	ret = receive_line(fd, line, sizeof(line));
	if (!ret && sscanf(line, "%" SCNu64, &sample->time_ns) != 1)
		ret = -EPROTO;
	while (!ret) {
		struct thread_time *thread;

		ret = receive_line(fd, line, sizeof(line));
		if (ret || !line[0])
			break;
		thread = add_thread(sample);
		if (!thread)
			ret = -ENOMEM;
		else if (sscanf(line, "%d %" SCNu64 " %15[^\n]", &thread->tid, &thread->cpu_ns, thread->name) < 2)
			ret = -EPROTO;
	}
	if (ret)
		cputime_free(sample);
	return ret;
}
