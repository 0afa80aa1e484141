#!/bin/bash
# thalweg stun and thalweg turn against coturn.
. "$(dirname "$0")/lib.sh"
need turnserver
PORT=$((20000 + $$ % 10000))
turnserver -n -L 127.0.0.1 -E 127.0.0.1 -p "$PORT" -u user:pass -r realm -a --allow-loopback-peers \
    --no-tcp --no-tls --no-cli --pidfile "$WORK/pid" --log-file "$WORK/log" -m 1 >"$WORK/out" 2>&1 &
PIDS="$PIDS $!"
for _ in $(seq 100); do
    "$BUILD/thalweg" stun --timeout 200 "127.0.0.1:$PORT" >"$WORK/stun" 2>/dev/null && break
    sleep 0.1
done
grep -q "^127.0.0.1:" "$WORK/stun" || { cat "$WORK/out"; fail "no answer from coturn"; }
echo "ok: thalweg stun"
"$BUILD/thalweg" turn -u user -w pass --seconds 1 "turn:127.0.0.1:$PORT" || fail "thalweg turn"
"$BUILD/thalweg" turn --json -u user -w pass --no-throughput "127.0.0.1:$PORT" >"$WORK/json" || fail "--json"
python3 - "$WORK/json" <<'PY' || fail "the JSON does not say what it should"
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
assert [e["event"] for e in events] == ["allocated", "allocated", "bound", "echo"], events
assert events[3]["answered"] == events[3]["sent"] == 20, events
PY
echo "ok: thalweg turn"
"$BUILD/thalweg" turn -u user -w wrong "127.0.0.1:$PORT" 2>"$WORK/err" && fail "a wrong password worked"
grep -q "401" "$WORK/err" || { cat "$WORK/err"; fail "the error does not say 401"; }
echo "ok: a wrong password is called one"
