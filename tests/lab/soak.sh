#!/bin/bash
# For a long time: flows between programs and a listener, and through the relay, while the server is killed, upgraded and stopped, and
# programs are killed, by lot. No flow that was left alone loses or doubles anything; the listener's memory and descriptors, the
# server's and the time of a round trip are at the end what they were when all were warm.
# usage: soak.sh [MINUTES [FLOWS]], 30 and 40, which is twice what a listener, its server and all who call are rated for together on two
# cores; $SEED repeats the lots.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
T=$BUILD/thalweg MINUTES=${1:-30} FLOWS=${2:-40} RANDOM=${SEED:-$(date +%-S)}
. "$HERE/here.sh"
serve() {
    "${THALWEGD[@]}" --rendezvous-per-source 10000 --pidfile "$WORK/pid" >>"$WORK/thalwegd" 2>&1 &
    wait_for 5 test -s "$WORK/pid"
}
serve
url=$(url_of "$WORK/thalwegd") || { echo "$url"; exit 1; }
XDG_CONFIG_HOME="$WORK/home-b" "$T" listen --echo --json --allow-any --no-port-mapping --no-lan -s "$url" >"$WORK/listen" 2>&1 &
LISTENER=$!
PIDS="$PIDS $LISTENER"
address=$(address_of "$WORK/listen") || { echo "$address"; exit 1; }
end=$(($(date +%s) + MINUTES * 60))

# one NUMBER: a program that connects, sends and is sent back 50 messages a second for a while, and ends; again and again. Odd ones over
# the relay only. One that is killed on purpose leaves a file that says so.
one() {
    options=
    [ $(($1 % 2)) = 0 ] || options=--relay-only
    while [ "$(date +%s)" -lt $end ]; do
        rm -f "$WORK/killed$1"
        # shellcheck disable=SC2086
        XDG_CONFIG_HOME="$WORK/home-$1" FLOW_LOG="$WORK/log$1" timeout 200 python3 "$HERE/flow.py" $((10 + RANDOM % 50)) "$T" connect --json \
            --no-port-mapping --no-lan $options "$address" </dev/null >"$WORK/flow$1" 2>&1 && { echo ok >>"$WORK/ended"; continue; }
        if [ -f "$WORK/killed$1" ]; then
            echo killed >>"$WORK/ended"
        elif ! grep -q '"connected"' "$WORK/log$1" && grep -q '"closed".*nobody with that key' "$WORK/log$1"; then
            echo absent >>"$WORK/ended" # the server had just been started, and the listener was not there yet
            sleep 1
        elif ! grep -q '"connected"' "$WORK/log$1" && grep -q '"closed".*Connection refused' "$WORK/log$1"; then
            echo no-server >>"$WORK/ended" # killed while the one before it had not ended
            sleep 1
        else
            { echo "flow $1, $(date +%T): $(tail -1 "$WORK/flow$1"); $(tail -qn 2 "$WORK/log$1" | tr '\n' ' ')"; } >>"$WORK/bad"
            sleep 1
        fi
    done
}
for i in $(seq "$FLOWS"); do
    one "$i" &
    PIDS="$PIDS $!"
done

happens() {
    server=$(cat "$WORK/pid" 2>/dev/null)
    case $((RANDOM % 5)) in
    0) kill -9 "$server" && rm -f "$WORK/pid" && sleep 0.5 && serve && echo "the server was killed and started" ;;
    1) kill -USR2 "$server" && echo "the server was upgraded" ;;
    2) kill -STOP "$server" && sleep 2 && kill -CONT "$server" && echo "the server was stopped for 2 s" ;;
    3) kill -STOP $LISTENER && sleep 2 && kill -CONT $LISTENER && echo "the listener was stopped for 2 s" ;;
    *) i=$((1 + RANDOM % FLOWS))
        touch "$WORK/killed$i"
        for p in $(pgrep -x thalweg); do
            tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -q "home-$i\$" && kill -9 "$p"
        done
        echo "program $i was killed" ;;
    esac
}
cpu() { awk '{ print ($14 + $15) / 100 }' "/proc/$1/stat"; } # seconds of a process
trip() { XDG_CONFIG_HOME="$WORK/home-ping" timeout 20 "$T" ping --json --no-port-mapping --no-lan -c 3 "$address" 2>/dev/null | sed -n 's/.*"\(rtt_ms\|ms\)":\([0-9.]*\).*/\2/p' | sort -n | head -2 | tail -1; }
XDG_CONFIG_HOME="$WORK/home-ping" "$T" id >/dev/null
: >"$WORK/samples"
: >"$WORK/ended"
: >"$WORK/bad"
while [ "$(date +%s)" -lt $end ]; do
    sleep $((8 + RANDOM % 8))
    what=$(happens 2>/dev/null)
    sleep 5
    server=$(cat "$WORK/pid" 2>/dev/null)
    echo "$(rss $LISTENER) $(fds $LISTENER) $(rss "$server") $(fds "$server") $(trip)" >>"$WORK/samples"
    echo "$(date +%T) $(tail -1 "$WORK/samples" | awk '{ printf "listener %d KiB, %d descriptors; server %d KiB, %d; ping %s ms", $1, $2, $3, $4, $5 }'); $(wc -l <"$WORK/ended") flows ended; $what"
    kill -0 $LISTENER 2>/dev/null || { tail -5 "$WORK/listen"; fail "the listener is gone"; }
done
awk '{ l[NR] = $1; f[NR] = $2; s[NR] = $3; p[NR] = $5 }
    function mid(t, a, b,   i, j, x, k, u) { k = 0; for (i = a; i <= b; i++) u[++k] = t[i]; for (i = 2; i <= k; i++) for (j = i; j > 1 && u[j-1] > u[j]; j--) { x = u[j]; u[j] = u[j-1]; u[j-1] = x } return u[int((k + 1) / 2)] }
    END { a = int(NR / 4) + 1; b = int(NR / 2); c = int(NR * 3 / 4) + 1
        printf "second quarter, last quarter: listener %d KiB, %d KiB; descriptors %d, %d; server %d KiB, %d KiB; ping %.1f ms, %.1f ms\n", mid(l, a, b), mid(l, c, NR), mid(f, a, b), mid(f, c, NR), mid(s, a, b), mid(s, c, NR), mid(p, a, b), mid(p, c, NR)
        exit mid(l, c, NR) > 1.15 * mid(l, a, b) + 4096 || mid(f, c, NR) > 1.3 * mid(f, a, b) + 40 || mid(s, c, NR) > 1.3 * mid(s, a, b) + 8192 }' "$WORK/samples" ||
    fail "it grows"
echo "the listener took $(cpu $LISTENER) s of CPU in $MINUTES minutes"
echo "$(grep -c ok "$WORK/ended") flows ended well, $(grep -c killed "$WORK/ended") were killed, $(grep -c absent "$WORK/ended") did not find the listener, $(grep -c no-server "$WORK/ended") no server, $(wc -l <"$WORK/bad") lost something or broke off"
head -20 "$WORK/bad"
[ ! -s "$WORK/bad" ] || fail "flows that were left alone broke"
