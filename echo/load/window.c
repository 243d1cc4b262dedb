/* SPDX-License-Identifier: MIT */
/* The measured window: who is in it, and in which interval. */
#define _GNU_SOURCE
#include "load.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

void window_init(struct window *window)
{
	atomic_init(&window->start_ns, LOAD_NEVER);
	atomic_init(&window->end_ns, LOAD_NEVER);
	pthread_mutex_init(&window->first_lock, NULL);
	window->event_fd = eventfd(0, EFD_CLOEXEC);
	if (window->event_fd < 0)
		die(EXIT_ENVIRONMENT, "cannot make an eventfd");
}

void window_wake(struct window *window)
{
	uint64_t one = 1;

	/* Cannot fail: the counter would have to overflow. */
	if (write(window->event_fd, &one, sizeof(one)) < 0)
		die(EXIT_ENVIRONMENT, "cannot write to an eventfd");
}

bool window_sleep(struct window *window, uint64_t until_ns)
{
	for (;;) {
		struct pollfd poll = { .fd = window->event_fd, .events = POLLIN };
		uint64_t now = now_ns(), left = until_ns > now ? until_ns - now : 0;
		/* The raw clock cannot be slept on; the other one differs by less than a thousandth. */
		struct timespec time = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };

		if (!left)
			return true;
		if (ppoll(&poll, 1, until_ns == LOAD_NEVER ? NULL : &time, NULL) > 0)
			return false;
	}
}

uint64_t window_overlap(const struct window *window, uint64_t from, uint64_t to)
{
	uint64_t start = atomic_load_explicit(&window->start_ns, memory_order_relaxed);
	uint64_t end = atomic_load_explicit(&window->end_ns, memory_order_relaxed);

	if (from < start)
		from = start;
	if (to > end)
		to = end;
	return to > from ? to - from : 0;
}

void window_return_ticket(struct window *window, const struct settings *settings, uint64_t now)
{
	if (atomic_fetch_add(&window->completed, 1) + 1 < settings->requests)
		return;
	atomic_store(&window->end_ns, now);
	window_wake(window);
}

void window_record(struct sender *sender, struct connection *connection, uint64_t now)
{
	const struct settings *settings = sender->settings;
	struct window *window = sender->window;
	uint64_t start = atomic_load_explicit(&window->start_ns, memory_order_relaxed);
	uint64_t end = atomic_load_explicit(&window->end_ns, memory_order_relaxed);
	struct interval *interval;
	uint64_t number;

	sender->total_requests += settings->pipeline;
	sender->total_bytes += settings->message_bytes * settings->pipeline;
	if (settings->requests) {
		if (connection->ticket == NO_TICKET)
			return;
		number = connection->ticket * settings->intervals / settings->requests;
		sender->completed++;
		window_return_ticket(window, settings, now);
	} else {
		/* An open loop's request belongs to the window in which it was to be sent. */
		uint64_t belongs = settings->rate > 0 ? connection->start_ns : now;

		if (now >= start && now < end)
			sender->completed += settings->pipeline;
		if (start == LOAD_NEVER || belongs < start || belongs >= end)
			return;
		number = (belongs - start) / settings->interval_ns;
	}
	interval = &sender->intervals[number];
	if (now < interval->first_ns)
		interval->first_ns = now;
	if (now > interval->last_ns)
		interval->last_ns = now;
	for (uint64_t i = 0; i < settings->pipeline; i++)
		histogram_record(&interval->latency, now - connection->start_ns);
}
