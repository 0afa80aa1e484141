# Proxies in namespace p of the lab, at 203.0.114.3. Sourced.
have() { # PROGRAM: or says why what needs it is skipped
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] && return
    echo "SKIP: there is no $1 here"
    return 1
}

# squid_up: CONNECT to port 443 only. $SQUID: more of its configuration, first.
squid_up() {
    mkdir -p "$WORK/squid"
    chmod 777 "$WORK" "$WORK/squid"
    cat >"$WORK/squid.conf" <<END
${SQUID:-}
http_port ${SQUID_PORT:-3128}
acl tls port 443
acl CONNECT method CONNECT
http_access deny CONNECT !tls
http_access allow all
cache deny all
access_log stdio:$WORK/squid/access
cache_log $WORK/squid/log
pid_filename none
coredump_dir $WORK/squid
shutdown_lifetime 0 seconds
pinger_enable off
END
    ip netns exec p squid -N -f "$WORK/squid.conf" >"$WORK/squid/out" 2>&1 9>&- &
    SQUID_PID=$!
    wait_for 10 in_ns p bash -c "exec 3<>/dev/tcp/203.0.114.3/3128" 2>/dev/null || { cat "$WORK/squid/out" "$WORK/squid/log"; fail "squid"; }
}
squid_down() {
    kill -9 "$SQUID_PID" # it has nothing to lose, and takes its time otherwise
    wait "$SQUID_PID" 2>/dev/null
}

# make_cert NAME SUBJECT-ALTERNATIVE-NAME: $WORK/NAME.pem and .key, signed by $WORK/NAME-ca.pem.
make_cert() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1 CA" -keyout "$WORK/$1-ca.key" \
        -out "$WORK/$1-ca.pem" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$WORK/$1.key" -out "$WORK/$1.csr" 2>/dev/null
    printf 'subjectAltName=%s\n' "$2" >"$WORK/$1.ext"
    openssl x509 -req -in "$WORK/$1.csr" -CA "$WORK/$1-ca.pem" -CAkey "$WORK/$1-ca.key" -CAcreateserial -days 2 -extfile "$WORK/$1.ext" \
        -out "$WORK/$1.pem" 2>/dev/null
}

# For squid_up: it opens TLS with certificates of its own, and looks into it, for who comes to port $2 (3128). $1: upgrades to WebSocket
# pass, "allow" or "deny".
inspector() {
    [ -f "$WORK/inspector-ca.pem" ] || make_cert inspector DNS:nobody
    cat "$WORK/inspector-ca.key" "$WORK/inspector-ca.pem" >"$WORK/inspector-both.pem"
    chmod 644 "$WORK"/inspector-* "$WORK"/server-ca.pem
    rm -rf "$WORK/ssl_db"
    "$CERTGEN" -c -s "$WORK/ssl_db" -M 4MB >/dev/null
    chmod -R 777 "$WORK/ssl_db"
    bump="203.0.114.3:${2:-3128} ssl-bump tls-cert=$WORK/inspector-both.pem generate-host-certificates=on dynamic_cert_mem_cache_size=4MB"
    SQUID='' SQUID_PORT=$bump
    [ "${2:-3128}" = 3128 ] || SQUID="http_port $bump" SQUID_PORT=
    SQUID="$SQUID
sslcrtd_program $CERTGEN -s $WORK/ssl_db -M 4MB
sslcrtd_children 2 startup=1
acl first at_step SslBump1
ssl_bump peek first
ssl_bump bump all
tls_outgoing_options cafile=$WORK/server-ca.pem
http_upgrade_request_protocols websocket $1 all"
}
CERTGEN=/usr/lib/squid/security_file_certgen

# nginx and haproxy in front of a thalwegd that has no port of the web itself; all in namespace s.
nginx_up() {
    mkdir -p "$WORK/nginx"
    cat >"$WORK/nginx.conf" <<END
daemon off;
user root;
pid $WORK/nginx/pid;
error_log $WORK/nginx/error;
events { }
http {
    access_log $WORK/nginx/access;
    client_body_temp_path $WORK/nginx;
    proxy_temp_path $WORK/nginx;
    fastcgi_temp_path $WORK/nginx;
    uwsgi_temp_path $WORK/nginx;
    scgi_temp_path $WORK/nginx;
    server {
        listen 203.0.114.1:443 ssl;
        ssl_certificate $WORK/server.pem;
        ssl_certificate_key $WORK/server.key;
        location / { return 200 "somebody's pages\n"; }
        location /thalweg {
            proxy_pass http://127.0.0.1:8080;
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host \$host;
            proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
            proxy_read_timeout 1h;
            proxy_buffering off;
        }
    }
}
END
    ip netns exec s nginx -c "$WORK/nginx.conf" >"$WORK/nginx/out" 2>&1 9>&- &
    FRONT=$!
    wait_for 5 in_ns s bash -c "exec 3<>/dev/tcp/203.0.114.1/443" 2>/dev/null || { cat "$WORK/nginx/out" "$WORK/nginx/error"; fail "nginx"; }
}
# TLS goes through as it is, the PROXY protocol says for whom.
haproxy_up() {
    cat >"$WORK/haproxy.cfg" <<END
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen tls
    bind 203.0.114.1:443
    server thalwegd 127.0.0.1:8443 send-proxy${PROXY_V2:+-v2}
END
    ip netns exec s haproxy -db -f "$WORK/haproxy.cfg" >"$WORK/haproxy" 2>&1 9>&- &
    FRONT=$!
    wait_for 5 in_ns s bash -c "exec 3<>/dev/tcp/203.0.114.1/443" 2>/dev/null || { cat "$WORK/haproxy"; fail "haproxy"; }
}
front_down() {
    kill "$FRONT"
    wait "$FRONT" 2>/dev/null
}
