# Network namespaces joined by labnet. Sourced; needs namespaces.sh and lib.sh.
[ -c /dev/net/tun ] || { echo "SKIP: there is no /dev/net/tun here"; exit 77; }

# net_up DELAY-MS NAME=IP[,IP][:DELAY-MS][@NAT]...: a namespace for each of them; the delay is that of its link.
net_up() {
    delay=$1
    shift
    rm -f "$WORK/lab"
    mkfifo "$WORK/lab"
    # shellcheck disable=SC2046
    "$BUILD/tests/labnet" "$delay" $(printf 'tun%s ' "$@") <"$WORK/lab" >"$WORK/labnet" 2>&1 &
    LABNET=$!
    exec 9>"$WORK/lab"
    wait_for 5 grep -q ready "$WORK/labnet" || { cat "$WORK/labnet"; fail "labnet"; }
    NODES=
    for n in "$@"; do
        ips=${n#*=} n=${n%%=*}
        NODES="$NODES $n"
        ip netns add "$n"
        ip link set "tun$n" netns "$n"
        ip -n "$n" link set lo up
        ip -n "$n" link set "tun$n" up mtu 1500
        ip -n "$n" route add default dev "tun$n"
        ips=${ips%@*}
        for one in $(echo "${ips%:*}" | tr , ' '); do
            ip -n "$n" addr add "$one/32" dev "tun$n"
        done
    done
}
OPEN="s=203.0.114.1,203.0.114.2 p=203.0.114.3" # the server, and where a proxy may be

# serve: thalwegd in s, relay and rendezvous. $SERVE: more options.
serve() {
    sandbox=
    nm "$BUILD/thalwegd" | grep -q __asan_init && sandbox=--no-sandbox
    rm -f "$WORK/thalwegd" # what one of before said would be taken for this one's
    ip netns exec s "$BUILD/thalwegd" -L 203.0.114.1 -L 203.0.114.2 -u user:pass -r realm -m 1 --rendezvous-open --state-dir "$WORK/state" ${SERVE:-} $sandbox >"$WORK/thalwegd" 2>&1 8>&- 9>&- &
    RELAY=$!
    wait_for 5 grep -q "rendezvous at 203.0.114.2" "$WORK/thalwegd" || { cat "$WORK/thalwegd"; fail "thalwegd"; }
    RENDEZVOUS=$(sed -n 's/.*rendezvous at \(203.0.114.1[^ ]*\).*/\1/p' "$WORK/thalwegd")
}

# lab_up DELAY-MS NAT-A NAT-B: namespaces a (192.168.1.5) and b (192.168.2.5) behind such NATs ("-": none,
# with public addresses), the server and the place for a proxy.
lab_up() {
    a=a=192.168.1.5@$2 b=b=192.168.2.5@$3
    [ "$2" = - ] && a=a=198.51.150.1
    [ "$3" = - ] && b=b=198.51.151.1
    # shellcheck disable=SC2086
    net_up "$1" "$a" "$b" $OPEN
    serve
}

# as NAME thalweg...: on that machine, with an identity of its own.
as() {
    who=$1
    shift
    ip netns exec "$who" env XDG_CONFIG_HOME="$WORK/home-$who" "$@"
}

lab_down() {
    kill "$RELAY" 2>/dev/null
    sleep 0.1 # it drains; the second one ends it
    kill "$RELAY" 2>/dev/null
    wait "$RELAY" 2>/dev/null
    exec 9>&-
    wait "$LABNET" 2>/dev/null
    for n in $NODES; do
        ip netns del "$n"
    done
}
