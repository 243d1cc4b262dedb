// SPDX-License-Identifier: MIT
/*
 * Reads fastio.conf. suites/conf.ts does the same in TypeScript; tests/conf/ holds the cases that
 * both must answer alike, down to the wording of the messages.
 */
#include "fastio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* Found text is shown up to this many bytes. */
#define SHOWN_BYTES 40
/* Each shown byte may become \xNN, then two quotes, an ellipsis and the NUL. */
#define QUOTED_BYTES (4 * SHOWN_BYTES + 6)

struct conf_key {
	const char *name;
	size_t offset;
	int min, max, initial;
};

/* clang-format off */
#define KEY(field, min, max, initial) \
	{ #field, offsetof(struct fastio_conf, field), min, max, initial }
/* clang-format on */

static const struct conf_key keys[] = {
	KEY(esca_localize, 0, 1, 0),
	KEY(max_table_entry, 1, FASTIO_CONF_MAX_ENTRIES, 64),
	KEY(max_table_len, 1, FASTIO_CONF_MAX_ENTRIES, 10),
	KEY(max_usr_worker, 1, 64, 1),
	KEY(max_ker_worker, 0, 1024, 2),
	KEY(default_main_worker_idle_time, 0, 10000, 1500),
	KEY(default_wq_worker_idle_time, 0, 10000, 1500),
	KEY(affinity_offset, -1, 1023, -1),
	KEY(wq_affinity_offset, -1, 1023, -1),
};

#define NR_KEYS (sizeof(keys) / sizeof(keys[0]))

#define KEY_NAMES                                                                         \
	"esca_localize, max_table_entry, max_table_len, max_usr_worker, max_ker_worker, " \
	"default_main_worker_idle_time, default_wq_worker_idle_time, affinity_offset, "   \
	"wq_affinity_offset"

/* A run of bytes inside the text; not NUL-terminated. */
struct span {
	const char *at;
	size_t len;
};

struct parser {
	const char *name;
	struct fastio_error *error;
	struct fastio_conf conf;
	/* The line each key stood on, 0 for a key not seen yet. */
	unsigned int seen[NR_KEYS];
};

static int *field(struct fastio_conf *conf, const struct conf_key *key)
{
	return (int *)((char *)conf + key->offset);
}

__attribute__((format(printf, 3, 4))) static int fail(const struct parser *parser,
						      unsigned int line, const char *format, ...)
{
	char what[480];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	return fastio_fail(parser->error, -EINVAL, "%s:%u: %s", parser->name, line, what);
}

/* Makes any bytes fit to be shown on one line of a terminal. */
static const char *quoted(struct span span, char out[QUOTED_BYTES])
{
	size_t shown = span.len < SHOWN_BYTES ? span.len : SHOWN_BYTES;
	char *end = out;

	*end++ = '"';
	for (size_t i = 0; i < shown; i++) {
		unsigned char byte = (unsigned char)span.at[i];

		if (byte < 0x20 || byte > 0x7e || byte == '"' || byte == '\\')
			end += sprintf(end, "\\x%02x", byte);
		else
			*end++ = (char)byte;
	}
	*end++ = '"';
	strcpy(end, span.len > shown ? "..." : "");
	return out;
}

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t';
}

static struct span trimmed(struct span span)
{
	while (span.len && is_blank(span.at[0])) {
		span.at++;
		span.len--;
	}
	while (span.len && is_blank(span.at[span.len - 1]))
		span.len--;
	return span;
}

static struct span up_to(struct span span, char byte)
{
	const char *hit = span.len ? memchr(span.at, byte, span.len) : NULL;

	if (hit)
		span.len = (size_t)(hit - span.at);
	return span;
}

static const struct conf_key *find_key(struct span name)
{
	for (size_t i = 0; i < NR_KEYS; i++)
		if (strlen(keys[i].name) == name.len && !memcmp(keys[i].name, name.at, name.len))
			return &keys[i];
	return NULL;
}

/* 0, or a number without a plus sign or leading zeros, which some tools would read as octal. */
static bool read_integer(struct span text, long long *value)
{
	bool negative = text.len && text.at[0] == '-';
	long long sum = 0;

	if (negative) {
		text.at++;
		text.len--;
	}
	if (!text.len || text.len > 10 || (text.at[0] == '0' && (negative || text.len > 1)))
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
		sum = sum * 10 + (text.at[i] - '0');
	}
	*value = negative ? -sum : sum;
	return true;
}

static int parse_line(struct parser *parser, unsigned int line, struct span text)
{
	char shown[QUOTED_BYTES];
	const struct conf_key *key;
	struct span name, value;
	unsigned int *seen;
	long long number;

	text = trimmed(up_to(text, '#'));
	if (!text.len)
		return 0;
	name = up_to(text, '=');
	if (name.len == text.len || !trimmed(name).len)
		return fail(parser, line, "found %s, expected key = value", quoted(text, shown));
	value = trimmed((struct span){ name.at + name.len + 1, text.len - name.len - 1 });
	name = trimmed(name);
	key = find_key(name);
	if (!key)
		return fail(parser, line, "found the unknown key %s, expected one of " KEY_NAMES,
			    quoted(name, shown));
	seen = &parser->seen[key - keys];
	if (*seen)
		return fail(parser, line, "found %s again, expected it once (it stands on line %u)",
			    key->name, *seen);
	*seen = line;
	if (!read_integer(value, &number) || number < key->min || number > key->max)
		return fail(parser, line, "found %s for %s, expected a whole number from %d to %d",
			    quoted(value, shown), key->name, key->min, key->max);
	*field(&parser->conf, key) = (int)number;
	return 0;
}

