# Network namespaces of the test's own. Sourced, before lib.sh for enter_lab.

# enter_lab "$@": runs the script again inside namespaces where it may make others.
enter_lab() {
    if [ -z "${IN_LAB:-}" ]; then
        for program in ip unshare; do
            command -v "$program" >/dev/null || { echo "SKIP: $program is not installed"; exit 77; }
        done
        how="--net --mount --pid --fork --mount-proc"
        [ "$(id -u)" = 0 ] || how="--user --map-root-user $how"
        # shellcheck disable=SC2086
        unshare $how true 2>/dev/null || { echo "SKIP: namespaces are not allowed here"; exit 77; }
        export IN_LAB=1
        # shellcheck disable=SC2086
        exec unshare $how bash "$0" "$@"
    fi
    PATH=$PATH:/usr/sbin:/sbin
    mount -t tmpfs lab /run || exit 1
    mkdir -p /run/netns
    ip link set lo up
}

need_nft() {
    command -v nft >/dev/null || { echo "SKIP: nft is not installed"; exit 77; }
    nft 'add table ip probe; add chain ip probe p { type nat hook postrouting priority 100; }; delete table ip probe' 2>/dev/null || {
        echo "SKIP: this kernel has no nftables NAT"
        exit 77
    }
}

# host NAME: a machine.
host() {
    ip netns add "$1" || fail "namespace $1"
    ip -n "$1" link set lo up
}

# link FROM ADDRESS TO ADDRESS: the first one's default route leads to the second; "" is the middle, where
# the test itself runs.
link() {
    name=v$RANDOM
    ip link add "$name"a type veth peer name "$name"b
    ip link set "$name"a netns "$1"
    ip -n "$1" addr add "$2/24" dev "$name"a
    ip -n "$1" link set "$name"a up
    ip -n "$1" route add default via "$4"
    if [ -n "$3" ]; then
        ip link set "$name"b netns "$3"
        ip -n "$3" addr add "$4/24" dev "$name"b
        ip -n "$3" link set "$name"b up
    else
        ip addr add "$4/24" dev "$name"b
        ip link set "$name"b up
    fi
}

in_ns() {
    ns=$1
    shift
    ip netns exec "$ns" "$@"
}

# relay_at NAME IP: thalwegd there, for user:pass; its log in $WORK/log.
relay_at() {
    sandbox=
    nm "$BUILD/thalwegd" | grep -q __asan_init && sandbox=--no-sandbox
    rm -f "$WORK/log"
    ip netns exec "$1" "$BUILD/thalwegd" -L "$2" -u user:pass -r realm -m 1 $sandbox >"$WORK/log" 2>&1 &
    PIDS="$PIDS $!"
    wait_for 5 grep -q "listening on udp $2" "$WORK/log" || { cat "$WORK/log"; fail "thalwegd"; }
}

# bound NAME ADDRESS:PORT: waits until somebody there has this UDP port.
bound() {
    wait_for 10 bash -c "ip netns exec $1 ss -Hlun | grep -qF '$2 '" || fail "nobody is at $2"
}

# masquerade NAME NETWORK ["random"] ["open"]: makes a machine a NAT for that network. As routers do, it drops what
# comes from outside for itself; with "open" it does not.
masquerade() {
    drop="iifname != lo ip saddr != $2 udp dport >= 1024 drop"
    [ "${4:-}" = open ] && drop=accept
    in_ns "$1" sh -c "echo 1 >/proc/sys/net/ipv4/ip_forward
        nft 'add table ip n; delete table ip n; add table ip n;
             add chain ip n p { type nat hook postrouting priority 100; };
             add rule ip n p ip saddr $2 masquerade ${3:-};
             add chain ip n i { type filter hook input priority 0; }; add rule ip n i $drop'"
}

# pair SECONDS NAME-A "A command" NAME-B "B command": two that exchange descriptions over pipes; what A
# says is in $WORK/ours, its standard error in $WORK/a, the other's in $WORK/b.
pair() {
    rm -f "$WORK/to" "$WORK/from"
    mkfifo "$WORK/to" "$WORK/from"
    # shellcheck disable=SC2086
    timeout "$1" ip netns exec "$4" $5 <"$WORK/to" >"$WORK/from" 2>"$WORK/b" &
    other=$!
    # shellcheck disable=SC2086
    timeout "$1" ip netns exec "$2" $3 >"$WORK/to" <"$WORK/from" 2>"$WORK/a"
    status=$?
    kill "$other" 2>/dev/null
    wait "$other" 2>/dev/null
    return $status
}
