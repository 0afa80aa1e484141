#!/bin/bash
# Our ICE agent and aioice: both roles, directly and with relays of both kinds on either side.
. "$(dirname "$0")/lib.sh"
need turnserver
here=$(cd "$(dirname "$0")" && pwd)
peer="/usr/bin/python3 $here/aioice_peer.py"
$peer controlled </dev/null >"$WORK/try" 2>/dev/null
grep "^SKIP" "$WORK/try" && exit 77
start_outside --allowed-peer-ip=0.0.0.0-255.255.255.255
ours=$PORT
start_coturn_outside
for relay in "" "ours $ours" "coturn $PORT"; do
    # shellcheck disable=SC2086
    set -- $relay
    for role in controlling controlled; do
        answer=--answer
        [ $role = controlled ] && answer=
        if [ -z "$relay" ]; then
            ice_pair "aioice $role" "$answer" direct $peer $role
            continue
        fi
        ice_pair "aioice $role, our side relayed by $1" \
            "$answer --relay-only -s turn:$IP:$2 -u user -w pass" relayed $peer $role
        ice_pair "aioice $role, its side relayed by $1" "$answer --no-probe" relayed $peer $role udp "$2" "$IP"
    done
done
