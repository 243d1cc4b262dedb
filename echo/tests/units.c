/* SPDX-License-Identifier: MIT */
/* Tests of the parts that need no socket. Prints TAP. */
#define _GNU_SOURCE
#include "../common/cputime.h"
#include "../common/json.h"
#include "../common/options.h"
#include "../common/outbox.h"
#include "../load/histogram.h"
#include "../load/pattern.h"
#include "../load/protocol.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned int tests, failures;
static bool passing;
static uint64_t random_state = 88172645463325252u;

#define EXPECT(condition)                                                          \
	do {                                                                       \
		if (!(condition) && passing) {                                     \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition); \
			passing = false;                                           \
		}                                                                  \
	} while (0)

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* ------------------------------------------------------------------ histogram */

static void histogram_buckets_follow_one_another(void)
{
	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		EXPECT(histogram_index(histogram_lowest(i)) == i);
		EXPECT(histogram_index(histogram_highest(i)) == i);
		EXPECT(!i || histogram_lowest(i) == histogram_highest(i - 1) + 1);
		EXPECT(histogram_highest(i) - histogram_lowest(i) <= histogram_lowest(i) / 1024);
	}
	EXPECT(histogram_highest(HISTOGRAM_BUCKETS - 1) == ((uint64_t)1 << HISTOGRAM_VALUE_BITS) - 1);
	EXPECT(histogram_index(UINT64_MAX) == HISTOGRAM_BUCKETS - 1);
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static void histogram_quantiles_are_those_of_the_sorted_values(void)
{
	static const double fractions[] = { 0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 };
	enum { COUNT = 20000 };
	uint64_t *values = calloc(COUNT, sizeof(*values));
	struct histogram *histogram = calloc(1, sizeof(*histogram));

	for (unsigned int width = 1; width <= HISTOGRAM_VALUE_BITS; width += 5) {
		memset(histogram, 0, sizeof(*histogram));
		for (int i = 0; i < COUNT; i++) {
			/* Log-uniform: every power of two gets its share. */
			values[i] = next_random() >> (64 - 1 - next_random() % width);
			histogram_record(histogram, values[i]);
		}
		qsort(values, COUNT, sizeof(*values), compare);
		for (size_t i = 0; i < sizeof(fractions) / sizeof(fractions[0]); i++) {
			uint64_t rank = (uint64_t)ceil(fractions[i] * COUNT);
			uint64_t exact = values[rank ? rank - 1 : 0], found = histogram_quantile(histogram, fractions[i]);

			EXPECT(found >= exact && found - exact <= exact / 1000);
		}
		EXPECT(histogram->min_ns == values[0] && histogram->max_ns == values[COUNT - 1]);
	}
	EXPECT(histogram_quantile(histogram, 1) == histogram->max_ns);
	memset(histogram, 0, sizeof(*histogram));
	EXPECT(histogram_quantile(histogram, 0.5) == 0);
	free(histogram);
	free(values);
}

static void histogram_merged_is_histogram_of_all(void)
{
	struct histogram *all = calloc(1, sizeof(*all)), *merged = calloc(1, sizeof(*merged));

	for (int part = 0; part < 5; part++) {
		struct histogram *one = calloc(1, sizeof(*one));

		for (int i = 0; i < part * 1000; i++) {
			uint64_t value = next_random() >> (20 + next_random() % 40);

			histogram_record(one, value);
			histogram_record(all, value);
		}
		histogram_merge(merged, one);
		free(one);
	}
	EXPECT(!memcmp(all, merged, sizeof(*all)));
	free(merged);
	free(all);
}

/* Reads the flat array back the way README.md says. */
static void histogram_json_loses_nothing(void)
{
	struct histogram *before = calloc(1, sizeof(*before)), *after = calloc(1, sizeof(*after));
	struct json json = { 0 };
	unsigned long long distance, count, sum;
	char *text = NULL, *at;
	size_t size;
	int index = -1;

	for (int i = 0; i < 5000; i++)
		histogram_record(before, next_random() >> (next_random() % 64));
	json.file = open_memstream(&text, &size);
	histogram_json(before, &json, NULL);
	fclose(json.file);
	EXPECT(sscanf(text, "{\"count\":%ju,\"minNs\":%ju,\"maxNs\":%ju,\"sumNs\":\"%llu\"", &after->count, &after->min_ns,
		      &after->max_ns, &sum) == 4);
	after->sum_ns = sum;
	at = strchr(text, '[');
	EXPECT(at);
	for (int used; at && sscanf(at + 1, "%llu,%llu%n", &distance, &count, &used) == 2; at += 1 + used) {
		index += (int)distance;
		EXPECT(index < HISTOGRAM_BUCKETS);
		after->buckets[index] = count;
	}
	EXPECT(at && !strcmp(at, "]}"));
	EXPECT(!memcmp(before, after, sizeof(*before)));
	free(text);
	free(after);
	free(before);
}

