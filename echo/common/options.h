/* SPDX-License-Identifier: MIT */
/*
 * The one argument parser of the echo programs: tables of options, each with its range, so that a wrong
 * argument is answered with what was found and what was expected.
 */
#ifndef ECHO_OPTIONS_H
#define ECHO_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes of every program here, those of the `fastio` command. */
#define EXIT_SAID_NO 1	   /* something ran and the answer is no */
#define EXIT_USAGE 2	   /* an argument makes no sense */
#define EXIT_ENVIRONMENT 3 /* this machine cannot do it */

#define CPUS_MAX 256 /* entries of a CPU list */

/* CPUs in the order given; a CPU may be named more than once. Empty: leave it to the scheduler. */
struct cpu_list {
	unsigned int count;
	unsigned short cpu[CPUS_MAX];
};

enum option_kind {
	OPTION_FLAG,	/* bool: present or not */
	OPTION_COUNT,	/* uint64_t within min..max */
	OPTION_TIME,	/* uint64_t nanoseconds within min..max; written 2, 0.5, 50ms, 10us */
	OPTION_DECIMAL, /* double within min..max */
	OPTION_TEXT,	/* const char *, min..max bytes */
	OPTION_CHOICE,	/* unsigned int: index into choices */
	OPTION_CPUS,	/* struct cpu_list: 0,2-4 */
};

struct option_spec {
	const char *name; /* without the two dashes */
	char letter;	  /* short form, or 0 */
	enum option_kind kind;
	void *value; /* holds the default before parsing */
	uint64_t min, max;
	const char *const *choices; /* ends with NULL */
	const char *help;
	bool *given; /* set when the option was there; may be NULL */
};

struct option_table {
	const struct option_spec *options;
	size_t count;
};

#define OPTION_TABLE(array) { array, sizeof(array) / sizeof((array)[0]) }

/*
 * Parses the arguments into the values of the tables. Prints help and exits with 0 for --help; prints one
 * line and exits with EXIT_USAGE for anything that is not an option, is given twice, or has a value out of
 * its range.
 * @purpose: one sentence for --help
 */
void options_parse(int argc, char **argv, const char *purpose, const struct option_table *tables, size_t count);

/* Prints "PROGRAM: message" to stderr and exits with @code. */
void die(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* Prints "PROGRAM: message" to stderr. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The program's name as messages use it. */
const char *program_name(void);

/* Parses "0,2-4". Returns 0, or -1 when it is not a list of CPUs, runs backwards or has more than CPUS_MAX. */
int cpus_parse(const char *text, struct cpu_list *list);
/* Ends the program unless the list is empty or has one usable CPU for each of @needed threads (@what they are). */
void cpus_require(const struct cpu_list *list, const char *option, unsigned int needed, const char *what);
/* Pins the calling thread to the @index-th CPU; does nothing when the list is empty. */
void cpus_pin(const struct cpu_list *list, unsigned int index);
/* Lets the calling thread run again wherever the process might when the list was checked. */
void cpus_unpin(const struct cpu_list *list);

#endif
