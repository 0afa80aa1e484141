#!/bin/bash
# Two machines on one link, without any server, or with one that never answers: they find each other by multicast.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
T=$BUILD/thalweg
host a
host b
ip link add va netns a type veth peer name vb netns b
for n in a:1 b:2; do
    ip -n "${n%:*}" addr add "192.168.7.${n#*:}/24" dev "v${n%:*}"
    ip -n "${n%:*}" link set "v${n%:*}" up
    ip -n "${n%:*}" route add default via 192.168.7.9 # where nobody is: a server there never answers
done
as() {
    who=$1
    shift
    ip netns exec "$who" env XDG_CONFIG_HOME="$WORK/home-$who" "$@"
}
listen() {
    rm -f "$WORK/listen"
    ip netns exec b env XDG_CONFIG_HOME="$WORK/home-b" "$T" listen --echo --json --no-port-mapping "$@" >"$WORK/listen" 2>&1 &
    listener=$!
}
stop() {
    kill "$1"
    wait "$1" 2>/dev/null
}
key=$(as b "$T" id)
head -c 3000000 /dev/urandom >"$WORK/file"

listen --allow "$(as a "$T" id)"
wait_for 5 grep -q '"online","server":"lan"' "$WORK/listen" || { cat "$WORK/listen"; fail "nobody can find b"; }
as a timeout 10 "$T" connect --json --no-port-mapping "$key" <"$WORK/file" >"$WORK/back" 2>"$WORK/a" || { cat "$WORK/a" "$WORK/listen"; fail "no server"; }
cmp -s "$WORK/file" "$WORK/back" || fail "what came back is not what was sent"
echo "ok: without a server: first byte back after $(sed -n 's/.*"first_byte".*"ms":\([0-9.]*\).*/\1/p' "$WORK/a") ms of the process's life"
as a timeout 10 "$T" connect --no-port-mapping "$(as a "$T" id --key "$WORK/nobody")" </dev/null 2>"$WORK/a"
[ $? = 3 ] && grep -q "nobody in this network" "$WORK/a" || { cat "$WORK/a"; fail "nobody has that key"; }
as a timeout 10 "$T" connect --no-lan "$key" </dev/null 2>"$WORK/a"
[ $? = 5 ] && grep -q "which server" "$WORK/a" || { cat "$WORK/a"; fail "--no-lan"; }
stop "$listener"

# Both name a server, which never answers.
listen --allow "$(as a "$T" id)" -s 203.0.114.9
sleep 1
echo hello | as a timeout 10 "$T" connect --json --no-port-mapping "$key@203.0.114.9" >"$WORK/back" 2>"$WORK/a" || { cat "$WORK/a" "$WORK/listen"; fail "a server that does not answer"; }
grep -q hello "$WORK/back" || fail "what came back by way of no server"
echo "ok: the server does not answer: first byte back after $(sed -n 's/.*"first_byte".*"ms":\([0-9.]*\).*/\1/p' "$WORK/a") ms"
stop "$listener"

# Who is unlisted is found by an invite only; and who listens with --no-lan not at all.
invite=$(as b "$T" invite new 2>/dev/null)
listen --unlisted
wait_for 5 grep -q '"online","server":"lan"' "$WORK/listen" || { cat "$WORK/listen"; fail "nobody can find b by its invite"; }
as a timeout 10 "$T" connect --no-port-mapping "$key" </dev/null 2>"$WORK/a"
[ $? = 3 ] || { cat "$WORK/a"; fail "unlisted, but found by its key"; }
echo hello | as a timeout 10 "$T" connect --no-port-mapping "$invite" 2>"$WORK/a" | grep -q hello || { cat "$WORK/a" "$WORK/listen"; fail "by an invite"; }
stop "$listener"
as b timeout 5 "$T" listen --no-lan --echo --allow-any 2>"$WORK/a"
[ $? = 5 ] || { cat "$WORK/a"; fail "to listen where nobody can find it"; }

# Files, by an invite that names no server.
as a timeout 30 "$T" send --json --no-port-mapping --invite "$WORK/file" >"$WORK/send" 2>&1 &
sender=$!
wait_for 5 grep -q '"online"' "$WORK/send" || { cat "$WORK/send"; fail "send --invite"; }
mkdir "$WORK/got"
as b timeout 10 "$T" receive --no-port-mapping --dir "$WORK/got" "$(sed -n 's/.*"invite":"\([^"]*\)".*/\1/p' "$WORK/send")" 2>"$WORK/b" ||
    { cat "$WORK/b" "$WORK/send"; fail "receive"; }
wait "$sender" || fail "send"
cmp -s "$WORK/file" "$WORK/got/file" || fail "the file"
echo "ok: unlisted, by an invite; files"
