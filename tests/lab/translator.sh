# A router between IPv6 and IPv4 (tayga). Sourced; needs namespaces.sh and lib.sh.

# translator NAME: there, whose default route is IPv4's and to whose IPv6 networks 2001:db8:6::/64 belongs, 2001:db8:64::/96 leads to
# IPv4.
translator() {
    masquerade "$1" 192.168.255.0/24
    in_ns "$1" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    cat >"$WORK/tayga.conf" <<CONF
tun-device nat64
ipv4-addr 192.168.255.1
prefix 2001:db8:64::/96
dynamic-pool 192.168.255.0/24
data-dir $WORK
CONF
    in_ns "$1" tayga -c "$WORK/tayga.conf" --mktun >/dev/null || fail "tayga --mktun"
    ip -n "$1" link set nat64 up
    ip -n "$1" route add 192.168.255.0/24 dev nat64
    ip -n "$1" route add 2001:db8:64::/96 dev nat64
    ip netns exec "$1" tayga -c "$WORK/tayga.conf" -d >"$WORK/tayga.log" 2>&1 8>&- 9>&- &
    PIDS="$PIDS $!"
}

# advertise NAME INTERFACE: it says so there twice a second (RFC 8781).
advertise() {
    ip netns exec "$1" python3 - "$2" 8>&- 9>&- <<'PY' &
import socket, struct, sys, time
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(sys.argv[1]))
pref64 = struct.pack("!BBH", 38, 2, (600 // 8) << 3 | 0) + socket.inet_pton(socket.AF_INET6, "2001:db8:64::")[:12]
ra = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0) + pref64
while True:
    try:
        s.sendto(ra, ("ff02::1", 0))
    except OSError: # the link is not up yet
        pass
    time.sleep(0.5)
PY
    PIDS="$PIDS $!"
}
