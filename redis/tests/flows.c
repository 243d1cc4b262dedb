// SPDX-License-Identifier: MIT
/* Tests of flows and rings without a server, with libfastio's user-space back end. Prints TAP. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../flow.h"

#define PATIENCE_MS 20000

static unsigned int tests, failures;
static bool passing;
static struct rings *rings;
static unsigned int gone;

#define EXPECT(condition)                                                          \
	do {                                                                       \
		if (!(condition) && passing) {                                     \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition); \
			passing = false;                                           \
		}                                                                  \
	} while (0)

static void on_gone(struct flow *flow)
{
	free(flow);
	gone++;
}

/* A flow and its peer, which does not block. */
static struct flow *make_flow(int *peer)
{
	struct flow *flow = malloc(sizeof(*flow));
	int pair[2];

	if (!flow || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair))
		abort();
	flow_init(flow, pair[0]);
	EXPECT(!flow_attach(rings, flow));
	flow_watch_read(rings, flow, true);
	*peer = pair[1];
	return flow;
}

static void turn(void)
{
	EXPECT(!rings_wait(rings, 1000, 0));
	rings_harvest(rings);
}

/* Goes round until a condition holds; returns whether it came to that in time. */
#define UNTIL(condition)                                                             \
	({                                                                           \
		uint64_t limit_ms = rings_now_ms() + PATIENCE_MS;                    \
		while (!(condition) && rings_now_ms() < limit_ms)                    \
			turn();                                                      \
		(condition);                                                         \
	})

static unsigned char byte_at(size_t at)
{
	return (unsigned char)(at * 31 + at / 251);
}

/* Writes as much of [*done, total) as the peer's socket takes. */
static void peer_writes(int peer, size_t *done, size_t total)
{
	unsigned char bytes[3000];
	size_t length = total - *done < sizeof(bytes) ? total - *done : sizeof(bytes);
	ssize_t sent;

	for (size_t i = 0; i < length; i++)
		bytes[i] = byte_at(*done + i);
	sent = length ? send(peer, bytes, length, MSG_NOSIGNAL) : 0;
	*done += sent > 0 ? (size_t)sent : 0;
}

/* Reads what is there and checks it. Returns false at the end of the stream. */
static bool peer_reads(int peer, size_t *done)
{
	unsigned char bytes[5000];
	ssize_t got = recv(peer, bytes, sizeof(bytes), 0);

	for (ssize_t i = 0; i < got; i++)
		EXPECT(bytes[i] == byte_at((*done)++));
	return got != 0;
}

static size_t flow_writes(struct flow *flow, size_t done, size_t total)
{
	unsigned char bytes[7000];
	size_t length = total - done < sizeof(bytes) ? total - done : sizeof(bytes);
	struct iovec parts[] = { { bytes, length / 3 }, { bytes + length / 3, length - length / 3 } };

	for (size_t i = 0; i < length; i++)
		bytes[i] = byte_at(done + i);
	return flow_write(rings, flow, parts, 2);
}

static void everything_arrives_in_order(void)
{
	size_t sent = 0, received = 0, total = 3000000;
	int peer;
	struct flow *flow = make_flow(&peer);
	uint64_t until_ms = rings_now_ms() + PATIENCE_MS;

	while (received < total && rings_now_ms() < until_ms) {
		unsigned char bytes[2500];
		struct flow *next;
		size_t got;

		peer_writes(peer, &sent, total);
		turn();
		next = flow_next_readable(rings);
		if (!next)
			continue;
		EXPECT(next == flow);
		got = flow_read(flow, bytes, 1 + received % sizeof(bytes));
		for (size_t i = 0; i < got; i++)
			EXPECT(bytes[i] == byte_at(received + i));
		received += got;
		flow_requeue(rings, flow);
	}
	EXPECT(received == total);
	close(peer);
	EXPECT(UNTIL(flow->ended));
	EXPECT(flow_next_readable(rings) == flow);
	flow_close(rings, flow);
	EXPECT(UNTIL(gone == 1));
}

