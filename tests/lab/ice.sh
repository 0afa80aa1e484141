#!/bin/bash
# Our ICE agents on real sockets through NATs of many kinds: the simulated ones between network namespaces
# (labnet). 20 ms each way on each side, so a round trip is 80 ms.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
. "$HERE/labnet.sh"
SERVERS="-s stun:203.0.114.1 -s turn:203.0.114.1 -u user -w pass"

# connect NAT-A NAT-B KIND SECONDS: a path of that kind is there within so many seconds.
connect() {
    lab_up 20 "$1" "$2"
    pings=$(($4 * 40))
    pair $(($4 + 20)) a "$BUILD/thalweg ice --trickle --pings $pings $SERVERS" \
        b "$BUILD/thalweg ice --trickle --answer --echo $SERVERS" || { cat "$WORK/a" "$WORK/b"; fail "$1 and $2"; }
    got=$(grep '^path: ' "$WORK/a" | tail -1)
    echo "$got" | grep -q "^path: $3," || { cat "$WORK/a" "$WORK/b"; fail "$1 and $2: $got"; }
    lost=$(sed -n 's/^\([0-9]*\) of \([0-9]*\) pings.*/\2 - \1/p' "$WORK/a")
    [ $((lost)) -le 5 ] || { cat "$WORK/a"; fail "$1 and $2: $((lost)) pings lost"; }
    echo "ok: $1 and $2: $(grep -o 'connected after.*' "$WORK/a" | head -1), $3 in the end, $((lost)) of $pings pings lost"
    lab_down
}
connect I/AP/keep I/AP/keep direct 1
connect - I/AP/random direct 1
connect I/I/random AP/AP/random direct 1
connect AP/AP/seq AP/AP/seq direct 3
connect AP/AP/keep AP/AP/parity direct 3
connect I/AP/keep AP/AP/seq direct 3
connect AP/AP/random I/AP/keep direct 10
connect AP/AP/random AP/AP/random relayed 3
