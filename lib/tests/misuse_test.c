// SPDX-License-Identifier: MIT
/*
 * Wrong parameters, wrong entries, wrong calls: each is answered with the documented error and a
 * message that helps.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "rig.h"

struct bad_parameter {
	const char *name;
	size_t offset;
	unsigned int value;
	const char *message;
};

/* clang-format off */
#define BAD(field, value, message) \
	{ #field, offsetof(struct fastio_params, field), value, message }
/* clang-format on */

static const struct bad_parameter bad_parameters[] = {
	BAD(workers, 65, "found workers = 65, expected a number from 0 to 64"),
	BAD(self_weight, 5, "found self_weight = 5, expected a number from 0 to 4"),
	BAD(self_batch, 256, "found self_batch = 256, expected a number from 0 to 255"),
	BAD(wq_workers, 17, "found wq_workers = 17, expected a number from 0 to 16"),
	BAD(sq_entries, 0, "found sq_entries = 0, expected a power of two from 1 to 32768"),
	BAD(sq_entries, 3, "found sq_entries = 3, expected a power of two from 1 to 32768"),
	BAD(sq_entries, 65536, "found sq_entries = 65536, expected a power of two from 1 to 32768"),
	BAD(cq_entries, 8, "found cq_entries = 8, expected a power of two from 16 to 32768"),
	BAD(cq_entries, 48, "found cq_entries = 48, expected a power of two from 16 to 32768"),
	BAD(cq_entries, 65536,
	    "found cq_entries = 65536, expected a power of two from 16 to 32768"),
	BAD(idle_us, 10000001, "found idle_us = 10000001, expected a number from 0 to 10000000"),
	BAD(wq_idle_us, 10000001,
	    "found wq_idle_us = 10000001, expected a number from 0 to 10000000"),
	BAD(wait_spin_us, 10000001,
	    "found wait_spin_us = 10000001, expected a number from 0 to 10000000"),
	BAD(max_slots, 1048577, "found max_slots = 1048577, expected a number from 1 to 1048576"),
	BAD(backend, 7, "found backend = 7, expected a FASTIO_BACKEND_* value"),
};

static void refuse(struct fastio_params *params, int expected, const char *message)
{
	struct fastio *const untouched = (struct fastio *)params;
	struct fastio_error error = { "" };
	struct fastio *fio = untouched;
	int before = rig_open_fds();
	int ret = fastio_setup(&fio, params, &error);

	CHECK(ret == expected, "found %s, expected %s for: %s", fastio_errno_name(ret),
	      fastio_errno_name(expected), message);
	CHECK(strstr(error.message, message), "found \"%s\", expected \"%s\"", error.message,
	      message);
	CHECK(fio == untouched);
	CHECK_EQ(rig_open_fds(), before);
	CHECK_EQ(fastio_setup(&fio, params, NULL), expected);
}

static void parameters_out_of_range(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < sizeof(bad_parameters) / sizeof(bad_parameters[0]); i++) {
		const struct bad_parameter *bad = &bad_parameters[i];
		struct fastio_params params;

		rig_params(&params, &rig_modes[0]);
		memcpy((char *)&params + bad->offset, &bad->value, sizeof(bad->value));
		refuse(&params, -EINVAL, bad->message);
	}
}

static void cpus_that_may_not_be_used(void *arg)
{
	struct fastio_params params;

	(void)arg;
	rig_params(&params, &rig_modes[1]);
	params.worker_cpu[1] = CPU_SETSIZE;
	refuse(&params, -EINVAL, "found CPU 1024 for worker 1, expected -1 to 1023");
	params.worker_cpu[1] = -2;
	refuse(&params, -EINVAL, "found CPU -2 for worker 1, expected -1 to 1023");
	params.worker_cpu[1] = 1023;
	refuse(&params, -EINVAL, "found CPU 1023 for worker 1, expected one that is online");
	params.worker_cpu[1] = FASTIO_NO_CPU;
	params.wq_cpu[0] = 1023;
	refuse(&params, -EINVAL, "found CPU 1023 for wq worker 0, expected one that is online");
}

