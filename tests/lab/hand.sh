#!/bin/bash
# Without a rendezvous: two tickets, carried by hand, between two home NATs 40 ms apart; and ssh over it.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
. "$HERE/labnet.sh"
T=$BUILD/thalweg
common="--no-port-mapping --by-hand --ice-server stun:203.0.114.1"

# ticket FILE KIND: the last such line in it.
ticket() {
    grep -o "thalweg-$2-[A-Za-z0-9_-]*" "$1" | tail -1
}

# meet WAIT connect-arguments...: a dials b by hand; a person needs so long for each way. $WORK/out: what came.
meet() {
    wait=$1
    shift
    rm -f "$WORK/in"
    mkfifo "$WORK/in"
    as a timeout $((60 + 2 * wait)) "$T" connect $common "$@" "$key_b" <"$WORK/in" >"$WORK/out" 2>"$WORK/connect" 9>&- &
    caller=$!
    exec 8>"$WORK/in"
    wait_for 8 grep -q "^thalweg-offer-" "$WORK/connect" || { cat "$WORK/connect"; fail "no offer"; }
    sleep "$wait"
    : >"$WORK/listen"
    ticket "$WORK/connect" offer >&7
    wait_for 8 grep -q "^thalweg-answer-" "$WORK/listen" || { cat "$WORK/listen" "$WORK/listen2"; fail "no answer"; }
    sleep "$wait"
    ticket "$WORK/listen" answer >&8
}

lab_up 10 I/AP/keep I/AP/keep
kill "$RELAY" # only its STUN is wanted
wait "$RELAY" 2>/dev/null
ip netns exec s "$BUILD/thalwegd" -L 203.0.114.1 --stun-only --no-auth $sandbox >"$WORK/thalwegd" 2>&1 9>&- &
RELAY=$!
wait_for 5 grep -q "ready\|listening" "$WORK/thalwegd" || { cat "$WORK/thalwegd"; fail "thalwegd"; }
key_a=$(as a "$T" id)
key_b=$(as b "$T" id)

mkfifo "$WORK/paste"
as b "$T" listen $common --echo --allow "$key_a" <"$WORK/paste" >>"$WORK/listen" 2>"$WORK/listen2" 9>&- &
listener=$!
exec 7>"$WORK/paste"
wait_for 5 grep -q "Paste" "$WORK/listen2" || { cat "$WORK/listen2"; fail "listen --by-hand"; }
echo "this is no ticket" >&7
wait_for 5 grep -q "no ticket" "$WORK/listen2" || { cat "$WORK/listen2"; fail "what is no ticket"; }
for wait in 0 45; do # longer than a NAT waits for an answer
    meet $wait --rungs stun
    echo "hello by hand" >&8
    exec 8>&-
    wait "$caller" || { cat "$WORK/connect" "$WORK/listen2"; fail "connect --by-hand, $wait s"; }
    grep -q "hello by hand" "$WORK/out" || { cat "$WORK/connect"; fail "no echo, $wait s"; }
done
# A ticket is good once.
used=$(ticket "$WORK/connect" offer)
echo "$used" >&7
wait_for 5 grep -q "answered before" "$WORK/listen2" || { cat "$WORK/listen2"; fail "a ticket is good twice"; }
kill "$listener"
wait "$listener" 2>/dev/null
exec 7>&-
lab_down
echo "ok: two tickets by hand, and 45 s for each way"

# ssh through "thalweg connect" as ProxyCommand.
SSHD=$(command -v sshd || echo /usr/sbin/sshd)
if [ ! -x "$SSHD" ]; then
    echo "SKIP: ssh: there is no sshd here"
    exit 0
fi
lab_up 10 I/AP/keep I/AP/random
address=$(as b "$T" id -s "$RENDEZVOUS")
ssh-keygen -q -t ed25519 -N "" -f "$WORK/host_key"
ssh-keygen -q -t ed25519 -N "" -f "$WORK/user_key"
cp "$WORK/user_key.pub" "$WORK/authorized"
mkdir -p /run/sshd 2>/dev/null
ip netns exec b "$SSHD" -D -e -p 2222 -h "$WORK/host_key" -o ListenAddress=127.0.0.1 -o StrictModes=no -o UsePAM=no \
    -o PidFile=none -o AuthorizedKeysFile="$WORK/authorized" -o PermitRootLogin=yes >"$WORK/sshd" 2>&1 9>&- &
sshd=$!
as b "$T" listen --no-port-mapping -s "$RENDEZVOUS" --forward 127.0.0.1:2222 --allow "$key_a" >"$WORK/listen" 2>&1 9>&- &
listener=$!
wait_for 5 grep -q "online" "$WORK/listen" || sleep 1
head -c 3000000 /dev/urandom >"$WORK/file"
SSH="ssh -i $WORK/user_key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR"
as a timeout 40 $SSH -o ProxyCommand="$T connect --no-port-mapping $address" "$(id -un)@peer" "cat >$WORK/copy && echo done" \
    <"$WORK/file" >"$WORK/out" 2>"$WORK/ssh" || { cat "$WORK/ssh" "$WORK/sshd" "$WORK/listen"; fail "ssh"; }
grep -q done "$WORK/out" || fail "ssh's output"
cmp "$WORK/file" "$WORK/copy" || fail "what ssh carried"
kill "$listener" "$sshd"
wait "$listener" "$sshd" 2>/dev/null
lab_down
echo "ok: ssh with thalweg as its ProxyCommand"
