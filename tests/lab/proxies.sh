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
    wait_for 10 in_ns p bash -c "exec 3<>/dev/tcp/127.0.0.1/3128" 2>/dev/null || { cat "$WORK/squid/out" "$WORK/squid/log"; fail "squid"; }
}
squid_down() {
    kill "$SQUID_PID"
    wait "$SQUID_PID" 2>/dev/null
}
