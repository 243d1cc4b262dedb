// SPDX-License-Identifier: MIT
/* The bytes that a flow keeps, and the memory under large ones. Used by the main thread only. */
#include <stdlib.h>
#include <string.h>

#include "flow.h"

/* Buffers begin with this and double. */
#define BYTES_MIN 512
/* Sizes of large buffers that are kept for the next flow that needs one, and their bytes at most. */
#define POOL_SIZES 6
#define POOL_BYTES_MAX (4u << 20)

/* A buffer that nobody uses. */
struct pooled {
	struct pooled *after;
};

/*
 * Large buffers that were freed last. The C library would give their pages back to the system, and every large reply
 * would fault them in again.
 */
static struct {
	struct pooled *first[POOL_SIZES];
	size_t bytes;
} pool;

/* The place in the pool of buffers of a capacity, or -1. */
static int pool_place(uint32_t capacity)
{
	if (capacity <= FLOW_BYTES_KEPT || capacity > (uint32_t)FLOW_BYTES_KEPT << POOL_SIZES)
		return -1;
	return __builtin_ctz(capacity) - __builtin_ctz(FLOW_BYTES_KEPT) - 1;
}

static char *pool_take(uint32_t capacity)
{
	int place = pool_place(capacity);
	struct pooled *found = place < 0 ? NULL : pool.first[place];

	if (!found)
		return malloc(capacity);
	pool.first[place] = found->after;
	pool.bytes -= capacity;
	return (char *)found;
}

static void pool_give(char *at, uint32_t capacity)
{
	int place = pool_place(capacity);
	struct pooled *given = (struct pooled *)(void *)at;

	if (place < 0 || pool.bytes + capacity > POOL_BYTES_MAX) {
		free(at);
		return;
	}
	given->after = pool.first[place];
	pool.first[place] = given;
	pool.bytes += capacity;
}

/** flow_pool_empty - gives the memory back that is kept for the next large buffers */
void flow_pool_empty(void)
{
	for (int place = 0; place < POOL_SIZES; place++) {
		struct pooled *given;

		while ((given = pool.first[place])) {
			pool.first[place] = given->after;
			free(given);
		}
	}
	pool.bytes = 0;
}

/** flow_bytes_reserve - makes room for @length bytes, those that are there included. Returns false without memory. */
bool flow_bytes_reserve(struct flow_bytes *bytes, size_t length)
{
	size_t capacity = bytes->capacity ? bytes->capacity : BYTES_MIN;
	char *grown;

	if (length <= bytes->capacity)
		return true;
	while (capacity < length)
		capacity *= 2;
	grown = pool_take((uint32_t)capacity);
	if (!grown)
		return false;
	if (bytes->at) {
		memcpy(grown, bytes->at, bytes->length);
		pool_give(bytes->at, bytes->capacity);
	}
	bytes->at = grown;
	bytes->capacity = (uint32_t)capacity;
	return true;
}

/** flow_bytes_release - the memory is another flow's to use */
void flow_bytes_release(struct flow_bytes *bytes)
{
	if (bytes->at)
		pool_give(bytes->at, bytes->capacity);
	*bytes = (struct flow_bytes){ NULL, 0, 0 };
}
