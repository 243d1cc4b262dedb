/* SPDX-License-Identifier: MIT */
/*
 * When the requests of an open loop are to be sent. Each connection has a schedule of its own, fixed before the
 * first reply: a slow server cannot slow the questions down, and a reply is as late as it is late for the one
 * who wanted to ask at the intended time. A connection carries one request at a time; one that is due while
 * the reply before it is missing goes out as soon as that is in, and its waiting counts.
 */
#include "load.h"

#include <math.h>

/* xorshift64*: good enough for arrival times, and the same everywhere. */
static double random_share(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (double)((*state * 0x2545f4914f6cdd1du) >> 11) / 9007199254740992.0;
}

/* Nanoseconds between two requests of one connection. */
static double period_ns(const struct settings *settings)
{
	return (double)settings->connections * 1e9 / settings->rate;
}

void schedule_start(struct sender *sender, uint64_t start_ns)
{
	const struct settings *settings = sender->settings;

	sender->random = settings->seed * 2 + 1 + sender->index * 0x9e3779b97f4a7c15u;
	for (unsigned int i = 0; i < sender->connection_count; i++) {
		struct connection *connection = sender->connections[i];
		/* Even: the connections take turns. Poisson: each begins somewhere in its first period. */
		double share = settings->arrivals == ARRIVALS_POISSON
				       ? random_share(&sender->random)
				       : (double)connection->id / (double)settings->connections;

		connection->due_number = 0;
		connection->due_ns = start_ns + (uint64_t)(share * period_ns(settings));
	}
}

void schedule_advance(struct sender *sender, struct connection *connection)
{
	double period = period_ns(sender->settings);

	if (sender->settings->arrivals == ARRIVALS_POISSON) {
		connection->due_ns += (uint64_t)(-log(1 - random_share(&sender->random)) * period);
		return;
	}
	/* The whole distance from the first each time, so that rounding does not add up. */
	connection->due_ns -= (uint64_t)((double)connection->due_number * period);
	connection->due_number++;
	connection->due_ns += (uint64_t)((double)connection->due_number * period);
}

uint64_t schedule_unanswered(struct sender *sender)
{
	uint64_t start = atomic_load(&sender->window->start_ns), end = atomic_load(&sender->window->end_ns), count = 0;

	/* Without an end there was no window, and the schedules go on for ever. */
	if (start == LOAD_NEVER || end == LOAD_NEVER)
		return 0;
	for (unsigned int i = 0; i < sender->connection_count; i++) {
		struct connection *connection = sender->connections[i];

		if (connection->busy && connection->start_ns >= start && connection->start_ns < end)
			count++;
		for (; connection->due_ns < end; schedule_advance(sender, connection))
			count += connection->due_ns >= start;
	}
	return count;
}
