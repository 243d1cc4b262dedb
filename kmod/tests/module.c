// SPDX-License-Identifier: GPL-2.0
/*
 * The module's own life: it cannot be removed while anything uses it, can be afterwards, and leaves nothing behind. Its
 * parameters: operations switched off, seccomp filters allowed. $FASTIO_KO names the file to load it from again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "levels.h"
#include "victim.h"

static long remove_module(void)
{
	return syscall(SYS_delete_module, "fastio", O_NONBLOCK) ? -errno : 0;
}

static void load_module(const char *parameters)
{
	int fd = open(getenv("FASTIO_KO"), O_RDONLY | O_CLOEXEC);

	NEED(fd >= 0, "%s: %s", getenv("FASTIO_KO"), strerror(errno));
	NEED(syscall(SYS_finit_module, fd, parameters, 0) == 0, "loading with \"%s\": %s", parameters, strerror(errno));
	close(fd);
}

static void need_file(void)
{
	if (!getenv("FASTIO_KO"))
		ktap_skip("FASTIO_KO does not say where the module is");
}

static void in_use(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	struct victim victim;
	struct ctx ctx;
	int fd;

	(void)arg;
	fd = device_open();
	CHECK_EQ(remove_module(), -EAGAIN, "the device is open");
	close(fd);
	ctx_open(&ctx, &setup, SERVER_SPINNING);
	CHECK_EQ(remove_module(), -EAGAIN, "a worker is inside");
	close(ctx.fd);
	pthread_join(ctx.donors[0].thread, NULL);
	pthread_join(ctx.donors[1].thread, NULL);
	CHECK_EQ(remove_module(), -EAGAIN, "the rings are mapped");
	munmap(ctx.map, ctx.map_bytes);
	victim_start(&victim, SERVER_SPINNING, NULL);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(remove_module(), -EAGAIN, "another process uses it");
	victim_makes_progress(&victim, 50);
	victim_end(&victim, SIGKILL);
}

/* Removes the module as soon as its last user's end allows it; that end has until the deadline. */
static void remove_soon(void)
{
	uint64_t end = now_ns() + 10000000000ULL * ktap_slowness();
	long ret;

	while ((ret = remove_module()) == -EAGAIN && now_ns() < end)
		sleep_ms(1);
	NEED_EQ(ret, 0);
	NEED(access(FASTIO_DEVICE, F_OK) < 0, "the device is gone");
}

static void use_once(unsigned int i)
{
	static const enum server servers[] = { SERVER_SPINNING, SERVER_SLEEPING, SERVER_INLINE };
	struct victim victim;

	victim_start(&victim, servers[i % 3], NULL);
	victim_end(&victim, SIGKILL);
}

static void removed_after_use(const void *arg)
{
	struct levels before;

	(void)arg;
	need_file();
	for (unsigned int i = 0; i < 3; i++) {
		use_once(i);
		remove_soon();
		load_module("");
	}
	sleep_ms(1000);
	before = levels_now();
	for (unsigned int i = 0; i < 12; i++) {
		use_once(i);
		remove_soon();
		load_module("");
	}
	levels_flat(&before);
}

