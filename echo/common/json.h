/* SPDX-License-Identifier: MIT */
/* Writes JSON to a stream. Commas are kept here; the order of calls gives the nesting. */
#ifndef ECHO_JSON_H
#define ECHO_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 16

struct json {
	FILE *file;
	unsigned int depth;
	bool filled[JSON_DEPTH_MAX]; /* a comma is due before the next member */
};

/* The @key of every call is NULL inside an array and at the top. */
void json_object(struct json *json, const char *key);
void json_array(struct json *json, const char *key);
/* Ends the innermost object or array. */
void json_end_object(struct json *json);
void json_end_array(struct json *json);
void json_count(struct json *json, const char *key, uint64_t value);
/* Six significant digits or more; a value that is not finite becomes null, which JSON has instead. */
void json_number(struct json *json, const char *key, double value);
void json_bool(struct json *json, const char *key, bool value);
/* Bytes that are not printable ASCII are escaped one by one; NULL becomes null. */
void json_text(struct json *json, const char *key, const char *value);

#endif
