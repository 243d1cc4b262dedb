// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>

static int __init hello_init(void)
{
	pr_info("hello: loaded into %s\n", CONFIG_CC_VERSION_TEXT);
	return 0;
}
module_init(hello_init);

static void __exit hello_exit(void)
{
	pr_info("hello: gone\n");
}
module_exit(hello_exit);

MODULE_DESCRIPTION("Proof that modules are built for the guest's kernel");
MODULE_LICENSE("GPL");
