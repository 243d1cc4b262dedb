/* SPDX-License-Identifier: MIT */
#include "pattern.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the pattern is defined in little-endian words"
#endif

#define STEP 0x9e3779b97f4a7c15u /* odd, and changes every byte of the word */
#define WORD sizeof(uint64_t)

/* The finalizer of splitmix64: each step can be undone. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	x ^= x >> 31;
	return x;
}

static uint64_t unmix(uint64_t x)
{
	x ^= x >> 31 ^ x >> 62;
	x *= 0x319642b2d24d8ec3u;
	x ^= x >> 27 ^ x >> 54;
	x *= 0x96de1b173f119089u;
	x ^= x >> 30 ^ x >> 60;
	return x;
}

uint64_t pattern_key(uint64_t seed, uint32_t connection, uint64_t sequence)
{
	return mix(seed ^ ((uint64_t)connection << PATTERN_SEQUENCE_BITS | sequence));
}

/* The part of a word that begins at byte @offset of the message, at most up to the word's end. */
static size_t partial_word(size_t offset, size_t length)
{
	size_t rest = WORD - offset % WORD;

	return rest < length ? rest : length;
}

void pattern_fill(unsigned char *bytes, uint64_t key, size_t offset, size_t length)
{
	uint64_t word = key + offset / WORD * STEP;
	uint64_t shifted = word >> offset % WORD * 8;
	size_t done = 0;

	if (offset % WORD) {
		done = partial_word(offset, length);
		memcpy(bytes, &shifted, done);
		word += STEP;
	}
	for (; length - done >= WORD; done += WORD, word += STEP)
		memcpy(bytes + done, &word, WORD);
	memcpy(bytes + done, &word, length - done);
}

size_t pattern_check(const unsigned char *bytes, uint64_t key, size_t offset, size_t length)
{
	uint64_t word = key + offset / WORD * STEP, wrong = 0, found;
	size_t done = 0;

	/* Nearly always everything is right: look for a difference first, and where it is only then. */
	if (!(offset % WORD)) {
		for (; length - done >= WORD; done += WORD, word += STEP) {
			memcpy(&found, bytes + done, WORD);
			wrong |= found ^ word;
		}
	}
	if (wrong)
		done = 0;
	for (; done < length; done++) {
		size_t at = offset + done;
		uint64_t expected = key + at / WORD * STEP;

		if (bytes[done] != (unsigned char)(expected >> at % WORD * 8))
			return done;
	}
	return length;
}

bool pattern_origin(const unsigned char *bytes, uint64_t seed, size_t offset, size_t length, uint32_t connections,
		    uint32_t *connection, uint64_t *sequence)
{
	size_t skip = (WORD - offset % WORD) % WORD;
	uint64_t word, origin;

	if (length < skip + WORD)
		return false;
	memcpy(&word, bytes + skip, WORD);
	origin = unmix(word - (offset + skip) / WORD * STEP) ^ seed;
	*connection = (uint32_t)(origin >> PATTERN_SEQUENCE_BITS);
	*sequence = origin & ((1ull << PATTERN_SEQUENCE_BITS) - 1);
	return *connection < connections;
}
