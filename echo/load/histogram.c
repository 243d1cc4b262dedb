/* SPDX-License-Identifier: MIT */
#include "histogram.h"

#include <inttypes.h>
#include <math.h>

static unsigned int exponent(unsigned int index)
{
	return index < 2048 ? 0 : index / 1024 - 1;
}

uint64_t histogram_lowest(unsigned int index)
{
	unsigned int e = exponent(index);

	return (uint64_t)(index - 1024 * e) << e;
}

uint64_t histogram_highest(unsigned int index)
{
	return histogram_lowest(index) + ((uint64_t)1 << exponent(index)) - 1;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
	unsigned int first, last;

	if (!from->count)
		return;
	if (!to->count || from->min_ns < to->min_ns)
		to->min_ns = from->min_ns;
	if (from->max_ns > to->max_ns)
		to->max_ns = from->max_ns;
	to->count += from->count;
	to->sum_ns += from->sum_ns;
	/* Only where there can be something, so that merging many sparse ones touches little memory. */
	first = histogram_index(from->min_ns);
	last = histogram_index(from->max_ns);
	for (unsigned int i = first; i <= last; i++)
		to->buckets[i] += from->buckets[i];
}

uint64_t histogram_quantile(const struct histogram *histogram, double fraction)
{
	uint64_t rank = (uint64_t)ceil(fraction * (double)histogram->count), seen = 0;

	if (!histogram->count)
		return 0;
	if (!rank)
		rank = 1;
	for (unsigned int i = histogram_index(histogram->min_ns); i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->buckets[i];
		if (seen >= rank) {
			uint64_t highest = histogram_highest(i);

			return highest < histogram->max_ns && i < HISTOGRAM_BUCKETS - 1 ? highest : histogram->max_ns;
		}
	}
	return histogram->max_ns;
}

void histogram_json(const struct histogram *histogram, struct json *json, const char *key)
{
	char sum[24];
	int previous = -1;

	json_object(json, key);
	json_count(json, "count", histogram->count);
	json_count(json, "minNs", histogram->min_ns);
	json_count(json, "maxNs", histogram->max_ns);
	snprintf(sum, sizeof(sum), "%" PRIu64, histogram->sum_ns);
	json_text(json, "sumNs", sum);
	json_array(json, "buckets");
	if (histogram->count) {
		unsigned int last = histogram_index(histogram->max_ns);

		for (unsigned int i = histogram_index(histogram->min_ns); i <= last; i++) {
			if (!histogram->buckets[i])
				continue;
			json_count(json, NULL, (uint64_t)((int)i - previous));
			json_count(json, NULL, histogram->buckets[i]);
			previous = (int)i;
		}
	}
	json_end_array(json);
	json_end_object(json);
}

void histogram_summary_json(const struct histogram *histogram, struct json *json, const char *key)
{
	static const struct {
		const char *key;
		double fraction;
		uint64_t needed;
	} quantiles[] = {
		{ "p50Ns", 0.5, 20 },	    { "p90Ns", 0.9, 100 },	  { "p99Ns", 0.99, 1000 },
		{ "p999Ns", 0.999, 10000 }, { "p9999Ns", 0.9999, 100000 },
	};

	json_object(json, key);
	json_count(json, "count", histogram->count);
	json_number(json, "meanNs", (double)histogram->sum_ns / (double)histogram->count);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
		if (histogram->count < quantiles[i].needed)
			json_text(json, quantiles[i].key, NULL);
		else
			json_count(json, quantiles[i].key, histogram_quantile(histogram, quantiles[i].fraction));
	}
	json_count(json, "maxNs", histogram->max_ns);
	json_end_object(json);
}
