#!/bin/bash
# How soon the first byte of a message is at the peer, in round trips of 40 ms from the call of dial: our endpoint, and
# libdatachannel, Google's WebRTC and iroh with themselves, through the same NATs by turns. All run already and are connected
# to their rendezvous; TURN and STUN are ours for all. iroh has neither its relays nor its discovery here, which are
# somebody's servers: it is given the callee's address, and asked only where that is public.
# usage: bench/others.sh [RUNS]; BUILD names the build directory. Needs node and npm.
HERE=$(dirname "$0")
BUILD=${BUILD:-$HERE/../build}
export BUILD
modules=$(cd "$BUILD" && pwd)/npm/node_modules
[ -d "$modules/@number0/iroh" ] && [ -d "$modules/node-datachannel" ] && [ -d "$modules/@roamhq/wrtc" ] ||
    timeout 120 npm install --prefix "$BUILD/npm" --no-audit --no-fund @roamhq/wrtc node-datachannel @number0/iroh >/dev/null || exit 1
. "$HERE/../tests/lab/namespaces.sh"
enter_lab "$@"
. "$HERE/../tests/interop/lib.sh"
. "$HERE/../tests/lab/labnet.sh"
RUNS=${1:-5}
SERVER=203.0.114.1

ours() {
    ip netns exec b "$BUILD/dialbench" listen "$RENDEZVOUS" >"$WORK/b" 2>&1 9>&- &
    listener=$!
    wait_for 5 grep -q online "$WORK/b" || { cat "$WORK/b"; fail "b"; }
    address=$(sed -n 's/^address [0-9.]* //p' "$WORK/b")
    timeout $((RUNS * 6 + 20)) ip netns exec a "$BUILD/dialbench" dial "$RENDEZVOUS" "$address" "$RUNS" >"$WORK/a" 2>&1 9>&-
    # Who was called has no numbers for the runs: early data comes first, and has.
    awk '$1 == "early" { now = $3 } $1 == "byte" { print "byte", $2, now }' "$WORK/b" >"$WORK/bytes"
}
others() {
    ip netns exec b env NODE_PATH= node "$HERE/others_peer.js" "$modules" "$1" listen $SERVER >"$WORK/b" 2>&1 9>&- &
    listener=$!
    wait_for 8 grep -q ready "$WORK/b" || { cat "$WORK/b"; fail "$1"; }
    PEER=$address_b ip netns exec a timeout $((RUNS * 5 + 20)) node "$HERE/others_peer.js" "$modules" "$1" dial $SERVER "$RUNS" >"$WORK/a" 2>&1 9>&-
    grep "^byte" "$WORK/b" >"$WORK/bytes"
}
printf '%-32s %-16s %s\n' networks program "first byte at the peer, round trips: median (lowest to highest, of $RUNS)"
while read -r left right; do
    lab_up 10 "$left" "$right"
    address_b=198.51.151.1
    ip netns exec s node "$HERE/others_peer.js" "$modules" server >"$WORK/signal" 2>&1 9>&- &
    signal=$!
    wait_for 5 grep -q ready "$WORK/signal" || { cat "$WORK/signal"; fail "signalling"; }
    for stack in ours datachannel wrtc iroh; do
        [ $stack = iroh ] && [ "$right" != - ] && continue
        if [ $stack = ours ]; then ours; else others $stack; fi
        kill "$listener" 2>/dev/null
        wait "$listener" 2>/dev/null
        awk '$1 == "dial" { at[$3] = $2; next } $3 in at { print ($2 - at[$3]) / 40 }' "$WORK/a" "$WORK/bytes" | sort -n |
            awk -v n="$left $right" -v s=$stack '{ t[NR] = $1 } END {
                if (NR) printf "%-32s %-16s %.2f (%.2f to %.2f, %d)\n", n, s, t[int((NR + 1) / 2)], t[1], t[NR], NR
                else printf "%-32s %-16s never\n", n, s }'
    done
    kill "$signal"
    wait "$signal" 2>/dev/null
    lab_down
done <<'PAIRS'
I/AP/keep -
I/AP/keep I/AP/keep
AP/AP/random I/AP/keep
AP/AP/random AP/AP/random
blocked I/AP/keep
PAIRS
