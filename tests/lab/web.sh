#!/bin/bash
# Networks that allow nothing but the web: some ports, what looks like TLS, a proxy (squid, tinyproxy), a proxy that opens
# TLS; and servers behind nginx and haproxy. 40 ms between any two.
HERE=$(dirname "$0")
. "$HERE/namespaces.sh"
enter_lab "$@"
. "$HERE/../interop/lib.sh"
. "$HERE/labnet.sh"
. "$HERE/proxies.sh"
T=$BUILD/thalweg
SIZE=1000000
head -c $SIZE /dev/urandom >"$WORK/file"

# meet NAT-A NAT-B WANTED-RUNG-REGEX [SERVER-NUMBER] ; $A, $B: options of the two
meet() {
    lab_up 10 "$1" "$2"
    server=$RENDEZVOUS${WRONG_PIN:-}
    [ -z "${BEFORE:-}" ] || $BEFORE
    address=$(as b "$T" id -s "$server")
    key_a=$(as a "$T" id)
    rm -f "$WORK/listen"
    # shellcheck disable=SC2086
    ip netns exec b env XDG_CONFIG_HOME="$WORK/home-b" "$T" listen --echo --json --web --no-port-mapping --no-lan --allow "$key_a" -s "$server" ${B:-} >"$WORK/listen" 2>&1 9>&- &
    listener=$!
    wait_for 8 grep -q '"online"' "$WORK/listen" || { cat "$WORK/listen"; fail "$1 and $2: b does not come online"; }
    sleep 0.5 # it is warm: it has its relay
    case $3 in *http*) pause=2 ;; *) pause=1 ;; esac # a relay is found while the rendezvous carries, and a direct way while a relay does
    # shellcheck disable=SC2086
    { sleep $pause; cat "$WORK/file"; } |
        as a timeout 40 "$T" connect --json --web --no-port-mapping --no-lan -s "$server" ${A:-} "$address" >"$WORK/back" 2>"$WORK/a" ||
        { cat "$WORK/a" "$WORK/listen"; fail "$1 and $2: connect"; }
    cmp -s "$WORK/file" "$WORK/back" || { cat "$WORK/a"; fail "$1 and $2: what came back is not what was sent"; }
    rung=$(sed -n 's/.*"event":"path".*"rung":"\([a-z]*\)".*/\1/p' "$WORK/a" | tail -1)
    echo "$rung" | grep -qE "^($3)$" || { cat "$WORK/a"; fail "$1 and $2: the way is $rung"; }
    echo "ok: $1 and $2${4:+, $4}: $rung, ready after $(sed -n 's/.*"event":"connected".*"ms":\([0-9.]*\).*/\1/p' "$WORK/a") ms"
    kill "$listener"
    wait "$listener" 2>/dev/null
    [ -z "${THEN:-}" ] || $THEN
    [ -z "${AFTER:-}" ] || $AFTER
    lab_down
}

# (All pairs of networks: matrix.sh, from a cold start. Here they are warm.)
meet tls - https
meet - tls https
meet web - http
meet - web http
meet tls web relay
alpn() {
    for name in http/1.1 stun.turn; do
        echo | ip netns exec a openssl s_client -connect 203.0.114.1:443 -alpn $name 2>/dev/null | grep -q "ALPN protocol: $name" || fail "no ALPN $name at 443"
    done
    as a "$T" turn -u user -w pass --insecure --no-throughput "turns:203.0.114.1:443?transport=tcp" >"$WORK/turn" 2>&1 || { cat "$WORK/turn"; fail "TURN at 443"; }
    echo "ok: one port is HTTPS and TURN over TLS, also by ALPN"
}
THEN=alpn meet web I/AP/keep relay
if have squid; then
    BEFORE=squid_up AFTER=squid_down
    A="--proxy http://203.0.114.3:3128" meet proxied - https "squid"
    A="--proxy http://203.0.114.3:3128" meet proxied I/AP/keep relay "squid"
    # With a name and password, Basic and Digest; without, it is said what is missing.
    printf 'me:secret word\n' >"$WORK/plain-users"
    echo "me:$(openssl passwd -apr1 'secret word')" >"$WORK/users"
    chmod 755 "$WORK"
    chmod 644 "$WORK/users" "$WORK/plain-users"
    login="acl known proxy_auth REQUIRED
http_access deny !known"
    SQUID="auth_param basic program /usr/lib/squid/basic_ncsa_auth $WORK/users
auth_param basic realm lab
$login" A="--proxy http://me:secret%20word@203.0.114.3:3128" meet proxied I/AP/keep relay "squid with Basic"
    SQUID="auth_param digest program /usr/lib/squid/digest_file_auth $WORK/plain-users
auth_param digest realm lab
auth_param digest nonce_max_count 50
$login" A="--proxy http://me:secret%20word@203.0.114.3:3128" meet proxied I/AP/keep relay "squid with Digest"
    lab_up 10 proxied I/AP/keep
    SQUID="auth_param basic program /usr/lib/squid/basic_ncsa_auth $WORK/users
