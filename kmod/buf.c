// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of user space that operations refer to by number: registered buffers and rings of provided
 * buffers.
 *
 * A ring keeps references to what it has last seen, so that using them costs nothing;
 * fastio_ctx.gen tells it to look again. Rings that nobody serves are made to look by whoever
 * changes something.
 */
#include <linux/bvec.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include "internal.h"

#define FASTIO_PIN_BATCH	256	/* pages pinned per call */

/**
 * fastio_alloc_shared() - memory to be mapped by user space
 * @mm: whose RLIMIT_MEMLOCK is charged
 * @bytes: length, a multiple of the page size
 *
 * Return: zeroed memory, also charged to the memory cgroup; NULL.
 */
void *fastio_alloc_shared(struct mm_struct *mm, unsigned long bytes)
{
	void *mem;

	if (account_locked_vm(mm, bytes >> PAGE_SHIFT, true))
		return NULL;
	mem = __vmalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN);
	if (!mem)
		account_locked_vm(mm, bytes >> PAGE_SHIFT, false);
	return mem;
}

/**
 * fastio_free_shared() - undo fastio_alloc_shared()
 * @mm: as there
 * @mem: memory, or NULL; pages that are still mapped stay until unmapped
 * @bytes: as there
 */
void fastio_free_shared(struct mm_struct *mm, void *mem, unsigned long bytes)
{
	if (!mem)
		return;
	vfree(mem);
	account_locked_vm(mm, bytes >> PAGE_SHIFT, false);
}

/* ------------------------------------------------------------------ registered buffers */

static void fastio_unpin(struct fastio_fixed *fixed)
{
	u32 i;

	for (i = 0; i < fixed->nr; i++) {
		struct page *page = fixed->bvec[i].bv_page;

		unpin_user_pages_dirty_lock(&page, 1, true);
		if (!(i % 512))
			cond_resched();
	}
	kvfree(fixed->bvec);
	fixed->bvec = NULL;
}

/**
 * fastio_put_bufs() - drop a reference
 * @bufs: registered buffers, unpinned with the last reference; NULL is fine
 *
 * Context: may sleep.
 */
void fastio_put_bufs(struct fastio_bufs *bufs)
{
	u32 i;

	if (!bufs || !refcount_dec_and_test(&bufs->refs))
		return;
	for (i = 0; i < bufs->nr; i++)
		fastio_unpin(&bufs->buf[i]);
	account_locked_vm(bufs->mm, bufs->pages, false);
	mmdrop(bufs->mm);
	kvfree(bufs);
}

static int fastio_pin(struct fastio_bufs *bufs, const struct iovec *iov)
{
	struct fastio_fixed *fixed = &bufs->buf[bufs->nr];
	unsigned long start = (unsigned long)iov->iov_base;
	unsigned long pages, first = start & ~PAGE_MASK;
	struct page **batch;
	int ret;

	if (!iov->iov_len || iov->iov_len > FASTIO_MAX_BUFFER_BYTES)
		return -EINVAL;
	if (!access_ok(iov->iov_base, iov->iov_len))
		return -EFAULT;
	pages = (first + iov->iov_len + PAGE_SIZE - 1) >> PAGE_SHIFT;
	ret = account_locked_vm(bufs->mm, pages, true);
	if (ret)
		return ret;
	bufs->pages += pages;
	batch = kmalloc_array(FASTIO_PIN_BATCH, sizeof(*batch), GFP_KERNEL);
	fixed->bvec = kvmalloc_array(pages, sizeof(*fixed->bvec), GFP_KERNEL_ACCOUNT);
	fixed->addr = start;
	fixed->len = iov->iov_len;
	fixed->nr = 0;
	bufs->nr++;	/* from here on fastio_put_bufs() cleans up */
	ret = -ENOMEM;
	if (!batch || !fixed->bvec)
		goto out;
	while (fixed->nr < pages) {
		unsigned long at = (start & PAGE_MASK) + ((unsigned long)fixed->nr << PAGE_SHIFT);
		int i;

		ret = pin_user_pages_fast(at,
					  min_t(unsigned long, pages - fixed->nr, FASTIO_PIN_BATCH),
					  FOLL_WRITE | FOLL_LONGTERM, batch);
		if (ret <= 0)
			break;
		for (i = 0; i < ret; i++) {
			struct bio_vec *bvec = &fixed->bvec[fixed->nr++];

			bvec->bv_page = batch[i];
			bvec->bv_offset = 0;
			bvec->bv_len = PAGE_SIZE;
		}
		cond_resched();
	}
	if (fixed->nr == pages) {
		fixed->bvec[0].bv_offset = first;
		fixed->bvec[0].bv_len = PAGE_SIZE - first;
		ret = 0;
	} else if (!ret) {
		ret = -EFAULT;
	} else if (ret == -ERESTARTSYS) {
		ret = -EINTR;
	}
out:
	kfree(batch);
	return ret;
}

