// SPDX-License-Identifier: GPL-2.0
/* SETUP: memory of a context, its layout, its mapping, and its end. */
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include "compat.h"
#include "internal.h"

#define FASTIO_DEFAULT_SLOTS	65536
#define FASTIO_FEATURES                                                           \
	(FASTIO_FEAT_MULTISHOT | FASTIO_FEAT_FIXED_BUFS | FASTIO_FEAT_BUF_RINGS | \
	 FASTIO_FEAT_POLL | FASTIO_FEAT_SEND_RECV)

static bool fastio_bad_entries(u32 entries)
{
	return !is_power_of_2(entries) || entries > FASTIO_MAX_ENTRIES ||
	       entries > fastio_max_entries();
}

static int fastio_check_setup(const struct fastio_setup *p)
{
	if (p->version != FASTIO_ABI_VERSION)
		return -EPROTONOSUPPORT;
	if (p->flags || memchr_inv(p->resv, 0, sizeof(p->resv)))
		return -EINVAL;
	if (!p->workers || p->workers > FASTIO_MAX_WORKERS || p->wq_workers > FASTIO_MAX_WQ_WORKERS)
		return -EINVAL;
	if (fastio_bad_entries(p->sq_entries) || fastio_bad_entries(p->cq_entries) ||
	    p->cq_entries < p->sq_entries)
		return -EINVAL;
	if (p->idle_us > FASTIO_MAX_IDLE_US || p->wq_idle_us > FASTIO_MAX_IDLE_US ||
	    p->max_slots > FASTIO_MAX_SLOTS)
		return -EINVAL;
	return 0;
}

static void fastio_layout(struct fastio_setup *p)
{
	p->sq_off = ALIGN(sizeof(struct fastio_ring), FASTIO_LINE_BYTES);
	p->cq_off = ALIGN(p->sq_off + p->sq_entries * sizeof(struct fastio_sqe), FASTIO_LINE_BYTES);
	p->ring_bytes = PAGE_ALIGN(p->cq_off + p->cq_entries * sizeof(struct fastio_cqe));
	if (!p->max_slots)
		p->max_slots = FASTIO_DEFAULT_SLOTS;
	p->features = FASTIO_FEATURES;
}

static int fastio_init_ring(struct fastio_ctx *ctx, u32 index, const struct fastio_setup *p)
{
	struct fastio_rq *rq = &ctx->rq[index];
	void *base = ctx->mem + (size_t)index * p->ring_bytes;
	u32 i;

	rq->ctx = ctx;
	rq->index = index;
	rq->shm = base;
	rq->sq = base + p->sq_off;
	rq->cq = base + p->cq_off;
	rq->ix.sq_entries = p->sq_entries;
	rq->ix.cq_entries = p->cq_entries;
	INIT_LIST_HEAD(&rq->backlog);
	INIT_LIST_HEAD(&rq->stalled);
	INIT_HLIST_HEAD(&rq->flight);
	INIT_LIST_HEAD(&rq->slots);
	init_llist_head(&rq->ready);
	rcuwait_init(&rq->wait);
	atomic_set(&rq->claim, FASTIO_UNCLAIMED);
	init_irq_work(&rq->notify, fastio_notify);
	rq->reqs = kvcalloc(p->cq_entries, sizeof(*rq->reqs), GFP_KERNEL_ACCOUNT);
	if (!rq->reqs)
		return -ENOMEM;
	for (i = p->cq_entries; i-- > 0;) {
		rq->reqs[i].node.rq = rq;
		rq->reqs[i].next = rq->free;
		rq->free = &rq->reqs[i];
	}
	return 0;
}

/**
 * fastio_free_rings() - free what fastio_alloc() made, as far as it came
 * @ctx: context without threads inside, whose rings hold no references
 */
