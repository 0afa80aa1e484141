#!/bin/bash
# Two keys through real sockets and NATs of many kinds (labnet), by the rendezvous of a thalwegd between them: a file
# goes over and comes back. 10 ms each way to everybody, so a round trip between any two is 40 ms.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
. "$HERE/labnet.sh"
head -c 300000 /dev/urandom >"$WORK/file"

# listen_at_b options...: $listener, as soon as it can be dialled.
listen_at_b() {
    rm -f "$WORK/listen" # an old one says online, too
    ip netns exec b env XDG_CONFIG_HOME="$WORK/home-b" "$BUILD/thalweg" listen --echo --json -s "$server" \
        --no-port-mapping "$@" >"$WORK/listen" 2>&1 &
    listener=$!
    wait_for 5 grep -q '"online"' "$WORK/listen" || { cat "$WORK/listen" "$WORK/thalwegd"; fail "b does not come online"; }
}

# dial NAT-A NAT-B RUNGS: b listens, a dials; one of these rungs carries it in the end.
dial() {
    lab_up 10 "$1" "$2"
    server=$RENDEZVOUS
    address=$(as b "$BUILD/thalweg" id -s "$server")
    caller=$(as a "$BUILD/thalweg" id)
    listen_at_b --allow "$caller"
    as a timeout 30 "$BUILD/thalweg" connect --json --no-port-mapping "$address" <"$WORK/file" >"$WORK/back" 2>"$WORK/a" ||
        { cat "$WORK/a" "$WORK/listen" "$WORK/thalwegd"; fail "$1 and $2"; }
    cmp -s "$WORK/file" "$WORK/back" || fail "$1 and $2: what came back is not what was sent"
    as a timeout 30 "$BUILD/thalweg" ping --json --no-port-mapping -c 8 -i 500 "$address" >"$WORK/ping" 2>&1 ||
        { cat "$WORK/ping"; fail "$1 and $2: ping"; }
    rung=$(sed -n 's/.*"event":"ping","rung":"\([a-z]*\)".*/\1/p' "$WORK/ping" | tail -1)
    case ",$3," in *",$rung,"*) ;; *) cat "$WORK/ping"; fail "$1 and $2: by $rung, not by $3" ;; esac
    kill "$listener"
    wait "$listener" 2>/dev/null
    echo "ok: $1 and $2: connected after $(sed -n 's/.*"event":"connected".*"ms":\([0-9.]*\).*/\1/p' "$WORK/a") ms, $rung in the end"
    lab_down
}
dial - - udp
dial I/AP/keep - udp,stun
dial I/AP/keep I/AP/keep stun
dial AP/AP/seq I/AP/keep stun
dial AP/AP/random I/AP/keep stun,relay
dial AP/AP/random AP/AP/random relay
dial blocked I/AP/keep tcp,relay
dial blocked blocked tcp,relay

# Nobody home, and not let in.
lab_up 10 - -
server=$RENDEZVOUS
address=$(as b "$BUILD/thalweg" id -s "$server")
as a timeout 20 "$BUILD/thalweg" connect "$address" </dev/null 2>"$WORK/a"
[ $? = 3 ] && grep -q "nobody with that key" "$WORK/a" || { cat "$WORK/a"; fail "absent"; }
listen_at_b
as a timeout 20 "$BUILD/thalweg" connect "$address" </dev/null 2>"$WORK/a"
[ $? = 4 ] && grep -q "did not let this key in" "$WORK/a" || { cat "$WORK/a"; fail "refused"; }
as a "$BUILD/thalweg" id >"$WORK/home-b/thalweg/allow"
sleep 2.5
echo knock | as a timeout 20 "$BUILD/thalweg" connect "$address" 2>"$WORK/a" | grep -q knock || { cat "$WORK/a"; fail "the allow file is not followed"; }
echo knock | as a timeout 20 "$BUILD/thalweg" connect "${address%%#*}#aaaaaaaaaaaaaaaaaaaaaaaaaa" 2>"$WORK/a" | grep -q knock &&
    grep -q "opens TLS" "$WORK/a" || { cat "$WORK/a"; fail "another certificate is not gone on with, and said"; }
