#!/bin/bash
# What people do with it, between two home NATs 40 ms apart: files, invites, UDP, status, check; and the examples.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
. "$HERE/labnet.sh"
T=$BUILD/thalweg

# run_at NAME LOG command...: in the background, on that machine; $pid.
run_at() {
    at=$1 log=$2
    shift 2
    ip netns exec "$at" env XDG_CONFIG_HOME="$WORK/home-$at" "$@" >"$log" 2>&1 9>&- &
    pid=$!
    pids="${pids:-} $pid"
}
stop() {
    kill "$@" 2>/dev/null
    wait "$@" 2>/dev/null
}

lab_up 10 I/AP/keep I/AP/keep
server=$RENDEZVOUS
common="--no-port-mapping"
key_a=$(as a "$T" id)
address=$(as b "$T" id -s "$server")
mkdir -p "$WORK/src/tree/sub/void" "$WORK/dst" "$WORK/got"
head -c 12000000 /dev/urandom >"$WORK/src/big"
echo one >"$WORK/src/tree/one"
echo two >"$WORK/src/tree/sub/two"

# Files; every server dies in the middle, and they go on.
run_at b "$WORK/receive" "$T" receive $common --json -s "$server" --dir "$WORK/dst" --allow "$key_a"
receiver=$pid
wait_for 5 grep -q '"online"' "$WORK/receive" || { cat "$WORK/receive"; fail "receive does not come online"; }
run_at a "$WORK/send" timeout 60 "$T" send $common --json "$WORK/src/big" "$WORK/src/tree" "$address"
sender=$pid
wait_for 5 grep -q '"rung":"stun"' "$WORK/send" || { cat "$WORK/send"; fail "send finds no direct path"; }
wait_for 10 test -s "$WORK/dst/big.thalweg-part"
kill -9 "$RELAY"
[ -e "$WORK/dst/big" ] && fail "the file was there before the servers died: make it bigger"
wait "$sender" || { cat "$WORK/send" "$WORK/receive"; fail "send, without servers"; }
diff -r "$WORK/src" "$WORK/dst" || fail "what came is not what was sent"
grep -q '"event":"done","files":3,"failed":0' "$WORK/send" || { cat "$WORK/send"; fail "send's summary"; }
[ "$(grep -c '"event":"connected"' "$WORK/send")" = 1 ] || fail "it had to connect again"
stop "$receiver"
lab_down
echo "ok: files and folders, and all servers dead in the middle: $(sed -n 's/.*"event":"done".*"seconds":\([0-9.]*\).*/\1/p' "$WORK/send") s"

# The receiver dies in the middle; the next one goes on where it was.
lab_up 10 I/AP/keep I/AP/keep
server=$RENDEZVOUS
address=$(as b "$T" id -s "$server")
rm -r "$WORK/dst"
mkdir "$WORK/dst"
run_at b "$WORK/receive" "$T" receive $common --json -s "$server" --dir "$WORK/dst" --allow "$key_a"
wait_for 5 grep -q '"online"' "$WORK/receive" || { cat "$WORK/receive"; fail "receive does not come online"; }
receiver=$pid
run_at a "$WORK/send" timeout 10 "$T" send $common --json "$WORK/src/big" "$address"
sender=$pid
wait_for 10 test -s "$WORK/dst/big.thalweg-part"
sleep 0.3
kill -9 "$receiver"
stop "$sender"
run_at b "$WORK/receive" "$T" receive $common --once --json -s "$server" --dir "$WORK/dst" --allow "$key_a"
receiver=$pid
wait_for 5 grep -q '"online"' "$WORK/receive" || { cat "$WORK/receive"; fail "receive does not come online again"; }
as a timeout 30 "$T" send $common --json "$WORK/src/big" "$address" >"$WORK/send" 2>&1 || { cat "$WORK/send"; fail "send goes on"; }
cmp "$WORK/src/big" "$WORK/dst/big" || fail "what came in two parts"
moved=$(sed -n 's/.*"event":"done".*"moved":\([0-9]*\).*/\1/p' "$WORK/send")
[ "$moved" -lt 12000000 ] || fail "all of it was sent again"
wait "$receiver" || fail "receive --once"
as a timeout 10 "$T" send $common "$WORK/src/nothing" "$address" 2>"$WORK/send" && fail "sends what is not there"
grep -q "No such file" "$WORK/send" || { cat "$WORK/send"; fail "what is not there is said"; }
echo "ok: a receiver died in the middle: $moved of 12000000 bytes were sent again"