static void writing_stops_for_a_slow_peer_and_goes_on(void)
{
	size_t written = 0, read = 0, total = 2000000, most = 0;
	int peer;
	struct flow *flow = make_flow(&peer);
	uint64_t until_ms = rings_now_ms() + PATIENCE_MS;
	bool was_full = false;

	flow_watch_write(rings, flow, true);
	while (read < total && rings_now_ms() < until_ms) {
		if (written < total) {
			size_t taken = flow_writes(flow, written, total);

			written += taken;
			was_full = was_full || !taken;
		}
		most = flow_unsent(flow) > most ? flow_unsent(flow) : most;
		turn();
		if (was_full)
			peer_reads(peer, &read);
	}
	EXPECT(was_full && read == total);
	EXPECT(most <= rings->send_bytes + FLOW_SMALL_WRITE);
	EXPECT(flow_next_writable(rings) == flow);
	flow_close(rings, flow);
	EXPECT(UNTIL(gone == 1));
	close(peer);
}

static void small_writes_are_taken_whole_or_not_at_all(void)
{
	unsigned char bytes[FLOW_SMALL_WRITE] = { 0 };
	struct iovec part = { bytes, sizeof(bytes) };
	int peer;
	struct flow *flow = make_flow(&peer);
	size_t taken;

	do
		taken = flow_writes(flow, 0, 7000);
	while (taken);
	taken = flow_write(rings, flow, &part, 1);
	EXPECT(!taken || taken == sizeof(bytes));
	EXPECT(!flow_write(rings, flow, &part, 1) || flow_unsent(flow) <= rings->send_bytes + FLOW_SMALL_WRITE);
	close(peer);
	EXPECT(UNTIL(flow->error || flow->ended));
	flow_close(rings, flow);
	EXPECT(UNTIL(gone == 1));
}

static void a_flow_that_nobody_reads_pauses_and_keeps_its_bytes(void)
{
	size_t sent = 0, received = 0, total = 2 * FLOW_RECEIVE_MAX;
	unsigned char *bytes = malloc(total);
	int peer;
	struct flow *flow = make_flow(&peer);
	uint64_t until_ms = rings_now_ms() + PATIENCE_MS;

	flow_watch_read(rings, flow, false);
	while (rings->counters.pauses == 0 && rings_now_ms() < until_ms) {
		peer_writes(peer, &sent, total);
		turn();
	}
	EXPECT(UNTIL(!flow->receiving));
	EXPECT(flow->received >= FLOW_RECEIVE_MAX);
	EXPECT(flow->lane->free == flow->lane->provided);
	flow_watch_read(rings, flow, true);
	while (received < total && rings_now_ms() < until_ms) {
		peer_writes(peer, &sent, total);
		turn();
		received += flow_read(flow, bytes + received, total - received);
	}
	EXPECT(received == total);
	for (size_t i = 0; i < received; i++)
		EXPECT(bytes[i] == byte_at(i));
	free(bytes);
	flow_close(rings, flow);
	EXPECT(UNTIL(gone == 1));
	close(peer);
}

static void more_flows_than_buffers_all_get_their_turn(void)
{
	struct flow *flows[FLOW_BUFFERS + 100];
	int peers[FLOW_BUFFERS + 100];
	unsigned int count = FLOW_BUFFERS + 100, read = 0;
	uint64_t until_ms = rings_now_ms() + PATIENCE_MS;
	char byte = 'x';

	for (unsigned int i = 0; i < count; i++) {
		flows[i] = make_flow(&peers[i]);
		EXPECT(send(peers[i], &byte, 1, 0) == 1);
	}
	while (read < count && rings_now_ms() < until_ms) {
		struct flow *flow;

		turn();
		/* Several lanes have enough buffers for all; one runs out of them first. */
		if (rings->nr_lanes == 1 && !rings->counters.starvations)
			continue;
		while ((flow = flow_next_readable(rings)))
			read += (unsigned int)flow_read(flow, &byte, 1);
	}
	EXPECT(read == count);
	for (unsigned int i = 0; i < count; i++) {
		flow_close(rings, flows[i]);
		close(peers[i]);
	}
	EXPECT(UNTIL(gone == count));
}

