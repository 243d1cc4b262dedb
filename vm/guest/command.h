/* SPDX-License-Identifier: MIT */
/*
 * What the two halves of the agent know of each other: command.c runs commands, agent.c talks to
 * the host.
 */
#ifndef FASTIO_GUEST_COMMAND_H
#define FASTIO_GUEST_COMMAND_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of output taken from a command at a time, so that commands take turns. */
#define READ_CHUNK 16384
/* Entries that poll_commands() may fill: stdin, stdout and stderr of each command. */
#define COMMAND_POLLS (3 * COMMANDS_MAX)

static inline void put_u16(uint8_t *at, uint16_t value)
{
	at[0] = value & 0xff;
	at[1] = value >> 8;
}

static inline void put_u32(uint8_t *at, uint32_t value)
{
	put_u16(at, value & 0xffff);
	put_u16(at + 2, value >> 16);
}

static inline uint32_t get_u16(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8;
}

static inline uint32_t get_u32(const uint8_t *at)
{
	return get_u16(at) | get_u16(at + 2) << 16;
}

/* --- agent.c: the queue of frames to the host. --- */

/*
 * Is there room for a frame with this payload? Output must leave the last SMALL_RESERVE bytes to
 * small frames.
 */
bool has_room(size_t payload, bool small);
/* Where the next frame's payload goes; the caller has asked has_room() for @payload. */
uint8_t *payload_room(size_t payload);
/* Queues the frame whose payload was written to payload_room(). */
void commit_frame(uint8_t type, uint32_t id, uint32_t payload);
/* Queues a whole small frame; false when there is no room. */
bool send_frame(uint8_t type, uint32_t id, const void *payload, size_t bytes);

/* --- command.c: the commands of the connected host. --- */

struct command;

/* The command with this id, or NULL. */
struct command *find_command(uint32_t id);
/* These handle one frame each and return NULL, or what is wrong with it. */
const char *handle_exec(uint32_t id, const uint8_t *at, size_t bytes);
const char *handle_stdin(struct command *command, const uint8_t *bytes, size_t length);
const char *handle_credit(struct command *command, unsigned int stream, uint32_t bytes);
void handle_stdin_eof(struct command *command);
/* Sends @number to the command's process group, unless it has ended. */
void signal_command(struct command *command, int number);
/* Kills and forgets every command. */
void kill_commands(void);
/* Collects every child that has ended. */
void reap_children(void);
/* Fills @polls, which has COMMAND_POLLS entries, with what commands wait for; returns how many. */
unsigned int poll_commands(struct pollfd *polls);
/*
 * Moves input and output of every command, each in turn, and says EXIT for those that have ended.
 */
void run_commands(void);

#endif
