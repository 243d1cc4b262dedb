/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "options.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_OPTIONS_MAX 64

static const char *name = "echo";

const char *program_name(void)
{
	return name;
}

static void print_message(const char *format, va_list arguments)
{
	/* One write, so that lines of several threads do not mix. */
	char line[1024];

	vsnprintf(line, sizeof(line), format, arguments);
	fprintf(stderr, "%s: %s\n", name, line);
}

void complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_message(format, arguments);
	va_end(arguments);
}

void die(int code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_message(format, arguments);
	va_end(arguments);
	exit(code);
}

/* ------------------------------------------------------------------ values */

static int parse_whole(const char *text, uint64_t *value)
{
	char *end;

	/* strtoull takes signs and spaces, which no value here has. */
	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno || *end ? -1 : 0;
}

static int parse_decimal(const char *text, double *value, const char **end)
{
	char *stop;

	if ((*text < '0' || *text > '9') && *text != '.')
		return -1;
	errno = 0;
	*value = strtod(text, &stop);
	*end = stop;
	return errno || stop == text || !isfinite(*value) ? -1 : 0;
}

/* A time in seconds, or with one of the suffixes; the result is in nanoseconds. */
static int parse_time(const char *text, uint64_t *value)
{
	static const struct {
		const char *suffix;
		double nanoseconds;
	} units[] = { { "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 } };
	const char *suffix;
	double number;

	if (parse_decimal(text, &number, &suffix) || number > 1e12)
		return -1;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(suffix, units[i].suffix))
			continue;
		number *= units[i].nanoseconds;
		if (number > 1e18)
			return -1;
		*value = (uint64_t)llround(number);
		return 0;
	}
	return -1;
}

int cpus_parse(const char *text, struct cpu_list *list)
{
	struct cpu_list result = { 0 };

	do {
		unsigned long first, last;
		char *end;

		if (*text < '0' || *text > '9')
			return -1;
		first = last = strtoul(text, &end, 10);
		if (*end == '-') {
			text = end + 1;
			if (*text < '0' || *text > '9')
				return -1;
			last = strtoul(text, &end, 10);
		}
		if (last < first || last >= CPU_SETSIZE || result.count + (last - first) >= CPUS_MAX)
			return -1;
		for (; first <= last; first++)
			result.cpu[result.count++] = (unsigned short)first;
		text = end;
	} while (*text++ == ',');
	if (text[-1])
		return -1;
	*list = result;
	return 0;
}

/* ------------------------------------------------------------------ messages */

static void print_choices(FILE *to, const struct option_spec *option)
{
	for (const char *const *choice = option->choices; *choice; choice++)
		fprintf(to, "%s%s", choice == option->choices ? "" : choice[1] ? ", " : " or ", *choice);
}

static void print_expected(FILE *to, const struct option_spec *option)
{
	switch (option->kind) {
	case OPTION_COUNT:
		fprintf(to, "a whole number from %llu to %llu", (unsigned long long)option->min,
			(unsigned long long)option->max);
		break;
	case OPTION_TIME:
		fprintf(to, "a time from %g to %g seconds, as 2, 0.5, 50ms or 10us", (double)option->min / 1e9,
			(double)option->max / 1e9);
		break;
	case OPTION_DECIMAL:
		fprintf(to, "a number from %llu to %llu", (unsigned long long)option->min,
			(unsigned long long)option->max);
		break;
	case OPTION_TEXT:
		fprintf(to, "%llu to %llu characters", (unsigned long long)option->min, (unsigned long long)option->max);
		break;
	case OPTION_CHOICE:
		print_choices(to, option);
		break;
	case OPTION_CPUS:
		fprintf(to, "CPU numbers such as 0,2-4, at most %d", CPUS_MAX);
		break;
	case OPTION_FLAG:
		fputs("no value", to);
		break;
	}
}

static void __attribute__((noreturn)) reject(const struct option_spec *option, const char *found)
{
	fprintf(stderr, "%s: --%s: found \"%s\", expected ", name, option->name, found);
	print_expected(stderr, option);
	fputc('\n', stderr);
	exit(EXIT_USAGE);
}

static const char *const argument_names[] = {
	[OPTION_FLAG] = "", [OPTION_COUNT] = " N",   [OPTION_TIME] = " TIME", [OPTION_DECIMAL] = " X",
	[OPTION_TEXT] = " TEXT", [OPTION_CHOICE] = " WHICH", [OPTION_CPUS] = " CPUS",
};

static void print_default(const struct option_spec *option)
{
	const struct cpu_list *cpus;
	const char *text;

	switch (option->kind) {
	case OPTION_COUNT:
		printf(" (default %llu)", *(unsigned long long *)option->value);
		break;
	case OPTION_TIME:
		printf(" (default %g s)", (double)*(uint64_t *)option->value / 1e9);
		break;
	case OPTION_DECIMAL:
		printf(" (default %g)", *(double *)option->value);
		break;
	case OPTION_CHOICE:
		fputs(": ", stdout);
		print_choices(stdout, option);
		printf(" (default %s)", option->choices[*(unsigned int *)option->value]);
		break;
	case OPTION_TEXT:
		text = *(const char **)option->value;
		if (text)
			printf(" (default %s)", text);
		break;
	case OPTION_CPUS:
		cpus = option->value;
		if (!cpus->count)
			fputs(" (default: not pinned)", stdout);
		break;
	case OPTION_FLAG:
		break;
	}
}

