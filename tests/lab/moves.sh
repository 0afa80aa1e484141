#!/bin/bash
# A call-like flow (50 messages a second, there and back) while networks change and things die: nothing is lost or doubled, and
# how long it pauses. 40 ms round trip between any two. usage: moves.sh [PATTERN]: only what happens by such a name.
# $AWAY: seconds without a network in the last cases. $SIZE: bytes of a message; with 20,000 it is a transfer of 1 MB/s each way.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
. "$HERE/labnet.sh"
. "$HERE/translator.sh"
need_nft
need tayga python3
T=$BUILD/thalweg
ONLY=${1:-}
AWAY=${AWAY:-6} SIZE=${SIZE:-160}
export FLOW_SIZE=$SIZE

# The two programs; connects FLOW...: what looks at the flow, which gets the program. bench/moves.sh has others.
listens() {
    # shellcheck disable=SC2086
    exec ip netns exec b env XDG_CONFIG_HOME="$WORK/home-b" ${PRELOAD:-} "$T" listen --echo --json --no-port-mapping --no-lan --allow "$key_a" \
        -s "$RENDEZVOUS"
}
connects() {
    # shellcheck disable=SC2086
    exec ip netns exec a env XDG_CONFIG_HOME="$WORK/home-a" FLOW_LOG="$WORK/a" "$@" env ${PRELOAD:-} "$T" connect --json --no-port-mapping \
        --no-lan "$address"
}
# begin NAT-A NAT-A2 NAT-B NAT-B2: each machine has two networks, of which it is in the first.
begin() {
    a=a=192.168.1.5@$1 a2=a2=192.168.3.5@$2 b=b=192.168.2.5@$3 b2=b2=192.168.4.5@$4
    [ "$3" = - ] && b=b=198.51.151.1
    # shellcheck disable=SC2086
    net_up 10 "$a" "$a2" "$b" "$b2" r=198.51.150.1 $OPEN
    for n in a b; do # the second network is the same machine's
        ip -n ${n}2 link set tun${n}2 netns $n
        ip -n $n link set tun${n}2 mtu 1500
    done
    serve
    address=$(as b "$T" id -s "$RENDEZVOUS")
    key_a=$(as a "$T" id)
    rm -f "$WORK/listen" "$WORK/flow.in"
    listens >"$WORK/listen" 2>&1 8>&- 9>&- &
    LISTENER=$!
    wait_for 8 grep -q '"online"' "$WORK/listen" || { cat "$WORK/listen"; fail "b does not come online"; }
    mkfifo "$WORK/flow.in"
    connects python3 "$HERE/flow.py" "$SECONDS_OF_FLOW" <"$WORK/flow.in" >"$WORK/flow" 2>&1 9>&- &
    FLOW=$!
    exec 8>"$WORK/flow.in"
    wait_for 10 grep -q '"connected"' "$WORK/a" || not_connected
    sleep 2.5 # it has its best way, and knows how long it takes
}
not_connected() {
    cat "$WORK/a"
    fail "they do not connect"
}
rung() { sed -n 's/.*"event":"path".*"rung":"\([a-z]*\)".*/\1/p' "$WORK/a" | tail -1; } # of the caller, now
finish() { # NAME
    wait "$FLOW" || { cat "$WORK/flow"; tail -5 "$WORK/a" "$WORK/listen"; fail "$1: something is lost or doubled"; }
    exec 8>&-
    pause=$(sed -n "s/^accident //p" "$WORK/flow")
    printf '%-36s %6s ms %6.1f round trips   %-6s %s\n' "$1" "$pause" "$(echo "$pause" | awk '{ print $1 / 40 }')" "$(rung)" \
        "$(grep numbers "$WORK/flow")"
    [ "$pause" -le 20000 ] || { cat "$WORK/a" "$WORK/listen"; fail "$1: for so long there was a way"; }
    kill "$LISTENER"
    wait "$LISTENER" 2>/dev/null
    lab_down
}
# try NAME SECONDS NATS ACCIDENT...: the accident, a command, 2.5 s after both are connected.
try() {
    name=$1 SECONDS_OF_FLOW=$2 nats=$3
    shift 3
    case $name in *"$ONLY"*) ;; *) return ;; esac
    # shellcheck disable=SC2086
    begin $nats
    echo "mark accident" >&8
    "$@" || { cat "$WORK/a"; fail "$name"; }
    finish "$name"
}

