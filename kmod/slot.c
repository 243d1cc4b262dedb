// SPDX-License-Identifier: GPL-2.0
/*
 * Waiting for files: hooks in their wait queues, and slots, which keep a file and its hooks from
 * operation to operation.
 */
#include <linux/file.h>
#include <linux/net.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include "internal.h"

#define FASTIO_POLL_RD \
	(EPOLLIN | EPOLLRDNORM | EPOLLRDBAND | EPOLLPRI | EPOLLRDHUP | EPOLLERR | EPOLLHUP)
#define FASTIO_POLL_WR	(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLERR | EPOLLHUP)

struct kmem_cache *fastio_slot_cache;

/* What bits of the state word poll events mean to a node. */
static int fastio_state_of(const struct fastio_node *node, __poll_t mask)
{
	int state = 0;

	if (node->events)
		return mask & (node->events | EPOLLERR | EPOLLHUP) ? FASTIO_RD : 0;
	if (mask & FASTIO_POLL_RD)
		state |= FASTIO_RD;
	if (mask & FASTIO_POLL_WR)
		state |= FASTIO_WR;
	return state;
}

/*
 * Called by the file, with the lock of its wait queue held and in any context. The node is safe
 * until that lock is dropped, since fastio_unhook() takes it.
 */
static int fastio_wake_fn(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct fastio_hook *hook = container_of(wait, struct fastio_hook, wait);
	struct fastio_node *node = hook->node;
	__poll_t mask = key_to_poll(key);
	int ready = mask ? fastio_state_of(node, mask) : FASTIO_RD | FASTIO_WR;
	bool gone = mask & POLLFREE;
	int old, new;

	if (unlikely(gone))
		ready = FASTIO_RD | FASTIO_WR;
	if (!ready)
		return 0;
	old = atomic_read(&node->state);
	do {
		new = old | ready;
		if (old & (ready << FASTIO_WANT))
			new |= FASTIO_QUEUED;
		/*
		 * Full barrier: the event first, then the bit. Pairs with the clearing in op.c,
		 * before an attempt.
		 */
	} while (!atomic_try_cmpxchg(&node->state, &old, new));
	if ((new & FASTIO_QUEUED) && !(old & FASTIO_QUEUED))
		fastio_kick(node);
	if (unlikely(gone)) {
		list_del_init(&wait->entry);
		/*
		 * Our last access. Pairs with the acquire in fastio_unhook(), which then leaves the
		 * queue alone.
		 */
		smp_store_release(&hook->head, NULL);
	}
	return 0;
}

/**
 * struct fastio_pt - a poll table that installs our hooks
 * @pt: what vfs_poll() sees
 * @node: whose hooks
 * @nr: hooks installed
 */
struct fastio_pt {
	poll_table		pt;
	struct fastio_node	*node;
	unsigned int		nr;
};

static void fastio_install(struct file *file, wait_queue_head_t *head, poll_table *pt)
{
	struct fastio_pt *fpt = container_of(pt, struct fastio_pt, pt);
	struct fastio_node *node = fpt->node;
	struct fastio_hook *hook;

	if (fpt->nr++ >= ARRAY_SIZE(node->hook))
		return;	/* fastio_hook() reports it */
	hook = &node->hook[fpt->nr - 1];
	hook->node = node;
	hook->head = head;
	init_waitqueue_func_entry(&hook->wait, fastio_wake_fn);
	add_wait_queue(head, &hook->wait);
}

/**
 * fastio_hook() - have a file wake a node whenever it becomes ready
 * @node: node without hooks; the caller serves its ring
 * @file: file, which must stay until fastio_unhook()
 * @events: poll events of interest
 *
 * What is ready already is added to the state of the node.
 *
 * Return: 0, or -EOPNOTSUPP if the file cannot tell.
 */
int fastio_hook(struct fastio_node *node, struct file *file, __poll_t events)
{
	struct fastio_pt fpt = { .node = node };
	__poll_t mask;
	int err = 0;

	if (!file_can_poll(file))
		return -EOPNOTSUPP;
	node->hook[0].head = NULL;
	node->hook[1].head = NULL;
	init_poll_funcptr(&fpt.pt, fastio_install);
	fpt.pt._key = events | EPOLLERR | EPOLLHUP;
	mask = vfs_poll(file, &fpt.pt);
	node->hooked = true;
	/*
	 * A file that would use no queue, or more than we have, could become ready without our
	 * knowing.
	 */
	if (fpt.nr > ARRAY_SIZE(node->hook) || (!fpt.nr && !mask)) {
		fastio_unhook(node);
		err = -EOPNOTSUPP;
	} else {
		atomic_or(fastio_state_of(node, mask), &node->state);
	}
	node->rq->st.armed++;
	trace_fastio_arm(node->rq->ctx->id, node->rq->index, node->kind, (__force u32)mask, err);
	return err;
}

/**
 * fastio_unhook() - no wake-up runs or will run for a node after this
 * @node: node; the caller serves its ring
 */
