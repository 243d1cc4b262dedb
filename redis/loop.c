// SPDX-License-Identifier: MIT
/*
 * The event loop waits for the rings instead of epoll. What epoll watches (listeners, unix sockets, the
 * cluster bus, pipes) is not forgotten meanwhile: a POLL operation on the epoll descriptor itself is in
 * flight on the rings, and epoll is asked only when that says that it has something.
 *
 * Waiting happens with the modules' lock released. So nothing here touches a connection: completions are
 * harvested by process_pending().
 */
#include "core.h"

/* Longest wait without a look around. */
#define WAIT_MAX_US 1000000

/* The descriptor behind ae_epoll.c's private state, which begins with it. */
static int epoll_fd(const aeEventLoop *el)
{
	return *(const int *)el->apidata;
}

static int64_t until_timer_us(const aeEventLoop *el)
{
	monotime now = getMonotonicUs(), earliest = now + WAIT_MAX_US;

	for (const aeTimeEvent *te = el->timeEventHead; te; te = te->next)
		if (te->id != AE_DELETED_EVENT_ID && te->when < earliest)
			earliest = te->when;
	return earliest > now ? (int64_t)(earliest - now) : 0;
}

/* Waits for completions, or for the next timer. @stay: something is to be done already. */
static void wait_for_rings(const aeEventLoop *el, bool stay)
{
	int error = rings_wait(core.rings, stay ? 0 : until_timer_us(el), core.spin_us);

	if (error)
		core.died = error;
}

/* Whether epoll has events, which then are the caller's. */
static bool take_plain_events(void)
{
	bool any = core.rings->poll_ready;

	core.rings->poll_ready = false;
	return any || core.died;
}

#ifdef FASTIO_VALKEY

static int poll_instead(aeEventLoop *el)
{
	struct timeval now = { 0, 0 };
	bool plain = take_plain_events();

	/* Whoever processes events while blocked comes back when there are none. */
	if (plain || ProcessingEventsWhileBlocked) {
		wait_for_rings(el, true);
		return aePoll(el, &now);
	}
	wait_for_rings(el, el->flags & AE_DONT_WAIT);
	return 0;
}

/** loop_hook - from now on the loop waits for the rings */
void loop_hook(void)
{
	rings_watch_fd(core.rings, epoll_fd(server.el));
	aeSetCustomPollProc(server.el, poll_instead);
}

/** loop_unhook - from now on the loop waits for epoll again */
void loop_unhook(void)
{
	aeSetCustomPollProc(server.el, NULL);
}

#else

static aeBeforeSleepProc *before_sleep;

/*
 * This loop has no hook of its own around epoll_wait(). So its two halves, before and after it, are run
 * here as often as there are completions only; the real epoll_wait() is left when epoll has something, or
 * a timer is due, and is then told not to wait.
 */
static void before_sleep_instead(aeEventLoop *el)
{
	before_sleep(el);
	while (core.rings->fio && !core.died && !el->stop && !ProcessingEventsWhileBlocked) {
		bool plain = take_plain_events();

		if (plain || !until_timer_us(el))
			break;
		wait_for_rings(el, el->flags & AE_DONT_WAIT);
		if (core.died || (!rings_have_news(core.rings) && !until_timer_us(el)))
			break;
		el->aftersleep(el);
		before_sleep(el);
	}
	if (core.rings->fio) {
		wait_for_rings(el, true);
		aeSetDontWait(el, 1);
	}
}

/** loop_hook - from now on the loop waits for the rings */
void loop_hook(void)
{
	rings_watch_fd(core.rings, epoll_fd(server.el));
	before_sleep = server.el->beforesleep;
	aeSetBeforeSleepProc(server.el, before_sleep_instead);
}

/** loop_unhook - from now on the loop waits for epoll again */
void loop_unhook(void)
{
	aeSetBeforeSleepProc(server.el, before_sleep);
}

#endif
