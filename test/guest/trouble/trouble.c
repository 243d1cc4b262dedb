// SPDX-License-Identifier: GPL-2.0
/* Gets the kernel into trouble on purpose: insmod trouble.ko kind=warn|oops|bug|list|refcount|spin|stuck */
#include <linux/irqflags.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/refcount.h>
#include <linux/smp.h>
#include <linux/string.h>

static char *kind = "";
module_param(kind, charp, 0444);
MODULE_PARM_DESC(kind, "what to do wrong");

static void spin_with_irqs_off(void *unused)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static void corrupt_list(void)
{
	LIST_HEAD(head);
	struct list_head a, b;

	list_add(&a, &head);
	list_add(&b, &head);
	WRITE_ONCE(a.prev, NULL);
	list_del(&a);
}

static void underflow(void)
{
	refcount_t count = REFCOUNT_INIT(1);

	refcount_dec(&count);
	refcount_dec(&count);
}

static int __init trouble_init(void)
{
	if (!strcmp(kind, "warn")) {
		WARN(1, "trouble: asked to warn\n");
	} else if (!strcmp(kind, "oops")) {
		WRITE_ONCE(*(int *)0x10, 1);
	} else if (!strcmp(kind, "bug")) {
		BUG();
	} else if (!strcmp(kind, "list")) {
		corrupt_list();
	} else if (!strcmp(kind, "refcount")) {
		underflow();
	} else if (!strcmp(kind, "spin")) {
		/* Every CPU, this one last: nothing in the guest runs any more. */
		smp_call_function(spin_with_irqs_off, NULL, 0);
		spin_with_irqs_off(NULL);
	} else if (!strcmp(kind, "stuck")) {
		/* One CPU without scheduling, interrupts on: the watchdog's case. */
		preempt_disable();
		for (;;)
			cpu_relax();
	} else {
		pr_err("trouble: kind=%s is unknown\n", kind);
		return -EINVAL;
	}
	return 0;
}
module_init(trouble_init);

static void __exit trouble_exit(void)
{
}
module_exit(trouble_exit);

MODULE_DESCRIPTION("Gets the kernel into trouble on purpose, to see that the testbed notices");
MODULE_LICENSE("GPL");