auth_param basic realm lab
$login"
    squid_up
    address=$(as b "$T" id -s "$RENDEZVOUS")
    as a timeout 25 "$T" ping -c 1 --no-lan --proxy http://203.0.114.3:3128 "$address" >"$WORK/a" 2>&1
    grep -q "user name and password" "$WORK/a" || { cat "$WORK/a"; fail "that the proxy wants a password is not said"; }
    squid_down
    lab_down
    SQUID=
    echo "ok: what a proxy wants is said"
fi

# A proxy that opens TLS, and lets WebSocket pass: a server with a certificate that it knows is reached.
if have squid && [ -x "$CERTGEN" ]; then
    make_cert server IP:203.0.114.1,DNS:203.0.114.1 # squid does not look at IP
    SERVE="--cert $WORK/server.pem --pkey $WORK/server.key"
    BEFORE=squid_up AFTER=squid_down
    inspector allow
    A="--proxy http://203.0.114.3:3128" meet proxied I/AP/keep relay "a proxy that opens TLS"
    A="--proxy http://203.0.114.3:3128" B=$A meet proxied proxied relay "a proxy that opens TLS, for both"
    WRONG_PIN="#aaaaaaaaaaaaaaaaaaaaaaaaaa" A="--proxy http://203.0.114.3:3128" meet proxied I/AP/keep relay "that, and another pin"
    grep -q '"event":"doubt".*opens TLS' "$WORK/a" || { cat "$WORK/a"; fail "that TLS is opened is not said"; }
    # And one that takes off what a WebSocket needs: by single requests, then.
    inspector deny
    A="--proxy http://203.0.114.3:3128" meet proxied I/AP/keep relay "a proxy that lets no WebSocket through"
    grep -q '"event":"doubt".*no WebSocket' "$WORK/a" || { cat "$WORK/a"; fail "that no WebSocket is let through is not said"; }
    SERVE='' SQUID='' SQUID_PORT=''
else
    echo "SKIP: a proxy that opens TLS: there is no squid with $CERTGEN"
fi

# A browser behind the proxy: the page that thalwegd serves opens the WebSocket, and relays by TURN over TLS at port 443.
if have squid && have chromium; then
    lab_up 10 proxied I/AP/keep
    squid_up
    ip netns exec a timeout 60 python3 "$HERE/browse.py" https://203.0.114.1/ "relay by" "$WORK/profile" \
        --proxy-server=http://203.0.114.3:3128 >"$WORK/page" 2>"$WORK/browse" || { cat "$WORK/page" "$WORK/browse"; fail "chromium"; }
    grep -q "WebSocket: works" "$WORK/page" && grep -q "relay by turns:203.0.114.1:443?transport=tcp: 203.0.114" "$WORK/page" ||
        { cat "$WORK/page"; fail "chromium's page"; }
    squid_down
    lab_down
    echo "ok: chromium through squid: $(tr '\n' ';' <"$WORK/page")"
fi

# A proxy that writes down all that passes, without TLS to the server: no key, no address that was not to be shown, no content. And one
# that changes bytes: what arrives is right, or nothing does.
tamper_up() {
    ip netns exec p python3 "$HERE/tamper.py" 203.0.114.3 3128 "$WORK/capture" "$EVERY" >"$WORK/tamper" 2>&1 9>&- &
    TAMPER=$!
    wait_for 5 grep -q ready "$WORK/tamper" || { cat "$WORK/tamper"; fail "tamper.py"; }
    server=ws://203.0.114.1
}
tamper_down() {
    kill "$TAMPER"
    wait "$TAMPER" 2>/dev/null
}
for i in $(seq 4000); do echo "this line of the file is number $i"; done >"$WORK/file"
SERVE="--rendezvous-plain" BEFORE=tamper_up AFTER=tamper_down
EVERY=0 A="--proxy http://203.0.114.3:3128 --rungs relay,patched" meet proxied I/AP/keep relay "a proxy that writes it all down"
EVERY=0 A="--proxy http://203.0.114.3:3128" meet proxied - 'http|https' "the same, direct"
python3 - "$WORK/capture" "$key_a" "${address%%@*}" <<'END' || fail "the proxy has seen something"
import base64, sys
seen = open(sys.argv[1], "rb").read()
assert len(seen) > 300000, len(seen)
for text in sys.argv[2:]:
    raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))[1:33]
    for form in (text.encode(), raw, raw.hex().encode(), base64.b64encode(raw)[:40]):
        assert form not in seen, "a key"
for word in (b"this line of the file", b"192.168.1.5", b"192.168.2.5", bytes([192, 168, 1, 5]), b"thalweg offer"):
    assert word not in seen, word
