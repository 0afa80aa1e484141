# Network namespaces joined by labnet. Sourced; needs lib.sh. Runs the script again inside namespaces of its
# own, where it may make others.
enter_lab() {
    if [ -z "${IN_LAB:-}" ]; then
        for program in ip unshare; do
            command -v "$program" >/dev/null || { echo "SKIP: $program is not installed"; exit 77; }
        done
        [ -c /dev/net/tun ] || { echo "SKIP: there is no /dev/net/tun here"; exit 77; }
        how="--net --mount --pid --fork --mount-proc"
        [ "$(id -u)" = 0 ] || how="--user --map-root-user $how"
        # shellcheck disable=SC2086
        unshare $how true 2>/dev/null || { echo "SKIP: namespaces are not allowed here"; exit 77; }
        export IN_LAB=1
        # shellcheck disable=SC2086
        exec unshare $how bash "$0" "$@"
    fi
    mount -t tmpfs lab /run || exit 1
    mkdir -p /run/netns
    ip link set lo up
}

# lab_up DELAY-MS NAT-A NAT-B: namespaces a (192.168.1.5) and b (192.168.2.5) behind such NATs ("-": none,
# with public addresses), and s (203.0.114.1 and .2) on the open network.
lab_up() {
    a=tuna=192.168.1.5@$2 b=tunb=192.168.2.5@$3
    [ "$2" = - ] && a=tuna=198.51.150.1
    [ "$3" = - ] && b=tunb=198.51.151.1
    rm -f "$WORK/lab"
    mkfifo "$WORK/lab"
    "$BUILD/tests/labnet" "$1" "$a" "$b" tuns=203.0.114.1,203.0.114.2 <"$WORK/lab" >"$WORK/labnet" 2>&1 &
    LABNET=$!
    exec 9>"$WORK/lab"
    wait_for 5 grep -q ready "$WORK/labnet" || { cat "$WORK/labnet"; fail "labnet"; }
    for n in a b s; do
        ip netns add $n
        ip link set "tun$n" netns $n
        ip -n $n link set lo up
        ip -n $n link set "tun$n" up mtu 1500
        ip -n $n route add default dev "tun$n"
    done
    a=${a#tuna=} b=${b#tunb=}
    ip -n a addr add "${a%@*}/32" dev tuna
    ip -n b addr add "${b%@*}/32" dev tunb
    ip -n s addr add 203.0.114.1/32 dev tuns
    ip -n s addr add 203.0.114.2/32 dev tuns
    sandbox=
    nm "$BUILD/thalwegd" | grep -q __asan_init && sandbox=--no-sandbox
    ip netns exec s "$BUILD/thalwegd" -L 203.0.114.1 -L 203.0.114.2 -u user:pass -r realm -m 1 $sandbox >"$WORK/thalwegd" 2>&1 &
    RELAY=$!
    wait_for 5 grep -q "listening on udp 203.0.114.2" "$WORK/thalwegd" || { cat "$WORK/thalwegd"; fail "thalwegd"; }
}

lab_down() {
    kill "$RELAY" 2>/dev/null
    kill "$RELAY" 2>/dev/null
    wait "$RELAY" 2>/dev/null
    exec 9>&-
    wait "$LABNET" 2>/dev/null
    for n in a b s; do
        ip netns del $n
    done
}

# lab_pair SECONDS "A command" "B command": two that exchange descriptions over pipes; what A says is in
# $WORK/ours, its standard error in $WORK/a.
lab_pair() {
    rm -f "$WORK/to" "$WORK/from"
    mkfifo "$WORK/to" "$WORK/from"
    # shellcheck disable=SC2086
    timeout "$1" ip netns exec b $3 <"$WORK/to" >"$WORK/from" 2>"$WORK/b" &
    other=$!
    # shellcheck disable=SC2086
    timeout "$1" ip netns exec a $2 >"$WORK/to" <"$WORK/from" 2>"$WORK/a"
    status=$?
    kill "$other" 2>/dev/null
    wait "$other" 2>/dev/null
    return $status
}