/* ------------------------------------------------------------------ pattern */

static void pattern_is_the_same_in_pieces(void)
{
	unsigned char whole[300], piece[300];
	uint64_t key = pattern_key(1, 2, 3);

	pattern_fill(whole, key, 0, sizeof(whole));
	for (size_t offset = 0; offset < 40; offset++) {
		for (size_t length = 0; length < 100; length++) {
			pattern_fill(piece, key, offset, length);
			EXPECT(!memcmp(piece, whole + offset, length));
			EXPECT(pattern_check(whole + offset, key, offset, length) == length);
		}
	}
}

static void pattern_check_finds_every_wrong_bit(void)
{
	unsigned char bytes[100];
	uint64_t key = pattern_key(1, 2, 3);

	for (size_t offset = 0; offset < 17; offset++) {
		pattern_fill(bytes, key, offset, sizeof(bytes));
		for (size_t i = 0; i < sizeof(bytes) * 8; i++) {
			bytes[i / 8] ^= 1 << i % 8;
			EXPECT(pattern_check(bytes, key, offset, sizeof(bytes)) == i / 8);
			bytes[i / 8] ^= 1 << i % 8;
		}
	}
}

static void pattern_tells_whose_bytes_they_are(void)
{
	unsigned char bytes[64];

	for (int i = 0; i < 10000; i++) {
		uint64_t seed = next_random(), sequence = next_random() >> 24, found_sequence;
		uint32_t connection = (uint32_t)(next_random() % 1000), found_connection;
		size_t offset = next_random() % 1000;

		pattern_fill(bytes, pattern_key(seed, connection, sequence), offset, sizeof(bytes));
		EXPECT(pattern_origin(bytes, seed, offset, sizeof(bytes), 1000, &found_connection, &found_sequence));
		EXPECT(found_connection == connection && found_sequence == sequence);
	}
}

static void pattern_of_another_message_is_noticed(void)
{
	unsigned char bytes[8];
	unsigned int unnoticed = 0;

	for (uint32_t connection = 0; connection < 100; connection++) {
		for (uint64_t sequence = 0; sequence < 100; sequence++) {
			uint64_t key = pattern_key(1, connection, sequence);

			pattern_fill(bytes, pattern_key(1, connection, sequence + 1), 0, 8);
			EXPECT(pattern_check(bytes, key, 0, 8) < 8);
			pattern_fill(bytes, pattern_key(1, connection + 1, sequence), 0, 8);
			EXPECT(pattern_check(bytes, key, 0, 8) < 8);
			/* Of a message of one byte, one in 256 looks right by chance. */
			unnoticed += pattern_check(bytes, key, 0, 1) == 1;
		}
	}
	EXPECT(unnoticed < 100);
}

/* ------------------------------------------------------------------ protocol */

static void protocol_looks_as_redis_documents_it(void)
{
	static const char request[] = "*3\r\n$3\r\nSET\r\n$15\r\nfastio:0000002a\r\n$20\r\n";
	unsigned char bytes[128], value[20];
	struct exchange exchange;

	protocol_exchange(PROTOCOL_SET, &exchange, 7, 42, 5, sizeof(value), 1);
	pattern_fill(value, pattern_key(7, 42, 5), 0, sizeof(value));
	EXPECT(shape_bytes(&exchange.request) == sizeof(request) - 1 + sizeof(value) + 2);
	shape_fill(bytes, &exchange.request, 0, shape_bytes(&exchange.request));
	EXPECT(!memcmp(bytes, request, sizeof(request) - 1));
	EXPECT(!memcmp(bytes + sizeof(request) - 1, value, sizeof(value)));
	EXPECT(!memcmp(bytes + sizeof(request) - 1 + sizeof(value), "\r\n", 2));
	EXPECT(shape_bytes(&exchange.reply) == 5 && !memcmp(exchange.reply.text, "+OK\r\n", 5));
	protocol_exchange(PROTOCOL_INCR, &exchange, 7, 42, 99, 1, 1);
	EXPECT(!strncmp(exchange.reply.text, ":100\r\n", exchange.reply.text_bytes));
}

