/* SPDX-License-Identifier: MIT */
#include "protocol.h"
#include "pattern.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* mixed: requests from one SET to the next. */
#define MIXED_PERIOD 11
/* mset: keys of one request, as redis-benchmark has it. */
#define MSET_KEYS 10
#define END_BYTES 2

const char *const protocol_names[] = { "echo", "ping", "get", "set", "incr", "lpush", "mset", "mixed", NULL };

__attribute__((format(printf, 3, 4))) static void shape_text(struct shape *shape, bool ends, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	shape->text_bytes = (uint32_t)vsnprintf(shape->text, sizeof(shape->text), format, arguments);
	va_end(arguments);
	shape->message_bytes = 0;
	shape->ends = ends;
	shape->times = 1;
}

static void shape_message(struct shape *shape, uint64_t key, uint32_t bytes)
{
	shape->key = key;
	shape->message_bytes = bytes;
}

/* A message and nothing else; without printf(), which would cost more than all the rest of a small request. */
static void shape_bare(struct shape *shape, uint64_t key, uint32_t bytes)
{
	shape->text_bytes = 0;
	shape->ends = false;
	shape->times = 1;
	shape_message(shape, key, bytes);
}

/* "*<words>", the command, and the connection's key. */
static void command(struct shape *shape, unsigned int words, const char *name, uint32_t id, const char *rest)
{
	shape_text(shape, false, "*%u\r\n$%zu\r\n%s\r\n$15\r\nfastio:%08x\r\n%s", words, strlen(name), name, id, rest);
}

static void with_value(struct shape *shape, const char *name, uint32_t id, uint64_t key, uint32_t bytes)
{
	char rest[24];

	snprintf(rest, sizeof(rest), "$%u\r\n", bytes);
	command(shape, 3, name, id, rest);
	shape_message(shape, key, bytes);
	shape->ends = true;
}

static void set(struct exchange *exchange, uint32_t id, uint64_t key, uint32_t bytes)
{
	with_value(&exchange->request, "SET", id, key, bytes);
	shape_text(&exchange->reply, false, "+OK\r\n");
}

static void get(struct exchange *exchange, uint32_t id, uint64_t key, uint32_t bytes)
{
	command(&exchange->request, 2, "GET", id, "");
	shape_text(&exchange->reply, true, "$%u\r\n", bytes);
	shape_message(&exchange->reply, key, bytes);
}

/* The last key gets the message, the others a byte. */
static void mset(struct exchange *exchange, uint32_t id, uint64_t key, uint32_t bytes)
{
	struct shape *request = &exchange->request;
	char pair[40];
	int length;

	shape_text(request, true, "*%u\r\n$4\r\nMSET\r\n", 1 + 2 * MSET_KEYS);
	length = snprintf(pair, sizeof(pair), "$17\r\nfastio:%08x:0\r\n$1\r\n-\r\n", id);
	for (unsigned int i = 0; i < MSET_KEYS - 1; i++) {
		memcpy(request->text + request->text_bytes, pair, (size_t)length);
		request->text[request->text_bytes + sizeof("$17\r\nfastio:00000000:") - 1] = (char)('1' + i);
		request->text_bytes += (uint32_t)length;
	}
	request->text_bytes += (uint32_t)snprintf(request->text + request->text_bytes,
						  sizeof(request->text) - request->text_bytes,
						  "$15\r\nfastio:%08x\r\n$%u\r\n", id, bytes);
	shape_message(request, key, bytes);
	shape_text(&exchange->reply, false, "+OK\r\n");
}

bool protocol_can_pipeline(enum protocol protocol)
{
	return protocol == PROTOCOL_PING || protocol == PROTOCOL_GET || protocol == PROTOCOL_SET ||
	       protocol == PROTOCOL_MSET;
}

void protocol_exchange(enum protocol protocol, struct exchange *exchange, uint64_t seed, uint32_t id, uint64_t sequence,
		       uint32_t message_bytes, uint32_t times)
{
	uint64_t key = pattern_key(seed, id, sequence);
	uint64_t last_set = sequence - sequence % MIXED_PERIOD;

	switch (protocol) {
	case PROTOCOL_ECHO:
		shape_bare(&exchange->request, key, message_bytes);
		shape_bare(&exchange->reply, key, message_bytes);
		break;
	case PROTOCOL_PING:
		shape_text(&exchange->request, true, "*2\r\n$4\r\nPING\r\n$%u\r\n", message_bytes);
		shape_message(&exchange->request, key, message_bytes);
		shape_text(&exchange->reply, true, "$%u\r\n", message_bytes);
		shape_message(&exchange->reply, key, message_bytes);
		break;
	case PROTOCOL_GET:
		get(exchange, id, pattern_key(seed, id, 0), message_bytes);
		break;
	case PROTOCOL_SET:
		set(exchange, id, key, message_bytes);
		break;
	case PROTOCOL_MIXED:
		if (sequence == last_set)
			set(exchange, id, key, message_bytes);
		else
			get(exchange, id, pattern_key(seed, id, last_set), message_bytes);
		break;
	case PROTOCOL_INCR:
		command(&exchange->request, 2, "INCR", id, "");
		shape_text(&exchange->reply, false, ":%llu\r\n", (unsigned long long)sequence + 1);
		break;
	case PROTOCOL_MSET:
		mset(exchange, id, key, message_bytes);
		break;
	case PROTOCOL_LPUSH:
		with_value(&exchange->request, "LPUSH", id, key, message_bytes);
		shape_text(&exchange->reply, false, ":%llu\r\n", (unsigned long long)sequence + 1);
		break;
	}
	exchange->request.times = exchange->reply.times = times;
}

