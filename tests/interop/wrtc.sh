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
start_outside
NODE_PATH="$cache/node_modules" timeout 60 node "$here/webrtc.js" "turn:$IP:$PORT?transport=udp" \
    "turn:$IP:$TCP?transport=tcp" >"$WORK/out" 2>&1
cat "$WORK/out"
grep -q "^all done" "$WORK/out" || fail "wrtc"
