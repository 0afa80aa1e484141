#!/bin/bash
# Our ICE agents behind the kernel's own NAT (nftables), and behind miniupnpd, which maps ports by PCP,
# NAT-PMP and UPnP IGD.
set -u
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
need_nft
need miniupnpd
echo 1 >/proc/sys/net/ipv4/ip_forward

for n in relay nata natb a b; do host $n; done
link relay 11.0.1.2 "" 11.0.1.1
link nata 11.0.2.2 "" 11.0.2.1
link natb 11.0.3.2 "" 11.0.3.1
link a 192.168.1.5 nata 192.168.1.1
link b 192.168.2.5 natb 192.168.2.1
relay_at relay 11.0.1.2
SERVERS="-s stun:11.0.1.2 -s turn:11.0.1.2 -u user -w pass"

# connect WHAT KIND [options of A]: a path of that kind, between the NATs as they are now.
connect() {
    pair 40 a "$BUILD/thalweg ice --trickle --explain --pings ${4:-200} $SERVERS ${BOTH:-} ${3:-}" \
        b "$BUILD/thalweg ice --trickle --answer --echo --no-port-mapping $SERVERS ${BOTH:-}" ||
        { cat "$WORK/a" "$WORK/b"; fail "$1"; }
    got=$(grep '^path: ' "$WORK/a" | tail -1)
    echo "$got" | grep -q "^path: $2," || { cat "$WORK/a" "$WORK/b"; fail "$1: $got"; }
    echo "ok: $1: $(grep -o 'connected after.*' "$WORK/a" | head -1), $2 in the end"
}

outer=$(ip -n nata -o route get 11.0.1.2 | sed -n 's/.* dev \([^ ]*\) .*/\1/p')
inner=$(ip -n nata -o route get 192.168.1.5 | sed -n 's/.* dev \([^ ]*\) .*/\1/p')
ip -n a route add 239.0.0.0/8 dev "$(ip -n a -o link show type veth | awk -F'[ :@]+' '{ print $2; exit }')"

# gateway [line of configuration]...: miniupnpd at nata, with its tables anew.
gateway() {
    {
        echo "ext_ifname=$outer"
        echo "listening_ip=$inner"
        echo "uuid=00000000-0000-4000-8000-000000000001"
        echo "allow 1024-65535 192.168.1.0/24 1024-65535"
        printf '%s\n' "$@"
    } >"$WORK/miniupnpd.conf"
    in_ns nata nft 'add table inet filter; delete table inet filter; add table inet filter;
        add chain inet filter miniupnpd; add chain inet filter prerouting_miniupnpd;
        add chain inet filter postrouting_miniupnpd;
        add chain inet filter pre { type nat hook prerouting priority -100; };
        add rule inet filter pre jump prerouting_miniupnpd;
        add chain inet filter post { type nat hook postrouting priority 90; };
        add rule inet filter post jump postrouting_miniupnpd' || fail "nft"
    ip netns exec nata miniupnpd -f "$WORK/miniupnpd.conf" -P "$WORK/miniupnpd.pid" -d >"$WORK/miniupnpd.log" 2>&1 &
    GATEWAY=$!
    PIDS="$PIDS $GATEWAY"
    wait_for 5 grep -qiE "HTTP listening|Listening for NAT-PMP" "$WORK/miniupnpd.log" || { cat "$WORK/miniupnpd.log"; fail "miniupnpd"; }
    sleep 0.3
}
gateway_down() {
    kill "$GATEWAY" 2>/dev/null
    wait "$GATEWAY" 2>/dev/null
    rm -f "$WORK/miniupnpd.pid"
}
# How many ports are mapped.
mapped() { in_ns nata nft list chain inet filter prerouting_miniupnpd | grep -c dnat; }

masquerade nata 192.168.1.0/24
masquerade natb 192.168.2.0/24
connect "two masquerades" direct --no-port-mapping
masquerade nata 192.168.1.0/24 "" open
masquerade natb 192.168.2.0/24 "" open
connect "two without a firewall" direct --no-port-mapping 420
masquerade nata 192.168.1.0/24
masquerade natb 192.168.2.0/24 random
connect "a masquerade and a random one" direct --no-port-mapping 420
masquerade nata 192.168.1.0/24 random
connect "two random ones" relayed --no-port-mapping

# No UDP at all: TCP from both sides at once (RFC 6544), no relay.
for n in nata natb; do
    masquerade $n 192.168.0.0/16
    in_ns $n nft 'add chain ip n f { type filter hook forward priority 0; }; add rule ip n f meta l4proto udp drop;
        add rule ip n i iifname != lo ip saddr != 192.168.0.0/16 tcp dport >= 1024 drop'
done
SERVERS="-s stun:11.0.1.2" BOTH=--tcp connect "no UDP, two masquerades" "direct over TCP" --no-port-mapping 40
SERVERS="-s turns:11.0.1.2 -u user -w pass --insecure" connect "no UDP, a relay over TLS" relayed --no-port-mapping 40
masquerade nata 192.168.1.0/24 random
masquerade natb 192.168.2.0/24 random

# Now nata's gateway maps ports. What it mapped, it has forgotten after the command ended.
by() {
    grep -q "$2" "$WORK/miniupnpd.log" || { cat "$WORK/miniupnpd.log"; fail "$1 was not used"; }
    wait_for 3 sh -c "[ \$(ip netns exec nata nft list chain inet filter prerouting_miniupnpd | grep -c dnat) = 0 ]" ||
        fail "$1: the mapping was not given back"
    gateway_down
}
gateway enable_natpmp=yes enable_upnp=no
connect "two random ones, PCP" direct
by PCP "PCP"

# A gateway that does not know PCP: it never sees such a request.
in_ns nata nft 'add table inet n2; add chain inet n2 in { type filter hook input priority 0; };
    add rule inet n2 in udp dport 5351 @th,64,8 2 drop' || fail "nft"
gateway enable_natpmp=yes enable_upnp=no
connect "two random ones, NAT-PMP" direct
by NAT-PMP "NAT-PMP"

for version in no yes; do
    gateway enable_natpmp=no enable_upnp=yes force_igd_desc_v1=$version
    connect "two random ones, UPnP IGD$([ $version = no ] && echo ' 2' || echo ' 1')" direct "" 320
    by UPnP "PortMapping"
done
