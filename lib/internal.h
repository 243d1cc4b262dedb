/* SPDX-License-Identifier: MIT */
/* What the files of libfastio share and programs do not see. */
#ifndef FASTIO_INTERNAL_H
#define FASTIO_INTERNAL_H

#include "fastio_conf.h"

/* Fills @error, when there is one, and returns @ret. */
__attribute__((format(printf, 3, 4))) int fastio_fail(struct fastio_error *error, int ret, const char *format, ...);

#endif
