#!/bin/bash
# Floods and faults on real sockets: spoofed hellos leave no memory behind, connections are limited per
# source, descriptors that run out come back, system calls that fail cost packets and nothing more.
. "$(dirname "$0")/../interop/lib.sh"
T="$BUILD/thalweg"
rss() { awk '/^VmRSS/ { print $2 }' /proc/"$SERVER"/status; }
turn() { timeout 30 "$T" turn --insecure --no-throughput -u user -w pass "$@" >"$WORK/turn" 2>&1; }
asan() { nm "$BUILD/thalwegd" | grep -q __asan_init; }

start_thalwegd -m 1 -r r
for kind in dtls allocate; do
    /usr/bin/python3 "$(dirname "$0")/flood.py" "$PORT" 1000 $kind >/dev/null # what is touched once is touched
    before=$(rss)
    /usr/bin/python3 "$(dirname "$0")/flood.py" "$PORT" 10000 $kind || fail "$kind: more came back than went there"
    after=$(rss)
    echo "$kind: resident memory $before KiB before, $after KiB after"
    asan || [ $((after - before)) -lt 1024 ] || fail "$kind: the flood leaves $((after - before)) KiB behind"
done
turn --pings 5 "127.0.0.1:$PORT" || { cat "$WORK/turn"; fail "no service after the floods"; }
turn --pings 5 "turns:127.0.0.1:$PORT?transport=udp" || { cat "$WORK/turn"; fail "no DTLS after the floods"; }
echo "ok: floods"

# A DTLS client that died and starts anew on the same port is not mistaken for who it was.
for round in 1 2 3; do
    sleep 3 | timeout -s KILL 1 openssl s_client -dtls1_2 -bind 127.0.0.1:$((PORT % 10000 + 10000)) -connect "127.0.0.1:$PORT" \
        >"$WORK/dtls" 2>&1
    grep -q "Cipher is ECDHE" "$WORK/dtls" || { cat "$WORK/dtls"; fail "no DTLS in round $round on one port"; }
done
echo "ok: a DTLS client starts anew"

# Connections that say nothing are limited per source, and go after a while.
start_thalwegd -m 1 --max-connections 20
for _ in $(seq 40); do
    exec {fd}<>"/dev/tcp/127.0.0.1/$PORT"
    FDS="${FDS:-} $fd"
done
timeout 10 "$T" turn --no-throughput -u user -w pass "turn:127.0.0.1:$PORT?transport=tcp" >"$WORK/turn" 2>&1 && fail "a source has more connections than it may"
turn --pings 3 "127.0.0.1:$PORT" || { cat "$WORK/turn"; fail "UDP suffers from TCP"; }
for fd in $FDS; do exec {fd}>&-; done
wait_for 5 "$T" turn --no-throughput --pings 3 -u user -w pass "turn:127.0.0.1:$PORT?transport=tcp" || fail "connections that closed still count"
# Slow hellos: a handshake that does not go on is over in ten seconds.
for _ in $(seq 15); do
    exec {fd}<>"/dev/tcp/127.0.0.1/$PORT"
    printf '\026\003\001' >&"$fd"
done
sleep 11
turn --pings 3 "turns:127.0.0.1:$PORT" || { cat "$WORK/turn"; fail "half-open handshakes stay"; }
echo "ok: connections are limited per source"

# Out of descriptors: refused, and fine again afterwards.
(ulimit -n 60 && exec "$BUILD/thalwegd" -L 127.0.0.1 -E 127.0.0.1 -p 0 -u user:pass -r realm --allow-loopback-peers --no-sandbox -m 1 >"$WORK/few" 2>&1) &
SERVER=$!
PIDS="$PIDS $SERVER"
wait_for 5 grep -q "listening on tcp" "$WORK/few" || { cat "$WORK/few"; fail "no start with 60 files"; }
PORT=$(sed -n 's/.*listening on udp 127.0.0.1:\([0-9]*\).*/\1/p' "$WORK/few" | head -1)
FDS=
for _ in $(seq 80); do
    exec {fd}<>"/dev/tcp/127.0.0.1/$PORT" 2>/dev/null || break
    FDS="$FDS $fd"
done
turn --pings 1 "127.0.0.1:$PORT" && fail "an allocation without a file"
grep -q "(508 " "$WORK/turn" || { cat "$WORK/turn"; fail "not 508 without files"; }
cpu=$(awk '{ print $14 + $15 }' /proc/"$SERVER"/stat)
sleep 1
[ $(($(awk '{ print $14 + $15 }' /proc/"$SERVER"/stat) - cpu)) -lt 50 ] || fail "it spins when it is out of files"
for fd in $FDS; do exec {fd}>&-; done
wait_for 5 "$T" turn --no-throughput --pings 3 -u user -w pass "127.0.0.1:$PORT" || fail "it does not recover from being out of files"
echo "ok: out of files"

# System calls that fail now and then.
if ! asan; then
    for faults in "sendmmsg=ENOBUFS:9" "recvmmsg=ECONNREFUSED:5" "accept4=EMFILE:7" "socket=EMFILE:5"; do
        export FAULTS="$faults"
        LD_PRELOAD="$FAULTS_SO" start_thalwegd -m 2
        for uri in "127.0.0.1:$PORT" "turn:127.0.0.1:$PORT?transport=tcp" "turns:127.0.0.1:$PORT?transport=udp"; do
            good=0
            for _ in 1 2 3; do
                turn --pings 20 "$uri" && good=$((good + 1))
            done
            kill -0 "$SERVER" || fail "$faults: it died"
            [ $good -ge 1 ] || { cat "$WORK/turn"; fail "$faults: $uri never worked"; }
            echo "$faults: $uri worked $good times of 3"
        done
    done
    unset FAULTS
    echo "ok: failing system calls"
fi

# Caps hold for TCP relaying too: two seconds of 100,000 bytes, and one in advance.
start_thalwegd -m 2 --max-bps 100000
timeout 40 "$T" turn --tcp-relay --pings 3 --seconds 3 --json -u user -w pass "turn:127.0.0.1:$PORT?transport=tcp" >"$WORK/turn" || { cat "$WORK/turn"; fail "TCP relaying with a cap"; }
python3 - "$WORK/turn" <<'PY' || { cat "$WORK/turn"; fail "the cap does not hold for TCP relaying"; }
import json, sys
rate = [json.loads(line) for line in open(sys.argv[1])][-1]
print(f"capped at 0.8 Mbit/s, measured {rate['mbit_per_s']}")
assert 0.3 < rate["mbit_per_s"] < 2.0, rate
PY
echo "ok: a bandwidth cap on TCP relaying"

# A peer that is not there: the kernel's refusal comes back to the client as ICMP.
start_thalwegd -m 1
turn --pings 3 --peer 127.0.0.1:9 "127.0.0.1:$PORT" && fail "an echo from a closed port"
grep -q "ICMP type 3 code 3" "$WORK/turn" || { cat "$WORK/turn"; fail "no ICMP from a closed port"; }
echo "ok: ECONNREFUSED becomes ICMP"
