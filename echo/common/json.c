/* SPDX-License-Identifier: MIT */
#include "json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

static void print_text(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte == '"' || byte == '\\')
			fprintf(file, "\\%c", byte);
		else if (byte < 0x20 || byte > 0x7e)
			fprintf(file, "\\u%04x", byte);
		else
			fputc(byte, file);
	}
	fputc('"', file);
}

/* What stands before a value: a comma when one is due, and the key. */
static void begin(struct json *json, const char *key)
{
	if (json->filled[json->depth])
		fputc(',', json->file);
	json->filled[json->depth] = true;
	if (key) {
		print_text(json->file, key);
		fputc(':', json->file);
	}
}

static void nest(struct json *json, const char *key, char bracket)
{
	begin(json, key);
	fputc(bracket, json->file);
	assert(json->depth + 1 < JSON_DEPTH_MAX);
	json->filled[++json->depth] = false;
}

void json_object(struct json *json, const char *key)
{
	nest(json, key, '{');
}

void json_array(struct json *json, const char *key)
{
	nest(json, key, '[');
}

void json_end_object(struct json *json)
{
	json->depth--;
	fputc('}', json->file);
}

void json_end_array(struct json *json)
{
	json->depth--;
	fputc(']', json->file);
}

void json_count(struct json *json, const char *key, uint64_t value)
{
	begin(json, key);
	fprintf(json->file, "%" PRIu64, value);
}

void json_number(struct json *json, const char *key, double value)
{
	begin(json, key);
	if (isfinite(value))
		fprintf(json->file, "%.9g", value);
	else
		fputs("null", json->file);
}

void json_bool(struct json *json, const char *key, bool value)
{
	begin(json, key);
	fputs(value ? "true" : "false", json->file);
}

void json_text(struct json *json, const char *key, const char *value)
{
	begin(json, key);
	if (value)
		print_text(json->file, value);
	else
		fputs("null", json->file);
}
