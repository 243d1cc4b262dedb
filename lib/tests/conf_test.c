// SPDX-License-Identifier: MIT
/*
 * fastio.conf: every case of tests/conf/, which suites/conf.test.ts runs as well. NAME.expect holds
 * what NAME.conf must give: the nine values, or the message without its path.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fastio.h"
#include "tap.h"

#define MAX_CASES 200

static const char *directory = "tests/conf";

static void describe(const struct fastio_conf *conf, char *text, size_t size)
{
	snprintf(text, size,
		 "esca_localize = %d\nmax_table_entry = %d\nmax_table_len = %d\nmax_usr_worker = "
		 "%d\nmax_ker_worker = %d\n"
		 "default_main_worker_idle_time = %d\ndefault_wq_worker_idle_time = "
		 "%d\naffinity_offset = %d\n"
		 "wq_affinity_offset = %d\n",
		 conf->esca_localize, conf->max_table_entry, conf->max_table_len,
		 conf->max_usr_worker, conf->max_ker_worker, conf->default_main_worker_idle_time,
		 conf->default_wq_worker_idle_time, conf->affinity_offset,
		 conf->wq_affinity_offset);
}

static bool read_file(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");
	size_t len;

	if (!file)
		return false;
	len = fread(text, 1, size - 1, file);
	text[len] = '\0';
	fclose(file);
	return true;
}

static void run_case(void *arg)
{
	const char *name = arg;
	char path[512], expected[2048], found[FASTIO_ERROR_BYTES];
	struct fastio_error error = { "" };
	struct fastio_conf conf;
	struct fastio_conf untouched;
	int ret;

	snprintf(path, sizeof(path), "%s/%s.expect", directory, name);
	REQUIRE(read_file(path, expected, sizeof(expected)), "%s: no such file", path);
	snprintf(path, sizeof(path), "%s/%s.conf", directory, name);
	memset(&conf, 0x5a, sizeof(conf));
	untouched = conf;
	ret = fastio_conf_load(&conf, path, &error);
	if (ret) {
		CHECK(!memcmp(&conf, &untouched, sizeof(conf)), "a failed load changed the result");
		CHECK(!strncmp(error.message, path, strlen(path)) &&
			      error.message[strlen(path)] == ':',
		      "%s", error.message);
		snprintf(found, sizeof(found), "%s\n", error.message + strlen(path) + 1);
		CHECK(ret == -EINVAL || (ret == -ENOENT && !strcmp(name, "missing")), "returned %d",
		      ret);
		CHECK_EQ(fastio_conf_load(&conf, path, NULL), ret);
	} else {
		describe(&conf, found, sizeof(found));
	}
	CHECK(!strcmp(found, expected), "\n# found:\n# %s# expected:\n# %s", found, expected);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void run_all_cases(void)
{
	char *names[MAX_CASES];
	struct dirent *entry;
	size_t count = 0;
	DIR *dir = opendir(directory);

	while (dir && (entry = readdir(dir)) && count < MAX_CASES) {
		char *dot = strrchr(entry->d_name, '.');

		if (dot && !strcmp(dot, ".expect"))
			names[count++] = strndup(entry->d_name, (size_t)(dot - entry->d_name));
	}
	if (dir)
		closedir(dir);
	qsort(names, count, sizeof(names[0]), by_name);
	for (size_t i = 0; i < count; i++) {
		struct tap_test test = { names[i], run_case };

		tap_run(&test, NULL, names[i]);
		free(names[i]);
	}
	if (!count)
		tap_run(&(struct tap_test){ "cases are there", run_case }, NULL, "cases");
}

static void defaults_are_those_of_an_empty_file(void *arg)
{
	struct fastio_conf defaults, empty;

	(void)arg;
	fastio_conf_defaults(&defaults);
	CHECK_EQ(fastio_conf_parse(&empty, "empty", "", 0, NULL), 0);
	CHECK(!memcmp(&defaults, &empty, sizeof(empty)));
}

static void shipped_file_says_the_defaults(void *arg)
{
	struct fastio_conf shipped, defaults;
	struct fastio_error error = { "" };
	char path[512];

	(void)arg;
	snprintf(path, sizeof(path), "%s/../../../fastio.conf", directory);
	if (access(path, F_OK)) {
		tap_skip("no source tree around");
		return;
	}
	fastio_conf_defaults(&defaults);
	REQUIRE(!fastio_conf_load(&shipped, path, &error), "%s", error.message);
	CHECK(!memcmp(&defaults, &shipped, sizeof(shipped)));
}

static void environment_names_the_file(void *arg)
{
	struct fastio_error error = { "" };
	struct fastio_conf conf;
	char path[512];

	(void)arg;
	snprintf(path, sizeof(path), "%s/original.conf", directory);
	setenv("FASTIO_CONF", path, 1);
	CHECK_EQ(fastio_conf_load(&conf, NULL, NULL), 0);
	CHECK_EQ(conf.wq_affinity_offset, 10);
	setenv("FASTIO_CONF", "/nowhere/fastio.conf", 1);
	CHECK_EQ(fastio_conf_load(&conf, NULL, &error), -ENOENT);
	CHECK(strstr(error.message, "/nowhere/fastio.conf:1: found no such file"), "%s",
	      error.message);
	unsetenv("FASTIO_CONF");
}

static void without_a_name_no_file_is_no_error(void *arg)
{
	struct fastio_conf conf, defaults;
	char before[512];

	(void)arg;
	REQUIRE(getcwd(before, sizeof(before)) && !chdir("/"), "cannot change to /");
	fastio_conf_defaults(&defaults);
	CHECK_EQ(fastio_conf_load(&conf, NULL, NULL), 0);
	CHECK(!memcmp(&conf, &defaults, sizeof(conf)));
	CHECK_EQ(chdir(before), 0);
}

/* Whatever the bytes, the answer is a result or a message of one printable line. */
static void any_bytes_give_an_answer(void *arg)
{
	static const char alphabet[] = "max_ker_worker=0123456789 #\n\t\r\"\\\x80\xff-+";
	unsigned int seed = 1;

	(void)arg;
	for (int round = 0; round < 20000; round++) {
		struct fastio_error error = { "" };
		struct fastio_conf conf;
		size_t len = 0, wanted;
		/* Exactly as long as the text: one byte beyond it is an error that ASan sees. */
		char *text;

		seed = seed * 1103515245 + 12345;
		wanted = seed >> 16 & 127;
		text = malloc(wanted ? wanted : 1);
		for (; len < wanted; len++) {
			seed = seed * 1103515245 + 12345;
			text[len] = alphabet[(seed >> 16) % sizeof(alphabet)];
		}
		if (fastio_conf_parse(&conf, "f", text, len, &error)) {
			CHECK(!strncmp(error.message, "f:", 2) &&
				      strstr(error.message, ": found ") &&
				      strstr(error.message, ", expected "),
			      "%s", error.message);
			for (const char *at = error.message; *at; at++)
				CHECK(*at >= ' ' && *at <= '~', "byte %d", *at);
		}
		free(text);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{ "defaults are those of an empty file", defaults_are_those_of_an_empty_file },
		{ "the shipped file says the defaults", shipped_file_says_the_defaults },
		{ "the environment names the file", environment_names_the_file },
		{ "without a name, no file is no error", without_a_name_no_file_is_no_error },
		{ "any bytes give an answer", any_bytes_give_an_answer },
	};

	if (argc > 1)
		directory = argv[1];
	tap_begin(argv[0]);
	run_all_cases();
	for (unsigned int i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tap_run(&tests[i], NULL, NULL);
	return tap_end();
}
