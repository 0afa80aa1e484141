#!/bin/bash
# How a server ends: drained, killed in the middle of traffic, replaced by a successor while it relays.
. "$(dirname "$0")/../interop/lib.sh"
T="$BUILD/thalweg"
traffic() { # NAME URI more...: 250 echoes, five seconds
    : >"$WORK/$1"
    "$T" turn --insecure -u user -w pass --no-throughput --pings 250 "${@:3}" "$2" >"$WORK/$1" 2>&1 &
}
flows() { # NAME: such traffic has begun
    wait_for 5 grep -q "permission and channel" "$WORK/$1" || { cat "$WORK/$1" "$WORK/thalwegd.log"; fail "no traffic: $1"; }
}

# --- drain
start_thalwegd -m 2 --drain-timeout 20
traffic one "127.0.0.1:$PORT"
one=$!
flows one
kill -TERM "$SERVER"
wait_for 5 grep -q "no new allocations; waiting up to 20 s for 2 to end" "$WORK/thalwegd.log" || { cat "$WORK/thalwegd.log"; fail "no drain"; }
timeout 10 "$T" turn -u user -w pass --no-throughput "127.0.0.1:$PORT" >"$WORK/two" 2>&1 && fail "an allocation while draining"
grep -q "(508 " "$WORK/two" || { cat "$WORK/two"; fail "not 508 while draining"; }
wait $one || { cat "$WORK/one"; fail "traffic while draining"; }
grep -q "250 of 250 answered" "$WORK/one" || { cat "$WORK/one"; fail "packets lost while draining"; }
wait_for 3 bash -c "! kill -0 $SERVER" || fail "it is empty and does not end"
echo "ok: drains"

start_thalwegd -m 2
traffic one "127.0.0.1:$PORT"
flows one
kill -TERM "$SERVER"
sleep 0.3
kill -TERM "$SERVER"
wait_for 3 bash -c "! kill -0 $SERVER" || fail "a second SIGTERM does not end it"
echo "ok: a second SIGTERM ends it"

# --- killed and started again under load, on the same port
start_thalwegd -m 2
was=$PORT
traffic one "127.0.0.1:$PORT"
flows one
kill -KILL "$SERVER"
sleep 0.2
pgrep -f "thalwegd.*$WORK" >/dev/null && fail "the helper outlives its server"
start_thalwegd -m 2 -p "$was"
timeout 20 "$T" turn -u user -w pass --no-throughput "127.0.0.1:$was" >"$WORK/two" 2>&1 || { cat "$WORK/two"; fail "no service after kill -9"; }
kill -TERM "$SERVER"
echo "ok: kill -9 and start again"

# --- sockets from systemd, and telling it
python3 - "$BUILD/thalwegd" "$WORK" <<'PY' || fail "sockets from systemd"
import os, socket, subprocess, sys, time
binary, work = sys.argv[1:]
udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
port = 0
for s in udp + [tcp]:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", port))
    port = s.getsockname()[1]
tcp.listen(16)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(work + "/notify")
notify.settimeout(10)
sandbox = ["--no-sandbox"] if b"__asan_init" in open(binary, "rb").read() else []
pid = os.fork()
if pid == 0:
    high = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(udp + [tcp])]
    for i, fd in enumerate(high):
        os.dup2(fd, 3 + i)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="3", NOTIFY_SOCKET=work + "/notify")
    os.execv(binary, [binary, "-L", "127.0.0.1", "-E", "127.0.0.1", "-p", str(port), "--tls-listening-port", "0",
                      "-u", "user:pass", "-r", "realm", "-m", "2"] + sandbox)
said = notify.recv(200).decode()
assert said.startswith("READY=1") and f"MAINPID={pid}" in said, said
for s in udp + [tcp]:
    s.close()
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(2)
for i in range(20):  # whichever of the two sockets it is
    c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    c.settimeout(2)
    c.sendto(b"\0\1\0\0\x21\x12\xa4\x42" + os.urandom(12), ("127.0.0.1", port))
    assert c.recv(100)[:2] == b"\1\1"
