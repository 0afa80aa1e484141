#!/bin/bash
# Names: SRV with priorities and its own port, then A; a name without SRV; one that is not there.
# A DNS server made here answers, in a network namespace of its own.
set -u
HERE=$(dirname "$0")
if [ -z "${IN_LAB:-}" ]; then
    how="--net --mount"
    [ "$(id -u)" = 0 ] || how="--user --map-root-user $how"
    # shellcheck disable=SC2086
    unshare $how true 2>/dev/null || { echo "SKIP: namespaces are not allowed here"; exit 77; }
    export IN_LAB=1
    # shellcheck disable=SC2086
    exec unshare $how "$0"
fi
. "$HERE/../interop/lib.sh"
ip link set lo up
echo "nameserver 127.0.0.1" >"$WORK/resolv.conf"
mount --bind "$WORK/resolv.conf" /etc/resolv.conf || fail "mount"
start_thalwegd -m 1
PORT=$PORT python3 - >"$WORK/dns.log" 2>&1 <<'PY' &
import os, socket, struct
port = int(os.environ["PORT"])
def name(n): return b"".join(bytes([len(p)]) + p.encode() for p in n.split(".")) + b"\0"
def srv(priority, port, target): return struct.pack(">HHH", priority, 1, port) + name(target)
A, SRV = 1, 33
zone = {("_stun._udp.example.test", SRV): [srv(20, 9, "backup.test"), srv(10, port, "first.test")],
        ("_turn._udp.example.test", SRV): [srv(10, port, "first.test")],
        ("_stun._udp.none.test", SRV): [srv(0, 0, "")[:6] + b"\0"],
        ("first.test", A): [bytes([127, 0, 0, 1])],
        ("backup.test", A): [bytes([127, 0, 0, 2])],
        ("plain.test", A): [bytes([127, 0, 0, 1])]}
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    q, who = s.recvfrom(512)
    at, labels = 12, []
    while q[at]:
        labels.append(q[at + 1:at + 1 + q[at]].decode())
        at += 1 + q[at]
    kind = struct.unpack(">H", q[at + 1:at + 3])[0]
    full = ".".join(labels).lower()
    found = zone.get((full, kind), [])
    known = any(n == full for n, _ in zone)
    print(full, kind, len(found), flush=True)
    out = q[:2] + struct.pack(">HHHHH", 0x8180 | (0 if known else 3), 1, len(found), 0, 0) + q[12:at + 5]
    for data in found:
        out += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
    s.sendto(out, who)
PY
PIDS="$PIDS $!"
wait_for 10 grep -q ready "$WORK/dns.log" || { cat "$WORK/dns.log"; fail "no DNS server"; }
check() { # what, expected exit status, command...
    what=$1 want=$2
    shift 2
    "$@" >"$WORK/out" 2>&1
    got=$?
    [ $got = "$want" ] || { cat "$WORK/out" "$WORK/dns.log"; fail "$what: exit status $got"; }
    echo "ok: $what"
}
check "stun: by SRV, its port, the better priority first" 0 "$BUILD/thalweg" stun stun:example.test
grep -q "127.0.0.1:$PORT" "$WORK/out" || { cat "$WORK/out"; fail "the wrong server was asked"; }
check "turn: by SRV" 0 "$BUILD/thalweg" turn -u user -w pass --no-throughput turn:example.test
check "a port in the URI: no SRV" 0 "$BUILD/thalweg" stun "stun:plain.test:$PORT"
grep -q "_stun._udp.plain.test" "$WORK/dns.log" && fail "SRV was asked for"
check "no such name" 1 "$BUILD/thalweg" stun stun:missing.test
grep -q "no such name" "$WORK/out" || { cat "$WORK/out"; fail "it does not say so"; }
check "a name that offers no such service" 1 "$BUILD/thalweg" stun --timeout 200 stun:none.test
