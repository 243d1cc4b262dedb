/* SPDX-License-Identifier: MIT */
/*
 * What the host and the guest's agent say to each other over one byte stream (a virtio-serial
 * port).
 *
 * Every message is a frame: a header of FRAME_HEADER bytes (u32 length of the payload, u8 type, u32
 * id; little endian, no padding) and the payload. An id names a command; the host chooses it and
 * may use it again once EXIT was said. vm/channel/frame.ts holds the same numbers, and a test
 * compares the two files.
 *
 * Flow control: a sender may have as many bytes of a stream under way as it holds credit for; the
 * reader hands out more as it consumes. So nobody buffers without bound and a reader that stalls
 * stops only its own command.
 *
 * A connection starts with HELLO. The agent reads and drops bytes until it sees a whole one (a
 * header that says HELLO, followed by FRAME_MAGIC), kills the commands of whoever was connected
 * before, and answers with the nonce it was sent; the host drops everything before that answer. So
 * neither side ever acts on what was left in the pipe by an earlier connection.
 */
#ifndef FASTIO_GUEST_PROTOCOL_H
#define FASTIO_GUEST_PROTOCOL_H

#define PROTOCOL_VERSION 1
/* Bytes of a frame's header. */
#define FRAME_HEADER 9
/* The longest payload either side accepts, in bytes. */
#define FRAME_PAYLOAD_MAX 65536
#define FRAME_MAGIC "\x8f" "fastio guest\r\n\x00"
#define FRAME_MAGIC_BYTES 16
#define FRAME_NONCE_BYTES 16

/* Commands that may run at the same time. */
#define COMMANDS_MAX 256
/* Bytes of a command's stdin that the host may send before it is handed more credit. */
#define STDIN_CREDIT 131072
/* The most output credit a command may hold, in bytes. */
#define OUTPUT_CREDIT_MAX (64 * 1024 * 1024)

enum frame_type {
	/* Host to agent. */

	/* magic, u32 version, nonce */
	FRAME_HELLO = 1,
	/*
	 * u32 flags, u32 credit of stdout, u32 credit of stderr, u16 argc, u16 envc, then
	 * NUL-terminated: directory ("" is /), argc arguments, envc NAME=value
	 */
	FRAME_EXEC = 2,
	/* bytes, within the credit */
	FRAME_STDIN = 3,
	/* nothing */
	FRAME_STDIN_EOF = 4,
	/* u8 stream (0 stdin, 1 stdout, 2 stderr), u32 bytes; in both directions */
	FRAME_CREDIT = 5,
	/* u32 signal number, sent to the command's process group */
	FRAME_SIGNAL = 6,
	/* nothing; answered with PONG of the same id */
	FRAME_PING = 7,
	/* u64 seconds, u32 nanoseconds of CLOCK_REALTIME, random bytes; answered with DONE */
	FRAME_RESUMED = 8,
	/* nothing; answered with DONE, then the guest goes down */
	FRAME_POWEROFF = 9,

	/* Agent to host. */

	/* magic, nonce, u32 version, then NUL-terminated: release, machine, boot id */
	FRAME_WELCOME = 65,
	/* bytes, within the credit */
	FRAME_STDOUT = 66,
	/* bytes, within the credit */
	FRAME_STDERR = 67,
	/* u32 enum exit_kind, u32 value, text; the last frame of an id */
	FRAME_EXIT = 68,
	/* nothing */
	FRAME_PONG = 69,
	/* u32 errno, 0 when it worked */
	FRAME_DONE = 70,
	/* text: the host broke the protocol; the agent then waits for a new HELLO */
	FRAME_REFUSED = 71,
};

/* Flags of EXEC. */
enum exec_flag {
	EXEC_STDIN = 1, /* stdin is a pipe fed by STDIN frames; without it, /dev/null */
};

enum exit_kind {
	EXIT_STATUS = 0,   /* value is the exit status */
	EXIT_SIGNALLED = 1, /* value is the signal's number */
	EXIT_NOT_RUN = 2,  /* value is an errno; the text says which step failed */
};

#endif
