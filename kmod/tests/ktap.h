/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A small KTAP runner. Each test runs in a child process of its own with a deadline, so one that crashes or hangs
 * is one failed line, and so whatever it leaks the kernel has to take back before the next one starts.
 */
#ifndef FASTIO_TESTS_KTAP_H
#define FASTIO_TESTS_KTAP_H

#include <stdbool.h>
#include <stddef.h>

/**
 * struct ktap_test - one line of a KTAP report
 * @name: what holds when it passes; no newline, no '#'
 * @run: the test; returns for a pass unless a CHECK failed on the way
 * @arg: handed to @run, so that a table of cases can share one function
 * @timeout_s: seconds until it is killed and fails; 0 for the default of 60. Multiplied by $FASTIO_TEST_SLOWNESS
 */
struct ktap_test {
	const char *name;
	void (*run)(const void *arg);
	const void *arg;
	unsigned int timeout_s;
};

/* An entry of a table of tests: TEST("name", function), or with .arg = ..., .timeout_s = ... behind. */
#define TEST(name_, run_, ...) { .name = name_, .run = run_, __VA_ARGS__ }

/* Elements of an array. */
#define NR(array) (sizeof(array) / sizeof((array)[0]))

/**
 * ktap_main() - run tests and print the report on stdout
 * @tests: the tests, run in this order
 * @nr: number of tests
 * @argc: as main() got it
 * @argv: as main() got it; each word selects the tests whose name contains it, none selects all, "--list" only lists
 *
 * Return: the exit status for main(): 0 when nothing failed, 1 when something did, 2 when no test matched.
 */
int ktap_main(const struct ktap_test *tests, size_t nr, int argc, char **argv);

/*
 * Memory shared with the children of the caller, zeroed, never freed; the caller's test ends when there is none. Below it
 * lies a page that nobody can access: whatever runs over the end of another mapping stops there.
 */
void *ktap_shared(size_t bytes);

/*
 * Keeps the report of this process and its children on descriptor @fd, which should be one that nobody guesses, and gives
 * them /dev/null as their standard files: what closes or writes to small numbers does not spoil the report.
 */
void ktap_keep_output(int fd);

/* Prints one diagnostic line; may be called from any thread or child of a test. */
void ktap_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Marks the running test as failed with one diagnostic line, and goes on. */
void ktap_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The words of a CHECK and of a CHECK_EQ that failed. */
void ktap_broken(const char *file, int line, const char *what, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void ktap_unequal(const char *file, int line, const char *what, long long got, long long want,
		  const char *format, ...) __attribute__((format(printf, 6, 7)));

/* Ends the running test at once as skipped: this machine cannot show what it is about. */
void ktap_skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Ends the running test at once as failed. */
__attribute__((noreturn)) void ktap_abort(void);

/* Whether a CHECK has failed in this test so far, in any of its threads. */
bool ktap_has_failed(void);

/* $FASTIO_TEST_SLOWNESS, 1 to 100: how many times longer than on hardware this machine may take. */
unsigned int ktap_slowness(void);

/* Checks that a condition holds; says what was expected when it does not. The rest, if any, is a format. */
#define CHECK(cond, ...) \
	(__builtin_expect(!!(cond), 1) || (ktap_broken(__FILE__, __LINE__, #cond, " " __VA_ARGS__), false))

/* Checks that two integers are equal; prints both when they are not. The rest, if any, is a format that says which case. */
#define CHECK_EQ(got, want, ...)								\
	({											\
		const long long got_ = (long long)(got), want_ = (long long)(want);		\
		if (__builtin_expect(got_ != want_, 0))						\
			ktap_unequal(__FILE__, __LINE__, #got, got_, want_, " " __VA_ARGS__);	\
		got_ == want_;									\
	})

/* As CHECK and CHECK_EQ, but the test cannot go on without it. */
#define NEED(cond, ...)									\
	do {							\
		if (!CHECK(cond, __VA_ARGS__))			\
			ktap_abort();				\
	} while (0)

#define NEED_EQ(got, want, ...)					\
	do {							\
		if (!CHECK_EQ(got, want, __VA_ARGS__))		\
			ktap_abort();				\
	} while (0)

#endif
