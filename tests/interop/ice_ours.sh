#!/bin/bash
# Our agents with each other over every transport to a relay of ours, over TCP, as strangers, lite, trickled; and
# what is said when it cannot work.
. "$(dirname "$0")/lib.sh"
need openssl
own_address
make_cert "$WORK/cert"
start_outside --allowed-peer-ip=0.0.0.0-255.255.255.255 --cert "$WORK/cert.pem" --pkey "$WORK/cert.key"
other="$BUILD/thalweg ice --no-port-mapping --answer --echo"
for uri in "turn:$IP:$PORT" "turn:$IP:$TCP?transport=tcp" "turns:$IP:$TCP?transport=tcp" "turns:$IP:$TCP?transport=udp"; do
    relay="--insecure --relay-only -s $uri -u user -w pass"
    # shellcheck disable=SC2086
    ice_pair "$uri on one side" "$relay" relayed $other
    # shellcheck disable=SC2086
    ice_pair "$uri on both" "$relay" relayed $other $relay
done
# shellcheck disable=SC2086
{
    ice_pair "TCP" "--no-udp" "direct over TCP" $other --tcp
    ice_pair "as strangers" "--rfc" direct $other
    ice_pair "trickled" "--trickle" direct $other --trickle
    ice_pair "towards a lite agent" "" direct $other --lite
    ice_pair "two components" "--components 2" direct $other --components 2
}
for uri in "turn:$IP:$PORT" "turns:$IP:$TCP?transport=tcp"; do
    # shellcheck disable=SC2086
    ice_pair "with a tape, $uri" "--tape $WORK/tape --insecure --relay-only -s $uri -u user -w pass" relayed $other
    "$BUILD/tests/icesim" replay "$WORK/tape" >"$WORK/replay" && grep -q "just as on the tape" "$WORK/replay" ||
        { tail -3 "$WORK/replay"; fail "the tape runs otherwise"; }
    secret="${IP//./\\.}|user| pass " # a dot is a dot: times are long numbers
    grep -qE "$secret" "$WORK/tape" && { grep -nE "$secret" "$WORK/tape" | head -3; fail "a secret is on the tape"; }
    echo "ok: the tape of it: $(tail -1 "$WORK/replay")"
done
printf 'a=ice-ufrag:abcd\na=ice-pwd:0123456789012345678901\n\n' |
    timeout 20 "$BUILD/thalweg" ice --relay-only --timeout 2 -s "turn:$IP:$PORT" -u user -w wrong >"$WORK/sdp" 2>"$WORK/ours" &&
    fail "a wrong password gets a path"
grep -q "401 Unauthenticated: the server does not accept the user name or password" "$WORK/ours" || { cat "$WORK/ours"; fail "why"; }
grep -q "nothing was heard" "$WORK/ours" && { cat "$WORK/ours"; fail "the server was heard"; }
printf 'hello\n\n' | timeout 20 "$BUILD/thalweg" ice --no-port-mapping >"$WORK/sdp" 2>"$WORK/ours"
[ $? = 2 ] && grep -q "no description of an ICE agent" "$WORK/ours" || { cat "$WORK/ours"; fail "not a description"; }
echo "ok: what cannot work is said"
