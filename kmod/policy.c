// SPDX-License-Identifier: GPL-2.0
/*
 * What a process may do with us: module parameters, seccomp, security modules, limits per user,
 * audit.
 */
#include <linux/audit.h>
#include <linux/cred.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uidgid.h>
#include "internal.h"

static ulong fastio_param_ops = ~0UL;
module_param_named(ops, fastio_param_ops, ulong, 0644);
MODULE_PARM_DESC(ops, "Mask of allowed operations, bit n for opcode n (default: all)");

static uint fastio_param_entries = FASTIO_MAX_ENTRIES;
module_param_named(max_entries, fastio_param_entries, uint, 0644);
MODULE_PARM_DESC(max_entries, "Most entries of a queue (default: 32768)");

static uint fastio_param_contexts = 64;
module_param_named(max_contexts, fastio_param_contexts, uint, 0644);
MODULE_PARM_DESC(max_contexts, "Most contexts of one user at a time (default: 64)");

static bool fastio_param_account;
module_param_named(account, fastio_param_account, bool, 0644);
MODULE_PARM_DESC(account, "Count the time of passes that did work, as busy_ns (default: off)");

/**
 * fastio_accounting() - whether workers look at the clock around each pass
 *
 * Return: module parameter account.
 */
bool fastio_accounting(void)
{
	return READ_ONCE(fastio_param_account);
}

static const char * const fastio_seccomp_names[] = { "refuse", "allow" };
static int fastio_param_seccomp;

static int fastio_set_seccomp(const char *val, const struct kernel_param *kp)
{
	int i = sysfs_match_string(fastio_seccomp_names, val);

	if (i < 0)
		return i;
	WRITE_ONCE(fastio_param_seccomp, i);
	return 0;
}

static int fastio_get_seccomp(char *buffer, const struct kernel_param *kp)
{
	return sprintf(buffer, "%s\n", fastio_seccomp_names[READ_ONCE(fastio_param_seccomp)]);
}

static const struct kernel_param_ops fastio_seccomp_ops = {
	.set = fastio_set_seccomp,
	.get = fastio_get_seccomp,
};
module_param_cb(seccomp, &fastio_seccomp_ops, NULL, 0644);
MODULE_PARM_DESC(seccomp, "Threads with a seccomp filter: refuse (default) or allow");

/**
 * fastio_seccomp_policy() - whether threads with a seccomp filter are refused
 *
 * Return: true for refuse.
 */
bool fastio_seccomp_policy(void)
{
	return !READ_ONCE(fastio_param_seccomp);
}

/**
 * fastio_max_entries() - limit on the size of queues
 *
 * Return: entries.
 */
u32 fastio_max_entries(void)
{
	return READ_ONCE(fastio_param_entries);
}

/* ------------------------------------------------------------------ security modules */

/*
 * Whether no security module that looks at accept() confines the thread. Of those with that hook,
 * AppArmor calls such threads "unconfined", and SELinux and Smack have no such label.
 */
static bool fastio_unconfined(u32 secid)
{
	char *label = NULL;
	bool ret;
	u32 len;

	if (!secid)
		return true;	/* no module labels threads */
	if (security_secid_to_secctx(secid, &label, &len))
		return false;
	ret = len >= 10 && !strncmp(label, "unconfined", 10) && (len == 10 || !label[10]);
	security_release_secctx(label, len);
	return ret;
}

/**
 * fastio_allowed_ops() - which operations the calling thread's context may use
 * @accept_secid: out: label for fastio_accept_allowed()
 *
 * Return: mask of opcodes.
 */
u64 fastio_allowed_ops(u32 *accept_secid)
{
	u64 ops = READ_ONCE(fastio_param_ops) & GENMASK_ULL(FASTIO_OP_LAST - 1, 0);

	security_current_getsecid_subj(accept_secid);
	if (!fastio_unconfined(*accept_secid))
		ops &= ~BIT_ULL(FASTIO_OP_ACCEPT);
	return ops;
}

/**
 * fastio_accept_allowed() - whether the calling thread may accept without the hook of security
 * modules
 * @accept_secid: the label found at SETUP
 *
 * The hook (security_socket_accept()) is not exported. A thread whose label has changed since SETUP
 * is refused.
 *
 * Return: whether it is the same.
 */
bool fastio_accept_allowed(u32 accept_secid)
{
	u32 secid;

	security_current_getsecid_subj(&secid);
	return secid == accept_secid;
}

/* ------------------------------------------------------------------ contexts per user */

/**
 * struct fastio_user - contexts of one user
 * @link: in fastio_users
 * @uid: the user
 * @nr: how many
 *
 * Protected by fastio_users_lock; freed with the last context.
 */
struct fastio_user {
	struct list_head	link;
	kuid_t			uid;
	unsigned int		nr;
};

static DEFINE_MUTEX(fastio_users_lock);
static LIST_HEAD(fastio_users);

static struct fastio_user *fastio_user_find(kuid_t uid)
{
	struct fastio_user *user;

	lockdep_assert_held(&fastio_users_lock);
	list_for_each_entry(user, &fastio_users, link)
		if (uid_eq(user->uid, uid))
			return user;
	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (user) {
		user->uid = uid;
		list_add(&user->link, &fastio_users);
	}
	return user;
}

static void fastio_user_free_unused(struct fastio_user *user)
{
	lockdep_assert_held(&fastio_users_lock);
	if (!user->nr) {
		list_del(&user->link);
		kfree(user);
	}
}

/**
 * fastio_user_get() - count a context
 * @ctx: context of the calling user
 *
 * Return: 0; -EUSERS: the user has as many as allowed; -ENOMEM.
 */
int fastio_user_get(struct fastio_ctx *ctx)
{
	struct fastio_user *user;
	int ret = -ENOMEM;

	mutex_lock(&fastio_users_lock);
	user = fastio_user_find(current_uid());
	if (!user)
		goto out;
	ret = -EUSERS;
	if (user->nr < READ_ONCE(fastio_param_contexts)) {
		user->nr++;
		ctx->user = user;
		ret = 0;
	}
	fastio_user_free_unused(user);
out:
	mutex_unlock(&fastio_users_lock);
	return ret;
}

/**
 * fastio_user_put() - stop counting a context
 * @ctx: context
 */
void fastio_user_put(struct fastio_ctx *ctx)
{
	if (!ctx->user)
		return;
	mutex_lock(&fastio_users_lock);
	ctx->user->nr--;
	fastio_user_free_unused(ctx->user);
	ctx->user = NULL;
	mutex_unlock(&fastio_users_lock);
}

/**
 * fastio_audit() - leave a record of a SETUP
 * @ctx: context
 * @setup: what was asked for
 * @res: result, 0 or -errno
 *
 * What the context does later does not pass the system call audit, so its beginning must show
 * there.
 */
void fastio_audit(const struct fastio_ctx *ctx, const struct fastio_setup *setup, int res)
{
	struct audit_buffer *ab = audit_log_start(audit_context(), GFP_KERNEL, AUDIT_KERNEL_OTHER);

	if (!ab)
		return;
	audit_log_format(ab, "module=fastio op=setup ctx=%llu workers=%u wq_workers=%u ops=0x%llx",
			 ctx->id, setup->workers, setup->wq_workers, setup->ops);
	audit_log_task_info(ab);
	audit_log_format(ab, " res=%d errno=%d", !res, res);
	audit_log_end(ab);
}