# --- accidents
labnet() { echo "$*" >&9; }
# Into the second network: the first one's address is gone.
move() { # MACHINE
    [ "$1" = a ] && at=192.168.3.5 || at=192.168.4.5
    ip -n "$1" link set "tun$1" down
    ip -n "$1" addr add $at/32 dev "tun${1}2"
    ip -n "$1" link set "tun${1}2" up
    ip -n "$1" route add default dev "tun${1}2"
}
both_move() { move a && move b; }
# Into one of IPv6 only, whose router r translates to IPv4 and says so (RFC 8781).
to_nat64() {
    ip -n a link set tuna down
    ip link add v6a netns a type veth peer name v6b netns r
    in_ns a sh -c 'echo 1 >/proc/sys/net/ipv6/conf/v6a/accept_ra; echo 0 >/proc/sys/net/ipv6/conf/v6a/accept_dad'
    in_ns r sh -c 'echo 0 >/proc/sys/net/ipv6/conf/v6b/accept_dad'
    ip -n r addr add 2001:db8:6::1/64 dev v6b nodad
    ip -n r link set v6b up
    translator r
    advertise r v6b
    ip -n a addr add 2001:db8:6::5/64 dev v6a nodad
    ip -n a link set v6a up
    ip -n a route add default via 2001:db8:6::1
    echo back >&8 # until now no network was there
}
restart() {
    kill -9 "$RELAY"
    wait "$RELAY" 2>/dev/null
    before=$RENDEZVOUS
    serve
    [ "$before" = "$RENDEZVOUS" ] || fail "after a restart the server is another one: $before, $RENDEZVOUS"
}
upgrade() {
    kill -USR2 "$RELAY"
    wait_for 3 grep -q "starting a successor" "$WORK/thalwegd"
}
lossy() {
    labnet loss a 300
    sleep 5
    labnet loss a 0
}
only_the_web() {
    labnet web a
    sleep 6
    fallen=$(rung)
    labnet all a
    echo "    there it was by $fallen; what is blocked no more, it takes again:"
    case $fallen in http | https | relay) ;; *) return 1 ;; esac
}
no_network() {
    labnet cut a
    sleep "$AWAY"
    labnet mend a
    echo back >&8
}
# Stopped, and then all clocks but those of timers are $SLEPT seconds later.
sleeps() { # MACHINE PROCESS
    labnet cut "$1"
    kill -STOP "$2"
    sleep 2
    kill -USR1 "$2"
    labnet mend "$1"
    kill -CONT "$2"
    echo back >&8
}
caller_sleeps() { sleeps a "$(pgrep -P "$FLOW")"; }
callee_sleeps() { sleeps b "$LISTENER"; }

# shellcheck disable=SC1090
[ -z "${OTHERS:-}" ] || . "$OTHERS"
home=I/AP/keep hard=AP/AP/random
easy="$home $home ${CALLEE:-$home} $home" # CALLEE: its NAT, "-": none
echo "what happens                            pause                     then by"
try "the caller moves" 7 "$easy" move a
try "the callee moves" 7 "$easy" move b
try "both move at once" 7 "$home $hard ${CALLEE:-$home} $home" both_move
try "from IPv4 to IPv6 only with NAT64" 9 "$easy" to_nat64
try "the caller's NAT forgets" 7 "$easy" labnet forget a
try "the callee's NAT forgets" 7 "$easy" labnet forget b
try "the server is killed and started" 7 "$easy" restart
if [ -z "${CALLEE:-}" ]; then
    try "the same, and they need its relay" 7 "$hard $hard $hard $hard" restart
    try "the server is upgraded under its relay" 7 "$hard $hard $hard $hard" upgrade
fi
try "30 % of packets are lost for 5 s" 7 "$easy" lossy
FLOW_SIZE=$((SIZE > 4000 ? SIZE : 4000))
try "larger packets than 1280 bytes vanish" 7 "$easy" labnet mtu a 1280
FLOW_SIZE=$SIZE
LIFE=${LIFE:-4}
try "the NAT maps anew every $LIFE s" $((3 * LIFE + 4)) "$home/life=$LIFE $home ${CALLEE:-$home} $home" true
try "UDP is blocked all of a sudden" 9 "$easy" labnet noudp a
try "but ports 80 and 443 all is blocked" 14 "$easy" only_the_web
try "no network for $AWAY s, then" $((AWAY + 8)) "$easy" no_network
[ -z "${OTHERS:-}" ] || exit 0
PRELOAD="LD_PRELOAD=$SLEEPER_SO SLEPT=3600"
try "the caller has slept for an hour" 9 "$easy" caller_sleeps
try "the callee has slept for an hour" 9 "$easy" callee_sleeps
echo "nothing was lost or doubled"