static void protocol_mset_sets_ten_keys_the_last_to_the_message(void)
{
	static const char begin[] = "*21\r\n$4\r\nMSET\r\n$17\r\nfastio:0000002a:1\r\n$1\r\n-\r\n$17\r\nfastio:0000002a:2\r\n";
	static const char end[] = "$17\r\nfastio:0000002a:9\r\n$1\r\n-\r\n$15\r\nfastio:0000002a\r\n$20\r\n";
	struct exchange exchange;
	const struct shape *request = &exchange.request;

	protocol_exchange(PROTOCOL_MSET, &exchange, 7, 42, 5, 20, 1);
	EXPECT(request->text_bytes < sizeof(request->text));
	EXPECT(!memcmp(request->text, begin, sizeof(begin) - 1));
	EXPECT(!memcmp(request->text + request->text_bytes - (sizeof(end) - 1), end, sizeof(end) - 1));
	EXPECT(shape_bytes(request) == request->text_bytes + 20 + 2 && request->key == pattern_key(7, 42, 5));
	/* The largest message and the longest number of a connection fit as well. */
	protocol_exchange(PROTOCOL_MSET, &exchange, 7, UINT32_MAX, 5, 1048576, 1);
	EXPECT(request->text_bytes < sizeof(request->text));
}

/* Of mixed requests each GET has to return what the SET before it set. */
static void protocol_mixed_reads_what_it_wrote(void)
{
	struct exchange exchange;
	uint64_t written = 0;

	for (uint64_t sequence = 0; sequence < 100; sequence++) {
		protocol_exchange(PROTOCOL_MIXED, &exchange, 7, 3, sequence, 64, 1);
		if (sequence % 11 == 0)
			written = exchange.request.key;
		else
			EXPECT(exchange.reply.key == written && !exchange.request.message_bytes);
	}
}

static void protocol_is_the_same_in_pieces_and_every_wrong_byte_is_found(void)
{
	for (enum protocol protocol = PROTOCOL_ECHO; protocol <= PROTOCOL_MIXED; protocol++) {
		for (uint64_t sequence = 0; sequence < 2; sequence++) {
			unsigned char whole[512], pieces[512];
			struct exchange exchange;
			size_t size;

			protocol_exchange(protocol, &exchange, 1, 2, sequence, 61, protocol_can_pipeline(protocol) ? 5 : 1);
			size = shape_bytes(&exchange.reply);
			shape_fill(whole, &exchange.reply, 0, size);
			for (size_t at = 0, length; at < size; at += length) {
				length = 1 + next_random() % (size - at);
				shape_fill(pieces + at, &exchange.reply, at, length);
				EXPECT(shape_check(pieces + at, &exchange.reply, at, length) == length);
			}
			EXPECT(!memcmp(whole, pieces, size));
			for (size_t at = 0; at < size; at++) {
				whole[at] ^= 1;
				EXPECT(shape_check(whole, &exchange.reply, 0, size) == at);
				whole[at] ^= 1;
			}
		}
	}
}

/* ------------------------------------------------------------------ outbox */

static unsigned int provided_count;

static void provide(struct pool *pool, char *bytes, unsigned int id)
{
	/* What is with the receives may be written at any time. */
	memset(bytes, 0xee, pool->buffer_bytes);
	provided_count++;
	(void)id;
}

/* Plays a server with one connection and a peer that takes what it likes. */
static void outbox_keeps_every_byte_in_order(void)
{
	for (int round = 0; round < 300; round++) {
		struct pool pool = { 0 };
		struct outbox outbox;
		uint64_t key = pattern_key(9, (uint32_t)round, 0);
		size_t arrived = 0, went = 0;
		bool taken[8] = { false };

		EXPECT(pool_init(&pool, 8, 100, provide));
		outbox_init(&outbox);
		for (int step = 0; step < 200; step++) {
			if (pool.free && next_random() % 2) {
				size_t length = 1 + next_random() % 100;
				unsigned int id = (unsigned int)(pool.count - pool.free), looked = 0;

				/* Any buffer that nothing has linked. */
				while (taken[id % 8] && looked++ < 8)
					id++;
				id %= 8;
				pattern_fill((unsigned char *)pool.bytes + id * 100, key, arrived, length);
				pool_taken(&pool);
				taken[id] = true;
				EXPECT(outbox_add(&outbox, &pool, id, length));
				arrived += length;
			} else if (!outbox_is_empty(&outbox)) {
				size_t length, part;
				const char *bytes = outbox_next(&outbox, &pool, &length);

				part = next_random() % 3 ? length : next_random() % length;
				EXPECT(pattern_check((const unsigned char *)bytes, key, went, part) == part);
				went += part;
				EXPECT(outbox_sent(&outbox, &pool, part) != OUTBOX_NO_MEMORY);
			}
			/* Which are taken is known by which are linked. */
			memset(taken, 0, sizeof(taken));
			for (unsigned int id = outbox.first; id != POOL_NONE; id = pool.links[id].next)
				taken[id] = true;
			EXPECT(!outbox_is_stalled(&outbox) || pool.free == 8);
		}
		outbox_drop(&outbox, &pool);
		EXPECT(pool.free == 8 && outbox_is_empty(&outbox));
		pool_free(&pool);
	}
}

