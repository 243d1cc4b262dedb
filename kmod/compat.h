/* SPDX-License-Identifier: GPL-2.0 */
/* What differs between the kernels we build for (6.1 and 6.12), and nothing else. */
#ifndef FASTIO_COMPAT_H
#define FASTIO_COMPAT_H

#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/version.h>
#include <net/sock.h>

/* Exported to modules and documented, but declared in a header of RCU's own (kernel/rcu/rcu.h). */
void rcu_expedite_gp(void);
void rcu_unexpedite_gp(void);

static inline void fastio_vm_flags(struct vm_area_struct *vma, unsigned long set,
				   unsigned long clear)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_mod(vma, set, clear);
#else
	vma->vm_flags = (vma->vm_flags & ~clear) | set;
#endif
}

static inline int fastio_proto_accept(struct socket *sock, struct socket *newsock)
{
	const struct proto_ops *ops = READ_ONCE(sock->ops);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	struct proto_accept_arg arg = { .flags = O_NONBLOCK };

	return ops->accept(sock, newsock, &arg);
#else
	return ops->accept(sock, newsock, O_NONBLOCK, false);
#endif
}

/*
 * Tells RCU that this CPU holds no reference, although it stays in the kernel. Interrupts are off.
 */
static inline void fastio_rcu_momentary_eqs(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	rcu_momentary_eqs();
#else
	rcu_momentary_dyntick_idle();
#endif
}

/* Since 6.8 vfs_iocb_iter_write() and do_splice_direct() take freeze protection themselves. */
static inline void fastio_start_write(struct file *file)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	file_start_write(file);
#endif
}

static inline void fastio_end_write(struct file *file)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	file_end_write(file);
#endif
}

/* Since 6.8 opening a file reports it to fsnotify by itself. */
static inline void fastio_opened(struct file *file)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	fsnotify_open(file);
#endif
}

#endif /* FASTIO_COMPAT_H */
