#!/bin/bash
# thalweg stun, turn and nat against coturn, over every transport.
. "$(dirname "$0")/lib.sh"
need turnserver openssl
start_coturn --mobility
"$BUILD/thalweg" stun "127.0.0.1:$PORT" 2>/dev/null | grep -q "^127.0.0.1:" || fail "thalweg stun"
"$BUILD/thalweg" stun --ca "$WORK/coturn.pem" "stuns:127.0.0.1:$TLS_PORT" 2>/dev/null | grep -q "^127.0.0.1:" ||
    fail "thalweg stun over TLS"
echo "ok: thalweg stun"
for uri in "turn:127.0.0.1:$PORT" "turn:127.0.0.1:$PORT?transport=tcp" "turns:127.0.0.1:$TLS_PORT" \
    "turns:127.0.0.1:$TLS_PORT?transport=udp"; do
    "$BUILD/thalweg" turn -u user -w pass --seconds 1 --ca "$WORK/coturn.pem" "$uri" || fail "thalweg turn $uri"
    echo "ok: thalweg turn $uri"
done
for uri in "turn:127.0.0.1:$PORT?transport=tcp" "turns:127.0.0.1:$TLS_PORT"; do
    "$BUILD/thalweg" turn --tcp-relay -u user -w pass --seconds 1 --ca "$WORK/coturn.pem" "$uri" ||
        fail "thalweg turn --tcp-relay $uri"
    echo "ok: thalweg turn --tcp-relay $uri"
done
"$BUILD/thalweg" turn --mobility --no-throughput -u user -w pass "127.0.0.1:$PORT" >"$WORK/moved" || { cat "$WORK/moved"; fail "thalweg turn --mobility"; }
grep -q "moved to another port" "$WORK/moved" && [ "$(grep -c "20 of 20 answered" "$WORK/moved")" = 2 ] || { cat "$WORK/moved"; fail "thalweg turn --mobility"; }
echo "ok: thalweg turn --mobility"
"$BUILD/thalweg" turn --json -u user -w pass --no-throughput "127.0.0.1:$PORT" >"$WORK/json" || fail "--json"
python3 - "$WORK/json" <<'PY' || fail "the JSON does not say what it should"
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
assert [e["event"] for e in events] == ["allocated", "allocated", "bound", "echo"], events
assert events[3]["answered"] == events[3]["sent"] == 20, events
PY
"$BUILD/thalweg" turn -u user -w wrong "127.0.0.1:$PORT" 2>"$WORK/err" && fail "a wrong password worked"
grep -q "(401 Unauthenticated)" "$WORK/err" || { cat "$WORK/err"; fail "the error does not say 401"; }
echo "ok: a wrong password is called one"
"$BUILD/thalweg" turn -u user -w pass "turns:127.0.0.1:$TLS_PORT" 2>"$WORK/err" && fail "a certificate of nobody's was taken"
grep -qi "not trusted" "$WORK/err" || { cat "$WORK/err"; fail "the error does not say why"; }
echo "ok: a certificate of nobody's is refused"
# coturn answers RFC 5780 with two addresses; newer ones want to be told.
extra=
turnserver -h 2>&1 | grep -q -- "--rfc5780$\|--rfc5780 " && extra=--rfc5780
NAT_PORT=$((20000 + ($$ + 5000) % 10000))
# shellcheck disable=SC2086
turnserver -n -L 127.0.0.1 -L 127.0.0.2 -p "$NAT_PORT" --no-tcp --no-tls --no-cli -z -S --pidfile "$WORK/pid2" \
    --log-file "$WORK/log2" -m 1 $extra >"$WORK/out2" 2>&1 &
PIDS="$PIDS $!"
wait_for 10 "$BUILD/thalweg" stun --timeout 200 "127.0.0.1:$NAT_PORT" || { cat "$WORK/out2"; fail "no answer from coturn"; }
"$BUILD/thalweg" nat --json "127.0.0.1:$NAT_PORT" >"$WORK/nat" || { cat "$WORK/nat"; fail "thalweg nat"; }
grep -q '"mapping":"none","filtering":"independent"' "$WORK/nat" || { cat "$WORK/nat"; fail "thalweg nat"; }
echo "ok: thalweg nat"
