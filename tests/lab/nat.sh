#!/bin/bash
# Real kernels, real sockets, real NAT: a client behind an nftables masquerade, a relay and an echo
# server on an "Internet" of globally routable numbers, all in network namespaces made here. The
# relay runs with its default peer policy.
set -u
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
need_nft
echo 1 >/proc/sys/net/ipv4/ip_forward

for n in relay echo nat client; do host $n; done
link relay 11.0.1.2 "" 11.0.1.1
link echo 11.0.4.2 "" 11.0.4.1
link nat 11.0.2.2 "" 11.0.2.1
link client 192.168.1.2 nat 192.168.1.1
masquerade nat 192.168.1.0/24 random

ip -n relay addr add 11.0.1.3/24 dev "$(ip -n relay -o link show type veth | awk -F'[ :@]+' '{ print $2; exit }')"
sandbox=
nm "$BUILD/thalwegd" | grep -q __asan_init && sandbox=--no-sandbox
in_ns relay "$BUILD/thalwegd" -L 11.0.1.2 -L 11.0.1.3 -u user:pass -r realm -m 2 --mobility $sandbox >"$WORK/log" 2>&1 &
PIDS="$PIDS $!"
# Another that listens wherever it can: the addresses of its start stay, new ones are known to it.
in_ns relay "$BUILD/thalwegd" -p 4478 --tls-listening-port 0 -u user:pass -r realm -m 2 $sandbox >"$WORK/log2" 2>&1 &
PIDS="$PIDS $!"
in_ns echo python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("11.0.4.2", 7777))
while True:
    data, who = s.recvfrom(65536)
    s.sendto(data, who)' &
PIDS="$PIDS $!"
wait_for 10 grep -q "listening on udp 11.0.1.3" "$WORK/log" && wait_for 10 grep -q "listening on udp" "$WORK/log2" ||
    { cat "$WORK/log" "$WORK/log2"; fail "thalwegd did not start"; }
bound echo 11.0.4.2:7777

mapped=$(in_ns client "$BUILD/thalweg" stun 11.0.1.2 2>/dev/null)
case $mapped in
11.0.2.2:*) echo "ok: the NAT's outside address is seen: $mapped" ;;
*) cat "$WORK/log"; fail "stun said \"$mapped\", not the NAT's address" ;;
esac
in_ns client "$BUILD/thalweg" turn -u user -w pass --seconds 1 11.0.1.2 ||
    { cat "$WORK/log"; fail "two clients behind the NAT"; }
in_ns client "$BUILD/thalweg" turn -u user -w pass --seconds 1 --peer 11.0.4.2:7777 11.0.1.2 ||
    { cat "$WORK/log"; fail "towards an echo server"; }
in_ns client "$BUILD/thalweg" turn -u user -w pass --peer 192.168.1.2:9 11.0.1.2 2>"$WORK/err" &&
    fail "a private address was let through"
grep -q "(403 Forbidden)" "$WORK/err" || { cat "$WORK/err"; fail "no 403 for a private address"; }
echo "ok: a private address is refused"
in_ns client "$BUILD/thalweg" turn -u user -w pass --peer 11.0.4.2:9 11.0.1.2 >"$WORK/err" 2>&1 &&
    fail "a closed port answered"
grep -q "ICMP type 3 code 3 from the way to 11.0.4.2:9" "$WORK/err" ||
    { cat "$WORK/err"; fail "the ICMP error did not reach the client"; }
echo "ok: the ICMP error of a closed port reaches the client"

# Over every transport, with TCP relaying, and moving to another port of the NAT.
for uri in "turn:11.0.1.2?transport=tcp" turns:11.0.1.2 "turns:11.0.1.2?transport=udp"; do
    in_ns client "$BUILD/thalweg" turn --insecure -u user -w pass --no-throughput --peer 11.0.4.2:7777 "$uri" >"$WORK/err" 2>&1 ||
        { cat "$WORK/err" "$WORK/log"; fail "$uri"; }
    echo "ok: $uri"