as a timeout 20 "$BUILD/thalweg" connect --strict-tls "${address%%#*}#aaaaaaaaaaaaaaaaaaaaaaaaaa" </dev/null 2>"$WORK/a"
[ $? = 5 ] && grep -q "another certificate" "$WORK/a" || { cat "$WORK/a"; fail "pin"; }
kill "$listener"
wait "$listener" 2>/dev/null

# A web server there, by a port here and by SOCKS.
mkdir "$WORK/web"
cp "$WORK/file" "$WORK/web/file"
ip netns exec b python3 -m http.server -d "$WORK/web" -b 127.0.0.1 8000 >/dev/null 2>&1 &
web=$!
wait_for 5 in_ns b curl -s -o /dev/null http://127.0.0.1:8000/
: >"$WORK/home-b/thalweg/allow"
rm -f "$WORK/listen"
ip netns exec b env XDG_CONFIG_HOME="$WORK/home-b" "$BUILD/thalweg" listen --forward 127.0.0.1:8000 --json -s "$server" \
    --allow-target 'localhost:*' --allow "$(as a "$BUILD/thalweg" id)" --no-port-mapping >"$WORK/listen" 2>&1 &
listener=$!
wait_for 5 grep -q '"online"' "$WORK/listen" || { cat "$WORK/listen"; fail "b does not come online"; }
for way in "8001 $address" "8002 $address:localhost:8000" "--socks 8003 $address"; do
    # shellcheck disable=SC2086
    ip netns exec a env XDG_CONFIG_HOME="$WORK/home-a" "$BUILD/thalweg" forward --no-port-mapping $way >"$WORK/forward" 2>&1 &
    forwards="${forwards:-} $!"
done
get() { timeout 20 ip netns exec a curl -s -o "$WORK/got" "$@" && cmp -s "$WORK/got" "$WORK/file"; }
wait_for 5 in_ns a curl -s -o /dev/null http://127.0.0.1:8001/
get http://127.0.0.1:8001/file || fail "forward"
get http://127.0.0.1:8002/file || fail "forward to a target"
get --socks5-hostname 127.0.0.1:8003 http://localhost:8000/file || fail "SOCKS"
get --socks5-hostname 127.0.0.1:8003 http://192.0.2.1:8000/file && fail "a target that is not allowed is reached"
# shellcheck disable=SC2086
kill $forwards "$listener" $web
# shellcheck disable=SC2086
wait $forwards "$listener" $web 2>/dev/null
lab_down

# b can be found at two servers, of which the first is alive for nobody: stopped, its connections stand.
lab_up 10 I/AP/keep I/AP/keep
ip netns exec p "$BUILD/thalwegd" -L 203.0.114.3 -m 1 --rendezvous-open $sandbox >"$WORK/second" 2>&1 &
second=$!
wait_for 5 grep -q "rendezvous at" "$WORK/second" || { cat "$WORK/second"; fail "a second server"; }
server=$RENDEZVOUS other=$(sed -n 's/.*rendezvous at \(203[^ ]*\).*/\1/p' "$WORK/second")
listen_at_b -s "$other" --allow "$(as a "$BUILD/thalweg" id)"
wait_for 5 eval '[ "$(grep -c online "$WORK/listen")" = 2 ]' || { cat "$WORK/listen"; fail "b is not at both servers"; }
address=$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$WORK/listen")
[ "$address" = "$(as b "$BUILD/thalweg" id -s "$server" -s "$other")" ] || fail "an address with two servers: $address"
kill -STOP "$RELAY"
as a timeout 15 "$BUILD/thalweg" connect --json --no-port-mapping "$address" <"$WORK/file" >"$WORK/back" 2>"$WORK/a" ||
    { cat "$WORK/a" "$WORK/listen" "$WORK/second"; fail "one of two servers is dead"; }
cmp -s "$WORK/file" "$WORK/back" || fail "one of two servers is dead: what came back is not what was sent"
kill -CONT "$RELAY"
kill "$listener" "$second"
wait "$listener" 2>/dev/null
lab_down
kill "$second" 2>/dev/null
wait "$second" 2>/dev/null
echo "ok: one of two servers is dead: $(sed -n 's/.*"event":"connected".*"ms":\([0-9]*\).*/\1/p' "$WORK/a") ms"
echo "ok: a web server, by a port and by SOCKS, but no target that is not named"
echo "ok: who is absent, not allowed, or behind another certificate"
