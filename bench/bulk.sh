#!/bin/bash
# How much goes through, and what it costs: straight between two hosts (veth), the same over our relay, and over a link
# of 100 Mbit/s with a round trip of 48 ms that loses a packet in a hundred each way (tests/lab/labnet). CPU is that of
# the processes, in seconds a GiB, as the kernel counts it in hundredths of a second. And inside HTTPS over 50 Mbit/s and 80 ms.
# usage: bench/bulk.sh [RUNS]; BUILD names the build directory.
HERE=$(dirname "$0")
BUILD=${BUILD:-$HERE/../build}
export BUILD
. "$HERE/../tests/lab/namespaces.sh"
enter_lab "$@"
. "$HERE/../tests/interop/lib.sh"
. "$HERE/../tests/lab/labnet.sh"
RUNS=${1:-5}

cpu() { # of processes, in seconds
    # shellcheck disable=SC2046
    awk '{ t += $14 + $15 } END { print t / 100 }' $(for p in $*; do echo "/proc/$p/stat"; done)
}

# run MIB [RUNG]: prints MB/s and CPU seconds a GiB of sender, receiver, relay.
run() {
    ip netns exec b "$BUILD/dialbench" listen "$server" >"$WORK/b" 2>&1 9>&- &
    listener=$!
    wait_for 5 grep -q online "$WORK/b" || { cat "$WORK/b"; fail "b"; }
    address=$(sed -n 's/^address [0-9.]* //p' "$WORK/b")
    before=$(cpu "$relay")
    ip netns exec a "$BUILD/dialbench" send "$server" "$address" "$@" >"$WORK/a" 2>&1 9>&- &
    sender=$!
    wait_for 120 grep -q '^end' "$WORK/b" || { cat "$WORK/a" "$WORK/b"; fail "it does not end"; }
    used=$(cpu "$sender" "$listener")
    relayed=$(cpu "$relay")
    kill $sender $listener
    wait $sender $listener 2>/dev/null
    awk -v mib="$1" -v peers="$used" -v relay="$relayed" -v before="$before" -v rung="$(awk '$1 == "path" { r = $3 } END { print r }' "$WORK/a")" '
        $1 == "byte" { from = $2 } $1 == "end" { to = $2 }
        END { g = mib / 1024; printf "%.1f %.2f %.2f %.2f %s\n", mib * 1.048576 / ((to - from) / 1000), peers / g, (relay - before) / g, (peers + relay - before) / g, rung }' "$WORK/b"
}

# several NAME MIB [RUNG]: medians, lowest and highest of RUNS.
several() {
    name=$1
    shift
    for _ in $(seq "$RUNS"); do run "$@"; done | awk -v name="$name" '
        function stats(c, fmt,   i, j, x, t) { for (i = 1; i <= NR; i++) t[i] = v[i, c]
            for (i = 2; i <= NR; i++) for (j = i; j > 1 && t[j-1] + 0 > t[j] + 0; j--) { x = t[j]; t[j] = t[j-1]; t[j-1] = x }
            return sprintf(fmt " (" fmt " to " fmt ")", t[int((NR + 1) / 2)], t[1], t[NR]) }
        { for (c = 1; c <= 4; c++) v[NR, c] = $c; rung = $5 }
        END { printf "%-34s %-6s %-26s %-22s %-22s %s\n", name, rung, stats(1, "%.1f"), stats(2, "%.2f"), stats(3, "%.2f"), stats(4, "%.2f") }'
}

printf '%-34s %-6s %-26s %-22s %-22s %s\n' "" "way" "MB/s" "peers' CPU, s/GiB" "relay's CPU" "in all"
echo 1 >/proc/sys/net/ipv4/ip_forward
for n in a:198.51.150 b:198.51.151 s:203.0.114; do
    host "${n%:*}"
    link "${n%:*}" "${n#*:}.1" "" "${n#*:}.254"
done
ip netns exec s "$BUILD/thalwegd" -L 203.0.114.1 -r realm -m 1 --rendezvous-open >"$WORK/thalwegd" 2>&1 &
relay=$!
wait_for 5 grep -q "rendezvous at 203.0.114.1" "$WORK/thalwegd" || { cat "$WORK/thalwegd"; fail "thalwegd"; }
server=$(sed -n 's/.*rendezvous at \(203.0.114.1[^ ]*\).*/\1/p' "$WORK/thalwegd")
several "straight, veth" 2048
several "straight, TCP" 1024 tcp
several "straight, inside HTTP" 1024 http
several "straight, inside HTTPS" 1024 https
several "over the relay, veth" 1024 relay
kill "$relay"
sleep 0.2
kill "$relay" 2>/dev/null
for n in a b s; do ip netns del $n; done

LABNET_RATE=12500000 LABNET_LOSS=5
export LABNET_RATE LABNET_LOSS
lab_up 12 - - # whole milliseconds: 48
relay=$RELAY
server=$RENDEZVOUS
several "100 Mbit/s, 48 ms, 1 % lost" 64
lab_down

unset LABNET_LOSS
LABNET_RATE=6250000
lab_up 20 - -
relay=$RELAY
server=$RENDEZVOUS
several "50 Mbit/s, 80 ms, inside HTTPS" 128 https
echo "round trip while sending: $(sed -n 's/^rtt [0-9.]* \([0-9.]*\) of \([0-9.]*\)/\1 ms, least \2 ms/p' "$WORK/a")"
lab_down
