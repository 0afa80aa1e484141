#!/bin/bash
# A machine of IPv6 only behind a translator (tayga), and a peer behind a NAT: the prefix is found by DNS (RFC 7050)
# and in router advertisements (RFC 8781), and servers and peers of IPv4 are reached through it.
set -u
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
. "$HERE/translator.sh"
need_nft
need tayga python3
[ -c /dev/net/tun ] || { echo "SKIP: there is no /dev/net/tun here"; exit 77; }
echo 1 >/proc/sys/net/ipv4/ip_forward

for n in relay r natb a b; do host $n; done
link relay 11.0.1.2 "" 11.0.1.1
link r 11.0.2.2 "" 11.0.2.1
link natb 11.0.3.2 "" 11.0.3.1
link b 192.168.2.5 natb 192.168.2.1
ip link add v6a type veth peer name v6b
ip link set v6a netns a
ip link set v6b netns r
ip -n a addr add 2001:db8:6::5/64 dev v6a nodad
ip -n a link set v6a up
ip -n r addr add 2001:db8:6::1/64 dev v6b nodad
ip -n r link set v6b up
ip -n a route add default via 2001:db8:6::1
masquerade natb 192.168.2.0/24
translator r
relay_at relay 11.0.1.2
wait_for 5 ip netns exec a python3 -c 'import socket; socket.create_connection(("2001:db8:64::b00:102", 3478), 1)' ||
    { cat "$WORK/tayga.log"; fail "the translator does not work"; }

connect() {
    pair 40 a "$BUILD/thalweg ice --trickle --explain --pings 80 -s stun:11.0.1.2 -s turn:11.0.1.2 -u user -w pass" \
        b "$BUILD/thalweg ice --trickle --answer --echo -s stun:11.0.1.2" ||
        { cat "$WORK/a" "$WORK/b"; fail "$1"; }
    got=$(grep '^path: ' "$WORK/a" | tail -1)
    echo "$got" | grep -q "^path: direct, \[2001:db8:6::5\].* to 11.0.3.2:" || { cat "$WORK/a" "$WORK/b"; fail "$1: $got"; }
    grep -q "relays for us" "$WORK/a" || { cat "$WORK/a"; fail "$1: no relay"; }
    echo "ok: $1: $(echo "$got" | cut -d' ' -f2-)"
}

# The resolver of such a network (RFC 6147) translates the name that has no IPv6 address.
echo "nameserver 2001:db8:6::1" >"$WORK/resolv.conf"
mount --bind "$WORK/resolv.conf" "$(readlink -f /etc/resolv.conf)" || fail "mount"
ip netns exec r python3 - <<'PY' &
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("2001:db8:6::1", 53))
while True:
    q, who = s.recvfrom(4096)
    end = q.index(b"\0", 12) + 5
    kind = struct.unpack("!H", q[end - 4:end - 2])[0]
    hit = kind == 28 and q[12:end - 4].lower() == b"\x08ipv4only\x04arpa\0"
    a = b"\xc0\x0c" + struct.pack("!HHIH", 28, 1, 60, 16) + socket.inet_pton(socket.AF_INET6, "2001:db8:64::c000:aa")
    s.sendto(q[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, int(hit), 0, 0) + q[12:end] + (a if hit else b""), who)
PY
DNS=$!
PIDS="$PIDS $DNS"
bound r "[2001:db8:6::1]:53"
connect "found by DNS"
kill $DNS

# No resolver: a router says it, every second.
in_ns a sh -c 'echo 1 >/proc/sys/net/ipv6/conf/v6a/accept_ra'
advertise r v6b
connect "found in a router advertisement"