bool protocol_preparation(enum protocol protocol, unsigned int step, struct exchange *exchange, uint64_t seed,
			  uint32_t id, uint32_t message_bytes)
{
	if (protocol == PROTOCOL_ECHO || protocol == PROTOCOL_PING || step > 1)
		return false;
	if (!step) {
		/* Whatever an earlier run left: afterwards a list, a number or a value can be made of it. */
		set(exchange, id, pattern_key(seed, id, 0), message_bytes);
		return true;
	}
	if (protocol == PROTOCOL_GET)
		return false;
	command(&exchange->request, 2, "DEL", id, "");
	shape_text(&exchange->reply, false, ":1\r\n");
	return true;
}

static size_t once_bytes(const struct shape *shape)
{
	return shape->text_bytes + shape->message_bytes + (shape->ends ? END_BYTES : 0);
}

size_t shape_bytes(const struct shape *shape)
{
	return once_bytes(shape) * shape->times;
}

/* The part of [offset, offset + length) that lies in [from, from + bytes): where in it, and how much. */
static size_t part(size_t offset, size_t length, size_t from, size_t bytes, size_t *within)
{
	size_t end = from + bytes;

	*within = offset > from ? offset - from : 0;
	if (offset >= end || offset + length <= from)
		return 0;
	return (offset + length < end ? offset + length : end) - (from + *within);
}

static void fill_once(unsigned char *bytes, const struct shape *shape, size_t offset, size_t length)
{
	size_t within, count;

	count = part(offset, length, 0, shape->text_bytes, &within);
	memcpy(bytes, shape->text + within, count);
	bytes += count;
	count = part(offset, length, shape->text_bytes, shape->message_bytes, &within);
	pattern_fill(bytes, shape->key, within, count);
	bytes += count;
	count = part(offset, length, shape->text_bytes + shape->message_bytes, shape->ends ? END_BYTES : 0, &within);
	memcpy(bytes, "\r\n" + within, count);
}

static size_t text_check(const unsigned char *bytes, const char *text, size_t length)
{
	size_t good = 0;

	while (good < length && bytes[good] == (unsigned char)text[good])
		good++;
	return good;
}

static size_t check_once(const unsigned char *bytes, const struct shape *shape, size_t offset, size_t length)
{
	size_t within, count, good, done;

	count = part(offset, length, 0, shape->text_bytes, &within);
	done = text_check(bytes, shape->text + within, count);
	if (done < count)
		return done;
	count = part(offset, length, shape->text_bytes, shape->message_bytes, &within);
	good = pattern_check(bytes + done, shape->key, within, count);
	done += good;
	if (good < count)
		return done;
	count = part(offset, length, shape->text_bytes + shape->message_bytes, shape->ends ? END_BYTES : 0, &within);
	return done + text_check(bytes + done, "\r\n" + within, count);
}

/* What of [offset, offset + length) lies in the repetition that holds @offset. */
static size_t in_one(const struct shape *shape, size_t offset, size_t length)
{
	size_t left = once_bytes(shape) - offset % once_bytes(shape);

	return left < length ? left : length;
}

void shape_fill(unsigned char *bytes, const struct shape *shape, size_t offset, size_t length)
{
	for (size_t done = 0, count; done < length; done += count) {
		count = in_one(shape, offset + done, length - done);
		fill_once(bytes + done, shape, (offset + done) % once_bytes(shape), count);
	}
}

size_t shape_check(const unsigned char *bytes, const struct shape *shape, size_t offset, size_t length)
{
	for (size_t done = 0, count; done < length; done += count) {
		size_t good;

		count = in_one(shape, offset + done, length - done);
		good = check_once(bytes + done, shape, (offset + done) % once_bytes(shape), count);
		if (good < count)
			return done + good;
	}
	return length;
}
