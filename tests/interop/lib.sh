# What the interop tests share. Sourced; expects BUILD to be the build directory.
set -u
WORK=$(mktemp -d)
PIDS=

cleanup() {
    for p in $PIDS; do
        kill "$p" 2>/dev/null
    done
    for p in $PIDS; do
        wait "$p" 2>/dev/null
    done
    rm -rf "$WORK"
}
trap cleanup EXIT

fail() {
    echo "FAILED: $*"
    exit 1
}

need() {
    for program in "$@"; do
        command -v "$program" >/dev/null || {
            echo "SKIP: $program is not installed; tools/bootstrap test installs it"
            exit 77
        }
    done
}

# start_thalwegd [options]: a relay on loopback, its port in $PORT.
start_thalwegd() {
    "$BUILD/thalwegd" -L 127.0.0.1 -E 127.0.0.1 -E ::1 -p 0 -u user:pass -r realm \
        --allow-loopback-peers "$@" >"$WORK/thalwegd.log" 2>&1 &
    PIDS="$PIDS $!"
    for _ in $(seq 100); do
        PORT=$(sed -n 's/.*listening on udp 127.0.0.1:\([0-9]*\).*/\1/p' "$WORK/thalwegd.log")
        [ -n "$PORT" ] && return
        sleep 0.05
    done
    cat "$WORK/thalwegd.log"
    fail "thalwegd did not start"
}
