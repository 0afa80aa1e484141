#!/bin/bash
# The n-th system call of each kind, or allocation, fails in thalwegd, for each n up to $MOST, from its start on: it says why it can't
# start, or it serves, at once or the next who asks. Then: its disk is full, and it is stopped for a while (SIGSTOP) under traffic.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
T=$BUILD/thalweg MOST=${MOST:-3} STEP=${STEP:-1}
nm "$BUILD/thalwegd" | grep -q __asan_init && { echo "SKIP: AddressSanitizer has its own malloc"; exit 77; }
. "$HERE/here.sh"
serve() { # ENVIRONMENT...
    rm -f "$WORK/thalwegd"
    env "$@" "${THALWEGD[@]}" --drain-timeout 0 >"$WORK/thalwegd" 2>&1 &
    SERVER=$!
    for _ in $(seq 60); do
        grep -q "rendezvous: anybody" "$WORK/thalwegd" && return 0
        kill -0 $SERVER 2>/dev/null || return 1
        sleep 0.05
    done
    return 0
}
asks() { # a user of the relay, by UDP and TCP, and one of the rendezvous
    timeout 8 "$T" turn -u user -w pass --no-throughput --pings 2 $AT >"$WORK/one" 2>&1 &&
        timeout 8 "$T" turn -u user -w pass --no-throughput --pings 2 "turn:$AT?transport=tcp" >>"$WORK/one" 2>&1 &&
        timeout 8 curl -sk https://$AT/ -o /dev/null
}
ends() { # WHAT
    kill $SERVER 2>/dev/null
    wait $SERVER
    case $? in
    13[4-9] | 14[0-2]) cat "$WORK/thalwegd"; fail "$1: it ended with a signal" ;;
    esac
}
runs=0 served=0 refused=0
# What nth.so can make fail; memory is what it calls malloc, calloc and realloc.
for call in ${CALLS:-$(nm -D --defined-only "$NTH_SO" | awk '$2 == "T" { print $3 }' | grep -vx '.*alloc') memory}; do
    n=1
    while [ $n -le "$MOST" ]; do
        rm -f "$WORK/nth" "$WORK/thalwegd"
        runs=$((runs + 1))
        if serve LD_PRELOAD="$NTH_SO" NTH="$call:$n" NTH_LOG="$WORK/nth"; then
            asks || { sleep 1; asks; } || { cat "$WORK/thalwegd" "$WORK/one"; fail "$call:$n: it does not serve"; }
            served=$((served + 1))
        else
            refused=$((refused + 1))
            [ "$call" = memory ] || grep -qE " error |^thalwegd: " "$WORK/thalwegd" || { cat "$WORK/thalwegd"; fail "$call:$n: it ended and did not say why"; }
        fi
        ends "$call:$n"
        [ -f "$WORK/nth" ] || break
        n=$((n + STEP))
    done
done
echo "ok: $runs times a call failed: $served times it served, $refused times it said why it can't start"

SMALL=$(mktemp -d) # gone with our namespace
mount -t tmpfs -o size=4k small "$SMALL"
head -c 4096 /dev/zero >"$SMALL/full" 2>/dev/null
rm -rf "$WORK/state"
ln -s "$SMALL" "$WORK/state"
serve X=1 || { cat "$WORK/thalwegd"; fail "it does not start where the disk is full"; }
asks || { cat "$WORK/thalwegd" "$WORK/one"; fail "the disk is full"; }
grep -q "cannot be kept" "$WORK/thalwegd" || { cat "$WORK/thalwegd"; fail "the disk is full, and it does not say so"; }
ends "the disk is full"
echo "ok: where the disk is full it serves, and says what will not last"

rm "$WORK/state"
umount "$SMALL"
rmdir "$SMALL"
serve X=1 || fail "it does not start"
"$T" turn -u user -w pass --no-throughput --pings 200 $AT >"$WORK/long" 2>&1 &
long=$!
wait_for 5 grep -q "permission and channel" "$WORK/long" || { cat "$WORK/long"; fail "no traffic"; }
kill -STOP $SERVER
sleep 1.5
kill -CONT $SERVER
wait $long
grep -qE "(1[5-9][0-9]|200) of 200 answered" "$WORK/long" || { cat "$WORK/long"; fail "stopped for a while"; }
asks || { cat "$WORK/thalwegd" "$WORK/one"; fail "after it was stopped"; }
ends "after it was stopped"
echo "ok: stopped for a while, it goes on"