void fastio_free_rings(struct fastio_ctx *ctx)
{
	u32 i, chunks = DIV_ROUND_UP(ctx->max_slots, FASTIO_SLOTS_PER_CHUNK);

	for (i = 0; ctx->rq && i < ctx->nr_rings; i++)
		kvfree(ctx->rq[i].reqs);
	for (i = 0; ctx->slots && i < chunks; i++)
		kfree(ctx->slots[i]);
	kvfree(ctx->slots);
	kvfree(ctx->wq);
	kvfree(ctx->rq);
	fastio_free_shared(ctx->mm, ctx->mem, ctx->mem_bytes);
	ctx->slots = NULL;
	ctx->wq = NULL;
	ctx->rq = NULL;
	ctx->mem = NULL;
}

static int fastio_alloc(struct fastio_ctx *ctx, const struct fastio_setup *p)
{
	u32 i;

	ctx->nr_rings = p->workers;
	ctx->nr_wq = p->wq_workers;
	ctx->idle_ns = (u64)p->idle_us * NSEC_PER_USEC;
	ctx->wq_idle_ns = (u64)p->wq_idle_us * NSEC_PER_USEC;
	ctx->max_slots = p->max_slots;
	ctx->ring_bytes = p->ring_bytes;
	ctx->mem_bytes = (unsigned long)p->ring_bytes * p->workers;
	ctx->ops = p->ops;
	ctx->pid = current->tgid;
	ctx->mem = fastio_alloc_shared(ctx->mm, ctx->mem_bytes);
	ctx->rq = kvcalloc(p->workers, sizeof(*ctx->rq), GFP_KERNEL_ACCOUNT);
	ctx->wq = kvcalloc(p->wq_workers + 1, sizeof(*ctx->wq), GFP_KERNEL_ACCOUNT);
	ctx->slots = kvcalloc(DIV_ROUND_UP(p->max_slots, FASTIO_SLOTS_PER_CHUNK),
			      sizeof(*ctx->slots), GFP_KERNEL_ACCOUNT);
	if (!ctx->mem || !ctx->rq || !ctx->wq || !ctx->slots)
		goto out_free;
	for (i = 0; i < p->wq_workers; i++) {
		spin_lock_init(&ctx->wq[i].lock);
		INIT_LIST_HEAD(&ctx->wq[i].queue);
		rcuwait_init(&ctx->wq[i].wait);
	}
	for (i = 0; i < p->workers; i++)
		if (fastio_init_ring(ctx, i, p))
			goto out_free;
	return 0;

out_free:
	fastio_free_rings(ctx);
	return -ENOMEM;
}

/* Return: 0 if the caller may set the context up, and nobody else may until fastio_end_setup(). */
static int fastio_begin_setup(struct fastio_ctx *ctx)
{
	int ret = 0;

	mutex_lock(&ctx->lock);
	if (ctx->dead)
		ret = -ESHUTDOWN;
	else if (ctx->ready || ctx->setting_up)
		ret = -EBUSY;
	else
		ctx->setting_up = true;
	mutex_unlock(&ctx->lock);
	return ret;
}

static int fastio_end_setup(struct fastio_ctx *ctx, int ret)
{
	mutex_lock(&ctx->lock);
	ctx->setting_up = false;
	if (!ret && ctx->dead)
		ret = -ESHUTDOWN;
	if (!ret) {
		/* Everything before. Pairs with the acquire loads of ->ready. */
		smp_store_release(&ctx->ready, true);
	}
	mutex_unlock(&ctx->lock);
	return ret;
}

static int fastio_do_setup(struct fastio_ctx *ctx, struct fastio_setup *p,
			   struct fastio_setup __user *arg)
{
	int ret = fastio_check_setup(p);

