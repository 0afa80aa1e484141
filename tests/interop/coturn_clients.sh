#!/bin/bash
# coturn's own client programs against thalwegd.
. "$(dirname "$0")/lib.sh"
need turnutils_uclient turnutils_stunclient turnutils_peer
start_thalwegd -m 2

turnutils_stunclient -p "$PORT" 127.0.0.1 >"$WORK/stun" 2>&1 || fail "stunclient exited with $?"
grep -q "UDP reflexive addr: 127.0.0.1:" "$WORK/stun" || { cat "$WORK/stun"; fail "no reflexive address"; }
echo "ok: turnutils_stunclient"

# uclient NAME options: all packets must arrive.
uclient() {
    name=$1
    shift
    timeout 60 turnutils_uclient -u user -w pass -p "$PORT" "$@" 127.0.0.1 >"$WORK/out" 2>&1 ||
        { tail -5 "$WORK/out"; fail "$name: uclient exited with $?"; }
    grep -q "Total lost packets 0 (0.0" "$WORK/out" || { tail -8 "$WORK/out"; fail "$name: packets lost"; }
    grep "tot_send_msgs=[1-9]" "$WORK/out" | tail -1 | grep -q "tot_recv_msgs=[1-9]" ||
        { tail -8 "$WORK/out"; fail "$name: nothing was sent"; }
    echo "ok: turnutils_uclient $name"
}

turnutils_peer -L 127.0.0.1 -p 34801 >"$WORK/peer" 2>&1 &
PIDS="$PIDS $!"
uclient "client to client, channels" -y -n 20 -m 4
uclient "client to client, Send indications" -y -s -n 20 -m 2
uclient "towards a peer, channels" -e 127.0.0.1 -r 34801 -n 20 -m 3
uclient "towards a peer, Send indications" -e 127.0.0.1 -r 34801 -s -n 20 -m 2
uclient "IPv6 relayed addresses, client to client" -y -x -n 20 -m 2
for round in 1 2 3; do # it draws the order of its requests by lot
    uclient "dual allocation, client to client, round $round" -y -Z -n 5 -m 1
done
uclient "without reserved ports" -y -c -n 20 -m 2
