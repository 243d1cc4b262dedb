/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arithmetic of ring indices: the only code that reads indices which user space writes.
 *
 * Kept free of anything else, so that the same lines also compile for user space and run there
 * under ASan, UBSan and TSan with a hostile peer.
 */
#ifndef FASTIO_RING_INDEX_H
#define FASTIO_RING_INDEX_H

#include <linux/fastio.h>

#ifdef __KERNEL__
#include <asm/barrier.h>
#include <linux/compiler.h>
#else
#define WRITE_ONCE(x, v)	__atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
/* As the kernel's: later accesses stay after the load. */
#define smp_load_acquire(p)	__atomic_load_n((p), __ATOMIC_ACQUIRE)
/* As the kernel's: earlier accesses stay before the store. */
#define smp_store_release(p, v)	__atomic_store_n((p), (v), __ATOMIC_RELEASE)
#endif

/**
 * struct fastio_index - the kernel's private view of one ring's indices
 * @sq_head: next SQE to take
 * @sq_entries: entries of the SQ, a power of two
 * @cq_tail: next CQE to write
 * @cq_published: value of @cq_tail that user space has been told
 * @cq_head: what user space had reaped when last looked at, never more than @cq_entries behind
 *	@cq_tail
 * @cq_entries: entries of the CQ, a power of two
 * @reserved: CQEs promised to operations taken and not completed; @cq_tail - @cq_head + @reserved
 *	never grows beyond @cq_entries, which is why the CQ cannot overflow
 *
 * Only the server of the ring touches it.
 */
struct fastio_index {
	__u32 sq_head;
	__u32 sq_entries;
	__u32 cq_tail;
	__u32 cq_published;
	__u32 cq_head;
	__u32 cq_entries;
	__u32 reserved;
};

/**
 * fastio_index_sq_avail() - how many SQEs wait
 * @ix: private indices
 * @shm: shared head of the ring
 *
 * Return: 0..sq_entries. A tail that makes no sense counts as a full queue.
 */
static inline __u32 fastio_index_sq_avail(const struct fastio_index *ix,
					  const struct fastio_ring *shm)
{
	/* Pairs with the release store of sq_tail by user space: its entries are visible. */
	__u32 n = smp_load_acquire(&shm->sq_tail) - ix->sq_head;

	return n < ix->sq_entries ? n : ix->sq_entries;
}

/**
 * fastio_index_sq_take() - tell user space that SQEs may be overwritten
 * @ix: private indices
 * @shm: shared head of the ring
 * @n: how many were taken, at most what fastio_index_sq_avail() said
 */
static inline void fastio_index_sq_take(struct fastio_index *ix, struct fastio_ring *shm, __u32 n)
{
	ix->sq_head += n;
	/* Pairs with the acquire load of sq_head by user space: we have read the entries. */
	smp_store_release(&shm->sq_head, ix->sq_head);
}

/**
 * fastio_index_cq_room() - how many CQEs may be promised or posted beyond those reserved
 * @ix: private indices
 * @shm: shared head of the ring
 * @want: how many would do; user space's head is read only when the last one seen does not suffice
 *
 * Return: 0..cq_entries. A head that makes no sense counts as a full queue.
 */
static inline __u32 fastio_index_cq_room(struct fastio_index *ix, const struct fastio_ring *shm,
					 __u32 want)
{
	__u32 used = ix->cq_tail - ix->cq_head + ix->reserved;

	if (used + want > ix->cq_entries) {
		/*
		 * Pairs with the release store of cq_head by user space: it has read the entries.
		 */
		__u32 unreaped = ix->cq_tail - smp_load_acquire(&shm->cq_head);

		if (unreaped > ix->cq_entries)
			unreaped = ix->cq_entries;
		ix->cq_head = ix->cq_tail - unreaped;
		used = unreaped + ix->reserved;
	}
	return used < ix->cq_entries ? ix->cq_entries - used : 0;
}

/**
 * fastio_index_cq_unreaped() - completions that user space can reap now
 * @ix: private indices
 * @shm: shared head of the ring
 *
 * Return: 0..cq_entries.
 */
static inline __u32 fastio_index_cq_unreaped(const struct fastio_index *ix,
					     const struct fastio_ring *shm)
{
	/* Pairs with the release store of cq_head by user space. */
	__u32 n = ix->cq_published - smp_load_acquire(&shm->cq_head);

	return n < ix->cq_entries ? n : ix->cq_entries;
}

/**
 * fastio_index_cq_next() - claim the next CQE
 * @ix: private indices; there must be room, or a reservation the caller gives up
 *
 * Return: position in the CQ.
 */
static inline __u32 fastio_index_cq_next(struct fastio_index *ix)
{
	return ix->cq_tail++ & (ix->cq_entries - 1);
}

/**
 * fastio_index_cq_publish() - let user space see the CQEs written
 * @ix: private indices
 * @shm: shared head of the ring
 *
 * Return: how many were new.
 */
static inline __u32 fastio_index_cq_publish(struct fastio_index *ix, struct fastio_ring *shm)
{
	__u32 n = ix->cq_tail - ix->cq_published;

	if (n) {
		/* Others may look at it to see whether there is something to reap. */
		WRITE_ONCE(ix->cq_published, ix->cq_tail);
		/* Pairs with the acquire load of cq_tail by user space: the entries come first. */
		smp_store_release(&shm->cq_tail, ix->cq_tail);
	}
	return n;
}

#endif /* FASTIO_RING_INDEX_H */
