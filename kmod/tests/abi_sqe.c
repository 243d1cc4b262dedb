// SPDX-License-Identifier: GPL-2.0
/*
 * Submission queue entries: for each opcode every field it does not use and every flag it does not allow gives -EINVAL,
 * before anything is done; unknown opcodes give -EOPNOTSUPP; bad descriptors give -EBADF or -ENOTSOCK.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctx.h"
#include "ktap.h"
#include "net.h"

enum field {
	F_FD = 1, F_ADDR = 2, F_LEN = 4, F_OP_FLAGS = 8, F_OFF = 16, F_ADDR2 = 32, F_LEN2 = 64, F_FD2 = 128, F_BUF = 256,
};

#define F_SOCKET	(F_FD | F_ADDR | F_LEN | F_OP_FLAGS)
#define F_FILE		(F_FD | F_ADDR | F_LEN | F_OFF)

/* What an opcode uses, and what it takes its descriptor for. */
struct opcode {
	const char *name;
	uint8_t opcode;
	unsigned int fields;
	uint8_t flags;
	bool needs_socket;
	bool needs_file;
};

static const struct opcode opcodes[] = {
	{ "NOP", FASTIO_OP_NOP, 0, 0, false, false },
	{ "ACCEPT", FASTIO_OP_ACCEPT, F_FD | F_ADDR | F_OP_FLAGS | F_ADDR2,
	  FASTIO_SQE_SLOT | FASTIO_SQE_MULTISHOT | FASTIO_SQE_NOWAIT, true, true },
	{ "RECV", FASTIO_OP_RECV, F_SOCKET, FASTIO_SQE_SLOT | FASTIO_SQE_MULTISHOT | FASTIO_SQE_BUF_SELECT |
	  FASTIO_SQE_FIXED_BUF | FASTIO_SQE_NOWAIT, true, true },
	{ "SEND", FASTIO_OP_SEND, F_SOCKET, FASTIO_SQE_SLOT | FASTIO_SQE_FIXED_BUF | FASTIO_SQE_NOWAIT, true, true },
	{ "SEND_RECV", FASTIO_OP_SEND_RECV, F_SOCKET | F_ADDR2 | F_LEN2, FASTIO_SQE_SLOT | FASTIO_SQE_BUF_SELECT,
	  true, true },
	{ "RECVMSG", FASTIO_OP_RECVMSG, F_FD | F_ADDR | F_OP_FLAGS, FASTIO_SQE_SLOT | FASTIO_SQE_NOWAIT, true, true },
	{ "SENDMSG", FASTIO_OP_SENDMSG, F_FD | F_ADDR | F_OP_FLAGS, FASTIO_SQE_SLOT | FASTIO_SQE_NOWAIT, true, true },
	{ "READ", FASTIO_OP_READ, F_FILE,
	  FASTIO_SQE_SLOT | FASTIO_SQE_FIXED_BUF | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT, false, true },
	{ "WRITE", FASTIO_OP_WRITE, F_FILE,
	  FASTIO_SQE_SLOT | FASTIO_SQE_FIXED_BUF | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT, false, true },
	{ "READV", FASTIO_OP_READV, F_FILE, FASTIO_SQE_SLOT | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT, false, true },
	{ "WRITEV", FASTIO_OP_WRITEV, F_FILE, FASTIO_SQE_SLOT | FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT, false, true },
	{ "POLL", FASTIO_OP_POLL, F_FD | F_OP_FLAGS, 0, false, true },
	{ "CLOSE", FASTIO_OP_CLOSE, F_FD, 0, false, true },
	{ "OPENAT", FASTIO_OP_OPENAT, F_FD | F_ADDR | F_OP_FLAGS | F_LEN, 0, false, false },
	{ "FSYNC", FASTIO_OP_FSYNC, F_FD | F_OP_FLAGS | F_OFF | F_LEN, 0, false, true },
	{ "SENDFILE", FASTIO_OP_SENDFILE, F_FD | F_FD2 | F_OFF | F_LEN, 0, false, true },
	{ "TIMEOUT", FASTIO_OP_TIMEOUT, F_OFF | F_OP_FLAGS, 0, false, false },
	{ "CANCEL", FASTIO_OP_CANCEL, F_ADDR | F_OP_FLAGS, 0, false, false },
	{ "FILE_REGISTER", FASTIO_OP_FILE_REGISTER, F_FD, 0, false, true },
	{ "FILE_UNREGISTER", FASTIO_OP_FILE_UNREGISTER, F_FD, 0, false, true },
};

