#!/bin/bash
# coturn's own client programs against thalwegd, over every transport.
. "$(dirname "$0")/lib.sh"
need turnutils_uclient turnutils_stunclient turnutils_peer turnutils_natdiscovery
start_thalwegd -m 2 --mobility --static-auth-secret rotated --static-auth-secret current

turnutils_stunclient -p "$PORT" 127.0.0.1 >"$WORK/stun" 2>&1 || fail "stunclient exited with $?"
grep -q "UDP reflexive addr: 127.0.0.1:" "$WORK/stun" || { cat "$WORK/stun"; fail "no reflexive address"; }
echo "ok: turnutils_stunclient"

# run NAME program options: all packets must arrive. It runs beside the next ones: they mostly wait.
JOBS=
run() {
    (
        name=$1
        out=$(mktemp -p "$WORK")
        shift
        LD_PRELOAD="$TLS12" timeout 90 "$@" 127.0.0.1 >"$out" 2>&1 ||
            { tail -5 "$out"; fail "$name: uclient exited with $?"; }
        grep -q "Total lost packets 0 (0.0" "$out" || { tail -8 "$out"; fail "$name: packets lost"; }
        grep "tot_send_msgs=[1-9]" "$out" | tail -1 | grep -q "tot_recv_msgs=[1-9]" ||
            { tail -8 "$out"; fail "$name: nothing was sent"; }
        echo "ok: turnutils_uclient $name"
    ) &
    JOBS="$JOBS $!"
    # shellcheck disable=SC2086
    [ "$(echo $JOBS | wc -w)" -lt 6 ] || join
}

join() {
    for job in $JOBS; do
        wait "$job" || exit 1
    done
    JOBS=
}

uclient() {
    name=$1
    shift
    run "$name" turnutils_uclient -u user -w pass -p "$PORT" "$@"
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
uclient "TCP, client to client" -t -y -n 20 -m 3
uclient "TCP, Send indications, towards a peer" -t -s -e 127.0.0.1 -r 34801 -n 20 -m 2
# It reads one record a look, and takes what follows for lost: with time between messages it keeps up
# (against coturn's own server it is the same).
uclient "TLS, client to client" -t -S -y -z 200 -n 10 -m 3
uclient "DTLS, client to client" -S -y -n 20 -m 3
uclient "TCP relaying (RFC 6062)" -t -T -n 20 -m 3
uclient "TCP relaying over TLS" -t -S -T -n 20 -m 3
for round in 1 2 3; do # to the same worker and to another
    uclient "mobility, round $round" -M -y -n 5 -m 2
done
for secret in current rotated; do
    run "time-limited credentials, secret $secret" turnutils_uclient -u someone -W $secret -p "$PORT" \
        -y -n 5 -m 1
done
join
timeout 20 turnutils_uclient -u someone -W wrong -p "$PORT" -y -n 1 127.0.0.1 >"$WORK/out" 2>&1 &&
    grep -q "tot_recv_msgs=[1-9]" "$WORK/out" && fail "a wrong secret worked"
echo "ok: a wrong secret does not work"

# Behaviour discovery: two addresses, two ports.
start_server "$WORK/nat.log" -L 127.0.0.1 -L 127.0.0.2 -p $((PORT > 40000 ? PORT - 15000 : PORT + 15000)) --no-tcp --no-tls -S
turnutils_natdiscovery -m -f -p "$PORT" 127.0.0.1 >"$WORK/nat" 2>&1 || true
grep -q "NAT with Endpoint Independent Mapping" "$WORK/nat" && grep -q "NAT with Endpoint Independent Filtering" "$WORK/nat" ||
    { cat "$WORK/nat"; fail "natdiscovery does not see what there is"; }
echo "ok: turnutils_natdiscovery"
"$BUILD/thalweg" nat --json "127.0.0.1:$PORT" >"$WORK/nat" || { cat "$WORK/nat"; fail "thalweg nat"; }
grep -q '"mapping":"none","filtering":"independent"' "$WORK/nat" || { cat "$WORK/nat"; fail "thalweg nat"; }
echo "ok: thalweg nat"
