#!/bin/sh
# Checks what the shared library exports against its version script, and that the public headers stand alone.
# Usage: abi.sh LIBRARY VERSION-SCRIPT CC CFLAGS
set -eu

library=$1
script=$2
compiler=$3
flags=$4

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

sed -n 's/^[[:space:]]*\(fastio_[a-z_]*\);$/\1/p' "$script" | sort >"$scratch/wanted"
nm --dynamic --defined-only "$library" | sed -n 's/.* T \([^@]*\).*/\1/p' | sort >"$scratch/exported"
diff "$scratch/wanted" "$scratch/exported" || {
	echo "abi.sh: $library exports something else than $script says (< wanted, > exported)" >&2
	exit 1
}
sed -n 's/^[a-z].*[ *]\(fastio_[a-z_]*\)(.*/\1/p' include/fastio.h include/fastio_conf.h |
	sort -u >"$scratch/declared"
while read -r name; do
	grep -q "static inline .*$name(" include/*.h || grep -qx "$name" "$scratch/exported" || {
		echo "abi.sh: $name is declared in a public header and not exported" >&2
		exit 1
	}
done <"$scratch/declared"

for header in fastio.h fastio_conf.h; do
	printf '#include <%s>\nint main(void) { return 0; }\n' "$header" >"$scratch/alone.c"
	# shellcheck disable=SC2086 # flags are words
	"$compiler" $flags -std=c11 -U_GNU_SOURCE -MF /dev/null -c "$scratch/alone.c" -o "$scratch/alone.o"
done
echo "abi.sh: $(wc -l <"$scratch/exported") symbols exported, all declared; headers stand alone"
