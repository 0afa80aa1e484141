#!/bin/bash
# Our ICE agent and libnice: both roles, over UDP and TCP, and with relays of both kinds on either side.
. "$(dirname "$0")/lib.sh"
need turnserver
peer=$BUILD/tests/libnice_peer
[ -x "$peer" ] || {
    echo "SKIP: libnice-dev was not there when this was built; tools/bootstrap test installs it"
    exit 77
}
start_outside --allowed-peer-ip=0.0.0.0-255.255.255.255
ours=$PORT
start_coturn_outside
for role in controlling controlled; do
    answer=--answer
    [ $role = controlled ] && answer=
    ice_pair "libnice $role" "$answer" direct "$peer" $role udp
    ice_pair "libnice $role, TCP" "$answer --no-udp" "direct over TCP" "$peer" $role tcp
    for relay in "ours $ours" "coturn $PORT"; do
        # shellcheck disable=SC2086
        set -- $relay
        ice_pair "libnice $role, our side relayed by $1" \
            "$answer --relay-only -s turn:$IP:$2 -u user -w pass" relayed "$peer" $role udp
        ice_pair "libnice $role, its side relayed by $1" "$answer --no-probe" relayed "$peer" $role udp \
            "$IP" "$2"
    done
done