static void back_ends_that_are_not_there(void *arg)
{
	const char *before = getenv("FASTIO_BACKEND");
	char *kept = before ? strdup(before) : NULL;
	struct fastio_params params;

	(void)arg;
	rig_params(&params, &rig_modes[0]);
	setenv("FASTIO_BACKEND", "fast", 1);
	refuse(&params, -EINVAL, "found FASTIO_BACKEND=fast, expected kernel, user or auto");
	setenv("FASTIO_BACKEND", "kernel", 1);
	params.device = "/nowhere/fastio";
	refuse(&params, -ENOENT, "cannot open /nowhere/fastio (ENOENT)");
	unsetenv("FASTIO_BACKEND");
	params.backend = FASTIO_BACKEND_KERNEL;
	refuse(&params, -ENOENT, "cannot open /nowhere/fastio (ENOENT)");
	/* Something is there, and it is not the module: made up for by nothing. */
	params.backend = FASTIO_BACKEND_AUTO;
	params.device = "/dev/null";
	refuse(&params, -ENOTTY,
	       "/dev/null refused to set up 1 rings of 16 and 64 entries (ENOTTY)");
	if (kept)
		setenv("FASTIO_BACKEND", kept, 1);
	free(kept);
}

static void absent_device_is_made_up_for(void *arg)
{
	const char *before = getenv("FASTIO_BACKEND");
	char *kept = before ? strdup(before) : NULL;
	struct fastio_params params;
	struct rig rig = { 0 };

	(void)arg;
	rig_params(&params, &rig_modes[0]);
	params.device = "/nowhere/fastio";
	setenv("FASTIO_BACKEND", "auto", 1);
	REQUIRE(!fastio_setup(&rig.fio, &params, NULL));
	CHECK_EQ(rig.fio->backend, FASTIO_BACKEND_USER);
	fastio_prep_nop(rig_get(&rig.fio->queues[0]));
	CHECK_EQ(rig_expect(&rig, 0), 0);
	fastio_exit(rig.fio);
	if (kept)
		setenv("FASTIO_BACKEND", kept, 1);
	else
		unsetenv("FASTIO_BACKEND");
	free(kept);
}

static void back_end_in_user_space_is_announced_once(void *arg)
{
	struct fastio_params params;
	char said[1024] = "";
	struct fastio *fio;
	int pipes[2], err = dup(STDERR_FILENO);
	ssize_t len;

	(void)arg;
	REQUIRE(!pipe(pipes) && err >= 0);
	rig_params(&params, &rig_modes[0]);
	params.backend = FASTIO_BACKEND_USER;
	dup2(pipes[1], STDERR_FILENO);
	for (int i = 0; i < 6; i++) {
		params.quiet = i < 2;
		if (i == 2)
			setenv("FASTIO_QUIET", "1", 1);
		if (i == 4)
			unsetenv("FASTIO_QUIET");
		if (fastio_setup(&fio, &params, NULL))
			break;
		fastio_exit(fio);
		if (i == 3 && write(STDERR_FILENO, "|", 1) != 1)
			break;
	}
	dup2(err, STDERR_FILENO);
	close(err);
	close(pipes[1]);
	len = read(pipes[0], said, sizeof(said) - 1);
	close(pipes[0]);
	REQUIRE(len > 0 && said[0] == '|', "said \"%s\" although told to be quiet", said);
	CHECK(!strncmp(said + 1, "fastio: user-space back end in use", 34), "%s", said);
	CHECK(strchr(said, '\n') == said + len - 1, "said more than one line: %s", said);
}

/* Fields that each operation may use; written from the header, not from the library. */
enum {
	F_FD = 1,
	F_ADDR = 2,
	F_LEN = 4,
	F_OP_FLAGS = 8,
	F_OFF = 16,
	F_ADDR2 = 32,
	F_LEN2 = 64,
	F_FD2 = 128
};

