#!/bin/bash
# The n-th system call of each kind, or allocation, fails in the program that dials, or in the one that listens: for each n, up to
# $MOST. Neither crashes or hangs; what arrives is right or it is said that something failed; and who listens serves the next one.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
T=$BUILD/thalweg MOST=${MOST:-3} STEP=${STEP:-1}
nm "$T" | grep -q __asan_init && { echo "SKIP: AddressSanitizer has its own malloc"; exit 77; }
. "$HERE/here.sh"
"${THALWEGD[@]}" >"$WORK/thalwegd" 2>&1 &
SERVER=$!
url=$(url_of "$WORK/thalwegd") || { echo "$url"; exit 1; }
thalweg() { # NAME ARG...
    name=$1
    shift
    env XDG_CONFIG_HOME="$WORK/home-$name" "$@"
}
key=$(thalweg a "$T" id)
address=$(thalweg b "$T" id -s "$url")
head -c 200000 /dev/urandom >"$WORK/file"
listen() { # ENVIRONMENT...
    rm -f "$WORK/listen" # an old one says online, too
    env XDG_CONFIG_HOME="$WORK/home-b" "$@" "$T" listen --echo --json --no-port-mapping --no-lan --allow "$key" -s "$url" >"$WORK/listen" 2>&1 &
    LISTENER=$!
}
ends_well() { # STATUS WHO WHAT: by no signal but ours
    case $1 in
    13[4-9] | 14[0-2] | 124) cat "$WORK/listen" "$WORK/a"; fail "$3: $2 ended with $1" ;;
    esac
}
dial() { # ENVIRONMENT...: 0 if all came back
    thalweg a timeout -s KILL 30 env "$@" "$T" connect --json --no-port-mapping --no-lan -s "$url" "$address" <"$WORK/file" >"$WORK/back" 2>"$WORK/a"
    status=$?
    [ $status != 137 ] || { cat "$WORK/a"; fail "$*: it hangs"; }
    ends_well $status "who dials" "$*"
    cmp -s "$WORK/file" "$WORK/back"
}

# What nth.so can make fail; memory is what it calls malloc, calloc and realloc. Without pthread_create(), as libuv ends a program that
# can't have its pool of threads.
calls=${CALLS:-$(nm -D --defined-only "$NTH_SO" | awk '$2 == "T" { print $3 }' | grep -vxE '.*alloc|pthread_create') memory}
runs=0 survived=0 listeners=0 went_on=0
for call in $calls; do
    n=1
    listen X=1
    wait_for 8 grep -q '"online"' "$WORK/listen" || fail "not online"
    while [ $n -le "$MOST" ]; do # in who dials
        rm -f "$WORK/nth"
        runs=$((runs + 1))
        if dial LD_PRELOAD="$NTH_SO" NTH="$call:$n" NTH_LOG="$WORK/nth"; then
            survived=$((survived + 1))
        else
            grep -qE '"event":"(closed|failed|error)"|thalweg: ' "$WORK/a" || [ "$call" = memory ] || { cat "$WORK/a"; fail "$call:$n failed, and nothing was said"; }
        fi
        [ -f "$WORK/nth" ] || break # there are no more of that
        n=$((n + STEP))
    done
    kill $LISTENER
    wait $LISTENER 2>/dev/null
    ends_well $? "who listens" "$call in who dials"
    n=1
    while [ $n -le "$MOST" ]; do # in who listens; then it serves
        rm -f "$WORK/nth"
        listeners=$((listeners + 1))
        listen LD_PRELOAD="$NTH_SO" NTH="$call:$n" NTH_LOG="$WORK/nth"
        for i in $(seq 50); do
            grep -q '"online"' "$WORK/listen" && break
            kill -0 $LISTENER 2>/dev/null || break
            sleep 0.1
        done
        if kill -0 $LISTENER 2>/dev/null && ! grep -q '"online"' "$WORK/listen"; then # a library may be without use (GnuTLS's first allocations)
            grep -qE '"offline"|thalweg: ' "$WORK/listen" || { cat "$WORK/listen"; fail "$call:$n in who listens: it is not online, and says nothing"; }
            kill $LISTENER
        elif kill -0 $LISTENER 2>/dev/null; then
            # It may have to go to its server again.
            dial X=1 || { sleep 2; dial X=1; } || { cat "$WORK/a" "$WORK/listen"; fail "$call:$n in who listens: it does not serve"; }
            went_on=$((went_on + 1))
            kill $LISTENER
        fi
        wait $LISTENER 2>/dev/null
        ends_well $? "who listens" "$call:$n"
        [ -f "$WORK/nth" ] || break
        n=$((n + STEP))
    done
done
kill $SERVER
echo "$runs times a call failed in who dials: $survived went through, the others said why; $listeners times in who listens: $went_on served all the same, the others said why they can't start"