END
echo "ok: what passes such a proxy shows no key, no address of the machines, and no content"
# A changed head of a frame ends the link; where that happens with the last bytes, there is no way in the end, and need be none.
EVERY=30000 A="--proxy http://203.0.114.3:3128" meet proxied I/AP/keep 'relay|patched|none' "a proxy that changes a byte in 30,000"
[ "$(cat "$WORK/capture.changed")" -gt 3 ] || fail "the proxy has changed too little"
SERVE='' BEFORE='' AFTER=''
head -c $SIZE /dev/urandom >"$WORK/file"

# A proxy that knows CONNECT and nothing else.
if have tinyproxy; then
    tinyproxy_up() {
        printf 'Port 3128\nListen 203.0.114.3\nConnectPort 443\nMaxClients 20\nTimeout 600\nAllow 0.0.0.0/0\n' >"$WORK/tinyproxy.conf"
        ip netns exec p tinyproxy -d -c "$WORK/tinyproxy.conf" >"$WORK/tinyproxy" 2>&1 9>&- &
        TINYPROXY=$!
        wait_for 5 in_ns p bash -c "exec 3<>/dev/tcp/203.0.114.3/3128" 2>/dev/null || { cat "$WORK/tinyproxy"; fail "tinyproxy"; }
    }
    tinyproxy_down() {
        kill "$TINYPROXY"
        wait "$TINYPROXY" 2>/dev/null
    }
    BEFORE=tinyproxy_up AFTER=tinyproxy_down
    A="--proxy http://203.0.114.3:3128" meet proxied - https "tinyproxy"
    A="--proxy http://203.0.114.3:3128" meet proxied I/AP/keep relay "tinyproxy"
fi

# Behind SOCKS5: ssh's, with a password none.
if have sshd; then
    socks_up() {
        ssh-keygen -q -t ed25519 -N "" -f "$WORK/host_key" 2>/dev/null
        ssh-keygen -q -t ed25519 -N "" -f "$WORK/user_key" 2>/dev/null
        cp "$WORK/user_key.pub" "$WORK/authorized"
        mkdir -p /run/sshd 2>/dev/null
        ip netns exec p "$(command -v sshd || echo /usr/sbin/sshd)" -D -e -p 2222 -h "$WORK/host_key" -o ListenAddress=127.0.0.1 -o StrictModes=no \
            -o UsePAM=no -o PidFile=none -o AuthorizedKeysFile="$WORK/authorized" -o PermitRootLogin=yes >"$WORK/sshd" 2>&1 9>&- &
        SSHD=$!
        wait_for 5 in_ns p bash -c "exec 3<>/dev/tcp/127.0.0.1/2222" 2>/dev/null
        ip netns exec p ssh -p 2222 -i "$WORK/user_key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -N \
            -D 203.0.114.3:1080 "$(id -un)@127.0.0.1" >"$WORK/ssh" 2>&1 9>&- &
        SSH=$!
        wait_for 8 in_ns p bash -c "exec 3<>/dev/tcp/203.0.114.3/1080" 2>/dev/null || { cat "$WORK/ssh" "$WORK/sshd"; fail "ssh -D"; }
    }
    socks_down() {
        kill "$SSH" "$SSHD"
        wait "$SSH" "$SSHD" 2>/dev/null
        rm -f "$WORK"/host_key* "$WORK"/user_key*
    }
    BEFORE=socks_up AFTER=socks_down
    A="--proxy socks5://203.0.114.3:1080" meet proxied I/AP/keep relay "SOCKS5 of ssh -D"
fi
BEFORE='' AFTER=''

# A web server that owns port 443, and passes on what is ours; and a balancer that passes TLS on.
front() { # NAME: who is seen is who has come, and not the proxy
    as a timeout 20 "$T" check --json --no-port-mapping -s "$server" >"$WORK/check" 2>/dev/null
    grep -q '"event":"rendezvous".*"works":true.*"seen":"198.51.101.1' "$WORK/check" || { cat "$WORK/check"; fail "$1: who comes is not seen"; }
}
make_cert server IP:203.0.114.1,DNS:203.0.114.1
SERVE="--rendezvous-plain --rendezvous-plain-port 8080 --rendezvous-port 8443 --trusted-proxy 127.0.0.1 -L 127.0.0.1 --cert $WORK/server.pem --pkey $WORK/server.key"
behind() { # NAME
    RENDEZVOUS=203.0.114.1
    server=203.0.114.1
    ${1}_up
}
for name in nginx haproxy; do
    have $name || continue
    behind_it() { behind "$name"; }
    seen() { front "$name"; }
    BEFORE=behind_it AFTER=front_down THEN=seen
    meet web I/AP/keep relay "behind $name"
    meet tls tls relay "behind $name"
    [ $name = haproxy ] && PROXY_V2=1 meet tls I/AP/keep relay "behind haproxy, PROXY protocol 2"
done
SERVE='' BEFORE='' AFTER='' THEN=''
