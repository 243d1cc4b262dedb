/* SPDX-License-Identifier: MIT */
/*
 * What a connection has received in provided buffers and has still to send back, for servers whose receives stay
 * armed. Buffers are the thread's, and few: a peer that does not read must not keep any.
 *
 * So a buffer is first sent by a request that does not wait. When the peer has not taken all of it, everything
 * is copied to memory of the connection ("unsent"), the buffers go back, and the copy is sent by a request that
 * waits as long as need be. What still arrives until the receive has stopped is copied, too.
 */
#ifndef ECHO_OUTBOX_H
#define ECHO_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_NONE 65535	       /* no buffer */
#define POOL_BUFFERS_MAX 32768 /* ids are 0..count - 1 */

#define OUTBOX_BUFFERS_MAX 16  /* a connection with so many waiting is paused; some more may come until then */

struct pool {
	char *bytes;
	size_t buffer_bytes;
	unsigned int count, free; /* free: those that a receive may take */
	struct pool_link {
		uint16_t next;
		uint32_t length;
	} *links;
	/* Hands a buffer to the receives again. */
	void (*provide)(struct pool *pool, char *bytes, unsigned int id);
};

struct outbox_bytes {
	char *at;
	size_t length, room;
};

struct outbox {
	uint16_t first, last;		  /* received buffers, in order */
	uint16_t queued;		  /* how many */
	uint32_t offset;		  /* what has gone of the first, or of unsent */
	struct outbox_bytes unsent;	  /* being sent */
	struct outbox_bytes unsent_next;  /* comes after it */
};

/* Sets @bytes, @links and @provide up and provides all buffers. Returns false when out of memory. */
bool pool_init(struct pool *pool, unsigned int count, size_t buffer_bytes,
	       void (*provide)(struct pool *pool, char *bytes, unsigned int id));
void pool_free(struct pool *pool);
/* A completion said that this buffer was taken; it is the connection's now. */
static inline void pool_taken(struct pool *pool)
{
	pool->free--;
}
void pool_give_back(struct pool *pool, unsigned int id);

void outbox_init(struct outbox *outbox);
/* @length bytes arrived in buffer @id, which was taken. Returns false when out of memory; the buffer is back then. */
bool outbox_add(struct outbox *outbox, struct pool *pool, unsigned int id, size_t length);
static inline bool outbox_is_empty(const struct outbox *outbox)
{
	return outbox->first == POOL_NONE && !outbox->unsent.at;
}
/* Whether so much waits to be sent that no more should be received for now. */
static inline bool outbox_is_full(const struct outbox *outbox)
{
	return outbox->queued >= OUTBOX_BUFFERS_MAX;
}
/* Whether the peer was too slow: sending may wait, and nothing more is to be received until all is sent. */
static inline bool outbox_is_stalled(const struct outbox *outbox)
{
	return outbox->unsent.at;
}
/* The bytes to send next of an outbox that is not empty. */
const char *outbox_next(const struct outbox *outbox, const struct pool *pool, size_t *length);

enum outbox_result {
	OUTBOX_PART,   /* stalled before: there is more of it to send */
	OUTBOX_DONE,   /* a buffer, or all that was unsent at one time, has gone */
	OUTBOX_STALLS, /* stalled now */
	OUTBOX_NO_MEMORY,
};
/* @sent bytes of those went. */
enum outbox_result outbox_sent(struct outbox *outbox, struct pool *pool, size_t sent);
/* Gives everything back. */
void outbox_drop(struct outbox *outbox, struct pool *pool);

#endif
