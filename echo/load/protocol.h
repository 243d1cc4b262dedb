/* SPDX-License-Identifier: MIT */
/*
 * What a request and its reply look like, byte for byte, in each protocol. Both are text, then bytes of the
 * pattern, then text, and known before the request is sent; so every byte that comes back can be checked.
 *
 *  - echo: the message, and the message.
 *  - RESP, the protocol of Redis and Valkey, one command a request: ping (PING with the message), get, set,
 *    incr, lpush, mset (ten keys, of which the last gets the message), and mixed (one SET, then ten GETs, and
 *    so on). Each connection has keys of its own, so its replies depend on nobody else.
 */
#ifndef LOAD_PROTOCOL_H
#define LOAD_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum protocol {
	PROTOCOL_ECHO,
	PROTOCOL_PING,
	PROTOCOL_GET,
	PROTOCOL_SET,
	PROTOCOL_INCR,
	PROTOCOL_LPUSH,
	PROTOCOL_MSET,
	PROTOCOL_MIXED,
};
extern const char *const protocol_names[];

/**
 * struct shape - the bytes of a request or a reply
 * @text: what stands before the message
 * @text_bytes: how much
 * @message_bytes: bytes of the pattern
 * @key: of the pattern
 * @ends: whether CR LF follows
 * @times: how often all of that, one after the other
 */
struct shape {
	char text[384];
	uint32_t text_bytes, message_bytes;
	uint64_t key;
	bool ends;
	uint32_t times;
};

struct exchange {
	struct shape request, reply;
};

/* Whether a command can be sent several times in a row with the same reply each time. */
bool protocol_can_pipeline(enum protocol protocol);

/*
 * Describes request @sequence of connection @id. @seed, @id, @sequence as for pattern_key(). @times: how many
 * commands go at once, 1 unless protocol_can_pipeline().
 */
void protocol_exchange(enum protocol protocol, struct exchange *exchange, uint64_t seed, uint32_t id, uint64_t sequence,
		       uint32_t message_bytes, uint32_t times);

/*
 * What has to be done once, @step by step from 0, before the first request of connection @id. Returns false when
 * there are no more steps.
 */
bool protocol_preparation(enum protocol protocol, unsigned int step, struct exchange *exchange, uint64_t seed,
			  uint32_t id, uint32_t message_bytes);

size_t shape_bytes(const struct shape *shape);
/* Writes bytes @offset to @offset + @length. */
void shape_fill(unsigned char *bytes, const struct shape *shape, size_t offset, size_t length);
/* Returns how many of @length bytes from @offset on are right: the index of the first wrong one, or @length. */
size_t shape_check(const unsigned char *bytes, const struct shape *shape, size_t offset, size_t length);

#endif
