// SPDX-License-Identifier: MIT
/*
 * Taking SQEs and posting CQEs. A request is taken only when there is room for its completion, and
 * keeps that room until it completes; a multishot posts more only into room that nobody has. So the
 * CQ cannot overflow.
 */
#include "user.h"

static uint32_t unreaped(const struct user_ring *ring)
{
	uint32_t count = ring->cq_tail - __atomic_load_n(&ring->head->cq_head, __ATOMIC_SEQ_CST);

	return count < ring->cq_entries ? count : ring->cq_entries;
}

bool fio_has_room(const struct user_ring *ring)
{
	return unreaped(ring) + ring->in_flight < ring->cq_entries;
}

bool fio_sq_waits(const struct user_ring *ring)
{
	/*
	 * After the flags were set: the last look before sleep must not be older. Pairs with
	 * fastio_submit().
	 */
	return __atomic_load_n(&ring->head->sq_tail, __ATOMIC_SEQ_CST) != ring->sq_head;
}

bool fio_sq_has_work(const struct user_ring *ring)
{
	return fio_sq_waits(ring) && fio_has_room(ring);
}

/* Copies the next SQE, or returns NULL when there is none or no room for its completion. */
struct user_req *fio_take(struct user_ring *ring)
{
	struct user_req *req;

	if (!fio_sq_has_work(ring))
		return NULL;
	req = ring->free_req;
	ring->free_req = req->next;
	req->sqe = ring->sqes[ring->sq_head & (ring->sq_entries - 1)];
	__atomic_store_n(&ring->head->sq_head, ++ring->sq_head, __ATOMIC_RELEASE);
	req->state = USER_RUNNING;
	req->cqe_flags = 0;
	req->done = 0;
	req->sent = false;
	req->next = NULL;
	req->newer = NULL;
	req->older = ring->newest;
	if (ring->newest)
		ring->newest->newer = req;
	else
		ring->oldest = req;
	ring->newest = req;
	ring->in_flight++;
	fio_count(&ring->stats.submitted, 1);
	return req;
}

static void post(struct user_ring *ring, const struct user_req *req, int res, uint32_t cqe_flags)
{
	struct fastio_cqe *cqe = &ring->cqes[ring->cq_tail++ & (ring->cq_entries - 1)];

	cqe->user_data = req->sqe.user_data;
	cqe->res = res;
	cqe->flags = cqe_flags;
	fio_count(&ring->stats.completed, 1);
}

/* The last completion of a request, which is then free. It must be in no list. */
void fio_complete(struct user_req *req, int res, uint32_t cqe_flags)
{
	struct user_ring *ring = req->ring;

	post(ring, req, res, cqe_flags);
	if (req->older)
		req->older->newer = req->newer;
	else
		ring->oldest = req->newer;
	if (req->newer)
		req->newer->older = req->older;
	else
		ring->newest = req->older;
	req->state = USER_FREE;
	req->next = ring->free_req;
	ring->free_req = req;
	ring->in_flight--;
}

/* A completion of a multishot that goes on. There must be room. */
void fio_post_more(struct user_req *req, int res, uint32_t cqe_flags)
{
	post(req->ring, req, res, cqe_flags | FASTIO_CQE_MORE);
	fio_count(&req->ring->stats.multishot, 1);
}

/* Makes completions visible to the program, and wakes it if it sleeps. */
void fio_publish(struct user_ring *ring)
{
	if (ring->cq_published == ring->cq_tail)
		return;
	ring->cq_published = ring->cq_tail;
	__atomic_store_n(&ring->head->cq_tail, ring->cq_tail, __ATOMIC_SEQ_CST);
	fio_tell(ring->context);
}
