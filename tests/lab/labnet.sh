# Network namespaces joined by labnet. Sourced; needs namespaces.sh and lib.sh.
[ -c /dev/net/tun ] || { echo "SKIP: there is no /dev/net/tun here"; exit 77; }

# lab_up DELAY-MS NAT-A NAT-B: namespaces a (192.168.1.5) and b (192.168.2.5) behind such NATs ("-": none,
# with public addresses), s (203.0.114.1 and .2) on the open network, which is relay and rendezvous, and p (203.0.114.3), where
# a proxy may be. $SERVE: more options for thalwegd.
lab_up() {
    a=tuna=192.168.1.5@$2 b=tunb=192.168.2.5@$3
    [ "$2" = - ] && a=tuna=198.51.150.1
    [ "$3" = - ] && b=tunb=198.51.151.1
    rm -f "$WORK/lab"
    mkfifo "$WORK/lab"
    "$BUILD/tests/labnet" "$1" "$a" "$b" tuns=203.0.114.1,203.0.114.2 tunp=203.0.114.3 <"$WORK/lab" >"$WORK/labnet" 2>&1 &
    LABNET=$!
    exec 9>"$WORK/lab"
    wait_for 5 grep -q ready "$WORK/labnet" || { cat "$WORK/labnet"; fail "labnet"; }
    for n in a b s p; do
        ip netns add $n
        ip link set "tun$n" netns $n
        ip -n $n link set lo up
        ip -n $n link set "tun$n" up mtu 1500
        ip -n $n route add default dev "tun$n"
    done
    a=${a#tuna=} b=${b#tunb=}
    ip -n a addr add "${a%@*}/32" dev tuna
    ip -n b addr add "${b%@*}/32" dev tunb
    ip -n p addr add 203.0.114.3/32 dev tunp
    ip -n s addr add 203.0.114.1/32 dev tuns
    ip -n s addr add 203.0.114.2/32 dev tuns
    sandbox=
    nm "$BUILD/thalwegd" | grep -q __asan_init && sandbox=--no-sandbox
    rm -f "$WORK/thalwegd" # what one of before said would be taken for this one's
    ip netns exec s "$BUILD/thalwegd" -L 203.0.114.1 -L 203.0.114.2 -u user:pass -r realm -m 1 --rendezvous-open ${SERVE:-} $sandbox >"$WORK/thalwegd" 2>&1 &
    RELAY=$!
    wait_for 5 grep -q "rendezvous at 203.0.114.2" "$WORK/thalwegd" || { cat "$WORK/thalwegd"; fail "thalwegd"; }
    RENDEZVOUS=$(sed -n 's/.*rendezvous at \(203.0.114.1[^ ]*\).*/\1/p' "$WORK/thalwegd")
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
    for n in a b s p; do
        ip netns del $n
    done
}
