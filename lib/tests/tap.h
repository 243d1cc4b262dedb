/* SPDX-License-Identifier: MIT */
/*
 * Tests that print KTAP. A test is a function; CHECK notes a failure and goes on, REQUIRE returns
 * from the function.
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>

struct tap_test {
	const char *name;
	void (*run)(void *arg);
};

/* Prints the version line. @argv0 names the program in messages. */
void tap_begin(const char *argv0);
/*
 * Runs one test under a time limit and prints its line; @suffix, if not NULL, goes behind the name
 * in brackets.
 */
void tap_run(const struct tap_test *test, const char *suffix, void *arg);
/* Prints the plan; returns what main() shall return. */
int tap_end(void);
/* Notes a failed check of the running test. */
__attribute__((format(printf, 4, 5))) void tap_fail(const char *file, int line, const char *what,
						    const char *format, ...);
/* Marks the running test as not applicable here. */
void tap_skip(const char *why);

#define CHECK(condition, ...)                                                      \
	do {                                                                       \
		if (!(condition))                                                  \
			tap_fail(__FILE__, __LINE__, #condition, " " __VA_ARGS__); \
	} while (0)

#define REQUIRE(condition, ...)                                                    \
	do {                                                                       \
		if (!(condition)) {                                                \
			tap_fail(__FILE__, __LINE__, #condition, " " __VA_ARGS__); \
			return;                                                    \
		}                                                                  \
	} while (0)

#define CHECK_EQ(found, expected)                                                         \
	do {                                                                              \
		long long found_ = (long long)(found), expected_ = (long long)(expected); \
		if (found_ != expected_)                                                  \
			tap_fail(__FILE__, __LINE__, #found " == " #expected,             \
				 " found %lld, expected %lld", found_, expected_);        \
	} while (0)

#endif