static void fastio_tell_rings(struct fastio_ctx *ctx);

/**
 * fastio_register_buffers() - FASTIO_IOC_REGISTER_BUFFERS
 * @ctx: context
 * @arg: argument
 *
 * Return: see the uapi header.
 */
long fastio_register_buffers(struct fastio_ctx *ctx, struct fastio_buffers __user *arg)
{
	struct fastio_buffers p;
	struct fastio_bufs *bufs;
	struct iovec iov;
	int ret = 0;
	u32 i;

	if (copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	if (!p.nr || p.nr > FASTIO_MAX_BUFFERS || p.flags || p.resv[0] || p.resv[1])
		return -EINVAL;
	if (READ_ONCE(ctx->bufs))
		return -EBUSY;
	bufs = kvzalloc(struct_size(bufs, buf, p.nr), GFP_KERNEL_ACCOUNT);
	if (!bufs)
		return -ENOMEM;
	refcount_set(&bufs->refs, 1);
	bufs->mm = ctx->mm;
	mmgrab(bufs->mm);
	for (i = 0; i < p.nr && !ret; i++) {
		if (copy_from_user(&iov, u64_to_user_ptr(p.iovecs) + i * sizeof(iov), sizeof(iov)))
			ret = -EFAULT;
		else
			ret = fastio_pin(bufs, &iov);
	}
	if (ret)
		goto out_put;

	spin_lock(&ctx->res_lock);
	if (ctx->bufs || ctx->dead) {
		ret = ctx->dead ? -ESHUTDOWN : -EBUSY;
	} else {
		ctx->bufs = bufs;
		WRITE_ONCE(ctx->gen, ctx->gen + 1);
	}
	spin_unlock(&ctx->res_lock);
	if (!ret)
		return 0;
out_put:
	fastio_put_bufs(bufs);
	return ret;
}

/**
 * fastio_unregister_buffers() - FASTIO_IOC_UNREGISTER_BUFFERS
 * @ctx: context
 * @arg: 0
 *
 * Return: see the uapi header.
 */
long fastio_unregister_buffers(struct fastio_ctx *ctx, unsigned long arg)
{
	struct fastio_bufs *bufs;

	if (arg)
		return -EINVAL;
	spin_lock(&ctx->res_lock);
	bufs = ctx->bufs;
	if (bufs) {
		ctx->bufs = NULL;
		WRITE_ONCE(ctx->gen, ctx->gen + 1);
	}
	spin_unlock(&ctx->res_lock);
	if (!bufs)
		return -ENXIO;
	fastio_tell_rings(ctx);
	fastio_put_bufs(bufs);
	return 0;
}

/**
 * fastio_import_fixed() - describe memory in a registered buffer to an iov_iter
 * @bufs: registered buffers, or NULL
 * @index: number of the buffer, unchecked
 * @dir: ITER_DEST or ITER_SOURCE
 * @addr: user address
 * @len: bytes
 * @iter: to be set
 *
 * Return: 0 or -EFAULT.
 */
int fastio_import_fixed(struct fastio_bufs *bufs, u32 index, unsigned int dir, u64 addr, u32 len,
			struct iov_iter *iter)
{
	const struct fastio_fixed *fixed;
	unsigned long offset, skip;

	if (!bufs || index >= bufs->nr)
		return -EFAULT;
	fixed = &bufs->buf[array_index_nospec(index, bufs->nr)];
	if (addr < fixed->addr || addr - fixed->addr > fixed->len ||
	    len > fixed->len - (addr - fixed->addr))
		return -EFAULT;
	/* All pages but the first begin at offset 0, so the page is found without walking there. */
	offset = addr - (fixed->addr & PAGE_MASK);
	skip = offset >> PAGE_SHIFT;
	if (skip >= fixed->nr)
		skip = fixed->nr - 1;	/* nothing at the very end */
	offset -= skip << PAGE_SHIFT;
	iov_iter_bvec(iter, dir, fixed->bvec + skip, fixed->nr - skip, len);
	if (len)
		iter->iov_offset = offset - fixed->bvec[skip].bv_offset;
	return 0;
}

/* ------------------------------------------------------------------ provided buffers */

static void fastio_free_group(struct fastio_group *group)
{
	mmdrop(group->mm);
	kfree(group);
}

/**
 * fastio_put_group() - drop a reference
 * @group: freed with the last reference; NULL is fine
 *
 * Context: may sleep; takes the mmap_lock of who registered it.
 */
void fastio_put_group(struct fastio_group *group)
{
	if (!group || !refcount_dec_and_test(&group->refs))
		return;
	fastio_free_shared(group->mm, group->shm, group->bytes);
	fastio_free_group(group);
}

/**
 * fastio_put_group_locked() - fastio_put_group() in the middle of mapping it
 * @group: freed with the last reference
 *
 * It may have been unregistered meanwhile.
 *
 * Context: may sleep; the mmap_lock of who registered it is held for writing.
 */
void fastio_put_group_locked(struct fastio_group *group)
{
	if (!refcount_dec_and_test(&group->refs))
		return;
	vfree(group->shm);
	__account_locked_vm(group->mm, group->bytes >> PAGE_SHIFT, false, current, false);
	fastio_free_group(group);
}

/**
 * fastio_get_group() - find a group to map it
 * @ctx: context
 * @index: number, unchecked
 *
 * Return: a reference, or NULL.
 */
struct fastio_group *fastio_get_group(struct fastio_ctx *ctx, u64 index)
{
	struct fastio_group *group;

	if (index >= FASTIO_MAX_BUF_GROUPS)
		return NULL;
	spin_lock(&ctx->res_lock);
	group = ctx->group[array_index_nospec(index, FASTIO_MAX_BUF_GROUPS)];
	if (group)
		refcount_inc(&group->refs);
	spin_unlock(&ctx->res_lock);
	return group;
}

/**
 * fastio_register_group() - FASTIO_IOC_REGISTER_BUF_RING
 * @ctx: context
 * @arg: argument
 *
 * Return: see the uapi header.
 */
long fastio_register_group(struct fastio_ctx *ctx, struct fastio_buf_group __user *arg)
{
	struct fastio_buf_group p;
	struct fastio_group *group;
	long ret = 0;

	if (copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	if (p.group >= FASTIO_MAX_BUF_GROUPS || p.ring >= ctx->nr_rings ||
	    !is_power_of_2(p.entries) || p.entries > FASTIO_MAX_ENTRIES || p.flags || p.mmap_off ||
	    p.bytes || p.resv[0] || p.resv[1])
		return -EINVAL;
	p.group = array_index_nospec(p.group, FASTIO_MAX_BUF_GROUPS);
	if (READ_ONCE(ctx->group[p.group]))
		return -EEXIST;
	group = kzalloc(sizeof(*group), GFP_KERNEL_ACCOUNT);
	if (!group)
		return -ENOMEM;
	refcount_set(&group->refs, 1);
	group->mm = ctx->mm;
	mmgrab(group->mm);
	group->entries = p.entries;
	group->ring = p.ring;
	group->bytes = PAGE_ALIGN(struct_size(group->shm, bufs, p.entries));
	group->shm = fastio_alloc_shared(group->mm, group->bytes);
	if (!group->shm) {
		ret = -ENOMEM;
		goto out_put;
	}
	p.mmap_off = (u64)(p.group + 1) << 32;
	p.bytes = group->bytes;
	if (copy_to_user(arg, &p, sizeof(p))) {
		ret = -EFAULT;
		goto out_put;
	}
	spin_lock(&ctx->res_lock);
	if (ctx->group[p.group] || ctx->dead) {
		ret = ctx->dead ? -ESHUTDOWN : -EEXIST;
	} else {
		WRITE_ONCE(ctx->group[p.group], group);
		WRITE_ONCE(ctx->gen, ctx->gen + 1);
	}
	spin_unlock(&ctx->res_lock);
	if (!ret)
		return 0;
out_put:
	fastio_put_group(group);
	return ret;
}

/**
 * fastio_unregister_group() - FASTIO_IOC_UNREGISTER_BUF_RING
 * @ctx: context
 * @arg: argument
 *
 * Return: see the uapi header.
 */
long fastio_unregister_group(struct fastio_ctx *ctx, struct fastio_buf_group __user *arg)
{
	struct fastio_buf_group p;
	struct fastio_group *group;

	if (copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	if (p.group >= FASTIO_MAX_BUF_GROUPS || p.ring || p.entries || p.flags || p.mmap_off ||
	    p.bytes || p.resv[0] || p.resv[1])
		return -EINVAL;
	p.group = array_index_nospec(p.group, FASTIO_MAX_BUF_GROUPS);
	spin_lock(&ctx->res_lock);
	group = ctx->group[p.group];
	if (group) {
		WRITE_ONCE(ctx->group[p.group], NULL);
		WRITE_ONCE(ctx->gen, ctx->gen + 1);
	}
	spin_unlock(&ctx->res_lock);
	if (!group)
		return -ENXIO;
	fastio_tell_rings(ctx);
	fastio_put_group(group);
	return 0;
}

/**
 * fastio_group_peek() - look at the next provided buffer
 * @rq: ring; the caller serves it
 * @index: group
 * @buf: copy of the entry
 *
 * Return: 0; -ENOBUFS; -ENOENT: no such group; -EXDEV: another ring's; -EINVAL: length.
 */
int fastio_group_peek(struct fastio_rq *rq, u32 index, struct fastio_buf *buf)
{
	struct fastio_group *group;
	const struct fastio_buf *shared;

	if (index >= FASTIO_MAX_BUF_GROUPS)
		return -ENOENT;
	index = array_index_nospec(index, FASTIO_MAX_BUF_GROUPS);
	group = rq->group[index];
	if (!group)
		return READ_ONCE(rq->ctx->group[index]) ? -EXDEV : -ENOENT;
	/* Pairs with the release store of tail by user space: its entries are visible. */
	if (smp_load_acquire(&group->shm->tail) == group->head)
		return -ENOBUFS;
	shared = &group->shm->bufs[group->head & (group->entries - 1)];
	buf->addr = READ_ONCE(shared->addr);
	buf->len = READ_ONCE(shared->len);
	buf->bid = READ_ONCE(shared->bid);
	return buf->len && buf->len <= MAX_RW_COUNT ? 0 : -EINVAL;
}

/**
 * fastio_group_take() - the buffer last looked at has been used
 * @rq: ring; the caller serves it
 * @index: group
 */
void fastio_group_take(struct fastio_rq *rq, u32 index)
{
	rq->group[array_index_nospec(index, FASTIO_MAX_BUF_GROUPS)]->head++;
}

/* ------------------------------------------------------------------ what rings have seen */

/**
 * struct fastio_seen - references a ring gives up
 * @bufs: registered buffers
 * @group: groups
 */
struct fastio_seen {
	struct fastio_bufs	*bufs;
	struct fastio_group	*group[FASTIO_MAX_BUF_GROUPS];
};

static void fastio_exchange(struct fastio_rq *rq, struct fastio_seen *old)
{
	struct fastio_ctx *ctx = rq->ctx;
	u32 i;

	lockdep_assert_held(&ctx->res_lock);
	old->bufs = rq->bufs;
	rq->bufs = ctx->bufs;
	if (rq->bufs)
		refcount_inc(&rq->bufs->refs);
	for (i = 0; i < FASTIO_MAX_BUF_GROUPS; i++) {
		struct fastio_group *group = ctx->group[i];

		old->group[i] = rq->group[i];
		rq->group[i] = group && group->ring == rq->index ? group : NULL;
		if (rq->group[i])
			refcount_inc(&rq->group[i]->refs);
	}
	rq->gen = ctx->gen;
}

static void fastio_put_seen(const struct fastio_seen *old)
{
	u32 i;

	fastio_put_bufs(old->bufs);
	for (i = 0; i < FASTIO_MAX_BUF_GROUPS; i++)
		fastio_put_group(old->group[i]);
}

/**
 * fastio_see_resources() - have a ring refer to the resources of its context as they are now
 * @rq: ring; the caller serves it
 *
 * Context: may sleep.
 */
void fastio_see_resources(struct fastio_rq *rq)
{
	struct fastio_seen old = {};

	spin_lock(&rq->ctx->res_lock);
	fastio_exchange(rq, &old);
	spin_unlock(&rq->ctx->res_lock);
	fastio_put_seen(&old);
}

/*
 * Lets go of what has been unregistered: of rings nobody serves here, of others by waking their
 * servers.
 */
static void fastio_tell_rings(struct fastio_ctx *ctx)
{
	u32 i;

	for (i = 0; i < ctx->nr_rings; i++) {
		struct fastio_rq *rq = &ctx->rq[i];
		struct fastio_seen old = {};

		/* Who wants to claim it meanwhile waits; res_lock keeps this short. */
		spin_lock(&ctx->res_lock);
		if (atomic_cmpxchg(&rq->claim, FASTIO_UNCLAIMED, FASTIO_BORROWED) ==
		    FASTIO_UNCLAIMED) {
			fastio_exchange(rq, &old);
			/* Pairs with the cmpxchg in fastio_claim(). */
			atomic_set_release(&rq->claim, FASTIO_UNCLAIMED);
		}
		spin_unlock(&ctx->res_lock);
		fastio_put_seen(&old);
		rcuwait_wake_up(&rq->wait);
	}
}

/**
 * fastio_drop_resources() - give up a ring's references for good
 * @rq: ring; the caller serves it
 *
 * Context: may sleep.
 */
void fastio_drop_resources(struct fastio_rq *rq)
{
	u32 i;

	fastio_put_bufs(rq->bufs);
	rq->bufs = NULL;
	for (i = 0; i < FASTIO_MAX_BUF_GROUPS; i++) {
		fastio_put_group(rq->group[i]);
		rq->group[i] = NULL;
	}
}

/**
 * fastio_free_resources() - give up the context's references
 * @ctx: dead context
 *
 * Context: may sleep.
 */
void fastio_free_resources(struct fastio_ctx *ctx)
{
	struct fastio_seen old = {};
	u32 i;

	spin_lock(&ctx->res_lock);
	old.bufs = ctx->bufs;
	ctx->bufs = NULL;
	for (i = 0; i < FASTIO_MAX_BUF_GROUPS; i++) {
		old.group[i] = ctx->group[i];
		ctx->group[i] = NULL;
	}
	spin_unlock(&ctx->res_lock);
	fastio_put_seen(&old);
}
