/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a message: different for every connection and every message of it, so that an echo of another
 * connection's bytes, of an earlier message, or of the right bytes at a wrong place is always noticed.
 *
 * Message (connection c, sequence s) of a run with seed r has the key k = mix(r ^ (c << 40 | s)); its 64-bit
 * little-endian word j is k + j * PATTERN_STEP. mix() is a bijection, so the bytes also tell where they belong.
 */
#ifndef LOAD_PATTERN_H
#define LOAD_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_SEQUENCE_BITS 40
#define PATTERN_CONNECTIONS_MAX (1u << 24)

/* @connection below PATTERN_CONNECTIONS_MAX, @sequence below 2^PATTERN_SEQUENCE_BITS. */
uint64_t pattern_key(uint64_t seed, uint32_t connection, uint64_t sequence);

/* Writes bytes @offset to @offset + @length of the message with this key. */
void pattern_fill(unsigned char *bytes, uint64_t key, size_t offset, size_t length);

/* Returns how many of @length bytes are right: the index of the first wrong one, or @length. */
size_t pattern_check(const unsigned char *bytes, uint64_t key, size_t offset, size_t length);

/*
 * Finds out which message of this run @length bytes come from, if they stand at the same @offset in it.
 * Needs eight bytes from a multiple of eight on; returns false when there are none or they belong nowhere.
 */
bool pattern_origin(const unsigned char *bytes, uint64_t seed, size_t offset, size_t length, uint32_t connections,
		    uint32_t *connection, uint64_t *sequence);

#endif
