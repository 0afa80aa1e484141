#!/bin/bash
# What many cost who do nothing: connections to one who listens, and mailboxes at one server. Then the server is killed and started,
# and then the listener: how soon all are back. All of it on this machine, in one namespace, so that the dialling side takes its share
# of the CPU as well. A process needs a descriptor for each of them, so the limit on open files bounds both.
# usage: bench/scale.sh [CONNECTIONS [MAILBOXES [IDLE-SECONDS]]]; BUILD names the build directory.
HERE=$(dirname "$0")
BUILD=${BUILD:-$HERE/../build}
. "$HERE/../tests/lab/namespaces.sh"
enter_lab "$@"
. "$HERE/../tests/interop/lib.sh"
. "$HERE/../tests/lab/here.sh"
ulimit -n 1000000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
CONNS=${1:-10000} BOXES=${2:-20000} IDLE=${3:-60} EACH=20
most=$(($(ulimit -n) - 600))
[ "$BOXES" -le $most ] || { BOXES=$most; echo "only $(ulimit -n) open files are allowed here: $BOXES mailboxes"; }

serve() {
    rm -f "$WORK/thalwegd"
    "${THALWEGD[@]}" --rendezvous-per-source 1000000 --drain-timeout 0 >"$WORK/thalwegd" 2>&1 &
    SERVER=$!
    url=$(url_of "$WORK/thalwegd") || { echo "$url"; exit 1; }
}
listens() {
    rm -f "$WORK/listen"
    XDG_CONFIG_HOME="$WORK/home" "$BUILD/thalweg" listen --echo --json --allow-any --no-port-mapping --no-lan --rungs udp,patched --max-peers $((CONNS + CONNS / 10 + 10)) \
        -s "$url" >"$WORK/listen" 2>&1 &
    LISTENER=$!
    address=$(address_of "$WORK/listen") || { echo "$address"; exit 1; }
}
last() { tail -qn 1 "$WORK/$1"* | cut -d' ' -f1-11; }
count() { tail -qn 1 "$WORK/$1"* | awk -v n="$2" '{ for (i = 2; i < NF; i += 2) if ($i == n) sum += $(i + 1) } END { print sum + 0 }'; }
# until_there FILE WHAT N SECONDS: prints how many seconds it took; what there is then, if it is not enough.
until_there() {
    begun=$(date +%s%N)
    for _ in $(seq $(($4 * 5))); do
        [ "$(count "$1" "$2")" -ge "$3" ] 2>/dev/null && break
        sleep 0.2
    done
    echo "$(count "$1" "$2") of $3 $2 after $((($(date +%s%N) - begun) / 1000000000)) s"
}
cpu() { awk '{ print ($14 + $15) * 10 }' "/proc/$1/stat"; } # ms
mib() { echo $(($(rss "$1") / 1024)); }
costs() { # packets and bytes that it has sent, and how often it woke
    XDG_CONFIG_HOME="$WORK/home" "$BUILD/thalweg" status --json | sed -n 's/.*"wakeups":\([0-9]*\),"packets_sent":\([0-9]*\),"bytes_sent":\([0-9]*\).*/\2 \3 \1/p'
}
idle() { # what a while of nothing costs who listens, and the server
    read -r p1 b1 w1 < <(costs)
    c1=$(cpu $LISTENER) s1=$(cpu $SERVER)
    sleep "$IDLE"
    c2=$(cpu $LISTENER) s2=$(cpu $SERVER)
    read -r p2 b2 w2 < <(costs)
    echo "idle, $IDLE s: the listener $((c2 - c1)) ms of CPU, $(mib $LISTENER) MiB, $(fds $LISTENER) descriptors," \
        "$(((p2 - p1) * 3600 / IDLE / CONNS)) packets and $(((b2 - b1) * 3600 / IDLE / CONNS)) bytes an hour for each connection," \
        "$(((w2 - w1) * 3600 / IDLE)) wake-ups an hour;" \
        "the server $((s2 - s1)) ms, $(mib $SERVER) MiB, $(fds $SERVER) descriptors"
}

serve
echo "server alone: $(mib $SERVER) MiB"
for i in 1 2; do
    "$BUILD/crowd" mailboxes "$url" $((BOXES / 2)) >"$WORK/boxes$i" 2>&1 &
    PIDS="$PIDS $!"
done
BOXES=$((BOXES / 2 * 2))
begun_cpu=$(cpu $SERVER)
echo "mailboxes: $(until_there boxes online "$BOXES" 240); the server took $(($(cpu $SERVER) - begun_cpu)) ms of CPU and has $(mib $SERVER) MiB"
listens
alone=$(mib $LISTENER)
begun_cpu=$(cpu $LISTENER)
"$BUILD/crowd" dial "$url" "$address" $(((CONNS + EACH - 1) / EACH)) $EACH 400 >"$WORK/dial" 2>&1 &
PIDS="$PIDS $!"
echo "connections: $(until_there dial connected "$CONNS" 400); the listener took $(($(cpu $LISTENER) - begun_cpu)) ms of CPU, and $alone MiB became $(mib $LISTENER)"
sleep 60 # ways are settled, calls over, and so is the half minute in which a caller talks on after a change of path
idle
echo "the server is killed and started:"
kill -9 $SERVER; wait $SERVER 2>/dev/null
sleep 2
serve
echo "    mailboxes: $(until_there boxes online "$BOXES" 120); the server took $(cpu $SERVER) ms of CPU"
echo "    connections: $(last dial)"
echo "the listener is killed and started:"
kill -9 $LISTENER; wait $LISTENER 2>/dev/null
lost=$(($(count dial lost) + CONNS))
listens
echo "    $(until_there dial lost "$lost" 200) (of those before as well)"
echo "    connections: $(until_there dial connected "$CONNS" 300); the listener took $(cpu $LISTENER) ms of CPU"
kill $LISTENER $SERVER
wait $LISTENER $SERVER 2>/dev/null