void fastio_unhook(struct fastio_node *node)
{
	unsigned int i;

	if (!node->hooked)
		return;
	node->hooked = false;
	/* A queue that said POLLFREE is freed after a grace period. */
	rcu_read_lock();
	for (i = 0; i < ARRAY_SIZE(node->hook); i++) {
		struct fastio_hook *hook = &node->hook[i];
		/* Pairs with the release in fastio_wake_fn(). */
		wait_queue_head_t *head = smp_load_acquire(&hook->head);

		if (!head)
			continue;
		spin_lock_irq(&head->lock);
		list_del_init(&hook->wait.entry);
		hook->head = NULL;
		spin_unlock_irq(&head->lock);
	}
	rcu_read_unlock();
}

/**
 * fastio_dequeue() - take a node off whatever list it is on
 * @node: node that nobody can queue any more; the caller serves its ring
 */
void fastio_dequeue(struct fastio_node *node)
{
	if (!(atomic_read(&node->state) & FASTIO_QUEUED))
		return;
	/* It may still be on the ready list, from whose middle nothing can be taken. */
	fastio_pull(node->rq);
	list_del(&node->list);
	atomic_andnot(FASTIO_QUEUED, &node->state);
}

/**
 * fastio_requeue() - run a node again later
 * @node: node that is being run by the caller
 * @list: &fastio_rq.backlog, or &fastio_rq.stalled to wait for room in the CQ
 */
void fastio_requeue(struct fastio_node *node, struct list_head *list)
{
	/* If a wake-up was faster, it is on the ready list. */
	if (!(atomic_fetch_or(FASTIO_QUEUED, &node->state) & FASTIO_QUEUED))
		list_add_tail(&node->list, list);
}

static int fastio_slot_add_chunk(struct fastio_ctx *ctx, u32 fd)
{
	unsigned long **place =
		&ctx->slots[array_index_nospec(fd, ctx->max_slots) / FASTIO_SLOTS_PER_CHUNK];
	unsigned long *chunk;

	if (READ_ONCE(*place))
		return 0;
	chunk = kcalloc(FASTIO_SLOTS_PER_CHUNK, sizeof(*chunk), GFP_KERNEL_ACCOUNT);
	if (!chunk)
		return -ENOMEM;
	/* Releases the zeroes. Pairs with the acquire in fastio_slot_entry(). */
	if (cmpxchg(place, NULL, chunk))
		kfree(chunk);	/* another ring was faster */
	return 0;
}

/**
 * fastio_slot_make() - make the slot of a descriptor that has none
 * @rq: ring that will own it; the caller serves it
 * @fd: descriptor
 *
 * Return: the slot; -EBADF: no such descriptor, too large, or one of ours; -EXDEV: another ring was
 * faster; -ENOMEM.
 */
struct fastio_slot *fastio_slot_make(struct fastio_rq *rq, u32 fd)
{
	struct fastio_ctx *ctx = rq->ctx;
	struct fastio_slot *slot;
	int err;

	if (fd >= ctx->max_slots)
		return ERR_PTR(-EBADF);
	err = fastio_slot_add_chunk(ctx, fd);
	if (err)
		return ERR_PTR(err);
	slot = kmem_cache_zalloc(fastio_slot_cache, GFP_KERNEL);
	if (!slot)
		return ERR_PTR(-ENOMEM);
	slot->file = fget(fd);
	err = -EBADF;
	if (!slot->file)
		goto out_free;
	/* A context that held itself, or two that held each other, would never be released. */
	if (slot->file->f_op == &fastio_fops)
		goto out_put;
	slot->fd = fd;
	slot->sock = sock_from_file(slot->file);
	slot->node.rq = rq;
	slot->node.kind = FASTIO_NODE_SLOT;
	fastio_queue_init(&slot->rd);
	fastio_queue_init(&slot->wr);
	atomic_set(&slot->node.state, 0);
	slot->pollable = !fastio_hook(&slot->node, slot->file,
				      EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP);
	err = -EXDEV;
	if (cmpxchg(fastio_slot_entry(ctx, fd), 0, (unsigned long)slot | rq->index))
		goto out_unhook;
	list_add_tail(&slot->link, &rq->slots);
	rq->st.slots++;
	return slot;

out_unhook:
	fastio_unhook(&slot->node);
out_put:
	fput(slot->file);
out_free:
	kmem_cache_free(fastio_slot_cache, slot);
	return ERR_PTR(err);
}

/**
 * fastio_slot_drop() - forget a slot and its file
 * @rq: ring that owns it; the caller serves it
 * @slot: slot; operations waiting in it complete with -ECANCELED
 */
void fastio_slot_drop(struct fastio_rq *rq, struct fastio_slot *slot)
{
	fastio_unhook(&slot->node);
	fastio_dequeue(&slot->node);
	WRITE_ONCE(*fastio_slot_entry(rq->ctx, slot->fd), 0);
	while (slot->wr.first)
		fastio_complete(rq, slot->wr.first, -ECANCELED, 0);
	while (slot->rd.first)
		fastio_complete(rq, slot->rd.first, -ECANCELED, 0);
	list_del(&slot->link);
	rq->st.slots--;
	fput(slot->file);
	kmem_cache_free(fastio_slot_cache, slot);
}