static const struct {
	uint8_t op;
	unsigned int fields;
	unsigned int flags;
} allowed[] = {
	{ FASTIO_OP_NOP, 0, 0 },
	{ FASTIO_OP_ACCEPT, F_FD | F_ADDR | F_OP_FLAGS | F_ADDR2,
	  FASTIO_SQE_SLOT | FASTIO_SQE_MULTISHOT | FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_RECV, F_FD | F_ADDR | F_LEN | F_OP_FLAGS,
	  FASTIO_SQE_SLOT | FASTIO_SQE_MULTISHOT | FASTIO_SQE_BUF_SELECT | FASTIO_SQE_FIXED_BUF |
		  FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_SEND, F_FD | F_ADDR | F_LEN | F_OP_FLAGS,
	  FASTIO_SQE_SLOT | FASTIO_SQE_FIXED_BUF | FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_SEND_RECV, F_FD | F_ADDR | F_LEN | F_OP_FLAGS | F_ADDR2 | F_LEN2,
	  FASTIO_SQE_SLOT | FASTIO_SQE_BUF_SELECT },
	{ FASTIO_OP_RECVMSG, F_FD | F_ADDR | F_OP_FLAGS, FASTIO_SQE_SLOT | FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_SENDMSG, F_FD | F_ADDR | F_OP_FLAGS, FASTIO_SQE_SLOT | FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_READ, F_FD | F_ADDR | F_LEN | F_OFF,
	  FASTIO_SQE_SLOT | FASTIO_SQE_FIXED_BUF | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_WRITE, F_FD | F_ADDR | F_LEN | F_OFF,
	  FASTIO_SQE_SLOT | FASTIO_SQE_FIXED_BUF | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_READV, F_FD | F_ADDR | F_LEN | F_OFF,
	  FASTIO_SQE_SLOT | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_WRITEV, F_FD | F_ADDR | F_LEN | F_OFF,
	  FASTIO_SQE_SLOT | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT },
	{ FASTIO_OP_POLL, F_FD | F_OP_FLAGS, 0 },
	{ FASTIO_OP_CLOSE, F_FD, 0 },
	{ FASTIO_OP_OPENAT, F_FD | F_ADDR | F_LEN | F_OP_FLAGS, 0 },
	{ FASTIO_OP_FSYNC, F_FD | F_LEN | F_OP_FLAGS | F_OFF, 0 },
	{ FASTIO_OP_SENDFILE, F_FD | F_LEN | F_OFF | F_FD2, 0 },
	{ FASTIO_OP_TIMEOUT, F_OP_FLAGS | F_OFF, 0 },
	{ FASTIO_OP_CANCEL, F_FD | F_ADDR | F_OP_FLAGS, 0 },
	{ FASTIO_OP_FILE_REGISTER, F_FD, 0 },
	{ FASTIO_OP_FILE_UNREGISTER, F_FD, 0 },
};

static int submit_raw(struct rig *rig, const struct fastio_sqe *sqe)
{
	*rig_get(&rig->fio->queues[0]) = *sqe;
	return rig_expect(rig, sqe->user_data);
}

static void entries_that_make_no_sense(void *arg)
{
	struct rig *rig = arg;

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		struct fastio_sqe base = { .opcode = allowed[i].op, .user_data = 5 };
		struct fastio_sqe sqe;

		if (base.opcode == FASTIO_OP_OPENAT)
			base.fd = AT_FDCWD;
#define TRY(bit, field)                                                                    \
	do {                                                                               \
		sqe = base;                                                                \
		sqe.field = 1;                                                             \
		if (!(allowed[i].fields & (bit)))                                          \
			CHECK(submit_raw(rig, &sqe) == -EINVAL, "opcode %u takes " #field, \
			      allowed[i].op);                                              \
	} while (0)
		TRY(F_FD, fd);
		TRY(F_ADDR, addr);
		TRY(F_LEN, len);
		TRY(F_OP_FLAGS, op_flags);
		TRY(F_OFF, off);
		TRY(F_ADDR2, addr2);
		TRY(F_LEN2, len2);
		TRY(F_FD2, fd2);
		TRY(0, resv);
		TRY(0, buf);
#undef TRY
		for (unsigned int bit = 1; bit < 256; bit <<= 1) {
			sqe = base;
			sqe.flags = (uint8_t)bit;
			if (!(allowed[i].flags & bit))
				CHECK(submit_raw(rig, &sqe) == -EINVAL, "opcode %u takes flag %x",
				      allowed[i].op, bit);
		}
	}
	for (unsigned int op = FASTIO_OP_LAST; op < 256; op += 37) {
		struct fastio_sqe sqe = { .opcode = (uint8_t)op };

		CHECK_EQ(submit_raw(rig, &sqe), -EOPNOTSUPP);
	}
	CHECK_EQ(submit_raw(rig, &(struct fastio_sqe){ .opcode = FASTIO_OP_RECV,
						       .flags = FASTIO_SQE_MULTISHOT }),
		 -EINVAL);
	CHECK_EQ(submit_raw(rig, &(struct fastio_sqe){ .opcode = FASTIO_OP_RECV,
						       .addr = 1,
						       .flags = FASTIO_SQE_BUF_SELECT }),
		 -EINVAL);
	CHECK_EQ(submit_raw(rig, &(struct fastio_sqe){ .opcode = FASTIO_OP_RECV,
						       .flags = FASTIO_SQE_BUF_SELECT |
								FASTIO_SQE_FIXED_BUF }),
		 -EINVAL);
	CHECK_EQ(submit_raw(rig, &(struct fastio_sqe){ .opcode = FASTIO_OP_RECV,
						       .op_flags = MSG_PEEK,
						       .flags = FASTIO_SQE_BUF_SELECT }),
		 -EINVAL);
	CHECK_EQ(submit_raw(rig,
			    &(struct fastio_sqe){ .opcode = FASTIO_OP_READ,
						  .flags = FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT }),
		 -EINVAL);
	CHECK_EQ(submit_raw(rig, &(struct fastio_sqe){ .opcode = FASTIO_OP_ACCEPT,
						       .addr = 1,
						       .addr2 = 1,
						       .flags = FASTIO_SQE_MULTISHOT }),
		 -EINVAL);
}

