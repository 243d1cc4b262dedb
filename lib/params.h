/* SPDX-License-Identifier: MIT */
#ifndef FASTIO_PARAMS_H
#define FASTIO_PARAMS_H

#include "internal.h"

/* Fills in what was left to the library, and refuses what makes no sense. Returns 0 or -EINVAL. */
int fastio_params_complete(struct fastio_params *params, struct fastio_error *error);

#endif