/* ------------------------------------------------------------------ the rest */

static void cpu_lists(void)
{
	static const char *const wrong[] = { "", ",", "1,", ",1", "-1", "3-2", "a", "1-", "1 ", "99999", "0-256", "1--2" };
	struct cpu_list list = { 0 };

	EXPECT(!cpus_parse("0,2-4,7,7", &list) && list.count == 6);
	EXPECT(list.cpu[0] == 0 && list.cpu[1] == 2 && list.cpu[3] == 4 && list.cpu[5] == 7);
	EXPECT(!cpus_parse("0-255", &list) && list.count == 256);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		EXPECT(cpus_parse(wrong[i], &list));
	EXPECT(list.count == 256);
}

static void json_is_escaped_and_nested(void)
{
	struct json json = { 0 };
	char *text = NULL;
	size_t size;

	json.file = open_memstream(&text, &size);
	json_object(&json, NULL);
	json_text(&json, "a\"b", "\\\n\x80");
	json_array(&json, "list");
	json_count(&json, NULL, UINT64_MAX);
	json_number(&json, NULL, 0.5);
	json_number(&json, NULL, NAN);
	json_object(&json, NULL);
	json_end_object(&json);
	json_end_array(&json);
	json_bool(&json, "yes", true);
	json_text(&json, "none", NULL);
	json_end_object(&json);
	fclose(json.file);
	EXPECT(!strcmp(text, "{\"a\\\"b\":\"\\\\\\u000a\\u0080\",\"list\":[18446744073709551615,0.5,null,{}],"
			     "\"yes\":true,\"none\":null}"));
	free(text);
}

static void cpu_time_is_counted_and_survives_the_wire(void)
{
	struct cpu_sample before = { 0 }, after = { 0 }, read = { 0 }, process = { 0 };
	uint64_t until = now_ns() + 30000000;
	int fds[2];

	EXPECT(!cputime_sample_self(&before));
	while (now_ns() < until)
		;
	EXPECT(!cputime_sample_self(&after));
	EXPECT(before.count >= 1 && after.count == before.count);
	EXPECT(after.threads[0].tid == getpid());
	/* Other programs may have run in between, but we did not use more than there was. */
	EXPECT(after.threads[0].cpu_ns > before.threads[0].cpu_ns);
	EXPECT(after.threads[0].cpu_ns - before.threads[0].cpu_ns <= 2 * (after.time_ns - before.time_ns));
	EXPECT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	EXPECT(!cputime_send(fds[0], &after) && !cputime_receive(fds[1], &read));
	EXPECT(read.count == after.count && read.time_ns == after.time_ns);
	for (unsigned int i = 0; i < after.count && i < read.count; i++) {
		EXPECT(read.threads[i].tid == after.threads[i].tid);
		EXPECT(read.threads[i].cpu_ns == after.threads[i].cpu_ns && !read.threads[i].at_ns);
		EXPECT(!strcmp(read.threads[i].name, after.threads[i].name));
	}
	EXPECT(send(fds[0], "12\nx\n", 5, 0) == 5 && cputime_receive(fds[1], &read) != 0);
	close(fds[0]);
	EXPECT(cputime_receive(fds[1], &read) == -EPROTO);
	close(fds[1]);
	EXPECT(!cputime_sample_process(getpid(), &process) && process.count == after.count);
	EXPECT(cputime_sample_process(4194303, &process) == -ENOENT);
	cputime_free(&before);
	cputime_free(&after);
}

#define TEST(function) { #function, function }

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {
		TEST(histogram_buckets_follow_one_another),
		TEST(histogram_quantiles_are_those_of_the_sorted_values),
		TEST(histogram_merged_is_histogram_of_all),
		TEST(histogram_json_loses_nothing),
		TEST(pattern_is_the_same_in_pieces),
		TEST(pattern_check_finds_every_wrong_bit),
		TEST(pattern_tells_whose_bytes_they_are),
		TEST(pattern_of_another_message_is_noticed),
		TEST(protocol_looks_as_redis_documents_it),
		TEST(protocol_mset_sets_ten_keys_the_last_to_the_message),
		TEST(protocol_mixed_reads_what_it_wrote),
		TEST(protocol_is_the_same_in_pieces_and_every_wrong_byte_is_found),
		TEST(outbox_keeps_every_byte_in_order),
		TEST(cpu_lists),
		TEST(json_is_escaped_and_nested),
		TEST(cpu_time_is_counted_and_survives_the_wire),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		passing = true;
		all[i].run();
		failures += !passing;
		printf("%s %u - %s\n", passing ? "ok" : "not ok", ++tests, all[i].name);
	}
	printf("1..%u\n", tests);
	return failures ? EXIT_SAID_NO : 0;
}
