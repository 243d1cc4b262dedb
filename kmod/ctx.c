// SPDX-License-Identifier: GPL-2.0
/* The device: opening, commands, polling, closing. */
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include "internal.h"

static atomic64_t fastio_last_id = ATOMIC64_INIT(0);

static int fastio_open(struct inode *inode, struct file *file)
{
	struct fastio_ctx *ctx = kzalloc(sizeof(*ctx), GFP_KERNEL_ACCOUNT);

	if (!ctx)
		return -ENOMEM;
	mutex_init(&ctx->lock);
	spin_lock_init(&ctx->res_lock);
	init_waitqueue_head(&ctx->cq_wait);
	ctx->id = atomic64_inc_return(&fastio_last_id);
	ctx->mm = current->mm;
	mmgrab(ctx->mm);
	ctx->owner = current->files;
	file->private_data = ctx;
	/* No position, no reading, no writing. */
	return stream_open(inode, file);
}

/*
 * Called for every close of a descriptor of ours, also when a process exits or executes a program.
 * That of the owner ends the context, although forked children may still have the file open:
 * waiting for their close would keep its sockets open. Not compared with current->mm, which an
 * exiting process no longer has.
 */
static int fastio_flush(struct file *file, fl_owner_t id)
{
	struct fastio_ctx *ctx = file->private_data;

	if (id == ctx->owner)
		fastio_kill(ctx);
	return 0;
}

static int fastio_release(struct inode *inode, struct file *file)
{
	struct fastio_ctx *ctx = file->private_data;
	u32 i;

	/*
	 * The owner may have changed its table of files since it opened us, so flush may not have
	 * met it.
	 */
	fastio_kill(ctx);
	/* Not ->ready: also a SETUP that failed because of a close meanwhile made all this. */
	if (ctx->user) {
		fastio_debugfs_remove(ctx);
		for (i = 0; i < ctx->nr_rings; i++)
			irq_work_sync(&ctx->rq[i].notify);
		fastio_free_rings(ctx);
		fastio_user_put(ctx);
	}
	mmdrop(ctx->mm);
	kfree(ctx);
	return 0;
}

static __poll_t fastio_poll(struct file *file, poll_table *pt)
{
	struct fastio_ctx *ctx = file->private_data;
	__poll_t mask = 0;

	/* Pairs with the release in fastio_end_setup(). */
	if (current->mm != ctx->mm || !smp_load_acquire(&ctx->ready))
		return EPOLLERR;
	/* Adds itself first and looks then. Its barrier pairs with that in fastio_publish(). */
	poll_wait(file, &ctx->cq_wait, pt);
	if (READ_ONCE(ctx->dead))
		mask |= EPOLLHUP;
	if (fastio_any_ready(ctx))
		mask |= EPOLLIN | EPOLLRDNORM;
	return mask;
}

static long fastio_wake(struct fastio_ctx *ctx, unsigned long index)
{
	if (index >= ctx->nr_rings)
		return -EINVAL;
	/* Pairs with the barrier in fastio_sleep(). */
	rcuwait_wake_up(&ctx->rq[index].wait);
	return 0;
}

static long fastio_command(struct fastio_ctx *ctx, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	switch (cmd) {
	case FASTIO_IOC_ENTER:
		return fastio_enter(ctx, arg);
	case FASTIO_IOC_WAKE:
		return fastio_wake(ctx, arg);
	case FASTIO_IOC_WAIT:
		return fastio_wait(ctx, arg);
	case FASTIO_IOC_WORKER:
		return fastio_worker(ctx, arg);
	case FASTIO_IOC_REGISTER_BUFFERS:
		return fastio_register_buffers(ctx, user);
	case FASTIO_IOC_UNREGISTER_BUFFERS:
		return fastio_unregister_buffers(ctx, arg);
	case FASTIO_IOC_REGISTER_BUF_RING:
		return fastio_register_group(ctx, user);
	case FASTIO_IOC_UNREGISTER_BUF_RING:
		return fastio_unregister_group(ctx, user);
	}
	return -ENOTTY;
}

static bool fastio_known(unsigned int cmd)
{
	switch (cmd) {
	case FASTIO_IOC_SETUP:
	case FASTIO_IOC_WORKER:
	case FASTIO_IOC_ENTER:
	case FASTIO_IOC_WAKE:
	case FASTIO_IOC_WAIT:
	case FASTIO_IOC_REGISTER_BUFFERS:
	case FASTIO_IOC_UNREGISTER_BUFFERS:
	case FASTIO_IOC_REGISTER_BUF_RING:
	case FASTIO_IOC_UNREGISTER_BUF_RING:
	case FASTIO_IOC_STATS:
		return true;
	}
	return false;
}

static long fastio_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct fastio_ctx *ctx = file->private_data;

	if (unlikely(!fastio_known(cmd)))
		return -ENOTTY;
	/*
	 * A child, or who got the descriptor passed: addresses in SQEs would mean other memory to
	 * it.
	 */
	if (unlikely(current->mm != ctx->mm))
		return -EPERM;
	if (cmd == FASTIO_IOC_SETUP)
		return fastio_setup(ctx, (struct fastio_setup __user *)arg);
	/* Pairs with the release in fastio_end_setup(). */
	if (unlikely(!smp_load_acquire(&ctx->ready)))
		return -EBADFD;
	if (cmd == FASTIO_IOC_STATS)
		return fastio_stats(ctx, (struct fastio_stats __user *)arg);
	if (unlikely(READ_ONCE(ctx->dead)))
		return -ESHUTDOWN;
	return fastio_command(ctx, cmd, arg);
}

const struct file_operations fastio_fops = {
	.owner		= THIS_MODULE,
	.open		= fastio_open,
	.flush		= fastio_flush,
	.release	= fastio_release,
	.unlocked_ioctl	= fastio_ioctl,
	.mmap		= fastio_mmap,
	.poll		= fastio_poll,
	.show_fdinfo	= fastio_show_fdinfo,
	.llseek		= noop_llseek,
};

static struct miscdevice fastio_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "fastio",
	.fops	= &fastio_fops,
	.mode	= 0600,
};

static int __init fastio_init(void)
{
	int ret;

	/* The low bits of a slot's address hold the number of its ring. */
	BUILD_BUG_ON(FASTIO_MAX_WORKERS > 64);
	fastio_slot_cache = kmem_cache_create("fastio_slot", sizeof(struct fastio_slot), 64,
					      SLAB_HWCACHE_ALIGN | SLAB_ACCOUNT, NULL);
	if (!fastio_slot_cache)
		return -ENOMEM;
	fastio_debugfs_init();
	ret = misc_register(&fastio_misc);
	if (ret)
		goto out_free;
	return 0;

out_free:
	fastio_debugfs_exit();
	kmem_cache_destroy(fastio_slot_cache);
	return ret;
}

static void __exit fastio_exit(void)
{
	misc_deregister(&fastio_misc);
	fastio_debugfs_exit();
	kmem_cache_destroy(fastio_slot_cache);
}

module_init(fastio_init);
module_exit(fastio_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Asynchronous I/O on rings served by the process's own threads");