static void __attribute__((noreturn)) print_help(const char *purpose, const struct option_table *tables, size_t count)
{
	printf("%s: %s\n\nusage: %s [options]\n\n", name, purpose, name);
	for (size_t table = 0; table < count; table++) {
		for (size_t i = 0; i < tables[table].count; i++) {
			const struct option_spec *option = &tables[table].options[i];
			char left[64];

			snprintf(left, sizeof(left), "%c%c  --%s%s", option->letter ? '-' : ' ',
				 option->letter ? option->letter : ' ', option->name, argument_names[option->kind]);
			printf("  %-28s %s", left, option->help);
			print_default(option);
			putchar('\n');
		}
	}
	puts("      --help                   print this text");
	exit(fflush(stdout) ? EXIT_SAID_NO : 0);
}

/* ------------------------------------------------------------------ parsing */

static void set_value(const struct option_spec *option, const char *text)
{
	uint64_t number;
	const char *end;
	double decimal;
	unsigned int i;

	switch (option->kind) {
	case OPTION_FLAG:
		*(bool *)option->value = true;
		return;
	case OPTION_COUNT:
	case OPTION_TIME:
		if (option->kind == OPTION_COUNT ? parse_whole(text, &number) : parse_time(text, &number))
			break;
		if (number < option->min || number > option->max)
			break;
		*(uint64_t *)option->value = number;
		return;
	case OPTION_DECIMAL:
		if (parse_decimal(text, &decimal, &end) || *end)
			break;
		if (decimal < (double)option->min || decimal > (double)option->max)
			break;
		*(double *)option->value = decimal;
		return;
	case OPTION_TEXT:
		if (strlen(text) < option->min || strlen(text) > option->max)
			break;
		*(const char **)option->value = text;
		return;
	case OPTION_CHOICE:
		for (i = 0; option->choices[i]; i++) {
			if (strcmp(text, option->choices[i]))
				continue;
			*(unsigned int *)option->value = i;
			return;
		}
		break;
	case OPTION_CPUS:
		if (cpus_parse(text, option->value))
			break;
		return;
	}
	reject(option, text);
}

/* Finds what an argument names; @text becomes the value written in the same argument, or NULL. */
static const struct option_spec *find_option(const char *argument, const char **text, size_t *number,
					     const struct option_table *tables, size_t count)
{
	size_t length = strcspn(argument, "=");

	*number = 0;
	*text = NULL;
	for (size_t table = 0; table < count; table++) {
		for (size_t i = 0; i < tables[table].count; i++, ++*number) {
			const struct option_spec *option = &tables[table].options[i];

			if (argument[1] != '-') {
				if (!option->letter || argument[1] != option->letter || argument[2])
					continue;
				return option;
			}
			if (strlen(option->name) != length - 2 || strncmp(option->name, argument + 2, length - 2))
				continue;
			if (argument[length])
				*text = argument + length + 1;
			return option;
		}
	}
	return NULL;
}

void options_parse(int argc, char **argv, const char *purpose, const struct option_table *tables, size_t count)
{
	bool seen[TABLE_OPTIONS_MAX] = { false };

	if (argc > 0 && argv[0][0]) {
		const char *slash = strrchr(argv[0], '/');

		name = slash ? slash + 1 : argv[0];
	}
	for (int i = 1; i < argc; i++) {
		const struct option_spec *option;
		const char *text;
		size_t number;

		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			print_help(purpose, tables, count);
		if (argv[i][0] != '-' || !argv[i][1])
			die(EXIT_USAGE, "found \"%s\", expected an option; --help lists them", argv[i]);
		option = find_option(argv[i], &text, &number, tables, count);
		if (!option)
			die(EXIT_USAGE, "found \"%s\", which is no option here; --help lists them", argv[i]);
		if (number >= TABLE_OPTIONS_MAX || seen[number])
			die(EXIT_USAGE, "--%s: found twice, expected once", option->name);
		seen[number] = true;
		if (option->kind == OPTION_FLAG) {
			if (text)
				reject(option, text);
		} else if (!text) {
			text = argv[++i];
			if (!text)
				reject(option, "");
		}
		set_value(option, text);
		if (option->given)
			*option->given = true;
	}
}

/* ------------------------------------------------------------------ CPUs */

static cpu_set_t allowed; /* what the process may use; set by cpus_require() */

void cpus_require(const struct cpu_list *list, const char *option, unsigned int needed, const char *what)
{
	if (!list->count)
		return;
	if (list->count < needed)
		die(EXIT_USAGE, "%s: found %u CPUs, expected one for each of %u %s", option, list->count, needed, what);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		die(EXIT_ENVIRONMENT, "cannot read the CPU affinity: %s", strerror(errno));
	for (unsigned int i = 0; i < list->count; i++) {
		if (!CPU_ISSET(list->cpu[i], &allowed))
			die(EXIT_ENVIRONMENT, "%s: found CPU %u, which this process may not use or this machine has not",
			    option, list->cpu[i]);
	}
}

void cpus_pin(const struct cpu_list *list, unsigned int index)
{
	cpu_set_t set;

	if (!list->count)
		return;
	CPU_ZERO(&set);
	CPU_SET(list->cpu[index % list->count], &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die(EXIT_ENVIRONMENT, "cannot pin a thread to CPU %u: %s", list->cpu[index % list->count], strerror(errno));
}

void cpus_unpin(const struct cpu_list *list)
{
	if (list->count && sched_setaffinity(0, sizeof(allowed), &allowed))
		die(EXIT_ENVIRONMENT, "cannot unpin a thread: %s", strerror(errno));
}
