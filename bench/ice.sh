#!/bin/bash
# How soon data flows: our agent, libnice, aioice and libjuice, each with itself, through the same NATs, by turns. 20 ms
# one way between the peers and between each and the server. Time from having the peer's description, with
# everything gathered before, to the first byte that came back (one round trip, 40 ms, of it is the
# echo's). libjuice carries data only under DTLS, so its figure is that its ICE says "connected": without the echo.
# usage: bench/ice.sh [RUNS]; BUILD names the build directory.
HERE=$(dirname "$0")
BUILD=${BUILD:-$HERE/../build}
export BUILD
. "$HERE/../tests/lab/namespaces.sh"
enter_lab "$@"
. "$HERE/../tests/interop/lib.sh"
. "$HERE/../tests/lab/labnet.sh"
RUNS=${1:-10}
SERVER=203.0.114.1
export SERVER
ours="$BUILD/thalweg ice -s stun:$SERVER -s turn:$SERVER -u user -w pass"
nice="$BUILD/tests/libnice_peer"
aioice="/usr/bin/python3 $HERE/../tests/interop/aioice_peer.py"
# libjuice comes with libdatachannel's npm package, which the interop tests install.
modules=$(cd "$BUILD" && pwd)/npm/node_modules
juice="node $HERE/juice_peer.js $modules"
stacks="ours libnice aioice"
if [ -d "$modules/node-datachannel" ]; then
    stacks="$stacks libjuice"
else
    echo "no libjuice: run tests/interop/ice_webrtc.sh first, which installs it"
fi

once() { # stack: prints milliseconds, or nothing
    case $1 in
    ours) pair 25 a "$ours --pings 1" b "$ours --answer --echo" ;;
    libnice) PING=1 pair 25 a "$nice controlling udp" b "env -u PING $nice controlled udp" ;;
    aioice) PING=1 pair 25 a "$aioice controlling" b "env -u PING $aioice controlled" ;;
    libjuice) pair 25 a "$juice offer $SERVER" b "$juice answer $SERVER" ;;
    esac
    sed -n 's/.*first after \([0-9.]*\) ms.*/\1/p; s/.*the first \([0-9.]*\) ms after.*/\1/p' "$WORK/a"
}
printf '%-28s %-10s %s\n' networks agent "median ms (lowest to highest, runs)"
while read -r left right; do
    lab_up 10 "$left" "$right"
    for stack in $stacks; do
        : >"$WORK/$stack"
    done
    for _ in $(seq "$RUNS"); do
        for stack in $stacks; do
            once $stack >>"$WORK/$stack"
        done
    done
    for stack in $stacks; do
        sort -n "$WORK/$stack" | awk -v n="$left $right" -v s=$stack -v runs="$RUNS" '{ t[NR] = $1 }
            END { if (!NR) printf "%-28s %-10s never connected\n", n, s
                  else printf "%-28s %-10s %6.0f (%.0f to %.0f, %d of %d)\n", n, s, t[int((NR + 1) / 2)], t[1], t[NR], NR, runs }'
    done
    lab_down
done <<'PAIRS'
- I/AP/keep
I/AP/keep I/AP/keep
I/A/random AP/AP/random
I/AP/keep AP/AP/random
AP/AP/random AP/AP/random
PAIRS
