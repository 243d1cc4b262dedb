/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "outbox.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static char *buffer_at(const struct pool *pool, unsigned int id)
{
	return pool->bytes + id * pool->buffer_bytes;
}

void pool_give_back(struct pool *pool, unsigned int id)
{
	pool->free++;
	pool->provide(pool, buffer_at(pool, id), id);
}

bool pool_init(struct pool *pool, unsigned int count, size_t buffer_bytes,
	       void (*provide)(struct pool *pool, char *bytes, unsigned int id))
{
	pool->count = count;
	pool->free = 0;
	pool->buffer_bytes = buffer_bytes;
	pool->provide = provide;
	pool->links = calloc(count, sizeof(*pool->links));
	pool->bytes = mmap(NULL, count * buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!pool->links || pool->bytes == MAP_FAILED)
		return false;
	for (unsigned int id = 0; id < count; id++)
		pool_give_back(pool, id);
	return true;
}

void pool_free(struct pool *pool)
{
	munmap(pool->bytes, pool->count * pool->buffer_bytes);
	free(pool->links);
}

void outbox_init(struct outbox *outbox)
{
	*outbox = (struct outbox){ .first = POOL_NONE, .last = POOL_NONE };
}

static bool append(struct outbox_bytes *bytes, const char *more, size_t length)
{
	if (bytes->room < bytes->length + length) {
		size_t room = bytes->room * 2 > bytes->length + length ? bytes->room * 2 : bytes->length + length;
		char *grown = realloc(bytes->at, room);

		if (!grown)
			return false;
		bytes->at = grown;
		bytes->room = room;
	}
	memcpy(bytes->at + bytes->length, more, length);
	bytes->length += length;
	return true;
}

static unsigned int take_first(struct outbox *outbox, const struct pool *pool)
{
	unsigned int id = outbox->first;

	outbox->first = pool->links[id].next;
	if (outbox->first == POOL_NONE)
		outbox->last = POOL_NONE;
	outbox->queued--;
	outbox->offset = 0;
	return id;
}

bool outbox_add(struct outbox *outbox, struct pool *pool, unsigned int id, size_t length)
{
	bool added;

	if (outbox->unsent.at) {
		/* Not to what is being sent: that must stay where it is. */
		added = append(&outbox->unsent_next, buffer_at(pool, id), length);
		pool_give_back(pool, id);
		return added;
	}
	pool->links[id] = (struct pool_link){ POOL_NONE, (uint32_t)length };
	if (outbox->last == POOL_NONE)
		outbox->first = (uint16_t)id;
	else
		pool->links[outbox->last].next = (uint16_t)id;
	outbox->last = (uint16_t)id;
	outbox->queued++;
	return true;
}

const char *outbox_next(const struct outbox *outbox, const struct pool *pool, size_t *length)
{
	if (outbox->unsent.at) {
		*length = outbox->unsent.length - outbox->offset;
		return outbox->unsent.at + outbox->offset;
	}
	*length = pool->links[outbox->first].length - outbox->offset;
	return buffer_at(pool, outbox->first) + outbox->offset;
}

static enum outbox_result stall(struct outbox *outbox, struct pool *pool)
{
	uint32_t offset = outbox->offset;
	size_t length = 0;
	bool added = true;

	for (unsigned int id = outbox->first; id != POOL_NONE; id = pool->links[id].next)
		length += pool->links[id].length;
	/* Once for all of it; without memory, append() tries and says so. */
	outbox->unsent.at = malloc(length);
	outbox->unsent.room = outbox->unsent.at ? length : 0;
	while (outbox->first != POOL_NONE) {
		unsigned int id = take_first(outbox, pool);

		added = added && append(&outbox->unsent, buffer_at(pool, id) + offset, pool->links[id].length - offset);
		pool_give_back(pool, id);
		offset = 0;
	}
	return added ? OUTBOX_STALLS : OUTBOX_NO_MEMORY;
}

enum outbox_result outbox_sent(struct outbox *outbox, struct pool *pool, size_t sent)
{
	outbox->offset += (uint32_t)sent;
	if (!outbox->unsent.at) {
		if (outbox->offset < pool->links[outbox->first].length)
			return stall(outbox, pool);
		pool_give_back(pool, take_first(outbox, pool));
		return OUTBOX_DONE;
	}
	if (outbox->offset < outbox->unsent.length)
		return OUTBOX_PART;
	free(outbox->unsent.at);
	outbox->unsent = outbox->unsent_next;
	outbox->unsent_next = (struct outbox_bytes){ 0 };
	outbox->offset = 0;
	return OUTBOX_DONE;
}

void outbox_drop(struct outbox *outbox, struct pool *pool)
{
	while (outbox->first != POOL_NONE)
		pool_give_back(pool, take_first(outbox, pool));
	free(outbox->unsent.at);
	free(outbox->unsent_next.at);
	outbox_init(outbox);
}