static const struct { const char *name; unsigned int field; size_t offset; size_t bytes; } fields[] = {
#define SQE_FIELD(bit_, member_) { #member_, bit_, offsetof(struct fastio_sqe, member_), \
				   sizeof(((struct fastio_sqe *)0)->member_) }
	SQE_FIELD(F_FD, fd), SQE_FIELD(F_ADDR, addr), SQE_FIELD(F_LEN, len), SQE_FIELD(F_OP_FLAGS, op_flags),
	SQE_FIELD(F_OFF, off), SQE_FIELD(F_ADDR2, addr2), SQE_FIELD(F_LEN2, len2), SQE_FIELD(F_FD2, fd2),
	SQE_FIELD(F_BUF, buf), SQE_FIELD(0, resv),
};

static void serve(struct ctx *ctx)
{
	struct fastio_setup setup = ctx_defaults(1);

	ctx_open(ctx, &setup, SERVER_SLEEPING);
}

/* A connected socket is a descriptor that every opcode could use; a refused SQE must not touch it. */
static struct fastio_sqe blank(const struct opcode *op, int fd)
{
	return (struct fastio_sqe) { .opcode = op->opcode, .fd = op->fields & F_FD ? fd : 0 };
}

static void unused_fields(const void *arg)
{
	static const uint64_t values[] = { 1, 0x80, 0x8000000000000000, ~0ULL };
	const struct opcode *op = arg;
	struct ctx ctx;
	int pair[2];

	serve(&ctx);
	net_pair(pair);
	for (size_t f = 0; f < NR(fields); f++) {
		if (fields[f].field & op->fields)
			continue;
		for (size_t v = 0; v < NR(values); v++) {
			struct fastio_sqe sqe = blank(op, pair[0]);
			uint64_t value = values[v], cut = 0;

			memcpy((char *)&sqe + fields[f].offset, &value, fields[f].bytes);
			memcpy(&cut, &value, fields[f].bytes);
			if (cut)
				CHECK_EQ(op_run(&ctx, 0, sqe).res, -EINVAL, "%s %s = %#llx", op->name, fields[f].name,
					 (unsigned long long)cut);
		}
	}
	CHECK(fcntl(pair[0], F_GETFD) >= 0, "the descriptor is still open");
	ctx_close(&ctx);
}

static void bad_flags(const void *arg)
{
	const struct opcode *op = arg;
	struct ctx ctx;
	int pair[2];

	serve(&ctx);
	net_pair(pair);
	for (unsigned int bit = 0; bit < 8; bit++) {
		struct fastio_sqe sqe = blank(op, pair[0]);

		sqe.flags = 1U << bit;
		if (!(op->flags & sqe.flags))
			CHECK_EQ(op_run(&ctx, 0, sqe).res, -EINVAL, "%s flags %#x", op->name, sqe.flags);
		sqe.flags |= op->flags;
		if (!(op->flags & 1U << bit))
			CHECK_EQ(op_run(&ctx, 0, sqe).res, -EINVAL, "%s flags %#x", op->name, sqe.flags);
	}
	ctx_close(&ctx);
}

