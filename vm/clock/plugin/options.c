// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "options.h"
#include "slices.h"

/* No instruction takes longer than this; it keeps sums far from overflow. */
#define COST_MAX_NS 100000.0
#define RAM_MAX_MIB 1048576

static bool parse_number(const char *name, const char *text, double low, double high, double *value)
{
	char *end;

	errno = 0;
	*value = strtod(text, &end);
	if (end != text && !*end && !errno && *value >= low && *value <= high)
		return true;
	complain("argument %s: found \"%s\", expected a number from %g to %g", name, text, low, high);
	return false;
}

static bool parse_integer(const char *name, const char *text, double low, double high, int64_t *value)
{
	double number;

	if (!parse_number(name, text, low, high, &number))
		return false;
	*value = (int64_t)number;
	if ((double)*value == number)
		return true;
	complain("argument %s: found \"%s\", expected a whole number", name, text);
	return false;
}

static bool parse_flag(const char *name, const char *text, const char *off, const char *on, bool *value)
{
	*value = !strcmp(text, on);
	if (*value || !strcmp(text, off))
		return true;
	complain("argument %s: found \"%s\", expected %s or %s", name, text, off, on);
	return false;
}

static bool parse_cost(struct costs *costs, const char *name, const char *text, bool *known)
{
	const struct {
		const char *name;
		vtime *to;
	} fields[] = {
		{ "insn", &costs->insn }, { "svc", &costs->svc },   { "eret", &costs->eret },
		{ "atomic", &costs->atomic }, { "line", &costs->line }, { "wfi", &costs->wfi },
		{ "ipi", &costs->ipi },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		double ns;

		if (strcmp(name, fields[i].name))
			continue;
		*known = true;
		if (!parse_number(name, text, 0, COST_MAX_NS, &ns))
			return false;
		*fields[i].to = (vtime)(ns * (double)VTIME(1) + 0.5);
		return true;
	}
	*known = false;
	return true;
}

static bool parse_option(struct options *options, const char *name, const char *text)
{
	int64_t whole;
	bool known;

	if (!parse_cost(&options->costs, name, text, &known))
		return false;
	if (known)
		return true;
	if (!strcmp(name, "coarse"))
		return parse_integer(name, text, 1, QUANTUM_MAX_NS, &options->coarse_ns);
	if (!strcmp(name, "fine"))
		return parse_integer(name, text, 1, QUANTUM_MAX_NS, &options->fine_ns);
	if (!strcmp(name, "lines"))
		return parse_flag(name, text, "ordered", "all", &options->costs.all_accesses);
	if (!strcmp(name, "pace"))
		return parse_flag(name, text, "off", "on", &options->pace);
	if (!strcmp(name, "profile"))
		return parse_flag(name, text, "off", "on", &options->profile);
	if (!strcmp(name, "ram")) {
		if (!parse_integer(name, text, 1, RAM_MAX_MIB, &whole))
			return false;
		options->ram_mib = (unsigned int)whole;
		return true;
	}
	if (!strcmp(name, "stats")) {
		options->stats = text;
		return true;
	}
	complain("unknown argument %s", name);
	return false;
}

bool parse_options(struct options *options, int argc, char **argv)
{
	*options = (struct options){ .coarse_ns = 2000, .fine_ns = 50, .costs = { .insn = VTIME(1) } };
	for (int i = 0; i < argc; i++) {
		char *equals = strchr(argv[i], '=');
		char name[16];

		if (!equals || (size_t)(equals - argv[i]) >= sizeof(name)) {
			complain("argument \"%s\": expected NAME=VALUE", argv[i]);
			return false;
		}
		memcpy(name, argv[i], (size_t)(equals - argv[i]));
		name[equals - argv[i]] = '\0';
		if (!parse_option(options, name, equals + 1))
			return false;
	}
	if (options->costs.insn < 1) {
		complain("argument insn: found 0, expected more: time would stand still");
		return false;
	}
	if (options->costs.line && !options->ram_mib) {
		complain("argument line needs ram=MIB, the guest's memory");
		return false;
	}
	return true;
}
