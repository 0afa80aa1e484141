#!/bin/bash
# WebRTC stacks connected through our ICE agents: libdatachannel and Google's WebRTC from npm, and
# Chromium; directly, over TCP where they can, and with our side relayed by our server and by coturn.
. "$(dirname "$0")/lib.sh"
need turnserver python3
here=$(cd "$(dirname "$0")" && pwd)
start_outside --allowed-peer-ip=0.0.0.0-255.255.255.255
ours=$PORT
start_coturn_outside
WEB=$((10000 + $$ % 10000))
{
    echo '<!doctype html><script>'
    cat "$here/ice_webrtc.js"
    echo "all(RTCPeerConnection, RTCPeerConnection, '', decodeURIComponent(location.hash.slice(1)).split(','),"
    echo "    line => fetch('/say/' + encodeURIComponent(line + ' (Chromium, Chromium)')));"
    echo '</script>'
} >"$WORK/page.html"
python3 "$here/ice_webrtc.py" "$BUILD/tests/icebridge" "$WEB" "$WORK/page.html" >>"$WORK/said" 2>"$WORK/err" &
PIDS="$PIDS $!"
wait_for 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/$WEB" || fail "no web server"
skipped=

cache="$BUILD/npm"
# Under load libdatachannel now and then closes its own connection as soon as it has the answer (its state is
# "closed" before the first candidate of ours is given to it): that is no verdict, and is tried again.
with_node() { # first second cases...
    for _ in 1 2 3 4 5; do
        NODE_PATH="$cache/node_modules" timeout 100 node "$here/ice_webrtc.js" "$1" "$2" "http://127.0.0.1:$WEB" \
            "${@:3}" >"$WORK/out" 2>&1
        cat "$WORK/out"
        grep -q "without ICE transport" "$WORK/out" || break
    done
    grep -q "^all done" "$WORK/out" || { cat "$WORK/err"; fail "$1 and $2"; }
}
if command -v npm >/dev/null && { [ -d "$cache/node_modules/node-datachannel" ] && [ -d "$cache/node_modules/@roamhq/wrtc" ] ||
    timeout 120 npm install --prefix "$cache" --no-audit --no-fund @roamhq/wrtc node-datachannel >"$WORK/npm" 2>&1; }; then
    with_node datachannel datachannel udp "udp $IP $ours" "udp $IP $PORT"
    with_node wrtc datachannel udp "theirs $IP $ours" "theirs $IP $PORT"
    with_node wrtc wrtc udp tcp "udp $IP $ours" "udp $IP $PORT"
else
    skipped="npm could not install the packages: $(tail -1 "$WORK/npm" 2>/dev/null)"
fi
browser() { # cases [flags]: prints what the page says
    cases=$1
    shift
    : >"$WORK/said"
    chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
        --disable-background-networking --user-data-dir="$WORK/profile" "$@" \
        "http://127.0.0.1:$WEB/#$cases" >"$WORK/chromium" 2>&1 &
    browser=$!
    PIDS="$PIDS $browser"
    wait_for 90 grep -qE "^(all done|FAILED)" "$WORK/said"
    cat "$WORK/said"
    grep -q "^all done" "$WORK/said" || { tail -n 5 "$WORK/err"; tail -n 5 "$WORK/chromium"; fail "chromium"; }
    kill "$browser"
    wait "$browser" 2>/dev/null
}
if command -v chromium >/dev/null; then
    # It hides its addresses behind names of mDNS, so its checks are the first we see of it. A relay would
    # not let them in: there it has to tell its addresses, as it does through a STUN server.
    browser udp,tcp
    browser "udp%20$IP%20$ours,udp%20$IP%20$PORT,theirs%20$IP%20$ours" --disable-features=WebRtcHideLocalIpsWithMdns
else
    skipped="$skipped; chromium is not installed"
fi
[ -z "$skipped" ] || { echo "SKIP: $skipped"; exit 77; }