/* Bits of op_flags that no operation defines, each alone. */
static void bad_op_flags(const void *arg)
{
	static const struct { uint8_t opcode; uint32_t allowed; } masks[] = {
		{ FASTIO_OP_ACCEPT, SOCK_CLOEXEC | SOCK_NONBLOCK },
		{ FASTIO_OP_FSYNC, FASTIO_FSYNC_DATASYNC },
		{ FASTIO_OP_TIMEOUT, FASTIO_TIMEOUT_ABS },
		{ FASTIO_OP_CANCEL, FASTIO_CANCEL_ALL | FASTIO_CANCEL_FD },
		{ FASTIO_OP_POLL, 0x2007 },	/* POLLIN, POLLPRI, POLLOUT, POLLRDHUP */
	};
	struct ctx ctx;
	int pair[2];

	(void)arg;
	serve(&ctx);
	net_pair(pair);
	for (size_t i = 0; i < NR(masks); i++)
		for (unsigned int bit = 0; bit < 32; bit++) {
			bool has_fd = masks[i].opcode != FASTIO_OP_TIMEOUT && masks[i].opcode != FASTIO_OP_CANCEL;
			struct fastio_sqe sqe = { .opcode = masks[i].opcode, .fd = has_fd ? pair[0] : 0 };

			sqe.op_flags = 1U << bit;
			if (!(masks[i].allowed & sqe.op_flags))
				CHECK_EQ(op_run(&ctx, 0, sqe).res, -EINVAL, "opcode %u op_flags %#x", sqe.opcode,
					 sqe.op_flags);
		}
	ctx_close(&ctx);
}

static void bad_descriptors(const void *arg)
{
	const struct opcode *op = arg;
	static char memory[64];
	struct ctx ctx;
	int pipe_fds[2];

	serve(&ctx);
	NEED_EQ(pipe(pipe_fds), 0);
	for (unsigned int with_slot = 0; with_slot < 2; with_slot++) {
		const int bad[] = { -1, -100, 1000, 0x7fffffff, INT_MIN };
		struct fastio_sqe sqe = blank(op, 0);

		if (with_slot && !(op->flags & FASTIO_SQE_SLOT))
			continue;
		sqe.flags = with_slot ? FASTIO_SQE_SLOT : 0;
		if (op->fields & F_ADDR && op->opcode != FASTIO_OP_ACCEPT)
			sqe.addr = ADDR(memory);
		if (op->opcode == FASTIO_OP_FILE_UNREGISTER)
			continue;
		for (size_t i = 0; i < NR(bad); i++) {
			sqe.fd = bad[i];
			CHECK_EQ(op_run(&ctx, 0, sqe).res, -EBADF, "%s fd %d, slot %u", op->name, bad[i], with_slot);
		}
		sqe.fd = ctx.fd;
		CHECK_EQ(op_run(&ctx, 0, sqe).res, -EBADF, "%s of the device itself, slot %u", op->name, with_slot);
		sqe.fd = pipe_fds[0];
		if (op->needs_socket)
			CHECK_EQ(op_run(&ctx, 0, sqe).res, -ENOTSOCK, "%s of a pipe, slot %u", op->name, with_slot);
	}
	ctx_close(&ctx);
}

static void bad_opcodes(const void *arg)
{
	struct ctx ctx;

	(void)arg;
	serve(&ctx);
	for (unsigned int opcode = FASTIO_OP_LAST; opcode < 256; opcode++)
		CHECK_EQ(op_run(&ctx, 0, (struct fastio_sqe) { .opcode = opcode }).res, -EOPNOTSUPP, "opcode %u", opcode);
	ctx_close(&ctx);
}

