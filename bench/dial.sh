#!/bin/bash
# How soon a warm endpoint reaches another one: 40 ms round trip between any two parties, through NATs of several
# kinds (tests/lab/labnet). In round trips, from the call of dial: early data at the peer, the first byte of an
# ordinary stream at the peer, and the first direct path in use on the caller's side.
# usage: bench/dial.sh [RUNS]; BUILD names the build directory.
HERE=$(dirname "$0")
BUILD=${BUILD:-$HERE/../build}
export BUILD
. "$HERE/../tests/lab/namespaces.sh"
enter_lab "$@"
. "$HERE/../tests/interop/lib.sh"
. "$HERE/../tests/lab/labnet.sh"
. "$HERE/../tests/lab/proxies.sh"
RUNS=${1:-10}

# report NAME: what the two wrote down.
report() {
    awk -v n="$1" 'function stats(name, t, k,   i, j, x) {
            for (i = 2; i <= k; i++) for (j = i; j > 1 && t[j-1] > t[j]; j--) { x = t[j]; t[j] = t[j-1]; t[j-1] = x }
            return k ? sprintf("%.2f (%.2f to %.2f, %d)", t[int((k + 1) / 2)], t[1], t[k], k) : "never" }
        FNR == NR { if ($1 == "early") early[$3] = $2; if ($1 == "early") now = $3; if ($1 == "byte") byte[now] = $2; next }
        $1 == "dial" { run = $3; at[run] = $2 }
        $1 == "path" && ($3 ~ /^(udp|stun|tcp|http|https)$/) && !(run in direct) { direct[run] = $2 }
        END { for (r in at) { if (r in early) e[++en] = (early[r] - at[r]) / 40
                              if (r in byte) b[++bn] = (byte[r] - at[r]) / 40
                              if (r in direct) d[++dn] = (direct[r] - at[r]) / 40 }
              printf "%-38s %-22s %-22s %s\n", n, stats("", e, en), stats("", b, bn), stats("", d, dn) }' "$WORK/b" "$WORK/a"
}
printf '%-38s %-22s %-22s %s\n' "networks" "early data" "first byte" "direct path (round trips: median, lowest to highest)"
while read -r left right where; do
    OPEN="s=203.0.114.1,203.0.114.2 p=203.0.114.3${where:+:0}" # the proxy is on the way, or it is as far as everybody
    nat=$left SERVE='' SQUID='' SQUID_PORT=''
    if [ "$left" = requests ]; then # a proxy that opens TLS and lets no WebSocket through: single requests
        [ -x "$CERTGEN" ] || { echo "$left: there is no squid that opens TLS"; continue; }
        make_cert server IP:203.0.114.1,DNS:203.0.114.1
        inspector deny
        nat=proxied SERVE="--cert $WORK/server.pem --pkey $WORK/server.key"
    fi
    lab_up 10 "$nat" "$right"
    unset https_proxy
    proxied=
    if [ "$nat" = proxied ]; then
        have squid || { lab_down; continue; }
        squid_up
        proxied=https_proxy=http://203.0.114.3:3128
    fi
    server=$RENDEZVOUS
    ip netns exec b "$BUILD/dialbench" listen "$server" >"$WORK/b" 2>&1 &
    listener=$!
    wait_for 5 grep -q online "$WORK/b" || { cat "$WORK/b"; fail "b"; }
    address=$(sed -n 's/^address [0-9.]* //p' "$WORK/b")
    timeout $((RUNS * 6 + 20)) ip netns exec a env $proxied "$BUILD/dialbench" dial "$server" "$address" "$RUNS" >"$WORK/a" 2>&1
    name="$left${where:+ ($where)} $right"
    report "$name"
    # Cold: from main() of a new process, with the server of its own that the other is at, or without one.
    for own in "$server" -; do
        : >"$WORK/a"
        for run in $(seq "$RUNS"); do
            timeout 20 ip netns exec a env $proxied "$BUILD/dialbench" cold $own "$address" $((100 + run)) >>"$WORK/a" 2>&1
        done
        report "$name, cold$([ "$own" = - ] && echo ", no server")"
    done
    kill $listener
    wait $listener 2>/dev/null
    [ -z "$proxied" ] || squid_down
    lab_down
done <<'PAIRS'
- -
I/AP/keep -
I/AP/keep I/AP/keep
I/A/random I/AP/keep
AP/AP/seq I/AP/keep
blocked I/AP/keep
AP/AP/random AP/AP/random
web -
web I/AP/keep
tls -
tls web
proxied -
proxied - near
proxied tls near
requests - near
requests I/AP/keep near
PAIRS