done
in_ns client "$BUILD/thalweg" turn --tcp-relay -u user -w pass --seconds 1 "turn:11.0.1.2?transport=tcp" ||
    { cat "$WORK/log"; fail "TCP relaying"; }
in_ns client "$BUILD/thalweg" turn --mobility -u user -w pass --no-throughput --peer 11.0.4.2:7777 11.0.1.2 >"$WORK/err" 2>&1 ||
    { cat "$WORK/err" "$WORK/log"; fail "mobility"; }
grep -q "moved to another port" "$WORK/err" || { cat "$WORK/err"; fail "mobility"; }
echo "ok: TCP relaying and mobility"

# A client is killed, and the next one has its ports: what the server still has for them is ended.
in_ns echo bash -c 'echo 50000 50001 >/proc/sys/net/ipv4/ip_local_port_range'
ip netns exec echo "$BUILD/thalweg" turn -u user -w pass --no-throughput --pings 1000 11.0.1.2 >"$WORK/err" 2>&1 &
killed=$!
wait_for 5 grep -q "permission and channel" "$WORK/err" || { cat "$WORK/err"; fail "no traffic"; }
kill -KILL $killed
in_ns echo "$BUILD/thalweg" turn -u user -w pass --no-throughput 11.0.1.2 >"$WORK/err" 2>&1 ||
    { cat "$WORK/err" "$WORK/log"; fail "after a client that was killed"; }
echo "ok: what a killed client left is not in the way"

# What the NAT does: this one draws a port for each destination ...
nat() { in_ns client "$BUILD/thalweg" nat --json --timeout 600 11.0.1.2 >"$WORK/nat" || { cat "$WORK/nat"; fail "thalweg nat"; }; }
nat
grep -q '"mapping":"address-and-port","filtering":"address-and-port"' "$WORK/nat" || { cat "$WORK/nat"; fail "the NAT is told wrong"; }
# ... and without "random" it keeps the client's port, so that all see the same.
masquerade nat 192.168.1.0/24
nat
grep -q '"port_preserved":true,"mapping":"independent","filtering":"address-and-port"' "$WORK/nat" || { cat "$WORK/nat"; fail "the NAT is told wrong"; }
echo "ok: both NATs are told right"

# An address that the relay's host gets while it runs is no peer, from then on.
in_ns client "$BUILD/thalweg" turn -u user -w pass --no-throughput --pings 1 --peer 11.0.1.9:9 11.0.1.2 >"$WORK/err" 2>&1
grep -q "(403 Forbidden)" "$WORK/err" && { cat "$WORK/err"; fail "a foreign address is refused"; }
ip -n relay addr add 11.0.1.9/24 dev "$(ip -n relay -o link show type veth | awk -F'[ :@]+' '{ print $2; exit }')"
sleep 0.5
in_ns client "$BUILD/thalweg" turn -u user -w pass --no-throughput --pings 1 --peer 11.0.1.9:9 11.0.1.2 >"$WORK/err" 2>&1
grep -q "(403 Forbidden)" "$WORK/err" || { cat "$WORK/err" "$WORK/log"; fail "the relay's host's new address may be a peer"; }
in_ns client "$BUILD/thalweg" turn -u user -w pass --no-throughput --pings 1 --peer 11.0.1.9:9 11.0.1.2:4478 >"$WORK/err" 2>&1
grep -q "(403 Forbidden)" "$WORK/err" || { cat "$WORK/err" "$WORK/log2"; fail "the same, of a server that listens everywhere"; }
in_ns client "$BUILD/thalweg" turn -u user -w pass --no-throughput --peer 11.0.4.2:7777 11.0.1.2:4478 >"$WORK/err" 2>&1 ||
    { cat "$WORK/err" "$WORK/log2"; fail "it does not work any more"; }
echo "ok: a new address of the host is refused at once"
