/* SPDX-License-Identifier: MIT */
/*
 * A histogram of nanoseconds with three significant digits over the whole range, in the manner of HdrHistogram.
 *
 * The range is cut into powers of two, and each power of two into 1024 equal buckets:
 *
 *	v < 2048:   e = 0                       index(v) = v
 *	v >= 2048:  e = floor(log2(v)) - 10     index(v) = 1024 * e + (v >> e)
 *
 * v >> e lies in 1024..2047 there, so the indices follow one another without a gap. Bucket i holds
 *
 *	i < 2048:   e = 0;  i >= 2048: e = i / 1024 - 1
 *	from (i - 1024 * e) << e up to and including that + (1 << e) - 1
 *
 * A bucket is at most 1/1024 of its value wide: no value is off by more than 0.1 %. Values go up to 2^42 - 1 ns
 * (73 minutes); what is above counts in the last bucket, and the exact largest value is kept beside it. Two
 * histograms merge by adding their buckets; nothing is lost in that.
 *
 * As JSON: {"count", "minNs", "maxNs", "sumNs" (a string, since it can exceed 2^53), "buckets"}, where buckets
 * is a flat array of pairs: the distance from the previous pair's index (from -1 for the first), and the count.
 */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include "../common/json.h"

#include <stdint.h>

#define HISTOGRAM_VALUE_BITS 42
#define HISTOGRAM_BUCKETS ((HISTOGRAM_VALUE_BITS - 11 + 2) * 1024)

struct histogram {
	uint64_t count;
	uint64_t min_ns, max_ns; /* of nothing: 0 and 0 */
	uint64_t sum_ns;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline unsigned int histogram_index(uint64_t value)
{
	unsigned int e;

	if (value >> HISTOGRAM_VALUE_BITS)
		return HISTOGRAM_BUCKETS - 1;
	if (value < 2048)
		return (unsigned int)value;
	e = 53 - (unsigned int)__builtin_clzll(value); /* floor(log2(value)) - 10 */
	return (e << 10) + (unsigned int)(value >> e);
}

static inline void histogram_record(struct histogram *histogram, uint64_t value)
{
	if (!histogram->count || value < histogram->min_ns)
		histogram->min_ns = value;
	if (value > histogram->max_ns)
		histogram->max_ns = value;
	histogram->count++;
	histogram->sum_ns += value;
	histogram->buckets[histogram_index(value)]++;
}

/* Lowest and highest value of a bucket. */
uint64_t histogram_lowest(unsigned int index);
uint64_t histogram_highest(unsigned int index);

/* Adds @from to @to. */
void histogram_merge(struct histogram *to, const struct histogram *from);

/*
 * The value below or at which @fraction (0..1) of the values lie: the highest of the bucket in which the value
 * of rank ceil(fraction * count) is, but no more than the largest seen. 0 when empty.
 */
uint64_t histogram_quantile(const struct histogram *histogram, double fraction);

/* Writes the JSON form above. */
void histogram_json(const struct histogram *histogram, struct json *json, const char *key);

/*
 * Writes {"count", "meanNs", "p50Ns", "p90Ns", "p99Ns", "p999Ns", "p9999Ns", "maxNs"}. A quantile q needs at
 * least 10 / (1 - q) values to say anything; with fewer it is null.
 */
void histogram_summary_json(const struct histogram *histogram, struct json *json, const char *key);

#endif
