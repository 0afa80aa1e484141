#!/bin/bash
# A call-like flow (50 messages a second, there and back) while networks change and things die: nothing is lost or doubled, and
# how long it pauses. 40 ms round trip between any two. $AWAY: seconds without a network in the last case.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
. "$HERE/labnet.sh"
T=$BUILD/thalweg

# begin NAT-A NAT-A2 NAT-B NAT-B2: each machine has two networks, of which it is in the first.
begin() {
    a=a=192.168.1.5@$1 a2=a2=192.168.3.5@$2 b=b=192.168.2.5@$3 b2=b2=192.168.4.5@$4
    # shellcheck disable=SC2086
    net_up 10 "$a" "$a2" "$b" "$b2" $OPEN
    for n in a b; do # the second network is the same machine's
        ip -n ${n}2 link set tun${n}2 netns $n
        ip -n $n link set tun${n}2 mtu 1500
    done
    serve
    address=$(as b "$T" id -s "$RENDEZVOUS")
    key_a=$(as a "$T" id)
    rm -f "$WORK/listen" "$WORK/flow.in"
    ip netns exec b env XDG_CONFIG_HOME="$WORK/home-b" "$T" listen --echo --json --no-port-mapping --no-lan --allow "$key_a" \
        -s "$RENDEZVOUS" >"$WORK/listen" 2>&1 9>&- &
    LISTENER=$!
    wait_for 8 grep -q '"online"' "$WORK/listen" || { cat "$WORK/listen"; fail "b does not come online"; }
    mkfifo "$WORK/flow.in"
    ip netns exec a env XDG_CONFIG_HOME="$WORK/home-a" FLOW_LOG="$WORK/a" python3 "$HERE/flow.py" "$SECONDS_OF_FLOW" "$T" connect --json \
        --no-port-mapping --no-lan "$address" <"$WORK/flow.in" >"$WORK/flow" 2>&1 9>&- &
    FLOW=$!
    exec 8>"$WORK/flow.in"
    wait_for 10 grep -q '"connected"' "$WORK/a" || { cat "$WORK/a"; fail "they do not connect"; }
    sleep 2.5 # it has its best way, and knows how long it takes
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
# Into the second network: the first one's address is gone.
move() { # MACHINE
    [ "$1" = a ] && at=192.168.3.5 || at=192.168.4.5
    ip -n "$1" link set "tun$1" down
    ip -n "$1" addr add $at/32 dev "tun${1}2"
    ip -n "$1" link set "tun${1}2" up
    ip -n "$1" route add default dev "tun${1}2"
}
mark() { echo "mark accident" >&8; }
back() { echo back >&8; }
home=I/AP/keep hard=AP/AP/random
SECONDS_OF_FLOW=7
echo "what happens                            pause                     then by"

begin $home $home $home $home
mark; move a
finish "the caller moves"
begin $home $home $home $home
mark; move b
finish "the callee moves"
begin $home $hard $home $home
mark; move a; move b
finish "both move at once"
begin $home $home $home $home
mark; echo "forget a" >&9
finish "the caller's NAT forgets"
begin $home $home $home $home
mark; echo "forget b" >&9
finish "the callee's NAT forgets"
begin $home $home $home $home
mark; kill -9 "$RELAY"; wait "$RELAY" 2>/dev/null; before=$RENDEZVOUS; serve
[ "$before" = "$RENDEZVOUS" ] || fail "after a restart the server is another one: $before, $RENDEZVOUS"
finish "the server is killed and started"
begin $hard $hard $hard $hard
mark; kill -9 "$RELAY"; wait "$RELAY" 2>/dev/null; serve
finish "the same, and they need its relay"
begin $hard $hard $hard $hard
mark; kill -USR2 "$RELAY"
wait_for 3 grep -q "starting a successor" "$WORK/thalwegd"
finish "the server is upgraded under its relay"
begin $home $home $home $home
mark; echo "loss a 300" >&9; sleep 5; echo "loss a 0" >&9
finish "30 % of packets are lost for 5 s"
export FLOW_SIZE=4000
begin $home $home $home $home
mark; echo "mtu a 1280" >&9
unset FLOW_SIZE
finish "larger packets than 1280 bytes vanish"
SECONDS_OF_FLOW=$((3 * ${LIFE:-4} + 4))
begin $home/life=${LIFE:-4} $home $home $home
mark
finish "the NAT maps anew every ${LIFE:-4} s"
SECONDS_OF_FLOW=9
begin $home $home $home $home
mark; echo "noudp a" >&9
finish "UDP is blocked all of a sudden"
SECONDS_OF_FLOW=14
begin $home $home $home $home
mark; echo "web a" >&9; sleep 6; fallen=$(rung); echo "all a" >&9
finish "but ports 80 and 443 all is blocked"
echo "    there it was by $fallen; what is blocked no more, it takes again"
case $fallen in http | https | relay) ;; *) cat "$WORK/a"; fail "by $fallen" ;; esac
SECONDS_OF_FLOW=$((${AWAY:-6} + 8))
begin $home $home $home $home
mark; echo "cut a" >&9; sleep "${AWAY:-6}"; echo "mend a" >&9; back
finish "no network for ${AWAY:-6} s, then"
echo "nothing was lost or doubled"
