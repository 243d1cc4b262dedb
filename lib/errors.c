// SPDX-License-Identifier: MIT
/* What went wrong, in words that say what to do about it. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "fastio.h"
#include "internal.h"

struct meaning {
	int err;
	const char *name;
	/* What it means here, then what to do. */
	const char *text;
};

#define E(name, text)             \
	{                         \
		name, #name, text \
	}

/* strerror() is neither thread-safe nor the same in every locale, and knows nothing of rings. */
static const struct meaning meanings[] = {
	E(EACCES, "permission denied; for /dev/fastio run as its owner or ask for access to it"),
	E(EADDRINUSE, "address already in use; choose another port"),
	E(EAGAIN, "nothing to be had now; try again after the next completion"),
	E(EALREADY,
	  "the operation is already running and can no longer be cancelled; reap its completion"),
	E(EBADF, "not an open descriptor, or not open for this; check its number and that it was "
		 "not closed"),
	E(EBUSY, "already in use; a context is set up once, a ring has one worker at a time, a "
		 "registered file one "
		 "receive and one send at a time"),
	E(ECANCELED, "cancelled before it was done, by FASTIO_OP_CANCEL or by closing its file; "
		     "submit it again if "
		     "it is still wanted"),
	E(ECONNABORTED, "the connection was given up before it was accepted; accept the next one"),
	E(ECONNREFUSED, "nobody listens at that address; start the server first"),
	E(ECONNRESET, "the peer reset the connection; close it"),
	E(EEXIST, "exists already; choose another index or name"),
	E(EFAULT,
	  "an address is not the program's own memory; check pointer and length of the operation"),
	E(EINTR, "interrupted by a signal; call again"),
	E(EINVAL, "a field, flag or index is out of range or a reserved field is not zero; compare "
		  "with fastio.h"),
	E(EIO, "the device under the file failed; look at the kernel log"),
	E(EISDIR, "a directory where a file was expected"),
	E(EMFILE,
	  "too many open files in this process; raise RLIMIT_NOFILE (ulimit -n) or close some"),
	E(EMSGSIZE, "the message is longer than this socket can send; split it"),
	E(ENFILE, "too many open files in the system; raise fs.file-max"),
	E(ENOBUFS, "no provided buffer is free and the multishot receive has ended; give buffers "
		   "back, then submit "
		   "it again"),
	E(ENODEV, "no such device; load the module (modprobe fastio) or set FASTIO_BACKEND=user"),
	E(ENOENT, "not found; for a cancellation: no such operation is in flight"),
	E(ENOMEM, "out of memory, or over RLIMIT_MEMLOCK; use fewer or smaller rings and buffers, "
		  "or raise ulimit -l"),
	E(ENOSPC, "no room left; free some or make it larger"),
	E(ENOTCONN, "the socket is not connected"),
	E(ENOTSOCK, "the descriptor is not a socket; use READ or WRITE"),
	E(ENOTTY,
	  "the device does not know this request; module and library are of different versions"),
	E(ENXIO, "no such device or address; for an index: nothing is registered there"),
	E(EOPNOTSUPP,
	  "this file, module or configuration does not offer the operation; see the features in "
	  "struct fastio"),
	E(EOVERFLOW, "a number does not fit; use a smaller one"),
	E(EPERM, "not allowed: the rings belong to the process that set them up (not to its "
		 "children), and a seccomp "
		 "filter or the module's list of operations may forbid this one"),
	E(EPIPE, "the peer no longer reads; close the connection"),
	E(ERANGE, "out of range; compare with fastio.h"),
	E(ESHUTDOWN, "the rings have been shut down; reap what is there and call fastio_exit()"),
	E(ESRCH, "no such thread or process"),
	E(ETIME, "the time given ran out"),
	E(ETIMEDOUT, "the peer did not answer in time; close the connection"),
	E(EUSERS, "too many contexts of this user; close some or raise the module's limit"),
	E(EXDEV, "this file is served by another ring; submit on the ring of fastio_ring_for()"),
};

static const struct meaning *find(int err)
{
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (meanings[i].err == err)
			return &meanings[i];
	return NULL;
}

const char *fastio_errno_name(int err)
{
	const struct meaning *meaning = find(err < 0 ? -err : err);

	if (meaning)
		return meaning->name;
	return err ? "an error without a name" : "success";
}

const char *fastio_strerror(int err)
{
	const struct meaning *meaning = find(err < 0 ? -err : err);

	if (meaning)
		return meaning->text;
	return err ? "an error that libfastio has no advice for; see errno(3)" : "success";
}

int fastio_fail(struct fastio_error *error, int ret, const char *format, ...)
{
	va_list args;

	if (!error)
		return ret;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return ret;
}
