// SPDX-License-Identifier: GPL-2.0
/* Counters: by ioctl, in /proc/PID/fdinfo, and in debugfs. */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include "internal.h"

static struct dentry *fastio_debugfs;

static const struct {
	const char	*name;
	size_t		offset;
} fastio_counters[] = {
#define COUNTER(x)	{ #x, offsetof(struct fastio_stats, x) }
	COUNTER(submitted),
	COUNTER(completed),
	COUNTER(batches),
	COUNTER(eagain),
	COUNTER(armed),
	COUNTER(parked),
	COUNTER(ready),
	COUNTER(multishot),
	COUNTER(punted),
	COUNTER(cq_stalls),
	COUNTER(spins),
	COUNTER(sleeps),
	COUNTER(enters),
	COUNTER(leaves),
	COUNTER(in_flight),
	COUNTER(slots),
	COUNTER(busy_ns),
#undef COUNTER
};

/* The server counts without atomics; a reader may see counters of different moments. */
static u64 fastio_counter(const struct fastio_rq *rq, unsigned int i)
{
	if (fastio_counters[i].offset == offsetof(struct fastio_stats, in_flight))
		return READ_ONCE(rq->ix.reserved);
	return READ_ONCE(*(const u64 *)((const char *)&rq->st + fastio_counters[i].offset));
}

/**
 * fastio_stats() - FASTIO_IOC_STATS
 * @ctx: context
 * @arg: argument
 *
 * Return: see the uapi header.
 */
long fastio_stats(struct fastio_ctx *ctx, struct fastio_stats __user *arg)
{
	struct fastio_stats st = {};
	unsigned int i;

	if (copy_from_user(&st, arg, sizeof(st)))
		return -EFAULT;
	if (st.ring >= ctx->nr_rings || st.flags || memchr_inv(st.resv, 0, sizeof(st.resv)))
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(fastio_counters); i++)
		*(u64 *)((char *)&st + fastio_counters[i].offset) =
			fastio_counter(&ctx->rq[st.ring], i);
	return copy_to_user(arg, &st, sizeof(st)) ? -EFAULT : 0;
}

static void fastio_show(struct seq_file *m, const struct fastio_ctx *ctx, const char *prefix)
{
	unsigned int i;
	u32 n;

	for (n = 0; n < ctx->nr_rings; n++) {
		seq_printf(m, "%sring-%u:\t", prefix, n);
		for (i = 0; i < ARRAY_SIZE(fastio_counters); i++)
			seq_printf(m, "%s%s=%llu", i ? " " : "", fastio_counters[i].name,
				   fastio_counter(&ctx->rq[n], i));
		seq_putc(m, '\n');
	}
}

/**
 * fastio_show_fdinfo() - what /proc/PID/fdinfo says about us
 * @m: where to write
 * @file: device file
 */
void fastio_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct fastio_ctx *ctx = file->private_data;

	/* Pairs with the release in fastio_setup(). */
	if (!smp_load_acquire(&ctx->ready))
		return;
	seq_printf(m, "fastio-ctx:\t%llu\nfastio-workers:\t%u\nfastio-wq-workers:\t%u\n", ctx->id,
		   ctx->nr_rings, ctx->nr_wq);
	fastio_show(m, ctx, "fastio-");
}

static int fastio_debug_show(struct seq_file *m, void *unused)
{
	const struct fastio_ctx *ctx = m->private;

	seq_printf(m, "pid:\t%d\n", ctx->pid);
	fastio_show(m, ctx, "");
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(fastio_debug);

/**
 * fastio_debugfs_add() - make the file of a context
 * @ctx: context after SETUP
 */
void fastio_debugfs_add(struct fastio_ctx *ctx)
{
	char name[24];

	snprintf(name, sizeof(name), "%llu", ctx->id);
	ctx->debug = debugfs_create_file(name, 0400, fastio_debugfs, ctx, &fastio_debug_fops);
}

/**
 * fastio_debugfs_remove() - remove the file of a context, after its last reader
 * @ctx: context
 */
void fastio_debugfs_remove(struct fastio_ctx *ctx)
{
	debugfs_remove(ctx->debug);
}

/** fastio_debugfs_init() - make our directory */
void fastio_debugfs_init(void)
{
	fastio_debugfs = debugfs_create_dir("fastio", NULL);
}

/** fastio_debugfs_exit() - remove our directory */
void fastio_debugfs_exit(void)
{
	debugfs_remove(fastio_debugfs);
}
