// SPDX-License-Identifier: MIT
/*
 * Telling the program of completions. A descriptor becomes readable with the first completion after
 * the program was last told, and stays so until it has found all CQs empty; so a busy program costs
 * its workers no system call.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "user.h"

/* After a CQ's tail was moved. */
void fio_tell(struct user_context *context)
{
	uint64_t one = 1;

	/*
	 * The tail before this look. Pairs with fio_forget_told(): one of the two sees what the
	 * other wrote.
	 */
	if (__atomic_load_n(&context->done_told, __ATOMIC_SEQ_CST) ||
	    __atomic_exchange_n(&context->done_told, 1, __ATOMIC_SEQ_CST))
		return;
	while (write(context->done_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Makes the descriptor unreadable, unless there is something to reap. Returns whether there is. */
bool fio_forget_told(struct user_context *context)
{
	uint64_t count;

	__atomic_exchange_n(&context->done_told, 0, __ATOMIC_SEQ_CST);
	/*
	 * Also when nobody had told: a teller may be between its two steps, or have come late with
	 * the second.
	 */
	while (read(context->done_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	if (!fastio_any_cqe(&context->priv->fio))
		return false;
	fio_tell(context);
	return true;
}

bool fio_emptied(struct fastio_private *priv)
{
	return __atomic_load_n(&priv->user->done_told, __ATOMIC_RELAXED) &&
	       fio_forget_told(priv->user);
}

int fio_wait(struct fastio_private *priv, uint32_t timeout_us)
{
	struct pollfd done = { .fd = priv->user->done_fd, .events = POLLIN };
	struct timespec timeout = { timeout_us / 1000000, (long)(timeout_us % 1000000) * 1000 };
	int ret;

	if (fio_forget_told(priv->user))
		return 0;
	ret = ppoll(&done, 1, &timeout, NULL);
	return ret > 0 ? 0 : ret < 0 ? -errno : -ETIME;
}