static void what_was_written_before_close_arrives(void)
{
	size_t written = 0, read = 0;
	int peer;
	struct flow *flow = make_flow(&peer);
	uint64_t until_ms = rings_now_ms() + PATIENCE_MS;

	for (size_t taken = 1; taken; written += taken)
		taken = flow_writes(flow, written, 1000000);
	flow_close(rings, flow);
	while (peer_reads(peer, &read) && rings_now_ms() < until_ms)
		turn();
	EXPECT(read == written);
	EXPECT(UNTIL(gone == 1));
	close(peer);
}

static void a_closed_flow_gives_up_a_peer_that_does_not_read(void)
{
	int small = 4096, peer;
	struct flow *flow = make_flow(&peer);
	uint64_t began_ms;
	size_t read = 0;

	setsockopt(flow->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (int i = 0; i < 100; i++)
		flow_writes(flow, 0, 7000);
	began_ms = rings_now_ms();
	flow_close(rings, flow);
	while (!gone && rings_now_ms() < began_ms + PATIENCE_MS) {
		turn();
		rings_expire(rings);
	}
	EXPECT(gone == 1 && rings->counters.abandoned == 1);
	EXPECT(rings_now_ms() >= began_ms + FLOW_LINGER_MS);
	while (recv(peer, &read, sizeof(read), 0) > 0)
		;
	EXPECT(recv(peer, &read, sizeof(read), 0) <= 0);
	close(peer);
}

static void a_detached_flow_goes_on_with_system_calls(void)
{
	unsigned char bytes[64];
	int peer;
	struct flow *flow = make_flow(&peer);
	size_t sent = 0, read = 0;

	peer_writes(peer, &sent, 50);
	EXPECT(UNTIL(flow->received == 50));
	EXPECT(flow_writes(flow, 0, 40) == 40);
	EXPECT(!flow_detach(rings, flow));
	EXPECT(!flow->lane && flow->received == 50);
	EXPECT(flow_read(flow, bytes, 20) == 20 && bytes[19] == byte_at(19));
	EXPECT(flow_read(flow, bytes, 64) == 30 && bytes[29] == byte_at(49));
	while (read < 40)
		peer_reads(peer, &read);
	EXPECT(send(flow->fd, "direct", 6, 0) == 6 && recv(peer, bytes, 64, 0) == 6);
	EXPECT(send(peer, "reply", 5, 0) == 5 && recv(flow->fd, bytes, 64, 0) == 5);
	flow_close(rings, flow);
	EXPECT(gone == 1);
	close(peer);
}

/* What of @total bytes a flow was sent came by way of the rings, and what comes afterwards. */
static void expect_bytes(struct flow *flow, size_t total)
{
	unsigned char bytes[300];
	size_t done = flow_read(flow, bytes, total);

	if (done < total)
		done += (size_t)recv(flow->fd, bytes + done, total - done, MSG_DONTWAIT);
	EXPECT(done == total && !flow->error);
	for (size_t i = 0; i < total; i++)
		EXPECT(bytes[i] == byte_at(i));
}

static void flows_outlive_their_rings(void)
{
	int peers[3];
	struct flow *quiet = make_flow(&peers[0]), *unread = make_flow(&peers[1]), *busy = make_flow(&peers[2]);
	size_t sent = 0, written = 0, read = 0;
	uint64_t until_ms = rings_now_ms() + PATIENCE_MS;

	peer_writes(peers[0], &sent, 60);
	EXPECT(UNTIL(quiet->received == 60));
	for (size_t taken = 1; taken; written += taken)
		taken = flow_writes(busy, written, 1000000);
	/* Twice, so that there may be something that the rings have and nobody harvested. */
	for (sent = 0; sent < 300; peer_writes(peers[1], &sent, sent + 150))
		EXPECT(!rings_wait(rings, 1000, 0));
	rings_stop(rings);
	flow_abandon(rings, quiet);
	flow_abandon(rings, unread);
	flow_abandon(rings, busy);
	expect_bytes(quiet, 60);
	expect_bytes(unread, 300);
	while (read < written && !busy->error && rings_now_ms() < until_ms) {
		int ret = flow_write_rest(busy);

		EXPECT(!ret || ret == -EAGAIN);
		peer_reads(peers[2], &read);
	}
	EXPECT(read == written && !flow_unsent(busy));
	flow_close(rings, quiet);
	flow_close(rings, unread);
	flow_close(rings, busy);
	EXPECT(gone == 3);
	for (int i = 0; i < 3; i++)
		close(peers[i]);
}

static void a_watched_descriptor_is_reported(void)
{
	int pipes[2];

	EXPECT(!pipe(pipes));
	rings_watch_fd(rings, pipes[0]);
	turn();
	EXPECT(!rings->poll_ready);
	EXPECT(write(pipes[1], "x", 1) == 1);
	EXPECT(UNTIL(rings->poll_ready));
	/* As long as nobody looked. */
	turn();
	EXPECT(rings->poll_ready && !rings->polling);
	rings->poll_ready = false;
	EXPECT(UNTIL(rings->poll_ready));
	rings_watch_fd(rings, -1);
	close(pipes[0]);
	close(pipes[1]);
}

static void settling_finds_what_is_there(void)
{
	int peer;
	struct flow *flow = make_flow(&peer);

	EXPECT(send(peer, "x", 1, 0) == 1);
	for (int i = 0; i < 10 && !flow->received; i++)
		rings_settle(rings);
	EXPECT(flow->received == 1);
	flow_close(rings, flow);
	EXPECT(UNTIL(gone == 1));
	close(peer);
}

struct test {
	const char *name;
	void (*run)(void);
};
#define TEST(name) { #name, name }

static void run(const struct test *test, const char *mode, unsigned int workers, unsigned int self_weight)
{
	struct rings_options options = {
		.workers = workers,
		.self_weight = self_weight,
		.flows_max = 1000,
		.send_bytes = 65536,
		.backend = FASTIO_BACKEND_USER,
	};
	struct fastio_error error = { "" };

	passing = true;
	gone = 0;
	if (rings_open(&rings, &options, on_gone, &error)) {
		printf("# %s\n", error.message);
		passing = false;
	} else {
		test->run();
		EXPECT(!rings->all.length && !rings->readable.length && !rings->writable.length);
		rings_close(rings);
	}
	failures += !passing;
	printf("%s %u - %s (%s)\n", passing ? "ok" : "not ok", ++tests, test->name, mode);
}

int main(void)
{
	static const struct test all[] = {
		TEST(everything_arrives_in_order),
		TEST(writing_stops_for_a_slow_peer_and_goes_on),
		TEST(small_writes_are_taken_whole_or_not_at_all),
		TEST(a_flow_that_nobody_reads_pauses_and_keeps_its_bytes),
		TEST(more_flows_than_buffers_all_get_their_turn),
		TEST(what_was_written_before_close_arrives),
		TEST(a_closed_flow_gives_up_a_peer_that_does_not_read),
		TEST(a_detached_flow_goes_on_with_system_calls),
		TEST(flows_outlive_their_rings),
		TEST(a_watched_descriptor_is_reported),
		TEST(settling_finds_what_is_there),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		run(&all[i], "inline", 0, 0);
		run(&all[i], "workers", 2, 0);
		run(&all[i], "hybrid", 1, FASTIO_SELF_WEIGHT_FULL);
	}
	printf("1..%u\n", tests);
	return failures != 0;
}
