/* SPDX-License-Identifier: MIT */
/*
 * fastio_conf.h - reading fastio.conf, and how libfastio tells what went wrong
 *
 * fastio.h includes this file. It stands alone for programs that only look at the configuration.
 */
#ifndef FASTIO_CONF_H
#define FASTIO_CONF_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** FASTIO_CONF_MAX_BYTES - largest fastio.conf that is read, in bytes */
#define FASTIO_CONF_MAX_BYTES 16384
/** FASTIO_CONF_MAX_LINE - longest line of a fastio.conf, in bytes without its end */
#define FASTIO_CONF_MAX_LINE 256
/** FASTIO_CONF_MAX_ENTRIES - largest product max_table_entry x max_table_len */
#define FASTIO_CONF_MAX_ENTRIES 32768
/** FASTIO_CONF_MAX_RATIO - most kernel workers of one user worker */
#define FASTIO_CONF_MAX_RATIO 64
/** FASTIO_ERROR_BYTES - room for a path of any length and what is wrong with it */
#define FASTIO_ERROR_BYTES 4608

/**
 * struct fastio_error - where a call that failed says why, in words
 * @message: one line without a newline, NUL-terminated: what was found, what was expected, what to
 *	do
 *
 * Every function that takes one accepts NULL, returns -errno as well, and leaves it alone on
 * success.
 */
struct fastio_error {
	char message[FASTIO_ERROR_BYTES];
};

/**
 * struct fastio_conf - the keys of a fastio.conf, by their own names
 * @esca_localize: 1 puts all kernel workers of a user worker on one CPU, 0 gives each its own; 0 or
 *	1
 * @max_table_entry: times @max_table_len, rounded up to a power of two, is the entries of each
 *	ring; 1 to 32768
 * @max_table_len: see @max_table_entry; 1 to 32768, and the product at most FASTIO_CONF_MAX_ENTRIES
 * @max_usr_worker: processes or threads that own a set of rings; 1 to 64
 * @max_ker_worker: kernel workers of all of them, a multiple of @max_usr_worker; 0 to 1024; 0 is
 *	inline
 * @default_main_worker_idle_time: how long a kernel worker polls before it sleeps, in ms; 0 to
 *	10000
 * @default_wq_worker_idle_time: how long a wq worker polls before it sleeps, in ms; 0 to 10000
 * @affinity_offset: CPU of the first kernel worker, or -1 for no affinity; at most 1023
 * @wq_affinity_offset: CPU of the first wq worker, or -1 for no affinity; at most 1023
 */
struct fastio_conf {
	int esca_localize;
	int max_table_entry;
	int max_table_len;
	int max_usr_worker;
	int max_ker_worker;
	int default_main_worker_idle_time;
	int default_wq_worker_idle_time;
	int affinity_offset;
	int wq_affinity_offset;
};

/** fastio_conf_defaults - sets every key to its documented default */
void fastio_conf_defaults(struct fastio_conf *conf);

/**
 * fastio_conf_parse - reads the text of a fastio.conf
 * @conf: set on success, untouched on failure
 * @name: what messages call the text, usually its path
 * @text: the bytes; need not end in a NUL and may hold any byte
 * @len: how many, at most FASTIO_CONF_MAX_BYTES
 * @error: may be NULL
 *
 * Returns 0, or -EINVAL with "NAME:LINE: found ..., expected ..." in @error. Keys that are left out
 * have their defaults.
 */
int fastio_conf_parse(struct fastio_conf *conf, const char *name, const char *text, size_t len,
		      struct fastio_error *error);

/**
 * fastio_conf_load - reads a fastio.conf
 * @conf: set on success, untouched on failure
 * @path: the file, which must then be there; NULL takes $FASTIO_CONF (which must be there too),
 *	else ./fastio.conf when there is one, else the defaults
 * @error: may be NULL
 *
 * Returns 0, -EINVAL for a file that says something wrong, or the -errno of opening or reading it.
 */
int fastio_conf_load(struct fastio_conf *conf, const char *path, struct fastio_error *error);

#ifdef __cplusplus
}
#endif
#endif
