# What bench/moves.sh puts in place of our programs in tests/lab/moves.sh, which sources it: $STACK (wrtc or iroh) with itself. TURN and
# STUN are our server's.
ours=$(declare -f serve lab_down)
eval "${ours//serve ()/serve_ours ()}"
eval "${ours//lab_down ()/lab_down_ours ()}"
SIGNAL=
serve() {
    serve_ours
    [ -z "$SIGNAL" ] || return 0
    ip netns exec s node "$HERE/../../bench/others_peer.js" "$MODULES" server >"$WORK/signal" 2>&1 8>&- 9>&- &
    SIGNAL=$!
    wait_for 5 grep -q ready "$WORK/signal" || { cat "$WORK/signal"; fail "signalling"; }
}
lab_down() {
    kill "$SIGNAL" 2>/dev/null
    wait "$SIGNAL" 2>/dev/null
    SIGNAL=
    lab_down_ours
}
listens() { exec ip netns exec b node "$HERE/../../bench/others_flow.js" "$MODULES" "$STACK" listen 203.0.114.1; }
connects() {
    exec ip netns exec a env PEER=198.51.151.1 FLOW_LOG="$WORK/a" FLOW_PATIENCE=20 "$@" \
        node "$HERE/../../bench/others_flow.js" "$MODULES" "$STACK" dial 203.0.114.1
}
not_connected() { echo "$name: they do not connect"; }
rung() { echo relay; } # nobody knows
finish() {
    wait "$FLOW" && says="$(sed -n "s/^accident //p" "$WORK/flow") ms" || says="broke off"
    exec 8>&-
    printf '%-36s %6s\n' "$1" "$says"
    kill "$LISTENER" 2>/dev/null
    wait "$LISTENER" 2>/dev/null
    lab_down
}
