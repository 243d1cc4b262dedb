// SPDX-License-Identifier: MIT
/* Registered memory and counters: checks that both back ends share. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

int fastio_register_buffers(struct fastio *fio, const struct iovec *iovecs, unsigned int nr)
{
	return fastio_private(fio)->ops->register_buffers(fastio_private(fio), iovecs, nr);
}

int fastio_unregister_buffers(struct fastio *fio)
{
	return fastio_private(fio)->ops->unregister_buffers(fastio_private(fio));
}

int fastio_bufs_setup(struct fastio_bufs *bufs, struct fastio_queue *queue, unsigned int group,
		      unsigned int entries)
{
	struct fastio_bufs made = { .queue = queue, .group = (uint16_t)group, .entries = entries };
	struct fastio_private *priv = fastio_private(queue->fio);
	int ret;

	if (group >= FASTIO_MAX_BUF_GROUPS || !entries || entries > FASTIO_MAX_ENTRIES ||
	    (entries & (entries - 1)))
		return -EINVAL;
	ret = priv->ops->bufs_setup(&made);
	if (ret)
		return ret;
	priv->bufs[group] = made;
	*bufs = made;
	return 0;
}

int fastio_bufs_free(struct fastio_bufs *bufs)
{
	struct fastio_private *priv = fastio_private(bufs->queue->fio);
	int ret = priv->ops->bufs_free(bufs);

	munmap(bufs->ring, bufs->bytes);
	memset(&priv->bufs[bufs->group], 0, sizeof(priv->bufs[0]));
	memset(bufs, 0, sizeof(*bufs));
	return ret;
}

void fastio_bufs_free_all(struct fastio_private *priv, bool forked)
{
	/* A child has no mapping, and may have something of its own at the address. */
	for (unsigned int i = 0; i < FASTIO_MAX_BUF_GROUPS && !forked; i++)
		if (priv->bufs[i].bytes)
			munmap(priv->bufs[i].ring, priv->bufs[i].bytes);
}

int fastio_get_stats(const struct fastio_queue *queue, struct fastio_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->ring = queue->index;
	return fastio_private(queue->fio)->ops->stats(queue, stats);
}