os.kill(pid, 15)
assert notify.recv(200) == b"STOPPING=1"
assert os.waitpid(pid, 0)[1] == 0
PY
echo "ok: sockets from systemd, and it is told"

# --- a successor takes over
start_thalwegd -m 2 --drain-timeout 30 --pidfile "$WORK/pid"
old=$SERVER
traffic udp "127.0.0.1:$PORT"
a=$!
traffic tls "turns:127.0.0.1:$PORT"
b=$!
traffic dtls "turns:127.0.0.1:$PORT?transport=udp"
c=$!
"$T" turn --tcp-relay --seconds 5 -u user -w pass "turn:127.0.0.1:$PORT?transport=tcp" >"$WORK/tcp" 2>&1 &
e=$!
for name in udp tls dtls; do
    flows $name
done
wait_for 5 grep -q "echo through the TCP connection" "$WORK/tcp" || { cat "$WORK/tcp"; fail "no TCP relaying"; }
kill -USR2 "$old"
wait_for 10 grep -q "the successor works" "$WORK/thalwegd.log" || { cat "$WORK/thalwegd.log"; fail "no successor"; }
wait_for 5 bash -c "[ \"\$(cat $WORK/pid)\" != $old ]" || fail "the pid file is the old one's"
new=$(cat "$WORK/pid")
PIDS="$PIDS $new"
kill -0 "$old" || fail "the old one ended with live allocations"
# New clients are the successor's, at once; also between a new and an old allocation.
for uri in "127.0.0.1:$PORT" "turn:127.0.0.1:$PORT?transport=tcp" "turns:127.0.0.1:$PORT" "turns:127.0.0.1:$PORT?transport=udp"; do
    timeout 20 "$T" turn --insecure -u user -w pass --no-throughput --pings 5 "$uri" >"$WORK/two" 2>&1 || { cat "$WORK/two"; fail "a new client during the take-over: $uri"; }
done
for job in $a $b $c $e; do
    wait "$job" || { cat "$WORK/udp" "$WORK/tls" "$WORK/dtls" "$WORK/tcp"; fail "old clients through the take-over"; }
done
for name in udp tls dtls; do
    grep -q "250 of 250 answered" "$WORK/$name" || { cat "$WORK/$name"; fail "packets lost over $name"; }
done
grep -q "throughput: [1-9]" "$WORK/tcp" || { cat "$WORK/tcp"; fail "TCP relaying stopped"; }
wait_for 5 bash -c "! kill -0 $old" || fail "the old one is empty and does not end"
wait_for 5 grep -q "the server before this one has ended" "$WORK/thalwegd.log" || fail "the successor does not notice"
timeout 20 "$T" turn -u user -w pass --no-throughput "127.0.0.1:$PORT" >"$WORK/two" 2>&1 || { cat "$WORK/two"; fail "after the take-over"; }
kill -TERM "$new"
wait_for 5 bash -c "! kill -0 $new" || fail "the successor does not end"
echo "ok: a successor took over in the middle of UDP, TLS, DTLS and TCP relaying, nothing lost"

# --- the successor is killed while the old one still waits for an allocation: both end, and the next server can start
start_thalwegd -m 2 --pidfile "$WORK/pid"
was=$PORT
old=$SERVER
traffic one "127.0.0.1:$was"
one=$!
flows one
kill -USR2 "$old"
wait_for 10 grep -q "the successor works" "$WORK/thalwegd.log" || { cat "$WORK/thalwegd.log"; fail "no successor"; }
wait_for 5 bash -c "[ \"\$(cat $WORK/pid)\" != $old ]" || fail "the pid file is the old one's"
kill -0 "$old" || fail "the old one ended with live allocations"
kill -KILL "$(cat "$WORK/pid")"
wait_for 3 bash -c "! kill -0 $old" || { cat "$WORK/thalwegd.log"; fail "the old one stays without its successor"; }
start_thalwegd -m 2 -p "$was"
kill -TERM "$SERVER"
kill $one
echo "ok: a successor that is killed takes the old one with it"
