# What the interop and lab tests share. Sourced; expects BUILD to be the build directory.
set -u
WORK=$(mktemp -d)
chmod 755 "$WORK" # a server that has become somebody else writes there
export XDG_RUNTIME_DIR=$WORK/run
mkdir -m 700 "$XDG_RUNTIME_DIR"
PIDS=
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=1"

cleanup() {
    # The first TERM makes a server of ours drain, the second ends it; who does not, is killed.
    for signal in TERM TERM; do
        # shellcheck disable=SC2086
        [ -z "$PIDS" ] || kill -$signal $PIDS 2>/dev/null
        sleep 0.1
    done
    (sleep 5 && kill -KILL $PIDS) 2>/dev/null &
    killer=$!
    for p in $PIDS; do
        wait "$p" 2>/dev/null
    done
    kill $killer 2>/dev/null
    if grep -D skip -lE 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$WORK"/* 2>/dev/null; then
        grep -D skip -hE -A 20 'Sanitizer|runtime error:' "$WORK"/* | head -60
        rm -rf "$WORK"
        echo "FAILED: a sanitizer found something"
        exit 1
    fi
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

# wait_for SECONDS command...: until it succeeds.
wait_for() {
    tries=$(($1 * 20))
    shift
    for _ in $(seq "$tries"); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    return 1
}

# start_server LOG [options]: thalwegd with just these options and a port of its own; it is $SERVER,
# its port is $PORT, UDP and TCP. None is at the default ports, not even of TLS: other tests run beside it.
start_server() {
    log=$1
    shift
    # libmicrohttpd and the helper make threads and processes that LeakSanitizer cannot stop under
    # seccomp: where it is built in, the sandbox stays off.
    sandbox=
    nm "$BUILD/thalwegd" 2>/dev/null | grep -q __asan_init && sandbox=--no-sandbox
    : >"$log" # now, not when the server gets to run: or the port of the one before is read
    "$BUILD/thalwegd" -p 0 --tls-listening-port 0 $sandbox "$@" >"$log" 2>&1 &
    SERVER=$!
    PIDS="$PIDS $SERVER"
    PORT=
    for _ in $(seq 200); do
        PORT=$(sed -n 's/.*listening on \(udp\|tcp\) 127.0.0.1:\([0-9]*\).*/\2/p' "$log" | head -1)
        [ -n "$PORT" ] && return
        sleep 0.05
    done
    cat "$log"
    fail "thalwegd did not start"
}

# start_thalwegd [options]: a relay on loopback for user:pass, its log in $WORK/thalwegd.log.
start_thalwegd() {
    start_server "$WORK/thalwegd.log" -L 127.0.0.1 -E 127.0.0.1 -E ::1 -u user:pass -r realm \
        --allow-loopback-peers "$@"
}

# own_address: $IP is this machine's own IPv4 address.
# start_outside [options]: a relay on this machine's own address, which WebRTC needs (it does not use loopback):
# UDP on $IP:$PORT, TCP and TLS on $IP:$TCP.
own_address() {
    IP=$(ip -4 -o addr show scope global 2>/dev/null | awk '{ split($4, a, "/"); print a[1]; exit }')
    [ -n "$IP" ] || { echo "SKIP: this machine has no address but loopback, which WebRTC does not use"; exit 77; }
}
start_outside() {
    own_address
    start_server "$WORK/log" -L 127.0.0.1 -L "$IP" -E "$IP" -u user:pass -r realm --no-rfc5780 -m 2 "$@"
    wait_for 5 grep -q "listening on tcp $IP" "$WORK/log"
    PORT=$(sed -n "s/.*listening on udp $IP:\([0-9]*\).*/\1/p" "$WORK/log" | head -1)
    TCP=$(sed -n "s/.*listening on tcp $IP:\([0-9]*\).*/\1/p" "$WORK/log" | head -1)
}

# start_coturn [options]: coturn's server on loopback for user:pass, plain on $PORT, TLS and DTLS on
# $TLS_PORT; start_coturn_outside: the same on $IP.
start_coturn() {
    start_coturn_on 127.0.0.1 "$@"
}
start_coturn_outside() {
    start_coturn_on "$IP" "$@"
}
start_coturn_on() {
    at=$1
    shift
    PORT=$((20000 + $$ % 10000))
    TLS_PORT=$((PORT + 10000))
    make_cert "$WORK/coturn"
    turnserver -n -L "$at" -E "$at" -p "$PORT" --tls-listening-port "$TLS_PORT" \
        --cert "$WORK/coturn.pem" --pkey "$WORK/coturn.key" -u user:pass -r realm -a \
        --allow-loopback-peers --no-cli --pidfile "$WORK/pid" --log-file "$WORK/log" -m 1 "$@" \
        >"$WORK/out" 2>&1 &
    PIDS="$PIDS $!"
    wait_for 10 "$BUILD/thalweg" stun --timeout 200 "$at:$PORT" ||
        { cat "$WORK/out"; fail "no answer from coturn"; }
}

# make_cert PATH: PATH.pem and PATH.key, for localhost and 127.0.0.1, signed by itself.
make_cert() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" \
        -out "$1.pem" -days 2 -subj /CN=localhost -addext "basicConstraints=critical,CA:TRUE" \
        -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" 2>/dev/null || fail "no certificate"
    chmod 600 "$1.key"
}

# ice_pair NAME "OUR OPTIONS" KIND command...: our agent and another one, which echoes, exchange
# descriptions and 50 messages each way; the first may come before the other can answer. KIND: what the path must be: direct, relayed, "direct over TCP".
ice_pair() {
    local name=$1 options=$2 kind=$3 other status
    shift 3
    rm -f "$WORK/to" "$WORK/from"
    mkfifo "$WORK/to" "$WORK/from"
    timeout 40 "$@" <"$WORK/to" >"$WORK/from" 2>"$WORK/peer" &
    other=$!
    # shellcheck disable=SC2086
    timeout 40 "$BUILD/thalweg" ice --no-port-mapping --pings 50 $options >"$WORK/to" <"$WORK/from" 2>"$WORK/ours"
    status=$?
    kill "$other" 2>/dev/null
    wait "$other" 2>/dev/null
    if [ $status != 0 ] || ! grep -qE "^(49|50) of 50" "$WORK/ours" || ! grep -q "^path: $kind," "$WORK/ours"; then
        cat "$WORK/ours"
        echo "--- the other:"
        tail -20 "$WORK/peer"
        fail "$name"
    fi
    echo "ok: $name: $(grep -o 'connected after.*' "$WORK/ours" | head -1)"
}