# By an invite: the sender is found by it only.
run_at a "$WORK/send" timeout 30 "$T" send $common --json -s "$server" --invite "$WORK/src/tree"
sender=$pid
wait_for 5 grep -q '"online"' "$WORK/send" || { cat "$WORK/send"; fail "send --invite does not come online"; }
invite=$(sed -n 's/.*"event":"invite","invite":"\([^"]*\)".*/\1/p' "$WORK/send")
as b timeout 10 "$T" connect $common "${invite%%+*}@${invite#*@}" </dev/null 2>"$WORK/log"
[ $? = 3 ] || { cat "$WORK/log"; fail "an unlisted sender is found by its key"; }
as b timeout 20 "$T" receive $common --dir "$WORK/got" "$invite" 2>"$WORK/log" || { cat "$WORK/log" "$WORK/send"; fail "receive INVITE"; }
wait "$sender" || { cat "$WORK/send"; fail "send --invite"; }
diff -r "$WORK/src/tree" "$WORK/got/tree" || fail "what came by the invite"
echo "ok: files by an invite"

# An invite lets in once, and for good; the list can be looked at.
invite=$(as b "$T" invite new -s "$server" --expires 1h friend 2>/dev/null)
run_at b "$WORK/listen" "$T" listen $common --echo --json -s "$server"
listener=$pid
wait_for 5 grep -q '"online"' "$WORK/listen" || { cat "$WORK/listen"; fail "listen does not come online"; }
for i in 1 2; do
    echo hello | as a timeout 10 "$T" connect $common "$invite" 2>"$WORK/log" | grep -q hello || { cat "$WORK/log"; fail "with an invite, time $i"; }
done
as b "$T" invite list | grep -q "0 left.*friend  (over)" || fail "the invite is not used up"
grep -q "^$key_a" "$WORK/home-b/thalweg/allow" || fail "who came with an invite is not remembered"
echo hello | as s timeout 10 "$T" connect $common "$invite" 2>"$WORK/log"
[ $? = 4 ] || { cat "$WORK/log"; fail "an invite for one lets two in"; }

# Early data, and what the processes are doing.
as a timeout 10 "$T" connect $common --early "knock knock" "$address" </dev/null 2>/dev/null
wait_for 2 grep -q '"event":"early".*"text":"knock knock"' "$WORK/listen" || { cat "$WORK/listen"; fail "early data"; }
run_at a "$WORK/forward" "$T" forward $common 9000 "$address"
forward=$pid
wait_for 5 grep -q "connected" "$WORK/forward" || { cat "$WORK/forward"; fail "forward"; }
sleep 0.5
in_ns a "$T" status --json >"$WORK/status"
grep -q '"verb":"forward".*"connected":true,"rung":"stun"' "$WORK/status" && grep -q '"verb":"listen".*"online":true' "$WORK/status" ||
    { cat "$WORK/status"; fail "status"; }
in_ns a "$T" status | grep -q "stun .* ms  192.168.1.5" || fail "status for people"
as a timeout 10 "$T" ping $common -c 3 -i 100 "$address" >"$WORK/log" 2>&1 || { cat "$WORK/log"; fail "ping"; }
stop "$forward" "$listener"
[ -z "$(ls "$XDG_RUNTIME_DIR/thalweg")" ] || fail "status sockets are left over"
echo "ok: invites, early data, status, ping"