static void calls_that_make_no_sense(void *arg)
{
	struct rig *rig = arg;
	struct fastio *fio = rig->fio;
	struct fastio_queue *self = fio->self;
	struct fastio_bufs bufs;

	if (fio->nr_workers) {
		CHECK_EQ(fastio_enter(&fio->queues[0], 0, 0, 0), -EBUSY);
		CHECK_EQ(fastio_enter(&fio->queues[0], FASTIO_ENTER_WAIT, 0, 1000), -EBUSY);
	}
	if (self) {
		CHECK_EQ(fastio_enter(self, 1u << 7, 0, 0), -EINVAL);
		CHECK_EQ(fastio_enter(self, FASTIO_ENTER_WAIT | FASTIO_ENTER_WAIT_ANY, 0, 0),
			 -EINVAL);
		CHECK_EQ(fastio_enter(self, 0, 0, 1000), -EINVAL);
		CHECK_EQ(fastio_enter(self, FASTIO_ENTER_SPIN, 0, 0), -EINVAL);
		CHECK_EQ(fastio_enter(self, 0, 256, 0), -EINVAL);
		CHECK_EQ(fastio_enter(self, FASTIO_ENTER_WAIT, 0, 1000), -ETIME);
		CHECK_EQ(fastio_enter(self, FASTIO_ENTER_WAIT_ANY | FASTIO_ENTER_SPIN, 1, 1000),
			 -ETIME);
		CHECK_EQ(fastio_enter(self, 0, 0, 0), 0);
	} else {
		CHECK_EQ(fastio_serve(fio), 0);
		CHECK_EQ(fastio_serve_now(fio), 0);
	}
	CHECK_EQ(fastio_bufs_setup(&bufs, &fio->queues[0], 64, 8), -EINVAL);
	CHECK_EQ(fastio_unregister_buffers(fio), -ENXIO);
}

static void errors_have_names_and_advice(void *arg)
{
	static const struct {
		int err;
		const char *name;
	} named[] = { { EINVAL, "EINVAL" },
		      { -EBUSY, "EBUSY" },
		      { ETIME, "ETIME" },
		      { -ENOBUFS, "ENOBUFS" } };

	(void)arg;
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		CHECK(!strcmp(fastio_errno_name(named[i].err), named[i].name), "%s",
		      fastio_errno_name(named[i].err));
	CHECK(!strcmp(fastio_strerror(0), "success"));
	for (int err = -200; err <= 200; err++) {
		const char *text = fastio_strerror(err);

		CHECK(text && strlen(text) > 6 && !strchr(text, '\n'), "%d", err);
		CHECK(text == fastio_strerror(-err));
	}
	CHECK(isdigit((unsigned char)fastio_version()[0]) && strchr(fastio_version(), '.'), "%s",
	      fastio_version());
}

