#!/bin/sh
# Runs test programs that print TAP. Usage: run.sh PROGRAM... Each must print a plan, fulfil it, and exit with 0.
set -eu

# User space everywhere: the module's own tests run in guests. A caller that wants the module says so.
: "${FASTIO_BACKEND:=user}"
ASAN_OPTIONS=detect_leaks=1:${ASAN_OPTIONS:-}
TSAN_OPTIONS=halt_on_error=1:${TSAN_OPTIONS:-}
export FASTIO_BACKEND ASAN_OPTIONS TSAN_OPTIONS

bad=0
for program in "$@"; do
	echo "# $program"
	status=0
	output=$(timeout 580 "$program" 2>&1) || status=$?
	printf '%s\n' "$output"
	planned=$(printf '%s\n' "$output" | sed -n 's/^1\.\.\([0-9]*\)$/\1/p')
	passed=$(printf '%s\n' "$output" | grep -c '^ok ' || true)
	if [ "$status" -ne 0 ] || [ -z "$planned" ] || [ "$planned" -eq 0 ] || [ "$planned" -ne "$passed" ]; then
		echo "# FAILED: $program: exit status $status, ${passed:-0} of ${planned:-an unknown number of} tests passed"
		bad=1
	fi
done
exit "$bad"
