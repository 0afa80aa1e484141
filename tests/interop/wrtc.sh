#!/bin/bash
# Google's WebRTC, as the npm package @roamhq/wrtc, against thalwegd over UDP and TCP. It refuses the
# self-signed certificate, so TLS is the browser's to show.
. "$(dirname "$0")/lib.sh"
need node npm
here=$(cd "$(dirname "$0")" && pwd)
cache="$BUILD/npm"
[ -d "$cache/node_modules/@roamhq/wrtc" ] ||
    timeout 120 npm install --prefix "$cache" --no-audit --no-fund @roamhq/wrtc >"$WORK/npm" 2>&1 || {
    echo "SKIP: npm could not install @roamhq/wrtc: $(tail -1 "$WORK/npm")"
    exit 77
}
# Its own addresses are not loopback, and its packets come from there.
IP=$(ip -4 -o addr show scope global 2>/dev/null | awk '{ split($4, a, "/"); print a[1]; exit }')
[ -n "$IP" ] || { echo "SKIP: this machine has no address but loopback, which WebRTC does not use"; exit 77; }
start_server "$WORK/log" -L 127.0.0.1 -L "$IP" -E "$IP" -u user:pass -r realm --no-rfc5780 --tls-listening-port 0 -m 2
for _ in $(seq 100); do
    PORT=$(sed -n "s/.*listening on udp $IP:\([0-9]*\).*/\1/p" "$WORK/log" | head -1)
    [ -n "$PORT" ] && break
    sleep 0.05
done
TCP=$(sed -n "s/.*listening on tcp $IP:\([0-9]*\).*/\1/p" "$WORK/log" | head -1)
NODE_PATH="$cache/node_modules" timeout 60 node "$here/webrtc.js" "turn:$IP:$PORT?transport=udp" \
    "turn:$IP:$TCP?transport=tcp" >"$WORK/out" 2>&1
cat "$WORK/out"
grep -q "^all done" "$WORK/out" || fail "wrtc"