# UDP: short datagrams and long ones, and a flow like a game's.
cat >"$WORK/echo.py" <<'END'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 7000))
while True:
    d, a = s.recvfrom(70000)
    s.sendto(d, a)
END
cat >"$WORK/udp.py" <<'END'
import os, socket, sys, time
ok = 0
sizes = (1, 100, 1000, 1096, 1097, 1200, 1472, 5000, 60000)
for size in sizes:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    data = os.urandom(size)
    s.sendto(data, ("127.0.0.1", 7001))
    try:
        ok += s.recv(70000) == data
    except OSError as e:
        print(size, e)
back = []
s.settimeout(0.5)
for i in range(60):
    t = time.monotonic()
    s.sendto(b"%06d" % i + bytes(74), ("127.0.0.1", 7001))
    try:
        while int(s.recv(2000)[:6]) != i:
            pass
        back.append((time.monotonic() - t) * 1000)
    except OSError:
        pass
    time.sleep(1 / 60)
back.sort()
print("%d of %d sizes, %d of 60 packets of a flow, median %.1f ms" % (ok, len(sizes), len(back), back[len(back) // 2]))
sys.exit(ok < len(sizes) or len(back) < 58)
END
run_at b "$WORK/log" python3 "$WORK/echo.py"
run_at b "$WORK/listen" "$T" listen $common --json -s "$server" --allow-target 127.0.0.1:7000 --allow-target '*'
wait_for 5 grep -q '"online"' "$WORK/listen" || { cat "$WORK/listen"; fail "listen does not come online"; }
run_at a "$WORK/forward" "$T" forward $common --udp 7001 "$address:127.0.0.1:7000"
wait_for 5 grep -q "connected" "$WORK/forward" || { cat "$WORK/forward"; fail "forward --udp"; }
udp=$(in_ns a timeout 60 python3 "$WORK/udp.py") || { echo "$udp"; cat "$WORK/forward"; fail "UDP"; }
# "*" is the open Internet, not what is behind the other side's NAT.
run_at a "$WORK/forward2" "$T" forward $common --socks 7002 "$address"
wait_for 5 grep -q "connected" "$WORK/forward2" || fail "forward --socks"
in_ns a timeout 10 curl -s --socks5-hostname 127.0.0.1:7002 http://localhost:7000/ && fail "SOCKS leads to the other side's own machine"
wait_for 3 grep -q "not on the open Internet" "$WORK/forward2" || { cat "$WORK/forward2"; fail "why SOCKS was refused"; }
# shellcheck disable=SC2086
stop $pids
echo "ok: UDP: $udp"

# What this network lets through.
as a timeout 20 "$T" check $common --json -s "$server" >"$WORK/check" 2>/dev/null || { cat "$WORK/check"; fail "check"; }
for want in '"event":"rendezvous".*"works":true' '"mapping":"independent","filtering":"address-and-port"' \
    '"event":"relay".*"transport":"udp","works":true' '"event":"relay".*"transport":"tcp","works":true' '"rung":"stun","works":true'; do
    grep -q "$want" "$WORK/check" || { cat "$WORK/check"; fail "check: $want"; }
done
as a timeout 20 "$T" check $common -s ws://203.0.114.9 >"$WORK/check" 2>/dev/null && fail "check without a server that answers"
grep -q "No rendezvous server answers" "$WORK/check" || { cat "$WORK/check"; fail "check's advice"; }

# The examples, on the shared library.
for example in echo_server echo_loop; do
    run_at b "$WORK/echo" "$BUILD/tests/$example" "$server"
    wait_for 10 grep -q "@" "$WORK/echo" || { cat "$WORK/echo"; fail "$example"; }
    in_ns a timeout 20 "$BUILD/tests/echo_client" "$(head -1 "$WORK/echo")" "hello, $example" >"$WORK/log" 2>&1 || { cat "$WORK/log"; fail "echo_client"; }
    grep -q "^hello, $example" "$WORK/log" || { cat "$WORK/log"; fail "$example echoes something else"; }
    stop "$pid"
done
lab_down
echo "ok: check, and the examples"