static void configuration_becomes_parameters(void *arg)
{
	struct fastio_error error = { "" };
	struct fastio_params params;
	struct fastio_conf conf;

	(void)arg;
	fastio_conf_defaults(&conf);
	conf.max_usr_worker = 2;
	conf.max_ker_worker = 6;
	conf.affinity_offset = 4;
	conf.wq_affinity_offset = 10;
	conf.max_table_entry = 100;
	conf.max_table_len = 3;
	CHECK_EQ(fastio_params_from_conf(&params, &conf, 1, &error), 0);
	CHECK_EQ(params.workers, 3);
	CHECK_EQ(params.sq_entries, 512);
	CHECK_EQ(params.idle_us, 1500000);
	CHECK_EQ(params.worker_cpu[0], 7);
	CHECK_EQ(params.worker_cpu[2], 9);
	CHECK_EQ(params.wq_cpu[0], 11);
	conf.esca_localize = 1;
	CHECK_EQ(fastio_params_from_conf(&params, &conf, 1, &error), 0);
	CHECK_EQ(params.worker_cpu[0], 5);
	CHECK_EQ(params.worker_cpu[2], 5);
	conf.affinity_offset = -1;
	CHECK_EQ(fastio_params_from_conf(&params, &conf, 0, &error), 0);
	CHECK_EQ(params.worker_cpu[0], FASTIO_NO_CPU);
	CHECK_EQ(fastio_params_from_conf(&params, &conf, 2, &error), -ERANGE);
	CHECK(strstr(error.message, "found user worker 2, expected one below max_usr_worker = 2"),
	      "%s", error.message);
	conf.max_ker_worker = 0;
	CHECK_EQ(fastio_params_from_conf(&params, &conf, 0, &error), 0);
	CHECK_EQ(params.workers, 0);
	CHECK_EQ(params.self_batch, 0);
}

static void all_workers_and_the_own_queue_fit(void *arg)
{
	struct fastio_params params;
	struct fastio *fio;

	(void)arg;
	rig_params(&params, &rig_modes[0]);
	params.workers = FASTIO_MAX_WORKERS;
	params.self_weight = 1;
	refuse(&params, -EINVAL, "found workers = 64, expected a number from 0 to 63");
	params.workers = FASTIO_MAX_WORKERS - 1;
	params.wq_workers = FASTIO_MAX_WQ_WORKERS;
	REQUIRE(!fastio_setup(&fio, &params, NULL));
	CHECK_EQ(fio->nr_queues, FASTIO_MAX_WORKERS);
	fastio_exit(fio);
}

static void descriptors_run_out(void *arg)
{
	struct fastio_params params;
	struct fastio_error error = { "" };
	struct rlimit before, tight;
	struct fastio *fio;
	int ret;

	(void)arg;
	rig_params(&params, &rig_modes[1]);
	getrlimit(RLIMIT_NOFILE, &before);
	tight = before;
	tight.rlim_cur = 5;
	params.max_fds = 0;
	setrlimit(RLIMIT_NOFILE, &tight);
	ret = fastio_setup(&fio, &params, &error);
	setrlimit(RLIMIT_NOFILE, &before);
	/* The module needs two descriptors only. */
	if (!ret)
		fastio_exit(fio);
	else
		CHECK(ret == -EMFILE && strstr(error.message, "EMFILE"), "%s", error.message);
}

int main(int argc, char **argv)
{
	static const struct tap_test alone[] = {
		{ "parameters out of range", parameters_out_of_range },
		{ "CPUs that may not be used", cpus_that_may_not_be_used },
		{ "back ends that are not there", back_ends_that_are_not_there },
		{ "an absent device is made up for", absent_device_is_made_up_for },
		{ "the back end in user space is announced once",
		  back_end_in_user_space_is_announced_once },
		{ "errors have names and advice", errors_have_names_and_advice },
		{ "configuration becomes parameters", configuration_becomes_parameters },
		{ "all workers and the own queue fit", all_workers_and_the_own_queue_fit },
		{ "descriptors run out", descriptors_run_out },
	};
	static const struct tap_test tests[] = {
		{ "entries that make no sense", entries_that_make_no_sense },
		{ "calls that make no sense", calls_that_make_no_sense },
	};

	(void)argc;
	tap_begin(argv[0]);
	for (size_t i = 0; i < sizeof(alone) / sizeof(alone[0]); i++)
		tap_run(&alone[i], NULL, NULL);
	rig_run(tests, sizeof(tests) / sizeof(tests[0]));
	return tap_end();
}
