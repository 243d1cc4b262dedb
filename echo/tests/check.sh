#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every server that this machine can run against the load generator and the nasty client, and the load
# generator against servers with planted faults. Prints TAP; exits with 1 when anything failed.
# usage: check.sh DIRECTORY FLAVOUR
set -u

dir=$1
flavour=$2
tests=0
failures=0
bytes=0
work=$(mktemp -d)
server=
export FASTIO_QUIET=1
# Memory that is freed is kept for a while to find who still uses it; the memory test needs that to be little.
export ASAN_OPTIONS=quarantine_size_mb=4
# A donated worker that spins would take a CPU from everybody else here.
conf=$work/fastio.conf
printf 'default_main_worker_idle_time = 1\n' >"$conf"
tiny=$work/tiny.conf
printf 'default_main_worker_idle_time = 1\nmax_table_entry = 1\nmax_table_len = 2\n' >"$tiny"

# Two CPUs that we may use, and the first of them.
cpu=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*\([0-9]*\).*/\1/p' /proc/self/status)
two_cpus=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*\([0-9]*\)[-,]\([0-9]*\).*/\1,\2/p' /proc/self/status)

cleanup() {
	[ -n "$server" ] && kill -KILL "$server" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

result() { # STATUS DESCRIPTION [FILE WITH DETAILS]...
	tests=$((tests + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tests - $2"
		return
	fi
	failures=$((failures + 1))
	echo "not ok $tests - $2"
	shift 2
	for file in "$@"; do
		[ -s "$file" ] && sed 's/^/# /' "$file" | cut -c 1-600 | tail -n 40
	done
	return 0
}

field() { # NAME FILE: the first number of that name
	sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" "$2" | head -n 1
}

first_field() { # NAME FILE: as field, when the name occurs again later in the line
	tr ',{' '\n' <"$2" | sed -n "s/^\"$1\":\([0-9.]*\).*/\1/p" | head -n 1
}

# Starts a server; sets $port and $pid. $server is the process to wait for.
start() {
	: >"$work/out" # The redirection below happens later, in another process.
	timeout --kill-after 5 300 "$@" >"$work/out" 2>"$work/err" &
	server=$!
	port=
	for _ in $(seq 200); do
		port=$(sed -n 's/^READY port=\([0-9]*\) .*/\1/p' "$work/out")
		[ -n "$port" ] && break
		kill -0 $server 2>/dev/null || break
		sleep 0.05
	done
	pid=$(sed -n 's/^READY .*pid=\([0-9]*\).*/\1/p' "$work/out")
	[ -n "$port" ]
}

# Ends it. Succeeds when it ended well, said nothing on stderr and has no connection left.
stop() {
	kill -TERM "$pid"
	wait $server
	status=$?
	server=
	[ $status -eq 0 ] && [ ! -s "$work/err" ]
}

# Runs the generator; adds all it sent to $bytes.
load() {
	rm -f "$work/json"
	timeout --kill-after 5 60 "$dir/load" --address "127.0.0.1:$port" --json "$work/json" "$@" 2>"$work/load.err"
	load_status=$?
	sent=$(sed -n 's/.*"totals":{"requests":[0-9]*,"bytes":\([0-9]*\).*/\1/p' "$work/json")
	bytes=$((bytes + ${sent:-0}))
	return $load_status
}

nasty() {
	timeout --kill-after 5 100 "$dir/nasty" --port "$port" --pid "$pid" --scenario "$1" 2>"$work/nasty.err"
}

# ------------------------------------------------------------------ servers

if [ "$flavour" = tsan ]; then
	scenarios='half-close reset slow-reader'
else
	scenarios='one-byte half-close fragments big many reset churn slow-reader'
fi

# Runs one server, given by its arguments, against everything.
serve() {
	name=$*
	program=$1
	shift
	if ! start "$dir/$program" --port 0 "$@"; then
		result 1 "$name starts" "$work/err"
		kill -KILL $server 2>/dev/null
		server=
		return
	fi

	bytes=0
	load --requests 3000 --threads 2 --account-pid "$pid"
	result $? "$name: 50 connections, 512 bytes" "$work/load.err"
	grep -q '"requests":3000,"requestsPerSecond":' "$work/json" &&
		grep -q '"source":"server"' "$work/json" && grep -q '"streamsLeftOpen":0' "$work/json"
	result $? "$name: accounts for itself and closes when its peers do" "$work/json"
	if [ "$flavour" != tsan ]; then
		load --requests 3000 --connections 300 --message-bytes 1 --threads 2
		result $? "$name: 300 connections, 1 byte" "$work/load.err"
		load --requests 40 --connections 4 --message-bytes 1048576
		result $? "$name: 4 connections, 1 MiB" "$work/load.err"
		load --requests 300 --connections 8 --message-bytes 65537 --engine threads
		result $? "$name: a thread per connection, 65537 bytes" "$work/load.err"
	fi
	# Whether the rate was kept is up to this host; that it is said is up to us.
	load --rate 500 --arrivals poisson --duration 500ms --connections 20 --message-bytes 100 &&
		grep -qE '"kept":(true|false)' "$work/json"
	result $? "$name: open loop, 500 requests/s" "$work/load.err"
	stop && [ "$(field errors "$work/out")" = 0 ] && [ "$(field accepted "$work/out")" = "$(field closed "$work/out")" ]
	result $? "$name: ends when told to, without an error" "$work/err" "$work/out"
	[ "$(first_field bytes "$work/out")" = "$bytes" ]
	result $? "$name: has sent back the $bytes bytes the generator counted" "$work/out"

	start "$dir/$program" --port 0 "$@" || {
		result 1 "$name starts again" "$work/err"
		return
	}
	for scenario in $scenarios; do
		nasty "$scenario"
		result $? "$name: $scenario" "$work/nasty.err" "$work/err"
	done
	stop && [ "$(field errors "$work/out")" = 0 ] && [ "$(field accepted "$work/out")" = "$(field closed "$work/out")" ]
	result $? "$name: ends well after all that" "$work/err" "$work/out"

	# In the middle of everything.
	start "$dir/$program" --port 0 "$@"
	load --connections 20 --duration 20s --timeout 5s &
	client=$!
	for _ in $(seq 100); do
		ss=$(awk -v p="$(printf '%04X' "$port")" '$2 ~ ":"p"$" && $4 == "01"' /proc/net/tcp | wc -l)
		[ "$ss" -ge 20 ] && break
		sleep 0.05
	done
	stop
	result $? "$name: ends when told to under load" "$work/err" "$work/out"
	wait $client
	[ $? -eq 1 ] && grep -q '"ok":false' "$work/json"
	result $? "$name: the generator says that the server went away" "$work/load.err"
}

# More connections than descriptors: those that are there are served, and later there is room again.
crowd() {
	name=$*
	program=$1
	shift
	: >"$work/out"
	(
		# shellcheck disable=SC3045 # dash and busybox have it.
		ulimit -n 300
		exec timeout --kill-after 5 60 "$dir/$program" --port 0 "$@"
	) >"$work/out" 2>"$work/err" &
	server=$!
	for _ in $(seq 200); do
		port=$(sed -n 's/^READY port=\([0-9]*\) .*/\1/p' "$work/out")
		[ -n "$port" ] && break
		sleep 0.05
	done
	pid=$(sed -n 's/^READY .*pid=\([0-9]*\).*/\1/p' "$work/out")
	nasty crowd
	result $? "$name: more connections than descriptors" "$work/nasty.err" "$work/err"
	stop
	result $? "$name: ends well after the crowd" "$work/err" "$work/out"
}

have_io_uring() {
	start "$dir/io_uring" --port 0 && stop
}

servers() {
	serve epoll
	serve epoll --trigger edge
	if [ "$flavour" != tsan ]; then
		serve epoll --trigger edge --buffer-bytes 64
		crowd epoll
	fi
	serve epoll --threads 3 --cpus "$cpu,$cpu,$cpu"
	serve epoll --threads 2 --accept balanced

	if have_io_uring; then
		serve io_uring
		if [ "$flavour" != tsan ]; then
			serve io_uring --mode oneshot
			serve io_uring --buffers 2 --buffer-bytes 1024
			serve io_uring --sqpoll --sq-idle-ms 1
			crowd io_uring
			crowd io_uring --mode oneshot
		fi
		serve io_uring --threads 2
		serve io_uring --threads 2 --accept balanced
	else
		echo "# SKIP io_uring: $(cat "$work/err")"
		wait $server
		server=
	fi

	serve fastio --backend user --conf "$conf" --workers 1
	serve fastio --backend user --conf "$conf" --workers 1 --mode multishot
	serve fastio --backend user --conf "$conf" --workers 0
	if [ "$flavour" != tsan ]; then
		serve fastio --backend user --conf "$conf" --workers 2 --mode oneshot
		serve fastio --backend user --conf "$conf" --workers 2 --mode multishot --buffers 2 --buffer-bytes 1024
		serve fastio --backend user --conf "$conf" --workers 0 --mode multishot
		# Submission queues of two entries: most of what is to be submitted has to wait for room.
		serve fastio --backend user --conf "$tiny" --workers 1
		serve fastio --backend user --conf "$tiny" --workers 2 --mode multishot --buffers 4 --buffer-bytes 1024
		serve fastio --backend user --conf "$tiny" --workers 1 --hybrid --mode oneshot
		serve fastio --backend user --conf "$conf" --workers 1 --wait spin
		crowd fastio --backend user --conf "$conf" --workers 1
	fi
	[ -z "$two_cpus" ] || serve fastio --backend user --conf "$conf" --workers 1 --cpus "$two_cpus"
	serve fastio --backend user --conf "$conf" --workers 2 --hybrid
	serve fastio --backend user --conf "$conf" --workers 1 --threads 2 --accept balanced
}

ipv6() {
	start "$dir/epoll" --address ::1 --port 0 || return 0
	timeout --kill-after 5 60 "$dir/load" --address "[::1]:$port" --requests 100 --json "$work/json" 2>"$work/load.err"
	result $? 'epoll and load speak IPv6' "$work/load.err"
	stop
}

# ------------------------------------------------------------------ the generator finds faults

# FAULT KIND [ARGUMENTS OF LOAD]: the generator must fail, say what it was, and do so at once.
finds() {
	fault=$1
	kind=$2
	shift 2
	# Only where the fault is a reply that never comes does the test wait for it; elsewhere a busy host may be late.
	[ "$kind" = timeout ] && patience=1s || patience=20s
	start "$dir/faulty" --fault "$fault" --message-bytes 64
	load --message-bytes 64 --connections 10 --timeout $patience "$@"
	status=$?
	kill -KILL "$pid"
	wait $server 2>/dev/null
	server=
	[ $status -eq 1 ] && grep -q "\"\($kind\)\":[1-9]" "$work/json" && grep -q '"ok":false' "$work/json"
	result $? "load${*:+ $*} finds: $fault" "$work/load.err" "$work/json"
}

faults() {
	start "$dir/faulty" --message-bytes 64
	load --message-bytes 64 --connections 10 --requests 2000 --account-pid "$pid"
	result $? "load passes a server without a fault" "$work/load.err"
	grep -q '"source":"schedstat"' "$work/json"
	result $? "load accounts for a server that does not answer for itself" "$work/json"
	kill -KILL "$pid"
	wait $server 2>/dev/null
	server=

	for how in '--requests 2000' '--requests 2000 --engine threads' '--rate 3000 --duration 1s' \
		'--requests 2000 --on-error count'; do
		# shellcheck disable=SC2086
		# An extra byte that comes late stands where the next reply should be.
		for fault in wrong-byte:wrongBytes cross:wrongBytes stale:wrongBytes lost:timeout short:timeout \
			'extra:extraBytes\|wrongBytes' late-extra:extraBytes close:closed reset:reset; do
			finds ${fault%:*} ${fault#*:} $how
		done
	done
	finds cross wrongBytes --requests 2000
	grep -q 'these bytes are of connection [0-9]*, message [0-9]*' "$work/load.err"
	result $? 'load says whose bytes came instead' "$work/load.err"
	start "$dir/faulty" --fault no-end --message-bytes 64
	load --message-bytes 64 --connections 3 --requests 100 && grep -q '"streamsLeftOpen":3' "$work/json"
	result $? 'load notices a server that does not close, which is no error'
	kill -KILL "$pid"
	wait $server 2>/dev/null
	server=
}

# A server that stops for 300 ms: an open loop shows what that does to everybody, a closed loop shows 10 of it. The
# number of requests is given, so that 10 are few of them however slow this host is.
pause() {
	for loop in '--rate 3000 --duration 1s' '--requests 10000'; do
		start "$dir/faulty" --fault pause --message-bytes 64 --after 300
		# shellcheck disable=SC2086
		load --message-bytes 64 --connections 10 $loop
		status=$?
		kill -KILL "$pid"
		wait $server 2>/dev/null
		server=
		p99=$(tr ',{' '\n' <"$work/json" | sed -n 's/^"p99Ns":\([0-9]*\).*/\1/p' | head -n 1)
		if [ "${loop#--rate}" != "$loop" ]; then
			[ $status -eq 0 ] && [ "$p99" -gt 200000000 ]
			result $? "load: a pause of 300 ms shows in the open loop's p99 (it is $p99 ns)"
		else
			[ $status -eq 0 ] && [ "$p99" -lt 200000000 ]
			result $? "load: and hides in the closed loop's (it is $p99 ns), which is why that makes no claim on tails"
		fi
	done
}

# ------------------------------------------------------------------ arguments

refuses() { # EXPECTED-TEXT PROGRAM ARGUMENTS...
	expected=$1
	program=$2
	shift 2
	"$dir/$program" "$@" >"$work/out" 2>"$work/err"
	status=$?
	[ $status -eq 2 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && grep -qF -- "$expected" "$work/err" && [ ! -s "$work/out" ]
	result $? "$program $* is refused" "$work/err"
}

arguments() {
	refuses '--threads: found "0", expected a whole number from 1 to 64' epoll --threads 0
	refuses '--threads: found "65", expected' epoll --threads=65
	refuses '--threads: found "1x", expected' epoll --threads 1x
	refuses '--threads: found "-1", expected' epoll --threads -1
	refuses '--threads: found "", expected' epoll --threads
	refuses '--threads: found twice' epoll --threads 1 --threads 1
	refuses 'found "--thread", which is no option' epoll --thread 1
	refuses 'found "1", expected an option' epoll 1
	refuses '--trigger: found "both", expected level or edge' epoll --trigger both
	refuses '--cpus: found "1-", expected' epoll --cpus 1-
	refuses '--cpus: found 1 CPUs, expected one for each of 2 threads' epoll --cpus 0 --threads 2
	refuses '--address: found "nowhere", expected' epoll --address nowhere
	refuses 'found --wait spin without --sqpoll' io_uring --wait spin
	refuses '--buffers: found 3, expected a power of two' io_uring --buffers 3
	refuses 'found --hybrid with no workers' fastio --workers 0 --hybrid
	refuses "$work/none.conf" fastio --conf "$work/none.conf"
	printf 'max_ker_worker = many\n' >"$work/bad.conf"
	refuses "$work/bad.conf:1: found" fastio --conf "$work/bad.conf"
	refuses '--cpus: found 1 CPUs, expected one for each of 3 threads' fastio --workers 2 --cpus 0
	refuses '--connections: found "0", expected' load --connections 0
	refuses '--message-bytes: found "1048577", expected' load -l 1048577
	refuses '--duration: found "5 s", expected a time' load --duration '5 s'
	refuses '--address: found "localhost", expected HOST:PORT' load --address localhost
	refuses '--address: found port "0"' load --address localhost:0
	refuses 'found --duration and --requests' load --duration 1 --requests 1
	refuses 'found --rate and --requests' load --rate 1 --requests 1
	refuses '--rate: found 0' load --rate 0
	refuses '--threads: found 3, expected at most' load --connections 2 --threads 3
	if [ "$(uname -m)" != aarch64 ]; then
		refuses '--clock-hints: found another processor' load --clock-hints
	fi
}

"$dir/units" >"$work/units" 2>&1
result $? 'unit tests' "$work/units"
arguments
[ "$flavour" = tsan ] || faults
[ "$flavour" = tsan ] || pause
if [ -e /proc/net/if_inet6 ] && grep -q ' lo$' /proc/net/if_inet6; then
	ipv6
fi
servers
echo "1..$tests"
[ $failures -eq 0 ] || echo "# $failures of $tests failed"
[ $failures -eq 0 ]
