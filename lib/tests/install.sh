#!/bin/sh
# SPDX-License-Identifier: MIT
# install.sh PREFIX CC: builds a program with what fastio.pc below PREFIX says, and runs it. Prints TAP.
set -eu
prefix=$1
cc=$2
flags=$(sed -n 's/^Cflags: //p; s/^Libs: //p' "$prefix/lib/pkgconfig/fastio.pc" |
	sed "s|\${libdir}|$prefix/lib|; s|\${includedir}|$prefix/include|")
printf '#include <fastio.h>\n#include <stdio.h>\nint main(void) { return !puts(fastio_version()); }\n' \
	>"$prefix/program.c"
# shellcheck disable=SC2086 # flags are words
"$cc" "$prefix/program.c" $flags -o "$prefix/program"
version=$(LD_LIBRARY_PATH="$prefix/lib" "$prefix/program")
echo "1..1"
if [ "$version" = "$(sed -n 's/^Version: //p' "$prefix/lib/pkgconfig/fastio.pc")" ]; then
	echo "ok 1 - a program built against the installed library runs"
else
	echo "not ok 1 - found version $version"
	exit 1
fi
