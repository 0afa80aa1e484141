#!/bin/bash
# thalwegd's command line and configuration file: what is taken, and how what is not is refused.
. "$(dirname "$0")/../interop/lib.sh"
D="$BUILD/thalwegd"

refused() { # text that must be said, options...
    text=$1
    shift
    timeout 5 "$D" "$@" >"$WORK/out" 2>&1
    got=$?
    [ $got = 1 ] || { cat "$WORK/out"; fail "$*: exit status $got"; }
    grep -qF -- "$text" "$WORK/out" || { cat "$WORK/out"; fail "$*: does not say \"$text\""; }
    echo "ok: refused: $*"
}
refused "there are no users" -L 127.0.0.1
refused "contradict" -L 127.0.0.1 -u a:b --no-auth
refused "unknown option --frobnicate" --frobnicate
refused "unknown option -Y" -Y
refused "not an option" extra
refused "listening-port must be a number from 0 to 65535, not \"x\"" -p x
refused "listening-port must be a number" -p 65536
refused "listening-port needs a value" -p
refused "\"10.0.0\" is not an IP address" -u a:b -L 10.0.0
refused "NAME:PASSWORD" -u alice
refused "32 hex digits" -u alice:0x1234
refused "given twice" -L 127.0.0.1 -u a:b -u a:c
refused "is not an address, a prefix or a range" -L 127.0.0.1 -u a:b --allowed-peer-ip 10.0.0.0/33
refused "fits no relay address" -L 127.0.0.1 -u a:b -X 192.0.2.1/10.9.9.9
refused "cannot listen on udp" -L 192.0.2.77 -u a:b
refused "--min-port is above --max-port" -L 127.0.0.1 -u a:b --min-port 5 --max-port 4
refused "leave nothing to speak" -L 127.0.0.1 -u a:b --no-udp --no-tcp --no-tls --no-dtls
refused "no-udp-relay and --no-tcp-relay leave nothing" -L 127.0.0.1 -u a:b --no-udp-relay --no-tcp-relay
refused "secure-stun is not supported: Binding requests are answered" -L 127.0.0.1 -u a:b --secure-stun
refused "redis-userdb is not supported" -L 127.0.0.1 -N "ip=127.0.0.1"
refused "go together" -L 127.0.0.1 -u a:b --cert /nowhere
refused "cannot open /nowhere" -L 127.0.0.1 -u a:b --cert /nowhere --pkey /nowhere
refused "needs a --static-auth-secret" -L 127.0.0.1 --use-auth-secret
refused "--userdb" -L 127.0.0.1 -b "$WORK/nodb"
refused "No such file" -c "$WORK/none.conf"
refused "takes no value" --verbose=maybe
refused "stale-nonce must be a number from 0" --stale-nonce=-1

printf '# a comment\n\nlistening-ip = 127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port 0\nuser=user:pass\nrealm=file\nfrob=1\n' \
    >"$WORK/conf"
refused "$WORK/conf:8: unknown option \"frob\"" -c "$WORK/conf"
sed -i 's/^frob=1/relay-threads=many/' "$WORK/conf"
refused "$WORK/conf:8: relay-threads must be a number" -c "$WORK/conf"

sed -i 's/^relay-threads=many/allow-loopback-peers/' "$WORK/conf"
"$D" -c "$WORK/conf" --realm line --pidfile "$WORK/pid" -l "$WORK/thalwegd.log" -v -m 1 &
PIDS=$!
for _ in $(seq 100); do
    PORT=$(sed -n 's/.*listening on udp 127.0.0.1:\([0-9]*\).*/\1/p' "$WORK/thalwegd.log" 2>/dev/null)
    [ -n "$PORT" ] && break
    sleep 0.05
done
[ -n "$PORT" ] || fail "it did not start from the file"
[ "$(cat "$WORK/pid")" = "$PIDS" ] || fail "the pid file is wrong"
THALWEG_PASSWORD=pass "$BUILD/thalweg" turn -u user --no-throughput "127.0.0.1:$PORT" >/dev/null ||
    fail "turn, with the password from the environment"
refused "cannot listen on udp 127.0.0.1:$PORT: the address is in use" -L 127.0.0.1 -p "$PORT" -u a:b -m 2
refused "cannot listen on tcp 127.0.0.1:$PORT: the address is in use" -L 127.0.0.1 -p "$PORT" -u a:b -m 2 --no-udp --no-dtls
kill -TERM "$PIDS"
wait "$PIDS" || fail "it ended with $?"
PIDS=
[ ! -e "$WORK/pid" ] || fail "the pid file was left behind"
grep -q "debug allocation of 127.0.0.1" "$WORK/thalwegd.log" || fail "-v does not log allocations"
grep -q "2 allocations made" "$WORK/thalwegd.log" || fail "no counters in the log"
echo "ok: file, pid file, log file, verbose"

"$D" --help | awk 'length > 80 { exit 1 }' || fail "--help has lines over 80 characters"
"$D" --help | grep -q -- "-L, --listening-ip IP" || fail "--help"
"$BUILD/thalweg" --help | grep -q "  turn " || fail "thalweg --help"
for wrong in "" "frob" "stun" "stun a b" "stun --frob x" "turn --pings 0 x" "turn -u a x" "stun http://x" \
    "stun turn:x" "turn --tcp-relay 127.0.0.1" "turn --mobility turns:127.0.0.1" "nat turn:x" "nat stuns:127.0.0.1" "turn --peer 1.2.3.4 x" "stun --family 5 x"; do
    # shellcheck disable=SC2086
    "$BUILD/thalweg" $wrong >/dev/null 2>"$WORK/err"
    [ $? = 2 ] || fail "thalweg $wrong: not exit status 2"
    [ -s "$WORK/err" ] || fail "thalweg $wrong: no word about why"
done
echo "ok: thalweg's usage errors"
