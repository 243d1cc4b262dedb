// SPDX-License-Identifier: MIT
/* The wq threads: what would block is done by them, and comes back to the ring it belongs to. */
#include <errno.h>

#include "user.h"

/* Hands a request to the wq threads. */
void fio_punt(struct user_req *req)
{
	struct user_context *context = req->ring->context;

	if (!context->priv->params.wq_workers) {
		fio_complete(req, -EOPNOTSUPP, 0);
		return;
	}
	req->io_fd = fio_io_fd(req->ring, req->sqe.fd);
	req->state = USER_PUNTED;
	req->wq_begun = false;
	req->ring->wq_out++;
	fio_count(&req->ring->stats.punted, 1);
	pthread_mutex_lock(&context->wq_lock);
	user_list_add(&context->wq_list, req);
	pthread_cond_signal(&context->wq_more);
	pthread_mutex_unlock(&context->wq_lock);
}

/* Takes a request back. Returns false if a wq thread has begun with it. */
bool fio_unpunt(struct user_req *req)
{
	struct user_context *context = req->ring->context;
	bool back;

	pthread_mutex_lock(&context->wq_lock);
	back = !req->wq_begun && user_list_remove(&context->wq_list, req);
	pthread_mutex_unlock(&context->wq_lock);
	if (!back)
		return false;
	req->state = USER_RUNNING;
	req->ring->wq_out--;
	return true;
}

/* Completes what came back. Returns how many. */
unsigned int fio_wq_reap(struct user_ring *ring)
{
	struct user_list done;
	struct user_req *req;
	unsigned int count = 0;

	if (!__atomic_load_n(&ring->wq_any_done, __ATOMIC_ACQUIRE))
		return 0;
	pthread_mutex_lock(&ring->context->wq_lock);
	done = ring->wq_done;
	ring->wq_done = (struct user_list){ NULL, NULL };
	__atomic_store_n(&ring->wq_any_done, 0, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&ring->context->wq_lock);
	while ((req = user_list_take(&done))) {
		ring->wq_out--;
		fio_complete(req, req->res, 0);
		count++;
	}
	return count;
}

static void give_back(struct user_context *context, struct user_req *req)
{
	struct user_ring *ring = req->ring;

	pthread_mutex_lock(&context->wq_lock);
	user_list_add(&ring->wq_done, req);
	__atomic_store_n(&ring->wq_any_done, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&context->wq_lock);
	fio_kick(ring);
}

/* Waits for work. Returns NULL when there will be none. */
static struct user_req *next_request(struct user_context *context)
{
	struct user_req *req = NULL;

	pthread_mutex_lock(&context->wq_lock);
	while (!__atomic_load_n(&context->priv->stopping, __ATOMIC_ACQUIRE) &&
	       !(req = user_list_take(&context->wq_list)))
		pthread_cond_wait(&context->wq_more, &context->wq_lock);
	if (req)
		req->wq_begun = true;
	pthread_mutex_unlock(&context->wq_lock);
	return req;
}

/*
 * The body of a wq thread. It sleeps rather than polls: a program that waits for a disk does not
 * notice.
 */
int fio_wq_worker(struct user_context *context, unsigned int index)
{
	char *copy_buffer = context->wq_buffer + (size_t)index * USER_COPY_BYTES;
	struct user_req *req;

	while ((req = next_request(context))) {
		req->res = fio_blocking(req, copy_buffer);
		give_back(context, req);
	}
	return -ESHUTDOWN;
}
