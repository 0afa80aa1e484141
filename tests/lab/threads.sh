#!/bin/bash
# Several clients at once on several workers, and several threads of an application on the library; built with TSan this finds races.
. "$(dirname "$0")/../interop/lib.sh"
start_thalwegd -m 4
for i in 1 2 3 4 5 6; do
    "$BUILD/thalweg" turn -u user -w pass --seconds 1 --size $((200 * i)) "127.0.0.1:$PORT" \
        >"$WORK/client$i" 2>&1 &
    clients="${clients:-} $!"
done
for c in $clients; do
    wait "$c" || { cat "$WORK"/client*; cat "$WORK/thalwegd.log"; fail "a client"; }
done
# A data connection of TCP relaying may arrive at another worker than its allocation; whatever order the
# answer, the peer's socket and the first bytes come in, nothing is lost.
for round in $(seq 40); do
    timeout 20 "$BUILD/thalweg" turn --insecure --tcp-relay --no-throughput --pings 20 -u user -w pass \
        "turn$([ $((round % 4)) = 0 ] && echo s):127.0.0.1:$PORT?transport=tcp" >"$WORK/tcp" 2>&1 ||
        { cat "$WORK/tcp"; fail "TCP relaying, round $round"; }
done
echo "ok: TCP relaying across workers"
kill -TERM $PIDS
wait $PIDS || { cat "$WORK/thalwegd.log"; fail "thalwegd ended with $?"; }
PIDS=
grep -q "92 allocations made" "$WORK/thalwegd.log" || fail "allocations are missing"
grep -q "92 allocations ended" "$WORK/thalwegd.log" || fail "an allocation was not given back"
cat "$WORK"/client* | grep throughput

start_thalwegd -m 2 --rendezvous-open
wait_for 5 grep -q "rendezvous at" "$WORK/thalwegd.log" || fail "no rendezvous"
timeout 120 "$BUILD/tests/node_threads" "$(sed -n 's/.*rendezvous at \([^ ]*\).*/\1/p' "$WORK/thalwegd.log" | head -1)" ||
    { cat "$WORK/thalwegd.log"; fail "many threads on a node"; }