/* Combinations that the table of single faults does not reach. */
static void bad_combinations(const void *arg)
{
	static char memory[64];
	const struct { const char *name; struct fastio_sqe sqe; long want; } cases[] = {
		{ "RECV MULTISHOT without BUF_SELECT", { .opcode = FASTIO_OP_RECV, .flags = FASTIO_SQE_MULTISHOT }, -EINVAL },
		{ "RECV BUF_SELECT with FIXED_BUF", { .opcode = FASTIO_OP_RECV,
		  .flags = FASTIO_SQE_BUF_SELECT | FASTIO_SQE_FIXED_BUF }, -EINVAL },
		{ "RECV BUF_SELECT with an address", { .opcode = FASTIO_OP_RECV, .flags = FASTIO_SQE_BUF_SELECT,
		  .addr = ADDR(memory), .len = 64 }, -EINVAL },
		{ "RECV BUF_SELECT of a group that is not there", { .opcode = FASTIO_OP_RECV,
		  .flags = FASTIO_SQE_BUF_SELECT, .buf = 7 }, -ENOENT },
		{ "RECV BUF_SELECT of a group out of range", { .opcode = FASTIO_OP_RECV,
		  .flags = FASTIO_SQE_BUF_SELECT, .buf = 0xffff }, -ENOENT },
		{ "RECV FIXED_BUF with none registered", { .opcode = FASTIO_OP_RECV,
		  .flags = FASTIO_SQE_FIXED_BUF, .addr = ADDR(memory), .len = 64 }, -EFAULT },
		{ "SEND FIXED_BUF with none registered", { .opcode = FASTIO_OP_SEND,
		  .flags = FASTIO_SQE_FIXED_BUF, .addr = ADDR(memory), .len = 64 }, -EFAULT },
		{ "ACCEPT MULTISHOT with an address", { .opcode = FASTIO_OP_ACCEPT, .flags = FASTIO_SQE_MULTISHOT,
		  .addr = ADDR(memory), .addr2 = ADDR(memory) }, -EINVAL },
		{ "SEND_RECV BUF_SELECT with an address", { .opcode = FASTIO_OP_SEND_RECV,
		  .flags = FASTIO_SQE_BUF_SELECT, .addr2 = ADDR(memory), .len2 = 64 }, -EINVAL },
		{ "RECV BUF_SELECT with MSG_WAITALL", { .opcode = FASTIO_OP_RECV, .flags = FASTIO_SQE_BUF_SELECT,
		  .op_flags = MSG_WAITALL }, -EINVAL },
		{ "RECV BUF_SELECT with MSG_PEEK", { .opcode = FASTIO_OP_RECV, .flags = FASTIO_SQE_BUF_SELECT,
		  .op_flags = MSG_PEEK }, -EINVAL },
		{ "READ ASYNC with NOWAIT", { .opcode = FASTIO_OP_READ, .flags = FASTIO_SQE_ASYNC | FASTIO_SQE_NOWAIT,
		  .addr = ADDR(memory), .len = 1, .off = FASTIO_OFF_CURRENT }, -EINVAL },
		{ "READV of 1025 vectors", { .opcode = FASTIO_OP_READV, .addr = ADDR(memory), .len = 1025,
		  .off = FASTIO_OFF_CURRENT }, -EINVAL },
		{ "WRITEV of 2^32 - 1 vectors", { .opcode = FASTIO_OP_WRITEV, .addr = ADDR(memory), .len = 0xffffffff,
		  .off = FASTIO_OFF_CURRENT }, -EINVAL },
	};
	struct ctx ctx;
	int pair[2];

	(void)arg;
	serve(&ctx);
	net_pair(pair);
	for (size_t i = 0; i < NR(cases); i++) {
		struct fastio_sqe sqe = cases[i].sqe;

		sqe.fd = pair[0];
		CHECK_EQ(op_run(&ctx, 0, sqe).res, cases[i].want, "%s", cases[i].name);
	}
	ctx_close(&ctx);
}

static const struct ktap_test others[] = {
	TEST("unknown opcodes give -EOPNOTSUPP", bad_opcodes),
	TEST("unknown bits of op_flags give -EINVAL", bad_op_flags),
	TEST("flags and fields that exclude each other are refused", bad_combinations),
};

int main(int argc, char **argv)
{
	static char names[3][NR(opcodes)][80];
	struct ktap_test tests[3 * NR(opcodes) + NR(others)];
	size_t nr = 0;

	for (size_t i = 0; i < NR(opcodes); i++) {
		const struct opcode *op = &opcodes[i];

		snprintf(names[0][i], 80, "%s: every field it does not use must be zero", op->name);
		tests[nr++] = (struct ktap_test) TEST(names[0][i], unused_fields, .arg = op);
		snprintf(names[1][i], 80, "%s: every flag it does not allow is refused", op->name);
		tests[nr++] = (struct ktap_test) TEST(names[1][i], bad_flags, .arg = op);
		if (!op->needs_file)
			continue;
		snprintf(names[2][i], 80, "%s: descriptors that are closed or of the wrong kind are refused", op->name);
		tests[nr++] = (struct ktap_test) TEST(names[2][i], bad_descriptors, .arg = op);
	}
	memcpy(tests + nr, others, sizeof(others));
	return ktap_main(tests, nr + NR(others), argc, argv);
}