	if (ret)
		return ret;
	if (fastio_seccomp_refuses())
		return -EPERM;
	p->ops = fastio_allowed_ops(&ctx->accept_secid);
	fastio_layout(p);
	ret = fastio_user_get(ctx);
	if (ret)
		return ret;
	ret = fastio_alloc(ctx, p);
	if (ret)
		goto out_user;
	ret = -EFAULT;
	if (copy_to_user(arg, p, sizeof(*p)))
		goto out_free;
	return 0;

out_free:
	fastio_free_rings(ctx);
out_user:
	fastio_user_put(ctx);
	return ret;
}

/**
 * fastio_setup() - FASTIO_IOC_SETUP
 * @ctx: context
 * @arg: argument
 *
 * Return: see the uapi header.
 */
long fastio_setup(struct fastio_ctx *ctx, struct fastio_setup __user *arg)
{
	struct fastio_setup p;
	int ret;

	if (copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	ret = fastio_begin_setup(ctx);
	if (ret)
		return ret;
	ret = fastio_do_setup(ctx, &p, arg);
	if (!ret)
		fastio_debugfs_add(ctx);
	ret = fastio_end_setup(ctx, ret);
	fastio_audit(ctx, &p, ret);
	return ret;
}

/**
 * fastio_kill() - nothing is executed any more, and no file is held
 * @ctx: context
 *
 * Rings that are being served are dropped by their server on its way out.
 */
void fastio_kill(struct fastio_ctx *ctx)
{
	u32 i;

	mutex_lock(&ctx->lock);
	WRITE_ONCE(ctx->dead, true);
	mutex_unlock(&ctx->lock);
	/*
	 * Full barrier: dead first, then the claims. Pairs with fastio_unclaim(), and with who is
	 * about to sleep.
	 */
	smp_mb();
	/* Pairs with the release in fastio_end_setup(), which cannot come any more. */
	if (!smp_load_acquire(&ctx->ready))
		return;
	for (i = 0; i < ctx->nr_rings; i++) {
		if (fastio_claim(&ctx->rq[i]))
			fastio_retire(&ctx->rq[i]);
		else
			rcuwait_wake_up(&ctx->rq[i].wait);
	}
	for (i = 0; i < ctx->nr_wq; i++)
		fastio_wq_interrupt(&ctx->wq[i]);
	fastio_free_resources(ctx);
	wake_up_poll(&ctx->cq_wait, EPOLLHUP | EPOLLIN);
}

static int fastio_map_pages(struct vm_area_struct *vma, void *mem, unsigned long bytes,
			    unsigned long offset)
{
	unsigned long at, length = vma->vm_end - vma->vm_start;
	int ret;

	if (offset > bytes || length > bytes - offset)
		return -EINVAL;
	/* VM_IO keeps madvise() from undoing VM_DONTCOPY. */
	fastio_vm_flags(vma, VM_IO | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
	for (at = 0; at < length; at += PAGE_SIZE) {
		ret = vm_insert_page(vma, vma->vm_start + at, vmalloc_to_page(mem + offset + at));
		if (ret)
			return ret;
	}
	return 0;
}

/**
 * fastio_mmap() - map the rings, or a ring of provided buffers
 * @file: device file
 * @vma: the new mapping
 *
 * Return: see the uapi header.
 */
int fastio_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct fastio_ctx *ctx = file->private_data;
	u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	struct fastio_group *group;
	int ret;

	if (current->mm != ctx->mm)
		return -EPERM;
	/* Pairs with the release in fastio_end_setup(). */
	if (!smp_load_acquire(&ctx->ready))
		return -EBADFD;
	if (READ_ONCE(ctx->dead))
		return -ESHUTDOWN;
	if (!(vma->vm_flags & VM_SHARED) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	if (offset < 1ULL << 32)
		return fastio_map_pages(vma, ctx->mem, ctx->mem_bytes, offset);
	group = fastio_get_group(ctx, (offset >> 32) - 1);
	if (!group)
		return -EINVAL;
	ret = fastio_map_pages(vma, group->shm, group->bytes, offset & U32_MAX);
	fastio_put_group_locked(group);
	return ret;
}