/* Writes a parameter of the loaded module. Return: 0 or -errno. */
static long set_parameter(const char *name, const char *value)
{
	char path[128];
	long ret = 0;
	int fd;

	snprintf(path, sizeof(path), "/sys/module/fastio/parameters/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	NEED(fd >= 0, "%s: %s", path, strerror(errno));
	if (write(fd, value, strlen(value)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static void ops_switched_off(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	char mask[32];
	struct ctx ctx;

	(void)arg;
	snprintf(mask, sizeof(mask), "%#lx", ~(1UL << FASTIO_OP_OPENAT));
	NEED_EQ(set_parameter("ops", mask), 0);
	ctx_open(&ctx, &setup, SERVER_SLEEPING);
	CHECK_EQ(set_parameter("ops", "0xffffffffffffffff"), 0);
	CHECK_EQ(ctx.setup.ops >> FASTIO_OP_OPENAT & 1, 0);
	CHECK_EQ(ctx.setup.ops >> FASTIO_OP_NOP & 1, 1);
	CHECK_EQ(op_run(&ctx, 0, OP(OPENAT, AT_FDCWD, .addr = ADDR("/"))).res, -EOPNOTSUPP);
	CHECK_EQ(op_run(&ctx, 0, OP(NOP, 0)).res, 0);
	ctx_close(&ctx);
}

/* The filter stays with the process, so a child installs it. */
static void use_under_filter(void)
{
	struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { .len = 1, .filter = allow };
	struct fastio_setup setup = ctx_defaults(1);
	struct ctx ctx;

	NEED_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	NEED_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	ctx_open(&ctx, &setup, SERVER_SLEEPING);
	CHECK_EQ(op_run(&ctx, 0, OP(NOP, 0)).res, 0);
	ctx_close(&ctx);
	_exit(ktap_has_failed());
}

static void seccomp_allowed(const void *arg)
{
	int status;
	pid_t pid;

	(void)arg;
	NEED_EQ(set_parameter("seccomp", "allow"), 0);
	pid = fork();
	if (pid == 0)
		use_under_filter();
	NEED_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(set_parameter("seccomp", "refuse"), 0);
}

static void limits(const void *arg)
{
	struct fastio_setup setup = ctx_defaults(1);
	int first = device_open(), second = device_open(), third = device_open();

	(void)arg;
	NEED_EQ(set_parameter("max_contexts", "2"), 0);
	CHECK_EQ(device_ioctl(first, FASTIO_IOC_SETUP, ADDR(&setup)), 0);
	CHECK_EQ(device_ioctl(second, FASTIO_IOC_SETUP, ADDR(&setup)), 0);
	CHECK_EQ(device_ioctl(third, FASTIO_IOC_SETUP, ADDR(&setup)), -EUSERS);
	NEED_EQ(set_parameter("max_contexts", "64"), 0);
	NEED_EQ(set_parameter("max_entries", "64"), 0);
	CHECK_EQ(device_ioctl(third, FASTIO_IOC_SETUP, ADDR(&setup)), -EINVAL, "128 CQEs");
	NEED_EQ(set_parameter("max_entries", "32768"), 0);
	CHECK_EQ(device_ioctl(third, FASTIO_IOC_SETUP, ADDR(&setup)), 0);
}

/* Parameters that make no sense keep the module from loading, or it would run with another policy than asked for. */
static void bad_parameters(const void *arg)
{
	static const char *const bad[] = { "seccomp=maybe", "seccomp=", "ops=all", "ops=-1x" };

	(void)arg;
	CHECK_EQ(set_parameter("seccomp", "maybe"), -EINVAL);
	CHECK_EQ(set_parameter("ops", "all"), -EINVAL);
	need_file();
	remove_soon();
	for (size_t i = 0; i < NR(bad); i++) {
		int fd = open(getenv("FASTIO_KO"), O_RDONLY | O_CLOEXEC);

		CHECK(syscall(SYS_finit_module, fd, bad[i], 0) < 0 && errno == EINVAL, "%s: errno %d", bad[i], errno);
		close(fd);
		CHECK_EQ(remove_module(), -ENOENT, "%s", bad[i]);
	}
	load_module("");
}

static const struct ktap_test tests[] = {
	TEST("it cannot be removed while it is used", in_use, .timeout_s = 120),
	TEST("it can be removed after use and leaves nothing behind", removed_after_use, .timeout_s = 300),
	TEST("operations can be switched off", ops_switched_off),
	TEST("seccomp filters can be allowed", seccomp_allowed),
	TEST("contexts per user and entries per queue can be limited", limits),
	TEST("bad parameters are refused, and keep it from loading", bad_parameters),
};

int main(int argc, char **argv)
{
	return ktap_main(tests, NR(tests), argc, argv);
}
