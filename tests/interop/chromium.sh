#!/bin/bash
# Chromium against thalwegd over UDP, TCP and TLS: a page with two relay-only peer connections.
. "$(dirname "$0")/lib.sh"
need chromium
here=$(cd "$(dirname "$0")" && pwd)
start_outside
{
    echo '<!doctype html><script>'
    cat "$here/webrtc.js"
    echo "all(RTCPeerConnection, ['turn:$IP:$PORT?transport=udp', 'turn:$IP:$TCP?transport=tcp', 'turns:$IP:$TCP?transport=tcp'],"
    echo "    line => fetch('/say/' + encodeURIComponent(line)));"
    echo '</script>'
} >"$WORK/page.html"
# The page tells how it goes by what it asks a web server for.
WEB=$((10000 + $$ % 10000))
python3 - "$WORK" "$WEB" >"$WORK/out" 2>"$WORK/err" <<'PY' &
import http.server, os, sys, urllib.parse
page = open(sys.argv[1] + "/page.html", "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        line = urllib.parse.unquote(self.path)
        if line.startswith("/say/"):
            os.write(1, (line[5:] + "\n").encode()) # in one piece: requests have a thread each
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page if self.path == "/" else b"")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
PY
PIDS="$PIDS $!"
wait_for 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/$WEB" || fail "no web server"
chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --ignore-certificate-errors \
    --no-first-run --disable-background-networking --user-data-dir="$WORK/profile" \
    "http://127.0.0.1:$WEB/" >"$WORK/chromium" 2>&1 &
PIDS="$PIDS $!"
wait_for 90 grep -qE "^(all done|FAILED)" "$WORK/out"
cat "$WORK/out"
grep -q "^all done" "$WORK/out" || { tail -n 5 "$WORK/chromium"; fail "chromium"; }