static unsigned int later_line(const struct parser *parser, const char *a, const char *b)
{
	unsigned int line_a = parser->seen[find_key((struct span){ a, strlen(a) }) - keys];
	unsigned int line_b = parser->seen[find_key((struct span){ b, strlen(b) }) - keys];

	return line_a > line_b ? line_a : line_b;
}

/* What no key can be wrong about alone is reported where the second of the two stands. */
static int check_together(const struct parser *parser)
{
	const struct fastio_conf *conf = &parser->conf;
	long long entries = (long long)conf->max_table_entry * conf->max_table_len;

	if (entries > FASTIO_CONF_MAX_ENTRIES)
		return fail(parser, later_line(parser, "max_table_entry", "max_table_len"),
			    "found max_table_entry x max_table_len = %lld, expected at most %d",
			    entries, FASTIO_CONF_MAX_ENTRIES);
	if (conf->max_ker_worker % conf->max_usr_worker)
		return fail(parser, later_line(parser, "max_usr_worker", "max_ker_worker"),
			    "found max_ker_worker = %d with max_usr_worker = %d, expected a "
			    "multiple of it",
			    conf->max_ker_worker, conf->max_usr_worker);
	if (conf->max_ker_worker / conf->max_usr_worker > FASTIO_CONF_MAX_RATIO)
		return fail(parser, later_line(parser, "max_usr_worker", "max_ker_worker"),
			    "found max_ker_worker / max_usr_worker = %d, expected at most %d",
			    conf->max_ker_worker / conf->max_usr_worker, FASTIO_CONF_MAX_RATIO);
	return 0;
}

void fastio_conf_defaults(struct fastio_conf *conf)
{
	for (size_t i = 0; i < NR_KEYS; i++)
		*field(conf, &keys[i]) = keys[i].initial;
}

int fastio_conf_parse(struct fastio_conf *conf, const char *name, const char *text, size_t len,
		      struct fastio_error *error)
{
	struct parser parser = { .name = name, .error = error };
	struct span rest = { text, len };
	int ret;

	if (len > FASTIO_CONF_MAX_BYTES)
		return fail(&parser, 1, "found a file of more than %d bytes, expected at most that",
			    FASTIO_CONF_MAX_BYTES);
	fastio_conf_defaults(&parser.conf);
	for (unsigned int line = 1; rest.len; line++) {
		struct span text_of_line = up_to(rest, '\n');
		size_t taken =
			text_of_line.len < rest.len ? text_of_line.len + 1 : text_of_line.len;

		rest.at += taken;
		rest.len -= taken;
		if (text_of_line.len && text_of_line.at[text_of_line.len - 1] == '\r')
			text_of_line.len--;
		if (text_of_line.len > FASTIO_CONF_MAX_LINE)
			return fail(&parser, line, "found a line of %zu bytes, expected at most %d",
				    text_of_line.len, FASTIO_CONF_MAX_LINE);
		ret = parse_line(&parser, line, text_of_line);
		if (ret)
			return ret;
	}
	ret = check_together(&parser);
	if (!ret)
		*conf = parser.conf;
	return ret;
}

static int unreadable(struct fastio_error *error, const char *path, int err)
{
	return fastio_fail(error, -err,
			   "%s:1: found a file that cannot be read (%s), expected a readable file",
			   path, fastio_errno_name(err));
}

/* Reads at most @size bytes. Returns how many, or -errno. */
static ssize_t read_all(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t got;

	do {
		got = read(fd, text + len, size - len);
		if (got > 0)
			len += (size_t)got;
	} while (len < size && (got > 0 || (got < 0 && errno == EINTR)));
	return got < 0 ? -errno : (ssize_t)len;
}

static int load_fd(struct fastio_conf *conf, const char *path, int fd, struct fastio_error *error)
{
	char text[FASTIO_CONF_MAX_BYTES + 1];
	struct stat info;
	ssize_t len;

	if (fstat(fd, &info))
		return unreadable(error, path, errno);
	if (!S_ISREG(info.st_mode))
		return fastio_fail(error, -EINVAL,
				   "%s:1: found something that is not a regular file, expected a "
				   "readable file",
				   path);
	len = read_all(fd, text, sizeof(text));
	if (len < 0)
		return unreadable(error, path, (int)-len);
	return fastio_conf_parse(conf, path, text, (size_t)len, error);
}

int fastio_conf_load(struct fastio_conf *conf, const char *path, struct fastio_error *error)
{
	const char *from_env = getenv("FASTIO_CONF");
	bool by_name = true;
	int fd, ret;

	if (!path && from_env && *from_env)
		path = from_env;
	if (!path) {
		path = "fastio.conf";
		by_name = false;
	}
	/* Non-blocking: opening a pipe by mistake must not hang. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT && !by_name) {
		fastio_conf_defaults(conf);
		return 0;
	}
	if (fd < 0 && errno == ENOENT)
		return fastio_fail(error, -ENOENT,
				   "%s:1: found no such file, expected a readable file", path);
	if (fd < 0)
		return unreadable(error, path, errno);
	ret = load_fd(conf, path, fd, error);
	close(fd);
	return ret;
}
